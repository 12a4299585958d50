/*
 * response: an answer going out, as a CGI response (RFC 3875 section 6) over one function pointer.
 *
 * Begin it with its status and type, add fields, write the body.  Up to RESPONSE_BUFFER_MAX bytes
 * wait here, so that a short answer leaves with its Content-Length and an error that comes early
 * still finds nothing sent; a longer one streams.  First row before first byte: begin only when
 * the answer is sure, since after the first flush an error can only cut the connection.
 *
 * Belongs to one thread.
 */
#ifndef CAREDESK_RESPONSE_H
#define CAREDESK_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

#define RESPONSE_BUFFER_MAX (64 * 1024 - 8) /* what a FastCGI record holds */
#define RESPONSE_HEAD_MAX 2048 /* status and fields together */

/* Takes all N bytes; false if the client is gone. */
typedef bool (*response_sink)(void *ctx, const char *bytes, size_t n);

struct response {
	response_sink sink;
	void *ctx;
	bool no_body; /* set by route for HEAD: count, do not send */
	bool begun, head_sent, broken;
	int status;
	int64_t body_bytes;
	size_t head_used, body_used;
	char head[RESPONSE_HEAD_MAX];
	char body[RESPONSE_BUFFER_MAX];
};

void response_open(struct response *res, response_sink sink, void *ctx);

/* STATUS with a body of TYPE; TYPE is NULL for an answer without a body (204, 304).  Sets
 * Cache-Control: no-store, which response_field() may replace. */
void response_begin(struct response *res, int status, const char *type);

/* Adds a field, or replaces the one of that name.  VALUE holds printable ASCII: a field from
 * outside is refused with ERR_INTERNAL rather than sent, if it does not (RFC 9110 section 5.5). */
enum err response_field(struct response *res, const char *name, const char *value) MUST_CHECK;

/* Nothing of our own: nginx makes the answer, as if it had been asked for its own PATH.  No other
 * field may go with it, for nginx would send some of them beside its own. */
void response_hand_over(struct response *res, const char *path);

/* A jsonw_sink; RES is a struct response.  ERR_GONE once the client is gone. */
enum err response_write(void *res, const char *bytes, size_t n) MUST_CHECK;

/* Forgets what was begun; false if some of it is already on its way. */
bool response_reset(struct response *res);

/* Sends what waits.  Call once, at the end.  False if the client is gone. */
bool response_end(struct response *res);

#endif
