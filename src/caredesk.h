/*
 * caredesk.h: the operator's command, by its parts:
 *
 *	caredesk.c           the table of subcommands and options
 *	caredesk_render.c    files made out of the configuration
 *	caredesk_run.c       starts and watches it all
 *	caredesk_data.c      the data folder and its data sets; migrate, recount
 *	caredesk_deputy.c    a part of a command that the user does
 *	caredesk_files.c     files and folders, copied whole
 *	caredesk_docs.c      the page at /docs
 *	caredesk_import.c    events out of a file
 *	caredesk_demo.c      events out of nothing
 *	caredesk_backup.c    backup
 *	caredesk_restore.c   restore
 *	caredesk_audit.c     who did what: shown, and whether it is as it was recorded
 *	caredesk_fsck.c      whether all data are sound, and agree
 *	caredesk_person.c    all that is stored of a person, given out or erased
 *	caredesk_load.c      requests to the service, and what it counted
 *	caredesk_secret.c    secrets that we make for ourselves
 *	caredesk_token.c     tokens: made, and looked at
 *	caredesk_rotate.c    another name for the access log; old ones removed
 *	caredesk_progress.c  how far a command is
 */
#ifndef CAREDESK_CAREDESK_H
#define CAREDESK_CAREDESK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/blob.h"
#include "lib/conf.h"
#include "lib/counts.h"
#include "lib/db.h"
#include "lib/err.h"
#include "lib/user.h"

#define DEMO_EVENTS_MAX 100000000
#define DEMO_CAREGIVERS_MAX 1000000
#define LOG_MIB_MAX (1024 * 1024)
#define AUDIT_ROWS_MAX 10000

#define DATA_SETS 4

struct progress;

/* What a subcommand is given. */
struct caredesk_options {
	struct conf_options conf;
	const char *argument, *second; /* NULL where not given */
	int64_t events;
	const char *caregivers; /* a number or ids; NULL where not given */
	int64_t size_mib; /* -1 where not given */
	const char *retry; /* NULL where not given */
	bool repair, yes;
	const char *sub; /* NULL where not given */
	unsigned roles; /* enum role */
	int64_t caregiver; /* 0 where not given */
	int64_t ttl_s;
	bool check;
	struct {
		const char *set, *who; /* NULL where not given */
		const char *noun; /* of SUBJECT: "account", "session" or "event"; NULL: of none */
		int64_t subject;
		int64_t since_us, until_us;
		int64_t most;
		bool json;
		const char *heads[DATA_SETS];
		size_t head_count;
	} audit;
};

/* What conf cannot judge by itself: URLs by libcurl, files, the user.  ERR_INPUT, as conf_load().
 */
enum err check_usable(const struct conf_options *options, const struct conf *conf) MUST_CHECK;

/* The nginx configuration, for nginx -p ./ in the data folder; LINK_SECRET is what nginx is to know
 * links by. */
enum err render_nginx(const struct conf *conf, const char *link_secret, FILE *out) MUST_CHECK;

/* docs/problems.md. */
void render_problems(FILE *out);

/* nginx.conf and html/problems/NAME.html, below the working directory. */
enum err render_all(const struct conf *conf) MUST_CHECK;

/* html/docs, below the working directory: Swagger UI, from beside the programs in PROGRAM_DIR or
 * from where make install has put it, and our own files.  Without Swagger UI, which is logged, only
 * the document. */
enum err docs_put(const char *program_dir) MUST_CHECK;

/* FILE holds BYTES_N random bytes in hex digits, and only root and USER may read it; it is made
 * where it is not there. */
#define SECRET_BYTES_MAX 64
#define SECRET_LINK_BYTES 32
enum err secret_make(const char *file, size_t bytes_n, const char *user) MUST_CHECK;

/* CONF_SECRET_FILE, likewise, with its folder, which has nothing else: so programs that may read
 * the folder, and nothing beside it, see a file that takes the place of another. */
enum err secret_make_for_tokens(const char *user) MUST_CHECK;

/* Starts everything and stays until told to stop. */
enum err caredesk_run(const struct conf_options *options) MUST_CHECK;

/* --- The commands for data, in the data folder as caredesk run has made it. */

#define DATA_LOCK "run/lock"
#define DATA_DATABASES "db"

enum err caredesk_migrate(const struct caredesk_options *options) MUST_CHECK;
enum err caredesk_recount(const struct caredesk_options *options) MUST_CHECK;
enum err caredesk_fsck(const struct caredesk_options *options) MUST_CHECK;
enum err caredesk_audit_list(const struct caredesk_options *options) MUST_CHECK;
enum err caredesk_audit_verify(const struct caredesk_options *options) MUST_CHECK;
enum err caredesk_import(const struct caredesk_options *options) MUST_CHECK;
enum err caredesk_demo(const struct caredesk_options *options) MUST_CHECK;
enum err caredesk_load(const struct caredesk_options *options) MUST_CHECK;
enum err caredesk_backup(const struct caredesk_options *options) MUST_CHECK;
enum err caredesk_restore(const struct caredesk_options *options) MUST_CHECK;

/* What a restore that was killed has left in the data folder, whose lock we have alone: second
 * names of all images, copies that never took their place. */
enum err restore_tidy(void) MUST_CHECK;
enum err caredesk_person_export(const struct caredesk_options *options) MUST_CHECK;
enum err caredesk_person_erase(const struct caredesk_options *options) MUST_CHECK;
enum err caredesk_rotate(const struct caredesk_options *options) MUST_CHECK;
enum err caredesk_token(const struct caredesk_options *options) MUST_CHECK;

/* Who does what these commands do, for the audit. */
#define OPERATOR "operator"

/* What a command does with the data folder.  caredesk run and restore have the lock of the folder
 * for themselves, those who only write share it: so none of them meets one of the others, and the
 * words can say whom. */
enum data_use {
	DATA_READ, /* no lock */
	DATA_WRITE, /* not while the service runs */
	DATA_REPLACE /* alone */
};

struct data {
	struct conf *conf;
	int lock_fd;
};

/* Loads the configuration and goes into the data folder, which must be one; files of the caller's
 * are to be opened before.  ERR_BUSY, with words, if the lock cannot be had; then DATA is as good
 * as with DATA_READ. */
enum err data_open(
    const struct conf_options *options, enum data_use use, struct data *data) MUST_CHECK;
void data_close(struct data *data);

/* ERR_INPUT if FOLDER, a real path, is in the data folder, which we are in: WHAT outlives that, or
 * what is erased there. */
enum err data_outside(const char *folder, const char *what) MUST_CHECK;

/* The ledger, by its writer; ERR_BUSY with words for an operator. */
enum err data_write_ledger(struct db **db) MUST_CHECK;

/* The BODY of an answer with this STATUS, to be read; else the service's words and bad fields, as
 * our own.  To be closed in any case. */
struct jsonr;
struct upload_answer;
enum err service_answer(
    const struct upload_answer *answer, long status, struct jsonr *body) MUST_CHECK;

/* A data set is a database of its own, which one program writes; its name is its schema's. */
struct data_set {
	const char *file; /* in the data folder */
	const char *base; /* in a backup */
	const struct db_schema *schema;
	const struct db_sql *epoch_renew; /* makes it another database than its copies; or NULL */
};

extern const struct data_set data_sets[DATA_SETS];

/* That of accounts is with the store of their images. */
bool data_set_has_blobs(const struct data_set *set);

/* Whether the whole file is sound, which is said on standard error. */
enum err data_verify(struct db *db, const struct data_set *set) MUST_CHECK;

/* Whether every sum is what its events give; ERR_CONFLICT, having said each that is not. */
enum err data_recount(struct db *db) MUST_CHECK;

/* As data_verify(), and data_recount() for events: what a copy must be to be relied on. */
enum err data_check(struct db *db, const struct data_set *set) MUST_CHECK;

/* All but that of stats, in which is nobody. */
bool data_set_has_audit(const struct data_set *set);

/* Whether the audit of the data set, whose last row is HEAD, is as it was recorded, and KNOWN, or
 * NULL, is on it; ERR_CONFLICT with words if not. */
struct audit_head;
enum err data_audit(struct db *db, const struct data_set *set, const struct audit_head *known,
    struct audit_head *head) MUST_CHECK;

/* Whether what was counted agrees; ERR_CONFLICT with words if not. */
enum err data_total(struct db *db, struct counts_totals *totals) MUST_CHECK;

/* At most so many differences are told, each a line. */
#define DATA_TOLD_MAX 100

/* "and 50 more", if COUNT is above that. */
void data_tell_rest(int64_t count);

/* Whether the image is there, and its bytes are those that were stored: ERR_NOT_FOUND, ERR_CONFLICT
 * with words that go behind its key. */
struct account_image;
enum err data_image_check(struct blob *store, const struct account_image *image) MUST_CHECK;

/* What it has answered, ERR, of the image of account ID: one that is not there or not good is told,
 * counted, and no error. */
enum err data_image_told(enum err err, int64_t id, const char *key, int64_t *count) MUST_CHECK;

/* --- What a child does that has become the user; it is killed when we end.  Not after we have
 * opened a database. */

struct deputy {
	pid_t pid;
	int fd;
};

/* WORK's error, and its words, are the child's. */
typedef enum err (*deputy_fn)(void *ctx, int fd);

enum err deputy_start(
    const char *user, deputy_fn work, void *ctx, struct deputy *deputy) MUST_CHECK;

/* In the child: tells who waits for it, and returns once that has let it go. */
enum err deputy_is_ready(int fd) MUST_CHECK;

/* Until the child is ready; if it has ended before, deputy_end() says why. */
enum err deputy_await(struct deputy *deputy) MUST_CHECK;

/* Lets it go, waits for its end, and returns its error.  Always once after deputy_start(). */
enum err deputy_end(struct deputy *deputy) MUST_CHECK;

/* --- A backup is a folder: DIR/SET.db of each data set that it has, and DIR/blobs/KEY of each
 * image that its accounts name.  As long as it also has DIR/.caredesk-incomplete, it is none. */

#define BACKUP_BLOBS "blobs"
#define RESTORE_KEPT "before-restore-" /* in the data folder: what a restore has kept, or left */
#define RESTORE_REMOVED RESTORE_KEPT "removed" /* the name of one that is being removed */
#define RESTORE_BLOBS DATA_DATABASES "/" BACKUP_BLOBS /* while there is a restore, or was one */
#define BACKUP_INCOMPLETE ".caredesk-incomplete"
#define BACKUP_REMOVED ".caredesk-removed" /* one that is being removed */

/* --- Files and folders, copied whole.  OWNER is whom root gives what is made, or NULL. */

#define FILES_PATH_SIZE (4096 + 256)

/* BASE in FOLDER, as PATH, which is returned. */
const char *path_in(const char *folder, const char *base, char path[FILES_PATH_SIZE]);

enum err path_sync(const char *path) MUST_CHECK;

/* Makes the file TO, of all bytes of FROM, on disk; *BYTES is how many. */
enum err file_copy(int from, const char *to, const struct user *owner, struct progress *progress,
    int64_t *bytes) MUST_CHECK;

/* Makes it, for its caller alone, if it is not there. */
enum err folder_make(const char *path) MUST_CHECK;
enum err folder_give(const char *path, const struct user *owner) MUST_CHECK;

/* One of the data folder: for OWNER, and for whoever is in GROUP as MODE says. */
enum err folder_allot(const char *path, uid_t owner, gid_t group, mode_t mode) MUST_CHECK;

/* With all that is in it, and without following links; false if it may be there still. */
bool folder_remove(const char *path);

/* The same under the name ASIDE, on the same file system: killed in the middle, nothing half
 * removed bears the name PATH, nor does what still removes it touch what is made under that name
 * anew. */
void folder_discard(const char *path, const char *aside);

/* The blob KEY into the folder TO; blobs_settle() ends it for all: what is in TO is on disk. */
enum err blobs_copy(struct blob *from, const char *key, const char *to, const struct user *owner,
    int64_t *bytes) MUST_CHECK;
enum err blobs_settle(const char *to, const struct user *owner) MUST_CHECK;

/* --- How far a command is, on standard error: a line that is rewritten on a terminal, else one
 * every few seconds. */

struct progress {
	const char *what; /* is being done */
	const char *unit; /* of what is counted; NULL: only the share is told */
	int64_t total; /* 0: not known */
	int64_t begun_us, shown_us;
	bool terminal, on_line;
};

void progress_begin(struct progress *p, const char *what, const char *unit, int64_t total);

/* P is a struct progress, so that this can be a callback. */
void progress_told(void *p, int64_t done);

void progress_end(struct progress *p);

#endif
