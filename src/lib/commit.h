/*
 * commit: the one writer of a database, whose commits are shared.
 *
 * A change is a function and its argument.  commit_run() gives them to the writer's thread, which
 * runs all that wait in one transaction, commits once, and only then lets them go on: what
 * commit_run() has answered OK is on disk.  While one commit is written, the next ones gather.
 *
 * A change that fails is undone alone and its neighbours are not disturbed: the transaction is
 * begun anew without it.  So a change may run more than once; it must depend on nothing but the
 * database and its argument, and set again whatever it has set there.  If the commit itself fails,
 * all of its changes return ERR_BUSY and nothing of them is left.
 *
 * A change that has not begun within COMMIT_WAIT_US (the writer is at a large import, or its disk
 * hangs) is withdrawn with ERR_BUSY; once begun, it is waited for.  So a change that takes long
 * runs alone: no other one begins with it.
 *
 * Any thread.
 */
#ifndef CAREDESK_COMMIT_H
#define CAREDESK_COMMIT_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/db.h"
#include "lib/err.h"

#define COMMIT_WAIT_US (5 * INT64_C(1000000))
#define COMMIT_CHANGES_MAX 512 /* of one transaction */

/* What a change returns goes to its commit_run(); anything but OK undoes it. */
typedef enum err (*commit_fn)(struct db *db, void *arg);

struct commit;

/* Opens FILE to write (db_open()) and starts the thread.  Where that says ERR_BUSY, it is tried
 * again until it succeeds, and changes are refused meanwhile; other errors are returned. */
enum err commit_open(
    const char *file, const struct db_schema *schema, struct commit **commit) MUST_CHECK;

/* Ends after what waits is done.  NULL is fine. */
void commit_close(struct commit *commit);

enum err commit_run(struct commit *commit, commit_fn fn, void *arg) MUST_CHECK;

/* For a change that takes long: in a transaction of its own. */
enum err commit_run_alone(struct commit *commit, commit_fn fn, void *arg) MUST_CHECK;

/* For what is no transaction, such as db_rewrite(): between two of them, with the writer's
 * connection.  What FN begins there it must end. */
enum err commit_run_outside(struct commit *commit, commit_fn fn, void *arg) MUST_CHECK;

/* OK if the last transaction was; else tries one that changes nothing, and says how that went. */
enum err commit_health(struct commit *commit) MUST_CHECK;

#endif
