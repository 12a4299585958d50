#include "test.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "lib/pool.h"

#define WAITERS 100

/* What a step does with one thing from the queue. */
typedef void (*job)(void);

/* Work for the pool, and what is seen of its threads; all under the lock. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	job job;
	unsigned pending, done, arrived;
	unsigned idle, most_idle; /* threads in step() for want of work */
	unsigned opened, closed, foreign;
	unsigned openings_left; /* so many threads may open */
	bool stopping, gate_open;
} queue;

static pthread_barrier_t meeting;

static void *
seat_open(void *ctx)
{
	bool opens;

	(void)pthread_mutex_lock(&queue.lock);
	opens = queue.openings_left > 0;
	queue.openings_left -= opens;
	queue.opened += opens;
	(void)pthread_mutex_unlock(&queue.lock);
	return opens ? ctx : NULL;
}

static void
seat_close(void *ctx, void *own)
{
	(void)pthread_mutex_lock(&queue.lock);
	queue.closed++;
	queue.foreign += own != ctx;
	(void)pthread_mutex_unlock(&queue.lock);
}

static bool
step(void *ctx, void *own)
{
	bool any;

	(void)pthread_mutex_lock(&queue.lock);
	queue.foreign += own != ctx;
	queue.idle++;
	queue.most_idle = queue.idle > queue.most_idle ? queue.idle : queue.most_idle;
	(void)pthread_cond_broadcast(&queue.changed);
	while (queue.pending == 0 && !queue.stopping)
		(void)pthread_cond_wait(&queue.changed, &queue.lock);
	queue.idle--;
	any = queue.pending > 0;
	queue.pending -= any;
	(void)pthread_mutex_unlock(&queue.lock);
	if (!any)
		return false;
	queue.job();
	(void)pthread_mutex_lock(&queue.lock);
	queue.done++;
	(void)pthread_cond_broadcast(&queue.changed);
	(void)pthread_mutex_unlock(&queue.lock);
	return true;
}

static const struct pool_work work = { seat_open, seat_close, step, &queue, 60 * 1000000 };

static void
begin(unsigned openings)
{
	memset(&queue, 0, sizeof(queue));
	ck_assert_int_eq(pthread_mutex_init(&queue.lock, NULL), 0);
	ck_assert_int_eq(pthread_cond_init(&queue.changed, NULL), 0);
	queue.openings_left = openings;
	ck_assert_int_eq(pool_open(&work), OK);
}

static void
put(job what, unsigned count)
{
	(void)pthread_mutex_lock(&queue.lock);
	queue.job = what;
	queue.pending += count;
	queue.done = 0;
	(void)pthread_cond_broadcast(&queue.changed);
	(void)pthread_mutex_unlock(&queue.lock);
}

/* Until COUNTER, one of the queue's own, is COUNT. */
static void
await(const unsigned *counter, unsigned count)
{
	(void)pthread_mutex_lock(&queue.lock);
	while (*counter != count)
		(void)pthread_cond_wait(&queue.changed, &queue.lock);
	(void)pthread_mutex_unlock(&queue.lock);
}

/* The queue says that nothing more comes; then nobody is left. */
static void
end(void)
{
	(void)pthread_mutex_lock(&queue.lock);
	queue.stopping = true;
	(void)pthread_cond_broadcast(&queue.changed);
	(void)pthread_mutex_unlock(&queue.lock);
	pool_stop();
	pool_join();
	ck_assert_uint_eq(pool_threads(), 0);
	ck_assert_uint_eq(queue.closed, queue.opened);
	ck_assert_uint_eq(queue.foreign, 0);
}

static void
quick(void)
{
}

/* Ends only once all the others, and the test, are here, too. */
static void
meet(void)
{
	pool_wait_begin();
	(void)pthread_barrier_wait(&meeting);
	pool_wait_end();
}

static void
stand_at_the_gate(void)
{
	pool_wait_begin();
	(void)pthread_mutex_lock(&queue.lock);
	queue.arrived++;
	(void)pthread_cond_broadcast(&queue.changed);
	while (!queue.gate_open)
		(void)pthread_cond_wait(&queue.changed, &queue.lock);
	(void)pthread_mutex_unlock(&queue.lock);
	pool_wait_end();
}

static void
wait_a_little(void)
{
	pool_wait_begin();
	(void)sched_yield();
	pool_wait_end();
}

static void
open_the_gate(void)
{
	(void)pthread_mutex_lock(&queue.lock);
	queue.gate_open = true;
	(void)pthread_cond_broadcast(&queue.changed);
	(void)pthread_mutex_unlock(&queue.lock);
}

/* One round of WAITERS jobs that end only together. */
static void
meet_once(void)
{
	ck_assert_int_eq(pthread_barrier_init(&meeting, NULL, WAITERS + 1), 0);
	put(meet, WAITERS);
	(void)pthread_barrier_wait(&meeting);
	await(&queue.done, WAITERS);
	ck_assert_int_eq(pthread_barrier_destroy(&meeting), 0);
}

START_TEST(quick_work_starts_no_further_thread)
{
	size_t threads;

	begin(POOL_THREADS_MAX);
	threads = pool_threads();
	ck_assert_uint_ge(threads, 2);
	ck_assert_uint_le(threads, 4 * (size_t)sysconf(_SC_NPROCESSORS_ONLN));
	put(quick, 10000);
	await(&queue.done, 10000);
	ck_assert_uint_eq(pool_threads(), threads);
	end();
}
END_TEST

START_TEST(a_hundred_jobs_that_wait_for_each_other_all_run_at_once)
{
	begin(POOL_THREADS_MAX);
	meet_once();
	ck_assert_uint_gt(pool_threads(), WAITERS);
	end();
}
END_TEST

START_TEST(a_second_hundred_needs_no_more_threads_than_the_first)
{
	size_t threads;

	begin(POOL_THREADS_MAX);
	meet_once();
	threads = pool_threads();
	for (int i = 0; i < 20; i++) {
		meet_once();
		ck_assert_uint_eq(pool_threads(), threads);
	}
	end();
}
END_TEST

START_TEST(who_comes_back_from_waiting_parks_where_enough_are_active)
{
	begin(POOL_THREADS_MAX);
	meet_once();
	put(quick, 10000);
	await(&queue.done, 10000);
	(void)pthread_mutex_lock(&queue.lock);
	ck_assert_uint_lt(queue.most_idle, WAITERS);
	(void)pthread_mutex_unlock(&queue.lock);
	end();
}
END_TEST

START_TEST(waits_that_are_short_lose_no_job)
{
	begin(POOL_THREADS_MAX);
	put(wait_a_little, 5000);
	await(&queue.done, 5000);
	end();
}
END_TEST

START_TEST(threads_never_exceed_their_limit)
{
	const unsigned jobs = POOL_THREADS_MAX + 50;

	begin(POOL_THREADS_MAX);
	put(stand_at_the_gate, jobs);
	await(&queue.arrived, POOL_THREADS_MAX);
	ck_assert_uint_eq(pool_threads(), POOL_THREADS_MAX);
	open_the_gate();
	await(&queue.done, jobs);
	ck_assert_uint_eq(pool_threads(), POOL_THREADS_MAX);
	end();
	ck_assert_uint_eq(queue.opened, POOL_THREADS_MAX);
}
END_TEST

START_TEST(stop_brings_parked_threads_back_to_their_step)
{
	begin(POOL_THREADS_MAX);
	meet_once();
	pool_stop();
	await(&queue.idle, (unsigned)pool_threads());
	end();
}
END_TEST

START_TEST(stop_ends_all_whatever_they_are_doing)
{
	for (int i = 0; i < 20; i++) {
		begin(POOL_THREADS_MAX);
		if (i % 2 == 0)
			meet_once();
		put(wait_a_little, 10 * (unsigned)i);
		end();
	}
}
END_TEST

START_TEST(waiting_outside_the_pool_does_nothing)
{
	size_t threads;

	pool_wait_begin();
	pool_wait_end();
	ck_assert_uint_eq(pool_threads(), 0);
	begin(POOL_THREADS_MAX);
	threads = pool_threads();
	for (int i = 0; i < 1000; i++)
		pool_wait_begin();
	ck_assert_uint_eq(pool_threads(), threads);
	for (int i = 0; i < 3000; i++)
		pool_wait_end();
	meet_once();
	end();
}
END_TEST

START_TEST(a_pool_whose_threads_cannot_open_ends)
{
	begin(0);
	pool_join();
	ck_assert_uint_eq(pool_threads(), 0);
	ck_assert_uint_eq(queue.closed, 0);
	end();
}
END_TEST

START_TEST(threads_that_open_do_the_work_of_those_that_do_not)
{
	begin(1);
	put(quick, 1000);
	await(&queue.done, 1000);
	put(wait_a_little, 1000);
	await(&queue.done, 1000);
	end();
	ck_assert_uint_eq(queue.opened, 1);
}
END_TEST

CHECK_MAIN(pool,
    { quick_work_starts_no_further_thread, a_hundred_jobs_that_wait_for_each_other_all_run_at_once,
	a_second_hundred_needs_no_more_threads_than_the_first,
	who_comes_back_from_waiting_parks_where_enough_are_active, waits_that_are_short_lose_no_job,
	threads_never_exceed_their_limit, stop_brings_parked_threads_back_to_their_step,
	stop_ends_all_whatever_they_are_doing, waiting_outside_the_pool_does_nothing,
	a_pool_whose_threads_cannot_open_ends, threads_that_open_do_the_work_of_those_that_do_not })
