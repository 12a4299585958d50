/*
 * scope: what of the data who asks may have: all of it, or what is of some caregivers, or the
 * account of one mail address.
 *
 * It is bound into the statements themselves, so that what is foreign is as if it were not there:
 * no count, page or ETag tells the two apart.  Several roles give what each of them gives.  Plain
 * data; any thread.
 */
#ifndef CAREDESK_SCOPE_H
#define CAREDESK_SCOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/db.h"
#include "lib/email.h"
#include "lib/who.h"

#define SCOPE_CAREGIVERS_MAX (WHO_CAREGIVERS_MAX + 1) /* theirs, and one's own */

enum scope_right {
	SCOPE_EVENTS_READ,
	SCOPE_EVENTS_CREATE,
	SCOPE_EVENTS_DELETE,
	SCOPE_ACCOUNTS_READ
};

struct scope {
	bool all; /* nothing of what follows matters */
	size_t count;
	int64_t ids[SCOPE_CAREGIVERS_MAX]; /* of caregivers, ascending, each once */
	char email[WHO_NAME_MAX + EMAIL_DOMAIN_MAX + 1]; /* folded; "" for nobody's */
};

/* For who is asked nothing: the operator's command, health, tests. */
extern const struct scope scope_all;

/* IDS ascending, each once; how many that are. */
size_t scope_sort(int64_t *ids, size_t count);

/* What RIGHT gives to WHO, by their roles. */
void scope_begin(struct scope *scope, enum scope_right right, const struct who *who);

/* Leaves those that are also among COUNT of IDS, which are ascending, each once. */
void scope_narrow(struct scope *scope, const int64_t *ids, size_t count);

/* The next parameter: the caregivers as JSON, or NULL where all is theirs. */
void scope_bind(const struct scope *scope, struct db_query *q);

bool scope_has(const struct scope *scope, int64_t caregiver_id);

#endif
