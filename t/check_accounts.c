#include "data_set.h"

#include "exchange.h"
#include "lib/account.h"
#include "lib/link.h"
#include "lib/text.h"

static struct conf *conf;

/* What caredesk run has made before the program starts. */
static void
open_program(void)
{
	const struct conf_options options = { .listen = NULL };

	ck_assert_int_eq(mkdir("run", 0700), 0);
	link_secret_make(LINK_SECRET_HEX);
	ck_assert_int_eq(conf_parse("", 0, "test", &options, &conf), OK);
	ck_assert_msg(program.open(conf) == OK, "%s", err_words());
}

static void
close_program(void)
{
	program.close();
	conf_close(conf);
	(void)unlink(LINK_SECRET_FILE);
	(void)rmdir("run");
	(void)unlink("blobs/.owner");
	(void)rmdir("blobs");
}

static void
begin(void)
{
	folder_begin();
	open_program();
	ck_assert_int_eq(db_open(ACCOUNT_FILE, DB_READ, &account_schema, &db), OK);
}

static void
end(void)
{
	db_close(db);
	close_program();
	folder_end();
}

#define ACCOUNT(name, email, address) \
	"{\"name\":\"" name "\",\"email\":\"" email "\",\"address\":\"" address "\"}"
#define ADA ACCOUNT("Ada", "ada@example.com", "Road 1")
#define ADA_TEXT \
	"\"name\":\"Ada\",\"email\":\"ada@example.com\",\"address\":\"Road 1\"," \
	"\"image_hosted_url\":null,\"created_at\":\""

/* --- The routes. */

static const struct listed_route listed[] = {
	{ METHOD_GET, "/accounts", ROLE_CAREGIVER | ROLE_MANAGER | ROLE_ADMIN },
	{ METHOD_POST, "/accounts", ROLE_MANAGER | ROLE_ADMIN },
	{ METHOD_GET, "/accounts/{id}", ROLE_CAREGIVER | ROLE_MANAGER | ROLE_ADMIN },
	{ METHOD_PUT, "/accounts/{id}", ROLE_MANAGER | ROLE_ADMIN },
	{ METHOD_DELETE, "/accounts/{id}", ROLE_MANAGER | ROLE_ADMIN },
	{ METHOD_POST, "/accounts/{id}/upload_image", ROLE_MANAGER | ROLE_ADMIN },
	{ METHOD_POST, "/accounts/{id}/upload-image", ROLE_MANAGER | ROLE_ADMIN },
	{ METHOD_POST, "/private/accounts/{id}/export", ROLE_OPERATOR },
	{ METHOD_POST, "/private/accounts/{id}/erase", ROLE_OPERATOR },
	{ METHOD_GET, "/healthz/accounts", ROLES_ANYONE },
	{ METHOD_GET, "/metrics/accounts", ROLE_ADMIN },
};

START_TEST(every_route_is_listed_here_and_has_the_roles_of_the_contract)
{
	ck_assert_str_eq(program.name, "accounts");
	ck_routes(listed, COUNT(listed));
}
END_TEST

/* A life of the data, step by step. */
static const struct {
	const char *method, *uri, *body;
	int status;
	const char *location; /* "" for none */
	const char *has; /* of the body; NULL: it is empty */
} steps[] = {
	{ "GET", "/healthz/accounts", NULL, 200, "", "{\"status\":\"ok\"}" },
	{ "GET", "/accounts", NULL, 200, "", "[]" },
	{ "GET", "/accounts/1", NULL, 404, "", "there is no account 1" },
	{ "POST", "/accounts", ADA, 201, "/accounts/1", "{\"id\":1," ADA_TEXT },
	{ "GET", "/accounts/1", NULL, 200, "", "{\"id\":1," ADA_TEXT },
	{ "GET", "/accounts/1/", NULL, 200, "", "{\"id\":1," ADA_TEXT },
	{ "GET", "/accounts/", NULL, 200, "", "[{\"id\":1," ADA_TEXT },
	{ "POST", "/accounts", ADA, 409, "", "there is an account with this email already" },
	{ "POST", "/accounts", ACCOUNT("", "ada@EXAMPLE.com", ""), 409, "", "email already" },
	{ "POST", "/accounts/", ACCOUNT("", "Ada@EXAMPLE.com", ""), 201, "/accounts/2",
	    "\"name\":\"\",\"email\":\"Ada@example.com\",\"address\":\"\"," },
	{ "POST", "/accounts", ACCOUNT("B", "b@B\\u00dccher.De", "\\ud83d\\ude00"), 201,
	    "/accounts/3", "\"email\":\"b@xn--bcher-kva.de\",\"address\":\"\xf0\x9f\x98\x80\"," },
	{ "POST", "/accounts",
	    ACCOUNT("B",
		"b@b\xc3\xbc"
		"cher.de",
		""),
	    409, "", "email already" },
	{ "PUT", "/accounts/2", ACCOUNT("", "ada@Example.com", ""), 409, "", "email already" },
	{ "PUT", "/accounts/2", ACCOUNT("C", "Ada@example.COM", "D"), 200, "",
	    "{\"id\":2,\"name\":\"C\",\"email\":\"Ada@example.com\",\"address\":\"D\"," },
	{ "GET", "/accounts/2", NULL, 200, "", "\"name\":\"C\"," },
	{ "PUT", "/accounts/9", ADA, 404, "", "there is no account 9" },
	/* What a GET gave can be sent back: only the three texts are taken. */
	{ "PUT", "/accounts/1",
	    "{\"id\":7,\"name\":\"Ada\",\"email\":\"ada@example.com\",\"address\":\"Road 1\","
	    "\"image_hosted_url\":\"http://x/\",\"created_at\":0,\"x\":[{}]}",
	    200, "", "{\"id\":1," ADA_TEXT },
	{ "DELETE", "/accounts/1", NULL, 204, "", NULL },
	{ "DELETE", "/accounts/1", NULL, 404, "", "there is no account 1" },
	{ "GET", "/accounts/1", NULL, 404, "", "there is no account 1" },
	{ "PUT", "/accounts/1", ADA, 404, "", "there is no account 1" },
	/* Its mail address is free again, its id is not. */
	{ "POST", "/accounts", ADA, 201, "/accounts/4", "{\"id\":4," ADA_TEXT },
	/* What is no id is nothing. */
	{ "GET", "/accounts/0", NULL, 404, "", "there is nothing at this address" },
	{ "GET", "/accounts/-1", NULL, 404, "", "there is nothing at this address" },
	{ "GET", "/accounts/1.0", NULL, 404, "", "there is nothing at this address" },
	{ "PUT", "/accounts/x", ADA, 404, "", "there is nothing at this address" },
	{ "DELETE", "/accounts/9223372036854775808", NULL, 404, "", "nothing at this address" },
	{ "DELETE", "/accounts/9223372036854775807", NULL, 404, "", "there is no account 922" },
	{ "GET", "/accounts/1/image", NULL, 404, "", "there is nothing at this address" },
	{ "PATCH", "/accounts/1", ADA, 405, "", "" },
	{ "DELETE", "/accounts", NULL, 405, "", "" },
};

START_TEST(each_call_answers_as_the_contract_says)
{
	begin();
	for (size_t i = 0; i < COUNT(steps); i++) {
		int status =
		    ASK(.method = steps[i].method, .uri = steps[i].uri, .body = steps[i].body);

		ck_assert_msg(status == steps[i].status, "%zu: %s %s: %d %s", i, steps[i].method,
		    steps[i].uri, status, BODY);
		ck_assert_str_eq(FIELD("Location"), steps[i].location);
		if (steps[i].has == NULL)
			ck_assert_str_eq(BODY, "");
		else
			ck_has(steps[i].has);
		if (status == 409)
			ck_assert(!has("xample") && !has("cher"));
	}
	end();
}
END_TEST

/* --- Bad bodies. */

#define BAD(pointer, detail) "{\"detail\":\"" detail "\",\"pointer\":\"" pointer "\"}"
#define BAD_STRING(pointer) BAD(pointer, "must be a string of 0..4096 characters")
#define BAD_EMAIL BAD("#/email", "must be something, @, something")

static const struct {
	const char *body, *errors;
} bad_bodies[] = {
	{ "{}",
	    BAD("#/name", "is required") "," BAD("#/email", "is required") "," BAD(
		"#/address", "is required") },
	{ "{\"name\":1,\"email\":false,\"address\":[]}",
	    BAD_STRING("#/name") "," BAD_STRING("#/email") "," BAD_STRING("#/address") },
	{ ACCOUNT("", "", ""), BAD_EMAIL },
	{ ACCOUNT("", "@", ""), BAD_EMAIL },
	{ ACCOUNT("", "a@", ""), BAD_EMAIL },
	{ ACCOUNT("", "@b", ""), BAD_EMAIL },
	{ ACCOUNT("", "a@b@", ""), BAD_EMAIL },
	{ ACCOUNT("", "secret", ""), BAD_EMAIL },
	{ ACCOUNT("\\u0000", "a@b", ""), BAD("#/name", "NUL is not allowed") },
	{ ACCOUNT("\\ud800", "a@b", ""), BAD("#/name", "half a surrogate pair") },
	{ ACCOUNT("", "a@b", "\xff"), BAD("#/address", "not UTF-8") },
};

START_TEST(a_bad_body_is_refused_with_each_bad_field_and_without_its_texts)
{
	char errors[512];

	begin();
	ck_assert_int_eq(POST("/accounts", ADA), 201);
	for (size_t i = 0; i < COUNT(bad_bodies); i++) {
		(void)snprintf(errors, sizeof(errors), "\"errors\":[%s]", bad_bodies[i].errors);
		ck_assert_msg(POST("/accounts", bad_bodies[i].body) == 400, "%s", one.text);
		ck_has(errors);
		ck_assert_msg(PUT("/accounts/1", bad_bodies[i].body) == 400, "%s", one.text);
		ck_has(errors);
		ck_assert(!has("secret"));
	}
	ck_assert_int_eq(POST("/accounts", "[]"), 400);
	ck_assert_int_eq(POST("/accounts", "{\"name\":\"a\",\"name\":\"b\"}"), 400);
	ck_assert_int_eq(POST("/accounts", NULL), 415);
	ck_assert_int_eq(
	    ASK(.method = "PUT", .uri = "/accounts/1", .body = ADA, .type = "text/plain"), 415);
	ck_assert_int_eq(
	    ASK(.method = "POST", .uri = "/accounts", .body = ADA, .encoding = "gzip"), 415);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM accounts"), 1);
	ck_assert_int_eq(data_ask("SELECT version FROM accounts"), 1);
	end();
}
END_TEST

#define BODY_MAX (ACCOUNT_FIELDS * ACCOUNT_TEXT_MAX * 12 + 16 * 1024)

static char big[BODY_MAX + 16];

/* A body whose three texts have so many LETTERs each, the mail address "@b" at the end. */
static size_t
make_big(const char *letter, size_t letters, size_t email_letters)
{
	size_t n = (size_t)sprintf(big, "{\"name\":\"");
	const size_t counts[] = { letters, email_letters, letters };
	static const char *const after[] = { "\",\"email\":\"", "@b\",\"address\":\"", "\"}" };

	for (size_t i = 0; i < COUNT(counts); i++) {
		for (size_t j = 0; j < counts[i]; j++)
			n += (size_t)sprintf(big + n, "%s", letter);
		n += (size_t)sprintf(big + n, "%s", after[i]);
	}
	return n;
}

START_TEST(each_text_has_up_to_4096_characters_however_they_are_written)
{
	static const char *const letters[] = { "x", "\xf0\x9f\x98\x80", "\\ud83d\\ude00", "\\u0001",
		"\\\"" };

	for (size_t i = 0; i < COUNT(letters); i++) {
		begin();
		(void)make_big(letters[i], 4096, 4094);
		ck_assert_msg(POST("/accounts", big) == 201, "%s", one.text);
		ck_assert_int_eq(GET("/accounts/1"), 200);
		ck_assert_str_eq(data_rows("SELECT length(name) || ' ' || length(email) || ' ' || "
					   "length(address) FROM accounts"),
		    "4096 4096 4096\n");
		/* What a GET gave can be sent back. */
		(void)snprintf(big, sizeof(big), "%s", BODY);
		ck_assert_msg(PUT("/accounts/1", big) == 200, "%s", one.text);
		(void)make_big(letters[i], 4096, 4095);
		ck_assert_int_eq(POST("/accounts", big), 400);
		ck_has("\"errors\":[" BAD_STRING("#/email") "]");
		(void)make_big(letters[i], 4097, 1);
		ck_assert_int_eq(POST("/accounts", big), 400);
		ck_assert(strstr(letters[i], "ud83d") != NULL
			? has(BAD("#/name", "the string is too long"))
			: has("\"errors\":[" BAD_STRING("#/name") "," BAD_STRING("#/address") "]"));
		end();
	}
}
END_TEST

START_TEST(a_body_has_a_limit)
{
	size_t n;

	begin();
	n = make_big("\\ud83d\\ude00", 4096, 4094);
	memset(big + n, ' ', sizeof(big) - n);
	ck_assert_int_eq(
	    ASK(.method = "POST", .uri = "/accounts", .body = big, .n = BODY_MAX + 1), 413);
	ck_assert_int_eq(
	    ASK(.method = "POST", .uri = "/accounts", .body = big, .n = BODY_MAX), 201);
	end();
}
END_TEST

START_TEST(a_mail_address_has_4096_characters_with_its_a_labels)
{
	size_t n = (size_t)sprintf(big, "{\"name\":\"\",\"address\":\"\",\"email\":\"");

	begin();
	memset(big + n, 'x', 4094);
	(void)sprintf(big + n + 4094, "@\xc3\xbc\"}");
	ck_assert_int_eq(POST("/accounts", big), 400);
	ck_has(BAD("#/email", "must have at most 4096 characters with its A-labels"));
	(void)sprintf(big + n + 4088, "@\xc3\xbc\"}");
	ck_assert_int_eq(POST("/accounts", big), 201);
	ck_has("x@xn--tda\"");
	end();
}
END_TEST

/* --- Versions. */

START_TEST(an_account_has_a_strong_etag_until_it_changes)
{
	char first[256], second[256];

	begin();
	ck_assert_int_eq(POST("/accounts", ADA), 201);
	(void)snprintf(first, sizeof(first), "%s", FIELD("ETag"));
	ck_assert_msg(first[0] == '"' && first[strlen(first) - 1] == '"', "%s", first);
	ck_assert_int_eq(GET("/accounts/1"), 200);
	ck_assert_str_eq(FIELD("ETag"), first);
	ck_assert_str_eq(FIELD("Cache-Control"), "no-cache");
	ck_assert_int_eq(ASK(.method = "GET", .uri = "/accounts/1", .if_none_match = first), 304);
	ck_assert_str_eq(FIELD("ETag"), first);
	ck_assert_int_eq(ASK(.method = "GET", .uri = "/accounts/1", .if_match = "\"x\""), 412);
	/* The same texts again are a change, too. */
	ck_assert_int_eq(
	    ASK(.method = "PUT", .uri = "/accounts/1", .body = ADA, .if_match = first), 200);
	(void)snprintf(second, sizeof(second), "%s", FIELD("ETag"));
	ck_assert_str_ne(first, second);
	ck_assert_int_eq(
	    ASK(.method = "PUT", .uri = "/accounts/1", .body = ADA, .if_match = first), 412);
	ck_assert_int_eq(ASK(.method = "DELETE", .uri = "/accounts/1", .if_match = first), 412);
	ck_assert_int_eq(
	    ASK(.method = "PUT", .uri = "/accounts/1", .body = ADA, .if_none_match = "*"), 412);
	ck_assert_int_eq(ASK(.method = "GET", .uri = "/accounts/1", .if_none_match = first), 200);
	ck_assert_str_eq(FIELD("ETag"), second);
	ck_assert_int_eq(ASK(.method = "DELETE", .uri = "/accounts/1", .if_match = second), 204);
	ck_assert_int_eq(ASK(.method = "DELETE", .uri = "/accounts/1", .if_match = "*"), 404);
	end();
}
END_TEST

START_TEST(a_list_has_an_etag_until_one_of_its_accounts_changes)
{
	static const char *const uris[] = { "/accounts", "/accounts?name=Ada",
		"/accounts?limit=1" };
	char etags[COUNT(uris)][256];

	begin();
	ck_assert_int_eq(POST("/accounts", ADA), 201);
	ck_assert_int_eq(POST("/accounts", ACCOUNT("Bo", "bo@b", "")), 201);
	for (size_t i = 0; i < COUNT(uris); i++) {
		ck_assert_int_eq(GET(uris[i]), 200);
		(void)snprintf(etags[i], sizeof(etags[0]), "%s", FIELD("ETag"));
		ck_assert_str_eq(FIELD("Cache-Control"), "no-cache");
		ck_assert_int_eq(
		    ASK(.method = "GET", .uri = uris[i], .if_none_match = etags[i]), 304);
	}
	ck_assert_str_ne(etags[1], etags[2]); /* one has a next page */
	ck_assert_int_eq(PUT("/accounts/2", ACCOUNT("Bo", "bo@b", "x")), 200);
	for (size_t i = 0; i < COUNT(uris); i++)
		ck_assert_int_eq(ASK(.method = "GET", .uri = uris[i], .if_none_match = etags[i]),
		    i == 0 ? 200 : 304);
	end();
}
END_TEST

/* --- Retries. */

START_TEST(a_post_with_the_same_key_is_answered_as_before_and_done_once)
{
	static char first[sizeof(one.text)];

	begin();
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/accounts", .body = ADA, .key = "k"), 201);
	memcpy(first, one.text, one.n + 1);
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/accounts", .body = ADA, .key = "k"), 201);
	ck_assert_str_eq(BODY, strstr(first, "\r\n\r\n") + 4);
	ck_assert_str_eq(FIELD("Location"), "/accounts/1");
	ck_assert_str_ne(FIELD("ETag"), "");
	ck_assert_int_eq(data_ask("SELECT count(*) FROM accounts"), 1);
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/accounts",
			     .body = ACCOUNT("Ada", "ada@example.com", "Road 2"), .key = "k"),
	    422);
	/* Without the key, or with another, it is another request. */
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/accounts", .body = ADA, .key = "l"), 409);
	ck_assert_int_eq(DELETE("/accounts/1"), 204);
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/accounts", .body = ADA, .key = "l"), 201);
	ck_assert_str_eq(FIELD("Location"), "/accounts/2");
	ck_assert_int_eq(ASK(.method = "POST", .uri = "/accounts", .body = ADA, .key = "a b"), 400);
	end();
}
END_TEST

START_TEST(of_many_with_one_mail_address_just_one_is_added)
{
	begin();
	raced = (struct question){ .method = "POST", .uri = "/accounts", .body = ADA };
	ck_assert_int_eq(run_race(201), 1);
	for (size_t i = 0; i < RACERS; i++)
		ck_assert(status_of(&racers[i]) == 201 || status_of(&racers[i]) == 409);
	ck_assert_int_eq(data_ask("SELECT count(*) FROM accounts"), 1);
	end();
}
END_TEST

/* --- Lists and searches. */

/* The ids of a list, "1 2 3", through all its pages. */
static const char *
ids_of(const char *uri)
{
	static char ids[512];
	char next[REQUEST_QUERY_MAX];

	ids[0] = '\0';
	(void)snprintf(next, sizeof(next), "%s", uri);
	while (next[0] != '\0') {
		const char *link;

		ck_assert_msg(GET(next) == 200, "%s: %s", next, one.text);
		for (const char *at = BODY; (at = strstr(at, "{\"id\":")) != NULL; at++)
			(void)sprintf(ids + strlen(ids), "%s%lld", ids[0] != '\0' ? " " : "",
			    strtoll(at + 6, NULL, 10));
		link = FIELD("Link");
		next[0] = '\0';
		if (link[0] != '\0')
			(void)snprintf(
			    next, sizeof(next), "%.*s", (int)strcspn(link + 1, ">"), link + 1);
	}
	return ids;
}

static const struct {
	const char *query, *ids;
} searches[] = {
	{ "", "1 2 3 4 5 6" },
	{ "limit=1", "1 2 3 4 5 6" },
	{ "limit=4", "1 2 3 4 5 6" },
	{ "limit=6", "1 2 3 4 5 6" },
	{ "name=Ada", "1 2" },
	{ "name=Ada&limit=1", "1 2" },
	{ "name=ada", "" },
	{ "name=", "4" },
	{ "name=&address=", "4" },
	{ "name=Ada&address=Road+1", "1" },
	{ "address=Road%201", "1 3" },
	{ "address=Road%201&limit=1", "1 3" },
	{ "address=Road", "" },
	{ "name=Ada&address=Road+1&email=ada@example.com", "1" },
	{ "name=Ada&address=Road+2&email=ada@example.com", "" },
	{ "name=Ada&address=Road+1&limit=1", "1" },
	/* The domain is folded alike. */
	{ "email=ada@example.com", "1" },
	{ "email=ada%40EXAMPLE.Com", "1" },
	{ "email=Ada@example.com", "" },
	{ "email=b%40b%C3%BCcher.de", "3" },
	{ "email=b%40xn--bcher-kva.de", "3" },
	{ "email=b@B%C3%9CCHER.de", "3" },
	/* What is no mail address is nobody's. */
	{ "email=", "" },
	{ "email=@", "" },
	{ "email=ada", "" },
	/* Nothing in a text means anything. */
	{ "name=%25", "" },
	{ "name=A%25", "" },
	{ "name=_da", "" },
	{ "name=*", "" },
	{ "name=null", "" },
	{ "name=%27%20OR%201=1--", "5" },
	{ "name=' OR 1=1--", "5" },
	{ "address=%22;DROP%20TABLE%20accounts", "5" },
	{ "name=%F0%9F%98%80&address=%0A%0D%09%01", "6" },
	{ "name=%F0%9F%98%80%20", "" },
	{ "unknown=1&name=Ada", "1 2" },
};

static void
post_six(void)
{
	static const char *const bodies[] = { ADA, ACCOUNT("Ada", "ada@b", "Road 2"),
		ACCOUNT("Bo",
		    "b@b\xc3\xbc"
		    "cher.de",
		    "Road 1"),
		ACCOUNT("", "c@b", ""), ACCOUNT("' OR 1=1--", "d@b", "\\\";DROP TABLE accounts"),
		ACCOUNT("\xf0\x9f\x98\x80", "e@b", "\\n\\r\\t\\u0001") };

	for (size_t i = 0; i < COUNT(bodies); i++)
		ck_assert_msg(POST("/accounts", bodies[i]) == 201, "%s", one.text);
}

START_TEST(a_search_finds_what_is_equal_in_all_pages)
{
	char uri[512];

	begin();
	post_six();
	for (size_t i = 0; i < COUNT(searches); i++) {
		(void)snprintf(uri, sizeof(uri), "/accounts?%s", searches[i].query);
		ck_assert_msg(
		    strcmp(ids_of(uri), searches[i].ids) == 0, "%s: %s", uri, ids_of(uri));
	}
	end();
}
END_TEST

START_TEST(a_link_has_no_text_and_leads_on_however_long_the_text_is)
{
	static char uri[REQUEST_QUERY_MAX + 64];
	char body[8192];
	size_t n = (size_t)sprintf(uri, "/accounts?limit=1&name=");

	begin();
	for (size_t i = 0; n < REQUEST_QUERY_MAX - 64; i++)
		n += (size_t)sprintf(uri + n, "%%40");
	for (int i = 0; i < 3; i++) {
		size_t at =
		    (size_t)sprintf(body, "{\"email\":\"%d@b\",\"address\":\"x\",\"name\":\"", i);

		for (size_t j = 0; j < strlen(strstr(uri, "name=") + 5) / 3; j++)
			body[at++] = '@';
		(void)sprintf(body + at, "\"}");
		ck_assert_msg(POST("/accounts", body) == 201, "%s", one.text);
	}
	ck_assert_str_eq(ids_of(uri), "1 2 3");
	ck_assert_int_eq(GET("/accounts?limit=1&address=x"), 200);
	ck_assert_ptr_nonnull(strstr(FIELD("Link"), "</accounts?address_digest="));
	ck_assert_ptr_null(strstr(FIELD("Link"), "address="));
	end();
}
END_TEST

static const struct {
	const char *query, *errors;
} bad_queries[] = {
	{ "limit=0", BAD("limit", "must be a whole number of 1..1000") },
	{ "limit=1001", BAD("limit", "must be a whole number of 1..1000") },
	{ "cursor=x", BAD("cursor", "must be one that a Link header gave") },
	{ "name=a&name=a", BAD("name", "given twice") },
	{ "name_digest=x", BAD("name_digest", "must be one that a Link header gave") },
	{ "email_digest=0123456789abcdef0123456789abcdef0",
	    BAD("email_digest", "must be one that a Link header gave") },
	{ "address_digest=0123456789abcdef0123456789abcdef&address=a",
	    BAD("address", "is not taken together with address_digest") },
};

START_TEST(a_bad_parameter_is_named)
{
	char uri[512], errors[512];

	begin();
	for (size_t i = 0; i < COUNT(bad_queries); i++) {
		(void)snprintf(uri, sizeof(uri), "/accounts?%s", bad_queries[i].query);
		ck_assert_msg(GET(uri) == 400, "%s", one.text);
		(void)snprintf(errors, sizeof(errors), "\"errors\":[%s]", bad_queries[i].errors);
		ck_has(errors);
	}
	ck_assert_int_eq(GET("/accounts?name=%ff"), 400);
	ck_assert_int_eq(GET("/accounts?name=%00"), 400);
	end();
}
END_TEST

/* --- The storage. */

START_TEST(without_its_database_it_is_busy_and_says_so)
{
	static const char *const uris[] = { "/accounts", "/accounts/1", "/healthz/accounts" };

	folder_begin();
	ck_assert_int_eq(rmdir("db"), 0);
	open_program();
	for (size_t i = 0; i < COUNT(uris); i++) {
		ck_assert_int_eq(GET(uris[i]), 503);
		ck_assert_str_ne(FIELD("Retry-After"), "");
		ck_assert(!has("SQL") && !has("accounts.db"));
	}
	ck_assert_int_eq(POST("/accounts", ADA), 503);
	ck_assert_int_eq(PUT("/accounts/1", ADA), 503);
	ck_assert_int_eq(DELETE("/accounts/1"), 503);
	ck_assert_int_eq(POST("/accounts", "{}"), 400);
	close_program();
	folder_end();
}
END_TEST

START_TEST(no_text_of_anybody_gets_into_the_log)
{
	static char line[8192];
	struct caught caught;
	size_t lines = 0;

	begin();
	caught = stderr_catch();
	post_six();
	(void)POST("/accounts", ADA);
	(void)POST("/accounts", ACCOUNT("Ada", "no address", "Road"));
	(void)POST("/accounts", ACCOUNT("Ada", "x@y", "\xff"));
	(void)PUT("/accounts/1", ACCOUNT("Ada", "b@b", ""));
	(void)PUT("/accounts/2", ADA);
	(void)GET("/accounts?name=Ada&email=ada@example.com&address=Road+1");
	(void)GET("/accounts?name=Ada&name=Ada");
	(void)DELETE("/accounts/1");
	for (; stderr_next(&caught, line, sizeof(line)) > 0; lines++)
		ck_assert_msg(strstr(line, "Ada") == NULL && strstr(line, "xample") == NULL &&
			strstr(line, "Road") == NULL,
		    "%s", line);
	stderr_release(&caught);
	ck_assert_uint_ge(lines, 14);
	end();
}
END_TEST

CHECK_MAIN(accounts,
    { every_route_is_listed_here_and_has_the_roles_of_the_contract,
	each_call_answers_as_the_contract_says,
	a_bad_body_is_refused_with_each_bad_field_and_without_its_texts,
	each_text_has_up_to_4096_characters_however_they_are_written, a_body_has_a_limit,
	a_mail_address_has_4096_characters_with_its_a_labels,
	an_account_has_a_strong_etag_until_it_changes,
	a_list_has_an_etag_until_one_of_its_accounts_changes,
	a_post_with_the_same_key_is_answered_as_before_and_done_once,
	of_many_with_one_mail_address_just_one_is_added, a_search_finds_what_is_equal_in_all_pages,
	a_link_has_no_text_and_leads_on_however_long_the_text_is, a_bad_parameter_is_named,
	without_its_database_it_is_busy_and_says_so, no_text_of_anybody_gets_into_the_log })
