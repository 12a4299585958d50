/*
 * counts: how often each path was asked for, and how far the access log is taken in, changed
 * together: what is in the one is in the other, whatever dies in between.
 *
 * A file of the log is known by its first line, which has a time and a serial of nginx's own, so
 * that it may be renamed or copied.  The tables are explained in sql/stats/schema.
 */
#ifndef CAREDESK_COUNTS_H
#define CAREDESK_COUNTS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/commit.h"
#include "lib/db.h"
#include "lib/digest.h"
#include "lib/err.h"
#include "lib/tally.h"

#define COUNTS_FILE "db/stats.db"
#define COUNTS_LOG_FOLDER "log"
#define COUNTS_LOG "access.log"
#define COUNTS_LINE_MAX 1000 /* bytes kept of a damaged line */
#define COUNTS_DAMAGED_MAX 1000 /* such lines that are kept */
#define COUNTS_THIN_ROWS 10000 /* removed in one transaction */

extern const struct db_schema counts_schema;

struct counts_log {
	int64_t id; /* 0: not stored yet */
	unsigned char head[DIGEST_BYTES]; /* of the first line */
	int64_t position; /* what is behind it is not taken in */
	int64_t seen_at; /* when the position was stored, in microseconds since 1970 */
};

/* A line that is none of ours. */
struct counts_damaged {
	int64_t position;
	size_t n;
	char line[COUNTS_LINE_MAX];
};

/* A part of a log, from its position up to POSITION. */
struct counts_batch {
	struct counts_log *log;
	struct tally *tally; /* of its lines, but for the damaged ones */
	int64_t position, lines, damaged_count;
	const struct counts_damaged *damaged; /* the first DAMAGED_KEPT of them */
	size_t damaged_kept;
};

/* The head of the log that FD is, and when its first line was written (0 where that is none of
 * nginx's).  *IS_WHOLE is false as long as that line has no end, and nothing else is set. */
enum err counts_head(int fd, struct counts_log *log, int64_t *begun_s, bool *is_whole) MUST_CHECK;

/* Whether NAME is the log, or what it was renamed to, such as access.log.1; not what was
 * compressed.
 */
bool counts_is_log(const char *name);

/* The id and the position of the log that begins with its head; id 0 where it is new. */
enum err counts_find(struct db *db, struct counts_log *log) MUST_CHECK;

/* Counts the batch and moves the log's position, both or neither; what commit_run() returns.
 * ERR_PRECONDITION, and nothing is done, if the position is not the one that the batch begins at:
 * a copy of the log was read, too. */
enum err counts_store(struct commit *commit, struct counts_batch *batch) MUST_CHECK;

/* A known log has fewer bytes than were taken in: it goes on from POSITION. */
enum err counts_cut(struct commit *commit, struct counts_log *log, int64_t position) MUST_CHECK;

/* The first hour that is kept: nothing may be told of those before, of which some rows may be left.
 * 0 where none was ever removed. */
enum err counts_kept_from(struct db *db, int64_t *hour) MUST_CHECK;

/* Hours before BEFORE_HOUR are not kept any more, for good; removes some rows of such, which are
 * no longer told of.  *MORE is false once none are left.  What commit_run() returns. */
enum err counts_thin(struct commit *commit, int64_t before_hour, bool *more) MUST_CHECK;

/* What all must agree on. */
struct counts_totals {
	int64_t total, of_paths, of_lines; /* requests: by the state, the paths, the logs */
	int64_t paths, highest_id;
};

enum err counts_total(struct db *db, struct counts_totals *totals) MUST_CHECK;

#endif
