#include "lib/tally.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define HOUR_S 3600
#define NONE UINT32_MAX

/* Rows of one bucket, one behind the other. */
struct entry {
	struct tally_row row;
	uint64_t hash; /* of the path */
	uint32_t next;
};

struct sorted {
	uint64_t key; /* the bytes of the path in which it may differ from others, as a number */
	const struct tally_row *row;
};

struct tally {
	size_t rows_max, bytes_max, bucket_count; /* a power of two */
	size_t row_count, bytes_used;
	int64_t count;
	unsigned char key[crypto_shorthash_KEYBYTES]; /* so that nobody can choose what collides */
	struct entry *entries;
	uint32_t *buckets;
	struct sorted *sorted;
	const struct tally_row **rows;
	char *bytes;
};

enum err
tally_open(size_t rows_max, size_t bytes_max, struct tally **out)
{
	struct tally *tally = calloc(1, sizeof(*tally));

	*out = NULL;
	if (tally == NULL)
		return fail(ERR_BUSY, "no memory for a tally");
	tally->rows_max = rows_max;
	tally->bytes_max = bytes_max;
	for (tally->bucket_count = 1; tally->bucket_count < rows_max;)
		tally->bucket_count *= 2;
	tally->entries = malloc(rows_max * sizeof(tally->entries[0]));
	tally->buckets = malloc(tally->bucket_count * sizeof(tally->buckets[0]));
	tally->sorted = malloc(rows_max * sizeof(tally->sorted[0]));
	tally->rows = malloc(rows_max * sizeof(tally->rows[0]));
	tally->bytes = malloc(bytes_max);
	if (sodium_init() < 0 || tally->entries == NULL || tally->buckets == NULL ||
	    tally->sorted == NULL || tally->rows == NULL || tally->bytes == NULL) {
		tally_close(tally);
		return fail(ERR_BUSY, "no memory for a tally");
	}
	crypto_shorthash_keygen(tally->key);
	tally_clear(tally);
	*out = tally;
	return OK;
}

void
tally_close(struct tally *tally)
{
	if (tally == NULL)
		return;
	free(tally->entries);
	free(tally->buckets);
	free(tally->sorted);
	free(tally->rows);
	free(tally->bytes);
	free(tally);
}

bool
tally_is_full(const struct tally *tally)
{
	return tally->row_count == tally->rows_max ||
	    tally->bytes_max - tally->bytes_used < HIT_PATH_MAX;
}

static bool
same_path(const struct tally_row *row, const char *path, size_t n)
{
	return row->path_n == n && memcmp(row->path, path, n) == 0;
}

/* The row of what is in WANTED, which has its path behind what is used of the bytes: a new one
 * keeps it there. */
static struct tally_row *
find(struct tally *tally, const struct tally_row *wanted)
{
	uint64_t hash;
	uint32_t *at;
	const char *path = wanted->path;
	struct entry *entry;

	(void)crypto_shorthash(
	    (unsigned char *)&hash, (const unsigned char *)path, wanted->path_n, tally->key);
	at = &tally->buckets[hash & (tally->bucket_count - 1)];
	for (uint32_t i = *at; i != NONE; i = entry->next) {
		entry = &tally->entries[i];
		if (entry->hash != hash || !same_path(&entry->row, wanted->path, wanted->path_n))
			continue;
		path = entry->row.path;
		if (entry->row.hour == wanted->hour && entry->row.method == wanted->method &&
		    entry->row.status_class == wanted->status_class)
			return &entry->row;
	}
	entry = &tally->entries[tally->row_count];
	entry->row = *wanted;
	entry->row.path = path;
	entry->hash = hash;
	entry->next = *at;
	*at = (uint32_t)tally->row_count++;
	if (path == wanted->path)
		tally->bytes_used += wanted->path_n;
	return &entry->row;
}

bool
tally_add(struct tally *tally, const struct hit *hit)
{
	char *path = tally->bytes + tally->bytes_used;
	long n = hit_path(hit, path);
	struct tally_row *row;

	assert(!tally_is_full(tally));
	if (n < 0)
		return false;
	row = find(tally,
	    &(struct tally_row){ .path = path,
		.path_n = (uint32_t)n,
		.method = (uint8_t)hit->method,
		.status_class = (uint8_t)(hit->status / 100),
		.hour = (int32_t)(hit->at_s / HOUR_S) });
	row->count++;
	row->bytes += hit->bytes;
	row->took_ms += hit->took_ms;
	if (hit->took_ms > row->took_max_ms)
		row->took_max_ms = hit->took_ms;
	tally->count++;
	return true;
}

int64_t
tally_count(const struct tally *tally)
{
	return tally->count;
}

/* What is compared of a path before all of it is. */
static uint64_t
key_of(const struct tally_row *row, size_t from)
{
	uint64_t key = 0;

	for (size_t i = from; i < from + sizeof(key); i++)
		key = key << 8 | (i < row->path_n ? (unsigned char)row->path[i] : 0);
	return key;
}

/* How many bytes all paths begin with alike. */
static size_t
common_prefix(const struct tally *tally)
{
	const struct tally_row *first = &tally->entries[0].row;
	size_t common = first->path_n;

	for (size_t i = 1; i < tally->row_count; i++) {
		const struct tally_row *row = &tally->entries[i].row;
		size_t n = 0, end = row->path_n < common ? row->path_n : common;

		while (n < end && row->path[n] == first->path[n])
			n++;
		common = n;
	}
	return common;
}

static int
order_rows(const struct tally_row *x, const struct tally_row *y)
{
	size_t n = x->path_n < y->path_n ? x->path_n : y->path_n;
	int sign = x->path == y->path ? 0 : memcmp(x->path, y->path, n);

	if (sign != 0)
		return sign;
	if (x->path_n != y->path_n)
		return x->path_n < y->path_n ? -1 : 1;
	if (x->hour != y->hour)
		return x->hour < y->hour ? -1 : 1;
	if (x->method != y->method)
		return x->method - y->method;
	return x->status_class - y->status_class;
}

static int
order(const void *a, const void *b)
{
	const struct sorted *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return order_rows(x->row, y->row);
}

const struct tally_row *const *
tally_rows(struct tally *tally, size_t *count)
{
	size_t common = tally->row_count > 0 ? common_prefix(tally) : 0;

	for (size_t i = 0; i < tally->row_count; i++) {
		const struct tally_row *row = &tally->entries[i].row;

		tally->sorted[i] = (struct sorted){ key_of(row, common), row };
	}
	qsort(tally->sorted, tally->row_count, sizeof(tally->sorted[0]), order);
	for (size_t i = 0; i < tally->row_count; i++)
		tally->rows[i] = tally->sorted[i].row;
	*count = tally->row_count;
	return tally->rows;
}

void
tally_clear(struct tally *tally)
{
	memset(tally->buckets, 0xff, tally->bucket_count * sizeof(tally->buckets[0]));
	tally->row_count = 0;
	tally->bytes_used = 0;
	tally->count = 0;
}
