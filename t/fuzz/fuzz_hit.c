/*
 * The input: a line of the access log, or behind a first byte of '/' a path of one.
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "lib/hit.h"

#define PATH_MAX_SENT 10000

/* One byte of a path as nginx writes it (escape=json); returns what follows it. */
static char *
put_byte(char *to, uint8_t c)
{
	static const char shorts[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
	const char *found = c == '\0' ? NULL : strchr(shorts, c);

	if (found != NULL) {
		*to++ = '\\';
		*to++ = letters[found - shorts];
	} else if (c < 0x20) {
		to += sprintf(to, "\\u%04X", c);
	} else {
		*to++ = (char)c;
	}
	return to;
}

/* The path that a client has sent, percent-decoded, its slashes merged; -1 if it is too long. */
static long
decode(const uint8_t *bytes, size_t n, char *out)
{
	static char all[PATH_MAX_SENT];
	size_t count = 0, to = 0;

	for (size_t i = 0; i < n; i++, count++) {
		bool escape = bytes[i] == '%' && n - i > 2 && isxdigit(bytes[i + 1]) &&
		    isxdigit(bytes[i + 2]);
		char digits[3] = { 0 };

		all[count] = (char)bytes[i];
		if (!escape)
			continue;
		memcpy(digits, bytes + i + 1, 2);
		all[count] = (char)strtoul(digits, NULL, 16);
		i += 2;
	}
	for (size_t i = 0; i < count; i++) {
		if (all[i] == '/' && to > 0 && out[to - 1] == '/')
			continue;
		if (to == HIT_PATH_MAX)
			return -1;
		out[to++] = all[i];
	}
	return (long)to;
}

/* As a line of nginx's: it is read, and its path is what was sent. */
static void
check_sent(const uint8_t *bytes, size_t n)
{
	static char line[6 * PATH_MAX_SENT + 512], path[HIT_PATH_MAX], expected[HIT_PATH_MAX];
	char *to = stpcpy(line,
	    "{\"time\":\"2026-11-21T04:18:58+01:00\",\"trace_id\":"
	    "\"0af7651916cd43dd8448eb211c80319c\",\"method\":\"PUT\",\"path\":\"");
	struct hit hit;
	long length, expected_n;

	for (size_t i = 0; i < n; i++)
		to = put_byte(to, bytes[i]);
	to = stpcpy(to,
	    "\",\"status\":204,\"bytes\":17,\"seconds\":1.004,\"cache\":\"HIT\","
	    "\"serial\":\"4711-17-3\"}");
	assert(memchr(line, '\n', (size_t)(to - line)) == NULL);
	assert(hit_parse(line, (size_t)(to - line), &hit));
	assert(hit.at_s == 1795231138 && hit.status == 204 && hit.bytes == 17);
	assert(hit.took_ms == 1004 && hit.method == HIT_PUT);
	length = hit_path(&hit, path);
	expected_n = decode(bytes, n, expected);
	assert(length == expected_n);
	assert(length < 0 || memcmp(path, expected, (size_t)length) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static char path[HIT_PATH_MAX], again[HIT_PATH_MAX];
	struct hit hit = { .path = (const char *)bytes, .path_n = n };
	long length;

	if (n < PATH_MAX_SENT)
		check_sent(bytes, n);
	if ((n == 0 || bytes[0] != '/') && !hit_parse((const char *)bytes, n, &hit))
		return 0;
	assert(hit.at_s >= 0 && hit.took_ms >= 0 && hit.bytes >= 0 && hit.status >= 0 &&
	    hit.status <= 999);
	length = hit_path(&hit, path);
	assert(length <= HIT_PATH_MAX && length <= (long)hit.path_n);
	/* No two slashes are left beside one another. */
	assert(length < 0 || memmem(path, (size_t)length, "//", 2) == NULL);
	assert(hit_path(&hit, again) == length &&
	    (length < 0 || memcmp(path, again, (size_t)length) == 0));
	return 0;
}
