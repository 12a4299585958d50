/*
 * accounts_images: the threads that make images clean, and sweep away those that no account has
 * (see accounts.h).
 *
 * Pictures have threads of their own, of low priority: a large one takes seconds and much memory,
 * and nobody else is to wait for that.  Whoever has sent one waits, and not in a seat of the pool.
 * One thread takes all kinds, the other one none but quick ones: so at most one picture at a time
 * takes much memory, and a quick one never waits for it.  Each has a decoder, where pictures are
 * read by processes that reach nothing else.
 */
#include "accounts.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/decoder.h"
#include "lib/log.h"
#include "lib/pool.h"

#define WAITING_MAX 64 /* pictures that wait for a thread */
#define QUICK 16000000 /* image_work(): about 0.1 s */
#define OLD_US (5 * CLOCK_SECOND_US) /* who has waited so long comes before quicker ones */
#define NICENESS 10
#define STACK_BYTES (512 * 1024)
#define LARGE_BYTES (256 * 1024) /* what goes back at once when it is freed */
#define SWEEP_AGAIN_US (10 * CLOCK_SECOND_US)

/* A picture that waits, on the stack of who has sent it. */
struct work {
	const unsigned char *bytes;
	size_t n;
	enum image_kind kind;
	uint64_t cost;
	int64_t since_us;
	struct image *clean;
	enum { WAITS, IS_DONE, DONE } state;
	enum err err;
	struct err_state said;
	pthread_cond_t let_go;
	struct work *next;
};

/* The last one, which is quick at all times, also sweeps. */
static const uint64_t lanes[] = { UINT64_MAX, QUICK };

#define LANES (sizeof(lanes) / sizeof(lanes[0]))

static struct {
	pthread_mutex_t lock; /* of all that follows */
	pthread_cond_t some; /* something waits, is to be swept, or STOPPED */
	struct work *first; /* as they came */
	int waiting;
	bool stopped; /* nothing new begins */
	bool closing;
	int64_t sweep_at_us; /* monotonic; 0 for never */
	struct decoder *decoders[LANES];
	pthread_t threads[LANES];
	size_t thread_count;
} images = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- Sweeping. */

/* Only the one who writes the rows may say that none is coming. */
static enum err
sweep(void)
{
	struct db *db = NULL;
	int64_t removed = 0;
	enum err err;

	if ((err = commit_health(accounts.commit)) == OK &&
	    (err = db_borrow(accounts.readers, &db)) == OK)
		err = account_sweep(db, accounts.blobs, &removed);
	db_return(accounts.readers, db);
	if (removed > 0)
		log_event(LOG_INFO, "sweep", "%lld images without an account were removed",
		    (long long)removed);
	return err;
}

/* Where it cannot be done now, such as during a backup, it is tried again. */
static void
sweep_now(void)
{
	enum err err = sweep();

	if (err != OK)
		log_event(LOG_WARNING, "sweep", "images are not swept: %s", err_words());
	if (err == ERR_BUSY)
		images_sweep_later();
}

void
images_sweep_later(void)
{
	(void)pthread_mutex_lock(&images.lock);
	images.sweep_at_us = clock_monotonic_us() + SWEEP_AGAIN_US;
	(void)pthread_cond_broadcast(&images.some);
	(void)pthread_mutex_unlock(&images.lock);
}

void
images_remove(const char *key)
{
	if (key[0] == '\0' || blob_remove(accounts.blobs, key) == OK)
		return;
	log_event(LOG_WARNING, "blob", "an image is removed later: %s", err_words());
	images_sweep_later();
}

/* --- The threads. */

/* Whether A is to be done before B, which came before it or is NULL. */
static bool
comes_before(const struct work *a, const struct work *b, int64_t now_us)
{
	return b == NULL || (a->cost < b->cost && now_us - b->since_us < OLD_US);
}

/* With the lock held: takes the next one of at most COST out of the queue, or NULL. */
static struct work *
take(uint64_t cost)
{
	int64_t now_us = clock_monotonic_us();
	struct work **best = NULL;
	struct work *work = NULL;

	for (struct work **at = &images.first; *at != NULL; at = &(*at)->next)
		if ((*at)->cost <= cost && comes_before(*at, work, now_us)) {
			best = at;
			work = *at;
		}
	if (work != NULL) {
		*best = work->next;
		work->state = IS_DONE;
		images.waiting--;
	}
	return work;
}

static bool
is_sweep_due(const uint64_t *lane)
{
	return lane == &lanes[LANES - 1] && images.sweep_at_us != 0 &&
	    images.sweep_at_us <= clock_monotonic_us();
}

/* With the lock held: until there is something for LANE. */
static void
await_some(const uint64_t *lane)
{
	if (lane == &lanes[LANES - 1] && images.sweep_at_us != 0)
		(void)clock_wait(&images.some, &images.lock, images.sweep_at_us);
	else
		(void)pthread_cond_wait(&images.some, &images.lock);
}

/* The next picture; NULL where it is time to sweep, or to end. */
static struct work *
next_work(const uint64_t *lane, bool *ends)
{
	struct work *work = NULL;

	(void)pthread_mutex_lock(&images.lock);
	while (!images.closing && !is_sweep_due(lane) && (work = take(*lane)) == NULL)
		await_some(lane);
	*ends = images.closing;
	if (work == NULL && !*ends)
		images.sweep_at_us = 0;
	(void)pthread_mutex_unlock(&images.lock);
	return work;
}

static void
finish(struct work *work)
{
	(void)pthread_mutex_lock(&images.lock);
	work->state = DONE;
	(void)pthread_cond_signal(&work->let_go);
	(void)pthread_mutex_unlock(&images.lock);
}

static void *
look_at_images(void *lane)
{
	struct decoder *decoder = images.decoders[(const uint64_t *)lane - lanes];
	struct work *work;
	bool ends;

	(void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICENESS);
	while ((work = next_work(lane, &ends)) != NULL || !ends) {
		err_clear();
		if (work == NULL) {
			sweep_now();
			continue;
		}
		work->err = decoder_clean(decoder, work->bytes, work->n, work->kind, work->clean);
		err_save(&work->said);
		finish(work);
	}
	return NULL;
}

enum err
images_prepare(void)
{
	enum err err = OK;

	for (size_t i = 0; i < LANES && err == OK; i++)
		err = decoder_open(&images.decoders[i]);
	return err;
}

enum err
images_open(void)
{
	pthread_attr_t attributes;
	bool all = true;

	/* Else the C library would keep what pictures of the largest kind have taken. */
	(void)mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
	clock_condition_open(&images.some);
	images.sweep_at_us = clock_monotonic_us();
	(void)pthread_attr_init(&attributes);
	(void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
	for (size_t i = 0; i < LANES && all; i++) {
		all = pthread_create(&images.threads[i], &attributes, look_at_images,
			  (void *)(uintptr_t)&lanes[i]) == 0;
		images.thread_count += all;
	}
	(void)pthread_attr_destroy(&attributes);
	return all ? OK : fail(ERR_INTERNAL, "there are no threads for images");
}

void
images_stop(void)
{
	(void)pthread_mutex_lock(&images.lock);
	images.stopped = true;
	for (struct work *work = images.first; work != NULL; work = work->next)
		(void)pthread_cond_signal(&work->let_go);
	(void)pthread_mutex_unlock(&images.lock);
}

void
images_close(void)
{
	(void)pthread_mutex_lock(&images.lock);
	images.closing = true;
	if (images.thread_count > 0)
		(void)pthread_cond_broadcast(&images.some);
	(void)pthread_mutex_unlock(&images.lock);
	for (size_t i = 0; i < images.thread_count; i++)
		(void)pthread_join(images.threads[i], NULL);
	images.thread_count = 0;
	for (size_t i = 0; i < LANES; i++) {
		decoder_close(images.decoders[i]);
		images.decoders[i] = NULL;
	}
}

/* --- Who has sent one. */

/* With the lock held. */
static enum err
enqueue(struct work *work)
{
	struct work **last = &images.first;

	if (images.stopped)
		return fail(ERR_BUSY, "the server is about to stop");
	if (images.waiting == WAITING_MAX)
		return fail(ERR_BUSY, "too many images wait to be looked at");
	while (*last != NULL)
		last = &(*last)->next;
	*last = work;
	images.waiting++;
	(void)pthread_cond_broadcast(&images.some);
	return OK;
}

/* With the lock held: what has not begun. */
static enum err
withdraw(struct work *work)
{
	struct work **at = &images.first;

	while (*at != work)
		at = &(*at)->next;
	*at = work->next;
	images.waiting--;
	return images.stopped ? fail(ERR_BUSY, "the server is about to stop")
			      : fail(ERR_BUSY, "too many large images wait to be looked at");
}

/* With the lock held.  What has begun is waited for. */
static enum err
await(struct work *work)
{
	int64_t until_us = work->since_us + IMAGES_WAIT_US;

	while (work->state == WAITS && !images.stopped &&
	    clock_wait(&work->let_go, &images.lock, until_us))
		continue;
	if (work->state == WAITS)
		return withdraw(work);
	while (work->state != DONE)
		(void)pthread_cond_wait(&work->let_go, &images.lock);
	err_restore(&work->said);
	return work->err;
}

enum err
images_clean(
    const unsigned char *bytes, size_t n, enum image_kind kind, uint64_t cost, struct image *clean)
{
	struct work work = {
		.bytes = bytes,
		.n = n,
		.kind = kind,
		.cost = cost,
		.since_us = clock_monotonic_us(),
		.clean = clean,
	};
	enum err err;

	clock_condition_open(&work.let_go);
	pool_wait_begin();
	(void)pthread_mutex_lock(&images.lock);
	if ((err = enqueue(&work)) == OK)
		err = await(&work);
	(void)pthread_mutex_unlock(&images.lock);
	pool_wait_end();
	(void)pthread_cond_destroy(&work.let_go);
	return err;
}
