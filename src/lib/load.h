/*
 * load: many GET requests through the front door, to paths of the simulated API, and what the
 * statistics made of them (libcurl).
 *
 * A run has three words of three random letters; its paths are /api/ and one to six of them, 1,092
 * in all.  So the requests of a run can be told from all others, and what was sent can be held
 * against what was counted.
 *
 * Any thread, after load_open(); load_run() stays until all is done.
 */
#ifndef CAREDESK_LOAD_H
#define CAREDESK_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/db.h"
#include "lib/err.h"
#include "lib/latency.h"

#define LOAD_IN_FLIGHT 64 /* over as many kept-alive connections */
#define LOAD_WORDS 3
#define LOAD_LETTERS 3
#define LOAD_PATHS (3 + 9 + 27 + 81 + 243 + 729)
#define LOAD_PATH_SIZE 32 /* /api, six times a slash and a word, a NUL */

struct load_words {
	char word[LOAD_WORDS][LOAD_LETTERS + 1];
};

struct load_result {
	int64_t succeeded; /* were answered 200 */
	int64_t failed; /* no answer within 10 s, or another one */
	int64_t took_us;
	struct latency latency; /* of those that succeeded */
};

struct load {
	const char *origin; /* http or https, ADDRESS:PORT: of our own front door */
	struct load_words words;
	int64_t requests;
	/* How it goes, some twenty times a second; false sends no further ones, and waits for those
	 * under way. */
	bool (*told)(void *ctx, const struct load_result *so_far);
	void *ctx;
};

/* Once, before threads. */
void load_open(void);

/* Three different words. */
enum err load_draw(struct load_words *words) MUST_CHECK;

/* Whether a path could be of both. */
bool load_overlaps(const struct load_words *a, const struct load_words *b);

/* Path I of 0..LOAD_PATHS-1. */
void load_path(const struct load_words *words, int i, char out[LOAD_PATH_SIZE]);

/* Requests that fail are part of the result; only our own want of memory is an error. */
enum err load_run(const struct load *load, struct load_result *result) MUST_CHECK;

/* How many requests the statistics have of all the paths. */
enum err load_counted(struct db *db, const struct load_words *words, int64_t *count) MUST_CHECK;

#endif
