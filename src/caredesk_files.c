/*
 * caredesk_files: files and folders, copied whole, for backup and restore.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "caredesk.h"

#define COPY_BYTES (1024 * 1024)
#define SUB_FOLDERS 256
#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

const char *
path_in(const char *folder, const char *base, char path[FILES_PATH_SIZE])
{
	(void)snprintf(path, FILES_PATH_SIZE, "%s/%s", folder, base);
	return path;
}

enum err
path_sync(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool done = fd >= 0 && fsync(fd) == 0;
	enum err err = done ? OK : fail(ERR_BUSY, "%s: %m", path);

	if (fd >= 0)
		(void)close(fd);
	return err;
}

static enum err
copy_bytes(int from, int to, const char *name, struct progress *progress, int64_t *bytes)
{
	ssize_t n;

	while ((n = sendfile(to, from, NULL, COPY_BYTES)) != 0) {
		if (n < 0 && errno != EINTR)
			return fail(ERR_BUSY, "%s: cannot be copied: %m", name);
		*bytes += n > 0 ? n : 0;
		if (progress != NULL)
			progress_told(progress, *bytes);
	}
	return OK;
}

enum err
file_copy(
    int from, const char *name, const struct user *owner, struct progress *progress, int64_t *bytes)
{
	int to = open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	enum err err = OK;

	*bytes = 0;
	if (to < 0)
		return fail(ERR_BUSY, "%s: %m", name);
	if ((owner != NULL && fchown(to, owner->uid, owner->gid) != 0))
		err = fail(ERR_BUSY, "%s: %m", name);
	if (err == OK)
		err = copy_bytes(from, to, name, progress, bytes);
	if (err == OK && fsync(to) != 0)
		err = fail(ERR_BUSY, "%s: %m", name);
	(void)close(to);
	return err;
}

enum err
folder_make(const char *path)
{
	if (mkdir(path, 0700) == 0 || errno == EEXIST)
		return OK;
	return fail(ERR_BUSY, "%s: %m", path);
}

enum err
folder_give(const char *path, const struct user *owner)
{
	int fd = open(path, FOLDER_FLAGS);
	bool given = fd >= 0 && (owner == NULL || fchown(fd, owner->uid, owner->gid) == 0);
	enum err err = given ? OK : fail(ERR_BUSY, "%s: %m", path);

	if (fd >= 0)
		(void)close(fd);
	return err;
}

enum err
folder_allot(const char *path, uid_t owner, gid_t group, mode_t mode)
{
	int fd = open(path, FOLDER_FLAGS);
	bool given = fd >= 0 && fchown(fd, owner, group) == 0 && fchmod(fd, mode) == 0;
	enum err err = given ? OK : fail(ERR_INPUT, "data folder, %s: %m", path);

	if (fd >= 0)
		(void)close(fd);
	return err;
}

/* What is in it may be another user's, who might put links in our way: rm knows how not to follow
 * them. */
bool
folder_remove(const char *path)
{
	struct stat st;
	int status = 0;
	pid_t pid;

	if (lstat(path, &st) != 0 && errno == ENOENT)
		return true;
	if ((pid = fork()) == 0) {
		(void)execlp("rm", "rm", "-rf", "--", path, (char *)NULL);
		_exit(EXIT_FAILURE);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return pid > 0 && status == 0;
}

void
folder_discard(const char *path, const char *aside)
{
	(void)folder_remove(aside);
	if (rename(path, aside) == 0)
		(void)folder_remove(aside);
}

enum err
blobs_copy(
    struct blob *from, const char *key, const char *to, const struct user *owner, int64_t *copied)
{
	char name[FILES_PATH_SIZE];
	int64_t bytes;
	int fd;
	enum err err = blob_get(from, key, &fd, &bytes);

	if (err != OK)
		return err;
	(void)snprintf(name, sizeof(name), "%s/%.2s", to, key);
	if ((err = folder_make(name)) == OK) {
		(void)snprintf(name, sizeof(name), "%s/%s", to, key);
		err = file_copy(fd, name, owner, NULL, copied);
	}
	if (err == OK && *copied != bytes)
		err = fail(ERR_BUSY, "%s: has %lld bytes, of which %lld were copied", key,
		    (long long)bytes, (long long)*copied);
	(void)close(fd);
	return err;
}

enum err
blobs_settle(const char *to, const struct user *owner)
{
	char name[FILES_PATH_SIZE];
	enum err err = OK;

	for (int i = 0; i < SUB_FOLDERS && err == OK; i++) {
		(void)snprintf(name, sizeof(name), "%s/%02x", to, (unsigned)i);
		if (access(name, F_OK) == 0 && (err = path_sync(name)) == OK)
			err = folder_give(name, owner);
	}
	if (err == OK && (err = path_sync(to)) == OK)
		err = folder_give(to, owner);
	return err;
}
