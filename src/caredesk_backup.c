/*
 * caredesk backup: all data sets, and the images that accounts name, as they all were at one
 * instant.
 *
 * No image is removed from before that instant until all are copied (blob_pin()), so each that the
 * snapshot of accounts names is there.  All is made in DIR/.caredesk-incomplete, and has its name
 * only once it is verified and on disk; while there is that folder, what is in DIR is no backup.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caredesk.h"
#include "lib/account.h"
#include "lib/clock.h"

#define PATH_ROOM (PATH_MAX + 64)
#define ONE_INSTANT_WITHIN_US (60 * CLOCK_SECOND_US)

struct target {
	char folder[PATH_MAX];
	char incomplete[PATH_ROOM], removed[PATH_ROOM];
	int lock_fd; /* the folder's: two backups into one are not made at once */
	bool is_new; /* it was made for this */
	bool is_naming; /* part of it may have its name */
};

struct backup {
	struct target *target;
	const struct data_set *sets[DATA_SETS];
	struct db *readers[DATA_SETS]; /* NULL once it is copied */
	size_t count;
	const char *user;
	struct blob *blobs; /* NULL where the service has never made them */
	int64_t images, image_bytes;
	int64_t bad_images; /* missing or damaged: those stop nothing */
};

/* --- Where it goes. */

static enum err
check_free(const struct target *target)
{
	const char *names[DATA_SETS + 1] = { BACKUP_BLOBS };
	bool was_ended = access(target->incomplete, F_OK) == 0;
	char path[FILES_PATH_SIZE];
	struct stat st;

	for (size_t i = 0; i < DATA_SETS; i++)
		names[i + 1] = data_sets[i].base;
	for (size_t i = 0; i <= DATA_SETS; i++)
		if (lstat(path_in(target->folder, names[i], path), &st) == 0)
			return fail(ERR_CONFLICT, "%s: is there already%s, and is not written over",
			    path, was_ended ? ", of a backup that was ended in the middle" : "");
	return OK;
}

static enum err
open_target(const char *name, struct target *target)
{
	target->lock_fd = -1;
	target->is_new = mkdir(name, 0700) == 0;
	if (!target->is_new && errno != EEXIST)
		return fail(ERR_INPUT, "%s: %m", name);
	if (realpath(name, target->folder) == NULL ||
	    (target->lock_fd = open(target->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return fail(ERR_INPUT, "%s: %m", name);
	if (flock(target->lock_fd, LOCK_EX | LOCK_NB) != 0)
		return fail(ERR_BUSY, "%s: another backup is being made there", name);
	(void)snprintf(target->incomplete, sizeof(target->incomplete), "%s/" BACKUP_INCOMPLETE,
	    target->folder);
	(void)snprintf(
	    target->removed, sizeof(target->removed), "%s/" BACKUP_REMOVED, target->folder);
	return OK;
}

/* A backup beside what it is to outlive is none. */
static enum err
check_outside(const struct target *target)
{
	enum err err = data_outside(target->folder, "a backup");

	if (err != OK && target->is_new)
		(void)rmdir(target->folder);
	return err;
}

/* --- One instant. */

/* Those that are there: a new program's set is not until the service has started. */
static enum err
find_sets(struct backup *b)
{
	for (size_t i = 0; i < DATA_SETS; i++) {
		if (db_is_lost(data_sets[i].file))
			return fail(
			    ERR_CONFLICT, "%s is gone: see caredesk fsck", data_sets[i].file);
		if (access(data_sets[i].file, F_OK) == 0 || errno != ENOENT)
			b->sets[b->count++] = &data_sets[i];
		else
			(void)printf("%s: is left out: it is not there yet\n", data_sets[i].base);
	}
	if (b->count == 0)
		return fail(ERR_INPUT, "there is no database: start caredesk run once");
	return OK;
}

static enum err
hold_writers(void *ctx, int fd)
{
	const struct backup *b = ctx;
	const char *files[DATA_SETS];
	struct db_hold *hold;
	enum err err;

	for (size_t i = 0; i < b->count; i++)
		files[i] = b->sets[i]->file;
	err = db_hold_all(files, b->count, clock_monotonic_us() + ONE_INSTANT_WITHIN_US, &hold);
	if (err != OK)
		return fail(err, "no one instant of all: %s", err_words());
	err = deputy_is_ready(fd);
	db_release(hold);
	return err;
}

static enum err
begin_snapshots(struct backup *b)
{
	enum err err = OK;

	for (size_t i = 0; i < b->count && err == OK; i++) {
		const struct data_set *set = b->sets[i];
		struct db **reader = &b->readers[i];

		if ((err = db_open(set->file, DB_READ, set->schema, reader)) != OK ||
		    (err = db_snapshot(*reader)) != OK)
			err = fail(err, "%s: %s", set->base, err_words());
	}
	return err;
}

/* What holds the writers has opened the databases to write, and SQLite then believes what lies
 * beside them, such as a journal that names another to be deleted: so it is the user who does. */
static enum err
begin_all(struct backup *b)
{
	struct deputy deputy;
	enum err err, own;

	if ((err = deputy_start(b->user, hold_writers, b, &deputy)) != OK)
		return err;
	if ((err = deputy_await(&deputy)) == OK)
		err = begin_snapshots(b);
	own = deputy_end(&deputy);
	return own != OK ? own : err;
}

static enum err
open_all(struct backup *b)
{
	enum err err = OK;

	if (access(ACCOUNT_BLOBS, F_OK) == 0 &&
	    ((err = blob_open(ACCOUNT_BLOBS, &b->blobs)) != OK || (err = blob_pin(b->blobs)) != OK))
		return err;
	return (err = find_sets(b)) == OK ? begin_all(b) : err;
}

/* --- Copies. */

static void
tell_share(void *progress, int share)
{
	progress_told(progress, share);
}

/* And ends its snapshot, which keeps its log from beginning anew. */
static enum err
copy_set(struct backup *b, size_t i)
{
	struct progress progress;
	char path[FILES_PATH_SIZE], what[64];
	enum err err;

	(void)snprintf(what, sizeof(what), "copying %s", b->sets[i]->base);
	progress_begin(&progress, what, NULL, 1000);
	err = db_backup(b->readers[i], path_in(b->target->incomplete, b->sets[i]->base, path),
	    tell_share, &progress);
	progress_end(&progress);
	db_close(b->readers[i]);
	b->readers[i] = NULL;
	if (err == OK)
		err = path_sync(path);
	return err == OK ? OK : fail(err, "%s: %s", b->sets[i]->base, err_words());
}

struct image_copy {
	struct backup *b;
	struct progress progress;
	int64_t done;
	char to[FILES_PATH_SIZE];
};

static enum err
count_image(void *ctx, const struct account_image *image)
{
	struct backup *b = ctx;

	(void)image;
	b->images++;
	return OK;
}

/* One that is missing is told when all are read back. */
static enum err
copy_image(void *ctx, const struct account_image *image)
{
	struct image_copy *copy = ctx;
	int64_t bytes = 0;
	enum err err = copy->b->blobs == NULL
	    ? ERR_NOT_FOUND
	    : blobs_copy(copy->b->blobs, image->key, copy->to, NULL, &bytes);

	if (err != OK && err != ERR_NOT_FOUND)
		return fail(err, "the image %s of account %" PRId64 ": %s", image->key, image->id,
		    err_words());
	err_clear();
	copy->b->image_bytes += bytes;
	progress_told(&copy->progress, ++copy->done);
	return OK;
}

/* Those that the copy of accounts, DB, names. */
static enum err
copy_images(struct backup *b, struct db *db)
{
	struct image_copy copy = { .b = b };
	enum err err;

	if ((err = account_images(db, count_image, b)) != OK ||
	    (err = folder_make(path_in(b->target->incomplete, BACKUP_BLOBS, copy.to))) != OK)
		return err;
	progress_begin(&copy.progress, "copying images", "images", b->images);
	err = account_images(db, copy_image, &copy);
	progress_end(&copy.progress);
	return err == OK ? blobs_settle(copy.to, NULL) : err;
}

static enum err
copy_all(struct backup *b)
{
	char path[FILES_PATH_SIZE];
	struct db *db;
	enum err err = OK;

	for (size_t i = 0; i < b->count && err == OK; i++)
		err = copy_set(b, i);
	for (size_t i = 0; i < b->count && err == OK; i++) {
		if (!data_set_has_blobs(b->sets[i]))
			continue;
		(void)path_in(b->target->incomplete, b->sets[i]->base, path);
		if ((err = db_open(path, DB_READ, b->sets[i]->schema, &db)) == OK)
			err = copy_images(b, db);
		db_close(db);
	}
	if (err == OK && b->blobs != NULL)
		blob_unpin(b->blobs);
	return err;
}

/* --- What was written is read back before anybody relies on it. */

struct copies {
	struct backup *b;
	struct blob *blobs;
};

static enum err
verify_image(void *ctx, const struct account_image *image)
{
	struct copies *copies = ctx;

	return data_image_told(
	    data_image_check(copies->blobs, image), image->id, image->key, &copies->b->bad_images);
}

static enum err
verify_images(struct backup *b, struct db *db)
{
	struct copies copies = { .b = b };
	char path[FILES_PATH_SIZE];
	enum err err = blob_open(path_in(b->target->incomplete, BACKUP_BLOBS, path), &copies.blobs);

	if (err == OK)
		err = account_images(db, verify_image, &copies);
	blob_close(copies.blobs);
	data_tell_rest(b->bad_images);
	return err;
}

static enum err
verify_all(struct backup *b)
{
	char path[FILES_PATH_SIZE];
	struct db *db;
	enum err err = OK;

	for (size_t i = 0; i < b->count && err == OK; i++) {
		const struct data_set *set = b->sets[i];

		(void)path_in(b->target->incomplete, set->base, path);
		if ((err = db_open(path, DB_READ, set->schema, &db)) == OK &&
		    (err = data_check(db, set)) == OK && data_set_has_blobs(set))
			err = verify_images(b, db);
		db_close(db);
		if (err != OK)
			err = fail(err, "%s: the copy is not good: %s", set->base, err_words());
	}
	return err;
}

/* --- Names. */

/* A new folder has its own name on disk, too. */
static enum err
settle_folder(const struct target *target)
{
	char parent[FILES_PATH_SIZE];

	return target->is_new ? path_sync(path_in(target->folder, "..", parent)) : OK;
}

static enum err
name_one(struct target *target, const char *base)
{
	char from[FILES_PATH_SIZE], to[FILES_PATH_SIZE];

	target->is_naming = true;
	if (rename(path_in(target->incomplete, base, from), path_in(target->folder, base, to)) == 0)
		return OK;
	return fail(ERR_BUSY, "%s: %m", to);
}

/* All have theirs on disk before what says that not all have is removed. */
static enum err
name_all(const struct backup *b)
{
	struct target *target = b->target;
	bool has_blobs = false;
	enum err err = settle_folder(target);

	if (err == OK)
		err = path_sync(target->incomplete);
	for (size_t i = 0; i < b->count && err == OK; i++) {
		has_blobs |= data_set_has_blobs(b->sets[i]);
		err = name_one(target, b->sets[i]->base);
	}
	if (err == OK && has_blobs)
		err = name_one(target, BACKUP_BLOBS);
	if (err == OK && (err = path_sync(target->folder)) == OK && rmdir(target->incomplete) != 0)
		err = fail(ERR_BUSY, "%s: %m", target->incomplete);
	return err == OK ? path_sync(target->folder) : err;
}

static void
tell(const struct backup *b)
{
	char path[FILES_PATH_SIZE];
	struct stat st;

	for (size_t i = 0; i < b->count; i++) {
		if (stat(path_in(b->target->folder, b->sets[i]->base, path), &st) == 0)
			(void)printf(
			    "%s: %" PRId64 " bytes, verified\n", path, (int64_t)st.st_size);
		if (data_set_has_blobs(b->sets[i]))
			(void)printf("%s: %" PRId64 " images, %" PRId64 " bytes, verified\n",
			    path_in(b->target->folder, BACKUP_BLOBS, path),
			    b->images - b->bad_images, b->image_bytes);
	}
}

/* --- The command. */

static enum err
make_backup(struct backup *b)
{
	enum err err;

	folder_discard(b->target->incomplete, b->target->removed); /* of one that was killed */
	if ((err = folder_make(b->target->incomplete)) != OK || (err = open_all(b)) != OK ||
	    (err = copy_all(b)) != OK || (err = verify_all(b)) != OK || (err = name_all(b)) != OK)
		return err;
	tell(b);
	if (b->bad_images == 0)
		return OK;
	return fail(ERR_CONFLICT,
	    "the backup is whole, but for %" PRId64 " image%s missing or damaged", b->bad_images,
	    b->bad_images == 1 ? " that is" : "s that are");
}

static enum err
backup(struct target *target, const char *user)
{
	struct backup b = { .target = target, .user = user };
	enum err err = check_free(target);

	if (err != OK)
		return err;
	err = make_backup(&b);
	for (size_t i = 0; i < b.count; i++)
		db_close(b.readers[i]);
	blob_close(b.blobs);
	if (err != OK && !target->is_naming)
		folder_discard(target->incomplete, target->removed);
	return err;
}

/* Stays who it is, and so only reads what is the user's: the folder is the caller's, and so is what
 * is put there. */
enum err
caredesk_backup(const struct caredesk_options *options)
{
	struct target target = { .lock_fd = -1 };
	struct data data = { .lock_fd = -1 };
	enum err err;

	(void)umask(0077);
	if ((err = open_target(options->argument, &target)) == OK &&
	    (err = data_open(&options->conf, DATA_READ, &data)) == OK &&
	    (err = check_outside(&target)) == OK)
		err = backup(&target, data.conf->user);
	if (target.lock_fd >= 0)
		(void)close(target.lock_fd);
	data_close(&data);
	return err;
}
