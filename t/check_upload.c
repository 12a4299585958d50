#include "test.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/un.h>

#include "lib/upload.h"

#define SOCKET "http.sock"
#define ALL_MAX ((size_t)(8 * 1024 * 1024))
#define ANSWER_MAX (UPLOAD_BODY_MAX + 4096)

/* A server of one request: takes so many bytes of its body, answers, and closes. */
static struct {
	int fd;
	pthread_t thread;
	size_t wanted; /* of the body, before it answers */
	char *answer;
	size_t answer_bytes;
	size_t n;
	char *request; /* all that came */
} server;

static char folder[] = "/tmp/check_upload.XXXXXX";
static struct upload upload;
static struct upload_answer answer;
static int64_t told_bytes;

static void *
serve_one(void *arg)
{
	int fd = accept(server.fd, NULL, NULL);
	char *body = NULL;
	ssize_t n;

	(void)arg;
	while (body == NULL || server.n - (size_t)(body - server.request) < server.wanted) {
		n = recv(fd, server.request + server.n, ALL_MAX - server.n, 0);
		if (n <= 0)
			break;
		server.n += (size_t)n;
		server.request[server.n] = '\0';
		if (body == NULL && (body = strstr(server.request, "\r\n\r\n")) != NULL)
			body += 4;
	}
	(void)send(fd, server.answer, server.answer_bytes, MSG_NOSIGNAL);
	(void)shutdown(fd, SHUT_WR);
	while (recv(fd, server.request, 1, 0) > 0 && server.wanted == 0)
		; /* what still comes is taken and dropped, as nginx does */
	(void)close(fd);
	return NULL;
}

static void
told(void *ctx, int64_t bytes)
{
	ck_assert_ptr_eq(ctx, &told_bytes);
	ck_assert_int_ge(bytes, told_bytes);
	told_bytes = bytes;
}

/* A file of N bytes to be sent to a server that answers TEXT. */
static void
begin(size_t n, const char *text, size_t text_bytes)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = SOCKET };
	FILE *file = tmpfile();

	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chdir(folder), 0);
	ck_assert_ptr_nonnull(file);
	for (size_t i = 0; i < n; i++)
		(void)fputc("abcdefghij\n"[i % 11], file);
	ck_assert_int_eq(fflush(file), 0);
	rewind(file);
	upload = (struct upload){ .url = "http://localhost/events",
		.socket = SOCKET,
		.type = "application/x-ndjson",
		.fd = fileno(file),
		.bytes = (int64_t)n,
		.told = told,
		.ctx = &told_bytes };
	server.wanted = n;
	server.answer_bytes = text_bytes;
	ck_assert_ptr_nonnull(server.answer = malloc(text_bytes + 1));
	memcpy(server.answer, text, text_bytes);
	ck_assert_ptr_nonnull(server.request = malloc(ALL_MAX + 1));
	ck_assert_int_ge(server.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), 0);
	ck_assert_int_eq(
	    bind(server.fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(server.fd, 4), 0);
	ck_assert_int_eq(pthread_create(&server.thread, NULL, serve_one, NULL), 0);
}

static void
end(void)
{
	ck_assert_int_eq(pthread_join(server.thread, NULL), 0);
	(void)close(server.fd);
	(void)unlink(SOCKET);
	(void)rmdir(folder);
	free(server.answer);
	free(server.request);
}

#define BEGIN(n, text) begin(n, text, sizeof(text) - 1)

START_TEST(a_file_is_posted_whole_with_its_length_and_type)
{
	static const size_t sizes[] = { 1, 11, 65536, 3000001 };

	for (size_t i = 0; i < COUNT(sizes); i++) {
		char length[64];
		const char *body;

		(void)strcpy(folder, "/tmp/check_upload.XXXXXX");
		server.n = 0;
		told_bytes = 0;
		BEGIN(sizes[i], "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}");
		ck_assert_int_eq(upload_send(&upload, &answer), OK);
		ck_assert_int_eq(answer.status, 201);
		ck_assert_str_eq(answer.body, "{}");
		ck_assert_uint_eq(answer.n, 2);
		ck_assert_int_eq(told_bytes, (int64_t)sizes[i]);
		end();
		(void)length;
		(void)body;
	}
}
END_TEST

CHECK_MAIN(upload, { a_file_is_posted_whole_with_its_length_and_type })
