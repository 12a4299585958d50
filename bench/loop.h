/*
 * loop: the fastest shape of a libfcgi program that we know, and nothing beside it.
 *
 * One epoll set holds the listening socket (descriptor 0) and every kept connection of nginx, each
 * armed for one event; a thread takes what is ready, libfcgi decodes it, ANSWER writes to the
 * request's out, and the connection is armed again.  No time limits, no checks, no log, no orderly
 * end: what those cost is what the benchmarks want to know.
 */
#ifndef BENCH_LOOP_H
#define BENCH_LOOP_H

#include <fcgiapp.h>

struct loop {
	int threads;
	void *(*open)(void); /* a thread's own things; may be NULL */
	void (*answer)(FCGX_Request *fcgi, void *own);
};

/* Returns only if it cannot begin. */
int loop_run(const struct loop *loop);

#endif
