// SPDX-License-Identifier: GPL-2.0-only
/* Flushes, discards, zeroes, I/O that must not wait, and I/O of many blocks. */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/sysfs.h"
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

/* --- flushes ---------------------------------------- */

TEST_F(dm, flush_reaches_every_device_once)
{
	struct dmt *t = &self->t;
	struct dmt_stat origin = dmt_stat(t->origin.dev);
	struct dmt_stat store = dmt_stat(t->store.dev);
	struct dmt_io *waiting = dmt_begin_read(t, 3);

	/* Neither mappings nor a daemon are needed. */
	close(t->ctl);
	t->ctl = -1;
	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_FSYNC, 0, 0, 0)));
	EXPECT_EQ(1, dmt_stat_since(t->origin.dev, &origin).flushes);
	EXPECT_EQ(1, dmt_stat_since(t->store.dev, &store).flushes);
	EXPECT_FALSE(dmt_io_done(waiting));
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	ASSERT_EQ(0, dmt_fail(t->ctl, dmt_expect_request(t->ctl, 3, RO)));
	EXPECT_EQ(-EIO, dmt_io_result(waiting));
}

TEST_F(dm, fua_goes_down_with_its_data)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, 1, 1, RW);
	struct dmt_map cow = dmt_cow(t, 2, 2, RW);
	struct dmt_stat origin, store;
	struct dmt_io *io;
	uint32_t id;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	origin = dmt_stat(t->origin.dev);
	store = dmt_stat(t->store.dev);
	io = dmt_io_now(t->fd, DMT_WRITE_FUA, DMT_BLOCK, DMT_BLOCK, 2);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(1, dmt_stat_since(t->store.dev, &store).flushes);
	EXPECT_EQ(1, dmt_stat_since(t->store.dev, &store).writes);
	/* Also after it has waited, and a copy was made. */
	io = dmt_io_now(t->fd, DMT_WRITE_FUA, 2 * DMT_BLOCK, 512, 2);
	id = dmt_expect_request(t->ctl, 2, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &cow));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(2, dmt_stat_since(t->store.dev, &store).flushes);
	EXPECT_EQ(0, dmt_stat_since(t->origin.dev, &origin).flushes);
}

TEST_F(gated, fua_goes_down_with_a_write_that_stands_in_for_a_copy)
{
	struct dmt *t = &self->g.t;
	struct dmt_map cow = dmt_cow(t, 1, 4, RW);
	struct dmt_stat origin = dmt_stat(self->g.origin.behind);
	struct dmt_stat store = dmt_stat(self->g.store.behind);
	struct dmt_io *io = dmt_io_now(t->fd, DMT_WRITE_FUA, DMT_BLOCK,
				       DMT_BLOCK, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &cow));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(1, dmt_stat_since(self->g.store.behind, &store).writes);
	EXPECT_EQ(1, dmt_stat_since(self->g.store.behind, &store).flushes);
	EXPECT_EQ(0, dmt_stat_since(self->g.origin.behind, &origin).reads);
	EXPECT_EQ(0, dmt_stat_since(self->g.origin.behind, &origin).flushes);
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, 2, DMT_NO_PART));
}

/* On its way to a device without a cache a write loses what is of no use there. */
TEST_F(gated, fua_goes_along_with_a_write_that_moves_to_another_place)
{
	struct dmt *t = &self->g.t;
	struct dmt_map sync = dmt_plain(&t->store, 1, 4, RW | SYNC);
	struct dmt_map moved = dmt_plain(&self->g.spare, 1, 5, RW);
	struct dmt_stat spare = dmt_stat(self->g.spare.dev);
	struct dmt_io *io;
	uint32_t id;

	dmt_queue_say(t->store.dev, "write_cache", "write through");
	io = dmt_io_now(t->fd, DMT_WRITE_FUA, DMT_BLOCK, DMT_BLOCK, 2);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &sync));
	ASSERT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	EXPECT_EQ(0, dmt_stat_since(self->g.spare.dev, &spare).writes);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &moved));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(1, dmt_stat_since(self->g.spare.dev, &spare).writes);
	EXPECT_EQ(1, dmt_stat_since(self->g.spare.dev, &spare).flushes);
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, 2, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 5, 1, 2, DMT_NO_PART));
}

TEST_F(gated, flush_fails_where_any_device_fails_it)
{
	struct dmt *t = &self->g.t;

	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_FSYNC, 0, 0, 0)));
	dmt_gate_break_writes(&self->g.store);
	EXPECT_EQ(-EIO, dmt_io_result(dmt_io(t->fd, DMT_FSYNC, 0, 0, 0)));
	dmt_gate_mend(&self->g.store);
	dmt_gate_break_writes(&self->g.origin);
	EXPECT_EQ(-EIO, dmt_io_result(dmt_io(t->fd, DMT_FSYNC, 0, 0, 0)));
	dmt_gate_mend(&self->g.origin);
	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_FSYNC, 0, 0, 0)));
}

/* --- discards ---------------------------------------- */

static int discard(const struct dmt *t, uint64_t block, uint64_t nr)
{
	return dmt_io_result(dmt_io(t->fd, DMT_DISCARD, block * DMT_BLOCK,
				    nr * DMT_BLOCK, 0));
}

TEST_F(dm, discard_does_nothing_where_nothing_may_be_written)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->origin, 3, 3, RO);
	struct dmt_stat origin = dmt_stat(t->origin.dev);
	struct dmt_stat store = dmt_stat(t->store.dev);

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, discard(t, 0, DMT_BLOCKS));
	EXPECT_EQ(0, discard(t, 3, 1));
	EXPECT_EQ(0, discard(t, 4, 1));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_EQ(0, dmt_stat_since(t->origin.dev, &origin).discards);
	EXPECT_EQ(0, dmt_stat_since(t->store.dev, &store).discards);
	EXPECT_TRUE(dmt_disk_has(&t->origin, 3, DMT_ORIGIN));
	EXPECT_TRUE(dmt_disk_has(&t->origin, 4, DMT_ORIGIN));
}

TEST_F(dm, discard_needs_no_daemon)
{
	struct dmt *t = &self->t;

	close(t->ctl);
	t->ctl = -1;
	EXPECT_EQ(0, discard(t, 0, DMT_BLOCKS));
}

TEST_F(dm, discard_is_passed_down_where_the_block_is_writable)
{
	struct dmt *t = &self->t;
	struct dmt_stat store;
	uint64_t block;

	/* Every other block: the rest has no mapping, or must not be written. */
	for (block = 0; block < 16; block++) {
		struct dmt_map map = dmt_plain(&t->store, block, block,
					       block % 4 == 0 ? RW : RO);

		dmt_disk_fill(&t->store, block, 5);
		if (block % 2 == 0)
			ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	}
	store = dmt_stat(t->store.dev);
	EXPECT_EQ(0, discard(t, 0, 16));
	EXPECT_EQ(4, dmt_stat_since(t->store.dev, &store).discards);
	for (block = 0; block < 16; block++)
		EXPECT_TRUE(dmt_disk_has(&t->store, block,
					 block % 4 == 0 ? 0 : 5));
	EXPECT_TRUE(dmt_disk_has(&t->origin, 0, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, discard_that_the_device_cannot_take_is_ignored)
{
	struct dmt *t = &self->g.t;
	struct dmt_map good = dmt_plain(&t->origin, 2, 2, RW);
	struct dmt_map bad = dmt_plain(&t->store, 1, 1, RW);
	struct dmt_map late = dmt_cow(t, 3, 3, RW);
	struct dmt_io *io;
	uint32_t id;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &good));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &bad));
	dmt_disk_fill(&t->store, 1, 5);
	dmt_gate_refuse_discards(&self->g.store);
	EXPECT_EQ(0, discard(t, 1, 2));
	EXPECT_TRUE(dmt_disk_has(&t->store, 1, 5));
	EXPECT_TRUE(dmt_disk_has(&t->origin, 2, 0));
	/* One that comes to a block which is being copied, too. */
	io = dmt_write_part(t->fd, 3, 2);
	id = dmt_expect_request(t->ctl, 3, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &late));
	EXPECT_EQ(0, discard(t, 3, 1));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_block_reads(t->fd, 3, DMT_ORIGIN, 2));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_ERRORS));
}

TEST_F(gated, discard_waits_for_a_copy)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW);
	struct dmt_io *io;

	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	io = dmt_io(t->fd, DMT_DISCARD, DMT_BLOCK, DMT_BLOCK, 0);
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, 0, DMT_NO_PART));
}

/* --- zeroes ---------------------------------------- */

TEST_F(dm, zeroes_are_written_where_the_block_is_mapped)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, 1, 1, RW);

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_disk_fill(&t->store, 1, 5);
	/* By the device itself: nobody writes zeroes in its place. */
	EXPECT_EQ(0, fallocate(t->fd, FALLOC_FL_PUNCH_HOLE |
			       FALLOC_FL_KEEP_SIZE, DMT_BLOCK, DMT_BLOCK));
	EXPECT_TRUE(dmt_disk_has(&t->store, 1, 0));
	dmt_disk_fill(&t->store, 1, 5);
	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_ZEROOUT, DMT_BLOCK,
					  DMT_BLOCK, 0)));
	EXPECT_TRUE(dmt_disk_has(&t->store, 1, 0));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(dm, zeroes_ask_like_any_write)
{
	struct dmt *t = &self->t;
	struct dmt_map ro = dmt_plain(&t->origin, 1, 1, RO);
	struct dmt_map cow = dmt_cow(t, 1, 4, RW);
	struct dmt_map map = dmt_plain(&t->store, 2, 5, RW);
	struct dmt_io *io;
	uint32_t id;

	dmt_disk_fill(&t->store, 5, 6);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &ro));
	io = dmt_io(t->fd, DMT_ZEROOUT, DMT_BLOCK + DMT_PART, DMT_PART, 0);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &cow));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, DMT_ORIGIN, 0));
	EXPECT_TRUE(dmt_disk_has(&t->origin, 1, DMT_ORIGIN));

	io = dmt_io(t->fd, DMT_ZEROOUT, 2 * DMT_BLOCK, DMT_BLOCK, 0);
	id = dmt_expect_request(t->ctl, 2, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 2, 0, DMT_NO_PART));
}

TEST_F(dm, zeroes_of_many_blocks_reach_each_of_them)
{
	struct dmt *t = &self->t;
	uint64_t block;

	for (block = 0; block < 16; block++) {
		/* Backwards: no two are side by side. */
		struct dmt_map map = dmt_plain(block % 3 ? &t->store :
					       &t->origin, block, 40 - block,
					       RW);

		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
		ASSERT_EQ(0, dmt_write_block(t->fd, block, 5));
	}
	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_ZEROOUT, DMT_BLOCK,
					  14 * DMT_BLOCK, 0)));
	for (block = 0; block < 16; block++)
		EXPECT_TRUE(dmt_read_matches(t->fd, block, block == 0 ||
					     block == 15 ? 5 : 0));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_ERRORS));
}

/* --- I/O that must not wait ---------------------------------------- */

/* A part of a block, written or read with RWF_NOWAIT: 0 or a negative errno. */
static int now(const struct dmt *t, bool write, uint64_t offset, size_t len)
{
	static uint8_t buf[4 * DMT_BLOCK] __attribute__((aligned(4096)));
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	ssize_t n;

	n = write ? pwritev2(t->fd, &iov, 1, (off_t)offset, RWF_NOWAIT) :
		    preadv2(t->fd, &iov, 1, (off_t)offset, RWF_NOWAIT);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EPROTO;
}

TEST_F(dm, io_that_must_not_wait_is_served_where_the_block_is_mapped)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, 1, 1, RW);

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, now(t, false, DMT_BLOCK, DMT_BLOCK));
	EXPECT_EQ(0, now(t, true, DMT_BLOCK + DMT_PART, DMT_PART));
	EXPECT_EQ(0, now(t, false, DMT_BLOCK, 512));
}

TEST_F(dm, io_that_must_not_wait_never_asks)
{
	struct dmt *t = &self->t;
	struct dmt_map ro = dmt_plain(&t->origin, 2, 2, RO);

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &ro));
	EXPECT_EQ(-EAGAIN, now(t, false, DMT_BLOCK, DMT_BLOCK));
	EXPECT_EQ(-EAGAIN, now(t, true, DMT_BLOCK, 512));
	EXPECT_EQ(0, now(t, false, 2 * DMT_BLOCK, DMT_BLOCK));
	EXPECT_EQ(-EAGAIN, now(t, true, 2 * DMT_BLOCK, 512));
	/* One part of it could be served. */
	EXPECT_EQ(-EAGAIN, now(t, false, 2 * DMT_BLOCK, 2 * DMT_BLOCK));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_ERRORS));
	EXPECT_TRUE(dmt_disk_has(&t->origin, 2, DMT_ORIGIN));
}

TEST_F(gated, io_that_must_not_wait_does_not_wait_for_a_copy)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW);

	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	EXPECT_EQ(-EAGAIN, now(t, false, DMT_BLOCK, 512));
	EXPECT_EQ(-EAGAIN, now(t, true, DMT_BLOCK, 512));
	dmt_gate_open(&self->g.store);
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
	EXPECT_EQ(0, now(t, false, DMT_BLOCK, 512));
}

TEST_F(dm, io_that_must_not_wait_is_not_held_for_sync)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW | SYNC);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	EXPECT_EQ(-EAGAIN, now(t, false, DMT_BLOCK, 512));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, now(t, false, DMT_BLOCK, 512));
}

/* --- I/O of many blocks ---------------------------------------- */

#define RUN 32 /* blocks: 128 KiB */

/* Map block after block to places side by side; @gap shifts the second half. */
static int map_run(const struct dmt *t, const struct dmt_disk *second,
		   uint64_t gap)
{
	uint64_t block;
	int r = 0;

	for (block = 0; block < RUN && !r; block++) {
		bool first = block < RUN / 2;
		struct dmt_map map = dmt_plain(first ? &t->store : second,
					       block, block + (first ? 0 : gap),
					       RW);

		r = dmt_map(t->ctl, 0, &map);
	}
	return r;
}

static int whole_run(const struct dmt *t, enum dmt_op op, int seed)
{
	struct dmt_io *io = dmt_io_now(t->fd, op, 0, RUN * DMT_BLOCK, seed);
	int r = dmt_io_wait(io);

	if (!r && !dmt_io_matches(io, seed))
		r = -EILSEQ;
	dmt_io_free(io);
	return r;
}

TEST_F(dm, io_over_contiguous_mappings_is_not_split)
{
	struct dmt *t = &self->t;
	struct dmt_stat store;

	ASSERT_EQ(0, map_run(t, &t->store, 0));
	store = dmt_stat(t->store.dev);
	EXPECT_EQ(0, whole_run(t, DMT_WRITE, 3));
	EXPECT_EQ(0, whole_run(t, DMT_READ, 3));
	EXPECT_EQ(1, dmt_stat_since(t->store.dev, &store).writes);
	EXPECT_EQ(1, dmt_stat_since(t->store.dev, &store).reads);
}

TEST_F(dm, io_is_split_where_the_mapping_breaks)
{
	struct dmt *t = &self->t;
	struct dmt_stat store;

	ASSERT_EQ(0, map_run(t, &t->store, 4));
	store = dmt_stat(t->store.dev);
	EXPECT_EQ(0, whole_run(t, DMT_WRITE, 3));
	EXPECT_EQ(0, whole_run(t, DMT_READ, 3));
	EXPECT_EQ(2, dmt_stat_since(t->store.dev, &store).writes);
	EXPECT_EQ(2, dmt_stat_since(t->store.dev, &store).reads);
}

TEST_F(dm, io_is_split_where_the_device_changes)
{
	struct dmt *t = &self->t;
	struct dmt_stat origin, store;

	ASSERT_EQ(0, map_run(t, &t->origin, 0));
	origin = dmt_stat(t->origin.dev);
	store = dmt_stat(t->store.dev);
	EXPECT_EQ(0, whole_run(t, DMT_WRITE, 3));
	EXPECT_EQ(0, whole_run(t, DMT_READ, 3));
	EXPECT_EQ(1, dmt_stat_since(t->store.dev, &store).writes);
	EXPECT_EQ(1, dmt_stat_since(t->store.dev, &store).reads);
	EXPECT_EQ(1, dmt_stat_since(t->origin.dev, &origin).writes);
	EXPECT_EQ(1, dmt_stat_since(t->origin.dev, &origin).reads);
}

TEST_F(dm, only_the_blocks_without_a_mapping_are_asked_for)
{
	struct dmt *t = &self->t;
	struct dmt_map gone = dmt_plain(&t->store, 7, 7, RW);
	struct dmt_map ro = dmt_plain(&t->store, 9, 9, RO);
	struct dmt_io *io;
	uint32_t seven, nine;

	ASSERT_EQ(0, map_run(t, &t->store, 0));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 7));
	ASSERT_TRUE(dmt_expect_status(t->ctl, 42, DM_USERSPACE_INVAL_COMPLETE));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &ro));
	io = dmt_io_now(t->fd, DMT_WRITE, 0, RUN * DMT_BLOCK, 3);
	seven = dmt_expect_request(t->ctl, 7, RW);
	nine = dmt_expect_request(t->ctl, 9, RW);
	ASSERT_TRUE(seven && nine);
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_FALSE(dmt_io_done(io));
	ro.flags = RW;
	ASSERT_EQ(0, dmt_map(t->ctl, nine, &ro));
	ASSERT_EQ(0, dmt_map(t->ctl, seven, &gone));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, whole_run(t, DMT_READ, 3));
}

TEST_F(dm, io_off_the_blocks_reaches_every_sector_once)
{
	struct dmt *t = &self->t;
	const uint64_t from = DMT_BLOCK - 512, len = 6 * DMT_BLOCK + 1024;
	uint8_t want[8 * DMT_BLOCK], got[8 * DMT_BLOCK];
	struct dmt_io *write, *read;
	uint64_t block, i;
	uint32_t id;

	/* As many kinds of mappings as there are: 0 to 7 are touched. */
	for (block = 0; block < 8; block++) {
		struct dmt_map map = dmt_plain(block % 2 ? &t->store :
					       &t->origin, block,
					       block % 2 ? 20 - block : block,
					       block == 3 ? RO : RW);

		dmt_pattern(want + block * DMT_BLOCK, DMT_BLOCK, block,
			    block % 2 ? 0 : DMT_ORIGIN);
		if (block == 4)
			continue;
		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	}
	write = dmt_io_now(t->fd, DMT_WRITE, from, len, 3);
	memcpy(want + from, dmt_io_buf(write), len);
	for (i = 0; i < 2; i++) {
		struct dmt_map map = dmt_cow(t, i ? 4 : 3, i ? 31 : 30, RW);

		id = dmt_expect_request(t->ctl, map.block, RW);
		ASSERT_NE(0, id);
		ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	}
	/* Block 3 has been copied from the origin, and then overwritten. */
	EXPECT_EQ(0, dmt_io_result(write));
	read = dmt_io_now(t->fd, DMT_READ, 0, 8 * DMT_BLOCK, 0);
	EXPECT_EQ(0, dmt_io_wait(read));
	memcpy(got, dmt_io_buf(read), sizeof(got));
	dmt_io_free(read);
	for (i = 0; i < sizeof(want) / 512; i++)
		EXPECT_EQ(0, memcmp(want + i * 512, got + i * 512, 512));
}

TEST_F(dm, read_ahead_asks_like_any_read)
{
	struct dmt *t = &self->t;
	int fd = dmt_dm_open(t->name, O_RDONLY);
	uint8_t want[DMT_BLOCK];
	struct dmt_io *io;
	struct dmt_msg msg;
	unsigned int asked = 0;
	uint64_t block;

	ASSERT_LE(0, fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	io = dmt_io(fd, DMT_READ, 0, 4 * DMT_BLOCK, 0);
	while (!dmt_io_done(io) || !dmt_silent(t->ctl)) {
		struct dmt_map map;

		if (!dmt_readable(t->ctl, 1))
			continue;
		ASSERT_LT(0, dmt_read_msg(t->ctl, &msg));
		ASSERT_EQ(DM_USERSPACE_MAP_BLOCK_REQ, msg.header.msg_type);
		EXPECT_EQ(RO, msg.request.flags);
		block = msg.request.org_block;
		map = dmt_plain(&t->origin, block, block, RO);
		ASSERT_EQ(0, dmt_map(t->ctl, msg.header.id, &map));
		asked++;
	}
	/* More than was read. */
	EXPECT_LT(4, asked);
	for (block = 0; block < 4; block++) {
		dmt_pattern(want, DMT_BLOCK, block, DMT_ORIGIN);
		EXPECT_EQ(0, memcmp(want, (const uint8_t *)dmt_io_buf(io) +
				    block * DMT_BLOCK, DMT_BLOCK));
	}
	EXPECT_EQ(0, dmt_io_result(io));
	close(fd);
}

/* --- messages ---------------------------------------- */

TEST_F(dm, fail_waiting_fails_what_waits_for_a_daemon)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, 1, 1, RW);
	struct dmt_io *sent = dmt_begin_read(t, 2), *unread, *late;
	uint32_t id = dmt_expect_request(t->ctl, 2, RO);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	unread = dmt_begin_write(t, 3, 2);
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	EXPECT_EQ(-EIO, dmt_io_result(sent));
	EXPECT_EQ(-EIO, dmt_io_result(unread));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 2));
	/* What comes later waits again, and the late answer is no error. */
	late = dmt_begin_read(t, 3);
	map = dmt_plain(&t->origin, 2, 2, RO);
	EXPECT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_TRUE(dmt_read_matches(t->fd, 2, DMT_ORIGIN));
	id = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, id);
	EXPECT_FALSE(dmt_io_done(late));
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(late));
}

TEST_F(dm, error_if_no_daemon_is_switched_on_and_off)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, 1, 1, RW);
	struct dmt_io *io;
	uint32_t id;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_EQ(0, dmt_dm_message(t->name, "error_if_no_daemon on"));
	/* There is one. */
	io = dmt_begin_read(t, 2);
	id = dmt_expect_request(t->ctl, 2, RO);
	ASSERT_NE(0, id);
	EXPECT_FALSE(dmt_io_done(io));
	/* What it had read, and what it had not, fails with the last one. */
	close(t->ctl);
	t->ctl = -1;
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 2)));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_write(t, 3, 2)));
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 2));
	EXPECT_LE(3, dmt_counter(t->name, DMT_ERRORS));
	ASSERT_EQ(0, dmt_dm_message(t->name, "error_if_no_daemon off"));
	io = dmt_begin_read(t, 2);
	dmt_grace_period();
	EXPECT_FALSE(dmt_io_done(io));
	/* Switched on while it waits. */
	ASSERT_EQ(0, dmt_dm_message(t->name, "error_if_no_daemon on"));
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

TEST_F(dm, other_messages_are_refused)
{
	static const char *const bad[] = {
		"", "fail", "fail_waiting now", "drop_idle all", "drop_idle 1",
		"error_if_no_daemon", "error_if_no_daemon maybe",
		"error_if_no_daemon on off", "Fail_waiting", "reload",
	};
	struct dmt *t = &self->t;
	struct dmt_io *io = dmt_begin_read(t, 2);
	uint32_t id = dmt_expect_request(t->ctl, 2, RO);
	unsigned int i;

	ASSERT_NE(0, id);
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		EXPECT_EQ(-EINVAL, dmt_dm_message(t->name, bad[i])) {
			TH_LOG("message %u was taken", i);
		}
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

TEST_HARNESS_MAIN
