/*
 * clock: instants, in and out.
 *
 * A wall-clock instant is an int64 of microseconds since 1970-01-01T00:00:00Z; a time-out is
 * measured on the monotonic clock and the two never mix.  Texts are RFC 3339 (section 5.6), read
 * strictly, written in UTC with microseconds; HTTP's own dates are RFC 9110 section 5.6.7.
 *
 * Any thread.  Years 1970..9999.
 */
#ifndef CAREDESK_CLOCK_H
#define CAREDESK_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

#define CLOCK_TEXT_SIZE 28 /* 2026-11-21T04:18:58.123456Z and a NUL */
#define CLOCK_HTTP_SIZE 30 /* Sat, 21 Nov 2026 04:18:58 GMT and a NUL */
#define CLOCK_SECOND_US INT64_C(1000000)
#define CLOCK_MS_US INT64_C(1000)
#define CLOCK_END_US (INT64_C(253402300800) * CLOCK_SECOND_US) /* the first instant of 10000 */

int64_t clock_now_us(void);
int64_t clock_monotonic_us(void);

/* A condition that is waited for by the monotonic clock. */
void clock_condition_open(pthread_cond_t *condition);

/* With the lock held, which it lets go meanwhile; false once UNTIL_US has passed. */
bool clock_wait(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t until_us);

/* NOW_US within the years above. */
void clock_text(int64_t now_us, char out[CLOCK_TEXT_SIZE]);
void clock_http(int64_t now_us, char out[CLOCK_HTTP_SIZE]);

/* Date and time of RFC 3339; without an offset it is UTC; a lower-case or blank separator is
 * accepted, a fraction beyond microseconds is cut, a leap second reads as the second after.
 * ERR_INPUT, with words, for anything else and for dates that do not exist. */
enum err clock_parse(const char *s, size_t n, int64_t *us) MUST_CHECK;

/* Months are counted in UTC: year * 12 + month - 1.  US within the years above. */
#define CLOCK_MONTH_MIN (1970 * 12)
#define CLOCK_MONTH_MAX (9999 * 12 + 11)
int64_t clock_month(int64_t us);

/* Its first instant; of the month after CLOCK_MONTH_MAX, the end of time. */
int64_t clock_month_start(int64_t month);

#endif
