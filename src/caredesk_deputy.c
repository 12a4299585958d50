/*
 * caredesk_deputy: a part of a command that is done by a child, which has become the user: what is
 * the user's may make root read, delete or change what is root's.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "caredesk.h"

#define READY '\n' /* no words begin so */
#define WORDS_SIZE 1024

/* Its words come back through FD. */
static void
become_and_work(const char *user, pid_t parent, deputy_fn work, void *ctx, int fd)
{
	enum err err = user_become(user);

	/* Becoming another forgets this. */
	if (err == OK && prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		err = fail(ERR_INTERNAL, "prctl: %m");
	if (err == OK && getppid() == parent)
		err = work(ctx, fd);
	(void)fflush(stdout);
	if (err != OK && send(fd, err_words(), strlen(err_words()), MSG_NOSIGNAL) < 0)
		err = ERR_INTERNAL;
	_exit((int)err);
}

enum err
deputy_start(const char *user, deputy_fn work, void *ctx, struct deputy *deputy)
{
	pid_t parent = getpid();
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
		return fail(ERR_BUSY, "a child: %m");
	(void)fflush(stdout);
	if ((deputy->pid = fork()) == 0) {
		(void)close(fds[0]);
		become_and_work(user, parent, work, ctx, fds[1]);
	}
	(void)close(fds[1]);
	deputy->fd = fds[0];
	if (deputy->pid > 0)
		return OK;
	(void)close(deputy->fd);
	return fail(ERR_BUSY, "a child: %m");
}

enum err
deputy_is_ready(int fd)
{
	char byte = READY;

	if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
		return fail(ERR_INTERNAL, "nobody waits for it: %m");
	while (recv(fd, &byte, 1, 0) < 0 && errno == EINTR)
		;
	return OK;
}

enum err
deputy_await(struct deputy *deputy)
{
	char byte = '\0';
	ssize_t n;

	while ((n = recv(deputy->fd, &byte, 1, MSG_PEEK)) < 0 && errno == EINTR)
		;
	if (n == 1 && byte == READY && recv(deputy->fd, &byte, 1, 0) == 1)
		return OK;
	return fail(ERR_INTERNAL, "the child that does it as the user has ended");
}

enum err
deputy_end(struct deputy *deputy)
{
	char words[WORDS_SIZE] = "";
	int status = 0;
	ssize_t n;

	(void)shutdown(deputy->fd, SHUT_WR);
	while ((n = recv(deputy->fd, words, sizeof(words) - 1, MSG_WAITALL)) < 0 && errno == EINTR)
		;
	(void)close(deputy->fd);
	while (waitpid(deputy->pid, &status, 0) < 0)
		if (errno != EINTR)
			return fail(ERR_INTERNAL, "a child: %m");
	if (n < 0 || !WIFEXITED(status))
		return fail(ERR_INTERNAL, "the child that does it as the user was ended");
	return WEXITSTATUS(status) == OK ? OK : fail(WEXITSTATUS(status), "%s", words);
}
