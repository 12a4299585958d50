/*
 * The input: two bytes that choose the status and the method, then the body of an upstream's
 * answer.
 */
#include <stdbool.h>
#include <string.h>

#include "coalesce.h"
#include "fuzz.h"
#include "lib/err.h"

#define AMOUNT_MAX INT64_C(100000000000)
#define ANSWERS 5

static const long statuses[] = { 200, 404, 500, 200, 0, 204, 301, 503, 599, 100, 201, -1 };

/* Answers that were seen last, so that inputs are merged with those before them. */
static struct coalesce_answer seen[ANSWERS];
static size_t seen_count;

/* Every merge lies between the least and the greatest value, unless a bound pulls it down. */
static void
check_merge(unsigned choice)
{
	struct conf_method method = { .name = "fuzz" };
	struct coalesce_answer merged;
	int64_t values[FIELD_MAX][ANSWERS], *columns[FIELD_MAX];
	size_t n = seen_count < ANSWERS ? seen_count : ANSWERS;

	for (unsigned f = 0; f < FIELD_MAX; f++) {
		method.merge[f] = (choice >> f) % (MERGE_MAJORITY + 1);
		method.at_most[f] = f > 0 && (choice & 128) != 0 ? (int64_t)f - 1 : -1;
		columns[f] = values[f];
		for (size_t i = 0; i < n; i++)
			values[f][i] = seen[i].values[f];
	}
	coalesce_merge(&method, columns, n, &merged);
	for (int f = 0; f < FIELD_MAX; f++) {
		bool above_least = false, below_greatest = false;

		for (size_t i = 0; i < n; i++) {
			above_least |= merged.values[f] >= seen[i].values[f];
			below_greatest |= merged.values[f] <= seen[i].values[f];
		}
		assert(below_greatest && (above_least || method.at_most[f] >= 0));
		assert(
		    method.at_most[f] < 0 || merged.values[f] <= merged.values[method.at_most[f]]);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct coalesce_answer answer;
	enum upstream_outcome outcome;
	long status;
	size_t count;

	if (n < 2)
		return 0;
	status = statuses[bytes[0] % (sizeof(statuses) / sizeof(statuses[0]))];
	err_clear();
	outcome = coalesce_judge(status, (const char *)bytes + 2, n - 2, &answer);
	/* What is wrong with an upstream is no fault of the request. */
	(void)err_fields(&count);
	assert(count == 0 && err_words()[0] == '\0');
	assert((status == 200 || status == 404) == (outcome != UPSTREAM_STATUS));
	assert(status != 404 || outcome == UPSTREAM_UNKNOWN);
	assert(outcome == UPSTREAM_ANSWERED || outcome == UPSTREAM_UNKNOWN ||
	    outcome == UPSTREAM_STATUS || outcome == UPSTREAM_MALFORMED);
	if (outcome != UPSTREAM_ANSWERED)
		return 0;
	for (int f = 0; f < FIELD_MAX; f++)
		assert(answer.values[f] >= 0 && answer.values[f] <= AMOUNT_MAX);
	seen[seen_count++ % ANSWERS] = answer;
	check_merge(bytes[1]);
	return 0;
}
