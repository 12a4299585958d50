/*
 * programs: the names of all programs of the house; each is an executable, a source file, a nginx
 * template, a socket and a path under /healthz/ and /metrics/.  One of the two lists a new resource
 * is added to; the other is Makefile.am.
 */
#ifndef CAREDESK_PROGRAMS_H
#define CAREDESK_PROGRAMS_H

#define PROGRAMS "accounts", "audios", "coalesce", "events", "health", "report", "stats"

static const char *const program_names[] = { PROGRAMS };

#define PROGRAM_COUNT (sizeof(program_names) / sizeof(program_names[0]))

/* Where the programs' sockets and nginx's own private one are, relative to the data folder. */
#define PROGRAM_SOCKET_FORMAT "run/%s.sock"
#define HTTP_SOCKET "run/http.sock"

#endif
