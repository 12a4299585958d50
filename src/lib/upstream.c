#include "lib/upstream.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "lib/pool.h"
#include "lib/trust.h"

#define CONNECT_TIMEOUT_MS 500L
#define IDLE_CONNECTION_S 60L
#define DNS_CACHE_S 30L
#define RECEIVE_BUFFER_BYTES 4096L
#define BODY_KEPT_BYTES 4096 /* a larger buffer is given back before the next call */
#define LOG_EVERY_US CLOCK_SECOND_US
#define QUICK_US CLOCK_MS_US
#define QUICK_FOR_US (100 * CLOCK_MS_US)
#define GIVE_UP_WITHIN_US (200 * CLOCK_MS_US)
#define PATIENCE_US (5 * CLOCK_MS_US)
#define TRACE_FIELD "traceparent: "
#define TRACE_FIELD_SIZE 80
#define URL_ROOM (3 * 8192)
#define ACCEPT_SIZE 64

struct upstream {
	const struct upstream_config *config;
	size_t index; /* where each thread keeps its handle for it */
	struct trust *trust; /* of https, else NULL */
	bool any_address; /* the URL names the address itself, so it was meant */
	char joint; /* before the query: '?' or '&' */
	char accept_bytes[ACCEPT_SIZE];

	pthread_mutex_t lock; /* of all below */
	bool open, probing;
	unsigned failures_in_row, in_flight;
	int64_t open_until_us, pause_us;
	enum upstream_outcome last_failure;
	int64_t answers, failures;
	int64_t logged_us, unlogged;
};

/* One thread's handle for one upstream, with its kept-alive connection. */
struct handle {
	CURL *easy;
	struct upstream *upstream;
	struct curl_slist trace_field;
	struct curl_slist accept_field;
	char trace_bytes[TRACE_FIELD_SIZE];
	struct buffer body;
	bool too_large;
};

/* All that a thread needs to ask. */
struct lane {
	CURLM *multi;
	struct handle **handles; /* by upstream index */
	size_t count;
	char url[URL_ROOM];
};

static pthread_key_t lane_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static size_t next_index;

static const char *const outcome_names[UPSTREAM_OUTCOMES] = {
	[UPSTREAM_ANSWERED] = "answered",
	[UPSTREAM_UNKNOWN] = "unknown_member",
	[UPSTREAM_UNREACHABLE] = "unreachable",
	[UPSTREAM_TIMEOUT] = "timeout",
	[UPSTREAM_BROKEN] = "broken",
	[UPSTREAM_STATUS] = "wrong_status",
	[UPSTREAM_MALFORMED] = "malformed",
	[UPSTREAM_TOO_LARGE] = "too_large",
	[UPSTREAM_OVERLOADED] = "overloaded",
	[UPSTREAM_CIRCUIT_OPEN] = "circuit_open",
};

const char *
upstream_outcome_name(enum upstream_outcome outcome)
{
	return outcome_names[outcome];
}

static void
handle_close(struct handle *handle)
{
	if (handle == NULL)
		return;
	curl_easy_cleanup(handle->easy);
	buffer_free(&handle->body);
	free(handle);
}

static void
lane_close(void *arg)
{
	struct lane *lane = arg;

	if (lane == NULL)
		return;
	for (size_t i = 0; i < lane->count; i++)
		handle_close(lane->handles[i]);
	(void)curl_multi_cleanup(lane->multi);
	free(lane->handles);
	free(lane);
}

static void
init(void)
{
	(void)curl_global_init(CURL_GLOBAL_DEFAULT);
	(void)pthread_key_create(&lane_key, lane_close);
}

/* Whether an address is one that a name of the public Internet has no business to resolve to:
 * loopback, private, shared, link-local (with the cloud's metadata), multicast. */
static bool
private_v4(uint32_t address)
{
	static const struct {
		uint32_t net;
		unsigned bits;
	} ranges[] = {
		{ 0x00000000, 8 },
		{ 0x0a000000, 8 },
		{ 0x64400000, 10 },
		{ 0x7f000000, 8 },
		{ 0xa9fe0000, 16 },
		{ 0xac100000, 12 },
		{ 0xc0a80000, 16 },
		{ 0xe0000000, 3 },
	};

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		if ((address ^ ranges[i].net) >> (32 - ranges[i].bits) == 0)
			return true;
	return false;
}

static bool
private_address(const struct sockaddr *address)
{
	const struct in6_addr *v6 =
	    &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
	uint32_t v4;

	if (address->sa_family == AF_INET)
		return private_v4(
		    ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr));
	if (address->sa_family != AF_INET6)
		return true;
	if (IN6_IS_ADDR_V4MAPPED(v6) || IN6_IS_ADDR_V4COMPAT(v6)) {
		memcpy(&v4, &v6->s6_addr[12], sizeof(v4));
		return private_v4(ntohl(v4));
	}
	return IN6_IS_ADDR_LOOPBACK(v6) || IN6_IS_ADDR_UNSPECIFIED(v6) ||
	    IN6_IS_ADDR_LINKLOCAL(v6) || IN6_IS_ADDR_MULTICAST(v6) ||
	    (v6->s6_addr[0] & 0xfe) == 0xfc;
}

static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
	const struct upstream *up = arg;

	(void)purpose;
	if (to->family != AF_UNIX && !up->any_address && private_address(&to->addr))
		return CURL_SOCKET_BAD;
	return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

static size_t
body_max(const struct upstream *up)
{
	return up->config->body_max > 0 ? up->config->body_max : UPSTREAM_BODY_MAX;
}

static size_t
take_body(char *bytes, size_t size, size_t n, void *arg)
{
	struct handle *handle = arg;

	n *= size;
	handle->too_large = n > body_max(handle->upstream) - handle->body.n;
	return handle->too_large || buffer_write(&handle->body, bytes, n) != OK ? 0 : n;
}

/* Whatever libcurl does not know how to set must not be off silently. */
static bool
set_options(struct handle *handle)
{
	const struct upstream_config *config = handle->upstream->config;
	CURL *easy = handle->easy;
	const struct {
		CURLoption option;
		long value;
	} numbers[] = {
		{ CURLOPT_NOSIGNAL, 1 }, { CURLOPT_FOLLOWLOCATION, 0 },
		{ CURLOPT_SSL_VERIFYPEER, 1 }, { CURLOPT_SSL_VERIFYHOST, 2 },
		{ CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2 },
		{ CURLOPT_NETRC, CURL_NETRC_IGNORED },
		{ CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1 }, { CURLOPT_HTTP09_ALLOWED, 0 },
		{ CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS },
		{ CURLOPT_MAXAGE_CONN, IDLE_CONNECTION_S },
		{ CURLOPT_DNS_CACHE_TIMEOUT, DNS_CACHE_S },
		{ CURLOPT_BUFFERSIZE, RECEIVE_BUFFER_BYTES }, { CURLOPT_TCP_KEEPALIVE, 1 },
		{ CURLOPT_QUICK_EXIT, 1 }, /* a resolver that hangs is not waited for */
	};
	bool ok = true;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		ok &= curl_easy_setopt(easy, numbers[i].option, numbers[i].value) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "https") == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_USERAGENT, "caredesk") == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE,
		  (curl_off_t)body_max(handle->upstream)) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_WRITEDATA, handle) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, handle->upstream) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_HTTPHEADER, &handle->accept_field) == CURLE_OK;
	ok &= curl_easy_setopt(easy, CURLOPT_PRIVATE, handle) == CURLE_OK;
	if (handle->upstream->trust != NULL)
		ok &= trust_use(handle->upstream->trust, easy);
	/* A connection within this machine is made too quickly to be worth a descriptor meanwhile.
	 */
	if (config->socket != NULL)
		ok &=
		    curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, config->socket) == CURLE_OK &&
		    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L) == CURLE_OK;
	return ok;
}

static struct handle *
handle_open(struct upstream *up)
{
	struct handle *handle = calloc(1, sizeof(*handle));

	if (handle == NULL)
		return NULL;
	handle->upstream = up;
	handle->accept_field = (struct curl_slist){ up->accept_bytes, &handle->trace_field };
	handle->trace_field = (struct curl_slist){ handle->trace_bytes, NULL };
	handle->easy = curl_easy_init();
	if (handle->easy != NULL && set_options(handle))
		return handle;
	handle_close(handle);
	return NULL;
}

/* This thread's lane, with room for upstream INDEX; NULL without memory. */
static struct lane *
lane_of_thread(size_t index)
{
	struct lane *lane = pthread_getspecific(lane_key);
	struct handle **grown;

	if (lane == NULL) {
		if ((lane = calloc(1, sizeof(*lane))) == NULL)
			return NULL;
		if ((lane->multi = curl_multi_init()) == NULL ||
		    pthread_setspecific(lane_key, lane) != 0) {
			lane_close(lane);
			return NULL;
		}
	}
	if (index >= lane->count) {
		grown = realloc(lane->handles, (index + 1) * sizeof(struct handle *));
		if (grown == NULL)
			return NULL;
		lane->handles = grown;
		while (lane->count <= index)
			lane->handles[lane->count++] = NULL;
	}
	return lane;
}

/* Makes the handles of all calls ready, so that nothing can fail once the first is under way. */
static struct lane *
prepare(struct upstream_call *calls, size_t count)
{
	struct lane *lane = NULL;

	for (size_t i = 0; i < count; i++) {
		struct handle **slot;
		size_t index = calls[i].upstream->index;

		if ((lane = lane_of_thread(index)) == NULL)
			return NULL;
		slot = &lane->handles[index];
		if (*slot == NULL && (*slot = handle_open(calls[i].upstream)) == NULL)
			return NULL;
		if ((*slot)->body.room > BODY_KEPT_BYTES)
			buffer_free(&(*slot)->body);
	}
	return lane;
}

/* The circuit and the bound let the call pass, or give it its outcome at once. */
static bool
admit(struct upstream_call *call, int64_t now_us)
{
	struct upstream *up = call->upstream;
	enum upstream_outcome refused = UPSTREAM_ANSWERED;

	(void)pthread_mutex_lock(&up->lock);
	call->probe = false;
	if (up->open && (up->probing || now_us < up->open_until_us))
		refused = UPSTREAM_CIRCUIT_OPEN;
	else if (up->in_flight >= up->config->max_in_flight)
		refused = UPSTREAM_OVERLOADED;
	if (refused == UPSTREAM_ANSWERED) {
		call->probe = up->probing = up->open;
		up->in_flight++;
	}
	call->outcome = refused;
	call->because = refused == UPSTREAM_CIRCUIT_OPEN ? up->last_failure : refused;
	(void)pthread_mutex_unlock(&up->lock);
	return refused == UPSTREAM_ANSWERED;
}

static bool
start(struct lane *lane, struct upstream_call *call, const char *query, const char *traceparent)
{
	struct handle *handle = lane->handles[call->upstream->index];
	int n;

	handle->body.n = 0;
	handle->too_large = false;
	(void)snprintf(
	    handle->trace_bytes, sizeof(handle->trace_bytes), TRACE_FIELD "%s", traceparent);
	n = snprintf(lane->url, sizeof(lane->url), "%s%c%s", call->upstream->config->url,
	    call->upstream->joint, query);
	if (n < 0 || (size_t)n >= sizeof(lane->url))
		return false;
	if (query[0] == '\0')
		lane->url[n - 1] = '\0';
	return curl_easy_setopt(handle->easy, CURLOPT_URL, lane->url) == CURLE_OK &&
	    curl_multi_add_handle(lane->multi, handle->easy) == CURLM_OK;
}

static enum upstream_outcome
outcome_of(CURLcode code, const struct handle *handle)
{
	switch (code) {
	case CURLE_OK:
		return UPSTREAM_ANSWERED;
	case CURLE_OPERATION_TIMEDOUT:
		return UPSTREAM_TIMEOUT;
	case CURLE_FILESIZE_EXCEEDED:
		return UPSTREAM_TOO_LARGE;
	case CURLE_WRITE_ERROR:
		return handle->too_large ? UPSTREAM_TOO_LARGE : UPSTREAM_BROKEN;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_PEER_FAILED_VERIFICATION:
		return UPSTREAM_UNREACHABLE;
	default:
		return UPSTREAM_BROKEN;
	}
}

static void
finish(
    struct lane *lane, struct upstream_call *call, enum upstream_outcome outcome, int64_t start_us)
{
	struct handle *handle = lane->handles[call->upstream->index];

	call->outcome = call->because = outcome;
	call->us = clock_monotonic_us() - start_us;
	call->body = handle->body.bytes != NULL ? handle->body.bytes : "";
	call->n = handle->body.n;
	call->status = 0;
	(void)curl_easy_getinfo(handle->easy, CURLINFO_RESPONSE_CODE, &call->status);
	(void)curl_multi_remove_handle(lane->multi, handle->easy);
}

/* Calls under way have no outcome yet: UPSTREAM_OUTCOMES stands for that in here. */
#define UNDER_WAY UPSTREAM_OUTCOMES

static void
collect(struct lane *lane, struct upstream_call *calls, size_t count, int64_t start_us)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(lane->multi, &left)) != NULL) {
		CURL *easy = message->easy_handle;
		CURLcode code = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		for (size_t i = 0; i < count; i++) {
			struct handle *handle = lane->handles[calls[i].upstream->index];

			if (handle->easy == easy) {
				finish(lane, &calls[i], outcome_of(code, handle), start_us);
				break;
			}
		}
	}
}

/* When a round last took less than QUICK_US. */
static atomic_llong quick_at_us;

/* How long to wait in our seat.  To hand it to another thread and back costs more than a quick
 * round takes, and with many rounds begun each is slower for want of a CPU.  So while some are
 * quick, a round may take its time first; none are where the upstreams are slow. */
static int64_t
patience_us(int64_t now_us)
{
	return now_us - atomic_load(&quick_at_us) < QUICK_FOR_US ? PATIENCE_US : 0;
}

/* At most until UNTIL_US, and not for long where somebody may give up meanwhile; now, once he has.
 */
static int64_t
while_wanted_us(const struct upstream_call *calls, size_t count, int64_t now_us, int64_t until_us)
{
	for (size_t i = 0; i < count; i++) {
		const atomic_bool *give_up = calls[i].upstream->config->give_up;

		if (give_up == NULL)
			continue;
		if (atomic_load(give_up))
			return now_us;
		if (until_us > now_us + GIVE_UP_WITHIN_US)
			until_us = now_us + GIVE_UP_WITHIN_US;
	}
	return until_us;
}

/* Until all are done or the deadline has come. */
static void
drive(struct lane *lane, struct upstream_call *calls, size_t count, int64_t start_us,
    int64_t deadline_us)
{
	int64_t now_us, until_us, seat_until_us = start_us + patience_us(start_us);
	bool waiting = false;
	int running, ignored;

	for (;;) {
		if (curl_multi_perform(lane->multi, &running) != CURLM_OK)
			break;
		collect(lane, calls, count, start_us);
		now_us = clock_monotonic_us();
		if (running == 0 || now_us >= deadline_us ||
		    while_wanted_us(calls, count, now_us, deadline_us) == now_us)
			break;
		if (!waiting && now_us >= seat_until_us) {
			pool_wait_begin();
			waiting = true;
		}
		until_us = waiting || deadline_us < seat_until_us ? deadline_us : seat_until_us;
		until_us = while_wanted_us(calls, count, now_us, until_us);
		if (curl_multi_poll(lane->multi, NULL, 0, (int)((until_us - now_us + 999) / 1000),
			&ignored) != CURLM_OK)
			break;
	}
	if (waiting)
		pool_wait_end();
	now_us = clock_monotonic_us();
	if (now_us - start_us < QUICK_US)
		atomic_store(&quick_at_us, now_us);
	for (size_t i = 0; i < count; i++)
		if (calls[i].outcome == UNDER_WAY)
			finish(lane, &calls[i], UPSTREAM_TIMEOUT, start_us);
}

enum err
upstream_ask(struct upstream_call *calls, size_t count, const char *query, const char *traceparent,
    int64_t deadline_us)
{
	struct lane *lane = prepare(calls, count);
	int64_t start_us = clock_monotonic_us();
	bool asked = false;

	if (lane == NULL)
		return fail(ERR_BUSY, "no memory to ask the upstreams");
	for (size_t i = 0; i < count; i++) {
		calls[i].us = 0;
		calls[i].status = 0;
		calls[i].body = "";
		calls[i].n = 0;
		if (!admit(&calls[i], start_us))
			continue;
		calls[i].outcome = UNDER_WAY;
		if (start(lane, &calls[i], query, traceparent))
			asked = true;
		else
			finish(lane, &calls[i], UPSTREAM_BROKEN, start_us);
	}
	if (asked)
		drive(lane, calls, count, start_us, deadline_us);
	return OK;
}

/* With the lock held.  At most a line a second an upstream: whatever fails does so often. */
static void
log_failure(struct upstream *up, const struct upstream_call *call, int64_t now_us)
{
	if (up->logged_us != 0 && now_us - up->logged_us < LOG_EVERY_US) {
		up->unlogged++;
		return;
	}
	log_event(LOG_WARNING, "upstream_failed",
	    "%s: %s after %lld ms, status %ld; %lld more failures since the last such line",
	    up->config->name, upstream_outcome_name(call->outcome), (long long)(call->us / 1000),
	    call->status, (long long)up->unlogged);
	up->logged_us = now_us;
	up->unlogged = 0;
}

/* With the lock held. */
static void
count_success(struct upstream *up)
{
	up->answers++;
	up->failures_in_row = 0;
	up->pause_us = up->config->circuit_pause_us;
	if (!up->open)
		return;
	up->open = false;
	log_event(LOG_INFO, "circuit_closed", "%s answers again", up->config->name);
}

/* With the lock held. */
static void
count_failure(struct upstream *up, const struct upstream_call *call, int64_t now_us)
{
	int64_t pause_max_us = UPSTREAM_BACKOFF_MAX * up->config->circuit_pause_us;

	up->failures++;
	up->failures_in_row++;
	up->last_failure = call->outcome;
	log_failure(up, call, now_us);
	if (call->probe && up->open) {
		up->pause_us = 2 * up->pause_us < pause_max_us ? 2 * up->pause_us : pause_max_us;
		up->open_until_us = now_us + up->pause_us;
	} else if (!up->open && up->failures_in_row >= up->config->circuit_failures) {
		up->open = true;
		up->open_until_us = now_us + up->pause_us;
		log_event(LOG_WARNING, "circuit_opened", "%s: %u failures in a row, the last: %s",
		    up->config->name, up->failures_in_row, upstream_outcome_name(call->outcome));
	}
}

static void
count_call(const struct upstream_call *call, bool asked)
{
	struct metrics_labels labels = { .first = call->upstream->config->name };

	if (asked)
		metrics_observe(METRIC_UPSTREAM_US, labels, call->us);
	labels.second = upstream_outcome_name(call->outcome);
	metrics_count(METRIC_UPSTREAM_CALLS, labels, 1);
}

void
upstream_settle(struct upstream_call *call, enum upstream_outcome verdict)
{
	struct upstream *up = call->upstream;
	bool asked = call->outcome != UPSTREAM_CIRCUIT_OPEN && call->outcome != UPSTREAM_OVERLOADED;

	if (asked)
		call->outcome = call->because = verdict;
	count_call(call, asked);
	if (!asked)
		return;
	(void)pthread_mutex_lock(&up->lock);
	up->in_flight--;
	if (call->probe)
		up->probing = false;
	if (verdict == UPSTREAM_ANSWERED || verdict == UPSTREAM_UNKNOWN)
		count_success(up);
	else
		count_failure(up, call, clock_monotonic_us());
	(void)pthread_mutex_unlock(&up->lock);
}

/* Takes the URL apart as libcurl will: is it one, is it of https, has it a query, does it name the
 * address? */
static enum err
check_url(struct upstream *up, bool *https)
{
	CURLU *url = curl_url();
	char *host = NULL, *query = NULL, *scheme = NULL;
	unsigned char address[sizeof(struct in6_addr)];
	CURLUcode code = CURLUE_OUT_OF_MEMORY;

	if (url != NULL &&
	    (code = curl_url_set(url, CURLUPART_URL, up->config->url, 0)) == CURLUE_OK)
		code = curl_url_get(url, CURLUPART_HOST, &host, 0);
	if (code == CURLUE_OK)
		code = curl_url_get(url, CURLUPART_SCHEME, &scheme, 0);
	if (code == CURLUE_OK) {
		*https = strcmp(scheme, "https") == 0;
		up->joint = curl_url_get(url, CURLUPART_QUERY, &query, 0) == CURLUE_OK ? '&' : '?';
		up->any_address = up->config->private_network || host[0] == '[' ||
		    strcmp(host, "localhost") == 0 || inet_pton(AF_INET, host, address) == 1;
	}
	curl_free(host);
	curl_free(query);
	curl_free(scheme);
	curl_url_cleanup(url);
	if (code == CURLUE_OK)
		return OK;
	return fail(ERR_INPUT, "upstream %s: the URL is not usable: %s", up->config->name,
	    curl_url_strerror(code));
}

enum err
upstream_open(const struct upstream_config *config, struct upstream **out)
{
	struct upstream *up;
	bool https = false;
	enum err err;

	*out = NULL;
	(void)pthread_once(&once, init);
	if ((up = calloc(1, sizeof(*up))) == NULL)
		return fail(ERR_BUSY, "no memory for an upstream");
	up->config = config;
	up->pause_us = config->circuit_pause_us;
	(void)snprintf(up->accept_bytes, sizeof(up->accept_bytes), "Accept: %s",
	    config->accept != NULL ? config->accept : "application/json");
	up->index = next_index++;
	(void)pthread_mutex_init(&up->lock, NULL);
	err = check_url(up, &https);
	if (err == OK && https && (err = trust_open(config->ca_file, &up->trust)) != OK)
		err = fail(err, "upstream %s: %s", config->name, err_words());
	if (err != OK) {
		upstream_close(up);
		return err;
	}
	*out = up;
	return OK;
}

void
upstream_close(struct upstream *up)
{
	struct lane *lane;

	if (up == NULL)
		return;
	/* The caller may have asked in its own thread, whose end comes too late for the handle. */
	lane = pthread_getspecific(lane_key);
	if (lane != NULL && up->index < lane->count) {
		handle_close(lane->handles[up->index]);
		lane->handles[up->index] = NULL;
	}
	(void)pthread_mutex_destroy(&up->lock);
	trust_close(up->trust);
	free(up);
}

const char *
upstream_circuit_name(enum upstream_circuit circuit)
{
	static const char *const names[] = { "closed", "half_open", "open" };

	return names[circuit];
}

/* With the lock held. */
static enum upstream_circuit
circuit_of(const struct upstream *up)
{
	if (!up->open)
		return CIRCUIT_CLOSED;
	if (up->probing || clock_monotonic_us() >= up->open_until_us)
		return CIRCUIT_HALF_OPEN;
	return CIRCUIT_OPEN;
}

struct upstream_state
upstream_state(struct upstream *up)
{
	struct upstream_state state;

	(void)pthread_mutex_lock(&up->lock);
	state = (struct upstream_state){
		.name = up->config->name,
		.circuit = circuit_of(up),
		.last_failure = up->last_failure,
		.in_flight = up->in_flight,
		.answers = up->answers,
		.failures = up->failures,
	};
	(void)pthread_mutex_unlock(&up->lock);
	return state;
}
