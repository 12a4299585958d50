/*
 * accounts_erase: leaves nothing of a person, or records that their data is given out, for the
 * operator's command (see person.h).
 */
#include "accounts.h"

#include "lib/jsonw.h"
#include "lib/person.h"

static enum err
send_erased(const struct person_erased *erased, struct response *res)
{
	struct jsonw w;

	response_begin(res, 200, "application/json");
	jsonw_open(&w, response_write, res);
	jsonw_object_begin(&w, NULL);
	jsonw_int(&w, "accounts", erased->accounts);
	jsonw_int(&w, "images", erased->images);
	jsonw_int(&w, "answers", erased->answers);
	jsonw_object_end(&w);
	return jsonw_close(&w);
}

enum err
account_export(struct request *req, struct response *res)
{
	struct jsonw w;
	int64_t id;
	enum err err = request_id(req, "id", &id);

	if (err != OK || (err = person_exported(accounts.commit, id)) != OK)
		return err;
	response_begin(res, 200, "application/json");
	jsonw_open(&w, response_write, res);
	jsonw_object_begin(&w, NULL);
	jsonw_int(&w, "id", id);
	jsonw_object_end(&w);
	return jsonw_close(&w);
}

enum err
account_erase(struct request *req, struct response *res)
{
	struct person_erased erased;
	int64_t id;
	enum err err = request_id(req, "id", &id);

	if (err != OK)
		return err;
	if ((err = person_erase(accounts.commit, accounts.blobs, id, &erased)) == ERR_BUSY)
		images_sweep_later();
	if (err != OK)
		return err;
	return send_erased(&erased, res);
}
