#include "lib/ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/clock.h"
#include "sql.h"

#define APPLICATION_ID 0x63646576 /* "cdev" */
#define DAY_US (86400 * CLOCK_SECOND_US)
#define DETAIL_MAX 160

#define AUDIT_VERSION 2 /* of the schema, that makes the audit a chain */

/* Its rows of before into the chain. */
static enum err
migrated(struct db *db, int version)
{
	return version == AUDIT_VERSION ? audit_adopt(db) : OK;
}

const struct db_schema ledger_schema = { "events", APPLICATION_ID, sql_events_schema, false,
	migrated };

static void
bind_optional(struct db_query *q, bool given, int64_t value)
{
	if (given)
		db_bind_int(q, value);
	else
		db_bind_null(q);
}

/* The columns of event_get and of every list. */
static void
take_event(const struct db_query *q, struct ledger_event *event)
{
	size_t n;

	event->id = db_int(q, 0);
	event->type_id = db_int(q, 1);
	event->caregiver_id = db_int(q, 2);
	event->start_time_us = db_int(q, 3);
	event->amount_in_cents = db_int(q, 4);
	(void)snprintf(event->currency, sizeof(event->currency), "%s", db_text(q, 5, &n));
	event->created_at_us = db_int(q, 6);
	event->reimbursed_at_us = db_int(q, 7);
}

static enum err
find_price(struct db *db, struct ledger_event *event)
{
	struct db_query q;
	size_t n;
	bool found;
	enum err err;

	db_query(&q, db, &sql_events_price_in_force);
	db_bind_int(&q, event->type_id);
	db_bind_int(&q, event->start_time_us);
	if ((err = db_next(&q, &found)) == OK && !found) {
		(void)fail_field("#/type_id", "there is no such type");
		err = err_pending();
	} else if (err == OK) {
		event->amount_in_cents = db_int(&q, 0);
		(void)snprintf(event->currency, sizeof(event->currency), "%s", db_text(&q, 1, &n));
	}
	db_done(&q);
	return err;
}

enum err
ledger_insert(struct db *db, struct ledger_event *event)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_events_event_insert);
	db_bind_int(&q, event->type_id);
	db_bind_int(&q, event->caregiver_id);
	db_bind_int(&q, event->start_time_us);
	db_bind_int(&q, clock_month(event->start_time_us));
	db_bind_int(&q, event->amount_in_cents);
	db_bind_int(&q, event->created_at_us);
	bind_optional(&q, event->reimbursed_at_us != 0, event->reimbursed_at_us);
	if ((err = db_next(&q, &found)) == OK)
		event->id = db_int(&q, 0);
	db_done(&q);
	return err;
}

/* A statement on a row of the sums. */
static enum err
change_sum(struct db *db, const struct db_sql *sql, const struct ledger_sum *sum, int64_t cents,
    int64_t events)
{
	struct db_query q;

	db_query(&q, db, sql);
	db_bind_int(&q, sum->month);
	db_bind_int(&q, sum->caregiver_id);
	if (events > 0) {
		db_bind_int(&q, cents);
		db_bind_int(&q, events);
	}
	return db_run(&q);
}

enum err
ledger_sums_add(struct db *db, const struct ledger_sum *sum)
{
	enum err err = change_sum(db, &sql_events_sum_add, sum,
	    sum->open_cents + sum->reimbursed_cents, sum->open_events + sum->reimbursed_events);

	if (err == OK && sum->reimbursed_events > 0)
		err = change_sum(db, &sql_events_sum_reimburse, sum, sum->reimbursed_cents,
		    sum->reimbursed_events);
	return err;
}

static struct ledger_sum
sum_of(const struct ledger_event *event)
{
	return (struct ledger_sum){ .month = clock_month(event->start_time_us),
		.caregiver_id = event->caregiver_id };
}

enum err
ledger_event_add(struct db *db, const struct audit_actor *actor, struct ledger_event *event)
{
	struct ledger_sum sum = sum_of(event);
	enum err err;

	event->created_at_us = actor->now_us;
	event->reimbursed_at_us = 0;
	if ((err = find_price(db, event)) != OK || (err = ledger_insert(db, event)) != OK ||
	    (err = change_sum(db, &sql_events_sum_add, &sum, event->amount_in_cents, 1)) != OK)
		return err;
	return audit_add(db, actor, AUDIT_EVENT_CREATED, event->id, NULL);
}

enum err
ledger_event_get(struct db *db, int64_t id, const struct scope *scope, struct ledger_event *event)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_events_event_get);
	db_bind_int(&q, id);
	scope_bind(scope, &q);
	if ((err = db_next(&q, &found)) == OK && found)
		take_event(&q, event);
	else if (err == OK)
		err = fail(ERR_NOT_FOUND, "there is no event %lld", (long long)id);
	db_done(&q);
	return err;
}

enum err
ledger_event_reimburse(struct db *db, const struct audit_actor *actor, struct ledger_event *event)
{
	struct ledger_sum sum = sum_of(event);
	struct db_query q;
	enum err err;

	if (event->reimbursed_at_us != 0)
		return fail(ERR_CONFLICT, "this event is reimbursed already");
	event->reimbursed_at_us = actor->now_us;
	db_query(&q, db, &sql_events_event_reimburse);
	db_bind_int(&q, event->id);
	db_bind_int(&q, actor->now_us);
	if ((err = db_run(&q)) != OK ||
	    (err = change_sum(db, &sql_events_sum_reimburse, &sum, event->amount_in_cents, 1)) !=
		OK)
		return err;
	return audit_add(db, actor, AUDIT_EVENT_REIMBURSED, event->id, NULL);
}

/* Why an event that may be seen did not go. */
static enum err
not_deleted(const struct scope *scope, const struct ledger_event *event)
{
	if (!scope_has(scope, event->caregiver_id))
		return fail(ERR_FORBIDDEN, "none of your roles may delete this event");
	if (event->reimbursed_at_us != 0)
		return fail(ERR_CONFLICT, "a reimbursed event is not deleted");
	return fail(ERR_FORBIDDEN, "this event is before the entry window");
}

static enum err
delete_row(
    struct db *db, const struct scope *scope, int64_t earliest_us, const struct ledger_event *event)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_events_event_delete);
	db_bind_int(&q, event->id);
	scope_bind(scope, &q);
	db_bind_int(&q, earliest_us);
	if ((err = db_next(&q, &found)) == OK && !found)
		err = not_deleted(scope, event);
	db_done(&q);
	return err;
}

enum err
ledger_event_delete(struct db *db, const struct audit_actor *actor, const struct scope *scope,
    int64_t earliest_us, const struct ledger_event *event)
{
	struct ledger_sum sum = sum_of(event);
	char detail[DETAIL_MAX];
	enum err err;

	if ((err = delete_row(db, scope, earliest_us, event)) != OK ||
	    (err = change_sum(db, &sql_events_sum_subtract, &sum, event->amount_in_cents, 1)) !=
		OK ||
	    (err = change_sum(db, &sql_events_sum_drop, &sum, 0, 0)) != OK)
		return err;
	(void)snprintf(detail, sizeof(detail),
	    "{\"type_id\":%lld,\"caregiver_id\":%lld,\"start_time_us\":%lld,"
	    "\"amount_in_cents\":%lld}",
	    (long long)event->type_id, (long long)event->caregiver_id,
	    (long long)event->start_time_us, (long long)event->amount_in_cents);
	return audit_add(db, actor, AUDIT_EVENT_DELETED, event->id, detail);
}

/* --- Lists: each reads the index that narrows it most, in the order of ids. */

/* Parameters $1 to $7 of the filtered lists.  To json_each() a number is a list of it alone. */
static void
bind_filter(struct db_query *q, const struct ledger_filter *filter, int64_t after, int64_t limit)
{
	db_bind_int(q, after);
	db_bind_int(q, limit);
	if (filter->caregiver_id != 0)
		db_bind_int(q, filter->caregiver_id);
	else
		scope_bind(filter->scope, q);
	bind_optional(q, filter->type_id != 0, filter->type_id);
	bind_optional(q, filter->by_reimbursed, filter->reimbursed);
	bind_optional(q, filter->min_time_us != INT64_MIN, filter->min_time_us);
	bind_optional(q, filter->max_time_us != INT64_MAX, filter->max_time_us);
}

static enum err
take_events(struct db_query *q, struct ledger_event *events, size_t room, size_t *count)
{
	bool found = true;
	enum err err = OK;

	for (*count = 0; *count < room && (err = db_next(q, &found)) == OK && found; ++*count)
		take_event(q, &events[*count]);
	db_done(q);
	return err;
}

/* An index that has events by parts, such as days, each part in the order of ids. */
struct parts_kind {
	const struct db_sql
	    *next; /* $1 a part, $2 the last one wanted -> the next part that has events */
	const struct db_sql *list; /* the filter, $8 the part -> its events */
	int64_t (*part)(int64_t us); /* in which an instant is */
};

static int64_t
day_of(int64_t us)
{
	return us / DAY_US;
}

static const struct parts_kind by_day = { &sql_events_day_next, &sql_events_events_list_by_day,
	day_of };
static const struct parts_kind by_month = { &sql_events_month_next,
	&sql_events_events_list_by_month, clock_month };

#define PARTS_MAX 5000 /* days, or months of caregivers; thirteen years of days */

/* The parts being merged: the next event of each. */
struct parts {
	const struct parts_kind *kind;
	size_t count, room;
	int looks; /* into parts, also those that had none */
	struct {
		int64_t part, caregiver_id; /* 0: of all that the filter has */
		struct ledger_event next;
	} * items;
};

/* The first event of PART behind AFTER that fits, if there is one. */
static enum err
next_of_part(struct db *db, const struct parts *parts, const struct ledger_filter *filter,
    int64_t part, int64_t after, struct ledger_event *event, size_t *found)
{
	struct db_query q;

	db_query(&q, db, parts->kind->list);
	bind_filter(&q, filter, after, 1);
	db_bind_int(&q, part);
	return take_events(&q, event, 1, found);
}

/* The next part behind *PART that has events, up to LAST; *FOUND. */
static enum err
next_part(struct db *db, const struct parts *parts, int64_t *part, int64_t last, bool *found)
{
	struct db_query q;
	enum err err;

	db_query(&q, db, parts->kind->next);
	db_bind_int(&q, *part);
	db_bind_int(&q, last);
	if ((err = db_next(&q, found)) == OK && *found)
		*part = db_int(&q, 0);
	db_done(&q);
	return err;
}

static enum err
collect_parts(struct db *db, const struct ledger_filter *filter, int64_t after, struct parts *parts,
    bool *too_many)
{
	int64_t min_us = filter->min_time_us < 0 ? 0 : filter->min_time_us;
	int64_t max_us =
	    filter->max_time_us < CLOCK_END_US ? filter->max_time_us : CLOCK_END_US - 1;
	int64_t part = parts->kind->part(min_us) - 1, last = parts->kind->part(max_us);
	size_t found_event;
	void *grown;
	bool found;
	enum err err;

	*too_many = false;
	while ((err = next_part(db, parts, &part, last, &found)) == OK && found) {
		if ((*too_many = parts->looks++ == PARTS_MAX))
			return OK;
		if ((grown = buffer_grow(parts->items, &parts->room, parts->count + 1,
			 sizeof(parts->items[0]))) == NULL)
			return fail(ERR_BUSY, "no memory for a list");
		parts->items = grown;
		parts->items[parts->count].part = part;
		parts->items[parts->count].caregiver_id = filter->caregiver_id;
		err = next_of_part(
		    db, parts, filter, part, after, &parts->items[parts->count].next, &found_event);
		if (err != OK)
			return err;
		parts->count += found_event;
	}
	return err;
}

static enum err
list_by(struct db *db, const struct db_sql *sql, const struct ledger_filter *filter, int64_t after,
    struct ledger_event *events, size_t room, size_t *count)
{
	struct db_query q;

	db_query(&q, db, sql);
	bind_filter(&q, filter, after, (int64_t)room);
	return take_events(&q, events, room, count);
}

/* Moves the first ROOM of two lists, each by ids, into the first; MORE is gone then. */
static void
merge_lists(struct ledger_event *events, size_t room, size_t *count,
    const struct ledger_event *more, size_t more_count)
{
	size_t a = *count, b = more_count, to = a + b < room ? a + b : room;

	/* Those beyond ROOM are the last ones: they go first. */
	while (a + b > to) {
		if (b == 0 || (a > 0 && events[a - 1].id > more[b - 1].id))
			a--;
		else
			b--;
	}
	*count = to;
	while (b > 0) {
		if (a > 0 && events[a - 1].id > more[b - 1].id)
			events[--to] = events[--a];
		else
			events[--to] = more[--b];
	}
}

/* Those of a type lie in two orders: what is open, and what is paid. */
static enum err
list_by_type(struct db *db, const struct ledger_filter *filter, int64_t after,
    struct ledger_event *events, size_t room, size_t *count)
{
	const struct db_sql *sql = &sql_events_events_list_by_type;
	struct ledger_filter half = *filter;
	struct ledger_event *more;
	size_t more_count;
	enum err err;

	if (filter->by_reimbursed)
		return list_by(db, sql, filter, after, events, room, count);
	more = calloc(room, sizeof(*more));
	if (more == NULL)
		return fail(ERR_BUSY, "no memory for a list");
	half.by_reimbursed = true;
	if ((err = list_by(db, sql, &half, after, events, room, count)) == OK) {
		half.reimbursed = true;
		err = list_by(db, sql, &half, after, more, room, &more_count);
	}
	if (err == OK)
		merge_lists(events, room, count, more, more_count);
	free(more);
	return err;
}

/* The list of all that has no parts, or too many. */
static enum err
list_by_index(struct db *db, const struct ledger_filter *filter, int64_t after,
    struct ledger_event *events, size_t room, size_t *count)
{
	bool by_time = filter->min_time_us != INT64_MIN || filter->max_time_us != INT64_MAX;
	struct db_query q;

	if (filter->type_id != 0)
		return list_by_type(db, filter, after, events, room, count);
	if (filter->by_reimbursed)
		return list_by(
		    db, &sql_events_events_list_by_reimbursed, filter, after, events, room, count);
	if (by_time || filter->caregiver_id != 0 || !filter->scope->all)
		return list_by(
		    db, &sql_events_events_list_filtered, filter, after, events, room, count);
	db_query(&q, db, &sql_events_events_list);
	db_bind_int(&q, after);
	db_bind_int(&q, (int64_t)room);
	return take_events(&q, events, room, count);
}

/* The places of the parts of each of COUNT caregivers, 0 for all; *TOO_MANY for what it is worth.
 */
static enum err
collect_all(struct db *db, const struct ledger_filter *filter, const int64_t *ids, size_t count,
    int64_t after, struct parts *parts, bool *too_many)
{
	struct ledger_filter one = *filter;
	enum err err = OK;

	*too_many = false;
	for (size_t i = 0; i < count && err == OK && !*too_many; i++) {
		one.caregiver_id = ids[i];
		err = collect_parts(db, &one, after, parts, too_many);
	}
	return err;
}

/* Takes the event of the least id, and puts the next one of its part in its place. */
static enum err
take_least(struct db *db, const struct ledger_filter *filter, struct parts *parts,
    struct ledger_event *event)
{
	struct ledger_filter one = *filter;
	size_t least = 0, found;
	enum err err;

	for (size_t i = 1; i < parts->count; i++)
		if (parts->items[i].next.id < parts->items[least].next.id)
			least = i;
	*event = parts->items[least].next;
	one.caregiver_id = parts->items[least].caregiver_id;
	err = next_of_part(db, parts, &one, parts->items[least].part, event->id,
	    &parts->items[least].next, &found);
	if (found == 0)
		parts->items[least] = parts->items[--parts->count];
	return err;
}

/* Events by parts, in the order of their ids.  A page costs a look into each part, and another for
 * each row, wherever it begins; where the parts are TOO_MANY, nothing is listed. */
static enum err
merge_parts(struct db *db, const struct parts_kind *kind, const struct ledger_filter *filter,
    const int64_t *ids, size_t id_count, int64_t after, struct ledger_event *events, size_t room,
    size_t *count, bool *too_many)
{
	struct parts parts = { .kind = kind };
	enum err err = collect_all(db, filter, ids, id_count, after, &parts, too_many);

	if (*too_many)
		parts.count = 0;
	for (*count = 0; err == OK && *count < room && parts.count > 0; ++*count)
		err = take_least(db, filter, &parts, &events[*count]);
	free(parts.items);
	return err;
}

/* Of some caregivers: of the filter's, or of all that may be seen. */
static enum err
list_by_caregivers(struct db *db, const struct ledger_filter *filter, int64_t after,
    struct ledger_event *events, size_t room, size_t *count, bool *too_many)
{
	const int64_t *ids = filter->scope->ids;
	size_t id_count = filter->scope->count;

	if (filter->caregiver_id != 0) {
		ids = &filter->caregiver_id;
		id_count = scope_has(filter->scope, *ids);
	}
	return merge_parts(
	    db, &by_month, filter, ids, id_count, after, events, room, count, too_many);
}

enum err
ledger_list(struct db *db, const struct ledger_filter *filter, const struct page *page,
    struct ledger_event *events, size_t *count, bool *more)
{
	static const int64_t anybody = 0;
	bool by_time = filter->min_time_us != INT64_MIN || filter->max_time_us != INT64_MAX;
	bool too_many = true; /* parts of what was tried */
	size_t wanted = (size_t)page->limit;
	enum err err = OK;

	if (filter->caregiver_id != 0 || !filter->scope->all)
		err = list_by_caregivers(
		    db, filter, page->after, events, wanted + 1, count, &too_many);
	if (err == OK && too_many && by_time && filter->caregiver_id == 0)
		err = merge_parts(db, &by_day, filter, &anybody, 1, page->after, events, wanted + 1,
		    count, &too_many);
	if (err == OK && too_many)
		err = list_by_index(db, filter, page->after, events, wanted + 1, count);
	*more = err == OK && *count > wanted;
	if (*more)
		*count = wanted;
	return err;
}

enum err
ledger_version(struct db *db, char version[LEDGER_VERSION_SIZE])
{
	struct db_query q;
	size_t n;
	bool found;
	enum err err;

	db_query(&q, db, &sql_events_version);
	if ((err = db_next(&q, &found)) == OK)
		(void)snprintf(version, LEDGER_VERSION_SIZE, "%.20s-%lld", db_text(&q, 0, &n),
		    (long long)db_int(&q, 1));
	db_done(&q);
	return err;
}

/* --- Recount. */

void
ledger_take_sum(const struct db_query *q, struct ledger_sum *sum)
{
	*sum = (struct ledger_sum){ db_int(q, 0), db_int(q, 1), db_int(q, 2), db_int(q, 3),
		db_int(q, 4), db_int(q, 5) };
}

static enum err
next_sum(struct db_query *q, struct ledger_sum *sum, bool *found)
{
	enum err err = db_next(q, found);

	if (err == OK && *found)
		ledger_take_sum(q, sum);
	return err;
}

/* Of the events; their month is stored beside start_time, and must be that of it. */
static enum err
next_counted(struct db_query *q, struct ledger_sum *sum, bool *found)
{
	enum err err = next_sum(q, sum, found);

	if (err == OK && *found &&
	    (clock_month(db_int(q, 6)) != sum->month || clock_month(db_int(q, 7)) != sum->month))
		err = fail(ERR_INTERNAL,
		    "the database is damaged: events of caregiver %lld are in another month than "
		    "their start_time",
		    (long long)sum->caregiver_id);
	return err;
}

/* Which key comes first: below, at or above 0. */
static int
order(const struct ledger_sum *a, const struct ledger_sum *b)
{
	if (a->month != b->month)
		return a->month < b->month ? -1 : 1;
	return a->caregiver_id == b->caregiver_id ? 0 : a->caregiver_id < b->caregiver_id ? -1 : 1;
}

/* Two streams in the same order, side by side. */
static enum err
compare(struct db_query *stored, struct db_query *counted,
    enum err (*told)(void *, const struct ledger_sum *, const struct ledger_sum *), void *ctx)
{
	struct ledger_sum s, c;
	bool more_s, more_c;
	enum err err = next_sum(stored, &s, &more_s);

	if (err == OK)
		err = next_counted(counted, &c, &more_c);
	while (err == OK && (more_s || more_c)) {
		int side = !more_s ? 1 : !more_c ? -1 : order(&s, &c);
		const struct ledger_sum none = { side < 0 ? s.month : c.month,
			side < 0 ? s.caregiver_id : c.caregiver_id, 0, 0, 0, 0 };

		if (side != 0 || memcmp(&s, &c, sizeof(s)) != 0)
			err = told(ctx, side > 0 ? &none : &s, side < 0 ? &none : &c);
		if (err == OK && side <= 0)
			err = next_sum(stored, &s, &more_s);
		if (err == OK && side >= 0)
			err = next_counted(counted, &c, &more_c);
	}
	return err;
}

enum err
ledger_recount(struct db *db,
    enum err (*told)(void *ctx, const struct ledger_sum *stored, const struct ledger_sum *counted),
    void *ctx)
{
	bool own = !db_in_transaction(db);
	struct db_query stored, counted;
	enum err err = own ? db_begin(db) : OK;

	if (err != OK)
		return err;
	db_query(&stored, db, &sql_events_report_sums);
	db_bind_int(&stored, INT64_MIN); /* all rows, also those that no event can have */
	db_bind_int(&stored, INT64_MIN);
	db_bind_int(&stored, INT64_MAX);
	db_query(&counted, db, &sql_events_recount_events);
	err = compare(&stored, &counted, told, ctx);
	db_done(&stored);
	db_done(&counted);
	if (own)
		db_rollback(db);
	return err;
}

/* The rows to be put right; not while they are read. */
struct repairs {
	struct ledger_sum *items;
	size_t count, room;
};

static enum err
note_repair(void *ctx, const struct ledger_sum *stored, const struct ledger_sum *counted)
{
	struct repairs *repairs = ctx;
	void *grown;

	(void)stored;
	if ((grown = buffer_grow(repairs->items, &repairs->room, repairs->count + 1,
		 sizeof(repairs->items[0]))) == NULL)
		return fail(ERR_BUSY, "no memory for the repair");
	repairs->items = grown;
	repairs->items[repairs->count++] = *counted;
	return OK;
}

static enum err
set_sum(struct db *db, const struct ledger_sum *sum)
{
	bool empty = sum->open_events == 0 && sum->reimbursed_events == 0;
	struct db_query q;

	db_query(&q, db, empty ? &sql_events_sum_delete : &sql_events_sum_set);
	db_bind_int(&q, sum->month);
	db_bind_int(&q, sum->caregiver_id);
	if (!empty) {
		db_bind_int(&q, sum->open_cents);
		db_bind_int(&q, sum->reimbursed_cents);
		db_bind_int(&q, sum->open_events);
		db_bind_int(&q, sum->reimbursed_events);
	}
	return db_run(&q);
}

enum err
ledger_repair(struct db *db, const struct audit_actor *actor, int64_t *repaired)
{
	struct repairs repairs = { 0 };
	char detail[DETAIL_MAX];
	enum err err = ledger_recount(db, note_repair, &repairs);

	*repaired = (int64_t)repairs.count;
	for (size_t i = 0; i < repairs.count && err == OK; i++)
		err = set_sum(db, &repairs.items[i]);
	(void)snprintf(detail, sizeof(detail), "{\"rows\":%zu}", repairs.count);
	if (err == OK && repairs.count > 0)
		err = audit_add(db, actor, AUDIT_SUMS_REPAIRED, 0, detail);
	free(repairs.items);
	return err;
}
