#include "lib/route.h"

#include <stdio.h>
#include <string.h>

#include "lib/auth.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "lib/problem.h"

static const struct {
	unsigned bit;
	const char *name;
} method_names[] = {
	{ METHOD_GET, "GET" },
	{ METHOD_HEAD, "HEAD" },
	{ METHOD_POST, "POST" },
	{ METHOD_PUT, "PUT" },
	{ METHOD_PATCH, "PATCH" },
	{ METHOD_DELETE, "DELETE" },
	{ METHOD_OPTIONS, "OPTIONS" },
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ALLOW_MAX 64 /* all the method names with their commas */

/* Whether the template fits the path; its captures are then in REQ. */
static bool
matches(struct request *req, const char *template)
{
	const char *at = template;
	size_t captured = 0, i = 0;

	for (; *at == '/'; i++) {
		size_t n = strcspn(++at, "/");
		const struct request_text *segment = &req->segments[i];

		if (i == req->segment_count)
			return false;
		if (at[0] == '{')
			req->captures[captured++] =
			    (struct request_param){ { at + 1, n - 2 }, *segment };
		else if (segment->n != n || memcmp(segment->s, at, n) != 0)
			return false;
		at += n;
	}
	if (i != req->segment_count)
		return false;
	req->capture_count = captured;
	return true;
}

/* The row for method and path.  The first template that fits is the resource, with all its rows;
 * where none of them has the method, NULL, and *ALLOWED has theirs. */
static const struct route *
find(const struct route *routes, struct request *req, unsigned *allowed)
{
	unsigned wanted = req->method == METHOD_HEAD ? METHOD_GET : req->method;

	*allowed = 0;
	for (const struct route *route = routes; route->path != NULL; route++) {
		if (*allowed != 0 ? strcmp(route->path, req->template) != 0
				  : !matches(req, route->path))
			continue;
		req->template = route->path;
		if (route->method == wanted)
			return route;
		*allowed |= route->method | METHOD_OPTIONS;
		if (route->method == METHOD_GET)
			*allowed |= METHOD_HEAD;
	}
	return NULL;
}

static void
allow_text(unsigned allowed, char out[ALLOW_MAX])
{
	size_t used = 0;

	out[0] = '\0';
	for (size_t i = 0; i < COUNT(method_names); i++)
		if ((allowed & method_names[i].bit) != 0)
			used += (size_t)snprintf(out + used, ALLOW_MAX - used, "%s%s",
			    used > 0 ? ", " : "", method_names[i].name);
}

/* The path exists but has no row for this method: OPTIONS, or 405. */
static enum err
answer_allowed(const struct request *req, struct response *res, unsigned allowed)
{
	char allow[ALLOW_MAX];
	enum err err;

	allow_text(allowed, allow);
	if (req->method == METHOD_OPTIONS) {
		response_begin(res, 204, NULL);
	} else {
		err = fail(ERR_METHOD, "this resource takes %s", allow);
		if ((err = problem_send(req, res, err, NULL, NULL)) != OK)
			return err;
	}
	return response_field(res, "Allow", allow);
}

static bool
acceptable(const struct request *req, const char *produces)
{
	char type[64];
	const char *at = produces != NULL ? produces : "application/json";
	size_t n;

	for (; *at != '\0'; at += n + (at[n] == ',')) {
		n = strcspn(at, ",");
		(void)snprintf(type, sizeof(type), "%.*s", (int)n, at);
		if (request_accepts(req, type))
			return true;
	}
	return false;
}

/* Whether who asks may have this; what is for anyone is not asked about. */
static enum err
authorize(const struct route *route, struct request *req)
{
	struct who *who = &req->who_bytes;
	enum err err = OK;

	if (req->by_operator)
		auth_grant(WHO_OPERATOR, ROLES_ALL | ROLE_OPERATOR, who);
	else if ((route->roles & ROLE_NONE) != 0)
		auth_grant(WHO_ANYONE, ROLE_NONE, who);
	else if ((err = auth_check(req->authorization, who)) != OK)
		return err;
	req->roles = who->roles;
	req->who = who->name;
	req->caregiver_id = who->caregiver_id;
	req->caregivers.ids = who->caregivers;
	req->caregivers.count = who->caregiver_count;
	if ((req->roles & route->roles) == 0)
		return fail(ERR_FORBIDDEN, "none of your roles may do this");
	return OK;
}

static enum err
dispatch(const struct route *routes, struct request *req, struct response *res)
{
	const struct route *route;
	unsigned allowed;
	enum err err;

	route = find(routes, req, &allowed);
	if (route == NULL && allowed != 0)
		return answer_allowed(req, res, allowed);
	if (route == NULL)
		return fail(ERR_NOT_FOUND, "there is nothing at this address");
	if ((err = authorize(route, req)) != OK)
		return err;
	if (req->asked_first) {
		response_begin(res, 204, NULL);
		return OK;
	}
	if (!acceptable(req, route->produces))
		return fail(ERR_NOT_ACCEPTABLE, "this resource is %s",
		    route->produces != NULL ? route->produces : "application/json");
	return route->handler(req, res);
}

/* The status of an answer that could not be given whole: 499, as nginx says when the client has
 * left, or 500 where it was our failure after the first bytes were gone. */
static int
cut_status(enum err cause)
{
	return cause == OK || cause == ERR_GONE ? 499 : 500;
}

/* In the metrics nothing is said in the client's own words. */
static void
count(const struct request *req, int status, int64_t us)
{
	struct metrics_labels labels = {
		.first = req->template[0] != '\0' ? req->template : "none",
		.second = "other",
		.number = status,
	};

	for (size_t i = 0; i < COUNT(method_names); i++)
		if (req->method == method_names[i].bit)
			labels.second = method_names[i].name;
	metrics_count(METRIC_REQUESTS, labels, 1);
	labels.number = 0;
	metrics_observe(METRIC_REQUEST_US, labels, us);
}

static void
write_log(const struct request *req, const struct response *res, int status, int64_t us)
{
	struct log_access line = {
		.trace_id = req->trace_id,
		.method = req->method_name,
		.route = req->template,
		.path = req->log_path,
		.status = status,
		.bytes = res->body_bytes,
		.us = us,
		.words = status >= 499 ? err_words() : NULL,
	};

	log_access(&line);
}

bool
route_run(const struct route *routes, struct request *req, struct response *res,
    const struct request_source *source)
{
	enum err cause, err;
	int64_t us;
	int status;
	bool whole;

	err_clear();
	cause = request_begin(req, source);
	res->no_body = req->method == METHOD_HEAD;
	log_trace(req->trace_id);
	if (cause == OK)
		cause = dispatch(routes, req, res);
	err = cause;
	if (err != OK && err != ERR_GONE)
		err = problem_send(req, res, cause, NULL, NULL);
	whole = err == OK && response_end(res);
	us = clock_monotonic_us() - req->start_us;
	status = whole ? res->status : cut_status(cause);
	write_log(req, res, status, us);
	count(req, status, us);
	log_trace(NULL);
	return whole;
}

void
route_list(const struct route *routes)
{
	for (; routes->path != NULL; routes++) {
		const char *comma = "";

		if (routes->roles == ROLE_OPERATOR)
			continue;
		for (size_t i = 0; i < COUNT(method_names); i++)
			if (routes->method == method_names[i].bit)
				(void)printf("%s %s ", method_names[i].name, routes->path);
		for (size_t i = 0; i < COUNT(role_names); i++)
			if ((routes->roles & 1U << i) != 0) {
				(void)printf("%s%s", comma, role_names[i]);
				comma = ",";
			}
		(void)printf("\n");
	}
}
