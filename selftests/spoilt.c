// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies that failed, and whose source another block has been given after a death: what
 * is there now is not theirs, and must not be found in their blocks.
 *
 * Block 1 was to be copied from where it lives on the origin to the same place of the
 * store; block 7 is given the place that it came from.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/sysfs.h"

FIXTURE(spoilt)
{
	struct dmt_gated g;
	struct dmt_map copied;
	struct dmt_map lent;
	unsigned int max_copies;
};

static void next_daemon(FIXTURE_DATA(spoilt) *self)
{
	close(self->g.t.ctl);
	self->g.t.ctl = dmt_control_open(self->g.t.name, O_NONBLOCK);
}

/* Its daemon relies on the copy, and dies without having heard that it failed. */
FIXTURE_SETUP(spoilt)
{
	struct dmt *t = &self->g.t;
	struct dmt_map other;

	self->max_copies = dmt_param_get("max_copies");
	dmt_gated_setup(&self->g);
	self->copied = dmt_cow(t, 1, 1, RW);
	self->lent = dmt_plain(&t->origin, 7, 1, RW);
	other = dmt_plain(&t->store, 20, 20, RW);
	dmt_gate_break(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &self->copied));
	ASSERT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 1)));
	next_daemon(self);
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_REPORTS));
	/* What is mapped from here on waits for nothing of before the death. */
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	ASSERT_EQ(0, dmt_write_block(t->fd, 20, 5));
	dmt_gate_mend(&self->g.origin);
}

FIXTURE_TEARDOWN(spoilt)
{
	dmt_param_set("max_copies", self->max_copies);
	dmt_gated_teardown(&self->g);
}

static bool told(const struct dmt *t, uint64_t block, int error)
{
	struct dmt_msg msg;

	return dmt_expect(t->ctl, DM_USERSPACE_REPORT, &msg) &&
	       msg.report.report == DMU_REPORT_COPY_FAILED &&
	       msg.report.block == block && msg.report.error == error;
}

/* It is not read, however often; what is written as a whole is as good as ever. */
static void fails_until_written(struct __test_metadata *_metadata,
				const struct dmt *t)
{
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 1)));
	EXPECT_TRUE(told(t, 1, -ESTALE));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_write_part(t->fd, 1, 2)));
	EXPECT_TRUE(told(t, 1, -ESTALE));
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 3));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 3));
	EXPECT_TRUE(dmt_place_has(&t->store, 1, 1, 3, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&t->origin, 1, 7, 9, DMT_NO_PART));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(spoilt, block_is_not_copied_from_where_another_lives_by_now)
{
	struct dmt *t = &self->g.t;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &self->lent));
	ASSERT_EQ(0, dmt_write_block(t->fd, 7, 9));
	fails_until_written(_metadata, t);
}

TEST_F(spoilt, what_is_only_read_there_spoils_nothing)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_begin_read(t, 7);
	uint32_t id = dmt_expect_request(t->ctl, 7, RO);

	/* It may be written to, but only by who waits, and that is none. */
	ASSERT_NE(0, id);
	self->lent.flags = RW | TEMP;
	ASSERT_EQ(0, dmt_map(t->ctl, id, &self->lent));
	EXPECT_EQ(0, dmt_io_result(io));
	self->lent.flags = RO;
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &self->lent));
	EXPECT_EQ(0, dmt_io_result(dmt_begin_read(t, 7)));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* Who waits for the answer writes there without leave, too. */
TEST_F(spoilt, write_without_leave_spoils)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io = dmt_begin_write(t, 7, 9);
	uint32_t id = dmt_expect_request(t->ctl, 7, RW);

	ASSERT_NE(0, id);
	self->lent.flags = RO;
	ASSERT_EQ(0, dmt_map(t->ctl, id, &self->lent));
	EXPECT_EQ(0, dmt_io_result(io));
	fails_until_written(_metadata, t);
}

TEST_F(spoilt, write_without_leave_spoils_where_others_are_held)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *read = dmt_begin_read(t, 7), *io;
	uint32_t id = dmt_expect_request(t->ctl, 7, RO), other;

	ASSERT_NE(0, id);
	self->lent.flags = RO | SYNC;
	ASSERT_EQ(0, dmt_map(t->ctl, id, &self->lent));
	ASSERT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	io = dmt_begin_write(t, 7, 9);
	other = dmt_expect_request(t->ctl, 7, RW);
	ASSERT_NE(0, other);
	ASSERT_EQ(0, dmt_map(t->ctl, other, &self->lent));
	ASSERT_TRUE(dmt_expect_status(t->ctl, other, DM_USERSPACE_SYNC_COMPLETE));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, other));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, dmt_io_result(read));
	fails_until_written(_metadata, t);
}

/* Its own block, back where it was: the daemon had not made the copy known. */
TEST_F(spoilt, block_may_go_back_to_where_it_was)
{
	struct dmt *t = &self->g.t;
	struct dmt_map back = dmt_plain(&t->origin, 1, 1, RW);

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &back));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* Back by a copy of the copy: in truth it need not be copied at all. */
TEST_F(spoilt, block_may_be_copied_back_to_where_it_was)
{
	struct dmt *t = &self->g.t;
	struct dmt_map back = dmt_cow(t, 1, 1, RW);

	back.src = &t->store;
	back.dst = &t->origin;
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &back));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* Said once more as it is: the daemon knows of no source, or names that one. */
TEST_F(spoilt, what_says_the_same_does_not_copy_either)
{
	struct dmt *t = &self->g.t;
	struct dmt_map plain = dmt_plain(&t->store, 1, 1, RW);

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &self->lent));
	ASSERT_EQ(0, dmt_write_block(t->fd, 7, 9));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &plain));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 1)));
	EXPECT_TRUE(told(t, 1, -ESTALE));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &self->copied));
	fails_until_written(_metadata, t);
}

/* On from there: the daemon does not know that this would come from the origin, too. */
static struct dmt_map moved_on(FIXTURE_DATA(spoilt) *self)
{
	struct dmt_map on = self->copied;

	on.src = &self->g.t.store;
	on.dst = &self->g.spare;
	on.to = 6;
	return on;
}

TEST_F(spoilt, block_that_is_moved_on_before_that_has_its_data)
{
	struct dmt *t = &self->g.t;
	struct dmt_map on = moved_on(self);

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &on));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(spoilt, block_that_is_moved_on_after_that_fails_there)
{
	struct dmt *t = &self->g.t;
	struct dmt_map on = moved_on(self);

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &self->lent));
	ASSERT_EQ(0, dmt_write_block(t->fd, 7, 9));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &on));
	EXPECT_TRUE(told(t, 1, -ESTALE));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 1)));
	EXPECT_TRUE(told(t, 1, -ESTALE));
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 3));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 6, 1, 3, DMT_NO_PART));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* It stays where it is, but may not be written to any more. */
TEST_F(spoilt, block_that_gets_other_rights_after_that_fails)
{
	struct dmt *t = &self->g.t;
	struct dmt_map readable = dmt_plain(&t->store, 1, 1, RO);

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &self->lent));
	ASSERT_EQ(0, dmt_write_block(t->fd, 7, 9));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &readable));
	EXPECT_TRUE(told(t, 1, -ESTALE));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 1)));
	EXPECT_TRUE(told(t, 1, -ESTALE));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* Moved on before that, and not acknowledged yet: it is there, and not copied again. */
TEST_F(spoilt, block_that_was_moved_on_is_there_for_who_repeats_it)
{
	struct dmt *t = &self->g.t;
	struct dmt_map copied = dmt_cow(t, 2, 2, RO);
	struct dmt_map lent = dmt_plain(&t->origin, 7, 2, RW);
	struct dmt_map other = dmt_plain(&t->store, 21, 21, RW);
	struct dmt_map on = copied;
	struct dmt_io *io[2];
	uint32_t id;

	dmt_gate_break(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &copied));
	ASSERT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 2)));
	next_daemon(self);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	ASSERT_EQ(0, dmt_write_block(t->fd, 21, 5));
	dmt_gate_mend(&self->g.origin);

	on.src = &t->store;
	on.dst = &self->g.spare;
	on.to = 6;
	on.flags = RO | COPY | SYNC;
	io[0] = dmt_write_part(t->fd, 2, 3);
	id = dmt_expect_request(t->ctl, 2, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &on));
	ASSERT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &lent));
	ASSERT_EQ(0, dmt_write_block(t->fd, 7, 9));
	on.flags |= RW;
	io[1] = dmt_write_part(t->fd, 2, 3);
	id = dmt_expect_request(t->ctl, 2, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &on));
	ASSERT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io[0]));
	EXPECT_EQ(0, dmt_io_result(io[1]));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 6, 2, DMT_ORIGIN, 3));
}

/*
 * One copy at a time is made, and that of block 9 waits: @map, of block 1, waits too
 * while block 7 is given where it would come from.
 */
static void spoilt_while_queued(struct __test_metadata *_metadata,
				FIXTURE_DATA(spoilt) *self,
				const struct dmt_map *map)
{
	struct dmt *t = &self->g.t;
	struct dmt_map running = dmt_cow(t, 9, 9, RW);
	struct dmt_io *read, *write;

	dmt_param_set("max_copies", 1);
	dmt_gate_shut(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &running));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	if (map)
		ASSERT_EQ(0, dmt_map(t->ctl, 0, map));
	read = dmt_begin_read(t, 1);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &self->lent));
	write = dmt_begin_write(t, 7, 9);
	dmt_gate_open(&self->g.origin);
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_EQ(-EIO, dmt_io_result(read));
	EXPECT_TRUE(told(t, 1, -ESTALE));
	EXPECT_TRUE(dmt_read_matches(t->fd, 9, DMT_ORIGIN));
	EXPECT_TRUE(dmt_place_has(&t->origin, 1, 7, 9, DMT_NO_PART));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(spoilt, copy_that_is_tried_again_fails_where_it_was_spoilt_meanwhile)
{
	spoilt_while_queued(_metadata, self, NULL);
	EXPECT_EQ(0, dmt_write_block(self->g.t.fd, 1, 3));
	EXPECT_TRUE(dmt_place_has(&self->g.t.store, 1, 1, 3, DMT_NO_PART));
}

TEST_F(spoilt, copy_of_what_is_moved_on_fails_where_it_was_spoilt_meanwhile)
{
	struct dmt_map on = moved_on(self);

	spoilt_while_queued(_metadata, self, &on);
	EXPECT_EQ(0, dmt_write_block(self->g.t.fd, 1, 3));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 6, 1, 3, DMT_NO_PART));
}

/* A write of the whole block comes in time. */
TEST_F(spoilt, copy_that_is_spoilt_gives_way_to_a_write)
{
	struct dmt *t = &self->g.t;
	struct dmt_map running = dmt_cow(t, 9, 9, RW);
	struct dmt_io *read, *write;

	dmt_param_set("max_copies", 1);
	dmt_gate_shut(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &running));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	read = dmt_begin_read(t, 1);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &self->lent));
	write = dmt_begin_write(t, 1, 3);
	dmt_gate_open(&self->g.origin);
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_EQ(0, dmt_io_wait(read));
	EXPECT_TRUE(dmt_io_matches(read, 3));
	dmt_io_free(read);
	EXPECT_TRUE(dmt_place_has(&t->store, 1, 1, 3, DMT_NO_PART));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* It reads where another block is being written. */
TEST_F(spoilt, copy_that_is_under_way_fails_where_it_is_spoilt)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *read, *write;

	dmt_gate_shut(&self->g.origin);
	read = dmt_begin_read(t, 1);
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &self->lent));
	write = dmt_begin_write(t, 7, 9);
	dmt_gate_open(&self->g.origin);
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_EQ(-EIO, dmt_io_result(read));
	EXPECT_TRUE(told(t, 1, -ESTALE));
	fails_until_written(_metadata, t);
}

TEST_HARNESS_MAIN
