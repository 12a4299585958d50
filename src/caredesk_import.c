/*
 * caredesk import: the events of a file, all or none.  While the service runs they go to its
 * writer, through nginx's private socket; else straight into the ledger.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caredesk.h"
#include "lib/bulk.h"
#include "lib/clock.h"
#include "lib/jsonr.h"
#include "lib/ledger.h"
#include "lib/programs.h"
#include "lib/text.h"
#include "lib/upload.h"
#include "lib/user.h"

#define READ_BYTES (256 * 1024)
#define URL "http://localhost/events"
#define TYPE "application/x-ndjson"
#define LINE_PREFIX "line "
#define KEY_BYTES 16
#define KEY_SIZE (2 * KEY_BYTES + 1)

struct import {
	const char *name;
	int fd;
	int64_t bytes; /* from where it stands; 0 if it is no file but a stream */
	struct progress progress;
	int64_t count; /* of events that were imported */
	bool sent; /* all of it: the service may have imported it, whatever it says or does not */
	bool is_retry;
	char key[KEY_SIZE]; /* by which the service knows a retry */
};

static enum err
open_file(const char *name, struct import *import)
{
	struct stat st;
	off_t at;

	import->name = strcmp(name, "-") == 0 ? "standard input" : name;
	import->fd = strcmp(name, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
					    : open(name, O_RDONLY | O_CLOEXEC);
	if (import->fd < 0 || fstat(import->fd, &st) != 0)
		return fail(ERR_INPUT, "%s: %m", import->name);
	if (S_ISDIR(st.st_mode))
		return fail(ERR_INPUT, "%s: is a folder", import->name);
	at = S_ISREG(st.st_mode) ? lseek(import->fd, 0, SEEK_CUR) : -1;
	import->bytes = at >= 0 && at < st.st_size ? st.st_size - at : 0;
	return OK;
}

/* All that is left to read, piece by piece. */
static enum err
read_all(struct import *import, enum err (*take)(void *ctx, const char *bytes, size_t n), void *ctx)
{
	char *bytes = malloc(READ_BYTES);
	int64_t all = 0;
	ssize_t n = 1;
	enum err err = bytes != NULL ? OK : fail(ERR_BUSY, "no memory for an import");

	progress_begin(&import->progress, "reading", "bytes", import->bytes);
	while (err == OK && n != 0) {
		if ((n = read(import->fd, bytes, READ_BYTES)) > 0)
			err = take(ctx, bytes, (size_t)n);
		else if (n < 0 && errno != EINTR)
			err = fail(ERR_INPUT, "%m");
		all += n > 0 ? n : 0;
		progress_told(&import->progress, all);
	}
	progress_end(&import->progress);
	free(bytes);
	return err;
}

/* --- Straight into the ledger. */

static enum err
take_lines(void *bulk, const char *bytes, size_t n)
{
	return bulk_add(bulk, bytes, n);
}

static enum err
write_lines(struct import *import, struct db *db, struct bulk *bulk)
{
	const struct audit_actor actor = { OPERATOR, clock_now_us() };
	enum err err = db_begin(db);

	if (err != OK)
		return err;
	progress_begin(&import->progress, "writing", "events", bulk_count(bulk));
	if ((err = bulk_write(bulk, db, &actor, progress_told, &import->progress)) == OK)
		err = db_commit(db);
	else
		db_rollback(db);
	progress_end(&import->progress);
	import->count = bulk_count(bulk);
	return err;
}

/* The operator is not bound by the entry window. */
static enum err
import_directly(struct import *import)
{
	struct bulk *bulk = NULL;
	struct db *db;
	enum err err = data_write_ledger(&db);

	if (err == OK && (err = bulk_open(DATA_DATABASES, &scope_all, INT64_MIN, &bulk)) == OK &&
	    (err = read_all(import, take_lines, bulk)) == OK && (err = bulk_end(bulk)) == OK)
		err = write_lines(import, db, bulk);
	bulk_close(bulk);
	db_close(db);
	return err;
}

/* --- To the service. */

static enum err
take_copy(void *fd, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t some = write(*(int *)fd, bytes, n);

		if (some < 0 && errno != EINTR)
			return fail(ERR_BUSY, "a copy of it cannot be written: %m");
		bytes += some > 0 ? some : 0;
		n -= some > 0 ? (size_t)some : 0;
	}
	return OK;
}

/* The service is told beforehand how much comes, and waits for nobody: so what is not in a file is
 * gathered in a nameless one. */
static enum err
gather(struct import *import)
{
	int copy = open(DATA_DATABASES, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct stat st;
	enum err err;

	if (copy < 0)
		return fail(ERR_BUSY, "there is no room for a copy of it: %m");
	err = read_all(import, take_copy, &copy);
	if (err == OK && (fstat(copy, &st) != 0 || lseek(copy, 0, SEEK_SET) != 0))
		err = fail(ERR_BUSY, "a copy of it cannot be read: %m");
	if (err != OK) {
		(void)close(copy);
		return err;
	}
	(void)close(import->fd);
	import->fd = copy;
	import->bytes = st.st_size;
	return OK;
}

static const char *
text_of(const struct jsonr *body, const char *name)
{
	const char *text = "";
	size_t n;

	if (jsonr_has(body, name))
		jsonr_string(body, name, 0, JSONR_STRING_MAX, &text, &n);
	return text;
}

static enum err
service_problem(const struct upload_answer *answer, const struct jsonr *body)
{
	struct jsonr item;

	err_clear();
	for (size_t i = 0; jsonr_item(body, "errors", i, &item); i++)
		(void)fail_field(text_of(&item, "pointer"), "%s", text_of(&item, "detail"));
	/* Of a 502 or 504 nginx is the maker: its program may have done all or nothing. */
	return fail(answer->status == 502 || answer->status == 504 ? ERR_UPSTREAM : ERR_INPUT,
	    "the service answers %ld: %s", answer->status, text_of(body, "detail"));
}

enum err
service_answer(const struct upload_answer *answer, long status, struct jsonr *body)
{
	if (jsonr_parse(answer->body, answer->n, body) != OK)
		return fail(
		    ERR_UPSTREAM, "the service answers %ld, which tells nothing", answer->status);
	return answer->status == status ? OK : service_problem(answer, body);
}

static enum err
take_result(struct import *import, const struct upload_answer *answer)
{
	struct jsonr body;
	enum err err = service_answer(answer, 201, &body);

	if (err == OK) {
		jsonr_int(&body, "created", 0, INT64_MAX, &import->count);
		err = err_pending();
	}
	jsonr_close(&body);
	return err;
}

static volatile sig_atomic_t interrupted;

static void
interrupt(int signal)
{
	(void)signal;
	interrupted = 1;
}

/* Whoever ends this command must still be told what may have been done. */
static void
catch_interrupts(void)
{
	const struct sigaction action = { .sa_handler = interrupt };

	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	(void)sigaction(SIGHUP, &action, NULL);
}

static bool
tell_sent(void *ctx, int64_t bytes)
{
	struct import *import = ctx;

	import->sent = bytes >= import->bytes;
	if (!import->sent)
		progress_told(&import->progress, bytes);
	else
		progress_end(&import->progress); /* now the service works, and tells nothing */
	return interrupted == 0;
}

static enum err
import_by_service(struct import *import)
{
	struct upload_answer *answer = malloc(sizeof(*answer));
	struct upload upload = {
		.url = URL,
		.socket = HTTP_SOCKET,
		.type = TYPE,
		.key = import->key,
		.told = tell_sent,
		.ctx = import,
	};
	enum err err = OK;

	if (answer == NULL)
		return fail(ERR_BUSY, "no memory for an answer");
	if (import->bytes == 0)
		err = gather(import);
	upload.fd = import->fd;
	upload.bytes = import->bytes;
	catch_interrupts();
	progress_begin(&import->progress, "sending", "bytes", import->bytes);
	if (err == OK && (err = upload_send(&upload, answer)) == OK)
		err = take_result(import, answer);
	progress_end(&import->progress);
	free(answer);
	return err;
}

/* Bad fields as a person looks for them: "line 7" instead of "#/type_id", which comes after. */
static void
name_lines(void)
{
	struct err_state state;
	char detail[sizeof(state.fields[0].detail)];

	err_save(&state);
	for (size_t i = 0; i < state.field_count && i < ERR_FIELDS_MAX; i++) {
		struct err_field *field = &state.fields[i];
		const char *name = field->pointer + strspn(field->pointer, "#/");
		size_t n = strcspn(field->detail, ":");

		if (strncmp(field->detail, LINE_PREFIX, strlen(LINE_PREFIX)) != 0 ||
		    n >= sizeof(field->pointer))
			continue;
		(void)snprintf(detail, sizeof(detail), "%.60s%s%s", name,
		    name[0] != '\0' ? ":" : "", field->detail + n + 1 + (name[0] == '\0'));
		(void)snprintf(
		    field->pointer, sizeof(field->pointer), "%.*s", (int)n, field->detail);
		memcpy(field->detail, detail, sizeof(detail));
	}
	err_restore(&state);
}

static enum err
tell_failure(const struct import *import, enum err err)
{
	/* Of a retry, the attempt before may be under way still, or done. */
	bool unknown = (import->sent && err == ERR_UPSTREAM) || import->is_retry;
	enum err bad;

	if (interrupted != 0 && err == ERR_UPSTREAM)
		err = fail(err, "interrupted");
	if (unknown)
		return fail(err,
		    "%s: it is not known whether this was imported: %s; to try again without "
		    "doing it twice, within 24 hours and while the service runs: "
		    "caredesk import FILE --retry %s",
		    import->name, err_words(), import->key);
	name_lines();
	bad = err_pending();
	return fail(
	    bad != OK ? bad : err, "%s: nothing was imported: %s", import->name, err_words());
}

/* A new one, or that of an attempt before. */
static enum err
make_key(const char *retry, char key[KEY_SIZE])
{
	unsigned char bytes[KEY_BYTES];

	if (retry != NULL && (strlen(retry) != KEY_SIZE - 1 || !text_hex(retry, KEY_BYTES, bytes)))
		return fail(ERR_INPUT, "--retry must be what an import before has said");
	if (retry == NULL && getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return fail(ERR_BUSY, "no random bytes: %m");
	text_to_hex(bytes, sizeof(bytes), key);
	return OK;
}

static enum err
warn_of_none(const struct import *import)
{
	return import->count > 0 ? OK
				 : fail(ERR_INPUT, "%s: there is no event in it", import->name);
}

enum err
caredesk_import(const struct caredesk_options *options)
{
	struct import import = { .fd = -1 };
	struct data data = { .lock_fd = -1 };
	bool runs;
	enum err err;

	if ((err = open_file(options->argument, &import)) != OK ||
	    (err = make_key(options->retry, import.key)) != OK)
		goto done;
	err = data_open(&options->conf, DATA_WRITE, &data);
	runs = err == ERR_BUSY;
	import.is_retry = options->retry != NULL;
	if (!runs && options->retry != NULL && err == OK)
		err =
		    fail(ERR_INPUT, "--retry needs the service, which knows what it did: start it");
	if ((err != OK && !runs) || (err = user_become(data.conf->user)) != OK)
		goto done;
	err = runs ? import_by_service(&import) : import_directly(&import);
	if (err == OK && (err = warn_of_none(&import)) != OK)
		goto done;
	if (err == OK)
		(void)printf("imported %" PRId64 " events\n", import.count);
	else
		err = tell_failure(&import, err);
done:
	if (import.fd >= 0)
		(void)close(import.fd);
	data_close(&data);
	return err;
}
