/*
 * The input: the body of a PUT, behind a first byte of '+' that of a POST.  What is read and
 * written reads again as the same.
 */
#include <string.h>

#include "fuzz.h"
#include "lib/audio.h"

struct written {
	char text[2048];
	size_t n;
};

static enum err
take(void *ctx, const char *bytes, size_t n)
{
	struct written *w = ctx;

	assert(w->n + n <= sizeof(w->text));
	memcpy(w->text + w->n, bytes, n);
	w->n += n;
	return OK;
}

static enum err
read_audio(const char *bytes, size_t n, int64_t session_id, struct audio *audio)
{
	struct jsonr body;
	enum err err;

	err_clear();
	*audio = (struct audio){ .session_id = session_id };
	if ((err = jsonr_parse(bytes, n, &body)) != OK)
		return err;
	audio_read(&body, audio);
	jsonr_close(&body);
	return err_pending();
}

static void
check_bounds(const struct audio *audio)
{
	for (size_t i = 0; i < AUDIO_TICKS; i++)
		assert(audio->ticks[i] >= -100 * AUDIO_UNIT && audio->ticks[i] <= -10 * AUDIO_UNIT);
	assert(audio->session_id >= 0);
	assert(audio->selected_tick >= 0 && audio->selected_tick < AUDIO_TICKS);
	assert(audio->step_count >= 0 && audio->step_count <= AUDIO_STEP_MAX);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	bool post = n > 0 && bytes[0] == '+';
	struct audio audio, again;
	struct written written = { .n = 0 };
	struct jsonw w;
	enum err err =
	    read_audio((const char *)bytes + post, n - post, post ? AUDIO_NONE : 17, &audio);

	assert(err == OK || err == ERR_INPUT);
	if (err != OK)
		return 0;
	check_bounds(&audio);
	assert(post || audio.session_id == 17);
	jsonw_open(&w, take, &written);
	audio_write(&w, &audio);
	assert(jsonw_close(&w) == OK);
	assert(read_audio(written.text, written.n, AUDIO_NONE, &again) == OK);
	assert(again.session_id == audio.session_id);
	assert(again.selected_tick == audio.selected_tick && again.step_count == audio.step_count);
	assert(memcmp(again.ticks, audio.ticks, sizeof(audio.ticks)) == 0);
	return 0;
}
