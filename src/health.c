/*
 * health: speaks for all programs, by asking each through nginx's private socket.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/jsonr.h"
#include "lib/jsonw.h"
#include "lib/problem.h"
#include "lib/programs.h"
#include "lib/serve.h"
#include "lib/upstream.h"

#define HEALTH_MAX (1024 * 1024) /* a thousand upstreams tell of themselves in 100 KiB */
#define DEADLINE_US CLOCK_SECOND_US
#define URL_PREFIX "http://localhost/healthz/"

static struct upstream_config configs[PROGRAM_COUNT];
static struct upstream *programs[PROGRAM_COUNT];
static char urls[PROGRAM_COUNT][sizeof(URL_PREFIX) + 32];

enum condition { WELL, DEGRADED, AWAY };

static const char *const condition_names[] = { "ok", "degraded", "unavailable" };

/* What one program says of itself: its "status", if it says anything well formed. */
static enum condition
judge(const struct upstream_call *call)
{
	enum condition condition = AWAY;
	const char *status;
	struct jsonr body;
	size_t n;

	if (call->outcome != UPSTREAM_ANSWERED || call->status != 200 ||
	    jsonr_parse(call->body, call->n, &body) != OK) {
		err_clear();
		return AWAY;
	}
	jsonr_string(&body, "status", 1, 32, &status, &n);
	if (err_pending() == OK)
		condition = strcmp(status, "ok") == 0 ? WELL : DEGRADED;
	err_clear();
	jsonr_close(&body);
	return condition;
}

static void
put_programs(struct jsonw *w, void *ctx)
{
	const enum condition *conditions = ctx;

	jsonw_array_begin(w, "programs");
	for (size_t i = 0; i < PROGRAM_COUNT; i++) {
		jsonw_object_begin(w, NULL);
		jsonw_string(w, "name", program_names[i]);
		jsonw_string(w, "status", condition_names[conditions[i]]);
		jsonw_object_end(w);
	}
	jsonw_array_end(w);
}

static enum err
put_status(struct response *res, enum condition condition, enum condition *conditions)
{
	struct jsonw w;

	response_begin(res, 200, "application/json");
	jsonw_open(&w, response_write, res);
	jsonw_object_begin(&w, NULL);
	jsonw_string(&w, "status", condition_names[condition]);
	if (conditions != NULL)
		put_programs(&w, conditions);
	jsonw_object_end(&w);
	return jsonw_close(&w);
}

static enum err
health_all(struct request *req, struct response *res)
{
	struct upstream_call calls[PROGRAM_COUNT] = { 0 };
	enum condition conditions[PROGRAM_COUNT], worst = WELL;
	char traceparent[REQUEST_TRACEPARENT_SIZE];
	enum err err;

	for (size_t i = 0; i < PROGRAM_COUNT; i++)
		calls[i].upstream = programs[i];
	request_traceparent(req, traceparent);
	err = upstream_ask(calls, PROGRAM_COUNT, "", traceparent, req->start_us + DEADLINE_US);
	if (err != OK)
		return err;
	for (size_t i = 0; i < PROGRAM_COUNT; i++) {
		conditions[i] = judge(&calls[i]);
		upstream_settle(&calls[i], calls[i].outcome);
		worst = conditions[i] > worst ? conditions[i] : worst;
	}
	if (worst == AWAY)
		return problem_send(req, res, fail(ERR_BUSY, "not every program is well"),
		    put_programs, conditions);
	return put_status(res, worst, conditions);
}

static enum err
health_own(struct request *req, struct response *res)
{
	(void)req;
	return put_status(res, WELL, NULL);
}

static enum err
health_open(const struct conf *conf)
{
	enum err err = OK;

	(void)conf;
	for (size_t i = 0; i < PROGRAM_COUNT && err == OK; i++) {
		(void)snprintf(urls[i], sizeof(urls[i]), URL_PREFIX "%s", program_names[i]);
		configs[i] = (struct upstream_config){
			.name = program_names[i],
			.url = urls[i],
			.socket = HTTP_SOCKET,
			.max_in_flight = UINT32_MAX,
			.body_max = HEALTH_MAX,
			.circuit_failures = UINT32_MAX, /* always asked anew */
			.circuit_pause_us = CLOCK_SECOND_US,
		};
		err = upstream_open(&configs[i], &programs[i]);
	}
	return err;
}

static void
health_close(void)
{
	for (size_t i = 0; i < PROGRAM_COUNT; i++)
		upstream_close(programs[i]);
}

static const struct route routes[] = {
	{ METHOD_GET, "/healthz", ROLES_ANYONE, health_all, NULL },
	{ METHOD_GET, "/healthz/health", ROLES_ANYONE, health_own, NULL },
	{ 0 },
};

const struct program program = { "health", routes, health_open, health_close, NULL };
