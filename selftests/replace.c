// SPDX-License-Identifier: GPL-2.0-only
/*
 * A response for a block that has a mapping: what was written through the old
 * one is at its device before anything happens at the new place.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/sysfs.h"

/* Block 1 is written at place 1 of the store, and that write does not come back. */
static struct dmt_io *write_held(const struct dmt_gated *g, uint32_t flags)
{
	struct dmt_map map = dmt_plain(&g->t.store, 1, 1, flags);
	struct dmt_io *io = dmt_write_part(g->t.fd, 1, 2);
	uint32_t id = dmt_expect_request(g->t.ctl, 1, RW);

	dmt_gate_shut(&g->store);
	if (!id || dmt_map(g->t.ctl, id, &map))
		return NULL;
	return io;
}

/* --- writes in flight ---------------------------------------- */

TEST_F(gated, new_place_is_not_used_before_old_writes_are_back)
{
	struct dmt *t = &self->g.t;
	struct dmt_map other = dmt_plain(&self->g.spare, 1, 5, RW);
	struct dmt_io *old = write_held(&self->g, RW), *write, *read;

	ASSERT_NE(NULL, old);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	write = dmt_begin_write(t, 1, 3);
	read = dmt_begin_read(t, 1);
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(write));
	EXPECT_FALSE(dmt_io_done(read));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 5, 1, 0, DMT_NO_PART));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(old));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 3));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 5, 1, 3, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&t->store, 1, 1, 0, 2));
}

TEST_F(gated, new_place_is_copied_after_old_writes_are_back)
{
	struct dmt *t = &self->g.t;
	struct dmt_map other = dmt_plain(&self->g.spare, 1, 5, RW | COPY);
	struct dmt_io *old = write_held(&self->g, RW), *read;

	ASSERT_NE(NULL, old);
	other.src = &t->store;
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	read = dmt_begin_read(t, 1);
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_COPIES));
	EXPECT_FALSE(dmt_io_done(read));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(old));
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 5, 1, 0, 2));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, 0, 2));
}

/* The whole-block write that stands in for the copy is I/O of the new place. */
TEST_F(gated, new_place_is_not_written_instead_of_copied_either)
{
	struct dmt *t = &self->g.t;
	struct dmt_map other = dmt_plain(&self->g.spare, 1, 5, RW | COPY);
	struct dmt_io *old = write_held(&self->g, RW), *write;

	ASSERT_NE(NULL, old);
	other.src = &t->store;
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	write = dmt_begin_write(t, 1, 3);
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(write));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 5, 1, 0, DMT_NO_PART));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(old));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 3));
}

TEST_F(gated, write_served_by_an_answer_without_wr_is_waited_for)
{
	struct dmt *t = &self->g.t;
	struct dmt_map other = dmt_plain(&self->g.spare, 1, 5, RW);
	struct dmt_io *old = write_held(&self->g, RO), *write;

	ASSERT_NE(NULL, old);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	write = dmt_begin_write(t, 1, 3);
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(write));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 5, 1, 0, DMT_NO_PART));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(old));
	EXPECT_EQ(0, dmt_io_result(write));
}

TEST_F(gated, write_through_a_temporary_mapping_is_waited_for)
{
	struct dmt *t = &self->g.t;
	struct dmt_map other = dmt_plain(&self->g.spare, 1, 5, RW);
	struct dmt_io *old = write_held(&self->g, RW | TEMP), *write;

	ASSERT_NE(NULL, old);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	write = dmt_begin_write(t, 1, 3);
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(write));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 5, 1, 0, DMT_NO_PART));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(old));
	EXPECT_EQ(0, dmt_io_result(write));
}

TEST_F(gated, write_through_an_evicted_mapping_is_waited_for)
{
	struct dmt *t = &self->g.t;
	struct dmt_map other = dmt_plain(&self->g.spare, 1, 5, RW);
	struct dmt_io *old = write_held(&self->g, RW), *write;
	uint32_t id;

	ASSERT_NE(NULL, old);
	ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	ASSERT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	write = dmt_begin_write(t, 1, 3);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &other));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(write));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 5, 1, 0, DMT_NO_PART));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(old));
	EXPECT_EQ(0, dmt_io_result(write));
}

TEST_F(gated, same_answer_again_waits_for_nothing)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 1, RW);
	struct dmt_io *old = write_held(&self->g, RW);
	uint64_t hits;

	ASSERT_NE(NULL, old);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	hits = dmt_counter(t->name, DMT_HITS);
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(old));
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 3));
	EXPECT_EQ(hits + 1, dmt_counter(t->name, DMT_HITS));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
}

/* --- reads in flight ---------------------------------------- */

TEST_F(gated, reads_of_the_old_place_run_on)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 1, RO);
	struct dmt_map other = dmt_plain(&self->g.spare, 1, 5, RW);
	struct dmt_io *old;

	dmt_place_fill(&t->store, 1, 1, 4);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_gate_shut(&self->g.store);
	old = dmt_begin_read(t, 1);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 3));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 3));
	EXPECT_FALSE(dmt_io_done(old));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_wait(old));
	EXPECT_TRUE(dmt_io_matches(old, 4));
	dmt_io_free(old);
}

TEST_F(gated, block_becomes_writable_in_place_while_it_is_read)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 1, RO);
	struct dmt_io *read, *write;
	uint32_t id;

	dmt_place_fill(&t->store, 1, 1, 4);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 4));
	read = dmt_begin_read(t, 1);
	write = dmt_write_part(t->fd, 1, 2);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	map.flags = RW;
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, 4, 2));
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 3));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
}

TEST_F(gated, block_becomes_read_only_in_place_after_its_writes_are_back)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 1, RO);
	struct dmt_io *old = write_held(&self->g, RW), *write;
	uint32_t id;

	ASSERT_NE(NULL, old);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	write = dmt_write_part(t->fd, 1, 3);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(old));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, 0, 2));
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(write));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, 0, 2));
}

/* --- permissions ---------------------------------------- */

TEST_F(gated, mapping_without_rd_serves_reads)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->origin, 1, 1, DMU_FLAG_WR);

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 2));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 2));
	/* And one with neither. */
	map = dmt_plain(&t->origin, 2, 2, 0);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_TRUE(dmt_read_matches(t->fd, 2, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, answer_without_wr_serves_the_write_that_waits_and_no_other)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 1, RO);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 1, 1, 0, 2));
	io = dmt_write_part(t->fd, 1, 3);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	EXPECT_TRUE(dmt_place_has(&t->store, 1, 1, 0, 2));
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

TEST_F(gated, copied_answer_without_wr_serves_the_write_that_waits_and_no_other)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 1, RO);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 1, 1, DMT_ORIGIN, 2));
	io = dmt_write_part(t->fd, 1, 3);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

/* --- TEMPORARY ---------------------------------------- */

TEST_F(gated, temporary_mapping_serves_what_waits_and_is_forgotten)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 1, RW | TEMP);
	struct dmt_io *write = dmt_write_part(t->fd, 1, 2);
	struct dmt_io *read = dmt_begin_read(t, 1);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_TRUE(dmt_place_has(&t->store, 1, 1, 0, 2));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	read = dmt_begin_read(t, 1);
	id = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
}

TEST_F(gated, temporary_mapping_does_not_serve_what_comes_while_it_copies)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 1, RW | TEMP);
	struct dmt_io *write = dmt_write_part(t->fd, 1, 2), *read;
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	read = dmt_begin_read(t, 1);
	id = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, id);
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_place_has(&t->store, 1, 1, DMT_ORIGIN, 2));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(read));
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(read));
}

TEST_F(gated, temporary_mapping_takes_the_one_it_replaces_with_it)
{
	struct dmt *t = &self->g.t;
	struct dmt_map ro = dmt_plain(&t->origin, 1, 1, RO);
	struct dmt_map map = dmt_plain(&t->store, 1, 1, RW | TEMP);
	struct dmt_io *io;
	uint32_t id;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &ro));
	io = dmt_write_part(t->fd, 1, 2);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	/* Also where nothing waits. */
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &ro));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	io = dmt_begin_read(t, 1);
	id = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

TEST_F(gated, temporary_mapping_waits_for_old_writes)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&self->g.spare, 1, 5, RW | TEMP);
	struct dmt_io *old = write_held(&self->g, RO), *write;
	uint32_t id;

	ASSERT_NE(NULL, old);
	write = dmt_begin_write(t, 1, 3);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(write));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 5, 1, 0, DMT_NO_PART));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(old));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 5, 1, 3, DMT_NO_PART));
}

/* --- the end of the device ------------------------------------------- */

/*
 * Each of these waits for the one before it, and nobody waits for them: the
 * device goes while one wakes the next.
 */
TEST_F_TIMEOUT(gated, replacements_that_wait_end_with_the_device, 120)
{
	struct dmt_gated *g = &self->g;
	unsigned int i, turn;
	struct dmt_map map;
	struct dmt_io *io;

	for (turn = 0; turn < dmt_often(20); turn++) {
		map = dmt_plain(&g->t.store, 1, 1, RW);
		ASSERT_EQ(0, dmt_map(g->t.ctl, 0, &map));
		dmt_gate_shut(&g->store);
		io = dmt_begin_write(&g->t, 1, 2);
		ASSERT_TRUE(dmt_counts(g->t.name, DMT_HITS, 1));
		for (i = 2; i < 8; i++) {
			map = dmt_plain(&g->t.store, 1, i, RW);
			ASSERT_EQ(0, dmt_map(g->t.ctl, 0, &map));
		}
		dmt_gate_open(&g->store);
		EXPECT_EQ(0, dmt_io_result(io));
		dmt_gated_teardown(g);
		dmt_gated_setup(g);
	}
}

TEST_HARNESS_MAIN
