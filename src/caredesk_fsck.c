/*
 * caredesk fsck: whether every data set is sound, and what must agree agrees.  Changes nothing, and
 * looks at what is there while the service runs: what may be under way is looked at again.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "caredesk.h"
#include "lib/account.h"
#include "lib/audio.h"
#include "lib/audit.h"
#include "lib/ledger.h"
#include "sql.h"

#define WORDS_SIZE 256
#define READ_BYTES (64 * 1024)

/* What was found of one set. */
struct findings {
	int64_t differences, remarks; /* of which DATA_TOLD_MAX each are told */
	char words[WORDS_SIZE]; /* of its line, if all is right */
};

static void __attribute__((format(printf, 2, 3))) tell(int64_t *count, const char *format, ...)
{
	va_list args;

	if (++*count > DATA_TOLD_MAX)
		return;
	va_start(args, format);
	(void)vprintf(format, args);
	va_end(args);
	(void)printf("\n");
}

/* --- Images. */

static enum err
digest_file(int fd, unsigned char digest[DIGEST_BYTES])
{
	char bytes[READ_BYTES];
	struct digest d;
	ssize_t n;

	digest_begin(&d);
	while ((n = read(fd, bytes, sizeof(bytes))) > 0)
		digest_add(&d, bytes, (size_t)n);
	digest_end(&d, digest);
	return n == 0 ? OK : fail(ERR_CONFLICT, "cannot be read: %m");
}

enum err
data_image_check(struct blob *store, const struct account_image *image)
{
	unsigned char digest[DIGEST_BYTES];
	int64_t bytes;
	int fd;
	enum err err = blob_get(store, image->key, &fd, &bytes);

	if (err == ERR_NOT_FOUND)
		return fail(err, "is not there");
	if (err != OK)
		return err;
	err = digest_file(fd, digest);
	(void)close(fd);
	if (err == OK && memcmp(digest, image->digest, sizeof(digest)) != 0)
		return fail(ERR_CONFLICT, "is damaged: it is not what was stored");
	return err;
}

struct images {
	struct findings *f;
	struct blob *store;
	struct db *fresh; /* no snapshot: each query sees the last commit */
	int64_t count, bytes;
};

/* One that is not as it must be was perhaps replaced since the list began. */
static enum err
look_at_image(void *ctx, const struct account_image *image)
{
	struct images *images = ctx;
	char words[WORDS_SIZE];
	int64_t owner;
	enum err err = data_image_check(images->store, image);

	images->count++;
	if (err == OK || (err != ERR_NOT_FOUND && err != ERR_CONFLICT))
		return err;
	(void)snprintf(words, sizeof(words), "%s", err_words());
	if ((err = account_of_image(images->fresh, image->key, &owner)) == OK && owner == image->id)
		tell(&images->f->differences, "account %" PRId64 ": its image %s %s", image->id,
		    image->key, words);
	return err;
}

static enum err
look_at_file(void *ctx, const struct blob_entry *entry)
{
	struct images *images = ctx;
	int64_t *remarks = &images->f->remarks;
	int64_t owner = 0;
	enum err err = OK;

	switch (entry->kind) {
	case BLOB_WHOLE:
		if ((err = account_of_image(images->fresh, entry->name, &owner)) == OK &&
		    owner == 0)
			tell(remarks, "%s: no account names it; it waits for the sweep",
			    entry->name);
		break;
	case BLOB_LEFTOVER:
		tell(remarks, "%s: of an upload that was ended; it waits for the sweep",
		    entry->name);
		break;
	case BLOB_FOREIGN:
		tell(remarks, "%s: is no image, and none of ours", entry->name);
		break;
	}
	return err;
}

/* The store is only looked at where there is one: opening it would make it. */
static enum err
check_images(struct db *db, struct findings *f, int64_t *count)
{
	struct images images = { .f = f };
	enum err err = db_open(ACCOUNT_FILE, DB_READ, &account_schema, &images.fresh);

	if (err == OK && access(ACCOUNT_BLOBS, F_OK) != 0)
		err = fail(ERR_CONFLICT, "there is no folder " ACCOUNT_BLOBS);
	if (err == OK && (err = blob_open(ACCOUNT_BLOBS, &images.store)) == OK &&
	    (err = account_images(db, look_at_image, &images)) == OK)
		err = blob_list(images.store, look_at_file, &images);
	blob_close(images.store);
	db_close(images.fresh);
	*count = images.count;
	return err;
}

/* --- What must agree, by data set. */

static enum err
tell_account(void *ctx, int64_t id, const char *words)
{
	struct findings *f = ctx;

	tell(&f->differences, "account %" PRId64 ": %s", id, words);
	return OK;
}

static enum err
check_accounts(struct db *db, struct findings *f)
{
	int64_t accounts = 0, images = 0;
	enum err err;

	if ((err = account_check(db, tell_account, f, &accounts)) == OK)
		err = check_images(db, f, &images);
	(void)snprintf(f->words, sizeof(f->words), "%" PRId64 " accounts, %" PRId64 " images",
	    accounts, images);
	return err;
}

static enum err
check_audios(struct db *db, struct findings *f)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_audios_audios_count);
	if ((err = db_next(&q, &found)) == OK && found)
		(void)snprintf(f->words, sizeof(f->words),
		    "%" PRId64 " sessions, all within their bounds", db_int(&q, 0));
	db_done(&q);
	if (err != OK)
		return err;
	db_query(&q, db, &sql_audios_audios_check);
	while ((err = db_next(&q, &found)) == OK && found)
		tell(&f->differences, "session %" PRId64 ": is out of bounds", db_int(&q, 0));
	db_done(&q);
	return err;
}

static enum err
check_events(struct db *db, struct findings *f)
{
	(void)snprintf(f->words, sizeof(f->words), "all sums are what their events give");
	return data_recount(db);
}

static enum err
check_stats(struct db *db, struct findings *f)
{
	struct counts_totals t;
	enum err err = data_total(db, &t);

	(void)snprintf(f->words, sizeof(f->words),
	    "%" PRId64 " requests of %" PRId64 " paths: as many as lines of the log", t.total,
	    t.paths);
	return err;
}

static const struct {
	const struct db_schema *schema;
	enum err (*check)(struct db *db, struct findings *f);
} checks[] = {
	{ &account_schema, check_accounts },
	{ &audio_schema, check_audios },
	{ &ledger_schema, check_events },
	{ &counts_schema, check_stats },
};

static enum err
check_audit(struct db *db, const struct data_set *set, struct findings *f)
{
	struct audit_head head;
	enum err err = data_audit(db, set, NULL, &head);

	if (err == ERR_CONFLICT) {
		tell(&f->differences, "the audit: %s", err_words());
		err_clear();
		err = OK;
	}
	return err;
}

static enum err
check_agreement(struct db *db, const struct data_set *set, struct findings *f)
{
	size_t i = 0;
	enum err err;

	while (checks[i].schema != set->schema)
		i++;
	err = checks[i].check(db, f);
	if (err == OK && data_set_has_audit(set))
		err = check_audit(db, set, f);
	data_tell_rest(f->differences);
	data_tell_rest(f->remarks);
	if (err == OK && f->differences > 0)
		err = fail(ERR_CONFLICT, "%" PRId64 " differences", f->differences);
	return err;
}

/* --- The command. */

/* One line, and those of what is not right before it. */
static enum err
check_set(const struct data_set *set)
{
	struct findings f = { 0 };
	struct db *db = NULL;
	enum err err;

	if (db_is_lost(set->file)) {
		(void)printf("%s: %s is gone\n", set->schema->name, set->file);
		return fail(ERR_CONFLICT, "%s is gone", set->file);
	}
	if (access(set->file, F_OK) != 0) {
		(void)printf("%s: not there yet\n", set->schema->name);
		return OK;
	}
	if ((err = db_open(set->file, DB_READ, set->schema, &db)) == OK &&
	    (err = data_verify(db, set)) == OK)
		err = check_agreement(db, set, &f);
	db_close(db);
	(void)printf("%s: %s\n", set->schema->name, err == OK ? f.words : err_words());
	return err;
}

/* All of them, or NAME; each is looked at whatever was found of those before. */
static enum err
check_named(const char *name)
{
	int looked = 0, bad = 0;

	for (size_t i = 0; i < DATA_SETS; i++) {
		if (name != NULL && strcmp(name, data_sets[i].schema->name) != 0)
			continue;
		looked++;
		bad += check_set(&data_sets[i]) != OK;
		err_clear();
	}
	if (looked == 0)
		return fail(
		    ERR_INPUT, "there is no data set %s: accounts, audios, events or stats", name);
	return bad == 0 ? OK : fail(ERR_CONFLICT, "%d of %d data sets are not right", bad, looked);
}

enum err
caredesk_fsck(const struct caredesk_options *options)
{
	struct data data;
	enum err err = data_open(&options->conf, DATA_READ, &data);

	if (err == OK && (err = user_become(data.conf->user)) == OK)
		err = check_named(options->argument);
	data_close(&data);
	return err;
}
