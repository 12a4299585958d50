#include "data_set.h"
#include "http_server.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "lib/serve.h"
#include "stats.h"

#define CSV "text/csv; charset=utf-8; header=present"
#define LIST_HEAD "path,count,escaped\r\n"
#define HOURLY_HEAD "hour,requests,errors,mean_ms,max_ms\r\n"

/* --- The program without a server, on a data folder of its own. */

static struct conf *conf;
static struct http_server server; /* what load runs ask */
static char address[64] = "127.0.0.1:1";

static struct {
	size_t n;
	unsigned writes;
	bool leaves; /* the client takes nothing */
	void (*at_first)(void); /* called when the first bytes come */
	char text[4 * 1024 * 1024];
} answer;

static void
open_program(void)
{
	const struct conf_options options = { .listen = address };
	static const char yaml[] = "stats: {settle_ms: 0}\n";

	ck_assert_msg(
	    conf_parse(yaml, strlen(yaml), "test", &options, &conf) == OK, "%s", err_words());
	ck_assert_msg(program.open(conf) == OK, "%s", err_words());
}

/* What the program says is in the file said. */
static void
begin_closed(void)
{
	int fd;

	folder_begin();
	ck_assert_int_eq(mkdir("log", 0700), 0);
	ck_assert_int_ge(fd = open("said", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600), 0);
	ck_assert_int_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	(void)close(fd);
}

static void
begin(void)
{
	begin_closed();
	open_program();
}

static void
empty_folder(const char *name)
{
	DIR *folder = opendir(name);
	const struct dirent *entry;

	ck_assert_ptr_nonnull(folder);
	while ((entry = readdir(folder)) != NULL)
		(void)unlinkat(dirfd(folder), entry->d_name, 0);
	(void)closedir(folder);
}

/* What must hold whatever was asked: all counts are of one number. */
static void
check_totals(void)
{
	struct counts_totals totals;

	ck_assert_int_eq(db_open(COUNTS_FILE, DB_READ, &counts_schema, &db), OK);
	ck_assert_int_eq(counts_total(db, &totals), OK);
	ck_assert_int_eq(totals.total, totals.of_paths);
	ck_assert_int_eq(totals.total, totals.of_lines);
	ck_assert_int_eq(totals.paths, totals.highest_id);
	db_close(db);
}

static void
end(void)
{
	check_totals();
	program.close();
	conf_close(conf);
	empty_folder("log");
	empty_folder("db");
	(void)rmdir("log");
	(void)unlink("said");
	folder_end();
}

static void
append(const char *file, const char *bytes, size_t n)
{
	char name[64];
	int fd;

	(void)snprintf(name, sizeof(name), "log/%s", file);
	ck_assert_int_ge(fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600), 0);
	ck_assert_int_eq(write(fd, bytes, n), (ssize_t)n);
	(void)close(fd);
}

/* Requests that nginx answered; what is NULL or 0 is as most are. */
struct hits {
	const char *path; /* as the log escapes it */
	int count; /* 1 */
	const char *at; /* 2026-11-21T04:00:00 */
	int status; /* 200 */
	const char *seconds; /* 0.004 */
};

/* A line of its own: the numbers of no two are the same.  Lent until the next call. */
static const char *
line_of(const struct hits *hits)
{
	static unsigned number;
	static char line[HIT_LINE_MAX];

	(void)snprintf(line, sizeof(line),
	    "{\"time\":\"%s+00:00\",\"trace_id\":\"%032u\",\"method\":\"GET\",\"path\":\"%s\","
	    "\"status\":%d,\"bytes\":17,\"seconds\":%s,\"cache\":\"\"}\n",
	    hits->at != NULL ? hits->at : "2026-11-21T04:00:00", ++number, hits->path,
	    hits->status > 0 ? hits->status : 200, hits->seconds ? hits->seconds : "0.004");
	return line;
}

static void
log_to(const char *file, const struct hits *hits, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (int k = 0; k < (hits[i].count > 0 ? hits[i].count : 1); k++) {
			const char *line = line_of(&hits[i]);

			append(file, line, strlen(line));
		}
}

/* Sets when a file was written last. */
static void
set_age(const char *file, time_t seconds)
{
	struct timespec times[2] = { { .tv_sec = time(NULL) - seconds } };
	char name[64];

	times[1] = times[0];
	(void)snprintf(name, sizeof(name), "log/%s", file);
	ck_assert_int_eq(utimensat(AT_FDCWD, name, times, 0), 0);
}

#define LOG(...) log_to(COUNTS_LOG, &(const struct hits){ __VA_ARGS__ }, 1)

/* What is asked; what is NULL is not sent. */
struct question {
	const char *method, *uri, *accept, *prefer, *key;
};

static bool
take(void *ctx, const char *bytes, size_t n)
{
	(void)ctx;
	if (answer.writes++ == 0 && answer.at_first != NULL)
		answer.at_first();
	ck_assert_uint_lt(answer.n + n, sizeof(answer.text));
	memcpy(answer.text + answer.n, bytes, n);
	answer.n += n;
	answer.text[answer.n] = '\0';
	return !answer.leaves;
}

static ssize_t
give_nothing(void *ctx, char *buffer, size_t n)
{
	(void)ctx;
	(void)buffer;
	(void)n;
	return 0;
}

/* Whether the answer came whole; it is in ANSWER, its status in *STATUS. */
static bool
run(const struct question *q, int *status)
{
	static struct request req;
	static struct response res;
	static char texts[5][REQUEST_QUERY_MAX + 1024];
	const char *const values[][2] = { { "REQUEST_METHOD", q->method },
		{ "REQUEST_URI", q->uri }, { "HTTP_ACCEPT", q->accept },
		{ "HTTP_PREFER", q->prefer }, { "HTTP_IDEMPOTENCY_KEY", q->key } };
	char *meta[COUNT(values) + 1];
	const struct request_source source = { .meta = meta, .read = give_nothing };
	size_t count = 0;
	bool whole;

	for (size_t i = 0; i < COUNT(values); i++)
		if (values[i][1] != NULL) {
			(void)snprintf(
			    texts[i], sizeof(texts[i]), "%s=%s", values[i][0], values[i][1]);
			meta[count++] = texts[i];
		}
	meta[count] = NULL;
	answer.n = answer.writes = 0;
	answer.text[0] = '\0';
	response_open(&res, take, NULL);
	whole = route_run(program.routes, &req, &res, &source);
	*status = res.status;
	return whole;
}

static int
ask(const struct question *q)
{
	int status;

	ck_assert_msg(run(q, &status), "%s %s", q->method, q->uri);
	ck_assert_ptr_eq(strstr(answer.text, "Status: "), answer.text);
	return status;
}

#define ASK(...) ask(&(const struct question){ __VA_ARGS__ })
#define GET(target) ASK(.method = "GET", .uri = (target))
#define POST(target) ASK(.method = "POST", .uri = (target))

static bool
said(const char *text)
{
	return strstr(answer.text, text) != NULL;
}

static const char *
body(void)
{
	return strstr(answer.text, "\r\n\r\n") + 4;
}

/* The value of a field; "" if there is none. */
static const char *
field(const char *name)
{
	static char value[RESPONSE_HEAD_MAX];
	char start[64];
	const char *at;

	(void)snprintf(start, sizeof(start), "\r\n%s: ", name);
	at = strstr(answer.text, start);
	value[0] = '\0';
	if (at != NULL && at < body())
		(void)snprintf(value, sizeof(value), "%.*s", (int)strcspn(at + strlen(start), "\r"),
		    at + strlen(start));
	return value;
}

#define ck_get(target, wanted) \
	do { \
		ck_assert_msg(GET(target) == 200, "%s: %s", target, answer.text); \
		ck_assert_msg(strcmp(body(), wanted) == 0, "%s: %s", target, body()); \
	} while (0)

/* How often a path was counted, by the list. */
static int64_t
count_of(const char *path)
{
	char start[256];
	const char *at;

	ck_assert_msg(GET("/stats/") == 200, "%s", answer.text);
	(void)snprintf(start, sizeof(start), "{\"path\":\"%s\",\"count\":", path);
	at = strstr(body(), start);
	return at != NULL ? strtoll(at + strlen(start), NULL, 10) : 0;
}

/* How often the program has said this. */
static int
times_said(const char *text)
{
	static char all[1024 * 1024];
	FILE *file = fopen("said", "re");
	int times = 0;

	ck_assert_ptr_nonnull(file);
	all[fread(all, 1, sizeof(all) - 1, file)] = '\0';
	(void)fclose(file);
	for (const char *at = all; (at = strstr(at, text)) != NULL; at++)
		times++;
	return times;
}

START_TEST(every_route_is_listed_here_and_has_roles)
{
	static const struct {
		enum method method;
		const char *path;
		unsigned roles;
	} expected[] = {
		{ METHOD_GET, "/stats", ROLE_ADMIN },
		{ METHOD_GET, "/stats/hourly", ROLE_ADMIN },
		{ METHOD_GET, "/test/runs", ROLE_ADMIN },
		{ METHOD_GET, "/test/runs/{id}", ROLE_ADMIN },
		{ METHOD_DELETE, "/test/runs/{id}", ROLE_ADMIN },
		{ METHOD_POST, "/test/{requests}", ROLE_ADMIN },
		{ METHOD_GET, "/healthz/stats", ROLES_ANYONE },
		{ METHOD_GET, "/metrics/stats", ROLE_ADMIN },
	};
	size_t i = 0;

	for (; program.routes[i].path != NULL; i++) {
		ck_assert_uint_lt(i, COUNT(expected));
		ck_assert_int_eq(program.routes[i].method, expected[i].method);
		ck_assert_str_eq(program.routes[i].path, expected[i].path);
		ck_assert_uint_eq(program.routes[i].roles, expected[i].roles);
		ck_assert_ptr_nonnull(program.routes[i].handler);
	}
	ck_assert_uint_eq(i, COUNT(expected));
	ck_assert_str_eq(program.name, "stats");
}
END_TEST

/* --- The list. */

START_TEST(without_requests_each_list_is_empty)
{
	static const struct {
		const char *uri, *body;
	} rows[] = {
		{ "/stats", "[]" },
		{ "/stats/?limit=1", "[]" },
		{ "/stats/?format=csv", LIST_HEAD },
		{ "/stats/?format=csv&limit=1", LIST_HEAD },
		{ "/stats/hourly", "[]" },
		{ "/stats/hourly?path=/a", "[]" },
		{ "/stats/hourly?path=", "[]" },
		{ "/stats/hourly?format=csv", HOURLY_HEAD },
		{ "/test/runs", "[]" },
	};

	begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_get(rows[i].uri, rows[i].body);
		ck_assert_str_eq(field("Link"), "");
	}
	end();
}
END_TEST

static const struct hits some[] = {
	{ "/b", 2, NULL, 0, NULL },
	{ "/a", 2, NULL, 0, NULL },
	{ "/a/x", 3, "2026-11-21T06:59:59", 0, NULL },
	{ "/a", 1, "2026-11-21T05:00:00", 0, NULL },
	{ "/\xc3\xa5", 1, NULL, 0, NULL },
	{ "/\xc3\xa6", 1, NULL, 0, NULL },
	{ "", 1, "1970-01-01T00:00:00", 400, NULL },
	{ "/far", 1, "9999-12-31T23:59:59", 0, NULL },
};

#define ROW(path, count) "{\"path\":\"" path "\",\"count\":" count "}"

START_TEST(prefix_and_period_narrow_the_list)
{
	static const struct {
		const char *query, *body;
	} rows[] = {
		{ "",
		    ROW("/a", "3") "," ROW("/a/x", "3") "," ROW("/b", "2") "," ROW("", "1") "," ROW(
			"/far", "1") "," ROW("/\xc3\xa5", "1") "," ROW("/\xc3\xa6", "1") },
		{ "prefix=/a", ROW("/a", "3") "," ROW("/a/x", "3") },
		{ "prefix=/a/", ROW("/a/x", "3") },
		{ "prefix=%2Fa%2f", ROW("/a/x", "3") },
		{ "prefix=/%C3%A5", ROW("/\xc3\xa5", "1") },
		{ "prefix=/\xc3\xa6", ROW("/\xc3\xa6", "1") },
		{ "prefix=/ab", "" },
		{ "prefix=%F4%8F%BF%BF", "" }, /* the last of all that is UTF-8 */
		{ "prefix=%7F", "" },
		{ "prefix=&limit=1", ROW("/a", "3") },
		{ "from=2026-11-21T05:00:00Z&to=2026-11-21T06:00:00Z", ROW("/a", "1") },
		{ "from=2026-11-21T06:00:00%2B01:00&to=2026-11-21T06:00:00", ROW("/a", "1") },
		{ "from=2026-11-21T05:00:00Z&to=2026-11-21T05:00:00Z", "" },
		{ "from=2026-11-21T06:00:00Z&to=2026-11-21T05:00:00Z", "" },
		{ "to=1970-01-01T00:00:00Z", "" },
		{ "to=1970-01-01T01:00:00Z", ROW("", "1") },
		{ "from=9999-12-31T23:00:00Z", ROW("/far", "1") },
		{ "to=9999-12-31T23:00:00Z&from=2026-11-21T06:00:00Z", ROW("/a/x", "3") },
		{ "prefix=/a&to=2026-11-21T05:00:00Z", ROW("/a", "2") },
		{ "prefix=/b&from=2026-11-21T05:00:00Z", "" },
		{ "limit=1000&cursor=3-1&unknown=1", "-" },
		{ "cursor=0-1", "" },
		{ "cursor=1-1&prefix=/a", "" },
	};
	char uri[256], expected[1024];

	begin();
	log_to(COUNTS_LOG, some, COUNT(some));
	for (size_t i = 0; i < COUNT(rows); i++) {
		(void)snprintf(uri, sizeof(uri), "/stats/?%s", rows[i].query);
		(void)snprintf(expected, sizeof(expected), "[%s]", rows[i].body);
		ck_assert_msg(GET(uri) == 200, "%s: %s", uri, answer.text);
		ck_assert_msg(
		    rows[i].body[0] == '-' || strcmp(body(), expected) == 0, "%s: %s", uri, body());
		ck_assert(said("\r\nContent-Type: application/json\r\n"));
	}
	end();
}
END_TEST

/* N times A, in *TEXT; yours to free. */
static char *
many(size_t n)
{
	char *text = malloc(n + 1);

	ck_assert_ptr_nonnull(text);
	memset(text, 'a', n);
	text[n] = '\0';
	return text;
}

START_TEST(a_prefix_has_at_most_four_hundred_bytes)
{
	static const struct {
		size_t n;
		int status;
	} rows[] = { { 399, 200 }, { 400, 200 }, { 401, 400 }, { 8000, 400 } };
	static const char *const resources[] = { "/stats/?prefix=", "/stats/hourly?prefix=" };
	char *uri, *text;

	begin();
	for (size_t i = 0; i < COUNT(rows); i++)
		for (size_t k = 0; k < COUNT(resources); k++) {
			text = many(rows[i].n);
			ck_assert_int_gt(asprintf(&uri, "%s%s", resources[k], text), 0);
			ck_assert_int_eq(GET(uri), rows[i].status);
			ck_assert_int_eq(said("\"pointer\":\"prefix\""), rows[i].status == 400);
			free(uri);
			free(text);
		}
	end();
}
END_TEST

START_TEST(a_bad_question_is_refused_with_every_bad_field_named)
{
	static const struct {
		const char *uri, *pointers[4]; /* none: the whole address is bad */
	} rows[] = {
		{ "/stats?limit=0", { "limit" } },
		{ "/stats?limit=1001", { "limit" } },
		{ "/stats?limit=", { "limit" } },
		{ "/stats?limit=-1", { "limit" } },
		{ "/stats?limit=1&limit=1", { "limit" } },
		{ "/stats?limit=9223372036854775808", { "limit" } },
		{ "/stats?cursor=", { "cursor" } },
		{ "/stats?cursor=-", { "cursor" } },
		{ "/stats?cursor=1", { "cursor" } },
		{ "/stats?cursor=1-", { "cursor" } },
		{ "/stats?cursor=-1", { "cursor" } },
		{ "/stats?cursor=-1-1", { "cursor" } },
		{ "/stats?cursor=1--1", { "cursor" } },
		{ "/stats?cursor=1-1-", { "cursor" } },
		{ "/stats?cursor=1-0", { "cursor" } },
		{ "/stats?cursor=1-8", { "cursor" } }, /* there are seven paths */
		{ "/stats?limit=3&cursor=1-9223372036854775807", { "cursor" } },
		{ "/stats?cursor=1-9223372036854775808", { "cursor" } },
		{ "/stats?cursor=9223372036854775808-1", { "cursor" } },
		{ "/stats?cursor=azE", { "cursor" } }, /* of the list of runs */
		{ "/stats?cursor=1-1&cursor=1-1", { "cursor" } },
		{ "/stats?prefix=a&prefix=a", { "prefix" } },
		{ "/stats?prefix=%FF", { NULL } },
		{ "/stats?prefix=/a%FF", { NULL } },
		{ "/stats?prefix=%C3", { NULL } },
		{ "/stats?prefix=%00", { NULL } },
		{ "/stats?prefix=%G0", { NULL } },
		{ "/stats?from=2026-11-21T04:00:01Z", { "from" } },
		{ "/stats?from=2026-11-21T04:00:00.000001Z", { "from" } },
		{ "/stats?from=2026-11-21T04:30:00%2B01:00", { "from" } },
		{ "/stats?from=2026-02-30T04:00:00Z", { "from" } },
		{ "/stats?from=1969-12-31T23:00:00Z", { "from" } },
		{ "/stats?from=", { "from" } },
		{ "/stats?to=2026-11-21T04:59:00Z", { "to" } },
		{ "/stats?to=10000-01-01T00:00:00Z", { "to" } },
		{ "/stats?to=9999-12-31T23:00:00-01:00", { "to" } },
		{ "/stats?to=x&to=x", { "to" } },
		{ "/stats?format=", { "format" } },
		{ "/stats?format=CSV", { "format" } },
		{ "/stats?format=json&format=json", { "format" } },
		{ "/stats?format=xml&limit=0&cursor=x&from=x",
		    { "format", "limit", "cursor", "from" } },
		{ "/stats/hourly?path=/a&prefix=/a", { "prefix" } },
		{ "/stats/hourly?path=/a&path=/a", { "path" } },
		{ "/stats/hourly?path=%FF", { NULL } },
		{ "/stats/hourly?from=x&to=x&format=x", { "from", "to", "format" } },
	};
	char pointer[64];

	begin();
	log_to(COUNTS_LOG, some, COUNT(some));
	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_assert_msg(GET(rows[i].uri) == 400, "%s: %s", rows[i].uri, answer.text);
		ck_assert(said("\r\nContent-Type: application/problem+json\r\n"));
		ck_assert_int_eq(said("\"pointer\""), rows[i].pointers[0] != NULL);
		for (size_t k = 0; k < 4 && rows[i].pointers[k] != NULL; k++) {
			(void)snprintf(
			    pointer, sizeof(pointer), "\"pointer\":\"%s\"", rows[i].pointers[k]);
			ck_assert_msg(said(pointer), "%s: %s", rows[i].uri, answer.text);
		}
	}
	end();
}
END_TEST

/* Paths with the same counts, and with all that must be encoded in a Link. */
static void
log_many(void)
{
	static const char *const starts[] = { "/a b&c=d", "/a b&c=d+\xc3\xa5/", "/a%25", "/z" };
	static const char *const hours[] = { "2026-11-21T04:00:00", "2026-11-21T05:00:00" };
	char path[64];

	for (int i = 0; i < 60; i++) {
		(void)snprintf(path, sizeof(path), "%s%d", starts[i % 4], i);
		LOG(.path = path, .count = 1 + i % 7 / 2, .at = hours[i % 2]);
		LOG(.path = path, .at = hours[i % 3 / 2]);
	}
}

/* The pages of a list from TARGET on, joined to one text; returns how many they are. */
static int
join_pages(const char *target, const char *accept, bool csv, char *joined, size_t room)
{
	char uri[RESPONSE_HEAD_MAX];
	char *to = stpcpy(joined, csv ? LIST_HEAD : "[");
	int pages = 0;

	for ((void)snprintf(uri, sizeof(uri), "%s", target); uri[0] != '\0'; pages++) {
		const char *rows, *link;
		size_t n;

		ck_assert_msg(ASK(.method = "GET", .uri = uri, .accept = accept) == 200, "%s: %s",
		    uri, answer.text);
		ck_assert_str_eq(field("Content-Type"), csv ? CSV : "application/json");
		rows = body() + (csv ? strlen(LIST_HEAD) : 1);
		n = strlen(rows) - (csv ? 0 : 1);
		ck_assert_uint_lt((size_t)(to - joined) + n + 3, room);
		to = stpcpy(to, !csv && pages > 0 ? "," : "");
		to = stpncpy(to, rows, n);
		*to = '\0';
		link = field("Link");
		n = strcspn(link, ">");
		ck_assert(link[0] == '\0' || strcmp(link + n, ">; rel=\"next\"") == 0);
		(void)snprintf(uri, sizeof(uri), "%.*s", n > 0 ? (int)n - 1 : 0, link + 1);
	}
	(void)stpcpy(to, csv ? "" : "]");
	return pages;
}

START_TEST(pages_join_to_the_whole_list)
{
	static const struct {
		const char *query, *accept;
		bool csv;
		int rows;
	} rows[] = {
		{ "", NULL, false, 60 },
		{ "format=csv", NULL, true, 60 },
		{ "", "text/csv", true, 60 },
		{ "format=json", "text/csv", false, 60 },
		{ "prefix=/a+b%26c%3Dd", NULL, false, 30 },
		{ "prefix=/a%20b%26c%3Dd%2B%C3%A5/&format=csv", NULL, true, 15 },
		{ "prefix=/a%25", NULL, false, 15 },
		{ "from=2026-11-21T05:00:00Z", NULL, false, 40 },
		{ "to=2026-11-21T05:00:00Z&prefix=/z", NULL, false, 10 },
		{ "from=2026-11-21T06:00:00%2B01:00&to=2026-11-21T06:00:00Z&prefix=/", "text/csv",
		    true, 40 },
		{ "prefix=none", NULL, false, 0 },
	};
	static const int limits[] = { 1, 2, 7, 59, 60, 1000 };
	static char whole[64 * 1024], joined[64 * 1024];
	char uri[256];

	begin();
	log_many();
	for (size_t i = 0; i < COUNT(rows); i++) {
		(void)snprintf(uri, sizeof(uri), "/stats/?%s", rows[i].query);
		ck_assert_int_eq(ASK(.method = "GET", .uri = uri, .accept = rows[i].accept), 200);
		ck_assert_str_eq(field("Link"), "");
		(void)snprintf(whole, sizeof(whole), "%s", body());
		for (size_t k = 0; k < COUNT(limits); k++) {
			int pages =
			    rows[i].rows == 0 ? 1 : (rows[i].rows + limits[k] - 1) / limits[k];

			(void)snprintf(
			    uri, sizeof(uri), "/stats/?%s&limit=%d", rows[i].query, limits[k]);
			ck_assert_msg(join_pages(uri, rows[i].accept, rows[i].csv, joined,
					  sizeof(joined)) == pages,
			    "%s: not %d pages", uri, pages);
			ck_assert_msg(strcmp(joined, whole) == 0, "%s: %s", uri, joined);
		}
	}
	end();
}
END_TEST

START_TEST(a_link_with_the_longest_prefix_fits)
{
	static const char letter[] = "\xc3\xa5"; /* six bytes in a Link */
	char path[512] = "", encoded[2048] = "", uri[4096];

	begin();
	for (int i = 0; i < 200; i++) {
		(void)strcat(path, letter);
		(void)strcat(encoded, "%C3%A5");
	}
	LOG(.path = path);
	(void)strcat(path, "b");
	LOG(.path = path);
	(void)snprintf(uri, sizeof(uri),
	    "/stats?limit=1&prefix=%s&from=2026-11-21T04:00:00Z&to=2026-11-21T05:00:00Z&format=csv",
	    encoded);
	ck_assert_msg(GET(uri) == 200, "%s", answer.text);
	ck_assert_ptr_nonnull(strstr(field("Link"), encoded));
	ck_assert_ptr_nonnull(strstr(field("Link"),
	    "&from=2026-11-21T04:00:00.000000Z&to=2026-11-21T05:00:00.000000Z&format=csv>"));
	end();
}
END_TEST

START_TEST(any_byte_of_a_path_comes_out_harmless)
{
	static const struct {
		const char *logged, *json, *csv;
	} rows[] = {
		{ "/\\\"q\\\"", "/\\\"q\\\"\",\"count\":1", "\"/\"\"q\"\"\"" },
		{ "/\\\\", "/\\\\\",\"count\":1", "\"/\\\"" },
		{ "/a,b%0Ac\\r", "/a,b\\nc\\r\",\"count\":1", "\"/a,b\nc\r\"" },
		{ "/%7F\\u0001", "/\\u007f\\u0001\",\"count\":1", "\"/\x7f\x01\"" },
		{ "=1+1", "=1+1\",\"count\":1", "\"'=1+1\"" },
		{ "+1", "+1\",\"count\":1", "\"'+1\"" },
		{ "-1", "-1\",\"count\":1", "\"'-1\"" },
		{ "@a", "@a\",\"count\":1", "\"'@a\"" },
		{ "\\ta", "\\ta\",\"count\":1", "\"'\ta\"" },
		{ "%0D", "\\r\",\"count\":1", "\"'\r\"" },
		{ "/=1", "/=1\",\"count\":1", "\"/=1\"" },
		{ "", "\",\"count\":1", "\"\"" },
		{ "/%FF\xfe", "/\\\\xFF\\\\xFE\",\"count\":1,\"escaped\":true", "\"/\\xFF\\xFE\"" },
		{ "/\xc3", "/\\\\xC3\",\"count\":1,\"escaped\":true", "\"/\\xC3\"" },
		{ "/\xed\xa0\x80", "/\\\\xED\\\\xA0\\\\x80\",\"count\":1,\"escaped\":true",
		    "\"/\\xED\\xA0\\x80\"" },
		{ "/\xf0\x9f\x98\x80%e2%82%ac", "/\xf0\x9f\x98\x80\xe2\x82\xac\",\"count\":1}",
		    "\"/\xf0\x9f\x98\x80\xe2\x82\xac\"" },
	};
	char wanted[256];

	begin();
	for (size_t i = 0; i < COUNT(rows); i++)
		LOG(.path = rows[i].logged);
	ck_assert_int_eq(GET("/stats"), 200);
	for (size_t i = 0; i < COUNT(rows); i++) {
		(void)snprintf(wanted, sizeof(wanted), "{\"path\":\"%s", rows[i].json);
		ck_assert_msg(said(wanted), "row %zu: %s", i, body());
	}
	ck_assert_int_eq(GET("/stats?format=csv"), 200);
	for (size_t i = 0; i < COUNT(rows); i++) {
		(void)snprintf(wanted, sizeof(wanted), "\r\n%s,1,%s\r\n", rows[i].csv,
		    strstr(rows[i].json, "escaped") != NULL ? "true" : "false");
		ck_assert_msg(said(wanted), "row %zu: %s", i, body());
	}
	end();
}
END_TEST

START_TEST(the_longest_path_is_shown_whole_also_where_no_byte_of_it_is_utf_8)
{
	static char path[HIT_PATH_MAX + 2], shown[4 * HIT_PATH_MAX + 64];
	char *to = stpcpy(shown, LIST_HEAD "\"");

	begin();
	memset(path, 0xff, HIT_PATH_MAX);
	for (int i = 0; i < HIT_PATH_MAX; i++)
		to = stpcpy(to, "\\xFF");
	(void)stpcpy(to, "\",1,true\r\n");
	LOG(.path = path);
	ck_get("/stats?format=csv", shown);
	ck_assert_int_eq(GET("/stats?limit=1"), 200);
	ck_assert_uint_eq(strlen(body()),
	    strlen("[{\"path\":\"\",\"count\":1,\"escaped\":true}]") + 5 * HIT_PATH_MAX);
	path[HIT_PATH_MAX] = 'a';
	LOG(.path = path); /* none that nginx takes: damaged */
	ck_get("/stats?format=csv", shown);
	ck_assert_int_eq(times_said("log_damaged"), 1);
	end();
}
END_TEST

START_TEST(paths_that_are_no_text_are_asked_for_as_they_are_shown)
{
	static const struct {
		const char *query, *says;
	} rows[] = {
		{ "path=/%5CxFF%5Cx5C&escaped=true", "\"requests\":1," },
		{ "path=/%5CxFF%5C&escaped=true", "\"requests\":1," },
		{ "path=/%5CxFF%5C", "\"requests\":2," },
		{ "path=/%5CxFF%5C&escaped=false", "\"requests\":2," },
		{ "path=/%5CxFG&escaped=true", "[]" },
		{ "path=/%5Cx&escaped=true", "[]" },
		{ "prefix=/%5CxFF&escaped=true", "\"requests\":1," },
		{ "prefix=/%5CxF&escaped=true", "\"requests\":2," },
	};
	char uri[128];

	begin();
	LOG(.path = "/\xff\\\\");
	LOG(.path = "/\\\\xFF\\\\", .count = 2);
	ck_assert_int_eq(GET("/stats/?limit=2"), 200);
	ck_assert(said("{\"path\":\"/\\\\xFF\\\\\",\"count\":2}"));
	ck_assert(said("{\"path\":\"/\\\\xFF\\\\x5C\",\"count\":1,\"escaped\":true}"));
	for (size_t i = 0; i < COUNT(rows); i++) {
		(void)snprintf(uri, sizeof(uri), "/stats/hourly?%s", rows[i].query);
		ck_assert_int_eq(GET(uri), 200);
		ck_assert_msg(said(rows[i].says), "%s: %s", rows[i].query, body());
	}
	LOG(.path = "/\xff");
	ck_assert_int_eq(GET("/stats/?prefix=/%5CxFF&escaped=true&limit=1"), 200);
	ck_assert_msg(
	    strstr(field("Link"), "&prefix=%2F%5CxFF&escaped=true>") != NULL, "%s", field("Link"));
	end();
}
END_TEST

START_TEST(format_wins_over_accept)
{
	static const struct {
		const char *query, *accept;
		int status;
		const char *type;
	} rows[] = {
		{ "", NULL, 200, "application/json" },
		{ "", "*/*", 200, "application/json" },
		{ "", "application/json, text/csv", 200, "application/json" },
		{ "", "application/json;q=0.5, text/csv;q=0.6", 200, CSV },
		{ "", "text/html, */*;q=0.8", 200, "application/json" },
		{ "", "text/csv", 200, CSV },
		{ "", "TEXT/*", 200, CSV },
		{ "", "text/csv, application/json;q=0", 200, CSV },
		{ "?format=json", "text/csv", 200, "application/json" },
		{ "?format=csv", "application/json", 200, CSV },
		{ "?format=csv&limit=1", "application/json", 200, CSV },
		{ "", "text/html", 406, "application/problem+json" },
		{ "?format=csv", "text/html", 406, "application/problem+json" },
	};
	static const char *const resources[] = { "/stats", "/stats/hourly" };
	char uri[128];

	begin();
	for (size_t i = 0; i < COUNT(rows); i++)
		for (size_t k = 0; k < COUNT(resources); k++) {
			(void)snprintf(uri, sizeof(uri), "%s%s", resources[k], rows[i].query);
			ck_assert_msg(ASK(.method = "GET", .uri = uri, .accept = rows[i].accept) ==
				rows[i].status,
			    "row %zu: %s", i, answer.text);
			ck_assert_str_eq(field("Content-Type"), rows[i].type);
		}
	end();
}
END_TEST

START_TEST(head_options_and_other_methods_follow_the_table)
{
	static const struct {
		const char *method, *uri;
		int status;
		const char *allow;
	} rows[] = {
		{ "POST", "/stats", 405, "GET, HEAD, OPTIONS" },
		{ "OPTIONS", "/stats/", 204, "GET, HEAD, OPTIONS" },
		{ "DELETE", "/stats/hourly/", 405, "GET, HEAD, OPTIONS" },
		{ "POST", "/test/runs", 405, "GET, HEAD, OPTIONS" },
		{ "PUT", "/test/runs/1", 405, "GET, HEAD, DELETE, OPTIONS" },
		{ "GET", "/test/5", 405, "POST, OPTIONS" },
		{ "GET", "/stats/x", 404, "" },
		{ "GET", "/test", 404, "" },
	};
	static const char *const uris[] = { "/stats", "/stats?format=csv", "/stats?limit=1",
		"/stats/hourly", "/stats/hourly?path=/a", "/test/runs", "/healthz/stats" };
	char length[32];

	begin();
	log_to(COUNTS_LOG, some, COUNT(some));
	for (size_t i = 0; i < COUNT(uris); i++) {
		ck_assert_int_eq(GET(uris[i]), 200);
		(void)snprintf(length, sizeof(length), "%zu", strlen(body()));
		ck_assert_str_eq(field("Content-Length"), length);
		ck_assert_int_eq(ASK(.method = "HEAD", .uri = uris[i]), 200);
		ck_assert_str_eq(field("Content-Length"), length);
		ck_assert_str_eq(body(), "");
	}
	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_assert_int_eq(ASK(.method = rows[i].method, .uri = rows[i].uri), rows[i].status);
		ck_assert_str_eq(field("Allow"), rows[i].allow);
	}
	end();
}
END_TEST

/* --- Streams. */

#define STREAMED 3000

/* As many different paths, in one write. */
static void
log_streamed(void)
{
	char *all = malloc(STREAMED * 256), *to = all, path[64];

	ck_assert_ptr_nonnull(all);
	for (int i = 0; i < STREAMED; i++) {
		(void)snprintf(path, sizeof(path), "/streamed/%d", i);
		to = stpcpy(to, line_of(&(struct hits){ .path = path }));
	}
	append(COUNTS_LOG, all, (size_t)(to - all));
	free(all);
}

static void
count_meanwhile(void)
{
	LOG(.path = "/late", .count = 2);
	LOG(.path = "/streamed/2999", .count = 2);
	ck_assert_int_eq(ingest_now(clock_monotonic_us() + 60 * CLOCK_SECOND_US), OK);
}

START_TEST(a_long_list_is_streamed_from_one_snapshot)
{
	int rows = 0;

	begin();
	log_streamed();
	answer.at_first = count_meanwhile;
	ck_assert_int_eq(GET("/stats"), 200);
	answer.at_first = NULL;
	ck_assert_uint_gt(answer.writes, 2);
	ck_assert_str_eq(field("Content-Length"), "");
	for (const char *at = body(); (at = strstr(at, "\"count\":1}")) != NULL; at++)
		rows++;
	ck_assert_int_eq(rows, STREAMED);
	ck_assert(!said("/late") && !said("\"count\":3"));
	ck_assert_str_eq(answer.text + answer.n - 2, "}]");

	ck_get("/stats?prefix=/late", "[{\"path\":\"/late\",\"count\":2}]");
	ck_get("/stats?limit=1", "[{\"path\":\"/streamed/2999\",\"count\":3}]");
	ck_assert_int_eq(GET("/stats?limit=1000"), 200); /* a page comes at once */
	ck_assert_str_ne(field("Content-Length"), "");
	end();
}
END_TEST

START_TEST(a_client_that_leaves_ends_the_work)
{
	static const char *const uris[] = { "/stats", "/stats?format=csv" };
	int status;

	begin();
	log_streamed();
	for (size_t i = 0; i < COUNT(uris); i++) {
		answer.leaves = true;
		ck_assert(!run(&(struct question){ .method = "GET", .uri = uris[i] }, &status));
		ck_assert_uint_eq(answer.writes, 1);
		answer.leaves = false;
		ck_assert_int_eq(GET(uris[i]), 200);
	}
	end();
}
END_TEST

/* --- Hours. */

#define HOUR(hour, requests, errors, mean, max) \
	"{\"hour\":\"" hour ":00:00.000000Z\",\"requests\":" requests ",\"errors\":" errors \
	",\"mean_ms\":" mean ",\"max_ms\":" max "}"

static const struct hits hourly[] = {
	{ "/a", 1, "2026-11-21T04:00:00", 200, "0.001" },
	{ "/a", 1, "2026-11-21T04:59:59", 399, "0.002" },
	{ "/a", 1, "2026-11-21T04:30:00", 400, "0.002" }, /* 5 ms in 3: 1.667 */
	{ "/a", 1, "2026-11-21T07:00:00", 599, "1.000" },
	{ "/a/b", 15, "2026-11-21T04:00:00", 0, "0.000" },
	{ "/a/b", 1, "2026-11-21T04:00:00", 404, "0.001" }, /* 1 ms in 16: 0.0625 */
	{ "/a/b", 1, "2026-11-21T23:00:00", 0, "2147483647.999" },
	{ "/b", 15, "2026-11-21T05:00:00", 0, "0.000" },
	{ "/b", 1, "2026-11-21T05:00:00", 0, "0.003" }, /* 3 ms in 16: 0.1875 */
};

#define A04 HOUR("2026-11-21T04", "3", "1", "1.667", "2")
#define A07 HOUR("2026-11-21T07", "1", "1", "1000", "1000")
#define AB04 HOUR("2026-11-21T04", "16", "1", "0.063", "1")
#define AB23 HOUR("2026-11-21T23", "1", "0", "2147483647999", "2147483647999")
#define B05 HOUR("2026-11-21T05", "16", "0", "0.188", "3")
#define ALL04 HOUR("2026-11-21T04", "19", "2", "0.316", "2")

START_TEST(hours_add_up_by_path_prefix_and_period)
{
	static const struct {
		const char *query, *body;
	} rows[] = {
		{ "", ALL04 "," B05 "," A07 "," AB23 },
		{ "prefix=", ALL04 "," B05 "," A07 "," AB23 },
		{ "prefix=/a", ALL04 "," A07 "," AB23 },
		{ "prefix=/a/", AB04 "," AB23 },
		{ "prefix=/b", B05 },
		{ "prefix=/c", "" },
		{ "path=/a", A04 "," A07 },
		{ "path=%2Fa/b", AB04 "," AB23 },
		{ "path=/b", B05 },
		{ "path=/b/", "" },
		{ "path=", "" },
		{ "path=/a&to=2026-11-21T04:00:00Z", "" },
		{ "path=/a&to=2026-11-21T05:00:00Z", A04 },
		{ "path=/a&from=2026-11-21T05:00:00Z", A07 },
		{ "path=/a&from=2026-11-21T05:00:00Z&to=2026-11-21T07:00:00Z", "" },
		{ "path=/a&from=2026-11-21T07:00:00Z&to=2026-11-21T08:00:00Z", A07 },
		{ "path=/a&from=2026-11-21T08:00:00Z&to=2026-11-21T04:00:00Z", "" },
		{ "path=/a&from=9999-12-31T23:00:00Z", "" },
		{ "path=/a&from=1970-01-01T00:00:00Z&to=9999-12-31T23:00:00Z", A04 "," A07 },
		{ "prefix=/a&from=2026-11-21T05:00:00Z&to=2026-11-21T23:00:00Z", A07 },
		{ "to=2026-11-21T05:00:00Z", ALL04 },
		{ "from=2026-11-21T05:00:00Z&to=2026-11-21T04:00:00Z", "" },
	};
	char uri[256], expected[1024];

	begin();
	log_to(COUNTS_LOG, hourly, COUNT(hourly));
	for (size_t i = 0; i < COUNT(rows); i++) {
		(void)snprintf(uri, sizeof(uri), "/stats/hourly?%s", rows[i].query);
		(void)snprintf(expected, sizeof(expected), "[%s]", rows[i].body);
		ck_get(uri, expected);
	}
	end();
}
END_TEST

START_TEST(hours_come_as_csv_with_three_decimals)
{
	begin();
	log_to(COUNTS_LOG, hourly, COUNT(hourly));
	ck_get("/stats/hourly?prefix=/a/&format=csv",
	    HOURLY_HEAD "2026-11-21T04:00:00.000000Z,16,1,0.063,1\r\n"
			"2026-11-21T23:00:00.000000Z,1,0,2147483647999.000,2147483647999\r\n");
	ck_get("/stats/hourly?path=/b&format=csv",
	    HOURLY_HEAD "2026-11-21T05:00:00.000000Z,16,0,0.188,3\r\n");
	ck_assert_str_eq(field("Content-Type"), CSV);
	end();
}
END_TEST

/* --- The log taken in. */

static atomic_int reads_until_failure; /* of the log, by its large pieces; 0: none fails */

/* The program's, and SQLite's, in place of the C library's. */
ssize_t
pread(int fd, void *bytes, size_t n, off_t at)
{
	if (n == 512 * 1024 && atomic_load(&reads_until_failure) > 0 &&
	    atomic_fetch_sub(&reads_until_failure, 1) == 1) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_pread64, fd, bytes, n, at);
}

START_TEST(a_read_that_fails_counts_nothing_twice)
{
	int rows = 0;

	begin();
	atomic_store(&reads_until_failure, 2); /* the first one has been added up by then */
	log_streamed();
	log_streamed();
	while (atomic_load(&reads_until_failure) > 0)
		ck_assert_int_ne(GET("/stats"), 500);
	ck_assert_int_eq(GET("/stats"), 200);
	for (const char *at = body(); (at = strstr(at, "\"count\":2}")) != NULL; at++)
		rows++;
	ck_assert_int_eq(rows, STREAMED);
	end();
}
END_TEST

START_TEST(a_line_counts_once_its_end_is_there)
{
	const char *line;

	begin();
	line = line_of(&(struct hits){ .path = "/a" });
	for (size_t i = 0; line[i] != '\0'; i++) {
		append(COUNTS_LOG, &line[i], 1);
		if (line[i] == '\n' || i % 20 == 0)
			ck_assert_int_eq(count_of("/a"), line[i] == '\n');
	}
	line = line_of(&(struct hits){ .path = "/b" });
	append(COUNTS_LOG, line, strlen(line) - 1);
	ck_assert_int_eq(count_of("/b"), 0);
	append(COUNTS_LOG, "\n", 1);
	LOG(.path = "/a");
	ck_assert_int_eq(count_of("/b"), 1);
	ck_assert_int_eq(count_of("/a"), 2);
	end();
}
END_TEST

START_TEST(damaged_lines_are_counted_and_kept_aside)
{
	char *long_line = many(600 * 1024); /* more than is read at a time */

	begin();
	LOG(.path = "/a");
	append(COUNTS_LOG, "\n{}\nno request\n", 15);
	LOG(.path = "/a");
	append(COUNTS_LOG, long_line, 600 * 1024);
	ck_assert_int_eq(count_of("/a"), 2);
	append(COUNTS_LOG, "\n", 1);
	LOG(.path = "/a");
	ck_assert_int_eq(count_of("/a"), 3);
	ck_assert_int_ge(times_said("\"log_damaged\""), 1);

	ck_assert_int_eq(db_open(COUNTS_FILE, DB_READ, &counts_schema, &db), OK);
	ck_assert_int_eq(data_ask("SELECT sum(damaged) FROM logs"), 4);
	ck_assert_int_eq(data_ask("SELECT sum(lines) FROM logs"), 7);
	long_line[COUNTS_LINE_MAX] = '\n';
	long_line[COUNTS_LINE_MAX + 1] = '\0';
	ck_assert_str_eq(
	    data_rows("SELECT CAST(line AS TEXT) FROM damaged WHERE length(line) < 1000 "
		      "ORDER BY id"),
	    "\n{}\nno request\n");
	ck_assert_str_eq(
	    data_rows("SELECT CAST(line AS TEXT) FROM damaged WHERE length(line) = 1000"),
	    long_line);
	db_close(db);
	free(long_line);
	end();
}
END_TEST

START_TEST(a_long_line_without_its_end_drops_none_of_those_that_are_kept)
{
	char *long_line = many(600 * 1024);

	begin_closed();
	LOG(.path = "/a");
	for (int i = 0; i < 16; i++)
		append(COUNTS_LOG, "no request\n", 11);
	append(COUNTS_LOG, long_line, 600 * 1024);
	open_program();
	ck_assert_int_eq(count_of("/a"), 1);
	ck_assert_int_eq(db_open(COUNTS_FILE, DB_READ, &counts_schema, &db), OK);
	ck_assert_int_eq(data_ask("SELECT sum(damaged) FROM logs"), 16);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM damaged"), 16);
	db_close(db);
	free(long_line);
	end();
}
END_TEST

START_TEST(a_file_that_is_cut_is_counted_from_its_new_beginning)
{
	begin();
	LOG(.path = "/a", .count = 3);
	ck_assert_int_eq(count_of("/a"), 3);
	ck_assert_int_eq(truncate("log/" COUNTS_LOG, 0), 0);
	ck_assert_int_eq(count_of("/a"), 3);
	ck_assert_int_eq(times_said("\"log_truncated\""), 1);
	LOG(.path = "/a", .count = 2);
	ck_assert_int_eq(count_of("/a"), 5);
	/* Cut and longer than before: only its first line tells. */
	ck_assert_int_eq(truncate("log/" COUNTS_LOG, 0), 0);
	LOG(.path = "/a", .count = 7);
	ck_assert_int_eq(count_of("/a"), 12);
	ck_assert_int_eq(times_said("\"log_truncated\""), 2);
	end();
}
END_TEST

START_TEST(a_file_that_lost_its_end_goes_on_from_there)
{
	size_t line_n = strlen(line_of(&(const struct hits){ .path = "/a" }));

	begin();
	LOG(.path = "/a", .count = 4);
	ck_assert_int_eq(count_of("/a"), 4);
	/* As after a power failure: what is counted is on disk, the log is not.  What comes then
	 * has a later time, by which it is known, whether a look came between or not. */
	ck_assert_int_eq(truncate("log/" COUNTS_LOG, (off_t)(2 * line_n + 20)), 0);
	LOG(.path = "/a", .at = "2099-01-01T00:00:00");
	ck_assert_int_eq(count_of("/a"), 5);
	LOG(.path = "/a", .count = 4);
	ck_assert_int_eq(count_of("/a"), 9);
	ck_assert_int_eq(truncate("log/" COUNTS_LOG, (off_t)(2 * line_n)), 0);
	ck_assert_int_eq(count_of("/a"), 9);
	LOG(.path = "/a", .at = "2099-01-01T00:00:00");
	ck_assert_int_eq(count_of("/a"), 10);
	ck_assert_int_eq(times_said("\"log_truncated\""), 2);
	ck_assert_int_eq(times_said("\"log_damaged\""), 0);
	end();
}
END_TEST

START_TEST(a_line_behind_one_that_was_cut_off_counts)
{
	begin();
	LOG(.path = "/a");
	append(COUNTS_LOG, line_of(&(const struct hits){ .path = "/lost" }), 100);
	LOG(.path = "/b");
	append(COUNTS_LOG, HIT_BEGINS HIT_BEGINS, 2 * strlen(HIT_BEGINS));
	LOG(.path = "/{\\\"time\\\":\\\"");
	LOG(.path = "/a");
	ck_assert_int_eq(count_of("/a"), 2);
	ck_assert_int_eq(count_of("/b"), 1);
	ck_assert_int_eq(count_of("/{\\\"time\\\":\\\""), 1);
	ck_assert_int_eq(count_of("/lost"), 0);
	ck_assert_int_eq(times_said("\"log_damaged\""), 1);
	end();
}
END_TEST

START_TEST(a_file_that_cannot_be_opened_keeps_no_other_from_being_counted)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "log/" COUNTS_LOG ".socket" };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	begin_closed();
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)&un, sizeof(un)), 0);
	LOG(.path = "/a");
	open_program();
	ck_assert_int_eq(count_of("/a"), 1);
	ck_get("/healthz/stats", "{\"status\":\"ok\"}");
	ck_assert_int_ge(times_said("\"log_unreadable\""), 1);
	(void)close(fd);
	end();
}
END_TEST

START_TEST(a_file_that_was_quiet_before_it_was_renamed_is_read_on)
{
	begin();
	LOG(.path = "/a");
	ck_assert_int_eq(count_of("/a"), 1);
	set_age(COUNTS_LOG, 3600);
	ck_assert_int_eq(rename("log/" COUNTS_LOG, "log/" COUNTS_LOG ".1"), 0);
	ck_assert_int_eq(count_of("/a"), 1);
	LOG(.path = "/b");
	ck_assert_int_eq(count_of("/b"), 1);
	log_to(COUNTS_LOG ".1", &(const struct hits){ .path = "/a" }, 1);
	ck_assert_int_eq(count_of("/a"), 2);
	end();
}
END_TEST

START_TEST(a_file_that_is_renamed_is_read_to_its_end)
{
	char name[64];

	begin();
	for (int i = 0; i < 5; i++) {
		LOG(.path = "/a");
		(void)snprintf(name, sizeof(name), "log/" COUNTS_LOG ".%d", i);
		ck_assert_int_eq(rename("log/" COUNTS_LOG, name), 0);
		log_to(name + 4, &(const struct hits){ .path = "/a" }, 1);
		ck_assert_int_eq(count_of("/a"), 4 * i + 2);
		LOG(.path = "/a");
		log_to(name + 4, &(const struct hits){ .path = "/a" }, 1);
		ck_assert_int_eq(count_of("/a"), 4 * i + 4);
	}
	ck_assert_int_eq(times_said("\"log_vanished\"") + times_said("\"log_truncated\""), 0);
	end();
}
END_TEST

START_TEST(a_file_that_is_removed_is_read_on_and_that_is_said)
{
	int fd;
	const char *line;

	begin();
	LOG(.path = "/a");
	ck_assert_int_eq(count_of("/a"), 1);
	ck_assert_int_ge(fd = open("log/" COUNTS_LOG, O_WRONLY | O_APPEND | O_CLOEXEC), 0);
	ck_assert_int_eq(unlink("log/" COUNTS_LOG), 0);
	line = line_of(&(struct hits){ .path = "/a" });
	ck_assert_int_eq(write(fd, line, strlen(line)), (ssize_t)strlen(line));
	(void)close(fd);
	ck_assert_int_eq(count_of("/a"), 2);
	ck_assert_int_eq(times_said("\"log_vanished\""), 1);
	LOG(.path = "/a");
	ck_assert_int_eq(count_of("/a"), 3);
	end();
}
END_TEST

START_TEST(all_that_lies_beside_the_log_is_taken_in_but_for_what_is_compressed)
{
	static const struct {
		const char *file;
		int count; /* of its lines */
		bool counts;
	} rows[] = {
		{ COUNTS_LOG, 1, true },
		{ COUNTS_LOG ".1", 2, true },
		{ COUNTS_LOG "-20261121", 3, true },
		{ COUNTS_LOG ".2.gz", 4, false },
		{ "other.log", 5, false },
		{ "error.log", 6, false },
	};
	int64_t wanted = 0;

	begin_closed();
	ck_assert_int_eq(mkdir("log/" COUNTS_LOG ".folder", 0700), 0);
	for (size_t i = 0; i < COUNT(rows); i++) {
		log_to(
		    rows[i].file, &(const struct hits){ .path = "/a", .count = rows[i].count }, 1);
		set_age(rows[i].file, i % 2 == 0 ? 3600 : 0);
		wanted += rows[i].counts ? rows[i].count : 0;
	}
	append(COUNTS_LOG ".empty", "", 0);
	open_program();
	ck_assert_int_eq(count_of("/a"), wanted);
	ck_assert_int_eq(count_of("/a"), wanted);
	ck_assert_int_eq(rmdir("log/" COUNTS_LOG ".folder"), 0);
	end();
}
END_TEST

#define FILES 600 /* more than twice as many as are held open at once */

START_TEST(any_number_of_files_is_taken_in_after_a_pause)
{
	char name[64];

	begin_closed();
	for (int i = 0; i < FILES; i++) {
		(void)snprintf(name, sizeof(name), COUNTS_LOG ".%d", i);
		log_to(name, &(const struct hits){ .path = "/a" }, 1);
		set_age(name, 3600);
	}
	LOG(.path = "/a");
	open_program();
	ck_assert_int_eq(count_of("/a"), FILES + 1);
	LOG(.path = "/a");
	ck_assert_int_eq(count_of("/a"), FILES + 2);
	end();
}
END_TEST

/* Copies a file of the log, N bytes of it or all. */
static void
copy_log(const char *to, size_t n)
{
	static char bytes[64 * 1024];
	FILE *file = fopen("log/" COUNTS_LOG, "re");
	size_t whole;

	ck_assert_ptr_nonnull(file);
	whole = fread(bytes, 1, sizeof(bytes), file);
	(void)fclose(file);
	append(to, bytes, n > 0 ? n : whole);
}

START_TEST(a_copy_of_the_log_counts_nothing_twice)
{
	size_t line_n = strlen(line_of(&(const struct hits){ .path = "/a" }));

	begin_closed();
	LOG(.path = "/a", .count = 3);
	copy_log(COUNTS_LOG ".all", 0);
	copy_log(COUNTS_LOG ".some", line_n + 20);
	open_program();
	ck_assert_int_eq(count_of("/a"), 3);
	LOG(.path = "/a");
	ck_assert_int_eq(count_of("/a"), 4);
	ck_assert_int_eq(truncate("log/" COUNTS_LOG, 0), 0);
	LOG(.path = "/a");
	ck_assert_int_eq(count_of("/a"), 5);
	ck_assert_int_eq(times_said("\"log_truncated\""), 1); /* of the log itself */
	end();
}
END_TEST

/* --- Health. */

START_TEST(stats_is_not_well_while_much_of_the_log_waits)
{
	begin();
	ck_get("/healthz/stats", "{\"status\":\"ok\"}");
	LOG(.path = "/a");
	append(COUNTS_LOG, "a line without its end", 22);
	ck_assert_int_eq(count_of("/a"), 1);
	ck_assert_int_eq(ingest_lag(), 22);
	ck_get("/healthz/stats", "{\"status\":\"ok\"}");
	ck_assert_int_eq(truncate("log/" COUNTS_LOG, 64 * 1024 * 1024 + 1024), 0);
	ck_assert_int_eq(count_of("/a"), 1);
	ck_assert_int_eq(GET("/healthz/stats"), 503);
	append(COUNTS_LOG, "\n", 1);
	LOG(.path = "/a");
	ck_assert_int_eq(count_of("/a"), 2);
	ck_assert_int_eq(ingest_lag(), 0);
	ck_get("/healthz/stats", "{\"status\":\"ok\"}");
	end();
}
END_TEST

START_TEST(what_cannot_be_stored_or_read_is_503)
{
	static const struct question rows[] = { { .method = "GET", .uri = "/stats" },
		{ .method = "GET", .uri = "/stats/hourly" }, { .method = "POST", .uri = "/test/1" },
		{ .method = "GET", .uri = "/test/runs" },
		{ .method = "GET", .uri = "/healthz/stats" } };

	begin_closed();
	ck_assert_int_eq(rmdir("db"), 0);
	LOG(.path = "/a");
	open_program();
	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_assert_msg(ask(&rows[i]) == 503, "row %zu: %s", i, answer.text);
		ck_assert_str_eq(field("Retry-After"), "1");
	}
	program.close();
	conf_close(conf);
	empty_folder("log");
	(void)rmdir("log");
	(void)unlink("said");
	folder_end();
}
END_TEST

START_TEST(without_its_folder_the_log_is_503_until_it_is_there)
{
	begin_closed();
	ck_assert_int_eq(rmdir("log"), 0);
	open_program();
	ck_assert_int_eq(GET("/stats"), 503);
	ck_assert_int_eq(mkdir("log", 0700), 0);
	LOG(.path = "/a");
	ck_assert_int_eq(count_of("/a"), 1);
	end();
}
END_TEST

/* --- Load runs. */

/* What answers the requests of runs. */
static void
open_server(void)
{
	http_server_open(&server, NULL);
	http_server_json(&server, 200, "{\"message\":\"ok\"}");
	(void)snprintf(address, sizeof(address), "127.0.0.1:%d", server.port);
}

static void
begin_with_server(void)
{
	begin_closed();
	open_server();
	open_program();
}

static void
end_with_server(void)
{
	end();
	http_server_close(&server);
}

static void
ck_run(const char *wanted)
{
	ck_assert_msg(said(wanted), "%s\nis not in\n%s", wanted, answer.text);
}

START_TEST(a_run_tells_what_succeeded_and_what_failed)
{
	static const struct {
		const char *uri;
		int status; /* of the server's answers; 0: it breaks the connection */
		const char *says;
		unsigned requests;
	} rows[] = {
		{ "/test/0", 200, "\"requested\":0,\"succeeded\":0,\"failed\":0,\"counted\":0,",
		    0 },
		{ "/test/1/", 200, "\"requested\":1,\"succeeded\":1,\"failed\":0,\"counted\":0,",
		    1 },
		{ "/test/007", 200, "\"requested\":7,\"succeeded\":7,\"failed\":0,\"counted\":0,",
		    7 },
		{ "/test/5", 404, "\"requested\":5,\"succeeded\":0,\"failed\":5,\"counted\":0,",
		    5 },
		{ "/test/5", 500, "\"requested\":5,\"succeeded\":0,\"failed\":5,\"counted\":0,",
		    5 },
		{ "/test/1", 0, "\"requested\":1,\"succeeded\":0,\"failed\":1,\"counted\":0,", 1 },
	};
	char start[64], location[32], stored[1024];
	unsigned before;

	begin_with_server();
	for (size_t i = 0; i < COUNT(rows); i++) {
		if (rows[i].status > 0)
			http_server_json(&server, rows[i].status, "{}");
		else
			http_server_reply(&server,
			    &(struct http_reply){ .bytes = "HTTP/1.1 200 OK\r\nContent-Length: 9"
							   "\r\n\r\nhalf",
				.then = HTTP_CLOSE });
		before = http_server_requests(&server);
		ck_assert_int_eq(POST(rows[i].uri), 200);
		ck_assert_uint_eq(http_server_requests(&server) - before, rows[i].requests);
		(void)snprintf(start, sizeof(start), "{\"id\":%zu,\"status\":\"finished\",", i + 1);
		(void)snprintf(location, sizeof(location), "/test/runs/%zu", i + 1);
		ck_run(start);
		ck_run(rows[i].says);
		ck_assert_int_eq(
		    said("\"latency_ms\":null"), !said("\"failed\":0") || rows[i].requests == 0);
		ck_assert_str_eq(field("Content-Location"), location);
		(void)snprintf(stored, sizeof(stored), "%s", body());
		ck_get(location, stored);
	}
	end_with_server();
}
END_TEST

START_TEST(what_is_no_number_of_requests_or_no_run_is_refused)
{
	static const struct {
		const char *method, *uri;
		int status;
	} rows[] = {
		{ "POST", "/test/x", 404 },
		{ "POST", "/test/-1", 404 },
		{ "POST", "/test/+1", 404 },
		{ "POST", "/test/1.0", 404 },
		{ "POST", "/test/1e3", 404 },
		{ "POST", "/test/1%20", 404 },
		{ "POST", "/test/%D9%A1", 404 }, /* an Arabic one */
		{ "POST", "/test/1/2", 404 },
		{ "POST", "/test", 404 },
		{ "POST", "/test/1000001", 400 },
		{ "POST", "/test/9223372036854775808", 400 },
		{ "POST", "/test/99999999999999999999999999999999", 400 },
		{ "GET", "/test/runs/1", 404 },
		{ "GET", "/test/runs/0", 404 },
		{ "GET", "/test/runs/-1", 404 },
		{ "GET", "/test/runs/x", 404 },
		{ "GET", "/test/runs/9223372036854775807", 404 },
		{ "GET", "/test/runs/9223372036854775808", 404 },
		{ "DELETE", "/test/runs/1", 404 },
		{ "DELETE", "/test/runs/x", 404 },
		{ "GET", "/test/runs?limit=0", 400 },
		{ "GET", "/test/runs?cursor=1-1", 400 },
	};

	begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_assert_int_eq(ASK(.method = rows[i].method, .uri = rows[i].uri), rows[i].status);
		ck_assert(said("\r\nContent-Type: application/problem+json\r\n"));
	}
	ck_get("/test/runs", "[]");
	end();
}
END_TEST

/* Requests wait for the test, so that runs are under way for as long as it likes. */
static pthread_barrier_t gate;

static void
hold_requests(unsigned requests)
{
	ck_assert_int_eq(pthread_barrier_init(&gate, NULL, requests + 1), 0);
	http_server_reply(&server,
	    &(struct http_reply){
		.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", .meet = &gate });
}

static void
let_requests_go(void)
{
	(void)pthread_barrier_wait(&gate);
}

/* Until so many requests have come. */
static void
await_requests(unsigned requests)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	while (http_server_requests(&server) < requests)
		(void)nanosleep(&pause, NULL);
}

#define BEGIN(target, name) \
	ASK(.method = "POST", .uri = (target), .prefer = "respond-async", .key = (name))

START_TEST(what_its_paths_were_asked_for_is_counted)
{
	char path[HTTP_REQUEST_MAX];

	begin_with_server();
	hold_requests(1);
	ck_assert_int_eq(BEGIN("/test/1", "key"), 202);
	ck_assert_str_eq(field("Location"), "/test/runs/1");
	ck_assert_str_eq(field("Preference-Applied"), "respond-async");
	ck_run("{\"id\":1,\"status\":\"running\",\"requested\":1,\"succeeded\":0,\"failed\":0,"
	       "\"counted\":null,");
	await_requests(1);
	ck_assert_int_eq(sscanf(server.request, "GET %8000s HTTP/1.1", path), 1);
	ck_assert_int_eq(strncmp(path, "/api/", 5), 0);
	LOG(.path = path, .count = 3);
	LOG(.path = "/api");
	let_requests_go();
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/test/1", .key = "key"), 200);
	ck_run("{\"id\":1,\"status\":\"finished\",\"requested\":1,\"succeeded\":1,\"failed\":0,"
	       "\"counted\":3,");
	end_with_server();
}
END_TEST

START_TEST(four_run_at_once_and_each_can_be_stopped)
{
	static const char *const keys[] = { "one", "two", "three", "four" };
	static const char *const ends[] = { "{\"id\":1,\"status\":\"finished\",\"requested\":1,",
		"{\"id\":2,\"status\":\"stopped\",\"requested\":1,",
		"{\"id\":3,\"status\":\"finished\",\"requested\":1,",
		"{\"id\":4,\"status\":\"finished\",\"requested\":1," };
	int running = 0;

	begin_with_server();
	hold_requests(COUNT(keys));
	for (size_t i = 0; i < COUNT(keys); i++)
		ck_assert_int_eq(BEGIN("/test/1", keys[i]), 202);
	ck_assert_int_eq(POST("/test/0"), 429);
	ck_assert_str_eq(field("Retry-After"), "1");
	ck_assert_int_eq(GET("/test/runs"), 200);
	for (const char *at = body(); (at = strstr(at, "\"running\"")) != NULL; at++)
		running++;
	ck_assert_int_eq(running, COUNT(keys));
	ck_assert_int_eq(ASK(.method = "DELETE", .uri = "/test/runs/2"), 204);
	await_requests(COUNT(keys));
	let_requests_go();
	for (size_t i = 0; i < COUNT(keys); i++) {
		ck_assert_int_eq(ASK(.method = "POST", .uri = "/test/1", .key = keys[i]), 200);
		ck_run(ends[i]);
		ck_run("\"succeeded\":1,\"failed\":0,");
	}
	/* Of one that has ended nothing is left to stop. */
	ck_assert_int_eq(ASK(.method = "DELETE", .uri = "/test/runs/1"), 204);
	ck_assert_int_eq(GET("/test/runs/1"), 200);
	ck_run(ends[0]);
	end_with_server();
}
END_TEST

START_TEST(a_run_that_is_stopped_sends_nothing_further)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	begin_with_server();
	ck_assert_int_eq(BEGIN("/test/1000000", "key"), 202);
	do {
		(void)nanosleep(&pause, NULL);
		ck_assert_int_eq(GET("/test/runs/1"), 200);
	} while (said("\"succeeded\":0,")); /* what it does is told while it does it */
	ck_run("\"status\":\"running\",\"requested\":1000000,");
	ck_assert_int_eq(ASK(.method = "DELETE", .uri = "/test/runs/1"), 204);
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/test/1000000", .key = "key"), 200);
	ck_run("\"status\":\"stopped\",\"requested\":1000000,");
	ck_assert(!said("\"succeeded\":1000000,"));
	end_with_server();
}
END_TEST

START_TEST(a_retry_is_the_same_run_and_another_request_with_its_key_is_refused)
{
	static const struct {
		const char *uri, *key, *prefer;
		int status;
		const char *says;
	} rows[] = {
		{ "/test/2", "key", NULL, 200, "{\"id\":1,\"status\":\"finished\"" },
		{ "/test/2", "key", NULL, 200, "{\"id\":1,\"status\":\"finished\"" },
		{ "/test/2/", "key", NULL, 200, "{\"id\":1,\"status\":\"finished\"" },
		{ "/test/2", "key", "respond-async", 202, "\r\nLocation: /test/runs/1\r\n" },
		{ "/test/3", "key", NULL, 422, "idempotency-key-reused" },
		{ "/test/02", "key", NULL, 422, "idempotency-key-reused" },
		{ "/test/2", "other", "wait=5, Respond-Async", 202, "\"requested\":2," },
		{ "/test/2", "other", NULL, 200, "{\"id\":2,\"status\":\"finished\"" },
		{ "/test/2", "a b", NULL, 400, "\"pointer\":\"Idempotency-Key\"" },
		{ "/test/x", "key", NULL, 404, "not-found" },
		{ "/test/2", NULL, NULL, 200, "{\"id\":3,\"status\":\"finished\"" },
	};

	begin_with_server();
	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_assert_msg(ASK(.method = "POST", .uri = rows[i].uri, .key = rows[i].key,
				  .prefer = rows[i].prefer) == rows[i].status,
		    "row %zu: %s", i, answer.text);
		ck_run(rows[i].says);
	}
	ck_assert_uint_eq(http_server_requests(&server), 6);
	end_with_server();
}
END_TEST

/* As many runs as are kept, whose numbers are as long as they get. */
static void
add_runs(void)
{
	ck_assert_int_eq(db_open(COUNTS_FILE, DB_WRITE, &counts_schema, &db), OK);
	data_run("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) "
		 "INSERT INTO runs (requested, begun_at, stopped, succeeded, failed, counted, "
		 "took_us, p50_us, p90_us, p99_us, max_us, ended_at) SELECT 1000000, "
		 "1700000000123456, 0, 999999, 1, 1000000, 123456789, 1000001, 2000001, 3000001, "
		 "9999999, 1700000123456789 FROM n");
	db_close(db);
}

START_TEST(runs_are_listed_by_pages_and_the_last_thousand_are_kept)
{
	static char whole[512 * 1024], joined[512 * 1024];
	char uri[256];
	char *to = stpcpy(joined, "[");
	int pages = 0;
	size_t n;

	begin_closed();
	add_runs();
	open_program();
	ck_assert_msg(GET("/test/runs?limit=1000") == 200, "%s", answer.text);
	ck_assert_str_eq(field("Link"), "");
	(void)snprintf(whole, sizeof(whole), "%s", body());
	for ((void)snprintf(uri, sizeof(uri), "/test/runs?limit=300"); uri[0] != '\0'; pages++) {
		ck_assert_int_eq(GET(uri), 200);
		to = stpcpy(stpcpy(to, pages > 0 ? "," : ""), body() + 1) - 1;
		n = strcspn(field("Link"), ">");
		(void)snprintf(uri, sizeof(uri), "%.*s", n > 0 ? (int)n - 1 : 0, field("Link") + 1);
	}
	(void)stpcpy(to, "]");
	ck_assert_int_eq(pages, 4);
	ck_assert_str_eq(joined, whole);

	ck_assert_int_eq(POST("/test/0"), 200);
	ck_run("{\"id\":1001,");
	ck_assert_int_eq(GET("/test/runs/1"), 404);
	ck_assert_int_eq(GET("/test/runs/2"), 200);
	ck_run("\"requested\":1000000,\"succeeded\":999999,\"failed\":1,\"counted\":1000000,"
	       "\"seconds\":123.456789,\"requests_per_second\":8100,\"latency_ms\":"
	       "{\"p50\":1000.001,\"p90\":2000.001,\"p99\":3000.001,\"max\":9999.999},");
	end();
}
END_TEST

/* Of a process whose run is under way when it ends. */
static void
leave_run(bool killed)
{
	open_server();
	open_program();
	if (BEGIN("/test/1000000", killed ? "killed" : "closed") != 202)
		_exit(EXIT_FAILURE);
	if (killed)
		(void)kill(getpid(), SIGKILL);
	program.stop();
	program.close();
	http_server_close(&server);
	_exit(EXIT_SUCCESS);
}

START_TEST(a_run_whose_program_ends_was_interrupted)
{
	static const char wanted[] = "\"status\":\"interrupted\",\"requested\":1000000,"
				     "\"succeeded\":0,\"failed\":0,\"counted\":null,";
	int status;
	pid_t child;

	begin_closed();
	for (int killed = 0; killed < 2; killed++) {
		ck_assert_int_ge(child = fork(), 0);
		if (child == 0)
			leave_run(killed);
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert_int_eq(status, killed ? SIGKILL : 0);
	}
	open_program();
	ck_assert_int_eq(GET("/test/runs/1"), 200);
	ck_run(wanted);
	ck_run("\"latency_ms\":null,");
	ck_run("\"ended_at\":null}");
	ck_assert_int_eq(ASK(.method = "DELETE", .uri = "/test/runs/2"), 204);
	ck_assert_int_eq(GET("/test/runs/2"), 200);
	ck_run(wanted);
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/test/1000000", .key = "killed"), 200);
	ck_run("{\"id\":2,");
	ck_run(wanted);
	end();
}
END_TEST

CHECK_MAIN(stats,
    { every_route_is_listed_here_and_has_roles, without_requests_each_list_is_empty,
	prefix_and_period_narrow_the_list, a_prefix_has_at_most_four_hundred_bytes,
	a_bad_question_is_refused_with_every_bad_field_named, pages_join_to_the_whole_list,
	a_link_with_the_longest_prefix_fits, any_byte_of_a_path_comes_out_harmless,
	the_longest_path_is_shown_whole_also_where_no_byte_of_it_is_utf_8,
	paths_that_are_no_text_are_asked_for_as_they_are_shown, format_wins_over_accept,
	head_options_and_other_methods_follow_the_table, a_long_list_is_streamed_from_one_snapshot,
	a_client_that_leaves_ends_the_work, hours_add_up_by_path_prefix_and_period,
	hours_come_as_csv_with_three_decimals, a_line_counts_once_its_end_is_there,
	a_read_that_fails_counts_nothing_twice, damaged_lines_are_counted_and_kept_aside,
	a_long_line_without_its_end_drops_none_of_those_that_are_kept,
	a_file_that_is_cut_is_counted_from_its_new_beginning,
	a_file_that_lost_its_end_goes_on_from_there, a_line_behind_one_that_was_cut_off_counts,
	a_file_that_cannot_be_opened_keeps_no_other_from_being_counted,
	a_file_that_was_quiet_before_it_was_renamed_is_read_on,
	a_file_that_is_renamed_is_read_to_its_end,
	a_file_that_is_removed_is_read_on_and_that_is_said,
	all_that_lies_beside_the_log_is_taken_in_but_for_what_is_compressed,
	any_number_of_files_is_taken_in_after_a_pause, a_copy_of_the_log_counts_nothing_twice,
	stats_is_not_well_while_much_of_the_log_waits, what_cannot_be_stored_or_read_is_503,
	without_its_folder_the_log_is_503_until_it_is_there,
	a_run_tells_what_succeeded_and_what_failed,
	what_is_no_number_of_requests_or_no_run_is_refused,
	what_its_paths_were_asked_for_is_counted, four_run_at_once_and_each_can_be_stopped,
	a_run_that_is_stopped_sends_nothing_further,
	a_retry_is_the_same_run_and_another_request_with_its_key_is_refused,
	runs_are_listed_by_pages_and_the_last_thousand_are_kept,
	a_run_whose_program_ends_was_interrupted })
