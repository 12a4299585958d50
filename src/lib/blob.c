#include "lib/blob.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"

#define HEX "0123456789abcdef"
#define ID_BYTES 16
#define ID_DIGITS ((size_t)2 * ID_BYTES)
#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define NAME_MAX_SIZE (3 + 256)
#define PIN_TRIES 5000
#define HOLD_US (10 * CLOCK_SECOND_US) /* a sweep waits so long for puts to end */
#define OWNER ".owner" /* whose rows name the blobs, in hex */
#define OWNER_NEW ".owner.new"
#define OWNER_DIGITS ((size_t)2 * BLOB_OWNER_BYTES)

struct blob {
	int fd;
	int pin_fd; /* -1: not pinned by this store */
	/* Whether the store's entry of a sub-folder is on disk, whoever made it. */
	atomic_bool settled[256];
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	int puts; /* under way, with their rows */
	bool held; /* none begins: a sweep removes something, or waits for that */
};

/* Words for a client, who learns no path; the log has the cause. */
static enum err
refuse(const char *doing)
{
	int cause = errno;

	log_event(LOG_ERROR, "blob_failed", "%s: %m", doing);
	if (cause == ENOSPC || cause == EDQUOT || cause == EFBIG)
		return fail(ERR_BUSY, "there is no room for a file now");
	return fail(ERR_BUSY, "files cannot be stored or removed now");
}

/* --- Keys. */

static bool
suffix_valid(const char *s)
{
	size_t n = strlen(s);

	if (n == 0)
		return true;
	return s[0] == '.' && n >= 2 && n <= BLOB_SUFFIX_MAX &&
	    strspn(s + 1, "abcdefghijklmnopqrstuvwxyz0123456789") == n - 1;
}

static bool
name_valid(const char *name)
{
	return strspn(name, HEX) >= ID_DIGITS && suffix_valid(name + ID_DIGITS);
}

bool
blob_key_valid(const char *key)
{
	return strspn(key, HEX) == 2 && key[2] == '/' && strncmp(key, key + 3, 2) == 0 &&
	    name_valid(key + 3);
}

static bool
leftover_valid(const char *name)
{
	return name[0] == '.' && name_valid(name + 1);
}

static enum err
refuse_key(void)
{
	return fail(ERR_INTERNAL, "this is not the key of a blob");
}

/* --- Folders. */

/* So that the store's own name is on disk too, whoever made it.  On a read-only file system there
 * is nothing to be synced. */
static enum err
sync_parent(const char *folder)
{
	const char *slash = strrchr(folder, '/');
	char *parent = slash == NULL ? strdup(".") : strndup(folder, (size_t)(slash - folder) + 1);
	int fd = parent == NULL ? -1 : open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	enum err err = OK;

	if (fd < 0 || (fsync(fd) != 0 && errno != EROFS))
		err = refuse("syncing the folder that holds the blobs");
	if (fd >= 0)
		(void)close(fd);
	free(parent);
	return err;
}

enum err
blob_open(const char *folder, struct blob **out)
{
	struct blob *store = calloc(1, sizeof(*store));
	enum err err;

	*out = NULL;
	if (store == NULL)
		return fail(ERR_BUSY, "no memory for a store of files");
	(void)pthread_mutex_init(&store->lock, NULL);
	clock_condition_open(&store->changed);
	store->pin_fd = -1;
	if (mkdir(folder, 0700) != 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
		err = refuse("making the folder of blobs");
	else if ((store->fd = open(folder, FOLDER_FLAGS)) < 0)
		err = refuse("opening the folder of blobs");
	else if ((err = sync_parent(folder)) != OK)
		(void)close(store->fd);
	if (err == OK)
		*out = store;
	else
		free(store);
	return err;
}

void
blob_close(struct blob *store)
{
	if (store == NULL)
		return;
	blob_unpin(store);
	(void)close(store->fd);
	(void)pthread_cond_destroy(&store->changed);
	(void)pthread_mutex_destroy(&store->lock);
	free(store);
}

/* The folder of KEY, which must be valid; -1 with errno. */
static int
open_folder(const struct blob *store, const char *key)
{
	const char name[3] = { key[0], key[1], '\0' };

	return openat(store->fd, name, FOLDER_FLAGS);
}

/* As open_folder(); makes it if it is not there.  One that another thread has just made may not be
 * on disk yet, so that everybody syncs until it is known to be. */
static int
make_folder(struct blob *store, const char *key)
{
	const char name[3] = { key[0], key[1], '\0' };
	size_t index = (size_t)text_hex_digit(key[0]) * 16 + (size_t)text_hex_digit(key[1]);
	int fd = openat(store->fd, name, FOLDER_FLAGS);

	if (fd < 0 && errno == ENOENT) {
		atomic_store(&store->settled[index], false);
		if (mkdirat(store->fd, name, 0700) != 0 && errno != EEXIST)
			return -1;
		fd = openat(store->fd, name, FOLDER_FLAGS);
	}
	if (fd < 0 || atomic_load(&store->settled[index]))
		return fd;
	if (fsync(store->fd) != 0) {
		int cause = errno;

		(void)close(fd);
		errno = cause;
		return -1;
	}
	atomic_store(&store->settled[index], true);
	return fd;
}

/* --- Putting. */

/* A file under way: without a name, or under that of a leftover where that cannot be. */
struct draft {
	int folder;
	int fd;
	char name[1 + BLOB_KEY_SIZE]; /* "": none */
};

static enum err
open_draft(struct draft *draft, const char *key)
{
	draft->name[0] = '\0';
	draft->fd = openat(draft->folder, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	/* EISDIR: a kernel or a file system that takes the flag for O_DIRECTORY. */
	if (draft->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
		(void)snprintf(draft->name, sizeof(draft->name), ".%s", key + 3);
		draft->fd = openat(draft->folder, draft->name,
		    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (draft->fd < 0)
			draft->name[0] = '\0';
	}
	return draft->fd < 0 ? refuse("making a blob") : OK;
}

static void
close_draft(struct draft *draft)
{
	if (draft->name[0] != '\0')
		(void)unlinkat(draft->folder, draft->name, 0);
	if (draft->fd >= 0)
		(void)close(draft->fd);
}

static enum err
write_all(int fd, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t written = write(fd, bytes, n);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return refuse("writing a blob");
		bytes += written;
		n -= (size_t)written;
	}
	return fsync(fd) == 0 ? OK : refuse("syncing a blob");
}

/* Gives it its name, which is on disk then. */
static enum err
link_draft(struct draft *draft, const char *name)
{
	char path[64];
	bool named = draft->name[0] != '\0';

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", draft->fd);
	if (linkat(named ? draft->folder : AT_FDCWD, named ? draft->name : path, draft->folder,
		name, named ? 0 : AT_SYMLINK_FOLLOW) != 0)
		return errno == EEXIST ? fail(ERR_CONFLICT, "there is such a file already")
				       : refuse("naming a blob");
	if (named && unlinkat(draft->folder, draft->name, 0) == 0)
		draft->name[0] = '\0';
	if (fsync(draft->folder) == 0)
		return OK;
	/* Who is refused must not find it later. */
	(void)unlinkat(draft->folder, name, 0);
	return refuse("syncing a folder of blobs");
}

enum err
blob_put_as(struct blob *store, const char *key, const void *bytes, size_t n)
{
	struct draft draft = { .fd = -1 };
	enum err err;

	if (!blob_key_valid(key))
		return refuse_key();
	if ((draft.folder = make_folder(store, key)) < 0)
		return refuse("making a folder of blobs");
	if ((err = open_draft(&draft, key)) == OK && (err = write_all(draft.fd, bytes, n)) == OK)
		err = link_draft(&draft, key + 3);
	close_draft(&draft);
	(void)close(draft.folder);
	return err;
}

enum err
blob_put(
    struct blob *store, const void *bytes, size_t n, const char *suffix, char key[BLOB_KEY_SIZE])
{
	unsigned char id[ID_BYTES];
	char hex[ID_DIGITS + 1];
	enum err err;

	assert(suffix_valid(suffix));
	key[0] = '\0';
	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return refuse("choosing a key");
	text_to_hex(id, sizeof(id), hex);
	(void)snprintf(key, BLOB_KEY_SIZE, "%.2s/%s%s", hex, hex, suffix);
	if ((err = blob_put_as(store, key, bytes, n)) != OK)
		key[0] = '\0';
	return err;
}

/* --- Getting and removing. */

enum err
blob_get(struct blob *store, const char *key, int *fd, int64_t *bytes)
{
	struct stat st;
	int folder;

	*fd = -1;
	*bytes = 0;
	if (!blob_key_valid(key))
		return refuse_key();
	if ((folder = open_folder(store, key)) >= 0) {
		/* Without waiting for the writer of a pipe that somebody put there. */
		*fd = openat(folder, key + 3, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		(void)close(folder);
	}
	if (*fd >= 0 && fstat(*fd, &st) == 0 && S_ISREG(st.st_mode)) {
		*bytes = st.st_size;
		return OK;
	}
	if (*fd < 0 && errno != ENOENT && errno != ELOOP && errno != ENOTDIR && errno != ENXIO)
		return refuse("opening a blob");
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
	return fail(ERR_NOT_FOUND, "there is no such file");
}

/* A lock is of a descriptor: each who takes it opens the store's folder anew.  ERR_BUSY if it
 * cannot be had after TRIES, a millisecond each. */
static enum err
lock_store(const struct blob *store, int how, int tries, int *fd)
{
	bool locked;
	enum err err = OK;

	if ((*fd = openat(store->fd, ".", FOLDER_FLAGS)) < 0)
		return refuse("opening the folder of blobs");
	while (!(locked = flock(*fd, how | LOCK_NB) == 0) && errno == EWOULDBLOCK && --tries > 0)
		(void)poll(NULL, 0, 1);
	if (locked)
		return OK;
	err = errno == EWOULDBLOCK ? fail(ERR_BUSY, "a backup is being made")
				   : refuse("locking the folder of blobs");
	(void)close(*fd);
	*fd = -1;
	return err;
}

/* Who removes has the lock for a moment; who pins keeps it. */
enum err
blob_pin(struct blob *store)
{
	assert(store->pin_fd < 0 && "a store is pinned twice");
	return lock_store(store, LOCK_EX, PIN_TRIES, &store->pin_fd);
}

void
blob_unpin(struct blob *store)
{
	if (store->pin_fd >= 0)
		(void)close(store->pin_fd);
	store->pin_fd = -1;
}

/* NAME is of a blob or a leftover, in the folder of KEY.  Synced even if it is not there: who
 * removed it may have been killed before he came to that. */
static enum err
remove_name(struct blob *store, const char *key, const char *name)
{
	int lock, folder;
	enum err err = lock_store(store, LOCK_SH, 1, &lock);

	if (err != OK)
		return err;
	if ((folder = open_folder(store, key)) < 0)
		err = errno == ENOENT ? OK : refuse("opening a folder of blobs");
	else if (unlinkat(folder, name, 0) != 0 && errno != ENOENT)
		err = refuse("removing a blob");
	else if (fsync(folder) != 0)
		err = refuse("syncing a folder of blobs");
	if (folder >= 0)
		(void)close(folder);
	(void)close(lock);
	return err;
}

enum err
blob_remove(struct blob *store, const char *key)
{
	return blob_key_valid(key) ? remove_name(store, key, key + 3) : refuse_key();
}

/* --- Listing. */

struct listing {
	struct blob *store;
	enum err (*fn)(void *ctx, const struct blob_entry *entry);
	void *ctx;
};

static enum err
tell_foreign(const struct listing *l, const char *name)
{
	const struct blob_entry entry = { BLOB_FOREIGN, name };

	return l->fn(l->ctx, &entry);
}

/* NAME in the sub-folder SUB, which is FD. */
static enum err
tell(const struct listing *l, const char *sub, int fd, const char *name)
{
	char path[NAME_MAX_SIZE];
	struct blob_entry entry = { .kind = BLOB_FOREIGN, .name = path };
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/%s", sub, name);
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? OK : refuse("looking at a blob");
	if (!S_ISREG(st.st_mode))
		return tell_foreign(l, path);
	if (blob_key_valid(path))
		entry.kind = BLOB_WHOLE;
	else if (leftover_valid(name) && memcmp(name + 1, sub, 2) == 0)
		entry.kind = BLOB_LEFTOVER;
	else
		return tell_foreign(l, path);
	return l->fn(l->ctx, &entry);
}

/* Every name in the folder FD, which it closes. */
static enum err
each_name(const struct listing *l, const char *sub, int fd,
    enum err (*act)(const struct listing *l, const char *sub, int fd, const char *name))
{
	DIR *dir = fdopendir(fd);
	const struct dirent *found;
	enum err err = OK;

	if (dir == NULL) {
		err = refuse("listing blobs");
		(void)close(fd);
		return err;
	}
	while (err == OK && (errno = 0, found = readdir(dir)) != NULL)
		if (strcmp(found->d_name, ".") != 0 && strcmp(found->d_name, "..") != 0)
			err = act(l, sub, fd, found->d_name);
	if (err == OK && errno != 0)
		err = refuse("listing blobs");
	(void)closedir(dir);
	return err;
}

static enum err
list_folder(const struct listing *l, const char *sub, int fd, const char *name)
{
	int folder;

	(void)sub;
	if (strcmp(name, OWNER) == 0 || strcmp(name, OWNER_NEW) == 0)
		return OK;
	if (strlen(name) != 2 || strspn(name, HEX) != 2)
		return tell_foreign(l, name);
	if ((folder = openat(fd, name, FOLDER_FLAGS)) >= 0)
		return each_name(l, name, folder, tell);
	if (errno == ELOOP || errno == ENOTDIR)
		return tell_foreign(l, name);
	return errno == ENOENT ? OK : refuse("opening a folder of blobs");
}

enum err
blob_list(struct blob *store, enum err (*fn)(void *ctx, const struct blob_entry *entry), void *ctx)
{
	const struct listing l = { store, fn, ctx };
	/* Opened anew, so that each list has a position of its own. */
	int fd = openat(store->fd, ".", FOLDER_FLAGS);

	return fd < 0 ? refuse("listing blobs") : each_name(&l, "", fd, list_folder);
}

/* --- Whose blobs they are. */

static enum err
write_owner(struct blob *store, const char *hex)
{
	int fd;
	enum err err;

	(void)unlinkat(store->fd, OWNER_NEW, 0);
	fd = openat(
	    store->fd, OWNER_NEW, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return refuse("claiming the folder of blobs");
	err = write_all(fd, hex, OWNER_DIGITS);
	(void)close(fd);
	if (err == OK &&
	    (renameat(store->fd, OWNER_NEW, store->fd, OWNER) != 0 || fsync(store->fd) != 0))
		err = refuse("claiming the folder of blobs");
	return err;
}

enum err
blob_claim(struct blob *store, const unsigned char owner[BLOB_OWNER_BYTES], bool *is_owner)
{
	char hex[OWNER_DIGITS + 1], there[OWNER_DIGITS];
	int fd = openat(store->fd, OWNER, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	ssize_t n;

	*is_owner = true;
	text_to_hex(owner, BLOB_OWNER_BYTES, hex);
	if (fd < 0)
		return errno == ENOENT ? write_owner(store, hex)
				       : refuse("looking whose the blobs are");
	n = read(fd, there, sizeof(there));
	(void)close(fd);
	if (n < 0)
		return refuse("looking whose the blobs are");
	*is_owner = n == (ssize_t)sizeof(there) && memcmp(there, hex, sizeof(there)) == 0;
	return OK;
}

enum err
blob_disown(struct blob *store)
{
	if (unlinkat(store->fd, OWNER, 0) != 0 && errno != ENOENT)
		return refuse("giving up the folder of blobs");
	return fsync(store->fd) == 0 ? OK : refuse("giving up the folder of blobs");
}

/* --- Sweeping. */

struct sweep {
	struct blob *store;
	enum err (*keep)(void *ctx, const char *key, bool *kept);
	void *ctx;
	int64_t removed;
};

void
blob_begin(struct blob *store)
{
	(void)pthread_mutex_lock(&store->lock);
	while (store->held)
		(void)pthread_cond_wait(&store->changed, &store->lock);
	store->puts++;
	(void)pthread_mutex_unlock(&store->lock);
}

void
blob_end(struct blob *store)
{
	(void)pthread_mutex_lock(&store->lock);
	if (--store->puts == 0)
		(void)pthread_cond_broadcast(&store->changed);
	(void)pthread_mutex_unlock(&store->lock);
}

static void
release_puts(struct blob *store)
{
	(void)pthread_mutex_lock(&store->lock);
	store->held = false;
	(void)pthread_cond_broadcast(&store->changed);
	(void)pthread_mutex_unlock(&store->lock);
}

/* None is under way, and none begins until release_puts(). */
static enum err
hold_puts(struct blob *store)
{
	int64_t until_us = clock_monotonic_us() + HOLD_US;
	bool none;

	(void)pthread_mutex_lock(&store->lock);
	while (store->held)
		(void)pthread_cond_wait(&store->changed, &store->lock);
	store->held = true;
	while (store->puts > 0 && clock_wait(&store->changed, &store->lock, until_us))
		continue;
	none = store->puts == 0;
	(void)pthread_mutex_unlock(&store->lock);
	if (none)
		return OK;
	release_puts(store);
	return fail(ERR_BUSY, "files are being stored");
}

static enum err
is_kept(const struct sweep *sweep, const struct blob_entry *entry, bool *kept)
{
	*kept = entry->kind != BLOB_LEFTOVER;
	if (entry->kind != BLOB_WHOLE || sweep->keep == NULL)
		return OK;
	return sweep->keep(sweep->ctx, entry->name, kept);
}

static enum err
sweep_entry(void *ctx, const struct blob_entry *entry)
{
	struct sweep *sweep = ctx;
	bool kept;
	enum err err = is_kept(sweep, entry, &kept);

	if (err != OK || kept)
		return err;
	/* Nothing is being put now: what has no row still is nobody's. */
	if ((err = hold_puts(sweep->store)) != OK)
		return err;
	if ((err = is_kept(sweep, entry, &kept)) == OK && !kept &&
	    (err = remove_name(sweep->store, entry->name, entry->name + 3)) == OK)
		sweep->removed++;
	release_puts(sweep->store);
	return err;
}

/* So that not all is looked at for nothing. */
static enum err
check_pin(const struct blob *store)
{
	int lock;
	enum err err = lock_store(store, LOCK_SH, 1, &lock);

	if (err == OK)
		(void)close(lock);
	return err;
}

enum err
blob_sweep(struct blob *store, enum err (*keep)(void *ctx, const char *key, bool *kept), void *ctx,
    int64_t *removed)
{
	struct sweep sweep = { store, keep, ctx, 0 };
	enum err err = check_pin(store);

	if (err == OK)
		err = blob_list(store, sweep_entry, &sweep);
	*removed = sweep.removed;
	return err;
}
