#include "test.h"

#include <errno.h>
#include <linux/landlock.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "lib/confine.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SECCOMP false /* see confine.c */
#else
#define HAS_SECCOMP true
#endif

static struct conf_upstream insurer = { .name = "a", .ca_file = "own.pem" };
static struct conf conf = { .coalesce.upstreams = { &insurer, 1 },
	.auth = { .jwks = "https://issuer.example/keys",
	    .jwks_is_url = true,
	    .secret_file = CONF_SECRET_FILE } };

/* Programs of several kinds. */
static const struct {
	const char *name;
	struct confine_needs needs;
} kinds[] = {
	{ "events", { CONFINE_NO_SOCKETS, false, { { "db", CONFINE_WRITE } } } },
	{ "accounts",
	    { CONFINE_NO_SOCKETS, false,
		{ { ".", CONFINE_LIST }, { "db", CONFINE_WRITE }, { "blobs", CONFINE_WRITE },
		    { "run/links", CONFINE_READ } } } },
	{ "stats",
	    { CONFINE_ALL_SOCKETS, false,
		{ { "db", CONFINE_WRITE }, { "log", CONFINE_READ }, { "/etc", CONFINE_READ } } } },
	{ "health", { CONFINE_UNIX_SOCKETS, false, { { "/etc/ssl", CONFINE_READ } } } },
	{ "coalesce", { CONFINE_ALL_SOCKETS, false, { { "/etc", CONFINE_READ } } } },
	{ "another", { CONFINE_NO_SOCKETS, false, { { NULL } } } },
	{ "fetcher", { CONFINE_NO_SOCKETS, true, { { NULL } } } },
};

static void
confine_as(const char *name)
{
	size_t i = 0;

	while (strcmp(kinds[i].name, name) != 0)
		ck_assert_uint_lt(++i, COUNT(kinds));
	ck_assert_int_eq(confine_program(&kinds[i].needs, &conf), OK);
}

static bool
has_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

/* A data folder, and we are in it. */
static void
data_make(void)
{
	static const char *const folders[] = { "db", "blobs", "log", "run", "run/keys",
		"run/wanted", "run/secret" };
	static const char *const files[] = { "db/a", "blobs/a", "log/a", "run/links", "own.pem",
		"other.pem", "run/keys/set.json", CONF_SECRET_FILE };
	char folder[] = "/tmp/check_confine.XXXXXX";

	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chdir(folder), 0);
	for (size_t i = 0; i < COUNT(folders); i++)
		ck_assert_int_eq(mkdir(folders[i], 0700), 0);
	for (size_t i = 0; i < COUNT(files); i++) {
		int fd = open(files[i], O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(close(fd), 0);
	}
}

static void
data_remove(void)
{
	char folder[64], command[96];

	ck_assert_ptr_nonnull(getcwd(folder, sizeof(folder)));
	ck_assert_int_eq(chdir("/"), 0);
	(void)snprintf(command, sizeof(command), "rm -r '%s'", folder);
	ck_assert_int_eq(system(command), 0);
}

/* What ACT(CTX) returns in a process that is confined as PROGRAM is: 0, or an errno. */
static int
confined(const char *program, int (*act)(const void *ctx), const void *ctx)
{
	int status;
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		(void)dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
		confine_as(program);
		_exit(act(ctx));
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(WIFEXITED(status), "%s is ended by signal %d", program, WTERMSIG(status));
	return WEXITSTATUS(status);
}

/* --- Files. */

struct opening {
	const char *program, *path;
	int flags, error;
};

static int
act_open(const void *ctx)
{
	const struct opening *opening = ctx;

	return open(opening->path, opening->flags | O_CLOEXEC, 0600) >= 0 ? 0 : errno;
}

START_TEST(a_program_opens_its_own_files_and_no_others)
{
	static const struct opening rows[] = {
		{ "events", "db/a", O_RDWR, 0 },
		{ "events", "db/new", O_RDWR | O_CREAT, 0 },
		{ "events", "db/a", O_RDWR | O_TRUNC, 0 },
		{ "events", "db", O_TMPFILE | O_RDWR, 0 },
		{ "events", "db", O_RDONLY | O_DIRECTORY, 0 },
		{ "events", "db/../blobs/a", O_RDONLY, EACCES },
		{ "events", "blobs/new", O_RDWR | O_CREAT, EACCES },
		{ "events", "run/links", O_RDONLY, EACCES },
		{ "events", "log/a", O_RDONLY, EACCES },
		{ "events", ".", O_RDONLY | O_DIRECTORY, EACCES },
		{ "events", "/etc/passwd", O_RDONLY, EACCES },
		{ "events", "/tmp", O_TMPFILE | O_RDWR, EACCES },
		{ "events", "/proc/self/statm", O_RDONLY, 0 },
		{ "events", "/proc/self/fd", O_RDONLY | O_DIRECTORY, 0 },
		{ "events", "/proc/1/status", O_RDONLY, EACCES },
		{ "accounts", "db/a", O_RDWR, 0 },
		{ "accounts", "blobs/new", O_RDWR | O_CREAT, 0 },
		{ "accounts", "run/links", O_RDONLY, 0 },
		{ "accounts", "run/links", O_RDWR, EACCES },
		{ "accounts", ".", O_RDONLY | O_DIRECTORY, 0 },
		{ "accounts", "log/a", O_RDONLY, EACCES },
		{ "accounts", "new", O_RDWR | O_CREAT, EACCES },
		{ "stats", "log/a", O_RDONLY, 0 },
		{ "stats", "log/a", O_WRONLY, EACCES },
		{ "stats", "blobs/a", O_RDONLY, EACCES },
		{ "health", "db/a", O_RDONLY, EACCES },
		{ "coalesce", "db/a", O_RDONLY, EACCES },
		{ "coalesce", "/etc/hosts", O_RDONLY, 0 },
		{ "coalesce", "own.pem", O_RDONLY, 0 },
		{ "coalesce", "other.pem", O_RDONLY, EACCES },
		{ "another", "db/a", O_RDONLY, EACCES },
		{ "another", "/proc/self/statm", O_RDONLY, 0 },
		{ "another", "run/keys/set.json", O_RDONLY, 0 },
		{ "another", "run/keys/set.json", O_RDWR, EACCES },
		{ "another", "run/keys/new", O_RDWR | O_CREAT, EACCES },
		{ "another", "run/wanted/keys", O_RDWR | O_CREAT, 0 },
		{ "another", CONF_SECRET_FILE, O_RDONLY, 0 },
		{ "another", CONF_SECRET_FILE, O_RDWR, EACCES },
		{ "another", "run/secret/new", O_RDWR | O_CREAT, EACCES },
		{ "another", "run/links", O_RDONLY, EACCES },
		{ "fetcher", "run/keys/set.json", O_RDWR, 0 },
		{ "fetcher", "run/keys/new", O_RDWR | O_CREAT, 0 },
	};

	if (!has_landlock())
		return;
	data_make();
	conf.auth.mode = AUTH_REQUIRED;
	for (size_t i = 0; i < COUNT(rows); i++)
		ck_assert_msg(confined(rows[i].program, act_open, &rows[i]) == rows[i].error,
		    "%s, %s", rows[i].program, rows[i].path);
	conf.auth.mode = AUTH_OFF;
	data_remove();
}
END_TEST

/* As blob.c gives a file its name. */
static int
act_name_a_file(const void *ctx)
{
	const char *folder = ctx;
	char from[64], to[64];
	int fd = open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);

	(void)snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	(void)snprintf(to, sizeof(to), "%s/named", folder);
	if (fd < 0 || linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) != 0)
		return errno;
	return mkdir("blobs/ab", 0700) == 0 && rename(to, "blobs/ab/renamed") == 0 &&
		unlink("blobs/ab/renamed") == 0 && rmdir("blobs/ab") == 0
	    ? 0
	    : errno;
}

START_TEST(files_are_named_renamed_and_removed_where_a_program_writes)
{
	data_make();
	ck_assert_int_eq(confined("accounts", act_name_a_file, "blobs"), 0);
	data_remove();
}
END_TEST

/* --- System calls. */

static int
act_socket(const void *ctx)
{
	return socket(*(const int *)ctx, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0 ? 0 : errno;
}

START_TEST(sockets_are_made_only_by_who_asks_others)
{
	static const struct {
		const char *program;
		int family, error;
	} rows[] = {
		{ "accounts", AF_INET, EPERM },
		{ "accounts", AF_UNIX, EPERM },
		{ "events", AF_INET6, EPERM },
		{ "events", AF_INET, EPERM },
		{ "another", AF_UNIX, EPERM },
		{ "health", AF_UNIX, 0 },
		{ "health", AF_INET, ENOSYS },
		{ "health", AF_NETLINK, ENOSYS },
		{ "coalesce", AF_INET, 0 },
		{ "coalesce", AF_UNIX, 0 },
		{ "coalesce", AF_PACKET, ENOSYS },
		{ "stats", AF_INET, 0 },
		{ "stats", AF_VSOCK, ENOSYS },
	};

	for (size_t i = 0; i < COUNT(rows) && HAS_SECCOMP; i++)
		ck_assert_msg(
		    confined(rows[i].program, act_socket, &rows[i].family) == rows[i].error,
		    "%s, family %d", rows[i].program, rows[i].family);
}
END_TEST

static int
act_execve(const void *ctx)
{
	char *argv[] = { "true", NULL };

	(void)ctx;
	return execve("/bin/true", argv, NULL) == 0 ? 0 : errno;
}

static int
act_fork(const void *ctx)
{
	pid_t child = fork();

	(void)ctx;
	if (child == 0)
		_exit(0);
	return child > 0 ? 0 : errno;
}

static int
act_ptrace(const void *ctx)
{
	(void)ctx;
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 ? 0 : errno;
}

static int
act_read_of_others(const void *ctx)
{
	char byte;
	struct iovec here = { &byte, 1 }, there = { &byte, 1 };

	(void)ctx;
	return process_vm_readv(getppid(), &here, 1, &there, 1, 0) >= 0 ? 0 : errno;
}

static int
act_kill(const void *ctx)
{
	(void)ctx;
	return kill(getppid(), 0) == 0 ? 0 : errno;
}

static int
act_write_and_execute(const void *ctx)
{
	(void)ctx;
	return mmap(NULL, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
		MAP_FAILED
	    ? 0
	    : errno;
}

static int
act_execute_what_was_written(const void *ctx)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)ctx;
	return page != MAP_FAILED && mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0 ? 0 : errno;
}

static int
act_be_dumpable(const void *ctx)
{
	(void)ctx;
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0 ? 0 : errno;
}

static int
act_type_on_terminal(const void *ctx)
{
	(void)ctx;
	return ioctl(STDIN_FILENO, TIOCSTI, "x") == 0 ? 0 : errno;
}

static int
act_limit_others(const void *ctx)
{
	(void)ctx;
	return prlimit(getppid(), RLIMIT_NOFILE, NULL, NULL) == 0 ? 0 : errno;
}

static int
act_of_no_kernel(const void *ctx)
{
	(void)ctx;
	return syscall(4000) == 0 ? 0 : errno;
}

START_TEST(what_no_program_needs_is_refused_and_kills_nobody)
{
	static const struct {
		int (*act)(const void *ctx);
		int error;
	} rows[] = {
		{ act_execve, EPERM },
		{ act_fork, ENOSYS },
		{ act_ptrace, EPERM },
		{ act_read_of_others, EPERM },
		{ act_kill, ENOSYS },
		{ act_write_and_execute, ENOSYS },
		{ act_execute_what_was_written, ENOSYS },
		{ act_be_dumpable, ENOSYS },
		{ act_type_on_terminal, ENOSYS },
		{ act_limit_others, ENOSYS },
		{ act_of_no_kernel, ENOSYS },
	};
	static const char *const programs[] = { "accounts", "coalesce", "another" };

	for (size_t p = 0; p < COUNT(programs) && HAS_SECCOMP; p++)
		for (size_t i = 0; i < COUNT(rows); i++)
			ck_assert_msg(confined(programs[p], rows[i].act, NULL) == rows[i].error,
			    "%s, row %zu", programs[p], i);
}
END_TEST

static int
act_end_itself(const void *ctx)
{
	(void)ctx;
	(void)signal(SIGTERM, SIG_IGN);
	return kill(getpid(), SIGTERM) == 0 ? 0 : errno;
}

START_TEST(a_program_may_end_itself)
{
	ck_assert_int_eq(confined("events", act_end_itself, NULL), 0);
}
END_TEST

/* --- Threads. */

static void *
open_outside(void *error)
{
	*(int *)error = open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 ? 0 : errno;
	return NULL;
}

/* 0 if the thread has begun and ended, and *CTX is what it was told when it opened a file. */
static int
act_thread(const void *ctx)
{
	pthread_t thread;
	int error = 0, failed = pthread_create(&thread, NULL, open_outside, &error);

	if (failed != 0)
		return failed;
	(void)pthread_join(thread, NULL);
	return error == *(const int *)ctx ? 0 : EPROTO;
}

START_TEST(threads_begin_and_are_confined_too)
{
	const int error = has_landlock() ? EACCES : 0;

	ck_assert_int_eq(confined("events", act_thread, &error), 0);
}
END_TEST

static int pair[2];

static void *
socket_when_told(void *error)
{
	char byte;

	*(int *)error = EPROTO;
	if (read(pair[0], &byte, 1) == 1)
		*(int *)error = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0 ? 0 : errno;
	return NULL;
}

/* A behaviour has a process of its own, so that may be confined. */
START_TEST(a_thread_that_ran_before_makes_no_sockets_either)
{
	pthread_t thread;
	int error, status;
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		(void)dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
		if (pipe(pair) != 0 || pthread_create(&thread, NULL, socket_when_told, &error) != 0)
			_exit(EPROTO);
		confine_as("events");
		if (write(pair[1], "x", 1) != 1 || pthread_join(thread, NULL) != 0)
			_exit(EPROTO);
		_exit(error);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), HAS_SECCOMP ? EPERM : 0);
}
END_TEST

static int
act_look_up(const void *ctx)
{
	struct addrinfo *found = NULL;
	int error = getaddrinfo(ctx, "443", NULL, &found);

	if (error == 0)
		freeaddrinfo(found);
	return error == 0 ? 0 : EPROTO;
}

START_TEST(who_asks_insurers_finds_them_by_name)
{
	ck_assert_int_eq(confined("coalesce", act_look_up, "localhost"), 0);
}
END_TEST

/* --- The rest. */

static int
act_state(const void *ctx)
{
	(void)ctx;
	return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 &&
		prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1
	    ? 0
	    : EPROTO;
}

START_TEST(no_core_is_dumped_and_no_privilege_gained)
{
	ck_assert_int_eq(confined("events", act_state, NULL), 0);
	ck_assert_int_eq(confined("another", act_state, NULL), 0);
}
END_TEST

START_TEST(the_log_says_in_one_line_what_is_in_force)
{
	const struct caught caught = stderr_catch();
	char line[4096], more[4096];
	int status;
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		confine_as("stats");
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_uint_gt(stderr_next(&caught, line, sizeof(line)), 0);
	ck_assert_uint_eq(stderr_next(&caught, more, sizeof(more)), 0);
	stderr_release(&caught);
	ck_assert_ptr_nonnull(strstr(line, "\"event\":\"confined\""));
	ck_assert_ptr_nonnull(strstr(line, "no new privileges; not dumpable; "));
	ck_assert_ptr_nonnull(strstr(
	    line, HAS_SECCOMP ? "; seccomp; new sockets: all" : "; no seccomp under a sanitizer"));
	if (has_landlock()) {
		ck_assert_ptr_nonnull(strstr(line, "\"level\":\"info\""));
		ck_assert_ptr_nonnull(strstr(line, ": writes db, reads log, reads /etc; "));
	} else {
		ck_assert_ptr_nonnull(strstr(line, "\"level\":\"warning\""));
		ck_assert_ptr_nonnull(strstr(line, "Landlock is not in force"));
	}
}
END_TEST

CHECK_MAIN(confine,
    { a_program_opens_its_own_files_and_no_others,
	files_are_named_renamed_and_removed_where_a_program_writes,
	sockets_are_made_only_by_who_asks_others, what_no_program_needs_is_refused_and_kills_nobody,
	a_program_may_end_itself, threads_begin_and_are_confined_too,
	a_thread_that_ran_before_makes_no_sockets_either, who_asks_insurers_finds_them_by_name,
	no_core_is_dumped_and_no_privilege_gained, the_log_says_in_one_line_what_is_in_force })
