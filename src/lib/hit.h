/*
 * hit: a line of nginx's access log, which is a request that was answered.
 *
 *	{"time":"2026-11-21T04:18:58+00:00","trace_id":"0af7651916cd43dd8448eb211c80319c",
 *	"method":"GET","path":"/api/one","status":200,"bytes":17,"seconds":0.004,"cache":"",
 *	"serial":"4711-17-3"}
 *
 * on one line, in just this form (log_format caredesk in nginx/nginx.conf).  The serial (nginx's
 * process, the connection, the request of it) is missing in logs of before there was one: it makes
 * no line the same as another, whatever trace a client sends.  The path is what the client sent,
 * without its query.  nginx escapes quotes, backslashes and control bytes
 *(escape=json), so that no path can end a line or forge another; all else is as it came, UTF-8 or
 *not.
 *
 * Pure functions; any thread.
 */
#ifndef CAREDESK_HIT_H
#define CAREDESK_HIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HIT_BEGINS "{\"time\":\"" /* every line */
#define HIT_PATH_MAX 8192 /* bytes; nginx takes no longer ones (large_client_header_buffers) */
#define HIT_LINE_MAX (6 * HIT_PATH_MAX + 512) /* every byte escaped */

enum hit_method { HIT_OTHER, HIT_GET, HIT_HEAD, HIT_POST, HIT_PUT, HIT_DELETE, HIT_OPTIONS };

struct hit {
	int64_t at_s, took_ms, bytes;
	int status; /* 0..999 */
	enum hit_method method;
	const char *path; /* still escaped; lent by the line */
	size_t path_n;
};

/* A line without its end.  False if it is none of ours. */
bool hit_parse(const char *line, size_t n, struct hit *hit);

/* The path under which it counts: the escapes of the log undone, percent-decoded once, repeated
 * slashes merged.  OUT has room for HIT_PATH_MAX bytes.  A percent sign that begins no escape
 * stays; so does a byte that is not UTF-8.  Returns the length, or -1 if it is longer. */
long hit_path(const struct hit *hit, char *out);

#endif
