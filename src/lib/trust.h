/*
 * trust: the authorities that https is verified against, and our own certificate (libcrypto).
 *
 * They are read once, when the program starts, and shared by all threads and connections: libcurl
 * alone would read them anew for each handle, which takes some 30 ms of a request's time and a
 * megabyte each time.  So a file that changes is heeded when the program starts anew.
 *
 * trust_open() before threads; trust_use() from any thread.
 */
#ifndef CAREDESK_TRUST_H
#define CAREDESK_TRUST_H

#include <stdbool.h>

#include "lib/err.h"

struct trust;

/* The authorities of the PEM file CA_FILE; of the system, if that is NULL.  ERR_INPUT with words if
 * there are none to be read.  Yours to close. */
enum err trust_open(const char *ca_file, struct trust **trust) MUST_CHECK;

/* NULL is fine.  Handles that use it must be gone. */
void trust_close(struct trust *trust);

/* Whether a server can show CERTIFICATE, and has its KEY: PEM files that are read, fit each other,
 * and need no pass phrase, which nobody would be asked for.  ERR_INPUT with words. */
enum err trust_pair_check(const char *certificate, const char *key) MUST_CHECK;

/* The libcurl handle CURL verifies against these and no others; false if it cannot. */
bool trust_use(struct trust *trust, void *curl) MUST_CHECK;

#endif
