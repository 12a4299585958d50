#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "lib/confine.h"
#include "lib/decoder.h"

static struct decoder *decoder;

/* --- What reads pictures, with flaws: a picture of a few letters tells which. */

enum err __real_image_clean(
    const unsigned char *bytes, size_t n, enum image_kind claimed, struct image *clean) MUST_CHECK;
enum err __wrap_image_clean(
    const unsigned char *bytes, size_t n, enum image_kind claimed, struct image *clean) MUST_CHECK;

static int
do_open(void)
{
	return open("/etc/hosts", O_RDONLY | O_CLOEXEC);
}

static int
do_make(void)
{
	return open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static int
do_socket(void)
{
	return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int
do_fork(void)
{
	return fork();
}

static int
do_exec(void)
{
	char *argv[] = { "true", NULL };

	return execv("/bin/true", argv);
}

static int
do_kill(void)
{
	return kill(getppid(), 0);
}

static int
do_read_a_connection(void)
{
	char byte;

	for (int fd = 0; fd < 64; fd++)
		if (recv(fd, &byte, 1, MSG_DONTWAIT) >= 0 || errno == EAGAIN)
			return fd;
	return -1;
}

static int
do_crash(void)
{
	return raise(SIGSEGV);
}

static int
do_abort(void)
{
	abort();
}

static int
do_be_killed(void)
{
	return raise(SIGKILL);
}

static int
do_take_memory(void)
{
	const size_t step = 64 * 1024 * 1024;
	size_t taken = 0;

	while (taken < 2 * (size_t)DECODER_MEMORY_MAX && malloc(step) != NULL)
		taken += step;
	return taken < (size_t)DECODER_MEMORY_MAX ? -1 : 0;
}

static const struct flaw {
	const char *picture;
	int (*act)(void); /* says by errno how it is refused; or NULL */
	enum err err; /* what it answers without ACT */
	const char *words;
	uint32_t side;
} flaws[] = {
	{ "open", do_open },
	{ "make", do_make },
	{ "socket", do_socket },
	{ "fork", do_fork },
	{ "exec", do_exec },
	{ "kill", do_kill },
	{ "recv", do_read_a_connection },
	{ "crash", do_crash },
	{ "abort", do_abort },
	{ "killed", do_be_killed },
	{ "memory", do_take_memory },
	{ "code", NULL, ERR_GONE, "", 1 },
	{ "words", NULL, ERR_INPUT, "is\n\"event\"", 1 },
	{ "utf8", NULL, ERR_INPUT, "is \xc3", 1 },
	{ "side", NULL, OK, "", 0 },
	{ "vast", NULL, OK, "", IMAGE_SIDE_MAX + 1 },
	{ "input", NULL, ERR_INPUT, "is cut off", 1 },
	{ "busy", NULL, ERR_BUSY, "no memory", 1 },
};

static enum err
act(const struct flaw *flaw, struct image *clean)
{
	if (flaw->act != NULL)
		return flaw->act() < 0 ? fail(ERR_INPUT, "refused") : fail(ERR_INPUT, "done");
	if (flaw->err != OK)
		return fail(flaw->err, "%s", flaw->words);
	clean->bytes = (unsigned char *)strdup("x");
	clean->n = 1;
	clean->width = clean->height = flaw->side;
	return OK;
}

enum err
__wrap_image_clean(
    const unsigned char *bytes, size_t n, enum image_kind claimed, struct image *clean)
{
	for (size_t i = 0; i < COUNT(flaws); i++)
		if (strlen(flaws[i].picture) == n && memcmp(bytes, flaws[i].picture, n) == 0)
			return act(&flaws[i], clean);
	return __real_image_clean(bytes, n, claimed, clean);
}

/* --- */

static enum err
clean_text(const char *picture)
{
	struct image clean = { 0 };
	enum err err = decoder_clean(
	    decoder, (const unsigned char *)picture, strlen(picture), IMAGE_PNG, &clean);

	free(clean.bytes);
	return err;
}

static size_t
read_corpus(const char *name, unsigned char *bytes, size_t room)
{
	const char *source = getenv("CAREDESK_SOURCE");
	char path[512];
	size_t n;
	FILE *file;

	(void)snprintf(
	    path, sizeof(path), "%s/t/fuzz/corpus/image/%s", source == NULL ? "." : source, name);
	ck_assert_ptr_nonnull(file = fopen(path, "re"));
	n = fread(bytes, 1, room, file);
	(void)fclose(file);
	ck_assert_uint_gt(n, 0);
	return n;
}

static void
picture_is_made_clean(void)
{
	static unsigned char bytes[1 << 20];
	size_t n = read_corpus("jpeg_0", bytes, sizeof(bytes));
	struct image here = { 0 }, there = { 0 };

	ck_assert_int_eq(__real_image_clean(bytes, n, IMAGE_JPEG, &here), OK);
	ck_assert_msg(
	    decoder_clean(decoder, bytes, n, IMAGE_JPEG, &there) == OK, "%s", err_words());
	ck_assert_uint_eq(there.n, here.n);
	ck_assert_mem_eq(there.bytes, here.bytes, here.n);
	ck_assert_uint_eq(there.width, here.width);
	ck_assert_uint_eq(there.height, here.height);
	free(here.bytes);
	free(there.bytes);
}

static void
decoder_begin(void)
{
	ck_assert_msg(decoder_open(&decoder) == OK, "%s", err_words());
}

/* Nothing of it stays. */
static void
decoder_end(void)
{
	decoder_close(decoder);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}

/* The only process that we have made. */
static pid_t
keeper(void)
{
	char path[64], line[64] = "";
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	ck_assert_ptr_nonnull(file = fopen(path, "re"));
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), file));
	(void)fclose(file);
	return (pid_t)strtol(line, NULL, 10);
}

START_TEST(a_picture_comes_out_as_by_image_itself)
{
	decoder_begin();
	for (int i = 0; i < 3; i++)
		picture_is_made_clean();
	decoder_end();
}
END_TEST

START_TEST(what_is_no_picture_is_refused_in_the_same_words)
{
	struct image clean = { 0 };
	char words[ERR_WORDS_MAX];

	decoder_begin();
	ck_assert_int_eq(
	    __real_image_clean((const unsigned char *)"none", 4, IMAGE_PNG, &clean), ERR_INPUT);
	(void)snprintf(words, sizeof(words), "%s", err_words());
	ck_assert_int_eq(clean_text("none"), ERR_INPUT);
	ck_assert_str_eq(err_words(), words);
	ck_assert_int_eq(clean_text(""), ERR_INPUT);
	ck_assert_int_eq(clean_text("input"), ERR_INPUT);
	ck_assert_str_eq(err_words(), "is cut off");
	ck_assert_int_eq(clean_text("busy"), ERR_BUSY);
	decoder_end();
}
END_TEST

START_TEST(a_flaw_reaches_neither_files_nor_others)
{
	static const struct {
		const char *picture;
		bool by_seccomp;
	} rows[] = {
		{ "open", false },
		{ "make", false },
		{ "recv", false },
		{ "socket", true },
		{ "fork", true },
		{ "exec", false },
		{ "kill", true },
	};

	decoder_begin();
	for (size_t i = 0; i < COUNT(rows); i++)
		if (!rows[i].by_seccomp || !confine_is_sanitized()) {
			ck_assert_int_eq(clean_text(rows[i].picture), ERR_INPUT);
			ck_assert_msg(
			    strcmp(err_words(), "refused") == 0, "%s: done", rows[i].picture);
		}
	picture_is_made_clean();
	decoder_end();
}
END_TEST

START_TEST(a_picture_that_ends_what_reads_it_is_refused_and_the_next_one_is_read)
{
	static const struct {
		const char *picture;
		enum err err;
	} rows[] = { { "killed", ERR_BUSY }, { "crash", ERR_INPUT }, { "abort", ERR_INPUT } };
	/* A sanitizer takes the other signals, and says much. */
	const size_t count = confine_is_sanitized() ? 1 : COUNT(rows);
	const struct caught caught = stderr_catch();
	char line[4096];

	decoder_begin();
	(void)stderr_next(&caught, line, sizeof(line));
	for (size_t i = 0; i < count; i++) {
		ck_assert_int_eq(clean_text(rows[i].picture), rows[i].err);
		picture_is_made_clean();
	}
	decoder_end();
	while (stderr_next(&caught, line, sizeof(line)) > 0)
		if (strstr(line, "\"event\":\"decoder\"") != NULL)
			break;
	stderr_release(&caught);
	ck_assert_ptr_nonnull(strstr(line, "was ended by a picture: signal"));
}
END_TEST

START_TEST(memory_is_bounded)
{
	decoder_begin();
	ck_assert_int_eq(clean_text("memory"), ERR_INPUT);
	if (!confine_is_sanitized())
		ck_assert_str_eq(err_words(), "refused");
	decoder_end();
}
END_TEST

START_TEST(what_cannot_be_is_not_believed)
{
	static const char *const rows[] = { "code", "words", "utf8", "side", "vast" };

	decoder_begin();
	for (size_t i = 0; i < COUNT(rows); i++)
		ck_assert_msg(clean_text(rows[i]) == ERR_INTERNAL, "%s", rows[i]);
	picture_is_made_clean();
	decoder_end();
}
END_TEST

START_TEST(signals_that_stop_the_program_leave_its_keeper)
{
	decoder_begin();
	picture_is_made_clean(); /* it is ready */
	ck_assert_int_eq(kill(keeper(), SIGTERM), 0);
	ck_assert_int_eq(kill(keeper(), SIGINT), 0);
	picture_is_made_clean();
	decoder_end();
}
END_TEST

START_TEST(without_its_keeper_the_program_makes_way_for_another)
{
	sigset_t held, pending;

	(void)sigemptyset(&held);
	(void)sigaddset(&held, SIGTERM);
	decoder_begin();
	ck_assert_int_eq(sigprocmask(SIG_BLOCK, &held, NULL), 0);
	ck_assert_int_eq(kill(keeper(), SIGKILL), 0);
	ck_assert_int_eq(clean_text("none"), ERR_BUSY);
	ck_assert_int_eq(sigpending(&pending), 0);
	ck_assert_int_eq(sigismember(&pending, SIGTERM), 1);
	decoder_end();
	(void)signal(SIGTERM, SIG_IGN);
}
END_TEST

CHECK_MAIN(decoder,
    { a_picture_comes_out_as_by_image_itself, what_is_no_picture_is_refused_in_the_same_words,
	a_flaw_reaches_neither_files_nor_others,
	a_picture_that_ends_what_reads_it_is_refused_and_the_next_one_is_read, memory_is_bounded,
	what_cannot_be_is_not_believed, signals_that_stop_the_program_leave_its_keeper,
	without_its_keeper_the_program_makes_way_for_another })
