/*
 * events_import: many events in one request, NDJSON, all or none.
 */
#include "events.h"

#include "lib/bulk.h"
#include "lib/jsonw.h"

#define READ_BYTES 8192 /* as much as libfcgi has at once; each thread has them on its stack */
#define SHARED_MAX 1000 /* events of an import that shares its commit with others */

struct import {
	struct bulk *bulk;
	struct audit_actor actor;
	struct answer answer;
};

static enum err
make_import(struct db *db, void *arg)
{
	struct import *import = arg;
	struct jsonw w;
	enum err err = bulk_write(import->bulk, db, &import->actor, NULL, NULL);

	if (err != OK)
		return err;
	answer_begin(&import->answer, 201);
	jsonw_open(&w, answer_write, &import->answer);
	jsonw_object_begin(&w, NULL);
	jsonw_int(&w, "created", bulk_count(import->bulk));
	jsonw_object_end(&w);
	return jsonw_close(&w);
}

/* The whole text, through the checks of every line. */
static enum err
read_lines(struct request *req, struct import *import)
{
	char bytes[READ_BYTES];
	size_t got;
	enum err err;

	while ((err = request_read(req, bytes, sizeof(bytes), &got)) == OK && got > 0) {
		answer_digest(&import->answer, bytes, got);
		if ((err = bulk_add(import->bulk, bytes, got)) != OK)
			return err;
	}
	return err != OK ? err : bulk_end(import->bulk);
}

enum err
event_import(struct request *req, struct response *res)
{
	struct import import = { 0 };
	struct scope scope;
	enum err err = answer_open(req, &import.answer);

	scope_begin(&scope, SCOPE_EVENTS_CREATE, &req->who_bytes);
	if (err == OK &&
	    (err = bulk_open("db", &scope, events_earliest(req), &import.bulk)) == OK &&
	    (err = read_lines(req, &import)) == OK) {
		import.actor = audit_actor_of(req); /* now, not when its first line came */
		import.answer.alone = bulk_count(import.bulk) > SHARED_MAX;
		err = answer_commit(&import.answer, events.commit, make_import, &import);
	}
	if (err == OK)
		err = answer_send(&import.answer, res);
	bulk_close(import.bulk);
	answer_close(&import.answer);
	return err;
}
