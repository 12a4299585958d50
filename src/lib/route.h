/*
 * route: a program's table of what it answers, and one request run to its end.
 *
 *	const struct route routes[] = {
 *		{ METHOD_GET, "/events/{id}", ROLES_ALL, event_get },
 *		{ 0 }
 *	};
 *
 * {name} stands for one whole segment, which the handler takes with request_capture(); a literal
 * segment wins over a captured one if it comes first in the table.  HEAD is answered wherever
 * there is GET, OPTIONS everywhere; a known path with another method is 405 with Allow.  A handler
 * either makes its answer and returns OK, or returns what went wrong and route makes the problem of
 * it; every request ends in one line of the log and counts in the metrics.
 *
 * The table must stay; any thread.
 */
#ifndef CAREDESK_ROUTE_H
#define CAREDESK_ROUTE_H

#include "lib/request.h"
#include "lib/response.h"

/* Who may: checked by auth, from the roles of the token. */
enum role {
	ROLE_CAREGIVER = 1 << 0,
	ROLE_MANAGER = 1 << 1,
	ROLE_ACCOUNTANT = 1 << 2,
	ROLE_ADMIN = 1 << 3,
	ROLE_NONE = 1 << 4 /* also without a token */
};

#define ROLES_ALL (ROLE_CAREGIVER | ROLE_MANAGER | ROLE_ACCOUNTANT | ROLE_ADMIN)
#define ROLES_ANYONE (ROLES_ALL | ROLE_NONE)

typedef enum err (*route_handler)(struct request *req, struct response *res);

struct route {
	enum method method;
	const char *path;
	unsigned roles;
	route_handler handler;
	const char *produces; /* types it can make, with commas; NULL is application/json */
};

/* Runs the request to its end: dispatch, handler, problem, log line.  False if the answer could
 * not be given whole, so that the connection must be cut. */
bool route_run(const struct route *routes, struct request *req, struct response *res,
    const struct request_source *source);

/* Paths that begin so are the operator's command's own: nginx has them on its private socket only,
 * and they are no part of the contract. */
#define ROUTE_PRIVATE "/private/"

/* One line a route on standard output: method, path, roles; without the private ones. */
void route_list(const struct route *routes);

#endif
