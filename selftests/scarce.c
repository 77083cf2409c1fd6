// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs of blocks, and no memory for them: an answer to what was asked needs none,
 * and what is left of a run that is broken up is forgotten where there is none, and
 * counted, and never wrong.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/inject.h"
#include "lib/run.h"
#include <err.h>
#include <stdlib.h>
#include <string.h>

#define FIRST	8u /* block of a run that is asked for ... */
#define RUN	16u /* ... of so many */

#define NEEDS_FAILSLAB() do { \
	if (!self->able) \
		SKIP(return, "this kernel cannot fail allocations (no failslab)"); \
} while (0)

/* --- answers ---------------------------------------------------------------------------- */

/**
 * @g: as in many tests
 * @able: the kernel can fail allocations
 */
FIXTURE(answer)
{
	struct dmt_gated g;
	bool able;
};

/* What the daemon says of the blocks. */
FIXTURE_VARIANT(answer)
{
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(answer, plain) { RW };
FIXTURE_VARIANT_ADD(answer, copied) { RW | COPY };
FIXTURE_VARIANT_ADD(answer, held) { RW | SYNC };
FIXTURE_VARIANT_ADD(answer, copied_and_held) { RW | COPY | SYNC };

FIXTURE_SETUP(answer)
{
	dmt_gated_setup(&self->g);
	self->able = dmt_inject_able("failslab");
}

FIXTURE_TEARDOWN(answer)
{
	if (self->able)
		dmt_inject_own(DMT_OWN_NONE);
	dmt_gated_teardown(&self->g);
}

/* All that is held is told, in whatever order, and acknowledged. */
static bool acknowledge(struct dmt_inbox *in, unsigned int nr)
{
	struct dmt_msg msg;

	while (nr--)
		if (!dmt_inbox_next(in, &msg) ||
		    msg.status.status != DM_USERSPACE_SYNC_COMPLETE ||
		    dmt_sync_done(in->fd, msg.header.id))
			return false;
	return true;
}

TEST_F(answer, to_a_run_that_was_asked_for_needs_no_memory)
{
	struct dmt *t = &self->g.t;
	struct dmt_inbox in = { .fd = t->ctl };
	struct dmu_msg_run_response r, pushed;
	struct dmt_io *io[RUN];
	unsigned int i;
	uint32_t id;

	NEEDS_FAILSLAB();
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS));
	for (i = 0; i < RUN; i++)
		io[i] = dmt_write_part(t->fd, FIRST + i, 2);
	ASSERT_TRUE(dmt_counts(t->name, DMT_WAITING, RUN));
	id = dmt_inbox_run(&in, FIRST, RUN, RW);
	ASSERT_NE(0, id);
	r = dmt_run(FIRST, RUN, &t->store, 40, variant->flags);
	if (r.flags & COPY)
		dmt_run_copy(&r, &t->origin, FIRST);
	dmt_inject_own(DMT_OWN_ALL);
	/* So it is with what nobody has asked for. */
	pushed = dmt_run(40, RUN, &t->store, 0, RW);
	EXPECT_EQ(-ENOMEM, dmt_map_run(t->ctl, 0, pushed));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	ASSERT_EQ(0, dmt_map_run(t->ctl, id, r));
	if (r.flags & SYNC) {
		EXPECT_TRUE(acknowledge(&in, RUN));
	}
	for (i = 0; i < RUN; i++)
		EXPECT_EQ(0, dmt_io_result(io[i]));
	EXPECT_EQ(RUN, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_EVICTIONS));
	dmt_inject_own(DMT_OWN_NONE);
	for (i = 0; i < RUN; i++)
		EXPECT_TRUE(dmt_place_has(&t->store, 40 + i, FIRST + i,
					  r.flags & COPY ? DMT_ORIGIN : 0, 2));
	EXPECT_TRUE(dmt_inbox_empty(&in));
	EXPECT_EQ(0, dmt_map_run(t->ctl, 0, pushed));
}

/* --- runs that are broken up --------------------------------------------------------------- */

#define ODD	20u /* the block that leaves a run of all 64 */

/**
 * @g: the store has the contents that the origin has
 * @able: the kernel can fail allocations
 */
FIXTURE(broken)
{
	struct dmt_gated g;
	bool able;
};

/* All blocks are one run. */
static int push_all(const struct dmt *t, const struct dmt_disk *disk,
		    uint32_t flags)
{
	return dmt_map_run(t->ctl, 0, dmt_run(0, DMT_BLOCKS, disk, 0, flags));
}

FIXTURE_SETUP(broken)
{
	struct dmt *t = &self->g.t;
	uint64_t block;

	dmt_gated_setup(&self->g);
	self->able = dmt_inject_able("failslab");
	for (block = 0; block < DMT_BLOCKS; block++)
		dmt_disk_fill(&t->store, block, DMT_ORIGIN);
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS));
}

FIXTURE_TEARDOWN(broken)
{
	if (self->able) {
		dmt_inject_stop("failslab");
		dmt_inject_stop("fail_usercopy");
		dmt_inject_own(DMT_OWN_NONE);
	}
	dmt_gated_teardown(&self->g);
}

/* Nothing of it can be kept: it is forgotten, and asked for again. */
TEST_F(broken, run_is_forgotten_where_no_part_can_be_kept)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 21, 21, RO);
	struct dmt_io *io;
	uint32_t id;

	NEEDS_FAILSLAB();
	ASSERT_EQ(0, push_all(t, &t->store, RW));
	dmt_gate_shut(&self->g.store);
	io = dmt_begin_write(t, 30, 5);
	dmt_inject_own(DMT_OWN_ALL);
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, ODD));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(DMT_BLOCKS - 1, dmt_counter(t->name, DMT_EVICTIONS));
	/* Who left with it counts all the same: that write may still be under way. */
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 43, 30));
	dmt_inject_own(DMT_OWN_NONE);
	dmt_grace_period();
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_FALSE(dmt_io_done(io));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 42, DM_USERSPACE_INVAL_COMPLETE));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 43, DM_USERSPACE_INVAL_FAILED));
	io = dmt_begin_read(t, 21);
	id = dmt_expect_request(t->ctl, 21, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
	dmt_io_free(io);
}

/* An answer that is asked for takes a block out of it, whatever else there is. */
TEST_F(broken, answer_breaks_a_run_without_memory)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, ODD, ODD, RW | SYNC);
	struct dmt_io *io;
	uint32_t id;

	NEEDS_FAILSLAB();
	ASSERT_EQ(0, push_all(t, &t->origin, RO));
	/* It may not be written to, so somebody is asked. */
	ASSERT_TRUE(dmt_read_matches(t->fd, ODD, DMT_ORIGIN));
	io = dmt_write_part(t->fd, ODD, 2);
	id = dmt_expect_request(t->ctl, ODD, RW);
	ASSERT_NE(0, id);
	dmt_inject_own(DMT_OWN_ALL);
	EXPECT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	EXPECT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
	dmt_inject_own(DMT_OWN_NONE);
	EXPECT_TRUE(dmt_place_has(&t->store, ODD, ODD, DMT_ORIGIN, 2));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(DMT_BLOCKS - 1, dmt_counter(t->name, DMT_EVICTIONS));
}

/* Of each block that is said to be known the bytes, and the number of these. */
static unsigned int known_and_right(const struct dmt *t)
{
	uint64_t hits, block;
	unsigned int known = 0;
	struct dmt_io *io;

	for (block = 0; block < DMT_BLOCKS; block++) {
		hits = dmt_counter(t->name, DMT_HITS);
		io = dmt_begin_read(t, block);
		if (dmt_counter(t->name, DMT_HITS) == hits) {
			uint32_t id = dmt_expect_request(t->ctl, block, RO);

			if (!id || dmt_fail(t->ctl, id) ||
			    dmt_io_result(io) != -EIO)
				return DMT_BLOCKS + 1;
			continue;
		}
		if (dmt_io_wait(io) || !dmt_io_matches(io, DMT_ORIGIN))
			return DMT_BLOCKS + 1;
		dmt_io_free(io);
		known++;
	}
	return known;
}

/* One part of it after the other cannot be kept, and the rest is. */
TEST_F_TIMEOUT(broken, what_is_not_kept_of_a_run_is_counted, 120)
{
	struct dmt *t = &self->g.t;
	unsigned int nth, remaps, evicted, failed = 0;
	uint64_t before;
	int r;

	NEEDS_FAILSLAB();
	/* Others' chances of a fault do not count. */
	dmt_inject_here("failslab", 0);
	dmt_inject_here("fail_usercopy", 0);
	for (nth = 1;; nth++) {
		/* Not to be written to: that it leaves is not waited for. */
		ASSERT_EQ(0, push_all(t, &t->store, RO));
		before = dmt_counter(t->name, DMT_EVICTIONS);
		dmt_inject_own(DMT_OWN_NTH);
		dmt_fail_nth(nth);
		r = dmt_invalidate(t->ctl, 42, ODD);
		if (!dmt_nth_failed())
			break;
		dmt_fail_nth(0);
		dmt_inject_own(DMT_OWN_NONE);
		if (r == -EFAULT) /* that was its way into the kernel */
			continue;
		ASSERT_EQ(0, r);
		ASSERT_TRUE(dmt_expect_status(t->ctl, 42,
					      DM_USERSPACE_INVAL_COMPLETE));
		remaps = dmt_counter(t->name, DMT_REMAPS);
		evicted = dmt_counter(t->name, DMT_EVICTIONS) - before;
		EXPECT_EQ(DMT_BLOCKS - 1, remaps + evicted);
		/* A page for the slab, for one, may fail where there is another. */
		if (evicted) {
			failed++;
			/* Seven runs of 8 come first, and then seven blocks. */
			EXPECT_EQ(failed <= 7 ? 8 : 1, evicted);
		}
		EXPECT_EQ(remaps, known_and_right(t));
		ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	}
	dmt_fail_nth(0);
	EXPECT_EQ(14, failed);
	EXPECT_EQ(DMT_BLOCKS - 1, dmt_counter(t->name, DMT_REMAPS));
}

TEST_HARNESS_MAIN
