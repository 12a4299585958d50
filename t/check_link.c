#include "test.h"

#include <stdio.h>
#include <sys/stat.h>

#include "lib/link.h"

static char folder[] = "/tmp/check_link.XXXXXX";

static void
begin(const char *secret)
{
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chdir(folder), 0);
	ck_assert_int_eq(mkdir("run", 0700), 0);
	if (secret != NULL)
		link_secret_make(secret);
}

static void
end(void)
{
	(void)unlink(LINK_SECRET_FILE);
	(void)rmdir("run");
	ck_assert_int_eq(rmdir(folder), 0);
}

/* As openssl md5 -binary | openssl base64 | tr +/ -_ | tr -d = has it. */
START_TEST(a_link_is_signed_as_nginx_wants_it)
{
	struct link_secret secret;
	char link[LINK_SIZE];

	begin(LINK_SECRET_HEX);
	ck_assert_int_eq(link_secret_read(&secret), OK);
	link_sign(&secret, "/images/7f/7f00.png", 1795320000, link);
	ck_assert_str_eq(
	    link, "/images/7f/7f00.png?expires=1795320000&signature=dNjDiMV2SPsF-O0vThhZ-A");
	end();
}
END_TEST

START_TEST(every_part_of_it_counts)
{
	struct link_secret secret;
	char link[LINK_SIZE], other[LINK_SIZE];

	begin(LINK_SECRET_HEX);
	ck_assert_int_eq(link_secret_read(&secret), OK);
	link_sign(&secret, "/images/7f/7f00.png", 1795320000, link);
	link_sign(&secret, "/images/7f/7f01.png", 1795320000, other);
	ck_assert_str_ne(strstr(link, "&signature="), strstr(other, "&signature="));
	link_sign(&secret, "/images/7f/7f00.png", 1795320001, other);
	ck_assert_str_ne(strstr(link, "&signature="), strstr(other, "&signature="));
	secret.text[63] = '0';
	link_sign(&secret, "/images/7f/7f00.png", 1795320000, other);
	ck_assert_str_ne(strstr(link, "&signature="), strstr(other, "&signature="));
	end();
}
END_TEST

START_TEST(what_is_no_secret_is_refused)
{
	static const char *const bad[] = { NULL, "", "00", "0011223344556677",
		"00112233445566778899aabbccddeeff00112233445566778899aabbccddeefg",
		"00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF" };
	struct link_secret secret;

	for (size_t i = 0; i < COUNT(bad); i++) {
		(void)stpcpy(folder + strlen(folder) - 6, "XXXXXX");
		begin(bad[i]);
		ck_assert_int_eq(link_secret_read(&secret), ERR_INTERNAL);
		end();
	}
}
END_TEST

CHECK_MAIN(link,
    { a_link_is_signed_as_nginx_wants_it, every_part_of_it_counts, what_is_no_secret_is_refused })
