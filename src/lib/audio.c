#include "lib/audio.h"

#include <stdio.h>

#include "sql.h"

#define APPLICATION_ID 0x63646175 /* "cdau" */

const struct db_schema audio_schema = { "audios", APPLICATION_ID, sql_audios_schema, false, NULL };

/* --- JSON. */

static void
read_session(const struct jsonr *body, struct audio *audio)
{
	int64_t given = audio->session_id;

	if (audio->session_id == AUDIO_NONE) {
		jsonr_int(body, "session_id", 0, INT64_MAX, &audio->session_id);
		return;
	}
	if (jsonr_has(body, "session_id"))
		jsonr_int(body, "session_id", 0, INT64_MAX, &given);
	if (given != audio->session_id)
		(void)fail_field("#/session_id", "must be that of the address");
}

void
audio_read(const struct jsonr *body, struct audio *audio)
{
	read_session(body, audio);
	jsonr_decimals(body, "ticks", AUDIO_SCALE, -100 * AUDIO_UNIT, -10 * AUDIO_UNIT, AUDIO_TICKS,
	    audio->ticks);
	jsonr_int(body, "selected_tick", 0, AUDIO_TICKS - 1, &audio->selected_tick);
	jsonr_int(body, "step_count", 0, AUDIO_STEP_MAX, &audio->step_count);
}

void
audio_write(struct jsonw *w, const struct audio *audio)
{
	jsonw_object_begin(w, NULL);
	jsonw_int(w, "session_id", audio->session_id);
	jsonw_array_begin(w, "ticks");
	for (size_t i = 0; i < AUDIO_TICKS; i++)
		jsonw_decimal(w, NULL, audio->ticks[i], AUDIO_SCALE);
	jsonw_array_end(w);
	jsonw_int(w, "selected_tick", audio->selected_tick);
	jsonw_int(w, "step_count", audio->step_count);
	jsonw_time(w, "created_at", audio->created_at_us);
	jsonw_time(w, "updated_at", audio->updated_at_us);
	jsonw_object_end(w);
}

void
audio_etag(const struct audio *audio, char etag[ETAG_MAX])
{
	(void)snprintf(
	    etag, ETAG_MAX, "\"%lld-%lld\"", (long long)audio->id, (long long)audio->updated_at_us);
}

/* --- The database. */

static void
bind_ticks(struct db_query *q, const struct audio *audio)
{
	for (size_t i = 0; i < AUDIO_TICKS; i++)
		db_bind_int(q, audio->ticks[i]);
}

static void
take_audio(const struct db_query *q, struct audio *audio)
{
	*audio = (struct audio){ db_int(q, 0), db_int(q, 1), db_int(q, 2), db_int(q, 3),
		db_int(q, 4), db_int(q, 5), { 0 } };
	for (int i = 0; i < AUDIO_TICKS; i++)
		audio->ticks[i] = db_int(q, 6 + i);
}

enum err
audio_add(struct db *db, int64_t now_us, struct audio *audio)
{
	struct db_query q;
	bool found;
	enum err err;

	audio->created_at_us = audio->updated_at_us = now_us;
	db_query(&q, db, &sql_audios_audio_insert);
	db_bind_int(&q, audio->session_id);
	db_bind_int(&q, audio->selected_tick);
	db_bind_int(&q, audio->step_count);
	db_bind_int(&q, audio->created_at_us);
	db_bind_int(&q, audio->updated_at_us);
	bind_ticks(&q, audio);
	if ((err = db_next(&q, &found)) == OK && found)
		audio->id = db_int(&q, 0);
	db_done(&q);
	if (err == OK && !found)
		err = fail(
		    ERR_CONFLICT, "there is a session %lld already", (long long)audio->session_id);
	return err;
}

enum err
audio_get(struct db *db, int64_t session_id, struct audio *audio)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_audios_audio_get);
	db_bind_int(&q, session_id);
	if ((err = db_next(&q, &found)) == OK && found)
		take_audio(&q, audio);
	db_done(&q);
	if (err == OK && !found)
		err = fail(ERR_NOT_FOUND, "there is no session %lld", (long long)session_id);
	return err;
}

enum err
audio_replace(struct db *db, const struct audio *old, int64_t now_us, struct audio *audio)
{
	struct db_query q;

	audio->id = old->id;
	audio->created_at_us = old->created_at_us;
	/* Also where the clock went back: no two versions have the same. */
	audio->updated_at_us = now_us > old->updated_at_us ? now_us : old->updated_at_us + 1;
	db_query(&q, db, &sql_audios_audio_update);
	db_bind_int(&q, audio->id);
	db_bind_int(&q, audio->selected_tick);
	db_bind_int(&q, audio->step_count);
	db_bind_int(&q, audio->updated_at_us);
	bind_ticks(&q, audio);
	return db_run(&q);
}

enum err
audio_delete(struct db *db, const struct audio *audio)
{
	struct db_query q;

	db_query(&q, db, &sql_audios_audio_delete);
	db_bind_int(&q, audio->id);
	return db_run(&q);
}

/* --- The list. */

/* By the filters on ticks and steps; a session is one row at most. */
static const struct db_sql *const lists[2][2] = {
	{ &sql_audios_audios_list, &sql_audios_audios_list_by_step },
	{ &sql_audios_audios_list_by_tick, &sql_audios_audios_list_by_tick_and_step },
};

static const struct db_sql *
list_for(const struct audio_filter *filter)
{
	if (filter->session_id != AUDIO_NONE)
		return &sql_audios_audios_list_by_session;
	return lists[filter->selected_tick != AUDIO_NONE][filter->step_count != AUDIO_NONE];
}

static void
bind_filter(struct db_query *q, int64_t value)
{
	if (value == AUDIO_NONE)
		db_bind_null(q);
	else
		db_bind_int(q, value);
}

enum err
audio_list(struct db *db, const struct audio_filter *filter, const struct page *page,
    struct audio *audios, size_t *count, bool *more)
{
	size_t wanted = (size_t)page->limit;
	struct db_query q;
	bool found;
	enum err err;

	*count = 0;
	db_query(&q, db, list_for(filter));
	db_bind_int(&q, page->after);
	db_bind_int(&q, page->limit + 1);
	bind_filter(&q, filter->session_id);
	bind_filter(&q, filter->selected_tick);
	bind_filter(&q, filter->step_count);
	while ((err = db_next(&q, &found)) == OK && found)
		take_audio(&q, &audios[(*count)++]);
	db_done(&q);
	*more = err == OK && *count > wanted;
	if (*more)
		*count = wanted;
	return err;
}
