#include <pthread.h>

#include "data_set.h"
#include "lib/commit.h"

#define THREADS 16
#define EACH 100

static struct commit *writer;
static pthread_barrier_t gate;

static void
begin(void)
{
	folder_begin();
	ck_assert_int_eq(commit_open(LEDGER_FILE, &ledger_schema, &writer), OK);
}

/* What is on disk, by a connection of its own. */
static int64_t
count_after(const char *text)
{
	int64_t n;

	commit_close(writer);
	data_open();
	n = data_ask(text);
	data_end();
	return n;
}

static enum err
note(struct db *own, void *arg)
{
	return ledger_audit(own, &actor, "noted", *(const int *)arg, NULL);
}

static enum err
note_and_fail(struct db *own, void *arg)
{
	enum err err = ledger_audit(own, &actor, "failed", *(const int *)arg, NULL);

	if (err != OK)
		return err;
	(void)fail_field("#/a", "is bad");
	return fail(ERR_CONFLICT, "number %d", *(const int *)arg);
}

static void *
note_many(void *arg)
{
	int number = *(const int *)arg;

	(void)pthread_barrier_wait(&gate);
	for (int i = 0; i < EACH; i++) {
		int subject = number * EACH + i;

		ck_assert_int_eq(commit_run(writer, note, &subject), OK);
	}
	return NULL;
}

/* Every third change fails after it has written. */
static void *
note_some(void *arg)
{
	int number = *(const int *)arg;
	char words[32];

	(void)pthread_barrier_wait(&gate);
	for (int i = 0; i < EACH; i++) {
		int subject = number * EACH + i;
		size_t fields;

		err_clear();
		if (i % 3 != 0) {
			ck_assert_int_eq(commit_run(writer, note, &subject), OK);
			continue;
		}
		ck_assert_int_eq(commit_run(writer, note_and_fail, &subject), ERR_CONFLICT);
		(void)snprintf(words, sizeof(words), "number %d", subject);
		ck_assert_str_eq(err_words(), words);
		(void)err_fields(&fields);
		ck_assert_uint_eq(fields, 1);
	}
	return NULL;
}

static void
run_threads(void *(*run)(void *))
{
	pthread_t threads[THREADS];
	int numbers[THREADS];

	(void)pthread_barrier_init(&gate, NULL, THREADS);
	for (int i = 0; i < THREADS; i++) {
		numbers[i] = i;
		ck_assert_int_eq(pthread_create(&threads[i], NULL, run, &numbers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
}

START_TEST(changes_share_commits_and_are_all_there)
{
	struct commit_counts counts;

	begin();
	run_threads(note_many);
	commit_count(writer, &counts);
	ck_assert_int_eq(counts.changes, THREADS * EACH);
	ck_assert_int_eq(counts.failures, 0);
	ck_assert_int_lt(counts.transactions, counts.changes);
	ck_assert_int_eq(count_after("SELECT count(DISTINCT subject) FROM audit"), THREADS * EACH);
}
END_TEST

START_TEST(a_change_that_fails_is_undone_alone)
{
	begin();
	run_threads(note_some);
	ck_assert_int_eq(count_after("SELECT count(*) + 1000000 * sum(what = 'failed') FROM audit"),
	    THREADS * (EACH - (EACH + 2) / 3));
}
END_TEST

/* A deferred foreign key: only the commit finds out. */
static enum err
orphan(struct db *own, void *arg)
{
	(void)arg;
	return db_script(own,
	    "PRAGMA defer_foreign_keys = ON; INSERT INTO prices "
	    "(type_id, valid_from, amount_in_cents, created_at) VALUES (99, 0, 1, 1)");
}

START_TEST(a_failed_commit_fails_its_changes_and_leaves_nothing)
{
	int subject = 7;

	begin();
	ck_assert_int_eq(commit_run(writer, orphan, NULL), ERR_BUSY);
	ck_assert_int_eq(commit_health(writer), OK); /* it can be written again */
	ck_assert_int_eq(commit_run(writer, note, &subject), OK);
	ck_assert_int_eq(count_after("SELECT 10 * count(*) FROM audit"), 10);
}
END_TEST

START_TEST(opening_is_tried_again)
{
	int subject = 1;
	struct db *other;

	folder_begin();
	ck_assert_int_eq(db_open(LEDGER_FILE, DB_WRITE, &ledger_schema, &other), OK);
	ck_assert_int_eq(commit_open(LEDGER_FILE, &ledger_schema, &writer), OK);
	ck_assert_int_eq(commit_run(writer, note, &subject), ERR_BUSY);
	db_close(other);
	while (commit_run(writer, note, &subject) != OK)
		(void)usleep(10000);
	ck_assert_int_eq(count_after("SELECT count(*) FROM audit"), 1);
}
END_TEST

CHECK_MAIN(commit,
    { changes_share_commits_and_are_all_there, a_change_that_fails_is_undone_alone,
	a_failed_commit_fails_its_changes_and_leaves_nothing, opening_is_tried_again })
