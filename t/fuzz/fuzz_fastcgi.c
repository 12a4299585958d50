/*
 * The input: what nginx, or somebody else, writes to a connection before it stops writing.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "lib/serve.h"

#define BYTES_MAX (32 * 1024) /* fits in the socket, so that nobody waits for anybody */

/* Of the sanitizers, where there are any: where their reports go. */
void __sanitizer_set_report_fd(void *fd) __attribute__((weak));

/* libfcgi 2.4.2 loses 48 bytes at each management record of an unknown type, which nginx never
 * sends. */
const char *__lsan_default_suppressions(void);

const char *
__lsan_default_suppressions(void)
{
	return "leak:libfcgi";
}

static enum err
echo(struct request *req, struct response *res)
{
	struct request_text text = request_capture(req, "text");

	response_begin(res, 200, "application/json");
	return response_write(res, text.s, text.n);
}

static enum err
echo_body(struct request *req, struct response *res)
{
	char *body;
	size_t n;
	enum err err = request_body(req, 4096, &body, &n);

	if (err != OK)
		return err;
	response_begin(res, 201, "application/json");
	err = response_write(res, body, n);
	free(body);
	return err;
}

static enum err
stream(struct request *req, struct response *res)
{
	enum err err = OK;
	bool fails;

	fails = request_param_flag(req, "fail", false);
	response_begin(res, 200, "application/json");
	for (int i = 0; i < 3000 && err == OK; i++)
		err = response_write(res, "12345678", 8);
	return err != OK || !fails ? err : fail(ERR_INTERNAL, "failed late");
}

static enum err
location(struct request *req, struct response *res)
{
	bool found;

	response_begin(res, 201, "application/json");
	return response_field(res, "Location", request_param(req, "to", &found).s);
}

static const struct route routes[] = { { METHOD_GET, "/e/{text}", ROLES_ALL, echo, NULL },
	{ METHOD_POST, "/b", ROLES_ALL, echo_body, NULL },
	{ METHOD_PUT, "/b", ROLES_ALL, location, NULL }, /* leaves its body unread */
	{ METHOD_GET, "/s", ROLES_ALL, stream, "application/json,text/csv" }, { 0 } };

static const struct program fuzzed = { "fuzzed", routes, NULL, NULL, NULL };

/* Reads all that is answered and forgets it. */
static void *
drain(void *ctx)
{
	char buffer[65536];

	while (read(*(int *)ctx, buffer, sizeof(buffer)) > 0)
		;
	return NULL;
}

/* The log goes nowhere meanwhile; what a sanitizer says does not. */
static void
serve_silently(int fd)
{
	static int nowhere = -1, saved = -1;

	if (nowhere < 0) {
		nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
		saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
		if (__sanitizer_set_report_fd != NULL && saved >= 0)
			__sanitizer_set_report_fd((void *)(intptr_t)saved);
	}
	(void)dup2(nowhere, STDERR_FILENO);
	serve_connection(&fuzzed, fd);
	(void)dup2(saved, STDERR_FILENO);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static uint8_t copy[BYTES_MAX];
	pthread_t thread;
	int pair[2];

	if (n > BYTES_MAX)
		return 0;
	/* Where the lengths of a parameter's name and value come to 2^31, libfcgi 2.4.2 finds
	 * no memory and aborts, and a gigabyte takes its time.  nginx writes no such lengths:
	 * without a byte above 0x80 they stay below 2^24. */
	for (size_t i = 0; i < n; i++)
		copy[i] = bytes[i] > 0x80 ? 0x80 : bytes[i];
	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	assert(send(pair[0], copy, n, MSG_DONTWAIT) == (ssize_t)n);
	assert(shutdown(pair[0], SHUT_WR) == 0);
	assert(pthread_create(&thread, NULL, drain, &pair[0]) == 0);
	serve_silently(pair[1]);
	/* It has closed its end: that is how the drain comes to its own. */
	assert(pthread_join(thread, NULL) == 0);
	(void)close(pair[0]);
	return 0;
}
