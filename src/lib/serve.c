#include "lib/serve.h"

#include <errno.h>
#include <fastcgi.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/pool.h"

#define LISTEN_FD STDIN_FILENO
#define FULL_PAUSE_MS 100
#define RECORD_MIN 8192 /* libfcgi's own buffer */

static struct {
	const struct program *program;
	int epoll_fd, signal_fd;
	atomic_bool stopping;
	atomic_size_t open; /* connections, and those that are just being accepted */
} server = { .epoll_fd = -1, .signal_fd = -1 };

/* A thread's own: libfcgi's request and ours, used again and again. */
struct seat {
	FCGX_Request fcgi;
	struct request req;
	struct response res;
};

static ssize_t
read_fcgi(void *ctx, char *buffer, size_t n)
{
	FCGX_Request *fcgi = ctx;
	int got = FCGX_GetStr(buffer, (int)n, fcgi->in);

	if (FCGX_GetError(fcgi->in) != 0)
		return -1;
	return got;
}

static bool
write_all(int fd, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t some = send(fd, bytes, n, MSG_NOSIGNAL);

		if (some < 0 && errno == EINTR)
			continue;
		if (some < 0)
			return false;
		bytes += some;
		n -= (size_t)some;
	}
	return true;
}

/* A long part of a body as one record of the stream (FastCGI 1.0 section 5.3): libfcgi would cut it
 * into pieces of 8 KiB, and each of them wakes nginx, which costs more than to make it. */
static bool
write_record(FCGX_Request *fcgi, const char *bytes, size_t n)
{
	const FCGI_Header header = {
		.version = FCGI_VERSION_1,
		.type = FCGI_STDOUT,
		.requestIdB1 = (unsigned char)(fcgi->requestId >> 8),
		.requestIdB0 = (unsigned char)fcgi->requestId,
		.contentLengthB1 = (unsigned char)(n >> 8),
		.contentLengthB0 = (unsigned char)n,
	};
	const struct iovec parts[] = { { (void *)(uintptr_t)&header, sizeof(header) },
		{ (void *)(uintptr_t)bytes, n } };
	const struct msghdr message = { .msg_iov = (void *)(uintptr_t)parts, .msg_iovlen = 2 };
	ssize_t sent;

	if (FCGX_FFlush(fcgi->out) != 0)
		return false;
	do
		sent = sendmsg(fcgi->ipcFd, &message, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < (ssize_t)sizeof(header)) /* so much always fits, or the peer is too slow */
		return false;
	sent -= (ssize_t)sizeof(header);
	return write_all(fcgi->ipcFd, bytes + sent, n - (size_t)sent);
}

static bool
write_fcgi(void *ctx, const char *bytes, size_t n)
{
	FCGX_Request *fcgi = ctx;

	if (n >= RECORD_MIN && n <= FCGI_MAX_LENGTH)
		return write_record(fcgi, bytes, n);
	return FCGX_PutStr(bytes, (int)n, fcgi->out) == (int)n;
}

static bool
has_meta(char *const *meta, const char *name)
{
	size_t n = strlen(name);

	for (; *meta != NULL; meta++)
		if (strncmp(*meta, name, n) == 0 && (*meta)[n] == '=')
			return true;
	return false;
}

/* libfcgi returns success with half the parameters when the peer stops inside them. */
static bool
is_whole(const FCGX_Request *fcgi)
{
	return FCGX_GetError(fcgi->in) == 0 && has_meta(fcgi->envp, "REQUEST_METHOD") &&
	    has_meta(fcgi->envp, "REQUEST_URI");
}

/* Reads what is left of the body.  False if bytes stay behind, beyond the announced length or too
 * many to drain: they would be read as the head of the next request. */
static bool
drain_body(struct seat *seat)
{
	(void)request_drain(&seat->req);
	return FCGX_GetChar(seat->fcgi.in) == EOF;
}

/* One request on a readable connection.  True if the connection may be used again; else it is
 * closed. */
static bool
answer(const struct program *served, struct seat *seat, int fd)
{
	struct request_source source = { .read = read_fcgi, .ctx = &seat->fcgi };
	bool whole;

	(void)FCGX_InitRequest(&seat->fcgi, -1, 0);
	seat->fcgi.ipcFd = fd;
	seat->fcgi.keepConnection =
	    1; /* or FCGX_Accept_r() closes what it has not accepted itself */
	if (FCGX_Accept_r(&seat->fcgi) != 0)
		return false; /* it has closed the connection */
	if (!is_whole(&seat->fcgi)) {
		whole = false;
	} else {
		source.meta = seat->fcgi.envp;
		response_open(&seat->res, write_fcgi, &seat->fcgi);
		whole = route_run(served->routes, &seat->req, &seat->res, &source);
		if (!drain_body(seat))
			seat->fcgi.keepConnection = 0;
		/* An end that is no end mark: the peer left, or does not speak FastCGI. */
		whole = whole && FCGX_GetError(seat->fcgi.in) == 0;
	}
	if (atomic_load(&server.stopping))
		seat->fcgi.keepConnection = 0;
	if (!whole) {
		/* Nothing more may reach the peer, least of all the mark of a whole answer. */
		seat->fcgi.keepConnection = 0;
		(void)shutdown(fd, SHUT_RDWR);
	}
	FCGX_Finish_r(&seat->fcgi);
	return seat->fcgi.ipcFd == fd;
}

void
serve_connection(const struct program *served, int fd)
{
	struct seat *seat = calloc(1, sizeof(*seat));

	(void)FCGX_Init();
	while (seat != NULL && answer(served, seat, fd))
		;
	free(seat);
}

static bool
watch(int operation, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };

	return epoll_ctl(server.epoll_fd, operation, fd, &event) == 0;
}

/* Only nginx, run by this user, or root may speak to us. */
static bool
peer_allowed(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
		return false;
	if (peer.uid == geteuid() || peer.uid == 0)
		return true;
	log_event(LOG_WARNING, "peer_refused", "a connection of uid %u was closed", peer.uid);
	return false;
}

/* Told to stop, and no connection is left that could bring more. */
static bool
is_over(void)
{
	return atomic_load(&server.stopping) && atomic_load(&server.open) == 0;
}

/* The signal is never read, so that whoever waits is woken by it for as long as it is watched. */
static void
wake_all_if_over(void)
{
	if (is_over())
		(void)watch(EPOLL_CTL_ADD, server.signal_fd, EPOLLIN);
}

static void
count_closed(void)
{
	(void)atomic_fetch_sub(&server.open, 1);
	wake_all_if_over();
}

static bool
admit(int fd)
{
	const struct timeval limit = { .tv_sec = SERVE_SOCKET_TIMEOUT_S };

	return peer_allowed(fd) &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) == 0 &&
	    watch(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT);
}

static void
accept_connection(void)
{
	int fd;

	(void)atomic_fetch_add(&server.open, 1); /* first, or a stop might overlook it */
	fd = accept4(LISTEN_FD, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
		/* It stays readable; to ask again at once would cost all the time there is. */
		log_event(LOG_ERROR, "no_descriptors", "a connection has to wait: %m");
		pool_wait_begin();
		(void)poll(NULL, 0, FULL_PAUSE_MS);
		pool_wait_end();
	}
	if (!atomic_load(&server.stopping))
		(void)watch(EPOLL_CTL_MOD, LISTEN_FD, EPOLLIN | EPOLLONESHOT);
	if (fd >= 0 && admit(fd))
		return;
	if (fd >= 0) /* else the peer left */
		(void)close(fd);
	count_closed();
}

static void
serve_request(struct seat *seat, int fd)
{
	bool open = answer(server.program, seat, fd);

	if (open && watch(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT))
		return;
	if (open)
		(void)close(fd);
	count_closed();
}

static void
begin_stop(void)
{
	if (!atomic_exchange(&server.stopping, true)) {
		log_event(LOG_INFO, "stopping", "answering what is under way");
		(void)epoll_ctl(server.epoll_fd, EPOLL_CTL_DEL, LISTEN_FD, NULL);
		if (server.program->stop != NULL)
			server.program->stop();
		pool_stop();
	}
	(void)epoll_ctl(server.epoll_fd, EPOLL_CTL_DEL, server.signal_fd, NULL);
	wake_all_if_over();
}

/* Waits for one thing to do, and does it. */
static bool
step(void *ctx, void *own)
{
	struct epoll_event event;
	bool stopping = atomic_load(&server.stopping);
	int n = epoll_wait(server.epoll_fd, &event, 1, SERVE_SILENCE_MS);

	(void)ctx;
	if (n < 0)
		return errno == EINTR;
	if (n == 0)
		return !stopping;
	if (event.data.fd == server.signal_fd)
		begin_stop();
	else if (event.data.fd == LISTEN_FD)
		accept_connection();
	else
		serve_request(own, event.data.fd);
	return !is_over();
}

static void *
seat_open(void *ctx)
{
	(void)ctx;
	return calloc(1, sizeof(struct seat));
}

static void
seat_close(void *ctx, void *own)
{
	(void)ctx;
	free(own);
}

/* The signals that stop us. */
static sigset_t
stop_signals(void)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGQUIT);
	(void)sigaddset(&set, SIGUSR1); /* multiwatch's */
	return set;
}

static enum err
open_epoll(void)
{
	sigset_t set = stop_signals();

	(void)signal(SIGPIPE, SIG_IGN);
	if ((server.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0 ||
	    (server.epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0 ||
	    !watch(EPOLL_CTL_ADD, server.signal_fd, EPOLLIN) ||
	    !watch(EPOLL_CTL_ADD, LISTEN_FD, EPOLLIN | EPOLLONESHOT))
		return fail(ERR_INTERNAL, "cannot wait for connections: %m");
	return OK;
}

static enum err
serve_fastcgi(const struct program *served)
{
	static const struct pool_work work = { seat_open, seat_close, step, NULL,
		SERVE_IDLE_S * CLOCK_SECOND_US };
	enum err err;

	server.program = served;
	/* Several threads, and several processes, may see one connection and try to accept it. */
	if (fcntl(LISTEN_FD, F_SETFL, O_NONBLOCK) != 0)
		return fail(ERR_INTERNAL, "the FastCGI socket cannot be listened on: %m");
	if ((err = open_epoll()) == OK && (err = pool_open(&work)) == OK) {
		log_event(LOG_INFO, "started", "answering");
		pool_join();
		if (!atomic_load(&server.stopping))
			err = fail(ERR_BUSY, "no thread has what it needs");
		log_event(LOG_INFO, "stopped", "all requests are answered");
	}
	(void)close(server.epoll_fd);
	(void)close(server.signal_fd);
	return err;
}

static ssize_t
read_stdin(void *ctx, char *buffer, size_t n)
{
	(void)ctx;
	return read(STDIN_FILENO, buffer, n);
}

static bool
write_stdout(void *ctx, const char *bytes, size_t n)
{
	(void)ctx;
	return fwrite(bytes, 1, n, stdout) == n;
}

static enum err
serve_cgi(const struct program *served)
{
	struct request_source source = { .meta = environ, .read = read_stdin };
	struct seat *seat;
	bool whole;

	if (!has_meta(environ, "REQUEST_METHOD"))
		return fail(ERR_INTERNAL,
		    "standard input is no FastCGI socket and there is no "
		    "REQUEST_METHOD: start this by spawn-fcgi, or as CGI");
	if ((seat = calloc(1, sizeof(*seat))) == NULL)
		return fail(ERR_BUSY, "no memory");
	response_open(&seat->res, write_stdout, NULL);
	whole = route_run(served->routes, &seat->req, &seat->res, &source) && fflush(stdout) == 0;
	free(seat);
	return whole ? OK : fail(ERR_INTERNAL, "the answer could not be written");
}

void
serve_hold_signals(void)
{
	sigset_t set = stop_signals();

	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
}

enum err
serve(const struct program *served)
{
	sigset_t set = stop_signals();

	/* Before libfcgi, whose handlers of the same signals would swallow one that comes early. */
	serve_hold_signals();
	/* FCGX_IsCGI() would do this by itself, and end the process without a word where it fails.
	 */
	if (FCGX_Init() != 0)
		return fail(ERR_INTERNAL, "the FastCGI library does not start: %m");
	if (!FCGX_IsCGI())
		return serve_fastcgi(served);
	(void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	return serve_cgi(served);
}
