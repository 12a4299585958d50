/*
 * progress: how far a command is, and how long it will take on.
 */
#include <unistd.h>

#include "caredesk.h"
#include "lib/clock.h"

#define TERMINAL_EVERY_US (CLOCK_SECOND_US / 10)
#define LINE_EVERY_US (5 * CLOCK_SECOND_US)
#define NUMBER_SIZE 32
#define PART_SIZE 128

void
progress_begin(struct progress *p, const char *what, const char *unit, int64_t total)
{
	*p = (struct progress){
		.what = what,
		.unit = unit,
		.total = total,
		.begun_us = clock_monotonic_us(),
		.terminal = isatty(STDERR_FILENO) == 1,
	};
	p->shown_us = p->begun_us;
}

/* With a comma before every three digits. */
static const char *
number(int64_t value, char out[NUMBER_SIZE])
{
	char *p = out + NUMBER_SIZE;
	int digits = 0;

	*--p = '\0';
	do {
		if (digits > 0 && digits % 3 == 0)
			*--p = ',';
		*--p = (char)('0' + value % 10);
		digits++;
	} while ((value /= 10) > 0);
	return p;
}

static void
say(const struct progress *p, int64_t done, int64_t took_us)
{
	char a[NUMBER_SIZE], b[NUMBER_SIZE], c[NUMBER_SIZE], share[NUMBER_SIZE] = "";
	char count[PART_SIZE] = "", left[PART_SIZE] = "";
	int64_t rate =
	    took_us > 0 ? (int64_t)((double)done * CLOCK_SECOND_US / (double)took_us) : 0;

	if (p->total > 0)
		(void)snprintf(share, sizeof(share), "  %d %%", (int)(100 * done / p->total));
	if (p->unit != NULL)
		(void)snprintf(count, sizeof(count), "  %s%s%s %s  %s/s", number(done, a),
		    p->total > 0 ? " of " : "", p->total > 0 ? number(p->total, b) : "", p->unit,
		    number(rate, c));
	if (p->total > done && rate > 0)
		(void)snprintf(
		    left, sizeof(left), "  %s s left", number((p->total - done) / rate + 1, a));
	/* The rest of a longer line before is erased. */
	(void)fprintf(stderr, "%s%s%s%s%s%s", p->terminal ? "\r" : "", p->what, share, count, left,
	    p->terminal ? "\033[K" : "\n");
}

void
progress_told(void *ctx, int64_t done)
{
	struct progress *p = ctx;
	int64_t now_us = clock_monotonic_us();

	if (now_us - p->shown_us < (p->terminal ? TERMINAL_EVERY_US : LINE_EVERY_US))
		return;
	p->shown_us = now_us;
	say(p, done, now_us - p->begun_us);
	(void)fflush(stderr);
	p->on_line = p->terminal;
}

void
progress_end(struct progress *p)
{
	if (p->on_line)
		(void)fprintf(stderr, "\r\033[K");
	p->on_line = false;
}
