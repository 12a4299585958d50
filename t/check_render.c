#include "test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/stat.h>

#include "caredesk.h"
#include "lib/problem.h"
#include "lib/programs.h"

#define UPSTREAM "coalesce:\n  upstreams:\n    - {name: alpha, url: \"https://alpha.test/\"}\n"

#define TLS "tls: {certificate: /proc/self/cwd/pair.pem, key: /proc/self/cwd/pair.pem"

#define REQUIRED "auth: {mode: required, issuer: i, audience: a}\n"

/* Of nobody: openssl req -x509. */
static const char pair[] = "-----BEGIN PRIVATE KEY-----\n"
			   "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgSl8+fC6CSLxTVG/3\n"
			   "zwctcjnip8usIWzIaOM/3Yqph0qhRANCAAQCEkB65LOX/S9mfoG5jHgnbSLtOMS3\n"
			   "GGIJ4Tb02MSlSDiLIe+ibMxtms+fnWmyqbnbS04VWz30fvVg9FbcM3wB\n"
			   "-----END PRIVATE KEY-----\n"
			   "-----BEGIN CERTIFICATE-----\n"
			   "MIIBdjCCARugAwIBAgIUS0Tp4CZ+V7DFaQXEkFNQKbKVoUwwCgYIKoZIzj0EAwIw\n"
			   "DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjIwMTM0NTJaGA8yMTI2MTAyOTAxMzQ1\n"
			   "MlowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABAIS\n"
			   "QHrks5f9L2Z+gbmMeCdtIu04xLcYYgnhNvTYxKVIOIsh76JszG2az5+dabKpudtL\n"
			   "ThVbPfR+9WD0VtwzfAGjUzBRMB0GA1UdDgQWBBSYt9WVzAG49FdaDaNHlok8fN1y\n"
			   "1zAfBgNVHSMEGDAWgBSYt9WVzAG49FdaDaNHlok8fN1y1zAPBgNVHRMBAf8EBTAD\n"
			   "AQH/MAoGCCqGSM49BAMCA0kAMEYCIQDfOBqDJ8K+vNJA0rma6HZOQ0zm+mo9lLIZ\n"
			   "oobvc2TCagIhAJYC6+xbzROVazQqsAcG+04FmJboxAqBUrbquOtmIzcs\n"
			   "-----END CERTIFICATE-----\n";

/* What was rendered last. */
static char *text;
static size_t text_n;

/* Begins another. */
static FILE *
text_open(void)
{
	FILE *out;

	free(text);
	ck_assert_ptr_nonnull(out = open_memstream(&text, &text_n));
	return out;
}

static struct conf *
parse(const char *yaml, const char *listen)
{
	const struct conf_options options = { .listen = listen };
	struct conf *conf;

	ck_assert_msg(
	    conf_parse(yaml, strlen(yaml), "test", &options, &conf) == OK, "%s", err_words());
	return conf;
}

/* The nginx configuration for YAML into TEXT. */
static void
render(const char *yaml, const char *listen)
{
	struct conf *conf = parse(yaml, listen);
	FILE *out = text_open();

	ck_assert_msg(render_nginx(conf, "SECRET", out) == OK, "%s", err_words());
	ck_assert_int_eq(fclose(out), 0);
	conf_close(conf);
}

/* How often WORDS are in the text. */
static unsigned
said(const char *words)
{
	unsigned n = 0;

	for (const char *at = text; (at = strstr(at, words)) != NULL; at++)
		n++;
	return n;
}

static const struct {
	const char *what, *yaml, *listen;
} confs[] = {
	{ "the defaults", "", NULL },
	{ "an upstream", UPSTREAM, NULL },
	{ "no caching", "coalesce:\n  max_age_s: 0\n", NULL },
	{ "no caching, an upstream", UPSTREAM "  max_age_s: 0\n", NULL },
	{ "IPv6", "", "[::1]:8080" },
	{ "the shortest deadline", "coalesce:\n  deadline_ms: 10\n", NULL },
	{ "the longest deadline", "coalesce:\n  deadline_ms: 60000\n  max_age_s: 86400\n", NULL },
	{ "a high port", "", "127.0.0.1:65535" },
	{ "tokens", REQUIRED "public_url: https://Care.example:8443\n", NULL },
	{ "tokens, one host", REQUIRED "public_url: http://127.0.0.1\n", NULL },
	{ "tokens, words of nginx", REQUIRED "public_url: https://default\n", NULL },
	{ "https", TLS "}\n", NULL },
	{ "https, IPv6", TLS "}\n", "[::1]:8080" },
	{ "https from elsewhere", TLS ", redirect_from: '127.0.0.1:29999'}\n" REQUIRED, NULL },
	{ "origins", "cors: {origins: [https://app.example, http://localhost:3000]}\n", NULL },
	{ "proxies", "trusted_proxies: [127.0.0.1, 10.0.0.0/8, '2001:db8::/32']\n", NULL },
	{ "no limits", "limits: {requests_per_s: 0, connections: 0}\n", NULL },
	{ "other limits", "limits: {requests_per_s: 100000, burst: 1, connections: 65535}\n",
	    NULL },
	{ "tokens, no caching", REQUIRED "coalesce: {max_age_s: 0}\n", "[::1]:8080" },
};

START_TEST(every_placeholder_is_filled)
{
	for (size_t i = 0; i < COUNT(confs); i++) {
		int depth = 0;

		render(confs[i].yaml, confs[i].listen);
		ck_assert_msg(
		    strchr(text, '@') == NULL, "%s: %.60s", confs[i].what, strchr(text, '@'));
		for (const char *at = text; *at != '\0'; at++)
			depth += (*at == '{') - (*at == '}');
		ck_assert_msg(depth == 0, "%s: %d brackets are open", confs[i].what, depth);
		ck_assert_ptr_null(strstr(text, "(null)"));
	}
}
END_TEST

START_TEST(it_listens_where_the_configuration_says_and_nowhere_else)
{
	render("", "127.0.0.1:18080");
	ck_assert_uint_eq(said("listen 127.0.0.1:18080 "), 1);
	ck_assert_uint_eq(said("listen unix:run/http.sock;"), 1);
	ck_assert_uint_eq(said("listen 127.0.0.1:28080;"), 1); /* the demo insurers */
	ck_assert_uint_eq(said("\tlisten "), 3);
	render(UPSTREAM, "[::1]:18080");
	ck_assert_uint_eq(said("listen [::1]:18080 "), 1);
	ck_assert_uint_eq(said("\tlisten "), 2);
}
END_TEST

START_TEST(demo_insurers_are_there_only_if_no_others_are)
{
	render("", NULL);
	ck_assert_uint_eq(said("$demo_answer {"), 1);
	render(UPSTREAM, NULL);
	ck_assert_uint_eq(said("demo"), 0);
	ck_assert_uint_eq(said("alpha.test"), 0); /* nginx has no business with them */
}
END_TEST

START_TEST(nothing_is_cached_where_max_age_is_0)
{
	render("", NULL);
	ck_assert_uint_eq(said("fastcgi_cache coalesce;"), 1);
	render("coalesce:\n  max_age_s: 0\n", NULL);
	ck_assert_uint_eq(said("fastcgi_cache coalesce;"), 0);
	ck_assert_uint_eq(said("fastcgi_cache_lock"), 0);
	ck_assert_uint_eq(
	    said("fastcgi_pass coalesce;"), 5); /* the resource, twice its health and metrics */
}
END_TEST

START_TEST(where_tokens_are_asked_for_the_cache_is_behind_the_program)
{
	render("", NULL);
	ck_assert_uint_eq(said("/.cached/coalesce"), 0);
	render(REQUIRED, NULL);
	ck_assert_uint_eq(said("fastcgi_cache coalesce;"), 1);
	ck_assert_uint_eq(said("set $cached_at /.cached/coalesce;"), 1);
	ck_assert_ptr_nonnull(
	    strstr(strstr(text, "location = /.cached/coalesce {\n\t\t\tinternal;"),
		"fastcgi_cache coalesce;"));
	render(REQUIRED "coalesce: {max_age_s: 0}\n", NULL);
	ck_assert_uint_eq(said("/.cached/coalesce"), 0);
	ck_assert_uint_eq(said("fastcgi_cache coalesce;"), 0);
}
END_TEST

START_TEST(who_comes_by_the_private_socket_is_the_operator_and_nobody_else)
{
	const char *private;

	render(REQUIRED, NULL);
	private = strstr(text, "listen unix:");
	ck_assert_ptr_nonnull(private);
	ck_assert_uint_eq(said("set $operator "), 2);
	ck_assert_ptr_nonnull(strstr(private, "set $operator 1;"));
	ck_assert(strstr(text, "set $operator \"\";") < strstr(text, "if ($changes)"));
	ck_assert_uint_eq(said("fastcgi_param CAREDESK_OPERATOR $operator if_not_empty;"), 1);
	/* Where a location has its own, it has none of those of all. */
	ck_assert_uint_eq(
	    said("fastcgi_param "), said("\n\tfastcgi_param ") + said("\n\t\t\tfastcgi_param "));
	ck_assert_uint_eq(said("fastcgi_param CAREDESK_ASKED_FIRST 1;"), 1);
	render("", NULL);
	ck_assert_uint_eq(said("fastcgi_param "), said("\n\tfastcgi_param "));
}
END_TEST

START_TEST(where_tokens_are_asked_for_an_import_is_asked_about_first)
{
	const char *asked;

	render("", NULL);
	ck_assert_uint_eq(said("auth_request"), 0);
	ck_assert_uint_eq(said("/.asked/events"), 0);
	render(REQUIRED, NULL);
	ck_assert_uint_eq(said("auth_request /.asked/events;"), 1);
	asked = strstr(text, "location = /.asked/events {\n\t\t\tinternal;");
	ck_assert_ptr_nonnull(asked);
	ck_assert_ptr_nonnull(strstr(asked, "fastcgi_pass_request_headers off;"));
	ck_assert_ptr_nonnull(strstr(asked, "fastcgi_pass_request_body off;"));
}
END_TEST

START_TEST(with_tokens_it_answers_to_the_names_that_it_has)
{
	render("public_url: https://care.example\n", NULL);
	ck_assert_uint_eq(said("care.example"), 0);
	render(REQUIRED "public_url: https://care.example:8443/x\n", "0.0.0.0:8080");
	ck_assert_uint_eq(said("\"\\\\care.example\" \"\";"), 1);
	ck_assert_uint_eq(said("\"\\\\0.0.0.0\" \"\";"), 1);
	render(REQUIRED, "[::]:8080");
	ck_assert_uint_eq(said("\"\\\\[::]\" \"\";"), 1);
}
END_TEST

START_TEST(https_is_served_by_sound_versions_and_asked_for)
{
	render("", NULL);
	ck_assert_uint_eq(said("ssl"), 0);
	ck_assert_uint_eq(said("Strict-Transport-Security"), 0);
	render(TLS "}\n", "127.0.0.1:8443");
	ck_assert_uint_eq(said("listen 127.0.0.1:8443 ssl http2 backlog=1024;"), 1);
	ck_assert_uint_eq(said("ssl_protocols TLSv1.2 TLSv1.3;"), 1);
	ck_assert_uint_eq(said("ssl_session_tickets off;"), 1);
	ck_assert_uint_eq(said("add_header Strict-Transport-Security "), 1);
	ck_assert_uint_eq(said("return 308 https://$host:8443$request_uri;"), 1);
	render(TLS ", redirect_from: '0.0.0.0:80'}\n" REQUIRED
		   "public_url: https://care.example:8443/x\n",
	    "0.0.0.0:443");
	ck_assert_uint_eq(said("listen 0.0.0.0:80 backlog=1024;"), 1);
	ck_assert_uint_eq(said("return 308 https://care.example:8443$request_uri;"), 1);
}
END_TEST

START_TEST(limits_are_for_all_but_this_machine)
{
	render("", NULL);
	ck_assert_uint_eq(said("zone=requests:10m rate=50r/s;"), 1);
	ck_assert_uint_eq(said("limit_req zone=requests burst=100 nodelay;"), 3);
	ck_assert_uint_eq(said("limit_req zone=costly burst=10 nodelay;"), 2);
	ck_assert_uint_eq(said("limit_conn connections 50;"), 1);
	ck_assert_uint_eq(said("\t\t127.0.0.0/8 \"\";"), 1);
	render(REQUIRED, "10.1.2.3:80");
	ck_assert_uint_eq(said("\t\t10.1.2.3 \"\";"), 1);
	render("limits: {requests_per_s: 0, connections: 0}\n", NULL);
	ck_assert_uint_eq(said("limit_req zone"), 0);
	ck_assert_uint_eq(said("limit_req_zone"), 0);
	ck_assert_uint_eq(said("limit_conn connections"), 0);
}
END_TEST

START_TEST(nobody_is_trusted_who_is_not_named)
{
	render("", NULL);
	ck_assert_uint_eq(said("real_ip"), 0);
	ck_assert_uint_eq(said("Access-Control"), 0);
	render("trusted_proxies: [10.0.0.0/8]\ncors: {origins: [https://app.example]}\n", NULL);
	ck_assert_uint_eq(said("set_real_ip_from 10.0.0.0/8;"), 1);
	ck_assert_uint_eq(said("real_ip_header X-Forwarded-For;"), 1);
	ck_assert_uint_eq(said("\"https://app.example\" \"https://app.example\";"), 1);
	ck_assert_uint_eq(said("Access-Control-Allow-Origin $allowed_origin always;"), 1);
	ck_assert_uint_eq(said("Allow-Credentials"), 0);
}
END_TEST

START_TEST(every_program_has_its_socket_and_its_health)
{
	char words[128];

	render("", NULL);
	for (size_t i = 0; i < PROGRAM_COUNT; i++) {
		(void)snprintf(words, sizeof(words), "server unix:run/%s.sock", program_names[i]);
		ck_assert_uint_eq(said(words), 1);
		(void)snprintf(
		    words, sizeof(words), "location ~ ^/healthz/%s/?\\z {", program_names[i]);
		ck_assert_uint_eq(said(words), 2); /* for callers, and for health itself */
	}
}
END_TEST

START_TEST(metrics_are_for_this_machine_only)
{
	char words[128];

	render("", NULL);
	for (size_t i = 0; i < PROGRAM_COUNT; i++) {
		(void)snprintf(
		    words, sizeof(words), "location ~ ^/metrics/%s/?\\z {", program_names[i]);
		ck_assert_uint_eq(said(words), 2); /* for callers, and for health */
		(void)snprintf(words, sizeof(words),
		    "location ~ ^/metrics/%s/?\\z {\n\t\t\tallow 127.0.0.1;\n\t\t\tallow ::1;\n"
		    "\t\t\tdeny all;\n\t\t\tfastcgi_pass %s;",
		    program_names[i], program_names[i]);
		ck_assert_uint_eq(said(words), 1);
	}
	ck_assert_uint_eq(said("location ~ ^/metrics/?\\z {\n\t\t\tallow 127.0.0.1;"), 1);
	ck_assert_uint_eq(said("location ~ ^/metrics/?\\z {"), 2);
}
END_TEST

START_TEST(nginx_refuses_in_the_form_of_every_problem)
{
	size_t count;
	const struct problem *table = problem_table(&count);
	char words[256];

	render("", NULL);
	ck_assert_uint_gt(count, 20);
	for (size_t i = 0; i < count; i++) {
		/* nginx has no 500 of its own that means anything but no room. */
		(void)snprintf(words, sizeof(words),
		    table[i].status == 500 ? "error_page 500 =503 /.problem/503;"
					   : "error_page %d /.problem/%d;",
		    table[i].status, table[i].status);
		ck_assert_msg(said(words) == 1, "%s", words);
		(void)snprintf(words, sizeof(words),
		    "return %d '{\"type\":\"/problems/%s\",\"title\":\"%s\",\"status\":%d,",
		    table[i].status, table[i].name, table[i].title, table[i].status);
		ck_assert_msg(said(words) == 1, "%s", words);
	}
}
END_TEST

START_TEST(the_page_of_problems_has_a_row_for_each)
{
	size_t count;
	const struct problem *table = problem_table(&count);
	FILE *out = text_open();
	char words[256];

	render_problems(out);
	ck_assert_int_eq(fclose(out), 0);
	for (size_t i = 0; i < count; i++) {
		(void)snprintf(words, sizeof(words), "\n| %d | `/problems/%s` | %s | ",
		    table[i].status, table[i].name, table[i].title);
		ck_assert_msg(said(words) == 1, "%s", words);
		ck_assert_uint_eq(said(table[i].advice), 1);
	}
	ck_assert_uint_eq(said("\n| "), (unsigned)count + 2);
}
END_TEST

START_TEST(the_page_of_problems_in_the_documents_is_up_to_date)
{
	const char *source = getenv("CAREDESK_SOURCE");
	char path[4096];
	FILE *file, *out;
	int c;

	(void)snprintf(path, sizeof(path), "%s/docs/problems.md", source == NULL ? ".." : source);
	if ((file = fopen(path, "re")) == NULL)
		return; /* not with the sources */
	out = text_open();
	render_problems(out);
	ck_assert_int_eq(fclose(out), 0);
	for (size_t i = 0; i < text_n; i++)
		ck_assert_msg(fgetc(file) == (unsigned char)text[i],
		    "caredesk problems > "
		    "docs/problems.md: they differ at byte %zu",
		    i);
	ck_assert_int_eq(c = fgetc(file), EOF);
	(void)fclose(file);
}
END_TEST

/* A data folder of its own, in which the test then stands. */

static char folder[64];

static void
folder_open(void)
{
	static const char *const below[] = { "run", "log", "tmp", "cache", "html",
		"html/problems" };
	FILE *out;

	(void)snprintf(folder, sizeof(folder), "/tmp/check_render.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chdir(folder), 0);
	for (size_t i = 0; i < COUNT(below); i++)
		ck_assert_int_eq(mkdir(below[i], 0755), 0);
	link_secret_make(LINK_SECRET_HEX);
	ck_assert_ptr_nonnull(out = fopen("pair.pem", "we"));
	(void)fputs(pair, out);
	ck_assert_int_eq(fclose(out), 0);
}

static int
remove_one(const char *path, const struct stat *status, int kind, struct FTW *at)
{
	(void)status;
	(void)kind;
	(void)at;
	return remove(path);
}

static void
folder_close(void)
{
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* The whole of a file into TEXT. */
static void
read_file(const char *path)
{
	FILE *in = fopen(path, "re"), *out = text_open();
	int c;

	ck_assert_msg(in != NULL, "%s", path);
	while ((c = fgetc(in)) != EOF)
		(void)fputc(c, out);
	(void)fclose(in);
	ck_assert_int_eq(fclose(out), 0);
}

START_TEST(all_files_are_made_and_made_again)
{
	size_t count;
	const struct problem *table = problem_table(&count);
	struct conf *conf = parse("", NULL);
	char path[128], words[256];
	struct stat st;

	folder_open();
	for (int again = 0; again < 2; again++) {
		ck_assert_msg(render_all(conf) == OK, "%s", err_words());
		read_file("nginx.conf");
		ck_assert_uint_eq(said("listen 127.0.0.1:8080 "), 1);
		ck_assert_uint_eq(said(LINK_SECRET_HEX), 1);
		ck_assert_int_eq(stat("nginx.conf", &st), 0);
		ck_assert_uint_eq(st.st_mode & 0777, 0600);
		for (size_t i = 0; i < count; i++) {
			(void)snprintf(path, sizeof(path), "html/problems/%s.html", table[i].name);
			read_file(path);
			(void)snprintf(words, sizeof(words), "<h1>%d %s</h1>", table[i].status,
			    table[i].title);
			ck_assert_msg(said(words) == 1, "%s", text);
			ck_assert_uint_eq(said("`"), 0);
			ck_assert_uint_eq(said("<code>"), said("</code>"));
		}
	}
	folder_close();
	conf_close(conf);
}
END_TEST

START_TEST(a_folder_that_cannot_be_written_is_told)
{
	struct conf *conf = parse("", NULL);

	folder_open();
	ck_assert_int_eq(rename("html", "other"), 0);
	ck_assert_int_eq(render_all(conf), ERR_INPUT);
	ck_assert_ptr_nonnull(strstr(err_words(), "html/problems/"));
	folder_close();
	conf_close(conf);
}
END_TEST

static bool
port_is_free(int family, uint16_t port)
{
	const struct sockaddr_in v4 = { .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const struct sockaddr_in6 v6 = { .sin6_family = AF_INET6,
		.sin6_port = htons(port),
		.sin6_addr = IN6ADDR_LOOPBACK_INIT };
	const struct sockaddr *address =
	    family == AF_INET ? (const struct sockaddr *)&v4 : (const struct sockaddr *)&v6;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool is_free =
	    fd >= 0 && bind(fd, address, family == AF_INET ? sizeof(v4) : sizeof(v6)) == 0;

	if (fd >= 0)
		(void)close(fd);
	return is_free;
}

/* A port that is free, as is the one of the demo insurers; 0 if there is none. */
static uint16_t
free_port(int family)
{
	for (uint16_t i = 0; i < 1000; i++) {
		uint16_t port = (uint16_t)(20000 + (getpid() + i) % 10000);

		if (port_is_free(family, port) && port_is_free(AF_INET, (uint16_t)(port + 10000)))
			return port;
	}
	return 0;
}

/* NULL if there is none. */
static const char *
find_nginx(void)
{
	static char found[4096];
	char paths[4096];
	char *save = NULL;

	(void)snprintf(
	    paths, sizeof(paths), "%s:/usr/sbin", getenv("PATH") == NULL ? "" : getenv("PATH"));
	for (char *at = strtok_r(paths, ":", &save); at != NULL; at = strtok_r(NULL, ":", &save)) {
		if (snprintf(found, sizeof(found), "%s/nginx", at) < (int)sizeof(found) &&
		    access(found, X_OK) == 0)
			return found;
	}
	return NULL;
}

/* nginx -t in the folder; what it said is in TEXT. */
static bool
accepted(const char *nginx)
{
	int status, said_fd;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		said_fd = open("log/said", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		(void)dup2(said_fd, STDERR_FILENO);
		(void)execl(nginx, nginx, "-t", "-p", "./", "-c", "nginx.conf", (char *)NULL);
		_exit(EXIT_FAILURE);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	read_file("log/said");
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

START_TEST(without_the_secret_of_links_there_is_no_configuration)
{
	struct conf *conf = parse("", NULL);

	folder_open();
	ck_assert_int_eq(unlink("run/links"), 0);
	ck_assert_int_eq(render_all(conf), ERR_INTERNAL);
	ck_assert_int_ne(access("nginx.conf", F_OK), 0);
	folder_close();
	conf_close(conf);
}
END_TEST

START_TEST(nginx_accepts_what_is_made_for_it)
{
	const char *nginx = find_nginx();

	if (nginx == NULL)
		return; /* nobody to ask */
	folder_open();
	for (size_t i = 0; i < COUNT(confs); i++) {
		bool v6 = confs[i].listen != NULL && confs[i].listen[0] == '[';
		uint16_t port = free_port(v6 ? AF_INET6 : AF_INET);
		struct conf *conf;
		char listen_on[32];

		if (port == 0)
			continue; /* a machine without IPv6 */
		(void)snprintf(
		    listen_on, sizeof(listen_on), v6 ? "[::1]:%d" : "127.0.0.1:%d", port);
		conf = parse(confs[i].yaml, listen_on);
		ck_assert_int_eq(render_all(conf), OK);
		conf_close(conf);
		ck_assert_msg(accepted(nginx), "%s: %s", confs[i].what, text);
		ck_assert_msg(said("[warn]") == 0, "%s: %s", confs[i].what, text);
	}
	folder_close();
}
END_TEST

CHECK_MAIN(render,
    { every_placeholder_is_filled, it_listens_where_the_configuration_says_and_nowhere_else,
	demo_insurers_are_there_only_if_no_others_are, nothing_is_cached_where_max_age_is_0,
	every_program_has_its_socket_and_its_health, metrics_are_for_this_machine_only,
	nginx_refuses_in_the_form_of_every_problem, the_page_of_problems_has_a_row_for_each,
	the_page_of_problems_in_the_documents_is_up_to_date, all_files_are_made_and_made_again,
	a_folder_that_cannot_be_written_is_told,
	without_the_secret_of_links_there_is_no_configuration, nginx_accepts_what_is_made_for_it,
	where_tokens_are_asked_for_the_cache_is_behind_the_program,
	who_comes_by_the_private_socket_is_the_operator_and_nobody_else,
	where_tokens_are_asked_for_an_import_is_asked_about_first,
	with_tokens_it_answers_to_the_names_that_it_has,
	https_is_served_by_sound_versions_and_asked_for, limits_are_for_all_but_this_machine,
	nobody_is_trusted_who_is_not_named })
