#include <json-c/json.h>
#include <string.h>

#include "fuzz.h"
#include "lib/jsonr.h"
#include "lib/text.h"

#define FLAGS (JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8)

/* Whatever we accept, json-c accepts; and what it writes of that, we accept. */
static void
check_twin(const char *bytes, size_t n)
{
	struct json_tokener *tokener = json_tokener_new_ex(JSONR_DEPTH_MAX + 1);
	struct json_object *root;
	struct jsonr body;
	const char *written;
	size_t length;

	json_tokener_set_flags(tokener, FLAGS);
	root = json_tokener_parse_ex(tokener, bytes, (int)n);
	assert(json_tokener_get_error(tokener) == json_tokener_success);
	assert(json_object_is_type(root, json_type_object));
	written = json_object_to_json_string_length(
	    root, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &length);
	assert(jsonr_parse(written, length, &body) == OK);
	jsonr_close(&body);
	(void)json_object_put(root);
	json_tokener_free(tokener);
}

/* Reads each member as what it may be, in bounds that some keep and some do not. */
static void
check_members(const struct jsonr *body)
{
	json_object_object_foreach(body->root, name, child) {
		int64_t value = -7;
		const char *s = NULL;
		size_t length = 0;

		err_clear();
		jsonr_int(body, name, 0, 1000000, &value);
		if (err_pending() == OK)
			assert(value >= 0 && value <= 1000000);
		else
			assert(value == -7);
		err_clear();
		jsonr_string(body, name, 1, 20, &s, &length);
		if (err_pending() == OK)
			assert(strlen(s) == length && text_utf8_valid(s, length) &&
			    text_utf8_length(s, length) >= 1 && text_utf8_length(s, length) <= 20);
		else
			assert(s == NULL);
		assert(jsonr_has(body, name) == (child != NULL));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct jsonr body;
	const struct err_field *fields;
	size_t count;
	enum err err;

	err_clear();
	err = jsonr_parse((const char *)bytes, n, &body);
	if (err == OK) {
		assert(err_pending() == OK);
		check_twin((const char *)bytes, n);
		check_members(&body);
		jsonr_close(&body);
		return 0;
	}
	assert(err == ERR_INPUT && body.root == NULL);
	fields = err_fields(&count);
	assert(count <= 1 && (count == 1 || err_words()[0] != '\0'));
	assert(count == 0 ||
	    (fields[0].pointer[0] == '#' &&
		strspn(fields[0].pointer,
		    "#/ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		    "0123456789-._~%") == strlen(fields[0].pointer)));
	return 0;
}
