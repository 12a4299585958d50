/*
 * test.h: a test program on a page.  Each behaviour is a START_TEST; the program ends with
 *
 *	CHECK_MAIN(text, { digits_are_read, utf8_is_told_from_bytes })
 *
 * and speaks TAP, one line a behaviour.  A behaviour runs in a process of its own, unless
 * CK_FORK=no.
 */
#ifndef CAREDESK_TEST_H
#define CAREDESK_TEST_H

#include <check.h>
#undef fail /* an old name of ck_abort_msg(), and a function of ours */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static inline int
check_run(const char *noun, const TTest *const tests[], size_t count)
{
	Suite *suite = suite_create(noun);
	TCase *tcase = tcase_create(noun);
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 60);
	for (size_t i = 0; i < count; i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_set_tap(runner, "-");
	srunner_run_all(runner, CK_SILENT);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Whether CALL ends its process by abort(), as a failed assert() does. */
static inline bool
aborts(void (*call)(void))
{
	const struct rlimit no_core = { 0, 0 };
	int status;
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		(void)setrlimit(RLIMIT_CORE, &no_core);
		(void)dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
		call();
		_exit(EXIT_SUCCESS);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

#define LINK_SECRET_HEX "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

/* Below the working directory, as caredesk run has made it. */
static inline void
link_secret_make(const char *text)
{
	int fd = open("run/links", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	ck_assert_int_eq(close(fd), 0);
}

/* Standard error while it is caught: each write(2) to it is one datagram. */
struct caught {
	int saved, fd;
};

static inline struct caught
stderr_catch(void)
{
	struct caught caught = { .saved = dup(STDERR_FILENO) };
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
	ck_assert_int_eq(dup2(pair[1], STDERR_FILENO), STDERR_FILENO);
	(void)close(pair[1]);
	caught.fd = pair[0];
	return caught;
}

/* What the next write(2) wrote, with a NUL behind it, and its length; 0 if there was none. */
static inline size_t
stderr_next(const struct caught *caught, char *out, size_t room)
{
	ssize_t n = recv(caught->fd, out, room - 1, MSG_DONTWAIT | MSG_TRUNC);

	ck_assert_int_lt(n, (ssize_t)room);
	out[n < 0 ? 0 : n] = '\0';
	return n < 0 ? 0 : (size_t)n;
}

static inline void
stderr_release(const struct caught *caught)
{
	ck_assert_int_eq(dup2(caught->saved, STDERR_FILENO), STDERR_FILENO);
	(void)close(caught->saved);
	(void)close(caught->fd);
}

#define CHECK_MAIN(noun, ...) \
	int main(void) \
	{ \
		const TTest *const tests[] = __VA_ARGS__; \
\
		return check_run(#noun, tests, COUNT(tests)); \
	}

#endif
