// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suspension: with a flush it waits for I/O, as it should; with --noflush it
 * never waits for a daemon, and what waited comes again after the resume.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/suspend.h"
#include "lib/sysfs.h"
#include <err.h>
#include <signal.h>

static bool held(const struct dmt *t, uint32_t id)
{
	return dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE);
}

/* --- with a flush ------------------------------------------------------------------------- */

TEST_F(gated, flush_waits_for_io_that_waits_for_a_daemon)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->origin, 1, 1, RO);
	struct dmt_io *sent = dmt_begin_read(t, 1), *unread, *late;
	uint32_t id = dmt_expect_request(t->ctl, 1, RO);
	struct dmt_call call;

	ASSERT_NE(0, id);
	unread = dmt_begin_read(t, 2);
	dmt_call_begin(&call, t, t->name, DMT_SUSPEND);
	ASSERT_TRUE(dmt_call_waits(&call));
	/* Both can still be answered. */
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(sent));
	EXPECT_FALSE(dmt_call_ended(&call));
	id = dmt_expect_request(t->ctl, 2, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(unread));
	EXPECT_EQ(0, dmt_call_result(&call));
	late = dmt_begin_read(t, 1);
	EXPECT_TRUE(dmt_settled_within(t));
	EXPECT_FALSE(dmt_io_done(late));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	EXPECT_EQ(0, dmt_io_result(late));
}

TEST_F(gated, flush_waits_for_copies_and_for_acks)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW | SYNC);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);
	struct dmt_call call;

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	dmt_call_begin(&call, t, t->name, DMT_SUSPEND);
	ASSERT_TRUE(dmt_call_waits(&call));
	dmt_gate_open(&self->g.store);
	ASSERT_TRUE(held(t, id));
	ASSERT_TRUE(dmt_call_waits(&call));
	EXPECT_TRUE(dmt_settled_within(t));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, dmt_call_result(&call));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, DMT_ORIGIN, 2));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, DMT_ORIGIN, 2));
}

TEST_F(gated, flush_waits_for_copies_that_nobody_waits_for)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW);
	struct dmt_call call;

	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	dmt_call_begin(&call, t, t->name, DMT_SUSPEND);
	ASSERT_TRUE(dmt_call_waits(&call));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_call_result(&call));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_COPIES));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, DMT_ORIGIN, DMT_NO_PART));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
}

/* Nothing of a suspended table's devices is touched before it is resumed. */
TEST_F(gated, copy_that_is_asked_for_meanwhile_is_made_after_the_resume)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW);
	struct dmt_map ready = dmt_plain(&t->origin, 2, 2, RO);
	struct dmt_io *io;

	ASSERT_EQ(0, dmt_suspend(t, false));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &ready));
	io = dmt_begin_read(t, 1);
	ASSERT_TRUE(dmt_barrier(t->ctl));
	dmt_grace_period();
	EXPECT_EQ(0, dmt_counter(t->name, DMT_COPIES));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, 0, DMT_NO_PART));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
	dmt_io_free(io);
	EXPECT_TRUE(dmt_read_matches(t->fd, 2, DMT_ORIGIN));
}

/* --- without a flush ------------------------------------------------------------------------ */

TEST_F(gated, noflush_takes_requests_back_and_they_come_again)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *sent = dmt_begin_read(t, 1), *unread;
	uint32_t id = dmt_expect_request(t->ctl, 1, RO);
	struct dmt_map map;
	struct dmt_msg msg;
	int i;

	ASSERT_NE(0, id);
	unread = dmt_begin_write(t, 2, 3);
	ASSERT_EQ(0, dmt_suspend(t, true));
	EXPECT_TRUE(dmt_settled_within(t));
	EXPECT_FALSE(dmt_io_done(sent));
	EXPECT_FALSE(dmt_io_done(unread));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	EXPECT_TRUE(dmt_silent(t->ctl));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	/* In any order. */
	for (i = 0; i < 2; i++) {
		ASSERT_TRUE(dmt_expect(t->ctl, DM_USERSPACE_MAP_BLOCK_REQ,
				       &msg));
		EXPECT_NE(id, msg.header.id);
		EXPECT_EQ(msg.request.org_block == 1 ? RO : RW,
			  msg.request.flags);
		map = dmt_plain(msg.request.org_block == 1 ? &t->origin :
				&t->store, msg.request.org_block,
				msg.request.org_block, msg.request.flags);
		ASSERT_EQ(0, dmt_map(t->ctl, msg.header.id, &map));
	}
	EXPECT_EQ(0, dmt_io_wait(sent));
	EXPECT_TRUE(dmt_io_matches(sent, DMT_ORIGIN));
	dmt_io_free(sent);
	EXPECT_EQ(0, dmt_io_result(unread));
	EXPECT_TRUE(dmt_place_has(&t->store, 2, 2, 3, DMT_NO_PART));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, answer_that_comes_during_the_suspension_is_used_after_it)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->origin, 1, 1, RO);
	struct dmt_io *mapped = dmt_begin_read(t, 1), *failed;
	uint32_t id = dmt_expect_request(t->ctl, 1, RO), other;

	ASSERT_NE(0, id);
	failed = dmt_begin_read(t, 2);
	other = dmt_expect_request(t->ctl, 2, RO);
	ASSERT_NE(0, other);
	ASSERT_EQ(0, dmt_suspend(t, true));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_EQ(0, dmt_fail(t->ctl, other));
	EXPECT_TRUE(dmt_settled_within(t));
	EXPECT_FALSE(dmt_io_done(mapped));
	EXPECT_FALSE(dmt_io_done(failed));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	EXPECT_EQ(0, dmt_io_wait(mapped));
	EXPECT_TRUE(dmt_io_matches(mapped, DMT_ORIGIN));
	dmt_io_free(mapped);
	/* That failure was of a request which is no more. */
	other = dmt_expect_request(t->ctl, 2, RO);
	ASSERT_NE(0, other);
	ASSERT_EQ(0, dmt_fail(t->ctl, other));
	EXPECT_EQ(-EIO, dmt_io_result(failed));
}

TEST_F(gated, noflush_needs_no_daemon)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *sent = dmt_begin_read(t, 1), *unread, *late;
	uint64_t block;

	ASSERT_NE(0, dmt_expect_request(t->ctl, 1, RO));
	close(t->ctl);
	t->ctl = -1;
	unread = dmt_begin_read(t, 2);
	ASSERT_EQ(0, dmt_suspend(t, true));
	late = dmt_begin_read(t, 3);
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	ASSERT_EQ(0, dmt_suspend(t, true));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	for (block = 1; block <= 3; block++) {
		struct dmt_msg msg;

		ASSERT_TRUE(dmt_expect(t->ctl, DM_USERSPACE_MAP_BLOCK_REQ,
				       &msg));
		ASSERT_EQ(0, dmt_fail(t->ctl, msg.header.id));
	}
	EXPECT_EQ(-EIO, dmt_io_result(sent));
	EXPECT_EQ(-EIO, dmt_io_result(unread));
	EXPECT_EQ(-EIO, dmt_io_result(late));
}

TEST_F(gated, noflush_waits_for_copies_but_not_for_who_waits_for_them)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);
	struct dmt_call call;

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	dmt_call_begin(&call, t, t->name, DMT_SUSPEND_NOFLUSH);
	ASSERT_TRUE(dmt_call_waits(&call));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_call_result(&call));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_COPIES));
	EXPECT_TRUE(dmt_settled_within(t));
	EXPECT_FALSE(dmt_io_done(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, DMT_ORIGIN, DMT_NO_PART));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, DMT_ORIGIN, 2));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, noflush_while_a_write_stands_in_for_the_copy)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW | SYNC);
	struct dmt_io *io = dmt_begin_write(t, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);
	struct dmt_call call;

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	dmt_call_begin(&call, t, t->name, DMT_SUSPEND_NOFLUSH);
	ASSERT_TRUE(dmt_call_waits(&call));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_call_result(&call));
	EXPECT_TRUE(dmt_settled_within(t));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	ASSERT_TRUE(held(t, id));
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 2));
}

TEST_F(gated, noflush_takes_io_that_is_held_for_sync_back)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW | SYNC);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(held(t, id));
	ASSERT_EQ(0, dmt_suspend(t, true));
	EXPECT_TRUE(dmt_settled_within(t));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	/* Held again; that it has come twice is nothing to its daemon. */
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, 0, 2));
}

TEST_F(gated, ack_that_comes_during_the_suspension_counts)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW | SYNC);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(held(t, id));
	ASSERT_EQ(0, dmt_suspend(t, true));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_TRUE(dmt_settled_within(t));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, 0, 2));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* Told of I/O that was taken back before it could know. */
TEST_F(gated, daemon_that_dies_during_the_suspension_is_replaced)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW | SYNC);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);
	struct dmt_msg msg;

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(held(t, id));
	ASSERT_EQ(0, dmt_suspend(t, true));
	close(t->ctl);
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	ASSERT_TRUE(dmt_expect(t->ctl, DM_USERSPACE_MAP_BLOCK_REQ, &msg));
	EXPECT_EQ(1, msg.request.org_block);
	EXPECT_EQ(RW, msg.request.flags);
	map.flags = RW;
	map.to = 5;
	ASSERT_EQ(0, dmt_map(t->ctl, msg.header.id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 1, 0, 2));
}

TEST_F(gated, request_for_what_a_dead_daemon_owed_is_taken_back)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW | SYNC);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2), *read;
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(held(t, id));
	close(t->ctl);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	ASSERT_NE(0, dmt_expect_request(t->ctl, 1, RW));
	ASSERT_EQ(0, dmt_suspend(t, true));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	read = dmt_begin_read(t, 1);
	/* Still nobody believes that mapping. */
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	map.flags = RW;
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, 0, 2));
}

/* --- interrupted ------------------------------------------------------------------------------ */

TEST_F(gated, interrupted_flush_leaves_the_device_alive)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);
	struct dmt_call call;

	ASSERT_NE(0, id);
	dmt_call_begin(&call, t, t->name, DMT_SUSPEND);
	ASSERT_TRUE(dmt_call_waits(&call));
	kill(call.pid, SIGTERM);
	EXPECT_EQ(-EINTR, dmt_call_result(&call));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, DMT_ORIGIN, 2));
	EXPECT_TRUE(dmt_settled(t));
}

TEST_F(gated, interrupted_noflush_fails_nothing)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_map cow = dmt_cow(t, 3, 5, RW);
	struct dmt_io *flying, *waiting, *late;
	struct dmt_call call;
	uint32_t id;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_gate_shut(&self->g.store);
	flying = dmt_begin_write(t, 1, 2);
	waiting = dmt_begin_read(t, 2);
	ASSERT_NE(0, dmt_expect_request(t->ctl, 2, RO));
	dmt_call_begin(&call, t, t->name, DMT_SUSPEND_NOFLUSH);
	ASSERT_TRUE(dmt_call_waits(&call));
	late = dmt_begin_read(t, 3);
	kill(call.pid, SIGTERM);
	EXPECT_EQ(-EINTR, dmt_call_result(&call));
	/* What was handed back has come again. */
	id = dmt_expect_request(t->ctl, 2, RO);
	ASSERT_NE(0, id);
	map = dmt_plain(&t->origin, 2, 2, RO);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(waiting));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(flying));
	id = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, id);
	/* Copies are made on its devices, as before. */
	ASSERT_EQ(0, dmt_map(t->ctl, id, &cow));
	EXPECT_EQ(0, dmt_io_wait(late));
	EXPECT_TRUE(dmt_io_matches(late, DMT_ORIGIN));
	dmt_io_free(late);
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 2));
}

/* --- what waits for its turn ------------------------------------------------------------------ */

/* One copy, and one request, at a time. */
FIXTURE(narrow)
{
	struct dmt_gated g;
	unsigned int copies;
	unsigned int requests;
	struct dmt_io *io[2];
};

FIXTURE_SETUP(narrow)
{
	self->copies = dmt_param_get("max_copies");
	self->requests = dmt_param_get("max_requests");
	dmt_param_set("max_copies", 1);
	dmt_gated_setup(&self->g);
}

FIXTURE_TEARDOWN(narrow)
{
	dmt_param_set("max_copies", self->copies);
	dmt_param_set("max_requests", self->requests);
	dmt_gated_teardown(&self->g);
}

/* Writes to blocks 1 and 2 wait for their copies, to places 4 and 5; one has begun. */
static void begin_two_copies(struct __test_metadata *_metadata,
			     FIXTURE_DATA(narrow) *self)
{
	struct dmt *t = &self->g.t;
	uint64_t i;

	dmt_gate_shut(&self->g.store);
	for (i = 0; i < 2; i++) {
		struct dmt_map map = dmt_cow(t, 1 + i, 4 + i, RW);
		uint32_t id;

		self->io[i] = dmt_write_part(t->fd, 1 + i, 2);
		id = dmt_expect_request(t->ctl, 1 + i, RW);
		ASSERT_NE(0, id);
		ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
		ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	}
}

TEST_F(narrow, flush_waits_for_copies_that_have_not_begun)
{
	struct dmt *t = &self->g.t;
	struct dmt_call call;

	begin_two_copies(_metadata, self);
	dmt_call_begin(&call, t, t->name, DMT_SUSPEND);
	ASSERT_TRUE(dmt_call_waits(&call));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_COPIES));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_call_result(&call));
	EXPECT_EQ(0, dmt_io_result(self->io[0]));
	EXPECT_EQ(0, dmt_io_result(self->io[1]));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_COPIES));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, DMT_ORIGIN, 2));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 2, DMT_ORIGIN, 2));
	EXPECT_TRUE(dmt_silent(t->ctl));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
}

TEST_F(narrow, noflush_leaves_copies_that_have_not_begun_for_after_the_resume)
{
	struct dmt *t = &self->g.t;
	struct dmt_call call;

	begin_two_copies(_metadata, self);
	dmt_call_begin(&call, t, t->name, DMT_SUSPEND_NOFLUSH);
	ASSERT_TRUE(dmt_call_waits(&call));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_call_result(&call));
	EXPECT_TRUE(dmt_settled_within(t));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_COPIES));
	EXPECT_FALSE(dmt_io_done(self->io[0]));
	EXPECT_FALSE(dmt_io_done(self->io[1]));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, DMT_ORIGIN, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 2, 0, DMT_NO_PART));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	EXPECT_EQ(0, dmt_io_result(self->io[0]));
	EXPECT_EQ(0, dmt_io_result(self->io[1]));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, DMT_ORIGIN, 2));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 2, DMT_ORIGIN, 2));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(narrow, flush_waits_for_io_that_no_daemon_could_be_asked_for_yet)
{
	struct dmt *t = &self->g.t;
	struct dmt_server server = { .nr = 1 };
	struct dmt_call call;
	struct dmt_io *io[4];
	uint64_t i;

	dmt_param_set("max_requests", 1);
	for (i = 0; i < 4; i++)
		io[i] = dmt_begin_read(t, i);
	EXPECT_EQ(4, dmt_counter(t->name, DMT_WAITING));
	dmt_call_begin(&call, t, t->name, DMT_SUSPEND);
	ASSERT_TRUE(dmt_call_waits(&call));
	/* Each answer must let the next one be asked for. */
	server.served[0] = (struct dmt_served){ t->ctl, t->origin.dev };
	dmt_server_start(&server);
	EXPECT_EQ(0, dmt_call_result(&call));
	dmt_server_stop(&server);
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(0, dmt_io_wait(io[i]));
		EXPECT_TRUE(dmt_io_matches(io[i], DMT_ORIGIN));
		dmt_io_free(io[i]);
	}
	EXPECT_EQ(4, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
}

TEST_HARNESS_MAIN
