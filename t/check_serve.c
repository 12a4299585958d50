#include "test.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/un.h>

#include "lib/request.h"
#include "lib/serve.h"

/* FastCGI 1.0, sections 3 and 8. */
enum {
	BEGIN_REQUEST = 1,
	END_REQUEST = 3,
	PARAMS = 4,
	STDIN = 5,
	STDOUT = 6,
	GET_VALUES = 9,
	GET_VALUES_RESULT = 10
};

#define HEADER_BYTES 8
#define RESPONDER 1
#define KEEP 1
#define BIG 300000
#define WIRE_MAX (2 * 1024 * 1024)
#define SOCKET_ROOM 65536 /* a socket holds so much with nobody reading */
#define FORGERY_BYTES 128

/* The program under test. */

static atomic_uint runs, forged;
static int arrived[2], gate[2]; /* pipes: a slow request has come; it may go on */

static enum err
get_hello(struct request *req, struct response *res)
{
	(void)req;
	atomic_fetch_add(&runs, 1);
	response_begin(res, 200, "text/plain");
	return response_write(res, "hello", 5);
}

static enum err
post_echo(struct request *req, struct response *res)
{
	char *body;
	size_t n;
	enum err err = request_body(req, REQUEST_BODY_MAX, &body, &n);

	atomic_fetch_add(&runs, 1);
	if (err != OK)
		return err;
	response_begin(res, 200, "application/octet-stream");
	err = response_write(res, body, n);
	free(body);
	return err;
}

static enum err
get_big(struct request *req, struct response *res)
{
	char line[100];
	enum err err = OK;

	(void)req;
	atomic_fetch_add(&runs, 1);
	memset(line, 'b', sizeof(line));
	response_begin(res, 200, "text/plain");
	for (size_t sent = 0; sent < BIG && err == OK; sent += sizeof(line))
		err = response_write(res, line, sizeof(line));
	return err;
}

static enum err
get_broken(struct request *req, struct response *res)
{
	enum err err = get_big(req, res);

	return err == OK ? fail(ERR_INTERNAL, "the rest is missing") : err;
}

static enum err
get_forged(struct request *req, struct response *res)
{
	atomic_fetch_add(&forged, 1);
	return get_hello(req, res);
}

static enum err
get_slow(struct request *req, struct response *res)
{
	char go;

	if (write(arrived[1], "", 1) != 1 || read(gate[0], &go, 1) != 1)
		return fail(ERR_INTERNAL, "the gate is broken");
	return get_hello(req, res);
}

static const struct route routes[] = { { METHOD_GET, "/hello", ROLES_ANYONE, get_hello,
					   "text/plain" },
	{ METHOD_POST, "/echo", ROLES_ANYONE, post_echo, "application/octet-stream" },
	{ METHOD_POST, "/ignore", ROLES_ANYONE, get_hello, "text/plain" },
	{ METHOD_GET, "/big", ROLES_ANYONE, get_big, "text/plain" },
	{ METHOD_GET, "/broken", ROLES_ANYONE, get_broken, "text/plain" },
	{ METHOD_GET, "/forged", ROLES_ANYONE, get_forged, "text/plain" },
	{ METHOD_GET, "/slow", ROLES_ANYONE, get_slow, "text/plain" }, { 0 } };

static const struct program served = { "served", routes, NULL, NULL, NULL };

/* As if the silence that ends a stop never came. */

static bool endless;

int __real_epoll_wait(int fd, struct epoll_event *events, int count, int timeout_ms);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int count, int timeout_ms);

int
__wrap_epoll_wait(int fd, struct epoll_event *events, int count, int timeout_ms)
{
	return __real_epoll_wait(fd, events, count, endless ? -1 : timeout_ms);
}

/* What nginx would send. */

struct wire {
	size_t n;
	char bytes[WIRE_MAX];
};

static struct wire wire;

static void
put_bytes(struct wire *to, const void *bytes, size_t n)
{
	ck_assert_uint_le(to->n + n, sizeof(to->bytes));
	memcpy(to->bytes + to->n, bytes, n);
	to->n += n;
}

static void
put_record(struct wire *to, int type, const void *content, size_t n, size_t padding)
{
	const unsigned char header[HEADER_BYTES] = { 1, (unsigned char)type, 0, 1,
		(unsigned char)(n >> 8), (unsigned char)n, (unsigned char)padding, 0 };

	put_bytes(to, header, sizeof(header));
	put_bytes(to, content, n);
	put_bytes(to, &"PADDING"[7 - padding], padding);
}

static void
put_begin(struct wire *to, int flags)
{
	const unsigned char body[8] = { 0, RESPONDER, (unsigned char)flags };

	put_record(to, BEGIN_REQUEST, body, sizeof(body), 0);
}

/* Short lengths only, as all ours are. */
static void
put_param(struct wire *to, const char *name, const char *value)
{
	const unsigned char lengths[2] = { (unsigned char)strlen(name),
		(unsigned char)strlen(value) };

	ck_assert_uint_lt(strlen(name) | strlen(value), 128);
	put_bytes(to, lengths, sizeof(lengths));
	put_bytes(to, name, strlen(name));
	put_bytes(to, value, strlen(value));
}

/* NULL for a parameter that is not to be sent. */
static void
put_params(struct wire *to, const char *method, const char *uri, const char *length)
{
	static struct wire params;

	params.n = 0;
	put_param(&params, "HTTP_PROXY", "");
	if (method != NULL)
		put_param(&params, "REQUEST_METHOD", method);
	if (uri != NULL)
		put_param(&params, "REQUEST_URI", uri);
	if (length != NULL)
		put_param(&params, "CONTENT_LENGTH", length);
	put_record(to, PARAMS, params.bytes, params.n, 3);
}

/* A whole request, its body in records of PIECE bytes. */
static void
put_request(struct wire *to, const char *method, const char *uri, const char *length,
    const char *body, size_t n, size_t piece)
{
	put_begin(to, KEEP);
	put_params(to, method, uri, length);
	put_record(to, PARAMS, "", 0, 0);
	for (size_t sent = 0; sent < n; sent += piece)
		put_record(to, STDIN, body + sent, n - sent < piece ? n - sent : piece, sent % 8);
	put_record(to, STDIN, "", 0, 0);
}

static void
put_get(struct wire *to, const char *uri)
{
	put_request(to, "GET", uri, NULL, NULL, 0, 1);
}

/* What came back. */

struct reply {
	size_t n; /* of all STDOUT records */
	unsigned ends, values;
	bool torn; /* the last record is not whole */
	char out[WIRE_MAX];
};

static struct reply reply;

static void
take_record(struct reply *into, const unsigned char *header, const char *content, size_t n)
{
	ck_assert_int_eq(header[0], 1);
	switch (header[1]) {
	case STDOUT:
		ck_assert_int_eq(header[3], 1);
		ck_assert_uint_lt(into->n + n, sizeof(into->out));
		memcpy(into->out + into->n, content, n);
		into->n += n;
		break;
	case END_REQUEST:
		ck_assert_uint_eq(n, 8);
		ck_assert_int_eq(memcmp(content, "\0\0\0\0\0", 5), 0); /* 0, REQUEST_COMPLETE */
		into->ends++;
		break;
	case GET_VALUES_RESULT:
		into->values++;
		break;
	default:
		ck_abort_msg("a record of type %d", header[1]);
	}
}

/* Adds what is read from FD, until END_REQUEST records number ENDS or the connection is at its end;
 * true in the first case. */
static bool
take_reply(struct reply *into, int fd, unsigned ends)
{
	unsigned char header[HEADER_BYTES];
	static char content[65536 + 256];

	memset(into, 0, offsetof(struct reply, out));
	while (into->ends < ends) {
		size_t n, padding;
		ssize_t got = recv(fd, header, sizeof(header), MSG_WAITALL);

		if (got <= 0)
			break;
		n = (size_t)header[4] << 8 | header[5];
		padding = header[6];
		into->torn = got < (ssize_t)sizeof(header) ||
		    (n + padding > 0 &&
			recv(fd, content, n + padding, MSG_WAITALL) != (ssize_t)(n + padding));
		if (into->torn)
			break;
		take_record(into, header, content, n);
	}
	into->out[into->n] = '\0';
	return into->ends == ends;
}

static void
send_all(int fd, const void *bytes, size_t n)
{
	const char *at = bytes;

	while (n > 0) {
		ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);

		if (sent < 0)
			return; /* closed by the other side: what it said shows why */
		at += sent;
		n -= (size_t)sent;
	}
}

static void *
connection_main(void *arg)
{
	serve_connection(&served, *(int *)arg);
	return NULL;
}

struct peer {
	int fd, served_fd;
	pthread_t thread;
};

/* Connected, but nobody reads yet. */
static void
peer_connect(struct peer *peer)
{
	int pair[2];

	ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr));
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	peer->fd = pair[0];
	peer->served_fd = pair[1];
	atomic_store(&runs, 0);
	atomic_store(&forged, 0);
}

static void
peer_serve(struct peer *peer)
{
	ck_assert_int_eq(pthread_create(&peer->thread, NULL, connection_main, &peer->served_fd), 0);
}

static void
peer_open(struct peer *peer)
{
	peer_connect(peer);
	peer_serve(peer);
}

static void
peer_close(struct peer *peer)
{
	(void)close(peer->fd);
	ck_assert_int_eq(pthread_join(peer->thread, NULL), 0);
}

/* The N bytes and nothing after them; REPLY is all that comes back until the connection is closed.
 * What a socket can hold is there before it is read, so that every read of libfcgi is a full one.
 */
static void
exchange(const char *bytes, size_t n)
{
	size_t first = n < SOCKET_ROOM ? n : SOCKET_ROOM;
	struct peer peer;

	peer_connect(&peer);
	send_all(peer.fd, bytes, first);
	peer_serve(&peer);
	send_all(peer.fd, bytes + first, n - first);
	(void)shutdown(peer.fd, SHUT_WR);
	(void)take_reply(&reply, peer.fd, UINT_MAX);
	peer_close(&peer);
}

/* How often TEXT is in the reply. */
static unsigned
said(const char *text)
{
	unsigned n = 0;

	for (const char *at = reply.out; (at = strstr(at, text)) != NULL; at++)
		n++;
	return n;
}

START_TEST(a_request_is_answered)
{
	wire.n = 0;
	put_get(&wire, "/hello");
	exchange(wire.bytes, wire.n);
	ck_assert_uint_eq(reply.ends, 1);
	ck_assert_ptr_eq(strstr(reply.out, "Status: 200 OK\r\n"), reply.out);
	ck_assert_uint_eq(said("\r\nContent-Length: 5\r\n"), 1);
	ck_assert_uint_eq(said("\r\n\r\nhello"), 1);
	ck_assert(!reply.torn);
}
END_TEST

START_TEST(a_kept_connection_answers_one_request_after_the_other)
{
	struct peer peer;

	peer_open(&peer);
	for (unsigned i = 0; i < 50; i++) {
		wire.n = 0;
		if (i % 2 == 0)
			put_get(&wire, "/hello");
		else
			put_request(&wire, "POST", "/echo", "6", "hello!", 6, 4);
		send_all(peer.fd, wire.bytes, wire.n);
		ck_assert(take_reply(&reply, peer.fd, 1));
		ck_assert_uint_eq(said("Status: 200 OK\r\n"), 1);
		ck_assert_uint_eq(said("\r\n\r\nhello"), 1);
	}
	peer_close(&peer);
	ck_assert_uint_eq(atomic_load(&runs), 50);
}
END_TEST

START_TEST(a_connection_that_is_not_to_be_kept_is_closed)
{
	struct peer peer;

	wire.n = 0;
	put_get(&wire, "/hello");
	wire.bytes[HEADER_BYTES + 2] = 0; /* the flags of BEGIN_REQUEST */
	peer_open(&peer);
	send_all(peer.fd, wire.bytes, wire.n);
	ck_assert(take_reply(&reply, peer.fd, 1));
	ck_assert(!take_reply(&reply, peer.fd, 1));
	peer_close(&peer);
}
END_TEST

START_TEST(a_body_in_many_records_is_read_as_one)
{
	static const size_t pieces[] = { 1, 7, 1000, 8191, 8192, 65535 };
	static char body[100000];

	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (char)('a' + i % 23);
	for (size_t i = 0; i < COUNT(pieces); i++) {
		size_t n = pieces[i] == 1 ? 5000 : sizeof(body);

		wire.n = 0;
		put_request(
		    &wire, "POST", "/echo", pieces[i] == 1 ? "5000" : "100000", body, n, pieces[i]);
		exchange(wire.bytes, wire.n);
		ck_assert_uint_eq(reply.ends, 1);
		ck_assert_uint_gt(reply.n, n);
		ck_assert_int_eq(memcmp(reply.out + reply.n - n, body, n), 0);
	}
}
END_TEST

START_TEST(a_response_larger_than_every_buffer_comes_whole)
{
	wire.n = 0;
	put_get(&wire, "/big");
	exchange(wire.bytes, wire.n);
	ck_assert_uint_eq(reply.ends, 1);
	ck_assert(!reply.torn);
	ck_assert_uint_eq(strlen(strstr(reply.out, "\r\n\r\n") + 4), BIG);
}
END_TEST

/* A body made of requests, the first one at OFFSET: whatever part of it is left to be read, for
 * some offset below FORGERY_BYTES that part begins with a request. */
static void
forge_body(char *body, size_t n, size_t offset)
{
	static struct wire forgery, filler;

	filler.n = forgery.n = 0;
	put_param(&filler, "X", "23 bytes to make it 128");
	put_begin(&forgery, KEEP);
	put_params(&forgery, "GET", "/forged", NULL);
	put_record(&forgery, PARAMS, filler.bytes, filler.n, 0);
	put_record(&forgery, PARAMS, "", 0, 0);
	put_record(&forgery, STDIN, "", 0, 0);
	ck_assert_uint_eq(forgery.n, FORGERY_BYTES);
	memset(body, 0, offset);
	for (size_t at = offset; at < n; at += FORGERY_BYTES)
		memcpy(body + at, forgery.bytes, n - at < FORGERY_BYTES ? n - at : FORGERY_BYTES);
}

START_TEST(an_unread_body_that_looks_like_requests_never_becomes_one)
{
	static char body[30000];

	for (size_t offset = 0; offset < FORGERY_BYTES; offset++) {
		struct peer peer;

		forge_body(body, sizeof(body), offset);
		wire.n = 0;
		put_request(&wire, "POST", "/ignore", "30000", body, sizeof(body), 30000);
		peer_connect(&peer);
		send_all(peer.fd, wire.bytes, wire.n);
		peer_serve(&peer);
		ck_assert(take_reply(&reply, peer.fd, 1));
		wire.n = 0;
		put_get(&wire, "/hello");
		send_all(peer.fd, wire.bytes, wire.n);
		ck_assert(take_reply(&reply, peer.fd, 1));
		peer_close(&peer);
		ck_assert_uint_eq(atomic_load(&runs), 2);
		ck_assert_uint_eq(atomic_load(&forged), 0);
	}
}
END_TEST

START_TEST(bytes_beyond_the_announced_length_never_become_a_request)
{
	static const struct {
		const char *method, *uri, *length;
	} rows[] = {
		{ "POST", "/echo", "0" },
		{ "POST", "/echo", "3" },
		{ "POST", "/ignore", "3" },
		{ "POST", "/ignore", NULL },
		{ "GET", "/hello", NULL },
		{ "POST", "/nowhere", "3" },
		{ "POST", "/echo", "x" },
		{ "POST", "/echo", "9223372036854775807" },
	};
	static char body[30000];

	for (size_t i = 0; i < COUNT(rows); i++)
		for (size_t offset = 0; offset < FORGERY_BYTES; offset++) {
			forge_body(body, sizeof(body), offset);
			wire.n = 0;
			put_request(&wire, rows[i].method, rows[i].uri, rows[i].length, body,
			    sizeof(body), 30000);
			exchange(wire.bytes, wire.n);
			ck_assert_uint_le(reply.ends, 1);
			ck_assert_uint_le(said("Status: "), 1);
			ck_assert_uint_eq(atomic_load(&forged), 0);
		}
}
END_TEST

START_TEST(a_body_shorter_than_announced_is_400)
{
	static const char *const lengths[] = { "6", "100", "100000", "1048576" };

	for (size_t i = 0; i < COUNT(lengths); i++) {
		wire.n = 0;
		put_request(&wire, "POST", "/echo", lengths[i], "hello", 5, 5);
		exchange(wire.bytes, wire.n);
		ck_assert_uint_eq(said("Status: 400 Bad Request\r\n"), 1);
		ck_assert_uint_eq(said("shorter than its Content-Length"), 1);
		ck_assert_uint_eq(said("Status: 200"), 0);
		ck_assert_uint_eq(reply.ends, 1);
	}
}
END_TEST

START_TEST(a_body_too_large_to_be_drained_is_refused_and_the_connection_closed)
{
	static char body[REQUEST_BODY_MAX + 70000];
	struct peer peer;

	wire.n = 0;
	put_request(&wire, "POST", "/echo", "1118576", body, sizeof(body), 65535);
	peer_open(&peer);
	send_all(peer.fd, wire.bytes, wire.n);
	ck_assert(take_reply(&reply, peer.fd, 1));
	ck_assert_uint_eq(said("Status: 413 "), 1);
	ck_assert(!take_reply(&reply, peer.fd, 1));
	peer_close(&peer);
}
END_TEST

START_TEST(a_body_that_breaks_off_gets_no_answer)
{
	size_t head;

	for (size_t cut = 1; cut < 60; cut++) {
		wire.n = 0;
		put_begin(&wire, KEEP);
		put_params(&wire, "POST", "/echo", "40");
		put_record(&wire, PARAMS, "", 0, 0);
		head = wire.n;
		put_record(&wire, STDIN, "0123456789012345678901234567890123456789", 40, 4);
		put_record(&wire, STDIN, "", 0, 0);
		ck_assert_uint_ge(wire.n - head, 60);
		exchange(wire.bytes, wire.n - cut);
		ck_assert_uint_eq(reply.ends, 0);
		ck_assert_uint_eq(reply.n, 0);
	}
}
END_TEST

/* Each puts on the wire what is no request. */

static void
no_byte(void)
{
}

static void
half_a_header(void)
{
	put_bytes(&wire, "\1\1\0\1", 4);
}

static void
only_a_begin(void)
{
	put_begin(&wire, KEEP);
}

static void
params_cut_inside_a_record(void)
{
	put_begin(&wire, KEEP);
	put_params(&wire, "GET", "/hello", NULL);
	wire.n -= 12;
}

static void
params_without_an_end(void)
{
	put_begin(&wire, KEEP);
	put_params(&wire, "GET", "/hello", NULL);
}

static void
params_followed_by_a_body(void)
{
	params_without_an_end();
	put_record(&wire, STDIN, "", 0, 0);
}

static void
a_name_longer_than_its_record(void)
{
	put_begin(&wire, KEEP);
	put_params(&wire, "GET", "/hello", NULL);
	put_record(&wire, PARAMS, "\x7f\x10REQUEST_METHOD", 16, 0);
	put_record(&wire, PARAMS, "", 0, 0);
	put_record(&wire, STDIN, "", 0, 0);
}

static void
no_method(void)
{
	put_request(&wire, NULL, "/hello", NULL, NULL, 0, 1);
}

static void
no_uri(void)
{
	put_request(&wire, "GET", NULL, NULL, NULL, 0, 1);
}

static void
no_params_at_all(void)
{
	put_begin(&wire, KEEP);
	put_record(&wire, PARAMS, "", 0, 0);
	put_record(&wire, STDIN, "", 0, 0);
}

static void
another_version(void)
{
	put_get(&wire, "/hello");
	wire.bytes[0] = 2;
}

static void
another_version_in_the_params(void)
{
	put_get(&wire, "/hello");
	wire.bytes[2 * HEADER_BYTES] = 9;
}

static void
an_unknown_role(void)
{
	put_get(&wire, "/hello");
	wire.bytes[HEADER_BYTES + 1] = 7;
}

static void
an_unknown_type(void)
{
	put_begin(&wire, KEEP);
	put_record(&wire, 77, "what", 4, 0);
	put_params(&wire, "GET", "/hello", NULL);
	put_record(&wire, PARAMS, "", 0, 0);
	put_record(&wire, STDIN, "", 0, 0);
}

static void
a_body_first(void)
{
	put_record(&wire, STDIN, "hello", 5, 3);
	put_record(&wire, STDIN, "", 0, 0);
}

static void
http(void)
{
	put_bytes(&wire, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", 33);
}

static void
zeros(void)
{
	memset(wire.bytes, 0, 100000);
	wire.n = 100000;
}

static void
ones(void)
{
	memset(wire.bytes, 0xff, 100000);
	wire.n = 100000;
}

static const struct {
	const char *what;
	void (*put)(void);
} no_requests[] = {
	{ "no byte", no_byte },
	{ "half a header", half_a_header },
	{ "only a begin", only_a_begin },
	{ "params cut inside a record", params_cut_inside_a_record },
	{ "params without an end", params_without_an_end },
	{ "params followed by a body", params_followed_by_a_body },
	{ "a name longer than its record", a_name_longer_than_its_record },
	{ "no method", no_method },
	{ "no uri", no_uri },
	{ "no params at all", no_params_at_all },
	{ "another version", another_version },
	{ "another version in the params", another_version_in_the_params },
	{ "an unknown role", an_unknown_role },
	{ "an unknown type", an_unknown_type },
	{ "a body first", a_body_first },
	{ "http", http },
	{ "zeros", zeros },
	{ "ones", ones },
};

START_TEST(what_is_no_request_is_closed_without_an_answer)
{
	for (size_t i = 0; i < COUNT(no_requests); i++) {
		wire.n = 0;
		no_requests[i].put();
		exchange(wire.bytes, wire.n);
		ck_assert_msg(
		    reply.n == 0 && reply.ends == 0, "%s: %s", no_requests[i].what, reply.out);
		ck_assert_msg(atomic_load(&runs) == 0, "%s", no_requests[i].what);
	}
}
END_TEST

START_TEST(a_request_cut_anywhere_gets_no_answer)
{
	size_t whole;

	wire.n = 0;
	put_request(&wire, "POST", "/echo", "5", "hello", 5, 2);
	whole = wire.n;
	for (size_t n = 0; n < whole; n++) {
		exchange(wire.bytes, n);
		ck_assert_msg(reply.n == 0 && reply.ends == 0, "%zu bytes", n);
	}
	exchange(wire.bytes, whole);
	ck_assert_uint_eq(reply.ends, 1);
}
END_TEST

START_TEST(a_question_about_the_connection_is_answered_beside_the_request)
{
	wire.n = 0;
	put_record(&wire, GET_VALUES, "\x0e\0FCGI_MAX_CONNS", 16, 0);
	wire.bytes[3] = 0; /* of no request */
	put_get(&wire, "/hello");
	exchange(wire.bytes, wire.n);
	ck_assert_uint_eq(reply.values, 1);
	ck_assert_uint_eq(reply.ends, 1);
	ck_assert_uint_eq(said("\r\n\r\nhello"), 1);
}
END_TEST

START_TEST(a_peer_that_leaves_before_its_answer_ends_nothing_but_its_connection)
{
	(void)signal(SIGPIPE, SIG_DFL);
	for (int i = 0; i < 20; i++) {
		struct peer peer;

		wire.n = 0;
		put_get(&wire, i % 2 == 0 ? "/big" : "/hello");
		peer_open(&peer);
		send_all(peer.fd, wire.bytes, wire.n);
		peer_close(&peer);
	}
}
END_TEST

START_TEST(an_answer_that_fails_on_its_way_is_cut_without_an_end)
{
	wire.n = 0;
	put_get(&wire, "/broken");
	put_get(&wire, "/hello");
	exchange(wire.bytes, wire.n);
	ck_assert_uint_eq(reply.ends, 0);
	ck_assert_uint_eq(said("Status: "), 1);
	ck_assert_uint_lt(reply.n, BIG);
	ck_assert_uint_eq(atomic_load(&runs), 1);
}
END_TEST

/* The whole of serve(), in a process of its own. */

struct house {
	pid_t pid;
	int said_fd; /* its standard error */
	struct sockaddr_un address;
	socklen_t address_n;
};

static void
house_open(struct house *house)
{
	int said_pair[2], fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ck_assert_int_ge(fd, 0);
	house->address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	ck_assert_int_eq(
	    bind(fd, (const struct sockaddr *)&house->address, sizeof(sa_family_t)), 0);
	house->address_n = sizeof(house->address);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&house->address, &house->address_n), 0);
	ck_assert_int_eq(listen(fd, 512), 0);
	ck_assert_int_eq(pipe(said_pair) | pipe(arrived) | pipe(gate), 0);
	ck_assert_int_ge(house->pid = fork(), 0);
	if (house->pid == 0) {
		(void)dup2(fd, STDIN_FILENO);
		(void)dup2(said_pair[1], STDERR_FILENO);
		(void)close(fd);
		(void)close(said_pair[0]);
		(void)close(said_pair[1]);
		_exit(serve(&served) == OK ? EXIT_SUCCESS : EXIT_FAILURE);
	}
	(void)close(fd);
	(void)close(said_pair[1]);
	house->said_fd = said_pair[0];
}

/* Reads what it says until TEXT is in it, or until it ends. */
static bool
house_says(const struct house *house, const char *text)
{
	char line[8192];
	size_t used = 0;

	for (;;) {
		ssize_t n = read(house->said_fd, line + used, 1);

		if (n <= 0)
			return false;
		line[used + 1] = '\0';
		if (strstr(line, text) != NULL)
			return true;
		used = line[used] == '\n' || used == sizeof(line) - 2 ? 0 : used + 1;
	}
}

static int
house_connect(const struct house *house)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(
	    connect(fd, (const struct sockaddr *)&house->address, house->address_n), 0);
	return fd;
}

static int
house_join(struct house *house)
{
	int status;

	ck_assert_int_eq(waitpid(house->pid, &status, 0), house->pid);
	(void)close(house->said_fd);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void *
drain_main(void *arg)
{
	(void)house_says(arg, "never said");
	return NULL;
}

START_TEST(a_signal_lets_what_is_under_way_be_answered_and_then_ends_all)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGQUIT, SIGUSR1 };

	for (size_t i = 0; i < COUNT(signals); i++) {
		struct house house;
		struct pollfd slow[2] = { { .events = POLLIN }, { .events = POLLIN } };
		int idle, first;
		char one;

		house_open(&house);
		idle = house_connect(&house);
		wire.n = 0;
		put_get(&wire, "/slow");
		for (size_t j = 0; j < COUNT(slow); j++) {
			slow[j].fd = house_connect(&house);
			send_all(slow[j].fd, wire.bytes, wire.n);
			ck_assert_int_eq(read(arrived[0], &one, 1), 1);
		}
		ck_assert_int_eq(kill(house.pid, signals[i]), 0);
		ck_assert(house_says(&house, "\"stopping\""));
		ck_assert_int_eq(write(gate[1], "", 1), 1);
		ck_assert_int_eq(poll(slow, 2, -1), 1);
		first = slow[0].revents == 0;
		ck_assert(take_reply(&reply, slow[first].fd, 1));
		ck_assert_uint_eq(said("\r\n\r\nhello"), 1);
		/* Closed, though it was to be kept, and not because the process ended. */
		ck_assert(!take_reply(&reply, slow[first].fd, 1));
		(void)close(slow[first].fd);
		ck_assert_int_eq(write(gate[1], "", 1), 1);
		ck_assert(take_reply(&reply, slow[!first].fd, 1));
		(void)close(slow[!first].fd);
		ck_assert(house_says(&house, "\"stopped\""));
		ck_assert_int_eq(house_join(&house), EXIT_SUCCESS);
		(void)close(idle);
	}
}
END_TEST

START_TEST(a_request_on_a_kept_connection_is_answered_during_the_stop)
{
	struct house house;
	int slow, fd;
	char one;

	house_open(&house);
	slow = house_connect(&house);
	fd = house_connect(&house);
	wire.n = 0;
	put_get(&wire, "/hello");
	send_all(fd, wire.bytes, wire.n);
	ck_assert(take_reply(&reply, fd, 1));
	wire.n = 0;
	put_get(&wire, "/slow");
	send_all(slow, wire.bytes, wire.n);
	ck_assert_int_eq(read(arrived[0], &one, 1), 1);
	wire.n = 0;
	put_get(&wire, "/hello");
	/* Sent before the signal, so that it has come when the stop begins. */
	send_all(fd, wire.bytes, wire.n);
	ck_assert_int_eq(kill(house.pid, SIGTERM), 0);
	ck_assert(take_reply(&reply, fd, 1));
	(void)close(fd);
	ck_assert_int_eq(write(gate[1], "", 1), 1);
	ck_assert(take_reply(&reply, slow, 1));
	(void)close(slow);
	ck_assert_int_eq(house_join(&house), EXIT_SUCCESS);
}
END_TEST

START_TEST(a_stop_does_not_wait_where_no_connection_is_left)
{
	static const bool closed_before[] = { true, false };

	endless = true;
	for (size_t i = 0; i < COUNT(closed_before); i++) {
		struct house house;
		int fd;

		house_open(&house);
		fd = house_connect(&house);
		wire.n = 0;
		put_get(&wire, "/hello");
		send_all(fd, wire.bytes, wire.n);
		ck_assert(take_reply(&reply, fd, 1));
		if (closed_before[i])
			(void)close(fd);
		ck_assert_int_eq(kill(house.pid, SIGTERM), 0);
		ck_assert(house_says(&house, "\"stopping\""));
		if (!closed_before[i])
			(void)close(fd);
		ck_assert_int_eq(house_join(&house), EXIT_SUCCESS);
	}
	endless = false;
}
END_TEST

START_TEST(idle_connections_keep_nobody_waiting)
{
	struct house house;
	pthread_t drain;
	int idle[300], fd;

	house_open(&house);
	ck_assert_int_eq(pthread_create(&drain, NULL, drain_main, &house), 0);
	wire.n = 0;
	put_get(&wire, "/hello");
	for (size_t i = 0; i < COUNT(idle); i++) {
		idle[i] = house_connect(&house);
		if (i % 2 == 0)
			continue;
		send_all(idle[i], wire.bytes, wire.n);
		ck_assert(take_reply(&reply, idle[i], 1));
	}
	fd = house_connect(&house);
	send_all(fd, wire.bytes, wire.n);
	ck_assert(take_reply(&reply, fd, 1));
	ck_assert_uint_eq(said("\r\n\r\nhello"), 1);
	ck_assert_int_eq(kill(house.pid, SIGTERM), 0);
	ck_assert_int_eq(pthread_join(drain, NULL), 0);
	ck_assert_int_eq(house_join(&house), EXIT_SUCCESS);
	for (size_t i = 0; i < COUNT(idle); i++)
		(void)close(idle[i]);
	(void)close(fd);
}
END_TEST

#define CLIENTS 8
#define EACH 125

/* One of many: what it got right.  Its own buffers would be large, so it looks at END_REQUEST only.
 */
static void *
client_main(void *arg)
{
	int fd = house_connect(arg);
	uintptr_t right = 0;

	for (int i = 0; i < EACH; i++) {
		char answer[4096];
		size_t used = 0;

		send_all(fd, wire.bytes, wire.n);
		/* A whole answer is STDOUT, its end, and END_REQUEST, whose record is the last 16.
		 */
		while (used < 16 || answer[used - 15] != END_REQUEST) {
			ssize_t n = recv(fd, answer + used, sizeof(answer) - used, 0);

			if (n <= 0)
				goto done;
			used += (size_t)n;
		}
		right += memmem(answer, used, "\r\n\r\nhello", 9) != NULL;
	}
done:
	(void)close(fd);
	return (void *)right;
}

START_TEST(a_thousand_requests_of_eight_clients_are_all_answered)
{
	struct house house;
	pthread_t drain, clients[CLIENTS];
	uintptr_t right = 0;
	void *some;

	house_open(&house);
	ck_assert_int_eq(pthread_create(&drain, NULL, drain_main, &house), 0);
	wire.n = 0;
	put_get(&wire, "/hello");
	for (int i = 0; i < CLIENTS; i++)
		ck_assert_int_eq(pthread_create(&clients[i], NULL, client_main, &house), 0);
	for (int i = 0; i < CLIENTS; i++) {
		ck_assert_int_eq(pthread_join(clients[i], &some), 0);
		right += (uintptr_t)some;
	}
	ck_assert_uint_eq(right, CLIENTS * EACH);
	ck_assert_int_eq(kill(house.pid, SIGTERM), 0);
	ck_assert_int_eq(pthread_join(drain, NULL), 0);
	ck_assert_int_eq(house_join(&house), EXIT_SUCCESS);
}
END_TEST

#define NOBODY 65534

START_TEST(a_peer_that_is_another_user_is_closed_without_an_answer)
{
	struct house house;
	int status, fd;
	pid_t pid;

	if (geteuid() != 0)
		return; /* only root can become somebody else */
	house_open(&house);
	wire.n = 0;
	put_get(&wire, "/hello");
	ck_assert_int_ge(pid = fork(), 0);
	if (pid == 0) {
		if (setuid(NOBODY) != 0)
			_exit(EXIT_FAILURE);
		fd = house_connect(&house);
		send_all(fd, wire.bytes, wire.n);
		_exit(!take_reply(&reply, fd, 1) && reply.n == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert(house_says(&house, "\"peer_refused\""));
	ck_assert_int_eq(kill(house.pid, SIGTERM), 0);
	ck_assert_int_eq(house_join(&house), EXIT_SUCCESS);
}
END_TEST

/* Runs serve() as CGI on BODY and returns what it returned; REPLY has what it printed, with the
 * words of a failure behind it. */
static int
run_cgi(const char *method, const char *uri, const char *length, const char *body)
{
	int in[2], out[2], status;
	enum err err;
	ssize_t n;
	pid_t pid;

	ck_assert_int_eq(pipe(in) | pipe(out), 0);
	ck_assert_int_ge(pid = fork(), 0);
	if (pid == 0) {
		(void)dup2(in[0], STDIN_FILENO);
		(void)dup2(out[1], STDOUT_FILENO);
		(void)close(in[1]);
		(void)close(out[0]);
		if (freopen("/dev/null", "w", stderr) == NULL || clearenv() != 0 ||
		    (method != NULL && setenv("REQUEST_METHOD", method, 1) != 0) ||
		    setenv("REQUEST_URI", uri, 1) != 0 || setenv("CONTENT_LENGTH", length, 1) != 0)
			_exit(EXIT_FAILURE);
		if ((err = serve(&served)) != OK)
			(void)dprintf(STDOUT_FILENO, "FAILED: %s", err_words());
		_exit((int)err);
	}
	(void)close(in[0]);
	(void)close(out[1]);
	(void)signal(SIGPIPE, SIG_IGN); /* a request may be refused without its body being read */
	ck_assert(write(in[1], body, strlen(body)) == (ssize_t)strlen(body) || errno == EPIPE);
	(void)close(in[1]);
	for (reply.n = 0; (n = read(out[0], reply.out + reply.n, 4096)) > 0;)
		reply.n += (size_t)n;
	reply.out[reply.n] = '\0';
	(void)close(out[0]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

START_TEST(where_there_is_no_socket_one_request_is_answered_as_cgi)
{
	static const struct {
		const char *method, *uri, *length, *body, *status, *text;
	} rows[] = {
		{ "GET", "/hello", "", "", "Status: 200 OK\r\n", "\r\n\r\nhello" },
		{ "POST", "/echo", "5", "howdy", "Status: 200 OK\r\n", "\r\n\r\nhowdy" },
		{ "POST", "/echo", "3", "howdy", "Status: 200 OK\r\n", "\r\n\r\nhow" },
		{ "POST", "/echo", "6", "howdy", "Status: 400 ",
		    "shorter than its Content-Length" },
		{ "POST", "/echo", "6x", "howdy!", "Status: 400 ",
		    "Content-Length is not a number" },
		{ "GET", "/nowhere", "", "", "Status: 404 ", "\"status\":404" },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_assert_int_eq(
		    run_cgi(rows[i].method, rows[i].uri, rows[i].length, rows[i].body), OK);
		ck_assert_msg(strncmp(reply.out, rows[i].status, strlen(rows[i].status)) == 0, "%s",
		    reply.out);
		ck_assert_uint_eq(said(rows[i].text), 1);
	}
	ck_assert_int_eq(run_cgi("GET", "/big", "", ""), OK);
	ck_assert_uint_eq(strlen(strstr(reply.out, "\r\n\r\n") + 4), BIG);
}
END_TEST

START_TEST(cgi_without_a_method_is_told_how_to_start_it)
{
	ck_assert_int_eq(run_cgi(NULL, "/hello", "", ""), ERR_INTERNAL);
	ck_assert_ptr_eq(strstr(reply.out, "FAILED: "), reply.out);
	ck_assert_uint_eq(said("REQUEST_METHOD"), 1);
}
END_TEST

START_TEST(cgi_that_fails_on_its_way_says_so_at_its_end)
{
	ck_assert_int_eq(run_cgi("GET", "/broken", "", ""), ERR_INTERNAL);
	ck_assert_uint_eq(said("Status: "), 1);
	ck_assert_uint_eq(said("FAILED: the answer could not be written"), 1);
}
END_TEST

CHECK_MAIN(serve,
    { a_request_is_answered, a_kept_connection_answers_one_request_after_the_other,
	a_connection_that_is_not_to_be_kept_is_closed, a_body_in_many_records_is_read_as_one,
	a_response_larger_than_every_buffer_comes_whole,
	an_unread_body_that_looks_like_requests_never_becomes_one,
	bytes_beyond_the_announced_length_never_become_a_request,
	a_body_shorter_than_announced_is_400,
	a_body_too_large_to_be_drained_is_refused_and_the_connection_closed,
	a_body_that_breaks_off_gets_no_answer, what_is_no_request_is_closed_without_an_answer,
	a_request_cut_anywhere_gets_no_answer,
	a_question_about_the_connection_is_answered_beside_the_request,
	a_peer_that_leaves_before_its_answer_ends_nothing_but_its_connection,
	an_answer_that_fails_on_its_way_is_cut_without_an_end,
	a_signal_lets_what_is_under_way_be_answered_and_then_ends_all,
	a_request_on_a_kept_connection_is_answered_during_the_stop,
	a_stop_does_not_wait_where_no_connection_is_left, idle_connections_keep_nobody_waiting,
	a_thousand_requests_of_eight_clients_are_all_answered,
	a_peer_that_is_another_user_is_closed_without_an_answer,
	where_there_is_no_socket_one_request_is_answered_as_cgi,
	cgi_without_a_method_is_told_how_to_start_it,
	cgi_that_fails_on_its_way_says_so_at_its_end })
