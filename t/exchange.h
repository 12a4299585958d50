/*
 * exchange.h: a program without a server: one request through its table of routes.
 *
 *	ck_assert_int_eq(POST("/things", "{}"), 201);
 *	ck_has("\"id\":1");
 *	ck_assert_str_eq(FIELD("Location"), "/things/1");
 */
#ifndef CAREDESK_EXCHANGE_H
#define CAREDESK_EXCHANGE_H

#include <pthread.h>
#include <stdio.h>

#include "lib/serve.h"
#include "test.h"

struct question {
	const char *method, *uri, *body;
	size_t n; /* of the body; 0: its strlen() */
	const char *type; /* NULL: application/json with a body */
	const char *encoding, *accept, *if_match, *if_none_match, *key;
};

struct exchange {
	struct request req;
	struct response res;
	const char *left;
	size_t left_n, n;
	char meta[10][REQUEST_QUERY_MAX + 1024];
	char text[1024 * 1024];
};

static struct exchange one; /* the last one */

static inline bool
take(void *ctx, const char *bytes, size_t n)
{
	struct exchange *x = ctx;

	ck_assert_uint_lt(x->n + n, sizeof(x->text));
	memcpy(x->text + x->n, bytes, n);
	x->n += n;
	x->text[x->n] = '\0';
	return true;
}

static inline ssize_t
give(void *ctx, char *buffer, size_t n)
{
	struct exchange *x = ctx;

	n = n < x->left_n ? n : x->left_n;
	n = n < 1000 ? n : 1000;
	memcpy(buffer, x->left, n);
	x->left += n;
	x->left_n -= n;
	return (ssize_t)n;
}

/* The list of meta-variables of a question; also sets its body. */
static inline void
prepare(struct exchange *x, const struct question *q, char *meta[11])
{
	const char *type = q->type != NULL ? q->type : q->body != NULL ? "application/json" : "";
	const char *const values[][2] = { { "REQUEST_METHOD", q->method },
		{ "REQUEST_URI", q->uri }, { "CONTENT_TYPE", type },
		{ "HTTP_CONTENT_ENCODING", q->encoding }, { "HTTP_ACCEPT", q->accept },
		{ "HTTP_IF_MATCH", q->if_match }, { "HTTP_IF_NONE_MATCH", q->if_none_match },
		{ "HTTP_IDEMPOTENCY_KEY", q->key } };
	size_t count = 0;

	x->left = q->body;
	x->left_n = q->n > 0 || q->body == NULL ? q->n : strlen(q->body);
	for (size_t i = 0; i < COUNT(values); i++)
		if (values[i][1] != NULL) {
			(void)snprintf(x->meta[count], sizeof(x->meta[0]), "%s=%s", values[i][0],
			    values[i][1]);
			meta[count] = x->meta[count];
			count++;
		}
	(void)snprintf(x->meta[count], sizeof(x->meta[0]), "CONTENT_LENGTH=%zu", x->left_n);
	meta[count] = x->meta[count];
	meta[count + 1] = NULL;
	x->n = 0;
	response_open(&x->res, take, x);
}

static inline int
status_of(const struct exchange *x)
{
	ck_assert_msg(strncmp(x->text, "Status: ", 8) == 0, "%s", x->text);
	return atoi(x->text + 8);
}

static inline int
ask_in(struct exchange *x, const struct question *q)
{
	char *meta[11];
	const struct request_source source = { meta, give, x };

	prepare(x, q, meta);
	ck_assert(route_run(program.routes, &x->req, &x->res, &source));
	return status_of(x);
}

#define ASK(...) ask_in(&one, &(const struct question){ __VA_ARGS__ })
#define GET(address) ASK(.method = "GET", .uri = (address))
#define POST(address, text) ASK(.method = "POST", .uri = (address), .body = (text))
#define PUT(address, text) ASK(.method = "PUT", .uri = (address), .body = (text))
#define DELETE(address) ASK(.method = "DELETE", .uri = (address))

static inline const char *
body_of(const struct exchange *x)
{
	const char *end = strstr(x->text, "\r\n\r\n");

	ck_assert_ptr_nonnull(end);
	return end + 4;
}

/* The value of a header field, "" if there is none. */
static inline const char *
field_of(const struct exchange *x, const char *name)
{
	static char values[4][2048];
	static size_t next;
	char *value = values[next++ % 4], start[64];
	const char *at;

	(void)snprintf(start, sizeof(start), "\r\n%s: ", name);
	at = strstr(x->text, start);
	value[0] = '\0';
	if (at != NULL && at < body_of(x))
		(void)snprintf(value, sizeof(values[0]), "%.*s",
		    (int)strcspn(at + strlen(start), "\r"), at + strlen(start));
	return value;
}

#define BODY body_of(&one)
#define FIELD(name) field_of(&one, name)

static inline bool
has(const char *text)
{
	return strstr(BODY, text) != NULL;
}

#define ck_has(wanted) ck_assert_msg(has(wanted), "%s\nis not in\n%s", wanted, one.text)

/* An answer but for its Date. */
static inline const char *
answer_of(const struct exchange *x)
{
	static char answers[2][4096];
	static size_t next;
	char *answer = answers[next++ % 2];

	(void)snprintf(answer, sizeof(answers[0]), "%d %s %s %s %s", status_of(x),
	    field_of(x, "Location"), field_of(x, "ETag"), field_of(x, "Content-Type"), body_of(x));
	return answer;
}

static inline int
count_in(const char *text, const char *what)
{
	int count = 0;

	for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
		count++;
	return count;
}

/* A route as the contract has it. */
struct listed_route {
	enum method method;
	const char *path;
	unsigned roles;
};

/* The program's routes are just those listed, in their order, with their roles. */
static inline void
ck_routes(const struct listed_route *listed, size_t count)
{
	size_t i = 0;

	for (; program.routes[i].path != NULL; i++) {
		ck_assert_uint_lt(i, count);
		ck_assert_int_eq(program.routes[i].method, listed[i].method);
		ck_assert_str_eq(program.routes[i].path, listed[i].path);
		ck_assert_uint_eq(program.routes[i].roles, listed[i].roles);
	}
	ck_assert_uint_eq(i, count);
}

/* --- Many who ask the same at once: set raced, then run_race(). */

#define RACERS 16

static struct question raced;
static struct exchange racers[RACERS];

static inline void *
race(void *x)
{
	(void)ask_in(x, &raced);
	return NULL;
}

/* How many of all who ask at once are answered STATUS. */
static inline int
run_race(int status)
{
	pthread_t threads[RACERS];
	int count = 0;

	for (size_t i = 0; i < RACERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
	for (size_t i = 0; i < RACERS; i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
		count += status_of(&racers[i]) == status;
	}
	return count;
}

/* The bad fields of a problem, as its errors have them. */
#define BAD(pointer, detail) "{\"detail\":\"" detail "\",\"pointer\":\"" pointer "\"}"

#endif
