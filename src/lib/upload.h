/*
 * upload: one file, sent by a POST to a server behind a Unix socket (libcurl), as long as it is.
 *
 * Nothing of it is held in memory but a buffer, and it is read as fast as the server takes it.
 * There is no deadline, since only the server knows how long its work takes; a server that goes
 * away ends the call.  An answer may come before all is sent, and ends the sending.
 *
 * A whole answer of any status is OK, and the caller's to judge; it has at most UPLOAD_BODY_MAX
 * bytes.  One call at a time, before other threads or with none: for commands, not for programs.
 */
#ifndef CAREDESK_UPLOAD_H
#define CAREDESK_UPLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

#define UPLOAD_BODY_MAX (64 * 1024)

struct upload {
	const char *url; /* http only; its host is told to the server, and not looked for */
	const char *socket; /* path of the Unix socket */
	const char *type; /* Content-Type */
	const char *key; /* Idempotency-Key; "" for none */
	int fd; /* read from where it stands; of no matter where it has no bytes */
	int64_t bytes; /* how many of it; fewer are an error */
	/* How many are sent, now and then; false ends the call.  Or NULL. */
	bool (*told)(void *ctx, int64_t bytes);
	void *ctx;
};

struct upload_answer {
	long status;
	size_t n;
	char body[UPLOAD_BODY_MAX + 1]; /* with a NUL behind it */
};

/* ERR_UPSTREAM if no whole answer came, with libcurl's words; ERR_INPUT if the file cannot be
 * read to its end. */
enum err upload_send(const struct upload *upload, struct upload_answer *answer) MUST_CHECK;

#endif
