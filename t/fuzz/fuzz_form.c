/*
 * The input: the Content-Type, a newline, the body.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "lib/form.h"

#define BYTES_MAX 100000

struct body {
	const uint8_t *at;
	size_t left;
};

/* In pieces that are uneven, as they come from a socket. */
static ssize_t
read_body(void *ctx, char *buffer, size_t n)
{
	struct body *body = ctx;

	n = n < body->left ? n : body->left;
	n = n < 1 + body->left / 3 ? n : 1 + body->left / 3;
	memcpy(buffer, body->at, n);
	body->at += n;
	body->left -= n;
	return (ssize_t)n;
}

/* Each part's bytes are in the body, in their order, with the boundary's line between them. */
static void
check_parts(const struct form *form, const uint8_t *body, size_t n)
{
	const struct form_part *part, *found;
	const char *end = NULL;
	size_t total = 0;

	assert(form_count(form) >= 1 && form_count(form) <= FORM_PARTS_MAX);
	for (size_t i = 0; i < form_count(form); i++) {
		part = form_at(form, i);
		assert(part->name[0] != '\0' && part->type != NULL);
		assert(strlen(part->name) <= 8 * FORM_HEADER_MAX);
		assert(end == NULL || part->bytes > end);
		assert(memmem(body, n, part->bytes, part->n) != NULL);
		end = part->bytes + part->n;
		total += part->n;
		err_clear();
		assert((form_part(form, part->name, &found) == OK) == (found != NULL));
		assert(found == NULL || found == part);
	}
	assert(total < n);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static struct request req;
	const uint8_t *line_end = n == 0 ? NULL : memchr(bytes, '\n', n);
	size_t type_n = line_end == NULL ? 0 : (size_t)(line_end - bytes);
	struct body body = { bytes + type_n + 1, n - type_n - 1 };
	char type[1024] = "CONTENT_TYPE=", length[64];
	char *const meta[] = { type, length, (char *)"REQUEST_URI=/x", NULL };
	const struct request_source source = { meta, read_body, &body };
	struct form *form;
	enum err err;

	if (line_end == NULL || type_n + 32 > sizeof(type))
		return 0;
	memcpy(type + strlen(type), bytes, type_n);
	(void)snprintf(length, sizeof(length), "CONTENT_LENGTH=%zu", body.left);
	err_clear();
	assert(request_begin(&req, &source) == OK);
	err = form_open(&req, BYTES_MAX, "/tmp", &form);
	assert(err == OK || err == ERR_INPUT || err == ERR_MEDIA_TYPE || err == ERR_TOO_LARGE);
	assert((err == OK) == (form != NULL) && (err == OK) == (err_words()[0] == '\0'));
	if (err == OK)
		check_parts(form, line_end + 1, n - type_n - 1);
	form_close(form);
	return 0;
}
