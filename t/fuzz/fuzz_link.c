/*
 * The input: when a link ends (eight bytes), a path.  What is signed is read by nginx; so it is
 * held against what nginx is told to compute.
 */
#include <nettle/base64.h>
#include <nettle/md5.h>
#include <stdio.h>
#include <string.h>

#include "fuzz.h"
#include "lib/link.h"
#include "lib/request.h"
#include "lib/text.h"

static const struct link_secret secret = {
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
};

/* The digest that nginx makes of what it finds in the link: its two arguments as they stand, and
 * the path decoded. */
static void
check_signature(const struct request *req, const char *path)
{
	char text[2 * LINK_SIZE];
	uint8_t expected[MD5_DIGEST_SIZE], given[BASE64_DECODE_LENGTH(24)];
	struct base64_decode_ctx base64;
	struct request_text signature;
	struct md5_ctx md5;
	size_t n = sizeof(given);
	bool found;

	n = (size_t)snprintf(text, sizeof(text), "%s %s %s",
	    request_param(req, "expires", &found).s, path, secret.text);
	assert(found);
	md5_init(&md5);
	md5_update(&md5, n, (const uint8_t *)text);
	md5_digest(&md5, sizeof(expected), expected);
	signature = request_param(req, "signature", &found);
	assert(found && signature.n == 22 && text_is_base64url(signature.s, signature.n));
	(void)snprintf(text, sizeof(text), "%s==", signature.s);
	base64url_decode_init(&base64);
	n = sizeof(given);
	assert(base64_decode_update(&base64, &n, given, 24, text) && n == MD5_DIGEST_SIZE);
	assert(memcmp(expected, given, sizeof(expected)) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static struct request req;
	char path[LINK_PATH_MAX + 1] = "/", link[LINK_SIZE], other[LINK_SIZE];
	char uri[LINK_SIZE + 16];
	char *const meta[] = { uri, NULL };
	const struct request_source source = { meta, NULL, NULL };
	int64_t expires_s, read_s;
	bool found;

	if (n < sizeof(expires_s))
		return 0;
	memcpy(&expires_s, bytes, sizeof(expires_s));
	expires_s &= INT64_MAX;
	bytes += sizeof(expires_s);
	n -= sizeof(expires_s);
	n = n < LINK_PATH_MAX - 1 ? n : LINK_PATH_MAX - 1;
	/* As our own paths are: of these characters only. */
	for (size_t i = 0; i < n; i++)
		path[1 + i] = "0123456789abcdef/.-pngj"[bytes[i] % 23];
	path[1 + n] = '\0';
	link_sign(&secret, path, expires_s, link);
	assert(strncmp(link, path, n + 1) == 0 && strlen(link) < LINK_SIZE);
	(void)snprintf(uri, sizeof(uri), "REQUEST_URI=%s", link);
	err_clear();
	if (request_begin(&req, &source) != OK)
		return 0; /* a path with .. in it */
	request_param_int(&req, "expires", 0, INT64_MAX, &read_s, &found);
	assert(found && read_s == expires_s && req.param_count == 2);
	check_signature(&req, path);
	link_sign(&secret, path, expires_s ^ 1, other);
	assert(strcmp(strstr(link, "&signature="), strstr(other, "&signature=")) != 0);
	return 0;
}
