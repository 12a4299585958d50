/*
 * caredesk demo: five years of a care provider, made up.  The same numbers each time, but for what
 * depends on the present.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "caredesk.h"
#include "lib/bulk.h"
#include "lib/clock.h"
#include "lib/ledger.h"
#include "lib/tariff.h"
#include "lib/text.h"
#include "lib/user.h"

#define SEED UINT64_C(0x9e3779b97f4a7c15)
#define HOUR_US (3600 * CLOCK_SECOND_US)
#define DAY_US (24 * HOUR_US)
#define HOURS (5 * 365 * 24 + 24) /* five years, a leap day in them */
#define CHUNK 100000 /* events of one transaction */
#define PAID_PERCENT 97
#define PAID_AFTER_DAYS_MIN 10
#define PAID_AFTER_DAYS_MAX 45

/* What a year adds to each price: parts of a thousand, by the last digit of the year. */
static const int64_t rises[10] = { 25, 20, 31, 42, 36, 24, 22, 28, 27, 30 };

static const struct {
	const char *name;
	int64_t cents;
	unsigned share; /* of the events, in a hundred */
} types[] = {
	{ "Home visit", 42000, 26 },
	{ "Medication round", 16500, 24 },
	{ "Personal hygiene", 23000, 18 },
	{ "Wound care", 31000, 10 },
	{ "Blood sample", 19500, 8 },
	{ "Physiotherapy session", 52000, 6 },
	{ "Video consultation", 28000, 5 },
	{ "Night watch", 148000, 3 },
};

#define CAREGIVERS 1000 /* where nothing is said */
#define TYPES (sizeof(types) / sizeof(types[0]))

/* How many events an hour has, beside the others of its day. */
static const unsigned hour_weights[24] = { 3, 2, 2, 2, 3, 8, 30, 70, 95, 100, 98, 85, 70, 80, 90,
	82, 70, 62, 66, 58, 40, 22, 10, 5 };

struct demo {
	const struct caredesk_options *options;
	struct db *db;
	struct audit_actor actor;
	struct progress progress;
	int64_t type_ids[TYPES];
	int64_t caregivers;
	uint64_t random;
	int64_t begin_us; /* a full hour */
	int64_t hour, weight, weight_all; /* of the hours before HOUR; of all */
	int64_t made, due; /* events, by now; when HOUR is over */
	int64_t hour_first; /* of HOUR */
};

/* splitmix64, by Sebastiano Vigna; in the public domain. */
static uint64_t
next_random(struct demo *demo)
{
	uint64_t z = demo->random += SEED;

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* From 0 up to, but not, 1. */
static double
share(struct demo *demo)
{
	return (double)(next_random(demo) >> 11) * 0x1p-53;
}

static int64_t
below(struct demo *demo, int64_t n)
{
	return (int64_t)(share(demo) * (double)n);
}

/* 1970-01-01 was a Thursday.  At weekends there is less to do, and the house grows by a fifth every
 * year. */
static int64_t
weight_of(const struct demo *demo, int64_t hour)
{
	int64_t us = demo->begin_us + hour * HOUR_US;
	int64_t weekday = (us / DAY_US + 3) % 7; /* Monday is 0 */
	int64_t growth = 100 + 100 * hour / HOURS;

	return hour_weights[us / HOUR_US % 24] * (weekday < 5 ? 10 : 4) * growth / 10;
}

/* When the next event is: each hour has its part of all, spread over it. */
static int64_t
next_time(struct demo *demo)
{
	int64_t count, first;

	while (demo->made >= demo->due) {
		demo->hour_first = demo->due;
		demo->weight += weight_of(demo, demo->hour++);
		demo->due = (int64_t)((double)demo->options->events * (double)demo->weight /
		    (double)demo->weight_all);
		if (demo->hour == HOURS)
			demo->due = demo->options->events;
	}
	count = demo->due - demo->hour_first;
	first = demo->made - demo->hour_first;
	return demo->begin_us + (demo->hour - 1) * HOUR_US +
	    (int64_t)(((double)first + share(demo)) / (double)count * (double)HOUR_US);
}

static int64_t
next_type(struct demo *demo)
{
	int64_t at = below(demo, 100);
	size_t i = 0;

	while (i < TYPES - 1 && at >= (int64_t)types[i].share)
		at -= types[i++].share;
	return demo->type_ids[i];
}

/* Of the caregivers, the first have most to do. */
static int64_t
next_caregiver(struct demo *demo)
{
	double at = share(demo);

	return 1 + (int64_t)(at * at * (double)demo->caregivers);
}

/* Accounting takes its days; 0 if it has not paid by now. */
static int64_t
next_payment(struct demo *demo, int64_t start_us)
{
	int64_t after_us = PAID_AFTER_DAYS_MIN * DAY_US +
	    below(demo, (PAID_AFTER_DAYS_MAX - PAID_AFTER_DAYS_MIN) * DAY_US);
	bool pays = below(demo, 100) < PAID_PERCENT;

	return pays && start_us + after_us < demo->actor.now_us ? start_us + after_us : 0;
}

static enum err
make_events(struct demo *demo, struct bulk *bulk)
{
	enum err err = OK;

	while (err == OK && bulk_count(bulk) < CHUNK && demo->made < demo->options->events) {
		int64_t start_us = next_time(demo), type_id = next_type(demo);
		int64_t caregiver_id = next_caregiver(demo);

		err = bulk_put(bulk, type_id, caregiver_id, start_us, next_payment(demo, start_us));
		demo->made++;
	}
	return err == OK ? bulk_end(bulk) : err;
}

/* A type and its price of each year. */
static enum err
add_type(struct demo *demo, size_t i)
{
	struct tariff_type type = { .amount_in_cents = types[i].cents, .currency = "SEK" };
	int64_t year = clock_month(demo->begin_us) / 12, cents = types[i].cents;
	enum err err;

	(void)snprintf(type.name, sizeof(type.name), "%s", types[i].name);
	err = tariff_add(demo->db, &demo->actor, &type);
	demo->type_ids[i] = type.id;
	while (err == OK && ++year <= clock_month(demo->actor.now_us) / 12) {
		cents += cents * rises[year % 10] / 1000;
		cents -= cents % 100;
		err = tariff_change(
		    demo->db, &demo->actor, &type, cents, clock_month_start(year * 12));
	}
	return err;
}

static void
tell_written(void *ctx, int64_t written)
{
	struct demo *demo = ctx;
	int64_t chunk = demo->made % CHUNK != 0 ? demo->made % CHUNK : CHUNK;

	progress_told(&demo->progress, demo->made - chunk + written);
}

/* The next events, in a transaction; the types are in the first. */
static enum err
write_chunk(struct demo *demo)
{
	bool first = demo->made == 0;
	struct bulk *bulk;
	enum err err = bulk_open(DATA_DATABASES, &scope_all, INT64_MIN, &bulk);

	if (err != OK)
		return err;
	err = db_begin(demo->db);
	for (size_t i = 0; i < TYPES && first && err == OK; i++)
		err = add_type(demo, i);
	if (err == OK && (err = make_events(demo, bulk)) == OK)
		err = bulk_write(bulk, demo->db, &demo->actor, tell_written, demo);
	if (err == OK)
		err = db_commit(demo->db);
	else
		db_rollback(demo->db);
	bulk_close(bulk);
	db_checkpoint(demo->db);
	return err;
}

static enum err
check_empty(struct demo *demo)
{
	const struct page page = { .limit = 1 };
	struct tariff_type type[2];
	struct ledger_event event[2];
	size_t types_found = 0, events_found = 0;
	bool more;
	enum err err;

	err = tariff_list(demo->db, demo->actor.now_us, &page, type, &types_found, &more);
	if (err == OK)
		err =
		    ledger_list(demo->db, &LEDGER_FILTER_NONE, &page, event, &events_found, &more);
	if (err == OK && types_found + events_found > 0)
		err = fail(ERR_CONFLICT,
		    "there are types or events already: demo data go only where there are none");
	return err;
}

static enum err
make_all(struct demo *demo)
{
	int64_t hours = demo->actor.now_us / HOUR_US;
	enum err err;

	if ((err = check_empty(demo)) != OK)
		return err;
	demo->begin_us = (hours - HOURS) * HOUR_US;
	for (int64_t hour = 0; hour < HOURS; hour++)
		demo->weight_all += weight_of(demo, hour);
	progress_begin(&demo->progress, "writing", "events", demo->options->events);
	while (err == OK && demo->made < demo->options->events)
		err = write_chunk(demo);
	progress_end(&demo->progress);
	return err;
}

static enum err
read_caregivers(const char *text, int64_t *count)
{
	*count = CAREGIVERS;
	if (text == NULL ||
	    (text_uint(text, strlen(text), count) && *count >= 1 && *count <= DEMO_CAREGIVERS_MAX))
		return OK;
	return fail(ERR_INPUT, "--caregivers must be a whole number of 1..%d", DEMO_CAREGIVERS_MAX);
}

enum err
caredesk_demo(const struct caredesk_options *options)
{
	struct demo demo = {
		.options = options, .actor = { OPERATOR, clock_now_us() }, .random = SEED
	};
	struct data data = { .lock_fd = -1 };
	enum err err = read_caregivers(options->caregivers, &demo.caregivers);

	if (err == OK && (err = data_open(&options->conf, DATA_WRITE, &data)) == OK &&
	    (err = user_become(data.conf->user)) == OK &&
	    (err = data_write_ledger(&demo.db)) == OK && (err = make_all(&demo)) == OK)
		(void)printf("made %" PRId64 " events of %zu types, of up to %" PRId64
			     " caregivers\n",
		    demo.made, TYPES, demo.caregivers);
	db_close(demo.db);
	data_close(&data);
	return err;
}
