// SPDX-License-Identifier: GPL-2.0-only
/*
 * MAP_INVALIDATE: when the daemon is told that it is done, nothing uses the
 * block's places any more, whatever became of the mappings that named them.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/sysfs.h"
#include <err.h>
#include <stdlib.h>
#include <string.h>

#define DONE DM_USERSPACE_INVAL_COMPLETE
#define NOTHING DM_USERSPACE_INVAL_FAILED

static struct dmt_io *begin(const struct dmt *t, bool write, uint64_t block)
{
	return write ? dmt_begin_write(t, block, 2) : dmt_begin_read(t, block);
}

/* --- I/O in flight ----------------------------------------------------------------------- */

FIXTURE(flight)
{
	struct dmt_gated g;
};

FIXTURE_VARIANT(flight)
{
	bool write;
};

FIXTURE_VARIANT_ADD(flight, of_a_read) { .write = false };
FIXTURE_VARIANT_ADD(flight, of_a_write) { .write = true };

FIXTURE_SETUP(flight)
{
	dmt_gated_setup(&self->g);
}

FIXTURE_TEARDOWN(flight)
{
	dmt_gated_teardown(&self->g);
}

/* The invalidation of block 1 must end when the gate of the store is opened. */
static bool waits_for_the_store(const struct dmt_gated *g, struct dmt_io *io,
				uint32_t verdict)
{
	bool ok;

	if (dmt_invalidate(g->t.ctl, 42, 1) || !dmt_settled(&g->t)) {
		warnx("the invalidation did not wait");
		return false;
	}
	ok = !dmt_io_done(io);
	dmt_gate_open(&g->store);
	ok &= dmt_expect_status(g->t.ctl, 42, verdict);
	return ok & !dmt_io_result(io);
}

TEST_F(flight, through_the_present_remap_is_waited_for)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_io *io;
	uint32_t id;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_gate_shut(&self->g.store);
	io = begin(t, variant->write, 1);
	ASSERT_TRUE(waits_for_the_store(&self->g, io, DONE));
	/* It is asked for again. */
	io = begin(t, variant->write, 1);
	id = dmt_expect_request(t->ctl, 1, variant->write ? RW : RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
}

TEST_F(flight, through_a_replaced_remap_is_waited_for)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_map other = dmt_plain(&self->g.spare, 1, 5, RW);
	struct dmt_io *io;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_gate_shut(&self->g.store);
	io = begin(t, variant->write, 1);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	ASSERT_TRUE(waits_for_the_store(&self->g, io, DONE));
}

TEST_F(flight, through_a_remap_replaced_twice_is_waited_for)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_map other = dmt_plain(&self->g.spare, 1, 5, RW);
	struct dmt_io *io;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_gate_shut(&self->g.store);
	io = begin(t, variant->write, 1);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	other.to = 6;
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	ASSERT_TRUE(waits_for_the_store(&self->g, io, DONE));
}

TEST_F(flight, through_an_evicted_remap_is_waited_for)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_io *io;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_gate_shut(&self->g.store);
	io = begin(t, variant->write, 1);
	ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	ASSERT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	ASSERT_TRUE(waits_for_the_store(&self->g, io, NOTHING));
}

TEST_F(flight, through_an_evicted_remap_is_waited_for_after_a_new_answer)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RO | DMU_FLAG_WR);
	struct dmt_map other = dmt_plain(&self->g.spare, 1, 5, RW);
	struct dmt_io *io;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_gate_shut(&self->g.store);
	io = begin(t, variant->write, 1);
	ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	ASSERT_TRUE(waits_for_the_store(&self->g, io, DONE));
}

TEST_F(flight, through_a_temporary_remap_is_waited_for)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW | TEMP);
	struct dmt_io *io = begin(t, variant->write, 1);
	uint32_t id = dmt_expect_request(t->ctl, 1, variant->write ? RW : RO);

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(waits_for_the_store(&self->g, io, NOTHING));
}

TEST_F(flight, that_was_served_from_a_request_is_waited_for)
{
	struct dmt *t = &self->g.t;
	/* Without WR, what is written has been asked for all the same. */
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RO);
	struct dmt_io *io = begin(t, variant->write, 1);
	uint32_t id = dmt_expect_request(t->ctl, 1, variant->write ? RW : RO);

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(waits_for_the_store(&self->g, io, DONE));
}

TEST_F(flight, of_a_sync_mapping_is_waited_for_until_it_is_held)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW | SYNC);
	struct dmt_io *io = begin(t, variant->write, 1), *late;
	uint32_t id = dmt_expect_request(t->ctl, 1, variant->write ? RW : RO);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	dmt_gate_shut(&self->g.store);
	late = begin(t, variant->write, 1);
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 1));
	ASSERT_TRUE(dmt_settled(t));
	dmt_gate_open(&self->g.store);
	/* Neither is over yet. */
	EXPECT_TRUE(dmt_expect_status(t->ctl, 42, DONE));
	EXPECT_FALSE(dmt_io_done(io));
	EXPECT_FALSE(dmt_io_done(late));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, dmt_io_result(late));
}

/* --- a copy that the block still owes --------------------------------------------------- */

/**
 * @g: as in most tests
 * @gate: what the copy waits for, and may fail at
 */
FIXTURE(owed)
{
	struct dmt_gated g;
	struct dmt_gate *gate;
};

FIXTURE_VARIANT(owed)
{
	bool source;
	bool fails;
	uint32_t verdict;
};

FIXTURE_VARIANT_ADD(owed, made) { true, false, DONE };
FIXTURE_VARIANT_ADD(owed, not_read) { true, true, NOTHING };
FIXTURE_VARIANT_ADD(owed, not_written) { false, true, NOTHING };

FIXTURE_SETUP(owed)
{
	dmt_gated_setup(&self->g);
	self->gate = variant->source ? &self->g.origin : &self->g.store;
}

FIXTURE_TEARDOWN(owed)
{
	dmt_gated_teardown(&self->g);
}

/* There was a mapping, but its place does not hold what it should: 102. */
TEST_F(owed, copy_is_waited_for_and_its_failure_told)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW);
	struct dmt_io *io;
	uint64_t errors;
	uint32_t id;

	dmt_gate_shut(self->gate);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 1));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	ASSERT_TRUE(dmt_settled(t));
	errors = dmt_counter(t->name, DMT_ERRORS);
	if (variant->fails)
		dmt_gate_break(self->gate);
	else
		dmt_gate_open(self->gate);
	EXPECT_TRUE(dmt_expect_status(t->ctl, 42, variant->verdict));
	EXPECT_EQ(errors + variant->fails, dmt_counter(t->name, DMT_ERRORS));
	EXPECT_EQ(!variant->fails, dmt_place_has(&t->store, 4, 1, DMT_ORIGIN,
						 DMT_NO_PART));
	dmt_gate_mend(self->gate);
	/* That is all: the copy is owed no more, and the next verdict is plain. */
	io = dmt_begin_read(t, 1);
	id = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, id);
	map = dmt_plain(&t->origin, 1, 1, RO);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 43, 1));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 43, DONE));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* --- what is told, and to whom ----------------------------------------------------------- */

TEST_F(gated, what_is_not_mapped_is_told_at_once)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io;
	uint32_t id;

	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 1));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 42, NOTHING));
	/* A request is no mapping: it stays. */
	io = dmt_begin_read(t, 1);
	id = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 43, 1));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 43, NOTHING));
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

TEST_F(gated, each_invalidation_is_told_to_who_asked)
{
	struct dmt *t = &self->g.t;
	int other = dmt_control_open(t->name, O_NONBLOCK);
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_io *io;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_gate_shut(&self->g.store);
	io = dmt_begin_write(t, 1, 2);
	ASSERT_EQ(0, dmt_invalidate(other, 42, 1));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 43, 1));
	ASSERT_EQ(0, dmt_invalidate(other, 44, 1));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_expect_status(other, 42, DONE));
	EXPECT_TRUE(dmt_expect_status(other, 44, NOTHING));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 43, NOTHING));
	EXPECT_TRUE(dmt_silent(other));
	EXPECT_TRUE(dmt_silent(t->ctl));
	close(other);
}

TEST_F(gated, block_beyond_the_end_is_refused)
{
	struct dmt *t = &self->g.t;

	EXPECT_EQ(-ERANGE, dmt_invalidate(t->ctl, 42, DMT_BLOCKS));
	EXPECT_EQ(-ERANGE, dmt_invalidate(t->ctl, 42, UINT64_MAX));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* --- under load ----------------------------------------------------------------------------- */

#define NR_PLACES 8
#define ROUNDS 400

/* A place between two blocks: what is in it is the test's, and must stay. */
struct lent {
	bool lent;	/* a block lives there, or may */
	uint64_t block;
	int seed;	/* of what was put there when it came back */
};

static void take_back(const struct dmt *t, struct lent *places, uint64_t place,
		      int seed)
{
	places[place].lent = false;
	places[place].seed = seed;
	dmt_place_fill(&t->store, place, 1000 + place, seed);
}

static bool untouched(const struct dmt *t, const struct lent *places,
		      uint64_t place)
{
	return places[place].lent ||
	       dmt_place_has(&t->store, place, 1000 + place, places[place].seed,
			     DMT_NO_PART);
}

/*
 * Blocks move from place to place while they are written: each round one place
 * is taken back by an invalidation with writes in flight, and filled by the
 * daemon. A write that comes late would show there.
 */
TEST_F_TIMEOUT(gated, places_that_came_back_are_never_touched_again, 120)
{
	struct dmt *t = &self->g.t;
	struct lent places[NR_PLACES] = { 0 };
	struct dmt_io *io[4];
	unsigned int round, i;
	struct dmt_msg msg;
	bool told;

	for (i = 0; i < NR_PLACES; i++)
		take_back(t, places, i, 1);
	srandom(1);
	for (round = 0; round < dmt_often(ROUNDS); round++) {
		uint64_t place = random() % NR_PLACES;
		uint64_t block = random() % 16;
		struct dmt_map map = dmt_plain(&t->store, block, place, RW);

		ASSERT_TRUE(untouched(t, places, place));
		places[place].lent = true;
		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
		for (i = 0; i < 3; i++)
			io[i] = dmt_write_part(t->fd, block, 100 + round);
		ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, block));
		io[3] = dmt_write_part(t->fd, block, 100 + round);
		/* What comes too late for the mapping asks, and is refused. */
		for (told = false; !told || !dmt_io_done(io[3]);) {
			if (!dmt_readable(t->ctl, told ? 1 : DMT_PATIENCE)) {
				ASSERT_TRUE(told);
				continue;
			}
			ASSERT_LT(0, dmt_read_msg(t->ctl, &msg));
			if (msg.header.msg_type == DM_USERSPACE_STATUS) {
				ASSERT_EQ(DONE, msg.status.status);
				take_back(t, places, place, 2 + round);
				told = true;
			} else {
				ASSERT_EQ(0, dmt_fail(t->ctl, msg.header.id));
			}
		}
		for (i = 0; i < 4; i++) {
			int r = dmt_io_result(io[i]);

			EXPECT_TRUE(r == 0 || r == -EIO);
		}
	}
	for (i = 0; i < NR_PLACES; i++)
		EXPECT_TRUE(untouched(t, places, i));
}

TEST_HARNESS_MAIN
