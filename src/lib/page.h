/*
 * page: collections by pages: ?limit= and ?cursor= in, Link: <...>; rel="next" (RFC 8288) out.
 *
 * A page begins behind a key, never at a number of rows, so the last page costs what the first
 * does. The cursor is that key, opaque to clients (base64url of a letter and the number).  Any
 * thread.
 */
#ifndef CAREDESK_PAGE_H
#define CAREDESK_PAGE_H

#include <stdint.h>

#include "lib/err.h"
#include "lib/request.h"
#include "lib/response.h"

#define PAGE_LIMIT_MAX 1000
#define PAGE_LIMIT_DEFAULT 100
#define PAGE_FILTERS_MAX 512 /* bytes of a query in a Link */

struct page {
	int64_t limit; /* 1..PAGE_LIMIT_MAX */
	int64_t after; /* the key behind which it begins; 0 for the first page */
};

/* Bad values become bad fields of the request, told by err_pending(). */
void page_read(const struct request *req, struct page *page);

/* The next page of PATH begins behind AFTER.  FILTERS is the rest of the query, already encoded:
 * "" or "a=1&b=2". */
enum err page_link(struct response *res, const char *path, const char *filters,
    const struct page *page, int64_t after) MUST_CHECK;

#endif
