/*
 * coalesce: asks every insurer about a member, in parallel, and merges what they say.
 * The contract is docs/coalesce.md.
 */
#include <stdlib.h>
#include <string.h>

#include "coalesce.h"
#include "lib/clock.h"
#include "lib/jsonr.h"
#include "lib/jsonw.h"
#include "lib/problem.h"
#include "lib/scrape.h"
#include "lib/serve.h"
#include "lib/text.h"
#include "lib/upstream.h"

#define AMOUNT_MAX \
	INT64_C(100000000000) /* cents; the sum of a thousand of them is far from int64 */
#define MEMBER_ID_MAX 256 /* bytes, decoded */

static const struct conf *conf;
static struct upstream_config *configs;
static struct upstream **upstreams;
static size_t upstream_count;

/* One question put to all upstreams. */
struct round {
	const struct conf_method *method;
	size_t required;
	bool explain;
	struct upstream_call *calls; /* one for each upstream, in the configuration's order */
	struct coalesce_answer *answers; /* likewise; those of calls that were answered count */
	size_t answered, unknown;
	int64_t *columns[FIELD_MAX]; /* the values of each field, answered ones only */
};

static int
compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static int64_t
merge_max(int64_t *values, size_t n)
{
	int64_t max = values[0];

	for (size_t i = 1; i < n; i++)
		max = values[i] > max ? values[i] : max;
	return max;
}

static int64_t
merge_min(int64_t *values, size_t n)
{
	int64_t min = values[0];

	for (size_t i = 1; i < n; i++)
		min = values[i] < min ? values[i] : min;
	return min;
}

/* SUM / N, neither negative; an exact half goes to the even neighbour. */
static int64_t
divide_half_even(int64_t sum, int64_t n)
{
	int64_t quotient = sum / n, twice = 2 * (sum % n);

	return quotient + (twice > n || (twice == n && quotient % 2 != 0));
}

static int64_t
merge_avg(int64_t *values, size_t n)
{
	int64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += values[i];
	return divide_half_even(sum, (int64_t)n);
}

/* Sorts VALUES. */
static int64_t
merge_median(int64_t *values, size_t n)
{
	qsort(values, n, sizeof(values[0]), compare);
	if (n % 2 != 0)
		return values[n / 2];
	return divide_half_even(values[n / 2 - 1] + values[n / 2], 2);
}

static int64_t
merge_first(int64_t *values, size_t n)
{
	(void)n;
	return values[0];
}

/* The value most often given; of several, the one given first in the upstreams' order. */
static int64_t
merge_majority(int64_t *values, size_t n)
{
	size_t best = 0, best_count = 0;

	for (size_t i = 0; i < n; i++) {
		size_t count = 0;

		for (size_t j = i; j < n; j++)
			count += values[j] == values[i];
		if (count > best_count) {
			best = i;
			best_count = count;
		}
	}
	return values[best];
}

/* By enum conf_merge.  VALUES has at least one and may be put in another order. */
static int64_t (*const merges[])(int64_t *values, size_t n) = {
	[MERGE_MAX] = merge_max,
	[MERGE_MIN] = merge_min,
	[MERGE_AVG] = merge_avg,
	[MERGE_MEDIAN] = merge_median,
	[MERGE_FIRST] = merge_first,
	[MERGE_MAJORITY] = merge_majority,
};

void
coalesce_merge(const struct conf_method *method, int64_t *columns[FIELD_MAX], size_t n,
    struct coalesce_answer *merged)
{
	struct coalesce_answer free_values;

	for (int f = 0; f < FIELD_MAX; f++)
		free_values.values[f] = merges[method->merge[f]](columns[f], n);
	for (int f = 0; f < FIELD_MAX; f++) {
		/* conf has made sure that following at_most comes to an end. */
		merged->values[f] = free_values.values[f];
		for (int64_t bound = method->at_most[f]; bound >= 0; bound = method->at_most[bound])
			if (free_values.values[bound] < merged->values[f])
				merged->values[f] = free_values.values[bound];
	}
}

/* {}, [] or null, with any spaces. */
static bool
is_empty(const char *body, size_t n)
{
	char kept[4];
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		if (body[i] == ' ' || body[i] == '\t' || body[i] == '\n' || body[i] == '\r')
			continue;
		if (k == sizeof(kept))
			return false;
		kept[k++] = body[i];
	}
	if (k == 2)
		return memcmp(kept, "{}", 2) == 0 || memcmp(kept, "[]", 2) == 0;
	/* "nu ll" is no word of JSON, so null must stand in one piece. */
	return k == 4 && memmem(body, n, "null", 4) != NULL;
}

enum upstream_outcome
coalesce_judge(long status, const char *body, size_t n, struct coalesce_answer *answer)
{
	struct jsonr root;
	enum upstream_outcome outcome = UPSTREAM_MALFORMED;

	if (status == 404)
		return UPSTREAM_UNKNOWN;
	if (status != 200)
		return UPSTREAM_STATUS;
	if (is_empty(body, n))
		return UPSTREAM_UNKNOWN;
	if (jsonr_parse(body, n, &root) == OK) {
		for (int f = 0; f < FIELD_MAX; f++)
			jsonr_int(&root, conf_field_names[f], 0, AMOUNT_MAX, &answer->values[f]);
		if (err_pending() == OK)
			outcome = UPSTREAM_ANSWERED;
		jsonr_close(&root);
	}
	err_clear(); /* what is wrong with an upstream is no fault of the client's request */
	return outcome;
}

static const struct conf_method *
find_method(struct request_text name)
{
	for (size_t i = 0; i < conf->coalesce.methods.count; i++)
		if (strcmp(conf->coalesce.methods.items[i].name, name.s) == 0)
			return &conf->coalesce.methods.items[i];
	return NULL;
}

/* any, all, or how many. */
static size_t
read_required(const struct request *req)
{
	bool found;
	struct request_text text = request_param(req, "require", &found);
	int64_t number;

	if (!found || strcmp(text.s, "any") == 0)
		return 1;
	if (strcmp(text.s, "all") == 0)
		return upstream_count;
	if (text_uint(text.s, text.n, &number) && number >= 1 && number <= (int64_t)upstream_count)
		return (size_t)number;
	(void)fail_field("require", "must be any, all or a number of 1..%zu", upstream_count);
	return 1;
}

/* What is asked; QUERY gets the encoded member_id=ID. */
static enum err
read_question(const struct request *req, struct round *round, char *query)
{
	struct request_text member_id;
	enum err err;
	bool found;

	round->method = find_method(request_capture(req, "method"));
	if (round->method == NULL) {
		(void)fail_field("method", "is not one of the methods configured");
		return err_pending();
	}
	member_id = request_param(req, "member_id", &found);
	if (err_pending() == OK && (!found || member_id.n == 0 || member_id.n > MEMBER_ID_MAX))
		(void)fail_field("member_id", "must be given, with 1..%d bytes", MEMBER_ID_MAX);
	round->required = read_required(req);
	round->explain = request_param_flag(req, "explain", false);
	if ((err = err_pending()) == OK)
		(void)text_percent_encode(member_id.s, member_id.n, stpcpy(query, "member_id="));
	return err;
}

static void
judge_all(struct round *round)
{
	for (size_t i = 0; i < upstream_count; i++) {
		struct upstream_call *call = &round->calls[i];
		enum upstream_outcome verdict = call->outcome;

		if (verdict == UPSTREAM_ANSWERED)
			verdict =
			    coalesce_judge(call->status, call->body, call->n, &round->answers[i]);
		upstream_settle(call, verdict);
		if (call->outcome == UPSTREAM_ANSWERED) {
			for (int f = 0; f < FIELD_MAX; f++)
				round->columns[f][round->answered] = round->answers[i].values[f];
			round->answered++;
		}
		round->unknown += call->outcome == UPSTREAM_UNKNOWN;
	}
}

/* When the upstreams' time is over: before the caller's is, who may have waited for the cache. */
static int64_t
deadline_us(const struct request *req)
{
	int64_t all_us = conf->coalesce.deadline_ms * CLOCK_MS_US;

	return req->start_us + all_us - all_us / CONF_LOCK_SHARE;
}

/* What to answer if not 200. */
static enum err
shortage(const struct round *round)
{
	size_t failed = upstream_count - round->answered - round->unknown, late = 0;

	if (round->answered >= round->required)
		return OK;
	if (round->answered == 0 && failed == 0)
		return fail(ERR_NOT_FOUND, "no insurer knows this member");
	for (size_t i = 0; i < upstream_count; i++)
		late += round->calls[i].because == UPSTREAM_TIMEOUT;
	return fail(failed > 0 && late == failed ? ERR_UPSTREAM_TIMEOUT : ERR_UPSTREAM,
	    "%zu of %zu insurers answered, %zu required; %zu do not know the member, %zu failed",
	    round->answered, upstream_count, round->required, round->unknown, failed);
}

static void
put_values(struct jsonw *w, const struct coalesce_answer *answer)
{
	for (int f = 0; f < FIELD_MAX; f++)
		jsonw_int(w, conf_field_names[f], answer->values[f]);
}

static void
put_sources(struct jsonw *w, void *ctx)
{
	const struct round *round = ctx;

	jsonw_array_begin(w, "sources");
	for (size_t i = 0; i < upstream_count; i++) {
		const struct upstream_call *call = &round->calls[i];

		jsonw_object_begin(w, NULL);
		jsonw_string(w, "name", configs[i].name);
		jsonw_string(w, "outcome", upstream_outcome_name(call->outcome));
		jsonw_decimal(w, "milliseconds", call->us, 3);
		if (call->outcome == UPSTREAM_ANSWERED) {
			jsonw_object_begin(w, "values");
			put_values(w, &round->answers[i]);
			jsonw_object_end(w);
		}
		jsonw_object_end(w);
	}
	jsonw_array_end(w);
}

static void
put_spread(struct jsonw *w, const struct round *round)
{
	jsonw_object_begin(w, "spread");
	for (int f = 0; f < FIELD_MAX; f++)
		jsonw_int(w, conf_field_names[f],
		    merge_max(round->columns[f], round->answered) -
			merge_min(round->columns[f], round->answered));
	jsonw_object_end(w);
}

/* A whole answer may be kept, and for as long again while nginx fetches the next; one that lacks an
 * upstream may not. */
static enum err
allow_caching(const struct round *round, struct response *res)
{
	long long age = conf->coalesce.max_age_s;
	char value[80];

	if (age == 0 || round->answered + round->unknown < upstream_count)
		return OK; /* no-store, as every answer begins */
	(void)snprintf(value, sizeof(value), "max-age=%lld, stale-while-revalidate=%lld", age, age);
	return response_field(res, "Cache-Control", value);
}

static enum err
put_answer(const struct round *round, struct response *res)
{
	struct coalesce_answer merged;
	struct jsonw w;
	enum err err;

	coalesce_merge(
	    round->method, (int64_t **)(uintptr_t)round->columns, round->answered, &merged);
	response_begin(res, 200, "application/json");
	if ((err = allow_caching(round, res)) != OK)
		return err;
	jsonw_open(&w, response_write, res);
	jsonw_object_begin(&w, NULL);
	put_values(&w, &merged);
	if (round->explain) {
		put_sources(&w, (void *)(uintptr_t)round);
		put_spread(&w, round);
	}
	jsonw_object_end(&w);
	return jsonw_close(&w);
}

/* Calls, answers and columns in one piece, freed by its first. */
static enum err
round_open(struct round *round)
{
	size_t one = sizeof(*round->calls) + sizeof(*round->answers) + FIELD_MAX * sizeof(int64_t);

	round->calls = calloc(upstream_count, one);
	if (round->calls == NULL)
		return fail(ERR_BUSY, "no memory for the calls");
	round->answers = (struct coalesce_answer *)(void *)(round->calls + upstream_count);
	round->columns[0] = (int64_t *)(void *)(round->answers + upstream_count);
	for (int f = 1; f < FIELD_MAX; f++)
		round->columns[f] = round->columns[f - 1] + upstream_count;
	for (size_t i = 0; i < upstream_count; i++)
		round->calls[i].upstream = upstreams[i];
	return OK;
}

static enum err
coalesce_get(struct request *req, struct response *res)
{
	struct round round = { 0 };
	char query[sizeof("member_id=") + 3 * MEMBER_ID_MAX];
	char traceparent[REQUEST_TRACEPARENT_SIZE];
	enum err err;

	/* Whoever gets this far may have the answer, which nginx may have. */
	if (req->cached_at[0] != '\0') {
		response_hand_over(res, req->cached_at);
		return OK;
	}
	if ((err = read_question(req, &round, query)) != OK || (err = round_open(&round)) != OK)
		goto done;
	request_traceparent(req, traceparent);
	err = upstream_ask(round.calls, upstream_count, query, traceparent, deadline_us(req));
	if (err != OK)
		goto done;
	judge_all(&round);
	err = shortage(&round);
	if (err == ERR_UPSTREAM || err == ERR_UPSTREAM_TIMEOUT)
		err = problem_send(req, res, err, put_sources, &round);
	else if (err == OK)
		err = put_answer(&round, res);
done:
	free(round.calls);
	return err;
}

static void
put_upstreams(struct jsonw *w, void *ctx)
{
	(void)ctx;
	jsonw_array_begin(w, "upstreams");
	for (size_t i = 0; i < upstream_count; i++) {
		struct upstream_state state = upstream_state(upstreams[i]);

		jsonw_object_begin(w, NULL);
		jsonw_string(w, "name", state.name);
		jsonw_string(w, "circuit", upstream_circuit_name(state.circuit));
		jsonw_int(w, "in_flight", state.in_flight);
		jsonw_int(w, "answers", state.answers);
		jsonw_int(w, "failures", state.failures);
		if (state.last_failure != UPSTREAM_ANSWERED)
			jsonw_string(w, "last_failure", upstream_outcome_name(state.last_failure));
		jsonw_object_end(w);
	}
	jsonw_array_end(w);
}

/* Well as long as one upstream can be asked; degraded while some cannot. */
static enum err
coalesce_health(struct request *req, struct response *res)
{
	struct jsonw w;
	size_t closed = 0, usable = 0;

	for (size_t i = 0; i < upstream_count; i++) {
		enum upstream_circuit circuit = upstream_state(upstreams[i]).circuit;

		closed += circuit == CIRCUIT_CLOSED;
		usable += circuit != CIRCUIT_OPEN;
	}
	if (usable == 0)
		return problem_send(
		    req, res, fail(ERR_BUSY, "no insurer can be asked"), put_upstreams, NULL);
	response_begin(res, 200, "application/json");
	jsonw_open(&w, response_write, res);
	jsonw_object_begin(&w, NULL);
	jsonw_string(&w, "status", closed == upstream_count ? "ok" : "degraded");
	put_upstreams(&w, NULL);
	jsonw_object_end(&w);
	return jsonw_close(&w);
}

static enum err
coalesce_open(const struct conf *configuration)
{
	const struct conf_upstream *items = configuration->coalesce.upstreams.items;
	enum err err = OK;

	conf = configuration;
	configs = calloc(conf->coalesce.upstreams.count, sizeof(*configs));
	upstreams = calloc(conf->coalesce.upstreams.count, sizeof(struct upstream *));
	if (configs == NULL || upstreams == NULL)
		return fail(ERR_BUSY, "no memory for the upstreams");
	for (size_t i = 0; i < conf->coalesce.upstreams.count && err == OK; i++) {
		configs[i] = (struct upstream_config){
			.name = items[i].name,
			.url = items[i].url,
			.ca_file = items[i].ca_file,
			.max_in_flight = (unsigned)items[i].max_in_flight,
			.private_network = items[i].private_network,
			.circuit_failures = (unsigned)conf->coalesce.circuit_failures,
			.circuit_pause_us = conf->coalesce.circuit_pause_ms * CLOCK_MS_US,
		};
		err = upstream_open(&configs[i], &upstreams[i]);
		upstream_count += err == OK;
	}
	return err;
}

static void
coalesce_close(void)
{
	while (upstream_count > 0)
		upstream_close(upstreams[--upstream_count]);
	free(upstreams);
	free(configs);
}

static const struct route routes[] = {
	{ METHOD_GET, "/api/coalescence/{method}", ROLES_ALL, coalesce_get, NULL },
	{ METHOD_GET, "/healthz/coalesce", ROLES_ANYONE, coalesce_health, NULL },
	{ METHOD_GET, "/metrics/coalesce", ROLE_ADMIN, scrape_answer, SCRAPE_PRODUCES },
	{ 0 },
};

/* Names and authorities are looked up as the machine is set up. */
const struct program program = { "coalesce", routes, coalesce_open, coalesce_close, NULL,
	.needs = { CONFINE_ALL_SOCKETS, false,
	    { { "/etc", CONFINE_READ }, { "/run/systemd/resolve", CONFINE_READ } } } };
