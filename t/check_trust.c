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

CHECK_MAIN(trust,
    { a_file_of_certificates_is_trusted_and_needed_no_more,
	a_file_without_certificates_is_refused_by_its_name,
	the_authorities_of_the_system_are_shared })
