#include "test.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>

#include "data_set.h"
#include "lib/commit.h"
#include "metered.h"
#include "power_vfs.h"

#define THREADS 16
#define EACH 500
#define SYNC_US 300
#define GIVE_UP_US (30 * CLOCK_SECOND_US)

static const struct embedded migrations[] = {
	{ "0001",
	    "CREATE TABLE notes (who INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (who, n))"
	    " STRICT, WITHOUT ROWID;"
	    "CREATE TABLE orphans (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL"
	    " REFERENCES orphans (id) DEFERRABLE INITIALLY DEFERRED) STRICT;" },
	{ 0 },
};
static const struct db_schema schema = { "notes", 5, migrations };
static const struct db_schema foreign = { "others", 6, migrations };

static struct commit *commit;

/* The change at the gate holds up the writer's thread; who comes meanwhile is in one batch. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool reached, open;
} gate = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void
begin_closed(void)
{
	folder_begin();
	power_install();
	gate.reached = gate.open = false;
}

#define OF_NOTES "{program=\"\",database=\"notes\"}"
#define BUCKET "caredesk_commit_changes_bucket{program=\"\",database=\"notes\",le="

static struct measured {
	int64_t transactions, timed, changes, small, large, failures;
} begun; /* what there was before */

static struct measured
measured_now(void)
{
	return (struct measured){ metered_now("caredesk_commit_changes_count" OF_NOTES),
		metered_now("caredesk_commit_duration_seconds_count" OF_NOTES),
		metered_now("caredesk_commit_changes_sum" OF_NOTES), metered_now(BUCKET "\"2\"}"),
		metered_now(BUCKET "\"4\"}"),
		metered_now("caredesk_commit_failures_total" OF_NOTES) };
}

static void
begin(void)
{
	begin_closed();
	begun = measured_now();
	ck_assert_int_eq(commit_open(LEDGER_FILE, &schema, &commit), OK);
}

/* Closed, and looked at by a connection of its own. */
static void
look(void)
{
	commit_close(commit);
	commit = NULL;
	ck_assert_int_eq(db_open(LEDGER_FILE, DB_WRITE, &schema, &db), OK);
	ck_assert_int_eq(db_verify(db), OK);
}

static void
end(void)
{
	data_end();
	db = NULL;
}

static void
pause_ms(long ms)
{
	const struct timespec pause = { 0, ms * 1000000 };

	(void)nanosleep(&pause, NULL);
}

/* --- Changes. */

/* A note, and what then happens; who makes it. */
struct caller {
	int64_t who, n;
	enum err returns; /* after it has written, where not OK */
	bool writes, says, orphan, alone;
	atomic_int runs;
	pthread_t thread;
	atomic_int tid; /* once it is about to ask */
	enum err err; /* what it was answered */
	struct err_state said;
};

static enum err
note(struct db *writer, void *arg)
{
	static const struct db_sql insert = { "of a test", "INSERT INTO notes VALUES ($1, $2)" };
	struct caller *caller = arg;
	struct db_query q;
	enum err err = OK;

	caller->runs++;
	if (caller->writes) {
		db_query(&q, writer, &insert);
		db_bind_int(&q, caller->who);
		db_bind_int(&q, caller->n);
		err = db_run(&q);
	}
	if (err == OK && caller->orphan)
		err = db_script(writer, "INSERT INTO orphans (parent) VALUES (99)");
	if (caller->says)
		(void)fail_field("#/who", "%lld is bad", (long long)caller->who);
	if (err != OK || caller->returns == OK)
		return err;
	return fail(caller->returns, "words of %lld", (long long)caller->who);
}

static enum err
stand_at_the_gate(struct db *writer, void *arg)
{
	(void)writer;
	(void)arg;
	(void)pthread_mutex_lock(&gate.lock);
	gate.reached = true;
	(void)pthread_cond_broadcast(&gate.changed);
	while (!gate.open)
		(void)pthread_cond_wait(&gate.changed, &gate.lock);
	(void)pthread_mutex_unlock(&gate.lock);
	return OK;
}

static void *
hold(void *arg)
{
	ck_assert_int_eq(commit_run(commit, stand_at_the_gate, NULL), OK);
	return arg;
}

/* Returns once the writer's thread is held up. */
static pthread_t
close_the_gate(void)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, hold, NULL), 0);
	(void)pthread_mutex_lock(&gate.lock);
	while (!gate.reached)
		(void)pthread_cond_wait(&gate.changed, &gate.lock);
	(void)pthread_mutex_unlock(&gate.lock);
	return thread;
}

static void
open_the_gate(pthread_t thread)
{
	(void)pthread_mutex_lock(&gate.lock);
	gate.open = true;
	(void)pthread_cond_broadcast(&gate.changed);
	(void)pthread_mutex_unlock(&gate.lock);
	(void)pthread_join(thread, NULL);
	gate.reached = gate.open = false;
}

static void *
call(void *arg)
{
	struct caller *caller = arg;

	err_clear();
	caller->tid = (int)syscall(SYS_gettid);
	caller->err = caller->alone ? commit_run_alone(commit, note, caller)
				    : commit_run(commit, note, caller);
	err_save(&caller->said);
	return NULL;
}

/* Whether the thread sleeps, as one does that waits to be let go on. */
static bool
sleeps(int tid)
{
	char path[64], line[256] = "";
	const char *state;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return false;
	if (read(fd, line, sizeof(line) - 1) < 0)
		line[0] = '\0';
	(void)close(fd);
	state = strrchr(line, ')');
	return state != NULL && state[1] == ' ' && state[2] == 'S';
}

/* Starts them, and returns once all wait, in this order. */
static void
call_all(struct caller *callers, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int seen = 0;

		ck_assert_int_eq(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
		while (seen < 3) {
			seen = callers[i].tid != 0 && sleeps(callers[i].tid) ? seen + 1 : 0;
			pause_ms(1);
		}
	}
}

static void
join_all(const struct caller *callers, size_t count)
{
	for (size_t i = 0; i < count; i++)
		ck_assert_int_eq(pthread_join(callers[i].thread, NULL), 0);
}

/* As one batch; the transactions that it took. */
static int64_t
run_together(struct caller *callers, size_t count)
{
	pthread_t holder = close_the_gate();
	int64_t before;

	before = measured_now().transactions;
	call_all(callers, count);
	open_the_gate(holder);
	join_all(callers, count);
	return measured_now().transactions - before; /* that of the gate changes nothing */
}

static enum err
note_once(int64_t who)
{
	struct caller caller = { .who = who, .writes = true };

	return commit_run(commit, note, &caller);
}

/* --- Sharing. */

static void *
note_many(void *arg)
{
	struct caller *caller = arg;

	for (; caller->n < EACH; caller->n++)
		if (commit_run(commit, note, caller) != OK)
			break;
	return NULL;
}

START_TEST(changes_share_commits_and_are_all_there)
{
	static struct caller callers[THREADS];
	struct measured now;

	begin();
	power_sync_takes(SYNC_US);
	for (int i = 0; i < THREADS; i++) {
		callers[i].who = i;
		callers[i].writes = true;
		ck_assert_int_eq(
		    pthread_create(&callers[i].thread, NULL, note_many, &callers[i]), 0);
	}
	join_all(callers, THREADS);
	now = measured_now();
	ck_assert_int_eq(now.changes - begun.changes, THREADS * EACH);
	ck_assert_int_eq(now.failures, begun.failures);
	ck_assert_int_lt(now.transactions - begun.transactions, THREADS * EACH / 2);
	look();
	ck_assert_int_eq(data_ask("SELECT count(*) FROM notes"), THREADS * EACH);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM (SELECT 1 FROM notes GROUP BY who"
				  " HAVING min(n) = 0 AND max(n) = 499)"),
	    THREADS);
	end();
}
END_TEST

START_TEST(those_that_wait_are_one_transaction)
{
	static struct caller callers[THREADS];

	begin();
	for (int i = 0; i < THREADS; i++) {
		callers[i].who = i;
		callers[i].writes = true;
	}
	ck_assert_int_eq(run_together(callers, THREADS), 1);
	for (int i = 0; i < THREADS; i++) {
		ck_assert_int_eq(callers[i].err, OK);
		ck_assert_int_eq(callers[i].runs, 1);
	}
	look();
	ck_assert_int_eq(data_ask("SELECT count(*) FROM notes"), THREADS);
	end();
}
END_TEST

START_TEST(what_a_transaction_has_committed_is_measured)
{
	static struct caller callers[] = { { .who = 1, .writes = true },
		{ .who = 2, .writes = true }, { .who = 3, .writes = true },
		{ .who = 4, .returns = ERR_CONFLICT }, /* before it has changed anything */
		{ .who = 5, .writes = true, .returns = ERR_CONFLICT } }; /* after */
	struct caller reads = { .who = 6 }, orphan = { .who = 7, .writes = true, .orphan = true };
	struct measured before, now;

	begin();
	(void)metered_read();
	ck_assert_ptr_nonnull(metered_find("caredesk_commit_failures_total" OF_NOTES));
	before = measured_now();
	(void)run_together(callers, COUNT(callers));
	now = measured_now();
	ck_assert_int_eq(now.transactions - before.transactions, 1);
	ck_assert_int_eq(now.timed - before.timed, 1);
	ck_assert_int_eq(now.changes - before.changes, 3);
	ck_assert_int_eq(now.small - before.small, 0);
	ck_assert_int_eq(now.large - before.large, 1);
	ck_assert_int_eq(note_once(8), OK);
	ck_assert_int_eq(measured_now().small - before.small, 1);
	/* Neither what changes nothing nor what cannot be committed. */
	before = measured_now();
	ck_assert_int_eq(commit_run(commit, note, &reads), OK);
	ck_assert_int_eq(measured_now().transactions, before.transactions);
	ck_assert_int_eq(measured_now().failures, before.failures);
	ck_assert_int_eq(commit_run(commit, note, &orphan), ERR_BUSY);
	ck_assert_int_eq(measured_now().transactions, before.transactions);
	ck_assert_int_eq(measured_now().failures, before.failures + 1);
	end();
}
END_TEST

START_TEST(a_change_that_takes_long_shares_its_transaction_with_nobody)
{
	static struct caller callers[] = { { .who = 1, .writes = true },
		{ .who = 2, .writes = true }, { .who = 3, .writes = true, .alone = true },
		{ .who = 4, .writes = true, .alone = true }, { .who = 5, .writes = true } };

	begin();
	/* 1 and 2, then 3, then 4, then 5 */
	ck_assert_int_eq(run_together(callers, COUNT(callers)), 4);
	look();
	ck_assert_str_eq(data_rows("SELECT CAST(who AS TEXT) FROM notes"), "1\n2\n3\n4\n5\n");
	end();
}
END_TEST

START_TEST(what_was_answered_is_there_although_the_process_dies)
{
	int64_t done = 0, n;
	int pipes[2];
	pid_t child;

	begin_closed();
	ck_assert_int_eq(pipe(pipes), 0);
	if ((child = fork()) == 0) {
		if (commit_open(LEDGER_FILE, &schema, &commit) != OK)
			_exit(1);
		for (n = 1; note_once(n) == OK; n++)
			(void)!write(pipes[1], &n, sizeof(n));
		_exit(1);
	}
	for (int i = 0; i < 200; i++)
		ck_assert_int_eq(read(pipes[0], &done, sizeof(done)), sizeof(done));
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(waitpid(child, NULL, 0), child);
	(void)close(pipes[1]);
	while (read(pipes[0], &n, sizeof(n)) == sizeof(n))
		done = n;
	look();
	n = data_ask("SELECT count(*) FROM notes");
	ck_assert(n == done || n == done + 1); /* the last one perhaps unsaid */
	ck_assert_int_eq(data_ask("SELECT max(who) FROM notes"), n);
	end();
}
END_TEST

/* --- Failing. */

START_TEST(a_change_that_fails_is_undone_alone)
{
	static struct caller callers[] = {
		{ .who = 1, .writes = true },
		{ .who = 2, .writes = true, .returns = ERR_CONFLICT },
		{ .who = 3, .writes = true },
		{ .who = 4, .returns = ERR_NOT_FOUND }, /* without having written */
		{ .who = 1, .writes = true }, /* breaks a rule */
		{ .who = 6, .writes = true },
		{ .who = 7, .writes = true, .returns = ERR_PRECONDITION },
		{ .who = 8, .writes = true },
	};
	static const enum err expected[] = { OK, ERR_CONFLICT, OK, ERR_NOT_FOUND, ERR_CONFLICT, OK,
		ERR_PRECONDITION, OK };

	begin();
	ck_assert_int_eq(run_together(callers, COUNT(callers)), 1);
	for (size_t i = 0; i < COUNT(callers); i++)
		ck_assert_int_eq(callers[i].err, expected[i]);
	ck_assert_int_gt(callers[0].runs, 1); /* again, without those that failed */
	ck_assert_int_eq(callers[1].runs, 1);
	ck_assert_int_eq(measured_now().failures, begun.failures);
	ck_assert_int_eq(commit_health(commit), OK);
	look();
	ck_assert_str_eq(
	    data_rows("SELECT CAST(who AS TEXT) FROM notes ORDER BY who"), "1\n3\n6\n8\n");
	end();
}
END_TEST

START_TEST(words_and_bad_fields_reach_who_asked_and_nobody_else)
{
	static struct caller callers[] = {
		{ .who = 1, .writes = true },
		{ .who = 2, .writes = true, .says = true, .returns = ERR_INPUT },
		{ .who = 3, .says = true, .returns = ERR_INPUT },
		{ .who = 4, .returns = ERR_CONFLICT },
	};

	begin();
	(void)run_together(callers, COUNT(callers));
	ck_assert_str_eq(callers[0].said.words, "");
	ck_assert_str_eq(callers[1].said.words, "words of 2");
	ck_assert_str_eq(callers[2].said.words, "words of 3");
	ck_assert_str_eq(callers[3].said.words, "words of 4");
	for (size_t i = 0; i < COUNT(callers); i++)
		ck_assert_uint_eq(callers[i].said.field_count, callers[i].says ? 1 : 0);
	ck_assert_str_eq(callers[1].said.fields[0].detail, "2 is bad");
	ck_assert_str_eq(callers[2].said.fields[0].detail, "3 is bad");
	look();
	end();
}
END_TEST

START_TEST(a_failed_commit_fails_all_and_leaves_nothing)
{
	static struct caller callers[] = {
		{ .who = 1, .writes = true }, { .who = 2, .writes = true, .orphan = true },
		{ .who = 3, .writes = true },
		{ .who = 4, .says = true, .returns = ERR_INPUT }, /* its own fault, as before */
	};

	begin();
	ck_assert_int_eq(run_together(callers, COUNT(callers)), 0);
	for (size_t i = 0; i < 3; i++) {
		ck_assert_int_eq(callers[i].err, ERR_BUSY);
		ck_assert_uint_eq(callers[i].said.field_count, 0);
	}
	ck_assert_int_eq(callers[3].err, ERR_INPUT);
	ck_assert_int_eq(measured_now().failures, begun.failures + 1);
	ck_assert_int_eq(commit_health(commit), OK); /* it tries */
	ck_assert_int_eq(note_once(5), OK);
	look();
	ck_assert_str_eq(data_rows("SELECT CAST(who AS TEXT) FROM notes"), "5\n");
	ck_assert_int_eq(data_ask("SELECT count(*) FROM orphans"), 0);
	end();
}
END_TEST

START_TEST(a_commit_that_does_not_reach_the_disk_fails_all_and_leaves_nothing)
{
	static struct caller callers[] = {
		{ .who = 1, .writes = true },
		{ .who = 2, .writes = true },
		{ .who = 3, .writes = true },
	};

	begin();
	ck_assert_int_eq(note_once(9), OK);
	power_fault(POWER_SYNC, SQLITE_IOERR_FSYNC, 1, 3); /* also what is to be written over it */
	ck_assert_int_eq(run_together(callers, COUNT(callers)), 0);
	for (size_t i = 0; i < COUNT(callers); i++) {
		ck_assert_int_eq(callers[i].err, ERR_BUSY);
		ck_assert_str_eq(callers[i].said.words, "the storage cannot be used now");
	}
	ck_assert_int_eq(commit_health(commit), ERR_BUSY); /* still so */
	ck_assert_str_eq(err_words(), "the storage cannot be used now");
	ck_assert_int_eq(commit_health(commit), OK);
	ck_assert_int_eq(note_once(5), OK);
	look();
	ck_assert_str_eq(data_rows("SELECT CAST(who AS TEXT) FROM notes ORDER BY who"), "5\n9\n");
	end();
}
END_TEST

START_TEST(a_change_that_ends_the_transaction_fails_its_batch)
{
	static struct caller callers[3];
	pthread_t holder;

	begin();
	callers[0].who = 1;
	callers[1].who = 2;
	callers[0].writes = callers[1].writes = callers[2].writes = true;
	holder = close_the_gate();
	call_all(callers, 2);
	/* The disk is full in the middle: SQLite gives up the whole transaction. */
	power_fault(POWER_WRITE, SQLITE_FULL, 1, 1);
	open_the_gate(holder);
	join_all(callers, 2);
	ck_assert_int_eq(callers[0].err, ERR_BUSY);
	ck_assert_int_eq(callers[1].err, ERR_BUSY);
	ck_assert_int_eq(note_once(3), OK);
	look();
	ck_assert_str_eq(data_rows("SELECT CAST(who AS TEXT) FROM notes"), "3\n");
	end();
}
END_TEST

/* --- Waiting. */

START_TEST(who_waits_too_long_is_withdrawn_and_never_done)
{
	static struct caller callers[4];
	pthread_t holder;

	begin();
	for (int i = 0; i < 4; i++) {
		callers[i].who = i;
		callers[i].writes = true;
	}
	holder = close_the_gate();
	call_all(callers, 3);
	join_all(callers, 3); /* which takes COMMIT_WAIT_US; the writer still stands */
	call_all(&callers[3], 1); /* in the place of those that are gone */
	open_the_gate(holder);
	join_all(&callers[3], 1);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(callers[i].err, ERR_BUSY);
		ck_assert_str_eq(callers[i].said.words, "the storage is busy; nothing was done");
		ck_assert_int_eq(callers[i].runs, 0);
	}
	ck_assert_int_eq(callers[3].err, OK);
	ck_assert_int_eq(commit_health(commit), OK);
	look();
	ck_assert_str_eq(data_rows("SELECT CAST(who AS TEXT) FROM notes"), "3\n");
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(callers[i].runs, 0);
	end();
}
END_TEST

static void *
close_it(void *arg)
{
	commit_close(commit);
	return arg;
}

START_TEST(closing_does_first_what_waits)
{
	static struct caller callers[THREADS];
	pthread_t holder, closer;

	begin();
	for (int i = 0; i < THREADS; i++) {
		callers[i].who = i;
		callers[i].writes = true;
	}
	holder = close_the_gate();
	call_all(callers, THREADS);
	ck_assert_int_eq(pthread_create(&closer, NULL, close_it, NULL), 0);
	pause_ms(5); /* it makes no difference */
	open_the_gate(holder);
	join_all(callers, THREADS);
	ck_assert_int_eq(pthread_join(closer, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(callers[i].err, OK);
	commit = NULL;
	look();
	ck_assert_int_eq(data_ask("SELECT count(*) FROM notes"), THREADS);
	end();
}
END_TEST

/* --- Opening. */

/* A process that has the right to write until it is killed. */
static pid_t
other_writer(void)
{
	int pipes[2];
	pid_t child;
	char byte;

	ck_assert_int_eq(pipe(pipes), 0);
	if ((child = fork()) == 0) {
		if (db_open(LEDGER_FILE, DB_WRITE, &schema, &db) == OK)
			(void)!write(pipes[1], "x", 1);
		(void)close(pipes[1]);
		(void)pause();
		_exit(0);
	}
	(void)close(pipes[1]);
	ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
	(void)close(pipes[0]);
	return child;
}

START_TEST(opening_is_tried_again_until_it_succeeds)
{
	int64_t give_up = clock_monotonic_us() + GIVE_UP_US;
	pid_t child;

	begin_closed();
	child = other_writer();
	ck_assert_int_eq(commit_open(LEDGER_FILE, &schema, &commit), OK);
	ck_assert_int_eq(note_once(1), ERR_BUSY);
	ck_assert_int_eq(commit_health(commit), ERR_BUSY);
	ck_assert_str_eq(err_words(), "another process writes the database");
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(waitpid(child, NULL, 0), child);
	while (commit_health(commit) != OK && clock_monotonic_us() < give_up)
		pause_ms(1);
	ck_assert_int_eq(note_once(2), OK);
	look();
	ck_assert_str_eq(data_rows("SELECT CAST(who AS TEXT) FROM notes"), "2\n");
	end();
}
END_TEST

START_TEST(opening_is_tried_again_although_nobody_asks)
{
	int64_t give_up = clock_monotonic_us() + GIVE_UP_US;
	int has = 0, knows;

	begin_closed();
	power_fault(POWER_OPEN, SQLITE_CANTOPEN, 1, 1);
	ck_assert_int_eq(commit_open(LEDGER_FILE, &schema, &commit), OK);
	while (has == 0 && clock_monotonic_us() < give_up) {
		pause_ms(5);
		if (db_versions(LEDGER_FILE, &schema, &has, &knows) != OK)
			has = 0; /* being made */
	}
	ck_assert_int_eq(has, 1);
	look();
	end();
}
END_TEST

START_TEST(closing_does_not_wait_for_a_database_that_never_opened)
{
	pid_t child;

	begin_closed();
	child = other_writer();
	ck_assert_int_eq(commit_open(LEDGER_FILE, &schema, &commit), OK);
	commit_close(commit);
	commit_close(NULL);
	commit = NULL;
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(waitpid(child, NULL, 0), child);
	look();
	end();
}
END_TEST

static enum err
empty_log(struct db *writer, void *arg)
{
	enum err returns = *(enum err *)arg;

	if (db_in_transaction(writer))
		return fail(ERR_INTERNAL, "in a transaction");
	if (returns != OK)
		return fail(returns, "words of one outside");
	return db_empty_log(writer);
}

START_TEST(what_is_no_transaction_runs_between_two)
{
	static enum err fine = OK, bad = ERR_BUSY;
	struct stat st;

	begin();
	ck_assert_int_eq(note_once(1), OK);
	ck_assert_int_eq(stat(LEDGER_FILE "-wal", &st), 0);
	ck_assert_int_gt(st.st_size, 0);
	ck_assert_int_eq(commit_run_outside(commit, empty_log, &fine), OK);
	ck_assert_int_eq(stat(LEDGER_FILE "-wal", &st), 0);
	ck_assert_int_eq(st.st_size, 0);
	ck_assert_int_eq(commit_run_outside(commit, empty_log, &bad), ERR_BUSY);
	ck_assert_str_eq(err_words(), "words of one outside");
	ck_assert_int_eq(commit_health(commit), OK);
	ck_assert_int_eq(measured_now().failures, begun.failures);
	ck_assert_int_eq(note_once(2), OK);
	look();
	ck_assert_int_eq(data_ask("SELECT count(*) FROM notes"), 2);
	end();
}
END_TEST

START_TEST(a_database_that_is_not_ours_is_refused_at_once)
{
	begin_closed();
	ck_assert_int_eq(db_open(LEDGER_FILE, DB_WRITE, &foreign, &db), OK);
	db_close(db);
	ck_assert_int_eq(commit_open(LEDGER_FILE, &schema, &commit), ERR_INTERNAL);
	ck_assert_ptr_null(commit);
	ck_assert_int_eq(db_open(LEDGER_FILE, DB_WRITE, &foreign, &db), OK); /* left alone */
	end();
}
END_TEST

CHECK_MAIN(commit,
    { changes_share_commits_and_are_all_there, those_that_wait_are_one_transaction,
	what_a_transaction_has_committed_is_measured,
	a_change_that_takes_long_shares_its_transaction_with_nobody,
	what_is_no_transaction_runs_between_two,
	what_was_answered_is_there_although_the_process_dies, a_change_that_fails_is_undone_alone,
	words_and_bad_fields_reach_who_asked_and_nobody_else,
	a_failed_commit_fails_all_and_leaves_nothing,
	a_commit_that_does_not_reach_the_disk_fails_all_and_leaves_nothing,
	a_change_that_ends_the_transaction_fails_its_batch,
	who_waits_too_long_is_withdrawn_and_never_done, closing_does_first_what_waits,
	opening_is_tried_again_until_it_succeeds, opening_is_tried_again_although_nobody_asks,
	closing_does_not_wait_for_a_database_that_never_opened,
	a_database_that_is_not_ours_is_refused_at_once })
