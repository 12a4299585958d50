/*
 * confine: what a program may still do once it has begun, whatever a flaw in it would make it do.
 *
 * No privilege can be gained (no_new_privs), memory cannot be read by others nor become a core
 * file (not dumpable), files are those that it has said it needs (Landlock), system calls those of
 * a list (seccomp): no other program is started, nobody's memory is read, no memory is both written
 * and executed, and sockets are made only where that is the program's work.  What a file descriptor
 * was opened for before stays.  Nothing of it can be taken back.
 *
 * Each is done where the kernel has it; what it has not is a warning in the log, and no reason not
 * to serve.  A call that is not in the table does not kill: it fails with ENOSYS, as in a kernel
 * that is older, and the C library goes on with what it did before there was that call.
 *
 * Landlock holds for the thread that asks and those that it makes: before there are others.
 *
 * By libseccomp, and Landlock's system calls.  Sources: landlock(7), seccomp(2).
 */
#ifndef CAREDESK_CONFINE_H
#define CAREDESK_CONFINE_H

#include <stdbool.h>

#include "lib/conf.h"

#define CONFINE_PLACES_MAX 8

enum confine_sockets {
	CONFINE_NO_SOCKETS,
	CONFINE_UNIX_SOCKETS,
	CONFINE_ALL_SOCKETS, /* of IP, and to have names looked up */
};

enum confine_reach {
	CONFINE_LIST = 1, /* the names in a folder, and in those below it */
	CONFINE_READ,
	CONFINE_WRITE, /* read, write, make, rename, remove */
};

/* A file, or a folder and all below it: from the data folder, or absolute.  A file that another one
 * replaces is to be allowed by its folder. */
struct confine_place {
	const char *path;
	enum confine_reach reach;
};

/* What a program needs beyond what all do; where nothing is said, it is nothing. */
struct confine_needs {
	enum confine_sockets sockets;
	bool fetches_keys; /* also all sockets, where the keys of tokens are at a URL */
	struct confine_place places[CONFINE_PLACES_MAX]; /* up to the first without a path */
};

/* In the data folder, with CONF as it serves by: also what tokens are checked with is allowed. What
 * is in force goes to the log, in one line.  ERR_BUSY where there was no memory for it: that is
 * nothing that the kernel has not, and no reason to serve without. */
enum err confine_program(const struct confine_needs *own, const struct conf *conf) MUST_CHECK;

/* A process that has all it needs open, and only forks others, waits for them, and passes on what
 * they say by sockets that are there.  It opens no file and no socket.  Also in the log, and
 * ERR_BUSY for the same reason. */
enum err confine_keeper(void) MUST_CHECK;

/* One that such a keeper has forked: memory, and writing to what is open.  Nothing else.  It takes
 * no memory; false if it is not in force though its keeper could have it: then end. */
bool confine_worker(void) MUST_CHECK;

/* Whether this build goes without seccomp, for a sanitizer. */
bool confine_is_sanitized(void);

#endif
