/*
 * sent.h: a response, and what was sent of it: response_open(&res, take, NULL).
 */
#ifndef CAREDESK_SENT_H
#define CAREDESK_SENT_H

#include "lib/response.h"
#include "test.h"

static struct response res;
static char sent[2 * RESPONSE_HEAD_MAX];

static bool
take(void *ctx, const char *bytes, size_t n)
{
	(void)ctx;
	ck_assert_uint_lt(strlen(sent) + n, sizeof(sent));
	(void)strncat(sent, bytes, n);
	return true;
}

#endif
