/*
 * caredesk backup and restore.  A backup is one file, DIR/events.db, in which all is as it was at
 * one instant; it bears that name only once it is verified and on disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
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
	bool is_new; /* it was made for this */
};

static enum err
open_target(const char *name, struct target *target)
{
	struct stat st;

	target->lock_fd = -1;
	target->is_new = mkdir(name, 0700) == 0;
	if (!target->is_new && errno != EEXIST)
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

/* A backup beside what it is to outlive is none. */
static enum err
check_outside(const struct target *target)
{
	char data[PATH_MAX];
	size_t n;

	if (getcwd(data, sizeof(data)) == NULL)
		return OK;
	n = strlen(data);
	if (strncmp(target->folder, data, n) == 0 &&
	    (target->folder[n] == '/' || target->folder[n] == '\0')) {
		if (target->is_new)
			(void)rmdir(target->folder);
		return fail(ERR_INPUT, "%s is in the data folder: a backup belongs elsewhere",
		    target->folder);
	}
	return OK;
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
	    (err = check_outside(&target)) == OK && (err = backup(&target)) != OK)
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

/* Folds the log of the old database into it.  One that cannot be opened is kept as it is, with its
 * log. */
static enum err
close_old(void)
{
	struct stat st;
	struct db *db;
	int has, knows;

	/* Reading comes first: what opens it to write would remove the log of one that is damaged.
	 */
	if (access(LEDGER_FILE, F_OK) != 0 ||
	    db_versions(LEDGER_FILE, &ledger_schema, &has, &knows) != OK ||
	    db_open(LEDGER_FILE, DB_WRITE, &ledger_schema, &db) != OK)
		return OK;
	db_close(db);
	/* Without its log it would lack what was committed last. */
	if (stat(LEDGER_FILE "-wal", &st) == 0 && st.st_size > 0)
		return fail(ERR_BUSY, "somebody reads the database, such as a backup: wait for it");
	return OK;
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

/* With the options given now, and from where it is given now. */
static void
tell_undo(const char *config, const char *kept)
{
	char folder[PATH_MAX];

	if (getcwd(folder, sizeof(folder)) != NULL)
		(void)printf("to undo this: caredesk restore '%s/%s' --data '%s'%s%s%s\n", folder,
		    kept, folder, config[0] != '\0' ? " --config '" : "", config,
		    config[0] != '\0' ? "'" : "");
}

static enum err
restore(int from, const char *config)
{
	char now[CLOCK_TEXT_SIZE], kept[sizeof(KEPT) + CLOCK_TEXT_SIZE];
	bool is_new = access(LEDGER_FILE, F_OK) != 0;
	enum err err;

	clock_text(clock_now_us(), now);
	/* 2026-11-21T04:18:58.123456Z without its signs. */
	(void)snprintf(kept, sizeof(kept), KEPT "%.4s%.2s%.5s%.2s%s", now, now + 5, now + 8,
	    now + 14, now + 17);
	if ((err = copy_source(from)) != OK || (err = prepare_restored()) != OK ||
	    (err = close_old()) != OK || (err = exchange(kept)) != OK)
		return err;
	remove_database(RESTORED); /* what lay beside it */
	(void)printf("restored%s\n", is_new ? "" : "; what was there before is kept");
	if (!is_new)
		tell_undo(config, kept);
	return OK;
}

/* Not the database itself. */
static enum err
check_other(int from)
{
	struct stat a, b;

	if (fstat(from, &a) == 0 && stat(LEDGER_FILE, &b) == 0 && a.st_dev == b.st_dev &&
	    a.st_ino == b.st_ino)
		return fail(ERR_INPUT, "that is the database itself, and no backup of it");
	return OK;
}

enum err
caredesk_restore(const struct caredesk_options *options)
{
	struct data data = { .lock_fd = -1 };
	char config[PATH_MAX] = "";
	int from = -1;
	enum err err;

	if (options->conf.file != NULL && realpath(options->conf.file, config) == NULL)
		config[0] = '\0'; /* data_open() says why */
	if ((err = open_source(options->argument, &from)) == OK &&
	    (err = data_open(&options->conf, DATA_REPLACE, &data)) == OK &&
	    (err = check_other(from)) == OK && (err = user_become(data.conf->user)) == OK) {
		remove_database(RESTORED); /* of one that was killed */
		if ((err = restore(from, config)) != OK)
			remove_database(RESTORED);
	}
	if (from >= 0)
		(void)close(from);
	data_close(&data);
	return err;
}
