/*
 * tokens: how many tokens one thread checks that nobody has seen before; and an issuer of a token
 *of each algorithm, for a service.
 *
 *	tokens rate ALGORITHM SECONDS	prints "checked-in-a-second-of-its-processor checked"
 *	tokens issue SET SECRET		writes both files; prints "ALGORITHM TOKEN" lines, of an
 *admin
 *
 * Only auth remembers tokens: token_verify() meets each as if it were the first time.  By Check,
 *which t/tokens.h asserts with; so there are lines of TAP, too.
 */
#include "../t/tokens.h"

#include <time.h>

#include "lib/token.h"

#define TOKENS 1000
#define CLAIMS ",\"roles\":[\"admin\"],\"jti\":\"%d\""

static const char *const algorithms[] = { "RS256", "ES256", "HS256" };

static struct signer signers[COUNT(algorithms)];

static char *
set_of_keys(void)
{
	static char text[8192];

	(void)snprintf(text, sizeof(text), "{\"keys\":[%s,%s]}", named_key(&signers[0]),
	    named_key(&signers[1]));
	return text;
}

static char *
token_of(const struct signer *signer, int number)
{
	char more[64];

	(void)snprintf(more, sizeof(more), CLAIMS, number);
	return strdup(signed_token(signer, header_of(signer), good_claims(time(NULL), 3600, more)));
}

static double
cpu_s(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
rate(const struct signer *signer, double seconds)
{
	static struct who who;
	struct conf_auth rules = { .mode = AUTH_REQUIRED,
		.issuer = TOKENS_ISSUER,
		.audience = TOKENS_AUDIENCE,
		.algorithms = (1 << ALGORITHM_MAX) - 1,
		.roles_claim = "roles",
		.leeway_s = 60 };
	struct token_keys keys = { NULL, (const unsigned char *)TOKENS_SECRET,
		strlen(TOKENS_SECRET) };
	char *set_text = set_of_keys(), *tokens[TOKENS];
	struct jwk_set *set;
	long checked = 0;
	double begin, took;

	ck_assert_int_eq(jwk_set_parse(set_text, strlen(set_text), &set), OK);
	keys.set = set;
	for (int i = 0; i < TOKENS; i++)
		tokens[i] = token_of(signer, i);
	for (begin = cpu_s(); (took = cpu_s() - begin) < seconds; checked++) {
		const char *token = tokens[checked % TOKENS];

		ck_assert_int_eq(
		    token_verify(token, strlen(token), &rules, &keys, time(NULL), &who), OK);
	}
	(void)printf("rate %.0f %ld\n", (double)checked / took, checked);
	for (int i = 0; i < TOKENS; i++)
		free(tokens[i]);
	jwk_set_close(set);
}

static void
issue(const char *set, const char *secret)
{
	put_file(set, set_of_keys());
	put_file(secret, TOKENS_SECRET_HEX "\n");
	for (size_t i = 0; i < COUNT(algorithms); i++)
		(void)printf("token %s %s\n", algorithms[i], token_of(&signers[i], 0));
}

static char **words;

START_TEST(it_does_what_it_is_told)
{
	for (size_t i = 0; i < COUNT(algorithms); i++)
		signer_open(
		    &signers[i], algorithms[i], algorithms[i][0] == 'H' ? NULL : algorithms[i]);
	if (strcmp(words[1], "issue") == 0)
		issue(words[2], words[3]);
	for (size_t i = 0; i < COUNT(algorithms); i++)
		if (strcmp(words[1], "rate") == 0 && strcmp(words[2], algorithms[i]) == 0)
			rate(&signers[i], strtod(words[3], NULL));
}
END_TEST

int
main(int argc, char **argv)
{
	const TTest *const tests[] = { it_does_what_it_is_told };

	if (argc != 4) {
		(void)fprintf(stderr, "usage: tokens rate ALGORITHM SECONDS | issue SET SECRET\n");
		return 2;
	}
	words = argv;
	(void)setenv("CK_FORK", "no", 1);
	return check_run("tokens", tests, COUNT(tests));
}
