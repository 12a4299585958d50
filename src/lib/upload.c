#include "lib/upload.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 5000
#define SEND_BUFFER_BYTES (256 * 1024)
#define FIELD_MAX 128

/* One call while it is under way. */
struct sending {
	const struct upload *upload;
	struct upload_answer *answer;
	int64_t left;
	enum err err; /* of ours, which libcurl only knows as an abort */
};

static size_t
give_file(char *out, size_t size, size_t count, void *ctx)
{
	struct sending *s = ctx;
	size_t room = size * count;
	ssize_t n;

	if ((int64_t)room > s->left)
		room = (size_t)s->left;
	if (room == 0)
		return 0;
	do
		n = read(s->upload->fd, out, room);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		s->err = fail(ERR_INPUT, "the file cannot be read: %m");
	else if (n == 0)
		s->err = fail(ERR_INPUT, "the file became shorter while it was read");
	if (n <= 0)
		return CURL_READFUNC_ABORT;
	s->left -= n;
	return (size_t)n;
}

static size_t
take_answer(char *bytes, size_t size, size_t count, void *ctx)
{
	struct sending *s = ctx;
	struct upload_answer *answer = s->answer;
	size_t n = size * count;

	if (n > UPLOAD_BODY_MAX - answer->n) {
		s->err = fail(ERR_UPSTREAM, "the answer is too large");
		return 0;
	}
	memcpy(answer->body + answer->n, bytes, n);
	answer->n += n;
	answer->body[answer->n] = '\0';
	return n;
}

static int
tell(void *ctx, curl_off_t down_all, curl_off_t down, curl_off_t up_all, curl_off_t up)
{
	const struct sending *s = ctx;

	(void)down_all;
	(void)down;
	(void)up_all;
	return s->upload->told == NULL || s->upload->told(s->upload->ctx, up) ? 0 : 1;
}

/* Whatever libcurl does not know how to set must not be off silently. */
static bool
set_options(CURL *easy, struct sending *s, struct curl_slist *fields)
{
	const struct {
		CURLoption option;
		long value;
	} numbers[] = {
		{ CURLOPT_POST, 1 },
		{ CURLOPT_NOSIGNAL, 1 },
		{ CURLOPT_FOLLOWLOCATION, 0 },
		{ CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1 },
		{ CURLOPT_HTTP09_ALLOWED, 0 },
		{ CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS },
		{ CURLOPT_UPLOAD_BUFFERSIZE, SEND_BUFFER_BYTES },
		{ CURLOPT_NETRC, CURL_NETRC_IGNORED },
		{ CURLOPT_NOPROGRESS, 0 },
	};
	const struct upload *upload = s->upload;
	bool ok = true;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		ok &= curl_easy_setopt(easy, numbers[i].option, numbers[i].value) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http") == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_USERAGENT, "caredesk") == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_URL, upload->url) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, upload->socket) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_HTTPHEADER, fields) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)upload->bytes) ==
	    CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_READFUNCTION, give_file) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_READDATA, s) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_answer) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_WRITEDATA, s) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, tell) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_XFERINFODATA, s) == CURLE_OK;
	return ok;
}

static enum err
perform(CURL *easy, struct sending *s)
{
	CURLcode code = curl_easy_perform(easy);

	if (s->err != OK)
		return s->err;
	if (code != CURLE_OK)
		return fail(ERR_UPSTREAM, "no whole answer: %s", curl_easy_strerror(code));
	(void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &s->answer->status);
	return OK;
}

enum err
upload_send(const struct upload *upload, struct upload_answer *answer)
{
	struct sending s = { .upload = upload, .answer = answer, .left = upload->bytes };
	char type[FIELD_MAX], key[FIELD_MAX];
	char no_expect[] = "Expect:"; /* nobody is asked beforehand whether we may send */
	struct curl_slist fields[] = { { type, &fields[1] }, { key, &fields[2] },
		{ no_expect, NULL } };
	CURL *easy = NULL;
	enum err err;

	answer->status = 0;
	answer->n = 0;
	answer->body[0] = '\0';
	(void)snprintf(type, sizeof(type), "Content-Type: %s", upload->type);
	(void)snprintf(key, sizeof(key), "Idempotency-Key: %s", upload->key);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		easy = curl_easy_init();
	if (easy == NULL || !set_options(easy, &s, fields))
		err = fail(ERR_INTERNAL, "libcurl cannot be used as it must be");
	else
		err = perform(easy, &s);
	curl_easy_cleanup(easy);
	curl_global_cleanup();
	return err;
}
