#include "test.h"

#include "lib/digest.h"
#include "lib/text.h"

static const char *
digest_of(const char *s, size_t cut)
{
	static char hex[2 * DIGEST_BYTES + 1];
	unsigned char bytes[DIGEST_BYTES];
	struct digest d;

	digest_begin(&d);
	digest_add(&d, s, cut);
	digest_add(&d, s + cut, strlen(s) - cut);
	digest_end(&d, bytes);
	text_to_hex(bytes, sizeof(bytes), hex);
	return hex;
}

/* As b2sum -l 256 prints them. */
START_TEST(digests_are_blake2b)
{
	ck_assert_str_eq(
	    digest_of("", 0), "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
	ck_assert_str_eq(digest_of("abc", 0),
	    "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
}
END_TEST

START_TEST(pieces_do_not_matter)
{
	for (size_t cut = 0; cut <= 3; cut++)
		ck_assert_str_eq(digest_of("abc", cut),
		    "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
}
END_TEST

CHECK_MAIN(digest, { digests_are_blake2b, pieces_do_not_matter })
