/*
 * report_rows: the rows of the report (see report.h).
 */
#include "lib/clock.h"
#include "report.h"
#include "sql.h"

/* Where the sums of a segment are.  So many unwanted rows in a row are stepped over; the next one
 * makes it seek, since by then the steps have cost about what a seek does. */
struct rows_kind {
	const struct db_sql *sql;
	const struct db_sql *of; /* the same for those who do not see all */
	unsigned patience;
	void (*bind_end)(struct db_query *q, const struct rows *rows);
};

static void
bind_last_month(struct db_query *q, const struct rows *rows)
{
	db_bind_int(q, rows->segments[rows->segment].last);
}

static void
bind_period(struct db_query *q, const struct rows *rows)
{
	db_bind_int(q, rows->filter->min_time_us);
	db_bind_int(q, rows->filter->max_time_us);
}

/* A seek costs as much as four steps here (0.8 and 0.2 us).  Where a month is cut, a step is all
 * events of a caregiver, and every one saved is worth a seek. */
static const struct rows_kind whole_months = { &sql_events_report_sums, &sql_events_report_sums_of,
	2, bind_last_month };
static const struct rows_kind cut_month = { &sql_events_report_events, &sql_events_report_events_of,
	0, bind_period };

static void
add_segment(struct rows *rows, const struct rows_kind *kind, int64_t first, int64_t last)
{
	if (first <= last)
		rows->segments[rows->segment_count++] = (struct rows_segment){ kind, first, last };
}

/* FIRST_US and LAST_US are the first and the last instant of the period. */
static void
divide(struct rows *rows, int64_t first_us, int64_t last_us)
{
	int64_t first = clock_month(first_us), last = clock_month(last_us);
	bool cut_first = first_us != clock_month_start(first);
	bool cut_last = last_us != clock_month_start(last + 1) - 1;

	if (first == last) {
		add_segment(rows, cut_first || cut_last ? &cut_month : &whole_months, first, last);
		return;
	}
	if (cut_first)
		add_segment(rows, &cut_month, first, first);
	add_segment(rows, &whole_months, first + cut_first, last - cut_last);
	if (cut_last)
		add_segment(rows, &cut_month, last, last);
}

/* Ends the segment that is read and stands before the next one. */
static void
next_segment(struct rows *rows, size_t segment)
{
	rows_close(rows);
	rows->segment = segment;
	rows->wanted = 0;
	if (segment < rows->segment_count)
		rows->month = rows->segments[segment].first;
}

void
rows_open(struct rows *rows, struct db *db, const struct report_filter *filter)
{
	int64_t first_us = clock_month_start(CLOCK_MONTH_MIN);
	int64_t last_us = clock_month_start(CLOCK_MONTH_MAX + 1) - 1;

	*rows = (struct rows){ .db = db, .filter = filter };
	/* The bounds are exclusive. */
	if (filter->min_time_us >= first_us)
		first_us = filter->min_time_us + 1;
	if (filter->max_time_us <= last_us)
		last_us = filter->max_time_us - 1;
	if (first_us <= last_us)
		divide(rows, first_us, last_us);
	next_segment(rows, 0);
}

void
rows_close(struct rows *rows)
{
	if (rows->reading)
		db_done(&rows->query);
	rows->reading = false;
}

/* Queries from the next row wanted on. */
static void
seek(struct rows *rows)
{
	const struct report_filter *filter = rows->filter;
	const struct rows_kind *kind = rows->segments[rows->segment].kind;

	rows_close(rows);
	db_query(&rows->query, rows->db, filter->scope->all ? kind->sql : kind->of);
	db_bind_int(&rows->query, rows->month);
	if (filter->scope->all)
		db_bind_int(&rows->query,
		    filter->caregiver_count > 0 ? filter->caregiver_ids[rows->wanted] : 1);
	else
		scope_bind(filter->scope, &rows->query);
	kind->bind_end(&rows->query, rows);
	rows->reading = true;
	rows->misses = 0;
	rows->seeks++;
}

/* Behind the last caregiver wanted of a month comes the first one of the next. */
static void
want(struct rows *rows, int64_t month, size_t wanted)
{
	bool over = wanted == rows->filter->caregiver_count;

	rows->month = over ? month + 1 : month;
	rows->wanted = over ? 0 : wanted;
}

/* The first place in the list, from FROM on, whose caregiver is not below ID. */
static size_t
place(const struct report_filter *filter, size_t from, int64_t id)
{
	size_t end = filter->caregiver_count;

	while (from < end) {
		size_t middle = from + (end - from) / 2;

		if (filter->caregiver_ids[middle] < id)
			from = middle + 1;
		else
			end = middle;
	}
	return from;
}

/* Whether the row that was found is wanted; moves on to the next one that is. */
static bool
take(struct rows *rows, int64_t month, int64_t caregiver_id)
{
	const struct report_filter *filter = rows->filter;
	size_t at;
	bool hit;

	if (filter->caregiver_count == 0 || !filter->scope->all)
		return true;
	at = place(filter, month > rows->month ? 0 : rows->wanted, caregiver_id);
	hit = at < filter->caregiver_count && filter->caregiver_ids[at] == caregiver_id;
	/* Rows of a month that is over already are below all that is wanted. */
	if (month >= rows->month)
		want(rows, month, hit ? at + 1 : at);
	return hit;
}

enum err
rows_next(struct rows *rows, struct ledger_sum *sum, bool *found)
{
	enum err err;

	*found = false;
	while (rows->segment < rows->segment_count) {
		const struct rows_segment *segment = &rows->segments[rows->segment];

		if (rows->month > segment->last) {
			next_segment(rows, rows->segment + 1);
			continue;
		}
		if (!rows->reading || rows->misses > segment->kind->patience)
			seek(rows);
		if ((err = db_next(&rows->query, found)) != OK)
			return err;
		if (!*found) {
			next_segment(rows, rows->segment + 1);
			continue;
		}
		rows->steps++;
		ledger_take_sum(&rows->query, sum);
		if (take(rows, sum->month, sum->caregiver_id)) {
			rows->misses = 0;
			return OK;
		}
		rows->misses++;
	}
	*found = false;
	return OK;
}
