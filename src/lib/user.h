/*
 * user: whom the programs and nginx's workers run as, when all is started by root.
 *
 * Any thread, but user_become(), which is for before there are any.
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

/* Root gives itself up for user NAME, with its groups, for good; anybody else stays who it is. */
enum err user_become(const char *name) MUST_CHECK;

#endif
