// SPDX-License-Identifier: GPL-2.0-only
/*
 * I/O that is held for an acknowledgment which its daemon, now dead, will never give:
 * whatever ends its waiting but the next daemon's answer. The I/O fails then, and its
 * block is one that nobody knows: not where the dead one had said it was.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include <err.h>

#define SECOND 900 /* ms: less by so much as the kernel's own clock may be coarse */

/**
 * @g: its store is where block 1 has been mapped to
 * @io: a write of a part of it, and a read
 * @id: of the request for it
 */
FIXTURE(held)
{
	struct dmt_gated g;
	struct dmt_io *io[2];
	uint32_t id;
};

FIXTURE_SETUP(held)
{
	dmt_gated_setup(&self->g);
}

FIXTURE_TEARDOWN(held)
{
	dmt_gated_teardown(&self->g);
}

static void leave(FIXTURE_DATA(held) *self)
{
	close(self->g.t.ctl);
	self->g.t.ctl = -1;
}

static void come(FIXTURE_DATA(held) *self)
{
	self->g.t.ctl = dmt_control_open(self->g.t.name, O_NONBLOCK);
}

/* Block 1 is mapped, and its I/O on its way to the store. */
static bool send(FIXTURE_DATA(held) *self)
{
	const struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW | SYNC);

	self->io[0] = dmt_write_part(t->fd, 1, 2);
	self->io[1] = dmt_begin_read(t, 1);
	self->id = dmt_expect_request(t->ctl, 1, RW);
	return self->id && !dmt_map(t->ctl, self->id, &map);
}

/* It has come back from there, and the daemon knows. */
static bool hold(FIXTURE_DATA(held) *self)
{
	const struct dmt *t = &self->g.t;

	return send(self) &&
	       dmt_expect_status(t->ctl, self->id, DM_USERSPACE_SYNC_COMPLETE) &&
	       dmt_settled(t) && !dmt_io_done(self->io[0]) &&
	       !dmt_io_done(self->io[1]);
}

/* It comes to its end, and nothing is left of it. */
static bool fails(FIXTURE_DATA(held) *self)
{
	const struct dmt *t = &self->g.t;
	int first = dmt_io_result(self->io[0]);
	int second = dmt_io_result(self->io[1]);

	if (first == -EIO && second == -EIO &&
	    !dmt_counter(t->name, DMT_WAITING) &&
	    !dmt_counter(t->name, DMT_SENT) && !dmt_counter(t->name, DMT_SYNCS))
		return true;
	warnx("it ended with %d and %d, or something is left", first, second);
	return false;
}

/* The next one to be asked for block 1 holds its I/O as the dead one did. */
static bool works(FIXTURE_DATA(held) *self)
{
	const struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 6, RW | SYNC);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 3);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	map.dst = &self->g.spare;
	return id && id != self->id && !dmt_map(t->ctl, id, &map) &&
	       dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE) &&
	       !dmt_io_done(io) && !dmt_sync_done(t->ctl, id) &&
	       !dmt_io_result(io) && dmt_block_reads(t->fd, 1, DMT_ORIGIN, 3) &&
	       dmt_place_has(&self->g.spare, 6, 1, DMT_ORIGIN, 3) &&
	       dmt_counter(t->name, DMT_REMAPS) == 1 &&
	       !dmt_counter(t->name, DMT_SYNCS) && dmt_settled(t);
}

/* Nobody believes the dead one: what reads the block asks, and fails if it must. */
static bool asks_anew(FIXTURE_DATA(held) *self)
{
	const struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_begin_read(t, 1);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	return id && id != self->id && !dmt_fail(t->ctl, id) &&
	       dmt_io_result(io) == -EIO;
}

/* --- fail_waiting ---------------------------------------------------------------------------- */

TEST_F(held, fail_waiting_fails_it_once_its_daemon_is_dead)
{
	struct dmt *t = &self->g.t;

	ASSERT_TRUE(hold(self));
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(self->io[0]) || dmt_io_done(self->io[1]));
	leave(self);
	dmt_grace_period();
	EXPECT_FALSE(dmt_io_done(self->io[0]) || dmt_io_done(self->io[1]));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_WAITING));
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	EXPECT_TRUE(fails(self));
	come(self);
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_TRUE(asks_anew(self));
	EXPECT_TRUE(works(self));
}

/* The answer, when it does come, is one that nobody has asked for. */
TEST_F(held, fail_waiting_fails_it_though_the_next_daemon_has_been_asked)
{
	struct dmt *t = &self->g.t;
	struct dmt_map late = dmt_plain(&t->store, 1, 4, RW);
	uint32_t id;

	ASSERT_TRUE(hold(self));
	leave(self);
	come(self);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	EXPECT_TRUE(fails(self));
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_EQ(0, dmt_map(t->ctl, id, &late));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, 0, 2));
	EXPECT_TRUE(dmt_settled(t));
}

/* Not what is at its device. */
TEST_F(held, fail_waiting_fails_it_once_it_has_come_back)
{
	struct dmt *t = &self->g.t;

	dmt_gate_shut(&self->g.store);
	ASSERT_TRUE(send(self));
	leave(self);
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	dmt_grace_period();
	EXPECT_FALSE(dmt_io_done(self->io[0]) || dmt_io_done(self->io[1]));
	dmt_gate_open(&self->g.store);
	EXPECT_TRUE(dmt_counts(t->name, DMT_WAITING, 1));
	dmt_grace_period();
	EXPECT_FALSE(dmt_io_done(self->io[0]) || dmt_io_done(self->io[1]));
	come(self);
	ASSERT_NE(0, dmt_expect_request(t->ctl, 1, RW));
	ASSERT_TRUE(dmt_settled(t));
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	EXPECT_TRUE(fails(self));
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_TRUE(asks_anew(self));
	EXPECT_TRUE(works(self));
}

/* --- time ------------------------------------------------------------------------------------ */

TEST_F(held, daemon_timeout_counts_from_the_death)
{
	struct dmt *t = &self->g.t;
	uint64_t begun;

	ASSERT_EQ(0, dmt_dm_message(t->name, "daemon_timeout 1"));
	ASSERT_TRUE(hold(self));
	begun = dmt_now_ms();
	leave(self);
	EXPECT_TRUE(fails(self));
	EXPECT_LE(SECOND, dmt_now_ms() - begun);
	come(self);
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_TRUE(asks_anew(self));
	EXPECT_TRUE(works(self));
}

/* A read of another block has waited for as long, and shows that the time is over. */
TEST_F(held, daemon_timeout_is_not_for_what_is_at_its_device)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *other;

	ASSERT_EQ(0, dmt_dm_message(t->name, "daemon_timeout 1"));
	dmt_gate_shut(&self->g.store);
	ASSERT_TRUE(send(self));
	leave(self);
	other = dmt_begin_read(t, 2);
	EXPECT_EQ(-EIO, dmt_io_result(other));
	EXPECT_FALSE(dmt_io_done(self->io[0]) || dmt_io_done(self->io[1]));
	dmt_gate_open(&self->g.store);
	EXPECT_TRUE(fails(self));
	come(self);
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_TRUE(asks_anew(self));
	EXPECT_TRUE(works(self));
}

TEST_F(held, request_timeout_counts_from_when_the_next_daemon_reads)
{
	struct dmt *t = &self->g.t;
	struct dmt_map late = dmt_plain(&t->store, 1, 4, RW);
	uint64_t begun;
	uint32_t id;

	ASSERT_EQ(0, dmt_dm_message(t->name, "request_timeout 1"));
	ASSERT_TRUE(hold(self));
	leave(self);
	come(self);
	begun = dmt_now_ms();
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	EXPECT_TRUE(fails(self));
	EXPECT_LE(SECOND, dmt_now_ms() - begun);
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_TRUE(works(self));
	/* Too late: a younger one has been answered. */
	EXPECT_EQ(0, dmt_map(t->ctl, id, &late));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, DMT_ORIGIN, 3));
	EXPECT_TRUE(dmt_settled(t));
}

TEST_HARNESS_MAIN
