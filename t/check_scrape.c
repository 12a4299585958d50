#include "metered.h"

#include "lib/scrape.h"

#define HEAD(name) "# HELP " name " Words of it.\n# TYPE " name " counter\n"

static const struct {
	const char *texts[3], *merged;
} merges[] = {
	{ { "", "", "" }, "" },
	{ { HEAD("a") "a 1\n", "", "" }, HEAD("a") "a 1\n" },
	{ { "", "", HEAD("a") "a 1\n" }, HEAD("a") "a 1\n" },
	{ { HEAD("a") "a{p=\"x\"} 1\n", HEAD("a") "a{p=\"y\"} 2\na{p=\"y\",q=\"#\"} 3\n",
	      HEAD("a") "a{p=\"z\"} 4\n" },
	    HEAD("a") "a{p=\"x\"} 1\na{p=\"y\"} 2\na{p=\"y\",q=\"#\"} 3\na{p=\"z\"} 4\n" },
	/* Other families, in another order, and names that begin alike. */
	{ { HEAD("a") "a 1\n" HEAD("b") "b 1\n", HEAD("c") "c 2\n" HEAD("b") "b 2\n",
	      HEAD("ab") "ab 3\n" HEAD("c") "c 3\n" HEAD("a") "a 3\n" },
	    HEAD("a") "a 1\na 3\n" HEAD("b") "b 1\nb 2\n" HEAD("c") "c 2\nc 3\n" HEAD("ab") "ab "
											    "3\n" },
	/* A family without samples. */
	{ { HEAD("a") HEAD("b") "b 1\n", HEAD("a") "a 2\n", "" },
	    HEAD("a") "a 2\n" HEAD("b") "b 1\n" },
};

START_TEST(each_family_stands_once_with_the_samples_of_all)
{
	for (size_t i = 0; i < COUNT(merges); i++) {
		struct scrape_text texts[3];

		for (size_t k = 0; k < COUNT(texts); k++)
			texts[k] =
			    (struct scrape_text){ merges[i].texts[k], strlen(merges[i].texts[k]) };
		metered.used = 0;
		metered.text[0] = '\0';
		ck_assert_int_eq(scrape_merge(texts, COUNT(texts), metered_take, NULL), OK);
		ck_assert_str_eq(metered.text, merges[i].merged);
	}
}
END_TEST

static const struct {
	const char *text;
	bool is_whole;
} wholes[] = {
	{ HEAD("a"), true },
	{ HEAD("a") "a 1\n", true },
	{ HEAD("a") "a 1\na 2\n" HEAD("b") "b 1\n", true },
	{ "", false },
	{ "\n", false },
	{ "a 1\n", false },
	{ HEAD("a") "a 1", false },
	{ "# HELP a Words.\n", false },
	{ "# HELP a Words.", false },
	{ "# HELP ", false },
	{ "# TYPE a counter\n", false },
	{ "# HELP a Words.\na 1\n", false },
	{ "# HELP a Words.\n# HELP b Words.\n", false },
	{ HEAD("a") "# TYPE a counter\n", false },
	{ HEAD("a") "# else\n", false },
	{ HEAD("a") "a 1\n# HELP b Words.\n", false },
	{ "<!doctype html>\n", false },
};

START_TEST(a_text_is_whole_or_it_is_not_taken)
{
	for (size_t i = 0; i < COUNT(wholes); i++) {
		/* In memory of its own, behind which nothing may be read. */
		size_t n = strlen(wholes[i].text);
		char *copy = malloc(n + (n == 0));
		const struct scrape_text text = { copy, n };

		ck_assert_ptr_nonnull(copy);
		memcpy(copy, wholes[i].text, n);
		ck_assert_msg(scrape_is_whole(&text) == wholes[i].is_whole, "%s", wholes[i].text);
		free(copy);
	}
}
END_TEST

/* What does not look like ours is refused by scrape_is_whole(), but nothing bad comes of it. */
START_TEST(pieces_of_a_text_are_no_harm)
{
	static const char text[] = HEAD("a") "a 1\n" HEAD("b") "b 1\n# \n#\n";

	for (size_t n = 0; n < sizeof(text); n++) {
		char *copy = malloc(n + 1);
		const struct scrape_text texts[2] = { { copy, n }, { text, sizeof(text) - 1 } };

		ck_assert_ptr_nonnull(copy);
		memcpy(copy, text, n);
		metered.used = 0;
		ck_assert_int_eq(scrape_merge(texts, 2, metered_take, NULL), OK);
		free(copy);
	}
}
END_TEST

static bool
take(void *ctx, const char *bytes, size_t n)
{
	(void)ctx;
	return metered_take(NULL, bytes, n) == OK;
}

START_TEST(the_answer_says_which_format_it_is)
{
	static struct response res;
	const char *body;
	struct scrape_text text;

	response_open(&res, take, NULL);
	ck_assert_int_eq(scrape_answer(NULL, &res), OK);
	ck_assert(response_end(&res));
	ck_assert_ptr_eq(strstr(metered.text, "Status: 200 OK\r\n"), metered.text);
	ck_assert_ptr_nonnull(
	    strstr(metered.text, "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
	body = strstr(metered.text, "\r\n\r\n") + 4;
	text = (struct scrape_text){ body, strlen(body) };
	ck_assert(scrape_is_whole(&text));
	ck_assert_ptr_nonnull(strstr(body, "\nprocess_open_fds{program=\"\"} "));
}
END_TEST

CHECK_MAIN(scrape,
    { each_family_stands_once_with_the_samples_of_all, a_text_is_whole_or_it_is_not_taken,
	pieces_of_a_text_are_no_harm, the_answer_says_which_format_it_is })
