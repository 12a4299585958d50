#include "test.h"

#include <json-c/json.h>
#include <stdio.h>

#include "lib/problem.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"

static struct {
	char bytes[128 * 1024];
	size_t used;
	bool gone;
} client;

static struct request req;
static struct response res;

static bool
take(void *ctx, const char *bytes, size_t n)
{
	(void)ctx;
	ck_assert_uint_lt(n, sizeof(client.bytes) - client.used);
	memcpy(client.bytes + client.used, bytes, n);
	client.used += n;
	client.bytes[client.used] = '\0';
	return !client.gone;
}

static void
begin(void)
{
	static char *const meta[] = { (char *)"REQUEST_METHOD=GET", (char *)"REQUEST_URI=/",
		(char *)"REQUEST_ID=" TRACE, NULL };
	const struct request_source source = { meta, NULL, NULL };

	memset(&client, 0, sizeof(client));
	err_clear();
	ck_assert_int_eq(request_begin(&req, &source), OK);
	response_open(&res, take, NULL);
}

/* The body of the problem that was sent; yours to put. */
static struct json_object *
sent(enum err code, problem_members more, void *ctx)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *root;
	char *body;

	ck_assert_int_eq(problem_send(&req, &res, code, more, ctx), OK);
	ck_assert(response_end(&res));
	ck_assert_ptr_nonnull(
	    strstr(client.bytes, "\r\nContent-Type: application/problem+json\r\n"));
	ck_assert_ptr_nonnull(strstr(client.bytes, "\r\nCache-Control: no-store\r\n"));
	body = strstr(client.bytes, "\r\n\r\n");
	ck_assert_ptr_nonnull(body);
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	root = json_tokener_parse_ex(tokener, body + 4, (int)strlen(body + 4));
	ck_assert_msg(json_object_is_type(root, json_type_object), "%s", body);
	json_tokener_free(tokener);
	return root;
}

static const char *
member(struct json_object *root, const char *name)
{
	struct json_object *found = json_object_object_get(root, name);

	ck_assert_msg(found != NULL, "no %s", name);
	return json_object_get_string(found);
}

START_TEST(every_error_that_can_be_answered_has_one_row_by_rising_status)
{
	size_t count;
	const struct problem *table = problem_table(&count);

	ck_assert_uint_eq(count, ERR_MAX - 2); /* neither OK nor ERR_GONE */
	for (size_t i = 0; i < count; i++) {
		const struct problem *row = &table[i];

		ck_assert_ptr_eq(problem_of(row->code), row);
		ck_assert_int_gt(row->status, i == 0 ? 399 : table[i - 1].status);
		ck_assert_int_lt(row->status, 600);
		ck_assert_uint_gt(strlen(row->name), 0);
		ck_assert_uint_eq(
		    strspn(row->name, "abcdefghijklmnopqrstuvwxyz-"), strlen(row->name));
		ck_assert_uint_gt(strlen(row->title), 0);
		ck_assert_uint_gt(strlen(row->advice), 0);
		for (size_t j = 0; j < i; j++)
			ck_assert_str_ne(table[j].name, row->name);
	}
	for (int code = OK + 1; code < ERR_MAX; code++)
		if (code != ERR_GONE)
			ck_assert_int_eq(problem_of((enum err)code)->code, code);
}
END_TEST

static void
problem_of_ok(void)
{
	(void)problem_of(OK);
}

static void
problem_of_gone(void)
{
	(void)problem_of(ERR_GONE);
}

START_TEST(what_is_no_error_to_answer_has_no_row)
{
	ck_assert(aborts(problem_of_ok));
	ck_assert(aborts(problem_of_gone));
}
END_TEST

START_TEST(a_problem_has_the_members_of_the_rfc_and_the_trace)
{
	size_t count;
	const struct problem *table = problem_table(&count);

	for (size_t i = 0; i < count; i++) {
		struct json_object *root;
		char text[64];

		begin();
		root = sent(fail(table[i].code, "it is %s", "so"), NULL, NULL);
		(void)snprintf(text, sizeof(text), "Status: %d ", table[i].status);
		ck_assert_int_eq(strncmp(client.bytes, text, strlen(text)), 0);
		(void)snprintf(text, sizeof(text), "/problems/%s", table[i].name);
		ck_assert_str_eq(member(root, "type"), text);
		ck_assert_str_eq(member(root, "title"), table[i].title);
		(void)snprintf(text, sizeof(text), "%d", table[i].status);
		ck_assert_str_eq(member(root, "status"), text);
		ck_assert_str_eq(member(root, "trace_id"), TRACE);
		ck_assert_str_eq(member(root, "detail"),
		    table[i].code == ERR_INTERNAL ? table[i].title : "it is so");
		ck_assert_int_eq(json_object_object_length(root), 5);
		ck_assert_int_eq(strstr(client.bytes, "\r\nRetry-After: ") != NULL, table[i].retry);
		(void)json_object_put(root);
	}
}
END_TEST

START_TEST(those_who_may_try_again_are_told_when)
{
	static const enum err codes[] = { ERR_RATE, ERR_BUSY };

	for (size_t i = 0; i < COUNT(codes); i++) {
		begin();
		(void)json_object_put(sent(codes[i], NULL, NULL));
		ck_assert_ptr_nonnull(strstr(client.bytes, "\r\nRetry-After: 1\r\n"));
	}
}
END_TEST

START_TEST(without_words_the_title_is_the_detail)
{
	struct json_object *root;

	begin();
	root = sent(ERR_CONFLICT, NULL, NULL);
	ck_assert_str_eq(member(root, "detail"), problem_of(ERR_CONFLICT)->title);
	(void)json_object_put(root);
}
END_TEST

START_TEST(the_words_of_our_own_failure_stay_inside)
{
	begin();
	(void)fail_field("#/secret", "of /var/lib/x.db");
	(void)json_object_put(sent(fail(ERR_INTERNAL, "SELECT 1 of /var/lib/x.db"), NULL, NULL));
	ck_assert_ptr_null(strstr(client.bytes, "SELECT"));
	ck_assert_ptr_null(strstr(client.bytes, "/var"));
	ck_assert_ptr_null(strstr(client.bytes, "secret"));
}
END_TEST

START_TEST(bad_fields_are_listed_in_their_order)
{
	struct json_object *root, *errors, *first;

	begin();
	(void)fail_field("#/email", "must have \"@\"\n%s", "\xff");
	(void)fail_field("limit", "is required");
	root = sent(err_pending(), NULL, NULL);
	errors = json_object_object_get(root, "errors");
	ck_assert_int_eq(json_object_get_type(errors), json_type_array);
	ck_assert_uint_eq(json_object_array_length(errors), 2);
	first = json_object_array_get_idx(errors, 0);
	ck_assert_str_eq(member(first, "pointer"), "#/email");
	ck_assert_str_eq(member(first, "detail"), "must have \"@\"\n\xef\xbf\xbd");
	ck_assert_int_eq(json_object_object_length(first), 2);
	ck_assert_str_eq(member(json_object_array_get_idx(errors, 1), "pointer"), "limit");
	(void)json_object_put(root);
}
END_TEST

START_TEST(as_many_fields_are_listed_as_are_kept)
{
	struct json_object *root;

	begin();
	for (int i = 0; i < ERR_FIELDS_MAX + 5; i++)
		(void)fail_field("#/a", "%0150d", i);
	root = sent(err_pending(), NULL, NULL);
	ck_assert_uint_eq(
	    json_object_array_length(json_object_object_get(root, "errors")), ERR_FIELDS_MAX);
	ck_assert_ptr_nonnull(strstr(member(root, "detail"), "37 fields"));
	(void)json_object_put(root);
}
END_TEST

static void
add_members(struct jsonw *w, void *ctx)
{
	jsonw_array_begin(w, "sources");
	jsonw_string(w, NULL, ctx);
	jsonw_array_end(w);
}

START_TEST(further_members_go_with_it)
{
	struct json_object *root;
	char source[] = "alpha";

	begin();
	root = sent(fail(ERR_UPSTREAM, "all failed"), add_members, source);
	ck_assert_str_eq(member(root, "sources"), "[ \"alpha\" ]");
	ck_assert_int_eq(json_object_object_length(root), 6);
	(void)json_object_put(root);
}
END_TEST

START_TEST(what_was_begun_is_dropped)
{
	struct json_object *root;

	begin();
	response_begin(&res, 200, "text/csv");
	ck_assert_int_eq(response_field(&res, "ETag", "\"x\""), OK);
	ck_assert_int_eq(response_write(&res, "half an answer", 14), OK);
	root = sent(fail(ERR_BUSY, "storage is away"), NULL, NULL);
	ck_assert_ptr_null(strstr(client.bytes, "half"));
	ck_assert_ptr_null(strstr(client.bytes, "ETag"));
	ck_assert_int_eq(strncmp(client.bytes, "Status: 503 ", 12), 0);
	(void)json_object_put(root);
}
END_TEST

START_TEST(once_something_is_on_its_way_nothing_more_is_sent)
{
	static char bytes[RESPONSE_BUFFER_MAX + 1];
	size_t used;

	begin();
	response_begin(&res, 200, "text/csv");
	ck_assert_int_eq(response_write(&res, bytes, sizeof(bytes)), OK);
	used = client.used;
	ck_assert_int_eq(
	    problem_send(&req, &res, fail(ERR_INTERNAL, "the disk broke"), NULL, NULL), ERR_GONE);
	ck_assert_uint_eq(client.used, used);
	ck_assert_int_eq(res.status, 200);
	ck_assert_str_eq(err_words(), "the disk broke"); /* for the log */
}
END_TEST

START_TEST(the_problem_of_a_head_request_is_counted_but_not_sent)
{
	begin();
	res.no_body = true;
	ck_assert_int_eq(problem_send(&req, &res, fail(ERR_NOT_FOUND, "no"), NULL, NULL), OK);
	ck_assert(response_end(&res));
	ck_assert_str_eq(client.bytes + client.used - 4, "\r\n\r\n");
	ck_assert_int_gt(res.body_bytes, 0);
}
END_TEST

START_TEST(a_client_that_is_gone_is_no_other_failure)
{
	begin();
	client.gone = true;
	ck_assert_int_eq(problem_send(&req, &res, fail(ERR_NOT_FOUND, "no"), NULL, NULL), OK);
	ck_assert(!response_end(&res));
}
END_TEST

CHECK_MAIN(problem,
    { every_error_that_can_be_answered_has_one_row_by_rising_status,
	what_is_no_error_to_answer_has_no_row, a_problem_has_the_members_of_the_rfc_and_the_trace,
	those_who_may_try_again_are_told_when, without_words_the_title_is_the_detail,
	the_words_of_our_own_failure_stay_inside, bad_fields_are_listed_in_their_order,
	as_many_fields_are_listed_as_are_kept, further_members_go_with_it,
	what_was_begun_is_dropped, once_something_is_on_its_way_nothing_more_is_sent,
	the_problem_of_a_head_request_is_counted_but_not_sent,
	a_client_that_is_gone_is_no_other_failure })
