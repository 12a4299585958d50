#include "lib/jsonw.h"

#include <assert.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/text.h"

static void
flush(struct jsonw *w)
{
	if (w->err == OK && w->used > 0)
		w->err = w->sink(w->ctx, w->buffer, w->used);
	w->used = 0;
}

/* Room for N bytes that are written together. */
static char *
reserve(struct jsonw *w, size_t n)
{
	if (sizeof(w->buffer) - w->used < n)
		flush(w);
	return w->buffer + w->used;
}

static void
put_char(struct jsonw *w, char c)
{
	*reserve(w, 1) = c;
	w->used++;
}

static void
put_quoted(struct jsonw *w, const char *s, size_t n)
{
	size_t used;

	put_char(w, '"');
	for (; n > 0; s += used, n -= used) {
		w->used +=
		    text_json_escape(s, n, w->buffer + w->used, sizeof(w->buffer) - w->used, &used);
		if (used < n)
			flush(w);
	}
	put_char(w, '"');
}

/* A short text of ours. */
static void
put_word(struct jsonw *w, const char *s, size_t n)
{
	memcpy(reserve(w, n), s, n);
	w->used += n;
}

static bool
in_array(const struct jsonw *w)
{
	return w->depth > 0 && (w->arrays >> w->depth & 1) != 0;
}

/* What goes before any value: the comma, the name. */
static void
before_value(struct jsonw *w, const char *name)
{
	uint64_t bit = UINT64_C(1) << w->depth;

	assert((name != NULL) == (w->depth > 0 && !in_array(w)));
	assert(w->depth > 0 || (w->filled & bit) == 0);
	if ((w->filled & bit) != 0)
		put_char(w, ',');
	w->filled |= bit;
	if (name != NULL) {
		put_quoted(w, name, strlen(name));
		put_char(w, ':');
	}
}

static void
scope_begin(struct jsonw *w, const char *name, char bracket, bool is_array)
{
	uint64_t bit;

	before_value(w, name);
	assert(w->depth < JSONW_DEPTH_MAX);
	bit = UINT64_C(1) << ++w->depth;
	w->filled &= ~bit;
	w->arrays = is_array ? w->arrays | bit : w->arrays & ~bit;
	put_char(w, bracket);
}

static void
scope_end(struct jsonw *w, char bracket, bool is_array)
{
	assert(w->depth > 0 && in_array(w) == is_array);
	w->depth--;
	put_char(w, bracket);
}

void
jsonw_open(struct jsonw *w, jsonw_sink sink, void *ctx)
{
	w->sink = sink;
	w->ctx = ctx;
	w->err = OK;
	w->depth = 0;
	w->arrays = w->filled = 0;
	w->used = 0;
}

enum err
jsonw_close(struct jsonw *w)
{
	flush(w);
	assert(w->err != OK || (w->depth == 0 && w->filled != 0));
	return w->err;
}

void
jsonw_object_begin(struct jsonw *w, const char *name)
{
	scope_begin(w, name, '{', false);
}

void
jsonw_object_end(struct jsonw *w)
{
	scope_end(w, '}', false);
}

void
jsonw_array_begin(struct jsonw *w, const char *name)
{
	scope_begin(w, name, '[', true);
}

void
jsonw_array_end(struct jsonw *w)
{
	scope_end(w, ']', true);
}

void
jsonw_int(struct jsonw *w, const char *name, int64_t value)
{
	before_value(w, name);
	w->used += text_int(value, reserve(w, TEXT_INT_SIZE));
}

void
jsonw_decimal(struct jsonw *w, const char *name, int64_t value, unsigned scale)
{
	uint64_t v = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
	char digits[24];
	char *end = digits + sizeof(digits), *p = end;
	unsigned decimals;

	assert(scale <= JSONW_SCALE_MAX);
	for (decimals = scale; decimals > 0 && v % 10 == 0; decimals--)
		v /= 10;
	for (unsigned i = 0; i < decimals; i++, v /= 10)
		*--p = (char)('0' + v % 10);
	if (decimals > 0)
		*--p = '.';
	do {
		*--p = (char)('0' + v % 10);
	} while ((v /= 10) != 0);
	if (value < 0)
		*--p = '-';
	before_value(w, name);
	put_word(w, p, (size_t)(end - p));
}

void
jsonw_string(struct jsonw *w, const char *name, const char *s)
{
	jsonw_string_n(w, name, s, strlen(s));
}

void
jsonw_string_n(struct jsonw *w, const char *name, const char *s, size_t n)
{
	before_value(w, name);
	put_quoted(w, s, n);
}

void
jsonw_time(struct jsonw *w, const char *name, int64_t us)
{
	char time[CLOCK_TEXT_SIZE];

	clock_text(us, time);
	jsonw_string(w, name, time);
}

void
jsonw_json(struct jsonw *w, const char *name, const char *json, size_t n)
{
	before_value(w, name);
	flush(w);
	if (w->err == OK && n > 0)
		w->err = w->sink(w->ctx, json, n);
}

void
jsonw_bool(struct jsonw *w, const char *name, bool value)
{
	before_value(w, name);
	put_word(w, value ? "true" : "false", value ? 4 : 5);
}

void
jsonw_null(struct jsonw *w, const char *name)
{
	before_value(w, name);
	put_word(w, "null", 4);
}
