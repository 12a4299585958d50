/*
 * The input: a line of the access log, or behind a first byte of '/' a path of one.
 */
#include <string.h>

#include "fuzz.h"
#include "lib/hit.h"

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static char path[HIT_PATH_MAX], again[HIT_PATH_MAX];
	struct hit hit = { .path = (const char *)bytes, .path_n = n };
	long length;

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
