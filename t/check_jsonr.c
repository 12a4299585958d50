#include "test.h"

#include <stdio.h>

#include "lib/jsonr.h"

struct body {
	const char *s;
	size_t n;
};

/* A text with its length, since it may hold a NUL. */
#define T(text) \
	{ \
		text, sizeof(text) - 1 \
	}

static const struct body refused[] = {
	/* No value, or not one value. */
	T(""), T(" "), T("\n"), T("{}{}"), T("{} {}"), T("{}x"), T("{},"), T("{}]"), T("{}}"),
	T("{}\0"), T("{}\0{}"), T("\0{}"), T("{\0}"), T("{} \0"), T("{}/**/"), T("{}//"), T("{} #"),
	T("\xef\xbb\xbf{}"), T("\xff\xfe{\0}\0"), T("{}\x0b"), T("\x0c{}"), T("\xc2\xa0{}"),
	/* The top must be an object. */
	T("[]"), T("[{}]"), T("null"), T("true"), T("1"), T("\"a\""), T(" []"),
	/* Objects and arrays. */
	T("{"), T("}"), T("{,}"), T("{\"a\"}"), T("{\"a\":}"), T("{\"a\":1,}"), T("{,\"a\":1}"),
	T("{\"a\":1 \"b\":2}"), T("{\"a\":1;\"b\":2}"), T("{\"a\" 1}"), T("{\"a\"=1}"),
	T("{\"a\"::1}"), T("{\"a\":1,,\"b\":2}"), T("{a:1}"), T("{'a':1}"), T("{\"a':1}"),
	T("{\"a\":'b'}"), T("{1:2}"), T("{null:1}"), T("{[]:1}"), T("{\"a\":1]"), T("{\"a\":[1}"),
	T("{\"a\":[1,]}"), T("{\"a\":[,1]}"), T("{\"a\":[,]}"), T("{\"a\":[1 2]}"),
	T("{\"a\":[1,,2]}"), T("{\"a\":]}"), T("{\"a\":[}"), T("{\"a\":1/*x*/}"), T("{/**/}"),
	T("{\"a\":1//\n}"), T("{\"a\":1#\n}"), T("{(\"a\":1)}"),
	/* Words. */
	T("{\"a\":nul}"), T("{\"a\":nulll}"), T("{\"a\":True}"), T("{\"a\":TRUE}"),
	T("{\"a\":tru e}"), T("{\"a\":NULL}"), T("{\"a\":undefined}"), T("{\"a\":None}"),
	T("{\"a\":fals}"), T("{\"a\":t"), T("{\"a\":nan}"), T("{\"a\":NaN}"), T("{\"a\":-NaN}"),
	T("{\"a\":Infinity}"), T("{\"a\":-Infinity}"), T("{\"a\":inf}"),
	/* Numbers. */
	T("{\"a\":-01}"), T("{\"a\":01}"), T("{\"a\":00}"), T("{\"a\":1.}"), T("{\"a\":.5}"),
	T("{\"a\":-.5}"), T("{\"a\":-}"), T("{\"a\":+1}"), T("{\"a\":--1}"), T("{\"a\":1e}"),
	T("{\"a\":1e+}"), T("{\"a\":1e-}"), T("{\"a\":1.e5}"), T("{\"a\":1e5.5}"),
	T("{\"a\":1.2.3}"), T("{\"a\":0x10}"), T("{\"a\":1_000}"), T("{\"a\":1 000}"),
	T("{\"a\":1,5}"), T("{\"a\":12abc}"), T("{\"a\":1f}"), T("{\"a\":1e400}"),
	T("{\"a\":-1e400}"), T("{\"a\":1E+309}"), T("{\"a\":9223372036854775808}"),
	T("{\"a\":-9223372036854775809}"), T("{\"a\":18446744073709551616}"),
	T("{\"a\":18446744073709551615}"), T("{\"a\":99999999999999999999999999}"),
	T("{\"a\":1\0}"), T("{\"a\":\xd9\xa1}"), T("{\"a\":- 1}"), T("{\"a\":1e 5}"),
	/* Strings. */
	T("{\"a\":\"b}"), T("{\"a\":b\"}"), T("{\"a\":\"b\"c\"}"), T("{\"a\":\"\n\"}"),
	T("{\"a\":\"\t\"}"), T("{\"a\":\"\x01\"}"), T("{\"a\":\"\x1f\"}"), T("{\"a\":\"\0\"}"),
	T("{\"\n\":1}"), T("{\"\0\":1}"), T("{\"a\":\"\\\"}"), T("{\"a\":\"\\x41\"}"),
	T("{\"a\":\"\\'\"}"), T("{\"a\":\"\\a\"}"), T("{\"a\":\"\\0\"}"), T("{\"a\":\"\\\0\"}"),
	T("{\"a\":\"\\\n\"}"), T("{\"a\":\"\\U0041\"}"), T("{\"a\":\"\\u\"}"),
	T("{\"a\":\"\\u004\"}"), T("{\"a\":\"\\u00g1\"}"), T("{\"a\":\"\\u 041\"}"),
	T("{\"a\":\"\\u+041\"}"), T("{\"a\":\"\\u0000\"}"), T("{\"\\u0000\":1}"),
	T("{\"type_id\\u0000x\":1}"), T("{\"a\":\"\\ud800\"}"), T("{\"a\":\"\\udfff\"}"),
	T("{\"a\":\"\\udc00\\ud800\"}"), T("{\"a\":\"\\ud800\\ud800\"}"), T("{\"a\":\"\\ud800x\"}"),
	T("{\"a\":\"\\ud800\\n\"}"), T("{\"a\":\"\\ud800\\u0041\"}"),
	T("{\"a\":\"\\ud83d\\uDE0\"}"), T("{\"\\ud800\":1}"),
	/* Not UTF-8. */
	T("{\"a\":\"\xff\"}"), T("{\"a\":\"\x80\"}"), T("{\"a\":\"\xc3\"}"),
	T("{\"a\":\"\xc0\xaf\"}"), T("{\"a\":\"\xe0\x80\xaf\"}"), T("{\"a\":\"\xed\xa0\x80\"}"),
	T("{\"a\":\"\xed\xa0\xbd\xed\xb8\x80\"}"), T("{\"a\":\"\xf4\x90\x80\x80\"}"),
	T("{\"\xff\":1}"), T("{\"a\":\"\xe2\x82\"}"), T("{\"a\":\xc3\xa9}"), T("{\xff}"),
	/* A member twice, as written or only in effect. */
	T("{\"a\":1,\"a\":1}"), T("{\"a\":1,\"b\":2,\"a\":3}"), T("{\"a\":1,\"\\u0061\":1}"),
	T("{\"\\u0061\":1,\"\\u0061\":1}"), T("{\"x\":{\"a\":1,\"a\":2}}"),
	T("{\"x\":[{\"a\":1,\"a\":2}]}"), T("{\"x\":[[{\"a\":1,\"\\u0061\":null}]]}"),
	T("{\"\":1,\"\":2}"), T("{\"/\":1,\"\\/\":2}"), T("{\"\xc3\xa9\":1,\"\\u00e9\":2}"),
	T("{\"a\":null,\"a\":null}"), T("{\"a\":{},\"a\":{}}")
};

START_TEST(whatever_is_not_rfc_8259_and_unambiguous_is_refused)
{
	for (size_t i = 0; i < COUNT(refused); i++) {
		struct jsonr body = { (struct json_object *)&body };
		size_t count;

		err_clear();
		ck_assert_msg(jsonr_parse(refused[i].s, refused[i].n, &body) == ERR_INPUT,
		    "row %zu: %s", i, refused[i].s);
		ck_assert_ptr_null(body.root);
		(void)err_fields(&count);
		ck_assert_msg(err_words()[0] != '\0' || count == 1, "row %zu says nothing", i);
	}
}
END_TEST

static const struct body accepted[] = { T("{}"), T(" \t\r\n{ \t\r\n} \t\r\n"), T("{\"a\":1}"),
	T("{\"a\" : 1 , \"b\" : 2 }"), T("{\"\":1}"), T("{\"a\":null}"),
	T("{\"a\":true,\"b\":false}"), T("{\"a\":[]}"), T("{\"a\":[ ]}"), T("{\"a\":{}}"),
	T("{\"a\":[1,\"x\",null,true,{},[]]}"), T("{\"a\":0}"), T("{\"a\":-0}"), T("{\"a\":-0.0}"),
	T("{\"a\":0e0}"), T("{\"a\":1e5}"), T("{\"a\":1E5}"), T("{\"a\":1e+5}"), T("{\"a\":1e-5}"),
	T("{\"a\":1.5e05}"), T("{\"a\":0.5}"), T("{\"a\":-1.25E-2}"), T("{\"a\":1e308}"),
	T("{\"a\":1e-400}"), T("{\"a\":0e400}"), T("{\"a\":9223372036854775807}"),
	T("{\"a\":-9223372036854775808}"), T("{\"a\":\"\"}"),
	T("{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}"), T("{\"a\":\"\\u0041\\u00e9\\uFFFD\"}"),
	T("{\"a\":\"\\ud83d\\ude00\"}"), T("{\"a\":\"\\uD83D\\uDE00\"}"), T("{\"a\":\"\\u0001\"}"),
	T("{\"a\":\"\x7f\"}"), T("{\"a\":\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"}"),
	T("{\"a\":\"\xef\xbb\xbf\"}"), T("{\"a\":\"\\ufeff\"}"), T("{\"a\":\"/*x*/ // #\"}"),
	T("{\"\xc3\xa9\":1}"), T("{\"a b\":1}"), T("{\"a\":1,\"A\":2}"), T("{\"a\":1,\"aa\":2}"),
	T("{\"a\":{\"a\":{\"a\":1}}}"), T("{\"x\":[{\"a\":1},{\"a\":2}]}"),
	T("{\"\\u0061\":1,\"b\":2}"), T("{\"a\":[1.0,10.00]}"),
	T("{\"a\":\"\\ud800\\udc00\\udbff\\udfff\"}"), T("{\"__proto__\":1,\"constructor\":2}") };

START_TEST(what_is_rfc_8259_is_accepted)
{
	for (size_t i = 0; i < COUNT(accepted); i++) {
		struct jsonr body;

		ck_assert_msg(jsonr_parse(accepted[i].s, accepted[i].n, &body) == OK, "%s: %s",
		    accepted[i].s, err_words());
		ck_assert_ptr_nonnull(body.root);
		ck_assert_int_eq(err_pending(), OK);
		jsonr_close(&body);
		ck_assert_ptr_null(body.root);
	}
}
END_TEST

static const char sample[] =
    "{\"name\": \"caf\\u00e9 \xf0\x9f\x98\x80 \\ud83d\\ude00\", "
    "\"list\": [1, -2.5e+3, true, false, null, {}], \"deep\": {\"a\": {\"b\": \"\\n\"}}}";

START_TEST(a_body_that_stops_anywhere_is_refused)
{
	size_t n = sizeof(sample) - 1;
	struct jsonr body;
	char *copy;

	ck_assert_int_eq(jsonr_parse(sample, n, &body), OK);
	jsonr_close(&body);
	for (size_t cut = 0; cut < n; cut++) {
		/* Of the very size, so that a sanitizer sees a step beyond it. */
		ck_assert_ptr_nonnull(copy = malloc(cut + (cut == 0)));
		memcpy(copy, sample, cut);
		ck_assert_msg(jsonr_parse(copy, cut, &body) == ERR_INPUT, "cut at %zu", cut);
		ck_assert_ptr_null(body.root);
		free(copy);
	}
}
END_TEST

START_TEST(a_body_that_goes_on_is_refused)
{
	size_t n = sizeof(sample) - 1;
	char longer[sizeof(sample)];
	struct jsonr body;

	memcpy(longer, sample, n);
	for (int c = 0; c < 256; c++) {
		bool space = c == ' ' || c == '\t' || c == '\n' || c == '\r';

		longer[n] = (char)c;
		ck_assert_int_eq(jsonr_parse(longer, n + 1, &body), space ? OK : ERR_INPUT);
		jsonr_close(&body);
	}
}
END_TEST

static const struct {
	struct body body;
	const char *words;
} where[] = {
	{ T(""), "the body is not valid JSON at byte 0: a value belongs here" },
	{ T("{}x"), "the body is not valid JSON at byte 2: nothing may follow the value" },
	{ T("{\"a\":1,}"), "the body is not valid JSON at byte 7: a string belongs here" },
	{ T("{\"a\" 1}"), "the body is not valid JSON at byte 5: a colon belongs here" },
	{ T("{\"a\":1 2}"), "the body is not valid JSON at byte 7: a comma or } belongs here" },
	{ T("{\"a\":[1 2]}"), "the body is not valid JSON at byte 8: a comma or ] belongs here" },
	{ T("{\"a\":\"\xff\"}"), "#/a: not UTF-8" },
	{ T("{\"a\":{\"b\":[1,\"\\u0000\"]}}"), "#/a/b/1: NUL is not allowed" },
	{ T("{\"a\":1,\"\xff\":2}"), "the body is not valid JSON at byte 8: not UTF-8" },
	{ T("{\"a\":tru}"), "the body is not valid JSON at byte 5: unknown word" },
	{ T("{\"a\":\"\n\"}"), "#/a: a control character must be escaped" },
	{ T("{\"a\":\"\\x\"}"), "the body is not valid JSON at byte 7: unknown escape" },
	{ T("[]"), "the body must be a JSON object" },
	{ T("{\"a\":1,\"\\u0061\":2}"), "a member is given twice, once with escapes in its name" },
};

START_TEST(the_words_name_the_byte_or_the_member)
{
	struct jsonr body;

	for (size_t i = 0; i < COUNT(where); i++) {
		err_clear();
		ck_assert_int_eq(jsonr_parse(where[i].body.s, where[i].body.n, &body), ERR_INPUT);
		ck_assert_str_eq(err_words(), where[i].words);
	}
}
END_TEST

static const struct {
	const char *body, *pointer, *detail;
} fields[] = { { "{\"a\":1,\"a\":2}", "#/a", "given twice" },
	{ "{\"x\":{\"b\":1,\"b\":2}}", "#/x/b", "given twice" },
	{ "{\"x\":[1,{},{\"b\":1,\"b\":2}]}", "#/x/2/b", "given twice" },
	{ "{\"x\":[[0,[0,0,1e999]]]}", "#/x/0/1/2", "too large" },
	{ "{\"y\":1,\"x\":9223372036854775808}", "#/x", "64 bits" },
	{ "{\"y\":{\"z\":1},\"x\":{\"z\":{\"q\":-9223372036854775809}}}", "#/x/z/q", "64 bits" },
	{ "{\"a/b\":1e999}", "#/a~1b", "too large" }, { "{\"a~b\":1e999}", "#/a~0b", "too large" },
	{ "{\"~1\":1e999}", "#/~01", "too large" },
	{ "{\"a b%\":1e999}", "#/a%20b%25", "too large" },
	{ "{\"\xc3\xa9\":1e999}", "#/%C3%A9", "too large" }, { "{\"\":1e999}", "#/", "too large" },
	{ "{\"\":{\"\":1e999}}", "#//", "too large" },
	{ "{\"a\\u002fb\\n\":{\"\\u00e9\":1e999}}", "#/a~1b%0A/%C3%A9", "too large" },
	{ "{\"\\\"\\\\\":1e999}", "#/%22%5C", "too large" },
	{ "{\"a\":00000000000000000000000000000000000000000000000000000000000000001}", NULL, NULL },
	{ "{\"a\":10000000000000000000000000000000000000000000000000000000000000000}", "#/a",
	    "digits" } };

START_TEST(a_bad_member_is_named_by_a_json_pointer)
{
	struct jsonr body;
	const struct err_field *found;
	size_t count;

	for (size_t i = 0; i < COUNT(fields); i++) {
		err_clear();
		ck_assert_msg(
		    jsonr_parse(fields[i].body, strlen(fields[i].body), &body) == ERR_INPUT, "%s",
		    fields[i].body);
		found = err_fields(&count);
		ck_assert_uint_eq(count, fields[i].pointer != NULL);
		if (count == 0)
			continue;
		ck_assert_str_eq(found[0].pointer, fields[i].pointer);
		ck_assert_msg(
		    strstr(found[0].detail, fields[i].detail) != NULL, "%s", found[0].detail);
	}
}
END_TEST

/* Bodies at a limit, made by repeating. */
static char big[64 * 1024];

static enum err
parse_repeated(const char *before, const char *repeated, size_t times, const char *after)
{
	size_t n = strlen(before), one = strlen(repeated);
	struct jsonr body;
	enum err err;

	ck_assert_uint_lt(n + one * times + strlen(after), sizeof(big));
	memcpy(big, before, n);
	for (size_t i = 0; i < times; i++, n += one)
		memcpy(big + n, repeated, one);
	memcpy(big + n, after, strlen(after));
	n += strlen(after);
	err_clear();
	err = jsonr_parse(big, n, &body);
	if (err == OK)
		jsonr_close(&body);
	return err;
}

static enum err
parse_nested(const char *open, const char *close, size_t depth, const char *inner)
{
	char ends[512] = "";
	struct jsonr body;
	size_t n = 0;
	enum err err;

	for (size_t i = 0; i < depth; i++) {
		n += (size_t)snprintf(big + n, sizeof(big) - n, "%s", i == 0 ? "{\"a\":" : open);
		(void)strcat(ends, i + 1 < depth ? close : "");
	}
	n += (size_t)snprintf(big + n, sizeof(big) - n, "%s%s}", inner, ends);
	err_clear();
	err = jsonr_parse(big, n, &body);
	if (err == OK)
		jsonr_close(&body);
	return err;
}

START_TEST(nesting_goes_to_the_limit_and_no_further)
{
	ck_assert_int_eq(parse_nested("[", "]", JSONR_DEPTH_MAX, "1"), OK);
	ck_assert_int_eq(parse_nested("[", "]", JSONR_DEPTH_MAX + 1, "1"), ERR_INPUT);
	ck_assert_ptr_nonnull(strstr(err_words(), "nested too deeply"));
	ck_assert_int_eq(parse_nested("{\"a\":", "}", JSONR_DEPTH_MAX, "1"), OK);
	ck_assert_int_eq(parse_nested("{\"a\":", "}", JSONR_DEPTH_MAX - 1, "{}"), OK);
	ck_assert_int_eq(parse_nested("{\"a\":", "}", JSONR_DEPTH_MAX, "{}"), ERR_INPUT);
	ck_assert_int_eq(parse_nested("{\"a\":", "}", JSONR_DEPTH_MAX, "[]"), ERR_INPUT);
	ck_assert_int_eq(parse_nested("{\"a\":", "}", JSONR_DEPTH_MAX + 1, "1"), ERR_INPUT);
	/* Far beyond, and never closed. */
	ck_assert_int_eq(parse_repeated("{\"a\":", "[", 60000, ""), ERR_INPUT);
	ck_assert_int_eq(parse_repeated("", "{\"a\":", 10000, ""), ERR_INPUT);
}
END_TEST

static enum err
parse_members(const char *before, int count, const char *after)
{
	size_t n = (size_t)snprintf(big, sizeof(big), "%s", before);
	struct jsonr body;
	enum err err;

	for (int i = 0; i < count; i++)
		n += (size_t)snprintf(
		    big + n, sizeof(big) - n, "%s\"m%d\":%d", i == 0 ? "" : ",", i, i);
	n += (size_t)snprintf(big + n, sizeof(big) - n, "%s", after);
	err_clear();
	err = jsonr_parse(big, n, &body);
	if (err == OK)
		jsonr_close(&body);
	return err;
}

START_TEST(an_object_has_as_many_members_as_the_limit_says)
{
	ck_assert_int_eq(parse_members("{", JSONR_MEMBERS_MAX, "}"), OK);
	ck_assert_int_eq(parse_members("{", JSONR_MEMBERS_MAX + 1, "}"), ERR_INPUT);
	ck_assert_ptr_nonnull(strstr(err_words(), "too many members"));
	ck_assert_int_eq(parse_members("{\"x\":{", JSONR_MEMBERS_MAX, "},\"y\":{}}"), OK);
	ck_assert_int_eq(parse_members("{\"x\":[{", JSONR_MEMBERS_MAX + 1, "}]}"), ERR_INPUT);
	/* The limit is of one object, not of all together; arrays have none. */
	ck_assert_int_eq(parse_repeated("{\"x\":[", "{\"a\":1,\"b\":2},", 1000, "0]}"), OK);
	ck_assert_int_eq(parse_repeated("{\"x\":[", "7,", 20000, "0]}"), OK);
}
END_TEST

START_TEST(a_string_has_as_many_bytes_as_the_limit_says)
{
	ck_assert_int_eq(parse_repeated("{\"a\":\"", "x", JSONR_STRING_MAX, "\"}"), OK);
	ck_assert_int_eq(parse_repeated("{\"a\":\"", "x", JSONR_STRING_MAX + 1, "\"}"), ERR_INPUT);
	ck_assert_ptr_nonnull(strstr(err_words(), "too long"));
	ck_assert_int_eq(parse_repeated("{\"", "x", JSONR_STRING_MAX, "\":1}"), OK);
	ck_assert_int_eq(parse_repeated("{\"", "x", JSONR_STRING_MAX + 1, "\":1}"), ERR_INPUT);
	/* Bytes as written, also where one character has several. */
	ck_assert_int_eq(parse_repeated("{\"a\":\"", "\xc3\xa9", JSONR_STRING_MAX / 2, "\"}"), OK);
	ck_assert_int_eq(
	    parse_repeated("{\"a\":\"x", "\xc3\xa9", JSONR_STRING_MAX / 2, "\"}"), ERR_INPUT);
	ck_assert_int_eq(parse_repeated("{\"a\":\"", "\\n", JSONR_STRING_MAX / 2, "\"}"), OK);
	ck_assert_int_eq(
	    parse_repeated("{\"a\":\"x", "\\n", JSONR_STRING_MAX / 2, "\"}"), ERR_INPUT);
	ck_assert_int_eq(parse_repeated("{\"a\":\"", "x", JSONR_STRING_MAX - 6, "\\u0041\"}"), OK);
	ck_assert_int_eq(
	    parse_repeated("{\"a\":\"", "x", JSONR_STRING_MAX - 5, "\\u0041\"}"), ERR_INPUT);
	ck_assert_int_eq(
	    parse_repeated("{\"a\":\"", "x", JSONR_STRING_MAX - 1, "\\ud83d\\ude00\"}"), ERR_INPUT);
}
END_TEST

START_TEST(a_number_has_as_many_bytes_as_the_limit_says)
{
	ck_assert_int_eq(parse_repeated("{\"a\":0.", "1", JSONR_NUMBER_MAX - 2, "}"), OK);
	ck_assert_int_eq(parse_repeated("{\"a\":0.", "1", JSONR_NUMBER_MAX - 1, "}"), ERR_INPUT);
	ck_assert_int_eq(parse_repeated("{\"a\":-1e", "0", JSONR_NUMBER_MAX - 3, "}"), OK);
	ck_assert_int_eq(parse_repeated("{\"a\":-1e", "0", JSONR_NUMBER_MAX - 2, "}"), ERR_INPUT);
	ck_assert_int_eq(parse_repeated("{\"a\":1", "0", 60000, "}"), ERR_INPUT);
}
END_TEST

START_TEST(a_pointer_that_is_too_long_is_cut)
{
	size_t count;
	const struct err_field *found;

	ck_assert_int_eq(parse_repeated("{\"", "~", 300, "\":1e999}"), ERR_INPUT);
	found = err_fields(&count);
	ck_assert_uint_eq(count, 1);
	ck_assert_int_eq(strncmp(found[0].pointer, "#/~0~0", 6), 0);
	ck_assert_int_eq(
	    parse_nested("{\"a long name, in each level\":", "}", 32, "1e999"), ERR_INPUT);
	found = err_fields(&count);
	ck_assert_uint_eq(count, 1);
	ck_assert_int_eq(strncmp(found[0].pointer, "#/a/a%20long", 12), 0);
}
END_TEST

static struct jsonr
parsed(const char *s)
{
	struct jsonr body;

	err_clear();
	ck_assert_msg(jsonr_parse(s, strlen(s), &body) == OK, "%s: %s", s, err_words());
	return body;
}

static const struct {
	const char *body;
	int64_t min, max;
	int64_t value;
} ints[] = { { "{\"n\":5}", 0, 10, 5 }, { "{\"n\":5.0}", 0, 10, 5 }, { "{\"n\":5e0}", 0, 10, 5 },
	{ "{\"n\":1e3}", 0, 1000, 1000 }, { "{\"n\":50e-1}", 5, 5, 5 },
	{ "{\"n\":1.5e1}", 15, 15, 15 }, { "{\"n\":-0}", 0, 0, 0 }, { "{\"n\":-0.0}", 0, 0, 0 },
	{ "{\"n\":0}", 0, 10, 0 }, { "{\"n\":10}", 0, 10, 10 }, { "{\"n\":-3}", -3, -3, -3 },
	{ "{\"n\":9223372036854775807}", INT64_MIN, INT64_MAX, INT64_MAX },
	{ "{\"n\":-9223372036854775808}", INT64_MIN, INT64_MAX, INT64_MIN },
	{ "{\"n\":9223372036854775807.0}", INT64_MIN, INT64_MAX, INT64_MAX },
	{ "{\"n\":-9.223372036854775808e18}", INT64_MIN, INT64_MAX, INT64_MIN },
	{ "{\"n\":9007199254740993.0}", 0, INT64_MAX, INT64_C(9007199254740993) },
	{ "{\"n\":9007199254740993}", 0, INT64_MAX, INT64_C(9007199254740993) },
	{ "{\"\\u006e\":7}", 0, 10, 7 } };

static const struct {
	const char *body;
	int64_t min, max;
	const char *detail;
} no_ints[] = { { "{}", 0, 10, "is required" }, { "{\"n\":null}", 0, 10, "is required" },
	{ "{\"N\":1}", 0, 10, "is required" }, { "{\"x\":{\"n\":1}}", 0, 10, "is required" },
	{ "{\"n\":5.5}", 0, 10, "must be a whole number of 0..10" },
	{ "{\"n\":\"5\"}", 0, 10, "must be a whole number of 0..10" },
	{ "{\"n\":\"\"}", 0, 10, "must be a whole number of 0..10" },
	{ "{\"n\":true}", 0, 10, "must be a whole number of 0..10" },
	{ "{\"n\":false}", 0, 10, "must be a whole number of 0..10" },
	{ "{\"n\":[5]}", 0, 10, "must be a whole number of 0..10" },
	{ "{\"n\":{}}", 0, 10, "must be a whole number of 0..10" },
	{ "{\"n\":11}", 0, 10, "must be a whole number of 0..10" },
	{ "{\"n\":-1}", 0, 10, "must be a whole number of 0..10" },
	{ "{\"n\":10.0000000001}", 0, 10, "must be a whole number of 0..10" },
	{ "{\"n\":1e-1}", 0, 10, "must be a whole number of 0..10" },
	{ "{\"n\":1e300}", 0, INT64_MAX, "must be a whole number of 0..9223372036854775807" },
	{ "{\"n\":9223372036854775808.0}", 0, INT64_MAX,
	    "must be a whole number of 0..9223372036854775807" },
	{ "{\"n\":1e19}", INT64_MIN, INT64_MAX,
	    "must be a whole number of -9223372036854775808..9223372036854775807" } };

START_TEST(a_whole_number_is_read_within_its_bounds)
{
	for (size_t i = 0; i < COUNT(ints); i++) {
		struct jsonr body = parsed(ints[i].body);
		int64_t value = -77;

		jsonr_int(&body, "n", ints[i].min, ints[i].max, &value);
		ck_assert_msg(err_pending() == OK, "%s: %s", ints[i].body, err_words());
		ck_assert_msg(value == ints[i].value, "%s: %lld", ints[i].body, (long long)value);
		jsonr_close(&body);
	}
}
END_TEST

START_TEST(what_is_no_whole_number_or_out_of_bounds_is_a_bad_field)
{
	for (size_t i = 0; i < COUNT(no_ints); i++) {
		struct jsonr body = parsed(no_ints[i].body);
		int64_t value = -77;
		size_t count;
		const struct err_field *found;

		jsonr_int(&body, "n", no_ints[i].min, no_ints[i].max, &value);
		ck_assert_int_eq(value, -77);
		found = err_fields(&count);
		ck_assert_msg(count == 1, "%s", no_ints[i].body);
		ck_assert_str_eq(found[0].pointer, "#/n");
		ck_assert_str_eq(found[0].detail, no_ints[i].detail);
		jsonr_close(&body);
	}
}
END_TEST

static const struct {
	const char *body;
	size_t min, max;
	const char *value; /* NULL: refused */
	const char *detail;
} strings[] = {
	{ "{\"s\":\"\"}", 0, 0, "", NULL },
	{ "{\"s\":\"abc\"}", 3, 3, "abc", NULL },
	{ "{\"s\":\"a\\nb\\\"\\/\\u00e9\"}", 1, 9, "a\nb\"/\xc3\xa9", NULL },
	{ "{\"s\":\"\\ud83d\\ude00\"}", 1, 1, "\xf0\x9f\x98\x80", NULL },
	{ "{\"s\":\"\xf0\x9f\x98\x80\xe2\x82\xac\"}", 2, 2, "\xf0\x9f\x98\x80\xe2\x82\xac", NULL },
	{ "{\"s\":\"5\"}", 1, 9, "5", NULL },
	{ "{\"s\":\"\"}", 1, 9, NULL, "must be a string of 1..9 characters" },
	{ "{\"s\":\"ab\"}", 3, 9, NULL, "must be a string of 3..9 characters" },
	{ "{\"s\":\"abcd\"}", 1, 3, NULL, "must be a string of 1..3 characters" },
	{ "{\"s\":\"\xc3\xa9\xc3\xa9\"}", 0, 1, NULL, "must be a string of 0..1 characters" },
	{ "{\"s\":5}", 0, 9, NULL, "must be a string of 0..9 characters" },
	{ "{\"s\":true}", 0, 9, NULL, "must be a string of 0..9 characters" },
	{ "{\"s\":[\"a\"]}", 0, 9, NULL, "must be a string of 0..9 characters" },
	{ "{\"s\":{}}", 0, 9, NULL, "must be a string of 0..9 characters" },
	{ "{\"s\":null}", 0, 9, NULL, "is required" },
	{ "{}", 0, 9, NULL, "is required" },
};

START_TEST(a_string_is_read_within_its_bounds_of_characters)
{
	for (size_t i = 0; i < COUNT(strings); i++) {
		struct jsonr body = parsed(strings[i].body);
		const char *value = "untouched";
		size_t length = 77, count;
		const struct err_field *found;

		jsonr_string(&body, "s", strings[i].min, strings[i].max, &value, &length);
		found = err_fields(&count);
		ck_assert_msg(count == (strings[i].value == NULL), "%s", strings[i].body);
		if (count == 0) {
			ck_assert_str_eq(value, strings[i].value);
			ck_assert_uint_eq(length, strlen(value));
		} else {
			ck_assert_str_eq(value, "untouched");
			ck_assert_uint_eq(length, 77);
			ck_assert_str_eq(found[0].pointer, "#/s");
			ck_assert_str_eq(found[0].detail, strings[i].detail);
		}
		jsonr_close(&body);
	}
}
END_TEST

START_TEST(all_bad_members_are_told_at_once)
{
	struct jsonr body = parsed("{\"a\":5.5,\"b\":7,\"c\":null,\"d\":9}");
	const struct err_field *found;
	const char *s = "";
	int64_t v = 0;
	size_t n = 0, count;

	jsonr_int(&body, "a", 0, 10, &v);
	jsonr_string(&body, "b", 1, 9, &s, &n);
	jsonr_int(&body, "c", 0, 10, &v);
	jsonr_int(&body, "d", 0, 10, &v);
	jsonr_string(&body, "e", 1, 9, &s, &n);
	ck_assert_int_eq(v, 9);
	ck_assert_int_eq(err_pending(), ERR_INPUT);
	found = err_fields(&count);
	ck_assert_uint_eq(count, 4);
	ck_assert_str_eq(found[0].pointer, "#/a");
	ck_assert_str_eq(found[1].pointer, "#/b");
	ck_assert_str_eq(found[2].pointer, "#/c");
	ck_assert_str_eq(found[3].pointer, "#/e");
	jsonr_close(&body);
}
END_TEST

START_TEST(null_is_the_same_as_missing)
{
	struct jsonr body = parsed("{\"zero\":0,\"empty\":\"\",\"no\":false,\"none\":null}");

	ck_assert(jsonr_has(&body, "zero"));
	ck_assert(jsonr_has(&body, "empty"));
	ck_assert(jsonr_has(&body, "no"));
	ck_assert(!jsonr_has(&body, "none"));
	ck_assert(!jsonr_has(&body, "other"));
	ck_assert(!jsonr_has(&body, ""));
	ck_assert_int_eq(err_pending(), OK);
	jsonr_close(&body);
}
END_TEST

START_TEST(objects_of_a_list_are_read_one_by_one)
{
	struct jsonr body = parsed("{\"list\":[{\"a\":\"x\"},{\"a\":\"y\"},5,null],\"no\":{}}");
	struct jsonr item;
	const char *text;
	size_t n;

	for (size_t i = 0; i < 2; i++) {
		ck_assert(jsonr_item(&body, "list", i, &item));
		jsonr_string(&item, "a", 1, 1, &text, &n);
		ck_assert_str_eq(text, i == 0 ? "x" : "y");
	}
	for (size_t i = 2; i < 6; i++)
		ck_assert(!jsonr_item(&body, "list", i, &item));
	ck_assert(!jsonr_item(&body, "no", 0, &item));
	ck_assert(!jsonr_item(&body, "other", 0, &item));
	ck_assert_int_eq(err_pending(), OK);
	jsonr_close(&body);
}
END_TEST

#define NO_TIME "must be a string that is a date and time as in RFC 3339"
#define NO_DATE \
	"must be a date and time as in RFC 3339, such as 2026-11-21T04:18:58Z, of the years " \
	"1970..9999"

static const struct {
	const char *body;
	int64_t us; /* -77: refused */
	const char *detail;
} times[] = {
	{ "{\"t\":\"1970-01-01T00:00:00Z\"}", 0, NULL },
	{ "{\"t\":\"2026-11-21T04:18:58.123456Z\"}", INT64_C(1795234738123456), NULL },
	{ "{\"t\":\"2026-11-21T05:18:58\\u002b01:00\"}", INT64_C(1795234738000000), NULL },
	{ "{\"t\":\"2026-11-21T04:18:58\"}", INT64_C(1795234738000000), NULL },
	{ "{}", -77, "is required" },
	{ "{\"t\":null}", -77, "is required" },
	{ "{\"t\":1795234738}", -77, NO_TIME },
	{ "{\"t\":true}", -77, NO_TIME },
	{ "{\"t\":[\"2026-11-21T04:18:58Z\"]}", -77, NO_TIME },
	{ "{\"t\":{}}", -77, NO_TIME },
	{ "{\"t\":\"\"}", -77, NO_DATE },
	{ "{\"t\":\"2026-11-21\"}", -77, NO_DATE },
	{ "{\"t\":\"2026-02-29T00:00:00Z\"}", -77, NO_DATE },
	{ "{\"t\":\"2026-11-21T04:18:58Z \"}", -77, NO_DATE },
	{ "{\"t\":\"2026-11-21T04:18:58\\u00e5\"}", -77, NO_DATE },
};

START_TEST(an_instant_is_a_string_of_rfc_3339)
{
	for (size_t i = 0; i < COUNT(times); i++) {
		struct jsonr body = parsed(times[i].body);
		int64_t us = -77;
		size_t count;
		const struct err_field *found;

		jsonr_time(&body, "t", &us);
		ck_assert_msg(us == times[i].us, "%s: %lld", times[i].body, (long long)us);
		found = err_fields(&count);
		ck_assert_uint_eq(count, us == -77);
		if (count == 1) {
			ck_assert_str_eq(found[0].pointer, "#/t");
			ck_assert_str_eq(found[0].detail, times[i].detail);
		}
		jsonr_close(&body);
	}
}
END_TEST

static const struct {
	const char *body;
	size_t count;
	int64_t values[4];
	const char *pointer, *detail; /* of the first bad field */
} lists[] = {
	{ "{}", 0, { 0 }, NULL, NULL },
	{ "{\"l\":null}", 0, { 0 }, NULL, NULL },
	{ "{\"l\":[]}", 0, { 0 }, NULL, NULL },
	{ "{\"l\":[7]}", 1, { 7 }, NULL, NULL },
	{ "{\"l\":[1,5.0,1e1,9]}", 4, { 1, 5, 10, 9 }, NULL, NULL },
	{ "{\"l\":[3,3,3]}", 3, { 3, 3, 3 }, NULL, NULL },
	{ "{\"l\":[1,2,3,4,5]}", 0, { 0 }, "#/l", "must be a list of at most 4 numbers" },
	{ "{\"l\":7}", 0, { 0 }, "#/l", "must be a list of at most 4 numbers" },
	{ "{\"l\":\"7\"}", 0, { 0 }, "#/l", "must be a list of at most 4 numbers" },
	{ "{\"l\":{\"0\":7}}", 0, { 0 }, "#/l", "must be a list of at most 4 numbers" },
	{ "{\"l\":false}", 0, { 0 }, "#/l", "must be a list of at most 4 numbers" },
	{ "{\"l\":[0]}", 1, { 0 }, "#/l/0", "must be a whole number of 1..10" },
	{ "{\"l\":[1,11]}", 2, { 0 }, "#/l/1", "must be a whole number of 1..10" },
	{ "{\"l\":[1,2,1.5]}", 3, { 0 }, "#/l/2", "must be a whole number of 1..10" },
	{ "{\"l\":[\"1\"]}", 1, { 0 }, "#/l/0", "must be a whole number of 1..10" },
	{ "{\"l\":[null]}", 1, { 0 }, "#/l/0", "must be a whole number of 1..10" },
	{ "{\"l\":[1,[2]]}", 2, { 0 }, "#/l/1", "must be a whole number of 1..10" },
	{ "{\"l\":[1,{}]}", 2, { 0 }, "#/l/1", "must be a whole number of 1..10" },
};

START_TEST(a_list_of_whole_numbers_is_read_within_its_bounds)
{
	for (size_t i = 0; i < COUNT(lists); i++) {
		struct jsonr body = parsed(lists[i].body);
		int64_t *values = (int64_t *)&body;
		size_t count = 77, bad;
		const struct err_field *found;

		ck_assert_int_eq(jsonr_ints(&body, "l", 1, 10, 4, &values, &count), OK);
		found = err_fields(&bad);
		ck_assert_msg(bad == (lists[i].pointer != NULL), "%s", lists[i].body);
		ck_assert_msg(count == lists[i].count, "%s: %zu", lists[i].body, count);
		if (bad == 1) {
			ck_assert_str_eq(found[0].pointer, lists[i].pointer);
			ck_assert_str_eq(found[0].detail, lists[i].detail);
		} else if (count > 0) {
			ck_assert_mem_eq(values, lists[i].values, count * sizeof(values[0]));
		}
		free(values);
		jsonr_close(&body);
	}
}
END_TEST

START_TEST(each_bad_number_of_a_list_is_told_and_a_long_list_is_read_whole)
{
	static char text[64 * 1024] = "{\"l\":[";
	struct jsonr body = parsed("{\"l\":[0,1,-1,2,\"x\"]}");
	size_t n = strlen(text), count, bad;
	int64_t *values;

	ck_assert_int_eq(jsonr_ints(&body, "l", 1, 10, 9, &values, &count), OK);
	ck_assert_str_eq(err_fields(&bad)[1].pointer, "#/l/2");
	ck_assert_uint_eq(bad, 3);
	free(values);
	jsonr_close(&body);
	for (int i = 1; i <= 10000; i++)
		n += (size_t)sprintf(text + n, "%s%d", i > 1 ? "," : "", i);
	(void)sprintf(text + n, "]}");
	body = parsed(text);
	ck_assert_int_eq(jsonr_ints(&body, "l", 1, INT64_MAX, 10000, &values, &count), OK);
	ck_assert_uint_eq(count, 10000);
	ck_assert_int_eq(values[9999], 10000);
	free(values);
	jsonr_close(&body);
}
END_TEST

static const struct {
	const char *body;
	const char *pointer; /* of the only bad field; NULL for none */
	const char *detail;
	int64_t values[2];
} decimals[] = {
	{ "{\"l\":[-10,-1e1]}", NULL, NULL, { -1000, -1000 } },
	{ "{\"l\":[-100,-10.0]}", NULL, NULL, { -10000, -1000 } },
	{ "{\"l\":[-100.000e0,-10.005]}", NULL, NULL, { -10000, -1000 } },
	{ "{\"l\":[-99.999,-10.015]}", NULL, NULL, { -10000, -1002 } },
	{ "{\"l\":[-100.001,-10]}", "#/l/0", "must be a number of -100..-10", { 0 } },
	{ "{\"l\":[-10,-9.999]}", "#/l/1", "must be a number of -100..-10", { 0 } },
	{ "{\"l\":[-10,-9.99]}", "#/l/1", "must be a number of -100..-10", { 0 } },
	{ "{\"l\":[-10,-101]}", "#/l/1", "must be a number of -100..-10", { 0 } },
	{ "{\"l\":[10,-10]}", "#/l/0", "must be a number of -100..-10", { 0 } },
	{ "{\"l\":[-1e300,-10]}", "#/l/0", "must be a number of -100..-10", { 0 } },
	{ "{\"l\":[\"-10\",-10]}", "#/l/0", "must be a number of -100..-10", { 0 } },
	{ "{\"l\":[null,-10]}", "#/l/0", "must be a number of -100..-10", { 0 } },
	{ "{\"l\":[-10,[-10]]}", "#/l/1", "must be a number of -100..-10", { 0 } },
	{ "{\"l\":[-10,true]}", "#/l/1", "must be a number of -100..-10", { 0 } },
	{ "{\"l\":[]}", "#/l", "must be a list of 2 numbers", { 0 } },
	{ "{\"l\":[-10]}", "#/l", "must be a list of 2 numbers", { 0 } },
	{ "{\"l\":[-10,-10,-10]}", "#/l", "must be a list of 2 numbers", { 0 } },
	{ "{\"l\":{\"0\":-10,\"1\":-10}}", "#/l", "must be a list of 2 numbers", { 0 } },
	{ "{\"l\":-10}", "#/l", "must be a list of 2 numbers", { 0 } },
	{ "{\"l\":null}", "#/l", "is required", { 0 } },
	{ "{}", "#/l", "is required", { 0 } },
};

START_TEST(a_list_of_decimals_has_its_length_and_bounds_as_they_were_written)
{
	for (size_t i = 0; i < COUNT(decimals); i++) {
		struct jsonr body = parsed(decimals[i].body);
		const struct err_field *found;
		int64_t values[2];
		size_t bad;

		jsonr_decimals(&body, "l", 2, -10000, -1000, 2, values);
		found = err_fields(&bad);
		ck_assert_msg(bad == (decimals[i].pointer != NULL), "%s", decimals[i].body);
		if (bad == 1) {
			ck_assert_str_eq(found[0].pointer, decimals[i].pointer);
			ck_assert_str_eq(found[0].detail, decimals[i].detail);
		} else {
			ck_assert_mem_eq(values, decimals[i].values, sizeof(values));
		}
		jsonr_close(&body);
	}
}
END_TEST

START_TEST(what_is_asked_for_without_a_word_is_there_or_not)
{
	static const char text[] =
	    "{\"s\":\"a\",\"l\":[\"b\",7],\"o\":{\"i\":\"c\"},\"n\":null,\"e\":[]}";
	struct jsonr body, inner;
	const char *s;
	size_t n;

	err_clear();
	ck_assert_int_eq(jsonr_parse(text, strlen(text), &body), OK);
	ck_assert(jsonr_text(&body, "s", &s, &n) && n == 1 && s[0] == 'a');
	ck_assert(!jsonr_text(&body, "l", &s, &n) && !jsonr_text(&body, "n", &s, &n) &&
	    !jsonr_text(&body, "x", &s, &n));
	ck_assert(jsonr_list(&body, "l", &n) && n == 2);
	ck_assert(jsonr_list(&body, "e", &n) && n == 0);
	ck_assert(!jsonr_list(&body, "s", &n) && !jsonr_list(&body, "n", &n));
	ck_assert(jsonr_list_text(&body, "l", 0, &s, &n) && s[0] == 'b');
	ck_assert(!jsonr_list_text(&body, "l", 1, &s, &n) &&
	    !jsonr_list_text(&body, "l", 2, &s, &n) && !jsonr_list_text(&body, "s", 0, &s, &n));
	ck_assert(jsonr_object(&body, "o", &inner) && jsonr_text(&inner, "i", &s, &n));
	ck_assert(!jsonr_object(&body, "l", &inner) && !jsonr_object(&body, "n", &inner));
	ck_assert(jsonr_given(&body, "n") && jsonr_given(&body, "s") && !jsonr_given(&body, "x"));
	ck_assert_int_eq(err_pending(), OK);
	jsonr_close(&body);
}
END_TEST

START_TEST(a_flat_object_has_neither_lists_nor_objects)
{
	static const struct {
		const char *text;
		bool flat;
	} rows[] = { { "{}", true }, { "{\"a\":1,\"b\":\"[\",\"c\":null}", true },
		{ "{\"a\":[]}", false }, { "{\"b\":1,\"a\":{}}", false } };

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct jsonr body;

		ck_assert_int_eq(jsonr_parse(rows[i].text, strlen(rows[i].text), &body), OK);
		ck_assert_msg(jsonr_is_flat(&body) == rows[i].flat, "%s", rows[i].text);
		jsonr_close(&body);
	}
}
END_TEST

CHECK_MAIN(jsonr,
    { whatever_is_not_rfc_8259_and_unambiguous_is_refused, what_is_rfc_8259_is_accepted,
	a_body_that_stops_anywhere_is_refused, a_body_that_goes_on_is_refused,
	the_words_name_the_byte_or_the_member, a_bad_member_is_named_by_a_json_pointer,
	nesting_goes_to_the_limit_and_no_further, an_object_has_as_many_members_as_the_limit_says,
	a_string_has_as_many_bytes_as_the_limit_says, a_number_has_as_many_bytes_as_the_limit_says,
	a_pointer_that_is_too_long_is_cut, a_whole_number_is_read_within_its_bounds,
	what_is_no_whole_number_or_out_of_bounds_is_a_bad_field,
	a_string_is_read_within_its_bounds_of_characters, all_bad_members_are_told_at_once,
	null_is_the_same_as_missing, objects_of_a_list_are_read_one_by_one,
	an_instant_is_a_string_of_rfc_3339, a_list_of_whole_numbers_is_read_within_its_bounds,
	each_bad_number_of_a_list_is_told_and_a_long_list_is_read_whole,
	a_list_of_decimals_has_its_length_and_bounds_as_they_were_written,
	what_is_asked_for_without_a_word_is_there_or_not,
	a_flat_object_has_neither_lists_nor_objects })
