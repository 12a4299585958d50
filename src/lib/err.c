#include "lib/err.h"
#undef fail

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char words[ERR_WORDS_MAX];
static _Thread_local struct err_field fields[ERR_FIELDS_MAX];
static _Thread_local size_t field_count;

enum err
fail(enum err code, const char *fmt, ...)
{
	char next[ERR_WORDS_MAX]; /* the arguments may be the old words */
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(next, sizeof(next), fmt, ap);
	va_end(ap);
	(void)snprintf(words, sizeof(words), "%s", next);
	return code;
}

enum err
fail_field(const char *pointer, const char *fmt, ...)
{
	struct err_field *field;
	va_list ap;

	if (field_count < ERR_FIELDS_MAX) {
		field = &fields[field_count];
		(void)snprintf(field->pointer, sizeof(field->pointer), "%s", pointer);
		va_start(ap, fmt);
		(void)vsnprintf(field->detail, sizeof(field->detail), fmt, ap);
		va_end(ap);
	}
	field_count++;
	return ERR_INPUT;
}

enum err
err_pending(void)
{
	if (field_count == 0)
		return OK;
	if (field_count == 1)
		return fail(ERR_INPUT, "%s: %s", fields[0].pointer, fields[0].detail);
	return fail(ERR_INPUT, "%zu fields are not as they must be", field_count);
}

const char *
err_words(void)
{
	return words;
}

const struct err_field *
err_fields(size_t *count)
{
	*count = field_count < ERR_FIELDS_MAX ? field_count : ERR_FIELDS_MAX;
	return fields;
}

void
err_clear(void)
{
	words[0] = '\0';
	field_count = 0;
}

void
err_save(struct err_state *state)
{
	size_t kept = field_count < ERR_FIELDS_MAX ? field_count : ERR_FIELDS_MAX;

	(void)snprintf(state->words, sizeof(state->words), "%s", words);
	state->field_count = field_count;
	memcpy(state->fields, fields, kept * sizeof(fields[0]));
}

void
err_restore(const struct err_state *state)
{
	size_t kept = state->field_count < ERR_FIELDS_MAX ? state->field_count : ERR_FIELDS_MAX;

	(void)snprintf(words, sizeof(words), "%s", state->words);
	field_count = state->field_count;
	memcpy(fields, state->fields, kept * sizeof(fields[0]));
}
