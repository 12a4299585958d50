/*
 * events.h: the program events, by its parts: events.c has the routes and the events themselves,
 * events_types.c their types and prices, events_import.c many events at once.
 */
#ifndef CAREDESK_EVENTS_H
#define CAREDESK_EVENTS_H

#include "lib/answer.h"
#include "lib/commit.h"
#include "lib/db.h"
#include "lib/jsonr.h"
#include "lib/ledger.h"
#include "lib/request.h"
#include "lib/response.h"
#include "lib/scope.h"

#define EVENTS_BODY_MAX (64 * 1024)
#define EVENTS_QUERY_US (10 * INT64_C(1000000)) /* the longest that a list may take */

/* What the whole program shares. */
struct events {
	struct commit *commit;
	struct db_readers *readers;
	int64_t window_us; /* events older than this are refused; 0: none is */
};

extern struct events events;

/* The earliest start_time that REQ may register, or delete again; INT64_MIN: any. */
int64_t events_earliest(const struct request *req);

/* A connection with a snapshot, and its end. */
enum err events_read(struct db **db) MUST_CHECK;
void events_read_end(struct db *db);

enum err event_import(struct request *req, struct response *res) MUST_CHECK;

enum err types_list(struct request *req, struct response *res) MUST_CHECK;
enum err type_create(struct request *req, struct response *res) MUST_CHECK;
enum err type_get(struct request *req, struct response *res) MUST_CHECK;
enum err type_change(struct request *req, struct response *res) MUST_CHECK;
enum err type_delete(struct request *req, struct response *res) MUST_CHECK;
enum err prices_list(struct request *req, struct response *res) MUST_CHECK;

#endif
