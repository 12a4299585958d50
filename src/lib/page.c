#include "lib/page.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "lib/text.h"

/* The key as a text behind a letter that says which kind of cursor it is. */
#define KIND 'k'
#define CURSOR_MAX 40

static void
encode(int64_t after, char out[CURSOR_MAX])
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%c%lld", KIND, (long long)after);

	(void)sodium_bin2base64(out, CURSOR_MAX, (const unsigned char *)text, (size_t)n,
	    sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

static bool
decode(struct request_text cursor, int64_t *after)
{
	char text[24];
	size_t n;

	return text_is_base64url(cursor.s, cursor.n) &&
	    sodium_base642bin((unsigned char *)text, sizeof(text), cursor.s, cursor.n, NULL, &n,
		NULL, sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0 &&
	    n > 1 && text[0] == KIND && text_uint(text + 1, n - 1, after);
}

void
page_read(const struct request *req, struct page *page)
{
	struct request_text cursor;
	bool found;

	page->limit = PAGE_LIMIT_DEFAULT;
	page->after = 0;
	request_param_int(req, "limit", 1, PAGE_LIMIT_MAX, &page->limit, &found);
	cursor = request_param(req, "cursor", &found);
	if (found && !decode(cursor, &page->after))
		(void)fail_field("cursor", "must be one that a Link header gave");
}

enum err
page_link(struct response *res, const char *path, const char *filters, const struct page *page,
    int64_t after)
{
	char cursor[CURSOR_MAX], value[PAGE_FILTERS_MAX + REQUEST_PATH_MAX + 128];

	encode(after, cursor);
	(void)snprintf(value, sizeof(value), "<%s?%s%slimit=%lld&cursor=%s>; rel=\"next\"", path,
	    filters, filters[0] != '\0' ? "&" : "", (long long)page->limit, cursor);
	return response_field(res, "Link", value);
}
