/*
 * picture: makes a JPEG as cameras do: 4:2:0, sides of 3 to 2 that are whole blocks, and EXIF that
 * has an orientation and a place; at the best quality with which it has at most so many bytes.
 *
 *	picture FILE BYTES MEGAPIXELS ORIENTATION
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#define BLOCK 16 /* with 4:2:0 */

struct picture {
	unsigned width, height;
	unsigned char *pixels; /* RGB */
	unsigned char orientation;
	unsigned char *bytes; /* encoded */
	unsigned long n;
};

/* Slopes, round shapes and noise: what compresses like a picture. */
static void
draw(struct picture *picture)
{
	unsigned char *p = picture->pixels;
	uint32_t random = 1;

	for (unsigned y = 0; y < picture->height; y++)
		for (unsigned x = 0; x < picture->width; x++) {
			double shape =
			    sin(x / 97.0) * cos(y / 61.0) + sin((x + 2.0 * y) / 13.0) / 4;

			random = random * 1664525 + 1013904223;
			for (unsigned c = 0; c < 3; c++)
				*p++ = (unsigned char)(128 + shape * (40 + 15 * c) +
				    (random >> (8 + 6 * c)) % 24);
		}
}

/* Orientation and description, in the first directory of a TIFF. */
static void
put_exif(struct jpeg_compress_struct *out, unsigned char orientation)
{
	unsigned char exif[] = "Exif\0\0II*\0\10\0\0\0"
			       "\2\0"
			       "\16\1\2\0\22\0\0\0\46\0\0\0"
			       "\22\1\3\0\1\0\0\0?\0\0\0"
			       "\0\0\0\0"
			       "N59.3293-E18.0686";

	exif[sizeof("Exif\0\0II*\0\10\0\0\0") - 1 + 2 + 12 + 8] = orientation;
	jpeg_write_marker(out, JPEG_APP0 + 1, exif, sizeof(exif));
}

static void
encode(struct picture *picture, int quality)
{
	struct jpeg_compress_struct out;
	struct jpeg_error_mgr errors;

	free(picture->bytes);
	picture->bytes = NULL;
	out.err = jpeg_std_error(&errors);
	jpeg_create_compress(&out);
	jpeg_mem_dest(&out, &picture->bytes, &picture->n);
	out.image_width = picture->width;
	out.image_height = picture->height;
	out.input_components = 3;
	out.in_color_space = JCS_RGB;
	jpeg_set_defaults(&out);
	jpeg_set_quality(&out, quality, TRUE);
	jpeg_start_compress(&out, TRUE);
	put_exif(&out, picture->orientation);
	while (out.next_scanline < out.image_height) {
		JSAMPROW row = picture->pixels + (size_t)out.next_scanline * picture->width * 3;

		(void)jpeg_write_scanlines(&out, &row, 1);
	}
	jpeg_finish_compress(&out);
	jpeg_destroy_compress(&out);
}

static int
best_quality(struct picture *picture, unsigned long bytes)
{
	int low = 1, high = 100;

	while (low < high) {
		int middle = (low + high + 1) / 2;

		encode(picture, middle);
		if (picture->n <= bytes)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

int
main(int argc, char **argv)
{
	struct picture picture = { 0 };
	double side = argc == 5 ? sqrt(atof(argv[3]) * 1e6 / 6) : 0;
	FILE *file;
	int quality;

	if (side < BLOCK) {
		(void)fprintf(stderr, "usage: picture FILE BYTES MEGAPIXELS ORIENTATION\n");
		return 2;
	}
	picture.width = (unsigned)(side * 3) / BLOCK * BLOCK;
	picture.height = (unsigned)(side * 2) / BLOCK * BLOCK;
	picture.orientation = (unsigned char)atoi(argv[4]);
	picture.pixels = malloc((size_t)picture.width * picture.height * 3);
	file = fopen(argv[1], "w");
	if (picture.pixels == NULL || file == NULL) {
		perror(argv[1]);
		return EXIT_FAILURE;
	}
	draw(&picture);
	quality = best_quality(&picture, strtoul(argv[2], NULL, 10));
	encode(&picture, quality);
	if (fwrite(picture.bytes, 1, picture.n, file) != picture.n || fclose(file) != 0) {
		perror(argv[1]);
		return EXIT_FAILURE;
	}
	(void)printf("%u x %u pixels, %lu bytes, quality %d\n", picture.width, picture.height,
	    picture.n, quality);
	free(picture.pixels);
	free(picture.bytes);
	return EXIT_SUCCESS;
}
