#include <string.h>

#include "fuzz.h"
#include "lib/clock.h"

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	char text[CLOCK_TEXT_SIZE], again[CLOCK_TEXT_SIZE], http[CLOCK_HTTP_SIZE];
	int64_t us = -1, back = -1;

	err_clear();
	if (clock_parse((const char *)bytes, n, &us) != OK) {
		assert(us == -1 && err_words()[0] != '\0');
		return 0;
	}
	/* What is read can be written, and that reads back as the same and is written alike. */
	assert(us >= 0);
	clock_text(us, text);
	assert(strlen(text) == CLOCK_TEXT_SIZE - 1);
	assert(clock_parse(text, strlen(text), &back) == OK && back == us);
	clock_text(back, again);
	assert(strcmp(text, again) == 0);
	clock_http(us, http);
	assert(strlen(http) == CLOCK_HTTP_SIZE - 1);
	return 0;
}
