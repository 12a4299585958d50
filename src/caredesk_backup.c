/*
 * caredesk backup and restore.  A backup is one file, DIR/events.db, in which all is as it was at
 * one instant; it bears that name only once it is verified and on disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caredesk.h"
#include "lib/clock.h"
#include "lib/ledger.h"
#include "lib/user.h"
#include "sql.h"

#define BACKUP_NAME "events.db"
#define COPY_BYTES (1024 * 1024)
#define PATH_ROOM (PATH_MAX + 64)
#define INCOMPLETE ".incomplete"
#define RESTORED LEDGER_FILE ".restored"
#define KEPT LEDGER_FILE ".before-restore-"

/* What lies beside a database: its log, the log's index, a journal, the writer's lock. */
static const char *const companions[] = { "-wal", "-shm", "-journal", ".lock" };

#define COMPANIONS (sizeof(companions) / sizeof(companions[0]))

static void
remove_database(const char *path)
{
	char name[PATH_ROOM];

	(void)unlink(path);
	for (size_t i = 0; i < COMPANIONS; i++) {
		(void)snprintf(name, sizeof(name), "%s%s", path, companions[i]);
		(void)unlink(name);
	}
}

static enum err
sync_path(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool done = fd >= 0 && fsync(fd) == 0;
	enum err err = done ? OK : fail(ERR_BUSY, "%s: %m", path);

	if (fd >= 0)
		(void)close(fd);
	return err;
}

/* --- backup. */

struct target {
	char folder[PATH_MAX];
	char path[PATH_ROOM], incomplete[PATH_ROOM];
	int lock_fd; /* the folder's: two backups into one are not made at once */
};

static enum err
open_target(const char *name, struct target *target)
{
	struct stat st;

	target->lock_fd = -1;
	if (mkdir(name, 0700) != 0 && errno != EEXIST)
		return fail(ERR_INPUT, "%s: %m", name);
	if (realpath(name, target->folder) == NULL ||
	    (target->lock_fd = open(target->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return fail(ERR_INPUT, "%s: %m", name);
	if (flock(target->lock_fd, LOCK_EX | LOCK_NB) != 0)
		return fail(ERR_BUSY, "%s: another backup is being made there", name);
	(void)snprintf(target->path, sizeof(target->path), "%s/" BACKUP_NAME, target->folder);
	(void)snprintf(target->incomplete, sizeof(target->incomplete), "%s/" BACKUP_NAME INCOMPLETE,
	    target->folder);
	if (lstat(target->path, &st) == 0)
		return fail(
		    ERR_CONFLICT, "%s: is there already, and is not written over", target->path);
	remove_database(target->incomplete); /* of one that was killed */
	return OK;
}

static void
tell_share(void *progress, int share)
{
	progress_told(progress, share);
}

static enum err
copy_ledger(const struct target *target)
{
	struct progress progress;
	struct db *db;
	enum err err = db_open(LEDGER_FILE, DB_READ, &ledger_schema, &db);

	if (err != OK)
		return err;
	progress_begin(&progress, "copying", NULL, 1000);
	err = db_backup(db, target->incomplete, tell_share, &progress);
	progress_end(&progress);
	db_close(db);
	return err;
}

/* What was written is read back before anybody relies on it. */
static enum err
verify_copy(const struct target *target)
{
	struct db *db;
	enum err err = db_open(target->incomplete, DB_READ, &ledger_schema, &db);

	if (err == OK)
		err = data_check(db);
	db_close(db);
	return err == OK ? OK : fail(err, "the copy is not good: %s", err_words());
}

static enum err
backup(const struct target *target)
{
	struct stat st;
	enum err err;

	if ((err = copy_ledger(target)) != OK || (err = verify_copy(target)) != OK ||
	    (err = sync_path(target->incomplete)) != OK)
		return err;
	if (stat(target->incomplete, &st) != 0 || rename(target->incomplete, target->path) != 0)
		return fail(ERR_BUSY, "%s: %m", target->path);
	if ((err = sync_path(target->folder)) == OK)
		(void)printf(
		    "%s: %" PRId64 " bytes, verified\n", target->path, (int64_t)st.st_size);
	return err;
}

/* Stays who it is: the folder is the caller's, and so is what is put there. */
enum err
caredesk_backup(const struct caredesk_options *options)
{
	struct target target = { .lock_fd = -1 };
	struct data data = { .lock_fd = -1 };
	enum err err;

	(void)umask(0077);
	if ((err = open_target(options->argument, &target)) == OK &&
	    (err = data_open(&options->conf, DATA_READ, &data)) == OK &&
	    (err = backup(&target)) != OK)
		remove_database(target.incomplete);
	if (target.lock_fd >= 0)
		(void)close(target.lock_fd);
	data_close(&data);
	return err;
}

/* --- restore. */

/* DIR, or the file itself, such as one that a restore has kept. */
static enum err
open_source(const char *name, int *fd)
{
	char path[PATH_ROOM], log[PATH_ROOM];
	struct stat st;

	if (stat(name, &st) != 0)
		return fail(ERR_INPUT, "%s: %m", name);
	(void)snprintf(
	    path, sizeof(path), "%s%s", name, S_ISDIR(st.st_mode) ? "/" BACKUP_NAME : "");
	(void)snprintf(log, sizeof(log), "%.*s-wal", PATH_MAX, path);
	if ((*fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return fail(ERR_INPUT, "%s: %m", path);
	if (stat(log, &st) == 0 && st.st_size > 0)
		return fail(
		    ERR_INPUT, "%s: is in use, or was left in the middle of a change", path);
	return OK;
}

/* As the user, whose the copy shall be; the file was opened before. */
static enum err
copy_source(int from)
{
	struct progress progress;
	struct stat st = { 0 };
	int to = open(RESTORED, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int64_t all = 0;
	ssize_t n;
	enum err err = to >= 0 && fstat(from, &st) == 0 ? OK : fail(ERR_BUSY, RESTORED ": %m");

	progress_begin(&progress, "copying", "bytes", (int64_t)st.st_size);
	while (err == OK && (n = sendfile(to, from, NULL, COPY_BYTES)) != 0) {
		if (n < 0 && errno != EINTR)
			err = fail(ERR_BUSY, "the backup cannot be copied: %m");
		all += n > 0 ? n : 0;
		progress_told(&progress, all);
	}
	progress_end(&progress);
	if (to >= 0 && close(to) != 0 && err == OK)
		err = fail(ERR_BUSY, RESTORED ": %m");
	return err;
}

static enum err
renew_epoch(struct db *db)
{
	struct db_query q;
	enum err err;

	if ((err = db_begin(db)) != OK)
		return err;
	db_query(&q, db, &sql_events_epoch_renew);
	if ((err = db_run(&q)) == OK)
		return db_commit(db);
	db_rollback(db);
	return err;
}

/* Migrates it if it is older than this program, verifies it, and makes it one of its own: versions
 * that clients have seen before must not be those of other data. */
static enum err
prepare_restored(void)
{
	struct stat st;
	struct db *db = NULL;
	int has, knows;
	enum err err = db_versions(RESTORED, &ledger_schema, &has, &knows);

	if (err == OK && has == 0) /* an empty file would be made a ledger without events */
		err = fail(ERR_INPUT, "the file is no database of %s", ledger_schema.name);
	if (err == OK && (err = db_open(RESTORED, DB_WRITE, &ledger_schema, &db)) == OK)
		err = data_check(db);
	if (err == OK)
		err = renew_epoch(db);
	db_close(db);
	if (err == OK && stat(RESTORED "-wal", &st) == 0 && st.st_size > 0)
		return fail(ERR_BUSY, RESTORED ": its log cannot be folded in");
	return err == OK ? sync_path(RESTORED)
			 : fail(err, "the backup is not good: %s", err_words());
}

/* Folds the log of the old database into it.  One that is damaged is not written to any more, and
 * kept as it is. */
static enum err
close_old(void)
{
	struct db *db;
	int has, knows;
	enum err err = db_versions(LEDGER_FILE, &ledger_schema, &has, &knows);

	if (err == ERR_INTERNAL || access(LEDGER_FILE, F_OK) != 0)
		return OK;
	if (err == OK)
		err = db_open(LEDGER_FILE, DB_WRITE, &ledger_schema, &db);
	if (err == OK)
		db_close(db);
	return err == ERR_BUSY ? err : OK;
}

/* The new database takes the name of the old one, which keeps another.  At every instant there is
 * one of that name; never may the log of the old one lie beside the new one. */
static enum err
exchange(const char *kept)
{
	char name[PATH_ROOM];
	enum err err;

	if (link(LEDGER_FILE, kept) != 0 && errno != ENOENT)
		return fail(ERR_BUSY, "%s: %m", kept);
	(void)snprintf(name, sizeof(name), "%s-wal", kept);
	if (rename(LEDGER_FILE "-wal", name) != 0 && errno != ENOENT)
		return fail(ERR_BUSY, "%s: %m", name);
	if (unlink(LEDGER_FILE "-shm") != 0 && errno != ENOENT)
		return fail(ERR_BUSY, LEDGER_FILE "-shm: %m");
	if ((err = sync_path(DATA_DATABASES)) != OK)
		return err;
	if (rename(RESTORED, LEDGER_FILE) != 0)
		return fail(ERR_BUSY, LEDGER_FILE ": %m");
	return sync_path(DATA_DATABASES);
}

static enum err
restore(int from, const char *folder)
{
	char now[CLOCK_TEXT_SIZE], kept[sizeof(KEPT) + CLOCK_TEXT_SIZE];
	bool is_new = access(LEDGER_FILE, F_OK) != 0;
	enum err err;

	clock_text(clock_now_us(), now);
	/* 2026-11-21T04:18:58.123456Z without its signs and its fraction. */
	(void)snprintf(kept, sizeof(kept), KEPT "%.4s%.2s%.5s%.2s%.2sZ", now, now + 5, now + 8,
	    now + 14, now + 17);
	if ((err = copy_source(from)) != OK || (err = prepare_restored()) != OK ||
	    (err = close_old()) != OK || (err = exchange(kept)) != OK)
		return err;
	remove_database(RESTORED); /* what lay beside it */
	if (is_new)
		(void)printf("restored\n");
	else
		(void)printf("restored; what was there before is kept: to undo this, "
			     "caredesk restore %s/%s\n",
		    folder, kept);
	return OK;
}

enum err
caredesk_restore(const struct caredesk_options *options)
{
	struct data data = { .lock_fd = -1 };
	int from = -1;
	enum err err;

	if ((err = open_source(options->argument, &from)) == OK &&
	    (err = data_open(&options->conf, DATA_REPLACE, &data)) == OK &&
	    (err = user_become(data.conf->user)) == OK) {
		remove_database(RESTORED); /* of one that was killed */
		if ((err = restore(from, data.conf->data)) != OK)
			remove_database(RESTORED);
	}
	if (from >= 0)
		(void)close(from);
	data_close(&data);
	return err;
}
