/*
 * The input: the query of a collection.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "lib/page.h"
#include "lib/text.h"

static char sent[RESPONSE_HEAD_MAX + 1];

static bool
take(void *ctx, const char *bytes, size_t n)
{
	size_t *used = ctx;

	assert(*used + n < sizeof(sent));
	memcpy(sent + *used, bytes, n);
	*used += n;
	sent[*used] = '\0';
	return true;
}

static enum err
begin(struct request *req, const char *uri)
{
	static char meta_uri[REQUEST_QUERY_MAX + 64];
	char *const meta[] = { (char *)"REQUEST_METHOD=GET", meta_uri, NULL };
	const struct request_source source = { meta, NULL, NULL };

	(void)snprintf(meta_uri, sizeof(meta_uri), "REQUEST_URI=%s", uri);
	err_clear();
	return request_begin(req, &source);
}

/* What the Link says reads back as the page that it was made for. */
static void
check_link(const struct page *page)
{
	static struct request req;
	static struct response res;
	struct page next;
	size_t used = 0;
	char *from, *to;

	response_open(&res, take, &used);
	response_begin(&res, 200, "application/json");
	assert(page_link(&res, "/events", "type_id=1", page, page->after) == OK);
	assert(response_end(&res));
	from = strstr(sent, "\r\nLink: </events?type_id=1&");
	assert(from != NULL);
	from += strlen("\r\nLink: <");
	to = strstr(from, ">; rel=\"next\"\r\n");
	assert(to != NULL);
	*to = '\0';
	assert(begin(&req, from) == OK);
	page_read(&req, &next);
	assert(err_pending() == OK && next.limit == page->limit && next.after == page->after);
}

/* A cursor that was taken is base64url of our letter and a digit at least. */
static void
check_cursor(const struct request *req)
{
	bool found;
	struct request_text cursor = request_param(req, "cursor", &found);

	assert(!found || (text_is_base64url(cursor.s, cursor.n) && memcmp(cursor.s, "az", 2) == 0));
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static struct request req;
	static char uri[REQUEST_QUERY_MAX + 32] = "/events?";
	struct page page = { -1, -1 };

	n = n < REQUEST_QUERY_MAX ? n : REQUEST_QUERY_MAX;
	memcpy(uri + 8, bytes, n);
	uri[8 + n] = '\0';
	if (begin(&req, uri) != OK)
		return 0;
	page_read(&req, &page);
	assert(page.limit >= 1 && page.limit <= PAGE_LIMIT_MAX && page.after >= 0);
	if (err_pending() != OK)
		return 0;
	check_cursor(&req);
	check_link(&page);
	return 0;
}
