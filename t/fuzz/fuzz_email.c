/*
 * The input: a mail address.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "lib/email.h"
#include "lib/text.h"

/* Whether it is two parts with an @ between them. */
static bool
is_address(const char *s, size_t n)
{
	return n > 2 && memchr(s + 1, '@', n - 2) != NULL && s[n - 1] != '@';
}

/* What was folded stays so, with the part before the domain as it was. */
static void
check_folded(const char *s, size_t n, const char *folded, size_t folded_n)
{
	static char again[EMAIL_SIZE];
	const char *at = memrchr(s, '@', n);
	size_t local_n = (size_t)(at - s) + 1, again_n;

	assert(is_address(s, n) && folded_n < EMAIL_SIZE && strlen(folded) == folded_n);
	assert(text_utf8_valid(folded, folded_n));
	assert(text_utf8_length(folded, folded_n) <= EMAIL_MAX);
	assert(folded_n > local_n && memcmp(folded, s, local_n) == 0);
	assert(strchr(folded + local_n, '@') == NULL);
	for (size_t i = local_n; i < folded_n; i++)
		assert(folded[i] < 'A' || folded[i] > 'Z');
	assert(email_fold(folded, folded_n, again, &again_n) == OK);
	assert(again_n == folded_n && memcmp(folded, again, folded_n) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static char folded[EMAIL_SIZE];
	const char *s = (const char *)bytes;
	size_t folded_n;

	if (memchr(s, '\0', n) != NULL || !text_utf8_valid(s, n))
		return 0;
	err_clear();
	if (email_fold(s, n, folded, &folded_n) == OK)
		check_folded(s, n, folded, folded_n);
	else
		assert(!is_address(s, n) || n > EMAIL_MAX - 4 * EMAIL_DOMAIN_MAX);
	return 0;
}
