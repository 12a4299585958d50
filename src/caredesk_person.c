/*
 * caredesk person: all that is stored of one person, given out as files or erased (person.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caredesk.h"
#include "lib/account.h"
#include "lib/blob.h"
#include "lib/clock.h"
#include "lib/commit.h"
#include "lib/jsonr.h"
#include "lib/jsonw.h"
#include "lib/person.h"
#include "lib/programs.h"
#include "lib/text.h"
#include "lib/upload.h"
#include "lib/user.h"

#define URL_FORMAT "http://localhost/private/accounts/%" PRId64 "/%s"
#define INCOMPLETE ".incomplete"
#define COPY_BYTES (64 * 1024)
#define IMAGE_TRIES 10

/* What a restore may have left in the data folder, of before. */
static const struct {
	const char *pattern, *what;
} left[] = {
	{ RESTORE_KEPT "*/accounts.db", "which a restore has kept" },
	{ RESTORE_KEPT "*/" BACKUP_BLOBS, "which a restore has kept" },
	{ RESTORE_REMOVED, "which a restore was removing as it was killed" },
	{ RESTORE_BLOBS, "which a restore that was killed has left: start caredesk run once" },
};

static const char *const images[] = { ".jpg", ".png" };
static const char *const members[] = { "account.json", "answers.json", "README.txt", "image.jpg",
	"image.png" };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char readme[] =
    "This is all that caredesk holds of one person.\n"
    "\n"
    "account.json   the account: name, mail address, postal address, when it was made and last\n"
    "               changed, how many changes there were (version), and which file is its image;\n"
    "               none if the account was deleted\n"
    "image.*        the image, if there is one, as it is stored\n"
    "answers.json   answers that showed the account and are kept, about a day long, for clients\n"
    "               that repeat a request; such a client gave a key of its own choosing with it\n"
    "\n"
    "Nothing else names the person. Sessions of hearing tests bear the number of a session,\n"
    "events that of a caregiver; neither is tied to an account. The access log and the\n"
    "statistics have the paths of requests, such as /accounts/7, with times and counts, but\n"
    "nothing of what was sent or answered. The audit has who read, changed or gave out which\n"
    "account and when, by its number: caredesk audit list --person ID. Whoever signs in with a\n"
    "mail address as a name is in it by that name for what they did themselves. Backups may hold\n"
    "what was there when they were made.\n";

/* An account's id. */
static enum err
read_id(const char *text, int64_t *id)
{
	if (text_uint(text, strlen(text), id) && *id > 0)
		return OK;
	return fail(ERR_INPUT, "%s: is no id of an account", text);
}

static enum err
read_accounts(struct db **db)
{
	enum err err = db_open(ACCOUNT_FILE, DB_READ, &account_schema, db);

	return err == OK ? OK : fail(err, ACCOUNT_FILE ": %s", err_words());
}

/* Through nginx's private socket.  *ANSWER is yours, also after an error. */
static enum err
ask_service(int64_t id, const char *what, struct upload_answer **answer)
{
	char url[sizeof(URL_FORMAT) + TEXT_INT_SIZE + 8];
	const struct upload upload = {
		.url = url, .socket = HTTP_SOCKET, .type = "application/json", .key = "", .fd = -1
	};

	if ((*answer = malloc(sizeof(**answer))) == NULL)
		return fail(ERR_BUSY, "no memory for an answer");
	(void)snprintf(url, sizeof(url), URL_FORMAT, id, what);
	return upload_send(&upload, *answer);
}

/* --- export: the folder. */

/* It is made beside, under another name, and bears its own once it is whole. */
struct target {
	char name[NAME_MAX + 1], incomplete[NAME_MAX + 1]; /* in the parent */
	char parent[PATH_MAX];
	int parent_fd;
	int fd; /* -1 before it is made; locked, so that two of that name are not made at once */
};

/* PATH is relative to where the caller stands: before data_open(). */
static enum err
open_target(const char *path, struct target *target)
{
	char parent[PATH_MAX];
	struct stat st;
	size_t n = strlen(path), begin;

	target->fd = target->parent_fd = -1;
	while (n > 0 && path[n - 1] == '/')
		n--;
	for (begin = n; begin > 0 && path[begin - 1] != '/';)
		begin--;
	if (n == begin || n - begin > NAME_MAX - strlen(INCOMPLETE) || begin >= sizeof(parent))
		return fail(ERR_INPUT, "%.200s: cannot be made", path);
	(void)snprintf(target->name, sizeof(target->name), "%.*s", (int)(n - begin), path + begin);
	(void)snprintf(target->incomplete, sizeof(target->incomplete), "%.*s" INCOMPLETE,
	    (int)(n - begin), path + begin);
	(void)snprintf(
	    parent, sizeof(parent), "%.*s", begin > 0 ? (int)begin : 1, begin > 0 ? path : ".");
	target->parent_fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (target->parent_fd < 0 || realpath(parent, target->parent) == NULL)
		return fail(ERR_INPUT, "%s: %m", parent);
	if (fstatat(target->parent_fd, target->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return fail(ERR_CONFLICT, "%s: is there already, and is not written over", path);
	return OK;
}

static void
remove_members(const struct target *target)
{
	for (size_t i = 0; i < COUNT(members); i++)
		(void)unlinkat(target->fd, members[i], 0);
}

/* What is there already may be another's, who would read, or change, what is put into it. */
static enum err
check_own(const struct target *target)
{
	struct stat st;

	if (fstat(target->fd, &st) == 0 && st.st_uid == geteuid() &&
	    (st.st_mode & (S_IWGRP | S_IWOTH)) == 0)
		return OK;
	return fail(ERR_CONFLICT, "%s/%s: is there already, and not a folder of yours alone",
	    target->parent, target->incomplete);
}

static void
leave_folder(struct target *target)
{
	(void)close(target->fd);
	target->fd = -1;
}

static enum err
make_folder(struct target *target)
{
	enum err err;

	if (mkdirat(target->parent_fd, target->incomplete, 0700) != 0 && errno != EEXIST)
		return fail(ERR_INPUT, "%s/%s: %m", target->parent, target->incomplete);
	target->fd = openat(
	    target->parent_fd, target->incomplete, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (target->fd < 0)
		return fail(ERR_INPUT, "%s/%s: %m", target->parent, target->incomplete);
	if ((err = check_own(target)) != OK) {
		leave_folder(target);
		return err;
	}
	if (flock(target->fd, LOCK_EX | LOCK_NB) != 0 || fchmod(target->fd, 0700) != 0) {
		leave_folder(target);
		return fail(ERR_BUSY, "%s: is being made by another", target->name);
	}
	remove_members(target); /* of one that was killed */
	return OK;
}

static void
forget_folder(const struct target *target)
{
	if (target->fd < 0)
		return;
	remove_members(target);
	(void)unlinkat(target->parent_fd, target->incomplete, AT_REMOVEDIR);
}

static enum err
name_folder(const struct target *target)
{
	if (fsync(target->fd) != 0 ||
	    renameat2(target->parent_fd, target->incomplete, target->parent_fd, target->name,
		RENAME_NOREPLACE) != 0 ||
	    fsync(target->parent_fd) != 0)
		return fail(ERR_BUSY, "%s/%s: %m", target->parent, target->name);
	return OK;
}

static void
close_target(const struct target *target)
{
	if (target->fd >= 0)
		(void)close(target->fd);
	if (target->parent_fd >= 0)
		(void)close(target->parent_fd);
}

/* --- export: the files. */

static enum err
open_member(const struct target *target, const char *name, FILE **out)
{
	int fd =
	    openat(target->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	*out = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (*out != NULL)
		return OK;
	if (fd >= 0)
		(void)close(fd);
	return fail(ERR_BUSY, "%s: %m", name);
}

/* On disk, if ERR is OK. */
static enum err
close_member(const char *name, FILE *out, enum err err)
{
	bool whole = fflush(out) == 0 && fsync(fileno(out)) == 0;

	whole = fclose(out) == 0 && whole;
	return err == OK && !whole ? fail(ERR_BUSY, "%s: %m", name) : err;
}

static enum err
put_bytes(void *out, const char *bytes, size_t n)
{
	return fwrite(bytes, 1, n, out) == n ? OK : fail(ERR_BUSY, "cannot be written: %m");
}

/* The account as it was read, with its texts of our own; one that was deleted has no more than an
 * id, and answers that show it. */
struct person {
	bool is_deleted;
	struct account account;
	struct db *db; /* in a snapshot */
	int image_fd; /* -1: none */
	const char *image; /* its file; NULL: none */
	const struct target *target;
};

static void
put_optional(struct jsonw *w, const char *name, const char *text)
{
	if (text != NULL && text[0] != '\0')
		jsonw_string(w, name, text);
	else
		jsonw_null(w, name);
}

static enum err
write_account(void *ctx, const struct account *account)
{
	const struct person *person = ctx;
	const struct account_text *texts = account->texts;
	struct jsonw w;
	FILE *out;
	enum err err = open_member(person->target, "account.json", &out);

	if (err != OK)
		return err;
	jsonw_open(&w, put_bytes, out);
	jsonw_object_begin(&w, NULL);
	jsonw_int(&w, "id", account->id);
	for (int i = 0; i < ACCOUNT_FIELDS; i++)
		jsonw_string_n(&w, account_names[i], texts[i].s, texts[i].n);
	put_optional(&w, "image", person->image);
	jsonw_time(&w, "created_at", account->created_at_us);
	jsonw_time(&w, "updated_at", account->updated_at_us);
	jsonw_int(&w, "version", account->version);
	jsonw_object_end(&w);
	return close_member("account.json", out, jsonw_close(&w));
}

static enum err
put_answer(void *ctx, const struct person_answer *answer)
{
	struct jsonw *w = ctx;

	jsonw_object_begin(w, NULL);
	jsonw_time(w, "created_at", answer->created_at_us);
	jsonw_bool(w, "key_of_client", true);
	jsonw_int(w, "status", answer->status);
	put_optional(w, "location", answer->location);
	put_optional(w, "etag", answer->etag);
	if (answer->n > 0)
		jsonw_json(w, "body", answer->body, answer->n);
	else
		jsonw_null(w, "body");
	jsonw_object_end(w);
	return w->err;
}

static enum err
write_answers(const struct person *person)
{
	struct jsonw w;
	FILE *out;
	enum err err = open_member(person->target, "answers.json", &out), own;

	if (err != OK)
		return err;
	jsonw_open(&w, put_bytes, out);
	jsonw_array_begin(&w, NULL);
	err = person_answers(person->db, person->account.id, put_answer, &w);
	jsonw_array_end(&w);
	if (err == OK && (own = jsonw_close(&w)) != OK)
		err = own;
	return close_member("answers.json", out, err);
}

static enum err
write_image(const struct person *person)
{
	char bytes[COPY_BYTES];
	ssize_t n = 1;
	FILE *out;
	enum err err;

	if (person->image == NULL)
		return OK;
	if ((err = open_member(person->target, person->image, &out)) != OK)
		return err;
	while (err == OK && n > 0)
		if ((n = read(person->image_fd, bytes, sizeof(bytes))) > 0)
			err = put_bytes(out, bytes, (size_t)n);
	if (err == OK && n < 0)
		err = fail(ERR_BUSY, "the image cannot be read: %m");
	return close_member(person->image, out, err);
}

static enum err
write_readme(const struct person *person)
{
	FILE *out;
	enum err err = open_member(person->target, "README.txt", &out);

	if (err == OK)
		err = close_member("README.txt", out, put_bytes(out, readme, strlen(readme)));
	return err;
}

static enum err
open_image(struct person *person)
{
	const char *key = person->account.image_key;
	struct blob *blobs;
	int64_t bytes;
	enum err err;

	if (key[0] == '\0')
		return OK;
	for (size_t i = 0; i < COUNT(images); i++)
		if (text_ends_with(key, images[i]))
			person->image = members[COUNT(members) - COUNT(images) + i];
	if (person->image == NULL)
		return fail(ERR_INTERNAL, "the image is of no kind that is known");
	if ((err = blob_open(ACCOUNT_BLOBS, &blobs)) == OK)
		err = blob_get(blobs, key, &person->image_fd, &bytes);
	blob_close(blobs);
	return err;
}

static enum err
find_person(int64_t id, struct person *person)
{
	int64_t ignored;
	enum err err = account_find(person->db, id, &person->account);

	person->is_deleted = err == ERR_NOT_FOUND;
	if (!person->is_deleted)
		return err;
	person->account.id = id;
	person->account.image_key[0] = '\0';
	return person_find(person->db, id, &ignored);
}

/* A snapshot with its image open.  One that is replaced before it is opened is gone: then the next
 * snapshot has another. */
static enum err
open_person(int64_t id, struct person *person)
{
	enum err err;

	if ((err = read_accounts(&person->db)) != OK)
		return err;
	for (int tries = 1;; tries++) {
		person->image = NULL;
		if ((err = db_begin(person->db)) != OK || (err = find_person(id, person)) != OK ||
		    (err = open_image(person)) != ERR_NOT_FOUND)
			return err;
		if (tries == IMAGE_TRIES)
			return fail(
			    ERR_INTERNAL, "the image of account %" PRId64 " is missing", id);
		db_rollback(person->db);
	}
}

static enum err
export_person(int64_t id, struct target *target)
{
	struct person person = { .image_fd = -1, .target = target };
	enum err err = open_person(id, &person);

	if (err == OK && (err = make_folder(target)) == OK &&
	    (person.is_deleted ||
		(err = account_get(person.db, id, &scope_all, write_account, &person)) == OK) &&
	    (err = write_answers(&person)) == OK && (err = write_image(&person)) == OK &&
	    (err = write_readme(&person)) == OK)
		err = name_folder(target);
	if (err != OK)
		forget_folder(target);
	else
		(void)printf("%s/%s: all that is stored of person %" PRId64 "\n", target->parent,
		    target->name, id);
	if (person.image_fd >= 0)
		(void)close(person.image_fd);
	db_close(person.db);
	return err;
}

/* --- export: its row in the audit, before it begins. */

static enum err
record_directly(void *ctx, int fd)
{
	struct commit *commit;
	enum err err = commit_open(ACCOUNT_FILE, &account_schema, &commit);

	(void)fd;
	if (err != OK)
		return err;
	err = person_exported(commit, *(const int64_t *)ctx);
	commit_close(commit);
	return err;
}

/* By a child that is the user, since we stay who we are. */
static enum err
record_as_user(const char *user, int64_t id)
{
	struct deputy deputy;
	enum err err = deputy_start(user, record_directly, &id, &deputy);

	return err != OK ? err : deputy_end(&deputy);
}

/* The answer is {"id": 7}. */
static enum err
record_by_service(int64_t id)
{
	struct upload_answer *answer;
	struct jsonr body;
	enum err err = ask_service(id, "export", &answer);

	if (err == OK) {
		err = service_answer(answer, 200, &body);
		jsonr_close(&body);
	}
	free(answer);
	return err;
}

/* Stays who it is: the files are the caller's. */
enum err
caredesk_person_export(const struct caredesk_options *options)
{
	struct target target = { .fd = -1, .parent_fd = -1 };
	struct data data = { .lock_fd = -1 };
	char name[32];
	int64_t id;
	bool runs;
	enum err err;

	if ((err = read_id(options->argument, &id)) != OK)
		return err;
	(void)snprintf(name, sizeof(name), "person-%" PRId64, id);
	if ((err = open_target(options->second != NULL ? options->second : name, &target)) == OK) {
		err = data_open(&options->conf, DATA_WRITE, &data);
		runs = err == ERR_BUSY;
		if ((err == OK || runs) &&
		    (err = data_outside(target.parent, "what is exported")) == OK &&
		    (err = runs ? record_by_service(id) : record_as_user(data.conf->user, id)) ==
			OK)
			err = export_person(id, &target);
	}
	close_target(&target);
	data_close(&data);
	return err;
}

/* --- erase. */

static enum err
ask(int64_t id, int64_t created_at_us, bool yes)
{
	char time[CLOCK_TEXT_SIZE], answer[8];

	if (yes)
		return OK;
	if (isatty(STDIN_FILENO) == 0)
		return fail(ERR_INPUT,
		    "nothing was erased: this cannot be undone, and nobody is here to be asked; "
		    "with --yes it is done without asking");
	clock_text(created_at_us, time);
	(void)printf("Account %" PRId64 ", made at %s, is to be erased. This cannot be undone.\n"
		     "Type yes to do it: ",
	    id, time);
	(void)fflush(stdout);
	if (fgets(answer, sizeof(answer), stdin) != NULL && strcmp(answer, "yes\n") == 0)
		return OK;
	return fail(ERR_INPUT, "nothing was erased");
}

static enum err
erase_directly(int64_t id, struct person_erased *erased)
{
	struct commit *commit = NULL;
	struct blob *blobs = NULL;
	enum err err;

	if ((err = blob_open(ACCOUNT_BLOBS, &blobs)) == OK &&
	    (err = commit_open(ACCOUNT_FILE, &account_schema, &commit)) == OK)
		err = person_erase(commit, blobs, id, erased);
	commit_close(commit);
	blob_close(blobs);
	return err;
}

static enum err
take_result(const struct upload_answer *answer, struct person_erased *erased)
{
	struct jsonr body;
	enum err err = service_answer(answer, 200, &body);

	if (err == OK) {
		jsonr_int(&body, "accounts", 0, 1, &erased->accounts);
		jsonr_int(&body, "images", 0, 1, &erased->images);
		jsonr_int(&body, "answers", 0, INT64_MAX, &erased->answers);
		err = err_pending();
	}
	jsonr_close(&body);
	return err;
}

static enum err
erase_by_service(int64_t id, struct person_erased *erased)
{
	struct upload_answer *answer;
	enum err err = ask_service(id, "erase", &answer);

	if (err == OK)
		err = take_result(answer, erased);
	if (err == ERR_UPSTREAM)
		err = fail(err, "it is not known whether all was erased: run it again (%.300s)",
		    err_words());
	free(answer);
	return err;
}

/* What no command reaches, or should. */
static void
tell_others(void)
{
	glob_t found;

	(void)printf(
	    "what may still hold it: backups, and folders of person export, made before\n");
	for (size_t i = 0; i < COUNT(left); i++) {
		found = (glob_t){ 0 };
		if (glob(left[i].pattern, 0, NULL, &found) == 0)
			for (size_t k = 0; k < found.gl_pathc; k++)
				(void)printf("what may still hold it: %s, %s\n", found.gl_pathv[k],
				    left[i].what);
		globfree(&found);
	}
}

static void
tell_erased(int64_t id, const struct person_erased *erased)
{
	if (erased->accounts == 0 && erased->answers == 0)
		(void)printf("person %" PRId64 " was erased before", id);
	else if (erased->accounts == 0)
		(void)printf("person %" PRId64 " was deleted before, and is erased: %" PRId64
			     " answer%s kept for retries",
		    id, erased->answers, erased->answers == 1 ? "" : "s");
	else
		(void)printf("person %" PRId64 " is erased: the account, %" PRId64
			     " image%s, %" PRId64 " answer%s kept for retries",
		    id, erased->images, erased->images == 1 ? "" : "s", erased->answers,
		    erased->answers == 1 ? "" : "s");
	(void)printf("; nothing of it is left in accounts.db\n");
	tell_others();
}

static enum err
find_and_ask(int64_t id, bool yes)
{
	int64_t created_at_us;
	struct db *db = NULL;
	enum err err = read_accounts(&db);

	if (err == OK)
		err = person_find(db, id, &created_at_us);
	db_close(db);
	return err == OK ? ask(id, created_at_us, yes) : err;
}

enum err
caredesk_person_erase(const struct caredesk_options *options)
{
	struct person_erased erased = { 0 };
	struct data data = { .lock_fd = -1 };
	int64_t id;
	bool runs;
	enum err err;

	if ((err = read_id(options->argument, &id)) != OK)
		return err;
	err = data_open(&options->conf, DATA_WRITE, &data);
	runs = err == ERR_BUSY;
	if ((err == OK || runs) && (err = user_become(data.conf->user)) == OK &&
	    (err = find_and_ask(id, options->yes)) == OK)
		err = runs ? erase_by_service(id, &erased) : erase_directly(id, &erased);
	if (err == OK)
		tell_erased(id, &erased);
	data_close(&data);
	return err;
}
