#include "data_set.h"

#include "lib/audit.h"
#include "lib/commit.h"

#define OPEN_ROWS "DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_deleted;"
#define OPEN_ACTORS \
	"DROP TRIGGER audit_actors_are_only_forgotten; DROP TRIGGER audit_actors_are_not_deleted;"

/* All texts of a row, the oldest first. */
#define ALL_ROWS \
	"SELECT seq || ' ' || at || ' ' || coalesce(name, '-') || ': ' || what || ' ' || subject " \
	"|| ' ' || coalesce(detail, '-') FROM audit JOIN audit_actors ON id = actor ORDER BY seq"

static void
add(const char *who, enum audit_what what, int64_t subject, const char *detail)
{
	const struct audit_actor by = { who, NOW_US + subject };

	ck_assert_msg(audit_add(db, &by, what, subject, detail) == OK, "%s", err_words());
}

/* Five rows by two actors. */
static void
add_five(void)
{
	add("anna", AUDIT_EVENT_CREATED, 1, NULL);
	add("bo@example.org", AUDIT_EVENT_REIMBURSED, 1, NULL);
	add("anna", AUDIT_EVENT_DELETED, 2, "{\"a\":1}");
	add("bo@example.org", AUDIT_TYPE_CREATED, 3, "");
	add("anna", AUDIT_SUMS_REPAIRED, 0, NULL);
}

static void
count_told(void *ctx, int64_t count)
{
	*(int64_t *)ctx = count;
}

static enum err
verify(const struct audit_head *known, struct audit_head *head)
{
	int64_t told = 0;
	enum err err;

	err_clear();
	err = audit_verify(db, known, count_told, &told, head);
	if (err == OK)
		ck_assert_int_eq(told, head->seq);
	return err;
}

static void
is_sound(int64_t rows)
{
	struct audit_head head, last;

	ck_assert_msg(verify(NULL, &head) == OK, "%s", err_words());
	ck_assert_int_eq(head.seq, rows);
	ck_assert_int_eq(audit_last(db, &last), OK);
	ck_assert_int_eq(last.seq, rows);
	ck_assert_mem_eq(last.chain, head.chain, DIGEST_BYTES);
}

START_TEST(rows_follow_one_another_without_a_gap_and_are_sound)
{
	data_begin();
	is_sound(0);
	add_five();
	ck_assert_str_eq(data_rows(ALL_ROWS),
	    "1 1800000000000001 anna: event created 1 -\n"
	    "2 1800000000000001 bo@example.org: event reimbursed 1 -\n"
	    "3 1800000000000002 anna: event deleted 2 {\"a\":1}\n"
	    "4 1800000000000003 bo@example.org: type created 3 \n"
	    "5 1800000000000000 anna: sums repaired 0 -\n");
	ck_assert_int_eq(data_ask("SELECT count(*) FROM audit_actors"), 2);
	is_sound(5);
	data_end();
}
END_TEST

START_TEST(a_row_that_was_undone_leaves_no_gap)
{
	data_begin();
	add("anna", AUDIT_EVENT_CREATED, 1, NULL);
	ck_assert_int_eq(db_begin(db), OK);
	add("bo", AUDIT_EVENT_CREATED, 2, NULL);
	add("bo", AUDIT_EVENT_CREATED, 3, NULL);
	db_rollback(db);
	add("cy", AUDIT_EVENT_CREATED, 4, NULL);
	ck_assert_str_eq(
	    data_rows("SELECT seq || ' ' || subject FROM audit ORDER BY seq"), "1 1\n2 4\n");
	is_sound(2);
	data_end();
}
END_TEST

START_TEST(a_connection_that_only_reads_adds_nothing)
{
	struct db *writer;

	data_begin();
	add_five();
	writer = db;
	ck_assert_int_eq(db_open(LEDGER_FILE, DB_READ, &ledger_schema, &db), OK);
	ck_assert_int_eq(audit_add(db, &actor, AUDIT_EVENT_CREATED, 1, NULL), ERR_BUSY);
	is_sound(5);
	db_close(db);
	db = writer;
	data_end();
}
END_TEST

START_TEST(whatever_is_changed_is_found_and_the_first_row_named)
{
	static const struct {
		const char *tamper, *words;
	} cases[] = {
		{ "UPDATE audit SET at = at + 1 WHERE seq = 2", "row 2 is not what was recorded" },
		{ "UPDATE audit SET actor = 1 WHERE seq = 4", "row 4 is not what was recorded" },
		{ "UPDATE audit SET what = 'event deleted' WHERE seq = 2",
		    "row 2 is not what was recorded" },
		{ "UPDATE audit SET what = what || char(0) WHERE seq = 2",
		    "row 2 is not what was recorded" },
		{ "UPDATE audit SET subject = 9 WHERE seq = 1", "row 1 is not what was recorded" },
		{ "UPDATE audit SET detail = '{\"a\":2}' WHERE seq = 3",
		    "row 3 is not what was recorded" },
		{ "UPDATE audit SET detail = NULL WHERE seq = 4",
		    "row 4 is not what was recorded" },
		{ "UPDATE audit SET detail = '' WHERE seq = 5", "row 5 is not what was recorded" },
		{ "UPDATE audit SET what = 'sums ', detail = 'repaired' WHERE seq = 5",
		    "row 5 is not what was recorded" },
		{ "UPDATE audit SET chain = zeroblob(32) WHERE seq = 5",
		    "row 5 is not what was recorded" },
		{ "UPDATE audit SET seq = 6 WHERE seq = 5", "row 5 is missing" },
		{ "DELETE FROM audit WHERE seq = 3", "row 3 is missing" },
		{ "DELETE FROM audit WHERE seq = 1", "row 1 is missing" },
		{ "DELETE FROM audit WHERE seq = 2; UPDATE audit SET seq = seq - 1 WHERE seq > 2",
		    "row 2 is not what was recorded" },
		{ "UPDATE audit SET seq = 9 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3;"
		  "UPDATE audit SET seq = 3 WHERE seq = 9",
		    "row 2 is not what was recorded" },
		{ "PRAGMA ignore_check_constraints = ON; UPDATE audit SET seq = 0 WHERE seq = 5",
		    "row 0 is before the first one" },
		{ "INSERT INTO audit SELECT 6, at, actor, what, subject, detail, chain FROM audit"
		  " WHERE seq = 5",
		    "row 6 is not what was recorded" },
		{ "UPDATE audit_actors SET name = 'eve' WHERE id = 2",
		    "the name of actor 2 is not what was recorded" },
		{ "UPDATE audit_actors SET salt = zeroblob(16) WHERE id = 1",
		    "the name of actor 1 is not what was recorded" },
		{ "UPDATE audit_actors SET name = NULL, salt = NULL WHERE id = 2",
		    "the name of actor 2 was removed, and no row says that it was erased" },
		{ "UPDATE audit_actors SET name = 'eve', salt = zeroblob(16),"
		  " digest = zeroblob(32) WHERE id = 2",
		    "row 2 is not what was recorded" },
		{ "DELETE FROM audit_actors WHERE id = 2", "row 2 has an actor who is not there" },
	};
	struct audit_head head;

	for (size_t i = 0; i < COUNT(cases); i++) {
		data_begin();
		add_five();
		data_run(OPEN_ROWS OPEN_ACTORS);
		is_sound(5);
		data_run(cases[i].tamper);
		ck_assert_msg(verify(NULL, &head) == ERR_CONFLICT, "%s", cases[i].tamper);
		ck_assert_str_eq(err_words(), cases[i].words);
		data_end();
	}
}
END_TEST

START_TEST(an_end_that_was_cut_off_or_made_anew_is_found_by_a_head_of_before)
{
	struct audit_head heads[6], head;

	data_begin();
	for (size_t i = 0; i < COUNT(heads); i++) {
		ck_assert_int_eq(audit_last(db, &heads[i]), OK);
		add("anna", AUDIT_EVENT_CREATED, (int64_t)i, NULL);
	}
	for (size_t i = 0; i < COUNT(heads); i++)
		ck_assert_msg(verify(&heads[i], &head) == OK, "%s", err_words());
	data_run(OPEN_ROWS "DELETE FROM audit WHERE seq > 4");
	is_sound(4);
	ck_assert_int_eq(verify(&heads[4], &head), OK);
	ck_assert_int_eq(verify(&heads[5], &head), ERR_CONFLICT);
	ck_assert_str_eq(err_words(),
	    "the end was cut off: row 4 is the last one, and the head that was given is row 5");
	add("eve", AUDIT_EVENT_CREATED, 5, NULL);
	is_sound(5);
	ck_assert_int_eq(verify(&heads[4], &head), OK);
	ck_assert_int_eq(verify(&heads[5], &head), ERR_CONFLICT);
	ck_assert_str_eq(err_words(), "row 5 is another one than that of the head that was given");
	data_end();
}
END_TEST

START_TEST(a_name_that_is_erased_is_gone_and_the_chain_is_right_all_the_same)
{
	static const char email[] = "bo@example.org";

	data_begin();
	add_five();
	add("bo@EXAMPLE.org", AUDIT_EVENT_CREATED, 7, NULL);
	add("bo", AUDIT_EVENT_CREATED, 8, NULL);
	ck_assert_int_eq(audit_forget(db, &actor, email, strlen(email)), OK);
	is_sound(9);
	ck_assert_str_eq(data_rows("SELECT name FROM audit_actors WHERE name IS NOT NULL"),
	    "anna\nbo\ntester\n");
	ck_assert_int_eq(data_ask("SELECT count(*) FROM audit_actors WHERE salt IS NULL"), 2);
	ck_assert_str_eq(data_rows("SELECT what || ' ' || subject FROM audit WHERE seq > 7"),
	    "actor erased 2\nactor erased 3\n");
	/* Who comes again is somebody new. */
	add(email, AUDIT_EVENT_CREATED, 9, NULL);
	ck_assert_int_eq(data_ask("SELECT actor FROM audit WHERE seq = 10"), 6);
	ck_assert_int_eq(audit_forget(db, &actor, "cy@example.org", 14), OK);
	is_sound(10);
	data_end();
}
END_TEST

START_TEST(the_same_name_has_another_digest_in_another_database)
{
	unsigned char first[DIGEST_BYTES];
	struct audit_head head;

	for (int i = 0; i < 2; i++) {
		data_begin();
		add("anna", AUDIT_EVENT_CREATED, 1, NULL);
		ck_assert_int_eq(audit_last(db, &head), OK);
		if (i == 0)
			memcpy(first, head.chain, sizeof(first));
		else
			ck_assert_mem_ne(first, head.chain, sizeof(first));
		data_end();
	}
}
END_TEST

/* --- A ledger of before. */

static void
begin_before(void)
{
	static struct embedded first[2];
	struct db_schema schema = ledger_schema;

	first[0] = sql_events_schema[0];
	schema.migrations = first;
	schema.migrated = NULL;
	folder_begin();
	ck_assert_int_eq(db_open(LEDGER_FILE, DB_WRITE, &schema, &db), OK);
	data_run(
	    "INSERT INTO audit (at, who, what, subject, detail) VALUES"
	    " (5, 'anna', 'type created', 1, '{\"a\":1}'), (6, 'bo', 'event created', 1, NULL),"
	    " (7, 'anna', 'event reimbursed', 1, NULL)");
}

START_TEST(rows_of_before_there_was_a_chain_get_into_it)
{
	char epoch[64];

	begin_before();
	(void)snprintf(epoch, sizeof(epoch), "%s", data_rows("SELECT epoch FROM origin"));
	db_close(db);
	data_open();
	ck_assert_str_eq(data_rows(ALL_ROWS),
	    "1 5 anna: type created 1 {\"a\":1}\n2 6 bo: event created 1 -\n"
	    "3 7 anna: event reimbursed 1 -\n");
	is_sound(3);
	ck_assert_str_eq(data_rows("SELECT name FROM sqlite_schema WHERE name LIKE '%before'"), "");
	ck_assert_str_ne(data_rows("SELECT epoch FROM origin"), epoch);
	add("cy", AUDIT_EVENT_CREATED, 4, NULL);
	is_sound(4);
	data_end();
}
END_TEST

static enum err
stop_after_all(struct db *writer, int version)
{
	ck_assert_int_eq(version, 2);
	ck_assert_int_eq(audit_adopt(writer), OK);
	return fail(ERR_BUSY, "as if the disk were full");
}

START_TEST(a_migration_that_does_not_end_leaves_all_as_it_was)
{
	struct db_schema broken = ledger_schema;

	begin_before();
	db_close(db);
	broken.migrated = stop_after_all;
	ck_assert_int_eq(db_open(LEDGER_FILE, DB_WRITE, &broken, &db), ERR_BUSY);
	data_open();
	is_sound(3);
	data_end();
}
END_TEST

/* --- Reads. */

static struct request
request_of(const char *who)
{
	return (struct request){ .who = who };
}

START_TEST(a_read_is_recorded_unless_nobody_is_to_be_named)
{
	static const int64_t ids[] = { 3, INT64_MAX, 7 };
	static struct request req;
	struct commit *commit;

	data_begin();
	db_close(db);
	ck_assert_int_eq(commit_open(LEDGER_FILE, &ledger_schema, &commit), OK);
	req = request_of("anna");
	ck_assert_int_eq(audit_read(commit, &req, AUDIT_ACCOUNT_READ, 7), OK);
	ck_assert_int_eq(audit_read_list(commit, &req, AUDIT_ACCOUNTS_LISTED, ids, 3), OK);
	ck_assert_int_eq(audit_read_list(commit, &req, AUDIT_SESSIONS_LISTED, NULL, 0), OK);
	req = request_of(WHO_ANYONE);
	ck_assert_int_eq(audit_read(commit, &req, AUDIT_ACCOUNT_READ, 8), OK);
	ck_assert_int_eq(audit_read_list(commit, &req, AUDIT_ACCOUNTS_LISTED, ids, 3), OK);
	commit_close(commit);
	data_open();
	ck_assert_str_eq(
	    data_rows("SELECT what || ' ' || subject || ' ' || coalesce(detail, '-') FROM audit"
		      " ORDER BY seq"),
	    "account read 7 -\naccounts listed 0 {\"ids\":[3,9223372036854775807,7]}\n"
	    "sessions listed 0 {\"ids\":[]}\n");
	is_sound(3);
	data_end();
}
END_TEST

START_TEST(a_read_that_cannot_be_recorded_is_refused)
{
	static struct request req;
	struct commit *commit;

	data_begin(); /* the writer is another */
	ck_assert_int_eq(commit_open(LEDGER_FILE, &ledger_schema, &commit), OK);
	req = request_of("anna");
	ck_assert_int_eq(audit_read(commit, &req, AUDIT_ACCOUNT_READ, 7), ERR_BUSY);
	commit_close(commit);
	data_end();
}
END_TEST

/* --- The list. */

static enum err
note_seq(void *ctx, const struct audit_row *row)
{
	char *text = ctx;

	(void)sprintf(text + strlen(text), "%lld ", (long long)row->seq);
	return OK;
}

START_TEST(rows_are_found_by_whom_when_and_about_whom)
{
#define ANY INT64_MIN, INT64_MAX
	static const struct {
		struct audit_filter filter;
		int64_t most;
		const char *found;
	} cases[] = {
		{ { ANY, NULL, NULL, 0 }, 100, "8 7 6 5 4 3 2 1 " },
		{ { ANY, NULL, NULL, 0 }, 2, "8 7 " },
		{ { ANY, "anna", NULL, 0 }, 100, "6 4 3 1 " },
		{ { ANY, "nobody", NULL, 0 }, 100, "" },
		{ { ANY, NULL, "account", 7 }, 100, "3 2 1 " },
		{ { ANY, NULL, "account", 70 }, 100, "" },
		{ { ANY, NULL, "account", 8 }, 100, "2 " },
		{ { ANY, NULL, "account", 0 }, 100, "" },
		{ { ANY, NULL, "session", 7 }, 100, "4 " },
		{ { ANY, NULL, "session", 0 }, 100, "8 " },
		{ { ANY, NULL, "event", 7 }, 100, "5 " },
		{ { ANY, "bo", "account", 7 }, 100, "2 " },
		{ { NOW_US + 7, INT64_MAX, NULL, NULL, 0 }, 100, "5 4 3 1 " },
		{ { INT64_MIN, NOW_US + 7, NULL, NULL, 0 }, 100, "8 7 6 2 " },
	};
	char found[256];

	data_begin();
	add("anna", AUDIT_ACCOUNT_CREATED, 7, NULL);
	add("bo", AUDIT_ACCOUNTS_LISTED, 0, "{\"ids\":[1,7,8]}");
	add("anna", AUDIT_ACCOUNT_READ, 7, NULL);
	add("anna", AUDIT_SESSION_READ, 7, NULL);
	add("bo", AUDIT_EVENT_REIMBURSED, 7, NULL);
	add("anna", AUDIT_ACCOUNTS_LISTED, 0, "{\"ids\":[]}");
	add("bo", AUDIT_SESSIONS_LISTED, 0, "no json");
	add("bo", AUDIT_SESSION_DELETED, 0, NULL);
	for (size_t i = 0; i < COUNT(cases); i++) {
		found[0] = '\0';
		ck_assert_int_eq(
		    audit_list(db, &cases[i].filter, cases[i].most, note_seq, found), OK);
		ck_assert_str_eq(found, cases[i].found);
	}
	data_end();
}
END_TEST

#define MANY 25000 /* more than are read in one go */

START_TEST(a_long_chain_is_read_to_its_end)
{
	struct audit_head head;

	data_begin();
	ck_assert_int_eq(db_begin(db), OK);
	for (int64_t i = 0; i < MANY; i++)
		add("anna", AUDIT_EVENT_CREATED, i, NULL);
	ck_assert_int_eq(db_commit(db), OK);
	is_sound(MANY);
	data_run(OPEN_ROWS "UPDATE audit SET subject = 1 WHERE seq = 25000");
	ck_assert_int_eq(verify(NULL, &head), ERR_CONFLICT);
	ck_assert_str_eq(err_words(), "row 25000 is not what was recorded");
	data_end();
}
END_TEST

CHECK_MAIN(audit,
    { rows_follow_one_another_without_a_gap_and_are_sound, a_row_that_was_undone_leaves_no_gap,
	a_connection_that_only_reads_adds_nothing,
	whatever_is_changed_is_found_and_the_first_row_named,
	an_end_that_was_cut_off_or_made_anew_is_found_by_a_head_of_before,
	a_name_that_is_erased_is_gone_and_the_chain_is_right_all_the_same,
	the_same_name_has_another_digest_in_another_database,
	rows_of_before_there_was_a_chain_get_into_it,
	a_migration_that_does_not_end_leaves_all_as_it_was,
	a_read_is_recorded_unless_nobody_is_to_be_named, a_read_that_cannot_be_recorded_is_refused,
	rows_are_found_by_whom_when_and_about_whom, a_long_chain_is_read_to_its_end })
