/*
 * db by SQLite.  The settings are those that its own documents recommend for data from outside;
 * each is checked.  Debian's 3.40.1 can lose commits if one connection resets the log while another
 * checkpoints (fixed in 3.51.3): so one connection of one process, held by a lock on FILE.lock,
 * does all commits and all checkpoints.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/db.h"
#include "lib/log.h"

#define BUSY_TIMEOUT_MS 5000
/* The kernel holds the files; of our own, what lies above the leaves is enough. */
#define WRITER_CACHE_KIB 2048
#define READER_CACHE_KIB 256
#define MANY_CACHE_KIB 16384
#define READERS_TIMEOUT_MS 50
#define PROGRESS_STEPS 10000 /* between looks at the deadline */
#define BACKUP_PAGES 512
#define BUCKETS 64
#define PATH_SIZE 512
#define TEMP_FOLDER "db"

struct db_statement {
	const struct db_sql *sql;
	sqlite3_stmt *stmt;
	bool busy;
	int parameters;
	int map[DB_PARAMETERS_MAX]; /* of $1, $2, ... to SQLite's own numbers */
	struct db_statement *next;
};

struct db {
	sqlite3 *handle;
	int lock_fd;
	int log_pages, left_pages; /* in the log; of them, left there by the last checkpoint */
	int64_t touches; /* changes that SQLite does not count */
	int64_t until_us;
	int cache_kib;
	bool expects_many;
	struct db_statement *buckets[BUCKETS];
};

/* A file is named by the path that we give, relative to the working directory.  SQLite would make
 * it absolute and look at every folder on the way, and those above the data folder need not be ours
 * to walk. */
static sqlite3_vfs relative;

static int
keep_path(sqlite3_vfs *vfs, const char *path, int size, char *out)
{
	(void)vfs;
	return snprintf(out, (size_t)size, "%s", path) < size ? SQLITE_OK : SQLITE_CANTOPEN;
}

static void
prepare_library(void)
{
	sqlite3_vfs *standard;

	(void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); /* nobody asks, and it takes a lock */
	/* What a statement would undo by itself, should it fail: no more than its own few rows. */
	(void)sqlite3_config(SQLITE_CONFIG_STMTJRNL_SPILL, -1);
	/* The folder of the databases is the user's alone, which /tmp is not. */
	sqlite3_temp_directory = sqlite3_mprintf("%s", TEMP_FOLDER);
	if (sqlite3_initialize() != SQLITE_OK || (standard = sqlite3_vfs_find(NULL)) == NULL)
		return;
	relative = *standard;
	relative.zName = "relative";
	relative.xFullPathname = keep_path;
	(void)sqlite3_vfs_register(&relative, 0);
}

static void
need_library(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	(void)pthread_once(&once, prepare_library);
}

/* What SQLite says goes to the log, and what it means to the caller is returned. */
static enum err
failed(const struct db *db, int code, const char *what)
{
	int primary = code & 0xff;

	log_event(primary == SQLITE_BUSY || primary == SQLITE_INTERRUPT ? LOG_WARNING : LOG_ERROR,
	    "storage", "%s: SQLite %d (%s): %s", what, code, sqlite3_errstr(code),
	    db->handle != NULL ? sqlite3_errmsg(db->handle) : "");
	switch (primary) {
	case SQLITE_CONSTRAINT:
		return fail(ERR_CONFLICT, "this conflicts with what is stored");
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_FULL:
	case SQLITE_IOERR:
	case SQLITE_READONLY:
	case SQLITE_CANTOPEN:
	case SQLITE_NOMEM:
	case SQLITE_PROTOCOL:
	case SQLITE_PERM:
		return fail(ERR_BUSY, "the storage cannot be used now");
	case SQLITE_INTERRUPT:
		return fail(ERR_BUSY, "this took too long");
	case SQLITE_NOTADB:
		return fail(ERR_INTERNAL, "the file is no database");
	case SQLITE_CORRUPT:
		return fail(ERR_INTERNAL, "the database is damaged");
	default:
		return fail(ERR_INTERNAL, "%s: %s", what, sqlite3_errstr(code));
	}
}

static enum err
script(struct db *db, const char *text, const char *what)
{
	int code = sqlite3_exec(db->handle, text, NULL, NULL, NULL);

	return code == SQLITE_OK ? OK : failed(db, code, what);
}

enum err
db_script(struct db *db, const char *text)
{
	return script(db, text, "a script");
}

/* The first column of the first row of a statement of ours. */
static enum err
ask(struct db *db, const char *text, char *out, size_t room)
{
	sqlite3_stmt *stmt = NULL;
	const unsigned char *value;
	int code = sqlite3_prepare_v2(db->handle, text, -1, &stmt, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(stmt);
	out[0] = '\0';
	if (code == SQLITE_ROW) {
		value = sqlite3_column_text(stmt, 0);
		/* A number read as 0 for want of memory would be a version to migrate from. */
		if (value == NULL && sqlite3_column_type(stmt, 0) != SQLITE_NULL)
			code = SQLITE_NOMEM;
		(void)snprintf(out, room, "%s", value == NULL ? "" : (const char *)value);
	}
	(void)sqlite3_finalize(stmt);
	return code == SQLITE_ROW || code == SQLITE_DONE ? OK : failed(db, code, text);
}

static enum err
ask_int(struct db *db, const char *text, int64_t *value)
{
	char answer[32], *end;
	enum err err = ask(db, text, answer, sizeof(answer));

	*value = 0;
	for (end = answer; err == OK && *end >= '0' && *end <= '9'; end++)
		*value = *value * 10 + (*end - '0');
	return err;
}

/* --- Opening. */

struct setting {
	const char *name, *value, *reads; /* what asking for it then gives */
};

static const struct setting common_settings[] = {
	{ "foreign_keys", "ON", "1" },
	{ "trusted_schema", "OFF", "0" },
	{ "cell_size_check", "ON", "1" },
	{ "mmap_size", "0", "0" },
	{ "secure_delete", "ON", "1" },
	{ "recursive_triggers", "ON", "1" }, /* or INSERT OR REPLACE deletes unseen by them */
	{ "wal_autocheckpoint", "0", "0" }, /* we say when */
	{ 0 },
};

static const struct setting writer_settings[] = {
	{ "journal_mode", "WAL", "wal" },
	{ "synchronous", "FULL", "2" },
	{ "journal_size_limit", "67108864", "67108864" },
	{ 0 },
};

static const struct setting sort_in_memory[] = { { "temp_store", "MEMORY", "2" }, { 0 } };
static const struct setting sort_in_files[] = { { "temp_store", "FILE", "1" }, { 0 } };

static const struct setting reader_settings[] = {
	{ "query_only", "ON", "1" },
	{ 0 },
};

static enum err
set_all(struct db *db, const struct setting *settings)
{
	char text[96], answer[32];
	enum err err;

	for (; settings->name != NULL; settings++) {
		(void)snprintf(
		    text, sizeof(text), "PRAGMA %s = %s", settings->name, settings->value);
		if ((err = script(db, text, text)) != OK)
			return err;
		(void)snprintf(text, sizeof(text), "PRAGMA %s", settings->name);
		if ((err = ask(db, text, answer, sizeof(answer))) != OK)
			return err;
		/* A build without mmap has nothing to say of it. */
		if (answer[0] != '\0' && strcmp(answer, settings->reads) != 0)
			return fail(ERR_INTERNAL, "SQLite does not take %s = %s but %s",
			    settings->name, settings->value, answer);
	}
	return OK;
}

static enum err
configure(struct db *db)
{
	static const struct {
		int name, value;
	} configs[] = {
		{ SQLITE_DBCONFIG_DEFENSIVE, 1 },
		{ SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0 },
		{ SQLITE_DBCONFIG_DQS_DML, 0 },
		{ SQLITE_DBCONFIG_DQS_DDL, 0 },
		{ SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0 },
	}, limits[] = {
		{ SQLITE_LIMIT_LENGTH, 2000000 },
		{ SQLITE_LIMIT_SQL_LENGTH, 65536 },
		{ SQLITE_LIMIT_VARIABLE_NUMBER, 64 },
		{ SQLITE_LIMIT_ATTACHED, 0 },
		{ SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 256 },
		{ SQLITE_LIMIT_EXPR_DEPTH, 64 },
		{ SQLITE_LIMIT_COMPOUND_SELECT, 8 },
		{ SQLITE_LIMIT_TRIGGER_DEPTH, 4 },
		{ SQLITE_LIMIT_WORKER_THREADS, 0 },
	};
	int is;

	for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++)
		if (sqlite3_db_config(db->handle, configs[i].name, configs[i].value, &is) !=
			SQLITE_OK ||
		    is != configs[i].value)
			return fail(
			    ERR_INTERNAL, "SQLite does not take its setting %d", configs[i].name);
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		(void)sqlite3_limit(db->handle, limits[i].name, limits[i].value);
		if (sqlite3_limit(db->handle, limits[i].name, -1) > limits[i].value)
			return fail(
			    ERR_INTERNAL, "SQLite does not take its limit %d", limits[i].name);
	}
	return OK;
}

static int
count_log(void *ctx, sqlite3 *handle, const char *name, int pages)
{
	struct db *db = ctx;

	(void)handle;
	(void)name;
	db->log_pages = pages;
	if (pages < db->left_pages)
		db->left_pages = 0; /* it begins anew */
	return SQLITE_OK;
}

static int
look_at_deadline(void *ctx)
{
	const struct db *db = ctx;

	return db->until_us != 0 && clock_monotonic_us() > db->until_us;
}

static enum err
set_cache(struct db *db, int kib)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "PRAGMA cache_size = -%d", kib);
	return script(db, text, text);
}

static enum err
settle(struct db *db, enum db_mode mode, const struct db_schema *schema)
{
	enum err err;

	(void)sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
	sqlite3_progress_handler(db->handle, PROGRESS_STEPS, look_at_deadline, db);
	db->cache_kib = mode == DB_READ ? READER_CACHE_KIB : WRITER_CACHE_KIB;
	if ((err = configure(db)) != OK || (err = set_all(db, common_settings)) != OK ||
	    (err = set_all(db, schema->sorts_in_files ? sort_in_files : sort_in_memory)) != OK ||
	    (err = set_cache(db, db->cache_kib)) != OK)
		return err;
	if (mode == DB_READ)
		return set_all(db, reader_settings);
	/* SQLite makes do with reading, and would stay at that. */
	if (sqlite3_db_readonly(db->handle, "main") != 0)
		return failed(db, SQLITE_READONLY, "opening to write");
	(void)sqlite3_wal_hook(db->handle, count_log, db);
	return OK;
}

static int
migration_count(const struct db_schema *schema)
{
	int n = 0;

	while (schema->migrations[n].name != NULL)
		n++;
	return n;
}

/* Whether the file is ours, and how many migrations it has. */
static enum err
identify(struct db *db, const struct db_schema *schema, int *has)
{
	int64_t id, version, tables;
	enum err err;

	if ((err = ask_int(db, "PRAGMA application_id", &id)) != OK ||
	    (err = ask_int(db, "PRAGMA user_version", &version)) != OK ||
	    (err = ask_int(db, "SELECT count(*) FROM sqlite_schema", &tables)) != OK)
		return err;
	*has = (int)version;
	if (id != schema->id && (id != 0 || version != 0 || tables != 0))
		return fail(ERR_INTERNAL, "the file is no database of %s", schema->name);
	if (version > migration_count(schema))
		return fail(ERR_INTERNAL,
		    "the database of %s has schema %d; this program knows %d: it is too old",
		    schema->name, *has, migration_count(schema));
	return OK;
}

/* SQLite shares the log's index among the connections of a process as the first of them could open
 * it: to read only, where its file could not be written then. */
static atomic_bool needs_new_process;

bool
db_needs_new_process(void)
{
	return atomic_load(&needs_new_process);
}

/* Whether FILE can be written, rather than only opened so. */
static enum err
try_to_write(struct db *db, const char *file)
{
	char index[PATH_SIZE];
	int code = sqlite3_exec(db->handle, "BEGIN IMMEDIATE; ROLLBACK", NULL, NULL, NULL);

	if (code == SQLITE_OK)
		return OK;
	(void)snprintf(index, sizeof(index), "%s-shm", file);
	if ((code & 0xff) == SQLITE_READONLY && access(file, W_OK) == 0 && access(index, W_OK) == 0)
		atomic_store(&needs_new_process, true);
	return failed(db, code, "trying to write");
}

static enum err
make_ready(struct db *db, const char *file, const struct db_schema *schema)
{
	char text[96];
	int has = 0;
	enum err err = identify(db, schema, &has);

	/* These change the file: not before it is known to be ours. */
	if (err == OK && (err = set_all(db, writer_settings)) == OK)
		err = try_to_write(db, file);
	for (int i = has; err == OK && i < migration_count(schema); i++) {
		if ((err = db_begin(db)) != OK)
			return err;
		err = db_expect_many(db);
		(void)snprintf(text, sizeof(text),
		    "PRAGMA application_id = %d; PRAGMA user_version = %d", (int)schema->id, i + 1);
		if (err == OK)
			err = script(db, schema->migrations[i].text, schema->migrations[i].name);
		if (err == OK && schema->migrated != NULL)
			err = schema->migrated(db, i + 1);
		if (err == OK)
			err = script(db, text, text);
		if (err == OK)
			err = db_commit(db);
		if (err != OK)
			db_rollback(db);
		else
			log_event(LOG_INFO, "migrated", "%s to schema %d", schema->name, i + 1);
	}
	return err;
}

static enum err
open_handle(struct db *db, const char *file, enum db_mode mode, const struct db_schema *schema)
{
	int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | SQLITE_OPEN_NOFOLLOW;
	int code;

	need_library();
	flags |=
	    mode == DB_WRITE ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
	code = sqlite3_open_v2(file, &db->handle, flags, relative.zName);
	return code == SQLITE_OK ? settle(db, mode, schema) : failed(db, code, file);
}

bool
db_is_lost(const char *file)
{
	char lock[PATH_SIZE];
	struct stat st;

	(void)snprintf(lock, sizeof(lock), "%s.lock", file);
	return access(file, F_OK) != 0 && errno == ENOENT && lstat(lock, &st) == 0 &&
	    st.st_size > 0;
}

/* One process writes, as long as it holds this. */
static enum err
take_right(struct db *db, const char *file)
{
	char path[PATH_SIZE];

	(void)snprintf(path, sizeof(path), "%s.lock", file);
	db->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (db->lock_fd < 0) {
		log_event(LOG_ERROR, "storage", "%s: %m", path);
		return fail(ERR_BUSY, "the storage cannot be used now");
	}
	if (flock(db->lock_fd, LOCK_EX | LOCK_NB) != 0)
		return fail(ERR_BUSY, "another process writes the database");
	if (!db_is_lost(file))
		return OK;
	log_event(LOG_ERROR, "storage",
	    "%s: is gone; put it back (caredesk restore), or remove %s to begin without", file,
	    path);
	return fail(ERR_BUSY, "the database is gone");
}

/* From now on it is known that there was one. */
static void
mark_made(const struct db *db)
{
	static const char made[] = "made\n";
	struct stat st;

	if (fstat(db->lock_fd, &st) == 0 && st.st_size == 0 &&
	    pwrite(db->lock_fd, made, sizeof(made) - 1, 0) < 0)
		log_event(LOG_WARNING, "storage", "a lock cannot be written: %m");
}

enum err
db_open(const char *file, enum db_mode mode, const struct db_schema *schema, struct db **out)
{
	struct db *db = calloc(1, sizeof(*db));
	int has;
	enum err err = OK;

	*out = NULL;
	if (db == NULL)
		return fail(ERR_BUSY, "no memory for a connection");
	db->lock_fd = -1;
	if (mode == DB_READ && access(file, F_OK) != 0)
		err = fail(ERR_BUSY, "there is no database of %s yet", schema->name);
	if (mode == DB_WRITE)
		err = take_right(db, file);
	if (err == OK && (err = open_handle(db, file, mode, schema)) == OK) {
		if (mode == DB_WRITE) {
			if ((err = make_ready(db, file, schema)) == OK)
				mark_made(db);
		} else if ((err = identify(db, schema, &has)) == OK &&
		    has < migration_count(schema))
			err =
			    fail(ERR_BUSY, "the database of %s is not migrated yet", schema->name);
	}
	if (err != OK)
		db_close(db);
	else
		*out = db;
	return err;
}

void
db_close(struct db *db)
{
	struct db_statement *statement, *next;

	if (db == NULL)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		for (statement = db->buckets[i]; statement != NULL; statement = next) {
			next = statement->next;
			(void)sqlite3_finalize(statement->stmt);
			free(statement);
		}
	(void)sqlite3_close(db->handle);
	if (db->lock_fd >= 0)
		(void)close(db->lock_fd);
	free(db);
}

enum err
db_versions(const char *file, const struct db_schema *schema, int *has, int *knows)
{
	struct db db = { .lock_fd = -1 };
	enum err err;

	*has = 0;
	*knows = migration_count(schema);
	if (access(file, F_OK) != 0)
		return OK;
	if ((err = open_handle(&db, file, DB_READ, schema)) == OK)
		err = identify(&db, schema, has);
	(void)sqlite3_close(db.handle);
	return err;
}

/* --- Transactions. */

static bool
reads_only(const struct db *db)
{
	return sqlite3_db_readonly(db->handle, "main") == 1;
}

/* Readers begin and end with every request: what they say is prepared once. */
static enum err
control(struct db *db, const struct db_sql *sql)
{
	struct db_query q;

	db_query(&q, db, sql);
	return db_run(&q);
}

/* What is written to a file without its name would be lost. */
static enum err
check_place(struct db *db)
{
	int moved = 0;

	if (sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_HAS_MOVED, &moved) != SQLITE_OK ||
	    moved == 0)
		return OK;
	db_rollback(db);
	atomic_store(&needs_new_process, true);
	log_event(LOG_ERROR, "storage", "the database file was moved or removed");
	return fail(ERR_BUSY, "the database is gone");
}

enum err
db_begin(struct db *db)
{
	static const struct db_sql begin = { "begin", "BEGIN" };
	enum err err;

	if (reads_only(db))
		return control(db, &begin);
	err = script(db, "BEGIN IMMEDIATE", "begin");
	return err == OK ? check_place(db) : err;
}

enum err
db_expect_many(struct db *db)
{
	db->expects_many = true;
	return set_cache(db, MANY_CACHE_KIB);
}

static void
expect_few(struct db *db)
{
	if (db->expects_many && set_cache(db, db->cache_kib) == OK) {
		db->expects_many = false;
		(void)sqlite3_db_release_memory(db->handle);
	}
}

enum err
db_commit(struct db *db)
{
	enum err err = script(db, "COMMIT", "commit");

	if (err != OK)
		db_rollback(db);
	else
		expect_few(db);
	return err;
}

bool
db_in_transaction(const struct db *db)
{
	return sqlite3_get_autocommit(db->handle) == 0;
}

void
db_rollback(struct db *db)
{
	static const struct db_sql rollback = { "rollback", "ROLLBACK" };

	if (!db_in_transaction(db))
		; /* a failure has ended it */
	else if (reads_only(db))
		(void)control(db, &rollback);
	else
		(void)script(db, rollback.text, rollback.name);
	expect_few(db);
}

enum err
db_touch(struct db *db)
{
	char text[64];
	int64_t version;
	enum err err = ask_int(db, "PRAGMA user_version", &version);

	(void)snprintf(text, sizeof(text), "PRAGMA user_version = %d", (int)version);
	db->touches++;
	return err != OK ? err : script(db, text, text);
}

int64_t
db_changes(const struct db *db)
{
	return sqlite3_total_changes64(db->handle) + db->touches;
}

int64_t
db_log_pages(const struct db *db)
{
	/* What a reader keeps in the log is not tried again with every commit. */
	return db->log_pages > db->left_pages ? db->log_pages - db->left_pages : 0;
}

/* Waits for readers, a little: those that begin once all is in the file need no log, and when those
 * of before have ended the log begins anew, instead of growing as long as anybody reads. */
static int
checkpoint(struct db *db, int mode)
{
	int code;

	(void)sqlite3_busy_timeout(db->handle, READERS_TIMEOUT_MS);
	code = sqlite3_wal_checkpoint_v2(db->handle, "main", mode, NULL, NULL);
	(void)sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
	return code;
}

void
db_checkpoint(struct db *db)
{
	int code = checkpoint(db, SQLITE_CHECKPOINT_RESTART);

	if (code != SQLITE_OK && code != SQLITE_BUSY)
		(void)failed(db, code, "checkpoint");
	db->left_pages = db->log_pages;
}

enum err
db_rewrite(struct db *db)
{
	char text[64];
	int64_t store;
	enum err err = ask_int(db, "PRAGMA temp_store", &store);

	if (err != OK)
		return err;
	/* The copy is a database of its own for a while, and a large one is not to be in memory. */
	(void)snprintf(text, sizeof(text), "PRAGMA temp_store = %d", (int)store);
	(void)sqlite3_limit(db->handle, SQLITE_LIMIT_ATTACHED, 1);
	if ((err = script(db, "PRAGMA temp_store = FILE", "rewrite")) == OK)
		err = script(db, "VACUUM", "rewrite");
	(void)sqlite3_limit(db->handle, SQLITE_LIMIT_ATTACHED, 0);
	if (script(db, text, text) != OK && err == OK)
		err = fail(ERR_INTERNAL, "a setting cannot be put back");
	return err;
}

enum err
db_empty_log(struct db *db)
{
	int code = checkpoint(db, SQLITE_CHECKPOINT_TRUNCATE);

	if (code == SQLITE_BUSY)
		return fail(ERR_BUSY, "others read the database");
	if (code != SQLITE_OK)
		return failed(db, code, "emptying the log");
	db->log_pages = db->left_pages = 0;
	return OK;
}

void
db_deadline(struct db *db, int64_t until_us)
{
	db->until_us = until_us;
}

/* --- Queries. */

static enum err
prepare(struct db *db, struct db_statement *statement)
{
	char name[16];
	int code = sqlite3_prepare_v3(db->handle, statement->sql->text, -1,
	    SQLITE_PREPARE_PERSISTENT, &statement->stmt, NULL);

	if (code != SQLITE_OK)
		return failed(db, code, statement->sql->name);
	statement->parameters = sqlite3_bind_parameter_count(statement->stmt);
	assert(statement->parameters <= DB_PARAMETERS_MAX);
	for (int i = 0; i < statement->parameters; i++) {
		(void)snprintf(name, sizeof(name), "$%d", i + 1);
		statement->map[i] = sqlite3_bind_parameter_index(statement->stmt, name);
		if (statement->map[i] == 0)
			return fail(
			    ERR_INTERNAL, "%s: has no parameter %s", statement->sql->name, name);
	}
	return OK;
}

static enum err
find_statement(struct db *db, const struct db_sql *sql, struct db_statement **found)
{
	struct db_statement **bucket = &db->buckets[(uintptr_t)sql / sizeof(*sql) % BUCKETS];
	struct db_statement *statement = *bucket;
	enum err err;

	while (statement != NULL && statement->sql != sql)
		statement = statement->next;
	*found = statement;
	if (statement != NULL)
		return OK;
	if ((statement = calloc(1, sizeof(*statement))) == NULL)
		return fail(ERR_BUSY, "no memory for a statement");
	statement->sql = sql;
	if ((err = prepare(db, statement)) != OK) {
		(void)sqlite3_finalize(statement->stmt);
		free(statement);
		return err;
	}
	statement->next = *bucket;
	*bucket = *found = statement;
	return OK;
}

void
db_query(struct db_query *q, struct db *db, const struct db_sql *sql)
{
	q->db = db;
	q->bound = 0;
	q->statement = NULL;
	q->err = find_statement(db, sql, &q->statement);
	if (q->err != OK)
		return;
	assert(!q->statement->busy && "a statement is used twice at once");
	q->statement->busy = true;
}

/* SQLite's number of the next parameter; 0 after an error. */
static int
next_parameter(struct db_query *q)
{
	if (q->err != OK)
		return 0;
	assert(q->bound < q->statement->parameters && "a parameter too many");
	return q->statement->map[q->bound++];
}

static void
bound(struct db_query *q, int code)
{
	if (q->err == OK && code != SQLITE_OK)
		q->err = failed(q->db, code, q->statement->sql->name);
}

void
db_bind_int(struct db_query *q, int64_t value)
{
	int i = next_parameter(q);

	if (i > 0)
		bound(q, sqlite3_bind_int64(q->statement->stmt, i, value));
}

void
db_bind_ints(struct db_query *q, const int64_t *values, size_t count)
{
	sqlite3_str *list = sqlite3_str_new(NULL);
	int i = next_parameter(q), n;
	char *text;

	for (size_t k = 0; k < count; k++)
		sqlite3_str_appendf(list, "%c%lld", k == 0 ? '[' : ',', (long long)values[k]);
	sqlite3_str_appendall(list, count == 0 ? "[]" : "]");
	n = sqlite3_str_length(list);
	text = sqlite3_str_finish(list);
	if (i == 0)
		sqlite3_free(text);
	else
		bound(q,
		    text == NULL ? SQLITE_NOMEM
				 : sqlite3_bind_text64(q->statement->stmt, i, text,
				       (sqlite3_uint64)n, sqlite3_free, SQLITE_UTF8));
}

void
db_bind_text(struct db_query *q, const char *s, size_t n)
{
	int i = next_parameter(q);

	if (i > 0)
		bound(q,
		    sqlite3_bind_text64(q->statement->stmt, i, s, n, SQLITE_STATIC, SQLITE_UTF8));
}

void
db_bind_bytes(struct db_query *q, const void *bytes, size_t n)
{
	int i = next_parameter(q);

	/* A null pointer would be bound as NULL. */
	if (i > 0)
		bound(q,
		    sqlite3_bind_blob64(
			q->statement->stmt, i, n > 0 ? bytes : "", n, SQLITE_STATIC));
}

void
db_bind_null(struct db_query *q)
{
	int i = next_parameter(q);

	if (i > 0)
		bound(q, sqlite3_bind_null(q->statement->stmt, i));
}

enum err
db_next(struct db_query *q, bool *found)
{
	int code;

	*found = false;
	if (q->err != OK)
		return q->err;
	assert(q->bound == q->statement->parameters && "a parameter is missing");
	code = sqlite3_step(q->statement->stmt);
	*found = code == SQLITE_ROW;
	if (code != SQLITE_ROW && code != SQLITE_DONE)
		q->err = failed(q->db, code, q->statement->sql->name);
	return q->err;
}

int64_t
db_int(const struct db_query *q, int i)
{
	return sqlite3_column_int64(q->statement->stmt, i);
}

const char *
db_text(const struct db_query *q, int i, size_t *n)
{
	/* The pointer first: asking for it may change the length. */
	const void *s = sqlite3_column_type(q->statement->stmt, i) == SQLITE_BLOB
	    ? sqlite3_column_blob(q->statement->stmt, i)
	    : sqlite3_column_text(q->statement->stmt, i);

	*n = s == NULL ? 0 : (size_t)sqlite3_column_bytes(q->statement->stmt, i);
	return s == NULL ? "" : s;
}

bool
db_is_null(const struct db_query *q, int i)
{
	return sqlite3_column_type(q->statement->stmt, i) == SQLITE_NULL;
}

void
db_done(struct db_query *q)
{
	if (q->statement == NULL)
		return;
	(void)sqlite3_reset(q->statement->stmt);
	(void)sqlite3_clear_bindings(q->statement->stmt);
	q->statement->busy = false;
	q->statement = NULL;
}

enum err
db_run(struct db_query *q)
{
	bool found;
	enum err err = db_next(q, &found);

	assert(!found && "a statement that gives rows");
	db_done(q);
	return err;
}

/* --- Whole databases. */

#define HOLD_TOGETHER_US (50 * CLOCK_MS_US) /* what one writer waits for another at the most */

struct db_hold {
	size_t count;
	struct db holders[DB_AT_ONCE_MAX];
};

/* A connection that keeps the writer of FILE waiting; also closing it leaves all as it is. */
static enum err
open_holder(const char *file, struct db *holder)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
	    SQLITE_OPEN_NOFOLLOW;
	int code = sqlite3_open_v2(file, &holder->handle, flags, relative.zName);
	enum err err;

	if (code == SQLITE_OK)
		code = sqlite3_db_config(holder->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	/* SQLite makes do with reading, and would hold nobody. */
	if (code == SQLITE_OK && sqlite3_db_readonly(holder->handle, "main") != 0)
		code = SQLITE_READONLY;
	if (code != SQLITE_OK)
		err = failed(holder, code, file);
	else if ((err = configure(holder)) == OK)
		err = set_all(holder, common_settings);
	return err == OK ? OK : fail(err, "%s: %s", file, err_words());
}

/* Tries more often than SQLite would: a busy writer leaves short gaps. */
static enum err
hold(struct db *holder, int64_t until_us)
{
	const char *file = sqlite3_db_filename(holder->handle, "main");
	enum err err;
	int code;

	while ((code = sqlite3_exec(holder->handle, "BEGIN IMMEDIATE", NULL, NULL, NULL)) !=
	    SQLITE_OK) {
		if ((code & 0xff) != SQLITE_BUSY) {
			err = failed(holder, code, "holding a writer");
			return fail(err, "%s: %s", file, err_words());
		}
		if (clock_monotonic_us() > until_us)
			return fail(ERR_BUSY, "%s: somebody writes for too long", file);
		(void)poll(NULL, 0, 1);
	}
	return OK;
}

/* One that writes for long is waited for while the others are free. */
static enum err
hold_all(struct db holders[], size_t count, int64_t until_us)
{
	size_t i, first = 0;
	enum err err;

	while ((err = hold(&holders[first], until_us)) == OK) {
		for (i = 0; i < count; i++)
			if (i != first &&
			    (err = hold(&holders[i], clock_monotonic_us() + HOLD_TOGETHER_US)) !=
				OK)
				break;
		if (err == OK || clock_monotonic_us() > until_us)
			return err;
		first = i;
		for (i = 0; i < count; i++)
			db_rollback(&holders[i]);
	}
	return err;
}

enum err
db_hold_all(const char *const files[], size_t count, int64_t until_us, struct db_hold **out)
{
	struct db_hold *hold = calloc(1, sizeof(*hold));
	enum err err = OK;

	assert(count <= DB_AT_ONCE_MAX);
	*out = NULL;
	if (hold == NULL)
		return fail(ERR_BUSY, "no memory for holding writers");
	need_library();
	for (; hold->count < count && err == OK; hold->count++)
		err = open_holder(files[hold->count], &hold->holders[hold->count]);
	if (err == OK && count > 0)
		err = hold_all(hold->holders, count, until_us);
	if (err == OK)
		*out = hold;
	else
		db_release(hold);
	return err;
}

/* Closing a connection ends what it has begun. */
void
db_release(struct db_hold *hold)
{
	for (size_t i = 0; hold != NULL && i < hold->count; i++)
		(void)sqlite3_close(hold->holders[i].handle);
	free(hold);
}

/* It begins with the first read. */
enum err
db_snapshot(struct db *reader)
{
	int64_t ignored;
	enum err err = db_begin(reader);

	return err == OK ? ask_int(reader, "SELECT count(*) FROM sqlite_schema", &ignored) : err;
}

enum err
db_backup(struct db *source, const char *file, void (*told)(void *ctx, int share), void *ctx)
{
	struct db copy = { .lock_fd = -1 };
	sqlite3_backup *backup;
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_EXRESCODE;
	int code = sqlite3_open_v2(file, &copy.handle, flags, relative.zName), all, left;
	bool begun = db_in_transaction(source);
	enum err err;

	if (code != SQLITE_OK) {
		err = failed(&copy, code, file);
		(void)sqlite3_close(copy.handle);
		return err;
	}
	/* A snapshot that stays open keeps the copy to one state, however long it takes. */
	err = begun ? OK : db_snapshot(source);
	backup =
	    err != OK ? NULL : sqlite3_backup_init(copy.handle, "main", source->handle, "main");
	if (err == OK && backup == NULL)
		err = failed(&copy, sqlite3_extended_errcode(copy.handle), "backup");
	code = SQLITE_OK;
	while (err == OK && code == SQLITE_OK) {
		code = sqlite3_backup_step(backup, BACKUP_PAGES);
		all = sqlite3_backup_pagecount(backup);
		left = sqlite3_backup_remaining(backup);
		told(ctx, all == 0 ? 0 : (int)((int64_t)1000 * (all - left) / all));
	}
	if (err == OK && code != SQLITE_DONE)
		err = failed(source, code, "backup");
	if (backup != NULL && sqlite3_backup_finish(backup) != SQLITE_OK && err == OK)
		err = failed(&copy, sqlite3_extended_errcode(copy.handle), "backup");
	if (!begun)
		db_rollback(source);
	/* The copy stands alone, without a log beside it. */
	if (err == OK)
		err = script(&copy, "PRAGMA journal_mode = DELETE", "backup");
	(void)sqlite3_close(copy.handle);
	return err;
}

enum err
db_verify(struct db *db)
{
	char answer[256];
	enum err err = ask(db, "PRAGMA integrity_check(1)", answer, sizeof(answer));

	if (err == OK && strcmp(answer, "ok") != 0)
		err = fail(ERR_INTERNAL, "the database is damaged: %s", answer);
	return err;
}

enum err
db_plan(struct db *db, const struct db_sql *sql, char **plan)
{
	char text[8192];
	sqlite3_stmt *stmt = NULL;
	size_t n = 0;
	FILE *out = open_memstream(plan, &n);
	int code;

	if (out == NULL)
		return fail(ERR_BUSY, "no memory for a plan");
	(void)snprintf(text, sizeof(text), "EXPLAIN QUERY PLAN %s", sql->text);
	code = sqlite3_prepare_v2(db->handle, text, -1, &stmt, NULL);
	while (code == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW)
		(void)fprintf(out, "%s\n", (const char *)sqlite3_column_text(stmt, 3));
	(void)sqlite3_finalize(stmt);
	(void)fclose(out);
	return code == SQLITE_OK ? OK : failed(db, code, sql->name);
}

/* --- Readers. */

#define FREE_MAX 32
#define FREE_PER_CORE 4 /* as many threads as may be active (pool) */

struct db_readers {
	const char *file;
	const struct db_schema *schema;
	pthread_mutex_t lock;
	size_t kept, first, free_count;
	struct db *free[FREE_MAX]; /* a ring, so that each is used as much as the others */
};

static struct db *
take_free(struct db_readers *readers)
{
	struct db *db = NULL;

	(void)pthread_mutex_lock(&readers->lock);
	if (readers->free_count > 0) {
		db = readers->free[readers->first];
		readers->first = (readers->first + 1) % readers->kept;
		readers->free_count--;
	}
	(void)pthread_mutex_unlock(&readers->lock);
	return db;
}

/* Whether there was room for it. */
static bool
put_free(struct db_readers *readers, struct db *db)
{
	bool room;

	(void)pthread_mutex_lock(&readers->lock);
	room = readers->free_count < readers->kept;
	if (room)
		readers->free[(readers->first + readers->free_count++) % readers->kept] = db;
	(void)pthread_mutex_unlock(&readers->lock);
	return room;
}

/* As many as are kept, so that no request waits for one, and a process has from the start what it
 * will have later.  A database that cannot be read yet is opened by who borrows. */
static void
open_all(struct db_readers *readers)
{
	struct db *db;

	while (readers->free_count < readers->kept &&
	    db_open(readers->file, DB_READ, readers->schema, &db) == OK)
		(void)put_free(readers, db);
	err_clear();
}

enum err
db_readers_open(const char *file, const struct db_schema *schema, struct db_readers **readers)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	*readers = calloc(1, sizeof(**readers));
	if (*readers == NULL)
		return fail(ERR_BUSY, "no memory for readers");
	(*readers)->file = file;
	(*readers)->schema = schema;
	(*readers)->kept = cores > 1 ? (size_t)cores * FREE_PER_CORE : FREE_PER_CORE;
	if ((*readers)->kept > FREE_MAX)
		(*readers)->kept = FREE_MAX;
	(void)pthread_mutex_init(&(*readers)->lock, NULL);
	open_all(*readers);
	return OK;
}

void
db_readers_close(struct db_readers *readers)
{
	struct db *db;

	if (readers == NULL)
		return;
	while ((db = take_free(readers)) != NULL)
		db_close(db);
	(void)pthread_mutex_destroy(&readers->lock);
	free(readers);
}

enum err
db_borrow(struct db_readers *readers, struct db **db)
{
	*db = take_free(readers);
	return *db != NULL ? OK : db_open(readers->file, DB_READ, readers->schema, db);
}

void
db_return(struct db_readers *readers, struct db *db)
{
	if (db == NULL)
		return;
	db_rollback(db);
	db_deadline(db, 0);
	if (!put_free(readers, db))
		db_close(db);
}

enum err
db_borrow_until(struct db_readers *readers, int64_t until_us, struct db **db)
{
	enum err err = db_borrow(readers, db);

	if (err == OK)
		db_deadline(*db, until_us);
	return err;
}

enum err
db_borrow_snapshot(struct db_readers *readers, int64_t until_us, struct db **db)
{
	enum err err = db_borrow_until(readers, until_us, db);

	return err == OK ? db_begin(*db) : err;
}
