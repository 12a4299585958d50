/*
 * stats_run: load runs, asked for by POST /test/N: real requests through the front door, and
 * whether the statistics counted them (see stats.h).
 *
 * While a run is under way it has one of RUNS_MAX slots, each with a thread of its own, so it goes
 * on whoever watches; before and after, its row in table runs is all there is of it.  A row that
 * has not ended and has no slot is of a process that died: the run was interrupted.
 */
#include "stats.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/answer.h"
#include "lib/buffer.h"
#include "lib/clock.h"
#include "lib/jsonw.h"
#include "lib/load.h"
#include "lib/log.h"
#include "lib/page.h"
#include "lib/pool.h"
#include "lib/text.h"
#include "sql.h"

#define RUNS_MAX 4 /* at once */
#define RUNS_KEPT 1000 /* and all of the last day, whose answers are kept as long */
#define WAITING_MAX 32 /* threads that wait for a run to end */
#define BODY_MAX (64 * 1024) /* of a request, whose body means nothing */
#define COUNT_TRIES 30 /* where the log is not taken in in time */
#define TAKE_IN_US (10 * CLOCK_SECOND_US)
#define LOCATION "/test/runs/"
#define UNKNOWN (-1)

/* As a client is shown it; but for the first three, of a run that has not ended it is so far. */
struct run {
	int64_t id, requested, begun_at;
	bool stopped;
	int64_t succeeded, failed, counted, took_us;
	int64_t p50_us, p90_us, p99_us, max_us;
	int64_t ended_at; /* UNKNOWN: not yet */
	bool under_way;
};

/* TAKEN by who makes the run, GOING from when its row is there: then it is the thread's. */
enum slot_state { FREE, TAKEN, GOING };

struct slot {
	enum slot_state state;
	struct run run; /* its id is 0 until the row is there */
	struct load load;
	struct load_result result; /* the thread's own */
	int64_t before, counted; /* the requests that its paths had, and how many came */
	bool stop;
};

static struct {
	pthread_mutex_t lock; /* of all but what is a thread's own */
	pthread_cond_t changed; /* a slot's state, the end of a run, CLOSING */
	struct slot slots[RUNS_MAX];
	pthread_t threads[RUNS_MAX];
	size_t thread_count;
	int waiting;
	bool closing;
} runs = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void
lock(void)
{
	(void)pthread_mutex_lock(&runs.lock);
}

static void
unlock(void)
{
	(void)pthread_mutex_unlock(&runs.lock);
}

/* --- Slots; all of these with the lock held. */

static struct slot *
find_slot(int64_t id)
{
	for (size_t i = 0; i < RUNS_MAX; i++)
		if (runs.slots[i].state != FREE && runs.slots[i].run.id == id)
			return &runs.slots[i];
	return NULL;
}

/* Words of its own, so that none counts what another one sent. */
static enum err
draw_words(struct slot *slot)
{
	bool again;
	enum err err;

	do {
		if ((err = load_draw(&slot->load.words)) != OK)
			return err;
		again = false;
		for (size_t i = 0; i < RUNS_MAX; i++)
			again |= &runs.slots[i] != slot && runs.slots[i].state != FREE &&
			    load_overlaps(&runs.slots[i].load.words, &slot->load.words);
	} while (again);
	return OK;
}

static enum err
take_slot(int64_t requests, struct slot **taken)
{
	for (size_t i = 0; i < RUNS_MAX && !runs.closing; i++) {
		struct slot *slot = &runs.slots[i];

		if (slot->state != FREE)
			continue;
		*slot = (struct slot){ .state = TAKEN,
			.counted = UNKNOWN,
			.run = { .requested = requests,
			    .begun_at = clock_now_us(),
			    .counted = UNKNOWN,
			    .ended_at = UNKNOWN,
			    .under_way = true },
			.load = { .origin = stats.origin, .requests = requests } };
		*taken = slot;
		return draw_words(slot);
	}
	return fail(ERR_RATE, "%d runs are under way; DELETE " LOCATION "ID stops one", RUNS_MAX);
}

static void
set_state(struct slot *slot, enum slot_state state)
{
	lock();
	slot->state = state;
	(void)pthread_cond_broadcast(&runs.changed);
	unlock();
}

/* --- A run, in its thread. */

static void
take_result(struct run *run, const struct load_result *result)
{
	run->succeeded = result->succeeded;
	run->failed = result->failed;
	run->took_us = result->took_us;
	run->p50_us = latency_quantile(&result->latency, 500);
	run->p90_us = latency_quantile(&result->latency, 900);
	run->p99_us = latency_quantile(&result->latency, 990);
	run->max_us = result->latency.max_us;
}

static bool
told(void *ctx, const struct load_result *so_far)
{
	struct slot *slot = ctx;
	bool go_on;

	lock();
	take_result(&slot->run, so_far);
	go_on = !slot->stop && !runs.closing;
	unlock();
	return go_on;
}

static bool
closing(void)
{
	bool is;

	lock();
	is = runs.closing;
	unlock();
	return is;
}

static enum err
count_after(struct slot *slot)
{
	struct db *db = NULL;
	int64_t after = 0;
	enum err err = stats_take_in(clock_monotonic_us() + TAKE_IN_US);

	if (err == OK && (err = db_borrow(stats.readers, &db)) == OK)
		err = load_counted(db, &slot->load.words, &after);
	db_return(stats.readers, db);
	if (err == OK)
		slot->counted = after - slot->before;
	return err;
}

static enum err
make_end(struct db *db, void *arg)
{
	const struct run *run = arg;
	struct db_query q;

	db_query(&q, db, &sql_stats_run_end);
	db_bind_int(&q, run->id);
	db_bind_int(&q, run->stopped);
	db_bind_int(&q, run->succeeded);
	db_bind_int(&q, run->failed);
	if (run->counted == UNKNOWN)
		db_bind_null(&q);
	else
		db_bind_int(&q, run->counted);
	db_bind_int(&q, run->took_us);
	db_bind_int(&q, run->p50_us);
	db_bind_int(&q, run->p90_us);
	db_bind_int(&q, run->p99_us);
	db_bind_int(&q, run->max_us);
	db_bind_int(&q, run->ended_at);
	return db_run(&q);
}

static enum err
store_end(struct slot *slot)
{
	struct run run = slot->run; /* only this thread changes it by now */

	return commit_run(stats.commit, make_end, &run);
}

/* Until it succeeds, TRIES times or as long as the program runs. */
static void
insist(enum err (*step)(struct slot *), struct slot *slot, int tries)
{
	const struct timespec pause = { .tv_sec = 1 };

	for (int i = 1; step(slot) != OK && i != tries && !closing(); i++) {
		if (i == 1)
			log_event(LOG_ERROR, "run", "run %lld: %s; it is tried again",
			    (long long)slot->run.id, err_words());
		(void)nanosleep(&pause, NULL);
	}
}

static void
make_requests(struct slot *slot)
{
	enum err err = load_run(&slot->load, &slot->result);

	if (err != OK)
		log_event(LOG_ERROR, "run", "run %lld: %s", (long long)slot->run.id, err_words());
	lock();
	take_result(&slot->run, &slot->result);
	slot->run.stopped = slot->stop;
	unlock();
}

/* From here on it can be seen by who waits, though it may be long before it can be stored. */
static void
end_run(struct slot *slot)
{
	lock();
	slot->run.counted = slot->counted;
	slot->run.ended_at = clock_now_us();
	(void)pthread_cond_broadcast(&runs.changed);
	unlock();
}

/* What the end of the program comes into was interrupted. */
static void
do_run(struct slot *slot)
{
	slot->load.told = told;
	slot->load.ctx = slot;
	make_requests(slot);
	if (!closing())
		insist(count_after, slot, COUNT_TRIES);
	if (!closing()) {
		end_run(slot);
		insist(store_end, slot, 0);
	}
	set_state(slot, FREE);
}

static void *
run_main(void *arg)
{
	struct slot *slot = arg;
	bool going;

	do {
		lock();
		while (slot->state != GOING && !runs.closing)
			(void)pthread_cond_wait(&runs.changed, &runs.lock);
		going = slot->state == GOING;
		unlock();
		if (going)
			do_run(slot);
	} while (going || !closing());
	return NULL;
}

/* --- A run, shown. */

static void
put_latency(struct jsonw *w, const struct run *run)
{
	if (run->succeeded == 0) {
		jsonw_null(w, "latency_ms");
		return;
	}
	jsonw_object_begin(w, "latency_ms");
	jsonw_decimal(w, "p50", run->p50_us, 3);
	jsonw_decimal(w, "p90", run->p90_us, 3);
	jsonw_decimal(w, "p99", run->p99_us, 3);
	jsonw_decimal(w, "max", run->max_us, 3);
	jsonw_object_end(w);
}

static const char *
status_of(const struct run *run)
{
	if (run->ended_at == UNKNOWN)
		return run->under_way ? "running" : "interrupted";
	return run->stopped ? "stopped" : "finished";
}

static void
put_time(struct jsonw *w, const char *name, int64_t us)
{
	if (us == UNKNOWN)
		jsonw_null(w, name);
	else
		jsonw_time(w, name, us);
}

static void
put_run(struct jsonw *w, const struct run *run)
{
	int64_t done = run->succeeded + run->failed;
	double rate = run->took_us > 0 ? (double)done * 1e7 / (double)run->took_us : 0;

	jsonw_object_begin(w, NULL);
	jsonw_int(w, "id", run->id);
	jsonw_string(w, "status", status_of(run));
	jsonw_int(w, "requested", run->requested);
	jsonw_int(w, "succeeded", run->succeeded);
	jsonw_int(w, "failed", run->failed);
	if (run->counted == UNKNOWN)
		jsonw_null(w, "counted");
	else
		jsonw_int(w, "counted", run->counted);
	jsonw_decimal(w, "seconds", run->took_us, 6);
	jsonw_decimal(w, "requests_per_second", (int64_t)rate, 1);
	put_latency(w, run);
	put_time(w, "begun_at", run->begun_at);
	put_time(w, "ended_at", run->ended_at);
	jsonw_object_end(w);
}

static enum err
send_run(struct response *res, const struct run *run, int status)
{
	struct jsonw w;

	response_begin(res, status, "application/json");
	jsonw_open(&w, response_write, res);
	put_run(&w, run);
	return jsonw_close(&w);
}

/* --- Runs, found. */

static int64_t
int_or_unknown(const struct db_query *q, int i)
{
	return db_is_null(q, i) ? UNKNOWN : db_int(q, i);
}

static void
take_row(const struct db_query *q, struct run *run)
{
	*run = (struct run){ .id = db_int(q, 0),
		.requested = db_int(q, 1),
		.begun_at = db_int(q, 2),
		.stopped = db_int(q, 3) != 0,
		.succeeded = db_int(q, 4),
		.failed = db_int(q, 5),
		.counted = int_or_unknown(q, 6),
		.took_us = db_int(q, 7),
		.p50_us = db_int(q, 8),
		.p90_us = db_int(q, 9),
		.p99_us = db_int(q, 10),
		.max_us = db_int(q, 11),
		.ended_at = int_or_unknown(q, 12) };
}

/* A slot is free only once its row has ended, so those under way must be looked at first. */
static size_t
copy_under_way(struct run copies[RUNS_MAX])
{
	size_t n = 0;

	lock();
	for (size_t i = 0; i < RUNS_MAX; i++)
		if (runs.slots[i].state != FREE && runs.slots[i].run.id > 0)
			copies[n++] = runs.slots[i].run;
	unlock();
	return n;
}

/* A row that has not ended, as it is known to be under way; N copies. */
static void
take_copy(struct run *run, const struct run *copies, size_t n)
{
	for (size_t i = 0; i < n && run->ended_at == UNKNOWN; i++)
		if (copies[i].id == run->id)
			*run = copies[i];
}

static enum err
read_run(int64_t id, struct run *run)
{
	struct run copies[RUNS_MAX];
	size_t n = copy_under_way(copies);
	struct db *db = NULL;
	struct db_query q = { 0 };
	bool found = false;
	enum err err;

	if ((err = db_borrow(stats.readers, &db)) == OK) {
		db_query(&q, db, &sql_stats_run_get);
		db_bind_int(&q, id);
		if ((err = db_next(&q, &found)) == OK && found) {
			take_row(&q, run);
			take_copy(run, copies, n);
		}
		db_done(&q);
	}
	db_return(stats.readers, db);
	if (err == OK && !found)
		return fail(ERR_NOT_FOUND, "there is no run %lld", (long long)id);
	return err;
}

static enum err
put_runs(struct db *db, struct jsonw *w, const struct run *copies, size_t n, struct page *page,
    bool *more)
{
	struct db_query q;
	struct run run;
	int64_t rows = 0;
	bool found;
	enum err err;

	db_query(&q, db, &sql_stats_runs_list);
	db_bind_int(&q, page->after);
	db_bind_int(&q, page->limit + 1);
	while ((err = db_next(&q, &found)) == OK && found && rows++ < page->limit) {
		take_row(&q, &run);
		take_copy(&run, copies, n);
		put_run(w, &run);
		page->after = run.id;
	}
	*more = found;
	db_done(&q);
	return err;
}

enum err
runs_list(struct request *req, struct response *res)
{
	struct run copies[RUNS_MAX];
	size_t n = copy_under_way(copies);
	struct buffer held = { 0 };
	struct page page;
	struct db *db = NULL;
	struct jsonw w;
	bool more = false;
	enum err err;

	page_read(req, &page);
	if ((err = err_pending()) != OK || (err = db_borrow(stats.readers, &db)) != OK)
		return err;
	jsonw_open(&w, buffer_write, &held);
	jsonw_array_begin(&w, NULL);
	err = put_runs(db, &w, copies, n, &page, &more);
	db_return(stats.readers, db);
	if (err == OK) {
		jsonw_array_end(&w);
		err = jsonw_close(&w);
	}
	if (err == OK)
		response_begin(res, 200, "application/json");
	if (err == OK && more)
		err = page_link(res, "/test/runs", "", &page, page.after);
	if (err == OK)
		err = response_write(res, held.bytes, held.n);
	buffer_free(&held);
	return err;
}

enum err
run_get(struct request *req, struct response *res)
{
	struct run run;
	int64_t id;
	enum err err;

	if ((err = request_id(req, "id", &id)) == OK && (err = read_run(id, &run)) == OK)
		err = send_run(res, &run, 200);
	return err;
}

/* It ends as soon as those are answered that are under way; of one that has ended nothing is left
 * to stop. */
enum err
run_stop(struct request *req, struct response *res)
{
	struct slot *slot;
	struct run run;
	int64_t id;
	enum err err;

	if ((err = request_id(req, "id", &id)) != OK || (err = read_run(id, &run)) != OK)
		return err;
	lock();
	if ((slot = find_slot(id)) != NULL)
		slot->stop = true;
	unlock();
	response_begin(res, 204, NULL);
	return OK;
}

/* --- A run, asked for. */

struct creation {
	int64_t requests;
	struct slot *slot; /* NULL: the request was answered before */
	struct answer answer;
};

static enum err
add_row(struct db *db, const struct slot *slot, int64_t *id)
{
	struct db_query q;
	bool found;
	enum err err;

	db_query(&q, db, &sql_stats_run_add);
	db_bind_int(&q, slot->run.requested);
	db_bind_int(&q, slot->run.begun_at);
	if ((err = db_next(&q, &found)) == OK && found)
		*id = db_int(&q, 0);
	db_done(&q);
	if (err != OK)
		return err;
	db_query(&q, db, &sql_stats_runs_trim);
	db_bind_int(&q, RUNS_KEPT);
	db_bind_int(&q, slot->run.begun_at - ANSWER_KEPT_US);
	return db_run(&q);
}

/* Here, since only now it is known that this is no retry. */
static enum err
make_run(struct db *db, void *arg)
{
	struct creation *creation = arg;
	struct slot *slot = creation->slot;
	int64_t id = 0;
	enum err err = OK;

	if (slot == NULL) {
		lock();
		err = take_slot(creation->requests, &creation->slot);
		unlock();
		slot = creation->slot;
	}
	if (err != OK || (err = load_counted(db, &slot->load.words, &slot->before)) != OK ||
	    (err = add_row(db, slot, &id)) != OK)
		return err;
	lock();
	slot->run.id = id;
	unlock();
	answer_begin(&creation->answer, 202);
	(void)snprintf(creation->answer.location, sizeof(creation->answer.location),
	    LOCATION "%lld", (long long)id);
	return OK;
}

/* The run has its row and goes, or has gone before. */
static enum err
begin_run(struct creation *creation, int64_t *id)
{
	const char *digits = creation->answer.location + strlen(LOCATION);
	enum err err = stats_take_in(clock_monotonic_us() + TAKE_IN_US);

	if (err == OK)
		err = answer_commit(&creation->answer, stats.commit, make_run, creation);
	if (creation->slot != NULL)
		set_state(creation->slot, err == OK ? GOING : FREE);
	if (err == OK && !text_uint(digits, strlen(digits), id))
		err = fail(ERR_INTERNAL, "a stored answer is not as it was written");
	return err;
}

static bool
is_under_way(int64_t id)
{
	const struct slot *slot = find_slot(id);

	return slot != NULL && slot->run.ended_at == UNKNOWN;
}

static void
await_end(int64_t id)
{
	pool_wait_begin();
	lock();
	while (is_under_way(id))
		(void)pthread_cond_wait(&runs.changed, &runs.lock);
	unlock();
	pool_wait_end();
}

/* A place for one who waits, taken before anything is begun. */
static enum err
take_place(void)
{
	bool taken;

	lock();
	taken = runs.waiting < WAITING_MAX;
	runs.waiting += taken;
	unlock();
	return taken ? OK
		     : fail(ERR_RATE, "too many wait for runs; ask with Prefer: respond-async");
}

static void
leave_place(void)
{
	lock();
	runs.waiting--;
	unlock();
}

/* The number in the path: 404 if it is none, 400 if it is too large. */
static enum err
read_requests(const struct request *req, int64_t *requests)
{
	struct request_text text = request_capture(req, "requests");

	if (text.n == 0 || strspn(text.s, "0123456789") != text.n)
		return fail(ERR_NOT_FOUND, "there is nothing at this address");
	if (text_uint(text.s, text.n, requests) && *requests <= stats.run_requests_max)
		return OK;
	(void)fail_field("requests", "must be at most %lld", (long long)stats.run_requests_max);
	return err_pending();
}

/* A body is part of the request that a key stands for. */
static enum err
read_key(struct request *req, struct answer *answer)
{
	char *body = NULL;
	size_t n;
	enum err err = answer_open(req, answer);

	if (err == OK && (err = request_body(req, BODY_MAX, &body, &n)) == OK)
		answer_digest(answer, body, n);
	free(body);
	return err;
}

static enum err
create(struct request *req, struct response *res, struct creation *creation, bool async)
{
	struct run run;
	int64_t id;
	enum err err;

	if ((err = read_key(req, &creation->answer)) != OK ||
	    (err = begin_run(creation, &id)) != OK)
		return err;
	if (!async)
		await_end(id);
	if ((err = read_run(id, &run)) == OK)
		err = send_run(res, &run, async ? 202 : 200);
	if (err == OK)
		err = response_field(
		    res, async ? "Location" : "Content-Location", creation->answer.location);
	if (err == OK && async)
		err = response_field(res, "Preference-Applied", "respond-async");
	return err;
}

enum err
run_create(struct request *req, struct response *res)
{
	bool async = request_prefers(req, "respond-async");
	struct creation creation = { .slot = NULL };
	enum err err = read_requests(req, &creation.requests);

	if (err != OK || (!async && (err = take_place()) != OK))
		return err;
	err = create(req, res, &creation, async);
	answer_close(&creation.answer);
	if (!async)
		leave_place();
	return err;
}

/* --- The program. */

enum err
runs_open(void)
{
	pthread_attr_t attributes;
	bool all = true;

	load_open();
	(void)pthread_attr_init(&attributes);
	(void)pthread_attr_setstacksize(&attributes, POOL_STACK_BYTES);
	for (size_t i = 0; i < RUNS_MAX && all; i++) {
		all = pthread_create(&runs.threads[i], &attributes, run_main, &runs.slots[i]) == 0;
		runs.thread_count += all;
	}
	(void)pthread_attr_destroy(&attributes);
	return all ? OK : fail(ERR_INTERNAL, "there are no threads for runs");
}

void
runs_stop(void)
{
	lock();
	runs.closing = true;
	(void)pthread_cond_broadcast(&runs.changed);
	unlock();
}

void
runs_close(void)
{
	runs_stop();
	for (size_t i = 0; i < runs.thread_count; i++)
		(void)pthread_join(runs.threads[i], NULL);
	runs.thread_count = 0;
}
