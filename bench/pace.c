/*
 * pace: GET requests at a fixed rate, whatever becomes of those before, and how long they took.
 *
 *	pace PORT PATH COUNT RATE SECONDS
 *
 * A time begins when the request was due, so that one answer that comes late is told by all that it
 * has held up.  PATH is followed by a number of 1..COUNT, another each time.  Few kept connections,
 * a thread each, take turns.  Prints "p50-us p99-us max-us requests errors".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LANES 16
#define ANSWER_MAX 16384
#define SECOND_NS INT64_C(1000000000)

static struct {
	in_port_t port;
	const char *path;
	uint64_t count;
	int64_t interval_ns, begin_ns, requests;
	int64_t *took_ns; /* of each request; -1 for an error */
} pace;

static int64_t
now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND_NS + t.tv_nsec;
}

static void
wait_until(int64_t ns)
{
	struct timespec t = { ns / SECOND_NS, ns % SECOND_NS };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

static int
open_lane(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
		.sin_port = htons(pace.port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const struct timeval patience = { .tv_sec = 10 };
	const int yes = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) != 0 ||
	    connect(fd, (const struct sockaddr *)&to, sizeof(to)) != 0) {
		perror("pace");
		exit(EXIT_FAILURE);
	}
	return fd;
}

/* All of an answer that says how long it is; whether it was a 200. */
static bool
read_answer(int fd)
{
	static const char length[] = "\r\nContent-Length: ";
	char answer[ANSWER_MAX];
	size_t n = 0;

	while (n < sizeof(answer) - 1) {
		ssize_t more = recv(fd, answer + n, sizeof(answer) - 1 - n, 0);
		const char *end, *field;

		if (more <= 0)
			return false;
		n += (size_t)more;
		answer[n] = '\0';
		end = strstr(answer, "\r\n\r\n");
		field = strcasestr(answer, length);
		if (end != NULL && field != NULL && field < end &&
		    n >= (size_t)(end + 4 - answer) + strtoul(field + sizeof(length) - 1, NULL, 10))
			return strncmp(answer, "HTTP/1.1 200 ", 13) == 0;
	}
	return false;
}

static bool
ask(int fd, uint64_t number)
{
	char request[512];
	int n = snprintf(request, sizeof(request), "GET %s%llu HTTP/1.1\r\nHost: localhost\r\n\r\n",
	    pace.path, (unsigned long long)number);

	return send(fd, request, (size_t)n, MSG_NOSIGNAL) == n && read_answer(fd);
}

static void *
lane_main(void *arg)
{
	int64_t first = (int64_t)(intptr_t)arg;
	int fd = open_lane();

	for (int64_t i = first; i < pace.requests; i += LANES) {
		int64_t due_ns = pace.begin_ns + i * pace.interval_ns;
		uint64_t number = (uint64_t)i * UINT64_C(2654435761) % pace.count + 1;

		wait_until(due_ns);
		if (ask(fd, number)) {
			pace.took_ns[i] = now_ns() - due_ns;
			continue;
		}
		pace.took_ns[i] = -1;
		(void)close(fd);
		fd = open_lane();
	}
	(void)close(fd);
	return NULL;
}

static int
compare(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void
print_times(void)
{
	int64_t errors = 0, good, *times;

	qsort(pace.took_ns, (size_t)pace.requests, sizeof(*pace.took_ns), compare);
	while (errors < pace.requests && pace.took_ns[errors] < 0)
		errors++;
	times = pace.took_ns + errors;
	good = pace.requests - errors;
	if (good == 0) {
		(void)fprintf(stderr, "pace: no request was answered 200\n");
		exit(EXIT_FAILURE);
	}
	(void)printf("%lld %lld %lld %lld %lld\n", (long long)times[good / 2] / 1000,
	    (long long)times[good - 1 - good / 100] / 1000, (long long)times[good - 1] / 1000,
	    (long long)pace.requests, (long long)errors);
}

int
main(int argc, char **argv)
{
	pthread_t threads[LANES];

	if (argc != 6 || atoll(argv[3]) < 1 || atoll(argv[4]) < 1 || atoll(argv[5]) < 1) {
		(void)fprintf(stderr, "usage: pace PORT PATH COUNT RATE SECONDS\n");
		return 2;
	}
	pace.port = (in_port_t)atoi(argv[1]);
	pace.path = argv[2];
	pace.count = (uint64_t)atoll(argv[3]);
	pace.interval_ns = SECOND_NS / atoll(argv[4]);
	pace.requests = atoll(argv[4]) * atoll(argv[5]);
	pace.took_ns = calloc((size_t)pace.requests, sizeof(*pace.took_ns));
	pace.begin_ns = now_ns() + SECOND_NS / 10;
	if (pace.took_ns == NULL)
		return EXIT_FAILURE;
	for (int i = 0; i < LANES; i++)
		if (pthread_create(&threads[i], NULL, lane_main, (void *)(intptr_t)i) != 0)
			return EXIT_FAILURE;
	for (int i = 0; i < LANES; i++)
		(void)pthread_join(threads[i], NULL);
	print_times();
	free(pace.took_ns);
	return EXIT_SUCCESS;
}
