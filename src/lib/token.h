/*
 * token: a bearer token, which is a compact JWS (RFC 7515) with claims (RFC 7519), trusted in
 * nothing.
 *
 * What may be in it is decided here and in the configuration, never by the token: its algorithm is
 * one of those configured, its key is looked up by (kid, alg), and it is signed by that key before
 * a claim is read.  HS256 is checked with the local secret, and nothing else is.  Refused are:
 * another form than three parts of strict base64url, a header with lists, objects or a member that
 * would change what is checked, and claims that are missing, of another type or out of bounds.
 *
 * Pure functions; any thread.  Limits: 4 KiB, a life of an hour, 16 audiences, 16 roles, 1,000
 * caregivers.
 */
#ifndef CAREDESK_TOKEN_H
#define CAREDESK_TOKEN_H

#include <stddef.h>
#include <stdint.h>

#include "lib/conf.h"
#include "lib/err.h"
#include "lib/jwk.h"
#include "lib/who.h"

#define TOKEN_MAX 4096 /* bytes */
#define TOKEN_LIFE_MAX_S 3600 /* and the leeway */
#define TOKEN_AUDIENCES_MAX 16
#define TOKEN_ROLES_MAX 16
#define TOKEN_NUMBER_MAX (INT64_C(1) << 53) /* of a time */
#define TOKEN_SECRET_MIN 32 /* bytes */
#define TOKEN_SECRET_MAX 128

/* What tokens are checked with; either may be missing. */
struct token_keys {
	const struct jwk_set *set; /* or NULL */
	const unsigned char *secret;
	size_t secret_n; /* 0: none */
};

/* Who sends the N bytes, at NOW_S (Unix time).  ERR_UNAUTHORIZED with words for the log, in which
 * no byte of the token is; ERR_NOT_FOUND likewise if the key is not known that it names. */
enum err token_verify(const char *token, size_t n, const struct conf_auth *rules,
    const struct token_keys *keys, int64_t now_s, struct who *who) MUST_CHECK;

/* A token for WHO until WHO's end, signed HS256 with the secret, and a NUL behind it.
 * ERR_INPUT if it would be too long. */
enum err token_make(const struct who *who, const struct conf_auth *rules,
    const struct token_keys *keys, int64_t now_s, char out[TOKEN_MAX + 1]) MUST_CHECK;

#endif
