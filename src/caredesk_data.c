/*
 * caredesk_data: the data folder and its databases, as the operator's commands use them; migrate
 * and recount.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caredesk.h"
#include "lib/account.h"
#include "lib/audio.h"
#include "lib/clock.h"
#include "lib/counts.h"
#include "lib/ledger.h"
#include "lib/log.h"
#include "lib/user.h"
#include "sql.h"

/* Clients know a version of what is in accounts and audios by its time, too; no copy needs to be
 * told from another there. */
const struct data_set data_sets[DATA_SETS] = {
	{ ACCOUNT_FILE, "accounts.db", &account_schema, NULL },
	{ AUDIO_FILE, "audios.db", &audio_schema, NULL },
	{ LEDGER_FILE, "events.db", &ledger_schema, &sql_events_epoch_renew },
	{ COUNTS_FILE, "stats.db", &counts_schema, &sql_stats_epoch_renew },
};

bool
data_set_has_blobs(const struct data_set *set)
{
	return set->schema == &account_schema;
}

/* --- The folder. */

static enum err
go_there(const char *name)
{
	if (chdir(name) == 0 && access(DATA_LOCK, F_OK) == 0 && access(DATA_DATABASES, F_OK) == 0)
		return OK;
	if (errno == ENOENT)
		return fail(ERR_INPUT, "there is no data folder %s: start caredesk run once", name);
	return fail(ERR_INPUT, "data folder %s: %m", name);
}

static enum err
take_lock(const char *name, enum data_use use, int *fd)
{
	int how = use == DATA_REPLACE ? LOCK_EX : LOCK_SH;

	if (use == DATA_READ)
		return OK;
	if ((*fd = open(DATA_LOCK, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0)
		return fail(ERR_INPUT, "data folder %s: its lock: %m", name);
	if (flock(*fd, how | LOCK_NB) == 0)
		return OK;
	return fail(ERR_BUSY, "%s runs on data folder %s: stop it first",
	    use == DATA_REPLACE ? "caredesk run, or another command," : "caredesk run", name);
}

enum err
data_open(const struct conf_options *options, enum data_use use, struct data *data)
{
	enum err err;

	*data = (struct data){ .lock_fd = -1 };
	log_plain();
	if ((err = conf_load(options, &data->conf)) != OK)
		return err;
	(void)umask(0077);
	if ((err = go_there(data->conf->data)) == OK)
		err = take_lock(data->conf->data, use, &data->lock_fd);
	return err;
}

void
data_close(struct data *data)
{
	if (data->lock_fd >= 0)
		(void)close(data->lock_fd);
	conf_close(data->conf);
}

enum err
data_outside(const char *folder, const char *what)
{
	char data[PATH_MAX];
	size_t n;

	if (getcwd(data, sizeof(data)) == NULL)
		return fail(ERR_BUSY, "the data folder: %m");
	n = strlen(data);
	if (strncmp(folder, data, n) != 0 || (folder[n] != '/' && folder[n] != '\0'))
		return OK;
	return fail(ERR_INPUT, "%s is in the data folder: %s belongs elsewhere", folder, what);
}

enum err
data_write_ledger(struct db **db)
{
	enum err err = db_open(LEDGER_FILE, DB_WRITE, &ledger_schema, db);

	return err == OK ? OK : fail(err, LEDGER_FILE ": %s", err_words());
}

/* --- migrate. */

/* The program that writes it has migrated it as it started, or cannot. */
static enum err
tell_versions(const char *file, const struct db_schema *schema)
{
	int has, knows;
	enum err err = db_versions(file, schema, &has, &knows);

	if (err != OK)
		return err;
	if (has != knows)
		return fail(ERR_BUSY,
		    "%s: is at version %d of %d, and in use: stop caredesk run first", file, has,
		    knows);
	(void)printf("%s: version %d, up to date; the service runs\n", file, has);
	return OK;
}

static enum err
migrate(const char *file, const struct db_schema *schema, bool in_use)
{
	int had, has, knows;
	struct db *db;
	enum err err;

	if (in_use)
		return tell_versions(file, schema);
	if ((err = db_versions(file, schema, &had, &knows)) == OK &&
	    (err = db_open(file, DB_WRITE, schema, &db)) == OK) {
		db_close(db);
		err = db_versions(file, schema, &has, &knows);
	}
	if (err != OK)
		return fail(err, "%s: %s", file, err_words());
	if (had == has)
		(void)printf("%s: version %d, up to date\n", file, has);
	else
		(void)printf("%s: from version %d to version %d\n", file, had, has);
	return OK;
}

enum err
caredesk_migrate(const struct caredesk_options *options)
{
	struct data data;
	enum err err = data_open(&options->conf, DATA_WRITE, &data);
	bool in_use = err == ERR_BUSY;

	if (err == OK || in_use)
		err = user_become(data.conf->user);
	for (size_t i = 0; i < DATA_SETS && err == OK; i++)
		err = migrate(data_sets[i].file, data_sets[i].schema, in_use);
	data_close(&data);
	return err;
}

/* --- recount. */

static enum err
tell_difference(void *ctx, const struct ledger_sum *stored, const struct ledger_sum *counted)
{
	int64_t *count = ctx;

	if (++*count > DATA_TOLD_MAX)
		return OK;
	(void)printf("%04" PRId64 "-%02" PRId64 " caregiver %" PRId64 ": stored %" PRId64
		     " cents open in %" PRId64 " events, %" PRId64 " reimbursed in %" PRId64
		     "; counted %" PRId64 " in %" PRId64 ", %" PRId64 " in %" PRId64 "\n",
	    counted->month / 12, counted->month % 12 + 1, counted->caregiver_id, stored->open_cents,
	    stored->open_events, stored->reimbursed_cents, stored->reimbursed_events,
	    counted->open_cents, counted->open_events, counted->reimbursed_cents,
	    counted->reimbursed_events);
	return OK;
}

enum err
data_verify(struct db *db, const struct data_set *set)
{
	(void)fprintf(stderr, "checking the whole of %s\n", set->base);
	return db_verify(db);
}

void
data_tell_rest(int64_t count)
{
	if (count > DATA_TOLD_MAX)
		(void)printf("and %" PRId64 " more\n", count - DATA_TOLD_MAX);
}

enum err
data_image_told(enum err err, int64_t id, const char *key, int64_t *count)
{
	if (err != ERR_NOT_FOUND && err != ERR_CONFLICT)
		return err;
	if (++*count <= DATA_TOLD_MAX)
		(void)printf("the image %s of account %" PRId64 " %s%s\n", key, id, err_words(),
		    err == ERR_NOT_FOUND ? "; its link answers 404" : "");
	err_clear();
	return OK;
}

enum err
data_recount(struct db *db)
{
	int64_t count = 0;
	enum err err = ledger_recount(db, tell_difference, &count);

	if (err != OK || count == 0)
		return err;
	data_tell_rest(count);
	return fail(ERR_CONFLICT, "%" PRId64 " sums are not what their events give", count);
}

/* A recount reads one index; that it says the same as the events themselves is known by the rest.
 */
enum err
data_check(struct db *db, const struct data_set *set)
{
	enum err err = data_verify(db, set);

	return err == OK && set->schema == &ledger_schema ? data_recount(db) : err;
}

static const struct data_set *
find_set(const struct db_schema *schema)
{
	const struct data_set *set = data_sets;

	while (set->schema != schema)
		set++;
	return set;
}

static enum err
repair(struct db *db)
{
	const struct audit_actor actor = { OPERATOR, clock_now_us() };
	int64_t repaired;
	enum err err;

	if ((err = data_verify(db, find_set(&ledger_schema))) != OK || (err = db_begin(db)) != OK)
		return err;
	if ((err = ledger_repair(db, &actor, &repaired)) == OK)
		err = db_commit(db);
	else
		db_rollback(db);
	if (err == OK)
		(void)printf("%" PRId64 " sums repaired\n", repaired);
	return err;
}

static enum err
recount_events(const struct caredesk_options *options)
{
	struct db *db = NULL;
	enum err err;

	if (options->repair) {
		if ((err = data_write_ledger(&db)) == OK)
			err = repair(db);
	} else if ((err = db_open(LEDGER_FILE, DB_READ, &ledger_schema, &db)) == OK) {
		err = data_check(db, find_set(&ledger_schema));
	}
	if (err == OK)
		(void)printf("all sums are what their events give\n");
	else if (err == ERR_CONFLICT && !options->repair)
		err = fail(err, "%s; caredesk recount --repair mends them", err_words());
	db_close(db);
	return err;
}

enum err
data_total(struct db *db, struct counts_totals *t)
{
	enum err err = counts_total(db, t);

	if (err != OK ||
	    (t->total == t->of_paths && t->total == t->of_lines && t->paths == t->highest_id))
		return err;
	return fail(ERR_CONFLICT,
	    COUNTS_FILE ": %" PRId64 " requests in all, %" PRId64 " by path, %" PRId64
			" lines of the log; %" PRId64 " paths, of which the last has the "
			"number %" PRId64,
	    t->total, t->of_paths, t->of_lines, t->paths, t->highest_id);
}

static enum err
recount_stats(const struct caredesk_options *options)
{
	struct counts_totals t;
	struct db *db = NULL;
	enum err err;

	if (options->repair)
		return fail(ERR_INPUT, "what is counted from the log cannot be repaired");
	if ((err = db_open(COUNTS_FILE, DB_READ, &counts_schema, &db)) != OK)
		return err;
	if ((err = data_verify(db, find_set(&counts_schema))) == OK &&
	    (err = data_total(db, &t)) == OK)
		(void)printf("%" PRId64 " requests of %" PRId64
			     " paths: as many as lines of the log\n",
		    t.total, t.paths);
	db_close(db);
	return err;
}

static const struct {
	const char *name;
	enum err (*recount)(const struct caredesk_options *options);
} recounts[] = { { "events", recount_events }, { "stats", recount_stats } };

/* Of events, where nothing is named. */
static enum err
recount_named(const struct caredesk_options *options)
{
	const char *name = options->argument != NULL ? options->argument : "events";

	for (size_t i = 0; i < sizeof(recounts) / sizeof(recounts[0]); i++)
		if (strcmp(recounts[i].name, name) == 0)
			return recounts[i].recount(options);
	return fail(ERR_INPUT, "there is no data set %s: events or stats", name);
}

enum err
caredesk_recount(const struct caredesk_options *options)
{
	struct data data;
	enum err err = data_open(&options->conf, options->repair ? DATA_WRITE : DATA_READ, &data);

	if (err == OK && (err = user_become(data.conf->user)) == OK)
		err = recount_named(options);
	data_close(&data);
	return err;
}
