/*
 * account: the data set of accounts, DATA/db/accounts.db: people's names, mail and postal
 * addresses.
 *
 * Texts are UTF-8 without NUL, at most ACCOUNT_TEXT_MAX characters each; mail addresses come folded
 * (email.h), and no two accounts have the same.  A text is looked for, and a mail address told from
 * others, by a digest of 16 bytes: what the index holds stays short, and a query for the next page
 * repeats nobody's name.  To find two texts with one digest takes 2^64 trials, and gains nothing.
 *
 * Functions that change something run in the writer's transaction (commit.h).  Any thread.
 */
#ifndef CAREDESK_ACCOUNT_H
#define CAREDESK_ACCOUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/blob.h"
#include "lib/db.h"
#include "lib/digest.h"
#include "lib/err.h"
#include "lib/page.h"
#include "lib/scope.h"

#define ACCOUNT_FILE "db/accounts.db"
#define ACCOUNT_BLOBS "blobs" /* the store of images */
#define ACCOUNT_TEXT_MAX 4096 /* characters */
#define ACCOUNT_DIGEST_BYTES 16
#define ACCOUNT_LIST_BYTES_MAX (1024 * 1024) /* of texts, before the last account of a page */

extern const struct db_schema account_schema;

enum account_field { ACCOUNT_NAME, ACCOUNT_EMAIL, ACCOUNT_ADDRESS, ACCOUNT_FIELDS };

extern const char *const account_names[ACCOUNT_FIELDS]; /* of the fields, in JSON */

struct account_text {
	const char *s;
	size_t n;
};

struct account {
	int64_t id, version, created_at_us, updated_at_us;
	struct account_text texts[ACCOUNT_FIELDS];
	char image_key[BLOB_KEY_SIZE]; /* "" where it has no image */
};

struct account_image {
	int64_t id; /* of the account */
	char key[BLOB_KEY_SIZE];
	unsigned char digest[DIGEST_BYTES]; /* of its bytes */
};

struct account_search {
	bool by[ACCOUNT_FIELDS]; /* none: all accounts */
	unsigned char digests[ACCOUNT_FIELDS][ACCOUNT_DIGEST_BYTES];
	const struct scope *scope; /* what may be seen */
};

void account_digest(const char *s, size_t n, unsigned char digest[ACCOUNT_DIGEST_BYTES]);

/* Adds one with its texts, made at NOW_US; the rest of it is set.  ERR_CONFLICT if its mail address
 * is taken. */
enum err account_add(struct db *db, int64_t now_us, struct account *account) MUST_CHECK;

/* What stands beside the texts of the account with this id; ERR_NOT_FOUND. */
enum err account_find(struct db *db, int64_t id, struct account *account) MUST_CHECK;

/* Replaces the texts of one that account_find() has found; ERR_CONFLICT as above. */
enum err account_change(struct db *db, int64_t now_us, struct account *account) MUST_CHECK;

enum err account_delete(struct db *db, int64_t id) MUST_CHECK;

/* Sweeps images that no account has (blob_sweep()), if the store is that of this database, which DB
 * reads without a snapshot; else ERR_CONFLICT with words. */
enum err account_sweep(struct db *db, struct blob *images, int64_t *removed) MUST_CHECK;

/* Takes an account whose texts are lent until it returns; anything but OK ends the reading. */
typedef enum err (*account_fn)(void *ctx, const struct account *account);

/* Gives EACH the account with this id; ERR_NOT_FOUND, also where it is not that of SCOPE. */
enum err account_get(
    struct db *db, int64_t id, const struct scope *scope, account_fn each, void *ctx) MUST_CHECK;

/* Gives EACH those of a page that have all that is searched for, by id; *MORE if others follow.  A
 * page ends early where its texts have ACCOUNT_LIST_BYTES_MAX. */
enum err account_list(struct db *db, const struct account_search *search, const struct page *page,
    account_fn each, void *ctx, bool *more) MUST_CHECK;

/* Gives EACH every account that has an image. */
enum err account_images(struct db *db,
    enum err (*each)(void *ctx, const struct account_image *image), void *ctx) MUST_CHECK;

/* The account that the image is of, or 0. */
enum err account_of_image(struct db *db, const char *image_key, int64_t *id) MUST_CHECK;

/* Looks at every account: whether its mail address is folded, and its digests are those of its
 * texts.  TOLD gets what is not so, without the texts. */
enum err account_check(struct db *db, enum err (*told)(void *ctx, int64_t id, const char *words),
    void *ctx, int64_t *count) MUST_CHECK;

#endif
