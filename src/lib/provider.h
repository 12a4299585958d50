/*
 * provider: the set of keys at the URL of the identity provider, fetched and kept on disk.
 *
 * One program of the house fetches, in a thread of its own, and all read the copy (keyring); so
 * none of the others speaks to the network for it, and a start while the provider is away finds the
 * last good set.  It is fetched when it is 10 minutes old, and before that if somebody wants it,
 * but never twice within 30 seconds.  What is no good set changes nothing.
 *
 * provider_open() after root is given up, provider_close() before the rest is closed.
 */
#ifndef CAREDESK_PROVIDER_H
#define CAREDESK_PROVIDER_H

#include "lib/conf.h"
#include "lib/err.h"

#define PROVIDER_FRESH_S 600
#define PROVIDER_WITHIN_S 10

/* Does nothing where no URL is configured.  CONF must stay. */
enum err provider_open(const struct conf *conf) MUST_CHECK;
void provider_close(void);

#endif
