/*
 * etag: conditional requests (RFC 9110 section 13.1).
 *
 * An ETag here is the whole field value, with its quotes.  Any thread.
 */
#ifndef CAREDESK_ETAG_H
#define CAREDESK_ETAG_H

#include <stdbool.h>

#include "lib/err.h"
#include "lib/request.h"
#include "lib/response.h"

#define ETAG_MAX 96 /* with quotes and NUL */

/* ERR_PRECONDITION if there is an If-Match that does not name ETAG (strong comparison), or for a
 * change an If-None-Match that does (weak comparison); "*" is any. */
enum err etag_check(const struct request *req, const char *etag) MUST_CHECK;

/* If-None-Match, for a GET: begins the answer 304 with ETag and Cache-Control and returns true if
 * it names ETAG; weak comparison.  Else nothing is begun. */
bool etag_unchanged(const struct request *req, struct response *res, const char *etag);

/* The fields of a stored resource: ETag and Cache-Control: no-cache. */
enum err etag_send(struct response *res, const char *etag) MUST_CHECK;

#endif
