// SPDX-License-Identifier: GPL-2.0-only
/*
 * COPY_FIRST: no I/O uses a place before it holds what the daemon was promised
 * to find there, and nobody is ever told that a block is copied when it is not.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/sysfs.h"

/* --- before the copy is made ---------------------------------------------------------- */

TEST_F(gated, nothing_is_written_before_the_source_was_read)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 9, RW);
	struct dmt_io *write, *early, *late;
	uint32_t id;

	dmt_gate_shut(&self->g.origin);
	write = dmt_write_part(t->fd, 1, 2);
	early = dmt_begin_read(t, 1);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	late = dmt_begin_read(t, 1);
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(write));
	EXPECT_FALSE(dmt_io_done(early));
	EXPECT_FALSE(dmt_io_done(late));
	EXPECT_TRUE(dmt_place_has(&t->store, 9, 1, 0, DMT_NO_PART));

	dmt_gate_open(&self->g.origin);
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_EQ(0, dmt_io_result(early));
	EXPECT_EQ(0, dmt_io_result(late));
	EXPECT_TRUE(dmt_place_has(&t->store, 9, 1, DMT_ORIGIN, 2));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, DMT_ORIGIN, 2));
	EXPECT_TRUE(dmt_disk_has(&t->origin, 1, DMT_ORIGIN));
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, reads_wait_until_the_copy_has_been_written)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 2, 3, RO);
	struct dmt_io *early, *late;
	uint32_t id;

	dmt_gate_shut(&self->g.store);
	early = dmt_begin_read(t, 2);
	id = dmt_expect_request(t->ctl, 2, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	late = dmt_begin_read(t, 2);
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(early));
	EXPECT_FALSE(dmt_io_done(late));

	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_wait(early));
	EXPECT_EQ(0, dmt_io_wait(late));
	EXPECT_TRUE(dmt_io_matches(early, DMT_ORIGIN));
	EXPECT_TRUE(dmt_io_matches(late, DMT_ORIGIN));
	dmt_io_free(early);
	dmt_io_free(late);
}

TEST_F(gated, pushed_copy_is_made_without_any_io)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 3, 4, RW);

	dmt_gate_shut(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	dmt_gate_open(&self->g.origin);
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 3, DMT_ORIGIN, DMT_NO_PART));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* --- writes of the whole block --------------------------------------------------------- */

TEST_F(gated, whole_block_write_never_reads_the_source)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 5, 6, RW);
	struct dmt_io *write, *other;
	uint32_t id;

	dmt_gate_break(&self->g.origin);
	dmt_gate_shut(&self->g.store);
	other = dmt_begin_read(t, 5);
	write = dmt_begin_write(t, 5, 2);
	id = dmt_expect_request(t->ctl, 5, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(other));

	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_EQ(0, dmt_io_wait(other));
	EXPECT_TRUE(dmt_io_matches(other, 2));
	dmt_io_free(other);
	EXPECT_TRUE(dmt_place_has(&t->store, 6, 5, 2, DMT_NO_PART));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_COPIES));
}

TEST_F(gated, failed_stand_in_write_leaves_the_copy_to_be_made)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 5, 6, RW);
	struct dmt_io *write, *other;
	uint32_t id;

	other = dmt_begin_read(t, 5);
	write = dmt_begin_write(t, 5, 2);
	id = dmt_expect_request(t->ctl, 5, RO | DMU_FLAG_WR);
	ASSERT_NE(0, id);
	dmt_gate_break(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(-EIO, dmt_io_result(write));
	EXPECT_EQ(-EIO, dmt_io_result(other));
	/* It cannot be made yet. */
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 5)));
	dmt_gate_mend(&self->g.store);
	EXPECT_TRUE(dmt_read_matches(t->fd, 5, DMT_ORIGIN));
	EXPECT_TRUE(dmt_place_has(&t->store, 6, 5, DMT_ORIGIN, DMT_NO_PART));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, replaced_stand_in_write_reaches_the_new_place)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 5, 6, RW);
	struct dmt_map other = dmt_plain(&self->g.spare, 5, 7, RW);
	struct dmt_io *write;
	uint32_t id;

	dmt_gate_shut(&self->g.store);
	write = dmt_begin_write(t, 5, 2);
	id = dmt_expect_request(t->ctl, 5, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(write));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 7, 5, 0, DMT_NO_PART));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 7, 5, 2, DMT_NO_PART));
	EXPECT_TRUE(dmt_read_matches(t->fd, 5, 2));
}

TEST_F(gated, invalidated_stand_in_write_asks_again)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 5, 6, RW);
	struct dmt_map other = dmt_plain(&self->g.spare, 5, 7, RW);
	struct dmt_io *write;
	struct dmt_msg msg;
	uint32_t id;
	int i;

	dmt_gate_shut(&self->g.store);
	write = dmt_begin_write(t, 5, 2);
	id = dmt_expect_request(t->ctl, 5, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 5));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(write));
	dmt_gate_open(&self->g.store);
	/* In whichever order: the status, and the request. */
	for (i = 0, id = 0; i < 2; i++) {
		ASSERT_TRUE(dmt_readable(t->ctl, DMT_PATIENCE));
		ASSERT_LT(0, dmt_read_msg(t->ctl, &msg));
		if (msg.header.msg_type == DM_USERSPACE_STATUS) {
			EXPECT_EQ(42, msg.status.id_of_op);
			EXPECT_EQ(DM_USERSPACE_INVAL_COMPLETE,
				  msg.status.status);
			continue;
		}
		ASSERT_EQ(DM_USERSPACE_MAP_BLOCK_REQ, msg.header.msg_type);
		EXPECT_EQ(5, msg.request.org_block);
		EXPECT_EQ(RW, msg.request.flags);
		id = msg.header.id;
	}
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &other));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 7, 5, 2, DMT_NO_PART));
}

/* --- copies that fail --------------------------------------------------------------------- */

/* Which device fails, and who copies: to be set by the variants. */
FIXTURE(failing)
{
	struct dmt_gated g;
	struct dmt_gate *gate;
	unsigned int buffers;
};

FIXTURE_VARIANT(failing)
{
	bool source;
	bool kcopyd;
};

FIXTURE_VARIANT_ADD(failing, source) { .source = true };
FIXTURE_VARIANT_ADD(failing, destination) { .source = false };
FIXTURE_VARIANT_ADD(failing, kcopyd_source) { .source = true, .kcopyd = true };
FIXTURE_VARIANT_ADD(failing, kcopyd_destination) { .kcopyd = true };

FIXTURE_SETUP(failing)
{
	self->buffers = dmt_param_get("copy_buffers");
	if (variant->kcopyd)
		dmt_param_set("copy_buffers", 0);
	dmt_gated_setup(&self->g);
	self->gate = variant->source ? &self->g.origin : &self->g.store;
}

FIXTURE_TEARDOWN(failing)
{
	dmt_gated_teardown(&self->g);
	dmt_param_set("copy_buffers", self->buffers);
}

TEST_F(failing, copy_fails_what_waits_and_is_tried_again_by_what_comes)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 8, 2, RW);
	uint64_t errors = dmt_counter(t->name, DMT_ERRORS);
	struct dmt_io *write, *read;
	uint32_t id;

	dmt_gate_break(self->gate);
	write = dmt_write_part(t->fd, 8, 2);
	read = dmt_begin_read(t, 8);
	id = dmt_expect_request(t->ctl, 8, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(-EIO, dmt_io_result(write));
	EXPECT_EQ(-EIO, dmt_io_result(read));
	EXPECT_LT(errors, dmt_counter(t->name, DMT_ERRORS));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 8)));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_write_part(t->fd, 8, 3)));
	/* Not to be recycled: that the copy is owed must not be forgotten. */
	ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));

	dmt_gate_mend(self->gate);
	EXPECT_EQ(0, dmt_io_result(dmt_write_part(t->fd, 8, 4)));
	EXPECT_TRUE(dmt_place_has(&t->store, 2, 8, DMT_ORIGIN, 4));
	EXPECT_TRUE(dmt_block_reads(t->fd, 8, DMT_ORIGIN, 4));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(failing, pushed_copy_is_tried_again_by_the_first_io)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 8, 2, RW);
	uint64_t errors = dmt_counter(t->name, DMT_ERRORS);

	dmt_gate_break(self->gate);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_TRUE(dmt_counts(t->name, DMT_ERRORS, errors + 1));
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	dmt_gate_mend(self->gate);
	EXPECT_TRUE(dmt_read_matches(t->fd, 8, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(failing, same_place_with_other_permissions_is_never_shown_uncopied)
{
	struct dmt *t = &self->g.t;
	struct dmt_map first = dmt_cow(t, 8, 2, RO);
	struct dmt_map second = dmt_plain(&t->store, 8, 2, RW);
	struct dmt_io *io;
	uint32_t id;

	dmt_gate_break(self->gate);
	io = dmt_begin_read(t, 8);
	id = dmt_expect_request(t->ctl, 8, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &first));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	/* That daemon believes the block copied. */
	io = dmt_write_part(t->fd, 8, 2);
	id = dmt_expect_request(t->ctl, 8, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &second));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 8)));
	dmt_gate_mend(self->gate);
	EXPECT_TRUE(dmt_read_matches(t->fd, 8, DMT_ORIGIN));
	EXPECT_EQ(0, dmt_io_result(dmt_write_part(t->fd, 8, 3)));
	EXPECT_TRUE(dmt_place_has(&t->store, 2, 8, DMT_ORIGIN, 3));
}

TEST_F(failing, copy_that_fails_after_other_permissions_were_given_is_still_owed)
{
	struct dmt *t = &self->g.t;
	struct dmt_map first = dmt_cow(t, 8, 2, RO);
	struct dmt_map second = dmt_plain(&t->store, 8, 2, RW);
	struct dmt_io *early, *late;
	uint32_t id;

	dmt_gate_shut(self->gate);
	early = dmt_begin_read(t, 8);
	id = dmt_expect_request(t->ctl, 8, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &first));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &second));
	late = dmt_write_part(t->fd, 8, 2);
	ASSERT_TRUE(dmt_settled(t));
	dmt_gate_break(self->gate);
	EXPECT_EQ(-EIO, dmt_io_result(early));
	EXPECT_EQ(-EIO, dmt_io_result(late));
	dmt_gate_mend(self->gate);
	EXPECT_TRUE(dmt_read_matches(t->fd, 8, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(failing, place_named_again_after_another_one_is_never_shown_uncopied)
{
	struct dmt *t = &self->g.t;
	struct dmt_map first = dmt_cow(t, 8, 2, RW);
	struct dmt_map second = dmt_plain(&self->g.spare, 8, 3, RW);
	struct dmt_map third = dmt_plain(&t->store, 8, 2, RW);
	struct dmt_io *io;

	dmt_place_fill(&self->g.spare, 3, 8, 5);
	dmt_gate_shut(self->gate);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &first));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &second));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &third));
	io = dmt_begin_read(t, 8);
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	dmt_gate_break(self->gate);
	EXPECT_EQ(-EIO, dmt_io_result(io));
	dmt_gate_mend(self->gate);
	EXPECT_TRUE(dmt_read_matches(t->fd, 8, DMT_ORIGIN));
}

TEST_F(failing, replacement_elsewhere_ends_the_attempts)
{
	struct dmt *t = &self->g.t;
	struct dmt_map first = dmt_cow(t, 8, 2, RW);
	struct dmt_map second = dmt_plain(&self->g.spare, 8, 3, RW);
	uint64_t errors = dmt_counter(t->name, DMT_ERRORS);

	dmt_place_fill(&self->g.spare, 3, 8, 5);
	dmt_gate_break(self->gate);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &first));
	ASSERT_TRUE(dmt_counts(t->name, DMT_ERRORS, errors + 1));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &second));
	EXPECT_TRUE(dmt_read_matches(t->fd, 8, 5));
	dmt_gate_mend(self->gate);
	EXPECT_TRUE(dmt_read_matches(t->fd, 8, 5));
	EXPECT_EQ(errors + 1, dmt_counter(t->name, DMT_ERRORS));
	EXPECT_TRUE(dmt_place_has(&t->store, 2, 8, 0, DMT_NO_PART));
}

TEST_F(failing, invalidation_ends_the_attempts)
{
	struct dmt *t = &self->g.t;
	struct dmt_map first = dmt_cow(t, 8, 2, RW);
	struct dmt_map second = dmt_plain(&t->store, 8, 2, RW);
	uint64_t errors = dmt_counter(t->name, DMT_ERRORS);
	struct dmt_io *io;
	uint32_t id;

	dmt_gate_break(self->gate);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &first));
	ASSERT_TRUE(dmt_counts(t->name, DMT_ERRORS, errors + 1));
	dmt_gate_mend(self->gate);
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 8));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 42, DM_USERSPACE_INVAL_COMPLETE));
	io = dmt_begin_read(t, 8);
	id = dmt_expect_request(t->ctl, 8, RO);
	ASSERT_NE(0, id);
	/* The place is the daemon's to use as it likes. */
	dmt_place_fill(&t->store, 2, 8, 6);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &second));
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, 6));
	dmt_io_free(io);
}

TEST_F(gated, whole_block_write_heals_a_block_that_cannot_be_copied)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 8, 2, RW);

	dmt_gate_break(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 8)));
	EXPECT_EQ(0, dmt_write_block(t->fd, 8, 2));
	EXPECT_TRUE(dmt_read_matches(t->fd, 8, 2));
	EXPECT_TRUE(dmt_place_has(&t->store, 2, 8, 2, DMT_NO_PART));
}

/* --- another answer while the copy is made ---------------------------------------------- */

TEST_F(gated, same_answer_joins_the_copy)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 8, 2, RW);
	struct dmt_io *io;

	dmt_gate_shut(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	io = dmt_write_part(t->fd, 8, 2);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	map.flags &= ~COPY;
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_COPIES));
	EXPECT_FALSE(dmt_io_done(io));
	dmt_gate_open(&self->g.origin);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	/* A second copy would undo the write. */
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_TRUE(dmt_place_has(&t->store, 2, 8, DMT_ORIGIN, 2));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
}

TEST_F(gated, replacement_takes_effect_after_the_first_copy_was_made)
{
	struct dmt *t = &self->g.t;
	struct dmt_map first = dmt_cow(t, 8, 2, RW), second = first;
	struct dmt_io *io;
	uint32_t id;

	dmt_gate_shut(&self->g.store);
	io = dmt_write_part(t->fd, 8, 2);
	id = dmt_expect_request(t->ctl, 8, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &first));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	second.dst = &self->g.spare;
	second.to = 3;
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &second));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 3, 8, 0, DMT_NO_PART));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 2, 8, DMT_ORIGIN, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 3, 8, DMT_ORIGIN, 2));
	EXPECT_TRUE(dmt_block_reads(t->fd, 8, DMT_ORIGIN, 2));
}

TEST_F(gated, place_that_is_being_copied_to_can_be_copied_from)
{
	struct dmt *t = &self->g.t;
	/* What is copied from has the number of the block. */
	struct dmt_map first = dmt_cow(t, 8, 8, RW), second = first;
	struct dmt_io *io;

	second.src = &t->store;
	second.dst = &self->g.spare;
	second.to = 3;
	dmt_gate_shut(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &first));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &second));
	io = dmt_begin_read(t, 8);
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	dmt_gate_open(&self->g.origin);
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
	dmt_io_free(io);
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 3, 8, DMT_ORIGIN,
				  DMT_NO_PART));
}

TEST_F(failing, copy_from_a_place_that_was_never_filled_takes_its_source)
{
	struct dmt *t = &self->g.t;
	struct dmt_map first = dmt_cow(t, 8, 8, RW), second = first;
	struct dmt_io *io;

	second.src = &t->store;
	second.dst = &self->g.spare;
	second.to = 3;
	dmt_gate_shut(self->gate);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &first));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &second));
	io = dmt_begin_read(t, 8);
	ASSERT_TRUE(dmt_settled(t));
	dmt_gate_break(self->gate);
	if (variant->source) {
		/* Where else could it come from? */
		EXPECT_EQ(-EIO, dmt_io_result(io));
		/* Who says it again has not filled it either. */
		ASSERT_EQ(0, dmt_map(t->ctl, 0, &second));
		EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 8)));
		second.flags = RO | COPY;
		ASSERT_EQ(0, dmt_map(t->ctl, 0, &second));
		EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 8)));
	} else {
		EXPECT_EQ(0, dmt_io_wait(io));
		EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
		dmt_io_free(io);
	}
	dmt_gate_mend(self->gate);
	EXPECT_TRUE(dmt_read_matches(t->fd, 8, DMT_ORIGIN));
}

TEST_F(gated, invalidation_waits_for_the_copy_and_its_io_asks_again)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 8, 2, RW);
	struct dmt_map other = dmt_plain(&self->g.spare, 8, 3, RW);
	struct dmt_io *io;
	uint32_t id;

	dmt_gate_shut(&self->g.store);
	io = dmt_write_part(t->fd, 8, 2);
	id = dmt_expect_request(t->ctl, 8, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 8));
	id = dmt_expect_request(t->ctl, 8, RW);
	ASSERT_NE(0, id);
	ASSERT_TRUE(dmt_settled(t));
	dmt_gate_open(&self->g.store);
	EXPECT_TRUE(dmt_expect_status(t->ctl, 42, DM_USERSPACE_INVAL_COMPLETE));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &other));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 3, 8, 0, 2));
	EXPECT_TRUE(dmt_place_has(&t->store, 2, 8, DMT_ORIGIN, DMT_NO_PART));
}

/* --- which copies can be asked for ------------------------------------------------------- */

TEST_F(gated, copy_onto_itself_is_no_copy)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = { .block = 4, .to = 4, .dst = &t->origin,
			       .src = &t->origin, .flags = RW | COPY };

	/* Nothing passes the gate: a copy would be under way for ever. */
	dmt_gate_shut(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_COPIES));
	dmt_gate_open(&self->g.origin);
	EXPECT_TRUE(dmt_read_matches(t->fd, 4, DMT_ORIGIN));
	EXPECT_EQ(0, dmt_write_block(t->fd, 4, 2));
	EXPECT_TRUE(dmt_disk_has(&t->origin, 4, 2));
}

TEST_F(gated, overlapping_places_are_refused_and_leave_no_trace)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = { .block = 4, .to = 4, .dst = &t->origin,
			       .src = &t->origin, .flags = RW | COPY };
	struct dmt_map other = dmt_plain(&t->origin, 4, 4, RW);
	struct dmt_io *io = dmt_write_part(t->fd, 4, 2);
	uint32_t id = dmt_expect_request(t->ctl, 4, RW);

	ASSERT_NE(0, id);
	map.offset = 1;
	EXPECT_EQ(-EINVAL, dmt_map(t->ctl, id, &map));
	map.offset = -1;
	EXPECT_EQ(-EINVAL, dmt_map(t->ctl, id, &map));
	map.offset = DMT_SECTORS - 1;
	EXPECT_EQ(-EINVAL, dmt_map(t->ctl, id, &map));
	map.offset = 1 - (int)DMT_SECTORS;
	EXPECT_EQ(-EINVAL, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_SENT));
	/* Side by side is no overlap. */
	map.offset = DMT_SECTORS;
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->origin, 5, 4, DMT_ORIGIN, 2));
	/* On another device the same numbers are no overlap either. */
	map.dst = &t->store;
	map.offset = 1;
	EXPECT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, dmt_map(t->ctl, 0, &other));
}

/* --- many copies ---------------------------------------------------------------------------- */

#define NR_COPIES 40

FIXTURE(limited)
{
	struct dmt_gated g;
	unsigned int old;
};

FIXTURE_SETUP(limited)
{
	self->old = dmt_param_get("max_copies");
	dmt_param_set("max_copies", 4);
	dmt_gated_setup(&self->g);
}

FIXTURE_TEARDOWN(limited)
{
	dmt_param_set("max_copies", self->old);
	dmt_gated_teardown(&self->g);
}

TEST_F(limited, no_more_copies_than_max_copies_are_in_flight)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io[NR_COPIES];
	uint64_t block;

	dmt_gate_shut(&self->g.store);
	for (block = 0; block < NR_COPIES; block++) {
		struct dmt_map map = dmt_cow(t, block, NR_COPIES - block, RW);

		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
		io[block] = block % 2 ? dmt_write_part(t->fd, block, 2) :
					dmt_begin_read(t, block);
	}
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 4));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_EQ(4, dmt_counter(t->name, DMT_COPIES));
	for (block = 0; block < NR_COPIES; block++)
		EXPECT_FALSE(dmt_io_done(io[block]));

	dmt_gate_open(&self->g.store);
	for (block = 0; block < NR_COPIES; block++)
		EXPECT_EQ(0, dmt_io_result(io[block]));
	for (block = 0; block < NR_COPIES; block++)
		EXPECT_TRUE(dmt_block_reads(t->fd, block, DMT_ORIGIN,
					    block % 2 ? 2 : DMT_NO_PART));
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* One copy gets a buffer then, and the others are kcopyd's. */
TEST_F(limited, copies_that_find_no_buffer_are_made_all_the_same)
{
	struct dmt *t = &self->g.t;
	unsigned int buffers = dmt_param_get("copy_buffers");
	struct dmt_io *read[4];
	struct dmt_map map;
	int i;

	dmt_param_set("max_copies", 4);
	dmt_param_set("copy_buffers", 1);
	dmt_gate_shut(&self->g.origin);
	for (i = 0; i < 4; i++) {
		map = dmt_cow(t, i, 8 + i, RW);
		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
		read[i] = dmt_begin_read(t, i);
	}
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 4));
	dmt_gate_open(&self->g.origin);
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(0, dmt_io_result(read[i]));
		EXPECT_TRUE(dmt_place_has(&t->store, 8 + i, i, DMT_ORIGIN,
					  DMT_NO_PART));
	}
	dmt_param_set("copy_buffers", buffers);
}

TEST_F(limited, copies_that_fail_make_room_for_those_behind_them)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io[NR_COPIES];
	uint64_t block;

	dmt_gate_shut(&self->g.store);
	for (block = 0; block < NR_COPIES; block++) {
		struct dmt_map map = dmt_cow(t, block, block, RW);

		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
		io[block] = dmt_begin_read(t, block);
	}
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 4));
	dmt_gate_break(&self->g.store);
	for (block = 0; block < NR_COPIES; block++)
		EXPECT_EQ(-EIO, dmt_io_result(io[block]));
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	dmt_gate_mend(&self->g.store);
	for (block = 0; block < NR_COPIES; block++)
		EXPECT_TRUE(dmt_read_matches(t->fd, block, DMT_ORIGIN));
}

TEST_F(limited, queued_copies_can_be_replaced_and_invalidated)
{
	struct dmt *t = &self->g.t;
	struct dmt_map other = dmt_plain(&self->g.spare, 11, 3, RW);
	struct dmt_io *replaced, *invalidated;
	uint64_t block;
	uint32_t id;

	dmt_place_fill(&self->g.spare, 3, 11, 5);
	dmt_gate_shut(&self->g.store);
	for (block = 0; block < 12; block++) {
		struct dmt_map map = dmt_cow(t, block, block, RW);

		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	}
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 4));
	replaced = dmt_begin_read(t, 11);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	invalidated = dmt_begin_read(t, 10);
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 10));
	id = dmt_expect_request(t->ctl, 10, RO);
	ASSERT_NE(0, id);
	/* Both places are believed copied: that is still owed. */
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(replaced));
	dmt_gate_open(&self->g.store);
	EXPECT_TRUE(dmt_expect_status(t->ctl, 42, DM_USERSPACE_INVAL_COMPLETE));
	EXPECT_EQ(0, dmt_io_wait(replaced));
	EXPECT_TRUE(dmt_io_matches(replaced, 5));
	dmt_io_free(replaced);
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(invalidated));
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	EXPECT_TRUE(dmt_place_has(&t->store, 11, 11, DMT_ORIGIN, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&t->store, 10, 10, DMT_ORIGIN, DMT_NO_PART));
}

/* --- the last block -------------------------------------------------------------------------- */

#define SHORT_SECTORS 3 /* of the last block */
#define LAST_BLOCK (DMT_BLOCKS - 1)

FIXTURE(short_end)
{
	struct dmt_gated g;
	unsigned int buffers;
};

FIXTURE_VARIANT(short_end)
{
	bool kcopyd;
};

FIXTURE_VARIANT_ADD(short_end, buffers) { .kcopyd = false };
FIXTURE_VARIANT_ADD(short_end, kcopyd) { .kcopyd = true };

FIXTURE_SETUP(short_end)
{
	self->buffers = dmt_param_get("copy_buffers");
	if (variant->kcopyd)
		dmt_param_set("copy_buffers", 0);
	dmt_gated_setup_sectors(&self->g, LAST_BLOCK * DMT_SECTORS +
					  SHORT_SECTORS);
}

FIXTURE_TEARDOWN(short_end)
{
	dmt_gated_teardown(&self->g);
	dmt_param_set("copy_buffers", self->buffers);
}

/* Does the place hold one version in front, and another behind its end? */
static bool short_place_has(const struct dmt_disk *disk, uint64_t place,
			    int front, int behind)
{
	uint8_t want[DMT_BLOCK], got[DMT_BLOCK];

	dmt_pattern(want, sizeof(want), LAST_BLOCK, behind);
	dmt_pattern(want, SHORT_SECTORS * 512, LAST_BLOCK, front);
	return pread(disk->fd, got, sizeof(got), place * DMT_BLOCK) ==
		       sizeof(got) && !memcmp(want, got, sizeof(got));
}

TEST_F(short_end, last_block_is_copied_with_its_true_length)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, LAST_BLOCK, 5, RW);
	struct dmt_io *io;

	dmt_place_fill(&t->store, 5, LAST_BLOCK, 7);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	io = dmt_io_now(t->fd, DMT_READ, (uint64_t)LAST_BLOCK * DMT_BLOCK,
			SHORT_SECTORS * 512, 0);
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
	dmt_io_free(io);
	EXPECT_TRUE(short_place_has(&t->store, 5, DMT_ORIGIN, 7));
}

TEST_F(short_end, write_of_all_of_the_last_block_stands_in_for_the_copy)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, LAST_BLOCK, 5, RW);
	struct dmt_io *io;
	uint32_t id;

	dmt_place_fill(&t->store, 5, LAST_BLOCK, 7);
	dmt_gate_break(&self->g.origin);
	io = dmt_io_now(t->fd, DMT_WRITE, (uint64_t)LAST_BLOCK * DMT_BLOCK,
			SHORT_SECTORS * 512, 2);
	id = dmt_expect_request(t->ctl, LAST_BLOCK, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(short_place_has(&t->store, 5, 2, 7));
}

TEST_HARNESS_MAIN
