/*
 * err: what went wrong, in a code and in words.
 *
 * A fallible function returns enum err; OK is 0.  Who first knows the cause says so:
 *
 *	return fail(ERR_INPUT, "limit must be %d..%d", 1, LIMIT_MAX);
 *
 * The code travels up the call chain as the return value; the words, and for bad input one
 * entry per bad field, wait in the thread until problem.c turns them into an answer (RFC 9457) or
 * log.c into a line.  Each code is one row of the table in problem.c, which is docs/problems.md.
 *
 * Any thread; nothing is shared between threads.
 */
#ifndef CAREDESK_ERR_H
#define CAREDESK_ERR_H

#include <stddef.h>

enum err {
	OK = 0,
	ERR_INPUT, /* 400: unreadable or invalid input */
	ERR_UNAUTHORIZED, /* 401 */
	ERR_FORBIDDEN, /* 403 */
	ERR_NOT_FOUND, /* 404 */
	ERR_METHOD, /* 405 */
	ERR_NOT_ACCEPTABLE, /* 406 */
	ERR_CLIENT_TIMEOUT, /* 408 */
	ERR_CONFLICT, /* 409: against what is stored */
	ERR_LENGTH_REQUIRED, /* 411 */
	ERR_PRECONDITION, /* 412 */
	ERR_TOO_LARGE, /* 413 */
	ERR_URI_TOO_LONG, /* 414 */
	ERR_MEDIA_TYPE, /* 415 */
	ERR_KEY_REUSED, /* 422: an Idempotency-Key with another body */
	ERR_RATE, /* 429 */
	ERR_HEADERS_TOO_LARGE, /* 431 */
	ERR_INTERNAL, /* 500: our fault */
	ERR_NOT_IMPLEMENTED, /* 501 */
	ERR_UPSTREAM, /* 502 */
	ERR_BUSY, /* 503: try again */
	ERR_UPSTREAM_TIMEOUT, /* 504 */
	ERR_HTTP_VERSION, /* 505 */
	ERR_GONE, /* the client left: nobody to answer; never becomes a status */
	ERR_MAX
};

#define ERR_WORDS_MAX 512 /* bytes of words, the NUL included; longer ones are cut */
#define ERR_FIELDS_MAX 32 /* bad fields told at once; further ones are counted, not kept */

/* One bad field: a JSON Pointer fragment ("#/email", RFC 6901 section 6) or a parameter's name. */
struct err_field {
	char pointer[128];
	char detail[160];
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Remembers the words and returns CODE.  Words go to the client, so they must be fit for
 * it; only those of ERR_INTERNAL stay in the log. */
enum err fail(enum err code, const char *fmt, ...) PRINTF(2, 3);
/* Compilers see what comes back. */
#define fail(code, ...) ((void)fail(code, __VA_ARGS__), (enum err)(code))

/* Adds a bad field to those of this request; always ERR_INPUT.  May be ignored: err_pending()
 * tells at the end whether any field was bad, so that a caller can collect them all first. */
enum err fail_field(const char *pointer, const char *fmt, ...) PRINTF(2, 3);

/* ERR_INPUT with words for all, if any field was bad since err_clear(); else OK. */
enum err err_pending(void) MUST_CHECK;

/* Lent, valid until the next fail() in this thread; "" when there are none. */
const char *err_words(void);

/* The bad fields, lent likewise; *COUNT of them. */
const struct err_field *err_fields(size_t *count);

void err_clear(void);

/* Words and fields of one thread, to be taken over by another. */
struct err_state {
	char words[ERR_WORDS_MAX];
	size_t field_count;
	struct err_field fields[ERR_FIELDS_MAX];
};

void err_save(struct err_state *state);
void err_restore(const struct err_state *state);

#endif
