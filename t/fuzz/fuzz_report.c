/*
 * The input: the query of a GET of the report, or behind a first byte of '{' the body of a POST.
 * There is no database: a question that is understood is ERR_BUSY.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "lib/serve.h"

struct body {
	const uint8_t *bytes;
	size_t left;
};

static ssize_t
read_body(void *ctx, char *buffer, size_t n)
{
	struct body *body = ctx;

	n = n < body->left ? n : body->left;
	memcpy(buffer, body->bytes, n);
	body->bytes += n;
	body->left -= n;
	return (ssize_t)n;
}

static bool
take(void *ctx, const char *bytes, size_t n)
{
	(void)ctx;
	(void)bytes;
	(void)n;
	return true;
}

static const struct route *
route_of(enum method method)
{
	const struct route *route = program.routes;

	while (route->method != method)
		route++;
	return route;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static struct request req;
	static struct response res;
	static bool is_open;
	static char uri[REQUEST_QUERY_MAX + 32] = "REQUEST_URI=/events/report?";
	const size_t head = strlen("REQUEST_URI=/events/report?");
	bool post = n > 0 && bytes[0] == '{';
	char length[48],
	    *const meta[] = { uri,
		    post ? (char *)"REQUEST_METHOD=POST" : (char *)"REQUEST_METHOD=GET",
		    (char *)"CONTENT_TYPE=application/json", length, NULL };
	struct body body = { bytes, post ? n : 0 };
	const struct request_source source = { meta, read_body, &body };
	size_t query = post ? 0 : n < REQUEST_QUERY_MAX ? n : REQUEST_QUERY_MAX;
	enum err err;

	if (!is_open && program.open(NULL) != OK)
		abort();
	is_open = true;
	memcpy(uri + head, bytes, query);
	uri[head + query] = '\0';
	(void)snprintf(length, sizeof(length), "CONTENT_LENGTH=%zu", body.left);
	err_clear();
	if (request_begin(&req, &source) != OK)
		return 0;
	response_open(&res, take, NULL);
	err = route_of(post ? METHOD_POST : METHOD_GET)->handler(&req, &res);
	assert(err == ERR_INPUT || err == ERR_BUSY || err == ERR_TOO_LARGE);
	assert(!res.begun);
	return 0;
}
