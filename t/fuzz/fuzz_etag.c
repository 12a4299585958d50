/*
 * The input: the ETag of the resource, an empty line's end, the field value.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "lib/etag.h"

static bool
drop(void *ctx, const char *bytes, size_t n)
{
	(void)ctx;
	(void)bytes;
	(void)n;
	return true;
}

static bool
unchanged(const char *etag, const char *list)
{
	static struct response res;
	const struct request req = { .if_none_match = list };
	bool is;

	response_open(&res, drop, NULL);
	is = etag_unchanged(&req, &res, etag);
	assert(is == res.begun && (!is || res.status == 304));
	return is;
}

/* Whether a tag of this version, in whatever form, is somewhere in the list. */
static bool
has_version(const char *list, const char *etag)
{
	size_t n = strcspn(etag, ".");

	n -= etag[n] == '\0'; /* its last quote */
	for (; (list = strchr(list, '"')) != NULL; list++)
		if (strncmp(list, etag, n) == 0 && (list[n] == '.' || list[n] == '"'))
			return true;
	return false;
}

/* A list that names the ETag goes on doing so with more behind it or before it. */
static void
check_longer(const char *etag, const char *list)
{
	size_t n = strlen(list);
	char *longer = malloc(n + 16);

	if (strcmp(list, "*") == 0) {
		free(longer);
		return;
	}
	memcpy(longer, list, n);
	memcpy(longer + n, ", \"other\"", 10);
	assert(unchanged(etag, longer));
	memcpy(longer, "\"other\", ", 9);
	memcpy(longer + 9, list, n + 1);
	assert(unchanged(etag, longer));
	free(longer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	char *copy = malloc(n + 1), *list, etag[ETAG_MAX] = "\"1-0\"";
	struct request req = { .if_none_match = "" };

	memcpy(copy, bytes, n);
	copy[n] = '\0';
	list = strchr(copy, '\n');
	if (list != NULL && list - copy < ETAG_MAX - 8) {
		/* A tag as the server makes them: no quotes, nor anything unprintable, inside. */
		*list++ = '\0';
		if (strspn(copy, "0123456789-.abcdef,W/ ") == strlen(copy)) {
			etag[0] = '"';
			memcpy(etag + 1, copy, strlen(copy));
			memcpy(etag + 1 + strlen(copy), "\"", 2);
		}
	} else {
		list = copy;
	}
	err_clear();
	req.if_match = list;
	if (etag_check(&req, etag) == OK)
		assert(list[0] == '\0' || strcmp(list, "*") == 0 || has_version(list, etag));
	else
		assert(!unchanged(etag, list) || strstr(list, "W/") != NULL);
	if (unchanged(etag, list))
		check_longer(etag, list);
	free(copy);
	return 0;
}
