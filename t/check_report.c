#include "test.h"

#include <stdio.h>
#include <sys/stat.h>

#include "lib/clock.h"
#include "lib/serve.h"
#include "lib/tariff.h"
#include "report.h"
#include "sql.h"

#define REPORT "/events/report"
#define CSV "text/csv; charset=utf-8; header=present"
#define CSV_HEAD \
	"year,month,caregiver_id,currency,reimbursed_cents,not_reimbursed_cents," \
	"reimbursed_events,not_reimbursed_events\r\n"

static struct db *writer;
static const struct audit_actor actor = { "tester", INT64_C(1800000000000000) };
static char folder[32];
static struct tariff_type types[16]; /* one for each price that is used */
static size_t type_count;

static struct {
	size_t n;
	unsigned writes;
	bool leaves; /* the client takes nothing */
	void (*at_first)(void); /* called when the first bytes come */
	char text[2 * 1024 * 1024];
} answer;

static void
begin(void)
{
	ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr));
	(void)stpcpy(folder, "/tmp/check_report.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chdir(folder), 0);
	ck_assert_int_eq(mkdir("db", 0700), 0);
	ck_assert_int_eq(db_open(LEDGER_FILE, DB_WRITE, &ledger_schema, &writer), OK);
	ck_assert_int_eq(program.open(NULL), OK);
	type_count = 0;
	answer.at_first = NULL;
	answer.leaves = false;
}

static void
end(void)
{
	static const char *const files[] = { LEDGER_FILE, LEDGER_FILE "-wal", LEDGER_FILE "-shm",
		LEDGER_FILE ".lock" };

	program.close();
	db_close(writer);
	for (size_t i = 0; i < COUNT(files); i++)
		(void)unlink(files[i]);
	(void)rmdir("db");
	(void)rmdir(folder);
}

/* An event of a type with this price. */
struct given {
	int64_t caregiver_id;
	const char *start;
	int64_t cents;
	bool reimbursed;
};

/* The type with this price, made at its first use. */
static int64_t
type_of(int64_t cents)
{
	struct tariff_type *type = &types[type_count];

	for (size_t i = 0; i < type_count; i++)
		if (types[i].amount_in_cents == cents)
			return types[i].id;
	ck_assert_uint_lt(type_count, COUNT(types));
	(void)snprintf(type->name, sizeof(type->name), "for %lld", (long long)cents);
	(void)snprintf(type->currency, sizeof(type->currency), "SEK");
	type->amount_in_cents = cents;
	ck_assert_msg(tariff_add(writer, &actor, type) == OK, "%s", err_words());
	type_count++;
	return type->id;
}

static void
add_at(int64_t caregiver_id, int64_t start_us, int64_t cents, bool reimbursed)
{
	struct ledger_event event = {
		.type_id = type_of(cents), .caregiver_id = caregiver_id, .start_time_us = start_us
	};

	ck_assert_msg(ledger_event_add(writer, &actor, &event) == OK, "%s", err_words());
	if (reimbursed)
		ck_assert_int_eq(ledger_event_reimburse(writer, &actor, &event), OK);
}

static int64_t
instant(const char *text)
{
	int64_t us = -1;

	ck_assert_msg(clock_parse(text, strlen(text), &us) == OK, "%s", text);
	return us;
}

static void
add(const struct given *given, size_t count)
{
	ck_assert_int_eq(db_begin(writer), OK);
	for (size_t i = 0; i < count; i++)
		add_at(given[i].caregiver_id, instant(given[i].start), given[i].cents,
		    given[i].reimbursed);
	ck_assert_int_eq(db_commit(writer), OK);
}

/* What is asked; what is NULL or 0 is not sent. */
struct question {
	const char *method, *uri, *body, *accept, *if_none_match;
	const char *content_type; /* application/json with a body */
};

static bool
take_answer(void *ctx, const char *bytes, size_t n)
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
read_body(void *ctx, char *buffer, size_t n)
{
	const char **body = ctx;

	memcpy(buffer, *body, n);
	*body += n;
	return (ssize_t)n;
}

/* Whether the answer came whole; it is in ANSWER, its status in *STATUS. */
static bool
run(const struct question *q, int *status)
{
	static struct request req;
	static struct response res;
	const char *body = q->body != NULL ? q->body : "";
	const char *type = q->content_type != NULL ? q->content_type : "application/json";
	char texts[6][8400];
	char *meta[] = { texts[0], texts[1], texts[2], texts[3], texts[4], texts[5], NULL };
	const struct request_source source = { .meta = meta, .read = read_body, .ctx = &body };
	bool whole;

	(void)snprintf(texts[0], sizeof(texts[0]), "REQUEST_METHOD=%s", q->method);
	(void)snprintf(texts[1], sizeof(texts[1]), "REQUEST_URI=%s", q->uri);
	(void)snprintf(texts[2], sizeof(texts[2]), "HTTP_ACCEPT=%s", q->accept ? q->accept : "");
	(void)snprintf(texts[3], sizeof(texts[3]), "HTTP_IF_NONE_MATCH=%s",
	    q->if_none_match ? q->if_none_match : "");
	(void)snprintf(texts[4], sizeof(texts[4]), "CONTENT_LENGTH=%zu", strlen(body));
	(void)snprintf(texts[5], sizeof(texts[5]), "CONTENT_TYPE=%s", type);
	answer.n = answer.writes = 0;
	answer.text[0] = '\0';
	response_open(&res, take_answer, NULL);
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

static int
get(const char *query)
{
	char uri[8300];

	(void)snprintf(uri, sizeof(uri), REPORT "%s", query);
	return ask(&(struct question){ .method = "GET", .uri = uri });
}

static int
post(const char *body)
{
	return ask(&(struct question){ .method = "POST", .uri = REPORT, .body = body });
}

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

/* What the JSON answer says behind "report". */
static const char *
report(void)
{
	char *at = strstr(body(), ",\"report\":");

	ck_assert_msg(at != NULL, "%s", answer.text);
	return at + strlen(",\"report\":");
}

START_TEST(every_route_is_listed_here_and_has_roles)
{
	static const struct {
		enum method method;
		const char *path;
		unsigned roles;
	} expected[] = {
		{ METHOD_GET, REPORT, ROLES_ALL },
		{ METHOD_POST, REPORT, ROLES_ALL },
		{ METHOD_GET, "/healthz/report", ROLES_ANYONE },
		{ METHOD_GET, "/metrics/report", ROLE_ADMIN },
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
	ck_assert_str_eq(program.name, "report");
}
END_TEST

START_TEST(without_events_each_format_is_empty)
{
	begin();
	ck_assert_int_eq(get(""), 200);
	ck_assert_str_eq(report(), "{}}");
	ck_assert_int_eq(get("?format=rows"), 200);
	ck_assert_str_eq(body(), "[]");
	ck_assert_int_eq(get("?format=csv"), 200);
	ck_assert_str_eq(body(), CSV_HEAD);
	end();
}
END_TEST

static const struct given some[] = {
	{ 17, "2017-01-31T23:59:59.999999Z", 250000, true },
	{ 17, "2017-01-01T00:00:00Z", 50050, false },
	{ 3, "2017-01-05T00:00:00Z", 1, false },
	{ 3, "2017-12-05T00:00:00Z", 0, true },
	{ 20, "2017-12-05T00:00:00Z", 10, true },
	{ 20, "2017-12-06T00:00:00Z", 10, true },
	{ 3, "2018-01-01T00:30:00+01:00", 100, false }, /* in UTC that is December */
	{ INT64_MAX, "9999-12-31T23:59:59.999999Z", 2147483647, false },
	{ INT64_MAX, "9999-12-31T23:59:59.999998Z", 2147483647, false },
	{ 1, "1970-01-01T00:00:00Z", 0, false },
};

START_TEST(sums_nest_by_year_month_and_caregiver)
{
	begin();
	add(some, COUNT(some));
	ck_assert_int_eq(get(""), 200);
	ck_assert_str_eq(report(),
	    "{\"1970\":{\"Jan\":{\"1\":{\"non-reimbursed SEK\":0}}},"
	    "\"2017\":{\"Jan\":{\"3\":{\"non-reimbursed SEK\":0.01},"
	    "\"17\":{\"reimbursed SEK\":2500,\"non-reimbursed SEK\":500.5}},"
	    "\"Dec\":{\"3\":{\"reimbursed SEK\":0,\"non-reimbursed SEK\":1},"
	    "\"20\":{\"reimbursed SEK\":0.2}}},"
	    "\"9999\":{\"Dec\":{\"9223372036854775807\":"
	    "{\"non-reimbursed SEK\":42949672.94}}}}}");
	ck_assert(said("\r\nContent-Type: application/json\r\n"));
	end();
}
END_TEST

START_TEST(rows_and_csv_say_the_same_in_cents)
{
	begin();
	add(some, COUNT(some));
	ck_assert_int_eq(get("?format=csv&min_time=2017-01-01T00:00:00Z"), 200);
	ck_assert(said("\r\nContent-Type: " CSV "\r\n"));
	ck_assert_str_eq(body(),
	    CSV_HEAD "2017,1,3,SEK,0,1,0,1\r\n"
		     "2017,1,17,SEK,250000,0,1,0\r\n"
		     "2017,12,3,SEK,0,100,1,1\r\n"
		     "2017,12,20,SEK,20,0,2,0\r\n"
		     "9999,12,9223372036854775807,SEK,0,4294967294,0,2\r\n");
	ck_assert_int_eq(get("?format=rows&caregiver_ids=20,9223372036854775807"), 200);
	ck_assert(said("\r\nContent-Type: application/json\r\n"));
	ck_assert_str_eq(body(),
	    "[{\"year\":2017,\"month\":12,\"caregiver_id\":20,\"currency\":\"SEK\","
	    "\"reimbursed_cents\":20,\"not_reimbursed_cents\":0,"
	    "\"reimbursed_events\":2,\"not_reimbursed_events\":0},"
	    "{\"year\":9999,\"month\":12,\"caregiver_id\":9223372036854775807,"
	    "\"currency\":\"SEK\",\"reimbursed_cents\":0,\"not_reimbursed_cents\":4294967294,"
	    "\"reimbursed_events\":0,\"not_reimbursed_events\":2}]");
	end();
}
END_TEST

START_TEST(a_reimbursement_and_a_deletion_move_the_sums)
{
	struct ledger_event event = { .caregiver_id = 5,
		.start_time_us = instant("2020-02-29T12:00:00Z") };
	struct ledger_event other;

	begin();
	ck_assert_int_eq(db_begin(writer), OK);
	event.type_id = type_of(199);
	other = event;
	ck_assert_int_eq(ledger_event_add(writer, &actor, &event), OK);
	ck_assert_int_eq(ledger_event_add(writer, &actor, &other), OK);
	ck_assert_int_eq(db_commit(writer), OK);
	ck_assert_int_eq(get(""), 200);
	ck_assert_str_eq(report(), "{\"2020\":{\"Feb\":{\"5\":{\"non-reimbursed SEK\":3.98}}}}}");

	ck_assert_int_eq(db_begin(writer), OK);
	ck_assert_int_eq(ledger_event_reimburse(writer, &actor, &event), OK);
	ck_assert_int_eq(ledger_event_delete(writer, &actor, &scope_all, INT64_MIN, &other), OK);
	ck_assert_int_eq(db_commit(writer), OK);
	ck_assert_int_eq(get(""), 200);
	ck_assert_str_eq(report(), "{\"2020\":{\"Feb\":{\"5\":{\"reimbursed SEK\":1.99}}}}}");
	end();
}
END_TEST

START_TEST(both_bounds_are_exclusive_to_the_microsecond)
{
	static const struct given given[] = {
		{ 1, "2020-01-31T23:59:59.999999Z", 1, false },
		{ 1, "2020-02-01T00:00:00Z", 10, false },
		{ 1, "2020-02-15T12:00:00Z", 100, false },
		{ 1, "2020-02-29T23:59:59.999999Z", 1000, false },
		{ 1, "2020-03-01T00:00:00Z", 10000, false },
	};
	static const struct {
		const char *min, *max, *rows; /* month:cents:events each */
	} rows[] = {
		{ "2020-01-31T23:59:59.999999Z", "2020-03-01T00:00:00Z", "2:1110:3 " },
		{ "2020-02-01T00:00:00Z", "2020-03-01T00:00:00Z", "2:1100:2 " },
		{ "2020-01-31T23:59:59.999999Z", "2020-02-29T23:59:59.999999Z", "2:110:2 " },
		{ "2020-02-01T00:00:00Z", "2020-02-29T23:59:59.999999Z", "2:100:1 " },
		{ "2020-02-01T01:00:00+01:00", "2020-02-29T23:59:59.999999", "2:100:1 " },
		{ "2020-02-15T12:00:00Z", "2020-02-15T12:00:00.000001Z", "" },
		{ "2020-02-15T11:59:59.999999Z", "2020-02-15T12:00:00.000001Z", "2:100:1 " },
		{ "2020-02-15T12:00:00Z", "2020-02-15T12:00:00Z", "" },
		{ "2020-03-01T00:00:00Z", "2020-01-01T00:00:00Z", "" },
		{ "2020-01-31T23:59:59.999998Z", "2020-03-01T00:00:00.000001Z",
		    "1:1:1 2:1110:3 3:10000:1 " },
		{ "2020-01-31T23:59:59.999999Z", "2020-03-01T00:00:00.000001Z",
		    "2:1110:3 3:10000:1 " },
		{ "2020-01-31T23:59:59.999998Z", "2020-03-01T00:00:00Z", "1:1:1 2:1110:3 " },
		{ "1970-01-01T00:00:00Z", "2020-02-01T00:00:00Z", "1:1:1 " },
		{ "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "" },
		{ "2020-03-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "" },
		{ "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z", "" },
	};
	char query[256], expected[512];

	begin();
	add(given, COUNT(given));
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *to = stpcpy(expected, CSV_HEAD);
		int month, cents, events, n;

		for (const char *at = rows[i].rows;
		     sscanf(at, "%d:%d:%d %n", &month, &cents, &events, &n) == 3; at += n)
			to += sprintf(to, "2020,%d,1,SEK,0,%d,0,%d\r\n", month, cents, events);
		(void)snprintf(query, sizeof(query),
		    "{\"format\":\"csv\",\"min_time\":\"%s\",\"max_time\":\"%s\"}", rows[i].min,
		    rows[i].max);
		ck_assert_int_eq(post(query), 200);
		ck_assert_msg(strcmp(body(), expected) == 0, "row %zu: %s", i, body());
	}
	end();
}
END_TEST

/* --- The same question put to a model: all events, summed one by one. */

#define EVENTS 1500
#define IDS_MAX 80

static struct {
	int64_t caregiver_id, start_us, cents;
	bool reimbursed;
} events[EVENTS];

/* Numbers that are the same in every run. */
static uint64_t
draw(uint64_t below)
{
	static uint64_t state = 42;

	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (state >> 33) % below;
}

/* Around the turn of a year: most often within a month, at times at its very edge. */
static int64_t
draw_instant(void)
{
	static const char *const edges[] = { "2017-11-01T00:00:00Z", "2017-12-01T00:00:00Z",
		"2018-01-01T00:00:00Z", "2018-02-01T00:00:00Z", "2018-03-01T00:00:00Z",
		"2018-04-01T00:00:00Z" };
	int64_t edge = instant(edges[draw(COUNT(edges))]);

	if (draw(3) == 0)
		return edge + (int64_t)draw(3) - 1;
	return edge + (int64_t)draw(31 * 86400) * CLOCK_SECOND_US;
}

/* Few ids are next to one another; caregivers with many events and with none are among them. */
static int64_t
draw_id(void)
{
	return (int64_t)(draw(4) == 0 ? draw(10) * 100 + 1 : draw(300) + 1);
}

static void
draw_events(void)
{
	static const int64_t cents[] = { 0, 1, 199, 250000, 2147483647 };

	ck_assert_int_eq(db_begin(writer), OK);
	for (size_t i = 0; i < EVENTS; i++) {
		events[i].caregiver_id = draw_id();
		events[i].start_us = draw_instant();
		events[i].cents = cents[draw(COUNT(cents))];
		events[i].reimbursed = draw(3) == 0;
		add_at(events[i].caregiver_id, events[i].start_us, events[i].cents,
		    events[i].reimbursed);
	}
	ck_assert_int_eq(db_commit(writer), OK);
}

struct model_row {
	char month[CLOCK_TEXT_SIZE]; /* 2017-01 */
	int64_t id, cents[2], count[2]; /* open, reimbursed */
};

static int
compare_rows(const void *a, const void *b)
{
	const struct model_row *x = a, *y = b;
	int months = strcmp(x->month, y->month);

	return months != 0 ? months : (x->id > y->id) - (x->id < y->id);
}

static bool
listed(const int64_t *ids, size_t count, int64_t id)
{
	for (size_t i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return count == 0;
}

static size_t
model(int64_t min_us, int64_t max_us, const int64_t *ids, size_t count, struct model_row *rows)
{
	size_t n = 0;

	for (size_t i = 0; i < EVENTS; i++) {
		struct model_row key = { .id = events[i].caregiver_id };
		size_t at = 0;

		if (events[i].start_us <= min_us || events[i].start_us >= max_us ||
		    !listed(ids, count, key.id))
			continue;
		clock_text(events[i].start_us, key.month);
		key.month[7] = '\0';
		while (at < n && compare_rows(&rows[at], &key) != 0)
			at++;
		if (at == n)
			rows[n++] = key;
		rows[at].cents[events[i].reimbursed] += events[i].cents;
		rows[at].count[events[i].reimbursed]++;
	}
	qsort(rows, n, sizeof(*rows), compare_rows);
	return n;
}

static const char *
model_csv(int64_t min_us, int64_t max_us, const int64_t *ids, size_t count)
{
	static struct model_row rows[EVENTS];
	static char text[EVENTS * 128];
	size_t n = model(min_us, max_us, ids, count, rows);
	char *to = stpcpy(text, CSV_HEAD);

	for (size_t i = 0; i < n; i++)
		to += sprintf(to, "%.4s,%d,%lld,SEK,%lld,%lld,%lld,%lld\r\n", rows[i].month,
		    (rows[i].month[5] - '0') * 10 + rows[i].month[6] - '0', (long long)rows[i].id,
		    (long long)rows[i].cents[1], (long long)rows[i].cents[0],
		    (long long)rows[i].count[1], (long long)rows[i].count[0]);
	return text;
}

/* A question: by GET where BY_GET. */
static const char *
question_text(bool by_get, int64_t min_us, int64_t max_us, const int64_t *ids, size_t count)
{
	static char text[8192];
	char at[CLOCK_TEXT_SIZE];
	char *to = stpcpy(text, by_get ? "?format=csv" : "{\"format\":\"csv\"");

	if (min_us != INT64_MIN) {
		clock_text(min_us, at);
		to += sprintf(to, by_get ? "&min_time=%s" : ",\"min_time\":\"%s\"", at);
	}
	if (max_us != INT64_MAX) {
		clock_text(max_us, at);
		to += sprintf(to, by_get ? "&max_time=%s" : ",\"max_time\":\"%s\"", at);
	}
	to = stpcpy(to, by_get ? "&caregiver_ids=" : ",\"caregiver_ids\":[");
	for (size_t i = 0; i < count; i++)
		to += sprintf(to, "%s%lld", i > 0 ? "," : "", (long long)ids[i]);
	(void)stpcpy(to, by_get ? "" : "]}");
	return text;
}

START_TEST(any_question_has_the_sums_that_adding_up_the_events_gives)
{
	int64_t ids[IDS_MAX];

	begin();
	draw_events();
	for (int i = 0; i < 400; i++) {
		static const size_t counts[] = { 0, 1, 1, 2, 5, 20, IDS_MAX };
		size_t count = counts[draw(COUNT(counts))];
		int64_t min_us = draw(4) == 0 ? INT64_MIN : draw_instant();
		int64_t max_us = draw(4) == 0 ? INT64_MAX : draw_instant();
		bool dense = draw(3) == 0, by_get = draw(2) == 0;
		const char *question;

		for (size_t k = 0; k < count; k++)
			ids[k] = dense ? (int64_t)k + 1 : draw_id();
		question = question_text(by_get, min_us, max_us, ids, count);
		ck_assert_int_eq(by_get ? get(question) : post(question), 200);
		ck_assert_msg(
		    strcmp(body(), model_csv(min_us, max_us, ids, count)) == 0, "%s", question);
	}
	end();
}
END_TEST

/* --- What it costs. */

#define MANY_CAREGIVERS 500
#define MANY_MONTHS 12

/* An event of each caregiver in each month of 2019. */
static void
add_many(void)
{
	char text[32];

	ck_assert_int_eq(db_begin(writer), OK);
	for (int month = 1; month <= MANY_MONTHS; month++) {
		(void)snprintf(text, sizeof(text), "2019-%02d-10T00:00:00Z", month);
		for (int id = 1; id <= MANY_CAREGIVERS; id++)
			add_at(id, instant(text), 199, false);
	}
	ck_assert_int_eq(db_commit(writer), OK);
}

/* Reads all rows of the caregivers FIRST, FIRST + STEP, ...; *ROWS tells what it cost. */
static int64_t
count_rows(struct rows *rows, int64_t first, int64_t step)
{
	int64_t ids[MANY_CAREGIVERS], n = 0;
	struct report_filter filter = REPORT_FILTER_NONE;
	struct ledger_sum sum;
	struct db *db;
	bool found;

	filter.caregiver_ids = ids;
	for (int64_t id = first; step > 0 && id <= MANY_CAREGIVERS; id += step)
		ids[filter.caregiver_count++] = id;
	ck_assert_int_eq(db_open(LEDGER_FILE, DB_READ, &ledger_schema, &db), OK);
	rows_open(rows, db, &filter);
	for (; rows_next(rows, &sum, &found) == OK && found; n++)
		;
	rows_close(rows);
	db_close(db);
	return n;
}

START_TEST(a_dense_list_is_a_scan_and_a_sparse_one_a_few_seeks_a_month)
{
	static const struct {
		int64_t first, step; /* of the ids; step 0: no list */
		int64_t rows, seeks, steps; /* at most */
	} rows[] = {
		{ 0, 0, MANY_CAREGIVERS * MANY_MONTHS, 1, MANY_CAREGIVERS * MANY_MONTHS },
		{ 1, 1, MANY_CAREGIVERS * MANY_MONTHS, 1, MANY_CAREGIVERS * MANY_MONTHS },
		{ 1, 2, MANY_CAREGIVERS / 2 * MANY_MONTHS, 1, MANY_CAREGIVERS * MANY_MONTHS },
		{ 250, MANY_CAREGIVERS, MANY_MONTHS, MANY_MONTHS + 2, 5 * MANY_MONTHS },
		{ 1, MANY_CAREGIVERS - 1, 2 * MANY_MONTHS, MANY_MONTHS + 1, 6 * MANY_MONTHS },
		{ 50, 50, 10 * MANY_MONTHS, 10 * MANY_MONTHS + 1, 10 * 5 * MANY_MONTHS },
	};

	begin();
	add_many();
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct rows cost;

		ck_assert_int_eq(count_rows(&cost, rows[i].first, rows[i].step), rows[i].rows);
		ck_assert_msg(cost.seeks <= rows[i].seeks && cost.steps <= rows[i].steps,
		    "row %zu: %lld seeks, %lld steps", i, (long long)cost.seeks,
		    (long long)cost.steps);
	}
	end();
}
END_TEST

/* Of a manager of every third one, in a period that cuts two months. */
START_TEST(who_does_not_see_all_reads_what_is_theirs_by_one_query_a_segment)
{
	static struct scope scope;
	static struct who who = { .roles = ROLE_MANAGER };
	struct report_filter filter = REPORT_FILTER_NONE;
	struct ledger_sum sum, last = { 0 };
	struct rows rows;
	struct db *db;
	bool found;
	int64_t n = 0;

	begin();
	add_many();
	for (int64_t id = 3; id <= MANY_CAREGIVERS; id += 3)
		who.caregivers[who.caregiver_count++] = id;
	scope_begin(&scope, SCOPE_EVENTS_READ, &who);
	filter.scope = &scope;
	filter.min_time_us = instant("2019-01-09T00:00:00Z");
	filter.max_time_us = instant("2019-12-11T00:00:00Z");
	ck_assert_int_eq(db_open(LEDGER_FILE, DB_READ, &ledger_schema, &db), OK);
	rows_open(&rows, db, &filter);
	for (; rows_next(&rows, &sum, &found) == OK && found; n++, last = sum) {
		ck_assert_int_eq(sum.caregiver_id % 3, 0);
		ck_assert(sum.month > last.month ||
		    (sum.month == last.month && sum.caregiver_id > last.caregiver_id));
	}
	rows_close(&rows);
	db_close(db);
	ck_assert_int_eq(n, (int64_t)who.caregiver_count * MANY_MONTHS);
	ck_assert_int_eq(rows.seeks, 3);
	ck_assert_int_eq(rows.steps, n);
	end();
}
END_TEST

START_TEST(neither_query_sorts_or_reads_more_than_its_index)
{
	static const struct {
		const struct db_sql *sql;
		const char *plan;
	} rows[] = {
		{ &sql_events_report_sums,
		    "SEARCH sums USING PRIMARY KEY ((month,caregiver_id)>(?,?) AND month<?)\n" },
		{ &sql_events_report_events,
		    "SEARCH events USING COVERING INDEX events_by_month (month=? AND "
		    "caregiver_id>?)\n" },
	};
	char *plan;

	begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_assert_int_eq(db_plan(writer, rows[i].sql, &plan), OK);
		ck_assert_str_eq(plan, rows[i].plan);
		free(plan);
	}
	end();
}
END_TEST

START_TEST(what_is_of_some_is_looked_up_for_each_of_them)
{
	static const struct {
		const struct db_sql *sql;
		const char *step;
	} rows[] = {
		{ &sql_events_report_sums_of,
		    "SEARCH s USING PRIMARY KEY (month=? AND caregiver_id=?)\n" },
		{ &sql_events_report_events_of,
		    "SEARCH events USING COVERING INDEX events_by_month (month=? AND "
		    "caregiver_id=?)\n" },
	};
	char *plan;

	begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_assert_int_eq(db_plan(writer, rows[i].sql, &plan), OK);
		ck_assert_msg(strstr(plan, rows[i].step) != NULL, "%s", plan);
		ck_assert_ptr_null(strstr(plan, "SCAN sums"));
		free(plan);
	}
	end();
}
END_TEST

START_TEST(a_query_beyond_its_time_ends_with_an_error)
{
	const struct report_filter all = REPORT_FILTER_NONE;
	struct ledger_sum sum;
	struct rows rows;
	struct db *db;
	bool found;
	enum err err;

	begin();
	add_many();
	ck_assert_int_eq(db_open(LEDGER_FILE, DB_READ, &ledger_schema, &db), OK);
	db_deadline(db, 1);
	rows_open(&rows, db, &all);
	do
		err = rows_next(&rows, &sum, &found);
	while (err == OK && found);
	ck_assert_int_eq(err, ERR_BUSY);
	rows_close(&rows);
	db_close(db);
	end();
}
END_TEST

/* --- Streams. */

static void
add_meanwhile(void)
{
	static const struct given late[] = { { 1, "2019-12-31T00:00:00Z", 1, false },
		{ 1, "2020-01-01T00:00:00Z", 1, false } };

	add(late, COUNT(late));
}

START_TEST(a_long_answer_is_streamed_from_one_snapshot)
{
	begin();
	add_many();
	answer.at_first = add_meanwhile;
	ck_assert_int_eq(get("?format=rows"), 200);
	answer.at_first = NULL;
	ck_assert_uint_gt(answer.writes, 10);
	ck_assert(!said("\r\nContent-Length: "));
	ck_assert(!said("\"year\":2020"));
	ck_assert(said("\"not_reimbursed_events\":1}]"));
	ck_assert(!said("\"not_reimbursed_cents\":200,"));

	ck_assert_int_eq(get("?format=rows"), 200);
	ck_assert(said("\"year\":2020"));
	ck_assert(said("\"not_reimbursed_cents\":200,"));
	end();
}
END_TEST

static void
damage_storage(void)
{
	ck_assert_int_eq(truncate(LEDGER_FILE "-wal", 4096), 0);
}

START_TEST(an_answer_that_breaks_off_is_never_a_whole_one)
{
	static const struct question question = { .method = "GET", .uri = REPORT "?format=csv" };
	int status;

	begin();
	add_many();
	answer.at_first = damage_storage;
	ck_assert(!run(&question, &status));
	ck_assert_uint_gt(answer.writes, 0);
	end();
}
END_TEST

START_TEST(a_client_that_leaves_ends_the_work)
{
	static const struct question question = { .method = "GET", .uri = REPORT };
	int status;

	begin();
	add_many();
	answer.leaves = true;
	ck_assert(!run(&question, &status));
	ck_assert_uint_eq(answer.writes, 1);
	answer.leaves = false;
	ck_assert_int_eq(get(""), 200);
	end();
}
END_TEST

START_TEST(without_a_database_it_is_503)
{
	begin();
	db_close(writer);
	writer = NULL;
	ck_assert_int_eq(get(""), 200); /* on the connection that stays open */
	program.close();
	ck_assert_int_eq(unlink(LEDGER_FILE), 0);
	ck_assert_int_eq(program.open(NULL), OK);
	ck_assert_int_eq(get(""), 503);
	ck_assert(said("\r\nRetry-After: 1\r\n"));
	ck_assert_int_eq(ask(&(struct question){ .method = "GET", .uri = "/healthz/report" }), 503);
	end();
}
END_TEST

START_TEST(health_is_ok_with_a_database)
{
	begin();
	ck_assert_int_eq(ask(&(struct question){ .method = "GET", .uri = "/healthz/report" }), 200);
	ck_assert_str_eq(body(), "{\"status\":\"ok\"}");
	end();
}
END_TEST

/* --- Questions. */

START_TEST(caregivers_may_be_repeated_listed_and_given_twice)
{
	static const char *const all[] = { "", "?caregiver_ids=", "?caregiver_ids",
		"?caregiver_ids=&caregiver_ids=", "?caregiver_ids=1,2,3", "?caregiver_ids=3,2,1,2",
		"?caregiver_ids=2&caregiver_ids=3,1&caregiver_ids=", "?caregiver_ids=1%2C02%2C3",
		"?caregiver_ids=1,2,3,4,9223372036854775807", "?unknown=4" };
	static const char *const bodies[] = { "{}", "{\"caregiver_ids\":[]}",
		"{\"caregiver_ids\":null,\"min_time\":null,\"max_time\":null,\"format\":null}",
		" {\"caregiver_ids\" : [3, 1, 2.0, 1, 9223372036854775807]}\n",
		"{\"unknown\":[4],\"caregiver_id\":4}" };
	static const struct given given[] = { { 1, "2020-01-01T00:00:00Z", 1, false },
		{ 2, "2020-01-01T00:00:00Z", 1, false }, { 3, "2020-01-01T00:00:00Z", 1, false } };
	static const char expected[] = "{\"2020\":{\"Jan\":{\"1\":{\"non-reimbursed SEK\":0.01},"
				       "\"2\":{\"non-reimbursed SEK\":0.01},"
				       "\"3\":{\"non-reimbursed SEK\":0.01}}}}}";

	begin();
	add(given, COUNT(given));
	for (size_t i = 0; i < COUNT(all); i++) {
		ck_assert_int_eq(get(all[i]), 200);
		ck_assert_msg(strcmp(report(), expected) == 0, "%s: %s", all[i], report());
	}
	for (size_t i = 0; i < COUNT(bodies); i++) {
		ck_assert_int_eq(post(bodies[i]), 200);
		ck_assert_msg(strcmp(report(), expected) == 0, "%s: %s", bodies[i], report());
	}
	ck_assert_int_eq(get("?caregiver_ids=4,5"), 200);
	ck_assert_str_eq(report(), "{}}");
	end();
}
END_TEST

START_TEST(a_bad_question_is_refused_with_every_bad_field_named)
{
	static const struct {
		bool by_post;
		const char *question, *pointers[3];
	} rows[] = {
		{ false, "?caregiver_ids=x", { "caregiver_ids" } },
		{ false, "?caregiver_ids=0", { "caregiver_ids" } },
		{ false, "?caregiver_ids=-1", { "caregiver_ids" } },
		{ false, "?caregiver_ids=1.0", { "caregiver_ids" } },
		{ false, "?caregiver_ids=,", { "caregiver_ids" } },
		{ false, "?caregiver_ids=1,,2", { "caregiver_ids" } },
		{ false, "?caregiver_ids=1,", { "caregiver_ids" } },
		{ false, "?caregiver_ids=1,+2", { "caregiver_ids" } },
		{ false, "?caregiver_ids=9223372036854775808", { "caregiver_ids" } },
		{ false, "?caregiver_ids=1&caregiver_ids=x", { "caregiver_ids" } },
		{ false, "?min_time=", { "min_time" } },
		{ false, "?min_time=2020-02-30T00:00:00Z", { "min_time" } },
		{ false, "?min_time=2020-01-01T00:00:00Z&min_time=2020-01-01T00:00:00Z",
		    { "min_time" } },
		{ false, "?max_time=now", { "max_time" } },
		{ false, "?caregiver_id=4", { "caregiver_id" } },
		{ false, "?type_id=4&reimbursed=true", { "type_id", "reimbursed" } },
		{ false, "?format=", { "format" } },
		{ false, "?format=xml", { "format" } },
		{ false, "?format=CSV", { "format" } },
		{ false, "?format=csv&format=csv", { "format" } },
		{ false, "?min_time=1&max_time=2&caregiver_ids=x",
		    { "min_time", "max_time", "caregiver_ids" } },
		{ true, "{\"caregiver_ids\":17}", { "#/caregiver_ids" } },
		{ true, "{\"caregiver_ids\":[1,0,\"2\"]}",
		    { "#/caregiver_ids/1", "#/caregiver_ids/2" } },
		{ true, "{\"caregiver_ids\":[1.5]}", { "#/caregiver_ids/0" } },
		{ true, "{\"caregiver_ids\":[null]}", { "#/caregiver_ids/0" } },
		{ true, "{\"caregiver_ids\":[9223372036854775808]}", { "#/caregiver_ids/0" } },
		{ true, "{\"min_time\":1}", { "#/min_time" } },
		{ true, "{\"min_time\":\"\",\"max_time\":\"\",\"format\":\"xml\"}",
		    { "#/min_time", "#/max_time", "#/format" } },
		{ true, "{\"format\":1}", { "#/format" } },
	};
	char pointer[64];

	begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		const char *question = rows[i].question;

		ck_assert_msg(
		    (rows[i].by_post ? post(question) : get(question)) == 400, "%s", question);
		ck_assert(said("\r\nContent-Type: application/problem+json\r\n"));
		for (size_t k = 0; k < 3 && rows[i].pointers[k] != NULL; k++) {
			(void)snprintf(
			    pointer, sizeof(pointer), "\"pointer\":\"%s\"", rows[i].pointers[k]);
			ck_assert_msg(said(pointer), "%s: %s", question, answer.text);
		}
	}
	end();
}
END_TEST

START_TEST(a_post_takes_its_filters_from_the_body_only)
{
	static const struct {
		const char *query, *body;
		int status;
		const char *says;
	} rows[] = {
		{ "?format=csv", "{}", 200, "Content-Type: text/csv" },
		{ "", "{\"format\":\"csv\"}", 200, "Content-Type: text/csv" },
		{ "?format=csv", "{\"format\":null}", 200, "Content-Type: text/csv" },
		{ "?format=csv", "{\"format\":\"csv\"}", 400, "\"#/format\"" },
		{ "?caregiver_ids=1", "{}", 400, "\"caregiver_ids\"" },
		{ "?min_time=2020-01-01T00:00:00Z", "{}", 400, "\"min_time\"" },
		{ "?max_time=x", "{}", 400, "\"max_time\"" },
		{ "?other=x", "{}", 200, "\"report\":{}" },
		{ "", "", 400, "not valid JSON" },
		{ "", "[]", 400, "must be a JSON object" },
		{ "", "{\"min_time\":null,\"min_time\":null}", 400, "given twice" },
	};
	char uri[128];

	begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct question question = {
			.method = "POST", .uri = uri, .body = rows[i].body
		};

		(void)snprintf(uri, sizeof(uri), REPORT "%s", rows[i].query);
		ck_assert_msg(ask(&question) == rows[i].status, "row %zu: %s", i, answer.text);
		ck_assert_msg(said(rows[i].says), "row %zu: %s", i, answer.text);
	}
	end();
}
END_TEST

START_TEST(a_body_of_another_type_is_415_and_a_longer_one_413)
{
	static const char *const wrong[] = { "", "text/plain", "application/x-www-form-urlencoded",
		"application/jsonx" };
	struct question question = { .method = "POST", .uri = REPORT, .body = "{}" };
	char *long_body;

	begin();
	for (size_t i = 0; i < COUNT(wrong); i++) {
		question.content_type = wrong[i];
		ck_assert_int_eq(ask(&question), 415);
	}
	question.content_type = "Application/JSON; charset=utf-8";
	ck_assert_int_eq(ask(&question), 200);
	ck_assert_int_gt(asprintf(&long_body, "{}%*s", REQUEST_BODY_MAX - 2, ""), 0);
	ck_assert_int_eq(post(long_body), 200);
	free(long_body);
	ck_assert_int_gt(asprintf(&long_body, "{}%*s", REQUEST_BODY_MAX - 1, ""), 0);
	ck_assert_int_eq(post(long_body), 413);
	free(long_body);
	end();
}
END_TEST

START_TEST(fifty_thousand_caregivers_may_be_asked_for)
{
	static char text[REQUEST_BODY_MAX];
	static const struct {
		int count, status;
	} rows[] = { { 10000, 200 }, { 50000, 200 }, { 50001, 400 } };

	begin();
	add(some, COUNT(some));
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *to = stpcpy(text, "{\"format\":\"csv\",\"caregiver_ids\":[17");

		for (int k = 1; k < rows[i].count; k++)
			to += sprintf(to, ",%lld", (long long)(INT64_MAX - 1 - k));
		(void)stpcpy(to, "]}");
		ck_assert_int_eq(post(text), rows[i].status);
		if (rows[i].status == 200)
			ck_assert_str_eq(body(), CSV_HEAD "2017,1,17,SEK,250000,50050,1,1\r\n");
		else
			ck_assert(said("\"#/caregiver_ids\""));
	}
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
		{ "", "", 200, "application/json" },
		{ "", "*/*", 200, "application/json" },
		{ "", "application/json, text/csv", 200, "application/json" },
		{ "", "text/html, */*;q=0.8", 200, "application/json" },
		{ "", "text/csv", 200, CSV },
		{ "", "text/*", 200, CSV },
		{ "", "text/csv, application/json;q=0", 200, CSV },
		{ "?format=json", "text/csv", 200, "application/json" },
		{ "?format=rows", "text/csv", 200, "application/json" },
		{ "?format=csv", "application/json", 200, CSV },
		{ "", "text/html", 406, "application/problem+json" },
	};
	char uri[128], type[128];

	begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct question question = {
			.method = "GET", .uri = uri, .accept = rows[i].accept
		};

		(void)snprintf(uri, sizeof(uri), REPORT "%s", rows[i].query);
		(void)snprintf(type, sizeof(type), "\r\nContent-Type: %s\r\n", rows[i].type);
		ck_assert_msg(ask(&question) == rows[i].status, "row %zu: %s", i, answer.text);
		ck_assert_msg(said(type), "row %zu: %s", i, answer.text);
		ck_assert(rows[i].status != 200 || said("\r\nVary: Accept\r\n"));
	}
	end();
}
END_TEST

START_TEST(generated_at_is_now)
{
	int64_t before = clock_now_us(), at;

	begin();
	ck_assert_int_eq(get(""), 200);
	ck_assert_ptr_eq(strstr(body(), "{\"generated_at\":\""), body());
	ck_assert_int_eq(clock_parse(body() + 17, CLOCK_TEXT_SIZE - 1, &at), OK);
	ck_assert_int_ge(at, before);
	ck_assert_int_le(at, clock_now_us());
	ck_assert_str_eq(body() + 17 + CLOCK_TEXT_SIZE - 1, "\",\"report\":{}}");
	end();
}
END_TEST

/* The ETag of the answer. */
static void
take_etag(char out[128])
{
	const char *at = strstr(answer.text, "\r\nETag: ");

	ck_assert_ptr_nonnull(at);
	(void)snprintf(out, 128, "%.*s", (int)strcspn(at + 8, "\r"), at + 8);
}

START_TEST(an_etag_holds_until_anything_changes)
{
	static const char *const queries[] = { "?format=json", "?format=rows", "?format=csv" };
	char uri[64], etags[COUNT(queries)][128], now[128];
	struct question again = { .method = "GET", .uri = uri };

	begin();
	for (size_t i = 0; i < COUNT(queries); i++) {
		ck_assert_int_eq(get(queries[i]), 200);
		ck_assert(said("\r\nCache-Control: no-cache\r\n"));
		take_etag(etags[i]);
		ck_assert_int_eq(strncmp(etags[i], i == 0 ? "W/\"" : "\"", i == 0 ? 3 : 1), 0);
		ck_assert(i == 0 || strcmp(etags[i], etags[i - 1]) != 0);
	}
	for (size_t i = 0; i < COUNT(queries); i++) {
		(void)snprintf(uri, sizeof(uri), REPORT "%s", queries[i]);
		again.if_none_match = etags[i];
		ck_assert_int_eq(ask(&again), 304);
		take_etag(now);
		ck_assert_str_eq(now, etags[i]);
		ck_assert(said("\r\nVary: Accept\r\n"));
		ck_assert_str_eq(body(), "");
		again.if_none_match = etags[(i + 1) % COUNT(queries)];
		ck_assert_int_eq(ask(&again), 200);
	}
	add(some, 1);
	again.if_none_match = etags[2];
	ck_assert_int_eq(ask(&again), 200);
	end();
}
END_TEST

START_TEST(a_304_is_for_good_questions_by_get_or_head)
{
	static const struct {
		const char *method, *uri;
		int status;
	} rows[] = {
		{ "GET", REPORT, 304 },
		{ "GET", REPORT "/?caregiver_ids=1", 304 },
		{ "HEAD", REPORT, 304 },
		{ "POST", REPORT, 200 },
		{ "GET", REPORT "?caregiver_ids=x", 400 },
		{ "GET", REPORT "?format=csv", 200 },
	};
	char etag[128];

	begin();
	ck_assert_int_eq(get(""), 200);
	take_etag(etag);
	for (size_t i = 0; i < COUNT(rows); i++)
		ck_assert_int_eq(ask(&(struct question){ .method = rows[i].method,
				     .uri = rows[i].uri,
				     .body = "{}",
				     .if_none_match = etag }),
		    rows[i].status);
	end();
}
END_TEST

START_TEST(head_options_and_other_methods_follow_the_table)
{
	begin();
	add(some, COUNT(some));
	ck_assert_int_eq(ask(&(struct question){ .method = "HEAD", .uri = REPORT }), 200);
	ck_assert_str_eq(body(), "");
	ck_assert(said("\r\nETag: W/\""));
	ck_assert(said("\r\nContent-Length: "));
	ck_assert_int_eq(ask(&(struct question){ .method = "OPTIONS", .uri = REPORT "/" }), 204);
	ck_assert(said("\r\nAllow: GET, HEAD, POST, OPTIONS\r\n"));
	ck_assert_int_eq(ask(&(struct question){ .method = "DELETE", .uri = REPORT }), 405);
	ck_assert_int_eq(ask(&(struct question){ .method = "GET", .uri = REPORT "/x" }), 404);
	end();
}
END_TEST

CHECK_MAIN(report,
    { every_route_is_listed_here_and_has_roles, without_events_each_format_is_empty,
	sums_nest_by_year_month_and_caregiver, rows_and_csv_say_the_same_in_cents,
	a_reimbursement_and_a_deletion_move_the_sums, both_bounds_are_exclusive_to_the_microsecond,
	any_question_has_the_sums_that_adding_up_the_events_gives,
	a_dense_list_is_a_scan_and_a_sparse_one_a_few_seeks_a_month,
	who_does_not_see_all_reads_what_is_theirs_by_one_query_a_segment,
	neither_query_sorts_or_reads_more_than_its_index,
	what_is_of_some_is_looked_up_for_each_of_them, a_query_beyond_its_time_ends_with_an_error,
	a_long_answer_is_streamed_from_one_snapshot, an_answer_that_breaks_off_is_never_a_whole_one,
	a_client_that_leaves_ends_the_work, without_a_database_it_is_503,
	health_is_ok_with_a_database, caregivers_may_be_repeated_listed_and_given_twice,
	a_bad_question_is_refused_with_every_bad_field_named,
	a_post_takes_its_filters_from_the_body_only,
	a_body_of_another_type_is_415_and_a_longer_one_413,
	fifty_thousand_caregivers_may_be_asked_for, format_wins_over_accept, generated_at_is_now,
	an_etag_holds_until_anything_changes, a_304_is_for_good_questions_by_get_or_head,
	head_options_and_other_methods_follow_the_table })
