/*
 * floor: a constant answer by libfcgi and as little else as possible.  No program behind nginx and
 * libfcgi can be much faster; ours are held against it.
 */
#include "loop.h"

static void
answer(FCGX_Request *fcgi, void *own)
{
	static const char whole[] =
	    "Content-Type: application/json\r\nContent-Length: 59\r\n\r\n"
	    "{\"oop_max\":20000,\"remaining_oop_max\":9000,\"copay\":50000000}";

	(void)own;
	(void)FCGX_PutStr(whole, (int)sizeof(whole) - 1, fcgi->out);
}

int
main(void)
{
	static const struct loop loop = { .threads = 4, .answer = answer };

	return loop_run(&loop);
}
