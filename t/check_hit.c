#include "test.h"

#include <stdio.h>

#include "lib/hit.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define LINE(time, method, path, status, bytes, seconds) \
	"{\"time\":\"" time "\",\"trace_id\":\"" TRACE "\",\"method\":\"" method \
	"\",\"path\":\"" path "\",\"status\":" status ",\"bytes\":" bytes ",\"seconds\":" seconds \
	",\"cache\":\"\"}"
#define SERIAL(serial) \
	"{\"time\":\"" TIME "\",\"trace_id\":\"" TRACE "\",\"method\":\"GET\",\"path\":\"/s\"," \
	"\"status\":200,\"bytes\":17,\"seconds\":0.004,\"cache\":\"HIT\",\"serial\":\"" serial "}"
#define TIME "2026-11-21T04:18:58+00:00"
#define PATH(path) LINE(TIME, "GET", path, "200", "17", "0.004")

static const struct {
	const char *line;
	struct hit hit;
	const char *path;
} lines[] = {
	{ PATH("/api/one"), { 1795234738, 4, 17, 200, HIT_GET, NULL, 0 }, "/api/one" },
	{ LINE("2026-11-21T05:18:58+01:00", "POST", "/", "201", "0", "12.345"),
	    { 1795234738, 12345, 0, 201, HIT_POST, NULL, 0 }, "/" },
	{ LINE("2026-11-20T23:48:58-04:30", "BREW", "", "400", "1234567890123", "0.000"),
	    { 1795234738, 0, 1234567890123, 400, HIT_OTHER, NULL, 0 }, "" },
	{ LINE("2024-02-29T23:59:59+00:00", "HEAD", "/x", "000", "0", "0.999"),
	    { 1709251199, 999, 0, 0, HIT_HEAD, NULL, 0 }, "/x" },
	{ LINE("2000-03-01T00:00:00+00:00", "OPTIONS", "*", "999", "0", "0.000"),
	    { 951868800, 0, 0, 999, HIT_OPTIONS, NULL, 0 }, "*" },
	{ LINE("1970-01-01T00:00:00+00:00", "", "/x", "200", "0", "0.000"),
	    { 0, 0, 0, 200, HIT_OTHER, NULL, 0 }, "/x" },
	{ SERIAL("4711-17-3\""), { 1795234738, 4, 17, 200, HIT_GET, NULL, 0 }, "/s" },
	{ SERIAL("1-123456789012345678-1\""), { 1795234738, 4, 17, 200, HIT_GET, NULL, 0 }, "/s" },
	/* A path that would like to be the rest of the line, and another one. */
	{ PATH("/\\\",\\\"status\\\":500,\\\"x\\\":\\\"\\n{"),
	    { 1795234738, 4, 17, 200, HIT_GET, NULL, 0 }, "/\",\"status\":500,\"x\":\"\n{" },
	{ PATH("/\\\\"), { 1795234738, 4, 17, 200, HIT_GET, NULL, 0 }, "/\\" },
	{ PATH("/\\\\\\\""), { 1795234738, 4, 17, 200, HIT_GET, NULL, 0 }, "/\\\"" },
};

START_TEST(a_line_is_read)
{
	static char path[HIT_PATH_MAX];

	for (size_t i = 0; i < COUNT(lines); i++) {
		const struct hit *expected = &lines[i].hit;
		struct hit hit;
		long n;

		ck_assert_msg(
		    hit_parse(lines[i].line, strlen(lines[i].line), &hit), "%s", lines[i].line);
		ck_assert_int_eq(hit.at_s, expected->at_s);
		ck_assert_int_eq(hit.took_ms, expected->took_ms);
		ck_assert_int_eq(hit.bytes, expected->bytes);
		ck_assert_int_eq(hit.status, expected->status);
		ck_assert_int_eq(hit.method, expected->method);
		n = hit_path(&hit, path);
		ck_assert_int_eq(n, (long)strlen(lines[i].path));
		ck_assert_mem_eq(path, lines[i].path, (size_t)n);
	}
}
END_TEST

START_TEST(a_line_cut_anywhere_or_with_more_behind_it_is_none)
{
	static const char *const whole[] = { PATH("/api/one"), SERIAL("4711-17-3\"") };
	char longer[512];
	struct hit hit;

	for (size_t i = 0; i < COUNT(whole); i++) {
		for (size_t n = 0; n < strlen(whole[i]); n++) {
			char *exact = malloc(n + 1);

			memcpy(exact, whole[i], n);
			ck_assert_msg(!hit_parse(exact, n, &hit), "%zu", n);
			free(exact);
		}
		(void)snprintf(longer, sizeof(longer), "%s ", whole[i]);
		ck_assert(!hit_parse(longer, strlen(longer), &hit));
	}
}
END_TEST

static const char *const none[] = { "", "nonsense", "{}",
	LINE("2026-13-21T04:18:58+00:00", "GET", "/", "200", "1", "0.000"),
	LINE("2026-00-21T04:18:58+00:00", "GET", "/", "200", "1", "0.000"),
	LINE("2026-11-32T04:18:58+00:00", "GET", "/", "200", "1", "0.000"),
	LINE("2026-11-21T04:18:58Z", "GET", "/", "200", "1", "0.000"),
	LINE("2026-11-21 04:18:58+00:00", "GET", "/", "200", "1", "0.000"),
	LINE("1969-12-31T23:59:59+00:00", "GET", "/", "200", "1", "0.000"),
	LINE(TIME, "GET", "/", "1000", "1", "0.000"), LINE(TIME, "GET", "/", "", "1", "0.000"),
	LINE(TIME, "GET", "/", "-1", "1", "0.000"), LINE(TIME, "GET", "/", "200", "", "0.000"),
	LINE(TIME, "GET", "/", "200", "9999999999999999999", "0.000"),
	LINE(TIME, "GET", "/", "200", "1", "0.00"), LINE(TIME, "GET", "/", "200", "1", "0.0000"),
	LINE(TIME, "GET", "/", "200", "1", "-"), LINE(TIME, "GET", "/\"", "200", "1", "0.000"),
	LINE(TIME, "GET", "/\\", "200", "1", "0.000"), SERIAL("\""), SERIAL("4711\""),
	SERIAL("4711-17\""), SERIAL("4711-17-\""), SERIAL("-17-3\""), SERIAL("4711--3\""),
	SERIAL("4711-17-3-1\""), SERIAL("4711-17-3"), SERIAL("4711-17-x\""), SERIAL("4711 17 3\""),
	SERIAL("4711-17-+3\""), SERIAL("4711-17-1234567890123456789\""),
	SERIAL("4711-17-3\",\"serial\":\"4711-17-3\""), SERIAL("4711-17-3\",\"x\":\"\"") };

START_TEST(what_is_no_line_of_ours_is_damaged)
{
	struct hit hit;

	for (size_t i = 0; i < COUNT(none); i++)
		ck_assert_msg(!hit_parse(none[i], strlen(none[i]), &hit), "%s", none[i]);
}
END_TEST

static const struct {
	const char *logged, *path;
	size_t n; /* of the path, where it has a NUL */
} paths[] = {
	{ "/a%20b", "/a b", 0 },
	{ "/%61pi/%6Fne", "/api/one", 0 },
	{ "/a%2525", "/a%25", 0 }, /* once */
	{ "/a%", "/a%", 0 },
	{ "/a%2", "/a%2", 0 },
	{ "/a%zz%20", "/a%zz ", 0 },
	{ "//a///b//", "/a/b/", 0 },
	{ "/a%2F/b", "/a/b", 0 },
	{ "/a%2f%2fb", "/a/b", 0 },
	{ "/a/../b/.", "/a/../b/.", 0 },
	{ "/%00x", "/\0x", 3 },
	{ "/%ff%C0%af", "/\xff\xc0\xaf", 0 },
	{ "/\xc3\xa5", "/\xc3\xa5", 0 },
	{ "/\xff", "/\xff", 0 },
	{ "/\\u001b\\t\\n\\r\\b\\f\\\"\\\\", "/\x1b\t\n\r\b\f\"\\", 0 },
	{ "/\\u0025\\x", "/%\\x", 0 },
	{ "/+a", "/+a", 0 },
	{ "/=1+1", "/=1+1", 0 },
};

START_TEST(a_path_is_decoded_once_and_its_slashes_merged)
{
	static char out[HIT_PATH_MAX];

	for (size_t i = 0; i < COUNT(paths); i++) {
		const struct hit hit = { .path = paths[i].logged,
			.path_n = strlen(paths[i].logged) };
		size_t n = paths[i].n > 0 ? paths[i].n : strlen(paths[i].path);

		ck_assert_msg(hit_path(&hit, out) == (long)n, "%s", paths[i].logged);
		ck_assert_mem_eq(out, paths[i].path, n);
	}
}
END_TEST

START_TEST(a_path_may_be_as_long_as_nginx_takes_it)
{
	static char logged[HIT_LINE_MAX], out[HIT_PATH_MAX];
	struct hit hit = { .path = logged };
	size_t n = 0;

	memset(logged, 'a', sizeof(logged));
	hit.path_n = HIT_PATH_MAX;
	ck_assert_int_eq(hit_path(&hit, out), HIT_PATH_MAX);
	hit.path_n++;
	ck_assert_int_eq(hit_path(&hit, out), -1);
	for (int i = 0; i < HIT_PATH_MAX; i++)
		n += (size_t)sprintf(logged + n, "\\u0001");
	hit.path_n = n;
	ck_assert_int_eq(hit_path(&hit, out), HIT_PATH_MAX);
	ck_assert_int_eq(out[HIT_PATH_MAX - 1], 1);
}
END_TEST

CHECK_MAIN(hit,
    { a_line_is_read, a_line_cut_anywhere_or_with_more_behind_it_is_none,
	what_is_no_line_of_ours_is_damaged, a_path_is_decoded_once_and_its_slashes_merged,
	a_path_may_be_as_long_as_nginx_takes_it })
