// SPDX-License-Identifier: LGPL-2.1-or-later
/* The id-to-block hash, against an array that cannot be wrong. */
#include "fake.h"

#include "idmap.h"

#define IDS 4096

static int setup(void **state)
{
	static struct dmui_idmap map;

	/* As small as can be, so that it grows and wraps often. */
	*state = &map;
	return dmui_idmap_init(&map, 1);
}

static int teardown(void **state)
{
	dmui_idmap_destroy(*state);
	return 0;
}

static void empty(void **state)
{
	struct dmui_idmap *map = *state;

	assert_null(dmui_idmap_find(map, 1));
	assert_null(dmui_idmap_find(map, 0));
	dmui_idmap_del(map, 1);
	dmui_idmap_del(map, 0);
	assert_int_equal(map->used, 0);
}

static void replaced(void **state)
{
	struct dmui_idmap *map = *state;

	assert_int_equal(dmui_idmap_put(map, 9, 1, 0), 0);
	assert_int_equal(dmui_idmap_put(map, 9, UINT64_MAX, 2), 0);
	assert_int_equal(map->used, 1);
	assert_true(dmui_idmap_find(map, 9)->block == UINT64_MAX);
	assert_int_equal(dmui_idmap_find(map, 9)->state, 2);
}

static void compare(const struct dmui_idmap *map, const uint64_t *blocks)
{
	const struct dmui_id *entry;
	size_t used = 0;
	uint32_t id;

	for (id = 1; id < IDS; id++) {
		entry = dmui_idmap_find(map, id);
		assert_int_equal(!!entry, !!blocks[id]);
		if (!entry)
			continue;
		used++;
		assert_int_equal(entry->id, id);
		assert_true(entry->block == blocks[id]);
	}
	assert_int_equal(map->used, used);
}

/* Random puts and dels; a deletion must not hide what collided with it. */
static void random_walk(void **state)
{
	struct dmui_idmap *map = *state;
	uint64_t blocks[IDS] = { 0 };
	uint32_t seed = 1, step, id;

	for (step = 0; step < 40000; step++) {
		seed = seed * 1664525 + 1013904223;
		/* Filling first, emptying later. */
		id = 1 + (seed >> 8) % (IDS - 1);
		if (seed >> 28 < (step < 20000 ? 10 : 5)) {
			blocks[id] = step + 1;
			assert_int_equal(dmui_idmap_put(map, id, step + 1, 0),
					 0);
		} else {
			blocks[id] = 0;
			dmui_idmap_del(map, id);
		}
		if (step % 1000 == 0)
			compare(map, blocks);
	}
	compare(map, blocks);
	for (id = 1; id < IDS; id++)
		dmui_idmap_del(map, id);
	assert_int_equal(map->used, 0);
}

/* Ids at the end of their range, where arithmetic goes wrong. */
static void extremes(void **state)
{
	struct dmui_idmap *map = *state;
	uint32_t id;

	for (id = UINT32_MAX; id > UINT32_MAX - 100; id--)
		assert_int_equal(dmui_idmap_put(map, id, ~(uint64_t)id, 0), 0);
	for (id = UINT32_MAX; id > UINT32_MAX - 100; id--)
		assert_true(dmui_idmap_find(map, id)->block == ~(uint64_t)id);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(empty, setup, teardown),
		cmocka_unit_test_setup_teardown(replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(random_walk, setup, teardown),
		cmocka_unit_test_setup_teardown(extremes, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
