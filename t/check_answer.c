#include "data_set.h"
#include "lib/answer.h"

static struct commit *writer;
static struct request req;
static int made;

static enum err
make(struct db *own, void *arg)
{
	struct answer *a = arg;

	(void)own;
	made++;
	answer_begin(a, 201);
	(void)snprintf(a->location, sizeof(a->location), "/things/%d", made);
	(void)snprintf(a->etag, sizeof(a->etag), "\"%d\"", made);
	return answer_write(a, "{\"a\":1}", 7);
}

static void
begin(void)
{
	folder_begin();
	ck_assert_int_eq(commit_open(LEDGER_FILE, &ledger_schema, &writer), OK);
	req.method = METHOD_POST;
	req.method_name = "POST";
}

static void
end(void)
{
	commit_close(writer);
	folder_end();
}

/* Asks with KEY and BODY; the answer's Location is in LOCATION. */
static enum err
ask(const char *key, const char *body, char location[ANSWER_FIELD_MAX])
{
	struct answer a;
	enum err err;

	err_clear();
	req.idempotency_key = key;
	if ((err = answer_open(&req, &a)) == OK) {
		answer_digest(&a, body, strlen(body));
		err = answer_commit(&a, writer, make, &a);
	}
	if (err == OK) {
		ck_assert_int_eq(a.status, 201);
		ck_assert_uint_eq(a.n, 7);
		ck_assert_int_eq(memcmp(a.body, "{\"a\":1}", 7), 0);
		(void)stpcpy(location, a.location);
	}
	answer_close(&a);
	return err;
}

START_TEST(without_a_key_each_request_is_done)
{
	char location[ANSWER_FIELD_MAX];

	begin();
	ck_assert_int_eq(ask("", "x", location), OK);
	ck_assert_int_eq(ask("", "x", location), OK);
	ck_assert_str_eq(location, "/things/2");
	end();
}
END_TEST

START_TEST(a_key_is_done_once_also_after_reopening)
{
	char location[ANSWER_FIELD_MAX];

	begin();
	ck_assert_int_eq(ask("k", "x", location), OK);
	ck_assert_int_eq(ask("k", "x", location), OK);
	commit_close(writer);
	ck_assert_int_eq(commit_open(LEDGER_FILE, &ledger_schema, &writer), OK);
	ck_assert_int_eq(ask("k", "x", location), OK);
	ck_assert_str_eq(location, "/things/1");
	ck_assert_int_eq(made, 1);
	end();
}
END_TEST

START_TEST(a_key_with_another_request_is_refused)
{
	char location[ANSWER_FIELD_MAX];

	begin();
	ck_assert_int_eq(ask("k", "x", location), OK);
	ck_assert_int_eq(ask("k", "y", location), ERR_KEY_REUSED);
	req.segments[0] = (struct request_text){ "elsewhere", 9 };
	req.segment_count = 1;
	ck_assert_int_eq(ask("k", "x", location), ERR_KEY_REUSED);
	ck_assert_int_eq(made, 1);
	end();
}
END_TEST

START_TEST(after_a_day_a_key_is_new)
{
	char location[ANSWER_FIELD_MAX];

	begin();
	ck_assert_int_eq(ask("k", "x", location), OK);
	commit_close(writer);
	data_open();
	data_run("UPDATE answers SET created_at = created_at - 86400000001");
	db_close(db);
	ck_assert_int_eq(commit_open(LEDGER_FILE, &ledger_schema, &writer), OK);
	ck_assert_int_eq(ask("k", "y", location), OK);
	ck_assert_int_eq(ask("k", "y", location), OK);
	ck_assert_str_eq(location, "/things/2");
	end();
}
END_TEST

START_TEST(bad_keys_are_bad_fields)
{
	static const char *const bad[] = { "a b", "\t", "\x7f", "\xc3\xa5", NULL };
	char location[ANSWER_FIELD_MAX], key[ANSWER_KEY_MAX + 2];

	begin();
	for (size_t i = 0; bad[i] != NULL; i++)
		ck_assert_int_eq(ask(bad[i], "x", location), ERR_INPUT);
	memset(key, 'k', sizeof(key));
	key[ANSWER_KEY_MAX + 1] = '\0';
	ck_assert_int_eq(ask(key, "x", location), ERR_INPUT);
	key[ANSWER_KEY_MAX] = '\0';
	ck_assert_int_eq(ask(key, "x", location), OK);
	end();
}
END_TEST

CHECK_MAIN(answer,
    { without_a_key_each_request_is_done, a_key_is_done_once_also_after_reopening,
	a_key_with_another_request_is_refused, after_a_day_a_key_is_new, bad_keys_are_bad_fields })
