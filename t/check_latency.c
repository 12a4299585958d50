#include "test.h"

#include "lib/latency.h"

static struct latency l;

START_TEST(every_time_has_a_bucket_of_at_most_a_sixteenth)
{
	const int64_t most = INT64_C(1) << 36;

	for (int64_t us = 0; us < most; us += 1 + us / 7) {
		int64_t upper;

		memset(&l, 0, sizeof(l));
		latency_add(&l, us);
		l.max_us = INT64_MAX; /* so that the bucket's own bound is told */
		upper = latency_quantile(&l, 1000);
		ck_assert_int_ge(upper, us);
		ck_assert_int_le(upper - us, us / 16);
	}
}
END_TEST

START_TEST(bounds_of_buckets_rise)
{
	ck_assert_int_eq(latency_upper_us(0), 0);
	for (int i = 1; i < LATENCY_BUCKETS; i++)
		ck_assert_int_gt(latency_upper_us(i), latency_upper_us(i - 1));
	ck_assert_int_eq(latency_upper_us(LATENCY_BUCKETS - 1), (INT64_C(1) << 36) - 1);
}
END_TEST

START_TEST(quantiles_are_what_so_many_took_at_most)
{
	memset(&l, 0, sizeof(l));
	for (int us = 1; us <= 1000; us++)
		latency_add(&l, us);
	ck_assert_int_eq(l.count, 1000);
	ck_assert_int_eq(latency_quantile(&l, 1), 1);
	ck_assert_int_eq(latency_quantile(&l, 10), 10);
	ck_assert_int_ge(latency_quantile(&l, 500), 500);
	ck_assert_int_le(latency_quantile(&l, 500), 531);
	ck_assert_int_ge(latency_quantile(&l, 990), 990);
	ck_assert_int_eq(latency_quantile(&l, 1000), 1000); /* never more than the longest */
}
END_TEST

START_TEST(one_long_time_is_seen_only_where_it_must_be)
{
	memset(&l, 0, sizeof(l));
	for (int i = 0; i < 99; i++)
		latency_add(&l, 5);
	latency_add(&l, 7777777);
	ck_assert_int_eq(latency_quantile(&l, 990), 5);
	ck_assert_int_eq(latency_quantile(&l, 991), 7777777);
}
END_TEST

START_TEST(what_is_out_of_range_is_in_the_first_or_last)
{
	memset(&l, 0, sizeof(l));
	ck_assert_int_eq(latency_quantile(&l, 500), 0);
	latency_add(&l, -5);
	ck_assert_int_eq(latency_quantile(&l, 500), 0);
	latency_add(&l, INT64_MAX);
	ck_assert_int_eq(l.max_us, INT64_MAX);
	ck_assert_int_eq(l.buckets[LATENCY_BUCKETS - 1], 1);
}
END_TEST

CHECK_MAIN(latency,
    { every_time_has_a_bucket_of_at_most_a_sixteenth, bounds_of_buckets_rise,
	quantiles_are_what_so_many_took_at_most, one_long_time_is_seen_only_where_it_must_be,
	what_is_out_of_range_is_in_the_first_or_last })
