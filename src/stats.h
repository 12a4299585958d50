/*
 * stats.h: the program stats, by its parts: stats.c answers, stats_ingest.c takes in the access
 * log, stats_store.c keeps what was taken in.
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

#define STATS_LOG_FOLDER "log"
#define STATS_LOG "access.log"

enum err ingest_open(struct commit *commit, struct db_readers *readers) MUST_CHECK;
void ingest_close(void);

/* Takes in all that the log holds now.  ERR_BUSY if that cannot be stored, or takes too long. */
enum err ingest_now(int64_t until_us) MUST_CHECK;

/* Bytes of the log that are not taken in. */
int64_t ingest_lag(void);

#endif
