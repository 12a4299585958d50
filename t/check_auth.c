#include "tokens.h"

#include <pthread.h>

#include "lib/auth.h"
#include "lib/log.h"

#define REFUSED "send a valid token: Authorization: Bearer TOKEN"

static char folder[] = "/tmp/check_auth.XXXXXX";
static struct conf conf;
static struct signer one, two;
static struct who who;

static void
put_set(const struct signer *signer)
{
	char text[4096];

	(void)snprintf(text, sizeof(text), "{\"keys\":[%s]}", named_key(signer));
	put_file("keys.json", text);
}

static void
begin(void)
{
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chdir(folder), 0);
	signer_open(&one, "ES256", "one");
	signer_open(&two, "ES256", "two");
	put_set(&one);
	conf.auth = (struct conf_auth){
		.mode = AUTH_REQUIRED,
		.issuer = TOKENS_ISSUER,
		.audience = TOKENS_AUDIENCE,
		.jwks = "keys.json",
		.algorithms = 1 << ALGORITHM_ES256,
		.roles_claim = "roles",
	};
	ck_assert_int_eq(auth_open(&conf), OK);
}

static void
end(void)
{
	auth_close();
	(void)unlink("keys.json");
	ck_assert_int_eq(rmdir(folder), 0);
	signer_close(&one);
	signer_close(&two);
}

static char *
field_of(const struct signer *signer, long long life_s, const char *more)
{
	static char fields[4][64 * 1024];
	static size_t next;
	char *field = fields[next++ % 4];

	(void)snprintf(field, sizeof(fields[0]), "Bearer %s",
	    signed_token(signer, header_of(signer), good_claims(time(NULL), life_s, more)));
	return field;
}

START_TEST(not_opened_or_off_it_lets_in_everybody)
{
	conf.auth.mode = AUTH_OFF;
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(auth_check("", &who), OK);
		ck_assert_str_eq(who.name, "anonymous");
		ck_assert_uint_eq(who.roles, ROLES_ALL);
		ck_assert_int_eq(auth_check("Bearer nonsense", &who), OK);
		ck_assert_int_eq(auth_open(&conf), OK);
	}
}
END_TEST

START_TEST(a_good_token_is_let_in_again_and_again)
{
	char *field;

	begin();
	field = field_of(&one, 60, ",\"roles\":[\"manager\"],\"caregivers\":[5,7]");
	for (int i = 0; i < 3; i++) {
		memset(&who, 0xff, sizeof(who));
		ck_assert_msg(auth_check(field, &who) == OK, "%s", err_words());
		ck_assert_str_eq(who.name, "anna");
		ck_assert_uint_eq(who.roles, ROLE_MANAGER);
		ck_assert_int_eq(who.caregiver_id, 0);
		ck_assert_uint_eq(who.caregiver_count, 2);
		ck_assert_int_eq(who.caregivers[1], 7);
	}
	memcpy(field, "bEARER  ", 7);
	ck_assert_int_eq(auth_check(field, &who), OK);
	end();
}
END_TEST

START_TEST(whatever_is_wrong_the_words_are_the_same)
{
	static const char *const bad[] = { "", "Bearer", "Bearer ", "Bearer    ", "Basic YTpi",
		"Bearer a.b.c", "Bearera.b.c", "Bearer\ta.b.c" };
	char *field, two_tokens[8192];

	begin();
	for (size_t i = 0; i < COUNT(bad); i++) {
		ck_assert_int_eq(auth_check(bad[i], &who), ERR_UNAUTHORIZED);
		ck_assert_str_eq(err_words(), REFUSED);
	}
	field = field_of(&one, 60, "");
	(void)snprintf(two_tokens, sizeof(two_tokens), "%s %s", field, field + 7);
	ck_assert_int_eq(auth_check(two_tokens, &who), ERR_UNAUTHORIZED);
	ck_assert_str_eq(err_words(), REFUSED);
	ck_assert_int_eq(auth_check(field_of(&two, 60, ""), &who), ERR_UNAUTHORIZED);
	ck_assert_str_eq(err_words(), REFUSED);
	ck_assert_int_eq(auth_check(field_of(&one, -1, ""), &who), ERR_UNAUTHORIZED);
	ck_assert_str_eq(err_words(), REFUSED);
	end();
}
END_TEST

START_TEST(the_log_hears_why_once_a_second_and_never_the_token)
{
	struct caught caught;
	char line[4096];

	begin();
	caught = stderr_catch();
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(auth_check("Bearer MARKER", &who), ERR_UNAUTHORIZED);
	ck_assert_uint_gt(stderr_next(&caught, line, sizeof(line)), 0);
	ck_assert_ptr_nonnull(strstr(line, "\"event\":\"token\""));
	ck_assert_ptr_nonnull(strstr(line, "\"level\":\"info\""));
	ck_assert_ptr_nonnull(strstr(line, "refused: it has no three parts; 0 more"));
	ck_assert_ptr_null(strstr(line, "MARKER"));
	ck_assert_uint_eq(stderr_next(&caught, line, sizeof(line)), 0);
	stderr_release(&caught);
	end();
}
END_TEST

/* Known or not. */
START_TEST(a_token_ends_when_it_says)
{
	char *field;

	begin();
	field = field_of(&one, 2, "");
	ck_assert_int_eq(auth_check(field, &who), OK);
	while (auth_check(field, &who) == OK)
		(void)usleep(10000);
	ck_assert_int_eq(auth_check(field, &who), ERR_UNAUTHORIZED);
	end();
}
END_TEST

/* A token that was let in before is let in no more. */
START_TEST(a_key_that_is_taken_away_takes_its_tokens_along)
{
	char *of_one, *of_two;

	begin();
	of_one = field_of(&one, 600, "");
	of_two = field_of(&two, 600, "");
	ck_assert_int_eq(auth_check(of_one, &who), OK);
	ck_assert_int_eq(auth_check(of_two, &who), ERR_UNAUTHORIZED);
	put_set(&two);
	while (auth_check(of_two, &who) != OK)
		(void)usleep(10000);
	ck_assert_int_eq(auth_check(of_one, &who), ERR_UNAUTHORIZED);
	end();
}
END_TEST

START_TEST(without_any_key_the_server_is_to_blame)
{
	begin();
	auth_close();
	conf.auth.jwks = "https://issuer.example/keys";
	conf.auth.jwks_is_url = true;
	ck_assert_int_eq(auth_open(&conf), OK);
	ck_assert_int_eq(auth_check(field_of(&one, 60, ""), &who), ERR_BUSY);
	ck_assert_int_eq(auth_check("", &who), ERR_UNAUTHORIZED);
	end();
}
END_TEST

static char *many[AUTH_KNOWN_MAX * 2];

static void *
ask_all(void *ctx)
{
	struct who *own = malloc(sizeof(*own));
	char name[16];

	for (size_t i = 0; i < COUNT(many); i++) {
		ck_assert_int_eq(auth_check(many[i], own), OK);
		(void)snprintf(name, sizeof(name), "p%zu", i);
		ck_assert_str_eq(own->name, name);
	}
	free(own);
	return ctx;
}

/* More than are known again, by several at once, while the keys are replaced by the same ones. */
START_TEST(each_of_many_tokens_is_its_own)
{
	pthread_t threads[3];
	struct signer secret;

	begin();
	auth_close();
	signer_open(&secret, "HS256", NULL);
	put_file("secret", TOKENS_SECRET_HEX);
	conf.auth.secret_file = "secret";
	conf.auth.jwks = NULL;
	conf.auth.algorithms = 1 << ALGORITHM_HS256;
	ck_assert_int_eq(auth_open(&conf), OK);
	for (size_t i = 0; i < COUNT(many); i++) {
		char claims[256];

		(void)snprintf(claims, sizeof(claims),
		    "{\"iss\":\"" TOKENS_ISSUER "\",\"aud\":\"" TOKENS_AUDIENCE
		    "\",\"sub\":\"p%zu\",\"exp\":%lld}",
		    i, (long long)time(NULL) + 600);
		ck_assert_int_gt(asprintf(&many[i], "Bearer %s",
				     signed_token(&secret, header_of(&secret), claims)),
		    0);
	}
	for (size_t i = 0; i < COUNT(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_all, NULL), 0);
	put_file("secret", TOKENS_SECRET_HEX "\n");
	(void)ask_all(NULL);
	for (size_t i = 0; i < COUNT(threads); i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	for (size_t i = 0; i < COUNT(many); i++)
		free(many[i]);
	(void)unlink("secret");
	end();
}
END_TEST

CHECK_MAIN(auth,
    { not_opened_or_off_it_lets_in_everybody, a_good_token_is_let_in_again_and_again,
	whatever_is_wrong_the_words_are_the_same,
	the_log_hears_why_once_a_second_and_never_the_token, a_token_ends_when_it_says,
	a_key_that_is_taken_away_takes_its_tokens_along, without_any_key_the_server_is_to_blame,
	each_of_many_tokens_is_its_own })
