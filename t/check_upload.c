#include "test.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/un.h>

#include "lib/upload.h"

#define SOCKET "http.sock"
#define REQUEST_MAX ((size_t)(8 * 1024 * 1024))
#define CREATED "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"

/* A server of one request: takes so many bytes of its body, answers, and closes. */
static struct {
	int fd;
	pthread_t thread;
	size_t wanted;
	const char *answer;
	size_t answer_bytes;
	char *request; /* all that came before the answer */
	size_t n;
	const char *body; /* in it */
} server;

static char folder[64];
static struct upload upload;
static struct upload_answer answer;
static int64_t told_bytes;

static void *
serve_one(void *arg)
{
	int fd = accept(server.fd, NULL, NULL);
	char rest[4096];
	ssize_t n;

	(void)arg;
	while (server.body == NULL ||
	    server.n - (size_t)(server.body - server.request) < server.wanted) {
		n = recv(fd, server.request + server.n, REQUEST_MAX - server.n, 0);
		if (n <= 0)
			break;
		server.n += (size_t)n;
		server.request[server.n] = '\0';
		if (server.body == NULL &&
		    (server.body = strstr(server.request, "\r\n\r\n")) != NULL)
			server.body += 4;
	}
	(void)send(fd, server.answer, server.answer_bytes, MSG_NOSIGNAL);
	(void)shutdown(fd, SHUT_WR);
	/* What still comes is taken and dropped, as nginx does. */
	while (recv(fd, rest, sizeof(rest), 0) > 0)
		;
	(void)close(fd);
	return NULL;
}

static bool
tell(void *ctx, int64_t bytes)
{
	ck_assert_ptr_eq(ctx, &told_bytes);
	ck_assert_int_ge(bytes, told_bytes);
	told_bytes = bytes;
	return true;
}

static char
byte_at(size_t i)
{
	return "abcdefghi\n"[i % 10];
}

/* A file of N bytes. */
static int
make_file(size_t n)
{
	FILE *file = tmpfile();
	int fd;

	ck_assert_ptr_nonnull(file);
	for (size_t i = 0; i < n; i++)
		(void)fputc(byte_at(i), file);
	ck_assert_int_eq(fflush(file), 0);
	ck_assert_int_ge(fd = dup(fileno(file)), 0);
	(void)fclose(file);
	ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

/* N bytes to be sent to a server that answers TEXT after WANTED of them. */
static void
begin(size_t n, size_t wanted, const char *text, size_t text_bytes)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = SOCKET };

	memset(&server, 0, sizeof(server));
	told_bytes = 0;
	(void)snprintf(folder, sizeof(folder), "/tmp/check_upload.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chdir(folder), 0);
	upload = (struct upload){ .url = "http://localhost/events",
		.socket = SOCKET,
		.type = "application/x-ndjson",
		.key = "once",
		.fd = make_file(n),
		.bytes = (int64_t)n,
		.told = tell,
		.ctx = &told_bytes };
	server.wanted = wanted;
	server.answer = text;
	server.answer_bytes = text_bytes;
	ck_assert_ptr_nonnull(server.request = malloc(REQUEST_MAX + 1));
	ck_assert_int_ge(server.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), 0);
	ck_assert_int_eq(bind(server.fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(server.fd, 4), 0);
	ck_assert_int_eq(pthread_create(&server.thread, NULL, serve_one, NULL), 0);
}

/* Sends it; then the server has ended, and what it saw may be looked at. */
static enum err
send_it(void)
{
	enum err err = upload_send(&upload, &answer);

	ck_assert_int_eq(shutdown(server.fd, SHUT_RD), 0); /* if nobody came */
	ck_assert_int_eq(pthread_join(server.thread, NULL), 0);
	return err;
}

static void
end(void)
{
	(void)close(upload.fd);
	(void)close(server.fd);
	(void)unlink(SOCKET);
	ck_assert_int_eq(chdir("/"), 0);
	(void)rmdir(folder);
	free(server.request);
}

START_TEST(a_file_is_posted_whole_with_its_length_and_type)
{
	static const size_t sizes[] = { 0, 1, 11, 65536, 3000001 };
	char length[64];

	for (size_t i = 0; i < COUNT(sizes); i++) {
		begin(sizes[i], sizes[i], CREATED, strlen(CREATED));
		ck_assert_msg(send_it() == OK, "%s", err_words());
		ck_assert_int_eq(answer.status, 201);
		ck_assert_uint_eq(answer.n, 2);
		ck_assert_str_eq(answer.body, "{}");
		ck_assert_int_eq(told_bytes, (int64_t)sizes[i]);
		ck_assert_uint_eq(server.n - (size_t)(server.body - server.request), sizes[i]);
		for (size_t k = 0; k < sizes[i]; k++)
			ck_assert(server.body[k] == byte_at(k));
		(void)snprintf(length, sizeof(length), "\r\nContent-Length: %zu\r\n", sizes[i]);
		ck_assert(strncmp(server.request, "POST /events HTTP/1.1\r\n", 23) == 0);
		ck_assert_ptr_nonnull(strstr(server.request, length));
		ck_assert_ptr_nonnull(
		    strstr(server.request, "\r\nContent-Type: application/x-ndjson\r\n"));
		ck_assert_ptr_nonnull(strstr(server.request, "\r\nHost: localhost\r\n"));
		ck_assert_ptr_null(strstr(server.request, "\r\nExpect:"));
		end();
	}
}
END_TEST

START_TEST(a_file_is_sent_from_where_it_stands)
{
	begin(25, 15, CREATED, strlen(CREATED));
	upload.bytes = 15;
	upload.told = NULL;
	ck_assert_int_eq(lseek(upload.fd, 10, SEEK_SET), 10);
	ck_assert_int_eq(send_it(), OK);
	ck_assert_str_eq(server.body, "abcdefghi\nabcde");
	end();
}
END_TEST

START_TEST(a_whole_answer_of_any_status_is_the_callers)
{
	static const struct {
		const char *text;
		long status;
		const char *body;
	} rows[] = {
		{ "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, "x" },
		{ "HTTP/1.1 204 No Content\r\n\r\n", 204, "" },
		{ "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 302, "" },
		{ "HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\nno", 400, "no" },
		{ "HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
		    503, "no" },
		{ "HTTP/1.1 500 Oh\r\n\r\nuntil closed", 500, "until closed" },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		begin(1000, 1000, rows[i].text, strlen(rows[i].text));
		ck_assert_msg(send_it() == OK, "row %zu: %s", i, err_words());
		ck_assert_int_eq(answer.status, rows[i].status);
		ck_assert_str_eq(answer.body, rows[i].body);
		end();
	}
}
END_TEST

START_TEST(an_answer_before_the_end_stops_the_sending)
{
	const char *text = "HTTP/1.1 413 Large\r\nContent-Length: 2\r\n\r\n{}";

	begin(20000000, 1000, text, strlen(text));
	ck_assert_msg(send_it() == OK, "%s", err_words());
	ck_assert_int_eq(answer.status, 413);
	ck_assert_str_eq(answer.body, "{}");
	end();
}
END_TEST

START_TEST(an_answer_has_at_most_64_kib)
{
	static const struct {
		size_t n;
		enum err err;
	} rows[] = { { UPLOAD_BODY_MAX, OK }, { UPLOAD_BODY_MAX + 1, ERR_UPSTREAM },
		{ 4 * UPLOAD_BODY_MAX, ERR_UPSTREAM } };
	static char text[5 * UPLOAD_BODY_MAX];
	size_t head;

	for (size_t i = 0; i < COUNT(rows); i++) {
		head = (size_t)snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\n\r\n");
		memset(text + head, 'x', rows[i].n);
		begin(10, 10, text, head + rows[i].n);
		ck_assert_int_eq(send_it(), rows[i].err);
		if (rows[i].err == OK)
			ck_assert_uint_eq(answer.n, rows[i].n);
		else
			ck_assert_str_eq(err_words(), "the answer is too large");
		end();
	}
}
END_TEST

START_TEST(what_is_no_whole_answer_is_an_error)
{
	static const char *const texts[] = { "", "HTTP/1.1 2", "nonsense\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nxx",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxx\r\n" };

	for (size_t i = 0; i < COUNT(texts); i++) {
		begin(1000, 1000, texts[i], strlen(texts[i]));
		ck_assert_msg(send_it() == ERR_UPSTREAM, "row %zu", i);
		ck_assert_int_eq(strncmp(err_words(), "no whole answer: ", 17), 0);
		end();
	}
}
END_TEST

START_TEST(where_nobody_listens_is_an_error)
{
	begin(10, 10, CREATED, strlen(CREATED));
	upload.socket = "nope.sock";
	ck_assert_int_eq(send_it(), ERR_UPSTREAM);
	end();
}
END_TEST

START_TEST(only_http_is_spoken)
{
	static const char *const urls[] = { "https://localhost/events", "file:///etc/passwd",
		"ftp://localhost/x", "no url" };

	for (size_t i = 0; i < COUNT(urls); i++) {
		begin(10, 10, CREATED, strlen(CREATED));
		upload.url = urls[i];
		ck_assert_msg(send_it() == ERR_UPSTREAM, "%s", urls[i]);
		ck_assert_uint_eq(server.n, 0);
		end();
	}
}
END_TEST

START_TEST(a_file_that_cannot_be_read_to_its_end_is_an_error)
{
	begin(1000, 2000, CREATED, strlen(CREATED));
	upload.bytes = 2000;
	ck_assert_int_eq(send_it(), ERR_INPUT);
	ck_assert_str_eq(err_words(), "the file became shorter while it was read");
	end();
	begin(1000, 1000, CREATED, strlen(CREATED));
	(void)close(upload.fd);
	ck_assert_int_ge(upload.fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0);
	ck_assert_int_eq(send_it(), ERR_INPUT);
	ck_assert_str_eq(err_words(), "the file cannot be read: Is a directory");
	end();
}
END_TEST

CHECK_MAIN(upload,
    { a_file_is_posted_whole_with_its_length_and_type, a_file_is_sent_from_where_it_stands,
	a_whole_answer_of_any_status_is_the_callers, an_answer_before_the_end_stops_the_sending,
	an_answer_has_at_most_64_kib, what_is_no_whole_answer_is_an_error,
	where_nobody_listens_is_an_error, only_http_is_spoken,
	a_file_that_cannot_be_read_to_its_end_is_an_error })
