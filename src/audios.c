/*
 * audios: sessions of hearing tests, each known by a number of its client's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/answer.h"
#include "lib/audio.h"
#include "lib/audit.h"
#include "lib/clock.h"
#include "lib/commit.h"
#include "lib/etag.h"
#include "lib/form.h"
#include "lib/health.h"
#include "lib/page.h"
#include "lib/scrape.h"
#include "lib/serve.h"
#include "lib/text.h"

#define BODY_MAX (64 * 1024)
#define FORM_MAX (BODY_MAX + 16 * 1024)
#define QUERY_US (10 * CLOCK_SECOND_US) /* the longest that a list may take */

/* What the whole program shares. */
static struct {
	struct commit *commit;
	struct db_readers *readers;
} audios;

static enum err
borrow(struct db **db)
{
	return db_borrow_until(audios.readers, clock_monotonic_us() + QUERY_US, db);
}

/* Unlike other ids, it may be 0. */
static enum err
address_session(const struct request *req, int64_t *session_id)
{
	struct request_text text = request_capture(req, "session_id");

	if (text_uint(text.s, text.n, session_id))
		return OK;
	return fail(ERR_NOT_FOUND, "there is nothing at this address");
}

/* --- Changes. */

/* A change to one session. */
struct edit {
	struct request *req;
	struct audio audio; /* as it is to be */
	struct answer answer;
};

static enum err
answer_audio(struct edit *edit, int status)
{
	struct answer *a = &edit->answer;
	struct jsonw w;

	answer_begin(a, status);
	if (status == 201)
		(void)snprintf(a->location, sizeof(a->location), "/audios/%lld",
		    (long long)edit->audio.session_id);
	audio_etag(&edit->audio, a->etag);
	jsonw_open(&w, answer_write, a);
	audio_write(&w, &edit->audio);
	return jsonw_close(&w);
}

static enum err
make_create(struct db *db, void *arg)
{
	struct edit *edit = arg;
	const struct audit_actor actor = audit_actor_of(edit->req);
	enum err err = audio_add(db, actor.now_us, &edit->audio);

	if (err == OK)
		err = audit_add(db, &actor, AUDIT_SESSION_CREATED, edit->audio.session_id, NULL);
	return err != OK ? err : answer_audio(edit, 201);
}

/* The session as it is, if that is the one that the client means. */
static enum err
find_audio(struct db *db, const struct edit *edit, struct audio *old)
{
	char etag[ETAG_MAX];
	enum err err = audio_get(db, edit->audio.session_id, old);

	if (err != OK)
		return err;
	audio_etag(old, etag);
	return etag_check(edit->req, etag);
}

static enum err
make_replace(struct db *db, void *arg)
{
	struct edit *edit = arg;
	const struct audit_actor actor = audit_actor_of(edit->req);
	struct audio old;
	enum err err = find_audio(db, edit, &old);

	if (err == OK && (err = audio_replace(db, &old, actor.now_us, &edit->audio)) == OK)
		err = audit_add(db, &actor, AUDIT_SESSION_CHANGED, old.session_id, NULL);
	return err != OK ? err : answer_audio(edit, 200);
}

static enum err
make_delete(struct db *db, void *arg)
{
	struct edit *edit = arg;
	const struct audit_actor actor = audit_actor_of(edit->req);
	struct audio old;
	enum err err = find_audio(db, edit, &old);

	if (err == OK && (err = audio_delete(db, &old)) == OK)
		err = audit_add(db, &actor, AUDIT_SESSION_DELETED, old.session_id, NULL);
	answer_begin(&edit->answer, 204);
	return err;
}

/* A file .json in the field "audio", whatever type it is said to be. */
static enum err
read_file(struct edit *edit, const struct form *form)
{
	const struct form_part *part;
	struct jsonr body;
	enum err err = form_part(form, "audio", &part);

	if (err != OK)
		return err;
	if (part->filename == NULL || !text_ends_with(part->filename, ".json"))
		return fail_field("audio", "must be a file .json"), err_pending();
	if (part->n > BODY_MAX)
		return fail(ERR_TOO_LARGE, "a session has at most %d bytes", BODY_MAX);
	answer_digest(&edit->answer, part->bytes, part->n);
	if ((err = jsonr_parse(part->bytes, part->n, &body)) != OK)
		return err;
	audio_read(&body, &edit->audio);
	jsonr_close(&body);
	return err_pending();
}

static enum err
read_form(struct edit *edit)
{
	struct form *form = NULL;
	enum err err = form_open(edit->req, FORM_MAX, FORM_FOLDER, &form);

	if (err == OK)
		err = read_file(edit, form);
	form_close(form);
	return err;
}

static enum err
read_json(struct edit *edit)
{
	struct jsonr body;
	enum err err = answer_json(edit->req, &edit->answer, BODY_MAX, &body);

	if (err != OK)
		return err;
	audio_read(&body, &edit->audio);
	jsonr_close(&body);
	return err_pending();
}

/* Every kind of body that is taken becomes a session here. */
static enum err
read_body(struct edit *edit)
{
	return request_is(edit->req, "multipart/form-data") ? read_form(edit) : read_json(edit);
}

/* Runs MAKE in a shared commit and sends what it has answered. */
static enum err
commit_edit(struct edit *edit, struct response *res, commit_fn make)
{
	enum err err = answer_commit(&edit->answer, audios.commit, make, edit);

	return err != OK ? err : answer_send(&edit->answer, res);
}

static enum err
audio_create(struct request *req, struct response *res)
{
	struct edit edit = { .req = req, .audio.session_id = AUDIO_NONE };
	enum err err = answer_open(req, &edit.answer);

	if (err == OK && (err = read_body(&edit)) == OK)
		err = commit_edit(&edit, res, make_create);
	answer_close(&edit.answer);
	return err;
}

static enum err
audio_put(struct request *req, struct response *res)
{
	struct edit edit = { .req = req };
	enum err err = answer_open(req, &edit.answer);

	if (err == OK && (err = address_session(req, &edit.audio.session_id)) == OK &&
	    (err = read_body(&edit)) == OK)
		err = commit_edit(&edit, res, make_replace);
	answer_close(&edit.answer);
	return err;
}

static enum err
audio_remove(struct request *req, struct response *res)
{
	struct edit edit = { .req = req };
	enum err err = answer_open(req, &edit.answer);

	if (err == OK && (err = address_session(req, &edit.audio.session_id)) == OK)
		err = commit_edit(&edit, res, make_delete);
	answer_close(&edit.answer);
	return err;
}

/* --- One session. */

static enum err
audio_show(struct request *req, struct response *res)
{
	char etag[ETAG_MAX];
	struct audio audio;
	struct db *db = NULL;
	struct jsonw w;
	int64_t session_id;
	enum err err;

	if ((err = address_session(req, &session_id)) == OK && (err = borrow(&db)) == OK)
		err = audio_get(db, session_id, &audio);
	db_return(audios.readers, db);
	if (err != OK)
		return err;
	audio_etag(&audio, etag);
	if ((err = etag_check(req, etag)) != OK ||
	    (err = audit_read(audios.commit, req, AUDIT_SESSION_READ, session_id)) != OK ||
	    etag_unchanged(req, res, etag))
		return err;
	if ((err = etag_begin(res, "application/json", etag)) != OK)
		return err;
	jsonw_open(&w, response_write, res);
	audio_write(&w, &audio);
	return jsonw_close(&w);
}

/* --- The list. */

struct list {
	struct audio_filter filter;
	struct page page;
	char etag[ETAG_MAX];
	struct audio *audios;
	size_t count;
	bool more;
};

static const struct {
	const char *name;
	size_t offset; /* in struct audio_filter */
	int64_t max;
} filters[] = {
	{ "session_id", offsetof(struct audio_filter, session_id), INT64_MAX },
	{ "selected_tick", offsetof(struct audio_filter, selected_tick), AUDIO_TICKS - 1 },
	{ "step_count", offsetof(struct audio_filter, step_count), AUDIO_STEP_MAX },
};

#define FILTERS (sizeof(filters) / sizeof(filters[0]))

static void
read_filter(const struct request *req, struct audio_filter *filter)
{
	bool found;

	*filter = (struct audio_filter){ AUDIO_NONE, AUDIO_NONE, AUDIO_NONE };
	for (size_t i = 0; i < FILTERS; i++)
		request_param_int(req, filters[i].name, 0, filters[i].max,
		    (int64_t *)((char *)filter + filters[i].offset), &found);
}

/* The filter as a query again, for the next page. */
static void
filter_text(const struct audio_filter *filter, char out[PAGE_FILTERS_MAX])
{
	size_t n = 0;

	out[0] = '\0';
	for (size_t i = 0; i < FILTERS; i++) {
		int64_t value = *(const int64_t *)((const char *)filter + filters[i].offset);

		if (value != AUDIO_NONE)
			n += (size_t)snprintf(out + n, PAGE_FILTERS_MAX - n, "%s%s=%lld",
			    n > 0 ? "&" : "", filters[i].name, (long long)value);
	}
}

/* All of the page is read before any of it is sent: no snapshot waits for a client. */
static enum err
read_list(struct list *list)
{
	struct db *db = NULL;
	enum err err;

	list->audios = calloc((size_t)list->page.limit + 1, sizeof(*list->audios));
	if (list->audios == NULL)
		return fail(ERR_BUSY, "no memory for a list");
	if ((err = borrow(&db)) == OK)
		err = audio_list(
		    db, &list->filter, &list->page, list->audios, &list->count, &list->more);
	db_return(audios.readers, db);
	return err;
}

static void
list_etag(struct list *list)
{
	struct etag_list all;
	char one[ETAG_MAX];

	etag_list_begin(&all);
	for (size_t i = 0; i < list->count; i++) {
		audio_etag(&list->audios[i], one);
		etag_list_add(&all, one);
	}
	etag_list_end(&all, list->more, list->etag);
}

static enum err
send_list(const struct list *list, struct response *res)
{
	char query[PAGE_FILTERS_MAX];
	struct jsonw w;
	enum err err;

	if ((err = etag_begin(res, "application/json", list->etag)) != OK)
		return err;
	filter_text(&list->filter, query);
	if (list->more &&
	    (err = page_link(
		 res, "/audios", query, &list->page, list->audios[list->count - 1].id)) != OK)
		return err;
	jsonw_open(&w, response_write, res);
	jsonw_array_begin(&w, NULL);
	for (size_t i = 0; i < list->count; i++)
		audio_write(&w, &list->audios[i]);
	jsonw_array_end(&w);
	return jsonw_close(&w);
}

static enum err
record_list(const struct request *req, const struct list *list)
{
	int64_t ids[PAGE_LIMIT_MAX];

	for (size_t i = 0; i < list->count; i++)
		ids[i] = list->audios[i].session_id;
	return audit_read_list(audios.commit, req, AUDIT_SESSIONS_LISTED, ids, list->count);
}

static enum err
audios_list(struct request *req, struct response *res)
{
	struct list list = { 0 };
	enum err err;

	page_read(req, &list.page);
	read_filter(req, &list.filter);
	if ((err = err_pending()) == OK && (err = read_list(&list)) == OK &&
	    (err = record_list(req, &list)) == OK) {
		list_etag(&list);
		if (!etag_unchanged(req, res, list.etag))
			err = send_list(&list, res);
	}
	free(list.audios);
	return err;
}

/* --- The program. */

static enum err
audios_health(struct request *req, struct response *res)
{
	const struct audio_filter all = { AUDIO_NONE, AUDIO_NONE, AUDIO_NONE };
	const struct page first = { .limit = 1 };
	struct audio some[2];
	struct db *db = NULL;
	size_t count;
	bool more;
	enum err err;

	(void)req;
	if ((err = commit_health(audios.commit)) == OK && (err = borrow(&db)) == OK)
		err = audio_list(db, &all, &first, some, &count, &more);
	db_return(audios.readers, db);
	return health_answer(res, err);
}

static enum err
audios_open(const struct conf *conf)
{
	enum err err = commit_open(AUDIO_FILE, &audio_schema, &audios.commit);

	(void)conf;
	return err != OK ? err : db_readers_open(AUDIO_FILE, &audio_schema, &audios.readers);
}

static void
audios_close(void)
{
	db_readers_close(audios.readers);
	commit_close(audios.commit);
}

#define ROLES (ROLE_MANAGER | ROLE_ADMIN)

static const struct route routes[] = {
	{ METHOD_GET, "/audios", ROLES, audios_list, NULL },
	{ METHOD_POST, "/audios", ROLES, audio_create, NULL },
	{ METHOD_GET, "/audios/{session_id}", ROLES, audio_show, NULL },
	{ METHOD_PUT, "/audios/{session_id}", ROLES, audio_put, NULL },
	{ METHOD_DELETE, "/audios/{session_id}", ROLES, audio_remove, NULL },
	{ METHOD_GET, "/healthz/audios", ROLES_ANYONE, audios_health, NULL },
	{ METHOD_GET, "/metrics/audios", ROLE_ADMIN, scrape_answer, SCRAPE_PRODUCES },
	{ 0 },
};

const struct program program = { "audios", routes, audios_open, audios_close, NULL,
	.needs = { .places = { { "db", CONFINE_WRITE } } } };
