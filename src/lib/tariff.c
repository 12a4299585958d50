#include "lib/tariff.h"

#include <stdio.h>
#include <string.h>

#include "lib/clock.h"
#include "sql.h"

#define DETAIL_MAX 256

/* The columns of type_get and types_list. */
static void
take_type(const struct db_query *q, struct tariff_type *type)
{
	size_t n;

	type->id = db_int(q, 0);
	(void)snprintf(type->name, sizeof(type->name), "%s", db_text(q, 1, &n));
	(void)snprintf(type->currency, sizeof(type->currency), "%s", db_text(q, 2, &n));
	type->version = db_int(q, 3);
	type->amount_in_cents = db_int(q, 4);
}

static enum err
find_name(struct db *db, const char *name, int64_t *id)
{
	struct db_query q;
	bool found;
	enum err err;

	*id = 0;
	db_query(&q, db, &sql_events_type_by_name);
	db_bind_text(&q, name, strlen(name));
	if ((err = db_next(&q, &found)) == OK && found)
		*id = db_int(&q, 0);
	db_done(&q);
	return err;
}

static enum err
name_taken(void)
{
	return fail(ERR_CONFLICT, "there is a type of that name already");
}

static enum err
add_price(struct db *db, int64_t type_id, int64_t valid_from_us, int64_t cents, int64_t now_us)
{
	struct db_query q;

	db_query(&q, db, &sql_events_price_insert);
	db_bind_int(&q, type_id);
	db_bind_int(&q, valid_from_us);
	db_bind_int(&q, cents);
	db_bind_int(&q, now_us);
	return db_run(&q);
}

/* What a price was set to, for the audit: the name of the type is not, and may not be, JSON here.
 */
static enum err
audit_price(struct db *db, const struct audit_actor *actor, enum audit_what what, int64_t type_id,
    int64_t cents, int64_t valid_from_us)
{
	char detail[DETAIL_MAX];

	(void)snprintf(detail, sizeof(detail), "{\"amount_in_cents\":%lld,\"valid_from_us\":%lld}",
	    (long long)cents, (long long)valid_from_us);
	return audit_add(db, actor, what, type_id, detail);
}

enum err
tariff_add(struct db *db, const struct audit_actor *actor, struct tariff_type *type)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_events_type_insert);
	db_bind_text(&q, type->name, strlen(type->name));
	db_bind_text(&q, type->currency, strlen(type->currency));
	if ((err = db_next(&q, &found)) == OK && !found)
		err = name_taken();
	if (err == OK)
		type->id = db_int(&q, 0);
	db_done(&q);
	type->version = 1;
	if (err != OK ||
	    (err = add_price(db, type->id, 0, type->amount_in_cents, actor->now_us)) != OK)
		return err;
	return audit_price(db, actor, AUDIT_TYPE_CREATED, type->id, type->amount_in_cents, 0);
}

enum err
tariff_get(struct db *db, int64_t id, int64_t now_us, struct tariff_type *type)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_events_type_get);
	db_bind_int(&q, id);
	db_bind_int(&q, now_us);
	if ((err = db_next(&q, &found)) == OK && found)
		take_type(&q, type);
	else if (err == OK)
		err = fail(ERR_NOT_FOUND, "there is no type %lld", (long long)id);
	db_done(&q);
	return err;
}

enum err
tariff_price_at(
    struct db *db, int64_t type_id, int64_t at_us, struct tariff_price *price, bool *found)
{
	struct db_query q;
	bool more;
	enum err err;

	db_query(&q, db, &sql_events_price_in_force);
	db_bind_int(&q, type_id);
	db_bind_int(&q, at_us);
	if ((err = db_next(&q, found)) == OK && *found) {
		price->amount_in_cents = db_int(&q, 0);
		price->from_us = db_int(&q, 2);
		price->until_us = INT64_MAX;
	}
	db_done(&q);
	if (err != OK || !*found)
		return err;
	db_query(&q, db, &sql_events_price_next);
	db_bind_int(&q, type_id);
	db_bind_int(&q, at_us);
	if ((err = db_next(&q, &more)) == OK && more)
		price->until_us = db_int(&q, 0);
	db_done(&q);
	return err;
}

static enum err
rename_type(struct db *db, const struct tariff_type *type)
{
	struct db_query q;
	int64_t other;
	enum err err = find_name(db, type->name, &other);

	if (err != OK)
		return err;
	if (other != 0 && other != type->id)
		return name_taken();
	db_query(&q, db, &sql_events_type_update);
	db_bind_int(&q, type->id);
	db_bind_text(&q, type->name, strlen(type->name));
	return db_run(&q);
}

#define SET_BACK_MAX_US (600 * CLOCK_SECOND_US)

/* The clock may have been set back since a price was set from then on; but of one that was far
 * ahead nothing is to be believed. */
static enum err
find_now(struct db *db, int64_t type_id, int64_t now_us, int64_t *from_us)
{
	struct db_query q;
	bool found;
	enum err err;

	*from_us = now_us;
	db_query(&q, db, &sql_events_price_begun);
	db_bind_int(&q, type_id);
	db_bind_int(&q, now_us + SET_BACK_MAX_US);
	if ((err = db_next(&q, &found)) == OK && found && db_int(&q, 0) > now_us)
		*from_us = db_int(&q, 0);
	db_done(&q);
	return err;
}

enum err
tariff_change(struct db *db, const struct audit_actor *actor, struct tariff_type *type,
    int64_t amount_in_cents, int64_t valid_from_us)
{
	enum err err = rename_type(db, type);

	if (err == OK && valid_from_us == TARIFF_FROM_NOW)
		err = find_now(db, type->id, actor->now_us, &valid_from_us);
	/* Also where that is in force then anyway: it stays so if another price is set before it.
	 */
	if (err == OK)
		err = add_price(db, type->id, valid_from_us, amount_in_cents, actor->now_us);
	if (err != OK)
		return err;
	err = audit_price(db, actor, AUDIT_TYPE_CHANGED, type->id, amount_in_cents, valid_from_us);
	return err != OK ? err : tariff_get(db, type->id, actor->now_us, type);
}

static enum err
run_on(struct db *db, const struct db_sql *sql, int64_t type_id)
{
	struct db_query q;

	db_query(&q, db, sql);
	db_bind_int(&q, type_id);
	return db_run(&q);
}

enum err
tariff_delete(struct db *db, const struct audit_actor *actor, const struct tariff_type *type)
{
	struct db_query q;
	bool used;
	enum err err;

	db_query(&q, db, &sql_events_type_used);
	db_bind_int(&q, type->id);
	if ((err = db_next(&q, &used)) == OK && used)
		err = fail(ERR_CONFLICT, "there are events of this type");
	db_done(&q);
	if (err != OK || (err = run_on(db, &sql_events_prices_delete, type->id)) != OK ||
	    (err = run_on(db, &sql_events_type_delete, type->id)) != OK)
		return err;
	return audit_price(db, actor, AUDIT_TYPE_DELETED, type->id, type->amount_in_cents, 0);
}

enum err
tariff_list(struct db *db, int64_t now_us, const struct page *page, struct tariff_type *types,
    size_t *count, bool *more)
{
	size_t wanted = (size_t)page->limit;
	struct db_query q;
	bool found = true;
	enum err err = OK;

	db_query(&q, db, &sql_events_types_list);
	db_bind_int(&q, now_us);
	db_bind_int(&q, page->after);
	db_bind_int(&q, page->limit + 1);
	for (*count = 0; *count <= wanted && (err = db_next(&q, &found)) == OK && found; ++*count)
		take_type(&q, &types[*count]);
	db_done(&q);
	*more = err == OK && *count > wanted;
	if (*more)
		*count = wanted;
	return err;
}

enum err
tariff_prices(struct db *db, int64_t type_id, const struct page *page,
    struct tariff_set_price *prices, size_t *count, bool *more)
{
	size_t wanted = (size_t)page->limit, n;
	struct tariff_type type;
	struct db_query q;
	bool found = true;
	enum err err = tariff_get(db, type_id, 0, &type);

	*count = 0;
	if (err != OK)
		return err;
	db_query(&q, db, &sql_events_prices_list);
	db_bind_int(&q, type_id);
	db_bind_int(&q, page->after);
	db_bind_int(&q, page->limit + 1);
	for (; *count <= wanted && (err = db_next(&q, &found)) == OK && found; ++*count) {
		prices[*count] = (struct tariff_set_price){ db_int(&q, 0), db_int(&q, 1),
			db_int(&q, 2), db_int(&q, 3), "" };
		(void)snprintf(prices[*count].currency, sizeof(prices[*count].currency), "%s",
		    db_text(&q, 4, &n));
	}
	db_done(&q);
	*more = err == OK && *count > wanted;
	if (*more)
		*count = wanted;
	return err;
}
