/*
 * stats_thin: removes hours that are older than stats.keep_days, from the thread that takes in the
 * log, a little after each of its passes: so whoever asks waits for one small transaction at most.
 */
#include "stats.h"

#include "lib/clock.h"
#include "lib/log.h"

#define HOUR_US (3600 * CLOCK_SECOND_US)
#define AGAIN_US (60 * CLOCK_SECOND_US) /* after a failure */

static struct {
	struct commit *commit;
	int64_t keep_hours; /* 0: for ever */
	int64_t due_us; /* monotonic */
} thin;

void
thin_open(struct commit *commit, int64_t keep_days)
{
	thin.commit = commit;
	thin.keep_hours = 24 * keep_days;
}

bool
thin_some(void)
{
	bool more = false;
	enum err err;

	if (thin.keep_hours == 0 || clock_monotonic_us() < thin.due_us)
		return false;
	err = counts_thin(thin.commit, clock_now_us() / HOUR_US - thin.keep_hours, &more);
	if (err != OK)
		log_event(LOG_ERROR, "thin", "old hours cannot be removed: %s; it is tried again",
		    err_words());
	if (err != OK || !more)
		thin.due_us = clock_monotonic_us() + (err != OK ? AGAIN_US : HOUR_US);
	return err == OK && more;
}
