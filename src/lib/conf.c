#include "lib/conf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "lib/text.h"

const char *const conf_field_names[FIELD_MAX + 1] = { "oop_max", "remaining_oop_max", "copay" };

const char *const conf_algorithm_names[ALGORITHM_MAX + 1] = { "ES256", "ES384", "RS256", "PS256",
	"HS256" };

static const char *const auth_modes[] = { "off", "required", NULL };

static const char *const merge_names[] = { "max", "min", "avg", "median", "first", "majority",
	NULL };

enum kind {
	KIND_TEXT,
	KIND_TEXTS,
	KIND_WORD,
	KIND_NUMBER,
	KIND_FLAG,
	KIND_CHOICE,
	KIND_CHOICES,
	KIND_GROUP,
	KIND_LIST
};

/* One key of a mapping: where it goes in the struct and what may stand there. */
struct key {
	const char *name;
	enum kind kind;
	bool required;
	size_t offset;
	int64_t min, max; /* of a number; bytes of a text, or of each; items of a list */
	int64_t number; /* default */
	const char *text; /* default */
	const char *const *choices;
	const char *(*fault)(const char *text); /* what a text must be, or NULL */
	const struct key *keys; /* of a group, or of each item of a list */
	size_t item_size;
	const char *help;
};

#define NAME_MAX_BYTES 64
#define URL_MAX_BYTES 1024
#define ITEMS_MAX 1000
#define DEPTH_MAX 16

#define AT(type, member) .offset = offsetof(struct type, member)

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

/* An address of a machine, and a port. */
struct address {
	char host[CONF_HOST_MAX]; /* without the brackets of IPv6 */
	int64_t port;
	bool loopback;
};

/* "127.0.0.1:8080" or "[::1]:8080". */
static bool
read_address(const char *s, struct address *out)
{
	const char *colon = strrchr(s, ':');
	struct in_addr v4;
	struct in6_addr v6;
	bool bracketed = s[0] == '[';
	size_t n = colon == NULL ? 0 : (size_t)(colon - s);

	if (colon == NULL || !text_uint(colon + 1, strlen(colon + 1), &out->port) ||
	    out->port < 1 || out->port > 65535 || n >= sizeof(out->host) ||
	    (bracketed && (n < 2 || s[n - 1] != ']')))
		return false;
	(void)snprintf(
	    out->host, sizeof(out->host), "%.*s", (int)(bracketed ? n - 2 : n), s + bracketed);
	if (bracketed && inet_pton(AF_INET6, out->host, &v6) == 1)
		out->loopback = IN6_IS_ADDR_LOOPBACK(&v6);
	else if (!bracketed && inet_pton(AF_INET, out->host, &v4) == 1)
		out->loopback = ntohl(v4.s_addr) >> 24 == 127;
	else
		return false;
	return true;
}

static const char *
address_fault(const char *text)
{
	struct address address;

	return read_address(text, &address) ? NULL : "must be ADDRESS:PORT, such as 0.0.0.0:80";
}

/* What nginx takes for itself, between quotes. */
static const char *
path_fault(const char *text)
{
	static const char characters[] = LOWER "ABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "/._+-";

	return text[0] == '/' && text[strspn(text, characters)] == '\0'
	    ? NULL
	    : "must be a full path of letters, digits, and / . _ + -";
}

/* As browsers send it: whatever else could never be the same as theirs. */
static const char *
origin_fault(const char *text)
{
	const char *host = strstr(text, "://");
	size_t n, port_n;

	if (strncmp(text, "http://", 7) != 0 && strncmp(text, "https://", 8) != 0)
		goto bad;
	host += 3;
	n = host[0] == '[' ? 1 + strspn(host + 1, ":" DIGITS "abcdef")
			   : strspn(host, LOWER DIGITS ".-");
	if (host[0] == '[')
		n = host[n] == ']' ? n + 1 : 0;
	if (n == 0)
		goto bad;
	port_n = host[n] == ':' ? strspn(host + n + 1, DIGITS) : 0;
	if (host[n] == ':' && port_n > 0)
		n += 1 + port_n;
	if (host[n] == '\0')
		return NULL;
bad:
	return "must hold SCHEME://HOST or SCHEME://HOST:PORT in small letters, such as "
	       "https://app.example";
}

/* Whether of the N bytes all bits behind the first BITS are 0. */
static bool
is_prefix(const unsigned char *bytes, size_t n, int64_t bits)
{
	for (size_t i = 0; i < n; i++, bits -= 8) {
		int64_t own = bits < 0 ? 0 : bits > 8 ? 8 : bits;

		if ((bytes[i] & (0xff >> own)) != 0)
			return false;
	}
	return true;
}

/* "10.1.2.3" or "10.0.0.0/8".  Nobody may mean everybody. */
static const char *
network_fault(const char *text)
{
	char address[INET6_ADDRSTRLEN];
	unsigned char bytes[sizeof(struct in6_addr)];
	size_t n = strcspn(text, "/"), size;
	int64_t bits;

	if (n >= sizeof(address))
		goto bad;
	(void)snprintf(address, sizeof(address), "%.*s", (int)n, text);
	size = inet_pton(AF_INET, address, bytes) == 1 ? sizeof(struct in_addr)
	    : inet_pton(AF_INET6, address, bytes) == 1 ? sizeof(struct in6_addr)
						       : 0;
	bits = 8 * (int64_t)size;
	if (text[n] == '/' &&
	    (!text_uint(text + n + 1, strlen(text + n + 1), &bits) || bits < 1 ||
		bits > 8 * (int64_t)size))
		goto bad;
	if (size > 0 && is_prefix(bytes, size, bits))
		return NULL;
bad:
	return "must hold addresses, or networks such as 10.0.0.0/8";
}

static const struct key upstream_keys[] = {
	{ "name", KIND_WORD, true, AT(conf_upstream, name), .min = 1, .max = NAME_MAX_BYTES,
	    .help = "what answers, logs and health call it" },
	{ "url", KIND_TEXT, true, AT(conf_upstream, url), .min = 8, .max = URL_MAX_BYTES,
	    .help = "http or https; member_id=ID is added to its query" },
	{ "ca_file", KIND_TEXT, false, AT(conf_upstream, ca_file), .min = 1, .max = 1024,
	    .help = "authorities (PEM, full path) to trust for https instead of the system's" },
	{ "max_in_flight", KIND_NUMBER, false, AT(conf_upstream, max_in_flight), .min = 1,
	    .max = 480, .number = 400, .help = "calls at once; one more fails at once" },
	{ "private_network", KIND_FLAG, false, AT(conf_upstream, private_network),
	    .help = "its name may resolve to a private or loopback address" },
	{ 0 },
};

#define MERGE_KEY(field, index) \
	{ field, KIND_CHOICE, true, AT(conf_method, merge[index]), .choices = merge_names, \
		.help = "how the upstreams' values become one" }, \
	{ \
		field "_at_most", KIND_CHOICE, false, AT(conf_method, at_most[index]), \
		    .choices = conf_field_names, .number = -1, \
		    .help = "never above that merged field" \
	}

static const struct key method_keys[] = {
	{ "name", KIND_WORD, true, AT(conf_method, name), .min = 1, .max = NAME_MAX_BYTES,
	    .help = "METHOD in /api/coalescence/METHOD" },
	MERGE_KEY("oop_max", FIELD_OOP_MAX),
	MERGE_KEY("remaining_oop_max", FIELD_REMAINING_OOP_MAX),
	MERGE_KEY("copay", FIELD_COPAY),
	{ 0 },
};

static const struct key coalesce_keys[] = {
	{ "upstreams", KIND_LIST, false, AT(conf, coalesce.upstreams), .max = ITEMS_MAX,
	    .keys = upstream_keys, .item_size = sizeof(struct conf_upstream),
	    .help = "the insurers; without any, three demo insurers are served on the loopback" },
	{ "deadline_ms", KIND_NUMBER, false, AT(conf, coalesce.deadline_ms), .min = 10,
	    .max = 60000, .number = 2000,
	    .help = "the longest that a caller waits for all upstreams together" },
	{ "max_age_s", KIND_NUMBER, false, AT(conf, coalesce.max_age_s), .max = 86400, .number = 5,
	    .help = "how long a whole answer may be cached; 0 is not at all" },
	{ "circuit_failures", KIND_NUMBER, false, AT(conf, coalesce.circuit_failures), .min = 1,
	    .max = 1000, .number = 5, .help = "failures in a row that open an upstream's circuit" },
	{ "circuit_pause_ms", KIND_NUMBER, false, AT(conf, coalesce.circuit_pause_ms), .min = 10,
	    .max = 3600000, .number = 1000,
	    .help = "first pause before an open circuit is tried again; doubles up to 30 times" },
	{ "methods", KIND_LIST, false, AT(conf, coalesce.methods), .max = ITEMS_MAX,
	    .keys = method_keys, .item_size = sizeof(struct conf_method),
	    .help = "methods beside the built-in default, max, min and avg" },
	{ 0 },
};

static const struct key events_keys[] = {
	{ "entry_window_hours", KIND_NUMBER, false, AT(conf, events.entry_window_hours),
	    .max = 876000, .number = 0,
	    .help = "events older than this are refused, except from an admin; 0 is no bound" },
	{ 0 },
};

static const struct key stats_keys[] = {
	{ "settle_ms", KIND_NUMBER, false, AT(conf, stats.settle_ms), .max = 1000, .number = 20,
	    .help =
		"how long after an answer its line may come into the access log; not waited for "
		"on a machine with one processor" },
	{ "keep_days", KIND_NUMBER, false, AT(conf, stats.keep_days), .max = 36500, .number = 0,
	    .help =
		"what is older is not kept by the hour, only in the sums of paths; 0 is for ever" },
	{ 0 },
};

static const struct key auth_keys[] = {
	{ "mode", KIND_CHOICE, false, AT(conf, auth.mode), .text = "off", .choices = auth_modes,
	    .help = "whether a request needs a bearer token" },
	{ "issuer", KIND_TEXT, false, AT(conf, auth.issuer), .min = 1, .max = URL_MAX_BYTES,
	    .help = "iss of a good token; required with mode required" },
	{ "audience", KIND_TEXT, false, AT(conf, auth.audience), .min = 1, .max = URL_MAX_BYTES,
	    .help = "what a good token has in aud; required with mode required" },
	{ "jwks", KIND_TEXT, false, AT(conf, auth.jwks), .min = 2, .max = URL_MAX_BYTES,
	    .help = "the issuer's set of keys: a file by its full path, or a https URL" },
	{ "algorithms", KIND_CHOICES, false, AT(conf, auth.algorithms),
	    .choices = conf_algorithm_names,
	    .help = "that tokens are signed with; else ES256 with jwks, and HS256 with a secret" },
	{ "secret_file", KIND_TEXT, false, AT(conf, auth.secret_file), .min = 2, .max = 1024,
	    .help =
		"secret of HS256 in hex digits, by its full path; without jwks, else what caredesk "
		"token makes" },
	{ "roles_claim", KIND_TEXT, false, AT(conf, auth.roles_claim), .min = 1, .max = 128,
	    .text = "roles",
	    .help = "where a token has its roles; with dots also inside, as realm_access.roles" },
	{ "leeway_s", KIND_NUMBER, false, AT(conf, auth.leeway_s), .max = 300, .number = 60,
	    .help = "how far the issuer's clock may be from ours" },
	{ 0 },
};

static const struct key images_keys[] = {
	{ "link_s", KIND_NUMBER, false, AT(conf, images.link_s), .min = 60, .max = 604800,
	    .number = 3600,
	    .help = "how long a link to an image opens, at least; at most twice as long" },
	{ 0 },
};

static const struct key test_runs_keys[] = {
	{ "max_requests", KIND_NUMBER, false, AT(conf, test_runs.max_requests),
	    .max = CONF_RUN_REQUESTS_MAX, .number = CONF_RUN_REQUESTS_MAX,
	    .help = "that a client may ask for by POST /test/N" },
	{ 0 },
};

static const struct key log_keys[] = {
	{ "rotate_mib", KIND_NUMBER, false, AT(conf, log.rotate_mib), .max = 1024 * 1024,
	    .number = 64, .help = "renamed once it has so many MiB; 0 is not by itself" },
	{ "keep", KIND_NUMBER, false, AT(conf, log.keep), .max = 1000, .number = 4,
	    .help = "renamed ones that are kept; of older ones, those that are not counted yet" },
	{ 0 },
};

static const struct key tls_keys[] = {
	{ "certificate", KIND_TEXT, false, AT(conf, tls.certificate), .min = 2, .max = 1024,
	    .fault = path_fault,
	    .help = "PEM file by its full path, with those between it and the authority behind" },
	{ "key", KIND_TEXT, false, AT(conf, tls.key), .min = 2, .max = 1024, .fault = path_fault,
	    .help = "of the certificate, likewise, without a pass phrase" },
	{ "redirect_from", KIND_TEXT, false, AT(conf, tls.redirect_from), .min = 3,
	    .max = CONF_HOST_MAX, .fault = address_fault,
	    .help = "ADDRESS:PORT where plain HTTP is sent on to https" },
	{ 0 },
};

static const struct key limits_keys[] = {
	{ "requests_per_s", KIND_NUMBER, false, AT(conf, limits.requests_per_s), .max = 100000,
	    .number = 50,
	    .help = "of an address, loopback excepted; 0 is any number, also of what costs much" },
	{ "burst", KIND_NUMBER, false, AT(conf, limits.burst), .min = 1, .max = 100000,
	    .number = 100, .help = "how many more may come at once" },
	{ "connections", KIND_NUMBER, false, AT(conf, limits.connections), .max = 65535,
	    .number = 50, .help = "of an address that have a request at a time; 0 is any number" },
	{ 0 },
};

static const struct key cors_keys[] = {
	{ "origins", KIND_TEXTS, false, AT(conf, cors.origins), .min = 8, .max = 256,
	    .fault = origin_fault,
	    .help = "of pages elsewhere that may ask, such as https://app.example" },
	{ 0 },
};

static const struct key top_keys[] = {
	{ "listen", KIND_TEXT, false, AT(conf, listen), .min = 3, .max = CONF_HOST_MAX,
	    .text = "127.0.0.1:8080",
	    .help = "ADDRESS:PORT of nginx; with auth.mode off only a loopback address" },
	{ "data", KIND_TEXT, false, AT(conf, data), .min = 1, .max = 1024, .text = "var",
	    .help = "folder of all that is written" },
	{ "user", KIND_WORD, false, AT(conf, user), .min = 1, .max = 32, .text = "www-data",
	    .help = "whom the programs and nginx's workers run as when started by root" },
	{ "public_url", KIND_TEXT, false, AT(conf, public_url), .max = CONF_PUBLIC_URL_MAX,
	    .text = "",
	    .help =
		"what links to images begin with, such as https://care.example; else where nginx "
		"listens" },
	{ "auth", KIND_GROUP, .keys = auth_keys, .help = "who may ask" },
	{ "tls", KIND_GROUP, .keys = tls_keys, .help = "https, by nginx" },
	{ "limits", KIND_GROUP, .keys = limits_keys, .help = "how much one address may ask" },
	{ "cors", KIND_GROUP, .keys = cors_keys, .help = "pages of other sites" },
	{ "trusted_proxies", KIND_TEXTS, false, AT(conf, trusted_proxies), .min = 2, .max = 64,
	    .fault = network_fault,
	    .help = "addresses and networks whose X-Forwarded-For says who asks" },
	{ "coalesce", KIND_GROUP, .keys = coalesce_keys, .help = "asking insurers" },
	{ "events", KIND_GROUP, .keys = events_keys, .help = "registering events" },
	{ "images", KIND_GROUP, .keys = images_keys, .help = "people's pictures" },
	{ "stats", KIND_GROUP, .keys = stats_keys, .help = "counting requests" },
	{ "test_runs", KIND_GROUP, .keys = test_runs_keys, .help = "requests made to be counted" },
	{ "log", KIND_GROUP, .keys = log_keys, .help = "nginx's access log" },
	{ 0 },
};

static const struct conf_method builtin_methods[] = {
	{ 0, "default", { MERGE_MAX, MERGE_MAX, MERGE_MAX }, { -1, -1, FIELD_REMAINING_OOP_MAX } },
	{ 0, "max", { MERGE_MAX, MERGE_MAX, MERGE_MAX }, { -1, -1, -1 } },
	{ 0, "min", { MERGE_MIN, MERGE_MIN, MERGE_MIN }, { -1, -1, -1 } },
	{ 0, "avg", { MERGE_AVG, MERGE_AVG, MERGE_AVG }, { -1, -1, -1 } },
};

#define BUILTINS (sizeof(builtin_methods) / sizeof(builtin_methods[0]))

/* The file being read. */
struct reader {
	const char *name;
	yaml_document_t *document;
};

static enum err read_keys(
    const struct reader *r, yaml_node_t *node, const struct key *keys, char *into);

static unsigned
line_of(const yaml_node_t *node)
{
	return (unsigned)node->start_mark.line + 1;
}

/* Whether the scalar NODE is TEXT to its last byte: it may hold a NUL. */
static bool
is_text(const yaml_node_t *node, const char *text)
{
	return node->type == YAML_SCALAR_NODE && node->data.scalar.length == strlen(text) &&
	    memcmp(node->data.scalar.value, text, strlen(text)) == 0;
}

static enum err
bad_value(const struct reader *r, const yaml_node_t *node, const struct key *key, const char *why)
{
	return fail(ERR_INPUT, "%s:%u: %s %s", r->name, line_of(node), key->name, why);
}

static bool
is_word(const char *s)
{
	return s[0] != '\0' && s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-_")] == '\0';
}

/* ASCII without spaces and control characters. */
static bool
is_printable(const char *s)
{
	while (*s > ' ' && *s < 0x7f)
		s++;
	return *s == '\0';
}

static enum err
read_text(const struct reader *r, yaml_node_t *node, const struct key *key, char *into)
{
	const char *text = (const char *)node->data.scalar.value;
	size_t n = node->data.scalar.length;
	char why[96];

	if (strlen(text) != n)
		return bad_value(r, node, key, "must not hold a NUL");
	if (n < (size_t)key->min || n > (size_t)key->max) {
		(void)snprintf(
		    why, sizeof(why), "must have %d..%d bytes", (int)key->min, (int)key->max);
		return bad_value(r, node, key, why);
	}
	if (key->kind == KIND_WORD && !is_word(text))
		return bad_value(r, node, key, "must be made of a-z, 0-9, - and _");
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return bad_value(r, node, key, "must not hold control characters");
	if (key->fault != NULL && key->fault(text) != NULL)
		return bad_value(r, node, key, key->fault(text));
	memcpy(into, &text, sizeof(text));
	return OK;
}

static enum err
read_texts(const struct reader *r, yaml_node_t *node, const struct key *key, char *into)
{
	yaml_node_item_t *first = node->data.sequence.items.start;
	struct conf_texts texts = { .items = NULL };
	size_t count = (size_t)(node->data.sequence.items.top - first);

	if (count > CONF_TEXTS_MAX)
		return bad_value(r, node, key, "has too many items");
	if ((texts.items = calloc(count + 1, sizeof(*texts.items))) == NULL)
		return fail(ERR_BUSY, "no memory for the configuration");
	memcpy(into, &texts, sizeof(texts)); /* to be freed with it */
	for (; texts.count < count; texts.count++) {
		yaml_node_t *item = yaml_document_get_node(r->document, first[texts.count]);
		enum err err = item->type == YAML_SCALAR_NODE
		    ? read_text(r, item, key, (char *)&texts.items[texts.count])
		    : bad_value(r, item, key, "must hold texts");

		if (err != OK)
			return err;
		for (size_t i = 0; i < texts.count; i++)
			if (strcmp(texts.items[i], texts.items[texts.count]) == 0)
				return bad_value(r, item, key, "has this twice");
	}
	memcpy(into, &texts, sizeof(texts));
	return OK;
}

static enum err
read_number(const struct reader *r, yaml_node_t *node, const struct key *key, char *into)
{
	char why[96];
	int64_t number;

	if (!text_uint((const char *)node->data.scalar.value, node->data.scalar.length, &number) ||
	    number < key->min || number > key->max) {
		(void)snprintf(why, sizeof(why), "must be a whole number of %lld..%lld",
		    (long long)key->min, (long long)key->max);
		return bad_value(r, node, key, why);
	}
	memcpy(into, &number, sizeof(number));
	return OK;
}

static enum err
read_flag(const struct reader *r, yaml_node_t *node, const struct key *key, char *into)
{
	bool flag = is_text(node, "true");

	if (!flag && !is_text(node, "false"))
		return bad_value(r, node, key, "must be true or false");
	memcpy(into, &flag, sizeof(flag));
	return OK;
}

static enum err
read_choice(const struct reader *r, yaml_node_t *node, const struct key *key, char *into)
{
	char why[128] = "must be one of";

	for (int64_t i = 0; key->choices[i] != NULL; i++) {
		if (is_text(node, key->choices[i])) {
			memcpy(into, &i, sizeof(i));
			return OK;
		}
		(void)snprintf(why + strlen(why), sizeof(why) - strlen(why), "%s %s",
		    i == 0 ? "" : ",", key->choices[i]);
	}
	return bad_value(r, node, key, why);
}

/* The words of a list as bits. */
static enum err
read_choices(const struct reader *r, yaml_node_t *node, const struct key *key, char *into)
{
	const yaml_node_item_t *item = node->data.sequence.items.start;
	int64_t bits = 0, choice = 0;
	enum err err = OK;

	for (; item < node->data.sequence.items.top && err == OK; item++) {
		err = read_choice(
		    r, yaml_document_get_node(r->document, *item), key, (char *)&choice);
		bits |= INT64_C(1) << choice;
	}
	if (err == OK && bits == 0)
		err = bad_value(r, node, key, "must not be empty");
	memcpy(into, &bits, sizeof(bits));
	return err;
}

static enum err
read_list(const struct reader *r, yaml_node_t *node, const struct key *key, char *into)
{
	yaml_node_item_t *first = node->data.sequence.items.start;
	size_t count = (size_t)(node->data.sequence.items.top - first);
	char *items;
	enum err err = OK;

	if (count > (size_t)key->max)
		return bad_value(r, node, key, "has too many items");
	items = calloc(count + 1, key->item_size);
	if (items == NULL)
		return fail(ERR_BUSY, "no memory for the configuration");
	memcpy(into, &items, sizeof(items));
	memcpy(into + sizeof(items), &count, sizeof(count));
	for (size_t i = 0; i < count && err == OK; i++) {
		yaml_node_t *item = yaml_document_get_node(r->document, first[i]);
		int64_t line = line_of(item);

		if (item->type != YAML_MAPPING_NODE)
			return bad_value(r, item, key, "must hold mappings");
		memcpy(items + i * key->item_size, &line, sizeof(line));
		err = read_keys(r, item, key->keys, items + i * key->item_size);
	}
	return err;
}

static enum err
read_value(const struct reader *r, yaml_node_t *node, const struct key *key, char *into)
{
	static const struct {
		yaml_node_type_t type;
		const char *why;
		enum err (*read)(const struct reader *, yaml_node_t *, const struct key *, char *);
	} kinds[] = {
		[KIND_TEXT] = { YAML_SCALAR_NODE, "must be a text", read_text },
		[KIND_TEXTS] = { YAML_SEQUENCE_NODE, "must be a list", read_texts },
		[KIND_WORD] = { YAML_SCALAR_NODE, "must be a word", read_text },
		[KIND_NUMBER] = { YAML_SCALAR_NODE, "must be a number", read_number },
		[KIND_FLAG] = { YAML_SCALAR_NODE, "must be true or false", read_flag },
		[KIND_CHOICE] = { YAML_SCALAR_NODE, "must be a word", read_choice },
		[KIND_CHOICES] = { YAML_SEQUENCE_NODE, "must be a list", read_choices },
		[KIND_GROUP] = { YAML_MAPPING_NODE, "must be a mapping", NULL },
		[KIND_LIST] = { YAML_SEQUENCE_NODE, "must be a list", read_list },
	};

	if (node->type != kinds[key->kind].type)
		return bad_value(r, node, key, kinds[key->kind].why);
	if (key->kind == KIND_GROUP)
		return read_keys(r, node, key->keys, into);
	return kinds[key->kind].read(r, node, key, into + key->offset);
}

/* The first pair of KEY in the mapping NODE, or NULL. */
static const yaml_node_pair_t *
find_pair(const struct reader *r, const yaml_node_t *node, const char *key)
{
	for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
	     pair < node->data.mapping.pairs.top; pair++)
		if (is_text(yaml_document_get_node(r->document, pair->key), key))
			return pair;
	return NULL;
}

/* NODE, unless nothing stands there, as where all below a key is commented out: then NULL. */
static yaml_node_t *
given(yaml_node_t *node)
{
	bool empty = node != NULL && node->type == YAML_SCALAR_NODE &&
	    node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && node->data.scalar.length == 0;

	return empty ? NULL : node;
}

/* The value of KEY in the mapping NODE, or NULL. */
static yaml_node_t *
find_value(const struct reader *r, const yaml_node_t *node, const char *key)
{
	const yaml_node_pair_t *pair = find_pair(r, node, key);

	return pair == NULL ? NULL : given(yaml_document_get_node(r->document, pair->value));
}

/* Every key of the mapping NODE is known and stands there once. */
static enum err
check_names(const struct reader *r, yaml_node_t *node, const struct key *keys)
{
	for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
	     pair < node->data.mapping.pairs.top; pair++) {
		yaml_node_t *name = yaml_document_get_node(r->document, pair->key);
		const struct key *key = keys;
		const char *text;

		if (name->type != YAML_SCALAR_NODE)
			return fail(
			    ERR_INPUT, "%s:%u: a key must be a word", r->name, line_of(name));
		text = (const char *)name->data.scalar.value;
		while (key->name != NULL && !is_text(name, key->name))
			key++;
		if (key->name == NULL && !is_printable(text))
			return fail(ERR_INPUT, "%s:%u: unknown key", r->name, line_of(name));
		if (key->name == NULL)
			return fail(
			    ERR_INPUT, "%s:%u: unknown key %.64s", r->name, line_of(name), text);
		if (find_pair(r, node, text) != pair)
			return fail(
			    ERR_INPUT, "%s:%u: %s is given twice", r->name, line_of(name), text);
	}
	return OK;
}

static void
set_defaults(const struct key *keys, char *into)
{
	for (; keys->name != NULL; keys++) {
		char *at = into + keys->offset;

		if (keys->kind == KIND_GROUP)
			set_defaults(keys->keys, into);
		else if (keys->kind == KIND_NUMBER || keys->kind == KIND_CHOICE ||
		    keys->kind == KIND_CHOICES)
			memcpy(at, &keys->number, sizeof(keys->number));
		else if (keys->text != NULL)
			memcpy(at, &keys->text, sizeof(keys->text));
	}
}

static enum err
read_keys(const struct reader *r, yaml_node_t *node, const struct key *keys, char *into)
{
	enum err err = check_names(r, node, keys);

	set_defaults(keys, into);
	for (; err == OK && keys->name != NULL; keys++) {
		yaml_node_t *value = find_value(r, node, keys->name);

		if (value != NULL)
			err = read_value(r, value, keys, into);
		else if (keys->required)
			err = fail(ERR_INPUT, "%s:%u: %s is missing here", r->name, line_of(node),
			    keys->name);
	}
	return err;
}

static enum err
check_listen(const char *where, struct conf *conf)
{
	struct address address;

	if (!read_address(conf->listen, &address))
		return fail(ERR_INPUT, "%s: listen %s must be ADDRESS:PORT, such as 127.0.0.1:8080",
		    where, conf->listen);
	memcpy(conf->host, address.host, sizeof(conf->host));
	conf->port = address.port;
	conf->is_loopback = address.loopback;
	if (!address.loopback && conf->auth.mode == AUTH_OFF)
		return fail(ERR_INPUT,
		    "%s: listen %s is not a loopback address, where anybody could do anything: "
		    "set auth.mode to required, with issuer and audience, or listen on 127.0.0.1",
		    where, conf->listen);
	return OK;
}

/* What the file can be blamed for; libcurl takes the URL apart again before it is used. */
static enum err
check_upstreams(const char *name, const struct conf *conf)
{
	const struct conf_upstream *items = conf->coalesce.upstreams.items;

	for (size_t i = 0; i < conf->coalesce.upstreams.count; i++) {
		const char *url = items[i].url, *host = strstr(url, "://");
		unsigned line = (unsigned)items[i].line;
		size_t n;

		if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
			return fail(ERR_INPUT, "%s:%u: url must begin with http:// or https://",
			    name, line);
		n = strcspn(host + 3, "/?");
		if (n == 0 || memchr(host + 3, '@', n) != NULL ||
		    url[strcspn(url, "# \\\"<>{}|^`")] != '\0' || !is_printable(url))
			return fail(ERR_INPUT,
			    "%s:%u: url must have a host, and neither a user, a "
			    "fragment nor characters that need escaping",
			    name, line);
		if (items[i].ca_file != NULL && items[i].ca_file[0] != '/')
			return fail(ERR_INPUT, "%s:%u: ca_file must be a full path", name, line);
		for (size_t j = 0; j < i; j++)
			if (strcmp(items[i].name, items[j].name) == 0)
				return fail(ERR_INPUT, "%s:%u: there are two upstreams named %s",
				    name, line, items[i].name);
	}
	return OK;
}

/* Whether the URL's host is this machine by its loopback. */
static bool
is_loopback_url(const char *url)
{
	static const char *const hosts[] = { "localhost", "127.0.0.1", "[::1]" };

	if (strncmp(url, "http://", 7) != 0)
		return false;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		size_t n = strlen(hosts[i]);

		if (strncmp(url + 7, hosts[i], n) == 0 && strchr(":/?", url[7 + n]) != NULL)
			return true;
	}
	return false;
}

static enum err
check_jwks(const char *name, struct conf_auth *auth)
{
	const char *jwks = auth->jwks;

	if (jwks == NULL || jwks[0] == '/')
		return OK;
	auth->jwks_is_url = true;
	if (strncmp(jwks, "https://", 8) != 0 && !is_loopback_url(jwks))
		return fail(ERR_INPUT,
		    "%s: auth.jwks must be a file's full path or begin with https://, or with "
		    "http:// on a loopback address",
		    name);
	if (strcspn(jwks, "@# \"<>") != strlen(jwks) || !is_printable(jwks))
		return fail(ERR_INPUT,
		    "%s: auth.jwks must have neither a user, a fragment nor characters that need "
		    "escaping",
		    name);
	return OK;
}

/* Where no algorithm is named: what the keys are for. */
static enum err
check_algorithms(const char *name, struct conf_auth *auth)
{
	const int64_t secret = INT64_C(1) << ALGORITHM_HS256;

	if (auth->secret_file == NULL && (auth->jwks == NULL || (auth->algorithms & secret) != 0))
		auth->secret_file = CONF_SECRET_FILE;
	else if (auth->secret_file != NULL && auth->secret_file[0] != '/')
		return fail(ERR_INPUT, "%s: auth.secret_file must be a full path", name);
	if (auth->algorithms == 0)
		auth->algorithms = (auth->jwks != NULL ? INT64_C(1) << ALGORITHM_ES256 : 0) |
		    (auth->secret_file != NULL ? secret : 0);
	if (auth->jwks == NULL && (auth->algorithms & ~secret) != 0)
		return fail(ERR_INPUT, "%s: auth.jwks is missing: HS256 alone needs none", name);
	if (auth->jwks != NULL && (auth->algorithms & ~secret) == 0)
		return fail(ERR_INPUT, "%s: auth.jwks is for another algorithm than HS256", name);
	if (auth->secret_file != NULL && (auth->algorithms & secret) == 0)
		return fail(ERR_INPUT, "%s: auth.secret_file is for HS256 only", name);
	return OK;
}

static enum err
check_auth(const char *name, struct conf_auth *auth)
{
	enum err err;

	if (auth->mode == AUTH_OFF)
		return OK;
	if (auth->issuer == NULL || auth->audience == NULL)
		return fail(ERR_INPUT, "%s: auth.mode required needs auth.%s", name,
		    auth->issuer == NULL ? "issuer" : "audience");
	if ((err = check_jwks(name, auth)) != OK)
		return err;
	return check_algorithms(name, auth);
}

/* Following at_most from FIELD must end. */
static bool
has_cycle(const struct conf_method *method, int64_t field)
{
	for (int steps = 0; field >= 0; steps++) {
		if (steps == FIELD_MAX)
			return true;
		field = method->at_most[field];
	}
	return false;
}

static enum err
check_methods(const char *name, const struct conf *conf)
{
	const struct conf_method *items = conf->coalesce.methods.items;

	for (size_t i = BUILTINS; i < conf->coalesce.methods.count; i++) {
		unsigned line = (unsigned)items[i].line;

		for (size_t j = 0; j < i; j++)
			if (strcmp(items[i].name, items[j].name) == 0)
				return fail(ERR_INPUT,
				    j < BUILTINS ? "%s:%u: the method %s is built in"
						 : "%s:%u: there are two methods named %s",
				    name, line, items[i].name);
		for (int64_t field = 0; field < FIELD_MAX; field++)
			if (has_cycle(&items[i], field))
				return fail(ERR_INPUT, "%s:%u: the method %s bounds %s by itself",
				    name, line, items[i].name, conf_field_names[field]);
	}
	return OK;
}

static enum err
add_builtin_methods(struct conf *conf)
{
	size_t own = conf->coalesce.methods.count;
	struct conf_method *items = calloc(own + BUILTINS, sizeof(*items));

	if (items == NULL)
		return fail(ERR_BUSY, "no memory for the configuration");
	memcpy(items, builtin_methods, sizeof(builtin_methods));
	if (own > 0)
		memcpy(items + BUILTINS, conf->coalesce.methods.items, own * sizeof(*items));
	free(conf->coalesce.methods.items);
	conf->coalesce.methods.items = items;
	conf->coalesce.methods.count = own + BUILTINS;
	return OK;
}

/* One is nothing without the other. */
static enum err
check_tls(const char *name, struct conf *conf)
{
	bool has_files = conf->tls.certificate != NULL && conf->tls.key != NULL;
	bool has_any = conf->tls.certificate != NULL || conf->tls.key != NULL ||
	    conf->tls.redirect_from != NULL;
	struct address from;

	(void)snprintf(conf->own_url, sizeof(conf->own_url), "http%s://%s", has_files ? "s" : "",
	    conf->listen);
	if (has_any && !has_files)
		return fail(ERR_INPUT, "%s: tls needs tls.%s", name,
		    conf->tls.certificate == NULL ? "certificate" : "key");
	if (conf->tls.redirect_from == NULL || !read_address(conf->tls.redirect_from, &from))
		return OK;
	if (strcmp(conf->tls.redirect_from, conf->listen) == 0)
		return fail(ERR_INPUT, "%s: tls.redirect_from is where https listens", name);
	if (!from.loopback && conf->auth.mode == AUTH_OFF)
		return fail(ERR_INPUT,
		    "%s: tls.redirect_from must be a loopback address with auth.mode off", name);
	return OK;
}

/* Without one, links begin with where nginx listens. */
static enum err
check_public_url(const char *where, struct conf *conf)
{
	const char *url = conf->public_url;
	size_t n = strlen(url);
	bool is_http = strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0;

	if (n == 0) {
		conf->public_url = conf->own_url;
	} else if (!is_http || url[n - 1] == '/' || strcspn(url, "?# \"<>") != n) {
		return fail(ERR_INPUT,
		    "%s: public_url must begin with http:// or https:// and end without a slash",
		    where);
	}
	return OK;
}

/* Where nobody is configured, three demo insurers answer, on one port away from our own. */
static enum err
add_demo_upstreams(struct conf *conf)
{
	static const char *const names[CONF_DEMOS] = { "alpha", "beta", "gamma" };
	struct conf_upstream *items;

	conf->demo_port = conf->port + (conf->port > 50000 ? -10000 : 10000);
	if (conf->coalesce.upstreams.count > 0)
		return OK;
	free(conf->coalesce.upstreams.items);
	conf->coalesce.upstreams.items = items = calloc(CONF_DEMOS, sizeof(*items));
	if (items == NULL)
		return fail(ERR_BUSY, "no memory for the configuration");
	for (size_t i = 0; i < CONF_DEMOS; i++) {
		set_defaults(upstream_keys, (char *)&items[i]);
		(void)snprintf(conf->demo_urls[i], sizeof(conf->demo_urls[i]),
		    "http://127.0.0.1:%d/%s", (int)conf->demo_port, names[i]);
		items[i].name = names[i];
		items[i].url = conf->demo_urls[i];
	}
	conf->coalesce.upstreams.count = CONF_DEMOS;
	conf->demo = true;
	return OK;
}

/* Where it went wrong; of a byte that is no text libyaml tells the offset only. */
static size_t
problem_line(const yaml_parser_t *parser, const char *bytes, size_t n)
{
	size_t line = 1;

	if (parser->error != YAML_READER_ERROR)
		return parser->problem_mark.line + 1;
	for (size_t i = 0; i < n && i < parser->problem_offset; i++)
		line += bytes[i] == '\n';
	return line;
}

/* libyaml takes quadratic time to nest deeply; the events come one by one, so that it is stopped
 * before.  What is no YAML is left to be told by the second reading. */
static enum err
check_depth(const char *bytes, size_t n, const char *name)
{
	yaml_parser_t parser;
	yaml_event_t event;
	yaml_event_type_t type = YAML_NO_EVENT;
	size_t depth = 0, line = 0;

	if (yaml_parser_initialize(&parser) == 0)
		return fail(ERR_BUSY, "no memory for the configuration");
	yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, n);
	while (type != YAML_STREAM_END_EVENT && depth <= DEPTH_MAX &&
	    yaml_parser_parse(&parser, &event) != 0) {
		type = event.type;
		depth += type == YAML_SEQUENCE_START_EVENT || type == YAML_MAPPING_START_EVENT;
		depth -= type == YAML_SEQUENCE_END_EVENT || type == YAML_MAPPING_END_EVENT;
		line = event.start_mark.line + 1;
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	return depth <= DEPTH_MAX ? OK : fail(ERR_INPUT, "%s:%zu: nested too deeply", name, line);
}

/* The one document in BYTES; an empty one has no root. */
static enum err
parse_yaml(const char *bytes, size_t n, const char *name, yaml_document_t *document)
{
	yaml_parser_t parser;
	yaml_document_t second = { 0 };
	enum err err = OK;

	if (yaml_parser_initialize(&parser) == 0)
		return fail(ERR_BUSY, "no memory for the configuration");
	yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, n);
	if (yaml_parser_load(&parser, document) == 0 || yaml_parser_load(&parser, &second) == 0)
		err = fail(ERR_INPUT, "%s:%zu: not YAML: %s", name, problem_line(&parser, bytes, n),
		    parser.problem != NULL ? parser.problem : "");
	else if (yaml_document_get_root_node(&second) != NULL)
		err = fail(ERR_INPUT, "%s:%zu: there must be only one document", name,
		    second.start_mark.line + 1);
	yaml_document_delete(&second);
	yaml_parser_delete(&parser);
	return err;
}

/* The line of a key at the top, for words about its value; nothing where it is not given. */
static void
name_line(
    const struct reader *r, const yaml_node_t *root, const char *key, char where[ERR_WORDS_MAX])
{
	const yaml_node_t *node = root != NULL ? find_value(r, root, key) : NULL;

	if (node != NULL)
		(void)snprintf(where, ERR_WORDS_MAX, "%s:%u", r->name, line_of(node));
}

static enum err
fill(const struct reader *r, const struct conf_options *options, struct conf *conf)
{
	yaml_node_t *root = given(yaml_document_get_root_node(r->document));
	char listen[ERR_WORDS_MAX] = "--listen", public_url[ERR_WORDS_MAX] = "";
	enum err err;

	if (root == NULL)
		set_defaults(top_keys, (char *)conf);
	else if (root->type != YAML_MAPPING_NODE)
		return fail(ERR_INPUT, "%s:%u: the top must be a mapping", r->name, line_of(root));
	else if ((err = read_keys(r, root, top_keys, (char *)conf)) != OK)
		return err;
	if (options->listen != NULL)
		conf->listen = options->listen;
	else
		name_line(r, root, "listen", listen);
	name_line(r, root, "public_url", public_url);
	if (options->data != NULL)
		conf->data = options->data;
	if ((err = check_listen(listen, conf)) != OK ||
	    (err = check_auth(r->name, &conf->auth)) != OK ||
	    (err = check_upstreams(r->name, conf)) != OK ||
	    (err = add_builtin_methods(conf)) != OK || (err = check_methods(r->name, conf)) != OK ||
	    (err = check_tls(r->name, conf)) != OK ||
	    (err = check_public_url(public_url, conf)) != OK)
		return err;
	return add_demo_upstreams(conf);
}

enum err
conf_parse(const char *bytes, size_t n, const char *name, const struct conf_options *options,
    struct conf **out)
{
	struct conf *conf = calloc(1, sizeof(*conf));
	struct reader r = { .name = name, .document = calloc(1, sizeof(yaml_document_t)) };
	enum err err;

	*out = NULL;
	if (conf == NULL || r.document == NULL)
		err = fail(ERR_BUSY, "no memory for the configuration");
	else if ((err = check_depth(bytes, n, name)) == OK &&
	    (err = parse_yaml(bytes, n, name, r.document)) == OK)
		err = fill(&r, options, conf);
	if (conf == NULL || err != OK) {
		if (r.document != NULL)
			yaml_document_delete(r.document);
		free(r.document);
		r.document = NULL;
	}
	if (conf != NULL)
		conf->document = r.document;
	if (err != OK)
		conf_close(conf);
	else
		*out = conf;
	return err;
}

/* The whole file, at most CONF_FILE_MAX bytes; yours to free. */
static enum err
read_file(const char *name, char **bytes, size_t *n)
{
	FILE *file = fopen(name, "re");
	enum err err = OK;

	*bytes = NULL;
	if (file == NULL)
		return fail(ERR_INPUT, "%s: %m", name);
	*bytes = malloc(CONF_FILE_MAX + 1);
	if (*bytes == NULL) {
		err = fail(ERR_BUSY, "no memory for the configuration");
	} else {
		*n = fread(*bytes, 1, CONF_FILE_MAX + 1, file);
		if (ferror(file) != 0)
			err = fail(ERR_INPUT, "%s: cannot be read", name);
		else if (*n > CONF_FILE_MAX)
			err = fail(ERR_INPUT, "%s: is larger than %d bytes", name, CONF_FILE_MAX);
	}
	(void)fclose(file);
	return err;
}

enum err
conf_load(const struct conf_options *options, struct conf **conf)
{
	FILE *probe;
	char *bytes = NULL;
	size_t n = 0;
	enum err err;

	*conf = NULL;
	if (options->file == NULL) {
		if ((probe = fopen(CONF_FILE, "re")) == NULL && errno == ENOENT)
			return conf_parse("", 0, "the defaults", options, conf);
		if (probe != NULL)
			(void)fclose(probe);
	}
	err = read_file(options->file != NULL ? options->file : CONF_FILE, &bytes, &n);
	if (err == OK)
		err = conf_parse(
		    bytes, n, options->file != NULL ? options->file : CONF_FILE, options, conf);
	free(bytes);
	return err;
}

void
conf_close(struct conf *conf)
{
	if (conf == NULL)
		return;
	if (conf->document != NULL)
		yaml_document_delete(conf->document);
	free(conf->document);
	free(conf->coalesce.upstreams.items);
	free(conf->coalesce.methods.items);
	free(conf->cors.origins.items);
	free(conf->trusted_proxies.items);
	free(conf);
}

static void
describe_keys(FILE *out, const struct key *keys, int indent)
{
	for (; keys->name != NULL; keys++) {
		int width = 22 - indent - (int)strlen(keys->name);

		(void)fprintf(out, "%*s%s:%*s", indent, "", keys->name, width > 1 ? width : 1, " ");
		if (keys->kind == KIND_NUMBER)
			(void)fprintf(out, "%-15lld", (long long)keys->number);
		else
			(void)fprintf(out, "%-15s",
			    keys->text != NULL            ? keys->text
				: keys->kind == KIND_FLAG ? "false"
				: keys->required          ? "(required)"
							  : "");
		(void)fprintf(out, " # %s", keys->help);
		if (keys->kind == KIND_NUMBER)
			(void)fprintf(
			    out, " (%lld..%lld)", (long long)keys->min, (long long)keys->max);
		for (size_t i = 0; keys->choices != NULL && keys->choices[i] != NULL; i++)
			(void)fprintf(out, "%s%s", i == 0 ? ": " : ", ", keys->choices[i]);
		(void)fprintf(out, "\n");
		if (keys->keys != NULL)
			describe_keys(out, keys->keys, indent + (keys->kind == KIND_LIST ? 4 : 2));
	}
}

void
conf_describe(FILE *out)
{
	describe_keys(out, top_keys, 0);
}
