#include "lib/image.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>
#include <spng.h>
#include <zlib.h>

#define QUALITY 95 /* where a picture cannot be turned without loss */

/* How much slower it is than to decode a JPEG: to turn a picture, and a byte that is deflated. */
#define WORK_TURNED 6
#define WORK_DEFLATED 2

/* What is still to be read. */
struct in {
	const unsigned char *p, *end;
};

/* What is written; it never grows. */
struct out {
	unsigned char *bytes;
	size_t n, room;
};

static size_t
left(const struct in *in)
{
	return (size_t)(in->end - in->p);
}

static void
put(struct out *out, const void *bytes, size_t n)
{
	if (n > 0)
		memcpy(out->bytes + out->n, bytes, n);
	out->n += n;
}

static enum err
out_begin(struct out *out, size_t room)
{
	*out = (struct out){ .bytes = malloc(room), .room = room };
	return out->bytes != NULL ? OK : fail(ERR_BUSY, "no memory for an image");
}

static uint32_t
big_endian(const unsigned char *p, size_t n)
{
	uint32_t v = 0;

	for (size_t i = 0; i < n; i++)
		v = v << 8 | p[i];
	return v;
}

static enum err
size_check(uint32_t width, uint32_t height)
{
	if (width == 0 || height == 0 || width > IMAGE_SIDE_MAX || height > IMAGE_SIDE_MAX)
		return fail(ERR_INPUT, "has %u x %u pixels; a side may have 1..%d", width, height,
		    IMAGE_SIDE_MAX);
	if ((uint64_t)width * height > IMAGE_PIXELS_MAX)
		return fail(ERR_INPUT, "has %u x %u pixels; at most %d are taken", width, height,
		    IMAGE_PIXELS_MAX);
	return OK;
}

/* How a picture is made upright: the pixel at x, y comes from the x, y of the stored one, or from
 * its y, x if it is transposed, counted from the other side where it is mirrored. */
struct turn {
	bool transpose, mirror_x, mirror_y; /* the mirrors are those of the stored picture */
};

#define UPRIGHT 1

static const struct turn turns[] = { [UPRIGHT] = { false, false, false }, /* EXIF's numbers */
	[2] = { false, true, false },
	[3] = { false, true, true },
	[4] = { false, false, true },
	[5] = { true, false, false },
	[6] = { true, false, true },
	[7] = { true, true, true },
	[8] = { true, true, false } };

static void
turn_size(const struct turn *turn, uint32_t *width, uint32_t *height)
{
	uint32_t stored = *width;

	if (!turn->transpose)
		return;
	*width = *height;
	*height = stored;
}

/* The place that comes to X, Y, in a stored picture (or array of blocks) of WIDTH x HEIGHT. */
static void
turn_source(const struct turn *turn, uint32_t width, uint32_t height, uint32_t *x, uint32_t *y)
{
	uint32_t sx = turn->transpose ? *y : *x, sy = turn->transpose ? *x : *y;

	*x = turn->mirror_x ? width - 1 - sx : sx;
	*y = turn->mirror_y ? height - 1 - sy : sy;
}

#define TIFF_ORIENTATION 0x0112
#define TIFF_SHORT 3

static uint32_t
tiff_number(const unsigned char *p, size_t n, bool big)
{
	return big   ? big_endian(p, n)
	    : n == 2 ? (uint32_t)(p[1] << 8 | p[0])
		     : (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

/* The orientation that the first directory of a TIFF gives; what is not readable is upright. */
static int
tiff_orientation(const unsigned char *tiff, size_t n)
{
	bool big = n >= 8 && tiff[0] == 'M' && tiff[1] == 'M';
	uint32_t at, count, value;

	if (n < 8 || (!big && (tiff[0] != 'I' || tiff[1] != 'I')) ||
	    tiff_number(tiff + 2, 2, big) != 42)
		return UPRIGHT;
	at = tiff_number(tiff + 4, 4, big);
	if (at > n - 2)
		return UPRIGHT;
	count = tiff_number(tiff + at, 2, big);
	for (const unsigned char *entry = tiff + at + 2; count > 0; count--, entry += 12) {
		if (tiff + n - entry < 12)
			return UPRIGHT;
		if (tiff_number(entry, 2, big) != TIFF_ORIENTATION)
			continue;
		value = tiff_number(entry + 8, 2, big);
		return tiff_number(entry + 2, 2, big) == TIFF_SHORT && value >= 1 && value <= 8
		    ? (int)value
		    : UPRIGHT;
	}
	return UPRIGHT;
}

/*
 * JPEG
 */

enum marker {
	SOF0 = 0xc0, /* baseline, extended, progressive: 0xc0, 0xc1, 0xc2 */
	SOF2 = 0xc2,
	DHT = 0xc4,
	DAC = 0xcc,
	SOF15 = 0xcf,
	RST0 = 0xd0,
	RST7 = 0xd7,
	SOI = 0xd8,
	EOI = 0xd9,
	SOS = 0xda,
	DQT = 0xdb,
	DRI = 0xdd,
	APP0 = 0xe0,
	APP1 = 0xe1,
	APP14 = 0xee
};

struct segment {
	int marker;
	const unsigned char *data; /* without marker and length */
	size_t n;
	const unsigned char *coded; /* what follows an SOS, up to the next marker */
	size_t coded_n;
};

struct component {
	unsigned id, h, v;
	bool scanned; /* from its first coefficient on */
};

/* What the segments say before anything is decoded. */
struct frame {
	uint32_t width, height;
	unsigned count, max_h, max_v; /* components, and the largest of their factors */
	struct component components[4];
	int scans, orientation;
	size_t coded_n;
	const unsigned char *jfif, *adobe; /* the data of APP0 and APP14 */
	bool has_exif;
};

/* From FROM to the next 0xff that begins a marker, which neither a stuffed 0xff00 nor a restart is.
 */
static const unsigned char *
coded_end(const unsigned char *from, const unsigned char *end)
{
	const unsigned char *p = from;

	while ((p = memchr(p, 0xff, (size_t)(end - p))) != NULL && end - p >= 2) {
		if (p[1] != 0 && p[1] != 0xff && (p[1] < RST0 || p[1] > RST7))
			return p;
		p += p[1] == 0xff ? 1 : 2;
	}
	return end;
}

/* The next segment.  Bytes that stand between two of them, and restarts and fill bytes there, are
 * passed over. */
static enum err
segment_next(struct in *in, struct segment *segment)
{
	size_t n;

	*segment = (struct segment){ 0 };
	in->p = coded_end(in->p, in->end);
	if (left(in) < 2)
		return fail(ERR_INPUT, "is cut off");
	segment->marker = in->p[1];
	in->p += 2;
	if (segment->marker == EOI || segment->marker == 0x01)
		return OK;
	if (segment->marker == SOI)
		return fail(ERR_INPUT, "is damaged: it begins twice");
	if (left(in) < 2 || (n = big_endian(in->p, 2)) > left(in))
		return fail(ERR_INPUT, "is cut off");
	if (n < 2)
		return fail(ERR_INPUT, "is damaged: a segment has no length");
	segment->data = in->p + 2;
	segment->n = n - 2;
	in->p += n;
	if (segment->marker == SOS) {
		segment->coded = in->p;
		in->p = coded_end(in->p, in->end);
		segment->coded_n = (size_t)(in->p - segment->coded);
	}
	return OK;
}

static enum err
frame_components(struct frame *frame, const unsigned char *p)
{
	frame->max_h = frame->max_v = 1;
	for (unsigned i = 0; i < frame->count; i++, p += 3) {
		struct component *c = &frame->components[i];

		*c = (struct component){ .id = p[0], .h = p[1] >> 4, .v = p[1] & 15 };
		if (c->h < 1 || c->h > 4 || c->v < 1 || c->v > 4)
			return fail(ERR_INPUT, "is damaged: its sampling is none");
		if (c->h > frame->max_h)
			frame->max_h = c->h;
		if (c->v > frame->max_v)
			frame->max_v = c->v;
	}
	return OK;
}

static enum err
frame_begin(struct frame *frame, const struct segment *segment)
{
	const unsigned char *p = segment->data;
	enum err err;

	if (frame->count > 0)
		return fail(ERR_INPUT, "is damaged: it has two frames");
	if (segment->marker > SOF2)
		return fail(ERR_INPUT, "is coded in a way that browsers do not show (SOF%d)",
		    segment->marker - SOF0);
	if (segment->n < 6 || segment->n != 6 + 3 * (size_t)p[5])
		return fail(ERR_INPUT, "is damaged: its frame has a wrong length");
	if (p[0] != 8)
		return fail(ERR_INPUT, "has %u bits a sample; only 8 are taken", p[0]);
	if (p[5] != 1 && p[5] != 3 && p[5] != 4)
		return fail(ERR_INPUT, "has %u components; 1, 3 or 4 are taken", p[5]);
	frame->height = big_endian(p + 1, 2);
	frame->width = big_endian(p + 3, 2);
	err = size_check(frame->width, frame->height);
	frame->count = p[5];
	return err != OK ? err : frame_components(frame, p + 6);
}

static enum err
frame_scan(struct frame *frame, const struct segment *segment)
{
	const unsigned char *p = segment->data;

	if (frame->count == 0 || segment->n < 1 || p[0] < 1 || p[0] > 4 ||
	    segment->n != 4 + 2 * (size_t)p[0])
		return fail(ERR_INPUT, "is damaged: a scan is none");
	if (++frame->scans > IMAGE_SCANS_MAX)
		return fail(ERR_INPUT, "has more than %d scans", IMAGE_SCANS_MAX);
	frame->coded_n += segment->coded_n;
	for (unsigned s = 0; s < p[0]; s++)
		for (unsigned i = 0; i < frame->count; i++)
			if (frame->components[i].id == p[1 + 2 * s] && p[1 + 2 * p[0]] == 0)
				frame->components[i].scanned = true;
	return OK;
}

/* Those of the markers before the pixels that tell how to show them. */
static void
frame_note(struct frame *frame, const struct segment *segment)
{
	static const char exif[] = "Exif\0";
	const unsigned char *p = segment->data;
	size_t n = segment->n;

	if (frame->scans > 0)
		return;
	if (segment->marker == APP0 && n >= 14 && memcmp(p, "JFIF", 5) == 0)
		frame->jfif = p;
	if (segment->marker == APP14 && n >= 12 && memcmp(p, "Adobe", 5) == 0)
		frame->adobe = p;
	if (segment->marker != APP1 || n < sizeof(exif) || memcmp(p, exif, sizeof(exif)) != 0 ||
	    frame->has_exif)
		return;
	frame->has_exif = true;
	frame->orientation = tiff_orientation(p + sizeof(exif), n - sizeof(exif));
}

static uint32_t
blocks_across(uint32_t side, unsigned factor, unsigned max)
{
	return (side * factor + 8 * max - 1) / (8 * max);
}

/* A block has at least one bit of each component: what has fewer would take much memory for
 * nothing. */
static enum err
frame_end(const struct frame *frame)
{
	uint64_t blocks = 0;

	if (frame->scans == 0)
		return fail(ERR_INPUT, "is damaged: it has no pixels");
	for (unsigned i = 0; i < frame->count; i++) {
		const struct component *c = &frame->components[i];

		if (!c->scanned)
			return fail(ERR_INPUT, "is cut off: a component is missing");
		blocks += (uint64_t)blocks_across(frame->width, c->h, frame->max_h) *
		    blocks_across(frame->height, c->v, frame->max_v);
	}
	return blocks <= 8 * (uint64_t)frame->coded_n ? OK : fail(ERR_INPUT, "is cut off");
}

static bool
is_frame(int marker)
{
	return marker >= SOF0 && marker <= SOF15 && marker != DHT && marker != DAC &&
	    marker != 0xc8; /* JPG, reserved */
}

static enum err
frame_read(const unsigned char *bytes, size_t n, struct frame *frame)
{
	struct in in = { bytes + 2, bytes + n };
	struct segment segment;
	enum err err;

	*frame = (struct frame){ .orientation = UPRIGHT };
	while ((err = segment_next(&in, &segment)) == OK && segment.marker != EOI) {
		if (is_frame(segment.marker))
			err = frame_begin(frame, &segment);
		else if (segment.marker == SOS)
			err = frame_scan(frame, &segment);
		else
			frame_note(frame, &segment);
		if (err != OK)
			return err;
	}
	return err != OK ? err : frame_end(frame);
}

static void
put_segment(struct out *out, const struct segment *segment)
{
	const unsigned char head[] = { 0xff, (unsigned char)segment->marker,
		(unsigned char)((segment->n + 2) >> 8), (unsigned char)(segment->n + 2) };

	put(out, head, sizeof(head));
	put(out, segment->data, segment->n);
	put(out, segment->coded, segment->coded_n);
}

/* JFIF's without its thumbnail, Adobe's with nothing but the transform: as libjpeg writes them. */
static void
put_headers(struct out *out, const struct frame *frame)
{
	unsigned char jfif[14] = "JFIF", adobe[12] = { 'A', 'd', 'o', 'b', 'e', 0, 100 };

	if (frame->jfif != NULL) {
		memcpy(jfif + 5, frame->jfif + 5, 7);
		put_segment(
		    out, &(struct segment){ .marker = APP0, .data = jfif, .n = sizeof(jfif) });
	}
	if (frame->adobe != NULL) {
		adobe[11] = frame->adobe[11];
		put_segment(
		    out, &(struct segment){ .marker = APP14, .data = adobe, .n = sizeof(adobe) });
	}
}

static bool
is_needed(int marker)
{
	return is_frame(marker) || marker == DHT || marker == DQT || marker == DRI || marker == SOS;
}

/* What the pixels need, in a file of its own, which is no longer than this one. */
static void
jpeg_strip(const unsigned char *bytes, size_t n, const struct frame *frame, struct out *out)
{
	static const unsigned char begin[] = { 0xff, SOI }, end[] = { 0xff, EOI };
	struct in in = { bytes + 2, bytes + n };
	struct segment segment;

	put(out, begin, sizeof(begin));
	put_headers(out, frame);
	while (segment_next(&in, &segment) == OK && segment.marker != EOI)
		if (is_needed(segment.marker))
			put_segment(out, &segment);
	put(out, end, sizeof(end));
}

/* libjpeg at work.  Its errors come back by longjmp() to job_run(), so what steps need lives here.
 */
struct job {
	struct jpeg_error_mgr errors; /* first: libjpeg's pointer to it is one to the job */
	jmp_buf jump;
	struct jpeg_decompress_struct in;
	struct jpeg_compress_struct out;
	struct jpeg_destination_mgr to;
	const struct frame *frame;
	const struct turn *turn;
	const struct out *plain; /* what is read */
	struct out *turned; /* what is written */
	unsigned char *pixels;
	bool has_rest; /* there are bytes behind a scan's end */
	bool is_full, broke;
	jvirt_barray_ptr *blocks; /* as they are stored */
	JBLOCKARRAY rows[4]; /* turned, of the component: as many as the encoder asks for at once */
	short from[DCTSIZE2], sign[DCTSIZE2]; /* in a block, likewise */
};

static _Noreturn void
job_end(j_common_ptr jpeg)
{
	longjmp(((struct job *)(void *)jpeg->err)->jump, 1);
}

/* Warnings of what decoders put right in different ways are errors. */
static void
job_warned(j_common_ptr jpeg, int level)
{
	struct job *job = (struct job *)(void *)jpeg->err;
	static const int harmless[] = { JWRN_ADOBE_XFORM, JWRN_EXTRANEOUS_DATA, JWRN_JFIF_MAJOR,
		JWRN_NOT_SEQUENTIAL };

	if (level >= 0)
		return;
	if (job->errors.msg_code == JWRN_EXTRANEOUS_DATA)
		job->has_rest = true;
	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
		if (job->errors.msg_code == harmless[i])
			return;
	job_end(jpeg);
}

static void
job_silent(j_common_ptr jpeg)
{
	(void)jpeg;
}

static void
to_begin(j_compress_ptr jpeg)
{
	(void)jpeg;
}

/* There is no more room. */
static boolean
to_full(j_compress_ptr jpeg)
{
	((struct job *)(void *)jpeg->err)->is_full = true;
	job_end((j_common_ptr)jpeg);
}

static void
to_end(j_compress_ptr jpeg)
{
	struct job *job = (struct job *)(void *)jpeg->err;

	job->turned->n = job->turned->room - job->to.free_in_buffer;
}

static enum err
job_why(struct job *job)
{
	char words[JMSG_LENGTH_MAX];

	if (job->is_full)
		return fail(ERR_INPUT, "is larger than %d MiB once it is upright",
		    IMAGE_BYTES_MAX / 1024 / 1024);
	if (job->errors.msg_code == JERR_OUT_OF_MEMORY)
		return fail(ERR_BUSY, "no memory for an image");
	job->errors.format_message((j_common_ptr)&job->in, words);
	return fail(ERR_INPUT, "is damaged: %s", words);
}

static enum err
job_run(struct job *job, void (*step)(struct job *))
{
	job->in.err = jpeg_std_error(&job->errors);
	job->out.err = &job->errors;
	job->errors.error_exit = job_end;
	job->errors.emit_message = job_warned;
	job->errors.output_message = job_silent;
	job->broke = true;
	if (setjmp(job->jump) == 0) {
		step(job);
		job->broke = false;
	}
	jpeg_destroy_decompress(&job->in);
	jpeg_destroy_compress(&job->out);
	return job->broke ? job_why(job) : OK;
}

static void
job_open(struct job *job)
{
	jpeg_create_decompress(&job->in);
	jpeg_mem_src(&job->in, job->plain->bytes, job->plain->n);
	(void)jpeg_read_header(&job->in, TRUE);
	/* As they are stored, without a conversion that would round. */
	job->in.out_color_space = job->in.jpeg_color_space;
}

static void
job_create(struct job *job)
{
	jpeg_create_compress(&job->out);
	job->to = (struct jpeg_destination_mgr){ .next_output_byte = job->turned->bytes,
		.free_in_buffer = job->turned->room,
		.init_destination = to_begin,
		.empty_output_buffer = to_full,
		.term_destination = to_end };
	job->out.dest = &job->to;
}

/* Reads every symbol of every row.  For pixels that nobody looks at, an eighth of the size will do:
 * nothing after the symbols can go wrong. */
static void
step_check(struct job *job)
{
	JSAMPARRAY row;

	job_open(job);
	if (jpeg_has_multiple_scans(&job->in)) {
		(void)jpeg_read_coefficients(&job->in);
		return;
	}
	job->in.scale_denom = 8;
	(void)jpeg_start_decompress(&job->in);
	row = job->in.mem->alloc_sarray((j_common_ptr)&job->in, JPOOL_IMAGE,
	    job->in.output_width * (JDIMENSION)job->in.output_components, 1);
	while (job->in.output_scanline < job->in.output_height)
		(void)jpeg_read_scanlines(&job->in, row, 1);
	(void)jpeg_finish_decompress(&job->in);
}

/* A block transposed has its frequencies transposed; one mirrored has the odd ones negated. */
static void
turn_block(const struct job *job, const JCOEF *stored, JCOEF *turned)
{
	for (int i = 0; i < DCTSIZE2; i++)
		turned[i] = (JCOEF)(job->sign[i] * stored[job->from[i]]);
}

static void
turn_begin(struct job *job)
{
	for (int i = 0; i < DCTSIZE2; i++) {
		int u = i % DCTSIZE, v = i / DCTSIZE;
		int su = job->turn->transpose ? v : u, sv = job->turn->transpose ? u : v;
		bool odd =
		    (job->turn->mirror_x && su % 2 == 1) != (job->turn->mirror_y && sv % 2 == 1);

		job->from[i] = (short)(sv * DCTSIZE + su);
		job->sign[i] = odd ? -1 : 1;
	}
}

/*
 * The encoder asks for rows of blocks; they are made as it does, so that the turned picture is
 * never held whole.  The "array" it names is the component's number in disguise: its row pointers.
 */
static JBLOCKARRAY
turn_rows(
    j_common_ptr jpeg, jvirt_barray_ptr array, JDIMENSION start, JDIMENSION count, boolean writable)
{
	struct job *job = (struct job *)(void *)jpeg->err;
	JBLOCKARRAY *rows = (JBLOCKARRAY *)(void *)array;
	ptrdiff_t c = rows - job->rows;
	const jpeg_component_info *to = &job->out.comp_info[c], *from = &job->in.comp_info[c];

	(void)writable;
	for (JDIMENSION r = 0; r < count && start + r < to->height_in_blocks; r++)
		for (JDIMENSION i = 0; i < to->width_in_blocks; i++) {
			JDIMENSION x = i, y = start + r;
			JBLOCKARRAY stored;

			turn_source(
			    job->turn, from->width_in_blocks, from->height_in_blocks, &x, &y);
			stored = job->in.mem->access_virt_barray(
			    (j_common_ptr)&job->in, job->blocks[c], y, 1, FALSE);
			turn_block(job, stored[0][x], (*rows)[r][i]);
		}
	return *rows;
}

static void
turn_table(JQUANT_TBL *table)
{
	for (int v = 0; v < DCTSIZE; v++)
		for (int u = 0; u < v; u++) {
			UINT16 *a = &table->quantval[v * DCTSIZE + u];
			UINT16 *b = &table->quantval[u * DCTSIZE + v], kept = *a;

			*a = *b;
			*b = kept;
		}
}

static void
turn_parameters(struct job *job)
{
	struct jpeg_compress_struct *out = &job->out;
	UINT16 density = out->X_density;

	out->optimize_coding = TRUE;
	if (job->in.progressive_mode)
		jpeg_simple_progression(out);
	if (!job->turn->transpose)
		return;
	turn_size(job->turn, &out->image_width, &out->image_height);
	out->X_density = out->Y_density;
	out->Y_density = density;
	for (int i = 0; i < NUM_QUANT_TBLS; i++)
		if (out->quant_tbl_ptrs[i] != NULL)
			turn_table(out->quant_tbl_ptrs[i]);
	for (int i = 0; i < out->num_components; i++) {
		out->comp_info[i].h_samp_factor = job->in.comp_info[i].v_samp_factor;
		out->comp_info[i].v_samp_factor = job->in.comp_info[i].h_samp_factor;
	}
}

/* Turns the blocks, without loss. */
static void
step_turn(struct job *job)
{
	jvirt_barray_ptr arrays[4];

	job_open(job);
	job->blocks = jpeg_read_coefficients(&job->in);
	job_create(job);
	jpeg_copy_critical_parameters(&job->in, &job->out);
	turn_begin(job);
	turn_parameters(job);
	for (int c = 0; c < job->in.num_components; c++) {
		const jpeg_component_info *from = &job->in.comp_info[c];
		JDIMENSION across =
		    job->turn->transpose ? from->height_in_blocks : from->width_in_blocks;

		job->rows[c] = job->in.mem->alloc_barray((j_common_ptr)&job->in, JPOOL_IMAGE,
		    across, (JDIMENSION)job->out.comp_info[c].v_samp_factor);
		arrays[c] = (jvirt_barray_ptr)(void *)&job->rows[c];
	}
	jpeg_write_coefficients(&job->out, arrays);
	job->out.mem->access_virt_barray = turn_rows;
	jpeg_finish_compress(&job->out);
}

/* Decodes all pixels; their memory was taken before. */
static void
step_decode(struct job *job)
{
	job_open(job);
	(void)jpeg_start_decompress(&job->in);
	while (job->in.output_scanline < job->in.output_height) {
		JSAMPROW row = job->pixels +
		    (size_t)job->in.output_scanline * job->frame->width * job->frame->count;

		(void)jpeg_read_scanlines(&job->in, &row, 1);
	}
	(void)jpeg_finish_decompress(&job->in);
}

static void
encode_parameters(struct job *job)
{
	struct jpeg_compress_struct *out = &job->out;

	out->image_width = job->frame->width;
	out->image_height = job->frame->height;
	turn_size(job->turn, &out->image_width, &out->image_height);
	out->input_components = job->in.num_components;
	out->in_color_space = job->in.jpeg_color_space;
	jpeg_set_defaults(out);
	jpeg_set_colorspace(out, job->in.jpeg_color_space);
	jpeg_set_quality(out, QUALITY, TRUE);
	for (int i = 0; i < out->num_components; i++) {
		const struct component *c = &job->frame->components[i];

		out->comp_info[i].h_samp_factor = (int)(job->turn->transpose ? c->v : c->h);
		out->comp_info[i].v_samp_factor = (int)(job->turn->transpose ? c->h : c->v);
	}
}

/* Encodes the pixels anew, row by row. */
static void
step_encode(struct job *job)
{
	const struct frame *frame = job->frame;
	JSAMPARRAY row;

	job_open(job);
	job_create(job);
	encode_parameters(job);
	jpeg_start_compress(&job->out, TRUE);
	row = job->out.mem->alloc_sarray(
	    (j_common_ptr)&job->out, JPOOL_IMAGE, job->out.image_width * frame->count, 1);
	while (job->out.next_scanline < job->out.image_height) {
		for (JDIMENSION i = 0; i < job->out.image_width; i++) {
			uint32_t x = i, y = job->out.next_scanline;

			turn_source(job->turn, frame->width, frame->height, &x, &y);
			memcpy(row[0] + (size_t)i * frame->count,
			    job->pixels + ((size_t)y * frame->width + x) * frame->count,
			    frame->count);
		}
		(void)jpeg_write_scanlines(&job->out, row, 1);
	}
	jpeg_finish_compress(&job->out);
}

/* Whether no incomplete block comes to the left or the top. */
static bool
turns_exactly(const struct frame *frame, const struct turn *turn)
{
	for (unsigned i = 0; i < frame->count; i++) {
		const struct component *c = &frame->components[i];

		if ((turn->mirror_x && frame->width * c->h % (8 * frame->max_h) != 0) ||
		    (turn->mirror_y && frame->height * c->v % (8 * frame->max_v) != 0))
			return false;
	}
	return true;
}

static enum err
encode_anew(struct job *job)
{
	enum err err;

	job->pixels = malloc((size_t)job->frame->width * job->frame->height * job->frame->count);
	if (job->pixels == NULL)
		return fail(ERR_BUSY, "no memory for an image");
	err = job_run(job, step_decode);
	if (err == OK)
		err = job_run(job, step_encode);
	free(job->pixels);
	return err;
}

/* PLAIN, decoded in full; and TURNED, if it has to be another file. */
static enum err
jpeg_turn(const struct frame *frame, const struct out *plain, struct out *turned)
{
	struct job job = {
		.frame = frame, .turn = &turns[frame->orientation], .plain = plain, .turned = turned
	};
	enum err err = OK;

	if (frame->orientation == UPRIGHT)
		err = job_run(&job, step_check);
	/* Bytes behind a scan's end could be anything: blocks leave them behind. */
	if (err != OK || (frame->orientation == UPRIGHT && !job.has_rest))
		return err;
	err = out_begin(turned, IMAGE_BYTES_MAX);
	if (err != OK)
		return err;
	return turns_exactly(frame, job.turn) ? job_run(&job, step_turn) : encode_anew(&job);
}

/* Of two files the second, if it was made; it is cut to its size. */
static void
image_give(struct out *plain, struct out *turned, struct image *clean)
{
	struct out *given = turned->bytes != NULL ? turned : plain;
	unsigned char *cut = realloc(given->bytes, given->n);

	clean->bytes = cut != NULL ? cut : given->bytes;
	clean->n = given->n;
	given->bytes = NULL;
}

static enum err
jpeg_clean(const unsigned char *bytes, size_t n, struct image *clean)
{
	struct out plain, turned = { 0 };
	struct frame frame;
	enum err err = frame_read(bytes, n, &frame);

	if (err == OK)
		err = out_begin(&plain, n);
	if (err != OK)
		return err;
	jpeg_strip(bytes, n, &frame, &plain);
	err = jpeg_turn(&frame, &plain, &turned);
	if (err == OK) {
		clean->width = frame.width;
		clean->height = frame.height;
		turn_size(&turns[frame.orientation], &clean->width, &clean->height);
		image_give(&plain, &turned, clean);
	}
	free(plain.bytes);
	free(turned.bytes);
	return err;
}

static uint64_t
jpeg_work(const unsigned char *bytes, size_t n)
{
	struct frame frame;

	if (frame_read(bytes, n, &frame) != OK)
		return 0;
	return (uint64_t)frame.width * frame.height * (unsigned)frame.scans *
	    (frame.orientation == UPRIGHT ? 1 : WORK_TURNED);
}

/*
 * PNG
 */

static const unsigned char png_begin[] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };

#define PNG_INDEXED 3 /* the colour type */
#define PNG_ALPHA 4 /* the bit of one */
#define ANCILLARY \
	0x20 /* the bit of a chunk's first letter: who does not know it may show the rest */

/* The chunks that we know.  Others that are critical make the picture another one: it is refused.
 */
enum chunk_id { IHDR, PLTE, TRNS, GAMA, CHRM, SRGB, IDAT, IEND, EXIF, CHUNK_IDS };

static const struct {
	char type[5];
	size_t n; /* its only length, or 0 */
	bool is_colour; /* how to show the samples; may stay */
} chunk_ids[CHUNK_IDS] = { [IHDR] = { "IHDR", 13, false },
	[PLTE] = { "PLTE", 0, false },
	[TRNS] = { "tRNS", 0, false },
	[GAMA] = { "gAMA", 4, true },
	[CHRM] = { "cHRM", 32, true },
	[SRGB] = { "sRGB", 1, true },
	[IDAT] = { "IDAT", 0, false },
	[IEND] = { "IEND", 0, false },
	[EXIF] = { "eXIf", 0, false } };

struct chunk {
	const unsigned char *all, *data; /* with and without its frame of 12 bytes */
	size_t n; /* of the data */
	enum chunk_id id; /* CHUNK_IDS if it is none of them */
};

struct png {
	uint32_t width, height;
	unsigned depth, type, channels;
	bool interlaced;
	unsigned seen; /* a bit a chunk that we know */
	bool pixels_end; /* there was another chunk behind them */
	int orientation;
	uint64_t expected; /* bytes of all rows, each with its filter's */
	z_stream inflating;
	bool inflated; /* to its end */
	unsigned char rows[16 * 1024]; /* inflated, for nobody */
	struct out *plain;
};

static enum err
chunk_next(struct in *in, struct chunk *chunk)
{
	uint32_t n;

	if (left(in) < 12 || (n = big_endian(in->p, 4)) > left(in) - 12)
		return fail(ERR_INPUT, "is cut off");
	*chunk = (struct chunk){ .all = in->p, .data = in->p + 8, .n = n };
	if (big_endian(in->p + 8 + n, 4) != (uint32_t)crc32(0, in->p + 4, (uInt)n + 4))
		return fail(ERR_INPUT, "is damaged: a checksum is wrong");
	while (chunk->id < CHUNK_IDS && memcmp(in->p + 4, chunk_ids[chunk->id].type, 4) != 0)
		chunk->id++;
	in->p += 12 + n;
	return OK;
}

static uint64_t
row_bytes(const struct png *png, uint32_t width)
{
	return ((uint64_t)width * png->channels * png->depth + 7) / 8;
}

/* Adam7's passes: where each begins, and how far its pixels are apart. */
static uint64_t
interlaced_bytes(const struct png *png)
{
	static const struct {
		unsigned x, y, dx, dy;
	} passes[] = { { 0, 0, 8, 8 }, { 4, 0, 8, 8 }, { 0, 4, 4, 8 }, { 2, 0, 4, 4 },
		{ 0, 2, 2, 4 }, { 1, 0, 2, 2 }, { 0, 1, 1, 2 } };
	uint64_t sum = 0;

	for (size_t i = 0; i < sizeof(passes) / sizeof(passes[0]); i++) {
		uint32_t width = (png->width + passes[i].dx - 1 - passes[i].x) / passes[i].dx;
		uint32_t height = (png->height + passes[i].dy - 1 - passes[i].y) / passes[i].dy;

		if (width > 0)
			sum += height * (1 + row_bytes(png, width));
	}
	return sum;
}

static enum err
png_header(struct png *png, const unsigned char *p)
{
	static const struct {
		unsigned channels, depths; /* a bit a depth allowed */
	} types[7] = { { 1, 1 << 1 | 1 << 2 | 1 << 4 | 1 << 8 | 1 << 16 }, { 0 },
		{ 3, 1 << 8 | 1 << 16 }, { 1, 1 << 1 | 1 << 2 | 1 << 4 | 1 << 8 },
		{ 2, 1 << 8 | 1 << 16 }, { 0 }, { 4, 1 << 8 | 1 << 16 } };

	png->width = big_endian(p, 4);
	png->height = big_endian(p + 4, 4);
	png->depth = p[8];
	png->type = p[9];
	if (png->depth > 16 || png->type > 6 || (types[png->type].depths >> png->depth & 1) == 0)
		return fail(
		    ERR_INPUT, "is damaged: there is no colour type %u of %u bits", p[9], p[8]);
	if (p[10] != 0 || p[11] != 0 || p[12] > 1)
		return fail(
		    ERR_INPUT, "is damaged: its compression, filter or interlacing is none");
	png->channels = types[png->type].channels;
	png->interlaced = p[12] == 1;
	png->expected = png->interlaced ? interlaced_bytes(png)
					: png->height * (1 + row_bytes(png, png->width));
	return size_check(png->width, png->height);
}

/* Inflates so much of the pixels, to learn that they are as many as the header says, and that
 * nothing is behind them. */
static enum err
png_inflate(struct png *png, const struct chunk *chunk)
{
	z_stream *z = &png->inflating;
	int done = Z_OK;

	z->next_in = (unsigned char *)(uintptr_t)chunk->data;
	z->avail_in = (uInt)chunk->n;
	while (done == Z_OK && !png->inflated) {
		z->next_out = png->rows;
		z->avail_out = sizeof(png->rows);
		done = inflate(z, Z_NO_FLUSH);
		png->inflated = done == Z_STREAM_END;
		if (z->total_out > png->expected)
			return fail(ERR_INPUT, "is damaged: it has more pixels than it says");
	}
	if (done == Z_MEM_ERROR)
		return fail(ERR_BUSY, "no memory for an image");
	if (done != Z_OK && done != Z_BUF_ERROR && done != Z_STREAM_END)
		return fail(ERR_INPUT, "is damaged: its pixels do not inflate");
	return z->avail_in == 0 ? OK
				: fail(ERR_INPUT, "is damaged: there is more behind its pixels");
}

static bool
seen(const struct png *png, enum chunk_id id)
{
	return (png->seen >> id & 1) != 0;
}

/* Those that are critical stay; of the others those that pixels need, once, where they must be. */
static bool
chunk_stays(const struct png *png, const struct chunk *chunk)
{
	if ((chunk->all[4] & ANCILLARY) == 0)
		return true;
	if (seen(png, chunk->id) || seen(png, IDAT))
		return false;
	if (chunk->id == TRNS)
		return png->type == PNG_INDEXED
		    ? seen(png, PLTE) && chunk->n <= 256
		    : chunk->n == 2 * png->channels && (png->type & PNG_ALPHA) == 0;
	return chunk_ids[chunk->id].is_colour && chunk->n == chunk_ids[chunk->id].n &&
	    !seen(png, PLTE);
}

/* The order of critical chunks. */
static enum err
chunk_check(struct png *png, const struct chunk *chunk)
{
	bool is_header = chunk->id == IHDR;

	if (is_header != (png->seen == 0) || (is_header && chunk->n != chunk_ids[IHDR].n))
		return fail(ERR_INPUT, "is damaged: its header is not where it must be");
	if (chunk->id == IEND && chunk->n != 0)
		return fail(ERR_INPUT, "is damaged: its end has a length");
	if (chunk->id == CHUNK_IDS && (chunk->all[4] & ANCILLARY) == 0)
		return fail(ERR_INPUT, "is damaged: it has a critical chunk that nobody knows");
	if (chunk->id == PLTE && (seen(png, PLTE) || seen(png, IDAT)))
		return fail(ERR_INPUT, "is damaged: its palette is not where it must be");
	if (chunk->id == IDAT && png->pixels_end)
		return fail(ERR_INPUT, "is damaged: its pixels are in two places");
	if (chunk->id != IDAT && seen(png, IDAT))
		png->pixels_end = true;
	return OK;
}

static enum err
png_chunk(struct png *png, const struct chunk *chunk)
{
	enum err err = chunk_check(png, chunk);

	if (err != OK || chunk->id == CHUNK_IDS)
		return err;
	if (chunk->id == IHDR)
		err = png_header(png, chunk->data);
	else if (chunk->id == IDAT)
		err = png_inflate(png, chunk);
	else if (chunk->id == EXIF && !seen(png, EXIF))
		png->orientation = tiff_orientation(chunk->data, chunk->n);
	if (err == OK && chunk_stays(png, chunk))
		put(png->plain, chunk->all, 12 + chunk->n);
	png->seen |= 1u << chunk->id;
	return err;
}

/* Copies what the pixels need, up to the end. */
static enum err
png_strip(const unsigned char *bytes, size_t n, struct png *png)
{
	struct in in = { bytes + sizeof(png_begin), bytes + n };
	struct chunk chunk = { 0 };
	enum err err;

	if (inflateInit(&png->inflating) != Z_OK)
		return fail(ERR_BUSY, "no memory for an image");
	put(png->plain, png_begin, sizeof(png_begin));
	do {
		err = chunk_next(&in, &chunk);
		if (err == OK)
			err = png_chunk(png, &chunk);
	} while (err == OK && chunk.id != IEND);
	(void)inflateEnd(&png->inflating);
	if (err == OK && (!png->inflated || png->inflating.total_out != png->expected))
		return fail(ERR_INPUT, "is cut off: it has fewer pixels than it says");
	return err;
}

/* The pixels were inflated once already: if they cannot be now, memory is missing. */
static enum err
spng_why(int code)
{
	if (code == SPNG_EMEM || code == SPNG_EZLIB_INIT || code == SPNG_EIDAT_STREAM)
		return fail(ERR_BUSY, "no memory for an image");
	return fail(ERR_INPUT, "is damaged: %s", spng_strerror(code));
}

/* A decoder that has read all up to the pixels, or NULL and *CODE. */
static spng_ctx *
png_open(const struct out *plain, int flags, int *code)
{
	spng_ctx *spng = spng_ctx_new(0);

	*code =
	    spng == NULL ? SPNG_EMEM : spng_set_image_limits(spng, IMAGE_SIDE_MAX, IMAGE_SIDE_MAX);
	if (*code == SPNG_OK)
		*code = spng_set_crc_action(spng, SPNG_CRC_ERROR, SPNG_CRC_ERROR);
	if (*code == SPNG_OK)
		*code = spng_set_png_buffer(spng, plain->bytes, plain->n);
	if (*code == SPNG_OK && (flags & SPNG_DECODE_PROGRESSIVE) != 0)
		*code = spng_decode_image(spng, NULL, 0, SPNG_FMT_PNG, flags);
	if (*code == SPNG_OK)
		return spng;
	spng_ctx_free(spng);
	return NULL;
}

/* Decodes every row. */
static enum err
png_check(const struct png *png)
{
	size_t n = (size_t)row_bytes(png, png->width);
	unsigned char *row = malloc(n);
	int code = SPNG_EMEM;
	spng_ctx *spng = row == NULL ? NULL : png_open(png->plain, SPNG_DECODE_PROGRESSIVE, &code);

	if (spng != NULL) {
		while ((code = spng_decode_scanline(spng, row, n)) == SPNG_OK)
			continue;
		if (code == SPNG_EOI)
			code = spng_decode_chunks(spng);
		spng_ctx_free(spng);
	}
	free(row);
	return code == SPNG_OK ? OK : spng_why(code);
}

static enum err
png_pixels(const struct png *png, unsigned char **pixels)
{
	size_t n = (size_t)row_bytes(png, png->width) * png->height;
	int code;
	spng_ctx *spng = png_open(png->plain, 0, &code);

	if (spng == NULL)
		return spng_why(code);
	*pixels = calloc(1, n); /* where samples share a byte, the decoder only adds bits */
	code = *pixels == NULL ? SPNG_EMEM : spng_decode_image(spng, *pixels, n, SPNG_FMT_PNG, 0);
	spng_ctx_free(spng);
	return code == SPNG_OK ? OK : spng_why(code);
}

/* What stays beside the pixels. */
static int
png_copy(spng_ctx *from, spng_ctx *to)
{
	struct spng_plte plte;
	struct spng_trns trns;
	struct spng_chrm_int chrm;
	uint32_t gama;
	uint8_t srgb;
	int code = SPNG_OK;

	if (spng_get_plte(from, &plte) == SPNG_OK)
		code = spng_set_plte(to, &plte);
	if (code == SPNG_OK && spng_get_trns(from, &trns) == SPNG_OK)
		code = spng_set_trns(to, &trns);
	if (code == SPNG_OK && spng_get_chrm_int(from, &chrm) == SPNG_OK)
		code = spng_set_chrm_int(to, &chrm);
	if (code == SPNG_OK && spng_get_gama_int(from, &gama) == SPNG_OK)
		code = spng_set_gama_int(to, gama);
	if (code == SPNG_OK && spng_get_srgb(from, &srgb) == SPNG_OK)
		code = spng_set_srgb(to, srgb);
	return code;
}

static int
png_write(spng_ctx *spng, void *out, void *bytes, size_t n)
{
	struct out *to = out;

	(void)spng;
	if (n > to->room - to->n)
		return SPNG_IO_ERROR;
	put(to, bytes, n);
	return 0;
}

static void
png_gather(const struct png *png, const unsigned char *pixels, uint32_t row, unsigned char *out)
{
	const struct turn *turn = &turns[png->orientation];
	size_t stored_n = (size_t)row_bytes(png, png->width);
	unsigned bits = png->channels * png->depth, mask = (1u << (bits & 7)) - 1;
	uint32_t width = png->width, height = png->height;

	turn_size(turn, &width, &height);
	memset(out, 0, (size_t)row_bytes(png, width));
	for (uint32_t i = 0; i < width; i++) {
		uint32_t x = i, y = row;
		const unsigned char *from = pixels;

		turn_source(turn, png->width, png->height, &x, &y);
		from += y * stored_n + (size_t)x * bits / 8;
		if (bits >= 8)
			memcpy(out + (size_t)i * bits / 8, from, bits / 8);
		else
			out[(size_t)i * bits / 8] |=
			    (unsigned char)((*from >> (8 - bits - x * bits % 8) & mask)
				<< (8 - bits - i * bits % 8));
	}
}

static int
png_rows(const struct png *png, const unsigned char *pixels, spng_ctx *spng, uint32_t width)
{
	size_t n = (size_t)row_bytes(png, width);
	unsigned char *row = malloc(n);
	int code = row == NULL ? SPNG_EMEM
			       : spng_encode_image(spng, NULL, 0, SPNG_FMT_PNG,
				     SPNG_ENCODE_PROGRESSIVE | SPNG_ENCODE_FINALIZE);

	for (uint32_t y = 0; code == SPNG_OK; y++) {
		png_gather(png, pixels, y, row);
		code = spng_encode_row(spng, row, n);
	}
	free(row);
	return code == SPNG_EOI ? SPNG_OK : code;
}

static enum err
png_encode(const struct png *png, const unsigned char *pixels, struct out *turned)
{
	struct spng_ihdr ihdr = { .width = png->width,
		.height = png->height,
		.bit_depth = (uint8_t)png->depth,
		.color_type = (uint8_t)png->type };
	int code;
	spng_ctx *from = png_open(png->plain, SPNG_DECODE_PROGRESSIVE, &code), *to;

	if (from == NULL)
		return spng_why(code);
	turn_size(&turns[png->orientation], &ihdr.width, &ihdr.height);
	to = spng_ctx_new(SPNG_CTX_ENCODER);
	code = to == NULL ? SPNG_EMEM : spng_set_png_stream(to, png_write, turned);
	if (code == SPNG_OK)
		code = spng_set_ihdr(to, &ihdr);
	if (code == SPNG_OK)
		code = png_copy(from, to);
	if (code == SPNG_OK)
		code = png_rows(png, pixels, to, ihdr.width);
	spng_ctx_free(to);
	spng_ctx_free(from);
	if (code == SPNG_IO_ERROR)
		return fail(ERR_INPUT, "is larger than %d MiB once it is upright",
		    IMAGE_BYTES_MAX / 1024 / 1024);
	return code == SPNG_OK ? OK : spng_why(code);
}

static enum err
png_turn(const struct png *png, struct out *turned)
{
	unsigned char *pixels = NULL;
	enum err err = png_check(png);

	if (err != OK || png->orientation == UPRIGHT)
		return err;
	err = png_pixels(png, &pixels);
	if (err == OK)
		err = out_begin(turned, IMAGE_BYTES_MAX);
	if (err == OK)
		err = png_encode(png, pixels, turned);
	free(pixels);
	return err;
}

static enum err
png_clean(const unsigned char *bytes, size_t n, struct image *clean)
{
	struct out plain, turned = { 0 };
	struct png png = { .orientation = UPRIGHT, .plain = &plain };
	enum err err = out_begin(&plain, n);

	if (err == OK)
		err = png_strip(bytes, n, &png);
	if (err == OK)
		err = png_turn(&png, &turned);
	if (err == OK) {
		clean->width = png.width;
		clean->height = png.height;
		turn_size(&turns[png.orientation], &clean->width, &clean->height);
		image_give(&plain, &turned, clean);
	}
	free(plain.bytes);
	free(turned.bytes);
	return err;
}

static uint64_t
png_work(const unsigned char *bytes, size_t n)
{
	struct png png = { .orientation = UPRIGHT };
	struct in in = { bytes + sizeof(png_begin), bytes + n };
	struct chunk chunk = { 0 };

	if (chunk_next(&in, &chunk) != OK || chunk.id != IHDR || chunk.n != chunk_ids[IHDR].n ||
	    png_header(&png, chunk.data) != OK)
		return 0;
	while (png.orientation == UPRIGHT && chunk_next(&in, &chunk) == OK)
		if (chunk.id == EXIF)
			png.orientation = tiff_orientation(chunk.data, chunk.n);
	return png.expected * WORK_DEFLATED * (png.orientation == UPRIGHT ? 1 : WORK_TURNED);
}

static const struct {
	const char *name;
	unsigned char begin[8];
	size_t n;
	enum err (*clean)(const unsigned char *bytes, size_t n, struct image *clean);
	uint64_t (*work)(const unsigned char *bytes, size_t n);
} kinds[] = { [IMAGE_JPEG] = { "JPEG", { 0xff, 0xd8, 0xff }, 3, jpeg_clean, jpeg_work },
	[IMAGE_PNG] = {
	    "PNG", { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' }, 8, png_clean, png_work } };

static enum err
kind_check(const unsigned char *bytes, size_t n, enum image_kind claimed)
{
	if (n > IMAGE_BYTES_MAX)
		return fail(ERR_INPUT, "is larger than %d MiB", IMAGE_BYTES_MAX / 1024 / 1024);
	if (n < kinds[claimed].n || memcmp(bytes, kinds[claimed].begin, kinds[claimed].n) != 0)
		return fail(ERR_INPUT, "is not a %s, as it says", kinds[claimed].name);
	return OK;
}

enum err
image_clean(const unsigned char *bytes, size_t n, enum image_kind claimed, struct image *clean)
{
	enum err err = kind_check(bytes, n, claimed);

	return err != OK ? err : kinds[claimed].clean(bytes, n, clean);
}

uint64_t
image_work(const unsigned char *bytes, size_t n, enum image_kind claimed)
{
	uint64_t work = kind_check(bytes, n, claimed) == OK ? kinds[claimed].work(bytes, n) : 0;

	err_clear(); /* whoever cleans it is told */
	return work;
}
