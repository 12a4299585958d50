#include "lib/decoder.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/confine.h"
#include "lib/log.h"

#define KEEPER_FD 3 /* the keeper's end of the socket, behind the standard ones */
#define NAME "decoder" /* of the processes, for whoever lists them */
#define NICENESS 10

struct decoder {
	int fd;
	pid_t keeper;
};

/* What the keeper is sent, with two files in memory: the picture, and what is to be written. */
struct question {
	enum image_kind claimed;
	size_t n;
};

/* What a picture's process says of it. */
struct verdict {
	enum err err;
	size_t n;
	uint32_t width, height;
	char words[ERR_WORDS_MAX];
};

/* What the keeper answers: how the process ended, as waitpid() tells it, and what it has said. */
struct answer {
	int status;
	bool said;
	struct verdict verdict;
};

#define FILES 2

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(FILES * sizeof(int))];
};

/* --- A picture's process. */

static bool
write_all(int fd, const void *bytes, size_t n)
{
	const char *at = bytes;

	while (n > 0) {
		ssize_t written = write(fd, at, n);

		if (written < 0)
			return false;
		at += written;
		n -= (size_t)written;
	}
	return true;
}

static void
look_at(const struct question *question, const unsigned char *bytes, int out, int say)
{
	struct image clean = { 0 };
	struct verdict verdict = { 0 };

	verdict.err = image_clean(bytes, question->n, question->claimed, &clean);
	if (verdict.err == OK && !write_all(out, clean.bytes, clean.n))
		verdict.err = fail(ERR_BUSY, "no memory for an image");
	verdict.n = clean.n;
	verdict.width = clean.width;
	verdict.height = clean.height;
	(void)memccpy(verdict.words, err_words(), '\0', sizeof(verdict.words) - 1);
	(void)write_all(say, &verdict, sizeof(verdict));
}

/* Mapped before the limits, and before nothing can be mapped any more. */
static void
become_worker(const struct question *question, const int files[FILES], int say)
{
	const unsigned char *bytes = mmap(NULL, question->n, PROT_READ, MAP_PRIVATE, files[0], 0);

	if (bytes == MAP_FAILED)
		_exit(EXIT_FAILURE);
	(void)close(KEEPER_FD);
	(void)close(files[0]);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)alarm(DECODER_WAIT_MAX_S);
	(void)setrlimit(
	    RLIMIT_CPU, &(const struct rlimit){ DECODER_TIME_MAX_S, DECODER_TIME_MAX_S + 1 });
	(void)setrlimit(RLIMIT_FSIZE, &(const struct rlimit){ IMAGE_BYTES_MAX, IMAGE_BYTES_MAX });
	if (!confine_is_sanitized()) /* whose shadow of memory is larger */
		(void)setrlimit(
		    RLIMIT_AS, &(const struct rlimit){ DECODER_MEMORY_MAX, DECODER_MEMORY_MAX });
	if (!confine_worker())
		_exit(EXIT_FAILURE);
	look_at(question, bytes, files[1], say);
	_exit(EXIT_SUCCESS);
}

/* --- The keeper, of one thread. */

/* False once the program has gone. */
static bool
receive(struct question *question, int files[FILES])
{
	union control control;
	struct iovec body = { question, sizeof(*question) };
	struct msghdr message = { .msg_iov = &body,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	const struct cmsghdr *header;

	if (recvmsg(KEEPER_FD, &message, MSG_CMSG_CLOEXEC) != sizeof(*question))
		return false;
	header = CMSG_FIRSTHDR(&message);
	if (header == NULL || header->cmsg_len != CMSG_LEN(FILES * sizeof(int)))
		return false;
	memcpy(files, CMSG_DATA(header), FILES * sizeof(int));
	return true;
}

static void
keep_one(const struct question *question, const int files[FILES], struct answer *answer)
{
	int say[2];
	pid_t worker;

	answer->status = -1;
	if (pipe2(say, O_CLOEXEC) != 0)
		return;
	if ((worker = fork()) == 0)
		become_worker(question, files, say[1]);
	(void)close(say[1]);
	if (worker > 0 && waitpid(worker, &answer->status, 0) == worker)
		answer->said = read(say[0], &answer->verdict, sizeof(answer->verdict)) ==
		    sizeof(answer->verdict);
	(void)close(say[0]);
}

static void
keep(void)
{
	struct question question;
	int files[FILES];

	while (receive(&question, files)) {
		struct answer answer = { 0 };

		keep_one(&question, files, &answer);
		(void)close(files[0]);
		(void)close(files[1]);
		if (send(KEEPER_FD, &answer, sizeof(answer), MSG_NOSIGNAL) < 0)
			break;
	}
}

/* Only the socket stays, and what a sanitizer would say.  Signals are for the program, which lets
 * us go when it has ended. */
static _Noreturn void
become_keeper(int fd)
{
	static const int ignored[] = { SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGHUP, SIGPIPE };
	int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		(void)signal(ignored[i], SIG_IGN);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)prctl(PR_SET_NAME, NAME);
	(void)setpriority(PRIO_PROCESS, 0, NICENESS);
	if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(nothing, STDOUT_FILENO) < 0 ||
	    (fd != KEEPER_FD && dup2(fd, KEEPER_FD) < 0) || close_range(KEEPER_FD + 1, ~0U, 0) != 0)
		_exit(EXIT_FAILURE);
	if (confine_keeper() != OK)
		_exit(EXIT_FAILURE);
	if (!confine_is_sanitized())
		(void)dup2(STDIN_FILENO, STDERR_FILENO);
	keep();
	_exit(EXIT_SUCCESS);
}

/* --- The program's side. */

enum err
decoder_open(struct decoder **out)
{
	struct decoder *decoder = calloc(1, sizeof(*decoder));
	pid_t program = getpid();
	int pair[2];

	*out = NULL;
	if (decoder == NULL || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
		free(decoder);
		return fail(ERR_INTERNAL, "there is no process for images: %m");
	}
	decoder->keeper = fork();
	if (decoder->keeper == 0) {
		if (getppid() != program)
			_exit(EXIT_FAILURE);
		free(decoder);
		become_keeper(pair[1]);
	}
	(void)close(pair[1]);
	decoder->fd = pair[0];
	if (decoder->keeper > 0) {
		*out = decoder;
		return OK;
	}
	(void)close(decoder->fd);
	free(decoder);
	return fail(ERR_INTERNAL, "there is no process for images: %m");
}

void
decoder_close(struct decoder *decoder)
{
	if (decoder == NULL)
		return;
	(void)close(decoder->fd);
	(void)waitpid(decoder->keeper, NULL, 0);
	free(decoder);
}

/* The picture, which nobody can change any more. */
static int
make_picture(const unsigned char *bytes, size_t n)
{
	int fd = memfd_create("picture", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && write_all(fd, bytes, n) &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		return fd;
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

static bool
ask(const struct decoder *decoder, struct question *question, const int files[FILES],
    struct answer *answer)
{
	union control control = { .header = { .cmsg_len = CMSG_LEN(FILES * sizeof(int)),
				      .cmsg_level = SOL_SOCKET,
				      .cmsg_type = SCM_RIGHTS } };
	struct iovec body = { question, sizeof(*question) };
	struct msghdr message = { .msg_iov = &body,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };

	memcpy(CMSG_DATA(&control.header), files, FILES * sizeof(int));
	return sendmsg(decoder->fd, &message, MSG_NOSIGNAL) == sizeof(*question) &&
	    recv(decoder->fd, answer, sizeof(*answer), 0) == sizeof(*answer);
}

/* The keeper can only be made before the program is confined: so the program makes way for another,
 * as its supervisor would stop it, who starts it anew. */
static enum err
make_way(void)
{
	log_event(LOG_ERROR, "decoder",
	    "the process for images is gone, so this one makes way for another");
	(void)kill(getpid(), SIGTERM);
	return fail(ERR_BUSY, "the image cannot be looked at now");
}

/* The process of the picture has not come to its end: who has done that? */
static enum err
judge_end(int status)
{
	int by = status != -1 && WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	log_event(
	    LOG_WARNING, "decoder", "what reads images was ended by a picture: signal %d", by);
	if (by == SIGXCPU || by == SIGALRM)
		return fail(ERR_INPUT, "takes too long to be read");
	if (by == 0 || by == SIGKILL)
		return fail(ERR_BUSY, "the image cannot be looked at now");
	return fail(ERR_INPUT, "cannot be read: it ends what reads it");
}

/* Words go to a client: those of ours are ASCII. */
static bool
is_sound(const struct verdict *verdict)
{
	size_t n = strnlen(verdict->words, sizeof(verdict->words));

	if (n == sizeof(verdict->words))
		return false;
	for (size_t i = 0; i < n; i++)
		if (verdict->words[i] < ' ' || verdict->words[i] > '~')
			return false;
	if (verdict->err == OK)
		return verdict->n > 0 && verdict->n <= IMAGE_BYTES_MAX && verdict->width > 0 &&
		    verdict->height > 0 && verdict->width <= IMAGE_SIDE_MAX &&
		    verdict->height <= IMAGE_SIDE_MAX;
	return verdict->err == ERR_INPUT || verdict->err == ERR_BUSY;
}

/* The process that has written it is no more. */
static enum err
take_clean(int fd, const struct verdict *verdict, struct image *clean)
{
	unsigned char *bytes = malloc(verdict->n);

	if (bytes == NULL)
		return fail(ERR_BUSY, "no memory for an image");
	if (pread(fd, bytes, verdict->n, 0) != (ssize_t)verdict->n) {
		free(bytes);
		return fail(ERR_INTERNAL, "an image is not what was said of it");
	}
	*clean = (struct image){ bytes, verdict->n, verdict->width, verdict->height };
	return OK;
}

static enum err
judge(const struct answer *answer, int fd, struct image *clean)
{
	const struct verdict *verdict = &answer->verdict;

	if (answer->status != 0 || !answer->said)
		return judge_end(answer->status);
	if (!is_sound(verdict))
		return fail(ERR_INTERNAL, "what reads images has said what cannot be");
	if (verdict->err != OK)
		return fail(verdict->err, "%s", verdict->words);
	return take_clean(fd, verdict, clean);
}

enum err
decoder_clean(struct decoder *decoder, const unsigned char *bytes, size_t n,
    enum image_kind claimed, struct image *clean)
{
	struct question question = { claimed, n };
	struct answer answer;
	int files[FILES] = { -1, -1 };
	enum err err;

	if (n == 0)
		return image_clean(bytes, n, claimed, clean);
	if ((files[0] = make_picture(bytes, n)) < 0 ||
	    (files[1] = memfd_create("image", MFD_CLOEXEC)) < 0)
		err = fail(ERR_BUSY, "no memory for an image");
	else if (!ask(decoder, &question, files, &answer))
		err = make_way();
	else
		err = judge(&answer, files[1], clean);
	for (size_t i = 0; i < FILES; i++)
		if (files[i] >= 0)
			(void)close(files[i]);
	return err;
}
