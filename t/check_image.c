#include "test.h"

#include <math.h>
#include <stdio.h>

#include <jpeglib.h>
#include <spng.h>
#include <zlib.h>

#include "lib/image.h"

#define MARKER "N59.3293-E18.0686" /* where a picture was taken; it must come out nowhere */

/* The sanitizers have an allocator of their own. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define METERED
#include <malloc.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

static size_t held, most_held;
static long until_failure = -1; /* this many allocations are let through, then none; -1: all */

static bool
refuses(void)
{
	return until_failure == 0 || (until_failure > 0 && until_failure-- == 0);
}

static void *
noted(void *p)
{
	held += malloc_usable_size(p);
	most_held = held > most_held ? held : most_held;
	return p;
}

void *
malloc(size_t n)
{
	return refuses() ? NULL : noted(__libc_malloc(n));
}

void *
calloc(size_t count, size_t n)
{
	return refuses() ? NULL : noted(__libc_calloc(count, n));
}

void *
realloc(void *p, size_t n)
{
	if (refuses())
		return NULL;
	held -= malloc_usable_size(p);
	return noted(__libc_realloc(p, n));
}

void
free(void *p)
{
	held -= malloc_usable_size(p);
	__libc_free(p);
}
#endif

struct file {
	unsigned char *bytes;
	size_t n;
};

static void
add(struct file *file, const void *bytes, size_t n)
{
	file->bytes = realloc(file->bytes, file->n + n);
	memcpy(file->bytes + file->n, bytes, n);
	file->n += n;
}

static void
insert(struct file *file, size_t at, const void *bytes, size_t n)
{
	struct file rest = { 0 };

	add(&rest, file->bytes + at, file->n - at);
	file->n = at;
	add(file, bytes, n);
	add(file, rest.bytes, rest.n);
	free(rest.bytes);
}

static void
big(unsigned char *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (unsigned char)(v >> (24 - 8 * i));
}

/* A TIFF of one directory: where the picture was taken, and the orientation. */
static void
tiff(struct file *file, int orientation)
{
	unsigned char head[] = { 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 2, 0x01, 0x0e, 0, 2, 0, 0, 0,
		sizeof(MARKER), 0, 0, 0, 38, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0,
		(unsigned char)orientation, 0, 0, 0, 0, 0, 0 };
	unsigned char little[] = { 'I', 'I', 42, 0, 8, 0, 0, 0, 2, 0, 0x0e, 0x01, 2, 0,
		sizeof(MARKER), 0, 0, 0, 38, 0, 0, 0, 0x12, 0x01, 3, 0, 1, 0, 0, 0,
		(unsigned char)orientation, 0, 0, 0, 0, 0, 0, 0 };

	add(file, orientation % 2 == 0 ? head : little, sizeof(head));
	add(file, MARKER, sizeof(MARKER));
}

/*
 * JPEG
 */

struct jpeg {
	JDIMENSION width, height;
	J_COLOR_SPACE space;
	int h, v; /* of the first component; the others have 1 */
	bool progressive;
	unsigned restart;
	bool arithmetic, split; /* split: a scan for each component */
};

/* Smooth, and no turn of it is itself. */
static unsigned char
shade(double x, double y, int c)
{
	return (unsigned char)(40 + 90 * x + 70 * y * y + 30 * sin(3 * x + c) * (c > 0 ? y : 1));
}

static void
scans_split(struct jpeg_compress_struct *jpeg, jpeg_scan_info *scans)
{
	for (int c = 0; c < jpeg->num_components; c++)
		scans[c] = (jpeg_scan_info){ 1, { c }, 0, 63, 0, 0 };
	jpeg->scan_info = scans;
	jpeg->num_scans = jpeg->num_components;
}

static void
rows_write(struct jpeg_compress_struct *jpeg)
{
	JDIMENSION count = (JDIMENSION)jpeg->num_components, n = jpeg->image_width * count;
	JSAMPROW row = malloc(n);

	while (jpeg->next_scanline < jpeg->image_height) {
		double y = (double)jpeg->next_scanline / jpeg->image_height;

		for (JDIMENSION i = 0; i < n; i++)
			row[i] =
			    shade((double)(i / count) / jpeg->image_width, y, (int)(i % count));
		(void)jpeg_write_scanlines(jpeg, &row, 1);
	}
	free(row);
}

static struct file
jpeg_make(const struct jpeg *spec)
{
	struct jpeg_compress_struct jpeg;
	struct jpeg_error_mgr errors;
	jpeg_scan_info scans[4];
	struct file file = { 0 };
	unsigned long n = 0;

	jpeg.err = jpeg_std_error(&errors);
	jpeg_create_compress(&jpeg);
	jpeg_mem_dest(&jpeg, &file.bytes, &n);
	jpeg.image_width = spec->width;
	jpeg.image_height = spec->height;
	jpeg.in_color_space = spec->space;
	jpeg.input_components = spec->space == JCS_GRAYSCALE     ? 1
	    : spec->space == JCS_CMYK || spec->space == JCS_YCCK ? 4
								 : 3;
	jpeg_set_defaults(&jpeg);
	jpeg_set_colorspace(&jpeg, spec->space);
	jpeg_set_quality(&jpeg, 90, TRUE);
	for (int c = 0; c < jpeg.num_components; c++) {
		jpeg.comp_info[c].h_samp_factor = c == 0 ? spec->h : 1;
		jpeg.comp_info[c].v_samp_factor = c == 0 ? spec->v : 1;
	}
	jpeg.restart_interval = spec->restart;
	jpeg.arith_code = spec->arithmetic;
	if (spec->progressive)
		jpeg_simple_progression(&jpeg);
	else if (spec->split)
		scans_split(&jpeg, scans);
	jpeg_start_compress(&jpeg, TRUE);
	rows_write(&jpeg);
	jpeg_finish_compress(&jpeg);
	jpeg_destroy_compress(&jpeg);
	file.n = n;
	return file;
}

/* Behind SOI, as cameras have it. */
static void
jpeg_add(struct file *file, int marker, const void *bytes, size_t n)
{
	unsigned char head[4] = { 0xff, (unsigned char)marker, (unsigned char)((n + 2) >> 8),
		(unsigned char)(n + 2) };

	insert(file, 2, bytes, n);
	insert(file, 2, head, sizeof(head));
}

static void
jpeg_orient(struct file *file, int orientation)
{
	struct file exif = { 0 };

	add(&exif, "Exif\0", 6);
	tiff(&exif, orientation);
	jpeg_add(file, 0xe1, exif.bytes, exif.n);
	free(exif.bytes);
}

struct pixels {
	uint32_t width, height;
	unsigned count; /* samples a pixel */
	uint16_t *samples;
};

/* As they are stored: no conversion, and no interpolation. */
static struct pixels
jpeg_pixels(const unsigned char *bytes, size_t n)
{
	struct jpeg_decompress_struct jpeg;
	struct jpeg_error_mgr errors;
	struct pixels pixels;
	JSAMPROW row;
	size_t at = 0;

	jpeg.err = jpeg_std_error(&errors);
	jpeg_create_decompress(&jpeg);
	jpeg_mem_src(&jpeg, bytes, n);
	ck_assert_int_eq(jpeg_read_header(&jpeg, TRUE), JPEG_HEADER_OK);
	jpeg.out_color_space = jpeg.jpeg_color_space;
	jpeg.do_fancy_upsampling = FALSE;
	(void)jpeg_start_decompress(&jpeg);
	pixels = (struct pixels){ jpeg.output_width, jpeg.output_height,
		(unsigned)jpeg.output_components, NULL };
	pixels.samples = malloc(sizeof(uint16_t) * pixels.width * pixels.height * pixels.count);
	row = malloc(pixels.width * pixels.count);
	while (jpeg.output_scanline < jpeg.output_height) {
		(void)jpeg_read_scanlines(&jpeg, &row, 1);
		for (size_t i = 0; i < (size_t)pixels.width * pixels.count; i++)
			pixels.samples[at++] = row[i];
	}
	(void)jpeg_finish_decompress(&jpeg);
	jpeg_destroy_decompress(&jpeg);
	ck_assert_int_eq(errors.num_warnings, 0);
	free(row);
	return pixels;
}

static void
say_nothing(j_common_ptr jpeg)
{
	(void)jpeg;
}

/* All coefficients, in their order. */
static struct file
jpeg_coefficients(const unsigned char *bytes, size_t n)
{
	struct jpeg_decompress_struct jpeg;
	struct jpeg_error_mgr errors;
	struct file all = { 0 };
	jvirt_barray_ptr *arrays;

	jpeg.err = jpeg_std_error(&errors);
	errors.output_message = say_nothing;
	jpeg_create_decompress(&jpeg);
	jpeg_mem_src(&jpeg, bytes, n);
	ck_assert_int_eq(jpeg_read_header(&jpeg, TRUE), JPEG_HEADER_OK);
	arrays = jpeg_read_coefficients(&jpeg);
	for (int c = 0; c < jpeg.num_components; c++)
		for (JDIMENSION y = 0; y < jpeg.comp_info[c].height_in_blocks; y++)
			add(&all,
			    jpeg.mem->access_virt_barray(
				(j_common_ptr)&jpeg, arrays[c], y, 1, FALSE)[0][0],
			    jpeg.comp_info[c].width_in_blocks * sizeof(JBLOCK));
	jpeg_destroy_decompress(&jpeg);
	return all;
}

/*
 * PNG, by hand
 */

struct png {
	uint32_t width, height;
	unsigned depth, type, interlaced;
};

static unsigned
channels(unsigned type)
{
	static const unsigned of[] = { 1, 0, 3, 1, 2, 0, 4 };

	return of[type];
}

static void
chunk(struct file *file, const char *type, const void *bytes, size_t n)
{
	unsigned char head[8], crc[4];
	size_t at = file->n + 4;

	big(head, (uint32_t)n);
	memcpy(head + 4, type, 4);
	add(file, head, sizeof(head));
	add(file, bytes, n);
	big(crc, (uint32_t)crc32(0, file->bytes + at, (uInt)n + 4));
	add(file, crc, sizeof(crc));
}

static void
png_begin(struct file *file, const struct png *spec)
{
	unsigned char ihdr[13] = { 0 };

	add(file, "\x89PNG\r\n\x1a\n", 8);
	big(ihdr, spec->width);
	big(ihdr + 4, spec->height);
	ihdr[8] = (unsigned char)spec->depth;
	ihdr[9] = (unsigned char)spec->type;
	ihdr[12] = (unsigned char)spec->interlaced;
	chunk(file, "IHDR", ihdr, sizeof(ihdr));
}

static size_t
row_n(const struct png *spec, uint32_t width)
{
	return ((size_t)width * spec->depth * channels(spec->type) + 7) / 8;
}

static size_t
rows_n(const struct png *spec)
{
	static const unsigned passes[7][4] = { { 0, 0, 8, 8 }, { 4, 0, 8, 8 }, { 0, 4, 4, 8 },
		{ 2, 0, 4, 4 }, { 0, 2, 2, 4 }, { 1, 0, 2, 2 }, { 0, 1, 1, 2 } };
	size_t n = 0;

	if (spec->interlaced == 0)
		return spec->height * (1 + row_n(spec, spec->width));
	for (int i = 0; i < 7; i++)
		for (uint32_t y = passes[i][1]; y < spec->height; y += passes[i][3])
			if (spec->width > passes[i][0])
				n += 1 +
				    row_n(spec,
					(spec->width - passes[i][0] + passes[i][2] - 1) /
					    passes[i][2]);
	return n;
}

/* Rows of which each byte is another; PLUS bytes more or fewer than there should be. */
static void
png_pixels(struct file *file, const struct png *spec, long plus)
{
	size_t n = (size_t)((long)rows_n(spec) + plus), at = 0;
	unsigned char *rows = calloc(1, n + 1), *deflated;
	uLongf deflated_n = compressBound(n);
	size_t row = 1 + row_n(spec, spec->width);

	for (uint32_t i = 0; n < 100000 && i < n; i++)
		rows[i] = (unsigned char)(i * 37 + (i * i >> 3));
	/* A filter must be one: with interlacing, all bytes are. */
	for (size_t i = 0; spec->interlaced == 0 && i < n; i += row)
		rows[i] = (unsigned char)(i / row % 5);
	for (size_t i = 0; spec->interlaced != 0 && i < n; i++)
		rows[i] %= 5;
	deflated = malloc(deflated_n);
	ck_assert_int_eq(compress(deflated, &deflated_n, rows, n), Z_OK);
	for (size_t part = deflated_n / 2 + 1; at < deflated_n; at += part)
		chunk(file, "IDAT", deflated + at, deflated_n - at < part ? deflated_n - at : part);
	free(rows);
	free(deflated);
}

static void
png_palette(struct file *file, const struct png *spec)
{
	unsigned char palette[768];

	for (unsigned i = 0; i < sizeof(palette); i++)
		palette[i] = (unsigned char)(i * 71);
	if (spec->type == 3 && spec->depth <= 8)
		chunk(file, "PLTE", palette, 3 * ((size_t)1 << spec->depth));
}

static struct file
png_make(const struct png *spec)
{
	struct file file = { 0 };

	png_begin(&file, spec);
	chunk(&file, "gAMA", "\0\0\xb1\x8f", 4);
	png_palette(&file, spec);
	if (spec->type == 3 || spec->type == 0)
		chunk(&file, "tRNS", "\0\1", 2);
	png_pixels(&file, spec, 0);
	chunk(&file, "IEND", "", 0);
	return file;
}

static struct pixels
png_decoded(const unsigned char *bytes, size_t n)
{
	struct pixels pixels = { .count = 4 };
	spng_ctx *spng = spng_ctx_new(0);
	struct spng_ihdr ihdr;
	size_t size;

	ck_assert_int_eq(spng_set_png_buffer(spng, bytes, n), 0);
	ck_assert_int_eq(spng_get_ihdr(spng, &ihdr), 0);
	ck_assert_int_eq(spng_decoded_image_size(spng, SPNG_FMT_RGBA16, &size), 0);
	pixels.width = ihdr.width;
	pixels.height = ihdr.height;
	pixels.samples = malloc(size);
	ck_assert_int_eq(
	    spng_decode_image(spng, pixels.samples, size, SPNG_FMT_RGBA16, SPNG_DECODE_TRNS), 0);
	spng_ctx_free(spng);
	return pixels;
}

/*
 * What all of them are asked
 */

static bool
has(const unsigned char *bytes, size_t n, const char *text)
{
	return memmem(bytes, n, text, strlen(text)) != NULL;
}

/* It is accepted, and what comes out is accepted again, as it is. */
static struct image
cleaned(const struct file *file, enum image_kind kind)
{
	struct image image, again;

	ck_assert_msg(image_clean(file->bytes, file->n, kind, &image) == OK, "%s", err_words());
	ck_assert_msg(
	    image_clean(image.bytes, image.n, kind, &again) == OK, "again: %s", err_words());
	ck_assert_uint_eq(image.n, again.n);
	ck_assert_mem_eq(image.bytes, again.bytes, image.n);
	ck_assert(!has(image.bytes, image.n, MARKER));
	free(again.bytes);
	return image;
}

static void
ck_refused(const struct file *file, enum image_kind kind, const char *words)
{
	struct image image;

	ck_assert_msg(
	    image_clean(file->bytes, file->n, kind, &image) == ERR_INPUT, "taken: %s", words);
	ck_assert_msg(strstr(err_words(), words) != NULL, "%s: %s", words, err_words());
}

/* The stored picture's x, y of a place in the upright one, for EXIF's orientations. */
static void
stored_place(int orientation, const struct pixels *stored, uint32_t *x, uint32_t *y)
{
	uint32_t right = stored->width - 1, bottom = stored->height - 1, u = *x, v = *y;
	const uint32_t places[][2] = { { 0, 0 }, { u, v }, { right - u, v },
		{ right - u, bottom - v }, { u, bottom - v }, { v, u }, { v, bottom - u },
		{ right - v, bottom - u }, { right - v, u } };

	*x = places[orientation][0];
	*y = places[orientation][1];
}

/* Whether UPRIGHT is STORED turned, each sample but for MOST. */
static void
ck_upright(const struct pixels *upright, const struct pixels *stored, int orientation, int most)
{
	bool sideways = orientation >= 5;

	ck_assert_uint_eq(upright->width, sideways ? stored->height : stored->width);
	ck_assert_uint_eq(upright->height, sideways ? stored->width : stored->height);
	ck_assert_uint_eq(upright->count, stored->count);
	for (uint32_t y = 0; y < upright->height; y++)
		for (uint32_t x = 0; x < upright->width; x++)
			for (uint32_t c = 0; c < upright->count; c++) {
				uint32_t sx = x, sy = y;
				int a, b;

				stored_place(orientation, stored, &sx, &sy);
				a = upright->samples[(y * upright->width + x) * upright->count + c];
				b = stored->samples[(sy * stored->width + sx) * stored->count + c];
				ck_assert_msg(
				    abs(a - b) <= most, "%u, %u of %u: %d for %d", x, y, c, a, b);
			}
}

/*
 * The tests
 */

static const struct jpeg jpegs[] = {
	{ 64, 48, JCS_YCbCr, 2, 2, false, 0, false, false },
	{ 64, 48, JCS_YCbCr, 1, 1, false, 3, false, false },
	{ 37, 53, JCS_YCbCr, 2, 2, false, 0, false, false },
	{ 64, 53, JCS_YCbCr, 2, 1, true, 0, false, false },
	{ 37, 64, JCS_YCbCr, 1, 2, true, 2, false, false },
	{ 64, 64, JCS_YCbCr, 4, 1, false, 0, false, true },
	{ 40, 24, JCS_GRAYSCALE, 1, 1, false, 0, false, false },
	{ 24, 40, JCS_GRAYSCALE, 2, 2, true, 0, false, false },
	{ 1, 1, JCS_GRAYSCALE, 1, 1, false, 0, false, false },
	{ 1, 1, JCS_YCbCr, 2, 2, true, 0, false, false },
	{ 48, 33, JCS_CMYK, 1, 1, false, 0, false, false },
	{ 32, 32, JCS_YCCK, 2, 2, true, 0, false, false },
	{ 35, 17, JCS_RGB, 1, 1, false, 1, false, false },
};

START_TEST(a_jpeg_that_is_upright_keeps_its_coefficients)
{
	for (size_t i = 0; i < COUNT(jpegs); i++) {
		struct file file = jpeg_make(&jpegs[i]), before, after;
		struct image image;

		jpeg_orient(&file, 1);
		image = cleaned(&file, IMAGE_JPEG);
		before = jpeg_coefficients(file.bytes, file.n);
		after = jpeg_coefficients(image.bytes, image.n);
		ck_assert_uint_eq(image.width, jpegs[i].width);
		ck_assert_uint_eq(image.height, jpegs[i].height);
		ck_assert_uint_eq(before.n, after.n);
		ck_assert_mem_eq(before.bytes, after.bytes, before.n);
		free(before.bytes);
		free(after.bytes);
		free(image.bytes);
		free(file.bytes);
	}
}
END_TEST

static bool
is_exact(const struct jpeg *spec, int orientation)
{
	bool mirror_x = orientation == 2 || orientation == 3 || orientation >= 7;
	bool mirror_y =
	    orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
	JDIMENSION unit_x = spec->space == JCS_GRAYSCALE ? 8 : 8 * (JDIMENSION)spec->h;
	JDIMENSION unit_y = spec->space == JCS_GRAYSCALE ? 8 : 8 * (JDIMENSION)spec->v;

	return (!mirror_x || spec->width % unit_x == 0) &&
	    (!mirror_y || spec->height % unit_y == 0);
}

START_TEST(a_sideways_jpeg_comes_out_upright)
{
	for (size_t i = 0; i < COUNT(jpegs); i++)
		for (int orientation = 1; orientation <= 8; orientation++) {
			struct file file = jpeg_make(&jpegs[i]);
			struct pixels stored, upright;
			struct image image;

			jpeg_orient(&file, orientation);
			image = cleaned(&file, IMAGE_JPEG);
			stored = jpeg_pixels(file.bytes, file.n);
			upright = jpeg_pixels(image.bytes, image.n);
			ck_assert_uint_eq(image.width, upright.width);
			ck_assert_uint_eq(image.height, upright.height);
			/* Where nothing is lost, only the decoder rounds another way. */
			ck_upright(&upright, &stored, orientation,
			    is_exact(&jpegs[i], orientation) ? 1 : 12);
			free(stored.samples);
			free(upright.samples);
			free(image.bytes);
			free(file.bytes);
		}
}
END_TEST

/* Turned there and back, a picture is the one it was, by every coefficient. */
START_TEST(turning_a_jpeg_of_whole_blocks_loses_nothing)
{
	static const int back[] = { 0, 1, 2, 3, 4, 5, 8, 7, 6 };

	for (size_t i = 0; i < COUNT(jpegs); i++)
		for (int orientation = 2; orientation <= 8; orientation++) {
			struct file file = jpeg_make(&jpegs[i]), turned = { 0 }, before, after;
			struct image image;

			if (!is_exact(&jpegs[i], orientation) || jpegs[i].width % 32 != 0 ||
			    jpegs[i].height % 16 != 0) {
				free(file.bytes);
				continue;
			}
			before = jpeg_coefficients(file.bytes, file.n);
			jpeg_orient(&file, orientation);
			image = cleaned(&file, IMAGE_JPEG);
			add(&turned, image.bytes, image.n);
			free(image.bytes);
			jpeg_orient(&turned, back[orientation]);
			image = cleaned(&turned, IMAGE_JPEG);
			after = jpeg_coefficients(image.bytes, image.n);
			ck_assert_uint_eq(before.n, after.n);
			ck_assert_mem_eq(before.bytes, after.bytes, before.n);
			free(before.bytes);
			free(after.bytes);
			free(image.bytes);
			free(turned.bytes);
			free(file.bytes);
		}
}
END_TEST

static const struct png pngs[] = { { 9, 7, 1, 0, 0 }, { 9, 7, 2, 0, 0 }, { 9, 7, 4, 0, 0 },
	{ 9, 7, 8, 0, 0 }, { 9, 7, 16, 0, 0 }, { 9, 7, 8, 2, 0 }, { 9, 7, 16, 2, 0 },
	{ 9, 7, 1, 3, 0 }, { 9, 7, 2, 3, 0 }, { 9, 7, 4, 3, 0 }, { 9, 7, 8, 3, 0 },
	{ 9, 7, 8, 4, 0 }, { 9, 7, 16, 4, 0 }, { 9, 7, 8, 6, 0 }, { 9, 7, 16, 6, 0 },
	{ 1, 1, 1, 0, 0 }, { 1, 1, 16, 6, 1 }, { 5, 1, 8, 2, 1 }, { 1, 5, 2, 0, 1 },
	{ 17, 19, 1, 0, 1 }, { 17, 19, 16, 2, 1 }, { 3, 2, 4, 3, 1 }, { 64, 64, 8, 6, 1 } };

START_TEST(a_png_keeps_its_pixels_and_comes_out_upright)
{
	for (size_t i = 0; i < COUNT(pngs); i++)
		for (int orientation = 0; orientation <= 9; orientation++) {
			int effect = orientation < 1 || orientation > 8 ? 1 : orientation;
			struct file file = png_make(&pngs[i]), exif = { 0 }, whole = { 0 };
			struct pixels stored, upright;
			struct image image;

			tiff(&exif, orientation);
			add(&whole, file.bytes, 33);
			chunk(&whole, "eXIf", exif.bytes, exif.n);
			add(&whole, file.bytes + 33, file.n - 33);
			image = cleaned(&whole, IMAGE_PNG);
			stored = png_decoded(whole.bytes, whole.n);
			upright = png_decoded(image.bytes, image.n);
			ck_assert_uint_eq(image.width, upright.width);
			ck_assert_uint_eq(image.height, upright.height);
			ck_upright(&upright, &stored, effect, 0);
			ck_assert(has(image.bytes, image.n, "gAMA"));
			if (effect == 1) {
				ck_assert_uint_eq(image.n, file.n);
				ck_assert_mem_eq(image.bytes, file.bytes, file.n);
			}
			free(stored.samples);
			free(upright.samples);
			free(image.bytes);
			free(exif.bytes);
			free(whole.bytes);
			free(file.bytes);
		}
}
END_TEST

START_TEST(all_that_is_not_the_picture_goes)
{
	static const struct jpeg spec = { 64, 48, JCS_YCbCr, 2, 2, true, 0, false, false };
	static const struct png png = { 9, 7, 8, 6, 0 };
	static const char *const names[] = { "tEXt", "zTXt", "iTXt", "tIME", "iCCP", "pHYs", "bKGD",
		"acTL", "fcTL", "fdAT", "prVt", "sPLT", "dSIG", "exIf" };
	static const char jfif[] = "JFIF\0\1\1\1\0\x48\0\x48\1\1" MARKER;
	struct file file = jpeg_make(&spec), bare = jpeg_make(&spec), whole = { 0 };
	struct image image, plain;

	for (int marker = 0xe1; marker <= 0xfe; marker++)
		if (marker < 0xf0 || marker == 0xfe)
			jpeg_add(&file, marker, "Exif\0\0" MARKER, 6 + sizeof(MARKER));
	jpeg_add(&file, 0xed, "Photoshop 3.0\0" MARKER, 14 + sizeof(MARKER));
	jpeg_add(&file, 0xe1, "http://ns.adobe.com/xap/1.0/\0" MARKER, 29 + sizeof(MARKER));
	jpeg_add(&file, 0xe2, "ICC_PROFILE\0\1\1" MARKER, 14 + sizeof(MARKER));
	insert(&file, 2, MARKER, sizeof(MARKER)); /* between two segments */
	jpeg_add(&file, 0xe0, jfif, sizeof(jfif));
	add(&file, "<script>" MARKER, 8 + sizeof(MARKER));
	add(&file, bare.bytes, bare.n);
	image = cleaned(&file, IMAGE_JPEG);
	plain = cleaned(&bare, IMAGE_JPEG);
	ck_assert(image.n <= plain.n && !has(image.bytes, image.n, "<script>"));
	ck_assert(!has(image.bytes, image.n, "Exif") && has(image.bytes, image.n, "JFIF"));
	free(image.bytes);
	free(plain.bytes);
	free(file.bytes);
	free(bare.bytes);
	bare = png_make(&png);
	add(&whole, bare.bytes, 33);
	for (size_t i = 0; i < COUNT(names); i++)
		chunk(&whole, names[i], MARKER, sizeof(MARKER));
	add(&whole, bare.bytes + 33, bare.n - 33 - 12);
	for (size_t i = 0; i < COUNT(names); i++)
		chunk(&whole, names[i], MARKER, sizeof(MARKER));
	chunk(&whole, "IEND", "", 0);
	add(&whole, "PK\3\4" MARKER, 4 + sizeof(MARKER));
	image = cleaned(&whole, IMAGE_PNG);
	ck_assert_uint_eq(image.n, bare.n);
	ck_assert_mem_eq(image.bytes, bare.bytes, bare.n);
	free(image.bytes);
	free(whole.bytes);
	free(bare.bytes);
}
END_TEST

/* Some cameras leave bytes behind the last block.  What they say is not known, so they go. */
START_TEST(bytes_behind_a_scan_go_without_loss)
{
	for (size_t i = 0; i < COUNT(jpegs); i++) {
		struct file file = jpeg_make(&jpegs[i]), before, after;
		struct image image;

		before = jpeg_coefficients(file.bytes, file.n);
		insert(&file, file.n - 2, "01234567" MARKER, 8 + sizeof(MARKER));
		image = cleaned(&file, IMAGE_JPEG);
		after = jpeg_coefficients(image.bytes, image.n);
		ck_assert_uint_eq(before.n, after.n);
		ck_assert_mem_eq(before.bytes, after.bytes, before.n);
		free(before.bytes);
		free(after.bytes);
		free(image.bytes);
		free(file.bytes);
	}
}
END_TEST

START_TEST(a_file_cut_anywhere_is_refused)
{
	static const struct {
		enum image_kind kind;
		size_t i;
	} cut[] = { { IMAGE_JPEG, 2 }, { IMAGE_JPEG, 9 }, { IMAGE_PNG, 8 }, { IMAGE_PNG, 21 } };

	for (size_t i = 0; i < COUNT(cut); i++) {
		bool is_jpeg = cut[i].kind == IMAGE_JPEG;
		struct file file =
		    is_jpeg ? jpeg_make(&jpegs[cut[i].i]) : png_make(&pngs[cut[i].i]);

		for (size_t n = 0; n < file.n; n++) {
			struct file exact = { .bytes = malloc(n + 1), .n = n };

			memcpy(exact.bytes, file.bytes, n);
			ck_refused(
			    &exact, cut[i].kind, n < (is_jpeg ? 3 : 8) ? "is not a" : "is cut off");
			/* With an end of its own it is no better, unless whole scans are left. */
			if (i == 0 && n > 30 && n < file.n - 4) {
				add(&exact, "\xff\xd9", 2);
				ck_refused(&exact, IMAGE_JPEG, "is ");
			}
			free(exact.bytes);
		}
		free(file.bytes);
	}
}
END_TEST

/* Whatever a byte becomes, nothing breaks, and what is taken stays as it is. */
START_TEST(no_damaged_byte_breaks_anything)
{
	struct file files[] = { jpeg_make(&jpegs[7]), jpeg_make(&jpegs[8]), png_make(&pngs[7]) };

	for (size_t i = 0; i < COUNT(files); i++) {
		enum image_kind kind = i < 2 ? IMAGE_JPEG : IMAGE_PNG;

		for (size_t at = 0; at < files[i].n; at++)
			for (unsigned bit = 0; bit < 8; bit++) {
				struct image image;

				files[i].bytes[at] ^= (unsigned char)(1 << bit);
				if (image_clean(files[i].bytes, files[i].n, kind, &image) == OK) {
					ck_assert(kind == IMAGE_JPEG);
					free(image.bytes);
					free(cleaned(&files[i], kind).bytes);
				}
				files[i].bytes[at] ^= (unsigned char)(1 << bit);
			}
		free(files[i].bytes);
	}
}
END_TEST

/* A header of SOF with nothing behind it but WORDS of one bit a block. */
static struct file
jpeg_header(unsigned sof, unsigned bits, uint32_t width, uint32_t height, unsigned count)
{
	unsigned char frame[] = { 0xff, 0xd8, 0xff, (unsigned char)sof, 0,
		(unsigned char)(8 + 3 * count), (unsigned char)bits, (unsigned char)(height >> 8),
		(unsigned char)height, (unsigned char)(width >> 8), (unsigned char)width,
		(unsigned char)count, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 4, 0x11, 0, 5, 0x11, 0 };
	static const unsigned char scan[] = { 0xff, 0xda, 0, 12, 3, 1, 0, 2, 0, 3, 0, 0, 63, 0, 1,
		2, 3, 0xff, 0xd9 };
	struct file file = { 0 };

	add(&file, frame, 12 + 3 * (size_t)count);
	add(&file, scan, sizeof(scan));
	return file;
}

static const struct {
	unsigned sof, bits;
	uint32_t width, height;
	unsigned count;
	const char *words;
} headers[] = { { 0xc0, 8, 65501, 1, 3, "has 65501 x 1 pixels; a side may have 1..65500" },
	{ 0xc0, 8, 1, 65535, 3, "has 1 x 65535 pixels" }, { 0xc0, 8, 0, 1, 3, "has 0 x 1 pixels" },
	{ 0xc2, 8, 1, 0, 3, "has 1 x 0 pixels" },
	{ 0xc0, 8, 10000, 5001, 3, "has 10000 x 5001 pixels; at most 50000000" },
	{ 0xc2, 8, 10000, 5000, 3, "is cut off" }, { 0xc0, 8, 65500, 700, 3, "is cut off" },
	{ 0xc1, 12, 8, 8, 3, "has 12 bits a sample" }, { 0xc3, 8, 8, 8, 3, "(SOF3)" },
	{ 0xc9, 8, 8, 8, 3, "(SOF9)" }, { 0xc0, 8, 8, 8, 2, "has 2 components" },
	{ 0xc0, 8, 8, 8, 5, "has 5 components" }, { 0xc0, 8, 8, 8, 3, "is damaged" },
	{ 0xc0, 8, 8, 8, 4, "a component is missing" } };

START_TEST(a_jpeg_that_cannot_be_shown_is_told_by_its_header)
{
	static const struct jpeg arithmetic = { 8, 8, JCS_YCbCr, 1, 1, false, 0, true, false };
	struct file file;

	for (size_t i = 0; i < COUNT(headers); i++) {
		file = jpeg_header(headers[i].sof, headers[i].bits, headers[i].width,
		    headers[i].height, headers[i].count);
		ck_refused(&file, IMAGE_JPEG, headers[i].words);
		free(file.bytes);
	}
	file = jpeg_make(&arithmetic);
	ck_refused(&file, IMAGE_JPEG, "in a way that browsers do not show");
	free(file.bytes);
}
END_TEST

/* The last scan again and again: each costs as much as the whole picture. */
START_TEST(a_jpeg_of_too_many_scans_is_refused)
{
	struct file file = jpeg_make(&jpegs[7]), scan = { 0 };
	const unsigned char *last = file.bytes;
	struct image image;
	int scans = 0;

	for (const unsigned char *p = file.bytes; p < file.bytes + file.n - 1; p++)
		if (p[0] == 0xff && p[1] == 0xda) {
			scans++;
			last = p;
		}
	add(&scan, last, (size_t)(file.bytes + file.n - 2 - last));
	for (; scans < IMAGE_SCANS_MAX + 1; scans++)
		insert(&file, file.n - 2, scan.bytes, scan.n);
	ck_refused(&file, IMAGE_JPEG, "has more than 32 scans");
	ck_assert_int_eq(image_clean(file.bytes, file.n, IMAGE_JPEG, &image), ERR_INPUT);
	free(scan.bytes);
	free(file.bytes);
}
END_TEST

static const struct {
	struct png spec;
	long plus;
	const char *words;
} damaged[] = { { { 100000, 1, 8, 2, 0 }, 0, "has 100000 x 1 pixels" },
	{ { 0, 1, 8, 2, 0 }, 0, "has 0 x 1 pixels" },
	{ { 1, 0x80000000, 1, 0, 0 }, -0x80000000L * 2, "has 1 x 2147483648 pixels" },
	{ { 9, 7, 8, 2, 0 }, -1, "fewer pixels" }, { { 9, 7, 8, 2, 0 }, 1, "more pixels" },
	{ { 9, 7, 8, 2, 0 }, 400000000, "more pixels" }, { { 9, 7, 8, 2, 1 }, -1, "fewer pixels" },
	{ { 9, 7, 8, 2, 1 }, 1, "more pixels" }, { { 9, 7, 3, 0, 0 }, 0, "no colour type 0 of 3" },
	{ { 9, 7, 16, 3, 0 }, 0, "no colour type 3 of 16" },
	{ { 9, 7, 4, 2, 0 }, 0, "no colour type 2 of 4" },
	{ { 9, 7, 8, 0, 2 }, 0, "interlacing" } };

START_TEST(a_png_that_is_not_as_its_header_says_is_refused)
{
	for (size_t i = 0; i < COUNT(damaged); i++) {
		struct file file = { 0 };

		png_begin(&file, &damaged[i].spec);
		png_palette(&file, &damaged[i].spec);
		png_pixels(&file, &damaged[i].spec, damaged[i].plus);
		chunk(&file, "IEND", "", 0);
		ck_refused(&file, IMAGE_PNG, damaged[i].words);
		free(file.bytes);
	}
}
END_TEST

/* Chunks in an order of which a letter is one: h IHDR, p PLTE, i pixels, j more of them, e IEND ...
 */
static struct file
png_of(const char *order)
{
	static const char *const types[128] = { ['H'] = "IHDR",
		['j'] = "IDAT",
		['t'] = "tRNS",
		['g'] = "gAMA",
		['c'] = "CgBI",
		['x'] = "prVt",
		['e'] = "IEND",
		['E'] = "IEND" };
	static const struct png spec = { 9, 7, 8, 3, 0 };
	struct file file = { 0 };

	for (; *order != '\0'; order++)
		if (*order == 'h')
			png_begin(&file, &spec);
		else if (*order == 'p')
			png_palette(&file, &spec);
		else if (*order == 'i')
			png_pixels(&file, &spec, 0);
		else
			chunk(&file, types[(int)*order], "\0\0\xb1\x8f", *order == 'e' ? 0 : 4);
	return file;
}

static const struct {
	const char *order, *words;
} orders[] = { { "hpie", NULL }, { "hgpie", NULL }, { "hpgie", NULL }, { "hptie", NULL },
	{ "htpie", NULL }, { "hpiE", "end has a length" }, { "hpittie", "two places" },
	{ "hpixe", NULL }, { "hpixie", "two places" }, { "hpije", "more behind its pixels" },
	{ "hpi", "cut off" }, { "hpe", "fewer pixels" }, { "hie", "is damaged" }, { "hppie", "" },
	{ "hpipe", "" }, { "hcpie", "nobody knows" }, { "hpice", "nobody knows" },
	{ "hpHie", "header" }, { "hggpttie", NULL } };

START_TEST(a_png_has_its_chunks_in_order)
{
	for (size_t i = 0; i < COUNT(orders); i++) {
		struct file file = png_of(orders[i].order);

		if (orders[i].words == NULL)
			free(cleaned(&file, IMAGE_PNG).bytes);
		else
			ck_refused(&file, IMAGE_PNG, orders[i].words);
		free(file.bytes);
	}
}
END_TEST

START_TEST(what_does_not_begin_as_it_says_is_refused)
{
	static const char svg[] = "<svg xmlns=\"http://www.w3.org/2000/svg\"><script/></svg>";
	static const char *const words[] = {
		[IMAGE_JPEG] = "is not a JPEG", [IMAGE_PNG] = "is not a PNG"
	};
	struct file files[] = { { (unsigned char *)(uintptr_t)svg, sizeof(svg) },
		{ (unsigned char *)(uintptr_t) "GIF89a", 6 },
		{ (unsigned char *)(uintptr_t) "", 0 },
		{ (unsigned char *)(uintptr_t) "\xff\xd8", 2 } };
	struct file jpeg = jpeg_make(&jpegs[0]), png = png_make(&pngs[0]);

	for (size_t i = 0; i < COUNT(files); i++)
		for (enum image_kind kind = IMAGE_JPEG; kind <= IMAGE_PNG; kind++)
			ck_refused(&files[i], kind, words[kind]);
	ck_refused(&jpeg, IMAGE_PNG, "is not a PNG");
	ck_refused(&png, IMAGE_JPEG, "is not a JPEG");
	free(jpeg.bytes);
	free(png.bytes);
}
END_TEST

START_TEST(fifty_megapixels_and_ten_mebibytes_are_the_most)
{
	struct png spec = { 10000, 5000, 1, 0, 0 };
	struct file file = png_make(&spec);
	struct image image = cleaned(&file, IMAGE_PNG);

	ck_assert_uint_eq((uint64_t)image.width * image.height, IMAGE_PIXELS_MAX);
	free(image.bytes);
	free(file.bytes);
	spec.height++;
	file = png_make(&spec);
	ck_refused(&file, IMAGE_PNG, "has 10000 x 5001 pixels; at most 50000000");
	free(file.bytes);
	file = jpeg_make(&jpegs[0]);
	file.bytes = realloc(file.bytes, IMAGE_BYTES_MAX + 1);
	memset(file.bytes + file.n, 0, IMAGE_BYTES_MAX + 1 - file.n);
	file.n = IMAGE_BYTES_MAX;
	free(cleaned(&file, IMAGE_JPEG).bytes);
	file.n++;
	ck_refused(&file, IMAGE_JPEG, "is larger than 10 MiB");
	free(file.bytes);
}
END_TEST

/* The orientation is read from whatever is there. */
START_TEST(an_orientation_that_cannot_be_read_is_upright)
{
	static const struct {
		const char *bytes;
		size_t n;
	} broken[] = { { "", 0 }, { "MM\0*\0\0\0\x08", 8 }, { "MM\0*\xff\xff\xff\xff\0\1", 10 },
		{ "MM\0*\0\0\0\x08\0\1", 10 }, { "MM\0*\0\0\0\x08\xff\xff\0\0", 12 },
		{ "II*\0\x08\0\0\0\1\0\x12\1\4\0\1\0\0\0\6\0\0\0", 22 },
		{ "MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x09\0\0", 22 },
		{ "MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0", 21 },
		{ "XX\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0", 22 } };

	for (size_t i = 0; i < COUNT(broken); i++) {
		struct file file = jpeg_make(&jpegs[0]), exif = { 0 };
		struct image image;

		add(&exif, "Exif\0", 6);
		add(&exif, broken[i].bytes, broken[i].n);
		jpeg_add(&file, 0xe1, exif.bytes, exif.n);
		image = cleaned(&file, IMAGE_JPEG);
		ck_assert_uint_eq(image.width, jpegs[0].width);
		free(image.bytes);
		free(exif.bytes);
		free(file.bytes);
	}
}
END_TEST

START_TEST(the_work_of_a_picture_is_told_by_its_headers)
{
	static const struct jpeg one = { 64, 48, JCS_YCbCr, 2, 2, false, 0, false, false };
	static const struct jpeg many = { 64, 48, JCS_YCbCr, 2, 2, true, 0, false, false };
	struct file upright = jpeg_make(&one), sideways = jpeg_make(&one), scans = jpeg_make(&many),
		    png = png_make(&pngs[0]);
	uint64_t work = image_work(upright.bytes, upright.n, IMAGE_JPEG);

	jpeg_orient(&sideways, 6);
	ck_assert_uint_eq(work, 64 * 48);
	ck_assert_uint_gt(image_work(sideways.bytes, sideways.n, IMAGE_JPEG), work);
	ck_assert_uint_gt(image_work(scans.bytes, scans.n, IMAGE_JPEG), work);
	ck_assert_uint_ge(image_work(png.bytes, png.n, IMAGE_PNG), rows_n(&pngs[0]));
	/* Of what is refused there is none, and nothing is said of it yet. */
	ck_assert_uint_eq(image_work(upright.bytes, upright.n, IMAGE_PNG), 0);
	ck_assert_uint_eq(image_work(upright.bytes, upright.n / 2, IMAGE_JPEG), 0);
	ck_assert_uint_eq(image_work(png.bytes, 20, IMAGE_PNG), 0);
	ck_assert_uint_eq(image_work(png.bytes, 0, IMAGE_PNG), 0);
	ck_assert_int_eq(err_pending(), OK);
	free(upright.bytes);
	free(sideways.bytes);
	free(scans.bytes);
	free(png.bytes);
}
END_TEST

#ifdef METERED
START_TEST(a_photo_that_is_upright_takes_little_memory)
{
	static const struct jpeg spec = { 4000, 3000, JCS_YCbCr, 2, 2, false, 0, false, false };
	struct file file = jpeg_make(&spec);
	struct image image;
	size_t before = held;

	most_held = held;
	ck_assert_int_eq(image_clean(file.bytes, file.n, IMAGE_JPEG, &image), OK);
	ck_assert_uint_lt(most_held - before, file.n + 1024 * 1024);
	free(image.bytes);
	ck_assert_uint_eq(held, before);
	free(file.bytes);
}
END_TEST

START_TEST(without_memory_it_is_busy)
{
	static const struct jpeg sizes[] = { { 32, 32, JCS_YCbCr, 2, 2, false, 0, false, false },
		{ 33, 33, JCS_YCbCr, 2, 2, true, 0, false, false } };

	for (int orientation = 1; orientation <= 3; orientation++)
		for (size_t i = 0; i < 3; i++) {
			struct file file = i < 2 ? jpeg_make(&sizes[i]) : png_make(&pngs[7]),
				    exif = { 0 };
			enum err err = ERR_BUSY;
			struct image image;

			tiff(&exif, orientation);
			if (i < 2)
				jpeg_orient(&file, orientation);
			else
				file.n = 0, png_begin(&file, &pngs[7]),
				chunk(&file, "eXIf", exif.bytes, exif.n),
				png_palette(&file, &pngs[7]), png_pixels(&file, &pngs[7], 0),
				chunk(&file, "IEND", "", 0);
			for (long let = 0; err == ERR_BUSY; let++) {
				size_t before = held;

				until_failure = let;
				err = image_clean(
				    file.bytes, file.n, i < 2 ? IMAGE_JPEG : IMAGE_PNG, &image);
				until_failure = -1;
				ck_assert_int_lt(let, 1000);
				ck_assert(err == OK || held == before);
			}
			ck_assert_msg(err == OK, "%d, %zu: %s", orientation, i, err_words());
			free(image.bytes);
			free(exif.bytes);
			free(file.bytes);
		}
}
END_TEST
#define METERED_TESTS , a_photo_that_is_upright_takes_little_memory, without_memory_it_is_busy
#else
#define METERED_TESTS
#endif

CHECK_MAIN(image,
    { a_jpeg_that_is_upright_keeps_its_coefficients, a_sideways_jpeg_comes_out_upright,
	turning_a_jpeg_of_whole_blocks_loses_nothing, a_png_keeps_its_pixels_and_comes_out_upright,
	all_that_is_not_the_picture_goes, bytes_behind_a_scan_go_without_loss,
	a_file_cut_anywhere_is_refused, no_damaged_byte_breaks_anything,
	a_jpeg_that_cannot_be_shown_is_told_by_its_header, a_jpeg_of_too_many_scans_is_refused,
	a_png_that_is_not_as_its_header_says_is_refused, a_png_has_its_chunks_in_order,
	what_does_not_begin_as_it_says_is_refused, fifty_megapixels_and_ten_mebibytes_are_the_most,
	an_orientation_that_cannot_be_read_is_upright,
	the_work_of_a_picture_is_told_by_its_headers METERED_TESTS })
