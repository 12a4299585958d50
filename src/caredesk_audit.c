/*
 * caredesk audit: who did what, out of all data sets; and whether it is as it was recorded
 * (audit.h).  Both only read, also while the service runs.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "caredesk.h"
#include "lib/audit.h"
#include "lib/buffer.h"
#include "lib/clock.h"
#include "lib/jsonw.h"
#include "lib/text.h"

#define DIGEST_HEX (2 * DIGEST_BYTES)

bool
data_set_has_audit(const struct data_set *set)
{
	return set->schema != &counts_schema;
}

enum err
data_audit(struct db *db, const struct data_set *set, const struct audit_head *known,
    struct audit_head *head)
{
	char what[32];
	struct progress progress;
	enum err err = audit_last(db, head);

	if (err != OK)
		return err;
	(void)snprintf(what, sizeof(what), "the audit of %s", set->schema->name);
	progress_begin(&progress, what, "rows", head->seq);
	err = audit_verify(db, known, progress_told, &progress, head);
	progress_end(&progress);
	return err;
}

/* Those that are asked for, each once; *LOOKED at. */
static enum err
for_each(const char *name, enum err (*each)(void *ctx, const struct data_set *set), void *ctx)
{
	int looked = 0;
	enum err err = OK;

	for (size_t i = 0; i < DATA_SETS && err == OK; i++) {
		if (!data_set_has_audit(&data_sets[i]) ||
		    (name != NULL && strcmp(name, data_sets[i].schema->name) != 0))
			continue;
		looked++;
		err = each(ctx, &data_sets[i]);
	}
	if (looked == 0)
		return fail(ERR_INPUT, "there is no audit of %s: accounts, audios or events", name);
	return err;
}

/* *DB is NULL where there is none yet. */
static enum err
open_set(const struct data_set *set, struct db **db)
{
	enum err err;

	*db = NULL;
	if (db_is_lost(set->file))
		return fail(ERR_CONFLICT, "%s is gone", set->file);
	if (access(set->file, F_OK) != 0)
		return OK;
	err = db_open(set->file, DB_READ, set->schema, db);
	return err == OK ? OK : fail(err, "%s: %s", set->file, err_words());
}

/* --- verify. */

struct known {
	const struct data_set *set;
	struct audit_head head;
};

struct verifying {
	struct known known[DATA_SETS];
	size_t count;
	int bad;
};

/* SET:SEQ:DIGEST */
static enum err
read_head(const char *text, struct known *known)
{
	const char *colon = strchr(text, ':'), *second;

	second = colon != NULL ? strchr(colon + 1, ':') : NULL;
	for (size_t i = 0; i < DATA_SETS && second != NULL; i++) {
		const char *name = data_sets[i].schema->name;
		size_t n = (size_t)(colon - text);

		if (!data_set_has_audit(&data_sets[i]) || strlen(name) != n ||
		    memcmp(name, text, n) != 0)
			continue;
		known->set = &data_sets[i];
		if (text_uint(colon + 1, (size_t)(second - colon - 1), &known->head.seq) &&
		    strlen(second + 1) == DIGEST_HEX &&
		    text_hex(second + 1, DIGEST_BYTES, known->head.chain))
			return OK;
	}
	return fail(ERR_INPUT, "--head must be SET:SEQ:DIGEST as audit verify has printed it");
}

static const struct audit_head *
find_known(const struct verifying *v, const struct data_set *set)
{
	for (size_t i = 0; i < v->count; i++)
		if (v->known[i].set == set)
			return &v->known[i].head;
	return NULL;
}

static void
tell_head(const struct data_set *set, const struct audit_head *head)
{
	char hex[DIGEST_HEX + 1];

	text_to_hex(head->chain, DIGEST_BYTES, hex);
	(void)printf("%s: %" PRId64 " row%s, all as recorded; head %s:%" PRId64 ":%s\n",
	    set->schema->name, head->seq, head->seq == 1 ? "" : "s", set->schema->name, head->seq,
	    hex);
}

/* Each is looked at whatever was found of those before. */
static enum err
verify_set(void *ctx, const struct data_set *set)
{
	struct verifying *v = ctx;
	const struct audit_head *known = find_known(v, set);
	struct audit_head head;
	struct db *db;
	enum err err = open_set(set, &db);

	if (err == OK && db != NULL)
		err = data_audit(db, set, known, &head);
	else if (err == OK && known != NULL)
		err = fail(ERR_CONFLICT, "is not there, and a head was given");
	if (err != OK) {
		(void)printf("%s: %s\n", set->schema->name, err_words());
		v->bad++;
		err_clear();
	} else if (db != NULL) {
		tell_head(set, &head);
	} else {
		(void)printf("%s: not there yet\n", set->schema->name);
	}
	db_close(db);
	return OK;
}

/* A head of a data set that is not looked at would prove nothing. */
static enum err
check_heads(const struct verifying *v, const char *name)
{
	for (size_t i = 0; i < v->count; i++) {
		if (find_known(v, v->known[i].set) != &v->known[i].head)
			return fail(ERR_INPUT, "two heads of %s", v->known[i].set->schema->name);
		if (name != NULL && strcmp(name, v->known[i].set->schema->name) != 0)
			return fail(ERR_INPUT, "a head of %s, which is not to be looked at",
			    v->known[i].set->schema->name);
	}
	return OK;
}

enum err
caredesk_audit_verify(const struct caredesk_options *options)
{
	struct verifying v = { .count = options->audit.head_count };
	struct data data = { .lock_fd = -1 };
	enum err err = OK;

	for (size_t i = 0; i < v.count && err == OK; i++)
		err = read_head(options->audit.heads[i], &v.known[i]);
	if (err == OK && (err = check_heads(&v, options->audit.set)) == OK &&
	    (err = data_open(&options->conf, DATA_READ, &data)) == OK &&
	    (err = user_become(data.conf->user)) == OK)
		err = for_each(options->audit.set, verify_set, &v);
	if (err == OK && v.bad > 0)
		err = fail(ERR_CONFLICT, "the audit of %d data set%s is not right", v.bad,
		    v.bad == 1 ? "" : "s");
	data_close(&data);
	return err;
}

/* --- list. */

/* A row with its texts of our own. */
struct line {
	const struct data_set *set;
	struct audit_row row;
	char *who, *what, *detail; /* NULL where there is none */
};

struct listing {
	struct audit_filter filter;
	int64_t most;
	const struct data_set *set; /* being read */
	struct line *lines;
	size_t count, room;
};

static enum err
copy_text(const char *text, char **copy)
{
	*copy = text != NULL ? strdup(text) : NULL;
	return text == NULL || *copy != NULL ? OK : fail(ERR_BUSY, "no memory for a list");
}

static enum err
keep_row(void *ctx, const struct audit_row *row)
{
	struct listing *l = ctx;
	struct line *line;
	void *grown;
	enum err err;

	if ((grown = buffer_grow(l->lines, &l->room, l->count + 1, sizeof(l->lines[0]))) == NULL)
		return fail(ERR_BUSY, "no memory for a list");
	l->lines = grown;
	line = &l->lines[l->count++];
	*line = (struct line){ .set = l->set, .row = *row };
	if ((err = copy_text(row->who, &line->who)) != OK ||
	    (err = copy_text(row->what, &line->what)) != OK)
		return err;
	return copy_text(row->detail, &line->detail);
}

static enum err
list_set(void *ctx, const struct data_set *set)
{
	struct listing *l = ctx;
	struct db *db;
	enum err err = open_set(set, &db);

	l->set = set;
	if (err == OK && db != NULL)
		err = audit_list(db, &l->filter, l->most, keep_row, l);
	db_close(db);
	return err;
}

/* By time. */
static int
compare(const void *one, const void *other)
{
	const struct line *a = one, *b = other;

	if (a->row.at_us != b->row.at_us)
		return a->row.at_us < b->row.at_us ? -1 : 1;
	if (a->set != b->set)
		return a->set < b->set ? -1 : 1;
	return a->row.seq < b->row.seq ? -1 : 1;
}

static enum err
put_bytes(void *out, const char *bytes, size_t n)
{
	return fwrite(bytes, 1, n, out) == n ? OK : fail(ERR_BUSY, "cannot be written: %m");
}

static void
put_optional(struct jsonw *w, const char *name, const char *text)
{
	if (text != NULL)
		jsonw_string(w, name, text);
	else
		jsonw_null(w, name);
}

static enum err
print_json(const struct line *line, const char *time)
{
	struct jsonw w;
	enum err err;

	jsonw_open(&w, put_bytes, stdout);
	jsonw_object_begin(&w, NULL);
	jsonw_string(&w, "set", line->set->schema->name);
	jsonw_int(&w, "seq", line->row.seq);
	jsonw_string(&w, "at", time);
	put_optional(&w, "actor", line->who);
	jsonw_string(&w, "what", line->what);
	jsonw_int(&w, "subject", line->row.subject);
	if (line->detail != NULL)
		jsonw_json(&w, "detail", line->detail, strlen(line->detail));
	else
		jsonw_null(&w, "detail");
	jsonw_object_end(&w);
	if ((err = jsonw_close(&w)) == OK)
		(void)printf("\n");
	return err;
}

static enum err
print_line(const struct line *line, bool json)
{
	char time[CLOCK_TEXT_SIZE];

	clock_text(line->row.at_us, time);
	if (json)
		return print_json(line, time);
	(void)printf("%s\t%s:%" PRId64 "\t%s\t%s\t%" PRId64 "%s%s\n", time, line->set->schema->name,
	    line->row.seq, line->who != NULL ? line->who : "(erased)", line->what,
	    line->row.subject, line->detail != NULL ? "\t" : "",
	    line->detail != NULL ? line->detail : "");
	return OK;
}

static enum err
print_all(struct listing *l, bool json)
{
	size_t most = (size_t)l->most, begin = l->count > most ? l->count - most : 0;
	enum err err = OK;

	if (l->count > 0)
		qsort(l->lines, l->count, sizeof(l->lines[0]), compare);
	for (size_t i = begin; i < l->count && err == OK; i++)
		err = print_line(&l->lines[i], json);
	return err;
}

static void
free_lines(struct listing *l)
{
	for (size_t i = 0; i < l->count; i++) {
		free(l->lines[i].who);
		free(l->lines[i].what);
		free(l->lines[i].detail);
	}
	free(l->lines);
}

enum err
caredesk_audit_list(const struct caredesk_options *options)
{
	struct listing l = {
		.filter = { options->audit.since_us, options->audit.until_us, options->audit.who,
		    options->audit.noun, options->audit.subject },
		.most = options->audit.most,
	};
	struct data data = { .lock_fd = -1 };
	enum err err = data_open(&options->conf, DATA_READ, &data);

	if (err == OK && (err = user_become(data.conf->user)) == OK &&
	    (err = for_each(options->audit.set, list_set, &l)) == OK)
		err = print_all(&l, options->audit.json);
	free_lines(&l);
	data_close(&data);
	return err;
}
