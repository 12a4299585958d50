/*
 * bulk: many events at once, all or none: NDJSON (a JSON object a line, RFC 8259) into the ledger.
 *
 * First every line is read and checked, and its three numbers go into a nameless file; nothing else
 * is held in memory, whatever their number.  Only when all lines are good, they are written in one
 * transaction, sums by sorted batches, prices from a cache.  So the writer never waits for a
 * client, and bad input costs it nothing.
 *
 * Empty lines are passed over.  A line has at most BULK_LINE_MAX bytes.
 */
#ifndef CAREDESK_BULK_H
#define CAREDESK_BULK_H

#include <stddef.h>
#include <stdint.h>

#include "lib/db.h"
#include "lib/err.h"
#include "lib/ledger.h"
#include "lib/scope.h"

#define BULK_LINE_MAX (64 * 1024)

struct bulk;

/* FOLDER holds the nameless file: "db" below the data folder.  Only caregivers in SCOPE, lent until
 * bulk_end(), are taken.  EARLIEST_US is the earliest start_time that is; INT64_MIN: any. */
enum err bulk_open(const char *folder, const struct scope *scope, int64_t earliest_us,
    struct bulk **bulk) MUST_CHECK;
void bulk_close(struct bulk *bulk);

/* The next bytes of the text.  Bad lines become bad fields, "line 17: ...", told by bulk_end(); a
 * caregiver out of SCOPE is ERR_FORBIDDEN at once. */
enum err bulk_add(struct bulk *bulk, const char *bytes, size_t n) MUST_CHECK;

/* The text has ended.  ERR_INPUT if lines were bad; ERR_FORBIDDEN as above. */
enum err bulk_end(struct bulk *bulk) MUST_CHECK;

/* An event without text around it, instead of bulk_add(): demo data.  REIMBURSED_AT_US 0 for none.
 */
enum err bulk_put(struct bulk *bulk, int64_t type_id, int64_t caregiver_id, int64_t start_time_us,
    int64_t reimbursed_at_us) MUST_CHECK;

int64_t bulk_count(const struct bulk *bulk);

/* Within a transaction: all events.  May be called again after a rollback.  TOLD, if not NULL, gets
 * how many are written, now and then.  Lines with unknown types, or before EARLIEST_US, are bad
 * fields and ERR_INPUT. */
enum err bulk_write(struct bulk *bulk, struct db *db, const struct audit_actor *actor,
    void (*told)(void *ctx, int64_t written), void *ctx) MUST_CHECK;

#endif
