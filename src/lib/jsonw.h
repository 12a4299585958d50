/*
 * jsonw: writes JSON (RFC 8259) as it goes; nothing is kept but the open scopes.
 *
 *	struct jsonw w;
 *	jsonw_open(&w, sink, ctx);
 *	jsonw_object_begin(&w, NULL);
 *	jsonw_int(&w, "oop_max", 10000);
 *	jsonw_object_end(&w);
 *	return jsonw_close(&w);
 *
 * Each value comes with its member's name, which is NULL exactly where there is none: in an array
 * and at the top.  Names and scopes out of order are our own mistakes and abort.  The first error
 * of the sink is latched: later calls do nothing and jsonw_close() tells it, so only that one
 * result must be checked.
 *
 * Numbers are exact: integers of 64 bits, and decimals as an integer and a scale.  Text that is not
 * UTF-8 gets U+FFFD for each wrong byte, so the output is always valid.
 *
 * One thread at a time per writer.
 */
#ifndef CAREDESK_JSONW_H
#define CAREDESK_JSONW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

#define JSONW_DEPTH_MAX 32
#define JSONW_SCALE_MAX 18

/* Takes all N bytes or says why not. */
typedef enum err (*jsonw_sink)(void *ctx, const char *bytes, size_t n);

struct jsonw {
	jsonw_sink sink;
	void *ctx;
	enum err err;
	unsigned depth; /* open scopes */
	uint64_t arrays; /* bit d: the scope at depth d is an array */
	uint64_t filled; /* bit d: it has a value already */
	size_t used;
	char buffer[1024];
};

void jsonw_open(struct jsonw *w, jsonw_sink sink, void *ctx);

/* Hands out what is left and returns the latched error.  All scopes must be closed, unless there
 * was an error. */
enum err jsonw_close(struct jsonw *w) MUST_CHECK;

void jsonw_object_begin(struct jsonw *w, const char *name);
void jsonw_object_end(struct jsonw *w);
void jsonw_array_begin(struct jsonw *w, const char *name);
void jsonw_array_end(struct jsonw *w);

void jsonw_int(struct jsonw *w, const char *name, int64_t value);

/* VALUE / 10^SCALE without trailing zeros: (250050, 2) is 2500.5 and (250000, 2) is 2500. */
void jsonw_decimal(struct jsonw *w, const char *name, int64_t value, unsigned scale);

void jsonw_string(struct jsonw *w, const char *name, const char *s);
void jsonw_string_n(struct jsonw *w, const char *name, const char *s, size_t n);

/* An instant, as clock_text() has it. */
void jsonw_time(struct jsonw *w, const char *name, int64_t us);

void jsonw_bool(struct jsonw *w, const char *name, bool value);
/* A value that is JSON already, such as an answer that was kept. */
void jsonw_json(struct jsonw *w, const char *name, const char *json, size_t n);

void jsonw_null(struct jsonw *w, const char *name);

#endif
