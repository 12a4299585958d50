/*
 * caredesk load: many requests to the service that runs here, how long they took, and whether its
 * statistics counted each of them.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "caredesk.h"
#include "lib/clock.h"
#include "lib/counts.h"
#include "lib/load.h"
#include "lib/programs.h"
#include "lib/text.h"
#include "lib/upstream.h"
#include "lib/user.h"

#define REQUESTS_MAX 1000000000
#define TAKE_IN_US (15 * CLOCK_SECOND_US)
#define BODY_MAX (1024 * 1024)
#define ROWS 32 /* of the histogram: each is twice as long a time as the one before */
#define BAR 50

struct loader {
	struct load load;
	struct load_result result;
	struct progress progress;
	struct db *db;
	int64_t counted;
};

static volatile sig_atomic_t interrupted;

static void
interrupt(int signal)
{
	(void)signal;
	interrupted = 1;
}

/* Whoever asks for statistics makes them take in all that was answered before. */
static enum err
await_counts(void)
{
	struct upstream_config config = { .name = "stats",
		.url = "http://localhost/stats/?limit=1",
		.socket = HTTP_SOCKET,
		.max_in_flight = 1,
		.circuit_failures = UINT32_MAX,
		.body_max = BODY_MAX };
	struct upstream_call call = { 0 };
	enum err err;

	if ((err = upstream_open(&config, &call.upstream)) != OK)
		return err;
	err = upstream_ask(&call, 1, "", "", clock_monotonic_us() + TAKE_IN_US);
	if (err == OK && (call.outcome != UPSTREAM_ANSWERED || call.status != 200))
		err = fail(ERR_UPSTREAM, "the statistics do not answer (%s, status %ld)",
		    upstream_outcome_name(call.outcome), call.status);
	if (err == OK)
		upstream_settle(&call, UPSTREAM_ANSWERED);
	upstream_close(call.upstream);
	return err;
}

static enum err
count(struct loader *loader, int64_t *requests)
{
	enum err err = await_counts();

	return err != OK ? err : load_counted(loader->db, &loader->load.words, requests);
}

static bool
told(void *ctx, const struct load_result *so_far)
{
	struct loader *loader = ctx;

	progress_told(&loader->progress, so_far->succeeded + so_far->failed);
	return interrupted == 0;
}

static enum err
send_all(struct loader *loader)
{
	const struct sigaction on_interrupt = { .sa_handler = interrupt };
	int64_t before, after;
	enum err err;

	if ((err = load_draw(&loader->load.words)) != OK || (err = count(loader, &before)) != OK)
		return err;
	(void)sigaction(SIGINT, &on_interrupt, NULL);
	(void)sigaction(SIGTERM, &on_interrupt, NULL);
	loader->load.told = told;
	loader->load.ctx = loader;
	progress_begin(&loader->progress, "sending", "requests", loader->load.requests);
	err = load_run(&loader->load, &loader->result);
	progress_end(&loader->progress);
	if (err == OK && (err = count(loader, &after)) == OK)
		loader->counted = after - before;
	return err;
}

/* --- What is said of it. */

/* The row of a time: 0 is up to 2^0 microseconds, each further one up to twice as many. */
static int
row_of(int64_t us)
{
	int row = 0;

	while (row < ROWS - 1 && us > INT64_C(1) << row)
		row++;
	return row;
}

static void
print_histogram(const struct latency *latency)
{
	int64_t rows[ROWS] = { 0 }, most = 1;
	int first = ROWS, last = 0;

	for (int i = 0; i < LATENCY_BUCKETS; i++) {
		int row = row_of(latency_upper_us(i));

		if (latency->buckets[i] == 0)
			continue;
		rows[row] += latency->buckets[i];
		most = rows[row] > most ? rows[row] : most;
		first = row < first ? row : first;
		last = row;
	}
	for (int row = first; row <= last; row++) {
		int bar = (int)((double)rows[row] * BAR / (double)most + 0.999);

		(void)printf("  up to %10.3f ms  %10" PRId64 "%s%.*s\n",
		    (double)(INT64_C(1) << row) / 1000, rows[row], bar > 0 ? "  " : "", bar,
		    "##################################################");
	}
}

static double
quantile_ms(const struct latency *latency, int permille)
{
	return (double)latency_quantile(latency, permille) / 1000;
}

static void
print_result(const struct loader *loader)
{
	const struct load_result *r = &loader->result;
	int64_t done = r->succeeded + r->failed;
	double seconds = (double)r->took_us / CLOCK_SECOND_US;

	if (done < loader->load.requests)
		(void)printf(
		    "stopped after %" PRId64 " of %" PRId64 "\n", done, loader->load.requests);
	(void)printf("%" PRId64 " requests in %.3f s, %.0f/s\n", done, seconds,
	    seconds > 0 ? (double)done / seconds : 0);
	(void)printf("succeeded %" PRId64 "  failed %" PRId64 "  counted %" PRId64 "\n",
	    r->succeeded, r->failed, loader->counted);
	if (r->succeeded == 0)
		return;
	(void)printf("latency p50 %.3f  p90 %.3f  p99 %.3f  max %.3f ms\n",
	    quantile_ms(&r->latency, 500), quantile_ms(&r->latency, 900),
	    quantile_ms(&r->latency, 990), (double)r->latency.max_us / 1000);
	print_histogram(&r->latency);
}

/* A request that was not answered may or may not have been counted; all others must be. */
static enum err
judge(const struct loader *loader)
{
	const struct load_result *r = &loader->result;

	if (loader->counted < r->succeeded || loader->counted > r->succeeded + r->failed)
		return fail(
		    ERR_CONFLICT, "the statistics counted %" PRId64 " requests", loader->counted);
	if (r->failed > 0)
		return fail(ERR_UPSTREAM, "%" PRId64 " requests failed", r->failed);
	return OK;
}

enum err
caredesk_load(const struct caredesk_options *options)
{
	const char *number = options->argument;
	struct loader loader = { .db = NULL };
	struct data data;
	enum err err;

	if (!text_uint(number, strlen(number), &loader.load.requests) ||
	    loader.load.requests > REQUESTS_MAX)
		return fail(ERR_INPUT, "%s: must be a whole number of 0..%d", number, REQUESTS_MAX);
	if ((err = data_open(&options->conf, DATA_READ, &data)) == OK &&
	    (err = user_become(data.conf->user)) == OK &&
	    (err = db_open(COUNTS_FILE, DB_READ, &counts_schema, &loader.db)) == OK) {
		load_open();
		loader.load.origin = data.conf->own_url;
		err = send_all(&loader);
	}
	db_close(loader.db);
	if (err == OK) {
		print_result(&loader);
		err = judge(&loader);
	}
	data_close(&data);
	return err;
}
