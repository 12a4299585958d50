/*
 * Without libFuzzer: runs the target over each file named, or each file of each folder named, and
 * then, with -runs=N, over so many mutations of them, the same ones each time; says how many.
 *
 * -keep=FILE: the mutation that is being run stands in FILE, so that one that breaks the target is
 * left there.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

#define INPUT_MAX (1024 * 1024)
#define MUTATED_MAX 8192 /* of a longer input, so many bytes */
#define EDITS_MAX 4
#define BUDGET_S 1 /* of the processor, for targets that are slow, or built with sanitizers */

struct input {
	uint8_t *bytes;
	size_t n;
};

static struct {
	struct input *inputs;
	size_t count;
	uint64_t state; /* of the generator (xorshift64) */
	int keep_fd;
} seen = { .state = 88172645463325252u, .keep_fd = -1 };

static void *
must(void *p)
{
	if (p == NULL)
		exit(EXIT_FAILURE);
	return p;
}

/* In memory of the very size, so that a sanitizer or valgrind sees a step beyond it. */
static void
run(const uint8_t *bytes, size_t n)
{
	uint8_t *exact = must(malloc(n > 0 ? n : 1));

	memcpy(exact, bytes, n);
	(void)LLVMFuzzerTestOneInput(exact, n);
	free(exact);
}

static void
run_file(const char *name)
{
	FILE *file = fopen(name, "rb");
	struct input input = { must(malloc(INPUT_MAX)), 0 };

	if (file == NULL) {
		perror(name);
		exit(EXIT_FAILURE);
	}
	input.n = fread(input.bytes, 1, INPUT_MAX, file);
	(void)fclose(file);
	run(input.bytes, input.n);
	input.bytes = must(realloc(input.bytes, input.n > 0 ? input.n : 1));
	seen.inputs = must(realloc(seen.inputs, (seen.count + 1) * sizeof(input)));
	seen.inputs[seen.count++] = input;
}

static void
run_folder(const char *name)
{
	struct dirent **entries;
	char path[4096];
	int count = scandir(name, &entries, NULL, alphasort);

	for (int i = 0; i < count; i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", name, entries[i]->d_name);
		if (entries[i]->d_name[0] != '.')
			run_file(path);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

/* 0..MOST-1. */
static size_t
draw(size_t most)
{
	seen.state ^= seen.state << 13;
	seen.state ^= seen.state >> 7;
	seen.state ^= seen.state << 17;
	return (size_t)(seen.state % most);
}

/* The bytes that parsers look for. */
static uint8_t
draw_byte(void)
{
	static const char wanted[] = "\0\n\r\t \"\\'/%&?=;:,.-+*#[]{}()<>_~019aAzZ\x7f\x80\xc3\xff";

	return draw(2) == 0 ? (uint8_t)draw(256) : (uint8_t)wanted[draw(sizeof(wanted) - 1)];
}

/* Puts COUNT bytes in the place of GONE ones. */
static void
put_in_place(struct input *in, size_t at, size_t gone, const uint8_t *bytes, size_t count)
{
	if (in->n - gone + count > MUTATED_MAX)
		return;
	memmove(in->bytes + at + count, in->bytes + at + gone, in->n - at - gone);
	memcpy(in->bytes + at, bytes, count);
	in->n += count - gone;
}

/* One change: a byte, a bit, some bytes less, twice, or out of another input. */
static void
edit(struct input *in)
{
	uint8_t piece[64], byte = draw_byte();
	size_t at = draw(in->n + 1), left = in->n - at;
	size_t some = draw(sizeof(piece)) + 1, from;
	const struct input *other = &seen.inputs[draw(seen.count)];

	some = some < left ? some : left;
	switch (draw(6)) {
	case 0:
		put_in_place(in, at, left > 0, &byte, 1);
		break;
	case 1:
		put_in_place(in, at, 0, &byte, 1);
		break;
	case 2:
		if (left > 0)
			in->bytes[at] ^= (uint8_t)(1u << draw(8));
		break;
	case 3:
		put_in_place(in, at, some, piece, 0);
		break;
	case 4:
		memcpy(piece, in->bytes + at, some);
		put_in_place(in, at, 0, piece, some);
		break;
	default:
		from = draw(other->n + 1);
		some = other->n - from < sizeof(piece) ? other->n - from : sizeof(piece);
		put_in_place(in, at, draw(left + 1), other->bytes + from, some);
	}
}

static void
keep(const struct input *in)
{
	if (seen.keep_fd >= 0 &&
	    (pwrite(seen.keep_fd, in->bytes, in->n, 0) != (ssize_t)in->n ||
		ftruncate(seen.keep_fd, (off_t)in->n) != 0))
		exit(EXIT_FAILURE);
}

static unsigned long
run_mutations(unsigned long runs)
{
	static uint8_t bytes[MUTATED_MAX];
	unsigned long ran = 0;
	const clock_t end = clock() + BUDGET_S * CLOCKS_PER_SEC;

	for (; ran < runs && clock() < end; ran++) {
		const struct input *seed = &seen.inputs[ran % seen.count];
		struct input in = { bytes, seed->n < MUTATED_MAX ? seed->n : MUTATED_MAX };

		memcpy(bytes, seed->bytes, in.n);
		for (size_t edits = draw(EDITS_MAX) + 1; edits > 0; edits--)
			edit(&in);
		keep(&in);
		run(in.bytes, in.n);
	}
	return ran;
}

int
main(int argc, char **argv)
{
	unsigned long runs = 0;
	const char *kept = NULL;
	struct stat st;

	for (int i = 1; i < argc; i++)
		if (strncmp(argv[i], "-runs=", 6) == 0)
			runs = strtoul(argv[i] + 6, NULL, 10);
		else if (strncmp(argv[i], "-keep=", 6) == 0)
			kept = argv[i] + 6;
		else if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
			run_folder(argv[i]);
		else
			run_file(argv[i]);
	if (seen.count == 0)
		return EXIT_FAILURE;
	if (kept != NULL &&
	    (seen.keep_fd = open(kept, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) < 0)
		return EXIT_FAILURE;
	runs = run_mutations(runs);
	if (kept != NULL)
		(void)unlink(kept);
	(void)printf("%zu inputs, %lu mutations\n", seen.count, runs);
	for (size_t i = 0; i < seen.count; i++)
		free(seen.inputs[i].bytes);
	free(seen.inputs);
	return EXIT_SUCCESS;
}
