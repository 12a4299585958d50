#include "test.h"

#include <time.h>

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
	{ "2016-12-31T23:59:60Z", INT64_C(1483228799999999) },
	{ "2017-01-01T00:59:60.5+01:00", INT64_C(1483228799999999) },
	{ "9999-12-31T23:59:59.999999Z", INT64_C(253402300799999999) },
	{ "9999-12-31T23:59:60Z", INT64_C(253402300799999999) },
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
	"2026-01-01T00:00:00,5Z", "2026-01-01T-1:00:00Z", "9999-12-31T23:59:60+00:01",
	"9999-12-31T23:59:59-00:01", "2016-12-30T23:59:60Z", "2016-12-31T22:59:60Z",
	"2016-12-31T23:59:60+01:00" };

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

/* By the C library, whose calendar is not ours. */
static int64_t
first_of(int64_t month)
{
	struct tm tm = {
		.tm_year = (int)(month / 12) - 1900, .tm_mon = (int)(month % 12), .tm_mday = 1
	};

	return timegm(&tm) * CLOCK_SECOND_US;
}

START_TEST(every_month_begins_with_its_first_instant_and_ends_before_the_next)
{
	for (int64_t month = CLOCK_MONTH_MIN; month <= CLOCK_MONTH_MAX; month++) {
		int64_t start_us = clock_month_start(month);
		int64_t next_us = clock_month_start(month + 1);

		ck_assert_msg(start_us == first_of(month) && clock_month(start_us) == month &&
			clock_month(start_us + 1) == month &&
			clock_month((start_us + next_us) / 2) == month &&
			clock_month(next_us - 1) == month,
		    "%lld: %lld", (long long)month, (long long)start_us);
	}
	ck_assert_int_eq(clock_month_start(CLOCK_MONTH_MIN), 0);
	ck_assert_int_eq(clock_month_start(CLOCK_MONTH_MAX + 1), CLOCK_END_US);
	ck_assert_int_eq(clock_month(CLOCK_END_US - 1), CLOCK_MONTH_MAX);
}
END_TEST

static const struct {
	const char *text;
	int64_t year, month;
} leaps[] = {
	{ "1970-01-01T00:00:00Z", 1970, 1 },
	{ "1972-02-29T23:59:59.999999Z", 1972, 2 },
	{ "1972-03-01T00:00:00Z", 1972, 3 },
	{ "1999-12-31T23:59:59.999999Z", 1999, 12 },
	{ "2000-01-01T00:00:00Z", 2000, 1 },
	{ "2000-02-28T23:59:59.999999Z", 2000, 2 },
	{ "2000-02-29T00:00:00Z", 2000, 2 },
	{ "2000-02-29T23:59:59.999999Z", 2000, 2 },
	{ "2000-03-01T00:00:00Z", 2000, 3 },
	{ "2023-02-28T23:59:59.999999Z", 2023, 2 },
	{ "2023-03-01T00:00:00Z", 2023, 3 },
	{ "2024-02-29T12:00:00Z", 2024, 2 },
	{ "2024-03-01T00:00:00+01:00", 2024, 2 },
	{ "2024-02-29T23:00:00-01:00", 2024, 3 },
	{ "2100-02-28T23:59:59.999999Z", 2100, 2 },
	{ "2100-03-01T00:00:00Z", 2100, 3 },
	{ "2400-02-29T23:59:59.999999Z", 2400, 2 },
	{ "2400-03-01T00:00:00Z", 2400, 3 },
	{ "9999-12-31T23:59:59.999999Z", 9999, 12 },
};

START_TEST(leap_days_belong_to_february)
{
	for (size_t i = 0; i < COUNT(leaps); i++) {
		int64_t us = -1;

		ck_assert_int_eq(clock_parse(leaps[i].text, strlen(leaps[i].text), &us), OK);
		ck_assert_msg(clock_month(us) == leaps[i].year * 12 + leaps[i].month - 1, "%s",
		    leaps[i].text);
	}
}
END_TEST

CHECK_MAIN(clock,
    { dates_are_read_to_the_microsecond, what_is_no_date_is_refused, a_nul_inside_is_refused,
	what_is_written_reads_back, http_dates_are_in_gmt, monotonic_time_never_goes_back,
	every_month_begins_with_its_first_instant_and_ends_before_the_next,
	leap_days_belong_to_february })
