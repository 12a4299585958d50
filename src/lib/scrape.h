/*
 * scrape: the metrics as an answer, and those of several programs as one text.
 *
 * In the text format a family stands once, with all its samples behind it.  So texts are merged by
 * family: the head from the first text that has it, the samples from each in turn.
 *
 * Any thread.
 */
#ifndef CAREDESK_SCRAPE_H
#define CAREDESK_SCRAPE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"
#include "lib/metrics.h"
#include "lib/request.h"
#include "lib/response.h"

/* What routes say that they produce, and what they send. */
#define SCRAPE_PRODUCES "text/plain"
#define SCRAPE_TYPE SCRAPE_PRODUCES "; version=0.0.4; charset=utf-8"

/* The handler of /metrics/PROGRAM, in every program. */
enum err scrape_answer(struct request *req, struct response *res);

struct scrape_text {
	const char *s;
	size_t n;
};

/* Whether it is a whole text as metrics_write() makes them: heads and samples, by lines. */
bool scrape_is_whole(const struct scrape_text *text);

/* Texts that are whole, or empty. */
enum err scrape_merge(
    const struct scrape_text *texts, size_t count, metrics_sink sink, void *ctx) MUST_CHECK;

#endif
