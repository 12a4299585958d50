#include "lib/email.h"

#include <idn2.h>
#include <stdbool.h>
#include <string.h>

#include "lib/text.h"

/* Not IDN2_USE_STD3_ASCII_RULES: what those rules forbid would be left out, and "a!b" become "ab".
 */
#define FLAGS (IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL)
#define HOST_CHARACTERS "abcdefghijklmnopqrstuvwxyz0123456789-."

/* Lowers ASCII letters; whether there are other characters than ASCII's. */
static bool
lower(char *s)
{
	bool others = false;

	for (; *s != '\0'; s++) {
		if (*s >= 'A' && *s <= 'Z')
			*s = (char)(*s - 'A' + 'a');
		others |= (unsigned char)*s >= 0x80;
	}
	return others;
}

/* The A-labels of DOMAIN in its place, if it has any.  EMAIL_SIZE has room for them. */
static void
make_ascii(char *domain)
{
	uint8_t *ascii = NULL;
	size_t n;

	if (idn2_lookup_u8((const uint8_t *)domain, &ascii, FLAGS) != IDN2_OK)
		return;
	n = strspn((const char *)ascii, HOST_CHARACTERS);
	if (n > 0 && n <= EMAIL_DOMAIN_MAX && ascii[n] == '\0')
		memcpy(domain, ascii, n + 1);
	idn2_free(ascii);
}

enum err
email_fold(const char *s, size_t n, char out[EMAIL_SIZE], size_t *out_n)
{
	const char *at = memrchr(s, '@', n);
	size_t local_n = at == NULL ? 0 : (size_t)(at - s);
	char *domain = out + local_n + 1;

	if (local_n == 0 || local_n + 1 == n)
		return fail(ERR_INPUT, "must be something, @, something");
	if (text_utf8_length(s, n) > EMAIL_MAX)
		return fail(ERR_INPUT, "must have at most %d characters", EMAIL_MAX);
	memcpy(out, s, n);
	out[n] = '\0';
	if (lower(domain) && text_utf8_length(domain, n - local_n - 1) <= EMAIL_DOMAIN_MAX)
		make_ascii(domain);
	*out_n = strlen(out);
	if (text_utf8_length(out, *out_n) > EMAIL_MAX)
		return fail(
		    ERR_INPUT, "must have at most %d characters with its A-labels", EMAIL_MAX);
	return OK;
}
