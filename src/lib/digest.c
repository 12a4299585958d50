#include "lib/digest.h"

#include <assert.h>
#include <sodium.h>

_Static_assert(
    sizeof(crypto_generichash_state) <= sizeof(((struct digest *)0)->state), "room for libsodium");

static crypto_generichash_state *
state_of(struct digest *d)
{
	return (crypto_generichash_state *)(void *)d->state;
}

void
digest_begin(struct digest *d)
{
	int done = crypto_generichash_init(state_of(d), NULL, 0, DIGEST_BYTES);

	assert(done == 0);
	(void)done;
}

void
digest_add(struct digest *d, const void *bytes, size_t n)
{
	(void)crypto_generichash_update(state_of(d), bytes, n);
}

void
digest_end(struct digest *d, unsigned char out[DIGEST_BYTES])
{
	(void)crypto_generichash_final(state_of(d), out, DIGEST_BYTES);
}

void
digest_of(const void *bytes, size_t n, unsigned char out[DIGEST_BYTES])
{
	struct digest digest;

	digest_begin(&digest);
	digest_add(&digest, bytes, n);
	digest_end(&digest, out);
}
