/*
 * caredesk_docs: html/docs, the page at /docs: Swagger UI with our own document.
 *
 * nginx's workers are another user, who may not be able to walk to where Swagger UI lies: so it is
 * copied into the data folder.  What is as it ought to be is left alone, so that a restart costs a
 * reader's cache nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caredesk.h"
#include "lib/embedded.h"
#include "lib/log.h"

#define DOCS "html/docs/"
#define PAGE "index.html"
#define PART DOCS "part" /* a file being made, before it has its name */
#define FILE_MAX_BYTES (16 * 1024 * 1024)

extern const struct embedded web_files[];

static const char *const swagger_ui_files[] = {
	"favicon-16x16.png",
	"favicon-32x32.png",
	"swagger-ui-bundle.js",
	"swagger-ui.css",
};

#define SWAGGER_UI_FILES (sizeof(swagger_ui_files) / sizeof(swagger_ui_files[0]))

/* The N bytes of a file; NULL if it is not there, or no such file.  FLAGS are for open(2). */
static char *
file_read(const char *path, int flags, size_t *n)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
	struct stat st;
	char *bytes = NULL;
	ssize_t got = 0;

	*n = 0;
	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= FILE_MAX_BYTES)
		bytes = malloc((size_t)st.st_size + 1);
	while (bytes != NULL && *n < (size_t)st.st_size &&
	    (got = read(fd, bytes + *n, (size_t)st.st_size - *n)) > 0)
		*n += (size_t)got;
	(void)close(fd);
	if (got >= 0)
		return bytes;
	free(bytes);
	return NULL;
}

static bool
file_holds(const char *path, const char *bytes, size_t n)
{
	size_t held_n;
	char *held = file_read(path, O_NOFOLLOW, &held_n);
	bool same = held != NULL && held_n == n && memcmp(held, bytes, n) == 0;

	free(held);
	return same;
}

/* The file NAME of DOCS, written beside and renamed, so that nobody reads half of it. */
static enum err
put_file(const char *name, const char *bytes, size_t n)
{
	char path[128];
	FILE *out;
	bool whole;

	(void)snprintf(path, sizeof(path), DOCS "%s", name);
	if (file_holds(path, bytes, n))
		return OK;
	if ((out = fopen(PART, "we")) == NULL)
		return fail(ERR_INPUT, "%s cannot be written: %m", path);
	whole = fwrite(bytes, 1, n, out) == n && fchmod(fileno(out), 0644) == 0;
	whole = fclose(out) == 0 && whole && rename(PART, path) == 0;
	return whole ? OK : fail(ERR_INPUT, "%s cannot be written: %m", path);
}

/* Copies the file NAME of Swagger UI from FOLDER; *THERE becomes false if it is not there. */
static enum err
copy_file(const char *folder, const char *name, bool *there)
{
	char path[PATH_MAX + 64];
	char *bytes;
	size_t n;
	enum err err;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	bytes = file_read(path, 0, &n);
	*there = bytes != NULL;
	err = *there ? put_file(name, bytes, n) : OK;
	free(bytes);
	return err;
}

static enum err
copy_swagger_ui(const char *program_dir, bool *there)
{
	char folder[PATH_MAX + 32];
	enum err err = OK;

	(void)snprintf(folder, sizeof(folder), "%s/swagger-ui", program_dir);
	if (access(folder, X_OK) != 0)
		(void)snprintf(folder, sizeof(folder), "%s", SWAGGER_UI_DIR);
	*there = true;
	for (size_t i = 0; i < SWAGGER_UI_FILES && *there && err == OK; i++)
		err = copy_file(folder, swagger_ui_files[i], there);
	return err;
}

enum err
docs_put(const char *program_dir)
{
	bool there;
	enum err err = copy_swagger_ui(program_dir, &there);

	if (!there) {
		log_event(LOG_WARNING, "docs_missing",
		    "Swagger UI is not there, so /docs is not either; /docs/openapi.yaml is");
		if (unlink(DOCS PAGE) != 0 && errno != ENOENT)
			err = fail(ERR_INPUT, DOCS PAGE " cannot be removed: %m");
	}
	for (const struct embedded *file = web_files; file->name != NULL && err == OK; file++)
		if (there || strcmp(file->name, PAGE) != 0)
			err = put_file(file->name, file->text, strlen(file->text));
	return err;
}
