/*
 * mix: the kinds of requests that a mixed load is made of, and what each may be answered.
 */
#ifndef CAREDESK_BENCH_MIX_H
#define CAREDESK_BENCH_MIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REQUEST_MAX 16384
#define STATUS_MAX 600

enum after {
	KEEP, /* the connection, for the next request */
	CLOSE, /* once the answer is there; no answer is one too, where 0 is expected */
	HANG_UP_SENT, /* at once */
	HANG_UP_ANSWERED, /* at the first bytes of the answer */
};

enum learn { NOTHING, EVENT, ACCOUNT, SESSION, IMAGE };

/* What @ and a letter stand for in the texts is in mix_kinds.c. */
struct kind {
	const char *name; /* for the table at the end */
	int weight; /* among those that are abuse, or among those that are not */
	const char *line; /* method and target; NULL: the body is all that is sent */
	const char *fields; /* beside Host, Authorization and Content-Length */
	const char *body; /* or NULL */
	const char *expected; /* statuses; 0 is a connection closed without an answer */
	enum after after;
	enum learn learn;
	bool abuse;
};

extern const struct kind kinds[];
extern const int kind_count;

/* A random number below N, which is not 0. */
uint64_t draw(uint64_t n);

/* One that is abuse with PERMILLE of a thousand; its request is put into OUT. */
int kind_draw(int permille);
size_t kind_make(const struct kind *kind, const char *token, char out[REQUEST_MAX]);

/* What later requests may ask for, from the beginning of an answer's body. */
void kind_learn(const struct kind *kind, const char *body);

bool kind_expects(const struct kind *kind, int status);

#endif
