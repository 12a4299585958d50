/*
 * conf: the configuration file (YAML 1.1, one document), read once and constant from then on.
 *
 * Every key has a default, so that no file at all runs.  An unknown key, a key given twice or a bad
 * value is refused with file, line and reason.  One table in conf.c says of each key its name,
 * type, bounds, default and meaning; conf_describe() prints it.
 *
 * Read by libyaml.  Not libcyaml: its 1.3 tells the line of the key before, and knows neither
 * defaults nor bounds.
 *
 * Any thread, once loaded.
 */
#ifndef CAREDESK_CONF_H
#define CAREDESK_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/err.h"

#define CONF_FILE "caredesk.yaml" /* read from where we stand if no other is named */
#define CONF_FILE_MAX (1024 * 1024)
#define CONF_HOST_MAX 64
#define CONF_PUBLIC_URL_MAX 200
#define CONF_DEMOS 3
#define CONF_RUN_REQUESTS_MAX 1000000
#define CONF_TEXTS_MAX 100
#define CONF_SECRET_FILE "run/secret/token" /* of tokens, where no other is named */
#define CONF_LOCK_SHARE 20 /* nginx's cache may make a caller wait this part of deadline_ms */

/* The fields that insurers answer with and that are merged, in this order everywhere. */
enum conf_field { FIELD_OOP_MAX, FIELD_REMAINING_OOP_MAX, FIELD_COPAY, FIELD_MAX };

extern const char *const conf_field_names[FIELD_MAX + 1]; /* NULL at the end */

/* How several values of a field become one. */
enum conf_merge { MERGE_MAX, MERGE_MIN, MERGE_AVG, MERGE_MEDIAN, MERGE_FIRST, MERGE_MAJORITY };

/* How a token may be signed (RFC 7518 section 3.1). */
enum conf_algorithm {
	ALGORITHM_ES256,
	ALGORITHM_ES384,
	ALGORITHM_RS256,
	ALGORITHM_PS256,
	ALGORITHM_HS256, /* by the local secret, never by a key of the set */
	ALGORITHM_MAX
};

extern const char *const conf_algorithm_names[ALGORITHM_MAX + 1]; /* NULL at the end */

enum conf_auth_mode { AUTH_OFF, AUTH_REQUIRED };

/* Which tokens are good. */
struct conf_auth {
	int64_t mode; /* enum conf_auth_mode */
	const char *issuer, *audience; /* NULL only where the mode is off */
	const char *jwks; /* a file by its full path, or a URL; or NULL */
	bool jwks_is_url;
	int64_t algorithms; /* bits, by enum conf_algorithm */
	const char *secret_file; /* NULL: no token is signed by a secret of ours */
	const char *roles_claim;
	int64_t leeway_s;
};

/* A list of texts. */
struct conf_texts {
	const char **items;
	size_t count;
};

/* Lists: LINE comes first in each item, where it stands in the file (0: built in). */
struct conf_upstream {
	int64_t line;
	const char *name; /* a word: a-z, 0-9, - and _ */
	const char *url; /* http or https, without user, password and fragment */
	const char *ca_file; /* or NULL: the system's authorities */
	int64_t max_in_flight;
	bool private_network;
};

struct conf_method {
	int64_t line;
	const char *name;
	int64_t merge[FIELD_MAX]; /* enum conf_merge */
	int64_t at_most[FIELD_MAX]; /* enum conf_field, or -1 for no bound; no cycles */
};

struct conf {
	const char *listen; /* as written */
	char host[CONF_HOST_MAX]; /* without the brackets of IPv6 */
	int64_t port;
	bool is_loopback; /* the host is */
	const char *data;
	const char *user;
	const char *public_url; /* of the front door, without a slash at its end */
	char own_url[CONF_HOST_MAX + 16]; /* of where nginx listens, likewise */
	bool demo; /* no upstreams are configured: those below are our own */
	int64_t demo_port;
	struct {
		int64_t deadline_ms;
		int64_t max_age_s;
		int64_t circuit_failures;
		int64_t circuit_pause_ms;
		struct {
			struct conf_upstream *items;
			size_t count;
		} upstreams;
		struct {
			struct conf_method *items; /* the built-in ones first */
			size_t count;
		} methods;
	} coalesce;

	struct conf_auth auth;

	struct {
		const char *certificate, *key; /* files by their full paths; NULL: plain HTTP */
		const char *redirect_from; /* ADDRESS:PORT of plain HTTP, or NULL */
	} tls;

	struct {
		int64_t requests_per_s, burst, connections; /* of an address; 0: any number */
	} limits;

	struct {
		struct conf_texts origins; /* as browsers write them */
	} cors;

	struct conf_texts trusted_proxies; /* addresses and networks */

	struct {
		int64_t link_s; /* how long a link to an image opens, at least */
	} images;

	struct {
		int64_t entry_window_hours; /* 0: any time */
	} events;

	struct {
		int64_t settle_ms; /* from an answer to its line in the access log, at most */
		int64_t keep_days; /* of hours; 0: for ever */
	} stats;

	struct {
		int64_t rotate_mib; /* of the access log; 0: not by itself */
		int64_t keep; /* old ones */
	} log;

	struct {
		int64_t max_requests; /* of one load run */
	} test_runs;

	/* conf.c only */
	void *document;
	char demo_urls[CONF_DEMOS][64];
};

/* What the command line says; NULL where it says nothing. */
struct conf_options {
	const char *file, *listen, *data;
};

/* ERR_INPUT, with words that begin "FILE:LINE: ".  *CONF is yours to close. */
enum err conf_load(const struct conf_options *options, struct conf **conf) MUST_CHECK;

/* The same from bytes; NAME stands for the file in words. */
enum err conf_parse(const char *bytes, size_t n, const char *name,
    const struct conf_options *options, struct conf **conf) MUST_CHECK;

void conf_close(struct conf *conf);

/* Every key with its default and meaning, for people. */
void conf_describe(FILE *out);

#endif
