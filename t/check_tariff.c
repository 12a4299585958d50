#include "data_set.h"

static void
check_conflict(enum err err, const char *words)
{
	ck_assert_int_eq(err, ERR_CONFLICT);
	ck_assert_str_eq(err_words(), words);
}

#define TAKEN "there is a type of that name already"

START_TEST(a_new_type_has_a_price_since_ever_and_an_audit_row)
{
	struct tariff_type type = { .name = "wound care", .amount_in_cents = 25000 }, got;

	data_begin();
	(void)snprintf(type.currency, sizeof(type.currency), "SEK");
	ck_assert_int_eq(tariff_add(db, &actor, &type), OK);
	ck_assert_int_eq(type.id, 1);
	ck_assert_int_eq(type.version, 1);
	for (int64_t now_us = 0; now_us <= NOW_US; now_us += NOW_US) {
		ck_assert_int_eq(tariff_get(db, 1, now_us, &got), OK);
		ck_assert_int_eq(got.id, 1);
		ck_assert_str_eq(got.name, "wound care");
		ck_assert_str_eq(got.currency, "SEK");
		ck_assert_int_eq(got.amount_in_cents, 25000);
		ck_assert_int_eq(got.version, 1);
	}
	ck_assert_str_eq(last_audit(),
	    "1800000000000000 tester: type created 1 "
	    "{\"amount_in_cents\":25000,\"valid_from_us\":0}\n");
	ck_assert_str_eq(data_rows("SELECT type_id || ' ' || valid_from || ' ' || amount_in_cents "
				   "|| ' ' || created_at FROM prices"),
	    "1 0 25000 1800000000000000\n");
	data_end();
}
END_TEST

START_TEST(amounts_go_from_nothing_to_the_limit)
{
	static const struct {
		int64_t cents;
		enum err err;
	} rows[] = { { 0, OK }, { 1, OK }, { TARIFF_AMOUNT_MAX, OK },
		{ TARIFF_AMOUNT_MAX + INT64_C(1), ERR_CONFLICT }, { -1, ERR_CONFLICT } };

	data_begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct tariff_type type = { .amount_in_cents = rows[i].cents, .currency = "SEK" };
		struct tariff_type got;

		(void)snprintf(type.name, sizeof(type.name), "%zu", i);
		ck_assert_int_eq(db_begin(db), OK);
		ck_assert_int_eq(tariff_add(db, &actor, &type), rows[i].err);
		if (rows[i].err == OK) {
			ck_assert_int_eq(tariff_get(db, type.id, NOW_US, &got), OK);
			ck_assert_int_eq(got.amount_in_cents, rows[i].cents);
		}
		db_rollback(db);
	}
	data_end();
}
END_TEST

START_TEST(a_name_has_up_to_200_characters_of_any_length)
{
	static const char *const characters[] = { "x", "\xc3\xa5", "\xe2\x82\xac",
		"\xf0\x9f\x98\x80" };

	data_begin();
	for (size_t i = 0; i < COUNT(characters); i++) {
		struct tariff_type type = { .currency = "SEK" }, got;

		for (int j = 0; j < TARIFF_NAME_MAX; j++)
			(void)stpcpy(type.name + strlen(type.name), characters[i]);
		ck_assert_int_eq(tariff_add(db, &actor, &type), OK);
		ck_assert_int_eq(tariff_get(db, type.id, NOW_US, &got), OK);
		ck_assert_str_eq(got.name, type.name);
	}
	data_end();
}
END_TEST

START_TEST(a_name_is_taken_once_and_as_it_is_written)
{
	struct tariff_type type = { .name = "a", .currency = "SEK" }, other = type;

	data_begin();
	ck_assert_int_eq(tariff_add(db, &actor, &type), OK);
	check_conflict(tariff_add(db, &actor, &other), TAKEN);
	ck_assert_int_eq(audit_count(), 1);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM prices"), 1);
	(void)stpcpy(other.name, "A");
	ck_assert_int_eq(tariff_add(db, &actor, &other), OK);
	(void)stpcpy(other.name, "a");
	check_conflict(tariff_change(db, &actor, &other, 5, 0), TAKEN);
	ck_assert_int_eq(audit_count(), 2);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM types WHERE name = 'a'"), 1);
	(void)stpcpy(type.name, "b");
	ck_assert_int_eq(tariff_change(db, &actor, &type, 0, NOW_US), OK);
	ck_assert_int_eq(tariff_change(db, &actor, &other, 0, NOW_US), OK);
	ck_assert_str_eq(data_rows("SELECT name FROM types ORDER BY id"), "b\na\n");
	data_end();
}
END_TEST

START_TEST(what_is_not_there_is_not_found)
{
	static const int64_t ids[] = { 2, 0, -1, INT64_MIN, INT64_MAX };
	struct tariff_type type;
	struct tariff_price price;
	bool found = true;

	data_begin();
	(void)add_type(5);
	for (size_t i = 0; i < COUNT(ids); i++) {
		ck_assert_int_eq(tariff_get(db, ids[i], NOW_US, &type), ERR_NOT_FOUND);
		ck_assert_int_eq(tariff_price_at(db, ids[i], NOW_US, &price, &found), OK);
		ck_assert(!found);
	}
	data_end();
}
END_TEST

/* Histories: the first price, 100, is in force since ever; these are set in their order. */
static const struct {
	struct {
		int64_t from_us, cents;
	} set[5];
	size_t rows; /* of the history, the first one included */
	struct {
		int64_t at_us, cents, from_us, until_us;
	} asked[5];
} histories[] = {
	/* None. */
	{ { { 0, 0 } }, 1,
	    { { 0, 100, 0, INT64_MAX }, { NOW_US, 100, 0, INT64_MAX },
		{ INT64_MAX, 100, 0, INT64_MAX } } },
	/* One: its instant is the first that is paid so. */
	{ { { 1000, 200 } }, 2,
	    { { 0, 100, 0, 1000 }, { 999, 100, 0, 1000 }, { 1000, 200, 1000, INT64_MAX },
		{ 1001, 200, 1000, INT64_MAX }, { INT64_MAX, 200, 1000, INT64_MAX } } },
	/* The future. */
	{ { { NOW_US + 1, 200 } }, 2,
	    { { NOW_US, 100, 0, NOW_US + 1 }, { NOW_US + 1, 200, NOW_US + 1, INT64_MAX } } },
	/* Retroactive, before one that is set already. */
	{ { { 2000, 300 }, { 1000, 200 } }, 3,
	    { { 999, 100, 0, 1000 }, { 1000, 200, 1000, 2000 }, { 1999, 200, 1000, 2000 },
		{ 2000, 300, 2000, INT64_MAX }, { 9999, 300, 2000, INT64_MAX } } },
	/* From the first instant on. */
	{ { { 0, 200 } }, 2, { { 0, 200, 0, INT64_MAX }, { 1, 200, 0, INT64_MAX } } },
	/* The same instant: the last one counts, however often, and also back again. */
	{ { { 1000, 200 }, { 1000, 300 } }, 3,
	    { { 999, 100, 0, 1000 }, { 1000, 300, 1000, INT64_MAX } } },
	{ { { 1000, 200 }, { 1000, 300 }, { 1000, 200 } }, 4, { { 1000, 200, 1000, INT64_MAX } } },
	{ { { 1000, 200 }, { 1000, 100 } }, 3,
	    { { 999, 100, 0, 1000 }, { 1000, 100, 1000, INT64_MAX } } },
	{ { { 0, 200 }, { 0, 300 }, { 0, 100 } }, 4, { { 0, 100, 0, INT64_MAX } } },
	/* Also what is in force then anyway is kept: it stays so whatever is set before it. */
	{ { { 1000, 100 } }, 2, { { 999, 100, 0, 1000 }, { 1000, 100, 1000, INT64_MAX } } },
	{ { { 1000, 100 }, { 500, 200 } }, 3,
	    { { 499, 100, 0, 500 }, { 500, 200, 500, 1000 }, { 1000, 100, 1000, INT64_MAX } } },
	{ { { 1000, 200 }, { 2000, 100 }, { 1500, 200 } }, 4,
	    { { 1000, 200, 1000, 1500 }, { 1500, 200, 1500, 2000 },
		{ 2000, 100, 2000, INT64_MAX } } },
	/* Several, out of order. */
	{ { { 4000, 400 }, { 2000, 200 }, { 3000, 300 }, { 1000, 150 }, { 3000, 0 } }, 6,
	    { { 1999, 150, 1000, 2000 }, { 2999, 200, 2000, 3000 }, { 3000, 0, 3000, 4000 },
		{ 3999, 0, 3000, 4000 }, { 4000, 400, 4000, INT64_MAX } } },
};

START_TEST(the_price_in_force_is_the_latest_not_after_the_instant)
{
	data_begin();
	ck_assert_int_eq(db_begin(db), OK);
	for (size_t i = 0; i < COUNT(histories); i++) {
		struct tariff_type type = add_type(100);

		for (size_t j = 0; j < 5 &&
		     (j == 0 ? i > 0 : histories[i].set[j].cents + histories[i].set[j].from_us > 0);
		     j++)
			set_price(type.id, histories[i].set[j].from_us, histories[i].set[j].cents);
		ck_assert_msg(data_ask_of("SELECT count(*) FROM prices WHERE type_id = $1",
				  type.id) == (int64_t)histories[i].rows,
		    "%zu", i);
		for (size_t j = 0; j < 5 && histories[i].asked[j].until_us != 0; j++) {
			struct tariff_price price = { -1, -1, -1 };
			int64_t at_us = histories[i].asked[j].at_us;
			bool found = false;

			ck_assert_int_eq(tariff_price_at(db, type.id, at_us, &price, &found), OK);
			ck_assert(found);
			ck_assert_msg(price.amount_in_cents == histories[i].asked[j].cents &&
				price.from_us == histories[i].asked[j].from_us &&
				price.until_us == histories[i].asked[j].until_us,
			    "history %zu at %lld: %lld of %lld..%lld", i, (long long)at_us,
			    (long long)price.amount_in_cents, (long long)price.from_us,
			    (long long)price.until_us);
			ck_assert_int_eq(tariff_get(db, type.id, at_us, &type), OK);
			ck_assert_int_eq(type.amount_in_cents, histories[i].asked[j].cents);
		}
	}
	ck_assert_int_eq(db_commit(db), OK);
	data_end();
}
END_TEST

START_TEST(a_change_has_a_version_and_an_audit_row_and_tells_what_is_in_force_now)
{
	static const struct {
		const char *name;
		int64_t cents, from_us, now_cents;
		const char *detail;
	} rows[] = {
		{ "a", 200, NOW_US, 200,
		    "{\"amount_in_cents\":200,\"valid_from_us\":1800000000000000}" },
		{ "b", 300, NOW_US + 1, 200,
		    "{\"amount_in_cents\":300,\"valid_from_us\":1800000000000001}" },
		{ "b", 400, 5, 200, "{\"amount_in_cents\":400,\"valid_from_us\":5}" },
		{ "b", 200, NOW_US, 200,
		    "{\"amount_in_cents\":200,\"valid_from_us\":1800000000000000}" },
		{ "c", 0, NOW_US - 1, 200,
		    "{\"amount_in_cents\":0,\"valid_from_us\":1799999999999999}" },
		{ "c", 0, NOW_US, 0, "{\"amount_in_cents\":0,\"valid_from_us\":1800000000000000}" },
	};
	struct tariff_type type = { .name = "a", .amount_in_cents = 100, .currency = "SEK" };
	char expected[256];

	data_begin();
	ck_assert_int_eq(tariff_add(db, &actor, &type), OK);
	for (size_t i = 0; i < COUNT(rows); i++) {
		(void)stpcpy(type.name, rows[i].name);
		ck_assert_int_eq(
		    tariff_change(db, &actor, &type, rows[i].cents, rows[i].from_us), OK);
		ck_assert_int_eq(type.version, (int64_t)i + 2);
		ck_assert_str_eq(type.name, rows[i].name);
		ck_assert_int_eq(type.amount_in_cents, rows[i].now_cents);
		(void)snprintf(expected, sizeof(expected),
		    "1800000000000000 tester: type changed 1 %s\n", rows[i].detail);
		ck_assert_str_eq(last_audit(), expected);
	}
	ck_assert_int_eq(audit_count(), (int64_t)COUNT(rows) + 1);
	data_end();
}
END_TEST

START_TEST(a_type_is_deleted_once_no_event_uses_it)
{
	struct tariff_type type, other;
	struct ledger_event event;

	data_begin();
	other = add_type(100);
	type = add_type(200);
	set_price(type.id, 1000, 300);
	event = add_event(type.id, 1, 0);
	check_conflict(tariff_delete(db, &actor, &type), "there are events of this type");
	ck_assert_int_eq(tariff_get(db, type.id, NOW_US, &type), OK);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM prices"), 3);
	ck_assert_int_eq(ledger_event_delete(db, &actor, &scope_all, INT64_MIN, &event), OK);
	ck_assert_int_eq(tariff_delete(db, &actor, &type), OK);
	ck_assert_str_eq(last_audit(),
	    "1800000000000000 tester: type deleted 2 "
	    "{\"amount_in_cents\":300,\"valid_from_us\":0}\n");
	ck_assert_int_eq(tariff_get(db, type.id, NOW_US, &type), ERR_NOT_FOUND);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM prices"), 1);
	ck_assert_int_eq(tariff_get(db, other.id, NOW_US, &other), OK);
	data_end();
}
END_TEST

START_TEST(an_id_is_never_used_again)
{
	struct tariff_type type;

	data_begin();
	(void)add_type(1);
	type = add_type(2);
	ck_assert_int_eq(tariff_delete(db, &actor, &type), OK);
	ck_assert_int_eq(add_type(3).id, 3);
	ck_assert_int_eq(tariff_get(db, 3, NOW_US, &type), OK);
	ck_assert_int_eq(tariff_delete(db, &actor, &type), OK);
	db_close(db);
	data_open();
	ck_assert_int_eq(add_type(4).id, 4);
	data_end();
}
END_TEST

START_TEST(a_deleted_name_is_free_again)
{
	struct tariff_type type = { .name = "a", .currency = "SEK" };

	data_begin();
	ck_assert_int_eq(tariff_add(db, &actor, &type), OK);
	ck_assert_int_eq(tariff_delete(db, &actor, &type), OK);
	ck_assert_int_eq(tariff_add(db, &actor, &type), OK);
	ck_assert_int_eq(type.id, 2);
	data_end();
}
END_TEST

static struct tariff_type types[PAGE_LIMIT_MAX + 1];

START_TEST(pages_give_every_type_once_in_the_order_of_ids)
{
	static const int64_t limits[] = { 1, 2, 7, 24, 25, 26, PAGE_LIMIT_MAX };
	struct tariff_type gone;

	data_begin();
	ck_assert_int_eq(db_begin(db), OK);
	for (int64_t i = 1; i <= 26; i++)
		set_price(add_type(i).id, NOW_US + 1, 1000 + i);
	ck_assert_int_eq(tariff_get(db, 13, NOW_US, &gone), OK);
	ck_assert_int_eq(tariff_delete(db, &actor, &gone), OK);
	for (size_t i = 0; i < COUNT(limits); i++) {
		struct page page = { limits[i], 0 };
		int64_t now_us = i % 2 == 0 ? NOW_US : NOW_US + 1, id = 0;
		bool more = true;
		size_t count;

		while (more) {
			ck_assert_int_eq(tariff_list(db, now_us, &page, types, &count, &more), OK);
			ck_assert_uint_gt(count, 0);
			ck_assert(!more || (int64_t)count == page.limit);
			for (size_t j = 0; j < count; j++) {
				id += id == 12 ? 2 : 1;
				ck_assert_int_eq(types[j].id, id);
				ck_assert_int_eq(
				    types[j].amount_in_cents, now_us == NOW_US ? id : 1000 + id);
			}
			page.after = types[count - 1].id;
		}
		ck_assert_int_eq(id, 26);
		ck_assert_int_eq(tariff_list(db, now_us, &page, types, &count, &more), OK);
		ck_assert(count == 0 && !more);
	}
	db_rollback(db);
	data_end();
}
END_TEST

START_TEST(a_connection_that_only_reads_changes_nothing)
{
	struct tariff_type type;
	struct db *writer;

	data_begin();
	type = add_type(5);
	writer = db;
	ck_assert_int_eq(db_open(LEDGER_FILE, DB_READ, &ledger_schema, &db), OK);
	ck_assert_int_eq(tariff_change(db, &actor, &type, 6, 0), ERR_BUSY);
	ck_assert_int_eq(tariff_delete(db, &actor, &type), ERR_BUSY);
	(void)stpcpy(type.name, "new");
	ck_assert_int_eq(tariff_add(db, &actor, &type), ERR_BUSY);
	db_close(db);
	db = writer;
	ck_assert_int_eq(audit_count(), 1);
	data_end();
}
END_TEST

START_TEST(what_is_in_force_from_now_on_is_what_was_set_last_whatever_the_clock_says)
{
	struct tariff_type type = { .name = "a", .amount_in_cents = 100, .currency = "SEK" };
	const struct audit_actor far_ahead = { "tester", NOW_US + 300 * DAY_US };
	const int64_t set_back_us[] = { NOW_US, NOW_US - CLOCK_SECOND_US, NOW_US - 1, NOW_US + 1 };

	data_begin();
	ck_assert_int_eq(tariff_add(db, &actor, &type), OK);
	/* What was announced beforehand stays where it is. */
	ck_assert_int_eq(tariff_change(db, &actor, &type, 900, NOW_US + DAY_US), OK);
	for (size_t i = 0; i < COUNT(set_back_us); i++) {
		const struct audit_actor then = { "tester", set_back_us[i] };

		ck_assert_int_eq(
		    tariff_change(db, &then, &type, 200 + (int64_t)i, TARIFF_FROM_NOW), OK);
		ck_assert_int_eq(tariff_get(db, 1, NOW_US + 2, &type), OK);
		ck_assert_int_eq(type.amount_in_cents, 200 + (int64_t)i);
	}
	ck_assert_int_eq(tariff_get(db, 1, NOW_US + DAY_US, &type), OK);
	ck_assert_int_eq(type.amount_in_cents, 900);
	/* But not whatever a clock says that was far ahead. */
	ck_assert_int_eq(tariff_change(db, &far_ahead, &type, 5, TARIFF_FROM_NOW), OK);
	ck_assert_int_eq(tariff_change(db, &actor, &type, 700, TARIFF_FROM_NOW), OK);
	ck_assert_int_eq(tariff_get(db, 1, NOW_US + 2, &type), OK);
	ck_assert_int_eq(type.amount_in_cents, 700);
	data_end();
}
END_TEST

START_TEST(the_history_comes_in_pages_in_the_order_of_setting)
{
	struct tariff_type type = { .name = "a", .amount_in_cents = 100, .currency = "SEK" };
	struct tariff_set_price prices[3];
	size_t count;
	bool more;

	data_begin();
	ck_assert_int_eq(tariff_add(db, &actor, &type), OK);
	ck_assert_int_eq(tariff_change(db, &actor, &type, 300, DAY_US), OK);
	ck_assert_int_eq(tariff_change(db, &actor, &type, 200, HOUR_US), OK);
	ck_assert_int_eq(tariff_prices(db, 1, &(struct page){ 2, 0 }, prices, &count, &more), OK);
	ck_assert_uint_eq(count, 2);
	ck_assert(more);
	ck_assert_int_eq(prices[0].amount_in_cents, 100);
	ck_assert_int_eq(prices[1].amount_in_cents, 300);
	ck_assert_int_eq(prices[1].valid_from_us, DAY_US);
	ck_assert_int_eq(prices[1].created_at_us, NOW_US);
	ck_assert_int_eq(
	    tariff_prices(db, 1, &(struct page){ 2, prices[1].id }, prices, &count, &more), OK);
	ck_assert_uint_eq(count, 1);
	ck_assert(!more);
	ck_assert_int_eq(prices[0].amount_in_cents, 200);
	ck_assert_str_eq(prices[0].currency, "SEK");
	ck_assert_int_eq(
	    tariff_prices(db, 2, &(struct page){ 2, 0 }, prices, &count, &more), ERR_NOT_FOUND);
	data_end();
}
END_TEST

CHECK_MAIN(tariff,
    { a_new_type_has_a_price_since_ever_and_an_audit_row, amounts_go_from_nothing_to_the_limit,
	a_name_has_up_to_200_characters_of_any_length, a_name_is_taken_once_and_as_it_is_written,
	what_is_not_there_is_not_found, the_price_in_force_is_the_latest_not_after_the_instant,
	a_change_has_a_version_and_an_audit_row_and_tells_what_is_in_force_now,
	a_type_is_deleted_once_no_event_uses_it, an_id_is_never_used_again,
	a_deleted_name_is_free_again, pages_give_every_type_once_in_the_order_of_ids,
	a_connection_that_only_reads_changes_nothing,
	what_is_in_force_from_now_on_is_what_was_set_last_whatever_the_clock_says,
	the_history_comes_in_pages_in_the_order_of_setting })
