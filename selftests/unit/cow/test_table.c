// SPDX-License-Identifier: GPL-2.0-only
/*
 * The hash from block to place.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

#include "sim.h"
#include "table.h"

#define MANY	400000u

/* What the owner of the places knows. */
static uint64_t *blocks;
static uint64_t asked;

static uint64_t block_at(const void *owner, uint64_t place)
{
	assert_ptr_equal(owner, &blocks);
	asked++;
	return blocks[place];
}

static struct cow_table *new_table(uint64_t seed)
{
	struct cow_table *t = malloc(sizeof(*t));

	blocks = calloc(MANY, sizeof(*blocks));
	cow_table_init(t, block_at, &blocks, seed);
	return t;
}

static void free_table(struct cow_table *t)
{
	cow_table_destroy(t);
	free(t);
	free(blocks);
}

static void insert(struct cow_table *t, uint64_t block, uint64_t place)
{
	assert_false(cow_table_reserve(t, block));
	blocks[place] = block;
	cow_table_insert(t, block, place);
}

static void nothing_is_found_in_an_empty_table(void **unused)
{
	struct cow_table *t = new_table(0);

	(void)unused;
	assert_true(cow_table_find(t, 0) == COW_NO_PLACE);
	assert_true(cow_table_find(t, UINT64_MAX - 1) == COW_NO_PLACE);
	free_table(t);
}

static void what_was_inserted_is_found(void **unused)
{
	struct cow_table *t = new_table(4711);
	uint64_t rng = 1, i;

	(void)unused;
	for (i = 0; i < MANY; i++) {
		uint64_t block = rnd(&rng) & ~1ull;

		assert_true(cow_table_find(t, block) == COW_NO_PLACE);
		insert(t, block, i);
		assert_true(cow_table_find(t, block) == i);
	}
	for (i = 0; i < MANY; i++) {
		assert_true(cow_table_find(t, blocks[i]) == i);
		assert_true(cow_table_find(t, blocks[i] + 1) == COW_NO_PLACE);
	}
	free_table(t);
}

/* Neighbours must not gather in one segment, nor in one run of slots. */
static void consecutive_blocks_spread(void **unused)
{
	struct cow_table *t = new_table(0);
	uint64_t i;

	(void)unused;
	for (i = 0; i < MANY; i++)
		insert(t, i, i);
	for (i = 0; i < COW_TABLE_SEGMENTS; i++)
		assert_in_range(t->segment[i].used, 30,
				3 * MANY / COW_TABLE_SEGMENTS);
	asked = 0;
	for (i = 0; i < MANY; i++)
		assert_true(cow_table_find(t, i) == i);
	/* The tag keeps wrong slots from being asked about. */
	assert_in_range(asked, MANY, MANY + 100);
	free_table(t);
}

static void memory_stays_within_what_is_documented(void **unused)
{
	struct cow_table *t = new_table(5);
	uint64_t i;

	(void)unused;
	for (i = 0; i < MANY; i++) {
		insert(t, i * 8, i);
		if (i > 100000)
			assert_in_range(t->bytes, 8 * i, 16 * i);
	}
	assert_true(sizeof(*t) < 66000);
	free_table(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_found_in_an_empty_table),
		cmocka_unit_test(what_was_inserted_is_found),
		cmocka_unit_test(consecutive_blocks_spread),
		cmocka_unit_test(memory_stays_within_what_is_documented),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
