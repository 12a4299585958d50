/*
 * The input: a token; or header and claims with a line between them, which are then signed, so that
 * what is behind the signature is reached.
 */
#include <sodium.h>
#include <string.h>

#include "fuzz.h"
#include "lib/token.h"

#define SECRET "0123456789abcdef0123456789abcdef"
#define BASE64URL sodium_base64_VARIANT_URLSAFE_NO_PADDING
#define NOW_S 1795320000

static const struct conf_auth rules = {
	.mode = AUTH_REQUIRED,
	.issuer = "i",
	.audience = "a",
	.algorithms = (1 << ALGORITHM_MAX) - 1,
	.roles_claim = "r.roles",
	.leeway_s = 60,
};
static const struct token_keys keys = { NULL, (const unsigned char *)SECRET, sizeof(SECRET) - 1 };

/* What is let in keeps every bound, whatever the token says. */
static void
check_token(const char *token, size_t n)
{
	struct who who;
	enum err err;

	err_clear();
	err = token_verify(token, n, &rules, &keys, NOW_S, &who);
	assert(err_pending() == OK);
	if (err != OK) {
		assert(err == ERR_UNAUTHORIZED || err == ERR_NOT_FOUND);
		assert(err_words()[0] != '\0' && strlen(err_words()) < 80);
		return;
	}
	assert(n <= TOKEN_MAX && who.name[0] != '\0' && strlen(who.name) <= WHO_NAME_MAX);
	assert((who.roles & ~(unsigned)ROLES_ALL) == 0 && who.caregiver_id >= 0);
	assert(who.expires_s > NOW_S && who.expires_s <= NOW_S + TOKEN_LIFE_MAX_S + 180);
	assert(who.caregiver_count <= WHO_CAREGIVERS_MAX);
	for (size_t i = 0; i < who.caregiver_count; i++)
		assert(who.caregivers[i] >= 1);
}

static size_t
put(char *out, size_t room, const void *bytes, size_t n)
{
	(void)sodium_bin2base64(out, room, bytes, n, BASE64URL);
	return strlen(out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static char token[16384];
	unsigned char signature[crypto_auth_hmacsha256_BYTES];
	crypto_auth_hmacsha256_state state;
	const uint8_t *line = memchr(bytes, '\n', n);
	size_t header_n = line == NULL ? 0 : (size_t)(line - bytes), used;

	if (line == NULL || n > 5000) {
		check_token((const char *)bytes, n);
		return 0;
	}
	used = put(token, sizeof(token), bytes, header_n);
	token[used++] = '.';
	used += put(token + used, sizeof(token) - used, line + 1, n - header_n - 1);
	(void)crypto_auth_hmacsha256_init(&state, keys.secret, keys.secret_n);
	(void)crypto_auth_hmacsha256_update(&state, (const unsigned char *)token, used);
	(void)crypto_auth_hmacsha256_final(&state, signature);
	token[used++] = '.';
	used += put(token + used, sizeof(token) - used, signature, sizeof(signature));
	check_token(token, used);
	return 0;
}
