/*
 * http_server.h: HTTP servers of the test's own, on free ports of the loopback (or on a Unix
 * socket), which answer as the test tells them, well or badly.
 *
 *	http_server_open(&server, NULL);
 *	http_server_json(&server, 200, "{}");
 *	... ask server.url, look at server.accepts ...
 *	http_server_close(&server);
 *
 * Every connection has a thread.  What is to be answered may change between two calls.
 */
#ifndef CAREDESK_HTTP_SERVER_H
#define CAREDESK_HTTP_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "test.h"

#define HTTP_CONNECTIONS_MAX 64
#define HTTP_REQUEST_MAX 8192

/* What follows the bytes of a reply. */
enum http_then {
	HTTP_KEEP, /* the next request on the same connection */
	HTTP_CLOSE,
	HTTP_RESET, /* close, by RST */
	HTTP_HANG /* nothing, until the client leaves */
};

struct http_reply {
	const char *bytes;
	size_t n; /* 0, from the test: up to the NUL */
	size_t piece; /* bytes sent at a time, with a rest between them; 0: all at once */
	enum http_then then;
	pthread_barrier_t *meet; /* each reply waits there for the others; or NULL */
};

struct http_server {
	int listen_fd, stop[2];
	int port;
	char url[64];
	pthread_t acceptor;

	pthread_mutex_t lock; /* of all below */
	struct http_reply reply; /* with bytes of its own */
	unsigned accepts, requests;
	char request[HTTP_REQUEST_MAX]; /* the last one's head */
	struct http_connection {
		struct http_server *server;
		pthread_t thread;
		int fd; /* -1: closed */
	} connections[HTTP_CONNECTIONS_MAX];
};

/* Reads one request's head; false if the client left before its end. */
static inline bool
http_take(int fd, char head[HTTP_REQUEST_MAX])
{
	size_t used = 0;

	do {
		ssize_t n = recv(fd, head + used, HTTP_REQUEST_MAX - 1 - used, 0);

		if (n <= 0)
			return false;
		used += (size_t)n;
		head[used] = '\0';
	} while (strstr(head, "\r\n\r\n") == NULL);
	return true;
}

static inline bool
http_put(int fd, const struct http_reply *reply)
{
	const struct timespec rest = { .tv_nsec = 2000000 };
	size_t n = reply->n, piece = reply->piece != 0 ? reply->piece : n;

	for (size_t sent = 0; sent < n;) {
		ssize_t some = send(
		    fd, reply->bytes + sent, n - sent < piece ? n - sent : piece, MSG_NOSIGNAL);

		if (some < 0)
			return false;
		sent += (size_t)some;
		if (reply->piece != 0)
			(void)nanosleep(&rest, NULL);
	}
	return true;
}

static inline void
http_leave(struct http_connection *connection)
{
	(void)pthread_mutex_lock(&connection->server->lock);
	(void)close(connection->fd);
	connection->fd = -1;
	(void)pthread_mutex_unlock(&connection->server->lock);
}

/* The reply that is due now, with bytes that are the caller's: the test may change its own. */
static inline struct http_reply
http_next_reply(struct http_server *server, const char head[HTTP_REQUEST_MAX])
{
	struct http_reply reply;
	char *bytes;

	(void)pthread_mutex_lock(&server->lock);
	reply = server->reply;
	ck_assert_ptr_nonnull(bytes = malloc(reply.n + 1));
	memcpy(bytes, reply.bytes, reply.n);
	reply.bytes = bytes;
	server->requests++;
	memcpy(server->request, head, HTTP_REQUEST_MAX);
	(void)pthread_mutex_unlock(&server->lock);
	return reply;
}

static inline void *
http_connection_main(void *arg)
{
	const struct linger reset = { .l_onoff = 1 };
	struct http_connection *connection = arg;
	struct http_server *server = connection->server;
	struct http_reply reply = { .then = HTTP_KEEP };
	char head[HTTP_REQUEST_MAX];
	bool sent = true;
	int fd;

	(void)pthread_mutex_lock(&server->lock);
	fd = connection->fd;
	(void)pthread_mutex_unlock(&server->lock);
	while (sent && reply.then == HTTP_KEEP && http_take(fd, head)) {
		reply = http_next_reply(server, head);
		if (reply.meet != NULL)
			(void)pthread_barrier_wait(reply.meet);
		sent = http_put(fd, &reply);
		free((char *)(uintptr_t)reply.bytes);
	}
	if (reply.then == HTTP_HANG)
		(void)recv(fd, head, 1, 0);
	if (reply.then == HTTP_RESET)
		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	http_leave(connection);
	return NULL;
}

static inline void *
http_acceptor_main(void *arg)
{
	struct http_server *server = arg;
	struct pollfd wait[2] = { { server->listen_fd, POLLIN, 0 },
		{ server->stop[0], POLLIN, 0 } };

	while (poll(wait, 2, -1) > 0 && wait[1].revents == 0) {
		struct http_connection *connection = &server->connections[server->accepts];

		(void)pthread_mutex_lock(&server->lock);
		ck_assert_uint_lt(server->accepts, HTTP_CONNECTIONS_MAX);
		connection->server = server;
		connection->fd = accept(server->listen_fd, NULL, NULL);
		ck_assert_int_ge(connection->fd, 0);
		ck_assert_int_eq(
		    pthread_create(&connection->thread, NULL, http_connection_main, connection), 0);
		server->accepts++;
		(void)pthread_mutex_unlock(&server->lock);
	}
	return NULL;
}

static inline void
http_server_open(struct http_server *server, const char *socket_path)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	socklen_t n = sizeof(in);
	int family = socket_path == NULL ? AF_INET : AF_UNIX;

	memset(server, 0, sizeof(*server));
	ck_assert_int_eq(pthread_mutex_init(&server->lock, NULL), 0);
	ck_assert_int_eq(pipe(server->stop), 0);
	ck_assert_int_ge(server->listen_fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), 0);
	if (socket_path != NULL) {
		(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", socket_path);
		ck_assert_int_eq(
		    bind(server->listen_fd, (const struct sockaddr *)&un, sizeof(un)), 0);
	} else {
		ck_assert_int_eq(
		    bind(server->listen_fd, (const struct sockaddr *)&in, sizeof(in)), 0);
		ck_assert_int_eq(getsockname(server->listen_fd, (struct sockaddr *)&in, &n), 0);
		server->port = ntohs(in.sin_port);
	}
	(void)snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%d/", server->port);
	ck_assert_int_eq(listen(server->listen_fd, HTTP_CONNECTIONS_MAX), 0);
	ck_assert_int_eq(pthread_create(&server->acceptor, NULL, http_acceptor_main, server), 0);
}

static inline void
http_server_reply(struct http_server *server, const struct http_reply *reply)
{
	size_t n = reply->n != 0 ? reply->n : strlen(reply->bytes);
	char *bytes = malloc(n + 1);

	ck_assert_ptr_nonnull(bytes);
	memcpy(bytes, reply->bytes, n);
	(void)pthread_mutex_lock(&server->lock);
	free((char *)(uintptr_t)server->reply.bytes);
	server->reply = *reply;
	server->reply.bytes = bytes;
	server->reply.n = n;
	(void)pthread_mutex_unlock(&server->lock);
}

static inline void
http_server_json(struct http_server *server, int status, const char *body)
{
	char bytes[1024];
	int n = snprintf(bytes, sizeof(bytes),
	    "HTTP/1.1 %d Status\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
	    status, strlen(body), body);

	ck_assert_int_lt(n, (int)sizeof(bytes));
	http_server_reply(server, &(struct http_reply){ .bytes = bytes });
}

static inline unsigned
http_server_accepts(struct http_server *server)
{
	unsigned n;

	(void)pthread_mutex_lock(&server->lock);
	n = server->accepts;
	(void)pthread_mutex_unlock(&server->lock);
	return n;
}

static inline unsigned
http_server_requests(struct http_server *server)
{
	unsigned n;

	(void)pthread_mutex_lock(&server->lock);
	n = server->requests;
	(void)pthread_mutex_unlock(&server->lock);
	return n;
}

/* Whether the last request's head had TEXT in it. */
static inline bool
http_server_saw(struct http_server *server, const char *text)
{
	bool found;

	(void)pthread_mutex_lock(&server->lock);
	found = strstr(server->request, text) != NULL;
	(void)pthread_mutex_unlock(&server->lock);
	return found;
}

static inline void
http_server_close(struct http_server *server)
{
	ck_assert_int_eq(write(server->stop[1], "", 1), 1);
	ck_assert_int_eq(pthread_join(server->acceptor, NULL), 0);
	(void)pthread_mutex_lock(&server->lock);
	for (unsigned i = 0; i < server->accepts; i++)
		if (server->connections[i].fd >= 0)
			(void)shutdown(server->connections[i].fd, SHUT_RDWR);
	(void)pthread_mutex_unlock(&server->lock);
	for (unsigned i = 0; i < server->accepts; i++)
		ck_assert_int_eq(pthread_join(server->connections[i].thread, NULL), 0);
	free((char *)(uintptr_t)server->reply.bytes);
	(void)close(server->listen_fd);
	(void)close(server->stop[0]);
	(void)close(server->stop[1]);
	(void)pthread_mutex_destroy(&server->lock);
}

#endif
