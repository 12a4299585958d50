/*
 * peer: what coalesce must do at the least and nothing more: the same calls in parallel by libcurl,
 * kept alive, their bodies read; the first is the answer, unread.  The calls have the same bytes as
 * those of coalesce, but for the trace, which is always one.  No deadline, no circuit, no JSON, no
 * checks of any kind.
 *
 *	peer [--bare] THREADS URL...
 *
 * With --bare it leaves out the fields that coalesce sends: Accept, User-Agent and traceparent.
 */
#include <curl/curl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"

#define BODY_MAX 4096
#define CALLS_MAX 8

struct call {
	CURL *easy;
	size_t n;
	char body[BODY_MAX];
};

/* A thread's own. */
struct lane {
	CURLM *multi;
	struct call calls[CALLS_MAX];
};

static struct curl_slist trace_field = {
	(char[]){ "traceparent: 00-0123456789abcdef0123456789abcdef-0123456789abcdef-00" }, NULL
};
static struct curl_slist accept_field = { (char[]){ "Accept: application/json" }, &trace_field };

static bool bare;
static char **urls;
static int url_count;

static size_t
take_body(char *bytes, size_t size, size_t n, void *arg)
{
	struct call *call = arg;

	n *= size;
	if (n > sizeof(call->body) - call->n)
		return 0;
	memcpy(call->body + call->n, bytes, n);
	call->n += n;
	return n;
}

static void *
lane_open(void)
{
	struct lane *lane = calloc(1, sizeof(*lane));

	if (lane == NULL || (lane->multi = curl_multi_init()) == NULL)
		abort();
	for (int i = 0; i < url_count; i++) {
		CURL *easy = lane->calls[i].easy = curl_easy_init();

		if (easy == NULL || curl_easy_setopt(easy, CURLOPT_URL, urls[i]) != CURLE_OK ||
		    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) != CURLE_OK ||
		    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body) != CURLE_OK ||
		    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &lane->calls[i]) != CURLE_OK)
			abort();
		if (!bare &&
		    (curl_easy_setopt(easy, CURLOPT_USERAGENT, "caredesk") != CURLE_OK ||
			curl_easy_setopt(easy, CURLOPT_HTTPHEADER, &accept_field) != CURLE_OK))
			abort();
	}
	return lane;
}

static void
ask(struct lane *lane)
{
	int running;

	for (int i = 0; i < url_count; i++) {
		lane->calls[i].n = 0;
		(void)curl_multi_add_handle(lane->multi, lane->calls[i].easy);
	}
	while (curl_multi_perform(lane->multi, &running) == CURLM_OK && running > 0)
		(void)curl_multi_poll(lane->multi, NULL, 0, 1000, NULL);
	for (int i = 0; i < url_count; i++)
		(void)curl_multi_remove_handle(lane->multi, lane->calls[i].easy);
}

static void
answer(FCGX_Request *fcgi, void *own)
{
	struct lane *lane = own;
	const struct call *first = &lane->calls[0];

	ask(lane);
	(void)FCGX_FPrintF(fcgi->out,
	    "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n", (int)first->n);
	(void)FCGX_PutStr(first->body, (int)first->n, fcgi->out);
}

int
main(int argc, char **argv)
{
	struct loop loop = { .open = lane_open, .answer = answer };

	if (argc > 1 && strcmp(argv[1], "--bare") == 0) {
		bare = true;
		argc--;
		argv++;
	}
	if (argc < 3 || argc > 2 + CALLS_MAX) {
		(void)fprintf(stderr, "Usage: peer [--bare] THREADS URL...\n");
		return EXIT_FAILURE;
	}
	loop.threads = atoi(argv[1]);
	urls = argv + 2;
	url_count = argc - 2;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
		return EXIT_FAILURE;
	return loop_run(&loop);
}
