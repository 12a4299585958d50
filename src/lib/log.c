#include "lib/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/text.h"

#define DETAIL_MAX 1000

#define RESERVE 64 /* always left for the ends of what was begun */

/* A line being made; a member that does not fit is left out, so the line is always whole JSON. */
struct line {
	size_t used;
	char bytes[LOG_LINE_MAX];
};

static const char *program_name = "caredesk";
static bool plain;
static _Thread_local const char *trace;

static const char *const level_names[] = { "info", "warning", "error" };

static void
put(struct line *line, const char *s, size_t n)
{
	memcpy(line->bytes + line->used, s, n);
	line->used += n;
}

static bool
put_name(struct line *line, const char *name)
{
	size_t n = strlen(name);

	if (line->used + n + RESERVE > sizeof(line->bytes))
		return false;
	put(line, name, n);
	return true;
}

static void
put_text(struct line *line, const char *name, const char *value, size_t max)
{
	size_t used;

	if (!put_name(line, name))
		return;
	line->used += text_json_escape(value, strnlen(value, max), line->bytes + line->used,
	    sizeof(line->bytes) - RESERVE - line->used, &used);
	put(line, "\"", 1);
}

/* VALUE / 10^DECIMALS, written out. */
static void
put_number(struct line *line, const char *name, int64_t value, int decimals)
{
	char digits[24];
	char *end = digits + sizeof(digits), *p = end;
	uint64_t v = (uint64_t)value;

	if (!put_name(line, name))
		return;
	do {
		if (decimals > 0 && end - p == decimals)
			*--p = '.';
		*--p = (char)('0' + v % 10);
	} while ((v /= 10) != 0 || (decimals > 0 && end - p <= decimals + 1));
	put(line, p, (size_t)(end - p));
}

static void
begin(struct line *line, enum log_level level)
{
	char now[CLOCK_TEXT_SIZE];

	clock_text(clock_now_us(), now);
	line->used = 0;
	put(line, "{\"time\":\"", 9);
	put(line, now, CLOCK_TEXT_SIZE - 1);
	put_text(line, "\",\"level\":\"", level_names[level], LOG_TEXT_MAX);
	put_text(line, ",\"program\":\"", program_name, LOG_TEXT_MAX);
}

static void
write_line(const struct line *line)
{
	if (write(STDERR_FILENO, line->bytes, line->used) < 0) {
		/* Nowhere is left to say so. */
	}
}

static void
end(struct line *line)
{
	put(line, "}\n", 2);
	write_line(line);
}

void
log_open(const char *program)
{
	program_name = program;
}

void
log_plain(void)
{
	plain = true;
}

void
log_trace(const char *trace_id)
{
	trace = trace_id;
}

/* As words on a terminal, where control bytes would be obeyed. */
static void
say(enum log_level level, const char *detail)
{
	struct line line = { 0 };
	size_t used;

	if (level == LOG_INFO)
		return;
	put(&line, program_name, strlen(program_name));
	put(&line, ": ", 2);
	line.used += text_json_escape(detail, strlen(detail), line.bytes + line.used,
	    sizeof(line.bytes) - RESERVE - line.used, &used);
	put(&line, "\n", 1);
	write_line(&line);
}

void
log_event(enum log_level level, const char *event, const char *fmt, ...)
{
	struct line line;
	char detail[DETAIL_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(detail, sizeof(detail), fmt, ap);
	va_end(ap);
	if (plain) {
		say(level, detail);
		return;
	}
	begin(&line, level);
	put_text(&line, ",\"event\":\"", event, LOG_TEXT_MAX);
	if (trace != NULL)
		put_text(&line, ",\"trace_id\":\"", trace, LOG_TEXT_MAX);
	put_text(&line, ",\"detail\":\"", detail, DETAIL_MAX);
	end(&line);
}

void
log_access(const struct log_access *access)
{
	struct line line;

	begin(&line, access->status >= 500 ? LOG_ERROR : LOG_INFO);
	put_text(&line, ",\"event\":\"", "request", LOG_TEXT_MAX);
	put_text(&line, ",\"trace_id\":\"", access->trace_id, LOG_TEXT_MAX);
	put_text(&line, ",\"method\":\"", access->method, LOG_TEXT_MAX);
	put_text(&line, ",\"route\":\"", access->route, LOG_TEXT_MAX);
	put_text(&line, ",\"path\":\"", access->path, LOG_TEXT_MAX);
	put_number(&line, ",\"status\":", access->status, 0);
	put_number(&line, ",\"bytes\":", access->bytes, 0);
	put_number(&line, ",\"ms\":", access->us, 3);
	if (access->words != NULL)
		put_text(&line, ",\"detail\":\"", access->words, DETAIL_MAX);
	end(&line);
}
