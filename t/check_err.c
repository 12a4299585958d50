#include "test.h"

#include <pthread.h>

#include "lib/err.h"

START_TEST(a_failure_is_its_code_and_its_words)
{
	ck_assert_int_eq(fail(ERR_CONFLICT, "%s is taken by %d", "x@y", 7), ERR_CONFLICT);
	ck_assert_str_eq(err_words(), "x@y is taken by 7");
	ck_assert_int_eq(fail(ERR_GONE, "left"), ERR_GONE);
	ck_assert_str_eq(err_words(), "left");
}
END_TEST

START_TEST(new_words_may_be_made_of_the_old_ones)
{
	ck_assert_int_eq(fail(ERR_INPUT, "no such file"), ERR_INPUT);
	ck_assert_int_eq(fail(ERR_INTERNAL, "a.yaml: %s", err_words()), ERR_INTERNAL);
	ck_assert_str_eq(err_words(), "a.yaml: no such file");
}
END_TEST

START_TEST(words_beyond_their_bound_are_cut)
{
	for (int n = ERR_WORDS_MAX - 2; n <= ERR_WORDS_MAX + 1; n++) {
		ck_assert_int_eq(fail(ERR_INPUT, "%0*d", n, 1), ERR_INPUT);
		ck_assert_uint_eq(
		    strlen(err_words()), n < ERR_WORDS_MAX ? (size_t)n : ERR_WORDS_MAX - 1);
	}
}
END_TEST

START_TEST(nothing_is_pending_as_long_as_no_field_is_bad)
{
	size_t count = 1;

	ck_assert_str_eq(err_words(), "");
	ck_assert_int_eq(err_pending(), OK);
	ck_assert_int_eq(fail(ERR_BUSY, "no memory"), ERR_BUSY);
	ck_assert_int_eq(err_pending(), OK);
	(void)err_fields(&count);
	ck_assert_uint_eq(count, 0);
}
END_TEST

START_TEST(one_bad_field_is_told_by_name)
{
	size_t count;
	const struct err_field *fields;

	ck_assert_int_eq(fail_field("#/email", "must have %d..%d characters", 1, 9), ERR_INPUT);
	ck_assert_int_eq(err_pending(), ERR_INPUT);
	ck_assert_str_eq(err_words(), "#/email: must have 1..9 characters");
	fields = err_fields(&count);
	ck_assert_uint_eq(count, 1);
	ck_assert_str_eq(fields[0].pointer, "#/email");
	ck_assert_str_eq(fields[0].detail, "must have 1..9 characters");
}
END_TEST

START_TEST(several_bad_fields_are_told_together_in_their_order)
{
	size_t count;
	const struct err_field *fields;

	(void)fail_field("#/email", "is required");
	(void)fail_field("limit", "100%% wrong");
	ck_assert_int_eq(err_pending(), ERR_INPUT);
	ck_assert_ptr_nonnull(strstr(err_words(), "2 fields"));
	fields = err_fields(&count);
	ck_assert_uint_eq(count, 2);
	ck_assert_str_eq(fields[0].pointer, "#/email");
	ck_assert_str_eq(fields[1].pointer, "limit");
	ck_assert_str_eq(fields[1].detail, "100% wrong");
}
END_TEST

START_TEST(fields_beyond_the_limit_are_counted_but_not_kept)
{
	size_t count;
	const struct err_field *fields;

	for (int i = 0; i < ERR_FIELDS_MAX; i++)
		(void)fail_field("#/a", "%d", i);
	fields = err_fields(&count);
	ck_assert_uint_eq(count, ERR_FIELDS_MAX);
	ck_assert_str_eq(fields[ERR_FIELDS_MAX - 1].detail, "31");
	ck_assert_int_eq(fail_field("#/b", "one more"), ERR_INPUT);
	fields = err_fields(&count);
	ck_assert_uint_eq(count, ERR_FIELDS_MAX);
	ck_assert_str_eq(fields[ERR_FIELDS_MAX - 1].detail, "31");
	ck_assert_int_eq(err_pending(), ERR_INPUT);
	ck_assert_ptr_nonnull(strstr(err_words(), "33 fields"));
}
END_TEST

START_TEST(long_pointers_and_details_are_cut)
{
	char pointer[400];
	const struct err_field *fields;
	size_t count;

	memset(pointer, 'p', sizeof(pointer) - 1);
	pointer[sizeof(pointer) - 1] = '\0';
	(void)fail_field(pointer, "%0*d", 400, 1);
	fields = err_fields(&count);
	ck_assert_uint_eq(strlen(fields[0].pointer), sizeof(fields[0].pointer) - 1);
	ck_assert_uint_eq(strlen(fields[0].detail), sizeof(fields[0].detail) - 1);
}
END_TEST

START_TEST(clearing_forgets_words_and_fields)
{
	size_t count;

	(void)fail_field("#/a", "is required");
	ck_assert_int_eq(fail(ERR_INPUT, "bad"), ERR_INPUT);
	err_clear();
	ck_assert_str_eq(err_words(), "");
	(void)err_fields(&count);
	ck_assert_uint_eq(count, 0);
	ck_assert_int_eq(err_pending(), OK);
}
END_TEST

/* Returns what it finds, then leaves its own mess behind. */
static void *
other_thread(void *words)
{
	size_t count;

	(void)strcpy(words, err_words());
	(void)err_fields(&count);
	(void)fail_field("#/other", "is required");
	(void)!fail(ERR_INTERNAL, "of the other thread");
	return count == 0 ? words : NULL;
}

START_TEST(threads_do_not_see_each_others_errors)
{
	char words[ERR_WORDS_MAX] = "x";
	pthread_t thread;
	void *result;
	size_t count;

	(void)fail_field("#/a", "is required");
	ck_assert_int_eq(fail(ERR_INPUT, "of this thread"), ERR_INPUT);
	ck_assert_int_eq(pthread_create(&thread, NULL, other_thread, words), 0);
	ck_assert_int_eq(pthread_join(thread, &result), 0);
	ck_assert_ptr_nonnull(result);
	ck_assert_str_eq(words, "");
	ck_assert_str_eq(err_words(), "of this thread");
	ck_assert_str_eq(err_fields(&count)[0].pointer, "#/a");
	ck_assert_uint_eq(count, 1);
}
END_TEST

START_TEST(what_is_saved_can_be_told_by_another_thread)
{
	struct err_state state;
	size_t count;

	(void)fail_field("#/a", "is required");
	(void)fail_field("limit", "given twice");
	ck_assert_int_eq(err_pending(), ERR_INPUT);
	err_save(&state);
	err_clear();
	ck_assert_int_eq(err_pending(), OK);
	err_restore(&state);
	ck_assert_ptr_nonnull(strstr(err_words(), "2 fields"));
	ck_assert_str_eq(err_fields(&count)[0].pointer, "#/a");
	ck_assert_str_eq(err_fields(&count)[1].detail, "given twice");
	ck_assert_uint_eq(count, 2);
	ck_assert_int_eq(err_pending(), ERR_INPUT);
}
END_TEST

START_TEST(what_is_restored_takes_the_place_of_what_was_there)
{
	struct err_state words, nothing;
	size_t count;

	err_save(&nothing);
	ck_assert_int_eq(fail(ERR_BUSY, "no room"), ERR_BUSY);
	err_save(&words);
	(void)fail_field("#/other", "is required");
	ck_assert_int_eq(fail(ERR_INTERNAL, "else"), ERR_INTERNAL);
	err_restore(&words);
	ck_assert_str_eq(err_words(), "no room");
	(void)err_fields(&count);
	ck_assert_uint_eq(count, 0);
	(void)fail_field("#/more", "is required");
	ck_assert_int_eq(err_pending(), ERR_INPUT);
	err_restore(&nothing);
	ck_assert_str_eq(err_words(), "");
	ck_assert_int_eq(err_pending(), OK);
}
END_TEST

START_TEST(more_fields_than_are_kept_stay_counted_when_saved)
{
	struct err_state state;
	size_t count;

	for (int i = 0; i < ERR_FIELDS_MAX + 5; i++)
		(void)fail_field("#/a", "%d", i);
	ck_assert_int_eq(fail(ERR_INPUT, "%0*d", 2 * ERR_WORDS_MAX, 1), ERR_INPUT);
	err_save(&state);
	ck_assert_uint_eq(strlen(state.words), ERR_WORDS_MAX - 1);
	err_clear();
	err_restore(&state);
	ck_assert_uint_eq(strlen(err_words()), ERR_WORDS_MAX - 1);
	ck_assert_str_eq(err_fields(&count)[ERR_FIELDS_MAX - 1].detail, "31");
	ck_assert_uint_eq(count, ERR_FIELDS_MAX);
	ck_assert_int_eq(err_pending(), ERR_INPUT);
	ck_assert_ptr_nonnull(strstr(err_words(), "37 fields"));
}
END_TEST

CHECK_MAIN(err,
    { a_failure_is_its_code_and_its_words, new_words_may_be_made_of_the_old_ones,
	words_beyond_their_bound_are_cut, nothing_is_pending_as_long_as_no_field_is_bad,
	one_bad_field_is_told_by_name, several_bad_fields_are_told_together_in_their_order,
	fields_beyond_the_limit_are_counted_but_not_kept, long_pointers_and_details_are_cut,
	clearing_forgets_words_and_fields, threads_do_not_see_each_others_errors,
	what_is_saved_can_be_told_by_another_thread,
	what_is_restored_takes_the_place_of_what_was_there,
	more_fields_than_are_kept_stay_counted_when_saved })
