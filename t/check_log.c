#include "test.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <pthread.h>
#include <stdio.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"

static struct caught caught;
static char line[2 * LOG_LINE_MAX];

static const struct log_access plain = { TRACE, "GET", "/events/{id}", "/events/7", 200, 42, 1500,
	NULL };

/* The one line that was written, whole JSON in every respect; yours to put. */
static struct json_object *
next_line(void)
{
	char more[2 * LOG_LINE_MAX];
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *root;
	size_t n = stderr_next(&caught, line, sizeof(line));

	ck_assert_uint_gt(n, 0);
	ck_assert_uint_le(n, LOG_LINE_MAX);
	ck_assert(line[n - 1] == '\n');
	for (size_t i = 0; i + 1 < n; i++)
		if ((unsigned char)line[i] < ' ')
			ck_abort_msg("byte %zu is a control byte", i);
	ck_assert(text_utf8_valid(line, n));
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	root = json_tokener_parse_ex(tokener, line, (int)n);
	ck_assert_msg(json_object_is_type(root, json_type_object), "%s", line);
	json_tokener_free(tokener);
	ck_assert_uint_eq(stderr_next(&caught, more, sizeof(more)), 0);
	return root;
}

static const char *
member(struct json_object *root, const char *name)
{
	struct json_object *found = json_object_object_get(root, name);

	ck_assert_msg(found != NULL, "no %s in %s", name, line);
	return json_object_get_string(found);
}

static void
check_common(struct json_object *root, const char *level, const char *event)
{
	const char *time = member(root, "time");
	int64_t us;

	ck_assert_int_eq(clock_parse(time, strlen(time), &us), OK);
	ck_assert_str_eq(member(root, "level"), level);
	ck_assert_str_eq(member(root, "program"), "tested");
	ck_assert_str_eq(member(root, "event"), event);
}

static void
begin(void)
{
	log_open("tested");
	caught = stderr_catch();
}

START_TEST(a_request_is_one_line_with_all_its_members)
{
	struct json_object *root;

	begin();
	log_access(&plain);
	root = next_line();
	check_common(root, "info", "request");
	ck_assert_str_eq(member(root, "trace_id"), TRACE);
	ck_assert_str_eq(member(root, "method"), "GET");
	ck_assert_str_eq(member(root, "route"), "/events/{id}");
	ck_assert_str_eq(member(root, "path"), "/events/7");
	ck_assert_str_eq(member(root, "status"), "200");
	ck_assert_str_eq(member(root, "bytes"), "42");
	ck_assert_str_eq(member(root, "ms"), "1.500");
	ck_assert_int_eq(json_object_object_length(root), 11);
	(void)json_object_put(root);
	stderr_release(&caught);
}
END_TEST

START_TEST(a_failure_of_ours_is_an_error_and_says_why)
{
	static const struct {
		int status;
		const char *level;
	} rows[] = { { 200, "info" }, { 404, "info" }, { 499, "info" }, { 500, "error" },
		{ 503, "error" } };
	struct log_access access = plain;

	begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct json_object *root;

		access.status = rows[i].status;
		access.words = "the disk is full";
		log_access(&access);
		root = next_line();
		check_common(root, rows[i].level, "request");
		ck_assert_str_eq(member(root, "detail"), "the disk is full");
		ck_assert_int_eq(json_object_object_length(root), 12);
		(void)json_object_put(root);
	}
	stderr_release(&caught);
}
END_TEST

START_TEST(a_happening_is_one_line_of_its_level)
{
	static const char *const levels[] = { "info", "warning", "error" };

	begin();
	for (unsigned i = 0; i < COUNT(levels); i++) {
		struct json_object *root;

		log_event((enum log_level)i, "circuit_opened", "%s failed %d times", "alpha", 5);
		root = next_line();
		check_common(root, levels[i], "circuit_opened");
		ck_assert_str_eq(member(root, "detail"), "alpha failed 5 times");
		ck_assert_int_eq(json_object_object_length(root), 5);
		(void)json_object_put(root);
	}
	stderr_release(&caught);
}
END_TEST

static void *
log_untraced(void *ctx)
{
	log_event(LOG_INFO, "other", "thread");
	return ctx;
}

START_TEST(lines_carry_the_trace_id_of_their_thread_until_it_is_taken_away)
{
	struct json_object *root;
	pthread_t thread;

	begin();
	log_trace(TRACE);
	log_event(LOG_INFO, "event", "x");
	root = next_line();
	ck_assert_str_eq(member(root, "trace_id"), TRACE);
	(void)json_object_put(root);
	ck_assert_int_eq(pthread_create(&thread, NULL, log_untraced, NULL), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	root = next_line();
	ck_assert_ptr_null(json_object_object_get(root, "trace_id"));
	(void)json_object_put(root);
	log_trace(NULL);
	log_event(LOG_INFO, "event", "x");
	root = next_line();
	ck_assert_ptr_null(json_object_object_get(root, "trace_id"));
	(void)json_object_put(root);
	stderr_release(&caught);
}
END_TEST

START_TEST(milliseconds_have_three_decimals)
{
	static const struct {
		int64_t us;
		const char *ms;
	} rows[] = {
		{ 0, "\"ms\":0.000}" },
		{ 1, "\"ms\":0.001}" },
		{ 10, "\"ms\":0.010}" },
		{ 999, "\"ms\":0.999}" },
		{ 1000, "\"ms\":1.000}" },
		{ 1001, "\"ms\":1.001}" },
		{ 10000, "\"ms\":10.000}" },
		{ 1234567, "\"ms\":1234.567}" },
		{ INT64_MAX, "\"ms\":9223372036854775.807}" },
	};
	struct log_access access = plain;

	begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		access.us = rows[i].us;
		access.bytes = INT64_MAX;
		log_access(&access);
		(void)json_object_put(next_line());
		ck_assert_msg(strstr(line, rows[i].ms) != NULL, "%s", line);
		ck_assert_ptr_nonnull(strstr(line, "\"bytes\":9223372036854775807,"));
	}
	stderr_release(&caught);
}
END_TEST

static const struct {
	const char *text, *read;
} hostile[] = { { "a\nb", "a\nb" },
	{ "\"}\n{\"level\":\"error\",\"event\":\"forged\"}",
	    "\"}\n{\"level\":\"error\",\"event\":\"forged\"}" },
	{ "\\", "\\" }, { "\\\"", "\\\"" },
	{ "a\r\n\t\b\f\x1b[31m\x7f", "a\r\n\t\b\f\x1b[31m\x7f" },
	{ "a\xff"
	  "b",
	    "a\xef\xbf\xbd"
	    "b" },
	{ "\xc0\xaf\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
	{ "caf\xc3\xa9", "caf\xc3\xa9" }, { "%s%n%d", "%s%n%d" }, { "", "" } };

START_TEST(no_text_from_outside_can_forge_a_line_or_a_member)
{
	begin();
	for (size_t i = 0; i < COUNT(hostile); i++) {
		const char *text = hostile[i].text;
		const struct log_access access = { text, text, text, text, 500, 0, 0, text };
		static const char *const names[] = { "trace_id", "method", "route", "path",
			"detail" };
		struct json_object *root;

		log_access(&access);
		root = next_line();
		check_common(root, "error", "request");
		ck_assert_int_eq(json_object_object_length(root), 12);
		for (size_t j = 0; j < COUNT(names); j++)
			ck_assert_str_eq(member(root, names[j]), hostile[i].read);
		(void)json_object_put(root);
		log_trace(text);
		log_event(LOG_INFO, text, "%s", text);
		root = next_line();
		check_common(root, "info", hostile[i].read);
		ck_assert_str_eq(member(root, "detail"), hostile[i].read);
		ck_assert_str_eq(member(root, "trace_id"), hostile[i].read);
		(void)json_object_put(root);
		log_trace(NULL);
	}
	stderr_release(&caught);
}
END_TEST

START_TEST(long_texts_are_cut_at_their_bounds)
{
	static char text[5000];
	const struct log_access access = { text, text, text, text, 500, 1, 1, text };
	struct json_object *root;

	memset(text, 'a', sizeof(text) - 1);
	begin();
	log_access(&access);
	root = next_line();
	ck_assert_uint_eq(strlen(member(root, "trace_id")), LOG_TEXT_MAX);
	ck_assert_uint_eq(strlen(member(root, "method")), LOG_TEXT_MAX);
	ck_assert_uint_eq(strlen(member(root, "route")), LOG_TEXT_MAX);
	ck_assert_uint_eq(strlen(member(root, "path")), LOG_TEXT_MAX);
	ck_assert_uint_eq(strlen(member(root, "detail")), 1000);
	(void)json_object_put(root);
	log_event(LOG_ERROR, text, "%s", text);
	root = next_line();
	ck_assert_uint_eq(strlen(member(root, "event")), LOG_TEXT_MAX);
	ck_assert_uint_ge(strlen(member(root, "detail")), 999);
	ck_assert_uint_le(strlen(member(root, "detail")), 1000);
	(void)json_object_put(root);
	stderr_release(&caught);
}
END_TEST

START_TEST(a_line_is_whole_and_bounded_whatever_fills_it)
{
	static const char *const fills[] = { "a", "\n", "\"", "\\", "\x01", "\xff", "\xc3\xa9",
		"\xf0\x9f\x98\x80" };
	static char text[1300];
	const struct log_access access = { text, text, text, text, INT32_MAX, INT64_MAX, INT64_MAX,
		text };

	begin();
	for (size_t f = 0; f < COUNT(fills); f++) {
		size_t step = strlen(fills[f]);

		memset(text, 0, sizeof(text));
		for (size_t n = 0; n + step < sizeof(text); n += step) {
			memcpy(text + n, fills[f], step);
			log_access(&access);
			(void)json_object_put(next_line());
			log_event(LOG_INFO, text, "%s", text);
			(void)json_object_put(next_line());
		}
	}
	log_open(text);
	log_access(&access);
	(void)json_object_put(next_line());
	stderr_release(&caught);
}
END_TEST

START_TEST(what_cannot_be_written_is_forgotten)
{
	int saved = dup(STDERR_FILENO), full = open("/dev/full", O_WRONLY | O_CLOEXEC);

	ck_assert_int_ge(full, 0);
	ck_assert_int_eq(dup2(full, STDERR_FILENO), STDERR_FILENO);
	log_access(&plain);
	log_event(LOG_ERROR, "event", "x");
	(void)close(STDERR_FILENO);
	log_access(&plain);
	ck_assert_int_eq(dup2(saved, STDERR_FILENO), STDERR_FILENO);
	(void)close(saved);
	(void)close(full);
	begin();
	log_access(&plain);
	(void)json_object_put(next_line());
	stderr_release(&caught);
}
END_TEST

/* Last, for there is no way back. */
START_TEST(to_a_person_what_goes_wrong_is_said_in_words)
{
	begin();
	log_plain();
	log_event(LOG_INFO, "event", "nothing to worry about");
	log_event(LOG_WARNING, "event", "%s", "a\tword\033[2J");
	ck_assert_uint_gt(stderr_next(&caught, line, sizeof(line)), 0);
	ck_assert_str_eq(line, "tested: a\\tword\\u001b[2J\n");
	stderr_release(&caught);
}
END_TEST

CHECK_MAIN(log,
    { a_request_is_one_line_with_all_its_members, a_failure_of_ours_is_an_error_and_says_why,
	a_happening_is_one_line_of_its_level,
	lines_carry_the_trace_id_of_their_thread_until_it_is_taken_away,
	milliseconds_have_three_decimals, no_text_from_outside_can_forge_a_line_or_a_member,
	long_texts_are_cut_at_their_bounds, a_line_is_whole_and_bounded_whatever_fills_it,
	what_cannot_be_written_is_forgotten, to_a_person_what_goes_wrong_is_said_in_words })
