/*
 * report_cache: short reports kept as they were sent (see report.h).
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

#define SLOTS 4096 /* a report may lie in one of them only; a power of two */
#define BYTES_MAX ((size_t)8 * 1024 * 1024)

struct slot {
	struct cache_key key;
	char *body; /* NULL: empty */
	size_t n;
};

static struct {
	pthread_mutex_t lock;
	char version[LEDGER_VERSION_SIZE]; /* of all that is in it */
	size_t bytes;
	struct slot slots[SLOTS];
} cache = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct slot *
slot_of(const struct cache_key *key)
{
	uint32_t at;

	memcpy(&at, key->digest, sizeof(at));
	return &cache.slots[at & (SLOTS - 1)];
}

static void
empty(struct slot *slot)
{
	cache.bytes -= slot->n;
	free(slot->body);
	slot->body = NULL;
	slot->n = 0;
}

static void
empty_all(void)
{
	for (size_t i = 0; i < SLOTS; i++)
		empty(&cache.slots[i]);
}

size_t
cache_find(const char *version, const struct cache_key *key, char *body, size_t room)
{
	const struct slot *slot = slot_of(key);
	size_t n = 0;

	(void)pthread_mutex_lock(&cache.lock);
	if (slot->body != NULL && slot->n <= room && strcmp(cache.version, version) == 0 &&
	    memcmp(&slot->key, key, sizeof(*key)) == 0) {
		n = slot->n;
		memcpy(body, slot->body, n);
	}
	(void)pthread_mutex_unlock(&cache.lock);
	return n;
}

void
cache_keep(const char *version, const struct cache_key *key, const char *body, size_t n)
{
	struct slot *slot = slot_of(key);
	char *copy = malloc(n);

	if (copy == NULL)
		return;
	memcpy(copy, body, n);
	(void)pthread_mutex_lock(&cache.lock);
	if (strcmp(cache.version, version) != 0 || cache.bytes + n > BYTES_MAX)
		empty_all();
	memcpy(cache.version, version, strlen(version) + 1);
	empty(slot);
	*slot = (struct slot){ *key, copy, n };
	cache.bytes += n;
	(void)pthread_mutex_unlock(&cache.lock);
}

void
cache_close(void)
{
	(void)pthread_mutex_lock(&cache.lock);
	empty_all();
	(void)pthread_mutex_unlock(&cache.lock);
}
