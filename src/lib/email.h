/*
 * email: mail addresses in the one form in which they are stored, compared and looked for.
 *
 * An address is something, '@', something; the domain is what follows the last '@'.  Only the
 * domain is folded:
 *
 * - ASCII letters become lower-case; nothing else of an ASCII domain is changed or looked at, be it
 *   an IP literal, a trailing dot, an empty label, or "xn--" and what is no IDN.
 * - A domain with other characters becomes its A-labels (UTS 46, not transitional), which also
 *   undoes case, width and the way in which accents are written.
 * - One that has no A-labels of letters, digits and hyphens only (too long, emoji, mixed
 *   directions, other ASCII characters) is no IDN, and stays as it is but for its ASCII letters:
 *   the contract takes any text, and no mail server has such a name.
 *
 * What precedes the '@' is the business of its mail server; not even Unicode's normal forms are
 * made of it.  To fold twice is to fold once.  By libidn2; any thread.
 */
#ifndef CAREDESK_EMAIL_H
#define CAREDESK_EMAIL_H

#include <stddef.h>

#include "lib/err.h"

#define EMAIL_MAX 4096 /* characters, before and after: an A-label may be longer than its name */
#define EMAIL_DOMAIN_MAX 255 /* of an IDN (RFC 1035 section 2.3.4) */
#define EMAIL_SIZE (4 * EMAIL_MAX + EMAIL_DOMAIN_MAX + 1)

/* S is UTF-8 without NUL.  ERR_INPUT, with words, for what is no address or is too long. */
enum err email_fold(const char *s, size_t n, char out[EMAIL_SIZE], size_t *out_n) MUST_CHECK;

#endif
