// SPDX-License-Identifier: GPL-2.0-only
/*
 * The end of devices: wiped, removed by force, or as soon as the last one closes
 * them.
 */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/fixture.h"
#include "lib/gate.h"
#include "lib/sysfs.h"
#include <err.h>
#include <libdevmapper.h>

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
