/*
 * tokens.h: an issuer of tokens: keys, sets of them, and whatever it is told to sign, by OpenSSL.
 *
 *	signer_open(&signer, "ES256", "one");
 *	token = signed_token(&signer, "{\"alg\":\"ES256\",\"kid\":\"one\"}", claims);
 */
#ifndef CAREDESK_TOKENS_H
#define CAREDESK_TOKENS_H

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "test.h"

#define TOKENS_SECRET "0123456789abcdef0123456789abcdef" /* of HS256, as bytes */
#define TOKENS_SECRET_HEX "3031323334353637383961626364656630313233343536373839616263646566"
#define TOKENS_ISSUER "https://issuer.example/"
#define TOKENS_AUDIENCE "caredesk"

struct signer {
	const char *algorithm, *name;
	EVP_PKEY *key; /* NULL: HS256 with SECRET */
	const unsigned char *secret;
	size_t secret_n;
};

static inline void
signer_open(struct signer *signer, const char *algorithm, const char *name)
{
	*signer = (struct signer){ .algorithm = algorithm, .name = name };
	if (strcmp(algorithm, "HS256") == 0) {
		signer->secret = (const unsigned char *)TOKENS_SECRET;
		signer->secret_n = strlen(TOKENS_SECRET);
		return;
	}
	signer->key = algorithm[0] == 'E'
	    ? EVP_EC_gen(strcmp(algorithm, "ES384") == 0 ? "P-384" : "P-256")
	    : EVP_RSA_gen(2048);
	ck_assert_ptr_nonnull(signer->key);
}

static inline void
signer_close(struct signer *signer)
{
	EVP_PKEY_free(signer->key);
}

static inline char *
base64url(char *out, const void *bytes, size_t n)
{
	(void)sodium_bin2base64(out, 16 * 1024, bytes, n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	return out + strlen(out);
}

/* A number of the key, in base64url. */
static inline const char *
number_of(const EVP_PKEY *key, const char *name, int bytes)
{
	static char texts[4][16 * 1024];
	static size_t next;
	unsigned char number[1024];
	char *text = texts[next++ % 4];
	BIGNUM *big = NULL;

	ck_assert_int_eq(EVP_PKEY_get_bn_param(key, name, &big), 1);
	bytes = bytes > 0 ? bytes : BN_num_bytes(big);
	ck_assert_int_eq(BN_bn2binpad(big, number, bytes), bytes);
	(void)base64url(text, number, (size_t)bytes);
	BN_free(big);
	return text;
}

/* The public key (RFC 7517); MORE is further members, with a comma behind each. */
static inline char *
public_key(const struct signer *signer, const char *more)
{
	static char texts[4][4096];
	static size_t next;
	char *text = texts[next++ % 4];
	bool is_ec = signer->algorithm[0] == 'E', is_384 = strcmp(signer->algorithm, "ES384") == 0;
	int bytes = is_384 ? 48 : 32;

	if (is_ec)
		(void)snprintf(text, sizeof(texts[0]),
		    "{%s\"kty\":\"EC\",\"crv\":\"P-%s\",\"x\":\"%s\",\"y\":\"%s\"}", more,
		    is_384 ? "384" : "256", number_of(signer->key, OSSL_PKEY_PARAM_EC_PUB_X, bytes),
		    number_of(signer->key, OSSL_PKEY_PARAM_EC_PUB_Y, bytes));
	else
		(void)snprintf(text, sizeof(texts[0]),
		    "{%s\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"}", more,
		    number_of(signer->key, OSSL_PKEY_PARAM_RSA_N, 0),
		    number_of(signer->key, OSSL_PKEY_PARAM_RSA_E, 0));
	return text;
}

/* The same with its name, algorithm and use. */
static inline char *
named_key(const struct signer *signer)
{
	char more[160];

	(void)snprintf(more, sizeof(more), "\"kid\":\"%s\",\"alg\":\"%s\",\"use\":\"sig\",",
	    signer->name, signer->algorithm);
	return public_key(signer, more);
}

/* Both numbers of an ECDSA signature, each of BYTES. */
static inline size_t
raw_signature(const unsigned char *der, size_t n, int bytes, unsigned char *out)
{
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);

	ck_assert_ptr_nonnull(sig);
	ck_assert_int_eq(BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, bytes), bytes);
	ck_assert_int_eq(BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + bytes, bytes), bytes);
	ECDSA_SIG_free(sig);
	return 2 * (size_t)bytes;
}

static inline size_t
sign_bytes(const struct signer *signer, const char *s, size_t n, unsigned char out[1024])
{
	const unsigned char *bytes = (const unsigned char *)s;
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	EVP_PKEY_CTX *key = NULL;
	unsigned char raw[1024];
	unsigned length;
	size_t size = sizeof(raw);
	bool is_384 = strcmp(signer->algorithm, "ES384") == 0;

	if (signer->key == NULL) {
		(void)HMAC(
		    EVP_sha256(), signer->secret, (int)signer->secret_n, bytes, n, out, &length);
		EVP_MD_CTX_free(md);
		return length;
	}
	ck_assert_int_eq(
	    EVP_DigestSignInit(md, &key, is_384 ? EVP_sha384() : EVP_sha256(), NULL, signer->key),
	    1);
	if (signer->algorithm[0] == 'P') {
		ck_assert_int_eq(EVP_PKEY_CTX_set_rsa_padding(key, RSA_PKCS1_PSS_PADDING), 1);
		ck_assert_int_eq(EVP_PKEY_CTX_set_rsa_pss_saltlen(key, RSA_PSS_SALTLEN_DIGEST), 1);
	}
	ck_assert_int_eq(EVP_DigestSign(md, raw, &size, bytes, n), 1);
	EVP_MD_CTX_free(md);
	if (signer->algorithm[0] == 'E')
		return raw_signature(raw, size, is_384 ? 48 : 32, out);
	memcpy(out, raw, size);
	return size;
}

/* Any two texts, signed as they are; lent until the fourth after it. */
static inline char *
signed_token(const struct signer *signer, const char *header, const char *claims)
{
	static char texts[4][64 * 1024];
	static size_t next;
	char *text = texts[next++ % 4], *at = base64url(text, header, strlen(header));
	unsigned char signature[1024];
	size_t n;

	*at++ = '.';
	at = base64url(at, claims, strlen(claims));
	n = sign_bytes(signer, text, (size_t)(at - text), signature);
	*at++ = '.';
	(void)base64url(at, signature, n);
	return text;
}

static inline char *
header_of(const struct signer *signer)
{
	static char text[160];

	if (signer->name == NULL)
		(void)snprintf(text, sizeof(text), "{\"alg\":\"%s\"}", signer->algorithm);
	else
		(void)snprintf(text, sizeof(text), "{\"alg\":\"%s\",\"kid\":\"%s\"}",
		    signer->algorithm, signer->name);
	return text;
}

/* Good ones for LIFE_S seconds from NOW_S on; MORE is further members, each with a comma before it.
 */
static inline char *
good_claims(long long now_s, long long life_s, const char *more)
{
	static char text[32 * 1024];

	(void)snprintf(text, sizeof(text),
	    "{\"iss\":\"" TOKENS_ISSUER "\",\"aud\":\"" TOKENS_AUDIENCE "\",\"sub\":\"anna\","
	    "\"iat\":%lld,\"exp\":%lld%s}",
	    now_s, now_s + life_s, more);
	return text;
}

/* Replaces the file as a rename does, so that it is another one. */
static inline void
put_file(const char *path, const char *text)
{
	char beside[256];
	FILE *file;

	(void)snprintf(beside, sizeof(beside), "%s.new", path);
	file = fopen(beside, "w");
	ck_assert_ptr_nonnull(file);
	(void)fputs(text, file);
	ck_assert_int_eq(fclose(file), 0);
	ck_assert_int_eq(chmod(beside, 0600), 0);
	ck_assert_int_eq(rename(beside, path), 0);
}

#endif
