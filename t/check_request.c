#include "test.h"

#include <stdio.h>

#include "lib/request.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define NO_TRACE "00000000000000000000000000000000"
#define NGINX_ID "00112233445566778899aabbccddeeff"

static struct request req;

/* A body that comes in pieces of at most STEP bytes and ends with 0, or -1. */
struct body {
	const char *bytes;
	size_t n, step;
	ssize_t end;
	int calls;
};

static ssize_t
read_body(void *ctx, char *buffer, size_t n)
{
	struct body *body = ctx;

	ck_assert_uint_gt(n, 0);
	body->calls++;
	if (body->n == 0)
		return body->end;
	n = n < body->step ? n : body->step;
	n = n < body->n ? n : body->n;
	memcpy(buffer, body->bytes, n);
	body->bytes += n;
	body->n -= n;
	return (ssize_t)n;
}

/* Begins a request of the "NAME=value" given, a NULL at the end. */
static enum err
begin(char *const *meta, struct body *body)
{
	const struct request_source source = { meta, read_body, body };

	memset(&req, 0xa5, sizeof(req)); /* nothing may depend on what was there */
	err_clear();
	return request_begin(&req, &source);
}

#define BEGIN(...) begin((char *[]){ __VA_ARGS__, NULL }, NULL)

static enum err
begin_uri(const char *uri)
{
	static char copy[16 * 1024];

	(void)snprintf(copy, sizeof(copy), "REQUEST_URI=%s", uri);
	return BEGIN((char *)"REQUEST_METHOD=GET", copy);
}

START_TEST(the_meta_variables_are_taken_and_others_ignored)
{
	ck_assert_int_eq(
	    BEGIN("", "X", "=", "REQUEST_METHOD=POST", "REQUEST_URI=/a?b=c", "CONTENT_LENGTH=12",
		"CONTENT_TYPE=application/json; charset=utf-8", "HTTP_ACCEPT=text/csv",
		"REQUEST_METHODS=PUT", "HTTP_REQUEST_URI=/x", "QUERY_STRING=x=y", "PATH_INFO=/z"),
	    OK);
	ck_assert_int_eq(req.method, METHOD_POST);
	ck_assert_str_eq(req.method_name, "POST");
	ck_assert_int_eq(req.content_length, 12);
	ck_assert_int_eq(req.content_left, 12);
	ck_assert_str_eq(req.content_type, "application/json; charset=utf-8");
	ck_assert_str_eq(req.accept, "text/csv");
	ck_assert_str_eq(req.log_path, "/a");
	ck_assert_str_eq(req.template, "");
	ck_assert_uint_eq(req.capture_count, 0);
	ck_assert_int_gt(req.start_us, 0);
}
END_TEST

START_TEST(what_is_missing_is_empty_and_the_request_can_still_be_answered)
{
	ck_assert_int_eq(begin((char *[]){ NULL }, NULL), ERR_INPUT);
	ck_assert_int_eq(req.method, METHOD_OTHER);
	ck_assert_str_eq(req.method_name, "");
	ck_assert_str_eq(req.log_path, "");
	ck_assert_str_eq(req.accept, "");
	ck_assert_str_eq(req.content_type, "");
	ck_assert_int_eq(req.content_length, 0);
	ck_assert_uint_eq(strlen(req.trace_id), 32);
	ck_assert(request_drain(&req));
	ck_assert_int_eq(BEGIN("REQUEST_URI=/"), OK);
	ck_assert_uint_eq(req.segment_count, 0);
	ck_assert_uint_eq(req.param_count, 0);
}
END_TEST

START_TEST(methods_are_those_of_http_in_capitals)
{
	static const struct {
		const char *meta;
		enum method method;
	} rows[] = {
		{ "REQUEST_METHOD=GET", METHOD_GET },
		{ "REQUEST_METHOD=HEAD", METHOD_HEAD },
		{ "REQUEST_METHOD=POST", METHOD_POST },
		{ "REQUEST_METHOD=PUT", METHOD_PUT },
		{ "REQUEST_METHOD=PATCH", METHOD_PATCH },
		{ "REQUEST_METHOD=DELETE", METHOD_DELETE },
		{ "REQUEST_METHOD=OPTIONS", METHOD_OPTIONS },
		{ "REQUEST_METHOD=get", METHOD_OTHER },
		{ "REQUEST_METHOD=TRACE", METHOD_OTHER },
		{ "REQUEST_METHOD=GETS", METHOD_OTHER },
		{ "REQUEST_METHOD=", METHOD_OTHER },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_assert_int_eq(BEGIN((char *)rows[i].meta, "REQUEST_URI=/"), OK);
		ck_assert_msg(req.method == rows[i].method, "%s", rows[i].meta);
	}
}
END_TEST

#define P(trace, rest) "HTTP_TRACEPARENT=00-" trace "-b7ad6b7169203331" rest

static const struct {
	const char *meta;
	bool taken, sampled;
} parents[] = {
	{ P(TRACE, "-01"), true, true },
	{ P(TRACE, "-00"), true, false },
	{ P(TRACE, "-02"), true, false },
	{ P(TRACE, "-ff"), true, true },
	{ "HTTP_TRACEPARENT=cc-" TRACE "-b7ad6b7169203331-01", true, true },
	{ "HTTP_TRACEPARENT=cc-" TRACE "-b7ad6b7169203331-01-what-the-future-brings", true, true },
	{ "HTTP_TRACEPARENT=01-" TRACE "-b7ad6b7169203331-01-", true, true },
	{ "HTTP_TRACEPARENT=cc-" TRACE "-b7ad6b7169203331-01.what", false, false },
	{ "HTTP_TRACEPARENT=cc-" TRACE "-b7ad6b7169203331-011", false, false },
	{ "HTTP_TRACEPARENT=ff-" TRACE "-b7ad6b7169203331-01", false, false },
	{ P(TRACE, "-01-"), false, false },
	{ P(TRACE, "-01-what"), false, false },
	{ P(TRACE, "-01 "), false, false },
	{ P(TRACE, "-1"), false, false },
	{ P(TRACE, "-0g"), false, false },
	{ P(TRACE, "-0A"), false, false },
	{ P(TRACE, ""), false, false },
	{ P(TRACE, "_01"), false, false },
	{ P(NO_TRACE, "-01"), false, false },
	{ P("0AF7651916CD43DD8448EB211C80319C", "-01"), false, false },
	{ P("0af7651916cd43dd8448eb211c80319", "-01"), false, false },
	{ P("0af7651916cd43dd8448eb211c80319cc", "-01"), false, false },
	{ P("0af7651916cd43dd8448eb211c80319g", "-01"), false, false },
	{ "HTTP_TRACEPARENT=00-" TRACE "-0000000000000000-01", false, false },
	{ "HTTP_TRACEPARENT=00-" TRACE "-B7AD6B7169203331-01", false, false },
	{ "HTTP_TRACEPARENT=00-" TRACE "-b7ad6b716920333-001", false, false },
	{ "HTTP_TRACEPARENT= 00-" TRACE "-b7ad6b7169203331-01", false, false },
	{ "HTTP_TRACEPARENT=0-" TRACE "-b7ad6b7169203331-01x", false, false },
	{ "HTTP_TRACEPARENT=0g-" TRACE "-b7ad6b7169203331-01", false, false },
	{ "HTTP_TRACEPARENT=00_" TRACE "_b7ad6b7169203331_01", false, false },
	{ "HTTP_TRACEPARENT=00-" TRACE "\n-b7ad6b716920333-01", false, false },
	{ "HTTP_TRACEPARENT=", false, false },
	{ "HTTP_TRACEPARENT=-", false, false },
};

START_TEST(a_traceparent_of_the_w3c_is_taken_and_no_other)
{
	for (size_t i = 0; i < COUNT(parents); i++) {
		ck_assert_int_eq(
		    BEGIN("REQUEST_URI=/", "REQUEST_ID=" NGINX_ID, (char *)parents[i].meta), OK);
		ck_assert_msg(strcmp(req.trace_id, parents[i].taken ? TRACE : NGINX_ID) == 0,
		    "%s: %s", parents[i].meta, req.trace_id);
		ck_assert_msg(req.sampled == parents[i].sampled, "%s", parents[i].meta);
	}
}
END_TEST

START_TEST(without_any_id_a_trace_gets_one_of_its_own)
{
	static const char *const ids[] = { "REQUEST_ID=",
		"REQUEST_ID=00000000000000000000000000000000",
		"REQUEST_ID=00112233445566778899AABBCCDDEEFF",
		"REQUEST_ID=00112233445566778899aabbccddeef",
		"REQUEST_ID=00112233445566778899aabbccddeeff0",
		"REQUEST_ID=00112233445566778899aabbccddeef\n" };
	char last[REQUEST_TRACE_SIZE] = "";

	for (size_t i = 0; i < COUNT(ids); i++) {
		ck_assert_int_eq(BEGIN("REQUEST_URI=/", (char *)ids[i]), OK);
		ck_assert_uint_eq(strspn(req.trace_id, "0123456789abcdef"), 32);
		ck_assert_uint_eq(strlen(req.trace_id), 32);
		ck_assert_str_ne(req.trace_id, NO_TRACE);
		ck_assert_str_ne(req.trace_id, last);
		ck_assert(!req.sampled);
		memcpy(last, req.trace_id, sizeof(last));
	}
}
END_TEST

START_TEST(a_call_made_for_a_request_carries_its_trace_and_a_span_of_its_own)
{
	char first[REQUEST_TRACEPARENT_SIZE], second[REQUEST_TRACEPARENT_SIZE];

	ck_assert_int_eq(BEGIN("REQUEST_URI=/", P(TRACE, "-03")), OK);
	request_traceparent(&req, first);
	request_traceparent(&req, second);
	ck_assert_uint_eq(strlen(first), REQUEST_TRACEPARENT_SIZE - 1);
	ck_assert_int_eq(memcmp(first, "00-" TRACE "-", 36), 0);
	ck_assert_str_eq(first + 52, "-01");
	ck_assert_uint_eq(strspn(first + 36, "0123456789abcdef"), 16);
	ck_assert_str_ne(first, second);
	ck_assert_ptr_null(strstr(first, "b7ad6b7169203331"));
	ck_assert_int_eq(BEGIN("REQUEST_URI=/", P(TRACE, "-02")), OK);
	request_traceparent(&req, first);
	ck_assert_str_eq(first + 52, "-00");
}
END_TEST

static const struct {
	const char *uri;
	const char *segments; /* with | between them */
} paths[] = { { "/", "" }, { "//", "" }, { "///", "" }, { "/a", "a" }, { "/a/", "a" },
	{ "/a//", "a" }, { "//a", "a" }, { "/a/b/c", "a|b|c" }, { "/a//b///c/", "a|b|c" },
	{ "/a+b", "a+b" }, { "/a%20b", "a b" }, { "/%61", "a" }, { "/%c3%a9", "\xc3\xa9" },
	{ "/\xc3\xa9", "\xc3\xa9" }, { "/a%25b", "a%b" }, { "/a%252Fb", "a%2Fb" },
	{ "/...", "..." }, { "/.a", ".a" }, { "/a.", "a." }, { "/a;b=c", "a;b=c" },
	{ "/a:b@c,d!$'()*", "a:b@c,d!$'()*" }, { "/a?b/c", "a" }, { "/?", "" }, { "/a%3Fb", "a?b" },
	{ "/a%23b", "a#b" }, { "/a%0Ab", "a\nb" }, { "/a|b", "a|b" },
	{ "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16", "1|2|3|4|5|6|7|8|9|10|11|12|13|14|15|16" },
	{ "/1//2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/", "1|2|3|4|5|6|7|8|9|10|11|12|13|14|15|16" } };

START_TEST(a_path_is_decoded_once_by_segments)
{
	for (size_t i = 0; i < COUNT(paths); i++) {
		char joined[128] = "";

		ck_assert_msg(begin_uri(paths[i].uri) == OK, "%s: %s", paths[i].uri, err_words());
		for (size_t j = 0; j < req.segment_count; j++) {
			ck_assert_uint_eq(strlen(req.segments[j].s), req.segments[j].n);
			(void)strcat(strcat(joined, j == 0 ? "" : "|"), req.segments[j].s);
		}
		ck_assert_str_eq(joined, paths[i].segments);
		ck_assert_uint_eq(strlen(req.log_path), strcspn(paths[i].uri, "?#&;="));
		ck_assert_int_eq(strncmp(req.log_path, paths[i].uri, strlen(req.log_path)), 0);
	}
}
END_TEST

static const struct {
	const char *uri;
	enum err err;
	const char *words;
} bad_uris[] = { { "", ERR_INPUT, "begin with a slash" }, { "a", ERR_INPUT, "begin with a slash" },
	{ "*", ERR_INPUT, "begin with a slash" }, { "?a=b", ERR_INPUT, "begin with a slash" },
	{ "http://a/b", ERR_INPUT, "begin with a slash" },
	{ " /a", ERR_INPUT, "begin with a slash" }, { "/a%", ERR_INPUT, "broken" },
	{ "/a%2", ERR_INPUT, "broken" }, { "/a%zz", ERR_INPUT, "broken" },
	{ "/%2/2", ERR_INPUT, "broken" }, { "/%u0041", ERR_INPUT, "broken" },
	{ "/%%41", ERR_INPUT, "broken" }, { "/%00", ERR_INPUT, "NUL" },
	{ "/a%00b/c", ERR_INPUT, "NUL" }, { "/a?b=%00", ERR_INPUT, "NUL" },
	{ "/a?%00=b", ERR_INPUT, "NUL" }, { "/a?b=c%00", ERR_INPUT, "NUL" },
	{ "/%ff", ERR_INPUT, "UTF-8" }, { "/\xff", ERR_INPUT, "UTF-8" },
	{ "/%c0%af", ERR_INPUT, "UTF-8" }, { "/%ed%a0%80", ERR_INPUT, "UTF-8" },
	{ "/%c3/%a9", ERR_INPUT, "UTF-8" }, { "/a?b=%ff", ERR_INPUT, "UTF-8" },
	{ "/a?%ff", ERR_INPUT, "UTF-8" }, { "/a?b=%c3&%a9", ERR_INPUT, "UTF-8" },
	{ "/.", ERR_INPUT, ". or .." }, { "/..", ERR_INPUT, ". or .." },
	{ "/a/./b", ERR_INPUT, ". or .." }, { "/a/../b", ERR_INPUT, ". or .." },
	{ "/a/..", ERR_INPUT, ". or .." }, { "/%2e", ERR_INPUT, ". or .." },
	{ "/a/%2e%2E/b", ERR_INPUT, ". or .." }, { "/.%2e", ERR_INPUT, ". or .." },
	{ "/a%2Fb", ERR_INPUT, "a slash" }, { "/a%2f", ERR_INPUT, "a slash" },
	{ "/%2F", ERR_INPUT, "a slash" }, { "/..%2f..", ERR_INPUT, "a slash" },
	{ "/a?b=%", ERR_INPUT, "broken" }, { "/a?%4", ERR_INPUT, "broken" },
	{ "/a?b=c&d=%gg", ERR_INPUT, "broken" },
	{ "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17", ERR_NOT_FOUND, "segments" } };

START_TEST(a_bad_address_is_refused)
{
	for (size_t i = 0; i < COUNT(bad_uris); i++) {
		ck_assert_msg(begin_uri(bad_uris[i].uri) == bad_uris[i].err, "%s", bad_uris[i].uri);
		ck_assert_msg(strstr(err_words(), bad_uris[i].words) != NULL, "%s: %s",
		    bad_uris[i].uri, err_words());
		ck_assert_int_eq(req.method, METHOD_GET);
		ck_assert_uint_eq(strlen(req.trace_id), 32);
		ck_assert(request_drain(&req));
	}
}
END_TEST

START_TEST(path_and_query_are_as_long_as_the_limits_say)
{
	static char uri[12 * 1024];

	for (size_t n = REQUEST_PATH_MAX - 1; n <= REQUEST_PATH_MAX + 1; n++) {
		memset(uri, 'a', n);
		uri[0] = '/';
		(void)strcpy(uri + n, "?b=c");
		ck_assert_int_eq(begin_uri(uri), n <= REQUEST_PATH_MAX ? OK : ERR_URI_TOO_LONG);
		ck_assert_uint_eq(strlen(req.log_path), n <= REQUEST_PATH_MAX ? n : 0);
	}
	for (size_t n = REQUEST_QUERY_MAX - 1; n <= REQUEST_QUERY_MAX + 1; n++) {
		(void)strcpy(uri, "/a?");
		memset(uri + 3, 'q', n);
		uri[3 + n] = '\0';
		ck_assert_int_eq(begin_uri(uri), n <= REQUEST_QUERY_MAX ? OK : ERR_URI_TOO_LONG);
		ck_assert_str_eq(req.log_path, "/a");
	}
}
END_TEST

static struct request_text
param(const char *name)
{
	bool found;
	struct request_text value = request_param(&req, name, &found);

	ck_assert_msg(found, "%s is missing", name);
	ck_assert_uint_eq(strlen(value.s), value.n);
	return value;
}

START_TEST(query_parameters_are_decoded_once_with_plus_as_a_space)
{
	bool found;

	ck_assert_int_eq(
	    begin_uri("/a?x=1&y=a+b&z=%2B&u=%c3%a9&e=&n&d%20d=%26%3d&p=a=b=c&q=?/&=v&%2541=w"), OK);
	ck_assert_uint_eq(req.param_count, 11);
	ck_assert_str_eq(param("x").s, "1");
	ck_assert_str_eq(param("y").s, "a b");
	ck_assert_str_eq(param("z").s, "+");
	ck_assert_str_eq(param("u").s, "\xc3\xa9");
	ck_assert_str_eq(param("e").s, "");
	ck_assert_str_eq(param("n").s, "");
	ck_assert_str_eq(param("d d").s, "&=");
	ck_assert_str_eq(param("p").s, "a=b=c");
	ck_assert_str_eq(param("q").s, "?/");
	ck_assert_str_eq(param("").s, "v");
	ck_assert_str_eq(param("%41").s, "w");
	(void)request_param(&req, "X", &found);
	ck_assert(!found);
	(void)request_param(&req, "none", &found);
	ck_assert(!found);
	ck_assert_int_eq(err_pending(), OK);
	ck_assert_int_eq(begin_uri("/a?&&x=1&&"), OK);
	ck_assert_uint_eq(req.param_count, 1);
	ck_assert_str_eq(param("x").s, "1");
}
END_TEST

START_TEST(a_parameter_given_twice_is_a_bad_field)
{
	const struct err_field *fields;
	size_t count;
	bool found = true;

	ck_assert_int_eq(begin_uri("/a?x=1&y=2&%78=1"), OK);
	ck_assert_str_eq(param("y").s, "2");
	ck_assert_int_eq(err_pending(), OK);
	(void)request_param(&req, "x", &found);
	ck_assert(!found);
	fields = err_fields(&count);
	ck_assert_uint_eq(count, 1);
	ck_assert_str_eq(fields[0].pointer, "x");
	ck_assert_str_eq(fields[0].detail, "given twice");
	ck_assert_int_eq(begin_uri("/a?x&x&x"), OK);
	ck_assert(request_param_flag(&req, "x", true));
	(void)err_fields(&count);
	ck_assert_uint_eq(count, 1);
}
END_TEST

START_TEST(a_query_has_as_many_parameters_as_the_limit_says)
{
	char uri[256] = "/a?";

	for (int i = 1; i <= REQUEST_PARAMS_MAX; i++) {
		(void)snprintf(uri + strlen(uri), sizeof(uri) - strlen(uri), "&a%d", i);
		ck_assert_int_eq(begin_uri(uri), OK);
		ck_assert_uint_eq(req.param_count, (size_t)i);
	}
	(void)strcat(uri, "&&");
	ck_assert_int_eq(begin_uri(uri), OK);
	(void)strcat(uri, "b");
	ck_assert_int_eq(begin_uri(uri), ERR_INPUT);
	ck_assert_str_eq(err_words(), "more than 32 query parameters");
}
END_TEST

START_TEST(a_flag_is_true_or_false)
{
	static const char *const bad[] = { "/?f=", "/?f", "/?f=1", "/?f=yes", "/?f=True",
		"/?f=true+" };
	size_t count;

	ck_assert_int_eq(begin_uri("/?yes=true&no=false"), OK);
	ck_assert(request_param_flag(&req, "yes", false));
	ck_assert(!request_param_flag(&req, "no", true));
	ck_assert(request_param_flag(&req, "other", true));
	ck_assert(!request_param_flag(&req, "other", false));
	ck_assert_int_eq(err_pending(), OK);
	for (size_t i = 0; i < COUNT(bad); i++) {
		ck_assert_int_eq(begin_uri(bad[i]), OK);
		(void)request_param_flag(&req, "f", true);
		ck_assert_str_eq(err_fields(&count)[0].detail, "must be true or false");
		ck_assert_uint_eq(count, 1);
	}
}
END_TEST

static const struct {
	const char *accept;
	bool json, csv;
} accepts[] = { { "", true, true }, { "*/*", true, true }, { "application/json", true, false },
	{ "Application/JSON", true, false }, { "application/*", true, false },
	{ "APPLICATION/*", true, false }, { "text/html", false, false }, { "text/*", false, true },
	{ "text/html, application/json", true, false },
	{ "text/html,application/json,text/csv", true, true },
	{ "text/html;q=0.9, */*;q=0.1", true, true }, { "application/json;q=0", false, false },
	{ "application/json; q=0", false, false }, { "application/json ; q=0.000", false, false },
	{ "application/json;\tq=0", false, false }, { "application/json;q=0\t", false, false },
	{ "application/json;Q=0.0", false, false }, { "application/json;q=0.001", true, false },
	{ "application/json;q=1", true, false }, { "application/json;q=0, */*", false, true },
	{ "*/*, application/json;q=0", false, true }, { "application/*;q=0, */*", false, true },
	{ "application/json, application/*;q=0", true, false }, { "*/*;q=0", false, false },
	{ "*/*;q=0, text/csv", false, true }, { "application/json;charset=utf-8", true, false },
	{ "application/json;charset=utf-8;q=0", false, false },
	{ "application/json;charset=utf-8; q=0.5", true, false },
	{ "application/json ", true, false }, { "\tapplication/json", true, false },
	{ ",,application/json,", true, false }, { "application", false, false },
	{ "application/", false, false }, { "/json", false, false },
	{ "application/jsonx", false, false }, { "xapplication/json", false, false },
	{ "*", false, false }, { "*/json", false, false }, { "app/*", false, false },
	{ "application/problem+json", false, false }, { ";q=0", false, false },
	{ "a;b;c;d,;,=", false, false }, { "application/json;", true, false },
	{ "application/json;q", true, false }, { "application/json; eq=0", true, false } };

START_TEST(accept_admits_what_it_names_unless_its_weight_is_zero)
{
	char meta[128];

	for (size_t i = 0; i < COUNT(accepts); i++) {
		(void)snprintf(meta, sizeof(meta), "HTTP_ACCEPT=%s", accepts[i].accept);
		ck_assert_int_eq(BEGIN("REQUEST_URI=/", meta), OK);
		ck_assert_msg(request_accepts(&req, "application/json") == accepts[i].json,
		    "json by %s", accepts[i].accept);
		ck_assert_msg(request_accepts(&req, "text/csv") == accepts[i].csv, "csv by %s",
		    accepts[i].accept);
	}
	ck_assert_int_eq(BEGIN("REQUEST_URI=/"), OK);
	ck_assert(request_accepts(&req, "image/png"));
}
END_TEST

START_TEST(a_preference_is_a_word_of_its_own)
{
	static const struct {
		const char *prefer;
		bool async;
	} prefers[] = {
		{ "", false },
		{ "respond-async", true },
		{ "Respond-Async", true },
		{ "respond-async, wait=10", true },
		{ "wait=10,respond-async;x=\"y\"", true },
		{ " \t,, respond-async ", true },
		{ "respond-async=1", true },
		{ "respond-asynchronously", false },
		{ "respond", false },
		{ "wait=respond-async", false },
		{ "xrespond-async", false },
		{ "foo=\"x, respond-async, y\"", false },
		{ "foo=\"\\\", respond-async\"", false },
		{ "foo=\"x\", respond-async", true },
		{ "foo=\"x", false },
		{ ",", false },
	};
	char meta[128];

	for (size_t i = 0; i < COUNT(prefers); i++) {
		(void)snprintf(meta, sizeof(meta), "HTTP_PREFER=%s", prefers[i].prefer);
		ck_assert_int_eq(BEGIN("REQUEST_URI=/", meta), OK);
		ck_assert_msg(request_prefers(&req, "respond-async") == prefers[i].async, "%s",
		    prefers[i].prefer);
	}
	ck_assert_int_eq(BEGIN("REQUEST_URI=/"), OK);
	ck_assert(!request_prefers(&req, "respond-async"));
}
END_TEST

START_TEST(a_content_length_is_digits_or_refused)
{
	static const char *const bad[] = { "CONTENT_LENGTH=x", "CONTENT_LENGTH=-1",
		"CONTENT_LENGTH=+1", "CONTENT_LENGTH= 1", "CONTENT_LENGTH=1 ", "CONTENT_LENGTH=1,1",
		"CONTENT_LENGTH=0x10", "CONTENT_LENGTH=1e3", "CONTENT_LENGTH=9223372036854775808",
		"CONTENT_LENGTH=18446744073709551617", "CONTENT_LENGTH=12abc" };

	for (size_t i = 0; i < COUNT(bad); i++) {
		ck_assert_msg(
		    BEGIN("REQUEST_METHOD=POST", "REQUEST_URI=/", (char *)bad[i]) == ERR_INPUT,
		    "%s", bad[i]);
		ck_assert_int_eq(req.content_left, 0);
		ck_assert_uint_eq(strlen(req.trace_id), 32);
	}
	ck_assert_int_eq(BEGIN("REQUEST_URI=/", "CONTENT_LENGTH=9223372036854775807"), OK);
	ck_assert_int_eq(req.content_length, INT64_MAX);
	ck_assert_int_eq(BEGIN("REQUEST_URI=/", "CONTENT_LENGTH="), OK);
	ck_assert_int_eq(BEGIN("REQUEST_URI=/", "CONTENT_LENGTH=007"), OK);
	ck_assert_int_eq(req.content_length, 7);
}
END_TEST

static void
begin_body(const char *length, struct body *body)
{
	static char meta[64];

	(void)snprintf(meta, sizeof(meta), "CONTENT_LENGTH=%s", length);
	ck_assert_int_eq(
	    begin((char *[]){ (char *)"REQUEST_METHOD=POST", (char *)"REQUEST_URI=/", meta, NULL },
		body),
	    OK);
}

START_TEST(a_body_is_read_to_its_length_and_no_further)
{
	for (size_t step = 1; step < 8; step++) {
		struct body body = { "{\"a\":1}rest", 11, step, 0, 0 };
		char *bytes;
		size_t n;

		begin_body("7", &body);
		ck_assert_int_eq(request_body(&req, 7, &bytes, &n), OK);
		ck_assert_uint_eq(n, 7);
		ck_assert_str_eq(bytes, "{\"a\":1}");
		ck_assert_uint_eq(body.n, 4);
		ck_assert_int_eq(req.content_left, 0);
		ck_assert_int_eq(req.content_length, 7);
		free(bytes);
	}
}
END_TEST

START_TEST(a_missing_body_is_empty_and_nothing_is_read)
{
	struct body body = { "rest", 4, 4, 0, 0 };
	char *bytes, byte;
	size_t n;

	begin_body("", &body);
	ck_assert_int_eq(request_body(&req, 0, &bytes, &n), OK);
	ck_assert_uint_eq(n, 0);
	ck_assert_str_eq(bytes, "");
	free(bytes);
	ck_assert_int_eq(request_read(&req, &byte, 1, &n), OK);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(body.calls, 0);
}
END_TEST

START_TEST(a_body_over_its_limit_is_refused_before_anything_is_read)
{
	struct body body = { "12345678", 8, 8, 0, 0 };
	char *bytes = (char *)&body;
	size_t n = 7;

	begin_body("8", &body);
	ck_assert_int_eq(request_body(&req, 7, &bytes, &n), ERR_TOO_LARGE);
	ck_assert_str_eq(err_words(), "the body must be at most 7 bytes");
	ck_assert_ptr_null(bytes);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(body.calls, 0);
	ck_assert(request_drain(&req));
	begin_body("9223372036854775807", &body);
	ck_assert_int_eq(request_body(&req, REQUEST_BODY_MAX, &bytes, &n), ERR_TOO_LARGE);
}
END_TEST

START_TEST(a_body_that_stops_early_is_refused)
{
	static const struct {
		ssize_t end;
		enum err err;
	} rows[] = { { 0, ERR_INPUT }, { -1, ERR_GONE } };

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct body body = { "1234567", 7, 3, rows[i].end, 0 };
		char *bytes;
		size_t n;

		begin_body("8", &body);
		ck_assert_int_eq(request_body(&req, 100, &bytes, &n), rows[i].err);
		ck_assert_ptr_null(bytes);
		ck_assert_uint_eq(n, 0);
		ck_assert(!request_drain(&req));
	}
}
END_TEST

START_TEST(a_body_is_read_piece_by_piece)
{
	struct body body = { "1234567", 7, 3, 0, 0 };
	char buffer[8];
	size_t n;

	begin_body("7", &body);
	ck_assert_int_eq(request_read(&req, buffer, 2, &n), OK);
	ck_assert_uint_eq(n, 2);
	ck_assert_int_eq(request_read(&req, buffer, 0, &n), OK);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(request_read(&req, buffer, 8, &n), OK);
	ck_assert_uint_eq(n, 3);
	ck_assert_mem_eq(buffer, "345", 3);
	ck_assert_int_eq(req.content_left, 2);
	ck_assert_int_eq(request_read(&req, buffer, 8, &n), OK);
	ck_assert_uint_eq(n, 2);
	ck_assert_int_eq(request_read(&req, buffer, 8, &n), OK);
	ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(what_is_left_of_a_body_is_drained_up_to_a_megabyte)
{
	static char bytes[REQUEST_BODY_MAX];
	char buffer[16];
	struct body body = { bytes, sizeof(bytes), 100000, 0, 0 };
	size_t n;

	begin_body("1048576", &body);
	ck_assert_int_eq(request_read(&req, buffer, sizeof(buffer), &n), OK);
	ck_assert(request_drain(&req));
	ck_assert_int_eq(req.content_left, 0);
	ck_assert_uint_eq(body.n, 0);
	ck_assert(request_drain(&req));
	body = (struct body){ bytes, sizeof(bytes), 100000, 0, 0 };
	begin_body("1048577", &body);
	ck_assert(!request_drain(&req));
	ck_assert_int_eq(body.calls, 0);
	body = (struct body){ bytes, 10, 100000, 0, 0 };
	begin_body("11", &body);
	ck_assert(!request_drain(&req));
}
END_TEST

START_TEST(a_capture_is_found_by_its_name)
{
	ck_assert_int_eq(begin_uri("/a/b"), OK);
	req.captures[0] = (struct request_param){ { "id}", 2 }, req.segments[1] };
	req.captures[1] = (struct request_param){ { "other}", 5 }, req.segments[0] };
	req.capture_count = 2;
	ck_assert_str_eq(request_capture(&req, "id").s, "b");
	ck_assert_str_eq(request_capture(&req, "other").s, "a");
}
END_TEST

static void
capture_unknown(void)
{
	(void)begin_uri("/a/b");
	(void)request_capture(&req, "id");
}

START_TEST(a_capture_that_is_not_in_the_template_aborts)
{
	ck_assert(aborts(capture_unknown));
}
END_TEST

START_TEST(the_fields_of_conditions_and_retries_are_taken)
{
	static const char *const meta[] = { "HTTP_IF_MATCH=\"1-0\"", "HTTP_IF_NONE_MATCH=*",
		"HTTP_IDEMPOTENCY_KEY=a=b", "HTTP_CONTENT_ENCODING=gzip", "HTTP_IF_MATCHES=x",
		"IF_MATCH=x", "HTTP_IDEMPOTENCY=x", "CONTENT_ENCODING=x" };

	ck_assert_int_eq(BEGIN("REQUEST_URI=/", (char *)meta[0], (char *)meta[1], (char *)meta[2],
			     (char *)meta[3], (char *)meta[4], (char *)meta[5], (char *)meta[6],
			     (char *)meta[7]),
	    OK);
	ck_assert_str_eq(req.if_match, "\"1-0\"");
	ck_assert_str_eq(req.if_none_match, "*");
	ck_assert_str_eq(req.idempotency_key, "a=b");
	ck_assert_str_eq(req.content_encoding, "gzip");
	ck_assert_int_eq(BEGIN("REQUEST_URI=/"), OK);
	ck_assert_str_eq(req.if_match, "");
	ck_assert_str_eq(req.if_none_match, "");
	ck_assert_str_eq(req.idempotency_key, "");
	ck_assert_str_eq(req.content_encoding, "");
	ck_assert_uint_eq(req.roles, 0);
	ck_assert_str_eq(req.who, "");
}
END_TEST

static const struct {
	const char *uri;
	bool found;
	int64_t value; /* within 1..1000 */
	const char *detail; /* of a bad field */
} numbers[] = {
	{ "/a", false, 0, NULL },
	{ "/a?m=5", false, 0, NULL },
	{ "/a?n=1", true, 1, NULL },
	{ "/a?n=1000", true, 1000, NULL },
	{ "/a?n=0001000", true, 1000, NULL },
	{ "/a?%6e=%31%30", true, 10, NULL },
	{ "/a?n=0", false, 0, "must be a whole number of 1..1000" },
	{ "/a?n=1001", false, 0, "must be a whole number of 1..1000" },
	{ "/a?n=", false, 0, "must be a whole number of 1..1000" },
	{ "/a?n", false, 0, "must be a whole number of 1..1000" },
	{ "/a?n=-1", false, 0, "must be a whole number of 1..1000" },
	{ "/a?n=+1", false, 0, "must be a whole number of 1..1000" },
	{ "/a?n=%2B1", false, 0, "must be a whole number of 1..1000" },
	{ "/a?n=5.0", false, 0, "must be a whole number of 1..1000" },
	{ "/a?n=1e2", false, 0, "must be a whole number of 1..1000" },
	{ "/a?n=0x10", false, 0, "must be a whole number of 1..1000" },
	{ "/a?n=%D9%A1", false, 0, "must be a whole number of 1..1000" },
	{ "/a?n=18446744073709551617", false, 0, "must be a whole number of 1..1000" },
	{ "/a?n=1&n=1", false, 0, "given twice" },
};

START_TEST(a_parameter_that_is_a_number_is_read_within_its_bounds)
{
	for (size_t i = 0; i < COUNT(numbers); i++) {
		int64_t value = -77;
		bool found = !numbers[i].found;
		size_t count;
		const struct err_field *fields;

		ck_assert_int_eq(begin_uri(numbers[i].uri), OK);
		request_param_int(&req, "n", 1, 1000, &value, &found);
		ck_assert_msg(found == numbers[i].found, "%s", numbers[i].uri);
		ck_assert_int_eq(value, found ? numbers[i].value : -77);
		fields = err_fields(&count);
		ck_assert_msg(count == (numbers[i].detail != NULL), "%s", numbers[i].uri);
		if (count == 1) {
			ck_assert_str_eq(fields[0].pointer, "n");
			ck_assert_str_eq(fields[0].detail, numbers[i].detail);
		}
	}
}
END_TEST

static const struct {
	const char *uri;
	bool found;
	int64_t us;
	const char *detail; /* how it begins */
} instants[] = {
	{ "/a", false, 0, NULL },
	{ "/a?t=1970-01-01T00:00:00Z", true, 0, NULL },
	{ "/a?t=2026-11-21T04:18:58.123456Z", true, INT64_C(1795234738123456), NULL },
	{ "/a?t=2026-11-21T05:18:58%2B01:00", true, INT64_C(1795234738000000), NULL },
	{ "/a?t=2026-11-21+04%3A18:58", true, INT64_C(1795234738000000), NULL },
	{ "/a?t=2026-11-21T05:18:58+01:00", false, 0, "must be a date and time" },
	{ "/a?t=", false, 0, "must be a date and time" },
	{ "/a?t", false, 0, "must be a date and time" },
	{ "/a?t=2026-11-21", false, 0, "must be a date and time" },
	{ "/a?t=2026-02-29T00:00:00Z", false, 0, "must be a date and time" },
	{ "/a?t=1795234738", false, 0, "must be a date and time" },
	{ "/a?t=now", false, 0, "must be a date and time" },
	{ "/a?t=2026-11-21T04:18:58Z&t=2026-11-21T04:18:58Z", false, 0, "given twice" },
};

START_TEST(a_parameter_that_is_an_instant_is_read_to_the_microsecond)
{
	for (size_t i = 0; i < COUNT(instants); i++) {
		int64_t us = -77;
		bool found = !instants[i].found;
		size_t count;
		const struct err_field *fields;

		ck_assert_int_eq(begin_uri(instants[i].uri), OK);
		request_param_time(&req, "t", &us, &found);
		ck_assert_msg(found == instants[i].found, "%s", instants[i].uri);
		ck_assert_int_eq(us, found ? instants[i].us : -77);
		fields = err_fields(&count);
		ck_assert_msg(count == (instants[i].detail != NULL), "%s", instants[i].uri);
		if (count == 1) {
			ck_assert_str_eq(fields[0].pointer, "t");
			ck_assert_ptr_eq(
			    strstr(fields[0].detail, instants[i].detail), fields[0].detail);
		}
	}
}
END_TEST

static const struct {
	const char *segment;
	int64_t id; /* 0: none */
} ids[] = { { "1", 1 }, { "42", 42 }, { "9223372036854775807", INT64_MAX }, { "0", 0 },
	{ "9223372036854775808", 0 }, { "18446744073709551617", 0 }, { "-1", 0 }, { "+1", 0 },
	{ "1.0", 0 }, { "1e3", 0 }, { "0x1", 0 }, { "%201", 0 }, { "1%20", 0 }, { "1%0A", 0 },
	{ "one", 0 }, { "1a", 0 }, { "%D9%A1", 0 } };

START_TEST(a_capture_is_an_id_or_there_is_nothing)
{
	for (size_t i = 0; i < COUNT(ids); i++) {
		char uri[64];
		int64_t id = -77;
		size_t count;

		(void)snprintf(uri, sizeof(uri), "/a/%s", ids[i].segment);
		ck_assert_int_eq(begin_uri(uri), OK);
		req.captures[0] = (struct request_param){ { "id}", 2 }, req.segments[1] };
		req.capture_count = 1;
		ck_assert_msg(request_id(&req, "id", &id) == (ids[i].id > 0 ? OK : ERR_NOT_FOUND),
		    "%s", ids[i].segment);
		if (ids[i].id > 0)
			ck_assert_int_eq(id, ids[i].id);
		(void)err_fields(&count);
		ck_assert_uint_eq(count, 0);
	}
}
END_TEST

static const struct {
	const char *type, *encoding;
	bool is;
} types[] = {
	{ "application/json", "", true },
	{ "Application/JSON", "", true },
	{ "application/json;charset=utf-8", "", true },
	{ "application/json ; charset=utf-8", "", true },
	{ "application/json\t; x=\"a;b\"", "", true },
	{ "application/json", "identity", true },
	{ "application/json", "Identity", true },
	{ "application/json", "gzip", false },
	{ "application/json", "identity, gzip", false },
	{ "", "", false },
	{ ";", "", false },
	{ " application/json", "", false },
	{ "application/json,text/csv", "", false },
	{ "application/jso", "", false },
	{ "application/jsonx", "", false },
	{ "application/json+x", "", false },
	{ "application/problem+json", "", false },
	{ "application/*", "", false },
	{ "*/*", "", false },
	{ "text/json", "", false },
	{ "application/x-ndjson", "", false },
};

START_TEST(a_body_is_of_the_type_it_says_unless_it_is_encoded)
{
	for (size_t i = 0; i < COUNT(types); i++) {
		char type[128], encoding[64];

		(void)snprintf(type, sizeof(type), "CONTENT_TYPE=%s", types[i].type);
		(void)snprintf(
		    encoding, sizeof(encoding), "HTTP_CONTENT_ENCODING=%s", types[i].encoding);
		ck_assert_int_eq(BEGIN("REQUEST_URI=/", type, encoding), OK);
		ck_assert_msg(request_is(&req, "application/json") == types[i].is, "%s %s",
		    types[i].type, types[i].encoding);
	}
}
END_TEST

CHECK_MAIN(request,
    { the_meta_variables_are_taken_and_others_ignored,
	what_is_missing_is_empty_and_the_request_can_still_be_answered,
	methods_are_those_of_http_in_capitals, a_traceparent_of_the_w3c_is_taken_and_no_other,
	without_any_id_a_trace_gets_one_of_its_own,
	a_call_made_for_a_request_carries_its_trace_and_a_span_of_its_own,
	a_path_is_decoded_once_by_segments, a_bad_address_is_refused,
	path_and_query_are_as_long_as_the_limits_say,
	query_parameters_are_decoded_once_with_plus_as_a_space,
	a_parameter_given_twice_is_a_bad_field, a_query_has_as_many_parameters_as_the_limit_says,
	a_flag_is_true_or_false, accept_admits_what_it_names_unless_its_weight_is_zero,
	a_preference_is_a_word_of_its_own, a_content_length_is_digits_or_refused,
	a_body_is_read_to_its_length_and_no_further, a_missing_body_is_empty_and_nothing_is_read,
	a_body_over_its_limit_is_refused_before_anything_is_read,
	a_body_that_stops_early_is_refused, a_body_is_read_piece_by_piece,
	what_is_left_of_a_body_is_drained_up_to_a_megabyte, a_capture_is_found_by_its_name,
	a_capture_that_is_not_in_the_template_aborts,
	the_fields_of_conditions_and_retries_are_taken,
	a_parameter_that_is_a_number_is_read_within_its_bounds,
	a_parameter_that_is_an_instant_is_read_to_the_microsecond,
	a_capture_is_an_id_or_there_is_nothing,
	a_body_is_of_the_type_it_says_unless_it_is_encoded })
