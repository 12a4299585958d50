#include "lib/request.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "lib/clock.h"
#include "lib/text.h"

static const struct {
	const char *name;
	enum method method;
} methods[] = {
	{ "GET", METHOD_GET },
	{ "HEAD", METHOD_HEAD },
	{ "POST", METHOD_POST },
	{ "PUT", METHOD_PUT },
	{ "PATCH", METHOD_PATCH },
	{ "DELETE", METHOD_DELETE },
	{ "OPTIONS", METHOD_OPTIONS },
};

/* The meta-variables that matter, found in one pass over all of them.  No client can send those
 * that begin with CAREDESK_: nginx makes HTTP_... of its fields. */
enum meta {
	META_ACCEPT,
	META_ASKED_FIRST,
	META_AUTHORIZATION,
	META_CACHED_AT,
	META_CONTENT_ENCODING,
	META_CONTENT_LENGTH,
	META_CONTENT_TYPE,
	META_IDEMPOTENCY_KEY,
	META_IF_MATCH,
	META_IF_NONE_MATCH,
	META_METHOD,
	META_OPERATOR,
	META_PREFER,
	META_REQUEST_ID,
	META_TRACEPARENT,
	META_URI,
	META_MAX
};

#define META(text) \
	{ \
		text, sizeof(text) - 1 \
	}

static const struct request_text meta_names[META_MAX] = {
	[META_ACCEPT] = META("HTTP_ACCEPT"),
	[META_ASKED_FIRST] = META("CAREDESK_ASKED_FIRST"),
	[META_AUTHORIZATION] = META("HTTP_AUTHORIZATION"),
	[META_CACHED_AT] = META("CAREDESK_CACHED_AT"),
	[META_CONTENT_ENCODING] = META("HTTP_CONTENT_ENCODING"),
	[META_CONTENT_LENGTH] = META("CONTENT_LENGTH"),
	[META_CONTENT_TYPE] = META("CONTENT_TYPE"),
	[META_IDEMPOTENCY_KEY] = META("HTTP_IDEMPOTENCY_KEY"),
	[META_IF_MATCH] = META("HTTP_IF_MATCH"),
	[META_IF_NONE_MATCH] = META("HTTP_IF_NONE_MATCH"),
	[META_METHOD] = META("REQUEST_METHOD"),
	[META_OPERATOR] = META("CAREDESK_OPERATOR"),
	[META_PREFER] = META("HTTP_PREFER"),
	[META_REQUEST_ID] = META("REQUEST_ID"),
	[META_TRACEPARENT] = META("HTTP_TRACEPARENT"),
	[META_URI] = META("REQUEST_URI"),
};

static void
read_meta(char *const *meta, const char *values[META_MAX])
{
	for (int i = 0; i < META_MAX; i++)
		values[i] = "";
	for (; *meta != NULL; meta++) {
		const char *equals = strchr(*meta, '=');
		size_t n = equals == NULL ? 0 : (size_t)(equals - *meta);

		for (int i = 0; i < META_MAX; i++)
			if (n == meta_names[i].n && memcmp(*meta, meta_names[i].s, n) == 0)
				values[i] = equals + 1;
	}
}

static enum method
method_of(const char *name)
{
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (strcmp(methods[i].name, name) == 0)
			return methods[i].method;
	return METHOD_OTHER;
}

/* N lower-case hex digits that are not all 0, as every id in a traceparent must be. */
static bool
trace_field(const char *s, size_t n)
{
	return strspn(s, "0123456789abcdef") >= n && strspn(s, "0") < n;
}

/* W3C Trace Context section 3.2.2: version-traceid-parentid-flags; a version above 00 may have
 * more behind it. */
static bool
trace_parse(struct request *req, const char *s)
{
	unsigned char flags;
	size_t n = strlen(s);

	if (n < 55 || strspn(s, "0123456789abcdef") != 2 || memcmp(s, "ff", 2) == 0 ||
	    s[2] != '-' || s[35] != '-' || s[52] != '-' || !trace_field(s + 3, 32) ||
	    !trace_field(s + 36, 16) || strspn(s + 53, "0123456789abcdef") < 2)
		return false;
	if (memcmp(s, "00", 2) == 0 ? n != 55 : n > 55 && s[55] != '-')
		return false;
	memcpy(req->trace_id, s + 3, 32);
	req->trace_id[32] = '\0';
	(void)text_hex(s + 53, 1, &flags);
	req->sampled = (flags & 1) != 0;
	return true;
}

/* The client's trace, else the id nginx gave the request, else one of our own. */
static void
trace_begin(struct request *req, const char *traceparent, const char *request_id)
{
	unsigned char bytes[16];

	req->sampled = false;
	if (trace_parse(req, traceparent))
		return;
	if (strlen(request_id) == 32 && trace_field(request_id, 32)) {
		memcpy(req->trace_id, request_id, REQUEST_TRACE_SIZE);
		return;
	}
	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		memset(bytes, 1, sizeof(bytes));
	text_to_hex(bytes, sizeof(bytes), req->trace_id);
}

/* Decodes one piece of path or query in place; the NUL behind it is the caller's. */
static enum err
decode(char *s, size_t n, bool plus, struct request_text *text)
{
	long decoded = text_percent_decode(s, n, plus);

	if (decoded < 0)
		return fail(ERR_INPUT, "the address has a broken %%-escape");
	if (memchr(s, '\0', (size_t)decoded) != NULL)
		return fail(ERR_INPUT, "the address holds a NUL");
	if (!text_utf8_valid(s, (size_t)decoded))
		return fail(ERR_INPUT, "the address is not UTF-8");
	s[decoded] = '\0';
	*text = (struct request_text){ s, (size_t)decoded };
	return OK;
}

static enum err
add_segment(struct request *req, char *s, size_t n)
{
	struct request_text *text = &req->segments[req->segment_count];
	enum err err;

	if (n == 0)
		return OK; /* repeated slashes are one, a trailing one is none */
	if (req->segment_count == REQUEST_SEGMENTS_MAX)
		return fail(ERR_NOT_FOUND, "no resource has so many path segments");
	if ((err = decode(s, n, false, text)) != OK)
		return err;
	if (memchr(text->s, '/', text->n) != NULL || strcmp(text->s, ".") == 0 ||
	    strcmp(text->s, "..") == 0)
		return fail(ERR_INPUT, "a path segment must not be . or .. nor hold a slash");
	req->segment_count++;
	return OK;
}

static enum err
read_path(struct request *req, const char *s, size_t n)
{
	char *at = req->path_bytes, *slash;
	enum err err = OK;

	if (n == 0 || s[0] != '/')
		return fail(ERR_INPUT, "the path must begin with a slash");
	if (n > REQUEST_PATH_MAX)
		return fail(ERR_URI_TOO_LONG, "the path is longer than %d bytes", REQUEST_PATH_MAX);
	/* Some clients err in the sign that begins the query, which must not be logged all the
	 * same. */
	(void)snprintf(
	    req->logged_bytes, sizeof(req->logged_bytes), "%.*s", (int)strcspn(s, "?#&;="), s);
	req->log_path = req->logged_bytes;
	memcpy(at, s, n);
	at[n] = '\0';
	for (at++; err == OK && at != NULL; at = slash == NULL ? NULL : slash + 1) {
		slash = strchr(at, '/');
		err = add_segment(req, at, slash == NULL ? strlen(at) : (size_t)(slash - at));
	}
	return err;
}

static enum err
add_param(struct request *req, char *s, size_t n)
{
	struct request_param *param = &req->params[req->param_count];
	char *equals = memchr(s, '=', n);
	size_t name_n = equals == NULL ? n : (size_t)(equals - s);
	enum err err;

	if (n == 0)
		return OK;
	if (req->param_count == REQUEST_PARAMS_MAX)
		return fail(ERR_INPUT, "more than %d query parameters", REQUEST_PARAMS_MAX);
	if (equals == NULL)
		param->value = (struct request_text){ "", 0 };
	else if ((err = decode(equals + 1, n - name_n - 1, true, &param->value)) != OK)
		return err;
	if ((err = decode(s, name_n, true, &param->name)) != OK)
		return err;
	req->param_count++;
	return OK;
}

static enum err
read_query(struct request *req, const char *s, size_t n)
{
	char *at = req->query_bytes, *ampersand;
	enum err err = OK;

	if (n > REQUEST_QUERY_MAX)
		return fail(
		    ERR_URI_TOO_LONG, "the query is longer than %d bytes", REQUEST_QUERY_MAX);
	memcpy(at, s, n);
	at[n] = '\0';
	for (; err == OK && at != NULL; at = ampersand == NULL ? NULL : ampersand + 1) {
		ampersand = strchr(at, '&');
		err = add_param(req, at, ampersand == NULL ? strlen(at) : (size_t)(ampersand - at));
	}
	return err;
}

static enum err
read_length(struct request *req, const char *s)
{
	if (s[0] == '\0')
		return OK;
	if (!text_uint(s, strlen(s), &req->content_length))
		return fail(ERR_INPUT, "Content-Length is not a number");
	req->content_left = req->content_length;
	return OK;
}

enum err
request_begin(struct request *req, const struct request_source *source)
{
	const char *values[META_MAX], *uri, *query;
	size_t path_n;
	enum err err;

	read_meta(source->meta, values);
	req->source = *source;
	req->start_us = clock_monotonic_us();
	req->method = method_of(values[META_METHOD]);
	req->method_name = values[META_METHOD];
	req->accept = values[META_ACCEPT];
	req->content_type = values[META_CONTENT_TYPE];
	req->content_encoding = values[META_CONTENT_ENCODING];
	req->if_match = values[META_IF_MATCH];
	req->if_none_match = values[META_IF_NONE_MATCH];
	req->idempotency_key = values[META_IDEMPOTENCY_KEY];
	req->prefer = values[META_PREFER];
	req->authorization = values[META_AUTHORIZATION];
	req->by_operator = strcmp(values[META_OPERATOR], "1") == 0;
	req->cached_at = values[META_CACHED_AT];
	req->asked_first = strcmp(values[META_ASKED_FIRST], "1") == 0;
	req->roles = 0;
	req->who = "";
	req->caregiver_id = 0;
	req->caregivers.count = 0;
	req->content_length = req->content_left = 0;
	req->log_path = req->template = "";
	req->segment_count = req->param_count = req->capture_count = 0;
	trace_begin(req, values[META_TRACEPARENT], values[META_REQUEST_ID]);

	uri = values[META_URI];
	path_n = strcspn(uri, "?");
	query = uri[path_n] == '?' ? uri + path_n + 1 : "";
	if ((err = read_length(req, values[META_CONTENT_LENGTH])) != OK ||
	    (err = read_path(req, uri, path_n)) != OK ||
	    (err = read_query(req, query, strlen(query))) != OK)
		return err;
	return OK;
}

struct request_text
request_capture(const struct request *req, const char *name)
{
	for (size_t i = 0; i < req->capture_count; i++) {
		const struct request_text *found = &req->captures[i].name;

		if (strlen(name) == found->n && memcmp(name, found->s, found->n) == 0)
			return req->captures[i].value;
	}
	assert(false && "the template has no such capture");
	return (struct request_text){ "", 0 };
}

struct request_text
request_param(const struct request *req, const char *name, bool *found)
{
	struct request_text value = { "", 0 };

	*found = false;
	for (size_t i = 0; i < req->param_count; i++) {
		if (strcmp(req->params[i].name.s, name) != 0)
			continue;
		if (*found) {
			(void)fail_field(name, "given twice");
			*found = false;
			break;
		}
		value = req->params[i].value;
		*found = true;
	}
	return value;
}

bool
request_param_flag(const struct request *req, const char *name, bool fallback)
{
	bool found;
	struct request_text value = request_param(req, name, &found);

	if (!found)
		return fallback;
	if (strcmp(value.s, "true") == 0)
		return true;
	if (strcmp(value.s, "false") != 0)
		(void)fail_field(name, "must be true or false");
	return false;
}

void
request_param_int(const struct request *req, const char *name, int64_t min, int64_t max,
    int64_t *value, bool *found)
{
	struct request_text text = request_param(req, name, found);
	int64_t v;

	if (!*found)
		return;
	*found = text_uint(text.s, text.n, &v) && v >= min && v <= max;
	if (*found)
		*value = v;
	else
		(void)fail_field(
		    name, "must be a whole number of %lld..%lld", (long long)min, (long long)max);
}

void
request_param_time(const struct request *req, const char *name, int64_t *us, bool *found)
{
	struct request_text text = request_param(req, name, found);

	if (!*found)
		return;
	*found = clock_parse(text.s, text.n, us) == OK;
	if (!*found)
		(void)fail_field(name, "%s", err_words());
}

enum err
request_id(const struct request *req, const char *name, int64_t *id)
{
	struct request_text text = request_capture(req, name);

	if (text_uint(text.s, text.n, id) && *id >= 1)
		return OK;
	return fail(ERR_NOT_FOUND, "there is nothing at this address");
}

bool
request_is(const struct request *req, const char *type)
{
	size_t n = strcspn(req->content_type, " \t;");

	return n == strlen(type) && strncasecmp(req->content_type, type, n) == 0 &&
	    (req->content_encoding[0] == '\0' ||
		strcasecmp(req->content_encoding, "identity") == 0);
}

/* How well one media range, N bytes without its parameters, fits TYPE: 0 not at all, up to 3. */
static int
range_fit(const char *s, size_t n, const char *type)
{
	size_t slash = strcspn(type, "/");

	if (n == strlen(type) && strncasecmp(s, type, n) == 0)
		return 3;
	if (n == slash + 2 && strncasecmp(s, type, slash + 1) == 0 && s[slash + 1] == '*')
		return 2;
	return n == 3 && memcmp(s, "*/*", 3) == 0;
}

/* The weight among the parameters behind a media range, in thousandths; 1000 where there is none or
 * it is not as it must be. */
static int
weight(const char *s, size_t n)
{
	const char *end = s + n;
	int thousandths, digit = 100;

	for (; (s = memchr(s, ';', (size_t)(end - s))) != NULL;) {
		s += 1 + strspn(s + 1, " \t");
		if (end - s < 3 || (s[0] != 'q' && s[0] != 'Q') || s[1] != '=')
			continue;
		if (s[2] != '0')
			return 1000;
		thousandths = 0;
		for (s += 3 + (s[3] == '.'); s < end && *s >= '0' && *s <= '9'; s++, digit /= 10)
			thousandths += (*s - '0') * digit;
		return thousandths;
	}
	return 1000;
}

int
request_quality(const struct request *req, const char *type)
{
	const char *s = req->accept;
	int best = 0, quality = s[0] == '\0' ? 1000 : 0;

	while (*s != '\0') {
		size_t n, whole;
		int fit;

		s += strspn(s, " \t,");
		whole = strcspn(s, ",");
		n = strcspn(s, " \t;,");
		fit = range_fit(s, n, type);
		if (fit > best) {
			best = fit;
			quality = weight(s, whole);
		}
		s += whole;
	}
	return quality;
}

bool
request_accepts(const struct request *req, const char *type)
{
	return request_quality(req, type) > 0;
}

/* Up to the next comma that stands in no quotes. */
static size_t
element_length(const char *s)
{
	bool quoted = false;
	size_t n;

	for (n = 0; s[n] != '\0' && (quoted || s[n] != ','); n++) {
		if (s[n] == '"')
			quoted = !quoted;
		else if (quoted && s[n] == '\\' && s[n + 1] != '\0')
			n++;
	}
	return n;
}

bool
request_prefers(const struct request *req, const char *preference)
{
	size_t wanted = strlen(preference), n;

	for (const char *s = req->prefer; *s != '\0'; s += element_length(s)) {
		s += strspn(s, " \t,");
		n = strcspn(s, " \t;,=");
		if (n == wanted && strncasecmp(s, preference, n) == 0)
			return true;
	}
	return false;
}

enum err
request_read(struct request *req, char *buffer, size_t n, size_t *got)
{
	ssize_t r;

	*got = 0;
	if (req->content_left == 0 || n == 0)
		return OK;
	if ((int64_t)n > req->content_left)
		n = (size_t)req->content_left;
	r = req->source.read(req->source.ctx, buffer, n);
	if (r <= 0)
		return fail(
		    r == 0 ? ERR_INPUT : ERR_GONE, "the body is shorter than its Content-Length");
	req->content_left -= r;
	*got = (size_t)r;
	return OK;
}

enum err
request_body(struct request *req, size_t max, char **body, size_t *n)
{
	size_t got, total = 0;
	enum err err;
	char *bytes;

	*body = NULL;
	*n = 0;
	if (req->content_left > (int64_t)max)
		return fail(ERR_TOO_LARGE, "the body must be at most %zu bytes", max);
	bytes = malloc((size_t)req->content_left + 1);
	if (bytes == NULL)
		return fail(ERR_BUSY, "no memory for a body");
	do {
		err = request_read(req, bytes + total, (size_t)req->content_left, &got);
		total += got;
	} while (err == OK && got > 0);
	if (err != OK) {
		free(bytes);
		return err;
	}
	bytes[total] = '\0';
	*body = bytes;
	*n = total;
	return OK;
}

bool
request_drain(struct request *req)
{
	char buffer[4096];
	size_t got;

	if (req->content_left > REQUEST_BODY_MAX)
		return false;
	while (req->content_left > 0)
		if (request_read(req, buffer, sizeof(buffer), &got) != OK)
			return false;
	return true;
}

void
request_traceparent(const struct request *req, char out[REQUEST_TRACEPARENT_SIZE])
{
	unsigned char span[8];

	if (getrandom(span, sizeof(span), 0) != sizeof(span))
		memset(span, 1, sizeof(span));
	memcpy(out, "00-", 3);
	memcpy(out + 3, req->trace_id, 32);
	out[35] = '-';
	text_to_hex(span, sizeof(span), out + 36);
	memcpy(out + 52, req->sampled ? "-01" : "-00", 4);
}
