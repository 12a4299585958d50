#include "tokens.h"

#include "lib/jwk.h"

static char text[JWK_SET_MAX + 1024];

static struct jwk_set *
parsed(const char *keys)
{
	struct jwk_set *set;

	(void)snprintf(text, sizeof(text), "{\"keys\":[%s]}", keys);
	ck_assert_int_eq(jwk_set_parse(text, strlen(text), &set), OK);
	return set;
}

static void
ck_counts(const char *keys, size_t used, size_t left_out)
{
	struct jwk_set *set = parsed(keys);
	size_t left, count = jwk_set_count(set, &left);

	ck_assert_msg(
	    count == used && left == left_out, "%zu used, %zu left out: %s", count, left, keys);
	jwk_set_close(set);
}

START_TEST(a_key_of_each_kind_verifies_what_it_has_signed_and_nothing_else)
{
	static const struct {
		const char *name;
		enum conf_algorithm algorithm;
	} rows[] = { { "ES256", ALGORITHM_ES256 }, { "ES384", ALGORITHM_ES384 },
		{ "RS256", ALGORITHM_RS256 }, { "PS256", ALGORITHM_PS256 } };

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct signer signer, other;
		struct jwk_set *set;
		char *token;

		signer_open(&signer, rows[i].name, "one");
		signer_open(&other, rows[i].name, "one");
		set = parsed(named_key(&signer));
		token = signed_token(&signer, header_of(&signer), "{}");
		ck_assert_int_eq(
		    jwk_verify(set, "one", rows[i].algorithm, token, strlen(token)), OK);
		ck_assert_int_eq(
		    jwk_verify(set, NULL, rows[i].algorithm, token, strlen(token)), OK);
		ck_assert_int_eq(
		    jwk_verify(set, "two", rows[i].algorithm, token, strlen(token)), ERR_NOT_FOUND);
		ck_assert_int_eq(
		    jwk_verify(set, "one", ALGORITHM_HS256, token, strlen(token)), ERR_NOT_FOUND);
		token[strlen(header_of(&signer))] ^= 1;
		ck_assert_int_eq(jwk_verify(set, "one", rows[i].algorithm, token, strlen(token)),
		    ERR_UNAUTHORIZED);
		token = signed_token(&other, header_of(&other), "{}");
		ck_assert_int_eq(jwk_verify(set, "one", rows[i].algorithm, token, strlen(token)),
		    ERR_UNAUTHORIZED);
		jwk_set_close(set);
		signer_close(&signer);
		signer_close(&other);
	}
}
END_TEST

START_TEST(a_key_is_used_for_what_it_says_that_it_is_for)
{
	static const struct {
		const char *more;
		bool used;
	} rows[] = {
		{ "", true },
		{ "\"kid\":\"a-Z_9\",", true },
		{ "\"alg\":\"ES256\",", true },
		{ "\"use\":\"sig\",", true },
		{ "\"key_ops\":[\"verify\"],", true },
		{ "\"key_ops\":[\"sign\",\"verify\"],", true },
		{ "\"x5t\":\"abc\",\"x5c\":[\"MII\"],", true },
		{ "\"use\":\"enc\",", false },
		{ "\"use\":[\"sig\"],", false },
		{ "\"key_ops\":[],", false },
		{ "\"key_ops\":[\"encrypt\"],", false },
		{ "\"key_ops\":\"verify\",", false },
		{ "\"alg\":\"ES384\",", false },
		{ "\"alg\":\"RS256\",", false },
		{ "\"alg\":\"HS256\",", false },
		{ "\"alg\":\"none\",", false },
		{ "\"alg\":7,", false },
		{ "\"kid\":\"\",", false },
		{ "\"kid\":\"../x\",", false },
		{ "\"kid\":7,", false },
		{ "\"kid\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",",
		    false },
		{ "\"d\":\"AQAB\",", false },
		{ "\"k\":\"AQAB\",", false },
	};
	struct signer signer;

	signer_open(&signer, "ES256", NULL);
	for (size_t i = 0; i < COUNT(rows); i++)
		ck_counts(public_key(&signer, rows[i].more), rows[i].used, !rows[i].used);
	signer_close(&signer);
}
END_TEST

START_TEST(what_is_no_key_of_ours_is_left_out)
{
	static const char *const rows[] = { "7", "null", "[]", "{}",
		"{\"kty\":\"oct\",\"x\":\"AAAA\"}",
		"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}",
		"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAA\",\"y\":\"AAAA\"}",
		/* Not on the curve. */
		"{\"kty\":\"EC\",\"crv\":\"P-256\","
		"\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE\""
		",\"y\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE\"}",
		"{\"kty\":\"EC\",\"crv\":\"P-521\",\"x\":\"AAAA\",\"y\":\"AAAA\"}",
		"{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"AAAA\",\"y\":\"AAAA\"}",
		"{\"kty\":\"RSA\",\"n\":\"wQ\",\"e\":\"AQAB\"}",
		"{\"kty\":\"RSA\",\"e\":\"AQAB\"}" };

	for (size_t i = 0; i < COUNT(rows); i++)
		ck_counts(rows[i], 0, 1);
}
END_TEST

static void
ck_rsa(unsigned bits, const char *exponent, const char *last, bool used)
{
	char key[4096], number[2048];

	/* A top bit and a last one are all that is looked at. */
	memset(number, 'A', sizeof(number));
	number[0] = bits % 8 == 0 ? 'g' : 'Q';
	(void)snprintf(number + ((bits + 7) / 8 * 8 + 5) / 6 - strlen(last), 8, "%s", last);
	(void)snprintf(
	    key, sizeof(key), "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"}", number, exponent);
	ck_counts(key, used, !used);
}

/* 2048 bits are 342 digits of base64url, and 8192 are 1366; four bits of the last one are left
 * over. */
START_TEST(rsa_keys_are_neither_weak_nor_huge)
{
	ck_rsa(2048, "AQAB", "AQ", true);
	ck_rsa(2047, "AQAB", "AQ", false);
	ck_rsa(2040, "AQAB", "AB", false);
	ck_rsa(8192, "AQAB", "AQ", true);
	ck_rsa(8208, "AQAB", "AB", false);
	ck_rsa(2048, "AQAB", "AA", false);
	ck_rsa(2048, "AQ", "AQ", false);
	ck_rsa(2048, "AQAA", "AQ", false);
	ck_rsa(2048, "Aw", "AQ", true);
	ck_rsa(2048, "AQABAQABAQABAQAB", "AQ", false);
	ck_rsa(2048, "AQAB=", "AQ", false);
}
END_TEST

START_TEST(the_first_of_two_with_one_name_counts)
{
	struct signer first, second;
	struct jwk_set *set;
	char both[8192], *token;
	size_t left_out;

	signer_open(&first, "ES256", "one");
	signer_open(&second, "ES256", "one");
	(void)snprintf(both, sizeof(both), "%s,%s", named_key(&first), named_key(&second));
	set = parsed(both);
	ck_assert_uint_eq(jwk_set_count(set, &left_out), 1);
	ck_assert_uint_eq(left_out, 1);
	token = signed_token(&first, header_of(&first), "{}");
	ck_assert_int_eq(jwk_verify(set, "one", ALGORITHM_ES256, token, strlen(token)), OK);
	token = signed_token(&second, header_of(&second), "{}");
	ck_assert_int_eq(
	    jwk_verify(set, "one", ALGORITHM_ES256, token, strlen(token)), ERR_UNAUTHORIZED);
	jwk_set_close(set);
	signer_close(&first);
	signer_close(&second);
}
END_TEST

START_TEST(without_a_name_there_must_be_no_choice)
{
	struct signer first, second;
	struct jwk_set *set;
	char both[8192], *token;

	signer_open(&first, "ES256", "one");
	signer_open(&second, "ES256", "two");
	(void)snprintf(both, sizeof(both), "%s,%s", named_key(&first), named_key(&second));
	set = parsed(both);
	token = signed_token(&second, "{\"alg\":\"ES256\"}", "{}");
	ck_assert_int_eq(
	    jwk_verify(set, NULL, ALGORITHM_ES256, token, strlen(token)), ERR_NOT_FOUND);
	ck_assert_int_eq(jwk_verify(set, "two", ALGORITHM_ES256, token, strlen(token)), OK);
	ck_assert_int_eq(
	    jwk_verify(NULL, "two", ALGORITHM_ES256, token, strlen(token)), ERR_NOT_FOUND);
	jwk_set_close(set);
	signer_close(&first);
	signer_close(&second);
}
END_TEST

START_TEST(an_rsa_key_without_an_algorithm_is_for_both)
{
	static const enum conf_algorithm algorithms[] = { ALGORITHM_RS256, ALGORITHM_PS256 };
	static const char *const names[] = { "RS256", "PS256" };
	struct signer signer;
	struct jwk_set *set;

	signer_open(&signer, "RS256", "one");
	set = parsed(public_key(&signer, "\"kid\":\"one\","));
	for (size_t i = 0; i < COUNT(names); i++) {
		char *token;

		signer.algorithm = names[i];
		token = signed_token(&signer, header_of(&signer), "{}");
		ck_assert_int_eq(jwk_verify(set, "one", algorithms[i], token, strlen(token)), OK);
	}
	jwk_set_close(set);
	signer_close(&signer);
}
END_TEST

START_TEST(a_set_is_bounded_and_strict)
{
	static const char *const rows[] = { "", "[]", "{}", "{\"keys\":{}}", "{\"keys\":null}",
		"{\"keys\":[],\"keys\":[]}", "{\"keys\":[]} x", "{'keys':[]}" };
	struct jwk_set *set;
	char keys[4 * JWK_KEYS_MAX];
	size_t used = 0;

	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_assert_int_eq(jwk_set_parse(rows[i], strlen(rows[i]), &set), ERR_INPUT);
		ck_assert_ptr_null(set);
	}
	for (size_t i = 0; i < JWK_KEYS_MAX; i++)
		used += (size_t)snprintf(keys + used, 8, "%s{}", i == 0 ? "" : ",");
	ck_counts(keys, 0, JWK_KEYS_MAX);
	(void)snprintf(text, sizeof(text), "{\"keys\":[{},%s]}", keys);
	ck_assert_int_eq(jwk_set_parse(text, strlen(text), &set), ERR_INPUT);
	memset(text, ' ', sizeof(text));
	memcpy(text, "{\"keys\":[]}", 11);
	ck_assert_int_eq(jwk_set_parse(text, JWK_SET_MAX + 1, &set), ERR_INPUT);
	ck_assert_int_eq(jwk_set_parse(text, JWK_SET_MAX, &set), OK);
	jwk_set_close(set);
}
END_TEST

CHECK_MAIN(jwk,
    { a_key_of_each_kind_verifies_what_it_has_signed_and_nothing_else,
	a_key_is_used_for_what_it_says_that_it_is_for, what_is_no_key_of_ours_is_left_out,
	rsa_keys_are_neither_weak_nor_huge, the_first_of_two_with_one_name_counts,
	without_a_name_there_must_be_no_choice, an_rsa_key_without_an_algorithm_is_for_both,
	a_set_is_bounded_and_strict })
