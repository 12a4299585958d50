#include "test.h"

#include <stdio.h>

#include "lib/tally.h"

static struct tally *tally;

static bool
add(const char *path, int64_t at_s, enum hit_method method, int status, int64_t took_ms)
{
	return tally_add(
	    tally, &(struct hit){ at_s, took_ms, 10, status, method, path, strlen(path) });
}

static const struct tally_row *
row(size_t i)
{
	size_t n;
	const struct tally_row *const *rows = tally_rows(tally, &n);

	ck_assert_uint_lt(i, n);
	return rows[i];
}

static void
check_row(size_t i, const char *path, int32_t hour, int method, int status_class, int64_t count,
    int64_t took_ms, int64_t took_max_ms)
{
	const struct tally_row *r = row(i);

	ck_assert_uint_eq(r->path_n, strlen(path));
	ck_assert_mem_eq(r->path, path, r->path_n);
	ck_assert_int_eq(r->hour, hour);
	ck_assert_int_eq(r->method, method);
	ck_assert_int_eq(r->status_class, status_class);
	ck_assert_int_eq(r->count, count);
	ck_assert_int_eq(r->bytes, 10 * count);
	ck_assert_int_eq(r->took_ms, took_ms);
	ck_assert_int_eq(r->took_max_ms, took_max_ms);
}

START_TEST(hits_add_up_by_path_hour_method_and_class)
{
	size_t n;

	ck_assert_int_eq(tally_open(100, 3 * HIT_PATH_MAX, &tally), OK);
	ck_assert(add("/b", 3600, HIT_GET, 200, 5));
	ck_assert(add("/b", 7199, HIT_GET, 204, 7));
	ck_assert(add("/b", 7200, HIT_GET, 200, 1));
	ck_assert(add("/b", 3600, HIT_POST, 200, 2));
	ck_assert(add("/b", 3600, HIT_GET, 404, 3));
	ck_assert(add("/a", 3600, HIT_GET, 200, 4));
	ck_assert(add("//a", 3600, HIT_GET, 200, 0));
	ck_assert(add("/a/", 3600, HIT_GET, 200, 0));
	ck_assert_int_eq(tally_count(tally), 8);
	(void)tally_rows(tally, &n);
	ck_assert_uint_eq(n, 6);
	check_row(0, "/a", 1, HIT_GET, 2, 2, 4, 4);
	check_row(1, "/a/", 1, HIT_GET, 2, 1, 0, 0);
	check_row(2, "/b", 1, HIT_GET, 2, 2, 12, 7);
	check_row(3, "/b", 1, HIT_GET, 4, 1, 3, 3);
	check_row(4, "/b", 1, HIT_POST, 2, 1, 2, 2);
	check_row(5, "/b", 2, HIT_GET, 2, 1, 1, 1);
	/* The rows of one path share its bytes. */
	ck_assert_ptr_eq(row(2)->path, row(5)->path);
	tally_clear(tally);
	ck_assert_int_eq(tally_count(tally), 0);
	(void)tally_rows(tally, &n);
	ck_assert_uint_eq(n, 0);
	ck_assert(add("/b", 3600, HIT_GET, 200, 5));
	check_row(0, "/b", 1, HIT_GET, 2, 1, 5, 5);
	tally_close(tally);
}
END_TEST

START_TEST(it_is_full_before_a_hit_could_find_no_room)
{
	char path[32];
	int i;

	ck_assert_int_eq(tally_open(50, 1024 * 1024, &tally), OK);
	for (i = 0; !tally_is_full(tally); i++) {
		(void)snprintf(path, sizeof(path), "/%d", i);
		ck_assert(add(path, 0, HIT_GET, 200, 1));
	}
	ck_assert_int_eq(i, 50);
	tally_close(tally);
	/* By the bytes of paths: the longest must still fit. */
	ck_assert_int_eq(tally_open(50, HIT_PATH_MAX + 5, &tally), OK);
	ck_assert(add("/abcd", 0, HIT_GET, 200, 1));
	ck_assert(!tally_is_full(tally));
	ck_assert(add("/abcd", 0, HIT_GET, 200, 1));
	ck_assert(!tally_is_full(tally));
	ck_assert(add("/x", 0, HIT_GET, 200, 1));
	ck_assert(tally_is_full(tally));
	tally_close(tally);
	tally_close(NULL);
}
END_TEST

START_TEST(a_path_that_is_too_long_is_not_counted)
{
	static char path[HIT_PATH_MAX + 2];

	ck_assert_int_eq(tally_open(50, 4 * HIT_PATH_MAX, &tally), OK);
	memset(path, 'a', HIT_PATH_MAX + 1);
	ck_assert(!add(path, 0, HIT_GET, 200, 1));
	ck_assert_int_eq(tally_count(tally), 0);
	path[HIT_PATH_MAX] = '\0';
	ck_assert(add(path, 0, HIT_GET, 200, 1));
	ck_assert_int_eq(tally_count(tally), 1);
	tally_close(tally);
}
END_TEST

#define MANY 5000

START_TEST(many_paths_are_all_there_in_order)
{
	const struct tally_row *const *rows;
	char path[32];
	size_t n;

	ck_assert_int_eq(tally_open(MANY, MANY * 16 + HIT_PATH_MAX, &tally), OK);
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < MANY - 1; i++) {
			(void)snprintf(path, sizeof(path), "/%d", i * 7919 % (MANY - 1));
			ck_assert(add(path, 0, HIT_GET, 200, 1));
		}
	rows = tally_rows(tally, &n);
	ck_assert_uint_eq(n, MANY - 1);
	for (size_t i = 0; i < n; i++) {
		ck_assert_int_eq(rows[i]->count, 3);
		ck_assert(i == 0 ||
		    memcmp(rows[i - 1]->path, rows[i]->path,
			rows[i]->path_n < rows[i - 1]->path_n ? rows[i]->path_n
							      : rows[i - 1]->path_n) <= 0);
	}
	tally_close(tally);
}
END_TEST

CHECK_MAIN(tally,
    { hits_add_up_by_path_hour_method_and_class, it_is_full_before_a_hit_could_find_no_room,
	a_path_that_is_too_long_is_not_counted, many_paths_are_all_there_in_order })
