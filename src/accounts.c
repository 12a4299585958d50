/*
 * accounts: people's accounts, found by name, mail address and postal address.
 */
#include "accounts.h"

#include <stdio.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/clock.h"
#include "lib/email.h"
#include "lib/etag.h"
#include "lib/health.h"
#include "lib/jsonr.h"
#include "lib/jsonw.h"
#include "lib/page.h"
#include "lib/scrape.h"
#include "lib/serve.h"
#include "lib/text.h"

#define QUERY_US (10 * INT64_C(1000000)) /* the longest that a list may take */

/* Three texts of the longest kind: each character escaped as two code units ("\ud83d\ude00"), 12
 * bytes.  The rest is for names, space, and members that are ignored. */
#define BODY_MAX (ACCOUNT_FIELDS * ACCOUNT_TEXT_MAX * 12 + 16 * 1024)

#define ETAG_FORM 8 /* characters, of 6 bits */

struct accounts accounts;

/* --- One account, and how it is shown. */

/* When links end that are given now: the same for a while, so that they are cached. */
static int64_t
link_expiry(void)
{
	int64_t now_s = clock_now_us() / CLOCK_SECOND_US;

	return (now_s / accounts.link_s + 2) * accounts.link_s;
}

/* What is shown of an account: itself, and its image's link, "" where it has none. */
struct shown {
	const struct account *account;
	char link[LINK_SIZE];
};

static void
shown_begin(struct shown *shown, const struct account *account, int64_t expires_s)
{
	char path[LINK_PATH_MAX];

	shown->account = account;
	shown->link[0] = '\0';
	if (account->image_key[0] == '\0')
		return;
	(void)snprintf(path, sizeof(path), "/images/%s", account->image_key);
	link_sign(&accounts.secret, path, expires_s, shown->link);
}

static void
put_image_link(struct jsonw *w, const struct shown *shown)
{
	char url[LINK_SIZE + CONF_PUBLIC_URL_MAX];

	if (shown->link[0] == '\0') {
		jsonw_null(w, "image_hosted_url");
		return;
	}
	(void)snprintf(url, sizeof(url), "%s%s", accounts.base_url, shown->link);
	jsonw_string(w, "image_hosted_url", url);
}

static void
put_account(struct jsonw *w, const struct shown *shown)
{
	const struct account *account = shown->account;

	jsonw_object_begin(w, NULL);
	jsonw_int(w, "id", account->id);
	for (int i = 0; i < ACCOUNT_FIELDS; i++)
		jsonw_string_n(w, account_names[i], account->texts[i].s, account->texts[i].n);
	put_image_link(w, shown);
	jsonw_time(w, "created_at", account->created_at_us);
	jsonw_time(w, "updated_at", account->updated_at_us);
	jsonw_object_end(w);
}

/* With the time, since a database that is restored counts from an older version on.  The link is a
 * form of it (etag.h): told by the end of its signature, which all of the link bears on. */
static void
account_etag(const struct account *account, const char *link, char etag[ETAG_MAX])
{
	size_t n = strlen(link);
	const char *form = n > ETAG_FORM ? link + n - ETAG_FORM : "";

	(void)snprintf(etag, ETAG_MAX, "\"%lld-%lld-%lld%s%s\"", (long long)account->id,
	    (long long)account->version, (long long)account->updated_at_us,
	    form[0] != '\0' ? "." : "", form);
}

/* --- Changes. */

struct edit {
	struct request *req;
	struct account account; /* its texts are lent by the body, and by EMAIL */
	struct jsonr body;
	char email[EMAIL_SIZE];
	struct answer answer;
};

static enum err
edit_open(struct request *req, struct edit *edit)
{
	edit->req = req;
	edit->body.root = NULL;
	memset(&edit->account, 0, sizeof(edit->account));
	return answer_open(req, &edit->answer);
}

static void
edit_close(struct edit *edit)
{
	jsonr_close(&edit->body);
	answer_close(&edit->answer);
}

enum err
accounts_answer(struct answer *a, int status, const struct account *account)
{
	struct shown shown;
	struct jsonw w;

	shown_begin(&shown, account, link_expiry());
	answer_begin(a, status);
	if (status == 201)
		(void)snprintf(
		    a->location, sizeof(a->location), "/accounts/%lld", (long long)account->id);
	account_etag(account, shown.link, a->etag);
	jsonw_open(&w, answer_write, a);
	put_account(&w, &shown);
	return jsonw_close(&w);
}

static enum err
make_create(struct db *db, void *arg)
{
	struct edit *edit = arg;
	const struct audit_actor actor = audit_actor_of(edit->req);
	enum err err = account_add(db, actor.now_us, &edit->account);

	if (err == OK)
		err = audit_add(db, &actor, AUDIT_ACCOUNT_CREATED, edit->account.id, NULL);
	return err != OK ? err : accounts_answer(&edit->answer, 201, &edit->account);
}

enum err
accounts_find(struct db *db, const struct request *req, int64_t id, struct account *account)
{
	char etag[ETAG_MAX];
	enum err err = account_find(db, id, account);

	if (err != OK)
		return err;
	account_etag(account, "", etag);
	return etag_check(req, etag);
}

static enum err
find_account(struct db *db, struct edit *edit)
{
	return accounts_find(db, edit->req, edit->account.id, &edit->account);
}

static enum err
make_change(struct db *db, void *arg)
{
	struct edit *edit = arg;
	const struct audit_actor actor = audit_actor_of(edit->req);
	enum err err = find_account(db, edit);

	if (err == OK && (err = account_change(db, actor.now_us, &edit->account)) == OK)
		err = audit_add(db, &actor, AUDIT_ACCOUNT_CHANGED, edit->account.id, NULL);
	return err != OK ? err : accounts_answer(&edit->answer, 200, &edit->account);
}

static enum err
make_delete(struct db *db, void *arg)
{
	struct edit *edit = arg;
	const struct audit_actor actor = audit_actor_of(edit->req);
	enum err err = find_account(db, edit);

	if (err == OK && (err = account_delete(db, edit->account.id)) == OK)
		err = audit_add(db, &actor, AUDIT_ACCOUNT_DELETED, edit->account.id, NULL);
	answer_begin(&edit->answer, 204);
	return err;
}

static enum err
read_account(struct edit *edit)
{
	struct account_text *texts = edit->account.texts, *email = &texts[ACCOUNT_EMAIL];
	enum err err = answer_json(edit->req, &edit->answer, BODY_MAX, &edit->body);

	if (err != OK)
		return err;
	for (int i = 0; i < ACCOUNT_FIELDS; i++)
		jsonr_string(
		    &edit->body, account_names[i], 0, ACCOUNT_TEXT_MAX, &texts[i].s, &texts[i].n);
	if (email->s != NULL && email_fold(email->s, email->n, edit->email, &email->n) != OK)
		(void)fail_field("#/email", "%s", err_words());
	email->s = edit->email;
	return err_pending();
}

static enum err
commit_edit(struct edit *edit, struct response *res, commit_fn make)
{
	enum err err = answer_commit(&edit->answer, accounts.commit, make, edit);

	return err != OK ? err : answer_send(&edit->answer, res);
}

static enum err
account_create(struct request *req, struct response *res)
{
	struct edit edit;
	enum err err = edit_open(req, &edit);

	if (err == OK && (err = read_account(&edit)) == OK)
		err = commit_edit(&edit, res, make_create);
	edit_close(&edit);
	return err;
}

static enum err
account_replace(struct request *req, struct response *res)
{
	struct edit edit;
	enum err err = edit_open(req, &edit);

	if (err == OK && (err = request_id(req, "id", &edit.account.id)) == OK &&
	    (err = read_account(&edit)) == OK)
		err = commit_edit(&edit, res, make_change);
	edit_close(&edit);
	return err;
}

static enum err
account_remove(struct request *req, struct response *res)
{
	struct edit edit;
	enum err err = edit_open(req, &edit);

	if (err == OK && (err = request_id(req, "id", &edit.account.id)) == OK &&
	    (err = answer_commit(&edit.answer, accounts.commit, make_delete, &edit)) == OK) {
		images_remove(edit.account.image_key);
		err = answer_send(&edit.answer, res);
	}
	edit_close(&edit);
	return err;
}

/* --- Reading.  All is read before any of it is sent: no snapshot waits for a client. */

struct view {
	struct buffer body;
	struct jsonw w;
	int64_t ids[PAGE_LIMIT_MAX]; /* of those that are shown, for the audit */
	size_t count;
	int64_t expires_s; /* of the links */
	char etag[ETAG_MAX]; /* of the last account */
	struct etag_list all;
};

static void
view_open(struct view *view)
{
	view->body = (struct buffer){ 0 };
	view->count = 0;
	view->expires_s = link_expiry();
	jsonw_open(&view->w, buffer_write, &view->body);
	etag_list_begin(&view->all);
}

/* An account_fn. */
static enum err
view_add(void *ctx, const struct account *account)
{
	struct view *view = ctx;
	struct shown shown;

	shown_begin(&shown, account, view->expires_s);
	put_account(&view->w, &shown);
	view->ids[view->count++] = account->id;
	account_etag(account, shown.link, view->etag);
	etag_list_add(&view->all, view->etag);
	return view->w.err;
}

static enum err
account_show(struct request *req, struct response *res)
{
	struct scope scope;
	struct db *db = NULL;
	struct view view;
	int64_t id;
	enum err err;

	view_open(&view);
	scope_begin(&scope, SCOPE_ACCOUNTS_READ, &req->who_bytes);
	if ((err = request_id(req, "id", &id)) == OK &&
	    (err = db_borrow_until(accounts.readers, clock_monotonic_us() + QUERY_US, &db)) == OK)
		err = account_get(db, id, &scope, view_add, &view);
	db_return(accounts.readers, db);
	if (err == OK && (err = jsonw_close(&view.w)) == OK &&
	    (err = etag_check(req, view.etag)) == OK &&
	    (err = audit_read(accounts.commit, req, AUDIT_ACCOUNT_READ, id)) == OK &&
	    !etag_unchanged(req, res, view.etag) &&
	    (err = etag_begin(res, "application/json", view.etag)) == OK)
		err = response_write(res, view.body.bytes, view.body.n);
	buffer_free(&view.body);
	return err;
}

#define DIGEST_HEX (2 * ACCOUNT_DIGEST_BYTES)

/* The digest that a Link has given in place of a text. */
static bool
read_digest(const struct request *req, const char *name, unsigned char *digest)
{
	struct request_text hex;
	bool found;

	hex = request_param(req, name, &found);
	if (!found)
		return false;
	if (hex.n != DIGEST_HEX || !text_hex(hex.s, ACCOUNT_DIGEST_BYTES, digest))
		(void)fail_field(name, "must be one that a Link header gave");
	return true;
}

/* A mail address that is none is looked for as it is, and belongs to nobody. */
static void
read_search(const struct request *req, struct account_search *search)
{
	char email[EMAIL_SIZE], name[32];
	struct request_text text;
	bool found;

	for (int i = 0; i < ACCOUNT_FIELDS; i++) {
		(void)snprintf(name, sizeof(name), "%s_digest", account_names[i]);
		search->by[i] = read_digest(req, name, search->digests[i]);
		text = request_param(req, account_names[i], &found);
		if (!found)
			continue;
		if (search->by[i])
			(void)fail_field(account_names[i], "is not taken together with %s", name);
		if (i == ACCOUNT_EMAIL && email_fold(text.s, text.n, email, &text.n) == OK)
			text.s = email;
		account_digest(text.s, text.n, search->digests[i]);
		search->by[i] = true;
	}
}

/* The search as a query again, for the next page, without what was looked for. */
static void
search_text(const struct account_search *search, char out[PAGE_FILTERS_MAX])
{
	char hex[DIGEST_HEX + 1];
	size_t n = 0;

	out[0] = '\0';
	for (int i = 0; i < ACCOUNT_FIELDS; i++)
		if (search->by[i]) {
			text_to_hex(search->digests[i], ACCOUNT_DIGEST_BYTES, hex);
			n += (size_t)snprintf(out + n, PAGE_FILTERS_MAX - n, "%s%s_digest=%s",
			    n > 0 ? "&" : "", account_names[i], hex);
		}
}

struct list {
	struct scope scope;
	struct account_search search;
	struct page page;
	struct view view;
	bool more;
};

static enum err
read_list(struct list *list)
{
	struct view *view = &list->view;
	struct db *db = NULL;
	enum err err;

	jsonw_array_begin(&view->w, NULL);
	if ((err = db_borrow_until(accounts.readers, clock_monotonic_us() + QUERY_US, &db)) == OK)
		err = account_list(db, &list->search, &list->page, view_add, view, &list->more);
	db_return(accounts.readers, db);
	jsonw_array_end(&view->w);
	etag_list_end(&view->all, list->more, view->etag);
	return err != OK ? err : jsonw_close(&view->w);
}

static enum err
send_list(const struct list *list, struct response *res)
{
	char filters[PAGE_FILTERS_MAX];
	enum err err;

	if ((err = etag_begin(res, "application/json", list->view.etag)) != OK)
		return err;
	search_text(&list->search, filters);
	if (list->more &&
	    (err = page_link(res, "/accounts", filters, &list->page,
		 list->view.ids[list->view.count - 1])) != OK)
		return err;
	return response_write(res, list->view.body.bytes, list->view.body.n);
}

static enum err
accounts_list(struct request *req, struct response *res)
{
	struct list list;
	struct view *view = &list.view;
	enum err err;

	view_open(view);
	page_read(req, &list.page);
	read_search(req, &list.search);
	scope_begin(&list.scope, SCOPE_ACCOUNTS_READ, &req->who_bytes);
	list.search.scope = &list.scope;
	if ((err = err_pending()) == OK && (err = read_list(&list)) == OK &&
	    (err = audit_read_list(
		 accounts.commit, req, AUDIT_ACCOUNTS_LISTED, view->ids, view->count)) == OK &&
	    !etag_unchanged(req, res, view->etag))
		err = send_list(&list, res);
	buffer_free(&view->body);
	return err;
}

/* --- The program. */

static enum err
pass_over(void *ctx, const struct account *account)
{
	(void)ctx;
	(void)account;
	return OK;
}

static enum err
accounts_health(struct request *req, struct response *res)
{
	const struct account_search all = { .scope = &scope_all };
	const struct page first = { .limit = 1 };
	struct db *db = NULL;
	bool more;
	enum err err;

	(void)req;
	if ((err = commit_health(accounts.commit)) == OK &&
	    (err = db_borrow_until(accounts.readers, clock_monotonic_us() + QUERY_US, &db)) == OK)
		err = account_list(db, &all, &first, pass_over, NULL, &more);
	db_return(accounts.readers, db);
	return health_answer(res, err);
}

static enum err
accounts_open(const struct conf *conf)
{
	enum err err;

	accounts.base_url = conf->public_url;
	accounts.link_s = conf->images.link_s;
	if ((err = link_secret_read(&accounts.secret)) != OK ||
	    (err = blob_open(ACCOUNT_BLOBS, &accounts.blobs)) != OK ||
	    (err = commit_open(ACCOUNT_FILE, &account_schema, &accounts.commit)) != OK ||
	    (err = db_readers_open(ACCOUNT_FILE, &account_schema, &accounts.readers)) != OK)
		return err;
	return images_open();
}

static void
accounts_close(void)
{
	images_close();
	db_readers_close(accounts.readers);
	commit_close(accounts.commit);
	blob_close(accounts.blobs);
}

#define ROLES_READ (ROLE_CAREGIVER | ROLE_MANAGER | ROLE_ADMIN)
#define ROLES_WRITE (ROLE_MANAGER | ROLE_ADMIN)

static const struct route routes[] = {
	{ METHOD_GET, "/accounts", ROLES_READ, accounts_list, NULL },
	{ METHOD_POST, "/accounts", ROLES_WRITE, account_create, NULL },
	{ METHOD_GET, "/accounts/{id}", ROLES_READ, account_show, NULL },
	{ METHOD_PUT, "/accounts/{id}", ROLES_WRITE, account_replace, NULL },
	{ METHOD_DELETE, "/accounts/{id}", ROLES_WRITE, account_remove, NULL },
	{ METHOD_POST, "/accounts/{id}/upload_image", ROLES_WRITE, account_upload, NULL },
	{ METHOD_POST, "/accounts/{id}/upload-image", ROLES_WRITE, account_upload, NULL },
	{ METHOD_POST, ROUTE_PRIVATE "accounts/{id}/export", ROLE_OPERATOR, account_export, NULL },
	{ METHOD_POST, ROUTE_PRIVATE "accounts/{id}/erase", ROLE_OPERATOR, account_erase, NULL },
	{ METHOD_GET, "/healthz/accounts", ROLES_ANYONE, accounts_health, NULL },
	{ METHOD_GET, "/metrics/accounts", ROLE_ADMIN, scrape_answer, SCRAPE_PRODUCES },
	{ 0 },
};

/* The data folder is synced, which is to open it. */
const struct program program = { "accounts", routes, accounts_open, accounts_close, images_stop,
	images_prepare,
	.needs = { .places = { { ".", CONFINE_LIST }, { "db", CONFINE_WRITE },
		       { ACCOUNT_BLOBS, CONFINE_WRITE }, { LINK_SECRET_FILE, CONFINE_READ } } } };
