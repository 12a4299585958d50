#include "test.h"

#include "lib/user.h"

START_TEST(a_user_is_found_with_its_group)
{
	static const struct {
		const char *name, *group;
	} rows[] = { { "root", "root" }, { "www-data", "www-data" }, { "nobody", "nogroup" } };
	struct user user;

	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_assert_msg(user_find(rows[i].name, &user) == OK, "%s", err_words());
		ck_assert_str_eq(user.group, rows[i].group);
		ck_assert_int_eq(user.uid == 0, i == 0);
		ck_assert_int_eq(user.gid == 0, i == 0);
	}
}
END_TEST

START_TEST(an_unknown_user_is_named)
{
	struct user user;

	ck_assert_int_eq(user_find("no-such-user", &user), ERR_INPUT);
	ck_assert_str_eq(err_words(), "user no-such-user does not exist");
	ck_assert_int_eq(user_find("", &user), ERR_INPUT);
}
END_TEST

CHECK_MAIN(user, { a_user_is_found_with_its_group, an_unknown_user_is_named })
