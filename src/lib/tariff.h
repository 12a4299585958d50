/*
 * tariff: the types of events and what each is paid, from when on.
 *
 * A price is in force from its valid_from until the next one's; the first of a type is in force
 * since ever.  Prices are only added: one given again for the same instant takes the place of the
 * one before, which stays in the history.
 */
#ifndef CAREDESK_TARIFF_H
#define CAREDESK_TARIFF_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/db.h"
#include "lib/err.h"
#include "lib/ledger.h"
#include "lib/page.h"

#define TARIFF_NAME_MAX 200 /* characters */
#define TARIFF_NAME_SIZE (TARIFF_NAME_MAX * 4 + 1)
#define TARIFF_AMOUNT_MAX INT32_MAX /* cents */

struct tariff_type {
	int64_t id;
	char name[TARIFF_NAME_SIZE];
	int64_t amount_in_cents; /* in force at the instant of the question */
	char currency[LEDGER_CURRENCY_SIZE];
	int64_t version; /* counts changes */
};

/* NAME, AMOUNT_IN_CENTS and CURRENCY of TYPE; fills in the rest.  ERR_CONFLICT: the name is taken.
 */
enum err tariff_add(
    struct db *db, const struct audit_actor *actor, struct tariff_type *type) MUST_CHECK;

/* As of NOW_US; ERR_NOT_FOUND. */
enum err tariff_get(struct db *db, int64_t id, int64_t now_us, struct tariff_type *type) MUST_CHECK;

#define TARIFF_FROM_NOW INT64_MIN

/* TYPE as got, with its new name; AMOUNT_IN_CENTS is in force from VALID_FROM_US on, or from now
 * on: not before a price that was set so before, whatever the clock says.  Fills in what is in
 * force now.  ERR_CONFLICT: the name is taken. */
enum err tariff_change(struct db *db, const struct audit_actor *actor, struct tariff_type *type,
    int64_t amount_in_cents, int64_t valid_from_us) MUST_CHECK;

/* ERR_CONFLICT while events use it. */
enum err tariff_delete(
    struct db *db, const struct audit_actor *actor, const struct tariff_type *type) MUST_CHECK;

/* As ledger_list(): TYPES has room for PAGE->limit + 1. */
enum err tariff_list(struct db *db, int64_t now_us, const struct page *page,
    struct tariff_type *types, size_t *count, bool *more) MUST_CHECK;

/* A price as it was set. */
struct tariff_set_price {
	int64_t id; /* rises in the order in which they were set */
	int64_t amount_in_cents, valid_from_us, created_at_us;
	char currency[LEDGER_CURRENCY_SIZE];
};

/* Those of TYPE_ID, as ledger_list().  ERR_NOT_FOUND: there is no such type. */
enum err tariff_prices(struct db *db, int64_t type_id, const struct page *page,
    struct tariff_set_price *prices, size_t *count, bool *more) MUST_CHECK;

/* A price, and the instants from which and until which it is in force. */
struct tariff_price {
	int64_t amount_in_cents, from_us, until_us;
};

/* That of TYPE_ID at AT_US; *FOUND is whether there is such a type. */
enum err tariff_price_at(struct db *db, int64_t type_id, int64_t at_us, struct tariff_price *price,
    bool *found) MUST_CHECK;

#endif
