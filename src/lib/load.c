#include "lib/load.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/clock.h"
#include "sql.h"

#define SEGMENTS_MAX 6
#define ALPHABET 26
#define TIMEOUT_MS 10000
#define CONNECT_TIMEOUT_MS 5000
#define RECEIVE_BUFFER_BYTES 2048
#define TELL_EVERY_MS 50
#define URL_SIZE 160

/* --- Words and paths. */

/* Letters without a bias: bytes of 234 and above are drawn again. */
static enum err
draw_letters(char *out, size_t n)
{
	unsigned char byte;

	for (size_t i = 0; i < n;) {
		if (getrandom(&byte, 1, 0) != 1)
			return fail(ERR_BUSY, "there are no random numbers: %m");
		if (byte < 256 / ALPHABET * ALPHABET)
			out[i++] = (char)('a' + byte % ALPHABET);
	}
	return OK;
}

static bool
has_word(const struct load_words *words, int count, const char *word)
{
	for (int i = 0; i < count; i++)
		if (memcmp(words->word[i], word, LOAD_LETTERS) == 0)
			return true;
	return false;
}

enum err
load_draw(struct load_words *words)
{
	enum err err;

	memset(words, '\0', sizeof(*words));
	for (int i = 0; i < LOAD_WORDS; i += !has_word(words, i, words->word[i]))
		if ((err = draw_letters(words->word[i], LOAD_LETTERS)) != OK)
			return err;
	return OK;
}

bool
load_overlaps(const struct load_words *a, const struct load_words *b)
{
	for (int i = 0; i < LOAD_WORDS; i++)
		if (has_word(a, LOAD_WORDS, b->word[i]))
			return true;
	return false;
}

/* The paths of one segment come first, then those of two. */
void
load_path(const struct load_words *words, int i, char out[LOAD_PATH_SIZE])
{
	int segments = 1, count = LOAD_WORDS;
	size_t used;

	for (; i >= count; segments++, count *= LOAD_WORDS)
		i -= count;
	used = (size_t)snprintf(out, LOAD_PATH_SIZE, "/api");
	for (; segments > 0; segments--, i /= LOAD_WORDS)
		used += (size_t)snprintf(
		    out + used, LOAD_PATH_SIZE - used, "/%s", words->word[i % LOAD_WORDS]);
}

/* Any number of segments is as likely as any other. */
static int
draw_path(unsigned short state[3])
{
	int segments = (int)(nrand48(state) % SEGMENTS_MAX), before = 0, count = LOAD_WORDS;

	for (; segments > 0; segments--, count *= LOAD_WORDS)
		before += count;
	return before + (int)(nrand48(state) % count);
}

/* --- Requests under way. */

struct lane {
	CURL *easy;
	int64_t begun_us;
};

struct loading {
	const struct load *load;
	struct load_result *result;
	CURLM *multi;
	struct lane lanes[LOAD_IN_FLIGHT];
	int64_t begun_us, told_us, sent;
	int under_way;
	bool stopped;
	unsigned short random[3];
};

static size_t
forget(char *bytes, size_t size, size_t count, void *ctx)
{
	(void)bytes;
	(void)ctx;
	return size * count;
}

static bool
open_lane(struct lane *lane)
{
	const struct {
		CURLoption option;
		long value;
	} numbers[] = {
		{ CURLOPT_NOSIGNAL, 1 },
		{ CURLOPT_FOLLOWLOCATION, 0 },
		{ CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1 },
		{ CURLOPT_HTTP09_ALLOWED, 0 },
		{ CURLOPT_TIMEOUT_MS, TIMEOUT_MS },
		{ CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS },
		{ CURLOPT_BUFFERSIZE, RECEIVE_BUFFER_BYTES },
		{ CURLOPT_NETRC, CURL_NETRC_IGNORED },
		/* Its certificate is for a name, and we ask an address, which is our own. */
		{ CURLOPT_SSL_VERIFYPEER, 0 },
		{ CURLOPT_SSL_VERIFYHOST, 0 },
	};
	CURL *easy = curl_easy_init();
	bool ok = easy != NULL;

	lane->easy = easy;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]) && ok; i++)
		ok = curl_easy_setopt(easy, numbers[i].option, numbers[i].value) == CURLE_OK;
	return ok && curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
	    curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK &&
	    curl_easy_setopt(easy, CURLOPT_USERAGENT, "caredesk") == CURLE_OK &&
	    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, forget) == CURLE_OK &&
	    curl_easy_setopt(easy, CURLOPT_PRIVATE, lane) == CURLE_OK;
}

static bool
send_next(struct loading *l, struct lane *lane)
{
	char url[URL_SIZE], path[LOAD_PATH_SIZE];

	load_path(&l->load->words, draw_path(l->random), path);
	(void)snprintf(url, sizeof(url), "%s%s", l->load->origin, path);
	lane->begun_us = clock_monotonic_us();
	if (curl_easy_setopt(lane->easy, CURLOPT_URL, url) != CURLE_OK ||
	    curl_multi_add_handle(l->multi, lane->easy) != CURLM_OK)
		return false;
	l->sent++;
	l->under_way++;
	return true;
}

static bool
send_more(struct loading *l, struct lane *lane)
{
	return l->stopped || l->sent == l->load->requests || send_next(l, lane);
}

static struct lane *
finish(struct loading *l, const CURLMsg *message)
{
	CURL *easy = message->easy_handle;
	bool ended_well = message->data.result == CURLE_OK;
	struct lane *lane = NULL;
	long status = 0;

	(void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&lane);
	(void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_multi_remove_handle(l->multi, easy);
	l->under_way--;
	if (ended_well && status == 200) {
		l->result->succeeded++;
		latency_add(&l->result->latency, clock_monotonic_us() - lane->begun_us);
	} else {
		l->result->failed++;
	}
	return lane;
}

static void
tell(struct loading *l)
{
	int64_t now_us = clock_monotonic_us();

	l->result->took_us = now_us - l->begun_us;
	if (now_us - l->told_us < TELL_EVERY_MS * CLOCK_MS_US || l->load->told == NULL)
		return;
	l->told_us = now_us;
	l->stopped |= !l->load->told(l->load->ctx, l->result);
}

static bool
drive(struct loading *l)
{
	const CURLMsg *message;
	int ignored;

	while (l->under_way > 0) {
		if (curl_multi_perform(l->multi, &ignored) != CURLM_OK)
			return false;
		while ((message = curl_multi_info_read(l->multi, &ignored)) != NULL)
			if (message->msg == CURLMSG_DONE && !send_more(l, finish(l, message)))
				return false;
		tell(l);
		if (curl_multi_poll(l->multi, NULL, 0, TELL_EVERY_MS, &ignored) != CURLM_OK)
			return false;
	}
	return true;
}

static bool
begin(struct loading *l)
{
	bool ok = getrandom(l->random, sizeof(l->random), 0) == sizeof(l->random) &&
	    curl_multi_setopt(l->multi, CURLMOPT_MAXCONNECTS, (long)LOAD_IN_FLIGHT) == CURLM_OK;

	for (size_t i = 0; i < LOAD_IN_FLIGHT && ok && l->sent < l->load->requests; i++)
		ok = open_lane(&l->lanes[i]) && send_next(l, &l->lanes[i]);
	return ok;
}

void
load_open(void)
{
	(void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

enum err
load_run(const struct load *load, struct load_result *result)
{

	struct loading l = { .load = load, .result = result, .begun_us = clock_monotonic_us() };
	enum err err = OK;

	memset(result, 0, sizeof(*result));
	if ((l.multi = curl_multi_init()) == NULL || !begin(&l) || !drive(&l))
		err = fail(ERR_BUSY, "no memory for requests");
	for (size_t i = 0; i < LOAD_IN_FLIGHT; i++) {
		if (l.lanes[i].easy != NULL)
			(void)curl_multi_remove_handle(l.multi, l.lanes[i].easy);
		curl_easy_cleanup(l.lanes[i].easy);
	}
	(void)curl_multi_cleanup(l.multi);
	return err;
}

/* --- What was counted. */

static enum err
count_path(struct db *db, const char *path, int64_t *count)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_stats_path_requests);
	db_bind_bytes(&q, path, strlen(path));
	if ((err = db_next(&q, &found)) == OK && found)
		*count += db_int(&q, 0);
	db_done(&q);
	return err;
}

enum err
load_counted(struct db *db, const struct load_words *words, int64_t *count)
{
	char path[LOAD_PATH_SIZE];
	enum err err = OK;

	*count = 0;
	for (int i = 0; i < LOAD_PATHS && err == OK; i++) {
		load_path(words, i, path);
		err = count_path(db, path, count);
	}
	return err;
}
