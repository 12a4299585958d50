/*
 * slow: an insurer that takes its time: answers every request on 127.0.0.1:PORT after MS
 * milliseconds, or never where MS is -1.  One thread; it must cost little, for it runs beside what
 * is measured.
 *
 *	slow PORT MS
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define FDS_MAX 16384
#define BACKLOG 1024
#define REQUEST_MAX 4096
#define EVENTS 64

static const char reply[] =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    "Content-Length: 57\r\n\r\n{\"oop_max\":20000,\"remaining_oop_max\":9000,\"copay\":500000}";

/* The delay is the same for all, so who came first is due first: the answers owed are a ring. */
static struct {
	int fd;
	unsigned life;
	int64_t due_ns;
} owed[FDS_MAX];
static size_t owed_first, owed_count;

/* Counted up when a descriptor is closed: what it was owed lapses. */
static unsigned lives[FDS_MAX];
static int64_t delay_ns;
static int epoll_fd, timer_fd, listen_fd;

static int64_t
now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static void
watch(int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		perror("epoll_ctl");
}

static void
set_timer(void)
{
	int64_t due_ns = owed[owed_first].due_ns;
	struct itimerspec at = { .it_value = { due_ns / 1000000000, due_ns % 1000000000 } };

	(void)timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void
owe(int fd)
{
	size_t i = (owed_first + owed_count) % FDS_MAX;

	if (delay_ns < 0)
		return;
	if (owed_count == FDS_MAX)
		abort(); /* somebody asks twice on a connection */
	owed[i].fd = fd;
	owed[i].life = lives[fd];
	owed[i].due_ns = now_ns() + delay_ns;
	if (owed_count++ == 0)
		set_timer();
}

static void
pay(void)
{
	uint64_t ticks;
	int64_t now = now_ns();

	(void)!read(timer_fd, &ticks, sizeof(ticks));
	for (; owed_count > 0 && owed[owed_first].due_ns <= now; owed_count--) {
		int fd = owed[owed_first].fd;

		if (owed[owed_first].life == lives[fd])
			(void)!send(fd, reply, sizeof(reply) - 1, MSG_NOSIGNAL);
		owed_first = (owed_first + 1) % FDS_MAX;
	}
	if (owed_count > 0)
		set_timer();
}

static void
take_connection(void)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= FDS_MAX)
		(void)close(fd);
	else if (fd >= 0)
		watch(fd);
}

/* A request is small and comes in one piece. */
static void
take_request(int fd)
{
	char bytes[REQUEST_MAX];
	ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

	if (n >= 4 && memcmp(bytes + n - 4, "\r\n\r\n", 4) == 0) {
		owe(fd);
	} else {
		lives[fd]++;
		(void)close(fd);
	}
}

static bool
open_all(uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int yes = 1;

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (epoll_fd < 0 || timer_fd < 0 || listen_fd < 0 ||
	    setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
	    bind(listen_fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
	    listen(listen_fd, BACKLOG) != 0)
		return false;
	watch(timer_fd);
	watch(listen_fd);
	return true;
}

static void
handle(int fd)
{
	if (fd == timer_fd)
		pay();
	else if (fd == listen_fd)
		take_connection();
	else
		take_request(fd);
}

int
main(int argc, char **argv)
{
	struct epoll_event events[EVENTS];
	long ms;

	if (argc != 3) {
		(void)fprintf(stderr, "Usage: slow PORT MS\n");
		return EXIT_FAILURE;
	}
	ms = atol(argv[2]);
	delay_ns = ms < 0 ? -1 : ms * INT64_C(1000000);
	if (!open_all((uint16_t)atoi(argv[1]))) {
		perror("slow");
		return EXIT_FAILURE;
	}
	for (;;) {
		int n = epoll_wait(epoll_fd, events, EVENTS, -1);

		for (int i = 0; i < n; i++)
			handle(events[i].data.fd);
	}
}
