#include "test.h"

#include "lib/clock.h"

static const struct {
	const char *text;
	int64_t us;
} dates[] = {
	{ "1970-01-01T00:00:00Z", 0 },
	{ "2026-11-21T04:18:58.123456Z", INT64_C(1795234738123456) },
	{ "2026-11-21T04:18:58", INT64_C(1795234738000000) },
	{ "2026-11-21 04:18:58z", INT64_C(1795234738000000) },
	{ "2026-11-21t05:18:58+01:00", INT64_C(1795234738000000) },
	{ "2026-11-20T23:18:58-05:00", INT64_C(1795234738000000) },
	{ "2026-11-21T04:18:58.1Z", INT64_C(1795234738100000) },
	{ "2026-11-21T04:18:58.1234567899Z", INT64_C(1795234738123456) },
	{ "2000-02-29T00:00:00Z", INT64_C(951782400000000) },
	{ "2016-12-31T23:59:60Z", INT64_C(1483228800000000) },
	{ "9999-12-31T23:59:59.999999Z", INT64_C(253402300799999999) },
	{ "9999-12-31T23:59:60+00:01", INT64_C(253402300740000000) },
};

START_TEST(dates_are_read_to_the_microsecond)
{
	for (size_t i = 0; i < COUNT(dates); i++) {
		int64_t us = -1;

		ck_assert_msg(clock_parse(dates[i].text, strlen(dates[i].text), &us) == OK, "%s",
		    dates[i].text);
		ck_assert_msg(us == dates[i].us, "%s: %lld", dates[i].text, (long long)us);
	}
}
END_TEST

static const char *const no_dates[] = { "", "2026", "2026-11-21", "2026-11-21T04:18",
	"2026-11-21T04:18:58.Z", "2026-11-21T04:18:58+1:00", "2026-11-21T04:18:58+0100",
	"2026-11-21T04:18:58+15:00", "2026-11-21T04:18:58+14:01", "2026-11-21T04:18:58ZZ",
	"2026-11-21T04:18:58 Z", " 2026-11-21T04:18:58Z", "2026-02-29T00:00:00Z",
	"1900-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2026-00-01T00:00:00Z",
	"2026-13-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-01T24:00:00Z",
	"2026-01-01T00:60:00Z", "2026-01-01T00:00:61Z", "1969-12-31T23:59:59Z",
	"1970-01-01T00:00:00+00:01", "10000-01-01T00:00:00Z", "2026-1-01T00:00:00Z",
	"+026-01-01T00:00:00Z", "2026/01/01T00:00:00Z", "2026-01-01X00:00:00Z",
	"2026-01-01T00:00:00,5Z", "2026-01-01T-1:00:00Z", "9999-12-31T23:59:60Z",
	"9999-12-31T23:59:59-00:01" };

START_TEST(what_is_no_date_is_refused)
{
	for (size_t i = 0; i < COUNT(no_dates); i++) {
		int64_t us = -1;

		ck_assert_msg(clock_parse(no_dates[i], strlen(no_dates[i]), &us) == ERR_INPUT, "%s",
		    no_dates[i]);
		ck_assert_int_eq(us, -1);
		ck_assert_ptr_nonnull(strstr(err_words(), "RFC 3339"));
	}
}
END_TEST

START_TEST(a_nul_inside_is_refused)
{
	int64_t us;

	ck_assert_int_eq(clock_parse("2026-11-21T04:18:58\0", 20, &us), ERR_INPUT);
	ck_assert_int_eq(clock_parse("2026-11-21\00004:18:58", 19, &us), ERR_INPUT);
}
END_TEST

START_TEST(what_is_written_reads_back)
{
	static const int64_t instants[] = { 0, 1, 999999, INT64_C(1795234738123456),
		INT64_C(1795234738000001), INT64_C(253402300799999999) };
	char text[CLOCK_TEXT_SIZE];
	int64_t us;

	for (size_t i = 0; i < COUNT(instants); i++) {
		clock_text(instants[i], text);
		ck_assert_uint_eq(strlen(text), CLOCK_TEXT_SIZE - 1);
		ck_assert_int_eq(clock_parse(text, strlen(text), &us), OK);
		ck_assert_int_eq(us, instants[i]);
	}
}
END_TEST

START_TEST(http_dates_are_in_gmt)
{
	char text[CLOCK_HTTP_SIZE];

	clock_http(INT64_C(784111777000000), text);
	ck_assert_str_eq(text, "Sun, 06 Nov 1994 08:49:37 GMT"); /* the RFC's own example */
	clock_http(0, text);
	ck_assert_str_eq(text, "Thu, 01 Jan 1970 00:00:00 GMT");
}
END_TEST

START_TEST(monotonic_time_never_goes_back)
{
	int64_t last = clock_monotonic_us();

	for (int i = 0; i < 10000; i++) {
		int64_t now = clock_monotonic_us();

		ck_assert_int_ge(now, last);
		last = now;
	}
}
END_TEST

CHECK_MAIN(clock,
    { dates_are_read_to_the_microsecond, what_is_no_date_is_refused, a_nul_inside_is_refused,
	what_is_written_reads_back, http_dates_are_in_gmt, monotonic_time_never_goes_back })
