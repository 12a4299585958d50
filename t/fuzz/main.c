/*
 * Without libFuzzer: runs the target over each file named, or each file of each folder named, and
 * says how many.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

#define INPUT_MAX (1024 * 1024)

static int
run_file(const char *name)
{
	FILE *file = fopen(name, "rb");
	uint8_t *bytes, *exact;
	size_t n;

	if (file == NULL || (bytes = malloc(INPUT_MAX)) == NULL) {
		perror(name);
		exit(EXIT_FAILURE);
	}
	n = fread(bytes, 1, INPUT_MAX, file);
	(void)fclose(file);
	/* Of the very size, so that a sanitizer or valgrind sees a step beyond it. */
	exact = malloc(n > 0 ? n : 1);
	if (exact == NULL)
		exit(EXIT_FAILURE);
	memcpy(exact, bytes, n);
	(void)LLVMFuzzerTestOneInput(exact, n);
	free(exact);
	free(bytes);
	return 1;
}

static int
run_folder(const char *name)
{
	struct dirent **entries;
	char path[4096];
	int count = scandir(name, &entries, NULL, alphasort), ran = 0;

	for (int i = 0; i < count; i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", name, entries[i]->d_name);
		if (entries[i]->d_name[0] != '.')
			ran += run_file(path);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
	return ran;
}

int
main(int argc, char **argv)
{
	struct stat st;
	int ran = 0;

	for (int i = 1; i < argc; i++)
		ran += stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode) ? run_folder(argv[i])
								      : run_file(argv[i]);
	(void)printf("%d inputs\n", ran);
	return ran > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
