#include "lib/scrape.h"

#include <string.h>

#define HELP "# HELP "
#define TYPE "# TYPE "

enum err
scrape_answer(struct request *req, struct response *res)
{
	(void)req;
	response_begin(res, 200, SCRAPE_TYPE);
	return metrics_write(response_write, res);
}

static bool
begins(const struct scrape_text *text, const char *with)
{
	return text->n >= strlen(with) && memcmp(text->s, with, strlen(with)) == 0;
}

/* Takes the first N bytes off, or as many as there are. */
static struct scrape_text
cut(struct scrape_text *text, size_t n)
{
	struct scrape_text piece = { text->s, n < text->n ? n : text->n };

	text->s += piece.n;
	text->n -= piece.n;
	return piece;
}

/* With its newline. */
static struct scrape_text
cut_line(struct scrape_text *text)
{
	const char *end = memchr(text->s, '\n', text->n);

	return cut(text, end != NULL ? (size_t)(end - text->s) + 1 : text->n);
}

/* A family of a text. */
struct family {
	struct scrape_text name, head, samples;
};

/* The next one; false at the end. */
static bool
cut_family(struct scrape_text *text, struct family *family)
{
	struct scrape_text line;

	if (text->n == 0)
		return false;
	family->head = cut_line(text);
	line = family->head;
	(void)cut(&line, strlen(HELP));
	family->name = (struct scrape_text){ line.s, 0 };
	while (family->name.n < line.n && line.s[family->name.n] != ' ')
		family->name.n++;
	family->head.n += cut_line(text).n;
	family->samples = (struct scrape_text){ text->s, 0 };
	while (text->n > 0 && text->s[0] != '#')
		family->samples.n += cut_line(text).n;
	return true;
}

bool
scrape_is_whole(const struct scrape_text *text)
{
	struct scrape_text rest = *text, line;
	bool wants_type = false;

	if (!begins(text, HELP) || text->s[text->n - 1] != '\n')
		return false;
	while (rest.n > 0) {
		line = cut_line(&rest);
		if (wants_type ? !begins(&line, TYPE) : line.s[0] == '#' && !begins(&line, HELP))
			return false;
		wants_type = line.s[0] == '#' && !wants_type;
	}
	return !wants_type;
}

/* The family of that name, in what is left of a text. */
static bool
find(struct scrape_text text, const struct scrape_text *name, struct family *found)
{
	while (cut_family(&text, found))
		if (found->name.n == name->n && memcmp(found->name.s, name->s, name->n) == 0)
			return true;
	return false;
}

static bool
is_in(const struct scrape_text *texts, size_t count, const struct scrape_text *name)
{
	struct family ignored;

	for (size_t i = 0; i < count; i++)
		if (find(texts[i], name, &ignored))
			return true;
	return false;
}

/* The families of text I that none before it has, with the samples of all that follow. */
static enum err
merge_from(const struct scrape_text *texts, size_t count, size_t i, metrics_sink sink, void *ctx)
{
	struct scrape_text rest = texts[i];
	struct family family, other;
	enum err err = OK;

	while (err == OK && cut_family(&rest, &family)) {
		if (is_in(texts, i, &family.name))
			continue;
		err = sink(ctx, family.head.s, family.head.n + family.samples.n);
		for (size_t k = i + 1; k < count && err == OK; k++)
			if (find(texts[k], &family.name, &other))
				err = sink(ctx, other.samples.s, other.samples.n);
	}
	return err;
}

enum err
scrape_merge(const struct scrape_text *texts, size_t count, metrics_sink sink, void *ctx)
{
	enum err err = OK;

	for (size_t i = 0; i < count && err == OK; i++)
		err = merge_from(texts, count, i, sink, ctx);
	return err;
}
