/*
 * The input: an Idempotency-Key, a line's end, a target, a line's end, a body.  Two requests have
 * one digest just where they are the same, however their bodies come.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "lib/answer.h"

#define LINE_MAX 700

struct asked {
	struct request req;
	struct answer answer;
	char meta[4][LINE_MAX + 64];
	unsigned char digest[DIGEST_BYTES];
};

/* The next line, without its end, behind NAME=; what is left is in *AT. */
static void
put_line(char *out, const char *name, const uint8_t **at, size_t *left)
{
	const uint8_t *end = memchr(*at, '\n', *left);
	size_t n = end != NULL ? (size_t)(end - *at) : *left, step = n + (end != NULL);

	(void)snprintf(out, LINE_MAX + 64, "%s=%.*s", name, (int)(n < LINE_MAX ? n : LINE_MAX),
	    (const char *)*at);
	*at += step;
	*left -= step;
}

static enum err
begin(struct asked *asked, const char *method, const char *type, const char *key, const char *uri)
{
	char *const meta[] = { asked->meta[0], asked->meta[1], asked->meta[2], asked->meta[3],
		NULL };
	const struct request_source source = { meta, NULL, NULL };

	(void)snprintf(asked->meta[0], sizeof(asked->meta[0]), "REQUEST_METHOD=%s", method);
	(void)snprintf(asked->meta[1], sizeof(asked->meta[1]), "CONTENT_TYPE=%s", type);
	(void)snprintf(asked->meta[2], sizeof(asked->meta[2]), "%s", key);
	(void)snprintf(asked->meta[3], sizeof(asked->meta[3]), "%s", uri);
	err_clear();
	return request_begin(&asked->req, &source);
}

/* Takes the key and the body, in pieces of MOST bytes. */
static enum err
digest(struct asked *asked, const uint8_t *body, size_t n, size_t most)
{
	enum err err;

	err_clear();
	asked->req.who = WHO_ANYONE;
	err = answer_open(&asked->req, &asked->answer);
	if (err != OK || asked->answer.key[0] == '\0')
		return err;
	for (size_t at = 0; at < n; at += most)
		answer_digest(&asked->answer, body + at, n - at < most ? n - at : most);
	digest_end(&asked->answer.digesting, asked->digest);
	return OK;
}

/* Whether a key may be taken, as the contract has it. */
static bool
is_key(const char *s)
{
	size_t n = strlen(s);

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] <= ' ' || (unsigned char)s[i] >= 0x7f)
			return false;
	return n <= 128;
}

static bool
differs(const struct asked *a, const struct asked *b)
{
	return memcmp(a->digest, b->digest, DIGEST_BYTES) != 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static struct asked first, second;
	char key[LINE_MAX + 64], uri[LINE_MAX + 64], longer[LINE_MAX + 64 + 2];
	const uint8_t *at = bytes;

	put_line(key, "HTTP_IDEMPOTENCY_KEY", &at, &n);
	put_line(uri, "REQUEST_URI", &at, &n);
	if (begin(&first, "POST", "application/json", key, uri) != OK)
		return 0;
	if (digest(&first, at, n, 7) != OK) {
		assert(!is_key(first.req.idempotency_key) && err_pending() == ERR_INPUT);
		return 0;
	}
	assert(is_key(first.req.idempotency_key));
	assert(strcmp(first.answer.key, first.req.idempotency_key) == 0);
	if (first.answer.key[0] == '\0')
		return 0;
	/* The same at once, and with a slash at its end. */
	(void)begin(&second, "POST", "application/json", key, uri);
	assert(digest(&second, at, n, n + 1) == OK && !differs(&first, &second));
	(void)snprintf(longer, sizeof(longer), "%.*s/", (int)strcspn(uri, "?"), uri);
	if (begin(&second, "POST", "application/json", key, longer) == OK)
		assert(digest(&second, at, n, n + 1) == OK && !differs(&first, &second));
	/* Another kind, another body, another path. */
	(void)begin(&second, "POST", "multipart/form-data", key, uri);
	assert(digest(&second, at, n, n + 1) == OK && differs(&first, &second));
	(void)begin(&second, "POST", "application/json", key, uri);
	if (n > 0)
		assert(digest(&second, at, n - 1, n) == OK && differs(&first, &second));
	(void)snprintf(longer, sizeof(longer), "%.*s/x", (int)strcspn(uri, "?"), uri);
	if (begin(&second, "POST", "application/json", key, longer) == OK)
		assert(digest(&second, at, n, n + 1) == OK && differs(&first, &second));
	/* Another method needs no key. */
	(void)begin(&second, "PUT", "application/json", key, uri);
	assert(digest(&second, at, n, n + 1) == OK && second.answer.key[0] == '\0');
	return 0;
}
