/*
 * blob: files by key, whole or not there: pictures and what else is too large for a row.
 *
 * A key is given by the store, at random (128 bits), and is "ab/" 32 hex digits that begin with
 * "ab", and a suffix: "7f/7f0c...e1.png".  Nothing that is not of exactly this form ever reaches
 * the file system, and no link is followed.  A file never changes: what is to be changed is put
 * anew, the row that names it follows, and the old file is removed last.  So a crash leaves at most
 * files that no row names, and blob_sweep() removes those.
 *
 * What is answered OK is on disk: the file is written without a name, synced, linked to its name,
 * and the folders that changed are synced.  Where the file system has no nameless files, one has a
 * name with a dot before; only such a one can be left behind half written, and is never a blob.
 *
 * The interface knows keys and bytes and no paths, so that a store of objects elsewhere (S3) is
 * another file behind this header: put, get (into a nameless file), remove and list are its
 * operations too; it has no leftovers.
 *
 * Any thread, any number of processes.  The folder must be on one file system, and /proc be there.
 * Source: open(2) on O_TMPFILE, fsync(2) on folders.
 */
#ifndef CAREDESK_BLOB_H
#define CAREDESK_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

#define BLOB_SUFFIX_MAX 8 /* "." and letters and digits, lower-case */
#define BLOB_KEY_SIZE (3 + 32 + BLOB_SUFFIX_MAX + 1)

struct blob;

/* FOLDER is made if it is not there; its parent must be.  One that can only be read is opened too:
 * then what changes something is ERR_BUSY. */
enum err blob_open(const char *folder, struct blob **store) MUST_CHECK;
void blob_close(struct blob *store);

bool blob_key_valid(const char *key);

/* SUFFIX is "" or such as ".png"; another one is a bug.  ERR_BUSY where there is no room. */
enum err blob_put(struct blob *store, const void *bytes, size_t n, const char *suffix,
    char key[BLOB_KEY_SIZE]) MUST_CHECK;

/* Under a key that another store gave: for restoring.  ERR_CONFLICT if there is such a blob. */
enum err blob_put_as(struct blob *store, const char *key, const void *bytes, size_t n) MUST_CHECK;

/* *FD is yours, at the beginning of *BYTES bytes.  ERR_NOT_FOUND. */
enum err blob_get(struct blob *store, const char *key, int *fd, int64_t *bytes) MUST_CHECK;

/* A key that is not there is OK.  ERR_BUSY while the store is pinned. */
enum err blob_remove(struct blob *store, const char *key) MUST_CHECK;

enum blob_kind {
	BLOB_WHOLE,
	BLOB_LEFTOVER, /* of a put that a crash ended, or one under way */
	BLOB_FOREIGN /* nothing of ours; only its name is told */
};

struct blob_entry {
	enum blob_kind kind;
	const char *name; /* of a whole one, its key; else below the folder */
};

/* Every entry once, in no order; what is put or removed meanwhile may be told or not.  Stops at the
 * first error of FN and returns it.  FN may remove what it is told. */
enum err blob_list(struct blob *store, enum err (*fn)(void *ctx, const struct blob_entry *entry),
    void *ctx) MUST_CHECK;

/* Round a put and what makes its row: meanwhile no sweep of this process takes the blob for one
 * that nobody wants.  Waits for a sweep that is about to remove one. */
void blob_begin(struct blob *store);
void blob_end(struct blob *store);

#define BLOB_OWNER_BYTES 16

/* Whether the rows of OWNER, such as a database, are those that name these blobs.  A store that is
 * nobody's becomes OWNER's; blob_disown() makes it nobody's, for the next who claims it. */
enum err blob_claim(
    struct blob *store, const unsigned char owner[BLOB_OWNER_BYTES], bool *is_owner) MUST_CHECK;
enum err blob_disown(struct blob *store) MUST_CHECK;

/* Removes leftovers, and blobs for which KEEP says false in *KEPT.  Only for the one process that
 * puts into this store now (the writer of the rows), and only if each of its puts stands between
 * blob_begin() and blob_end(): KEEP is asked once more while there is none.  KEEP may be NULL: all
 * blobs are kept.  ERR_BUSY while the store is pinned, or if puts go on for too long. */
enum err blob_sweep(struct blob *store, enum err (*keep)(void *ctx, const char *key, bool *kept),
    void *ctx, int64_t *removed) MUST_CHECK;

/* Until it is unpinned, or its process ends, nobody in any process removes a blob or a leftover; so
 * what rows name now stays for as long.  One at a time: ERR_BUSY.  Of a store that nobody else of
 * the process pins. */
enum err blob_pin(struct blob *store) MUST_CHECK;
void blob_unpin(struct blob *store);

#endif
