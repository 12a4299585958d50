#include "sent.h"

#include <stdio.h>

#include "lib/page.h"
#include "lib/text.h"

static struct request req;
static void
begin(const char *uri)
{
	static char meta_uri[REQUEST_QUERY_MAX];
	char *const meta[] = { (char *)"REQUEST_METHOD=GET", meta_uri, NULL };
	const struct request_source source = { meta, NULL, NULL };

	(void)snprintf(meta_uri, sizeof(meta_uri), "REQUEST_URI=%s", uri);
	err_clear();
	ck_assert_msg(request_begin(&req, &source) == OK, "%s", uri);
}

/* The page that a query asks for, and what was wrong with it. */
static struct page
read_page(const char *query, enum err *err)
{
	struct page page = { -1, -1 };
	char uri[1024];

	(void)snprintf(uri, sizeof(uri), "/events?%s", query);
	begin(uri);
	page_read(&req, &page);
	*err = err_pending();
	return page;
}

static const struct {
	const char *query;
	int64_t limit;
} limits[] = {
	{ "", PAGE_LIMIT_DEFAULT },
	{ "x=1", PAGE_LIMIT_DEFAULT },
	{ "Limit=7", PAGE_LIMIT_DEFAULT },
	{ "limit=1", 1 },
	{ "limit=100", 100 },
	{ "limit=1000", PAGE_LIMIT_MAX },
	{ "limit=007", 7 },
	{ "li%6Dit=%37", 7 },
};

START_TEST(a_limit_is_taken_within_its_bounds)
{
	for (size_t i = 0; i < COUNT(limits); i++) {
		enum err err;
		struct page page = read_page(limits[i].query, &err);

		ck_assert_msg(err == OK, "%s: %s", limits[i].query, err_words());
		ck_assert_msg(page.limit == limits[i].limit, "%s", limits[i].query);
		ck_assert_int_eq(page.after, 0);
	}
}
END_TEST

static const char *const no_limits[] = { "limit=", "limit", "limit=0", "limit=1001", "limit=-1",
	"limit=+1", "limit=1.0", "limit=1e2", "limit=0x10", "limit=ten", "limit=%201", "limit=1%20",
	"limit=1+", "limit=9223372036854775808", "limit=100000000000000000000000000", "limit=1,2",
	"limit=%EF%BC%91" };

START_TEST(a_limit_out_of_bounds_is_a_bad_field)
{
	for (size_t i = 0; i < COUNT(no_limits); i++) {
		enum err err;
		struct page page = read_page(no_limits[i], &err);
		size_t count;

		ck_assert_msg(err == ERR_INPUT, "%s", no_limits[i]);
		ck_assert_int_eq(page.limit, PAGE_LIMIT_DEFAULT);
		ck_assert_str_eq(err_fields(&count)[0].pointer, "limit");
		ck_assert_str_eq(err_fields(&count)[0].detail, "must be a whole number of 1..1000");
		ck_assert_uint_eq(count, 1);
	}
}
END_TEST

/* The target of the Link that a page gives. */
static const char *
link_of(const char *path, const char *filters, int64_t limit, int64_t after)
{
	static char target[sizeof(sent)];
	const struct page page = { limit, 0 };
	const char *from, *to;

	sent[0] = '\0';
	response_open(&res, take, NULL);
	response_begin(&res, 200, "application/json");
	ck_assert_int_eq(page_link(&res, path, filters, &page, after), OK);
	ck_assert(response_end(&res));
	from = strstr(sent, "\r\nLink: <");
	ck_assert_msg(from != NULL, "%s", sent);
	from += strlen("\r\nLink: <");
	to = strstr(from, ">; rel=\"next\"\r\n");
	ck_assert_msg(to != NULL, "%s", sent);
	(void)snprintf(target, sizeof(target), "%.*s", (int)(to - from), from);
	return target;
}

START_TEST(the_link_of_a_page_asks_for_the_next_one)
{
	static const int64_t keys[] = { 1, 2, 9, 10, 12345678, INT64_MAX - 1, INT64_MAX };
	static const int64_t sizes[] = { 1, 7, 100, 1000 };

	for (size_t i = 0; i < COUNT(keys); i++)
		for (size_t j = 0; j < COUNT(sizes); j++) {
			struct page page = { -1, -1 };

			begin(link_of("/events", "", sizes[j], keys[i]));
			page_read(&req, &page);
			ck_assert_int_eq(err_pending(), OK);
			ck_assert_int_eq(page.limit, sizes[j]);
			ck_assert_int_eq(page.after, keys[i]);
		}
}
END_TEST

static const struct {
	const char *path, *filters, *link; /* without the cursor at its end */
} links[] = {
	{ "/events", "", "/events?limit=7&cursor=" },
	{ "/events/types", "", "/events/types?limit=7&cursor=" },
	{ "/events", "type_id=1", "/events?type_id=1&limit=7&cursor=" },
	{ "/events", "type_id=1&reimbursed=true",
	    "/events?type_id=1&reimbursed=true&limit=7&cursor=" },
	{ "/events", "min_time=2026-11-20T10:00:00.000000Z",
	    "/events?min_time=2026-11-20T10:00:00.000000Z&limit=7&cursor=" },
	{ "/accounts", "name=%C3%85sa%20%26%20Co",
	    "/accounts?name=%C3%85sa%20%26%20Co&limit=7&cursor=" },
};

START_TEST(the_link_keeps_the_filters_as_they_are_encoded)
{
	for (size_t i = 0; i < COUNT(links); i++) {
		const char *link = link_of(links[i].path, links[i].filters, 7, 5);
		size_t n = strlen(links[i].link);

		ck_assert_msg(strncmp(link, links[i].link, n) == 0, "%s", link);
		ck_assert_uint_gt(strlen(link), n);
		/* Nothing of the cursor needs an escape. */
		ck_assert_uint_eq(strspn(link + n,
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789-_"),
		    strlen(link) - n);
	}
}
END_TEST

START_TEST(the_longest_filters_fit)
{
	char filters[PAGE_FILTERS_MAX], path[REQUEST_PATH_MAX + 1];

	memset(filters, 'f', sizeof(filters) - 1);
	filters[sizeof(filters) - 1] = '\0';
	memset(path, 'p', sizeof(path) - 1);
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	begin(link_of(path, filters, 1000, INT64_MAX));
	ck_assert_uint_eq(req.param_count, 3);
	ck_assert_uint_eq(req.params[0].name.n, sizeof(filters) - 1);
}
END_TEST

START_TEST(what_would_break_a_header_is_refused)
{
	const struct page page = { 1, 0 };

	response_open(&res, take, NULL);
	response_begin(&res, 200, "application/json");
	ck_assert_int_eq(page_link(&res, "/a", "x=\r\nSet-Cookie: a", &page, 1), ERR_INTERNAL);
	ck_assert_int_eq(page_link(&res, "/a", "x=\xc3\xa5", &page, 1), ERR_INTERNAL);
}
END_TEST

/* base64url without padding, by RFC 4648 section 5. */
static const char *
encoded(const char *s, size_t n)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	static char out[256];
	unsigned bits = 0, count = 0;
	char *to = out;

	for (size_t i = 0; i < n; i++) {
		bits = bits << 8 | (unsigned char)s[i];
		for (count += 8; count >= 6; count -= 6)
			*to++ = digits[bits >> (count - 6) & 63];
	}
	if (count > 0)
		*to++ = digits[bits << (6 - count) & 63];
	*to = '\0';
	return out;
}

#define T(text) \
	{ \
		text, sizeof(text) - 1 \
	}

static const struct request_text forged[] = { T(""), T("k"), T("5"), T("x5"), T("K5"), T("kk5"),
	T(" k5"), T("k 5"), T("k5 "), T("k-5"), T("k+5"), T("k5.0"), T("k5\0"), T("k\0"), T("\0k5"),
	T("k0x5"), T("k5\n"), T("k5 OR 1=1"), T("k9223372036854775808"), T("k99999999999999999999"),
	T("k100000000000000000000000000000000000"), T("k\xc3\xa5"), T("k\xef\xbc\x95") };

START_TEST(a_cursor_that_we_did_not_make_is_a_bad_field)
{
	char query[512];

	for (size_t i = 0; i < COUNT(forged); i++) {
		enum err err;
		struct page page;
		size_t count;

		(void)snprintf(
		    query, sizeof(query), "cursor=%s", encoded(forged[i].s, forged[i].n));
		page = read_page(query, &err);
		ck_assert_msg(err == ERR_INPUT, "%s", forged[i].s);
		ck_assert_str_eq(err_fields(&count)[0].pointer, "cursor");
		ck_assert_str_eq(
		    err_fields(&count)[0].detail, "must be one that a Link header gave");
		ck_assert_uint_eq(count, 1);
		ck_assert_int_eq(page.limit, PAGE_LIMIT_DEFAULT);
	}
}
END_TEST

/* azU is k5. */
static const char *const broken[] = { "cursor", "cursor=", "cursor=azU%3D", "cursor=az",
	"cursor=azV", "cursor=a", "cursor=azU%20", "cursor=%20azU", "cursor=a%20zU",
	"cursor=azU%0A", "cursor=azU!", "cursor=%2B%2F%2B%2F", "cursor=5", "cursor=%C3%A5",
	"cursor=azUazUazU", "cursor=%C3%A1zU", "cursor=az%E2%84%A2", "cursor=%CF%BFzU",
	"cursor=azAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw" };

START_TEST(a_cursor_that_is_no_base64url_is_a_bad_field)
{
	enum err err;
	size_t count;

	ck_assert_int_eq(read_page("cursor=azU", &err).after, 5);
	ck_assert_int_eq(err, OK);
	for (size_t i = 0; i < COUNT(broken); i++) {
		(void)read_page(broken[i], &err);
		ck_assert_msg(err == ERR_INPUT, "%s", broken[i]);
		ck_assert_str_eq(err_fields(&count)[0].pointer, "cursor");
	}
}
END_TEST

START_TEST(limit_and_cursor_are_given_once)
{
	static const struct {
		const char *query, *pointer;
	} rows[] = { { "limit=1&limit=1", "limit" }, { "limit=1&limit=0", "limit" },
		{ "cursor=azU&cursor=azU", "cursor" }, { "cursor=azU&x=1&cursor=", "cursor" } };
	enum err err;
	size_t count;

	for (size_t i = 0; i < COUNT(rows); i++) {
		(void)read_page(rows[i].query, &err);
		ck_assert_int_eq(err, ERR_INPUT);
		ck_assert_str_eq(err_fields(&count)[0].pointer, rows[i].pointer);
		ck_assert_str_eq(err_fields(&count)[0].detail, "given twice");
		ck_assert_uint_eq(count, 1);
	}
	(void)read_page("limit=0&cursor=x", &err);
	(void)err_fields(&count);
	ck_assert_uint_eq(count, 2);
}
END_TEST

CHECK_MAIN(page,
    { a_limit_is_taken_within_its_bounds, a_limit_out_of_bounds_is_a_bad_field,
	the_link_of_a_page_asks_for_the_next_one, the_link_keeps_the_filters_as_they_are_encoded,
	the_longest_filters_fit, what_would_break_a_header_is_refused,
	a_cursor_that_we_did_not_make_is_a_bad_field, a_cursor_that_is_no_base64url_is_a_bad_field,
	limit_and_cursor_are_given_once })
