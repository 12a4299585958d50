#include "lib/latency.h"

/* Below 16 each value has a bucket; above, each power of two has 16 of them. */
#define PARTS 16
#define PARTS_BITS 4

static int
bucket_of(int64_t us)
{
	int power;

	if (us < PARTS)
		return us < 0 ? 0 : (int)us;
	power = 63 - __builtin_clzll((unsigned long long)us) - PARTS_BITS;
	if (power >= LATENCY_BUCKETS / PARTS - 1)
		return LATENCY_BUCKETS - 1;
	return (power + 1) * PARTS + (int)(us >> power) % PARTS;
}

int64_t
latency_upper_us(int i)
{
	if (i < PARTS)
		return i;
	return ((int64_t)(PARTS + i % PARTS + 1) << (i / PARTS - 1)) - 1;
}

void
latency_add(struct latency *l, int64_t us)
{
	l->count++;
	l->buckets[bucket_of(us)]++;
	if (us > l->max_us)
		l->max_us = us;
}

int64_t
latency_quantile(const struct latency *l, int permille)
{
	int64_t wanted = (l->count * permille + 999) / 1000, seen = 0;

	for (int i = 0; i < LATENCY_BUCKETS; i++) {
		seen += l->buckets[i];
		if (seen >= wanted)
			return latency_upper_us(i) < l->max_us ? latency_upper_us(i) : l->max_us;
	}
	return l->max_us;
}
