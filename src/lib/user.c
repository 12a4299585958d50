#include "lib/user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ENTRY_MAX 16384

/* Of errors that say nothing of whether there is one. */
static bool
is_for_now(int error)
{
	return error == ENOMEM || error == EMFILE || error == ENFILE || error == EIO ||
	    error == EINTR;
}

enum err
user_find(const char *name, struct user *user)
{
	char buffer[ENTRY_MAX];
	struct passwd entry, *found = NULL;
	struct group group_entry, *group = NULL;

	if (is_for_now(errno = getpwnam_r(name, &entry, buffer, sizeof(buffer), &found)))
		return fail(ERR_BUSY, "user %s cannot be looked up: %m", name);
	if (found == NULL)
		return fail(ERR_INPUT, "user %s does not exist", name);
	user->uid = found->pw_uid;
	user->gid = found->pw_gid;
	errno = getgrgid_r(user->gid, &group_entry, buffer, sizeof(buffer), &group);
	if (is_for_now(errno))
		return fail(ERR_BUSY, "the group of user %s cannot be looked up: %m", name);
	if (group == NULL || strlen(group->gr_name) >= sizeof(user->group))
		return fail(ERR_INPUT, "the group of user %s has no name", name);
	(void)snprintf(user->group, sizeof(user->group), "%s", group->gr_name);
	return OK;
}

enum err
user_become(const char *name)
{
	struct user user;
	enum err err;

	if (geteuid() != 0)
		return OK;
	if ((err = user_find(name, &user)) != OK)
		return err;
	if (initgroups(name, user.gid) != 0 || setgid(user.gid) != 0 || setuid(user.uid) != 0 ||
	    (user.uid != 0 && setuid(0) == 0))
		return fail(ERR_INTERNAL, "cannot become user %s: %m", name);
	return OK;
}
