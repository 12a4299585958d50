/*
 * events_types: what there is to register, and what it is paid from when on.
 */
#include "events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/etag.h"
#include "lib/jsonw.h"
#include "lib/page.h"
#include "lib/tariff.h"

static void
put_type(struct jsonw *w, const struct tariff_type *type)
{
	jsonw_object_begin(w, NULL);
	jsonw_int(w, "id", type->id);
	jsonw_string(w, "name", type->name);
	jsonw_int(w, "amount_in_cents", type->amount_in_cents);
	jsonw_string(w, "currency", type->currency);
	jsonw_object_end(w);
}

/* The amount is in it, since a price that was set long ago may come into force now. */
static void
type_etag(const struct tariff_type *type, char etag[ETAG_MAX])
{
	(void)snprintf(etag, ETAG_MAX, "\"%lld-%lld-%lld\"", (long long)type->id,
	    (long long)type->version, (long long)type->amount_in_cents);
}

/* A change to one type. */
struct edit {
	struct request *req;
	struct audit_actor actor;
	struct tariff_type type;
	char name[TARIFF_NAME_SIZE];
	int64_t amount_in_cents, valid_from_us; /* as of tariff_change() */
	struct answer answer;
};

static enum err
answer_type(struct edit *edit, int status)
{
	struct answer *a = &edit->answer;
	struct jsonw w;

	answer_begin(a, status);
	if (status == 201)
		(void)snprintf(a->location, sizeof(a->location), "/events/types/%lld",
		    (long long)edit->type.id);
	type_etag(&edit->type, a->etag);
	jsonw_open(&w, answer_write, a);
	put_type(&w, &edit->type);
	return jsonw_close(&w);
}

static enum err
make_create(struct db *db, void *arg)
{
	struct edit *edit = arg;
	enum err err;

	memcpy(edit->type.name, edit->name, sizeof(edit->name));
	(void)snprintf(edit->type.currency, sizeof(edit->type.currency), "SEK");
	edit->type.amount_in_cents = edit->amount_in_cents;
	err = tariff_add(db, &edit->actor, &edit->type);
	return err != OK ? err : answer_type(edit, 201);
}

/* The type as it is, if that is the one that the client means. */
static enum err
find_type(struct db *db, struct edit *edit)
{
	char etag[ETAG_MAX];
	enum err err = tariff_get(db, edit->type.id, edit->actor.now_us, &edit->type);

	if (err != OK)
		return err;
	type_etag(&edit->type, etag);
	return etag_check(edit->req, etag);
}

static enum err
make_change(struct db *db, void *arg)
{
	struct edit *edit = arg;
	enum err err;

	/* Here, so that of two changes the one that is committed last is in force last. */
	edit->actor.now_us = clock_now_us();
	if ((err = find_type(db, edit)) != OK)
		return err;
	memcpy(edit->type.name, edit->name, sizeof(edit->name));
	err = tariff_change(
	    db, &edit->actor, &edit->type, edit->amount_in_cents, edit->valid_from_us);
	return err != OK ? err : answer_type(edit, 200);
}

static enum err
make_delete(struct db *db, void *arg)
{
	struct edit *edit = arg;
	enum err err = find_type(db, edit);

	if (err == OK)
		err = tariff_delete(db, &edit->actor, &edit->type);
	answer_begin(&edit->answer, 204);
	return err;
}

/* Only one currency is known. */
static void
read_currency(const struct jsonr *body)
{
	const char *currency = "SEK";
	size_t n;

	if (!jsonr_has(body, "currency"))
		return;
	jsonr_string(body, "currency", 0, TARIFF_NAME_MAX, &currency, &n);
	if (strcmp(currency, "SEK") != 0)
		(void)fail_field("#/currency", "must be SEK");
}

static enum err
read_type(struct request *req, struct edit *edit)
{
	const char *name = "";
	struct jsonr body;
	size_t n = 0;
	enum err err = answer_json(req, &edit->answer, EVENTS_BODY_MAX, &body);

	if (err != OK)
		return err;
	jsonr_string(&body, "name", 1, TARIFF_NAME_MAX, &name, &n);
	jsonr_int(&body, "amount_in_cents", 0, TARIFF_AMOUNT_MAX, &edit->amount_in_cents);
	if (edit->valid_from_us == TARIFF_FROM_NOW && req->method == METHOD_PUT &&
	    jsonr_has(&body, "valid_from"))
		jsonr_time(&body, "valid_from", &edit->valid_from_us);
	read_currency(&body);
	(void)snprintf(edit->name, sizeof(edit->name), "%s", name);
	jsonr_close(&body);
	return err_pending();
}

static enum err
commit_edit(struct request *req, struct response *res, struct edit *edit, commit_fn make)
{
	enum err err;

	edit->req = req;
	edit->actor = audit_actor_of(req);
	err = answer_commit(&edit->answer, events.commit, make, edit);
	return err != OK ? err : answer_send(&edit->answer, res);
}

enum err
type_create(struct request *req, struct response *res)
{
	struct edit edit = { .valid_from_us = TARIFF_FROM_NOW };
	enum err err = answer_open(req, &edit.answer);

	if (err == OK && (err = read_type(req, &edit)) == OK)
		err = commit_edit(req, res, &edit, make_create);
	answer_close(&edit.answer);
	return err;
}

enum err
type_change(struct request *req, struct response *res)
{
	struct edit edit = { .valid_from_us = TARIFF_FROM_NOW };
	enum err err = answer_open(req, &edit.answer);

	if (err == OK && (err = request_id(req, "id", &edit.type.id)) == OK &&
	    (err = read_type(req, &edit)) == OK)
		err = commit_edit(req, res, &edit, make_change);
	answer_close(&edit.answer);
	return err;
}

enum err
type_delete(struct request *req, struct response *res)
{
	struct edit edit = { .valid_from_us = TARIFF_FROM_NOW };
	enum err err = answer_open(req, &edit.answer);

	if (err == OK && (err = request_id(req, "id", &edit.type.id)) == OK)
		err = commit_edit(req, res, &edit, make_delete);
	answer_close(&edit.answer);
	return err;
}

enum err
type_get(struct request *req, struct response *res)
{
	struct tariff_type type;
	char etag[ETAG_MAX];
	struct db *db = NULL;
	struct jsonw w;
	int64_t id;
	enum err err;

	if ((err = request_id(req, "id", &id)) == OK && (err = events_read(&db)) == OK)
		err = tariff_get(db, id, clock_now_us(), &type);
	events_read_end(db);
	if (err != OK)
		return err;
	type_etag(&type, etag);
	if ((err = etag_check(req, etag)) != OK || etag_unchanged(req, res, etag))
		return err;
	if ((err = etag_begin(res, "application/json", etag)) != OK)
		return err;
	jsonw_open(&w, response_write, res);
	put_type(&w, &type);
	return jsonw_close(&w);
}

/* Of what is shown: amounts change by time alone, too. */
static void
types_etag(const struct tariff_type *types, size_t count, bool more, char etag[ETAG_MAX])
{
	struct etag_list list;
	char one[ETAG_MAX];

	etag_list_begin(&list);
	for (size_t i = 0; i < count; i++) {
		type_etag(&types[i], one);
		etag_list_add(&list, one);
	}
	etag_list_end(&list, more, etag);
}

static enum err
send_types(const struct page *page, const struct tariff_type *types, size_t count, bool more,
    const char *etag, struct response *res)
{
	struct jsonw w;
	enum err err;

	if ((err = etag_begin(res, "application/json", etag)) != OK ||
	    (more && (err = page_link(res, "/events/types", "", page, types[count - 1].id)) != OK))
		return err;
	jsonw_open(&w, response_write, res);
	jsonw_array_begin(&w, NULL);
	for (size_t i = 0; i < count; i++)
		put_type(&w, &types[i]);
	jsonw_array_end(&w);
	return jsonw_close(&w);
}

enum err
types_list(struct request *req, struct response *res)
{
	struct tariff_type *types = NULL;
	char etag[ETAG_MAX];
	struct db *db = NULL;
	struct page page;
	size_t count = 0;
	bool more = false;
	enum err err;

	page_read(req, &page);
	if ((err = err_pending()) != OK)
		return err;
	types = calloc((size_t)page.limit + 1, sizeof(*types));
	if (types == NULL)
		return fail(ERR_BUSY, "no memory for a list");
	if ((err = events_read(&db)) == OK)
		err = tariff_list(db, clock_now_us(), &page, types, &count, &more);
	events_read_end(db);
	if (err == OK) {
		types_etag(types, count, more, etag);
		if (!etag_unchanged(req, res, etag))
			err = send_types(&page, types, count, more, etag, res);
	}
	free(types);
	return err;
}

static void
put_price(struct jsonw *w, const struct tariff_set_price *price)
{
	jsonw_object_begin(w, NULL);
	jsonw_int(w, "amount_in_cents", price->amount_in_cents);
	jsonw_string(w, "currency", price->currency);
	jsonw_time(w, "valid_from", price->valid_from_us);
	jsonw_time(w, "created_at", price->created_at_us);
	jsonw_object_end(w);
}

struct history {
	int64_t type_id;
	struct page page;
	char etag[ETAG_MAX];
	struct tariff_set_price *prices;
	size_t count;
	bool more;
};

static enum err
read_history(struct history *h)
{
	char version[LEDGER_VERSION_SIZE];
	struct db *db = NULL;
	enum err err;

	h->prices = calloc((size_t)h->page.limit + 1, sizeof(*h->prices));
	if (h->prices == NULL)
		return fail(ERR_BUSY, "no memory for a list");
	if ((err = events_read(&db)) == OK && (err = ledger_version(db, version)) == OK)
		err = tariff_prices(db, h->type_id, &h->page, h->prices, &h->count, &h->more);
	events_read_end(db);
	if (err == OK)
		(void)snprintf(h->etag, sizeof(h->etag), "\"%s\"", version);
	return err;
}

static enum err
send_history(const struct history *h, struct response *res)
{
	char path[64];
	struct jsonw w;
	enum err err;

	(void)snprintf(path, sizeof(path), "/events/types/%lld/prices", (long long)h->type_id);
	if ((err = etag_begin(res, "application/json", h->etag)) != OK ||
	    (h->more &&
		(err = page_link(res, path, "", &h->page, h->prices[h->count - 1].id)) != OK))
		return err;
	jsonw_open(&w, response_write, res);
	jsonw_array_begin(&w, NULL);
	for (size_t i = 0; i < h->count; i++)
		put_price(&w, &h->prices[i]);
	jsonw_array_end(&w);
	return jsonw_close(&w);
}

enum err
prices_list(struct request *req, struct response *res)
{
	struct history h = { 0 };
	enum err err = request_id(req, "id", &h.type_id);

	page_read(req, &h.page);
	if (err == OK && (err = err_pending()) == OK && (err = read_history(&h)) == OK &&
	    !etag_unchanged(req, res, h.etag))
		err = send_history(&h, res);
	free(h.prices);
	return err;
}
