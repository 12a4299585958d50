#include "http_server.h"
#include "metered.h"

#include "lib/clock.h"
#include "lib/upstream.h"

#define TRACEPARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#define PATIENCE_MS 20000 /* for what ends by itself */
#define IMPATIENCE_MS 250 /* for what does not */
#define LONG_PAUSE_US (1000 * CLOCK_SECOND_US)

#define OK_HEAD(length) "HTTP/1.1 200 OK\r\nContent-Length: " length "\r\n\r\n"

static struct http_server server;
static struct upstream_config config;
static struct upstream *up;

/* A server, and an upstream that fails as often as it likes. */
static void
begin(void)
{
	ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr));
	http_server_open(&server, NULL);
	http_server_json(&server, 200, "{\"a\":1}");
	config = (struct upstream_config){
		.name = "alpha",
		.url = server.url,
		.max_in_flight = 100,
		.circuit_failures = 1000,
		.circuit_pause_us = LONG_PAUSE_US,
	};
	ck_assert_int_eq(upstream_open(&config, &up), OK);
}

static void
end(void)
{
	upstream_close(up);
	http_server_close(&server);
}

/* The same with another configuration. */
static void
reopen(void)
{
	upstream_close(up);
	ck_assert_int_eq(upstream_open(&config, &up), OK);
}

/* One call, not yet settled. */
static struct upstream_call
ask(const char *query, int64_t patience_ms)
{
	struct upstream_call call = { .upstream = up };

	ck_assert_int_eq(upstream_ask(&call, 1, query, TRACEPARENT,
			     clock_monotonic_us() + patience_ms * CLOCK_MS_US),
	    OK);
	return call;
}

/* One call whose outcome is the verdict, too. */
static struct upstream_call
ask_once(int64_t patience_ms)
{
	struct upstream_call call = ask("", patience_ms);

	upstream_settle(&call, call.outcome);
	return call;
}

/* One call whose verdict is that it failed. */
static void
ask_in_vain(void)
{
	struct upstream_call call = ask("", PATIENCE_MS);

	upstream_settle(&call, UPSTREAM_MALFORMED);
}

static const struct {
	const char *what;
	struct http_reply reply;
	enum upstream_outcome outcome;
	long status;
	const char *body; /* of those that answered */
} replies[] = {
	{ "plain", { OK_HEAD("7") "{\"a\":1}" }, UPSTREAM_ANSWERED, 200, "{\"a\":1}" },
	{ "no body", { OK_HEAD("0") }, UPSTREAM_ANSWERED, 200, "" },
	{ "204", { "HTTP/1.1 204 No Content\r\n\r\n" }, UPSTREAM_ANSWERED, 204, "" },
	{ "404", { "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}" }, UPSTREAM_ANSWERED,
	    404, "{}" },
	{ "500", { "HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno" }, UPSTREAM_ANSWERED, 500,
	    "no" },
	{ "HTTP/1.0", { "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", .then = HTTP_CLOSE },
	    UPSTREAM_ANSWERED, 200, "{}" },
	{ "an early hint first",
	    { "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" OK_HEAD("2") "{}" },
	    UPSTREAM_ANSWERED, 200, "{}" },
	{ "chunked",
	    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n3;x=y\r\nabc\r\n"
	      "0\r\nTrailer: x\r\n\r\n" },
	    UPSTREAM_ANSWERED, 200, "{}abc" },
	{ "until closed", { "HTTP/1.1 200 OK\r\n\r\n{}", .then = HTTP_CLOSE }, UPSTREAM_ANSWERED,
	    200, "{}" },
	{ "slow", { OK_HEAD("2") "{}", .piece = 3 }, UPSTREAM_ANSWERED, 200, "{}" },
	{ "a NUL in the body", { OK_HEAD("3") "a\0b", sizeof(OK_HEAD("3") "a\0b") - 1 },
	    UPSTREAM_ANSWERED, 200, "a" },
	{ "301", { "HTTP/1.1 301 Moved\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n" },
	    UPSTREAM_ANSWERED, 301, "" },
	{ "307", { "HTTP/1.1 307 Moved\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n" },
	    UPSTREAM_ANSWERED, 307, "" },
	{ "nothing at all", { "", .then = HTTP_CLOSE }, UPSTREAM_BROKEN, 0, NULL },
	{ "a reset", { "", .then = HTTP_RESET }, UPSTREAM_BROKEN, 0, NULL },
	{ "a reset in the body", { OK_HEAD("5") "{}", .then = HTTP_RESET }, UPSTREAM_BROKEN, 0,
	    NULL },
	{ "half a status line", { "HTTP/1.1 2", .then = HTTP_CLOSE }, UPSTREAM_BROKEN, 0, NULL },
	{ "half a body", { OK_HEAD("5") "{}", .then = HTTP_CLOSE }, UPSTREAM_BROKEN, 0, NULL },
	{ "half a chunk",
	    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", .then = HTTP_CLOSE },
	    UPSTREAM_BROKEN, 0, NULL },
	{ "no last chunk",
	    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
		.then = HTTP_CLOSE },
	    UPSTREAM_BROKEN, 0, NULL },
	{ "a chunk of no number",
	    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
		.then = HTTP_CLOSE },
	    UPSTREAM_BROKEN, 0, NULL },
	{ "HTTP/0.9", { "{\"a\":1}", .then = HTTP_CLOSE }, UPSTREAM_BROKEN, 0, NULL },
	{ "garbage", { "\xff\xfe\1\2\3\4\5\6\r\n\r\n", .then = HTTP_CLOSE }, UPSTREAM_BROKEN, 0,
	    NULL },
	{ "a status of no number",
	    { "HTTP/1.1 abc\r\nContent-Length: 0\r\n\r\n", .then = HTTP_CLOSE }, UPSTREAM_BROKEN, 0,
	    NULL },
	{ "another protocol", { "SSH-2.0-OpenSSH_9.2\r\n", .then = HTTP_CLOSE }, UPSTREAM_BROKEN, 0,
	    NULL },
	{ "hangs at once", { "", .then = HTTP_HANG }, UPSTREAM_TIMEOUT, 0, NULL },
	{ "hangs in the head", { "HTTP/1.1 200 OK\r\nContent-Le", .then = HTTP_HANG },
	    UPSTREAM_TIMEOUT, 0, NULL },
	{ "hangs in the body", { OK_HEAD("5") "{}", .then = HTTP_HANG }, UPSTREAM_TIMEOUT, 0,
	    NULL },
	{ "hangs after a chunk",
	    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
		.then = HTTP_HANG },
	    UPSTREAM_TIMEOUT, 0, NULL },
};

START_TEST(each_way_to_answer_has_its_outcome)
{
	struct upstream_call call;

	for (size_t i = 0; i < COUNT(replies); i++) {
		begin();
		http_server_reply(&server, &replies[i].reply);
		call =
		    ask_once(replies[i].outcome == UPSTREAM_TIMEOUT ? IMPATIENCE_MS : PATIENCE_MS);
		ck_assert_msg(call.outcome == replies[i].outcome, "%s: %s", replies[i].what,
		    upstream_outcome_name(call.outcome));
		ck_assert_int_eq(call.because, call.outcome);
		ck_assert_int_ge(call.us, 0);
		if (call.outcome == UPSTREAM_ANSWERED) {
			ck_assert_msg(call.status == replies[i].status, "%s: %ld", replies[i].what,
			    call.status);
			ck_assert_uint_ge(call.n, strlen(replies[i].body));
			ck_assert_msg(
			    memcmp(call.body, replies[i].body, strlen(replies[i].body)) == 0, "%s",
			    replies[i].what);
		}
		ck_assert_uint_eq(http_server_requests(&server), 1);
		end();
	}
}
END_TEST

START_TEST(every_outcome_has_its_word)
{
	static const char *const names[UPSTREAM_OUTCOMES] = { "answered", "unknown_member",
		"unreachable", "timeout", "broken", "wrong_status", "malformed", "too_large",
		"overloaded", "circuit_open" };

	for (int i = 0; i < UPSTREAM_OUTCOMES; i++)
		ck_assert_str_eq(upstream_outcome_name((enum upstream_outcome)i), names[i]);
}
END_TEST

/* HEAD and so many bytes, in chunks of 1,000 bytes if CHUNKED. */
static size_t
make_body(char *out, const char *head, size_t n, bool chunked)
{
	size_t used = strlen(head), part;

	memcpy(out, head, used);
	for (; n > 0; n -= part) {
		part = chunked && n > 1000 ? 1000 : n;
		if (chunked)
			used += (size_t)snprintf(out + used, 16, "%zx\r\n", part);
		memset(out + used, 'x', part);
		used += part;
		if (chunked)
			used += (size_t)snprintf(out + used, 16, "\r\n");
	}
	if (chunked)
		used += (size_t)snprintf(out + used, 16, "0\r\n\r\n");
	return used;
}

START_TEST(a_body_has_at_most_64_kib_however_it_is_sent)
{
	static const struct {
		const char *head;
		size_t n;
		bool chunked;
		enum http_then then;
		enum upstream_outcome outcome;
	} rows[] = {
		{ OK_HEAD("65536"), 65536, false, HTTP_KEEP, UPSTREAM_ANSWERED },
		{ OK_HEAD("65537"), 65537, false, HTTP_KEEP, UPSTREAM_TOO_LARGE },
		{ OK_HEAD("71680"), 71680, false, HTTP_KEEP, UPSTREAM_TOO_LARGE },
		{ OK_HEAD("99999999999"), 1000, false, HTTP_KEEP, UPSTREAM_TOO_LARGE },
		{ "HTTP/1.1 200 OK\r\n\r\n", 65536, false, HTTP_CLOSE, UPSTREAM_ANSWERED },
		{ "HTTP/1.1 200 OK\r\n\r\n", 65537, false, HTTP_CLOSE, UPSTREAM_TOO_LARGE },
		{ "HTTP/1.1 200 OK\r\n\r\n", 71680, false, HTTP_CLOSE, UPSTREAM_TOO_LARGE },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 65536, true, HTTP_KEEP,
		    UPSTREAM_ANSWERED },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 65537, true, HTTP_KEEP,
		    UPSTREAM_TOO_LARGE },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 71680, true, HTTP_KEEP,
		    UPSTREAM_TOO_LARGE },
	};
	static char bytes[80000];

	begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct http_reply reply = { .bytes = bytes, .then = rows[i].then };
		struct upstream_call call;

		reply.n = make_body(bytes, rows[i].head, rows[i].n, rows[i].chunked);
		http_server_reply(&server, &reply);
		call = ask_once(PATIENCE_MS);
		ck_assert_msg(call.outcome == rows[i].outcome, "row %zu: %s", i,
		    upstream_outcome_name(call.outcome));
		if (call.outcome == UPSTREAM_ANSWERED)
			ck_assert_uint_eq(call.n, rows[i].n);
	}
	http_server_json(&server, 200, "{}");
	ck_assert_uint_eq(ask_once(PATIENCE_MS).n, 2); /* and a short one again */
	end();
}
END_TEST

START_TEST(a_connection_is_kept_for_the_next_call)
{
	begin();
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(ask_once(PATIENCE_MS).outcome, UPSTREAM_ANSWERED);
	ck_assert_uint_eq(http_server_requests(&server), 10);
	ck_assert_uint_eq(http_server_accepts(&server), 1);
	end();
}
END_TEST

START_TEST(a_kept_connection_that_the_server_closed_is_replaced_without_a_failure)
{
	begin();
	for (unsigned i = 1; i <= 5; i++) {
		/* It says nothing of closing, and closes. */
		http_server_reply(&server,
		    &(struct http_reply){ .bytes = OK_HEAD("2") "{}", .then = HTTP_CLOSE });
		ck_assert_int_eq(ask_once(PATIENCE_MS).outcome, UPSTREAM_ANSWERED);
		ck_assert_uint_eq(http_server_accepts(&server), i);
	}
	end();
}
END_TEST

START_TEST(a_connection_of_a_call_that_timed_out_is_not_used_again)
{
	begin();
	http_server_reply(
	    &server, &(struct http_reply){ .bytes = OK_HEAD("5") "{}", .then = HTTP_HANG });
	ck_assert_int_eq(ask_once(IMPATIENCE_MS).outcome, UPSTREAM_TIMEOUT);
	http_server_json(&server, 200, "{\"b\":2}");
	ck_assert_uint_eq(ask_once(PATIENCE_MS).n, 7);
	ck_assert_uint_eq(http_server_accepts(&server), 2);
	end();
}
END_TEST

START_TEST(a_deadline_in_the_past_is_a_timeout_at_once)
{
	begin();
	http_server_reply(&server, &(struct http_reply){ .bytes = "", .then = HTTP_HANG });
	ck_assert_int_eq(ask_once(-1000).outcome, UPSTREAM_TIMEOUT);
	ck_assert_uint_eq(upstream_state(up).in_flight, 0);
	end();
}
END_TEST

START_TEST(where_nobody_listens_is_unreachable)
{
	begin();
	http_server_close(&server);
	ck_assert_int_eq(ask_once(PATIENCE_MS).outcome, UPSTREAM_UNREACHABLE);
	/* A label of more than 63 bytes is no name, which needs no question to anybody. */
	config.url = "http://a23456789b23456789c23456789d23456789e23456789f23456789g23456789.test/";
	reopen();
	ck_assert_int_eq(ask_once(PATIENCE_MS).outcome, UPSTREAM_UNREACHABLE);
	upstream_close(up);
}
END_TEST

START_TEST(a_server_that_speaks_no_tls_does_not_answer_https)
{
	char url[64];

	begin();
	(void)snprintf(url, sizeof(url), "https://127.0.0.1:%d/", server.port);
	config.url = url;
	reopen();
	http_server_reply(&server, &(struct http_reply){ .bytes = "", .then = HTTP_CLOSE });
	ck_assert_int_ne(ask_once(IMPATIENCE_MS).outcome, UPSTREAM_ANSWERED);
	end();
}
END_TEST

START_TEST(only_http_and_https_are_spoken)
{
	static const char *const schemes[] = { "ftp", "gopher", "telnet", "smtp", "dict", "ws" };
	char url[64];

	begin();
	for (size_t i = 0; i < COUNT(schemes); i++) {
		(void)snprintf(url, sizeof(url), "%s://127.0.0.1:%d/", schemes[i], server.port);
		config.url = url;
		upstream_close(up);
		if (upstream_open(&config, &up) == OK)
			ck_assert_int_eq(ask_once(PATIENCE_MS).outcome, UPSTREAM_BROKEN);
	}
	ck_assert_uint_eq(http_server_accepts(&server), 0);
	end();
}
END_TEST

START_TEST(a_unix_socket_is_asked_like_any_other_but_not_kept_open)
{
	char folder[] = "/tmp/check_upstream.XXXXXX", path[64];

	begin();
	http_server_close(&server);
	ck_assert_ptr_nonnull(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/http.sock", folder);
	http_server_open(&server, path);
	http_server_json(&server, 200, "{}");
	config.url = "http://localhost/healthz/x";
	config.socket = path;
	reopen();
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(ask_once(PATIENCE_MS).outcome, UPSTREAM_ANSWERED);
	ck_assert(http_server_saw(&server, "GET /healthz/x HTTP/1.1\r\nHost: localhost\r\n"));
	ck_assert_uint_eq(http_server_accepts(&server), 2);
	end();
	(void)unlink(path);
	(void)rmdir(folder);
}
END_TEST

START_TEST(the_query_is_joined_to_the_url)
{
	static const struct {
		const char *behind, *query, *line;
	} rows[] = {
		{ "", "member_id=7", "GET /?member_id=7 HTTP/1.1\r\n" },
		{ "/", "member_id=7", "GET /?member_id=7 HTTP/1.1\r\n" },
		{ "/x/y", "member_id=a%20b%26c", "GET /x/y?member_id=a%20b%26c HTTP/1.1\r\n" },
		{ "/x?key=1", "member_id=7", "GET /x?key=1&member_id=7 HTTP/1.1\r\n" },
		{ "?key=1", "member_id=7", "GET /?key=1&member_id=7 HTTP/1.1\r\n" },
		{ "/x", "", "GET /x HTTP/1.1\r\n" },
		{ "/x?key=1", "", "GET /x?key=1 HTTP/1.1\r\n" },
	};
	char url[128];

	begin();
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct upstream_call call;

		(void)snprintf(
		    url, sizeof(url), "http://127.0.0.1:%d%s", server.port, rows[i].behind);
		config.url = url;
		reopen();
		call = ask(rows[i].query, PATIENCE_MS);
		upstream_settle(&call, call.outcome);
		ck_assert_int_eq(call.outcome, UPSTREAM_ANSWERED);
		ck_assert_msg(
		    http_server_saw(&server, rows[i].line), "%s: %s", url, server.request);
	}
	end();
}
END_TEST

START_TEST(a_query_too_long_for_a_url_fails_that_call_only)
{
	static char query[40000];
	struct upstream_call call;

	begin();
	memset(query, 'q', sizeof(query) - 1);
	call = ask(query, PATIENCE_MS);
	ck_assert_int_eq(call.outcome, UPSTREAM_BROKEN);
	upstream_settle(&call, call.outcome);
	ck_assert_uint_eq(http_server_accepts(&server), 0);
	ck_assert_int_eq(ask_once(PATIENCE_MS).outcome, UPSTREAM_ANSWERED);
	end();
}
END_TEST

START_TEST(trace_and_what_is_accepted_go_with_each_call)
{
	begin();
	(void)ask_once(PATIENCE_MS);
	ck_assert(http_server_saw(&server, "\r\ntraceparent: " TRACEPARENT "\r\n"));
	ck_assert(http_server_saw(&server, "\r\nAccept: application/json\r\n"));
	ck_assert(http_server_saw(&server, "\r\nUser-Agent: caredesk\r\n"));
	end();
}
END_TEST

START_TEST(another_type_is_accepted_where_that_is_said)
{
	begin();
	config.accept = "text/plain";
	reopen();
	ck_assert_int_eq(ask_once(PATIENCE_MS).outcome, UPSTREAM_ANSWERED);
	ck_assert(http_server_saw(&server, "\r\nAccept: text/plain\r\n"));
	ck_assert(!http_server_saw(&server, "application/json"));
	end();
}
END_TEST

/* Calls to alpha so far that ended with OUTCOME. */
static int64_t
calls_counted(enum upstream_outcome outcome)
{
	char sample[128];

	(void)snprintf(sample, sizeof(sample),
	    "caredesk_upstream_calls_total{program=\"\",upstream=\"alpha\",outcome=\"%s\"}",
	    upstream_outcome_name(outcome));
	return metered_now(sample);
}

START_TEST(every_call_is_counted_by_its_verdict_and_timed_if_it_was_made)
{
	static const char timed[] =
	    "caredesk_upstream_call_duration_seconds_count{program=\"\",upstream=\"alpha\"}";
	static const enum upstream_outcome verdicts[] = { UPSTREAM_ANSWERED, UPSTREAM_UNKNOWN,
		UPSTREAM_STATUS, UPSTREAM_MALFORMED, UPSTREAM_TIMEOUT };
	struct upstream_call call;

	begin();
	config.circuit_failures = 4;
	reopen();
	for (size_t i = 0; i < COUNT(verdicts); i++) {
		int64_t before = calls_counted(verdicts[i]), made = metered_now(timed);

		call = ask("", PATIENCE_MS);
		ck_assert_int_eq(calls_counted(verdicts[i]), before); /* not yet settled */
		upstream_settle(&call, verdicts[i]);
		ck_assert_int_eq(calls_counted(verdicts[i]), before + 1);
		ck_assert_int_eq(metered_now(timed), made + 1);
	}
	for (int i = 0; i < 3; i++) {
		int64_t before = calls_counted(UPSTREAM_CIRCUIT_OPEN), made = metered_now(timed);
		bool is_open = upstream_state(up).circuit == CIRCUIT_OPEN;

		ask_in_vain(); /* the verdict on a call that was not made does not count */
		ck_assert_int_eq(calls_counted(UPSTREAM_CIRCUIT_OPEN), before + is_open);
		ck_assert_int_eq(metered_now(timed), made + !is_open);
	}
	ck_assert_int_eq(upstream_state(up).circuit, CIRCUIT_OPEN);
	end();
}
END_TEST

START_TEST(no_proxy_of_the_environment_is_used)
{
	(void)setenv("http_proxy", "http://127.0.0.1:1/", 1);
	(void)setenv("ALL_PROXY", "http://127.0.0.1:1/", 1);
	begin();
	ck_assert_int_eq(ask_once(PATIENCE_MS).outcome, UPSTREAM_ANSWERED);
	end();
}
END_TEST

#define SEVERAL 8

START_TEST(several_upstreams_are_asked_at_the_same_time)
{
	static struct http_server servers[SEVERAL];
	struct upstream_config configs[SEVERAL];
	struct upstream_call calls[SEVERAL] = { 0 };
	pthread_barrier_t meet;

	begin();
	/* Each answers only when all are asked. */
	ck_assert_int_eq(pthread_barrier_init(&meet, NULL, SEVERAL), 0);
	for (size_t i = 0; i < SEVERAL; i++) {
		http_server_open(&servers[i], NULL);
		http_server_reply(
		    &servers[i], &(struct http_reply){ .bytes = OK_HEAD("2") "{}", .meet = &meet });
		configs[i] = config;
		configs[i].url = servers[i].url;
		ck_assert_int_eq(upstream_open(&configs[i], &calls[i].upstream), OK);
	}
	for (int round = 0; round < 3; round++) {
		ck_assert_int_eq(upstream_ask(calls, SEVERAL, "", TRACEPARENT,
				     clock_monotonic_us() + PATIENCE_MS * CLOCK_MS_US),
		    OK);
		for (size_t i = 0; i < SEVERAL; i++) {
			ck_assert_int_eq(calls[i].outcome, UPSTREAM_ANSWERED);
			upstream_settle(&calls[i], UPSTREAM_ANSWERED);
		}
	}
	for (size_t i = 0; i < SEVERAL; i++) {
		upstream_close(calls[i].upstream);
		http_server_close(&servers[i]);
	}
	end();
}
END_TEST

START_TEST(one_that_hangs_takes_nothing_from_those_that_answer)
{
	struct http_server hanging;
	struct upstream_config other = { 0 };
	struct upstream_call calls[2] = { 0 };

	begin();
	http_server_open(&hanging, NULL);
	http_server_reply(&hanging, &(struct http_reply){ .bytes = "", .then = HTTP_HANG });
	other = config;
	other.url = hanging.url;
	ck_assert_int_eq(upstream_open(&other, &calls[0].upstream), OK);
	calls[1].upstream = up;
	ck_assert_int_eq(upstream_ask(calls, 2, "", TRACEPARENT,
			     clock_monotonic_us() + 2 * IMPATIENCE_MS * CLOCK_MS_US),
	    OK);
	ck_assert_int_eq(calls[0].outcome, UPSTREAM_TIMEOUT);
	ck_assert_int_eq(calls[1].outcome, UPSTREAM_ANSWERED);
	ck_assert_int_le(calls[1].us, calls[0].us);
	upstream_settle(&calls[0], calls[0].outcome);
	upstream_settle(&calls[1], calls[1].outcome);
	upstream_close(calls[0].upstream);
	http_server_close(&hanging);
	end();
}
END_TEST

#define ASKERS 8
#define ASKED_BY_EACH 25

static void *
asker_main(void *arg)
{
	(void)arg;
	for (int i = 0; i < ASKED_BY_EACH; i++)
		(void)ask_once(PATIENCE_MS);
	return NULL;
}

START_TEST(threads_ask_each_on_a_connection_of_its_own)
{
	pthread_t threads[ASKERS];

	begin();
	for (int i = 0; i < ASKERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, asker_main, NULL), 0);
	for (int i = 0; i < ASKERS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	ck_assert_int_eq(upstream_state(up).answers, ASKERS * ASKED_BY_EACH);
	ck_assert_int_eq(upstream_state(up).failures, 0);
	ck_assert_uint_eq(upstream_state(up).in_flight, 0);
	ck_assert_uint_eq(http_server_accepts(&server), ASKERS);
	end();
}
END_TEST

START_TEST(a_circuit_opens_after_so_many_failures_and_then_sends_nothing)
{
	struct upstream_call call;

	begin();
	config.circuit_failures = 3;
	reopen();
	http_server_json(&server, 500, "{}");
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(upstream_state(up).circuit, CIRCUIT_CLOSED);
		call = ask("", PATIENCE_MS);
		ck_assert_int_eq(call.outcome, UPSTREAM_ANSWERED);
		upstream_settle(&call, i < 2 ? UPSTREAM_MALFORMED : UPSTREAM_STATUS);
	}
	ck_assert_int_ne(upstream_state(up).circuit, CIRCUIT_CLOSED);
	ck_assert_int_eq(upstream_state(up).last_failure, UPSTREAM_STATUS);
	for (int i = 0; i < 10; i++) {
		call = ask_once(PATIENCE_MS);
		ck_assert_int_eq(call.outcome, UPSTREAM_CIRCUIT_OPEN);
		ck_assert_int_eq(call.because, UPSTREAM_STATUS);
		ck_assert_uint_eq(call.n, 0);
	}
	ck_assert_uint_eq(http_server_requests(&server), 3);
	ck_assert_int_eq(upstream_state(up).failures, 3); /* what was not asked did not fail */
	end();
}
END_TEST

START_TEST(a_success_between_failures_begins_the_count_anew)
{
	begin();
	config.circuit_failures = 2;
	reopen();
	for (int i = 0; i < 5; i++) {
		struct upstream_call call = ask("", PATIENCE_MS);

		upstream_settle(&call, UPSTREAM_TIMEOUT);
		call = ask("", PATIENCE_MS);
		upstream_settle(&call, i % 2 == 0 ? UPSTREAM_ANSWERED : UPSTREAM_UNKNOWN);
	}
	ck_assert_int_eq(upstream_state(up).circuit, CIRCUIT_CLOSED);
	ck_assert_int_eq(upstream_state(up).failures, 5);
	ck_assert_int_eq(upstream_state(up).answers, 5);
	ask_in_vain();
	ask_in_vain();
	ck_assert_int_ne(upstream_state(up).circuit, CIRCUIT_CLOSED);
	end();
}
END_TEST

/* Asks until the open circuit lets a call through, which is not yet settled. */
static struct upstream_call
ask_until_probe(void)
{
	const struct timespec rest = { .tv_nsec = 1000000 };
	struct upstream_call call;

	while ((call = ask("", PATIENCE_MS)).outcome == UPSTREAM_CIRCUIT_OPEN) {
		upstream_settle(&call, call.outcome);
		(void)nanosleep(&rest, NULL);
	}
	ck_assert(call.probe);
	return call;
}

START_TEST(after_the_pause_one_call_is_let_through_and_its_success_closes_the_circuit)
{
	struct upstream_call probe, other;

	begin();
	config.circuit_failures = 1;
	config.circuit_pause_us = 20 * CLOCK_MS_US;
	reopen();
	ask_in_vain();
	ck_assert_int_ne(upstream_state(up).circuit, CIRCUIT_CLOSED);
	probe = ask_until_probe();
	ck_assert_int_eq(upstream_state(up).circuit, CIRCUIT_HALF_OPEN);
	ck_assert_uint_eq(http_server_requests(&server), 2);
	/* However long it takes, it is the only one. */
	for (int i = 0; i < 10; i++) {
		other = ask_once(PATIENCE_MS);
		ck_assert_int_eq(other.outcome, UPSTREAM_CIRCUIT_OPEN);
		ck_assert_int_eq(other.because, UPSTREAM_MALFORMED);
	}
	ck_assert_uint_eq(http_server_requests(&server), 2);
	upstream_settle(&probe, UPSTREAM_UNKNOWN);
	ck_assert_int_eq(upstream_state(up).circuit, CIRCUIT_CLOSED);
	ck_assert_int_eq(ask_once(PATIENCE_MS).outcome, UPSTREAM_ANSWERED);
	end();
}
END_TEST

/* Opens the circuit; then so many probes fail. */
static void
fail_probes(int count)
{
	ask_in_vain();
	ck_assert_int_ne(upstream_state(up).circuit, CIRCUIT_CLOSED);
	for (int i = 0; i < count; i++) {
		struct upstream_call probe = ask_until_probe();

		upstream_settle(&probe, UPSTREAM_TIMEOUT);
		ck_assert_int_ne(upstream_state(up).circuit, CIRCUIT_CLOSED);
	}
}

START_TEST(each_failed_probe_doubles_the_pause)
{
	const int64_t pause_us = 20 * CLOCK_MS_US;
	int64_t since_us;

	begin();
	config.circuit_failures = 1;
	config.circuit_pause_us = pause_us;
	reopen();
	since_us = clock_monotonic_us();
	ask_in_vain();
	for (int64_t factor = 1; factor <= 16; factor *= 2) {
		struct upstream_call probe = ask_until_probe();

		/* A slow machine makes it later, never earlier. */
		ck_assert_int_ge(clock_monotonic_us() - since_us, factor * pause_us);
		since_us = clock_monotonic_us();
		upstream_settle(&probe, UPSTREAM_TIMEOUT);
	}
	end();
}
END_TEST

START_TEST(the_pause_stops_growing)
{
	begin();
	config.circuit_failures = 1;
	config.circuit_pause_us = CLOCK_MS_US;
	reopen();
	fail_probes(30); /* without its bound the last of these pauses would be six days */
	end();
}
END_TEST

START_TEST(a_success_makes_the_pause_short_again)
{
	begin();
	config.circuit_failures = 1;
	config.circuit_pause_us = 10 * CLOCK_MS_US;
	reopen();
	fail_probes(5);
	/* With the pause that this has come to, what follows would take longer than a test may. */
	for (int i = 0; i < 220; i++) {
		struct upstream_call probe = ask_until_probe();

		upstream_settle(&probe, UPSTREAM_ANSWERED);
		ck_assert_int_eq(upstream_state(up).circuit, CIRCUIT_CLOSED);
		fail_probes(0);
	}
	end();
}
END_TEST

START_TEST(more_calls_in_flight_than_allowed_are_not_sent)
{
	struct upstream_call calls[3];

	begin();
	config.max_in_flight = 2;
	config.circuit_failures = 1;
	reopen();
	calls[0] = ask("", PATIENCE_MS);
	calls[1] = ask("", PATIENCE_MS);
	ck_assert_uint_eq(upstream_state(up).in_flight, 2);
	calls[2] = ask("", PATIENCE_MS);
	ck_assert_int_eq(calls[2].outcome, UPSTREAM_OVERLOADED);
	ck_assert_int_eq(calls[2].because, UPSTREAM_OVERLOADED);
	ck_assert_uint_eq(http_server_requests(&server), 2);
	upstream_settle(&calls[2], UPSTREAM_TIMEOUT); /* was not asked: no verdict on it counts */
	ck_assert_int_eq(calls[2].outcome, UPSTREAM_OVERLOADED);
	ck_assert_uint_eq(upstream_state(up).in_flight, 2);
	ck_assert_int_eq(upstream_state(up).circuit, CIRCUIT_CLOSED);
	upstream_settle(&calls[0], UPSTREAM_ANSWERED);
	ck_assert_int_eq(ask_once(PATIENCE_MS).outcome, UPSTREAM_ANSWERED);
	upstream_settle(&calls[1], UPSTREAM_ANSWERED);
	ck_assert_uint_eq(upstream_state(up).in_flight, 0);
	end();
}
END_TEST

START_TEST(a_name_may_lead_to_a_private_address_only_where_that_is_said)
{
	char url[128];

	begin();
	/* libcurl knows by itself where names below localhost lead (RFC 6761 section 6.3). */
	(void)snprintf(url, sizeof(url), "http://insurer.localhost:%d/", server.port);
	config.url = url;
	reopen();
	ck_assert_int_eq(ask_once(PATIENCE_MS).outcome, UPSTREAM_UNREACHABLE);
	ck_assert_uint_eq(http_server_accepts(&server), 0);
	config.private_network = true;
	reopen();
	ck_assert_int_eq(ask_once(PATIENCE_MS).outcome, UPSTREAM_ANSWERED);
	ck_assert_uint_eq(http_server_accepts(&server), 1);
	end();
}
END_TEST

START_TEST(a_private_address_that_the_url_itself_names_is_meant)
{
	static const char *const hosts[] = { "127.0.0.1", "localhost", "127.1", "0x7f000001" };
	char url[128];

	begin();
	for (size_t i = 0; i < COUNT(hosts); i++) {
		(void)snprintf(url, sizeof(url), "http://%s:%d/", hosts[i], server.port);
		config.url = url;
		reopen();
		ck_assert_int_eq(ask_once(PATIENCE_MS).outcome, UPSTREAM_ANSWERED);
	}
	end();
}
END_TEST

START_TEST(a_url_that_is_not_usable_is_refused_with_words)
{
	static const char *const urls[] = { "", "http://", "http://[::1/", "http://h:99999/",
		"http://h:x/", "http://a b/", "file:///etc/passwd", "nonsense://h/" };

	config = (struct upstream_config){ .name = "alpha", .max_in_flight = 1 };
	for (size_t i = 0; i < COUNT(urls); i++) {
		config.url = urls[i];
		ck_assert_msg(upstream_open(&config, &up) == ERR_INPUT, "%s", urls[i]);
		ck_assert_ptr_null(up);
		ck_assert_ptr_nonnull(strstr(err_words(), "upstream alpha: the URL is not usable"));
	}
}
END_TEST

START_TEST(authorities_that_cannot_be_read_are_refused_with_words)
{
	static const char *const files[] = { "/nowhere/ca.pem", "/dev/null", "/", "/bin/true" };

	config =
	    (struct upstream_config){ .name = "alpha", .url = "https://h/", .max_in_flight = 1 };
	for (size_t i = 0; i < COUNT(files); i++) {
		config.ca_file = files[i];
		ck_assert_msg(upstream_open(&config, &up) == ERR_INPUT, "%s", files[i]);
		ck_assert_ptr_null(up);
		ck_assert_ptr_nonnull(strstr(err_words(), "upstream alpha: ca_file"));
		ck_assert_ptr_nonnull(strstr(err_words(), files[i]));
	}
}
END_TEST

CHECK_MAIN(upstream,
    { each_way_to_answer_has_its_outcome, every_outcome_has_its_word,
	a_body_has_at_most_64_kib_however_it_is_sent, a_connection_is_kept_for_the_next_call,
	a_kept_connection_that_the_server_closed_is_replaced_without_a_failure,
	a_connection_of_a_call_that_timed_out_is_not_used_again,
	a_deadline_in_the_past_is_a_timeout_at_once, where_nobody_listens_is_unreachable,
	a_server_that_speaks_no_tls_does_not_answer_https, only_http_and_https_are_spoken,
	a_unix_socket_is_asked_like_any_other_but_not_kept_open, the_query_is_joined_to_the_url,
	a_query_too_long_for_a_url_fails_that_call_only,
	trace_and_what_is_accepted_go_with_each_call, another_type_is_accepted_where_that_is_said,
	every_call_is_counted_by_its_verdict_and_timed_if_it_was_made,
	no_proxy_of_the_environment_is_used, several_upstreams_are_asked_at_the_same_time,
	one_that_hangs_takes_nothing_from_those_that_answer,
	threads_ask_each_on_a_connection_of_its_own,
	a_circuit_opens_after_so_many_failures_and_then_sends_nothing,
	a_success_between_failures_begins_the_count_anew,
	after_the_pause_one_call_is_let_through_and_its_success_closes_the_circuit,
	each_failed_probe_doubles_the_pause, the_pause_stops_growing,
	a_success_makes_the_pause_short_again, more_calls_in_flight_than_allowed_are_not_sent,
	a_name_may_lead_to_a_private_address_only_where_that_is_said,
	a_private_address_that_the_url_itself_names_is_meant,
	a_url_that_is_not_usable_is_refused_with_words,
	authorities_that_cannot_be_read_are_refused_with_words })
