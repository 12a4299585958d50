/*
 * keyring: the keys that tokens are checked with, out of files that may change meanwhile.
 *
 * The set of keys is a file of the operator's, or the copy that provider keeps of what a URL gives;
 * the secret is another file.  Both are looked at again, at most once a second and by whoever asks
 * for the keys then; what is new is read and takes the place of the old, which stays as long as
 * somebody has it.  A file that is gone or broken changes nothing: the last good keys stay, and the
 * log says so, once; of one that is gone also that it is back.  A copy counts for KEYRING_STALE_S
 * after it was fetched.
 *
 * Any thread, once open.
 */
#ifndef CAREDESK_KEYRING_H
#define CAREDESK_KEYRING_H

#include "lib/conf.h"
#include "lib/err.h"
#include "lib/token.h"

#define KEYRING_COPY "run/keys/set.json" /* what provider has fetched */
#define KEYRING_WANTED "run/wanted/keys" /* touched for a set that is newer than the copy */
#define KEYRING_STALE_S (24 * 3600)
#define KEYRING_WANT_EVERY_S 30

struct keyring;

/* The keys as they are; lent until keyring_drop(). */
struct keyring_keys {
	struct token_keys keys;
	int64_t generation; /* another where the keys are others */
	struct keyring_shelf *of;
};

/* ERR_INPUT if a file cannot be read or is none; a copy may come later.  RULES must stay.  Yours to
 * close, once nobody has keys any more. */
enum err keyring_open(const struct conf_auth *rules, struct keyring **ring) MUST_CHECK;
void keyring_close(struct keyring *ring);

void keyring_take(struct keyring *ring, struct keyring_keys *keys);
void keyring_drop(struct keyring *ring, struct keyring_keys *keys);

/* Somebody has named a key that is not here: has the set fetched again, where there is a URL. */
void keyring_want(struct keyring *ring);

/* What of the files can be said without a data folder: ERR_INPUT, with words. */
enum err keyring_check(const struct conf_auth *rules) MUST_CHECK;

#endif
