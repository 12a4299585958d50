/*
 * What the storage keeps when the power goes, and when its disk fails: a model of all that was
 * acknowledged is held against the database that is found afterwards.
 *
 * Each failure names its seed; CAREDESK_SEED=N begins with it again (threads may still differ).
 * ROUNDS=N asks for so many losses of power (t/power.sh).
 */
#include "test.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/random.h>

#include "data_set.h"
#include "lib/commit.h"
#include "power_vfs.h"

#define WORKERS 4
#define ADD_MAX 5
#define JOBS_MAX 150 /* of a worker in a round */
#define ROUNDS_DEFAULT 25
#define ROUNDS_A_DATABASE 8
#define KEPT_MAX (200 * 1024)
#define KEPT_FEW (8 * 1024)
#define FAULTS_MAX 200

enum state { OPEN, REIMBURSED, DELETED };

/* An event, as it was acknowledged. */
struct made {
	int64_t id, caregiver_id;
	enum state state;
};

/* One change: ADD some events of a caregiver of their own, at once; reimburse or delete one that
 * there is; KEEP a large row, so that the log fills. */
struct job {
	enum { ADD, REIMBURSE, DELETE, KEEP } kind;
	int64_t caregiver_id, ids[ADD_MAX];
	size_t count;
	size_t index; /* of made */
	int64_t id, version;
	char key[16];
};

struct worker {
	pthread_t thread;
	int number;
	uint64_t random;
	int64_t caregivers, version, versions; /* the version kept, the last one tried */
	struct made *made;
	size_t count, room;
	struct job *doubts; /* refused when the power went: done, or not */
	size_t doubt_count;
	int jobs, done;
	char wrong[128]; /* "" if nothing is */
};

static struct worker workers[WORKERS];
static int64_t type_id;
static uint64_t seed;

/* How a change is made. */
static struct commit *commit;
static pthread_mutex_t alone = PTHREAD_MUTEX_INITIALIZER;
static enum err (*submit)(commit_fn fn, void *arg);
static bool refusals_are_final; /* what is refused is not done */
static size_t kept_bytes;

static enum err
submit_shared(commit_fn fn, void *arg)
{
	return commit_run(commit, fn, arg);
}

/* On a connection of our own, whose settings we can spoil. */
static enum err
submit_alone(commit_fn fn, void *arg)
{
	enum err err;

	(void)pthread_mutex_lock(&alone);
	if ((err = db_begin(db)) == OK) {
		if ((err = fn(db, arg)) == OK)
			err = db_commit(db);
		else
			db_rollback(db);
	}
	(void)pthread_mutex_unlock(&alone);
	return err;
}

/* --- The work. */

static enum err
make_type(struct db *writer, void *arg)
{
	struct tariff_type type = { .name = "visit", .amount_in_cents = 12345, .currency = "SEK" };
	int64_t *id = arg;
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, writer, &sql_events_type_by_name);
	db_bind_text(&q, "visit", 5);
	if ((err = db_next(&q, &found)) == OK && found)
		*id = db_int(&q, 0);
	db_done(&q);
	if (err == OK && !found && (err = tariff_add(writer, &actor, &type)) == OK)
		*id = type.id;
	return err;
}

/* False until it is acknowledged. */
static bool
have_type(void)
{
	int64_t id = 0;

	if (type_id == 0 && submit(make_type, &id) == OK)
		type_id = id;
	return type_id != 0;
}

static enum err
add_events(struct db *writer, struct job *job)
{
	enum err err = OK;

	for (size_t i = 0; i < job->count && err == OK; i++) {
		struct ledger_event event = { .type_id = type_id,
			.caregiver_id = job->caregiver_id,
			.start_time_us = NOW_US + (int64_t)i * 20 * DAY_US };

		err = ledger_event_add(writer, &actor, &event);
		job->ids[i] = event.id;
	}
	return err;
}

/* The row of VERSION; its length and its bytes tell which. */
static size_t
kept_row(int64_t version, char *body)
{
	memset(body, 'a' + (int)(version % 26), kept_bytes);
	return kept_bytes - (size_t)(version % 5000);
}

static enum err
keep_row(struct db *writer, const struct job *job)
{
	static const struct db_sql keep = { "of a test",
		"INSERT OR REPLACE INTO answers (key, digest, created_at, status, location, etag,"
		" body) VALUES ($1, $2, $3, $4, '', '', $5)" };
	static _Thread_local char body[KEPT_MAX];
	static const char digest[32];
	struct db_query q;

	db_query(&q, writer, &keep);
	db_bind_text(&q, job->key, strlen(job->key));
	db_bind_bytes(&q, digest, sizeof(digest));
	db_bind_int(&q, NOW_US);
	db_bind_int(&q, job->version);
	db_bind_bytes(&q, body, kept_row(job->version, body));
	return db_run(&q);
}

static enum err
run_job(struct db *writer, void *arg)
{
	struct job *job = arg;
	struct ledger_event event;
	enum err err;

	if (job->kind == ADD)
		return add_events(writer, job);
	if (job->kind == KEEP)
		return keep_row(writer, job);
	if ((err = ledger_event_get(writer, job->id, &scope_all, &event)) != OK)
		return err;
	return job->kind == REIMBURSE
	    ? ledger_event_reimburse(writer, &actor, &event)
	    : ledger_event_delete(writer, &actor, &scope_all, INT64_MIN, &event);
}

static struct job
draw_job(struct worker *worker)
{
	struct job job = { .kind = ADD };
	uint64_t draw = power_draw(&worker->random, 100);

	if (draw >= 75) {
		job.kind = KEEP;
		job.version = ++worker->versions;
		(void)snprintf(job.key, sizeof(job.key), "row-%d", worker->number);
		return job;
	}
	if (draw >= 45 && worker->count > 0) {
		job.index = power_draw(&worker->random, worker->count);
		job.id = worker->made[job.index].id;
		if (worker->made[job.index].state == OPEN) {
			job.kind = draw >= 60 ? REIMBURSE : DELETE;
			return job;
		}
	}
	job.count = 1 + power_draw(&worker->random, ADD_MAX);
	job.caregiver_id = ++worker->caregivers * WORKERS + worker->number;
	return job;
}

/* It was done: so it must be found. */
static void
acknowledge(struct worker *worker, const struct job *job)
{
	size_t total = worker->count + job->count;

	if (job->kind == KEEP) {
		worker->version = job->version;
	} else if (job->kind != ADD) {
		worker->made[job->index].state = job->kind == DELETE ? DELETED : REIMBURSED;
	} else {
		if (total > worker->room) {
			worker->room = 2 * total;
			worker->made =
			    realloc(worker->made, worker->room * sizeof(worker->made[0]));
		}
		for (size_t i = 0; i < job->count; i++)
			worker->made[worker->count++] =
			    (struct made){ job->ids[i], job->caregiver_id, OPEN };
	}
}

/* False once it is refused. */
static bool
do_one(struct worker *worker)
{
	struct job job = draw_job(worker);
	enum err err = submit(run_job, &job);

	if (err == OK) {
		acknowledge(worker, &job);
		worker->done++;
		return true;
	}
	if (err != ERR_BUSY && err != ERR_INTERNAL)
		(void)snprintf(worker->wrong, sizeof(worker->wrong),
		    "a change of kind %d is refused with %d", job.kind, err);
	if (!refusals_are_final) {
		worker->doubts =
		    realloc(worker->doubts, (worker->doubt_count + 1) * sizeof(worker->doubts[0]));
		worker->doubts[worker->doubt_count++] = job;
	}
	return false;
}

/* Until the power goes, or it has done enough. */
static void *
work(void *arg)
{
	struct worker *worker = arg;

	for (int i = 0; i < worker->jobs; i++)
		if (!do_one(worker) && power_is_cut())
			break;
	return NULL;
}

static void
work_all(int jobs)
{
	if (!have_type() && !have_type())
		return;
	for (size_t i = 0; i < WORKERS; i++) {
		workers[i].jobs = jobs;
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (size_t i = 0; i < WORKERS; i++)
		ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
}

/* --- What is found.  Each says what is wrong, or NULL; a loss may be what a test is after. */

static const char *
ask(const char *text, int64_t parameter, int64_t *value)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, data_sql(text));
	if (strstr(text, "$1") != NULL)
		db_bind_int(&q, parameter);
	if ((err = db_next(&q, &found)) == OK && found)
		*value = db_int(&q, 0);
	db_done(&q);
	return err != OK ? "a query fails" : !found ? "a query finds nothing" : NULL;
}

/* The events of a change that may have been made: all, or none. */
static const char *
resolve_added(struct worker *worker, struct job *job)
{
	struct db_query q;
	size_t count = 0;
	bool found;
	enum err err;

	db_query(&q, db, data_sql("SELECT id FROM events WHERE caregiver_id = $1 ORDER BY id"));
	db_bind_int(&q, job->caregiver_id);
	while ((err = db_next(&q, &found)) == OK && found && count < job->count)
		job->ids[count++] = db_int(&q, 0);
	db_done(&q);
	if (err != OK || found || (count != 0 && count != job->count))
		return "half of a change is there";
	if (count > 0)
		acknowledge(worker, job);
	return NULL;
}

static const char *
resolve(struct worker *worker, struct job *job)
{
	struct ledger_event event;
	enum err err;

	if (job->kind == ADD)
		return resolve_added(worker, job);
	if (job->kind == KEEP)
		return NULL; /* see check_row() */
	err = ledger_event_get(db, job->id, &scope_all, &event);
	if ((job->kind == DELETE && err == ERR_NOT_FOUND) ||
	    (job->kind == REIMBURSE && err == OK && event.reimbursed_at_us != 0))
		acknowledge(worker, job);
	return NULL;
}

static const char *
check_events(const struct worker *worker)
{
	struct ledger_event event;

	for (size_t i = 0; i < worker->count; i++) {
		const struct made *made = &worker->made[i];
		enum err err = ledger_event_get(db, made->id, &scope_all, &event);

		if (made->state == DELETED && err != ERR_NOT_FOUND)
			return "a deletion is lost";
		if (made->state == DELETED)
			continue;
		if (err != OK)
			return "an event is lost";
		if (event.caregiver_id != made->caregiver_id || event.amount_in_cents != 12345)
			return "an event is not what it was";
		if ((event.reimbursed_at_us != 0) != (made->state == REIMBURSED))
			return made->state == REIMBURSED ? "a reimbursement is lost"
							 : "a reimbursement was never made";
	}
	return NULL;
}

static const char *
check_row(struct worker *worker)
{
	static char body[KEPT_MAX];
	int64_t least = worker->version;
	struct db_query q;
	const char *stored;
	char key[16];
	bool found, same = false;
	size_t n;

	(void)snprintf(key, sizeof(key), "row-%d", worker->number);
	db_query(&q, db, data_sql("SELECT status, body FROM answers WHERE key = $1"));
	db_bind_text(&q, key, strlen(key));
	if (db_next(&q, &found) == OK && found) {
		worker->version = db_int(&q, 0);
		stored = db_text(&q, 1, &n);
		same = kept_row(worker->version, body) == n && memcmp(stored, body, n) == 0;
	}
	db_done(&q);
	if (q.err != OK)
		return "a query fails";
	if (!found)
		return least == 0 ? NULL : "a row is lost";
	if (refusals_are_final && worker->version != least)
		return "a row that was refused is there";
	return worker->version < least ? "a row is old" : same ? NULL : "a row is damaged";
}

static const char *
check_workers(void)
{
	const char *wrong = NULL;
	int64_t there = 0, found;

	for (size_t i = 0; i < WORKERS && wrong == NULL; i++) {
		struct worker *worker = &workers[i];

		if (worker->wrong[0] != '\0')
			return worker->wrong;
		for (size_t j = 0; j < worker->doubt_count && wrong == NULL; j++)
			wrong = resolve(worker, &worker->doubts[j]);
		worker->doubt_count = 0;
		if (wrong == NULL && (wrong = check_events(worker)) == NULL)
			wrong = check_row(worker);
		for (size_t j = 0; j < worker->count; j++)
			there += worker->made[j].state != DELETED;
	}
	if (wrong == NULL && (wrong = ask("SELECT count(*) FROM events", 0, &found)) == NULL)
		wrong = found == there ? NULL : "there are events that nobody has made";
	return wrong;
}

static const char *
check_whole(void)
{
	static const struct {
		const char *zero, *else_wrong;
	} rules[] = {
		{ "SELECT count(*) FROM (SELECT id FROM events"
		  " EXCEPT SELECT subject FROM audit WHERE what = 'event created')",
		    "an event is not in the audit" },
		{ "SELECT count(*) FROM (SELECT id FROM events WHERE reimbursed_at IS NOT NULL"
		  " EXCEPT SELECT subject FROM audit WHERE what = 'event reimbursed')",
		    "a reimbursement is not in the audit" },
		{ "SELECT (SELECT count(*) FROM audit WHERE what = 'event created')"
		  " - (SELECT count(*) FROM audit WHERE what = 'event deleted')"
		  " - (SELECT count(*) FROM events)",
		    "the audit has other events" },
		{ "SELECT (SELECT count(*) FROM audit WHERE what = 'event reimbursed')"
		  " - (SELECT count(*) FROM events WHERE reimbursed_at IS NOT NULL)",
		    "the audit has other reimbursements" },
	};
	const char *wrong = NULL;
	int64_t value;
	int sums = 0;

	if (db_verify(db) != OK)
		return "the database is damaged";
	if (ledger_recount(db, differs, &sums) != OK || sums != 0)
		return "the sums are not those of the events";
	for (size_t i = 0; i < COUNT(rules) && wrong == NULL; i++)
		if ((wrong = ask(rules[i].zero, 0, &value)) == NULL && value != 0)
			wrong = rules[i].else_wrong;
	return wrong;
}

/* Opens the database anew and looks at all that is in it; then closes it, or the power goes again
 * and the next one finds a log that was recovered before. */
static const char *
check_all(bool cuts)
{
	const char *wrong;

	if (db_open(LEDGER_FILE, DB_WRITE, &ledger_schema, &db) != OK)
		return "the database does not open";
	if ((wrong = check_whole()) == NULL)
		wrong = check_workers();
	if (cuts)
		power_cut_after(POWER_ANY, 1);
	db_close(db);
	db = NULL;
	if (cuts)
		power_restore();
	return wrong;
}

/* --- Rounds. */

static void
forget_workers(void)
{
	for (size_t i = 0; i < WORKERS; i++) {
		free(workers[i].made);
		free(workers[i].doubts);
		workers[i] = (struct worker){ .number = (int)i, .random = seed + i };
	}
}

/* With no database, and nothing acknowledged. */
static void
begin_anew(void)
{
	static const char *const files[] = { LEDGER_FILE, LEDGER_FILE "-wal", LEDGER_FILE "-shm",
		LEDGER_FILE "-journal", LEDGER_FILE ".lock" };

	for (size_t i = 0; i < COUNT(files); i++)
		(void)unlink(files[i]);
	forget_workers();
	type_id = 0;
	power_on(seed);
}

static void
begin(void)
{
	const char *given = getenv("CAREDESK_SEED");

	folder_begin();
	power_install();
	if (given != NULL)
		seed = strtoull(given, NULL, 10);
	else if (seed == 0)
		ck_assert_int_eq(getrandom(&seed, 4, 0), 4);
	submit = submit_shared;
	refusals_are_final = false;
	kept_bytes = KEPT_MAX;
	begin_anew();
}

static void
end(void)
{
	power_off();
	forget_workers();
	folder_end();
}

/* How the power goes in a round, and what else happens. */
static void
draw_trouble(int round, uint64_t *random)
{
	bool fresh = round % ROUNDS_A_DATABASE == 0;

	power_fault(0, 0, 0, 0);
	if (fresh)
		power_cut_after(POWER_ANY, 1 + (int)power_draw(random, 150));
	else if (power_draw(random, 2) == 0)
		power_cut_after(POWER_DATABASE, 1 + (int)power_draw(random, 400));
	else
		power_cut_after(POWER_ANY, 1 + (int)power_draw(random, 4000));
	if (power_draw(random, 4) == 0)
		power_fault(POWER_SYNC, SQLITE_IOERR_FSYNC, 1 + (int)power_draw(random, 40), 1);
}

/* One life of the writer, and its end. */
static void
live(int jobs, uint64_t *random)
{
	if (commit_open(LEDGER_FILE, &ledger_schema, &commit) == OK) {
		work_all(jobs);
		/* Not gone yet: then when all is quiet, or while it closes. */
		if (!power_is_cut() && power_draw(random, 2) == 0)
			power_cut_after(POWER_ANY, 1 + (int)power_draw(random, 60));
		commit_close(commit);
	}
	power_fault(0, 0, 0, 0); /* one that has not come yet is none of the next life's */
	power_restore();
}

START_TEST(what_was_acknowledged_outlives_a_loss_of_power)
{
	const char *given = getenv("ROUNDS"), *wrong;
	int rounds = given != NULL ? atoi(given) : ROUNDS_DEFAULT, done = 0;
	uint64_t random;

	begin();
	random = seed;
	for (int round = 0; round < rounds; round++) {
		if (round % ROUNDS_A_DATABASE == 0)
			begin_anew();
		draw_trouble(round, &random);
		live(JOBS_MAX, &random);
		wrong = check_all(round % 3 == 1);
		ck_assert_msg(wrong == NULL, "CAREDESK_SEED=%llu, round %d: %s",
		    (unsigned long long)seed, round, wrong);
		for (size_t i = 0; i < WORKERS; i++)
			done += workers[i].done;
	}
	ck_assert_int_gt(done, rounds);
	end();
}
END_TEST

/* The same work and the same losses, until one is seen. */
static const char *
first_loss(int rounds, void (*live_badly)(void))
{
	const char *wrong = NULL;
	uint64_t random = seed;

	for (int round = 0; round < rounds && wrong == NULL; round++) {
		if (round % ROUNDS_A_DATABASE == 0)
			begin_anew();
		power_cut_after(POWER_ANY, 100 + (int)power_draw(&random, 2000));
		live_badly();
		power_restore();
		wrong = check_all(false);
	}
	return wrong;
}

static void
live_without_syncs(void)
{
	submit = submit_alone;
	if (db_open(LEDGER_FILE, DB_WRITE, &ledger_schema, &db) != OK)
		return;
	if (db_script(db, "PRAGMA synchronous = OFF") == OK)
		work_all(JOBS_MAX);
	db_close(db);
}

static void
live_with_syncs(void)
{
	submit = submit_alone;
	if (db_open(LEDGER_FILE, DB_WRITE, &ledger_schema, &db) != OK)
		return;
	work_all(JOBS_MAX);
	db_close(db);
}

static void
live_on_a_liar(void)
{
	submit = submit_shared;
	power_lie(true);
	if (commit_open(LEDGER_FILE, &ledger_schema, &commit) == OK) {
		work_all(JOBS_MAX);
		commit_close(commit);
	}
	power_lie(false);
}

START_TEST(a_connection_that_does_not_sync_is_caught)
{
	begin();
	ck_assert_msg(first_loss(20, live_without_syncs) != NULL, "CAREDESK_SEED=%llu",
	    (unsigned long long)seed);
	end();
}
END_TEST

START_TEST(the_same_connection_is_not_caught_while_it_syncs)
{
	const char *wrong;

	begin();
	wrong = first_loss(5, live_with_syncs);
	ck_assert_msg(wrong == NULL, "CAREDESK_SEED=%llu: %s", (unsigned long long)seed, wrong);
	end();
}
END_TEST

START_TEST(a_disk_that_does_not_sync_is_caught)
{
	begin();
	ck_assert_msg(
	    first_loss(20, live_on_a_liar) != NULL, "CAREDESK_SEED=%llu", (unsigned long long)seed);
	end();
}
END_TEST

/* --- A disk that fails, while the power stays. */

static const struct fault {
	const char *name;
	unsigned calls;
	int code, times;
} faults[] = {
	{ "the disk is full once", POWER_WRITE, SQLITE_FULL, 1 },
	{ "the disk is full for a while", POWER_WRITE, SQLITE_FULL, 7 },
	{ "a write fails", POWER_WRITE, SQLITE_IOERR_WRITE, 1 },
	{ "a sync fails", POWER_SYNC, SQLITE_IOERR_FSYNC, 1 },
	{ "several syncs fail", POWER_SYNC, SQLITE_IOERR_FSYNC, 3 },
	{ "a read fails", POWER_READ, SQLITE_IOERR_READ, 1 },
	{ "several reads fail", POWER_READ, SQLITE_IOERR_READ, 5 },
	{ "a file is not opened", POWER_OPEN, SQLITE_CANTOPEN, 1 },
	{ "a deletion or truncation fails", POWER_OTHER, SQLITE_IOERR, 1 },
	{ "the database itself fails", POWER_DATABASE, SQLITE_IOERR_WRITE, 2 },
};

/* Without any help, until a change is made and the storage says that it is well. */
static void
await_recovery(const struct fault *fault, int n)
{
	const struct timespec pause = { .tv_nsec = 5000000 };

	for (int i = 0; i < 1000; i++) {
		if (have_type() && do_one(&workers[0]) && commit_health(commit) == OK)
			return;
		(void)nanosleep(&pause, NULL);
	}
	ck_abort_msg("%s at call %d: it does not recover", fault->name, n);
}

/* A life in which call N fails; false if there are fewer. */
static bool
live_with_fault(const struct fault *fault, int n, int jobs)
{
	bool met;
	enum err err;

	power_fault(fault->calls, fault->code, n, fault->times);
	err = commit_open(LEDGER_FILE, &ledger_schema, &commit);
	ck_assert_msg(
	    err == OK, "%s at call %d: it does not open: %s", fault->name, n, err_words());
	for (int i = 0; have_type() && i < jobs; i++)
		(void)do_one(&workers[i % WORKERS]);
	if ((met = power_faults() > 0)) {
		power_fault(0, 0, 0, 0);
		await_recovery(fault, n);
	}
	commit_close(commit); /* may meet it, too */
	met = met || power_faults() > 0;
	power_fault(0, 0, 0, 0);
	return met;
}

static void
begin_faults(void)
{
	begin();
	refusals_are_final = true;
	kept_bytes = KEPT_FEW;
}

static void
try_fault(const struct fault *fault, int jobs, bool anew)
{
	const char *wrong;
	bool met = true;

	for (int n = 1; n <= FAULTS_MAX && met; n++) {
		if (anew)
			begin_anew();
		power_off(); /* it is not about what is durable */
		met = live_with_fault(fault, n, jobs);
		wrong = check_all(false);
		ck_assert_msg(wrong == NULL, "CAREDESK_SEED=%llu, %s at call %d: %s",
		    (unsigned long long)seed, fault->name, n, wrong);
	}
}

START_TEST(a_failing_disk_is_told_truly_and_got_over)
{
	begin_faults();
	for (size_t i = 0; i < COUNT(faults); i++) {
		begin_anew();
		try_fault(&faults[i], 8, false);
	}
	end();
}
END_TEST

START_TEST(a_disk_that_fails_while_the_database_is_made_is_got_over)
{
	begin_faults();
	for (size_t i = 0; i < COUNT(faults); i++)
		try_fault(&faults[i], 1, true);
	end();
}
END_TEST

START_TEST(while_the_disk_is_full_reads_go_on_and_health_tells)
{
	struct db *reader;
	int64_t before, after;

	begin_faults();
	power_off();
	ck_assert_int_eq(commit_open(LEDGER_FILE, &ledger_schema, &commit), OK);
	work_all(10);
	ck_assert_int_eq(commit_health(commit), OK);
	ck_assert_int_eq(db_open(LEDGER_FILE, DB_READ, &ledger_schema, &reader), OK);
	db = reader;
	ck_assert_ptr_null(ask("SELECT count(*) FROM events", 0, &before));
	power_fault(POWER_WRITE, SQLITE_FULL, 1, 1000000);
	for (int i = 0; i < 20; i++) {
		ck_assert(!do_one(&workers[0]));
		ck_assert_int_eq(commit_health(commit), ERR_BUSY);
		ck_assert_ptr_null(ask("SELECT count(*) FROM events", 0, &after));
		ck_assert_int_eq(after, before);
	}
	power_fault(0, 0, 0, 0);
	ck_assert_int_eq(commit_health(commit), OK);
	ck_assert(do_one(&workers[0]));
	db_close(reader);
	commit_close(commit);
	ck_assert_ptr_null(check_all(false));
	end();
}
END_TEST

CHECK_MAIN(power,
    { what_was_acknowledged_outlives_a_loss_of_power, a_connection_that_does_not_sync_is_caught,
	the_same_connection_is_not_caught_while_it_syncs, a_disk_that_does_not_sync_is_caught,
	a_failing_disk_is_told_truly_and_got_over,
	a_disk_that_fails_while_the_database_is_made_is_got_over,
	while_the_disk_is_full_reads_go_on_and_health_tells })
