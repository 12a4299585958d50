/*
 * accounts.h: the program accounts, by its parts:
 *
 *	accounts.c           routes, and the accounts themselves
 *	accounts_upload.c    takes in their images
 *	accounts_images.c    the threads that make images clean, and sweep
 *	accounts_erase.c     a person's data given out, or nothing of them left
 */
#ifndef CAREDESK_ACCOUNTS_H
#define CAREDESK_ACCOUNTS_H

#include "lib/account.h"
#include "lib/answer.h"
#include "lib/audit.h"
#include "lib/blob.h"
#include "lib/commit.h"
#include "lib/db.h"
#include "lib/image.h"
#include "lib/link.h"
#include "lib/request.h"
#include "lib/response.h"

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

/* As a client is shown one. */
enum err accounts_answer(struct answer *a, int status, const struct account *account) MUST_CHECK;

/* The account with this id as it is, if that is the one that the client means. */
enum err accounts_find(
    struct db *db, const struct request *req, int64_t id, struct account *account) MUST_CHECK;

enum err account_upload(struct request *req, struct response *res) MUST_CHECK;

/* The processes that read pictures, before all else. */
enum err images_prepare(void) MUST_CHECK;

/* The threads of images.  They begin with a sweep of what a crash has left. */
enum err images_open(void) MUST_CHECK;
void images_close(void);

/* Nobody is to wait any more: what has not begun is ERR_BUSY. */
void images_stop(void);

/* decoder_clean() in one of the threads, in which pictures that COST little (image_work()) never
 * wait for others.  ERR_BUSY if too many wait, or after IMAGES_WAIT_US. */
enum err images_clean(const unsigned char *bytes, size_t n, enum image_kind kind, uint64_t cost,
    struct image *clean) MUST_CHECK;

#define IMAGES_WAIT_US (20 * INT64_C(1000000))

/* After its row, so that no account ever points at an image that is not there.  KEY may be "". What
 * cannot be removed now is swept later. */
void images_remove(const char *key);

/* When it is not known whether an image is an account's: in some seconds it will be. */
void images_sweep_later(void);

enum err account_export(struct request *req, struct response *res) MUST_CHECK;
enum err account_erase(struct request *req, struct response *res) MUST_CHECK;

#endif
