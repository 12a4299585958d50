/*
 * The input: a byte that says how the text is cut, the text.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "lib/bulk.h"

/* What became of a text. */
struct outcome {
	enum err err;
	int64_t count;
	size_t fields;
	struct err_state state;
};

/* In pieces of a pseudo-random length, seldom above 2 * MOST; MOST 0: in one. */
static void
run(const char *text, size_t n, size_t most, struct outcome *outcome)
{
	struct bulk *bulk;
	uint32_t state = 2463534242u + (uint32_t)most;

	err_clear();
	assert(bulk_open("/tmp", &scope_all, 1000000, &bulk) == OK);
	outcome->err = OK;
	while (n > 0 && outcome->err == OK) {
		size_t part = n;

		if (most > 0) {
			state ^= state << 13;
			state ^= state >> 17;
			state ^= state << 5;
			part = state % most;
		}
		part = part < n ? part : n;
		outcome->err = bulk_add(bulk, text, part);
		text += part;
		n -= part;
	}
	if (outcome->err == OK)
		outcome->err = bulk_end(bulk);
	assert(outcome->err == OK || outcome->err == ERR_INPUT);
	outcome->count = bulk_count(bulk);
	(void)err_fields(&outcome->fields);
	err_save(&outcome->state);
	bulk_close(bulk);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static struct outcome whole, cut;
	size_t lines = 1, most;

	if (n == 0)
		return 0;
	most = (size_t)bytes[0] + 2;
	bytes++;
	n--;
	run((const char *)bytes, n, 0, &whole);
	run((const char *)bytes, n, most, &cut);
	assert(whole.err == cut.err && whole.count == cut.count && whole.fields == cut.fields);
	assert((whole.err == OK) == (whole.fields == 0));
	for (size_t i = 0; i < whole.fields; i++) {
		assert(strcmp(whole.state.fields[i].pointer, cut.state.fields[i].pointer) == 0);
		assert(strcmp(whole.state.fields[i].detail, cut.state.fields[i].detail) == 0);
		assert(strncmp(whole.state.fields[i].detail, "line ", 5) == 0);
	}
	for (size_t i = 0; i < n; i++)
		lines += bytes[i] == '\n';
	assert(whole.count >= 0 && (size_t)whole.count <= lines);
	return 0;
}
