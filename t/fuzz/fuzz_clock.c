#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fuzz.h"
#include "lib/clock.h"

/* The C library's calendar agrees, and so do the months. */
static void
check_calendar(int64_t us, const char *text, const char *http)
{
	struct tm tm = { 0 };
	char expected[CLOCK_HTTP_SIZE];
	time_t s = (time_t)(us / CLOCK_SECOND_US);
	int micros = -1, n = 0;

	assert(sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%6dZ%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
		   &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &micros, &n) == 7);
	assert(n == CLOCK_TEXT_SIZE - 1 && micros == us % CLOCK_SECOND_US);
	tm.tm_year -= 1900;
	tm.tm_mon--;
	assert(clock_month(us) == (tm.tm_year + 1900) * 12 + tm.tm_mon);
	assert(timegm(&tm) == s);
	assert(strftime(expected, sizeof(expected), "%a, %d %b %Y %H:%M:%S GMT", &tm) > 0);
	assert(strcmp(expected, http) == 0);
	assert(clock_month_start(clock_month(us)) <= us);
	assert(clock_month_start(clock_month(us) + 1) > us);
}

/* In UTC, date and time are written as they were read, but for a leap second. */
static void
check_same(const char *s, size_t n, const char *text)
{
	if ((s[n - 1] != 'Z' && s[n - 1] != 'z') || memcmp(s + 17, "60", 2) == 0)
		return;
	assert(memcmp(s, text, 10) == 0 && memcmp(s + 11, text + 11, 8) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	char text[CLOCK_TEXT_SIZE], again[CLOCK_TEXT_SIZE], http[CLOCK_HTTP_SIZE];
	int64_t us = -1, back = -1;

	err_clear();
	if (clock_parse((const char *)bytes, n, &us) != OK) {
		assert(us == -1 && err_words()[0] != '\0');
		return 0;
	}
	/* What is read can be written, and that reads back as the same and is written alike. */
	assert(us >= 0);
	clock_text(us, text);
	assert(strlen(text) == CLOCK_TEXT_SIZE - 1);
	assert(clock_parse(text, strlen(text), &back) == OK && back == us);
	clock_text(back, again);
	assert(strcmp(text, again) == 0);
	clock_http(us, http);
	assert(strlen(http) == CLOCK_HTTP_SIZE - 1);
	check_calendar(us, text, http);
	check_same((const char *)bytes, n, text);
	return 0;
}
