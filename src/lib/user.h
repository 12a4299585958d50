/*
 * user: whom the programs and nginx's workers run as, when all is started by root.
 *
 * Any thread.
 */
#ifndef CAREDESK_USER_H
#define CAREDESK_USER_H

#include <sys/types.h>

#include "lib/err.h"

#define USER_GROUP_MAX 64

struct user {
	uid_t uid;
	gid_t gid; /* the primary group */
	char group[USER_GROUP_MAX]; /* its name */
};

/* ERR_INPUT if there is no user NAME, or no name of its group. */
enum err user_find(const char *name, struct user *user) MUST_CHECK;

#endif
