/*
 * jwk: a set of public keys (RFC 7517), as the issuer of tokens publishes it.
 *
 * A key is used for what it is meant for and nothing else: each row of the set is one key with one
 * algorithm.  Left out, and counted, are keys that are not for signatures, of another kind or
 * curve, RSA keys that are too short or too long, those with a private part, and a second one of
 * the same name and algorithm.  A key's name is at most 64 letters, digits, - and _; it may have
 * none.
 *
 * A set is constant once it is read; any thread.  By libcjose, which is given numbers one by one;
 * the JSON is read by jsonr.
 */
#ifndef CAREDESK_JWK_H
#define CAREDESK_JWK_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/conf.h"
#include "lib/err.h"

#define JWK_SET_MAX (64 * 1024) /* bytes */
#define JWK_KEYS_MAX 64
#define JWK_NAME_MAX 64
#define JWK_RSA_BITS_MIN 2048
#define JWK_RSA_BITS_MAX 8192

struct jwk_set;

/* ERR_INPUT if the bytes are no set at all; one without a single usable key is a set.  Yours to
 * close. */
enum err jwk_set_parse(const char *bytes, size_t n, struct jwk_set **set) MUST_CHECK;
void jwk_set_close(struct jwk_set *set);

/* How many keys of the set are used, and how many were left out. */
size_t jwk_set_count(const struct jwk_set *set, size_t *left_out);

/* Whether S may be the name of a key. */
bool jwk_is_name(const char *s, size_t n);

/* The N bytes of a compact JWS (RFC 7515 section 3.1), whose header has ALGORITHM and, unless it is
 * NULL, the kid NAME: ERR_NOT_FOUND if the set has no such key, or without a name not exactly one;
 * ERR_UNAUTHORIZED if it is not what that key has signed. */
enum err jwk_verify(const struct jwk_set *set, const char *name, enum conf_algorithm algorithm,
    const char *jws, size_t n) MUST_CHECK;

#endif
