#include "sent.h"

#include "lib/etag.h"

/* Field values against ETags: whether If-Match (strong comparison, RFC 9110 section 8.8.3.2) and
 * If-None-Match (weak) find the ETag in them. */
static const struct {
	const char *list, *etag;
	bool match, none_match;
} rows[] = {
	/* The table of section 8.8.3.2. */
	{ "W/\"1\"", "W/\"1\"", false, true },
	{ "W/\"1\"", "W/\"2\"", false, false },
	{ "W/\"1\"", "\"1\"", false, true },
	{ "\"1\"", "W/\"1\"", false, true },
	{ "\"1\"", "\"1\"", true, true },
	/* Any. */
	{ "*", "\"1\"", true, true },
	{ "*", "W/\"1\"", true, true },
	{ "*", "\"*\"", true, true },
	{ "\"*\"", "\"*\"", true, true },
	{ "\"*\"", "\"1\"", false, false },
	/* One. */
	{ "\"1-0\"", "\"1-0\"", true, true },
	{ "\"1-1\"", "\"1-0\"", false, false },
	{ "\"1-00\"", "\"1-0\"", false, false },
	{ "\"1-\"", "\"1-0\"", false, false },
	{ "\"A\"", "\"a\"", false, false },
	{ "\"\"", "\"\"", true, true },
	{ "\"\"", "\"1\"", false, false },
	{ "\"\xc3\xa5\"", "\"\xc3\xa5\"", true, true },
	/* Lists. */
	{ "\"a\", \"1\"", "\"1\"", true, true },
	{ "\"1\", \"a\"", "\"1\"", true, true },
	{ "\"a\",\"1\",\"b\"", "\"1\"", true, true },
	{ "\"a\" ,\t\"1\" \t", "\"1\"", true, true },
	{ "\"a\", \"b\"", "\"1\"", false, false },
	{ ", ,\"a\",, \"1\",", "\"1\"", true, true },
	{ "W/\"1\", \"1\"", "\"1\"", true, true },
	{ "W/\"1\", W/\"2\"", "\"1\"", false, true },
	{ "W/\"2\", W/\"1\"", "\"1\"", false, true },
	/* Commas, blanks and stars within quotes are no separators. */
	{ "\"a,1,b\"", "\"1\"", false, false },
	{ "\"a, \", \"1\"", "\"1\"", true, true },
	{ "\"a, \"1\", b\"", "\"1\"", false, false },
	{ "\"1,2\"", "\"1,2\"", true, true },
	{ "\"x\", \"1,2\"", "\"1,2\"", true, true },
	{ "\"1\", \"2\"", "\"1,2\"", false, false },
	{ "\"W/\"", "\"W/\"", true, true },
	{ "\"a*\"", "\"a\"", false, false },
	/* What is no list of tags names nothing. */
	{ "1", "\"1\"", false, false },
	{ "1-0", "\"1-0\"", false, false },
	{ "\"1", "\"1\"", false, false },
	{ "1\"", "\"1\"", false, false },
	{ "\"", "\"1\"", false, false },
	{ "'1'", "\"1\"", false, false },
	{ "w/\"1\"", "\"1\"", false, false },
	{ "W\"1\"", "\"1\"", false, false },
	{ "W/", "\"1\"", false, false },
	{ "W/1", "\"1\"", false, false },
	{ "W/ \"1\"", "\"1\"", false, false },
	{ "W/W/\"1\"", "\"1\"", false, false },
	{ "**", "\"1\"", false, false },
	{ "\"a\", *", "\"1\"", false, false },
	{ "*, \"1\"", "\"1\"", false, false },
	{ "a, \"1\"", "\"1\"", false, false },
	{ "\"a\"; \"1\"", "\"1\"", false, false },
	{ ",", "\"1\"", false, false },
	{ " ", "\"1\"", false, false },
	{ "\\\"1\\\"", "\"1\"", false, false },
};

START_TEST(if_match_compares_strongly)
{
	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct request req = { .if_match = rows[i].list, .if_none_match = "" };
		enum err err = etag_check(&req, rows[i].etag);

		ck_assert_msg(err == (rows[i].match ? OK : ERR_PRECONDITION), "%s of %s",
		    rows[i].etag, rows[i].list);
		if (err != OK)
			ck_assert_str_eq(
			    err_words(), "If-Match does not name the resource as it is now");
	}
}
END_TEST

START_TEST(a_change_is_refused_where_if_none_match_names_what_is_there)
{
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct request req = {
			.if_match = "", .if_none_match = rows[i].list, .method = METHOD_PUT
		};

		ck_assert_msg(
		    etag_check(&req, rows[i].etag) == (rows[i].none_match ? ERR_PRECONDITION : OK),
		    "%s of %s", rows[i].etag, rows[i].list);
		req.method = METHOD_GET; /* for which it is no error */
		ck_assert_int_eq(etag_check(&req, rows[i].etag), OK);
	}
}
END_TEST

/* The form, behind a '.', matters to who has been shown it, not to who changes the resource. */
START_TEST(a_change_is_about_the_version_in_whatever_form)
{
	static const struct {
		const char *list, *etag;
		bool match, none_match;
	} forms[] = {
		{ "\"1-2.abc\"", "\"1-2\"", true, false },
		{ "\"1-2\"", "\"1-2.abc\"", true, false },
		{ "\"1-2.abc\"", "\"1-2.xyz\"", true, false },
		{ "\"1-2.abc\"", "\"1-2.abc\"", true, true },
		{ "\"1-2.\"", "\"1-2\"", true, false },
		{ "W/\"1-2.abc\"", "\"1-2\"", false, false },
		{ "\"1-3.abc\"", "\"1-2.abc\"", false, false },
		{ "\"1-2-3.abc\"", "\"1-2\"", false, false },
		{ "\"1-22\"", "\"1-2.abc\"", false, false },
		{ "\"1.2\", \"1-2.b\"", "\"1-2\"", true, false },
		{ "\".abc\"", "\"1-2\"", false, false },
	};

	for (size_t i = 0; i < COUNT(forms); i++) {
		const struct request match = {
			.if_match = forms[i].list, .if_none_match = "", .method = METHOD_PUT
		};
		const struct request reads = { .if_match = "", .if_none_match = forms[i].list };

		ck_assert_msg(
		    etag_check(&match, forms[i].etag) == (forms[i].match ? OK : ERR_PRECONDITION),
		    "%s of %s", forms[i].etag, forms[i].list);
		response_open(&res, take, NULL);
		ck_assert_msg(etag_unchanged(&reads, &res, forms[i].etag) == forms[i].none_match,
		    "%s of %s", forms[i].etag, forms[i].list);
	}
}
END_TEST

START_TEST(if_none_match_compares_weakly_and_answers_304)
{
	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct request req = { .if_match = "", .if_none_match = rows[i].list };
		bool high = strchr(rows[i].etag, '\xc3') != NULL;

		sent[0] = '\0';
		response_open(&res, take, NULL);
		ck_assert_msg(
		    etag_unchanged(&req, &res, rows[i].etag) == (rows[i].none_match && !high),
		    "%s of %s", rows[i].etag, rows[i].list);
		ck_assert(res.begun == (rows[i].none_match && !high));
		if (!res.begun)
			continue;
		ck_assert_int_eq(res.status, 304);
		ck_assert(response_end(&res));
		ck_assert_ptr_nonnull(strstr(sent, "Status: 304"));
		ck_assert_ptr_nonnull(strstr(sent, "\r\nCache-Control: no-cache\r\n"));
		ck_assert_ptr_nonnull(strstr(sent, "\r\nETag: "));
		ck_assert_ptr_nonnull(strstr(sent, rows[i].etag));
		ck_assert_ptr_null(strstr(sent, "Content-Type"));
	}
}
END_TEST

START_TEST(without_the_field_there_is_no_condition)
{
	const struct request req = { .if_match = "", .if_none_match = "" };

	response_open(&res, take, NULL);
	ck_assert_int_eq(etag_check(&req, "\"1\""), OK);
	ck_assert(!etag_unchanged(&req, &res, "\"1\""));
	ck_assert(!res.begun);
}
END_TEST

START_TEST(a_stored_resource_is_sent_with_its_etag_and_no_cache)
{
	sent[0] = '\0';
	response_open(&res, take, NULL);
	ck_assert_int_eq(etag_begin(&res, "application/json", "\"7-0\""), OK);
	ck_assert(response_end(&res));
	ck_assert_ptr_nonnull(strstr(sent, "Status: 200"));
	ck_assert_ptr_nonnull(strstr(sent, "\r\nContent-Type: application/json\r\n"));
	ck_assert_ptr_nonnull(strstr(sent, "\r\nETag: \"7-0\"\r\n"));
	ck_assert_ptr_nonnull(strstr(sent, "\r\nCache-Control: no-cache\r\n"));
	ck_assert_ptr_null(strstr(sent, "no-store"));
	response_open(&res, take, NULL);
	ck_assert_int_eq(etag_begin(&res, "application/json", "\"7\r\nx: y\""), ERR_INTERNAL);
}
END_TEST

/* The ETag of a list of one or two. */
static const char *
etag_of(const char *first, const char *second, bool more)
{
	static char etag[ETAG_MAX];
	struct etag_list list;

	etag_list_begin(&list);
	etag_list_add(&list, first);
	if (second != NULL)
		etag_list_add(&list, second);
	etag_list_end(&list, more, etag);
	return etag;
}

START_TEST(a_list_has_the_etag_of_what_it_shows)
{
	char etag[ETAG_MAX];

	(void)stpcpy(etag, etag_of("\"1-0\"", "\"2-0\"", false));
	ck_assert_uint_eq(strlen(etag), 2 * DIGEST_BYTES + 2);
	ck_assert(etag[0] == '"' && strcspn(etag + 1, "\"") == 2 * DIGEST_BYTES);
	ck_assert_str_eq(etag, etag_of("\"1-0\"", "\"2-0\"", false));
	ck_assert_str_ne(etag, etag_of("\"1-0\"", "\"2-0\"", true));
	ck_assert_str_ne(etag, etag_of("\"1-0\"", "\"2-1\"", false));
	ck_assert_str_ne(etag, etag_of("\"2-0\"", "\"1-0\"", false));
	ck_assert_str_ne(etag, etag_of("\"1-0\"", NULL, false));
}
END_TEST

CHECK_MAIN(etag,
    { if_match_compares_strongly, a_change_is_refused_where_if_none_match_names_what_is_there,
	a_change_is_about_the_version_in_whatever_form,
	if_none_match_compares_weakly_and_answers_304, without_the_field_there_is_no_condition,
	a_stored_resource_is_sent_with_its_etag_and_no_cache,
	a_list_has_the_etag_of_what_it_shows })
