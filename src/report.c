/*
 * report: sums of what is paid, by month and caregiver.  The contract is docs/report.md.
 */
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/etag.h"
#include "lib/health.h"
#include "lib/jsonr.h"
#include "lib/jsonw.h"
#include "lib/scrape.h"
#include "lib/serve.h"
#include "lib/text.h"

#define CAREGIVERS_MAX 50000
#define DEADLINE_US (60 * CLOCK_SECOND_US) /* for which a snapshot is held at most */
#define CURRENCY "SEK"

static struct db_readers *readers;

/* --- Formats. */

/* A report going out. */
struct writer {
	struct response *res;
	struct jsonw json;
	int64_t generated_at_us;
	int64_t month; /* of the row before; 0: none */
	enum err err; /* the first one of the response; nothing is written after it */
};

struct format {
	const char *name, *type;
	size_t
	    time_at; /* where the body tells its own time, which makes its ETag weak; 0: nowhere */
	void (*begin)(struct writer *w);
	void (*row)(struct writer *w, const struct ledger_sum *sum);
	void (*end)(struct writer *w);
};

static enum err
put(void *ctx, const char *bytes, size_t n)
{
	struct writer *w = ctx;

	if (w->err == OK)
		w->err = response_write(w->res, bytes, n);
	return w->err;
}

static void
json_begin(struct writer *w)
{
	jsonw_open(&w->json, put, w);
	jsonw_object_begin(&w->json, NULL);
	jsonw_time(&w->json, "generated_at", w->generated_at_us);
	jsonw_object_begin(&w->json, "report");
}

/* Leaves the month of the row before, and its year if MONTH is in another. */
static void
json_leave(struct writer *w, int64_t month)
{
	if (w->month != 0)
		jsonw_object_end(&w->json);
	if (w->month != 0 && w->month / 12 != month / 12)
		jsonw_object_end(&w->json);
}

static void
json_enter(struct writer *w, int64_t month)
{
	static const char *const names[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug",
		"Sep", "Oct", "Nov", "Dec" };
	char year[TEXT_INT_SIZE];

	if (w->month / 12 != month / 12) {
		(void)text_int(month / 12, year);
		jsonw_object_begin(&w->json, year);
	}
	jsonw_object_begin(&w->json, names[month % 12]);
	w->month = month;
}

static void
json_row(struct writer *w, const struct ledger_sum *sum)
{
	char id[TEXT_INT_SIZE];

	if (w->month != sum->month) {
		json_leave(w, sum->month);
		json_enter(w, sum->month);
	}
	(void)text_int(sum->caregiver_id, id);
	jsonw_object_begin(&w->json, id);
	if (sum->reimbursed_events > 0)
		jsonw_decimal(&w->json, "reimbursed " CURRENCY, sum->reimbursed_cents, 2);
	if (sum->open_events > 0)
		jsonw_decimal(&w->json, "non-reimbursed " CURRENCY, sum->open_cents, 2);
	jsonw_object_end(&w->json);
}

static void
json_end(struct writer *w)
{
	json_leave(w, 0);
	jsonw_object_end(&w->json);
	jsonw_object_end(&w->json);
	w->err = jsonw_close(&w->json);
}

static void
list_begin(struct writer *w)
{
	jsonw_open(&w->json, put, w);
	jsonw_array_begin(&w->json, NULL);
}

static void
list_row(struct writer *w, const struct ledger_sum *sum)
{
	jsonw_object_begin(&w->json, NULL);
	jsonw_int(&w->json, "year", sum->month / 12);
	jsonw_int(&w->json, "month", sum->month % 12 + 1);
	jsonw_int(&w->json, "caregiver_id", sum->caregiver_id);
	jsonw_string(&w->json, "currency", CURRENCY);
	jsonw_int(&w->json, "reimbursed_cents", sum->reimbursed_cents);
	jsonw_int(&w->json, "not_reimbursed_cents", sum->open_cents);
	jsonw_int(&w->json, "reimbursed_events", sum->reimbursed_events);
	jsonw_int(&w->json, "not_reimbursed_events", sum->open_events);
	jsonw_object_end(&w->json);
}

static void
list_end(struct writer *w)
{
	jsonw_array_end(&w->json);
	w->err = jsonw_close(&w->json);
}

#define CSV_CURRENCY 3 /* the column */

static void
csv_begin(struct writer *w)
{
	static const char head[] =
	    "year,month,caregiver_id,currency,reimbursed_cents,not_reimbursed_cents,"
	    "reimbursed_events,not_reimbursed_events\r\n";

	(void)put(w, head, sizeof(head) - 1);
}

/* Numbers only, so that nothing needs quotes (RFC 4180). */
static void
csv_row(struct writer *w, const struct ledger_sum *sum)
{
	const int64_t values[] = { sum->month / 12, sum->month % 12 + 1, sum->caregiver_id,
		sum->reimbursed_cents, sum->open_cents, sum->reimbursed_events, sum->open_events };
	char line[sizeof(values) / sizeof(values[0]) * TEXT_INT_SIZE + sizeof(CURRENCY) + 2];
	char *end = line;

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		if (i == CSV_CURRENCY)
			end = stpcpy(end, CURRENCY ",");
		end += text_int(values[i], end);
		*end++ = ',';
	}
	end[-1] = '\r';
	*end++ = '\n';
	(void)put(w, line, (size_t)(end - line));
}

static void
csv_end(struct writer *w)
{
	(void)w;
}

#define CSV "text/csv"

static const struct format formats[] = {
	{ "json", "application/json", sizeof("{\"generated_at\":\"") - 1, json_begin, json_row,
	    json_end },
	{ "rows", "application/json", 0, list_begin, list_row, list_end },
	{ "csv", CSV "; charset=utf-8; header=present", 0, csv_begin, csv_row, csv_end },
};

/* --- The question. */

struct question {
	const struct format *format;
	struct scope scope;
	struct report_filter filter;
};

static const struct format *
find_format(const char *name)
{
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		if (strcmp(formats[i].name, name) == 0)
			return &formats[i];
	return NULL;
}

/* NAME wherever POINTER points. */
static const struct format *
read_format(const char *name, const char *pointer)
{
	const struct format *format = find_format(name);

	if (format != NULL)
		return format;
	(void)fail_field(pointer, "must be json, rows or csv");
	return formats; /* nothing is answered in it */
}

/* What the query says of the format; else what Accept does.  *FOUND: it was the query. */
static const struct format *
query_format(const struct request *req, bool *found)
{
	struct request_text name = request_param(req, "format", found);

	if (*found)
		return read_format(name.s, "format");
	return read_format(
	    request_quality(req, CSV) > request_quality(req, "application/json") ? "csv" : "json",
	    "Accept");
}

/* Numbers with commas between them; IDS has room. */
static bool
read_list(const char *list, int64_t *ids, size_t *count)
{
	size_t n;

	for (;; list += n + 1) {
		n = strcspn(list, ",");
		if (!text_uint(list, n, &ids[*count]) || ids[*count] < 1)
			return false;
		++*count;
		if (list[n] == '\0')
			return true;
	}
}

static enum err
query_caregivers(const struct request *req, struct report_filter *filter)
{
	const struct request_param *end = req->params + req->param_count;
	size_t room = 1;

	for (const struct request_param *param = req->params; param < end; param++)
		room += param->value.n / 2 + 1; /* a digit and a comma each */
	filter->caregiver_ids = malloc(room * sizeof(int64_t));
	if (filter->caregiver_ids == NULL)
		return fail(ERR_BUSY, "no memory for a list");
	for (const struct request_param *param = req->params; param < end; param++) {
		if (strcmp(param->name.s, "caregiver_ids") != 0 || param->value.n == 0)
			continue;
		if (!read_list(param->value.s, filter->caregiver_ids, &filter->caregiver_count))
			(void)fail_field("caregiver_ids",
			    "must be whole numbers of 1..%lld with commas between them",
			    (long long)INT64_MAX);
	}
	return OK;
}

/* What looks like a filter is refused where it is none: passed over, it would give a report of
 * everybody. */
static void
refuse_params(const struct request *req, const char *const *names, const char *why)
{
	bool found;

	for (; *names != NULL; names++) {
		(void)request_param(req, *names, &found);
		if (found)
			(void)fail_field(*names, "%s", why);
	}
}

/* The filters of a list of events. */
static void
refuse_foreign(const struct request *req)
{
	static const char *const names[] = { "caregiver_id", "type_id", "reimbursed", NULL };

	refuse_params(req, names, "is no filter of the report, which has caregiver_ids");
}

static enum err
read_query(struct request *req, struct question *question)
{
	struct report_filter *filter = &question->filter;
	enum err err;
	bool found;

	question->format = query_format(req, &found);
	refuse_foreign(req);
	request_param_time(req, "min_time", &filter->min_time_us, &found);
	request_param_time(req, "max_time", &filter->max_time_us, &found);
	if ((err = query_caregivers(req, filter)) != OK || (err = err_pending()) != OK)
		return err;
	filter->caregiver_count = scope_sort(filter->caregiver_ids, filter->caregiver_count);
	return OK;
}

static enum err
read_members(const struct jsonr *body, bool has_format, struct question *question)
{
	struct report_filter *filter = &question->filter;
	const char *name = NULL;
	size_t n;

	if (has_format && jsonr_has(body, "format"))
		(void)fail_field("#/format", "is in the query too");
	else if (jsonr_has(body, "format"))
		jsonr_string(body, "format", 0, 16, &name, &n);
	if (name != NULL)
		question->format = read_format(name, "#/format");
	if (jsonr_has(body, "min_time"))
		jsonr_time(body, "min_time", &filter->min_time_us);
	if (jsonr_has(body, "max_time"))
		jsonr_time(body, "max_time", &filter->max_time_us);
	return jsonr_ints(body, "caregiver_ids", 1, INT64_MAX, CAREGIVERS_MAX,
	    &filter->caregiver_ids, &filter->caregiver_count);
}

static enum err
read_body(struct request *req, struct question *question)
{
	static const char *const in_body[] = { "caregiver_ids", "min_time", "max_time", NULL };
	struct jsonr body;
	char *bytes;
	size_t n;
	bool has_format;
	enum err err;

	if (!request_is(req, "application/json"))
		return fail(ERR_MEDIA_TYPE, "the filters must come as application/json");
	if ((err = request_body(req, REQUEST_BODY_MAX, &bytes, &n)) != OK)
		return err;
	question->format = query_format(req, &has_format);
	refuse_foreign(req);
	refuse_params(req, in_body, "belongs in the body of a POST");
	if ((err = jsonr_parse(bytes, n, &body)) == OK) {
		err = read_members(&body, has_format, question);
		jsonr_close(&body);
	}
	free(bytes);
	if (err != OK || (err = err_pending()) != OK)
		return err;
	question->filter.caregiver_count =
	    scope_sort(question->filter.caregiver_ids, question->filter.caregiver_count);
	return OK;
}

/* --- The answer. */

static void
make_key(const struct question *question, struct cache_key *key)
{
	const struct report_filter *filter = &question->filter;
	struct digest digest;

	digest_begin(&digest);
	digest_add(&digest, &filter->scope->all, sizeof(filter->scope->all));
	digest_add(&digest, question->format->name, strlen(question->format->name) + 1);
	digest_add(&digest, &filter->min_time_us, sizeof(filter->min_time_us));
	digest_add(&digest, &filter->max_time_us, sizeof(filter->max_time_us));
	digest_add(&digest, &filter->caregiver_count, sizeof(filter->caregiver_count));
	digest_add(&digest, filter->caregiver_ids,
	    filter->caregiver_count * sizeof(filter->caregiver_ids[0]));
	if (!filter->scope->all)
		digest_add(&digest, filter->scope->ids,
		    filter->scope->count * sizeof(filter->scope->ids[0]));
	digest_end(&digest, key->digest);
}

static enum err
begin(const struct format *format, const char *etag, struct response *res)
{
	enum err err = etag_begin(res, format->type, etag);

	return err != OK ? err : response_field(res, "Vary", "Accept");
}

static enum err
stream(const struct format *format, const char *etag, struct rows *rows, struct writer *w)
{
	struct ledger_sum sum;
	bool found;
	enum err err;

	/* The first row before the first byte: what fails at once is still a problem. */
	if ((err = rows_next(rows, &sum, &found)) != OK ||
	    (err = begin(format, etag, w->res)) != OK)
		return err;
	format->begin(w);
	while (found) {
		format->row(w, &sum);
		if (w->err != OK)
			return w->err;
		if ((err = rows_next(rows, &sum, &found)) != OK)
			return err;
	}
	format->end(w);
	return w->err;
}

/* A report that was kept, with the time of this one. */
static enum err
send_kept(const struct format *format, const char *etag, char *body, size_t n, struct writer *w)
{
	char now[CLOCK_TEXT_SIZE];
	enum err err = begin(format, etag, w->res);

	if (format->time_at > 0) {
		clock_text(w->generated_at_us, now);
		memcpy(body + format->time_at, now, sizeof(now) - 1);
	}
	return err != OK ? err : response_write(w->res, body, n);
}

/* Kept before, or made and kept, if it is short enough to wait in the response as a whole. */
static enum err
send_report(const struct question *question, const char *version, const char *etag, struct db *db,
    struct writer *w)
{
	char body[RESPONSE_BUFFER_MAX];
	struct cache_key key;
	struct rows rows;
	size_t n;
	enum err err;

	make_key(question, &key);
	if ((n = cache_find(version, &key, body, sizeof(body))) > 0)
		return send_kept(question->format, etag, body, n, w);
	rows_open(&rows, db, &question->filter);
	err = stream(question->format, etag, &rows, w);
	rows_close(&rows);
	if (err == OK && !w->res->head_sent)
		cache_keep(version, &key, w->res->body, w->res->body_used);
	return err;
}

/* What names the state of a report.  Who sees all is told of that of all events, which costs one
 * look; who does not, of the rows and nothing else: what others do is not theirs to know. */
static enum err
make_tag(struct db *db, const struct report_filter *filter, const char *version,
    char tag[2 * DIGEST_BYTES + 1])
{
	unsigned char bytes[DIGEST_BYTES];
	struct digest digest;
	struct ledger_sum sum;
	struct rows rows;
	bool found;
	enum err err;

	if (filter->scope->all) {
		(void)stpcpy(tag, version);
		return OK;
	}
	digest_begin(&digest);
	rows_open(&rows, db, filter);
	while ((err = rows_next(&rows, &sum, &found)) == OK && found)
		digest_add(&digest, &sum, sizeof(sum));
	rows_close(&rows);
	digest_end(&digest, bytes);
	text_to_hex(bytes, sizeof(bytes), tag);
	return err;
}

/* Within a snapshot: the version and the rows belong together.  The time is from before it, so that
 * what was acknowledged until then is in the report. */
static enum err
report_send(const struct request *req, struct response *res, const struct question *question,
    struct db *db, int64_t now_us)
{
	const struct format *format = question->format;
	struct writer w = { .res = res, .generated_at_us = now_us };
	char version[LEDGER_VERSION_SIZE], tag[2 * DIGEST_BYTES + 1], etag[ETAG_MAX];
	enum err err;

	if ((err = ledger_version(db, version)) != OK ||
	    (err = make_tag(db, &question->filter, version, tag)) != OK)
		return err;
	(void)snprintf(etag, sizeof(etag), "%s\"%s-%c\"", format->time_at > 0 ? "W/" : "", tag,
	    format->name[0]);
	if (req->method != METHOD_POST && etag_unchanged(req, res, etag))
		return response_field(res, "Vary", "Accept");
	return send_report(question, version, etag, db, &w);
}

static enum err
report_answer(struct request *req, struct response *res, const struct question *question)
{
	int64_t now_us = clock_now_us();
	struct db *db;
	enum err err;

	if ((err = db_borrow(readers, &db)) != OK)
		return err;
	db_deadline(db, req->start_us + DEADLINE_US);
	if ((err = db_begin(db)) == OK)
		err = report_send(req, res, question, db, now_us);
	db_return(readers, db); /* ends the snapshot, and the bound */
	return err;
}

/* What of the question is for REQ to be told. */
static void
narrow(const struct request *req, struct question *question)
{
	struct report_filter *filter = &question->filter;
	struct scope *scope = &question->scope;

	scope_begin(scope, SCOPE_EVENTS_READ, &req->who_bytes);
	if (!scope->all && filter->caregiver_count > 0)
		scope_narrow(scope, filter->caregiver_ids, filter->caregiver_count);
	filter->scope = scope;
}

/* By either method; what is wrong with the question comes before everything else. */
static enum err
report_ask(struct request *req, struct response *res,
    enum err (*read_question)(struct request *req, struct question *question))
{
	struct question question = { .filter = REPORT_FILTER_NONE };
	enum err err = read_question(req, &question);

	if (err == OK) {
		narrow(req, &question);
		err = report_answer(req, res, &question);
	}
	free(question.filter.caregiver_ids);
	return err;
}

static enum err
report_get(struct request *req, struct response *res)
{
	return report_ask(req, res, read_query);
}

static enum err
report_post(struct request *req, struct response *res)
{
	return report_ask(req, res, read_body);
}

static enum err
report_health(struct request *req, struct response *res)
{
	char version[LEDGER_VERSION_SIZE];
	struct db *db = NULL;
	enum err err;

	(void)req;
	if ((err = db_borrow(readers, &db)) == OK)
		err = ledger_version(db, version);
	db_return(readers, db);
	return health_answer(res, err);
}

static enum err
report_open(const struct conf *conf)
{
	(void)conf;
	return db_readers_open(LEDGER_FILE, &ledger_schema, &readers);
}

static void
report_close(void)
{
	cache_close();
	db_readers_close(readers);
	readers = NULL;
}

#define PRODUCES "application/json," CSV

static const struct route routes[] = {
	{ METHOD_GET, "/events/report", ROLES_ALL, report_get, PRODUCES },
	{ METHOD_POST, "/events/report", ROLES_ALL, report_post, PRODUCES },
	{ METHOD_GET, "/healthz/report", ROLES_ANYONE, report_health, NULL },
	{ METHOD_GET, "/metrics/report", ROLE_ADMIN, scrape_answer, SCRAPE_PRODUCES },
	{ 0 },
};

/* SQLite has readers write the index of its log. */
const struct program program = { "report", routes, report_open, report_close, NULL,
	.needs = { .places = { { "db", CONFINE_WRITE } } } };
