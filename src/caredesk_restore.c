/*
 * caredesk restore: puts a backup, or what a restore has kept, in the place of the data.
 *
 * Everything is made ready in a new folder, DATA/before-restore-TIME, which then changes places
 * with DATA/db in one step: at every instant there is either all that was, or all that is new, and
 * afterwards the folder holds what was, in the form of a backup.  Until then it has a file
 * .caredesk-incomplete, which with the rest of it goes to DATA/db, and is removed there; so what is
 * kept never has it, and what has it may be removed.
 *
 * Images change their place before: they have names that no other image ever had, so those of both
 * states can be there at once, and the next start of the service removes those that nobody names.
 * One that is there already and good stays, whatever the backup has under its name.
 * Those of before are also linked into DATA/db/blobs, which thus becomes that of what is kept.
 *
 * The data folder is its caller's (root's), what is in it the user's: a child becomes the user for
 * all that looks into databases and folders; what is left for root is copying, and the exchange.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caredesk.h"
#include "lib/account.h"
#include "lib/audit.h"
#include "lib/clock.h"
#include "lib/person.h"
#include "lib/text.h"

#define OLD_MARK DATA_DATABASES "/" BACKUP_INCOMPLETE
#define KEPT_SIZE (sizeof(RESTORE_KEPT) + CLOCK_TEXT_SIZE)

/* What lies beside a database: its log, the log's index, a journal, the writer's lock. */
static const char *const companions[] = { "", "-wal", "-shm", "-journal", ".lock" };

#define COMPANIONS (sizeof(companions) / sizeof(companions[0]))

struct restore {
	int fds[DATA_SETS]; /* of the backup; -1 where it has none */
	struct blob *from; /* its images, or NULL */
	struct blob *blobs; /* ours */
	const char *user;
	struct user found;
	const struct user *owner; /* NULL if we are not root */
	bool is_new; /* there was none of these data sets */
	char kept[KEPT_SIZE]; /* the new folder, then that of before */
};

/* --- The backup. */

/* What lies in another's folder may be a second name, given by him, of what only root can read; he
 * would find it among our data.  Whose the file is could read it before, and so could whoever has
 * the folder for himself and owns it. */
static bool
is_given_freely(const struct stat *folder, const struct stat *file)
{
	bool is_closed = (folder->st_mode & (S_IWGRP | S_IWOTH)) == 0;

	if (geteuid() != 0 || (is_closed && folder->st_uid == 0))
		return true;
	return file->st_uid == folder->st_uid ? is_closed || file->st_nlink == 1
					      : file->st_uid == 0 && file->st_nlink == 1;
}

static enum err
check_file(int folder, const char *base, int fd)
{
	struct stat above, st;
	char log[FILES_PATH_SIZE];

	if (fstat(folder, &above) != 0 || fstat(fd, &st) != 0)
		return fail(ERR_INPUT, "%s: %m", base);
	if (!S_ISREG(st.st_mode))
		return fail(ERR_INPUT, "%s: is no file", base);
	if (!is_given_freely(&above, &st))
		return fail(ERR_INPUT,
		    "%s: is not of the owner of its folder: it may be another file's second name",
		    base);
	(void)snprintf(log, sizeof(log), "%s-wal", base);
	if (fstatat(folder, log, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > 0)
		return fail(
		    ERR_INPUT, "%s: is in use, or was left in the middle of a change", base);
	return OK;
}

/* BASE in FOLDER, which is called NAME. */
static enum err
open_file(int folder, const char *name, const char *base, bool must, int *fd)
{
	*fd = openat(folder, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (*fd < 0 && errno == ENOENT && !must)
		return OK;
	if (*fd < 0 && errno == ELOOP)
		return fail(ERR_INPUT, "%s/%s: is a link, which is not followed", name, base);
	if (*fd < 0)
		return fail(ERR_INPUT, "%s/%s: %m", name, base);
	if (check_file(folder, base, *fd) != OK)
		return fail(ERR_INPUT, "%s/%s", name, err_words());
	return OK;
}

static enum err
open_images(int folder, const char *name, struct restore *r)
{
	char path[FILES_PATH_SIZE];
	struct stat st;

	(void)path_in(name, BACKUP_BLOBS, path);
	if (fstatat(folder, BACKUP_BLOBS, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? OK : fail(ERR_INPUT, "%s: %m", path);
	if (!S_ISDIR(st.st_mode))
		return fail(ERR_INPUT, "%s: is no folder", path);
	return blob_open(path, &r->from);
}

static enum err
open_folder(int folder, const char *name, struct restore *r)
{
	bool found = false;
	struct stat st;
	enum err err = OK;

	if (fstatat(folder, BACKUP_INCOMPLETE, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return fail(
		    ERR_INPUT, "%s: is not whole: a backup or a restore ended in the middle", name);
	for (size_t i = 0; i < DATA_SETS && err == OK; i++) {
		err = open_file(folder, name, data_sets[i].base, false, &r->fds[i]);
		found |= r->fds[i] >= 0;
	}
	if (err == OK && !found)
		return fail(ERR_INPUT, "%s: there is no backup in it", name);
	return err == OK ? open_images(folder, name, r) : err;
}

/* The data set that a single file is of, by its name, such as one that is kept; else events. */
static size_t
set_of_file(const char *base)
{
	size_t events = 0;

	for (size_t i = 0; i < DATA_SETS; i++) {
		if (strncmp(base, data_sets[i].base, strlen(data_sets[i].base)) == 0)
			return i;
		if (strcmp(data_sets[i].schema->name, "events") == 0)
			events = i;
	}
	return events;
}

/* DIR, or one file.  How DIR is named is the caller's business; what is in it may be another's. */
static enum err
open_source(const char *name, struct restore *r)
{
	const char *slash = strrchr(name, '/'), *base = slash == NULL ? name : slash + 1;
	char above[FILES_PATH_SIZE];
	struct stat st;
	bool is_folder;
	int folder;
	enum err err;

	if (stat(name, &st) != 0)
		return fail(ERR_INPUT, "%s: %m", name);
	is_folder = S_ISDIR(st.st_mode);
	(void)snprintf(above, sizeof(above), "%.*s", base == name ? 1 : (int)(base - name),
	    base == name ? "." : name);
	if ((folder = open(is_folder ? name : above, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return fail(ERR_INPUT, "%s: %m", name);
	err = is_folder ? open_folder(folder, name, r)
			: open_file(folder, above, base, true, &r->fds[set_of_file(base)]);
	(void)close(folder);
	return err;
}

/* A restore that was killed may have left in what it kept what is still in use. */
static enum err
leave_own_out(struct restore *r)
{
	bool found = false;
	struct stat a, b;

	for (size_t i = 0; i < DATA_SETS; i++) {
		if (r->fds[i] >= 0 && fstat(r->fds[i], &a) == 0 &&
		    stat(data_sets[i].file, &b) == 0 && a.st_dev == b.st_dev &&
		    a.st_ino == b.st_ino) {
			(void)close(r->fds[i]);
			r->fds[i] = -1;
		}
		found |= r->fds[i] >= 0;
	}
	return found ? OK : fail(ERR_INPUT, "that is the database itself, and no backup of it");
}

static bool
has_accounts(const struct restore *r)
{
	for (size_t i = 0; i < DATA_SETS; i++)
		if (r->fds[i] >= 0 && data_set_has_blobs(&data_sets[i]))
			return true;
	return false;
}

/* Whether NAME, in the folder of databases, is of a data set that is replaced; AT is behind the
 * set's own name. */
static bool
is_replaced(const struct restore *r, const char *name, const char **at)
{
	for (size_t i = 0; i < DATA_SETS; i++) {
		size_t n = strlen(data_sets[i].base);

		if (r->fds[i] < 0 || strncmp(name, data_sets[i].base, n) != 0)
			continue;
		for (size_t k = 0; k < COMPANIONS; k++)
			if (strcmp(*at = name + n, companions[k]) == 0)
				return true;
	}
	return false;
}

/* Some file systems do not say so in their lists. */
static bool
names_folder(DIR *dir, const char *name)
{
	struct stat st;

	return fstatat(dirfd(dir), name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* --- What a restore that was killed has left. */

enum err
restore_tidy(void)
{
	char path[FILES_PATH_SIZE];
	DIR *dir = opendir(".");
	const struct dirent *entry;
	struct stat st;

	if (dir == NULL)
		return fail(ERR_BUSY, "the data folder: %m");
	(void)folder_remove(RESTORE_REMOVED); /* it has no mark any more, perhaps */
	while ((entry = readdir(dir)) != NULL)
		if (strncmp(entry->d_name, RESTORE_KEPT, sizeof(RESTORE_KEPT) - 1) == 0 &&
		    lstat(path_in(entry->d_name, BACKUP_INCOMPLETE, path), &st) == 0)
			folder_discard(entry->d_name, RESTORE_REMOVED);
	(void)closedir(dir);
	if (unlink(OLD_MARK) != 0 && errno != ENOENT)
		return fail(ERR_BUSY, OLD_MARK ": %m");
	folder_discard(RESTORE_BLOBS, RESTORE_REMOVED);
	return path_sync(DATA_DATABASES);
}

/* --- Copies, by whom the folder is. */

static enum err
copy_sets(struct restore *r)
{
	char path[FILES_PATH_SIZE], what[64];
	struct progress progress;
	struct stat st;
	int64_t bytes;
	enum err err = OK;

	for (size_t i = 0; i < DATA_SETS && err == OK; i++) {
		if (r->fds[i] < 0)
			continue;
		if (fstat(r->fds[i], &st) != 0)
			return fail(ERR_BUSY, "%s: %m", data_sets[i].base);
		(void)snprintf(what, sizeof(what), "copying %s", data_sets[i].base);
		progress_begin(&progress, what, "bytes", (int64_t)st.st_size);
		err = file_copy(r->fds[i], path_in(r->kept, data_sets[i].base, path), r->owner,
		    &progress, &bytes);
		progress_end(&progress);
	}
	return err;
}

struct image_copy {
	struct restore *r;
	struct progress progress;
	char to[FILES_PATH_SIZE];
	int64_t count;
};

static enum err
copy_image(void *ctx, const struct blob_entry *entry)
{
	struct image_copy *copy = ctx;
	int64_t bytes;

	if (entry->kind != BLOB_WHOLE)
		return OK;
	progress_told(&copy->progress, ++copy->count);
	return blobs_copy(copy->r->from, entry->name, copy->to, copy->r->owner, &bytes);
}

static enum err
copy_images(struct restore *r)
{
	struct image_copy copy = { .r = r };
	enum err err;

	if (r->from == NULL || !has_accounts(r))
		return OK;
	if ((err = folder_make(path_in(r->kept, BACKUP_BLOBS, copy.to))) != OK)
		return err;
	progress_begin(&copy.progress, "copying images", "images", 0);
	err = blob_list(r->from, copy_image, &copy);
	progress_end(&copy.progress);
	return err == OK ? blobs_settle(copy.to, r->owner) : err;
}

static enum err
make_mark(const struct restore *r)
{
	char path[FILES_PATH_SIZE];
	int fd = open(path_in(r->kept, BACKUP_INCOMPLETE, path),
	    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return fail(ERR_BUSY, "%s: %m", path);
	(void)close(fd);
	return path_sync(r->kept);
}

static enum err
copy_all(struct restore *r)
{
	enum err err;

	if ((err = make_mark(r)) != OK || (err = copy_sets(r)) != OK ||
	    (err = copy_images(r)) != OK)
		return err;
	return folder_give(r->kept, r->owner);
}

/* --- What the user does: the new data sets. */

/* Who was erased since the backup was made stays so; the images are for the next sweep. */
static enum err
erase_again(struct db *db)
{
	struct db *old = NULL;
	int64_t count = 0;
	enum err err;

	if (access(ACCOUNT_FILE, F_OK) != 0)
		return OK;
	if (db_open(ACCOUNT_FILE, DB_READ, &account_schema, &old) != OK) {
		(void)printf(ACCOUNT_FILE " as it is now cannot be read (%s): whoever was erased "
					  "since the backup must be erased again\n",
		    err_words());
		return OK;
	}
	if ((err = db_begin(db)) == OK && (err = person_erase_again(old, db, &count)) == OK)
		err = db_commit(db);
	if (err != OK)
		db_rollback(db);
	db_close(old);
	if (err != OK || count == 0)
		return err;
	(void)printf("erased again, as since the backup: %" PRId64 " of its accounts\n", count);
	return (err = db_rewrite(db)) == OK ? db_empty_log(db) : err;
}

static enum err
renew_epoch(struct db *db, const struct db_sql *sql)
{
	struct db_query q;
	enum err err;

	if (sql == NULL)
		return OK;
	if ((err = db_begin(db)) != OK)
		return err;
	db_query(&q, db, sql);
	if ((err = db_run(&q)) == OK)
		return db_commit(db);
	db_rollback(db);
	return err;
}

struct stores {
	struct blob *new, *ours;
	const char *from; /* the folder of NEW */
	int64_t bad; /* neither has it as it must be */
};

/* A backup of before there were images, or one file, may name those that are still there. */
static enum err
check_both(const struct stores *stores, const struct account_image *image)
{
	enum err err = stores->new == NULL ? ERR_NOT_FOUND : data_image_check(stores->new, image);

	if (err == ERR_NOT_FOUND)
		return data_image_check(stores->ours, image);
	if (err == OK || data_image_check(stores->ours, image) == OK)
		return OK;
	return data_image_check(stores->new, image); /* whose words are told */
}

/* One that is lost must not keep all others from coming back. */
static enum err
check_image(void *ctx, const struct account_image *image)
{
	struct stores *stores = ctx;

	return data_image_told(check_both(stores, image), image->id, image->key, &stores->bad);
}

static enum err
check_images(const struct restore *r, struct db *db)
{
	struct stores stores = { .ours = r->blobs };
	char path[FILES_PATH_SIZE];
	enum err err = OK;

	if (access(path_in(r->kept, BACKUP_BLOBS, path), F_OK) == 0)
		err = blob_open(path, &stores.new);
	if (err == OK)
		err = account_images(db, check_image, &stores);
	data_tell_rest(stores.bad);
	blob_close(stores.new);
	return err;
}

/* The data are needed all the same, also by whoever finds out what has happened. */
static enum err
check_audit(const struct data_set *set, struct db *db)
{
	struct audit_head head;
	enum err err = data_set_has_audit(set) ? data_audit(db, set, NULL, &head) : OK;

	if (err != ERR_CONFLICT)
		return err;
	(void)fprintf(stderr,
	    "warning: the audit of %s in this backup is not as it was recorded: %s.  It is "
	    "taken as it is: keep the backup, look for an older one that is right (caredesk "
	    "audit verify says so once it is restored), and compare with the heads that you have "
	    "elsewhere\n",
	    set->schema->name, err_words());
	err_clear();
	return OK;
}

/* Migrates it if it is older than this program, verifies it, and makes it one of its own: versions
 * that clients have seen before must not be those of other data. */
static enum err
prepare_set(const struct restore *r, const struct data_set *set)
{
	char path[FILES_PATH_SIZE], log[FILES_PATH_SIZE + 8];
	struct stat st;
	struct db *db = NULL;
	int has, knows;
	enum err err = db_versions(path_in(r->kept, set->base, path), set->schema, &has, &knows);

	if (err == OK && has == 0) /* an empty file would be made a data set without rows */
		err = fail(ERR_INPUT, "the file is no database of %s", set->schema->name);
	if (err == OK && (err = db_open(path, DB_WRITE, set->schema, &db)) == OK &&
	    (err = data_check(db, set)) == OK && (err = check_audit(set, db)) == OK &&
	    data_set_has_blobs(set) && (err = erase_again(db)) == OK)
		err = check_images(r, db);
	if (err == OK)
		err = renew_epoch(db, set->epoch_renew);
	db_close(db);
	(void)snprintf(log, sizeof(log), "%s-wal", path);
	if (err == OK && stat(log, &st) == 0 && st.st_size > 0)
		err = fail(ERR_BUSY, "its log cannot be folded in");
	return err == OK ? path_sync(path) : err;
}

static enum err
prepare_sets(const struct restore *r)
{
	enum err err = OK;

	for (size_t i = 0; i < DATA_SETS && err == OK; i++) {
		if (r->fds[i] >= 0 && (err = prepare_set(r, &data_sets[i])) != OK)
			err = fail(
			    err, "%s: the backup is not good: %s", data_sets[i].base, err_words());
	}
	return err;
}

/* --- What the user does: what was there. */

/* Folds the log of the old database into it.  One that cannot be opened is kept as it is, with its
 * log. */
static enum err
close_old(const struct data_set *set)
{
	char log[FILES_PATH_SIZE];
	struct stat st;
	struct db *db;
	int has, knows;

	/* Reading comes first: what opens it to write would remove the log of one that is damaged.
	 */
	if (access(set->file, F_OK) != 0 ||
	    db_versions(set->file, set->schema, &has, &knows) != OK ||
	    db_open(set->file, DB_WRITE, set->schema, &db) != OK)
		return OK;
	db_close(db);
	/* Without its log it would lack what was committed last. */
	(void)snprintf(log, sizeof(log), "%s-wal", set->file);
	if (stat(log, &st) == 0 && st.st_size > 0)
		return fail(ERR_BUSY, "%s: somebody reads the database: wait for it", set->base);
	return OK;
}

/* The image KEY at FROM gets another name below TO, by CALL; ERR_NOT_FOUND. */
static enum err
place(const char *key, const char *from, const char *to,
    int (*call)(const char *old, const char *new))
{
	char old[FILES_PATH_SIZE], new[FILES_PATH_SIZE];
	enum err err;

	(void)snprintf(new, sizeof(new), "%s/%.2s", to, key);
	if ((err = folder_make(new)) != OK)
		return err;
	if (call(path_in(from, key, old), path_in(to, key, new)) != 0)
		return fail(errno == ENOENT ? ERR_NOT_FOUND : ERR_BUSY, "%s: %m", new);
	return OK;
}

static enum err
keep_image(void *ctx, const struct blob_entry *entry)
{
	(void)ctx;
	return entry->kind == BLOB_WHOLE ? place(entry->name, ACCOUNT_BLOBS, RESTORE_BLOBS, link)
					 : OK;
}

/* A good one of ours stays: what was copied may be worse, and the restore may fail yet. */
static enum err
take_image(void *ctx, const struct account_image *image)
{
	const struct stores *stores = ctx;
	enum err err;

	if (data_image_check(stores->ours, image) == OK)
		return OK;
	err = place(image->key, stores->from, ACCOUNT_BLOBS, rename);
	return err == ERR_NOT_FOUND ? OK : err; /* which was told */
}

/* Another name for each image of before; files of this store never change. */
static enum err
keep_images(const struct restore *r)
{
	enum err err = folder_make(RESTORE_BLOBS);

	if (err == OK && (err = blob_list(r->blobs, keep_image, NULL)) == OK)
		err = blobs_settle(RESTORE_BLOBS, NULL);
	return err;
}

/* Of those that were copied, what the new accounts name and we have not. */
static enum err
take_images(const struct restore *r, const struct data_set *set)
{
	char path[FILES_PATH_SIZE], file[FILES_PATH_SIZE];
	struct stores stores = { .ours = r->blobs, .from = path };
	struct db *db = NULL;
	enum err err;

	if (access(path_in(r->kept, BACKUP_BLOBS, path), F_OK) != 0)
		return OK;
	/* To write, so that nothing of its log is left beside it. */
	err = db_open(path_in(r->kept, set->base, file), DB_WRITE, set->schema, &db);
	if (err == OK && (err = account_images(db, take_image, &stores)) == OK)
		err = blobs_settle(ACCOUNT_BLOBS, NULL);
	db_close(db);
	(void)folder_remove(path);
	return err == OK ? path_sync(file) : err;
}

static enum err
prepare(void *ctx, int fd)
{
	const struct restore *r = ctx;
	enum err err = prepare_sets(r);

	(void)fd;
	for (size_t i = 0; i < DATA_SETS && err == OK; i++)
		if (r->fds[i] >= 0)
			err = close_old(&data_sets[i]);
	if (err == OK && has_accounts(r) && access(ACCOUNT_FILE, F_OK) == 0)
		err = keep_images(r);
	for (size_t i = 0; i < DATA_SETS && err == OK; i++)
		if (r->fds[i] >= 0 && data_set_has_blobs(&data_sets[i]))
			err = take_images(r, &data_sets[i]);
	return err;
}

static enum err
prepare_as_user(struct restore *r)
{
	struct deputy deputy;
	enum err err = deputy_start(r->user, prepare, r, &deputy);

	return err == OK ? deputy_end(&deputy) : err;
}

/* --- The exchange. */

/* Whatever else is in the folder of databases goes along, such as the data sets that stay.  A
 * folder there is none of ours, and stays with what is kept; indexes of logs are made anew.  By
 * whom the folder is: another name may only be given to what is one's own. */
static enum err
take_along(const struct restore *r)
{
	char from[FILES_PATH_SIZE], to[FILES_PATH_SIZE];
	const struct dirent *entry;
	const char *ignored;
	DIR *dir = opendir(DATA_DATABASES);
	enum err err = dir != NULL ? OK : fail(ERR_BUSY, DATA_DATABASES ": %m");

	while (err == OK && (entry = readdir(dir)) != NULL) {
		if (names_folder(dir, entry->d_name) || is_replaced(r, entry->d_name, &ignored) ||
		    text_ends_with(entry->d_name, "-shm"))
			continue;
		if (link(path_in(DATA_DATABASES, entry->d_name, from),
			path_in(r->kept, entry->d_name, to)) != 0)
			err = fail(ERR_BUSY, "%s: %m", to);
	}
	if (dir != NULL)
		(void)closedir(dir);
	if (err == OK && (err = path_sync(r->kept)) == OK)
		err = path_sync(DATA_DATABASES);
	return err;
}

static bool
has_none(const struct restore *r)
{
	for (size_t i = 0; i < DATA_SETS; i++)
		if (r->fds[i] >= 0 && access(data_sets[i].file, F_OK) == 0)
			return false;
	return true;
}

/* *DONE also if it is not known to be on disk: then what is kept must not go. */
static enum err
exchange(const struct restore *r, bool *done)
{
	enum err err = path_sync(".");

	if (err != OK)
		return err;
	*done = renameat2(AT_FDCWD, DATA_DATABASES, AT_FDCWD, r->kept, RENAME_EXCHANGE) == 0;
	if (!*done)
		return fail(ERR_BUSY, DATA_DATABASES " and %s cannot change places: %m", r->kept);
	return path_sync(".");
}

/* Of what is kept, all that is no part of a backup; without it, it is what it would be. */
static void
tidy_kept(const struct restore *r)
{
	int fd = open(r->kept, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;
	const char *companion;

	(void)unlink(OLD_MARK);
	while (dir != NULL && (entry = readdir(dir)) != NULL)
		if (!names_folder(dir, entry->d_name) &&
		    (!is_replaced(r, entry->d_name, &companion) || strcmp(companion, "-shm") == 0 ||
			strcmp(companion, ".lock") == 0))
			(void)unlinkat(fd, entry->d_name, 0);
	if (dir != NULL)
		(void)closedir(dir);
	if (r->is_new)
		(void)rmdir(r->kept);
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

static void
tell_done(const struct restore *r, const char *config)
{
	(void)printf("restored");
	for (size_t i = 0; i < DATA_SETS; i++)
		if (r->fds[i] >= 0)
			(void)printf(" %s", data_sets[i].schema->name);
	(void)printf("%s\n", r->is_new ? "" : "; what was there before is kept");
	if (!r->is_new)
		tell_undo(config, r->kept);
}

/* --- The command. */

/* Nobody makes a backup meanwhile. */
static enum err
open_blobs(struct restore *r)
{
	enum err err = folder_make(ACCOUNT_BLOBS);

	if (err == OK && (err = folder_give(ACCOUNT_BLOBS, r->owner)) == OK &&
	    (err = blob_open(ACCOUNT_BLOBS, &r->blobs)) == OK)
		err = blob_pin(r->blobs);
	return err;
}

/* Two new folders change places, so that a file system that cannot do it is told of before anything
 * else is done. */
static enum err
try_exchange(const struct restore *r)
{
	enum err err = folder_make(RESTORE_REMOVED);

	if (err == OK &&
	    renameat2(AT_FDCWD, RESTORE_REMOVED, AT_FDCWD, r->kept, RENAME_EXCHANGE) != 0)
		err = fail(ERR_BUSY,
		    "the file system of the data folder cannot exchange two folders (%m): "
		    "nothing has changed");
	(void)rmdir(RESTORE_REMOVED);
	if (err != OK)
		(void)rmdir(r->kept);
	return err;
}

/* The next start says which accounts they belong to: those of before, or the new ones. */
static enum err
give_up_images(const struct restore *r)
{
	return has_accounts(r) ? blob_disown(r->blobs) : OK;
}

/* A link would be exchanged itself, and what it leads to would stay where it is. */
static enum err
check_folder(void)
{
	struct stat st;

	if (lstat(DATA_DATABASES, &st) == 0 && S_ISDIR(st.st_mode))
		return OK;
	return fail(ERR_INPUT,
	    DATA_DATABASES " in the data folder is no folder but a link: it is "
			   "not followed, and nothing was restored");
}

static enum err
restore(struct restore *r, const char *config)
{
	char now[CLOCK_TEXT_SIZE];
	bool done = false;
	enum err err;

	clock_text(clock_now_us(), now);
	/* 2026-11-21T04:18:58.123456Z without its signs. */
	(void)snprintf(r->kept, sizeof(r->kept), RESTORE_KEPT "%.4s%.2s%.5s%.2s%s", now, now + 5,
	    now + 8, now + 14, now + 17);
	r->is_new = has_none(r);
	if ((err = restore_tidy()) != OK || (err = folder_make(r->kept)) != OK ||
	    (err = try_exchange(r)) != OK)
		return err;
	if ((err = copy_all(r)) == OK && (err = prepare_as_user(r)) == OK &&
	    (err = take_along(r)) == OK && (err = give_up_images(r)) == OK)
		err = exchange(r, &done);
	if (!done) {
		folder_discard(r->kept, RESTORE_REMOVED);
		folder_discard(RESTORE_BLOBS, RESTORE_REMOVED);
		return err;
	}
	tidy_kept(r);
	tell_done(r, config);
	return err;
}

static void
restore_close(struct restore *r)
{
	for (size_t i = 0; i < DATA_SETS; i++)
		if (r->fds[i] >= 0)
			(void)close(r->fds[i]);
	blob_close(r->from);
	blob_close(r->blobs);
}

enum err
caredesk_restore(const struct caredesk_options *options)
{
	struct data data = { .lock_fd = -1 };
	struct restore r = { 0 };
	char config[PATH_MAX] = "";
	enum err err;

	for (size_t i = 0; i < DATA_SETS; i++)
		r.fds[i] = -1;
	if (options->conf.file != NULL && realpath(options->conf.file, config) == NULL)
		config[0] = '\0'; /* data_open() says why */
	if ((err = open_source(options->argument, &r)) == OK &&
	    (err = data_open(&options->conf, DATA_REPLACE, &data)) == OK &&
	    (err = check_folder()) == OK && (err = leave_own_out(&r)) == OK) {
		r.user = data.conf->user;
		if (geteuid() == 0 && (err = user_find(r.user, &r.found)) == OK)
			r.owner = &r.found;
		if (err == OK && (err = open_blobs(&r)) == OK)
			err = restore(&r, config);
	}
	restore_close(&r);
	data_close(&data);
	return err;
}
