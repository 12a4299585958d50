/*
 * The input: lines "NAME=value", an empty line, the body.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "lib/request.h"
#include "lib/text.h"

#define META_MAX 32
#define BODY_MAX 1000

struct body {
	const char *at, *end;
};

static ssize_t
read_body(void *ctx, char *buffer, size_t n)
{
	struct body *body = ctx;
	size_t left = (size_t)(body->end - body->at);

	if (left == 0 || *body->at == '!')
		return left == 0 ? 0 : -1;
	n = n < left ? n : left;
	n = n < 7 ? n : 7;
	memcpy(buffer, body->at, n);
	body->at += n;
	return (ssize_t)n;
}

/* Cuts the copy of the input into the list; returns where the body begins. */
static char *
split(char *s, char *end, char *meta[META_MAX + 1])
{
	size_t count = 0;

	while (s < end && count < META_MAX) {
		char *line_end = memchr(s, '\n', (size_t)(end - s));

		if (line_end == NULL || line_end == s)
			break;
		*line_end = '\0';
		meta[count++] = s;
		s = line_end + 1;
	}
	meta[count] = NULL;
	return s < end && *s == '\n' ? s + 1 : s;
}

static void
check_text(struct request_text text)
{
	assert(strlen(text.s) == text.n && text_utf8_valid(text.s, text.n));
}

static void
check_address(const struct request *req)
{
	assert(
	    req->segment_count <= REQUEST_SEGMENTS_MAX && req->param_count <= REQUEST_PARAMS_MAX);
	assert(req->log_path[0] == '/' && strlen(req->log_path) <= REQUEST_PATH_MAX);
	assert(strchr(req->log_path, '?') == NULL);
	for (size_t i = 0; i < req->segment_count; i++) {
		check_text(req->segments[i]);
		assert(req->segments[i].n > 0 && strchr(req->segments[i].s, '/') == NULL);
		assert(
		    strcmp(req->segments[i].s, ".") != 0 && strcmp(req->segments[i].s, "..") != 0);
	}
	for (size_t i = 0; i < req->param_count; i++) {
		bool found;

		check_text(req->params[i].name);
		check_text(req->params[i].value);
		err_clear();
		(void)request_param(req, req->params[i].name.s, &found);
		assert(found == (err_pending() == OK));
		(void)request_param_flag(req, req->params[i].name.s, true);
	}
}

/* What we send on is taken for the same trace. */
static void
check_trace(const struct request *req)
{
	static struct request other;
	char text[17 + REQUEST_TRACEPARENT_SIZE] = "HTTP_TRACEPARENT=";
	char *const meta[] = { text, NULL };
	const struct request_source source = { meta, read_body, NULL };

	assert(strlen(req->trace_id) == 32 && strspn(req->trace_id, "0123456789abcdef") == 32);
	request_traceparent(req, text + 17);
	assert(request_begin(&other, &source) == ERR_INPUT); /* it has no address */
	assert(strcmp(other.trace_id, req->trace_id) == 0 && other.sampled == req->sampled);
}

static void
check_body(struct request *req)
{
	char *body;
	size_t length;
	int64_t announced = req->content_length;
	enum err err = request_body(req, BODY_MAX, &body, &length);

	if (err == OK) {
		assert(
		    (int64_t)length == announced && body[length] == '\0' && req->content_left == 0);
		assert(request_drain(req));
	} else {
		assert(body == NULL && (err == ERR_TOO_LARGE) == (announced > BODY_MAX));
	}
	free(body);
	(void)request_drain(req);
}

/* What a client likes best by name is not changed by what else it likes; nor is a preference taken
 * back by others. */
static void
check_likings(const struct request *req)
{
	char *longer = malloc(strlen(req->accept) + strlen(req->prefer) + 64);
	struct request other = { .accept = longer, .prefer = longer };
	int quality = request_quality(req, "application/json");

	assert(quality >= 0 && quality <= 1000);
	assert(request_accepts(req, "application/json") == (quality > 0));
	(void)stpcpy(stpcpy(longer, "application/json;q=0.517, "), req->accept);
	assert(request_quality(&other, "application/json") == 517);
	(void)stpcpy(stpcpy(longer, "*/*;q=0.3, "), req->accept);
	if (quality == 0 || req->accept[0] == '\0')
		assert(request_quality(&other, "application/json") <= 300);
	(void)stpcpy(stpcpy(longer, "Respond-Async, "), req->prefer);
	assert(request_prefers(&other, "respond-async"));
	(void)stpcpy(stpcpy(longer, "handling=\"a, respond-async, \\\"b\", "), req->prefer);
	assert(request_prefers(&other, "respond-async") == request_prefers(req, "respond-async"));
	(void)stpcpy(stpcpy(longer, req->prefer), ", respond-async;x=1");
	assert(request_prefers(&other, "respond-async") || strchr(req->prefer, '"') != NULL);
	free(longer);
}

/* One byte at *AT, percent-decoded where it begins an escape, by hand. */
static char
next_byte(const char **at)
{
	char digits[3] = { 0 };

	if (**at != '%')
		return *(*at)++;
	memcpy(digits, *at + 1, 2);
	*at += 3;
	return (char)strtoul(digits, NULL, 16);
}

/* Each segment of the path is what was sent, decoded once. */
static void
check_sent(const struct request *req, const char *path)
{
	const char *end = path + strcspn(path, "?");
	size_t i = 0;

	for (const char *at = path; at < end; i++) {
		at += strspn(at, "/");
		if (at >= end)
			break;
		assert(i < req->segment_count);
		for (size_t k = 0; k < req->segments[i].n; k++)
			assert(at < end && *at != '/' && next_byte(&at) == req->segments[i].s[k]);
		assert(at == end || *at == '/');
	}
	assert(i == req->segment_count);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static struct request req;
	char *copy = malloc(n + 1), *meta[META_MAX + 1];
	struct body body = { NULL, copy + n };
	struct request_source source = { meta, read_body, &body };
	const char *uri = "";
	enum err err;

	memcpy(copy, bytes, n);
	copy[n] = '\0';
	body.at = split(copy, copy + n, meta);
	err_clear();
	err = request_begin(&req, &source);
	assert(err == OK || err == ERR_INPUT || err == ERR_URI_TOO_LONG || err == ERR_NOT_FOUND);
	assert((err == OK) == (err_words()[0] == '\0'));
	assert(req.method_name != NULL && req.log_path != NULL && req.template != NULL);
	assert(req.content_left == req.content_length && req.content_length >= 0);
	check_trace(&req);
	check_likings(&req);
	if (err == OK) {
		check_address(&req);
		for (size_t i = 0; meta[i] != NULL; i++)
			if (strncmp(meta[i], "REQUEST_URI=", 12) == 0)
				uri = meta[i] + 12;
		check_sent(&req, uri);
	}
	check_body(&req);
	free(copy);
	return 0;
}
