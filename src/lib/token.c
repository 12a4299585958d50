#include "lib/token.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/jsonr.h"
#include "lib/jsonw.h"
#include "lib/text.h"

#define BASE64URL sodium_base64_VARIANT_URLSAFE_NO_PADDING
#define HEADER "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define NAME_SIZE 129 /* of a step of roles_claim */

/* How long a signature is; 0: as long as the modulus, at which libcjose looks. */
static const size_t signature_bytes[ALGORITHM_MAX] = {
	[ALGORITHM_ES256] = 64,
	[ALGORITHM_ES384] = 96,
	[ALGORITHM_HS256] = crypto_auth_hmacsha256_BYTES,
};

/* A token in its three parts, each decoded. */
struct parts {
	const char *token;
	size_t n, signed_n; /* the first two parts with their dot */
	unsigned char header[TOKEN_MAX], claims[TOKEN_MAX], signature[TOKEN_MAX];
	size_t header_n, claims_n, signature_n;
};

struct header {
	enum conf_algorithm algorithm;
	char name[JWK_NAME_MAX + 1];
	bool has_name;
};

static enum err
refuse(const char *why)
{
	return fail(ERR_UNAUTHORIZED, "%s", why);
}

/* One part, N characters; libsodium takes no padding and no bits left over. */
static bool
decode(const char *s, size_t n, unsigned char out[TOKEN_MAX], size_t *out_n)
{
	return text_is_base64url(s, n) &&
	    sodium_base642bin(out, TOKEN_MAX, s, n, NULL, out_n, NULL, BASE64URL) == 0;
}

static enum err
take_apart(const char *token, size_t n, struct parts *parts)
{
	const char *first, *second;

	if (n > TOKEN_MAX)
		return refuse("it is too long");
	first = memchr(token, '.', n);
	second = first == NULL ? NULL : memchr(first + 1, '.', n - (size_t)(first - token) - 1);
	if (second == NULL)
		return refuse("it has no three parts");
	parts->token = token;
	parts->n = n;
	parts->signed_n = (size_t)(second - token);
	if (!decode(token, (size_t)(first - token), parts->header, &parts->header_n) ||
	    !decode(first + 1, (size_t)(second - first) - 1, parts->claims, &parts->claims_n) ||
	    !decode(second + 1, n - parts->signed_n - 1, parts->signature, &parts->signature_n))
		return refuse("its parts are not base64url");
	return OK;
}

/* --- The header. */

static bool
is(const char *s, size_t n, const char *wanted)
{
	return n == strlen(wanted) && memcmp(s, wanted, n) == 0;
}

/* Members that would have it checked in another way than ours. */
static bool
has_forbidden(const struct jsonr *json)
{
	static const char *const names[] = { "crit", "zip", "b64", "jku", "jwk", "x5u", "x5c",
		"enc" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (jsonr_given(json, names[i]))
			return true;
	return false;
}

static enum err
read_algorithm(const struct jsonr *json, int64_t allowed, enum conf_algorithm *algorithm)
{
	const char *s;
	size_t n;

	if (!jsonr_text(json, "alg", &s, &n))
		return refuse("its header has no alg");
	for (enum conf_algorithm a = 0; a < ALGORITHM_MAX; a++)
		if ((allowed & INT64_C(1) << a) != 0 && is(s, n, conf_algorithm_names[a])) {
			*algorithm = a;
			return OK;
		}
	return refuse("its alg is none of those configured");
}

static enum err
read_members(const struct jsonr *json, int64_t allowed, struct header *header)
{
	const char *s;
	size_t n;

	if (!jsonr_is_flat(json) || has_forbidden(json))
		return refuse("its header has a member that is not taken");
	if (jsonr_has(json, "typ") &&
	    (!jsonr_text(json, "typ", &s, &n) || (!is(s, n, "JWT") && !is(s, n, "at+jwt"))))
		return refuse("its typ is neither JWT nor at+jwt");
	header->has_name = jsonr_has(json, "kid");
	if (header->has_name) {
		if (!jsonr_text(json, "kid", &s, &n) || !jwk_is_name(s, n))
			return refuse("its kid is no name of a key");
		(void)snprintf(header->name, sizeof(header->name), "%s", s);
	}
	return read_algorithm(json, allowed, &header->algorithm);
}

static enum err
read_header(const struct parts *parts, int64_t allowed, struct header *header)
{
	struct jsonr json;
	enum err err;

	err = jsonr_parse((const char *)parts->header, parts->header_n, &json);
	if (err != OK)
		return err == ERR_BUSY ? err : refuse("its header is no JSON object");
	err = read_members(&json, allowed, header);
	jsonr_close(&json);
	return err;
}

/* --- The signature. */

static void
sign(const struct token_keys *keys, const char *s, size_t n,
    unsigned char out[crypto_auth_hmacsha256_BYTES])
{
	crypto_auth_hmacsha256_state state;

	(void)crypto_auth_hmacsha256_init(&state, keys->secret, keys->secret_n);
	(void)crypto_auth_hmacsha256_update(&state, (const unsigned char *)s, n);
	(void)crypto_auth_hmacsha256_final(&state, out);
}

static enum err
check_signature(
    const struct parts *parts, const struct header *header, const struct token_keys *keys)
{
	unsigned char expected[crypto_auth_hmacsha256_BYTES];
	size_t wanted = signature_bytes[header->algorithm];

	if (wanted != 0 && parts->signature_n != wanted)
		return refuse("its signature has not the length of its algorithm");
	if (header->algorithm != ALGORITHM_HS256)
		return jwk_verify(keys->set, header->has_name ? header->name : NULL,
		    header->algorithm, parts->token, parts->n);
	if (keys->secret_n < TOKEN_SECRET_MIN)
		return refuse("there is no secret to check it with");
	sign(keys, parts->token, parts->signed_n, expected);
	return sodium_memcmp(expected, parts->signature, sizeof(expected)) == 0
	    ? OK
	    : refuse("the signature is not that of the secret");
}

/* --- The claims. */

static bool
take_time(const struct jsonr *claims, const char *name, int64_t *value)
{
	err_clear();
	jsonr_int(claims, name, 0, TOKEN_NUMBER_MAX, value);
	return err_pending() == OK;
}

static enum err
check_times(
    const struct jsonr *claims, const struct conf_auth *rules, int64_t now_s, int64_t *expires_s)
{
	int64_t leeway = rules->leeway_s, exp, nbf = now_s, iat = now_s, begin;

	if (!take_time(claims, "exp", &exp))
		return refuse("its exp is missing or no time");
	if (jsonr_has(claims, "nbf") && !take_time(claims, "nbf", &nbf))
		return refuse("its nbf is no time");
	if (jsonr_has(claims, "iat") && !take_time(claims, "iat", &iat))
		return refuse("its iat is no time");
	if (now_s >= exp + leeway)
		return refuse("it has expired");
	if (nbf > now_s + leeway || iat > now_s + leeway)
		return refuse("it is not valid yet");
	begin = jsonr_has(claims, "iat") ? iat : now_s;
	if (exp - begin > TOKEN_LIFE_MAX_S + leeway)
		return refuse("it lives for too long");
	*expires_s = exp + leeway;
	return OK;
}

static bool
is_audience(const struct jsonr *claims, const char *wanted)
{
	const char *s;
	size_t n, count;
	bool found = false;

	if (jsonr_text(claims, "aud", &s, &n))
		return is(s, n, wanted);
	if (!jsonr_list(claims, "aud", &count) || count > TOKEN_AUDIENCES_MAX)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (!jsonr_list_text(claims, "aud", i, &s, &n))
			return false;
		found |= is(s, n, wanted);
	}
	return found;
}

/* C0, DEL and, as UTF-8, C1. */
static bool
has_control(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c < ' ' || c == 0x7f || (c == 0xc2 && (unsigned char)s[i + 1] < 0xa0))
			return true;
	}
	return false;
}

static enum err
read_name(const struct jsonr *claims, struct who *who)
{
	const char *s;
	size_t n;

	if (!jsonr_text(claims, "sub", &s, &n) || n < 1 || n > WHO_NAME_MAX || has_control(s, n))
		return refuse("its sub is missing or no name");
	/* Else the audit could not tell them from ours. */
	if (strcmp(s, WHO_ANYONE) == 0 || strcmp(s, WHO_OPERATOR) == 0)
		return refuse("its sub is a name that nobody may have");
	(void)snprintf(who->name, sizeof(who->name), "%s", s);
	return OK;
}

/* Where the roles are: the member of that very name, or else by the steps between its dots.  A role
 * that is not ours is another program's. */
static enum err
read_roles(const struct jsonr *claims, const char *path, struct who *who)
{
	struct jsonr at = *claims, inner;
	char step[NAME_SIZE];
	const char *s, *dot;
	size_t n, count;

	while (!jsonr_has(&at, path) && (dot = strchr(path, '.')) != NULL) {
		(void)snprintf(step, sizeof(step), "%.*s", (int)(dot - path), path);
		if (!jsonr_object(&at, step, &inner))
			return OK;
		at = inner;
		path = dot + 1;
	}
	if (!jsonr_has(&at, path))
		return OK;
	if (!jsonr_list(&at, path, &count) || count > TOKEN_ROLES_MAX)
		return refuse("its roles are no list, or too many");
	for (size_t i = 0; i < count; i++) {
		if (!jsonr_list_text(&at, path, i, &s, &n))
			return refuse("one of its roles is no string");
		for (unsigned r = 0; r < ROLE_COUNT; r++)
			who->roles |= is(s, n, role_names[r]) ? 1U << r : 0;
	}
	return OK;
}

static enum err
read_caregivers(const struct jsonr *claims, struct who *who)
{
	int64_t *ids;
	enum err err;

	err_clear();
	if (jsonr_has(claims, "caregiver_id"))
		jsonr_int(claims, "caregiver_id", 1, INT64_MAX, &who->caregiver_id);
	err = jsonr_ints(
	    claims, "caregivers", 1, INT64_MAX, WHO_CAREGIVERS_MAX, &ids, &who->caregiver_count);
	if (err != OK)
		return err;
	if (err_pending() != OK)
		err = refuse("its caregiver_id or caregivers are not as they must be");
	else if (ids != NULL)
		memcpy(who->caregivers, ids, who->caregiver_count * sizeof(*ids));
	free(ids);
	return err;
}

static enum err
check_claims(
    const struct jsonr *claims, const struct conf_auth *rules, int64_t now_s, struct who *who)
{
	const char *s;
	size_t n;
	enum err err;

	if (!jsonr_text(claims, "iss", &s, &n) || !is(s, n, rules->issuer))
		return refuse("its iss is missing or another");
	if (!is_audience(claims, rules->audience))
		return refuse("its aud is missing or another");
	if ((err = check_times(claims, rules, now_s, &who->expires_s)) != OK ||
	    (err = read_name(claims, who)) != OK ||
	    (err = read_roles(claims, rules->roles_claim, who)) != OK)
		return err;
	return read_caregivers(claims, who);
}

static enum err
read_claims(
    const struct parts *parts, const struct conf_auth *rules, int64_t now_s, struct who *who)
{
	struct jsonr claims;
	enum err err;

	err = jsonr_parse((const char *)parts->claims, parts->claims_n, &claims);
	if (err != OK)
		return err == ERR_BUSY ? err : refuse("its claims are no JSON object");
	*who = (struct who){ 0 };
	err = check_claims(&claims, rules, now_s, who);
	jsonr_close(&claims);
	return err;
}

enum err
token_verify(const char *token, size_t n, const struct conf_auth *rules,
    const struct token_keys *keys, int64_t now_s, struct who *who)
{
	struct parts parts;
	struct header header = { 0 };
	char words[ERR_WORDS_MAX];
	enum err err;

	if ((err = take_apart(token, n, &parts)) == OK &&
	    (err = read_header(&parts, rules->algorithms, &header)) == OK &&
	    (err = check_signature(&parts, &header, keys)) == OK)
		err = read_claims(&parts, rules, now_s, who);
	/* Bad fields that jsonr has noted quote the token. */
	(void)snprintf(words, sizeof(words), "%s", err_words());
	err_clear();
	return err == OK ? OK : fail(err, "%s", words);
}

/* --- Making one. */

static enum err
take_json(void *out, const char *bytes, size_t n)
{
	return fwrite(bytes, 1, n, out) == n ? OK : fail(ERR_BUSY, "no memory for a token");
}

static enum err
put_claims(FILE *out, const struct who *who, const struct conf_auth *rules, int64_t now_s)
{
	struct jsonw w;

	jsonw_open(&w, take_json, out);
	jsonw_object_begin(&w, NULL);
	jsonw_string(&w, "iss", rules->issuer);
	jsonw_string(&w, "aud", rules->audience);
	jsonw_string(&w, "sub", who->name);
	jsonw_int(&w, "iat", now_s);
	jsonw_int(&w, "exp", who->expires_s);
	jsonw_array_begin(&w, rules->roles_claim);
	for (unsigned r = 0; r < ROLE_COUNT; r++)
		if ((who->roles & 1U << r) != 0)
			jsonw_string(&w, NULL, role_names[r]);
	jsonw_array_end(&w);
	if (who->caregiver_id > 0)
		jsonw_int(&w, "caregiver_id", who->caregiver_id);
	if (who->caregiver_count > 0) {
		jsonw_array_begin(&w, "caregivers");
		for (size_t i = 0; i < who->caregiver_count; i++)
			jsonw_int(&w, NULL, who->caregivers[i]);
		jsonw_array_end(&w);
	}
	jsonw_object_end(&w);
	return jsonw_close(&w);
}

/* Behind what OUT has already; false if it does not fit. */
static bool
append(char out[TOKEN_MAX + 1], const void *bytes, size_t n)
{
	size_t used = strlen(out);

	if (sodium_base64_ENCODED_LEN(n, BASE64URL) > TOKEN_MAX + 1 - used)
		return false;
	(void)sodium_bin2base64(out + used, TOKEN_MAX + 1 - used, bytes, n, BASE64URL);
	return true;
}

static bool
append_dot(char out[TOKEN_MAX + 1])
{
	size_t used = strlen(out);

	if (used == TOKEN_MAX)
		return false;
	memcpy(out + used, ".", 2);
	return true;
}

enum err
token_make(const struct who *who, const struct conf_auth *rules, const struct token_keys *keys,
    int64_t now_s, char out[TOKEN_MAX + 1])
{
	unsigned char signature[crypto_auth_hmacsha256_BYTES];
	char *claims = NULL;
	size_t n = 0;
	FILE *file = open_memstream(&claims, &n);
	bool fits;
	enum err err;

	if (file == NULL)
		return fail(ERR_BUSY, "no memory for a token");
	err = put_claims(file, who, rules, now_s);
	if ((fclose(file) != 0 || claims == NULL) && err == OK)
		err = fail(ERR_BUSY, "no memory for a token");
	out[0] = '\0';
	fits = err == OK && append(out, HEADER, strlen(HEADER)) && append_dot(out) &&
	    append(out, claims, n);
	if (fits) {
		sign(keys, out, strlen(out), signature);
		fits = append_dot(out) && append(out, signature, sizeof(signature));
	}
	free(claims);
	if (err == OK && !fits)
		err = fail(ERR_INPUT, "the token would have more than %d bytes", TOKEN_MAX);
	return err;
}
