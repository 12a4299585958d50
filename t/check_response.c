#include "test.h"

#include <stdio.h>

#include "lib/clock.h"
#include "lib/response.h"

/* A client that takes what is sent, and is gone from call GONE_AT on. */
static struct {
	char bytes[4 * RESPONSE_BUFFER_MAX];
	size_t used;
	int calls, gone_at;
} client;

static struct response res;

static bool
take(void *ctx, const char *bytes, size_t n)
{
	ck_assert_ptr_eq(ctx, &client);
	ck_assert_uint_gt(n, 0);
	ck_assert_uint_lt(n, sizeof(client.bytes) - client.used);
	if (++client.calls == client.gone_at)
		return false;
	memcpy(client.bytes + client.used, bytes, n);
	client.used += n;
	client.bytes[client.used] = '\0';
	return true;
}

static void
begin(int status, const char *type)
{
	memset(&client, 0, sizeof(client));
	memset(&res, 0xa5, sizeof(res)); /* nothing may depend on what was there */
	response_open(&res, take, &client);
	response_begin(&res, status, type);
}

/* The value of a field that was sent, or NULL; valid until the next call. */
static const char *
sent(const char *name)
{
	static char value[RESPONSE_HEAD_MAX];
	char start[64];
	const char *head_end = strstr(client.bytes, "\r\n\r\n"), *at;

	ck_assert_ptr_nonnull(head_end);
	(void)snprintf(start, sizeof(start), "%s: ", name);
	at = strncmp(client.bytes, start, strlen(start)) == 0 ? client.bytes : NULL;
	if (at == NULL) {
		(void)snprintf(start, sizeof(start), "\r\n%s: ", name);
		at = strstr(client.bytes, start);
	}
	if (at == NULL || at > head_end)
		return NULL;
	at += strlen(start);
	(void)snprintf(value, sizeof(value), "%.*s", (int)strcspn(at, "\r"), at);
	return value;
}

/* What was sent behind the head. */
static const char *
body(size_t *n)
{
	char *end = strstr(client.bytes, "\r\n\r\n");

	ck_assert_ptr_nonnull(end);
	*n = client.used - (size_t)(end + 4 - client.bytes);
	return end + 4;
}

START_TEST(a_short_answer_leaves_whole_with_its_length)
{
	size_t n;

	begin(200, "application/json");
	ck_assert_int_eq(response_write(&res, "{\"a\":", 5), OK);
	ck_assert_int_eq(response_write(&res, "1}", 2), OK);
	ck_assert_int_eq(response_write(&res, "", 0), OK);
	ck_assert_int_eq(client.calls, 0);
	ck_assert(response_end(&res));
	ck_assert_int_eq(strncmp(client.bytes, "Status: 200 OK\r\n", 16), 0);
	ck_assert_str_eq(sent("Content-Type"), "application/json");
	ck_assert_str_eq(sent("Content-Length"), "7");
	ck_assert_str_eq(sent("Cache-Control"), "no-store");
	ck_assert_uint_eq(strlen(sent("Date")), CLOCK_HTTP_SIZE - 1);
	ck_assert_str_eq(body(&n), "{\"a\":1}");
	ck_assert_uint_eq(n, 7);
	ck_assert_int_eq(res.status, 200);
	ck_assert_int_eq(res.body_bytes, 7);
}
END_TEST

START_TEST(the_status_line_has_its_phrase)
{
	static const struct {
		int status;
		const char *text;
	} rows[] = { { 200, "200 OK" }, { 201, "201 Created" }, { 304, "304 Not Modified" },
		{ 404, "404 Not Found" }, { 406, "406 Not Acceptable" }, { 431, "431 Status" },
		{ 503, "503 Service Unavailable" }, { 599, "599 Status" } };

	for (size_t i = 0; i < COUNT(rows); i++) {
		begin(rows[i].status, "text/plain");
		ck_assert(response_end(&res));
		ck_assert_str_eq(sent("Status"), rows[i].text);
	}
}
END_TEST

START_TEST(an_answer_without_a_body_has_neither_type_nor_length)
{
	static const int statuses[] = { 204, 304 };
	size_t n;

	for (size_t i = 0; i < COUNT(statuses); i++) {
		begin(statuses[i], NULL);
		ck_assert(response_end(&res));
		ck_assert_ptr_null(sent("Content-Type"));
		ck_assert_ptr_null(sent("Content-Length"));
		(void)body(&n);
		ck_assert_uint_eq(n, 0);
	}
	begin(200, "text/plain");
	ck_assert(response_end(&res));
	ck_assert_str_eq(sent("Content-Length"), "0");
}
END_TEST

START_TEST(a_field_is_added_or_replaces_the_one_of_its_name)
{
	begin(200, "text/plain");
	ck_assert_int_eq(response_field(&res, "Cache-Control", "max-age=5"), OK);
	ck_assert_int_eq(response_field(&res, "Link", "<a>"), OK);
	ck_assert_int_eq(response_field(&res, "Lin", "x"), OK);
	ck_assert_int_eq(response_field(&res, "Link", "<b>; rel=\"next\""), OK);
	ck_assert_int_eq(response_field(&res, "Content-Type", "text/csv"), OK);
	ck_assert_int_eq(response_field(&res, "X-Empty", ""), OK);
	ck_assert_int_eq(response_field(&res, "X-Like", "Link: <c>"), OK);
	ck_assert(response_end(&res));
	ck_assert_str_eq(sent("Cache-Control"), "max-age=5");
	ck_assert_str_eq(sent("Link"), "<b>; rel=\"next\"");
	ck_assert_str_eq(sent("Lin"), "x");
	ck_assert_str_eq(sent("X-Like"), "Link: <c>");
	ck_assert_str_eq(sent("Content-Type"), "text/csv");
	ck_assert_str_eq(sent("X-Empty"), "");
	ck_assert_ptr_null(strstr(client.bytes, "no-store"));
	ck_assert_ptr_null(strstr(client.bytes, "text/plain"));
	ck_assert_ptr_null(strstr(client.bytes, "<a>"));
	ck_assert_int_eq(strncmp(client.bytes, "Status: 200 OK\r\n", 16), 0);
}
END_TEST

START_TEST(a_field_that_would_hold_more_than_printable_ascii_is_refused)
{
	static const char *const bad[] = { "a\r\nSet-Cookie: x", "a\nb", "a\rb", "\r", "\n", "a\tb",
		"\x7f", "\x01", "caf\xc3\xa9", "\xff", "a\x1b[0m" };
	char all[96] = "";

	for (int c = ' '; c <= '~'; c++)
		all[c - ' '] = (char)c;
	begin(200, "text/plain");
	for (size_t i = 0; i < COUNT(bad); i++) {
		ck_assert_int_eq(response_field(&res, "Location", bad[i]), ERR_INTERNAL);
		ck_assert_ptr_nonnull(strstr(err_words(), "Location would hold a byte 0x"));
	}
	ck_assert_int_eq(response_field(&res, "X-All", all), OK);
	ck_assert(response_end(&res));
	ck_assert_ptr_null(sent("Location"));
	ck_assert_ptr_null(sent("Set-Cookie"));
	ck_assert_str_eq(sent("X-All"), all);
}
END_TEST

START_TEST(a_head_that_is_full_refuses_the_field_and_can_still_be_sent)
{
	static char value[RESPONSE_HEAD_MAX + 1];
	size_t fits = 0;

	for (size_t n = 1; n < sizeof(value); n++) {
		memset(value, 'v', n);
		value[n] = '\0';
		begin(200, "application/json");
		if (response_field(&res, "X-Long", value) == OK)
			fits = n;
		else
			ck_assert_str_eq(err_words(), "the field X-Long does not fit");
		ck_assert(fits == n || fits < n);
		ck_assert_int_eq(response_write(&res, "x", 1), OK);
		ck_assert(response_end(&res));
		ck_assert_str_eq(sent("Content-Length"), "1");
		ck_assert_str_eq(sent("Cache-Control"), "no-store");
		if (fits == n)
			ck_assert_str_eq(sent("X-Long"), value);
	}
	ck_assert_uint_gt(fits, RESPONSE_HEAD_MAX - 256);
	ck_assert_uint_lt(fits, RESPONSE_HEAD_MAX);
}
END_TEST

START_TEST(many_fields_fill_the_head_and_no_more)
{
	char name[16];
	int i = 0;

	begin(200, "application/json");
	do {
		(void)snprintf(name, sizeof(name), "X-%d", i);
	} while (response_field(&res, name, "value") == OK && ++i < 1000);
	ck_assert_int_gt(i, 100);
	ck_assert_int_lt(i, 1000);
	ck_assert(response_end(&res));
	ck_assert_str_eq(sent("X-0"), "value");
	ck_assert_ptr_null(sent(name));
	ck_assert_ptr_nonnull(sent("Content-Length"));
}
END_TEST

static void
write_bytes(size_t n, size_t step)
{
	static char bytes[3 * RESPONSE_BUFFER_MAX];

	for (size_t i = 0; i < n; i++)
		bytes[i] = (char)('a' + i % 26);
	for (size_t i = 0; i < n; i += step)
		ck_assert_int_eq(response_write(&res, bytes + i, n - i < step ? n - i : step), OK);
}

START_TEST(an_answer_beyond_the_buffer_streams_without_a_length)
{
	static const size_t sizes[] = { RESPONSE_BUFFER_MAX - 1, RESPONSE_BUFFER_MAX,
		RESPONSE_BUFFER_MAX + 1, 2 * RESPONSE_BUFFER_MAX, 2 * RESPONSE_BUFFER_MAX + 1,
		3 * RESPONSE_BUFFER_MAX };
	static const size_t steps[] = { 1, 7, 1024, 3 * RESPONSE_BUFFER_MAX };

	for (size_t i = 0; i < COUNT(sizes); i++)
		for (size_t j = 0; j < COUNT(steps); j++) {
			bool waits = sizes[i] <= RESPONSE_BUFFER_MAX;
			const char *got;
			char length[16];
			size_t n;

			begin(200, "text/csv");
			write_bytes(sizes[i], steps[j]);
			ck_assert_int_eq(client.calls == 0, waits);
			ck_assert(response_end(&res));
			(void)snprintf(length, sizeof(length), "%zu", sizes[i]);
			if (waits)
				ck_assert_str_eq(sent("Content-Length"), length);
			else
				ck_assert_ptr_null(sent("Content-Length"));
			got = body(&n);
			ck_assert_uint_eq(n, sizes[i]);
			for (size_t k = 0; k < n; k++)
				if (got[k] != (char)('a' + k % 26))
					ck_abort_msg("byte %zu of %zu", k, n);
			ck_assert_int_eq(res.body_bytes, (int64_t)sizes[i]);
		}
}
END_TEST

START_TEST(the_answer_to_head_is_counted_but_not_sent)
{
	static const size_t sizes[] = { 0, 7, RESPONSE_BUFFER_MAX, RESPONSE_BUFFER_MAX + 1,
		3 * RESPONSE_BUFFER_MAX };
	char length[16];
	size_t n;

	for (size_t i = 0; i < COUNT(sizes); i++) {
		begin(200, "text/csv");
		res.no_body = true;
		write_bytes(sizes[i], 1000);
		ck_assert(response_end(&res));
		(void)body(&n);
		ck_assert_uint_eq(n, 0);
		ck_assert_int_eq(res.body_bytes, (int64_t)sizes[i]);
		(void)snprintf(length, sizeof(length), "%zu", sizes[i]);
		if (sizes[i] <= RESPONSE_BUFFER_MAX)
			ck_assert_str_eq(sent("Content-Length"), length);
	}
}
END_TEST

START_TEST(what_was_begun_is_forgotten_as_long_as_nothing_is_sent)
{
	size_t n;

	begin(200, "text/csv");
	ck_assert_int_eq(response_field(&res, "X-A", "b"), OK);
	write_bytes(RESPONSE_BUFFER_MAX, 1000);
	ck_assert(response_reset(&res));
	response_begin(&res, 404, "text/plain");
	ck_assert_int_eq(response_write(&res, "none", 4), OK);
	ck_assert(response_end(&res));
	ck_assert_str_eq(sent("Status"), "404 Not Found");
	ck_assert_str_eq(sent("Content-Length"), "4");
	ck_assert_ptr_null(sent("X-A"));
	ck_assert_str_eq(body(&n), "none");
	response_open(&res, take, &client);
	ck_assert(response_reset(&res));
	begin(200, "text/csv");
	write_bytes(RESPONSE_BUFFER_MAX + 1, 1000);
	ck_assert(!response_reset(&res));
	ck_assert_int_eq(res.status, 200);
}
END_TEST

START_TEST(once_the_client_is_gone_nothing_more_is_sent)
{
	/* The head, the empty line behind it, and three buffers of the body. */
	for (int at = 1; at <= 5; at++) {
		enum err err = OK;

		begin(200, "text/csv");
		client.gone_at = at;
		for (int i = 0; i < 3 * RESPONSE_BUFFER_MAX && err == OK; i++)
			err = response_write(&res, "x", 1);
		ck_assert_int_eq(err, at < 5 ? ERR_GONE : OK);
		if (err != OK)
			ck_assert_str_eq(err_words(), "the client is gone");
		err = response_write(&res, "y", 1);
		ck_assert_int_eq(err, ERR_GONE);
		ck_assert_int_eq(response_write(&res, "z", 1), ERR_GONE);
		ck_assert(!response_end(&res));
		ck_assert_int_eq(client.calls, at);
	}
	begin(200, "text/csv");
	client.gone_at = 1;
	ck_assert_int_eq(response_write(&res, "short", 5), OK);
	ck_assert(!response_end(&res));
	ck_assert_int_eq(client.calls, 1);
}
END_TEST

static void
begin_twice(void)
{
	begin(200, "text/csv");
	response_begin(&res, 200, "text/csv");
}

static void
begin_with_no_status(void)
{
	begin(100, NULL);
}

static void
begin_beyond_the_statuses(void)
{
	begin(600, NULL);
}

static void
write_before_begin(void)
{
	response_open(&res, take, &client);
	(void)!response_write(&res, "x", 1);
}

static void
field_before_begin(void)
{
	response_open(&res, take, &client);
	(void)!response_field(&res, "A", "b");
}

static void
field_after_the_head(void)
{
	begin(200, "text/csv");
	write_bytes(RESPONSE_BUFFER_MAX + 1, 1000);
	(void)!response_field(&res, "A", "b");
}

static void
end_before_begin(void)
{
	response_open(&res, take, &client);
	(void)response_end(&res);
}

START_TEST(steps_out_of_order_abort)
{
	static void (*const mistakes[])(void) = { begin_twice, begin_with_no_status,
		begin_beyond_the_statuses, write_before_begin, field_before_begin,
		field_after_the_head, end_before_begin };

	for (size_t i = 0; i < COUNT(mistakes); i++)
		ck_assert_msg(aborts(mistakes[i]), "mistake %zu", i);
}
END_TEST

#define HANDED "Status: 204 No Content\r\nX-Accel-Redirect: /.cached/x\r\n\r\n"

START_TEST(what_nginx_is_to_answer_has_no_other_field)
{
	response_open(&res, take, &client);
	client.used = 0;
	response_hand_over(&res, "/.cached/x");
	ck_assert(response_end(&res));
	ck_assert_uint_eq(client.used, strlen(HANDED));
	ck_assert_mem_eq(client.bytes, HANDED, strlen(HANDED));
}
END_TEST

CHECK_MAIN(response,
    { a_short_answer_leaves_whole_with_its_length, the_status_line_has_its_phrase,
	an_answer_without_a_body_has_neither_type_nor_length,
	a_field_is_added_or_replaces_the_one_of_its_name,
	a_field_that_would_hold_more_than_printable_ascii_is_refused,
	a_head_that_is_full_refuses_the_field_and_can_still_be_sent,
	many_fields_fill_the_head_and_no_more, an_answer_beyond_the_buffer_streams_without_a_length,
	the_answer_to_head_is_counted_but_not_sent,
	what_was_begun_is_forgotten_as_long_as_nothing_is_sent,
	once_the_client_is_gone_nothing_more_is_sent, what_nginx_is_to_answer_has_no_other_field,
	steps_out_of_order_abort })
