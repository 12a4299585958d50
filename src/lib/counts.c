#include "lib/counts.h"

#include "lib/clock.h"
#include "sql.h"

#define APPLICATION_ID 0x63647374 /* "cdst" */

/* The list of all paths by their counts is sorted whenever it is asked for. */
const struct db_schema counts_schema = { "stats", APPLICATION_ID, sql_stats_schema, true };

enum err
counts_find(struct db *db, struct counts_log *log)
{
	struct db_query q;
	bool found;
	enum err err;

	log->id = log->position = 0;
	db_query(&q, db, &sql_stats_log_find);
	db_bind_bytes(&q, log->head, sizeof(log->head));
	if ((err = db_next(&q, &found)) == OK && found) {
		log->id = db_int(&q, 0);
		log->position = db_int(&q, 1);
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

static enum err
path_count(struct db *db, int64_t *count)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_stats_state_get);
	if ((err = db_next(&q, &found)) == OK && found)
		*count = db_int(&q, 1);
	db_done(&q);
	return err;
}

/* The rows of one path. */
struct group {
	const struct tally_row *const *rows;
	size_t count;
};

/* 0 where there is none. */
static enum err
find_path(struct db *db, const struct tally_row *row, int64_t *id)
{
	struct db_query q;
	bool found;
	enum err err;

	*id = 0;
	db_query(&q, db, &sql_stats_path_get);
	db_bind_bytes(&q, row->path, row->path_n);
	if ((err = db_next(&q, &found)) == OK && found)
		*id = db_int(&q, 0);
	db_done(&q);
	return err;
}

/* *PATHS is how many there are; a new one gets the next id. */
static enum err
add_path(struct db *db, const struct group *group, int64_t *paths, int64_t *id)
{
	const struct tally_row *first = group->rows[0], *last = group->rows[group->count - 1];
	int64_t count = 0;
	struct db_query q;
	enum err err = find_path(db, first, id);
	bool is_new = *id == 0;

	if (err != OK)
		return err;
	if (is_new)
		*id = ++*paths;
	for (size_t i = 0; i < group->count; i++)
		count += group->rows[i]->count;
	db_query(&q, db, is_new ? &sql_stats_path_insert : &sql_stats_path_count);
	db_bind_bytes(&q, first->path, first->path_n);
	if (is_new)
		db_bind_int(&q, *id);
	db_bind_int(&q, count);
	db_bind_int(&q, first->hour);
	db_bind_int(&q, last->hour);
	return db_run(&q);
}

static enum err
add_hour(struct db *db, const struct tally_row *row, int64_t path_id)
{
	struct db_query q;

	db_query(&q, db, &sql_stats_hour_add);
	db_bind_int(&q, row->hour);
	db_bind_int(&q, path_id);
	db_bind_int(&q, row->method);
	db_bind_int(&q, row->status_class);
	db_bind_int(&q, row->count);
	db_bind_int(&q, row->bytes);
	db_bind_int(&q, row->took_ms);
	db_bind_int(&q, row->took_max_ms);
	return db_run(&q);
}

static enum err
add_group(struct db *db, const struct group *group, int64_t *paths)
{
	int64_t id = 0;
	enum err err = add_path(db, group, paths, &id);

	for (size_t i = 0; i < group->count && err == OK; i++)
		err = add_hour(db, group->rows[i], id);
	return err;
}

static enum err
add_rows(struct db *db, struct tally *tally)
{
	struct group group = { .rows = NULL };
	struct db_query q;
	int64_t paths = 0;
	size_t count;
	enum err err = path_count(db, &paths);
	const struct tally_row *const *rows = tally_rows(tally, &count);

	for (size_t i = 0; i < count && err == OK; i += group.count) {
		group = (struct group){ rows + i, 1 };
		while (i + group.count < count && rows[i + group.count]->path == rows[i]->path)
			group.count++;
		err = add_group(db, &group, &paths);
	}
	if (err != OK)
		return err;
	db_query(&q, db, &sql_stats_state_add);
	db_bind_int(&q, tally_count(tally));
	db_bind_int(&q, paths);
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
move_log(struct db *db, const struct counts_batch *batch, int64_t log_id, int64_t now_us)
{
	struct db_query q;

	db_query(&q, db, &sql_stats_log_move);
	db_bind_int(&q, log_id);
	db_bind_int(&q, batch->position);
	db_bind_int(&q, batch->lines);
	db_bind_int(&q, batch->damaged_count);
	db_bind_int(&q, now_us);
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
	int64_t now_us = clock_now_us();
	enum err err = OK;

	change->log_id = batch->log->id;
	if (change->log_id == 0)
		err = add_log(db, batch->log, now_us, &change->log_id);
	if (err == OK)
		err = add_rows(db, batch->tally);
	if (err == OK)
		err = keep_damaged(db, batch, change->log_id);
	return err != OK ? err : move_log(db, batch, change->log_id, now_us);
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
