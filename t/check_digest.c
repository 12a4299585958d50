#include "test.h"

#include "lib/digest.h"
#include "lib/text.h"

#define ABC "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"

static const char *
hex_of(struct digest *d)
{
	static char hex[2 * DIGEST_BYTES + 1];
	unsigned char bytes[DIGEST_BYTES];

	digest_end(d, bytes);
	text_to_hex(bytes, sizeof(bytes), hex);
	return hex;
}

/* Of the bytes 0, 1, 2, ..., in pieces of so many. */
static const char *
digest_of_run(size_t n, size_t piece)
{
	unsigned char bytes[1024];
	struct digest d;

	for (size_t i = 0; i < n; i++)
		bytes[i] = (unsigned char)i;
	digest_begin(&d);
	for (size_t at = 0; at < n; at += piece)
		digest_add(&d, bytes + at, piece < n - at ? piece : n - at);
	return hex_of(&d);
}

/* As b2sum -l 256 prints them. */
START_TEST(digests_are_blake2b_of_32_bytes)
{
	static const struct {
		size_t n;
		const char *hex;
	} cases[] = {
		{ 0, "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8" },
		{ 1, "03170a2e7597b7b7e3d84c05391d139a62b157e78786d8c082f29dcf4c111314" },
		{ 64, "10d8e6d534b00939843fe9dcc4dae48cdf008f6b8b2b82b156f5404d874887f5" },
		{ 127, "f2fe67ff342e21b8f45e8f2e0bcd1d9243245d50ee6c78042e9c491388791c72" },
		{ 128, "c3582f71ebb2be66fa5dd750f80baae97554f3b015663c8be377cfcb2488c1d1" },
		{ 129, "f7f3c46ba2564ff4c4c162da1f5b605f9f1c4aa6a20652a9f9a337c1a2f5b9c9" },
		{ 256, "39a7eb9fedc19aabc83425c6755dd90e6f9d0c804964a1f4aaeea3b9fb599835" },
		{ 1000, "c636324d47d89f2b2434dc2c994100663fbbaea880ff020fc5de89dd0f77a1ec" },
	};
	static const size_t pieces[] = { 1, 3, 64, 127, 128, 129, 1024 };
	unsigned char bytes[DIGEST_BYTES];
	char hex[2 * DIGEST_BYTES + 1];
	struct digest d;

	digest_begin(&d);
	digest_add(&d, "abc", 3);
	ck_assert_str_eq(hex_of(&d), ABC);
	digest_of("abc", 3, bytes);
	text_to_hex(bytes, sizeof(bytes), hex);
	ck_assert_str_eq(hex, ABC);
	for (size_t i = 0; i < COUNT(cases); i++)
		for (size_t j = 0; j < COUNT(pieces); j++)
			ck_assert_str_eq(digest_of_run(cases[i].n, pieces[j]), cases[i].hex);
}
END_TEST

START_TEST(nothing_added_changes_nothing)
{
	struct digest d;

	digest_begin(&d);
	digest_add(&d, "", 0);
	digest_add(&d, "abc", 3);
	digest_add(&d, NULL, 0);
	ck_assert_str_eq(hex_of(&d), ABC);
}
END_TEST

START_TEST(a_copy_goes_on_alone)
{
	struct digest d, copy;

	digest_begin(&d);
	digest_add(&d, "ab", 2);
	copy = d;
	digest_add(&copy, "x", 1);
	ck_assert_str_ne(hex_of(&copy), ABC);
	copy = d;
	digest_add(&copy, "c", 1);
	ck_assert_str_eq(hex_of(&copy), ABC);
	digest_add(&d, "c", 1);
	ck_assert_str_eq(hex_of(&d), ABC);
}
END_TEST

CHECK_MAIN(digest,
    { digests_are_blake2b_of_32_bytes, nothing_added_changes_nothing, a_copy_goes_on_alone })
