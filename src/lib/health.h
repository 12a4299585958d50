/*
 * health: what a program with storage says of itself under /healthz/PROGRAM.
 *
 * Any thread.
 */
#ifndef CAREDESK_HEALTH_H
#define CAREDESK_HEALTH_H

#include "lib/err.h"
#include "lib/response.h"

/* Answers {"status":"ok"} where STORAGE is OK; else ERR_BUSY, whatever it was, with words for the
 * client, and the thread's own words in the log. */
enum err health_answer(struct response *res, enum err storage) MUST_CHECK;

#endif
