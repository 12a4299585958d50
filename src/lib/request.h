/*
 * request: what a client asks, read from CGI meta-variables (RFC 3875 section 4.1) and a body.
 *
 * It comes from a list of "NAME=value" and a function that reads the body, so that FastCGI, plain
 * CGI and a test look alike.  The path is taken from REQUEST_URI, where the client's own bytes
 * are, and decoded exactly once.
 *
 * Belongs to one thread.  All pointers live until the request ends; the list must stay as long.
 * Limits: a path of 512 bytes, a query of 8 KiB with 32 parameters, as sent.
 */
#ifndef CAREDESK_REQUEST_H
#define CAREDESK_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/err.h"
#include "lib/who.h"

#define REQUEST_PATH_MAX 512
#define REQUEST_QUERY_MAX 8192
#define REQUEST_PARAMS_MAX 32
#define REQUEST_BODY_MAX (1024 * 1024)
#define REQUEST_SEGMENTS_MAX 16
#define REQUEST_TRACE_SIZE 33 /* 32 hex digits and a NUL */

enum method {
	METHOD_GET = 1 << 0,
	METHOD_HEAD = 1 << 1,
	METHOD_POST = 1 << 2,
	METHOD_PUT = 1 << 3,
	METHOD_PATCH = 1 << 4,
	METHOD_DELETE = 1 << 5,
	METHOD_OPTIONS = 1 << 6,
	METHOD_OTHER = 1 << 7
};

/* A piece of text with its length; it may hold any byte but NUL and is followed by one. */
struct request_text {
	const char *s;
	size_t n;
};

struct request_param {
	struct request_text name, value;
};

/* Where the bytes come from.  READ gives 1..N bytes, 0 at the end, -1 if the client is gone or
 * broke its promise of a length. */
struct request_source {
	char *const *meta; /* "NAME=value", NULL-terminated */
	ssize_t (*read)(void *ctx, char *buffer, size_t n);
	void *ctx;
};

struct request {
	struct request_source source;
	enum method method;
	const char *method_name; /* as sent */
	const char *accept; /* "" where the header is missing; likewise below */
	const char *content_type;
	const char *content_encoding;
	const char *if_match;
	const char *if_none_match;
	const char *idempotency_key;
	const char *prefer;
	int64_t content_length; /* 0 if none was sent */
	int64_t content_left; /* not yet read */
	int64_t start_us; /* monotonic */
	char trace_id[REQUEST_TRACE_SIZE];
	bool sampled; /* the flag of traceparent, passed on */
	const char *log_path; /* as sent, without the query; "" before it is known */

	/* The path by segments, decoded; an empty last one (a trailing slash) is left out. */
	struct request_text segments[REQUEST_SEGMENTS_MAX];
	size_t segment_count;

	struct request_param params[REQUEST_PARAMS_MAX];
	size_t param_count;

	const char *authorization; /* the field; of it nothing may be logged or answered */
	bool by_operator; /* through nginx's private socket */
	bool asked_first; /* nginx asks whether it may take in the body, which does not come */
	const char *cached_at; /* where nginx keeps answers, once it may ask for them; else "" */

	/* Who asks; set by route. */
	unsigned roles; /* enum role */
	const char *who; /* for the audit */
	int64_t caregiver_id; /* who they are themselves; 0: no caregiver */
	struct {
		const int64_t *ids;
		size_t count;
	} caregivers; /* whose manager they are */
	struct who who_bytes; /* what the above is of */

	/* Set by route: what stood where the template has {name}. */
	const char *template;
	struct request_param captures[REQUEST_SEGMENTS_MAX];
	size_t capture_count;

	char path_bytes[REQUEST_PATH_MAX + 1];
	char query_bytes[REQUEST_QUERY_MAX + 1];
	char logged_bytes[REQUEST_PATH_MAX + 1];
};

/* ERR_INPUT, ERR_URI_TOO_LONG.  Whatever it returns, METHOD, TRACE_ID and LOG_PATH are set and
 * the request can be answered. */
enum err request_begin(struct request *req, const struct request_source *source) MUST_CHECK;

/* The value captured by the template's {NAME}; asserts that there is one. */
struct request_text request_capture(const struct request *req, const char *name);

/* The query parameter NAME.  *FOUND is whether it was given; given twice it is a bad field, and
 * *FOUND is false. */
struct request_text request_param(const struct request *req, const char *name, bool *found);

/* "true" or "false", else a bad field; FALLBACK where it is not given. */
bool request_param_flag(const struct request *req, const char *name, bool fallback);

/* As request_param(), for a whole number of MIN..MAX or an instant: a bad one is a bad field, and
 * *FOUND is false. */
void request_param_int(const struct request *req, const char *name, int64_t min, int64_t max,
    int64_t *value, bool *found);
void request_param_time(const struct request *req, const char *name, int64_t *us, bool *found);

/* The capture {NAME} as an id, 1..INT64_MAX: what is none is ERR_NOT_FOUND. */
enum err request_id(const struct request *req, const char *name, int64_t *id) MUST_CHECK;

/* Whether the body is of TYPE (its parameters do not matter); not if it has a Content-Encoding. */
bool request_is(const struct request *req, const char *type);

/* How much the Accept header (RFC 9110 section 12.5.1) likes TYPE, such as "application/json":
 * 0 not at all, up to 1000. */
int request_quality(const struct request *req, const char *type);

/* Whether that is more than 0. */
bool request_accepts(const struct request *req, const char *type);

/* Whether the Prefer header (RFC 7240) has PREFERENCE, such as "respond-async". */
bool request_prefers(const struct request *req, const char *preference);

/* The next 1..N bytes of the body, 0 at its end.  Never more than Content-Length says; ERR_INPUT
 * if fewer come, ERR_GONE if the client left. */
enum err request_read(struct request *req, char *buffer, size_t n, size_t *got) MUST_CHECK;

/* The whole body, at most MAX bytes: ERR_TOO_LARGE before anything is read.  Yours to free. */
enum err request_body(struct request *req, size_t max, char **body, size_t *n) MUST_CHECK;

/* Reads and forgets what is left of the body, at most REQUEST_BODY_MAX of it: an unread body on a
 * kept connection would be taken for the next request.  False if bytes may be left, so that the
 * connection must be closed. */
bool request_drain(struct request *req);

/* "00-TRACEID-SPANID-FLAGS" for a call made on behalf of this request, with a span id of its own
 * (W3C Trace Context section 3.2). */
#define REQUEST_TRACEPARENT_SIZE 56
void request_traceparent(const struct request *req, char out[REQUEST_TRACEPARENT_SIZE]);

#endif
