/*
 * caredesk_token: a token for somebody, signed with the local secret; and what one says, or why it
 * is refused.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "caredesk.h"
#include "lib/clock.h"
#include "lib/keyring.h"
#include "lib/text.h"
#include "lib/token.h"
#include "lib/user.h"
#include "lib/who.h"

static enum err
check_mode(const struct conf_auth *rules)
{
	return rules->mode == AUTH_REQUIRED
	    ? OK
	    : fail(ERR_INPUT, "auth.mode is off: nobody needs a token");
}

/* The secret that is made for us is made now, if caredesk run has not. */
static enum err
make_own_secret(const struct conf *conf)
{
	if (conf->auth.secret_file == NULL)
		return fail(ERR_INPUT,
		    "the configuration takes no tokens of ours: auth.algorithms lacks HS256");
	if (strcmp(conf->auth.secret_file, CONF_SECRET_FILE) != 0)
		return OK;
	return secret_make_for_tokens(conf->user);
}

static enum err
read_caregivers(const char *text, struct who *who)
{
	for (; text != NULL; text = text[0] == ',' ? text + 1 : NULL) {
		size_t n = strcspn(text, ",");
		int64_t *id = &who->caregivers[who->caregiver_count];

		if (who->caregiver_count == WHO_CAREGIVERS_MAX)
			return fail(ERR_INPUT, "--caregivers takes at most %d", WHO_CAREGIVERS_MAX);
		if (!text_uint(text, n, id) || *id < 1)
			return fail(ERR_INPUT, "--caregivers must be ids with commas between");
		who->caregiver_count++;
		text += n;
	}
	return OK;
}

/* An admin has everything anyway. */
static void
hint_at_nothing(const struct who *who)
{
	const struct {
		enum role role;
		bool has_ids;
		const char *words;
	} hints[] = {
		{ ROLE_CAREGIVER, who->caregiver_id > 0,
		    "without --caregiver ID the role caregiver gives no events" },
		{ ROLE_MANAGER, who->caregiver_count > 0,
		    "without --caregivers ID,ID the role manager gives no events" },
	};

	for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
		if ((who->roles & (hints[i].role | ROLE_ADMIN)) == hints[i].role &&
		    !hints[i].has_ids)
			(void)fprintf(stderr, "hint: %s\n", hints[i].words);
}

/* The token is checked as the service would, so that nobody gets one that is refused. */
static enum err
make(const struct caredesk_options *options, const struct conf_auth *rules,
    const struct token_keys *keys)
{
	static struct who who, seen;
	char token[TOKEN_MAX + 1];
	int64_t now_s = clock_now_us() / CLOCK_SECOND_US;
	enum err err;

	if (options->sub == NULL || strlen(options->sub) > WHO_NAME_MAX)
		return fail(ERR_INPUT, "--sub must be given, with 1..%d bytes", WHO_NAME_MAX);
	(void)snprintf(who.name, sizeof(who.name), "%s", options->sub);
	who.roles = options->roles;
	who.caregiver_id = options->caregiver;
	who.expires_s = now_s + options->ttl_s;
	if ((err = read_caregivers(options->caregivers, &who)) != OK ||
	    (err = token_make(&who, rules, keys, now_s, token)) != OK)
		return err;
	if (token_verify(token, strlen(token), rules, keys, now_s, &seen) != OK)
		return fail(ERR_INPUT, "such a token would be refused: %s", err_words());
	(void)printf("%s\n", token);
	hint_at_nothing(&who);
	return OK;
}

static void
print_who(const struct who *who)
{
	char until[CLOCK_TEXT_SIZE];

	(void)printf("sub %s\nroles", who->name);
	for (unsigned r = 0; r < ROLE_COUNT; r++)
		if ((who->roles & 1U << r) != 0)
			(void)printf(" %s", role_names[r]);
	if (who->caregiver_id > 0)
		(void)printf("\ncaregiver_id %" PRId64, who->caregiver_id);
	if (who->caregiver_count > 0)
		(void)printf("\ncaregivers");
	for (size_t i = 0; i < who->caregiver_count; i++)
		(void)printf(" %" PRId64, who->caregivers[i]);
	clock_text(who->expires_s * CLOCK_SECOND_US, until);
	(void)printf("\nis let in until %s\n", until);
}

/* From standard input, with or without the end of its line: what stands in a command line is seen
 * by all. */
static enum err
check(const struct conf_auth *rules, const struct token_keys *keys)
{
	static struct who who;
	char token[TOKEN_MAX + 2];
	size_t n = fread(token, 1, sizeof(token), stdin);
	enum err err;

	n -= n > 0 && token[n - 1] == '\n';
	err = token_verify(token, n, rules, keys, clock_now_us() / CLOCK_SECOND_US, &who);
	if (err != OK)
		return fail(ERR_INPUT, "the token is refused: %s", err_words());
	print_who(&who);
	return OK;
}

/* A key that is only in a set that nobody has fetched yet is not known. */
static enum err
with_keys(const struct caredesk_options *options, const struct conf_auth *rules)
{
	struct keyring_keys keys;
	struct keyring *ring;
	enum err err = keyring_open(rules, &ring);

	if (err != OK)
		return err;
	keyring_take(ring, &keys);
	err = options->check ? check(rules, &keys.keys) : make(options, rules, &keys.keys);
	keyring_drop(ring, &keys);
	keyring_close(ring);
	return err;
}

enum err
caredesk_token(const struct caredesk_options *options)
{
	struct data data;
	enum err err = data_open(&options->conf, DATA_READ, &data);

	if (err == OK && (err = check_mode(&data.conf->auth)) == OK &&
	    (options->check || (err = make_own_secret(data.conf)) == OK) &&
	    (err = user_become(data.conf->user)) == OK)
		err = with_keys(options, &data.conf->auth);
	data_close(&data);
	return err;
}
