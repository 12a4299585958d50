/*
 * upstream: HTTP GETs to several servers at once, under one deadline (libcurl).
 *
 * Each thread has its own handles and connections to every upstream, which are kept if they are of
 * TCP; what threads share of an upstream is its circuit.  A circuit counts failures in a row: at a
 * limit it opens and calls fail at once, without a packet; after a pause one call is let through,
 * whose success closes the circuit and whose failure doubles the pause.  Calls in flight are
 * bounded too, so that one upstream that hangs cannot take every thread.
 *
 * The caller judges an answer: upstream_ask() reports what HTTP can know, upstream_settle() takes
 * the final verdict, after which circuit and metrics have heard of it.  Every call must be settled.
 *
 * upstream_open() once, before threads; calls from any thread; the body of a call is lent until the
 * same thread asks again.  A response has at most 64 KiB; redirects are not followed; the only
 * protocols are http and https, verified.
 */
#ifndef CAREDESK_UPSTREAM_H
#define CAREDESK_UPSTREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

#define UPSTREAM_BODY_MAX (64 * 1024)
#define UPSTREAM_BACKOFF_MAX 30 /* the longest pause, in first pauses */

enum upstream_outcome {
	UPSTREAM_ANSWERED, /* a whole HTTP response of any status */
	UPSTREAM_UNKNOWN, /* set by the caller: it does not know the one asked about */
	UPSTREAM_UNREACHABLE, /* no connection: refused, no such name, TLS not verified */
	UPSTREAM_TIMEOUT,
	UPSTREAM_BROKEN, /* reset, cut short, or not HTTP */
	UPSTREAM_STATUS, /* set by the caller: a status that is no answer */
	UPSTREAM_MALFORMED, /* set by the caller: a body that is no answer */
	UPSTREAM_TOO_LARGE,
	UPSTREAM_OVERLOADED, /* not asked: too many calls in flight */
	UPSTREAM_CIRCUIT_OPEN, /* not asked: it failed too often */
	UPSTREAM_OUTCOMES
};

/* The word for it in answers and logs: "answered", "unknown_member", "timeout" and so on. */
const char *upstream_outcome_name(enum upstream_outcome outcome);

struct upstream_config {
	const char *name;
	const char *url; /* may have a query of its own */
	const char
	    *ca_file; /* of https: trust these authorities instead of the system's; or NULL */
	const char *socket; /* path of a Unix socket to reach it by; NULL for TCP */
	const char *accept; /* the type that is wanted; NULL is application/json */
	unsigned max_in_flight;
	size_t body_max; /* bytes of a response; 0 is UPSTREAM_BODY_MAX */
	bool private_network; /* a name may resolve to a private or loopback address */
	unsigned circuit_failures;
	int64_t circuit_pause_us;
	const atomic_bool *give_up; /* set by whoever cannot wait for its calls; or NULL */
};

struct upstream;

struct upstream_call {
	struct upstream *upstream;
	enum upstream_outcome outcome;
	enum upstream_outcome because; /* of CIRCUIT_OPEN: how it failed last; else OUTCOME */
	bool probe; /* the one call an open circuit let through */
	long status;
	const char *body;
	size_t n;
	int64_t us;
};

enum upstream_circuit {
	CIRCUIT_CLOSED,
	CIRCUIT_HALF_OPEN, /* the pause is over: the next call may try, or is trying */
	CIRCUIT_OPEN
};

/* "closed", "half_open", "open". */
const char *upstream_circuit_name(enum upstream_circuit circuit);

struct upstream_state {
	const char *name;
	enum upstream_circuit circuit;
	enum upstream_outcome last_failure; /* UPSTREAM_ANSWERED: none yet */
	unsigned in_flight;
	int64_t answers, failures;
};

/* Yours to close, after all threads that asked have ended.  CONFIG and its texts must stay.
 * ERR_INPUT if the URL is not usable. */
enum err upstream_open(const struct upstream_config *config, struct upstream **up) MUST_CHECK;
void upstream_close(struct upstream *up);

/* Asks all COUNT upstreams in parallel, each by its URL plus QUERY ("name=value", encoded already,
 * or
 * ""), and returns when all have an outcome, at DEADLINE_US (monotonic) at the latest.
 * TRACEPARENT goes with each.  Failures are outcomes; only our own want of memory is an error, and
 * then nothing was asked. */
enum err upstream_ask(struct upstream_call *calls, size_t count, const char *query,
    const char *traceparent, int64_t deadline_us) MUST_CHECK;

/* The verdict on one call, which becomes its outcome.  Of a call that was not asked it is ignored.
 */
void upstream_settle(struct upstream_call *call, enum upstream_outcome verdict);

struct upstream_state upstream_state(struct upstream *up);

#endif
