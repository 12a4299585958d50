/*
 * db: a connection to a database, its statements and their rows.  The only door to SQL.
 *
 *	struct db_query q;
 *
 *	db_query(&q, db, &sql_events_event_get);
 *	db_bind_int(&q, id);
 *	if ((err = db_next(&q, &found)) == OK && found)
 *		amount = db_int(&q, 4);
 *	db_done(&q);
 *
 * A statement is a file of sql/, embedded by the build and prepared once a connection, at its first
 * use.  Parameters $1, $2, ... are bound in that order, all of them.  The first error is latched:
 * db_next() tells it.  db_done() ends every query, also one that failed; until then its rows hold a
 * snapshot, and no second query may use the same statement.
 *
 * The engine's words and names stay behind this header: errors are ERR_BUSY where trying again may
 * help (locked, no space, I/O, read-only) and ERR_INTERNAL else; what the engine said is in the
 * log.
 *
 * A connection belongs to one thread at a time.  One process, and in it one connection, writes a
 * database (see commit.h); all others read.
 */
#ifndef CAREDESK_DB_H
#define CAREDESK_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/embedded.h"
#include "lib/err.h"

#define DB_PARAMETERS_MAX 64

/* A statement: its name is its file's, folder included. */
struct db_sql {
	const char *name, *text;
};

enum db_mode {
	DB_READ, /* sees the last commit, or a snapshot; never changes the file */
	DB_WRITE, /* commits and checkpoints; makes the file if it is not there */
};

struct db;
struct db_statement;

/* What a database is made of. */
struct db_schema {
	const char *name; /* of the data set, such as "events" */
	uint32_t id; /* written into the file, to know it again */
	const struct embedded *migrations; /* in order, each one transaction; NULL name ends */
	bool sorts_in_files; /* what is too large for the cache, rather than in memory */
	/* What a migration does beyond its text, in its transaction, when it has become VERSION; or
	 * NULL. */
	enum err (*migrated)(struct db *db, int version);
};

/* Opens FILE, relative to the working directory.  To write: takes the right to be its one writer
 * until db_close(), ERR_BUSY if another process has it; applies the migrations that it lacks.
 * To read: ERR_BUSY while the file is not there or lacks migrations.  A file of another kind, or
 * one newer than SCHEMA, is ERR_INTERNAL. */
enum err db_open(
    const char *file, enum db_mode mode, const struct db_schema *schema, struct db **db) MUST_CHECK;

/* NULL is fine. */
void db_close(struct db *db);

/* Whether writing failed for good: this process has read the database while its files could not be
 * written, and the engine holds on to that, or a file that it has open was moved or removed.  It
 * goes away with the process. */
bool db_needs_new_process(void);

/* Whether there was a database FILE, and is none: it is not made anew then, until FILE.lock is
 * removed, too. */
bool db_is_lost(const char *file);

/* How many migrations FILE has and SCHEMA knows; *HAS is 0 where there is no file. */
enum err db_versions(
    const char *file, const struct db_schema *schema, int *has, int *knows) MUST_CHECK;

/* --- Transactions: of the writer db_begin() to db_commit() or db_rollback(); of a reader
 * db_begin() to db_rollback() is one snapshot. */

enum err db_begin(struct db *db) MUST_CHECK;

/* On disk when it returns OK; on an error nothing of the transaction is left. */
enum err db_commit(struct db *db) MUST_CHECK;

/* Also where no transaction is open. */
void db_rollback(struct db *db);

/* Whether a transaction is open: some failures (no space, I/O) end it by themselves. */
bool db_in_transaction(const struct db *db);

/* Within the writer's transaction: changes the file without changing what is in it. */
enum err db_touch(struct db *db) MUST_CHECK;

/* Within the writer's transaction, before changes all over the file: until it ends, more of the
 * file is held in memory. */
enum err db_expect_many(struct db *db) MUST_CHECK;

/* Rows that this connection has inserted, changed or deleted, ever. */
int64_t db_changes(const struct db *db);

/* Moves what was committed from the log into the database file, as far as readers allow; they are
 * waited for up to 50 ms, so that the log begins anew.  The writer's, outside a transaction, when
 * db_log_pages(), what came since the last one, has grown.  Errors are logged only: the commits are
 * safe where they are. */
void db_checkpoint(struct db *db);
int64_t db_log_pages(const struct db *db);

/* Writes the whole file anew, the writer's, outside a transaction.  What is deleted is overwritten,
 * but a row that a page gave to its neighbour before may have left its text in the gap: only this
 * makes sure that nothing deleted is in the file.  It takes as long, and as much room, as the file
 * is large; others read meanwhile. */
enum err db_rewrite(struct db *db) MUST_CHECK;

/* Moves all that was committed into the database file and leaves the log empty, so that it holds
 * nothing of what was deleted either.  ERR_BUSY, which is not logged, while others read an older
 * state. */
enum err db_empty_log(struct db *db) MUST_CHECK;

/* No query of this connection may take longer than until this instant (monotonic), or it ends with
 * ERR_BUSY; 0 is no bound. */
void db_deadline(struct db *db, int64_t until_us);

/* --- Queries. */

struct db_query {
	struct db *db;
	struct db_statement *statement; /* NULL if it could not be prepared */
	enum err err;
	int bound;
};

void db_query(struct db_query *q, struct db *db, const struct db_sql *sql);

/* The next parameter.  Text and bytes must stay until db_done(); numbers are copied, as a JSON
 * array for json_each(). */
void db_bind_int(struct db_query *q, int64_t value);
void db_bind_ints(struct db_query *q, const int64_t *values, size_t count);
void db_bind_text(struct db_query *q, const char *s, size_t n);
void db_bind_bytes(struct db_query *q, const void *bytes, size_t n);
void db_bind_null(struct db_query *q);

/* The next row.  ERR_CONFLICT where a constraint is broken. */
enum err db_next(struct db_query *q, bool *found) MUST_CHECK;

/* Column I of the row, from 0; lent until the next db_next() or db_done().  Of NULL: 0 and "". */
int64_t db_int(const struct db_query *q, int i);
const char *db_text(const struct db_query *q, int i, size_t *n);
bool db_is_null(const struct db_query *q, int i);

void db_done(struct db_query *q);

/* For a statement that gives no rows: runs it and db_done(). */
enum err db_run(struct db_query *q) MUST_CHECK;

/* --- Whole databases, for the operator's command. */

#define DB_AT_ONCE_MAX 8

/* Keeps the writers of all these FILES waiting at once, until db_release(), and writes nothing.
 * ERR_BUSY if they cannot be had until UNTIL_US (monotonic), or one cannot be written.  It opens
 * them to write: not for root, where they are another's. */
struct db_hold;
enum err db_hold_all(
    const char *const files[], size_t count, int64_t until_us, struct db_hold **hold) MUST_CHECK;

/* NULL is fine. */
void db_release(struct db_hold *hold);

/* Begins a reader's snapshot, of now; those of several, while their writers are held, are of one
 * instant. */
enum err db_snapshot(struct db *reader) MUST_CHECK;

/* Copies the database that SOURCE reads, as it is now or in the snapshot that was begun, into the
 * new file FILE; TOLD gets the share done, 0..1000. */
enum err db_backup(
    struct db *source, const char *file, void (*told)(void *ctx, int share), void *ctx) MUST_CHECK;

/* Whether the whole file is sound: ERR_INTERNAL, with words, where not. */
enum err db_verify(struct db *db) MUST_CHECK;

/* Runs statements that are no file of sql/: migrations, tests. */
enum err db_script(struct db *db, const char *text) MUST_CHECK;

/* How the engine would run SQL, a line a step; for the tests.  Yours to free. */
enum err db_plan(struct db *db, const struct db_sql *sql, char **plan) MUST_CHECK;

/* --- Readers, shared by the threads of a process. */

struct db_readers;

/* Opens some at once, if FILE can be read by now: the writer's commit_open() comes first. */
enum err db_readers_open(
    const char *file, const struct db_schema *schema, struct db_readers **readers) MUST_CHECK;
void db_readers_close(struct db_readers *readers);

/* A connection of one's own until it is given back; opened anew if none is free. */
enum err db_borrow(struct db_readers *readers, struct db **db) MUST_CHECK;

/* One whose queries end until UNTIL_US (monotonic): each sees a state of its own. */
enum err db_borrow_until(struct db_readers *readers, int64_t until_us, struct db **db) MUST_CHECK;

/* One with a snapshot begun, whose queries end until UNTIL_US (monotonic). */
enum err db_borrow_snapshot(
    struct db_readers *readers, int64_t until_us, struct db **db) MUST_CHECK;

/* Ends its snapshot, if it has one.  NULL is fine. */
void db_return(struct db_readers *readers, struct db *db);

#endif
