// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device goes from the last table that had it, while mappings are on their way
 * that lead to it or copy from it: whoever waits for them is asked for again.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/run.h"
#include "lib/suspend.h"
#include "lib/sysfs.h"
#include <err.h>

#define ORIGIN	1u
#define STORE	2u
#define SPARE	4u

/* Load a table with some of the three disks. */
static int load(const struct dmt_gated *g, const char *name, unsigned int disks)
{
	const struct dmt_disk *disk[3] = { &g->t.origin, &g->t.store,
					   &g->spare };
	char params[256];
	unsigned int i;
	int n;

	n = snprintf(params, sizeof(params), "%s %u", g->t.name, DMT_BLOCK);
	for (i = 0; i < 3; i++)
		if (disks & 1u << i)
			n += snprintf(params + n, sizeof(params) - n, " %u:%u",
				      major(disk[i]->dev), minor(disk[i]->dev));
	return dmt_dm_load(name, 0, DMT_BLOCKS * DMT_SECTORS, "userspace",
			   params);
}

/* What a table of these disks has replaced is gone when this returns. */
static int live(const struct dmt_gated *g, const char *name, unsigned int disks)
{
	return load(g, name, disks) ?: dmt_dm_resume(name);
}

/* --- where it leads to ---------------------------------------- */

/* Nothing is held for it, so that no I/O is there to learn of it by itself. */
TEST_F(gated, sync_mapping_to_a_device_that_goes_is_forgotten)
{
	struct dmt *t = &self->g.t;
	struct dmt_map sync = dmt_plain(&t->store, 1, 4, RW | SYNC);
	struct dmt_map map = dmt_plain(&t->origin, 1, 1, RW);
	struct dmt_io *io = dmt_begin_read(t, 1);
	uint32_t id = dmt_expect_request(t->ctl, 1, RO);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &sync));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_SYNCS));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
	ASSERT_EQ(0, live(&self->g, t->name, ORIGIN | SPARE));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	io = dmt_begin_read(t, 1);
	id = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
	dmt_io_free(io);
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, io_held_for_a_device_that_goes_is_asked_for_again)
{
	struct dmt *t = &self->g.t;
	struct dmt_map sync = dmt_plain(&t->store, 1, 4, RW | SYNC);
	struct dmt_map map = dmt_plain(&self->g.spare, 1, 5, RW);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW), next;

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &sync));
	ASSERT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	ASSERT_EQ(0, dmt_suspend(t, true));
	ASSERT_EQ(0, live(&self->g, t->name, ORIGIN | SPARE));
	next = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, next);
	EXPECT_NE(id, next);
	/* That of which it was told is no more. */
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_map(t->ctl, next, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 5, 1, 0, 2));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_ERRORS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
}

/* It came during the suspension, and meets the new table, too. */
TEST_F(gated, late_io_of_a_device_that_goes_is_asked_for)
{
	struct dmt *t = &self->g.t;
	struct dmt_map gone = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_map map = dmt_plain(&self->g.spare, 1, 5, RW);
	struct dmt_io *io;
	uint32_t id;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &gone));
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 2));
	ASSERT_EQ(0, dmt_suspend(t, true));
	io = dmt_write_part(t->fd, 1, 3);
	ASSERT_EQ(0, live(&self->g, t->name, ORIGIN | SPARE));
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 5, 1, 0, 3));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_ERRORS));
}

/* One copy at a time. */
FIXTURE(queued)
{
	struct dmt_gated g;
	unsigned int old;
};

FIXTURE_SETUP(queued)
{
	self->old = dmt_param_get("max_copies");
	dmt_param_set("max_copies", 1);
	dmt_gated_setup(&self->g);
}

FIXTURE_TEARDOWN(queued)
{
	dmt_param_set("max_copies", self->old);
	dmt_gated_teardown(&self->g);
}

/*
 * Suspend it while the copy of block 9 is held at the origin, so that others wait
 * for their turn; they have not begun when this returns.
 */
static int suspend_behind_a_copy(const struct dmt_gated *g)
{
	struct dmt_call call;
	bool waits;

	dmt_call_begin(&call, &g->t, g->t.name, DMT_SUSPEND_NOFLUSH);
	waits = dmt_call_waits(&call);
	dmt_gate_open(&g->origin);
	return dmt_call_result(&call) ?: waits ? 0 : -EBUSY;
}

static bool hold_a_copy(const struct dmt_gated *g)
{
	const struct dmt *t = &g->t;
	struct dmt_map map = dmt_plain(&g->spare, 9, 9, RW | COPY);

	map.src = &t->origin;
	dmt_gate_shut(&g->origin);
	return !dmt_map(t->ctl, 0, &map) &&
	       dmt_counts(t->name, DMT_COPIES, 1);
}

TEST_F(queued, copy_to_a_device_that_goes_is_not_made_and_its_io_asks_again)
{
	struct dmt *t = &self->g.t;
	struct dmt_map cow = dmt_cow(t, 1, 4, RW);
	struct dmt_map map = dmt_plain(&self->g.spare, 1, 5, RW | COPY);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW), next;

	ASSERT_NE(0, id);
	ASSERT_TRUE(hold_a_copy(&self->g));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &cow));
	ASSERT_EQ(0, suspend_behind_a_copy(&self->g));
	ASSERT_EQ(0, live(&self->g, t->name, ORIGIN | SPARE));
	next = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, next);
	EXPECT_NE(id, next);
	map.src = &t->origin;
	ASSERT_EQ(0, dmt_map(t->ctl, next, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 5, 1, DMT_ORIGIN, 2));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, 0, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 9, 9, DMT_ORIGIN,
				  DMT_NO_PART));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_COPIES));
	EXPECT_TRUE(dmt_settled(t));
}

TEST_F(queued, copy_from_a_device_that_goes_is_not_made_and_its_io_asks_again)
{
	struct dmt *t = &self->g.t;
	struct dmt_map copy = dmt_plain(&self->g.spare, 1, 4, RW | COPY);
	struct dmt_map map = dmt_plain(&self->g.spare, 1, 5, RW);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	dmt_place_fill(&t->store, 1, 1, 7);
	ASSERT_TRUE(hold_a_copy(&self->g));
	copy.src = &t->store;
	ASSERT_EQ(0, dmt_map(t->ctl, id, &copy));
	ASSERT_EQ(0, suspend_behind_a_copy(&self->g));
	ASSERT_EQ(0, live(&self->g, t->name, ORIGIN | SPARE));
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 5, 1, 0, 2));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 4, 1, 0, DMT_NO_PART));
	EXPECT_TRUE(dmt_settled(t));
}

/* It waits for a copy of its block that is owed, and can be made. */
TEST_F(queued, mapping_to_a_device_that_goes_is_forgotten_while_it_drains)
{
	struct dmt *t = &self->g.t;
	struct dmt_map owed = dmt_plain(&self->g.spare, 1, 5, RW | COPY);
	struct dmt_map gone = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_map map = dmt_plain(&self->g.spare, 1, 5, RW);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	ASSERT_TRUE(hold_a_copy(&self->g));
	owed.src = &t->origin;
	ASSERT_EQ(0, dmt_map(t->ctl, id, &owed));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &gone));
	ASSERT_EQ(0, suspend_behind_a_copy(&self->g));
	/* The copy begins, and ends only when the device has gone. */
	dmt_gate_shut(&self->g.origin);
	ASSERT_EQ(0, live(&self->g, t->name, ORIGIN | SPARE));
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	dmt_gate_open(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 5, 1, DMT_ORIGIN, 2));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, 0, DMT_NO_PART));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_ERRORS));
	EXPECT_TRUE(dmt_settled(t));
}

/* --- where it copies from ---------------------------------------- */

/* Beside the one of most tests a mapped device that has the store only. */
FIXTURE(beside)
{
	struct dmt_gated g;
	struct dmt b;
};

FIXTURE_SETUP(beside)
{
	struct dmt *b = &self->b;

	dmt_gated_setup(&self->g);
	*b = self->g.t;
	snprintf(b->name, sizeof(b->name), "%.16s-b", self->g.t.name);
	if (dmt_dm_create(b->name) || live(&self->g, b->name, STORE))
		errx(1, "cannot make the mapped device %s", b->name);
	b->fd = dmt_dm_open(b->name, O_RDWR | O_DIRECT);
	if (b->fd < 0)
		err(1, "%s", b->name);
}

FIXTURE_TEARDOWN(beside)
{
	dmt_gate_mend(&self->g.origin);
	dmt_gate_mend(&self->g.store);
	dmt_dm_message(self->b.name, "fail_waiting");
	close(self->b.fd);
	if (dmt_dm_remove(self->b.name))
		warnx("cannot remove %s", self->b.name);
	dmt_gated_teardown(&self->g);
}

/*
 * A write of all of block 1 stands in for the copy from the origin, which goes while
 * it is held at the store. Returns the write, or NULL.
 */
static struct dmt_io *outlive_the_source(const struct dmt_gated *g,
					 const struct dmt *b)
{
	const struct dmt *t = &g->t;
	struct dmt_map cow = dmt_cow(t, 1, 4, RW);
	struct dmt_io *io = dmt_begin_write(b, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	dmt_gate_shut(&g->store);
	if (!id || dmt_map(t->ctl, id, &cow) ||
	    live(g, t->name, STORE | SPARE) || dmt_io_done(io))
		return NULL;
	return io;
}

TEST_F(beside, copy_is_not_tried_again_from_a_device_that_went_meanwhile)
{
	struct dmt *t = &self->g.t, *b = &self->b;
	struct dmt_map map = dmt_plain(&t->store, 1, 5, RW);
	struct dmt_io *io = outlive_the_source(&self->g, b);
	uint32_t id;

	ASSERT_NE(NULL, io);
	dmt_gate_break_writes(&self->g.store);
	EXPECT_EQ(-EIO, dmt_io_result(io));
	dmt_gate_mend(&self->g.store);
	EXPECT_TRUE(dmt_counts(t->name, DMT_REMAPS, 0));
	io = dmt_begin_read(b, 1);
	id = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, 0));
	dmt_io_free(io);
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, 0, DMT_NO_PART));
	EXPECT_TRUE(dmt_settled(t));
}

static bool copy_given_up(int fd, uint32_t id)
{
	struct dmt_msg msg;

	return dmt_expect(fd, DM_USERSPACE_REPORT, &msg) &&
	       msg.report.report == DMU_REPORT_COPY_FAILED &&
	       msg.report.block == 1 && msg.report.id_of_req == id &&
	       msg.report.error == -ENODEV;
}

/* Beside the write that has failed: that alone would mean that it is tried again. */
TEST_F(beside, copy_from_a_device_that_went_meanwhile_is_said_to_be_given_up)
{
	struct dmt *t = &self->g.t;
	struct dmt_msg msg;
	struct dmt_io *io;

	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_REPORTS));
	io = outlive_the_source(&self->g, &self->b);
	ASSERT_NE(NULL, io);
	dmt_gate_break_writes(&self->g.store);
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_TRUE(copy_given_up(t->ctl, 1));
	ASSERT_TRUE(dmt_expect(t->ctl, DM_USERSPACE_REPORT, &msg));
	EXPECT_EQ(DMU_REPORT_IO_FAILED, msg.report.report);
	EXPECT_TRUE(dmt_silent(t->ctl));
	dmt_gate_mend(&self->g.store);
}

TEST_F(beside, write_that_stands_in_does_not_need_the_source)
{
	struct dmt *t = &self->g.t, *b = &self->b;
	struct dmt_io *io = outlive_the_source(&self->g, b);

	ASSERT_NE(NULL, io);
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_read_matches(b->fd, 1, 2));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 2));
	EXPECT_TRUE(dmt_settled(t));
}

/* What was to be copied from its place, and so from the source, is no more either. */
TEST_F(beside, mapping_that_relies_on_such_a_copy_is_forgotten_with_it)
{
	struct dmt *t = &self->g.t, *b = &self->b;
	struct dmu_msg_run_response heir = dmt_run(1, 1, &t->store, 6, RW);
	struct dmt_map map = dmt_plain(&t->store, 1, 5, RW);
	struct dmt_io *io;
	uint32_t id;

	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS | DMU_EXT_REPORTS));
	io = outlive_the_source(&self->g, b);
	ASSERT_NE(NULL, io);
	dmt_run_copy(&heir, &t->store, 4);
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, heir));
	/* The write has failed, but follows the block to where it has moved. */
	dmt_gate_break_writes(&self->g.store);
	EXPECT_TRUE(copy_given_up(t->ctl, 1));
	EXPECT_TRUE(copy_given_up(t->ctl, 0));
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	dmt_gate_mend(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_read_matches(b->fd, 1, 2));
	EXPECT_TRUE(dmt_place_has(&t->store, 6, 1, 0, DMT_NO_PART));
	EXPECT_TRUE(dmt_settled(t));
}

TEST_HARNESS_MAIN
