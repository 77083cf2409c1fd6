// SPDX-License-Identifier: GPL-2.0-only
/* Requests and answers: where I/O goes, and what waits for what. */
#define _GNU_SOURCE
#include "lib/fixture.h"

TEST_F(dm, read_asks_once_and_hits_afterwards)
{
	struct dmt *t = &self->t;
	struct dmt_map map = { .block = 3, .to = 3, .dst = &t->origin,
			       .flags = RO };
	struct dmt_io *io;
	uint32_t id;

	io = dmt_io(t->fd, DMT_READ, 3 * DMT_BLOCK, DMT_BLOCK, 0);
	id = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, id);
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
	dmt_io_free(io);

	EXPECT_TRUE(dmt_read_matches(t->fd, 3, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_HITS));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_MISSES));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
}

TEST_F(dm, write_to_read_only_block_asks_again)
{
	struct dmt *t = &self->t;
	struct dmt_map ro = { .block = 5, .to = 5, .dst = &t->origin,
			      .flags = RO };
	struct dmt_map cow = { .block = 5, .to = 9, .dst = &t->store,
			       .src = &t->origin, .flags = RW | COPY };
	struct dmt_io *io;
	uint32_t id;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &ro));
	EXPECT_TRUE(dmt_read_matches(t->fd, 5, DMT_ORIGIN));

	/* Half a block, so that the copy is needed. */
	io = dmt_io(t->fd, DMT_WRITE, 5 * DMT_BLOCK + 512, 512, 2);
	id = dmt_expect_request(t->ctl, 5, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &cow));
	ASSERT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_disk_has(&t->origin, 5, DMT_ORIGIN));

	io = dmt_io(t->fd, DMT_READ, 5 * DMT_BLOCK + 512, 512, 0);
	ASSERT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, 2));
	dmt_io_free(io);
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(dm, whole_block_write_needs_no_copy)
{
	struct dmt *t = &self->t;
	struct dmt_map cow = { .block = 7, .to = 7, .dst = &t->store,
			       .src = &t->origin, .flags = RW | COPY };
	struct dmt_io *io;
	uint32_t id;

	io = dmt_io(t->fd, DMT_WRITE, 7 * DMT_BLOCK, DMT_BLOCK, 2);
	id = dmt_expect_request(t->ctl, 7, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &cow));
	ASSERT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_disk_has(&t->store, 7, 2));
	EXPECT_TRUE(dmt_read_matches(t->fd, 7, 2));
}

TEST_F(dm, sync_holds_until_acknowledged)
{
	struct dmt *t = &self->t;
	struct dmt_map map = { .block = 1, .to = 2, .dst = &t->store,
			       .src = &t->origin, .flags = RW | COPY | SYNC };
	struct dmt_io *io;
	uint32_t id;

	io = dmt_io(t->fd, DMT_WRITE, DMT_BLOCK, 1024, 2);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	EXPECT_FALSE(dmt_io_done(io));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_SYNCS));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	ASSERT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
	ASSERT_EQ(0, dmt_write_block(t->fd, 1, 3));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 3));
}

TEST_F(dm, invalidation_is_answered_and_asks_again)
{
	struct dmt *t = &self->t;
	struct dmt_map map = { .block = 4, .to = 4, .dst = &t->origin,
			       .flags = RO };
	struct dmt_io *io;
	uint32_t id;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_TRUE(dmt_read_matches(t->fd, 4, DMT_ORIGIN));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 4));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 42, DM_USERSPACE_INVAL_COMPLETE));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 43, 4));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 43, DM_USERSPACE_INVAL_FAILED));

	io = dmt_io(t->fd, DMT_READ, 4 * DMT_BLOCK, DMT_BLOCK, 0);
	id = dmt_expect_request(t->ctl, 4, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

TEST_F(dm, replacement_waits_and_takes_effect)
{
	struct dmt *t = &self->t;
	struct dmt_map one = { .block = 6, .to = 1, .dst = &t->store,
			       .flags = RW };
	struct dmt_map two = { .block = 6, .to = 2, .dst = &t->store,
			       .flags = RW };

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &one));
	ASSERT_EQ(0, dmt_write_block(t->fd, 6, 2));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &two));
	ASSERT_EQ(0, dmt_write_block(t->fd, 6, 3));
	EXPECT_TRUE(dmt_read_matches(t->fd, 6, 3));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
}

TEST_HARNESS_MAIN
