#include "metered.h"

#include <pthread.h>
#include <stdio.h>

#include "lib/clock.h"

#define THREADS 8
#define EACH 20000
#define SERIES 3000

static const struct metrics_labels none = { 0 };

static struct metrics_labels
route(const char *name)
{
	return (struct metrics_labels){ name, "GET", 0 };
}

static const char expected[] =
    "# HELP caredesk_http_requests_total Requests by route, method and the status in the log.\n"
    "# TYPE caredesk_http_requests_total counter\n"
    "caredesk_http_requests_total{program=\"p\",route=\"/a/{id}\",method=\"GET\",status=\"200\"} "
    "3\n"
    "caredesk_http_requests_total{program=\"p\",route=\"none\",method=\"other\",status=\"404\"} "
    "1\n"
    "# HELP caredesk_commit_changes Changes that were committed in one transaction.\n"
    "# TYPE caredesk_commit_changes histogram\n"
    "caredesk_commit_changes_bucket{program=\"p\",database=\"d\",le=\"1\"} 1\n"
    "caredesk_commit_changes_bucket{program=\"p\",database=\"d\",le=\"2\"} 1\n"
    "caredesk_commit_changes_bucket{program=\"p\",database=\"d\",le=\"4\"} 3\n"
    "caredesk_commit_changes_bucket{program=\"p\",database=\"d\",le=\"8\"} 3\n"
    "caredesk_commit_changes_bucket{program=\"p\",database=\"d\",le=\"16\"} 3\n"
    "caredesk_commit_changes_bucket{program=\"p\",database=\"d\",le=\"32\"} 3\n"
    "caredesk_commit_changes_bucket{program=\"p\",database=\"d\",le=\"64\"} 3\n"
    "caredesk_commit_changes_bucket{program=\"p\",database=\"d\",le=\"128\"} 3\n"
    "caredesk_commit_changes_bucket{program=\"p\",database=\"d\",le=\"256\"} 3\n"
    "caredesk_commit_changes_bucket{program=\"p\",database=\"d\",le=\"512\"} 3\n"
    "caredesk_commit_changes_bucket{program=\"p\",database=\"d\",le=\"+Inf\"} 4\n"
    "caredesk_commit_changes_sum{program=\"p\",database=\"d\"} 1008\n"
    "caredesk_commit_changes_count{program=\"p\",database=\"d\"} 4\n"
    "# HELP caredesk_access_log_lines_total Lines of the access log that this process has taken "
    "in.\n"
    "# TYPE caredesk_access_log_lines_total counter\n"
    "caredesk_access_log_lines_total{program=\"p\"} 0\n"
    "# HELP caredesk_access_log_lag_bytes Bytes of the access log that are not taken in yet.\n"
    "# TYPE caredesk_access_log_lag_bytes gauge\n"
    "caredesk_access_log_lag_bytes{program=\"p\"} 17\n"
    "# HELP process_start_time_seconds ";

START_TEST(the_text_is_that_of_the_format_to_the_byte)
{
	static const int64_t changes[] = { 1, 3, 4, 1000 };

	metrics_open("p");
	metrics_count(METRIC_REQUESTS, (struct metrics_labels){ "/a/{id}", "GET", 200 }, 1);
	metrics_count(METRIC_REQUESTS, (struct metrics_labels){ "none", "other", 404 }, 1);
	metrics_count(METRIC_REQUESTS, (struct metrics_labels){ "/a/{id}", "GET", 200 }, 2);
	for (size_t i = 0; i < COUNT(changes); i++)
		metrics_observe(
		    METRIC_COMMIT_CHANGES, (struct metrics_labels){ .first = "d" }, changes[i]);
	metrics_count(METRIC_LOG_LINES, none, 0);
	metrics_set(METRIC_LOG_LAG, none, 4711);
	metrics_set(METRIC_LOG_LAG, none, 17);
	ck_assert_msg(strncmp(metered_read(), expected, strlen(expected)) == 0, "%s", metered.text);
	ck_assert_int_eq(metered.text[metered.used - 1], '\n');
}
END_TEST

START_TEST(a_family_without_samples_is_not_there)
{
	ck_assert_ptr_null(strstr(metered_read(), "upstream"));
	metrics_count(METRIC_UPSTREAM_CALLS, (struct metrics_labels){ "a", "timeout", 0 }, 0);
	ck_assert_ptr_nonnull(
	    strstr(metered_read(), "# TYPE caredesk_upstream_calls_total counter\n"));
	ck_assert_str_eq(
	    metered_find("caredesk_upstream_calls_total{program=\"\",upstream=\"a\",outcome="
			 "\"timeout\"}"),
	    "0");
}
END_TEST

START_TEST(values_of_labels_are_escaped)
{
	static const struct {
		const char *value, *written;
	} rows[] = { { "", "" }, { "plain", "plain" }, { "\\", "\\\\" }, { "a\"b", "a\\\"b" },
		{ "a\nb", "a\\nb" }, { "\"\\\n\"", "\\\"\\\\\\n\\\"" }, { "\\n", "\\\\n" },
		{ "\xc3\xa5 {},=", "\xc3\xa5 {},=" } };
	char sample[128];

	for (size_t i = 0; i < COUNT(rows); i++)
		metrics_count(METRIC_COMMIT_FAILURES,
		    (struct metrics_labels){ .first = rows[i].value }, (int64_t)i + 1);
	(void)metered_read();
	for (size_t i = 0; i < COUNT(rows); i++) {
		char number[8];

		(void)snprintf(number, sizeof(number), "%zu", i + 1);
		(void)snprintf(sample, sizeof(sample),
		    "caredesk_commit_failures_total{program=\"\",database=\"%s\"}",
		    rows[i].written);
		ck_assert_ptr_nonnull(metered_find(sample));
		ck_assert_str_eq(metered_find(sample), number);
	}
}
END_TEST

START_TEST(a_value_is_in_every_bucket_that_it_is_not_above)
{
	static const char *const bounds[] = { "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025",
		"0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf" };
	static const struct {
		int64_t us;
		size_t first; /* of the bounds, that it is not above */
	} rows[] = { { 0, 0 }, { 499, 0 }, { 500, 0 }, { 501, 1 }, { 1000, 1 }, { 1001, 2 },
		{ 2501, 3 }, { 100000, 7 }, { 100001, 8 }, { 1000000, 10 }, { 9999999, 13 },
		{ 10000000, 13 }, { 10000001, 14 }, { INT64_C(1) << 50, 14 } };
	char name[32], sample[160];

	for (size_t i = 0; i < COUNT(rows); i++) {
		(void)snprintf(name, sizeof(name), "/%zu", i);
		metrics_observe(METRIC_REQUEST_US, route(name), rows[i].us);
	}
	for (size_t i = 0; i < COUNT(rows); i++)
		for (size_t k = 0; k < COUNT(bounds); k++) {
			(void)snprintf(sample, sizeof(sample),
			    "caredesk_http_request_duration_seconds_bucket{program=\"\",route=\"/%"
			    "zu\",method=\"GET\",le=\"%s\"}",
			    i, bounds[k]);
			ck_assert_msg(metered_now(sample) == (k >= rows[i].first), "%s", sample);
			ck_assert_ptr_nonnull(metered_find(sample));
		}
}
END_TEST

START_TEST(durations_become_exact_seconds)
{
	static const struct {
		int64_t us;
		const char *seconds;
	} rows[] = { { 0, "0" }, { 1, "0.000001" }, { 10, "0.00001" }, { 100000, "0.1" },
		{ 999999, "0.999999" }, { 1000000, "1" }, { 1000001, "1.000001" },
		{ 1500000, "1.5" }, { 60000000, "60" }, { 123456789, "123.456789" },
		{ INT64_MAX, "9223372036854.775807" } };
	char name[32], sample[160];

	for (size_t i = 0; i < COUNT(rows); i++) {
		(void)snprintf(name, sizeof(name), "/%zu", i);
		metrics_observe(METRIC_REQUEST_US, route(name), rows[i].us);
		(void)snprintf(sample, sizeof(sample),
		    "caredesk_http_request_duration_seconds_sum{program=\"\",route=\"/%zu\",method="
		    "\"GET\"}",
		    i);
		(void)metered_read();
		ck_assert_str_eq(metered_find(sample), rows[i].seconds);
	}
}
END_TEST

START_TEST(labels_are_what_they_say_and_not_where_they_are)
{
	char first[] = "alpha", second[] = "timeout";

	metrics_count(METRIC_UPSTREAM_CALLS, (struct metrics_labels){ "alpha", "timeout", 0 }, 1);
	metrics_count(METRIC_UPSTREAM_CALLS, (struct metrics_labels){ first, second, 0 }, 1);
	memset(first, 'x', sizeof(first) - 1); /* copied */
	metrics_count(METRIC_UPSTREAM_CALLS, (struct metrics_labels){ "alphat", "imeout", 0 }, 5);
	metrics_count(METRIC_UPSTREAM_CALLS, (struct metrics_labels){ "timeout", "alpha", 0 }, 7);
	ck_assert_int_eq(metered_now("caredesk_upstream_calls_total{program=\"\",upstream=\"alpha\""
				     ",outcome=\"timeout\"}"),
	    2);
	ck_assert_int_eq(metered_now("caredesk_upstream_calls_total{program=\"\",upstream="
				     "\"alphat\",outcome=\"imeout\"}"),
	    5);
	ck_assert_int_eq(metered_now("caredesk_upstream_calls_total{program=\"\",upstream="
				     "\"timeout\",outcome=\"alpha\"}"),
	    7);
}
END_TEST

START_TEST(each_of_many_series_is_found_again)
{
	const char *at;
	size_t found = 0;

	for (int round = 0; round < 2; round++)
		for (int i = 0; i < SERIES; i++)
			metrics_count(
			    METRIC_REQUESTS, (struct metrics_labels){ "/", "GET", i }, i + 1);
	at = metered_read();
	for (int i = 0; i < SERIES; i++) {
		char line[128];

		(void)snprintf(line, sizeof(line),
		    "\ncaredesk_http_requests_total{program=\"\",route=\"/\",method=\"GET\",status="
		    "\"%d\"} %d\n",
		    i, 2 * (i + 1));
		at = strstr(at, line); /* in the order in which they came */
		ck_assert_msg(at != NULL, "%s", line);
	}
	for (at = metered.text; (at = strstr(at, "\ncaredesk_http_")) != NULL; at++)
		found++;
	ck_assert_uint_eq(found, SERIES);
}
END_TEST

/* A thread that adds to what all share and to what is its own. */
static void *
add(void *arg)
{
	const char *own = arg;

	for (int i = 0; i < EACH; i++) {
		metrics_count(METRIC_REQUESTS, (struct metrics_labels){ "/all", "GET", 200 }, 1);
		metrics_count(METRIC_REQUESTS, (struct metrics_labels){ own, "GET", i % 10 }, 1);
		metrics_observe(METRIC_REQUEST_US, route("/all"), i);
	}
	return NULL;
}

static void
check_sums(const char *const *names)
{
	char sample[128];

	for (size_t i = 0; i < THREADS; i++)
		for (int status = 0; status < 10; status++) {
			(void)snprintf(sample, sizeof(sample),
			    "caredesk_http_requests_total{program=\"\",route=\"%s\",method=\"GET\","
			    "status=\"%d\"}",
			    names[i], status);
			ck_assert_int_eq(metered_now(sample), EACH / 10);
		}
	ck_assert_int_eq(metered_now("caredesk_http_requests_total{program=\"\",route=\"/all\","
				     "method=\"GET\",status=\"200\"}"),
	    THREADS * EACH);
	ck_assert_int_eq(metered_now("caredesk_http_request_duration_seconds_count{program=\"\","
				     "route=\"/all\",method=\"GET\"}"),
	    THREADS * EACH);
	/* 8 * (0 + ... + 19999) us */
	ck_assert_str_eq(metered_find("caredesk_http_request_duration_seconds_sum{program=\"\","
				      "route=\"/all\",method=\"GET\"}"),
	    "1599.92");
}

START_TEST(nothing_is_lost_of_what_threads_add_at_once_while_it_is_read)
{
	static const char *const names[THREADS] = { "/0", "/1", "/2", "/3", "/4", "/5", "/6",
		"/7" };
	pthread_t threads[THREADS];

	for (size_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, add, (void *)names[i]), 0);
	for (int i = 0; i < 100; i++)
		(void)metered_read();
	for (size_t i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
	check_sums(names);
}
END_TEST

static void *
wait_for_end(void *arg)
{
	char byte;

	(void)!read(*(int *)arg, &byte, 1);
	return NULL;
}

START_TEST(the_process_tells_what_it_takes)
{
	int64_t fds, threads, now_s = clock_now_us() / CLOCK_SECOND_US;
	pthread_t pair[2];
	int pipes[2];

	/* The first one may bring a thread of a sanitizer with it. */
	fds = metered_now("process_open_fds{program=\"\"}");
	ck_assert_int_eq(pipe(pipes), 0);
	ck_assert_int_eq(pthread_create(&pair[0], NULL, wait_for_end, &pipes[0]), 0);
	ck_assert_int_eq(metered_now("process_open_fds{program=\"\"}"), fds + 2);
	threads = metered_now("caredesk_threads{program=\"\"}");
	ck_assert_int_ge(threads, 2);
	ck_assert_int_eq(pthread_create(&pair[1], NULL, wait_for_end, &pipes[0]), 0);
	ck_assert_int_eq(metered_now("caredesk_threads{program=\"\"}"), threads + 1);
	ck_assert_int_gt(metered_now("process_resident_memory_bytes{program=\"\"}"), 100000);
	ck_assert_ptr_nonnull(metered_find("process_cpu_seconds_total{program=\"\"}"));
	metrics_open("");
	ck_assert_int_ge(metered_now("process_start_time_seconds{program=\"\"}"), now_s);
	(void)close(pipes[1]);
	(void)pthread_join(pair[0], NULL);
	(void)pthread_join(pair[1], NULL);
	(void)close(pipes[0]);
}
END_TEST

static enum err
refuse(void *ctx, const char *bytes, size_t n)
{
	int *left = ctx;

	(void)bytes;
	(void)n;
	ck_assert_int_gt(*left, 0); /* not called again */
	return --*left > 0 ? OK : fail(ERR_GONE, "the client left");
}

START_TEST(writing_ends_where_the_reader_is_gone)
{
	for (int calls = 1; calls < 30; calls++) {
		int left = calls;

		ck_assert_int_eq(metrics_write(refuse, &left), ERR_GONE);
		ck_assert_int_eq(left, 0);
	}
}
END_TEST

CHECK_MAIN(metrics,
    { the_text_is_that_of_the_format_to_the_byte, a_family_without_samples_is_not_there,
	values_of_labels_are_escaped, a_value_is_in_every_bucket_that_it_is_not_above,
	durations_become_exact_seconds, labels_are_what_they_say_and_not_where_they_are,
	each_of_many_series_is_found_again,
	nothing_is_lost_of_what_threads_add_at_once_while_it_is_read,
	the_process_tells_what_it_takes, writing_ends_where_the_reader_is_gone })
