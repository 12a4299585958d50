/*
 * link: addresses that open for a while, and are nobody's who was not given one.
 *
 *	/images/7f/7f0c...e1.png?expires=1795320000&signature=n3y...Q
 *
 * nginx tells a good one by itself (ngx_http_secure_link_module): the signature is the MD5 of
 * "EXPIRES PATH SECRET" in base64url.  MD5 serves here since the secret comes last: nobody can go
 *on from a signature to another text, and to find a text with a given MD5 takes 2^123 trials.
 *
 * The secret is made by caredesk run, in a file that nginx's configuration and the programs have it
 * from; without that file no link is valid any more.  Any thread.
 */
#ifndef CAREDESK_LINK_H
#define CAREDESK_LINK_H

#include <stdint.h>

#include "lib/err.h"

#define LINK_SECRET_FILE "run/links"
#define LINK_SECRET_SIZE 65 /* 64 hex digits and a NUL */
#define LINK_PATH_MAX 128
#define LINK_SIZE (LINK_PATH_MAX + 64)

struct link_secret {
	char text[LINK_SECRET_SIZE];
};

/* The secret that is there. */
enum err link_secret_read(struct link_secret *secret) MUST_CHECK;

/* PATH, of at most LINK_PATH_MAX bytes, with its query; it opens until EXPIRES_S (Unix time). */
void link_sign(
    const struct link_secret *secret, const char *path, int64_t expires_s, char out[LINK_SIZE]);

#endif
