#include "metered.h"
#include "tokens.h"

#include <json-c/json.h>
#include <stdio.h>

#include "lib/auth.h"
#include "lib/log.h"
#include "lib/route.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"

static struct {
	char bytes[8 * RESPONSE_BUFFER_MAX];
	size_t used;
	bool gone;
} client;

static struct request req;
static struct response res;
static char line[2 * LOG_LINE_MAX]; /* of the log */
static bool whole;

static bool
take(void *ctx, const char *bytes, size_t n)
{
	(void)ctx;
	if (client.gone)
		return false;
	ck_assert_uint_lt(n, sizeof(client.bytes) - client.used);
	memcpy(client.bytes + client.used, bytes, n);
	client.used += n;
	client.bytes[client.used] = '\0';
	return true;
}

static enum err
write_text(struct response *to, const char *text)
{
	return response_write(to, text, strlen(text));
}

/* Answers with the template and what it captured. */
static enum err
echo(struct request *from, struct response *to)
{
	response_begin(to, 200, "application/json");
	(void)!write_text(to, from->template);
	for (size_t i = 0; i < from->capture_count; i++) {
		(void)!write_text(to, " ");
		(void)!response_write(to, from->captures[i].name.s, from->captures[i].name.n);
		(void)!write_text(to, "=");
		(void)!write_text(to, from->captures[i].value.s);
	}
	return OK;
}

static enum err
one(struct request *from, struct response *to)
{
	response_begin(to, 200, "application/json");
	return write_text(to, request_capture(from, "id").s);
}

static enum err
created(struct request *from, struct response *to)
{
	(void)from;
	response_begin(to, 201, "application/json");
	return OK;
}

static enum err
csv(struct request *from, struct response *to)
{
	response_begin(
	    to, 200, request_accepts(from, "application/json") ? "application/json" : "text/csv");
	return OK;
}

static enum err
conflict(struct request *from, struct response *to)
{
	(void)from;
	response_begin(to, 200, "application/json");
	(void)!write_text(to, "half an answer");
	return fail(ERR_CONFLICT, "the name is taken");
}

static enum err
broken(struct request *from, struct response *to)
{
	(void)from;
	(void)to;
	return fail(ERR_INTERNAL, "no such table: events");
}

static enum err
bad_fields(struct request *from, struct response *to)
{
	bool found;

	(void)to;
	(void)request_param(from, "x", &found);
	if (!found)
		(void)fail_field("x", "is required");
	return err_pending();
}

static enum err
gone(struct request *from, struct response *to)
{
	(void)from;
	(void)to;
	return fail(ERR_GONE, "the client left");
}

static enum err
big(struct request *from, struct response *to)
{
	enum err err = OK;

	(void)from;
	response_begin(to, 200, "application/json");
	for (int i = 0; i < RESPONSE_BUFFER_MAX && err == OK; i++)
		err = write_text(to, "ab");
	return err;
}

static enum err
broken_late(struct request *from, struct response *to)
{
	enum err err = big(from, to);

	return err != OK ? err : fail(ERR_INTERNAL, "the disk broke");
}

static enum err
injected(struct request *from, struct response *to)
{
	bool found;

	response_begin(to, 201, "application/json");
	return response_field(to, "Location", request_param(from, "x", &found).s);
}

static enum err
says_options(struct request *from, struct response *to)
{
	(void)from;
	response_begin(to, 200, "application/json");
	return write_text(to, "mine");
}

#define LONGEST "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}/{j}/{k}/{l}/{m}/{n}/{o}/{p}"

static const struct route routes[] = { { METHOD_GET, "/events", ROLES_ALL, echo, NULL },
	{ METHOD_POST, "/events", ROLE_ADMIN, created, NULL },
	{ METHOD_GET, "/events/types", ROLES_ALL, echo, NULL },
	{ METHOD_GET, "/events/{id}", ROLES_ALL, one, NULL },
	{ METHOD_DELETE, "/events/{id}", ROLE_ADMIN, echo, NULL },
	{ METHOD_PUT, "/events/{id}/{part}", ROLES_ALL, echo, NULL },
	{ METHOD_POST, ROUTE_PRIVATE "only", ROLE_OPERATOR, created, NULL }, /* in no list */
	{ METHOD_POST, "/only-post", ROLES_ANYONE, created, NULL },
	{ METHOD_GET, "/table", ROLES_ALL, csv, "application/json,text/csv" },
	{ METHOD_GET, "/conflict", ROLES_ALL, conflict, NULL },
	{ METHOD_GET, "/broken", ROLES_ALL, broken, NULL },
	{ METHOD_GET, "/bad", ROLES_ALL, bad_fields, NULL },
	{ METHOD_GET, "/gone", ROLES_ALL, gone, NULL },
	{ METHOD_GET, "/big", ROLES_ALL, big, NULL },
	{ METHOD_GET, "/broken-late", ROLES_ALL, broken_late, NULL },
	{ METHOD_GET, "/injected", ROLES_ALL, injected, NULL },
	{ METHOD_OPTIONS, "/options", ROLES_ALL, says_options, NULL },
	{ METHOD_GET, LONGEST, ROLES_ALL, echo, NULL }, { 0 } };

/* Runs one request to its end and takes its line of the log, of which there must be just one. */
static void
run_accept(const char *method, const char *uri, const char *accept)
{
	char name[64], address[2048], accepted[128], more[16];
	char *const meta[] = { name, address, accepted, (char *)"REQUEST_ID=" TRACE, NULL };
	const struct request_source source = { meta, NULL, NULL };
	struct caught caught = stderr_catch();
	bool is_gone = client.gone;

	(void)snprintf(name, sizeof(name), "REQUEST_METHOD=%s", method);
	(void)snprintf(address, sizeof(address), "REQUEST_URI=%s", uri);
	(void)snprintf(accepted, sizeof(accepted), "HTTP_ACCEPT=%s", accept);
	memset(&client, 0, sizeof(client));
	client.gone = is_gone;
	response_open(&res, take, NULL);
	whole = route_run(routes, &req, &res, &source);
	ck_assert_uint_gt(stderr_next(&caught, line, sizeof(line)), 0);
	ck_assert_uint_eq(stderr_next(&caught, more, sizeof(more)), 0);
	stderr_release(&caught);
}

static void
run(const char *method, const char *uri)
{
	run_accept(method, uri, "");
}

static int
status(void)
{
	ck_assert_msg(strncmp(client.bytes, "Status: ", 8) == 0, "%s", client.bytes);
	return atoi(client.bytes + 8);
}

static const char *
body(void)
{
	const char *end = strstr(client.bytes, "\r\n\r\n");

	ck_assert_ptr_nonnull(end);
	return end + 4;
}

#define ck_sent(text) \
	ck_assert_msg(strstr(client.bytes, text) != NULL, "%s\nnot in\n%s", text, client.bytes)

static const struct {
	const char *method, *uri;
	int status;
	const char *body;
} answers[] = {
	{ "GET", "/events", 200, "/events" },
	{ "GET", "/events/", 200, "/events" },
	{ "GET", "//events", 200, "/events" },
	{ "GET", "//events//", 200, "/events" },
	{ "GET", "/events?x=/events/7", 200, "/events" },
	{ "GET", "/%65vents", 200, "/events" },
	{ "POST", "/events", 201, "" },
	{ "GET", "/events/7", 200, "7" },
	{ "GET", "/events/7/", 200, "7" },
	{ "GET", "/events//7", 200, "7" },
	{ "GET", "/events/types", 200, "/events/types" },
	{ "GET", "/events/types/", 200, "/events/types" },
	{ "GET", "/events/typesx", 200, "typesx" },
	{ "GET", "/events/type", 200, "type" },
	{ "GET", "/events/a%20b", 200, "a b" },
	{ "GET", "/events/%7Bid%7D", 200, "{id}" },
	{ "GET", "/events/{id}", 200, "{id}" },
	{ "DELETE", "/events/7", 200, "/events/{id} id=7" },
	{ "PUT", "/events/7/image", 200, "/events/{id}/{part} id=7 part=image" },
	{ "GET", "/0/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15", 200,
	    LONGEST " a=0 b=1 c=2 d=3 e=4 f=5 g=6 h=7 "
		    "i=8 j=9 k=10 l=11 m=12 n=13 o=14 p=15" },
	{ "OPTIONS", "/options", 200, "mine" },
};

START_TEST(a_request_goes_to_the_first_row_that_fits)
{
	for (size_t i = 0; i < COUNT(answers); i++) {
		run(answers[i].method, answers[i].uri);
		ck_assert(whole);
		ck_assert_msg(status() == answers[i].status, "%s: %d", answers[i].uri, status());
		ck_assert_str_eq(body(), answers[i].body);
	}
}
END_TEST

static const struct {
	const char *method, *uri;
	int status;
	const char *type;
} problems[] = { { "GET", "/", 404, "not-found" }, { "GET", "/event", 404, "not-found" },
	{ "GET", "/eventsx", 404, "not-found" }, { "GET", "/Events", 404, "not-found" },
	{ "GET", "/events/7/8/9", 404, "not-found" }, { "OPTIONS", "/none", 404, "not-found" },
	{ "BREW", "/none", 404, "not-found" }, { "HEAD", "/none", 404, NULL },
	{ "GET", "/0/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16", 404, "not-found" },
	{ "GET", "/events/%", 400, "invalid-input" },
	{ "GET", "/events/%00", 400, "invalid-input" },
	{ "GET", "/events/..", 400, "invalid-input" }, { "GET", "events", 400, "invalid-input" },
	{ "GET", "", 400, "invalid-input" }, { "GET", "/conflict", 409, "conflict" },
	{ "GET", "/broken", 500, "internal" }, { "GET", "/bad", 400, "invalid-input" },
	{ "GET", "/bad?x=1&x=2", 400, "invalid-input" },
	{ "GET", "/injected?x=a%0D%0ASet-Cookie:b", 500, "internal" },
	{ "GET", "/injected?x=%C3%A9", 500, "internal" } };

START_TEST(what_goes_wrong_is_answered_as_a_problem)
{
	char type[64];

	for (size_t i = 0; i < COUNT(problems); i++) {
		run(problems[i].method, problems[i].uri);
		ck_assert(whole);
		ck_assert_msg(status() == problems[i].status, "%s: %d", problems[i].uri, status());
		ck_sent("\r\nContent-Type: application/problem+json\r\n");
		ck_assert_ptr_null(strstr(client.bytes, "Set-Cookie"));
		ck_assert_ptr_null(strstr(client.bytes, "half an answer"));
		ck_assert_ptr_null(strstr(client.bytes, "no such table"));
		if (problems[i].type == NULL) {
			ck_assert_str_eq(body(), "");
			continue;
		}
		(void)snprintf(type, sizeof(type), "\"type\":\"/problems/%s\"", problems[i].type);
		ck_sent(type);
		ck_sent("\"trace_id\":\"" TRACE "\"");
	}
	run("GET", "/bad");
	ck_sent("\"errors\":[{\"detail\":\"is required\",\"pointer\":\"x\"}]");
	run("GET", "/conflict");
	ck_sent("\"detail\":\"the name is taken\"");
}
END_TEST

START_TEST(one_request_knows_nothing_of_the_errors_of_the_one_before)
{
	const char *errors;

	for (int i = 0; i < 2; i++) {
		run("GET", "/bad");
		errors = strstr(client.bytes, "\"errors\":[");
		ck_assert_ptr_nonnull(errors);
		ck_assert_ptr_null(strstr(errors, "},{"));
	}
	run("GET", "/conflict");
	ck_assert_ptr_null(strstr(client.bytes, "errors"));
}
END_TEST

static const struct {
	const char *method, *uri, *allow;
} not_allowed[] = { { "DELETE", "/events", "GET, HEAD, POST, OPTIONS" },
	{ "PUT", "/events/", "GET, HEAD, POST, OPTIONS" },
	{ "PATCH", "/events/7", "GET, HEAD, DELETE, OPTIONS" },
	{ "BREW", "/events/7", "GET, HEAD, DELETE, OPTIONS" },
	{ "get", "/events/7", "GET, HEAD, DELETE, OPTIONS" }, { "", "/only-post", "POST, OPTIONS" },
	{ "GET", "/only-post", "POST, OPTIONS" }, { "HEAD", "/only-post", "POST, OPTIONS" },
	{ "GET", "/events/7/8", "PUT, OPTIONS" }, { "GET", "/options", "OPTIONS" },
	{ "POST", "/events/types", "GET, HEAD, OPTIONS" },
	{ "DELETE", "/events/types", "GET, HEAD, OPTIONS" } }; /* not as /events/{id} */

START_TEST(another_method_is_405_and_told_which_are_allowed)
{
	char allow[128];

	for (size_t i = 0; i < COUNT(not_allowed); i++) {
		run(not_allowed[i].method, not_allowed[i].uri);
		ck_assert(whole);
		ck_assert_msg(status() == 405, "%s", not_allowed[i].uri);
		(void)snprintf(allow, sizeof(allow), "\r\nAllow: %s\r\n", not_allowed[i].allow);
		ck_sent(allow);
		ck_sent("\r\nContent-Type: application/problem+json\r\n");
	}
	run("DELETE", "/events");
	ck_sent("\"detail\":\"this resource takes GET, HEAD, POST, OPTIONS\"");
	run("HEAD", "/only-post");
	ck_assert_str_eq(body(), "");
}
END_TEST

START_TEST(options_is_answered_wherever_there_is_anything)
{
	run("OPTIONS", "/events/7");
	ck_assert(whole);
	ck_assert_int_eq(status(), 204);
	ck_sent("\r\nAllow: GET, HEAD, DELETE, OPTIONS\r\n");
	ck_assert_str_eq(body(), "");
	ck_assert_ptr_null(strstr(client.bytes, "Content-"));
	run_accept("OPTIONS", "/events", "text/html");
	ck_assert_int_eq(status(), 204);
	ck_sent("\r\nAllow: GET, HEAD, POST, OPTIONS\r\n");
}
END_TEST

START_TEST(head_is_get_without_the_body)
{
	run("GET", "/events/7777");
	ck_sent("\r\nContent-Length: 4\r\n");
	run("HEAD", "/events/7777");
	ck_assert(whole);
	ck_assert_int_eq(status(), 200);
	ck_sent("\r\nContent-Length: 4\r\n");
	ck_assert_str_eq(body(), "");
	ck_assert_ptr_nonnull(strstr(line, "\"bytes\":4,"));
	run("HEAD", "/big");
	ck_assert(whole);
	ck_assert_int_eq(status(), 200);
	ck_assert_str_eq(body(), "");
	run("HEAD", "/broken");
	ck_assert_int_eq(status(), 500);
	ck_assert_str_eq(body(), "");
}
END_TEST

static const struct {
	const char *uri, *accept;
	int status;
} accepts[] = { { "/events", "", 200 }, { "/events", "*/*", 200 },
	{ "/events", "application/*", 200 },
	{ "/events", "text/html, application/json;q=0.1", 200 }, { "/events", "text/html", 406 },
	{ "/events", "application/json;q=0", 406 }, { "/events", "application/json;q=0, */*", 406 },
	{ "/events", "*/*;q=0", 406 }, { "/events", "text/csv", 406 },
	{ "/table", "text/csv", 200 }, { "/table", "application/json", 200 },
	{ "/table", "text/*", 200 }, { "/table", "application/json;q=0, */*", 200 },
	{ "/table", "text/html", 406 }, { "/table", "text/csv;q=0, application/json;q=0", 406 },
	{ "/none", "text/html", 404 } };

START_TEST(only_what_accept_admits_is_made)
{
	for (size_t i = 0; i < COUNT(accepts); i++) {
		run_accept("GET", accepts[i].uri, accepts[i].accept);
		ck_assert(whole);
		ck_assert_msg(status() == accepts[i].status, "%s of %s: %d", accepts[i].uri,
		    accepts[i].accept, status());
	}
	run_accept("GET", "/table", "text/html");
	ck_sent("\"detail\":\"this resource is application/json,text/csv\"");
	run_accept("DELETE", "/events", "text/html");
	ck_assert_int_eq(status(), 405);
}
END_TEST

START_TEST(an_answer_larger_than_the_buffer_streams)
{
	char bytes[64];

	run("GET", "/big");
	ck_assert(whole);
	ck_assert_int_eq(status(), 200);
	ck_assert_uint_eq(strlen(body()), 2 * RESPONSE_BUFFER_MAX);
	ck_assert_ptr_null(strstr(client.bytes, "Content-Length"));
	(void)snprintf(
	    bytes, sizeof(bytes), "\"status\":200,\"bytes\":%d,", 2 * RESPONSE_BUFFER_MAX);
	ck_assert_ptr_nonnull(strstr(line, bytes));
}
END_TEST

START_TEST(an_answer_that_cannot_be_given_whole_is_cut)
{
	run("GET", "/broken-late");
	ck_assert(!whole);
	ck_assert_int_eq(status(), 200);
	ck_assert_ptr_null(strstr(client.bytes, "problem"));
	ck_assert_ptr_nonnull(strstr(line, "\"status\":500,"));
	ck_assert_ptr_nonnull(strstr(line, "\"level\":\"error\""));
	ck_assert_ptr_nonnull(strstr(line, "\"detail\":\"the disk broke\""));
	run("GET", "/gone");
	ck_assert(!whole);
	ck_assert_uint_eq(client.used, 0);
	ck_assert_ptr_nonnull(strstr(line, "\"status\":499,"));
	client.gone = true;
	run("GET", "/events");
	ck_assert(!whole);
	ck_assert_ptr_nonnull(strstr(line, "\"status\":499,"));
	run("GET", "/big");
	ck_assert(!whole);
	run("GET", "/none");
	ck_assert(!whole);
}
END_TEST

static const struct {
	const char *method, *uri, *route, *path;
	int status;
} lines[] = { { "GET", "/events/7?secret=1", "/events/{id}", "/events/7", 200 },
	{ "DELETE", "/events", "/events", "/events", 405 },
	{ "GET", "/none/%20", "", "/none/%20", 404 },
	{ "GET", "/events/..", "", "/events/..", 400 },
	{ "GET", "/%ff\xff\n\"", "", "/%ff\xef\xbf\xbd\n\"", 400 },
	{ "GET", "events", "", "", 400 }, { "BR\"EW", "/events/", "/events", "/events/", 405 },
	{ "GET", "/broken", "/broken", "/broken", 500 } };

START_TEST(each_request_is_one_line_of_the_log_without_its_query)
{
	for (size_t i = 0; i < COUNT(lines); i++) {
		struct json_object *root;
		const struct {
			const char *name, *value;
		} members[] = { { "event", "request" }, { "trace_id", TRACE },
			{ "method", lines[i].method }, { "route", lines[i].route },
			{ "path", lines[i].path } };

		run(lines[i].method, lines[i].uri);
		root = json_tokener_parse(line);
		ck_assert_ptr_nonnull(root);
		for (size_t j = 0; j < COUNT(members); j++)
			ck_assert_str_eq(
			    json_object_get_string(json_object_object_get(root, members[j].name)),
			    members[j].value);
		ck_assert_int_eq(
		    json_object_get_int(json_object_object_get(root, "status")), lines[i].status);
		ck_assert_int_eq(
		    json_object_object_get(root, "detail") != NULL, lines[i].status >= 500);
		ck_assert_ptr_null(strstr(line, "secret"));
		(void)json_object_put(root);
	}
	run("GET", "/broken");
	ck_assert_ptr_nonnull(strstr(line, "\"level\":\"error\""));
	ck_assert_ptr_nonnull(strstr(line, "\"detail\":\"no such table: events\""));
}
END_TEST

/* In the words of the table, never in those of the client. */
static const struct {
	const char *method, *uri, *route, *label;
	int status;
} samples[] = { { "GET", "/events/7?x=1", "/events/{id}", "GET", 200 },
	{ "GET", "/events/\"%0A{}", "/events/{id}", "GET", 200 },
	{ "HEAD", "/events/7", "/events/{id}", "HEAD", 200 },
	{ "OPTIONS", "/events/7", "/events/{id}", "OPTIONS", 204 },
	{ "POST", "/events", "/events", "POST", 201 },
	{ "DELETE", "/events", "/events", "DELETE", 405 },
	{ "BR\"EW", "/events", "/events", "other", 405 },
	{ "get", "/events", "/events", "other", 405 }, { "", "/events", "/events", "other", 405 },
	{ "GET", "/none/secret", "none", "GET", 404 }, { "BREW", "/none", "none", "other", 404 },
	{ "GET", "/events/..", "none", "GET", 400 }, { "GET", "/%00", "none", "GET", 400 },
	{ "GET", "/broken", "/broken", "GET", 500 }, { "GET", "/gone", "/gone", "GET", 499 },
	{ "GET", "/broken-late", "/broken-late", "GET", 500 } };

START_TEST(each_request_is_counted_by_template_method_and_status)
{
	char labels[128], counter[256], count[256];

	for (size_t i = 0; i < COUNT(samples); i++) {
		int64_t before, timed;

		(void)snprintf(labels, sizeof(labels), "program=\"\",route=\"%s\",method=\"%s\"",
		    samples[i].route, samples[i].label);
		(void)snprintf(counter, sizeof(counter),
		    "caredesk_http_requests_total{%s,status=\"%d\"}", labels, samples[i].status);
		(void)snprintf(count, sizeof(count),
		    "caredesk_http_request_duration_seconds_count{%s}", labels);
		before = metered_now(counter);
		timed = metered_now(count);
		run(samples[i].method, samples[i].uri);
		ck_assert_msg(metered_now(counter) == before + 1, "%s", counter);
		ck_assert_msg(metered_now(count) == timed + 1, "%s", count);
	}
	ck_assert_ptr_null(strstr(metered_read(), "secret"));
	ck_assert_ptr_null(strstr(metered.text, "EW"));
}
END_TEST

START_TEST(lines_after_a_request_do_not_carry_its_trace)
{
	struct caught caught;

	run("GET", "/events");
	caught = stderr_catch();
	log_event(LOG_INFO, "later", "x");
	ck_assert_uint_gt(stderr_next(&caught, line, sizeof(line)), 0);
	ck_assert_ptr_null(strstr(line, "trace_id"));
	stderr_release(&caught);
}
END_TEST

static void
answer_nothing(void)
{
	run("GET", "/bad?x=1");
}

START_TEST(a_handler_that_answers_nothing_aborts)
{
	ck_assert(aborts(answer_nothing));
}
END_TEST

START_TEST(the_table_is_listed_with_methods_and_roles)
{
	static const char expected[] =
	    "GET /events caregiver,manager,accountant,admin\n"
	    "POST /events admin\n"
	    "GET /events/types caregiver,manager,accountant,admin\n"
	    "GET /events/{id} caregiver,manager,accountant,admin\n"
	    "DELETE /events/{id} admin\n"
	    "PUT /events/{id}/{part} caregiver,manager,accountant,admin\n"
	    "POST /only-post caregiver,manager,accountant,admin,anyone\n";
	char text[sizeof(expected)] = "";
	FILE *file = tmpfile();
	int saved;

	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(fflush(stdout), 0);
	saved = dup(STDOUT_FILENO);
	ck_assert_int_eq(dup2(fileno(file), STDOUT_FILENO), STDOUT_FILENO);
	route_list(routes);
	ck_assert_int_eq(fflush(stdout), 0);
	ck_assert_int_eq(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
	(void)close(saved);
	ck_assert_int_eq(pread(fileno(file), text, sizeof(text) - 1, 0), sizeof(text) - 1);
	ck_assert_str_eq(text, expected);
	(void)fclose(file);
}
END_TEST

/* --- With tokens. */

static enum err
who_asks(struct request *from, struct response *to)
{
	char text[96];

	response_begin(to, 200, "application/json");
	(void)snprintf(text, sizeof(text), "%s %u %lld %zu", from->who, from->roles,
	    (long long)from->caregiver_id, from->caregivers.count);
	for (size_t i = 0; i < from->caregivers.count; i++)
		ck_assert_int_eq(from->caregivers.ids[i], (int64_t)i + 1);
	return write_text(to, text);
}

static const struct route guarded[] = { { METHOD_GET, "/all", ROLES_ALL, who_asks, NULL },
	{ METHOD_POST, "/all", ROLE_ADMIN, who_asks, NULL },
	{ METHOD_GET, "/admin", ROLE_ADMIN, who_asks, NULL },
	{ METHOD_GET, "/csv", ROLE_ADMIN, who_asks, "text/csv" },
	{ METHOD_GET, "/operator", ROLE_OPERATOR, who_asks, NULL },
	{ METHOD_GET, "/anyone", ROLES_ANYONE, who_asks, NULL }, { 0 } };

static char token_folder[] = "/tmp/check_route.XXXXXX";
static struct conf token_conf;
static struct signer token_signer;

static void
tokens_begin(void)
{
	ck_assert_ptr_nonnull(mkdtemp(token_folder));
	ck_assert_int_eq(chdir(token_folder), 0);
	signer_open(&token_signer, "HS256", NULL);
	put_file("secret", TOKENS_SECRET_HEX);
	token_conf.auth = (struct conf_auth){ .mode = AUTH_REQUIRED,
		.issuer = TOKENS_ISSUER,
		.audience = TOKENS_AUDIENCE,
		.secret_file = "secret",
		.algorithms = 1 << ALGORITHM_HS256,
		.roles_claim = "roles" };
	ck_assert_int_eq(auth_open(&token_conf), OK);
}

static void
tokens_end(void)
{
	auth_close();
	(void)unlink("secret");
	ck_assert_int_eq(rmdir(token_folder), 0);
}

/* With MORE meta-variables; NULL: none. */
static void
run_as(const char *method, const char *uri, const char *one_more)
{
	char name[64], address[64];
	char *const meta[] = { name, address, (char *)(uintptr_t)one_more, NULL };
	const struct request_source source = { meta, NULL, NULL };
	struct caught caught = stderr_catch();

	(void)snprintf(name, sizeof(name), "REQUEST_METHOD=%s", method);
	(void)snprintf(address, sizeof(address), "REQUEST_URI=%s", uri);
	memset(&client, 0, sizeof(client));
	response_open(&res, take, NULL);
	whole = route_run(guarded, &req, &res, &source);
	stderr_release(&caught);
}

static const char *
bearer(const char *more)
{
	static char text[4096];

	(void)snprintf(text, sizeof(text), "HTTP_AUTHORIZATION=Bearer %s",
	    signed_token(
		&token_signer, header_of(&token_signer), good_claims(time(NULL), 60, more)));
	return text;
}

#define ADMIN ",\"roles\":[\"admin\"]"
#define MANAGER ",\"roles\":[\"manager\"],\"caregiver_id\":7,\"caregivers\":[1,2]"

START_TEST(a_route_that_is_not_for_anyone_needs_a_token_with_one_of_its_roles)
{
	static const struct {
		const char *method, *uri, *claims; /* no claims: no token */
		int status;
		const char *body;
	} rows[] = {
		{ "GET", "/all", NULL, 401, NULL },
		{ "GET", "/admin", NULL, 401, NULL },
		{ "HEAD", "/admin", NULL, 401, NULL },
		{ "GET", "/csv", NULL, 401, NULL },
		{ "GET", "/csv", MANAGER, 403, NULL },
		{ "GET", "/anyone", NULL, 200, "anonymous 16 0 0" },
		{ "GET", "/anyone", ADMIN, 200, "anonymous 16 0 0" },
		{ "GET", "/none", NULL, 404, NULL },
		{ "PUT", "/all", NULL, 405, NULL },
		{ "OPTIONS", "/all", NULL, 204, NULL },
		{ "GET", "/all", "", 403, NULL },
		{ "GET", "/all", MANAGER, 200, "anna 2 7 2" },
		{ "POST", "/all", MANAGER, 403, NULL },
		{ "POST", "/all", ADMIN, 200, "anna 8 0 0" },
		{ "GET", "/admin", MANAGER, 403, NULL },
		{ "GET", "/admin", ADMIN, 200, "anna 8 0 0" },
	};

	tokens_begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		run_as(rows[i].method, rows[i].uri,
		    rows[i].claims == NULL ? NULL : bearer(rows[i].claims));
		ck_assert_msg(status() == rows[i].status, "row %zu: %s", i, client.bytes);
		if (rows[i].body != NULL)
			ck_assert_str_eq(body(), rows[i].body);
	}
	tokens_end();
}
END_TEST

START_TEST(every_401_says_the_same_and_how_to_come_in)
{
	char first[sizeof(client.bytes)];

	tokens_begin();
	run_as("GET", "/all", NULL);
	ck_sent("\r\nWWW-Authenticate: Bearer realm=\"caredesk\"\r\n");
	(void)snprintf(first, sizeof(first), "%.*s", (int)strcspn(body(), "_"), body());
	run_as("GET", "/all", "HTTP_AUTHORIZATION=Bearer MARKER");
	ck_sent("\r\nWWW-Authenticate: Bearer realm=\"caredesk\", error=\"invalid_token\"\r\n");
	ck_assert_int_eq(strncmp(body(), first, strlen(first)), 0);
	ck_assert_ptr_null(strstr(client.bytes, "MARKER"));
	run_as("GET", "/admin", bearer(MANAGER));
	ck_assert_ptr_null(strstr(client.bytes, "WWW-Authenticate"));
	tokens_end();
}
END_TEST

START_TEST(the_operator_needs_no_token)
{
	tokens_begin();
	run_as("POST", "/all", "CAREDESK_OPERATOR=1");
	ck_assert_str_eq(body(), "operator 47 0 0");
	run_as("POST", "/all", "HTTP_CAREDESK_OPERATOR=1");
	ck_assert_int_eq(status(), 401);
	run_as("POST", "/all", "CAREDESK_OPERATOR=");
	ck_assert_int_eq(status(), 401);
	tokens_end();
}
END_TEST

START_TEST(what_is_for_the_operator_is_for_no_token)
{
	tokens_begin();
	run_as("GET", "/operator", bearer(ADMIN));
	ck_assert_int_eq(status(), 403);
	run_as("GET", "/operator", "");
	ck_assert_int_eq(status(), 401);
	run_as("GET", "/operator", "CAREDESK_OPERATOR=1");
	ck_assert_int_eq(status(), 200);
	tokens_end();
}
END_TEST

CHECK_MAIN(route,
    { a_request_goes_to_the_first_row_that_fits, what_goes_wrong_is_answered_as_a_problem,
	another_method_is_405_and_told_which_are_allowed,
	options_is_answered_wherever_there_is_anything, head_is_get_without_the_body,
	only_what_accept_admits_is_made, an_answer_larger_than_the_buffer_streams,
	an_answer_that_cannot_be_given_whole_is_cut,
	each_request_is_one_line_of_the_log_without_its_query,
	each_request_is_counted_by_template_method_and_status,
	lines_after_a_request_do_not_carry_its_trace, a_handler_that_answers_nothing_aborts,
	the_table_is_listed_with_methods_and_roles,
	one_request_knows_nothing_of_the_errors_of_the_one_before,
	a_route_that_is_not_for_anyone_needs_a_token_with_one_of_its_roles,
	every_401_says_the_same_and_how_to_come_in, the_operator_needs_no_token,
	what_is_for_the_operator_is_for_no_token })
