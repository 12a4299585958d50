#include "http_server.h"
#include "test.h"

#include <ctype.h>

#include "lib/load.h"

#define MANY 1000000

static struct http_server server;
static char address[64];

static struct load
begin(void)
{
	load_open();
	http_server_open(&server, NULL);
	http_server_json(&server, 200, "{\"message\":\"ok\"}");
	(void)snprintf(address, sizeof(address), "http://127.0.0.1:%d", server.port);
	return (struct load){ .origin = address, .words = { { "abc", "bcd", "cde" } } };
}

START_TEST(words_are_different_and_of_letters)
{
	struct load_words words;

	for (int round = 0; round < 1000; round++) {
		ck_assert_int_eq(load_draw(&words), OK);
		for (int i = 0; i < LOAD_WORDS; i++) {
			ck_assert_uint_eq(strlen(words.word[i]), LOAD_LETTERS);
			for (int k = 0; k < LOAD_LETTERS; k++)
				ck_assert_int_ne(islower(words.word[i][k]), 0);
			for (int k = 0; k < i; k++)
				ck_assert_str_ne(words.word[i], words.word[k]);
		}
	}
}
END_TEST

START_TEST(every_letter_is_drawn_about_as_often)
{
	int seen[26] = { 0 }, rounds = 26000 / (LOAD_WORDS * LOAD_LETTERS);
	struct load_words words;

	for (int round = 0; round < rounds; round++) {
		ck_assert_int_eq(load_draw(&words), OK);
		for (int i = 0; i < LOAD_WORDS * LOAD_LETTERS; i++)
			seen[words.word[i / LOAD_LETTERS][i % LOAD_LETTERS] - 'a']++;
	}
	for (int i = 0; i < 26; i++) { /* 1,000 expected; six deviations of 31 */
		ck_assert_int_gt(seen[i], 800);
		ck_assert_int_lt(seen[i], 1200);
	}
}
END_TEST

START_TEST(words_overlap_where_one_is_the_same)
{
	const struct load_words one = { { "abc", "def", "ghi" } },
				same = { { "xyz", "ghi", "uvw" } },
				other = { { "bca", "fed", "ihg" } };

	ck_assert(load_overlaps(&one, &same));
	ck_assert(load_overlaps(&same, &one));
	ck_assert(!load_overlaps(&one, &other));
}
END_TEST

static int
order(const void *a, const void *b)
{
	return strcmp(a, b);
}

START_TEST(paths_have_one_to_six_segments_and_are_all_different)
{
	static char paths[LOAD_PATHS][LOAD_PATH_SIZE];
	const struct load_words words = { { "abc", "bcd", "cde" } };
	int of_length[7] = { 0 };

	for (int i = 0; i < LOAD_PATHS; i++) {
		size_t n;

		load_path(&words, i, paths[i]);
		n = strlen(paths[i]);
		ck_assert_int_eq(strncmp(paths[i], "/api", 4), 0);
		ck_assert_uint_eq((n - 4) % 4, 0);
		for (const char *at = paths[i] + 4; *at != '\0'; at += 4) {
			ck_assert_int_eq(at[0], '/');
			ck_assert(strncmp(at + 1, "abc", 3) == 0 ||
			    strncmp(at + 1, "bcd", 3) == 0 || strncmp(at + 1, "cde", 3) == 0);
		}
		of_length[(n - 4) / 4]++;
	}
	for (int segments = 1, wanted = 3; segments <= 6; segments++, wanted *= 3)
		ck_assert_int_eq(of_length[segments], wanted);
	qsort(paths, LOAD_PATHS, LOAD_PATH_SIZE, order);
	for (int i = 1; i < LOAD_PATHS; i++)
		ck_assert_str_ne(paths[i], paths[i - 1]);
}
END_TEST

START_TEST(as_many_are_sent_as_were_asked_for)
{
	static const int64_t counts[] = { 0, 1, LOAD_IN_FLIGHT - 1, LOAD_IN_FLIGHT + 1, 1000 };
	struct load_result result;
	struct load load = begin();

	for (size_t i = 0; i < COUNT(counts); i++) {
		http_server_close(&server);
		load = begin();
		load.requests = counts[i];
		ck_assert_int_eq(load_run(&load, &result), OK);
		ck_assert_int_eq(result.succeeded, counts[i]);
		ck_assert_int_eq(result.failed, 0);
		ck_assert_int_eq(result.latency.count, counts[i]);
		ck_assert_int_eq(http_server_requests(&server), counts[i]);
		ck_assert_uint_le(http_server_accepts(&server), LOAD_IN_FLIGHT);
		if (counts[i] > 0)
			ck_assert(http_server_saw(&server, "GET /api/"));
	}
	http_server_close(&server);
}
END_TEST

START_TEST(what_is_not_answered_200_has_failed)
{
	static const char *const answers[] = {
		"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 302 There\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 204 Nothing\r\n\r\n",
	};
	struct load_result result;
	struct load load = begin();

	load.requests = 10;
	for (size_t i = 0; i < COUNT(answers); i++) {
		http_server_reply(&server, &(struct http_reply){ .bytes = answers[i] });
		ck_assert_int_eq(load_run(&load, &result), OK);
		ck_assert_int_eq(result.succeeded, 0);
		ck_assert_int_eq(result.failed, 10);
		ck_assert_int_eq(result.latency.count, 0);
	}
	http_server_close(&server);
}
END_TEST

START_TEST(a_server_that_is_away_or_breaks_off_fails_each)
{
	struct load_result result;
	struct load load = begin();

	load.requests = 20;
	http_server_reply(&server,
	    &(struct http_reply){
		.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", .then = HTTP_CLOSE });
	ck_assert_int_eq(load_run(&load, &result), OK);
	ck_assert_int_eq(result.failed, 20);
	http_server_close(&server);
	load.requests = 1000;
	ck_assert_int_eq(load_run(&load, &result), OK);
	ck_assert_int_eq(result.failed, 1000);
}
END_TEST

struct watcher {
	int calls;
	int64_t last;
};

static bool
stop_soon(void *ctx, const struct load_result *so_far)
{
	struct watcher *watcher = ctx;

	ck_assert_int_ge(so_far->succeeded, watcher->last);
	watcher->last = so_far->succeeded;
	return ++watcher->calls < 3;
}

START_TEST(a_run_that_is_stopped_ends_with_what_was_under_way)
{
	struct watcher watcher = { 0 };
	struct load_result result;
	struct load load = begin();

	load.requests = MANY;
	load.told = stop_soon;
	load.ctx = &watcher;
	ck_assert_int_eq(load_run(&load, &result), OK);
	ck_assert_int_eq(result.failed, 0);
	ck_assert_int_gt(result.succeeded, 0);
	ck_assert_int_lt(result.succeeded, MANY);
	ck_assert_int_eq(http_server_requests(&server), result.succeeded);
	ck_assert_int_ge(watcher.calls, 3);
	ck_assert_int_ge(result.took_us, 2 * 50 * 1000);
	http_server_close(&server);
}
END_TEST

CHECK_MAIN(load,
    { words_are_different_and_of_letters, every_letter_is_drawn_about_as_often,
	words_overlap_where_one_is_the_same, paths_have_one_to_six_segments_and_are_all_different,
	as_many_are_sent_as_were_asked_for, what_is_not_answered_200_has_failed,
	a_server_that_is_away_or_breaks_off_fails_each,
	a_run_that_is_stopped_ends_with_what_was_under_way })
