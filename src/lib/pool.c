#include "lib/pool.h"

#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

#include "lib/clock.h"

/* Below the low mark a thread that goes to wait is replaced; above the high mark one that has
 * finished parks.  The distance keeps threads from being swapped at every wait. */
#define HIGH_PER_LOW 4

struct parked {
	struct parked *next;
	pthread_cond_t wake;
	bool woken;
};

/* What has been started and must be joined. */
struct slot {
	pthread_t id;
	enum { FREE, RUNNING, ENDED } state;
};

static struct {
	pthread_mutex_t lock;
	const struct pool_work *work;
	struct parked *parked; /* last in, first out */
	size_t active; /* running, or in step() for want of work */
	size_t threads; /* in slots that are RUNNING */
	size_t low;
	bool stopping, joining;
	struct slot slots[POOL_THREADS_MAX];
} pool = { .lock = PTHREAD_MUTEX_INITIALIZER };

static _Thread_local bool in_pool;

static void
unlist(const struct parked *who)
{
	struct parked **at = &pool.parked;

	while (*at != who)
		at = &(*at)->next;
	*at = who->next;
}

/* With the lock held.  Whether the caller is to go on: else nobody has needed it for long. */
static bool
park(void)
{
	struct parked me = { .next = pool.parked, .wake = PTHREAD_COND_INITIALIZER };
	int64_t until_us = clock_monotonic_us() + pool.work->idle_us;
	const struct timespec until = {
		.tv_sec = until_us / CLOCK_SECOND_US,
		.tv_nsec = until_us % CLOCK_SECOND_US * 1000,
	};
	int failed = 0;

	pool.parked = &me;
	pool.active--;
	while (!me.woken && failed == 0)
		failed = pthread_cond_clockwait(&me.wake, &pool.lock, CLOCK_MONOTONIC, &until);
	if (!me.woken) {
		unlist(&me);
		pool.active++;
	}
	(void)pthread_cond_destroy(&me.wake);
	return me.woken;
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

/* Whether a thread that has done its step does another. */
static bool
stay(void)
{
	bool wanted = true;

	(void)pthread_mutex_lock(&pool.lock);
	if (pool.active > pool.low * HIGH_PER_LOW && !pool.stopping)
		wanted = park();
	(void)pthread_mutex_unlock(&pool.lock);
	return wanted;
}

static void *
thread_main(void *arg)
{
	struct slot *slot = arg;
	const struct pool_work *work = pool.work;
	void *own = work->thread_open(work->ctx);

	in_pool = true;
	while (own != NULL && work->step(work->ctx, own) && stay())
		;
	if (own != NULL)
		work->thread_close(work->ctx, own);
	(void)pthread_mutex_lock(&pool.lock);
	slot->state = ENDED;
	pool.threads--;
	pool.active--;
	(void)pthread_mutex_unlock(&pool.lock);
	return NULL;
}

/* With the lock held: a slot for one more thread, or NULL. */
static struct slot *
find_slot(void)
{
	for (size_t i = 0; i < POOL_THREADS_MAX; i++) {
		if (pool.slots[i].state == FREE)
			return &pool.slots[i];
		if (pool.slots[i].state == ENDED && !pool.joining) {
			(void)pthread_join(pool.slots[i].id, NULL); /* past its last lock */
			pool.slots[i].state = FREE;
			return &pool.slots[i];
		}
	}
	return NULL;
}

/* With the lock held; the new thread counts at once, so that nobody starts it twice. */
static bool
start_thread(void)
{
	struct slot *slot = find_slot();
	pthread_attr_t attr;
	int failed;

	if (slot == NULL)
		return false;
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, POOL_STACK_BYTES);
	failed = pthread_create(&slot->id, &attr, thread_main, slot);
	(void)pthread_attr_destroy(&attr);
	if (failed != 0)
		return false;
	slot->state = RUNNING;
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

/* With the lock held: one that is not joined yet, or NULL. */
static struct slot *
find_unjoined(void)
{
	for (size_t i = 0; i < POOL_THREADS_MAX; i++)
		if (pool.slots[i].state != FREE)
			return &pool.slots[i];
	return NULL;
}

void
pool_join(void)
{
	struct slot *slot;

	(void)pthread_mutex_lock(&pool.lock);
	pool.joining = true;
	/* Those that run may start others, until the last has ended. */
	while ((slot = find_unjoined()) != NULL) {
		pthread_t id = slot->id;

		(void)pthread_mutex_unlock(&pool.lock);
		(void)pthread_join(id, NULL);
		(void)pthread_mutex_lock(&pool.lock);
		slot->state = FREE;
	}
	pool.joining = false;
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
