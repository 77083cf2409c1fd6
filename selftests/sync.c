// SPDX-License-Identifier: GPL-2.0-only
/*
 * SYNC: I/O whose data is at its device, and which is over only when the daemon
 * says that its metadata is safe.
 */
#define _GNU_SOURCE
#include "lib/gated.h"

/* Answer a request with a SYNC mapping. */
static int answer(const struct dmt *t, uint32_t id, struct dmt_map map)
{
	map.flags |= SYNC;
	return dmt_map(t->ctl, id, &map);
}

static bool held(const struct dmt *t, uint32_t id)
{
	return dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE);
}

/* --- the acknowledgment ---------------------------------------------------------------- */

/* What it is about is in its payload; the header may say anything. */
TEST_F(gated, ack_is_about_what_its_payload_names)
{
	struct dmt *t = &self->g.t;
	struct dmu_msg_status s = { .status = DM_USERSPACE_SYNC_COMPLETE };
	struct dmt_io *io[2];
	uint32_t id[2];
	unsigned int i;

	for (i = 0; i < 2; i++) {
		io[i] = dmt_write_part(t->fd, i, 2);
		id[i] = dmt_expect_request(t->ctl, i, RW);
		ASSERT_NE(0, id[i]);
		ASSERT_EQ(0, answer(t, id[i], dmt_plain(&t->store, i, i, RW)));
		ASSERT_TRUE(held(t, id[i]));
	}
	s.id_of_op = id[1];
	ASSERT_EQ(sizeof(struct dmu_msg_header) + sizeof(s),
		  dmt_write_msg(t->ctl, DM_USERSPACE_STATUS, id[0], &s,
				sizeof(s)));
	EXPECT_EQ(0, dmt_io_result(io[1]));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io[0]));
	s.id_of_op = id[0];
	ASSERT_LT(0, dmt_write_msg(t->ctl, DM_USERSPACE_STATUS, UINT32_MAX, &s,
				   sizeof(s)));
	EXPECT_EQ(0, dmt_io_result(io[0]));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
}

/* --- what is held ------------------------------------------------------------------------ */

TEST_F(gated, all_waiting_io_is_held_and_told_once)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io[3], *late;
	uint32_t id;
	int i;

	io[0] = dmt_write_part(t->fd, 1, 2);
	io[1] = dmt_begin_read(t, 1);
	io[2] = dmt_io_now(t->fd, DMT_WRITE, DMT_BLOCK + 2048, 512, 3);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->store, 1, 5, RW)));
	ASSERT_TRUE(held(t, id));
	ASSERT_TRUE(dmt_settled(t));
	for (i = 0; i < 3; i++)
		EXPECT_FALSE(dmt_io_done(io[i]));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_SYNCS));

	/* What comes before the ack is held, too, and nobody is told again. */
	late = dmt_io_now(t->fd, DMT_WRITE, DMT_BLOCK + 3072, 512, 4);
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(late));

	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, dmt_io_result(io[i]));
	EXPECT_EQ(0, dmt_io_result(late));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
	/* From here on it is like any other. */
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 6));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 1, 6, DMT_NO_PART));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, daemon_is_told_when_the_data_is_at_its_device)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->store, 1, 5, RW)));
	ASSERT_TRUE(dmt_settled(t));
	dmt_gate_open(&self->g.store);
	ASSERT_TRUE(held(t, id));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 1, 0, 2));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
}

TEST_F(gated, reads_are_held_too)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_begin_read(t, 1);
	uint32_t id = dmt_expect_request(t->ctl, 1, RO);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->origin, 1, 1, RO)));
	ASSERT_TRUE(held(t, id));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
	dmt_io_free(io);
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
}

TEST_F(gated, io_that_comes_after_an_answer_nobody_waited_for_is_held)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->store, 1, 5, RW)));
	ASSERT_TRUE(dmt_settled(t));
	/* It is owed an ack: nothing may recycle it. */
	ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
	io = dmt_write_part(t->fd, 1, 3);
	ASSERT_TRUE(held(t, id));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
}

TEST_F(gated, nobody_can_acknowledge_what_has_no_id)
{
	struct dmt *t = &self->g.t;

	EXPECT_EQ(-EINVAL, answer(t, 0, dmt_plain(&t->store, 1, 5, RW)));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
}

/*
 * News that a tick has let out stays so, though there is more to gather: what poll()
 * has told of can be read.
 */
TEST_F(gated, news_that_could_be_read_is_not_gathered_again)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io[3];
	uint32_t id[3];
	int round, i;

	for (round = 0; round < 40; round++) {
		for (i = 0; i < 3; i++) {
			io[i] = dmt_write_part(t->fd, i, 2);
			id[i] = dmt_expect_request(t->ctl, i, RW);
			ASSERT_NE(0, id[i]);
		}
		ASSERT_EQ(0, answer(t, id[0], dmt_plain(&t->store, 0, 5, RW)));
		ASSERT_TRUE(dmt_readable(t->ctl, DMT_PATIENCE));
		ASSERT_EQ(0, answer(t, id[1], dmt_plain(&t->store, 1, 6, RW)));
		/* While the news of it arrives: nothing may hide what was there. */
		for (i = 0; i < 200; i++)
			ASSERT_TRUE(dmt_readable(t->ctl, 0));
		ASSERT_TRUE(held(t, id[0]));
		ASSERT_TRUE(held(t, id[1]));
		ASSERT_EQ(0, answer(t, id[2], dmt_plain(&t->store, 2, 7, RW)));
		ASSERT_TRUE(held(t, id[2]));
		for (i = 0; i < 3; i++) {
			ASSERT_EQ(0, dmt_sync_done(t->ctl, id[i]));
			EXPECT_EQ(0, dmt_io_result(io[i]));
		}
		ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	}
}

/* --- acks ---------------------------------------------------------------------------------- */

TEST_F(gated, ack_that_comes_before_the_data_is_not_waited_for_again)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->store, 1, 5, RW)));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 1, 0, 2));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, ack_that_comes_before_the_copy_does_not_let_io_past_it)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.origin);
	ASSERT_EQ(0, answer(t, id, dmt_cow(t, 1, 5, RW)));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 1, 0, DMT_NO_PART));
	dmt_gate_open(&self->g.origin);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 1, DMT_ORIGIN, 2));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, acks_that_nobody_waits_for_release_nothing_else)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *one = dmt_write_part(t->fd, 1, 2);
	struct dmt_io *two = dmt_write_part(t->fd, 2, 2);
	uint32_t first = dmt_expect_request(t->ctl, 1, RW);
	uint32_t second = dmt_expect_request(t->ctl, 2, RW);
	struct dmt_io *asked = dmt_begin_read(t, 3);
	uint32_t third = dmt_expect_request(t->ctl, 3, RO);

	ASSERT_NE(0, first);
	ASSERT_NE(0, second);
	ASSERT_NE(0, third);
	ASSERT_EQ(0, answer(t, first, dmt_plain(&t->store, 1, 5, RW)));
	ASSERT_TRUE(held(t, first));
	ASSERT_EQ(0, answer(t, second, dmt_plain(&t->store, 2, 6, RW)));
	ASSERT_TRUE(held(t, second));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, first));
	EXPECT_EQ(0, dmt_io_result(one));
	/* Twice, of a request that is no SYNC mapping, and of nothing. */
	ASSERT_EQ(0, dmt_sync_done(t->ctl, first));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, third));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, 0));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, third + 1000));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(two));
	EXPECT_FALSE(dmt_io_done(asked));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, second));
	EXPECT_EQ(0, dmt_io_result(two));
	ASSERT_EQ(0, dmt_fail(t->ctl, third));
	EXPECT_EQ(-EIO, dmt_io_result(asked));
}

TEST_F(gated, answer_given_twice_changes_nothing)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->store, 1, 5, RW)));
	ASSERT_TRUE(held(t, id));
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->store, 1, 5, RW)));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_SYNCS));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
}

/* --- data that does not arrive ------------------------------------------------------------ */

TEST_F(gated, failed_io_is_over_and_never_told)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	dmt_gate_break(&self->g.store);
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->store, 1, 5, RW)));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	ASSERT_TRUE(dmt_settled(t));
	/* The mapping still is: the first write that arrives is told. */
	dmt_gate_mend(&self->g.store);
	io = dmt_write_part(t->fd, 1, 3);
	ASSERT_TRUE(held(t, id));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 1, 0, 3));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
}

TEST_F(gated, failed_copy_is_never_told)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	dmt_gate_break(&self->g.origin);
	ASSERT_EQ(0, answer(t, id, dmt_cow(t, 1, 5, RW)));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	ASSERT_TRUE(dmt_settled(t));
	dmt_gate_mend(&self->g.origin);
	io = dmt_write_part(t->fd, 1, 3);
	ASSERT_TRUE(held(t, id));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 1, DMT_ORIGIN, 3));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
}

/* --- together with other flags -------------------------------------------------------------- */

TEST_F(gated, copy_is_made_then_io_is_held)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, answer(t, id, dmt_cow(t, 1, 5, RW)));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	ASSERT_TRUE(dmt_settled(t));
	dmt_gate_open(&self->g.store);
	ASSERT_TRUE(held(t, id));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 1, DMT_ORIGIN, 2));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
}

TEST_F(gated, write_that_stands_in_for_the_copy_is_held)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *write, *read;
	uint32_t id;

	dmt_gate_break(&self->g.origin);
	write = dmt_begin_write(t, 1, 2);
	read = dmt_begin_read(t, 1);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, answer(t, id, dmt_cow(t, 1, 5, RW)));
	ASSERT_TRUE(dmt_settled(t));
	dmt_gate_open(&self->g.store);
	ASSERT_TRUE(held(t, id));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 1, 2, DMT_NO_PART));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(write));
	EXPECT_FALSE(dmt_io_done(read));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_EQ(0, dmt_io_wait(read));
	EXPECT_TRUE(dmt_io_matches(read, 2));
	dmt_io_free(read);
}

TEST_F(gated, failed_stand_in_write_is_never_told)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_begin_write(t, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	dmt_gate_break(&self->g.store);
	ASSERT_EQ(0, answer(t, id, dmt_cow(t, 1, 5, RW)));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	ASSERT_TRUE(dmt_settled(t));
	dmt_gate_mend(&self->g.store);
	io = dmt_begin_read(t, 1);
	ASSERT_TRUE(held(t, id));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
	dmt_io_free(io);
}

TEST_F(gated, temporary_mapping_holds_what_it_serves_and_nothing_else)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2), *other;
	uint32_t id = dmt_expect_request(t->ctl, 1, RW), next;

	ASSERT_NE(0, id);
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->store, 1, 5, RW | TEMP)));
	ASSERT_TRUE(held(t, id));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 1, 0, 2));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	/* For other I/O the block has no mapping. */
	other = dmt_begin_read(t, 1);
	next = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, next);
	ASSERT_EQ(0, dmt_fail(t->ctl, next));
	EXPECT_EQ(-EIO, dmt_io_result(other));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
}

TEST_F(gated, temporary_mapping_whose_io_failed_owes_no_ack)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	dmt_gate_break(&self->g.store);
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->store, 1, 5, RW | TEMP)));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_TRUE(dmt_counts(t->name, DMT_SYNCS, 0));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, temporary_mapping_that_serves_nothing_owes_no_ack)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->store, 1, 5, RW | TEMP)));
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
}

/* --- the mapping goes while it holds I/O ---------------------------------------------------- */

TEST_F(gated, held_io_follows_a_replacement)
{
	struct dmt *t = &self->g.t;
	struct dmt_map other = dmt_plain(&self->g.spare, 1, 7, RW);
	struct dmt_io *write = dmt_begin_write(t, 1, 2);
	struct dmt_io *read = dmt_io_now(t->fd, DMT_READ, DMT_BLOCK, 512, 0);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->store, 1, 5, RW)));
	ASSERT_TRUE(held(t, id));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 7, 1, 2, DMT_NO_PART));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 2));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_TRUE(dmt_settled(t));
}

TEST_F(gated, held_read_sees_the_place_that_replaced_its_own)
{
	struct dmt *t = &self->g.t;
	struct dmt_map other = dmt_plain(&self->g.spare, 1, 7, RW);
	struct dmt_io *io = dmt_begin_read(t, 1);
	uint32_t id = dmt_expect_request(t->ctl, 1, RO);

	ASSERT_NE(0, id);
	dmt_place_fill(&self->g.spare, 7, 1, 4);
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->origin, 1, 1, RW)));
	ASSERT_TRUE(held(t, id));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, 4));
	dmt_io_free(io);
}

TEST_F(gated, io_on_its_way_back_follows_a_replacement)
{
	struct dmt *t = &self->g.t;
	struct dmt_map other = dmt_plain(&self->g.spare, 1, 7, RW);
	struct dmt_io *io = dmt_begin_write(t, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->store, 1, 5, RW)));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 7, 1, 2, DMT_NO_PART));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, replacement_that_holds_is_told_under_its_own_id)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *read = dmt_begin_read(t, 1), *write;
	uint32_t id = dmt_expect_request(t->ctl, 1, RO), next;

	ASSERT_NE(0, id);
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->origin, 1, 1, RO)));
	ASSERT_TRUE(held(t, id));
	write = dmt_write_part(t->fd, 1, 2);
	next = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, next);
	ASSERT_EQ(0, answer(t, next, dmt_cow(t, 1, 5, RW)));
	ASSERT_TRUE(held(t, next));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(read));
	EXPECT_FALSE(dmt_io_done(write));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, next));
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 1, DMT_ORIGIN, 2));
}

TEST_F(gated, held_io_of_an_invalidated_mapping_waits_for_its_ack)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2), *other;
	uint32_t id = dmt_expect_request(t->ctl, 1, RW), next;

	ASSERT_NE(0, id);
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->store, 1, 5, RW)));
	ASSERT_TRUE(held(t, id));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 1));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 42, DM_USERSPACE_INVAL_COMPLETE));
	/* The mapping is gone: what comes now asks. */
	other = dmt_begin_read(t, 1);
	next = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, next);
	ASSERT_EQ(0, dmt_fail(t->ctl, next));
	EXPECT_EQ(-EIO, dmt_io_result(other));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
}

TEST_F(gated, early_io_of_an_invalidated_mapping_is_waited_for_then_held)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);
	struct dmt_msg msg;
	int i, seen = 0;

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, answer(t, id, dmt_plain(&t->store, 1, 5, RW)));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 0x42000000, 1));
	ASSERT_TRUE(dmt_settled(t));
	dmt_gate_open(&self->g.store);
	for (i = 0; i < 2; i++) {
		ASSERT_TRUE(dmt_expect(t->ctl, DM_USERSPACE_STATUS, &msg));
		if (msg.status.id_of_op == id &&
		    msg.status.status == DM_USERSPACE_SYNC_COMPLETE)
			seen |= 1;
		if (msg.status.id_of_op == 0x42000000 &&
		    msg.status.status == DM_USERSPACE_INVAL_COMPLETE)
			seen |= 2;
	}
	EXPECT_EQ(3, seen);
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 1, 0, 2));
}

TEST_HARNESS_MAIN
