/*
 * audit: who read, changed, gave out or erased what, each row chained to the one before.
 *
 * The same tables in accounts.db, audios.db and events.db.  A row bears the BLAKE2b of the chain of
 * the row before and of all else that is in it: whoever changes, removes or moves one must make all
 * that follow anew, and does not have the head that somebody wrote down elsewhere
 * (audit_verify()). It is no signature: who writes the file can make another chain.
 *
 * A row has the number of its actor.  The chain bears on a salted digest of the name, not on the
 * name, so that the name of a person who is erased can go (audit_forget()) and the chain is right
 * all the same; that it went is a row of its own.
 *
 * Rows are added in the transaction of the change that they tell of; one of a read has a share in
 * a commit.  The last row is asked for each time, so that nothing must be undone with a
 * transaction.  Any thread.
 */
#ifndef CAREDESK_AUDIT_H
#define CAREDESK_AUDIT_H

#include <stddef.h>
#include <stdint.h>

#include "lib/commit.h"
#include "lib/db.h"
#include "lib/digest.h"
#include "lib/err.h"
#include "lib/request.h"

enum audit_what {
	AUDIT_ACCOUNT_READ,
	AUDIT_ACCOUNTS_LISTED, /* with "ids" in its detail, as every list */
	AUDIT_ACCOUNT_CREATED,
	AUDIT_ACCOUNT_CHANGED,
	AUDIT_ACCOUNT_IMAGE_CHANGED,
	AUDIT_ACCOUNT_DELETED,
	AUDIT_ACCOUNT_EXPORTED,
	AUDIT_ACCOUNT_ERASED,
	AUDIT_ACTOR_ERASED, /* the subject is an actor's number */
	AUDIT_SESSION_READ,
	AUDIT_SESSIONS_LISTED,
	AUDIT_SESSION_CREATED,
	AUDIT_SESSION_CHANGED,
	AUDIT_SESSION_DELETED,
	AUDIT_EVENT_CREATED,
	AUDIT_EVENT_REIMBURSED,
	AUDIT_EVENT_DELETED,
	AUDIT_TYPE_CREATED,
	AUDIT_TYPE_CHANGED,
	AUDIT_TYPE_DELETED,
	AUDIT_SUMS_REPAIRED,
	AUDIT_WHATS
};

/* Who does something, and when. */
struct audit_actor {
	const char *who;
	int64_t now_us;
};

/* Who asks, now. */
struct audit_actor audit_actor_of(const struct request *req);

/* Within the transaction of the change.  SUBJECT is an id, or 0; DETAIL is JSON or NULL, and names
 * nobody. */
enum err audit_add(struct db *db, const struct audit_actor *actor, enum audit_what what,
    int64_t subject, const char *detail) MUST_CHECK;

/* Before who asks is shown SUBJECT, or a list of IDS: OK once it is recorded, or where nobody is to
 * be named (WHO_ANYONE).  ERR_BUSY: it was not, and may not be shown. */
enum err audit_read(struct commit *commit, const struct request *req, enum audit_what what,
    int64_t subject) MUST_CHECK;
enum err audit_read_list(struct commit *commit, const struct request *req, enum audit_what what,
    const int64_t *ids, size_t count) MUST_CHECK;

/* Within a transaction: removes the name of each actor that has this mail address for one, however
 * it is written (email.h). */
enum err audit_forget(
    struct db *db, const struct audit_actor *actor, const char *email, size_t n) MUST_CHECK;

/* For the migration of a ledger from before there was a chain (table audit_before): puts its rows
 * into it. */
enum err audit_adopt(struct db *db) MUST_CHECK;

/* --- For the operator. */

struct audit_head {
	int64_t seq; /* 0: before the first row */
	unsigned char chain[DIGEST_BYTES];
};

/* Goes along the whole chain; *HEAD is its last row.  ERR_CONFLICT, with words that name the first
 * row that is wrong, also where KNOWN, an earlier head or NULL, is not on it.  Rows are read by
 * some thousands, so no snapshot is held for long.  TOLD gets how many were seen. */
enum err audit_verify(struct db *db, const struct audit_head *known,
    void (*told)(void *ctx, int64_t count), void *ctx, struct audit_head *head) MUST_CHECK;

/* The last row, as it stands there. */
enum err audit_last(struct db *db, struct audit_head *head) MUST_CHECK;

struct audit_row {
	int64_t seq, at_us;
	const char *who; /* NULL: was erased */
	const char *what;
	int64_t subject;
	const char *detail; /* NULL: none */
};

/* Which rows; one subject at the most. */
struct audit_filter {
	int64_t since_us, until_us; /* the end is not in it */
	const char *who; /* NULL: any */
	const char *noun; /* "account", "session" or "event": rows about SUBJECT; NULL: all rows */
	int64_t subject;
};

/* Gives EACH the newest MOST of them, the newest first, lent until it returns; anything but OK ends
 * it. */
enum err audit_list(struct db *db, const struct audit_filter *filter, int64_t most,
    enum err (*each)(void *ctx, const struct audit_row *row), void *ctx) MUST_CHECK;

#endif
