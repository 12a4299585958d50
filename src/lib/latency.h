/*
 * latency: how long many things took, by few numbers.
 *
 * A histogram whose buckets are as wide as 1/16 of what is in them, so a quantile is too high by at
 * most that; the longest time is exact.  One thread.
 */
#ifndef CAREDESK_LATENCY_H
#define CAREDESK_LATENCY_H

#include <stdint.h>

#define LATENCY_BUCKETS 528 /* up to 2^36 microseconds, 19 hours; longer times are in the last */

struct latency {
	int64_t count, max_us;
	int64_t buckets[LATENCY_BUCKETS];
};

void latency_add(struct latency *l, int64_t us);

/* The longest time that is in bucket I. */
int64_t latency_upper_us(int i);

/* What PERMILLE of a thousand took at most, 1..1000; 0 where nothing was added. */
int64_t latency_quantile(const struct latency *l, int permille);

#endif
