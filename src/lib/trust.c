#include "lib/trust.h"

#include <curl/curl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct trust {
	X509_STORE *store;
	const char *ca_file;
};

static X509_STORE *of_system; /* kept for the life of the program, once it was asked for */

static X509_STORE *
load(const char *file, const char *folder)
{
	X509_STORE *store = X509_STORE_new();

	/* An authority need not be a root: whoever names one trusts that one. */
	if (store != NULL && X509_STORE_load_locations(store, file, folder) == 1 &&
	    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) == 1)
		return store;
	X509_STORE_free(store);
	ERR_clear_error();
	return NULL;
}

/* Where libcurl was built to look. */
static X509_STORE *
load_of_system(void)
{
	CURL *easy = curl_easy_init();
	char *file = NULL, *folder = NULL;
	X509_STORE *store = NULL;

	if (easy != NULL && curl_easy_getinfo(easy, CURLINFO_CAINFO, &file) == CURLE_OK &&
	    curl_easy_getinfo(easy, CURLINFO_CAPATH, &folder) == CURLE_OK)
		store = load(file, folder);
	curl_easy_cleanup(easy);
	return store;
}

enum err
trust_open(const char *ca_file, struct trust **out)
{
	struct trust *trust;

	*out = NULL;
	if (ca_file != NULL && access(ca_file, R_OK) != 0)
		return fail(ERR_INPUT, "ca_file %s: %m", ca_file);
	if ((trust = calloc(1, sizeof(*trust))) == NULL)
		return fail(ERR_BUSY, "no memory for authorities");
	trust->ca_file = ca_file;
	if (ca_file != NULL)
		trust->store = load(ca_file, NULL);
	else if (of_system != NULL || (of_system = load_of_system()) != NULL)
		trust->store = X509_STORE_up_ref(of_system) == 1 ? of_system : NULL;
	if (trust->store != NULL) {
		*out = trust;
		return OK;
	}
	trust_close(trust);
	return ca_file != NULL
	    ? fail(ERR_INPUT, "ca_file %s: no certificate can be read", ca_file)
	    : fail(ERR_INPUT, "no ca_file, and the system's authorities cannot be read");
}

void
trust_close(struct trust *trust)
{
	if (trust == NULL)
		return;
	X509_STORE_free(trust->store);
	free(trust);
}

static CURLcode
give_store(CURL *easy, void *context, void *arg)
{
	const struct trust *trust = arg;

	(void)easy;
	return SSL_CTX_set1_verify_cert_store(context, trust->store) == 1 ? CURLE_OK
									  : CURLE_OUT_OF_MEMORY;
}

bool
trust_use(struct trust *trust, void *curl)
{
	/* Nothing is looked up there any more; but connections and sessions are shared only among
	 * handles whose path is the same, and must not cross from one set of authorities to
	 * another. */
	return curl_easy_setopt(curl, CURLOPT_CAINFO, NULL) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_CAPATH, trust->ca_file) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, give_store) == CURLE_OK &&
	    curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, trust) == CURLE_OK;
}

static int
know_no_phrase(char *phrase, int size, int writing, void *context)
{
	(void)phrase;
	(void)size;
	(void)writing;
	(void)context;
	return -1;
}

/* One of the two is read. */
static enum err
read_pem(const char *file, X509 **certificate, EVP_PKEY **key)
{
	FILE *in = fopen(file, "re");
	bool found;

	if (in == NULL)
		return fail(ERR_INPUT, "%s: %m", file);
	if (certificate != NULL)
		*certificate = PEM_read_X509(in, NULL, know_no_phrase, NULL);
	else
		*key = PEM_read_PrivateKey(in, NULL, know_no_phrase, NULL);
	found = certificate != NULL ? *certificate != NULL : *key != NULL;
	(void)fclose(in);
	ERR_clear_error();
	if (!found && certificate != NULL)
		return fail(ERR_INPUT, "%s: no certificate can be read", file);
	if (!found)
		return fail(ERR_INPUT, "%s: no key without a pass phrase can be read", file);
	return OK;
}

enum err
trust_pair_check(const char *certificate, const char *key)
{
	X509 *shown = NULL;
	EVP_PKEY *kept = NULL;
	enum err err;

	if ((err = read_pem(certificate, &shown, NULL)) == OK &&
	    (err = read_pem(key, NULL, &kept)) == OK && X509_check_private_key(shown, kept) != 1)
		err = fail(ERR_INPUT, "%s is not the key of %s", key, certificate);
	X509_free(shown);
	EVP_PKEY_free(kept);
	ERR_clear_error();
	return err;
}
