/*
 * accounts_upload: takes in a picture of a person.  What is not the picture is left behind, and it
 * is on disk before the account points at it (see accounts.h).
 */
#include "accounts.h"

#include <stdlib.h>
#include <string.h>

#include "lib/digest.h"
#include "lib/form.h"
#include "lib/pool.h"
#include "lib/text.h"
#include "sql.h"

#define FORM_MAX (IMAGE_BYTES_MAX + 64 * 1024)
#define UPLOAD_SEGMENT 2 /* of /accounts/ID/upload_image */

static const struct {
	const char *suffix, *type;
	enum image_kind kind;
	const char *stored;
} kinds[] = {
	{ ".jpeg", "image/jpeg", IMAGE_JPEG, ".jpg" },
	{ ".jpg", "image/jpeg", IMAGE_JPEG, ".jpg" },
	{ ".png", "image/png", IMAGE_PNG, ".png" },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

struct upload {
	struct request *req;
	struct answer answer;
	struct form *form;
	const struct form_part *part;
	struct image clean;
	size_t kind;
	int64_t id;
	unsigned char digest[DIGEST_BYTES]; /* of the clean image */
	char key[BLOB_KEY_SIZE]; /* of the new blob; "" before it is there */
	char old_key[BLOB_KEY_SIZE]; /* of the one that it replaces, or "" */
	bool made; /* the account points at the new one */
};

/* What it says it is, by name and type; what it is, is seen when it is decoded. */
static enum err
read_kind(struct upload *u)
{
	const struct form_part *part = u->part;

	for (u->kind = 0; u->kind < KINDS; u->kind++)
		if (part->filename != NULL &&
		    text_ends_with(part->filename, kinds[u->kind].suffix) &&
		    strcmp(part->type, kinds[u->kind].type) == 0)
			return OK;
	(void)fail_field(
	    "image", "must be a file .jpeg or .jpg of type image/jpeg, or .png of type image/png");
	return err_pending();
}

/* All that a retry must have in common with the first request. */
static void
digest_part(struct upload *u)
{
	answer_digest(&u->answer, u->part->filename, strlen(u->part->filename) + 1);
	answer_digest(&u->answer, u->part->type, strlen(u->part->type) + 1);
	answer_digest(&u->answer, u->part->bytes, u->part->n);
}

static enum err
read_image(struct upload *u)
{
	const unsigned char *bytes;
	uint64_t cost;
	enum err err;

	if ((err = form_open(u->req, FORM_MAX, FORM_FOLDER, &u->form)) != OK ||
	    (err = form_part(u->form, "image", &u->part)) != OK || (err = read_kind(u)) != OK)
		return err;
	if (u->part->n > IMAGE_BYTES_MAX)
		return fail(ERR_TOO_LARGE, "an image has at most %d bytes", IMAGE_BYTES_MAX);
	digest_part(u);
	bytes = (const unsigned char *)u->part->bytes;
	cost = image_work(bytes, u->part->n, kinds[u->kind].kind);
	form_rest(u->form);
	err = images_clean(bytes, u->part->n, kinds[u->kind].kind, cost, &u->clean);
	if (err != ERR_INPUT)
		return err;
	(void)fail_field("image", "%s", err_words());
	return err_pending();
}

static enum err
store_image(struct upload *u)
{
	enum err err;

	digest_of(u->clean.bytes, u->clean.n, u->digest);
	pool_wait_begin();
	err = blob_put(accounts.blobs, u->clean.bytes, u->clean.n, kinds[u->kind].stored, u->key);
	pool_wait_end();
	return err;
}

static enum err
set_image(struct db *db, const struct upload *u, int64_t now_us)
{
	struct db_query q;

	db_query(&q, db, &sql_accounts_image_set);
	db_bind_text(&q, u->key, strlen(u->key));
	db_bind_bytes(&q, u->digest, sizeof(u->digest));
	db_bind_int(&q, now_us);
	db_bind_int(&q, u->id);
	return db_run(&q);
}

static enum err
answer_it(void *ctx, const struct account *account)
{
	struct upload *u = ctx;

	return accounts_answer(&u->answer, 200, account);
}

static enum err
make_image(struct db *db, void *arg)
{
	struct upload *u = arg;
	const struct audit_actor actor = audit_actor_of(u->req);
	struct account account;
	enum err err = accounts_find(db, u->req, u->id, &account);

	if (err != OK)
		return err;
	memcpy(u->old_key, account.image_key, sizeof(u->old_key));
	if ((err = set_image(db, u, actor.now_us)) != OK ||
	    (err = audit_add(db, &actor, AUDIT_ACCOUNT_IMAGE_CHANGED, u->id, NULL)) != OK)
		return err;
	u->made = true;
	return account_get(db, u->id, &scope_all, answer_it, u);
}

/* Of two blobs one is not needed any more: the old one, or the new one of what was refused.  Where
 * a commit has failed, it is known only later which. */
static void
remove_other(const struct upload *u, enum err err)
{
	if (err == ERR_BUSY || err == ERR_INTERNAL)
		images_sweep_later();
	else
		images_remove(err == OK && u->made ? u->old_key : u->key);
}

static enum err
keep_image(struct upload *u)
{
	enum err err;

	pool_wait_begin();
	blob_begin(accounts.blobs);
	pool_wait_end();
	if ((err = store_image(u)) == OK)
		err = answer_commit(&u->answer, accounts.commit, make_image, u);
	blob_end(accounts.blobs);
	if (u->key[0] != '\0')
		remove_other(u, err);
	return err;
}

/* Whether there is such an account is known before much is done for it; but a retry has its answer
 * whatever has become of the account. */
static enum err
check_account(const struct upload *u)
{
	struct account account;
	struct db *db = NULL;
	enum err err = db_borrow(accounts.readers, &db);

	if (err == OK)
		err = accounts_find(db, u->req, u->id, &account);
	db_return(accounts.readers, db);
	return err;
}

enum err
account_upload(struct request *req, struct response *res)
{
	struct upload u = { .req = req };
	enum err err;

	/* It has two names, and by either it is the same request. */
	req->segments[UPLOAD_SEGMENT].s = "upload_image";
	if ((err = answer_open(req, &u.answer)) == OK &&
	    (err = request_id(req, "id", &u.id)) == OK &&
	    (u.answer.key[0] != '\0' || (err = check_account(&u)) == OK) &&
	    (err = read_image(&u)) == OK && (err = keep_image(&u)) == OK)
		err = answer_send(&u.answer, res);
	free(u.clean.bytes);
	form_close(u.form);
	answer_close(&u.answer);
	return err;
}
