/*
 * text: bytes from outside that claim to be text or numbers.
 *
 * Every reader here takes a pointer and a length, never stops early at a NUL, accepts exactly the
 * grammar it names and nothing around it.  Pure functions; any thread.
 */
#ifndef CAREDESK_TEXT_H
#define CAREDESK_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length in bytes (1..4) of the UTF-8 sequence at S, or 0 if it is none: overlong forms,
 * surrogates and what lies above U+10FFFF are none (RFC 3629 section 4). */
size_t text_utf8_sequence(const char *s, size_t n);

bool text_utf8_valid(const char *s, size_t n);

/* Characters (code points) of valid UTF-8. */
size_t text_utf8_length(const char *s, size_t n);

/* Digits only, no sign, no space, at least one: 0..INT64_MAX.  False leaves *VALUE alone. */
bool text_uint(const char *s, size_t n, int64_t *value);

/* A JSON number (RFC 8259 section 6, the grammar already checked) whose value is a whole number
 * within int64: "5", "-0", "5.0", "1.5e1".  False if it is not whole or does not fit. */
bool text_exact_int(const char *s, size_t n, int64_t *value);

/* A JSON number (the grammar already checked) as a multiple of 10^-SCALE, rounded to the nearest,
 * exact halves to even.  *ROUNDED is where the multiple lies: 1 above what was read, -1 below it, 0
 * if it is exactly that.  False if it does not fit. */
bool text_decimal(const char *s, size_t n, unsigned scale, int64_t *value, int *rounded);

/* N bytes from 2N lower- or upper-case hex digits, nothing else. */
bool text_hex(const char *s, size_t n, unsigned char *bytes);

/* Value of one hex digit, or -1. */
int text_hex_digit(char c);

/* Whether TEXT is longer than END and ends with it, whatever the case of ASCII letters. */
bool text_ends_with(const char *text, const char *end);

/* Letters, digits, - and _ only, at least one: the digits of base64url (RFC 4648 section 5) without
 * padding.  Asked before libsodium 1.0.18 decodes, which takes bytes above 127 for digits, too. */
bool text_is_base64url(const char *s, size_t n);

/* Writes 2N lower-case digits and a NUL. */
void text_to_hex(const unsigned char *bytes, size_t n, char *out);

#define TEXT_INT_SIZE 21 /* of any int64, its sign and its NUL */

/* VALUE in digits; returns the length without the NUL. */
size_t text_int(int64_t value, char out[TEXT_INT_SIZE]);

/* The body of a JSON string, without its quotes: escapes what must be, control bytes as \u00XX,
 * U+FFFD for each byte that is not UTF-8.  Writes whole characters only, at most ROOM bytes, no
 * NUL. Returns the bytes written; *USED of the N input bytes are in them. */
size_t text_json_escape(const char *s, size_t n, char *out, size_t room, size_t *used);

/* Percent-decodes in place (RFC 3986 section 2.1), '+' as a space where PLUS says so; returns the
 * new length, or -1 at a broken escape. */
long text_percent_decode(char *s, size_t n, bool plus);

/* Percent-encodes all but the unreserved characters (RFC 3986 section 2.3).  OUT has room for
 * 3N + 1 bytes; returns the length without the NUL. */
size_t text_percent_encode(const char *s, size_t n, char *out);

#endif
