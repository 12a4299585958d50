#include "lib/audit.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/clock.h"
#include "lib/email.h"
#include "lib/text.h"
#include "sql.h"

#define SALT_BYTES 16
#define SLICE 10000 /* rows that are read in one go */
#define PATTERN_SIZE 32

static const char *const whats[] = {
	[AUDIT_ACCOUNT_READ] = "account read",
	[AUDIT_ACCOUNTS_LISTED] = "accounts listed",
	[AUDIT_ACCOUNT_CREATED] = "account created",
	[AUDIT_ACCOUNT_CHANGED] = "account changed",
	[AUDIT_ACCOUNT_IMAGE_CHANGED] = "account image changed",
	[AUDIT_ACCOUNT_DELETED] = "account deleted",
	[AUDIT_ACCOUNT_EXPORTED] = "account exported",
	[AUDIT_ACCOUNT_ERASED] = "account erased",
	[AUDIT_ACTOR_ERASED] = "actor erased",
	[AUDIT_SESSION_READ] = "session read",
	[AUDIT_SESSIONS_LISTED] = "sessions listed",
	[AUDIT_SESSION_CREATED] = "session created",
	[AUDIT_SESSION_CHANGED] = "session changed",
	[AUDIT_SESSION_DELETED] = "session deleted",
	[AUDIT_EVENT_CREATED] = "event created",
	[AUDIT_EVENT_REIMBURSED] = "event reimbursed",
	[AUDIT_EVENT_DELETED] = "event deleted",
	[AUDIT_TYPE_CREATED] = "type created",
	[AUDIT_TYPE_CHANGED] = "type changed",
	[AUDIT_TYPE_DELETED] = "type deleted",
	[AUDIT_SUMS_REPAIRED] = "sums repaired",
};

_Static_assert(sizeof(whats) / sizeof(whats[0]) == AUDIT_WHATS, "each has its words");

/* --- The chain. */

/* S is NULL where there is none. */
struct text {
	const char *s;
	size_t n;
};

/* All that the chain bears on. */
struct entry {
	int64_t seq, at_us, actor;
	const unsigned char *who; /* the digest of the actor's name */
	struct text what;
	int64_t subject;
	struct text detail;
};

/* The same on every machine. */
static void
add_number(struct digest *d, int64_t value)
{
	unsigned char bytes[8];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)((uint64_t)value >> 8 * i);
	digest_add(d, bytes, sizeof(bytes));
}

/* With its length before it, so that no two rows run into the same bytes. */
static void
add_text(struct digest *d, const struct text *text)
{
	add_number(d, text->s == NULL ? -1 : (int64_t)text->n);
	if (text->s != NULL)
		digest_add(d, text->s, text->n);
}

/* Moves HEAD on to ENTRY. */
static void
chain(struct audit_head *head, const struct entry *entry)
{
	struct digest d;

	digest_begin(&d);
	digest_add(&d, head->chain, sizeof(head->chain));
	add_number(&d, entry->seq);
	add_number(&d, entry->at_us);
	add_number(&d, entry->actor);
	digest_add(&d, entry->who, DIGEST_BYTES);
	add_text(&d, &entry->what);
	add_number(&d, entry->subject);
	add_text(&d, &entry->detail);
	digest_end(&d, head->chain);
	head->seq = entry->seq;
}

static void
digest_name(const void *salt, const char *name, size_t n, unsigned char out[DIGEST_BYTES])
{
	struct digest d;

	digest_begin(&d);
	digest_add(&d, salt, SALT_BYTES);
	digest_add(&d, name, n);
	digest_end(&d, out);
}

/* False where it is no digest, and OUT as it was. */
static bool
take_digest(const struct db_query *q, int i, unsigned char out[DIGEST_BYTES])
{
	size_t n;
	const char *bytes = db_text(q, i, &n);

	if (n != DIGEST_BYTES)
		return false;
	memcpy(out, bytes, DIGEST_BYTES);
	return true;
}

static struct text
take_text(const struct db_query *q, int i)
{
	struct text text = { NULL, 0 };

	if (!db_is_null(q, i))
		text.s = db_text(q, i, &text.n);
	return text;
}

enum err
audit_last(struct db *db, struct audit_head *head)
{
	struct db_query q;
	bool found;
	enum err err;

	*head = (struct audit_head){ 0 };
	db_query(&q, db, &sql_shared_audit_last);
	if ((err = db_next(&q, &found)) == OK && found) {
		head->seq = db_int(&q, 0);
		(void)take_digest(&q, 1, head->chain); /* the table lets in nothing else */
	}
	db_done(&q);
	return err;
}

/* --- Who. */

struct known {
	int64_t id;
	unsigned char digest[DIGEST_BYTES];
};

static enum err
add_actor(struct db *db, const char *name, size_t n, struct known *known)
{
	unsigned char salt[SALT_BYTES];
	struct db_query q;
	bool found;
	enum err err;

	if (getrandom(salt, sizeof(salt), 0) != (ssize_t)sizeof(salt))
		return fail(ERR_INTERNAL, "no random numbers");
	digest_name(salt, name, n, known->digest);
	db_query(&q, db, &sql_shared_audit_actor_add);
	db_bind_text(&q, name, n);
	db_bind_bytes(&q, salt, sizeof(salt));
	db_bind_bytes(&q, known->digest, sizeof(known->digest));
	if ((err = db_next(&q, &found)) == OK)
		known->id = db_int(&q, 0);
	db_done(&q);
	return err;
}

static enum err
find_actor(struct db *db, const char *name, size_t n, struct known *known)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_shared_audit_actor_find);
	db_bind_text(&q, name, n);
	if ((err = db_next(&q, &found)) == OK && found) {
		known->id = db_int(&q, 0);
		(void)take_digest(&q, 1, known->digest);
	}
	db_done(&q);
	return err == OK && !found ? add_actor(db, name, n, known) : err;
}

struct audit_actor
audit_actor_of(const struct request *req)
{
	return (struct audit_actor){ req->who, clock_now_us() };
}

/* --- Rows in. */

static void
bind_text(struct db_query *q, const struct text *text)
{
	if (text->s != NULL)
		db_bind_text(q, text->s, text->n);
	else
		db_bind_null(q);
}

/* The row behind all others. */
static enum err
insert(struct db *db, struct entry *entry, const char *who, size_t n)
{
	struct audit_head head;
	struct known actor;
	struct db_query q;
	enum err err;

	if ((err = audit_last(db, &head)) != OK || (err = find_actor(db, who, n, &actor)) != OK)
		return err;
	entry->seq = head.seq + 1;
	entry->actor = actor.id;
	entry->who = actor.digest;
	chain(&head, entry);
	db_query(&q, db, &sql_shared_audit_insert);
	db_bind_int(&q, entry->seq);
	db_bind_int(&q, entry->at_us);
	db_bind_int(&q, entry->actor);
	bind_text(&q, &entry->what);
	db_bind_int(&q, entry->subject);
	bind_text(&q, &entry->detail);
	db_bind_bytes(&q, head.chain, sizeof(head.chain));
	return db_run(&q);
}

enum err
audit_add(struct db *db, const struct audit_actor *actor, enum audit_what what, int64_t subject,
    const char *detail)
{
	struct entry entry = {
		.at_us = actor->now_us,
		.what = { whats[what], strlen(whats[what]) },
		.subject = subject,
		.detail = { detail, detail != NULL ? strlen(detail) : 0 },
	};

	return insert(db, &entry, actor->who, strlen(actor->who));
}

enum err
audit_adopt(struct db *db)
{
	/* No file of sql/: the table is there in this migration only. */
	static const struct db_sql list = { "events/audit_before",
		"SELECT at, who, what, subject, detail FROM audit_before ORDER BY id" };
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &list);
	while ((err = db_next(&q, &found)) == OK && found) {
		struct entry entry = {
			.at_us = db_int(&q, 0),
			.what = take_text(&q, 2),
			.subject = db_int(&q, 3),
			.detail = take_text(&q, 4),
		};
		struct text who = take_text(&q, 1);

		if ((err = insert(db, &entry, who.s, who.n)) != OK)
			break;
	}
	db_done(&q);
	return err == OK ? db_script(db, "DROP TABLE audit_before") : err;
}

struct reading {
	struct audit_actor actor;
	enum audit_what what;
	int64_t subject;
	const char *detail;
};

static enum err
make_reading(struct db *db, void *arg)
{
	const struct reading *r = arg;

	return audit_add(db, &r->actor, r->what, r->subject, r->detail);
}

enum err
audit_read(struct commit *commit, const struct request *req, enum audit_what what, int64_t subject)
{
	struct reading reading = { audit_actor_of(req), what, subject, NULL };

	if (strcmp(req->who, WHO_ANYONE) == 0)
		return OK;
	return commit_run(commit, make_reading, &reading);
}

/* {"ids":[1,2]} */
static char *
ids_text(const int64_t *ids, size_t count)
{
	size_t size = sizeof("{\"ids\":[]}") + count * TEXT_INT_SIZE, n;
	char *text = malloc(size);

	if (text == NULL)
		return NULL;
	n = (size_t)snprintf(text, size, "{\"ids\":[");
	for (size_t i = 0; i < count; i++)
		n += (size_t)snprintf(
		    text + n, size - n, "%s%lld", i > 0 ? "," : "", (long long)ids[i]);
	(void)snprintf(text + n, size - n, "]}");
	return text;
}

enum err
audit_read_list(struct commit *commit, const struct request *req, enum audit_what what,
    const int64_t *ids, size_t count)
{
	struct reading reading = { audit_actor_of(req), what, 0, NULL };
	char *detail;
	enum err err;

	if (strcmp(req->who, WHO_ANYONE) == 0)
		return OK;
	if ((detail = ids_text(ids, count)) == NULL)
		return fail(ERR_BUSY, "no memory for the audit");
	reading.detail = detail;
	err = commit_run(commit, make_reading, &reading);
	free(detail);
	return err;
}

/* --- Names out. */

static bool
is_address(const struct text *name, const struct text *email)
{
	char folded[EMAIL_SIZE];
	size_t n;

	if (name->n == email->n && memcmp(name->s, email->s, email->n) == 0)
		return true;
	if (email_fold(name->s, name->n, folded, &n) == OK)
		return n == email->n && memcmp(folded, email->s, n) == 0;
	err_clear(); /* it is no address */
	return false;
}

static enum err
forget(struct db *db, const struct audit_actor *actor, int64_t id)
{
	struct db_query q;
	enum err err;

	db_query(&q, db, &sql_shared_audit_actor_forget);
	db_bind_int(&q, id);
	err = db_run(&q);
	return err == OK ? audit_add(db, actor, AUDIT_ACTOR_ERASED, id, NULL) : err;
}

enum err
audit_forget(struct db *db, const struct audit_actor *actor, const char *email, size_t n)
{
	const struct text wanted = { email, n };
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_shared_audit_actors_named);
	while ((err = db_next(&q, &found)) == OK && found) {
		const struct text name = take_text(&q, 1);

		if (is_address(&name, &wanted) && (err = forget(db, actor, db_int(&q, 0))) != OK)
			break;
	}
	db_done(&q);
	return err;
}

/* --- Whether all is as it was. */

/* Where somebody walks along the chain. */
struct walk {
	struct db *db;
	struct audit_head at;
	const struct audit_head *known; /* or NULL */
	int64_t after; /* the row that was read last */
	size_t got; /* of a slice */
};

static enum err
is_wrong(int64_t seq, const char *words)
{
	return fail(ERR_CONFLICT, "row %lld %s", (long long)seq, words);
}

/* The columns of audit_rows. */
static enum err
check_row(struct walk *w, const struct db_query *q)
{
	unsigned char who[DIGEST_BYTES], stored[DIGEST_BYTES];
	const struct entry entry = { db_int(q, 0), db_int(q, 1), db_int(q, 2), who, take_text(q, 4),
		db_int(q, 5), take_text(q, 6) };

	w->after = entry.seq;
	if (entry.seq > w->at.seq + 1)
		return is_wrong(w->at.seq + 1, "is missing");
	if (entry.seq != w->at.seq + 1)
		return is_wrong(entry.seq, "is before the first one");
	if (!take_digest(q, 8, who))
		return is_wrong(entry.seq, "has an actor who is not there");
	chain(&w->at, &entry);
	if (!take_digest(q, 7, stored) || memcmp(stored, w->at.chain, sizeof(stored)) != 0)
		return is_wrong(entry.seq, "is not what was recorded");
	if (w->known != NULL && w->known->seq == entry.seq &&
	    memcmp(w->known->chain, w->at.chain, sizeof(stored)) != 0)
		return is_wrong(entry.seq, "is another one than that of the head that was given");
	return OK;
}

static enum err
check_slice(struct walk *w)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, w->db, &sql_shared_audit_rows);
	db_bind_int(&q, w->after);
	db_bind_int(&q, SLICE);
	for (w->got = 0; (err = db_next(&q, &found)) == OK && found; w->got++)
		if ((err = check_row(w, &q)) != OK)
			break;
	db_done(&q);
	return err;
}

/* The columns of audit_actors_check. */
static enum err
check_actor(const struct db_query *q)
{
	unsigned char digest[DIGEST_BYTES] = { 0 }, stored[DIGEST_BYTES];
	struct text name = take_text(q, 1), salt = take_text(q, 2);
	bool was_erased = db_int(q, 4) != 0;
	const char *words;

	if (salt.s != NULL && name.s != NULL && salt.n == SALT_BYTES)
		digest_name(salt.s, name.s, name.n, digest);
	if (name.s == NULL && was_erased)
		return OK;
	if (name.s == NULL)
		words = "was removed, and no row says that it was erased";
	else if (!take_digest(q, 3, stored) || memcmp(stored, digest, sizeof(stored)) != 0)
		words = "is not what was recorded";
	else
		return OK;
	return fail(ERR_CONFLICT, "the name of actor %lld %s", (long long)db_int(q, 0), words);
}

static enum err
check_actors(struct db *db)
{
	const char *erased = whats[AUDIT_ACTOR_ERASED];
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_shared_audit_actors_check);
	db_bind_text(&q, erased, strlen(erased));
	while ((err = db_next(&q, &found)) == OK && found)
		if ((err = check_actor(&q)) != OK)
			break;
	db_done(&q);
	return err;
}

enum err
audit_verify(struct db *db, const struct audit_head *known, void (*told)(void *ctx, int64_t count),
    void *ctx, struct audit_head *head)
{
	struct walk w = { .db = db, .known = known, .after = INT64_MIN, .got = SLICE };
	enum err err = OK;

	/* Rows are only added: what was seen stays so, and needs no snapshot. */
	while (err == OK && w.got == SLICE)
		if ((err = check_slice(&w)) == OK)
			told(ctx, w.at.seq);
	*head = w.at;
	if (err == OK && known != NULL && known->seq > w.at.seq)
		err = fail(ERR_CONFLICT,
		    "the end was cut off: row %lld is the last one, and the head that was given is "
		    "row %lld",
		    (long long)w.at.seq, (long long)known->seq);
	return err == OK ? check_actors(db) : err;
}

/* --- Rows out. */

static void
bind_filter(struct db_query *q, const struct audit_filter *filter, const char *pattern)
{
	db_bind_int(q, filter->since_us);
	db_bind_int(q, filter->until_us);
	if (filter->who != NULL)
		db_bind_text(q, filter->who, strlen(filter->who));
	else
		db_bind_null(q);
	if (filter->noun != NULL)
		db_bind_int(q, filter->subject);
	else
		db_bind_null(q);
	db_bind_text(q, pattern, strlen(pattern));
}

enum err
audit_list(struct db *db, const struct audit_filter *filter, int64_t most,
    enum err (*each)(void *ctx, const struct audit_row *row), void *ctx)
{
	char pattern[PATTERN_SIZE];
	struct db_query q;
	bool found;
	enum err err;

	(void)snprintf(pattern, sizeof(pattern), "%s*", filter->noun != NULL ? filter->noun : "");
	db_query(&q, db, &sql_shared_audit_rows_found);
	bind_filter(&q, filter, pattern);
	db_bind_int(&q, most);
	while ((err = db_next(&q, &found)) == OK && found) {
		const struct audit_row row = { db_int(&q, 0), db_int(&q, 1), take_text(&q, 3).s,
			take_text(&q, 4).s, db_int(&q, 5), take_text(&q, 6).s };

		if ((err = each(ctx, &row)) != OK)
			break;
	}
	db_done(&q);
	return err;
}
