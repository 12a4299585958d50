/*
 * fault: a library that is loaded before all others (LD_PRELOAD) and fails the n-th call of a kind
 * in one program, while it runs: an allocation, a call that touches a file, a new thread, a new
 * descriptor.  It also moves the clock, and kills a program amid what it writes.  What is to fail
 * stands in a page of memory that t/e2e/torture.py shares with all programs, by the file
 * $CAREDESK_FAULT; it is mapped before a program confines itself.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NAME_MAX_BYTES 32
#define WHERE_MAX_BYTES 128
#define SECOND_NS 1000000000L
#define MICROSECOND_NS 1000L

/* CHANGES are those of FILES that change one. */
enum kind { MEMORY = 1, FILES = 2, THREADS = 4, DESCRIPTORS = 8, CHANGES = 16 };

#define KILLED \
	(-1) /* as an error: what is written is torn, and SIGKILL comes before it is said \
	      */

/* As torture.py lays it out: numbers of eight bytes, then texts. */
struct page {
	atomic_long kinds; /* that are counted; 0: nothing fails */
	atomic_long left; /* calls until the one that fails */
	atomic_long always; /* and all after it */
	atomic_long error; /* errno of FILES; 0: a write is short, all else is EIO; or KILLED */
	atomic_long seen; /* calls counted */
	atomic_long failed; /* calls that failed */
	atomic_long clock_us; /* added to the time of day */
	atomic_long signal; /* that ended the program */
	atomic_long turn; /* counts what was asked of this library */
	char program[NAME_MAX_BYTES];
	char where[WHERE_MAX_BYTES]; /* who called what failed */
	char apart[NAME_MAX_BYTES]; /* the library whose memory never fails; empty: none */
};

/* The C library's own, by their other names. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *old, size_t n);
void *__libc_memalign(size_t alignment, size_t n);

static struct page *page;
/* As in the page, of this thread: another one may fail while this one is being ended. */
static _Thread_local char own_where[WHERE_MAX_BYTES] __attribute__((tls_model("initial-exec")));
static _Thread_local long own_turn __attribute__((tls_model("initial-exec")));
static pid_t program_pid; /* not of the processes that it forks to read pictures */

static bool
is_armed(unsigned kinds)
{
	return page != NULL && (atomic_load(&page->kinds) & (long)kinds) != 0 &&
	    strncmp(page->program, program_invocation_short_name, NAME_MAX_BYTES) == 0;
}

/* Who called: the library, and the place in it.  What the C library asks for itself, as the words
 * of an assertion that has failed, is not what it began with. */
static void
where_set(const void *address)
{
	Dl_info info;
	const char *name;

	if (dladdr(address, &info) == 0 || info.dli_fname == NULL)
		return;
	name = strrchr(info.dli_fname, '/');
	name = name != NULL ? name + 1 : info.dli_fname;
	if (own_turn != atomic_load(&page->turn))
		own_where[0] = '\0';
	own_turn = atomic_load(&page->turn);
	if (own_where[0] != '\0' && strncmp(name, "libc.so", strlen("libc.so")) == 0)
		return;
	(void)snprintf(own_where, WHERE_MAX_BYTES, "%s+0x%lx %s", name,
	    (unsigned long)((uintptr_t)address - (uintptr_t)info.dli_fbase),
	    info.dli_sname != NULL ? info.dli_sname : "");
	memcpy(page->where, own_where, WHERE_MAX_BYTES);
}

static bool
is_apart(const void *caller)
{
	Dl_info info;

	return page->apart[0] != '\0' && dladdr(caller, &info) != 0 && info.dli_fname != NULL &&
	    strstr(info.dli_fname, page->apart) != NULL;
}

/* Whether this call is the one. */
static bool
fails(unsigned kinds, const void *caller)
{
	long left;

	if (!is_armed(kinds) || is_apart(caller))
		return false;
	(void)atomic_fetch_add(&page->seen, 1);
	left = atomic_fetch_sub(&page->left, 1);
	if (left > 1 || (left < 1 && atomic_load(&page->always) == 0))
		return false;
	if (atomic_fetch_add(&page->failed, 1) == 0 || atomic_load(&page->always) != 0)
		where_set(caller);
	return true;
}

/* --- The machine. */

/* What is chosen by the count of cores is another thing to fail elsewhere. */
long
sysconf(int name)
{
	static long (*next)(int);
	const char *cores = getenv("CAREDESK_TORTURE_CORES");

	if (name == _SC_NPROCESSORS_ONLN && cores != NULL)
		return atol(cores);
	if (next == NULL)
		*(void **)&next = dlsym(RTLD_NEXT, "sysconf");
	return next(name);
}

/* --- Memory. */

void *
malloc(size_t n)
{
	if (fails(MEMORY, __builtin_return_address(0))) {
		errno = ENOMEM;
		return NULL;
	}
	return __libc_malloc(n);
}

void *
calloc(size_t count, size_t n)
{
	if (fails(MEMORY, __builtin_return_address(0))) {
		errno = ENOMEM;
		return NULL;
	}
	return __libc_calloc(count, n);
}

void *
realloc(void *old, size_t n)
{
	if (fails(MEMORY, __builtin_return_address(0))) {
		errno = ENOMEM;
		return NULL;
	}
	return __libc_realloc(old, n);
}

/* By the name of who asks for it, and not of the C library. */
char *
strdup(const char *text)
{
	size_t n = strlen(text) + 1;
	char *copy;

	if (fails(MEMORY, __builtin_return_address(0))) {
		errno = ENOMEM;
		return NULL;
	}
	copy = __libc_malloc(n);
	return copy != NULL ? memcpy(copy, text, n) : NULL;
}

int
posix_memalign(void **out, size_t alignment, size_t n)
{
	void *made;

	if (fails(MEMORY, __builtin_return_address(0)) ||
	    (made = __libc_memalign(alignment, n)) == NULL)
		return ENOMEM;
	*out = made;
	return 0;
}

void *
aligned_alloc(size_t alignment, size_t n)
{
	if (fails(MEMORY, __builtin_return_address(0))) {
		errno = ENOMEM;
		return NULL;
	}
	return __libc_memalign(alignment, n);
}

/* --- Files.  Sockets, pipes and the like are not storage. */

static bool
file_fails(unsigned kinds, const void *caller)
{
	if (!fails(kinds, caller))
		return false;
	if (atomic_load(&page->error) == KILLED)
		(void)raise(SIGKILL);
	errno = atomic_load(&page->error) != 0 ? (int)atomic_load(&page->error) : EIO;
	return true;
}

static bool
read_fails(const void *caller)
{
	return file_fails(FILES, caller);
}

static bool
change_fails(const void *caller)
{
	return file_fails(FILES | CHANGES, caller);
}

static bool
is_file(int fd)
{
	int error = errno;
	struct stat status;
	bool is = is_armed(FILES | CHANGES) && fstat(fd, &status) == 0 &&
	    (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode));

	errno = error;
	return is;
}

static bool
descriptor_fails(const void *caller)
{
	if (!fails(DESCRIPTORS, caller))
		return false;
	errno = EMFILE;
	return true;
}

int
socket(int family, int type, int protocol)
{
	return descriptor_fails(__builtin_return_address(0))
	    ? -1
	    : (int)syscall(SYS_socket, family, type, protocol);
}

int
accept4(int fd, struct sockaddr *address, socklen_t *n, int flags)
{
	return descriptor_fails(__builtin_return_address(0))
	    ? -1
	    : (int)syscall(SYS_accept4, fd, address, n, flags);
}

static mode_t
mode_of(int flags, va_list args)
{
	return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(args, mode_t)
									  : 0;
}

int
openat(int dir, const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = mode_of(flags, args);
	va_end(args);
	if (read_fails(__builtin_return_address(0)) ||
	    descriptor_fails(__builtin_return_address(0)))
		return -1;
	return (int)syscall(SYS_openat, dir, path, flags, mode);
}

int
open(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = mode_of(flags, args);
	va_end(args);
	if (read_fails(__builtin_return_address(0)) ||
	    descriptor_fails(__builtin_return_address(0)))
		return -1;
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

ssize_t
read(int fd, void *buffer, size_t n)
{
	if (is_file(fd) && read_fails(__builtin_return_address(0)))
		return -1;
	return syscall(SYS_read, fd, buffer, n);
}

ssize_t
pread(int fd, void *buffer, size_t n, off_t at)
{
	if (is_file(fd) && read_fails(__builtin_return_address(0)))
		return -1;
	return syscall(SYS_pread64, fd, buffer, n, at);
}

/* Half of it, where the fault is a short write or the end; else nothing. */
static ssize_t
write_torn(long call, int fd, const void *bytes, size_t n, off_t at)
{
	long error = atomic_load(&page->error);
	ssize_t wrote = -1;

	if (error <= 0 && n > 1)
		wrote = syscall(call, fd, bytes, n / 2, at);
	if (error == KILLED)
		(void)raise(SIGKILL);
	if (wrote < 0)
		errno = error != 0 ? (int)error : EIO;
	return wrote;
}

ssize_t
write(int fd, const void *bytes, size_t n)
{
	return is_file(fd) && fails(FILES | CHANGES, __builtin_return_address(0))
	    ? write_torn(SYS_write, fd, bytes, n, 0)
	    : syscall(SYS_write, fd, bytes, n);
}

ssize_t
pwrite(int fd, const void *bytes, size_t n, off_t at)
{
	return is_file(fd) && fails(FILES | CHANGES, __builtin_return_address(0))
	    ? write_torn(SYS_pwrite64, fd, bytes, n, at)
	    : syscall(SYS_pwrite64, fd, bytes, n, at);
}

int
fsync(int fd)
{
	return change_fails(__builtin_return_address(0)) ? -1 : (int)syscall(SYS_fsync, fd);
}

int
fdatasync(int fd)
{
	return change_fails(__builtin_return_address(0)) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int
ftruncate(int fd, off_t n)
{
	return change_fails(__builtin_return_address(0)) ? -1 : (int)syscall(SYS_ftruncate, fd, n);
}

int
fallocate(int fd, int how, off_t at, off_t n)
{
	return change_fails(__builtin_return_address(0))
	    ? -1
	    : (int)syscall(SYS_fallocate, fd, how, at, n);
}

int
rename(const char *from, const char *to)
{
	return change_fails(__builtin_return_address(0))
	    ? -1
	    : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int
linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	return change_fails(__builtin_return_address(0))
	    ? -1
	    : (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
}

int
unlink(const char *path)
{
	return change_fails(__builtin_return_address(0))
	    ? -1
	    : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int
unlinkat(int dir, const char *path, int flags)
{
	return change_fails(__builtin_return_address(0))
	    ? -1
	    : (int)syscall(SYS_unlinkat, dir, path, flags);
}

/* The names that these have for whoever was compiled with large files. */
int open64(const char *path, int flags, ...) __attribute__((alias("open")));
int openat64(int dir, const char *path, int flags, ...) __attribute__((alias("openat")));
ssize_t pread64(int fd, void *buffer, size_t n, off_t at) __attribute__((alias("pread")));
ssize_t pwrite64(int fd, const void *bytes, size_t n, off_t at) __attribute__((alias("pwrite")));
int ftruncate64(int fd, off_t n) __attribute__((alias("ftruncate")));
int fallocate64(int fd, int how, off_t at, off_t n) __attribute__((alias("fallocate")));

/* --- Threads and time. */

int
pthread_create(pthread_t *out, const pthread_attr_t *how, void *(*run)(void *), void *arg)
{
	typedef int create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	static create *next;

	if (next == NULL)
		*(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
	if (fails(THREADS, __builtin_return_address(0)))
		return EAGAIN;
	return next(out, how, run, arg);
}

int
clock_gettime(clockid_t clock, struct timespec *out)
{
	int result = (int)syscall(SYS_clock_gettime, clock, out);
	long ns;

	if (result != 0 || clock != CLOCK_REALTIME || page == NULL ||
	    atomic_load(&page->clock_us) == 0 ||
	    strncmp(page->program, program_invocation_short_name, NAME_MAX_BYTES) != 0)
		return result;
	ns = out->tv_nsec +
	    atomic_load(&page->clock_us) % (SECOND_NS / MICROSECOND_NS) * MICROSECOND_NS;
	out->tv_sec += atomic_load(&page->clock_us) / (SECOND_NS / MICROSECOND_NS);
	if (ns < 0 || ns >= SECOND_NS) {
		out->tv_sec += ns < 0 ? -1 : 1;
		ns += ns < 0 ? SECOND_NS : -SECOND_NS;
	}
	out->tv_nsec = ns;
	return 0;
}

/* --- The begin, and the end by a signal, which nobody could tell from an exit otherwise. */

static void
ended(int number)
{
	if (getpid() == program_pid &&
	    strncmp(page->program, program_invocation_short_name, NAME_MAX_BYTES) == 0) {
		if (own_turn == atomic_load(&page->turn))
			memcpy(page->where, own_where, WHERE_MAX_BYTES);
		atomic_store(&page->signal, number);
		atomic_store(&page->kinds, 0); /* the next one is to start */
	}
	(void)raise(number); /* SA_RESETHAND: now it kills */
}

__attribute__((constructor)) static void
fault_open(void)
{
	static const int deadly[] = { SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP };
	const char *path = getenv("CAREDESK_FAULT");
	const struct sigaction action = { .sa_handler = ended, .sa_flags = (int)SA_RESETHAND };
	int fd = path != NULL ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
	void *mapped;

	if (fd < 0)
		return;
	mapped = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)syscall(SYS_close, fd);
	if (mapped == MAP_FAILED)
		return;
	for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
		(void)sigaction(deadly[i], &action, NULL);
	program_pid = getpid();
	page = mapped;
}
