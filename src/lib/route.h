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
 * there is GET, OPTIONS everywhere; a known path with another method is 405 with Allow.  A route
 *that is not for ROLES_ANYONE needs a good token (auth), else 401, with one of its roles, else 403.
 *A handler either makes its answer and returns OK, or returns what went wrong and route makes the
 *problem of it; every request ends in one line of the log and counts in the metrics.
 *
 * The table must stay; any thread.
 */
#ifndef CAREDESK_ROUTE_H
#define CAREDESK_ROUTE_H

#include "lib/request.h"
#include "lib/response.h"
#include "lib/who.h"

typedef enum err (*route_handler)(struct request *req, struct response *res);

struct route {
	enum method method;
	const char *path;
	unsigned roles; /* enum role of who.h: one of these is needed */
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
