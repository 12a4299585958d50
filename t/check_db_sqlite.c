#include "test.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "data_set.h"

#include "lib/account.h"
#include "lib/counts.h"

#define FILE_OF "db/things.db"
#define THINGS 4000 /* rows that a migration adds, so that it takes a while */
#define KILLS 30
#define PAIRS 3000

/* A schema of our own, in two steps, and what it was and will be. */
#define STEP_1 "CREATE TABLE things (id INTEGER PRIMARY KEY, a TEXT, b INTEGER) STRICT;"
#define STEP_2 \
	"CREATE TABLE parts (id INTEGER PRIMARY KEY, thing INTEGER NOT NULL) STRICT;" \
	"INSERT INTO things (b) WITH RECURSIVE n (i) AS" \
	" (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 4000) SELECT i FROM n;" \
	"INSERT INTO parts (thing) SELECT id FROM things;" \
	"CREATE INDEX parts_by_thing ON parts (thing);"

static const struct embedded none[] = { { 0 } };
static const struct embedded one[] = { { "0001", STEP_1 }, { 0 } };
static const struct embedded two[] = { { "0001", STEP_1 }, { "0002", STEP_2 }, { 0 } };
static const struct embedded bad[] = {
	{ "0001", STEP_1 },
	{ "0002", "CREATE TABLE parts (id INTEGER PRIMARY KEY); INSERT INTO nowhere VALUES (1);" },
	{ 0 },
};
static const struct db_schema schema_0 = { "things", 77, none };
static const struct db_schema schema_1 = { "things", 77, one };
static const struct db_schema schema_2 = { "things", 77, two };
static const struct db_schema schema_bad = { "things", 77, bad };
static const struct db_schema schema_other = { "others", 78, two };

static void
forget_file(void)
{
	static const char *const files[] = { FILE_OF, FILE_OF "-wal", FILE_OF "-shm",
		FILE_OF "-journal", FILE_OF ".lock" };

	for (size_t i = 0; i < COUNT(files); i++)
		(void)unlink(files[i]);
}

/* DB is a writer of things. */
static void
things_begin(void)
{
	folder_begin();
	ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_1, &db), OK);
}

static void
things_end(void)
{
	db_close(db);
	forget_file();
	folder_end();
}

static struct db *
reader_of(const char *file, const struct db_schema *schema)
{
	struct db *reader;

	ck_assert_msg(db_open(file, DB_READ, schema, &reader) == OK, "%s", err_words());
	return reader;
}

static int64_t
ask_in(struct db *other, const char *text)
{
	struct db *saved = db;
	int64_t value;

	db = other;
	value = data_ask(text);
	db = saved;
	return value;
}

static enum err
run(const char *text)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, data_sql(text));
	err = db_next(&q, &found);
	db_done(&q);
	return err;
}

static void
put(const char *path, const char *bytes, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, n), (ssize_t)n);
	ck_assert_int_eq(close(fd), 0);
}

static void
pause_us(int64_t us)
{
	const struct timespec pause = { us / 1000000, (long)(us % 1000000 * 1000) };

	(void)nanosleep(&pause, NULL);
}

/* --- Statements. */

/* The data sets, and whose statements are for them. */
static const struct {
	const char *file;
	const struct db_schema *schema;
	const char *sets[2];
} data_sets[] = { { ACCOUNT_FILE, &account_schema, { "accounts/", "accounts/" } },
	{ AUDIO_FILE, &audio_schema, { "audios/", "audios/" } },
	{ LEDGER_FILE, &ledger_schema, { "events/", "shared/" } },
	{ COUNTS_FILE, &counts_schema, { "stats/", "stats/" } } };

static bool
is_for(const struct db_sql *sql, size_t set)
{
	return strncmp(sql->name, data_sets[set].sets[0], strlen(data_sets[set].sets[0])) == 0 ||
	    strncmp(sql->name, data_sets[set].sets[1], strlen(data_sets[set].sets[1])) == 0;
}

/* Looks at every statement, each in the database that it is for. */
static void
look_at_all(void (*look)(const struct db_sql *sql))
{
	char name[64];
	size_t looked_at = 0, all = 0;

	folder_begin();
	for (size_t set = 0; set < COUNT(data_sets); set++) {
		ck_assert_int_eq(
		    db_open(data_sets[set].file, DB_WRITE, data_sets[set].schema, &db), OK);
		for (size_t i = 0; sql_all[i] != NULL; i++)
			if (is_for(sql_all[i], set)) {
				look(sql_all[i]);
				looked_at++;
			}
		db_close(db);
		(void)unlink(data_sets[set].file);
		(void)snprintf(name, sizeof(name), "%s.lock", data_sets[set].file);
		(void)unlink(name);
	}
	while (sql_all[all] != NULL)
		all++;
	ck_assert_uint_eq(looked_at, all);
	folder_end();
}

static void
prepare_it(const struct db_sql *sql)
{
	struct db_query q;

	db_query(&q, db, sql);
	ck_assert_msg(q.err == OK, "%s: %s", sql->name, err_words());
	db_done(&q);
}

START_TEST(every_statement_prepares_and_has_its_parameters_numbered)
{
	look_at_all(prepare_it);
}
END_TEST

/* Steps that read a whole table or index, and why they may. */
static const struct {
	const char *name, *step, *why; /* NULL: in any statement */
} scans[] = {
	{ NULL, "SCAN json_each VIRTUAL TABLE", "what a parameter lists" },
	{ "stats/hours_add", "SCAN 8 CONSTANT ROWS", "those that go in" },
	{ "stats/paths_insert", "SCAN 8 CONSTANT ROWS", "likewise" },
	{ "events/version", "SCAN origin", "one row" },
	{ "events/report_sums_of", "SCAN m", "the months that it finds itself, one by one" },
	{ "events/epoch_renew", "SCAN origin", "one row" },
	{ "shared/audit_last", "SCAN audit", "the last row" },
	{ "shared/audit_rows_found", "SCAN", "seldom: the operator looks for something" },
	{ "shared/audit_actors_check", "SCAN", "looks at them all" },
	{ "shared/audit_actors_named", "SCAN audit_actors", "seldom: a person is erased" },
	{ "events/recount_events", "SCAN events USING COVERING INDEX", "counts them all" },
	{ "accounts/answers_of_account", "SCAN answers", "seldom: a person asks for their data" },
	{ "accounts/answers_erase", "SCAN answers", "likewise, to be forgotten" },
	{ "accounts/emails_of_account", "SCAN answers", "likewise" },
	{ "accounts/erasures_list", "SCAN erasures", "all of them, for a restore" },
	{ "accounts/erasures_finish", "SCAN erasures", "as few as there are persons erased" },
	{ "stats/state_get", "SCAN state", "one row" },
	{ "stats/state_add", "SCAN state", "one row" },
	{ "stats/state_keep_from", "SCAN state", "one row" },
	{ "stats/recount", "SCAN", "counts them all" },
	{ "stats/epoch_renew", "SCAN state", "one row" },
	{ "accounts/accounts_check", "SCAN accounts", "looks at them all" },
	{ "accounts/images_list", "SCAN accounts USING COVERING INDEX accounts_by_image",
	    "likewise" },
	{ "audios/audios_check", "SCAN audios", "likewise" },
	{ "audios/audios_count", "SCAN audios USING COVERING INDEX", "counts them all" },
	{ "stats/paths_list_period", "SCAN s", "has added them up before" },
};

/* Those that sort, and why they may. */
static const struct {
	const char *name, *why;
} sorts[] = {
	{ "stats/paths_list", "by counts, which change with every batch" },
	{ "stats/paths_list_period", "likewise" },
	{ "events/report_sums_of", "the months of some caregivers, as few as are shown" },
};

static bool
may_sort(const char *name)
{
	for (size_t i = 0; i < COUNT(sorts); i++)
		if (strcmp(name, sorts[i].name) == 0)
			return true;
	return false;
}

static bool
may_scan(const char *name, const char *line)
{
	for (size_t i = 0; i < COUNT(scans); i++)
		if ((scans[i].name == NULL || strcmp(name, scans[i].name) == 0) &&
		    strncmp(line, scans[i].step, strlen(scans[i].step)) == 0)
			return true;
	return false;
}

static void
plan_it(const struct db_sql *sql)
{
	char *plan, *line, *rest;

	ck_assert_int_eq(db_plan(db, sql, &plan), OK);
	for (line = strtok_r(plan, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
		ck_assert_msg(strncmp(line, "SCAN ", 5) != 0 || may_scan(sql->name, line), "%s: %s",
		    sql->name, line);
		ck_assert_msg((strstr(line, "TEMP B-TREE") == NULL || may_sort(sql->name)) &&
			strstr(line, "AUTOMATIC") == NULL,
		    "%s: %s", sql->name, line);
	}
	free(plan);
}

START_TEST(every_statement_uses_an_index_and_none_sorts)
{
	look_at_all(plan_it);
}
END_TEST

START_TEST(every_list_uses_the_index_made_for_it)
{
	static const struct {
		const char *name, *step;
	} cases[] = {
		{ "events/events_list", "SEARCH e USING INTEGER PRIMARY KEY (rowid>?)" },
		{ "events/events_list_by_type",
		    "SEARCH e USING INDEX events_by_type (type_id=? AND <expr>=? AND rowid>?)" },
		{ "events/events_list_by_day",
		    "SEARCH e USING INDEX events_by_day (<expr>=? AND rowid>?)" },
		{ "events/events_list_by_reimbursed",
		    "SEARCH e USING INDEX events_by_reimbursed (<expr>=? AND rowid>?)" },
		{ "events/events_list_by_month", "SEARCH e USING INDEX events_by_month" },
		{ "events/day_next", "SEARCH events USING INDEX events_by_day" },
		{ "events/report_sums", "SEARCH sums USING PRIMARY KEY" },
		{ "events/report_events", "SEARCH events USING COVERING INDEX events_by_month" },
		{ "events/price_in_force", "USING INDEX prices_in_force" },
		{ "events/type_used", "SEARCH events USING COVERING INDEX events_by_type" },
		{ "shared/answer_find", "SEARCH answers USING INDEX" },
		{ "shared/answers_expire", "SEARCH answers USING INTEGER PRIMARY KEY (rowid<?)" },
	};
	char *plan;

	data_begin();
	for (size_t i = 0; i < COUNT(cases); i++) {
		size_t j = 0;

		while (sql_all[j] != NULL && strcmp(sql_all[j]->name, cases[i].name) != 0)
			j++;
		ck_assert_msg(sql_all[j] != NULL, "there is no %s", cases[i].name);
		ck_assert_int_eq(db_plan(db, sql_all[j], &plan), OK);
		ck_assert_msg(strstr(plan, cases[i].step) != NULL, "%s: %s", cases[i].name, plan);
		free(plan);
	}
	data_end();
}
END_TEST

START_TEST(a_bad_statement_is_told_when_its_rows_are_asked_for)
{
	static const char *const cases[] = { "SELECT nothing", "SELEC 1", "SELECT ?", "SELECT $2",
		"SELECT $1, $3", "SELECT :name", "SELECT \"text\"" };
	struct db_query q;
	bool found = true;

	things_begin();
	for (size_t i = 0; i < COUNT(cases); i++) {
		db_query(&q, db, data_sql(cases[i]));
		db_bind_int(&q, 1); /* does nothing */
		ck_assert_msg(db_next(&q, &found) == ERR_INTERNAL && !found, "%s", cases[i]);
		db_done(&q);
	}
	ck_assert_int_eq(data_ask("SELECT 5"), 5);
	things_end();
}
END_TEST

START_TEST(parameters_are_bound_by_their_numbers)
{
	static const struct db_sql sql = { "of a test", "SELECT $3, $1, $2, $1" };
	struct db_query q;
	bool found;

	things_begin();
	for (int64_t i = 0; i < 3; i++) {
		db_query(&q, db, &sql);
		for (int64_t j = 1; j <= 3; j++)
			db_bind_int(&q, 10 * i + j);
		ck_assert_int_eq(db_next(&q, &found), OK);
		ck_assert(found);
		ck_assert_int_eq(db_int(&q, 0), 10 * i + 3);
		ck_assert_int_eq(db_int(&q, 1), 10 * i + 1);
		ck_assert_int_eq(db_int(&q, 2), 10 * i + 2);
		ck_assert_int_eq(db_int(&q, 3), 10 * i + 1);
		ck_assert_int_eq(db_next(&q, &found), OK);
		ck_assert(!found);
		db_done(&q);
		db_done(&q); /* does nothing */
	}
	things_end();
}
END_TEST

START_TEST(values_come_back_as_they_were)
{
	static const struct db_sql sql = { "of a test",
		"SELECT $1, $2, $3, $4, $5, $6, $7, typeof($3), typeof($4), typeof($7)" };
	static const char bytes[] = { 0, 'a', 0, (char)0xff, 0 };
	struct db_query q;
	const char *s;
	bool found;
	size_t n;

	things_begin();
	db_query(&q, db, &sql);
	db_bind_int(&q, INT64_MIN);
	db_bind_int(&q, INT64_MAX);
	db_bind_text(&q, "Åsa, behind", 4);
	db_bind_bytes(&q, bytes, sizeof(bytes));
	db_bind_null(&q);
	db_bind_text(&q, "", 0);
	db_bind_bytes(&q, NULL, 0);
	ck_assert_int_eq(db_next(&q, &found), OK);
	ck_assert_int_eq(db_int(&q, 0), INT64_MIN);
	ck_assert_int_eq(db_int(&q, 1), INT64_MAX);
	s = db_text(&q, 2, &n);
	ck_assert_uint_eq(n, 4);
	ck_assert_str_eq(s, "Åsa");
	s = db_text(&q, 3, &n);
	ck_assert_uint_eq(n, sizeof(bytes));
	ck_assert_mem_eq(s, bytes, n);
	ck_assert(db_is_null(&q, 4) && !db_is_null(&q, 5) && !db_is_null(&q, 6));
	ck_assert_int_eq(db_int(&q, 4), 0);
	for (int i = 4; i <= 6; i++) {
		ck_assert_str_eq(db_text(&q, i, &n), "");
		ck_assert_uint_eq(n, 0);
	}
	ck_assert_str_eq(db_text(&q, 7, &n), "text");
	ck_assert_str_eq(db_text(&q, 8, &n), "blob");
	ck_assert_str_eq(db_text(&q, 9, &n), "blob");
	db_done(&q);
	things_end();
}
END_TEST

START_TEST(rows_come_one_by_one_and_a_query_may_end_early)
{
	static const struct db_sql sql = { "of a test", "SELECT b FROM things ORDER BY b" };
	struct db_query q;
	bool found;

	things_begin();
	data_run("INSERT INTO things (b) VALUES (3), (1), (2)");
	for (int64_t rows = 0; rows <= 3; rows++) {
		db_query(&q, db, &sql);
		for (int64_t i = 1; i <= rows; i++) {
			ck_assert_int_eq(db_next(&q, &found), OK);
			ck_assert(found);
			ck_assert_int_eq(db_int(&q, 0), i);
		}
		db_done(&q);
	}
	things_end();
}
END_TEST

static const struct db_sql with_parameter = { "of a test", "SELECT $1" };
static const struct db_sql without = { "of a test", "SELECT 1" };

static void
use_a_statement_twice(void)
{
	struct db_query q, r;

	db_query(&q, db, &without);
	db_query(&r, db, &without);
}

static void
bind_too_many(void)
{
	struct db_query q;

	db_query(&q, db, &without);
	db_bind_int(&q, 1);
}

static void
bind_too_few(void)
{
	struct db_query q;
	bool found;

	db_query(&q, db, &with_parameter);
	(void)!db_next(&q, &found);
}

static void
run_for_rows(void)
{
	struct db_query q;

	db_query(&q, db, &without);
	(void)!db_run(&q);
}

START_TEST(misuse_of_a_statement_is_caught)
{
	things_begin();
	ck_assert(aborts(use_a_statement_twice));
	ck_assert(aborts(bind_too_many));
	ck_assert(aborts(bind_too_few));
	ck_assert(aborts(run_for_rows));
	things_end();
}
END_TEST

/* --- Transactions. */

START_TEST(a_reader_sees_commits_and_nothing_else)
{
	struct db *reader;

	things_begin();
	reader = reader_of(FILE_OF, &schema_1);
	ck_assert_int_eq(db_begin(db), OK);
	data_run("INSERT INTO things (b) VALUES (1)");
	ck_assert(db_in_transaction(db));
	ck_assert_int_eq(ask_in(reader, "SELECT count(*) FROM things"), 0);
	ck_assert_int_eq(db_commit(db), OK);
	ck_assert(!db_in_transaction(db));
	ck_assert_int_eq(ask_in(reader, "SELECT count(*) FROM things"), 1);
	ck_assert_int_eq(db_begin(db), OK);
	data_run("DELETE FROM things");
	db_rollback(db);
	db_rollback(db); /* does nothing */
	ck_assert_int_eq(data_ask("SELECT count(*) FROM things"), 1);
	db_close(reader);
	things_end();
}
END_TEST

START_TEST(a_snapshot_stays_while_others_write_and_checkpoint)
{
	struct db *reader;

	things_begin();
	reader = reader_of(FILE_OF, &schema_1);
	ck_assert_int_eq(db_begin(reader), OK);
	ck_assert_int_eq(ask_in(reader, "SELECT count(*) FROM things"), 0);
	for (int i = 0; i < 10; i++) {
		data_run("INSERT INTO things (b) VALUES (1)");
		ck_assert_int_gt(db_log_pages(db), 0);
		db_checkpoint(db);
		ck_assert_int_eq(ask_in(reader, "SELECT count(*) FROM things"), 0);
	}
	db_rollback(reader);
	ck_assert_int_eq(ask_in(reader, "SELECT count(*) FROM things"), 10);
	db_close(reader);
	things_end();
}
END_TEST

START_TEST(a_reader_cannot_change_anything)
{
	static const char *const cases[] = { "INSERT INTO things (b) VALUES (1)",
		"DELETE FROM things", "CREATE TABLE more (a)", "PRAGMA user_version = 5",
		"PRAGMA query_only = OFF; DELETE FROM things" };
	struct db *reader;

	things_begin();
	data_run("INSERT INTO things (b) VALUES (7)");
	reader = reader_of(FILE_OF, &schema_1);
	for (size_t i = 0; i < COUNT(cases); i++)
		ck_assert_msg(db_script(reader, cases[i]) != OK, "%s", cases[i]);
	ck_assert_int_eq(data_ask("SELECT b FROM things"), 7);
	ck_assert_int_eq(data_ask("PRAGMA user_version"), 1);
	db_close(reader);
	things_end();
}
END_TEST

START_TEST(a_reader_that_closes_last_leaves_the_log)
{
	struct db *reader;
	pid_t child;

	folder_begin();
	if ((child = fork()) == 0) {
		if (db_open(FILE_OF, DB_WRITE, &schema_1, &db) == OK &&
		    db_script(db, "INSERT INTO things (b) VALUES (7)") == OK)
			(void)raise(SIGKILL);
		_exit(1);
	}
	ck_assert_int_eq(waitpid(child, NULL, 0), child);
	reader = reader_of(FILE_OF, &schema_1);
	ck_assert_int_eq(ask_in(reader, "SELECT b FROM things"), 7);
	db_close(reader);
	ck_assert_int_eq(access(FILE_OF "-wal", F_OK), 0);
	ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_1, &db), OK);
	ck_assert_int_eq(data_ask("SELECT b FROM things"), 7);
	things_end();
}
END_TEST

START_TEST(a_touch_commits_and_changes_nothing)
{
	struct db *reader;
	int64_t before, pages;

	things_begin();
	data_run("INSERT INTO things (b) VALUES (7)");
	before = db_changes(db);
	pages = db_log_pages(db);
	ck_assert_int_eq(db_begin(db), OK);
	ck_assert_int_eq(db_touch(db), OK);
	ck_assert_int_gt(db_changes(db), before);
	ck_assert_int_eq(db_commit(db), OK);
	ck_assert_int_gt(db_log_pages(db), pages);
	reader = reader_of(FILE_OF, &schema_1);
	ck_assert_int_eq(ask_in(reader, "SELECT b FROM things"), 7);
	ck_assert_int_eq(ask_in(reader, "PRAGMA user_version"), 1);
	db_close(reader);
	things_end();
}
END_TEST

START_TEST(a_query_ends_at_its_deadline)
{
	static const char *const text = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1"
					" FROM n) SELECT count(*) FROM n";

	things_begin();
	db_deadline(db, clock_monotonic_us() + 10000);
	ck_assert_int_eq(run(text), ERR_BUSY);
	ck_assert_str_eq(err_words(), "this took too long");
	ck_assert_int_eq(run("SELECT 1"), OK); /* so short that nobody looks */
	db_deadline(db, clock_monotonic_us());
	ck_assert_int_eq(run(text), ERR_BUSY);
	db_deadline(db, 0);
	ck_assert_int_eq(run("WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n"
			     " LIMIT 100000) SELECT count(*) FROM n"),
	    OK);
	things_end();
}
END_TEST

/* --- Who may write. */

/* Another process, which is the writer until it is told otherwise. */
struct other {
	pid_t pid;
	int out; /* a byte here: close, and stay */
	int in; /* a byte from here: it is done */
};

static struct other
other_begin(void)
{
	struct other other;
	int there[2], back[2];
	char byte;

	ck_assert_int_eq(pipe(there), 0);
	ck_assert_int_eq(pipe(back), 0);
	if ((other.pid = fork()) == 0) {
		bool fine = db_open(FILE_OF, DB_WRITE, &schema_1, &db) == OK;

		(void)!write(back[1], fine ? "y" : "n", 1);
		(void)!read(there[0], &byte, 1);
		db_close(db);
		(void)!write(back[1], "y", 1);
		(void)pause();
		_exit(0);
	}
	other.out = there[1];
	other.in = back[0];
	ck_assert_int_eq(read(other.in, &byte, 1), 1);
	ck_assert_int_eq(byte, 'y');
	return other;
}

static void
other_end(const struct other *other)
{
	ck_assert_int_eq(kill(other->pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(other->pid, NULL, 0), other->pid);
}

START_TEST(there_is_one_writer_until_it_closes_or_dies)
{
	struct other other;
	struct db *second = NULL;
	char byte;

	folder_begin();
	for (int dies = 0; dies <= 1; dies++) {
		other = other_begin();
		ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_1, &db), ERR_BUSY);
		ck_assert_ptr_null(db);
		ck_assert_str_eq(err_words(), "another process writes the database");
		second = reader_of(FILE_OF, &schema_1); /* reading is free */
		db_close(second);
		if (dies) {
			other_end(&other);
		} else {
			ck_assert_int_eq(write(other.out, "x", 1), 1);
			ck_assert_int_eq(read(other.in, &byte, 1), 1);
		}
		ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_1, &db), OK);
		ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_1, &second), ERR_BUSY);
		db_close(db);
		if (!dies)
			other_end(&other);
	}
	db = NULL;
	things_end();
}
END_TEST

/* --- Migrations. */

static void
expect_versions(const struct db_schema *schema, enum err err, int has, int knows)
{
	int really_has = -1, really_knows = -1;

	ck_assert_int_eq(db_versions(FILE_OF, schema, &really_has, &really_knows), err);
	ck_assert_int_eq(really_has, has);
	ck_assert_int_eq(really_knows, knows);
}

START_TEST(a_database_is_brought_to_the_schema_that_is_known)
{
	static const struct {
		const struct db_schema *from;
		int has;
	} cases[] = { { NULL, 0 }, { &schema_0, 0 }, { &schema_1, 1 }, { &schema_2, 2 } };

	folder_begin();
	for (size_t i = 0; i < COUNT(cases); i++) {
		if (cases[i].from != NULL) {
			ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, cases[i].from, &db), OK);
			db_close(db);
		}
		expect_versions(&schema_2, OK, cases[i].has, 2);
		ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_2, &db), OK);
		ck_assert_int_eq(data_ask("SELECT count(*) FROM parts"), THINGS);
		db_close(db);
		expect_versions(&schema_2, OK, 2, 2);
		forget_file();
	}
	db = NULL;
	things_end();
}
END_TEST

START_TEST(a_database_that_is_gone_is_not_made_anew)
{
	struct db *again;

	things_begin();
	ck_assert(!db_is_lost(FILE_OF));
	ck_assert_int_eq(rename(FILE_OF, "db/elsewhere"), 0);
	ck_assert(db_is_lost(FILE_OF));
	/* Its writer says so, and is of no use any more. */
	ck_assert(!db_needs_new_process());
	ck_assert_int_eq(db_begin(db), ERR_BUSY);
	ck_assert_str_eq(err_words(), "the database is gone");
	ck_assert(!db_in_transaction(db));
	ck_assert(db_needs_new_process());
	db_close(db);
	ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_1, &db), ERR_BUSY);
	ck_assert_int_eq(access(FILE_OF, F_OK), -1);
	/* Put back, it is what it was; without its lock, there never was one. */
	ck_assert_int_eq(rename("db/elsewhere", FILE_OF), 0);
	ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_1, &again), OK);
	db_close(again);
	forget_file();
	ck_assert(!db_is_lost(FILE_OF));
	ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_1, &db), OK);
	db_close(db);
	forget_file();
	folder_end();
}
END_TEST

START_TEST(a_reader_waits_for_the_writer_to_migrate)
{
	static const struct db_schema *const lacking[] = { &schema_0, &schema_1 };

	folder_begin();
	ck_assert_int_eq(db_open(FILE_OF, DB_READ, &schema_2, &db), ERR_BUSY);
	ck_assert_int_ne(access(FILE_OF, F_OK), 0);
	put(FILE_OF, "", 0); /* as where the writer died early */
	ck_assert_int_eq(db_open(FILE_OF, DB_READ, &schema_2, &db), ERR_BUSY);
	for (size_t i = 0; i < COUNT(lacking); i++) {
		ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, lacking[i], &db), OK);
		db_close(db);
		ck_assert_int_eq(db_open(FILE_OF, DB_READ, &schema_2, &db), ERR_BUSY);
	}
	ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_2, &db), OK);
	db_close(db);
	ck_assert_int_eq(db_open(FILE_OF, DB_READ, &schema_2, &db), OK);
	things_end();
}
END_TEST

START_TEST(a_newer_database_and_a_foreign_one_are_refused_and_left_alone)
{
	static const struct {
		const struct db_schema *made, *opened;
		const char *words;
	} cases[] = {
		{ &schema_2, &schema_1, "schema 2; this program knows 1" },
		{ &schema_2, &schema_0, "schema 2; this program knows 0" },
		{ &schema_1, &schema_other, "no database of others" },
	};

	folder_begin();
	for (size_t i = 0; i < COUNT(cases); i++) {
		ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, cases[i].made, &db), OK);
		db_close(db);
		for (int mode = DB_READ; mode <= DB_WRITE; mode++) {
			ck_assert_int_eq(db_open(FILE_OF, (enum db_mode)mode, cases[i].opened, &db),
			    ERR_INTERNAL);
			ck_assert_msg(
			    strstr(err_words(), cases[i].words) != NULL, "%s", err_words());
		}
		ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, cases[i].made, &db), OK);
		db_close(db);
		forget_file();
	}
	db = NULL;
	things_end();
}
END_TEST

START_TEST(a_file_of_another_kind_is_refused_and_left_alone)
{
	static char text[8192], after[sizeof(text)];
	static const size_t sizes[] = { 2, 16, 99, 100, 512, 4096, sizeof(text) };
	int fd, has, knows;

	folder_begin();
	memset(text, 'x', sizeof(text));
	for (size_t i = 0; i < COUNT(sizes); i++) {
		put(FILE_OF, text, sizes[i]);
		for (int mode = DB_READ; mode <= DB_WRITE; mode++)
			ck_assert_msg(
			    db_open(FILE_OF, (enum db_mode)mode, &schema_1, &db) == ERR_INTERNAL,
			    "%zu bytes, mode %d: %s", sizes[i], mode, err_words());
		ck_assert_int_eq(db_versions(FILE_OF, &schema_1, &has, &knows), ERR_INTERNAL);
		ck_assert_int_ge(fd = open(FILE_OF, O_RDONLY | O_CLOEXEC), 0);
		ck_assert_int_eq(read(fd, after, sizeof(after)), (ssize_t)sizes[i]);
		ck_assert_mem_eq(text, after, sizes[i]);
		(void)close(fd);
		forget_file();
	}
	/* A database that is nobody's, but not empty. */
	ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_0, &db), OK);
	data_run("CREATE TABLE somebodys (a INTEGER) STRICT");
	db_close(db);
	ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_1, &db), ERR_INTERNAL);
	things_end();
}
END_TEST

START_TEST(a_link_is_not_followed)
{
	things_begin();
	db_close(db);
	ck_assert_int_eq(symlink("things.db", "db/link.db"), 0);
	for (int mode = DB_READ; mode <= DB_WRITE; mode++)
		ck_assert_int_ne(db_open("db/link.db", (enum db_mode)mode, &schema_1, &db), OK);
	(void)unlink("db/link.db");
	(void)unlink("db/link.db.lock");
	things_end();
}
END_TEST

START_TEST(a_migration_that_fails_leaves_the_schema_before_it)
{
	things_begin();
	data_run("INSERT INTO things (b) VALUES (7)");
	db_close(db);
	ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_bad, &db), ERR_INTERNAL);
	expect_versions(&schema_1, OK, 1, 1);
	ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_1, &db), OK);
	ck_assert_int_eq(data_ask("SELECT b FROM things"), 7);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM sqlite_schema WHERE name = 'parts'"), 0);
	things_end();
}
END_TEST

/* What is there is what the migrations up to HAS make. */
static void
expect_whole(int has)
{
	if (has > 0) {
		db = reader_of(FILE_OF, has == 1 ? &schema_1 : &schema_2);
		ck_assert_int_eq(data_ask("SELECT count(*) FROM things"), has == 1 ? 0 : THINGS);
		ck_assert_int_eq(data_ask("SELECT count(*) FROM sqlite_schema"), has == 1 ? 1 : 3);
		ck_assert_int_eq(db_verify(db), OK);
		db_close(db);
	}
	ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_2, &db), OK);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM parts"), THINGS);
	ck_assert_int_eq(db_verify(db), OK);
	db_close(db);
}

START_TEST(a_migration_that_is_killed_leaves_the_old_schema_or_the_new_one)
{
	int has, knows, seen[3] = { 0 };
	int64_t span_us;
	pid_t child;
	enum err err;

	folder_begin();
	span_us = clock_monotonic_us();
	expect_whole(0);
	span_us = clock_monotonic_us() - span_us;
	for (int i = 0; i < KILLS; i++) {
		forget_file();
		if ((child = fork()) == 0) {
			(void)!db_open(FILE_OF, DB_WRITE, &schema_2, &db);
			(void)pause();
			_exit(0);
		}
		pause_us(i * span_us / KILLS);
		ck_assert_int_eq(kill(child, SIGKILL), 0);
		ck_assert_int_eq(waitpid(child, NULL, 0), child);
		/* Where it was just being made, only a writer can tell. */
		if ((err = db_versions(FILE_OF, &schema_2, &has, &knows)) == ERR_BUSY)
			ck_assert_int_eq(access(FILE_OF "-journal", F_OK), 0);
		else
			ck_assert_int_eq(err, OK);
		ck_assert(has >= 0 && has <= 2);
		seen[has]++;
		expect_whole(has);
	}
	ck_assert_int_eq(seen[0] + seen[1] + seen[2], KILLS);
	db = NULL;
	things_end();
}
END_TEST

/* --- What the schema refuses. */

#define A_TYPE "INSERT INTO types (id, name, currency, version) VALUES (1, 'visit', 'SEK', 1);"
#define AN_EVENT \
	"INSERT INTO events (type_id, caregiver_id, start_time, month, amount_in_cents," \
	" created_at) VALUES "
#define A_SUM \
	"INSERT INTO sums (month, caregiver_id, reimbursed_cents, open_cents," \
	" reimbursed_events, open_events) VALUES "
#define AN_ACTOR "INSERT INTO audit_actors (id, name, salt, digest) VALUES "
#define AN_AUDIT "INSERT INTO audit (seq, at, actor, what, subject, chain) VALUES "

START_TEST(what_breaks_a_rule_of_the_schema_is_a_conflict_without_details)
{
	static const char *const cases[] = {
		"INSERT INTO types (name, currency, version) VALUES ('', 'SEK', 1)",
		"INSERT INTO types (name, currency, version) VALUES (zeroblob(3), 'SEK', 1)",
		"INSERT INTO types (name, currency, version) VALUES ('other', 'EUR', 1)",
		"INSERT INTO types (name, currency, version) VALUES ('other', 'SEK', 'one')",
		"INSERT INTO types (name, currency, version) VALUES ('other', 'SEK', NULL)",
		"INSERT INTO types (name, currency, version) VALUES ('visit', 'SEK', 1)",
		"INSERT INTO prices (type_id, valid_from, amount_in_cents, created_at)"
		" VALUES (2, 0, 1, 1)",
		"INSERT INTO prices (type_id, valid_from, amount_in_cents, created_at)"
		" VALUES (1, -1, 1, 1)",
		"INSERT INTO prices (type_id, valid_from, amount_in_cents, created_at)"
		" VALUES (1, 0, -1, 1)",
		"INSERT INTO prices (type_id, valid_from, amount_in_cents, created_at)"
		" VALUES (1, 0, 2147483648, 1)",
		AN_EVENT "(2, 1, 0, 0, 0, 0)",
		AN_EVENT "(1, 0, 0, 0, 0, 0)",
		AN_EVENT "(1, 1, -1, 0, 0, 0)",
		AN_EVENT "(1, 1, 0, 0, -1, 0)",
		AN_EVENT "(1, 1, 0, 0, 2147483648, 0)",
		AN_EVENT "(1, '12abc', 0, 0, 0, 0)",
		AN_EVENT "(1, 1.5, 0, 0, 0, 0)",
		A_SUM "(1, 1, -1, 0, 0, 0)",
		A_SUM "(1, 1, 0, -1, 0, 0)",
		A_SUM "(1, 1, 0, 0, -1, 0)",
		A_SUM "(1, 1, 0, 0, 0, -1)",
		A_SUM "(NULL, 1, 0, 0, 0, 0)",
		"DELETE FROM types",
		"UPDATE audit SET at = 2",
		"DELETE FROM audit",
		"DELETE FROM audit WHERE seq = 1",
		"INSERT OR REPLACE INTO audit (seq, at, actor, what, subject, chain)"
		" VALUES (1, 2, 1, 'b', 1, zeroblob(32))",
		"UPDATE OR REPLACE audit SET seq = 2",
		AN_AUDIT "(1, 1, 1, 'b', 1, zeroblob(32))",
		AN_AUDIT "(0, 1, 1, 'b', 1, zeroblob(32))",
		AN_AUDIT "(2, 1, 1, 'b', 1, zeroblob(31))",
		AN_ACTOR "(2, 'a', zeroblob(16), zeroblob(32))",
		AN_ACTOR "(2, 'b', NULL, zeroblob(32))",
		"UPDATE audit_actors SET name = 'nobody'",
		"UPDATE audit_actors SET name = NULL, salt = NULL, digest = randomblob(32)",
		"UPDATE audit_actors SET name = NULL, salt = NULL, id = 2",
		"DELETE FROM audit_actors",
	};

	data_begin();
	data_run(A_TYPE AN_ACTOR "(1, 'a', zeroblob(16), zeroblob(32));" AN_AUDIT
				 "(1, 1, 1, 'b', 1, zeroblob(32));" AN_EVENT "(1, 1, 0, 0, 0, 0)");
	for (size_t i = 0; i < COUNT(cases); i++) {
		err_clear();
		ck_assert_msg(db_script(db, cases[i]) == ERR_CONFLICT, "%s", cases[i]);
		ck_assert_str_eq(err_words(), "this conflicts with what is stored");
	}
	ck_assert_str_eq(
	    data_rows("SELECT at || name || what FROM audit JOIN audit_actors ON id = actor"),
	    "1ab\n");
	ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), 1);
	data_end();
}
END_TEST

START_TEST(an_id_is_not_given_twice)
{
	data_begin();
	data_run(A_TYPE AN_EVENT "(1, 1, 0, 0, 0, 0); DELETE FROM events;" AN_EVENT
				 "(1, 1, 0, 0, 0, 0)");
	ck_assert_int_eq(data_ask("SELECT id FROM events"), 2);
	data_end();
}
END_TEST

/* --- Settings. */

static void
expect_settings(struct db *of, const char *const (*settings)[2], size_t count)
{
	struct db *saved = db;

	db = of;
	for (size_t i = 0; i < count; i++) {
		const char *value = data_rows(settings[i][0]);

		ck_assert_msg(strcmp(value, settings[i][1]) == 0, "%s: %s", settings[i][0], value);
	}
	db = saved;
}

START_TEST(each_connection_has_the_settings_for_its_purpose)
{
	static const char *const common[][2] = { { "PRAGMA foreign_keys", "1\n" },
		{ "PRAGMA trusted_schema", "0\n" }, { "PRAGMA cell_size_check", "1\n" },
		{ "PRAGMA temp_store", "2\n" }, { "PRAGMA secure_delete", "1\n" },
		{ "PRAGMA busy_timeout", "5000\n" }, { "PRAGMA wal_autocheckpoint", "0\n" },
		{ "PRAGMA journal_mode", "wal\n" } };
	static const char *const writers[][2] = { { "PRAGMA synchronous", "2\n" },
		{ "PRAGMA query_only", "0\n" }, { "PRAGMA journal_size_limit", "67108864\n" } };
	static const char *const readers[][2] = { { "PRAGMA query_only", "1\n" } };
	struct db *reader;

	things_begin();
	reader = reader_of(FILE_OF, &schema_1);
	expect_settings(db, common, COUNT(common));
	expect_settings(db, writers, COUNT(writers));
	expect_settings(reader, common, COUNT(common));
	expect_settings(reader, readers, COUNT(readers));
	db_close(reader);
	things_end();
}
END_TEST

#define REPEAT8(s) s s s s s s s s

START_TEST(what_no_statement_of_ours_needs_is_refused)
{
	static const char *const cases[] = {
		"SELECT \"text\"",
		"SELECT * FROM things WHERE a = \"text\"",
		"ATTACH 'db/other.db' AS other",
		"SELECT load_extension('x')",
		"PRAGMA writable_schema = ON; DELETE FROM sqlite_schema",
		"SELECT randomblob(2000001)",
		"SELECT 'a' LIKE printf('%300c', 'a')",
		"SELECT 1" REPEAT8(" UNION ALL SELECT 1"),
		"SELECT ?65",
		"SELECT 1" REPEAT8(" + 1") REPEAT8(" + 1") REPEAT8(" + 1") REPEAT8(" + 1")
		    REPEAT8(" + 1") REPEAT8(" + 1") REPEAT8(" + 1") REPEAT8(" + 1"),
	};
	static char long_text[65600];

	things_begin();
	for (size_t i = 0; i < COUNT(cases); i++) {
		ck_assert_msg(db_script(db, cases[i]) == ERR_INTERNAL, "%s", cases[i]);
		db_rollback(db);
	}
	memset(long_text, ' ', sizeof(long_text) - 1);
	memcpy(long_text, "SELECT 1", 8);
	ck_assert_int_eq(db_script(db, long_text), ERR_INTERNAL);
	ck_assert_int_ne(access("db/other.db", F_OK), 0);
	things_end();
}
END_TEST

START_TEST(what_was_deleted_is_not_in_the_file_any_more)
{
	static char bytes[256 * 1024];
	ssize_t n;
	int fd;

	things_begin();
	data_run("INSERT INTO things (a) VALUES ('the name of a patient')");
	data_run("DELETE FROM things");
	db_close(db); /* the log goes with it */
	ck_assert_int_ne(access(FILE_OF "-wal", F_OK), 0);
	ck_assert_int_ge(fd = open(FILE_OF, O_RDONLY | O_CLOEXEC), 0);
	ck_assert_int_gt(n = read(fd, bytes, sizeof(bytes)), 0);
	ck_assert_ptr_null(memmem(bytes, (size_t)n, "patient", 7));
	(void)close(fd);
	db = NULL;
	things_end();
}
END_TEST

/* As nobody, in a folder that is its own, below one that it may not walk. */
static void
work_below(void)
{
	struct db *reader;

	if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
		_exit(2);
	if (access("../inside/db", F_OK) == 0 || db_open(FILE_OF, DB_WRITE, &schema_1, &db) != OK ||
	    db_script(db, "INSERT INTO things (b) VALUES (7)") != OK)
		_exit(3);
	db_checkpoint(db);
	if (db_open(FILE_OF, DB_READ, &schema_1, &reader) != OK)
		_exit(4);
	db_close(db);
	db_close(reader);
	_exit(db_open(FILE_OF, DB_WRITE, &schema_1, &db) == OK ? 0 : 5);
}

START_TEST(folders_above_need_not_be_walked)
{
	int status;
	pid_t child;

	folder_begin();
	ck_assert_int_eq(mkdir("above", 0700), 0);
	ck_assert_int_eq(mkdir("above/inside", 0700), 0);
	ck_assert_int_eq(mkdir("above/inside/db", 0700), 0);
	if (geteuid() == 0) {
		ck_assert_int_eq(chown("above/inside", 65534, 65534), 0);
		ck_assert_int_eq(chown("above/inside/db", 65534, 65534), 0);
	}
	if ((child = fork()) == 0) {
		if (chdir("above/inside") != 0 || chmod("..", 0) != 0)
			_exit(1);
		work_below();
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(chmod("above", 0700), 0);
	ck_assert_int_eq(chdir("above/inside"), 0);
	forget_file();
	ck_assert_int_eq(rmdir("db"), 0);
	ck_assert_int_eq(chdir("../.."), 0);
	ck_assert_int_eq(rmdir("above/inside"), 0);
	ck_assert_int_eq(rmdir("above"), 0);
	folder_end();
}
END_TEST

/* --- Whole databases. */

static atomic_bool stop;
static atomic_int transfers;
static int share_told;

/* Moves 1 from one thing to another, so that the sum is always the same. */
static void *
transfer(void *arg)
{
	struct db *writer = arg;
	uint64_t i = 0;

	while (!stop) {
		char text[160];

		i = (i * 7919 + 13) % PAIRS;
		(void)snprintf(text, sizeof(text),
		    "UPDATE things SET b = b - 1 WHERE id = %llu;"
		    "UPDATE things SET b = b + 1 WHERE id = %llu",
		    (unsigned long long)i + 1, (unsigned long long)(PAIRS - i));
		if (db_begin(writer) != OK || db_script(writer, text) != OK ||
		    db_commit(writer) != OK)
			return arg;
		if (++transfers % 16 == 0)
			db_checkpoint(writer);
	}
	return NULL;
}

static void
note_share(void *ctx, int share)
{
	int before = transfers;

	ck_assert_ptr_eq(ctx, &share_told);
	ck_assert_int_ge(share, share_told);
	ck_assert_int_le(share, 1000);
	share_told = share;
	while (transfers == before) /* so much for one at a time */
		pause_us(100);
}

/* Reads without a gap: each snapshot is followed by that of the other before it ends. */
static void *
read_without_gap(void *readers)
{
	struct db **both = readers;
	enum err err = db_begin(both[1]);

	for (size_t i = 0; !stop && err == OK; i = 1 - i) {
		if ((err = db_begin(both[i])) == OK)
			err = db_script(both[i], "SELECT count(*) FROM things");
		db_rollback(both[1 - i]);
		pause_us(500);
	}
	db_rollback(both[0]);
	db_rollback(both[1]);
	return err == OK ? NULL : readers;
}

START_TEST(a_log_begins_anew_while_there_is_always_a_reader)
{
	struct db *readers[2];
	int64_t written = 0;
	pthread_t thread;
	struct stat st;
	void *failed;

	things_begin();
	readers[0] = reader_of(FILE_OF, &schema_1);
	readers[1] = reader_of(FILE_OF, &schema_1);
	ck_assert_int_eq(pthread_create(&thread, NULL, read_without_gap, readers), 0);
	for (int i = 0; i < 50; i++) {
		data_run("INSERT INTO things (a) SELECT hex(zeroblob(50000))");
		written += db_log_pages(db);
		db_checkpoint(db);
	}
	stop = true;
	ck_assert_int_eq(pthread_join(thread, &failed), 0);
	ck_assert_ptr_null(failed);
	ck_assert_int_eq(stat(FILE_OF "-wal", &st), 0);
	ck_assert_msg(st.st_size / 4096 < written / 2, "%lld bytes of %lld pages",
	    (long long)st.st_size, (long long)written);
	db_close(readers[0]);
	db_close(readers[1]);
	things_end();
}
END_TEST

START_TEST(a_backup_is_one_state_while_others_write)
{
	struct db *reader, *writer;
	pthread_t thread;
	void *failed;

	things_begin();
	data_run("INSERT INTO things (a, b) WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL"
		 " SELECT i + 1 FROM n WHERE i < 3000) SELECT hex(randomblob(1000)), 100 FROM n");
	writer = db;
	reader = reader_of(FILE_OF, &schema_1);
	ck_assert_int_eq(pthread_create(&thread, NULL, transfer, writer), 0);
	ck_assert_int_eq(db_backup(reader, "db/copy.db", note_share, &share_told), OK);
	ck_assert_int_eq(share_told, 1000);
	stop = true;
	ck_assert_int_eq(pthread_join(thread, &failed), 0);
	ck_assert_ptr_null(failed);
	ck_assert(!db_in_transaction(reader));
	db_close(reader);
	ck_assert_int_ne(access("db/copy.db-wal", F_OK), 0);
	ck_assert_int_eq(db_open("db/copy.db", DB_WRITE, &schema_1, &db), OK);
	ck_assert_int_eq(data_ask("SELECT sum(b) FROM things"), PAIRS * 100);
	ck_assert_int_eq(db_verify(db), OK);
	db_close(db);
	(void)unlink("db/copy.db");
	(void)unlink("db/copy.db.lock");
	db = writer;
	things_end();
}
END_TEST

static void
ignore_share(void *ctx, int share)
{
	(void)ctx;
	(void)share;
}

/* --- Snapshots of several. */

#define OTHER_FILE "db/others.db"
#define ROUNDS 100

static const char *
add_thing(struct db *writer)
{
	return db_script(writer, "BEGIN IMMEDIATE; INSERT INTO things (b) VALUES (1); COMMIT") == OK
	    ? NULL
	    : err_words();
}

/* One into each of two databases in turn; in the first there is never more than one more. */
static void *
add_in_turn(void *writers)
{
	struct db **both = writers;
	const char *failed = NULL;

	for (size_t i = 0; !stop && failed == NULL; i = 1 - i) {
		failed = add_thing(both[i]);
		transfers++;
	}
	return (void *)(uintptr_t)failed;
}

static int64_t
things_of(struct db *reader)
{
	struct db *ours = db;
	int64_t n;

	db = reader;
	n = data_ask("SELECT count(*) FROM things");
	db = ours;
	return n;
}

static const char *const both_files[] = { FILE_OF, OTHER_FILE };

static void
begin_both(struct db *const readers[2])
{
	struct db_hold *hold;

	ck_assert_int_eq(
	    db_hold_all(both_files, 2, clock_monotonic_us() + 30 * CLOCK_SECOND_US, &hold), OK);
	ck_assert_int_eq(db_snapshot(readers[0]), OK);
	ck_assert_int_eq(db_snapshot(readers[1]), OK);
	db_release(hold);
}

START_TEST(snapshots_of_several_are_of_one_instant)
{
	struct db *writers[2], *readers[2];
	int64_t first, second;
	pthread_t thread;
	void *failed;

	things_begin();
	writers[0] = db;
	ck_assert_int_eq(db_open(OTHER_FILE, DB_WRITE, &schema_1, &writers[1]), OK);
	readers[0] = reader_of(FILE_OF, &schema_1);
	readers[1] = reader_of(OTHER_FILE, &schema_1);
	ck_assert_int_eq(pthread_create(&thread, NULL, add_in_turn, writers), 0);
	for (int i = 0; i < ROUNDS; i++) {
		begin_both(readers);
		second = things_of(readers[1]);
		first = things_of(readers[0]);
		ck_assert_msg(first == second || first == second + 1, "%lld and %lld",
		    (long long)first, (long long)second);
		for (int before = transfers; transfers == before;)
			pause_us(100);
		ck_assert_int_eq(things_of(readers[0]), first);
		db_rollback(readers[0]);
		db_rollback(readers[1]);
	}
	stop = true;
	ck_assert_int_eq(pthread_join(thread, &failed), 0);
	ck_assert_ptr_null(failed);
	db_close(readers[0]);
	db_close(readers[1]);
	db_close(writers[1]);
	things_end();
}
END_TEST

START_TEST(who_writes_for_too_long_is_not_waited_for_and_holds_up_nobody)
{
	const char *missing = "db/missing.db";
	struct db *other, *readers[2];
	struct db_hold *hold;

	things_begin();
	ck_assert_int_eq(db_open(OTHER_FILE, DB_WRITE, &schema_1, &other), OK);
	readers[0] = reader_of(FILE_OF, &schema_1);
	readers[1] = reader_of(OTHER_FILE, &schema_1);
	ck_assert_int_eq(db_begin(other), OK);
	ck_assert_int_eq(
	    db_hold_all(both_files, 2, clock_monotonic_us() + CLOCK_SECOND_US / 10, &hold),
	    ERR_BUSY);
	ck_assert_ptr_null(hold);
	data_run("INSERT INTO things (b) VALUES (1)");
	db_rollback(other);
	begin_both(readers);
	ck_assert_int_eq(things_of(readers[0]), 1);
	ck_assert_int_eq(db_hold_all(both_files, 0, 0, &hold), OK);
	db_release(hold);
	ck_assert_int_eq(db_hold_all(&missing, 1, 0, &hold), ERR_BUSY);
	ck_assert_str_eq(err_words(), "db/missing.db: the storage cannot be used now");
	db_close(readers[0]);
	db_close(readers[1]);
	db_close(other);
	things_end();
}
END_TEST

START_TEST(a_copy_of_a_snapshot_is_what_it_sees)
{
	struct db *reader;
	int64_t n;

	things_begin();
	reader = reader_of(FILE_OF, &schema_1);
	ck_assert_int_eq(db_snapshot(reader), OK);
	data_run("INSERT INTO things (b) VALUES (1)");
	ck_assert_int_eq(db_backup(reader, "db/copy.db", ignore_share, NULL), OK);
	ck_assert(db_in_transaction(reader));
	db_close(reader);
	reader = reader_of("db/copy.db", &schema_1);
	n = things_of(reader);
	ck_assert_int_eq(n, 0);
	db_close(reader);
	things_end();
}
END_TEST

START_TEST(a_backup_that_cannot_be_written_is_an_error)
{
	things_begin();
	ck_assert_int_eq(db_backup(db, "nowhere/copy.db", note_share, &share_told), ERR_BUSY);
	ck_assert(!db_in_transaction(db));
	data_run("INSERT INTO things (b) VALUES (1)");
	things_end();
}
END_TEST

/* Whether opening it, or looking at all of it, tells. */
static bool
is_damaged(void)
{
	enum err err = db_open(FILE_OF, DB_WRITE, &schema_2, &db);

	if (err == OK)
		err = db_verify(db);
	db_close(db);
	db = NULL;
	ck_assert(err == OK || err == ERR_INTERNAL);
	return err != OK;
}

START_TEST(verify_finds_damage_in_any_page)
{
	static const char zeros[64];
	char saved[sizeof(zeros)];
	int64_t pages, size;
	int fd;

	folder_begin();
	ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_2, &db), OK);
	pages = data_ask("PRAGMA page_count");
	size = data_ask("PRAGMA page_size");
	db_close(db);
	ck_assert_int_gt(pages, 20);
	ck_assert(!is_damaged());
	ck_assert_int_ge(fd = open(FILE_OF, O_RDWR | O_CLOEXEC), 0);
	for (int64_t page = 0; page < pages; page++) {
		off_t at = (off_t)(page * size) + (page == 0 ? 100 : 0);

		ck_assert_int_eq(pread(fd, saved, sizeof(saved), at), sizeof(saved));
		ck_assert_int_eq(pwrite(fd, zeros, sizeof(zeros), at), sizeof(zeros));
		ck_assert_msg(is_damaged(), "page %lld", (long long)page);
		ck_assert_int_eq(pwrite(fd, saved, sizeof(saved), at), sizeof(saved));
	}
	ck_assert(!is_damaged());
	(void)close(fd);
	things_end();
}
END_TEST

/* --- Readers. */

#define KEPT 32 /* at most */

START_TEST(a_reader_that_is_given_back_is_as_new)
{
	struct db_readers *readers;
	struct db *reader, *again, *others[KEPT], *both[2];
	size_t count = 0;

	things_begin();
	ck_assert_int_eq(db_readers_open(FILE_OF, &schema_1, &readers), OK);
	ck_assert_int_eq(db_borrow(readers, &reader), OK);
	ck_assert_int_eq(db_begin(reader), OK);
	ck_assert_int_eq(ask_in(reader, "SELECT count(*) FROM things"), 0);
	db_deadline(reader, 1);
	data_run("INSERT INTO things (b) VALUES (1)");
	db_return(readers, reader);
	db_return(readers, NULL);
	/* It comes when all others that are kept have had their turn. */
	for (;;) {
		ck_assert_int_eq(db_borrow(readers, &again), OK);
		if (again == reader)
			break;
		ck_assert_uint_lt(count, KEPT);
		others[count++] = again;
	}
	ck_assert(!db_in_transaction(again));
	ck_assert_int_eq(ask_in(again,
			     "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1"
			     " FROM n LIMIT 100000) SELECT count(*) FROM n, things"),
	    100000);
	ck_assert_int_eq(db_borrow(readers, &both[0]), OK);
	ck_assert_ptr_ne(both[0], again);
	db_return(readers, again);
	db_return(readers, both[0]);
	while (count > 0)
		db_return(readers, others[--count]);
	db_readers_close(readers);
	db_readers_close(NULL);
	things_end();
}
END_TEST

START_TEST(readers_are_at_hand_before_anybody_borrows_one)
{
	struct db_readers *readers;
	struct db *reader;

	things_begin();
	ck_assert_int_eq(db_readers_open(FILE_OF, &schema_1, &readers), OK);
	ck_assert_int_eq(rename(FILE_OF, FILE_OF ".away"), 0);
	ck_assert_int_eq(db_borrow(readers, &reader), OK);
	ck_assert_int_eq(ask_in(reader, "SELECT count(*) FROM things"), 0);
	db_return(readers, reader);
	ck_assert_int_eq(rename(FILE_OF ".away", FILE_OF), 0);
	db_readers_close(readers);
	things_end();
}
END_TEST

START_TEST(a_reader_is_borrowed_with_its_snapshot_and_deadline)
{
	struct db_readers *readers;
	struct db *reader;

	things_begin();
	ck_assert_int_eq(db_readers_open(FILE_OF, &schema_1, &readers), OK);
	ck_assert_int_eq(db_borrow_snapshot(readers, 0, &reader), OK);
	ck_assert(db_in_transaction(reader));
	ck_assert_int_eq(ask_in(reader, "SELECT count(*) FROM things"), 0);
	data_run("INSERT INTO things (b) VALUES (1)");
	ck_assert_int_eq(ask_in(reader, "SELECT count(*) FROM things"), 0);
	db_return(readers, reader);
	ck_assert_int_eq(db_borrow_snapshot(readers, 0, &reader), OK);
	ck_assert_int_eq(ask_in(reader, "SELECT count(*) FROM things"), 1);
	db_return(readers, reader);
	db_readers_close(readers);
	ck_assert_int_eq(db_readers_open("db/none.db", &schema_1, &readers), OK);
	ck_assert_int_eq(db_borrow_snapshot(readers, 0, &reader), ERR_BUSY);
	ck_assert_ptr_null(reader);
	db_readers_close(readers);
	things_end();
}
END_TEST

/* --- Nothing left. */

#define MARKS 4096
#define STEPS 6000
#define MARKED "replace(hex(zeroblob($2)), '00', '<m' || printf('%04d', $1) || '>')"

/* How many marks "<m0123>" of those not in KEPT a file has. */
static int
marks_in(const char *file, const bool kept[MARKS])
{
	static char bytes[16 * 1024 * 1024];
	bool seen[MARKS] = { false };
	FILE *in = fopen(file, "rb");
	size_t n = in == NULL ? 0 : fread(bytes, 1, sizeof(bytes), in);
	int count = 0;

	ck_assert_uint_lt(n, sizeof(bytes));
	if (in != NULL)
		(void)fclose(in);
	for (const char *at = bytes; at + 7 <= bytes + n; at++) {
		long mark = at[0] == '<' && at[1] == 'm' ? strtol(at + 2, NULL, 10) : 0;

		if (mark <= 0 || mark >= MARKS || kept[mark] || seen[mark])
			continue;
		seen[mark] = true;
		count++;
	}
	return count;
}

static void
put_marked(const char *statement, int64_t mark, int64_t repeated)
{
	struct db_query q;

	db_query(&q, db, data_sql(statement));
	db_bind_int(&q, mark);
	if (repeated > 0)
		db_bind_int(&q, repeated);
	ck_assert_int_eq(db_run(&q), OK);
}

/* Rows that come, grow, shrink and go, so that pages are split and merged. */
static void
live_and_die(bool kept[MARKS])
{
	int mark = 0;

	memset(kept, 0, MARKS * sizeof(kept[0]));
	ck_assert_int_eq(db_begin(db), OK);
	for (int step = 0; step < STEPS; step++) {
		int other = mark > 0 ? 1 + (int)drawn(mark) : 0;
		int64_t kind = drawn(10);

		if (step % 50 == 0) {
			ck_assert_int_eq(db_commit(db), OK);
			ck_assert_int_eq(db_begin(db), OK);
		}
		if (mark < MARKS - 1 && (kind < 5 || other == 0)) {
			kept[++mark] = true;
			put_marked("INSERT INTO things (id, a) VALUES ($1, " MARKED ")", mark,
			    1 + drawn(300));
		} else if (kind < 8) {
			put_marked("UPDATE things SET a = " MARKED " WHERE id = $1", other,
			    1 + drawn(300));
		} else {
			put_marked("DELETE FROM things WHERE id = $1", other, 0);
			kept[other] = false;
		}
	}
	ck_assert_int_eq(db_commit(db), OK);
}

START_TEST(nothing_deleted_is_in_the_files_once_they_are_written_anew_and_the_log_is_empty)
{
	static bool kept[MARKS];
	static const bool nobody[MARKS];
	struct stat st;
	int64_t rows;

	things_begin();
	live_and_die(kept);
	rows = data_ask("SELECT count(*) FROM things");
	ck_assert_int_gt(marks_in(FILE_OF "-wal", kept), 100);
	ck_assert_int_eq(db_empty_log(db), OK);
	ck_assert_int_eq(stat(FILE_OF "-wal", &st), 0);
	ck_assert_int_eq(st.st_size, 0);
	/* What a page gave to its neighbour stays in its gap: why deleting is not enough. */
	ck_assert_int_gt(marks_in(FILE_OF, kept), 0);
	ck_assert_int_eq(db_rewrite(db), OK);
	ck_assert_int_eq(db_empty_log(db), OK);
	ck_assert_int_eq(marks_in(FILE_OF, kept), 0);
	ck_assert_int_eq(marks_in(FILE_OF "-wal", kept), 0);
	ck_assert_int_eq(marks_in(FILE_OF, nobody), (int)rows);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM things"), rows);
	ck_assert_int_eq(db_verify(db), OK);
	ck_assert_str_eq(data_rows("PRAGMA temp_store"), "2\n");
	/* It goes on. */
	ck_assert_int_eq(db_log_pages(db), 0);
	data_run("INSERT INTO things (a) VALUES ('more')");
	ck_assert_int_gt(db_log_pages(db), 0);
	things_end();
}
END_TEST

START_TEST(a_log_is_not_emptied_under_who_reads_an_older_state)
{
	struct db *reader;

	things_begin();
	data_run("INSERT INTO things (a) VALUES ('one')");
	reader = reader_of(FILE_OF, &schema_1);
	ck_assert_int_eq(db_begin(reader), OK);
	ck_assert_int_eq(ask_in(reader, "SELECT count(*) FROM things"), 1);
	data_run("DELETE FROM things");
	ck_assert_int_eq(db_rewrite(db), OK);
	ck_assert_int_eq(db_empty_log(db), ERR_BUSY);
	ck_assert_str_eq(err_words(), "others read the database");
	ck_assert_int_eq(ask_in(reader, "SELECT count(*) FROM things"), 1);
	db_rollback(reader);
	ck_assert_int_eq(db_empty_log(db), OK);
	ck_assert_int_eq(ask_in(reader, "SELECT count(*) FROM things"), 0);
	db_close(reader);
	things_end();
}
END_TEST

START_TEST(more_readers_than_are_kept_can_be_borrowed)
{
	struct db_readers *readers;
	struct db *all[40];

	things_begin();
	ck_assert_int_eq(db_readers_open(FILE_OF, &schema_1, &readers), OK);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < COUNT(all); i++)
			ck_assert_int_eq(db_borrow(readers, &all[i]), OK);
		for (size_t i = 0; i < COUNT(all); i++)
			db_return(readers, all[i]);
	}
	db_readers_close(readers);
	things_end();
}
END_TEST

START_TEST(readers_of_a_database_that_is_not_there_yet_are_refused_until_it_is)
{
	struct db_readers *readers;
	struct db *reader;

	folder_begin();
	ck_assert_int_eq(db_readers_open(FILE_OF, &schema_1, &readers), OK);
	ck_assert_int_eq(db_borrow(readers, &reader), ERR_BUSY);
	ck_assert_ptr_null(reader);
	ck_assert_int_eq(db_open(FILE_OF, DB_WRITE, &schema_1, &db), OK);
	ck_assert_int_eq(db_borrow(readers, &reader), OK);
	db_return(readers, reader);
	db_readers_close(readers);
	things_end();
}
END_TEST

CHECK_MAIN(db_sqlite,
    { every_statement_prepares_and_has_its_parameters_numbered,
	every_statement_uses_an_index_and_none_sorts, every_list_uses_the_index_made_for_it,
	a_bad_statement_is_told_when_its_rows_are_asked_for, parameters_are_bound_by_their_numbers,
	values_come_back_as_they_were, rows_come_one_by_one_and_a_query_may_end_early,
	misuse_of_a_statement_is_caught, a_reader_sees_commits_and_nothing_else,
	a_snapshot_stays_while_others_write_and_checkpoint,
	a_log_begins_anew_while_there_is_always_a_reader, a_reader_cannot_change_anything,
	a_reader_that_closes_last_leaves_the_log, a_touch_commits_and_changes_nothing,
	a_query_ends_at_its_deadline, there_is_one_writer_until_it_closes_or_dies,
	a_database_is_brought_to_the_schema_that_is_known, a_database_that_is_gone_is_not_made_anew,
	a_reader_waits_for_the_writer_to_migrate,
	a_newer_database_and_a_foreign_one_are_refused_and_left_alone,
	a_file_of_another_kind_is_refused_and_left_alone, a_link_is_not_followed,
	a_migration_that_fails_leaves_the_schema_before_it,
	a_migration_that_is_killed_leaves_the_old_schema_or_the_new_one,
	what_breaks_a_rule_of_the_schema_is_a_conflict_without_details, an_id_is_not_given_twice,
	each_connection_has_the_settings_for_its_purpose,
	what_no_statement_of_ours_needs_is_refused, what_was_deleted_is_not_in_the_file_any_more,
	folders_above_need_not_be_walked, a_backup_is_one_state_while_others_write,
	a_backup_that_cannot_be_written_is_an_error, snapshots_of_several_are_of_one_instant,
	who_writes_for_too_long_is_not_waited_for_and_holds_up_nobody,
	a_copy_of_a_snapshot_is_what_it_sees, verify_finds_damage_in_any_page,
	a_reader_that_is_given_back_is_as_new, readers_are_at_hand_before_anybody_borrows_one,
	a_reader_is_borrowed_with_its_snapshot_and_deadline,
	nothing_deleted_is_in_the_files_once_they_are_written_anew_and_the_log_is_empty,
	a_log_is_not_emptied_under_who_reads_an_older_state,
	more_readers_than_are_kept_can_be_borrowed,
	readers_of_a_database_that_is_not_there_yet_are_refused_until_it_is })
