/*
 * commit as it is, but with a transaction for each change: what shared commits are held against.
 */
#include "lib/commit.h"

#undef COMMIT_CHANGES_MAX
#define COMMIT_CHANGES_MAX 1

#include "lib/commit.c"
