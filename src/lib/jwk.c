#include "lib/jwk.h"

#include <cjose/jwk.h>
#include <cjose/jws.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/jsonr.h"
#include "lib/text.h"

#define NUMBER_MAX (JWK_RSA_BITS_MAX / 8) /* bytes of the longest number of a key */

struct row {
	char name[JWK_NAME_MAX + 1]; /* "" for none */
	enum conf_algorithm algorithm;
	cjose_jwk_t *key;
};

struct jwk_set {
	size_t used, left_out, count;
	struct row rows[2 * JWK_KEYS_MAX]; /* an RSA key may be for two algorithms */
};

/* What is taken of one key. */
struct reading {
	const struct jsonr *json;
	const char *algorithm; /* NULL: of any that it fits */
	cjose_jwk_t *key;
	unsigned fits; /* bits, by enum conf_algorithm */
};

static const struct {
	const char *name;
	cjose_jwk_ec_curve curve;
	size_t bytes;
	enum conf_algorithm algorithm;
} curves[] = {
	{ "P-256", CJOSE_JWK_EC_P_256, 32, ALGORITHM_ES256 },
	{ "P-384", CJOSE_JWK_EC_P_384, 48, ALGORITHM_ES384 },
};

static bool
is_text(const struct jsonr *json, const char *name, const char *wanted)
{
	const char *s;
	size_t n;

	return jsonr_text(json, name, &s, &n) && n == strlen(wanted) && memcmp(s, wanted, n) == 0;
}

bool
jwk_is_name(const char *s, size_t n)
{
	return n <= JWK_NAME_MAX && text_is_base64url(s, n);
}

/* A number in base64url (RFC 7518 section 2), at most ROOM bytes. */
static bool
take_number(const struct jsonr *json, const char *name, unsigned char *out, size_t room, size_t *n)
{
	const char *s;
	size_t length;

	return jsonr_text(json, name, &s, &length) && text_is_base64url(s, length) &&
	    sodium_base642bin(out, room, s, length, NULL, n, NULL,
		sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0 &&
	    *n > 0;
}

/* Coordinates have the curve's length; libcjose refuses a point that is not on it. */
static void
read_ec(struct reading *reading)
{
	unsigned char x[NUMBER_MAX], y[NUMBER_MAX];
	cjose_jwk_ec_keyspec spec = { .x = x, .y = y };

	for (size_t i = 0; i < sizeof(curves) / sizeof(curves[0]); i++) {
		if (!is_text(reading->json, "crv", curves[i].name) ||
		    !take_number(reading->json, "x", x, sizeof(x), &spec.xlen) ||
		    !take_number(reading->json, "y", y, sizeof(y), &spec.ylen) ||
		    spec.xlen != curves[i].bytes || spec.ylen != curves[i].bytes)
			continue;
		spec.crv = curves[i].curve;
		reading->key = cjose_jwk_create_EC_spec(&spec, NULL);
		reading->fits = 1U << curves[i].algorithm;
	}
}

static size_t
bits_of(const unsigned char *number, size_t n)
{
	size_t bits = 8 * n;

	for (unsigned top = number[0]; top < 0x80 && bits > 8 * n - 8; top <<= 1)
		bits--;
	return bits;
}

/* The exponent is odd and not 1; with an even modulus there are no signatures. */
static void
read_rsa(struct reading *reading)
{
	unsigned char modulus[NUMBER_MAX], exponent[8];
	cjose_jwk_rsa_keyspec spec = { .n = modulus, .e = exponent };

	if (!take_number(reading->json, "n", modulus, sizeof(modulus), &spec.nlen) ||
	    !take_number(reading->json, "e", exponent, sizeof(exponent), &spec.elen) ||
	    modulus[0] == 0 || bits_of(modulus, spec.nlen) < JWK_RSA_BITS_MIN ||
	    modulus[spec.nlen - 1] % 2 == 0 || exponent[spec.elen - 1] % 2 == 0 ||
	    (spec.elen == 1 && exponent[0] == 1))
		return;
	reading->key = cjose_jwk_create_RSA_spec(&spec, NULL);
	reading->fits = 1U << ALGORITHM_RS256 | 1U << ALGORITHM_PS256;
}

/* Whether it says nothing of its use, or that it is for signatures. */
static bool
is_for_signatures(const struct jsonr *json)
{
	const char *s;
	size_t n, count;

	if (jsonr_has(json, "use") && !is_text(json, "use", "sig"))
		return false;
	if (!jsonr_has(json, "key_ops"))
		return true;
	if (!jsonr_list(json, "key_ops", &count))
		return false;
	for (size_t i = 0; i < count; i++)
		if (jsonr_list_text(json, "key_ops", i, &s, &n) && n == strlen("verify") &&
		    memcmp(s, "verify", n) == 0)
			return true;
	return false;
}

/* A key whose private part everybody has is nobody's. */
static bool
is_private(const struct jsonr *json)
{
	static const char *const parts[] = { "d", "p", "q", "dp", "dq", "qi", "oth", "k" };

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (jsonr_has(json, parts[i]))
			return true;
	return false;
}

static const struct row *
find(const struct jwk_set *set, const char *name, enum conf_algorithm algorithm)
{
	for (size_t i = 0; i < set->count; i++)
		if (set->rows[i].algorithm == algorithm && strcmp(set->rows[i].name, name) == 0)
			return &set->rows[i];
	return NULL;
}

/* A row for each algorithm that the key fits and is given to; false if there is none. */
static bool
add_rows(struct jwk_set *set, const struct reading *reading, const char *name)
{
	size_t before = set->count;

	for (enum conf_algorithm a = 0; a < ALGORITHM_MAX; a++) {
		struct row *row = &set->rows[set->count];

		if ((reading->fits & 1U << a) == 0 || find(set, name, a) != NULL ||
		    (reading->algorithm != NULL &&
			strcmp(reading->algorithm, conf_algorithm_names[a]) != 0))
			continue;
		(void)snprintf(row->name, sizeof(row->name), "%s", name);
		row->algorithm = a;
		row->key = cjose_jwk_retain(reading->key, NULL);
		set->count++;
	}
	return set->count > before;
}

static bool
add_key(struct jwk_set *set, const struct jsonr *json)
{
	struct reading reading = { .json = json };
	const char *name = "";
	size_t n, ignored;
	bool added;

	if ((jsonr_has(json, "kid") &&
		(!jsonr_text(json, "kid", &name, &n) || !jwk_is_name(name, n))) ||
	    (jsonr_has(json, "alg") && !jsonr_text(json, "alg", &reading.algorithm, &ignored)) ||
	    !is_for_signatures(json) || is_private(json))
		return false;
	if (is_text(json, "kty", "EC"))
		read_ec(&reading);
	else if (is_text(json, "kty", "RSA"))
		read_rsa(&reading);
	added = reading.key != NULL && add_rows(set, &reading, name);
	(void)cjose_jwk_release(reading.key);
	return added;
}

enum err
jwk_set_parse(const char *bytes, size_t n, struct jwk_set **out)
{
	struct jsonr json, key;
	struct jwk_set *set;
	size_t count;
	enum err err = OK;

	*out = NULL;
	if (n > JWK_SET_MAX)
		return fail(ERR_INPUT, "a set of keys has at most %d bytes", JWK_SET_MAX);
	if ((err = jsonr_parse(bytes, n, &json)) != OK) {
		err_clear();
		return fail(err, "it is no JSON object");
	}
	if (!jsonr_list(&json, "keys", &count) || count > JWK_KEYS_MAX)
		err = fail(ERR_INPUT, "it has no list of at most %d keys", JWK_KEYS_MAX);
	else if ((set = calloc(1, sizeof(*set))) == NULL)
		err = fail(ERR_BUSY, "no memory for a set of keys");
	if (err == OK) {
		for (size_t i = 0; i < count; i++) {
			if (jsonr_item(&json, "keys", i, &key) && add_key(set, &key))
				set->used++;
			else
				set->left_out++;
		}
		*out = set;
	}
	jsonr_close(&json);
	return err;
}

void
jwk_set_close(struct jwk_set *set)
{
	if (set == NULL)
		return;
	for (size_t i = 0; i < set->count; i++)
		(void)cjose_jwk_release(set->rows[i].key);
	free(set);
}

size_t
jwk_set_count(const struct jwk_set *set, size_t *left_out)
{
	*left_out = set->left_out;
	return set->used;
}

/* Without a name there must be no choice. */
static const struct row *
choose(const struct jwk_set *set, const char *name, enum conf_algorithm algorithm)
{
	const struct row *only = NULL;

	if (name != NULL)
		return find(set, name, algorithm);
	for (size_t i = 0; i < set->count; i++) {
		if (set->rows[i].algorithm != algorithm)
			continue;
		if (only != NULL)
			return NULL;
		only = &set->rows[i];
	}
	return only;
}

enum err
jwk_verify(const struct jwk_set *set, const char *name, enum conf_algorithm algorithm,
    const char *jws, size_t n)
{
	const struct row *row = set == NULL ? NULL : choose(set, name, algorithm);
	cjose_err error = { .code = CJOSE_ERR_NONE };
	cjose_jws_t *opened;
	bool good;

	if (row == NULL)
		return fail(ERR_NOT_FOUND, "no key has its kid and algorithm");
	opened = cjose_jws_import(jws, n, &error);
	good = opened != NULL && cjose_jws_verify(opened, row->key, &error);
	cjose_jws_release(opened);
	if (!good && error.code == CJOSE_ERR_NO_MEMORY)
		return fail(ERR_BUSY, "no memory to check a signature");
	return good ? OK : fail(ERR_UNAUTHORIZED, "the signature is not that of its key");
}
