/*
 * audio: hearing-test sessions, the data set of audios, DATA/db/audios.db; and their JSON, in and
 * out.
 *
 * A session is known by the number that its client gave it.  Ticks are decimals, and stay so: they
 * are stored as whole numbers of 10^-AUDIO_SCALE, which for -100..-10 is 17 digits, so that what
 * comes out is what went in, and no double is involved.  More digits are rounded to the nearest,
 * exact halves to even; bounds are those of the number as it was written.
 *
 * Changes run inside a transaction of the writer (commit.h).  Times are microseconds since 1970.
 * Any thread.
 */
#ifndef CAREDESK_AUDIO_H
#define CAREDESK_AUDIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/db.h"
#include "lib/err.h"
#include "lib/etag.h"
#include "lib/jsonr.h"
#include "lib/jsonw.h"
#include "lib/page.h"

#define AUDIO_FILE "db/audios.db"
#define AUDIO_TICKS 15
#define AUDIO_SCALE 15
#define AUDIO_UNIT INT64_C(1000000000000000) /* 10^AUDIO_SCALE */
#define AUDIO_STEP_MAX 9
#define AUDIO_NONE (-1) /* no session, no filter */

extern const struct db_schema audio_schema;

struct audio {
	int64_t id; /* the order of creation; never used again */
	int64_t session_id;
	int64_t selected_tick, step_count;
	int64_t created_at_us, updated_at_us;
	int64_t ticks[AUDIO_TICKS];
};

/* What a client may set.  AUDIO->session_id is AUDIO_NONE where BODY must have it; else that of the
 * address, which BODY may repeat.  What is wrong is a bad field, told by err_pending(). */
void audio_read(const struct jsonr *body, struct audio *audio);

void audio_write(struct jsonw *w, const struct audio *audio);

/* Of this version of this session. */
void audio_etag(const struct audio *audio, char etag[ETAG_MAX]);

/* Stores AUDIO and fills in its id and times.  ERR_CONFLICT if its session_id is taken. */
enum err audio_add(struct db *db, int64_t now_us, struct audio *audio) MUST_CHECK;

/* ERR_NOT_FOUND. */
enum err audio_get(struct db *db, int64_t session_id, struct audio *audio) MUST_CHECK;

/* Puts AUDIO, of the same session, in the place of OLD, as it was got in this transaction, and
 * fills in its id and times. */
enum err audio_replace(
    struct db *db, const struct audio *old, int64_t now_us, struct audio *audio) MUST_CHECK;
enum err audio_delete(struct db *db, const struct audio *audio) MUST_CHECK;

/* Which sessions a list shows: those that fit all of these; AUDIO_NONE is no filter. */
struct audio_filter {
	int64_t session_id, selected_tick, step_count;
};

/* The page in the order of creation; AUDIOS has room for PAGE->limit + 1 of them.  *MORE: another
 * page follows. */
enum err audio_list(struct db *db, const struct audio_filter *filter, const struct page *page,
    struct audio *audios, size_t *count, bool *more) MUST_CHECK;

#endif
