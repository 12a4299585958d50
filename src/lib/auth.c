#include "lib/auth.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "lib/clock.h"
#include "lib/digest.h"
#include "lib/keyring.h"
#include "lib/log.h"
#include "lib/token.h"

#define WAYS 8 /* places where one token may be */
#define SETS (AUTH_KNOWN_MAX / WAYS)
#define LOCKS 64
#define LOG_EVERY_US CLOCK_SECOND_US

/* A token that was good. */
struct known {
	unsigned char digest[DIGEST_BYTES];
	int64_t generation; /* of the keys */
	int64_t seen_us; /* monotonic */
	struct who *who; /* NULL: the place is free; no longer than its caregivers are many */
};

static struct {
	const struct conf_auth *rules; /* NULL: everybody may do everything */
	struct keyring *ring;
	unsigned char key[DIGEST_BYTES]; /* so that nobody can tell which digests meet */
	pthread_mutex_t locks[LOCKS]; /* each of some sets, held for a look or a copy */
	struct known *known;
	atomic_llong logged_us, unlogged;
} auth;

/* --- Tokens that are known. */

static size_t
who_size(const struct who *who)
{
	return offsetof(struct who, caregivers) + who->caregiver_count * sizeof(int64_t);
}

static void
digest_token(const char *token, size_t n, unsigned char out[DIGEST_BYTES])
{
	struct digest digest;

	digest_begin(&digest);
	digest_add(&digest, auth.key, sizeof(auth.key));
	digest_add(&digest, token, n);
	digest_end(&digest, out);
}

static size_t
set_of(const unsigned char digest[DIGEST_BYTES])
{
	size_t number;

	memcpy(&number, digest, sizeof(number));
	return number % SETS;
}

static bool
recall(const unsigned char digest[DIGEST_BYTES], int64_t generation, int64_t now_s, struct who *who)
{
	size_t set = set_of(digest);
	struct known *known = auth.known + set * WAYS;
	bool found = false;

	(void)pthread_mutex_lock(&auth.locks[set % LOCKS]);
	for (size_t i = 0; i < WAYS && !found; i++) {
		found = known[i].who != NULL && known[i].generation == generation &&
		    now_s < known[i].who->expires_s &&
		    memcmp(known[i].digest, digest, DIGEST_BYTES) == 0;
		if (found) {
			memcpy(who, known[i].who, who_size(known[i].who));
			known[i].seen_us = clock_monotonic_us();
		}
	}
	(void)pthread_mutex_unlock(&auth.locks[set % LOCKS]);
	return found;
}

/* A free place, or one of no use any more, or that of who was not seen for the longest. */
static struct known *
choose_place(struct known *known, int64_t generation, int64_t now_s)
{
	struct known *chosen = known;

	for (size_t i = 0; i < WAYS; i++) {
		if (known[i].who == NULL || known[i].generation != generation ||
		    now_s >= known[i].who->expires_s)
			return &known[i];
		if (known[i].seen_us < chosen->seen_us)
			chosen = &known[i];
	}
	return chosen;
}

/* Without memory it is not known again, and that is all. */
static void
remember(const unsigned char digest[DIGEST_BYTES], int64_t generation, int64_t now_s,
    const struct who *who)
{
	size_t set = set_of(digest);
	struct who *copy = malloc(who_size(who)), *old;
	struct known *place;

	if (copy == NULL)
		return;
	memcpy(copy, who, who_size(who));
	(void)pthread_mutex_lock(&auth.locks[set % LOCKS]);
	place = choose_place(auth.known + set * WAYS, generation, now_s);
	old = place->who;
	memcpy(place->digest, digest, DIGEST_BYTES);
	place->generation = generation;
	place->seen_us = clock_monotonic_us();
	place->who = copy;
	(void)pthread_mutex_unlock(&auth.locks[set % LOCKS]);
	free(old);
}

/* --- One request. */

/* The words of the thread go to the log, and nowhere else. */
static void
log_refusal(void)
{
	int64_t now_us = clock_monotonic_us();
	long long last_us = atomic_load(&auth.logged_us);

	if ((last_us != 0 && now_us - last_us < LOG_EVERY_US) ||
	    !atomic_compare_exchange_strong(&auth.logged_us, &last_us, now_us)) {
		(void)atomic_fetch_add(&auth.unlogged, 1);
		return;
	}
	log_event(LOG_INFO, "token", "refused: %s; %lld more since the last such line", err_words(),
	    atomic_exchange(&auth.unlogged, 0));
}

static enum err
check_token(const char *token, size_t n, struct keyring_keys *keys, struct who *who)
{
	int64_t now_s = clock_now_us() / CLOCK_SECOND_US;
	unsigned char digest[DIGEST_BYTES];
	enum err err;

	if (keys->keys.set == NULL && keys->keys.secret_n == 0)
		return fail(ERR_BUSY, "there are no keys yet to check a token with");
	digest_token(token, n, digest);
	if (recall(digest, keys->generation, now_s, who))
		return OK;
	err = token_verify(token, n, auth.rules, &keys->keys, now_s, who);
	if (err == OK)
		remember(digest, keys->generation, now_s, who);
	else if (err == ERR_NOT_FOUND)
		keyring_want(auth.ring);
	return err;
}

/* "Bearer TOKEN": the scheme in any case, one token, and spaces between (RFC 9110 section 11.4). */
static enum err
find_token(const char *field, const char **token, size_t *n)
{
	static const char scheme[] = "Bearer ";

	if (field[0] == '\0')
		return fail(ERR_UNAUTHORIZED, "there is none");
	if (strncasecmp(field, scheme, strlen(scheme)) != 0)
		return fail(ERR_UNAUTHORIZED, "the scheme is not Bearer");
	*token = field + strlen(scheme) + strspn(field + strlen(scheme), " ");
	*n = strlen(*token);
	return *n > 0 ? OK : fail(ERR_UNAUTHORIZED, "there is no token behind the scheme");
}

enum err
auth_check(const char *authorization, struct who *who)
{
	struct keyring_keys keys;
	const char *token = "";
	size_t n = 0;
	enum err err;

	if (auth.rules == NULL) {
		auth_grant(WHO_ANYONE, ROLES_ALL, who);
		return OK;
	}
	if ((err = find_token(authorization, &token, &n)) == OK) {
		keyring_take(auth.ring, &keys);
		err = check_token(token, n, &keys, who);
		keyring_drop(auth.ring, &keys);
	}
	if (err == OK || err == ERR_BUSY)
		return err;
	log_refusal();
	return fail(ERR_UNAUTHORIZED, "send a valid token: Authorization: Bearer TOKEN");
}

void
auth_grant(const char *name, unsigned roles, struct who *who)
{
	(void)snprintf(who->name, sizeof(who->name), "%s", name);
	who->roles = roles;
	who->caregiver_id = 0;
	who->expires_s = INT64_MAX;
	who->caregiver_count = 0;
}

enum err
auth_open(const struct conf *conf)
{
	enum err err;

	if (conf->auth.mode == AUTH_OFF)
		return OK;
	if (getrandom(auth.key, sizeof(auth.key), 0) != sizeof(auth.key))
		return fail(ERR_INTERNAL, "no random bytes: %m");
	if ((auth.known = calloc(AUTH_KNOWN_MAX, sizeof(*auth.known))) == NULL)
		return fail(ERR_BUSY, "no memory for tokens");
	for (size_t i = 0; i < LOCKS; i++)
		(void)pthread_mutex_init(&auth.locks[i], NULL);
	if ((err = keyring_open(&conf->auth, &auth.ring)) == OK)
		auth.rules = &conf->auth;
	return err;
}

void
auth_close(void)
{
	for (size_t i = 0; auth.known != NULL && i < AUTH_KNOWN_MAX; i++)
		free(auth.known[i].who);
	free(auth.known);
	keyring_close(auth.ring);
	auth.known = NULL;
	auth.ring = NULL;
	auth.rules = NULL;
}
