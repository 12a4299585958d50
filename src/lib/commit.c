#include "lib/commit.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "lib/pool.h"

#define CHECKPOINT_PAGES 8192 /* of the log, before it is moved into the database */
#define OPEN_AGAIN_US (CLOCK_SECOND_US / 2)

/* A change that waits; it lives on the stack of its commit_run().  It has a lock of its own, so
 * that those who are let go on together do not wait for one another. */
struct change {
	commit_fn fn;
	void *arg;
	bool alone, outside; /* OUTSIDE: of any transaction, and so alone */
	enum err err;
	struct err_state said; /* set where ERR is not OK */
	bool queued; /* under the lock of commit, as NEXT while it is */
	struct change *next;
	pthread_mutex_t lock;
	pthread_cond_t let_go;
	bool done; /* under its own lock */
};

struct commit {
	const char *file;
	const struct db_schema *schema;
	struct db *db; /* the thread's own; NULL while it cannot be opened */
	pthread_t thread;
	pthread_mutex_t lock; /* of all that follows */
	pthread_cond_t some;
	bool closing;
	struct change *first, **last; /* a queue */
	enum err health;
	struct err_state health_said;
};

/* --- The writer's thread. */

static void
refuse(struct change *change, enum err err)
{
	change->err = err;
	err_save(&change->said);
}

/* Runs those of BATCH that have not failed, in one transaction.  *AGAIN: one failed after it had
 * changed something, so that all must be undone and the others run anew. */
static enum err
run_changes(struct db *db, struct change *batch, bool *again)
{
	enum err err = db_begin(db);

	*again = false;
	for (struct change *change = batch; change != NULL && err == OK && !*again;
	     change = change->next) {
		int64_t before = db_changes(db);
		enum err own;

		if (change->err != OK)
			continue;
		err_clear();
		if ((own = change->fn(db, change->arg)) != OK) {
			refuse(change, own);
			*again = db_changes(db) != before;
		}
		err_clear(); /* what it said is for nobody else */
		/* Without its transaction, what comes next would be committed piece by piece. */
		if (!db_in_transaction(db))
			err = fail(ERR_BUSY, "the storage cannot be used now");
	}
	return err;
}

/* A commit that failed may lie whole in the log, and would be found there after a crash: another
 * one takes its place. */
static void
write_over(struct db *db)
{
	if (db_begin(db) != OK || db_touch(db) != OK || db_commit(db) != OK)
		db_rollback(db);
}

static struct metrics_labels
database(const struct commit *commit)
{
	return (struct metrics_labels){ .first = commit->schema->name };
}

/* A transaction that is on disk, begun at START_US. */
static void
measure(const struct commit *commit, const struct change *batch, int64_t start_us)
{
	int64_t changes = 0;

	for (; batch != NULL; batch = batch->next)
		changes += batch->err == OK;
	metrics_observe(METRIC_COMMIT_CHANGES, database(commit), changes);
	metrics_observe(METRIC_COMMIT_US, database(commit), clock_monotonic_us() - start_us);
}

static void
run_outside(struct db *db, struct change *change)
{
	enum err err;

	err_clear();
	if ((err = change->fn(db, change->arg)) != OK)
		refuse(change, err);
	err_clear();
	assert(!db_in_transaction(db));
}

/* All of BATCH, committed or failed. */
static enum err
run_batch(const struct commit *commit, struct change *batch)
{
	struct db *db = commit->db;
	int64_t begin, start_us = clock_monotonic_us();
	bool again, changed;
	enum err err;

	if (batch->outside) {
		run_outside(db, batch);
		return OK;
	}
	do {
		begin = db_changes(db);
		err = run_changes(db, batch, &again);
		changed = err == OK && !again && db_changes(db) != begin;
		if (changed)
			err = db_commit(db);
		else
			db_rollback(db);
	} while (err == OK && again);
	if (err == OK && changed)
		measure(commit, batch, start_us);
	for (struct change *change = batch; err != OK && change != NULL; change = change->next)
		if (change->err == OK)
			refuse(change, err == ERR_INTERNAL ? err : ERR_BUSY);
	return err;
}

/* Takes up to COMMIT_CHANGES_MAX of the queue, or one that runs alone, with the lock held. */
static struct change *
take_batch(struct commit *commit)
{
	struct change *batch = commit->first, **last = &batch;
	bool alone = false;

	for (int count = 0; *last != NULL && count < COMMIT_CHANGES_MAX && !alone; count++) {
		if ((*last)->alone && count > 0)
			break;
		alone = (*last)->alone;
		(*last)->queued = false;
		(*last)->err = OK;
		last = &(*last)->next;
	}
	commit->first = *last;
	if (commit->first == NULL)
		commit->last = &commit->first;
	*last = NULL;
	return batch;
}

static void
settle_batch(struct commit *commit, struct change *batch, enum err err)
{
	struct change *next;

	(void)pthread_mutex_lock(&commit->lock);
	commit->health = err;
	if (err != OK)
		err_save(&commit->health_said);
	(void)pthread_mutex_unlock(&commit->lock);
	if (err != OK)
		metrics_count(METRIC_COMMIT_FAILURES, database(commit), 1);
	for (; batch != NULL; batch = next) {
		next = batch->next; /* once it is done, it may be gone */
		(void)pthread_mutex_lock(&batch->lock);
		batch->done = true;
		(void)pthread_cond_signal(&batch->let_go);
		(void)pthread_mutex_unlock(&batch->lock);
	}
}

/* Stops the program as its supervisor would, who starts it anew. */
static void
make_way(void)
{
	log_event(LOG_WARNING, "storage",
	    "this process cannot write the database any more: it makes way for another");
	(void)kill(getpid(), SIGTERM);
}

/* With the lock held, but not while it opens. */
static enum err
have_database(struct commit *commit)
{
	struct db *db = NULL;
	enum err err;

	if (commit->db != NULL)
		return OK;
	(void)pthread_mutex_unlock(&commit->lock);
	err = db_open(commit->file, DB_WRITE, commit->schema, &db);
	if (err != OK && db_needs_new_process())
		make_way();
	(void)pthread_mutex_lock(&commit->lock);
	commit->db = db;
	commit->health = err;
	if (err != OK)
		err_save(&commit->health_said);
	return err;
}

/* One batch; called and left with the lock held. */
static void
step(struct commit *commit)
{
	struct change *batch;
	enum err err = have_database(commit);

	if ((batch = take_batch(commit)) == NULL)
		return;
	(void)pthread_mutex_unlock(&commit->lock);
	if (err == OK)
		err = run_batch(commit, batch);
	else
		for (struct change *change = batch; change != NULL; change = change->next)
			refuse(change, err);
	settle_batch(commit, batch, err);
	if (err != OK && db_needs_new_process())
		make_way();
	else if (err != OK && commit->db != NULL)
		write_over(commit->db);
	if (commit->db != NULL && db_log_pages(commit->db) >= CHECKPOINT_PAGES)
		db_checkpoint(commit->db);
	(void)pthread_mutex_lock(&commit->lock);
}

static void *
write_for_all(void *ctx)
{
	struct commit *commit = ctx;

	(void)pthread_mutex_lock(&commit->lock);
	while (!commit->closing || commit->first != NULL) {
		if (commit->first == NULL && commit->db != NULL)
			(void)pthread_cond_wait(&commit->some, &commit->lock);
		else if (commit->first == NULL)
			(void)clock_wait(
			    &commit->some, &commit->lock, clock_monotonic_us() + OPEN_AGAIN_US);
		if (commit->first != NULL || (commit->db == NULL && !commit->closing))
			step(commit);
	}
	(void)pthread_mutex_unlock(&commit->lock);
	return NULL;
}

/* --- Everybody else. */

enum err
commit_open(const char *file, const struct db_schema *schema, struct commit **out)
{
	struct commit *commit = calloc(1, sizeof(*commit));
	enum err err;

	*out = NULL;
	if (commit == NULL)
		return fail(ERR_BUSY, "no memory for a writer");
	commit->file = file;
	commit->schema = schema;
	commit->last = &commit->first;
	(void)pthread_mutex_init(&commit->lock, NULL);
	clock_condition_open(&commit->some);
	metrics_count(METRIC_COMMIT_FAILURES, database(commit), 0);
	(void)pthread_mutex_lock(&commit->lock);
	err = have_database(commit);
	(void)pthread_mutex_unlock(&commit->lock);
	if (err == ERR_BUSY) {
		log_event(LOG_ERROR, "storage", "%s; it is tried again", err_words());
		err = OK;
	}
	if (err == OK && pthread_create(&commit->thread, NULL, write_for_all, commit) != 0)
		err = fail(ERR_INTERNAL, "the writer's thread cannot be started");
	if (err == OK) {
		*out = commit;
		return OK;
	}
	db_close(commit->db);
	free(commit);
	return err;
}

void
commit_close(struct commit *commit)
{
	if (commit == NULL)
		return;
	(void)pthread_mutex_lock(&commit->lock);
	commit->closing = true;
	(void)pthread_cond_signal(&commit->some);
	(void)pthread_mutex_unlock(&commit->lock);
	(void)pthread_join(commit->thread, NULL);
	db_close(commit->db);
	(void)pthread_cond_destroy(&commit->some);
	(void)pthread_mutex_destroy(&commit->lock);
	free(commit);
}

/* Out of the queue; false if it is not there any more. */
static bool
withdraw(struct commit *commit, struct change *change)
{
	struct change **at;
	bool queued;

	(void)pthread_mutex_lock(&commit->lock);
	if ((queued = change->queued)) {
		for (at = &commit->first; *at != change; at = &(*at)->next)
			;
		*at = change->next;
		if (*at == NULL)
			commit->last = at;
	}
	(void)pthread_mutex_unlock(&commit->lock);
	return queued;
}

/* False if it was withdrawn. */
static bool
await(struct commit *commit, struct change *change)
{
	int64_t until_us = clock_monotonic_us() + COMMIT_WAIT_US;
	bool withdrawn = false, in_time = true;

	(void)pthread_mutex_lock(&change->lock);
	while (!change->done && in_time)
		in_time = clock_wait(&change->let_go, &change->lock, until_us);
	(void)pthread_mutex_unlock(&change->lock);
	if (!in_time)
		withdrawn = withdraw(commit, change);
	(void)pthread_mutex_lock(&change->lock);
	while (!change->done && !withdrawn)
		(void)pthread_cond_wait(&change->let_go, &change->lock);
	(void)pthread_mutex_unlock(&change->lock);
	return !withdrawn;
}

static enum err
run_change(struct commit *commit, commit_fn fn, void *arg, bool alone, bool outside)
{
	struct change change; /* not all of it need be cleared */
	enum err err = ERR_BUSY;

	change.fn = fn;
	change.arg = arg;
	change.alone = alone;
	change.outside = outside;
	change.next = NULL;
	change.queued = true;
	change.done = false;
	(void)pthread_mutex_init(&change.lock, NULL);
	clock_condition_open(&change.let_go);
	pool_wait_begin();
	(void)pthread_mutex_lock(&commit->lock);
	*commit->last = &change;
	commit->last = &change.next;
	(void)pthread_cond_signal(&commit->some);
	(void)pthread_mutex_unlock(&commit->lock);
	if (!await(commit, &change))
		err = fail(ERR_BUSY, "the storage is busy; nothing was done");
	else if ((err = change.err) != OK)
		err_restore(&change.said);
	pool_wait_end();
	(void)pthread_cond_destroy(&change.let_go);
	(void)pthread_mutex_destroy(&change.lock);
	return err;
}

enum err
commit_run(struct commit *commit, commit_fn fn, void *arg)
{
	return run_change(commit, fn, arg, false, false);
}

enum err
commit_run_alone(struct commit *commit, commit_fn fn, void *arg)
{
	return run_change(commit, fn, arg, true, false);
}

enum err
commit_run_outside(struct commit *commit, commit_fn fn, void *arg)
{
	return run_change(commit, fn, arg, true, true);
}

static enum err
touch(struct db *db, void *arg)
{
	(void)arg;
	return db_touch(db);
}

enum err
commit_health(struct commit *commit)
{
	enum err err;

	(void)pthread_mutex_lock(&commit->lock);
	if ((err = commit->health) != OK)
		err_restore(&commit->health_said);
	(void)pthread_mutex_unlock(&commit->lock);
	return err == OK && !db_is_lost(commit->file) ? OK : commit_run(commit, touch, NULL);
}
