/*
 * asked.h: one request to the routes of a program or of a test, and the answer to it, whole.
 */
#ifndef CAREDESK_ASKED_H
#define CAREDESK_ASKED_H

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fuzz.h"
#include "lib/route.h"

#define TARGET_MAX (REQUEST_PATH_MAX + REQUEST_QUERY_MAX + 64)

/* The last one, as CGI has it. */
static struct {
	size_t n;
	char text[64 * 1024];
} answer;

/* In place of the C library's, so that no line a request hides what is found. */
ssize_t
write(int fd, const void *bytes, size_t n)
{
	return fd == STDERR_FILENO ? (ssize_t)n : syscall(SYS_write, fd, bytes, n);
}

static bool
take(void *ctx, const char *bytes, size_t n)
{
	(void)ctx;
	assert(answer.n + n < sizeof(answer.text));
	memcpy(answer.text + answer.n, bytes, n);
	answer.n += n;
	answer.text[answer.n] = '\0';
	return true;
}

static ssize_t
give_nothing(void *ctx, char *buffer, size_t n)
{
	(void)ctx;
	(void)buffer;
	(void)n;
	return 0;
}

/* METHOD, TARGET and ACCEPT are NAME=VALUE, as CGI has them. */
static inline void
ask(const struct route *routes, struct request *req, char *method, char *target, char *accept)
{
	static struct response res;
	char *const meta[] = { method, target, accept, NULL };
	const struct request_source source = { .meta = meta, .read = give_nothing };

	answer.n = 0;
	response_open(&res, take, NULL);
	assert(route_run(routes, req, &res, &source));
	assert(strncmp(answer.text, "Status: ", 8) == 0);
}

#endif
