/*
 * health: speaks for all programs, whether they are well and what they measure, by asking each
 * through nginx's private socket; and the one that fetches the keys of tokens, where they have a
 * URL.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/jsonr.h"
#include "lib/jsonw.h"
#include "lib/problem.h"
#include "lib/programs.h"
#include "lib/provider.h"
#include "lib/scrape.h"
#include "lib/serve.h"
#include "lib/upstream.h"

/* A thousand upstreams tell of themselves in 100 KiB, and of all that they did in 2 or 3 MiB. */
#define HEALTH_MAX (1024 * 1024)
#define METRICS_MAX (16 * 1024 * 1024)
#define DEADLINE_US CLOCK_SECOND_US

enum question { HEALTH, METRICS_TEXT, QUESTIONS };

static const struct {
	const char *name, *accept;
	size_t body_max;
} questions[QUESTIONS] = {
	[HEALTH] = { "healthz", "application/json", HEALTH_MAX },
	[METRICS_TEXT] = { "metrics", SCRAPE_PRODUCES, METRICS_MAX },
};

/* Each program, as it is asked each question. */
static struct {
	struct upstream_config config;
	struct upstream *upstream;
	char url[64];
} programs[QUESTIONS][PROGRAM_COUNT];

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
ask_all(enum question question, const struct request *req, struct upstream_call *calls)
{
	char traceparent[REQUEST_TRACEPARENT_SIZE];

	for (size_t i = 0; i < PROGRAM_COUNT; i++)
		calls[i].upstream = programs[question][i].upstream;
	request_traceparent(req, traceparent);
	return upstream_ask(calls, PROGRAM_COUNT, "", traceparent, req->start_us + DEADLINE_US);
}

static enum err
health_all(struct request *req, struct response *res)
{
	struct upstream_call calls[PROGRAM_COUNT] = { 0 };
	enum condition conditions[PROGRAM_COUNT], worst = WELL;
	enum err err = ask_all(HEALTH, req, calls);

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

/* --- Metrics. */

/* The text of one program, and the verdict on its call: empty if it has not given one. */
static struct scrape_text
take_text(struct upstream_call *call)
{
	struct scrape_text text = { call->body, call->n };
	enum upstream_outcome verdict = call->outcome;

	if (verdict == UPSTREAM_ANSWERED && call->status != 200)
		verdict = UPSTREAM_STATUS;
	else if (verdict == UPSTREAM_ANSWERED && !scrape_is_whole(&text))
		verdict = UPSTREAM_MALFORMED;
	upstream_settle(call, verdict);
	if (verdict != UPSTREAM_ANSWERED)
		text.n = 0;
	return text;
}

static enum err
put_up(struct response *res, const struct scrape_text *texts)
{
	static const char head[] = "# HELP caredesk_up Whether the program answers.\n"
				   "# TYPE caredesk_up gauge\n";
	char line[64];
	enum err err = response_write(res, head, strlen(head));
	int n;

	for (size_t i = 0; i < PROGRAM_COUNT && err == OK; i++) {
		n = snprintf(line, sizeof(line), "caredesk_up{program=\"%s\"} %d\n",
		    program_names[i], texts[i].n > 0);
		err = response_write(res, line, (size_t)n);
	}
	return err;
}

static enum err
metrics_all(struct request *req, struct response *res)
{
	struct upstream_call calls[PROGRAM_COUNT] = { 0 };
	struct scrape_text texts[PROGRAM_COUNT];
	enum err err = ask_all(METRICS_TEXT, req, calls);

	if (err != OK)
		return err;
	for (size_t i = 0; i < PROGRAM_COUNT; i++)
		texts[i] = take_text(&calls[i]);
	response_begin(res, 200, SCRAPE_TYPE);
	if ((err = put_up(res, texts)) != OK)
		return err;
	return scrape_merge(texts, PROGRAM_COUNT, response_write, res);
}

/* --- The program. */

static enum err
open_program(enum question question, size_t i)
{
	struct upstream_config *config = &programs[question][i].config;
	char *url = programs[question][i].url;

	(void)snprintf(url, sizeof(programs[question][i].url), "http://localhost/%s/%s",
	    questions[question].name, program_names[i]);
	*config = (struct upstream_config){
		.name = program_names[i],
		.url = url,
		.accept = questions[question].accept,
		.socket = HTTP_SOCKET,
		.max_in_flight = UINT32_MAX,
		.body_max = questions[question].body_max,
		.circuit_failures = UINT32_MAX, /* always asked anew */
		.circuit_pause_us = CLOCK_SECOND_US,
	};
	return upstream_open(config, &programs[question][i].upstream);
}

static enum err
health_open(const struct conf *conf)
{
	enum err err = OK;

	for (enum question question = 0; question < QUESTIONS; question++)
		for (size_t i = 0; i < PROGRAM_COUNT && err == OK; i++)
			err = open_program(question, i);
	return err == OK ? provider_open(conf) : err;
}

static void
health_close(void)
{
	provider_close();
	for (enum question question = 0; question < QUESTIONS; question++)
		for (size_t i = 0; i < PROGRAM_COUNT; i++)
			upstream_close(programs[question][i].upstream);
}

static const struct route routes[] = {
	{ METHOD_GET, "/healthz", ROLES_ANYONE, health_all, NULL },
	{ METHOD_GET, "/healthz/health", ROLES_ANYONE, health_own, NULL },
	{ METHOD_GET, "/metrics", ROLE_ADMIN, metrics_all, SCRAPE_PRODUCES },
	{ METHOD_GET, "/metrics/health", ROLE_ADMIN, scrape_answer, SCRAPE_PRODUCES },
	{ 0 },
};

/* OpenSSL has settings, whoever begins libcurl. */
const struct program program = { "health", routes, health_open, health_close, NULL,
	.needs = { CONFINE_UNIX_SOCKETS, true,
	    { { "/etc", CONFINE_READ }, { "/run/systemd/resolve", CONFINE_READ } } } };
