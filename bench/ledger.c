/*
 * ledger: our databases by libsqlite3 and as little else as possible: what our programs are held
 * against, and what fills the databases of the benchmarks.  Runs the statements of sql/.
 *
 *	ledger fill FILE EVENTS CAREGIVERS	makes FILE, or fills one that the service has made
 *	ledger insert FILE SECONDS CAREGIVERS	64 clients, one writer, shared commits, no HTTP
 *	ledger lines EVENTS CAREGIVERS		prints events for an import
 *	ledger import FILE EVENTS CAREGIVERS	inserts the same events in one transaction
 *	ledger report FILE			reads the sums of all months and caregivers
 *	ledger people FILE ACCOUNTS		fills a database of accounts that the service has
 *made
 *
 * insert writes events, or what --rows says: accounts, audios.
 *
 * Every command prints what it took in one line.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "lib/account.h"
#include "lib/audio.h"

#define SECOND_US INT64_C(1000000)
#define DAY_US (86400 * SECOND_US)
#define MONTHS 60 /* that have events; the last is the current one */
#define TYPES 8
#define BATCH 4096 /* events of an import between two writes of sums */
#define LATENCIES_MAX (1 << 20) /* of one client */

static struct {
	const char *sql;
	int page_size, cache_kib, checkpoint, clients;
	bool each, savepoints, audit;
	const char *without[8];
	int without_count;
} options = {
	.sql = "sql",
	.page_size = 4096,
	.cache_kib = 16384,
	.checkpoint = 8192,
	.clients = 64,
};

struct event {
	int64_t type_id, caregiver_id, start_us, month, amount, created_us, reimbursed_us;
};

struct sum {
	int64_t month, caregiver_id, reimbursed_cents, open_cents, reimbursed_events, open_events;
};

static int64_t type_ids[TYPES], amounts[TYPES];

static _Noreturn void
die(const char *what, sqlite3 *db)
{
	(void)fprintf(
	    stderr, "ledger: %s: %s\n", what, db != NULL ? sqlite3_errmsg(db) : strerror(errno));
	exit(EXIT_FAILURE);
}

static int64_t
now_us(clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t);
	return t.tv_sec * SECOND_US + t.tv_nsec / 1000;
}

static double
seconds_since(int64_t begin_us)
{
	return (double)(now_us(CLOCK_MONOTONIC) - begin_us) / 1e6;
}

/* xorshift64*: fast, and the same events for the same seed. */
static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717) >> 11;
}

/* year * 12 + month - 1, of UTC; no faster than it must be. */
static int64_t
month_of(int64_t us)
{
	static _Thread_local int64_t day = -1, month;
	time_t t = us / SECOND_US;
	struct tm tm;

	if (us / DAY_US != day) {
		(void)gmtime_r(&t, &tm);
		day = us / DAY_US;
		month = (tm.tm_year + INT64_C(1900)) * 12 + tm.tm_mon;
	}
	return month;
}

static int64_t
begin_of(int64_t month)
{
	struct tm tm = {
		.tm_year = (int)(month / 12) - 1900, .tm_mon = (int)(month % 12), .tm_mday = 1
	};

	return timegm(&tm) * SECOND_US;
}

/* --- the database */

static void
run(sqlite3 *db, const char *text)
{
	if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
		die(text, db);
}

/* The text of a file of sql/. */
static char *
text_of(const char *name)
{
	static char text[64 * 1024];
	char path[512];
	FILE *file;
	size_t n;

	(void)snprintf(path, sizeof(path), "%s/%s.sql", options.sql, name);
	file = fopen(path, "r");
	if (file == NULL)
		die(path, NULL);
	n = fread(text, 1, sizeof(text) - 1, file);
	text[n] = '\0';
	(void)fclose(file);
	return text;
}

static sqlite3_stmt *
prepare(sqlite3 *db, const char *name)
{
	sqlite3_stmt *statement;

	if (sqlite3_prepare_v3(db, text_of(name), -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL))
		die(name, db);
	return statement;
}

static sqlite3_stmt *
prepare_text(sqlite3 *db, const char *text)
{
	sqlite3_stmt *statement;

	if (sqlite3_prepare_v2(db, text, -1, &statement, NULL) != SQLITE_OK)
		die(text, db);
	return statement;
}

static void
bind_ints(sqlite3_stmt *s, const int64_t *values, int count)
{
	for (int i = 0; i < count; i++)
		(void)sqlite3_bind_int64(s, i + 1, values[i]);
}

static void
bind_text(sqlite3_stmt *s, int i, const char *text, int n)
{
	(void)sqlite3_bind_text(s, i, text, n, SQLITE_STATIC);
}

/* Its first value, or MISSING. */
static int64_t
finish(sqlite3_stmt *s, int64_t missing)
{
	int64_t value = missing;
	int result;

	while ((result = sqlite3_step(s)) == SQLITE_ROW)
		value = sqlite3_column_int64(s, 0);
	if (result != SQLITE_DONE)
		die(sqlite3_sql(s), sqlite3_db_handle(s));
	(void)sqlite3_reset(s);
	return value;
}

static int64_t
ask(sqlite3 *db, const char *text)
{
	sqlite3_stmt *s = prepare_text(db, text);
	int64_t value = finish(s, 0);

	(void)sqlite3_finalize(s);
	return value;
}

static void
set(sqlite3 *db, const char *pragma, int64_t value)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "PRAGMA %s = %" PRId64, pragma, value);
	run(db, text);
}

static sqlite3 *
open_file(const char *file)
{
	sqlite3 *db;

	if (sqlite3_open_v2(file, &db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
		NULL) != SQLITE_OK)
		die(file, db);
	set(db, "page_size", options.page_size);
	set(db, "cache_size", -options.cache_kib);
	return db;
}

/* The types that are there, and what they are paid now. */
static void
read_types(sqlite3 *db)
{
	sqlite3_stmt *s = prepare_text(db, "SELECT id FROM types ORDER BY id");
	sqlite3_stmt *price = prepare(db, "events/price_in_force");
	int count = 0;

	while (count < TYPES && sqlite3_step(s) == SQLITE_ROW)
		type_ids[count++] = sqlite3_column_int64(s, 0);
	if (count < TYPES)
		die("too few types", db);
	for (int i = 0; i < TYPES; i++) {
		bind_ints(price, (int64_t[]){ type_ids[i], now_us(CLOCK_REALTIME) }, 2);
		amounts[i] = finish(price, 0);
	}
	(void)sqlite3_finalize(price);
	(void)sqlite3_finalize(s);
}

static void
add_types(sqlite3 *db)
{
	sqlite3_stmt *type = prepare(db, "events/type_insert");
	sqlite3_stmt *price = prepare(db, "events/price_insert");
	char name[32];

	for (int i = 0; i < TYPES; i++) {
		(void)snprintf(name, sizeof(name), "Type %d of the benchmark", i + 1);
		bind_text(type, 1, name, -1);
		bind_text(type, 2, "SEK", -1);
		bind_ints(price,
		    (int64_t[]){ finish(type, i + 1), 0, 10000 + 2500 * i, now_us(CLOCK_REALTIME) },
		    4);
		(void)finish(price, 0);
	}
	(void)sqlite3_finalize(price);
	(void)sqlite3_finalize(type);
}

/* How many rows there are; there is an actor then. */
static int64_t
last_audit(sqlite3 *db)
{
	run(db,
	    "INSERT OR IGNORE INTO audit_actors (id, name, salt, digest) "
	    "VALUES (1, 'anonymous', zeroblob(16), zeroblob(32))");
	return ask(db, "SELECT coalesce(max(seq), 0) FROM audit");
}

/* A row as large as one of ours; not chained. */
static void
audit(sqlite3_stmt *s, int64_t at_us, int64_t event_id)
{
	static int64_t seq;

	if (seq == 0)
		seq = last_audit(sqlite3_db_handle(s));
	(void)sqlite3_bind_int64(s, 1, ++seq);
	(void)sqlite3_bind_int64(s, 2, at_us);
	(void)sqlite3_bind_int64(s, 3, 1);
	bind_text(s, 4, "event created", -1);
	(void)sqlite3_bind_int64(s, 5, event_id);
	(void)sqlite3_bind_null(s, 6);
	(void)sqlite3_bind_zeroblob(s, 7, 32);
	(void)finish(s, 0);
}

/* --- fill */

struct fill {
	int64_t events, caregivers, begin_us, step_us, first_month;
	uint64_t random;
	struct sum *sums; /* of each month and caregiver */
	sqlite3_stmt *insert, *audit;
};

static void
fill_event(struct fill *fill, int64_t i)
{
	uint64_t random = next_random(&fill->random), type = random % TYPES;
	int64_t start_us = fill->begin_us + i * fill->step_us,
		created_us = start_us + 600 * SECOND_US;
	int64_t month = month_of(start_us), caregiver = (int64_t)(random / 64) % fill->caregivers;
	bool paid = i < fill->events / 60 * 59 && random / 8 % 8 != 0;
	struct sum *sum = &fill->sums[(month - fill->first_month) * fill->caregivers + caregiver];

	bind_ints(fill->insert,
	    (int64_t[]){
		type_ids[type], caregiver + 1, start_us, month, amounts[type], created_us },
	    6);
	if (paid)
		(void)sqlite3_bind_int64(fill->insert, 7, created_us + 20 * DAY_US);
	else
		(void)sqlite3_bind_null(fill->insert, 7);
	audit(fill->audit, created_us, finish(fill->insert, 0));
	sum->month = month;
	sum->caregiver_id = caregiver + 1;
	*(paid ? &sum->reimbursed_cents : &sum->open_cents) += amounts[type];
	*(paid ? &sum->reimbursed_events : &sum->open_events) += 1;
}

static void
fill_sums(sqlite3 *db, const struct fill *fill)
{
	sqlite3_stmt *s = prepare(db, "events/sum_set");
	const struct sum *sum = fill->sums;

	for (int64_t i = 0; i < MONTHS * fill->caregivers; i++, sum++) {
		if (sum->caregiver_id == 0)
			continue;
		bind_ints(s,
		    (int64_t[]){ sum->month, sum->caregiver_id, sum->open_cents,
			sum->reimbursed_cents, sum->open_events, sum->reimbursed_events },
		    6);
		(void)finish(s, 0);
	}
	(void)sqlite3_finalize(s);
}

/* Events in the order of time, as if they had come one by one. */
static void
make_tables(sqlite3 *db)
{
	run(db, text_of("events/schema/0001_begin"));
	run(db, text_of("events/schema/0002_audit"));
	run(db, "DROP TABLE audit_before");
}

static void
fill(const char *file, int64_t events, int64_t caregivers)
{
	struct fill fill = { .events = events, .caregivers = caregivers, .random = 1 };
	sqlite3 *db = open_file(file);
	int64_t begin_us = now_us(CLOCK_MONOTONIC), now = now_us(CLOCK_REALTIME);

	set(db, "cache_size", -4 * 1024 * 1024);
	run(db,
	    "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; "
	    "PRAGMA locking_mode = EXCLUSIVE");
	if (ask(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'events'") == 0)
		make_tables(db);
	run(db, "BEGIN");
	if (ask(db, "SELECT count(*) FROM types") == 0)
		add_types(db);
	read_types(db);
	fill.first_month = month_of(now) - MONTHS + 1;
	fill.begin_us = begin_of(fill.first_month);
	fill.step_us = (now - fill.begin_us) / (events > 0 ? events : 1);
	fill.sums = calloc((size_t)(MONTHS * caregivers), sizeof(*fill.sums));
	fill.insert = prepare(db, "events/event_insert");
	fill.audit = prepare(db, "shared/audit_insert");
	if (fill.sums == NULL)
		die("sums", NULL);
	for (int64_t i = 0; i < events; i++)
		fill_event(&fill, i);
	fill_sums(db, &fill);
	run(db, "COMMIT; PRAGMA locking_mode = NORMAL; PRAGMA journal_mode = WAL");
	(void)sqlite3_finalize(fill.insert);
	(void)sqlite3_finalize(fill.audit);
	(void)sqlite3_close(db);
	sync();
	free(fill.sums);
	(void)printf("%" PRId64 " events in %.1f s\n", events, seconds_since(begin_us));
}

/* --- insert */

/* One client, and the event that it waits for. */
struct client {
	sem_t done;
	struct client *next;
	uint64_t random;
	int type;
	int64_t caregivers, caregiver_id, start_us;
	char key[37];
	unsigned char digest[32];
	uint32_t *latencies_us;
	int count;
};

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t filled;
	struct client *first, **last;
	atomic_bool stop;
	bool closed;
	int64_t transactions, changes, pages, checkpoints, checkpoint_max_us;
	int log_pages;
} queue = { .mutex = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER };

struct writer {
	sqlite3 *db;
	sqlite3_stmt *price, *insert, *sum, *audit, *find, *keep;
};

/* What is inserted: all that a POST of it does to the database. */
struct rows {
	const char *name;
	void (*open)(struct writer *w);
	void (*write)(const struct writer *w, const struct client *c);
};

static void *
client_main(void *arg)
{
	struct client *c = arg;
	uint64_t a, b;
	int64_t begin_us;

	while (!atomic_load(&queue.stop) && c->count < LATENCIES_MAX) {
		begin_us = now_us(CLOCK_MONOTONIC);
		a = next_random(&c->random);
		b = next_random(&c->random);
		c->type = (int)(a % TYPES);
		c->caregiver_id = (int64_t)(a / TYPES) % c->caregivers + 1;
		c->start_us = now_us(CLOCK_REALTIME) - (int64_t)(b % (uint64_t)DAY_US);
		(void)snprintf(c->key, sizeof(c->key), "%08x-%04x-4%03x-8%03x-%012" PRIx64,
		    (unsigned)a & 0xffffffff, (unsigned)(a >> 32) & 0xffff,
		    (unsigned)(b >> 48) & 0xfff, (unsigned)(a >> 48) & 0xfff,
		    b & UINT64_C(0xffffffffffff));
		memcpy(c->digest, &a, sizeof(a));
		memcpy(c->digest + 8, &b, sizeof(b));
		c->next = NULL;
		(void)pthread_mutex_lock(&queue.mutex);
		*queue.last = c;
		queue.last = &c->next;
		(void)pthread_cond_signal(&queue.filled);
		(void)pthread_mutex_unlock(&queue.mutex);
		while (sem_wait(&c->done) != 0)
			;
		c->latencies_us[c->count++] = (uint32_t)(now_us(CLOCK_MONOTONIC) - begin_us);
	}
	return NULL;
}

static void
keep_answer(const struct writer *w, const struct client *c, int64_t now, const char *location,
    const char *body, int n)
{
	bind_text(w->keep, 1, c->key, -1);
	(void)sqlite3_bind_blob(w->keep, 2, c->digest, sizeof(c->digest), SQLITE_STATIC);
	(void)sqlite3_bind_int64(w->keep, 3, now);
	(void)sqlite3_bind_int64(w->keep, 4, 201);
	bind_text(w->keep, 5, location, -1);
	bind_text(w->keep, 6, "\"0\"", -1);
	(void)sqlite3_bind_blob(w->keep, 7, body, n, SQLITE_STATIC);
	(void)finish(w->keep, 0);
}

static void
keep_event(const struct writer *w, const struct client *c, int64_t id, int64_t amount, int64_t now)
{
	char body[320], location[64];
	int n = snprintf(body, sizeof(body),
	    "{\"id\":%" PRId64 ",\"type_id\":%" PRId64 ",\"caregiver_id\":%" PRId64
	    ",\"start_time\":\"2026-11-21T04:18:58.000000Z\",\"amount_in_cents\":%" PRId64
	    ",\"currency\":\"SEK\","
	    "\"created_at\":\"2026-11-21T04:18:58.000000Z\",\"reimbursed\":false,"
	    "\"reimbursed_at\":null}",
	    id, type_ids[c->type], c->caregiver_id, amount);

	(void)snprintf(location, sizeof(location), "/api/events/%" PRId64, id);
	keep_answer(w, c, now, location, body, n);
}

static void
open_events(struct writer *w)
{
	read_types(w->db);
	w->price = prepare(w->db, "events/price_in_force");
	w->insert = prepare(w->db, "events/event_insert");
	w->sum = prepare(w->db, "events/sum_add");
	w->audit = prepare(w->db, "shared/audit_insert");
}

static void
write_event(const struct writer *w, const struct client *c)
{
	int64_t now = now_us(CLOCK_REALTIME), month = month_of(c->start_us), amount, id;

	bind_ints(w->price, (int64_t[]){ type_ids[c->type], c->start_us }, 2);
	amount = finish(w->price, 0);
	bind_ints(w->insert,
	    (int64_t[]){ type_ids[c->type], c->caregiver_id, c->start_us, month, amount, now }, 6);
	id = finish(w->insert, 0);
	bind_ints(w->sum, (int64_t[]){ month, c->caregiver_id, amount, 1 }, 4);
	(void)finish(w->sum, 0);
	audit(w->audit, now, id);
	keep_event(w, c, id, amount, now);
}

static void
open_accounts(struct writer *w)
{
	w->insert = prepare(w->db, "accounts/account_insert");
}

/* Its id. */
static int64_t
insert_account(sqlite3_stmt *s, const char *const texts[ACCOUNT_FIELDS], int64_t now)
{
	unsigned char digests[ACCOUNT_FIELDS][ACCOUNT_DIGEST_BYTES];

	for (int i = 0; i < ACCOUNT_FIELDS; i++) {
		account_digest(texts[i], strlen(texts[i]), digests[i]);
		bind_text(s, 1 + i, texts[i], -1);
		(void)sqlite3_bind_blob(
		    s, 1 + ACCOUNT_FIELDS + i, digests[i], ACCOUNT_DIGEST_BYTES, SQLITE_STATIC);
	}
	(void)sqlite3_bind_int64(s, 1 + 2 * ACCOUNT_FIELDS, now);
	return finish(s, 0);
}

static void
write_account(const struct writer *w, const struct client *c)
{
	char name[64], email[64], address[64], body[512], location[64];
	int64_t now = now_us(CLOCK_REALTIME), id;
	int n;

	(void)snprintf(name, sizeof(name), "Ada Berg %.8s", c->key);
	(void)snprintf(email, sizeof(email), "%s@example.com", c->key);
	(void)snprintf(address, sizeof(address), "Storgatan %.4s, 111 11 Stockholm", c->key + 9);
	id = insert_account(w->insert, (const char *[]){ name, email, address }, now);
	n = snprintf(body, sizeof(body),
	    "{\"id\":%" PRId64 ",\"name\":\"%s\",\"email\":\"%s\",\"address\":\"%s\","
	    "\"image_hosted_url\":null,\"created_at\":\"2026-11-21T04:18:58.000000Z\","
	    "\"updated_at\":\"2026-11-21T04:18:58.000000Z\"}",
	    id, name, email, address);
	(void)snprintf(location, sizeof(location), "/accounts/%" PRId64, id);
	keep_answer(w, c, now, location, body, n);
}

static void
open_audios(struct writer *w)
{
	w->insert = prepare(w->db, "audios/audio_insert");
}

static void
write_audio(const struct writer *w, const struct client *c)
{
	char body[640], location[64];
	int64_t now = now_us(CLOCK_REALTIME), values[5 + AUDIO_TICKS], session_id;
	uint64_t random;
	int n;

	memcpy(&random, c->digest, sizeof(random));
	session_id = (int64_t)random;
	memcpy(values, (int64_t[]){ session_id, (int64_t)(random % AUDIO_TICKS), 3, now, now },
	    5 * sizeof(*values));
	n = snprintf(body, sizeof(body), "{\"session_id\":%" PRId64 ",\"ticks\":[", session_id);
	for (int i = 0; i < AUDIO_TICKS; i++) {
		int64_t thousandths = -10000 - (int64_t)(next_random(&random) % 90001);

		values[5 + i] = thousandths * INT64_C(1000000000000);
		n += snprintf(body + n, sizeof(body) - (size_t)n, "%" PRId64 ".%03" PRId64 ",",
		    thousandths / 1000, -thousandths % 1000);
	}
	n += snprintf(body + n - 1, sizeof(body) - (size_t)n,
	    "],\"selected_tick\":%" PRId64 ",\"step_count\":3,"
	    "\"created_at\":\"2026-11-21T04:18:58.000000Z\","
	    "\"updated_at\":\"2026-11-21T04:18:58.000000Z\"}",
	    values[1]);
	bind_ints(w->insert, values, 5 + AUDIO_TICKS);
	(void)finish(w->insert, 0);
	(void)snprintf(location, sizeof(location), "/audios/%" PRId64, session_id);
	keep_answer(w, c, now, location, body, n - 1);
}

static const struct rows kinds[] = {
	{ "events", open_events, write_event },
	{ "accounts", open_accounts, write_account },
	{ "audios", open_audios, write_audio },
};

static const struct rows *inserted = &kinds[0];

/* Begins as every POST does: has it come before? */
static void
write_rows(const struct writer *w, const struct client *c)
{
	if (options.savepoints)
		run(w->db, "SAVEPOINT change");
	bind_text(w->find, 1, c->key, -1);
	(void)finish(w->find, 0);
	inserted->write(w, c);
	if (options.savepoints)
		run(w->db, "RELEASE change");
}

static int
log_grew(void *arg, sqlite3 *db, const char *name, int pages)
{
	(void)arg, (void)db, (void)name;
	queue.pages += pages > queue.log_pages ? pages - queue.log_pages : pages;
	queue.log_pages = pages;
	return SQLITE_OK;
}

static void
checkpoint(sqlite3 *db)
{
	int64_t begin_us = now_us(CLOCK_MONOTONIC), took_us;
	int result = sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);

	if (result != SQLITE_OK && result != SQLITE_BUSY && result != SQLITE_LOCKED)
		die("checkpoint", db);
	took_us = now_us(CLOCK_MONOTONIC) - begin_us;
	queue.log_pages = 0;
	queue.checkpoints++;
	if (took_us > queue.checkpoint_max_us)
		queue.checkpoint_max_us = took_us;
}

/* The first of all that wait, or of one; NULL in the end. */
static struct client *
take_clients(void)
{
	struct client *c;

	(void)pthread_mutex_lock(&queue.mutex);
	while (queue.first == NULL && !queue.closed)
		(void)pthread_cond_wait(&queue.filled, &queue.mutex);
	c = queue.first;
	if (c != NULL && options.each) {
		queue.first = c->next;
		c->next = NULL;
	} else {
		queue.first = NULL;
	}
	if (queue.first == NULL)
		queue.last = &queue.first;
	(void)pthread_mutex_unlock(&queue.mutex);
	return c;
}

static void *
writer_main(void *arg)
{
	struct writer *w = arg;
	struct client *first, *next;

	while ((first = take_clients()) != NULL) {
		run(w->db, "BEGIN IMMEDIATE");
		for (struct client *c = first; c != NULL; c = c->next) {
			write_rows(w, c);
			queue.changes++;
		}
		run(w->db, "COMMIT");
		queue.transactions++;
		for (struct client *c = first; c != NULL; c = next) {
			next = c->next; /* it is the client's again once it is told */
			(void)sem_post(&c->done);
		}
		if (queue.log_pages >= options.checkpoint)
			checkpoint(w->db);
	}
	return NULL;
}

static void
writer_open(struct writer *w, const char *file)
{
	char text[64];

	w->db = open_file(file);
	for (int i = 0; i < options.without_count; i++) {
		(void)snprintf(text, sizeof(text), "DROP INDEX %s", options.without[i]);
		run(w->db, text);
	}
	run(w->db,
	    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; "
	    "PRAGMA wal_checkpoint = TRUNCATE");
	(void)sqlite3_wal_hook(w->db, log_grew, NULL);
	inserted->open(w);
	w->find = prepare(w->db, "shared/answer_find");
	w->keep = prepare(w->db, "shared/answer_keep");
}

static void
start_client(struct client *c, pthread_t *thread, int i, int64_t caregivers)
{
	*c = (struct client){
		.random = (uint64_t)now_us(CLOCK_REALTIME) * 64 + (uint64_t)i,
		.caregivers = caregivers,
	};
	c->latencies_us = malloc(LATENCIES_MAX * sizeof(*c->latencies_us));
	if (c->latencies_us == NULL || sem_init(&c->done, 0, 0) != 0 ||
	    pthread_create(thread, NULL, client_main, c) != 0)
		die("client", NULL);
}

static int
compare(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void
print_insert(const struct client *clients, double seconds)
{
	uint32_t *all = malloc((size_t)queue.changes * sizeof(*all));
	double changes = (double)queue.changes, cpu_us;
	struct rusage usage;
	size_t n = 0;

	if (all == NULL)
		die("latencies", NULL);
	for (int i = 0; i < options.clients; i++) {
		memcpy(all + n, clients[i].latencies_us, (size_t)clients[i].count * sizeof(*all));
		n += (size_t)clients[i].count;
	}
	qsort(all, n, sizeof(*all), compare);
	(void)getrusage(RUSAGE_SELF, &usage);
	cpu_us = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
	    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
	(void)printf("%.0f rows/s, median %.2f ms, p99 %.2f, max %.1f, batch %.1f, "
		     "%.2f pages and %.1f us of CPU a change, %" PRId64
		     " checkpoints, at most %.1f ms\n",
	    changes / seconds, all[n / 2] / 1e3, all[n - 1 - n / 100] / 1e3, all[n - 1] / 1e3,
	    changes / (double)queue.transactions, (double)queue.pages / changes, cpu_us / changes,
	    queue.checkpoints, (double)queue.checkpoint_max_us / 1e3);
	free(all);
}

static void
insert(const char *file, int64_t seconds, int64_t caregivers)
{
	struct client *clients = calloc((size_t)options.clients, sizeof(*clients));
	pthread_t *threads = calloc((size_t)options.clients, sizeof(*threads));
	pthread_t writer_thread;
	struct writer writer;
	int64_t begin_us;

	if (clients == NULL || threads == NULL)
		die("clients", NULL);
	queue.last = &queue.first;
	writer_open(&writer, file);
	begin_us = now_us(CLOCK_MONOTONIC);
	if (pthread_create(&writer_thread, NULL, writer_main, &writer) != 0)
		die("writer", NULL);
	for (int i = 0; i < options.clients; i++)
		start_client(&clients[i], &threads[i], i + 1, caregivers);
	(void)sleep((unsigned)seconds);
	atomic_store(&queue.stop, true);
	for (int i = 0; i < options.clients; i++)
		(void)pthread_join(threads[i], NULL);
	print_insert(clients, seconds_since(begin_us));
	(void)pthread_mutex_lock(&queue.mutex);
	queue.closed = true;
	(void)pthread_cond_signal(&queue.filled);
	(void)pthread_mutex_unlock(&queue.mutex);
	(void)pthread_join(writer_thread, NULL);
	exit(EXIT_SUCCESS); /* without the checkpoint of a close */
}

/* --- lines, import */

/* The next event of an import: of the last 30 days. */
static void
next_event(uint64_t *random, int64_t now, int64_t caregivers, struct event *event, int *type)
{
	uint64_t a = next_random(random), b = next_random(random);

	*type = (int)(a % TYPES);
	event->caregiver_id = (int64_t)(a / TYPES) % caregivers + 1;
	event->start_us = now - (int64_t)(b % (uint64_t)(30 * DAY_US)) / SECOND_US * SECOND_US;
}

static void
lines(int64_t events, int64_t caregivers)
{
	uint64_t random = 2;
	int64_t now = now_us(CLOCK_REALTIME);
	struct event event;
	struct tm tm;
	time_t t;
	int type;

	for (int64_t i = 0; i < events; i++) {
		next_event(&random, now, caregivers, &event, &type);
		t = event.start_us / SECOND_US;
		(void)gmtime_r(&t, &tm);
		(void)printf("{\"type_id\":%d,\"caregiver_id\":%" PRId64
			     ",\"start_time\":\"%04d-%02d-%02dT%02d:%02d:%02dZ\"}\n",
		    type + 1, event.caregiver_id, tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
		    tm.tm_hour, tm.tm_min, tm.tm_sec);
	}
}

static int
compare_sums(const void *a, const void *b)
{
	const struct sum *x = a, *y = b;

	if (x->month != y->month)
		return x->month < y->month ? -1 : 1;
	return (x->caregiver_id > y->caregiver_id) - (x->caregiver_id < y->caregiver_id);
}

/* Adds up those of the same month and caregiver, and writes each once. */
static void
write_sums(sqlite3_stmt *s, struct sum *sums, size_t count)
{
	struct sum sum;

	qsort(sums, count, sizeof(*sums), compare_sums);
	for (size_t i = 0; i < count;) {
		sum = sums[i];
		while (++i < count && compare_sums(&sums[i], &sum) == 0) {
			sum.open_cents += sums[i].open_cents;
			sum.open_events += sums[i].open_events;
		}
		bind_ints(s,
		    (int64_t[]){ sum.month, sum.caregiver_id, sum.open_cents, sum.open_events }, 4);
		(void)finish(s, 0);
	}
}

static void
import(const char *file, int64_t events, int64_t caregivers)
{
	static struct sum sums[BATCH];
	sqlite3 *db = open_file(file);
	sqlite3_stmt *insert = prepare(db, "events/event_insert"),
		     *sum = prepare(db, "events/sum_add");
	sqlite3_stmt *audited = prepare(db, "shared/audit_insert");
	int64_t begin_us, now = now_us(CLOCK_REALTIME), month, id;
	uint64_t random = 2;
	size_t count = 0;
	struct event event;
	int type;

	run(db,
	    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0");
	read_types(db);
	begin_us = now_us(CLOCK_MONOTONIC);
	run(db, "BEGIN IMMEDIATE");
	for (int64_t i = 0; i < events; i++) {
		next_event(&random, now, caregivers, &event, &type);
		month = month_of(event.start_us);
		bind_ints(insert,
		    (int64_t[]){ type_ids[type], event.caregiver_id, event.start_us, month,
			amounts[type], now },
		    6);
		id = finish(insert, 0);
		if (options.audit)
			audit(audited, now, id);
		sums[count++] = (struct sum){ .month = month,
			.caregiver_id = event.caregiver_id,
			.open_cents = amounts[type],
			.open_events = 1 };
		if (count == BATCH || i + 1 == events) {
			write_sums(sum, sums, count);
			count = 0;
		}
	}
	run(db, "COMMIT");
	(void)printf("%" PRId64 " events in %.3f s\n", events, seconds_since(begin_us));
	exit(EXIT_SUCCESS); /* without the checkpoint of a close */
}

/* --- report */

static void
report(const char *file)
{
	sqlite3 *db = open_file(file);
	sqlite3_stmt *s = prepare(db, "events/report_sums");
	uint32_t took_us[9];
	int64_t begin_us, rows = 0, total = 0;

	for (size_t i = 0; i < 9; i++) {
		begin_us = now_us(CLOCK_MONOTONIC);
		bind_ints(s, (int64_t[]){ 0, 0, INT64_MAX }, 3);
		for (rows = 0; sqlite3_step(s) == SQLITE_ROW; rows++)
			for (int column = 0; column < 6; column++)
				total += sqlite3_column_int64(s, column);
		(void)sqlite3_reset(s);
		took_us[i] = (uint32_t)(now_us(CLOCK_MONOTONIC) - begin_us);
	}
	qsort(took_us, 9, sizeof(*took_us), compare);
	(void)printf("%" PRId64 " rows in %.6f s (%" PRId64 ")\n", rows, took_us[4] / 1e6, total);
	(void)sqlite3_finalize(s);
	(void)sqlite3_close(db);
}

/* --- people */

/* As if they had come one by one; several live at one address. */
static void
people(const char *file, int64_t accounts)
{
	sqlite3 *db = open_file(file);
	sqlite3_stmt *insert;
	char name[64], email[64], address[64];
	int64_t begin_us = now_us(CLOCK_MONOTONIC), now = now_us(CLOCK_REALTIME);

	set(db, "cache_size", -4 * 1024 * 1024);
	run(db,
	    "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; "
	    "PRAGMA locking_mode = EXCLUSIVE; BEGIN");
	insert = prepare(db, "accounts/account_insert");
	for (int64_t i = 1; i <= accounts; i++) {
		(void)snprintf(name, sizeof(name), "Ada Berg %08" PRId64, i);
		(void)snprintf(email, sizeof(email), "ada.berg.%" PRId64 "@example.com", i);
		(void)snprintf(
		    address, sizeof(address), "Storgatan %" PRId64 ", 111 11 Stockholm", i / 3);
		if (insert_account(insert, (const char *[]){ name, email, address }, now) != i)
			die("the database was not empty", NULL);
	}
	run(db, "COMMIT; PRAGMA locking_mode = NORMAL; PRAGMA journal_mode = WAL");
	(void)sqlite3_finalize(insert);
	(void)sqlite3_close(db);
	sync();
	(void)printf("%" PRId64 " accounts in %.1f s\n", accounts, seconds_since(begin_us));
}

/* --- the command line */

static const struct option known[] = {
	{ "sql", required_argument, NULL, 'q' },
	{ "page-size", required_argument, NULL, 'p' },
	{ "cache", required_argument, NULL, 'c' },
	{ "checkpoint", required_argument, NULL, 'k' },
	{ "clients", required_argument, NULL, 'n' },
	{ "without", required_argument, NULL, 'w' },
	{ "each", no_argument, NULL, 'e' },
	{ "savepoints", no_argument, NULL, 's' },
	{ "audit", no_argument, NULL, 'a' },
	{ "rows", required_argument, NULL, 'r' },
	{ NULL, 0, NULL, 0 },
};

static _Noreturn void
usage(void)
{
	(void)fprintf(stderr,
	    "usage: ledger fill|insert|import FILE N CAREGIVERS | lines N CAREGIVERS"
	    " | report FILE | people FILE N\n"
	    "\t[--sql DIR] [--page-size BYTES] [--cache KIB] [--checkpoint PAGES] [--clients N]\n"
	    "\t[--without INDEX]... [--each] [--savepoints] [--audit]\n"
	    "\t[--rows events|accounts|audios]\n");
	exit(2);
}

static const struct rows *
rows_named(const char *name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	usage();
}

static void
read_options(int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'q':
			options.sql = optarg;
			break;
		case 'p':
			options.page_size = atoi(optarg);
			break;
		case 'c':
			options.cache_kib = atoi(optarg);
			break;
		case 'k':
			options.checkpoint = atoi(optarg);
			break;
		case 'n':
			options.clients = atoi(optarg);
			break;
		case 'w':
			if (options.without_count == 8)
				usage();
			options.without[options.without_count++] = optarg;
			break;
		case 'e':
			options.each = true;
			break;
		case 's':
			options.savepoints = true;
			break;
		case 'a':
			options.audit = true;
			break;
		case 'r':
			inserted = rows_named(optarg);
			break;
		default:
			usage();
		}
	}
}

int
main(int argc, char **argv)
{
	const char *command, *file;

	(void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	read_options(argc, argv);
	argc -= optind;
	argv += optind;
	command = argc > 0 ? argv[0] : "";
	file = argc > 1 ? argv[1] : "";
	if (strcmp(command, "fill") == 0 && argc == 4)
		fill(file, atoll(argv[2]), atoll(argv[3]));
	else if (strcmp(command, "insert") == 0 && argc == 4)
		insert(file, atoll(argv[2]), atoll(argv[3]));
	else if (strcmp(command, "import") == 0 && argc == 4)
		import(file, atoll(argv[2]), atoll(argv[3]));
	else if (strcmp(command, "lines") == 0 && argc == 3)
		lines(atoll(argv[1]), atoll(argv[2]));
	else if (strcmp(command, "report") == 0 && argc == 2)
		report(file);
	else if (strcmp(command, "people") == 0 && argc == 3)
		people(file, atoll(argv[2]));
	else
		usage();
	return EXIT_SUCCESS;
}
