/*
 * serve: a program's life, from FastCGI connections to the last answer.
 *
 * Descriptor 0 is the listening socket that spawn-fcgi made.  It, every kept-alive connection of
 * nginx and the signals wait in one epoll set; threads of the pool take what is ready, let libfcgi
 * decode it, run the request and put the connection back.  An idle connection costs no thread.
 * Peers must be this user or root, and slow ones are dropped.
 *
 * SIGTERM, SIGINT, SIGQUIT and SIGUSR1 stop gracefully: no new connections, each further answer
 * closes its connection, and when none is left, or nothing has come for SERVE_SILENCE_MS, serve()
 * returns.
 *
 * Where descriptor 0 is no such socket, one request is answered as plain CGI (RFC 3875) from the
 * environment, standard input and output.
 */
#ifndef CAREDESK_SERVE_H
#define CAREDESK_SERVE_H

#include "lib/conf.h"
#include "lib/confine.h"
#include "lib/err.h"
#include "lib/route.h"

#define SERVE_SOCKET_TIMEOUT_S 10 /* for one read or write of a peer that stalls */
#define SERVE_IDLE_S 60 /* after which a thread that nobody needs ends, with its connections */
#define SERVE_SILENCE_MS 300

/* What a program's file gives to main. */
struct program {
	const char *name;
	const struct route *routes;
	enum err (*open)(const struct conf *conf); /* once, before threads; may be NULL */
	void (*close)(void); /* once, after them, also if open failed; may be NULL */
	/* When serve() is told to stop, for those who wait for long; in any thread; may be NULL. */
	void (*stop)(void);
	/* What has processes of its own, which can only be made before open; may be NULL. */
	enum err (*prepare)(void);
	struct confine_needs needs; /* what it may from then on */
};

extern const struct program program;

/* Keeps the signals that stop us for serve(): before any thread starts, or one of them may take a
 * signal and lose it. */
void serve_hold_signals(void);

/* Serves until told to stop.  ERR_INTERNAL if it cannot even begin. */
enum err serve(const struct program *served) MUST_CHECK;

/* The parts of serve() for its tests: one connected peer on FD, until it closes or stops making
 * sense.  Closes FD. */
void serve_connection(const struct program *served, int fd);

#endif
