// SPDX-License-Identifier: GPL-2.0-only
/*
 * The book of a store: what is durable, and which places are handed out.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "desk.h"

/* What is durable */

static void only_what_was_committed_is_found_again(void **unused)
{
	struct sim *s = new_store(2000);
	struct cow_book *b = open_book(s);
	uint64_t place, a;

	(void)unused;
	assert_int_equal(state_of(b, 7), COW_ABSENT);
	a = allot(b, 7);
	assert_int_equal(state_of(b, 7), COW_ALLOTTED);
	allot(b, 8);
	cow_book_filled(b, a);
	assert_int_equal(state_of(b, 7), COW_FILLED);
	commit(b);
	assert_int_equal(state_of(b, 7), COW_DURABLE);
	assert_int_equal(state_of(b, 8), COW_ALLOTTED);
	fill(b, 9, 1);
	kill_book(s, b);

	b = open_book(s);
	assert_int_equal(cow_book_find(b, 7, &place), COW_DURABLE);
	assert_int_equal(place, a);
	assert_int_equal(state_of(b, 8), COW_ABSENT);
	assert_int_equal(state_of(b, 9), COW_ABSENT);
	assert_int_equal(b->entries, 1);
	close_book(b);
	sim_free(s);
}

static void thousands_of_blocks_in_many_lives(void **unused)
{
	struct sim *s = new_store(20000);
	uint64_t *where = calloc(9000, sizeof(*where));
	uint64_t life, i, rng = 9;

	(void)unused;
	for (life = 0; life < 9; life++) {
		struct cow_book *b = open_book(s);
		uint64_t place;

		for (i = 0; i < 1000 * life; i++) {
			assert_int_equal(cow_book_find(b, i * 97, &place),
					 COW_DURABLE);
			assert_int_equal(place, where[i]);
		}
		for (; i < 1000 * (life + 1); i++) {
			where[i] = allot(b, i * 97);
			cow_book_filled(b, where[i]);
			if (!rnd_below(&rng, 50))
				commit(b);
		}
		commit(b);
		if (life % 2)
			kill_book(s, b);
		else
			close_book(b);
	}
	free(where);
	sim_free(s);
}

struct trace {
	char what[64];
	size_t nr;
};

static void note_event(struct sim *s, enum sim_event what, void *ctx)
{
	struct trace *t = ctx;

	if (t->nr < sizeof(t->what) - 1)
		t->what[t->nr++] = what == SIM_FLUSH ? 'f' : 'w';
	/* Data is on its way to the device: is it durable before a page? */
	if (what == SIM_WRITE && s->nr && !s->pending[0].metadata)
		t->what[t->nr - 1] = 'X';
}

static void data_is_flushed_once_and_before_metadata(void **unused)
{
	struct sim *s = new_store(2000);
	struct cow_book *b = open_book(s);
	struct trace t = { .nr = 0 };
	uint64_t i, place;

	(void)unused;
	fill(b, 0, 1); /* the superblock is written now */
	commit(b);
	for (i = 1; i < 300; i++)
		allot(b, i);
	s->event = note_event;
	s->ctx = &t;
	for (i = 1; i < 300; i++) {
		char data[BLOCK] = "data";

		cow_book_find(b, i, &place);
		sim_kernel_write(s, data, BLOCK,
				 cow_place_offset(place, BLOCK));
		cow_book_filled(b, place);
	}
	commit(b);
	commit(b); /* nothing to do */
	assert_string_equal(t.what, "fwf");
	close_book(b);
	sim_free(s);
}

static void several_pages_share_the_flushes(void **unused)
{
	struct sim *s = new_store(4000);
	struct cow_book *b = open_book(s);
	struct trace t = { .nr = 0 };
	uint64_t i;

	(void)unused;
	for (i = 0; i < 1500; i++)
		allot(b, i);
	for (i = 0; i < 1500; i += 504)
		cow_book_filled(b, i);
	s->event = note_event;
	s->ctx = &t;
	commit(b);
	assert_string_equal(t.what, "fwwwf");
	close_book(b);
	sim_free(s);
}

static void a_dead_daemons_writes_are_flushed_before_use(void **unused)
{
	struct sim *s = new_store(2000), *crashed;
	struct cow_book *b = open_book(s);
	uint64_t seed;

	(void)unused;
	fill(b, 1, 1);
	commit(b);
	fill(b, 2, 1);
	/* It dies between the page and its flush. */
	s->fail_flushes = 0;
	sim_flush(s);
	{
		uint64_t offset = cow_slot_offset(0, 0, BLOCK);
		uint8_t page[COW_SLOT_SIZE];

		commit(b);
		memcpy(page, sim_disk(s, offset), sizeof(page));
		memset(sim_disk(s, offset), 0, sizeof(page));
		sim_kernel_write(s, page, sizeof(page), offset);
	}
	kill_book(s, b);

	b = open_book(s);
	assert_int_equal(state_of(b, 2), COW_DURABLE);
	for (seed = 1; seed < 10; seed++) {
		struct cow_book *after;

		crashed = sim_crash(s, seed);
		after = open_book(crashed);
		assert_int_equal(state_of(after, 2), COW_DURABLE);
		close_book(after);
		sim_free(crashed);
	}
	sim_select(s);
	close_book(b);
	sim_free(s);
}

/* Places */

static void no_place_is_handed_out_twice(void **unused)
{
	struct sim *s = new_store(3000);
	struct cow_book *b = open_book(s);
	uint8_t *seen = calloc(3000, 1);
	uint64_t i, place;

	(void)unused;
	for (i = 0; i < 3000; i++) {
		place = allot(b, 5 * i);
		assert_in_range(place, 0, 2999);
		assert_false(seen[place]++);
	}
	assert_int_equal(cow_book_allot(b, 99999, &place), -ENOSPC);
	for (i = 0; i < 3000; i++)
		assert_int_equal(state_of(b, 5 * i), COW_ALLOTTED);
	close_book(b);
	free(seen);
	sim_free(s);
}

/* See STRIDE in book.c. */
static void places_go_round_from_life_to_life(void **unused)
{
	struct sim *s = new_store(3000);
	uint64_t life, highest = 0, place;

	(void)unused;
	for (life = 0; life < 5; life++) {
		struct cow_book *b = open_book(s);

		place = allot(b, 1);
		assert_true(!life || place > highest);
		highest = allot(b, 2);
		if (life % 2)
			close_book(b);
		else
			kill_book(s, b);
	}
	/* And where there is nothing else, it is the free ones again. */
	{
		struct cow_book *b = open_book(s);

		fill(b, 0, 3000);
		commit(b);
		close_book(b);
	}
	sim_free(s);
}

static void a_full_store_goes_on_when_it_has_grown(void **unused)
{
	struct sim *s = new_store(600);
	struct cow_book *b = open_book(s);
	uint64_t place;

	(void)unused;
	fill(b, 0, 600);
	commit(b);
	assert_int_equal(cow_book_allot(b, 600, &place), -ENOSPC);
	assert_false(cow_book_grow(b)); /* not grown yet */
	assert_int_equal(cow_book_allot(b, 600, &place), -ENOSPC);
	sim_grow(s, cow_place_offset(700, BLOCK) + 511);
	assert_false(cow_book_grow(b));
	fill(b, 600, 100);
	assert_int_equal(cow_book_allot(b, 700, &place), -ENOSPC);
	commit(b);
	kill_book(s, b);
	b = open_book(s);
	assert_int_equal(b->entries, 700);
	close_book(b);
	sim_free(s);
}

static void a_store_that_shrinks_gives_no_place_beyond(void **unused)
{
	struct sim *s = new_store(2000);
	struct cow_book *b = open_book(s);
	uint64_t place;

	(void)unused;
	fill(b, 0, 1200);
	sim_grow(s, cow_place_offset(1000, BLOCK));
	assert_false(cow_book_grow(b));
	assert_int_equal(cow_book_allot(b, 5000, &place), -ENOSPC);
	sim_grow(s, cow_place_offset(1300, BLOCK));
	assert_false(cow_book_grow(b));
	fill(b, 1200, 100);
	assert_int_equal(cow_book_allot(b, 5000, &place), -ENOSPC);
	commit(b);
	close_book(b);

	sim_grow(s, cow_place_offset(1299, BLOCK));
	refused(s, "larger once");
	sim_grow(s, COW_HEAD_SIZE + COW_ZONE_META_SIZE);
	refused(s, "smaller than it was");
	sim_free(s);
}

/* Crossing into the next zone */

struct crossing {
	uint64_t durable;
	unsigned int crashes;
};

static void crash_at_crossing(struct sim *s, enum sim_event what, void *ctx)
{
	struct crossing *c = ctx;
	struct sim *crashed = sim_crash(s, ++c->crashes);
	struct cow_book *b = open_book(crashed);

	(void)what;
	assert_in_range(b->entries, c->durable, c->durable + 20);
	assert_int_equal(state_of(b, c->durable - 1), COW_DURABLE);
	close_book(b);
	sim_select(s);
	sim_free(crashed);
}

static void a_new_zone_can_be_crashed_into(void **unused)
{
	uint64_t i, zone = COW_ZONE_PLACES;
	struct sim *s = new_store(2 * zone);
	struct cow_book *b = open_book(s);
	struct crossing c = { .durable = zone - 30 };
	uint64_t place;

	(void)unused;
	/* What is in the way there must not matter. */
	memset(sim_disk(s, cow_zone_offset(1, BLOCK)), 0x5a,
	       COW_ZONE_META_SIZE);
	fill(b, 0, c.durable);
	commit(b);
	s->event = crash_at_crossing;
	s->ctx = &c;
	for (i = 0; i < 5; i++) {
		fill(b, c.durable, 20);
		commit(b);
		c.durable += 20;
	}
	assert_int_equal(b->sb.zones, 2);
	s->event = NULL;
	kill_book(s, b);
	b = open_book(s);
	assert_int_equal(b->entries, zone + 70);
	assert_int_equal(cow_book_find(b, zone, &place), COW_DURABLE);
	assert_int_equal(place, zone);
	close_book(b);
	sim_free(s);
}

/* I/O errors */

static void a_failed_write_can_be_repeated(void **unused)
{
	struct sim *s = new_store(2000);
	struct cow_book *b = open_book(s);

	(void)unused;
	fill(b, 1, 1);
	commit(b);
	fill(b, 2, 1);
	s->fail_writes = 1;
	assert_int_equal(cow_book_commit(b), -EIO);
	assert_int_equal(state_of(b, 2), COW_FILLED);
	fill(b, 3, 1); /* meanwhile */
	commit(b);
	assert_int_equal(state_of(b, 3), COW_DURABLE);
	kill_book(s, b);
	b = open_book(s);
	assert_int_equal(b->entries, 3);
	close_book(b);
	sim_free(s);
}

static void after_a_failed_flush_nothing_is_durable(void **unused)
{
	unsigned int which;

	(void)unused;
	/* That of the data, and that of the page. */
	for (which = 0; which < 2; which++) {
		struct sim *s = new_store(2000);
		struct cow_book *b = open_book(s);
		uint64_t place;

		fill(b, 1, 1);
		commit(b);
		fill(b, 2, 1);
		if (which)
			s->fail_writes = 1;
		else
			s->fail_flushes = 1;
		assert_int_equal(cow_book_commit(b), -EIO);
		if (which) {
			assert_false(b->broken);
			s->fail_flushes = 1;
			assert_int_equal(cow_book_commit(b), -EIO);
		}
		assert_true(b->broken);
		assert_int_equal(cow_book_commit(b), -EIO);
		assert_int_equal(state_of(b, 1), COW_DURABLE);
		assert_int_equal(state_of(b, 2), COW_FILLED);
		assert_int_equal(cow_book_allot(b, 3, &place), -EIO);
		s->writes = 0;
		close_book(b);
		assert_int_equal(s->writes, 0); /* not called clean */
		b = open_book(s);
		assert_int_equal(state_of(b, 1), COW_DURABLE);
		close_book(b);
		sim_free(s);
	}
}

static void a_zone_that_cannot_be_opened_up_gives_no_place(void **unused)
{
	struct sim *s = new_store(2000);
	struct cow_book *b = open_book(s);
	uint64_t place;

	(void)unused;
	s->fail_writes = 1;
	assert_int_equal(cow_book_allot(b, 1, &place), -EIO);
	assert_int_equal(state_of(b, 1), COW_ABSENT);
	assert_int_equal(b->sb.zones, 0);
	fill(b, 1, 1);
	commit(b);
	kill_book(s, b);
	b = open_book(s);
	assert_int_equal(b->entries, 1);
	close_book(b);
	sim_free(s);
}

static void memory_stays_within_what_is_documented(void **unused)
{
	uint64_t n = 250000;
	struct sim *s = new_store(n);
	struct cow_book *b = open_book(s);
	size_t before = cow_book_memory(b);

	(void)unused;
	assert_in_range(before, 2 << 20, (2 << 20) + 200000);
	fill(b, 0, n);
	assert_in_range(cow_book_memory(b) - before, 18 * n, 25 * n);
	commit(b);
	close_book(b);
	sim_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_what_was_committed_is_found_again),
		cmocka_unit_test(thousands_of_blocks_in_many_lives),
		cmocka_unit_test(data_is_flushed_once_and_before_metadata),
		cmocka_unit_test(several_pages_share_the_flushes),
		cmocka_unit_test(a_dead_daemons_writes_are_flushed_before_use),
		cmocka_unit_test(no_place_is_handed_out_twice),
		cmocka_unit_test(places_go_round_from_life_to_life),
		cmocka_unit_test(a_full_store_goes_on_when_it_has_grown),
		cmocka_unit_test(a_store_that_shrinks_gives_no_place_beyond),
		cmocka_unit_test(a_new_zone_can_be_crashed_into),
		cmocka_unit_test(a_failed_write_can_be_repeated),
		cmocka_unit_test(after_a_failed_flush_nothing_is_durable),
		cmocka_unit_test(a_zone_that_cannot_be_opened_up_gives_no_place),
		cmocka_unit_test(memory_stays_within_what_is_documented),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
