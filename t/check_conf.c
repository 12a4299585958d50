#include "test.h"

#include <stdio.h>
#include <sys/stat.h>

#include "lib/conf.h"

static const struct conf_options none = { NULL, NULL, NULL };

static struct conf *
parsed(const char *yaml)
{
	struct conf *conf;

	err_clear();
	ck_assert_msg(conf_parse(yaml, strlen(yaml), "f.yaml", &none, &conf) == OK, "%s: %s", yaml,
	    err_words());
	ck_assert_ptr_nonnull(conf);
	return conf;
}

static void
check_refused_n(const char *yaml, size_t n, const struct conf_options *options, const char *words)
{
	struct conf *conf = (struct conf *)&conf;

	err_clear();
	ck_assert_msg(conf_parse(yaml, n, "f.yaml", options, &conf) == ERR_INPUT, "%s", yaml);
	ck_assert_ptr_null(conf);
	ck_assert_str_eq(err_words(), words);
}

static void
check_refused(const char *yaml, const char *words)
{
	check_refused_n(yaml, strlen(yaml), &none, words);
}

static void
check_defaults(const struct conf *conf)
{
	ck_assert_str_eq(conf->listen, "127.0.0.1:8080");
	ck_assert_str_eq(conf->host, "127.0.0.1");
	ck_assert_int_eq(conf->port, 8080);
	ck_assert_str_eq(conf->data, "var");
	ck_assert_str_eq(conf->user, "www-data");
	ck_assert_int_eq(conf->coalesce.deadline_ms, 2000);
	ck_assert_int_eq(conf->coalesce.max_age_s, 5);
	ck_assert_int_eq(conf->coalesce.circuit_failures, 5);
	ck_assert_int_eq(conf->coalesce.circuit_pause_ms, 1000);
	ck_assert_int_eq(conf->events.entry_window_hours, 0);
	ck_assert_int_eq(conf->stats.keep_days, 0);
	ck_assert_int_eq(conf->test_runs.max_requests, 1000000);
	ck_assert_int_eq(conf->images.link_s, 3600);
	ck_assert_int_eq(strncmp(conf->public_url, "http://", 7), 0);
	ck_assert_str_eq(conf->public_url + 7, conf->listen);
	ck_assert_int_eq(conf->log.rotate_mib, 64);
	ck_assert_int_eq(conf->log.keep, 4);
	ck_assert_str_eq(conf->own_url, conf->public_url);
	ck_assert_ptr_null(conf->tls.certificate);
	ck_assert_int_eq(conf->limits.requests_per_s, 50);
	ck_assert_int_eq(conf->limits.burst, 100);
	ck_assert_int_eq(conf->limits.connections, 50);
	ck_assert_uint_eq(conf->cors.origins.count, 0);
	ck_assert_uint_eq(conf->trusted_proxies.count, 0);
}

START_TEST(an_empty_file_gives_the_defaults_and_demo_upstreams)
{
	static const char *const empty[] = { "", "\n\n", "# nothing\n", "{}", "---\n{}\n...\n",
		"%YAML 1.1\n---\n{}\n", "coalesce: {}\n", "---\n", "coalesce:\n  # methods: []\n",
		"data:\nlisten:\n", "coalesce: {upstreams: [], methods: []}\n",
		"\xef\xbb\xbf{}\n" };
	static const char *const names[] = { "alpha", "beta", "gamma" };

	for (size_t i = 0; i < COUNT(empty); i++) {
		struct conf *conf = parsed(empty[i]);
		const struct conf_upstream *items = conf->coalesce.upstreams.items;

		check_defaults(conf);
		ck_assert(conf->demo);
		ck_assert_int_eq(conf->demo_port, 18080);
		ck_assert_uint_eq(conf->coalesce.upstreams.count, CONF_DEMOS);
		for (size_t j = 0; j < CONF_DEMOS; j++) {
			char url[64];

			(void)snprintf(url, sizeof(url), "http://127.0.0.1:18080/%s", names[j]);
			ck_assert_str_eq(items[j].name, names[j]);
			ck_assert_str_eq(items[j].url, url);
			ck_assert_ptr_null(items[j].ca_file);
			ck_assert_int_eq(items[j].max_in_flight, 400);
		}
		conf_close(conf);
	}
}
END_TEST

START_TEST(the_built_in_methods_come_first)
{
	static const struct conf_method builtin[] = {
		{ 0, "default", { MERGE_MAX, MERGE_MAX, MERGE_MAX },
		    { -1, -1, FIELD_REMAINING_OOP_MAX } },
		{ 0, "max", { MERGE_MAX, MERGE_MAX, MERGE_MAX }, { -1, -1, -1 } },
		{ 0, "min", { MERGE_MIN, MERGE_MIN, MERGE_MIN }, { -1, -1, -1 } },
		{ 0, "avg", { MERGE_AVG, MERGE_AVG, MERGE_AVG }, { -1, -1, -1 } },
	};
	struct conf *conf = parsed("");

	ck_assert_uint_eq(conf->coalesce.methods.count, COUNT(builtin));
	for (size_t i = 0; i < COUNT(builtin); i++) {
		const struct conf_method *method = &conf->coalesce.methods.items[i];

		ck_assert_int_eq(method->line, 0);
		ck_assert_str_eq(method->name, builtin[i].name);
		ck_assert_mem_eq(method->merge, builtin[i].merge, sizeof(method->merge));
		ck_assert_mem_eq(method->at_most, builtin[i].at_most, sizeof(method->at_most));
	}
	conf_close(conf);
}
END_TEST

static const char full[] = "# Every key, none at its default.\n"
			   "listen: '[::1]:9090'\n"
			   "data: /srv/care desk\n"
			   "user: care-desk_1\n"
			   "coalesce:\n"
			   "  deadline_ms: 1500\n"
			   "  max_age_s: 0\n"
			   "  circuit_failures: 7\n"
			   "  circuit_pause_ms: 250\n"
			   "  upstreams:\n"
			   "    - name: one\n"
			   "      url: https://one.example/api?x=1\n"
			   "      ca_file: /etc/ca.pem\n"
			   "      max_in_flight: 12\n"
			   "      private_network: true\n"
			   "    - {name: two, url: 'http://[::1]:8080/', private_network: false}\n"
			   "  methods:\n"
			   "    - name: median\n"
			   "      oop_max: median\n"
			   "      remaining_oop_max: first\n"
			   "      copay: majority\n"
			   "      remaining_oop_max_at_most: oop_max\n"
			   "      copay_at_most: remaining_oop_max\n"
			   "    - {name: mixed, oop_max: max, remaining_oop_max: min, copay: avg}\n"
			   "events:\n"
			   "  entry_window_hours: 168\n"
			   "stats:\n"
			   "  keep_days: 400\n"
			   "test_runs: {max_requests: 5}\n"
			   "images: {link_s: 60}\n"
			   "public_url: https://care.example\n"
			   "tls: {certificate: /c.pem, key: /k.pem, redirect_from: '[::1]:80'}\n"
			   "limits: {requests_per_s: 0, burst: 1, connections: 7}\n"
			   "cors:\n"
			   "  origins: [https://app.example, 'http://[::1]:3000']\n"
			   "trusted_proxies: [10.0.0.0/8, 192.0.2.7, '2001:db8::/33', '::1']\n"
			   "log:\n"
			   "  rotate_mib: 7\n"
			   "  keep: 0\n";

static void
check_front(const struct conf *conf)
{
	static const char *const proxies[] = { "10.0.0.0/8", "192.0.2.7", "2001:db8::/33", "::1" };

	ck_assert_str_eq(conf->tls.certificate, "/c.pem");
	ck_assert_str_eq(conf->tls.key, "/k.pem");
	ck_assert_str_eq(conf->tls.redirect_from, "[::1]:80");
	ck_assert_str_eq(conf->own_url, "https://[::1]:9090");
	ck_assert_int_eq(conf->limits.requests_per_s, 0);
	ck_assert_int_eq(conf->limits.burst, 1);
	ck_assert_int_eq(conf->limits.connections, 7);
	ck_assert_uint_eq(conf->cors.origins.count, 2);
	ck_assert_str_eq(conf->cors.origins.items[0], "https://app.example");
	ck_assert_str_eq(conf->cors.origins.items[1], "http://[::1]:3000");
	ck_assert_uint_eq(conf->trusted_proxies.count, COUNT(proxies));
	for (size_t i = 0; i < COUNT(proxies); i++)
		ck_assert_str_eq(conf->trusted_proxies.items[i], proxies[i]);
}

START_TEST(every_key_is_read)
{
	struct conf *conf = parsed(full);
	const struct conf_upstream *up = conf->coalesce.upstreams.items;

	ck_assert_str_eq(conf->listen, "[::1]:9090");
	ck_assert_str_eq(conf->host, "::1");
	ck_assert_int_eq(conf->port, 9090);
	ck_assert_str_eq(conf->data, "/srv/care desk");
	ck_assert_str_eq(conf->user, "care-desk_1");
	ck_assert(!conf->demo);
	ck_assert_int_eq(conf->coalesce.deadline_ms, 1500);
	ck_assert_int_eq(conf->coalesce.max_age_s, 0);
	ck_assert_int_eq(conf->coalesce.circuit_failures, 7);
	ck_assert_int_eq(conf->coalesce.circuit_pause_ms, 250);
	ck_assert_uint_eq(conf->coalesce.upstreams.count, 2);
	ck_assert_int_eq(up[0].line, 11);
	ck_assert_str_eq(up[0].name, "one");
	ck_assert_str_eq(up[0].url, "https://one.example/api?x=1");
	ck_assert_str_eq(up[0].ca_file, "/etc/ca.pem");
	ck_assert_int_eq(up[0].max_in_flight, 12);
	ck_assert(up[0].private_network);
	ck_assert_int_eq(up[1].line, 16);
	ck_assert_str_eq(up[1].url, "http://[::1]:8080/");
	ck_assert_ptr_null(up[1].ca_file);
	ck_assert_int_eq(up[1].max_in_flight, 400);
	ck_assert(!up[1].private_network);
	ck_assert_int_eq(conf->events.entry_window_hours, 168);
	ck_assert_int_eq(conf->stats.keep_days, 400);
	ck_assert_int_eq(conf->test_runs.max_requests, 5);
	ck_assert_int_eq(conf->images.link_s, 60);
	ck_assert_str_eq(conf->public_url, "https://care.example");
	ck_assert_int_eq(conf->log.rotate_mib, 7);
	ck_assert_int_eq(conf->log.keep, 0);
	check_front(conf);
	conf_close(conf);
}
END_TEST

START_TEST(every_way_of_merging_is_read)
{
	struct conf *conf = parsed(full);
	const struct conf_method *own = conf->coalesce.methods.items + 4;

	ck_assert_uint_eq(conf->coalesce.methods.count, 6);
	ck_assert_int_eq(own[0].line, 18);
	ck_assert_str_eq(own[0].name, "median");
	ck_assert_int_eq(own[0].merge[FIELD_OOP_MAX], MERGE_MEDIAN);
	ck_assert_int_eq(own[0].merge[FIELD_REMAINING_OOP_MAX], MERGE_FIRST);
	ck_assert_int_eq(own[0].merge[FIELD_COPAY], MERGE_MAJORITY);
	ck_assert_int_eq(own[0].at_most[FIELD_OOP_MAX], -1);
	ck_assert_int_eq(own[0].at_most[FIELD_REMAINING_OOP_MAX], FIELD_OOP_MAX);
	ck_assert_int_eq(own[0].at_most[FIELD_COPAY], FIELD_REMAINING_OOP_MAX);
	ck_assert_int_eq(own[1].line, 24);
	ck_assert_int_eq(own[1].merge[FIELD_OOP_MAX], MERGE_MAX);
	ck_assert_int_eq(own[1].merge[FIELD_REMAINING_OOP_MAX], MERGE_MIN);
	ck_assert_int_eq(own[1].merge[FIELD_COPAY], MERGE_AVG);
	ck_assert_int_eq(own[1].at_most[FIELD_COPAY], -1);
	ck_assert_str_eq(conf_field_names[FIELD_OOP_MAX], "oop_max");
	ck_assert_str_eq(conf_field_names[FIELD_REMAINING_OOP_MAX], "remaining_oop_max");
	ck_assert_str_eq(conf_field_names[FIELD_COPAY], "copay");
	ck_assert_ptr_null(conf_field_names[FIELD_MAX]);
	conf_close(conf);
}
END_TEST

#define X16 "xxxxxxxxxxxxxxxx"
#define UP(rest) "coalesce:\n  upstreams:\n    - name: a\n      " rest "\n"
#define OK_UP "    - {name: a, url: http://a/}\n"
#define METHOD(rest) \
	"coalesce:\n  methods:\n" \
	"    - {name: m, oop_max: max, remaining_oop_max: max, copay: max}\n    - " rest "\n"
#define LISTEN_FORM " must be ADDRESS:PORT, such as 127.0.0.1:8080"
#define URL_FORM \
	"url must have a host, and neither a user, a fragment nor characters that " \
	"need escaping"

static const struct {
	const char *yaml, *words;
} bad_values[] = {
	/* The wrong kind of node. */
	{ "- listen\n", "f.yaml:1: the top must be a mapping" },
	{ "\n\nlisten\n", "f.yaml:3: the top must be a mapping" },
	{ "data: var\nlisten: [x]\n", "f.yaml:2: listen must be a text" },
	{ "listen: {x: y}\n", "f.yaml:1: listen must be a text" },
	{ "user: [x]\n", "f.yaml:1: user must be a word" },
	{ "coalesce: 5\n", "f.yaml:1: coalesce must be a mapping" },
	{ "coalesce: ''\n", "f.yaml:1: coalesce must be a mapping" },
	{ "coalesce: []\n", "f.yaml:1: coalesce must be a mapping" },
	{ "coalesce:\n  deadline_ms: [5]\n", "f.yaml:2: deadline_ms must be a number" },
	{ "coalesce:\n  upstreams: x\n", "f.yaml:2: upstreams must be a list" },
	{ "coalesce:\n  upstreams: {name: x}\n", "f.yaml:2: upstreams must be a list" },
	{ "coalesce:\n  upstreams:\n" OK_UP "    - b\n", "f.yaml:4: upstreams must hold mappings" },
	{ "coalesce:\n  methods: [[]]\n", "f.yaml:2: methods must hold mappings" },
	{ UP("url: [x]"), "f.yaml:4: url must be a text" },
	{ UP("url: http://a/\n      private_network: {}"),
	    "f.yaml:5: private_network must be true or false" },
	{ "? [a]\n: b\n", "f.yaml:1: a key must be a word" },
	{ "data: x\n{a: b}: c\n", "f.yaml:2: a key must be a word" },
	/* Texts and words. */
	{ "listen: ''\n", "f.yaml:1: listen must have 3..64 bytes" },
	{ "data: ''\n", "f.yaml:1: data must have 1..1024 bytes" },
	{ "data: \"a\\nb\"\n", "f.yaml:1: data must not hold control characters" },
	{ "data: \"a\\x7f\"\n", "f.yaml:1: data must not hold control characters" },
	{ "data: \"a\\0b\"\n", "f.yaml:1: data must not hold a NUL" },
	{ "data: |\n  two\n  lines\n", "f.yaml:1: data must not hold control characters" },
	{ "user: Root\n", "f.yaml:1: user must be made of a-z, 0-9, - and _" },
	{ "user: a b\n", "f.yaml:1: user must be made of a-z, 0-9, - and _" },
	{ "user: a;b\n", "f.yaml:1: user must be made of a-z, 0-9, - and _" },
	{ "user: \xc3\xa5sa\n", "f.yaml:1: user must be made of a-z, 0-9, - and _" },
	{ "user: ''\n", "f.yaml:1: user must have 1..32 bytes" },
	{ "user: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", "f.yaml:1: user must have 1..32 bytes" },
	/* Numbers. */
	{ "coalesce: {deadline_ms: 9}\n",
	    "f.yaml:1: deadline_ms must be a whole number of 10..60000" },
	{ "coalesce: {deadline_ms: 60001}\n",
	    "f.yaml:1: deadline_ms must be a whole number of 10..60000" },
	{ "coalesce: {deadline_ms: -1}\n",
	    "f.yaml:1: deadline_ms must be a whole number of 10..60000" },
	{ "coalesce: {deadline_ms: 1e3}\n",
	    "f.yaml:1: deadline_ms must be a whole number of 10..60000" },
	{ "coalesce: {deadline_ms: 100.0}\n",
	    "f.yaml:1: deadline_ms must be a whole number of 10..60000" },
	{ "coalesce: {deadline_ms: 0x64}\n",
	    "f.yaml:1: deadline_ms must be a whole number of 10..60000" },
	{ "coalesce: {deadline_ms: 2s}\n",
	    "f.yaml:1: deadline_ms must be a whole number of 10..60000" },
	{ "coalesce: {deadline_ms: ''}\n",
	    "f.yaml:1: deadline_ms must be a whole number of 10..60000" },
	{ "coalesce: {deadline_ms: \"100\\0\"}\n",
	    "f.yaml:1: deadline_ms must be a whole number of 10..60000" },
	{ "coalesce: {max_age_s: 86401}\n",
	    "f.yaml:1: max_age_s must be a whole number of 0..86400" },
	{ "events: {entry_window_hours: -1}\n",
	    "f.yaml:1: entry_window_hours must be a whole number of 0..876000" },
	{ "events:\n  entry_window_hours: 876001\n",
	    "f.yaml:2: entry_window_hours must be a whole number of 0..876000" },
	{ "log: {rotate_mib: 1048577}\n",
	    "f.yaml:1: rotate_mib must be a whole number of 0..1048576" },
	{ "stats: {keep_days: 36501}\n", "f.yaml:1: keep_days must be a whole number of 0..36500" },
	{ "images: {link_s: 59}\n", "f.yaml:1: link_s must be a whole number of 60..604800" },
	{ "public_url: ftp://a\n",
	    "f.yaml:1: public_url must begin with http:// or https:// and end without a slash" },
	{ "public_url: http://a/\n",
	    "f.yaml:1: public_url must begin with http:// or https:// and end without a slash" },
	{ "user: u\npublic_url: 'http://a?b'\n",
	    "f.yaml:2: public_url must begin with http:// or https:// and end without a slash" },
	{ "test_runs: {max_requests: 1000001}\n",
	    "f.yaml:1: max_requests must be a whole number of 0..1000000" },
	{ "log: {keep: 1001}\n", "f.yaml:1: keep must be a whole number of 0..1000" },
	{ "events: {entry_window_hours: 1.5}\n",
	    "f.yaml:1: entry_window_hours must be a whole number of 0..876000" },
	{ "events: {entry_window_hours: 7d}\n",
	    "f.yaml:1: entry_window_hours must be a whole number of 0..876000" },
	{ "events: 168\n", "f.yaml:1: events must be a mapping" },
	{ "coalesce: {circuit_failures: 0}\n",
	    "f.yaml:1: circuit_failures must be a whole number of 1..1000" },
	{ "coalesce: {circuit_pause_ms: 3600001}\n",
	    "f.yaml:1: circuit_pause_ms must be a whole number of 10..3600000" },
	{ "coalesce: {circuit_pause_ms: 99999999999999999999}\n",
	    "f.yaml:1: circuit_pause_ms must be a whole number of 10..3600000" },
	{ UP("max_in_flight: 481"), "f.yaml:3: url is missing here" },
	{ UP("url: http://a/\n      max_in_flight: 481"),
	    "f.yaml:5: max_in_flight must be a whole number of 1..480" },
	/* Flags and choices. */
	{ UP("url: http://a/\n      private_network: yes"),
	    "f.yaml:5: private_network must be true or false" },
	{ UP("url: http://a/\n      private_network: True"),
	    "f.yaml:5: private_network must be true or false" },
	{ UP("url: http://a/\n      private_network: \"true\\0\""),
	    "f.yaml:5: private_network must be true or false" },
	{ METHOD("{name: n, oop_max: sum, remaining_oop_max: max, copay: max}"),
	    "f.yaml:4: oop_max must be one of max, min, avg, median, first, majority" },
	{ METHOD("{name: n, oop_max: \"max\\0\", remaining_oop_max: max, copay: max}"),
	    "f.yaml:4: oop_max must be one of max, min, avg, median, first, majority" },
	{ METHOD("{name: n, oop_max: [max], remaining_oop_max: max, copay: max}"),
	    "f.yaml:4: oop_max must be a word" },
	{ METHOD("{name: n, oop_max: max, remaining_oop_max: max, copay: max, copay_at_most: x}"),
	    "f.yaml:4: copay_at_most must be one of oop_max, remaining_oop_max, copay" },
	/* What is required. */
	{ UP(""), "f.yaml:3: url is missing here" },
	{ "coalesce:\n  upstreams:\n" OK_UP "    - {url: http://b/}\n",
	    "f.yaml:4: name is missing here" },
	{ "coalesce: {upstreams: [{}]}\n", "f.yaml:1: name is missing here" },
	{ METHOD("{name: n, oop_max: max, copay: max}"),
	    "f.yaml:4: remaining_oop_max is missing here" },
	/* Names. */
	{ UP("url: http://a/\n    - {name: A, url: http://b/}"),
	    "f.yaml:5: name must be made of a-z, 0-9, - and _" },
	{ UP("url: http://a/\n    - {name: b, url: http://b/}\n    - {name: a, url: http://c/}"),
	    "f.yaml:6: there are two upstreams named a" },
	{ METHOD("{name: m, oop_max: max, remaining_oop_max: max, copay: max}"),
	    "f.yaml:4: there are two methods named m" },
	{ METHOD("{name: default, oop_max: max, remaining_oop_max: max, copay: max}"),
	    "f.yaml:4: the method default is built in" },
	{ METHOD("{name: avg, oop_max: max, remaining_oop_max: max, copay: max}"),
	    "f.yaml:4: the method avg is built in" },
	/* URLs. */
	{ UP("url: ftp://a/x"), "f.yaml:3: url must begin with http:// or https://" },
	{ UP("url: HTTP://a/x"), "f.yaml:3: url must begin with http:// or https://" },
	{ UP("url: //a.example/x"), "f.yaml:3: url must begin with http:// or https://" },
	{ UP("url: http://"), "f.yaml:4: url must have 8..1024 bytes" },
	{ UP("url: https://"), "f.yaml:3: " URL_FORM },
	{ UP("url: http:///x"), "f.yaml:3: " URL_FORM },
	{ UP("url: http://?a=b"), "f.yaml:3: " URL_FORM },
	{ UP("url: http://me@a/x"), "f.yaml:3: " URL_FORM },
	{ UP("url: http://me:secret@a/x"), "f.yaml:3: " URL_FORM },
	{ UP("url: 'http://a/x#y'"), "f.yaml:3: " URL_FORM },
	{ UP("url: http://a/x y"), "f.yaml:3: " URL_FORM },
	{ UP("url: 'http://a/\"'"), "f.yaml:3: " URL_FORM },
	{ UP("url: 'http://a\\@b/'"), "f.yaml:3: " URL_FORM },
	{ UP("url: \"http://a/\\n\""), "f.yaml:4: url must not hold control characters" },
};

START_TEST(a_bad_value_is_refused_with_file_line_and_reason)
{
	for (size_t i = 0; i < COUNT(bad_values); i++)
		check_refused(bad_values[i].yaml, bad_values[i].words);
}
END_TEST

static const struct {
	const char *yaml, *words;
} bad_keys[] = {
	{ "data: x\nlisen: y\n", "f.yaml:2: unknown key lisen" },
	{ "Listen: 127.0.0.1:80\n", "f.yaml:1: unknown key Listen" },
	{ "\"a\\e[31m\\nb\": 1\n", "f.yaml:1: unknown key" },
	{ "'': x\n", "f.yaml:1: unknown key " },
	{ "deadline_ms: 5\n", "f.yaml:1: unknown key deadline_ms" },
	{ "coalesce:\n  max_age_s: 5\n  listen: x\n", "f.yaml:3: unknown key listen" },
	{ UP("url: http://a/\n      urls: http://b/"), "f.yaml:5: unknown key urls" },
	{ METHOD("{name: n, oop_max: max, remaining_oop_max: max, copay: max, line: 1}"),
	    "f.yaml:4: unknown key line" },
	{ "<<: {data: x}\n", "f.yaml:1: unknown key <<" },
	{ X16 X16 X16 X16 "yyyyy: 1\n", "f.yaml:1: unknown key " X16 X16 X16 X16 },
	{ "data: x\nuser: y\ndata: z\n", "f.yaml:3: data is given twice" },
	{ "data: x\n\n\"data\": x\n", "f.yaml:3: data is given twice" },
	{ "data: &a x\ndata: *a\n", "f.yaml:2: data is given twice" },
	{ "coalesce: {}\ncoalesce: {}\n", "f.yaml:2: coalesce is given twice" },
	{ "coalesce:\n  max_age_s: 5\n  max_age_s: 5\n", "f.yaml:3: max_age_s is given twice" },
	{ UP("name: b"), "f.yaml:4: name is given twice" },
	{ METHOD("{name: n, oop_max: max, oop_max: max}"), "f.yaml:4: oop_max is given twice" },
};

START_TEST(an_unknown_key_or_a_second_one_is_refused_where_it_stands)
{
	static const char nul[] = "user: x\n\"data\\0x\": y\n";

	for (size_t i = 0; i < COUNT(bad_keys); i++)
		check_refused(bad_keys[i].yaml, bad_keys[i].words);
	check_refused(nul, "f.yaml:2: unknown key data");
}
END_TEST

static const struct {
	const char *at_most;
	const char *by_itself; /* the field that is found to bound itself; NULL: none does */
} bounds[] = { { "copay_at_most: oop_max", NULL },
	{ "oop_max_at_most: copay, copay_at_most: remaining_oop_max", NULL },
	{ "oop_max_at_most: copay, remaining_oop_max_at_most: copay", NULL },
	{ "oop_max_at_most: oop_max", "oop_max" }, { "copay_at_most: copay", "copay" },
	{ "oop_max_at_most: copay, copay_at_most: oop_max", "oop_max" },
	{ "remaining_oop_max_at_most: copay, copay_at_most: remaining_oop_max",
	    "remaining_oop_max" },
	{ "oop_max_at_most: remaining_oop_max, remaining_oop_max_at_most: copay, "
	  "copay_at_most: oop_max",
	    "oop_max" } };

START_TEST(bounds_must_not_go_round_in_a_circle)
{
	char yaml[512], words[128];

	for (size_t i = 0; i < COUNT(bounds); i++) {
		(void)snprintf(yaml, sizeof(yaml),
		    METHOD("{name: n, oop_max: max, remaining_oop_max: "
			   "max, copay: max, %s}"),
		    bounds[i].at_most);
		(void)snprintf(words, sizeof(words), "f.yaml:4: the method n bounds %s by itself",
		    bounds[i].by_itself);
		if (bounds[i].by_itself != NULL)
			check_refused(yaml, words);
		else
			conf_close(parsed(yaml));
	}
}
END_TEST

#define NOT_LOOPBACK \
	" is not a loopback address, where anybody could do anything: set auth.mode to required, " \
	"with issuer and audience, or listen on 127.0.0.1"

static const struct {
	const char *listen, *host; /* no host: refused */
	int64_t port;
	const char *words;
} listens[] = { { "127.0.0.1:80", "127.0.0.1", 80, NULL },
	{ "127.1.2.3:65535", "127.1.2.3", 65535, NULL }, { "127.0.0.1:1", "127.0.0.1", 1, NULL },
	{ "[::1]:8080", "::1", 8080, NULL },
	{ "[0:0:0:0:0:0:0:1]:8080", "0:0:0:0:0:0:0:1", 8080, NULL },
	{ "0.0.0.0:80", NULL, 0, NOT_LOOPBACK }, { "192.168.1.1:80", NULL, 0, NOT_LOOPBACK },
	{ "126.255.255.255:80", NULL, 0, NOT_LOOPBACK }, { "[::]:80", NULL, 0, NOT_LOOPBACK },
	{ "[::ffff:10.0.0.1]:80", NULL, 0, NOT_LOOPBACK }, { "127.0.0.1", NULL, 0, LISTEN_FORM },
	{ "127.0.0.1:", NULL, 0, LISTEN_FORM }, { "127.0.0.1:0", NULL, 0, LISTEN_FORM },
	{ "127.0.0.1:65536", NULL, 0, LISTEN_FORM }, { "127.0.0.1:-1", NULL, 0, LISTEN_FORM },
	{ "127.0.0.1:http", NULL, 0, LISTEN_FORM }, { "127.0.0.1: 80", NULL, 0, LISTEN_FORM },
	{ "127.0.0.1:80 ", NULL, 0, LISTEN_FORM }, { "127.0.0.1:80;", NULL, 0, LISTEN_FORM },
	{ "127.0.0.1:99999999999999999999", NULL, 0, LISTEN_FORM }, { ":80", NULL, 0, LISTEN_FORM },
	{ "8080", NULL, 0, LISTEN_FORM }, { "::1:80", NULL, 0, LISTEN_FORM },
	{ "[]:80", NULL, 0, LISTEN_FORM }, { "[:80", NULL, 0, LISTEN_FORM },
	{ "[::1:80", NULL, 0, LISTEN_FORM }, { "[::1]80", NULL, 0, LISTEN_FORM },
	{ "[127.0.0.1]:80", NULL, 0, LISTEN_FORM }, { "localhost:80", NULL, 0, LISTEN_FORM },
	{ "127.1:80", NULL, 0, LISTEN_FORM }, { "0177.0.0.1:80", NULL, 0, LISTEN_FORM },
	{ "2130706433:80", NULL, 0, LISTEN_FORM }, { "[::1%lo]:80", NULL, 0, LISTEN_FORM },
	{ "unix:/tmp/s", NULL, 0, LISTEN_FORM }, { "", NULL, 0, LISTEN_FORM } };

START_TEST(only_a_loopback_address_and_a_port_are_listened_to)
{
	char words[256], yaml[128];

	for (size_t i = 0; i < COUNT(listens); i++) {
		const struct conf_options options = { NULL, listens[i].listen, NULL };
		struct conf *conf;

		if (listens[i].host == NULL) {
			(void)snprintf(words, sizeof(words), "--listen: listen %s%s",
			    listens[i].listen, listens[i].words);
			check_refused_n("", 0, &options, words);
			continue;
		}
		ck_assert_int_eq(conf_parse("", 0, "f.yaml", &options, &conf), OK);
		ck_assert_str_eq(conf->listen, listens[i].listen);
		ck_assert_str_eq(conf->host, listens[i].host);
		ck_assert_int_eq(conf->port, listens[i].port);
		conf_close(conf);
		(void)snprintf(yaml, sizeof(yaml), "listen: '%s'\n", listens[i].listen);
		conf = parsed(yaml);
		ck_assert_int_eq(conf->port, listens[i].port);
		conf_close(conf);
	}
	check_refused("data: x\nlisten: 0.0.0.0:80\n", "f.yaml:2: listen 0.0.0.0:80" NOT_LOOPBACK);
	check_refused("listen: localhost\n", "f.yaml:1: listen localhost" LISTEN_FORM);
}
END_TEST

START_TEST(the_command_line_overrides_the_file)
{
	static const char yaml[] = "listen: 127.0.0.1:1111\ndata: there\n";
	const struct conf_options options = { NULL, "127.0.0.2:2222", "here" };
	struct conf *conf;

	ck_assert_int_eq(conf_parse(yaml, strlen(yaml), "f.yaml", &options, &conf), OK);
	ck_assert_str_eq(conf->listen, "127.0.0.2:2222");
	ck_assert_str_eq(conf->host, "127.0.0.2");
	ck_assert_int_eq(conf->port, 2222);
	ck_assert_int_eq(conf->demo_port, 12222);
	ck_assert_str_eq(conf->data, "here");
	conf_close(conf);
}
END_TEST

START_TEST(the_demo_port_stays_a_port)
{
	static const struct {
		const char *yaml;
		int64_t demo_port;
	} rows[] = { { "listen: 127.0.0.1:1\n", 10001 }, { "listen: 127.0.0.1:50000\n", 60000 },
		{ "listen: 127.0.0.1:50001\n", 40001 }, { "listen: 127.0.0.1:65535\n", 55535 } };

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct conf *conf = parsed(rows[i].yaml);

		ck_assert_int_eq(conf->demo_port, rows[i].demo_port);
		conf_close(conf);
	}
}
END_TEST

/* A list of COUNT upstreams or methods; yours to free. */
static char *
list_of(const char *head, const char *item, int count)
{
	size_t size, one = strlen(item) + 32;
	char *yaml = malloc(strlen(head) + one * (size_t)count + 1);

	ck_assert_ptr_nonnull(yaml);
	size = (size_t)sprintf(yaml, "%s", head);
	for (int i = 0; i < count; i++)
		size += (size_t)sprintf(yaml + size, "    - {name: n%d, %s}\n", i, item);
	return yaml;
}

START_TEST(lists_hold_a_thousand_items_and_no_more)
{
	static const struct {
		const char *head, *item, *words;
	} lists[] = {
		{ "coalesce:\n  upstreams:\n", "url: http://a/",
		    "f.yaml:3: upstreams has too many items" },
		{ "coalesce:\n  methods:\n", "oop_max: max, remaining_oop_max: max, copay: max",
		    "f.yaml:3: methods has too many items" },
	};

	for (size_t i = 0; i < COUNT(lists); i++) {
		char *fits = list_of(lists[i].head, lists[i].item, 1000);
		char *more = list_of(lists[i].head, lists[i].item, 1001);
		struct conf *conf = parsed(fits);

		ck_assert_uint_eq(conf->coalesce.upstreams.count, i == 0 ? 1000 : CONF_DEMOS);
		ck_assert_uint_eq(conf->coalesce.methods.count, i == 1 ? 1004 : 4);
		conf_close(conf);
		check_refused(more, lists[i].words);
		free(fits);
		free(more);
	}
}
END_TEST

START_TEST(anchors_and_aliases_do_no_harm)
{
	struct conf *conf = parsed("coalesce:\n  upstreams:\n"
				   "    - {name: a, url: &u http://a/, max_in_flight: &n 7}\n"
				   "    - {name: b, url: *u, max_in_flight: *n}\n");

	ck_assert_str_eq(conf->coalesce.upstreams.items[1].url, "http://a/");
	ck_assert_int_eq(conf->coalesce.upstreams.items[1].max_in_flight, 7);
	conf_close(conf);
	conf = parsed("&k data: x\n");
	ck_assert_str_eq(conf->data, "x");
	conf_close(conf);
	/* Those that hold themselves, and those that would fill the memory if they were unfolded.
	 */
	check_refused("&a [*a]\n", "f.yaml:1: the top must be a mapping");
	check_refused("&a {coalesce: *a}\n", "f.yaml:1: unknown key coalesce");
	check_refused(
	    "coalesce:\n  upstreams: &a [*a]\n", "f.yaml:2: upstreams must hold mappings");
	check_refused("? &a [*a]\n: x\n", "f.yaml:1: a key must be a word");
	check_refused("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", "f.yaml:1: unknown key a");
	check_refused("&k data: x\n*k : y\n", "f.yaml:1: data is given twice");
	check_refused("coalesce:\n  upstreams:\n    - &a {name: a, url: http://a/}\n    - *a\n",
	    "f.yaml:3: there are two upstreams named a");
}
END_TEST

static const struct {
	const char *yaml;
	size_t n;
	const char *begins;
} no_yaml[] = {
#define T(text) text, sizeof(text) - 1
	{ T("data: [x\n"), "f.yaml:2: not YAML: " },
	{ T("data: x\n\tuser: y\n"), "f.yaml:2: not YAML: " },
	{ T("data: 'x\n"), "f.yaml:2: not YAML: " },
	{ T("data: x\nuser y\n"), "f.yaml:3: not YAML: " },
	{ T("data: x: y\n"), "f.yaml:1: not YAML: " },
	{ T("data: *nothing\n"), "f.yaml:1: not YAML: " },
	{ T("a: &x 1\nb: &x 2\n"), "f.yaml:2: not YAML: " },
	{ T("{data: x\n"), "f.yaml:2: not YAML: " },
	{ T("data: x\nuser: \0\n"), "f.yaml:2: not YAML: " },
	{ T("data: x\nuser: y\0"), "f.yaml:2: not YAML: " },
	{ T("data: x\nuser: \x01\n"), "f.yaml:2: not YAML: " },
	{ T("data: x\n\n\nuser: \xff\n"), "f.yaml:4: not YAML: " },
	{ T("data: \xc0\xaf\n"), "f.yaml:1: not YAML: " },
	{ T("data: \xed\xa0\x80\n"), "f.yaml:1: not YAML: " },
	{ T("\xff\xfe"
	    "d\0a\0t\0a"),
	    "f.yaml:1: not YAML: " },
	{ T("%YAML 2.0\n---\n{}\n"), "f.yaml:1: not YAML: " },
	{ T("data: !!foo x\nuser: @x\n"), "f.yaml:2: not YAML: " },
	{ T("data: x\n---\nuser: y\n"), "f.yaml:2: there must be only one document" },
	{ T("---\n---\n"), "f.yaml:2: there must be only one document" },
	{ T("data: x\n...\nuser: y\n"), "f.yaml:3: not YAML: " },
	{ T("data: x\n---\n[\n"), "f.yaml:4: not YAML: " },
};

START_TEST(what_is_no_yaml_or_several_documents_is_refused)
{
	for (size_t i = 0; i < COUNT(no_yaml); i++) {
		struct conf *conf;

		err_clear();
		ck_assert_msg(
		    conf_parse(no_yaml[i].yaml, no_yaml[i].n, "f.yaml", &none, &conf) == ERR_INPUT,
		    "%s", no_yaml[i].yaml);
		ck_assert_ptr_null(conf);
		ck_assert_msg(
		    strncmp(err_words(), no_yaml[i].begins, strlen(no_yaml[i].begins)) == 0,
		    "%s: %s", no_yaml[i].yaml, err_words());
	}
}
END_TEST

START_TEST(huge_and_deep_input_is_refused_all_the_same)
{
	size_t n = 5000; /* libyaml takes its time: the square of the depth */
	char *deep = malloc(n + 1);
	struct conf *conf;

	ck_assert_ptr_nonnull(deep);
	for (size_t i = 0; i < 4; i++) {
		memset(deep, "[{a-"[i], n);
		deep[n] = '\0';
		ck_assert_int_eq(conf_parse(deep, n, "f.yaml", &none, &conf), ERR_INPUT);
		ck_assert_int_eq(strncmp(err_words(), "f.yaml:", 7), 0);
	}
	free(deep);
}
END_TEST

static void
write_file(const char *name, const char *bytes, size_t n)
{
	FILE *file = fopen(name, "wb");

	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(bytes, 1, n, file), n);
	ck_assert_int_eq(fclose(file), 0);
}

static void
check_not_loaded(const char *name, const char *words)
{
	const struct conf_options options = { name, NULL, NULL };
	struct conf *conf = (struct conf *)&conf;

	ck_assert_int_eq(conf_load(&options, &conf), ERR_INPUT);
	ck_assert_ptr_null(conf);
	ck_assert_str_eq(err_words(), words);
}

START_TEST(a_file_is_loaded_or_refused_by_name)
{
	char folder[] = "/tmp/check_conf.XXXXXX";
	const struct conf_options named = { "a.yaml", NULL, NULL };
	char *filled = malloc(CONF_FILE_MAX + 1), words[64];
	struct conf *conf;

	ck_assert_ptr_nonnull(filled);
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chdir(folder), 0);
	check_not_loaded("a.yaml", "a.yaml: No such file or directory");
	check_not_loaded("", ": No such file or directory");
	(void)snprintf(words, sizeof(words), "%s: cannot be read", folder);
	check_not_loaded(folder, words);
	memset(filled, '#', CONF_FILE_MAX + 1);
	write_file("a.yaml", filled, CONF_FILE_MAX);
	ck_assert_int_eq(conf_load(&named, &conf), OK);
	check_defaults(conf);
	conf_close(conf);
	write_file("a.yaml", filled, CONF_FILE_MAX + 1);
	check_not_loaded("a.yaml", "a.yaml: is larger than 1048576 bytes");
	write_file("a.yaml", "data: x\nuser: Y\n", 16);
	check_not_loaded("a.yaml", "a.yaml:2: user must be made of a-z, 0-9, - and _");
	ck_assert_int_eq(unlink("a.yaml"), 0);
	ck_assert_int_eq(rmdir(folder), 0);
	free(filled);
}
END_TEST

START_TEST(where_none_is_named_the_file_where_we_stand_is_read_if_it_exists)
{
	char folder[] = "/tmp/check_conf.XXXXXX";
	struct conf *conf;

	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chdir(folder), 0);
	ck_assert_int_eq(conf_load(&none, &conf), OK);
	check_defaults(conf);
	conf_close(conf);
	write_file(CONF_FILE, "data: x\n", 8);
	ck_assert_int_eq(conf_load(&none, &conf), OK);
	ck_assert_str_eq(conf->data, "x");
	conf_close(conf);
	write_file(CONF_FILE, "dat: x\n", 7);
	check_not_loaded(NULL, CONF_FILE ":1: unknown key dat");
	ck_assert_int_eq(unlink(CONF_FILE), 0);
	ck_assert_int_eq(mkdir(CONF_FILE, 0700), 0);
	check_not_loaded(NULL, CONF_FILE ": cannot be read");
	ck_assert_int_eq(rmdir(CONF_FILE), 0);
	ck_assert_int_eq(symlink(CONF_FILE, CONF_FILE), 0);
	check_not_loaded(NULL, CONF_FILE ": Too many levels of symbolic links");
	ck_assert_int_eq(unlink(CONF_FILE), 0);
	ck_assert_int_eq(rmdir(folder), 0);
}
END_TEST

START_TEST(every_key_is_described)
{
	static const char *const lines[] = {
		"listen:                127.0.0.1:8080  # ",
		"data:                  var             # ",
		"user:                  www-data        # ",
		"coalesce:                              # ",
		"  deadline_ms:         2000            # ",
		"(10..60000)",
		"  max_age_s:           5               # ",
		"  circuit_failures:    5               # ",
		"  circuit_pause_ms:    1000            # ",
		"  upstreams:                           # ",
		"      name:            (required)      # ",
		"      url:             (required)      # ",
		"      ca_file:                         # ",
		"      max_in_flight:   400             # ",
		"      private_network:",
		"  methods:                             # ",
		"      oop_max:         (required)      # ",
		": max, min, avg, median, first, majority\n",
		"      oop_max_at_most:",
		"      remaining_oop_max:",
		"      remaining_oop_max_at_most:",
		"      copay:           (required)      # ",
		"      copay_at_most:",
		"auth:                                  # ",
		"  mode:                off             # ",
		"required\n",
		"  algorithms:                          # ",
		": ES256, ES384, RS256, PS256, HS256\n",
		"  leeway_s:            60              # ",
		"events:                                # ",
		"  entry_window_hours:  0               # ",
		"(0..876000)",
		"stats:                                 # ",
		"  settle_ms:           20              # ",
		"  keep_days:           0               # ",
		"tls:                                   # ",
		"  redirect_from:                       # ",
		"  requests_per_s:      50              # ",
		"  origins:                             # ",
		"trusted_proxies:                       # ",
		"log:                                   # ",
		"  rotate_mib:          64              # ",
		"  keep:                4               # ",
		": oop_max, remaining_oop_max, copay\n",
	};
	char *text;
	size_t n;
	FILE *out = open_memstream(&text, &n);

	ck_assert_ptr_nonnull(out);
	conf_describe(out);
	ck_assert_int_eq(fclose(out), 0);
	for (size_t i = 0; i < COUNT(lines); i++)
		ck_assert_msg(strstr(text, lines[i]) != NULL, "%s\nis not in\n%s", lines[i], text);
	free(text);
}
END_TEST

START_TEST(closing_nothing_is_allowed)
{
	conf_close(NULL);
}
END_TEST

START_TEST(the_entry_window_goes_from_no_bound_to_a_hundred_years)
{
	static const struct {
		const char *yaml;
		int64_t hours;
	} rows[] = { { "events: {}\n", 0 }, { "events: {entry_window_hours: 0}\n", 0 },
		{ "events:\n  entry_window_hours: 1\n", 1 },
		{ "events: {entry_window_hours: 876000}\n", 876000 } };

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct conf *conf = parsed(rows[i].yaml);

		ck_assert_int_eq(conf->events.entry_window_hours, rows[i].hours);
		conf_close(conf);
	}
}
END_TEST

#define JWKS_FORM \
	"f.yaml: auth.jwks must be a file's full path or begin with https://, or with http:// on " \
	"a loopback address"
#define REQUIRED "auth: {mode: required, issuer: i, audience: a"
#define BIT(algorithm) (INT64_C(1) << ALGORITHM_##algorithm)

START_TEST(without_a_word_everybody_is_let_in_and_with_one_nobody_is)
{
	static const struct {
		const char *yaml;
		const char *jwks, *secret_file;
		bool is_url;
		int64_t algorithms;
	} rows[] = {
		{ REQUIRED "}", NULL, CONF_SECRET_FILE, false, BIT(HS256) },
		{ REQUIRED ", secret_file: /x}", NULL, "/x", false, BIT(HS256) },
		{ REQUIRED ", jwks: /k}", "/k", NULL, false, BIT(ES256) },
		{ REQUIRED ", jwks: /k, secret_file: /x}", "/k", "/x", false,
		    BIT(ES256) | BIT(HS256) },
		{ REQUIRED ", jwks: 'https://i.example/keys', algorithms: [RS256, PS256, ES384]}",
		    "https://i.example/keys", NULL, true, BIT(RS256) | BIT(PS256) | BIT(ES384) },
		{ REQUIRED ", jwks: 'http://127.0.0.1:8/k', algorithms: [ES256, HS256]}",
		    "http://127.0.0.1:8/k", CONF_SECRET_FILE, true, BIT(ES256) | BIT(HS256) },
		{ REQUIRED ", jwks: 'http://[::1]/k'}", "http://[::1]/k", NULL, true, BIT(ES256) },
		{ REQUIRED ", jwks: 'http://localhost'}", "http://localhost", NULL, true,
		    BIT(ES256) },
	};
	struct conf *conf = parsed("auth: {issuer: i, leeway_s: 0}\n");

	ck_assert_int_eq(conf->auth.mode, AUTH_OFF);
	ck_assert_int_eq(conf->auth.leeway_s, 0);
	ck_assert_str_eq(conf->auth.roles_claim, "roles");
	conf_close(conf);
	for (size_t i = 0; i < COUNT(rows); i++) {
		conf = parsed(rows[i].yaml);
		ck_assert_int_eq(conf->auth.mode, AUTH_REQUIRED);
		ck_assert_int_eq(conf->auth.leeway_s, 60);
		ck_assert_pstr_eq(conf->auth.jwks, rows[i].jwks);
		ck_assert_pstr_eq(conf->auth.secret_file, rows[i].secret_file);
		ck_assert(conf->auth.jwks_is_url == rows[i].is_url);
		ck_assert_int_eq(conf->auth.algorithms, rows[i].algorithms);
		conf_close(conf);
	}
}
END_TEST

START_TEST(access_that_cannot_be_controlled_is_refused)
{
	static const struct {
		const char *yaml, *words;
	} rows[] = {
		{ "auth: {mode: on}", "f.yaml:1: mode must be one of off, required" },
		{ "auth: {mode: required}", "f.yaml: auth.mode required needs auth.issuer" },
		{ "auth: {mode: required, issuer: i}",
		    "f.yaml: auth.mode required needs auth.audience" },
		{ REQUIRED ", algorithms: []}", "f.yaml:1: algorithms must not be empty" },
		{ REQUIRED ", algorithms: [none]}",
		    "f.yaml:1: algorithms must be one of ES256, ES384, RS256, PS256, HS256" },
		{ REQUIRED ", algorithms: [[ES256]]}",
		    "f.yaml:1: algorithms must be one of ES256, ES384, RS256, PS256, HS256" },
		{ REQUIRED ", algorithms: ES256}", "f.yaml:1: algorithms must be a list" },
		{ REQUIRED ", algorithms: [ES256]}",
		    "f.yaml: auth.jwks is missing: HS256 alone needs none" },
		{ REQUIRED ", jwks: /k, algorithms: [HS256]}",
		    "f.yaml: auth.jwks is for another algorithm than HS256" },
		{ REQUIRED ", jwks: /k, algorithms: [ES256], secret_file: /x}",
		    "f.yaml: auth.secret_file is for HS256 only" },
		{ REQUIRED ", secret_file: x/y}", "f.yaml: auth.secret_file must be a full path" },
		{ REQUIRED ", jwks: keys.json}", JWKS_FORM },
		{ REQUIRED ", jwks: 'http://i.example/keys'}", JWKS_FORM },
		{ REQUIRED ", jwks: 'http://127.0.0.1.example/keys'}", JWKS_FORM },
		{ REQUIRED ", jwks: 'http://localhost@evil.example/keys'}", JWKS_FORM },
		{ REQUIRED ", jwks: 'ftp://i.example/keys'}", JWKS_FORM },
		{ REQUIRED ", jwks: 'https://u@i.example/keys'}",
		    "f.yaml: auth.jwks must have neither a user, a fragment nor characters that "
		    "need escaping" },
		{ REQUIRED ", leeway_s: 301}",
		    "f.yaml:1: leeway_s must be a whole number of 0..300" },
	};

	for (size_t i = 0; i < COUNT(rows); i++)
		check_refused(rows[i].yaml, rows[i].words);
}
END_TEST

START_TEST(with_access_control_any_address_is_listened_to)
{
	struct conf *conf = parsed("listen: 0.0.0.0:80\n" REQUIRED "}\n");

	ck_assert_str_eq(conf->host, "0.0.0.0");
	conf_close(conf);
	check_refused(
	    "listen: localhost:80\n" REQUIRED "}\n", "f.yaml:1: listen localhost:80" LISTEN_FORM);
}
END_TEST

#define PATH_FORM " must be a full path of letters, digits, and / . _ + -"
#define ORIGIN_FORM \
	"f.yaml:2: origins must hold SCHEME://HOST or SCHEME://HOST:PORT in small letters, such " \
	"as https://app.example"
#define NETWORK_FORM "f.yaml:1: trusted_proxies must hold addresses, or networks such as 10.0.0.0/8"

START_TEST(a_front_door_that_nginx_could_not_make_is_refused)
{
	static const struct {
		const char *yaml, *words;
	} rows[] = {
		{ "tls: {certificate: /c}", "f.yaml: tls needs tls.key" },
		{ "tls: {key: /k}", "f.yaml: tls needs tls.certificate" },
		{ "tls: {redirect_from: '127.0.0.1:80'}", "f.yaml: tls needs tls.certificate" },
		{ "tls: {certificate: c.pem}", "f.yaml:1: certificate" PATH_FORM },
		{ "tls:\n  key: '/k\"; x'", "f.yaml:2: key" PATH_FORM },
		{ "tls: {key: /k$x}", "f.yaml:1: key" PATH_FORM },
		{ "tls: {key: /k@x}", "f.yaml:1: key" PATH_FORM },
		{ "tls:\n  redirect_from: localhost:80",
		    "f.yaml:2: redirect_from must be ADDRESS:PORT, such as 0.0.0.0:80" },
		{ "tls: {certificate: /c, key: /k, redirect_from: '127.0.0.1:8080'}",
		    "f.yaml: tls.redirect_from is where https listens" },
		{ "tls: {certificate: /c, key: /k, redirect_from: '0.0.0.0:80'}",
		    "f.yaml: tls.redirect_from must be a loopback address with auth.mode off" },
		{ "limits: {requests_per_s: 100001}",
		    "f.yaml:1: requests_per_s must be a whole number of 0..100000" },
		{ "limits:\n  burst: 0", "f.yaml:2: burst must be a whole number of 1..100000" },
		{ "limits: {connections: 65536}",
		    "f.yaml:1: connections must be a whole number of 0..65535" },
		{ "cors: {origins: '*'}", "f.yaml:1: origins must be a list" },
		{ "cors:\n  origins: [[x]]", "f.yaml:2: origins must hold texts" },
		{ "cors:\n  origins: ['*']", "f.yaml:2: origins must have 8..256 bytes" },
		{ "cors:\n  origins: ['https://*.example']", ORIGIN_FORM },
		{ "cors:\n  origins: [https://app.example/]", ORIGIN_FORM },
		{ "cors:\n  origins: [https://App.example]", ORIGIN_FORM },
		{ "cors:\n  origins: [HTTPS://app.example]", ORIGIN_FORM },
		{ "cors:\n  origins: ['http://[::A]']", ORIGIN_FORM },
		{ "cors:\n  origins: ['https://app.example:']", ORIGIN_FORM },
		{ "cors:\n  origins: ['https://:443']", ORIGIN_FORM },
		{ "cors:\n  origins: ['https://[::1']", ORIGIN_FORM },
		{ "cors:\n  origins: ['ftp://app.example']", ORIGIN_FORM },
		{ "cors:\n  origins: ['https://a\" \"b']", ORIGIN_FORM },
		{ "cors:\n  origins:\n    - https://a.b\n    - https://a.b",
		    "f.yaml:4: origins has this twice" },
		{ "trusted_proxies: [proxy.example]", NETWORK_FORM },
		{ "trusted_proxies: [10.0.0.1/8]", NETWORK_FORM },
		{ "trusted_proxies: [0.0.0.0/0]", NETWORK_FORM },
		{ "trusted_proxies: ['::/0']", NETWORK_FORM },
		{ "trusted_proxies: [10.0.0.0/33]", NETWORK_FORM },
		{ "trusted_proxies: [10.0.0.0/]", NETWORK_FORM },
		{ "trusted_proxies: ['2001:db8::1/64']", NETWORK_FORM },
		{ "trusted_proxies: ['10.0.0.0/8;']", NETWORK_FORM },
	};

	for (size_t i = 0; i < COUNT(rows); i++)
		check_refused(rows[i].yaml, rows[i].words);
}
END_TEST

START_TEST(a_hundred_origins_and_no_more)
{
	char yaml[8192] = "cors:\n  origins:\n";

	for (int i = 0; i < CONF_TEXTS_MAX; i++)
		(void)snprintf(yaml + strlen(yaml), sizeof(yaml) - strlen(yaml),
		    "    - https://a%d.example\n", i);
	conf_close(parsed(yaml));
	(void)snprintf(
	    yaml + strlen(yaml), sizeof(yaml) - strlen(yaml), "    - https://b.example\n");
	check_refused(yaml, "f.yaml:3: origins has too many items");
}
END_TEST

START_TEST(links_begin_with_https_where_it_is_served)
{
	struct conf *conf = parsed("tls: {certificate: /c, key: /k}\n");

	ck_assert_str_eq(conf->public_url, "https://127.0.0.1:8080");
	conf_close(conf);
	conf = parsed("tls: {certificate: /c, key: /k}\npublic_url: https://care.example\n");
	ck_assert_str_eq(conf->public_url, "https://care.example");
	ck_assert_str_eq(conf->own_url, "https://127.0.0.1:8080");
	conf_close(conf);
}
END_TEST

CHECK_MAIN(conf,
    { an_empty_file_gives_the_defaults_and_demo_upstreams, the_built_in_methods_come_first,
	every_key_is_read, every_way_of_merging_is_read,
	a_bad_value_is_refused_with_file_line_and_reason,
	an_unknown_key_or_a_second_one_is_refused_where_it_stands,
	bounds_must_not_go_round_in_a_circle, only_a_loopback_address_and_a_port_are_listened_to,
	the_command_line_overrides_the_file, the_demo_port_stays_a_port,
	lists_hold_a_thousand_items_and_no_more, anchors_and_aliases_do_no_harm,
	what_is_no_yaml_or_several_documents_is_refused,
	huge_and_deep_input_is_refused_all_the_same, a_file_is_loaded_or_refused_by_name,
	where_none_is_named_the_file_where_we_stand_is_read_if_it_exists, every_key_is_described,
	closing_nothing_is_allowed, the_entry_window_goes_from_no_bound_to_a_hundred_years,
	without_a_word_everybody_is_let_in_and_with_one_nobody_is,
	access_that_cannot_be_controlled_is_refused, with_access_control_any_address_is_listened_to,
	a_front_door_that_nginx_could_not_make_is_refused, a_hundred_origins_and_no_more,
	links_begin_with_https_where_it_is_served })
