/*
 * image: makes of an uploaded picture one that may be shown to others, or says why not.
 *
 * A file is taken for nothing but what it decodes as.  What the pixels need is copied into a
 * new file, segment by segment or chunk by chunk, and that file is decoded, every row of it;
 * all else is left behind: EXIF with its GPS, XMP, IPTC, comments, texts, times, thumbnails,
 * further frames and pictures, colour profiles, what nobody knows, and bytes behind the end.
 * A profile is left out since it is a file in the file; so wide colours are shown as sRGB.
 *
 * The orientation of EXIF is applied.  A JPEG that is upright keeps its coefficients bit by
 * bit; one that is not has its blocks turned, without loss, if no incomplete block would come
 * to the left or the top; else it is decoded, turned, and encoded at quality 95 with the
 * sampling it had.  Nothing is ever cropped.  The pixels of a PNG are always the same.  What
 * comes out goes through again as it is, byte by byte.
 *
 * Colours: grey, YCbCr, RGB, CMYK and YCCK stay what they are, and so does Adobe's marker, by
 * which decoders know the inverted CMYK of its programs.  Arithmetic coding, lossless JPEG and
 * samples of 12 bits are refused: browsers do not show them.
 *
 * Memory beyond input and output, which are at most 10 MiB each: an upright JPEG of one scan
 * and an upright PNG take some rows.  A JPEG of several scans, or one to be turned, takes 2
 * bytes a sample, that is 3 a pixel (4:2:0), 6 (4:4:4) or 8 (CMYK); and 3 (CMYK 4) more if it
 * is encoded anew.  A PNG to be turned takes its pixels, at most 8 bytes each.  So 50
 * megapixels take 600 MB in the worst case.  A file of a few bytes takes none of it: a JPEG
 * has a bit a block, or it is cut off.  Time is bounded by pixels and scans.
 *
 * Any thread; nothing is shared, and nothing is written but the result.  It is work of up to
 * some seconds: not for a thread that others wait for.
 *
 * Sources: ITU T.81, EXIF 2.32, PNG (third edition).
 */
#ifndef CAREDESK_IMAGE_H
#define CAREDESK_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

#define IMAGE_BYTES_MAX (10 * 1024 * 1024) /* in, and out */
#define IMAGE_PIXELS_MAX 50000000
#define IMAGE_SIDE_MAX 65500 /* pixels; as far as libjpeg goes */
#define IMAGE_SCANS_MAX 32 /* of a JPEG; usual are 1 to 12 */

enum image_kind { IMAGE_JPEG, IMAGE_PNG };

struct image {
	unsigned char *bytes; /* yours, to free() */
	size_t n;
	uint32_t width, height; /* upright */
};

/* ERR_INPUT with words that go behind a field's name ("is cut off"); ERR_BUSY without memory.
 * CLEAN is only written to if it is OK. */
enum err image_clean(
    const unsigned char *bytes, size_t n, enum image_kind claimed, struct image *clean) MUST_CHECK;

/* How much work that will be, told from the headers: about as many pixels of an upright JPEG of one
 * scan, of which there are some hundred millions in a second.  0 for what is refused at once. */
uint64_t image_work(const unsigned char *bytes, size_t n, enum image_kind claimed);

#endif
