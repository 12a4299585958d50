/*
 * etag: conditional requests (RFC 9110 section 13.1).
 *
 * An ETag here is the whole field value, with its quotes.  What follows a '.' in it says in which
 * form the resource was shown, and what stands before it, which version it was:
 * "7-3-1795318267.Xq0".  Any thread.
 */
#ifndef CAREDESK_ETAG_H
#define CAREDESK_ETAG_H

#include <stdbool.h>

#include "lib/digest.h"
#include "lib/err.h"
#include "lib/request.h"
#include "lib/response.h"

#define ETAG_MAX 96 /* with quotes and NUL */

/* ERR_PRECONDITION if there is an If-Match that does not name the version of ETAG (strong
 * comparison), or for a change an If-None-Match that does (weak comparison), in whatever form; "*"
 * is any. */
enum err etag_check(const struct request *req, const char *etag) MUST_CHECK;

/* If-None-Match, for a GET: begins the answer 304 with the fields of a stored resource, ETag and
 * Cache-Control: no-cache, and returns true if it names ETAG; weak comparison.  Else nothing is
 * begun. */
bool etag_unchanged(const struct request *req, struct response *res, const char *etag);

/* Else: begins the answer 200, a body of TYPE, with the fields of a stored resource. */
enum err etag_begin(struct response *res, const char *type, const char *etag) MUST_CHECK;

/* The ETag of a page of a list: of all that it shows, by its own ETags, and of whether another page
 * follows. */
struct etag_list {
	struct digest digest;
};

void etag_list_begin(struct etag_list *list);
void etag_list_add(struct etag_list *list, const char *etag);
void etag_list_end(struct etag_list *list, bool more, char etag[ETAG_MAX]);

#endif
