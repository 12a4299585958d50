/*
 * jsonr: a JSON body from outside, trusted in nothing.
 *
 * The bytes are first validated here: the grammar of RFC 8259 and nothing beyond it, UTF-8 without
 * surrogates, no NUL, no member twice, integers within int64 and other numbers finite, and the
 * limits below.  Only then json-c builds the tree (its own "strict" mode lets most of that pass).
 * Typed readers then take members out of the top-level object, each with its bounds; what is
 * wrong is collected field by field and told at once by err_pending().
 *
 * One thread at a time per body.  Texts that are read are lent until jsonr_close().
 */
#ifndef CAREDESK_JSONR_H
#define CAREDESK_JSONR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

#define JSONR_DEPTH_MAX 32
#define JSONR_MEMBERS_MAX 256 /* of one object */
/* Bytes of one string, as written: 4096 characters, each escaped as two code units of six. */
#define JSONR_STRING_MAX (4096 * 12)
#define JSONR_NUMBER_MAX 64 /* bytes of one number, as written */

struct json_object; /* of json-c */

struct jsonr {
	struct json_object *root;
};

/* Validates and builds the tree; the top must be an object.  ERR_INPUT: either words with the byte
 * where it went wrong, or a bad field where one can be named.  On an error *BODY is closed. */
enum err jsonr_parse(const char *bytes, size_t n, struct jsonr *body) MUST_CHECK;

void jsonr_close(struct jsonr *body);

/* Member NAME (of our own choosing: no '/' or '~' in it), required.  A missing member, one of
 * another type or out of bounds becomes a bad field and leaves *VALUE alone. */
void jsonr_int(
    const struct jsonr *body, const char *name, int64_t min, int64_t max, int64_t *value);

/* MIN and MAX characters (code points); *LENGTH bytes, with a NUL behind them. */
void jsonr_string(const struct jsonr *body, const char *name, size_t min, size_t max,
    const char **value, size_t *length);

/* A string that is an instant (clock.h), in microseconds. */
void jsonr_time(const struct jsonr *body, const char *name, int64_t *us);

/* A list of whole numbers MIN..MAX, at most MOST of them; yours to free.  A missing member or null
 * is an empty list, NULL. */
enum err jsonr_ints(const struct jsonr *body, const char *name, int64_t min, int64_t max,
    size_t most, int64_t **values, size_t *count) MUST_CHECK;

/* A list of exactly COUNT numbers, each MIN..MAX as it was written, in units of 10^-SCALE and
 * rounded to them as text_decimal() does.  Required; each number that is bad is a bad field. */
void jsonr_decimals(const struct jsonr *body, const char *name, unsigned scale, int64_t min,
    int64_t max, size_t count, int64_t *values);

/* Object I of the list NAME; false if there is none.  Lent by BODY: not to be closed. */
bool jsonr_item(const struct jsonr *body, const char *name, size_t i, struct jsonr *item);

/* True if the member is there and not null: asked before an optional one is read. */
bool jsonr_has(const struct jsonr *body, const char *name);

/* For who judges a body by himself, in words of his own: false, and nothing else, if member NAME is
 * no string, no list, no list with a string at I, no object.  What is found is lent by BODY. */
bool jsonr_text(const struct jsonr *body, const char *name, const char **value, size_t *length);
bool jsonr_list(const struct jsonr *body, const char *name, size_t *count);
bool jsonr_list_text(
    const struct jsonr *body, const char *name, size_t i, const char **value, size_t *length);
bool jsonr_object(const struct jsonr *body, const char *name, struct jsonr *member);

/* Whether the member is there, also as null. */
bool jsonr_given(const struct jsonr *body, const char *name);

/* Whether no member is a list or an object. */
bool jsonr_is_flat(const struct jsonr *body);

#endif
