#include "data_set.h"

#include "lib/account.h"
#include "lib/person.h"

#define OTHER "db/other.db"
#define BLOBS "blobs"

static struct commit *commit;
static struct blob *blobs;

/* DB is the writer until COMMIT is opened. */
static void
begin(void)
{
	folder_begin();
	ck_assert_int_eq(db_open(ACCOUNT_FILE, DB_WRITE, &account_schema, &db), OK);
	ck_assert_int_eq(blob_open(BLOBS, &blobs), OK);
}

static void
hand_over(void)
{
	db_close(db);
	ck_assert_int_eq(commit_open(ACCOUNT_FILE, &account_schema, &commit), OK);
}

static void
take_back(void)
{
	commit_close(commit);
	ck_assert_int_eq(db_open(ACCOUNT_FILE, DB_WRITE, &account_schema, &db), OK);
}

static enum err
drop(void *ctx, const struct blob_entry *entry)
{
	(void)ctx;
	return blob_remove(blobs, entry->name);
}

static void
end(void)
{
	char folder[16];

	ck_assert_int_eq(blob_list(blobs, drop, NULL), OK);
	blob_close(blobs);
	for (int i = 0; i < 256; i++) {
		(void)snprintf(folder, sizeof(folder), BLOBS "/%02x", (unsigned)i);
		(void)rmdir(folder);
	}
	(void)unlink(BLOBS "/.owner");
	(void)rmdir(BLOBS);
	data_end();
}

/* Who has an image, unless it is "". */
static int64_t
add(const char *name, const char *image)
{
	struct account account = { .texts = { { name, strlen(name) }, { name, strlen(name) },
				       { "road", 4 } } };
	char key[BLOB_KEY_SIZE], text[160];

	ck_assert_int_eq(account_add(db, NOW_US + account.id, &account), OK);
	if (image[0] == '\0')
		return account.id;
	ck_assert_int_eq(blob_put(blobs, image, strlen(image), ".png", key), OK);
	(void)snprintf(text, sizeof(text), "UPDATE accounts SET image_key = '%s' WHERE id = %lld",
	    key, (long long)account.id);
	data_run(text);
	return account.id;
}

static void
add_answer(const char *key, const char *location, const char *body)
{
	char text[512];

	(void)snprintf(text, sizeof(text),
	    "INSERT INTO answers (key, digest, created_at, status, location, etag, body)"
	    " VALUES ('%s', x'00', 5, 201, '%s', '\"e\"', CAST('%s' AS BLOB))",
	    key, location, body);
	data_run(text);
}

static enum err
count_one(void *count, const struct blob_entry *entry)
{
	++*(int *)count;
	return entry->kind == BLOB_WHOLE ? OK : fail(ERR_INTERNAL, "what is %s?", entry->name);
}

static int
blob_count(void)
{
	int count = 0;

	ck_assert_int_eq(blob_list(blobs, count_one, &count), OK);
	return count;
}

#define KEYS "SELECT key FROM answers ORDER BY id"
#define ERASURES "SELECT id || ' ' || created_at || ' ' || (finished_at IS NOT NULL) FROM erasures"

static void
add_three(void)
{
	ck_assert_int_eq(add("ada", "of ada"), 1);
	ck_assert_int_eq(add("bo", "of bo"), 2);
	ck_assert_int_eq(add("cy", ""), 3);
	add_answer("created", "/accounts/1", "{\"id\":1,\"name\":\"ada\"}");
	add_answer("shown", "", "{\"name\":\"ada\",\"id\":1}");
	add_answer("empty", "/accounts/1", "");
	add_answer("of another", "/accounts/2", "{\"id\":2}");
	add_answer("begins alike", "/accounts/11", "{\"id\":11}");
	add_answer("in a member", "", "{\"id\":2,\"of\":{\"id\":1}}");
	add_answer("a text", "", "{\"id\":\"1\"}");
	add_answer("no json", "", "id:1");
	add_answer("nothing", "", "");
}

START_TEST(the_rows_the_image_and_the_answers_of_one_go_and_of_nobody_else)
{
	struct person_erased erased;

	begin();
	add_three();
	hand_over();
	ck_assert_int_eq(person_erase(commit, blobs, 1, &erased), OK);
	ck_assert_int_eq(erased.accounts, 1);
	ck_assert_int_eq(erased.images, 1);
	ck_assert_int_eq(erased.answers, 3);
	ck_assert_int_eq(person_erase(commit, blobs, 3, &erased), OK);
	ck_assert_int_eq(erased.images, 0);
	ck_assert_int_eq(erased.answers, 0);
	take_back();
	ck_assert_str_eq(data_rows("SELECT name FROM accounts"), "bo\n");
	ck_assert_str_eq(
	    data_rows(KEYS), "of another\nbegins alike\nin a member\na text\nno json\nnothing\n");
	ck_assert_int_eq(blob_count(), 1);
	ck_assert_str_eq(data_rows(ERASURES), "1 1800000000000000 1\n3 1800000000000000 1\n");
	end();
}
END_TEST

/* What a page has in its gaps cannot be seen, but free pages can: a file written anew has none. */
START_TEST(the_database_is_written_anew)
{
	static char name[4000];
	struct person_erased erased;

	memset(name, 'x', sizeof(name) - 1);
	begin();
	for (int i = 0; i < 50; i++) {
		(void)snprintf(name, 8, "%06d", i);
		name[6] = 'x';
		(void)add(name, "");
	}
	data_run("DELETE FROM accounts WHERE id > 1");
	ck_assert_int_gt(data_ask("PRAGMA freelist_count"), 0);
	hand_over();
	ck_assert_int_eq(person_erase(commit, blobs, 1, &erased), OK);
	take_back();
	ck_assert_int_eq(data_ask("PRAGMA freelist_count"), 0);
	end();
}
END_TEST

START_TEST(who_is_not_there_is_not_found)
{
	struct person_erased erased;
	int64_t created_at_us;

	begin();
	add_three();
	ck_assert_int_eq(person_find(db, 1, &created_at_us), OK);
	ck_assert_int_eq(created_at_us, NOW_US);
	ck_assert_int_eq(person_find(db, 4, &created_at_us), ERR_NOT_FOUND);
	hand_over();
	ck_assert_int_eq(person_erase(commit, blobs, 4, &erased), ERR_NOT_FOUND);
	ck_assert_str_eq(err_words(), "there is no account 4");
	ck_assert_int_eq(person_erase(commit, blobs, 1, &erased), OK);
	ck_assert_int_eq(person_erase(commit, blobs, 1, &erased), ERR_NOT_FOUND);
	take_back();
	ck_assert_int_eq(person_find(db, 1, &created_at_us), ERR_NOT_FOUND);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM erasures"), 1);
	end();
}
END_TEST

START_TEST(what_was_begun_is_completed)
{
	struct person_erased erased;
	int64_t created_at_us = 0;

	begin();
	add_three();
	/* As a crash leaves it after the first transaction. */
	data_run("DELETE FROM accounts WHERE id = 1;"
		 "INSERT INTO erasures (id, created_at, erased_at) VALUES (1, 77, 88)");
	ck_assert_int_eq(person_find(db, 1, &created_at_us), OK);
	ck_assert_int_eq(created_at_us, 77);
	hand_over();
	ck_assert_int_eq(person_erase(commit, blobs, 1, &erased), OK);
	ck_assert_int_eq(erased.accounts, 0);
	ck_assert_int_eq(erased.images, 0);
	ck_assert_int_eq(blob_count(), 1);
	ck_assert_int_eq(person_erase(commit, blobs, 1, &erased), ERR_NOT_FOUND);
	take_back();
	ck_assert_str_eq(data_rows(ERASURES), "1 77 1\n");
	end();
}
END_TEST

START_TEST(whoever_was_erased_is_erased_again_from_an_older_backup)
{
	struct db *from, *to;
	int64_t count;

	begin();
	add_three();
	from = db;
	/* The backup, of before: of id 2 it is somebody else. */
	ck_assert_int_eq(db_open(OTHER, DB_WRITE, &account_schema, &to), OK);
	db = to;
	add_three();
	data_run("UPDATE accounts SET created_at = created_at - 1 WHERE id = 2");
	db = from;
	data_run("DELETE FROM accounts WHERE id < 3;"
		 "INSERT INTO erasures VALUES (1, 1800000000000000, 8, 9),"
		 " (2, 1800000000000000, 8, NULL), (9, 1, 2, 3)");
	ck_assert_int_eq(db_begin(to), OK);
	ck_assert_int_eq(person_erase_again(from, to, &count), OK);
	ck_assert_int_eq(db_commit(to), OK);
	ck_assert_int_eq(count, 1);
	db = to;
	ck_assert_str_eq(data_rows("SELECT name FROM accounts ORDER BY id"), "bo\ncy\n");
	ck_assert_int_eq(data_ask("SELECT count(*) FROM answers"), 6);
	ck_assert_str_eq(data_rows("SELECT id || ' ' || created_at || ' ' || erased_at || ' ' ||"
				   " coalesce(finished_at, '-') FROM erasures"),
	    "1 1800000000000000 8 9\n2 1800000000000000 8 -\n9 1 2 3\n");
	/* Again, and nothing is left to be done. */
	ck_assert_int_eq(db_begin(to), OK);
	ck_assert_int_eq(person_erase_again(from, to, &count), OK);
	ck_assert_int_eq(db_commit(to), OK);
	ck_assert_int_eq(count, 0);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM erasures"), 3);
	db_close(to);
	db = from;
	end();
}
END_TEST

/* "created_at status location etag body" of each. */
static enum err
see_answer(void *text, const struct person_answer *answer)
{
	size_t n = strlen(text);

	(void)snprintf((char *)text + n, 1024 - n, "%lld %d %s %s %.*s\n",
	    (long long)answer->created_at_us, answer->status, answer->location, answer->etag,
	    (int)answer->n, answer->body);
	return n < 512 ? OK : fail(ERR_BUSY, "enough");
}

START_TEST(the_answers_that_show_a_person_are_given_in_order)
{
	char text[1024] = "";

	begin();
	add_three();
	ck_assert_int_eq(person_answers(db, 1, see_answer, text), OK);
	ck_assert_str_eq(text,
	    "5 201 /accounts/1 \"e\" {\"id\":1,\"name\":\"ada\"}\n"
	    "5 201  \"e\" {\"name\":\"ada\",\"id\":1}\n"
	    "5 201 /accounts/1 \"e\" \n");
	text[0] = '\0';
	ck_assert_int_eq(person_answers(db, 4, see_answer, text), OK);
	ck_assert_str_eq(text, "");
	end();
}
END_TEST

CHECK_MAIN(person,
    { the_rows_the_image_and_the_answers_of_one_go_and_of_nobody_else, the_database_is_written_anew,
	who_is_not_there_is_not_found, what_was_begun_is_completed,
	whoever_was_erased_is_erased_again_from_an_older_backup,
	the_answers_that_show_a_person_are_given_in_order })
