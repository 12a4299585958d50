/*
 * The input: a request target, and behind a line feed what is accepted; a target that begins with
 * no slash is a query of the list.
 *
 * The database is made once, in a folder of its own where the program's threads stay: the thread
 * that fuzzes goes there and back, since a fuzzer's own files are named from where it began.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "asked.h"
#include "lib/jsonr.h"
#include "lib/serve.h"
#include "stats.h"

static int home, folder; /* where the fuzzer is, and the program */
static char folder_name[] = "/tmp/fuzz_stats.XXXXXX";
static struct conf *conf;

static void
write_log(void)
{
	static const char *const paths[] = { "", "/", "/a", "/a/b", "/a%20b", "/%FF\xfe",
		"/\xc3\xa5", "/\\\"q\\\\", "=1+1", "/b?c&d" };
	FILE *file = fopen("log/" COUNTS_LOG, "we");

	assert(file != NULL);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		for (size_t k = 0; k <= i % 3; k++)
			assert(fprintf(file,
				   "{\"time\":\"2026-11-21T%02zu:18:58+00:00\",\"trace_id\":"
				   "\"%032zu\",\"method\":\"GET\",\"path\":\"%s\",\"status\":%d,"
				   "\"bytes\":17,\"seconds\":0.00%zu,\"cache\":\"\"}\n",
				   4 + i % 4, i, paths[i], i % 2 == 0 ? 200 : 404, i) > 0);
	assert(fclose(file) == 0);
}

static void
remove_all(void)
{
	static const char *const files[] = { "log/" COUNTS_LOG, COUNTS_FILE, COUNTS_FILE "-wal",
		COUNTS_FILE "-shm", COUNTS_FILE ".lock" };

	if (fchdir(folder) != 0)
		return;
	program.close();
	conf_close(conf);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		(void)unlink(files[i]);
	(void)rmdir("log");
	(void)rmdir("db");
	(void)rmdir(folder_name);
}

static void
open_program(void)
{
	static const char yaml[] = "stats: {settle_ms: 0}\n";
	const struct conf_options options = { 0 };

	home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert(home >= 0 && mkdtemp(folder_name) != NULL);
	folder = open(folder_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert(folder >= 0 && fchdir(folder) == 0);
	assert(mkdir("db", 0700) == 0 && mkdir("log", 0700) == 0);
	write_log();
	assert(conf_parse(yaml, strlen(yaml), "fuzz", &options, &conf) == OK);
	assert(program.open(conf) == OK);
	assert(unshare(CLONE_FS) == 0); /* from the program's threads, which stay */
	assert(atexit(remove_all) == 0);
}

/* The value of a field in the head, which ends at BODY; *N is 0 where there is none. */
static const char *
find_field(const char *name, const char *body, size_t *n)
{
	char start[64];
	const char *at;

	(void)snprintf(start, sizeof(start), "\r\n%s: ", name);
	at = strstr(answer.text, start);
	*n = at != NULL && at < body ? strcspn(at + strlen(start), "\r") : 0;
	return at != NULL ? at + strlen(start) : "";
}

/* A list as a member of an object, since that is what is read. */
static void
check_json(const char *body, size_t n)
{
	static char text[sizeof(answer.text) + 16];
	struct jsonr parsed;

	(void)snprintf(text, sizeof(text), "{\"list\":%.*s}", (int)n, body);
	assert(jsonr_parse(text, strlen(text), &parsed) == OK);
	jsonr_close(&parsed);
}

static void
check_csv(const char *body, size_t n)
{
	size_t quotes = 0;

	for (size_t i = 0; i < n; i++)
		quotes += body[i] == '"';
	assert(n > 2 && memcmp(body + n - 2, "\r\n", 2) == 0 && quotes % 2 == 0);
}

/* That the answer is whole and well-formed; returns its status. */
static int
check_answer(void)
{
	static const int allowed[] = { 200, 400, 404, 405, 406, 414 };
	const char *body = strstr(answer.text, "\r\n\r\n"), *type, *length;
	size_t type_n, length_n, n, i = 0;
	int status = atoi(answer.text + strlen("Status: "));

	assert(body != NULL);
	while (i < sizeof(allowed) / sizeof(allowed[0]) && allowed[i] != status)
		i++;
	assert(i < sizeof(allowed) / sizeof(allowed[0]));
	for (const char *at = answer.text; at < body; at++)
		assert((*at >= ' ' && *at <= '~') || *at == '\r' || *at == '\n');
	type = find_field("Content-Type", body + 2, &type_n);
	length = find_field("Content-Length", body + 2, &length_n);
	body += 4;
	n = answer.n - (size_t)(body - answer.text);
	assert(length_n > 0 && strtoul(length, NULL, 10) == n);
	if (strncmp(type, "text/csv;", 9) == 0)
		check_csv(body, n);
	else
		check_json(body, n);
	assert((status == 200) == (strncmp(type, "application/problem", 19) != 0));
	return status;
}

static int
get(char *target, char *accept)
{
	static struct request req;

	ask(program.routes, &req, (char *)"REQUEST_METHOD=GET", target, accept);
	return check_answer();
}

/* The next page, where there is one. */
static void
follow_link(char *accept)
{
	static char target[TARGET_MAX];
	size_t n;
	const char *link = find_field("Link", strstr(answer.text, "\r\n\r\n") + 2, &n);

	if (n == 0)
		return;
	assert(link[0] == '<' && strcspn(link, ">") < n);
	(void)snprintf(
	    target, sizeof(target), "REQUEST_URI=%.*s", (int)strcspn(link, ">") - 1, link + 1);
	assert(get(target, accept) == 200);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static char target[TARGET_MAX], accept[TARGET_MAX];
	const uint8_t *feed = n > 0 ? memchr(bytes, '\n', n) : NULL;
	size_t target_n = feed != NULL ? (size_t)(feed - bytes) : n, rest = n - target_n;
	bool is_query = n == 0 || bytes[0] != '/';

	if (folder == 0)
		open_program();
	if (n >= TARGET_MAX - 64)
		return 0;
	(void)snprintf(target, sizeof(target), "REQUEST_URI=%s%.*s", is_query ? "/stats?" : "",
	    (int)target_n, (const char *)bytes);
	(void)snprintf(accept, sizeof(accept), "HTTP_ACCEPT=%.*s", rest > 0 ? (int)rest - 1 : 0,
	    feed != NULL ? (const char *)feed + 1 : "");
	assert(fchdir(folder) == 0);
	if (get(target, accept) == 200)
		follow_link(accept);
	assert(fchdir(home) == 0);
	return 0;
}
