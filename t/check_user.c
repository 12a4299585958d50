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

/* A behaviour has a process of its own, so root may be given up. */
START_TEST(root_gives_itself_up_for_good_and_others_stay_who_they_are)
{
	gid_t groups[64];
	struct user user;
	uid_t before = geteuid();

	ck_assert_int_eq(user_find("www-data", &user), OK);
	ck_assert_int_eq(user_become("www-data"), OK);
	ck_assert_uint_eq(geteuid(), before == 0 ? user.uid : before);
	ck_assert_uint_eq(getuid(), geteuid());
	if (before == 0) {
		ck_assert_uint_eq(getegid(), user.gid);
		for (int i = getgroups(COUNT(groups), groups); i-- > 0;)
			ck_assert_uint_ne(groups[i], 0);
		ck_assert_int_ne(setuid(0), 0);
	}
	ck_assert_int_eq(user_become("no-such-user"), OK);
	ck_assert_uint_eq(getuid(), geteuid());
}
END_TEST

START_TEST(root_becomes_nobody_that_does_not_exist)
{
	if (geteuid() == 0) {
		ck_assert_int_eq(user_become("no-such-user"), ERR_INPUT);
		ck_assert_str_eq(err_words(), "user no-such-user does not exist");
	}
}
END_TEST

CHECK_MAIN(user,
    { a_user_is_found_with_its_group, an_unknown_user_is_named,
	root_gives_itself_up_for_good_and_others_stay_who_they_are,
	root_becomes_nobody_that_does_not_exist })
