#include "lib/health.h"

#include "lib/jsonw.h"
#include "lib/log.h"

enum err
health_answer(struct response *res, enum err storage)
{
	struct jsonw w;

	if (storage != OK) {
		log_event(LOG_ERROR, "not_well", "%s", err_words());
		return fail(ERR_BUSY, "the storage is not well; the log says why");
	}
	response_begin(res, 200, "application/json");
	jsonw_open(&w, response_write, res);
	jsonw_object_begin(&w, NULL);
	jsonw_string(&w, "status", "ok");
	jsonw_object_end(&w);
	return jsonw_close(&w);
}
