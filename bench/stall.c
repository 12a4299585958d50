/*
 * stall: clients that hold a connection and do not get on: HEADS that send a byte of their head a
 * second, and BODIES that send the beginning of a body and then nothing.  Whoever is cut comes back
 * at the next second.  Until it is ended; one thread.
 *
 *	stall PORT HEADS BODIES [FIELD]...	fields of the bodies' requests, such as their token
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 16384

static struct {
	in_port_t port;
	char head[8192];
	int fds[CLIENTS_MAX], count, heads;
} stall;

static int
client_open(bool is_head)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
		.sin_port = htons(stall.port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const char *text = is_head ? "GET /events HTTP/1.1\r\nX-Slow: " : stall.head;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0 ||
	    send(fd, text, strlen(text), MSG_NOSIGNAL) < 0) {
		perror("stall");
		if (fd >= 0)
			(void)close(fd);
		return -1;
	}
	return fd;
}

/* Whether the server has said or closed anything. */
static bool
is_cut(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN;
}

static void
turn(int i)
{
	bool is_head = i < stall.heads;
	int *fd = &stall.fds[i];

	if (*fd >= 0 && (is_cut(*fd) || (is_head && send(*fd, "x", 1, MSG_NOSIGNAL) != 1))) {
		(void)close(*fd);
		*fd = -1;
	}
	if (*fd < 0)
		*fd = client_open(is_head);
}

static int
held(void)
{
	int n = 0;

	for (int i = 0; i < stall.count; i++)
		n += stall.fds[i] >= 0;
	return n;
}

static void
make_head(int count, char **fields)
{
	size_t n = (size_t)snprintf(stall.head, sizeof(stall.head),
	    "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	    "Content-Length: 900\r\n");

	for (int i = 0; i < count && n < sizeof(stall.head); i++)
		n += (size_t)snprintf(stall.head + n, sizeof(stall.head) - n, "%s\r\n", fields[i]);
	if (n < sizeof(stall.head))
		n += (size_t)snprintf(stall.head + n, sizeof(stall.head) - n, "\r\n{\"type_id\":");
	if (n >= sizeof(stall.head))
		abort();
}

int
main(int argc, char **argv)
{
	if (argc < 4 || atoi(argv[2]) + atoi(argv[3]) > CLIENTS_MAX) {
		(void)fprintf(stderr, "usage: stall PORT HEADS BODIES [FIELD]...\n");
		return 2;
	}
	stall.port = (in_port_t)atoi(argv[1]);
	stall.heads = atoi(argv[2]);
	stall.count = stall.heads + atoi(argv[3]);
	make_head(argc - 4, argv + 4);
	for (int i = 0; i < stall.count; i++)
		stall.fds[i] = client_open(i < stall.heads);
	for (;;) {
		/* Spread over the second, as that many clients would be. */
		for (int i = 0; i < stall.count; i++) {
			turn(i);
			if (i % 100 == 99)
				(void)nanosleep(&(struct timespec){ .tv_nsec = 100000000000L /
							(stall.count + 1) },
				    NULL);
		}
		(void)printf("holds %d\n", held());
		(void)fflush(stdout);
	}
}
