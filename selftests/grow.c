// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tables that grow: what was their short last block is asked for anew, since
 * only that much of its place was its own, and no other block is.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/suspend.h"
#include "lib/sysfs.h"
#include <err.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

#define LAST	10u	/* the short last block ... */
#define END	5u	/* ... and its length in sectors */
#define SHORT	(LAST * DMT_SECTORS + END)
#define LONG	(20 * DMT_SECTORS)

/* A device whose last block is short. */
FIXTURE(small)
{
	struct dmt_gated g;
};

FIXTURE_SETUP(small)
{
	dmt_gated_setup_sectors(&self->g, SHORT);
}

FIXTURE_TEARDOWN(small)
{
	dmt_gated_teardown(&self->g);
}

static int load(const struct dmt_gated *g, const char *name, uint64_t sectors)
{
	char params[256];

	dmt_gated_params(g, params, sizeof(params));
	return dmt_dm_load(name, 0, sectors, "userspace", params);
}

static int resize(const struct dmt_gated *g, uint64_t sectors)
{
	return load(g, g->t.name, sectors) ?: dmt_dm_resume(g->t.name);
}

/* The sectors of block LAST from @from to @to, in the pattern of a version. */
static struct dmt_io *begin(const struct dmt *t, enum dmt_op op,
			    unsigned int from, unsigned int to, int seed)
{
	return dmt_io_now(t->fd, op, LAST * DMT_BLOCK + from * 512,
			  (to - from) * 512, seed);
}

/* Do the first sectors of a place hold that, and the rest of it that? */
static bool place_is(const struct dmt_disk *disk, uint64_t place, int head,
		     int tail)
{
	uint8_t want[DMT_BLOCK], got[DMT_BLOCK], rest[DMT_BLOCK];

	dmt_pattern(want, END * 512, LAST, head);
	dmt_pattern(rest, sizeof(rest), place, tail);
	memcpy(want + END * 512, rest + END * 512, sizeof(rest) - END * 512);
	if (pread(disk->fd, got, sizeof(got), (off_t)(place * DMT_BLOCK)) !=
	    sizeof(got))
		err(1, "reading behind %s", disk->name);
	return !memcmp(want, got, sizeof(got));
}

#define NEIGHBOUR 9 /* version of what lies behind the short block's place */

/*
 * Map the short block to a place of the store, of which it has the beginning;
 * somebody else has the rest. All other blocks are mapped in whole.
 */
static int use(const struct dmt *t)
{
	struct dmt_map map = dmt_cow(t, LAST, LAST, RW);
	uint64_t block;
	int r = 0;

	dmt_place_fill(&t->store, LAST, LAST, NEIGHBOUR);
	for (block = 0; block < LAST && !r; block++) {
		struct dmt_map full = dmt_plain(&t->origin, block, block, RW);

		r = dmt_map(t->ctl, 0, &full);
	}
	r = r ?: dmt_map(t->ctl, 0, &map) ?:
	    dmt_io_result(begin(t, DMT_WRITE, 0, END, 2));
	if (!place_is(&t->store, LAST, 2, NEIGHBOUR))
		errx(1, "the short block is not where it should be");
	return r;
}

TEST_F(small, short_end_is_asked_for_anew_and_its_neighbour_is_not_touched)
{
	struct dmt *t = &self->g.t;
	struct dmt_disk *spare = &self->g.spare;
	struct dmt_map map = dmt_plain(spare, LAST, 3, RW | COPY);
	struct dmt_io *write, *read;
	uint64_t block;
	uint32_t id;

	ASSERT_EQ(0, use(t));
	ASSERT_EQ(0, resize(&self->g, LONG));
	EXPECT_EQ(LAST, dmt_counter(t->name, DMT_REMAPS));
	/* Mapped, and in whole: nobody is asked. */
	for (block = 0; block < LAST; block++)
		EXPECT_TRUE(dmt_read_matches(t->fd, block, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));

	write = begin(t, DMT_WRITE, END, END + 1, 4);
	id = dmt_expect_request(t->ctl, LAST, RW);
	ASSERT_NE(0, id);
	read = begin(t, DMT_READ, 0, END, 0);
	dmt_grace_period();
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_FALSE(dmt_io_done(read));
	/* All of it is copied now. */
	map.src = &t->store;
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_EQ(0, dmt_io_wait(read));
	EXPECT_TRUE(dmt_io_matches(read, 2));
	dmt_io_free(read);
	EXPECT_TRUE(place_is(&t->store, LAST, 2, NEIGHBOUR));
	write = begin(t, DMT_WRITE, 0, DMT_SECTORS, 5);
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_place_has(spare, 3, LAST, 5, DMT_NO_PART));
	EXPECT_TRUE(place_is(&t->store, LAST, 2, NEIGHBOUR));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(small, a_sector_more_is_enough_and_no_sector_more_is_not)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io;
	uint32_t id;

	ASSERT_EQ(0, use(t));
	ASSERT_EQ(0, resize(&self->g, SHORT));
	EXPECT_EQ(LAST + 1, dmt_counter(t->name, DMT_REMAPS));
	ASSERT_EQ(0, resize(&self->g, SHORT - 2));
	EXPECT_EQ(LAST + 1, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(0, dmt_io_result(begin(t, DMT_READ, 0, END - 2, 0)));
	EXPECT_TRUE(dmt_silent(t->ctl));
	ASSERT_EQ(0, resize(&self->g, SHORT + 1));
	EXPECT_EQ(LAST, dmt_counter(t->name, DMT_REMAPS));
	io = begin(t, DMT_READ, END, END + 1, 0);
	id = dmt_expect_request(t->ctl, LAST, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

TEST_F(small, table_that_is_only_loaded_counts_for_nothing)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&self->g.spare, LAST, DMT_BLOCKS - 1,
				       RW);
	struct dmt_map cow = dmt_cow(t, LAST, 30, RW);
	struct dmt_io *io;
	uint32_t id;

	/* So far into the last block of the disk that only END fit. */
	map.offset = DMT_SECTORS - END;
	dmt_place_fill(&t->store, 30, LAST, NEIGHBOUR);
	ASSERT_EQ(0, load(&self->g, t->name, LONG));
	EXPECT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, dmt_map(t->ctl, 0, &cow));
	EXPECT_EQ(0, dmt_io_result(begin(t, DMT_READ, 0, END, 0)));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	EXPECT_EQ(-ERANGE, dmt_map(t->ctl, 0, &map));
	io = begin(t, DMT_READ, 0, DMT_SECTORS, 0);
	id = dmt_expect_request(t->ctl, LAST, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &cow));
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
	dmt_io_free(io);
	EXPECT_TRUE(dmt_place_has(&t->store, 30, LAST, DMT_ORIGIN,
				  DMT_NO_PART));
	/* Nor does one that is loaded and shorter. */
	ASSERT_EQ(0, load(&self->g, t->name, SHORT));
	EXPECT_EQ(-ERANGE, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, dmt_io_result(begin(t, DMT_READ, 0, DMT_SECTORS, 0)));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* A copy of the short block that has failed is not tried again at that length. */
TEST_F(small, copy_that_failed_is_asked_for_anew)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, LAST, 7, RW);
	struct dmt_io *io;
	uint32_t id;

	dmt_gate_break(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(-EIO, dmt_io_result(begin(t, DMT_READ, 0, 1, 0)));
	dmt_gate_mend(&self->g.origin);
	ASSERT_EQ(0, resize(&self->g, LONG));
	io = begin(t, DMT_READ, 0, DMT_SECTORS, 0);
	id = dmt_expect_request(t->ctl, LAST, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
	dmt_io_free(io);
	EXPECT_TRUE(dmt_place_has(&t->store, 7, LAST, DMT_ORIGIN,
				  DMT_NO_PART));
}

TEST_F(small, io_that_was_held_for_sync_follows_to_the_new_place)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, LAST, 7, RW | SYNC);
	struct dmt_io *io = begin(t, DMT_WRITE, 0, END, 2);
	uint32_t id = dmt_expect_request(t->ctl, LAST, RW), again;

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	ASSERT_EQ(0, dmt_suspend(t, true));
	ASSERT_EQ(0, resize(&self->g, LONG));
	again = dmt_expect_request(t->ctl, LAST, RW);
	ASSERT_NE(0, again);
	EXPECT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_FALSE(dmt_io_done(io));
	map = dmt_plain(&self->g.spare, LAST, 8, RW);
	ASSERT_EQ(0, dmt_map(t->ctl, again, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(place_is(&self->g.spare, 8, 2, 0));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
}

/* --- fsync -------------------------------------------------------------------------- */

/*
 * An fsync is at a device, and cannot end: neither can the suspension that a new table
 * begins with, which is nobody's fault; and then both do.
 */
FIXTURE(resized)
{
	struct dmt_gated g;
};

FIXTURE_VARIANT(resized)
{
	uint64_t sectors;
	enum dmt_verb verb;
};

FIXTURE_VARIANT_ADD(resized, larger_by_a_resume) {
	.sectors = LONG, .verb = DMT_RESUME,
};
FIXTURE_VARIANT_ADD(resized, smaller_by_a_resume) {
	.sectors = LAST * DMT_SECTORS, .verb = DMT_RESUME,
};
FIXTURE_VARIANT_ADD(resized, larger_after_a_suspension) {
	.sectors = LONG, .verb = DMT_SUSPEND,
};
FIXTURE_VARIANT_ADD(resized, larger_without_a_flush) {
	.sectors = LONG, .verb = DMT_SUSPEND_NOFLUSH,
};

FIXTURE_SETUP(resized)
{
	dmt_gated_setup_sectors(&self->g, SHORT);
}

FIXTURE_TEARDOWN(resized)
{
	dmt_gated_teardown(&self->g);
}

static uint64_t size_of(const struct dmt *t)
{
	uint64_t bytes;

	if (ioctl(t->fd, BLKGETSIZE64, &bytes))
		err(1, "%s", t->name);
	return bytes / 512;
}

TEST_F(resized, while_fsync_runs)
{
	struct dmt *t = &self->g.t;
	struct dmt_call fsync, call;
	struct dmt_io *late;
	struct dmt_stat before = dmt_stat(self->g.store.behind);

	ASSERT_EQ(0, use(t));
	dmt_gate_shut(&self->g.store);
	dmt_call_begin(&fsync, t, t->name, DMT_FDATASYNC);
	ASSERT_TRUE(dmt_call_waits(&fsync));
	ASSERT_EQ(0, load(&self->g, t->name, variant->sectors));
	dmt_call_begin(&call, t, t->name, variant->verb);
	ASSERT_TRUE(dmt_call_waits(&call));
	EXPECT_FALSE(dmt_call_ended(&fsync));
	EXPECT_EQ(SHORT, size_of(t));
	/* What comes now belongs to the new table. */
	late = dmt_io(t->fd, DMT_FSYNC, 0, 0, 0);
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_call_result(&fsync));
	EXPECT_EQ(0, dmt_call_result(&call));
	if (variant->verb != DMT_RESUME)
		EXPECT_EQ(0, dmt_dm_resume(t->name));
	EXPECT_EQ(0, dmt_io_result(late));
	EXPECT_EQ(variant->sectors, size_of(t));
	EXPECT_LE(2, dmt_stat_since(self->g.store.behind, &before).flushes);
	/* Nobody is asked but for what was the short block. */
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
	EXPECT_TRUE(place_is(&t->store, LAST, 2, NEIGHBOUR));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_EQ(LAST, dmt_counter(t->name, DMT_REMAPS));
}

/* --- two devices with one key ----------------------------------------------------- */

/* The next request, of the block; news of other things is read, and no more. */
static uint32_t next_request(int ctl, uint64_t block)
{
	struct dmt_msg msg;

	while (dmt_readable(ctl, DMT_PATIENCE) && dmt_read_msg(ctl, &msg) > 0)
		if (msg.header.msg_type == DM_USERSPACE_MAP_BLOCK_REQ)
			return msg.request.org_block == block ? msg.header.id : 0;
	return 0;
}

TEST_F(small, longer_table_of_another_device_makes_it_longer_for_both)
{
	struct dmt *t = &self->g.t, other = self->g.t;
	struct dmt_map map = dmt_cow(t, LAST, 30, RW);
	struct dmt_io *io;
	uint32_t id;

	snprintf(other.name, sizeof(other.name), "%.24s-b", t->name);
	ASSERT_EQ(0, use(t));
	ASSERT_EQ(0, dmt_dm_create(other.name));
	ASSERT_EQ(0, load(&self->g, other.name, LONG));
	EXPECT_EQ(LAST + 1, dmt_counter(t->name, DMT_REMAPS));
	ASSERT_EQ(0, dmt_dm_resume(other.name));
	EXPECT_EQ(LAST, dmt_counter(t->name, DMT_REMAPS));
	io = begin(t, DMT_READ, 0, END, 0);
	id = dmt_expect_request(t->ctl, LAST, RO);
	ASSERT_NE(0, id);
	/* As much as the longer one needs, whoever asks. */
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 30, LAST, DMT_ORIGIN,
				  DMT_NO_PART));
	other.fd = dmt_dm_open(other.name, O_RDWR | O_DIRECT);
	ASSERT_LE(0, other.fd);
	EXPECT_TRUE(dmt_read_matches(other.fd, LAST, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
	/* The shorter one goes: what there is will do. */
	close(t->fd);
	t->fd = other.fd;
	ASSERT_EQ(0, dmt_dm_remove(t->name));
	EXPECT_TRUE(dmt_read_matches(other.fd, LAST, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
	close(other.fd);
	t->fd = -1;
	ASSERT_EQ(0, dmt_dm_create(t->name));
	ASSERT_EQ(0, dmt_dm_remove(other.name));
}

/*
 * So that the block is asked for although a write to it is held, of which the daemon
 * has not heard: it says the same again.
 */
TEST_F(small, longer_table_of_another_device_does_not_lose_what_is_held)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, LAST, 7, RW | SYNC);
	struct dmt_io *write, *read;
	char other[64];
	uint32_t ids[2];

	snprintf(other, sizeof(other), "%.24s-b", t->name);
	write = begin(t, DMT_WRITE, 0, END, 2);
	ids[0] = dmt_expect_request(t->ctl, LAST, RW);
	ASSERT_NE(0, ids[0]);
	ASSERT_EQ(0, dmt_map(t->ctl, ids[0], &map));
	ASSERT_TRUE(dmt_readable(t->ctl, DMT_PATIENCE));
	ASSERT_EQ(0, dmt_dm_create(other));
	ASSERT_EQ(0, load(&self->g, other, LONG));
	ASSERT_EQ(0, dmt_dm_resume(other));
	read = begin(t, DMT_READ, 0, END, 0);
	ids[1] = next_request(t->ctl, LAST);
	ASSERT_NE(0, ids[1]);
	ASSERT_EQ(0, dmt_map(t->ctl, ids[1], &map));
	/* Too late, or in vain. */
	ASSERT_EQ(0, dmt_sync_done(t->ctl, ids[0]));
	ASSERT_TRUE(dmt_expect_status(t->ctl, ids[1],
				      DM_USERSPACE_SYNC_COMPLETE));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, ids[1]));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_EQ(0, dmt_io_result(read));
	read = begin(t, DMT_READ, 0, END, 0);
	EXPECT_EQ(0, dmt_io_wait(read));
	EXPECT_TRUE(dmt_io_matches(read, 2));
	dmt_io_free(read);
	EXPECT_TRUE(dmt_silent(t->ctl));
	ASSERT_EQ(0, dmt_dm_remove(other));
}

/* The key lives on, and forgets how short the block was. */
TEST_F(small, table_that_was_removed_and_comes_back_longer_asks_anew)
{
	struct dmt *t = &self->g.t;
	char other[64];
	struct dmt_io *io;
	uint32_t id;

	snprintf(other, sizeof(other), "%s-b", t->name);
	ASSERT_EQ(0, dmt_dm_create(other));
	/* Which has all but the last block. */
	ASSERT_EQ(0, load(&self->g, other, LAST * DMT_SECTORS));
	ASSERT_EQ(0, dmt_dm_resume(other));
	ASSERT_EQ(0, use(t));
	close(t->fd);
	ASSERT_EQ(0, dmt_dm_remove(t->name));
	ASSERT_EQ(0, dmt_dm_create(t->name));
	ASSERT_EQ(0, resize(&self->g, LONG));
	t->fd = dmt_dm_open(t->name, O_RDWR | O_DIRECT);
	ASSERT_LE(0, t->fd);
	EXPECT_TRUE(dmt_read_matches(t->fd, LAST - 1, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
	io = begin(t, DMT_READ, END, END + 1, 0);
	id = dmt_expect_request(t->ctl, LAST, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_TRUE(place_is(&t->store, LAST, 2, NEIGHBOUR));
	ASSERT_EQ(0, dmt_dm_remove(other));
}

TEST_HARNESS_MAIN
