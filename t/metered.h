/*
 * metered.h: what this process has measured, as it would be read.
 */
#ifndef CAREDESK_METERED_H
#define CAREDESK_METERED_H

#include <stdint.h>

#include "lib/metrics.h"
#include "test.h"

static struct {
	char text[256 * 1024];
	size_t used;
} metered;

static enum err
metered_take(void *ctx, const char *bytes, size_t n)
{
	(void)ctx;
	ck_assert_uint_lt(metered.used + n, sizeof(metered.text));
	memcpy(metered.text + metered.used, bytes, n);
	metered.used += n;
	metered.text[metered.used] = '\0';
	return OK;
}

/* All of it, lent until it is read again. */
static inline const char *
metered_read(void)
{
	metered.used = 0;
	ck_assert_int_eq(metrics_write(metered_take, NULL), OK);
	return metered.text;
}

/* The value of a sample of the text that was read last, such as x_total{program=""}, as it stands
 * there; NULL if there is none. */
static inline const char *
metered_find(const char *sample)
{
	static char value[64];
	const char *at = metered.text;
	size_t n = strlen(sample);

	while ((at = strstr(at, sample)) != NULL &&
	    ((at != metered.text && at[-1] != '\n') || at[n] != ' '))
		at += n;
	if (at == NULL)
		return NULL;
	ck_assert_uint_lt(strcspn(at + n + 1, "\n"), sizeof(value));
	memcpy(value, at + n + 1, strcspn(at + n + 1, "\n"));
	value[strcspn(at + n + 1, "\n")] = '\0';
	return value;
}

/* A whole number, read anew; 0 if there is no such sample. */
static inline int64_t
metered_now(const char *sample)
{
	const char *value;

	(void)metered_read();
	value = metered_find(sample);
	return value == NULL ? 0 : strtoll(value, NULL, 10);
}

#endif
