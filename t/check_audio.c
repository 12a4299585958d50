#include "data_set.h"

#include <stdio.h>

#include "lib/audio.h"

#define FOURTEEN "-10,-11,-12,-13,-14,-15,-16,-17,-18,-19,-20,-21,-22,-23"
#define ROWS 400

static void
begin(void)
{
	folder_begin();
	ck_assert_msg(db_open(AUDIO_FILE, DB_WRITE, &audio_schema, &db) == OK, "%s", err_words());
}

/* --- JSON. */

static struct {
	char text[2048];
	size_t n;
} written;

static enum err
take(void *ctx, const char *bytes, size_t n)
{
	(void)ctx;
	ck_assert_uint_lt(written.n + n, sizeof(written.text));
	memcpy(written.text + written.n, bytes, n);
	written.n += n;
	written.text[written.n] = '\0';
	return OK;
}

static const char *
write_audio(const struct audio *audio)
{
	struct jsonw w;

	written.n = 0;
	jsonw_open(&w, take, NULL);
	audio_write(&w, audio);
	ck_assert_int_eq(jsonw_close(&w), OK);
	return written.text;
}

/* Reads a body; how many fields of it are bad. */
static size_t
read_text(const char *text, int64_t session_id, struct audio *audio)
{
	struct jsonr body;
	size_t bad;

	err_clear();
	*audio = (struct audio){ .session_id = session_id };
	ck_assert_msg(jsonr_parse(text, strlen(text), &body) == OK, "%s: %s", text, err_words());
	audio_read(&body, audio);
	jsonr_close(&body);
	(void)err_fields(&bad);
	return bad;
}

/* A tick as it is sent, and as it comes out. */
static const struct {
	const char *in, *out;
} ticks[] = {
	{ "-10", "-10" }, { "-10.0", "-10" }, { "-1e1", "-10" }, { "-1.0E+1", "-10" },
	{ "-1000e-2", "-10" }, { "-100", "-100" }, { "-1e2", "-100" },
	{ "-100.000000000000000000000000", "-100" }, { "-10.1", "-10.1" }, { "-0.101e2", "-10.1" },
	{ "-33.333333333333336", "-33.333333333333336" }, /* a double */
	{ "-66.666666666666671", "-66.666666666666671" },
	{ "-12.345678901234567", "-12.345678901234567" }, /* none */
	{ "-12.345678901234568", "-12.345678901234568" },
	{ "-99.999999999999999", "-99.999999999999999" },
	{ "-10.000000000000001", "-10.000000000000001" },
	/* More than 17 digits. */
	{ "-12.3456789012345674", "-12.345678901234567" },
	{ "-12.3456789012345676", "-12.345678901234568" },
	{ "-12.3456789012345665", "-12.345678901234566" },
	{ "-12.3456789012345675", "-12.345678901234568" },
	{ "-12.34567890123456650000000000000000000001", "-12.345678901234567" },
	{ "-99.9999999999999999", "-100" }, { "-10.0000000000000001", "-10" },
	{ "-10.0999999999999996447286321199499", "-10.1" }, /* the double -10.1 */
};

START_TEST(a_tick_comes_out_with_the_17_digits_that_went_in)
{
	struct audio audio;
	char text[512], expected[512];

	for (size_t i = 0; i < COUNT(ticks); i++) {
		(void)snprintf(text, sizeof(text),
		    "{\"session_id\":7,\"ticks\":[" FOURTEEN ",%s],\"selected_tick\":14,"
		    "\"step_count\":9,\"other\":[]}",
		    ticks[i].in);
		(void)snprintf(expected, sizeof(expected),
		    "{\"session_id\":7,\"ticks\":[" FOURTEEN ",%s],\"selected_tick\":14,"
		    "\"step_count\":9,\"created_at\":\"1970-01-01T00:00:00.000000Z\","
		    "\"updated_at\":\"1970-01-01T00:00:00.000000Z\"}",
		    ticks[i].out);
		ck_assert_uint_eq(read_text(text, AUDIO_NONE, &audio), 0);
		ck_assert_str_eq(write_audio(&audio), expected);
	}
}
END_TEST

/* Of any double within the bounds, printed with 17 digits or with all it has. */
START_TEST(every_double_comes_out_as_the_same_double)
{
	struct audio audio;
	char text[512], *at;
	int64_t n;

	for (int i = 0; i < 20000; i++) {
		double sent = -10 - (double)drawn(INT64_C(1) << 53) / 100079991719344.36;

		n = sprintf(text, "{\"ticks\":[");
		n += sprintf(text + n, i % 2 == 0 ? "%.17g" : "%.45g", sent);
		(void)sprintf(text + n, "," FOURTEEN "],\"selected_tick\":0,\"step_count\":0}");
		ck_assert_msg(read_text(text, 1, &audio) == 0, "%s", text);
		at = strchr(write_audio(&audio), '[');
		ck_assert_msg(strtod(at + 1, NULL) == sent, "%s %s", text, at);
	}
}
END_TEST

START_TEST(the_address_tells_the_session_or_the_body_does)
{
	static const struct {
		const char *member;
		int64_t address;
		size_t bad;
		int64_t session_id;
	} cases[] = {
		{ "\"session_id\":0", AUDIO_NONE, 0, 0 },
		{ "\"session_id\":9223372036854775807", AUDIO_NONE, 0, INT64_MAX },
		{ "\"session_id\":5.0", AUDIO_NONE, 0, 5 },
		{ "\"session_id\":-1", AUDIO_NONE, 1, 0 },
		{ "\"session_id\":0.5", AUDIO_NONE, 1, 0 },
		{ "\"session_id\":\"5\"", AUDIO_NONE, 1, 0 },
		{ "\"session_id\":null", AUDIO_NONE, 1, 0 },
		{ "\"other\":5", AUDIO_NONE, 1, 0 },
		{ "\"other\":5", 5, 0, 5 },
		{ "\"session_id\":5", 5, 0, 5 },
		{ "\"session_id\":0", 0, 0, 0 },
		{ "\"session_id\":null", 5, 0, 5 },
		{ "\"session_id\":6", 5, 1, 0 },
		{ "\"session_id\":9223372036854775807", 9223372036854775806, 1, 0 },
		{ "\"session_id\":\"5\"", 5, 1, 0 },
		{ "\"session_id\":-1", 5, 1, 0 },
	};
	struct audio audio;
	char text[512];

	for (size_t i = 0; i < COUNT(cases); i++) {
		size_t bad;

		(void)snprintf(text, sizeof(text),
		    "{%s,\"ticks\":[" FOURTEEN ",-10],\"selected_tick\":0,\"step_count\":0}",
		    cases[i].member);
		ck_assert_msg(
		    read_text(text, cases[i].address, &audio) == cases[i].bad, "%zu: %s", i, text);
		if (cases[i].bad == 1)
			ck_assert_str_eq(err_fields(&bad)[0].pointer, "#/session_id");
		else
			ck_assert_int_eq(audio.session_id, cases[i].session_id);
	}
}
END_TEST

/* --- The database. */

static struct audio
sample(int64_t session_id)
{
	struct audio audio = { .session_id = session_id,
		.selected_tick = drawn(AUDIO_TICKS),
		.step_count = drawn(AUDIO_STEP_MAX + 1) };

	for (size_t i = 0; i < AUDIO_TICKS; i++)
		audio.ticks[i] = -10 * AUDIO_UNIT - drawn(90 * AUDIO_UNIT + 1);
	return audio;
}

static struct audio
add(int64_t session_id, int64_t now_us)
{
	struct audio audio = sample(session_id);

	ck_assert_msg(audio_add(db, now_us, &audio) == OK, "%s", err_words());
	return audio;
}

START_TEST(what_is_stored_is_found_as_it_was)
{
	static const int64_t ids[] = { 0, 1, INT64_MAX, INT64_MAX - 1, INT64_C(9007199254740993) };
	struct audio all[COUNT(ids)], found;

	begin();
	for (size_t i = 0; i < COUNT(ids); i++)
		all[i] = add(ids[i], NOW_US + (int64_t)i);
	for (size_t i = 0; i < COUNT(ids); i++) {
		ck_assert_int_eq(all[i].created_at_us, NOW_US + (int64_t)i);
		ck_assert_int_eq(all[i].updated_at_us, NOW_US + (int64_t)i);
		ck_assert_int_eq(audio_get(db, ids[i], &found), OK);
		ck_assert_mem_eq(&found, &all[i], sizeof(found));
	}
	ck_assert_int_eq(audio_get(db, 2, &found), ERR_NOT_FOUND);
	ck_assert_str_eq(err_words(), "there is no session 2");
	data_end();
}
END_TEST

START_TEST(a_session_is_there_once_until_it_is_deleted)
{
	struct audio first, again, found;
	char etags[2][ETAG_MAX];

	begin();
	first = add(7, NOW_US);
	again = sample(7);
	ck_assert_int_eq(audio_add(db, NOW_US, &again), ERR_CONFLICT);
	ck_assert_str_eq(err_words(), "there is a session 7 already");
	ck_assert_int_eq(audio_get(db, 7, &found), OK);
	ck_assert_mem_eq(&found, &first, sizeof(found));
	ck_assert_int_eq(audio_delete(db, &first), OK);
	ck_assert_int_eq(audio_get(db, 7, &found), ERR_NOT_FOUND);
	ck_assert_int_eq(audio_add(db, NOW_US, &again), OK);
	ck_assert_int_gt(again.id, first.id);
	audio_etag(&first, etags[0]);
	audio_etag(&again, etags[1]);
	ck_assert_str_ne(etags[0], etags[1]);
	data_end();
}
END_TEST

START_TEST(each_version_has_its_own_etag_whatever_the_clock_says)
{
	static const int64_t nows[] = { NOW_US, NOW_US, NOW_US - DAY_US, NOW_US + 5, NOW_US + 5 };
	struct audio old, found, next = sample(7);
	char etags[2][ETAG_MAX];

	begin();
	old = add(7, NOW_US);
	for (size_t i = 0; i < COUNT(nows); i++) {
		ck_assert_int_eq(audio_replace(db, &old, nows[i], &next), OK);
		ck_assert_int_gt(next.updated_at_us, old.updated_at_us);
		ck_assert_int_ge(next.updated_at_us, nows[i]);
		ck_assert_int_eq(next.created_at_us, NOW_US);
		audio_etag(&old, etags[0]);
		audio_etag(&next, etags[1]);
		ck_assert_str_ne(etags[0], etags[1]);
		ck_assert_int_eq(audio_get(db, 7, &found), OK);
		ck_assert_mem_eq(&found, &next, sizeof(found));
		old = found;
		next = sample(7);
	}
	data_end();
}
END_TEST

START_TEST(the_database_itself_refuses_what_is_out_of_bounds)
{
	static const char *const bad[] = { "session_id = -1", "selected_tick = -1",
		"selected_tick = 15", "step_count = -1", "step_count = 10",
		"tick_0 = -100000000000000001", "tick_14 = -9999999999999999", "tick_7 = NULL",
		"tick_7 = 'x'", "updated_at = created_at - 1" };
	char statement[128];

	begin();
	(void)add(7, NOW_US);
	for (size_t i = 0; i < COUNT(bad); i++) {
		(void)snprintf(statement, sizeof(statement), "UPDATE audios SET %s", bad[i]);
		ck_assert_msg(db_script(db, statement) == ERR_CONFLICT, "%s", statement);
	}
	ck_assert_int_eq(db_script(db, "UPDATE audios SET tick_0 = -100000000000000000"), OK);
	data_end();
}
END_TEST

/* --- The list. */

static bool
fits(const struct audio_filter *filter, const struct audio *audio)
{
	return (filter->session_id == AUDIO_NONE || filter->session_id == audio->session_id) &&
	    (filter->selected_tick == AUDIO_NONE ||
		filter->selected_tick == audio->selected_tick) &&
	    (filter->step_count == AUDIO_NONE || filter->step_count == audio->step_count);
}

/* All pages of FILTER against ALL, in their order. */
static void
check_list(const struct audio_filter *filter, int64_t limit, const struct audio *all)
{
	static struct audio found[ROWS + 1];
	struct page page = { .limit = limit };
	size_t at = 0, count;
	bool more = true;

	while (more) {
		ck_assert_int_eq(audio_list(db, filter, &page, found, &count, &more), OK);
		ck_assert_uint_le(count, (size_t)limit);
		ck_assert(!more || count == (size_t)limit);
		for (size_t i = 0; i < count; i++, at++) {
			while (at < ROWS && !fits(filter, &all[at]))
				at++;
			ck_assert_uint_lt(at, ROWS);
			ck_assert_mem_eq(&found[i], &all[at], sizeof(all[at]));
			page.after = all[at].id;
		}
	}
	while (at < ROWS && !fits(filter, &all[at]))
		at++;
	ck_assert_uint_eq(at, ROWS);
}

START_TEST(every_combination_of_filters_lists_what_fits_in_the_order_of_creation)
{
	static struct audio all[ROWS];

	begin();
	for (int64_t i = 0; i < ROWS; i++) /* the largest numbers first */
		all[i] = add(ROWS - i, NOW_US);
	for (int i = 0; i < 8; i++)
		for (int j = 0; j < 40; j++) {
			const struct audio_filter filter = { (i & 1) != 0 ? drawn(ROWS + 2)
									  : AUDIO_NONE,
				(i & 2) != 0 ? drawn(AUDIO_TICKS) : AUDIO_NONE,
				(i & 4) != 0 ? drawn(AUDIO_STEP_MAX + 1) : AUDIO_NONE };

			check_list(&filter, 1 + drawn(j == 0 ? ROWS : 30), all);
		}
	data_end();
}
END_TEST

START_TEST(every_list_is_a_range_of_its_index)
{
	static const struct {
		const struct db_sql *sql;
		const char *step;
	} cases[] = {
		{ &sql_audios_audios_list, "SEARCH audios USING INTEGER PRIMARY KEY (rowid>?)" },
		{ &sql_audios_audios_list_by_session,
		    "SEARCH audios USING INDEX "
		    "sqlite_autoindex_audios_1 (session_id=?" },
		{ &sql_audios_audios_list_by_tick,
		    "USING INDEX audios_by_tick (selected_tick=? AND rowid>?)" },
		{ &sql_audios_audios_list_by_step,
		    "USING INDEX audios_by_step (step_count=? AND rowid>?)" },
		{ &sql_audios_audios_list_by_tick_and_step,
		    "audios_by_tick_and_step (selected_tick=? AND step_count=? AND rowid>?)" },
		{ &sql_audios_audio_get, "sqlite_autoindex_audios_1 (session_id=?)" },
	};
	char *plan;

	begin();
	for (size_t i = 0; i < COUNT(cases); i++) {
		ck_assert_int_eq(db_plan(db, cases[i].sql, &plan), OK);
		ck_assert_msg(strstr(plan, cases[i].step) != NULL, "%s: %s", cases[i].step, plan);
		ck_assert_ptr_null(strstr(plan, "TEMP B-TREE"));
		free(plan);
	}
	data_end();
}
END_TEST

CHECK_MAIN(audio,
    { a_tick_comes_out_with_the_17_digits_that_went_in, every_double_comes_out_as_the_same_double,
	the_address_tells_the_session_or_the_body_does, what_is_stored_is_found_as_it_was,
	a_session_is_there_once_until_it_is_deleted,
	each_version_has_its_own_etag_whatever_the_clock_says,
	the_database_itself_refuses_what_is_out_of_bounds,
	every_combination_of_filters_lists_what_fits_in_the_order_of_creation,
	every_list_is_a_range_of_its_index })
