/*
 * constant: the same answer as floor gives, by way of everything a program of ours goes through:
 * main, serve, request, route, jsonw, response, and a log line.
 */
#include "lib/jsonw.h"
#include "lib/serve.h"

static enum err
constant_get(struct request *req, struct response *res)
{
	struct jsonw w;

	(void)req;
	response_begin(res, 200, "application/json");
	jsonw_open(&w, response_write, res);
	jsonw_object_begin(&w, NULL);
	jsonw_int(&w, "oop_max", 20000);
	jsonw_int(&w, "remaining_oop_max", 9000);
	jsonw_int(&w, "copay", 50000000);
	jsonw_object_end(&w);
	return jsonw_close(&w);
}

static const struct route routes[] = {
	{ METHOD_GET, "/shelf/{method}", ROLES_ANYONE, constant_get, NULL }, { 0 }
};

const struct program program = { "constant", routes, NULL, NULL, NULL };
