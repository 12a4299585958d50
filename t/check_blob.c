#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "lib/blob.h"

/* A key of our own. */
#define KEY "5a/5a000000000000000000000000000001.png"

static struct blob *store;
static char base[64];

/* --- What the store asks of the system, by the linker's --wrap. */

static bool no_nameless; /* as a file system that has no nameless files */
static int fail_at; /* which of the calls below fails, from 1; 0: none */
static int calls;
static char seen[256]; /* those calls, a word each */
static bool unseen; /* by many threads: they are not told */

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_linkat(int from, const char *old, int to, const char *new, int flags);
int __wrap_linkat(int from, const char *old, int to, const char *new, int flags);
int __real_unlinkat(int fd, const char *name, int flags);
int __wrap_unlinkat(int fd, const char *name, int flags);
int __real_openat(int fd, const char *name, int flags, ...);
int __wrap_openat(int fd, const char *name, int flags, ...);

/* Whether the call may be made. */
static bool
note(const char *what)
{
	if (unseen)
		return true;
	if (strlen(seen) + strlen(what) + 2 < sizeof(seen)) {
		strcat(seen, what);
		strcat(seen, " ");
	}
	if (++calls != fail_at)
		return true;
	errno = EIO;
	return false;
}

static bool
is_folder(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino;
}

int
__wrap_fsync(int fd)
{
	struct stat st;
	const char *what = "file";

	ck_assert_int_eq(fstat(fd, &st), 0);
	if (S_ISDIR(st.st_mode))
		what = is_folder(fd, ".") ? "parent" : is_folder(fd, "blobs") ? "store" : "folder";
	return note(what) ? __real_fsync(fd) : -1;
}

int
__wrap_linkat(int from, const char *old, int to, const char *new, int flags)
{
	return note("link") ? __real_linkat(from, old, to, new, flags) : -1;
}

/* Never fails: it is what cleans up. */
int
__wrap_unlinkat(int fd, const char *name, int flags)
{
	if (!unseen && strlen(seen) + sizeof("unlink ") < sizeof(seen))
		strcat(seen, "unlink ");
	return __real_unlinkat(fd, name, flags);
}

int
__wrap_openat(int fd, const char *name, int flags, ...)
{
	va_list args;
	unsigned mode;

	va_start(args, flags);
	mode = va_arg(args, unsigned);
	va_end(args);
	if (no_nameless && (flags & O_TMPFILE) == O_TMPFILE) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return __real_openat(fd, name, flags, mode);
}

/* --- A store in a folder of its own. */

static void
begin(void)
{
	(void)snprintf(base, sizeof(base), "/tmp/check_blob.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(base));
	ck_assert_int_eq(chdir(base), 0);
	ck_assert_msg(blob_open("blobs", &store) == OK, "%s", err_words());
	err_clear();
	seen[0] = '\0';
}

static void
end(void)
{
	char command[128];

	blob_close(store);
	ck_assert_int_eq(chdir("/"), 0);
	(void)snprintf(command, sizeof(command), "rm -r %s", base);
	ck_assert_int_eq(system(command), 0);
}

static char
byte_at(size_t i, size_t n)
{
	return (char)(i * 31 + n + i / 251);
}

static char *
make_bytes(size_t n)
{
	char *bytes = malloc(n + 1);

	ck_assert_ptr_nonnull(bytes);
	for (size_t i = 0; i < n; i++)
		bytes[i] = byte_at(i, n);
	return bytes;
}

static enum err
put(size_t n, const char *suffix, char key[BLOB_KEY_SIZE])
{
	char *bytes = make_bytes(n);
	enum err err = blob_put(store, bytes, n, suffix, key);

	free(bytes);
	return err;
}

/* It is there, and of as many of the bytes as it has. */
static size_t
check_whole(const char *key)
{
	struct stat st;
	int64_t n;
	int fd;
	char *bytes, *wanted;

	ck_assert_msg(blob_get(store, key, &fd, &n) == OK, "%s: %s", key, err_words());
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_ptr_nonnull(bytes = malloc((size_t)n + 1));
	ck_assert_int_eq(read(fd, bytes, (size_t)n + 1), n);
	wanted = make_bytes((size_t)n);
	ck_assert_msg(memcmp(bytes, wanted, (size_t)n) == 0, "%s is not whole", key);
	free(wanted);
	free(bytes);
	(void)close(fd);
	return (size_t)n;
}

static void
check_gone(const char *key)
{
	int64_t n;
	int fd;

	ck_assert_int_eq(blob_get(store, key, &fd, &n), ERR_NOT_FOUND);
	ck_assert_int_eq(fd, -1);
}

struct tally {
	size_t count[3];
	int64_t bytes;
	char name[300]; /* the last one */
};

static enum err
count_entry(void *ctx, const struct blob_entry *entry)
{
	struct tally *tally = ctx;

	tally->count[entry->kind]++;
	(void)snprintf(tally->name, sizeof(tally->name), "%s", entry->name);
	if (entry->kind == BLOB_WHOLE)
		tally->bytes += (int64_t)check_whole(entry->name);
	return OK;
}

static struct tally
list(void)
{
	struct tally tally = { 0 };

	ck_assert_int_eq(blob_list(store, count_entry, &tally), OK);
	return tally;
}

static void
check_list(size_t whole, size_t leftover, size_t foreign)
{
	struct tally tally = list();

	ck_assert_uint_eq(tally.count[BLOB_WHOLE], whole);
	ck_assert_uint_eq(tally.count[BLOB_LEFTOVER], leftover);
	ck_assert_uint_eq(tally.count[BLOB_FOREIGN], foreign);
}

/* --- */

static void
go_round(void)
{
	static const size_t sizes[] = { 0, 1, 4095, 4096, 4097, 65537, 12000000 };
	static const char *const suffixes[] = { "", ".png", ".jpg", ".a", ".jpeg42" };
	char keys[COUNT(sizes)][BLOB_KEY_SIZE];
	int64_t total = 0;

	for (size_t i = 0; i < COUNT(sizes); i++) {
		const char *suffix = suffixes[i % COUNT(suffixes)];

		ck_assert_msg(put(sizes[i], suffix, keys[i]) == OK, "%s", err_words());
		ck_assert(blob_key_valid(keys[i]));
		ck_assert_str_eq(keys[i] + 35, suffix);
		ck_assert_uint_eq(check_whole(keys[i]), sizes[i]);
		total += (int64_t)sizes[i];
	}
	ck_assert_int_eq(list().bytes, total);
	check_list(COUNT(sizes), 0, 0);
	for (size_t i = 0; i < COUNT(sizes); i++) {
		ck_assert_int_eq(blob_remove(store, keys[i]), OK);
		check_gone(keys[i]);
		ck_assert_int_eq(blob_remove(store, keys[i]), OK);
		check_list(COUNT(sizes) - i - 1, 0, 0);
	}
}

START_TEST(what_is_put_can_be_had_until_it_is_removed)
{
	for (int named = 0; named < 2; named++) {
		no_nameless = named != 0;
		begin();
		go_round();
		end();
	}
}
END_TEST

START_TEST(a_store_opened_anew_has_what_was_put)
{
	struct stat st;
	char key[BLOB_KEY_SIZE];

	begin();
	ck_assert_int_eq(put(100, ".png", key), OK);
	blob_close(store);
	ck_assert_int_eq(blob_open("blobs", &store), OK);
	ck_assert_uint_eq(check_whole(key), 100);
	ck_assert_int_eq(stat("blobs", &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	key[2] = '\0';
	ck_assert_int_eq(chdir("blobs"), 0);
	ck_assert_int_eq(stat(key, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	end();
}
END_TEST

START_TEST(a_key_of_a_backup_is_taken_once)
{
	begin();
	ck_assert_int_eq(blob_put_as(store, KEY, "", 0), OK);
	ck_assert_int_eq(blob_put_as(store, KEY, "other", 5), ERR_CONFLICT);
	ck_assert_uint_eq(check_whole(KEY), 0);
	ck_assert_int_eq(blob_remove(store, KEY), OK);
	ck_assert_int_eq(blob_put_as(store, KEY, "", 0), OK);
	end();
}
END_TEST

START_TEST(what_is_not_exactly_a_key_reaches_no_file)
{
	static const char *const keys[] = { "", "/", "5a", "5a/", "5a/..", "../etc/passwd",
		"/etc/passwd", "5a/5a00000000000000000000000000000", "5a/5a",
		"5a/5a0000000000000000000000000000011", "5b/5a000000000000000000000000000001",
		"5A/5A000000000000000000000000000001", "5a/5a00000000000000000000000000000A",
		"5a/5a00000000000000000000000000000g", "5a//5a000000000000000000000000000001",
		"5a/5a000000000000000000000000000001.", "5a/5a000000000000000000000000000001/",
		"5a/5a000000000000000000000000000001.PNG",
		"5a/5a000000000000000000000000000001.p/g", "5a/5a000000000000000000000000000001..g",
		"5a/5a000000000000000000000000000001.abcdefgh",
		"5a/.5a000000000000000000000000000001", " 5a/5a000000000000000000000000000001",
		"5a/5a000000000000000000000000000001 ", "5a/5a000000000000000000000000000001\n" };
	int64_t n;
	int fd;

	begin();
	for (size_t i = 0; i < COUNT(keys); i++) {
		ck_assert_msg(!blob_key_valid(keys[i]), "%s", keys[i]);
		ck_assert_int_eq(blob_put_as(store, keys[i], "x", 1), ERR_INTERNAL);
		ck_assert_int_eq(blob_get(store, keys[i], &fd, &n), ERR_INTERNAL);
		ck_assert_int_eq(blob_remove(store, keys[i]), ERR_INTERNAL);
	}
	ck_assert(blob_key_valid(KEY));
	check_list(0, 0, 0);
	ck_assert_str_eq(seen, "");
	end();
}
END_TEST

static void
put_bad_suffix(void)
{
	char key[BLOB_KEY_SIZE];

	(void)put(1, "/../x", key);
}

START_TEST(a_suffix_is_short_and_plain)
{
	begin();
	ck_assert(aborts(put_bad_suffix));
	end();
}
END_TEST

/* Something of each kind where the store would have its own. */
START_TEST(no_link_is_followed_and_nothing_foreign_is_taken_for_a_blob)
{
	struct stat st;
	struct blob *other;
	int64_t removed;

	begin();
	ck_assert_int_eq(mkdir("away", 0700), 0);
	ck_assert_int_eq(mkdir("blobs/77", 0700), 0);
	ck_assert_int_eq(symlink("../away", "blobs/5a"), 0);
	ck_assert_int_eq(symlink("blobs", "linked"), 0);
	ck_assert_int_eq(symlink("/etc/passwd", "blobs/77/77000000000000000000000000000001"), 0);
	ck_assert_int_eq(mkfifo("blobs/77/77000000000000000000000000000002", 0600), 0);
	ck_assert_int_eq(mkdir("blobs/77/77000000000000000000000000000003", 0700), 0);
	ck_assert_int_eq(close(creat("blobs/77/.7800000000000000000000000000000f", 0600)), 0);
	ck_assert_int_eq(close(creat("blobs/stray", 0600)), 0);

	ck_assert_int_eq(blob_open("linked", &other), ERR_BUSY);
	ck_assert_ptr_null(other);
	ck_assert_int_eq(blob_put_as(store, KEY, "x", 1), ERR_BUSY);
	check_gone(KEY);
	ck_assert_int_eq(blob_remove(store, KEY), ERR_BUSY);
	check_gone("77/77000000000000000000000000000001");
	check_gone("77/77000000000000000000000000000002");
	check_gone("77/77000000000000000000000000000003");
	ck_assert_int_eq(
	    blob_put_as(store, "77/77000000000000000000000000000001", "x", 1), ERR_CONFLICT);
	check_list(0, 0, 6);
	ck_assert_int_eq(blob_sweep(store, NULL, NULL, &removed), OK);
	ck_assert_int_eq(removed, 0);
	check_list(0, 0, 6);

	/* A link goes, what it leads to stays. */
	ck_assert_int_eq(blob_remove(store, "77/77000000000000000000000000000001"), OK);
	ck_assert_int_eq(stat("/etc/passwd", &st), 0);
	check_list(0, 0, 5);
	ck_assert_int_eq(rmdir("away"), 0); /* so it is empty */
	end();
}
END_TEST

/* --- Being on disk. */

START_TEST(what_is_ok_was_synced_in_order)
{
	static const struct {
		bool named, again;
		const char *calls;
	} rows[] = {
		{ false, false, "store file link folder " },
		{ false, true, "file link folder " },
		{ true, false, "store file link unlink folder " },
		{ true, true, "file link unlink folder " },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		no_nameless = rows[i].named;
		begin();
		if (rows[i].again)
			ck_assert_int_eq(
			    blob_put_as(store, "5a/5a0000000000000000000000000000ff", "", 0), OK);
		seen[0] = '\0';
		ck_assert_int_eq(blob_put_as(store, KEY, "", 0), OK);
		ck_assert_str_eq(seen, rows[i].calls);
		seen[0] = '\0';
		ck_assert_int_eq(blob_remove(store, KEY), OK);
		ck_assert_str_eq(seen, "unlink folder ");
		ck_assert_int_eq(blob_remove(store, KEY), OK); /* whoever removed it */
		ck_assert_str_eq(seen, "unlink folder unlink folder ");
		seen[0] = '\0';
		blob_close(store);
		ck_assert_int_eq(blob_open("blobs", &store), OK);
		ck_assert_str_eq(seen, "parent ");
		end();
	}
}
END_TEST

START_TEST(a_folder_that_vanished_is_made_and_synced_again)
{
	begin();
	ck_assert_int_eq(blob_put_as(store, KEY, "", 0), OK);
	ck_assert_int_eq(blob_remove(store, KEY), OK);
	ck_assert_int_eq(rmdir("blobs/5a"), 0);
	seen[0] = '\0';
	ck_assert_int_eq(blob_put_as(store, KEY, "", 0), OK);
	ck_assert_str_eq(seen, "store file link folder ");
	end();
}
END_TEST

START_TEST(a_disk_that_errs_leaves_nothing)
{
	const struct caught caught = stderr_catch();
	char line[4096];
	enum err err;
	int round;

	for (int named = 0; named < 2; named++) {
		no_nameless = named != 0;
		begin();
		for (round = 1;; round++) {
			/* Anew, since a store knows which folders are on disk. */
			blob_close(store);
			ck_assert_int_eq(blob_open("blobs", &store), OK);
			calls = 0;
			fail_at = round;
			err = blob_put_as(store, KEY, "\x01", 1);
			fail_at = 0;
			if (err == OK)
				break;
			ck_assert_str_eq(err_words(), "files cannot be stored or removed now");
			ck_assert_uint_gt(stderr_next(&caught, line, sizeof(line)), 0);
			ck_assert_ptr_nonnull(strstr(line, "Input/output error"));
			check_list(0, 0, 0);
		}
		ck_assert_int_eq(round, 5); /* each of the four failed once */
		calls = 0;
		fail_at = 1;
		ck_assert_int_eq(blob_remove(store, KEY), ERR_BUSY);
		fail_at = 0;
		end();
	}
	stderr_release(&caught);
}
END_TEST

START_TEST(a_full_disk_is_said_and_leaves_nothing)
{
	const struct rlimit small = { 100000, RLIM_INFINITY };
	char key[BLOB_KEY_SIZE];

	(void)signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (int named = 0; named < 2; named++) {
		no_nameless = named != 0;
		begin();
		ck_assert_int_eq(put(100001, ".png", key), ERR_BUSY);
		ck_assert_str_eq(err_words(), "there is no room for a file now");
		ck_assert_str_eq(key, "");
		check_list(0, 0, 0);
		ck_assert_int_eq(put(100000, ".png", key), OK);
		check_list(1, 0, 0);
		end();
	}
}
END_TEST

/* As a user whom modes bind. */
START_TEST(a_folder_that_is_read_only_is_read)
{
	char key[BLOB_KEY_SIZE], folder[16];

	begin();
	blob_close(store);
	ck_assert_int_eq(rmdir("blobs"), 0);
	if (geteuid() == 0) {
		ck_assert_int_eq(chown(base, 65534, 65534), 0);
		ck_assert_int_eq(seteuid(65534), 0);
	}
	ck_assert_int_eq(blob_open("blobs", &store), OK);
	ck_assert_int_eq(put(10, "", key), OK);
	(void)snprintf(folder, sizeof(folder), "blobs/%.2s", key);
	ck_assert_int_eq(chmod(folder, 0500), 0);
	ck_assert_int_eq(chmod("blobs", 0500), 0);
	blob_close(store);

	ck_assert_int_eq(blob_open("blobs", &store), OK);
	ck_assert_uint_eq(check_whole(key), 10);
	ck_assert_int_eq(blob_remove(store, key), ERR_BUSY);
	for (int i = 0; i < 4; i++) {
		char other[BLOB_KEY_SIZE];

		ck_assert_int_eq(put(10, "", other), ERR_BUSY);
		ck_assert_str_eq(err_words(), "files cannot be stored or removed now");
	}
	check_list(1, 0, 0);
	(void)chmod("blobs", 0700);
	(void)chmod(folder, 0700);
	/* As it was, for the sanitizer that looks for leaks. */
	ck_assert_int_eq(seteuid(getuid()), 0);
	ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1), 0);
	end();
}
END_TEST

START_TEST(a_store_that_cannot_be_opened_is_said)
{
	struct blob *other;

	begin();
	ck_assert_int_eq(close(creat("file", 0600)), 0);
	ck_assert_int_eq(blob_open("file", &other), ERR_BUSY);
	ck_assert_int_eq(blob_open("nope/blobs", &other), ERR_BUSY);
	ck_assert_ptr_null(other);
	end();
}
END_TEST

/* --- Sweeping. */

static enum err
keep_odd(void *ctx, const char *key, bool *kept)
{
	(*(int *)ctx)++;
	*kept = (key[34] & 1) != 0;
	return OK;
}

static enum err
keep_fails(void *ctx, const char *key, bool *kept)
{
	(void)ctx;
	(void)key;
	(void)kept;
	return fail(ERR_BUSY, "no rows now");
}

START_TEST(a_sweep_removes_what_is_not_wanted)
{
	char key[BLOB_KEY_SIZE];
	int64_t removed;
	int asked = 0;

	begin();
	for (int i = 0; i < 10; i++) {
		(void)snprintf(key, sizeof(key), "5a/5a%030d", i);
		ck_assert_int_eq(blob_put_as(store, key, "", 0), OK);
	}
	ck_assert_int_eq(close(creat("blobs/5a/.5a00000000000000000000000000000f.png", 0600)), 0);
	check_list(10, 1, 0);
	ck_assert_int_eq(blob_sweep(store, keep_fails, NULL, &removed), ERR_BUSY);
	ck_assert_uint_eq(list().count[BLOB_WHOLE], 10);
	ck_assert_int_eq(blob_sweep(store, NULL, NULL, &removed), OK);
	ck_assert_int_le(removed, 1); /* 0 if the sweep before came to it */
	check_list(10, 0, 0);
	ck_assert_int_eq(blob_sweep(store, keep_odd, &asked, &removed), OK);
	ck_assert_int_eq(removed, 5);
	ck_assert_int_eq(asked, 10 + 5); /* once more before it goes */
	check_list(5, 0, 0);
	end();
}
END_TEST

/* A row that comes while somebody sweeps. */
static struct {
	atomic_bool asked, is_there;
} row;

static enum err
keep_row(void *ctx, const char *key, bool *kept)
{
	(void)ctx;
	(void)key;
	*kept = atomic_load(&row.is_there);
	atomic_store(&row.asked, true);
	return OK;
}

static void *
sweep_rows(void *removed)
{
	ck_assert_int_eq(blob_sweep(store, keep_row, NULL, removed), OK);
	return NULL;
}

START_TEST(a_sweep_spares_what_is_about_to_have_its_row)
{
	char key[BLOB_KEY_SIZE];
	int64_t removed = -1;
	pthread_t thread;

	begin();
	atomic_store(&row.asked, false);
	atomic_store(&row.is_there, false);
	blob_begin(store);
	ck_assert_int_eq(put(1, ".png", key), OK);
	ck_assert_int_eq(pthread_create(&thread, NULL, sweep_rows, &removed), 0);
	while (!atomic_load(&row.asked))
		(void)sched_yield();
	atomic_store(&row.is_there, true);
	blob_end(store);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(removed, 0);
	check_list(1, 0, 0);
	atomic_store(&row.is_there, false);
	(void)sweep_rows(&removed);
	ck_assert_int_eq(removed, 1);
	check_list(0, 0, 0);
	end();
}
END_TEST

START_TEST(a_sweep_does_not_wait_for_ever_and_puts_go_on)
{
	char key[BLOB_KEY_SIZE];
	pthread_t thread;
	int64_t removed = -1;

	begin();
	atomic_store(&row.asked, false);
	atomic_store(&row.is_there, false);
	ck_assert_int_eq(put(1, ".png", key), OK);
	blob_begin(store);
	ck_assert_int_eq(pthread_create(&thread, NULL, sweep_rows, &removed), 0);
	while (!atomic_load(&row.asked))
		(void)sched_yield();
	(void)usleep(20000); /* it waits, most likely, and goes first */
	blob_end(store);
	for (int i = 0; i < 100; i++) {
		blob_begin(store);
		blob_end(store);
	}
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(removed, 1);
	end();
}
END_TEST

START_TEST(a_store_is_of_who_claims_it_first)
{
	static const unsigned char one[BLOB_OWNER_BYTES] = { 1 }, two[BLOB_OWNER_BYTES] = { 2 };
	struct blob *again;
	bool is_owner = false;

	begin();
	ck_assert_int_eq(blob_claim(store, one, &is_owner), OK);
	ck_assert(is_owner);
	ck_assert_int_eq(blob_claim(store, two, &is_owner), OK);
	ck_assert(!is_owner);
	ck_assert_int_eq(blob_open("blobs", &again), OK);
	ck_assert_int_eq(blob_claim(again, one, &is_owner), OK);
	ck_assert(is_owner);
	blob_close(again);
	check_list(0, 0, 0);
	ck_assert_int_eq(blob_disown(store), OK);
	ck_assert_int_eq(blob_disown(store), OK);
	ck_assert_int_eq(blob_claim(store, two, &is_owner), OK);
	ck_assert(is_owner);
	/* What cannot be read as one is somebody's. */
	ck_assert_int_eq(truncate("blobs/.owner", 3), 0);
	ck_assert_int_eq(blob_claim(store, two, &is_owner), OK);
	ck_assert(!is_owner);
	end();
}
END_TEST

/* --- Being pinned. */

START_TEST(while_a_store_is_pinned_nobody_removes_anything)
{
	char key[BLOB_KEY_SIZE], other[BLOB_KEY_SIZE];
	struct blob *second;
	int64_t removed;

	begin();
	ck_assert_int_eq(blob_open("blobs", &second), OK);
	ck_assert_int_eq(put(10, ".png", key), OK);
	ck_assert_int_eq(blob_pin(second), OK);
	ck_assert_int_eq(blob_remove(store, key), ERR_BUSY);
	ck_assert_str_eq(err_words(), "a backup is being made");
	ck_assert_int_eq(blob_remove(second, key), ERR_BUSY);
	ck_assert_int_eq(blob_sweep(store, keep_odd, &(int){ 0 }, &removed), ERR_BUSY);
	ck_assert_int_eq(put(10, ".png", other), OK);
	check_list(2, 0, 0);
	blob_unpin(second);
	ck_assert_int_eq(blob_remove(store, key), OK);
	ck_assert_int_eq(blob_pin(second), OK);
	blob_close(second); /* which unpins, too */
	ck_assert_int_eq(blob_remove(store, other), OK);
	check_list(0, 0, 0);
	end();
}
END_TEST

START_TEST(a_pin_is_seen_in_other_processes_and_ends_with_its_own)
{
	char key[BLOB_KEY_SIZE], byte = '\0';
	int pipes[2];
	pid_t child;

	begin();
	ck_assert_int_eq(put(10, "", key), OK);
	ck_assert_int_eq(pipe(pipes), 0);
	if ((child = fork()) == 0) {
		blob_close(store);
		if (blob_open("blobs", &store) == OK && blob_pin(store) == OK &&
		    write(pipes[1], "p", 1) == 1)
			(void)pause();
		_exit(EXIT_FAILURE);
	}
	ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
	ck_assert_int_eq(blob_remove(store, key), ERR_BUSY);
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(waitpid(child, NULL, 0), child);
	ck_assert_int_eq(blob_remove(store, key), OK);
	end();
}
END_TEST

START_TEST(a_store_is_pinned_by_one_at_a_time)
{
	struct blob *second;

	begin();
	ck_assert_int_eq(blob_open("blobs", &second), OK);
	ck_assert_int_eq(blob_pin(store), OK);
	ck_assert_int_eq(blob_pin(second), ERR_BUSY);
	blob_unpin(store);
	ck_assert_int_eq(blob_pin(second), OK);
	blob_close(second);
	end();
}
END_TEST

/* --- Being killed. */

#define ROUNDS 50

/* Puts and removes until it is killed, and says what was answered OK. */
static void
put_for_ever(int out, unsigned seed)
{
	char said[1 + BLOB_KEY_SIZE], last[BLOB_KEY_SIZE] = "";

	for (unsigned i = seed;; i++) {
		memset(said, 0, sizeof(said));
		if (i % 4 == 3 && last[0] != '\0') {
			/* Said before: who is killed may have come so far or not. */
			said[0] = '-';
			memcpy(said + 1, last, sizeof(last));
			if (write(out, said, sizeof(said)) < 0 || blob_remove(store, last) != OK)
				_exit(EXIT_FAILURE);
			last[0] = '\0';
			continue;
		}
		said[0] = '+';
		if (put((size_t)(i * 7919u) % 20000, ".png", said + 1) != OK ||
		    write(out, said, sizeof(said)) < 0)
			_exit(EXIT_FAILURE);
		memcpy(last, said + 1, sizeof(last));
	}
}

/* What was said is so; *MOST and *LEAST blobs may be and must be there. */
static void
check_said(int in, size_t *least, size_t *most)
{
	char said[1 + BLOB_KEY_SIZE], before[BLOB_KEY_SIZE] = "";

	while (read(in, said, sizeof(said)) == (ssize_t)sizeof(said)) {
		if (said[0] == '-') {
			ck_assert_str_eq(said + 1, before);
			before[0] = '\0';
			--*least;
			continue;
		}
		if (before[0] != '\0')
			(void)check_whole(before);
		memcpy(before, said + 1, sizeof(before));
		++*least;
		++*most;
	}
	++*most; /* the one under way */
}

static void
kill_rounds(void)
{
	size_t least = 0, most = 0, leftovers = 0;
	struct tally found;
	int64_t removed;
	int pipes[2], status;

	for (unsigned i = 0; i < ROUNDS; i++) {
		const struct timespec wait = { 0, (long)(i * 7919u % 12000u) * 1000 };
		pid_t child;

		ck_assert_int_eq(pipe(pipes), 0);
		ck_assert_int_ge(child = fork(), 0);
		if (child == 0)
			put_for_ever(pipes[1], i);
		(void)close(pipes[1]);
		(void)nanosleep(&wait, NULL);
		ck_assert_int_eq(kill(child, SIGKILL), 0);
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert(WIFSIGNALED(status));
		check_said(pipes[0], &least, &most);
		(void)close(pipes[0]);
		/* As the list is made, each whole one is read. */
		found = list();
		leftovers = found.count[BLOB_LEFTOVER];
		ck_assert_uint_ge(found.count[BLOB_WHOLE], least);
		ck_assert_uint_le(found.count[BLOB_WHOLE], most);
	}
	ck_assert(no_nameless || leftovers == 0);
	ck_assert_int_eq(blob_sweep(store, NULL, NULL, &removed), OK);
	ck_assert_int_eq(removed, (int64_t)leftovers);
	ck_assert_uint_eq(list().count[BLOB_LEFTOVER], 0);
	ck_assert_uint_gt(list().count[BLOB_WHOLE], 0);
}

START_TEST(a_kill_leaves_files_whole_or_not_at_all)
{
	for (int named = 0; named < 2; named++) {
		no_nameless = named != 0;
		begin();
		kill_rounds();
		end();
	}
}
END_TEST

/* --- Threads. */

#define THREADS 8
#define PUTS 20

static void *
put_and_remove(void *arg)
{
	atomic_int *done = arg;
	char key[BLOB_KEY_SIZE], kept[BLOB_KEY_SIZE];
	int64_t n;
	int fd;

	for (size_t i = 0; i < PUTS; i++) {
		if (blob_put(store, "", 0, ".png", kept) != OK ||
		    blob_put(store, "", 0, "", key) != OK || blob_get(store, key, &fd, &n) != OK ||
		    close(fd) != 0 || blob_remove(store, key) != OK)
			return NULL;
		atomic_fetch_add(done, 1);
	}
	return NULL;
}

START_TEST(many_threads_share_a_store)
{
	pthread_t threads[THREADS];
	atomic_int done = 0;

	begin();
	unseen = true;
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, put_and_remove, &done), 0);
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	ck_assert_int_eq(atomic_load(&done), THREADS * PUTS);
	check_list(THREADS * PUTS, 0, 0);
	end();
}
END_TEST

CHECK_MAIN(blob,
    { what_is_put_can_be_had_until_it_is_removed, a_store_opened_anew_has_what_was_put,
	a_key_of_a_backup_is_taken_once, what_is_not_exactly_a_key_reaches_no_file,
	a_suffix_is_short_and_plain, no_link_is_followed_and_nothing_foreign_is_taken_for_a_blob,
	what_is_ok_was_synced_in_order, a_folder_that_vanished_is_made_and_synced_again,
	a_disk_that_errs_leaves_nothing, a_full_disk_is_said_and_leaves_nothing,
	a_folder_that_is_read_only_is_read, a_store_that_cannot_be_opened_is_said,
	a_sweep_removes_what_is_not_wanted, a_sweep_spares_what_is_about_to_have_its_row,
	a_sweep_does_not_wait_for_ever_and_puts_go_on, a_store_is_of_who_claims_it_first,
	while_a_store_is_pinned_nobody_removes_anything,
	a_pin_is_seen_in_other_processes_and_ends_with_its_own, a_store_is_pinned_by_one_at_a_time,
	a_kill_leaves_files_whole_or_not_at_all, many_threads_share_a_store })
