#include "lib/jsonr.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/clock.h"
#include "lib/text.h"

/* A member's name as written, without its quotes. */
struct name {
	const char *s;
	size_t n;
};

/* An open object or array on the way from the top to where the reader is. */
struct scope {
	bool is_array;
	size_t first; /* of an object: its first name in names[] */
	size_t index; /* of an array: the element being read */
};

/* What json-c must have made of a body: where memory is out, it leaves out members and cuts texts,
 * without a word. */
struct size {
	size_t members, values;
	size_t bytes; /* of strings and names without their escapes, and of numbers with a point */
	bool escapes; /* a name has some */
};

struct reader {
	const char *start, *p, *end;
	bool in_name; /* no member is being read, but what it is called */
	unsigned depth;
	struct scope scopes[JSONR_DEPTH_MAX];
	struct name *names; /* of all open objects, the innermost last */
	size_t name_count, name_room;
	struct size size; /* of all objects so far */
};

static enum err value(struct reader *r);

static enum err
bad(const struct reader *r, const char *why)
{
	return fail(ERR_INPUT, "the body is not valid JSON at byte %zu: %s",
	    (size_t)(r->p - r->start), why);
}

static void
skip_space(struct reader *r)
{
	while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
		r->p++;
}

static bool
take(struct reader *r, char c)
{
	if (r->p == r->end || *r->p != c)
		return false;
	r->p++;
	return true;
}

/* One reference token of a JSON Pointer in a fragment (RFC 6901 sections 3 and 6), cut to ROOM.
 * json-c undoes the escapes of the name; without memory for that it stays empty. */
static size_t
pointer_token(const struct name *name, char *out, size_t room)
{
	struct json_tokener *tokener = json_tokener_new_ex(1);
	struct json_object *text =
	    tokener == NULL ? NULL : json_tokener_parse_ex(tokener, name->s - 1, (int)name->n + 2);
	const char *s = json_object_get_string(text);
	size_t n = (size_t)json_object_get_string_len(text), to = 0;

	for (size_t i = 0; i < n && to + 4 < room; i++) {
		char c = s[i];

		if (c == '~' || c == '/') {
			out[to++] = '~';
			out[to++] = c == '~' ? '0' : '1';
		} else {
			to += text_percent_encode(&c, 1, out + to);
		}
	}
	out[to] = '\0';
	(void)json_object_put(text);
	if (tokener != NULL)
		json_tokener_free(tokener);
	return to;
}

/* The pointer to the place that is being read, as far as there is room. */
static void
pointer_here(const struct reader *r, char *out, size_t room)
{
	size_t to = (size_t)snprintf(out, room, "#");

	for (unsigned d = 0; d < r->depth && to + 32 < room; d++) {
		const struct scope *scope = &r->scopes[d];
		size_t last = d + 1 < r->depth ? r->scopes[d + 1].first : r->name_count;

		if (scope->is_array) {
			to += (size_t)snprintf(out + to, room - to, "/%zu", scope->index);
		} else if (last > scope->first) {
			out[to++] = '/';
			to += pointer_token(&r->names[last - 1], out + to, room - to);
		}
	}
}

static enum err
bad_here(const struct reader *r, const char *why)
{
	struct err_field field;

	pointer_here(r, field.pointer, sizeof(field.pointer));
	(void)fail_field(field.pointer, "%s", why);
	return err_pending();
}

/* Of what is in a string. */
static enum err
bad_text(const struct reader *r, const char *why)
{
	return r->in_name || r->depth == 0 ? bad(r, why) : bad_here(r, why);
}

/* The four digits after \u; -1 if they are none. */
static int
code_unit(const struct reader *r)
{
	unsigned char bytes[2];

	if (r->end - r->p < 4 || !text_hex(r->p, 2, bytes))
		return -1;
	return bytes[0] << 8 | bytes[1];
}

/* Behind \u: one character, by one code unit or a pair of them. */
static enum err
unicode_escape(struct reader *r)
{
	int unit = code_unit(r), low;

	if (unit < 0)
		return bad(r, "four hexadecimal digits belong after \\u");
	r->p += 4;
	r->size.bytes += unit < 0x80 ? 1 : unit < 0x800 ? 2 : 3;
	if (unit == 0)
		return bad_text(r, "NUL is not allowed");
	if (unit < 0xd800 || unit > 0xdfff)
		return OK;
	if (unit > 0xdbff || !take(r, '\\') || !take(r, 'u') || (low = code_unit(r)) < 0xdc00 ||
	    low > 0xdfff)
		return bad_text(r, "half a surrogate pair");
	r->p += 4;
	r->size.bytes++; /* four for both */
	return OK;
}

static enum err
escape(struct reader *r)
{
	if (r->p == r->end || *r->p == '\0' || strchr("\"\\/bfnrtu", *r->p) == NULL)
		return bad(r, "unknown escape");
	if (*r->p++ == 'u')
		return unicode_escape(r);
	r->size.bytes++;
	return OK;
}

/* At the opening quote. */
static enum err
string(struct reader *r, struct name *text)
{
	enum err err;
	size_t length;

	if (!take(r, '"'))
		return bad(r, "a string belongs here");
	text->s = r->p;
	while (!take(r, '"')) {
		if (take(r, '\\')) {
			if ((err = escape(r)) != OK)
				return err;
			continue;
		}
		if (r->p == r->end)
			return bad(r, "the string has no end");
		if ((unsigned char)*r->p < 0x20)
			return bad_text(r, "a control character must be escaped");
		length = text_utf8_sequence(r->p, (size_t)(r->end - r->p));
		if (length == 0)
			return bad_text(r, "not UTF-8");
		r->p += length;
		r->size.bytes += length;
	}
	text->n = (size_t)(r->p - 1 - text->s);
	return text->n > JSONR_STRING_MAX ? bad_text(r, "the string is too long") : OK;
}

static bool
digits(struct reader *r)
{
	const char *from = r->p;

	while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
		r->p++;
	return r->p > from;
}

/* The grammar of RFC 8259 section 6; *WHOLE if neither a fraction nor an exponent was written. */
static bool
number_grammar(struct reader *r, bool *whole)
{
	*whole = true;
	(void)take(r, '-');
	if (!take(r, '0') && !digits(r))
		return false;
	if (take(r, '.')) {
		*whole = false;
		if (!digits(r))
			return false;
	}
	if (take(r, 'e') || take(r, 'E')) {
		*whole = false;
		if (!take(r, '+'))
			(void)take(r, '-');
		if (!digits(r))
			return false;
	}
	return true;
}

static enum err
number(struct reader *r)
{
	char copy[JSONR_NUMBER_MAX + 1];
	const char *from = r->p;
	int64_t exact;
	size_t n;
	bool whole;

	if (!number_grammar(r, &whole))
		return bad(r, "not a number");
	n = (size_t)(r->p - from);
	if (n > JSONR_NUMBER_MAX)
		return bad_here(r, "the number has too many digits");
	if (whole)
		return text_exact_int(from, n, &exact)
		    ? OK
		    : bad_here(r, "the number does not fit in 64 bits");
	r->size.bytes += n;
	memcpy(copy, from, n);
	copy[n] = '\0';
	return isfinite(strtod(copy, NULL)) ? OK : bad_here(r, "the number is too large");
}

static enum err
literal(struct reader *r, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n) != 0)
		return bad(r, "unknown word");
	r->p += n;
	return OK;
}

/* Remembers the name of the member that follows; refuses one that this object has already.  A name
 * that is the same only once its escapes are undone is found later, by counting (see compare()). */
static enum err
push_name(struct reader *r, const struct name *name)
{
	size_t first = r->scopes[r->depth - 1].first;
	struct name *grown;

	if (r->name_count - first == JSONR_MEMBERS_MAX)
		return bad(r, "too many members");
	if ((grown = buffer_grow(r->names, &r->name_room, r->name_count + 1, sizeof(*grown))) ==
	    NULL)
		return fail(ERR_BUSY, "no memory for a body");
	r->names = grown;
	r->names[r->name_count++] = *name;
	r->size.members++;
	r->size.escapes |= memchr(name->s, '\\', name->n) != NULL;
	for (size_t i = first; i < r->name_count - 1; i++)
		if (r->names[i].n == name->n && memcmp(r->names[i].s, name->s, name->n) == 0)
			return bad_here(r, "given twice");
	return OK;
}

static enum err
member(struct reader *r)
{
	struct name name;
	enum err err;

	skip_space(r);
	r->in_name = true;
	if ((err = string(r, &name)) != OK || (err = push_name(r, &name)) != OK)
		return err;
	r->in_name = false;
	skip_space(r);
	if (!take(r, ':'))
		return bad(r, "a colon belongs here");
	return value(r);
}

static enum err
element(struct reader *r)
{
	enum err err = value(r);

	r->scopes[r->depth - 1].index++;
	return err;
}

/* Behind the opening bracket: items with commas between them, up to the closing one. */
static enum err
scope(struct reader *r, bool is_array, char close)
{
	size_t first = r->name_count;
	enum err err;

	if (r->depth == JSONR_DEPTH_MAX)
		return bad_here(r, "nested too deeply");
	r->scopes[r->depth++] = (struct scope){ .is_array = is_array, .first = first };
	skip_space(r);
	if (!take(r, close)) {
		do {
			if ((err = is_array ? element(r) : member(r)) != OK)
				return err;
			skip_space(r);
		} while (take(r, ','));
		if (!take(r, close))
			return bad(r,
			    is_array ? "a comma or ] belongs here" : "a comma or } belongs here");
	}
	r->depth--;
	r->name_count = first;
	return OK;
}

static enum err
value(struct reader *r)
{
	struct name ignored;

	r->size.values++;
	skip_space(r);
	if (r->p == r->end)
		return bad(r, "a value belongs here");
	switch (*r->p) {
	case '{':
		r->p++;
		return scope(r, false, '}');
	case '[':
		r->p++;
		return scope(r, true, ']');
	case '"':
		return string(r, &ignored);
	case 't':
		return literal(r, "true");
	case 'f':
		return literal(r, "false");
	case 'n':
		return literal(r, "null");
	case '-':
	case '0' ... '9':
		return number(r);
	case '\xef':
		return bad(r, "neither a byte order mark nor text without quotes belongs here");
	default:
		return bad(r, "a value belongs here");
	}
}

static enum err
validate(const char *bytes, size_t n, struct size *size)
{
	struct reader r = { .start = bytes, .p = bytes, .end = bytes + n };
	enum err err = value(&r);

	skip_space(&r);
	if (err == OK && r.p < r.end)
		err = bad(&r, "nothing may follow the value");
	*size = r.size;
	free(r.names);
	return err;
}

/* Adds what AT has.  The text of a number is made here, so that who reads it later needs no memory.
 */
static void
measure(struct json_object *at, struct size *size)
{
	const char *text;

	size->values++;
	if (json_object_is_type(at, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(at); i++)
			measure(json_object_array_get_idx(at, i), size);
	} else if (json_object_is_type(at, json_type_object)) {
		json_object_object_foreach(at, name, child) {
			size->members++;
			size->bytes += strlen(name);
			measure(child, size);
		}
	} else if (json_object_is_type(at, json_type_string)) {
		size->bytes += (size_t)json_object_get_string_len(at);
	} else if (json_object_is_type(at, json_type_double)) {
		text = json_object_get_string(at);
		size->bytes += text != NULL ? strlen(text) : 0;
	}
}

/* Whether the tree is what was read.  json-c keeps the last of several members with one name. */
static enum err
compare(struct json_object *root, const struct size *read)
{
	struct size built = { 0 };

	measure(root, &built);
	if (built.members < read->members && read->escapes)
		return fail(ERR_INPUT, "a member is given twice, once with escapes in its name");
	if (built.members != read->members || built.values != read->values ||
	    built.bytes != read->bytes)
		return fail(ERR_BUSY, "no memory for a body");
	return OK;
}

static enum err
build(const char *bytes, size_t n, struct json_object **root)
{
	struct json_tokener *tokener = json_tokener_new_ex(JSONR_DEPTH_MAX + 1);
	enum err err = OK;

	if (tokener == NULL || n > INT32_MAX)
		return fail(ERR_BUSY, "no memory for a body");
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	*root = json_tokener_parse_ex(tokener, bytes, (int)n);
	if (*root == NULL)
		err = fail(ERR_BUSY, "json-c refuses a valid body: %s",
		    json_tokener_error_desc(json_tokener_get_error(tokener)));
	json_tokener_free(tokener);
	return err;
}

/* The first byte decides what the top is; spaces before it do not count. */
static bool
starts_object(const char *bytes, size_t n)
{
	size_t i = 0;

	while (i < n && strchr(" \t\n\r", bytes[i]) != NULL && bytes[i] != '\0')
		i++;
	return i < n && bytes[i] == '{';
}

enum err
jsonr_parse(const char *bytes, size_t n, struct jsonr *body)
{
	struct size size;
	enum err err;

	body->root = NULL;
	if ((err = validate(bytes, n, &size)) != OK)
		return err;
	if (!starts_object(bytes, n))
		return fail(ERR_INPUT, "the body must be a JSON object");
	if ((err = build(bytes, n, &body->root)) != OK)
		return err;
	if ((err = compare(body->root, &size)) != OK)
		jsonr_close(body);
	return err;
}

void
jsonr_close(struct jsonr *body)
{
	(void)json_object_put(body->root);
	body->root = NULL;
}

static void
bad_member(const char *name, const char *why)
{
	char pointer[sizeof(((struct err_field *)0)->pointer)];

	(void)snprintf(pointer, sizeof(pointer), "#/%s", name);
	(void)fail_field(pointer, "%s", why);
}

static struct json_object *
take_member(const struct jsonr *body, const char *name)
{
	struct json_object *found;

	if (json_object_object_get_ex(body->root, name, &found))
		return found;
	return NULL;
}

static struct json_object *
required(const struct jsonr *body, const char *name)
{
	struct json_object *found = take_member(body, name);

	if (found == NULL)
		bad_member(name, "is required");
	return found;
}

/* json-c keeps the text of a number that is no plain integer; the value is taken from that text,
 * never from a double. */
static bool
whole_number(struct json_object *at, int64_t *value)
{
	const char *text;

	if (json_object_is_type(at, json_type_int)) {
		*value = json_object_get_int64(at);
		return true;
	}
	if (!json_object_is_type(at, json_type_double))
		return false;
	text = json_object_get_string(at);
	return text != NULL && text_exact_int(text, strlen(text), value);
}

void
jsonr_int(const struct jsonr *body, const char *name, int64_t min, int64_t max, int64_t *value)
{
	struct json_object *found = required(body, name);
	char why[96];
	int64_t v;

	if (found == NULL)
		return;
	if (whole_number(found, &v) && v >= min && v <= max) {
		*value = v;
		return;
	}
	(void)snprintf(why, sizeof(why), "must be a whole number of %lld..%lld", (long long)min,
	    (long long)max);
	bad_member(name, why);
}

void
jsonr_string(const struct jsonr *body, const char *name, size_t min, size_t max, const char **value,
    size_t *length)
{
	struct json_object *found = required(body, name);
	const char *s;
	char why[96];
	size_t n, characters;

	if (found == NULL)
		return;
	if (json_object_is_type(found, json_type_string)) {
		s = json_object_get_string(found);
		n = (size_t)json_object_get_string_len(found);
		characters = text_utf8_length(s, n);
		if (characters >= min && characters <= max) {
			*value = s;
			*length = n;
			return;
		}
	}
	(void)snprintf(why, sizeof(why), "must be a string of %zu..%zu characters", min, max);
	bad_member(name, why);
}

void
jsonr_time(const struct jsonr *body, const char *name, int64_t *us)
{
	struct json_object *found = required(body, name);

	if (found == NULL)
		return;
	if (!json_object_is_type(found, json_type_string))
		bad_member(name, "must be a string that is a date and time as in RFC 3339");
	else if (clock_parse(json_object_get_string(found),
		     (size_t)json_object_get_string_len(found), us) != OK)
		bad_member(name, err_words());
}

enum err
jsonr_ints(const struct jsonr *body, const char *name, int64_t min, int64_t max, size_t most,
    int64_t **values, size_t *count)
{
	struct json_object *found = take_member(body, name);
	char why[96];
	size_t n;

	*values = NULL;
	*count = 0;
	if (found == NULL)
		return OK;
	n = json_object_is_type(found, json_type_array) ? json_object_array_length(found)
							: most + 1;
	if (n > most) {
		(void)snprintf(why, sizeof(why), "must be a list of at most %zu numbers", most);
		bad_member(name, why);
		return OK;
	}
	*values = malloc((n + 1) * sizeof(**values));
	if (*values == NULL)
		return fail(ERR_BUSY, "no memory for a list");
	for (size_t i = 0; i < n; i++) {
		int64_t *value = &(*values)[i];

		if (whole_number(json_object_array_get_idx(found, i), value) && *value >= min &&
		    *value <= max)
			continue;
		(void)snprintf(why, sizeof(why), "#/%s/%zu", name, i);
		(void)fail_field(
		    why, "must be a whole number of %lld..%lld", (long long)min, (long long)max);
	}
	*count = n;
	return OK;
}

/* From the text, as above; json-c would need memory for that of an integer. */
static bool
decimal(struct json_object *at, unsigned scale, int64_t min, int64_t max, int64_t *value)
{
	char digits[24];
	const char *text = digits;
	int64_t v;
	int rounded;

	if (json_object_is_type(at, json_type_int))
		(void)snprintf(digits, sizeof(digits), "%" PRId64, json_object_get_int64(at));
	else if (json_object_is_type(at, json_type_double))
		text = json_object_get_string(at);
	else
		return false;
	if (text == NULL || !text_decimal(text, strlen(text), scale, &v, &rounded))
		return false;
	/* What is out of bounds by less than a unit has been rounded into them. */
	if (v < min || v > max || (v == min && rounded > 0) || (v == max && rounded < 0))
		return false;
	*value = v;
	return true;
}

void
jsonr_decimals(const struct jsonr *body, const char *name, unsigned scale, int64_t min, int64_t max,
    size_t count, int64_t *values)
{
	struct json_object *found = required(body, name);
	const double unit = pow(10, -(double)scale);
	char why[96];

	if (found == NULL)
		return;
	if (!json_object_is_type(found, json_type_array) ||
	    json_object_array_length(found) != count) {
		(void)snprintf(why, sizeof(why), "must be a list of %zu numbers", count);
		bad_member(name, why);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		if (decimal(json_object_array_get_idx(found, i), scale, min, max, &values[i]))
			continue;
		(void)snprintf(why, sizeof(why), "#/%s/%zu", name, i);
		(void)fail_field(
		    why, "must be a number of %g..%g", (double)min * unit, (double)max * unit);
	}
}

bool
jsonr_item(const struct jsonr *body, const char *name, size_t i, struct jsonr *item)
{
	struct json_object *found = take_member(body, name);

	if (!json_object_is_type(found, json_type_array) || i >= json_object_array_length(found))
		return false;
	item->root = json_object_array_get_idx(found, i);
	return json_object_is_type(item->root, json_type_object);
}

bool
jsonr_has(const struct jsonr *body, const char *name)
{
	return take_member(body, name) != NULL;
}

static bool
take_text(struct json_object *at, const char **value, size_t *length)
{
	if (!json_object_is_type(at, json_type_string))
		return false;
	*value = json_object_get_string(at);
	*length = (size_t)json_object_get_string_len(at);
	return true;
}

bool
jsonr_text(const struct jsonr *body, const char *name, const char **value, size_t *length)
{
	return take_text(take_member(body, name), value, length);
}

bool
jsonr_list(const struct jsonr *body, const char *name, size_t *count)
{
	struct json_object *found = take_member(body, name);

	if (!json_object_is_type(found, json_type_array))
		return false;
	*count = json_object_array_length(found);
	return true;
}

bool
jsonr_list_text(
    const struct jsonr *body, const char *name, size_t i, const char **value, size_t *length)
{
	size_t count;

	return jsonr_list(body, name, &count) && i < count &&
	    take_text(json_object_array_get_idx(take_member(body, name), i), value, length);
}

bool
jsonr_object(const struct jsonr *body, const char *name, struct jsonr *member)
{
	member->root = take_member(body, name);
	return json_object_is_type(member->root, json_type_object);
}

bool
jsonr_given(const struct jsonr *body, const char *name)
{
	return json_object_object_get_ex(body->root, name, NULL);
}

bool
jsonr_is_flat(const struct jsonr *body)
{
	json_object_object_foreach(body->root, name, child) {
		(void)name;
		if (json_object_is_type(child, json_type_array) ||
		    json_object_is_type(child, json_type_object))
			return false;
	}
	return true;
}
