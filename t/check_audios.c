#include "data_set.h"
#include "exchange.h"

#define BODY_MAX (64 * 1024)
#define FOURTEEN "-10,-11,-12,-13,-14,-15,-16,-17,-18,-19,-20,-21,-22,-23"
#define TICKS FOURTEEN ",-33.333333333333336"
#define REST "\"ticks\":[" TICKS "],\"selected_tick\":3,\"step_count\":4"
#define SESSION(id) "{\"session_id\":" id "," REST "}"
#define BARE "{" REST "}"
#define OTHER "{\"ticks\":[" FOURTEEN ",-100],\"selected_tick\":0,\"step_count\":9}"

static struct conf *conf;

static void
begin(void)
{
	const struct conf_options options = { 0 };

	folder_begin();
	ck_assert_int_eq(conf_parse("", 0, "test", &options, &conf), OK);
	ck_assert_msg(program.open(conf) == OK, "%s", err_words());
	ck_assert_int_eq(db_open(AUDIO_FILE, DB_READ, &audio_schema, &db), OK);
}

static void
end(void)
{
	db_close(db);
	program.close();
	conf_close(conf);
	folder_end();
}

static int64_t
count_rows(void)
{
	return data_ask("SELECT count(*) FROM audios");
}

/* --- The routes. */

#define ROLES (ROLE_MANAGER | ROLE_ADMIN)

static const struct listed_route listed[] = {
	{ METHOD_GET, "/audios", ROLES },
	{ METHOD_POST, "/audios", ROLES },
	{ METHOD_GET, "/audios/{session_id}", ROLES },
	{ METHOD_PUT, "/audios/{session_id}", ROLES },
	{ METHOD_DELETE, "/audios/{session_id}", ROLES },
	{ METHOD_GET, "/healthz/audios", ROLES_ANYONE },
	{ METHOD_GET, "/metrics/audios", ROLE_ADMIN },
};

START_TEST(every_route_is_listed_here_and_has_the_roles_of_the_contract)
{
	ck_assert_str_eq(program.name, "audios");
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
	{ "GET", "/healthz/audios", NULL, 200, "", "{\"status\":\"ok\"}" },
	{ "GET", "/audios", NULL, 200, "", "[]" },
	{ "GET", "/audios/0", NULL, 404, "", "there is no session 0" },
	{ "PUT", "/audios/0", BARE, 404, "", "there is no session 0" },
	{ "DELETE", "/audios/0", NULL, 404, "", "there is no session 0" },
	{ "POST", "/audios", SESSION("0"), 201, "/audios/0",
	    "{\"session_id\":0," REST ",\"created_at\":\"" },
	{ "POST", "/audios/", SESSION("9223372036854775807"), 201, "/audios/9223372036854775807",
	    "{\"session_id\":9223372036854775807," REST },
	{ "POST", "/audios", SESSION("0"), 409, "", "there is a session 0 already" },
	{ "POST", "/audios", SESSION("0.0"), 409, "", "there is a session 0 already" },
	{ "GET", "/audios/0", NULL, 200, "", "{\"session_id\":0," REST ",\"created_at\":\"" },
	{ "GET", "/audios/0/", NULL, 200, "", "{\"session_id\":0," REST },
	{ "GET", "/audios/9223372036854775807", NULL, 200, "",
	    "{\"session_id\":9223372036854775807," },
	{ "GET", "/audios", NULL, 200, "", "[{\"session_id\":0," REST },
	{ "PUT", "/audios/0", OTHER, 200, "",
	    "{\"session_id\":0,\"ticks\":[" FOURTEEN ",-100],\"selected_tick\":0,"
	    "\"step_count\":9,\"created_at\":\"" },
	{ "GET", "/audios/0", NULL, 200, "", "\"selected_tick\":0,\"step_count\":9," },
	{ "PUT", "/audios/0", SESSION("0"), 200, "", "{\"session_id\":0," REST },
	{ "PUT", "/audios/0", SESSION("1"), 400, "",
	    "{\"detail\":\"must be that of the address\",\"pointer\":\"#/session_id\"}" },
	{ "DELETE", "/audios/0", NULL, 204, "", NULL },
	{ "DELETE", "/audios/0", NULL, 404, "", "there is no session 0" },
	{ "GET", "/audios/0", NULL, 404, "", "there is no session 0" },
	{ "PUT", "/audios/0", BARE, 404, "", "there is no session 0" },
	{ "POST", "/audios", SESSION("0"), 201, "/audios/0", "{\"session_id\":0," REST },
	{ "GET", "/audios", NULL, 200, "", "[{\"session_id\":9223372036854775807," REST },
	/* What is no number is nothing. */
	{ "GET", "/audios/-1", NULL, 404, "", "there is nothing at this address" },
	{ "GET", "/audios/1.0", NULL, 404, "", "there is nothing at this address" },
	{ "GET", "/audios/x", NULL, 404, "", "there is nothing at this address" },
	{ "GET", "/audios/9223372036854775808", NULL, 404, "", "nothing at this address" },
	{ "PUT", "/audios/x", BARE, 404, "", "there is nothing at this address" },
	{ "DELETE", "/audios/x", NULL, 404, "", "there is nothing at this address" },
	{ "GET", "/audios/0/ticks", NULL, 404, "", "there is nothing at this address" },
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

START_TEST(a_put_changes_all_but_the_number_and_when_it_was_made)
{
	char made[CLOCK_TEXT_SIZE], times[128];

	begin();
	ck_assert_int_eq(POST("/audios", SESSION("5")), 201);
	(void)snprintf(made, sizeof(made), "%s", strstr(BODY, "\"created_at\":\"20") + 14);
	(void)snprintf(
	    times, sizeof(times), "\"created_at\":\"%s\",\"updated_at\":\"%s\"}", made, made);
	ck_has(times);
	ck_assert_int_eq(PUT("/audios/5", OTHER), 200);
	ck_assert(!has(times));
	times[strlen("\"created_at\":\"") + strlen(made) + 1] = '\0';
	ck_has(times);
	ck_assert_int_eq(PUT("/audios/5", "{\"step_count\":1}"), 400); /* it is no patch */
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
		{ "OPTIONS", "/audios", NULL, 204, "GET, HEAD, POST, OPTIONS" },
		{ "OPTIONS", "/audios/1", NULL, 204, "GET, HEAD, PUT, DELETE, OPTIONS" },
		{ "PUT", "/audios", NULL, 405, "GET, HEAD, POST, OPTIONS" },
		{ "DELETE", "/audios", NULL, 405, "GET, HEAD, POST, OPTIONS" },
		{ "PATCH", "/audios/1", NULL, 405, "GET, HEAD, PUT, DELETE, OPTIONS" },
		{ "POST", "/audios/1", NULL, 405, "GET, HEAD, PUT, DELETE, OPTIONS" },
		{ "GET", "/audios", "text/csv", 406, "" },
		{ "GET", "/audios", "application/*", 200, "" },
	};

	begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		int status =
		    ASK(.method = rows[i].method, .uri = rows[i].uri, .accept = rows[i].accept);

		ck_assert_msg(
		    status == rows[i].status, "%s %s: %d", rows[i].method, rows[i].uri, status);
		ck_assert_str_eq(FIELD("Allow"), rows[i].allow);
	}
	end();
}
END_TEST

START_TEST(head_is_get_without_its_body)
{
	static const char *const uris[] = { "/audios", "/audios/1", "/audios?limit=1",
		"/audios?limit=0", "/audios/9", "/healthz/audios" };
	static const char *const fields[] = { "Status", "Content-Type", "Content-Length", "ETag",
		"Cache-Control", "Link" };

	begin();
	ck_assert_int_eq(POST("/audios", SESSION("1")), 201);
	ck_assert_int_eq(POST("/audios", SESSION("2")), 201);
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

#define ID BAD("#/session_id", "must be a whole number of 0..9223372036854775807")
#define LIST BAD("#/ticks", "must be a list of 15 numbers")
#define TICK(i) BAD("#/ticks/" i, "must be a number of -100..-10")
#define SELECTED BAD("#/selected_tick", "must be a whole number of 0..14")
#define STEPS BAD("#/step_count", "must be a whole number of 0..9")
#define NO(name) BAD("#/" name, "is required")
#define WITH(id, ticks, selected, count) \
	"{\"session_id\":" id ",\"ticks\":[" ticks "],\"selected_tick\":" selected \
	",\"step_count\":" count "}"

static const struct {
	const char *body;
	const char *errors; /* all of them; "": the words are in DETAIL */
	const char *detail;
} bad[] = {
	{ "", "", "a value belongs here" },
	{ "[]", "", "the body must be a JSON object" },
	{ SESSION("1") "x", "", "nothing may follow the value" },
	{ "{\"step_count\":1,\"step_count\":1}", BAD("#/step_count", "given twice"), NULL },
	{ "{\"x\":\"\xff\"}", BAD("#/x", "not UTF-8"), NULL },
	{ "{}", NO("session_id") "," NO("ticks") "," NO("selected_tick") "," NO("step_count"),
	    NULL },
	{ "{\"session_id\":null,\"ticks\":null,\"selected_tick\":null,\"step_count\":null}",
	    NO("session_id") "," NO("ticks") "," NO("selected_tick") "," NO("step_count"), NULL },
	{ WITH("-1", FOURTEEN, "15", "10"), ID "," LIST "," SELECTED "," STEPS, NULL },
	{ WITH("\"1\"", TICKS, "\"1\"", "\"1\""), ID "," SELECTED "," STEPS, NULL },
	{ WITH("1.5", TICKS, "-1", "-1"), ID "," SELECTED "," STEPS, NULL },
	{ WITH("true", TICKS, "0.5", "[]"), ID "," SELECTED "," STEPS, NULL },
	{ WITH("9223372036854775808", TICKS, "1", "1"),
	    BAD("#/session_id", "the number does not fit in 64 bits"), NULL },
	{ WITH("1", "", "1", "1"), LIST, NULL },
	{ WITH("1", FOURTEEN, "1", "1"), LIST, NULL },
	{ WITH("1", TICKS ",-10", "1", "1"), LIST, NULL },
	{ WITH("1", FOURTEEN ",-9.99", "1", "1"), TICK("14"), NULL },
	{ WITH("1", FOURTEEN ",-9.99999999999999999999", "1", "1"), TICK("14"), NULL },
	{ WITH("1", FOURTEEN ",-100.00000000000000000001", "1", "1"), TICK("14"), NULL },
	{ WITH("1", FOURTEEN ",-101", "1", "1"), TICK("14"), NULL },
	{ WITH("1", FOURTEEN ",10", "1", "1"), TICK("14"), NULL },
	{ WITH("1", FOURTEEN ",\"-10\"", "1", "1"), TICK("14"), NULL },
	{ WITH("1", FOURTEEN ",null", "1", "1"), TICK("14"), NULL },
	{ WITH("1", FOURTEEN ",[-10]", "1", "1"), TICK("14"), NULL },
	{ WITH("1", FOURTEEN ",-1e300", "1", "1"), TICK("14"), NULL },
	{ WITH("1", FOURTEEN ",-1e400", "1", "1"), BAD("#/ticks/14", "the number is too large"),
	    NULL },
	{ WITH("1", "0,-10,-10,1,-10,-10,-10,-10,-10,-10,-10,-10,-10,-10,\"\"", "1", "1"),
	    TICK("0") "," TICK("3") "," TICK("14"), NULL },
	{ "{\"session_id\":1,\"ticks\":-10,\"selected_tick\":1,\"step_count\":1}", LIST, NULL },
	{ "{\"session_id\":1,\"ticks\":{\"0\":-10},\"selected_tick\":1,\"step_count\":1}", LIST,
	    NULL },
};

START_TEST(each_bad_field_is_named_and_nothing_changes)
{
	char errors[4096];

	begin();
	ck_assert_int_eq(POST("/audios", SESSION("1")), 201);
	for (size_t i = 0; i < COUNT(bad); i++) {
		ck_assert_msg(POST("/audios", bad[i].body) == 400, "%s", bad[i].body);
		ck_has("\"type\":\"/problems/invalid-input\"");
		if (bad[i].errors[0] == '\0') {
			ck_assert(!has("\"errors\":["));
			ck_has(bad[i].detail);
		} else {
			(void)snprintf(errors, sizeof(errors), "\"errors\":[%s]", bad[i].errors);
			ck_has(errors);
		}
		ck_assert_msg(PUT("/audios/1", bad[i].body) == 400, "%s", bad[i].body);
	}
	ck_assert_int_eq(count_rows(), 1);
	ck_assert_int_eq(GET("/audios/1"), 200);
	ck_has("{\"session_id\":1," REST);
	end();
}
END_TEST

START_TEST(bounds_are_inclusive_and_what_is_not_asked_for_is_ignored)
{
	static const char *const good[] = { WITH("10", FOURTEEN ",-10", "0", "0"),
		WITH("11", FOURTEEN ",-100", "14", "9"), WITH("12.0", TICKS, "1e0", "9.0"),
		"{\"created_at\":1,\"id\":[],\"session_id\":13," REST "}" };

	begin();
	for (size_t i = 0; i < COUNT(good); i++) {
		ck_assert_msg(POST("/audios", good[i]) == 201, "%s", one.text);
		ck_assert(!has("\"id\":") && !has("\"created_at\":1,"));
	}
	end();
}
END_TEST

START_TEST(a_body_is_of_the_right_type_and_not_too_long)
{
	static char text[BODY_MAX + 2];
	static const struct {
		const char *method, *uri, *type, *encoding;
		int status;
	} rows[] = {
		{ "POST", "/audios", "", NULL, 415 },
		{ "POST", "/audios", "text/plain", NULL, 415 },
		{ "POST", "/audios", "application/x-ndjson", NULL, 415 },
		{ "POST", "/audios", "application/json", "gzip", 415 },
		{ "PUT", "/audios/7", "text/json", NULL, 415 },
		{ "POST", "/audios", "Application/JSON; charset=utf-8", "identity", 201 },
		{ "PUT", "/audios/7", "application/json", "identity", 200 },
	};

	begin();
	for (size_t i = 0; i < COUNT(rows); i++)
		ck_assert_msg(
		    ASK(.method = rows[i].method, .uri = rows[i].uri, .body = SESSION("7"),
			.type = rows[i].type, .encoding = rows[i].encoding) == rows[i].status,
		    "%zu: %s", i, one.text);
	memset(text, ' ', sizeof(text) - 1);
	memcpy(text, SESSION("8"), sizeof(SESSION("8")) - 1);
	ck_assert_int_eq(POST("/audios", text), 413);
	ck_assert_int_eq(PUT("/audios/8", text), 413);
	text[BODY_MAX] = '\0';
	ck_assert_int_eq(POST("/audios", text), 201);
	ck_assert_int_eq(PUT("/audios/8", text), 200);
	end();
}
END_TEST

/* --- Conditions. */

START_TEST(a_get_of_what_the_client_has_is_304)
{
	static const char *const uris[] = { "/audios", "/audios/1",
		"/audios?step_count=4&limit=1" };

	begin();
	ck_assert_int_eq(POST("/audios", SESSION("1")), 201);
	for (size_t i = 0; i < COUNT(uris); i++) {
		char etag[ETAG_MAX];

		ck_assert_int_eq(GET(uris[i]), 200);
		(void)stpcpy(etag, FIELD("ETag"));
		ck_assert_str_eq(FIELD("Cache-Control"), "no-cache");
		ck_assert(etag[0] == '"' && etag[strlen(etag) - 1] == '"');
		ck_assert_int_eq(ASK(.method = "GET", .uri = uris[i], .if_none_match = etag), 304);
		ck_assert_str_eq(BODY, "");
		ck_assert_str_eq(FIELD("ETag"), etag);
		ck_assert_str_eq(FIELD("Cache-Control"), "no-cache");
		ck_assert_int_eq(ASK(.method = "HEAD", .uri = uris[i], .if_none_match = etag), 304);
		ck_assert_int_eq(
		    ASK(.method = "GET", .uri = uris[i], .if_none_match = "\"x\""), 200);
		ck_assert_int_eq(PUT("/audios/1", BARE), 200);
		ck_assert_int_eq(ASK(.method = "GET", .uri = uris[i], .if_none_match = etag), 200);
		ck_assert_str_ne(FIELD("ETag"), etag);
	}
	ck_assert_int_eq(ASK(.method = "GET", .uri = "/audios/9", .if_none_match = "*"), 404);
	end();
}
END_TEST

START_TEST(a_list_is_new_after_any_change_of_what_it_shows)
{
	static const struct {
		const char *method, *uri, *body;
	} changes[] = {
		{ "POST", "/audios", SESSION("1") },
		{ "PUT", "/audios/1", BARE },
		{ "POST", "/audios", SESSION("2") },
		{ "DELETE", "/audios/2", NULL },
		{ "POST", "/audios", SESSION("2") },
	};
	char etags[COUNT(changes) + 1][ETAG_MAX];

	begin();
	for (size_t i = 0; i <= COUNT(changes); i++) {
		ck_assert_int_eq(GET("/audios?limit=1"), 200);
		ck_assert_int_eq(GET("/audios"), 200);
		(void)stpcpy(etags[i], FIELD("ETag"));
		if (i < COUNT(changes))
			ck_assert_int_lt(ASK(.method = changes[i].method, .uri = changes[i].uri,
					     .body = changes[i].body),
			    300);
	}
	for (size_t i = 1; i <= COUNT(changes); i++)
		for (size_t j = 0; j < i; j++) /* without 2 it is as it was before */
			ck_assert_int_eq(strcmp(etags[i], etags[j]) == 0, i == 4 && j == 2);
	end();
}
END_TEST

START_TEST(a_change_of_what_the_client_has_not_seen_is_412)
{
	static const struct {
		const char *method, *body;
		int status;
	} rows[] = { { "PUT", OTHER, 200 }, { "DELETE", NULL, 204 } };

	begin();
	ck_assert_int_eq(POST("/audios", SESSION("1")), 201);
	for (size_t i = 0; i < COUNT(rows); i++) {
		const char *no[] = { "\"other\"", NULL, "x" };
		char etag[ETAG_MAX], weak[ETAG_MAX + 2];

		ck_assert_int_eq(GET("/audios/1"), 200);
		(void)stpcpy(etag, FIELD("ETag"));
		(void)snprintf(weak, sizeof(weak), "W/%s", etag);
		no[1] = weak;
		for (size_t j = 0; j < COUNT(no); j++) {
			ck_assert_int_eq(ASK(.method = rows[i].method, .uri = "/audios/1",
					     .body = rows[i].body, .if_match = no[j]),
			    412);
			ck_has("\"type\":\"/problems/precondition-failed\"");
		}
		ck_assert_int_eq(GET("/audios/1"), 200);
		ck_assert_str_eq(FIELD("ETag"), etag);
		ck_assert_int_eq(ASK(.method = rows[i].method, .uri = "/audios/1",
				     .body = rows[i].body, .if_match = etag),
		    rows[i].status);
	}
	ck_assert_int_eq(
	    ASK(.method = "PUT", .uri = "/audios/1", .body = BARE, .if_match = "*"), 404);
	end();
}
END_TEST

/* --- Retries. */

START_TEST(a_request_with_the_same_key_is_answered_as_before_and_done_once)
{
	static char first[4096];
	struct question q = {
		.method = "POST", .uri = "/audios", .body = SESSION("1"), .key = "key-1"
	};

	begin();
	ck_assert_int_eq(ask_in(&one, &q), 201);
	(void)stpcpy(first, answer_of(&one));
	for (int i = 0; i < 3; i++) {
		if (i == 1) { /* also after a restart */
			program.close();
			ck_assert_int_eq(program.open(conf), OK);
		}
		if (i == 2) /* and of what is not there any more */
			ck_assert_int_eq(DELETE("/audios/1"), 204);
		ck_assert_int_eq(ask_in(&one, &q), 201);
		ck_assert_str_eq(answer_of(&one), first);
		ck_assert_int_eq(count_rows(), i < 2);
	}
	q.body = SESSION("2");
	ck_assert_int_eq(ask_in(&one, &q), 422);
	ck_assert_int_eq(count_rows(), 0);
	q.key = NULL;
	ck_assert_int_eq(ask_in(&one, &q), 201);
	q.key = "key-2"; /* what failed is not remembered */
	ck_assert_int_eq(ask_in(&one, &q), 409);
	ck_assert_int_eq(DELETE("/audios/2"), 204);
	ck_assert_int_eq(ask_in(&one, &q), 201);
	q.key = "a b";
	ck_assert_int_eq(ask_in(&one, &q), 400);
	ck_has("\"pointer\":\"Idempotency-Key\"");
	end();
}
END_TEST

/* --- Many at once. */

START_TEST(of_many_who_change_one_session_at_once_one_does)
{
	char etag[ETAG_MAX];

	begin();
	for (int i = 0; i < 5; i++) {
		raced =
		    (struct question){ .method = "POST", .uri = "/audios", .body = SESSION("1") };
		ck_assert_int_eq(run_race(201), 1);
		ck_assert_int_eq(count_rows(), 1);
		ck_assert_int_eq(GET("/audios/1"), 200);
		(void)stpcpy(etag, FIELD("ETag"));
		raced = (struct question){
			.method = "PUT", .uri = "/audios/1", .body = OTHER, .if_match = etag
		};
		ck_assert_int_eq(run_race(200), 1);
		ck_assert_int_eq(run_race(412), RACERS);
		raced = (struct question){ .method = "DELETE", .uri = "/audios/1" };
		ck_assert_int_eq(run_race(204), 1);
		ck_assert_int_eq(count_rows(), 0);
	}
	end();
}
END_TEST

/* --- Lists. */

/* 60 sessions, the last number first; selected_tick and step_count are the number's rests. */
static void
add_sixty(void)
{
	char body[512];

	for (int i = 60; i >= 1; i--) {
		(void)snprintf(body, sizeof(body),
		    "{\"session_id\":%d,\"ticks\":[" TICKS "],\"selected_tick\":%d,"
		    "\"step_count\":%d}",
		    i, i % 3, i % 4);
		ck_assert_int_eq(POST("/audios", body), 201);
	}
}

static const struct {
	const char *query;
	int count; /* of all pages */
	const char *kept; /* in each Link */
} queries[] = {
	{ "", 60, "</audios?limit=7&cursor=" },
	{ "session_id=17", 1, "" },
	{ "session_id=0", 0, "" },
	{ "session_id=9223372036854775807", 0, "" },
	{ "selected_tick=2", 20, "</audios?selected_tick=2&limit=7&cursor=" },
	{ "selected_tick=0", 20, "</audios?selected_tick=0&limit=7&cursor=" },
	{ "selected_tick=14", 0, "" },
	{ "step_count=0", 15, "</audios?step_count=0&limit=7&cursor=" },
	{ "step_count=9", 0, "" },
	{ "selected_tick=1&step_count=1", 5, "" },
	{ "step_count=1&selected_tick=1&session_id=13&other=x%26y", 1, "" },
	{ "step_count=1&selected_tick=1&session_id=14", 0, "" },
};

START_TEST(the_links_of_a_list_lead_through_all_that_fits)
{
	begin();
	add_sixty();
	for (size_t i = 0; i < COUNT(queries); i++) {
		char uri[1024];
		int count = 0, last = 61;

		(void)snprintf(uri, sizeof(uri), "/audios/?limit=7&%s", queries[i].query);
		for (;;) {
			const char *link;

			ck_assert_msg(GET(uri) == 200, "%s", one.text);
			for (const char *at = BODY; (at = strstr(at, "\"session_id\":")) != NULL;
			     at++) {
				ck_assert_int_lt(atoi(at + 13), last);
				last = atoi(at + 13);
				count++;
			}
			link = FIELD("Link");
			if (link[0] == '\0')
				break;
			ck_assert_int_eq(count_in(BODY, "{\"session_id\":"), 7);
			ck_assert_str_ne(queries[i].kept, "");
			ck_assert_msg(strncmp(link, queries[i].kept, strlen(queries[i].kept)) == 0,
			    "%s", link);
			ck_assert_ptr_nonnull(strstr(link, ">; rel=\"next\""));
			(void)snprintf(
			    uri, sizeof(uri), "%.*s", (int)strcspn(link, ">") - 1, link + 1);
		}
		ck_assert_msg(count == queries[i].count, "%s: %d", queries[i].query, count);
	}
	end();
}
END_TEST

#define ID_FILTER BAD("session_id", "must be a whole number of 0..9223372036854775807")
#define TICK_FILTER BAD("selected_tick", "must be a whole number of 0..14")
#define STEP_FILTER BAD("step_count", "must be a whole number of 0..9")

START_TEST(a_bad_filter_is_named)
{
	static const char *const rows[][2] = {
		{ "limit=0", BAD("limit", "must be a whole number of 1..1000") },
		{ "limit=1001", BAD("limit", "must be a whole number of 1..1000") },
		{ "cursor=5", BAD("cursor", "must be one that a Link header gave") },
		{ "session_id=-1", ID_FILTER },
		{ "session_id=9223372036854775808", ID_FILTER },
		{ "session_id=", ID_FILTER },
		{ "session_id=1&session_id=1", BAD("session_id", "given twice") },
		{ "selected_tick=15", TICK_FILTER },
		{ "selected_tick=1.0", TICK_FILTER },
		{ "step_count=10", STEP_FILTER },
		{ "step_count=x", STEP_FILTER },
		{ "session_id=x&step_count=-1&selected_tick=",
		    ID_FILTER "," TICK_FILTER "," STEP_FILTER },
	};
	char uri[256], errors[1024];

	begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		(void)snprintf(uri, sizeof(uri), "/audios?%s", rows[i][0]);
		ck_assert_msg(GET(uri) == 400, "%s", one.text);
		(void)snprintf(errors, sizeof(errors), "\"errors\":[%s]", rows[i][1]);
		ck_has(errors);
	}
	end();
}
END_TEST

START_TEST(without_its_database_it_is_busy_and_says_so)
{
	static const char *const uris[] = { "/audios", "/audios/1", "/healthz/audios" };

	folder_begin();
	ck_assert_int_eq(rmdir("db"), 0);
	ck_assert_int_eq(conf_parse("", 0, "test", &(const struct conf_options){ 0 }, &conf), OK);
	ck_assert_int_eq(program.open(conf), OK);
	for (size_t i = 0; i < COUNT(uris); i++) {
		ck_assert_int_eq(GET(uris[i]), 503);
		ck_assert_str_ne(FIELD("Retry-After"), "");
		ck_assert(!has("SQL") && !has("audios.db"));
	}
	ck_assert_int_eq(POST("/audios", SESSION("1")), 503);
	ck_assert_int_eq(PUT("/audios/1", BARE), 503);
	ck_assert_int_eq(DELETE("/audios/1"), 503);
	ck_assert_int_eq(POST("/audios", "{}"), 400);
	program.close();
	conf_close(conf);
	folder_end();
}
END_TEST

CHECK_MAIN(audios,
    { every_route_is_listed_here_and_has_the_roles_of_the_contract,
	each_call_answers_as_the_contract_says,
	a_put_changes_all_but_the_number_and_when_it_was_made,
	other_methods_and_types_follow_the_table, head_is_get_without_its_body,
	each_bad_field_is_named_and_nothing_changes,
	bounds_are_inclusive_and_what_is_not_asked_for_is_ignored,
	a_body_is_of_the_right_type_and_not_too_long, a_get_of_what_the_client_has_is_304,
	a_list_is_new_after_any_change_of_what_it_shows,
	a_change_of_what_the_client_has_not_seen_is_412,
	a_request_with_the_same_key_is_answered_as_before_and_done_once,
	of_many_who_change_one_session_at_once_one_does,
	the_links_of_a_list_lead_through_all_that_fits, a_bad_filter_is_named,
	without_its_database_it_is_busy_and_says_so })
