#include "lib/hit.h"

#include <string.h>

#include "lib/clock.h"
#include "lib/text.h"

#define TRACE_DIGITS 32

struct cursor {
	const char *p, *end;
};

static bool
take(struct cursor *c, const char *text, size_t n)
{
	if ((size_t)(c->end - c->p) < n || memcmp(c->p, text, n) != 0)
		return false;
	c->p += n;
	return true;
}

#define TAKE(c, literal) take(c, literal, sizeof(literal) - 1)

/* WIDTH digits. */
static bool
take_digits(struct cursor *c, size_t width, int64_t *value)
{
	int64_t v = 0;

	if ((size_t)(c->end - c->p) < width)
		return false;
	for (size_t i = 0; i < width; i++) {
		if (c->p[i] < '0' || c->p[i] > '9')
			return false;
		v = v * 10 + (c->p[i] - '0');
	}
	c->p += width;
	*value = v;
	return true;
}

/* As many digits as there are; more than any number of nginx's are none. */
static bool
take_number(struct cursor *c, int64_t *value)
{
	size_t width = 0;

	while (c->p + width < c->end && c->p[width] >= '0' && c->p[width] <= '9')
		width++;
	return width > 0 && width <= 18 && take_digits(c, width, value);
}

/* 2026-11-21T04:18:58+01:00 */
static bool
take_time(struct cursor *c, int64_t *at_s)
{
	int64_t year, month, day, hour, minute, second, offset_h, offset_m, offset;
	bool west;

	if (!take_digits(c, 4, &year) || !TAKE(c, "-") || !take_digits(c, 2, &month) ||
	    !TAKE(c, "-") || !take_digits(c, 2, &day) || !TAKE(c, "T") ||
	    !take_digits(c, 2, &hour) || !TAKE(c, ":") || !take_digits(c, 2, &minute) ||
	    !TAKE(c, ":") || !take_digits(c, 2, &second) || c->p == c->end)
		return false;
	west = *c->p == '-';
	if ((!west && *c->p != '+') || month < 1 || month > 12 || day < 1 || day > 31)
		return false;
	c->p++;
	if (!take_digits(c, 2, &offset_h) || !TAKE(c, ":") || !take_digits(c, 2, &offset_m))
		return false;
	offset = offset_h * 3600 + offset_m * 60;
	*at_s = clock_month_start(year * 12 + month - 1) / CLOCK_SECOND_US + (day - 1) * 86400 +
	    hour * 3600 + minute * 60 + second + (west ? offset : -offset);
	return *at_s >= 0;
}

/* Up to the quote that ends it; a quote within is behind a backslash. */
static bool
take_text(struct cursor *c, const char **text, size_t *n)
{
	const char *from = c->p, *quote = from;

	for (;;) {
		size_t backslashes = 0;

		quote = memchr(quote, '"', (size_t)(c->end - quote));
		if (quote == NULL)
			return false;
		while (quote - backslashes > from && quote[-1 - (ptrdiff_t)backslashes] == '\\')
			backslashes++;
		if (backslashes % 2 == 0)
			break;
		quote++;
	}
	*text = from;
	*n = (size_t)(quote - from);
	c->p = quote + 1;
	return true;
}

/* Seconds with three decimals, as milliseconds. */
static bool
take_seconds(struct cursor *c, int64_t *ms)
{
	int64_t seconds, thousandths;

	if (!take_number(c, &seconds) || seconds > INT32_MAX || !TAKE(c, ".") ||
	    !take_digits(c, 3, &thousandths))
		return false;
	*ms = seconds * 1000 + thousandths;
	return true;
}

/* Three numbers, with the quote that ends them. */
static bool
take_serial(struct cursor *c)
{
	int64_t pid, connection, request;

	return take_number(c, &pid) && TAKE(c, "-") && take_number(c, &connection) &&
	    TAKE(c, "-") && take_number(c, &request) && TAKE(c, "\"");
}

static enum hit_method
method_of(const char *word, size_t n)
{
	static const struct {
		const char *name;
		size_t n;
	} names[] = { [HIT_GET] = { "GET", 3 },
		[HIT_HEAD] = { "HEAD", 4 },
		[HIT_POST] = { "POST", 4 },
		[HIT_PUT] = { "PUT", 3 },
		[HIT_DELETE] = { "DELETE", 6 },
		[HIT_OPTIONS] = { "OPTIONS", 7 } };

	for (enum hit_method m = HIT_GET; m <= HIT_OPTIONS; m++)
		if (names[m].n == n && memcmp(names[m].name, word, n) == 0)
			return m;
	return HIT_OTHER;
}

bool
hit_parse(const char *line, size_t n, struct hit *hit)
{
	struct cursor c = { line, line + n };
	const char *trace, *method, *cache;
	size_t trace_n, method_n, cache_n;
	int64_t status;

	if (!TAKE(&c, "{\"time\":\"") || !take_time(&c, &hit->at_s) ||
	    !TAKE(&c, "\",\"trace_id\":\"") || !take_text(&c, &trace, &trace_n) ||
	    trace_n != TRACE_DIGITS || !TAKE(&c, ",\"method\":\"") ||
	    !take_text(&c, &method, &method_n) || !TAKE(&c, ",\"path\":\"") ||
	    !take_text(&c, &hit->path, &hit->path_n) || !TAKE(&c, ",\"status\":") ||
	    !take_number(&c, &status) || status > 999 || !TAKE(&c, ",\"bytes\":") ||
	    !take_number(&c, &hit->bytes) || !TAKE(&c, ",\"seconds\":") ||
	    !take_seconds(&c, &hit->took_ms) || !TAKE(&c, ",\"cache\":\"") ||
	    !take_text(&c, &cache, &cache_n))
		return false;
	if (TAKE(&c, ",\"serial\":\"") && !take_serial(&c))
		return false;
	if (!TAKE(&c, "}") || c.p != c.end)
		return false;
	hit->status = (int)status;
	hit->method = method_of(method, method_n);
	return true;
}

/* One byte of the path as it was sent; *STEP of the log's bytes are in it. */
static char
unescape(const char *s, size_t n, size_t *step)
{
	static const char letters[] = "\"\\bfnrt", bytes[] = "\"\\\b\f\n\r\t";
	const char *found;
	unsigned char code[2];

	*step = 1;
	if (s[0] != '\\' || n < 2)
		return s[0];
	if (s[1] == 'u' && n >= 6 && text_hex(s + 2, 2, code) && code[0] == 0) {
		*step = 6;
		return (char)code[1];
	}
	found = s[1] == '\0' ? NULL : strchr(letters, s[1]);
	if (found == NULL)
		return s[0];
	*step = 2;
	return bytes[found - letters];
}

/* Whether all is as it will be stored. */
static bool
is_plain(const char *s, size_t n)
{
	return memchr(s, '%', n) == NULL && memchr(s, '\\', n) == NULL &&
	    memmem(s, n, "//", 2) == NULL;
}

/* Undoes a percent escape whose two digits follow; the percent sign is taken already. */
static bool
decode(const char *s, size_t n, char *out, size_t *step)
{
	unsigned char byte;

	if (n < 2 || !text_hex(s, 1, &byte))
		return false;
	*out = (char)byte;
	*step += 2;
	return true;
}

long
hit_path(const struct hit *hit, char *out)
{
	const char *s = hit->path, *end = hit->path + hit->path_n;
	size_t to = 0, step;

	if (hit->path_n <= HIT_PATH_MAX && is_plain(s, hit->path_n)) {
		memcpy(out, s, hit->path_n);
		return (long)hit->path_n;
	}
	for (; s < end; s += step) {
		char c = unescape(s, (size_t)(end - s), &step);

		if (c == '%' && step == 1)
			(void)decode(s + 1, (size_t)(end - s) - 1, &c, &step);
		if (c == '/' && to > 0 && out[to - 1] == '/')
			continue;
		if (to == HIT_PATH_MAX)
			return -1;
		out[to++] = c;
	}
	return (long)to;
}
