#include "lib/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "lib/log.h"

#define FILTER_S 5 /* of the processor; it takes some milliseconds */
#define WORDS_MAX 800

static const char *const socket_words[] = { "none", "of this machine", "all" };

/* The libraries that libraries load when they need them, what the metrics are read from, and for a
 * sanitizer's report, the names of our functions. */
static const struct confine_place everywhere[] = {
	{ "/usr", CONFINE_READ },
	{ "/lib", CONFINE_READ },
	{ "/lib64", CONFINE_READ },
	{ "/etc/ld.so.cache", CONFINE_READ },
	{ "/dev/urandom", CONFINE_READ },
	{ "/sys/devices/system/cpu", CONFINE_READ },
	{ "/proc/self", CONFINE_READ },
	{ "/proc/self/exe", CONFINE_READ },
};

#define EVERYWHERE (sizeof(everywhere) / sizeof(everywhere[0]))

/* --- The line in the log. */

struct report {
	enum log_level level;
	size_t used;
	char words[WORDS_MAX];
};

static void report_add(struct report *report, const char *fmt, ...) PRINTF(2, 3);

static void
report_add(struct report *report, const char *fmt, ...)
{
	size_t room = sizeof(report->words) - report->used;
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(report->words + report->used, room, fmt, args);
	va_end(args);
	if (n > 0)
		report->used += (size_t)n < room ? (size_t)n : room - 1;
}

/* What is not in force, and why, if errno ERROR says so. */
static void
report_lack(struct report *report, const char *what, int error)
{
	errno = error;
	report_add(report, "%s%s is not in force: %m", report->used > 0 ? "; " : "", what);
	report->level = LOG_WARNING;
}

/* --- Landlock, of which the C library's headers may know less than the kernel. */

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (1ULL << 15)
#endif
#define NET_BIND_TCP (1ULL << 0)
#define NET_CONNECT_TCP (1ULL << 1)
#define SCOPE_ABSTRACT_SOCKETS (1ULL << 0)
#define SCOPE_SIGNALS (1ULL << 1)

/* struct landlock_ruleset_attr as of ABI 6; an older kernel takes it if what it lacks is 0. */
struct ruleset {
	uint64_t files, net, scopes;
};

/* What the rules rule over: all that each ABI knows, the newest first. */
static const struct {
	long abi;
	struct ruleset over;
} abis[] = {
	{ 6, { .scopes = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS } },
	{ 5, { .files = LANDLOCK_ACCESS_FS_IOCTL_DEV } },
	{ 4, { .net = NET_BIND_TCP | NET_CONNECT_TCP } },
	{ 3, { .files = LANDLOCK_ACCESS_FS_TRUNCATE } },
	{ 2, { .files = LANDLOCK_ACCESS_FS_REFER } },
	{ 1, { .files = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1 } },
};

#define OF_FILES \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | \
	    LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE)

static const uint64_t reach_files[] = {
	[CONFINE_LIST] = LANDLOCK_ACCESS_FS_READ_DIR,
	[CONFINE_READ] = LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_READ_FILE,
	[CONFINE_WRITE] = LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_READ_FILE |
	    LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE |
	    LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR |
	    LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
	    LANDLOCK_ACCESS_FS_REFER,
};

/* Nobody listens anew, and only who may ask anybody connects. */
static struct ruleset
ruleset_of(long abi, enum confine_sockets sockets)
{
	struct ruleset all = { 0 };

	for (size_t i = 0; i < sizeof(abis) / sizeof(abis[0]); i++)
		if (abis[i].abi <= abi) {
			all.files |= abis[i].over.files;
			all.net |= abis[i].over.net;
			all.scopes |= abis[i].over.scopes;
		}
	if (sockets == CONFINE_ALL_SOCKETS)
		all.net &= ~NET_CONNECT_TCP;
	return all;
}

/* What is not there is not allowed.  /proc/self stays open: its rule is about an inode, which the
 * kernel would else forget and make anew. */
static int
allow_place(int rules, const struct ruleset *over, const struct confine_place *place)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = reach_files[place->reach] & over->files,
		.parent_fd = open(place->path, O_PATH | O_CLOEXEC),
	};
	struct stat st;
	int error = 0;

	if (rule.parent_fd < 0) /* what cannot be reached need not be allowed */
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == EACCES
		    ? 0
		    : errno;
	if (fstat(rule.parent_fd, &st) == 0 && !S_ISDIR(st.st_mode))
		rule.allowed_access &= OF_FILES;
	if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
		error = errno;
	if (strcmp(place->path, "/proc/self") != 0)
		(void)close(rule.parent_fd);
	return error;
}

/* Insurers have authorities of their own. */
static int
allow_authorities(int rules, const struct ruleset *over, const struct conf *conf)
{
	int error = 0;

	for (size_t i = 0; i < conf->coalesce.upstreams.count && error == 0; i++) {
		const struct confine_place place = { conf->coalesce.upstreams.items[i].ca_file,
			CONFINE_READ };

		if (place.path != NULL)
			error = allow_place(rules, over, &place);
	}
	return error;
}

/* The folder of a file that another one may replace. */
static int
allow_folder_of(int rules, const struct ruleset *over, const char *file)
{
	char folder[PATH_MAX];
	const struct confine_place place = { folder, CONFINE_READ };
	const char *slash = strrchr(file, '/');

	(void)snprintf(folder, sizeof(folder), "%.*s", (int)(slash - file) + (slash == file), file);
	return allow_place(rules, over, &place);
}

/* Every program asks for keys, and one writes them: whoever could, could make any token. */
static int
allow_copies(int rules, const struct ruleset *over, bool fetches)
{
	static const struct confine_place wanted = { "run/wanted", CONFINE_WRITE };
	const struct confine_place copies = { "run/keys", fetches ? CONFINE_WRITE : CONFINE_READ };
	int error = allow_place(rules, over, &copies);

	return error != 0 ? error : allow_place(rules, over, &wanted);
}

/* What tokens are checked with, which every program looks at again while it serves. */
static int
allow_keys(int rules, const struct ruleset *over, const struct conf_auth *auth, bool fetches)
{
	int error = 0;

	if (auth->mode != AUTH_REQUIRED)
		return 0;
	if (auth->jwks != NULL)
		error = auth->jwks_is_url ? allow_copies(rules, over, fetches)
					  : allow_folder_of(rules, over, auth->jwks);
	if (error != 0 || auth->secret_file == NULL)
		return error;
	return allow_folder_of(rules, over, auth->secret_file);
}

static int
allow_places(
    int rules, const struct ruleset *over, const struct confine_needs *own, const struct conf *conf)
{
	int error = own->sockets == CONFINE_ALL_SOCKETS ? allow_authorities(rules, over, conf) : 0;

	if (error == 0)
		error = allow_keys(rules, over, &conf->auth, own->fetches_keys);
	for (size_t i = 0; i < EVERYWHERE && error == 0; i++)
		error = allow_place(rules, over, &everywhere[i]);
	for (size_t i = 0; i < CONFINE_PLACES_MAX && own->places[i].path != NULL && error == 0; i++)
		error = allow_place(rules, over, &own->places[i]);
	return error;
}

static void
report_places(struct report *report, const struct confine_needs *own)
{
	static const char *const words[] = {
		[CONFINE_LIST] = "lists", [CONFINE_READ] = "reads", [CONFINE_WRITE] = "writes"
	};

	for (size_t i = 0; i < CONFINE_PLACES_MAX && own->places[i].path != NULL; i++)
		report_add(report, "%s%s %s", i == 0 ? ": " : ", ", words[own->places[i].reach],
		    own->places[i].path);
}

/* Nothing by name is left without OWN.  An errno; *ABI is what the kernel has. */
static int
confine_files(const struct confine_needs *own, const struct conf *conf, long *abi)
{
	struct ruleset over;
	int rules, error;

	*abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (*abi < 1)
		return errno;
	over = ruleset_of(*abi, own == NULL ? CONFINE_NO_SOCKETS : own->sockets);
	rules = (int)syscall(SYS_landlock_create_ruleset, &over, sizeof(over), 0);
	if (rules < 0)
		return errno;
	error = own == NULL ? 0 : allow_places(rules, &over, own, conf);
	if (error == 0 && syscall(SYS_landlock_restrict_self, rules, 0) != 0)
		error = errno;
	(void)close(rules);
	return error;
}

/* --- seccomp. */

/* What is refused for what it is, and not for being unknown, so that who meets it understands.  All
 * that is in neither list is answered ENOSYS. */
static const char *const refused[] = { "execve", "execveat", "fork", "vfork", "ptrace",
	"process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "mount", "umount2",
	"pivot_root", "chroot", "unshare", "setns", "bpf", "keyctl", "add_key", "request_key",
	"userfaultfd", "perf_event_open", "personality", "setuid", "setgid", "mknod", "mknodat",
	"listen" };

static const char *const allowed[] = {
	/* memory */
	"brk", "munmap", "mremap", "madvise", "mincore", "msync", "mlock", "munlock", "membarrier",
	"memfd_create",
	/* the time that making this list may take */
	"setitimer",
	/* what is open */
	"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2",
	"pwritev2", "lseek", "_llseek", "close", "close_range", "dup", "dup2", "dup3", "fcntl",
	"fcntl64", "flock", "fstat", "fstat64", "fstatfs", "fstatfs64", "fsync", "fdatasync",
	"sync_file_range", "ftruncate", "ftruncate64", "fallocate", "fadvise64", "getdents",
	"getdents64", "fchmod", "fchown", "sendfile", "copy_file_range",
	/* files by name */
	"open", "openat", "openat2", "stat", "stat64", "lstat", "lstat64", "newfstatat",
	"fstatat64", "statx", "statfs", "statfs64", "access", "faccessat", "faccessat2", "readlink",
	"readlinkat", "getcwd", "mkdir", "mkdirat", "rmdir", "rename", "renameat", "renameat2",
	"link", "linkat", "unlink", "unlinkat", "truncate", "truncate64", "chmod", "fchmodat",
	"umask", "utimensat",
	/* waiting */
	"poll", "ppoll", "ppoll_time64", "select", "pselect6", "pselect6_time64", "epoll_create",
	"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd",
	"eventfd2", "pipe", "pipe2", "signalfd", "signalfd4", "inotify_init", "inotify_init1",
	"inotify_add_watch", "inotify_rm_watch", "timerfd_create", "timerfd_settime",
	"timerfd_gettime", "futex", "futex_time64", "futex_waitv", "wait4", "waitid",
	/* connections that are there */
	"accept", "accept4", "getsockname", "getpeername", "getsockopt", "setsockopt", "recvfrom",
	"recvmsg", "recvmmsg", "sendto", "sendmsg", "sendmmsg", "shutdown", "socketpair",
	/* time */
	"clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64",
	"clock_nanosleep", "clock_nanosleep_time64", "nanosleep", "gettimeofday", "time", "times",
	/* threads and signals */
	"exit", "exit_group", "gettid", "getpid", "getppid", "set_tid_address", "set_robust_list",
	"get_robust_list", "rseq", "arch_prctl", "sched_yield", "sched_getaffinity",
	"sched_getparam", "sched_getscheduler", "sched_get_priority_min", "sched_get_priority_max",
	"setpriority", "getpriority", "getcpu", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
	"rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_sigpending",
	"sigaltstack", "restart_syscall",
	/* who and where we are */
	"getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups", "getpgid",
	"getpgrp", "getsid", "uname", "sysinfo", "getrandom", "getrusage", "getrlimit", "ugetrlimit"
};

/* Allowed if this is so of an argument.  What several rows say of one call, is allowed by each. */
struct call_rule {
	const char *call;
	struct scmp_arg_cmp when;
};

#define WHEN(number, ...) \
	{ \
		.arg = (number), __VA_ARGS__ \
	}
#define IS(value) .op = SCMP_CMP_EQ, .datum_a = (value)
#define HAS(bits) .op = SCMP_CMP_MASKED_EQ, .datum_a = (bits), .datum_b = (bits)
#define HAS_NOT(bits) .op = SCMP_CMP_MASKED_EQ, .datum_a = (bits), .datum_b = 0

/* Threads, but no processes; clone3 has its flags where a filter cannot see them, and ENOSYS sends
 * the C library back to clone.  Memory that is written is not executed.  Terminals are asked what
 * they are, and never given input.  Limits are our own. */
static const struct call_rule conditional[] = {
	{ "clone", WHEN(0, HAS(CLONE_THREAD)) },
	{ "mmap", WHEN(2, HAS_NOT(PROT_EXEC)) },
	{ "mmap", WHEN(2, HAS_NOT(PROT_WRITE)) },
	{ "mmap2", WHEN(2, HAS_NOT(PROT_EXEC)) },
	{ "mmap2", WHEN(2, HAS_NOT(PROT_WRITE)) },
	{ "mprotect", WHEN(2, HAS_NOT(PROT_EXEC)) },
	{ "ioctl", WHEN(1, IS(FIONBIO)) },
	{ "ioctl", WHEN(1, IS(FIONREAD)) },
	{ "ioctl", WHEN(1, IS(FIOCLEX)) },
	{ "ioctl", WHEN(1, IS(TCGETS)) },
	{ "prlimit64", WHEN(0, IS(0)) },
	{ "prctl", WHEN(0, IS(PR_SET_NAME)) },
	{ "prctl", WHEN(0, IS(PR_GET_NAME)) },
	{ "prctl", WHEN(0, IS(PR_GET_DUMPABLE)) },
	{ "prctl", WHEN(0, IS(PR_GET_NO_NEW_PRIVS)) },
	{ "prctl", WHEN(0, IS(PR_SET_VMA)) },
};

static const struct call_rule of_this_machine[] = {
	{ "socket", WHEN(0, IS(AF_UNIX)) },
};

/* Who has a name looked up asks the kernel for the machine's addresses, too. */
static const struct call_rule of_all_machines[] = {
	{ "socket", WHEN(0, IS(AF_UNIX)) },
	{ "socket", WHEN(0, IS(AF_INET)) },
	{ "socket", WHEN(0, IS(AF_INET6)) },
	{ "socket", WHEN(0, IS(AF_NETLINK)) },
};

/* Where the machine has no such call, there is nothing to say about it. */
static int
add_calls(scmp_filter_ctx filter, uint32_t action, const char *const *calls, size_t n)
{
	int error = 0;

	for (size_t i = 0; i < n && error == 0; i++) {
		int call = seccomp_syscall_resolve_name(calls[i]);

		if (call != __NR_SCMP_ERROR)
			error = seccomp_rule_add(filter, action, call, 0);
	}
	return error;
}

static int
add_rules(scmp_filter_ctx filter, const struct call_rule *rules, size_t n)
{
	int error = 0;

	for (size_t i = 0; i < n && error == 0; i++) {
		int call = seccomp_syscall_resolve_name(rules[i].call);

		if (call != __NR_SCMP_ERROR)
			error =
			    seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, 1, &rules[i].when);
	}
	return error;
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int
add_sockets(scmp_filter_ctx filter, enum confine_sockets sockets)
{
	static const char *const none[] = { "socket", "connect", "bind" };
	static const char *const asking[] = { "connect" };
	static const char *const looking_up[] = { "connect", "bind" };
	int error;

	switch (sockets) {
	case CONFINE_UNIX_SOCKETS:
		error = add_calls(filter, SCMP_ACT_ALLOW, asking, COUNT(asking));
		return error != 0 ? error
				  : add_rules(filter, of_this_machine, COUNT(of_this_machine));
	case CONFINE_ALL_SOCKETS:
		error = add_calls(filter, SCMP_ACT_ALLOW, looking_up, COUNT(looking_up));
		return error != 0 ? error
				  : add_rules(filter, of_all_machines, COUNT(of_all_machines));
	case CONFINE_NO_SOCKETS:
		break;
	}
	return add_calls(filter, SCMP_ACT_ERRNO(EPERM), none, COUNT(none));
}

/* Signals are our own: abort() sends one, and so does who makes way for another process. */
static int
add_own_signals(scmp_filter_ctx filter, pid_t own_pid)
{
	const struct call_rule own[] = {
		{ "kill", WHEN(0, IS((scmp_datum_t)own_pid)) },
		{ "tgkill", WHEN(0, IS((scmp_datum_t)own_pid)) },
	};

	return add_rules(filter, own, COUNT(own));
}

/* That of a program, with sockets; of a keeper; of what it forks.  Each a negative errno. */

static int
add_program(scmp_filter_ctx filter, enum confine_sockets sockets)
{
	int error = add_calls(filter, SCMP_ACT_ERRNO(EPERM), refused, COUNT(refused));

	if (error == 0)
		error = add_calls(filter, SCMP_ACT_ALLOW, allowed, COUNT(allowed));
	if (error == 0)
		error = add_rules(filter, conditional, COUNT(conditional));
	if (error == 0)
		error = add_own_signals(filter, getpid());
	return error == 0 ? add_sockets(filter, sockets) : error;
}

static const char *const working[] = { "brk", "munmap", "mremap", "madvise", "write", "close",
	"exit", "exit_group", "getpid", "gettid", "futex", "clock_gettime", "clock_gettime64",
	"rt_sigreturn", "restart_syscall" };

static const struct call_rule working_memory[] = {
	{ "mmap", WHEN(2, HAS_NOT(PROT_EXEC)) },
	{ "mmap2", WHEN(2, HAS_NOT(PROT_EXEC)) },
	{ "mprotect", WHEN(2, HAS_NOT(PROT_EXEC)) },
};

static int
add_work(scmp_filter_ctx filter)
{
	int error = add_calls(filter, SCMP_ACT_ALLOW, working, COUNT(working));

	return error == 0 ? add_rules(filter, working_memory, COUNT(working_memory)) : error;
}

/* Stands for the worker's own, which is known once it is forked; no process, no call and nothing
 * else in a filter has this number. */
#define WORKER_PID 0x7ffffffe

static int
add_worker(scmp_filter_ctx filter, enum confine_sockets sockets)
{
	int error = add_work(filter);

	(void)sockets;
	return error == 0 ? add_own_signals(filter, WORKER_PID) : error;
}

/* What is forked may do no more than its keeper, so this has what making a worker takes. */
static const char *const keeping[] = { "read", "recvmsg", "sendto", "sendmsg", "pipe2", "fork",
	"clone", "tgkill", "set_robust_list", "rseq", "wait4", "dup2", "dup3", "alarm", "setitimer",
	"prlimit64", "setrlimit", "prctl", "seccomp", "rt_sigprocmask", "rt_sigaction",
	"getrandom" };

static int
add_keeper(scmp_filter_ctx filter, enum confine_sockets sockets)
{
	int error = add_work(filter);

	(void)sockets;
	return error == 0 ? add_calls(filter, SCMP_ACT_ALLOW, keeping, COUNT(keeping)) : error;
}

/* Without memory libseccomp 2.5.4 may come to no end: SIGPROF ends it then, and who watches us
 * starts another one. */
static void
bound_time(time_t seconds)
{
	const struct itimerval limit = { .it_value.tv_sec = seconds };

	(void)setitimer(ITIMER_PROF, &limit, NULL);
}

static int
make_filter(int (*add)(scmp_filter_ctx filter, enum confine_sockets sockets),
    enum confine_sockets sockets, int (*use)(scmp_filter_ctx filter))
{
	scmp_filter_ctx filter;
	int error;

	bound_time(FILTER_S);
	filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	error = filter == NULL ? -ENOMEM : 0;

	/* The kernel's own error, by which a lack of memory is known. */
	if (error == 0)
		error = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
	if (error == 0)
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	/* A tree, in which a call is found by some comparisons. */
	if (error == 0)
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (error == 0)
		error = add(filter, sockets);
	if (error == 0)
		error = use(filter);
	seccomp_release(filter);
	bound_time(0);
	return error;
}

static int
load(scmp_filter_ctx filter)
{
	return seccomp_load(filter);
}

/* What binds each process that a keeper forks, made once: libseccomp needs memory, and without it
 * crashes or comes to no end (2.5.4).  Without instructions: not in force. */
static struct sock_fprog worker;

/* As instructions, to be loaded by who has nothing else any more. */
static int
keep_for_worker(scmp_filter_ctx filter)
{
	int fd = memfd_create("filter", MFD_CLOEXEC);
	int error = fd < 0 ? -errno : seccomp_export_bpf(filter, fd);
	off_t n = error == 0 ? lseek(fd, 0, SEEK_END) : 0;
	void *made =
	    n > 0 ? mmap(NULL, (size_t)n, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) : MAP_FAILED;

	if (error == 0 && made == MAP_FAILED)
		error = -errno;
	if (fd >= 0)
		(void)close(fd);
	if (error == 0)
		worker =
		    (struct sock_fprog){ (unsigned short)((size_t)n / sizeof(struct sock_filter)),
			    made };
	return error;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

bool
confine_is_sanitized(void)
{
	return SANITIZED;
}

/* --- All of it. */

static void
confine_itself(struct report *report)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
		report_add(report, "no new privileges");
	else
		report_lack(report, "no_new_privs", errno);
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
		report_add(report, "; not dumpable");
	else
		report_lack(report, "not to be dumpable", errno);
}

static void
report_files(struct report *report, const struct confine_needs *own, long abi, int error)
{
	if (error != 0) {
		report_lack(report, "Landlock", error);
		return;
	}
	report_add(report, "; Landlock, ABI %ld", abi);
	if (own != NULL)
		report_places(report, own);
}

/* The sanitizers look for leaks by a process that reads ours by ptrace. */
static void
report_calls(struct report *report, enum confine_sockets sockets, int error)
{
	if (SANITIZED)
		report_add(report, "; no seccomp under a sanitizer");
	else if (error != 0)
		report_lack(report, "seccomp", -error);
	else
		report_add(report, "; seccomp; new sockets: %s", socket_words[sockets]);
}

/* An errno, or a negative one. */
static bool
lacks_memory(int error)
{
	return error == ENOMEM || error == -ENOMEM;
}

static enum err
result_of(int files_error, int calls_error)
{
	return lacks_memory(files_error) || lacks_memory(calls_error)
	    ? fail(ERR_BUSY, "no memory to be confined with")
	    : OK;
}

enum err
confine_program(const struct confine_needs *own, const struct conf *conf)
{
	struct report report = { .level = LOG_INFO };
	struct confine_needs needs = *own;
	int error, files_error;
	long abi;

	if (needs.fetches_keys && conf->auth.mode == AUTH_REQUIRED && conf->auth.jwks_is_url)
		needs.sockets = CONFINE_ALL_SOCKETS;
	confine_itself(&report);
	files_error = confine_files(&needs, conf, &abi);
	report_files(&report, &needs, abi, files_error);
	error = SANITIZED ? 0 : make_filter(add_program, needs.sockets, load);
	report_calls(&report, needs.sockets, error);
	log_event(report.level, "confined", "%s", report.words);
	return result_of(files_error, error);
}

enum err
confine_keeper(void)
{
	struct report report = { .level = LOG_INFO };
	int error, files_error;
	long abi;

	confine_itself(&report);
	files_error = confine_files(NULL, NULL, &abi);
	report_files(&report, NULL, abi, files_error);
	error = SANITIZED ? 0 : make_filter(add_worker, CONFINE_NO_SOCKETS, keep_for_worker);
	if (error == 0 && !SANITIZED &&
	    (error = make_filter(add_keeper, CONFINE_NO_SOCKETS, load)) != 0)
		worker = (struct sock_fprog){ 0 }; /* this kernel has none */
	report_calls(&report, CONFINE_NO_SOCKETS, error);
	log_event(report.level, "keeper_confined", "%s", report.words);
	return result_of(files_error, error);
}

/* What is not in force was said by its keeper. */
bool
confine_worker(void)
{
	for (size_t i = 0; i < worker.len; i++)
		if (worker.filter[i].k == WORKER_PID)
			worker.filter[i].k = (unsigned)getpid();
	return worker.filter == NULL ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &worker) == 0;
}
