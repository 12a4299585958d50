/*
 * coalesce.h: the two steps of coalesce that take no network, for its tests and its fuzz target.
 */
#ifndef CAREDESK_COALESCE_H
#define CAREDESK_COALESCE_H

#include "lib/conf.h"
#include "lib/upstream.h"

struct coalesce_answer {
	int64_t values[FIELD_MAX]; /* cents, 0..10^11 */
};

/* What one upstream's whole HTTP response means; *ANSWER is set if ANSWERED is returned. */
enum upstream_outcome coalesce_judge(
    long status, const char *body, size_t n, struct coalesce_answer *answer);

/* Merges N answers (at least 1), given as one column for each field; puts the columns in another
 * order. */
void coalesce_merge(const struct conf_method *method, int64_t *columns[FIELD_MAX], size_t n,
    struct coalesce_answer *merged);

#endif
