/*
 * decoder: image_clean() where a flaw in what reads pictures reaches nothing.
 *
 *	program ── socket ── keeper ── a process for each picture
 *
 * The keeper is forked before the program has a database, a secret, a connection or a thread, and
 * has nothing but its end of a socket.  For each picture it forks a process that has only that
 * picture and an empty file to write to, both in memory, may compute and write, is bounded in
 * memory and time, and ends after it: no picture meets what another has left behind.  What it
 * answers is looked at again, and never trusted.
 *
 * A picture that ends its process is refused, and logged; the next one has a new process.
 *
 * One thread at a time for each decoder.
 */
#ifndef CAREDESK_DECODER_H
#define CAREDESK_DECODER_H

#include "lib/image.h"

#define DECODER_MEMORY_MAX (INT64_C(1) << 30) /* of a picture's process, all told */
#define DECODER_TIME_MAX_S 60 /* of processor */
#define DECODER_WAIT_MAX_S 300 /* by the clock, for one that does not compute but wait */

struct decoder;

/* Before there are threads, and before the program is confined.  ERR_INTERNAL. */
enum err decoder_open(struct decoder **decoder) MUST_CHECK;

/* NULL is none. */
void decoder_close(struct decoder *decoder);

/* As image_clean(); also ERR_INPUT if the picture has ended its process, and ERR_INTERNAL if what
 * it answers cannot be.  Without its keeper it is ERR_BUSY, and the program stops to be started
 * anew. */
enum err decoder_clean(struct decoder *decoder, const unsigned char *bytes, size_t n,
    enum image_kind claimed, struct image *clean) MUST_CHECK;

#endif
