// SPDX-License-Identifier: GPL-2.0-only
/*
 * Disks whose I/O is over in a hard interrupt, as that of real ones is, and not in
 * a thread, as that of loop devices: whatever is done when it comes back must leave
 * interrupts off. Lockdep, on the debug kernel, looks on.
 */
#define _GNU_SOURCE
#include "lib/fixture.h"
#include "lib/gate.h"
#include "lib/nullb.h"
#include "lib/run.h"
#include "lib/sysfs.h"
#include "lib/tracing.h"
#include <err.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define BAD	60u /* block of the origin that cannot be read */
#define MIB	1u /* of each disk: more than DMT_BLOCKS */

/**
 * @t: as in most tests, over disks that null_blk makes
 * @tracing: of what these disks finish
 * @able: there are such disks
 */
FIXTURE(hard)
{
	struct dmt t;
	struct dmt_tracing tracing;
	bool able;
};

/* The timer of null_blk, so long after the I/O has come: @slow, or at once. */
FIXTURE_VARIANT(hard)
{
	const char *nsec;
};

FIXTURE_VARIANT_ADD(hard, at_once) { .nsec = "1000" };
FIXTURE_VARIANT_ADD(hard, after_a_while) { .nsec = "10000000" };

static bool disk_make(struct dmt_disk *disk, const char *name,
		      const char *nsec, const char *bad)
{
	const struct dmt_nullb_attr attrs[] = {
		{ "memory_backed", "1" }, { "irqmode", "2" },
		{ "completion_nsec", nsec }, { "discard", "1" },
		{ bad ? "badblocks" : NULL, bad }, { NULL, NULL }
	};

	if (!dmt_nullb_make(disk, name, MIB, attrs))
		return false;
	disk->fd = open(disk->name, O_RDWR | O_CLOEXEC);
	if (disk->fd < 0)
		err(1, "%s", disk->name);
	return true;
}

/* Look anew: it was written to by another way. */
static bool place_has(const struct dmt_disk *disk, uint64_t place,
		      uint64_t block, int seed, int part)
{
	if (ioctl(disk->fd, BLKFLSBUF))
		err(1, "%s", disk->name);
	return dmt_place_has(disk, place, block, seed, part);
}

static void trace_disks(FIXTURE_DATA(hard) *self)
{
	const struct dmt *t = &self->t;
	char filter[128];

	if (!dmt_tracing_make(&self->tracing, t->name))
		errx(1, "this kernel has no tracefs");
	/* As the kernel numbers them. */
	snprintf(filter, sizeof(filter), "dev == %u || dev == %u",
		 major(t->origin.dev) << 20 | minor(t->origin.dev),
		 major(t->store.dev) << 20 | minor(t->store.dev));
	dmt_tracing_on(&self->tracing, "block/block_rq_complete", filter);
}

FIXTURE_SETUP(hard)
{
	struct dmt *t = &self->t;
	char params[256], bad[32];
	uint64_t block;

	snprintf(bad, sizeof(bad), "+%u-%u", BAD * DMT_SECTORS,
		 BAD * DMT_SECTORS + 1);
	self->able = disk_make(&t->origin, "hard-origin", variant->nsec, bad) &&
		     disk_make(&t->store, "hard-store", variant->nsec, NULL);
	if (!self->able)
		return;
	for (block = 0; block < BAD; block++)
		dmt_disk_fill(&t->origin, block, DMT_ORIGIN);
	fsync(t->origin.fd);
	snprintf(t->name, sizeof(t->name), "dmt%d", getpid());
	dmt_params(t, params, sizeof(params));
	if (dmt_dm_create(t->name) ||
	    dmt_dm_load(t->name, 0, DMT_BLOCKS * DMT_SECTORS, "userspace",
			params) ||
	    dmt_dm_resume(t->name))
		errx(1, "cannot make the mapped device %s", t->name);
	t->fd = dmt_dm_open(t->name, O_RDWR | O_DIRECT);
	if (t->fd < 0)
		err(1, "%s", t->name);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	trace_disks(self);
}

/* "task-pid [cpu] d.h1. time: ...": was that in a hard interrupt? */
static bool in_hard_interrupt(const char *line)
{
	const char *flags = strstr(line, "] ");

	return flags && (flags[4] == 'h' || flags[4] == 'H');
}

/* Did the I/O of these disks end in hard interrupts, and nowhere else? */
static bool ended_hard(const struct dmt_tracing *tracing)
{
	FILE *f = dmt_tracing_read(tracing);
	unsigned int hard = 0, other = 0;
	char line[512];

	while (fgets(line, sizeof(line), f)) {
		if (!strstr(line, "block_rq_complete"))
			continue;
		if (in_hard_interrupt(line))
			hard++;
		else if (!other++)
			warnx("not in a hard interrupt: %s", line);
	}
	fclose(f);
	return hard && !other;
}

FIXTURE_TEARDOWN(hard)
{
	struct dmt *t = &self->t;

	if (self->able) {
		close(t->ctl);
		/* Whatever a failed test left waiting. */
		dmt_dm_message(t->name, "error_if_no_daemon on");
		dmt_dm_message(t->name, "fail_waiting");
		close(t->fd);
		EXPECT_EQ(0, dmt_dm_remove(t->name));
		EXPECT_TRUE(ended_hard(&self->tracing));
		dmt_tracing_remove(&self->tracing);
		close(t->origin.fd);
		close(t->store.fd);
	}
	dmt_nullb_remove(&t->origin, "hard-origin");
	dmt_nullb_remove(&t->store, "hard-store");
}

#define NEEDS_NULL_BLK() do { \
	if (!self->able) \
		SKIP(return, "this kernel has no null_blk with a timer"); \
} while (0)

TEST_F(hard, hits_come_back)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_map bad = dmt_plain(&t->origin, 2, BAD, RO);
	struct dmt_msg msg;

	NEEDS_NULL_BLK();
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_REPORTS | DMU_EXT_DISCARD));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &bad));
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 2));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 2));
	EXPECT_TRUE(place_has(&t->store, 4, 1, 2, DMT_NO_PART));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 2)));
	ASSERT_TRUE(dmt_expect(t->ctl, DM_USERSPACE_REPORT, &msg));
	EXPECT_EQ(2, msg.report.block);
	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_DISCARD, DMT_BLOCK,
					  DMT_BLOCK, 0)));
	EXPECT_TRUE(dmt_expect(t->ctl, DM_USERSPACE_DISCARD, &msg));
}

/* Copies of several blocks at a time, by way of buffers and by way of kcopyd. */
TEST_F(hard, copies_and_what_is_held_come_back)
{
	struct dmt *t = &self->t;
	unsigned int buffers = dmt_param_get("copy_buffers");
	struct dmt_io *io[16];
	struct dmt_msg msg;
	unsigned int i, done;

	NEEDS_NULL_BLK();
	for (i = 0; i < 16; i++)
		io[i] = dmt_write_part(t->fd, i, 2);
	for (done = 0; done < 16;) {
		struct dmt_map map;

		ASSERT_TRUE(dmt_readable(t->ctl, DMT_PATIENCE));
		ASSERT_LT(0, dmt_read_msg(t->ctl, &msg));
		if (msg.header.msg_type == DM_USERSPACE_STATUS) {
			ASSERT_EQ(0, dmt_sync_done(t->ctl, msg.header.id));
			done++;
			continue;
		}
		dmt_param_set("copy_buffers", msg.request.org_block % 2 * 32);
		map = dmt_cow(t, msg.request.org_block,
			      msg.request.org_block + 8, RW | SYNC);
		ASSERT_EQ(0, dmt_map(t->ctl, msg.header.id, &map));
	}
	dmt_param_set("copy_buffers", buffers);
	for (i = 0; i < 16; i++)
		EXPECT_EQ(0, dmt_io_result(io[i]));
	for (i = 0; i < 16; i++)
		EXPECT_TRUE(place_has(&t->store, i + 8, i, DMT_ORIGIN, 2));
}

TEST_F(hard, copies_fail_and_writes_stand_in_for_them)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_cow(t, BAD, 5, RW | SYNC);
	struct dmt_io *io[2];
	uint32_t id;

	NEEDS_NULL_BLK();
	io[0] = dmt_write_part(t->fd, BAD, 2);
	id = dmt_expect_request(t->ctl, BAD, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(-EIO, dmt_io_result(io[0]));
	/* The whole of it needs no copy; what comes with it is held, too. */
	io[0] = dmt_begin_write(t, BAD, 3);
	ASSERT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	io[1] = dmt_begin_read(t, BAD);
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io[0]));
	EXPECT_EQ(0, dmt_io_wait(io[1]));
	EXPECT_TRUE(dmt_io_matches(io[1], 3));
	dmt_io_free(io[1]);
	EXPECT_TRUE(place_has(&t->store, 5, BAD, 3, DMT_NO_PART));
}

/* The last I/O of an epoch ends there, too. */
TEST_F(hard, replacements_and_verdicts_wait_for_it)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_map other = dmt_plain(&t->store, 1, 5, RW);
	struct dmt_io *io[3];
	unsigned int i;
	uint32_t id;

	NEEDS_NULL_BLK();
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	io[0] = dmt_begin_write(t, 1, 2);
	io[1] = dmt_begin_read(t, 1);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	io[2] = dmt_begin_write(t, 1, 3);
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, dmt_io_result(io[i]));
	EXPECT_TRUE(place_has(&t->store, 4, 1, 2, DMT_NO_PART));
	EXPECT_TRUE(place_has(&t->store, 5, 1, 3, DMT_NO_PART));
	io[0] = dmt_begin_write(t, 1, 4);
	io[1] = dmt_begin_read(t, 1);
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 1));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 42, DM_USERSPACE_INVAL_COMPLETE));
	EXPECT_EQ(0, dmt_io_result(io[0]));
	EXPECT_EQ(0, dmt_io_result(io[1]));
	/* Held while its mapping is replaced: it goes again when it comes back. */
	io[0] = dmt_begin_write(t, 1, 5);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	map.flags |= SYNC;
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	EXPECT_EQ(0, dmt_io_result(io[0]));
	EXPECT_TRUE(place_has(&t->store, 5, 1, 5, DMT_NO_PART));
}

TEST_HARNESS_MAIN
