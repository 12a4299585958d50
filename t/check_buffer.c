#include "test.h"

#include "lib/buffer.h"

/* Names that the linker knows (--wrap). */
void *__wrap_reallocarray(void *items, size_t count, size_t size);
void *__real_reallocarray(void *items, size_t count, size_t size);

static bool no_memory;

void *
__wrap_reallocarray(void *items, size_t count, size_t size)
{
	return no_memory ? NULL : __real_reallocarray(items, count, size);
}

START_TEST(what_is_put_in_is_there_in_its_order)
{
	static char all[100000];
	struct buffer b = { 0 };
	size_t n = 0;

	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (char)(i * 31);
	for (size_t piece = 0; n + piece <= sizeof(all); n += piece++)
		ck_assert_int_eq(buffer_write(&b, all + n, piece), OK);
	ck_assert_uint_eq(b.n, n);
	ck_assert_uint_ge(b.room, n);
	ck_assert_mem_eq(b.bytes, all, n);
	buffer_free(&b);
}
END_TEST

START_TEST(nothing_needs_no_memory)
{
	struct buffer b = { 0 };

	ck_assert_int_eq(buffer_write(&b, "", 0), OK);
	ck_assert_ptr_null(b.bytes);
	buffer_free(&b);
}
END_TEST

START_TEST(one_that_was_freed_is_empty_and_can_be_filled)
{
	struct buffer b = { 0 };

	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(buffer_write(&b, "some", 4), OK);
		ck_assert_uint_eq(b.n, 4);
		buffer_free(&b);
		ck_assert_ptr_null(b.bytes);
		ck_assert_uint_eq(b.n + b.room, 0);
	}
}
END_TEST

START_TEST(without_memory_it_stays_as_it_is)
{
	static const char more[10000];
	struct buffer b = { 0 };

	ck_assert_int_eq(buffer_write(&b, "some", 4), OK);
	no_memory = true;
	ck_assert_int_eq(buffer_write(&b, more, sizeof(more)), ERR_BUSY);
	no_memory = false;
	ck_assert_uint_eq(b.n, 4);
	ck_assert_mem_eq(b.bytes, "some", 4);
	ck_assert_int_eq(buffer_write(&b, " more", 5), OK);
	ck_assert_mem_eq(b.bytes, "some more", 9);
	buffer_free(&b);
}
END_TEST

START_TEST(an_array_grows_to_what_is_asked_and_keeps_its_items)
{
	static const size_t counts[] = { 1, 2, 100, 100, 99, 5000 };
	int64_t *items = NULL;
	size_t room = 0, had;

	for (size_t i = 0; i < COUNT(counts); i++) {
		had = room;
		ck_assert_ptr_nonnull(items = buffer_grow(items, &room, counts[i], sizeof(*items)));
		ck_assert_uint_ge(room, counts[i]);
		ck_assert_uint_ge(room, had);
		items[0] = i == 0 ? 7 : items[0];
		items[counts[i] - 1] = 7;
		ck_assert_int_eq(items[0], 7);
	}
	had = room;
	no_memory = true;
	ck_assert_ptr_null(buffer_grow(items, &room, room + 1, sizeof(*items)));
	no_memory = false;
	ck_assert_uint_eq(room, had);
	free(items);
}
END_TEST

/* So that to put in N pieces costs N, not its square. */
START_TEST(it_is_moved_seldom)
{
	char *items = NULL;
	size_t room = 0, had, grown = 0;

	for (size_t count = 1; count <= 1000000; count++) {
		had = room;
		items = buffer_grow(items, &room, count, 1);
		grown += room != had;
	}
	ck_assert_uint_le(grown, 12);
	free(items);
}
END_TEST

START_TEST(items_larger_than_the_least_have_room_for_one)
{
	size_t room = 0;
	void *items = buffer_grow(NULL, &room, 1, 4096);

	ck_assert_ptr_nonnull(items);
	ck_assert_uint_eq(room, 1);
	free(items);
}
END_TEST

CHECK_MAIN(buffer,
    { what_is_put_in_is_there_in_its_order, nothing_needs_no_memory,
	one_that_was_freed_is_empty_and_can_be_filled, without_memory_it_stays_as_it_is,
	an_array_grows_to_what_is_asked_and_keeps_its_items, it_is_moved_seldom,
	items_larger_than_the_least_have_room_for_one })
