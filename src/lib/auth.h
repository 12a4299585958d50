/*
 * auth: who asks, by the bearer token of the request (RFC 6750).
 *
 * A token that was found good is known again by its digest, until it ends or the keys are others,
 * so that a signature is checked once.  The table is of a fixed size; a new token takes the place
 * of an old one.  Whatever is wrong with a token, the client hears the same; the log hears why, at
 * most once a second, and never a byte of the token.
 *
 * auth_open() and auth_close() without other threads; auth_check() in any.  Not opened, it lets in
 * everybody, as with auth.mode off.
 */
#ifndef CAREDESK_AUTH_H
#define CAREDESK_AUTH_H

#include "lib/conf.h"
#include "lib/err.h"
#include "lib/who.h"

#define AUTH_KNOWN_MAX 4096 /* tokens that are known again */

/* CONF must stay. */
enum err auth_open(const struct conf *conf) MUST_CHECK;
void auth_close(void);

/* By the value of the field Authorization, "" where none came: ERR_UNAUTHORIZED, or ERR_BUSY
 * while there is no key at all to check any token with. */
enum err auth_check(const char *authorization, struct who *who) MUST_CHECK;

/* Whoever needs no token. */
void auth_grant(const char *name, unsigned roles, struct who *who);

#endif
