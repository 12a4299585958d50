/*
 * The input: a method, a space, a target, and behind a line feed what is accepted.  The row that is
 * taken is the one that a search by hand finds, and every answer is whole.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "asked.h"
#include "lib/text.h"

#define DEPTH_MAX 4 /* segments of a template */

/* The template, and the captures as they were sent, percent-encoded again. */
static enum err
echo(struct request *req, struct response *res)
{
	char text[3 * REQUEST_PATH_MAX + 1];
	enum err err;

	response_begin(res, 200, "application/json");
	err = response_write(res, req->template, strlen(req->template));
	for (size_t i = 0; i < req->capture_count && err == OK; i++) {
		const struct request_text *value = &req->captures[i].value;
		size_t n = text_percent_encode(value->s, value->n, text);

		err = response_write(res, " ", 1);
		if (err == OK)
			err = response_write(res, text, n);
	}
	return err;
}

static const struct route routes[] = { { METHOD_GET, "/a", ROLES_ALL, echo, NULL },
	{ METHOD_POST, "/a", ROLES_ALL, echo, NULL },
	{ METHOD_GET, "/a/b", ROLES_ALL, echo, "text/csv,application/json" },
	{ METHOD_PUT, "/a/{id}", ROLES_ALL, echo, NULL },
	{ METHOD_DELETE, "/a/{id}", ROLES_ALL, echo, NULL },
	{ METHOD_GET, "/a/{id}/c/{x}", ROLES_ALL, echo, NULL },
	{ METHOD_PATCH, "/{any}", ROLES_ALL, echo, NULL }, { 0 } };

/* What the request's segments, as route has read them, should lead to: another way of matching, by
 * words.  Returns the methods of the template, 0 where none fits; EXPECTED is the body. */
static unsigned
search(const struct request *req, char *expected)
{
	for (const struct route *route = routes; route->path != NULL; route++) {
		char words[64], *save = NULL, *word, *to = stpcpy(expected, route->path);
		size_t i = 0;
		unsigned methods = 0;

		(void)snprintf(words, sizeof(words), "%s", route->path);
		for (word = strtok_r(words, "/", &save); word != NULL && i < req->segment_count;
		     word = strtok_r(NULL, "/", &save), i++) {
			if (word[0] != '{' && strcmp(word, req->segments[i].s) != 0)
				break;
			if (word[0] == '{') {
				*to++ = ' ';
				to +=
				    text_percent_encode(req->segments[i].s, req->segments[i].n, to);
			}
		}
		if (word != NULL || i != req->segment_count)
			continue;
		for (const struct route *row = routes; row->path != NULL; row++)
			methods |= strcmp(row->path, route->path) == 0 ? row->method : 0;
		return methods;
	}
	return 0;
}

static int
ask_status(struct request *req, char *method, char *target, char *accept)
{
	ask(routes, req, method, target, accept);
	return atoi(answer.text + strlen("Status: "));
}

/* One head, of printable characters, and its body. */
static const char *
check_head(bool has_body)
{
	const char *body = strstr(answer.text, "\r\n\r\n"), *length;

	assert(body != NULL);
	for (const char *at = answer.text; at < body; at++)
		assert((*at >= ' ' && *at <= '~') || (at[0] == '\r' && at[1] == '\n') ||
		    (at[0] == '\n' && at[-1] == '\r'));
	body += 4;
	length = strstr(answer.text, "\r\nContent-Length: ");
	if (has_body)
		assert(length != NULL && length < body &&
		    strtoul(length + 18, NULL, 10) == answer.n - (size_t)(body - answer.text));
	else
		assert(*body == '\0');
	return body;
}

/* Allow has just these. */
static void
check_allow(unsigned methods)
{
	static const struct {
		unsigned bit;
		const char *name;
	} names[] = { { METHOD_GET, "GET" }, { METHOD_GET, "HEAD" }, { METHOD_POST, "POST" },
		{ METHOD_PUT, "PUT" }, { METHOD_PATCH, "PATCH" }, { METHOD_DELETE, "DELETE" },
		{ ~0u, "OPTIONS" } };
	char expected[128] = "\r\nAllow: ";
	bool first = true;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if ((methods & names[i].bit) != 0) {
			(void)strcat(strcat(expected, first ? "" : ", "), names[i].name);
			first = false;
		}
	assert(strstr(answer.text, strcat(expected, "\r\n")) != NULL);
}

static void
check_status(const struct request *req, int status)
{
	static char expected[64 + DEPTH_MAX * (3 * REQUEST_PATH_MAX + 2)];
	unsigned methods = search(req, expected);
	unsigned wanted = req->method == METHOD_HEAD ? METHOD_GET : req->method;
	bool is_head = req->method == METHOD_HEAD, accepts;
	const char *body = check_head(!is_head && status != 204);

	accepts = request_accepts(req, "application/json") ||
	    (strcmp(req->template, "/a/b") == 0 && request_accepts(req, "text/csv"));
	if (methods == 0) {
		assert(status == 404);
	} else if ((methods & wanted) == 0) {
		assert(status == (req->method == METHOD_OPTIONS ? 204 : 405));
		check_allow(methods);
	} else {
		assert(status == (accepts ? 200 : 406));
		assert(status != 200 || is_head || strcmp(body, expected) == 0);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static struct request req;
	static char copy[TARGET_MAX], method[TARGET_MAX + 32], target[TARGET_MAX + 32];
	static char accept[TARGET_MAX + 32];
	char *space, *feed;
	size_t path_n;
	int status;

	if (n >= TARGET_MAX - 64)
		return 0;
	memcpy(copy, bytes, n);
	copy[n] = '\0';
	if ((space = strchr(copy, ' ')) == NULL)
		return 0;
	*space++ = '\0';
	if ((feed = strchr(space, '\n')) != NULL)
		*feed++ = '\0';
	(void)snprintf(method, sizeof(method), "REQUEST_METHOD=%s", copy);
	(void)snprintf(target, sizeof(target), "REQUEST_URI=%s", space);
	(void)snprintf(accept, sizeof(accept), "HTTP_ACCEPT=%s", feed != NULL ? feed : "");
	status = ask_status(&req, method, target, accept);
	if (status == 400 || status == 414 || req.segment_count == REQUEST_SEGMENTS_MAX)
		return 0;
	check_status(&req, status);
	/* A slash at the path's end, and twice at its beginning, is the same resource. */
	path_n = strcspn(space, "?");
	if (path_n + 2 > REQUEST_PATH_MAX)
		return 0;
	(void)snprintf(
	    target, sizeof(target), "REQUEST_URI=/%.*s/%s", (int)path_n, space, space + path_n);
	assert(ask_status(&req, method, target, accept) == status);
	check_status(&req, status);
	return 0;
}
