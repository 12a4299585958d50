/*
 * problem: errors as answers, application/problem+json (RFC 9457).
 *
 * One table says for each enum err its status, name, title and what a client can do; it makes the
 * bodies the programs send, those nginx sends for its own refusals, the pages under /problems/ and
 * docs/problems.md.
 *
 * Any thread.
 */
#ifndef CAREDESK_PROBLEM_H
#define CAREDESK_PROBLEM_H

#include <stdbool.h>

#include "lib/err.h"
#include "lib/jsonw.h"
#include "lib/request.h"
#include "lib/response.h"

#define PROBLEM_TYPE "application/problem+json"

struct problem {
	enum err code;
	int status;
	bool retry; /* Retry-After goes with it */
	const char *name; /* of the page: /problems/NAME */
	const char *title;
	const char *advice; /* what it means and what to do, for the page */
};

/* All of them, by rising status; *COUNT rows. */
const struct problem *problem_table(size_t *count);

const struct problem *problem_of(enum err code);

/* Members of a problem beyond those of the RFC, such as the outcome of each upstream. */
typedef void (*problem_members)(struct jsonw *w, void *ctx);

/* Makes the whole answer out of CODE and the thread's words and fields.  What RES holds already is
 * dropped; if some of it is on its way, nothing is sent and ERR_GONE says: cut the connection.
 * MORE may be NULL. */
enum err problem_send(const struct request *req, struct response *res, enum err code,
    problem_members more, void *ctx) MUST_CHECK;

#endif
