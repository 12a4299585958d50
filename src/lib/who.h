/*
 * who: who asks: a name, roles, and for whom.
 *
 * Filled by auth out of a token, or for those who need none; read by route and by handlers.  Plain
 * data; any thread.
 */
#ifndef CAREDESK_WHO_H
#define CAREDESK_WHO_H

#include <stddef.h>
#include <stdint.h>

#define WHO_NAME_MAX 255 /* bytes */
#define WHO_CAREGIVERS_MAX 1000
#define WHO_ANYONE "anonymous" /* without access control, or where nobody is asked for a token */
#define WHO_OPERATOR "operator" /* by nginx's private socket, or the operator's command */

enum role {
	ROLE_CAREGIVER = 1 << 0,
	ROLE_MANAGER = 1 << 1,
	ROLE_ACCOUNTANT = 1 << 2,
	ROLE_ADMIN = 1 << 3,
	ROLE_NONE = 1 << 4, /* also without a token */
	ROLE_OPERATOR = 1 << 5 /* by nginx's private socket only, whatever a token says */
};

#define ROLES_ALL (ROLE_CAREGIVER | ROLE_MANAGER | ROLE_ACCOUNTANT | ROLE_ADMIN)
#define ROLES_ANYONE (ROLES_ALL | ROLE_NONE)
#define ROLE_COUNT 4 /* that a token may name */

/* As tokens and lists of routes name them, by bit. */
static const char *const role_names[] = { "caregiver", "manager", "accountant", "admin", "anyone" };

struct who {
	char name[WHO_NAME_MAX + 1];
	unsigned roles; /* enum role */
	int64_t caregiver_id; /* who they are; 0: no caregiver */
	int64_t expires_s; /* Unix time, when this is no longer so */
	size_t caregiver_count;
	int64_t caregivers[WHO_CAREGIVERS_MAX]; /* whose manager they are */
};

#endif
