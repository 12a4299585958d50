#include "lib/form.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <gmime/gmime.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#define PIECE (64 * 1024) /* read and written at once */
#define BLANKS " \t"

struct form {
	char *map; /* of the nameless file; NULL: empty */
	size_t n;
	char delimiter[4 + FORM_BOUNDARY_MAX + 1]; /* CRLF, "--", the boundary */
	size_t delimiter_n;
	size_t count;
	struct form_part parts[FORM_PARTS_MAX];
};

/* A line between parts. */
struct delimiter {
	size_t at; /* where what is before it ends */
	size_t next; /* where what is behind it begins */
	bool closing;
};

/* --- The boundary. */

/* The next parameter of a Content-Type, at its semicolon: *NAME of *NAME_N bytes, and its value
 * without quotes, cut.  NULL if it is broken.  An unquoted value may have what should be quoted,
 * since clients err there. */
static const char *
next_parameter(const char *s, const char **name, size_t *name_n, char *value, size_t room)
{
	size_t n = 0;
	bool quoted;

	s += 1 + strspn(s + 1, BLANKS);
	*name = s;
	*name_n = strcspn(s, "=; \t\"");
	if (*name_n == 0 || s[*name_n] != '=')
		return NULL;
	s += *name_n + 1;
	quoted = *s == '"';
	for (s += quoted; *s != '\0' && strchr(quoted ? "\"" : "; \t", *s) == NULL; s++) {
		if (quoted && *s == '\\' && *++s == '\0')
			return NULL;
		if (n + 1 < room)
			value[n++] = *s;
	}
	value[n] = '\0';
	if (quoted && *s++ != '"')
		return NULL;
	s += strspn(s, BLANKS);
	return *s == ';' || *s == '\0' ? s : NULL;
}

/* RFC 2046 section 5.1.1. */
static enum err
check_boundary(const char *boundary)
{
	size_t n = strlen(boundary);

	if (n == 0)
		return fail(ERR_INPUT, "the form's boundary is empty");
	if (n > FORM_BOUNDARY_MAX)
		return fail(ERR_INPUT, "the form's boundary is longer than %d characters",
		    FORM_BOUNDARY_MAX);
	if (boundary[n - 1] == ' ' ||
	    strspn(boundary,
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		"0123456789'()+_,-./:=? ") != n)
		return fail(ERR_INPUT, "the form's boundary has characters that it must not have");
	return OK;
}

static enum err
read_boundary(struct form *form, const char *type)
{
	char value[FORM_BOUNDARY_MAX + 2]; /* so that one too long is seen to be */
	const char *name, *s = type + strcspn(type, ";");
	size_t name_n;
	enum err err = OK;

	form->delimiter_n = 0;
	while (err == OK && *s == ';' && s[1 + strspn(s + 1, BLANKS)] != '\0') {
		if ((s = next_parameter(s, &name, &name_n, value, sizeof(value))) == NULL)
			return fail(ERR_INPUT, "Content-Type is malformed");
		if (name_n != strlen("boundary") || strncasecmp(name, "boundary", name_n) != 0)
			continue;
		if (form->delimiter_n > 0)
			return fail(ERR_INPUT, "the form's boundary is given twice");
		if ((err = check_boundary(value)) == OK)
			form->delimiter_n = (size_t)snprintf(
			    form->delimiter, sizeof(form->delimiter), "\r\n--%s", value);
	}
	if (err == OK && form->delimiter_n == 0)
		err = fail(ERR_INPUT, "Content-Type has no boundary");
	return err;
}

/* --- The nameless file. */

static enum err
write_all(int fd, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t written = write(fd, bytes, n);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return fail(ERR_BUSY, "there is no room for a form now");
		bytes += written;
		n -= (size_t)written;
	}
	return OK;
}

static enum err
spool(struct form *form, struct request *req, int fd)
{
	char *piece = malloc(PIECE);
	size_t got = 0;
	enum err err;

	if (piece == NULL)
		return fail(ERR_BUSY, "no memory for a form");
	do {
		if ((err = request_read(req, piece, PIECE, &got)) == OK)
			err = write_all(fd, piece, got);
		form->n += got;
	} while (err == OK && got > 0);
	free(piece);
	return err;
}

static enum err
map_body(struct form *form, struct request *req, const char *folder)
{
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	enum err err;

	if (fd < 0)
		return fail(ERR_BUSY, "there is no room for a form now");
	if ((err = spool(form, req, fd)) == OK && form->n > 0) {
		void *map = mmap(NULL, form->n, PROT_READ, MAP_SHARED, fd, 0);

		if (map == MAP_FAILED)
			err = fail(ERR_BUSY, "no memory for a form");
		else
			form->map = map;
	}
	(void)close(fd);
	return err;
}

/* --- A part's header. */

/* The fields of a header of N bytes; -1 if a line of it is not NAME ":" VALUE CRLF, with values
 * that may go on in lines that begin with a blank, or has a control character.  GMime would pass
 * over such lines, and end at a NUL, as one in a parameter may be written too. */
static int
count_fields(const char *s, size_t n)
{
	const char *end = s + n;
	int count = 0;

	if (memmem(s, n, "%00", 3) != NULL)
		return -1;
	while (s < end) {
		const char *name = s;

		while (*s > ' ' && *s < 0x7f && *s != ':')
			s++;
		if (s > name ? *s != ':' : count == 0 || strchr(BLANKS, *s) == NULL)
			return -1;
		count += s > name;
		while (!iscntrl((unsigned char)*s) || *s == '\t')
			s++;
		if (s[0] != '\r' || s[1] != '\n')
			return -1;
		s += 2;
	}
	return count;
}

/* Those whose meaning must be one. */
static const char *const singular_fields[] = { "Content-Disposition", "Content-Type",
	"Content-Transfer-Encoding" };

static enum err
check_fields(GMimeObject *object, int expected, size_t number)
{
	GMimeHeaderList *list = g_mime_object_get_header_list(object);
	int count = g_mime_header_list_get_count(list);
	unsigned seen = 0;

	if (count != expected)
		return fail(ERR_INPUT, "part %zu has a malformed header", number);
	for (int i = 0; i < count; i++) {
		const char *name =
		    g_mime_header_get_name(g_mime_header_list_get_header_at(list, i));

		for (unsigned k = 0; k < G_N_ELEMENTS(singular_fields); k++) {
			if (strcasecmp(name, singular_fields[k]) != 0)
				continue;
			if ((seen & 1u << k) != 0)
				return fail(
				    ERR_INPUT, "part %zu has %s twice", number, singular_fields[k]);
			seen |= 1u << k;
		}
	}
	return OK;
}

static enum err
check_encoding(GMimeObject *object, size_t number)
{
	static const char *const plain[] = { "7bit", "8bit", "binary" };
	const char *value = g_mime_object_get_header(object, "Content-Transfer-Encoding");
	size_t n;

	if (value == NULL)
		return OK;
	value += strspn(value, BLANKS);
	n = strcspn(value, BLANKS);
	for (size_t i = 0; i < G_N_ELEMENTS(plain); i++)
		if (n == strlen(plain[i]) && strncasecmp(value, plain[i], n) == 0)
			return OK;
	return fail(ERR_INPUT,
	    "part %zu has a Content-Transfer-Encoding other than 7bit, 8bit and binary", number);
}

/* The parameter NAME, NULL where there is none.  It may be given twice: plain, and encoded by RFC
 * 2231 with its character set for who can read that, which is taken then. */
static enum err
find_parameter(GMimeParamList *list, const char *name, size_t number, const char **value)
{
	const char *plain = NULL, *encoded = NULL;

	for (int i = 0; i < g_mime_param_list_length(list); i++) {
		GMimeParam *param = g_mime_param_list_get_parameter_at(list, i);
		const char *charset = g_mime_param_get_charset(param);
		const char **found = charset != NULL && charset[0] != '\0' ? &encoded : &plain;

		if (strcasecmp(g_mime_param_get_name(param), name) != 0)
			continue;
		if (*found != NULL)
			return fail(ERR_INPUT, "part %zu has two parameters %s", number, name);
		*found = g_mime_param_get_value(param);
		if (*found == NULL)
			*found = "";
	}
	*value = encoded != NULL ? encoded : plain;
	return OK;
}

/* S, or NULL for NULL; lower-case if so wanted. */
static enum err
copy_text(const char *s, bool lower, const char **out)
{
	char *copy = s == NULL ? NULL : strdup(s);

	*out = copy;
	if (copy == NULL)
		return s == NULL ? OK : fail(ERR_BUSY, "no memory for a form");
	for (; lower && *copy != '\0'; copy++)
		if (*copy >= 'A' && *copy <= 'Z')
			*copy += 'a' - 'A';
	return OK;
}

static enum err
take_disposition(GMimeObject *object, size_t number, struct form_part *part)
{
	GMimeContentDisposition *disposition = g_mime_object_get_content_disposition(object);
	const char *value = NULL, *name, *filename;
	GMimeParamList *list;
	enum err err;

	if (disposition != NULL)
		value = g_mime_content_disposition_get_disposition(disposition);
	if (value == NULL || strcasecmp(value, "form-data") != 0)
		return fail(ERR_INPUT, "part %zu has no Content-Disposition: form-data", number);
	list = g_mime_content_disposition_get_parameters(disposition);
	if ((err = find_parameter(list, "name", number, &name)) != OK ||
	    (err = find_parameter(list, "filename", number, &filename)) != OK)
		return err;
	if (name == NULL || name[0] == '\0')
		return fail(ERR_INPUT, "part %zu has no name", number);
	if ((err = copy_text(name, false, &part->name)) != OK)
		return err;
	return copy_text(filename, false, &part->filename);
}

static enum err
take_type(GMimeObject *object, struct form_part *part)
{
	char *type = g_mime_content_type_get_mime_type(g_mime_object_get_content_type(object));
	enum err err = copy_text(type, true, &part->type);

	g_free(type);
	return err;
}

static enum err
take_header(GMimeObject *object, int fields, size_t number, struct form_part *part)
{
	enum err err;

	if (object == NULL)
		return fail(ERR_INPUT, "part %zu has a malformed header", number);
	if ((err = check_fields(object, fields, number)) != OK)
		return err;
	if (!GMIME_IS_PART(object))
		return fail(ERR_INPUT, "part %zu must not be made of parts", number);
	if ((err = check_encoding(object, number)) != OK ||
	    (err = take_disposition(object, number, part)) != OK)
		return err;
	return take_type(object, part);
}

/* N bytes of whole lines; GMime never sees what follows them, so that nothing can be nested. */
static enum err
parse_header(const char *s, size_t n, size_t number, struct form_part *part)
{
	int fields = count_fields(s, n);
	GMimeParserOptions *options;
	GMimeParser *parser;
	GMimeStream *stream;
	GMimeObject *object;
	enum err err;

	if (fields < 0)
		return fail(ERR_INPUT, "part %zu has a malformed header", number);
	if (fields == 0)
		return fail(ERR_INPUT, "part %zu has no Content-Disposition: form-data", number);
	options = g_mime_parser_options_new();
	g_mime_parser_options_set_parameter_compliance_mode(options, GMIME_RFC_COMPLIANCE_STRICT);
	stream = g_mime_stream_mem_new_with_buffer(s, n + 2);
	parser = g_mime_parser_new_with_stream(stream);
	object = g_mime_parser_construct_part(parser, options);
	err = take_header(object, fields, number, part);
	if (object != NULL)
		g_object_unref(object);
	g_object_unref(parser);
	g_object_unref(stream);
	g_mime_parser_options_free(options);
	return err;
}

/* --- The parts. */

/* Whether the line whose boundary ends at P is a delimiter; sets all but where it begins. */
static bool
ends_delimiter(const struct form *form, size_t p, struct delimiter *d)
{
	d->closing = form->n - p >= 2 && memcmp(form->map + p, "--", 2) == 0;
	p += d->closing ? 2 : 0;
	while (p < form->n && (form->map[p] == ' ' || form->map[p] == '\t'))
		p++;
	d->next = p + 2;
	return form->n - p >= 2 ? memcmp(form->map + p, "\r\n", 2) == 0
				: d->closing && p == form->n;
}

/* The first delimiter at FROM or behind it. */
static bool
find_delimiter(const struct form *form, size_t from, struct delimiter *d)
{
	size_t n = form->delimiter_n;
	const char *hit;

	/* The very first line has no CRLF before. */
	d->at = 0;
	if (from == 0 && form->n >= n - 2 && memcmp(form->map, form->delimiter + 2, n - 2) == 0 &&
	    ends_delimiter(form, n - 2, d))
		return true;
	while (from < form->n &&
	    (hit = memmem(form->map + from, form->n - from, form->delimiter, n)) != NULL) {
		d->at = (size_t)(hit - form->map);
		from = d->at + n;
		if (ends_delimiter(form, from, d))
			return true;
	}
	return false;
}

/* The part that begins behind *D, which becomes the delimiter behind it. */
static enum err
read_part(struct form *form, struct delimiter *d)
{
	size_t number = form->count + 1, left = form->n - d->next, header_n, content;
	const char *header = form->map + d->next, *end;
	struct form_part *part = &form->parts[form->count++];
	enum err err;

	if (left >= 2 && memcmp(header, "\r\n", 2) == 0) {
		header_n = 0;
	} else {
		end = memmem(
		    header, left < FORM_HEADER_MAX + 2 ? left : FORM_HEADER_MAX + 2, "\r\n\r\n", 4);
		if (end == NULL && left >= FORM_HEADER_MAX + 2)
			return fail(ERR_INPUT, "part %zu has a header of more than %d bytes",
			    number, FORM_HEADER_MAX);
		if (end == NULL)
			return fail(
			    ERR_INPUT, "part %zu has no empty line behind its header", number);
		header_n = (size_t)(end - header) + 2;
	}
	if ((err = parse_header(header, header_n, number, part)) != OK)
		return err;
	/* The empty line may be the delimiter's own CRLF: then there is no content. */
	content = d->next + header_n + 2;
	if (!find_delimiter(form, content - 2, d))
		return fail(ERR_INPUT, "the form does not end with its boundary");
	part->bytes = form->map + content;
	part->n = d->at < content ? 0 : d->at - content;
	return OK;
}

static enum err
read_parts(struct form *form)
{
	struct delimiter d;
	enum err err = OK;

	if (form->n == 0)
		return fail(ERR_INPUT, "the form is empty");
	if (!find_delimiter(form, 0, &d))
		return fail(ERR_INPUT, "the form does not begin with its boundary");
	while (!d.closing && err == OK) {
		if (form->count == FORM_PARTS_MAX)
			return fail(ERR_INPUT, "the form has more than %d parts", FORM_PARTS_MAX);
		err = read_part(form, &d);
	}
	if (err == OK && form->count == 0)
		err = fail(ERR_INPUT, "the form has no parts");
	return err;
}

/* --- */

static void
start_gmime(void)
{
	g_mime_init();
}

enum err
form_open(struct request *req, size_t bytes_max, const char *folder, struct form **out)
{
	static pthread_once_t started = PTHREAD_ONCE_INIT;
	struct form *form;
	enum err err;

	*out = NULL;
	if (!request_is(req, "multipart/form-data"))
		return fail(ERR_MEDIA_TYPE, "the body must be multipart/form-data");
	if (req->content_left > (int64_t)bytes_max)
		return fail(ERR_TOO_LARGE, "the body must be at most %zu bytes", bytes_max);
	if ((form = calloc(1, sizeof(*form))) == NULL)
		return fail(ERR_BUSY, "no memory for a form");
	(void)pthread_once(&started, start_gmime);
	if ((err = read_boundary(form, req->content_type)) == OK &&
	    (err = map_body(form, req, folder)) == OK)
		err = read_parts(form);
	if (err == OK)
		*out = form;
	else
		form_close(form);
	return err;
}

void
form_rest(const struct form *form)
{
	if (form->map != NULL)
		(void)madvise((void *)(uintptr_t)form->map, form->n, MADV_DONTNEED);
}

void
form_close(struct form *form)
{
	if (form == NULL)
		return;
	for (size_t i = 0; i < form->count; i++) {
		free((char *)form->parts[i].name);
		free((char *)form->parts[i].filename);
		free((char *)form->parts[i].type);
	}
	if (form->map != NULL)
		(void)munmap(form->map, form->n);
	free(form);
}

size_t
form_count(const struct form *form)
{
	return form->count;
}

const struct form_part *
form_at(const struct form *form, size_t index)
{
	assert(index < form->count);
	return &form->parts[index];
}

enum err
form_part(const struct form *form, const char *name, const struct form_part **part)
{
	*part = NULL;
	for (size_t i = 0; i < form->count; i++) {
		if (strcmp(form->parts[i].name, name) != 0)
			continue;
		if (*part != NULL) {
			*part = NULL;
			return (void)fail_field(name, "is given twice"), err_pending();
		}
		*part = &form->parts[i];
	}
	if (*part != NULL)
		return OK;
	(void)fail_field(name, "must be given");
	return err_pending();
}
