// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tables that are suspended, replaced and taken away, over and over, under load
 * whose every result is known. DMT_SCALE=N does all of it N times as often.
 */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/fixture.h"
#include "lib/gate.h"
#include "lib/load.h"
#include "lib/sysfs.h"
#include <err.h>
#include <libdevmapper.h>
#include <stdlib.h>
#include <string.h>

/* --- under load ----------------------------------------------------------------- */

#define BEYOND 16u /* blocks that some tables have behind those of the load */

/**
 * @load: needs no more than the first two devices, and the first blocks
 * @spare: a third device, which comes and goes
 * @with_spare: it is in the table
 */
FIXTURE(churn)
{
	struct dmt_load load;
	struct dmt_disk spare;
	bool with_spare;
};

FIXTURE_SETUP(churn)
{
	dmt_load_setup(&self->load);
	dmt_disk_open(&self->spare, DMT_LOAD_BLOCKS * DMT_BLOCK, 0);
}

FIXTURE_TEARDOWN(churn)
{
	dmt_load_teardown(&self->load);
	dmt_disk_close(&self->spare);
}

/* More devices or fewer, another size, other feature args: whatever @how says. */
static int load_table(FIXTURE_DATA(churn) *self, unsigned int how)
{
	static const unsigned int more[] = {
		0, 5, BEYOND * DMT_SECTORS, 3, 2 * DMT_SECTORS + 1,
	};
	static const char * const features[] = {
		"", " 2 daemon_timeout 600",
		" 4 request_timeout 600 daemon_timeout 600", " 0",
	};
	struct dmt *t = &self->load.t;
	char params[512];
	size_t used;

	dmt_params(t, params, sizeof(params));
	used = strlen(params);
	self->with_spare = how % 2;
	if (self->with_spare)
		used += snprintf(params + used, sizeof(params) - used, " %u:%u",
				 major(self->spare.dev),
				 minor(self->spare.dev));
	snprintf(params + used, sizeof(params) - used, "%s",
		 features[how / 2 % 4]);
	return dmt_dm_load(t->name, 0, DMT_LOAD_BLOCKS * DMT_SECTORS +
			   more[how / 8 % 5], "userspace", params);
}

/*
 * One turn: with a daemon or without, with a flush or without, with the same
 * table or another, and with the cache full or empty.
 */
static int turn(FIXTURE_DATA(churn) *self, unsigned int i, bool killed)
{
	struct dmt *t = &self->load.t;
	bool other = i % 3 == 1;
	int r = 0;

	if (other && i % 2)
		r = load_table(self, (unsigned int)random());
	/* Where only a resume is asked for, it suspends with a flush itself. */
	if (!r && (killed || i % 4 || !other))
		r = dmt_dm_suspend(t->name, killed || i % 2);
	if (!r && other && i % 2 == 0)
		r = load_table(self, (unsigned int)random());
	if (!r && i % 7 == 6)
		r = dmt_dm_message(t->name, "drop_idle");
	return r ?: dmt_dm_resume(t->name);
}

TEST_F_TIMEOUT(churn, tables_change_under_load_and_nothing_is_lost, 280)
{
	struct dmt_load *load = &self->load;
	struct dmt *t = &load->t;
	unsigned int i;

	srandom(4711);
	dmt_load_daemon(load, 0);
	for (i = 0; i < dmt_turns(240); i++) {
		bool killed = i % 5 == 4;
		struct dmt_io *fsync = NULL;

		ASSERT_TRUE(dmt_load_run(load, random() % 24));
		if (killed)
			ASSERT_TRUE(dmt_load_kill(load));
		if (i % 2)
			fsync = dmt_io(t->fd, DMT_FSYNC, 0, 0, 0);
		ASSERT_EQ(0, turn(self, i, killed));
		if (killed)
			dmt_load_daemon(load, i);
		if (fsync)
			ASSERT_EQ(0, dmt_io_result(fsync));
	}
	EXPECT_TRUE(dmt_load_finish(load));
	EXPECT_TRUE(dmt_load_kill(load));
	EXPECT_TRUE(dmt_load_stored(load));
	EXPECT_LT(i / 2, load->book->commits);
	EXPECT_EQ(0, dmt_counter(t->name, DMT_ERRORS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_COPIES));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
}

/* Of a device that has gone, and of no other, what lives there is forgotten. */
TEST_F_TIMEOUT(churn, device_comes_and_goes_and_takes_its_own_along, 120)
{
	struct dmt *t = &self->load.t;
	uint64_t block;
	unsigned int i;

	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	for (block = 0; block < 100; block++) {
		struct dmt_map map = dmt_plain(&t->origin, block, block, RO);

		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	}
	for (i = 0; i < dmt_turns(40); i++) {
		ASSERT_EQ(0, load_table(self, 1 + 2 * i));
		ASSERT_EQ(0, dmt_dm_resume(t->name));
		EXPECT_EQ(100, dmt_counter(t->name, DMT_REMAPS));
		for (block = 200; block < 220; block++) {
			struct dmt_map map = dmt_plain(&self->spare, block,
						       block, RW);

			ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
			if (block % 10 == 0)
				ASSERT_EQ(0, dmt_write_block(t->fd, block, 2));
		}
		EXPECT_EQ(120, dmt_counter(t->name, DMT_REMAPS));
		ASSERT_EQ(0, load_table(self, 2 * i));
		ASSERT_EQ(0, dmt_dm_resume(t->name));
		EXPECT_EQ(100, dmt_counter(t->name, DMT_REMAPS));
		EXPECT_TRUE(dmt_read_matches(t->fd, i % 100, DMT_ORIGIN));
		EXPECT_TRUE(dmt_silent(t->ctl));
	}
}

/* --- the end of a device ------------------------------------------------------------ */

FIXTURE(ending)
{
	struct dmt_disk disk;
};

FIXTURE_SETUP(ending)
{
	uint64_t block;

	ASSERT_TRUE(dmt_keys_are_gone());
	dmt_disk_open(&self->disk, DMT_BLOCKS * DMT_BLOCK, 0);
	for (block = 0; block < DMT_BLOCKS; block++)
		dmt_disk_fill(&self->disk, block, DMT_ORIGIN);
}

FIXTURE_TEARDOWN(ending)
{
	dmt_disk_close(&self->disk);
	EXPECT_TRUE(dmt_keys_are_gone());
}

/* What "dmsetup wipe_table" and "dmsetup remove --force" do to an open device. */
static int wipe(const char *name, bool noflush)
{
	struct dm_task *task;
	int r;

	r = dmt_dm_load(name, 0, DMT_BLOCKS * DMT_SECTORS, "error", "");
	if (r)
		return r;
	task = dm_task_create(DM_DEVICE_RESUME);
	if (!task || !dm_task_set_name(task, name))
		errx(1, "libdevmapper: no memory");
	if (noflush)
		dm_task_no_flush(task);
	r = dm_task_run(task) ? 0 : -dm_task_get_errno(task);
	dm_task_destroy(task);
	return r;
}

static int remove_deferred(const char *name)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_REMOVE);
	int r;

	if (!task || !dm_task_set_name(task, name) ||
	    !dm_task_deferred_remove(task))
		errx(1, "libdevmapper: no memory");
	r = dm_task_run(task) ? 0 : -dm_task_get_errno(task);
	dm_task_destroy(task);
	return r;
}

/* I/O in every stage: served, sent, unread, held, and joined to what is sent. */
#define STAGES 5

static bool begin_all(const struct dmt_brief *b, struct dmt_io **io)
{
	struct dmt_map map = dmt_plain(b->disk, 1, 1, RW);
	uint32_t id;

	if (dmt_map(b->ctl, 0, &map))
		return false;
	io[0] = dmt_io_now(b->fd, DMT_READ, DMT_BLOCK, DMT_BLOCK, 0);
	io[1] = dmt_io_now(b->fd, DMT_WRITE, 2 * DMT_BLOCK, DMT_BLOCK, 2);
	id = dmt_expect_request(b->ctl, 2, RW);
	map = dmt_plain(b->disk, 2, 2, RW | SYNC);
	if (!id || dmt_map(b->ctl, id, &map) ||
	    !dmt_expect_status(b->ctl, id, DM_USERSPACE_SYNC_COMPLETE))
		return false;
	io[2] = dmt_io_now(b->fd, DMT_READ, 3 * DMT_BLOCK, DMT_BLOCK, 0);
	if (!dmt_expect_request(b->ctl, 3, RO))
		return false;
	io[3] = dmt_io_now(b->fd, DMT_READ, 3 * DMT_BLOCK, 512, 0);
	io[4] = dmt_io_now(b->fd, DMT_READ, 4 * DMT_BLOCK, DMT_BLOCK, 0);
	return true;
}

/* Without a flush no daemon is needed: all that waited meets the new table. */
TEST_F_TIMEOUT(ending, wiped_table_fails_what_waits, 120)
{
	struct dmt_io *io[STAGES];
	struct dmt_brief b;
	unsigned int i, j;

	for (i = 0; i < dmt_turns(40); i++) {
		dmt_brief_make(&b, "wiped", &self->disk);
		ASSERT_TRUE(begin_all(&b, io));
		if (i % 2)
			close(b.ctl);
		ASSERT_EQ(0, wipe("wiped", true));
		EXPECT_EQ(0, dmt_io_result(io[0]));
		for (j = 1; j < STAGES; j++)
			EXPECT_EQ(-EIO, dmt_io_result(io[j]));
		EXPECT_EQ(0, dmt_controls());
		EXPECT_EQ(-EIO, dmt_io_result(dmt_io(b.fd, DMT_READ, DMT_BLOCK,
						     DMT_BLOCK, 0)));
		if (i % 2 == 0)
			close(b.ctl);
		dmt_brief_remove(&b);
	}
}

/* With a flush it waits for the daemon, and nothing fails that it serves. */
TEST_F_TIMEOUT(ending, table_is_wiped_after_its_daemon_has_served_it, 120)
{
	unsigned int i, j;

	for (i = 0; i < dmt_turns(40); i++) {
		struct dmt_server server = { .nr = 1 };
		struct dmt_io *io[16];
		struct dmt_brief b;

		dmt_brief_make(&b, "wiped", &self->disk);
		server.served[0] = (struct dmt_served){ b.ctl, self->disk.dev };
		for (j = 0; j < 16; j++)
			io[j] = dmt_io_now(b.fd, DMT_READ, j / 2 * DMT_BLOCK,
					   DMT_BLOCK, 0);
		dmt_server_start(&server);
		ASSERT_EQ(0, wipe("wiped", false));
		for (j = 0; j < 16; j++)
			EXPECT_EQ(0, dmt_io_result(io[j]));
		dmt_server_stop(&server);
		close(b.ctl);
		dmt_brief_remove(&b);
	}
}

TEST_F_TIMEOUT(ending, deferred_removal_waits_for_the_last_one_to_close, 120)
{
	struct dmt_brief b;
	struct dmt_msg msg;
	struct dmt_io *io;
	unsigned int i;

	for (i = 0; i < dmt_turns(40); i++) {
		struct dmt_map map = dmt_plain(&self->disk, 3, 3, RW);
		uint32_t id;

		dmt_brief_make(&b, "deferred", &self->disk);
		io = dmt_io_now(b.fd, DMT_READ, 3 * DMT_BLOCK, DMT_BLOCK, 0);
		id = dmt_expect_request(b.ctl, 3, RO);
		ASSERT_NE(0, id);
		ASSERT_EQ(0, remove_deferred("deferred"));
		/* All goes on. */
		ASSERT_EQ(0, dmt_map(b.ctl, id, &map));
		EXPECT_EQ(0, dmt_io_result(io));
		EXPECT_TRUE(dmt_read_matches(b.fd, 3, DMT_ORIGIN));
		close(b.fd);
		/* Done in the background: the daemon is told. */
		EXPECT_TRUE(dmt_readable(b.ctl, DMT_PATIENCE));
		EXPECT_EQ(0, dmt_read_msg(b.ctl, &msg));
		EXPECT_EQ(-ENODEV, dmt_map(b.ctl, 0, &map));
		close(b.ctl);
		EXPECT_TRUE(dmt_keys_are_gone());
	}
}

DMT_SCALED_MAIN
