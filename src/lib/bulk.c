#include "lib/bulk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/jsonr.h"
#include "lib/tariff.h"

#define BATCH 4096 /* events whose sums are added together */
#define MANY 4096 /* events that find more of the file in memory */
#define PRICES 256 /* kept at hand, one a type */
#define BAD_LINES_MAX 10 /* told of; no further lines are looked at then */

/* An event on its way, as the nameless file has it. */
struct entry {
	int64_t line, type_id, caregiver_id, start_time_us, reimbursed_at_us;
};

struct bulk {
	FILE *spool;
	const struct scope *scope; /* of caregivers that are taken */
	int64_t earliest_us;
	int64_t line; /* of the text, from 1 */
	int64_t count;
	int bad_lines;
	bool too_long; /* the line under way is passed over to its end */
	size_t used;
	char text[BULK_LINE_MAX + 1];
};

enum err
bulk_open(const char *folder, const struct scope *scope, int64_t earliest_us, struct bulk **out)
{
	struct bulk *bulk = calloc(1, sizeof(*bulk));
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	*out = NULL;
	if (bulk == NULL || fd < 0 || (bulk->spool = fdopen(fd, "w+")) == NULL) {
		free(bulk);
		if (fd >= 0)
			(void)close(fd);
		return fail(ERR_BUSY, "there is no room for an import now");
	}
	bulk->scope = scope;
	bulk->earliest_us = earliest_us;
	*out = bulk;
	return OK;
}

void
bulk_close(struct bulk *bulk)
{
	if (bulk == NULL)
		return;
	(void)fclose(bulk->spool);
	free(bulk);
}

int64_t
bulk_count(const struct bulk *bulk)
{
	return bulk->count;
}

static enum err
put(struct bulk *bulk, const struct entry *entry)
{
	if (fwrite(entry, sizeof(*entry), 1, bulk->spool) != 1)
		return fail(ERR_BUSY, "there is no room for so large an import now");
	bulk->count++;
	return OK;
}

enum err
bulk_put(struct bulk *bulk, int64_t type_id, int64_t caregiver_id, int64_t start_time_us,
    int64_t reimbursed_at_us)
{
	const struct entry entry = { 0, type_id, caregiver_id, start_time_us, reimbursed_at_us };

	return put(bulk, &entry);
}

/* --- Reading. */

/* Says of the bad fields, all those behind the first KNOWN, which line they are from. */
static void
name_line(struct err_state *state, size_t known, int64_t line)
{
	for (size_t i = known; i < state->field_count && i < ERR_FIELDS_MAX; i++) {
		char detail[sizeof(state->fields[i].detail)];

		(void)snprintf(detail, sizeof(detail), "%s", state->fields[i].detail);
		(void)snprintf(state->fields[i].detail, sizeof(state->fields[i].detail),
		    "line %lld: %.*s", (long long)line, (int)sizeof(detail) - 32, detail);
	}
}

/* A line that is not as it must be: its fields, or what is wrong with all of it. */
static void
refuse_line(struct bulk *bulk, size_t known, enum err err)
{
	struct err_state state;
	size_t count;

	bulk->bad_lines++;
	(void)err_fields(&count);
	if (count == known)
		(void)fail_field("#", "%s", err == OK ? "is too long" : err_words());
	err_save(&state);
	name_line(&state, known, bulk->line);
	err_restore(&state);
}

static enum err
parse_line(const char *s, size_t n, struct entry *entry)
{
	struct jsonr body;
	enum err err = jsonr_parse(s, n, &body);

	if (err != OK)
		return err;
	jsonr_int(&body, "type_id", 1, INT64_MAX, &entry->type_id);
	jsonr_int(&body, "caregiver_id", 1, INT64_MAX, &entry->caregiver_id);
	jsonr_time(&body, "start_time", &entry->start_time_us);
	jsonr_close(&body);
	return OK;
}

/* One line without its end; an empty one is nothing. */
static enum err
take_line(struct bulk *bulk, const char *s, size_t n)
{
	struct entry entry = { .line = bulk->line };
	size_t known, count;
	enum err err;

	while (n > 0 && strchr(" \t\r", s[n - 1]) != NULL && s[n - 1] != '\0')
		n--;
	if (n == 0)
		return OK;
	(void)err_fields(&known);
	err = parse_line(s, n, &entry);
	(void)err_fields(&count);
	if (err == ERR_BUSY)
		return err;
	if (err == OK && count == known && !scope_has(bulk->scope, entry.caregiver_id))
		return fail(ERR_FORBIDDEN,
		    "line %lld: none of your roles may register events of this caregiver",
		    (long long)entry.line);
	if (err == OK && count == known)
		return put(bulk, &entry);
	refuse_line(bulk, known, err);
	return OK;
}

/* The line that has gathered in bulk->text ends. */
static enum err
end_line(struct bulk *bulk)
{
	enum err err = OK;
	size_t known;

	bulk->line++;
	if (bulk->too_long) {
		(void)err_fields(&known);
		refuse_line(bulk, known, OK);
	} else {
		err = take_line(bulk, bulk->text, bulk->used);
	}
	bulk->used = 0;
	bulk->too_long = false;
	return err;
}

enum err
bulk_add(struct bulk *bulk, const char *bytes, size_t n)
{
	enum err err = OK;

	while (n > 0 && err == OK && bulk->bad_lines < BAD_LINES_MAX) {
		const char *end = memchr(bytes, '\n', n);
		size_t part = end == NULL ? n : (size_t)(end - bytes);

		if (bulk->used + part > BULK_LINE_MAX) {
			bulk->too_long = true;
		} else if (bulk->used == 0 && end != NULL && !bulk->too_long) {
			bulk->line++;
			err = take_line(bulk, bytes, part);
		} else {
			memcpy(bulk->text + bulk->used, bytes, part);
			bulk->used += part;
		}
		if (end != NULL && (bulk->used > 0 || bulk->too_long))
			err = end_line(bulk);
		part += end != NULL;
		bytes += part;
		n -= part;
	}
	return err;
}

static enum err
tell_bad_lines(int count)
{
	enum err err = err_pending();

	if (count == BAD_LINES_MAX)
		return fail(err, "%d lines are wrong, and those behind them were not read", count);
	return count > 1 ? fail(err, "%d lines are wrong", count) : err;
}

enum err
bulk_end(struct bulk *bulk)
{
	enum err err = OK;

	if (bulk->bad_lines < BAD_LINES_MAX && (bulk->used > 0 || bulk->too_long))
		err = end_line(bulk);
	if (err == OK && bulk->bad_lines > 0)
		err = tell_bad_lines(bulk->bad_lines);
	if (err == OK && fflush(bulk->spool) != 0)
		err = fail(ERR_BUSY, "there is no room for so large an import now");
	return err;
}

/* --- Writing. */

struct price {
	int64_t type_id; /* 0: none */
	struct tariff_price price;
};

/* What a writing needs beside the database. */
struct writing {
	struct db *db;
	const struct audit_actor *actor;
	struct bulk *bulk;
	void (*told)(void *ctx, int64_t written);
	void *ctx;
	int bad_lines;
	size_t sum_count;
	struct ledger_sum sums[BATCH]; /* of one event each */
	struct price prices[PRICES];
};

/* Most imports go by time, so that the price found last is the one wanted next. */
static enum err
find_amount(struct writing *w, const struct entry *entry, int64_t *amount, bool *found)
{
	struct price *kept = &w->prices[(size_t)entry->type_id % PRICES];
	int64_t at_us = entry->start_time_us;
	enum err err = OK;

	*found = true;
	if (kept->type_id != entry->type_id || at_us < kept->price.from_us ||
	    at_us >= kept->price.until_us) {
		kept->type_id = 0;
		err = tariff_price_at(w->db, entry->type_id, at_us, &kept->price, found);
		if (err == OK && *found)
			kept->type_id = entry->type_id;
	}
	*amount = kept->price.amount_in_cents;
	return err;
}

static int
order_sums(const void *a, const void *b)
{
	const struct ledger_sum *x = a, *y = b;

	if (x->month != y->month)
		return x->month < y->month ? -1 : 1;
	return (x->caregiver_id > y->caregiver_id) - (x->caregiver_id < y->caregiver_id);
}

/* Adds the sums of the batch: sorted, each row of the table is touched once. */
static enum err
add_sums(struct writing *w)
{
	const struct ledger_sum *next = w->sums, *end = w->sums + w->sum_count;
	enum err err = OK;

	qsort(w->sums, w->sum_count, sizeof(w->sums[0]), order_sums);
	while (next < end && err == OK) {
		struct ledger_sum sum = *next++;

		for (; next < end && order_sums(next, &sum) == 0; next++) {
			sum.open_cents += next->open_cents;
			sum.open_events += next->open_events;
			sum.reimbursed_cents += next->reimbursed_cents;
			sum.reimbursed_events += next->reimbursed_events;
		}
		err = ledger_sums_add(w->db, &sum);
	}
	w->sum_count = 0;
	return err;
}

static enum err
insert(struct writing *w, const struct entry *entry, int64_t amount)
{
	bool paid = entry->reimbursed_at_us != 0;
	struct ledger_event event = {
		.type_id = entry->type_id,
		.caregiver_id = entry->caregiver_id,
		.start_time_us = entry->start_time_us,
		.amount_in_cents = amount,
		.created_at_us = w->actor->now_us,
		.reimbursed_at_us = entry->reimbursed_at_us,
	};
	enum err err = ledger_insert(w->db, &event);

	if (err == OK)
		err = audit_add(w->db, w->actor, AUDIT_EVENT_CREATED, event.id, NULL);
	if (err == OK && paid)
		err = audit_add(w->db, w->actor, AUDIT_EVENT_REIMBURSED, event.id, NULL);
	if (err != OK)
		return err;
	w->sums[w->sum_count++] = (struct ledger_sum){ clock_month(event.start_time_us),
		event.caregiver_id, paid ? 0 : amount, paid ? amount : 0, !paid, paid };
	return w->sum_count == BATCH ? add_sums(w) : OK;
}

static enum err
refuse_entry(struct writing *w, const struct entry *entry, const char *pointer, const char *why)
{
	w->bad_lines++;
	return fail_field(pointer, "line %lld: %s", (long long)entry->line, why);
}

/* What may be wrong with an entry that was well written. */
static enum err
check_entry(struct writing *w, const struct entry *entry)
{
	int64_t amount;
	bool found;
	enum err err;

	/* Not while the lines are read: a retry of what was done within the window may come after
	 * it. */
	if (entry->start_time_us < w->bulk->earliest_us)
		return refuse_entry(w, entry, "#/start_time", "is before the entry window");
	if ((err = find_amount(w, entry, &amount, &found)) != OK)
		return err;
	if (!found)
		return refuse_entry(w, entry, "#/type_id", "there is no such type");
	return OK;
}

static enum err
write_entry(struct writing *w, const struct entry *entry)
{
	int64_t amount;
	bool found;
	enum err err = find_amount(w, entry, &amount, &found);

	assert(err != OK || found);
	return err == OK ? insert(w, entry, amount) : err;
}

static enum err
each_entry(struct writing *w, enum err (*act)(struct writing *w, const struct entry *entry))
{
	struct bulk *bulk = w->bulk;
	struct entry entry;
	enum err err;

	rewind(bulk->spool);
	for (int64_t i = 0; i < bulk->count && w->bad_lines < BAD_LINES_MAX; i++) {
		if (fread(&entry, sizeof(entry), 1, bulk->spool) != 1)
			return fail(ERR_BUSY, "an import cannot be read back");
		err = act(w, &entry);
		if (err != OK && (err != ERR_INPUT || w->bad_lines == 0))
			return err;
		if (w->told != NULL && act == write_entry && i % BATCH == 0)
			w->told(w->ctx, i);
	}
	return w->bad_lines > 0 ? tell_bad_lines(w->bad_lines) : OK;
}

enum err
bulk_write(struct bulk *bulk, struct db *db, const struct audit_actor *actor,
    void (*told)(void *ctx, int64_t written), void *ctx)
{
	struct writing *w = calloc(1, sizeof(*w));
	enum err err;

	if (w == NULL)
		return fail(ERR_BUSY, "no memory for an import");
	w->db = db;
	w->actor = actor;
	w->bulk = bulk;
	w->told = told;
	w->ctx = ctx;
	err = bulk_count(bulk) < MANY ? OK : db_expect_many(db);
	/* Nothing is written before all is known to be good, so that nothing need be undone. */
	if (err == OK && (err = each_entry(w, check_entry)) == OK &&
	    (err = each_entry(w, write_entry)) == OK)
		err = add_sums(w);
	free(w);
	return err;
}
