#include "data_set.h"

#include "lib/account.h"

static void
open_accounts(void)
{
	folder_begin();
	ck_assert_msg(
	    db_open(ACCOUNT_FILE, DB_WRITE, &account_schema, &db) == OK, "%s", err_words());
}

static struct account
made_of(const char *name, const char *email, const char *address)
{
	return (struct account){ .texts = { { name, strlen(name) }, { email, strlen(email) },
				     { address, strlen(address) } } };
}

static int64_t
add(const char *name, const char *email, const char *address)
{
	struct account account = made_of(name, email, address);

	ck_assert_msg(account_add(db, NOW_US, &account) == OK, "%s", err_words());
	return account.id;
}

/* What a reading has given: "id:name:email:address:version ..." */
struct seen {
	char text[4096];
	size_t n, most; /* accounts, and after how many it is enough; 0: never */
	int64_t last_id;
};

static enum err
see(void *ctx, const struct account *account)
{
	struct seen *seen = ctx;
	size_t n = strlen(seen->text);

	(void)snprintf(seen->text + n, sizeof(seen->text) - n, "%lld:%.20s:%.20s:%.20s:%lld ",
	    (long long)account->id, account->texts[ACCOUNT_NAME].s, account->texts[ACCOUNT_EMAIL].s,
	    account->texts[ACCOUNT_ADDRESS].s, (long long)account->version);
	seen->last_id = account->id;
	return ++seen->n == seen->most ? fail(ERR_BUSY, "enough") : OK;
}

static const char *
get(int64_t id)
{
	static struct seen seen;

	seen = (struct seen){ 0 };
	return account_get(db, id, &scope_all, see, &seen) == OK ? seen.text : err_words();
}

START_TEST(an_account_is_kept_as_it_was_given)
{
	struct account account = made_of("", "a@b", "\xf0\x9f\x98\x80'\";--%");

	open_accounts();
	ck_assert_int_eq(account_add(db, NOW_US, &account), OK);
	ck_assert_int_eq(account.id, 1);
	ck_assert_int_eq(account.version, 1);
	ck_assert_int_eq(account.created_at_us, NOW_US);
	ck_assert_int_eq(account.updated_at_us, NOW_US);
	ck_assert_str_eq(get(1), "1::a@b:\xf0\x9f\x98\x80'\";--%:1 ");
	ck_assert_str_eq(get(2), "there is no account 2");
	data_end();
}
END_TEST

START_TEST(a_change_replaces_the_texts_and_nothing_else)
{
	struct account account;

	open_accounts();
	(void)add("n", "a@b", "x");
	data_run("UPDATE accounts SET image_key = 'key'");
	account = made_of("n2", "a2@b", "x2");
	ck_assert_int_eq(account_find(db, 1, &account), OK);
	ck_assert_int_eq(account_change(db, NOW_US + 5, &account), OK);
	ck_assert_int_eq(account.version, 2);
	ck_assert_int_eq(account.created_at_us, NOW_US);
	ck_assert_int_eq(account.updated_at_us, NOW_US + 5);
	ck_assert_str_eq(get(1), "1:n2:a2@b:x2:2 ");
	ck_assert_str_eq(data_rows("SELECT image_key FROM accounts"), "key\n");
	ck_assert_int_eq(account_find(db, 1, &account), OK);
	ck_assert_int_eq(account.version, 2);
	ck_assert_int_eq(account.created_at_us, NOW_US);
	ck_assert_int_eq(account.updated_at_us, NOW_US + 5);
	ck_assert_int_eq(account_find(db, 2, &account), ERR_NOT_FOUND);
	data_end();
}
END_TEST

START_TEST(a_mail_address_is_of_one_account)
{
	struct account account;

	open_accounts();
	(void)add("n", "a@b", "x");
	(void)add("n", "A@b", "x");
	account = made_of("m", "a@b", "y");
	ck_assert_int_eq(account_add(db, NOW_US, &account), ERR_CONFLICT);
	ck_assert_str_eq(err_words(), "there is an account with this email already");
	ck_assert_int_eq(account_find(db, 2, &account), OK);
	ck_assert_int_eq(account_change(db, NOW_US, &account), ERR_CONFLICT);
	ck_assert_str_eq(err_words(), "there is an account with this email already");
	ck_assert_str_eq(get(2), "2:n:A@b:x:1 ");
	/* Its own, and one that is free again. */
	account = made_of("m", "A@b", "y");
	ck_assert_int_eq(account_find(db, 2, &account), OK);
	ck_assert_int_eq(account_change(db, NOW_US, &account), OK);
	ck_assert_int_eq(account_delete(db, 1), OK);
	account = made_of("m", "a@b", "y");
	ck_assert_int_eq(account_find(db, 2, &account), OK);
	ck_assert_int_eq(account_change(db, NOW_US, &account), OK);
	ck_assert_str_eq(get(2), "2:m:a@b:y:3 ");
	data_end();
}
END_TEST

START_TEST(an_id_is_not_used_again)
{
	open_accounts();
	(void)add("n", "a@b", "x");
	ck_assert_int_eq(add("n", "b@b", "x"), 2);
	ck_assert_int_eq(account_delete(db, 2), OK);
	ck_assert_str_eq(get(2), "there is no account 2");
	ck_assert_int_eq(add("n", "b@b", "x"), 3);
	data_end();
}
END_TEST

/* Whether a file of the database holds TEXT. */
static bool
holds(const char *file, const char *text)
{
	static char bytes[4 * 1024 * 1024];
	FILE *in = fopen(file, "rb");
	size_t n;

	if (in == NULL)
		return false;
	n = fread(bytes, 1, sizeof(bytes), in);
	ck_assert_uint_lt(n, sizeof(bytes));
	(void)fclose(in);
	return memmem(bytes, n, text, strlen(text)) != NULL;
}

START_TEST(what_was_deleted_or_replaced_is_not_in_the_file)
{
	struct account account;

	open_accounts();
	(void)add("Marker One", "one@marker", "Marker Road 1");
	(void)add("Marker Two", "two@marker", "Marker Road 2");
	db_checkpoint(db);
	ck_assert(holds(ACCOUNT_FILE, "Marker One") && holds(ACCOUNT_FILE, "two@marker"));
	ck_assert_int_eq(account_delete(db, 1), OK);
	account = made_of("n", "a@b", "x");
	ck_assert_int_eq(account_find(db, 2, &account), OK);
	ck_assert_int_eq(account_change(db, NOW_US, &account), OK);
	db_checkpoint(db);
	ck_assert(!holds(ACCOUNT_FILE, "Marker") && !holds(ACCOUNT_FILE, "marker"));
	data_end();
}
END_TEST

/* --- Lists. */

static void
search_for(struct account_search *search, enum account_field field, const char *text)
{
	search->by[field] = true;
	account_digest(text, strlen(text), search->digests[field]);
}

static const struct {
	const char *name, *email, *address; /* NULL: any */
	const char *ids;
} searches[] = {
	{ NULL, NULL, NULL, "1 2 3 4 5 6" },
	{ "n", NULL, NULL, "1 2 4" },
	{ "N", NULL, NULL, "3" },
	{ "", NULL, NULL, "5" },
	{ "n ", NULL, NULL, "" },
	{ "%", NULL, NULL, "6" },
	{ NULL, "b@b", NULL, "2" },
	{ NULL, "B@b", NULL, "" },
	{ NULL, NULL, "x", "1 3 4 6" },
	{ "n", NULL, "x", "1 4" },
	{ "n", NULL, "y", "2" },
	{ "N", NULL, "y", "" },
	{ "n", "b@b", NULL, "2" },
	{ "N", "b@b", NULL, "" },
	{ NULL, "b@b", "y", "2" },
	{ NULL, "b@b", "x", "" },
	{ "n", "b@b", "y", "2" },
	{ "n", "b@b", "x", "" },
};

static void
add_six(void)
{
	(void)add("n", "a@b", "x");
	(void)add("n", "b@b", "y");
	(void)add("N", "c@b", "x");
	(void)add("n", "d@b", "x");
	(void)add("", "e@b", "");
	(void)add("%", "f@b", "x");
}

/* All ids of a search, by pages of LIMIT. */
static const char *
ids_of(size_t row, int64_t limit, const struct scope *scope)
{
	static char ids[256];
	const char *const texts[] = { searches[row].name, searches[row].email,
		searches[row].address };
	struct account_search search = { .scope = scope };
	struct page page = { .limit = limit };
	bool more = true;

	for (int i = 0; i < ACCOUNT_FIELDS; i++)
		if (texts[i] != NULL)
			search_for(&search, (enum account_field)i, texts[i]);
	for (ids[0] = '\0'; more;) {
		struct seen seen = { 0 };

		ck_assert_int_eq(account_list(db, &search, &page, see, &seen, &more), OK);
		ck_assert_int_le((int64_t)seen.n, limit);
		ck_assert(!more || (int64_t)seen.n == limit);
		page.after = seen.last_id;
		for (char *one = seen.text, *end; *one != '\0'; one = end + 1) {
			end = strchr(one, ' ');
			(void)sprintf(ids + strlen(ids), "%s%lld", ids[0] != '\0' ? " " : "",
			    strtoll(one, NULL, 10));
		}
	}
	return ids;
}

START_TEST(a_search_finds_what_is_equal_in_all_in_the_order_of_ids)
{
	open_accounts();
	add_six();
	for (size_t i = 0; i < COUNT(searches); i++)
		for (int64_t limit = 1; limit <= 7; limit++)
			ck_assert_msg(strcmp(ids_of(i, limit, &scope_all), searches[i].ids) == 0,
			    "%zu by %lld: %s", i, (long long)limit, ids_of(i, limit, &scope_all));
	data_end();
}
END_TEST

START_TEST(who_may_see_one_account_finds_it_whatever_is_searched_and_no_other)
{
	static struct scope scope;
	const struct who who = { .name = "b@B", .roles = ROLE_CAREGIVER };
	struct seen seen = { 0 };

	open_accounts();
	add_six();
	scope_begin(&scope, SCOPE_ACCOUNTS_READ, &who);
	for (size_t i = 0; i < COUNT(searches); i++) {
		const char *all = ids_of(i, 7, &scope_all);
		const bool fits = strchr(all, '2') != NULL;

		ck_assert_str_eq(ids_of(i, 7, &scope), fits ? "2" : "");
	}
	ck_assert_int_eq(account_get(db, 1, &scope, see, &seen), ERR_NOT_FOUND);
	ck_assert_str_eq(err_words(), "there is no account 1");
	ck_assert_int_eq(account_get(db, 2, &scope, see, &seen), OK);
	data_end();
}
END_TEST

START_TEST(a_page_of_long_texts_ends_early_and_tells_that_there_is_more)
{
	static char address[3 * ACCOUNT_TEXT_MAX + 1];
	const struct account_search all = { .scope = &scope_all };
	struct page page = { .limit = PAGE_LIMIT_MAX };
	struct seen seen = { 0 };
	char email[32];
	int64_t count = ACCOUNT_LIST_BYTES_MAX / (int64_t)sizeof(address) + 10, all_seen = 0;
	bool more = true;

	for (size_t i = 0; i + 3 < sizeof(address); i += 3)
		memcpy(address + i, "\xe4\xb8\xad", 3);
	open_accounts();
	for (int64_t i = 0; i < count; i++) {
		(void)snprintf(email, sizeof(email), "%lld@b", (long long)i);
		(void)add("", email, address);
	}
	for (int pages = 0; more; pages++, all_seen += (int64_t)seen.n) {
		ck_assert_int_lt(pages, 2);
		seen = (struct seen){ 0 };
		ck_assert_int_eq(account_list(db, &all, &page, see, &seen, &more), OK);
		page.after = seen.last_id;
		if (more) {
			ck_assert_uint_ge(seen.n * sizeof(address), ACCOUNT_LIST_BYTES_MAX);
			ck_assert_uint_lt(seen.n * (sizeof(address) - 1),
			    ACCOUNT_LIST_BYTES_MAX + sizeof(address));
		}
	}
	ck_assert_int_eq(all_seen, count);
	data_end();
}
END_TEST

START_TEST(whoever_has_enough_ends_the_list)
{
	const struct account_search all = { .scope = &scope_all };
	const struct page page = { .limit = 10 };
	struct seen seen = { .most = 2 };
	bool more;

	open_accounts();
	add_six();
	ck_assert_int_eq(account_list(db, &all, &page, see, &seen, &more), ERR_BUSY);
	ck_assert_str_eq(seen.text, "1:n:a@b:x:1 2:n:b@b:y:1 ");
	seen = (struct seen){ .most = 1 };
	ck_assert_int_eq(account_get(db, 3, &scope_all, see, &seen), ERR_BUSY);
	/* Its statement can be used again. */
	ck_assert_str_eq(get(3), "3:N:c@b:x:1 ");
	data_end();
}
END_TEST

START_TEST(every_search_uses_the_index_made_for_it)
{
	static const struct {
		const struct db_sql *sql;
		const char *plan;
	} rows[] = {
		{ &sql_accounts_accounts_list,
		    "SEARCH accounts USING INTEGER PRIMARY KEY (rowid>?)\n" },
		{ &sql_accounts_accounts_list_by_name,
		    "SEARCH accounts USING INDEX accounts_by_name (name_digest=? AND rowid>?)\n" },
		{ &sql_accounts_accounts_list_by_email,
		    "SEARCH accounts USING INDEX sqlite_autoindex_accounts_1 (email_digest=?)\n" },
		{ &sql_accounts_accounts_list_by_address,
		    "SEARCH accounts USING INDEX accounts_by_address "
		    "(address_digest=? AND id>?)\n" },
	};
	char *plan;

	open_accounts();
	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_assert_int_eq(db_plan(db, rows[i].sql, &plan), OK);
		ck_assert_str_eq(plan, rows[i].plan);
		free(plan);
	}
	data_end();
}
END_TEST

START_TEST(what_the_schema_forbids_is_a_conflict)
{
	static char text[ACCOUNT_TEXT_MAX + 2];
	struct account rows[ACCOUNT_FIELDS] = { made_of("", "a@b", ""), made_of("", "a@b", ""),
		made_of("", "a@b", "") };

	memset(text, 'x', sizeof(text) - 1);
	open_accounts();
	for (int i = 0; i < ACCOUNT_FIELDS; i++) {
		rows[i].texts[i] = (struct account_text){ text, ACCOUNT_TEXT_MAX + 1 };
		ck_assert_int_eq(account_add(db, NOW_US, &rows[i]), ERR_CONFLICT);
		rows[i].texts[i].n = ACCOUNT_TEXT_MAX;
		ck_assert_int_eq(account_add(db, NOW_US, &rows[i]), OK);
		ck_assert_int_eq(account_delete(db, rows[i].id), OK);
	}
	data_end();
}
END_TEST

static enum err
tell_wrong(void *ctx, int64_t id, const char *words)
{
	char *text = ctx;
	size_t n = strlen(text);

	(void)snprintf(text + n, 512 - n, "%lld: %s; ", (long long)id, words);
	return OK;
}

START_TEST(what_is_not_right_with_an_account_is_told_without_its_texts)
{
	char text[512] = "";
	int64_t count;

	open_accounts();
	(void)add("n", "a@b", "x");
	(void)add("n", "c@b", "x");
	(void)add("n", "d@b", "x");
	ck_assert_int_eq(account_check(db, tell_wrong, text, &count), OK);
	ck_assert_int_eq(count, 3);
	ck_assert_str_eq(text, "");
	data_run("UPDATE accounts SET email = 'c@B' WHERE id = 2");
	data_run("UPDATE accounts SET name = 'm', address_digest = zeroblob(16) WHERE id = 3");
	ck_assert_int_eq(account_check(db, tell_wrong, text, &count), OK);
	ck_assert_int_eq(count, 3);
	ck_assert_str_eq(text,
	    "2: its email is not folded; 2: the digest of its email is another one's; "
	    "3: the digest of its name is another one's; "
	    "3: the digest of its address is another one's; ");
	data_end();
}
END_TEST

static enum err
tell_image(void *ctx, const struct account_image *image)
{
	char words[BLOB_KEY_SIZE + 8];

	(void)snprintf(words, sizeof(words), "%s %02x", image->key, image->digest[0]);
	return tell_wrong(ctx, image->id, words);
}

START_TEST(images_are_told_and_found)
{
	char text[512] = "";
	int64_t id;

	open_accounts();
	(void)add("n", "a@b", "x");
	(void)add("n", "c@b", "x");
	(void)add("n", "d@b", "x");
	data_run(
	    "UPDATE accounts SET image_key = 'k' || (9 - id) WHERE id <> 2;"
	    "UPDATE accounts SET image_digest = CAST(printf('%.32c', 'x') AS BLOB) WHERE id = 1");
	ck_assert_int_eq(account_images(db, tell_image, text), OK);
	ck_assert_str_eq(text, "3: k6 00; 1: k8 78; ");
	ck_assert_int_eq(account_of_image(db, "k8", &id), OK);
	ck_assert_int_eq(id, 1);
	ck_assert_int_eq(account_of_image(db, "k7", &id), OK);
	ck_assert_int_eq(id, 0);
	data_end();
}
END_TEST

CHECK_MAIN(account,
    { an_account_is_kept_as_it_was_given,
	what_is_not_right_with_an_account_is_told_without_its_texts, images_are_told_and_found,
	a_change_replaces_the_texts_and_nothing_else, a_mail_address_is_of_one_account,
	an_id_is_not_used_again, what_was_deleted_or_replaced_is_not_in_the_file,
	a_search_finds_what_is_equal_in_all_in_the_order_of_ids,
	who_may_see_one_account_finds_it_whatever_is_searched_and_no_other,
	a_page_of_long_texts_ends_early_and_tells_that_there_is_more,
	whoever_has_enough_ends_the_list, every_search_uses_the_index_made_for_it,
	what_the_schema_forbids_is_a_conflict })
