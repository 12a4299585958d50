/*
 * person: all that is stored of a person, and how nothing of it is left.
 *
 * It is the row of the account, its image, and the answers that are kept for retries and show the
 * account.  To erase it is more than to delete: the rows go in one transaction, then every image
 * that no account has, then the database is written anew and its log emptied (db_rewrite(),
 * db_empty_log()), so that no file below the data folder holds a byte of it.  If they have used
 * caredesk themselves, by a token that had their mail address for a name, that goes from the audit
 * of accounts, too.  What has been begun is remembered, without anything about the person (table
 * erasures): who calls again after a crash or a failure has the rest done.
 *
 * Other changes wait while the database is written anew.  Any thread.
 */
#ifndef CAREDESK_PERSON_H
#define CAREDESK_PERSON_H

#include <stdint.h>

#include "lib/blob.h"
#include "lib/commit.h"
#include "lib/db.h"
#include "lib/err.h"

#define PERSON_PATIENCE_US (15 * INT64_C(1000000)) /* with those who read an older state */

struct person_erased {
	int64_t accounts, images, answers; /* all 0 where only the rest was done */
};

/* The instant at which the account was made, also of one that was deleted and is still shown by
 * kept answers (0 where they do not tell); ERR_NOT_FOUND if there is nothing to be erased. */
enum err person_find(struct db *db, int64_t id, int64_t *created_at_us) MUST_CHECK;

/* Records that what is stored of the person is given out, before it is; ERR_NOT_FOUND as above. */
enum err person_exported(struct commit *commit, int64_t id) MUST_CHECK;

/* COMMIT is of the accounts, and each image is put as blob_sweep() wants it.  ERR_NOT_FOUND as
 * above; ERR_BUSY, with words for an operator, where something may be left: call again. */
enum err person_erase(
    struct commit *commit, struct blob *blobs, int64_t id, struct person_erased *erased) MUST_CHECK;

/* Erases from TO, such as an older backup, the *COUNT accounts that were erased from FROM, and
 * remembers that there, too.  In the transaction of TO; then db_rewrite() and db_empty_log() are
 * due, and the images are the next sweep's. */
enum err person_erase_again(struct db *from, struct db *to, int64_t *count) MUST_CHECK;

/* An answer kept for a retry; its texts are lent until it returns. */
struct person_answer {
	int64_t created_at_us;
	int64_t account_created_at_us; /* 0 where it does not tell */
	int status;
	const char *location, *etag; /* "" for none */
	const char *body; /* JSON, or nothing */
	size_t n;
};

/* Gives EACH all answers that show the account, the oldest first; anything but OK ends it. */
enum err person_answers(struct db *db, int64_t id,
    enum err (*each)(void *ctx, const struct person_answer *answer), void *ctx) MUST_CHECK;

#endif
