/*
 * test.h: a test program on a page.  Each behaviour is a START_TEST; the program ends with
 *
 *	CHECK_MAIN(text, { digits_are_read, utf8_is_told_from_bytes })
 *
 * and speaks TAP, one line a behaviour.  A behaviour runs in a process of its own, unless CK_FORK=no.
 */
#ifndef CAREDESK_TEST_H
#define CAREDESK_TEST_H

#include <check.h>
#undef fail	/* an old name of ck_abort_msg(), and a function of ours */
#include <stdlib.h>
#include <string.h>

#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))

static int
check_run(const char *noun, const TTest *const tests[], size_t count)
{
	Suite *suite = suite_create(noun);
	TCase *tcase = tcase_create(noun);
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 60);
	for (size_t i = 0; i < count; i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_set_tap(runner, "-");
	srunner_run_all(runner, CK_SILENT);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#define CHECK_MAIN(noun, ...)								\
int											\
main(void)										\
{											\
	const TTest *const tests[] = __VA_ARGS__;					\
											\
	return check_run(#noun, tests, COUNT(tests));					\
}

#endif
