/*
 * report.h: the program report, by its parts: report.c asks and answers, report_rows.c finds the
 * rows, report_cache.c keeps short answers.
 *
 * A row is the sums of a month and caregiver.  The period is at most three segments: a first month
 * that it cuts, summed from the events; the whole months, whose sums are stored; a last month that
 * it cuts.  Rows come by month and caregiver.
 *
 * A list of caregivers is not put into SQL.  The rows wanted are known in their order, so the
 * reader leaps: it steps while they are near and seeks the next one wanted where they are not.  A
 * dense list costs a scan, a single caregiver one seek a month.
 *
 * Who does not see all has other statements, with the caregivers in them: SQL then finds nothing
 * but what is theirs, by a look for each of them in each month.
 *
 * One thread; the snapshot is that of the connection.
 */
#ifndef CAREDESK_REPORT_H
#define CAREDESK_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/db.h"
#include "lib/digest.h"
#include "lib/err.h"
#include "lib/ledger.h"
#include "lib/scope.h"

struct report_filter {
	int64_t min_time_us, max_time_us; /* exclusive; INT64_MIN, INT64_MAX: no bound */
	int64_t *caregiver_ids; /* ascending, each once */
	size_t caregiver_count; /* 0: all */
	const struct scope
	    *scope; /* what may be seen; where that is not all, the list narrows it */
};

#define REPORT_FILTER_NONE \
	((struct report_filter){ \
	    .min_time_us = INT64_MIN, .max_time_us = INT64_MAX, .scope = &scope_all })

struct rows_segment {
	const struct rows_kind *kind;
	int64_t first, last; /* months */
};

struct rows {
	struct db *db;
	const struct report_filter *filter;
	struct rows_segment segments[3];
	size_t segment, segment_count;
	int64_t month; /* no earlier row is wanted, nor one in it before the caregiver ... */
	size_t wanted; /* ... of this place in the filter's list */
	struct db_query query;
	bool reading; /* QUERY is open */
	unsigned misses; /* rows in a row that were not wanted */
	int64_t seeks, steps; /* what it cost */
};

/* FILTER must stay until rows_close(). */
void rows_open(struct rows *rows, struct db *db, const struct report_filter *filter);
enum err rows_next(struct rows *rows, struct ledger_sum *sum, bool *found) MUST_CHECK;
void rows_close(struct rows *rows);

/* Short reports are kept as they were sent, for as long as nothing in the ledger changes: a ledger
 * that is only read answers the same question without asking again.  Any thread. */
struct cache_key {
	unsigned char digest[DIGEST_BYTES]; /* of the whole question */
};

/* Copies the report kept for KEY at VERSION; 0 bytes if there is none. */
size_t cache_find(const char *version, const struct cache_key *key, char *body, size_t room);

/* All that was kept of other versions goes. */
void cache_keep(const char *version, const struct cache_key *key, const char *body, size_t n);
void cache_close(void);

#endif
