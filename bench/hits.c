/*
 * hits: access logs as nginx writes them, made up, and the database of stats filled by libsqlite3
 *and nothing else: what the program stats is held against.
 *
 *	hits log LINES PATHS FIRST HOURS	prints a log: the first FIRST lines are a path each,
 *						the others Zipf's (1/rank) over PATHS; spread over
 *HOURS hits store FILE PATHS			stores one hit of each path, in their order, in one
 *						transaction; FILE is empty but for its schema
 *
 * Path and rank belong together, whatever the log; sorted, the ranks are in no order.  store prints
 * what it took in one line.
 */
#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PATH_SIZE 32 /* of any of ours, with its end */
#define SEGMENTS_MAX 6
#define BEGIN_S INT64_C(1795233600) /* 2026-11-21T04:00:00Z */
#define HOUR_S 3600

static _Noreturn void
die(const char *what, sqlite3 *db)
{
	(void)fprintf(
	    stderr, "hits: %s: %s\n", what, db != NULL ? sqlite3_errmsg(db) : strerror(errno));
	exit(EXIT_FAILURE);
}

static void *
allocate(int64_t count, size_t size)
{
	void *p = calloc((size_t)count, size);

	if (p == NULL)
		die("memory", NULL);
	return p;
}

/* xorshift64*: fast, and the same log for the same arguments. */
static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

/* Another number for each number (splitmix64), so that no two ranks have the same path. */
static uint64_t
mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* Its 16 digits in 1..6 segments; returns the length. */
static int
path_text(int64_t rank, char out[PATH_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	uint64_t number = mix((uint64_t)rank);
	int segments = 1 + (int)(rank % SEGMENTS_MAX), n = 5;

	memcpy(out, "/api/", 5);
	for (int i = 0; i < 16; i++, number >>= 4) {
		if (i > 0 && i < 2 * segments && i % 2 == 0)
			out[n++] = '/';
		out[n++] = digits[number & 15];
	}
	out[n] = '\0';
	return n;
}

/* --- a log */

/* Zipf's law: what all ranks up to one have of all hits. */
static double *
make_shares(int64_t paths)
{
	double *shares = allocate(paths, sizeof(*shares)), sum = 0;

	for (int64_t i = 0; i < paths; i++)
		shares[i] = sum += 1.0 / (double)(i + 1);
	for (int64_t i = 0; i < paths; i++)
		shares[i] /= sum;
	return shares;
}

static int64_t
draw_rank(const double *shares, int64_t paths, uint64_t *seed)
{
	double wanted = (double)(next_random(seed) >> 11) / 9007199254740992.0; /* 2^53 */
	int64_t low = 0, high = paths - 1, middle;

	while (low < high) {
		middle = (low + high) / 2;
		if (shares[middle] <= wanted)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* As nginx's $time_iso8601; lines of one second come one after the other. */
static void
time_text(int64_t at_s, char out[32])
{
	static int64_t last_s = -1;
	static char text[32];
	time_t t = at_s;
	struct tm tm;

	if (at_s != last_s) {
		(void)gmtime_r(&t, &tm);
		(void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S+00:00", &tm);
		last_s = at_s;
	}
	memcpy(out, text, sizeof(text));
}

/* log_format caredesk in nginx/nginx.conf. */
static void
print_log(int64_t lines, int64_t paths, int64_t first, int64_t hours)
{
	double *shares = make_shares(paths);
	uint64_t seed = 88172645463325252, high, low;
	char path[PATH_SIZE], time[32];

	for (int64_t i = 0; i < lines; i++) {
		int64_t rank = i < first ? i : draw_rank(shares, paths, &seed);

		(void)path_text(rank, path);
		/* HOURS is small, and LINES has room for it. */
		time_text(BEGIN_S + hours * HOUR_S * i / lines, time);
		high = next_random(&seed);
		low = next_random(&seed);
		(void)printf("{\"time\":\"%s\",\"trace_id\":\"%016" PRIx64 "%016" PRIx64 "\","
			     "\"method\":\"GET\",\"path\":\"%s\",\"status\":200,\"bytes\":16,"
			     "\"seconds\":0.00%d,\"cache\":\"\",\"serial\":\"4711-%d-%" PRId64
			     "\"}\n",
		    time, high, low, path, (int)(high % 10), (int)(low % 64) + 1, i / 64 + 1);
	}
	free(shares);
	if (fflush(stdout) != 0)
		die("writing", NULL);
}

/* --- the floor of taking it in */

static int
order_paths(const void *a, const void *b)
{
	return strcmp(a, b);
}

static char (*make_paths(int64_t count))[PATH_SIZE]
{
	char(*paths)[PATH_SIZE] = allocate(count, sizeof(*paths));

	for (int64_t i = 0; i < count; i++)
		(void)path_text(i, paths[i]);
	qsort(paths, (size_t)count, sizeof(*paths), order_paths);
	return paths;
}

static void
run(sqlite3 *db, const char *text)
{
	if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
		die(text, db);
}

static sqlite3_stmt *
prepare(sqlite3 *db, const char *text)
{
	sqlite3_stmt *statement;

	if (sqlite3_prepare_v2(db, text, -1, &statement, NULL) != SQLITE_OK)
		die(text, db);
	return statement;
}

static void
step(sqlite3 *db, sqlite3_stmt *statement)
{
	if (sqlite3_step(statement) != SQLITE_DONE || sqlite3_reset(statement) != SQLITE_OK)
		die("storing", db);
}

/* What stats does for a path that it meets for the first time, but in one statement a table. */
static void
store_paths(sqlite3 *db, char (*paths)[PATH_SIZE], int64_t count)
{
	sqlite3_stmt *path = prepare(db,
	    "INSERT INTO paths (path, id, count, first_hour, last_hour) VALUES (?1, ?2, 1, ?3, ?3)"
	    " ON CONFLICT (path) DO UPDATE SET count = count + excluded.count,"
	    " first_hour = min(first_hour, excluded.first_hour),"
	    " last_hour = max(last_hour, excluded.last_hour)");
	sqlite3_stmt *hour = prepare(db,
	    "INSERT INTO hours (hour, path_id, method, status_class, count, bytes, took_ms,"
	    " took_max_ms) VALUES (?1, ?2, 1, 2, 1, 16, 4, 4)"
	    " ON CONFLICT (hour, path_id, method, status_class) DO UPDATE SET"
	    " count = count + excluded.count, bytes = bytes + excluded.bytes,"
	    " took_ms = took_ms + excluded.took_ms,"
	    " took_max_ms = max(took_max_ms, excluded.took_max_ms)");

	for (int64_t i = 0; i < count; i++) {
		(void)sqlite3_bind_blob(path, 1, paths[i], (int)strlen(paths[i]), SQLITE_STATIC);
		(void)sqlite3_bind_int64(path, 2, i + 1);
		(void)sqlite3_bind_int64(path, 3, BEGIN_S / HOUR_S);
		step(db, path);
		(void)sqlite3_bind_int64(hour, 1, BEGIN_S / HOUR_S);
		(void)sqlite3_bind_int64(hour, 2, i + 1);
		step(db, hour);
	}
	(void)sqlite3_finalize(path);
	(void)sqlite3_finalize(hour);
}

/* With the settings of ours (src/lib/db_sqlite.c), on disk in the end. */
static void
store(const char *file, int64_t count)
{
	char(*paths)[PATH_SIZE] = make_paths(count);
	struct timespec begin, end;
	double seconds;
	sqlite3 *db;

	if (sqlite3_open_v2(file, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
		die(file, db);
	run(db,
	    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384;"
	    " PRAGMA wal_autocheckpoint = 8192; PRAGMA secure_delete = ON");
	(void)clock_gettime(CLOCK_MONOTONIC, &begin);
	run(db, "BEGIN IMMEDIATE");
	store_paths(db, paths, count);
	run(db, "COMMIT");
	(void)clock_gettime(CLOCK_MONOTONIC, &end);
	seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
	if (sqlite3_close(db) != SQLITE_OK)
		die(file, db);
	(void)printf("%" PRId64 " paths in %.6f s\n", count, seconds);
	free(paths);
}

static int64_t
read_number(const char *text)
{
	char *end;
	long long number = strtoll(text, &end, 10);

	if (end == text || *end != '\0' || number < 0 || number > 1000000000) {
		(void)fprintf(stderr, "hits: %s is no number up to 1,000,000,000\n", text);
		exit(2);
	}
	return number;
}

int
main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";

	(void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	if (strcmp(command, "log") == 0 && argc == 6) {
		print_log(read_number(argv[2]), read_number(argv[3]), read_number(argv[4]),
		    read_number(argv[5]));
	} else if (strcmp(command, "store") == 0 && argc == 4) {
		store(argv[2], read_number(argv[3]));
	} else {
		(void)fprintf(
		    stderr, "usage: hits log LINES PATHS FIRST HOURS | store FILE PATHS\n");
		return 2;
	}
	return EXIT_SUCCESS;
}
