#include "test.h"

#include <stdio.h>

#include "lib/jsonw.h"
#include "lib/text.h"

/* A sink that remembers, and fails from call FAIL_AT on. */
struct memory {
	char bytes[16384];
	size_t used;
	int calls, fail_at;
};

static struct memory memory;
static struct jsonw w;

static enum err
remember(void *ctx, const char *bytes, size_t n)
{
	struct memory *m = ctx;

	ck_assert_uint_gt(n, 0);
	ck_assert_uint_le(n, sizeof(m->bytes) - 1 - m->used);
	if (++m->calls == m->fail_at)
		return fail(ERR_GONE, "the client is gone");
	memcpy(m->bytes + m->used, bytes, n);
	m->used += n;
	m->bytes[m->used] = '\0';
	return OK;
}

static void
begin(void)
{
	memset(&memory, 0, sizeof(memory));
	jsonw_open(&w, remember, &memory);
}

#define ck_written(expected) \
	do { \
		ck_assert_int_eq(jsonw_close(&w), OK); \
		ck_assert_str_eq(memory.bytes, expected); \
	} while (0)

START_TEST(an_object_is_written_with_its_commas_and_names)
{
	begin();
	jsonw_object_begin(&w, NULL);
	jsonw_int(&w, "oop_max", 10000);
	jsonw_decimal(&w, "sek", 250050, 2);
	jsonw_string(&w, "name", "a \"b\"");
	jsonw_time(&w, "at", INT64_C(1800000000000001));
	jsonw_bool(&w, "yes", true);
	jsonw_bool(&w, "no", false);
	jsonw_null(&w, "none");
	jsonw_array_begin(&w, "list");
	jsonw_int(&w, NULL, 1);
	jsonw_array_begin(&w, NULL);
	jsonw_array_end(&w);
	jsonw_object_begin(&w, NULL);
	jsonw_object_end(&w);
	jsonw_object_begin(&w, NULL);
	jsonw_null(&w, "");
	jsonw_object_end(&w);
	jsonw_string_n(&w, NULL, "ab\0c", 4);
	jsonw_array_end(&w);
	jsonw_object_begin(&w, "last");
	jsonw_object_end(&w);
	jsonw_object_end(&w);
	ck_written("{\"oop_max\":10000,\"sek\":2500.5,\"name\":\"a \\\"b\\\"\","
		   "\"at\":\"2027-01-15T08:00:00.000001Z\",\"yes\":true,"
		   "\"no\":false,\"none\":null,\"list\":[1,[],{},{\"\":null},\"ab\\u0000c\"],"
		   "\"last\":{}}");
}
END_TEST

START_TEST(a_single_value_may_stand_at_the_top)
{
	begin();
	jsonw_null(&w, NULL);
	ck_written("null");
	begin();
	jsonw_string(&w, NULL, "");
	ck_written("\"\"");
	begin();
	jsonw_array_begin(&w, NULL);
	jsonw_array_end(&w);
	ck_written("[]");
	begin();
	jsonw_bool(&w, NULL, true);
	ck_written("true");
}
END_TEST

static const struct {
	int64_t value;
	unsigned scale;
	const char *text;
} numbers[] = {
	{ 0, 0, "0" },
	{ 7, 0, "7" },
	{ -7, 0, "-7" },
	{ 100, 0, "100" },
	{ INT64_MAX, 0, "9223372036854775807" },
	{ INT64_MIN, 0, "-9223372036854775808" },
	{ 250050, 2, "2500.5" },
	{ 250000, 2, "2500" },
	{ 250055, 2, "2500.55" },
	{ 250005, 2, "2500.05" },
	{ -250050, 2, "-2500.5" },
	{ 5, 1, "0.5" },
	{ -5, 1, "-0.5" },
	{ 5, 2, "0.05" },
	{ -5, 2, "-0.05" },
	{ 10, 1, "1" },
	{ 100, 1, "10" },
	{ 1000, 3, "1" },
	{ 0, 2, "0" },
	{ 0, JSONW_SCALE_MAX, "0" },
	{ 1, 18, "0.000000000000000001" },
	{ -1, 18, "-0.000000000000000001" },
	{ INT64_MAX, 18, "9.223372036854775807" },
	{ INT64_MIN, 18, "-9.223372036854775808" },
	{ INT64_MIN, 1, "-922337203685477580.8" },
	{ INT64_C(1000000000000000000), 18, "1" },
	{ INT64_C(1000000000000000001), 18, "1.000000000000000001" },
};

START_TEST(numbers_are_exact_and_without_trailing_zeros)
{
	for (size_t i = 0; i < COUNT(numbers); i++) {
		begin();
		jsonw_decimal(&w, NULL, numbers[i].value, numbers[i].scale);
		ck_written(numbers[i].text);
		if (numbers[i].scale != 0)
			continue;
		begin();
		jsonw_int(&w, NULL, numbers[i].value);
		ck_written(numbers[i].text);
	}
}
END_TEST

static const struct {
	const char *s, *json;
} texts[] = { { "", "\"\"" }, { "/<>&'", "\"/<>&'\"" },
	{ "\"\\\b\f\n\r\t", "\"\\\"\\\\\\b\\f\\n\\r\\t\"" },
	{ "\x01\x1f\x7f", "\"\\u0001\\u001f\\u007f\"" },
	{ "\xc3\xa5\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa5\xe2\x82\xac\xf0\x9f\x98\x80\"" },
	{ "a\xff\xfe", "\"a\xef\xbf\xbd\xef\xbf\xbd\"" }, { "\xc3", "\"\xef\xbf\xbd\"" },
	{ "\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" } };

START_TEST(texts_and_names_are_escaped_alike)
{
	char expected[128];

	for (size_t i = 0; i < COUNT(texts); i++) {
		begin();
		jsonw_string(&w, NULL, texts[i].s);
		ck_written(texts[i].json);
		begin();
		jsonw_object_begin(&w, NULL);
		jsonw_null(&w, texts[i].s);
		jsonw_object_end(&w);
		(void)snprintf(expected, sizeof(expected), "{%s:null}", texts[i].json);
		ck_written(expected);
	}
}
END_TEST

START_TEST(an_output_of_any_size_arrives_whole)
{
	static char text[3 * sizeof(w.buffer)], expected[7 * sizeof(text)];
	static const char *const fills[] = { "a", "\n", "\x01", "\xc3\xa9", "\xf0\x9f\x98\x80" };
	static const char *const written[] = { "a", "\\n", "\\u0001", "\xc3\xa9",
		"\xf0\x9f\x98\x80" };

	for (size_t f = 0; f < COUNT(fills); f++) {
		size_t step = strlen(fills[f]), out = strlen(written[f]);

		memset(text, 0, sizeof(text));
		memset(expected, 0, sizeof(expected));
		expected[0] = '"';
		for (size_t i = 0; i < 1100; i++) {
			begin();
			jsonw_string(&w, NULL, text);
			expected[1 + i * out] = '"';
			ck_written(expected);
			ck_assert_int_le(
			    memory.calls, 2 + (int)(memory.used / (sizeof(w.buffer) - 6)));
			if ((i + 1) * step >= sizeof(text))
				break;
			memcpy(text + i * step, fills[f], step);
			memcpy(expected + 1 + i * out, written[f], out);
		}
	}
}
END_TEST

START_TEST(a_short_output_is_one_call_of_the_sink)
{
	begin();
	jsonw_array_begin(&w, NULL);
	for (int i = 0; i < 100; i++)
		jsonw_int(&w, NULL, i);
	jsonw_array_end(&w);
	ck_assert_int_eq(memory.calls, 0);
	ck_assert_int_eq(jsonw_close(&w), OK);
	ck_assert_int_eq(memory.calls, 1);
}
END_TEST

START_TEST(the_first_error_of_the_sink_is_latched)
{
	for (int at = 1; at <= 3; at++) {
		begin();
		memory.fail_at = at;
		jsonw_array_begin(&w, NULL);
		for (int i = 0; i < 2000; i++)
			jsonw_int(&w, NULL, 1);
		jsonw_array_end(&w);
		ck_assert_int_eq(jsonw_close(&w), ERR_GONE);
		ck_assert_int_eq(memory.calls, at);
		ck_assert_uint_le(memory.used, (size_t)(at - 1) * sizeof(w.buffer));
		ck_assert_uint_ge(
		    memory.used, (size_t)(at - 1) * (sizeof(w.buffer) - TEXT_INT_SIZE));
	}
}
END_TEST

START_TEST(scopes_may_stay_open_after_an_error)
{
	begin();
	memory.fail_at = 1;
	jsonw_object_begin(&w, NULL);
	jsonw_array_begin(&w, "list");
	for (int i = 0; i < 2000; i++)
		jsonw_string(&w, NULL, "text");
	ck_assert_int_eq(jsonw_close(&w), ERR_GONE);
	ck_assert_int_eq(memory.calls, 1);
}
END_TEST

START_TEST(an_error_at_the_very_end_is_told)
{
	begin();
	memory.fail_at = 1;
	jsonw_null(&w, NULL);
	ck_assert_int_eq(memory.calls, 0);
	ck_assert_int_eq(jsonw_close(&w), ERR_GONE);
}
END_TEST

static void
nest(unsigned depth, bool arrays)
{
	begin();
	for (unsigned i = 0; i < depth; i++)
		if (arrays)
			jsonw_array_begin(&w, NULL);
		else
			jsonw_object_begin(&w, i == 0 ? NULL : "a");
}

static void
nest_too_deep(void)
{
	nest(JSONW_DEPTH_MAX + 1, true);
}

static void
nest_objects_too_deep(void)
{
	nest(JSONW_DEPTH_MAX + 1, false);
}

START_TEST(scopes_nest_to_the_limit_and_no_further)
{
	for (int arrays = 0; arrays <= 1; arrays++) {
		nest(JSONW_DEPTH_MAX, arrays != 0);
		for (int i = 0; i < JSONW_DEPTH_MAX; i++)
			if (arrays != 0)
				jsonw_array_end(&w);
			else
				jsonw_object_end(&w);
		ck_assert_int_eq(jsonw_close(&w), OK);
	}
	ck_assert(aborts(nest_too_deep));
	ck_assert(aborts(nest_objects_too_deep));
}
END_TEST

static void
member_without_name(void)
{
	nest(1, false);
	jsonw_int(&w, NULL, 1);
}

static void
scope_without_name(void)
{
	nest(1, false);
	jsonw_array_begin(&w, NULL);
}

static void
element_with_name(void)
{
	nest(1, true);
	jsonw_string(&w, "name", "x");
}

static void
top_with_name(void)
{
	nest(0, true);
	jsonw_object_begin(&w, "name");
}

static void
two_values_at_the_top(void)
{
	nest(0, true);
	jsonw_null(&w, NULL);
	jsonw_null(&w, NULL);
}

static void
object_ended_as_array(void)
{
	nest(1, false);
	jsonw_array_end(&w);
}

static void
array_ended_as_object(void)
{
	nest(1, true);
	jsonw_object_end(&w);
}

static void
end_of_nothing(void)
{
	nest(0, true);
	jsonw_object_end(&w);
}

static void
end_too_many(void)
{
	nest(1, true);
	jsonw_array_end(&w);
	jsonw_array_end(&w);
}

static void
close_with_an_open_scope(void)
{
	nest(1, true);
	(void)!jsonw_close(&w);
}

static void
close_without_a_value(void)
{
	nest(0, true);
	(void)!jsonw_close(&w);
}

static void
scale_too_large(void)
{
	nest(0, true);
	jsonw_decimal(&w, NULL, 1, JSONW_SCALE_MAX + 1);
}

START_TEST(what_is_json_already_is_written_as_it_is)
{
	static char text[5000];

	memset(text, ' ', sizeof(text));
	text[0] = '[';
	text[sizeof(text) - 1] = ']';
	begin();
	jsonw_array_begin(&w, NULL);
	jsonw_json(&w, NULL, "{\"a\":\"\\u00e5\"}", 14);
	jsonw_json(&w, NULL, "[]", 2);
	jsonw_int(&w, NULL, 1);
	jsonw_array_end(&w);
	ck_written("[{\"a\":\"\\u00e5\"},[],1]");
	begin();
	jsonw_json(&w, NULL, text, sizeof(text));
	ck_assert_int_eq(jsonw_close(&w), OK);
	ck_assert_uint_eq(memory.used, sizeof(text));
}
END_TEST

START_TEST(names_and_scopes_out_of_order_abort)
{
	static void (*const mistakes[])(void) = { member_without_name, scope_without_name,
		element_with_name, top_with_name, two_values_at_the_top, object_ended_as_array,
		array_ended_as_object, end_of_nothing, end_too_many, close_with_an_open_scope,
		close_without_a_value, scale_too_large };

	for (size_t i = 0; i < COUNT(mistakes); i++)
		ck_assert_msg(aborts(mistakes[i]), "mistake %zu", i);
}
END_TEST

CHECK_MAIN(jsonw,
    { an_object_is_written_with_its_commas_and_names, a_single_value_may_stand_at_the_top,
	numbers_are_exact_and_without_trailing_zeros, texts_and_names_are_escaped_alike,
	an_output_of_any_size_arrives_whole, a_short_output_is_one_call_of_the_sink,
	the_first_error_of_the_sink_is_latched, scopes_may_stay_open_after_an_error,
	an_error_at_the_very_end_is_told, scopes_nest_to_the_limit_and_no_further,
	what_is_json_already_is_written_as_it_is, names_and_scopes_out_of_order_abort })
