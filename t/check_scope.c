#include "data_set.h"

#include <inttypes.h>

#include "lib/scope.h"

static struct who who;
static struct scope scope;

static const char *
text_of_scope(void)
{
	static char text[256];
	size_t n = 0;

	if (scope.all)
		return "all";
	for (size_t i = 0; i < scope.count; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, ",%" PRId64, scope.ids[i]);
	text[n] = '\0';
	return n == 0 ? "" : text + 1;
}

/* What RIGHT gives to ROLES of caregiver 7 who manages 9, 3, 9 and INT64_MAX. */
static const char *
list_of(enum scope_right right, unsigned roles)
{
	static const int64_t theirs[] = { 9, 3, 9, INT64_MAX };

	who = (struct who){ .name = "Anna@B\xc3\x9c.example",
		.roles = roles,
		.caregiver_id = 7,
		.caregiver_count = COUNT(theirs) };
	memcpy(who.caregivers, theirs, sizeof(theirs));
	scope_begin(&scope, right, &who);
	return text_of_scope();
}

#define C ROLE_CAREGIVER
#define M ROLE_MANAGER
#define ACC ROLE_ACCOUNTANT
#define ADM ROLE_ADMIN
#define THEIRS "3,9,9223372036854775807"
#define BOTH "3,7,9,9223372036854775807"

static const struct {
	unsigned roles;
	const char *read, *create, *delete;
	bool accounts; /* all of them */
} rows[] = {
	{ 0, "", "", "", false },
	{ C, "7", "7", "7", false },
	{ M, THEIRS, THEIRS, "", true },
	{ ACC, "all", "", "", false },
	{ ADM, "all", "all", "all", true },
	{ C | M, BOTH, BOTH, "7", true },
	{ C | ACC, "all", "7", "7", false },
	{ M | ACC, "all", THEIRS, "", true },
	{ C | M | ACC, "all", BOTH, "7", true },
	{ ROLES_ALL, "all", "all", "all", true },
	{ ROLE_NONE, "", "", "", false },
};

START_TEST(several_roles_give_what_each_of_them_gives)
{
	for (size_t i = 0; i < COUNT(rows); i++) {
		unsigned roles = rows[i].roles;

		ck_assert_str_eq(list_of(SCOPE_EVENTS_READ, roles), rows[i].read);
		ck_assert_str_eq(list_of(SCOPE_EVENTS_CREATE, roles), rows[i].create);
		ck_assert_str_eq(list_of(SCOPE_EVENTS_DELETE, roles), rows[i].delete);
		(void)list_of(SCOPE_ACCOUNTS_READ, roles);
		ck_assert_int_eq(scope.all, rows[i].accounts);
	}
}
END_TEST

START_TEST(ones_own_account_is_that_of_the_folded_name)
{
	(void)list_of(SCOPE_ACCOUNTS_READ, C);
	ck_assert_str_eq(scope.email, "Anna@xn--b-eha.example");
	(void)list_of(SCOPE_ACCOUNTS_READ, ACC);
	ck_assert_str_eq(scope.email, "");
	who = (struct who){ .name = "anna", .roles = C };
	scope_begin(&scope, SCOPE_ACCOUNTS_READ, &who);
	ck_assert_str_eq(scope.email, "");
	ck_assert(!scope.all);
}
END_TEST

START_TEST(the_longest_list_and_the_longest_name_have_room)
{
	memset(&who, 0, sizeof(who));
	who.roles = C;
	who.caregiver_id = 1;
	who.caregiver_count = WHO_CAREGIVERS_MAX;
	for (int64_t i = 0; i < WHO_CAREGIVERS_MAX; i++)
		who.caregivers[i] = INT64_MAX - i;
	memset(who.name, 'a', WHO_NAME_MAX);
	who.name[1] = '@';
	memcpy(who.name + WHO_NAME_MAX - 2, "\xc3\xbc", 2);
	scope_begin(&scope, SCOPE_ACCOUNTS_READ, &who);
	ck_assert_uint_lt(strlen(scope.email), sizeof(scope.email));
	ck_assert_uint_gt(strlen(scope.email), 0);
	who.roles = C | M;
	scope_begin(&scope, SCOPE_EVENTS_READ, &who);
	ck_assert_uint_eq(scope.count, SCOPE_CAREGIVERS_MAX);
	ck_assert_int_eq(scope.ids[SCOPE_CAREGIVERS_MAX - 1], INT64_MAX);
}
END_TEST

START_TEST(it_is_narrowed_to_what_is_in_both)
{
	static const int64_t ids[] = { 1, 3, 4, 9 };

	(void)list_of(SCOPE_EVENTS_READ, C | M);
	scope_narrow(&scope, ids, COUNT(ids));
	ck_assert_str_eq(text_of_scope(), "3,9");
	ck_assert(scope_has(&scope, 3) && scope_has(&scope, 9));
	ck_assert(!scope_has(&scope, 7) && !scope_has(&scope, 4) && !scope_has(&scope, 0));
	scope_narrow(&scope, ids, 1);
	ck_assert_str_eq(text_of_scope(), "");
	ck_assert(!scope_has(&scope, 1) && !scope_has(&scope, 3));
	ck_assert(scope_has(&scope_all, 1));
}
END_TEST

/* How many of these numbers a statement finds that has it as a parameter. */
static int64_t
found_of(const struct scope *in)
{
	static const struct db_sql sql = {
		"test",
		"WITH n(i) AS (VALUES (3), (7), (8), (9), (9223372036854775807)) "
		"SELECT count(*) FROM n WHERE $1 IS NULL OR i IN (SELECT value FROM json_each($1))"
	};
	struct db_query q;
	int64_t count;
	bool found;

	db_query(&q, db, &sql);
	scope_bind(in, &q);
	ck_assert_int_eq(db_next(&q, &found), OK);
	count = db_int(&q, 0);
	db_done(&q);
	return count;
}

START_TEST(a_statement_finds_what_is_in_it_and_nothing_else)
{
	data_begin();
	ck_assert_int_eq(found_of(&scope_all), 5);
	(void)list_of(SCOPE_EVENTS_READ, C | M);
	ck_assert_int_eq(found_of(&scope), 4);
	(void)list_of(SCOPE_EVENTS_READ, 0);
	ck_assert_int_eq(found_of(&scope), 0);
	data_end();
}
END_TEST

CHECK_MAIN(scope,
    { several_roles_give_what_each_of_them_gives, ones_own_account_is_that_of_the_folded_name,
	the_longest_list_and_the_longest_name_have_room, it_is_narrowed_to_what_is_in_both,
	a_statement_finds_what_is_in_it_and_nothing_else })
