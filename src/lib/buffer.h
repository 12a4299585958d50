/*
 * buffer: memory that grows with what is put into it.
 *
 *	struct buffer held = { 0 };
 *	jsonw_open(&w, buffer_write, &held);
 *	...
 *	err = response_write(res, held.bytes, held.n);
 *	buffer_free(&held);
 *
 * It has no bound of its own: who fills it knows one.  Belongs to one thread.
 */
#ifndef CAREDESK_BUFFER_H
#define CAREDESK_BUFFER_H

#include <stddef.h>

#include "lib/err.h"

struct buffer {
	char *bytes; /* NULL before the first */
	size_t n, room;
};

/* A jsonw_sink; BUFFER is a struct buffer.  ERR_BUSY without memory: then it is as it was. */
enum err buffer_write(void *buffer, const char *bytes, size_t n) MUST_CHECK;

/* It is empty then, and may be used again. */
void buffer_free(struct buffer *buffer);

/* The same for any array: ITEMS, which has *ROOM items of SIZE bytes each, with room for COUNT,
 * which is not 0; NULL without memory, and ITEMS is as it was. */
void *buffer_grow(void *items, size_t *room, size_t count, size_t size) MUST_CHECK;

#endif
