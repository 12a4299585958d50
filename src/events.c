/*
 * events: caregivers register health-care events, accounting reimburses them.
 */
#include "events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/etag.h"
#include "lib/health.h"
#include "lib/jsonw.h"
#include "lib/page.h"
#include "lib/scrape.h"
#include "lib/serve.h"

struct events events;

int64_t
events_earliest(const struct request *req)
{
	if (events.window_us == 0 || (req->roles & ROLE_ADMIN) != 0)
		return INT64_MIN;
	return clock_now_us() - events.window_us;
}

enum err
events_read(struct db **db)
{
	return db_borrow_snapshot(events.readers, clock_monotonic_us() + EVENTS_QUERY_US, db);
}

void
events_read_end(struct db *db)
{
	db_return(events.readers, db);
}

static void
put_event(struct jsonw *w, const struct ledger_event *event)
{
	jsonw_object_begin(w, NULL);
	jsonw_int(w, "id", event->id);
	jsonw_int(w, "type_id", event->type_id);
	jsonw_int(w, "caregiver_id", event->caregiver_id);
	jsonw_time(w, "start_time", event->start_time_us);
	jsonw_int(w, "amount_in_cents", event->amount_in_cents);
	jsonw_string(w, "currency", event->currency);
	jsonw_bool(w, "reimbursed", event->reimbursed_at_us != 0);
	if (event->reimbursed_at_us == 0)
		jsonw_null(w, "reimbursed_at");
	else
		jsonw_time(w, "reimbursed_at", event->reimbursed_at_us);
	jsonw_time(w, "created_at", event->created_at_us);
	jsonw_object_end(w);
}

/* An event changes by its reimbursement only. */
static void
event_etag(const struct ledger_event *event, char etag[ETAG_MAX])
{
	(void)snprintf(etag, ETAG_MAX, "\"%lld-%lld\"", (long long)event->id,
	    (long long)event->reimbursed_at_us);
}

/* A change to one event. */
struct edit {
	struct request *req;
	struct audit_actor actor;
	int64_t earliest_us; /* of an event that is added or deleted */
	struct scope seen; /* events that REQ may know of */
	struct ledger_event event;
	struct answer answer;
};

static enum err
answer_event(struct edit *edit, int status)
{
	struct answer *a = &edit->answer;
	struct jsonw w;

	answer_begin(a, status);
	if (status == 201)
		(void)snprintf(
		    a->location, sizeof(a->location), "/events/%lld", (long long)edit->event.id);
	event_etag(&edit->event, a->etag);
	jsonw_open(&w, answer_write, a);
	put_event(&w, &edit->event);
	return jsonw_close(&w);
}

static enum err
make_create(struct db *db, void *arg)
{
	struct edit *edit = arg;
	enum err err;

	/* Not before: a retry of what was done within the window may come after it. */
	if (edit->event.start_time_us < edit->earliest_us) {
		(void)fail_field("#/start_time", "is before the entry window");
		return err_pending();
	}
	err = ledger_event_add(db, &edit->actor, &edit->event);
	return err != OK ? err : answer_event(edit, 201);
}

/* The event as it is, if that is the one that the client means.  One that is foreign is not there,
 * whatever the conditions say. */
static enum err
find_event(struct db *db, struct edit *edit)
{
	char etag[ETAG_MAX];
	enum err err = ledger_event_get(db, edit->event.id, &edit->seen, &edit->event);

	if (err != OK)
		return err;
	event_etag(&edit->event, etag);
	return etag_check(edit->req, etag);
}

static enum err
make_reimburse(struct db *db, void *arg)
{
	struct edit *edit = arg;
	enum err err = find_event(db, edit);

	if (err == OK)
		err = ledger_event_reimburse(db, &edit->actor, &edit->event);
	return err != OK ? err : answer_event(edit, 200);
}

static enum err
make_delete(struct db *db, void *arg)
{
	struct edit *edit = arg;
	struct scope scope;
	enum err err = find_event(db, edit);

	if (err == OK) {
		scope_begin(&scope, SCOPE_EVENTS_DELETE, &edit->req->who_bytes);
		err =
		    ledger_event_delete(db, &edit->actor, &scope, edit->earliest_us, &edit->event);
	}
	answer_begin(&edit->answer, 204);
	return err;
}

static enum err
read_event(struct request *req, struct edit *edit)
{
	struct ledger_event *event = &edit->event;
	struct scope scope;
	struct jsonr body;
	enum err err = answer_json(req, &edit->answer, EVENTS_BODY_MAX, &body);

	if (err != OK)
		return err;
	jsonr_int(&body, "type_id", 1, INT64_MAX, &event->type_id);
	jsonr_int(&body, "caregiver_id", 1, INT64_MAX, &event->caregiver_id);
	jsonr_time(&body, "start_time", &event->start_time_us);
	jsonr_close(&body);
	scope_begin(&scope, SCOPE_EVENTS_CREATE, &req->who_bytes);
	if ((err = err_pending()) == OK && !scope_has(&scope, event->caregiver_id))
		err =
		    fail(ERR_FORBIDDEN, "none of your roles may register events of this caregiver");
	return err;
}

/* Runs MAKE in a shared commit and sends what it has answered. */
static enum err
commit_edit(struct request *req, struct response *res, struct edit *edit, commit_fn make)
{
	enum err err;

	edit->req = req;
	edit->actor = audit_actor_of(req);
	edit->earliest_us = events_earliest(req);
	scope_begin(&edit->seen, SCOPE_EVENTS_READ, &req->who_bytes);
	err = answer_commit(&edit->answer, events.commit, make, edit);
	return err != OK ? err : answer_send(&edit->answer, res);
}

static enum err
event_create(struct request *req, struct response *res)
{
	struct edit edit;
	enum err err;

	if (request_is(req, "application/x-ndjson"))
		return event_import(req, res);
	if (!request_is(req, "application/json"))
		return fail(ERR_MEDIA_TYPE,
		    "the body must be application/json or application/x-ndjson, unencoded");
	if ((err = answer_open(req, &edit.answer)) == OK && (err = read_event(req, &edit)) == OK)
		err = commit_edit(req, res, &edit, make_create);
	answer_close(&edit.answer);
	return err;
}

/* A change without a body; one that comes is part of what a retry must repeat. */
static enum err
edit_by_id(struct request *req, struct response *res, commit_fn make)
{
	struct edit edit;
	char *bytes = NULL;
	size_t n;
	enum err err = answer_open(req, &edit.answer);

	if (err == OK && (err = request_id(req, "id", &edit.event.id)) == OK &&
	    (err = request_body(req, EVENTS_BODY_MAX, &bytes, &n)) == OK) {
		answer_digest(&edit.answer, bytes, n);
		err = commit_edit(req, res, &edit, make);
	}
	free(bytes);
	answer_close(&edit.answer);
	return err;
}

static enum err
event_reimburse(struct request *req, struct response *res)
{
	return edit_by_id(req, res, make_reimburse);
}

static enum err
event_delete(struct request *req, struct response *res)
{
	return edit_by_id(req, res, make_delete);
}

static enum err
event_get(struct request *req, struct response *res)
{
	struct ledger_event event;
	char etag[ETAG_MAX];
	struct scope scope;
	struct db *db = NULL;
	struct jsonw w;
	int64_t id;
	enum err err;

	scope_begin(&scope, SCOPE_EVENTS_READ, &req->who_bytes);
	if ((err = request_id(req, "id", &id)) == OK && (err = events_read(&db)) == OK)
		err = ledger_event_get(db, id, &scope, &event);
	events_read_end(db);
	if (err != OK)
		return err;
	event_etag(&event, etag);
	if ((err = etag_check(req, etag)) != OK || etag_unchanged(req, res, etag))
		return err;
	if ((err = etag_begin(res, "application/json", etag)) != OK)
		return err;
	jsonw_open(&w, response_write, res);
	put_event(&w, &event);
	return jsonw_close(&w);
}

/* --- The list. */

static void
read_filter(const struct request *req, struct ledger_filter *filter)
{
	bool found;

	*filter = LEDGER_FILTER_NONE;
	request_param_int(req, "caregiver_id", 1, INT64_MAX, &filter->caregiver_id, &found);
	request_param_int(req, "type_id", 1, INT64_MAX, &filter->type_id, &found);
	(void)request_param(req, "reimbursed", &filter->by_reimbursed);
	if (filter->by_reimbursed)
		filter->reimbursed = request_param_flag(req, "reimbursed", false);
	request_param_time(req, "min_time", &filter->min_time_us, &found);
	request_param_time(req, "max_time", &filter->max_time_us, &found);
	/* The report's: passed over, it would give the events of everybody. */
	(void)request_param(req, "caregiver_ids", &found);
	if (found)
		(void)fail_field("caregiver_ids", "is no filter of this list: caregiver_id is");
}

/* The filter as a query again, for the next page. */
static void
filter_text(const struct ledger_filter *filter, char out[PAGE_FILTERS_MAX])
{
	char time[CLOCK_TEXT_SIZE];
	size_t n = 0;

	out[0] = '\0';
#define ADD(...) n += (size_t)snprintf(out + n, PAGE_FILTERS_MAX - n, __VA_ARGS__)
	if (filter->caregiver_id != 0)
		ADD("&caregiver_id=%lld", (long long)filter->caregiver_id);
	if (filter->type_id != 0)
		ADD("&type_id=%lld", (long long)filter->type_id);
	if (filter->by_reimbursed)
		ADD("&reimbursed=%s", filter->reimbursed ? "true" : "false");
	if (filter->min_time_us != INT64_MIN) {
		clock_text(filter->min_time_us, time);
		ADD("&min_time=%s", time);
	}
	if (filter->max_time_us != INT64_MAX) {
		clock_text(filter->max_time_us, time);
		ADD("&max_time=%s", time);
	}
#undef ADD
	memmove(out, out + 1, n); /* without the first & */
}

struct list {
	struct scope scope;
	struct ledger_filter filter;
	struct page page;
	char etag[ETAG_MAX];
	struct ledger_event *events;
	size_t count;
	bool more;
};

/* Who sees all is told of the whole state, which costs one look; who does not, of what the page
 * shows and nothing else: what others do is not theirs to know. */
static enum err
list_etag(struct db *db, struct list *list)
{
	char version[LEDGER_VERSION_SIZE], one[ETAG_MAX];
	struct etag_list all;
	enum err err;

	if (list->scope.all) {
		if ((err = ledger_version(db, version)) == OK)
			(void)snprintf(list->etag, sizeof(list->etag), "\"%s\"", version);
		return err;
	}
	etag_list_begin(&all);
	for (size_t i = 0; i < list->count; i++) {
		event_etag(&list->events[i], one);
		etag_list_add(&all, one);
	}
	etag_list_end(&all, list->more, list->etag);
	return OK;
}

/* All of the page is read before any of it is sent: no snapshot waits for a client. */
static enum err
read_list(struct list *list)
{
	struct db *db = NULL;
	enum err err;

	list->events = calloc((size_t)list->page.limit + 1, sizeof(*list->events));
	if (list->events == NULL)
		return fail(ERR_BUSY, "no memory for a list");
	if ((err = events_read(&db)) == OK &&
	    (err = ledger_list(
		 db, &list->filter, &list->page, list->events, &list->count, &list->more)) == OK)
		err = list_etag(db, list);
	events_read_end(db);
	return err;
}

static enum err
send_list(const struct list *list, struct response *res)
{
	char filters[PAGE_FILTERS_MAX];
	struct jsonw w;
	enum err err;

	if ((err = etag_begin(res, "application/json", list->etag)) != OK)
		return err;
	filter_text(&list->filter, filters);
	if (list->more &&
	    (err = page_link(
		 res, "/events", filters, &list->page, list->events[list->count - 1].id)) != OK)
		return err;
	jsonw_open(&w, response_write, res);
	jsonw_array_begin(&w, NULL);
	for (size_t i = 0; i < list->count; i++)
		put_event(&w, &list->events[i]);
	jsonw_array_end(&w);
	return jsonw_close(&w);
}

static enum err
events_list(struct request *req, struct response *res)
{
	struct list list = { 0 };
	enum err err;

	page_read(req, &list.page);
	read_filter(req, &list.filter);
	scope_begin(&list.scope, SCOPE_EVENTS_READ, &req->who_bytes);
	list.filter.scope = &list.scope;
	if ((err = err_pending()) == OK && (err = read_list(&list)) == OK &&
	    !etag_unchanged(req, res, list.etag))
		err = send_list(&list, res);
	free(list.events);
	return err;
}

/* --- The program. */

static enum err
events_health(struct request *req, struct response *res)
{
	char version[LEDGER_VERSION_SIZE];
	struct db *db = NULL;
	enum err err;

	(void)req;
	if ((err = commit_health(events.commit)) == OK && (err = events_read(&db)) == OK)
		err = ledger_version(db, version);
	events_read_end(db);
	return health_answer(res, err);
}

static enum err
events_open(const struct conf *conf)
{
	enum err err;

	events.window_us = conf->events.entry_window_hours * 3600 * CLOCK_SECOND_US;
	if ((err = commit_open(LEDGER_FILE, &ledger_schema, &events.commit)) != OK)
		return err;
	return db_readers_open(LEDGER_FILE, &ledger_schema, &events.readers);
}

static void
events_close(void)
{
	db_readers_close(events.readers);
	commit_close(events.commit);
}

#define ROLES_CREATE (ROLE_CAREGIVER | ROLE_MANAGER | ROLE_ADMIN)

static const struct route routes[] = {
	{ METHOD_GET, "/events/types", ROLES_ALL, types_list, NULL },
	{ METHOD_POST, "/events/types", ROLE_ADMIN, type_create, NULL },
	{ METHOD_GET, "/events/types/{id}", ROLES_ALL, type_get, NULL },
	{ METHOD_PUT, "/events/types/{id}", ROLE_ADMIN, type_change, NULL },
	{ METHOD_DELETE, "/events/types/{id}", ROLE_ADMIN, type_delete, NULL },
	{ METHOD_GET, "/events/types/{id}/prices", ROLES_ALL, prices_list, NULL },
	{ METHOD_GET, "/events", ROLES_ALL, events_list, NULL },
	{ METHOD_POST, "/events", ROLES_CREATE, event_create, NULL },
	{ METHOD_GET, "/events/{id}", ROLES_ALL, event_get, NULL },
	{ METHOD_DELETE, "/events/{id}", ROLE_CAREGIVER | ROLE_ADMIN, event_delete, NULL },
	{ METHOD_POST, "/events/{id}/reimburse", ROLE_ACCOUNTANT, event_reimburse, NULL },
	{ METHOD_GET, "/healthz/events", ROLES_ANYONE, events_health, NULL },
	{ METHOD_GET, "/metrics/events", ROLE_ADMIN, scrape_answer, SCRAPE_PRODUCES },
	{ 0 },
};

const struct program program = { "events", routes, events_open, events_close, NULL,
	.needs = { .places = { { "db", CONFINE_WRITE } } } };
