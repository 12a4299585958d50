/*
 * stats.h: the program stats, by its parts: stats.c answers what was counted, stats_ingest.c takes
 * in the access log, stats_thin.c removes old hours, stats_run.c makes load runs.
 */
#ifndef CAREDESK_STATS_H
#define CAREDESK_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/commit.h"
#include "lib/counts.h"
#include "lib/db.h"
#include "lib/err.h"
#include "lib/request.h"
#include "lib/response.h"

/* What the whole program shares. */
struct stats {
	struct commit *commit;
	struct db_readers *readers;
	const char *origin; /* of the front door */
	int64_t run_requests_max;
	int64_t settle_us; /* after an answer, before its line is in the log */
};

extern struct stats stats;

/* Takes in every request that was answered before this call.  As ingest_now(). */
enum err stats_take_in(int64_t until_us) MUST_CHECK;

enum err ingest_open(struct commit *commit, struct db_readers *readers) MUST_CHECK;
void ingest_close(void);

/* Takes in all that the log holds now.  ERR_BUSY if that cannot be stored, or takes too long. */
enum err ingest_now(int64_t until_us) MUST_CHECK;

/* Before ingest_open(), whose thread then calls thin_some(): at most once an hour that does
 * something; true if more is to be done soon. */
void thin_open(struct commit *commit, int64_t keep_days);
bool thin_some(void);

/* How the last pass through the log went. */
enum err ingest_health(void) MUST_CHECK;

/* Bytes of the log that are not taken in. */
int64_t ingest_lag(void);

enum err run_create(struct request *req, struct response *res) MUST_CHECK;
enum err run_get(struct request *req, struct response *res) MUST_CHECK;
enum err run_stop(struct request *req, struct response *res) MUST_CHECK;
enum err runs_list(struct request *req, struct response *res) MUST_CHECK;

enum err runs_open(void) MUST_CHECK;

/* Runs under way end without their counts; runs_close() waits for that. */
void runs_stop(void);
void runs_close(void);

#endif
