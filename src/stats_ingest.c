/*
 * stats_ingest: a thread that follows the access log (see stats.h).
 *
 * What is counted is decided by two things alone: the lines of the files, and the position that is
 * stored with the counts of what is before it.  A file is known again by its first line, so it may
 * be renamed, by whomever and however often; all that lie beside the log are read to their ends, in
 * the order of their first lines.  A line counts once its end is there.
 */
#include "stats.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "lib/pool.h"

#define READ_BYTES (512 * 1024)
#define SOURCES_MAX 256
#define SOURCES_KEPT 64 /* that are held open, done or not: nginx may write to one yet */
#define LOOK_EVERY_US (60 * CLOCK_SECOND_US) /* at the folder, though nothing is heard of it */
#define ROWS_MAX (256 * 1024) /* of a batch; with its paths, about 46 MiB in all */
#define PATHS_BYTES_MAX (20 * 1024 * 1024)
#define DAMAGED_MAX 16 /* kept of one batch */
#define PASS_EVERY_MS 50 /* while there is something to do */
#define IDLE_MS 1000 /* where nothing is heard of a change; a look then costs nothing */
#define DRAINED_US (10 * CLOCK_SECOND_US) /* since a renamed file grew */
#define STORE_AGAIN_MS 500

/* A file being read. */
struct source {
	int fd;
	dev_t device;
	ino_t inode;
	char name[NAME_MAX + 1];
	struct counts_log log;
	bool is_known; /* its first line was read, and looked for */
	int64_t begun_s; /* the time in its first line: they are read in this order */
	int64_t grown_us; /* when it last had something new */
	bool is_current;
};

static struct {
	struct commit *commit;
	struct db_readers *readers;
	struct tally *tally;
	char *buffer;
	int notify_fd, wake_fd;
	pthread_t thread;
	bool started, look_again;
	int64_t look_us; /* when the folder is looked at next */
	struct source sources[SOURCES_MAX];
	size_t source_count;
	int64_t lines, damaged_count; /* of the batch, whose hits are in the tally */
	struct counts_damaged damaged[DAMAGED_MAX];
	size_t damaged_kept;
	atomic_bool closing;
	atomic_llong lag;
	pthread_mutex_t lock; /* of all that follows */
	pthread_cond_t changed;
	int64_t asked, done; /* passes */
	enum err err; /* of the pass that was done last */
} ingest = { .notify_fd = -1, .wake_fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- A file's first line. */

static enum err
read_head(struct source *source, bool *is_whole)
{
	enum err err = counts_head(source->fd, &source->log, &source->begun_s, is_whole);

	return err == OK ? OK : fail(err, "%s: %s", source->name, err_words());
}

/* Looks for the file by its first line, once it has one. */
static enum err
identify(struct source *source)
{
	struct db *db = NULL;
	bool is_whole;
	enum err err = read_head(source, &is_whole);

	if (err != OK || !is_whole)
		return err;
	if ((err = db_borrow(ingest.readers, &db)) == OK)
		err = counts_find(db, &source->log);
	db_return(ingest.readers, db);
	source->is_known = err == OK;
	return err;
}

/* --- Which files there are. */

static void
drop_source(size_t i)
{
	(void)close(ingest.sources[i].fd);
	ingest.sources[i] = ingest.sources[--ingest.source_count];
}

static struct source *
find_source(const struct stat *st)
{
	for (size_t i = 0; i < ingest.source_count; i++)
		if (ingest.sources[i].device == st->st_dev && ingest.sources[i].inode == st->st_ino)
			return &ingest.sources[i];
	return NULL;
}

/* Whether a file that was renamed long ago is taken in, and need not be held open. */
static bool
is_done(const struct source *source, const struct stat *st)
{
	return source->is_known && source->log.position >= st->st_size &&
	    strcmp(source->name, COUNTS_LOG) != 0 &&
	    st->st_mtime < clock_now_us() / CLOCK_SECOND_US - DRAINED_US / CLOCK_SECOND_US;
}

/* Something else beside the log must not keep it from being counted. */
static enum err
cannot_open(const char *name)
{
	if (errno == ENOENT || errno == ELOOP) /* gone, or a link: no file of nginx's */
		return OK;
	if (strcmp(name, COUNTS_LOG) == 0)
		return fail(ERR_BUSY, "%s: %m", name);
	log_event(LOG_WARNING, "log_unreadable", "%s: %m; it is not counted", name);
	return OK;
}

static enum err
add_source(int folder, const char *name)
{
	struct source *source = &ingest.sources[ingest.source_count];
	struct stat st;
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	enum err err;

	if (fd < 0)
		return cannot_open(name);
	/* More than that at once wait for the first ones to be done. */
	ingest.look_again |= ingest.source_count == SOURCES_MAX;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || ingest.source_count == SOURCES_MAX ||
	    find_source(&st) != NULL) {
		(void)close(fd);
		return OK;
	}
	*source = (struct source){
		.fd = fd, .device = st.st_dev, .inode = st.st_ino, .grown_us = clock_monotonic_us()
	};
	(void)snprintf(source->name, sizeof(source->name), "%s", name);
	ingest.source_count++;
	err = identify(source);
	/* Without a log, one of the renamed ones is what nginx writes to. */
	if (err == OK && is_done(source, &st) && faccessat(folder, COUNTS_LOG, F_OK, 0) == 0)
		drop_source(ingest.source_count - 1);
	return err;
}

static int
order_sources(const void *a, const void *b)
{
	const struct source *x = a, *y = b;

	if (x->is_current != y->is_current)
		return x->is_current - y->is_current;
	return (x->begun_s > y->begun_s) - (x->begun_s < y->begun_s);
}

static enum err
find_files(void)
{
	DIR *folder = opendir(COUNTS_LOG_FOLDER);
	const struct dirent *entry;
	enum err err;

	ingest.look_again = false;
	ingest.look_us = clock_monotonic_us() + LOOK_EVERY_US;
	if (folder == NULL)
		return fail(ERR_BUSY, COUNTS_LOG_FOLDER ": %m");
	err = add_source(dirfd(folder), COUNTS_LOG); /* before there is no room */
	while (err == OK && (entry = readdir(folder)) != NULL)
		if (counts_is_log(entry->d_name))
			err = add_source(dirfd(folder), entry->d_name);
	(void)closedir(folder);
	return err;
}

/* The one that bears the log's name; NULL if none does. */
static const struct source *
current(void)
{
	for (size_t i = 0; i < ingest.source_count; i++)
		if (ingest.sources[i].is_current)
			return &ingest.sources[i];
	return NULL;
}

/* Whether the log is another file now, or there is none: it was renamed, or has vanished. */
static bool
log_has_moved(void)
{
	const struct source *followed = current();
	struct stat st;

	if (stat(COUNTS_LOG_FOLDER "/" COUNTS_LOG, &st) != 0)
		return true;
	return followed == NULL || followed->device != st.st_dev || followed->inode != st.st_ino;
}

/* Who bears the log's name, and who did. */
static void
name_current(void)
{
	struct stat st;
	bool is_there = stat(COUNTS_LOG_FOLDER "/" COUNTS_LOG, &st) == 0;

	for (size_t i = 0; i < ingest.source_count; i++) {
		struct source *source = &ingest.sources[i];
		bool was = source->is_current;
		struct stat own;

		source->is_current =
		    is_there && source->device == st.st_dev && source->inode == st.st_ino;
		if (!was || source->is_current)
			continue;
		source->grown_us =
		    clock_monotonic_us(); /* nginx goes on writing to it for a while */
		if (fstat(source->fd, &own) == 0 && own.st_nlink == 0)
			log_event(LOG_WARNING, "log_vanished",
			    "%s was removed while it was followed; what it held is taken in, and "
			    "nothing is known of anything later",
			    source->name);
	}
	qsort(ingest.sources, ingest.source_count, sizeof(ingest.sources[0]), order_sources);
}

static enum err
look_for_files(void)
{
	enum err err = OK;

	if ((log_has_moved() || ingest.look_again || clock_monotonic_us() > ingest.look_us) &&
	    (err = find_files()) == OK)
		name_current();
	return err;
}

/* --- Lines. */

static void
keep_damaged(int64_t position, const char *line, size_t n)
{
	struct counts_damaged *kept = &ingest.damaged[ingest.damaged_kept];

	ingest.lines++;
	ingest.damaged_count++;
	if (ingest.damaged_kept == DAMAGED_MAX)
		return;
	ingest.damaged_kept++;
	kept->position = position;
	kept->n = n < COUNTS_LINE_MAX ? n : COUNTS_LINE_MAX;
	memcpy(kept->line, line, kept->n);
}

static bool
take_hit(const char *line, size_t n)
{
	struct hit hit;
	bool taken = hit_parse(line, n, &hit) && tally_add(ingest.tally, &hit);

	ingest.lines += taken;
	return taken;
}

/* A line that a full disk has cut off has the next one behind it, without an end between them.  How
 * a line begins cannot stand inside of one, where quotes are escaped. */
static size_t
cut_off(const char *line, size_t n)
{
	const char *end = line + n, *at = line, *last = line;

	while (
	    at < end && (at = memmem(at, (size_t)(end - at), HIT_BEGINS, sizeof(HIT_BEGINS) - 1)))
		last = at++;
	return (size_t)(last - line);
}

static void
take_line(int64_t position, const char *line, size_t n)
{
	size_t before;

	if (take_hit(line, n))
		return;
	before = cut_off(line, n);
	if (before > 0 && take_hit(line + before, n - before))
		n = before;
	keep_damaged(position, line, n);
}

static void
forget_batch(void)
{
	tally_clear(ingest.tally);
	ingest.lines = ingest.damaged_count = 0;
	ingest.damaged_kept = 0;
}

/* Stores what was added up, of this source up to POSITION. */
static enum err
store(struct source *source, int64_t position)
{
	struct counts_batch batch = { .log = &source->log,
		.tally = ingest.tally,
		.position = position,
		.lines = ingest.lines,
		.damaged_count = ingest.damaged_count,
		.damaged = ingest.damaged,
		.damaged_kept = ingest.damaged_kept };
	enum err err;

	if (ingest.lines == 0)
		return OK;
	err = counts_store(ingest.commit, &batch);
	if (err == OK && ingest.damaged_count > 0)
		log_event(LOG_WARNING, "log_damaged", "%s: %lld lines are no requests",
		    source->name, (long long)ingest.damaged_count);
	if (err == OK)
		metrics_count(METRIC_LOG_LINES, (struct metrics_labels){ 0 }, ingest.lines);
	/* Without a commit they are read again. */
	forget_batch();
	return err;
}

/* A line longer than any of ours: its beginning is kept, and all of it passed over.  *POSITION is
 * where it ends, or where it began if its end is not there yet. */
static enum err
pass_long_line(struct source *source, int64_t *position)
{
	int64_t at = *position + READ_BYTES;
	char begin[COUNTS_LINE_MAX];
	const char *end = NULL;
	ssize_t n;

	memcpy(begin, ingest.buffer, sizeof(begin));
	do {
		n = pread(source->fd, ingest.buffer, READ_BYTES, at);
		end = n > 0 ? memchr(ingest.buffer, '\n', (size_t)n) : NULL;
		at += end != NULL ? end - ingest.buffer + 1 : n > 0 ? n : 0;
	} while (n > 0 && end == NULL);
	if (n < 0)
		return fail(ERR_BUSY, "%s: %m", source->name);
	if (end == NULL) /* looked at again when it is longer */
		return OK;
	keep_damaged(*position, begin, sizeof(begin));
	*position = at;
	return OK;
}

/* The whole lines of the N bytes that are in the buffer; returns how many bytes they are. */
static enum err
take_lines(struct source *source, size_t n, int64_t *position)
{
	const char *line = ingest.buffer, *end = ingest.buffer + n, *newline;
	enum err err;

	for (; (newline = memchr(line, '\n', (size_t)(end - line))) != NULL; line = newline + 1) {
		if (tally_is_full(ingest.tally) && (err = store(source, *position)) != OK)
			return err;
		take_line(*position, line, (size_t)(newline - line));
		*position += newline - line + 1;
	}
	return OK;
}

/* All that is there now. */
static enum err
read_source(struct source *source)
{
	int64_t position = source->log.position, before;
	ssize_t n;
	enum err err = OK;

	forget_batch(); /* of a file that could not be read to its end */
	do {
		before = position;
		n = pread(source->fd, ingest.buffer, READ_BYTES, position);
		if (n < 0)
			return fail(ERR_BUSY, "%s: %m", source->name);
		if (n > 0)
			err = take_lines(source, (size_t)n, &position);
		if (err == OK && position == before && n == READ_BYTES)
			err = pass_long_line(source, &position);
	} while (
	    err == OK && n == READ_BYTES && position > before && !atomic_load(&ingest.closing));
	if (err == OK)
		err = store(source, position);
	if (err != ERR_PRECONDITION)
		return err;
	source->is_known = false; /* a copy of it was read further: it is looked for again */
	return OK;
}

/* Whether its first line is still the one that it is known by. */
static bool
is_same(const struct source *source)
{
	struct source now = *source;
	bool is_whole;

	return read_head(&now, &is_whole) != OK ||
	    (is_whole && memcmp(now.log.head, source->log.head, sizeof(now.log.head)) == 0);
}

/* Where in a line of N bytes something was written after AT_S; N where nothing was. */
static size_t
written_after(const char *line, size_t n, int64_t at_s)
{
	size_t before = cut_off(line, n);
	struct hit hit;

	if (hit_parse(line, n, &hit))
		return hit.at_s > at_s ? 0 : n;
	return hit_parse(line + before, n - before, &hit) && hit.at_s > at_s ? before : n;
}

/* Where it was cut, as far as can be known: of what is there now, all that was written after it was
 * read last is new. */
static enum err
find_cut(const struct source *source, int64_t *position)
{
	const int64_t at_s = source->log.seen_at / CLOCK_SECOND_US;
	const char *line, *end, *newline;
	ssize_t n;

	for (*position = 0;; *position += line - ingest.buffer) {
		n = pread(source->fd, ingest.buffer, READ_BYTES, *position);
		if (n < 0)
			return fail(ERR_BUSY, "%s: %m", source->name);
		line = ingest.buffer;
		end = line + n;
		for (; (newline = memchr(line, '\n', (size_t)(end - line))) != NULL;
		     line = newline + 1) {
			size_t whole = (size_t)(newline - line);
			size_t old = written_after(line, whole, at_s);

			if (old < whole) {
				*position += line + old - ingest.buffer;
				return OK;
			}
		}
		if (line == ingest.buffer) /* what has no end yet is new or garbage */
			return OK;
	}
}

/* What was cut off before it was read cannot be known: said.  It goes on from where it was cut, or
 * from its new beginning; a copy may have been made of it. */
static enum err
begin_anew(struct source *source, int64_t size)
{
	int64_t position;
	enum err err;

	log_event(LOG_WARNING, "log_truncated",
	    "%s was cut to %lld bytes; %lld were taken in, and what came behind them is lost "
	    "unless a copy has it",
	    source->name, (long long)size, (long long)source->log.position);
	ingest.look_again = true;
	if (is_same(source)) {
		err = find_cut(source, &position);
		return err == OK ? counts_cut(ingest.commit, &source->log, position) : err;
	}
	source->is_known = false;
	source->log = (struct counts_log){ .id = 0 };
	return identify(source);
}

static enum err
follow(struct source *source)
{
	struct stat st;
	bool is_shorter;
	enum err err = OK;

	if (fstat(source->fd, &st) != 0)
		return fail(ERR_BUSY, "%s: %m", source->name);
	is_shorter = source->is_current && st.st_size < source->log.position;
	if (source->is_known && is_shorter)
		err = identify(source); /* when it was read last */
	if (err == OK && source->is_known && (is_shorter || !is_same(source)))
		err = begin_anew(source, (int64_t)st.st_size);
	/* Also a known one: a copy of it, which is the same log, may have been read further. */
	if (err == OK && (!source->is_known || st.st_size > source->log.position))
		err = identify(source);
	if (err != OK || !source->is_known || st.st_size <= source->log.position)
		return err;
	source->grown_us = clock_monotonic_us();
	return read_source(source);
}

/* A file that was renamed may grow as long as a worker of nginx has it open; one that was removed,
 * until nginx opens another.  With few of them nobody is in a hurry. */
static bool
is_drained(const struct source *source, const struct stat *st)
{
	return current() != NULL && !source->is_current &&
	    (st->st_nlink == 0 || ingest.source_count > SOURCES_KEPT) &&
	    clock_monotonic_us() - source->grown_us > DRAINED_US;
}

/* --- The thread. */

/* Lets go of what was read to its end; returns whether that makes room for files that wait. */
static bool
drop_drained(void)
{
	bool makes_room = false;
	struct stat st;

	for (size_t i = ingest.source_count; i-- > 0;) {
		const struct source *source = &ingest.sources[i];
		bool done = fstat(source->fd, &st) == 0 && st.st_size <= source->log.position;

		if (done &&
		    (is_drained(source, &st) || (ingest.look_again && is_done(source, &st)))) {
			drop_source(i);
			makes_room = ingest.look_again;
		}
	}
	return makes_room;
}

static int64_t
measure_lag(void)
{
	int64_t lag = 0;
	struct stat st;

	for (size_t i = 0; i < ingest.source_count; i++) {
		const struct source *source = &ingest.sources[i];

		if (fstat(source->fd, &st) == 0 && st.st_size > source->log.position)
			lag += st.st_size - source->log.position;
	}
	return lag;
}

static enum err
pass(void)
{
	int64_t lag;
	enum err err;

	do {
		err = look_for_files();
		for (size_t i = 0; i < ingest.source_count && err == OK; i++)
			err = follow(&ingest.sources[i]);
	} while (err == OK && drop_drained() && !atomic_load(&ingest.closing));
	lag = measure_lag();
	atomic_store(&ingest.lag, lag);
	metrics_set(METRIC_LOG_LAG, (struct metrics_labels){ 0 }, lag);
	return err;
}

static void
drain(int fd)
{
	char bytes[4096];

	while (read(fd, bytes, sizeof(bytes)) > 0)
		;
}

/* Until something was written, somebody asks, or so long. */
static void
wait_for_more(int timeout_ms)
{
	struct pollfd fds[] = { { .fd = ingest.wake_fd, .events = POLLIN },
		{ .fd = ingest.notify_fd, .events = POLLIN } };

	(void)poll(fds, 2, timeout_ms);
	/* Lines come many at once: the others of them are waited for, but not by who asks. */
	if (fds[0].revents == 0 && fds[1].revents != 0)
		(void)poll(fds, 1, PASS_EVERY_MS);
	if (fds[0].revents != 0)
		drain(ingest.wake_fd);
	if (ingest.notify_fd >= 0)
		drain(ingest.notify_fd);
}

static void
settle_pass(int64_t asked, enum err err)
{
	(void)pthread_mutex_lock(&ingest.lock);
	ingest.done = asked;
	ingest.err = err;
	(void)pthread_cond_broadcast(&ingest.changed);
	(void)pthread_mutex_unlock(&ingest.lock);
}

static void *
follow_log(void *ctx)
{
	bool failed = false, more;
	int64_t asked;
	enum err err;

	while (!atomic_load(&ingest.closing)) {
		(void)pthread_mutex_lock(&ingest.lock);
		asked = ingest.asked;
		(void)pthread_mutex_unlock(&ingest.lock);
		err_clear();
		err = pass();
		if (err != OK && !failed)
			log_event(LOG_ERROR, "ingest", "%s; it is tried again", err_words());
		failed = err != OK;
		settle_pass(asked, err);
		more = !failed && thin_some();
		wait_for_more(more ? 0 : failed ? STORE_AGAIN_MS : IDLE_MS);
	}
	/* nginx has ended by now: with its last lines (READ_BYTES of a file), a backup of what is
	 * stopped has all.  After a backlog of more, the next start reads on. */
	if (!failed && (err = pass()) != OK)
		log_event(LOG_ERROR, "ingest", "%s; it is tried at the next start", err_words());
	return ctx;
}

/* --- Everybody else. */

enum err
ingest_open(struct commit *commit, struct db_readers *readers)
{
	ingest.commit = commit;
	ingest.readers = readers;
	metrics_count(METRIC_LOG_LINES, (struct metrics_labels){ 0 }, 0);
	clock_condition_open(&ingest.changed);
	ingest.buffer = malloc(READ_BYTES);
	ingest.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ingest.notify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	/* Without it the log is looked at every IDLE_MS. */
	if (ingest.notify_fd < 0 ||
	    inotify_add_watch(ingest.notify_fd, COUNTS_LOG_FOLDER,
		IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE) < 0)
		log_event(LOG_WARNING, "ingest", "the log is looked at every %d ms: %m", IDLE_MS);
	if (ingest.buffer == NULL || ingest.wake_fd < 0)
		return fail(ERR_INTERNAL, "the log cannot be followed: %m");
	enum err err = tally_open(ROWS_MAX, PATHS_BYTES_MAX, &ingest.tally);
	if (err == OK && pthread_create(&ingest.thread, NULL, follow_log, NULL) != 0)
		err = fail(ERR_INTERNAL, "the log cannot be followed: no thread");
	ingest.started = err == OK;
	return err;
}

void
ingest_close(void)
{
	const uint64_t one = 1;

	atomic_store(&ingest.closing, true);
	if (ingest.started && write(ingest.wake_fd, &one, sizeof(one)) > 0)
		(void)pthread_join(ingest.thread, NULL);
	while (ingest.source_count > 0)
		drop_source(0);
	tally_close(ingest.tally);
	free(ingest.buffer);
	if (ingest.wake_fd >= 0)
		(void)close(ingest.wake_fd);
	if (ingest.notify_fd >= 0)
		(void)close(ingest.notify_fd);
}

enum err
ingest_now(int64_t until_us)
{
	const uint64_t one = 1;
	bool in_time = true;
	int64_t mine;
	enum err err = OK;

	pool_wait_begin();
	(void)pthread_mutex_lock(&ingest.lock);
	mine = ++ingest.asked;
	if (write(ingest.wake_fd, &one, sizeof(one)) < 0)
		in_time = false;
	while (ingest.done < mine && in_time)
		in_time = clock_wait(&ingest.changed, &ingest.lock, until_us);
	if (ingest.done < mine)
		err = fail(ERR_BUSY, "the access log is not taken in yet");
	else if (ingest.err != OK)
		err = fail(ERR_BUSY, "the access log cannot be taken in now");
	(void)pthread_mutex_unlock(&ingest.lock);
	pool_wait_end();
	return err;
}

enum err
ingest_health(void)
{
	enum err err;

	(void)pthread_mutex_lock(&ingest.lock);
	err = ingest.err;
	(void)pthread_mutex_unlock(&ingest.lock);
	return err == OK ? OK : fail(ERR_BUSY, "the access log cannot be taken in now");
}

int64_t
ingest_lag(void)
{
	return atomic_load(&ingest.lag);
}
