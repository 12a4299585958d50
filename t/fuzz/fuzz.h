/*
 * fuzz.h: what every fuzz target defines.
 */
#ifndef CAREDESK_FUZZ_H
#define CAREDESK_FUZZ_H

#undef NDEBUG /* the assertions are the test */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* Feeds N bytes to a parser of outside bytes; aborts where a promise is broken.  Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#endif
