/*
 * answer: the answer to a change, made while the change is, kept with it, and sent once it is
 * committed.
 *
 * It lives in memory because it must not be sent before the commit, and because the same answer is
 * given again to whoever repeats the request with the same Idempotency-Key: it is stored in the
 * transaction of the change (table answers).  A retry may come after a crash or a restart, within
 * ANSWER_KEPT_US.  A key is its holder's own: another name's is another key, so nobody is given the
 * answer to what somebody else asked for, nor told that their key was used.
 *
 *	answer_open(req, &a)            takes the key
 *	answer_digest(&a, body, n)
 *	answer_commit(&a, commit, make, arg)
 *	answer_send(&a, res)
 *	answer_close(&a)
 *
 * MAKE runs in the writer's transaction, unless the request was answered before: it makes the
 * change and, by answer_begin() and answer_write(), the answer.  Made for one request, used by its
 * thread and, meanwhile, by the writer's.
 */
#ifndef CAREDESK_ANSWER_H
#define CAREDESK_ANSWER_H

#include "lib/buffer.h"
#include "lib/commit.h"
#include "lib/digest.h"
#include "lib/jsonr.h"
#include "lib/request.h"
#include "lib/response.h"

#define ANSWER_KEPT_US (24 * 3600 * INT64_C(1000000))
#define ANSWER_KEY_MAX 128
#define ANSWER_BODY_MAX (256 * 1024)
#define ANSWER_FIELD_MAX 96

struct answer {
	char key[ANSWER_KEY_MAX + 1]; /* what it is kept under; "" if the client gave none */
	unsigned char digest[DIGEST_BYTES];
	struct digest digesting;
	bool alone; /* to be set before answer_commit(): the change takes long (commit.h) */
	int status;
	char location[ANSWER_FIELD_MAX], etag[ANSWER_FIELD_MAX]; /* "" for none */
	struct buffer body;
};

/* Takes the Idempotency-Key of a POST: ERR_INPUT if it is no 1..128 printable ASCII characters. The
 * request's method, path and kind of body are in the digest, its body is added by answer_digest(),
 * all at once or piece by piece. */
enum err answer_open(const struct request *req, struct answer *a) MUST_CHECK;
void answer_digest(struct answer *a, const void *bytes, size_t n);

/* A body that is JSON, of at most MAX bytes, also added to the digest. */
enum err answer_json(
    struct request *req, struct answer *a, size_t max, struct jsonr *body) MUST_CHECK;

/* Frees what it holds; safe after a failed open. */
void answer_close(struct answer *a);

/* Forgets what was begun before (a change may run again). */
void answer_begin(struct answer *a, int status);

/* A jsonw_sink. */
enum err answer_write(void *a, const char *bytes, size_t n) MUST_CHECK;

/* Makes the change, or finds that it was made before; either way the answer is in A. ERR_KEY_REUSED
 * if the key came with another request; else what MAKE returns, or commit_run(). */
enum err answer_commit(
    struct answer *a, struct commit *commit, commit_fn make, void *arg) MUST_CHECK;

/* The whole response: status, Location, ETag, JSON body, or none. */
enum err answer_send(struct answer *a, struct response *res) MUST_CHECK;

#endif
