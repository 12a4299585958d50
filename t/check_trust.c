#include "test.h"

#include <curl/curl.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/trust.h"

/* A certificate of openssl req -x509, whose key was thrown away. */
static const char certificate[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBdjCCARugAwIBAgIUazkoWCUwnFa8iyjhAABjQxM/KzwwCgYIKoZIzj0EAwIw\n"
    "DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjIwMTEyMTlaGA8yMTI2MTAyOTAxMTIx\n"
    "OVowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABC7A\n"
    "N1Yg9QY40Aur9hnEXhmp3XSPybX3btPw5pZTIHppJqEPvfAIevKLgjLH7YCl1pCi\n"
    "S/5o55ZS8MP4J5hoEbOjUzBRMB0GA1UdDgQWBBStifmSuxOk3/UyjjVzGcfqEN23\n"
    "jjAfBgNVHSMEGDAWgBStifmSuxOk3/UyjjVzGcfqEN23jjAPBgNVHRMBAf8EBTAD\n"
    "AQH/MAoGCCqGSM49BAMCA0kAMEYCIQCMNZguPN7jXiroemXFm4VUS3VlgM+4g/Yr\n"
    "SntlrutoQgIhANwEYOhR7GV3dGCeij96aLnTnfRBnp+ix/OmNYKXDlm8\n"
    "-----END CERTIFICATE-----\n";

static struct trust *trust;

static enum err
open_file(const char *bytes)
{
	char file[] = "/tmp/check_trust.XXXXXX";
	int fd = mkstemp(file);
	enum err err;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, strlen(bytes)), (ssize_t)strlen(bytes));
	(void)close(fd);
	err = trust_open(file, &trust);
	ck_assert_ptr_nonnull(strstr(err == OK ? file : err_words(), file));
	(void)unlink(file);
	return err;
}

START_TEST(a_file_of_certificates_is_trusted_and_needed_no_more)
{
	char two[2 * sizeof(certificate) + 16];
	CURL *easy = curl_easy_init();

	(void)snprintf(two, sizeof(two), "a comment\n%s%s", certificate, certificate);
	ck_assert_int_eq(open_file(two), OK);
	ck_assert(trust_use(trust, easy));
	curl_easy_cleanup(easy);
	trust_close(trust);
}
END_TEST

START_TEST(a_file_without_certificates_is_refused_by_its_name)
{
	char cut[sizeof(certificate) / 2] = "";

	memcpy(cut, certificate, sizeof(cut) - 1);
	ck_assert_int_eq(open_file(""), ERR_INPUT);
	ck_assert_int_eq(open_file("words"), ERR_INPUT);
	ck_assert_int_eq(open_file(cut), ERR_INPUT);
	ck_assert_ptr_null(trust);
	ck_assert_int_eq(trust_open("/nowhere/ca.pem", &trust), ERR_INPUT);
	ck_assert_str_eq(err_words(), "ca_file /nowhere/ca.pem: No such file or directory");
	ck_assert_int_eq(trust_open("/tmp", &trust), ERR_INPUT);
}
END_TEST

START_TEST(the_authorities_of_the_system_are_shared)
{
	CURL *easy = curl_easy_init();
	struct trust *other;

	ck_assert_int_eq(trust_open(NULL, &trust), OK);
	ck_assert_int_eq(trust_open(NULL, &other), OK);
	trust_close(trust);
	ck_assert(trust_use(other, easy)); /* closed by one, they stay for others */
	curl_easy_cleanup(easy);
	trust_close(other);
	trust_close(NULL);
}
END_TEST

/* Of nobody; the certificate's own. */
static const char key[] = "-----BEGIN PRIVATE KEY-----\n"
			  "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgSl8+fC6CSLxTVG/3\n"
			  "zwctcjnip8usIWzIaOM/3Yqph0qhRANCAAQCEkB65LOX/S9mfoG5jHgnbSLtOMS3\n"
			  "GGIJ4Tb02MSlSDiLIe+ibMxtms+fnWmyqbnbS04VWz30fvVg9FbcM3wB\n"
			  "-----END PRIVATE KEY-----\n";
static const char own[] = "-----BEGIN CERTIFICATE-----\n"
			  "MIIBdjCCARugAwIBAgIUS0Tp4CZ+V7DFaQXEkFNQKbKVoUwwCgYIKoZIzj0EAwIw\n"
			  "DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjIwMTM0NTJaGA8yMTI2MTAyOTAxMzQ1\n"
			  "MlowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABAIS\n"
			  "QHrks5f9L2Z+gbmMeCdtIu04xLcYYgnhNvTYxKVIOIsh76JszG2az5+dabKpudtL\n"
			  "ThVbPfR+9WD0VtwzfAGjUzBRMB0GA1UdDgQWBBSYt9WVzAG49FdaDaNHlok8fN1y\n"
			  "1zAfBgNVHSMEGDAWgBSYt9WVzAG49FdaDaNHlok8fN1y1zAPBgNVHRMBAf8EBTAD\n"
			  "AQH/MAoGCCqGSM49BAMCA0kAMEYCIQDfOBqDJ8K+vNJA0rma6HZOQ0zm+mo9lLIZ\n"
			  "oobvc2TCagIhAJYC6+xbzROVazQqsAcG+04FmJboxAqBUrbquOtmIzcs\n"
			  "-----END CERTIFICATE-----\n";

/* What trust_pair_check() says of files with these bytes. */
static enum err
check_pair(const char *certificate_bytes, const char *key_bytes)
{
	char folder[] = "/tmp/check_trust.XXXXXX", paths[2][64];
	const char *const bytes[] = { certificate_bytes, key_bytes };
	enum err err;
	FILE *out;

	ck_assert_ptr_nonnull(mkdtemp(folder));
	for (size_t i = 0; i < 2; i++) {
		(void)snprintf(paths[i], sizeof(paths[i]), "%s/%zu.pem", folder, i);
		if (bytes[i] == NULL)
			continue;
		ck_assert_ptr_nonnull(out = fopen(paths[i], "we"));
		(void)fputs(bytes[i], out);
		ck_assert_int_eq(fclose(out), 0);
	}
	err = trust_pair_check(paths[0], paths[1]);
	ck_assert(err == OK || strstr(err_words(), folder) != NULL);
	(void)unlink(paths[0]);
	(void)unlink(paths[1]);
	ck_assert_int_eq(rmdir(folder), 0);
	return err;
}

START_TEST(a_certificate_and_its_key_fit_and_no_others)
{
	static const struct {
		const char *certificate, *key, *words;
	} rows[] = {
		{ NULL, key, "0.pem: No such file" },
		{ own, NULL, "1.pem: No such file" },
		{ "", key, "0.pem: no certificate can be read" },
		{ key, key, "0.pem: no certificate can be read" },
		{ own, own, "1.pem: no key without a pass phrase can be read" },
		{ certificate, key, "0.pem" },
		{ certificate, key, "1.pem is not the key of " },
	};

	ck_assert_int_eq(check_pair(own, key), OK);
	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_assert_int_eq(check_pair(rows[i].certificate, rows[i].key), ERR_INPUT);
		ck_assert_ptr_nonnull(strstr(err_words(), rows[i].words));
	}
}
END_TEST

CHECK_MAIN(trust,
    { a_file_of_certificates_is_trusted_and_needed_no_more,
	a_file_without_certificates_is_refused_by_its_name,
	the_authorities_of_the_system_are_shared, a_certificate_and_its_key_fit_and_no_others })
