/*
 * The input: a set of keys.
 */
#include "fuzz.h"
#include "lib/jwk.h"

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static const char token[] = "eyJhbGciOiJFUzI1NiJ9.e30.AAAA";
	struct jwk_set *set;
	size_t left_out, count;

	err_clear();
	if (jwk_set_parse((const char *)bytes, n, &set) != OK) {
		assert(set == NULL && err_words()[0] != '\0' && err_pending() == OK);
		return 0;
	}
	count = jwk_set_count(set, &left_out);
	assert(n <= JWK_SET_MAX && count + left_out <= JWK_KEYS_MAX);
	for (enum conf_algorithm a = 0; a < ALGORITHM_MAX; a++)
		assert(jwk_verify(set, NULL, a, token, sizeof(token) - 1) != OK);
	assert(jwk_verify(set, NULL, ALGORITHM_HS256, token, sizeof(token) - 1) == ERR_NOT_FOUND);
	jwk_set_close(set);
	return 0;
}
