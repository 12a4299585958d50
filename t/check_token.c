#include "tokens.h"

#include "lib/token.h"

#define NOW_S INT64_C(1795320000)
#define HS "{\"alg\":\"HS256\"}"

static struct conf_auth rules;
static struct token_keys keys;
static struct signer local;
static struct who who;

static void
begin(void)
{
	rules = (struct conf_auth){
		.mode = AUTH_REQUIRED,
		.issuer = TOKENS_ISSUER,
		.audience = TOKENS_AUDIENCE,
		.algorithms = (1 << ALGORITHM_MAX) - 1,
		.roles_claim = "roles",
		.leeway_s = 60,
	};
	signer_open(&local, "HS256", NULL);
	keys = (struct token_keys){ NULL, local.secret, local.secret_n };
}

static enum err
verify(const char *token)
{
	enum err err = token_verify(token, strlen(token), &rules, &keys, NOW_S, &who);

	ck_assert_int_eq(err_pending(), OK);
	return err;
}

/* Refused, and for this reason. */
static void
ck_refused(const char *token, const char *why)
{
	enum err err = verify(token);

	ck_assert_msg(err == ERR_UNAUTHORIZED || err == ERR_NOT_FOUND, "%d: %s", err, token);
	ck_assert_msg(strcmp(err_words(), why) == 0, "%s, not %s: %s", err_words(), why, token);
}

static void
ck_claims(const char *claims, const char *why)
{
	char *token = signed_token(&local, HS, claims);

	if (why != NULL)
		ck_refused(token, why);
	else
		ck_assert_msg(verify(token) == OK, "%s: %s", claims, err_words());
}

START_TEST(a_good_token_of_each_algorithm_is_let_in)
{
	static const char *const names[] = { "ES256", "ES384", "RS256", "PS256" };

	begin();
	for (size_t i = 0; i < COUNT(names); i++) {
		struct signer signer;
		struct jwk_set *set;
		char text[8192];

		signer_open(&signer, names[i], "one");
		(void)snprintf(text, sizeof(text), "{\"keys\":[%s]}", named_key(&signer));
		ck_assert_int_eq(jwk_set_parse(text, strlen(text), &set), OK);
		keys.set = set;
		ck_assert_msg(verify(signed_token(
				  &signer, header_of(&signer), good_claims(NOW_S, 3600, ""))) == OK,
		    "%s: %s", names[i], err_words());
		ck_assert_str_eq(who.name, "anna");
		ck_assert_int_eq(who.expires_s, NOW_S + 3660);
		/* Not configured: the same token is nothing. */
		rules.algorithms = 1 << ALGORITHM_HS256;
		ck_refused(signed_token(&signer, header_of(&signer), good_claims(NOW_S, 3600, "")),
		    "its alg is none of those configured");
		rules.algorithms = (1 << ALGORITHM_MAX) - 1;
		jwk_set_close(set);
		signer_close(&signer);
	}
	keys.set = NULL;
	ck_claims(good_claims(NOW_S, 3600, ""), NULL);
}
END_TEST

START_TEST(what_it_says_of_a_person_is_taken)
{
	begin();
	ck_claims(good_claims(NOW_S, 60,
		      ",\"roles\":[\"manager\",\"gardener\",\"admin\"],\"caregiver_id\":17,"
		      "\"caregivers\":[3,9223372036854775807]"),
	    NULL);
	ck_assert_uint_eq(who.roles, ROLE_MANAGER | ROLE_ADMIN);
	ck_assert_int_eq(who.caregiver_id, 17);
	ck_assert_uint_eq(who.caregiver_count, 2);
	ck_assert_int_eq(who.caregivers[0], 3);
	ck_assert_int_eq(who.caregivers[1], INT64_MAX);
	ck_claims(good_claims(NOW_S, 60, ""), NULL);
	ck_assert_uint_eq(who.roles, 0);
	ck_assert_int_eq(who.caregiver_id, 0);
	ck_assert_uint_eq(who.caregiver_count, 0);
}
END_TEST

START_TEST(roles_may_lie_deeper)
{
	static const struct {
		const char *path, *claims;
		unsigned roles;
	} rows[] = {
		{ "roles", ",\"roles\":[\"caregiver\"]", ROLE_CAREGIVER },
		{ "a.b.c", ",\"a\":{\"b\":{\"c\":[\"admin\"]}}", ROLE_ADMIN },
		{ "realm_access.roles", ",\"realm_access\":{\"roles\":[\"accountant\"]}",
		    ROLE_ACCOUNTANT },
		{ "https://x.example/roles", ",\"https://x.example/roles\":[\"manager\"]",
		    ROLE_MANAGER },
		{ "a.b", ",\"a.b\":[\"manager\"],\"a\":{\"b\":[\"admin\"]}", ROLE_MANAGER },
		{ "a.b", ",\"a\":[\"admin\"]", 0 },
		{ "a.b", ",\"b\":[\"admin\"]", 0 },
		{ "a.b", ",\"a\":{\"b\":null}", 0 },
		{ "a.", ",\"a\":[\"admin\"]", 0 },
		{ "other", ",\"roles\":[\"admin\"]", 0 },
		{ "roles", ",\"roles\":[\"Admin\",\"admin \",\"anyone\",\"\"]", 0 },
	};

	begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		rules.roles_claim = rows[i].path;
		ck_claims(good_claims(NOW_S, 60, rows[i].claims), NULL);
		ck_assert_msg(who.roles == rows[i].roles, "%s %s", rows[i].path, rows[i].claims);
	}
}
END_TEST

START_TEST(a_bad_header_is_refused)
{
	static const struct {
		const char *header, *why;
	} rows[] = {
		{ "{\"alg\":\"HS256\",\"typ\":\"JWT\"}", NULL },
		{ "{\"alg\":\"HS256\",\"typ\":\"at+jwt\"}", NULL },
		{ "{\"alg\":\"HS256\",\"x5t\":\"abc\"}", NULL },
		{ "{\"alg\":\"none\"}", "its alg is none of those configured" },
		{ "{\"alg\":\"None\"}", "its alg is none of those configured" },
		{ "{\"alg\":\"hs256\"}", "its alg is none of those configured" },
		{ "{\"alg\":\"HS512\"}", "its alg is none of those configured" },
		{ "{\"alg\":\"EdDSA\"}", "its alg is none of those configured" },
		{ "{\"alg\":7}", "its header has no alg" },
		{ "{\"alg\":null}", "its header has no alg" },
		{ "{}", "its header has no alg" },
		{ "{\"typ\":\"JWT\"}", "its header has no alg" },
		{ "{\"alg\":\"HS256\",\"typ\":\"jwt\"}", "its typ is neither JWT nor at+jwt" },
		{ "{\"alg\":\"HS256\",\"typ\":7}", "its typ is neither JWT nor at+jwt" },
		{ "{\"alg\":\"HS256\",\"kid\":\"../../etc/passwd\"}",
		    "its kid is no name of a key" },
		{ "{\"alg\":\"HS256\",\"kid\":\"a'--\"}", "its kid is no name of a key" },
		{ "{\"alg\":\"HS256\",\"kid\":\"\"}", "its kid is no name of a key" },
		{ "{\"alg\":\"HS256\",\"kid\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		  "aaaaaaaaaaaaaa\"}",
		    "its kid is no name of a key" },
		{ "{\"alg\":\"HS256\",\"kid\":5}", "its kid is no name of a key" },
		{ "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}",
		    "its header has a member that is not taken" },
		{ "{\"alg\":\"HS256\",\"crit\":null}",
		    "its header has a member that is not taken" },
		{ "{\"alg\":\"HS256\",\"\\u0063rit\":\"exp\"}",
		    "its header has a member that is not taken" },
		{ "{\"alg\":\"HS256\",\"zip\":\"DEF\"}",
		    "its header has a member that is not taken" },
		{ "{\"alg\":\"HS256\",\"b64\":false}",
		    "its header has a member that is not taken" },
		{ "{\"alg\":\"HS256\",\"jku\":\"https://x\"}",
		    "its header has a member that is not taken" },
		{ "{\"alg\":\"HS256\",\"jwk\":{}}", "its header has a member that is not taken" },
		{ "{\"alg\":\"HS256\",\"x5u\":\"https://x\"}",
		    "its header has a member that is not taken" },
		{ "{\"alg\":\"HS256\",\"x5c\":[]}", "its header has a member that is not taken" },
		{ "{\"alg\":\"HS256\",\"other\":{\"a\":1}}",
		    "its header has a member that is not taken" },
		{ "{\"alg\":\"HS256\",\"other\":[1]}",
		    "its header has a member that is not taken" },
		{ "{\"alg\":\"HS256\",\"alg\":\"HS256\"}", "its header is no JSON object" },
		{ "{\"alg\":\"HS256\",\"\\u0061lg\":\"none\"}", "its header is no JSON object" },
		{ "[\"HS256\"]", "its header is no JSON object" },
		{ "{\"alg\":\"HS256\"} ", NULL },
		{ "{\"alg\":\"HS256\"}x", "its header is no JSON object" },
		{ "{'alg':'HS256'}", "its header is no JSON object" },
	};

	begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *token = signed_token(&local, rows[i].header, good_claims(NOW_S, 60, ""));

		if (rows[i].why != NULL)
			ck_refused(token, rows[i].why);
		else
			ck_assert_msg(verify(token) == OK, "%s: %s", rows[i].header, err_words());
	}
}
END_TEST

#define CLAIMS(iss, aud, sub, rest) \
	"{\"iss\":" iss ",\"aud\":" aud ",\"sub\":" sub ",\"exp\":1795320060" rest "}"
#define ISS "\"" TOKENS_ISSUER "\""
#define AUD "\"" TOKENS_AUDIENCE "\""
#define SUB "\"anna\""
#define NO_ISS "its iss is missing or another"
#define NO_AUD "its aud is missing or another"
#define NO_SUB "its sub is missing or no name"
#define NO_EXP "its exp is missing or no time"
#define NO_JSON "its claims are no JSON object"
#define NO_IDS "its caregiver_id or caregivers are not as they must be"
#define OTHERS "{\"iss\":" ISS ",\"aud\":" AUD ",\"sub\":" SUB
#define SIXTEEN \
	"[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\",\"12\",\"13\"," \
	"\"14\",\"15\"," AUD "]"

START_TEST(bad_claims_are_refused)
{
	static const struct {
		const char *claims, *why;
	} rows[] = {
		{ CLAIMS(ISS, AUD, SUB, ""), NULL },
		{ CLAIMS("\"https://issuer.example\"", AUD, SUB, ""), NO_ISS },
		{ CLAIMS("null", AUD, SUB, ""), NO_ISS },
		{ CLAIMS("[" ISS "]", AUD, SUB, ""), NO_ISS },
		{ CLAIMS(ISS, "[\"x\"," AUD "]", SUB, ""), NULL },
		{ CLAIMS(ISS, SIXTEEN, SUB, ""), NULL },
		{ CLAIMS(ISS, "[\"0\"," AUD "]", SUB, ""), NULL },
		{ CLAIMS(ISS,
		      "[" AUD
		      ",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\",\"12\","
		      "\"13\",\"14\",\"15\",\"16\",\"17\"]",
		      SUB, ""),
		    NO_AUD },
		{ CLAIMS(ISS, "[" AUD ",7]", SUB, ""), NO_AUD },
		{ CLAIMS(ISS, "[]", SUB, ""), NO_AUD },
		{ CLAIMS(ISS, "\"Caredesk\"", SUB, ""), NO_AUD },
		{ CLAIMS(ISS, "null", SUB, ""), NO_AUD },
		{ CLAIMS(ISS, "{}", SUB, ""), NO_AUD },
		{ CLAIMS(ISS, AUD, "\"\"", ""), NO_SUB },
		{ CLAIMS(ISS, AUD, "7", ""), NO_SUB },
		{ CLAIMS(ISS, AUD, "\"a\\u000ab\"", ""), NO_SUB },
		{ CLAIMS(ISS, AUD, "\"a\\u007f\"", ""), NO_SUB },
		{ CLAIMS(ISS, AUD, "\"a\\u0085b\"", ""), NO_SUB },
		{ CLAIMS(ISS, AUD, "\"a\\u00a0b \xc3\x85sa\"", ""), NULL },
		{ CLAIMS(ISS, AUD, "\"a\\u0000b\"", ""), NO_JSON },
		{ CLAIMS(ISS, AUD, SUB, ",\"exp\":1795320060"), NO_JSON },
		{ CLAIMS(ISS, AUD, SUB, ",\"\\u0065xp\":1795323600"), NO_JSON },
		{ "[]", NO_JSON },
		{ "null", NO_JSON },
		{ CLAIMS(ISS, AUD, SUB, "") "{}", NO_JSON },
	};

	begin();
	for (size_t i = 0; i < COUNT(rows); i++)
		ck_claims(rows[i].claims, rows[i].why);
}
END_TEST

START_TEST(bad_times_and_roles_are_refused)
{
	static const struct {
		const char *claims, *why;
	} rows[] = {
		{ OTHERS "}", NO_EXP },
		{ OTHERS ",\"exp\":\"1795320060\"}", NO_EXP },
		{ OTHERS ",\"exp\":null}", NO_EXP },
		{ OTHERS ",\"exp\":-1}", NO_EXP },
		{ OTHERS ",\"exp\":1795320060.5}", NO_EXP },
		{ OTHERS ",\"exp\":9007199254740993}", NO_EXP },
		{ OTHERS ",\"exp\":1e400}", NO_JSON },
		{ OTHERS ",\"exp\":9007199254740992}", "it lives for too long" },
		{ OTHERS ",\"exp\":1795319941}", NULL },
		{ OTHERS ",\"exp\":1795319940}", "it has expired" },
		{ OTHERS ",\"exp\":1795323660}", NULL },
		{ OTHERS ",\"exp\":1795323661}", "it lives for too long" },
		{ OTHERS ",\"exp\":1795320060,\"iat\":1795316400}", NULL },
		{ OTHERS ",\"exp\":1795320060,\"iat\":1795316399}", "it lives for too long" },
		{ OTHERS ",\"exp\":1795320120,\"iat\":1795320060}", NULL },
		{ OTHERS ",\"exp\":1795320120,\"iat\":1795320061}", "it is not valid yet" },
		{ OTHERS ",\"exp\":1795320120,\"iat\":\"1795320060\"}", "its iat is no time" },
		{ OTHERS ",\"exp\":1795320120,\"nbf\":1795320060}", NULL },
		{ OTHERS ",\"exp\":1795320120,\"nbf\":1795320061}", "it is not valid yet" },
		{ OTHERS ",\"exp\":1795320120,\"nbf\":false}", "its nbf is no time" },
		{ CLAIMS(ISS, AUD, SUB, ",\"roles\":\"admin\""),
		    "its roles are no list, or too many" },
		{ CLAIMS(ISS, AUD, SUB,
		      ",\"roles\":[\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\","
		      "\"\",\"\",\"\",\"\",\"\"]"),
		    "its roles are no list, or too many" },
		{ CLAIMS(ISS, AUD, SUB, ",\"roles\":[\"admin\",7]"),
		    "one of its roles is no string" },
		{ CLAIMS(ISS, AUD, SUB, ",\"caregiver_id\":0"), NO_IDS },
		{ CLAIMS(ISS, AUD, SUB, ",\"caregiver_id\":\"17\""), NO_IDS },
		{ CLAIMS(ISS, AUD, SUB, ",\"caregiver_id\":9223372036854775808"), NO_JSON },
		{ CLAIMS(ISS, AUD, SUB, ",\"caregivers\":17"), NO_IDS },
		{ CLAIMS(ISS, AUD, SUB, ",\"caregivers\":[1,0]"), NO_IDS },
		{ CLAIMS(ISS, AUD, SUB, ",\"caregivers\":[\"1\"]"), NO_IDS },
		{ CLAIMS(ISS, AUD, SUB, ",\"caregivers\":[]"), NULL },
		{ CLAIMS(ISS, AUD, SUB, ",\"caregiver_id\":null,\"caregivers\":null"), NULL },
	};

	begin();
	for (size_t i = 0; i < COUNT(rows); i++)
		ck_claims(rows[i].claims, rows[i].why);
}
END_TEST

START_TEST(a_name_has_255_bytes_at_most)
{
	char more[512], name[300];

	begin();
	memset(name, 'a', sizeof(name));
	for (int n = 255; n <= 256; n++) {
		(void)snprintf(more, sizeof(more),
		    "{\"iss\":" ISS ",\"aud\":" AUD ",\"exp\":1795320060,\"sub\":\"%.*s\"}", n,
		    name);
		ck_claims(more, n == 255 ? NULL : NO_SUB);
	}
}
END_TEST

START_TEST(a_token_is_three_parts_of_strict_base64url)
{
	const char *good;
	char text[2 * TOKEN_MAX];

	begin();
	good = signed_token(&local, HS, good_claims(NOW_S, 60, ""));
	ck_refused("", "it has no three parts");
	ck_refused("abc", "it has no three parts");
	ck_refused("a.b", "it has no three parts");
	ck_refused("..", "its parts are not base64url");
	(void)snprintf(text, sizeof(text), "%s.", good);
	ck_refused(text, "its parts are not base64url");
	(void)snprintf(text, sizeof(text), "%s=", good);
	ck_refused(text, "its parts are not base64url");
	(void)snprintf(text, sizeof(text), "%s ", good);
	ck_refused(text, "its parts are not base64url");
	(void)snprintf(text, sizeof(text), " %s", good);
	ck_refused(text, "its parts are not base64url");
	for (const char *c = "+/=\n%\"\x80"; *c != '\0'; c++) {
		(void)snprintf(text, sizeof(text), "%s", good);
		text[strlen(text) - 5] = *c;
		ck_refused(text, "its parts are not base64url");
	}
	/* 32 bytes leave two bits over in their last digit: they must be 0. */
	(void)snprintf(text, sizeof(text), "%s", good);
	text[strlen(text) - 1]++;
	ck_refused(text, "its parts are not base64url");
	/* Without a signature. */
	(void)snprintf(text, sizeof(text), "%.*s", (int)(strrchr(good, '.') - good) + 1, good);
	ck_refused(text, "its parts are not base64url");
}
END_TEST

/* Spaces in the claims make it as long as wanted: 3 of them 4 digits. */
START_TEST(a_token_has_4096_bytes_at_most)
{
	char claims[TOKEN_MAX], *end, *token;

	begin();
	end = stpcpy(claims, good_claims(NOW_S, 60, ""));
	memset(end, ' ', (size_t)(claims + sizeof(claims) - end));
	for (size_t n = 0; n < 6; n++) {
		claims[3022 + n] = '\0';
		token = signed_token(&local, HS, claims);
		if (strlen(token) <= TOKEN_MAX)
			ck_claims(claims, NULL);
		else
			ck_claims(claims, "it is too long");
		claims[3022 + n] = ' ';
	}
	claims[3020] = '\0';
	ck_assert_uint_le(strlen(signed_token(&local, HS, claims)), TOKEN_MAX);
	claims[3020] = ' ';
	claims[3028] = '\0';
	ck_assert_uint_gt(strlen(signed_token(&local, HS, claims)), TOKEN_MAX);
}
END_TEST

START_TEST(a_public_key_is_no_secret)
{
	struct signer signer, confused;
	struct jwk_set *set;
	char text[8192];

	begin();
	signer_open(&signer, "RS256", "one");
	(void)snprintf(text, sizeof(text), "{\"keys\":[%s]}", named_key(&signer));
	ck_assert_int_eq(jwk_set_parse(text, strlen(text), &set), OK);
	keys.set = set;
	/* Signed HS256 with what everybody knows. */
	confused = (struct signer){ .algorithm = "HS256",
		.name = "one",
		.secret = (const unsigned char *)named_key(&signer) };
	confused.secret_n = strlen((const char *)confused.secret);
	ck_refused(signed_token(&confused, header_of(&confused), good_claims(NOW_S, 60, "")),
	    "the signature is not that of the secret");
	keys.secret_n = 0;
	ck_refused(signed_token(&confused, header_of(&confused), good_claims(NOW_S, 60, "")),
	    "there is no secret to check it with");
	/* The key of RS256 is none of ES256 or PS256. */
	ck_refused(signed_token(
		       &signer, "{\"alg\":\"PS256\",\"kid\":\"one\"}", good_claims(NOW_S, 60, "")),
	    "no key has its kid and algorithm");
	ck_refused(signed_token(
		       &signer, "{\"alg\":\"ES256\",\"kid\":\"one\"}", good_claims(NOW_S, 60, "")),
	    "its signature has not the length of its algorithm");
	jwk_set_close(set);
	signer_close(&signer);
}
END_TEST

START_TEST(an_unknown_key_is_told_from_a_wrong_signature)
{
	struct signer signer;

	begin();
	signer_open(&signer, "ES256", "other");
	ck_assert_int_eq(verify(signed_token(&signer, header_of(&signer), "{}")), ERR_NOT_FOUND);
	ck_assert_str_eq(err_words(), "no key has its kid and algorithm");
	signer_close(&signer);
}
END_TEST

/* What is not signed is not read: neither its claims nor their mistakes matter. */
START_TEST(the_signature_comes_before_the_claims)
{
	struct signer other;

	begin();
	signer_open(&other, "HS256", NULL);
	other.secret = (const unsigned char *)"another secret, of the same size";
	ck_refused(
	    signed_token(&other, HS, "{\"exp\":"), "the signature is not that of the secret");
	ck_refused(signed_token(&other, HS, good_claims(NOW_S - 9000, 60, "")),
	    "the signature is not that of the secret");
	keys.secret_n = TOKEN_SECRET_MIN - 1;
	ck_refused(signed_token(&local, HS, good_claims(NOW_S, 60, "")),
	    "there is no secret to check it with");
}
END_TEST

START_TEST(no_byte_of_a_token_is_in_the_words)
{
	static const char *const claims[] = { "{\"MARKER\":1,\"MARKER\":2}", "{\"iss\":\"MARKER\"}",
		"{\"MARKER\":", "\"MARKER\"",
		"{\"iss\":" ISS ",\"aud\":" AUD ",\"exp\":\"MARKER\"}" };

	begin();
	for (size_t i = 0; i < COUNT(claims); i++) {
		size_t count;

		ck_assert_int_eq(verify(signed_token(&local, HS, claims[i])), ERR_UNAUTHORIZED);
		ck_assert_ptr_null(strstr(err_words(), "MARKER"));
		(void)err_fields(&count);
		ck_assert_uint_eq(count, 0);
	}
}
END_TEST

START_TEST(what_is_made_is_taken)
{
	static struct who made = { .name = "åsa \"quoted\"",
		.roles = ROLE_CAREGIVER | ROLE_ADMIN,
		.caregiver_id = 17,
		.expires_s = NOW_S + 3600,
		.caregiver_count = 2,
		.caregivers = { 1, INT64_MAX } };
	char token[TOKEN_MAX + 1];

	begin();
	rules.roles_claim = "realm_access.roles";
	ck_assert_int_eq(token_make(&made, &rules, &keys, NOW_S, token), OK);
	ck_assert_msg(verify(token) == OK, "%s", err_words());
	ck_assert_str_eq(who.name, made.name);
	ck_assert_uint_eq(who.roles, made.roles);
	ck_assert_int_eq(who.caregiver_id, 17);
	ck_assert_uint_eq(who.caregiver_count, 2);
	ck_assert_int_eq(who.caregivers[1], INT64_MAX);
	made.caregiver_count = WHO_CAREGIVERS_MAX;
	for (size_t i = 0; i < WHO_CAREGIVERS_MAX; i++)
		made.caregivers[i] = INT64_MAX;
	ck_assert_int_eq(token_make(&made, &rules, &keys, NOW_S, token), ERR_INPUT);
}
END_TEST

START_TEST(a_manager_has_a_thousand_caregivers_at_most)
{
	char more[8192];

	begin();
	for (int count = 1000; count <= 1001; count++) {
		size_t used = (size_t)snprintf(more, sizeof(more), ",\"caregivers\":[1");

		for (int i = 1; i < count; i++)
			used += (size_t)snprintf(more + used, 3, ",1");
		(void)snprintf(more + used, 2, "]");
		ck_claims(good_claims(NOW_S, 60, more), count == 1000 ? NULL : NO_IDS);
	}
}
END_TEST

CHECK_MAIN(token,
    { a_good_token_of_each_algorithm_is_let_in, what_it_says_of_a_person_is_taken,
	roles_may_lie_deeper, a_bad_header_is_refused, bad_claims_are_refused,
	bad_times_and_roles_are_refused, a_name_has_255_bytes_at_most,
	a_token_is_three_parts_of_strict_base64url, a_token_has_4096_bytes_at_most,
	a_public_key_is_no_secret, an_unknown_key_is_told_from_a_wrong_signature,
	the_signature_comes_before_the_claims, no_byte_of_a_token_is_in_the_words,
	what_is_made_is_taken, a_manager_has_a_thousand_caregivers_at_most })
