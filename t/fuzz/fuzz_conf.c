#include <stdbool.h>
#include <string.h>

#include "fuzz.h"
#include "lib/conf.h"

#define BYTES_MAX 4096 /* libyaml's time goes with the square of the depth */

static void
check_upstreams(const struct conf *conf)
{
	assert(conf->coalesce.upstreams.count >= 1);
	for (size_t i = 0; i < conf->coalesce.upstreams.count; i++) {
		const struct conf_upstream *up = &conf->coalesce.upstreams.items[i];

		assert(up->name[0] != '\0' && strncmp(up->url, "http", 4) == 0);
		assert((up->line == 0) == conf->demo);
		assert(up->max_in_flight >= 1 && up->max_in_flight <= 480);
		assert(up->ca_file == NULL || up->ca_file[0] != '\0');
		for (size_t j = 0; j < i; j++)
			assert(strcmp(up->name, conf->coalesce.upstreams.items[j].name) != 0);
	}
}

static void
check_methods(const struct conf *conf)
{
	assert(conf->coalesce.methods.count >= 4);
	for (size_t i = 0; i < conf->coalesce.methods.count; i++) {
		const struct conf_method *method = &conf->coalesce.methods.items[i];

		assert(method->name[0] != '\0' && (method->line == 0) == (i < 4));
		for (int f = 0; f < FIELD_MAX; f++) {
			int64_t bound = method->at_most[f];

			assert(method->merge[f] >= MERGE_MAX && method->merge[f] <= MERGE_MAJORITY);
			for (int steps = 0; bound >= 0; steps++) {
				assert(bound < FIELD_MAX && steps < FIELD_MAX);
				bound = method->at_most[bound];
			}
			assert(bound == -1);
		}
	}
}

/* With access control, tokens can be checked, and by nothing but what is meant for it. */
static void
check_auth(const struct conf_auth *auth)
{
	const int64_t secret = INT64_C(1) << ALGORITHM_HS256;

	if (auth->mode == AUTH_OFF)
		return;
	assert(auth->issuer != NULL && auth->issuer[0] != '\0');
	assert(auth->audience != NULL && auth->audience[0] != '\0');
	assert(auth->algorithms > 0 && auth->algorithms < INT64_C(1) << ALGORITHM_MAX);
	assert((auth->jwks != NULL) == ((auth->algorithms & ~secret) != 0));
	assert((auth->secret_file != NULL) == ((auth->algorithms & secret) != 0));
	assert(auth->secret_file == NULL || auth->secret_file[0] == '/' ||
	    strcmp(auth->secret_file, CONF_SECRET_FILE) == 0);
	assert(auth->leeway_s >= 0 && auth->leeway_s <= 300);
	assert(auth->jwks == NULL || auth->jwks[0] == '/' || auth->jwks_is_url);
}

static void
check_conf(const struct conf *conf)
{
	assert(strlen(conf->listen) >= 3 && conf->data[0] != '\0' && conf->user[0] != '\0');
	assert(conf->auth.mode == AUTH_REQUIRED || strncmp(conf->host, "127.", 4) == 0 ||
	    strchr(conf->host, ':') != NULL);
	assert(conf->port >= 1 && conf->port <= 65535);
	assert(conf->demo_port >= 1 && conf->demo_port <= 65535 && conf->demo_port != conf->port);
	assert(conf->coalesce.deadline_ms >= 10 && conf->coalesce.deadline_ms <= 60000);
	assert(conf->coalesce.max_age_s >= 0 && conf->coalesce.max_age_s <= 86400);
	assert(conf->coalesce.circuit_failures >= 1 && conf->coalesce.circuit_failures <= 1000);
	assert(conf->coalesce.circuit_pause_ms >= 10 && conf->coalesce.circuit_pause_ms <= 3600000);
	check_auth(&conf->auth);
	check_upstreams(conf);
	check_methods(conf);
}

/* "FILE:LINE: " and more; or the whole name of a key that is missing, or does not go with others.
 */
static bool
names_a_line(const char *words)
{
	size_t digits;

	if (strncmp(words, "fuzz: auth.", 11) == 0)
		return true;
	if (strncmp(words, "fuzz:", 5) != 0)
		return false;
	digits = strspn(words + 5, "0123456789");
	return digits > 0 && words[5] != '0' && strncmp(words + 5 + digits, ": ", 2) == 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	const struct conf_options options = { NULL, NULL, NULL };
	struct conf *conf;

	if (n > BYTES_MAX)
		return 0;
	err_clear();
	if (conf_parse((const char *)bytes, n, "fuzz", &options, &conf) == OK)
		check_conf(conf);
	else
		assert(conf == NULL && names_a_line(err_words()));
	conf_close(conf);
	return 0;
}
