#include "lib/counts.h"

#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/hit.h"
#include "sql.h"

#define APPLICATION_ID 0x63647374 /* "cdst" */
#define HEAD_MAX 4096 /* bytes of a first line that tell it from others */

/* The list of all paths by their counts is sorted whenever it is asked for.  A batch is written in
 * the order of the tables, so that no page is needed twice; what the cache saves, the batch has. */
const struct db_schema counts_schema = { "stats", APPLICATION_ID, sql_stats_schema, true, NULL };

enum err
counts_head(int fd, struct counts_log *log, int64_t *begun_s, bool *is_whole)
{
	char head[HEAD_MAX];
	ssize_t n = pread(fd, head, sizeof(head), 0);
	const char *end = n > 0 ? memchr(head, '\n', (size_t)n) : NULL;
	struct hit hit;

	if (n < 0)
		return fail(ERR_BUSY, "its first line: %m");
	*is_whole = end != NULL || n == HEAD_MAX;
	if (!*is_whole)
		return OK;
	n = end != NULL ? end - head : n;
	*begun_s = hit_parse(head, (size_t)n, &hit) ? hit.at_s : 0;
	digest_of(head, (size_t)n, log->head);
	return OK;
}

bool
counts_is_log(const char *name)
{
	static const char *const compressed[] = { ".gz", ".bz2", ".xz", ".zst", ".lz4", ".Z" };
	const char *end = strrchr(name, '.');

	for (size_t i = 0; i < sizeof(compressed) / sizeof(compressed[0]); i++)
		if (end != NULL && strcmp(end, compressed[i]) == 0)
			return false;
	return strncmp(name, COUNTS_LOG, strlen(COUNTS_LOG)) == 0;
}

enum err
counts_find(struct db *db, struct counts_log *log)
{
	struct db_query q;
	bool found;
	enum err err;

	log->id = log->position = log->seen_at = 0;
	db_query(&q, db, &sql_stats_log_find);
	db_bind_bytes(&q, log->head, sizeof(log->head));
	if ((err = db_next(&q, &found)) == OK && found) {
		log->id = db_int(&q, 0);
		log->position = db_int(&q, 1);
		log->seen_at = db_int(&q, 2);
	}
	db_done(&q);
	return err;
}

static enum err
add_log(struct db *db, const struct counts_log *log, int64_t now_us, int64_t *id)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_stats_log_add);
	db_bind_bytes(&q, log->head, sizeof(log->head));
	db_bind_int(&q, now_us);
	if ((err = db_next(&q, &found)) == OK && found)
		*id = db_int(&q, 0);
	db_done(&q);
	return err;
}

/* A column of state_get.sql. */
static enum err
read_state(struct db *db, int column, int64_t *value)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_stats_state_get);
	if ((err = db_next(&q, &found)) == OK && found)
		*value = db_int(&q, column);
	db_done(&q);
	return err;
}

/* --- Rows going in.  Half of what a statement costs is its beginning and its end, so they take
 * eight rows each where they can. */

#define AT_ONCE 8

/* The rows of one path. */
struct group {
	const struct tally_row *const *rows;
	size_t count;
	int64_t requests;
	int64_t path_id;
};

struct adding {
	struct db *db;
	int64_t paths; /* how many there are; the next one's id is one more */
	bool expect_new; /* as most of the last paths were, for they mostly are alike */
	size_t hour_count; /* rows that wait */
	const struct tally_row *hours[AT_ONCE];
	int64_t path_ids[AT_ONCE];
};

static void
bind_path(struct db_query *q, const struct group *group, int64_t id)
{
	const struct tally_row *first = group->rows[0], *last = group->rows[group->count - 1];

	db_bind_bytes(q, first->path, first->path_n);
	if (id > 0)
		db_bind_int(q, id);
	db_bind_int(q, group->requests);
	db_bind_int(q, first->hour);
	db_bind_int(q, last->hour);
}

/* Its id; 0 where there is none. */
static enum err
find_path(struct db *db, struct group *group)
{
	struct db_query q;
	bool found;
	enum err err;

	group->path_id = 0;
	db_query(&q, db, &sql_stats_path_get);
	db_bind_bytes(&q, group->rows[0]->path, group->rows[0]->path_n);
	if ((err = db_next(&q, &found)) == OK && found)
		group->path_id = db_int(&q, 0);
	db_done(&q);
	return err;
}

static enum err
count_path(struct db *db, const struct group *group)
{
	struct db_query q;

	db_query(&q, db, &sql_stats_path_count);
	bind_path(&q, group, 0);
	return db_run(&q);
}

static enum err
add_path(struct adding *a, struct group *group)
{
	struct db_query q;
	enum err err = find_path(a->db, group);

	if (err != OK)
		return err;
	if (group->path_id > 0)
		return count_path(a->db, group);
	group->path_id = ++a->paths;
	db_query(&q, a->db, &sql_stats_path_insert);
	bind_path(&q, group, group->path_id);
	return db_run(&q);
}

/* Some of the paths were there before, and have not been counted; the others have got ids with gaps
 * between them. */
static enum err
mend_paths(struct adding *a, struct group *groups, int64_t before)
{
	struct db_query q;
	enum err err = OK;

	a->paths = before;
	for (size_t i = 0; i < AT_ONCE && err == OK; i++) {
		struct group *group = &groups[i];

		if ((err = find_path(a->db, group)) == OK && group->path_id <= before) {
			err = count_path(a->db, group);
		} else if (err == OK && group->path_id != ++a->paths) {
			db_query(&q, a->db, &sql_stats_path_set_id);
			db_bind_bytes(&q, group->rows[0]->path, group->rows[0]->path_n);
			db_bind_int(&q, group->path_id = a->paths);
			err = db_run(&q);
		}
	}
	return err;
}

/* That a path is not there yet is found out by inserting it. */
static enum err
insert_paths(struct adding *a, struct group *groups)
{
	int64_t before = a->paths, changes = db_changes(a->db);
	struct db_query q;
	enum err err;

	db_query(&q, a->db, &sql_stats_paths_insert);
	for (size_t i = 0; i < AT_ONCE; i++) {
		groups[i].path_id = ++a->paths;
		bind_path(&q, &groups[i], groups[i].path_id);
	}
	if ((err = db_run(&q)) != OK || db_changes(a->db) - changes == AT_ONCE)
		return err;
	return mend_paths(a, groups, before);
}

static enum err
add_paths(struct adding *a, struct group *groups, size_t n)
{
	int64_t before = a->paths;
	enum err err = OK;

	if (n == AT_ONCE && a->expect_new)
		err = insert_paths(a, groups);
	else
		for (size_t i = 0; i < n && err == OK; i++)
			err = add_path(a, &groups[i]);
	a->expect_new = a->paths - before > (int64_t)n / 2;
	return err;
}

static void
bind_hour(struct db_query *q, const struct tally_row *row, int64_t path_id)
{
	db_bind_int(q, row->hour);
	db_bind_int(q, path_id);
	db_bind_int(q, row->method);
	db_bind_int(q, row->status_class);
	db_bind_int(q, row->count);
	db_bind_int(q, row->bytes);
	db_bind_int(q, row->took_ms);
	db_bind_int(q, row->took_max_ms);
}

/* Those that wait: all at once, or one by one. */
static enum err
add_hours(struct adding *a)
{
	bool at_once = a->hour_count == AT_ONCE;
	struct db_query q;
	enum err err = OK;

	for (size_t i = 0; i < a->hour_count && err == OK; i++) {
		if (i == 0 || !at_once)
			db_query(&q, a->db, at_once ? &sql_stats_hours_add : &sql_stats_hour_add);
		bind_hour(&q, a->hours[i], a->path_ids[i]);
		if (i == AT_ONCE - 1 || !at_once)
			err = db_run(&q);
	}
	a->hour_count = 0;
	return err;
}

static enum err
add_groups(struct adding *a, struct group *groups, size_t n)
{
	enum err err = add_paths(a, groups, n);

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < groups[i].count && err == OK; k++) {
			a->hours[a->hour_count] = groups[i].rows[k];
			a->path_ids[a->hour_count] = groups[i].path_id;
			if (++a->hour_count == AT_ONCE)
				err = add_hours(a);
		}
	return err;
}

/* The next groups of ROWS, at most AT_ONCE; returns how many. */
static size_t
take_groups(const struct tally_row *const *rows, size_t count, struct group *groups)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		if (i == 0 || rows[i]->path != rows[i - 1]->path) {
			if (n == AT_ONCE)
				break;
			groups[n++] = (struct group){ .rows = rows + i };
		}
		groups[n - 1].count++;
		groups[n - 1].requests += rows[i]->count;
	}
	return n;
}

static enum err
add_rows(struct db *db, struct tally *tally)
{
	struct group groups[AT_ONCE];
	struct adding adding = { .db = db };
	struct db_query q;
	size_t count, n;
	enum err err = read_state(db, 1, &adding.paths);
	const struct tally_row *const *rows = tally_rows(tally, &count), *const *end = rows + count;

	while (rows < end && err == OK) {
		n = take_groups(rows, (size_t)(end - rows), groups);
		rows = groups[n - 1].rows + groups[n - 1].count;
		err = add_groups(&adding, groups, n);
	}
	if (err == OK)
		err = add_hours(&adding);
	if (err != OK)
		return err;
	db_query(&q, db, &sql_stats_state_add);
	db_bind_int(&q, tally_count(tally));
	db_bind_int(&q, adding.paths);
	return db_run(&q);
}

static enum err
keep_damaged(struct db *db, const struct counts_batch *batch, int64_t log_id)
{
	struct db_query q;
	enum err err = OK;

	for (size_t i = 0; i < batch->damaged_kept && err == OK; i++) {
		db_query(&q, db, &sql_stats_damaged_add);
		db_bind_int(&q, log_id);
		db_bind_int(&q, batch->damaged[i].position);
		db_bind_bytes(&q, batch->damaged[i].line, batch->damaged[i].n);
		err = db_run(&q);
	}
	if (err != OK || batch->damaged_kept == 0)
		return err;
	db_query(&q, db, &sql_stats_damaged_trim);
	db_bind_int(&q, COUNTS_DAMAGED_MAX);
	return db_run(&q);
}

static enum err
move_log(struct db *db, int64_t log_id, int64_t position, int64_t lines, int64_t damaged)
{
	struct db_query q;

	db_query(&q, db, &sql_stats_log_move);
	db_bind_int(&q, log_id);
	db_bind_int(&q, position);
	db_bind_int(&q, lines);
	db_bind_int(&q, damaged);
	db_bind_int(&q, clock_now_us());
	return db_run(&q);
}

/* A batch in the writer's transaction. */
struct change {
	const struct counts_batch *batch;
	int64_t log_id;
};

static enum err
make_batch(struct db *db, void *arg)
{
	struct change *change = arg;
	const struct counts_batch *batch = change->batch;
	struct counts_log stored = *batch->log;
	enum err err = counts_find(db, &stored);

	if (err == OK && stored.position != batch->log->position)
		err = fail(ERR_PRECONDITION, "this part of the log was taken in before");
	if (err == OK && stored.id == 0)
		err = add_log(db, batch->log, clock_now_us(), &stored.id);
	if (err == OK)
		err = add_rows(db, batch->tally);
	if (err == OK)
		err = keep_damaged(db, batch, stored.id);
	change->log_id = stored.id;
	return err != OK
	    ? err
	    : move_log(db, stored.id, batch->position, batch->lines, batch->damaged_count);
}

enum err
counts_store(struct commit *commit, struct counts_batch *batch)
{
	struct change change = { .batch = batch };
	enum err err = commit_run_alone(commit, make_batch, &change);

	if (err != OK)
		return err;
	batch->log->id = change.log_id;
	batch->log->position = batch->position;
	return OK;
}

struct cut {
	int64_t log_id, position;
};

static enum err
make_cut(struct db *db, void *arg)
{
	const struct cut *cut = arg;

	return move_log(db, cut->log_id, cut->position, 0, 0);
}

enum err
counts_cut(struct commit *commit, struct counts_log *log, int64_t position)
{
	struct cut cut = { log->id, position };
	enum err err = commit_run(commit, make_cut, &cut);

	if (err == OK)
		log->position = position;
	return err;
}

/* --- Thinning. */

enum err
counts_kept_from(struct db *db, int64_t *hour)
{
	*hour = 0;
	return read_state(db, 3, hour);
}

static enum err
keep_from(struct db *db, int64_t hour)
{
	struct db_query q;

	db_query(&q, db, &sql_stats_state_keep_from);
	db_bind_int(&q, hour);
	return db_run(&q);
}

static enum err
find_oldest(struct db *db, int64_t before_hour, int64_t *hour, bool *found)
{
	struct db_query q;
	enum err err;

	db_query(&q, db, &sql_stats_hours_oldest);
	db_bind_int(&q, before_hour);
	if ((err = db_next(&q, found)) == OK && *found)
		*hour = db_int(&q, 0);
	db_done(&q);
	return err;
}

static enum err
remove_rows(struct db *db, int64_t hour)
{
	struct db_query q;

	db_query(&q, db, &sql_stats_hours_remove);
	db_bind_int(&q, hour);
	db_bind_int(&q, COUNTS_THIN_ROWS);
	return db_run(&q);
}

struct thinning {
	int64_t before_hour;
	bool more;
};

/* The bound moves before, or with, the first row, so that nobody sees half an hour. */
static enum err
make_thinner(struct db *db, void *arg)
{
	struct thinning *thinning = arg;
	int64_t kept_from, hour = 0;
	enum err err = counts_kept_from(db, &kept_from);

	if (err == OK && thinning->before_hour > kept_from) {
		kept_from = thinning->before_hour;
		err = keep_from(db, kept_from);
	}
	if (err == OK)
		err = find_oldest(db, kept_from, &hour, &thinning->more);
	return err == OK && thinning->more ? remove_rows(db, hour) : err;
}

enum err
counts_thin(struct commit *commit, int64_t before_hour, bool *more)
{
	struct thinning thinning = { .before_hour = before_hour };
	enum err err = commit_run_alone(commit, make_thinner, &thinning);

	*more = thinning.more;
	return err;
}

enum err
counts_total(struct db *db, struct counts_totals *totals)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_stats_recount);
	if ((err = db_next(&q, &found)) == OK && found)
		*totals = (struct counts_totals){ db_int(&q, 0), db_int(&q, 1), db_int(&q, 2),
			db_int(&q, 3), db_int(&q, 4) };
	db_done(&q);
	return err;
}
