// SPDX-License-Identifier: GPL-2.0-only
/*
 * Several tables with one key: they share mappings, requests and copies, and
 * come and go one by one.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/load.h"
#include "lib/suspend.h"
#include "lib/sysfs.h"
#include <err.h>
#include <stdlib.h>
#include <string.h>

/* Two mapped devices with the same line: @a is as in most tests. */
FIXTURE(pair)
{
	struct dmt_gated g;
	struct dmt b;
};

FIXTURE_SETUP(pair)
{
	struct dmt *b = &self->b;
	char params[256];

	dmt_gated_setup(&self->g);
	*b = self->g.t;
	snprintf(b->name, sizeof(b->name), "%.16s-b", self->g.t.name);
	dmt_gated_params(&self->g, params, sizeof(params));
	if (dmt_dm_create(b->name) ||
	    dmt_dm_load(b->name, 0, DMT_BLOCKS * DMT_SECTORS, "userspace",
			params) ||
	    dmt_dm_resume(b->name))
		errx(1, "cannot make the mapped device %s", b->name);
	b->fd = dmt_dm_open(b->name, O_RDWR | O_DIRECT);
	if (b->fd < 0)
		err(1, "%s", b->name);
}

FIXTURE_TEARDOWN(pair)
{
	dmt_gate_mend(&self->g.origin);
	dmt_gate_mend(&self->g.store);
	dmt_dm_message(self->b.name, "fail_waiting");
	dmt_dm_resume(self->b.name);
	close(self->b.fd);
	if (dmt_dm_remove(self->b.name))
		warnx("cannot remove %s", self->b.name);
	dmt_gated_teardown(&self->g);
}

/* A line with some of the three disks. */
static int load(const struct dmt_gated *g, const char *name, bool store)
{
	const struct dmt *t = &g->t;
	char params[256];
	int n;

	n = snprintf(params, sizeof(params), "%s %u %u:%u", t->name, DMT_BLOCK,
		     major(t->origin.dev), minor(t->origin.dev));
	if (store)
		snprintf(params + n, sizeof(params) - n, " %u:%u",
			 major(t->store.dev), minor(t->store.dev));
	return dmt_dm_load(name, 0, DMT_BLOCKS * DMT_SECTORS, "userspace",
			   params);
}

/* --- one of the two is suspended ---------------------------------------- */

TEST_F(pair, request_outlives_the_suspension_of_who_asked_first)
{
	struct dmt *a = &self->g.t, *b = &self->b;
	struct dmt_map map = dmt_plain(&a->origin, 1, 1, RO);
	struct dmt_io *first = dmt_begin_read(a, 1);
	struct dmt_io *second = dmt_begin_read(b, 1);
	uint32_t id = dmt_expect_request(a->ctl, 1, RO);

	ASSERT_NE(0, id);
	EXPECT_TRUE(dmt_silent(a->ctl));
	ASSERT_EQ(0, dmt_suspend(a, true));
	EXPECT_EQ(1, dmt_counter(b->name, DMT_SENT));
	ASSERT_EQ(0, dmt_map(a->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_wait(second));
	EXPECT_TRUE(dmt_io_matches(second, DMT_ORIGIN));
	dmt_io_free(second);
	EXPECT_TRUE(dmt_settled_within(a));
	EXPECT_FALSE(dmt_io_done(first));
	ASSERT_EQ(0, dmt_dm_resume(a->name));
	EXPECT_EQ(0, dmt_io_wait(first));
	EXPECT_TRUE(dmt_io_matches(first, DMT_ORIGIN));
	dmt_io_free(first);
	EXPECT_TRUE(dmt_silent(a->ctl));
}

TEST_F(pair, request_outlives_the_suspension_of_who_joined_it)
{
	struct dmt *a = &self->g.t, *b = &self->b;
	struct dmt_map map = dmt_plain(&a->origin, 1, 1, RO);
	struct dmt_io *first = dmt_begin_read(a, 1);
	struct dmt_io *second = dmt_begin_read(b, 1);
	uint32_t id = dmt_expect_request(a->ctl, 1, RO);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_suspend(b, true));
	ASSERT_EQ(0, dmt_map(a->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(first));
	EXPECT_TRUE(dmt_settled_within(a));
	EXPECT_FALSE(dmt_io_done(second));
	ASSERT_EQ(0, dmt_dm_resume(b->name));
	EXPECT_EQ(0, dmt_io_result(second));
	EXPECT_TRUE(dmt_silent(a->ctl));
}

TEST_F(pair, unread_request_outlives_the_suspension_of_who_asked_first)
{
	struct dmt *a = &self->g.t, *b = &self->b;
	struct dmt_map map = dmt_plain(&a->origin, 2, 2, RO);
	struct dmt_io *before = dmt_begin_read(b, 1);
	struct dmt_io *first = dmt_begin_read(a, 2);
	struct dmt_io *second = dmt_begin_read(b, 2);
	struct dmt_io *behind = dmt_begin_read(b, 3);
	uint32_t id;

	ASSERT_EQ(0, dmt_suspend(a, true));
	EXPECT_EQ(3, dmt_counter(b->name, DMT_WAITING));
	/* In its place among the others. */
	ASSERT_EQ(0, dmt_fail(a->ctl, dmt_expect_request(a->ctl, 1, RO)));
	id = dmt_expect_request(a->ctl, 2, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_fail(a->ctl, dmt_expect_request(a->ctl, 3, RO)));
	ASSERT_EQ(0, dmt_map(a->ctl, id, &map));
	EXPECT_EQ(-EIO, dmt_io_result(before));
	EXPECT_EQ(0, dmt_io_result(second));
	EXPECT_EQ(-EIO, dmt_io_result(behind));
	ASSERT_EQ(0, dmt_dm_resume(a->name));
	EXPECT_EQ(0, dmt_io_result(first));
}

TEST_F(pair, request_that_nobody_waits_for_ends_and_is_made_again)
{
	struct dmt *a = &self->g.t, *b = &self->b;
	struct dmt_map map = dmt_plain(&a->origin, 1, 1, RO);
	struct dmt_io *first = dmt_begin_read(a, 1);
	struct dmt_io *second = dmt_begin_read(b, 1);
	uint32_t id = dmt_expect_request(a->ctl, 1, RO);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_suspend(a, true));
	ASSERT_EQ(0, dmt_suspend(b, true));
	EXPECT_EQ(0, dmt_counter(a->name, DMT_SENT));
	ASSERT_EQ(0, dmt_dm_resume(b->name));
	ASSERT_EQ(0, dmt_dm_resume(a->name));
	id = dmt_expect_request(a->ctl, 1, RO);
	ASSERT_NE(0, id);
	EXPECT_TRUE(dmt_silent(a->ctl));
	ASSERT_EQ(0, dmt_map(a->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(first));
	EXPECT_EQ(0, dmt_io_result(second));
}

TEST_F(pair, flush_waits_for_its_own_io_only)
{
	struct dmt *a = &self->g.t, *b = &self->b;
	struct dmt_io *io = dmt_begin_read(b, 1);
	uint32_t id = dmt_expect_request(a->ctl, 1, RO);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_suspend(a, false));
	ASSERT_EQ(0, dmt_dm_resume(a->name));
	ASSERT_EQ(0, dmt_fail(a->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

TEST_F(pair, copy_serves_who_is_not_suspended)
{
	struct dmt *a = &self->g.t, *b = &self->b;
	struct dmt_map map = dmt_cow(a, 1, 4, RW);
	struct dmt_io *first, *second;
	struct dmt_call call;

	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(a->ctl, 0, &map));
	ASSERT_TRUE(dmt_counts(a->name, DMT_COPIES, 1));
	first = dmt_begin_read(a, 1);
	second = dmt_begin_read(b, 1);
	/* Whichever table's devices it is made on. */
	dmt_call_begin(&call, a, a->name, DMT_SUSPEND_NOFLUSH);
	(void)dmt_call_waits(&call);
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_call_result(&call));
	EXPECT_EQ(0, dmt_io_wait(second));
	EXPECT_TRUE(dmt_io_matches(second, DMT_ORIGIN));
	dmt_io_free(second);
	EXPECT_TRUE(dmt_settled_within(a));
	EXPECT_FALSE(dmt_io_done(first));
	ASSERT_EQ(0, dmt_dm_resume(a->name));
	EXPECT_EQ(0, dmt_io_wait(first));
	EXPECT_TRUE(dmt_io_matches(first, DMT_ORIGIN));
	dmt_io_free(first);
}

TEST_F(pair, ack_releases_who_is_not_suspended)
{
	struct dmt *a = &self->g.t, *b = &self->b;
	struct dmt_map map = dmt_plain(&a->store, 1, 4, RW | SYNC);
	struct dmt_io *first = dmt_begin_write(a, 1, 2);
	struct dmt_io *second = dmt_io_now(b->fd, DMT_WRITE, DMT_BLOCK + 2048,
					   512, 3);
	uint32_t id = dmt_expect_request(a->ctl, 1, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(a->ctl, id, &map));
	ASSERT_TRUE(dmt_expect_status(a->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	ASSERT_EQ(0, dmt_suspend(a, true));
	EXPECT_TRUE(dmt_settled_within(a));
	EXPECT_FALSE(dmt_io_done(second));
	ASSERT_EQ(0, dmt_sync_done(a->ctl, id));
	EXPECT_EQ(0, dmt_io_result(second));
	EXPECT_TRUE(dmt_settled_within(a));
	EXPECT_FALSE(dmt_io_done(first));
	ASSERT_EQ(0, dmt_dm_resume(a->name));
	EXPECT_EQ(0, dmt_io_result(first));
	EXPECT_TRUE(dmt_silent(a->ctl));
}

/* --- tables that differ ---------------------------------------- */

TEST_F(pair, table_without_the_device_fails_what_the_other_one_serves)
{
	struct dmt *a = &self->g.t, *b = &self->b;
	struct dmt_map map = dmt_plain(&a->store, 1, 4, RW);
	struct dmt_map cow = dmt_cow(a, 3, 6, RW);
	struct dmt_io *one, *two;
	uint32_t id;

	ASSERT_EQ(0, load(&self->g, b->name, false));
	ASSERT_EQ(0, dmt_dm_resume(b->name));
	ASSERT_EQ(0, dmt_map(a->ctl, 0, &map));
	EXPECT_EQ(0, dmt_write_block(a->fd, 1, 2));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(b, 1)));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_write(b, 1, 3)));
	EXPECT_TRUE(dmt_read_matches(a->fd, 1, 2));
	/* Also what waited together. */
	one = dmt_begin_read(b, 2);
	two = dmt_begin_read(a, 2);
	id = dmt_expect_request(a->ctl, 2, RO);
	ASSERT_NE(0, id);
	map.block = 2;
	ASSERT_EQ(0, dmt_map(a->ctl, id, &map));
	EXPECT_EQ(-EIO, dmt_io_result(one));
	EXPECT_EQ(0, dmt_io_result(two));
	/* A whole write that cannot stand in, and a copy that B cannot make. */
	one = dmt_begin_write(b, 3, 5);
	id = dmt_expect_request(a->ctl, 3, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(a->ctl, id, &cow));
	EXPECT_EQ(-EIO, dmt_io_result(one));
	EXPECT_TRUE(dmt_read_matches(a->fd, 3, DMT_ORIGIN));
}

/* --- reload ---------------------------------------- */

TEST_F(gated, reload_keeps_the_mappings)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_map cow = dmt_cow(t, 2, 5, RW);
	uint64_t misses;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &cow));
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 2));
	EXPECT_TRUE(dmt_read_matches(t->fd, 2, DMT_ORIGIN));
	misses = dmt_counter(t->name, DMT_MISSES);
	ASSERT_EQ(0, load(&self->g, t->name, true));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	EXPECT_EQ(2, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 2));
	EXPECT_TRUE(dmt_read_matches(t->fd, 2, DMT_ORIGIN));
	EXPECT_EQ(misses, dmt_counter(t->name, DMT_MISSES));
	/* The same daemon, and copies on the new table's devices. */
	cow = dmt_cow(t, 3, 6, RW);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &cow));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, DMT_ORIGIN));
}

TEST_F(gated, reload_keeps_a_copy_that_failed_in_mind)
{
	struct dmt *t = &self->g.t;
	struct dmt_map cow = dmt_cow(t, 2, 5, RW);

	dmt_gate_break(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &cow));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 2)));
	dmt_gate_mend(&self->g.origin);
	ASSERT_EQ(0, load(&self->g, t->name, true));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	EXPECT_TRUE(dmt_read_matches(t->fd, 2, DMT_ORIGIN));
}

TEST_F(gated, reload_forgets_what_lives_on_a_device_that_has_gone)
{
	struct dmt *t = &self->g.t;
	struct dmt_map gone = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_map stays = dmt_plain(&t->origin, 2, 2, RW);
	struct dmt_map failed = dmt_cow(t, 3, 5, RW);
	struct dmt_io *io;
	uint64_t block;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &gone));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &stays));
	dmt_gate_break(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &failed));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 3)));
	dmt_gate_mend(&self->g.store);
	ASSERT_EQ(0, load(&self->g, t->name, false));
	/* Nothing has changed before it is resumed. */
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 2));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_TRUE(dmt_read_matches(t->fd, 2, DMT_ORIGIN));
	EXPECT_EQ(-ENODEV, dmt_map(t->ctl, 0, &gone));
	for (block = 1; block <= 3; block += 2) {
		uint32_t id;

		io = dmt_begin_read(t, block);
		id = dmt_expect_request(t->ctl, block, RO);
		ASSERT_NE(0, id);
		ASSERT_EQ(0, dmt_fail(t->ctl, id));
		EXPECT_EQ(-EIO, dmt_io_result(io));
	}
}

TEST_F(gated, io_that_was_taken_back_comes_to_the_new_table)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW);
	struct dmt_map sync = dmt_plain(&t->store, 2, 6, RW | SYNC);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2), *other;
	uint32_t id = dmt_expect_request(t->ctl, 1, RW), next;

	ASSERT_NE(0, id);
	other = dmt_write_part(t->fd, 2, 2);
	next = dmt_expect_request(t->ctl, 2, RW);
	ASSERT_NE(0, next);
	ASSERT_EQ(0, dmt_map(t->ctl, next, &sync));
	ASSERT_TRUE(dmt_expect_status(t->ctl, next,
				      DM_USERSPACE_SYNC_COMPLETE));
	ASSERT_EQ(0, dmt_suspend(t, true));
	ASSERT_EQ(0, load(&self->g, t->name, true));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, DMT_ORIGIN, 2));
	EXPECT_FALSE(dmt_io_done(other));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, next));
	EXPECT_EQ(0, dmt_io_result(other));
}

/* --- remove ---------------------------------------- */

TEST_F(gated, remove_waits_for_copies)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW);
	struct dmt_map queued = dmt_cow(t, 2, 5, RW);
	struct dmt_call call;
	struct dmt_msg msg;

	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &queued));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 2));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 1));
	close(t->fd);
	t->fd = -1;
	dmt_call_begin(&call, NULL, t->name, DMT_REMOVE);
	ASSERT_TRUE(dmt_call_waits(&call));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_call_result(&call));
	/* Whatever there still was to tell, then the end. */
	while (dmt_read_msg(t->ctl, &msg) > 0)
		EXPECT_EQ(DM_USERSPACE_STATUS, msg.header.msg_type);
	EXPECT_EQ(0, dmt_read_msg(t->ctl, &msg));
	EXPECT_EQ(-ENODEV, dmt_map(t->ctl, 0, &map));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, DMT_ORIGIN, DMT_NO_PART));
	/* For the teardown. */
	ASSERT_EQ(0, dmt_dm_create(t->name));
}

/* --- under load ---------------------------------------- */

FIXTURE(load)
{
	struct dmt_load load;
};

FIXTURE_SETUP(load)
{
	dmt_load_setup(&self->load);
}

FIXTURE_TEARDOWN(load)
{
	dmt_load_teardown(&self->load);
}

/* With and without a flush, a daemon, a new table, and remaps in the cache. */
TEST_F_TIMEOUT(load, suspensions_lose_and_corrupt_nothing, 600)
{
	struct dmt_load *load = &self->load;
	struct dmt *t = &load->t;
	char params[256];
	unsigned int i;

	srandom(815);
	dmt_params(t, params, sizeof(params));
	dmt_load_daemon(load, 0);
	for (i = 0; i < dmt_often(60); i++) {
		bool killed = i % 3 == 2;

		ASSERT_TRUE(dmt_load_run(load, random() % 32));
		if (killed)
			ASSERT_TRUE(dmt_load_kill(load));
		ASSERT_EQ(0, dmt_suspend(t, killed || i % 2));
		if (i % 5 == 4)
			ASSERT_EQ(0, dmt_dm_load(t->name, 0, DMT_LOAD_BLOCKS *
						 DMT_SECTORS, "userspace",
						 params));
		if (i % 7 == 6)
			ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
		ASSERT_EQ(0, dmt_dm_resume(t->name));
		if (killed)
			dmt_load_daemon(load, i);
	}
	EXPECT_TRUE(dmt_load_finish(load));
	EXPECT_TRUE(dmt_load_kill(load));
	EXPECT_TRUE(dmt_load_stored(load));
	EXPECT_LT(dmt_often(60), load->book->commits);
	EXPECT_EQ(0, dmt_counter(t->name, DMT_ERRORS));
}

TEST_HARNESS_MAIN
