/*
 * The input: any bytes; each reader of text and numbers is held against another way of reading
 * them, or against what writes what it reads.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "lib/jsonr.h"
#include "lib/jsonw.h"
#include "lib/text.h"

#define BYTES_MAX 4096

struct written {
	char text[64];
	size_t n;
};

static enum err
take(void *ctx, const char *bytes, size_t n)
{
	struct written *w = ctx;

	assert(w->n + n < sizeof(w->text));
	memcpy(w->text + w->n, bytes, n);
	w->n += n;
	w->text[w->n] = '\0';
	return OK;
}

/* The characters of S one by one, by what their bits say (RFC 3629 section 3); -1: it is not
 * UTF-8. */
static long
count_characters(const uint8_t *s, size_t n)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	long count = 0;

	for (size_t i = 0; i < n; count++) {
		unsigned ones = s[i] < 0x80 ? 0 : (unsigned)__builtin_clz(~((uint32_t)s[i] << 24));
		size_t length = ones == 0 ? 1 : ones;
		uint32_t code = ones == 0 ? s[i] : s[i] & (0x7fu >> ones);

		if (ones == 1 || ones > 4 || n - i < length)
			return -1;
		for (size_t k = 1; k < length; k++) {
			if ((s[i + k] & 0xc0) != 0x80)
				return -1;
			code = code << 6 | (s[i + k] & 0x3f);
		}
		if ((ones > 0 && code < least[ones]) || code > 0x10ffff ||
		    (code >= 0xd800 && code <= 0xdfff))
			return -1;
		i += length;
	}
	return count;
}

static void
check_utf8(const uint8_t *bytes, size_t n)
{
	const char *s = (const char *)bytes;
	long count = count_characters(bytes, n);

	assert(text_utf8_valid(s, n) == (count >= 0));
	assert(count < 0 || text_utf8_length(s, n) == (size_t)count);
}

/* Whether S is a number of JSON (RFC 8259 section 6). */
static bool
is_number(const char *s)
{
	size_t n;

	s += *s == '-';
	n = strspn(s, "0123456789");
	if (n == 0 || (s[0] == '0' && n > 1))
		return false;
	s += n;
	if (*s == '.') {
		n = strspn(s + 1, "0123456789");
		s += n > 0 ? n + 1 : 0;
	}
	if (*s == 'e' || *s == 'E') {
		const char *digits = s + 1 + (s[1] == '+' || s[1] == '-');

		n = strspn(digits, "0123456789");
		s = n > 0 ? digits + n : s;
	}
	return *s == '\0';
}

/* What is read and written is read as the same. */
static void
check_decimal(const char *s, size_t n, unsigned scale)
{
	struct written w = { .n = 0 };
	struct jsonw writer;
	int64_t value = 7, again;
	int rounded = 7;

	if (!text_decimal(s, n, scale, &value, &rounded))
		return;
	assert(rounded >= -1 && rounded <= 1);
	jsonw_open(&writer, take, &w);
	jsonw_decimal(&writer, NULL, value, scale);
	assert(jsonw_close(&writer) == OK && is_number(w.text));
	assert(text_decimal(w.text, w.n, scale, &again, &rounded));
	assert(again == value && rounded == 0);
}

static void
check_number(const char *s, size_t n)
{
	char digits[TEXT_INT_SIZE];
	int64_t exact = 7, value = 7;
	int rounded = 7;
	bool is_exact;

	if (text_uint(s, n, &value)) {
		errno = 0;
		assert(strspn(s, "0123456789") == n && strtoll(s, NULL, 10) == value && errno == 0);
	} else {
		errno = 0;
		assert(value == 7 &&
		    (n == 0 || strspn(s, "0123456789") < n || strtoll(s, NULL, 10) == INT64_MAX));
	}
	if (n > 300 || !is_number(s))
		return;
	is_exact = text_exact_int(s, n, &exact);
	value = 7;
	if (text_decimal(s, n, 0, &value, &rounded))
		assert(is_exact == (rounded == 0) && (!is_exact || exact == value));
	else
		assert(!is_exact);
	if (is_exact) {
		assert(text_int(exact, digits) == strlen(digits) && is_number(digits));
		assert(text_exact_int(digits, strlen(digits), &value) && value == exact);
	}
	for (unsigned scale = 0; scale <= JSONW_SCALE_MAX; scale++)
		check_decimal(s, n, scale);
}

static void
check_percent(const char *s, size_t n)
{
	static char encoded[3 * BYTES_MAX + 1], decoded[BYTES_MAX];
	size_t length = text_percent_encode(s, n, encoded);
	long back;

	assert(strlen(encoded) == length && text_utf8_valid(encoded, length));
	assert(strcspn(encoded, "/?#&=+ ") == length);
	back = text_percent_decode(encoded, length, true);
	assert(back == (long)n && memcmp(encoded, s, n) == 0);
	/* What is decoded and encoded reads back as the same. */
	memcpy(decoded, s, n);
	back = text_percent_decode(decoded, n, false);
	assert(back <= (long)n && (back == (long)n || memchr(s, '%', n) != NULL));
	if (back < 0)
		return;
	length = text_percent_encode(decoded, (size_t)back, encoded);
	assert(text_percent_decode(encoded, length, false) == back);
	assert(memcmp(encoded, decoded, (size_t)back) == 0);
}

/* As a string of JSON: the reader finds what was written, and any room holds whole characters. */
static void
check_escape(const char *s, size_t n)
{
	static char json[6 * BYTES_MAX + 16] = "{\"s\":\"", part[6 * BYTES_MAX];
	const char *read = NULL;
	struct jsonr body;
	size_t used, length = text_json_escape(s, n, json + 6, 6 * BYTES_MAX, &used), part_n,
		     read_n;

	assert(used == n && text_utf8_valid(json + 6, length));
	for (size_t i = 6; i < 6 + length; i++)
		assert((unsigned char)json[i] >= ' ' && json[i] != 0x7f);
	part_n = text_json_escape(s, n, part, length / 2, &used);
	assert(part_n <= length / 2 && length / 2 - part_n < 6 && used <= n);
	assert(memcmp(part, json + 6, part_n) == 0 && text_utf8_valid(part, part_n));
	if (n == 0 || n > 1000 || memchr(s, '\0', n) != NULL)
		return;
	memcpy(json + 6 + length, "\"}", 2);
	err_clear();
	assert(jsonr_parse(json, length + 8, &body) == OK);
	jsonr_string(&body, "s", 1, BYTES_MAX, &read, &read_n);
	assert(err_pending() == OK);
	assert(!text_utf8_valid(s, n) || (read_n == n && memcmp(read, s, n) == 0));
	jsonr_close(&body);
}

static void
check_hex(const char *s, size_t n)
{
	static unsigned char bytes[BYTES_MAX];
	static char hex[2 * BYTES_MAX + 1];
	const char *digits = "0123456789abcdefABCDEF";
	size_t span = strspn(s, digits);

	text_to_hex((const unsigned char *)s, n, hex);
	assert(strspn(hex, digits) == 2 * n && text_hex(hex, n, bytes) && memcmp(bytes, s, n) == 0);
	assert(text_hex(s, n / 2, bytes) == (span >= n / 2 * 2));
	assert(text_is_base64url(s, n) ==
	    (n > 0 &&
		strspn(s,
		    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		    "0123456789-_") == n));
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static char copy[BYTES_MAX + 1];

	if (n > BYTES_MAX)
		return 0;
	memcpy(copy, bytes, n);
	copy[n] = '\0';
	check_utf8(bytes, n);
	check_number(copy, n);
	check_percent(copy, n);
	check_escape(copy, n);
	check_hex(copy, n);
	return 0;
}
