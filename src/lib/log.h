/*
 * log: one JSON line a request, one a happening, each by one write(2) to standard error.
 *
 * A line can never be forged: everything variable passes through JSON escaping and is cut at a
 * bound.  Queries, bodies, tokens and names of persons are never given to this module; paths and
 * numbers are.  A line is at most LOG_LINE_MAX bytes, so that the lines of several processes on one
 * pipe do not mix (PIPE_BUF).
 *
 * Any thread.  Errors of writing are ignored: a full log disk must not stop the service.
 */
#ifndef CAREDESK_LOG_H
#define CAREDESK_LOG_H

#include <stdint.h>

#include "lib/err.h"

#define LOG_LINE_MAX 4096
#define LOG_TEXT_MAX 200 /* bytes of any one text from outside; detail has 1,000 */

enum log_level { LOG_INFO, LOG_WARNING, LOG_ERROR };

struct log_access {
	const char *trace_id;
	const char *method;
	const char *route; /* the template, "" where none fits */
	const char *path; /* without its query */
	int status;
	int64_t bytes; /* of the body */
	int64_t us;
	const char *words; /* why, for 5xx; else NULL */
};

/* Names the program in every line.  Once, before threads; PROGRAM must stay. */
void log_open(const char *program);

/* For a command that somebody watches: what goes wrong is said in words, the rest is not.  Likewise
 * once, before threads. */
void log_plain(void);

/* Lines of this thread carry this trace id until it is set anew; NULL for none.  Lent. */
void log_trace(const char *trace_id);

/* EVENT is a word of ours, such as "circuit_opened"; the rest says it to a person. */
void log_event(enum log_level level, const char *event, const char *fmt, ...) PRINTF(3, 4);

void log_access(const struct log_access *line);

#endif
