#include "test.h"

#include "lib/email.h"
#include "lib/text.h"

static char out[EMAIL_SIZE];

static enum err
fold(const char *s, size_t n)
{
	size_t out_n = 0;
	enum err err;

	err_clear();
	if ((err = email_fold(s, n, out, &out_n)) == OK)
		ck_assert_uint_eq(out_n, strlen(out));
	return err;
}

/* TIMES of PIECE behind the N characters of TO. */
static size_t
add(char *to, size_t n, const char *piece, size_t times)
{
	for (size_t i = 0; i < times; i++, n += strlen(piece))
		memcpy(to + n, piece, strlen(piece) + 1);
	return n;
}

#define U "\xc3\xbc" /* u with two dots */
#define BIG_U "\xc3\x9c"
#define GRIN "\xf0\x9f\x98\x80"

static const struct {
	const char *email, *folded; /* NULL: as it was */
} folds[] = {
	{ "a@b", NULL }, { "A.B+c@Example.COM", "A.B+c@example.com" }, { " @ ", NULL },
	/* The domain follows the last @; what precedes it is left alone. */
	{ "A@B@C", "A@B@c" }, { "@@b", NULL }, { BIG_U "@" BIG_U, BIG_U "@xn--tda" },
	{ "x@" U "@B", "x@" U "@b" },
	/* No normal form is made of it: two ways to write one letter are two names. */
	{ "u\xcc\x88@b", NULL },
	/* IDN: one form whatever the case, the width and the way in which it is written. */
	{ "x@b" U "cher.example", "x@xn--bcher-kva.example" },
	{ "x@B" BIG_U "CHER.Example", "x@xn--bcher-kva.example" },
	{ "x@bu\xcc\x88"
	  "cher.example",
	    "x@xn--bcher-kva.example" },
	{ "x@xn--BCHER-KVA.Example", "x@xn--bcher-kva.example" },
	{ "x@b" U "cher\xe3\x80\x82"
	  "example",
	    "x@xn--bcher-kva.example" }, /* an ideographic full stop */
	{ "x@\xef\xbd\x85xample.com", "x@example.com" }, /* a wide e */
	{ "x@\xef\xac\x81.com", "x@fi.com" }, /* a ligature */
	{ "x@" U "\xc2\xad.de", "x@xn--tda.de" }, /* a soft hyphen */
	{ "x@fa\xc3\x9f.de", "x@xn--fa-hia.de" }, /* sharp s is a letter of its own */
	{ "x@FASS.de", "x@fass.de" },
	{ "x@\xcf\x82.gr", "x@xn--3xa.gr" }, /* and so is the final sigma */
	{ "x@\xe4\xb8\xad\xe6\x96\x87.\xe4\xb8\xad\xe5\x9b\xbd", "x@xn--fiq228c.xn--fiqs8s" },
	{ "x@\xd7\x90\xd7\x91\xd7\x92.com", "x@xn--4dbcd.com" }, /* from right to left */
	/* Mixed scripts: a Cyrillic a is no Latin one. */
	{ "x@\xd0\xb0pple.com", "x@xn--pple-43d.com" },
	/* Dots at the end, and empty labels, stay. */
	{ "x@Example.com.", "x@example.com." }, { "x@b" U "cher.de.", "x@xn--bcher-kva.de." },
	{ "x@..A", "x@..a" }, { "x@" U "..de", "x@xn--tda..de" },
	/* An ASCII domain is not looked at. */
	{ "x@[127.0.0.1]", NULL }, { "x@[IPv6:FE80::1]", "x@[ipv6:fe80::1]" }, { "x@xn--a", NULL },
	{ "x@-A-", "x@-a-" }, { "x@a b!\t\x7f\"", NULL },
	/* No IDN: only ASCII letters are folded. */
	{ "x@" GRIN ".LA", "x@" GRIN ".la" }, { "x@I\xe2\x99\xa5NY.com", "x@i\xe2\x99\xa5ny.com" },
	{ "x@-" U ".De", "x@-" U ".de" }, { "x@xn--A." U, "x@xn--a." U },
	{ "x@\xd7\x90"
	  "ABC.com",
	    "x@\xd7\x90"
	    "abc.com" }, /* both directions in a label */
	{ "x@0\xd7\x90.com", NULL },
	{ "x@" U "\xe2\x80\x8d.de", NULL }, /* a joiner where it joins nothing */
	{ "x@\xc2\xad", NULL },
	/* Characters that no host name has are neither left out nor made of others. */
	{ "x@a b." U, NULL }, { "x@a!b." U, NULL }, { "x@_a." U, NULL }, { "x@[" U "]", NULL },
	{ "x@\xef\xbd\x81\xef\xbc\xa0\xef\xbd\x82", NULL }, /* a wide @ */
};

START_TEST(only_the_domain_is_folded)
{
	for (size_t i = 0; i < COUNT(folds); i++) {
		const char *email = folds[i].email, *to = folds[i].folded;

		ck_assert_msg(fold(email, strlen(email)) == OK, "%s: %s", email, err_words());
		ck_assert_str_eq(out, to != NULL ? to : email);
	}
}
END_TEST

START_TEST(to_fold_twice_is_to_fold_once)
{
	for (size_t i = 0; i < COUNT(folds); i++) {
		char once[EMAIL_SIZE];

		ck_assert_int_eq(fold(folds[i].email, strlen(folds[i].email)), OK);
		(void)stpcpy(once, out);
		ck_assert_int_eq(fold(once, strlen(once)), OK);
		ck_assert_str_eq(out, once);
	}
}
END_TEST

START_TEST(what_is_no_address_is_refused)
{
	static const char *const rows[] = { "", "@", "a@", "@b", "a", "a@b@", "example.com", U };

	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_assert_msg(fold(rows[i], strlen(rows[i])) == ERR_INPUT, "%s", rows[i]);
		ck_assert_str_eq(err_words(), "must be something, @, something");
	}
}
END_TEST

START_TEST(only_so_many_bytes_are_looked_at)
{
	ck_assert_int_eq(fold("a@bC@d", 4), OK);
	ck_assert_str_eq(out, "a@bc");
	ck_assert_int_eq(fold("a@b@c", 4), ERR_INPUT);
	ck_assert_int_eq(fold("a@b", 2), ERR_INPUT);
}
END_TEST

START_TEST(labels_and_domains_that_are_too_long_stay)
{
	static const struct {
		size_t letters, labels;
		bool folded;
	} rows[] = { { 57, 1, true }, { 58, 1, false }, { 63, 1, false }, { 30, 6, true },
		{ 50, 5, false }, { 1, 128, false }, { 255, 1, false }, { 4000, 1, false } };
	static char email[4 * EMAIL_SIZE];

	for (size_t i = 0; i < COUNT(rows); i++) {
		size_t n = add(email, 0, "x@", 1);

		for (size_t label = 0; label < rows[i].labels; label++) {
			n = add(email, n, ".", label > 0);
			n = add(email, n, U, rows[i].letters);
		}
		ck_assert_int_eq(fold(email, n), OK);
		ck_assert_msg(
		    (strncmp(out, "x@xn--", 6) == 0) == rows[i].folded, "%zu: %s", i, out);
		ck_assert_msg((strcmp(out, email) == 0) != rows[i].folded, "%zu: %s", i, out);
	}
}
END_TEST

START_TEST(an_address_has_up_to_4096_characters_before_and_after)
{
	static const struct {
		const char *letter;
		size_t letters;
		const char *rest;
		enum err err;
	} rows[] = {
		{ "x", EMAIL_MAX - 2, "@b", OK },
		{ "x", EMAIL_MAX - 1, "@b", ERR_INPUT },
		{ GRIN, EMAIL_MAX - 2, "@B", OK },
		{ GRIN, EMAIL_MAX - 1, "@B", ERR_INPUT },
		/* "xn--tda" has six more. */
		{ GRIN, EMAIL_MAX - 8, "@" U, OK },
		{ GRIN, EMAIL_MAX - 7, "@" U, ERR_INPUT },
		{ GRIN, EMAIL_MAX - 2, "@" U, ERR_INPUT },
	};
	static char email[2 * EMAIL_SIZE];

	for (size_t i = 0; i < COUNT(rows); i++) {
		size_t n =
		    add(email, add(email, 0, rows[i].letter, rows[i].letters), rows[i].rest, 1);

		ck_assert_msg(fold(email, n) == rows[i].err, "%zu", i);
		if (rows[i].err == OK)
			ck_assert_uint_le(text_utf8_length(out, strlen(out)), EMAIL_MAX);
		else
			ck_assert_ptr_nonnull(strstr(err_words(), "at most 4096 characters"));
	}
	/* A domain as long as that. */
	memset(email, 'B', EMAIL_MAX);
	memcpy(email, "x@", 2);
	ck_assert_int_eq(fold(email, EMAIL_MAX), OK);
	ck_assert_uint_eq(strspn(out + 2, "b"), EMAIL_MAX - 2);
}
END_TEST

CHECK_MAIN(email,
    { only_the_domain_is_folded, to_fold_twice_is_to_fold_once, what_is_no_address_is_refused,
	only_so_many_bytes_are_looked_at, labels_and_domains_that_are_too_long_stay,
	an_address_has_up_to_4096_characters_before_and_after })
