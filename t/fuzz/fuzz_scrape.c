/*
 * The input: up to four texts of metrics with a NUL between them.  Those that are whole, and have
 * each family once, are merged to a whole text of just their lines.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "lib/scrape.h"

#define TEXTS_MAX 4
#define BYTES_MAX 16384

struct merged {
	size_t n;
	char text[TEXTS_MAX * BYTES_MAX];
};

static enum err
take(void *ctx, const char *bytes, size_t n)
{
	struct merged *merged = ctx;

	assert(merged->n + n <= sizeof(merged->text));
	memcpy(merged->text + merged->n, bytes, n);
	merged->n += n;
	return OK;
}

/* How long the name of the family is whose head begins at S. */
static size_t
name_length(const char *s)
{
	return strcspn(s + strlen("# HELP "), " \n");
}

/* Whether the text has a family twice, which metrics_write() never does. */
static bool
has_twins(const struct scrape_text *text)
{
	const char *end = text->s + text->n, *at = text->s, *next;
	size_t n;

	for (; (next = memmem(at, (size_t)(end - at), "\n# HELP ", 8)) != NULL; at = next + 1) {
		n = name_length(next + 1) + strlen("# HELP ");
		for (const char *other = text->s; other <= next; other++)
			if ((other == text->s || other[-1] == '\n') && other < next + 1 &&
			    memcmp(other, next + 1, n) == 0 &&
			    name_length(other) + strlen("# HELP ") == n)
				return true;
	}
	return false;
}

/* Whether a line, with its end, stands in one of the texts. */
static bool
is_line(const struct scrape_text *texts, size_t count, const char *line, size_t n)
{
	for (size_t i = 0; i < count; i++) {
		const char *at = texts[i].s, *end = at + texts[i].n;

		while (at < end && (at = memmem(at, (size_t)(end - at), line, n)) != NULL) {
			if (at == texts[i].s || at[-1] == '\n')
				return true;
			at++;
		}
	}
	return false;
}

static void
check_merged(const struct scrape_text *texts, size_t count, const struct merged *merged)
{
	const struct scrape_text whole = { merged->text, merged->n };
	size_t total = 0, n;

	for (size_t i = 0; i < count; i++)
		total += texts[i].n;
	assert(merged->n <= total);
	assert(merged->n == 0 ? total == 0 : scrape_is_whole(&whole));
	for (const char *at = merged->text, *end = at + merged->n; at < end; at += n) {
		n = (size_t)((const char *)memchr(at, '\n', (size_t)(end - at)) + 1 - at);
		assert(is_line(texts, count, at, n));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static struct merged merged, again;
	struct scrape_text texts[TEXTS_MAX] = { 0 }, text;
	static char copy[BYTES_MAX + 1]; /* with a NUL behind it */
	const char *s = copy, *end = copy + n, *nul;
	size_t count = 0;

	if (n > BYTES_MAX)
		return 0;
	memcpy(copy, bytes, n);
	copy[n] = '\0';
	for (; s < end && count < TEXTS_MAX; s = nul + 1) {
		if ((nul = memchr(s, '\0', (size_t)(end - s))) == NULL)
			nul = end;
		text = (struct scrape_text){ s, (size_t)(nul - s) };
		if (!scrape_is_whole(&text) || has_twins(&text))
			continue;
		merged.n = 0;
		assert(scrape_merge(&text, 1, take, &merged) == OK);
		assert(merged.n == text.n && memcmp(merged.text, text.s, text.n) == 0);
		texts[count++] = text;
	}
	merged.n = again.n = 0;
	assert(scrape_merge(texts, count, take, &merged) == OK);
	check_merged(texts, count, &merged);
	/* What is merged stays as it is. */
	text = (struct scrape_text){ merged.text, merged.n };
	assert(scrape_merge(&text, 1, take, &again) == OK);
	assert(again.n == merged.n && memcmp(again.text, merged.text, merged.n) == 0);
	return 0;
}
