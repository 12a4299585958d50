#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "data_set.h"
#include "lib/answer.h"
#include "lib/commit.h"

#define BODY "{\"a\":1}"
#define RACERS 8

static struct commit *commit;

/* What is asked, and how it is answered. */
struct given {
	const char *key, *method, *uri, *body;
	size_t body_n; /* 0: that of the text */
	enum err makes; /* what the change says in the end */
	bool bare; /* 204, and no body */
	const char *who; /* NULL: anonymous */
};

static const struct given plain = { "k-1", "POST", "/events?x=1", "body" };

static atomic_int made; /* the changes that were really made: rows of the audit */

static struct {
	char text[8192];
	size_t n;
} sent;

static bool
take(void *ctx, const char *bytes, size_t n)
{
	(void)ctx;
	ck_assert_uint_lt(sent.n + n, sizeof(sent.text));
	memcpy(sent.text + sent.n, bytes, n);
	sent.n += n;
	sent.text[sent.n] = '\0';
	return true;
}

static ssize_t
no_body(void *ctx, char *buffer, size_t n)
{
	(void)ctx;
	(void)buffer;
	(void)n;
	return 0;
}

static void
begin(void)
{
	folder_begin();
	made = 0;
	ck_assert_int_eq(commit_open(LEDGER_FILE, &ledger_schema, &commit), OK);
}

static void
reopen(void)
{
	commit_close(commit);
	ck_assert_int_eq(commit_open(LEDGER_FILE, &ledger_schema, &commit), OK);
}

static void
end(void)
{
	commit_close(commit);
	data_open();
	ck_assert_int_eq(data_ask("SELECT count(*) FROM audit"), made);
	data_end();
	db = NULL;
}

/* A script by the writer, as nobody else may. */
static enum err
do_script(struct db *writer, void *arg)
{
	return db_script(writer, arg);
}

static void
script(const char *text)
{
	char copy[512];

	(void)stpcpy(copy, text);
	ck_assert_int_eq(commit_run(commit, do_script, copy), OK);
}

static int64_t
count(const char *text)
{
	int64_t value;

	ck_assert_int_eq(db_open(LEDGER_FILE, DB_READ, &ledger_schema, &db), OK);
	value = data_ask(text);
	db_close(db);
	return value;
}

struct asked {
	const struct given *given;
	struct answer answer;
	int runs;
};

/* The change: a row of the audit; its number is in the answer. */
static enum err
make(struct db *writer, void *arg)
{
	struct asked *asked = arg;
	struct answer *a = &asked->answer;
	enum err err = audit_add(writer, &actor, AUDIT_EVENT_CREATED, asked->runs++, NULL);

	answer_begin(a, asked->given->bare ? 204 : 201);
	if (err != OK)
		return err;
	if (asked->given->makes != OK) {
		(void)snprintf(a->location, sizeof(a->location), "/of/one/that/failed");
		return fail(asked->given->makes, "as it was told");
	}
	made++;
	if (asked->given->bare)
		return OK;
	(void)snprintf(a->location, sizeof(a->location), "/events/%d", made);
	(void)snprintf(a->etag, sizeof(a->etag), "\"%d\"", made);
	err = answer_write(a, BODY, 3);
	return err != OK ? err : answer_write(a, &BODY[3], sizeof(BODY) - 1 - 3);
}

/* The whole way of a request; what was sent is in SENT. */
static enum err
ask(const struct given *given)
{
	static struct request req;
	static struct response res;
	char method[32], uri[256], key[256];
	char *const meta[] = { method, uri, key, NULL };
	const struct request_source source = { meta, no_body, NULL };
	struct asked asked = { .given = given };
	size_t n = given->body_n > 0 ? given->body_n : strlen(given->body);
	enum err err;

	(void)snprintf(method, sizeof(method), "REQUEST_METHOD=%s", given->method);
	(void)snprintf(uri, sizeof(uri), "REQUEST_URI=%s", given->uri);
	(void)snprintf(key, sizeof(key), "HTTP_IDEMPOTENCY_KEY=%s", given->key);
	err_clear();
	sent.n = 0;
	sent.text[0] = '\0';
	ck_assert_int_eq(request_begin(&req, &source), OK);
	req.who = given->who != NULL ? given->who : WHO_ANYONE;
	response_open(&res, take, NULL);
	if ((err = answer_open(&req, &asked.answer)) == OK) {
		answer_digest(&asked.answer, given->body, n / 2);
		answer_digest(&asked.answer, given->body + n / 2, n - n / 2);
		err = answer_commit(&asked.answer, commit, make, &asked);
	}
	if (err == OK) {
		ck_assert_int_eq(answer_send(&asked.answer, &res), OK);
		ck_assert(response_end(&res));
	}
	answer_close(&asked.answer);
	return err;
}

/* What was sent has all of the answer number N. */
static void
expect_answer(int n)
{
	char location[64], etag[64];

	(void)snprintf(location, sizeof(location), "Location: /events/%d\r\n", n);
	(void)snprintf(etag, sizeof(etag), "ETag: \"%d\"\r\n", n);
	ck_assert_ptr_nonnull(strstr(sent.text, "Status: 201"));
	ck_assert_ptr_nonnull(strstr(sent.text, location));
	ck_assert_ptr_nonnull(strstr(sent.text, etag));
	ck_assert_ptr_nonnull(strstr(sent.text, "Content-Type: application/json\r\n"));
	ck_assert_str_eq(strstr(sent.text, "\r\n\r\n") + 4, BODY);
}

START_TEST(without_a_key_each_request_is_done)
{
	struct given given = plain;

	begin();
	given.key = "";
	for (int i = 1; i <= 3; i++) {
		ck_assert_int_eq(ask(&given), OK);
		expect_answer(i);
	}
	ck_assert_int_eq(count("SELECT count(*) FROM answers"), 0);
	end();
}
END_TEST

START_TEST(the_same_request_gets_the_same_answer)
{
	static char first[sizeof(sent.text)];

	begin();
	ck_assert_int_eq(ask(&plain), OK);
	expect_answer(1);
	memcpy(first, sent.text, sizeof(first));
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(ask(&plain), OK);
		ck_assert_str_eq(sent.text, first);
		reopen();
	}
	ck_assert_int_eq(made, 1);
	end();
}
END_TEST

START_TEST(an_answer_without_a_body_is_kept_as_such)
{
	static char first[sizeof(sent.text)];
	struct given given = plain;

	begin();
	given.bare = true;
	ck_assert_int_eq(ask(&given), OK);
	ck_assert_ptr_nonnull(strstr(sent.text, "Status: 204"));
	ck_assert_ptr_null(strstr(sent.text, "Content-Type"));
	ck_assert_ptr_null(strstr(sent.text, "Location"));
	ck_assert_str_eq(strstr(sent.text, "\r\n\r\n") + 4, "");
	memcpy(first, sent.text, sizeof(first));
	reopen();
	ck_assert_int_eq(ask(&given), OK);
	ck_assert_str_eq(sent.text, first);
	ck_assert_int_eq(made, 1);
	end();
}
END_TEST

START_TEST(another_request_with_the_key_is_refused)
{
	static const struct given others[] = {
		{ "k-1", "POST", "/events", "Body" },
		{ "k-1", "POST", "/events", "bod" },
		{ "k-1", "POST", "/events", "" },
		{ "k-1", "POST", "/events", "body\0", 5 },
		{ "k-1", "POST", "/event", "body" },
		{ "k-1", "POST", "/eventsbody", "" },
		{ "k-1", "POST", "/events/body", "" },
		{ "k-1", "POST", "/events/1", "body" },
		{ "k-1", "POST", "/", "events\0body", 11 },
	};
	static const struct given fine[] = {
		{ "k-1", "POST", "/events?other=2", "body" }, /* the path alone counts */
		{ "k-1", "POST", "/%65vents", "body" },
		{ "K-1", "POST", "/events", "Body" }, /* another key */
	};

	enum err err;

	begin();
	ck_assert_int_eq(ask(&plain), OK);
	for (size_t i = 0; i < COUNT(others); i++)
		ck_assert_msg((err = ask(&others[i])) == ERR_KEY_REUSED, "case %zu: %d", i, err);
	ck_assert_int_eq(made, 1);
	for (size_t i = 0; i < COUNT(fine); i++)
		ck_assert_msg(ask(&fine[i]) == OK, "case %zu", i);
	ck_assert_int_eq(made, 2);
	end();
}
END_TEST

START_TEST(the_same_key_of_another_name_is_another_key)
{
	static const char *const names[] = { NULL, "anna", "ann", "Anna", "annak-1", "anna " };
	static char first[sizeof(sent.text)];
	struct given given = plain;

	begin();
	for (size_t i = 0; i < COUNT(names); i++) {
		given.who = names[i];
		given.body = names[i] == NULL ? "body" : names[i];
		ck_assert_msg(ask(&given) == OK, "case %zu", i);
		ck_assert_int_eq(made, (int)i + 1);
		expect_answer(made);
		memcpy(first, sent.text, sizeof(first));
		ck_assert_int_eq(ask(&given), OK);
		ck_assert_str_eq(sent.text, first);
		given.body = "other";
		ck_assert_int_eq(ask(&given), ERR_KEY_REUSED);
	}
	ck_assert_int_eq(count("SELECT count(*) FROM answers WHERE instr(key, 'ann')"), 0);
	ck_assert_int_eq(count("SELECT count(*) FROM answers WHERE key = 'k-1'"), 1);
	end();
}
END_TEST

START_TEST(the_operators_key_is_kept_as_it_is)
{
	struct given given = plain;

	begin();
	given.who = WHO_OPERATOR;
	ck_assert_int_eq(ask(&given), OK);
	ck_assert_int_eq(ask(&given), OK);
	ck_assert_int_eq(made, 1);
	ck_assert_int_eq(count("SELECT count(*) FROM answers WHERE key = 'k-1'"), 1);
	end();
}
END_TEST

START_TEST(only_the_key_of_a_post_counts)
{
	static const char *const methods[] = { "PUT", "PATCH", "DELETE" };
	static const char *const keys[] = { "k-1", "a b" };

	begin();
	ck_assert_int_eq(ask(&plain), OK);
	for (size_t i = 0; i < COUNT(methods) * COUNT(keys); i++) {
		const struct given given = { keys[i % 2], methods[i / 2], "/events", "body" };

		ck_assert_int_eq(ask(&given), OK);
		expect_answer((int)i + 2);
	}
	end();
}
END_TEST

START_TEST(no_body_passes_for_a_longer_path)
{
	static const struct given as_path = { "k-1", "POST", "/events/1", "" };
	static const struct given as_body = { "k-1", "POST", "/events", "1\0", 2 };

	begin();
	ck_assert_int_eq(ask(&as_path), OK);
	ck_assert_int_eq(ask(&as_body), ERR_KEY_REUSED);
	end();
}
END_TEST

START_TEST(what_failed_is_not_kept)
{
	struct given given = plain;

	begin();
	given.makes = ERR_CONFLICT;
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(ask(&given), ERR_CONFLICT);
		ck_assert_str_eq(err_words(), "as it was told");
	}
	ck_assert_int_eq(count("SELECT count(*) FROM answers"), 0);
	given.makes = OK;
	given.body = "another";
	ck_assert_int_eq(ask(&given), OK); /* the key is still new */
	expect_answer(1);
	end();
}
END_TEST

START_TEST(a_key_is_new_again_after_a_day)
{
	static const struct {
		const char *age; /* in microseconds */
		bool kept;
	} cases[] = {
		{ "86400000000 - 60000000", true },
		{ "86400000000 + 1", false },
		{ "864000000000", false },
	};
	char text[128];

	begin();
	ck_assert_int_eq(ask(&plain), OK);
	for (size_t i = 0; i < COUNT(cases); i++) {
		int before = made;

		(void)snprintf(text, sizeof(text), "UPDATE answers SET created_at = %lld - (%s)",
		    (long long)clock_now_us(), cases[i].age);
		script(text);
		ck_assert_int_eq(ask(&plain), OK);
		ck_assert_int_eq(made, before + !cases[i].kept);
		expect_answer(made);
	}
	ck_assert_int_eq(count("SELECT count(*) FROM answers"), 1);
	end();
}
END_TEST

START_TEST(an_expired_key_stays_expired_for_another_request)
{
	struct given given = plain;

	begin();
	ck_assert_int_eq(ask(&plain), OK);
	script("UPDATE answers SET created_at = created_at - 86400000001");
	given.body = "another";
	given.makes = ERR_CONFLICT;
	ck_assert_int_eq(ask(&given), ERR_CONFLICT);
	given.makes = OK;
	ck_assert_int_eq(ask(&given), OK);
	ck_assert_int_eq(ask(&plain), ERR_KEY_REUSED);
	end();
}
END_TEST

START_TEST(expired_answers_are_purged_as_new_ones_come)
{
	struct given given = plain;
	char key[32];

	begin();
	script("INSERT INTO answers (key, digest, created_at, status, location, etag, body)"
	       " WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 300)"
	       " SELECT 'old-' || i, zeroblob(32), 1, 201, '', '', x'' FROM n");
	given.key = key;
	for (int i = 0; i < 400; i++) {
		(void)snprintf(key, sizeof(key), "new-%d", i);
		ck_assert_int_eq(ask(&given), OK);
	}
	ck_assert_int_eq(count("SELECT count(*) FROM answers WHERE key LIKE 'old-%'"), 0);
	ck_assert_int_eq(count("SELECT count(*) FROM answers"), 400);
	end();
}
END_TEST

START_TEST(bad_keys_are_bad_fields)
{
	static char longest[ANSWER_KEY_MAX + 1], too_long[ANSWER_KEY_MAX + 2];
	const struct {
		const char *key;
		bool good;
	} cases[] = {
		{ "!", true },
		{ "~", true },
		{ longest, true },
		{ "' OR 1 = 1 --", false },
		{ "'OR/**/1=1--", true },
		{ too_long, false },
		{ " ", false },
		{ "a b", false },
		{ "a ", false },
		{ "a\tb", false },
		{ "a\nb", false },
		{ "\x01", false },
		{ "\x7f", false },
		{ "\xc3\xa5", false },
		{ "\xff", false },
	};
	struct given given = plain;
	size_t fields;

	begin();
	memset(longest, 'k', sizeof(longest) - 1);
	memset(too_long, 'k', sizeof(too_long) - 1);
	for (size_t i = 0; i < COUNT(cases); i++) {
		given.key = cases[i].key;
		ck_assert_msg(ask(&given) == (cases[i].good ? OK : ERR_INPUT), "%s", cases[i].key);
		if (cases[i].good)
			continue;
		ck_assert_str_eq(err_fields(&fields)->pointer, "Idempotency-Key");
		ck_assert_uint_eq(fields, 1);
	}
	end();
}
END_TEST

static struct request shared_req;
static pthread_barrier_t start;

static void *
race(void *arg)
{
	struct asked *asked = arg;

	ck_assert_int_eq(answer_open(&shared_req, &asked->answer), OK);
	answer_digest(&asked->answer, "body", 4);
	(void)pthread_barrier_wait(&start);
	if (answer_commit(&asked->answer, commit, make, asked) != OK)
		asked->runs = -1;
	return NULL;
}

START_TEST(those_who_race_with_one_key_get_one_answer)
{
	char *const meta[] = { (char[]){ "REQUEST_METHOD=POST" }, (char[]){ "REQUEST_URI=/events" },
		(char[]){ "HTTP_IDEMPOTENCY_KEY=k-1" }, NULL };
	const struct request_source source = { meta, no_body, NULL };
	static struct asked asked[RACERS];
	pthread_t threads[RACERS];

	begin();
	ck_assert_int_eq(request_begin(&shared_req, &source), OK);
	shared_req.who = WHO_ANYONE;
	ck_assert_int_eq(pthread_barrier_init(&start, NULL, RACERS), 0);
	for (int i = 0; i < RACERS; i++) {
		asked[i].given = &plain;
		ck_assert_int_eq(pthread_create(&threads[i], NULL, race, &asked[i]), 0);
	}
	for (int i = 0; i < RACERS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	for (int i = 0; i < RACERS; i++) {
		const struct answer *a = &asked[i].answer;

		ck_assert_int_ge(asked[i].runs, 0);
		ck_assert_int_eq(a->status, 201);
		ck_assert_str_eq(a->location, "/events/1");
		ck_assert_uint_eq(a->body.n, sizeof(BODY) - 1);
		ck_assert_mem_eq(a->body.bytes, BODY, a->body.n);
		answer_close(&asked[i].answer);
	}
	ck_assert_int_eq(made, 1);
	end();
}
END_TEST

START_TEST(a_body_grows_to_its_limit_and_no_further)
{
	static char bytes[ANSWER_BODY_MAX];
	struct answer a = { .key = "" };

	memset(bytes, 'x', sizeof(bytes));
	for (int again = 0; again < 2; again++) {
		answer_begin(&a, 200);
		ck_assert_uint_eq(a.body.n, 0);
		for (size_t n = 0; n < sizeof(bytes); n += 1024)
			ck_assert_int_eq(answer_write(&a, bytes + n, 1024), OK);
		ck_assert_int_eq(answer_write(&a, "", 0), OK);
		ck_assert_int_eq(answer_write(&a, "x", 1), ERR_INTERNAL);
		ck_assert_uint_eq(a.body.n, sizeof(bytes));
		ck_assert_mem_eq(a.body.bytes, bytes, a.body.n);
	}
	answer_close(&a);
	answer_close(&a); /* does nothing */
}
END_TEST

START_TEST(a_stored_answer_that_cannot_be_ours_is_an_error)
{
	begin();
	ck_assert_int_eq(ask(&plain), OK);
	script("UPDATE answers SET location = printf('%200c', 'x')");
	ck_assert_int_eq(ask(&plain), ERR_INTERNAL);
	script("UPDATE answers SET digest = zeroblob(31)");
	ck_assert_int_eq(ask(&plain), ERR_KEY_REUSED);
	end();
}
END_TEST

/* --- Bodies that are JSON. */

static ssize_t
give_rest(void *ctx, char *buffer, size_t n)
{
	const char **left = ctx;
	size_t given = strnlen(*left, n);

	memcpy(buffer, *left, given);
	*left += given;
	return (ssize_t)given;
}

START_TEST(a_json_body_is_read_to_its_limit_and_is_in_the_digest)
{
	static const struct {
		const char *type, *body;
		size_t max;
		enum err err;
	} bodies[] = {
		{ "application/json", "{\"a\":1}", 7, OK },
		{ "application/json; charset=utf-8", "{\"a\":1}", 8, OK },
		{ "application/json", "{\"a\":1}", 6, ERR_TOO_LARGE },
		{ "application/json", "{\"a\":1", 7, ERR_INPUT },
		{ "text/plain", "{\"a\":1}", 7, ERR_MEDIA_TYPE },
		{ "", "{\"a\":1}", 7, ERR_MEDIA_TYPE },
	};
	static struct request req;
	char type[64], length[64];

	for (size_t i = 0; i < COUNT(bodies); i++) {
		char *const meta[] = { "REQUEST_METHOD=POST", "REQUEST_URI=/x", type, length,
			"HTTP_IDEMPOTENCY_KEY=k", NULL };
		const char *left = bodies[i].body;
		const struct request_source source = { meta, give_rest, &left };
		unsigned char with[DIGEST_BYTES], without[DIGEST_BYTES];
		struct jsonr body;
		struct answer a;
		int64_t value = 0;

		(void)snprintf(type, sizeof(type), "CONTENT_TYPE=%s", bodies[i].type);
		(void)snprintf(length, sizeof(length), "CONTENT_LENGTH=%zu", strlen(left));
		err_clear();
		ck_assert_int_eq(request_begin(&req, &source), OK);
		req.who = WHO_ANYONE;
		ck_assert_int_eq(answer_open(&req, &a), OK);
		digest_end(&(struct digest[]){ a.digesting }[0], without);
		ck_assert_int_eq(answer_json(&req, &a, bodies[i].max, &body), bodies[i].err);
		if (bodies[i].err == OK) {
			jsonr_int(&body, "a", 0, 9, &value);
			ck_assert_int_eq(value, 1);
			digest_end(&a.digesting, with);
			ck_assert_int_ne(memcmp(with, without, DIGEST_BYTES), 0);
			jsonr_close(&body);
		}
		answer_close(&a);
	}
}
END_TEST

CHECK_MAIN(answer,
    { a_json_body_is_read_to_its_limit_and_is_in_the_digest, without_a_key_each_request_is_done,
	the_same_request_gets_the_same_answer, an_answer_without_a_body_is_kept_as_such,
	another_request_with_the_key_is_refused, the_same_key_of_another_name_is_another_key,
	the_operators_key_is_kept_as_it_is, only_the_key_of_a_post_counts,
	no_body_passes_for_a_longer_path, what_failed_is_not_kept, a_key_is_new_again_after_a_day,
	an_expired_key_stays_expired_for_another_request,
	expired_answers_are_purged_as_new_ones_come, bad_keys_are_bad_fields,
	those_who_race_with_one_key_get_one_answer, a_body_grows_to_its_limit_and_no_further,
	a_stored_answer_that_cannot_be_ours_is_an_error })
