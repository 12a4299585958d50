/*
 * The input: a file of the access log.  Its lines add up to what each of them is, and its head is
 * that of every longer file that begins so.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "lib/counts.h"

#define BYTES_MAX 32768
#define ROWS_MAX 64
#define ARENA_MAX 65536

static int
order(const struct tally_row *a, const struct tally_row *b)
{
	size_t n = a->path_n < b->path_n ? a->path_n : b->path_n;
	int c = memcmp(a->path, b->path, n);

	if (c != 0 || a->path_n != b->path_n)
		return c != 0 ? c : a->path_n < b->path_n ? -1 : 1;
	if (a->hour != b->hour)
		return a->hour < b->hour ? -1 : 1;
	if (a->method != b->method)
		return a->method - b->method;
	return a->status_class - b->status_class;
}

/* What the hits must add up to. */
struct sums {
	int64_t count, bytes, took_ms;
};

static void
check_rows(struct tally *tally, const struct sums *sums)
{
	struct sums rows = { 0 };
	size_t count;
	const struct tally_row *const *row = tally_rows(tally, &count);

	for (size_t i = 0; i < count; i++) {
		assert(i == 0 || order(row[i - 1], row[i]) < 0);
		assert(row[i]->count > 0 && row[i]->took_max_ms <= row[i]->took_ms);
		assert(row[i]->status_class <= 9 && row[i]->method <= HIT_OPTIONS);
		assert(memmem(row[i]->path, row[i]->path_n, "//", 2) == NULL);
		rows.count += row[i]->count;
		rows.bytes += row[i]->bytes;
		rows.took_ms += row[i]->took_ms;
	}
	assert(rows.count == sums->count && rows.count == tally_count(tally));
	assert(rows.bytes == sums->bytes && rows.took_ms == sums->took_ms);
}

static void
add_lines(struct tally *tally, const char *at, size_t n)
{
	struct sums sums = { 0 };
	struct hit hit;
	const char *end;

	for (; (end = memchr(at, '\n', n)) != NULL; n -= (size_t)(end + 1 - at), at = end + 1) {
		if (tally_is_full(tally)) {
			check_rows(tally, &sums);
			tally_clear(tally);
			sums = (struct sums){ 0 };
		}
		if (!hit_parse(at, (size_t)(end - at), &hit) || !tally_add(tally, &hit))
			continue;
		sums.count++;
		sums.bytes += hit.bytes;
		sums.took_ms += hit.took_ms;
	}
	check_rows(tally, &sums);
	tally_clear(tally);
}

static bool
head_of(int fd, const void *bytes, size_t n, struct counts_log *log, int64_t *begun_s)
{
	bool is_whole;

	assert(ftruncate(fd, 0) == 0 && pwrite(fd, bytes, n, 0) == (ssize_t)n);
	assert(counts_head(fd, log, begun_s, &is_whole) == OK);
	return is_whole;
}

static void
check_head(int fd, const char *bytes, size_t n)
{
	static char longer[BYTES_MAX + 5000];
	struct counts_log log, same;
	int64_t begun_s = -1, again_s = -1;
	bool is_whole = head_of(fd, bytes, n, &log, &begun_s);
	const char *end = memchr(bytes, '\n', n);

	assert(!is_whole || begun_s >= 0);
	assert(is_whole || (end == NULL && begun_s == -1));
	if (!is_whole)
		return;
	memcpy(longer, bytes, n);
	memset(longer + n, 'x', 5000);
	assert(head_of(fd, longer, n + 5000, &same, &again_s) && again_s == begun_s);
	assert(memcmp(log.head, same.head, DIGEST_BYTES) == 0);
	if (end == NULL)
		return;
	/* What stands behind the first line is no part of it; what stands in it is. */
	assert(head_of(fd, bytes, (size_t)(end + 1 - bytes), &same, &again_s));
	assert(memcmp(log.head, same.head, DIGEST_BYTES) == 0 && again_s == begun_s);
	longer[0] ^= 1;
	if (longer[0] != '\n' && end - bytes < 4096 && end > bytes)
		assert(head_of(fd, longer, n, &same, &again_s) &&
		    memcmp(log.head, same.head, DIGEST_BYTES) != 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static struct tally *tally;
	static int fd = -1;
	const char *s = (const char *)bytes;
	char name[64];

	if (n > BYTES_MAX)
		return 0;
	if (fd < 0) {
		fd = memfd_create("log", MFD_CLOEXEC);
		assert(fd >= 0 && tally_open(ROWS_MAX, ARENA_MAX, &tally) == OK);
	}
	err_clear();
	add_lines(tally, s, n);
	check_head(fd, s, n);
	/* A log that was renamed is one whatever follows its name, if that is no compression. */
	memcpy(name, COUNTS_LOG, sizeof(COUNTS_LOG));
	n = n < 40 ? n : 40;
	memcpy(name + strlen(COUNTS_LOG), s, n);
	memcpy(name + strlen(COUNTS_LOG) + n, ".1", 3);
	assert(memchr(s, '\0', n) != NULL || counts_is_log(name));
	memcpy(name + strlen(COUNTS_LOG) + n, ".gz", 4);
	assert(memchr(s, '\0', n) != NULL || !counts_is_log(name));
	assert(!counts_is_log(name + 1) || strncmp(name + 1, COUNTS_LOG, strlen(COUNTS_LOG)) == 0);
	return 0;
}
