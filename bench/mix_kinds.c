#include "mix.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define JSON "Content-Type: application/json\r\n"
#define KEY "Idempotency-Key: @r@r-@n\r\n"
#define FORM "Content-Type: multipart/form-data; boundary=limit\r\n"
#define EVENT_BODY "{\"type_id\":1,\"caregiver_id\":@c,\"start_time\":\"@dT@h:00:00Z\"}"
#define ACCOUNT_BODY \
	"{\"name\":\"Ada @r\",\"email\":\"ada.@r@r@@example.com\",\"address\":\"Storgatan 1\"}"
#define TICKS "[-11.5,-12,-13,-14.25,-15,-16,-17,-18,-19,-20,-21,-22,-23,-24,-99.125]"
#define AUDIO_BODY(id) \
	"{\"session_id\":" id ",\"ticks\":" TICKS ",\"selected_tick\":3,\"step_count\":5}"
#define IMAGE_BODY \
	"--limit\r\nContent-Disposition: form-data; name=\"image\"; filename=\"ada.png\"\r\n" \
	"Content-Type: image/png\r\n\r\n@p\r\n--limit--\r\n"
#define HOST "Host: localhost\r\n@A"

const struct kind kinds[] = {
	{ "GET /ping", 60, "GET /ping", "", NULL, "200", KEEP, NOTHING, false },
	{ "POST /events/types", 2, "POST /events/types", JSON KEY,
	    "{\"name\":\"Visit @r@r\",\"amount_in_cents\":25050}", "201", KEEP, NOTHING, false },
	{ "GET /events/types", 30, "GET /events/types?limit=20", "", NULL, "200", KEEP, NOTHING,
	    false },
	{ "PUT /events/types/1", 5, "PUT /events/types/1", JSON,
	    "{\"name\":\"Home visit\",\"amount_in_cents\":@c}", "200", KEEP, NOTHING, false },
	{ "GET /events/ID", 150, "GET /events/@e", "", NULL, "200 404", KEEP, NOTHING, false },
	{ "HEAD /events/ID", 10, "HEAD /events/@e", "", NULL, "200 404", KEEP, NOTHING, false },
	{ "GET /events/ID If-None-Match", 10, "GET /events/@e", "If-None-Match: \"no\"\r\n", NULL,
	    "200 404", KEEP, NOTHING, false },
	{ "GET /events of one", 60, "GET /events?caregiver_id=@c&limit=20", "", NULL, "200", KEEP,
	    NOTHING, false },
	{ "GET /events", 10, "GET /events?reimbursed=false&limit=50", "", NULL, "200", KEEP,
	    NOTHING, false },
	{ "POST /events", 200, "POST /events", JSON KEY, EVENT_BODY, "201", KEEP, EVENT, false },
	{ "POST /events again", 20, "POST /events", JSON "Idempotency-Key: again-@o\r\n",
	    "{\"type_id\":1,\"caregiver_id\":@o,\"start_time\":\"2026-01-01T00:00:00Z\"}",
	    "201 409", KEEP, NOTHING, false },
	{ "POST /events NDJSON", 5, "POST /events", "Content-Type: application/x-ndjson\r\n" KEY,
	    EVENT_BODY "\n" EVENT_BODY "\n" EVENT_BODY "\n" EVENT_BODY "\n", "201", KEEP, NOTHING,
	    false },
	{ "POST /events/ID/reimburse", 40, "POST /events/@e/reimburse", KEY, "", "200 404 409",
	    KEEP, NOTHING, false },
	{ "DELETE /events/ID", 20, "DELETE /events/@e", "", NULL, "204 404 409", KEEP, NOTHING,
	    false },
	{ "GET /events/report", 40, "GET /events/report?caregiver_ids=@c", "", NULL, "200", KEEP,
	    NOTHING, false },
	{ "GET /events/report rows", 10,
	    "GET /events/report?format=rows&caregiver_ids=@c,@c&min_time=@dT@h:00:00Z", "", NULL,
	    "200", KEEP, NOTHING, false },
	{ "GET /events/report CSV", 10, "GET /events/report?caregiver_ids=@c",
	    "Accept: text/csv\r\n", NULL, "200", KEEP, NOTHING, false },
	{ "POST /events/report", 10, "POST /events/report", JSON, "{\"caregiver_ids\":[@c,@c,@c]}",
	    "200", KEEP, NOTHING, false },
	{ "GET /api/coalescence", 100, "GET /api/coalescence/default?member_id=@n", "", NULL,
	    "200 502 504", KEEP, NOTHING, false },
	{ "GET /api/coalescence explained", 20,
	    "GET /api/coalescence/avg?member_id=@o&explain=true", "", NULL, "200 502 504", KEEP,
	    NOTHING, false },
	{ "POST /accounts", 30, "POST /accounts", JSON KEY, ACCOUNT_BODY, "201 409", KEEP, ACCOUNT,
	    false },
	{ "GET /accounts/ID", 60, "GET /accounts/@a", "", NULL, "200 404", KEEP, NOTHING, false },
	{ "GET /accounts", 20, "GET /accounts?email=ada.@r@r%40example.com", "", NULL, "200", KEEP,
	    NOTHING, false },
	{ "PUT /accounts/ID", 10, "PUT /accounts/@a", JSON, ACCOUNT_BODY, "200 404 409", KEEP,
	    NOTHING, false },
	{ "DELETE /accounts/ID", 3, "DELETE /accounts/@a", "", NULL, "204 404", KEEP, NOTHING,
	    false },
	{ "POST /accounts/ID/upload_image", 10, "POST /accounts/@a/upload_image", FORM, IMAGE_BODY,
	    "200 404", KEEP, IMAGE, false },
	{ "GET /images", 20, "GET @i", "", NULL, "200 404", KEEP, NOTHING, false },
	{ "POST /audios", 20, "POST /audios", JSON KEY, AUDIO_BODY("@n"), "201 409", KEEP, SESSION,
	    false },
	{ "GET /audios/ID", 30, "GET /audios/@s", "", NULL, "200 404", KEEP, NOTHING, false },
	{ "GET /audios", 5, "GET /audios?step_count=5&limit=10", "", NULL, "200", KEEP, NOTHING,
	    false },
	{ "PUT /audios/ID", 5, "PUT /audios/@s", JSON,
	    "{\"ticks\":" TICKS ",\"selected_tick\":4,\"step_count\":1}", "200 404", KEEP, NOTHING,
	    false },
	{ "DELETE /audios/ID", 3, "DELETE /audios/@s", "", NULL, "204 404", KEEP, NOTHING, false },
	{ "GET /api/...", 50, "GET /api/one/two/@o", "", NULL, "200", KEEP, NOTHING, false },
	{ "GET /stats/", 5, "GET /stats/?limit=10", "", NULL, "200", KEEP, NOTHING, false },
	{ "GET /stats/hourly", 2, "GET /stats/hourly?path=/api/one/two/@o", "", NULL, "200", KEEP,
	    NOTHING, false },
	{ "POST /test/2", 1, "POST /test/2", "", "", "200 429", KEEP, NOTHING, false },
	{ "GET /healthz", 2, "GET /healthz", "", NULL, "200", KEEP, NOTHING, false },
	{ "GET /metrics", 1, "GET /metrics", "", NULL, "200", KEEP, NOTHING, false },
	{ "GET /docs/openapi.yaml", 3, "GET /docs/openapi.yaml", "", NULL, "200", KEEP, NOTHING,
	    false },
	{ "GET /problems", 5, "GET /problems/not-found", "", NULL, "200", KEEP, NOTHING, false },
	{ "GET /nowhere", 5, "GET /nowhere/@n", "", NULL, "404", KEEP, NOTHING, false },
	{ "OPTIONS /events", 5, "OPTIONS /events", "", NULL, "200 204", KEEP, NOTHING, false },

	{ "bad JSON", 10, "POST /events", JSON KEY, "{\"type_id\":1,\"type_id\":[[[", "400", KEEP,
	    NOTHING, true },
	{ "bad values", 10, "POST /accounts", JSON KEY,
	    "{\"name\":5,\"email\":\"@@\",\"address\":null}", "400", KEEP, NOTHING, true },
	{ "no picture", 5, "POST /accounts/1/upload_image", FORM,
	    "--limit\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n"
	    "Content-Type: image/png\r\n\r\n\x89PNG\r\n@r@r\r\n--limit--\r\n",
	    "400 404", KEEP, NOTHING, true },
	{ "oversize body", 10, NULL, NULL,
	    "POST /accounts HTTP/1.1\r\n" HOST JSON "Content-Length: 2000000\r\n\r\n{\"name\":\"",
	    "413", CLOSE, NOTHING, true },
	{ "wrong method", 10, "PATCH /events/@e", JSON, "{}", "405", KEEP, NOTHING, true },
	{ "wrong method of nginx", 5, "DELETE /ping", "", NULL, "405", KEEP, NOTHING, true },
	{ "wrong type", 5, "POST /audios", "Content-Type: text/xml\r\n", "<a/>", "415", KEEP,
	    NOTHING, true },
	{ "half a head", 10, NULL, NULL, "POST /events HTTP/1.1\r\nHost: loc", "0", HANG_UP_SENT,
	    NOTHING, true },
	{ "half a body", 10, NULL, NULL,
	    "POST /events HTTP/1.1\r\n" HOST JSON "Content-Length: 80\r\n\r\n{\"type_id\":1,", "0",
	    HANG_UP_SENT, NOTHING, true },
	{ "hang-up before the answer", 10, "GET /api/coalescence/default?member_id=@n", "", NULL,
	    "0", HANG_UP_SENT, NOTHING, true },
	{ "hang-up after a change", 10, "POST /events", JSON KEY, EVENT_BODY, "0", HANG_UP_SENT,
	    NOTHING, true },
	{ "hang-up after a picture", 3, "POST /accounts/@a/upload_image", FORM, IMAGE_BODY, "0",
	    HANG_UP_SENT, NOTHING, true },
	{ "hang-up in the answer", 5, "GET /events?limit=1000", "", NULL, "0", HANG_UP_ANSWERED,
	    NOTHING, true },
	{ "hang-up in a report", 2, "GET /events/report?format=rows", "", NULL, "0",
	    HANG_UP_ANSWERED, NOTHING, true },
	{ "no token", 10, NULL, NULL, "GET /events/@e HTTP/1.1\r\nHost: localhost\r\n\r\n", "401",
	    KEEP, NOTHING, true },
	{ "bad token", 10, NULL, NULL,
	    "GET /events/@e HTTP/1.1\r\nHost: localhost\r\n"
	    "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ@r.@r@r@r\r\n\r\n",
	    "401", KEEP, NOTHING, true },
	{ "foreign Host", 3, NULL, NULL, "GET /ping HTTP/1.1\r\nHost: evil.example\r\n\r\n", "0",
	    CLOSE, NOTHING, true },
	{ "bad Range, path and query", 3, "GET /events/%00?%ff=%zz", "Range: bytes=9-1\r\n", NULL,
	    "400 404", CLOSE, NOTHING, true },
	{ "both lengths", 5, NULL, NULL,
	    "POST /events HTTP/1.1\r\n" HOST JSON
	    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
	    "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n",
	    "400", CLOSE, NOTHING, true },
	{ "two lengths", 5, NULL, NULL,
	    "POST /events HTTP/1.1\r\n" HOST JSON "Content-Length: 0\r\nContent-Length: 44\r\n\r\n"
	    "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n",
	    "400", CLOSE, NOTHING, true },
	{ "a chunk of no size", 5, NULL, NULL,
	    "POST /events HTTP/1.1\r\n" HOST JSON
	    "Transfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n",
	    "400", CLOSE, NOTHING, true },
	{ "another coding", 5, NULL, NULL,
	    "POST /events HTTP/1.1\r\n" HOST JSON
	    "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
	    "400 501", CLOSE, NOTHING, true },
	{ "space before the colon", 5, NULL, NULL,
	    "POST /events HTTP/1.1\r\n" HOST
	    "Content-Length : 30\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
	    "400 415", CLOSE, NOTHING, true },
	{ "no HTTP", 5, NULL, NULL, "\x16\x03\x01\x02\x01\x01\xfc\x03\x03\r\n\r\n", "0 400", CLOSE,
	    NOTHING, true },
};
const int kind_count = sizeof(kinds) / sizeof(*kinds);

/* 16 x 16, in colours. */
static const unsigned char picture[] = { 0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00,
	0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x10, 0x08,
	0x02, 0x00, 0x00, 0x00, 0x90, 0x91, 0x68, 0x36, 0x00, 0x00, 0x01, 0xc8, 0x49, 0x44, 0x41,
	0x54, 0x78, 0xda, 0x0d, 0x92, 0x51, 0x11, 0xc0, 0x30, 0x08, 0x43, 0x91, 0x80, 0x04, 0x24,
	0x54, 0x02, 0x12, 0x90, 0x80, 0x84, 0x49, 0x40, 0x02, 0x12, 0x90, 0x50, 0x09, 0x48, 0x40,
	0x02, 0x12, 0x2a, 0x61, 0xd9, 0xc7, 0x6e, 0xd7, 0x32, 0x92, 0x3c, 0x20, 0x22, 0x62, 0x62,
	0x21, 0x39, 0x74, 0x94, 0xd4, 0xc8, 0x9c, 0xfc, 0xa3, 0x2f, 0x28, 0x92, 0xb2, 0xa8, 0x2e,
	0xdd, 0xa6, 0x1e, 0x9a, 0xa5, 0x7d, 0xf4, 0x50, 0x8e, 0x87, 0x84, 0xcf, 0x61, 0x51, 0x36,
	0x63, 0x75, 0xfe, 0x3e, 0xf6, 0xe0, 0x4c, 0x8e, 0xe2, 0x7b, 0xb9, 0x9a, 0x67, 0xb8, 0x97,
	0xdf, 0xe3, 0x25, 0x12, 0x61, 0x39, 0x22, 0x74, 0x84, 0x55, 0xdc, 0xe4, 0x73, 0xd1, 0x4f,
	0x2c, 0xa4, 0x52, 0x6e, 0x49, 0x5c, 0xc9, 0x96, 0x1d, 0x79, 0x2b, 0xfd, 0x64, 0x88, 0xd0,
	0x1a, 0xf5, 0x78, 0x1d, 0xd2, 0xf3, 0xd9, 0x71, 0x3f, 0xf6, 0x1d, 0x8d, 0x73, 0xf3, 0x54,
	0x9d, 0xbc, 0x27, 0xfa, 0xbc, 0x39, 0xbb, 0x67, 0xde, 0x69, 0x22, 0x55, 0x56, 0x13, 0xf5,
	0xa3, 0x9f, 0x2a, 0x99, 0xb2, 0xab, 0x7c, 0x7a, 0x42, 0x3b, 0x75, 0x4a, 0xf7, 0xea, 0x6b,
	0x8d, 0xd1, 0x5c, 0xad, 0xa7, 0x97, 0x08, 0xb6, 0x4d, 0x05, 0x4d, 0xcd, 0x15, 0x9f, 0x46,
	0x6e, 0x10, 0x92, 0xb0, 0x49, 0xeb, 0xb2, 0x77, 0x6d, 0xdb, 0x72, 0x2c, 0xd6, 0xee, 0xb3,
	0x22, 0x72, 0x67, 0xff, 0xc4, 0xf5, 0xb8, 0xa9, 0x8b, 0x39, 0x3c, 0xd1, 0xe7, 0x1c, 0xbe,
	0xe9, 0xaf, 0xbc, 0xaf, 0x4f, 0x7b, 0x8d, 0xdf, 0xf5, 0x78, 0x9e, 0x44, 0x40, 0x82, 0x9c,
	0x30, 0x0f, 0x47, 0x90, 0xc1, 0xbf, 0x38, 0xf8, 0x28, 0xbe, 0x97, 0xdf, 0xd6, 0x37, 0xf7,
	0xeb, 0xfe, 0xee, 0x7c, 0xb5, 0x5f, 0x3e, 0xd0, 0xa6, 0x08, 0x8e, 0x94, 0xa8, 0x13, 0x57,
	0xa3, 0x2d, 0xc6, 0x63, 0xbf, 0x78, 0x11, 0x94, 0xc1, 0x15, 0x72, 0xe3, 0x74, 0xe8, 0x84,
	0x6d, 0xf8, 0x8b, 0x8f, 0x08, 0xb8, 0x33, 0x04, 0x30, 0xb2, 0x14, 0x56, 0xb3, 0x1d, 0x8d,
	0x72, 0x03, 0xc7, 0x49, 0x95, 0x80, 0x25, 0x9d, 0x08, 0xa4, 0x9b, 0x10, 0x75, 0xa2, 0x2a,
	0xae, 0x2b, 0x15, 0xa7, 0x52, 0x6b, 0xad, 0x9e, 0x57, 0x7f, 0x35, 0x51, 0x92, 0x05, 0xae,
	0x74, 0x8b, 0xbb, 0x7c, 0x0a, 0xfe, 0xf4, 0x95, 0x11, 0x61, 0x94, 0x98, 0x0f, 0xa0, 0xdf,
	0x50, 0x60, 0x40, 0x36, 0x18, 0xbe, 0x1d, 0x90, 0x44, 0x1f, 0x5c, 0x5e, 0xea, 0x8b, 0x28,
	0xbe, 0x17, 0xc8, 0x94, 0xa8, 0x9b, 0x7b, 0xa4, 0xf7, 0xf4, 0xd3, 0x0e, 0xeb, 0xf4, 0xae,
	0xaf, 0x6f, 0xb4, 0x66, 0x5b, 0xb5, 0xdf, 0x46, 0x6a, 0x9a, 0xe6, 0x6d, 0x79, 0x7d, 0x88,
	0xb0, 0x26, 0xd3, 0x82, 0x21, 0xce, 0x2a, 0xd0, 0x4f, 0x38, 0xc0, 0x4c, 0x05, 0xe2, 0x8c,
	0x16, 0xc4, 0xc6, 0x1b, 0x25, 0x43, 0x3b, 0x18, 0xb8, 0x10, 0xed, 0xf2, 0x3e, 0xd9, 0x3e,
	0x3b, 0xba, 0x65, 0x0b, 0xed, 0xf8, 0x36, 0x63, 0x3d, 0x17, 0x2c, 0xf5, 0xae, 0xf5, 0xca,
	0x2c, 0x76, 0x83, 0xde, 0x32, 0x11, 0x56, 0x10, 0x7b, 0x85, 0x65, 0xc1, 0x06, 0x60, 0xac,
	0x98, 0x15, 0x06, 0x00, 0xaa, 0x40, 0x85, 0xfc, 0x08, 0x05, 0xa7, 0x90, 0x47, 0x4f, 0x14,
	0x3e, 0xfa, 0x01, 0x4f, 0x4e, 0x68, 0x10, 0x7f, 0xb0, 0x8a, 0x42, 0x00, 0x00, 0x00, 0x00,
	0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82 };

static struct {
	uint64_t random; /* of xorshift */
	uint64_t events, accounts, sessions[1024], session_count;
	char image[1024]; /* where the last one is */
	uint64_t number, again; /* of the request that is made */
} mix = { .events = 1, .accounts = 1, .image = "/images/none" };

uint64_t
draw(uint64_t n)
{
	struct timespec t;

	if (mix.random == 0) {
		(void)clock_gettime(CLOCK_REALTIME, &t);
		mix.random = (uint64_t)t.tv_sec * UINT64_C(1000000007) + (uint64_t)t.tv_nsec + 1;
	}
	mix.random ^= mix.random << 13;
	mix.random ^= mix.random >> 7;
	mix.random ^= mix.random << 17;
	return (mix.random >> 11) % n;
}

int
kind_draw(int permille)
{
	bool abuse = draw(1000) < (uint64_t)permille;
	int sum = 0, at;

	for (int i = 0; i < kind_count; i++)
		sum += kinds[i].abuse == abuse ? kinds[i].weight : 0;
	at = (int)draw((uint64_t)sum);
	for (int i = 0; i < kind_count; i++)
		if (kinds[i].abuse == abuse && (at -= kinds[i].weight) < 0)
			return i;
	abort();
}

struct out {
	char *bytes;
	size_t n;
};

static void __attribute__((format(printf, 2, 3))) put(struct out *out, const char *format, ...)
{
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(out->bytes + out->n, REQUEST_MAX - out->n, format, arguments);
	va_end(arguments);
	if (n < 0 || (size_t)n >= REQUEST_MAX - out->n)
		abort(); /* a text of the table is too long */
	out->n += (size_t)n;
}

static void
put_picture(struct out *out)
{
	if (sizeof(picture) > REQUEST_MAX - out->n)
		abort();
	memcpy(out->bytes + out->n, picture, sizeof(picture));
	out->n += sizeof(picture);
}

static void
put_day(struct out *out)
{
	time_t then = time(NULL) - 86400 * (time_t)(1 + draw(700));
	struct tm tm;
	char text[16];

	(void)strftime(text, sizeof(text), "%F", gmtime_r(&then, &tm));
	put(out, "%s", text);
}

static void
put_session(struct out *out)
{
	uint64_t known = mix.session_count < 1024 ? mix.session_count : 1024;

	put(out, "%" PRIu64, known > 0 ? mix.sessions[draw(known)] : 1);
}

static void
put_named(struct out *out, char name, const char *token)
{
	switch (name) {
	case 'A':
		put(out, "Authorization: Bearer %s\r\n", token);
		return;
	case 'a':
		put(out, "%" PRIu64, draw(mix.accounts) + 1);
		return;
	case 'c':
		put(out, "%" PRIu64, draw(10000) + 1);
		return;
	case 'd':
		put_day(out);
		return;
	case 'e':
		put(out, "%" PRIu64, draw(mix.events) + 1);
		return;
	case 'h':
		put(out, "%02" PRIu64, draw(24));
		return;
	case 'i':
		put(out, "%s", mix.image);
		return;
	case 'n':
		put(out, "%" PRIu64, mix.number);
		return;
	case 'o':
		put(out, "%" PRIu64, mix.again);
		return;
	case 'p':
		put_picture(out);
		return;
	case 'r':
		put(out, "%08" PRIx64, draw(UINT64_C(1) << 32));
		return;
	case 's':
		put_session(out);
		return;
	default:
		put(out, "%c", name);
	}
}

static void
put_text(struct out *out, const char *text, const char *token)
{
	for (; *text != '\0'; text++) {
		if (out->n == REQUEST_MAX)
			abort();
		if (*text == '@')
			put_named(out, *++text, token);
		else
			out->bytes[out->n++] = *text;
	}
}

size_t
kind_make(const struct kind *kind, const char *token, char bytes[REQUEST_MAX])
{
	static char body_bytes[REQUEST_MAX];
	struct out out = { bytes, 0 }, body = { body_bytes, 0 };

	mix.number = draw(UINT64_C(1) << 40) + 1;
	mix.again = draw(1000) + 1;
	put_text(&body, kind->body != NULL ? kind->body : "", token);
	if (kind->line != NULL) {
		put_text(&out, kind->line, token);
		put(&out, " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n", token);
		put_text(&out, kind->fields, token);
		if (kind->body != NULL)
			put(&out, "Content-Length: %zu\r\n", body.n);
		put(&out, "\r\n");
	}
	if (body.n > REQUEST_MAX - out.n)
		abort();
	memcpy(bytes + out.n, body_bytes, body.n);
	return out.n + body.n;
}

static uint64_t
number_behind(const char *body, const char *name)
{
	const char *at = strstr(body, name);

	return at != NULL ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static uint64_t
larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

void
kind_learn(const struct kind *kind, const char *body)
{
	const char *at;

	switch (kind->learn) {
	case EVENT:
		mix.events = larger(mix.events, number_behind(body, "\"id\":"));
		return;
	case ACCOUNT:
		mix.accounts = larger(mix.accounts, number_behind(body, "\"id\":"));
		return;
	case SESSION:
		mix.sessions[mix.session_count++ % 1024] = number_behind(body, "\"session_id\":");
		return;
	case IMAGE:
		at = strstr(body, "/images/");
		if (at != NULL && strcspn(at, "\"") < sizeof(mix.image))
			(void)snprintf(
			    mix.image, sizeof(mix.image), "%.*s", (int)strcspn(at, "\""), at);
		return;
	case NOTHING:
		return;
	}
}

bool
kind_expects(const struct kind *kind, int status)
{
	for (const char *at = kind->expected; at != NULL; at = strchr(at, ' '))
		if (strtol(at += *at == ' ', NULL, 10) == status)
			return true;
	return false;
}
