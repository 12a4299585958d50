/*
 * metrics: what a program counts and measures of itself, as Prometheus reads it (its text format
 * 0.0.4).
 *
 * One table has every family: its name, type, help, labels and bounds.  A series is a family with
 * the values of its labels, made when it is first heard of.  Series are never dropped, so a label
 * must never come from a client: values are words of the code and the configuration, and statuses.
 *
 * Durations are whole microseconds in here and become exact seconds where they are written.
 *
 * Any thread.  One lock, held for one lookup and one addition.  Without memory a sample is lost.
 */
#ifndef CAREDESK_METRICS_H
#define CAREDESK_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

enum metric {
	METRIC_REQUESTS, /* route, method, status */
	METRIC_REQUEST_US, /* route, method */
	METRIC_UPSTREAM_CALLS, /* upstream, outcome */
	METRIC_UPSTREAM_US, /* upstream */
	METRIC_COMMIT_CHANGES, /* database; as are the next two */
	METRIC_COMMIT_US,
	METRIC_COMMIT_FAILURES,
	METRIC_LOG_LINES,
	METRIC_LOG_LAG,
	METRIC_START, /* from here on asked for when they are written */
	METRIC_CPU,
	METRIC_MEMORY,
	METRIC_DESCRIPTORS,
	METRIC_THREADS,
	METRICS
};

/* The values of a family's labels, in the order of its table; those that it has not are left out.
 * They are copied. */
struct metrics_labels {
	const char *first, *second;
	int number;
};

/* Names the program in every sample.  Once, before threads; PROGRAM must stay. */
void metrics_open(const char *program);

/* A counter goes up by N; 0 shows it before anything has happened. */
void metrics_count(enum metric metric, struct metrics_labels labels, int64_t n);

/* One value of a histogram. */
void metrics_observe(enum metric metric, struct metrics_labels labels, int64_t value);

/* A gauge is VALUE now. */
void metrics_set(enum metric metric, struct metrics_labels labels, int64_t value);

typedef enum err (*metrics_sink)(void *ctx, const char *bytes, size_t n);

/* Everything, by family.  What the sink returns, if it is not OK. */
enum err metrics_write(metrics_sink sink, void *ctx) MUST_CHECK;

#endif
