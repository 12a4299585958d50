#include "lib/problem.h"

#include <assert.h>
#include <stdio.h>

#define RETRY_AFTER_S "1"
#define CHALLENGE "Bearer realm=\"caredesk\""

static const struct problem table[] = {
	{ ERR_INPUT, 400, false, "invalid-input", "The request is not valid",
	    "Something in the request cannot be read or is outside its bounds. `detail` says what; "
	    "`errors` names each bad field, by a JSON Pointer into the body (`#/email`) or by the "
	    "parameter's name. Sending the same again gives the same answer." },
	{ ERR_UNAUTHORIZED, 401, false, "unauthorized", "A valid token is needed",
	    "The request carries no bearer token, or one that is not accepted. The answer is the "
	    "same for every cause. Get a new token and send it as `Authorization: Bearer TOKEN`." },
	{ ERR_FORBIDDEN, 403, false, "forbidden", "You may not do this",
	    "The token is good but none of its roles may do this; or the resource answers only the "
	    "addresses that `detail` names; or a page of another site asked for a change "
	    "(`Sec-Fetch-Site`)." },
	{ ERR_NOT_FOUND, 404, false, "not-found", "There is nothing here",
	    "No resource has this address, or you may not know that it exists." },
	{ ERR_METHOD, 405, false, "method-not-allowed", "The method is not allowed here",
	    "The resource exists but does not take this method. `Allow` lists those it takes." },
	{ ERR_NOT_ACCEPTABLE, 406, false, "not-acceptable", "No representation fits Accept",
	    "The resource has no representation of a type that `Accept` admits. Send "
	    "`Accept: application/json` or leave it out." },
	{ ERR_CLIENT_TIMEOUT, 408, false, "request-timeout", "The request came too slowly",
	    "The server stopped waiting for the rest of the request, and has closed the "
	    "connection; its log says so, the client rarely hears. Send it again, faster." },
	{ ERR_CONFLICT, 409, false, "conflict", "The request conflicts with what is stored",
	    "A value is taken already, or the state of the resource does not allow this. `detail` "
	    "says which. Read the resource, then decide." },
	{ ERR_LENGTH_REQUIRED, 411, false, "length-required", "Content-Length is needed",
	    "Send the length of the body." },
	{ ERR_PRECONDITION, 412, false, "precondition-failed", "The resource has changed",
	    "`If-Match` names another version than the one stored. Read the resource again, apply "
	    "your change to it and send it with the new `ETag`." },
	{ ERR_TOO_LARGE, 413, false, "too-large", "The body is too large",
	    "The body is larger than this resource takes." },
	{ ERR_URI_TOO_LONG, 414, false, "uri-too-long", "The address is too long",
	    "The path or the query is longer than the server takes. Long filters belong in the "
	    "body of a POST, where the resource has one." },
	{ ERR_MEDIA_TYPE, 415, false, "unsupported-media-type",
	    "The type of the body is not supported",
	    "`Content-Type` names a type that this resource does not read, or the body is "
	    "encoded." },
	{ ERR_KEY_REUSED, 422, false, "idempotency-key-reused",
	    "The Idempotency-Key was used before",
	    "The same `Idempotency-Key` came with another body within 24 hours. Use a new key for "
	    "a new request, the same key only to repeat one." },
	{ ERR_RATE, 429, true, "too-many-requests", "Too many requests",
	    "You are asking faster than the server allows. Wait as long as `Retry-After` says." },
	{ ERR_HEADERS_TOO_LARGE, 431, false, "headers-too-large", "The headers are too large",
	    "A header line, or all of them together, is larger than the server takes." },
	{ ERR_INTERNAL, 500, false, "internal", "The server failed",
	    "This is our fault. The log has a line with the `trace_id` of this answer." },
	{ ERR_NOT_IMPLEMENTED, 501, false, "not-implemented", "The server does not know how",
	    "The request needs something of HTTP that the server does not do." },
	{ ERR_UPSTREAM, 502, false, "upstream-failed", "An upstream failed",
	    "The servers that must be asked for this answer did not give a usable one. Where the "
	    "problem has `sources`, they tell the outcome of each." },
	{ ERR_BUSY, 503, true, "unavailable", "The server cannot do this now",
	    "It is overloaded, or its storage or all its upstreams are away. Nothing was done. Try "
	    "again after `Retry-After`." },
	{ ERR_UPSTREAM_TIMEOUT, 504, false, "upstream-timeout", "The upstreams took too long",
	    "The servers that must be asked did not answer in time. Where the problem has "
	    "`sources`, they tell the outcome of each." },
	{ ERR_HTTP_VERSION, 505, false, "http-version-not-supported",
	    "The HTTP version is not supported", "Use HTTP/1.1 or HTTP/2." },
};

const struct problem *
problem_table(size_t *count)
{
	*count = sizeof(table) / sizeof(table[0]);
	return table;
}

const struct problem *
problem_of(enum err code)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].code == code)
			return &table[i];
	assert(false && "an error without a row");
	return NULL;
}

static void
put_fields(struct jsonw *w)
{
	size_t count;
	const struct err_field *fields = err_fields(&count);

	if (count == 0)
		return;
	jsonw_array_begin(w, "errors");
	for (size_t i = 0; i < count; i++) {
		jsonw_object_begin(w, NULL);
		jsonw_string(w, "detail", fields[i].detail);
		jsonw_string(w, "pointer", fields[i].pointer);
		jsonw_object_end(w);
	}
	jsonw_array_end(w);
}

static enum err
put_body(const struct request *req, struct response *res, const struct problem *problem,
    problem_members more, void *ctx)
{
	struct jsonw w;
	char type[64];
	/* The words of a 500 are for the log: they may name what a client must not see. */
	const char *detail = problem->code == ERR_INTERNAL ? "" : err_words();

	(void)snprintf(type, sizeof(type), "/problems/%s", problem->name);
	jsonw_open(&w, response_write, res);
	jsonw_object_begin(&w, NULL);
	jsonw_string(&w, "type", type);
	jsonw_string(&w, "title", problem->title);
	jsonw_int(&w, "status", problem->status);
	jsonw_string(&w, "detail", detail[0] == '\0' ? problem->title : detail);
	jsonw_string(&w, "trace_id", req->trace_id);
	if (problem->status < 500)
		put_fields(&w);
	if (more != NULL)
		more(&w, ctx);
	jsonw_object_end(&w);
	return jsonw_close(&w);
}

/* RFC 6750 section 3: who has sent nothing hears of no error. */
static const char *
challenge_to(const struct request *req)
{
	return req->authorization[0] == '\0' ? CHALLENGE : CHALLENGE ", error=\"invalid_token\"";
}

enum err
problem_send(
    const struct request *req, struct response *res, enum err code, problem_members more, void *ctx)
{
	const struct problem *problem = problem_of(code);
	enum err err;

	if (!response_reset(res))
		return fail(ERR_GONE, "%s", err_words());
	response_begin(res, problem->status, PROBLEM_TYPE);
	if (problem->retry && (err = response_field(res, "Retry-After", RETRY_AFTER_S)) != OK)
		return err;
	if (code == ERR_UNAUTHORIZED &&
	    (err = response_field(res, "WWW-Authenticate", challenge_to(req))) != OK)
		return err;
	return put_body(req, res, problem, more, ctx);
}
