// SPDX-License-Identifier: GPL-2.0-only
/*
 * Messages about runs of blocks: who gets them, how they may be answered, what is
 * refused; copies from anywhere, and blocks of zeroes.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/run.h"
#include "lib/sysfs.h"
#include <err.h>
#include <stdlib.h>
#include <string.h>

#define JUNK	9	/* what places of the store hold that nobody has written */

/**
 * @g: as in most tests
 * @in: what its daemon reads; it has asked for runs
 */
FIXTURE(run)
{
	struct dmt_gated g;
	struct dmt_inbox in;
};

FIXTURE_SETUP(run)
{
	unsigned int i;

	dmt_gated_setup(&self->g);
	for (i = 0; i < DMT_BLOCKS; i++)
		dmt_place_fill(&self->g.t.store, i, i, JUNK);
	self->in = (struct dmt_inbox){ .fd = self->g.t.ctl };
	if (!dmt_wants(self->g.t.ctl, DMU_EXT_RUNS))
		errx(1, "this kernel knows nothing of runs");
}

FIXTURE_TEARDOWN(run)
{
	dmt_gated_teardown(&self->g);
}

static struct dmt_io *begin(const struct dmt *t, enum dmt_op op, uint64_t block,
			    unsigned int count)
{
	return dmt_io_now(t->fd, op, block * DMT_BLOCK,
			  (size_t)count * DMT_BLOCK, 5);
}

/* The store's as a destination, from the daemon of the test. */
static int to_store(const struct dmt *t, uint32_t id, uint64_t block,
		    uint64_t count, uint64_t place, uint32_t flags)
{
	return dmt_map_run(t->ctl, id, dmt_run(block, count, &t->store, place,
					       flags));
}

static uint64_t remaps(const struct dmt *t)
{
	return dmt_counter(t->name, DMT_REMAPS);
}

/* Do places of the store hold what begin() has written from a block on? */
static bool written(const struct dmt *t, uint64_t place, uint64_t block,
		    unsigned int count)
{
	size_t len = (size_t)count * DMT_BLOCK;
	uint8_t *want = malloc(len), *got = malloc(len);
	bool same;

	if (!want || !got)
		errx(1, "no memory");
	dmt_pattern(want, len, block, 5);
	same = pread(t->store.fd, got, len, (off_t)(place * DMT_BLOCK)) ==
	       (ssize_t)len && !memcmp(want, got, len);
	free(want);
	free(got);
	return same;
}

static bool all_zero(const uint8_t *bytes, size_t len)
{
	while (len && !*bytes) {
		bytes++;
		len--;
	}
	return !len;
}

/* Does a read of so many bytes find zeroes? */
static bool reads_zeroes(const struct dmt *t, uint64_t offset, size_t len)
{
	uint8_t *got;
	bool zero;

	if (posix_memalign((void **)&got, 4096, len))
		errx(1, "no memory");
	memset(got, JUNK, len);
	zero = pread(t->fd, got, len, (off_t)offset) == (ssize_t)len &&
	       all_zero(got, len);
	free(got);
	return zero;
}

/* Does a place of the store hold zeroes, and the part that was written? */
static bool zeroes_around(const struct dmt *t, uint64_t place, uint64_t block,
			  int part)
{
	uint8_t got[DMT_BLOCK], want[DMT_BLOCK] = {};

	if (part != DMT_NO_PART)
		dmt_pattern(want + DMT_PART, DMT_PART, block, part);
	return pread(t->store.fd, got, sizeof(got),
		     (off_t)(place * DMT_BLOCK)) == sizeof(got) &&
	       !memcmp(got, want, sizeof(got));
}

/* --- requests ------------------------------------------------------- */

TEST_F(run, requests_that_follow_each_other_are_one_message)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = begin(t, DMT_WRITE, 0, DMT_BLOCKS);
	uint32_t id = dmt_inbox_run(&self->in, 0, DMT_BLOCKS, RW);

	ASSERT_NE(0, id);
	EXPECT_TRUE(dmt_inbox_empty(&self->in));
	EXPECT_EQ(DMT_BLOCKS, dmt_counter(t->name, DMT_SENT));
	ASSERT_EQ(0, to_store(t, id, 0, DMT_BLOCKS, 0, RW));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(DMT_BLOCKS, remaps(t));
	EXPECT_TRUE(written(t, 0, 0, DMT_BLOCKS));
	EXPECT_TRUE(dmt_inbox_empty(&self->in));
}

TEST_F(run, a_break_in_blocks_or_in_direction_begins_another)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io[] = {
		begin(t, DMT_READ, 2, 2), begin(t, DMT_READ, 5, 1),
		begin(t, DMT_WRITE, 6, 2), begin(t, DMT_WRITE, 4, 1),
	};
	uint32_t id = dmt_inbox_run(&self->in, 2, 2, RO);
	unsigned int i;

	ASSERT_NE(0, id);
	EXPECT_EQ(id + 2, dmt_inbox_run(&self->in, 5, 1, RO));
	EXPECT_EQ(id + 3, dmt_inbox_run(&self->in, 6, 2, RW));
	EXPECT_EQ(id + 5, dmt_inbox_run(&self->in, 4, 1, RW));
	EXPECT_TRUE(dmt_inbox_empty(&self->in));
	ASSERT_EQ(0, to_store(t, id, 2, 2, 2, RO));
	ASSERT_EQ(0, to_store(t, id + 2, 5, 1, 5, RO));
	ASSERT_EQ(0, to_store(t, id + 3, 6, 2, 6, RW));
	ASSERT_EQ(0, to_store(t, id + 5, 4, 1, 4, RW));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(0, dmt_io_result(io[i]));
	EXPECT_TRUE(written(t, 6, 6, 2));
}

/* Blocks that are neighbours, and were not asked for one after the other. */
TEST_F(run, a_break_in_ids_begins_another)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *a = begin(t, DMT_READ, 2, 1);
	struct dmt_io *b = begin(t, DMT_READ, 9, 1);
	struct dmt_io *c = begin(t, DMT_READ, 3, 1);
	uint32_t id = dmt_inbox_run(&self->in, 2, 1, RO);

	ASSERT_NE(0, id);
	ASSERT_EQ(id + 1, dmt_inbox_run(&self->in, 9, 1, RO));
	ASSERT_EQ(id + 2, dmt_inbox_run(&self->in, 3, 1, RO));
	ASSERT_EQ(0, dmt_fail(t->ctl, id + 1));
	EXPECT_EQ(-EIO, dmt_io_result(b));
	/* An answer to none, between two, is one that nobody asked for. */
	ASSERT_EQ(0, to_store(t, id, 2, 1, 2, RO));
	ASSERT_EQ(0, to_store(t, id + 2, 3, 1, 3, RO));
	EXPECT_EQ(0, dmt_io_result(a));
	EXPECT_EQ(0, dmt_io_result(c));
}

/* Room for one message is room for as many requests as that can be. */
TEST_F(run, what_could_not_be_read_is_read_later)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = begin(t, DMT_READ, 0, 4);
	/* The compiler is not to see that nothing is there. */
	void *volatile nowhere = (void *)1;
	struct dmt_msg msg;

	EXPECT_EQ(-1, read(t->ctl, nowhere, 28));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	EXPECT_EQ(-1, read(t->ctl, &msg, 27));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	ASSERT_EQ(28, read(t->ctl, &msg, 28));
	EXPECT_EQ(DM_USERSPACE_MAP_RUN_REQ, msg.header.msg_type);
	EXPECT_EQ(0, msg.run_request.block);
	EXPECT_EQ(4, msg.run_request.count);
	EXPECT_TRUE(dmt_inbox_empty(&self->in));
	ASSERT_EQ(0, to_store(t, msg.header.id, 0, 4, 0, RO));
	EXPECT_EQ(0, dmt_io_result(io));
}

TEST_F(run, daemon_of_2006_beside_it_is_asked_block_by_block)
{
	struct dmt *t = &self->g.t;
	struct dmt_inbox other = {
		.fd = dmt_control_open(t->name, O_NONBLOCK),
	};
	struct dmt_io *io = begin(t, DMT_WRITE, 0, 8);
	struct dmt_map map;
	struct dmt_msg msg;
	uint64_t block;

	for (block = 0; block < 8; block++) {
		ASSERT_TRUE(dmt_inbox_next(&other, &msg));
		ASSERT_EQ(DM_USERSPACE_MAP_BLOCK_REQ, msg.header.msg_type);
		ASSERT_EQ(block, msg.request.org_block);
		map = dmt_plain(&t->store, block, block, RW);
		ASSERT_EQ(0, dmt_map(other.fd, msg.header.id, &map));
	}
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_inbox_empty(&other));
	EXPECT_TRUE(dmt_inbox_empty(&self->in));
	EXPECT_EQ(-EINVAL, dmt_map_run(other.fd, 0, dmt_run(9, 2, &t->store, 9,
							    RW)));
	close(other.fd);
}

TEST_F(run, what_a_daemon_read_as_a_run_the_next_may_read_as_blocks)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = begin(t, DMT_READ, 0, 3);
	uint32_t id = dmt_inbox_run(&self->in, 0, 3, RO);
	struct dmt_msg msg;
	uint32_t i;

	ASSERT_NE(0, id);
	close(t->ctl);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	self->in = (struct dmt_inbox){ .fd = t->ctl };
	for (i = 0; i < 3; i++) {
		ASSERT_TRUE(dmt_inbox_next(&self->in, &msg));
		EXPECT_EQ(DM_USERSPACE_MAP_BLOCK_REQ, msg.header.msg_type);
		EXPECT_EQ(id + i, msg.header.id);
	}
	EXPECT_EQ(-EINVAL, to_store(t, id, 0, 3, 0, RO));
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS));
	EXPECT_EQ(0, to_store(t, id, 0, 3, 0, RO));
	EXPECT_EQ(0, dmt_io_result(io));
}

/* --- answers -------------------------------------------------------- */

TEST_F(run, parts_of_it_are_answered_in_any_order)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = begin(t, DMT_WRITE, 0, 16);
	uint32_t id = dmt_inbox_run(&self->in, 0, 16, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, to_store(t, id + 10, 10, 6, 40, RW));
	ASSERT_EQ(0, to_store(t, id + 1, 1, 1, 31, RW));
	ASSERT_EQ(0, to_store(t, id + 2, 2, 8, 32, RW));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, to_store(t, id, 0, 1, 30, RW));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(written(t, 30, 0, 16));
}

TEST_F(run, each_of_it_is_answered_as_in_2006)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = begin(t, DMT_WRITE, 0, 8);
	uint32_t id = dmt_inbox_run(&self->in, 0, 8, RW);
	unsigned int i;

	ASSERT_NE(0, id);
	for (i = 8; i--;) {
		struct dmt_map map = dmt_plain(&t->store, i, i + 20, RW);

		ASSERT_EQ(0, dmt_map(t->ctl, id + i, &map));
	}
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(written(t, 20, 0, 8));
}

TEST_F(run, one_of_it_is_failed_and_the_others_are_not)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io[8];
	unsigned int i;
	uint32_t id;

	for (i = 0; i < 8; i++)
		io[i] = begin(t, DMT_WRITE, i, 1);
	id = dmt_inbox_run(&self->in, 0, 8, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_fail(t->ctl, id + 3));
	EXPECT_EQ(-EIO, dmt_io_result(io[3]));
	/* Also for the one that nobody waits for any more. */
	ASSERT_EQ(0, to_store(t, id, 0, 8, 0, RW));
	for (i = 0; i < 8; i++)
		if (i != 3)
			EXPECT_EQ(0, dmt_io_result(io[i]));
	EXPECT_EQ(8, remaps(t));
	EXPECT_TRUE(dmt_inbox_empty(&self->in));
}

TEST_F(run, those_before_the_one_that_is_refused_are_mapped)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = begin(t, DMT_WRITE, 0, 2);
	struct dmt_io *last = begin(t, DMT_WRITE, 5, 1);
	uint32_t id = dmt_inbox_run(&self->in, 0, 2, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(id + 2, dmt_inbox_run(&self->in, 5, 1, RW));
	/* The third id is for another block. */
	EXPECT_EQ(-EINVAL, to_store(t, id, 0, 4, 0, RW));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(2, remaps(t));
	/* Said again, it does not harm. */
	EXPECT_EQ(0, to_store(t, id, 0, 2, 0, RW));
	EXPECT_FALSE(dmt_io_done(last));
	EXPECT_EQ(0, to_store(t, id + 2, 5, 1, 5, RW));
	EXPECT_EQ(0, dmt_io_result(last));
}

TEST_F(run, temporary_ones_serve_what_waits)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = begin(t, DMT_WRITE, 0, 8);
	uint32_t id = dmt_inbox_run(&self->in, 0, 8, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, to_store(t, id, 0, 8, 8, RW | TEMP));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(written(t, 8, 0, 8));
	EXPECT_EQ(0, remaps(t));
}

/* --- what is refused ------------------------------------------------ */

TEST_F(run, of_what_leaves_its_device_the_beginning_is_mapped)
{
	struct dmt *t = &self->g.t;

	EXPECT_EQ(-ERANGE, to_store(t, 0, 60, 5, 0, RW));
	EXPECT_EQ(4, remaps(t));
	EXPECT_EQ(-ERANGE, to_store(t, 0, 0, 4, 62, RW));
	EXPECT_EQ(6, remaps(t));
	EXPECT_EQ(-ERANGE, dmt_map_run(t->ctl, 0, dmt_run_zero(30, 1u << 30)));
	EXPECT_EQ(6 + 30, remaps(t));
	EXPECT_EQ(-ERANGE, to_store(t, 0, DMT_BLOCKS, 1, 0, RW));
	EXPECT_EQ(-ERANGE, to_store(t, 0, 10, 1, DMT_BLOCKS, RW));
	EXPECT_EQ(6 + 30, remaps(t));
}

TEST_F(run, numbers_that_begin_anew_are_refused)
{
	struct dmt *t = &self->g.t;
	struct dmu_msg_run_response r = dmt_run(0, 2, &t->store, 0, RW);

	EXPECT_EQ(-ERANGE, to_store(t, 0, UINT64_MAX, 2, 0, RW));
	EXPECT_EQ(-ERANGE, to_store(t, 0, 0, UINT64_MAX, 0, RW));
	EXPECT_EQ(-ERANGE, to_store(t, 0, 0, 1ULL << 62, 0, RW));
	EXPECT_EQ(-ERANGE, to_store(t, 0, 1ULL << 61, 1, 0, RW));
	EXPECT_EQ(-ERANGE, to_store(t, UINT32_MAX, 0, 2, 0, RW));
	EXPECT_EQ(-ERANGE, dmt_map_run(t->ctl, 0, dmt_run_zero(0, UINT64_MAX)));
	EXPECT_EQ(-ERANGE, dmt_map_run(t->ctl, 0,
				       dmt_run_zero((1ULL << 61) - 1, 2)));
	r.dst_sector = UINT64_MAX - 7;
	EXPECT_EQ(-ERANGE, dmt_map_run(t->ctl, 0, r));
	r.dst_sector = 0;
	dmt_run_copy(&r, &t->origin, 0);
	r.src_sector = UINT64_MAX - 7;
	EXPECT_EQ(-ERANGE, dmt_map_run(t->ctl, 0, r));
	EXPECT_EQ(0, remaps(t));
}

TEST_F(run, what_makes_no_sense_is_refused)
{
	struct dmt *t = &self->g.t;
	struct dmu_msg_run_response r = dmt_run(0, 2, &t->store, 0, RW);
	const struct dmu_msg_run_request request = { .count = 2 };
	uint32_t bit;

	EXPECT_EQ(-EINVAL, to_store(t, 0, 0, 0, 0, RW));
	EXPECT_EQ(-EINVAL, to_store(t, 0, 0, 2, 0, RW | SYNC));
	for (bit = 512; bit; bit <<= 1)
		EXPECT_EQ(-EINVAL, to_store(t, 0, 0, 2, 0, RW | bit));
	EXPECT_EQ(-EINVAL, dmt_write_msg(t->ctl, DM_USERSPACE_MAP_RUN_RESP, 0,
					 &r, sizeof(r) - 4));
	EXPECT_EQ(-EINVAL, dmt_write_msg(t->ctl, DM_USERSPACE_MAP_RUN_REQ, 1,
					 &request, sizeof(request)));
	r.dst_maj = 0;
	r.dst_min = 0;
	EXPECT_EQ(-ENODEV, dmt_map_run(t->ctl, 0, r));
	r.dst_maj = UINT32_MAX;
	EXPECT_EQ(-ENODEV, dmt_map_run(t->ctl, 0, r));
	EXPECT_EQ(0, remaps(t));
	/* What is the kernel's own is not looked at. */
	EXPECT_EQ(0, to_store(t, 0, 0, 2, 0, RW | DMU_FLAG_VALID |
			      DMU_FLAG_INUSE | DMU_FLAG_WAITING));
	EXPECT_EQ(2, remaps(t));
}

TEST_F(run, who_wants_no_runs_any_more_cannot_map_them)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io;
	struct dmt_msg msg;

	EXPECT_EQ(0, to_store(t, 0, 0, 2, 0, RW));
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_REPORTS));
	EXPECT_EQ(-EINVAL, to_store(t, 0, 2, 2, 2, RW));
	io = begin(t, DMT_READ, 4, 2);
	ASSERT_TRUE(dmt_inbox_next(&self->in, &msg));
	EXPECT_EQ(DM_USERSPACE_MAP_BLOCK_REQ, msg.header.msg_type);
	ASSERT_EQ(0, dmt_fail(t->ctl, msg.header.id));
	ASSERT_EQ(0, dmt_fail(t->ctl, msg.header.id + 1));
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

/* --- copies --------------------------------------------------------- */

TEST_F(run, blocks_are_copied_from_where_the_daemon_says)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = begin(t, DMT_READ, 0, 4);
	uint32_t id = dmt_inbox_run(&self->in, 0, 4, RO);
	struct dmu_msg_run_response r = dmt_run(0, 4, &t->store, 10, RW);
	unsigned int i;

	ASSERT_NE(0, id);
	dmt_run_copy(&r, &t->origin, 20);
	ASSERT_EQ(0, dmt_map_run(t->ctl, id, r));
	EXPECT_EQ(0, dmt_io_result(io));
	for (i = 0; i < 4; i++)
		EXPECT_TRUE(dmt_place_has(&t->store, 10 + i, 20 + i,
					  DMT_ORIGIN, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&t->store, 14, 14, JUNK, DMT_NO_PART));
	/* The same answer is no other copy. */
	ASSERT_EQ(0, dmt_write_block(t->fd, 0, 5));
	ASSERT_EQ(0, dmt_map_run(t->ctl, id, r));
	EXPECT_TRUE(dmt_read_matches(t->fd, 0, 5));
}

TEST_F(run, copies_are_made_within_a_device_too)
{
	struct dmt *t = &self->g.t;
	struct dmu_msg_run_response r = dmt_run(0, 2, &t->store, 4, RW);

	dmt_run_copy(&r, &t->store, 30);
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, r));
	EXPECT_EQ(0, dmt_io_result(begin(t, DMT_READ, 0, 2)));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 30, JUNK, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 31, JUNK, DMT_NO_PART));
	/* A copy from itself is none. */
	r = dmt_run(8, 1, &t->store, 40, RW);
	dmt_run_copy(&r, &t->store, 40);
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, r));
	r.src_sector--;
	EXPECT_EQ(-EINVAL, dmt_map_run(t->ctl, 0, r));
	r.src_sector += DMT_SECTORS;
	EXPECT_EQ(-EINVAL, dmt_map_run(t->ctl, 0, r));
	r.src_sector++;
	EXPECT_EQ(0, dmt_map_run(t->ctl, 0, r));
}

TEST_F(run, copies_from_nowhere_are_refused)
{
	struct dmt *t = &self->g.t;
	struct dmu_msg_run_response r = dmt_run(0, 2, &t->store, 0, RW);

	dmt_run_copy(&r, &t->origin, DMT_BLOCKS);
	EXPECT_EQ(-ERANGE, dmt_map_run(t->ctl, 0, r));
	r.src_sector = UINT64_MAX - 15;
	EXPECT_EQ(-ERANGE, dmt_map_run(t->ctl, 0, r));
	r.src_sector = 0;
	r.src_maj = UINT32_MAX;
	EXPECT_EQ(-ENODEV, dmt_map_run(t->ctl, 0, r));
	r.src_maj = 0;
	r.src_min = 1;
	EXPECT_EQ(-ENODEV, dmt_map_run(t->ctl, 0, r));
	EXPECT_EQ(0, remaps(t));
	dmt_run_copy(&r, &t->origin, DMT_BLOCKS - 1);
	EXPECT_EQ(-ERANGE, dmt_map_run(t->ctl, 0, r));
	EXPECT_EQ(1, remaps(t));
}

TEST_F(run, places_are_filled_with_zeroes_before_use)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_write_part(t->fd, 3, 5);
	struct dmt_io *read = begin(t, DMT_READ, 4, 2);
	uint32_t id = dmt_inbox_run(&self->in, 3, 1, RW);
	struct dmu_msg_run_response r = dmt_run(3, 3, &t->store, 10, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(id + 1, dmt_inbox_run(&self->in, 4, 2, RO));
	dmt_run_copy(&r, NULL, 0);
	ASSERT_EQ(0, dmt_map_run(t->ctl, id, r));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_TRUE(zeroes_around(t, 10, 3, 5));
	EXPECT_TRUE(zeroes_around(t, 11, 4, DMT_NO_PART));
	EXPECT_TRUE(zeroes_around(t, 12, 5, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&t->store, 13, 13, JUNK, DMT_NO_PART));
	EXPECT_TRUE(reads_zeroes(t, 4 * DMT_BLOCK, 2 * DMT_BLOCK));
}

TEST_F(run, zeroes_that_could_not_be_written_are_tried_again)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_write_part(t->fd, 3, 5);
	uint32_t id = dmt_inbox_run(&self->in, 3, 1, RW);
	struct dmu_msg_run_response r = dmt_run(3, 1, &t->store, 10, RW);

	ASSERT_NE(0, id);
	dmt_run_copy(&r, NULL, 0);
	dmt_gate_break(&self->g.store);
	ASSERT_EQ(0, dmt_map_run(t->ctl, id, r));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	dmt_gate_mend(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(dmt_write_part(t->fd, 3, 6)));
	EXPECT_TRUE(zeroes_around(t, 10, 3, 6));
}

/* --- zeroes --------------------------------------------------------- */

TEST_F(run, zeroes_are_read_from_no_device)
{
	struct dmt *t = &self->g.t;

	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, dmt_run_zero(0, 48)));
	EXPECT_EQ(48, remaps(t));
	dmt_gate_shut(&self->g.origin);
	dmt_gate_shut(&self->g.store);
	EXPECT_TRUE(reads_zeroes(t, 0, 512));
	EXPECT_TRUE(reads_zeroes(t, 5 * DMT_BLOCK - 512, 1024));
	EXPECT_TRUE(reads_zeroes(t, 0, 48 * DMT_BLOCK));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_MISSES));
	EXPECT_TRUE(dmt_inbox_empty(&self->in));
}

TEST_F(run, zeroes_end_where_something_else_begins)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io;
	uint8_t want[24 * DMT_BLOCK] = {};
	unsigned int i;

	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, dmt_run_zero(0, 8)));
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, dmt_run(8, 8, &t->origin, 8, RW)));
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, dmt_run_zero(16, 8)));
	for (i = 8; i < 16; i++)
		dmt_pattern(want + i * DMT_BLOCK, DMT_BLOCK, i, DMT_ORIGIN);
	io = begin(t, DMT_READ, 0, 24);
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_EQ(0, memcmp(want, dmt_io_buf(io), sizeof(want)));
	dmt_io_free(io);
	EXPECT_EQ(0, dmt_counter(t->name, DMT_MISSES));
}

TEST_F(run, reads_that_wait_are_answered_with_zeroes)
{
	struct dmt *t = &self->g.t;
	struct dmu_msg_run_response r = dmt_run_zero(4, 8);
	struct dmt_io *io;
	uint32_t id;
	int i;

	for (i = 0; i < 2; i++) {
		io = begin(t, DMT_READ, 4, 8);
		memset((void *)dmt_io_buf(io), JUNK, 8 * DMT_BLOCK);
		id = dmt_inbox_run(&self->in, 4, 8, RO);
		ASSERT_NE(0, id);
		r.flags = RO | ZERO | (i ? 0 : TEMP);
		ASSERT_EQ(0, dmt_map_run(t->ctl, id, r));
		EXPECT_EQ(0, dmt_io_wait(io));
		EXPECT_TRUE(all_zero(dmt_io_buf(io), 8 * DMT_BLOCK));
		dmt_io_free(io);
		EXPECT_EQ(i ? 8 : 0, remaps(t));
	}
}

TEST_F(run, a_write_to_zeroes_asks)
{
	struct dmt *t = &self->g.t;
	struct dmu_msg_run_response r = dmt_run(3, 1, &t->store, 10, RW);
	struct dmt_io *io;
	uint32_t id;

	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, dmt_run_zero(0, 8)));
	io = dmt_write_part(t->fd, 3, 5);
	id = dmt_inbox_run(&self->in, 3, 1, RW);
	ASSERT_NE(0, id);
	/* Zeroes are no place to write to. */
	EXPECT_EQ(-EINVAL, dmt_map_run(t->ctl, id, dmt_run_zero(3, 1)));
	EXPECT_FALSE(dmt_io_done(io));
	EXPECT_TRUE(reads_zeroes(t, 3 * DMT_BLOCK, DMT_BLOCK));
	dmt_run_copy(&r, NULL, 0);
	ASSERT_EQ(0, dmt_map_run(t->ctl, id, r));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(zeroes_around(t, 10, 3, 5));
	EXPECT_TRUE(reads_zeroes(t, 0, 3 * DMT_BLOCK));
	EXPECT_TRUE(reads_zeroes(t, 4 * DMT_BLOCK, 4 * DMT_BLOCK));
	EXPECT_EQ(8, remaps(t));
}

/* What waits for a mapping is not lost when zeroes take its place. */
TEST_F(run, a_write_that_waits_asks_again_where_zeroes_come)
{
	struct dmt *t = &self->g.t;
	struct dmt_map cow = dmt_cow(t, 3, 4, RW);
	struct dmu_msg_run_response r = dmt_run(3, 1, &t->store, 10, RW);
	struct dmt_io *io = dmt_write_part(t->fd, 3, 5), *discard;
	uint32_t id = dmt_inbox_run(&self->in, 3, 1, RW);

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &cow));
	discard = dmt_io(t->fd, DMT_DISCARD, 3 * DMT_BLOCK, DMT_BLOCK, 0);
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, dmt_run_zero(3, 1)));
	dmt_gate_open(&self->g.origin);
	id = dmt_inbox_run(&self->in, 3, 1, RW);
	ASSERT_NE(0, id);
	EXPECT_EQ(0, dmt_io_result(discard));
	dmt_run_copy(&r, NULL, 0);
	ASSERT_EQ(0, dmt_map_run(t->ctl, id, r));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(zeroes_around(t, 10, 3, 5));
}

TEST_F(run, zeroes_may_be_discarded_and_written_as_such)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io;
	uint32_t id;

	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS | DMU_EXT_DISCARD));
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, dmt_run_zero(0, 16)));
	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_DISCARD, 0,
					  4 * DMT_BLOCK, 0)));
	EXPECT_EQ(16, remaps(t));
	EXPECT_TRUE(dmt_inbox_empty(&self->in));
	EXPECT_TRUE(reads_zeroes(t, 0, 16 * DMT_BLOCK));
	io = dmt_io(t->fd, DMT_ZEROOUT, 2 * DMT_BLOCK, DMT_BLOCK, 0);
	id = dmt_inbox_run(&self->in, 2, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, to_store(t, id, 2, 1, 10, RW));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(zeroes_around(t, 10, 2, DMT_NO_PART));
}

TEST_F(run, zeroes_replace_and_are_replaced)
{
	struct dmt *t = &self->g.t;

	ASSERT_EQ(0, to_store(t, 0, 0, 8, 0, RW));
	ASSERT_EQ(0, dmt_write_block(t->fd, 3, 5));
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, dmt_run_zero(0, 8)));
	EXPECT_TRUE(reads_zeroes(t, 0, 8 * DMT_BLOCK));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 50, 3));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 50, DM_USERSPACE_INVAL_COMPLETE));
	EXPECT_EQ(7, remaps(t));
	ASSERT_EQ(0, to_store(t, 0, 0, 8, 0, RW));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, 5));
	EXPECT_TRUE(dmt_read_matches(t->fd, 4, JUNK));
}

TEST_F(run, zeroes_that_are_more_than_that_are_refused)
{
	struct dmt *t = &self->g.t;
	struct dmu_msg_run_response r = dmt_run(0, 2, &t->store, 0, RO | ZERO);
	struct dmt_map map = { .block = 0, .flags = RO };
	struct dmt_io *io;
	uint32_t id;

	EXPECT_EQ(-EINVAL, dmt_map_run(t->ctl, 0, r));
	r = dmt_run_zero(0, 2);
	r.flags |= DMU_FLAG_WR;
	EXPECT_EQ(-EINVAL, dmt_map_run(t->ctl, 0, r));
	r.flags = RO | ZERO | COPY;
	EXPECT_EQ(-EINVAL, dmt_map_run(t->ctl, 0, r));
	io = begin(t, DMT_READ, 0, 2);
	id = dmt_inbox_run(&self->in, 0, 2, RO);
	ASSERT_NE(0, id);
	r.flags = RO | ZERO | SYNC;
	EXPECT_EQ(-EINVAL, dmt_map_run(t->ctl, id, r));
	/* Nor in a message of 2006. */
	EXPECT_EQ(-ENODEV, dmt_map(t->ctl, id, &map));
	map.flags |= ZERO;
	EXPECT_EQ(-EINVAL, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, remaps(t));
	/* Nothing but that it may be read is said by RD, here as elsewhere. */
	r.flags = ZERO;
	EXPECT_EQ(0, dmt_map_run(t->ctl, id, r));
	EXPECT_EQ(0, dmt_io_result(io));
}

/* --- SYNC ----------------------------------------------------------- */

TEST_F(run, each_block_of_a_sync_run_is_acknowledged_by_itself)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io[4];
	uint32_t id, i, seen = 0;
	struct dmt_msg msg;

	for (i = 0; i < 4; i++)
		io[i] = begin(t, DMT_WRITE, 10 + i, 1);
	id = dmt_inbox_run(&self->in, 10, 4, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, to_store(t, id, 10, 4, 20, RW | SYNC));
	for (i = 0; i < 4; i++) {
		ASSERT_TRUE(dmt_inbox_next(&self->in, &msg));
		ASSERT_EQ(DM_USERSPACE_STATUS, msg.header.msg_type);
		ASSERT_EQ(DM_USERSPACE_SYNC_COMPLETE, msg.status.status);
		ASSERT_GT(4, msg.header.id - id);
		seen |= 1u << (msg.header.id - id);
	}
	EXPECT_EQ(15, seen);
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id + 2));
	EXPECT_EQ(0, dmt_io_result(io[2]));
	EXPECT_FALSE(dmt_io_done(io[0]) || dmt_io_done(io[1]) ||
		     dmt_io_done(io[3]));
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, dmt_sync_done(t->ctl, id + i));
	for (i = 0; i < 4; i++)
		if (i != 2)
			EXPECT_EQ(0, dmt_io_result(io[i]));
	EXPECT_TRUE(dmt_inbox_empty(&self->in));
}

TEST_F(run, a_sync_run_outlives_its_daemon)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = begin(t, DMT_WRITE, 10, 4);
	uint32_t id = dmt_inbox_run(&self->in, 10, 4, RW), again;
	struct dmt_msg msg;
	unsigned int i;

	ASSERT_NE(0, id);
	ASSERT_EQ(0, to_store(t, id, 10, 4, 20, RW | SYNC));
	for (i = 0; i < 4; i++) {
		ASSERT_TRUE(dmt_inbox_next(&self->in, &msg));
		ASSERT_EQ(DM_USERSPACE_STATUS, msg.header.msg_type);
	}
	close(t->ctl);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	self->in = (struct dmt_inbox){ .fd = t->ctl };
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS));
	again = dmt_inbox_run(&self->in, 10, 4, RW);
	ASSERT_LT(id + 3, again);
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, to_store(t, again, 10, 4, 30, RW));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(written(t, 30, 10, 4));
	EXPECT_EQ(4, remaps(t));
	EXPECT_TRUE(dmt_inbox_empty(&self->in));
}

/* --- a disk that does not know itself -------------------------------------------------- */

/**
 * @g: as in most tests
 * @over: one more gate in front of the store: what that can do it looked up once
 */
FIXTURE(blind)
{
	struct dmt_gated g;
	struct dmt_gate over;
};

FIXTURE_SETUP(blind)
{
	struct dmt *t = &self->g.t;
	char name[64], params[256];
	unsigned int i;

	dmt_gated_setup(&self->g);
	for (i = 0; i < DMT_BLOCKS; i++)
		dmt_place_fill(&t->store, i, i, JUNK);
	snprintf(name, sizeof(name), "%.40s-over", t->name);
	dmt_gate_make(&self->over, name, &t->store);
	dmt_gated_params(&self->g, params, sizeof(params));
	ASSERT_EQ(0, dmt_dm_load(t->name, 0, DMT_BLOCKS * DMT_SECTORS,
				 "userspace", params));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS));
}

FIXTURE_TEARDOWN(blind)
{
	const char *name = self->g.t.name;

	EXPECT_EQ(0, dmt_dm_load(name, 0, DMT_BLOCKS * DMT_SECTORS, "error", ""));
	EXPECT_EQ(0, dmt_dm_suspend(name, true));
	EXPECT_EQ(0, dmt_dm_resume(name));
	dmt_gate_remove(&self->over);
	dmt_gated_teardown(&self->g);
}

TEST_F(blind, disk_that_finds_that_it_has_no_zeroes_is_written_to)
{
	struct dmt *t = &self->g.t;
	struct dmu_msg_run_response r = dmt_run(3, 3, &t->store, 10, RW);
	struct dmt_inbox in = { .fd = t->ctl };
	struct dmt_io *io;
	uint32_t id;

	dmt_gate_refuse_discards(&self->g.store); /* and zeroes */
	ASSERT_LT(0, dmt_queue_get(t->store.dev, "write_zeroes_max_bytes"));
	io = dmt_write_part(t->fd, 3, 5);
	id = dmt_inbox_run(&in, 3, 1, RW);
	ASSERT_NE(0, id);
	dmt_run_copy(&r, NULL, 0);
	ASSERT_EQ(0, dmt_map_run(t->ctl, id, r));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(reads_zeroes(t, 4 * DMT_BLOCK, 2 * DMT_BLOCK));
	EXPECT_TRUE(zeroes_around(t, 10, 3, 5));
	EXPECT_TRUE(zeroes_around(t, 11, 4, DMT_NO_PART));
	EXPECT_TRUE(zeroes_around(t, 12, 5, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&t->store, 13, 13, JUNK, DMT_NO_PART));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_ERRORS));
}

TEST_HARNESS_MAIN
