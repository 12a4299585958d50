#include "test.h"

#include "lib/text.h"

/* A text with its length, since it may hold a NUL. */
#define T(text) text, sizeof(text) - 1

/* Encodes as if every code point up to 0x1fffff had a form. */
static size_t
encode(uint32_t c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

START_TEST(every_code_point_is_one_sequence_and_surrogates_are_none)
{
	char s[5];

	for (uint32_t c = 0; c <= 0x1fffff; c++) {
		bool exists = c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
		size_t n = encode(c, s);

		s[n] = '\x80'; /* what follows does not matter */
		if (text_utf8_sequence(s, n + (n < 4)) != (exists ? n : 0))
			ck_abort_msg("U+%04X", c);
		for (size_t cut = 0; cut < n; cut++)
			if (text_utf8_sequence(s, cut) != 0)
				ck_abort_msg("U+%04X cut to %zu bytes", c, cut);
	}
}
END_TEST

static const struct {
	const char *s;
	size_t n;
} no_utf8[] = {
	{ T("\x80") },
	{ T("\xbf") },
	{ T("\xc0\x80") },
	{ T("\xc0\xaf") },
	{ T("\xc1\xbf") },
	{ T("\xc2") },
	{ T("\xc2\x41") },
	{ T("\xc2\xc2") },
	{ T("\xe0\x80\xaf") },
	{ T("\xe0\x9f\xbf") },
	{ T("\xe2\x82") },
	{ T("\xe2\x82\x41") },
	{ T("\xe2\x41\x82") },
	{ T("\xed\xa0\x80") },
	{ T("\xed\xbf\xbf") },
	{ T("\xf0\x80\x80\xaf") },
	{ T("\xf0\x8f\xbf\xbf") },
	{ T("\xf0\x9f\x98") },
	{ T("\xf0\x9f\x98\x41") },
	{ T("\xf0\x9f\x41\x80") },
	{ T("\xf4\x90\x80\x80") },
	{ T("\xf5\x80\x80\x80") },
	{ T("\xf8\x88\x80\x80\x80") },
	{ T("\xfc\x84\x80\x80\x80\x80") },
	{ T("\xfe") },
	{ T("\xff") },
	{ T("a\xff") },
	{ T("\0\xff") },
	{ T("\xc3\xa9\xc3") },
	{ T("\xc3\xa9\xa9") },
};

START_TEST(bytes_that_are_not_utf8_are_refused)
{
	for (size_t i = 0; i < COUNT(no_utf8); i++)
		ck_assert_msg(!text_utf8_valid(no_utf8[i].s, no_utf8[i].n), "row %zu", i);
}
END_TEST

static const struct {
	const char *s;
	size_t n, length;
} utf8[] = {
	{ T(""), 0 },
	{ T("abc"), 3 },
	{ T("a\0b"), 3 },
	{ T("\xc3\xa9t\xc3\xa9"), 3 },
	{ T("\xe2\x82\xac"), 1 },
	{ T("\xf0\x9f\x98\x80!"), 2 },
	{ T("\xef\xbb\xbf"), 1 },
	{ T("\xed\x9f\xbf\xee\x80\x80"), 2 },
	{ T("\xf4\x8f\xbf\xbf"), 1 },
};

START_TEST(characters_are_counted_not_bytes)
{
	for (size_t i = 0; i < COUNT(utf8); i++) {
		ck_assert_msg(text_utf8_valid(utf8[i].s, utf8[i].n), "row %zu", i);
		ck_assert_uint_eq(text_utf8_length(utf8[i].s, utf8[i].n), utf8[i].length);
	}
}
END_TEST

static const struct {
	const char *s;
	int64_t value;
} uints[] = { { "0", 0 }, { "7", 7 }, { "007", 7 }, { "1234567890", 1234567890 },
	{ "9223372036854775807", INT64_MAX },
	{ "00000000000000000000009223372036854775807", INT64_MAX } };

static const struct {
	const char *s;
	size_t n;
} no_uints[] = {
	{ T("") }, { T(" 1") }, { T("1 ") }, { T("+1") }, { T("-1") }, { T("-0") }, { T("1.0") },
	{ T("1e3") }, { T("0x1") }, { T("12abc") }, { T("1\0") }, { T("1\n") }, { T("1,000") },
	{ T("9223372036854775808") }, { T("18446744073709551616") }, { T("99999999999999999999") },
	{ T("\xd9\xa1") }, /* an Arabic digit */
};

START_TEST(digits_are_read_and_nothing_else)
{
	for (size_t i = 0; i < COUNT(uints); i++) {
		int64_t value = -1;

		ck_assert_msg(text_uint(uints[i].s, strlen(uints[i].s), &value), "%s", uints[i].s);
		ck_assert_int_eq(value, uints[i].value);
	}
	for (size_t i = 0; i < COUNT(no_uints); i++) {
		int64_t value = -7;

		ck_assert_msg(
		    !text_uint(no_uints[i].s, no_uints[i].n, &value), "%s", no_uints[i].s);
		ck_assert_int_eq(value, -7);
	}
}
END_TEST

static const struct {
	const char *s;
	int64_t value;
} whole[] = {
	{ "0", 0 },
	{ "-0", 0 },
	{ "5", 5 },
	{ "-5", -5 },
	{ "5.0", 5 },
	{ "-5.000", -5 },
	{ "5e0", 5 },
	{ "1e3", 1000 },
	{ "1E+3", 1000 },
	{ "1.5e1", 15 },
	{ "1.50e1", 15 },
	{ "10e-1", 1 },
	{ "1000e-3", 1 },
	{ "123000e-3", 123 },
	{ "0.001e3", 1 },
	{ "0.0", 0 },
	{ "0e999999999999", 0 },
	{ "0e-999999999999", 0 },
	{ "0.000e-5", 0 },
	{ "100.00", 100 },
	{ "1.000e0", 1 },
	{ "9223372036854775807", INT64_MAX },
	{ "-9223372036854775808", INT64_MIN },
	{ "9223372036854775807.0", INT64_MAX },
	{ "-9223372036854775808.00e0", INT64_MIN },
	{ "9.223372036854775807e18", INT64_MAX },
	{ "922337203685477580700e-2", INT64_MAX },
	{ "9007199254740993", INT64_C(9007199254740993) }, /* 2^53 + 1: no double */
	{ "9007199254740993.0", INT64_C(9007199254740993) },
	{ "1e18", INT64_C(1000000000000000000) },
	{ "10000000000000000000000e-22", 1 },
	{ "1e00000000000000000000000002", 100 },
};

static const char *const not_whole[] = { "5.5", "0.1", "-0.1", "1e-1", "15e-1", "1.55e1",
	"1e-999999999999999999999", "0.00000000001", "9223372036854775808", "-9223372036854775809",
	"18446744073709551616", "1e19", "1e400", "1e2147483648", "1e99999999999999999999999",
	"-1e19", "9223372036854775807.1", "9223372036854775808.0",
	"1.0000000000000000000000000000001", "99999999999999999999e-1" };

START_TEST(a_number_is_whole_by_its_value_not_by_its_form)
{
	for (size_t i = 0; i < COUNT(whole); i++) {
		int64_t value = -7;

		ck_assert_msg(
		    text_exact_int(whole[i].s, strlen(whole[i].s), &value), "%s", whole[i].s);
		ck_assert_msg(value == whole[i].value, "%s: %lld", whole[i].s, (long long)value);
	}
	for (size_t i = 0; i < COUNT(not_whole); i++) {
		int64_t value = -7;

		ck_assert_msg(!text_exact_int(not_whole[i], strlen(not_whole[i]), &value), "%s",
		    not_whole[i]);
		ck_assert_int_eq(value, -7);
	}
}
END_TEST

static const struct {
	const char *s;
	unsigned scale;
	int64_t value;
	int rounded;
} decimals[] = {
	{ "0", 0, 0, 0 },
	{ "-0", 2, 0, 0 },
	{ "7", 0, 7, 0 },
	{ "7", 2, 700, 0 },
	{ "0.1", 1, 1, 0 },
	{ "0.1", 15, INT64_C(100000000000000), 0 },
	{ "-10.0", 2, -1000, 0 },
	{ "-1e1", 2, -1000, 0 },
	{ "-0.1E+2", 2, -1000, 0 },
	{ "-1000000e-5", 2, -1000, 0 },
	{ "-10.000000000000000000000000000000000000000000000000000", 15,
	    INT64_C(-10000000000000000), 0 },
	{ "-12.345678901234567", 15, INT64_C(-12345678901234567), 0 },
	{ "0e999999999999", 3, 0, 0 },
	{ "0.000e-999999999999", 3, 0, 0 },
	{ "9223372036854775807", 0, INT64_MAX, 0 },
	{ "-9223372036854775808", 0, INT64_MIN, 0 },
	{ "92233720368547758.07", 2, INT64_MAX, 0 },
	{ "-9.223372036854775808e16", 2, INT64_MIN, 0 },
	/* Rounded: above, below, halves to even. */
	{ "0.4", 0, 0, -1 },
	{ "0.6", 0, 1, 1 },
	{ "-0.4", 0, 0, 1 },
	{ "-0.6", 0, -1, -1 },
	{ "0.5", 0, 0, -1 },
	{ "1.5", 0, 2, 1 },
	{ "2.5", 0, 2, -1 },
	{ "-0.5", 0, 0, 1 },
	{ "-1.5", 0, -2, -1 },
	{ "0.50", 0, 0, -1 },
	{ "0.500000000000000000000000001", 0, 1, 1 },
	{ "0.05", 0, 0, -1 },
	{ "0.09", 1, 1, 1 },
	{ "9.99", 1, 100, 1 },
	{ "5e-1", 0, 0, -1 },
	{ "6e-1", 0, 1, 1 },
	{ "6e-2", 0, 0, -1 },
	{ "1e-999999999999", 15, 0, -1 },
	{ "-1e-999999999999", 15, 0, 1 },
	{ "-100.0000000000000000000001", 15, INT64_C(-100000000000000000), 1 },
	{ "-9.9999999999999999999999", 15, INT64_C(-10000000000000000), -1 },
	/* The double nearest to -10.1, with more digits than it takes to tell it. */
	{ "-10.0999999999999996447286321199499070644378662109375", 15, INT64_C(-10100000000000000),
	    -1 },
	{ "9223372036854775807.4", 0, INT64_MAX, -1 },
	{ "-9223372036854775808.4", 0, INT64_MIN, 1 },
};

static const char *const no_decimals[] = { "9223372036854775808", "-9223372036854775809", "1e19",
	"9223372036854775807.5", "-9223372036854775808.6", "1e999999999999", "-1e2147483648",
	"99999999999999999999.9" };

START_TEST(a_decimal_is_exact_or_rounded_to_the_nearest)
{
	int64_t value;
	int rounded;

	for (size_t i = 0; i < COUNT(decimals); i++) {
		const char *s = decimals[i].s;

		ck_assert_msg(
		    text_decimal(s, strlen(s), decimals[i].scale, &value, &rounded), "%s", s);
		ck_assert_msg(value == decimals[i].value && rounded == decimals[i].rounded,
		    "%s: %lld %d", s, (long long)value, rounded);
	}
	for (size_t i = 0; i < COUNT(no_decimals); i++)
		ck_assert_msg(
		    !text_decimal(no_decimals[i], strlen(no_decimals[i]), 0, &value, &rounded),
		    "%s", no_decimals[i]);
}
END_TEST

START_TEST(an_end_is_found_in_either_case_and_is_not_all)
{
	ck_assert(text_ends_with("a.png", ".png"));
	ck_assert(text_ends_with("a.PnG", ".png"));
	ck_assert(text_ends_with(".png.png", ".png"));
	ck_assert(!text_ends_with(".png", ".png"));
	ck_assert(!text_ends_with("a.png ", ".png"));
	ck_assert(!text_ends_with("a.pn", ".png"));
	ck_assert(!text_ends_with("png", ".png"));
	ck_assert(!text_ends_with("", ".png"));
}
END_TEST

START_TEST(hex_digits_are_those_of_both_cases)
{
	for (int c = -128; c < 128; c++) {
		const char *digits = "0123456789abcdefABCDEF";
		const char *at = c == 0 ? NULL : strchr(digits, c);
		int value = at == NULL ? -1 : (int)(at - digits);

		ck_assert_int_eq(text_hex_digit((char)c), value > 15 ? value - 6 : value);
	}
}
END_TEST

START_TEST(hex_is_read_and_written)
{
	static const char *const bad[] = { "0g", "g0", " 0", "0 ", "-1", "0x", "00zz", "0\0" };
	unsigned char bytes[256], back[256];
	char text[513];

	for (int i = 0; i < 256; i++)
		bytes[i] = (unsigned char)i;
	text_to_hex(bytes, sizeof(bytes), text);
	ck_assert_uint_eq(strlen(text), 512);
	ck_assert_int_eq(memcmp(text, "000102", 6), 0);
	ck_assert_str_eq(text + 506, "fdfeff");
	ck_assert(text_hex(text, sizeof(back), back));
	ck_assert_mem_eq(bytes, back, sizeof(bytes));
	ck_assert(text_hex("aBCDefF0", 4, back));
	ck_assert_mem_eq(back, "\xab\xcd\xef\xf0", 4);
	text_to_hex(bytes, 0, text);
	ck_assert_str_eq(text, "");
	ck_assert(text_hex("", 0, back));
	for (size_t i = 0; i < COUNT(bad); i++)
		ck_assert_msg(!text_hex(bad[i], strlen(bad[i]) < 3 ? 1 : 2, back), "%s", bad[i]);
}
END_TEST

static const struct {
	const char *s;
	size_t n;
	const char *escaped;
} escapes[] = {
	{ T(""), "" },
	{ T("plain / 'text'"), "plain / 'text'" },
	{ T("\"\\"), "\\\"\\\\" },
	{ T("\b\t\n\f\r"), "\\b\\t\\n\\f\\r" },
	{ T("\0\x01\x1f\x7f"), "\\u0000\\u0001\\u001f\\u007f" },
	{ T("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80" },
	{ T("a\xff"
	    "b"),
	    "a\xef\xbf\xbd"
	    "b" },
	{ T("\xe2\x82"), "\xef\xbf\xbd\xef\xbf\xbd" },
	{ T("\xc0\xaf"), "\xef\xbf\xbd\xef\xbf\xbd" },
	{ T("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
	{ T("\xc3\""), "\xef\xbf\xbd\\\"" },
};

START_TEST(json_strings_are_escaped)
{
	char out[64];
	size_t n, used;

	for (size_t i = 0; i < COUNT(escapes); i++) {
		n = text_json_escape(escapes[i].s, escapes[i].n, out, sizeof(out), &used);
		ck_assert_uint_eq(used, escapes[i].n);
		ck_assert_uint_eq(n, strlen(escapes[i].escaped));
		ck_assert_mem_eq(out, escapes[i].escaped, n);
	}
}
END_TEST

START_TEST(what_does_not_fit_is_left_for_the_next_call_in_whole_characters)
{
	static const char text[] = "a\"\x01\xc3\xa9\xff\xf0\x9f\x98\x80\n\0z";
	static const char all[] = "a\\\"\\u0001\xc3\xa9\xef\xbf\xbd\xf0\x9f\x98\x80\\n\\u0000z";
	size_t n = sizeof(text) - 1, used;
	char joined[64], out[64];

	for (size_t room = 6; room < sizeof(all) + 2; room++) {
		size_t to = 0;

		for (size_t from = 0; from < n; from += used) {
			size_t written;

			memset(out, '#', sizeof(out));
			written = text_json_escape(text + from, n - from, out, room, &used);
			ck_assert_uint_gt(used, 0);
			ck_assert_uint_le(written, room);
			ck_assert(text_utf8_valid(out, written));
			ck_assert_int_eq(out[written], '#');
			memcpy(joined + to, out, written);
			to += written;
		}
		ck_assert_uint_eq(to, sizeof(all) - 1);
		ck_assert_mem_eq(joined, all, to);
	}
	ck_assert_uint_eq(text_json_escape("\n", 1, out, 1, &used), 0);
	ck_assert_uint_eq(used, 0);
	ck_assert_uint_eq(text_json_escape("a", 1, out, 0, &used), 0);
	ck_assert_uint_eq(used, 0);
}
END_TEST

static const struct {
	const char *s;
	bool plus;
	const char *decoded;
	size_t n;
} decoded[] = { { "", false, T("") }, { "abc", false, T("abc") }, { "a+b", false, T("a+b") },
	{ "a+b", true, T("a b") }, { "%2B", true, T("+") }, { "%20%2f%2F", false, T(" //") },
	{ "%00", false, T("\0") }, { "%25%32%35", false, T("%25") },
	{ "%c3%A9", true, T("\xc3\xa9") }, { "a%", false, NULL, 0 }, { "%2", false, NULL, 0 },
	{ "%%", false, NULL, 0 }, { "%zz", false, NULL, 0 }, { "%2g", false, NULL, 0 },
	{ "% 2", false, NULL, 0 }, { "%-1", false, NULL, 0 }, { "%u0041", false, NULL, 0 },
	{ "ab%4", true, NULL, 0 } };

/* Eight bytes are looked at together: each byte must be seen at each place. */
START_TEST(every_byte_is_escaped_alike_wherever_it_stands)
{
	char text[16], alone[8], out[64], expected[64];
	size_t used, n, length;

	for (int byte = 0; byte < 256; byte++) {
		alone[0] = (char)byte;
		n = text_json_escape(alone, 1, out, sizeof(out), &used);
		for (size_t at = 0; at < sizeof(text); at++) {
			memset(text, 'a', sizeof(text));
			text[at] = (char)byte;
			memset(expected, 'a', sizeof(expected));
			memcpy(expected + at, out, n);
			length = text_json_escape(text, sizeof(text), out + 16, 48, &used);
			ck_assert_uint_eq(used, sizeof(text));
			ck_assert_uint_eq(length, sizeof(text) - 1 + n);
			ck_assert_mem_eq(out + 16, expected, length);
		}
	}
}
END_TEST

START_TEST(integers_are_written_in_digits)
{
	static const struct {
		int64_t value;
		const char *text;
	} cases[] = { { 0, "0" }, { 9, "9" }, { 10, "10" }, { -1, "-1" },
		{ 1234567890, "1234567890" }, { INT64_MAX, "9223372036854775807" },
		{ INT64_MIN, "-9223372036854775808" } };
	char out[TEXT_INT_SIZE];

	for (size_t i = 0; i < COUNT(cases); i++) {
		ck_assert_uint_eq(text_int(cases[i].value, out), strlen(cases[i].text));
		ck_assert_str_eq(out, cases[i].text);
	}
}
END_TEST

START_TEST(percent_escapes_are_decoded_once_in_place)
{
	for (size_t i = 0; i < COUNT(decoded); i++) {
		char s[32];
		size_t n = strlen(decoded[i].s);
		long got;

		memcpy(s, decoded[i].s, n + 1);
		got = text_percent_decode(s, n, decoded[i].plus);
		if (decoded[i].decoded == NULL) {
			ck_assert_msg(got == -1, "%s", decoded[i].s);
			continue;
		}
		ck_assert_msg(got == (long)decoded[i].n, "%s", decoded[i].s);
		ck_assert_mem_eq(s, decoded[i].decoded, decoded[i].n);
	}
}
END_TEST

START_TEST(an_escape_does_not_reach_beyond_the_length)
{
	char s[] = "a%41";

	ck_assert_int_eq(text_percent_decode(s, 3, false), -1);
	ck_assert_int_eq(text_percent_decode(s, 2, false), -1);
	ck_assert_int_eq(text_percent_decode(s, 1, false), 1);
	ck_assert_int_eq(text_percent_decode(s, 0, false), 0);
}
END_TEST

START_TEST(all_but_the_unreserved_is_percent_encoded)
{
	static const char kept[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
	char all[256], out[3 * 256 + 1];
	size_t n;

	ck_assert_uint_eq(text_percent_encode(kept, sizeof(kept) - 1, out), sizeof(kept) - 1);
	ck_assert_str_eq(out, kept);
	ck_assert_uint_eq(text_percent_encode("a/b c\xff", 6, out), 12);
	ck_assert_str_eq(out, "a%2Fb%20c%FF");
	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	n = text_percent_encode(all, sizeof(all), out);
	ck_assert_uint_eq(n, 3 * (256 - (sizeof(kept) - 1)) + sizeof(kept) - 1);
	ck_assert_uint_eq(strlen(out), n);
	ck_assert_int_eq(text_percent_decode(out, n, true), 256);
	ck_assert_mem_eq(out, all, sizeof(all));
}
END_TEST

START_TEST(base64url_has_64_digits_and_no_other_byte)
{
	for (int i = 0; i < 256; i++) {
		const char text[] = { 'a', (char)i, '9' };
		bool digit = i < 128 && i > 0 &&
		    strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", i) !=
			NULL;

		ck_assert_msg(text_is_base64url(text, sizeof(text)) == digit, "%d", i);
	}
	ck_assert(!text_is_base64url("", 0));
}
END_TEST

CHECK_MAIN(text,
    { every_code_point_is_one_sequence_and_surrogates_are_none, bytes_that_are_not_utf8_are_refused,
	characters_are_counted_not_bytes, digits_are_read_and_nothing_else,
	a_number_is_whole_by_its_value_not_by_its_form,
	a_decimal_is_exact_or_rounded_to_the_nearest, an_end_is_found_in_either_case_and_is_not_all,
	hex_digits_are_those_of_both_cases, hex_is_read_and_written, json_strings_are_escaped,
	what_does_not_fit_is_left_for_the_next_call_in_whole_characters,
	every_byte_is_escaped_alike_wherever_it_stands, integers_are_written_in_digits,
	percent_escapes_are_decoded_once_in_place, an_escape_does_not_reach_beyond_the_length,
	all_but_the_unreserved_is_percent_encoded, base64url_has_64_digits_and_no_other_byte })
