/*
 * stats: how often each path was asked for, exactly, from nginx's access log.
 */
#include "stats.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/buffer.h"
#include "lib/clock.h"
#include "lib/health.h"
#include "lib/jsonw.h"
#include "lib/pool.h"
#include "lib/scrape.h"
#include "lib/serve.h"
#include "lib/text.h"
#include "sql.h"

#define CSV "text/csv"
#define HOUR_US (3600 * CLOCK_SECOND_US)
#define LIMIT_MAX 1000
#define TAKE_IN_US (10 * CLOCK_SECOND_US) /* the longest that a question waits for the log */
#define DEADLINE_US (60 * CLOCK_SECOND_US)
#define LAG_MAX (64 * 1024 * 1024) /* bytes of the log; with more, stats is not well */
#define SHOWN_MAX (4 * HIT_PATH_MAX + 1) /* with a NUL */
#define PREFIX_MAX 400 /* bytes; percent-encoded it must fit into a Link */

struct stats stats;

/* --- The question. */

struct question {
	struct request_text prefix; /* as it was given */
	bool is_escaped; /* and so is PATH */
	char from[PREFIX_MAX], to[PREFIX_MAX]; /* the prefix, and what is behind it */
	size_t from_n, to_n; /* TO_N 0: no bound */
	bool has_period, has_from;
	int64_t first_hour, end_hour;
	int64_t limit; /* -1: all */
	bool has_cursor, has_format, is_csv;
	int64_t count, path_id; /* of the cursor */
};

static void
read_hour(const struct request *req, const char *name, int64_t *hour, bool *found)
{
	int64_t us;

	request_param_time(req, name, &us, found);
	if (*found && us % HOUR_US != 0)
		(void)fail_field(name, "must be a whole hour, such as 2026-11-21T04:00:00Z");
	else if (*found)
		*hour = us / HOUR_US;
}

static void
read_period(const struct request *req, struct question *question)
{
	bool has_to;

	question->first_hour = 0;
	question->end_hour = CLOCK_END_US / HOUR_US;
	read_hour(req, "from", &question->first_hour, &question->has_from);
	read_hour(req, "to", &question->end_hour, &has_to);
	question->has_period = question->has_from || has_to;
}

/* A path as it is shown, with \xFF for bytes where the client says so; returns its length. */
static size_t
take_path(const struct question *question, struct request_text text, char *out)
{
	unsigned char byte;
	size_t n = 0;

	for (size_t i = 0; i < text.n; i++) {
		if (question->is_escaped && text.n - i >= 4 && memcmp(text.s + i, "\\x", 2) == 0 &&
		    text_hex(text.s + i + 2, 1, &byte)) {
			out[n++] = (char)byte;
			i += 3;
		} else {
			out[n++] = text.s[i];
		}
	}
	return n;
}

/* The paths that begin with PREFIX are those from it up to the next text that does not. */
static void
set_prefix(struct question *question)
{
	size_t n = take_path(question, question->prefix, question->from);

	question->from_n = n;
	memcpy(question->to, question->from, n);
	while (n > 0 && (unsigned char)question->to[n - 1] == 0xff)
		n--;
	if (n > 0)
		question->to[n - 1] = (char)((unsigned char)question->to[n - 1] + 1);
	question->to_n = n;
}

static void
read_prefix(const struct request *req, struct question *question)
{
	bool found;

	question->is_escaped = request_param_flag(req, "escaped", false);
	question->prefix = request_param(req, "prefix", &found);
	if (found && question->prefix.n > PREFIX_MAX)
		(void)fail_field("prefix", "must have at most %d bytes", PREFIX_MAX);
	else if (found)
		set_prefix(question);
}

static void
read_format(const struct request *req, struct question *question)
{
	bool found;
	struct request_text name = request_param(req, "format", &found);

	question->has_format = found;
	question->is_csv =
	    !found && request_quality(req, CSV) > request_quality(req, "application/json");
	if (found && strcmp(name.s, "csv") == 0)
		question->is_csv = true;
	else if (found && strcmp(name.s, "json") != 0)
		(void)fail_field("format", "must be json or csv");
}

/* "COUNT-ID" of the last row of a page. */
static void
read_cursor(const struct request *req, struct question *question)
{
	struct request_text cursor = request_param(req, "cursor", &question->has_cursor);
	const char *dash = question->has_cursor ? memchr(cursor.s, '-', cursor.n) : NULL;

	if (!question->has_cursor)
		return;
	if (dash == NULL || !text_uint(cursor.s, (size_t)(dash - cursor.s), &question->count) ||
	    !text_uint(dash + 1, cursor.n - (size_t)(dash + 1 - cursor.s), &question->path_id))
		(void)fail_field("cursor", "must be that of a Link of this list");
}

/* --- Rows going out. */

/* Bytes that are not UTF-8 as \xFF, in OUT; then *ESCAPED is set, and a backslash is shown so,
 * too: as many paths, as many texts. */
static size_t
show_path(const char *path, size_t n, char out[SHOWN_MAX], bool *escaped)
{
	size_t to = 0, step;

	*escaped = !text_utf8_valid(path, n);
	for (size_t i = 0; i<n; i += step> 0 ? step : 1) {
		step = text_utf8_sequence(path + i, n - i);
		if (step > 0 && !(*escaped && path[i] == '\\')) {
			memcpy(out + to, path + i, step);
			to += step;
		} else {
			to += (size_t)snprintf(out + to, 5, "\\x%02X", (unsigned char)path[i]);
		}
	}
	return to;
}

struct writer {
	jsonw_sink sink;
	void *ctx;
	struct jsonw json;
	bool is_csv;
	enum err err; /* of CSV */
	char shown[SHOWN_MAX];
};

static void
put(struct writer *w, const char *bytes, size_t n)
{
	if (w->err == OK)
		w->err = w->sink(w->ctx, bytes, n);
}

/* A field in quotes (RFC 4180), and none that a spreadsheet would calculate. */
static void
put_quoted(struct writer *w, const char *s, size_t n)
{
	const char *quote;

	put(w, "\"", 1);
	if (n > 0 && s[0] != '\0' && strchr("=+-@\t\r", s[0]) != NULL)
		put(w, "'", 1);
	for (; (quote = memchr(s, '"', n)) != NULL; n -= (size_t)(quote + 1 - s), s = quote + 1) {
		put(w, s, (size_t)(quote + 1 - s));
		put(w, "\"", 1);
	}
	put(w, s, n);
	put(w, "\"", 1);
}

static void
begin_response(struct response *res, bool is_csv)
{
	response_begin(
	    res, 200, is_csv ? CSV "; charset=utf-8; header=present" : "application/json");
}

static void
begin_rows(struct writer *w, const char *head)
{
	w->err = OK;
	if (w->is_csv) {
		put(w, head, strlen(head));
	} else {
		jsonw_open(&w->json, w->sink, w->ctx);
		jsonw_array_begin(&w->json, NULL);
	}
}

static enum err
end_rows(struct writer *w)
{
	if (w->is_csv)
		return w->err;
	jsonw_array_end(&w->json);
	return jsonw_close(&w->json);
}

static void
put_path(struct writer *w, const char *path, size_t n, int64_t count)
{
	char number[TEXT_INT_SIZE + 16];
	bool escaped;
	size_t shown_n = show_path(path, n, w->shown, &escaped);

	if (w->is_csv) {
		put_quoted(w, w->shown, shown_n);
		(void)snprintf(number, sizeof(number), ",%lld,%s\r\n", (long long)count,
		    escaped ? "true" : "false");
		put(w, number, strlen(number));
		return;
	}
	jsonw_object_begin(&w->json, NULL);
	jsonw_string_n(&w->json, "path", w->shown, shown_n);
	jsonw_int(&w->json, "count", count);
	if (escaped)
		jsonw_bool(&w->json, "escaped", true);
	jsonw_object_end(&w->json);
}

/* --- What the answers have in common. */

/* All that was answered before this question is in the log by now, or will be within the settling
 * time; then it is taken in. */
enum err
stats_take_in(int64_t until_us)
{
	const struct timespec pause = { .tv_sec = (time_t)(stats.settle_us / CLOCK_SECOND_US),
		.tv_nsec = (long)(stats.settle_us % CLOCK_SECOND_US * 1000) };

	if (stats.settle_us > 0) {
		pool_wait_begin();
		(void)nanosleep(&pause, NULL);
		pool_wait_end();
	}
	return ingest_now(until_us);
}

static enum err
borrow(const struct request *req, struct db **db)
{
	return db_borrow_snapshot(stats.readers, req->start_us + DEADLINE_US, db);
}

/* Of what is not kept nothing is told, rather than too little; in the snapshot of the answer. */
static enum err
check_kept(struct db *db, const struct question *question)
{
	char time[CLOCK_TEXT_SIZE];
	int64_t kept_from;
	enum err err = counts_kept_from(db, &kept_from);

	if (err != OK || question->first_hour >= kept_from)
		return err;
	clock_text(kept_from * HOUR_US, time);
	(void)fail_field("from", "must be %s or later: hours before it are not kept", time);
	return err_pending();
}

/* Without a beginning, what is kept. */
static enum err
begin_at_kept(struct db *db, struct question *question)
{
	char time[CLOCK_TEXT_SIZE];
	enum err err = counts_kept_from(db, &question->first_hour);

	if (err != OK || question->end_hour > question->first_hour || question->first_hour == 0)
		return err;
	clock_text(question->first_hour * HOUR_US, time);
	(void)fail_field("to", "must be later than %s: hours before it are not kept", time);
	return err_pending();
}

static void
bind_prefix(struct db_query *q, const struct question *question)
{
	db_bind_bytes(q, question->from, question->from_n);
	if (question->to_n > 0)
		db_bind_bytes(q, question->to, question->to_n);
	else
		db_bind_null(q);
}

/* --- GET /stats/ */

/* The path of the cursor; ERR_INPUT if there is none. */
static enum err
find_cursor(struct db *db, const struct question *question, char path[HIT_PATH_MAX], size_t *n)
{
	const char *found_path;
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_stats_path_by_id);
	db_bind_int(&q, question->path_id);
	if ((err = db_next(&q, &found)) == OK && found) {
		found_path = db_text(&q, 0, n);
		memcpy(path, found_path, *n);
	} else if (err == OK) {
		(void)fail_field("cursor", "must be that of a Link of this list");
		err = err_pending();
	}
	db_done(&q);
	return err;
}

static enum err
put_link(struct response *res, const struct question *question, int64_t count, int64_t path_id)
{
	char link[3 * PREFIX_MAX + 256], prefix[3 * PREFIX_MAX + 1], time[CLOCK_TEXT_SIZE];
	size_t n = (size_t)snprintf(link, sizeof(link), "</stats/?limit=%lld&cursor=%lld-%lld",
	    (long long)question->limit, (long long)count, (long long)path_id);

#define ADD(...) n += (size_t)snprintf(link + n, sizeof(link) - n, __VA_ARGS__)
	if (question->from_n > 0) {
		(void)text_percent_encode(question->prefix.s, question->prefix.n, prefix);
		ADD("&prefix=%s%s", prefix, question->is_escaped ? "&escaped=true" : "");
	}
	if (question->first_hour > 0) {
		clock_text(question->first_hour * HOUR_US, time);
		ADD("&from=%s", time);
	}
	if (question->end_hour < CLOCK_END_US / HOUR_US) {
		clock_text(question->end_hour * HOUR_US, time);
		ADD("&to=%s", time);
	}
	ADD("%s>; rel=\"next\"",
	    question->is_csv           ? "&format=csv"
		: question->has_format ? "&format=json"
				       : "");
#undef ADD
	return response_field(res, "Link", link);
}

/* The list from the cursor on. */
static enum err
begin_list(struct db *db, const struct question *question, char cursor_path[HIT_PATH_MAX],
    struct db_query *q)
{
	size_t n = 0;
	enum err err;

	if (question->has_cursor && (err = find_cursor(db, question, cursor_path, &n)) != OK)
		return err;
	db_query(
	    q, db, question->has_period ? &sql_stats_paths_list_period : &sql_stats_paths_list);
	bind_prefix(q, question);
	if (question->has_cursor) {
		db_bind_int(q, question->count);
		db_bind_bytes(q, cursor_path, n);
	} else {
		db_bind_null(q);
		db_bind_null(q);
	}
	db_bind_int(q, question->limit < 0 ? -1 : question->limit + 1);
	if (question->has_period) {
		db_bind_int(q, question->first_hour);
		db_bind_int(q, question->end_hour);
	}
	return OK;
}

static void
put_path_row(struct writer *w, const struct db_query *q)
{
	size_t n;
	const char *path = db_text(q, 0, &n);

	put_path(w, path, n, db_int(q, 1));
}

#define LIST_HEAD "path,count,escaped\r\n"

/* A page is held until it is known whether another follows; a whole list is sent as it comes. */
static enum err
send_page(struct db_query *q, const struct question *question, struct response *res)
{
	struct buffer held = { 0 };
	struct writer w = { .sink = buffer_write, .ctx = &held, .is_csv = question->is_csv };
	int64_t count = 0, path_id = 0, rows;
	bool found;
	enum err err;

	begin_rows(&w, LIST_HEAD);
	for (rows = 0; (err = db_next(q, &found)) == OK && found && rows < question->limit;
	     rows++) {
		put_path_row(&w, q);
		count = db_int(q, 1);
		path_id = db_int(q, 2);
	}
	if (err == OK && (err = end_rows(&w)) == OK) {
		begin_response(res, w.is_csv);
		if (found)
			err = put_link(res, question, count, path_id);
		if (err == OK)
			err = response_write(res, held.bytes, held.n);
	}
	buffer_free(&held);
	return err;
}

static enum err
send_all(struct db_query *q, const struct question *question, struct response *res)
{
	struct writer w = { .sink = response_write, .ctx = res, .is_csv = question->is_csv };
	bool found;
	enum err err = db_next(q, &found);

	if (err != OK)
		return err;
	begin_response(res, w.is_csv);
	begin_rows(&w, LIST_HEAD);
	for (; err == OK && found; err = db_next(q, &found)) {
		put_path_row(&w, q);
		if (w.err != OK || w.json.err != OK)
			return w.err != OK ? w.err : w.json.err;
	}
	return err == OK ? end_rows(&w) : err;
}

static enum err
stats_list(struct request *req, struct response *res)
{
	struct question question = { .limit = -1 };
	char cursor_path[HIT_PATH_MAX];
	struct db_query q = { 0 };
	struct db *db = NULL;
	bool found;
	enum err err;

	read_format(req, &question);
	read_prefix(req, &question);
	read_period(req, &question);
	read_cursor(req, &question);
	request_param_int(req, "limit", 1, LIMIT_MAX, &question.limit, &found);
	if ((err = err_pending()) != OK || (err = stats_take_in(req->start_us + TAKE_IN_US)) != OK)
		return err;
	if ((err = borrow(req, &db)) == OK && question.has_period)
		err = check_kept(db, &question);
	if (err == OK && (err = begin_list(db, &question, cursor_path, &q)) == OK)
		err = question.limit < 0 ? send_all(&q, &question, res)
					 : send_page(&q, &question, res);
	db_done(&q);
	db_return(stats.readers, db);
	return err;
}

/* --- GET /stats/hourly */

struct hour {
	int64_t hour, requests, errors, took_ms, took_max_ms;
};

#define HOURLY_HEAD "hour,requests,errors,mean_ms,max_ms\r\n"

static void
put_hour(struct writer *w, const struct hour *hour)
{
	char time[CLOCK_TEXT_SIZE], line[160];
	/* To a thousandth, half of it upwards. */
	int64_t mean_us = (hour->took_ms * 1000 + hour->requests / 2) / hour->requests;

	clock_text(hour->hour * HOUR_US, time);
	if (w->is_csv) {
		(void)snprintf(line, sizeof(line), "%s,%lld,%lld,%lld.%03lld,%lld\r\n", time,
		    (long long)hour->requests, (long long)hour->errors, (long long)(mean_us / 1000),
		    (long long)(mean_us % 1000), (long long)hour->took_max_ms);
		put(w, line, strlen(line));
		return;
	}
	jsonw_object_begin(&w->json, NULL);
	jsonw_string(&w->json, "hour", time);
	jsonw_int(&w->json, "requests", hour->requests);
	jsonw_int(&w->json, "errors", hour->errors);
	jsonw_decimal(&w->json, "mean_ms", mean_us, 3);
	jsonw_int(&w->json, "max_ms", hour->took_max_ms);
	jsonw_object_end(&w->json);
}

static void
take_hour(const struct db_query *q, int first, struct hour *hour)
{
	hour->requests = db_int(q, first);
	hour->errors = db_int(q, first + 1);
	hour->took_ms = db_int(q, first + 2);
	hour->took_max_ms = db_int(q, first + 3);
}

/* One path: a seek an hour between its first and its last one. */
static enum err
put_hours_of_path(struct db *db, int64_t path_id, int64_t first, int64_t end, struct writer *w)
{
	struct hour hour;
	struct db_query q;
	bool found;
	enum err err = OK;

	for (hour.hour = first; hour.hour < end && err == OK; hour.hour++) {
		db_query(&q, db, &sql_stats_hour_of_path);
		db_bind_int(&q, hour.hour);
		db_bind_int(&q, path_id);
		err = db_next(&q, &found);
		if (err == OK && found && !db_is_null(&q, 0)) {
			take_hour(&q, 0, &hour);
			put_hour(w, &hour);
		}
		db_done(&q);
	}
	return err;
}

static enum err
put_path_hours(
    struct db *db, struct request_text path, const struct question *question, struct writer *w)
{
	char wanted[REQUEST_QUERY_MAX];
	int64_t id = 0, first = 0, end = 0;
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_stats_path_get);
	db_bind_bytes(&q, wanted, take_path(question, path, wanted));
	if ((err = db_next(&q, &found)) == OK && found) {
		id = db_int(&q, 0);
		first = db_int(&q, 1);
		end = db_int(&q, 2) + 1;
	}
	db_done(&q);
	if (first < question->first_hour)
		first = question->first_hour;
	if (end > question->end_hour)
		end = question->end_hour;
	return err == OK ? put_hours_of_path(db, id, first, end, w) : err;
}

static enum err
put_prefix_hours(struct db *db, const struct question *question, struct writer *w)
{
	struct db_query q;
	struct hour hour;
	bool found;
	enum err err;

	db_query(&q, db, &sql_stats_hours_of_prefix);
	bind_prefix(&q, question);
	db_bind_int(&q, question->first_hour);
	db_bind_int(&q, question->end_hour);
	while ((err = db_next(&q, &found)) == OK && found) {
		hour.hour = db_int(&q, 0);
		take_hour(&q, 1, &hour);
		put_hour(w, &hour);
	}
	db_done(&q);
	return err;
}

static enum err
send_hours(struct db *db, const struct request_text *path, const struct question *question,
    struct response *res)
{
	struct buffer held = { 0 };
	struct writer w = { .sink = buffer_write, .ctx = &held, .is_csv = question->is_csv };
	enum err err;

	begin_rows(&w, HOURLY_HEAD);
	err = path != NULL ? put_path_hours(db, *path, question, &w)
			   : put_prefix_hours(db, question, &w);
	if (err == OK && (err = end_rows(&w)) == OK) {
		begin_response(res, w.is_csv);
		err = response_write(res, held.bytes, held.n);
	}
	buffer_free(&held);
	return err;
}

static enum err
stats_hourly(struct request *req, struct response *res)
{
	struct question question = { .limit = -1 };
	struct request_text path;
	struct db *db = NULL;
	bool by_path, by_prefix;
	enum err err;

	read_format(req, &question);
	read_prefix(req, &question);
	read_period(req, &question);
	path = request_param(req, "path", &by_path);
	(void)request_param(req, "prefix", &by_prefix);
	if (by_path && by_prefix)
		(void)fail_field("prefix", "does not go with path");
	if ((err = err_pending()) != OK || (err = stats_take_in(req->start_us + TAKE_IN_US)) != OK)
		return err;
	if ((err = borrow(req, &db)) == OK)
		err = question.has_from ? check_kept(db, &question) : begin_at_kept(db, &question);
	if (err == OK)
		err = send_hours(db, by_path ? &path : NULL, &question, res);
	db_return(stats.readers, db);
	return err;
}

/* --- The program. */

static enum err
stats_health(struct request *req, struct response *res)
{
	enum err err = commit_health(stats.commit);

	(void)req;
	if (err == OK)
		err = ingest_health();
	if (err == OK && ingest_lag() > LAG_MAX)
		err = fail(ERR_BUSY, "%lld bytes of the access log are not taken in yet",
		    (long long)ingest_lag());
	return health_answer(res, err);
}

static enum err
stats_open(const struct conf *conf)
{
	enum err err;

	/* With one worker, nginx has written the line before it takes the next request. */
	stats.origin = conf->own_url;
	stats.run_requests_max = conf->test_runs.max_requests;
	stats.settle_us = sysconf(_SC_NPROCESSORS_ONLN) == 1 ? 0 : conf->stats.settle_ms * 1000;
	if ((err = commit_open(COUNTS_FILE, &counts_schema, &stats.commit)) != OK ||
	    (err = db_readers_open(COUNTS_FILE, &counts_schema, &stats.readers)) != OK)
		return err;
	thin_open(stats.commit, conf->stats.keep_days);
	if ((err = runs_open()) != OK)
		return err;
	return ingest_open(stats.commit, stats.readers);
}

static void
stats_close(void)
{
	runs_close();
	ingest_close();
	db_readers_close(stats.readers);
	commit_close(stats.commit);
}

#define PRODUCES "application/json," CSV

static const struct route routes[] = {
	{ METHOD_GET, "/stats", ROLE_ADMIN, stats_list, PRODUCES },
	{ METHOD_GET, "/stats/hourly", ROLE_ADMIN, stats_hourly, PRODUCES },
	{ METHOD_GET, "/test/runs", ROLE_ADMIN, runs_list, NULL },
	{ METHOD_GET, "/test/runs/{id}", ROLE_ADMIN, run_get, NULL },
	{ METHOD_DELETE, "/test/runs/{id}", ROLE_ADMIN, run_stop, NULL },
	{ METHOD_POST, "/test/{requests}", ROLE_ADMIN, run_create, NULL },
	{ METHOD_GET, "/healthz/stats", ROLES_ANYONE, stats_health, NULL },
	{ METHOD_GET, "/metrics/stats", ROLE_ADMIN, scrape_answer, SCRAPE_PRODUCES },
	{ 0 },
};

const struct program program = { "stats", routes, stats_open, stats_close, runs_stop,
	.needs = { CONFINE_ALL_SOCKETS, false,
	    { { "db", CONFINE_WRITE }, { COUNTS_LOG_FOLDER, CONFINE_READ },
		{ "/etc", CONFINE_READ } } } };
