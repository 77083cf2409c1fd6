// SPDX-License-Identifier: GPL-2.0-only
/* Block sizes, logical block sizes, starts, lengths, and the limits they give. */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/sysfs.h"
#include <err.h>
#include <string.h>
#include <time.h>

/* --- blocks of any size ------------------------------------------------------------------ */

/**
 * @t: a mapped device over two disks of as many blocks
 * @block: bytes
 * @nr: blocks
 * @sector: bytes: what the disks call a block
 */
FIXTURE(sized)
{
	struct dmt t;
	uint64_t block;
	uint64_t nr;
	uint64_t sector;
};

FIXTURE_VARIANT(sized)
{
	uint64_t block;
	uint64_t nr;
	unsigned int lbs;
};

FIXTURE_VARIANT_ADD(sized, 512_bytes) { .block = 512, .nr = 64 };
FIXTURE_VARIANT_ADD(sized, 64_KiB) { .block = 64 << 10, .nr = 16 };
FIXTURE_VARIANT_ADD(sized, 1_MiB) { .block = 1 << 20, .nr = 8 };
FIXTURE_VARIANT_ADD(sized, 1_GiB) { .block = 1 << 30, .nr = 4 };
FIXTURE_VARIANT_ADD(sized, one_4_KiB_sector) {
	.block = 4096, .nr = 16, .lbs = 4096
};
FIXTURE_VARIANT_ADD(sized, of_4_KiB_sectors) {
	.block = 64 << 10, .nr = 8, .lbs = 4096
};

static void mapped_device(struct dmt *t, uint64_t block, uint64_t sectors)
{
	char params[256];

	snprintf(t->name, sizeof(t->name), "dmt%d", getpid());
	snprintf(params, sizeof(params), "%s %llu %u:%u %u:%u", t->name,
		 (unsigned long long)block, major(t->origin.dev),
		 minor(t->origin.dev), major(t->store.dev),
		 minor(t->store.dev));
	if (dmt_dm_create(t->name) ||
	    dmt_dm_load(t->name, 0, sectors, "userspace", params) ||
	    dmt_dm_resume(t->name))
		errx(1, "cannot make the mapped device %s", t->name);
	t->fd = dmt_dm_open(t->name, O_RDWR | O_DIRECT);
	if (t->fd < 0)
		err(1, "%s", t->name);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
}

static void sized_device(struct dmt *t, uint64_t block, uint64_t nr,
			 unsigned int lbs)
{
	dmt_disk_open(&t->origin, block * nr, lbs);
	dmt_disk_open(&t->store, block * nr, lbs);
	mapped_device(t, block, block * nr / 512);
}

FIXTURE_SETUP(sized)
{
	self->block = variant->block;
	self->nr = variant->nr;
	self->sector = variant->lbs ?: 512;
	sized_device(&self->t, self->block, self->nr, variant->lbs);
}

FIXTURE_TEARDOWN(sized)
{
	dmt_teardown(&self->t);
}

/* What was written at @at of the mapped device is at @where of the disk. */
static bool arrived(const struct dmt_disk *disk, uint64_t where, uint64_t at,
		    size_t len, int seed)
{
	uint8_t want[4096], got[4096];

	dmt_pattern(want, len, at / DMT_BLOCK, seed);
	return pread(disk->fd, got, len, (off_t)where) == (ssize_t)len &&
	       !memcmp(want, got, len);
}

static int do_io(const struct dmt *t, enum dmt_op op, uint64_t at, size_t len,
		 int seed)
{
	struct dmt_io *io = dmt_io_now(t->fd, op, at, len, seed);
	int r = dmt_io_wait(io);

	if (!r && !dmt_io_matches(io, seed))
		r = -EILSEQ;
	dmt_io_free(io);
	return r;
}

TEST_F(sized, every_block_goes_where_it_is_mapped)
{
	struct dmt *t = &self->t;
	uint64_t b, last = self->block - self->sector;

	for (b = 0; b < self->nr; b++) {
		uint64_t place = self->nr - 1 - b, at = b * self->block;
		struct dmt_map map = dmt_plain(&t->store, b, place, RW);
		struct dmt_io *io;
		uint32_t id;

		io = dmt_io_now(t->fd, DMT_WRITE, at, self->sector, 2);
		id = dmt_expect_request(t->ctl, b, RW);
		ASSERT_NE(0, id);
		ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
		EXPECT_EQ(0, dmt_io_result(io));
		EXPECT_TRUE(arrived(&t->store, place * self->block, at,
				    self->sector, 2));
		EXPECT_EQ(0, do_io(t, DMT_WRITE, at + last, self->sector, 3));
		EXPECT_TRUE(arrived(&t->store, place * self->block + last,
				    at + last, self->sector, 3));
		EXPECT_EQ(0, do_io(t, DMT_READ, at + last, self->sector, 3));
	}
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_EQ(self->nr, dmt_counter(t->name, DMT_REMAPS));
}

TEST_F(sized, io_across_two_blocks_reaches_both)
{
	struct dmt *t = &self->t;
	/* The last sector of block 0 and the first of block 1. */
	uint64_t at = self->block - self->sector, i;
	struct dmt_io *io = dmt_io_now(t->fd, DMT_WRITE, at, 2 * self->sector,
				       2);
	const uint8_t *data = dmt_io_buf(io);
	uint8_t got[2 * 4096];

	for (i = 0; i < 2; i++) {
		struct dmt_map map = dmt_plain(&t->store, i, i ? 0 : 3, RW);
		uint32_t id = dmt_expect_request(t->ctl, i, RW);

		ASSERT_NE(0, id);
		ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	}
	EXPECT_EQ(0, dmt_io_wait(io));
	ASSERT_EQ(self->sector, pread(t->store.fd, got, self->sector,
				      3 * self->block + at));
	ASSERT_EQ(self->sector, pread(t->store.fd, got + self->sector,
				      self->sector, 0));
	EXPECT_EQ(0, memcmp(data, got, 2 * self->sector));
	dmt_io_free(io);
}

TEST_F(sized, offset_moves_the_place_by_whole_sectors_of_the_device)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, 1, 2, RW);
	struct dmt_map back = dmt_plain(&t->store, 3, 1, RW);

	if (self->sector > 512) {
		map.offset = 1;
		EXPECT_EQ(-EINVAL, dmt_map(t->ctl, 0, &map));
	}
	map.offset = self->sector / 512;
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, do_io(t, DMT_WRITE, self->block, self->sector, 2));
	EXPECT_TRUE(arrived(&t->store, 2 * self->block + self->sector,
			    self->block, self->sector, 2));
	back.offset = -(int64_t)(self->sector / 512);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &back));
	EXPECT_EQ(0, do_io(t, DMT_WRITE, 3 * self->block, self->sector, 3));
	EXPECT_TRUE(arrived(&t->store, self->block - self->sector,
			    3 * self->block, self->sector, 3));
	/* The last block cannot be moved beyond the end. */
	map.to = self->nr - 1;
	EXPECT_EQ(-ERANGE, dmt_map(t->ctl, 0, &map));
	back.to = 0;
	EXPECT_EQ(-ERANGE, dmt_map(t->ctl, 0, &back));
}

TEST_F(sized, limits_tell_of_the_block_and_of_the_devices)
{
	dev_t dev = dmt_dev_of(self->t.fd);

	EXPECT_EQ(self->sector, dmt_queue_get(dev, "logical_block_size"));
	if (self->block <= 1 << 20)
		EXPECT_EQ(self->block, dmt_queue_get(dev, "minimum_io_size"));
	/* Read-ahead is made of it. */
	EXPECT_GE(1 << 20, dmt_queue_get(dev, "optimal_io_size"));
	EXPECT_GE(4096, dmt_queue_get(dev, "read_ahead_kb"));
	EXPECT_LT(0, dmt_queue_get(dev, "discard_max_bytes"));
}

/* The same, of blocks that there is memory to copy. */
FIXTURE(copied)
{
	struct dmt t;
};

FIXTURE_VARIANT(copied)
{
	uint64_t block;
	unsigned int lbs;
};

FIXTURE_VARIANT_ADD(copied, 512_bytes) { .block = 512 };
FIXTURE_VARIANT_ADD(copied, 64_KiB) { .block = 64 << 10 };
FIXTURE_VARIANT_ADD(copied, 1_MiB) { .block = 1 << 20 };
FIXTURE_VARIANT_ADD(copied, 4_MiB) { .block = 4 << 20 };
FIXTURE_VARIANT_ADD(copied, 16_MiB) { .block = 16 << 20 };
FIXTURE_VARIANT_ADD(copied, one_4_KiB_sector) { .block = 4096, .lbs = 4096 };
FIXTURE_VARIANT_ADD(copied, of_4_KiB_sectors) {
	.block = 64 << 10, .lbs = 4096
};

FIXTURE_SETUP(copied)
{
	sized_device(&self->t, variant->block, 8, variant->lbs);
}

FIXTURE_TEARDOWN(copied)
{
	dmt_teardown(&self->t);
}

/* A sector in each 256 KiB of a block, and its last one: so many ... */
static uint64_t nr_marks(uint64_t block)
{
	return 1 + (block + (256 << 10) - 1) / (256 << 10);
}

/* ... and where it is. No two are as far into what is moved at a time. */
static uint64_t mark_at(uint64_t block, uint64_t sector, uint64_t nr)
{
	if (nr == nr_marks(block) - 1)
		return block - sector;
	return nr * (256 << 10) + nr * sector;
}

static void mark(const struct dmt_disk *disk, uint64_t at, uint64_t sector,
		 uint64_t what, int seed)
{
	uint8_t buf[4096];

	dmt_pattern(buf, sector, what, seed);
	if (pwrite(disk->fd, buf, sector, (off_t)at) != (ssize_t)sector)
		err(1, "cannot mark %s", disk->name);
}

TEST_F(copied, whole_block_is_copied_and_nothing_else)
{
	struct dmt *t = &self->t;
	const uint64_t block = variant->block, sector = variant->lbs ?: 512;
	uint64_t place = 6, i, begin = place * block;
	struct dmt_map map = dmt_cow(t, 1, place, RW);
	struct dmt_io *io;
	uint32_t id;

	for (i = 0; i < nr_marks(block); i++)
		mark(&t->origin, block + mark_at(block, sector, i), sector, i, 4);
	/* Not to be touched. */
	mark(&t->store, begin - sector, sector, 7, 5);
	mark(&t->store, begin + block, sector, 7, 5);
	io = dmt_io_now(t->fd, DMT_READ, block, sector, 0);
	id = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	/* Where two are in one sector, the last one is. */
	for (i = block == sector; i < nr_marks(block); i++)
		EXPECT_TRUE(arrived(&t->store, begin + mark_at(block, sector, i),
				    i * DMT_BLOCK, sector, 4));
	EXPECT_TRUE(arrived(&t->store, begin - sector, 7 * DMT_BLOCK,
			    sector, 5));
	EXPECT_TRUE(arrived(&t->store, begin + block, 7 * DMT_BLOCK,
			    sector, 5));
}

/* --- devices that differ ----------------------------------------------------------------- */

FIXTURE(unlike)
{
	struct dmt t;
};

/* The store has larger sectors, and half the size. */
FIXTURE_SETUP(unlike)
{
	struct dmt *t = &self->t;
	uint64_t block;

	dmt_disk_open(&t->origin, DMT_BLOCKS * DMT_BLOCK, 512);
	dmt_disk_open(&t->store, DMT_BLOCKS / 2 * DMT_BLOCK, 4096);
	for (block = 0; block < DMT_BLOCKS; block++)
		dmt_disk_fill(&t->origin, block, DMT_ORIGIN);
	mapped_device(t, DMT_BLOCK, DMT_BLOCKS * DMT_SECTORS);
}

FIXTURE_TEARDOWN(unlike)
{
	dmt_teardown(&self->t);
}

TEST_F(unlike, limits_are_those_of_all_devices)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->origin, 1, 1, RW);

	EXPECT_EQ(4096, dmt_queue_get(dmt_dev_of(t->fd), "logical_block_size"));
	EXPECT_LE(4096, dmt_queue_get(dmt_dev_of(t->fd), "physical_block_size"));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(-EINVAL, do_io(t, DMT_READ, DMT_BLOCK, 512, 0));
	EXPECT_EQ(0, do_io(t, DMT_READ, DMT_BLOCK, DMT_BLOCK, DMT_ORIGIN));
}

TEST_F(unlike, each_device_has_its_own_end)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_cow(t, DMT_BLOCKS - 1, DMT_BLOCKS / 2, RW);

	EXPECT_EQ(-ERANGE, dmt_map(t->ctl, 0, &map));
	map.to--;
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_TRUE(dmt_read_matches(t->fd, DMT_BLOCKS - 1, DMT_ORIGIN));
	EXPECT_TRUE(dmt_place_has(&t->store, DMT_BLOCKS / 2 - 1, DMT_BLOCKS - 1,
				  DMT_ORIGIN, DMT_NO_PART));
}

/* --- a line that does not begin at 0 ---------------------------------------------------- */

#define FIRST 10u /* block of the line */

FIXTURE(second_line)
{
	struct dmt t;
};

FIXTURE_SETUP(second_line)
{
	struct dmt *t = &self->t;
	char linear[64], params[256];
	struct dmt_line lines[] = {
		{ 0, FIRST * DMT_SECTORS, "linear", linear },
		{ FIRST * DMT_SECTORS, (DMT_BLOCKS - FIRST) * DMT_SECTORS,
		  "userspace", params },
	};
	uint64_t block;

	snprintf(t->name, sizeof(t->name), "dmt%d", getpid());
	dmt_disk_open(&t->origin, DMT_BLOCKS * DMT_BLOCK, 0);
	dmt_disk_open(&t->store, DMT_BLOCKS * DMT_BLOCK, 0);
	for (block = 0; block < DMT_BLOCKS; block++)
		dmt_disk_fill(&t->origin, block, DMT_ORIGIN);
	snprintf(linear, sizeof(linear), "%u:%u 0", major(t->origin.dev),
		 minor(t->origin.dev));
	dmt_params(t, params, sizeof(params));
	if (dmt_dm_create(t->name) ||
	    dmt_dm_load_lines(t->name, lines, 2, false) ||
	    dmt_dm_resume(t->name))
		errx(1, "cannot make the mapped device %s", t->name);
	t->fd = dmt_dm_open(t->name, O_RDWR | O_DIRECT);
	if (t->fd < 0)
		err(1, "%s", t->name);
	/* The status that names it is of the second line. */
	t->ctl = -1;
}

FIXTURE_TEARDOWN(second_line)
{
	if (self->t.ctl >= 0)
		close(self->t.ctl);
	close(self->t.fd);
	if (dmt_dm_remove(self->t.name))
		warnx("cannot remove %s", self->t.name);
	dmt_disk_close(&self->t.origin);
	dmt_disk_close(&self->t.store);
}

/* The only control device there is: of a second line status does not tell. */
static int only_control(void)
{
	int i, fd, found = -1;
	char path[64];

	for (i = 0; i < 64; i++) {
		snprintf(path, sizeof(path), "/dev/dm-userspace%d", i);
		fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0 && found >= 0)
			errx(1, "there is more than one control device");
		if (fd >= 0)
			found = fd;
	}
	if (found < 0)
		errx(1, "there is no control device");
	return found;
}

TEST_F(second_line, blocks_are_counted_from_the_beginning_of_the_device)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_cow(t, FIRST, 3, RW);
	struct dmt_map before = dmt_plain(&t->store, FIRST - 1, 3, RW);
	uint8_t want[DMT_BLOCK], got[DMT_BLOCK];
	struct dmt_io *io;
	uint32_t id;

	t->ctl = only_control();
	EXPECT_EQ(-ERANGE, dmt_map(t->ctl, 0, &before));
	EXPECT_EQ(-ERANGE, dmt_invalidate(t->ctl, 42, FIRST - 1));
	/* One sector on either side of the line's beginning. */
	io = dmt_io_now(t->fd, DMT_WRITE, FIRST * DMT_BLOCK - 512, 1024, 2);
	id = dmt_expect_request(t->ctl, FIRST, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	io = dmt_io_now(t->fd, DMT_READ, FIRST * DMT_BLOCK - 512, 1024, 0);
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, 2));
	dmt_io_free(io);
	EXPECT_TRUE(dmt_silent(t->ctl));
	/* What was not written has been copied from the same block. */
	dmt_pattern(want, sizeof(want), FIRST, DMT_ORIGIN);
	ASSERT_EQ(DMT_BLOCK, pread(t->store.fd, got, DMT_BLOCK, 3 * DMT_BLOCK));
	EXPECT_EQ(0, memcmp(want + 512, got + 512, DMT_BLOCK - 512));
}

/* --- a device of many blocks ----------------------------------------------------------- */

#define HUGE_BLOCKS dmt_often(1u << 22) /* 16 GiB, or 2 */

FIXTURE(huge)
{
	struct dmt t;
};

FIXTURE_SETUP(huge)
{
	dmt_disk_open(&self->t.origin, (uint64_t)HUGE_BLOCKS * DMT_BLOCK, 0);
	dmt_disk_open(&self->t.store, (uint64_t)HUGE_BLOCKS * DMT_BLOCK, 0);
	mapped_device(&self->t, DMT_BLOCK, (uint64_t)HUGE_BLOCKS * DMT_SECTORS);
}

FIXTURE_TEARDOWN(huge)
{
	dmt_teardown(&self->t);
}

TEST_F_TIMEOUT(huge, discard_of_millions_of_unmapped_blocks_is_fast, 120)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, HUGE_BLOCKS / 2, 0, RW);
	struct timespec begun, now;
	struct dmt_io *io;
	uint64_t misses;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_place_fill(&t->store, 0, 0, 5);
	misses = dmt_counter(t->name, DMT_MISSES);
	clock_gettime(CLOCK_MONOTONIC, &begun);
	io = dmt_io(t->fd, DMT_DISCARD, 0, (uint64_t)HUGE_BLOCKS * DMT_BLOCK, 0);
	/* How fast that is depends on the machine, and decides nothing. */
	while (!dmt_io_done(io))
		dmt_io_wait(io);
	EXPECT_EQ(0, dmt_io_result(io));
	clock_gettime(CLOCK_MONOTONIC, &now);
	ksft_print_msg("%u blocks in %ld ms\n", HUGE_BLOCKS,
		       (now.tv_sec - begun.tv_sec) * 1000 +
		       (now.tv_nsec - begun.tv_nsec) / 1000000);
	/* Not one by one: neither asked for, nor on the slow path. */
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_GE(misses + 2, dmt_counter(t->name, DMT_MISSES));
	/* The only one that is mapped was found among them. */
	EXPECT_TRUE(dmt_place_has(&t->store, 0, 0, 0, DMT_NO_PART));
}

TEST_HARNESS_MAIN
