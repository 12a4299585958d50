#include "lib/text.h"

#include <string.h>
#include <strings.h>

#define ESCAPED_MAX 6 /* the longest thing one input byte becomes: \u00XX */

static bool
continues(const char *s, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		if (((unsigned char)s[i] & 0xc0) != 0x80)
			return false;
	return true;
}

size_t
text_utf8_sequence(const char *s, size_t n)
{
	/* By the first byte: how long, and which second bytes are allowed (RFC 3629 section 4). */
	unsigned char first, low = 0x80, high = 0xbf;
	size_t length;

	if (n == 0)
		return 0;
	first = (unsigned char)s[0];
	if (first < 0x80)
		return 1;
	if (first >= 0xc2 && first <= 0xdf) {
		length = 2;
	} else if (first >= 0xe0 && first <= 0xef) {
		length = 3;
		low = first == 0xe0 ? 0xa0 : 0x80;
		high = first == 0xed ? 0x9f : 0xbf;
	} else if (first >= 0xf0 && first <= 0xf4) {
		length = 4;
		low = first == 0xf0 ? 0x90 : 0x80;
		high = first == 0xf4 ? 0x8f : 0xbf;
	} else {
		return 0;
	}
	if (n < length || (unsigned char)s[1] < low || (unsigned char)s[1] > high)
		return 0;
	return continues(s, 2, length) ? length : 0;
}

bool
text_utf8_valid(const char *s, size_t n)
{
	size_t step;

	for (size_t i = 0; i < n; i += step)
		if ((step = text_utf8_sequence(s + i, n - i)) == 0)
			return false;
	return true;
}

size_t
text_utf8_length(const char *s, size_t n)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++)
		count += ((unsigned char)s[i] & 0xc0) != 0x80;
	return count;
}

bool
text_uint(const char *s, size_t n, int64_t *value)
{
	int64_t v = 0;

	if (n == 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9' || __builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, s[i] - '0', &v))
			return false;
	}
	*value = v;
	return true;
}

/* The exponent after 'e', bounded: beyond this no number of a sane length is whole and fits. */
static int64_t
exponent(const char *s, size_t n)
{
	bool negative = n > 0 && s[0] == '-';
	int64_t value;

	if (n > 0 && (s[0] == '-' || s[0] == '+')) {
		s++;
		n--;
	}
	if (!text_uint(s, n, &value) || value > INT32_MAX)
		value = INT32_MAX;
	return negative ? -value : value;
}

/* Accumulates downwards, since INT64_MIN has no positive twin. */
static bool
push_digit(int64_t *v, int digit)
{
	return !__builtin_mul_overflow(*v, 10, v) && !__builtin_sub_overflow(*v, digit, v);
}

bool
text_exact_int(const char *s, size_t n, int64_t *value)
{
	bool negative = n > 0 && s[0] == '-', in_fraction = false;
	int64_t v = 0, shift = 0;
	size_t zeros = 0; /* held back until a digit other than 0 needs them */
	size_t i = negative ? 1 : 0;

	for (; i < n && s[i] != 'e' && s[i] != 'E'; i++) {
		if (s[i] == '.') {
			in_fraction = true;
			continue;
		}
		shift -= in_fraction;
		if (s[i] == '0') {
			zeros += v != 0;
			continue;
		}
		for (; zeros > 0; zeros--)
			if (!push_digit(&v, 0))
				return false;
		if (!push_digit(&v, s[i] - '0'))
			return false;
	}
	if (i < n)
		shift += exponent(s + i + 1, n - i - 1);
	shift += (int64_t)zeros;
	if (v == 0)
		shift = 0;
	if (shift < 0)
		return false;
	for (; shift > 0; shift--)
		if (!push_digit(&v, 0))
			return false;
	if (!negative && v == INT64_MIN)
		return false;
	*value = negative ? v : -v;
	return true;
}

/* Digits behind the last place, the first of them apart: what rounding looks at. */
struct rest {
	int first;
	bool more; /* one of those behind it is not 0 */
};

/* The first PLACES digits of the mantissa S into *V, downwards, with zeros where there are none. */
static bool
take_places(const char *s, size_t n, int64_t places, int64_t *v, struct rest *rest)
{
	int64_t at = 0;

	for (size_t i = 0; i < n; i++) {
		if (s[i] == '.')
			continue;
		if (at < places && !push_digit(v, s[i] - '0'))
			return false;
		if (at == places)
			rest->first = s[i] - '0';
		else if (at > places)
			rest->more |= s[i] != '0';
		at++;
	}
	for (; at < places && *v != 0; at++)
		if (!push_digit(v, 0))
			return false;
	return true;
}

bool
text_decimal(const char *s, size_t n, unsigned scale, int64_t *value, int *rounded)
{
	bool negative = n > 0 && s[0] == '-', away;
	size_t from = negative ? 1 : 0, end = from, point;
	struct rest rest = { 0 };
	int64_t v = 0, places;

	while (end < n && s[end] != 'e' && s[end] != 'E')
		end++;
	for (point = from; point < end && s[point] != '.'; point++)
		;
	places = (int64_t)(point - from) + scale;
	if (end < n)
		places += exponent(s + end + 1, n - end - 1);
	if (!take_places(s + from, end - from, places, &v, &rest))
		return false;
	away = rest.first > 5 || (rest.first == 5 && (rest.more || v % 2 != 0));
	if ((away && __builtin_sub_overflow(v, 1, &v)) || (!negative && v == INT64_MIN))
		return false;
	*value = negative ? v : -v;
	*rounded = rest.first == 0 && !rest.more ? 0 : away != negative ? 1 : -1;
	return true;
}

int
text_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool
text_ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), end_n = strlen(end);

	return n > end_n && strcasecmp(text + n - end_n, end) == 0;
}

bool
text_hex(const char *s, size_t n, unsigned char *bytes)
{
	for (size_t i = 0; i < n; i++) {
		int high = text_hex_digit(s[2 * i]);
		int low = high < 0 ? -1 : text_hex_digit(s[2 * i + 1]);

		if (low < 0)
			return false;
		bytes[i] = (unsigned char)(high << 4 | low);
	}
	return true;
}

bool
text_is_base64url(const char *s, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (!((s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= 'a' && s[i] <= 'z') ||
			(s[i] >= '0' && s[i] <= '9') || s[i] == '-' || s[i] == '_'))
			return false;
	return n > 0;
}

void
text_to_hex(const unsigned char *bytes, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 15];
	}
	*out = '\0';
}

/* One character at S into OUT; returns the bytes written, *STEP those read. */
static size_t
escape_one(const char *s, size_t n, char *out, size_t *step)
{
	static const char shorts[] = "\b\t\n\f\r\"\\", letters[] = "btnfr\"\\";
	const char *found;
	unsigned char c = (unsigned char)s[0];

	*step = 1;
	if (c >= 0x80) {
		size_t length = text_utf8_sequence(s, n);

		if (length == 0) {
			memcpy(out, "\xef\xbf\xbd", 3);
			return 3;
		}
		memcpy(out, s, length);
		*step = length;
		return length;
	}
	out[0] = '\\';
	if (c != 0 && (found = strchr(shorts, c)) != NULL) {
		out[1] = letters[found - shorts];
		return 2;
	}
	memcpy(out + 1, "u00", 3);
	text_to_hex(&c, 1, out + 4);
	return 6;
}

static bool
plain(char c)
{
	return c >= 0x20 && c != '"' && c != '\\' && c != 0x7f;
}

#define BYTES(b) (UINT64_C(0x0101010101010101) * (b))

/* plain() of eight bytes at once. */
static bool
all_plain(const char *s)
{
	uint64_t x, quote, backslash, delete;

	memcpy(&x, s, sizeof(x));
	quote = x ^ BYTES('"');
	backslash = x ^ BYTES('\\');
	delete = x ^ BYTES(0x7f);
	/* A byte below the one that is taken from it borrows into its own high bit. */
	return ((x | (x - BYTES(0x20)) | (quote - BYTES(1)) | (backslash - BYTES(1)) |
		    (delete - BYTES(1))) &
		   BYTES(0x80)) == 0;
}

size_t
text_json_escape(const char *s, size_t n, char *out, size_t room, size_t *used)
{
	char one[ESCAPED_MAX + 1];
	size_t length, step, written = 0, i = 0;

	while (i < n && written < room) {
		if (n - i >= 8 && room - written >= 8 && all_plain(s + i)) {
			memcpy(out + written, s + i, 8);
			written += 8;
			i += 8;
			continue;
		}
		if (plain(s[i])) {
			out[written++] = s[i++];
			continue;
		}
		length = escape_one(s + i, n - i, one, &step);
		if (length > room - written)
			break;
		memcpy(out + written, one, length);
		written += length;
		i += step;
	}
	*used = i;
	return written;
}

size_t
text_int(int64_t value, char out[TEXT_INT_SIZE])
{
	uint64_t v = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
	char *p = out + TEXT_INT_SIZE, *end = p;
	size_t n;

	for (*--p = '\0'; v >= 10; v /= 10)
		*--p = (char)('0' + v % 10);
	*--p = (char)('0' + v);
	if (value < 0)
		*--p = '-';
	n = (size_t)(end - p);
	memmove(out, p, n);
	return n - 1;
}

long
text_percent_decode(char *s, size_t n, bool plus)
{
	size_t to = 0;

	for (size_t i = 0; i < n; i++) {
		if (s[i] == '%') {
			unsigned char byte;

			if (n - i < 3 || !text_hex(s + i + 1, 1, &byte))
				return -1;
			s[to++] = (char)byte;
			i += 2;
		} else {
			s[to++] = plus && s[i] == '+' ? ' ' : s[i];
		}
	}
	return (long)to;
}

static bool
unreserved(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	    c == '-' || c == '.' || c == '_' || c == '~';
}

size_t
text_percent_encode(const char *s, size_t n, char *out)
{
	size_t to = 0;

	for (size_t i = 0; i < n; i++) {
		if (unreserved(s[i])) {
			out[to++] = s[i];
		} else {
			out[to++] = '%';
			out[to++] = "0123456789ABCDEF"[(unsigned char)s[i] >> 4];
			out[to++] = "0123456789ABCDEF"[(unsigned char)s[i] & 15];
		}
	}
	out[to] = '\0';
	return to;
}
