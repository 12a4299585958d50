/*
 * embedded: files of the source tree that are part of the executables (build-aux/embed.sh).
 */
#ifndef CAREDESK_EMBEDDED_H
#define CAREDESK_EMBEDDED_H

struct embedded {
	const char *name; /* without its folder; NULL ends a list */
	const char *text;
};

#endif
