/*
 * strip: what must be done to an uploaded JPEG at the least, by libjpeg and nothing else: the file
 *is read, its segments that are not of the pixels are left out, what remains is decoded in full,
 *and written and synced.  One that lies on its side (orientation 6) has its blocks turned instead,
 *with new tables of codes, as src/lib/image.c does.  It believes its input: sizes and ends are not
 *checked.
 *
 *	strip FROM TO ORIENTATION TIMES
 *
 * Prints how many seconds each time took.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <jpeglib.h>

#define ON_ITS_SIDE 6

struct file {
	unsigned char *bytes;
	unsigned long n;
};

static _Noreturn void
die(const char *what)
{
	(void)fprintf(stderr, "strip: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static double
now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct file
read_file(const char *name)
{
	int fd = open(name, O_RDONLY);
	struct file file;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0 || (file.bytes = malloc((size_t)st.st_size)) == NULL)
		die(name);
	file.n = (unsigned long)st.st_size;
	for (unsigned long done = 0; done < file.n;) {
		ssize_t n = read(fd, file.bytes + done, file.n - done);

		if (n <= 0)
			die(name);
		done += (unsigned long)n;
	}
	(void)close(fd);
	return file;
}

static void
write_file(const char *name, const struct file *file)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0)
		die(name);
	for (unsigned long done = 0; done < file->n;) {
		ssize_t n = write(fd, file->bytes + done, file->n - done);

		if (n <= 0)
			die(name);
		done += (unsigned long)n;
	}
	if (fsync(fd) != 0)
		die(name);
	(void)close(fd);
}

/* The file without APP1 to APP15 and comments. */
static struct file
strip(const struct file *in)
{
	struct file out = { malloc(in->n), 2 };
	unsigned long at = 2, n;

	if (out.bytes == NULL)
		die("memory");
	memcpy(out.bytes, in->bytes, 2);
	while (in->bytes[at + 1] != 0xda) {
		int marker = in->bytes[at + 1];

		n = 2 + (unsigned long)(in->bytes[at + 2] << 8 | in->bytes[at + 3]);
		if (marker != 0xfe && (marker < 0xe1 || marker > 0xef)) {
			memcpy(out.bytes + out.n, in->bytes + at, n);
			out.n += n;
		}
		at += n;
	}
	memcpy(out.bytes + out.n, in->bytes + at, in->n - at);
	out.n += in->n - at;
	return out;
}

/* Every symbol; the pixels at an eighth of their size, for nobody looks at them. */
static void
decode(const struct file *file)
{
	struct jpeg_decompress_struct in;
	struct jpeg_error_mgr errors;
	JSAMPARRAY row;

	in.err = jpeg_std_error(&errors);
	jpeg_create_decompress(&in);
	jpeg_mem_src(&in, file->bytes, file->n);
	(void)jpeg_read_header(&in, TRUE);
	in.out_color_space = in.jpeg_color_space;
	in.scale_denom = 8;
	(void)jpeg_start_decompress(&in);
	row = in.mem->alloc_sarray(
	    (j_common_ptr)&in, JPOOL_IMAGE, in.output_width * (JDIMENSION)in.output_components, 1);
	while (in.output_scanline < in.output_height)
		(void)jpeg_read_scanlines(&in, row, 1);
	(void)jpeg_finish_decompress(&in);
	jpeg_destroy_decompress(&in);
}

/* A block turned to the right: transposed, and then its odd columns negated. */
static void
turn_block(const JCOEF *from, JCOEF *to)
{
	for (int v = 0; v < DCTSIZE; v++)
		for (int u = 0; u < DCTSIZE; u++) {
			JCOEF value = from[u * DCTSIZE + v];

			to[v * DCTSIZE + u] = (JCOEF)(u % 2 == 1 ? -value : value);
		}
}

/* All blocks of a component into TURNED, which has its sides exchanged. */
static void
turn_component(struct jpeg_decompress_struct *in, jvirt_barray_ptr stored, jvirt_barray_ptr turned,
    const jpeg_component_info *from)
{
	JDIMENSION across = from->height_in_blocks, down = from->width_in_blocks;

	for (JDIMENSION y = 0; y < down; y++) {
		JBLOCKARRAY to = in->mem->access_virt_barray((j_common_ptr)in, turned, y, 1, TRUE);

		for (JDIMENSION x = 0; x < across; x++) {
			JBLOCKARRAY row = in->mem->access_virt_barray(
			    (j_common_ptr)in, stored, across - 1 - x, 1, FALSE);

			turn_block(row[0][y], to[0][x]);
		}
	}
}

static void
turn_parameters(struct jpeg_decompress_struct *in, struct jpeg_compress_struct *out)
{
	jpeg_copy_critical_parameters(in, out);
	out->optimize_coding = TRUE;
	out->image_width = in->image_height;
	out->image_height = in->image_width;
	for (int c = 0; c < out->num_components; c++) {
		out->comp_info[c].h_samp_factor = in->comp_info[c].v_samp_factor;
		out->comp_info[c].v_samp_factor = in->comp_info[c].h_samp_factor;
	}
	for (int i = 0; i < NUM_QUANT_TBLS; i++)
		for (int v = 0; out->quant_tbl_ptrs[i] != NULL && v < DCTSIZE; v++)
			for (int u = 0; u < DCTSIZE; u++)
				out->quant_tbl_ptrs[i]->quantval[v * DCTSIZE + u] =
				    in->quant_tbl_ptrs[i]->quantval[u * DCTSIZE + v];
}

static struct file
turn(const struct file *file)
{
	struct jpeg_decompress_struct in;
	struct jpeg_compress_struct out;
	struct jpeg_error_mgr errors;
	struct file turned = { 0 };
	jvirt_barray_ptr *stored, arrays[4];

	in.err = out.err = jpeg_std_error(&errors);
	jpeg_create_decompress(&in);
	jpeg_create_compress(&out);
	jpeg_mem_src(&in, file->bytes, file->n);
	(void)jpeg_read_header(&in, TRUE);
	for (int c = 0; c < in.num_components; c++) {
		const jpeg_component_info *from = &in.comp_info[c];
		JDIMENSION mcus_across = (in.image_height + 15) / 16,
			   mcus_down = (in.image_width + 15) / 16;

		arrays[c] = in.mem->request_virt_barray((j_common_ptr)&in, JPOOL_IMAGE, FALSE,
		    mcus_across * (JDIMENSION)from->v_samp_factor,
		    mcus_down * (JDIMENSION)from->h_samp_factor, (JDIMENSION)from->h_samp_factor);
	}
	stored = jpeg_read_coefficients(&in);
	for (int c = 0; c < in.num_components; c++)
		turn_component(&in, stored[c], arrays[c], &in.comp_info[c]);
	turn_parameters(&in, &out);
	jpeg_mem_dest(&out, &turned.bytes, &turned.n);
	jpeg_write_coefficients(&out, arrays);
	jpeg_finish_compress(&out);
	jpeg_destroy_compress(&out);
	jpeg_destroy_decompress(&in);
	return turned;
}

int
main(int argc, char **argv)
{
	if (argc != 5) {
		(void)fprintf(stderr, "usage: strip FROM TO ORIENTATION TIMES\n");
		return 2;
	}
	for (int i = 0; i < atoi(argv[4]); i++) {
		double begin = now();
		struct file in = read_file(argv[1]), clean = strip(&in), turned = { 0 };

		if (atoi(argv[3]) == ON_ITS_SIDE)
			turned = turn(&clean);
		else
			decode(&clean);
		write_file(argv[2], turned.bytes != NULL ? &turned : &clean);
		(void)printf("%.6f\n", now() - begin);
		free(in.bytes);
		free(clean.bytes);
		free(turned.bytes);
	}
	return EXIT_SUCCESS;
}
