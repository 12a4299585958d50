/*
 * mix: requests of many kinds (mix_kinds.c), and whether each was answered as it may be.
 *
 *	mix PORT TOKEN-FILE CONNECTIONS RATE ABUSE requests|ms TOTAL WINDOW
 *
 * With RATE 0 each connection has a request on its way all the time.  Else so many a second are
 * offered, whatever becomes of those before; one that finds no connection free is not sent, and one
 * that has no answer after PATIENCE is given up.  ABUSE of a thousand are bad.  The file is read
 * again at each window, of WINDOW requests or milliseconds, for a token ends.  Prints
 *
 *	window SENT SECONDS ANSWERED REFUSED P50-US P99-US
 *	kind COUNT STATUS WORD NAME
 *	total OFFERED UNSENT ANSWERED REFUSED UPSTREAM GIVEN-UP BROKEN WRONG SECONDS
 *
 * and exits with 1 if an answer was broken, or another than expected.  A refusal is a 503 or 429
 * with Retry-After that is a problem document.  One thread.
 */
#include "mix.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/latency.h"

#define CONNECTIONS_MAX 16384
#define HEAD_MAX 8192
#define BODY_KEPT 1024
#define EVENTS 256
#define PATIENCE_US INT64_C(2000000)
#define LONG_US INT64_C(30000000) /* of a connection that has nothing else to do */
#define SWEEP_US INT64_C(100000)
#define SECOND_US INT64_C(1000000)

enum part { HEAD, LENGTH, CHUNK_SIZE, CHUNK, CHUNK_END, LAST_CHUNK, UNTIL_CLOSE, WHOLE };

struct answer {
	enum part part;
	int status;
	bool closes, has_retry, is_problem;
	size_t left; /* of the body, or of the chunk */
	char line[64]; /* of a chunk's size */
	size_t line_n, head_n, body_n;
	char head[HEAD_MAX];
	char body[BODY_KEPT + 1];
};

struct lane {
	int fd; /* -1: none */
	bool busy, used; /* used: had an answer before */
	int kind;
	int64_t due_us;
	size_t sent, n;
	char request[REQUEST_MAX];
	struct answer answer;
};

static struct {
	in_port_t port;
	const char *token_file;
	int connections, abuse, epoll_fd;
	int64_t rate, total, window;
	bool by_time;
	char token[4096];
	struct lane *lanes;
	int free[CONNECTIONS_MAX], free_count;
	int64_t begin_us, window_us, swept_us;
	int64_t offered, unsent, done, answered, refused, upstream, given_up, broken, wrong;
	int64_t window_done, window_answered, window_refused;
	struct latency latency;
	int64_t (*counts)[STATUS_MAX + 1]; /* of each kind; [STATUS_MAX]: broken */
} load;

static int64_t
now_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND_US + t.tv_nsec / 1000;
}

static void
die(const char *what)
{
	perror(what);
	exit(2);
}

static void
read_token(void)
{
	FILE *file = fopen(load.token_file, "r");

	if (file == NULL || fgets(load.token, sizeof(load.token), file) == NULL)
		die(load.token_file);
	load.token[strcspn(load.token, "\n")] = '\0';
	(void)fclose(file);
}

/* --- What becomes of a request. */

static void
lane_close(struct lane *lane)
{
	if (lane->fd >= 0)
		(void)close(lane->fd);
	lane->fd = -1;
	lane->used = false;
}

static void
lane_free(struct lane *lane)
{
	lane->busy = false;
	load.free[load.free_count++] = (int)(lane - load.lanes);
	load.done++;
	load.window_done++;
}

static void
show_broken(const struct lane *lane, const char *what)
{
	if (load.broken++ < 10)
		(void)fprintf(stderr, "broken (%s): %s; %zu bytes of a head, %zu of a body: %.*s\n",
		    what, kinds[lane->kind].name, lane->answer.head_n, lane->answer.body_n,
		    (int)lane->answer.head_n, lane->answer.head);
}

static void
show_wrong(const struct lane *lane)
{
	if (load.wrong++ < 20)
		(void)fprintf(stderr, "wrong: %s: %d: %.300s\n", kinds[lane->kind].name,
		    lane->answer.status, lane->answer.body);
}

/* An answer that is whole, or none, which is status 0. */
static void
settle(struct lane *lane)
{
	const struct kind *kind = &kinds[lane->kind];
	const struct answer *answer = &lane->answer;
	int status = answer->status;

	load.counts[lane->kind][status]++;
	if (kind_expects(kind, status)) {
		load.answered++;
		load.window_answered++;
		if (status == 200 || status == 201)
			kind_learn(kind, answer->body);
		if (status != 0)
			latency_add(&load.latency, now_us() - lane->due_us);
	} else if ((status == 503 || status == 429) && answer->has_retry && answer->is_problem) {
		load.refused++;
		load.window_refused++;
	} else {
		show_wrong(lane);
	}
	if (status == 502 || status == 504)
		load.upstream++;
	lane_free(lane);
}

static void
lane_broke(struct lane *lane, const char *what)
{
	load.counts[lane->kind][STATUS_MAX]++;
	show_broken(lane, what);
	lane_close(lane);
	lane_free(lane);
}

/* --- Answers, byte by byte where they must be. */

static bool
field_is(const char *head, const char *name, const char *value)
{
	const char *at = strcasestr(head, name);

	return at != NULL && strncasecmp(at + strlen(name), value, strlen(value)) == 0;
}

static enum part
part_behind_head(const struct lane *lane, struct answer *answer)
{
	const char *head = answer->head, *length = strcasestr(head, "\r\nContent-Length: ");

	if (strncmp(lane->request, "HEAD ", 5) == 0 || answer->status == 204 ||
	    answer->status == 304)
		return WHOLE;
	if (field_is(head, "\r\nTransfer-Encoding: ", "chunked"))
		return CHUNK_SIZE;
	if (length == NULL)
		return UNTIL_CLOSE;
	answer->left = strtoull(length + strlen("\r\nContent-Length: "), NULL, 10);
	return answer->left > 0 ? LENGTH : WHOLE;
}

/* How many of the bytes belong to the head; SIZE_MAX if it is none. */
static size_t
take_head(const struct lane *lane, struct answer *answer, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (answer->head_n == HEAD_MAX - 1)
			return SIZE_MAX;
		answer->head[answer->head_n++] = bytes[i];
		answer->head[answer->head_n] = '\0';
		if (bytes[i] != '\n' || answer->head_n < 4 ||
		    strcmp(answer->head + answer->head_n - 4, "\r\n\r\n") != 0)
			continue;
		answer->status = (int)strtol(answer->head + strlen("HTTP/1.1 "), NULL, 10);
		if (strncmp(answer->head, "HTTP/1.1 ", 9) != 0 || answer->status < 200 ||
		    answer->status >= STATUS_MAX)
			return SIZE_MAX;
		answer->closes = field_is(answer->head, "\r\nConnection: ", "close");
		answer->has_retry = strcasestr(answer->head, "\r\nRetry-After: ") != NULL;
		answer->is_problem =
		    field_is(answer->head, "\r\nContent-Type: ", "application/problem+json");
		answer->part = part_behind_head(lane, answer);
		return i + 1;
	}
	return n;
}

static size_t
take_body(struct answer *answer, const char *bytes, size_t n)
{
	size_t kept;

	n = answer->part != UNTIL_CLOSE && n > answer->left ? answer->left : n;
	kept = answer->body_n >= BODY_KEPT ? 0 : BODY_KEPT - answer->body_n;
	kept = kept < n ? kept : n;
	if (kept > 0)
		memcpy(answer->body + answer->body_n, bytes, kept);
	answer->body_n += n;
	answer->body[answer->body_n < BODY_KEPT ? answer->body_n : BODY_KEPT] = '\0';
	if (answer->part != UNTIL_CLOSE && (answer->left -= n) == 0)
		answer->part = answer->part == LENGTH ? WHOLE : CHUNK_END;
	return n;
}

/* A line between chunks; SIZE_MAX if it is not what it must be. */
static size_t
take_line(struct answer *answer, const char *bytes, size_t n)
{
	const char *end = memchr(bytes, '\n', n);
	size_t taken = end != NULL ? (size_t)(end - bytes) + 1 : n;

	if (taken > sizeof(answer->line) - 1 - answer->line_n)
		return SIZE_MAX;
	memcpy(answer->line + answer->line_n, bytes, taken);
	answer->line[answer->line_n += taken] = '\0';
	if (end == NULL)
		return taken;
	answer->line_n = 0;
	if (answer->part != CHUNK_SIZE) {
		answer->part = answer->part == LAST_CHUNK ? WHOLE : CHUNK_SIZE;
		return strcmp(answer->line, "\r\n") == 0 ? taken : SIZE_MAX;
	}
	answer->left = strtoull(answer->line, NULL, 16);
	answer->part = answer->left > 0 ? CHUNK : LAST_CHUNK;
	return strchr("0123456789abcdef", answer->line[0]) != NULL ? taken : SIZE_MAX;
}

/* False if they are not part of an answer. */
static bool
take_bytes(const struct lane *lane, struct answer *answer, const char *bytes, size_t n)
{
	while (n > 0) {
		size_t taken;

		switch (answer->part) {
		case HEAD:
			taken = take_head(lane, answer, bytes, n);
			break;
		case LENGTH:
		case CHUNK:
		case UNTIL_CLOSE:
			taken = take_body(answer, bytes, n);
			break;
		case WHOLE:
			return false; /* an answer that nobody has asked for */
		default:
			taken = take_line(answer, bytes, n);
		}
		if (taken == SIZE_MAX)
			return false;
		bytes += taken;
		n -= taken;
	}
	return true;
}

/* --- Connections. */

static void
lane_open(struct lane *lane)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
		.sin_port = htons(load.port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.u32 = (uint32_t)(lane - load.lanes) };
	const int yes = 1;

	lane->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (lane->fd < 0 ||
	    setsockopt(lane->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) != 0 ||
	    (connect(lane->fd, (struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS) ||
	    epoll_ctl(load.epoll_fd, EPOLL_CTL_ADD, lane->fd, &event) != 0)
		die("connect");
}

static void
lane_send(struct lane *lane)
{
	const struct kind *kind = &kinds[lane->kind];
	ssize_t n;

	if (lane->sent == lane->n)
		return;
	n = send(lane->fd, lane->request + lane->sent, lane->n - lane->sent, MSG_NOSIGNAL);
	lane->sent += n > 0 ? (size_t)n : 0;
	if (lane->sent == lane->n && kind->after == HANG_UP_SENT) {
		lane_close(lane);
		settle(lane);
	}
}

static void
lane_begin(int64_t due_us)
{
	struct lane *lane = &load.lanes[load.free[--load.free_count]];

	lane->busy = true;
	lane->due_us = due_us;
	lane->kind = kind_draw(load.abuse);
	lane->n = kind_make(&kinds[lane->kind], load.token, lane->request);
	lane->sent = 0;
	memset(&lane->answer, 0, offsetof(struct answer, head));
	lane->answer.body[0] = lane->answer.head[0] = '\0';
	if (lane->fd < 0)
		lane_open(lane);
	lane_send(lane);
}

/* The server has closed: the end of an answer, or none, or one that is broken.  It may close a kept
 * connection just as a request comes, which then is sent anew. */
static void
lane_ended(struct lane *lane)
{
	struct answer *answer = &lane->answer;
	bool was_used = lane->used;

	lane_close(lane);
	if (!lane->busy)
		return;
	if (answer->part == UNTIL_CLOSE ||
	    (answer->head_n == 0 && kind_expects(&kinds[lane->kind], 0)))
		settle(lane);
	else if (answer->head_n > 0 || !was_used)
		lane_broke(lane, "it ended");
	else {
		lane->sent = 0;
		lane_open(lane);
		lane_send(lane);
	}
}

static void
lane_answered(struct lane *lane)
{
	if (lane->answer.closes || kinds[lane->kind].after != KEEP || lane->sent < lane->n)
		lane_close(lane);
	lane->used = true;
	settle(lane);
}

static void
lane_read(struct lane *lane)
{
	static char bytes[65536];

	while (lane->fd >= 0) {
		ssize_t n = recv(lane->fd, bytes, sizeof(bytes), 0);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			lane_ended(lane);
		} else if (!lane->busy || !take_bytes(lane, &lane->answer, bytes, (size_t)n)) {
			lane_broke(lane, "no answer");
		} else if (kinds[lane->kind].after == HANG_UP_ANSWERED) {
			lane_close(lane);
			lane->answer.status = 0;
			settle(lane);
		} else if (lane->answer.part == WHOLE) {
			lane_answered(lane);
		}
	}
}

/* --- The run. */

static void
print_window(int64_t now)
{
	(void)printf("window %lld %.3f %lld %lld %lld %lld\n", (long long)load.window_done,
	    (double)(now - load.window_us) / SECOND_US, (long long)load.window_answered,
	    (long long)load.window_refused, (long long)latency_quantile(&load.latency, 500),
	    (long long)latency_quantile(&load.latency, 990));
	(void)fflush(stdout);
	load.window_done = load.window_answered = load.window_refused = 0;
	load.window_us = now;
	load.latency = (struct latency){ 0 };
	read_token();
}

static void
sweep(int64_t now)
{
	int64_t patience = load.rate > 0 ? PATIENCE_US : LONG_US;

	for (int i = 0; i < load.connections; i++) {
		struct lane *lane = &load.lanes[i];

		if (!lane->busy || now - lane->due_us < patience)
			continue;
		if (load.given_up++ < 10)
			(void)fprintf(stderr, "given up: %s\n", kinds[lane->kind].name);
		lane_close(lane);
		lane_free(lane);
	}
	load.swept_us = now;
}

static bool
is_over(int64_t now)
{
	return load.by_time ? now - load.begin_us >= load.total * 1000 : load.offered >= load.total;
}

static void
begin_due(int64_t now)
{
	int64_t due = load.offered + load.free_count;

	if (load.rate > 0)
		due = (now - load.begin_us) * load.rate / SECOND_US;
	else if (!load.by_time && due > load.total)
		due = load.total;
	for (; load.offered < due; load.offered++)
		if (load.free_count > 0)
			lane_begin(load.rate > 0
				? load.begin_us + load.offered * SECOND_US / load.rate
				: now);
		else
			load.unsent++;
}

static void
run(void)
{
	struct epoll_event events[EVENTS];
	int64_t now = now_us();

	load.begin_us = load.window_us = load.swept_us = now;
	while (!is_over(now) || (!load.by_time && load.free_count < load.connections)) {
		int n;

		if (!is_over(now))
			begin_due(now);
		n = epoll_wait(load.epoll_fd, events, EVENTS, 1);
		for (int i = 0; i < n; i++) {
			struct lane *lane = &load.lanes[events[i].data.u32];

			if (lane->fd >= 0 && lane->busy)
				lane_send(lane);
			if (lane->fd >= 0)
				lane_read(lane);
		}
		now = now_us();
		if (now - load.swept_us >= SWEEP_US)
			sweep(now);
		if (load.by_time ? now - load.window_us >= load.window * 1000
				 : load.window_done >= load.window)
			print_window(now);
	}
	if (load.window_done > 0)
		print_window(now);
}

static const char *
words_of(const struct kind *kind, int status)
{
	if (status == STATUS_MAX)
		return "BROKEN";
	if (kind_expects(kind, status))
		return status == 502 || status == 504 ? "upstream" : "expected";
	return status == 503 || status == 429 ? "refused" : "WRONG";
}

static void
print_all(void)
{
	for (int i = 0; i < kind_count; i++)
		for (int status = 0; status <= STATUS_MAX; status++)
			if (load.counts[i][status] > 0)
				(void)printf("kind %lld %d %s %s\n",
				    (long long)load.counts[i][status], status % STATUS_MAX,
				    words_of(&kinds[i], status), kinds[i].name);
	(void)printf("total %lld %lld %lld %lld %lld %lld %lld %lld %.3f\n",
	    (long long)load.offered, (long long)load.unsent, (long long)load.answered,
	    (long long)load.refused, (long long)load.upstream, (long long)load.given_up,
	    (long long)load.broken, (long long)load.wrong,
	    (double)(now_us() - load.begin_us) / SECOND_US);
}

int
main(int argc, char **argv)
{
	if (argc != 9) {
		(void)fprintf(stderr,
		    "usage: mix PORT TOKEN-FILE CONNECTIONS RATE ABUSE requests|ms "
		    "TOTAL WINDOW\n");
		return 2;
	}
	load.port = (in_port_t)atoi(argv[1]);
	load.token_file = argv[2];
	load.connections = atoi(argv[3]);
	load.rate = atoll(argv[4]);
	load.abuse = atoi(argv[5]);
	load.by_time = strcmp(argv[6], "ms") == 0;
	load.total = atoll(argv[7]);
	load.window = atoll(argv[8]);
	load.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	load.lanes = calloc((size_t)load.connections, sizeof(*load.lanes));
	load.counts = calloc((size_t)kind_count, sizeof(*load.counts));
	if (load.connections < 1 || load.connections > CONNECTIONS_MAX || load.epoll_fd < 0 ||
	    load.lanes == NULL || load.counts == NULL)
		die("mix");
	for (int i = 0; i < load.connections; i++) {
		load.lanes[i].fd = -1;
		load.free[load.free_count++] = load.connections - 1 - i;
	}
	read_token();
	run();
	print_all();
	return load.broken + load.wrong > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
