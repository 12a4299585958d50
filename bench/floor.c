/*
 * floor: a constant answer by libfcgi and as little else as possible.  No program behind nginx and
 * libfcgi can be much faster; ours are held against it.
 *
 *	floor [BYTES]	of the body
 */
#include "loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n"
#define BODY "{\"oop_max\":20000,\"remaining_oop_max\":9000,\"copay\":50000000}"

static char whole[1 << 20];
static int whole_bytes;

/* Or it would be taken for the next request of the connection. */
static void
read_body(FCGX_Request *fcgi)
{
	char bytes[4096];

	while (FCGX_GetStr(bytes, sizeof(bytes), fcgi->in) > 0)
		;
}

static void
answer(FCGX_Request *fcgi, void *own)
{
	const char *length = FCGX_GetParam("CONTENT_LENGTH", fcgi->envp);

	(void)own;
	if (length != NULL && length[0] != '\0')
		read_body(fcgi);
	(void)FCGX_PutStr(whole, whole_bytes, fcgi->out);
}

int
main(int argc, char **argv)
{
	static const struct loop loop = { .threads = 4, .answer = answer };
	size_t bytes = argc > 1 ? (size_t)atol(argv[1]) : sizeof(BODY) - 1;
	size_t head = (size_t)snprintf(whole, sizeof(whole), HEAD, bytes);

	if (bytes > sizeof(whole) - head)
		return EXIT_FAILURE;
	memset(whole + head, ' ', bytes);
	memcpy(whole + head, BODY, bytes < sizeof(BODY) - 1 ? bytes : sizeof(BODY) - 1);
	whole_bytes = (int)(head + bytes);
	return loop_run(&loop);
}
