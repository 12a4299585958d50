#include "lib/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/text.h"
#include "sql.h"

/* Each so many answers kept, the expired ones go, at most twice as many. */
#define EXPIRE_EVERY 64

/* What the answer is kept under.  Of a token's holder it is a digest: the names that tokens have
 * may be of any bytes, and do not belong into this table.  No token has one of the other two names.
 */
static void
key_set(struct answer *a, const struct request *req, const char *key)
{
	unsigned char own[DIGEST_BYTES];
	struct digest digest;

	if (key[0] == '\0' || strcmp(req->who, WHO_ANYONE) == 0 ||
	    strcmp(req->who, WHO_OPERATOR) == 0) {
		(void)snprintf(a->key, sizeof(a->key), "%s", key);
		return;
	}
	digest_begin(&digest);
	digest_add(&digest, req->who, strlen(req->who) + 1);
	digest_add(&digest, key, strlen(key));
	digest_end(&digest, own);
	text_to_hex(own, sizeof(own), a->key);
}

static enum err
key_check(const char *key)
{
	size_t n = strlen(key);

	if (n > ANSWER_KEY_MAX)
		return fail_field(
			   "Idempotency-Key", "must have at most %d characters", ANSWER_KEY_MAX),
		       err_pending();
	for (size_t i = 0; i < n; i++)
		if (key[i] < '!' || key[i] > '~')
			return fail_field(
				   "Idempotency-Key", "must be printable ASCII without spaces"),
			       err_pending();
	return OK;
}

enum err
answer_open(const struct request *req, struct answer *a)
{
	/* Other methods can be repeated as they are. */
	const char *key = req->method == METHOD_POST ? req->idempotency_key : "";
	const bool is_json = request_is(req, "application/json");
	enum err err = key_check(key);

	a->key[0] = '\0';
	a->status = 0;
	a->alone = false;
	a->location[0] = a->etag[0] = '\0';
	a->body = (struct buffer){ 0 };
	if (err != OK || key[0] == '\0')
		return err;
	key_set(a, req, key);
	digest_begin(&a->digesting);
	/* With their NULs and their number, so that no two requests run into one another. */
	digest_add(&a->digesting, &req->segment_count, sizeof(req->segment_count));
	digest_add(&a->digesting, req->method_name, strlen(req->method_name) + 1);
	digest_add(&a->digesting, &is_json, sizeof(is_json));
	for (size_t i = 0; i < req->segment_count; i++)
		digest_add(&a->digesting, req->segments[i].s, req->segments[i].n + 1);
	return OK;
}

void
answer_digest(struct answer *a, const void *bytes, size_t n)
{
	if (a->key[0] != '\0')
		digest_add(&a->digesting, bytes, n);
}

enum err
answer_json(struct request *req, struct answer *a, size_t max, struct jsonr *body)
{
	char *bytes;
	size_t n;
	enum err err;

	if (!request_is(req, "application/json"))
		return fail(ERR_MEDIA_TYPE, "the body must be application/json, unencoded");
	if ((err = request_body(req, max, &bytes, &n)) != OK)
		return err;
	answer_digest(a, bytes, n);
	err = jsonr_parse(bytes, n, body);
	free(bytes);
	return err;
}

void
answer_close(struct answer *a)
{
	buffer_free(&a->body);
}

void
answer_begin(struct answer *a, int status)
{
	a->status = status;
	a->location[0] = a->etag[0] = '\0';
	a->body.n = 0;
}

enum err
answer_write(void *answer, const char *bytes, size_t n)
{
	struct answer *a = answer;

	if (a->body.n + n > ANSWER_BODY_MAX)
		return fail(ERR_INTERNAL, "an answer is longer than %d bytes", ANSWER_BODY_MAX);
	return buffer_write(&a->body, bytes, n);
}

/* The fields and the body of an answer stored before. */
static enum err
take(struct answer *a, const struct db_query *q)
{
	const char *body, *location, *etag;
	size_t n, location_n, etag_n;

	location = db_text(q, 2, &location_n);
	etag = db_text(q, 3, &etag_n);
	body = db_text(q, 4, &n);
	if (location_n >= ANSWER_FIELD_MAX || etag_n >= ANSWER_FIELD_MAX)
		return fail(ERR_INTERNAL, "a stored answer is not as it was written");
	answer_begin(a, (int)db_int(q, 1));
	memcpy(a->location, location, location_n + 1);
	memcpy(a->etag, etag, etag_n + 1);
	return answer_write(a, body, n);
}

/* Of a key that came long ago: a new row, so that ids rise with time. */
static enum err
drop(const struct answer *a, struct db *db)
{
	struct db_query q;

	db_query(&q, db, &sql_shared_answer_drop);
	db_bind_text(&q, a->key, strlen(a->key));
	return db_run(&q);
}

/* *FOUND: the request was answered before, and the answer is in A. */
static enum err
recall(struct answer *a, struct db *db, int64_t now_us, bool *found)
{
	struct db_query q;
	struct digest digest;
	const char *stored;
	size_t n;
	bool expired;
	enum err err;

	*found = false;
	if (a->key[0] == '\0')
		return OK;
	digest = a->digesting; /* a change may run again */
	digest_end(&digest, a->digest);
	db_query(&q, db, &sql_shared_answer_find);
	db_bind_text(&q, a->key, strlen(a->key));
	err = db_next(&q, found);
	expired = err == OK && *found && db_int(&q, 5) < now_us - ANSWER_KEPT_US;
	if (expired) {
		*found = false;
	} else if (err == OK && *found) {
		stored = db_text(&q, 0, &n);
		if (n != DIGEST_BYTES || memcmp(stored, a->digest, n) != 0)
			err = fail(ERR_KEY_REUSED,
			    "this Idempotency-Key came with another request before");
		else
			err = take(a, &q);
	}
	db_done(&q);
	return expired ? drop(a, db) : err;
}

static enum err
expire(struct db *db, int64_t now_us)
{
	struct db_query q;

	db_query(&q, db, &sql_shared_answers_expire);
	db_bind_int(&q, now_us - ANSWER_KEPT_US);
	db_bind_int(&q, INT64_C(2) * EXPIRE_EVERY);
	return db_run(&q);
}

static enum err
keep(struct answer *a, struct db *db, int64_t now_us)
{
	struct db_query q;
	int64_t id = 0;
	bool found;
	enum err err;

	if (a->key[0] == '\0')
		return OK;
	db_query(&q, db, &sql_shared_answer_keep);
	db_bind_text(&q, a->key, strlen(a->key));
	db_bind_bytes(&q, a->digest, DIGEST_BYTES);
	db_bind_int(&q, now_us);
	db_bind_int(&q, a->status);
	db_bind_text(&q, a->location, strlen(a->location));
	db_bind_text(&q, a->etag, strlen(a->etag));
	db_bind_bytes(&q, a->body.bytes, a->body.n);
	if ((err = db_next(&q, &found)) == OK && found)
		id = db_int(&q, 0);
	db_done(&q);
	return err == OK && id % EXPIRE_EVERY == 0 ? expire(db, now_us) : err;
}

struct work {
	struct answer *answer;
	commit_fn make;
	void *arg;
};

static enum err
run(struct db *db, void *arg)
{
	const struct work *work = arg;
	int64_t now_us = clock_now_us();
	bool found;
	enum err err = recall(work->answer, db, now_us, &found);

	if (err != OK || found)
		return err;
	if ((err = work->make(db, work->arg)) != OK)
		return err;
	return keep(work->answer, db, now_us);
}

enum err
answer_commit(struct answer *a, struct commit *commit, commit_fn make, void *arg)
{
	struct work work = { a, make, arg };

	return a->alone ? commit_run_alone(commit, run, &work) : commit_run(commit, run, &work);
}

enum err
answer_send(struct answer *a, struct response *res)
{
	enum err err = OK;

	response_begin(res, a->status, a->body.n > 0 ? "application/json" : NULL);
	if (a->location[0] != '\0')
		err = response_field(res, "Location", a->location);
	if (err == OK && a->etag[0] != '\0')
		err = response_field(res, "ETag", a->etag);
	return err == OK && a->body.n > 0 ? response_write(res, a->body.bytes, a->body.n) : err;
}
