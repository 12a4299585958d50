#include "lib/buffer.h"

#include <stdlib.h>
#include <string.h>

#define LEAST_BYTES 512 /* a short answer */

void *
buffer_grow(void *items, size_t *room, size_t count, size_t size)
{
	size_t more = *room == 0 ? LEAST_BYTES / size : 2 * *room;
	void *grown;

	if (count <= *room)
		return items;
	if (more < count)
		more = count;
	if ((grown = reallocarray(items, more, size)) != NULL)
		*room = more;
	return grown;
}

enum err
buffer_write(void *buffer, const char *bytes, size_t n)
{
	struct buffer *b = buffer;
	char *grown;

	if (n == 0)
		return OK;
	if ((grown = buffer_grow(b->bytes, &b->room, b->n + n, 1)) == NULL)
		return fail(ERR_BUSY, "no memory for more bytes");
	b->bytes = grown;
	memcpy(b->bytes + b->n, bytes, n);
	b->n += n;
	return OK;
}

void
buffer_free(struct buffer *buffer)
{
	free(buffer->bytes);
	*buffer = (struct buffer){ 0 };
}
