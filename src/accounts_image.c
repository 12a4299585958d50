/*
 * accounts_image: takes in a picture of a person: what is not the picture is left behind, and it is
 * on disk before the account points at it (see accounts.h).
 *
 * Pictures have threads of their own, of low priority: a large one takes seconds and much memory,
 * and nobody else is to wait for that.  Whoever has sent one waits, and not in a seat of the pool.
 */
#include "accounts.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/form.h"
#include "lib/image.h"
#include "lib/log.h"
#include "lib/pool.h"
#include "lib/text.h"
#include "sql.h"

#define THREADS 1
#define WAITING_MAX 64 /* pictures that wait for a thread */
#define NICENESS 10
#define STACK_BYTES (512 * 1024)
#define FORM_MAX (IMAGE_BYTES_MAX + 64 * 1024)
#define FOLDER "db" /* of the nameless file of a body: the user's own */

/* A picture that waits, on the stack of who has sent it. */
struct work {
	const struct form_part *part;
	enum image_kind kind;
	struct image clean;
	enum err err;
	struct err_state said;
	bool done;
	struct work *next;
};

static struct {
	pthread_mutex_t lock; /* of all that follows */
	pthread_cond_t changed; /* something waits, is done, or CLOSING */
	struct work *first, **last;
	int waiting;
	bool closing;
	pthread_t threads[THREADS];
	size_t thread_count;
} images = { .lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
	.last = &images.first };

/* --- The threads. */

static struct work *
next_work(void)
{
	struct work *work;

	(void)pthread_mutex_lock(&images.lock);
	while (images.first == NULL && !images.closing)
		(void)pthread_cond_wait(&images.changed, &images.lock);
	if ((work = images.first) != NULL) {
		images.first = work->next;
		if (images.first == NULL)
			images.last = &images.first;
	}
	(void)pthread_mutex_unlock(&images.lock);
	return work;
}

static void
finish(struct work *work)
{
	(void)pthread_mutex_lock(&images.lock);
	work->done = true;
	images.waiting--;
	(void)pthread_cond_broadcast(&images.changed);
	(void)pthread_mutex_unlock(&images.lock);
}

static enum err
keep_blob(void *ctx, const char *key, bool *kept)
{
	struct db_query q;
	enum err err;

	db_query(&q, ctx, &sql_accounts_image_find);
	db_bind_text(&q, key, strlen(key));
	err = db_next(&q, kept);
	db_done(&q);
	return err;
}

/* What a crash has left: pictures without an account, written before this program began. */
static void
sweep(int64_t before_us)
{
	struct db *db = NULL;
	int64_t removed = 0;
	enum err err = db_borrow(accounts.readers, &db);

	if (err == OK)
		err = blob_sweep(accounts.blobs, before_us, keep_blob, db, &removed);
	db_return(accounts.readers, db);
	if (err != OK)
		log_event(LOG_WARNING, "sweep", "images are not swept: %s", err_words());
	else if (removed > 0)
		log_event(LOG_INFO, "sweep", "%lld images without an account were removed",
		    (long long)removed);
}

static void *
look_at_images(void *is_first)
{
	struct work *work;

	(void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICENESS);
	if (is_first != NULL)
		sweep(clock_now_us());
	while ((work = next_work()) != NULL) {
		err_clear();
		work->err = image_clean((const unsigned char *)work->part->bytes, work->part->n,
		    work->kind, &work->clean);
		err_save(&work->said);
		finish(work);
	}
	return NULL;
}

enum err
images_open(void)
{
	pthread_attr_t attributes;
	bool all = true;

	(void)pthread_attr_init(&attributes);
	(void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
	for (size_t i = 0; i < THREADS && all; i++) {
		all = pthread_create(&images.threads[i], &attributes, look_at_images,
			  i == 0 ? &images : NULL) == 0;
		images.thread_count += all;
	}
	(void)pthread_attr_destroy(&attributes);
	return all ? OK : fail(ERR_INTERNAL, "there are no threads for images");
}

void
images_close(void)
{
	(void)pthread_mutex_lock(&images.lock);
	images.closing = true;
	(void)pthread_cond_broadcast(&images.changed);
	(void)pthread_mutex_unlock(&images.lock);
	for (size_t i = 0; i < images.thread_count; i++)
		(void)pthread_join(images.threads[i], NULL);
	images.thread_count = 0;
}

static enum err
clean(struct work *work)
{
	bool room;

	(void)pthread_mutex_lock(&images.lock);
	if ((room = images.waiting < WAITING_MAX)) {
		images.waiting++;
		*images.last = work;
		images.last = &work->next;
		(void)pthread_cond_broadcast(&images.changed);
	}
	(void)pthread_mutex_unlock(&images.lock);
	if (!room)
		return fail(ERR_BUSY, "too many images wait to be looked at");
	pool_wait_begin();
	(void)pthread_mutex_lock(&images.lock);
	while (!work->done)
		(void)pthread_cond_wait(&images.changed, &images.lock);
	(void)pthread_mutex_unlock(&images.lock);
	pool_wait_end();
	err_restore(&work->said);
	return work->err;
}

/* --- An upload. */

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
	struct work work;
	size_t kind;
	int64_t id;
	char key[BLOB_KEY_SIZE]; /* of the new blob; "" before it is there */
	char old_key[BLOB_KEY_SIZE]; /* of the one that it replaces, or "" */
	bool made; /* the account points at the new one */
};

/* What it says it is, by name and type; what it is, is seen when it is decoded. */
static enum err
read_kind(struct upload *u)
{
	const struct form_part *part = u->work.part;

	for (u->kind = 0; u->kind < KINDS; u->kind++)
		if (part->filename != NULL &&
		    text_ends_with(part->filename, kinds[u->kind].suffix) &&
		    strcmp(part->type, kinds[u->kind].type) == 0) {
			u->work.kind = kinds[u->kind].kind;
			return OK;
		}
	(void)fail_field(
	    "image", "must be a file .jpeg or .jpg of type image/jpeg, or .png of type image/png");
	return err_pending();
}

static enum err
read_image(struct upload *u)
{
	enum err err;

	if ((err = form_open(u->req, FORM_MAX, FOLDER, &u->form)) != OK ||
	    (err = form_part(u->form, "image", &u->work.part)) != OK || (err = read_kind(u)) != OK)
		return err;
	if (u->work.part->n > IMAGE_BYTES_MAX)
		return fail(ERR_TOO_LARGE, "an image has at most %d bytes", IMAGE_BYTES_MAX);
	answer_digest(&u->answer, u->work.part->bytes, u->work.part->n);
	if ((err = clean(&u->work)) == ERR_INPUT) {
		(void)fail_field("image", "%s", err_words());
		return err_pending();
	}
	return err;
}

static enum err
store_image(struct upload *u)
{
	enum err err;

	pool_wait_begin();
	err = blob_put(
	    accounts.blobs, u->work.clean.bytes, u->work.clean.n, kinds[u->kind].stored, u->key);
	pool_wait_end();
	return err;
}

static enum err
set_key(struct db *db, const struct upload *u, int64_t now_us)
{
	struct db_query q;

	db_query(&q, db, &sql_accounts_image_set);
	db_bind_text(&q, u->key, strlen(u->key));
	db_bind_int(&q, now_us);
	db_bind_int(&q, u->id);
	return db_run(&q);
}

static enum err
answer_it(void *ctx, const struct account *account)
{
	struct upload *u = ctx;

	return accounts_answer(&u->answer, 200, account, accounts_expiry());
}

static enum err
make_image(struct db *db, void *arg)
{
	struct upload *u = arg;
	struct account account;
	enum err err = accounts_find(db, u->req, u->id, &account);

	if (err != OK)
		return err;
	memcpy(u->old_key, account.image_key, sizeof(u->old_key));
	if ((err = set_key(db, u, clock_now_us())) != OK)
		return err;
	u->made = true;
	return account_get(db, u->id, answer_it, u);
}

/* Of two blobs one is not needed any more: the old one, or the new one of what was refused.  Where
 * a commit has failed, a crash may yet bring it back: then both stay, and the next start knows. */
static void
remove_other(const struct upload *u, enum err err)
{
	const char *other = err == OK && u->made ? u->old_key : u->key;

	if (err == ERR_BUSY || err == ERR_INTERNAL)
		return;
	if (other[0] != '\0' && blob_remove(accounts.blobs, other) != OK)
		log_event(
		    LOG_WARNING, "blob", "an image stays until the next start: %s", err_words());
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
	enum err err = answer_open(req, &u.answer);

	if (err == OK && (err = request_id(req, "id", &u.id)) == OK &&
	    (u.answer.key[0] != '\0' || (err = check_account(&u)) == OK) &&
	    (err = read_image(&u)) == OK && (err = store_image(&u)) == OK) {
		err = answer_commit(&u.answer, accounts.commit, make_image, &u);
		remove_other(&u, err);
		if (err == OK)
			err = answer_send(&u.answer, res);
	}
	free(u.work.clean.bytes);
	form_close(u.form);
	answer_close(&u.answer);
	return err;
}
