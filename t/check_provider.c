#include "http_server.h"
#include "tokens.h"

#include <sys/stat.h>

#include "lib/keyring.h"
#include "lib/provider.h"

static char folder[] = "/tmp/check_provider.XXXXXX";
static struct http_server server;
static struct conf conf;
static struct signer one, two;

static void
answer_set(const struct signer *signer)
{
	char text[900];

	(void)snprintf(text, sizeof(text), "{\"keys\":[%s]}", named_key(signer));
	http_server_json(&server, 200, text);
}

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
	http_server_open(&server, NULL);
	conf.auth =
	    (struct conf_auth){ .mode = AUTH_REQUIRED, .jwks = server.url, .jwks_is_url = true };
}

static void
end(void)
{
	provider_close();
	http_server_close(&server);
	(void)unlink(KEYRING_COPY);
	(void)unlink(KEYRING_WANTED);
	(void)rmdir("run/keys");
	(void)rmdir("run/wanted");
	(void)rmdir("run");
	ck_assert_int_eq(rmdir(folder), 0);
	signer_close(&one);
	signer_close(&two);
}

static void
await_requests(unsigned count)
{
	while (http_server_requests(&server) < count)
		(void)usleep(10000);
}

/* The copy has the signer's key. */
static bool
is_kept(const struct signer *signer)
{
	char text[4096] = "";
	FILE *file = fopen(KEYRING_COPY, "r");

	if (file == NULL)
		return false;
	(void)!fread(text, 1, sizeof(text) - 1, file);
	(void)fclose(file);
	return strstr(text, named_key(signer)) != NULL;
}

START_TEST(a_good_set_is_kept_for_those_who_read)
{
	struct stat st;

	begin();
	answer_set(&one);
	ck_assert_int_eq(provider_open(&conf), OK);
	while (!is_kept(&one))
		(void)usleep(10000);
	ck_assert_int_eq(stat(KEYRING_COPY, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	end();
}
END_TEST

static const struct {
	int status;
	const char *body;
} bad_answers[] = { { 500, "{}" }, { 404, "{\"keys\":[]}" }, { 302, "" }, { 200, "" },
	{ 200, "{\"keys\":[]}" }, { 200, "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}" },
	{ 200, "<html>" } };

START_TEST(what_is_no_good_set_changes_nothing)
{
	for (size_t i = 0; i < COUNT(bad_answers); i++) {
		struct stat before, after;
		struct caught caught;

		(void)stpcpy(folder + strlen(folder) - 6, "XXXXXX");
		begin();
		put_file(KEYRING_COPY, named_key(&one));
		ck_assert_int_eq(stat(KEYRING_COPY, &before), 0);
		http_server_json(&server, bad_answers[i].status, bad_answers[i].body);
		caught = stderr_catch();
		ck_assert_int_eq(provider_open(&conf), OK);
		await_requests(1);
		provider_close();
		stderr_release(&caught);
		ck_assert_int_eq(stat(KEYRING_COPY, &after), 0);
		ck_assert(is_kept(&one));
		ck_assert_int_eq(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
		end();
	}
}
END_TEST

START_TEST(a_redirect_is_not_followed)
{
	struct http_server other;
	char bytes[256];

	begin();
	http_server_open(&other, NULL);
	http_server_json(&other, 200, "{}");
	(void)snprintf(bytes, sizeof(bytes),
	    "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", other.url);
	http_server_reply(&server, &(struct http_reply){ .bytes = bytes });
	ck_assert_int_eq(provider_open(&conf), OK);
	await_requests(1);
	provider_close();
	ck_assert_uint_eq(http_server_accepts(&other), 0);
	http_server_close(&other);
	end();
}
END_TEST

/* The same bytes leave the file as it is, but for its time: who reads it need not read it anew. */
START_TEST(the_same_set_is_only_young_again)
{
	const struct timespec times[] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	struct stat before, after;

	begin();
	answer_set(&one);
	ck_assert_int_eq(provider_open(&conf), OK);
	while (!is_kept(&one))
		(void)usleep(10000);
	provider_close();
	ck_assert_int_eq(utimensat(AT_FDCWD, KEYRING_COPY, times, 0), 0);
	ck_assert_int_eq(stat(KEYRING_COPY, &before), 0);
	ck_assert_int_eq(provider_open(&conf), OK);
	do
		ck_assert_int_eq(stat(KEYRING_COPY, &after), 0);
	while (after.st_mtim.tv_sec == 1000 && usleep(10000) == 0);
	ck_assert_uint_eq(before.st_ino, after.st_ino);
	end();
}
END_TEST

START_TEST(one_that_hangs_does_not_keep_a_program_from_ending)
{
	begin();
	http_server_reply(
	    &server, &(struct http_reply){ .bytes = "HTTP/1.1 200 OK\r\n", .then = HTTP_HANG });
	ck_assert_int_eq(provider_open(&conf), OK);
	await_requests(1);
	alarm(5); /* of the 10 seconds that it would have */
	provider_close();
	(void)alarm(0);
	end();
}
END_TEST

START_TEST(without_a_url_nothing_is_fetched)
{
	begin();
	conf.auth.jwks_is_url = false;
	ck_assert_int_eq(provider_open(&conf), OK);
	conf.auth.mode = AUTH_OFF;
	conf.auth.jwks_is_url = true;
	ck_assert_int_eq(provider_open(&conf), OK);
	ck_assert_uint_eq(http_server_accepts(&server), 0);
	end();
}
END_TEST

CHECK_MAIN(provider,
    { a_good_set_is_kept_for_those_who_read, what_is_no_good_set_changes_nothing,
	a_redirect_is_not_followed, the_same_set_is_only_young_again,
	one_that_hangs_does_not_keep_a_program_from_ending, without_a_url_nothing_is_fetched })
