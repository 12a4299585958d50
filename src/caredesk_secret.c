/*
 * caredesk_secret: files with a secret that the house makes for itself, once.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caredesk.h"
#include "lib/conf.h"
#include "lib/log.h"
#include "lib/text.h"
#include "lib/user.h"

#define DIGITS "0123456789abcdef"
#define TOKEN_BYTES 64
#define TOKEN_FOLDER "run/secret" /* of CONF_SECRET_FILE */
#define TOKEN_BEFORE "run/token-secret" /* where it was before it had a folder */

/* The file with DIGITS_N digits that is there, or -1. */
static int
open_old(const char *file, size_t digits_n)
{
	char text[2 * SECRET_BYTES_MAX + 1] = "";
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd >= 0 && read(fd, text, digits_n) == (ssize_t)digits_n &&
	    strspn(text, DIGITS) == digits_n)
		return fd;
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

/* Readable for root, the user's group, and nobody else. */
static bool
allot(int fd, const struct user *user)
{
	return fchown(fd, geteuid(), user->gid) == 0 &&
	    fchmod(fd, geteuid() == 0 ? 0640 : 0600) == 0;
}

/* A new one, which has its name once it is whole, USER's and on disk; -1 with errno. */
static int
open_new(const char *file, size_t bytes_n, const struct user *user)
{
	unsigned char bytes[SECRET_BYTES_MAX];
	char text[2 * SECRET_BYTES_MAX + 1], beside[PATH_MAX];
	ssize_t n = (ssize_t)(2 * bytes_n);
	int fd;

	(void)snprintf(beside, sizeof(beside), "%s.new", file);
	(void)unlink(beside);
	if (getrandom(bytes, bytes_n, 0) != (ssize_t)bytes_n ||
	    (fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
		return -1;
	text_to_hex(bytes, bytes_n, text);
	if (write(fd, text, (size_t)n) == n && allot(fd, user) && fsync(fd) == 0 &&
	    rename(beside, file) == 0)
		return fd;
	(void)close(fd);
	return -1;
}

/* Whose group reads what root makes; without root, our own. */
static enum err
find_reader(const char *name, struct user *user)
{
	*user = (struct user){ .uid = geteuid(), .gid = getegid() };
	return geteuid() == 0 ? user_find(name, user) : OK;
}

/* What is there is allotted anew: it may have been another's before. */
enum err
secret_make(const char *file, size_t bytes_n, const char *user_name)
{
	struct user user;
	enum err err = find_reader(user_name, &user);
	int fd = err == OK ? open_old(file, 2 * bytes_n) : -1;

	if (err == OK && fd < 0)
		fd = open_new(file, bytes_n, &user);
	if (err == OK && (fd < 0 || !allot(fd, &user)))
		err = fail(ERR_INPUT, "%s: %m", file);
	if (fd >= 0)
		(void)close(fd);
	return err;
}

/* One of before is the one that tokens are signed with, whatever is there: an older caredesk has
 * made it since.  What is no whole one is left where it is. */
static enum err
take_before(void)
{
	int fd = open_old(TOKEN_BEFORE, 2 * TOKEN_BYTES);

	if (fd < 0)
		return OK;
	(void)close(fd);
	if (rename(TOKEN_BEFORE, CONF_SECRET_FILE) != 0)
		return fail(ERR_INPUT, TOKEN_BEFORE ": %m");
	log_event(LOG_INFO, "keys", TOKEN_BEFORE " is " CONF_SECRET_FILE " from now on");
	return OK;
}

enum err
secret_make_for_tokens(const char *user_name)
{
	struct user user;
	enum err err = find_reader(user_name, &user);

	if (err == OK && (err = folder_make(TOKEN_FOLDER)) == OK)
		err = folder_allot(TOKEN_FOLDER, geteuid(), user.gid, geteuid() == 0 ? 0750 : 0700);
	if (err == OK)
		err = take_before();
	return err == OK ? secret_make(CONF_SECRET_FILE, TOKEN_BYTES, user_name) : err;
}
