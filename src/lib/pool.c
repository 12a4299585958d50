#include "lib/pool.h"

#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

/* Below the low mark a thread that goes to wait is replaced; above the high mark one that has
 * finished parks.  The distance keeps threads from being swapped at every wait. */
#define HIGH_PER_LOW 4

struct parked {
	struct parked *next;
	pthread_cond_t wake;
	bool woken;
};

static struct {
	pthread_mutex_t lock;
	const struct pool_work *work;
	struct parked *parked; /* last in, first out */
	size_t active; /* running, or in step() for want of work */
	size_t threads; /* started so far; only pool_join() forgets them */
	size_t low;
	bool stopping;
	pthread_t ids[POOL_THREADS_MAX];
} pool = { .lock = PTHREAD_MUTEX_INITIALIZER };

static _Thread_local bool in_pool;

/* With the lock held.  The caller no longer counts as active when this returns, or does again. */
static void
park(void)
{
	struct parked me = { .next = pool.parked, .wake = PTHREAD_COND_INITIALIZER };

	pool.parked = &me;
	pool.active--;
	while (!me.woken)
		(void)pthread_cond_wait(&me.wake, &pool.lock);
	(void)pthread_cond_destroy(&me.wake);
}

/* With the lock held: the last one parked is active from now on. */
static void
unpark(void)
{
	struct parked *who = pool.parked;

	pool.parked = who->next;
	pool.active++;
	who->woken = true;
	(void)pthread_cond_signal(&who->wake);
}

static void
leave(void)
{
	(void)pthread_mutex_lock(&pool.lock);
	pool.active--;
	(void)pthread_mutex_unlock(&pool.lock);
}

static void *
thread_main(void *arg)
{
	const struct pool_work *work = arg;
	void *own = work->thread_open(work->ctx);

	in_pool = true;
	while (own != NULL && work->step(work->ctx, own)) {
		(void)pthread_mutex_lock(&pool.lock);
		if (pool.active > pool.low * HIGH_PER_LOW && !pool.stopping)
			park();
		(void)pthread_mutex_unlock(&pool.lock);
	}
	if (own != NULL)
		work->thread_close(work->ctx, own);
	leave();
	return NULL;
}

/* With the lock held; the new thread counts at once, so that nobody starts it twice. */
static bool
start_thread(void)
{
	pthread_attr_t attr;
	int failed;

	if (pool.threads >= POOL_THREADS_MAX)
		return false;
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, POOL_STACK_BYTES);
	failed = pthread_create(
	    &pool.ids[pool.threads], &attr, thread_main, (void *)(uintptr_t)pool.work);
	(void)pthread_attr_destroy(&attr);
	if (failed != 0)
		return false;
	pool.threads++;
	pool.active++;
	return true;
}

enum err
pool_open(const struct pool_work *work)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	size_t started;

	(void)pthread_mutex_lock(&pool.lock);
	pool.work = work;
	pool.stopping = false;
	pool.low = cores < 2 ? 2 : (size_t)cores;
	while (pool.active < 2 * pool.low && start_thread())
		;
	started = pool.threads;
	(void)pthread_mutex_unlock(&pool.lock);
	if (started == 0)
		return fail(ERR_INTERNAL, "no thread could be started");
	return OK;
}

void
pool_wait_begin(void)
{
	if (!in_pool)
		return;
	(void)pthread_mutex_lock(&pool.lock);
	pool.active--;
	if (pool.active < pool.low) {
		if (pool.parked != NULL)
			unpark();
		else
			(void)start_thread();
	}
	(void)pthread_mutex_unlock(&pool.lock);
}

void
pool_wait_end(void)
{
	if (!in_pool)
		return;
	(void)pthread_mutex_lock(&pool.lock);
	pool.active++;
	(void)pthread_mutex_unlock(&pool.lock);
}

void
pool_stop(void)
{
	(void)pthread_mutex_lock(&pool.lock);
	pool.stopping = true;
	while (pool.parked != NULL)
		unpark();
	(void)pthread_mutex_unlock(&pool.lock);
}

void
pool_join(void)
{
	pthread_t id;

	(void)pthread_mutex_lock(&pool.lock);
	for (size_t i = 0; i < pool.threads; i++) { /* may grow meanwhile, never after the last */
		id = pool.ids[i];
		(void)pthread_mutex_unlock(&pool.lock);
		(void)pthread_join(id, NULL);
		(void)pthread_mutex_lock(&pool.lock);
	}
	pool.threads = 0;
	(void)pthread_mutex_unlock(&pool.lock);
}

size_t
pool_threads(void)
{
	size_t n;

	(void)pthread_mutex_lock(&pool.lock);
	n = pool.threads;
	(void)pthread_mutex_unlock(&pool.lock);
	return n;
}
