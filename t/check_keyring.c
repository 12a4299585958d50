#include "tokens.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include "lib/keyring.h"

#define SECRET_HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define OTHER_HEX "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static char folder[] = "/tmp/check_keyring.XXXXXX";
static struct conf_auth rules;
static struct signer one, two;

static void
begin(void)
{
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chdir(folder), 0);
	ck_assert_int_eq(mkdir("run", 0700), 0);
	ck_assert_int_eq(mkdir("run/keys", 0700), 0);
	ck_assert_int_eq(mkdir("run/wanted", 0700), 0);
	signer_open(&one, "ES256", "one");
	signer_open(&two, "ES256", "two");
	rules = (struct conf_auth){ .mode = AUTH_REQUIRED };
}

static void
end(void)
{
	static const char *const files[] = { "keys.json", "secret", KEYRING_COPY, KEYRING_WANTED };

	for (size_t i = 0; i < COUNT(files); i++)
		(void)unlink(files[i]);
	(void)rmdir("run/keys");
	(void)rmdir("run/wanted");
	(void)rmdir("run");
	ck_assert_int_eq(rmdir(folder), 0);
	signer_close(&one);
	signer_close(&two);
}

static void
put_set(const char *path, const struct signer *signer)
{
	char text[4096];

	(void)snprintf(text, sizeof(text), "{\"keys\":[%s]}", named_key(signer));
	put_file(path, text);
}

/* Whether the ring has the signer's key. */
static bool
knows(struct keyring *ring, const struct signer *signer)
{
	const char *token = signed_token(signer, header_of(signer), "{}");
	struct keyring_keys keys;
	bool found;

	keyring_take(ring, &keys);
	found =
	    jwk_verify(keys.keys.set, signer->name, ALGORITHM_ES256, token, strlen(token)) == OK;
	keyring_drop(ring, &keys);
	return found;
}

static void
await_key(struct keyring *ring, const struct signer *signer)
{
	while (!knows(ring, signer))
		(void)usleep(10000);
}

START_TEST(a_file_that_is_replaced_is_read_again)
{
	struct keyring *ring;
	struct keyring_keys before, after;

	begin();
	put_set("keys.json", &one);
	rules.jwks = "keys.json";
	ck_assert_int_eq(keyring_open(&rules, &ring), OK);
	ck_assert(knows(ring, &one) && !knows(ring, &two));
	keyring_take(ring, &before);
	put_set("keys.json", &two);
	await_key(ring, &two);
	ck_assert(!knows(ring, &one));
	keyring_take(ring, &after);
	ck_assert_int_ne(before.generation, after.generation);
	/* Whoever has the old ones may go on with them. */
	ck_assert_uint_eq(jwk_set_count(before.keys.set, &(size_t){ 0 }), 1);
	keyring_drop(ring, &before);
	keyring_drop(ring, &after);
	keyring_close(ring);
	end();
}
END_TEST

START_TEST(a_file_that_is_broken_or_gone_changes_nothing)
{
	struct keyring *ring;
	struct caught caught;
	char line[4096];

	begin();
	put_set("keys.json", &one);
	rules.jwks = "keys.json";
	ck_assert_int_eq(keyring_open(&rules, &ring), OK);
	caught = stderr_catch();
	put_file("keys.json", "{\"keys\":[]}");
	while (stderr_next(&caught, line, sizeof(line)) == 0)
		ck_assert(knows(ring, &one));
	ck_assert_ptr_nonnull(strstr(line, "none of its 0 keys can be used; the keys before stay"));
	stderr_release(&caught);
	ck_assert_int_eq(unlink("keys.json"), 0);
	ck_assert(knows(ring, &one));
	put_set("keys.json", &two);
	await_key(ring, &two);
	keyring_close(ring);
	end();
}
END_TEST

/* Takes the keys until the first byte of the secret is FIRST. */
static void
await_secret(struct keyring *ring, unsigned first)
{
	struct keyring_keys keys;
	unsigned found;

	do {
		keyring_take(ring, &keys);
		found = keys.keys.secret[0];
		keyring_drop(ring, &keys);
	} while (found != first && usleep(10000) == 0);
}

/* The next line of the log, which has WORDS, while the ring is asked for keys. */
static void
await_line(struct keyring *ring, struct caught *caught, const char *words)
{
	char line[4096];

	while (stderr_next(caught, line, sizeof(line)) == 0) {
		ck_assert(knows(ring, &one));
		(void)usleep(10000);
	}
	ck_assert_msg(strstr(line, words) != NULL, "%s", line);
}

START_TEST(a_file_that_goes_and_comes_back_is_told_once_each)
{
	struct keyring *ring;
	struct caught caught;

	begin();
	put_set("keys.json", &one);
	put_file("secret", SECRET_HEX);
	rules.jwks = "keys.json";
	rules.secret_file = "secret";
	ck_assert_int_eq(keyring_open(&rules, &ring), OK);
	caught = stderr_catch();
	ck_assert_int_eq(rename("keys.json", "away"), 0);
	await_line(ring, &caught, "keys.json: No such file or directory; the keys before stay");
	/* A second later it is looked at again; there is no second line before that of the secret.
	 */
	ck_assert_int_eq(rename("secret", "away.secret"), 0);
	await_line(ring, &caught, "secret: No such file or directory; the keys before stay");
	/* Another secret, which is of use only with the set. */
	put_file("secret", OTHER_HEX);
	ck_assert_int_eq(unlink("away.secret"), 0);
	await_line(ring, &caught, "secret: is there again");
	await_line(ring, &caught, "keys.json: No such file or directory; the keys before stay");
	ck_assert_int_eq(rename("away", "keys.json"), 0);
	await_line(ring, &caught, "keys.json: is there again");
	await_secret(ring, 0xff);
	stderr_release(&caught);
	keyring_close(ring);
	end();
}
END_TEST

START_TEST(without_a_good_file_nothing_is_opened)
{
	static const char *const bad[] = { NULL, "", "{}", "{\"keys\":[{}]}" };
	struct keyring *ring;

	begin();
	rules.jwks = "keys.json";
	for (size_t i = 0; i < COUNT(bad); i++) {
		if (bad[i] != NULL)
			put_file("keys.json", bad[i]);
		ck_assert_int_eq(keyring_open(&rules, &ring), ERR_INPUT);
		ck_assert_ptr_null(ring);
	}
	rules.jwks = "run"; /* a folder */
	ck_assert_int_eq(keyring_open(&rules, &ring), ERR_INPUT);
	end();
}
END_TEST

START_TEST(a_secret_is_hex_digits_that_others_cannot_read)
{
	static const struct {
		const char *text;
		size_t n; /* 0: refused */
	} rows[] = { { SECRET_HEX, 32 }, { SECRET_HEX "\n", 32 }, { SECRET_HEX SECRET_HEX, 64 },
		{ SECRET_HEX SECRET_HEX SECRET_HEX SECRET_HEX, 128 },
		{ SECRET_HEX SECRET_HEX SECRET_HEX SECRET_HEX "00", 0 }, { "", 0 },
		{ SECRET_HEX "0", 0 }, { SECRET_HEX "\n\n", 0 }, { " " SECRET_HEX "0", 0 },
		{ "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e", 0 },
		{ "zz0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", 0 } };
	struct keyring *ring;
	struct keyring_keys keys;

	begin();
	rules.secret_file = "secret";
	for (size_t i = 0; i < COUNT(rows); i++) {
		put_file("secret", rows[i].text);
		ck_assert_int_eq(keyring_open(&rules, &ring), rows[i].n > 0 ? OK : ERR_INPUT);
		if (rows[i].n == 0)
			continue;
		keyring_take(ring, &keys);
		ck_assert_uint_eq(keys.keys.secret_n, rows[i].n);
		ck_assert_uint_eq(keys.keys.secret[1], 1);
		ck_assert_ptr_null(keys.keys.set);
		keyring_drop(ring, &keys);
		keyring_close(ring);
	}
	put_file("secret", SECRET_HEX);
	ck_assert_int_eq(chmod("secret", 0644), 0);
	ck_assert_int_eq(keyring_open(&rules, &ring), ERR_INPUT);
	ck_assert_int_eq(unlink("secret"), 0);
	ck_assert_int_eq(keyring_open(&rules, &ring), ERR_INPUT);
	end();
}
END_TEST

START_TEST(files_are_checked_before_they_are_used)
{
	char set[64], secret[64];

	begin();
	(void)snprintf(set, sizeof(set), "%s/keys.json", folder);
	(void)snprintf(secret, sizeof(secret), "%s/secret", folder);
	ck_assert_int_eq(keyring_check(&rules), OK);
	rules.jwks = set;
	ck_assert_int_eq(keyring_check(&rules), ERR_INPUT);
	ck_assert_ptr_nonnull(strstr(err_words(), "auth.jwks: /tmp/"));
	put_set("keys.json", &one);
	ck_assert_int_eq(keyring_check(&rules), OK);
	rules.secret_file = secret;
	ck_assert_int_eq(keyring_check(&rules), ERR_INPUT);
	ck_assert_ptr_nonnull(strstr(err_words(), "auth.secret_file: /tmp/"));
	put_file("secret", "00");
	ck_assert_int_eq(keyring_check(&rules), ERR_INPUT);
	put_file("secret", SECRET_HEX);
	ck_assert_int_eq(keyring_check(&rules), OK);
	rules.secret_file = CONF_SECRET_FILE; /* made when it is needed */
	ck_assert_int_eq(keyring_check(&rules), OK);
	end();
}
END_TEST

START_TEST(another_secret_is_read_again)
{
	struct keyring *ring;
	struct keyring_keys keys;
	unsigned first;

	begin();
	put_file("secret", SECRET_HEX);
	rules.secret_file = "secret";
	ck_assert_int_eq(keyring_open(&rules, &ring), OK);
	put_file("secret", OTHER_HEX);
	do {
		keyring_take(ring, &keys);
		first = keys.keys.secret[0];
		keyring_drop(ring, &keys);
	} while (first != 0xff && usleep(10000) == 0);
	keyring_close(ring);
	end();
}
END_TEST

START_TEST(a_file_that_could_not_be_read_is_read_once_it_can)
{
	struct rlimit files, none;
	struct keyring *ring;
	struct caught caught;
	char line[4096];

	begin();
	put_file("secret", SECRET_HEX);
	put_set("keys.json", &one);
	rules.secret_file = "secret";
	rules.jwks = "keys.json";
	ck_assert_int_eq(keyring_open(&rules, &ring), OK);
	caught = stderr_catch();
	/* Refused for who may read it, which is mended without another word in it. */
	put_file("secret", OTHER_HEX);
	ck_assert_int_eq(chmod("secret", 0644), 0);
	while (stderr_next(&caught, line, sizeof(line)) == 0)
		ck_assert(knows(ring, &one));
	ck_assert_ptr_nonnull(strstr(line, "open to everybody"));
	ck_assert_int_eq(chmod("secret", 0600), 0);
	await_secret(ring, 0xff);
	/* No descriptor was free as it was looked at. */
	put_set("keys.json", &two);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
	none = (struct rlimit){ 0, files.rlim_max };
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	while (stderr_next(&caught, line, sizeof(line)) == 0 ||
	    strstr(line, "Too many open files") == NULL)
		ck_assert(knows(ring, &one));
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
	await_key(ring, &two);
	stderr_release(&caught);
	keyring_close(ring);
	end();
}
END_TEST

static void
set_age(int64_t age_s)
{
	const struct timespec times[] = { { .tv_sec = time(NULL) - age_s },
		{ .tv_sec = time(NULL) - age_s } };

	ck_assert_int_eq(utimensat(AT_FDCWD, KEYRING_COPY, times, 0), 0);
}

START_TEST(a_copy_may_come_later_and_counts_for_a_day)
{
	struct keyring *ring;
	struct keyring_keys keys;
	int64_t generation;

	begin();
	rules.jwks = "https://issuer.example/keys";
	rules.jwks_is_url = true;
	ck_assert_int_eq(keyring_open(&rules, &ring), OK);
	keyring_take(ring, &keys);
	ck_assert_ptr_null(keys.keys.set);
	keyring_drop(ring, &keys);
	put_set(KEYRING_COPY, &one);
	await_key(ring, &one);
	keyring_take(ring, &keys);
	generation = keys.generation;
	keyring_drop(ring, &keys);
	set_age(KEYRING_STALE_S + 10);
	while (knows(ring, &one))
		(void)usleep(10000);
	keyring_take(ring, &keys);
	ck_assert_int_ne(keys.generation, generation);
	keyring_drop(ring, &keys);
	set_age(KEYRING_STALE_S - 100);
	await_key(ring, &one);
	/* Fetched again and the same: nobody need show his token anew. */
	keyring_take(ring, &keys);
	ck_assert_int_eq(keys.generation, generation);
	keyring_drop(ring, &keys);
	keyring_close(ring);
	/* A start finds it, too. */
	ck_assert_int_eq(keyring_open(&rules, &ring), OK);
	ck_assert(knows(ring, &one));
	keyring_close(ring);
	end();
}
END_TEST

START_TEST(an_unknown_key_is_wanted_only_where_there_is_a_url)
{
	struct keyring *ring;

	begin();
	put_set("keys.json", &one);
	rules.jwks = "keys.json";
	ck_assert_int_eq(keyring_open(&rules, &ring), OK);
	keyring_want(ring);
	ck_assert_int_ne(access(KEYRING_WANTED, F_OK), 0);
	keyring_close(ring);
	rules.jwks_is_url = true;
	ck_assert_int_eq(keyring_open(&rules, &ring), OK);
	keyring_want(ring);
	ck_assert_int_eq(access(KEYRING_WANTED, F_OK), 0);
	ck_assert_int_eq(unlink(KEYRING_WANTED), 0);
	keyring_want(ring); /* not again so soon */
	ck_assert_int_ne(access(KEYRING_WANTED, F_OK), 0);
	keyring_close(ring);
	end();
}
END_TEST

CHECK_MAIN(keyring,
    { a_file_that_is_replaced_is_read_again, a_file_that_is_broken_or_gone_changes_nothing,
	a_file_that_goes_and_comes_back_is_told_once_each, without_a_good_file_nothing_is_opened,
	a_secret_is_hex_digits_that_others_cannot_read, files_are_checked_before_they_are_used,
	another_secret_is_read_again, a_file_that_could_not_be_read_is_read_once_it_can,
	a_copy_may_come_later_and_counts_for_a_day,
	an_unknown_key_is_wanted_only_where_there_is_a_url })
