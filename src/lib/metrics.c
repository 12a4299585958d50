#include "lib/metrics.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/text.h"

#define BUCKETS_MAX 16 /* of a histogram, with the one for what is above all bounds */
#define CHAINS 256 /* of the hash table; a program has some dozens of series */
#define CHAIN_SHIFT 24 /* only the highest bits know all of a hash */

enum kind { COUNTER, GAUGE, HISTOGRAM };

static const char *const kind_names[] = { "counter", "gauge", "histogram" };

/* Bounds end with 0. */
static const int64_t duration_bounds[] = { 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000,
	250000, 500000, 1000000, 2500000, 5000000, 10000000, 0 };
static const int64_t change_bounds[] = { 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 0 };

static const struct family {
	const char *name, *help;
	enum kind kind;
	bool is_time; /* microseconds here, seconds outside */
	const char *first, *second, *number; /* names of the labels; NULL for those it has not */
	const int64_t *bounds;
} families[METRICS] = {
	[METRIC_REQUESTS] = {
		.name = "caredesk_http_requests_total",
		.help = "Requests by route, method and the status in the log.",
		.kind = COUNTER,
		.first = "route",
		.second = "method",
		.number = "status",
	},
	[METRIC_REQUEST_US] = {
		.name = "caredesk_http_request_duration_seconds",
		.help = "Time from a request to the end of its answer, in the program.",
		.kind = HISTOGRAM,
		.is_time = true,
		.first = "route",
		.second = "method",
		.bounds = duration_bounds,
	},
	[METRIC_UPSTREAM_CALLS] = {
		.name = "caredesk_upstream_calls_total",
		.help = "Calls to upstreams by outcome, with those that were not made.",
		.kind = COUNTER,
		.first = "upstream",
		.second = "outcome",
	},
	[METRIC_UPSTREAM_US] = {
		.name = "caredesk_upstream_call_duration_seconds",
		.help = "Time of the calls to upstreams that were made.",
		.kind = HISTOGRAM,
		.is_time = true,
		.first = "upstream",
		.bounds = duration_bounds,
	},
	[METRIC_COMMIT_CHANGES] = {
		.name = "caredesk_commit_changes",
		.help = "Changes that were committed in one transaction.",
		.kind = HISTOGRAM,
		.first = "database",
		.bounds = change_bounds,
	},
	[METRIC_COMMIT_US] = {
		.name = "caredesk_commit_duration_seconds",
		.help = "Time of a transaction that was committed, with its changes.",
		.kind = HISTOGRAM,
		.is_time = true,
		.first = "database",
		.bounds = duration_bounds,
	},
	[METRIC_COMMIT_FAILURES] = {
		.name = "caredesk_commit_failures_total",
		.help = "Transactions that could not be committed.",
		.kind = COUNTER,
		.first = "database",
	},
	[METRIC_LOG_LINES] = {
		.name = "caredesk_access_log_lines_total",
		.help = "Lines of the access log that this process has taken in.",
		.kind = COUNTER,
	},
	[METRIC_LOG_LAG] = {
		.name = "caredesk_access_log_lag_bytes",
		.help = "Bytes of the access log that are not taken in yet.",
		.kind = GAUGE,
	},
	[METRIC_START] = {
		.name = "process_start_time_seconds",
		.help = "When the process started, in seconds since 1970.",
		.kind = GAUGE,
		.is_time = true,
	},
	[METRIC_CPU] = {
		.name = "process_cpu_seconds_total",
		.help = "Processor time that the process has used.",
		.kind = COUNTER,
		.is_time = true,
	},
	[METRIC_MEMORY] = {
		.name = "process_resident_memory_bytes",
		.help = "Memory of the process in RAM.",
		.kind = GAUGE,
	},
	[METRIC_DESCRIPTORS] = {
		.name = "process_open_fds",
		.help = "Open file descriptors of the process.",
		.kind = GAUGE,
	},
	[METRIC_THREADS] = {
		.name = "caredesk_threads",
		.help = "Threads of the process, idle ones with them.",
		.kind = GAUGE,
	},
};

/* The numbers of a series. */
struct numbers {
	int64_t value; /* of a histogram: the sum */
	int64_t count;
	int64_t buckets[BUCKETS_MAX]; /* each for itself */
};

struct series {
	uint32_t hash;
	enum metric metric;
	struct metrics_labels labels; /* into BYTES, or "" */
	struct series *next_in_chain, *next; /* NEXT: of the family, in the order they came */
	struct numbers numbers;
	char bytes[];
};

static struct {
	const char *program;
	int64_t start_us;
	pthread_mutex_t lock; /* of all below */
	struct series *chains[CHAINS];
	struct series *first[METRICS], *last[METRICS];
} metrics = { .program = "", .lock = PTHREAD_MUTEX_INITIALIZER };

void
metrics_open(const char *program)
{
	metrics.program = program;
	metrics.start_us = clock_now_us();
}

/* --- Taking samples. */

/* FNV-1a, which is quick over the few bytes that labels are. */
static uint32_t
hash_text(uint32_t hash, const char *s)
{
	for (; *s != '\0'; s++)
		hash = (hash ^ (unsigned char)*s) * 16777619U;
	return hash * 16777619U; /* the end counts, too */
}

static uint32_t
hash_labels(enum metric metric, const struct metrics_labels *labels)
{
	uint32_t hash = 2166136261U ^ (uint32_t)metric ^ (uint32_t)labels->number << 8;

	return hash_text(hash_text(hash * 16777619U, labels->first), labels->second);
}

static bool
is_of(const struct series *series, enum metric metric, const struct metrics_labels *labels)
{
	return series->metric == metric && series->labels.number == labels->number &&
	    strcmp(series->labels.first, labels->first) == 0 &&
	    strcmp(series->labels.second, labels->second) == 0;
}

/* With the lock held. */
static struct series *
make_series(enum metric metric, const struct metrics_labels *labels, uint32_t hash)
{
	size_t first_n = strlen(labels->first) + 1, second_n = strlen(labels->second) + 1;
	struct series *series = calloc(1, sizeof(*series) + first_n + second_n);

	if (series == NULL)
		return NULL;
	memcpy(series->bytes, labels->first, first_n);
	memcpy(series->bytes + first_n, labels->second, second_n);
	series->hash = hash;
	series->metric = metric;
	series->labels =
	    (struct metrics_labels){ series->bytes, series->bytes + first_n, labels->number };
	series->next_in_chain = metrics.chains[hash >> CHAIN_SHIFT];
	metrics.chains[hash >> CHAIN_SHIFT] = series;
	if (metrics.last[metric] == NULL)
		metrics.first[metric] = series;
	else
		metrics.last[metric]->next = series;
	metrics.last[metric] = series;
	return series;
}

/* Takes the lock and finds the numbers, which may be NULL without memory; release() after it. */
static struct numbers *
hold(enum metric metric, struct metrics_labels labels)
{
	struct series *series;
	uint32_t hash;

	labels.first = labels.first != NULL ? labels.first : "";
	labels.second = labels.second != NULL ? labels.second : "";
	hash = hash_labels(metric, &labels);
	(void)pthread_mutex_lock(&metrics.lock);
	series = metrics.chains[hash >> CHAIN_SHIFT];
	while (series != NULL && (series->hash != hash || !is_of(series, metric, &labels)))
		series = series->next_in_chain;
	if (series == NULL)
		series = make_series(metric, &labels, hash);
	return series != NULL ? &series->numbers : NULL;
}

static void
release(void)
{
	(void)pthread_mutex_unlock(&metrics.lock);
}

void
metrics_count(enum metric metric, struct metrics_labels labels, int64_t n)
{
	struct numbers *numbers = hold(metric, labels);

	if (numbers != NULL)
		numbers->value += n;
	release();
}

void
metrics_observe(enum metric metric, struct metrics_labels labels, int64_t value)
{
	const int64_t *bounds = families[metric].bounds;
	struct numbers *numbers;
	size_t bucket = 0;

	while (bounds[bucket] != 0 && value > bounds[bucket])
		bucket++;
	if ((numbers = hold(metric, labels)) != NULL) {
		numbers->value += value;
		numbers->count++;
		numbers->buckets[bucket]++;
	}
	release();
}

void
metrics_set(enum metric metric, struct metrics_labels labels, int64_t value)
{
	struct numbers *numbers = hold(metric, labels);

	if (numbers != NULL)
		numbers->value = value;
	release();
}

/* --- What the kernel knows of the process; -1 where it does not say. */

static int64_t
start_us(void)
{
	return metrics.start_us;
}

static int64_t
cpu_us(void)
{
	struct rusage used;

	if (getrusage(RUSAGE_SELF, &used) != 0)
		return -1;
	return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * CLOCK_SECOND_US +
	    used.ru_utime.tv_usec + used.ru_stime.tv_usec;
}

/* The second number of statm, in pages. */
static int64_t
memory_bytes(void)
{
	char text[128] = "";
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	const char *second = text + strcspn(text, " ");
	int64_t pages;

	if (fd >= 0)
		(void)close(fd);
	second += strspn(second, " ");
	if (n < 0 || !text_uint(second, strcspn(second, " "), &pages))
		return -1;
	return pages * sysconf(_SC_PAGESIZE);
}

static int64_t
count_entries(const char *path)
{
	DIR *folder = opendir(path);
	const struct dirent *entry;
	int64_t count = 0;

	if (folder == NULL)
		return -1;
	while ((entry = readdir(folder)) != NULL)
		count += entry->d_name[0] != '.';
	(void)closedir(folder);
	return count;
}

static int64_t
descriptors(void)
{
	return count_entries("/proc/self/fd") - 1; /* without the folder's own */
}

static int64_t
threads(void)
{
	return count_entries("/proc/self/task");
}

static void
ask_kernel(void)
{
	static int64_t (*const questions[METRICS])(void) = {
		[METRIC_START] = start_us,
		[METRIC_CPU] = cpu_us,
		[METRIC_MEMORY] = memory_bytes,
		[METRIC_DESCRIPTORS] = descriptors,
		[METRIC_THREADS] = threads,
	};

	for (enum metric metric = METRIC_START; metric < METRICS; metric++) {
		int64_t value = questions[metric]();

		if (value >= 0)
			metrics_set(metric, (struct metrics_labels){ 0 }, value);
	}
}

/* --- Writing. */

/* The text going out, as long as nothing is wrong with it. */
struct out {
	metrics_sink sink;
	void *ctx;
	enum err err;
};

static void
put_bytes(struct out *out, const char *bytes, size_t n)
{
	if (out->err == OK && n > 0)
		out->err = out->sink(out->ctx, bytes, n);
}

static void
put(struct out *out, const char *text)
{
	put_bytes(out, text, strlen(text));
}

static void
put_int(struct out *out, int64_t value)
{
	char text[TEXT_INT_SIZE];

	put_bytes(out, text, text_int(value, text));
}

/* As a number, or microseconds as seconds without needless digits. */
static void
put_value(struct out *out, int64_t value, bool is_time)
{
	char fraction[] = ".000000";
	int64_t rest;
	size_t n = sizeof(fraction) - 1;

	put_int(out, is_time ? value / CLOCK_SECOND_US : value);
	if (!is_time || (rest = value % CLOCK_SECOND_US) == 0)
		return;
	for (size_t i = n; i-- > 1; rest /= 10)
		fraction[i] = (char)('0' + rest % 10);
	while (fraction[n - 1] == '0')
		n--;
	put_bytes(out, fraction, n);
}

/* One label; its value escaped as the format has it. */
static void
put_label(struct out *out, const char *name, const char *value)
{
	put(out, name);
	put(out, "=\"");
	for (size_t n; *value != '\0'; value += n) {
		if ((n = strcspn(value, "\\\"\n")) > 0) {
			put_bytes(out, value, n);
			continue;
		}
		n = 1;
		put(out, *value == '\n' ? "\\n" : *value == '"' ? "\\\"" : "\\\\");
	}
	put(out, "\"");
}

/* Name and labels of a sample; SUFFIX and LE are for the parts of a histogram, LE NULL but for
 * buckets. */
static void
put_name(struct out *out, const struct series *series, const char *suffix, const int64_t *le)
{
	const struct family *family = &families[series->metric];

	put(out, family->name);
	put(out, suffix);
	put(out, "{");
	put_label(out, "program", metrics.program);
	if (family->first != NULL) {
		put(out, ",");
		put_label(out, family->first, series->labels.first);
	}
	if (family->second != NULL) {
		put(out, ",");
		put_label(out, family->second, series->labels.second);
	}
	if (family->number != NULL) {
		put(out, ",");
		put(out, family->number);
		put(out, "=\"");
		put_int(out, series->labels.number);
		put(out, "\"");
	}
	if (le != NULL) {
		put(out, ",le=\"");
		if (*le != 0)
			put_value(out, *le, family->is_time);
		else
			put(out, "+Inf");
		put(out, "\"");
	}
	put(out, "} ");
}

static void
put_histogram(struct out *out, const struct series *series, const struct numbers *numbers)
{
	const struct family *family = &families[series->metric];
	const int64_t *bound = family->bounds;
	int64_t below = 0;
	bool more = true;

	for (size_t i = 0; more; i++, bound++) {
		more = *bound != 0;
		below += numbers->buckets[i];
		put_name(out, series, "_bucket", bound);
		put_int(out, below);
		put(out, "\n");
	}
	put_name(out, series, "_sum", NULL);
	put_value(out, numbers->value, family->is_time);
	put(out, "\n");
	put_name(out, series, "_count", NULL);
	put_int(out, numbers->count);
	put(out, "\n");
}

static void
put_series(struct out *out, const struct series *series, const struct numbers *numbers)
{
	const struct family *family = &families[series->metric];

	if (family->kind == HISTOGRAM) {
		put_histogram(out, series, numbers);
		return;
	}
	put_name(out, series, "", NULL);
	put_value(out, numbers->value, family->is_time);
	put(out, "\n");
}

static void
put_head(struct out *out, const struct family *family)
{
	const char *const parts[] = { "# HELP ", family->name, " ", family->help, "\n# TYPE ",
		family->name, " ", kind_names[family->kind], "\n" };

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		put(out, parts[i]);
}

/* The sink may wait for its reader, so it is called without the lock, with a copy of the numbers;
 * the rest of a series stays as it was made. */
static void
put_family(struct out *out, enum metric metric)
{
	const struct series *series, *next;
	struct numbers numbers;

	(void)pthread_mutex_lock(&metrics.lock);
	next = metrics.first[metric];
	(void)pthread_mutex_unlock(&metrics.lock);
	if (next != NULL)
		put_head(out, &families[metric]);
	while ((series = next) != NULL) {
		(void)pthread_mutex_lock(&metrics.lock);
		numbers = series->numbers;
		next = series->next;
		(void)pthread_mutex_unlock(&metrics.lock);
		put_series(out, series, &numbers);
	}
}

enum err
metrics_write(metrics_sink sink, void *ctx)
{
	struct out out = { sink, ctx, OK };

	ask_kernel();
	for (enum metric metric = 0; metric < METRICS; metric++)
		put_family(&out, metric);
	return out.err;
}
