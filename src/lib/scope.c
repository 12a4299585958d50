#include "lib/scope.h"

#include <stdlib.h>
#include <string.h>

const struct scope scope_all = { .all = true };

/* Which roles give what: all there is, what is of theirs, what is one's own, the account of one's
 * name. */
static const struct {
	unsigned all, theirs, own, account;
} rights[] = {
	[SCOPE_EVENTS_READ] = { ROLE_ACCOUNTANT | ROLE_ADMIN, ROLE_MANAGER, ROLE_CAREGIVER, 0 },
	[SCOPE_EVENTS_CREATE] = { ROLE_ADMIN, ROLE_MANAGER, ROLE_CAREGIVER, 0 },
	[SCOPE_EVENTS_DELETE] = { ROLE_ADMIN, 0, ROLE_CAREGIVER, 0 },
	[SCOPE_ACCOUNTS_READ] = { ROLE_MANAGER | ROLE_ADMIN, 0, 0, ROLE_CAREGIVER },
};

static int
compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

size_t
scope_sort(int64_t *ids, size_t count)
{
	size_t kept = 0;

	if (count > 1) /* of none there may be no array */
		qsort(ids, count, sizeof(*ids), compare);
	for (size_t i = 0; i < count; i++)
		if (kept == 0 || ids[i] != ids[kept - 1])
			ids[kept++] = ids[i];
	return kept;
}

/* A name that is no mail address is that of no account. */
static void
take_email(struct scope *scope, const char *name)
{
	char folded[EMAIL_SIZE];
	size_t n;

	if (email_fold(name, strlen(name), folded, &n) == OK && n < sizeof(scope->email))
		memcpy(scope->email, folded, n + 1);
}

void
scope_begin(struct scope *scope, enum scope_right right, const struct who *who)
{
	const unsigned roles = who->roles;

	scope->all = (roles & rights[right].all) != 0;
	scope->count = 0;
	scope->email[0] = '\0';
	if (!scope->all && (roles & rights[right].theirs) != 0) {
		scope->count = who->caregiver_count;
		memcpy(scope->ids, who->caregivers, scope->count * sizeof(scope->ids[0]));
	}
	if (!scope->all && (roles & rights[right].own) != 0 && who->caregiver_id != 0)
		scope->ids[scope->count++] = who->caregiver_id;
	if (!scope->all && (roles & rights[right].account) != 0)
		take_email(scope, who->name);
	scope->count = scope_sort(scope->ids, scope->count);
}

void
scope_narrow(struct scope *scope, const int64_t *ids, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0, at = 0; i < scope->count; i++) {
		while (at < count && ids[at] < scope->ids[i])
			at++;
		if (at < count && ids[at] == scope->ids[i])
			scope->ids[kept++] = scope->ids[i];
	}
	scope->count = kept;
}

bool
scope_has(const struct scope *scope, int64_t caregiver_id)
{
	return scope->all ||
	    bsearch(&caregiver_id, scope->ids, scope->count, sizeof(scope->ids[0]), compare) !=
	    NULL;
}

void
scope_bind(const struct scope *scope, struct db_query *q)
{
	if (scope->all)
		db_bind_null(q);
	else
		db_bind_ints(q, scope->ids, scope->count);
}
