#include "data_set.h"

#include <time.h>

/* --- One event. */

static bool
same(const struct ledger_event *a, const struct ledger_event *b)
{
	return a->id == b->id && a->type_id == b->type_id && a->caregiver_id == b->caregiver_id &&
	    a->start_time_us == b->start_time_us && a->created_at_us == b->created_at_us &&
	    a->reimbursed_at_us == b->reimbursed_at_us &&
	    a->amount_in_cents == b->amount_in_cents && strcmp(a->currency, b->currency) == 0;
}

static void
check_get(int64_t id, const struct ledger_event *expected)
{
	struct ledger_event got;

	ck_assert_int_eq(ledger_event_get(db, id, &scope_all, &got), OK);
	ck_assert(same(&got, expected));
}

START_TEST(an_event_is_kept_as_it_was_registered)
{
	static const struct {
		int64_t caregiver_id, start_us;
	} rows[] = { { 1, 0 }, { 17, NOW_US - HOUR_US }, { INT64_MAX, NOW_US + DAY_US },
		{ 2, INT64_C(253402300799999999) } };

	data_begin();
	(void)add_type(25000);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct ledger_event event = { .id = 77,
			.type_id = 1,
			.caregiver_id = rows[i].caregiver_id,
			.start_time_us = rows[i].start_us,
			.created_at_us = 5,
			.reimbursed_at_us = 6,
			.amount_in_cents = 7 };

		ck_assert_int_eq(ledger_event_add(db, &actor, &event), OK);
		ck_assert_int_eq(event.id, (int64_t)i + 1);
		ck_assert_int_eq(event.amount_in_cents, 25000);
		ck_assert_str_eq(event.currency, "SEK");
		ck_assert_int_eq(event.created_at_us, NOW_US);
		ck_assert_int_eq(event.reimbursed_at_us, 0);
		check_get(event.id, &event);
	}
	ck_assert_str_eq(last_audit(), "1800000000000000 tester: event created 4 -\n");
	ck_assert_int_eq(audit_count(), (int64_t)COUNT(rows) + 1);
	ck_assert_int_eq(wrong_sums(), 0);
	data_end();
}
END_TEST

START_TEST(an_unknown_type_is_a_bad_field)
{
	static const int64_t ids[] = { 2, 0, -1, INT64_MAX };

	data_begin();
	(void)add_type(5);
	for (size_t i = 0; i < COUNT(ids); i++) {
		struct ledger_event event = { .type_id = ids[i], .caregiver_id = 1 };
		size_t count;

		err_clear();
		ck_assert_int_eq(ledger_event_add(db, &actor, &event), ERR_INPUT);
		ck_assert_str_eq(err_fields(&count)[0].pointer, "#/type_id");
		ck_assert_str_eq(err_fields(&count)[0].detail, "there is no such type");
		ck_assert_uint_eq(count, 1);
	}
	ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), 0);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM sums"), 0);
	ck_assert_int_eq(audit_count(), 1);
	data_end();
}
END_TEST

START_TEST(what_the_schema_forbids_is_a_conflict)
{
	static const struct ledger_event rows[] = {
		{ .type_id = 1, .caregiver_id = 0 },
		{ .type_id = 1, .caregiver_id = -1 },
		{ .type_id = 1, .caregiver_id = 1, .start_time_us = -1 },
		{ .type_id = 2, .caregiver_id = 1 }, /* by ledger_insert() */
		{ .type_id = 1, .caregiver_id = 1, .amount_in_cents = -1 },
		{ .type_id = 1, .caregiver_id = 1, .amount_in_cents = INT64_C(1) << 31 },
	};

	data_begin();
	(void)add_type(5);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct ledger_event event = rows[i];

		ck_assert_int_eq(ledger_insert(db, &event), ERR_CONFLICT);
	}
	ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), 0);
	data_end();
}
END_TEST

/* What is paid: prices are set, the event is registered, and nothing moves its amount later. */
static const struct {
	struct {
		int64_t from_us, cents;
	} set[3]; /* 0: no more */
	int64_t start_us, cents;
} paid[] = {
	{ { { 0, 0 } }, 0, 100 },
	{ { { 0, 0 } }, NOW_US + DAY_US, 100 },
	{ { { NOW_US, 200 } }, NOW_US - 1, 100 },
	{ { { NOW_US, 200 } }, NOW_US, 200 },
	{ { { NOW_US, 200 } }, NOW_US + 1, 200 },
	/* Set in advance. */
	{ { { NOW_US + DAY_US, 200 } }, NOW_US, 100 },
	{ { { NOW_US + DAY_US, 200 } }, NOW_US + DAY_US - 1, 100 },
	{ { { NOW_US + DAY_US, 200 } }, NOW_US + DAY_US, 200 },
	/* Retroactively. */
	{ { { NOW_US, 300 }, { NOW_US - DAY_US, 200 } }, NOW_US - DAY_US - 1, 100 },
	{ { { NOW_US, 300 }, { NOW_US - DAY_US, 200 } }, NOW_US - DAY_US, 200 },
	{ { { NOW_US, 300 }, { NOW_US - DAY_US, 200 } }, NOW_US - 1, 200 },
	{ { { NOW_US, 300 }, { NOW_US - DAY_US, 200 } }, NOW_US, 300 },
	{ { { 1, 200 } }, 0, 100 },
	/* At one instant: the last. */
	{ { { NOW_US, 200 }, { NOW_US, 300 } }, NOW_US - 1, 100 },
	{ { { NOW_US, 200 }, { NOW_US, 300 } }, NOW_US, 300 },
	{ { { NOW_US, 300 }, { NOW_US, 200 }, { NOW_US, 100 } }, NOW_US, 100 },
	{ { { NOW_US, TARIFF_AMOUNT_MAX } }, NOW_US, TARIFF_AMOUNT_MAX },
};

START_TEST(an_event_is_paid_the_price_in_force_at_its_start_and_never_another)
{
	static struct ledger_event events[COUNT(paid)];

	data_begin();
	ck_assert_int_eq(db_begin(db), OK);
	for (size_t i = 0; i < COUNT(paid); i++) {
		struct tariff_type type = add_type(100);

		for (size_t j = 0; j < 3 && paid[i].set[j].from_us > 0; j++)
			set_price(type.id, paid[i].set[j].from_us, paid[i].set[j].cents);
		events[i] = add_event(type.id, (int64_t)i + 1, paid[i].start_us);
		ck_assert_msg(events[i].amount_in_cents == paid[i].cents, "%zu: %lld", i,
		    (long long)events[i].amount_in_cents);
		set_price(type.id, 0, 7);
		set_price(type.id, paid[i].start_us, 8);
		set_price(type.id, NOW_US, 9);
		if (i % 3 == 0)
			ck_assert_int_eq(ledger_event_reimburse(db, &actor, &events[i]), OK);
		if (i % 3 == 1)
			set_price(type.id, paid[i].start_us, 10);
	}
	for (size_t i = 0; i < COUNT(paid); i++)
		check_get(events[i].id, &events[i]);
	ck_assert_int_eq(db_commit(db), OK);
	ck_assert_int_eq(wrong_sums(), 0);
	data_end();
}
END_TEST

START_TEST(an_event_is_reimbursed_once_and_then_not_deleted)
{
	struct ledger_event event;

	data_begin();
	(void)add_type(500);
	event = add_event(1, 3, 1000);
	actor.now_us = NOW_US + 1;
	ck_assert_int_eq(ledger_event_reimburse(db, &actor, &event), OK);
	ck_assert_int_eq(event.reimbursed_at_us, NOW_US + 1);
	check_get(1, &event);
	ck_assert_str_eq(last_audit(), "1800000000000001 tester: event reimbursed 1 -\n");
	ck_assert_str_eq(data_rows("SELECT month || ' ' || caregiver_id || ' ' || open_cents || "
				   "' ' || reimbursed_cents || ' ' || open_events || ' ' || "
				   "reimbursed_events FROM sums"),
	    "23640 3 0 500 0 1\n");
	actor.now_us = NOW_US + 2;
	ck_assert_int_eq(ledger_event_reimburse(db, &actor, &event), ERR_CONFLICT);
	ck_assert_str_eq(err_words(), "this event is reimbursed already");
	ck_assert_int_eq(
	    ledger_event_delete(db, &actor, &scope_all, INT64_MIN, &event), ERR_CONFLICT);
	ck_assert_str_eq(err_words(), "a reimbursed event is not deleted");
	check_get(1, &event);
	ck_assert_int_eq(audit_count(), 3);
	ck_assert_int_eq(wrong_sums(), 0);
	data_end();
}
END_TEST

START_TEST(a_deleted_event_leaves_only_its_audit)
{
	struct ledger_event event, got;

	data_begin();
	(void)add_type(500);
	event = add_event(1, INT64_MAX, instant("2026-11-20T10:00:00Z"));
	ck_assert_int_eq(ledger_event_delete(db, &actor, &scope_all, INT64_MIN, &event), OK);
	ck_assert_str_eq(last_audit(),
	    "1800000000000000 tester: event deleted 1 {\"type_id\":1,"
	    "\"caregiver_id\":9223372036854775807,\"start_time_us\":1795168800000000,"
	    "\"amount_in_cents\":500}\n");
	ck_assert_int_eq(ledger_event_get(db, 1, &scope_all, &got), ERR_NOT_FOUND);
	ck_assert_str_eq(err_words(), "there is no event 1");
	ck_assert_int_eq(data_ask("SELECT count(*) FROM sums"), 0);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), 0);
	data_end();
}
END_TEST

START_TEST(an_id_is_never_used_again)
{
	struct ledger_event event;

	data_begin();
	(void)add_type(1);
	for (int64_t id = 1; id <= 4; id++) {
		event = add_event(1, 1, 0);
		ck_assert_int_eq(event.id, id);
		ck_assert_int_eq(
		    ledger_event_delete(db, &actor, &scope_all, INT64_MIN, &event), OK);
		if (id % 2 == 0) {
			db_close(db);
			data_open();
		}
	}
	data_end();
}
END_TEST

/* --- Sums. */

#define MODEL_MAX 2000
#define MONTHS 80 /* from January 2020 on */
#define MODEL_MONTH (2020 * 12)
#define CAREGIVERS 12
#define TYPES 5

static struct ledger_event model[MODEL_MAX];
static size_t model_count;

/* The month by the C library, not by clock.h. */
static int64_t
month_of(int64_t us)
{
	time_t t = us / CLOCK_SECOND_US;
	struct tm tm;

	ck_assert_ptr_nonnull(gmtime_r(&t, &tm));
	return (tm.tm_year + 1900) * INT64_C(12) + tm.tm_mon;
}

/* Every cell of the sums, from the model alone. */
static void
check_sums(void)
{
	static struct ledger_sum expected[MONTHS][CAREGIVERS + 1];
	struct ledger_sum stored;
	struct db_query q;
	int64_t cells = 0, rows = 0;
	bool found;

	memset(expected, 0, sizeof(expected));
	for (size_t i = 0; i < model_count; i++) {
		int64_t month = month_of(model[i].start_time_us);
		struct ledger_sum *sum = &expected[month - MODEL_MONTH][model[i].caregiver_id];
		bool is_paid = model[i].reimbursed_at_us != 0;

		cells += sum->open_events + sum->reimbursed_events == 0;
		sum->month = month;
		sum->caregiver_id = model[i].caregiver_id;
		sum->open_cents += is_paid ? 0 : model[i].amount_in_cents;
		sum->open_events += !is_paid;
		sum->reimbursed_cents += is_paid ? model[i].amount_in_cents : 0;
		sum->reimbursed_events += is_paid;
	}
	db_query(&q, db, &sql_events_report_sums);
	db_bind_int(&q, INT64_MIN);
	db_bind_int(&q, INT64_MIN);
	db_bind_int(&q, INT64_MAX);
	for (; db_next(&q, &found) == OK && found; rows++) {
		ledger_take_sum(&q, &stored);
		ck_assert_mem_eq(&stored,
		    &expected[stored.month - MODEL_MONTH][stored.caregiver_id], sizeof(stored));
	}
	ck_assert_int_eq(q.err, OK);
	db_done(&q);
	ck_assert_int_eq(rows, cells);
}

/* 2,000 events entered in any order, on 130 days of six years, some then reimbursed or deleted. */
static void
build_model(void)
{
	const int64_t begin_us = instant("2020-01-05T00:00:00Z");

	ck_assert_int_eq(db_begin(db), OK);
	for (int64_t i = 1; i <= TYPES; i++)
		set_price(add_type(100 * i).id, begin_us + 800 * DAY_US, 100 * i + 50);
	for (model_count = 0; model_count < MODEL_MAX; model_count++)
		model[model_count] = add_event(1 + drawn(TYPES), 1 + drawn(CAREGIVERS),
		    begin_us + drawn(130) * 17 * DAY_US +
			(drawn(20) == 0 ? drawn(2) * (DAY_US - 1) : drawn(DAY_US)));
	for (size_t i = 0; i < model_count; i++)
		if (drawn(3) == 0)
			ck_assert_int_eq(ledger_event_reimburse(db, &actor, &model[i]), OK);
	for (size_t i = 0; i < model_count; i++) {
		if (model[i].reimbursed_at_us != 0 || drawn(8) != 0)
			continue;
		ck_assert_int_eq(
		    ledger_event_delete(db, &actor, &scope_all, INT64_MIN, &model[i]), OK);
		memmove(&model[i], &model[i + 1], (--model_count - i) * sizeof(model[0]));
	}
	ck_assert_int_eq(db_commit(db), OK);
}

START_TEST(sums_are_what_the_events_are_after_any_change)
{
	data_begin();
	build_model();
	check_sums();
	ck_assert_int_eq(wrong_sums(), 0);
	ck_assert_int_eq(db_begin(db), OK);
	while (model_count > 0) {
		struct ledger_event *event = &model[--model_count];

		if (event->reimbursed_at_us == 0)
			ck_assert_int_eq(
			    ledger_event_delete(db, &actor, &scope_all, INT64_MIN, event), OK);
		else
			model[MODEL_MAX - 1] = *event;
		if (model_count % 500 == 0)
			ck_assert_int_eq(wrong_sums(), 0);
	}
	ck_assert_int_eq(db_commit(db), OK);
	ck_assert_int_eq(data_ask("SELECT sum(open_events) FROM sums"), 0);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM sums WHERE reimbursed_events = 0"), 0);
	data_end();
}
END_TEST

START_TEST(sums_of_several_are_added_at_once)
{
	static const struct ledger_sum rows[] = {
		{ 24000, 1, 10, 0, 1, 0 },
		{ 24000, 1, 20, 5, 2, 1 },
		{ 24000, 1, 0, 7, 0, 2 },
		{ 24000, 2, 0, 9, 0, 1 },
		{ 24001, 1, 0, 0, 3, 4 },
	};

	data_begin();
	for (size_t i = 0; i < COUNT(rows); i++)
		ck_assert_int_eq(ledger_sums_add(db, &rows[i]), OK);
	ck_assert_str_eq(data_rows("SELECT month || ' ' || caregiver_id || ' ' || open_cents || "
				   "' ' || reimbursed_cents || ' ' || open_events || ' ' || "
				   "reimbursed_events FROM sums ORDER BY month, caregiver_id"),
	    "24000 1 30 12 3 3\n24000 2 0 9 0 1\n24001 1 0 0 3 4\n");
	data_end();
}
END_TEST

/* --- Lists. */

static bool
fits(const struct ledger_filter *filter, const struct ledger_event *event)
{
	return scope_has(filter->scope, event->caregiver_id) &&
	    (filter->caregiver_id == 0 || event->caregiver_id == filter->caregiver_id) &&
	    (filter->type_id == 0 || event->type_id == filter->type_id) &&
	    (!filter->by_reimbursed || (event->reimbursed_at_us != 0) == filter->reimbursed) &&
	    event->start_time_us > filter->min_time_us &&
	    event->start_time_us < filter->max_time_us;
}

static size_t
fitting(const struct ledger_filter *filter)
{
	size_t count = 0;

	for (size_t i = 0; i < model_count; i++)
		count += fits(filter, &model[i]);
	return count;
}

#define ck_filter(condition, filter) \
	ck_assert_msg(condition, "caregiver %lld type %lld reimbursed %d %d time %lld %lld", \
	    (long long)(filter)->caregiver_id, (long long)(filter)->type_id, \
	    (filter)->by_reimbursed, (filter)->reimbursed, (long long)(filter)->min_time_us, \
	    (long long)(filter)->max_time_us)

/* All pages, each begun behind the last event of the one before, against the model. */
static void
check_list(const struct ledger_filter *filter, int64_t limit)
{
	static struct ledger_event events[PAGE_LIMIT_MAX + 1];
	struct page page = { limit, 0 };
	size_t count, next = 0;
	bool more = true;

	while (more) {
		ck_assert_int_eq(ledger_list(db, filter, &page, events, &count, &more), OK);
		ck_filter(!more || (int64_t)count == limit, filter);
		for (size_t i = 0; i < count; i++, next++) {
			while (next < model_count && !fits(filter, &model[next]))
				next++;
			ck_filter(next < model_count, filter);
			ck_filter(same(&events[i], &model[next]), filter);
		}
		if (count > 0)
			page.after = events[count - 1].id;
		ck_filter(count > 0 || !more, filter);
	}
	for (; next < model_count; next++)
		ck_filter(!fits(filter, &model[next]), filter);
}

/* As many pages as the number of fitting events makes it worth. */
static void
check_pages(const struct ledger_filter *filter)
{
	size_t count = fitting(filter);

	check_list(filter, 1000);
	check_list(filter, 100);
	if (count <= 300)
		check_list(filter, 7);
	if (count <= 30)
		check_list(filter, 1);
}

START_TEST(each_filter_and_each_combination_lists_what_fits_in_the_order_of_ids)
{
	static const int64_t caregivers[] = { 0, 3, CAREGIVERS + 1 };
	static const int64_t type_ids[] = { 0, 2, TYPES + 1 };
	int64_t times[][2] = { { INT64_MIN, INT64_MAX }, { 0, INT64_MAX },
		{ INT64_MIN, instant("2020-03-01T00:00:00Z") },
		{ instant("2025-12-01T12:34:56.789Z"), INT64_MAX },
		{ instant("2022-01-01T00:00:00Z"), instant("2022-02-20T07:00:00Z") },
		{ instant("2021-06-15T11:00:00Z"), instant("2024-03-02T13:00:00Z") },
		{ model[0].start_time_us, model[1].start_time_us },
		{ model[1].start_time_us, model[0].start_time_us } };

	data_begin();
	build_model();
	times[6][0] = times[7][1] = model[0].start_time_us;
	times[6][1] = times[7][0] = model[1].start_time_us;
	for (size_t i = 0; i < COUNT(caregivers); i++)
		for (size_t j = 0; j < COUNT(type_ids); j++)
			for (size_t k = 0; k < COUNT(times); k++)
				for (int paid_as = -1; paid_as <= 1; paid_as++) {
					const struct ledger_filter filter = { caregivers[i],
						type_ids[j], paid_as >= 0, paid_as == 1,
						times[k][0], times[k][1], &scope_all };

					check_pages(&filter);
				}
	data_end();
}
END_TEST

/* Of a manager of so many of all caregivers, and of one that there is not. */
static const struct scope *
scope_of(int64_t count)
{
	static struct scope scope;
	struct who who = { .roles = ROLE_MANAGER };

	for (int64_t id = CAREGIVERS + 1; id > CAREGIVERS - count; id--)
		who.caregivers[who.caregiver_count++] = id;
	scope_begin(&scope, SCOPE_EVENTS_READ, &who);
	return &scope;
}

START_TEST(random_filters_list_what_the_model_says)
{
	data_begin();
	build_model();
	for (int i = 0; i < 100; i++) {
		struct ledger_filter filter = LEDGER_FILTER_NONE;

		if (drawn(2) == 0)
			filter.scope = scope_of(drawn(CAREGIVERS + 1));
		filter.caregiver_id = drawn(2) * drawn(CAREGIVERS + 2);
		filter.type_id = drawn(2) * drawn(TYPES + 2);
		filter.by_reimbursed = drawn(2) == 0;
		filter.reimbursed = drawn(2) == 0;
		if (drawn(3) > 0)
			filter.min_time_us =
			    model[drawn((int64_t)model_count)].start_time_us - 1 + drawn(3);
		if (drawn(3) > 0)
			filter.max_time_us = drawn(2) == 0
			    ? filter.min_time_us + drawn(90 * DAY_US)
			    : model[drawn((int64_t)model_count)].start_time_us - 1 + drawn(3);
		check_pages(&filter);
	}
	data_end();
}
END_TEST

/* Events at the ends of days and months, and bounds on, before and behind each of them. */
START_TEST(days_and_months_are_cut_at_both_ends_to_the_microsecond)
{
	static const int64_t days[] = { 0, 1, 30, 31, 33, 59, 400 };
	static const int64_t in_day[] = { 0, 1, 12 * HOUR_US, DAY_US - 1 };
	int64_t bounds[COUNT(days) * 4 + 4];
	size_t count = 0;

	data_begin();
	(void)add_type(5);
	ck_assert_int_eq(db_begin(db), OK);
	for (model_count = 0; model_count < 60; model_count++)
		model[model_count] = add_event(1, 1 + drawn(3),
		    days[drawn(COUNT(days))] * DAY_US + in_day[drawn(COUNT(in_day))]);
	ck_assert_int_eq(db_commit(db), OK);
	for (size_t i = 0; i < COUNT(days); i++) {
		const int64_t at[] = { -1, 0, 1, DAY_US - 1 };

		for (size_t j = 0; j < COUNT(at); j++)
			bounds[count++] = days[i] * DAY_US + at[j];
	}
	bounds[count++] = INT64_MIN;
	bounds[count++] = INT64_MAX;
	bounds[count++] = 500 * DAY_US;
	bounds[count++] = INT64_MAX - 1;
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < count; j++) {
			struct ledger_filter filter = LEDGER_FILTER_NONE;

			filter.min_time_us = bounds[i];
			filter.max_time_us = bounds[j];
			check_list(&filter, 100);
			filter.caregiver_id = 1 + (int64_t)(i + j) % 3;
			check_list(&filter, 3);
		}
	data_end();
}
END_TEST

START_TEST(a_page_begins_behind_any_id_also_one_that_is_gone)
{
	struct ledger_filter filter = LEDGER_FILTER_NONE;
	struct ledger_event events[3];
	size_t count;
	bool more;

	data_begin();
	build_model();
	for (int by = 0; by < 5; by++) {
		filter = LEDGER_FILTER_NONE;
		filter.caregiver_id = by == 1 ? 1 : 0;
		filter.type_id = by == 2 ? 1 : 0;
		filter.by_reimbursed = by == 3;
		filter.min_time_us = by == 4 ? 0 : INT64_MIN;
		for (int64_t after = 0; after <= MODEL_MAX + 10; after += 13) {
			struct page page = { 2, after };
			size_t next = 0;

			while (next < model_count &&
			    (model[next].id <= after || !fits(&filter, &model[next])))
				next++;
			ck_assert_int_eq(
			    ledger_list(db, &filter, &page, events, &count, &more), OK);
			ck_assert((count == 0) == (next == model_count));
			ck_assert(count == 0 || events[0].id == model[next].id);
		}
		ck_assert_int_eq(
		    ledger_list(db, &filter, &(struct page){ 2, INT64_MAX }, events, &count, &more),
		    OK);
		ck_assert(count == 0 && !more);
	}
	data_end();
}
END_TEST

#define LONG_DAYS 5100

/* A period is read by its days only as long as that is worth it. */
START_TEST(a_list_over_very_many_days_has_all_of_them_too)
{
	const struct ledger_filter filter = {
		.min_time_us = 0, .max_time_us = INT64_MAX, .scope = &scope_all
	};
	static struct ledger_event events[LONG_DAYS + 2];
	struct page page = { .limit = 1000 };
	size_t count, all = 0;
	bool more = true;

	data_begin();
	(void)add_type(100);
	ck_assert_int_eq(db_begin(db), OK);
	for (int64_t day = 1; day <= LONG_DAYS; day++)
		(void)add_event(1, 1 + day % 7, day * DAY_US);
	ck_assert_int_eq(db_commit(db), OK);
	for (; more; page.after = events[count - 1].id) {
		ck_assert_int_eq(ledger_list(db, &filter, &page, events, &count, &more), OK);
		for (size_t i = 0; i < count; i++)
			ck_assert_int_eq(events[i].id, (int64_t)++all);
	}
	ck_assert_uint_eq(all, LONG_DAYS);
	data_end();
}
END_TEST

#define MANY 40

/* Of so many that reading each one's months is not worth it. */
START_TEST(a_manager_of_many_is_listed_all_of_theirs_and_nothing_else)
{
	struct ledger_filter filter = LEDGER_FILTER_NONE;
	struct who who = { .roles = ROLE_MANAGER, .caregiver_count = MANY };
	static struct scope scope;

	for (int64_t i = 0; i < MANY; i++)
		who.caregivers[i] = 3 + i;
	scope_begin(&scope, SCOPE_EVENTS_READ, &who);
	filter.scope = &scope;
	data_begin();
	(void)add_type(100);
	(void)add_type(100);
	ck_assert_int_eq(db_begin(db), OK);
	for (model_count = 0; model_count < MODEL_MAX; model_count++)
		model[model_count] = add_event(1 + (int64_t)model_count % 2,
		    1 + (int64_t)model_count % 7, (int64_t)model_count * 3 * DAY_US);
	ck_assert_int_eq(db_commit(db), OK);
	check_pages(&filter);
	filter.min_time_us = model[100].start_time_us;
	check_pages(&filter);
	filter.type_id = 2;
	check_pages(&filter);
	filter.by_reimbursed = true;
	check_pages(&filter);
	filter.type_id = 0;
	check_pages(&filter);
	filter.caregiver_id = 2;
	ck_assert_uint_eq(fitting(&filter), 0);
	check_pages(&filter);
	data_end();
}
END_TEST

START_TEST(an_event_that_is_foreign_or_too_old_is_not_deleted)
{
	static struct scope scope;
	struct who who = { .roles = ROLE_CAREGIVER, .caregiver_id = 3 };
	struct ledger_event own, foreign, got;

	scope_begin(&scope, SCOPE_EVENTS_DELETE, &who);
	data_begin();
	(void)add_type(100);
	own = add_event(1, 3, DAY_US);
	foreign = add_event(1, 4, DAY_US);
	ck_assert_int_eq(
	    ledger_event_delete(db, &actor, &scope, INT64_MIN, &foreign), ERR_FORBIDDEN);
	ck_assert_int_eq(ledger_event_delete(db, &actor, &scope, DAY_US + 1, &own), ERR_FORBIDDEN);
	ck_assert_int_eq(ledger_event_get(db, foreign.id, &scope, &got), ERR_NOT_FOUND);
	ck_assert_int_eq(wrong_sums(), 0);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), 2);
	ck_assert_int_eq(ledger_event_delete(db, &actor, &scope, DAY_US, &own), OK);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM events"), 1);
	ck_assert_int_eq(wrong_sums(), 0);
	data_end();
}
END_TEST

START_TEST(a_database_without_events_lists_none)
{
	struct ledger_filter filter = LEDGER_FILTER_NONE;
	struct ledger_event event;

	data_begin();
	model_count = 0;
	check_list(&filter, 1);
	filter.min_time_us = 0;
	check_list(&filter, 1000);
	filter.caregiver_id = 1;
	check_list(&filter, 1);
	ck_assert_int_eq(ledger_event_get(db, 1, &scope_all, &event), ERR_NOT_FOUND);
	ck_assert_int_eq(wrong_sums(), 0);
	data_end();
}
END_TEST

static const struct {
	const struct db_sql *sql;
	const char *index;
} plans[] = {
	{ &sql_events_event_get, "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)" },
	{ &sql_events_events_list, "SEARCH e USING INTEGER PRIMARY KEY (rowid>?)" },
	{ &sql_events_events_list_filtered, "SEARCH e USING INTEGER PRIMARY KEY (rowid>?)" },
	{ &sql_events_events_list_by_month, "SEARCH e USING INDEX events_by_month (" },
	{ &sql_events_events_list_by_type, "SEARCH e USING INDEX events_by_type (" },
	{ &sql_events_events_list_by_day, "SEARCH e USING INDEX events_by_day (" },
	{ &sql_events_events_list_by_reimbursed, "SEARCH e USING INDEX events_by_reimbursed (" },
	{ &sql_events_month_next, "SEARCH sums USING PRIMARY KEY (" },
	{ &sql_events_day_next, "SEARCH events USING INDEX events_by_day (" },
	{ &sql_events_price_in_force, "SEARCH p USING INDEX prices_in_force (" },
	{ &sql_events_price_begun, "SEARCH prices USING INDEX prices_in_force (" },
	{ &sql_events_price_next, "SEARCH prices USING COVERING INDEX prices_in_force (" },
	{ &sql_events_prices_list, "SEARCH p USING INDEX prices_by_type (" },
	{ &sql_events_report_sums, "SEARCH sums USING PRIMARY KEY (" },
	{ &sql_events_report_events, "SEARCH events USING COVERING INDEX events_by_month (" },
	{ &sql_events_type_used, "SEARCH events USING COVERING INDEX events_by_type (" },
	{ &sql_events_types_list, "SEARCH t USING INTEGER PRIMARY KEY (rowid>?)" },
	{ &sql_events_type_by_name,
	    "SEARCH types USING COVERING INDEX sqlite_autoindex_types_1 (" },
};

/* Whether it reads a whole table; the list of ids, which is a parameter, is none. */
static bool
scans(const char *plan)
{
	for (const char *at = plan; (at = strstr(at, "SCAN ")) != NULL; at++)
		if (strncmp(at, "SCAN json_each ", strlen("SCAN json_each ")) != 0)
			return true;
	return false;
}

START_TEST(each_list_reads_an_index_in_its_own_order)
{
	char *plan;

	data_begin();
	for (size_t i = 0; i < COUNT(plans); i++) {
		ck_assert_int_eq(db_plan(db, plans[i].sql, &plan), OK);
		ck_assert_msg(
		    strstr(plan, plans[i].index) != NULL, "%s: %s", plans[i].sql->name, plan);
		ck_assert_msg(strstr(plan, "TEMP B-TREE") == NULL && !scans(plan), "%s: %s",
		    plans[i].sql->name, plan);
		free(plan);
	}
	data_end();
}
END_TEST

/* --- The version. */

static char version[LEDGER_VERSION_SIZE];

/* Whether the version has changed since it was asked for last. */
static bool
version_moved(void)
{
	char now[LEDGER_VERSION_SIZE];
	bool moved;

	ck_assert_int_eq(ledger_version(db, now), OK);
	moved = strcmp(now, version) != 0;
	ck_assert(!moved || strlen(now) >= 18);
	ck_assert_ptr_null(strpbrk(now, "\" \\"));
	(void)stpcpy(version, now);
	return moved;
}

START_TEST(the_version_changes_with_each_change_and_only_then)
{
	struct ledger_filter filter = LEDGER_FILTER_NONE;
	struct ledger_event event, events[2];
	struct tariff_type type, twin;
	size_t count;
	bool more;

	data_begin();
	version[0] = '\0';
	ck_assert(version_moved());
	ck_assert(!version_moved());
	type = twin = add_type(5);
	ck_assert(version_moved());
	ck_assert_int_eq(tariff_add(db, &actor, &twin), ERR_CONFLICT);
	event = (struct ledger_event){ .type_id = 9, .caregiver_id = 1 };
	ck_assert_int_eq(ledger_event_add(db, &actor, &event), ERR_INPUT);
	ck_assert_int_eq(ledger_event_get(db, 1, &scope_all, &event), ERR_NOT_FOUND);
	ck_assert(!version_moved());
	set_price(type.id, NOW_US, 6);
	ck_assert(version_moved());
	event = add_event(type.id, 1, 0);
	ck_assert(version_moved());
	ck_assert_int_eq(
	    ledger_list(db, &filter, &(struct page){ 1, 0 }, events, &count, &more), OK);
	ck_assert_int_eq(wrong_sums(), 0);
	ck_assert_int_eq(tariff_delete(db, &actor, &type), ERR_CONFLICT);
	ck_assert(!version_moved());
	ck_assert_int_eq(ledger_event_reimburse(db, &actor, &event), OK);
	ck_assert(version_moved());
	ck_assert_int_eq(ledger_event_reimburse(db, &actor, &event), ERR_CONFLICT);
	ck_assert_int_eq(
	    ledger_event_delete(db, &actor, &scope_all, INT64_MIN, &event), ERR_CONFLICT);
	ck_assert(!version_moved());
	event = add_event(type.id, 1, 0);
	ck_assert(version_moved());
	ck_assert_int_eq(ledger_event_delete(db, &actor, &scope_all, INT64_MIN, &event), OK);
	ck_assert(version_moved());
	twin = add_type(5);
	ck_assert(version_moved());
	ck_assert_int_eq(tariff_delete(db, &actor, &twin), OK);
	ck_assert(version_moved());
	db_close(db);
	data_open();
	ck_assert(!version_moved());
	data_end();
}
END_TEST

START_TEST(what_is_rolled_back_leaves_the_version_as_it_was)
{
	data_begin();
	(void)add_type(5);
	(void)version_moved();
	ck_assert_int_eq(db_begin(db), OK);
	(void)add_event(1, 1, 0);
	db_rollback(db);
	ck_assert(!version_moved());
	data_end();
}
END_TEST

START_TEST(each_database_has_versions_of_its_own_also_a_restored_one)
{
	struct db_query q;

	data_begin();
	(void)version_moved();
	db_query(&q, db, &sql_events_epoch_renew);
	ck_assert_int_eq(db_run(&q), OK);
	ck_assert(version_moved());
	data_end();
	data_begin();
	ck_assert(version_moved());
	data_end();
}
END_TEST

/* --- Recount. */

/* What a recount tells, in the order of its calls. */
static struct told {
	size_t count, stop_at;
	struct ledger_sum stored[16], counted[16];
} told;

static enum err
note(void *ctx, const struct ledger_sum *stored, const struct ledger_sum *counted)
{
	struct told *t = ctx;

	ck_assert_uint_lt(t->count, COUNT(t->stored));
	t->stored[t->count] = *stored;
	t->counted[t->count] = *counted;
	return ++t->count == t->stop_at ? fail(ERR_GONE, "enough") : OK;
}

/* Two months (24000 is January 2000) and two caregivers, one event reimbursed. */
static void
begin_recount(void)
{
	struct ledger_event event;

	data_begin();
	(void)add_type(100);
	(void)add_event(1, 1, instant("2000-01-01T00:00:00Z"));
	event = add_event(1, 1, instant("2000-01-31T23:59:59.999999Z"));
	ck_assert_int_eq(ledger_event_reimburse(db, &actor, &event), OK);
	(void)add_event(1, 2, instant("2000-01-15T00:00:00Z"));
	(void)add_event(1, 1, instant("2000-02-01T00:00:00Z"));
	memset(&told, 0, sizeof(told));
	ck_assert_int_eq(ledger_recount(db, note, &told), OK);
	ck_assert_uint_eq(told.count, 0);
}

static const struct {
	const char *script;
	size_t count;
	struct ledger_sum stored, counted; /* the first row that is told */
} wrongs[] = {
	{ "UPDATE sums SET open_cents = 101 WHERE month = 24000 AND caregiver_id = 1", 1,
	    { 24000, 1, 101, 100, 1, 1 }, { 24000, 1, 100, 100, 1, 1 } },
	{ "UPDATE sums SET reimbursed_cents = 99 WHERE month = 24000 AND caregiver_id = 1", 1,
	    { 24000, 1, 100, 99, 1, 1 }, { 24000, 1, 100, 100, 1, 1 } },
	{ "UPDATE sums SET open_events = 0 WHERE month = 24000 AND caregiver_id = 2", 1,
	    { 24000, 2, 100, 0, 0, 0 }, { 24000, 2, 100, 0, 1, 0 } },
	{ "UPDATE sums SET reimbursed_events = 7 WHERE month = 24001", 1,
	    { 24001, 1, 100, 0, 1, 7 }, { 24001, 1, 100, 0, 1, 0 } },
	/* Missing. */
	{ "DELETE FROM sums WHERE month = 24001", 1, { 24001, 1, 0, 0, 0, 0 },
	    { 24001, 1, 100, 0, 1, 0 } },
	{ "DELETE FROM sums WHERE month = 24000", 2, { 24000, 1, 0, 0, 0, 0 },
	    { 24000, 1, 100, 100, 1, 1 } },
	{ "DELETE FROM sums", 3, { 24000, 1, 0, 0, 0, 0 }, { 24000, 1, 100, 100, 1, 1 } },
	{ "UPDATE events SET caregiver_id = 3 WHERE caregiver_id = 2", 2,
	    { 24000, 2, 100, 0, 1, 0 }, { 24000, 2, 0, 0, 0, 0 } },
	/* Surplus, before, between and behind, and where no month is. */
	{ "INSERT INTO sums VALUES (23999, 9, 1, 2, 3, 4)", 1, { 23999, 9, 2, 1, 4, 3 },
	    { 23999, 9, 0, 0, 0, 0 } },
	{ "INSERT INTO sums VALUES (24000, 3, 0, 0, 0, 0)", 1, { 24000, 3, 0, 0, 0, 0 },
	    { 24000, 3, 0, 0, 0, 0 } },
	{ "INSERT INTO sums VALUES (24001, 9223372036854775807, 0, 1, 0, 1)", 1,
	    { 24001, INT64_MAX, 1, 0, 1, 0 }, { 24001, INT64_MAX, 0, 0, 0, 0 } },
	{ "INSERT INTO sums VALUES (0, 1, 0, 1, 0, 1)", 1, { 0, 1, 1, 0, 1, 0 },
	    { 0, 1, 0, 0, 0, 0 } },
	{ "INSERT INTO sums VALUES (-24000, -1, 0, 1, 0, 1)", 1, { -24000, -1, 1, 0, 1, 0 },
	    { -24000, -1, 0, 0, 0, 0 } },
	{ "INSERT INTO sums VALUES (120000, 1, 0, 1, 0, 1)", 1, { 120000, 1, 1, 0, 1, 0 },
	    { 120000, 1, 0, 0, 0, 0 } },
	/* All kinds at once. */
	{ "UPDATE sums SET open_cents = 5 WHERE caregiver_id = 2;"
	  "DELETE FROM sums WHERE month = 24001;"
	  "INSERT INTO sums VALUES (24000, 7, 0, 1, 0, 1);",
	    3, { 24000, 2, 5, 0, 1, 0 }, { 24000, 2, 100, 0, 1, 0 } },
};

START_TEST(a_recount_tells_each_row_that_is_wrong_missing_or_too_much)
{
	for (size_t i = 0; i < COUNT(wrongs); i++) {
		begin_recount();
		data_run(wrongs[i].script);
		ck_assert_int_eq(ledger_recount(db, note, &told), OK);
		ck_assert_msg(
		    told.count == wrongs[i].count, "%s: %zu", wrongs[i].script, told.count);
		ck_assert_mem_eq(&told.stored[0], &wrongs[i].stored, sizeof(told.stored[0]));
		ck_assert_mem_eq(&told.counted[0], &wrongs[i].counted, sizeof(told.counted[0]));
		ck_assert(!db_in_transaction(db));
		data_end();
	}
}
END_TEST

START_TEST(a_repair_makes_the_sums_right_and_leaves_an_audit_row)
{
	int64_t repaired;
	char expected[128];

	for (size_t i = 0; i < COUNT(wrongs); i++) {
		begin_recount();
		data_run(wrongs[i].script);
		ck_assert_int_eq(db_begin(db), OK);
		ck_assert_int_eq(ledger_repair(db, &actor, &repaired), OK);
		ck_assert_int_eq(repaired, (int64_t)wrongs[i].count);
		ck_assert_int_eq(db_commit(db), OK);
		ck_assert_int_eq(wrong_sums(), 0);
		(void)snprintf(expected, sizeof(expected),
		    "1800000000000000 tester: sums repaired 0 {\"rows\":%zu}\n", wrongs[i].count);
		ck_assert_str_eq(last_audit(), expected);
		(void)version_moved();
		ck_assert_int_eq(ledger_repair(db, &actor, &repaired), OK);
		ck_assert_int_eq(repaired, 0);
		ck_assert(!version_moved());
		data_end();
	}
}
END_TEST

START_TEST(many_rows_are_repaired_at_once)
{
	int64_t repaired;

	data_begin();
	(void)add_type(100);
	ck_assert_int_eq(db_begin(db), OK);
	for (int64_t i = 1; i <= 500; i++)
		(void)add_event(1, i, 0);
	data_run("DELETE FROM sums WHERE caregiver_id % 3 != 0");
	ck_assert_int_eq(ledger_repair(db, &actor, &repaired), OK);
	ck_assert_int_eq(repaired, 334);
	ck_assert_int_eq(wrong_sums(), 0);
	ck_assert_int_eq(db_commit(db), OK);
	data_end();
}
END_TEST

START_TEST(a_recount_ends_as_who_is_told_says_and_leaves_a_transaction_alone)
{
	begin_recount();
	data_run("DELETE FROM sums");
	told.stop_at = 2;
	ck_assert_int_eq(ledger_recount(db, note, &told), ERR_GONE);
	ck_assert_uint_eq(told.count, 2);
	ck_assert(!db_in_transaction(db));
	ck_assert_int_eq(db_begin(db), OK);
	ck_assert_int_eq(wrong_sums(), 3);
	ck_assert(db_in_transaction(db));
	db_rollback(db);
	data_end();
}
END_TEST

START_TEST(a_connection_that_only_reads_recounts_but_changes_nothing)
{
	struct ledger_event event, next = { .type_id = 1, .caregiver_id = 1 };
	struct db *writer;
	int64_t repaired;

	begin_recount();
	data_run("UPDATE sums SET open_cents = 5");
	writer = db;
	ck_assert_int_eq(db_open(LEDGER_FILE, DB_READ, &ledger_schema, &db), OK);
	ck_assert_int_eq(wrong_sums(), 3);
	ck_assert_int_eq(ledger_event_get(db, 1, &scope_all, &event), OK);
	ck_assert_int_eq(ledger_event_add(db, &actor, &next), ERR_BUSY);
	ck_assert_int_eq(ledger_event_delete(db, &actor, &scope_all, INT64_MIN, &event), ERR_BUSY);
	ck_assert_int_eq(ledger_event_reimburse(db, &actor, &event), ERR_BUSY);
	ck_assert_int_eq(ledger_repair(db, &actor, &repaired), ERR_BUSY);
	ck_assert_int_eq(audit_add(db, &actor, AUDIT_EVENT_DELETED, 0, NULL), ERR_BUSY);
	db_close(db);
	db = writer;
	ck_assert_int_eq(wrong_sums(), 3);
	data_end();
}
END_TEST

CHECK_MAIN(ledger,
    { an_event_is_kept_as_it_was_registered, an_unknown_type_is_a_bad_field,
	what_the_schema_forbids_is_a_conflict,
	an_event_is_paid_the_price_in_force_at_its_start_and_never_another,
	an_event_is_reimbursed_once_and_then_not_deleted, a_deleted_event_leaves_only_its_audit,
	an_id_is_never_used_again, sums_are_what_the_events_are_after_any_change,
	sums_of_several_are_added_at_once,
	each_filter_and_each_combination_lists_what_fits_in_the_order_of_ids,
	random_filters_list_what_the_model_says,
	days_and_months_are_cut_at_both_ends_to_the_microsecond,
	a_page_begins_behind_any_id_also_one_that_is_gone, a_database_without_events_lists_none,
	a_list_over_very_many_days_has_all_of_them_too,
	a_manager_of_many_is_listed_all_of_theirs_and_nothing_else,
	an_event_that_is_foreign_or_too_old_is_not_deleted,
	each_list_reads_an_index_in_its_own_order,
	the_version_changes_with_each_change_and_only_then,
	what_is_rolled_back_leaves_the_version_as_it_was,
	each_database_has_versions_of_its_own_also_a_restored_one,
	a_recount_tells_each_row_that_is_wrong_missing_or_too_much,
	a_repair_makes_the_sums_right_and_leaves_an_audit_row, many_rows_are_repaired_at_once,
	a_recount_ends_as_who_is_told_says_and_leaves_a_transaction_alone,
	a_connection_that_only_reads_recounts_but_changes_nothing })
