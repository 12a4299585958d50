#include "loop.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISTEN_FD STDIN_FILENO

static int epoll_fd;

static void
watch(int operation, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };

	if (epoll_ctl(epoll_fd, operation, fd, &event) != 0)
		perror("epoll_ctl");
}

/* One request of a readable connection; false once it is closed. */
static bool
answer(const struct loop *loop, FCGX_Request *fcgi, void *own, int fd)
{
	(void)FCGX_InitRequest(fcgi, -1, 0);
	fcgi->ipcFd = fd;
	fcgi->keepConnection = 1; /* or it closes what it has not accepted itself */
	if (FCGX_Accept_r(fcgi) != 0)
		return false;
	loop->answer(fcgi, own);
	FCGX_Finish_r(fcgi);
	return fcgi->ipcFd == fd;
}

static void *
thread_main(void *arg)
{
	const struct loop *loop = arg;
	void *own = loop->open != NULL ? loop->open() : NULL;
	FCGX_Request fcgi;
	struct epoll_event event;

	for (;;) {
		if (epoll_wait(epoll_fd, &event, 1, -1) != 1)
			continue;
		if (event.data.fd != LISTEN_FD) {
			if (answer(loop, &fcgi, own, event.data.fd))
				watch(EPOLL_CTL_MOD, event.data.fd, EPOLLIN | EPOLLONESHOT);
			continue;
		}
		event.data.fd = accept4(LISTEN_FD, NULL, NULL, SOCK_CLOEXEC);
		if (event.data.fd >= 0)
			watch(EPOLL_CTL_ADD, event.data.fd, EPOLLIN | EPOLLONESHOT);
	}
	return NULL;
}

int
loop_run(const struct loop *loop)
{
	pthread_t thread;

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0 || FCGX_Init() != 0 || fcntl(LISTEN_FD, F_SETFL, O_NONBLOCK) != 0) {
		perror("loop");
		return EXIT_FAILURE;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGTERM, SIG_DFL); /* FCGX_Init() has taken it, to no end of ours */
	watch(EPOLL_CTL_ADD, LISTEN_FD, EPOLLIN | EPOLLEXCLUSIVE);
	for (int i = 1; i < loop->threads; i++)
		if (pthread_create(&thread, NULL, thread_main, (void *)(uintptr_t)loop) != 0)
			return EXIT_FAILURE;
	(void)thread_main((void *)(uintptr_t)loop);
	return EXIT_FAILURE;
}
