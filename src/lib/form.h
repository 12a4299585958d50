/*
 * form: a body of multipart/form-data (RFC 7578), by GMime.
 *
 * The body goes in pieces into a nameless file, which is mapped; no part is ever whole in our own
 * memory, whatever its size.  Where a part begins and ends is found here, exactly as RFC 2046
 * section 5.1.1 has it: GMime's own search would also take lines that end without CR and a body
 * that does not end, and would follow parts within parts down.  GMime reads the header of each
 * part: its parameters, quoted, encoded (RFC 2231, RFC 2047) and in which character set ever.
 *
 * What is refused: parts within parts, and Content-Transfer-Encoding other than 7bit, 8bit and
 * binary (RFC 7578 section 4.7 knows no senders of it).  Other fields of a part are ignored.
 *
 * A form belongs to one thread; many may have one each.
 * Limits: 8 parts, a header of 1 KiB each, a boundary of 70 characters; the size is the caller's.
 */
#ifndef CAREDESK_FORM_H
#define CAREDESK_FORM_H

#include <stddef.h>

#include "lib/err.h"
#include "lib/request.h"

#define FORM_PARTS_MAX 8
#define FORM_HEADER_MAX 1024
#define FORM_BOUNDARY_MAX 70
#define FORM_FOLDER "db" /* of the nameless file, in the data folder: the user's own */

struct form;

/* All lent until form_close().  What it says of itself may be a lie. */
struct form_part {
	const char *name; /* not empty */
	const char *filename; /* NULL: none; any bytes: to be looked at, never a path */
	const char *type; /* lower-case, such as "image/png"; "text/plain" where none is given */
	const char *bytes; /* no NUL behind them */
	size_t n;
};

/* Reads the body to its end.  FOLDER holds the nameless file.  ERR_MEDIA_TYPE if it is not a form,
 * ERR_TOO_LARGE above BYTES_MAX before anything is read, ERR_INPUT if it is not well formed. */
enum err form_open(
    struct request *req, size_t bytes_max, const char *folder, struct form **form) MUST_CHECK;
void form_close(struct form *form);

/* For one that waits: its parts stay, but take memory only once they are read again. */
void form_rest(const struct form *form);

size_t form_count(const struct form *form);
const struct form_part *form_at(const struct form *form, size_t index);

/* The one part of this NAME, of ours; none or several are a bad field. */
enum err form_part(
    const struct form *form, const char *name, const struct form_part **part) MUST_CHECK;

#endif
