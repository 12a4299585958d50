/*
 * digest: BLAKE2b of 32 bytes (RFC 7693), by libsodium.
 *
 * Tells equal requests from different ones; not a secret, not a signature.  Any thread.
 */
#ifndef CAREDESK_DIGEST_H
#define CAREDESK_DIGEST_H

#include <stddef.h>

#define DIGEST_BYTES 32

/* One being made; opaque, with libsodium's alignment. */
struct digest {
	_Alignas(64) unsigned char state[384];
};

/* Of N bytes at once. */
void digest_of(const void *bytes, size_t n, unsigned char out[DIGEST_BYTES]);

void digest_begin(struct digest *d);
void digest_add(struct digest *d, const void *bytes, size_t n);
void digest_end(struct digest *d, unsigned char out[DIGEST_BYTES]);

#endif
