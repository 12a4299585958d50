#include "lib/account.h"

#include <stdio.h>
#include <string.h>

#include "lib/digest.h"
#include "lib/email.h"
#include "sql.h"

#define APPLICATION_ID 0x63646163 /* "cdac" */

const struct db_schema account_schema = { "accounts", APPLICATION_ID, sql_accounts_schema, false,
	NULL };

const char *const account_names[ACCOUNT_FIELDS] = { "name", "email", "address" };

void
account_digest(const char *s, size_t n, unsigned char out[ACCOUNT_DIGEST_BYTES])
{
	unsigned char bytes[DIGEST_BYTES];

	digest_of(s, n, bytes);
	memcpy(out, bytes, ACCOUNT_DIGEST_BYTES);
}

/* The digests of the texts, which must stay until the query is done. */
struct digests {
	unsigned char bytes[ACCOUNT_FIELDS][ACCOUNT_DIGEST_BYTES];
};

static void
bind_texts(struct db_query *q, const struct account *account, struct digests *digests)
{
	const struct account_text *texts = account->texts;

	for (int i = 0; i < ACCOUNT_FIELDS; i++)
		db_bind_text(q, texts[i].s, texts[i].n);
	for (int i = 0; i < ACCOUNT_FIELDS; i++) {
		account_digest(texts[i].s, texts[i].n, digests->bytes[i]);
		db_bind_bytes(q, digests->bytes[i], ACCOUNT_DIGEST_BYTES);
	}
}

/* Without the address: it is somebody's. */
static enum err
email_taken(void)
{
	return fail(ERR_CONFLICT, "there is an account with this email already");
}

enum err
account_add(struct db *db, int64_t now_us, struct account *account)
{
	struct digests digests;
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_accounts_account_insert);
	bind_texts(&q, account, &digests);
	db_bind_int(&q, now_us);
	if ((err = db_next(&q, &found)) == OK && !found)
		err = email_taken();
	if (err == OK)
		account->id = db_int(&q, 0);
	db_done(&q);
	account->version = 1;
	account->created_at_us = account->updated_at_us = now_us;
	return err;
}

static enum err
not_found(int64_t id)
{
	return fail(ERR_NOT_FOUND, "there is no account %lld", (long long)id);
}

static void
take_key(const struct db_query *q, int i, char key[BLOB_KEY_SIZE])
{
	size_t n;

	(void)snprintf(key, BLOB_KEY_SIZE, "%s", db_text(q, i, &n));
}

enum err
account_find(struct db *db, int64_t id, struct account *account)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_accounts_account_find);
	db_bind_int(&q, id);
	if ((err = db_next(&q, &found)) == OK && found) {
		account->id = id;
		account->version = db_int(&q, 0);
		account->created_at_us = db_int(&q, 1);
		account->updated_at_us = db_int(&q, 2);
		take_key(&q, 3, account->image_key);
	} else if (err == OK) {
		err = not_found(id);
	}
	db_done(&q);
	return err;
}

/* ERR_CONFLICT if another account has the mail address. */
static enum err
check_email(struct db *db, const struct account *account)
{
	const struct account_text *email = &account->texts[ACCOUNT_EMAIL];
	unsigned char digest[ACCOUNT_DIGEST_BYTES];
	struct db_query q;
	bool found;
	enum err err;

	account_digest(email->s, email->n, digest);
	db_query(&q, db, &sql_accounts_account_by_email);
	db_bind_bytes(&q, digest, sizeof(digest));
	if ((err = db_next(&q, &found)) == OK && found && db_int(&q, 0) != account->id)
		err = email_taken();
	db_done(&q);
	return err;
}

enum err
account_change(struct db *db, int64_t now_us, struct account *account)
{
	struct digests digests;
	struct db_query q;
	enum err err = check_email(db, account);

	if (err != OK)
		return err;
	db_query(&q, db, &sql_accounts_account_update);
	bind_texts(&q, account, &digests);
	db_bind_int(&q, now_us);
	db_bind_int(&q, account->id);
	account->version++;
	account->updated_at_us = now_us;
	return db_run(&q);
}

enum err
account_delete(struct db *db, int64_t id)
{
	struct db_query q;

	db_query(&q, db, &sql_accounts_account_delete);
	db_bind_int(&q, id);
	return db_run(&q);
}

static enum err
keeps_image(void *db, const char *key, bool *kept)
{
	int64_t id;
	enum err err = account_of_image(db, key, &id);

	*kept = id != 0;
	return err;
}

static enum err
claim(struct db *db, struct blob *images, bool *is_owner)
{
	struct db_query q;
	const char *id;
	bool found;
	size_t n;
	enum err err;

	db_query(&q, db, &sql_accounts_origin_get);
	if ((err = db_next(&q, &found)) == OK) {
		id = db_text(&q, 0, &n);
		err = found && n == BLOB_OWNER_BYTES
		    ? blob_claim(images, (const unsigned char *)id, is_owner)
		    : fail(ERR_INTERNAL, "the database does not say which it is");
	}
	db_done(&q);
	return err;
}

enum err
account_sweep(struct db *db, struct blob *images, int64_t *removed)
{
	bool is_owner;
	enum err err = claim(db, images, &is_owner);

	*removed = 0;
	if (err == OK && !is_owner)
		return fail(ERR_CONFLICT,
		    "they are those of another " ACCOUNT_FILE " than this one; see operations.md");
	return err != OK ? err : blob_sweep(images, keeps_image, db, removed);
}

/* The next parameter: the mail address whose account alone may be seen, by its digest, or NULL.
 * Nobody's has that of "". */
static void
bind_scope(
    struct db_query *q, const struct scope *scope, unsigned char digest[ACCOUNT_DIGEST_BYTES])
{
	if (scope->all) {
		db_bind_null(q);
		return;
	}
	account_digest(scope->email, strlen(scope->email), digest);
	db_bind_bytes(q, digest, ACCOUNT_DIGEST_BYTES);
}

/* The columns of account_get and of every list. */
static void
take_account(const struct db_query *q, struct account *account)
{
	account->id = db_int(q, 0);
	account->version = db_int(q, 1);
	account->created_at_us = db_int(q, 2);
	account->updated_at_us = db_int(q, 3);
	for (int i = 0; i < ACCOUNT_FIELDS; i++)
		account->texts[i].s = db_text(q, 4 + i, &account->texts[i].n);
	take_key(q, 4 + ACCOUNT_FIELDS, account->image_key);
}

enum err
account_get(struct db *db, int64_t id, const struct scope *scope, account_fn each, void *ctx)
{
	unsigned char digest[ACCOUNT_DIGEST_BYTES];
	struct account account;
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_accounts_account_get);
	db_bind_int(&q, id);
	bind_scope(&q, scope, digest);
	if ((err = db_next(&q, &found)) == OK && found) {
		take_account(&q, &account);
		err = each(ctx, &account);
	} else if (err == OK) {
		err = not_found(id);
	}
	db_done(&q);
	return err;
}

/* The list to read, by the first of these that is searched by: the one that leaves the fewest. */
static const struct {
	enum account_field field;
	const struct db_sql *sql;
} lists[] = {
	{ ACCOUNT_EMAIL, &sql_accounts_accounts_list_by_email },
	{ ACCOUNT_ADDRESS, &sql_accounts_accounts_list_by_address },
	{ ACCOUNT_NAME, &sql_accounts_accounts_list_by_name },
};

/* Who may see one account only has it looked for. */
static void
narrow_search(struct account_search *search)
{
	const struct scope *scope = search->scope;

	if (scope->all || search->by[ACCOUNT_EMAIL])
		return;
	search->by[ACCOUNT_EMAIL] = true;
	account_digest(scope->email, strlen(scope->email), search->digests[ACCOUNT_EMAIL]);
}

static void
begin_list(struct db_query *q, struct db *db, const struct account_search *search,
    const struct page *page, unsigned char digest[ACCOUNT_DIGEST_BYTES])
{
	const struct db_sql *sql = &sql_accounts_accounts_list;
	size_t i = 0;

	while (i < sizeof(lists) / sizeof(lists[0]) && !search->by[lists[i].field])
		i++;
	if (i < sizeof(lists) / sizeof(lists[0]))
		sql = lists[i].sql;
	db_query(q, db, sql);
	db_bind_int(q, page->after);
	db_bind_int(q, page->limit + 1);
	if (sql == &sql_accounts_accounts_list)
		return;
	for (int field = 0; field < ACCOUNT_FIELDS; field++)
		if (search->by[field])
			db_bind_bytes(q, search->digests[field], ACCOUNT_DIGEST_BYTES);
		else
			db_bind_null(q);
	bind_scope(q, search->scope, digest);
}

enum err
account_list(struct db *db, const struct account_search *search, const struct page *page,
    account_fn each, void *ctx, bool *more)
{
	struct account_search narrowed = *search;
	unsigned char digest[ACCOUNT_DIGEST_BYTES];
	struct account account;
	struct db_query q;
	size_t bytes = 0;
	int64_t count = 0;
	bool found;
	enum err err;

	*more = false;
	narrow_search(&narrowed);
	begin_list(&q, db, &narrowed, page, digest);
	while ((err = db_next(&q, &found)) == OK && found) {
		if (count++ == page->limit || bytes >= ACCOUNT_LIST_BYTES_MAX) {
			*more = true;
			break;
		}
		take_account(&q, &account);
		for (int i = 0; i < ACCOUNT_FIELDS; i++)
			bytes += account.texts[i].n;
		if ((err = each(ctx, &account)) != OK)
			break;
	}
	db_done(&q);
	return err;
}

static void
take_image(const struct db_query *q, struct account_image *image)
{
	const char *text;
	size_t n;

	memset(image, 0, sizeof(*image)); /* one without a digest is not what it should be */
	image->id = db_int(q, 0);
	take_key(q, 1, image->key);
	text = db_text(q, 2, &n);
	if (n == sizeof(image->digest))
		memcpy(image->digest, text, n);
}

enum err
account_images(
    struct db *db, enum err (*each)(void *ctx, const struct account_image *image), void *ctx)
{
	struct account_image image;
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_accounts_images_list);
	while ((err = db_next(&q, &found)) == OK && found) {
		take_image(&q, &image);
		if ((err = each(ctx, &image)) != OK)
			break;
	}
	db_done(&q);
	return err;
}

enum err
account_of_image(struct db *db, const char *image_key, int64_t *id)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_accounts_image_find);
	db_bind_text(&q, image_key, strlen(image_key));
	err = db_next(&q, &found);
	*id = err == OK && found ? db_int(&q, 0) : 0;
	db_done(&q);
	return err;
}

/* --- Whether all is right. */

static bool
email_is_folded(const char *s, size_t n)
{
	char folded[EMAIL_SIZE];
	size_t folded_n;

	return email_fold(s, n, folded, &folded_n) == OK && folded_n == n &&
	    memcmp(folded, s, n) == 0;
}

/* Whether the digest of text I of a row of accounts_check is its own. */
static bool
digest_is_right(const struct db_query *q, int i)
{
	unsigned char digest[ACCOUNT_DIGEST_BYTES];
	size_t n;
	const char *s = db_text(q, 1 + i, &n);

	account_digest(s, n, digest);
	s = db_text(q, 1 + ACCOUNT_FIELDS + i, &n);
	return n == sizeof(digest) && memcmp(s, digest, n) == 0;
}

static enum err
check_row(
    const struct db_query *q, enum err (*told)(void *ctx, int64_t id, const char *words), void *ctx)
{
	static const char *const words[ACCOUNT_FIELDS] = {
		"the digest of its name is another one's",
		"the digest of its email is another one's",
		"the digest of its address is another one's",
	};
	size_t n;
	const char *email = db_text(q, 1 + ACCOUNT_EMAIL, &n);
	enum err err = OK;

	if (!email_is_folded(email, n))
		err = told(ctx, db_int(q, 0), "its email is not folded");
	for (int i = 0; i < ACCOUNT_FIELDS && err == OK; i++)
		if (!digest_is_right(q, i))
			err = told(ctx, db_int(q, 0), words[i]);
	return err;
}

enum err
account_check(struct db *db, enum err (*told)(void *ctx, int64_t id, const char *words), void *ctx,
    int64_t *count)
{
	struct db_query q;
	bool found;
	enum err err;

	*count = 0;
	db_query(&q, db, &sql_accounts_accounts_check);
	while ((err = db_next(&q, &found)) == OK && found) {
		(*count)++;
		if ((err = check_row(&q, told, ctx)) != OK)
			break;
	}
	db_done(&q);
	return err;
}
