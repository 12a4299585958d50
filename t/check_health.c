#include "sent.h"

#include "lib/health.h"

START_TEST(a_sound_storage_is_ok)
{
	sent[0] = '\0';
	response_open(&res, take, NULL);
	ck_assert_int_eq(health_answer(&res, OK), OK);
	ck_assert(response_end(&res));
	ck_assert_ptr_eq(strstr(sent, "Status: 200 OK\r\n"), sent);
	ck_assert_str_eq(strstr(sent, "\r\n\r\n") + 4, "{\"status\":\"ok\"}");
}
END_TEST

START_TEST(whatever_is_wrong_with_it_is_for_the_log_and_503_for_the_client)
{
	static const enum err errs[] = { ERR_INTERNAL, ERR_BUSY, ERR_CONFLICT };

	for (size_t i = 0; i < COUNT(errs); i++) {
		response_open(&res, take, NULL);
		ck_assert_int_eq(
		    health_answer(&res, fail(errs[i], "db/events.db is malformed")), ERR_BUSY);
		ck_assert_ptr_null(strstr(err_words(), "events.db"));
		ck_assert(!res.begun);
	}
}
END_TEST

CHECK_MAIN(health,
    { a_sound_storage_is_ok, whatever_is_wrong_with_it_is_for_the_log_and_503_for_the_client })
