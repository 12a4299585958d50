#include "http_server.h"
#include "test.h"

#include <stdio.h>

#include "coalesce.h"
#include "lib/serve.h"

#define ANSWER(a, b, c) "{\"oop_max\":" a ",\"remaining_oop_max\":" b ",\"copay\":" c "}"

/* One insurer's answer. */

static const struct {
	long status;
	const char *body;
	enum upstream_outcome outcome;
	int64_t values[FIELD_MAX];
} bodies[] = {
	{ 200, ANSWER("10000", "8000", "1000"), UPSTREAM_ANSWERED, { 10000, 8000, 1000 } },
	{ 200, ANSWER("0", "0", "0"), UPSTREAM_ANSWERED, { 0, 0, 0 } },
	{ 200, ANSWER("-0", "0.0", "0e5"), UPSTREAM_ANSWERED, { 0, 0, 0 } },
	{ 200, ANSWER("5.0", "5.00", "50e-1"), UPSTREAM_ANSWERED, { 5, 5, 5 } },
	{ 200, ANSWER("1e2", "1.5E1", "0.5e+1"), UPSTREAM_ANSWERED, { 100, 15, 5 } },
	{ 200, ANSWER("100000000000", "1e11", "100000000000.0"), UPSTREAM_ANSWERED,
	    { INT64_C(100000000000), INT64_C(100000000000), INT64_C(100000000000) } },
	{ 200, " \t\r\n{ \"copay\" : 3 , \"oop_max\" :1, \"remaining_oop_max\" : 2 } \n",
	    UPSTREAM_ANSWERED, { 1, 2, 3 } },
	{ 200, "{\"x\":[{\"copay\":9}],\"oop_max\":1,\"remaining_oop_max\":2,\"copay\":3}",
	    UPSTREAM_ANSWERED, { 1, 2, 3 } },
	{ 200, "{\"\\u0063opay\":3,\"oop_max\":1,\"remaining_oop_max\":2}", UPSTREAM_ANSWERED,
	    { 1, 2, 3 } },
	{ 200, "{\"oop_max\":1,\"remaining_oop_max\":2,\"copay\":3,\"z\":null,\"w\":\"å\"}",
	    UPSTREAM_ANSWERED, { 1, 2, 3 } },

	{ 200, "{}", UPSTREAM_UNKNOWN, { 0 } },
	{ 200, "null", UPSTREAM_UNKNOWN, { 0 } },
	{ 200, "[]", UPSTREAM_UNKNOWN, { 0 } },
	{ 200, " {\t} \r\n", UPSTREAM_UNKNOWN, { 0 } },
	{ 200, "\n[ ]", UPSTREAM_UNKNOWN, { 0 } },
	{ 200, " null\n", UPSTREAM_UNKNOWN, { 0 } },
	{ 404, "", UPSTREAM_UNKNOWN, { 0 } },
	{ 404, "<html>", UPSTREAM_UNKNOWN, { 0 } },
	{ 404, ANSWER("1", "2", "3"), UPSTREAM_UNKNOWN, { 0 } },

	{ 100, ANSWER("1", "2", "3"), UPSTREAM_STATUS, { 0 } },
	{ 201, ANSWER("1", "2", "3"), UPSTREAM_STATUS, { 0 } },
	{ 204, "", UPSTREAM_STATUS, { 0 } },
	{ 301, "{}", UPSTREAM_STATUS, { 0 } },
	{ 400, "{}", UPSTREAM_STATUS, { 0 } },
	{ 500, "null", UPSTREAM_STATUS, { 0 } },
	{ 503, ANSWER("1", "2", "3"), UPSTREAM_STATUS, { 0 } },

	{ 200, "", UPSTREAM_MALFORMED, { 0 } },
	{ 200, " ", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "nu ll", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "n ull", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "nul", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "NULL", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "nullnull", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "{}{}", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "{]", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "[null]", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "[[]]", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "\"{}\"", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "0", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "false", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "\xef\xbb\xbf{}", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "<html>", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "[" ANSWER("1", "2", "3") "]", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "{\"data\":" ANSWER("1", "2", "3") "}", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "{\"oop_max\":1,\"remaining_oop_max\":2}", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "{\"oop_max\":1,\"copay\":2}", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "{\"Oop_max\":1,\"remaining_oop_max\":2,\"copay\":3}", UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("5.5", "2", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("1", "5e-1", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("-1", "2", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("1", "-2.0", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("100000000001", "2", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("1", "2", "1.00000000001e11"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("1", "9223372036854775807", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("1", "9223372036854775808", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("18446744073709551617", "2", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("1", "2", "1000000000000000000000000000000"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("1", "2", "1e30"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("1", "2", "1e400"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("1", "2", "1e-400"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("\"1\"", "2", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("null", "2", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("true", "2", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("[1]", "2", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("{\"oop_max\":1}", "2", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("01", "2", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("+1", "2", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("1.", "2", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("0x1", "2", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("NaN", "2", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("Infinity", "2", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("1", "2", "3") "x", UPSTREAM_MALFORMED, { 0 } },
	{ 200, ANSWER("1", "2", "3") ANSWER("1", "2", "3"), UPSTREAM_MALFORMED, { 0 } },
	{ 200, "{\"oop_max\":1,\"remaining_oop_max\":2,\"copay\":3,}", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "{\"oop_max\":1,\"remaining_oop_max\":2,\"copay\":3", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "{'oop_max':1,'remaining_oop_max':2,'copay':3}", UPSTREAM_MALFORMED, { 0 } },
	{ 200, "{\"oop_max\":1,\"remaining_oop_max\":2,\"copay\":3,\"copay\":3}",
	    UPSTREAM_MALFORMED, { 0 } },
	{ 200, "{\"oop_max\":1,\"remaining_oop_max\":2,\"copay\":3,\"\\u0063opay\":4}",
	    UPSTREAM_MALFORMED, { 0 } },
	{ 200, "{\"oop_max\":1,\"remaining_oop_max\":2,\"copay\":3,\"x\":\"\xff\"}",
	    UPSTREAM_MALFORMED, { 0 } },
	{ 200, "{\"oop_max\":1,\"remaining_oop_max\":2,\"copay\":3,\"x\":\"\xc0\xaf\"}",
	    UPSTREAM_MALFORMED, { 0 } },
	{ 200, "{\"oop_max\":1,\"remaining_oop_max\":2,\"copay\":3,\"x\":\"\\ud800\"}",
	    UPSTREAM_MALFORMED, { 0 } },
};

START_TEST(an_answer_is_three_whole_numbers_within_bounds_and_nothing_else)
{
	for (size_t i = 0; i < COUNT(bodies); i++) {
		struct coalesce_answer answer = { { -1, -1, -1 } };
		enum upstream_outcome outcome = coalesce_judge(
		    bodies[i].status, bodies[i].body, strlen(bodies[i].body), &answer);
		size_t count;

		ck_assert_msg(outcome == bodies[i].outcome, "%ld %s: %s", bodies[i].status,
		    bodies[i].body, upstream_outcome_name(outcome));
		for (int f = 0; f < FIELD_MAX && outcome == UPSTREAM_ANSWERED; f++)
			ck_assert_int_eq(answer.values[f], bodies[i].values[f]);
		/* Nothing of it may be taken for a fault of the client's request. */
		(void)err_fields(&count);
		ck_assert_uint_eq(count, 0);
		ck_assert_int_eq(err_pending(), OK);
	}
}
END_TEST

START_TEST(a_nul_or_a_deep_nesting_is_malformed)
{
	static const char open[] = "{\"oop_max\":1,\"remaining_oop_max\":2,\"copay\":3,\"x\":";
	struct coalesce_answer answer;
	char body[65536];
	size_t n = sizeof(open) - 1;

	ck_assert_int_eq(coalesce_judge(200, "{}\0", 3, &answer), UPSTREAM_MALFORMED);
	ck_assert_int_eq(coalesce_judge(200, "[]\0x", 4, &answer), UPSTREAM_MALFORMED);
	ck_assert_int_eq(coalesce_judge(200, "null\0", 5, &answer), UPSTREAM_MALFORMED);
	ck_assert_int_eq(coalesce_judge(200, "\0{}", 3, &answer), UPSTREAM_MALFORMED);
	memcpy(body, open, n);
	memset(body + n, '[', sizeof(body) - n);
	ck_assert_int_eq(coalesce_judge(200, body, sizeof(body), &answer), UPSTREAM_MALFORMED);
	memset(body, ' ', sizeof(body));
	ck_assert_int_eq(coalesce_judge(200, body, sizeof(body), &answer), UPSTREAM_MALFORMED);
	memcpy(body + sizeof(body) - 2, "{}", 2);
	ck_assert_int_eq(coalesce_judge(200, body, sizeof(body), &answer), UPSTREAM_UNKNOWN);
}
END_TEST

/* Merging. */

#define VALUES_MAX 6

static const struct {
	enum conf_merge merge;
	size_t n;
	int64_t values[VALUES_MAX];
	int64_t merged;
} merges[] = {
	{ MERGE_MAX, 1, { 7 }, 7 },
	{ MERGE_MAX, 3, { 1, 9, 4 }, 9 },
	{ MERGE_MAX, 3, { 9, 9, 4 }, 9 },
	{ MERGE_MIN, 1, { 7 }, 7 },
	{ MERGE_MIN, 3, { 5, 9, 4 }, 4 },
	{ MERGE_MIN, 3, { 0, 9, 4 }, 0 },
	{ MERGE_FIRST, 3, { 5, 9, 4 }, 5 },
	{ MERGE_AVG, 1, { 7 }, 7 },
	{ MERGE_AVG, 2, { 0, 0 }, 0 },
	{ MERGE_AVG, 2, { 0, 1 }, 0 },
	{ MERGE_AVG, 2, { 1, 2 }, 2 },
	{ MERGE_AVG, 2, { 2, 3 }, 2 },
	{ MERGE_AVG, 2, { 3, 4 }, 4 },
	{ MERGE_AVG, 3, { 1, 1, 2 }, 1 },
	{ MERGE_AVG, 3, { 1, 2, 2 }, 2 },
	{ MERGE_AVG, 4, { 0, 0, 0, 1 }, 0 },
	{ MERGE_AVG, 4, { 0, 0, 1, 1 }, 0 },
	{ MERGE_AVG, 4, { 0, 1, 1, 1 }, 1 },
	{ MERGE_AVG, 4, { 1, 1, 2, 2 }, 2 },
	{ MERGE_AVG, 6, { 1, 1, 1, 2, 2, 2 }, 2 },
	{ MERGE_AVG, 6, { 2, 2, 2, 3, 3, 3 }, 2 },
	{ MERGE_AVG, 2, { INT64_C(100000000000), INT64_C(99999999999) }, INT64_C(100000000000) },
	{ MERGE_AVG, 2, { INT64_C(99999999998), INT64_C(99999999999) }, INT64_C(99999999998) },
	{ MERGE_MEDIAN, 1, { 7 }, 7 },
	{ MERGE_MEDIAN, 3, { 9, 1, 5 }, 5 },
	{ MERGE_MEDIAN, 5, { 9, 1, 5, 5, 100 }, 5 },
	{ MERGE_MEDIAN, 2, { 9, 1 }, 5 },
	{ MERGE_MEDIAN, 2, { 2, 1 }, 2 },
	{ MERGE_MEDIAN, 2, { 3, 2 }, 2 },
	{ MERGE_MEDIAN, 4, { 100, 1, 4, 3 }, 4 },
	{ MERGE_MEDIAN, 4, { 100, 1, 4, 5 }, 4 },
	{ MERGE_MEDIAN, 2, { INT64_C(100000000000), 0 }, INT64_C(50000000000) },
	{ MERGE_MAJORITY, 1, { 7 }, 7 },
	{ MERGE_MAJORITY, 3, { 1, 2, 2 }, 2 },
	{ MERGE_MAJORITY, 3, { 3, 1, 2 }, 3 },
	{ MERGE_MAJORITY, 4, { 5, 1, 1, 5 }, 5 },
	{ MERGE_MAJORITY, 4, { 1, 5, 5, 1 }, 1 },
	{ MERGE_MAJORITY, 5, { 9, 1, 5, 5, 1 }, 1 },
	{ MERGE_MAJORITY, 5, { 9, 5, 1, 1, 5 }, 5 },
	{ MERGE_MAJORITY, 6, { 1, 2, 2, 3, 3, 3 }, 3 },
};

START_TEST(several_values_become_one)
{
	for (size_t i = 0; i < COUNT(merges); i++) {
		int64_t values[FIELD_MAX][VALUES_MAX];
		int64_t *columns[FIELD_MAX];
		struct conf_method method = { .at_most = { -1, -1, -1 } };
		struct coalesce_answer merged;

		for (int f = 0; f < FIELD_MAX; f++) {
			memcpy(values[f], merges[i].values, sizeof(values[f]));
			columns[f] = values[f];
			method.merge[f] = merges[i].merge;
		}
		coalesce_merge(&method, columns, merges[i].n, &merged);
		for (int f = 0; f < FIELD_MAX; f++)
			ck_assert_msg(merged.values[f] == merges[i].merged, "row %zu: %lld", i,
			    (long long)merged.values[f]);
	}
}
END_TEST

START_TEST(each_field_has_its_own_way)
{
	int64_t oop_max[] = { 5, 1, 9 }, remaining[] = { 5, 1, 9 }, copay[] = { 5, 1, 9 };
	int64_t *columns[FIELD_MAX] = { oop_max, remaining, copay };
	const struct conf_method method = { .merge = { MERGE_MAX, MERGE_FIRST, MERGE_MIN },
		.at_most = { -1, -1, -1 } };
	struct coalesce_answer merged;

	coalesce_merge(&method, columns, 3, &merged);
	ck_assert_int_eq(merged.values[FIELD_OOP_MAX], 9);
	ck_assert_int_eq(merged.values[FIELD_REMAINING_OOP_MAX], 5);
	ck_assert_int_eq(merged.values[FIELD_COPAY], 1);
}
END_TEST

#define NO (-1)
#define OOP FIELD_OOP_MAX
#define LEFT FIELD_REMAINING_OOP_MAX
#define COPAY FIELD_COPAY

static const struct {
	int64_t at_most[FIELD_MAX], values[FIELD_MAX], merged[FIELD_MAX];
} bounds[] = {
	{ { NO, NO, NO }, { 1, 2, 3 }, { 1, 2, 3 } },
	{ { NO, NO, LEFT }, { 1, 2, 3 }, { 1, 2, 2 } },
	{ { NO, NO, LEFT }, { 3, 2, 1 }, { 3, 2, 1 } },
	{ { NO, NO, LEFT }, { 3, 2, 2 }, { 3, 2, 2 } },
	{ { NO, OOP, NO }, { 1, 2, 3 }, { 1, 1, 3 } },
	{ { NO, OOP, LEFT }, { 1, 2, 3 }, { 1, 1, 1 } },
	{ { NO, OOP, LEFT }, { 1, 3, 2 }, { 1, 1, 1 } },
	{ { NO, OOP, LEFT }, { 3, 1, 2 }, { 3, 1, 1 } },
	{ { NO, OOP, OOP }, { 1, 2, 3 }, { 1, 1, 1 } },
	{ { COPAY, OOP, NO }, { 3, 3, 1 }, { 1, 1, 1 } },
	{ { LEFT, COPAY, NO }, { 9, 5, 7 }, { 5, 5, 7 } },
	{ { LEFT, COPAY, NO }, { 9, 7, 5 }, { 5, 5, 5 } },
};

START_TEST(a_field_is_never_above_the_merged_field_that_bounds_it)
{
	for (size_t i = 0; i < COUNT(bounds); i++) {
		int64_t values[FIELD_MAX];
		int64_t *columns[FIELD_MAX] = { &values[0], &values[1], &values[2] };
		struct conf_method method = { .merge = { MERGE_MAX, MERGE_MAX, MERGE_MAX } };
		struct coalesce_answer merged;

		memcpy(values, bounds[i].values, sizeof(values));
		memcpy(method.at_most, bounds[i].at_most, sizeof(method.at_most));
		coalesce_merge(&method, columns, 1, &merged);
		for (int f = 0; f < FIELD_MAX; f++)
			ck_assert_msg(merged.values[f] == bounds[i].merged[f], "row %zu, %s: %lld",
			    i, conf_field_names[f], (long long)merged.values[f]);
	}
}
END_TEST

/* The program, through its route table. */

#define INSURERS 3

static struct http_server insurers[INSURERS];
static struct conf *conf;

static struct {
	size_t n;
	char text[16384];
} answer;

/* SETTINGS are lines of the group coalesce. */
static void
begin(const char *settings)
{
	const struct conf_options options = { 0 };
	char yaml[2048];
	int n;

	ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr));
	for (size_t i = 0; i < INSURERS; i++) {
		http_server_open(&insurers[i], NULL);
		http_server_json(&insurers[i], 200, "{}");
	}
	n = snprintf(yaml, sizeof(yaml),
	    "coalesce:\n  upstreams:\n    - {name: alpha, url: \"%s\"}\n"
	    "    - {name: beta, url: \"%sx?key=1\"}\n    - {name: gamma, url: \"%s\"}\n%s",
	    insurers[0].url, insurers[1].url, insurers[2].url, settings);
	ck_assert_int_lt(n, (int)sizeof(yaml));
	ck_assert_msg(
	    conf_parse(yaml, (size_t)n, "test", &options, &conf) == OK, "%s", err_words());
	ck_assert_msg(program.open(conf) == OK, "%s", err_words());
}

static void
end(void)
{
	program.close();
	conf_close(conf);
	for (size_t i = 0; i < INSURERS; i++)
		http_server_close(&insurers[i]);
}

#define PATIENT "  deadline_ms: 20000\n  circuit_failures: 1000\n"

static bool
take_answer(void *ctx, const char *bytes, size_t n)
{
	(void)ctx;
	ck_assert_uint_lt(answer.n + n, sizeof(answer.text));
	memcpy(answer.text + answer.n, bytes, n);
	answer.n += n;
	answer.text[answer.n] = '\0';
	return true;
}

static ssize_t
read_nothing(void *ctx, char *buffer, size_t n)
{
	(void)ctx;
	(void)buffer;
	(void)n;
	return 0;
}

/* A meta-variable that says where nginx keeps answers; NULL for none. */
static char *cached_at;

/* Asks the program; its whole answer is in ANSWER, its status is returned. */
static int
ask(const char *method, const char *uri)
{
	static struct request req;
	static struct response res;
	char method_meta[32], uri_meta[4096];
	char *meta[] = { method_meta, uri_meta, cached_at, NULL };
	const struct request_source source = { .meta = meta, .read = read_nothing };

	(void)snprintf(method_meta, sizeof(method_meta), "REQUEST_METHOD=%s", method);
	ck_assert_int_lt(
	    snprintf(uri_meta, sizeof(uri_meta), "REQUEST_URI=%s", uri), (int)sizeof(uri_meta));
	answer.n = 0;
	response_open(&res, take_answer, NULL);
	ck_assert(route_run(program.routes, &req, &res, &source));
	ck_assert_ptr_eq(strstr(answer.text, "Status: "), answer.text);
	return res.status;
}

static int
get(const char *uri)
{
	return ask("GET", uri);
}

static bool
said(const char *text)
{
	return strstr(answer.text, text) != NULL;
}

static unsigned
requests(void)
{
	unsigned n = 0;

	for (size_t i = 0; i < INSURERS; i++)
		n += http_server_requests(&insurers[i]);
	return n;
}

/* What the three say, as { status, body }; status 0 hangs, -1 resets. */
struct say {
	int status;
	const char *body;
};

static void
let_say(const struct say says[INSURERS])
{
	for (size_t i = 0; i < INSURERS; i++)
		if (says[i].status > 0)
			http_server_json(&insurers[i], says[i].status, says[i].body);
		else
			http_server_reply(&insurers[i],
			    &(struct http_reply){ .bytes = "",
				.then = says[i].status == 0 ? HTTP_HANG : HTTP_RESET });
}

#define ONE ANSWER("10000", "9000", "10000")
#define TWO ANSWER("20000", "9000", "50000")
#define THREE ANSWER("10000", "8000", "10000")
#define HANGS \
	{ \
		0, NULL \
	}
#define RESETS \
	{ \
		-1, NULL \
	}
#define KNOWS \
	{ \
		200, ONE \
	}
#define UNKNOWN \
	{ \
		404, "" \
	}
#define FAILS \
	{ \
		500, "" \
	}

START_TEST(every_route_is_listed_here_and_has_roles)
{
	static const struct {
		enum method method;
		const char *path;
		unsigned roles;
	} expected[] = {
		{ METHOD_GET, "/api/coalescence/{method}", ROLES_ALL },
		{ METHOD_GET, "/healthz/coalesce", ROLES_ANYONE },
		{ METHOD_GET, "/metrics/coalesce", ROLE_ADMIN },
	};
	size_t i = 0;

	for (; program.routes[i].path != NULL; i++) {
		ck_assert_uint_lt(i, COUNT(expected));
		ck_assert_int_eq(program.routes[i].method, expected[i].method);
		ck_assert_str_eq(program.routes[i].path, expected[i].path);
		ck_assert_uint_eq(program.routes[i].roles, expected[i].roles);
		ck_assert_uint_ne(program.routes[i].roles, 0);
		ck_assert_ptr_nonnull(program.routes[i].handler);
	}
	ck_assert_uint_eq(i, COUNT(expected));
	ck_assert_str_eq(program.name, "coalesce");
}
END_TEST

START_TEST(each_method_merges_what_the_insurers_say)
{
	static const struct {
		const char *method, *body;
	} rows[] = {
		{ "default", ANSWER("20000", "9000", "9000") },
		{ "max", ANSWER("20000", "9000", "50000") },
		{ "min", ANSWER("10000", "8000", "10000") },
		{ "avg", ANSWER("13333", "8667", "23333") },
		{ "cautious", ANSWER("10000", "8000", "8000") },
		{ "%61vg", ANSWER("13333", "8667", "23333") },
		{ "avg/", ANSWER("13333", "8667", "23333") },
	};
	char uri[256];

	begin(
	    PATIENT "  methods:\n    - {name: cautious, oop_max: majority, remaining_oop_max: min, "
		    "copay: median, copay_at_most: remaining_oop_max}\n");
	let_say((const struct say[]){ { 200, ONE }, { 200, TWO }, { 200, THREE } });
	for (size_t i = 0; i < COUNT(rows); i++) {
		(void)snprintf(uri, sizeof(uri), "/api/coalescence/%s?member_id=1", rows[i].method);
		ck_assert_int_eq(get(uri), 200);
		ck_assert_msg(strcmp(strstr(answer.text, "\r\n\r\n") + 4, rows[i].body) == 0,
		    "%s: %s", rows[i].method, answer.text);
		ck_assert(said("\r\nContent-Type: application/json\r\n"));
	}
	end();
}
END_TEST

START_TEST(a_bad_question_is_refused_before_anybody_is_asked)
{
	static const struct {
		const char *rest, *pointer, *not_pointer;
	} rows[] = {
		{ "nosuch", "\"method\"", "\"member_id\"" },
		{ "nosuch?member_id=1&member_id=2", "\"method\"", "\"member_id\"" },
		{ "Default?member_id=1", "\"method\"", NULL },
		{ "default", "\"member_id\"", "\"method\"" },
		{ "default?", "\"member_id\"", NULL },
		{ "default?member_id=", "\"member_id\"", NULL },
		{ "default?member_id", "\"member_id\"", NULL },
		{ "default?Member_id=1", "\"member_id\"", NULL },
		{ "default?member_id=1&member_id=1", "\"member_id\"", NULL },
		{ "default?member_id=1&member%5fid=2", "\"member_id\"", NULL },
		{ "default?member_id=1&require=", "\"require\"", NULL },
		{ "default?member_id=1&require=0", "\"require\"", NULL },
		{ "default?member_id=1&require=4", "\"require\"", NULL },
		{ "default?member_id=1&require=-1", "\"require\"", NULL },
		{ "default?member_id=1&require=1.0", "\"require\"", NULL },
		{ "default?member_id=1&require=ALL", "\"require\"", NULL },
		{ "default?member_id=1&require=99999999999999999999", "\"require\"", NULL },
		{ "default?member_id=1&require=1&require=1", "\"require\"", NULL },
		{ "default?member_id=1&explain=", "\"explain\"", NULL },
		{ "default?member_id=1&explain=1", "\"explain\"", NULL },
		{ "default?member_id=1&explain=TRUE", "\"explain\"", NULL },
		{ "default?require=x&explain=y", "\"member_id\"", NULL },
		{ "default?require=x&explain=y", "\"require\"", NULL },
		{ "default?require=x&explain=y", "\"explain\"", NULL },
	};
	char uri[256];

	begin(PATIENT);
	for (size_t i = 0; i < COUNT(rows); i++) {
		(void)snprintf(uri, sizeof(uri), "/api/coalescence/%s", rows[i].rest);
		ck_assert_msg(get(uri) == 400, "%s", uri);
		ck_assert(said("\r\nContent-Type: application/problem+json\r\n"));
		ck_assert(said("\r\nCache-Control: no-store\r\n"));
		ck_assert_msg(said(rows[i].pointer), "%s: %s", uri, answer.text);
		ck_assert_msg(rows[i].not_pointer == NULL || !said(rows[i].not_pointer), "%s", uri);
	}
	ck_assert_int_eq(get("/api/coalescence/default?member_id=%00"), 400);
	ck_assert_int_eq(get("/api/coalescence/default?member_id=%ff"), 400);
	ck_assert_int_eq(get("/api/coalescence/default?member_id=%2"), 400);
	ck_assert_uint_eq(requests(), 0);
	end();
}
END_TEST

START_TEST(a_member_id_has_at_most_256_bytes_however_often_it_is_given)
{
	static const struct {
		size_t n;
		const char *behind;
		int status;
	} rows[] = {
		{ 256, "", 404 },
		{ 257, "", 400 },
		{ 3000, "", 400 },
		{ 257, "&member_id=1", 400 },
		{ 3000, "&member_id=1", 400 },
		{ 3000, "&member_id=1&require=x", 400 },
	};
	char uri[4096] = "/api/coalescence/default?member_id=";
	size_t head = strlen(uri);

	begin(PATIENT);
	for (size_t i = 0; i < COUNT(rows); i++) {
		memset(uri + head, '!', rows[i].n);
		memcpy(uri + head + rows[i].n, rows[i].behind, strlen(rows[i].behind) + 1);
		ck_assert_msg(get(uri) == rows[i].status, "row %zu: %s", i, answer.text);
	}
	ck_assert_uint_eq(requests(), INSURERS);
	end();
}
END_TEST

START_TEST(the_member_id_goes_to_each_insurer_as_it_came)
{
	static const struct {
		const char *sent, *asked;
	} rows[] = {
		{ "1", "?member_id=1 HTTP" },
		{ "a%20b", "?member_id=a%20b HTTP" },
		{ "a+b", "?member_id=a%20b HTTP" },
		{ "a%2Bb%26c=d%3D%23%25", "?member_id=a%2Bb%26c%3Dd%3D%23%25 HTTP" },
		{ "%c3%a5%0d%0aHost:%20x", "?member_id=%C3%A5%0D%0AHost%3A%20x HTTP" },
		{ "-._~Az09", "?member_id=-._~Az09 HTTP" },
		{ "../x?y", "?member_id=..%2Fx%3Fy HTTP" },
	};
	char uri[256], joined[256];

	begin(PATIENT);
	for (size_t i = 0; i < COUNT(rows); i++) {
		(void)snprintf(
		    uri, sizeof(uri), "/api/coalescence/default?x=y&member_id=%s", rows[i].sent);
		ck_assert_int_eq(get(uri), 404);
		ck_assert_msg(
		    http_server_saw(&insurers[0], rows[i].asked), "%s", insurers[0].request);
		(void)snprintf(joined, sizeof(joined), "GET /x?key=1&%s", rows[i].asked + 1);
		ck_assert_msg(http_server_saw(&insurers[1], joined), "%s", insurers[1].request);
	}
	ck_assert(http_server_saw(&insurers[2], "\r\ntraceparent: 00-"));
	end();
}
END_TEST

static const struct {
	const char *rest;
	struct say says[INSURERS];
	int status;
} rules[] = {
	{ "", { KNOWS, KNOWS, KNOWS }, 200 },
	{ "", { UNKNOWN, KNOWS, UNKNOWN }, 200 },
	{ "", { FAILS, KNOWS, RESETS }, 200 },
	{ "", { UNKNOWN, UNKNOWN, UNKNOWN }, 404 },
	{ "", { { 200, "{}" }, { 200, "null" }, { 200, "[]" } }, 404 },
	{ "", { UNKNOWN, FAILS, UNKNOWN }, 502 },
	{ "", { UNKNOWN, RESETS, UNKNOWN }, 502 },
	{ "", { { 200, "x" }, { 200, "{\"copay\":1}" }, { 302, "" } }, 502 },
	{ "&require=any", { KNOWS, FAILS, UNKNOWN }, 200 },
	{ "&require=1", { KNOWS, FAILS, UNKNOWN }, 200 },
	{ "&require=2", { KNOWS, FAILS, UNKNOWN }, 502 },
	{ "&require=2", { KNOWS, UNKNOWN, UNKNOWN }, 502 },
	{ "&require=2", { KNOWS, UNKNOWN, KNOWS }, 200 },
	{ "&require=3", { KNOWS, KNOWS, KNOWS }, 200 },
	{ "&require=all", { KNOWS, KNOWS, KNOWS }, 200 },
	{ "&require=all", { KNOWS, KNOWS, UNKNOWN }, 502 },
	{ "&require=all", { KNOWS, KNOWS, FAILS }, 502 },
	{ "&require=all", { UNKNOWN, UNKNOWN, UNKNOWN }, 404 },
};

START_TEST(too_few_answers_are_404_or_502)
{
	char uri[256];

	begin(PATIENT);
	for (size_t i = 0; i < COUNT(rules); i++) {
		let_say(rules[i].says);
		(void)snprintf(
		    uri, sizeof(uri), "/api/coalescence/max?member_id=1%s", rules[i].rest);
		ck_assert_msg(get(uri) == rules[i].status, "row %zu: %s", i, answer.text);
		ck_assert_msg(rules[i].status == 502 ? said("\"sources\":[") : !said("\"sources\""),
		    "row %zu: %s", i, answer.text);
	}
	end();
}
END_TEST

START_TEST(where_all_failures_are_timeouts_it_is_504)
{
	static const struct {
		const char *rest;
		struct say says[INSURERS];
		int status;
	} rows[] = {
		{ "", { HANGS, HANGS, HANGS }, 504 },
		{ "", { HANGS, UNKNOWN, HANGS }, 504 },
		{ "&require=all", { KNOWS, HANGS, KNOWS }, 504 },
		{ "", { HANGS, FAILS, HANGS }, 502 },
		{ "", { HANGS, KNOWS, HANGS }, 200 },
	};
	char uri[256];

	begin("  deadline_ms: 300\n  circuit_failures: 1000\n");
	for (size_t i = 0; i < COUNT(rows); i++) {
		let_say(rows[i].says);
		(void)snprintf(
		    uri, sizeof(uri), "/api/coalescence/max?member_id=1%s", rows[i].rest);
		ck_assert_msg(get(uri) == rows[i].status, "row %zu: %s", i, answer.text);
		ck_assert(said("\r\nCache-Control: no-store\r\n"));
	}
	end();
}
END_TEST

START_TEST(an_open_circuit_counts_as_what_opened_it)
{
	begin("  deadline_ms: 300\n  circuit_failures: 1\n  circuit_pause_ms: 3600000\n");
	let_say((const struct say[]){ HANGS, HANGS, UNKNOWN });
	ck_assert_int_eq(get("/api/coalescence/max?member_id=1"), 504);
	ck_assert(said("\"outcome\":\"timeout\""));
	ck_assert_int_eq(get("/api/coalescence/max?member_id=1"), 504);
	ck_assert(said("{\"name\":\"alpha\",\"outcome\":\"circuit_open\",\"milliseconds\":0}"));
	ck_assert(!said("\"outcome\":\"timeout\""));
	let_say((const struct say[]){ HANGS, HANGS, FAILS });
	ck_assert_int_eq(get("/api/coalescence/max?member_id=1"), 502);
	ck_assert_uint_eq(http_server_requests(&insurers[0]), 1);
	end();
}
END_TEST

START_TEST(a_problem_lists_every_insurer_with_its_outcome)
{
	begin(PATIENT);
	let_say((const struct say[]){ KNOWS, FAILS, { 200, "no" } });
	ck_assert_int_eq(get("/api/coalescence/max?member_id=1&require=all"), 502);
	ck_assert(said("\"type\":\"/problems/upstream-failed\""));
	ck_assert(
	    said("\"detail\":\"1 of 3 insurers answered, 3 required; 0 do not know the member, "
		 "2 failed\""));
	ck_assert(said("{\"name\":\"alpha\",\"outcome\":\"answered\",\"milliseconds\":"));
	ck_assert(said("\"values\":" ONE "}"));
	ck_assert(said("{\"name\":\"beta\",\"outcome\":\"wrong_status\",\"milliseconds\":"));
	ck_assert(said("{\"name\":\"gamma\",\"outcome\":\"malformed\",\"milliseconds\":"));
	end();
}
END_TEST

START_TEST(only_a_whole_answer_may_be_cached)
{
	static const struct {
		struct say says[INSURERS];
		const char *field;
	} rows[] = {
		{ { KNOWS, KNOWS, KNOWS }, "\r\nCache-Control: max-age=7, " },
		{ { KNOWS, UNKNOWN, { 200, "{}" } }, "\r\nCache-Control: max-age=7, " },
		{ { KNOWS, KNOWS, FAILS }, "\r\nCache-Control: no-store\r\n" },
		{ { KNOWS, RESETS, UNKNOWN }, "\r\nCache-Control: no-store\r\n" },
		{ { UNKNOWN, UNKNOWN, UNKNOWN }, "\r\nCache-Control: no-store\r\n" },
		{ { FAILS, FAILS, FAILS }, "\r\nCache-Control: no-store\r\n" },
	};

	begin(PATIENT "  max_age_s: 7\n");
	for (size_t i = 0; i < COUNT(rows); i++) {
		let_say(rows[i].says);
		(void)get("/api/coalescence/max?member_id=1");
		ck_assert_msg(said(rows[i].field), "row %zu: %s", i, answer.text);
	}
	end();
	begin(PATIENT "  max_age_s: 0\n");
	let_say((const struct say[]){ KNOWS, KNOWS, KNOWS });
	ck_assert_int_eq(get("/api/coalescence/max?member_id=1"), 200);
	ck_assert(said("\r\nCache-Control: no-store\r\n"));
	end();
}
END_TEST

START_TEST(where_nginx_keeps_answers_it_is_sent_there_and_nobody_is_asked)
{
	begin(PATIENT "  max_age_s: 7\n");
	let_say((const struct say[]){ KNOWS, KNOWS, KNOWS });
	cached_at = (char *)(uintptr_t) "CAREDESK_CACHED_AT=/.cached/coalesce";
	ck_assert_int_eq(get("/api/coalescence/max?member_id=1"), 204);
	ck_assert_str_eq(
	    answer.text, "Status: 204 No Content\r\nX-Accel-Redirect: /.cached/coalesce\r\n\r\n");
	ck_assert_uint_eq(requests(), 0);
	cached_at = (char *)(uintptr_t) "CAREDESK_CACHED_AT=";
	ck_assert_int_eq(get("/api/coalescence/max?member_id=1"), 200);
	ck_assert_uint_eq(requests(), INSURERS);
	cached_at = NULL;
	end();
}
END_TEST

START_TEST(explain_tells_who_said_what_and_how_far_apart_they_are)
{
	begin(PATIENT);
	let_say((const struct say[]){ { 200, ONE }, { 200, TWO }, UNKNOWN });
	ck_assert_int_eq(get("/api/coalescence/default?member_id=1&explain=true"), 200);
	ck_assert(
	    said("\r\n\r\n{\"oop_max\":20000,\"remaining_oop_max\":9000,\"copay\":9000,"
		 "\"sources\":[{\"name\":\"alpha\",\"outcome\":\"answered\",\"milliseconds\":"));
	ck_assert(said("\"values\":" ONE "}"));
	ck_assert(said("\"values\":" TWO "}"));
	ck_assert(said("{\"name\":\"gamma\",\"outcome\":\"unknown_member\",\"milliseconds\":"));
	ck_assert(said("],\"spread\":" ANSWER("10000", "0", "40000") "}"));
	ck_assert_int_eq(get("/api/coalescence/default?member_id=1&explain=false"), 200);
	ck_assert(said("\r\n\r\n" ANSWER("20000", "9000", "9000")));
	end();
}
END_TEST

START_TEST(head_options_and_other_methods_follow_the_table)
{
	begin(PATIENT);
	let_say((const struct say[]){ KNOWS, KNOWS, KNOWS });
	ck_assert_int_eq(ask("HEAD", "/api/coalescence/max?member_id=1"), 200);
	ck_assert_str_eq(strstr(answer.text, "\r\n\r\n"), "\r\n\r\n");
	ck_assert_int_eq(ask("OPTIONS", "/api/coalescence/max"), 204);
	ck_assert(said("\r\nAllow: GET, HEAD, OPTIONS\r\n"));
	ck_assert_int_eq(ask("POST", "/api/coalescence/max?member_id=1"), 405);
	ck_assert(said("\r\nAllow: GET, HEAD, OPTIONS\r\n"));
	ck_assert_int_eq(get("/api/coalescence"), 404);
	ck_assert_int_eq(get("/api/coalescence/max/more?member_id=1"), 404);
	ck_assert_uint_eq(requests(), INSURERS);
	end();
}
END_TEST

START_TEST(health_is_ok_then_degraded_then_unavailable)
{
	begin("  deadline_ms: 20000\n  circuit_failures: 1\n  circuit_pause_ms: 3600000\n");
	ck_assert_int_eq(get("/healthz/coalesce"), 200);
	ck_assert(said("\r\n\r\n{\"status\":\"ok\",\"upstreams\":[{\"name\":\"alpha\",\"circuit\":"
		       "\"closed\",\"in_flight\":0,\"answers\":0,\"failures\":0},"));
	ck_assert(said("\r\nCache-Control: no-store\r\n"));

	let_say((const struct say[]){ KNOWS, FAILS, UNKNOWN });
	ck_assert_int_eq(get("/api/coalescence/max?member_id=1"), 200);
	ck_assert_int_eq(get("/healthz/coalesce"), 200);
	ck_assert(said("{\"status\":\"degraded\","));
	ck_assert(
	    said("{\"name\":\"alpha\",\"circuit\":\"closed\",\"in_flight\":0,\"answers\":1,"));
	ck_assert(said("{\"name\":\"beta\",\"circuit\":\"open\",\"in_flight\":0,\"answers\":0,"
		       "\"failures\":1,\"last_failure\":\"wrong_status\"}"));

	let_say((const struct say[]){ FAILS, KNOWS, RESETS });
	ck_assert_int_eq(get("/api/coalescence/max?member_id=1"), 502);
	ck_assert_int_eq(get("/healthz/coalesce"), 503);
	ck_assert(said("\r\nContent-Type: application/problem+json\r\n"));
	ck_assert(said("\r\nRetry-After: 1\r\n"));
	ck_assert(said("\"upstreams\":[{\"name\":\"alpha\",\"circuit\":\"open\""));
	end();
}
END_TEST

START_TEST(an_upstream_that_cannot_be_used_stops_the_start)
{
	static const char yaml[] = "coalesce:\n  upstreams:\n"
				   "    - {name: alpha, url: \"http://127.0.0.1/\"}\n"
				   "    - {name: beta, url: \"http://127.0.0.1:99999/\"}\n";
	const struct conf_options options = { 0 };

	ck_assert_int_eq(conf_parse(yaml, strlen(yaml), "test", &options, &conf), OK);
	ck_assert_int_eq(program.open(conf), ERR_INPUT);
	ck_assert_ptr_nonnull(strstr(err_words(), "upstream beta"));
	program.close();
	conf_close(conf);
}
END_TEST

CHECK_MAIN(coalesce,
    { an_answer_is_three_whole_numbers_within_bounds_and_nothing_else,
	a_nul_or_a_deep_nesting_is_malformed, several_values_become_one, each_field_has_its_own_way,
	a_field_is_never_above_the_merged_field_that_bounds_it,
	every_route_is_listed_here_and_has_roles, each_method_merges_what_the_insurers_say,
	a_bad_question_is_refused_before_anybody_is_asked,
	a_member_id_has_at_most_256_bytes_however_often_it_is_given,
	the_member_id_goes_to_each_insurer_as_it_came, too_few_answers_are_404_or_502,
	where_all_failures_are_timeouts_it_is_504, an_open_circuit_counts_as_what_opened_it,
	a_problem_lists_every_insurer_with_its_outcome, only_a_whole_answer_may_be_cached,
	explain_tells_who_said_what_and_how_far_apart_they_are,
	head_options_and_other_methods_follow_the_table,
	health_is_ok_then_degraded_then_unavailable,
	an_upstream_that_cannot_be_used_stops_the_start,
	where_nginx_keeps_answers_it_is_sent_there_and_nobody_is_asked })
