/*
 * caredesk rotate-log: another name for the access log, and old ones removed, without losing a
 * line of it.
 *
 * A log is renamed, never cut, and nginx is told to open a new one.  An old one is removed only if
 * the position that is stored with its counts is its end, and nobody can write to it any more.
 * The folder of the logs is the caller's (root's), the database is the user's: a child becomes the
 * user, reads the positions and tells numbers only.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caredesk.h"
#include "lib/buffer.h"
#include "lib/clock.h"
#include "lib/counts.h"
#include "lib/log.h"
#include "lib/text.h"

#define MIB INT64_C(1048576)
#define TURN_LOCK \
	"run/rotate" /* the log's folder is open to nginx's workers, and so to be locked */
#define NAME_TRIES 100 /* names of one second */
#define LOOK_EVERY_MS 10
#define TURN_WITHIN_US (10 * CLOCK_SECOND_US)
#define REOPEN_WITHIN_US (5 * CLOCK_SECOND_US)
#define REST_US (60 * CLOCK_SECOND_US) /* since it was written to */
#define NAME_CHARACTERS "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.-_"

struct rotation {
	int lock_fd, folder_fd;
	int nginx_fd; /* its master; -1 where the service does not run */
	int64_t least_bytes; /* that the log must have; -1: it is not renamed */
};

/* --- nginx. */

/* The whole of a short file, without its last newline; "" if that cannot be had. */
static void
read_short(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd >= 0 ? read(fd, text, room - 1) : 0;

	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (fd >= 0)
		(void)close(fd);
}

/* Whether that process is an nginx which stands in this folder. */
static bool
is_our_nginx(int64_t pid)
{
	char path[48], name[32];
	struct stat here, there;

	(void)snprintf(path, sizeof(path), "/proc/%" PRId64 "/comm", pid);
	read_short(path, name, sizeof(name));
	(void)snprintf(path, sizeof(path), "/proc/%" PRId64 "/cwd", pid);
	return strcmp(name, "nginx") == 0 && stat(path, &there) == 0 && stat(".", &here) == 0 &&
	    here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

/* The descriptor is taken before the look: a number may be given to another process meanwhile. */
static enum err
find_nginx(int *fd)
{
	char text[TEXT_INT_SIZE];
	int64_t pid;

	read_short("run/nginx.pid", text, sizeof(text));
	if (text_uint(text, strlen(text), &pid) && pid > 1 && pid <= INT_MAX &&
	    (*fd = pidfd_open((pid_t)pid, 0)) >= 0 && is_our_nginx(pid))
		return OK;
	return fail(ERR_BUSY,
	    "the data folder is in use, but nginx does not run there (yet, or any "
	    "more): try again");
}

static bool
log_is_there(const struct rotation *r)
{
	struct stat st;

	return fstatat(r->folder_fd, COUNTS_LOG, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* After a renaming in any case: the log that is there may be of a worker that was slow to open it
 * the last time, and the others still write to the old one.  Else where there is none, since an
 * earlier command was killed before it came to this. */
static enum err
reopen_log(const struct rotation *r, bool is_renamed)
{
	int64_t until_us = clock_monotonic_us() + REOPEN_WITHIN_US;

	if (r->nginx_fd < 0 || (!is_renamed && log_is_there(r)))
		return OK;
	if (pidfd_send_signal(r->nginx_fd, SIGUSR1, NULL, 0) != 0)
		return fail(ERR_BUSY, "nginx cannot be told to open a new " COUNTS_LOG ": %m");
	while (!log_is_there(r)) {
		if (clock_monotonic_us() > until_us)
			return fail(ERR_BUSY,
			    "nginx has not opened a new " COUNTS_LOG " within %d seconds",
			    (int)(REOPEN_WITHIN_US / CLOCK_SECOND_US));
		(void)poll(NULL, 0, LOOK_EVERY_MS);
	}
	(void)printf("nginx has opened a new " COUNTS_LOG "\n");
	return OK;
}

/* --- Its log. */

/* One command at a time works in the folder. */
static enum err
await_turn(struct rotation *r)
{
	int64_t until_us = clock_monotonic_us() + TURN_WITHIN_US;

	r->lock_fd = open(TURN_LOCK, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (r->lock_fd < 0)
		return fail(ERR_INPUT, TURN_LOCK ": %m");
	while (flock(r->lock_fd, LOCK_EX | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK || clock_monotonic_us() > until_us)
			return fail(ERR_BUSY, TURN_LOCK ": %m");
		(void)poll(NULL, 0, LOOK_EVERY_MS);
	}
	return OK;
}

static enum err
open_folder(struct rotation *r)
{
	r->folder_fd = open(COUNTS_LOG_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return r->folder_fd >= 0 ? OK : fail(ERR_INPUT, COUNTS_LOG_FOLDER ": %m");
}

/* access.log.20261121T041858Z; from the second try on with -2, -3, ... */
static void
name_old(const char now[CLOCK_TEXT_SIZE], int try, char *name, size_t room)
{
	size_t n = (size_t)snprintf(name, room, COUNTS_LOG ".%.4s%.2s%.5s%.2s%.2sZ", now, now + 5,
	    now + 8, now + 14, now + 17);

	if (try > 1)
		(void)snprintf(name + n, room - n, "-%d", try);
}

static enum err
rename_log(const struct rotation *r, bool *is_renamed)
{
	char now[CLOCK_TEXT_SIZE], name[NAME_MAX + 1];
	struct stat st;

	*is_renamed = false;
	if (r->least_bytes < 0 ||
	    fstatat(r->folder_fd, COUNTS_LOG, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    !S_ISREG(st.st_mode) || st.st_size == 0 || st.st_size < r->least_bytes)
		return OK;
	clock_text(clock_now_us(), now);
	for (int try = 1; try <= NAME_TRIES; try++) {
		name_old(now, try, name, sizeof(name));
		if (renameat2(r->folder_fd, COUNTS_LOG, r->folder_fd, name, RENAME_NOREPLACE) ==
		    0) {
			(void)printf("rotated to %s\n", name);
			*is_renamed = true;
			return OK;
		}
		if (errno == ENOENT) /* somebody else was first */
			return OK;
		if (errno != EEXIST)
			break;
	}
	return fail(ERR_INPUT, COUNTS_LOG_FOLDER "/" COUNTS_LOG ": cannot be renamed: %m");
}

/* --- Old ones. */

struct old {
	char name[NAME_MAX + 1];
	struct stat st;
	struct counts_log log;
	bool has_head;
	int64_t position; /* that is counted; -1: it is not known */
};

struct olds {
	struct old *items;
	size_t count, room;
};

static bool
is_old(const char *name)
{
	return counts_is_log(name) && name[strlen(COUNTS_LOG)] == '.' &&
	    name[strspn(name, NAME_CHARACTERS)] == '\0';
}

/* What is no file of the log, such as a link, is not ours. */
static enum err
add_old(int folder_fd, const char *name, struct olds *olds)
{
	int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct old *grown, *old;
	int64_t begun_s;
	enum err err = OK;

	if (fd < 0)
		return OK;
	grown = buffer_grow(olds->items, &olds->room, olds->count + 1, sizeof(*grown));
	if (grown == NULL) {
		(void)close(fd);
		return fail(ERR_BUSY, "no memory for a list of files");
	}
	olds->items = grown;
	old = &olds->items[olds->count];
	*old = (struct old){ .position = -1 };
	(void)snprintf(old->name, sizeof(old->name), "%s", name);
	if (fstat(fd, &old->st) == 0 && S_ISREG(old->st.st_mode)) {
		err = counts_head(fd, &old->log, &begun_s, &old->has_head);
		olds->count++;
	}
	(void)close(fd);
	return err;
}

static enum err
find_old(int folder_fd, struct olds *olds)
{
	int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;
	enum err err = OK;

	if (folder == NULL) {
		err = fail(ERR_BUSY, COUNTS_LOG_FOLDER ": %m");
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	while (err == OK && (entry = readdir(folder)) != NULL)
		if (is_old(entry->d_name))
			err = add_old(folder_fd, entry->d_name, olds);
	(void)closedir(folder);
	return err;
}

static int64_t
instant_us(const struct timespec *at)
{
	return (int64_t)at->tv_sec * CLOCK_SECOND_US + at->tv_nsec / 1000;
}

/* The newest first. */
static int
order_old(const void *a, const void *b)
{
	const struct old *x = a, *y = b;
	int64_t x_us = instant_us(&x->st.st_mtim), y_us = instant_us(&y->st.st_mtim);

	return x_us != y_us ? (x_us < y_us) - (x_us > y_us) : strcmp(y->name, x->name);
}

struct asked {
	struct old *olds;
	size_t count;
	int64_t *positions; /* in memory that the child shares with us */
};

/* A deputy_fn: a number for each of them. */
static enum err
tell_positions(void *ctx, int fd)
{
	const struct asked *asked = ctx;
	struct db *db = NULL;
	enum err err;

	(void)fd;
	/* Before the first start there is none. */
	if (access(COUNTS_FILE, F_OK) != 0 && errno == ENOENT)
		return OK;
	err = db_open(COUNTS_FILE, DB_READ, &counts_schema, &db);
	for (size_t i = 0; i < asked->count && err == OK; i++) {
		struct counts_log *log = &asked->olds[i].log;

		if (asked->olds[i].has_head && (err = counts_find(db, log)) == OK && log->id != 0)
			asked->positions[i] = log->position;
	}
	db_close(db);
	return err;
}

static enum err
ask_positions(const char *user, struct old *olds, size_t count)
{
	size_t bytes = count * sizeof(int64_t);
	int64_t *positions =
	    mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct asked asked = { olds, count, positions };
	struct deputy deputy;
	enum err err;

	if (positions == MAP_FAILED)
		return fail(ERR_BUSY, "no memory for a list of files");
	for (size_t i = 0; i < count; i++)
		positions[i] = -1;
	if ((err = deputy_start(user, tell_positions, &asked, &deputy)) == OK &&
	    (err = deputy_end(&deputy)) != OK)
		err = fail(ERR_BUSY, COUNTS_FILE ": %s", err_words());
	for (size_t i = 0; i < count; i++)
		olds[i].position = positions[i];
	(void)munmap(positions, bytes);
	return err;
}

/* Whether nobody has it open to write, as the kernel knows who gives out leases: a worker of nginx
 * may be slow to open the new log.  Where there are none, a minute since the renaming must do. */
static bool
is_closed(int fd, const struct stat *st)
{
	if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
		(void)fcntl(fd, F_SETLEASE, F_UNLCK);
		return true;
	}
	return errno != EAGAIN && instant_us(&st->st_ctim) <= clock_now_us() - REST_US;
}

/* Whether it is as it was looked at, and stays so. */
static bool
is_at_rest(int folder_fd, const struct old *old)
{
	int fd = openat(folder_fd, old->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	bool is_same = fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == old->st.st_dev &&
	    st.st_ino == old->st.st_ino && st.st_size == old->st.st_size &&
	    instant_us(&st.st_mtim) <= clock_now_us() - REST_US && is_closed(fd, &st);

	if (fd >= 0)
		(void)close(fd);
	return is_same;
}

/* One that is empty holds nothing to be counted. */
static enum err
remove_old(int folder_fd, const struct old *old)
{
	if (!is_at_rest(folder_fd, old))
		return OK;
	if (old->st.st_size != 0 && old->position != old->st.st_size) {
		log_event(LOG_WARNING, "rotate",
		    "%s is kept: of its %" PRId64 " bytes, %" PRId64 " are counted", old->name,
		    (int64_t)old->st.st_size, old->position < 0 ? 0 : old->position);
		return OK;
	}
	if (unlinkat(folder_fd, old->name, 0) != 0)
		return errno == ENOENT ? OK : fail(ERR_INPUT, "%s: %m", old->name);
	(void)printf("removed %s\n", old->name);
	return OK;
}

static enum err
remove_all_old(int folder_fd, const struct conf *conf)
{
	struct olds olds = { .items = NULL };
	size_t kept = (size_t)conf->log.keep;
	enum err err = find_old(folder_fd, &olds);

	if (err == OK && olds.count > kept) {
		qsort(olds.items, olds.count, sizeof(olds.items[0]), order_old);
		err = ask_positions(conf->user, olds.items + kept, olds.count - kept);
		for (size_t i = kept; i < olds.count && err == OK; i++)
			err = remove_old(folder_fd, &olds.items[i]);
	}
	free(olds.items);
	return err;
}

/* --- The command. */

static int64_t
least_bytes(const struct caredesk_options *options, const struct conf *conf)
{
	if (options->size_mib >= 0)
		return options->size_mib * MIB;
	return conf->log.rotate_mib > 0 ? conf->log.rotate_mib * MIB : -1;
}

/* The service does not start between the look for it and the renaming: it would open the log
 * unseen.  After that it may. */
static enum err
rotate(struct rotation *r, struct data *data)
{
	bool is_renamed;
	enum err err = rename_log(r, &is_renamed);

	if (data->lock_fd >= 0)
		(void)close(data->lock_fd);
	data->lock_fd = -1;
	if (err == OK && (err = reopen_log(r, is_renamed)) == OK)
		err = remove_all_old(r->folder_fd, data->conf);
	return err;
}

enum err
caredesk_rotate(const struct caredesk_options *options)
{
	struct rotation r = { .lock_fd = -1, .folder_fd = -1, .nginx_fd = -1 };
	struct data data;
	enum err err = data_open(&options->conf, DATA_WRITE, &data);

	(void)signal(SIGIO, SIG_IGN); /* who opens a file whose lease we have */
	(void)setvbuf(stdout, NULL, _IOLBF, 0); /* in order with what goes to standard error */
	if (err == ERR_BUSY && data.conf != NULL)
		err = find_nginx(&r.nginx_fd);
	if (err == OK && (err = await_turn(&r)) == OK && (err = open_folder(&r)) == OK) {
		r.least_bytes = least_bytes(options, data.conf);
		err = rotate(&r, &data);
	}
	if (r.nginx_fd >= 0)
		(void)close(r.nginx_fd);
	if (r.folder_fd >= 0)
		(void)close(r.folder_fd);
	if (r.lock_fd >= 0)
		(void)close(r.lock_fd);
	data_close(&data);
	return err;
}
