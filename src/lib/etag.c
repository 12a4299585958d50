#include "lib/etag.h"

#include <stdio.h>
#include <string.h>

#include "lib/text.h"

/* How much of a tag of N bytes, with its quotes, is to be compared: all, or without its form and
 * the last quote. */
static size_t
compared(const char *tag, size_t n, bool version)
{
	const char *form = version ? memchr(tag, '.', n) : NULL;

	return form != NULL ? (size_t)(form - tag) : n - version;
}

/* Whether the list of tags (RFC 9110 section 8.8.3) names ETAG, or in any form its VERSION.  WEAK:
 * a W/ on either side does not matter; else it never matches. */
static bool
names(const char *list, const char *etag, bool weak, bool version)
{
	const char *wanted = strncmp(etag, "W/", 2) == 0 ? etag + 2 : etag;
	size_t wanted_n = compared(wanted, strlen(wanted), version);
	const char *at = list + strspn(list, " \t,");

	if (strcmp(list, "*") == 0)
		return true;
	for (; *at != '\0'; at += strspn(at, " \t,")) {
		bool is_weak = strncmp(at, "W/", 2) == 0;
		const char *tag = is_weak ? at + 2 : at;
		size_t n = tag[0] == '"' ? strcspn(tag + 1, "\"") + 2 : 0;

		if (n == 0 || strnlen(tag, n) < n)
			return false; /* no list of tags */
		if (compared(tag, n, version) == wanted_n && memcmp(tag, wanted, wanted_n) == 0 &&
		    (weak || (!is_weak && wanted == etag)))
			return true;
		at = tag + n;
	}
	return false;
}

enum err
etag_check(const struct request *req, const char *etag)
{
	bool reads = req->method == METHOD_GET || req->method == METHOD_HEAD;

	if (req->if_match[0] != '\0' && !names(req->if_match, etag, false, true))
		return fail(ERR_PRECONDITION, "If-Match does not name the resource as it is now");
	if (!reads && req->if_none_match[0] != '\0' && names(req->if_none_match, etag, true, true))
		return fail(ERR_PRECONDITION, "If-None-Match names the resource as it is now");
	return OK;
}

static enum err
begin(struct response *res, int status, const char *type, const char *etag)
{
	enum err err;

	response_begin(res, status, type);
	err = response_field(res, "ETag", etag);
	return err != OK ? err : response_field(res, "Cache-Control", "no-cache");
}

enum err
etag_begin(struct response *res, const char *type, const char *etag)
{
	return begin(res, 200, type, etag);
}

bool
etag_unchanged(const struct request *req, struct response *res, const char *etag)
{
	if (req->if_none_match[0] == '\0' || !names(req->if_none_match, etag, true, false))
		return false;
	if (begin(res, 304, NULL, etag) == OK)
		return true;
	(void)response_reset(res);
	return false;
}

void
etag_list_begin(struct etag_list *list)
{
	digest_begin(&list->digest);
}

void
etag_list_add(struct etag_list *list, const char *etag)
{
	digest_add(&list->digest, etag, strlen(etag));
}

void
etag_list_end(struct etag_list *list, bool more, char etag[ETAG_MAX])
{
	unsigned char bytes[DIGEST_BYTES];
	char text[2 * DIGEST_BYTES + 1];

	digest_add(&list->digest, &more, sizeof(more));
	digest_end(&list->digest, bytes);
	text_to_hex(bytes, sizeof(bytes), text);
	(void)snprintf(etag, ETAG_MAX, "\"%s\"", text);
}
