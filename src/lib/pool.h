/*
 * pool: threads for requests, of which few run and many may wait.
 *
 * A quick answer is fastest on few threads; an answer that waits (for upstreams, for a commit)
 * needs a thread of its own meanwhile.  Both are had by counting only the threads that are active:
 * whoever is about to block says pool_wait_begin(), and if too few others remain active, another
 * thread takes its place: the one parked last, whose stack and handles are still in the
 * caches, or a new one up to a limit.  Who comes back finishes its request and then parks if
 * enough are active without it.
 *
 * One pool a process.  The step function and what it calls run in the pool's threads.
 */
#ifndef CAREDESK_POOL_H
#define CAREDESK_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

#define POOL_THREADS_MAX 512
#define POOL_STACK_BYTES (1024 * 1024) /* what is never touched takes no memory */

struct pool_work {
	/* A thread's own things; NULL is a failure, the thread then ends. */
	void *(*thread_open)(void *ctx);
	void (*thread_close)(void *ctx, void *own);
	/* Waits for one thing to do and does it; false ends the thread. */
	bool (*step)(void *ctx, void *own);
	void *ctx;
	/* A thread parked for so long ends, and all that it keeps open with it. */
	int64_t idle_us;
};

/* Starts as many threads as run at best on this machine.  WORK must stay.  ERR_INTERNAL if not
 * even one could be started. */
enum err pool_open(const struct pool_work *work) MUST_CHECK;

/* Round anything that blocks for more than a few milliseconds.  In a thread that is not the pool's,
 * they do nothing. */
void pool_wait_begin(void);
void pool_wait_end(void);

/* No more parking: parked threads come back to step(), which is expected to end them. */
void pool_stop(void);

/* Returns when every thread has ended. */
void pool_join(void);

/* Threads there are, in all states. */
size_t pool_threads(void);

#endif
