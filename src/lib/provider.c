#include "lib/provider.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/jwk.h"
#include "lib/keyring.h"
#include "lib/log.h"
#include "lib/upstream.h"

#define NEW_COPY KEYRING_COPY ".new"
#define NAME "keys" /* what logs and metrics call it */

static struct {
	struct upstream_config config;
	struct upstream *upstream; /* NULL: nothing is fetched */
	pthread_t thread;
	pthread_mutex_t lock; /* for the condition */
	pthread_cond_t stopped;
	atomic_bool stopping;
	int64_t asked_us; /* monotonic; 0: not yet.  The thread's own, like the next */
	bool failed; /* the last time */
} provider = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Beside it and renamed, so that nobody reads half of it. */
static enum err
keep(const char *bytes, size_t n)
{
	int fd;
	bool whole;

	(void)unlink(NEW_COPY);
	fd = open(NEW_COPY, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return fail(ERR_BUSY, NEW_COPY ": %m");
	whole = write(fd, bytes, n) == (ssize_t)n && fsync(fd) == 0;
	(void)close(fd);
	if (!whole || rename(NEW_COPY, KEYRING_COPY) != 0)
		return fail(ERR_BUSY, KEYRING_COPY ": %m");
	return OK;
}

/* Whether the copy is these bytes. */
static bool
is_kept(const char *bytes, size_t n)
{
	static char there[JWK_SET_MAX + 1]; /* the thread's own */
	int fd = open(KEYRING_COPY, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t got = fd < 0 ? -1 : read(fd, there, sizeof(there));

	if (fd >= 0)
		(void)close(fd);
	return got == (ssize_t)n && memcmp(there, bytes, n) == 0;
}

/* Good is a set with at least one key that can be used.  The same one is only young again. */
static enum err
take(const char *bytes, size_t n)
{
	struct jwk_set *set;
	size_t used, left_out;
	enum err err = jwk_set_parse(bytes, n, &set);

	if (err != OK)
		return err;
	used = jwk_set_count(set, &left_out);
	jwk_set_close(set);
	if (used == 0)
		return fail(ERR_INPUT, "none of its %zu keys can be used", left_out);
	if (is_kept(bytes, n))
		return utimensat(AT_FDCWD, KEYRING_COPY, NULL, 0) == 0
		    ? OK
		    : fail(ERR_BUSY, KEYRING_COPY ": %m");
	return keep(bytes, n);
}

static void
fetch(void)
{
	struct upstream_call call = { .upstream = provider.upstream };
	enum upstream_outcome verdict;
	enum err err;

	provider.asked_us = clock_monotonic_us();
	err =
	    upstream_ask(&call, 1, "", "", provider.asked_us + PROVIDER_WITHIN_S * CLOCK_SECOND_US);
	if (err == OK) {
		verdict = call.outcome == UPSTREAM_ANSWERED && call.status != 200 ? UPSTREAM_STATUS
										  : call.outcome;
		if (verdict == UPSTREAM_ANSWERED && (err = take(call.body, call.n)) != OK)
			verdict = UPSTREAM_MALFORMED;
		upstream_settle(&call, verdict);
		provider.failed = verdict != UPSTREAM_ANSWERED;
	}
	if (err != OK)
		log_event(LOG_WARNING, "keys", "what auth.jwks gives: %s", err_words());
	err_clear();
}

static int64_t
changed_us(const char *path)
{
	struct stat st;

	return stat(path, &st) != 0
	    ? 0
	    : st.st_mtim.tv_sec * CLOCK_SECOND_US + st.st_mtim.tv_nsec / 1000;
}

/* Wanted is what is newer than the copy. */
static bool
is_due(void)
{
	int64_t since_us = clock_monotonic_us() - provider.asked_us;

	if (provider.asked_us == 0)
		return true;
	if (since_us < KEYRING_WANT_EVERY_S * CLOCK_SECOND_US)
		return false;
	return provider.failed || since_us >= PROVIDER_FRESH_S * CLOCK_SECOND_US ||
	    changed_us(KEYRING_WANTED) > changed_us(KEYRING_COPY);
}

static void *
run(void *ctx)
{
	bool stopping;

	do {
		if (is_due())
			fetch();
		(void)pthread_mutex_lock(&provider.lock);
		while (!provider.stopping &&
		    clock_wait(
			&provider.stopped, &provider.lock, clock_monotonic_us() + CLOCK_SECOND_US))
			;
		stopping = provider.stopping;
		(void)pthread_mutex_unlock(&provider.lock);
	} while (!stopping);
	return ctx;
}

enum err
provider_open(const struct conf *conf)
{
	enum err err;

	if (conf->auth.mode == AUTH_OFF || !conf->auth.jwks_is_url)
		return OK;
	provider.config = (struct upstream_config){
		.name = NAME,
		.url = conf->auth.jwks,
		.max_in_flight = 1,
		.body_max = JWK_SET_MAX,
		.private_network = true, /* who names it means it */
		.circuit_failures = UINT32_MAX,
		.circuit_pause_us = CLOCK_SECOND_US,
		.give_up = &provider.stopping,
	};
	if ((err = upstream_open(&provider.config, &provider.upstream)) != OK)
		return err;
	clock_condition_open(&provider.stopped);
	provider.stopping = false;
	provider.asked_us = 0;
	if (pthread_create(&provider.thread, NULL, run, NULL) == 0)
		return OK;
	upstream_close(provider.upstream);
	provider.upstream = NULL;
	return fail(ERR_BUSY, "no thread to fetch keys");
}

void
provider_close(void)
{
	if (provider.upstream == NULL)
		return;
	(void)pthread_mutex_lock(&provider.lock);
	provider.stopping = true;
	(void)pthread_cond_signal(&provider.stopped);
	(void)pthread_mutex_unlock(&provider.lock);
	(void)pthread_join(provider.thread, NULL);
	upstream_close(provider.upstream);
	provider.upstream = NULL;
}
