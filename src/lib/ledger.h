/*
 * ledger: the data set of events and report, DATA/db/events.db: events, what they are paid, their
 * sums by month and caregiver, and their audit.  Every change of money goes through here.
 *
 * Changes run inside a transaction of the writer (commit.h).  Each keeps the sums right and leaves
 * its row in the audit, so that both are true of every commit.  Times are microseconds since 1970,
 * amounts cents, a month is year * 12 + month - 1 (clock.h).
 *
 * What a type is paid is in tariff.h, many events at once in bulk.h.
 */
#ifndef CAREDESK_LEDGER_H
#define CAREDESK_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/audit.h"
#include "lib/db.h"
#include "lib/err.h"
#include "lib/page.h"
#include "lib/scope.h"

#define LEDGER_FILE "db/events.db"
#define LEDGER_VERSION_SIZE 48
#define LEDGER_CURRENCY_SIZE 4

extern const struct db_schema ledger_schema;

struct ledger_event {
	int64_t id, type_id, caregiver_id;
	int64_t start_time_us, created_at_us;
	int64_t reimbursed_at_us; /* 0: not yet */
	int64_t amount_in_cents;
	char currency[LEDGER_CURRENCY_SIZE];
};

/* Registers TYPE_ID, CAREGIVER_ID and START_TIME_US of EVENT, and fills in the rest.  An unknown
 * type is a bad field (#/type_id) and ERR_INPUT. */
enum err ledger_event_add(
    struct db *db, const struct audit_actor *actor, struct ledger_event *event) MUST_CHECK;

/* ERR_NOT_FOUND, also for one that is not in SCOPE. */
enum err ledger_event_get(
    struct db *db, int64_t id, const struct scope *scope, struct ledger_event *event) MUST_CHECK;

/* ERR_CONFLICT if EVENT, as it was got in this transaction, is reimbursed already. */
enum err ledger_event_reimburse(
    struct db *db, const struct audit_actor *actor, struct ledger_event *event) MUST_CHECK;

/* As above; ERR_FORBIDDEN if EVENT, which may be seen, is not in SCOPE, or began before
 * EARLIEST_US. */
enum err ledger_event_delete(struct db *db, const struct audit_actor *actor,
    const struct scope *scope, int64_t earliest_us, const struct ledger_event *event) MUST_CHECK;

/* Which events a list shows; a number of 0 is no filter, the times are exclusive. */
struct ledger_filter {
	int64_t caregiver_id, type_id;
	bool by_reimbursed, reimbursed;
	int64_t min_time_us, max_time_us; /* INT64_MIN, INT64_MAX: no bound */
	const struct scope *scope; /* what may be seen */
};

#define LEDGER_FILTER_NONE \
	((struct ledger_filter){ \
	    .min_time_us = INT64_MIN, .max_time_us = INT64_MAX, .scope = &scope_all })

/* The page in the order of ids; EVENTS has room for PAGE->limit + 1 of them.  *MORE: another page
 * follows. */
enum err ledger_list(struct db *db, const struct ledger_filter *filter, const struct page *page,
    struct ledger_event *events, size_t *count, bool *more) MUST_CHECK;

/* Tells every state of the data from every other: printable, without quotes. */
enum err ledger_version(struct db *db, char version[LEDGER_VERSION_SIZE]) MUST_CHECK;

/* The sums of one caregiver and month. */
struct ledger_sum {
	int64_t month, caregiver_id;
	int64_t open_cents, reimbursed_cents, open_events, reimbursed_events;
};

/* A row of report_sums.sql and its like. */
void ledger_take_sum(const struct db_query *q, struct ledger_sum *sum);

/* For bulk.h: the row of an event alone, without its sums and its audit, from all of EVENT but its
 * id; then the sums of several of one month and caregiver. */
enum err ledger_insert(struct db *db, struct ledger_event *event) MUST_CHECK;
enum err ledger_sums_add(struct db *db, const struct ledger_sum *sum) MUST_CHECK;

/* Compares the sums with a recount of all events, in one snapshot; TOLD gets each month and
 * caregiver that differs: what is stored, what ought to be (zeros where there is no row). */
enum err ledger_recount(struct db *db,
    enum err (*told)(void *ctx, const struct ledger_sum *stored, const struct ledger_sum *counted),
    void *ctx) MUST_CHECK;

/* Within a transaction: makes the sums what a recount gives; *REPAIRED rows were wrong. */
enum err ledger_repair(
    struct db *db, const struct audit_actor *actor, int64_t *repaired) MUST_CHECK;

#endif
