/*
 * The input: a picture, taken for both kinds; and as a PNG whose checksums are put right, which no
 * chance does.  What is accepted is accepted again, as it is.
 */
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "fuzz.h"
#include "lib/image.h"

static void
clean_twice(const uint8_t *bytes, size_t n, enum image_kind kind)
{
	struct image first, second;
	uint64_t work;

	work = image_work(bytes, n, kind);
	if (image_clean(bytes, n, kind, &first) != OK)
		return;
	assert(first.n > 0 && first.n <= IMAGE_BYTES_MAX && first.width > 0 && first.height > 0);
	assert((uint64_t)first.width * first.height <= IMAGE_PIXELS_MAX);
	assert(work > 0);
	assert(image_clean(first.bytes, first.n, kind, &second) == OK);
	assert(second.width == first.width && second.height == first.height);
	assert(second.n == first.n && memcmp(second.bytes, first.bytes, first.n) == 0);
	/* And it is nothing else. */
	assert(image_clean(first.bytes, first.n, kind == IMAGE_PNG ? IMAGE_JPEG : IMAGE_PNG,
		   &second) == ERR_INPUT);
	free(second.bytes);
	free(first.bytes);
}

static uint32_t
length_at(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void
put_right(uint8_t *bytes, size_t n)
{
	for (size_t at = 8; n - at >= 12 && length_at(bytes + at) <= n - at - 12;) {
		uint32_t length = length_at(bytes + at);
		uint32_t crc = (uint32_t)crc32(0, bytes + at + 4, length + 4);

		for (int i = 0; i < 4; i++)
			bytes[at + 8 + length + (uint32_t)i] = (uint8_t)(crc >> (24 - 8 * i));
		at += 12 + (size_t)length;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	uint8_t *copy;

	clean_twice(bytes, n, IMAGE_JPEG);
	clean_twice(bytes, n, IMAGE_PNG);
	if (n < 8 || (copy = malloc(n)) == NULL)
		return 0;
	memcpy(copy, bytes, n);
	put_right(copy, n);
	clean_twice(copy, n, IMAGE_PNG);
	free(copy);
	return 0;
}
