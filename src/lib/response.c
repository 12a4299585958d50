#include "lib/response.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "lib/clock.h"

/* Always left in the head for the field that comes last. */
#define LENGTH_FIELD "Content-Length: 9223372036854775807\r\n"

/* The phrase behind the status, which RFC 9112 section 4 lets be empty but some clients miss. */
static const char *
reason(int status)
{
	static const struct {
		int status;
		const char *phrase;
	} phrases[] = {
		{ 200, "OK" },
		{ 201, "Created" },
		{ 202, "Accepted" },
		{ 204, "No Content" },
		{ 304, "Not Modified" },
		{ 400, "Bad Request" },
		{ 401, "Unauthorized" },
		{ 403, "Forbidden" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 406, "Not Acceptable" },
		{ 409, "Conflict" },
		{ 412, "Precondition Failed" },
		{ 413, "Content Too Large" },
		{ 414, "URI Too Long" },
		{ 415, "Unsupported Media Type" },
		{ 422, "Unprocessable Content" },
		{ 429, "Too Many Requests" },
		{ 500, "Internal Server Error" },
		{ 502, "Bad Gateway" },
		{ 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" },
	};

	for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "Status";
}

void
response_open(struct response *res, response_sink sink, void *ctx)
{
	res->sink = sink;
	res->ctx = ctx;
	res->no_body = false;
	res->begun = res->head_sent = res->broken = false;
	res->status = 0;
	res->body_bytes = 0;
	res->head_used = res->body_used = 0;
}

/* Where the field NAME stands in the head, with its line's length; NULL if it does not. */
static char *
find_field(struct response *res, const char *name, size_t *length)
{
	size_t name_n = strlen(name);
	char *at = res->head, *head_end = res->head + res->head_used, *line_end;

	for (; at < head_end; at = line_end) {
		line_end = (char *)memchr(at, '\n', (size_t)(head_end - at)) + 1;
		*length = (size_t)(line_end - at);
		if (*length > name_n && memcmp(at, name, name_n) == 0 && at[name_n] == ':')
			return at;
	}
	return NULL;
}

/* Fills the head up to LIMIT bytes. */
static enum err
put_field(struct response *res, const char *name, const char *value, size_t limit)
{
	size_t length, room = limit - res->head_used;
	char *old, *end;

	assert(res->begun && !res->head_sent);
	for (const char *p = value; *p != '\0'; p++)
		if (*p < ' ' || *p > '~')
			return fail(ERR_INTERNAL, "the field %s would hold a byte 0x%02x", name,
			    (unsigned char)*p);
	if ((old = find_field(res, name, &length)) != NULL) {
		res->head_used -= length;
		memmove(old, old + length, res->head_used - (size_t)(old - res->head));
		room += length;
	}
	if (strlen(name) + strlen(value) + sizeof(": \r\n") > room)
		return fail(ERR_INTERNAL, "the field %s does not fit", name);
	end = stpcpy(stpcpy(res->head + res->head_used, name), ": ");
	end = stpcpy(stpcpy(end, value), "\r\n");
	res->head_used = (size_t)(end - res->head);
	return OK;
}

enum err
response_field(struct response *res, const char *name, const char *value)
{
	return put_field(res, name, value, sizeof(res->head) - sizeof(LENGTH_FIELD));
}

/* A field whose value is ours and fits. */
static void
own_field(struct response *res, const char *name, const char *value)
{
	enum err err = put_field(res, name, value, sizeof(res->head));

	assert(err == OK);
	(void)err;
}

void
response_begin(struct response *res, int status, const char *type)
{
	char text[48];

	assert(!res->begun && status >= 200 && status <= 599);
	res->begun = true;
	res->status = status;
	(void)snprintf(text, sizeof(text), "%d %s", status, reason(status));
	own_field(res, "Status", text);
	if (type != NULL)
		own_field(res, "Content-Type", type);
	clock_http(clock_now_us(), text);
	own_field(res, "Date", text);
	own_field(res, "Cache-Control", "no-store");
}

void
response_hand_over(struct response *res, const char *path)
{
	assert(!res->begun);
	res->begun = true;
	res->status = 204; /* nobody sees it but our log */
	own_field(res, "Status", "204 No Content");
	own_field(res, "X-Accel-Redirect", path);
}

static void
send_bytes(struct response *res, const char *bytes, size_t n)
{
	if (!res->broken && n > 0)
		res->broken = !res->sink(res->ctx, bytes, n);
}

static void
send_head(struct response *res)
{
	res->head_sent = true;
	send_bytes(res, res->head, res->head_used);
	send_bytes(res, "\r\n", 2);
}

static void
send_body(struct response *res)
{
	if (!res->no_body)
		send_bytes(res, res->body, res->body_used);
	res->body_used = 0;
}

enum err
response_write(void *ctx, const char *bytes, size_t n)
{
	struct response *res = ctx;
	size_t part;

	assert(res->begun);
	res->body_bytes += (int64_t)n;
	for (; n > 0; bytes += part, n -= part) {
		if (res->body_used == sizeof(res->body)) {
			if (!res->head_sent)
				send_head(res);
			send_body(res);
		}
		part = sizeof(res->body) - res->body_used;
		part = n < part ? n : part;
		memcpy(res->body + res->body_used, bytes, part);
		res->body_used += part;
	}
	return res->broken ? fail(ERR_GONE, "the client is gone") : OK;
}

bool
response_reset(struct response *res)
{
	if (res->head_sent)
		return false;
	res->begun = false;
	res->status = 0;
	res->body_bytes = 0;
	res->head_used = res->body_used = 0;
	return true;
}

bool
response_end(struct response *res)
{
	char length[24];

	assert(res->begun);
	if (!res->head_sent) {
		if (res->status != 204 && res->status != 304) {
			(void)snprintf(length, sizeof(length), "%lld", (long long)res->body_bytes);
			own_field(res, "Content-Length", length);
		}
		send_head(res);
	}
	send_body(res);
	return !res->broken;
}
