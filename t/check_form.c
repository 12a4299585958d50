#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/form.h"

#define TYPE "multipart/form-data; boundary=x"
#define DISPOSITION "Content-Disposition: form-data; name=\"a\""
#define HEAD DISPOSITION "\r\n"
/* A form of one part with this header, or with these bytes. */
#define OF_HEADER(header) "--x\r\n" header "\r\nbytes\r\n--x--\r\n"
#define OF_BYTES(bytes) "--x\r\n" HEAD "\r\n" bytes "\r\n--x--\r\n"
#define MAX ((size_t)1000 * 1000)

static struct request req;
static struct form *form;

/* A body: N bytes, of which only LEFT are still to come, in pieces of at most STEP. */
struct body {
	const char *at;
	size_t left, step;
};

static ssize_t
read_body(void *ctx, char *buffer, size_t n)
{
	struct body *body = ctx;

	n = n < body->step ? n : body->step;
	n = n < body->left ? n : body->left;
	memcpy(buffer, body->at, n);
	body->at += n;
	body->left -= n;
	return (ssize_t)n;
}

static enum err
open_pieces(const char *type, const char *encoding, struct body *body, size_t n, size_t max)
{
	char type_meta[512], encoding_meta[64], length_meta[64];
	char *const meta[] = { type_meta, encoding_meta, length_meta, (char *)"REQUEST_URI=/x",
		NULL };
	const struct request_source source = { meta, read_body, body };
	enum err err;

	(void)snprintf(type_meta, sizeof(type_meta), "CONTENT_TYPE=%s", type);
	(void)snprintf(encoding_meta, sizeof(encoding_meta), "HTTP_CONTENT_ENCODING=%s", encoding);
	(void)snprintf(length_meta, sizeof(length_meta), "CONTENT_LENGTH=%zu", n);
	err_clear();
	ck_assert_int_eq(request_begin(&req, &source), OK);
	err = form_open(&req, max, "/tmp", &form);
	ck_assert((err == OK) == (form != NULL));
	return err;
}

static enum err
open_form(const char *type, const char *text, size_t n)
{
	struct body body = { text, n, SIZE_MAX };

	return open_pieces(type, "", &body, n, MAX);
}

#define OPEN(text) open_form(TYPE, text, sizeof(text) - 1)

static void
check_part(size_t index, const char *name, const char *bytes, size_t n)
{
	const struct form_part *part = form_at(form, index);

	ck_assert_str_eq(part->name, name);
	ck_assert_uint_eq(part->n, n);
	ck_assert_mem_eq(part->bytes, bytes, n);
}

START_TEST(a_form_as_browsers_send_it_is_read)
{
	static const char text[] =
	    "------WebKitFormBoundaryAbC\r\n"
	    "Content-Disposition: form-data; name=\"image\"; filename=\"a cat.PNG\"\r\n"
	    "Content-Type: Image/PNG\r\n\r\n"
	    "\x89PNG\r\n\x1a\n\0\0\r\n"
	    "------WebKitFormBoundaryAbC\r\n"
	    "Content-Disposition: form-data; name=\"note\"\r\n\r\n"
	    "hello\r\n"
	    "------WebKitFormBoundaryAbC--\r\n";
	const struct form_part *part;

	for (size_t step = 1; step < sizeof(text) + 40; step += 13) {
		struct body body = { text, sizeof(text) - 1, step };

		ck_assert_msg(open_pieces("multipart/form-data; boundary="
					  "----WebKitFormBoundaryAbC",
				  "", &body, sizeof(text) - 1, MAX) == OK,
		    "%s", err_words());
		ck_assert_uint_eq(form_count(form), 2);
		check_part(0, "image", "\x89PNG\r\n\x1a\n\0\0", 10);
		check_part(1, "note", "hello", 5);
		ck_assert_int_eq(form_part(form, "image", &part), OK);
		ck_assert_ptr_eq(part, form_at(form, 0));
		ck_assert_str_eq(part->filename, "a cat.PNG");
		ck_assert_str_eq(part->type, "image/png");
		ck_assert_int_eq(form_part(form, "note", &part), OK);
		ck_assert_ptr_null(part->filename);
		ck_assert_str_eq(part->type, "text/plain");
		ck_assert_int_eq(req.content_left, 0);
		form_close(form);
	}
}
END_TEST

#define B(text) \
	{ \
		text, sizeof(text) - 1 \
	}

START_TEST(bytes_are_exact)
{
	static const struct {
		const char *s;
		size_t n;
	} rows[] = { B(""), B("\r\n"), B("\n"), B("\r"), B("\r\n\r\n"), B("a\n"), B("\n\na\r"),
		B("\0"), B("\0\0\r\n\0"), B("--xy"), B("--x-"), B("\n--x\n"), B("\n--x--\r\n"),
		B("\n--x\r\n"), B("\r--x\r\n"), B("\r\n--xy\r\n"), B("\r\n--x-\r\n"),
		B("\r\n--x--y\r\n"), B("\r\n--x \t.\r\n"), B("\r\n--x\n"), B("\r\n--x\r"),
		B("\r\n -x\r\n"), B("\r\n-\r\n--"), B("\r\n--"), B("\r\n--\r\n--y"),
		B("\r\n\r\n--X\r\n"), B("From me\r\nContent-Type: multipart/mixed\r\n\r\n"),
		B("\xff\xfe\x80=3D\r\n.\r\n"), B("\r\r\n\n"), B("--\r\n") };
	static const char head[] = "--x\r\n" HEAD "\r\n", tail[] = "\r\n--x--\r\n";
	char text[256];

	for (size_t i = 0; i < COUNT(rows); i++) {
		size_t n = sizeof(head) - 1;

		memcpy(text, head, n);
		memcpy(text + n, rows[i].s, rows[i].n);
		memcpy(text + n + rows[i].n, tail, sizeof(tail) - 1);
		n += rows[i].n + sizeof(tail) - 1;
		ck_assert_msg(open_form(TYPE, text, n) == OK, "row %zu: %s", i, err_words());
		ck_assert_uint_eq(form_count(form), 1);
		form_rest(form);
		check_part(0, "a", rows[i].s, rows[i].n);
		form_close(form);
	}
}
END_TEST

START_TEST(what_the_grammar_allows_around_parts_is_taken)
{
	static const struct {
		const char *s;
		size_t n;
	} rows[] = { B("--x\r\n" HEAD "\r\nb\r\n--x--"), B("--x\r\n" HEAD "\r\nb\r\n--x--\r\n"),
		B("preamble --x\r\n--y\r\n--x\r\n" HEAD "\r\nb\r\n--x--\r\n"),
		B("\r\n--x\r\n" HEAD "\r\nb\r\n--x--\r\nepilogue\r\n--x\r\n"),
		B("--x \t \r\n" HEAD "\r\nb\r\n--x-- \t\r\n"), B("--x\r\n" HEAD "\r\nb\r\n--x-- "),
		B("--x\r\n" HEAD "X-Other: 1\r\nX-Other: 2\r\n\r\nb\r\n--x--"),
		B("--x\r\nContent-Disposition: form-data;\r\n\tname=a\r\n\r\nb\r\n--x--"),
		B("--x\r\ncontent-disposition:FORM-DATA;NAME=a\r\n\r\nb\r\n--x--"),
		B("--x\r\n" HEAD "Content-Transfer-Encoding: Binary \r\n\r\nb\r\n--x--"),
		B("--x\r\n" HEAD "Content-Transfer-Encoding: 8bit\r\n\r\nb\r\n--x--"),
		B("--x\r\n" HEAD "Content-Transfer-Encoding:7BIT\r\n\r\nb\r\n--x--") };

	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_assert_msg(
		    open_form(TYPE, rows[i].s, rows[i].n) == OK, "row %zu: %s", i, err_words());
		ck_assert_uint_eq(form_count(form), 1);
		check_part(0, "a", "b", 1);
		form_close(form);
	}
	/* The empty line behind a header is the delimiter's own. */
	ck_assert_int_eq(OPEN("--x\r\n" HEAD "\r\n--x\r\n" HEAD "\r\n\r\n--x--\r\n"), OK);
	ck_assert_uint_eq(form_count(form), 2);
	check_part(0, "a", "", 0);
	check_part(1, "a", "", 0);
	form_close(form);
}
END_TEST

#define SEVENTY "0123456789'()+_,-./:=?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuv"

START_TEST(content_type_is_read_strictly)
{
	static const struct {
		const char *type, *boundary;
		enum err err;
		const char *words;
	} rows[] = {
		{ "multipart/form-data; boundary=x", "x", OK, "" },
		{ "Multipart/Form-Data;BOUNDARY=\"x\"", "x", OK, "" },
		{ "multipart/form-data ; charset=utf-8 ; boundary=x ;", "x", OK, "" },
		{ "multipart/form-data; a=\"; boundary=y\"; boundary=x", "x", OK, "" },
		{ "multipart/form-data; boundary=\"a\\x y\"", "ax y", OK, "" },
		{ "multipart/form-data; boundary=----=_Part:1/2", "----=_Part:1/2", OK, "" },
		{ "multipart/form-data; boundary=\"" SEVENTY "\"", SEVENTY, OK, "" },
		{ "multipart/form-data; boundary=" SEVENTY "x", "x", ERR_INPUT,
		    "the form's boundary is longer than 70 characters" },
		{ "multipart/form-data", "x", ERR_INPUT, "Content-Type has no boundary" },
		{ "multipart/form-data;", "x", ERR_INPUT, "Content-Type has no boundary" },
		{ "multipart/form-data; xboundary=x", "x", ERR_INPUT,
		    "Content-Type has no boundary" },
		{ "multipart/form-data; boundary*=x", "x", ERR_INPUT,
		    "Content-Type has no boundary" },
		{ "multipart/form-data; boundary=", "x", ERR_INPUT,
		    "the form's boundary is empty" },
		{ "multipart/form-data; boundary=\"\"", "x", ERR_INPUT,
		    "the form's boundary is empty" },
		{ "multipart/form-data; boundary=\"x \"", "x ", ERR_INPUT,
		    "the form's boundary has characters that it must not have" },
		{ "multipart/form-data; boundary=x@y", "x@y", ERR_INPUT,
		    "the form's boundary has characters that it must not have" },
		{ "multipart/form-data; boundary=\xc3\xa4", "x", ERR_INPUT,
		    "the form's boundary has characters that it must not have" },
		{ "multipart/form-data; boundary=x; boundary=x", "x", ERR_INPUT,
		    "the form's boundary is given twice" },
		{ "multipart/form-data; boundary=\"x", "x", ERR_INPUT,
		    "Content-Type is malformed" },
		{ "multipart/form-data; boundary=\"x\\", "x", ERR_INPUT,
		    "Content-Type is malformed" },
		{ "multipart/form-data; boundary=\"x\"y", "x", ERR_INPUT,
		    "Content-Type is malformed" },
		{ "multipart/form-data; boundary", "x", ERR_INPUT, "Content-Type is malformed" },
		{ "multipart/form-data; ; boundary=x", "x", ERR_INPUT,
		    "Content-Type is malformed" },
		{ "multipart/form-data; boundary=x y", "x", ERR_INPUT,
		    "Content-Type is malformed" },
		{ "", "x", ERR_MEDIA_TYPE, "the body must be multipart/form-data" },
		{ "multipart/mixed; boundary=x", "x", ERR_MEDIA_TYPE,
		    "the body must be multipart/form-data" },
		{ "multipart/form-datax; boundary=x", "x", ERR_MEDIA_TYPE,
		    "the body must be multipart/form-data" },
		{ "image/png", "x", ERR_MEDIA_TYPE, "the body must be multipart/form-data" },
	};
	char text[512];

	for (size_t i = 0; i < COUNT(rows); i++) {
		int n = snprintf(text, sizeof(text), "--%s\r\n" HEAD "\r\nbytes\r\n--%s--\r\n",
		    rows[i].boundary, rows[i].boundary);

		ck_assert_msg(open_form(rows[i].type, text, (size_t)n) == rows[i].err,
		    "row %zu: %s", i, err_words());
		ck_assert_str_eq(err_words(), rows[i].words);
		form_close(form);
	}
}
END_TEST

START_TEST(a_body_that_is_coded_is_none)
{
	struct body body = { OF_BYTES(""), 1000, 1000 };

	ck_assert_int_eq(open_pieces(TYPE, "gzip", &body, strlen(body.at), MAX), ERR_MEDIA_TYPE);
}
END_TEST

#define MALFORMED "part 1 has a malformed header"
#define NO_DISPOSITION "part 1 has no Content-Disposition: form-data"
#define NO_END "the form does not end with its boundary"
#define NO_BEGIN "the form does not begin with its boundary"
#define CODED "part 1 has a Content-Transfer-Encoding other than 7bit, 8bit and binary"
#define NESTED "part 1 must not be made of parts"
#define ONE "--x\r\n" HEAD "\r\nb\r\n"

START_TEST(what_is_not_well_formed_is_refused_in_words)
{
	static const struct {
		const char *s;
		size_t n;
		const char *words;
	} rows[] = {
#define R(text, words) { text, sizeof(text) - 1, words }
		R("", "the form is empty"),
		R("bytes", NO_BEGIN),
		R("--y\r\n" HEAD "\r\nb\r\n--y--\r\n", NO_BEGIN),
		R("--x\n" HEAD "\r\nb\r\n--x--\r\n", "the form has no parts"),
		R("--x\n" DISPOSITION "\n\nb\n--x--\n", NO_BEGIN),
		R("a--x\r\n" HEAD "\r\nb\r\n", NO_BEGIN),
		R("--x--", "the form has no parts"),
		R("--x--\r\n" HEAD, "the form has no parts"),
		R("--x\r\n", "part 1 has no empty line behind its header"),
		R("--x\r\n" HEAD, "part 1 has no empty line behind its header"),
		R("--x\r\n" DISPOSITION "\n\nb\r\n--x--\r\n",
		    "part 1 has no empty line behind its header"),
		R("--x\r\n--x--", "part 1 has no empty line behind its header"),
		R("--x\r\n\r\nb\r\n--x--\r\n", NO_DISPOSITION),
		R("--x\r\n" HEAD "\r\nb", NO_END),
		R("--x\r\n" HEAD "\r\nb\r\n--x", NO_END),
		R("--x\r\n" HEAD "\r\nb\r\n--x-", NO_END),
		R("--x\r\n" HEAD "\r\nb\n--x--\r\n", NO_END),
		R(ONE "--x\r\n" HEAD "\r\nb\r\n", NO_END),
		R("--x\r\n" HEAD "\r\nb\r\n--x--y", NO_END),
		R(ONE ONE ONE ONE ONE ONE ONE ONE ONE "--x--", "the form has more than 8 parts"),
		R(OF_HEADER("Content-Type: text/plain\r\n"), NO_DISPOSITION),
		R(OF_HEADER("Content-Disposition: attachment; name=a\r\n"), NO_DISPOSITION),
		R(OF_HEADER("Content-Disposition: form-data name=a\r\n"), NO_DISPOSITION),
		R(OF_HEADER("Content-Disposition:\r\n"), NO_DISPOSITION),
		R(OF_HEADER("Content-Disposition: form-data\r\n"), "part 1 has no name"),
		R(OF_HEADER("Content-Disposition: form-data; name=\"\"\r\n"), "part 1 has no name"),
		R(OF_HEADER("Content-Disposition: form-data; filename=a\r\n"),
		    "part 1 has no name"),
		R(OF_HEADER(DISPOSITION "; name=b\r\n"), "part 1 has two parameters name"),
		R(OF_HEADER(DISPOSITION "; filename=b; filename=c\r\n"),
		    "part 1 has two parameters filename"),
		R(OF_HEADER(HEAD HEAD), "part 1 has Content-Disposition twice"),
		R(OF_HEADER(HEAD "Content-Type: a/b\r\ncontent-type: a/b\r\n"),
		    "part 1 has Content-Type twice"),
		R(OF_HEADER("no colon\r\n" HEAD), MALFORMED),
		R(OF_HEADER("From me\r\n" HEAD), MALFORMED),
		R(OF_HEADER(HEAD "Name : value\r\n"), MALFORMED),
		R(OF_HEADER(HEAD ": value\r\n"), MALFORMED),
		R(OF_HEADER(" " HEAD), MALFORMED),
		R(OF_HEADER(HEAD "A: \0\r\n"), MALFORMED),
		R(OF_HEADER(HEAD "A: \n\r\n"), MALFORMED),
		R(OF_HEADER(HEAD "A: \r \r\n"), MALFORMED),
		R(OF_HEADER(HEAD "\xc3\xa4: b\r\n"), MALFORMED),
		R(OF_HEADER(DISPOSITION "; filename*=utf-8''a.png%00.html\r\n"), MALFORMED),
		R(OF_HEADER(HEAD "Content-Transfer-Encoding: base64\r\n"), CODED),
		R(OF_HEADER(HEAD "Content-Transfer-Encoding: quoted-printable\r\n"), CODED),
		R(OF_HEADER(HEAD "Content-Transfer-Encoding: 7bitx\r\n"), CODED),
		R(OF_HEADER(HEAD "Content-Type: multipart/mixed; boundary=x\r\n"), NESTED),
		R(OF_HEADER(HEAD "Content-Type: MULTIPART/form-data; boundary=y\r\n"), NESTED),
		R(OF_HEADER(HEAD "Content-Type: message/rfc822\r\n"), NESTED),
#undef R
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		ck_assert_msg(open_form(TYPE, rows[i].s, rows[i].n) == ERR_INPUT, "row %zu", i);
		ck_assert_msg(
		    strcmp(err_words(), rows[i].words) == 0, "row %zu: %s", i, err_words());
	}
}
END_TEST

START_TEST(a_header_has_at_most_1_kib)
{
	const size_t rest = sizeof(HEAD "A: \r\n") - 1;
	char text[4096], filler[FORM_HEADER_MAX + 1];

	memset(filler, 'v', sizeof(filler));
	for (size_t n = FORM_HEADER_MAX - 1; n <= FORM_HEADER_MAX + 1; n++) {
		int all = snprintf(text, sizeof(text), "--x\r\n" HEAD "A: %.*s\r\n\r\nb\r\n--x--",
		    (int)(n - rest), filler);

		if (n <= FORM_HEADER_MAX) {
			ck_assert_msg(open_form(TYPE, text, (size_t)all) == OK, "%s", err_words());
			form_close(form);
			continue;
		}
		ck_assert_int_eq(open_form(TYPE, text, (size_t)all), ERR_INPUT);
		ck_assert_str_eq(err_words(), "part 1 has a header of more than 1024 bytes");
	}
}
END_TEST

START_TEST(file_names_are_decoded_and_never_a_path)
{
	static const struct {
		const char *parameter, *filename;
	} rows[] = {
		{ "", NULL },
		{ "; filename=\"\"", "" },
		{ "; filename=a.png", "a.png" },
		{ "; filename=\"a b;c.png\"", "a b;c.png" },
		{ "; filename=\"a\\\"b\\\\.png\"", "a\"b\\.png" },
		{ "; filename=\"a%22b.png\"", "a%22b.png" },
		{ "; filename=\"../../etc/passwd\"", "../../etc/passwd" },
		{ "; filename=\"\xe2\x82\xac.png\"", "\xe2\x82\xac.png" },
		{ "; filename=\"\xe9.png\"", "\xc3\xa9.png" },
		{ "; filename*=utf-8''%e2%82%ac%20x.png", "\xe2\x82\xac x.png" },
		{ "; filename*=UTF-8'de'%C3%A4.png", "\xc3\xa4.png" },
		{ "; filename*=iso-8859-1''%e4.png", "\xc3\xa4.png" },
		{ "; filename*0=\"a.\"; filename*1=\"png\"", "a.png" },
		{ "; filename=\"x.png\"; filename*=utf-8''%c3%a4.png", "\xc3\xa4.png" },
		{ "; filename*=utf-8''%c3%a4.png; filename=\"x.png\"", "\xc3\xa4.png" },
		{ "; filename=\"=?utf-8?Q?=C3=A4=2Epng?=\"", "\xc3\xa4.png" },
	};
	char text[512];

	for (size_t i = 0; i < COUNT(rows); i++) {
		int n = snprintf(text, sizeof(text),
		    "--x\r\n" DISPOSITION "%s\r\n\r\nbytes\r\n--x--", rows[i].parameter);

		ck_assert_msg(
		    open_form(TYPE, text, (size_t)n) == OK, "row %zu: %s", i, err_words());
		if (rows[i].filename == NULL)
			ck_assert_ptr_null(form_at(form, 0)->filename);
		else
			ck_assert_str_eq(form_at(form, 0)->filename, rows[i].filename);
		form_close(form);
	}
}
END_TEST

START_TEST(a_part_is_asked_for_by_its_name)
{
	const struct form_part *part;
	const struct err_field *fields;
	size_t count;

	ck_assert_int_eq(OPEN("--x\r\n" HEAD "\r\n1\r\n--x\r\nContent-Disposition: form-data; "
			      "name=b\r\n\r\n2\r\n" ONE "--x--"),
	    OK);
	ck_assert_uint_eq(form_count(form), 3);
	ck_assert_int_eq(form_part(form, "b", &part), OK);
	ck_assert_ptr_eq(part, form_at(form, 1));
	ck_assert_int_eq(form_part(form, "a", &part), ERR_INPUT);
	ck_assert_ptr_null(part);
	ck_assert_int_eq(form_part(form, "A", &part), ERR_INPUT);
	ck_assert_ptr_null(part);
	fields = err_fields(&count);
	ck_assert_uint_eq(count, 2);
	ck_assert_str_eq(fields[0].pointer, "a");
	ck_assert_str_eq(fields[0].detail, "is given twice");
	ck_assert_str_eq(fields[1].pointer, "A");
	ck_assert_str_eq(fields[1].detail, "must be given");
	form_close(form);
}
END_TEST

START_TEST(a_body_is_as_long_as_it_may_be_and_as_it_says)
{
	static const char text[] = OF_BYTES("abc");
	size_t n = sizeof(text) - 1;
	struct body body = { text, n, 10 };

	ck_assert_int_eq(open_pieces(TYPE, "", &body, n, n - 1), ERR_TOO_LARGE);
	ck_assert_uint_eq(body.left, n); /* nothing was read */
	ck_assert_int_eq(open_pieces(TYPE, "", &body, n, n), OK);
	form_close(form);
	body = (struct body){ text, n, 10 };
	ck_assert_int_eq(open_pieces(TYPE, "", &body, n + 1, MAX), ERR_INPUT);
	ck_assert_str_eq(err_words(), "the body is shorter than its Content-Length");
}
END_TEST

START_TEST(no_room_is_said)
{
	const struct rlimit small = { 10, RLIM_INFINITY };
	struct body body = { OF_BYTES("abc"), 50, 10 };

	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(request_begin(&req,
			     &(struct request_source){ (char *[]){ (char *)"REQUEST_URI=/",
							   (char *)"CONTENT_TYPE=" TYPE, NULL },
				 read_body, &body }),
	    OK);
	ck_assert_int_eq(form_open(&req, MAX, "/nope", &form), ERR_BUSY);
	(void)signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
	ck_assert_int_eq(open_pieces(TYPE, "", &body, 50, MAX), ERR_BUSY);
	ck_assert_str_eq(err_words(), "there is no room for a form now");
}
END_TEST

/* --- What it takes. */

#define LARGE ((size_t)10 * 1024 * 1024)

/* A form of one large part that comes out of nothing. */
struct stream {
	size_t at;
};

static const char large_head[] = "--x\r\n" HEAD "\r\n", large_tail[] = "\r\n--x--\r\n";

static char
large_byte(size_t i)
{
	size_t head = sizeof(large_head) - 1;

	if (i < head)
		return large_head[i];
	return i - head < LARGE ? (char)(i - head) : large_tail[i - head - LARGE];
}

static ssize_t
read_stream(void *ctx, char *buffer, size_t n)
{
	struct stream *stream = ctx;

	for (size_t i = 0; i < n; i++)
		buffer[i] = large_byte(stream->at++);
	return (ssize_t)n;
}

static enum err
open_large(struct request *r, struct form **out)
{
	struct stream stream = { 0 };
	char length[64];
	char *const meta[] = { (char *)"CONTENT_TYPE=" TYPE, length, (char *)"REQUEST_URI=/x",
		NULL };
	const struct request_source source = { meta, read_stream, &stream };
	size_t n = sizeof(large_head) - 1 + LARGE + sizeof(large_tail) - 1;
	enum err err;

	(void)snprintf(length, sizeof(length), "CONTENT_LENGTH=%zu", n);
	if ((err = request_begin(r, &source)) != OK)
		return err;
	return form_open(r, n, "/tmp", out);
}

static size_t
anonymous_kib(void)
{
	FILE *file = fopen("/proc/self/status", "r");
	char line[128];
	size_t kib = 0;

	ck_assert_ptr_nonnull(file);
	while (fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, "RssAnon:", 8) == 0)
			kib = strtoul(line + 8, NULL, 10);
	(void)fclose(file);
	return kib;
}

START_TEST(a_large_part_takes_no_memory_of_ours)
{
	size_t before;
	bool same = true;

	ck_assert_int_eq(OPEN(OF_BYTES("")), OK); /* GMime has begun */
	form_close(form);
	before = anonymous_kib();
	ck_assert_uint_gt(before, 0);
	ck_assert_int_eq(open_large(&req, &form), OK);
	ck_assert_uint_eq(form_at(form, 0)->n, LARGE);
	for (size_t i = 0; i < LARGE; i++)
		same = same && form_at(form, 0)->bytes[i] == (char)i;
	ck_assert(same);
#ifndef __SANITIZE_THREAD__ /* which takes four bytes for each that is looked at */
	ck_assert_uint_lt(anonymous_kib(), before + 1024);
#endif
	form_close(form);
}
END_TEST

static void *
open_many(void *arg)
{
	static const char text[] = OF_BYTES("abc");
	struct request *own = calloc(1, sizeof(*own));
	struct form *mine;

	for (int i = 0; own != NULL && i < 100; i++) {
		struct body body = { text, sizeof(text) - 1, 7 };
		char length[64];
		char *const meta[] = { (char *)"CONTENT_TYPE=" TYPE, length,
			(char *)"REQUEST_URI=/x", NULL };
		const struct request_source source = { meta, read_body, &body };

		(void)snprintf(length, sizeof(length), "CONTENT_LENGTH=%zu", sizeof(text) - 1);
		if (request_begin(own, &source) == OK && form_open(own, MAX, "/tmp", &mine) == OK) {
			atomic_fetch_add((atomic_int *)arg, (int)form_at(mine, 0)->n);
			form_close(mine);
		}
	}
	free(own);
	return NULL;
}

START_TEST(many_threads_have_a_form_each)
{
	pthread_t threads[8];
	atomic_int total = 0;

	for (size_t i = 0; i < COUNT(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, open_many, &total), 0);
	for (size_t i = 0; i < COUNT(threads); i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	ck_assert_int_eq(atomic_load(&total), 8 * 100 * 3);
}
END_TEST

CHECK_MAIN(form,
    { a_form_as_browsers_send_it_is_read, bytes_are_exact,
	what_the_grammar_allows_around_parts_is_taken, content_type_is_read_strictly,
	a_body_that_is_coded_is_none, what_is_not_well_formed_is_refused_in_words,
	a_header_has_at_most_1_kib, file_names_are_decoded_and_never_a_path,
	a_part_is_asked_for_by_its_name, a_body_is_as_long_as_it_may_be_and_as_it_says,
	no_room_is_said, a_large_part_takes_no_memory_of_ours, many_threads_have_a_form_each })
