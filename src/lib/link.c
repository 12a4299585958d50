#include "lib/link.h"

#include <assert.h>
#include <fcntl.h>
#include <nettle/base64.h>
#include <nettle/md5.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum err
link_secret_read(struct link_secret *secret)
{
	int fd = open(LINK_SECRET_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	/* One more than it has is no secret. */
	ssize_t n = fd >= 0 ? read(fd, secret->text, sizeof(secret->text)) : -1;

	if (fd >= 0)
		(void)close(fd);
	secret->text[LINK_SECRET_SIZE - 1] = '\0';
	if (n != LINK_SECRET_SIZE - 1 ||
	    strspn(secret->text, "0123456789abcdef") != LINK_SECRET_SIZE - 1)
		return fail(ERR_INTERNAL, LINK_SECRET_FILE ": holds no secret");
	return OK;
}

void
link_sign(
    const struct link_secret *secret, const char *path, int64_t expires_s, char out[LINK_SIZE])
{
	char text[LINK_SIZE + LINK_SECRET_SIZE],
	    signature[BASE64_ENCODE_RAW_LENGTH(MD5_DIGEST_SIZE)];
	uint8_t digest[MD5_DIGEST_SIZE];
	struct base64_encode_ctx base64;
	struct md5_ctx md5;
	size_t n;

	assert(strlen(path) <= LINK_PATH_MAX);
	n = (size_t)snprintf(
	    text, sizeof(text), "%lld %s %s", (long long)expires_s, path, secret->text);
	md5_init(&md5);
	md5_update(&md5, n, (const uint8_t *)text);
	md5_digest(&md5, sizeof(digest), digest);
	base64url_encode_init(&base64);
	n = base64_encode_update(&base64, signature, sizeof(digest), digest);
	n += base64_encode_final(&base64, signature + n);
	while (n > 0 && signature[n - 1] == '=')
		n--;
	(void)snprintf(out, LINK_SIZE, "%s?expires=%lld&signature=%.*s", path, (long long)expires_s,
	    (int)n, signature);
}
