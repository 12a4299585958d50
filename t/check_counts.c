#include "data_set.h"

#include "lib/counts.h"

static struct commit *commit;
static struct tally *tally;
static struct counts_log log_file;

static void
begin(void)
{
	folder_begin();
	ck_assert_int_eq(commit_open(COUNTS_FILE, &counts_schema, &commit), OK);
	ck_assert_int_eq(tally_open(1000, 1024 * 1024, &tally), OK);
	log_file = (struct counts_log){ .head = { 1, 2, 3 } };
}

static void
end(void)
{
	static const char *const files[] = { COUNTS_FILE, COUNTS_FILE "-wal", COUNTS_FILE "-shm",
		COUNTS_FILE ".lock" };

	tally_close(tally);
	commit_close(commit);
	for (size_t i = 0; i < COUNT(files); i++)
		(void)unlink(files[i]);
	folder_end();
}

static void
hit(const char *path, int64_t hour, int status)
{
	ck_assert(tally_add(
	    tally, &(struct hit){ hour * 3600, 5, 10, status, HIT_GET, path, strlen(path) }));
}

static enum err
store(int64_t position, int64_t lines)
{
	struct counts_batch batch = {
		.log = &log_file, .tally = tally, .position = position, .lines = lines
	};
	enum err err = counts_store(commit, &batch);

	tally_clear(tally);
	return err;
}

/* Rows of the file, as text; yours until the next call. */
static const char *
rows(const char *sql)
{
	static char text[4096];

	ck_assert_int_eq(db_open(COUNTS_FILE, DB_READ, &counts_schema, &db), OK);
	(void)snprintf(text, sizeof(text), "%s", data_rows(sql));
	db_close(db);
	db = NULL;
	return text;
}

#define PATHS \
	"SELECT CAST(path AS TEXT) || ' ' || id || ' ' || count || ' ' || first_hour || '-' " \
	"|| last_hour FROM paths ORDER BY id"
#define HOURS \
	"SELECT hour || ' ' || path_id || ' ' || method || ' ' || status_class || ' ' || count " \
	"|| ' ' || bytes || ' ' || took_ms || ' ' || took_max_ms FROM hours ORDER BY 1"

START_TEST(a_batch_adds_to_what_is_there_and_moves_the_log)
{
	begin();
	hit("/b", 7, 200);
	hit("/a", 7, 200);
	hit("/a", 7, 404);
	hit("/a", 8, 200);
	ck_assert_int_eq(store(100, 4), OK);
	ck_assert_int_eq(log_file.id, 1);
	ck_assert_int_eq(log_file.position, 100);
	ck_assert_str_eq(rows(PATHS), "/a 1 3 7-8\n/b 2 1 7-7\n");
	hit("/c", 9, 200);
	hit("/a", 7, 200);
	hit("/a", 6, 200);
	ck_assert_int_eq(store(200, 3), OK);
	ck_assert_str_eq(rows(PATHS), "/a 1 5 6-8\n/b 2 1 7-7\n/c 3 1 9-9\n");
	ck_assert_str_eq(rows(HOURS),
	    "6 1 1 2 1 10 5 5\n7 1 1 2 2 20 10 5\n7 1 1 4 1 10 5 5\n7 2 1 2 1 10 5 5\n"
	    "8 1 1 2 1 10 5 5\n9 3 1 2 1 10 5 5\n");
	ck_assert_str_eq(
	    rows("SELECT total || ' ' || path_count || ' ' || version FROM state"), "7 3 2\n");
	ck_assert_str_eq(
	    rows("SELECT position || ' ' || lines || ' ' || damaged FROM logs"), "200 7 0\n");
	end();
}
END_TEST

START_TEST(a_log_is_known_again_by_its_first_line)
{
	struct counts_log same = { .head = { 1, 2, 3 } }, other = { .head = { 1, 2, 4 } };
	struct db_readers *readers;
	struct db *reader;

	begin();
	hit("/a", 7, 200);
	ck_assert_int_eq(store(55, 1), OK);
	ck_assert_int_eq(db_readers_open(COUNTS_FILE, &counts_schema, &readers), OK);
	ck_assert_int_eq(db_borrow(readers, &reader), OK);
	ck_assert_int_eq(counts_find(reader, &same), OK);
	ck_assert_int_eq(same.id, 1);
	ck_assert_int_eq(same.position, 55);
	ck_assert_int_eq(counts_find(reader, &other), OK);
	ck_assert_int_eq(other.id, 0);
	ck_assert_int_eq(other.position, 0);
	db_return(readers, reader);
	db_readers_close(readers);
	end();
}
END_TEST

#define FIRST \
	"{\"time\":\"2026-11-21T04:18:58+00:00\"," \
	"\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\"," \
	"\"method\":\"GET\",\"path\":\"/a\",\"status\":200,\"bytes\":17,\"seconds\":0.004," \
	"\"cache\":\"\"}"

/* What is known of a file with this text; the file's head is in LOG. */
static bool
head_of(const char *text, struct counts_log *log, int64_t *begun_s)
{
	FILE *file = tmpfile();
	bool is_whole;

	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fflush(file), 0);
	ck_assert_int_eq(counts_head(fileno(file), log, begun_s, &is_whole), OK);
	(void)fclose(file);
	return is_whole;
}

START_TEST(the_head_of_a_log_is_its_first_line_once_that_has_an_end)
{
	struct counts_log first, again, other;
	static char longest[5000];
	int64_t begun_s = -1;

	ck_assert(!head_of("", &first, &begun_s));
	ck_assert(!head_of(FIRST, &first, &begun_s));
	ck_assert_int_eq(begun_s, -1);
	ck_assert(head_of(FIRST "\n", &first, &begun_s));
	ck_assert_int_eq(begun_s, 1795234738);
	ck_assert(head_of(FIRST "\nmore", &again, &begun_s));
	ck_assert_mem_eq(first.head, again.head, sizeof(first.head));
	ck_assert(head_of("\n" FIRST "\n", &other, &begun_s));
	ck_assert_int_eq(begun_s, 0);
	ck_assert_mem_ne(first.head, other.head, sizeof(first.head));
	/* Of a line that long the beginning tells enough. */
	memset(longest, 'x', sizeof(longest) - 1);
	ck_assert(head_of(longest, &first, &begun_s));
	longest[4500] = '\n';
	ck_assert(head_of(longest, &again, &begun_s));
	ck_assert_mem_eq(first.head, again.head, sizeof(first.head));
}
END_TEST

START_TEST(a_log_has_its_name_or_one_that_begins_with_it)
{
	static const struct {
		const char *name;
		bool is_log;
	} rows[] = {
		{ "access.log", true },
		{ "access.log.1", true },
		{ "access.log.20261121T041858Z-2", true },
		{ "access.log-20261121", true },
		{ "access.log.gz", false },
		{ "access.log.1.gz", false },
		{ "access.log.1.xz", false },
		{ "access.log.1.zst", false },
		{ "access.log.1.bz2", false },
		{ "access.log.1.lz4", false },
		{ "access.log.Z", false },
		{ "access.log.gz.1", true },
		{ "access.lo", false },
		{ "error.log", false },
		{ "", false },
		{ ".gz", false },
	};

	for (size_t i = 0; i < COUNT(rows); i++)
		ck_assert_msg(counts_is_log(rows[i].name) == rows[i].is_log, "%s", rows[i].name);
}
END_TEST

START_TEST(damaged_lines_are_kept_aside_the_last_thousand_of_them)
{
	static struct counts_damaged damaged[100];
	struct counts_batch batch = { .log = &log_file, .damaged = damaged, .damaged_kept = 100 };

	begin();
	for (size_t i = 0; i < COUNT(damaged); i++) {
		damaged[i].position = (int64_t)i;
		damaged[i].n = i == 0 ? COUNTS_LINE_MAX : 3;
		memset(damaged[i].line, 'x', damaged[i].n);
	}
	batch.tally = tally;
	for (int i = 1; i <= 12; i++) {
		batch.lines = batch.damaged_count = 150;
		batch.position = i * 1000;
		ck_assert_int_eq(counts_store(commit, &batch), OK);
	}
	ck_assert_str_eq(
	    rows("SELECT count(*) || ' ' || min(id) || ' ' || max(length(line)) FROM damaged"),
	    "1000 201 1000\n");
	ck_assert_str_eq(rows("SELECT lines || ' ' || damaged FROM logs"), "1800 1800\n");
	end();
}
END_TEST

static int64_t
kept_from(void)
{
	int64_t hour = -1;

	ck_assert_int_eq(db_open(COUNTS_FILE, DB_READ, &counts_schema, &db), OK);
	ck_assert_int_eq(counts_kept_from(db, &hour), OK);
	db_close(db);
	db = NULL;
	return hour;
}

static bool
thinned(int64_t before_hour)
{
	bool more;

	ck_assert_int_eq(counts_thin(commit, before_hour, &more), OK);
	return more;
}

START_TEST(old_hours_go_one_by_one_and_what_is_kept_begins_behind_them_at_once)
{
	struct counts_totals totals;

	begin();
	hit("/a", 7, 200);
	hit("/a", 8, 200);
	hit("/b", 8, 500);
	hit("/a", 10, 200);
	hit("/a", 11, 200);
	ck_assert_int_eq(store(100, 5), OK);
	ck_assert_int_eq(kept_from(), 0);
	ck_assert(!thinned(7));
	ck_assert_int_eq(kept_from(), 7);
	ck_assert(thinned(11));
	ck_assert_int_eq(kept_from(), 11);
	ck_assert_str_eq(rows("SELECT DISTINCT hour FROM hours ORDER BY 1"), "8\n10\n11\n");
	ck_assert(thinned(11));
	ck_assert_str_eq(rows("SELECT DISTINCT hour FROM hours ORDER BY 1"), "10\n11\n");
	ck_assert(thinned(11));
	ck_assert(!thinned(11));
	ck_assert_str_eq(rows("SELECT DISTINCT hour FROM hours ORDER BY 1"), "11\n");
	/* What is kept never begins earlier again, and late lines of before go, too. */
	hit("/a", 9, 200);
	ck_assert_int_eq(store(200, 1), OK);
	ck_assert(thinned(3));
	ck_assert(!thinned(0));
	ck_assert_int_eq(kept_from(), 11);
	ck_assert_str_eq(rows("SELECT DISTINCT hour FROM hours ORDER BY 1"), "11\n");
	ck_assert_str_eq(rows(PATHS), "/a 1 5 7-11\n/b 2 1 8-8\n");
	ck_assert_int_eq(db_open(COUNTS_FILE, DB_READ, &counts_schema, &db), OK);
	ck_assert_int_eq(counts_total(db, &totals), OK);
	db_close(db);
	db = NULL;
	ck_assert_int_eq(totals.total, 6);
	ck_assert_int_eq(totals.of_paths, 6);
	ck_assert_int_eq(totals.of_lines, 6);
	end();
}
END_TEST

/* 25,000 rows of one hour, each path with five. */
static enum err
fill_hour(struct db *writer, void *arg)
{
	(void)arg;
	return db_script(writer,
	    "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 24999) "
	    "INSERT INTO hours SELECT 7, i / 5 + 1, 1, i % 5, 1, 1, 1, 1 FROM n");
}

START_TEST(a_large_hour_goes_in_parts_of_whole_paths)
{
	const char *count = "SELECT count(*) || ' ' || count(DISTINCT path_id) FROM hours";

	begin();
	ck_assert_int_eq(commit_run(commit, fill_hour, NULL), OK);
	ck_assert(thinned(8));
	ck_assert_str_eq(rows(count), "15000 3000\n");
	ck_assert(thinned(8));
	ck_assert_str_eq(rows(count), "5000 1000\n");
	ck_assert(thinned(8));
	ck_assert_str_eq(rows(count), "0 0\n");
	ck_assert(!thinned(8));
	end();
}
END_TEST

START_TEST(all_totals_agree)
{
	struct counts_totals totals;

	begin();
	hit("/a", 7, 200);
	hit("/a", 7, 200);
	hit("/\xff", 7, 200);
	ck_assert_int_eq(store(55, 3), OK);
	ck_assert_int_eq(db_open(COUNTS_FILE, DB_READ, &counts_schema, &db), OK);
	ck_assert_int_eq(counts_total(db, &totals), OK);
	db_close(db);
	db = NULL;
	ck_assert_int_eq(totals.total, 3);
	ck_assert_int_eq(totals.of_paths, 3);
	ck_assert_int_eq(totals.of_lines, 3);
	ck_assert_int_eq(totals.paths, 2);
	ck_assert_int_eq(totals.highest_id, 2);
	end();
}
END_TEST

#define MANY 300 /* paths */
#define BATCHES 60

/* New paths and known ones in all mixtures: of the eight that go into one statement, all, some or
 * none are there. */
START_TEST(any_mixture_of_known_and_new_paths_adds_up)
{
	static int64_t wanted[MANY][4];
	unsigned short state[3] = { 1, 2, 3 };
	char path[16], text[128];
	int64_t lines = 0;

	begin();
	for (int batch = 1; batch <= BATCHES; batch++) {
		/* A tenth of them at first, so that known ones lie among mostly new ones; later
		 * all. */
		int likely = batch < 6 ? 1 : batch < 9 ? 6 : 1 + (int)(nrand48(state) % 10);

		for (int i = 0; i < MANY; i++) {
			int hour = (int)(nrand48(state) % 4);

			if (nrand48(state) % 10 >= likely)
				continue;
			(void)snprintf(path, sizeof(path), "/%d", i);
			hit(path, hour, 200);
			wanted[i][hour]++;
			lines++;
		}
		ck_assert_int_eq(store(lines, lines), OK);
	}
	for (int i = 0; i < MANY; i++)
		for (int hour = 0; hour < 4; hour++) {
			(void)snprintf(text, sizeof(text),
			    "SELECT coalesce(sum(h.count), 0) FROM hours h JOIN paths p ON p.id = "
			    "h.path_id WHERE CAST(path AS TEXT) = '/%d' AND hour = %d",
			    i, hour);
			ck_assert_int_eq(strtoll(rows(text), NULL, 10), wanted[i][hour]);
		}
	ck_assert_str_eq(rows("SELECT count(*) = max(id) AND min(id) = 1 FROM paths"), "1\n");
	ck_assert_str_eq(
	    rows("SELECT count(*) FROM paths p WHERE count <> (SELECT sum(count) FROM hours "
		 "WHERE path_id = id) OR first_hour <> (SELECT min(hour) FROM hours WHERE path_id "
		 "= id) OR last_hour <> (SELECT max(hour) FROM hours WHERE path_id = id)"),
	    "0\n");
	ck_assert_str_eq(rows("SELECT total = (SELECT sum(count) FROM paths) AND path_count = "
			      "(SELECT count(*) FROM paths) FROM state"),
	    "1\n");
	end();
}
END_TEST

CHECK_MAIN(counts,
    { a_batch_adds_to_what_is_there_and_moves_the_log, a_log_is_known_again_by_its_first_line,
	the_head_of_a_log_is_its_first_line_once_that_has_an_end,
	a_log_has_its_name_or_one_that_begins_with_it,
	damaged_lines_are_kept_aside_the_last_thousand_of_them,
	old_hours_go_one_by_one_and_what_is_kept_begins_behind_them_at_once,
	a_large_hour_goes_in_parts_of_whole_paths, all_totals_agree,
	any_mixture_of_known_and_new_paths_adds_up })
