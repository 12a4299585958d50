#include "lib/keyring.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/digest.h"
#include "lib/log.h"
#include "lib/text.h"

#define SECRET_TEXT_MAX (2 * TOKEN_SECRET_MAX + 1) /* and the end of its line */

/* A file as it was when it was looked at last. */
struct source {
	const char *path; /* NULL: there is none */
	bool known, gone; /* it was there; and is not now */
	struct stat st;
};

/* Keys that belong together. */
struct keyring_shelf {
	unsigned users; /* the ring itself is one */
	unsigned char digest[DIGEST_BYTES]; /* of all bytes it was made of */
	struct jwk_set *set;
	size_t secret_n;
	unsigned char secret[TOKEN_SECRET_MAX];
};

struct keyring {
	const struct conf_auth *rules;
	pthread_mutex_t looking; /* of the next four; nobody waits for it */
	struct source set, secret;
	bool unread; /* a file changed, and could not be read for a cause that may pass */
	int64_t looked_us;
	atomic_llong wanted_us;
	pthread_mutex_t lock; /* of all below; held for moments */
	struct keyring_shelf *shelf;
	int64_t fetched_s; /* the copy's age counts from here */
	int64_t generation;
};

/* --- Reading. */

/* The whole file, at most MAX bytes; yours to free.  It may be a FIFO that nobody writes. */
static enum err
read_file(const char *path, size_t max, char **bytes, size_t *n)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	ssize_t got = -1;
	enum err err = OK;

	*bytes = NULL;
	if (fd < 0)
		return fail(
		    errno == EMFILE || errno == ENFILE || errno == ENOMEM ? ERR_BUSY : ERR_INPUT,
		    "%s: %m", path);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (size_t)st.st_size > max)
		err = fail(ERR_INPUT, "%s: must be a file of at most %zu bytes", path, max);
	else if ((*bytes = calloc(1, max + 1)) == NULL)
		err = fail(ERR_BUSY, "no memory for %s", path);
	else if ((got = read(fd, *bytes, max)) < 0)
		err = fail(ERR_INPUT, "%s: %m", path);
	(void)close(fd);
	*n = got < 0 ? 0 : (size_t)got;
	if (err != OK) {
		free(*bytes);
		*bytes = NULL;
	}
	return err;
}

static enum err
read_set(const char *path, struct jwk_set **set, struct digest *digest)
{
	size_t n, used, left_out;
	char *bytes;
	enum err err;

	*set = NULL;
	if ((err = read_file(path, JWK_SET_MAX, &bytes, &n)) != OK)
		return err;
	digest_add(digest, bytes, n);
	if ((err = jwk_set_parse(bytes, n, set)) != OK)
		err = fail(err, "%s: is no set of keys: %s", path, err_words());
	free(bytes);
	if (err != OK)
		return err;
	used = jwk_set_count(*set, &left_out);
	if (used == 0) {
		jwk_set_close(*set);
		*set = NULL;
		return fail(ERR_INPUT, "%s: none of its %zu keys can be used", path, left_out);
	}
	return OK;
}

/* Hex digits, and perhaps the end of the line. */
static enum err
read_secret(const struct source *source, struct keyring_shelf *shelf)
{
	char *text;
	size_t n;
	enum err err;

	if ((source->st.st_mode & (S_IROTH | S_IWOTH)) != 0)
		return fail(
		    ERR_INPUT, "%s: is open to everybody, so it is no secret", source->path);
	if ((err = read_file(source->path, SECRET_TEXT_MAX, &text, &n)) != OK)
		return err;
	n -= n > 0 && text[n - 1] == '\n';
	if (n % 2 != 0 || n < 2 * TOKEN_SECRET_MIN || n > 2 * TOKEN_SECRET_MAX ||
	    !text_hex(text, n / 2, shelf->secret))
		err = fail(ERR_INPUT, "%s: must hold %d..%d hex digits", source->path,
		    2 * TOKEN_SECRET_MIN, 2 * TOKEN_SECRET_MAX);
	else
		shelf->secret_n = n / 2;
	explicit_bzero(text, SECRET_TEXT_MAX);
	free(text);
	return err;
}

static enum err
check_secret(const char *path)
{
	struct source source = { .path = path };
	struct keyring_shelf shelf;
	enum err err;

	if (stat(path, &source.st) != 0)
		return fail(ERR_INPUT, "%s: %m", path);
	err = read_secret(&source, &shelf);
	explicit_bzero(&shelf, sizeof(shelf));
	return err;
}

enum err
keyring_check(const struct conf_auth *rules)
{
	struct digest digest;
	struct jwk_set *set = NULL;
	enum err err = OK;

	digest_begin(&digest);
	if (rules->jwks != NULL && !rules->jwks_is_url &&
	    (err = read_set(rules->jwks, &set, &digest)) != OK)
		err = fail(err, "auth.jwks: %s", err_words());
	jwk_set_close(set);
	if (err == OK && rules->secret_file != NULL && rules->secret_file[0] == '/' &&
	    (err = check_secret(rules->secret_file)) != OK)
		err = fail(err, "auth.secret_file: %s", err_words());
	return err;
}

/* --- The shelf in use. */

static void
shelf_close(struct keyring_shelf *shelf)
{
	if (shelf == NULL)
		return;
	jwk_set_close(shelf->set);
	explicit_bzero(shelf->secret, sizeof(shelf->secret));
	free(shelf);
}

/* With the lock held. */
static void
leave(struct keyring_shelf *shelf)
{
	if (shelf != NULL && --shelf->users == 0)
		shelf_close(shelf);
}

static void
replace(struct keyring *ring, struct keyring_shelf *shelf)
{
	shelf->users = 1;
	(void)pthread_mutex_lock(&ring->lock);
	leave(ring->shelf);
	ring->shelf = shelf;
	ring->generation++;
	(void)pthread_mutex_unlock(&ring->lock);
}

/* How many keys were left out is for whoever misses one. */
static void
log_keys(const struct keyring_shelf *shelf)
{
	size_t left_out = 0, used = shelf->set == NULL ? 0 : jwk_set_count(shelf->set, &left_out);

	log_event(LOG_INFO, "keys", "%zu keys are used, %zu left out; a secret of %zu bytes", used,
	    left_out, shelf->secret_n);
}

/* Whether it is what is in use. */
static bool
is_in_use(const struct keyring *ring, const struct keyring_shelf *shelf)
{
	/* Only who looks, as we do, puts another one there. */
	return ring->shelf != NULL && memcmp(ring->shelf->digest, shelf->digest, DIGEST_BYTES) == 0;
}

/* Reads all anew, so that a shelf is either whole or not there.  The same keys in another file are
 * no news: tokens stay known. */
static enum err
load(struct keyring *ring)
{
	struct keyring_shelf *shelf = calloc(1, sizeof(*shelf));
	struct digest digest;
	enum err err = OK;

	if (shelf == NULL)
		return fail(ERR_BUSY, "no memory for keys");
	digest_begin(&digest);
	if (ring->set.known)
		err = read_set(ring->set.path, &shelf->set, &digest);
	if (err == OK && ring->secret.known)
		err = read_secret(&ring->secret, shelf);
	digest_add(&digest, shelf->secret, shelf->secret_n);
	digest_end(&digest, shelf->digest);
	if (err != OK || is_in_use(ring, shelf)) {
		shelf_close(shelf);
		return err;
	}
	log_keys(shelf);
	replace(ring, shelf);
	return OK;
}

/* A copy that was never there is none that is gone; keyring_open() says what must be. */
static void
log_gone(struct source *source, bool gone)
{
	if (!source->known || source->gone == gone)
		return;
	source->gone = gone;
	if (gone)
		log_event(LOG_WARNING, "keys", "%s: %m; the keys before stay", source->path);
	else
		log_event(LOG_INFO, "keys", "%s: is there again", source->path);
}

/* Whether the file is another than it was, or may be read by others.  One that is gone is not: what
 * it held stays. */
static bool
has_changed(struct source *source)
{
	struct stat st;
	bool changed, gone, back;

	if (source->path == NULL)
		return false;
	gone = stat(source->path, &st) != 0;
	back = source->gone && !gone; /* what changed meanwhile was not taken in */
	log_gone(source, gone);
	if (gone)
		return false;
	changed = back || !source->known || st.st_ino != source->st.st_ino ||
	    st.st_dev != source->st.st_dev || st.st_size != source->st.st_size ||
	    st.st_mtim.tv_sec != source->st.st_mtim.tv_sec ||
	    st.st_mtim.tv_nsec != source->st.st_mtim.tv_nsec ||
	    st.st_ctim.tv_sec != source->st.st_ctim.tv_sec ||
	    st.st_ctim.tv_nsec != source->st.st_ctim.tv_nsec;
	source->st = st;
	source->known = true;
	return changed;
}

static enum err
look(struct keyring *ring)
{
	bool set = has_changed(&ring->set), secret = has_changed(&ring->secret);
	enum err err;

	if (!set && !secret && !ring->unread)
		return OK;
	(void)pthread_mutex_lock(&ring->lock);
	ring->fetched_s = ring->set.st.st_mtim.tv_sec;
	(void)pthread_mutex_unlock(&ring->lock);
	err = load(ring);
	ring->unread = err == ERR_BUSY;
	return err;
}

/* One of those who come does it; the others go on with what there is. */
static void
look_again(struct keyring *ring)
{
	int64_t now_us = clock_monotonic_us();

	if (pthread_mutex_trylock(&ring->looking) != 0)
		return;
	if (now_us - ring->looked_us >= CLOCK_SECOND_US) {
		ring->looked_us = now_us;
		if (look(ring) != OK)
			log_event(LOG_WARNING, "keys", "%s; the keys before stay", err_words());
		err_clear();
	}
	(void)pthread_mutex_unlock(&ring->looking);
}

enum err
keyring_open(const struct conf_auth *rules, struct keyring **out)
{
	struct keyring *ring = calloc(1, sizeof(*ring));
	enum err err;

	*out = NULL;
	if (ring == NULL)
		return fail(ERR_BUSY, "no memory for keys");
	ring->rules = rules;
	ring->set.path = rules->jwks_is_url ? KEYRING_COPY : rules->jwks;
	ring->secret.path = rules->secret_file;
	(void)pthread_mutex_init(&ring->looking, NULL);
	(void)pthread_mutex_init(&ring->lock, NULL);
	ring->looked_us = clock_monotonic_us();
	err = look(ring);
	if (err == OK && ring->set.path != NULL && !ring->set.known && !rules->jwks_is_url)
		err = fail(ERR_INPUT, "auth.jwks %s: %m", ring->set.path);
	else if (err == OK && ring->secret.path != NULL && !ring->secret.known)
		err = fail(ERR_INPUT, "auth.secret_file %s: %m", ring->secret.path);
	else if (err != OK && rules->jwks_is_url) {
		log_event(LOG_WARNING, "keys", "%s", err_words());
		err = OK; /* a better one may come */
	}
	if (err != OK)
		keyring_close(ring);
	else
		*out = ring;
	return err;
}

void
keyring_close(struct keyring *ring)
{
	if (ring == NULL)
		return;
	leave(ring->shelf);
	(void)pthread_mutex_destroy(&ring->lock);
	(void)pthread_mutex_destroy(&ring->looking);
	free(ring);
}

/* A copy that is too old is none; so the keys are others. */
void
keyring_take(struct keyring *ring, struct keyring_keys *keys)
{
	int64_t now_s = clock_now_us() / CLOCK_SECOND_US;
	bool stale;

	look_again(ring);
	(void)pthread_mutex_lock(&ring->lock);
	stale = ring->rules->jwks_is_url && now_s - ring->fetched_s > KEYRING_STALE_S;
	*keys =
	    (struct keyring_keys){ .generation = 2 * ring->generation + stale, .of = ring->shelf };
	if (ring->shelf != NULL) {
		ring->shelf->users++;
		keys->keys = (struct token_keys){ stale ? NULL : ring->shelf->set,
			ring->shelf->secret, ring->shelf->secret_n };
	}
	(void)pthread_mutex_unlock(&ring->lock);
}

void
keyring_drop(struct keyring *ring, struct keyring_keys *keys)
{
	(void)pthread_mutex_lock(&ring->lock);
	leave(keys->of);
	(void)pthread_mutex_unlock(&ring->lock);
	keys->of = NULL;
}

void
keyring_want(struct keyring *ring)
{
	int64_t now_us = clock_monotonic_us();
	long long last_us = atomic_load(&ring->wanted_us);
	int fd;

	if (!ring->rules->jwks_is_url ||
	    (last_us != 0 && now_us - last_us < KEYRING_WANT_EVERY_S * CLOCK_SECOND_US) ||
	    !atomic_compare_exchange_strong(&ring->wanted_us, &last_us, now_us))
		return;
	fd = open(KEYRING_WANTED, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || futimens(fd, NULL) != 0)
		log_event(LOG_WARNING, "keys", KEYRING_WANTED ": %m");
	if (fd >= 0)
		(void)close(fd);
}
