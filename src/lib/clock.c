#include "lib/clock.h"

#include <string.h>
#include <time.h>

#include "lib/text.h"

#define YEAR_MIN 1970
#define YEAR_MAX 9999
#define OFFSET_MAX_MIN (14 * 60) /* no place on earth is further from UTC */

static int64_t
read_clock(clockid_t id)
{
	struct timespec ts;

	(void)clock_gettime(id, &ts);
	return ts.tv_sec * CLOCK_SECOND_US + ts.tv_nsec / 1000;
}

int64_t
clock_now_us(void)
{
	return read_clock(CLOCK_REALTIME);
}

int64_t
clock_monotonic_us(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

void
clock_condition_open(pthread_cond_t *condition)
{
	pthread_condattr_t attributes;

	(void)pthread_condattr_init(&attributes);
	(void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	(void)pthread_cond_init(condition, &attributes);
	(void)pthread_condattr_destroy(&attributes);
}

bool
clock_wait(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t until_us)
{
	const struct timespec until = {
		.tv_sec = (time_t)(until_us / CLOCK_SECOND_US),
		.tv_nsec = (long)(until_us % CLOCK_SECOND_US * 1000),
	};

	return pthread_cond_timedwait(condition, lock, &until) == 0;
}

/* WIDTH decimal digits of VALUE, with leading zeros. */
static char *
put_digits(char *out, int64_t value, int width)
{
	for (int i = width - 1; i >= 0; i--) {
		out[i] = (char)('0' + value % 10);
		value /= 10;
	}
	return out + width;
}

/* A day of the calendar. */
struct date {
	int64_t year, month, day; /* months and days from 1 */
};

/* From days since 1970-01-01, by the calendar's 400 years of 146097 days; years are counted from
 * March, so that the leap day is the last. */
static struct date
date_of(int64_t days)
{
	int64_t since = days + 719468; /* 0000-03-01 */
	int64_t era = since / 146097, day = since % 146097;
	int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
	int64_t of_year = day - (365 * year + year / 4 - year / 100);
	int64_t month = (5 * of_year + 2) / 153; /* from March, 0 */

	return (struct date){ era * 400 + year + (month >= 10), month < 10 ? month + 3 : month - 9,
		of_year - (153 * month + 2) / 5 + 1 };
}

void
clock_text(int64_t now_us, char out[CLOCK_TEXT_SIZE])
{
	int64_t second = now_us / CLOCK_SECOND_US, of_day = second % 86400;
	const struct date date = date_of(second / 86400);
	const struct {
		int64_t value;
		int width;
		char end;
	} parts[] = {
		{ date.year, 4, '-' },
		{ date.month, 2, '-' },
		{ date.day, 2, 'T' },
		{ of_day / 3600, 2, ':' },
		{ of_day / 60 % 60, 2, ':' },
		{ of_day % 60, 2, '.' },
		{ now_us % CLOCK_SECOND_US, 6, 'Z' },
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		out = put_digits(out, parts[i].value, parts[i].width);
		*out++ = parts[i].end;
	}
	*out = '\0';
}

/* Most calls come within the second of the one before: the date is worked out once for it. */
void
clock_http(int64_t now_us, char out[CLOCK_HTTP_SIZE])
{
	static _Thread_local int64_t cached_second = -1;
	static _Thread_local char cached[CLOCK_HTTP_SIZE];
	int64_t second = now_us / CLOCK_SECOND_US;

	if (second != cached_second) {
		time_t t = (time_t)second;
		struct tm tm;

		/* The names are English: no program here sets a locale. */
		(void)gmtime_r(&t, &tm);
		(void)strftime(cached, sizeof(cached), "%a, %d %b %Y %H:%M:%S GMT", &tm);
		cached_second = second;
	}
	memcpy(out, cached, CLOCK_HTTP_SIZE);
}

/* What is left of the text being read. */
struct cursor {
	const char *s;
	size_t n;
};

/* Exactly WIDTH digits, MIN..MAX. */
static bool
take_number(struct cursor *c, size_t width, int min, int max, int *value)
{
	int64_t v;

	if (c->n < width || !text_uint(c->s, width, &v) || v < min || v > max)
		return false;
	c->s += width;
	c->n -= width;
	*value = (int)v;
	return true;
}

static bool
take_one_of(struct cursor *c, const char *set)
{
	if (c->n == 0 || c->s[0] == '\0' || strchr(set, c->s[0]) == NULL)
		return false;
	c->s++;
	c->n--;
	return true;
}

static int
days_in_month(int year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && leap);
}

static bool
take_date(struct cursor *c, struct tm *tm)
{
	int year, month, day;

	if (!take_number(c, 4, YEAR_MIN, YEAR_MAX, &year) || !take_one_of(c, "-") ||
	    !take_number(c, 2, 1, 12, &month) || !take_one_of(c, "-") ||
	    !take_number(c, 2, 1, days_in_month(year, month), &day))
		return false;
	tm->tm_year = year - 1900;
	tm->tm_mon = month - 1;
	tm->tm_mday = day;
	return true;
}

/* A fraction of a second, in microseconds; what is finer is cut. */
static bool
take_fraction(struct cursor *c, int64_t *us)
{
	int64_t scale = CLOCK_SECOND_US;
	int digit;

	*us = 0;
	if (!take_one_of(c, "."))
		return true;
	if (!take_number(c, 1, 0, 9, &digit))
		return false;
	do {
		scale /= 10;
		*us += digit * scale;
	} while (take_number(c, 1, 0, 9, &digit));
	return true;
}

static bool
take_offset(struct cursor *c, int *minutes)
{
	bool west;
	int h, m;

	*minutes = 0;
	if (c->n == 0 || take_one_of(c, "Zz"))
		return true;
	west = c->s[0] == '-';
	if (!take_one_of(c, "+-") || !take_number(c, 2, 0, 23, &h) || !take_one_of(c, ":") ||
	    !take_number(c, 2, 0, 59, &m) || h * 60 + m > OFFSET_MAX_MIN)
		return false;
	*minutes = west ? -(h * 60 + m) : h * 60 + m;
	return true;
}

/* Leap seconds come at the ends of months in UTC (RFC 3339 section 5.7).  Unix time has none: it
 * counts as the last instant of its month.  *AT is behind it; false where none can be. */
static bool
fold_leap_second(int64_t *at)
{
	int64_t begin = *at / CLOCK_SECOND_US * CLOCK_SECOND_US;

	if (*at < 0 || begin >= CLOCK_END_US + CLOCK_SECOND_US ||
	    (begin < CLOCK_END_US && begin != clock_month_start(clock_month(begin))))
		return false;
	*at = begin - 1;
	return true;
}

enum err
clock_parse(const char *s, size_t n, int64_t *us)
{
	struct cursor c = { s, n };
	struct tm tm = { 0 };
	int64_t fraction_us, at;
	int offset_min;
	bool is_leap;

	if (!take_date(&c, &tm) || !take_one_of(&c, "Tt ") ||
	    !take_number(&c, 2, 0, 23, &tm.tm_hour) || !take_one_of(&c, ":") ||
	    !take_number(&c, 2, 0, 59, &tm.tm_min) || !take_one_of(&c, ":") ||
	    !take_number(&c, 2, 0, 60, &tm.tm_sec) || !take_fraction(&c, &fraction_us) ||
	    !take_offset(&c, &offset_min) || c.n != 0)
		goto bad;
	is_leap = tm.tm_sec == 60; /* before timegm(), which rewrites it */
	at = timegm(&tm) * CLOCK_SECOND_US + fraction_us - offset_min * 60 * CLOCK_SECOND_US;
	if (is_leap && !fold_leap_second(&at))
		goto bad;
	if (at < 0 || at >= CLOCK_END_US) /* by its offset, or a leap second */
		goto bad;
	*us = at;
	return OK;
bad:
	return fail(ERR_INPUT,
	    "must be a date and time as in RFC 3339, "
	    "such as 2026-11-21T04:18:58Z, of the years %d..%d",
	    YEAR_MIN, YEAR_MAX);
}

int64_t
clock_month(int64_t us)
{
	const struct date date = date_of(us / CLOCK_SECOND_US / 86400);

	return date.year * 12 + date.month - 1;
}

int64_t
clock_month_start(int64_t month)
{
	int64_t march = month - 2, year = march / 12;
	int64_t days =
	    year * 365 + year / 4 - year / 100 + year / 400 + (153 * (march % 12) + 2) / 5 - 719468;

	return days * 86400 * CLOCK_SECOND_US;
}
