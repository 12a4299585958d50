/*
 * caredesk_render: nginx's configuration from the templates in nginx/, and the problem pages.
 *
 * A template holds @name@ where a value goes; a value may hold further ones.  Each program NAME may
 * have nginx/NAME.http and nginx/NAME.server, for the http and the server level.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caredesk.h"
#include "lib/embedded.h"
#include "lib/link.h"
#include "lib/problem.h"
#include "lib/programs.h"
#include "lib/user.h"

#define VALUES_MAX 48
#define DEPTH_MAX 4
#define RENDERED "rendered" /* a file being made, before it has its name */

extern const struct embedded nginx_files[];

/* Names and values of the placeholders; the values are ours to free. */
struct values {
	size_t count;
	struct {
		const char *name;
		char *value;
	} items[VALUES_MAX];
};

static void
set(struct values *values, const char *name, char *value)
{
	values->items[values->count].name = name;
	values->items[values->count++].value = value;
}

static const char *
get(const struct values *values, const char *name, size_t n)
{
	for (size_t i = 0; i < values->count; i++)
		if (strlen(values->items[i].name) == n &&
		    memcmp(values->items[i].name, name, n) == 0)
			return values->items[i].value;
	return NULL;
}

static const char *template(const char *name)
{
	for (const struct embedded *file = nginx_files; file->name != NULL; file++)
		if (strcmp(file->name, name) == 0)
			return file->text;
	return NULL;
}

static enum err
expand(const struct values *values, const char *text, FILE *out, int depth)
{
	const char *at, *end, *value;
	enum err err;

	if (depth > DEPTH_MAX)
		return fail(ERR_INTERNAL, "a template includes itself");
	for (; (at = strchr(text, '@')) != NULL; text = end + 1) {
		(void)fwrite(text, 1, (size_t)(at - text), out);
		if ((end = strchr(at + 1, '@')) == NULL)
			return fail(ERR_INTERNAL, "a template has an @ without its twin");
		value = get(values, at + 1, (size_t)(end - at - 1));
		if (value == NULL)
			return fail(
			    ERR_INTERNAL, "a template asks for %.*s", (int)(end - at + 1), at);
		if ((err = expand(values, value, out, depth + 1)) != OK)
			return err;
	}
	(void)fputs(text, out);
	return OK;
}

/* What PUT writes, as a text; NULL without memory. */
static char *
written(void (*put)(FILE *out, const struct conf *conf), const struct conf *conf)
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	if (out == NULL)
		return NULL;
	put(out, conf);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

static char *
number(int64_t value)
{
	char *text;

	return asprintf(&text, "%lld", (long long)value) < 0 ? NULL : text;
}

static void
put_upstreams(FILE *out, const struct conf *conf)
{
	(void)conf;
	for (size_t i = 0; i < PROGRAM_COUNT; i++)
		(void)fprintf(out,
		    "\tupstream %s {\n\t\tserver unix:" PROGRAM_SOCKET_FORMAT ";\n"
		    "\t\tkeepalive 256;\n\t\tkeepalive_requests 1000000;\n\t}\n",
		    program_names[i], program_names[i]);
}

/* Nothing, where there is none of that name. */
static void
put_template(FILE *out, const char *name)
{
	const char *text = template(name);

	if (text != NULL)
		(void)fputs(text, out);
}

static void
put_templates(FILE *out, const char *suffix)
{
	char name[64];

	for (size_t i = 0; i < PROGRAM_COUNT; i++) {
		(void)snprintf(name, sizeof(name), "%s.%s", program_names[i], suffix);
		put_template(out, name);
	}
}

static void
put_http(FILE *out, const struct conf *conf)
{
	put_templates(out, "http");
	if (conf->demo)
		put_template(out, "demo.http");
}

static void
put_healths(FILE *out, const struct conf *conf)
{
	(void)conf;
	for (size_t i = 0; i < PROGRAM_COUNT; i++)
		(void)fprintf(out,
		    "\t\tlocation ~ ^/healthz/%s/?\\z {\n\t\t\tfastcgi_pass %s;\n\t\t}\n",
		    program_names[i], program_names[i]);
}

/* The metrics of all programs, and of each.  ACCESS says who may see them. */
static void
put_scrapes(FILE *out, const char *access)
{
	static const char format[] =
	    "\t\tlocation ~ ^/metrics%s%s/?\\z {\n%s\t\t\tfastcgi_pass %s;\n\t\t}\n";

	(void)fprintf(out, format, "", "", access, "health");
	for (size_t i = 0; i < PROGRAM_COUNT; i++)
		(void)fprintf(out, format, "/", program_names[i], access, program_names[i]);
}

/* Without a token, only callers on this machine may see them. */
static void
put_metrics(FILE *out, const struct conf *conf)
{
	(void)conf;
	put_scrapes(out, "\t\t\tallow 127.0.0.1;\n\t\t\tallow ::1;\n\t\t\tdeny all;\n");
}

static void
put_private_metrics(FILE *out, const struct conf *conf)
{
	(void)conf;
	put_scrapes(out, "");
}

static void
put_servers(FILE *out, const struct conf *conf)
{
	(void)conf;
	put_templates(out, "server");
}

static void
put_allows(FILE *out, const struct conf *conf)
{
	(void)conf;
	put_templates(out, "allow");
}

static void
put_privates(FILE *out, const struct conf *conf)
{
	(void)conf;
	put_templates(out, "private");
}

/* What nginx can say of the cause: where it speaks of an upstream, it means our own program; why it
 * forbids something, a map of its configuration knows. */
static const char *
nginx_detail(const struct problem *problem)
{
	if (problem->code == ERR_UPSTREAM)
		return "the program that answers here has ended and is being started again";
	if (problem->code == ERR_UPSTREAM_TIMEOUT)
		return "the program that answers here does not answer";
	if (problem->code == ERR_FORBIDDEN)
		return "$forbidden";
	return problem->title;
}

/* nginx's own refusals, in the form of the programs' problems. */
static void
put_problems(FILE *out, const struct conf *conf)
{
	size_t count;
	const struct problem *table = problem_table(&count);

	(void)conf;
	/* A refusal has its body read to the end, and that may be found to be no HTTP: another
	 * refusal. */
	(void)fprintf(out, "\t\trecursive_error_pages on;\n");
	for (size_t i = 0; i < count; i++)
		if (table[i].code != ERR_INTERNAL)
			(void)fprintf(out, "\t\terror_page %d /.problem/%d;\n", table[i].status,
			    table[i].status);
	(void)fprintf(out, "\t\terror_page 494 =431 /.problem/431;\n");
	/* nginx fails by itself only where it has no room for a body, or no memory. */
	(void)fprintf(out, "\t\terror_page 500 =503 /.problem/503;\n");
	for (size_t i = 0; i < count; i++)
		(void)fprintf(out,
		    "\t\tlocation = /.problem/%d {\n\t\t\tinternal;\n"
		    "\t\t\tclient_max_body_size 0;\n"
		    "\t\t\tset $sent_caching no-store;\n%s%s"
		    "\t\t\tdefault_type " PROBLEM_TYPE ";\n"
		    "\t\t\treturn %d '{\"type\":\"/problems/%s\",\"title\":\"%s\",\"status\":%d,"
		    "\"detail\":\"%s\",\"trace_id\":\"$trace_id\"}';\n\t\t}\n",
		    table[i].status, table[i].retry ? "\t\t\tset $sent_retry 1;\n" : "",
		    table[i].code == ERR_METHOD ? "\t\t\tset $sent_allow $allowed_methods;\n" : "",
		    table[i].status, table[i].name, table[i].title, table[i].status,
		    nginx_detail(&table[i]));
}

static void
put_user(FILE *out, const struct conf *conf)
{
	struct user user;

	/* Without a group nginx would look for one of the user's name. */
	if (geteuid() == 0 && user_find(conf->user, &user) == OK)
		(void)fprintf(out, "user %s %s;", conf->user, user.group);
}

static void
put_cache(FILE *out, const struct conf *conf)
{
	if (conf->coalesce.max_age_s > 0)
		put_template(out, "coalesce.cache");
}

/* Whether nginx is to ask the program before it looks into its cache. */
static bool
is_checked_first(const struct conf *conf)
{
	return conf->auth.mode == AUTH_REQUIRED && conf->coalesce.max_age_s > 0;
}

static void
put_first(FILE *out, const struct conf *conf)
{
	if (is_checked_first(conf))
		(void)fputs("\t\t\tset $cached_at /.cached/coalesce;", out);
	else
		put_cache(out, conf);
}

static void
put_second(FILE *out, const struct conf *conf)
{
	if (is_checked_first(conf))
		put_template(out, "coalesce.checked");
}

static void
put_asking(FILE *out, const struct conf *conf, const char *name)
{
	if (conf->auth.mode == AUTH_REQUIRED)
		put_template(out, name);
}

static void
put_events_first(FILE *out, const struct conf *conf)
{
	put_asking(out, conf, "events.first");
}

static void
put_events_asked(FILE *out, const struct conf *conf)
{
	put_asking(out, conf, "events.asked");
}

/* Of HOST[:PORT], without the port; an address of IPv6 has brackets. */
static size_t
host_length(const char *s, size_t n)
{
	size_t end = s[0] == '[' ? strcspn(s, "]") + 1 : strcspn(s, ":");

	return end < n ? end : n;
}

/* Behind a backslash nothing is a word of nginx's own. */
static void
put_host(FILE *out, const char *host, size_t n)
{
	(void)fprintf(out, "\t\t\"\\\\%.*s\" \"\";\n", (int)n, host);
}

/* By which names this server is asked, beside those of the loopback: with access control, where it
 * listens, and where the public URL leads. */
static void
put_hosts(FILE *out, const struct conf *conf)
{
	static const char characters[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-[:]";
	const char *public_host = strstr(conf->public_url, "://") + 3;
	size_t n = strcspn(public_host, "/"), own_n = strlen(conf->listen);

	if (conf->auth.mode == AUTH_OFF)
		return;
	own_n = host_length(conf->listen, own_n);
	put_host(out, conf->listen, own_n);
	if (strspn(public_host, characters) < n)
		return;
	n = host_length(public_host, n);
	if (n != own_n || strncasecmp(public_host, conf->listen, n) != 0)
		put_host(out, public_host, n);
}

static bool
is_https(const struct conf *conf)
{
	return conf->tls.certificate != NULL;
}

static void
put_listens(FILE *out, const struct conf *conf)
{
	(void)fprintf(out, "\t\tlisten %s%s backlog=1024;\n", conf->listen,
	    is_https(conf) ? " ssl http2" : "");
	if (conf->tls.redirect_from != NULL)
		(void)fprintf(out, "\t\tlisten %s backlog=1024;\n", conf->tls.redirect_from);
}

static void
put_tls(FILE *out, const struct conf *conf)
{
	if (is_https(conf))
		put_template(out, "tls");
}

/* Where plain HTTP is sent on to: where the public URL leads, else the same host. */
static void
put_redirect_to(FILE *out, const struct conf *conf)
{
	const char *host = strstr(conf->public_url, "://") + 3;

	if (conf->public_url != conf->own_url && strncmp(conf->public_url, "https:", 6) == 0)
		(void)fprintf(out, "%.*s",
		    (int)(host - conf->public_url + (long)strcspn(host, "/")), conf->public_url);
	else
		(void)fprintf(out, "https://$host:%lld", (long long)conf->port);
}

static void
put_origins(FILE *out, const struct conf *conf)
{
	for (size_t i = 0; i < conf->cors.origins.count; i++)
		(void)fprintf(out, "\t\t\"%s\" \"%s\";\n", conf->cors.origins.items[i],
		    conf->cors.origins.items[i]);
}

static void
put_cors(FILE *out, const struct conf *conf)
{
	if (conf->cors.origins.count > 0)
		put_template(out, "cors");
}

static void
put_cors_maps(FILE *out, const struct conf *conf)
{
	if (conf->cors.origins.count > 0)
		put_template(out, "cors.http");
}

/* Whoever asks from this machine itself, by whichever of its addresses. */
static void
put_unlimited(FILE *out, const struct conf *conf)
{
	if (!conf->is_loopback)
		(void)fprintf(out, "\t\t%s \"\";\n", conf->host);
}

static void
put_limit_zones(FILE *out, const struct conf *conf)
{
	put_template(out, "limits.http");
	if (conf->limits.requests_per_s > 0)
		(void)fprintf(out,
		    "\tlimit_req_zone $limit_key zone=requests:10m rate=%lldr/s;\n"
		    "\tlimit_req_zone $costly_key zone=costly:10m rate=1r/s;\n",
		    (long long)conf->limits.requests_per_s);
	if (conf->limits.connections > 0)
		(void)fputs("\tlimit_conn_zone $limit_key zone=connections:10m;\n", out);
}

/* A refusal is a line of the access log, and no other: who is refused asks often. */
static void
put_limits(FILE *out, const struct conf *conf)
{
	(void)fputs("\t\tlimit_req_status 429;\n\t\tlimit_req_log_level info;\n"
		    "\t\tlimit_conn_status 429;\n\t\tlimit_conn_log_level info;\n",
	    out);
	if (conf->limits.requests_per_s > 0)
		(void)fprintf(out, "\t\tlimit_req zone=requests burst=%lld nodelay;\n",
		    (long long)conf->limits.burst);
	if (conf->limits.connections > 0)
		(void)fprintf(
		    out, "\t\tlimit_conn connections %lld;\n", (long long)conf->limits.connections);
}

static void
put_limits_costly(FILE *out, const struct conf *conf)
{
	if (conf->limits.requests_per_s > 0)
		put_template(out, "limits.costly");
}

/* The last address of X-Forwarded-For that is none of theirs. */
static void
put_proxies(FILE *out, const struct conf *conf)
{
	for (size_t i = 0; i < conf->trusted_proxies.count; i++)
		(void)fprintf(out, "\t\tset_real_ip_from %s;\n", conf->trusted_proxies.items[i]);
	if (conf->trusted_proxies.count > 0)
		(void)fputs("\t\treal_ip_header X-Forwarded-For;\n"
			    "\t\treal_ip_recursive on;\n",
		    out);
}

static void
set_values(struct values *values, const struct conf *conf, const char *secret)
{
	static const struct {
		const char *name;
		void (*put)(FILE *out, const struct conf *conf);
	} blocks[] = {
		{ "upstreams", put_upstreams },
		{ "http", put_http },
		{ "servers", put_servers },
		{ "privates", put_privates },
		{ "allows", put_allows },
		{ "healths", put_healths },
		{ "metrics", put_metrics },
		{ "private_metrics", put_private_metrics },
		{ "problems", put_problems },
		{ "user", put_user },
		{ "coalesce_cache", put_cache },
		{ "coalesce_first", put_first },
		{ "coalesce_second", put_second },
		{ "events_first", put_events_first },
		{ "events_asked", put_events_asked },
		{ "hosts", put_hosts },
		{ "listens", put_listens },
		{ "tls", put_tls },
		{ "redirect_to", put_redirect_to },
		{ "origins", put_origins },
		{ "cors", put_cors },
		{ "cors_maps", put_cors_maps },
		{ "unlimited", put_unlimited },
		{ "limit_zones", put_limit_zones },
		{ "limits", put_limits },
		{ "limits_costly", put_limits_costly },
		{ "proxies", put_proxies },
	};
	int64_t deadline_ms = conf->coalesce.deadline_ms;

	for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
		set(values, blocks[i].name, written(blocks[i].put, conf));
	set(values, "certificate", strdup(is_https(conf) ? conf->tls.certificate : ""));
	set(values, "key", strdup(is_https(conf) ? conf->tls.key : ""));
	set(values, "burst", number(conf->limits.burst));
	set(values, "link_secret", strdup(secret));
	set(values, "link_s", number(conf->images.link_s));
	set(values, "docs", strdup(template("docs.server")));
	set(values, "docs_files", strdup(template("docs_files")));
	set(values, "read_only", strdup(template("read_only")));
	set(values, "http_socket", strdup(HTTP_SOCKET));
	set(values, "demo_port", number(conf->demo_port));
	set(values, "coalesce_timeout_s", number(3 + deadline_ms / 1000));
	set(values, "coalesce_lock_ms", number(1 + deadline_ms / CONF_LOCK_SHARE));
	/* Fresh, then once more while it is fetched anew. */
	set(values, "coalesce_inactive_s", number(2 * conf->coalesce.max_age_s + 1));
}

enum err
render_nginx(const struct conf *conf, const char *link_secret, FILE *out)
{
	struct values values = { 0 };
	enum err err = OK;

	set_values(&values, conf, link_secret);
	for (size_t i = 0; i < values.count && err == OK; i++)
		if (values.items[i].value == NULL)
			err = fail(ERR_BUSY, "no memory for the nginx configuration");
	if (err == OK)
		err = expand(&values, template("nginx.conf"), out, 0);
	for (size_t i = 0; i < values.count; i++)
		free(values.items[i].value);
	return err;
}

void
render_problems(FILE *out)
{
	size_t count;
	const struct problem *table = problem_table(&count);

	(void)fputs(
	    "# Problems\n\n"
	    "Every error is answered as `application/problem+json` ([RFC 9457]"
	    "(https://www.rfc-editor.org/rfc/rfc9457)): `type`, `title`, `status`, `detail`, "
	    "`trace_id`, and for bad input `errors: [{detail, pointer}]`. The server has a page "
	    "for each `type`.\n\n"
	    "This page is made by `caredesk problems` from the table in `src/lib/problem.c`.\n\n"
	    "| status | type | title | what it means and what to do |\n| --- | --- | --- | --- |\n",
	    out);
	for (size_t i = 0; i < count; i++)
		(void)fprintf(out, "| %d | `/problems/%s` | %s | %s%s |\n", table[i].status,
		    table[i].name, table[i].title, table[i].advice,
		    table[i].retry ? " Comes with `Retry-After`." : "");
}

/* The advice of the table, whose `code` becomes HTML's. */
static void
put_advice(const char *advice, FILE *out)
{
	bool inside = false;

	for (; *advice != '\0'; advice++) {
		if (*advice == '`') {
			(void)fputs(inside ? "</code>" : "<code>", out);
			inside = !inside;
		} else {
			(void)fputc(*advice, out);
		}
	}
}

static void
put_page(const struct problem *problem, FILE *out)
{
	(void)fprintf(out,
	    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	    "<title>%s</title>\n</head>\n<body>\n<h1>%d %s</h1>\n<p>",
	    problem->title, problem->status, problem->title);
	put_advice(problem->advice, out);
	(void)fputs("</p>\n</body>\n</html>\n", out);
}

/* What a file is made of. */
struct page {
	const struct conf *conf;
	struct link_secret secret;
	const struct problem *problem;
};

static enum err
put_nginx(const struct page *page, FILE *out)
{
	return render_nginx(page->conf, page->secret.text, out);
}

static enum err
put_problem(const struct page *page, FILE *out)
{
	put_page(page->problem, out);
	return OK;
}

/* A file written beside and renamed, so that nobody reads half of it, nor what is not for him. */
static enum err
replace_file(const char *name, mode_t mode, enum err (*put)(const struct page *page, FILE *out),
    const struct page *page)
{
	FILE *out = NULL;
	int fd;
	bool whole;
	enum err err;

	(void)unlink(RENDERED);
	fd = open(RENDERED, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || (out = fdopen(fd, "w")) == NULL) {
		err = fail(ERR_INPUT, "%s cannot be written: %m", name);
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	err = put(page, out);
	whole = ferror(out) == 0 && fchmod(fd, mode) == 0;
	whole = fclose(out) == 0 && whole && rename(RENDERED, name) == 0;
	if (err == OK && !whole)
		err = fail(ERR_INPUT, "%s cannot be written: %m", name);
	return err;
}

enum err
render_all(const struct conf *conf)
{
	size_t count;
	const struct problem *table = problem_table(&count);
	struct page page = { .conf = conf };
	char name[128];
	enum err err = link_secret_read(&page.secret);

	if (err == OK)
		err = replace_file("nginx.conf", 0600, put_nginx, &page);
	for (size_t i = 0; i < count && err == OK; i++) {
		page.problem = &table[i];
		(void)snprintf(name, sizeof(name), "html/problems/%s.html", table[i].name);
		err = replace_file(name, 0644, put_problem, &page);
	}
	return err;
}
