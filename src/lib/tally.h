/*
 * tally: hits added up by path and hour, in bounded memory, before they are stored.
 *
 *	tally_add(tally, hit)   until tally_is_full()
 *	tally_rows(tally, &n)   what they add up to, in the order in which a store takes them best
 *	tally_clear(tally)
 *
 * A hash table of paths, whose bytes lie in one arena, each with a list of its rows: one for each
 * hour, method and class of status.  One thread.
 */
#ifndef CAREDESK_TALLY_H
#define CAREDESK_TALLY_H

#include "lib/err.h"
#include "lib/hit.h"

struct tally;

/* One path in one hour, by one method and with one class of status. */
struct tally_row {
	const char *path; /* lent, until tally_clear(); no NUL behind it */
	uint32_t path_n;
	uint8_t method, status_class; /* 0..9: the first digit of the status */
	int32_t hour; /* of Unix time */
	int64_t count, bytes, took_ms, took_max_ms;
};

/* Room for so many different rows, and for so many bytes of paths. */
enum err tally_open(size_t rows_max, size_t bytes_max, struct tally **tally) MUST_CHECK;
void tally_close(struct tally *tally);

/* Whether any further hit may find no room. */
bool tally_is_full(const struct tally *tally);

/* False if its path is too long. */
bool tally_add(struct tally *tally, const struct hit *hit);

/* Hits since the last clear. */
int64_t tally_count(const struct tally *tally);

/* All rows, sorted by path, then hour, method and class. */
const struct tally_row *const *tally_rows(struct tally *tally, size_t *count);

void tally_clear(struct tally *tally);

#endif
