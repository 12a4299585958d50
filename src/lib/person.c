#include "lib/person.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "lib/account.h"
#include "lib/audit.h"
#include "lib/clock.h"
#include "lib/pool.h"
#include "sql.h"

#define PAUSE_MS 50 /* between two tries */

/* --- What there is. */

/* An erasure that was begun: what is left of the person is not in the rows. */
static enum err
find_unfinished(struct db *db, int64_t id, int64_t *created_at_us)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_accounts_erasure_unfinished);
	db_bind_int(&q, id);
	if ((err = db_next(&q, &found)) == OK && found)
		*created_at_us = db_int(&q, 0);
	else if (err == OK)
		err = fail(ERR_NOT_FOUND, "nothing was begun");
	db_done(&q);
	return err;
}

static void
take_answer(const struct db_query *q, struct person_answer *answer)
{
	const char *time;
	size_t n;

	answer->created_at_us = db_int(q, 1);
	answer->status = (int)db_int(q, 2);
	answer->location = db_text(q, 3, &n);
	answer->etag = db_text(q, 4, &n);
	answer->body = db_text(q, 5, &answer->n);
	time = db_text(q, 6, &n);
	if (n == 0 || clock_parse(time, n, &answer->account_created_at_us) != OK)
		answer->account_created_at_us = 0;
}

enum err
person_answers(struct db *db, int64_t id,
    enum err (*each)(void *ctx, const struct person_answer *answer), void *ctx)
{
	struct person_answer answer;
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_accounts_answers_of_account);
	db_bind_int(&q, id);
	while ((err = db_next(&q, &found)) == OK && found) {
		take_answer(&q, &answer);
		if ((err = each(ctx, &answer)) != OK)
			break;
	}
	db_done(&q);
	return err;
}

struct shown {
	int64_t answers, created_at_us;
};

static enum err
note_answer(void *ctx, const struct person_answer *answer)
{
	struct shown *shown = ctx;

	shown->answers++;
	if (shown->created_at_us == 0)
		shown->created_at_us = answer->account_created_at_us;
	return OK;
}

/* One that was deleted, but is shown by answers that are kept. */
static enum err
find_shown(struct db *db, int64_t id, int64_t *created_at_us)
{
	struct shown shown = { 0 };
	enum err err = person_answers(db, id, note_answer, &shown);

	*created_at_us = shown.created_at_us;
	if (err == OK && shown.answers == 0)
		return fail(ERR_NOT_FOUND, "there is no account %lld", (long long)id);
	return err;
}

enum err
person_find(struct db *db, int64_t id, int64_t *created_at_us)
{
	struct account account;
	enum err err = account_find(db, id, &account);

	if (err == OK)
		*created_at_us = account.created_at_us;
	if (err == ERR_NOT_FOUND)
		err = find_unfinished(db, id, created_at_us);
	return err == ERR_NOT_FOUND ? find_shown(db, id, created_at_us) : err;
}

/* --- The audit. */

static enum err
record_export(struct db *db, void *arg)
{
	const struct audit_actor by = { WHO_OPERATOR, clock_now_us() };
	int64_t id = *(const int64_t *)arg, created_at_us;
	enum err err = person_find(db, id, &created_at_us);

	return err == OK ? audit_add(db, &by, AUDIT_ACCOUNT_EXPORTED, id, NULL) : err;
}

enum err
person_exported(struct commit *commit, int64_t id)
{
	return commit_run(commit, record_export, &id);
}

/* --- The rows. */

static enum err
erase_answers(struct db *db, int64_t id, int64_t *count)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_accounts_answers_erase);
	db_bind_int(&q, id);
	while ((err = db_next(&q, &found)) == OK && found)
		++*count;
	db_done(&q);
	return err;
}

/* FINISHED_AT_US is 0 where something may be left. */
static enum err
remember(
    struct db *db, int64_t id, int64_t created_at_us, int64_t erased_at_us, int64_t finished_at_us)
{
	struct db_query q;

	db_query(&q, db, &sql_accounts_erasure_add);
	db_bind_int(&q, id);
	db_bind_int(&q, created_at_us);
	db_bind_int(&q, erased_at_us);
	if (finished_at_us != 0)
		db_bind_int(&q, finished_at_us);
	else
		db_bind_null(&q);
	return db_run(&q);
}

/* As an actor: by each mail address that is stored of the person. */
static enum err
erase_actor(struct db *db, const struct audit_actor *by, int64_t id)
{
	struct db_query q;
	const char *email;
	size_t n;
	bool found;
	enum err err;

	db_query(&q, db, &sql_accounts_emails_of_account);
	db_bind_int(&q, id);
	while ((err = db_next(&q, &found)) == OK && found) {
		email = db_text(&q, 0, &n);
		if ((err = audit_forget(db, by, email, n)) != OK)
			break;
	}
	db_done(&q);
	return err;
}

/* What is beside the account itself; before it, which has the mail address. */
static enum err
erase_beside(struct db *db, int64_t id, struct person_erased *erased)
{
	const struct audit_actor by = { WHO_OPERATOR, clock_now_us() };
	enum err err = erase_actor(db, &by, id);

	if (err == OK)
		err = erase_answers(db, id, &erased->answers);
	if (err == OK && (erased->accounts > 0 || erased->answers > 0))
		err = audit_add(db, &by, AUDIT_ACCOUNT_ERASED, id, NULL);
	return err;
}

static enum err
erase_account(struct db *db, const struct account *account, struct person_erased *erased)
{
	enum err err;

	*erased = (struct person_erased){ .accounts = 1, .images = account->image_key[0] != '\0' };
	err = erase_beside(db, account->id, erased);
	return err != OK ? err : account_delete(db, account->id);
}

struct erasing {
	struct commit *commit;
	int64_t id;
	struct blob *blobs;
	struct person_erased *erased;
};

static enum err
erase_rows(struct db *db, void *arg)
{
	const struct erasing *e = arg;
	struct account account;
	int64_t created_at_us;
	enum err err = person_find(db, e->id, &created_at_us);

	*e->erased = (struct person_erased){ 0 };
	if (err != OK)
		return err;
	if ((err = account_find(db, e->id, &account)) == OK)
		err = erase_account(db, &account, e->erased);
	else if (err == ERR_NOT_FOUND)
		err = erase_beside(db, e->id, e->erased);
	/* This also sees to it that no commit that failed before comes back now. */
	return err == OK ? remember(db, e->id, created_at_us, clock_now_us(), 0) : err;
}

enum err
person_erase_again(struct db *from, struct db *to, int64_t *count)
{
	struct person_erased erased;
	struct account account;
	struct db_query q;
	bool found;
	enum err err;

	*count = 0;
	db_query(&q, from, &sql_accounts_erasures_list);
	while ((err = db_next(&q, &found)) == OK && found) {
		err = account_find(to, db_int(&q, 0), &account);
		/* Another one may have got its id since the backup was made. */
		if (err == OK && account.created_at_us == db_int(&q, 1)) {
			err = erase_account(to, &account, &erased);
			++*count;
		}
		if (err == OK || err == ERR_NOT_FOUND)
			err = remember(
			    to, db_int(&q, 0), db_int(&q, 1), db_int(&q, 2), db_int(&q, 3));
		if (err != OK)
			break;
	}
	db_done(&q);
	return err;
}

/* --- The files. */

/* Also those that a crash, or a commit that failed, has left of the person.  Not in the writer's
 * thread, for which they wait who put an image. */
static enum err
sweep(struct erasing *e)
{
	int64_t removed;
	struct db *db;
	enum err err = db_open(ACCOUNT_FILE, DB_READ, &account_schema, &db);

	if (err == OK)
		err = account_sweep(db, e->blobs, &removed);
	db_close(db);
	return err;
}

static enum err
rewrite(struct db *db, void *arg)
{
	(void)arg;
	return db_rewrite(db);
}

static enum err
empty_log(struct db *db, void *arg)
{
	(void)arg;
	return db_empty_log(db);
}

static enum err
finish(struct db *db, void *arg)
{
	struct db_query q;

	(void)arg;
	db_query(&q, db, &sql_accounts_erasures_finish);
	db_bind_int(&q, clock_now_us());
	return db_run(&q);
}

static enum err
clear_log(struct erasing *e)
{
	return commit_run_outside(e->commit, empty_log, NULL);
}

/* Others may read or back up what is to be changed: for a while that is waited for, and meanwhile
 * the writer is free for others. */
static enum err
insist(enum err (*step)(struct erasing *e), struct erasing *e)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000 * 1000 };
	const int64_t until_us = clock_monotonic_us() + PERSON_PATIENCE_US;
	enum err err;

	while ((err = step(e)) == ERR_BUSY && clock_monotonic_us() < until_us) {
		pool_wait_begin();
		(void)nanosleep(&pause, NULL);
		pool_wait_end();
	}
	return err;
}

static enum err
incomplete(int64_t id, const char *left)
{
	char cause[ERR_WORDS_MAX];

	(void)snprintf(cause, sizeof(cause), "%s", err_words());
	return fail(ERR_BUSY, "person %lld is erased, but %s (%.200s): run it again", (long long)id,
	    left, cause);
}

static enum err
erase(struct erasing *e)
{
	enum err err = commit_run_alone(e->commit, erase_rows, e);

	if (err != OK)
		return err;
	if (insist(sweep, e) != OK)
		return incomplete(e->id, "images may still hold it");
	if (commit_run_outside(e->commit, rewrite, NULL) != OK || insist(clear_log, e) != OK ||
	    commit_run(e->commit, finish, NULL) != OK)
		return incomplete(e->id, "the database or its log may still hold parts of it");
	return OK;
}

/* One after another: who comes to its end has looked for all that were begun before. */
enum err
person_erase(struct commit *commit, struct blob *blobs, int64_t id, struct person_erased *erased)
{
	static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
	struct erasing e = { commit, id, blobs, erased };
	enum err err;

	pool_wait_begin();
	(void)pthread_mutex_lock(&one);
	pool_wait_end();
	err = erase(&e);
	(void)pthread_mutex_unlock(&one);
	return err;
}
