// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tables that become shorter: a daemon cannot name the blocks that no table has any
 * more, to take them back, and may use their places for others. When they come back
 * they are asked for anew.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include <err.h>

#define KEPT	21u	/* blocks: in the middle of a run of 8, and of one of 64 */

static int resize(const struct dmt_gated *g, const char *name, uint64_t blocks)
{
	char params[256];

	dmt_gated_params(g, params, sizeof(params));
	return dmt_dm_load(name, 0, blocks * DMT_SECTORS, "userspace", params) ?:
	       dmt_dm_resume(name);
}

/* All blocks, in a row, which the kernel makes one of. */
static bool map_all(const struct dmt *t)
{
	struct dmt_map map = dmt_plain(&t->origin, 0, 0, RW);

	for (map.block = 0; map.block < DMT_BLOCKS; map.block++) {
		map.to = map.block;
		if (dmt_map(t->ctl, 0, &map))
			return false;
	}
	return dmt_counter(t->name, DMT_REMAPS) == DMT_BLOCKS;
}

static bool asks(const struct dmt *t, uint64_t block)
{
	struct dmt_io *io = dmt_begin_read(t, block);
	uint32_t id = dmt_expect_request(t->ctl, block, RO);

	return id && !dmt_fail(t->ctl, id) && dmt_io_result(io) == -EIO;
}

TEST_F(gated, what_a_shorter_table_lacks_is_asked_for_when_it_is_back)
{
	struct dmt *t = &self->g.t;
	uint64_t block;

	ASSERT_TRUE(map_all(t));
	ASSERT_EQ(0, resize(&self->g, t->name, KEPT));
	EXPECT_EQ(KEPT, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(-ERANGE, dmt_invalidate(t->ctl, 42, KEPT));
	ASSERT_EQ(0, resize(&self->g, t->name, DMT_BLOCKS));
	for (block = 0; block < KEPT; block++)
		EXPECT_TRUE(dmt_read_matches(t->fd, block, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
	for (; block < DMT_BLOCKS; block++)
		EXPECT_TRUE(asks(t, block));
}

/* Another device of the key has them as well, or those behind them. */
TEST_F(gated, what_another_table_has_is_kept)
{
	struct dmt *t = &self->g.t;
	char other[64], params[256];
	struct dmt_line line = {
		.start = 40 * DMT_SECTORS, .sectors = 10 * DMT_SECTORS,
		.type = "userspace", .params = params,
	};
	struct dmt_line lines[2] = {
		{ .sectors = 40 * DMT_SECTORS, .type = "zero", .params = "" },
		line,
	};

	snprintf(other, sizeof(other), "%s-b", t->name);
	dmt_gated_params(&self->g, params, sizeof(params));
	ASSERT_EQ(0, dmt_dm_create(other));
	ASSERT_EQ(0, dmt_dm_load_lines(other, lines, 2, false));
	ASSERT_EQ(0, dmt_dm_resume(other));
	ASSERT_TRUE(map_all(t));
	ASSERT_EQ(0, resize(&self->g, t->name, KEPT));
	EXPECT_EQ(KEPT + 10, dmt_counter(t->name, DMT_REMAPS));
	ASSERT_EQ(0, resize(&self->g, t->name, DMT_BLOCKS));
	EXPECT_TRUE(dmt_read_matches(t->fd, 40, DMT_ORIGIN));
	EXPECT_TRUE(dmt_read_matches(t->fd, 49, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_TRUE(asks(t, 39));
	EXPECT_TRUE(asks(t, 50));
	ASSERT_EQ(0, dmt_dm_remove(other));
	EXPECT_EQ(KEPT + 10, dmt_counter(t->name, DMT_REMAPS));
}

/* What waits for a copy there: the copy is made, and nobody finds the mapping. */
TEST_F(gated, copy_of_a_block_that_goes_is_made_and_forgotten)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, KEPT, 4, RW);

	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	dmt_gate_open(&self->g.store);
	ASSERT_EQ(0, resize(&self->g, t->name, KEPT));
	EXPECT_TRUE(dmt_counts(t->name, DMT_REMAPS, 0));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, KEPT, DMT_ORIGIN, DMT_NO_PART));
	ASSERT_EQ(0, resize(&self->g, t->name, DMT_BLOCKS));
	EXPECT_TRUE(asks(t, KEPT));
}

TEST_HARNESS_MAIN
