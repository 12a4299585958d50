#include "data_set.h"
#include "exchange.h"

#include "events.h"
#include "lib/problem.h"

static struct conf *conf;

/* As the handler of METHOD and PATH, without captures, answers somebody with ROLES. */
static int
ask_as(unsigned roles, const char *path, const struct question *q)
{
	char *meta[11];
	const struct request_source source = { meta, give, &one };
	const struct route *route = program.routes;
	enum err err;

	while (strcmp(route->path, path) != 0 || route->method != METHOD_POST)
		route++;
	prepare(&one, q, meta);
	err_clear();
	ck_assert_int_eq(request_begin(&one.req, &source), OK);
	one.req.roles = roles;
	one.req.who = "somebody";
	one.res.no_body = false;
	if ((err = route->handler(&one.req, &one.res)) != OK)
		ck_assert_int_eq(problem_send(&one.req, &one.res, err, NULL, NULL), OK);
	ck_assert(response_end(&one.res));
	return status_of(&one);
}

static void
begin_with(const char *yaml)
{
	const struct conf_options options = { 0 };

	folder_begin();
	ck_assert_int_eq(conf_parse(yaml, strlen(yaml), "test", &options, &conf), OK);
	ck_assert_msg(program.open(conf) == OK, "%s", err_words());
	ck_assert_int_eq(db_open(LEDGER_FILE, DB_READ, &ledger_schema, &db), OK);
}

static void
begin(void)
{
	begin_with("");
}

static void
end(void)
{
	ck_assert_int_eq(wrong_sums(), 0);
	db_close(db);
	program.close();
	conf_close(conf);
	folder_end();
}

#define CARE "{\"name\":\"care\",\"amount_in_cents\":25000}"
#define EVENT(type, caregiver, start) \
	"{\"type_id\":" type ",\"caregiver_id\":" caregiver ",\"start_time\":\"" start "\"}"
#define ONE EVENT("1", "17", "2026-11-20T10:00:00Z")
#define ONE_TEXT \
	"\"type_id\":1,\"caregiver_id\":17,\"start_time\":\"2026-11-20T10:00:00.000000Z\"," \
	"\"amount_in_cents\":25000,\"currency\":\"SEK\",\"reimbursed\":false," \
	"\"reimbursed_at\":null,\"created_at\":\""
#define NDJSON "application/x-ndjson"
#define IMPORT(text) ASK(.method = "POST", .uri = "/events", .body = (text), .type = NDJSON)

/* --- The routes. */

static const struct listed_route listed[] = {
	{ METHOD_GET, "/events/types", ROLES_ALL },
	{ METHOD_POST, "/events/types", ROLE_ADMIN },
	{ METHOD_GET, "/events/types/{id}", ROLES_ALL },
	{ METHOD_PUT, "/events/types/{id}", ROLE_ADMIN },
	{ METHOD_DELETE, "/events/types/{id}", ROLE_ADMIN },
	{ METHOD_GET, "/events/types/{id}/prices", ROLES_ALL },
	{ METHOD_GET, "/events", ROLES_ALL },
	{ METHOD_POST, "/events", ROLE_CAREGIVER | ROLE_MANAGER | ROLE_ADMIN },
	{ METHOD_GET, "/events/{id}", ROLES_ALL },
	{ METHOD_DELETE, "/events/{id}", ROLE_CAREGIVER | ROLE_ADMIN },
	{ METHOD_POST, "/events/{id}/reimburse", ROLE_ACCOUNTANT },
	{ METHOD_GET, "/healthz/events", ROLES_ANYONE },
	{ METHOD_GET, "/metrics/events", ROLE_ADMIN },
};

START_TEST(every_route_is_listed_here_and_has_the_roles_of_the_contract)
{
	ck_assert_str_eq(program.name, "events");
	ck_routes(listed, COUNT(listed));
}
END_TEST

/* A life of the data, step by step. */
static const struct {
	const char *method, *uri, *body;
	int status;
	const char *location; /* "" for none */
	const char *has; /* of the body; NULL: it is empty */
} steps[] = {
	{ "GET", "/healthz/events", NULL, 200, "", "{\"status\":\"ok\"}" },
	{ "GET", "/events", NULL, 200, "", "[]" },
	{ "GET", "/events/types", NULL, 200, "", "[]" },
	{ "GET", "/events/types/1", NULL, 404, "", "there is no type 1" },
	{ "POST", "/events", ONE, 400, "",
	    "{\"detail\":\"there is no such type\",\"pointer\":\"#/type_id\"}" },
	{ "POST", "/events/types", CARE, 201, "/events/types/1",
	    "{\"id\":1,\"name\":\"care\",\"amount_in_cents\":25000,\"currency\":\"SEK\"}" },
	{ "POST", "/events/types", CARE, 409, "", "there is a type of that name already" },
	{ "POST", "/events/types/", "{\"name\":\"x\",\"amount_in_cents\":0,\"currency\":\"SEK\"}",
	    201, "/events/types/2", "{\"id\":2,\"name\":\"x\",\"amount_in_cents\":0," },
	{ "GET", "/events/types/1", NULL, 200, "",
	    "{\"id\":1,\"name\":\"care\",\"amount_in_cents\":25000,\"currency\":\"SEK\"}" },
	{ "GET", "/events/types/1/", NULL, 200, "", "{\"id\":1," },
	{ "GET", "/events/types", NULL, 200, "", "[{\"id\":1,\"name\":\"care\"" },
	{ "POST", "/events", ONE, 201, "/events/1", "{\"id\":1," ONE_TEXT },
	{ "POST", "/events/", ONE, 201, "/events/2", "{\"id\":2," ONE_TEXT },
	{ "GET", "/events/1", NULL, 200, "", "{\"id\":1," ONE_TEXT },
	{ "GET", "/events/3", NULL, 404, "", "there is no event 3" },
	{ "GET", "/events", NULL, 200, "", "[{\"id\":1," ONE_TEXT },
	{ "DELETE", "/events/types/1", NULL, 409, "", "there are events of this type" },
	{ "PUT", "/events/types/1", "{\"name\":\"care\",\"amount_in_cents\":1}", 200, "",
	    "{\"id\":1,\"name\":\"care\",\"amount_in_cents\":1,\"currency\":\"SEK\"}" },
	{ "PUT", "/events/types/2", CARE, 409, "", "there is a type of that name already" },
	{ "PUT", "/events/types/3", CARE, 404, "", "there is no type 3" },
	{ "GET", "/events/1", NULL, 200, "", "{\"id\":1," ONE_TEXT },
	{ "POST", "/events", ONE, 201, "/events/3", "{\"id\":3," ONE_TEXT },
	{ "POST", "/events", EVENT("1", "17", "2099-01-01T00:00:00Z"), 201, "/events/4",
	    "\"amount_in_cents\":1," },
	{ "POST", "/events/1/reimburse", NULL, 200, "",
	    "\"reimbursed\":true,\"reimbursed_at\":\"" },
	{ "POST", "/events/1/reimburse", NULL, 409, "", "this event is reimbursed already" },
	{ "POST", "/events/9/reimburse", NULL, 404, "", "there is no event 9" },
	{ "DELETE", "/events/1", NULL, 409, "", "a reimbursed event is not deleted" },
	{ "DELETE", "/events/2", NULL, 204, "", NULL },
	{ "DELETE", "/events/2", NULL, 404, "", "there is no event 2" },
	{ "GET", "/events/2", NULL, 404, "", "there is no event 2" },
	{ "DELETE", "/events/types/2", NULL, 204, "", NULL },
	{ "DELETE", "/events/types/2", NULL, 404, "", "there is no type 2" },
	{ "GET", "/events/types/2", NULL, 404, "", "there is no type 2" },
	{ "GET", "/events/types/2/prices", NULL, 404, "", "there is no type 2" },
	/* What is no id is nothing. */
	{ "GET", "/events/0", NULL, 404, "", "there is nothing at this address" },
	{ "GET", "/events/-1", NULL, 404, "", "there is nothing at this address" },
	{ "GET", "/events/1.0", NULL, 404, "", "there is nothing at this address" },
	{ "GET", "/events/9223372036854775808", NULL, 404, "", "nothing at this address" },
	{ "GET", "/events/9223372036854775807", NULL, 404, "", "there is no event 92233720368547" },
	{ "POST", "/events/x/reimburse", NULL, 404, "", "there is nothing at this address" },
	{ "DELETE", "/events/x", NULL, 404, "", "there is nothing at this address" },
	{ "PUT", "/events/types/x", CARE, 404, "", "there is nothing at this address" },
	{ "DELETE", "/events/types/x", NULL, 404, "", "there is nothing at this address" },
	{ "GET", "/events/types/x/prices", NULL, 404, "", "there is nothing at this address" },
	{ "GET", "/events/1/reimbursed", NULL, 404, "", "there is nothing at this address" },
};

START_TEST(each_call_answers_as_the_contract_says)
{
	begin();
	for (size_t i = 0; i < COUNT(steps); i++) {
		int status =
		    ASK(.method = steps[i].method, .uri = steps[i].uri, .body = steps[i].body);

		ck_assert_msg(status == steps[i].status, "%zu: %s %s: %d %s", i, steps[i].method,
		    steps[i].uri, status, BODY);
		ck_assert_str_eq(FIELD("Location"), steps[i].location);
		if (steps[i].has == NULL)
			ck_assert_str_eq(BODY, "");
		else
			ck_has(steps[i].has);
		if (status >= 400)
			ck_assert_str_eq(FIELD("Content-Type"), "application/problem+json");
		else if (status != 204)
			ck_assert_str_eq(FIELD("Content-Type"), "application/json");
	}
	end();
}
END_TEST

START_TEST(other_methods_and_types_follow_the_table)
{
	static const struct {
		const char *method, *uri, *accept;
		int status;
		const char *allow;
	} rows[] = {
		{ "OPTIONS", "/events", NULL, 204, "GET, HEAD, POST, OPTIONS" },
		{ "OPTIONS", "/events/1", NULL, 204, "GET, HEAD, DELETE, OPTIONS" },
		{ "OPTIONS", "/events/1/reimburse", NULL, 204, "POST, OPTIONS" },
		{ "OPTIONS", "/events/types/1", NULL, 204, "GET, HEAD, PUT, DELETE, OPTIONS" },
		{ "PUT", "/events", NULL, 405, "GET, HEAD, POST, OPTIONS" },
		{ "PATCH", "/events/1", NULL, 405, "GET, HEAD, DELETE, OPTIONS" },
		{ "GET", "/events/1/reimburse", NULL, 405, "POST, OPTIONS" },
		{ "POST", "/events/types/1/prices", NULL, 405, "GET, HEAD, OPTIONS" },
		{ "DELETE", "/events/types", NULL, 405, "GET, HEAD, POST, OPTIONS" },
		{ "BREW", "/events", NULL, 405, "GET, HEAD, POST, OPTIONS" },
		{ "GET", "/events", "text/csv", 406, "" },
		{ "POST", "/events", "text/html, application/json;q=0", 406, "" },
		{ "GET", "/events", "application/*", 200, "" },
	};

	begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		int status =
		    ASK(.method = rows[i].method, .uri = rows[i].uri, .accept = rows[i].accept);

		ck_assert_msg(
		    status == rows[i].status, "%s %s: %d", rows[i].method, rows[i].uri, status);
		ck_assert_msg(strcmp(FIELD("Allow"), rows[i].allow) == 0, "%s %s: %s",
		    rows[i].method, rows[i].uri, FIELD("Allow"));
	}
	end();
}
END_TEST

START_TEST(head_is_get_without_its_body)
{
	static const char *const uris[] = { "/events", "/events/1", "/events/types",
		"/events/types/1", "/events/types/1/prices", "/events?limit=1", "/events?limit=0",
		"/events/9", "/healthz/events" };
	static const char *const fields[] = { "Status", "Content-Type", "Content-Length", "ETag",
		"Cache-Control", "Link" };

	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	ck_assert_int_eq(POST("/events", ONE), 201);
	ck_assert_int_eq(POST("/events", ONE), 201);
	for (size_t i = 0; i < COUNT(uris); i++) {
		char expected[COUNT(fields)][256];
		int status = GET(uris[i]);

		for (size_t j = 0; j < COUNT(fields); j++)
			(void)snprintf(expected[j], sizeof(expected[j]), "%s", FIELD(fields[j]));
		ck_assert_int_eq(ASK(.method = "HEAD", .uri = uris[i]), status);
		ck_assert_str_eq(BODY, "");
		for (size_t j = 0; j < COUNT(fields); j++)
			ck_assert_str_eq(FIELD(fields[j]), expected[j]);
	}
	end();
}
END_TEST

/* --- Bad input. */

#define NAME BAD("#/name", "must be a string of 1..200 characters")
#define AMOUNT BAD("#/amount_in_cents", "must be a whole number of 0..2147483647")
#define CURRENCY BAD("#/currency", "must be SEK")
#define NO_NAME BAD("#/name", "is required")
#define NO_AMOUNT BAD("#/amount_in_cents", "is required")
#define TYPE_ID BAD("#/type_id", "must be a whole number of 1..9223372036854775807")
#define CAREGIVER BAD("#/caregiver_id", "must be a whole number of 1..9223372036854775807")
#define TIME_STRING "must be a string that is a date and time as in RFC 3339"
#define TIME \
	"must be a date and time as in RFC 3339, such as 2026-11-21T04:18:58Z, of the years " \
	"1970..9999"
#define START BAD("#/start_time", TIME)
#define NOT_JSON(byte, why) "the body is not valid JSON at byte " byte ": " why
#define DEEP8 "[[[[[[[["
#define DEEP_END8 "]]]]]]]]"

struct bad {
	struct request_text body;
	const char *errors; /* all of them; NULL: it is good */
	const char *detail; /* of the problem, where there are no fields */
};

#define T(text) \
	{ \
		text, sizeof(text) - 1 \
	}

static const struct bad bad_types[] = {
	{ T(""), "", NOT_JSON("0", "a value belongs here") },
	{ T("[]"), "", "the body must be a JSON object" },
	{ T("null"), "", "the body must be a JSON object" },
	{ T("{"), "", NOT_JSON("1", "a string belongs here") },
	{ T(CARE "x"), "", "nothing may follow the value" },
	{ T("{\"name\":\"\xff\",\"amount_in_cents\":1}"), BAD("#/name", "not UTF-8"), NULL },
	{ T("{\"name\":\"\\u0000\",\"amount_in_cents\":1}"), BAD("#/name", "NUL is not allowed"),
	    NULL },
	{ T("{\"name\":\"\0\",\"amount_in_cents\":1}"),
	    BAD("#/name", "a control character must be escaped"), NULL },
	{ T("{\"x\":" DEEP8 DEEP8 DEEP8 DEEP8 DEEP_END8 DEEP_END8 DEEP_END8 DEEP_END8 "}"),
	    BAD("#/x/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0",
		"nested too deeply"),
	    NULL },
	{ T("{\"name\":\"a\",\"name\":\"a\",\"amount_in_cents\":1}"), BAD("#/name", "given twice"),
	    NULL },
	{ T("{\"name\":\"a\",\"\\u006eame\":\"a\",\"amount_in_cents\":1}"), "",
	    "a member is given twice, once with escapes in its name" },
	{ T("{}"), NO_NAME "," NO_AMOUNT, NULL },
	{ T("{\"name\":null,\"amount_in_cents\":null}"), NO_NAME "," NO_AMOUNT, NULL },
	{ T("{\"Name\":\"a\",\"amount\":1}"), NO_NAME "," NO_AMOUNT, NULL },
	{ T("{\"name\":\"\",\"amount_in_cents\":-1}"), NAME "," AMOUNT, NULL },
	{ T("{\"name\":5,\"amount_in_cents\":\"5\"}"), NAME "," AMOUNT, NULL },
	{ T("{\"name\":[\"a\"],\"amount_in_cents\":true}"), NAME "," AMOUNT, NULL },
	{ T("{\"name\":\"a\",\"amount_in_cents\":2147483648}"), AMOUNT, NULL },
	{ T("{\"name\":\"a\",\"amount_in_cents\":1.5}"), AMOUNT, NULL },
	{ T("{\"name\":\"a\",\"amount_in_cents\":1e10}"), AMOUNT, NULL },
	{ T("{\"name\":\"a\",\"amount_in_cents\":9223372036854775808}"),
	    BAD("#/amount_in_cents", "the number does not fit in 64 bits"), NULL },
	{ T("{\"name\":\"a\",\"amount_in_cents\":1,\"currency\":\"EUR\"}"), CURRENCY, NULL },
	{ T("{\"name\":\"a\",\"amount_in_cents\":1,\"currency\":\"\"}"), CURRENCY, NULL },
	{ T("{\"name\":\"a\",\"amount_in_cents\":1,\"currency\":\"sek\"}"), CURRENCY, NULL },
	{ T("{\"name\":\"a\",\"amount_in_cents\":1,\"currency\":5}"),
	    BAD("#/currency", "must be a string of 0..200 characters"), NULL },
	{ T("{\"currency\":\"EUR\"}"), NO_NAME "," NO_AMOUNT "," CURRENCY, NULL },
};

/* Asks, and holds the problem against what it is to say. */
static void
check_bad(const char *method, const char *uri, const char *type, const struct bad *bad)
{
	char errors[4096];
	int status =
	    ASK(.method = method, .uri = uri, .type = type, .body = bad->body.s, .n = bad->body.n);

	ck_assert_msg(status == 400, "%s %s: %s", method, uri, one.text);
	if (bad->errors[0] != '\0') {
		(void)snprintf(errors, sizeof(errors), "\"errors\":[%s]", bad->errors);
		ck_has(errors);
	} else {
		ck_assert(!has("\"errors\":["));
		ck_has(bad->detail);
	}
	ck_has("\"type\":\"/problems/invalid-input\"");
	ck_has("\"trace_id\":\"");
}

START_TEST(a_bad_type_is_refused_with_each_bad_field)
{
	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	for (size_t i = 0; i < COUNT(bad_types); i++) {
		check_bad("POST", "/events/types", "application/json", &bad_types[i]);
		check_bad("PUT", "/events/types/1", "application/json", &bad_types[i]);
	}
	ck_assert_int_eq(data_ask("SELECT count(*) FROM types"), 1);
	ck_assert_int_eq(audit_count(), 1);
	end();
}
END_TEST

static const struct bad bad_prices[] = {
	{ T("{\"name\":\"a\",\"amount_in_cents\":1,\"valid_from\":5}"),
	    BAD("#/valid_from", TIME_STRING), NULL },
	{ T("{\"name\":\"a\",\"amount_in_cents\":1,\"valid_from\":\"\"}"),
	    BAD("#/valid_from", TIME), NULL },
	{ T("{\"name\":\"a\",\"amount_in_cents\":1,\"valid_from\":\"2026-02-29T00:00:00Z\"}"),
	    BAD("#/valid_from", TIME), NULL },
	{ T("{\"name\":\"a\",\"amount_in_cents\":1,\"valid_from\":\"1969-12-31T23:59:59Z\"}"),
	    BAD("#/valid_from", TIME), NULL },
};

static const struct bad bad_events[] = {
	{ T(""), "", NOT_JSON("0", "a value belongs here") },
	{ T("{}"),
	    BAD("#/type_id", "is required") "," BAD("#/caregiver_id", "is required") "," BAD(
		"#/start_time", "is required"),
	    NULL },
	{ T(EVENT("0", "0", "2026-11-20")), TYPE_ID "," CAREGIVER "," START, NULL },
	{ T(EVENT("\"1\"", "\"17\"", "now")), TYPE_ID "," CAREGIVER "," START, NULL },
	{ T(EVENT("1.5", "-1", "2026-13-01T00:00:00Z")), TYPE_ID "," CAREGIVER "," START, NULL },
	{ T(EVENT("1", "9223372036854775808", "2026-11-20T10:00:00Z")),
	    BAD("#/caregiver_id", "the number does not fit in 64 bits"), NULL },
	{ T(EVENT("1", "1e19", "2026-11-20T10:00:00Z")), CAREGIVER, NULL },
	{ T("{\"type_id\":1,\"caregiver_id\":1,\"start_time\":1795234738}"),
	    BAD("#/start_time", TIME_STRING), NULL },
	{ T(EVENT("2", "1", "2026-11-20T10:00:00Z")), BAD("#/type_id", "there is no such type"),
	    NULL },
	{ T("{\"type_id\":1,\"type_id\":1}"), BAD("#/type_id", "given twice"), NULL },
	{ T("[" ONE "]"), "", "the body must be a JSON object" },
	{ T(ONE "\n" ONE), "", "nothing may follow the value" },
};

static const struct bad bad_imports[] = {
	{ T("{}"),
	    BAD("#/type_id", "line 1: is required") "," BAD("#/caregiver_id",
		"line 1: is required") "," BAD("#/start_time", "line 1: is required"),
	    NULL },
	{ T(ONE "\n[]\n\n" ONE "\nx\n"),
	    BAD("#", "line 2: the body must be a JSON object") "," BAD(
		"#", "line 5: " NOT_JSON("0", "a value belongs here")),
	    NULL },
	{ T(ONE "\n" EVENT("3", "1", "2026-11-20T10:00:00Z") "\n" ONE "\n" EVENT(
	      "4", "1", "2026-11-20T10:00:00Z")),
	    BAD("#/type_id", "line 2: there is no such type") "," BAD(
		"#/type_id", "line 4: there is no such type"),
	    NULL },
	{ T(ONE ONE), BAD("#", "line 1: " NOT_JSON("67", "nothing may follow the value")), NULL },
};

START_TEST(a_bad_event_price_or_import_is_refused_and_changes_nothing)
{
	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	for (size_t i = 0; i < COUNT(bad_prices); i++)
		check_bad("PUT", "/events/types/1", "application/json", &bad_prices[i]);
	for (size_t i = 0; i < COUNT(bad_events); i++)
		check_bad("POST", "/events", "application/json", &bad_events[i]);
	for (size_t i = 0; i < COUNT(bad_imports); i++)
		check_bad("POST", "/events", NDJSON, &bad_imports[i]);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), 0);
	ck_assert_int_eq(audit_count(), 1);
	end();
}
END_TEST

static const struct {
	const char *method, *uri, *body;
	int status;
	const char *has;
} exact[] = {
	{ "POST", "/events/types", "{\"name\":\"a\",\"amount_in_cents\":5.0}", 201,
	    "\"amount_in_cents\":5," },
	{ "POST", "/events/types", "{\"name\":\"b\",\"amount_in_cents\":2.147483647E9}", 201,
	    "\"amount_in_cents\":2147483647," },
	{ "POST", "/events/types", "{\"name\":\"c\",\"amount_in_cents\":0,\"currency\":null}", 201,
	    "\"currency\":\"SEK\"" },
	{ "POST", "/events/types",
	    "{\"id\":99,\"name\":\"d\",\"amount_in_cents\":1,\"version\":7,\"valid_from\":5,"
	    "\"x\":{\"y\":[]}}",
	    201, "{\"id\":4,\"name\":\"d\",\"amount_in_cents\":1," },
	{ "POST", "/events/types", "{\"name\":\"\\u00e5\\\"/\\\\\",\"amount_in_cents\":1}", 201,
	    "\"name\":\"\xc3\xa5\\\"/\\\\\"" },
	{ "POST", "/events", EVENT("1.0", "17e0", "2026-11-20 11:00:00.5+01:00"), 201,
	    "\"type_id\":1,\"caregiver_id\":17,\"start_time\":\"2026-11-20T10:00:00.500000Z\"," },
	{ "POST", "/events", EVENT("1", "9223372036854775807", "2026-11-20T10:00:00"), 201,
	    "\"caregiver_id\":9223372036854775807," },
	{ "POST", "/events",
	    "{\"id\":99,\"reimbursed\":true,\"reimbursed_at\":\"2026-11-20T10:00:00Z\","
	    "\"amount_in_cents\":1,\"currency\":\"EUR\",\"created_at\":0,\"x\":null,"
	    "\"type_id\":1,\"caregiver_id\":1,\"start_time\":\"2026-11-20T10:00:00Z\"}",
	    201,
	    "{\"id\":3,\"type_id\":1,\"caregiver_id\":1,"
	    "\"start_time\":\"2026-11-20T10:00:00.000000Z\",\"amount_in_cents\":5,"
	    "\"currency\":\"SEK\",\"reimbursed\":false,\"reimbursed_at\":null," },
	{ "PUT", "/events/types/1",
	    "{\"id\":3,\"name\":\"a\",\"amount_in_cents\":6,\"valid_from\":null}", 200,
	    "{\"id\":1,\"name\":\"a\",\"amount_in_cents\":6," },
	{ "POST", "/events/1/reimburse", "{\"reimbursed\":false}", 200, "\"reimbursed\":true," },
};

START_TEST(numbers_are_exact_and_what_is_not_asked_for_is_ignored)
{
	begin();
	for (size_t i = 0; i < COUNT(exact); i++) {
		int status =
		    ASK(.method = exact[i].method, .uri = exact[i].uri, .body = exact[i].body);

		ck_assert_msg(status == exact[i].status, "%s: %s", exact[i].body, one.text);
		ck_has(exact[i].has);
	}
	end();
}
END_TEST

START_TEST(a_name_has_1_to_200_characters)
{
	static const char *const characters[] = { "x", "\xc3\xa5", "\xf0\x9f\x98\x80" };

	begin();
	for (size_t i = 0; i < COUNT(characters) * 2; i++) {
		char body[1024] = "{\"amount_in_cents\":1,\"name\":\"";

		for (size_t j = 0; j < TARIFF_NAME_MAX + i % 2; j++)
			(void)stpcpy(body + strlen(body), characters[i / 2]);
		(void)stpcpy(body + strlen(body), "\"}");
		ck_assert_int_eq(POST("/events/types", body), i % 2 == 0 ? 201 : 400);
		if (i % 2 == 0)
			ck_assert_uint_eq(
			    strspn(strstr(BODY, "\"name\":\"") + 8, characters[i / 2]),
			    TARIFF_NAME_MAX * strlen(characters[i / 2]));
	}
	end();
}
END_TEST

START_TEST(a_body_is_of_the_right_type_and_not_too_long)
{
	static char text[EVENTS_BODY_MAX + 2];
	static const struct {
		const char *method, *uri, *type, *encoding;
		int status;
	} rows[] = {
		{ "POST", "/events", "", NULL, 415 },
		{ "POST", "/events", "text/plain", NULL, 415 },
		{ "POST", "/events", "application/json", "gzip", 415 },
		{ "POST", "/events", NDJSON, "gzip", 415 },
		{ "POST", "/events", "application/x-www-form-urlencoded", NULL, 415 },
		{ "POST", "/events", "application/json", "identity", 201 },
		{ "POST", "/events", "Application/JSON; charset=utf-8", NULL, 201 },
		{ "POST", "/events", "application/X-NDJSON; charset=utf-8", NULL, 201 },
		{ "POST", "/events/types", NDJSON, NULL, 415 },
		{ "POST", "/events/types", "", NULL, 415 },
		{ "PUT", "/events/types/1", "text/json", NULL, 415 },
	};

	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	for (size_t i = 0; i < COUNT(rows); i++)
		ck_assert_msg(
		    ASK(.method = rows[i].method, .uri = rows[i].uri, .body = ONE,
			.type = rows[i].type, .encoding = rows[i].encoding) == rows[i].status,
		    "%zu: %s", i, one.text);
	memset(text, ' ', sizeof(text) - 1);
	memcpy(text, ONE, sizeof(ONE) - 1);
	ck_assert_int_eq(POST("/events", text), 413);
	text[EVENTS_BODY_MAX] = '\0';
	ck_assert_int_eq(POST("/events", text), 201);
	text[EVENTS_BODY_MAX] = ' ';
	ck_assert_int_eq(POST("/events/types", text), 413);
	ck_assert_int_eq(PUT("/events/types/1", text), 413);
	ck_assert_int_eq(POST("/events/1/reimburse", text), 413);
	ck_assert_int_eq(IMPORT(text), 400); /* a line is too long; the text is not */
	ck_has(BAD("#", "line 1: is too long"));
	end();
}
END_TEST

/* --- Conditions. */

START_TEST(a_single_resource_has_a_strong_etag_until_it_changes)
{
	char etag[64];

	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	(void)stpcpy(etag, FIELD("ETag"));
	ck_assert(etag[0] == '"' && etag[strlen(etag) - 1] == '"');
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(GET("/events/types/1"), 200);
		ck_assert_str_eq(FIELD("ETag"), etag);
		ck_assert_str_eq(FIELD("Cache-Control"), "no-cache");
	}
	ck_assert_int_eq(PUT("/events/types/1", CARE), 200);
	ck_assert_str_ne(FIELD("ETag"), etag);
	(void)stpcpy(etag, FIELD("ETag"));
	ck_assert_int_eq(GET("/events/types/1"), 200);
	ck_assert_str_eq(FIELD("ETag"), etag);
	ck_assert_int_eq(POST("/events", ONE), 201);
	(void)stpcpy(etag, FIELD("ETag"));
	ck_assert_int_eq(GET("/events/1"), 200);
	ck_assert_str_eq(FIELD("ETag"), etag);
	ck_assert_str_eq(FIELD("Cache-Control"), "no-cache");
	ck_assert_int_eq(POST("/events/1/reimburse", NULL), 200);
	ck_assert_str_ne(FIELD("ETag"), etag);
	(void)stpcpy(etag, FIELD("ETag"));
	ck_assert_int_eq(GET("/events/1"), 200);
	ck_assert_str_eq(FIELD("ETag"), etag);
	end();
}
END_TEST

START_TEST(a_get_of_what_the_client_has_is_304)
{
	static const char *const uris[] = { "/events", "/events/1", "/events/types/1",
		"/events?caregiver_id=17&limit=1" };

	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	ck_assert_int_eq(POST("/events", ONE), 201);
	for (size_t i = 0; i < COUNT(uris); i++) {
		char etag[64], list[256];

		ck_assert_int_eq(GET(uris[i]), 200);
		(void)stpcpy(etag, FIELD("ETag"));
		(void)snprintf(list, sizeof(list), "\"other\", W/%s", etag);
		ck_assert_int_eq(ASK(.method = "GET", .uri = uris[i], .if_none_match = etag), 304);
		ck_assert_str_eq(BODY, "");
		ck_assert_str_eq(FIELD("ETag"), etag);
		ck_assert_str_eq(FIELD("Cache-Control"), "no-cache");
		ck_assert_int_eq(ASK(.method = "HEAD", .uri = uris[i], .if_none_match = etag), 304);
		ck_assert_int_eq(ASK(.method = "GET", .uri = uris[i], .if_none_match = list), 304);
		ck_assert_int_eq(ASK(.method = "GET", .uri = uris[i], .if_none_match = "*"), 304);
		ck_assert_int_eq(
		    ASK(.method = "GET", .uri = uris[i], .if_none_match = "\"other\""), 200);
		ck_assert_int_eq(ASK(.method = "GET", .uri = uris[i], .if_none_match = "x"), 200);
	}
	ck_assert_int_eq(ASK(.method = "GET", .uri = "/events/9", .if_none_match = "*"), 404);
	end();
}
END_TEST

START_TEST(a_list_is_new_after_any_change)
{
	static const struct {
		const char *method, *uri, *body;
	} changes[] = {
		{ "POST", "/events", ONE },
		{ "POST", "/events/1/reimburse", NULL },
		{ "POST", "/events", ONE },
		{ "DELETE", "/events/2", NULL },
		{ "PUT", "/events/types/1", CARE },
	};
	char etag[64];

	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	for (size_t i = 0; i < COUNT(changes); i++) {
		ck_assert_int_eq(GET("/events"), 200);
		(void)stpcpy(etag, FIELD("ETag"));
		ck_assert_int_lt(ASK(.method = changes[i].method, .uri = changes[i].uri,
				     .body = changes[i].body),
		    300);
		ck_assert_int_eq(
		    ASK(.method = "GET", .uri = "/events", .if_none_match = etag), 200);
		ck_assert_str_ne(FIELD("ETag"), etag);
	}
	end();
}
END_TEST

START_TEST(a_change_of_what_the_client_has_not_seen_is_412)
{
	static const struct {
		const char *get, *method, *uri, *body;
		int status;
	} rows[] = {
		{ "/events/types/1", "PUT", "/events/types/1", CARE, 200 },
		{ "/events/1", "POST", "/events/1/reimburse", NULL, 200 },
		{ "/events/2", "DELETE", "/events/2", NULL, 204 },
		{ "/events/types/2", "DELETE", "/events/types/2", NULL, 204 },
	};

	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	ck_assert_int_eq(POST("/events/types", "{\"name\":\"x\",\"amount_in_cents\":0}"), 201);
	ck_assert_int_eq(POST("/events", ONE), 201);
	ck_assert_int_eq(POST("/events", ONE), 201);
	for (size_t i = 0; i < COUNT(rows); i++) {
		const char *no[] = { "\"other\"", NULL, "x", "\"a\", \"b\"" };
		char etag[64], weak[80], list[160];
		int64_t before = audit_count();

		ck_assert_int_eq(GET(rows[i].get), 200);
		(void)stpcpy(etag, FIELD("ETag"));
		(void)snprintf(weak, sizeof(weak), "W/%s", etag);
		(void)snprintf(list, sizeof(list), "\"other\", %s", etag);
		no[1] = weak;
		for (size_t j = 0; j < COUNT(no); j++) {
			ck_assert_int_eq(ASK(.method = rows[i].method, .uri = rows[i].uri,
					     .body = rows[i].body, .if_match = no[j]),
			    412);
			ck_has("\"type\":\"/problems/precondition-failed\"");
		}
		ck_assert_int_eq(audit_count(), before);
		ck_assert_int_eq(ASK(.method = rows[i].method, .uri = rows[i].uri,
				     .body = rows[i].body, .if_match = list),
		    rows[i].status);
	}
	ck_assert_int_eq(
	    ASK(.method = "PUT", .uri = "/events/types/1", .body = CARE, .if_match = "*"), 200);
	ck_assert_int_eq(
	    ASK(.method = "PUT", .uri = "/events/types/9", .body = CARE, .if_match = "*"), 404);
	ck_assert_int_eq(ASK(.method = "DELETE", .uri = "/events/1", .if_match = "\"1-0\""), 412);
	end();
}
END_TEST

/* --- Retries. */

static const struct {
	const char *method, *uri, *body, *type;
	int status, again; /* without a key */
	const char *other; /* another body */
} retried[] = {
	{ "POST", "/events/types", "{\"name\":\"x\",\"amount_in_cents\":0}", NULL, 201, 409, CARE },
	{ "POST", "/events", ONE, NULL, 201, 201, EVENT("1", "18", "2026-11-20T10:00:00Z") },
	{ "POST", "/events", ONE "\n" ONE "\n", NDJSON, 201, 201, ONE "\n" ONE },
	{ "POST", "/events/1/reimburse", NULL, NULL, 200, 409, "{}" },
};

START_TEST(a_request_with_the_same_key_is_answered_as_before_and_done_once)
{
	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	ck_assert_int_eq(POST("/events", ONE), 201);
	for (size_t i = 0; i < COUNT(retried); i++) {
		static char first[4096];
		char key[32];
		struct question q = { .method = retried[i].method,
			.uri = retried[i].uri,
			.body = retried[i].body,
			.type = retried[i].type,
			.key = key };
		int64_t audit;

		(void)snprintf(key, sizeof(key), "key-%zu", i);
		ck_assert_msg(ask_in(&one, &q) == retried[i].status, "%s", one.text);
		(void)stpcpy(first, answer_of(&one));
		audit = audit_count();
		for (int j = 0; j < 3; j++) {
			if (j == 2) { /* also after a restart */
				program.close();
				ck_assert_int_eq(program.open(conf), OK);
			}
			ck_assert_int_eq(ask_in(&one, &q), retried[i].status);
			ck_assert_str_eq(answer_of(&one), first);
			ck_assert_int_eq(audit_count(), audit);
		}
		q.body = retried[i].other;
		ck_assert_msg(ask_in(&one, &q) == 422, "%s %s", q.uri, one.text);
		ck_has("this Idempotency-Key came with another request before");
		ck_assert_int_eq(audit_count(), audit);
		q.body = retried[i].body;
		q.key = NULL;
		ck_assert_msg(ask_in(&one, &q) == retried[i].again, "%s %s", q.uri, one.text);
	}
	end();
}
END_TEST

START_TEST(a_key_belongs_to_one_path)
{
	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	ck_assert_int_eq(POST("/events", ONE), 201);
	ck_assert_int_eq(POST("/events", ONE), 201);
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/events/1/reimburse", .key = "k"), 200);
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/events/2/reimburse", .key = "k"), 422);
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/events", .body = ONE, .key = "k"), 422);
	ck_assert_int_eq(ASK(.method = "POST", .uri = "//events/1/reimburse/", .key = "k"), 200);
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/events/2/reimburse", .key = "K"), 200);
	end();
}
END_TEST

START_TEST(a_put_or_delete_has_no_key)
{
	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/events", .body = ONE, .key = "k"), 201);
	ck_assert_int_eq(
	    ASK(.method = "PUT", .uri = "/events/types/1", .body = CARE, .key = "k"), 200);
	ck_assert_int_eq(ASK(.method = "DELETE", .uri = "/events/1", .key = "k"), 204);
	ck_assert_int_eq(ASK(.method = "DELETE", .uri = "/events/1", .key = "k"), 404);
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/events", .body = ONE, .key = "k"), 201);
	ck_assert_str_eq(FIELD("Location"), "/events/1"); /* as the first time */
	end();
}
END_TEST

START_TEST(a_request_that_failed_is_not_remembered)
{
	begin();
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/events", .body = ONE, .key = "k"), 400);
	ck_assert_int_eq(
	    ASK(.method = "POST", .uri = "/events", .body = "x", .type = NDJSON, .key = "k"), 400);
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/events/1/reimburse", .key = "k"), 404);
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/events", .body = ONE, .key = "k"), 201);
	ck_assert_str_eq(FIELD("Location"), "/events/1");
	end();
}
END_TEST

START_TEST(a_key_is_up_to_128_printable_characters)
{
	char longest[130];

	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	memset(longest, 'k', sizeof(longest) - 1);
	longest[129] = '\0';
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/events", .body = ONE, .key = longest), 400);
	ck_has(BAD("Idempotency-Key", "must have at most 128 characters"));
	longest[128] = '\0';
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(
		    ASK(.method = "POST", .uri = "/events", .body = ONE, .key = longest), 201);
		ck_assert_str_eq(FIELD("Location"), "/events/1");
		ck_assert_int_eq(ASK(.method = "POST", .uri = "/events", .body = ONE,
				     .key = i == 0 ? "a b" : "\xc3\xa5"),
		    400);
		ck_has(BAD("Idempotency-Key", "must be printable ASCII without spaces"));
		ck_assert_int_eq(
		    ASK(.method = "POST", .uri = "/events", .body = ONE, .key = ""), 201);
		ck_assert_int_eq(ASK(.method = "POST", .uri = "/events", .body = ONE,
				     .type = NDJSON, .key = "\x7f"),
		    400);
	}
	ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), 3);
	end();
}
END_TEST

/* --- Many at once. */

START_TEST(of_many_who_reimburse_one_event_just_one_does)
{
	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	for (int i = 1; i <= 5; i++) {
		char uri[64];

		ck_assert_int_eq(POST("/events", ONE), 201);
		(void)snprintf(uri, sizeof(uri), "/events/%d/reimburse", i);
		raced = (struct question){ .method = "POST", .uri = uri };
		ck_assert_int_eq(run_race(200), 1);
		ck_assert_int_eq(data_ask("SELECT count(*) FROM audit "
					  "WHERE what = 'event reimbursed'"),
		    i);
	}
	end();
}
END_TEST

START_TEST(of_many_with_one_key_all_get_the_answer_of_the_one_that_is_done)
{
	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	raced = (struct question){ .method = "POST", .uri = "/events", .body = ONE, .key = "race" };
	ck_assert_int_eq(run_race(201), RACERS);
	for (size_t i = 1; i < RACERS; i++)
		ck_assert_str_eq(answer_of(&racers[i]), answer_of(&racers[0]));
	ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), 1);
	raced.key = NULL;
	ck_assert_int_eq(run_race(201), RACERS);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), RACERS + 1);
	end();
}
END_TEST

/* --- Lists. */

/* 60 events of 2 types and 3 caregivers, one each day from 2026-01-01 on; each 5th is reimbursed.
 */
static void
add_sixty(void)
{
	char body[256], start[CLOCK_TEXT_SIZE];

	ck_assert_int_eq(POST("/events/types", CARE), 201);
	ck_assert_int_eq(POST("/events/types", "{\"name\":\"x\",\"amount_in_cents\":0}"), 201);
	for (int i = 1; i <= 60; i++) {
		clock_text(instant("2026-01-01T00:00:00Z") + (i - 1) * DAY_US, start);
		(void)snprintf(body, sizeof(body),
		    "{\"type_id\":%d,\"caregiver_id\":%d,\"start_time\":\"%s\"}", 1 + i % 2,
		    1 + i % 3, start);
		ck_assert_int_eq(POST("/events", body), 201);
		(void)snprintf(body, sizeof(body), "/events/%d/reimburse", i);
		if (i % 5 == 0)
			ck_assert_int_eq(POST(body, NULL), 200);
	}
}

static const struct {
	const char *query;
	int count; /* of all pages */
	const char *kept; /* in each Link */
} queries[] = {
	{ "", 60, "</events?limit=7&cursor=" },
	{ "caregiver_id=1", 20, "</events?caregiver_id=1&limit=7&cursor=" },
	{ "caregiver_id=9", 0, "" },
	{ "caregiver_id=9223372036854775807", 0, "" },
	{ "type_id=2", 30, "</events?type_id=2&limit=7&cursor=" },
	{ "type_id=3", 0, "" },
	{ "reimbursed=true", 12, "</events?reimbursed=true&limit=7&cursor=" },
	{ "reimbursed=false", 48, "</events?reimbursed=false&limit=7&cursor=" },
	{ "min_time=2026-01-10T00:00:00Z", 50,
	    "</events?min_time=2026-01-10T00:00:00.000000Z&limit=7&cursor=" },
	{ "max_time=2026-01-10T00:00:00Z", 9,
	    "</events?max_time=2026-01-10T00:00:00.000000Z&limit=7&cursor=" },
	{ "min_time=2026-01-09T23:59:59.999999Z&max_time=2026-01-20T01:00:00%2B01:00", 10,
	    "</events?min_time=2026-01-09T23:59:59.999999Z&"
	    "max_time=2026-01-20T00:00:00.000000Z&limit=7&cursor=" },
	{ "min_time=2026-01-10T00:00:00Z&max_time=2026-01-10T00:00:00Z", 0, "" },
	{ "min_time=2026-02-10T00:00:00Z&max_time=2026-01-10T00:00:00Z", 0, "" },
	{ "max_time=9999-12-31T23:59:59.999999Z&min_time=1970-01-01T00:00:00Z", 60,
	    "</events?min_time=1970-01-01T00:00:00.000000Z&"
	    "max_time=9999-12-31T23:59:59.999999Z&limit=7&cursor=" },
	{ "reimbursed=false&type_id=1&caregiver_id=2&other=x%26y", 8,
	    "</events?caregiver_id=2&type_id=1&reimbursed=false&limit=7&cursor=" },
};

START_TEST(the_links_of_a_list_lead_through_all_that_fits)
{
	begin();
	add_sixty();
	for (size_t i = 0; i < COUNT(queries); i++) {
		char uri[1024];
		int count = 0, pages = 0;

		(void)snprintf(uri, sizeof(uri), "/events/?limit=7&%s", queries[i].query);
		while (uri[0] != '\0') {
			const char *link;
			int found;

			ck_assert_msg(GET(uri) == 200, "%s", one.text);
			found = count_in(BODY, "{\"id\":");
			count += found;
			pages++;
			link = FIELD("Link");
			if (link[0] == '\0')
				break;
			ck_assert_int_eq(found, 7);
			ck_assert_msg(strncmp(link, queries[i].kept, strlen(queries[i].kept)) == 0,
			    "%s", link);
			ck_assert_ptr_nonnull(strstr(link, ">; rel=\"next\""));
			(void)snprintf(
			    uri, sizeof(uri), "%.*s", (int)strcspn(link, ">") - 1, link + 1);
		}
		ck_assert_msg(count == queries[i].count, "%s: %d", queries[i].query, count);
		ck_assert_int_eq(pages, count == 0 ? 1 : (count + 6) / 7);
	}
	end();
}
END_TEST

START_TEST(types_come_by_pages_too_and_a_page_is_100_unless_asked)
{
	char body[128], uri[256];
	int count = 0;

	begin();
	for (int i = 1; i <= 101; i++) {
		(void)snprintf(
		    body, sizeof(body), "{\"name\":\"n%d\",\"amount_in_cents\":%d}", i, i);
		ck_assert_int_eq(POST("/events/types", body), 201);
	}
	ck_assert_int_eq(GET("/events/types"), 200);
	ck_assert_int_eq(count_in(BODY, "{\"id\":"), 100);
	ck_assert_str_eq(FIELD("Cache-Control"), "no-cache");
	(void)stpcpy(uri, "/events/types?limit=50");
	for (int page = 0; page < 3; page++) {
		ck_assert_int_eq(GET(uri), 200);
		count += count_in(BODY, "{\"id\":");
		(void)snprintf(uri, sizeof(uri), "%.*s", (int)strcspn(FIELD("Link"), ">") - 1,
		    FIELD("Link") + 1);
		ck_assert_int_eq(FIELD("Link")[0] == '\0', page == 2);
		if (page == 2)
			break;
	}
	ck_assert_int_eq(count, 101);
	ck_assert_int_eq(GET("/events/types?limit=1000"), 200);
	ck_assert_int_eq(count_in(BODY, "{\"id\":"), 101);
	end();
}
END_TEST

static const struct {
	const char *query, *errors;
} bad_queries[] = {
	{ "limit=0", BAD("limit", "must be a whole number of 1..1000") },
	{ "limit=1001", BAD("limit", "must be a whole number of 1..1000") },
	{ "limit=5.0", BAD("limit", "must be a whole number of 1..1000") },
	{ "cursor=5", BAD("cursor", "must be one that a Link header gave") },
	{ "caregiver_id=0",
	    BAD("caregiver_id", "must be a whole number of 1..9223372036854775807") },
	{ "caregiver_id=-1",
	    BAD("caregiver_id", "must be a whole number of 1..9223372036854775807") },
	{ "caregiver_id=9223372036854775808",
	    BAD("caregiver_id", "must be a whole number of 1..9223372036854775807") },
	{ "caregiver_id=1,2",
	    BAD("caregiver_id", "must be a whole number of 1..9223372036854775807") },
	{ "caregiver_id=1&caregiver_id=2", BAD("caregiver_id", "given twice") },
	{ "type_id=x", BAD("type_id", "must be a whole number of 1..9223372036854775807") },
	{ "type_id=", BAD("type_id", "must be a whole number of 1..9223372036854775807") },
	{ "reimbursed=1", BAD("reimbursed", "must be true or false") },
	{ "reimbursed=", BAD("reimbursed", "must be true or false") },
	{ "reimbursed", BAD("reimbursed", "must be true or false") },
	{ "reimbursed=TRUE", BAD("reimbursed", "must be true or false") },
	{ "reimbursed=true&reimbursed=true", BAD("reimbursed", "given twice") },
	{ "min_time=2026", BAD("min_time", TIME) },
	{ "max_time=", BAD("max_time", TIME) },
	{ "min_time=2026-11-20T10:00:00+01:00", BAD("min_time", TIME) },
	{ "limit=0&type_id=0&reimbursed=x&max_time=x",
	    BAD("limit", "must be a whole number of 1..1000") "," BAD(
		"type_id", "must be a whole number of 1..9223372036854775807") "," BAD("reimbursed",
		"must be true or false") "," BAD("max_time", TIME) },
};

START_TEST(a_bad_filter_is_named)
{
	char uri[256], errors[1024];

	begin();
	for (size_t i = 0; i < COUNT(bad_queries); i++) {
		(void)snprintf(uri, sizeof(uri), "/events?%s", bad_queries[i].query);
		ck_assert_msg(GET(uri) == 400, "%s", one.text);
		(void)snprintf(errors, sizeof(errors), "\"errors\":[%s]", bad_queries[i].errors);
		ck_has(errors);
	}
	ck_assert_int_eq(GET("/events/types?limit=x"), 400);
	ck_assert_int_eq(GET("/events/types?cursor=x"), 400);
	ck_assert_int_eq(GET("/events?cursor=%"), 400);
	end();
}
END_TEST

/* --- Prices. */

START_TEST(the_history_of_prices_is_kept_in_the_order_of_setting)
{
	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	ck_assert_int_eq(PUT("/events/types/1",
			     "{\"name\":\"care\",\"amount_in_cents\":2,"
			     "\"valid_from\":\"2099-01-01T00:00:00Z\"}"),
	    200);
	ck_has("\"amount_in_cents\":25000,");
	ck_assert_int_eq(PUT("/events/types/1",
			     "{\"name\":\"care\",\"amount_in_cents\":1,"
			     "\"valid_from\":\"2020-01-01T01:00:00+01:00\"}"),
	    200);
	ck_has("\"amount_in_cents\":1,");
	ck_assert_int_eq(GET("/events/types/1/prices"), 200);
	ck_assert_int_eq(count_in(BODY, "{\"amount_in_cents\":"), 3);
	ck_assert_ptr_eq(strstr(BODY,
			     "[{\"amount_in_cents\":25000,\"currency\":\"SEK\","
			     "\"valid_from\":\"1970-01-01T00:00:00.000000Z\",\"created_at\":\""),
	    BODY);
	ck_has("{\"amount_in_cents\":1,\"currency\":\"SEK\","
	       "\"valid_from\":\"2020-01-01T00:00:00.000000Z\"");
	ck_has("{\"amount_in_cents\":2,\"currency\":\"SEK\","
	       "\"valid_from\":\"2099-01-01T00:00:00.000000Z\"");
	ck_assert_str_eq(FIELD("Cache-Control"), "no-cache");
	ck_assert_int_eq(GET("/events/types/1/prices?limit=2"), 200);
	ck_assert_int_eq(count_in(BODY, "{\"amount_in_cents\":"), 2);
	ck_assert_ptr_nonnull(strstr(FIELD("Link"), "</events/types/1/prices?limit=2&cursor="));
	ck_assert_int_eq(POST("/events", EVENT("1", "1", "2019-12-31T23:59:59.999999Z")), 201);
	ck_has("\"amount_in_cents\":25000,");
	ck_assert_int_eq(POST("/events", EVENT("1", "1", "2020-01-01T00:00:00Z")), 201);
	ck_has("\"amount_in_cents\":1,");
	ck_assert_int_eq(POST("/events", EVENT("1", "1", "2099-01-01T00:00:00Z")), 201);
	ck_has("\"amount_in_cents\":2,");
	end();
}
END_TEST

/* --- Imports. */

static const struct {
	const char *text, *answer;
} imports[] = {
	{ "", "{\"created\":0}" },
	{ "\n\r\n", "{\"created\":0}" },
	{ ONE, "{\"created\":1}" },
	{ ONE "\r\n" ONE "\n\n" ONE "\n", "{\"created\":3}" },
};

START_TEST(an_import_tells_how_many_it_has_made)
{
	int64_t count = 0;

	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	for (size_t i = 0; i < COUNT(imports); i++) {
		ck_assert_msg(IMPORT(imports[i].text) == 201, "%s", one.text);
		ck_assert_str_eq(BODY, imports[i].answer);
		ck_assert_str_eq(FIELD("Location"), "");
		ck_assert_str_eq(FIELD("ETag"), "");
		count += atoi(imports[i].answer + 11);
		ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), count);
		ck_assert_int_eq(data_ask("SELECT sum(open_events) FROM sums "
					  "UNION ALL SELECT 0 LIMIT 1"),
		    count);
	}
	end();
}
END_TEST

START_TEST(an_import_is_as_long_as_it_likes)
{
	static char text[20000 * (sizeof(ONE) + 1)];
	size_t n = 0;

	begin();
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	for (int i = 0; i < 20000; i++)
		n += (size_t)sprintf(text + n, ONE "\n");
	ck_assert_uint_gt(n, REQUEST_BODY_MAX);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(ASK(.method = "POST", .uri = "/events", .body = text,
				     .type = NDJSON, .key = "import"),
		    201);
		ck_assert_str_eq(BODY, "{\"created\":20000}");
		ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), 20000);
	}
	/* The last line is bad: not one more. */
	text[n - 2] = ']';
	ck_assert_int_eq(IMPORT(text), 400);
	ck_has("line 20000: ");
	ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), 20000);
	end();
}
END_TEST

/* --- The entry window. */

START_TEST(only_an_admin_registers_events_before_the_entry_window)
{
	static const struct {
		unsigned roles;
		bool any;
	} rows[] = {
		{ ROLE_CAREGIVER, false },
		{ ROLE_MANAGER, false },
		{ ROLE_ACCOUNTANT, false },
		{ ROLE_NONE, false },
		{ 0, false },
		{ ROLE_CAREGIVER | ROLE_MANAGER | ROLE_ACCOUNTANT | ROLE_NONE, false },
		{ ROLE_ADMIN, true },
		{ ROLES_ALL, true },
	};
	static struct request req;

	begin_with("events: {entry_window_hours: 48}\n");
	ck_assert_int_eq(events.window_us, 48 * HOUR_US);
	for (size_t i = 0; i < COUNT(rows); i++) {
		int64_t before_us = clock_now_us(), earliest_us;

		req.roles = rows[i].roles;
		events.window_us = 48 * HOUR_US;
		earliest_us = events_earliest(&req);
		if (rows[i].any) {
			ck_assert_int_eq(earliest_us, INT64_MIN);
		} else {
			ck_assert_int_ge(earliest_us, before_us - 48 * HOUR_US);
			ck_assert_int_le(earliest_us, clock_now_us() - 48 * HOUR_US);
		}
		events.window_us = 0;
		ck_assert_int_eq(events_earliest(&req), INT64_MIN);
	}
	end();
}
END_TEST

/* An event that began an hour ago, under KEY, as text of TYPE. */
static int
register_as(unsigned roles, const char *type, const char *key)
{
	static char body[256];
	static int64_t start_us;
	char start[CLOCK_TEXT_SIZE];
	const struct question q = {
		.method = "POST", .uri = "/events", .body = body, .type = type, .key = key
	};

	if (start_us == 0)
		start_us = clock_now_us() - HOUR_US;
	clock_text(start_us, start);
	(void)snprintf(
	    body, sizeof(body), "{\"type_id\":1,\"caregiver_id\":17,\"start_time\":\"%s\"}", start);
	return ask_as(roles, "/events", &q);
}

START_TEST(an_event_within_the_window_is_taken_and_a_retry_also_after_it)
{
	static const char *const kinds[] = { "application/json", NDJSON };

	begin_with("events: {entry_window_hours: 2}\n");
	ck_assert_int_eq(POST("/events/types", CARE), 201);
	for (size_t i = 0; i < COUNT(kinds); i++) {
		char first[2048];

		events.window_us = 2 * HOUR_US;
		ck_assert_int_eq(register_as(ROLE_CAREGIVER, kinds[i], kinds[i]), 201);
		(void)snprintf(first, sizeof(first), "%.2000s", BODY);
		events.window_us = HOUR_US / 2;
		ck_assert_int_eq(register_as(ROLE_CAREGIVER, kinds[i], kinds[i]), 201);
		ck_assert_str_eq(BODY, first);
		ck_assert_int_eq(register_as(ROLE_CAREGIVER, kinds[i], NULL), 400);
		ck_assert(i == 0 ? has(BAD("#/start_time", "is before the entry window"))
				 : has(BAD("#/start_time", "line 1: is before the entry window")));
		ck_assert_int_eq(register_as(ROLE_MANAGER, kinds[i], "other"), 400);
		ck_assert_int_eq(register_as(ROLE_ADMIN, kinds[i], NULL), 201);
		ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), 2 * ((int64_t)i + 1));
	}
	ck_assert_str_eq(
	    data_rows("SELECT DISTINCT name FROM audit JOIN audit_actors ON id = actor "
		      "WHERE what = 'event created'"),
	    "somebody\n");
	end();
}
END_TEST

/* --- The storage. */

START_TEST(a_change_leaves_its_row_in_the_audit)
{
	begin();
	for (size_t i = 0; i < COUNT(steps); i++)
		(void)ASK(.method = steps[i].method, .uri = steps[i].uri, .body = steps[i].body);
	ck_assert_int_eq(IMPORT(ONE "\n" ONE), 201);
	ck_assert_str_eq(data_rows("SELECT name || ' ' || what || ' ' || subject FROM audit "
				   "JOIN audit_actors ON id = actor ORDER BY seq"),
	    "anonymous type created 1\nanonymous type created 2\nanonymous event created 1\n"
	    "anonymous event created 2\nanonymous type changed 1\nanonymous event created 3\n"
	    "anonymous event created 4\nanonymous event reimbursed 1\n"
	    "anonymous event deleted 2\nanonymous type deleted 2\nanonymous event created 5\n"
	    "anonymous event created 6\n");
	end();
}
END_TEST

START_TEST(without_its_database_it_is_busy_and_says_so)
{
	static const char *const uris[] = { "/events", "/events/1", "/events/types",
		"/events/types/1", "/events/types/1/prices", "/healthz/events" };

	folder_begin();
	ck_assert_int_eq(rmdir("db"), 0);
	ck_assert_int_eq(conf_parse("", 0, "test", &(const struct conf_options){ 0 }, &conf), OK);
	ck_assert_int_eq(program.open(conf), OK);
	for (size_t i = 0; i < COUNT(uris); i++) {
		ck_assert_int_eq(GET(uris[i]), 503);
		ck_assert_str_ne(FIELD("Retry-After"), "");
		ck_assert(!has("SQL") && !has("events.db"));
	}
	ck_assert_int_eq(POST("/events", ONE), 503);
	ck_assert_int_eq(IMPORT(ONE), 503);
	ck_assert_int_eq(DELETE("/events/1"), 503);
	ck_assert_int_eq(POST("/events", "{}"), 400);
	program.close();
	conf_close(conf);
	folder_end();
}
END_TEST

CHECK_MAIN(events,
    { every_route_is_listed_here_and_has_the_roles_of_the_contract,
	each_call_answers_as_the_contract_says, other_methods_and_types_follow_the_table,
	head_is_get_without_its_body, a_bad_type_is_refused_with_each_bad_field,
	a_bad_event_price_or_import_is_refused_and_changes_nothing,
	numbers_are_exact_and_what_is_not_asked_for_is_ignored, a_name_has_1_to_200_characters,
	a_body_is_of_the_right_type_and_not_too_long,
	a_single_resource_has_a_strong_etag_until_it_changes, a_get_of_what_the_client_has_is_304,
	a_list_is_new_after_any_change, a_change_of_what_the_client_has_not_seen_is_412,
	a_request_with_the_same_key_is_answered_as_before_and_done_once, a_key_belongs_to_one_path,
	a_put_or_delete_has_no_key, a_request_that_failed_is_not_remembered,
	a_key_is_up_to_128_printable_characters, of_many_who_reimburse_one_event_just_one_does,
	of_many_with_one_key_all_get_the_answer_of_the_one_that_is_done,
	the_links_of_a_list_lead_through_all_that_fits,
	types_come_by_pages_too_and_a_page_is_100_unless_asked, a_bad_filter_is_named,
	the_history_of_prices_is_kept_in_the_order_of_setting, an_import_tells_how_many_it_has_made,
	an_import_is_as_long_as_it_likes, only_an_admin_registers_events_before_the_entry_window,
	an_event_within_the_window_is_taken_and_a_retry_also_after_it,
	a_change_leaves_its_row_in_the_audit, without_its_database_it_is_busy_and_says_so })
