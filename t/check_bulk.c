#include "data_set.h"

#include <sys/resource.h>

#include "lib/bulk.h"

#define EVENT(type, caregiver, start) \
	"{\"type_id\":" type ",\"caregiver_id\":" caregiver ",\"start_time\":\"" start "\"}"
#define ONE EVENT("1", "7", "2026-11-20T10:00:00Z")
#define TWO EVENT("2", "8", "2026-11-20T10:00:00.000001Z")

struct text {
	const char *s;
	size_t n;
};

#define T(text) \
	{ \
		text, sizeof(text) - 1 \
	}

static struct bulk *bulk;

static void
open_bulk(int64_t earliest_us)
{
	err_clear();
	ck_assert_msg(bulk_open("db", &scope_all, earliest_us, &bulk) == OK, "%s", err_words());
}

/* The text to its end, in pieces of STEP bytes but for a first one of FIRST. */
static enum err
feed(const char *s, size_t n, size_t first, size_t step)
{
	enum err err = bulk_add(bulk, s, first);

	for (size_t at = first; at < n && err == OK; at += step)
		err = bulk_add(bulk, s + at, step < n - at ? step : n - at);
	return err == OK ? bulk_end(bulk) : err;
}

static enum err
write_bulk(void)
{
	return bulk_write(bulk, db, &actor, NULL, NULL);
}

#define ALL_EVENTS \
	"SELECT id || ' ' || type_id || ' ' || caregiver_id || ' ' || start_time || ' ' || " \
	"amount_in_cents || ' ' || coalesce(reimbursed_at, '-') || ' ' || created_at " \
	"FROM events ORDER BY id"
#define ALL_SUMS \
	"SELECT month || ' ' || caregiver_id || ' ' || open_cents || ' ' || reimbursed_cents || " \
	"' ' || open_events || ' ' || reimbursed_events FROM sums ORDER BY month, caregiver_id"

/* The bad fields, each "POINTER DETAIL" and a newline. */
static const char *
all_fields(void)
{
	static char all[ERR_FIELDS_MAX * sizeof(struct err_field)];
	size_t count, used = 0;
	const struct err_field *fields = err_fields(&count);

	all[0] = '\0';
	for (size_t i = 0; i < count; i++)
		used += (size_t)sprintf(all + used, "%s %s\n", fields[i].pointer, fields[i].detail);
	return all;
}

/* All that became of a text, which is undone again. */
static const char *
outcome(const struct text *text, size_t first, size_t step)
{
	static char all[DATA_TEXT_MAX];
	size_t used;
	enum err err;

	open_bulk(instant("2000-01-01T00:00:00Z"));
	err = feed(text->s, text->n, first, step);
	used = (size_t)sprintf(all, "%d %lld %s\n", err, (long long)bulk_count(bulk), err_words());
	ck_assert_int_eq(db_begin(db), OK);
	if (err == OK) {
		err = write_bulk();
		used += (size_t)sprintf(all + used, "%d\n", err);
	}
	used += (size_t)snprintf(
	    all + used, sizeof(all) - used, "%s%s", all_fields(), data_rows(ALL_EVENTS));
	db_rollback(db);
	bulk_close(bulk);
	return all;
}

#define ANOTHER EVENT("1", "9", "2026-12-01T00:00:00+01:00")

static const struct text cut[] = {
	T(ONE),
	T(ONE "\n"),
	T(ONE "\r\n"),
	T(ONE "\n" TWO "\n" ANOTHER "\n"),
	T(ONE "\r\n" TWO "\r\n" ANOTHER),
	T("\n\n" ONE "\n\r\n \n\t \r\n" TWO "\n\n\n"),
	T("\xef\xbb\xbf" ONE "\n" TWO),
	T(ONE "\n\0\n" TWO "\n"),
	T(ONE "\n" ONE "\0\n" TWO "\n"),
	T("{\"a\":\"\xff\"}\n" TWO "\n{\"\xc3\xa5\":\"\xc3\xa5\"}\n"),
	T("x\n" ONE "\n{}\n[]\n{\"type_id\":0,\"caregiver_id\":\"7\",\"start_time\":5}\n" TWO),
	T(EVENT("9", "1", "2026-11-20T10:00:00Z") "\n" ONE "\n" EVENT(
	    "3", "1", "2026-11-20T10:00:00Z") "\n"),
	T(EVENT("1", "1", "1999-12-31T23:59:59.999999Z") "\n" ONE "\n"),
	T("{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n"),
	T("  " ONE " \t \n \r\r\n"),
	T(""),
	T("\n"),
	T("\r"),
	T(ONE ONE "\n" ONE "\r" TWO "\n"),
};

START_TEST(a_text_cut_anywhere_is_the_same_text)
{
	static char whole[DATA_TEXT_MAX];

	data_begin();
	(void)add_type(100);
	(void)add_type(200);
	for (size_t i = 0; i < COUNT(cut); i++) {
		(void)stpcpy(whole, outcome(&cut[i], cut[i].n, cut[i].n + 1));
		for (size_t at = 0; at < cut[i].n; at++)
			ck_assert_str_eq(outcome(&cut[i], at, cut[i].n), whole);
		for (size_t step = 1; step < cut[i].n && step < 20; step++)
			ck_assert_str_eq(outcome(&cut[i], 0, step), whole);
	}
	data_end();
}
END_TEST

static const struct {
	struct text text;
	int64_t count;
} good[] = {
	{ T(""), 0 },
	{ T("\n"), 0 },
	{ T("\r\n"), 0 },
	{ T(" \t\r\n\n\n   "), 0 },
	{ T(ONE), 1 },
	{ T(ONE "\n"), 1 },
	{ T(ONE "\r"), 1 },
	{ T(ONE "\r\n" TWO "\r\n"), 2 },
	{ T("\n\n" ONE "\n\n" TWO "\n\n"), 2 },
	{ T(" " ONE "\t\r\n"), 1 },
	{ T("{ \"x\" : [ { } ] , \"start_time\" : \"2026-11-20 10:00:00\" , \"caregiver_id\" : 7.0 "
	    ", \"id\":null,\"reimbursed\":true,\"type_id\":1e0 }"),
	    1 },
	{ T(EVENT("1", "9223372036854775807", "9999-12-31T23:59:59.999999Z")), 1 },
	{ T(EVENT("1", "1", "1970-01-01T00:00:00Z")), 1 },
};

START_TEST(every_line_is_an_event_and_empty_ones_are_none)
{
	data_begin();
	(void)add_type(100);
	(void)add_type(200);
	for (size_t i = 0; i < COUNT(good); i++) {
		int64_t before = audit_count();

		open_bulk(INT64_MIN);
		ck_assert_msg(feed(good[i].text.s, good[i].text.n, 0, 1000) == OK, "%s: %s",
		    good[i].text.s, err_words());
		ck_assert_msg(bulk_count(bulk) == good[i].count, "%s", good[i].text.s);
		ck_assert_int_eq(db_begin(db), OK);
		ck_assert_int_eq(write_bulk(), OK);
		ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), good[i].count);
		ck_assert_int_eq(audit_count() - before, good[i].count);
		ck_assert_int_eq(wrong_sums(), 0);
		db_rollback(db);
		bulk_close(bulk);
	}
	data_end();
}
END_TEST

START_TEST(what_is_written_is_what_was_read)
{
	data_begin();
	(void)add_type(100);
	(void)add_type(200);
	(void)add_event(1, 7, instant("2026-11-01T00:00:00Z"));
	open_bulk(INT64_MIN);
	ck_assert_int_eq(feed(ONE "\n" TWO "\n" ANOTHER, strlen(ONE TWO ANOTHER) + 2, 0, 10), OK);
	ck_assert_int_eq(write_bulk(), OK);
	bulk_close(bulk);
	ck_assert_str_eq(data_rows(ALL_EVENTS),
	    "1 1 7 1793491200000000 100 - 1800000000000000\n"
	    "2 1 7 1795168800000000 100 - 1800000000000000\n"
	    "3 2 8 1795168800000001 200 - 1800000000000000\n"
	    "4 1 9 1796079600000000 100 - 1800000000000000\n");
	ck_assert_str_eq(data_rows(ALL_SUMS),
	    "24322 7 200 0 2 0\n24322 8 200 0 1 0\n"
	    "24322 9 100 0 1 0\n");
	ck_assert_str_eq(data_rows("SELECT name || ' ' || what || ' ' || subject || ' ' || "
				   "(detail IS NULL) FROM audit JOIN audit_actors ON id = actor "
				   "WHERE seq > 3"),
	    "tester event created 2 1\ntester event created 3 1\ntester event created 4 1\n");
	ck_assert_int_eq(wrong_sums(), 0);
	data_end();
}
END_TEST

#define OBJECT "the body must be a JSON object"
#define POSITIVE "must be a whole number of 1..9223372036854775807"
#define DATE \
	"must be a date and time as in RFC 3339, such as 2026-11-21T04:18:58Z, of the years " \
	"1970..9999"

static const struct {
	struct text line; /* the second of three */
	const char *fields;
} bad[] = {
	{ T("[]"), "# line 2: " OBJECT "\n" },
	{ T("null"), "# line 2: " OBJECT "\n" },
	{ T("{"), "# line 2: the body is not valid JSON at byte 1: a string belongs here\n" },
	{ T("{}{}"),
	    "# line 2: the body is not valid JSON at byte 2: nothing may follow the value\n" },
	{ T("\0"), "# line 2: the body is not valid JSON at byte 0: a value belongs here\n" },
	{ T("\x0c"), "# line 2: the body is not valid JSON at byte 0: a value belongs here\n" },
	{ T("\xef\xbb\xbf" ONE),
	    "# line 2: the body is not valid JSON at byte 0: neither a byte order mark nor text "
	    "without quotes belongs here\n" },
	{ T("{\"a\":\"\xff\"}"), "#/a line 2: not UTF-8\n" },
	{ T("{\"a\":1,\"a\":2}"), "#/a line 2: given twice\n" },
	{ T("{\"a\":1,\"\\u0061\":2}"),
	    "# line 2: a member is given twice, once with escapes in its name\n" },
	{ T("{}"),
	    "#/type_id line 2: is required\n#/caregiver_id line 2: is required\n"
	    "#/start_time line 2: is required\n" },
	{ T(EVENT("0", "1", "2026-11-20T10:00:00Z")), "#/type_id line 2: " POSITIVE "\n" },
	{ T(EVENT("-1", "1", "2026-11-20T10:00:00Z")), "#/type_id line 2: " POSITIVE "\n" },
	{ T(EVENT("\"1\"", "1", "2026-11-20T10:00:00Z")), "#/type_id line 2: " POSITIVE "\n" },
	{ T(EVENT("1", "1.5", "2026-11-20T10:00:00Z")), "#/caregiver_id line 2: " POSITIVE "\n" },
	{ T(EVENT("1", "0", "2026-11-20T10:00:00Z")), "#/caregiver_id line 2: " POSITIVE "\n" },
	{ T(EVENT("1", "9223372036854775808", "2026-11-20T10:00:00Z")),
	    "#/caregiver_id line 2: the number does not fit in 64 bits\n" },
	{ T(EVENT("1", "1", "2026-02-30T10:00:00Z")), "#/start_time line 2: " DATE "\n" },
	{ T(EVENT("1", "1", "1969-12-31T23:59:59Z")), "#/start_time line 2: " DATE "\n" },
	{ T("{\"type_id\":1,\"caregiver_id\":1,\"start_time\":1}"),
	    "#/start_time line 2: must be a string that is a date and time as in RFC 3339\n" },
	{ T(EVENT("0", "0", "2026")),
	    "#/type_id line 2: " POSITIVE "\n#/caregiver_id line 2: " POSITIVE "\n"
	    "#/start_time line 2: " DATE "\n" },
};

START_TEST(a_bad_line_is_named_by_its_number)
{
	char text[1024];

	data_begin();
	(void)add_type(100);
	for (size_t i = 0; i < COUNT(bad); i++) {
		size_t n = (size_t)sprintf(text, ONE "\n");

		memcpy(text + n, bad[i].line.s, bad[i].line.n);
		n += bad[i].line.n;
		n += (size_t)sprintf(text + n, "\n" ONE "\n");
		open_bulk(INT64_MIN);
		ck_assert_msg(feed(text, n, 0, 1000) == ERR_INPUT, "%s", text);
		ck_assert_str_eq(all_fields(), bad[i].fields);
		ck_assert_int_eq(bulk_count(bulk), 2);
		bulk_close(bulk);
	}
	data_end();
}
END_TEST

START_TEST(empty_lines_are_counted)
{
	static const char text[] = "\n\r\n  \n" ONE "\n\n[]\n" ONE "\n{";

	data_begin();
	open_bulk(INT64_MIN);
	ck_assert_int_eq(feed(text, sizeof(text) - 1, 0, 1), ERR_INPUT);
	ck_assert_str_eq(all_fields(),
	    "# line 6: " OBJECT "\n"
	    "# line 8: the body is not valid JSON at byte 1: a string belongs here\n");
	bulk_close(bulk);
	data_end();
}
END_TEST

START_TEST(only_the_first_ten_bad_lines_are_named)
{
	char text[4096] = "", expected[4096] = "";
	size_t n = 0, e = 0;

	data_begin();
	for (int i = 1; i <= 30; i++) {
		n += (size_t)sprintf(text + n, "%s\n", i % 2 == 0 ? "[]" : ONE);
		if (i % 2 == 0 && i <= 20)
			e += (size_t)sprintf(expected + e, "# line %d: " OBJECT "\n", i);
	}
	for (size_t step = 1; step < n; step += 101) {
		open_bulk(INT64_MIN);
		ck_assert_int_eq(feed(text, n, 0, step), ERR_INPUT);
		ck_assert_str_eq(all_fields(), expected);
		ck_assert_str_eq(
		    err_words(), "10 lines are wrong, and those behind them were not read");
		bulk_close(bulk);
	}
	data_end();
}
END_TEST

/* A line of N bytes, newline not counted: an event, spaces, its closing brace. */
static void
put_line(char *line, size_t n)
{
	memset(line, ' ', n);
	memcpy(line, ONE, sizeof(ONE) - 2);
	line[n - 1] = '}';
	line[n] = '\n';
}

START_TEST(a_line_is_as_long_as_the_limit_says)
{
	static const struct {
		size_t n;
		const char *fields; /* "" for a good one */
	} rows[] = {
		{ BULK_LINE_MAX - 1, "" },
		{ BULK_LINE_MAX, "" },
		{ BULK_LINE_MAX + 1, "# line 2: is too long\n" },
		{ 2 * BULK_LINE_MAX, "# line 2: is too long\n" },
		{ 3 * BULK_LINE_MAX + 5, "# line 2: is too long\n" },
	};
	static const size_t steps[] = { 1, 7, 4096, BULK_LINE_MAX - 1, BULK_LINE_MAX,
		BULK_LINE_MAX + 1, 10 * BULK_LINE_MAX };
	static char text[4 * BULK_LINE_MAX];
	const size_t before = sizeof(ONE);

	data_begin();
	(void)stpcpy(text, ONE "\n");
	for (size_t i = 0; i < COUNT(rows) * COUNT(steps) * 2; i++) {
		size_t n = rows[i / 2 % COUNT(rows)].n, step = steps[i / 2 / COUNT(rows)];
		const char *fields = rows[i / 2 % COUNT(rows)].fields;
		size_t end = before + n;

		put_line(text + before, n);
		if (i % 2 == 0) /* else it is the last line, without a newline */
			end = (size_t)(stpcpy(text + end + 1, ONE "\n") - text);
		open_bulk(INT64_MIN);
		ck_assert_int_eq(feed(text, end, 0, step), fields[0] == '\0' ? OK : ERR_INPUT);
		ck_assert_str_eq(all_fields(), fields);
		ck_assert_int_eq(bulk_count(bulk), 1 + (fields[0] == '\0') + (int64_t)(i % 2 == 0));
		bulk_close(bulk);
	}
	data_end();
}
END_TEST

START_TEST(an_unknown_type_is_named_by_its_line_and_nothing_is_written)
{
	static const char text[] =
	    ONE "\n" EVENT("9", "1", "2026-11-20T10:00:00Z") "\n\n" ONE "\n" EVENT(
		"9223372036854775807", "1", "2026-11-20T10:00:00Z") "\n" ONE;
	char more[4096] = "", expected[4096] = "";
	size_t n = 0, e = 0;
	int64_t changes;

	data_begin();
	(void)add_type(100);
	for (int i = 1; i <= 40; i++) {
		n += (size_t)sprintf(
		    more + n, "%s\n", i > 5 ? EVENT("7", "1", "2026-11-20T10:00:00Z") : ONE);
		if (i > 5 && i <= 15)
			e += (size_t)sprintf(
			    expected + e, "#/type_id line %d: there is no such type\n", i);
	}
	for (int i = 0; i < 2; i++) {
		open_bulk(INT64_MIN);
		ck_assert_int_eq(
		    feed(i == 0 ? text : more, i == 0 ? sizeof(text) - 1 : n, 0, 99), OK);
		ck_assert_int_eq(db_begin(db), OK);
		changes = db_changes(db);
		ck_assert_int_eq(write_bulk(), ERR_INPUT);
		ck_assert_int_eq(db_changes(db), changes); /* nothing to be undone */
		ck_assert_str_eq(all_fields(),
		    i == 0 ? "#/type_id line 2: there is no such type\n"
			     "#/type_id line 5: there is no such type\n"
			   : expected);
		db_rollback(db);
		ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), 0);
		ck_assert_int_eq(data_ask("SELECT count(*) FROM sums"), 0);
		ck_assert_int_eq(audit_count(), 1);
		bulk_close(bulk);
	}
	data_end();
}
END_TEST

START_TEST(an_event_before_the_entry_window_is_refused)
{
	static const struct {
		const char *start, *fields;
	} rows[] = {
		{ "2026-11-20T10:00:00Z", "" },
		{ "2026-11-20T10:00:00.000001Z", "" },
		{ "2026-11-20T09:59:59.999999Z",
		    "#/start_time line 1: is before the entry window\n" },
		{ "1970-01-01T00:00:00Z", "#/start_time line 1: is before the entry window\n" },
	};
	char text[256];

	data_begin();
	(void)add_type(100);
	for (size_t i = 0; i < COUNT(rows); i++) {
		enum err err;

		(void)snprintf(text, sizeof(text),
		    "{\"type_id\":1,\"caregiver_id\":1,\"start_time\":\"%s\"}", rows[i].start);
		open_bulk(instant("2026-11-20T10:00:00Z"));
		if ((err = feed(text, strlen(text), 0, 50)) == OK)
			err = write_bulk();
		ck_assert_int_eq(err, rows[i].fields[0] == '\0' ? OK : ERR_INPUT);
		ck_assert_str_eq(all_fields(), rows[i].fields);
		bulk_close(bulk);
	}
	ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), 2);
	data_end();
}
END_TEST

/* --- Many. */

#define MANY 100000

static int64_t told_last, told_calls;

static void
count_told(void *ctx, int64_t written)
{
	ck_assert_ptr_eq(ctx, &told_calls);
	ck_assert_int_ge(written, told_last);
	ck_assert_int_le(written, MANY);
	told_last = written;
	told_calls++;
}

START_TEST(a_hundred_thousand_lines_are_written_with_right_sums_and_audit)
{
	static char text[MANY * 80];
	size_t n = 0;
	int64_t cents = 0;

	data_begin();
	(void)add_type(1);
	(void)add_type(1000);
	for (int64_t i = 0; i < MANY; i++) {
		char start[CLOCK_TEXT_SIZE];
		int64_t type_id = 1 + drawn(2);

		clock_text(instant("2024-01-01T00:00:00Z") + drawn(700 * DAY_US), start);
		cents += type_id == 1 ? 1 : 1000;
		n += (size_t)sprintf(text + n,
		    "{\"type_id\":%lld,\"caregiver_id\":%lld,\"start_time\":\"%s\"}\n",
		    (long long)type_id, (long long)(1 + drawn(50)), start);
	}
	open_bulk(INT64_MIN);
	ck_assert_int_eq(feed(text, n, 0, 32768), OK);
	ck_assert_int_eq(bulk_count(bulk), MANY);
	ck_assert_int_eq(db_begin(db), OK);
	ck_assert_int_eq(bulk_write(bulk, db, &actor, count_told, &told_calls), OK);
	ck_assert_int_eq(db_commit(db), OK);
	ck_assert_int_gt(told_calls, 10);
	ck_assert_int_eq(data_ask("SELECT sum(open_cents) FROM sums"), cents);
	ck_assert_int_eq(data_ask("SELECT sum(open_events) FROM sums"), MANY);
	ck_assert_int_eq(data_ask("SELECT sum(amount_in_cents) FROM events"), cents);
	ck_assert_int_eq(audit_count(), MANY + 2);
	ck_assert_str_eq(last_audit(), "1800000000000000 tester: event created 100000 -\n");
	ck_assert_int_eq(wrong_sums(), 0);
	bulk_close(bulk);
	data_end();
}
END_TEST

START_TEST(each_line_is_paid_the_price_in_force_at_its_start)
{
	data_begin();
	ck_assert_int_eq(db_begin(db), OK);
	/* More types than prices are kept at hand; each has three prices, of which one is set
	 * twice. */
	for (int64_t i = 1; i <= 520; i++) {
		struct tariff_type type = add_type(i);

		set_price(type.id, 2000, 2000 + i);
		set_price(type.id, 1000, 5);
		set_price(type.id, 1000, 1000 + i);
	}
	open_bulk(INT64_MIN);
	for (int i = 0; i < 5000; i++) {
		static const int64_t starts[] = { 0, 999, 1000, 1001, 1999, 2000, 2001, NOW_US };
		const int64_t ids[] = { 1 + drawn(520), 1, 257, 513, 2 };

		ck_assert_int_eq(
		    bulk_put(bulk, ids[drawn(5)], 1, starts[drawn(COUNT(starts))], 0), OK);
	}
	ck_assert_int_eq(bulk_end(bulk), OK);
	ck_assert_int_eq(write_bulk(), OK);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), 5000);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM events WHERE amount_in_cents <> type_id + "
				  "CASE WHEN start_time < 1000 THEN 0 WHEN start_time < 2000 "
				  "THEN 1000 ELSE 2000 END"),
	    0);
	ck_assert_int_eq(wrong_sums(), 0);
	bulk_close(bulk);
	db_rollback(db);
	data_end();
}
END_TEST

START_TEST(a_price_set_between_two_writings_counts_for_the_second)
{
	data_begin();
	(void)add_type(100);
	open_bulk(INT64_MIN);
	ck_assert_int_eq(feed(ONE "\n" ONE, strlen(ONE ONE) + 1, 0, 1000), OK);
	ck_assert_int_eq(db_begin(db), OK);
	ck_assert_int_eq(write_bulk(), OK);
	db_rollback(db);
	set_price(1, 0, 300);
	ck_assert_int_eq(write_bulk(), OK);
	ck_assert_int_eq(data_ask("SELECT sum(amount_in_cents) FROM events"), 600);
	bulk_close(bulk);
	data_end();
}
END_TEST

START_TEST(written_again_after_a_rollback_it_is_the_same)
{
	static char first[DATA_TEXT_MAX];

	data_begin();
	(void)add_type(100);
	(void)add_type(200);
	open_bulk(INT64_MIN);
	for (int i = 0; i < 500; i++)
		ck_assert_int_eq(
		    bulk_put(bulk, 1 + drawn(2), 1 + drawn(20), drawn(NOW_US), drawn(3) * NOW_US),
		    OK);
	ck_assert_int_eq(bulk_end(bulk), OK);
	for (int i = 0; i < 4; i++) {
		size_t n = 0;
		char all[DATA_TEXT_MAX];

		ck_assert_int_eq(db_begin(db), OK);
		ck_assert_int_eq(write_bulk(), OK);
		n = (size_t)sprintf(all, "%s", data_rows(ALL_EVENTS));
		(void)snprintf(all + n, sizeof(all) - n, "%s", data_rows(ALL_SUMS));
		if (i == 0)
			(void)stpcpy(first, all);
		ck_assert_str_eq(all, first);
		ck_assert_int_eq(wrong_sums(), 0);
		db_rollback(db);
	}
	ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), 0);
	bulk_close(bulk);
	data_end();
}
END_TEST

START_TEST(events_may_come_reimbursed)
{
	int64_t reimbursed = 0;

	data_begin();
	(void)add_type(100);
	open_bulk(INT64_MIN);
	for (int i = 0; i < 10000; i++) {
		bool is = drawn(4) > 0;

		reimbursed += is;
		ck_assert_int_eq(
		    bulk_put(bulk, 1, 1 + drawn(3), drawn(90 * DAY_US), is ? NOW_US + i : 0), OK);
	}
	ck_assert_int_eq(bulk_end(bulk), OK);
	ck_assert_int_eq(bulk_count(bulk), 10000);
	ck_assert_int_eq(write_bulk(), OK);
	ck_assert_int_eq(data_ask("SELECT sum(reimbursed_events) FROM sums"), reimbursed);
	ck_assert_int_eq(data_ask("SELECT sum(reimbursed_cents) FROM sums"), 100 * reimbursed);
	ck_assert_int_eq(data_ask("SELECT sum(open_events) FROM sums"), 10000 - reimbursed);
	ck_assert_int_eq(
	    data_ask("SELECT count(*) FROM events WHERE reimbursed_at >= 1800000000000000"),
	    reimbursed);
	ck_assert_int_eq(
	    data_ask("SELECT count(*) FROM audit WHERE what = 'event created'"), 10000);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM audit a JOIN events e ON e.id = a.subject "
				  "WHERE what = 'event reimbursed' AND reimbursed_at IS NOT NULL"),
	    reimbursed);
	ck_assert_int_eq(wrong_sums(), 0);
	bulk_close(bulk);
	data_end();
}
END_TEST

/* --- The nameless file. */

START_TEST(a_folder_that_cannot_be_written_is_told_at_once)
{
	static const char *const folders[] = { "nowhere", "", LEDGER_FILE, "/proc" };

	data_begin();
	for (size_t i = 0; i < COUNT(folders); i++) {
		bulk = (struct bulk *)&bulk;
		ck_assert_msg(bulk_open(folders[i], &scope_all, INT64_MIN, &bulk) == ERR_BUSY, "%s",
		    folders[i]);
		ck_assert_ptr_null(bulk);
		ck_assert_str_eq(err_words(), "there is no room for an import now");
		bulk_close(bulk);
	}
	data_end();
}
END_TEST

START_TEST(nothing_is_left_in_the_folder)
{
	data_begin();
	open_bulk(INT64_MIN);
	ck_assert_int_eq(bulk_put(bulk, 1, 1, 0, 0), OK);
	ck_assert_int_eq(bulk_end(bulk), OK);
	(void)unlink(LEDGER_FILE);
	(void)unlink(LEDGER_FILE "-wal");
	(void)unlink(LEDGER_FILE "-shm");
	(void)unlink(LEDGER_FILE ".lock");
	ck_assert_int_eq(rmdir("db"), 0);
	bulk_close(bulk);
	data_end();
}
END_TEST

START_TEST(a_disk_that_is_full_is_busy_and_never_a_short_success)
{
	static char text[1000 * sizeof(ONE)];
	const struct rlimit little = { 8192, RLIM_INFINITY };
	const struct rlimit enough = { RLIM_INFINITY, RLIM_INFINITY };
	size_t n = 0;

	data_begin();
	(void)add_type(100);
	(void)signal(SIGXFSZ, SIG_IGN);
	while (n + sizeof(ONE) < sizeof(text))
		n += (size_t)sprintf(text + n, ONE "\n");
	for (size_t step = 1000; step <= sizeof(text); step += sizeof(text) / 2) {
		open_bulk(INT64_MIN);
		ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &little), 0);
		ck_assert_int_eq(feed(text, n, 0, step), ERR_BUSY);
		ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &enough), 0);
		ck_assert_ptr_nonnull(strstr(err_words(), "no room"));
		bulk_close(bulk);
	}
	data_end();
}
END_TEST

CHECK_MAIN(bulk,
    { a_text_cut_anywhere_is_the_same_text, every_line_is_an_event_and_empty_ones_are_none,
	what_is_written_is_what_was_read, a_bad_line_is_named_by_its_number,
	empty_lines_are_counted, only_the_first_ten_bad_lines_are_named,
	a_line_is_as_long_as_the_limit_says,
	an_unknown_type_is_named_by_its_line_and_nothing_is_written,
	an_event_before_the_entry_window_is_refused,
	a_hundred_thousand_lines_are_written_with_right_sums_and_audit,
	each_line_is_paid_the_price_in_force_at_its_start,
	a_price_set_between_two_writings_counts_for_the_second,
	written_again_after_a_rollback_it_is_the_same, events_may_come_reimbursed,
	a_folder_that_cannot_be_written_is_told_at_once, nothing_is_left_in_the_folder,
	a_disk_that_is_full_is_busy_and_never_a_short_success })
