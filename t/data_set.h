/*
 * data_set.h: the data set of events, in a folder of its own that is the working directory.
 *
 *	data_begin();
 *	...
 *	data_end();
 *
 * Between them DB is its writer.  Statements of a test's own are literals: data_ask(TEXT, ...).
 */
#ifndef CAREDESK_DATA_SET_H
#define CAREDESK_DATA_SET_H

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "lib/audio.h"
#include "lib/clock.h"
#include "lib/ledger.h"
#include "lib/tariff.h"
#include "sql.h"
#include "test.h"

#define NOW_US INT64_C(1800000000000000) /* 2027-01-15T08:00:00Z */
#define DAY_US (86400 * CLOCK_SECOND_US)
#define HOUR_US (3600 * CLOCK_SECOND_US)

static struct db *db;
static struct audit_actor actor = { "tester", NOW_US };
static char data_folder[32];

static inline void
data_open(void)
{
	ck_assert_msg(db_open(LEDGER_FILE, DB_WRITE, &ledger_schema, &db) == OK, "%s", err_words());
}

/* A folder with nothing but an empty "db"; in memory where that can be, as nothing here is about
 * disks. */
static inline void
folder_begin(void)
{
	ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr)); /* the log */
	(void)stpcpy(data_folder,
	    access("/dev/shm", W_OK) == 0 ? "/dev/shm/check_data.XXXXXX"
					  : "/tmp/check_data.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(data_folder));
	ck_assert_int_eq(chdir(data_folder), 0);
	ck_assert_int_eq(mkdir("db", 0700), 0);
}

static inline void
folder_end(void)
{
	DIR *files = opendir("db");
	const struct dirent *file;

	while (files != NULL && (file = readdir(files)) != NULL)
		(void)unlinkat(dirfd(files), file->d_name, 0);
	if (files != NULL)
		(void)closedir(files);
	(void)rmdir("db");
	ck_assert_int_eq(rmdir(data_folder), 0);
}

static inline void
data_begin(void)
{
	folder_begin();
	data_open();
}

static inline void
data_end(void)
{
	db_close(db);
	folder_end();
}

static inline void
data_run(const char *script)
{
	ck_assert_msg(db_script(db, script) == OK, "%s", script);
}

/* Statements stay where they are, as db.h asks. */
static inline const struct db_sql *
data_sql(const char *text)
{
	static struct db_sql known[64];
	size_t i = 0;

	while (i < COUNT(known) && known[i].text != NULL && strcmp(known[i].text, text) != 0)
		i++;
	ck_assert_uint_lt(i, COUNT(known));
	known[i] = (struct db_sql){ "of a test", text };
	return &known[i];
}

/* The first column of the only row of TEXT, which has the one parameter $1 or none. */
static inline int64_t
data_ask_of(const char *text, int64_t parameter)
{
	struct db_query q;
	int64_t value;
	bool found;

	db_query(&q, db, data_sql(text));
	if (strstr(text, "$1") != NULL)
		db_bind_int(&q, parameter);
	ck_assert_int_eq(db_next(&q, &found), OK);
	ck_assert_msg(found, "%s", text);
	value = db_int(&q, 0);
	db_done(&q);
	return value;
}

static inline int64_t
data_ask(const char *text)
{
	return data_ask_of(text, 0);
}

#define DATA_TEXT_MAX (64 * 1024)

/* The first column, a text, of all the rows of TEXT, each with a newline.  The next call overwrites
 * it. */
static inline const char *
data_rows(const char *text)
{
	static char all[DATA_TEXT_MAX];
	struct db_query q;
	size_t n, used = 0;
	bool found;

	db_query(&q, db, data_sql(text));
	all[0] = '\0';
	while (db_next(&q, &found) == OK && found) {
		const char *s = db_text(&q, 0, &n);

		ck_assert_uint_lt(used + n + 2, sizeof(all));
		used += (size_t)sprintf(all + used, "%s\n", s);
	}
	ck_assert_int_eq(q.err, OK);
	db_done(&q);
	return all;
}

/* The last row of the audit. */
static inline const char *
last_audit(void)
{
	return data_rows("SELECT at || ' ' || name || ': ' || what || ' ' || subject || ' ' || "
			 "coalesce(detail, '-') FROM audit JOIN audit_actors ON id = actor "
			 "ORDER BY seq DESC LIMIT 1");
}

static inline int64_t
audit_count(void)
{
	return data_ask("SELECT count(*) FROM audit");
}

static inline enum err
differs(void *ctx, const struct ledger_sum *stored, const struct ledger_sum *counted)
{
	(void)stored;
	(void)counted;
	++*(int *)ctx;
	return OK;
}

/* How many rows of the sums are not what a recount says. */
static inline int
wrong_sums(void)
{
	int wrong = 0;

	ck_assert_int_eq(ledger_recount(db, differs, &wrong), OK);
	return wrong;
}

/* A new type, of a name of its own. */
static inline struct tariff_type
add_type(int64_t cents)
{
	static int number;
	struct tariff_type type = { .amount_in_cents = cents, .currency = "SEK" };

	(void)snprintf(type.name, sizeof(type.name), "type %d", ++number);
	ck_assert_msg(tariff_add(db, &actor, &type) == OK, "%s", err_words());
	return type;
}

/* The price of TYPE_ID from FROM_US on. */
static inline void
set_price(int64_t type_id, int64_t from_us, int64_t cents)
{
	struct tariff_type type;

	ck_assert_int_eq(tariff_get(db, type_id, actor.now_us, &type), OK);
	ck_assert_msg(tariff_change(db, &actor, &type, cents, from_us) == OK, "%s", err_words());
}

static inline struct ledger_event
add_event(int64_t type_id, int64_t caregiver_id, int64_t start_us)
{
	struct ledger_event event = {
		.type_id = type_id, .caregiver_id = caregiver_id, .start_time_us = start_us
	};

	ck_assert_msg(ledger_event_add(db, &actor, &event) == OK, "%s", err_words());
	return event;
}

static inline int64_t
instant(const char *text)
{
	int64_t us = -1;

	ck_assert_msg(clock_parse(text, strlen(text), &us) == OK, "%s", text);
	return us;
}

/* Numbers below BOUND, the same in each run. */
static inline int64_t
drawn(int64_t bound)
{
	static uint64_t state = 88172645463325252u;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (int64_t)(state >> 1) % bound;
}

#endif
