/*
 * accounts.h: the program accounts, by its parts: accounts.c has the routes and the accounts
 * themselves, accounts_image.c takes in their images.
 */
#ifndef CAREDESK_ACCOUNTS_H
#define CAREDESK_ACCOUNTS_H

#include "lib/account.h"
#include "lib/answer.h"
#include "lib/blob.h"
#include "lib/commit.h"
#include "lib/db.h"
#include "lib/link.h"
#include "lib/request.h"
#include "lib/response.h"

#define ACCOUNTS_BLOBS "blobs"

/* What the whole program shares. */
struct accounts {
	struct commit *commit;
	struct db_readers *readers;
	struct blob *blobs;
	struct link_secret secret;
	const char *base_url; /* of the links */
	int64_t link_s; /* how long a link opens, at least */
};

extern struct accounts accounts;

/* As a client is shown one; its link opens until EXPIRES_S. */
enum err accounts_answer(
    struct answer *a, int status, const struct account *account, int64_t expires_s) MUST_CHECK;

/* The account with this id as it is, if that is the one that the client means. */
enum err accounts_find(
    struct db *db, const struct request *req, int64_t id, struct account *account) MUST_CHECK;

/* When links end that are given now: the same for a while, so that they are cached. */
int64_t accounts_expiry(void);

enum err account_upload(struct request *req, struct response *res) MUST_CHECK;

/* The threads that look at images, of which the first sweeps what a crash has left. */
enum err images_open(void) MUST_CHECK;
void images_close(void);

#endif
