// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices of all kinds: some of several TiB, of no size, that cannot write zeroes,
 * that are read-only, or that can do more than the target passes on; and two that have
 * nothing to do with each other.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/suspend.h"
#include "lib/sysfs.h"
#include <dirent.h>
#include <err.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* --- several TiB ------------------------------------------------------------------ */

#define TIB8 (1ull << 34) /* sectors, and blocks of 512 bytes */

FIXTURE(vast)
{
	struct dmt t;
};

FIXTURE_SETUP(vast)
{
	struct dmt *t = &self->t;
	char params[128];

	memset(t, 0, sizeof(*t));
	snprintf(t->name, sizeof(t->name), "dmt%d", getpid());
	dmt_disk_open(&t->origin, TIB8 * 512, 0);
	dmt_disk_open(&t->store, TIB8 * 512, 0);
	snprintf(params, sizeof(params), "%s 512 %u:%u %u:%u", t->name,
		 major(t->origin.dev), minor(t->origin.dev),
		 major(t->store.dev), minor(t->store.dev));
	if (dmt_dm_create(t->name) ||
	    dmt_dm_load(t->name, 0, TIB8, "userspace", params) ||
	    dmt_dm_resume(t->name))
		errx(1, "cannot make the mapped device %s", t->name);
	t->fd = dmt_dm_open(t->name, O_RDWR | O_DIRECT);
	if (t->fd < 0)
		err(1, "%s", t->name);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
}

FIXTURE_TEARDOWN(vast)
{
	dmt_teardown(&self->t);
}

/* Numbers that differ in their upper half, or in their lower half, only. */
static const uint64_t far_blocks[] = {
	5, (1ull << 32) + 5, (1ull << 33) + 5, (1ull << 32) - 1, 1ull << 32,
	TIB8 - 1,
};

#define NR_FAR (sizeof(far_blocks) / sizeof(*far_blocks))

static bool sector_is(const struct dmt_disk *disk, uint64_t sector,
		      const void *want)
{
	uint8_t got[512];

	if (pread(disk->fd, got, 512, (off_t)(sector * 512)) != 512)
		err(1, "reading behind %s", disk->name);
	return !memcmp(want, got, 512);
}

TEST_F(vast, blocks_and_places_have_64_bits)
{
	struct dmt *t = &self->t;
	struct dmt_io *io[NR_FAR];
	struct dmt_map map;
	unsigned int i;
	uint32_t id;

	for (i = 0; i < NR_FAR; i++) {
		io[i] = dmt_io_now(t->fd, DMT_WRITE, far_blocks[i] * 512, 512,
				   (int)i + 2);
		id = dmt_expect_request(t->ctl, far_blocks[i], RW);
		ASSERT_NE(0, id);
		/* From one end to the other. */
		map = dmt_plain(&t->store, far_blocks[i],
				TIB8 - 1 - far_blocks[i], RW);
		ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
		EXPECT_EQ(0, dmt_io_wait(io[i]));
	}
	EXPECT_EQ(NR_FAR, dmt_counter(t->name, DMT_REMAPS));
	for (i = 0; i < NR_FAR; i++) {
		struct dmt_io *read = dmt_io(t->fd, DMT_READ,
					     far_blocks[i] * 512, 512, 0);

		EXPECT_EQ(0, dmt_io_wait(read));
		EXPECT_EQ(0, memcmp(dmt_io_buf(read), dmt_io_buf(io[i]), 512));
		dmt_io_free(read);
		EXPECT_TRUE(sector_is(&t->store, TIB8 - 1 - far_blocks[i],
				      dmt_io_buf(io[i])));
		dmt_io_free(io[i]);
	}
	map = dmt_plain(&t->store, TIB8, 0, RW);
	EXPECT_EQ(-ERANGE, dmt_map(t->ctl, 0, &map));
	map = dmt_plain(&t->store, 0, TIB8, RW);
	EXPECT_EQ(-ERANGE, dmt_map(t->ctl, 0, &map));
	map = dmt_plain(&t->store, 0, 1, RW);
	map.offset = (int64_t)TIB8 - 1;
	EXPECT_EQ(-ERANGE, dmt_map(t->ctl, 0, &map));
	map.offset--;
	EXPECT_EQ(0, dmt_map(t->ctl, 0, &map));
}

TEST_F(vast, copies_and_invalidations_reach_the_far_end)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_cow(t, TIB8 - 1, (1ull << 33) + 7, RW);
	uint8_t want[512];

	dmt_pattern(want, sizeof(want), 1, 7);
	ASSERT_EQ(512, pwrite(t->origin.fd, want, 512,
			      (off_t)((TIB8 - 1) * 512)));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_READ, (TIB8 - 1) * 512,
					  512, 0)));
	EXPECT_TRUE(sector_is(&t->store, (1ull << 33) + 7, want));
	/* Not the one with the same lower half. */
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 1, (1ull << 32) - 1));
	ASSERT_TRUE(dmt_expect_status(t->ctl, 1, DM_USERSPACE_INVAL_FAILED));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 2, TIB8 - 1));
	ASSERT_TRUE(dmt_expect_status(t->ctl, 2, DM_USERSPACE_INVAL_COMPLETE));
	EXPECT_EQ(-ERANGE, dmt_invalidate(t->ctl, 3, TIB8));
}

/* --- a device that cannot write zeroes ------------------------------------------------- */

TEST_F(gated, zeroes_that_a_device_cannot_write_are_written_by_the_caller)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 1, RW);
	struct dmt_map late = dmt_cow(t, 3, 3, RW);
	struct dmt_io *io;
	uint32_t id;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_disk_fill(&t->store, 1, 5);
	/* The origin of snapshots takes neither these nor discards. */
	dmt_gate_refuse_discards(&self->g.store);
	EXPECT_EQ(-1, fallocate(t->fd, FALLOC_FL_PUNCH_HOLE |
				FALLOC_FL_KEEP_SIZE, DMT_BLOCK, DMT_BLOCK));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_TRUE(dmt_disk_has(&t->store, 1, 5));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_ERRORS));
	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_ZEROOUT, DMT_BLOCK,
					  DMT_BLOCK, 0)));
	EXPECT_TRUE(dmt_disk_has(&t->store, 1, 0));
	/* Also where they have asked, and waited for a copy. */
	io = dmt_io(t->fd, DMT_ZEROOUT, 3 * DMT_BLOCK, DMT_PART, 0);
	id = dmt_expect_request(t->ctl, 3, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &late));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_ERRORS));
	EXPECT_TRUE(dmt_disk_has(&t->origin, 3, DMT_ORIGIN));
}

/* --- read-only ---------------------------------------------------------------------------- */

TEST_F(dm, nothing_is_written_by_way_of_a_read_only_table)
{
	struct dmt *t = &self->t;
	struct dmt_map copy = dmt_cow(t, 1, 2, RO);
	struct dmt_map map = dmt_plain(&t->origin, 1, 1, RW);
	char params[256];
	struct dmt_line line = { 0, DMT_BLOCKS * DMT_SECTORS, "userspace",
				 params };
	int fd;

	dmt_params(t, params, sizeof(params));
	close(t->fd);
	ASSERT_EQ(0, dmt_dm_remove(t->name));
	close(t->ctl);
	ASSERT_EQ(0, dmt_dm_create(t->name));
	ASSERT_EQ(0, dmt_dm_load_lines(t->name, &line, 1, true));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	t->fd = dmt_dm_open(t->name, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, t->fd);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	/* Who opens it for writing may not write. */
	fd = dmt_dm_open(t->name, O_RDWR | O_DIRECT);
	EXPECT_EQ(-EPERM, fd < 0 ? -EPERM : dmt_write_block(fd, 1, 2));
	close(fd);
	/* Nor does a copy. */
	EXPECT_EQ(-ENODEV, dmt_map(t->ctl, 0, &copy));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
	EXPECT_TRUE(dmt_place_has(&t->store, 2, 1, 0, DMT_NO_PART));
	EXPECT_TRUE(dmt_disk_has(&t->origin, 1, DMT_ORIGIN));
}

/* --- disks of another kind ------------------------------------------------------------------ */

/* The disk that scsi_debug has made, if it is there by now. */
static bool find_debug_disk(struct dmt_disk *disk)
{
	DIR *dir = opendir("/sys/block");
	char path[512];
	struct dirent *entry;
	unsigned int maj, min;
	bool found = false;
	FILE *f;

	while (dir && (entry = readdir(dir)) && !found) {
		snprintf(path, sizeof(path), "/sys/block/%s/device/model",
			 entry->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		found = fgets(path, sizeof(path), f) &&
			!strncmp(path, "scsi_debug", 10);
		fclose(f);
		snprintf(path, sizeof(path), "/sys/block/%s/dev",
			 entry->d_name);
		f = found ? fopen(path, "re") : NULL;
		found = f && fscanf(f, "%u:%u", &maj, &min) == 2;
		if (f)
			fclose(f);
		disk->dev = makedev(maj, min);
	}
	if (dir)
		closedir(dir);
	return found;
}

static bool file_says(dev_t dev, const char *name, char *buf, size_t len)
{
	char path[128];
	FILE *f;
	bool ok;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", major(dev),
		 minor(dev), name);
	f = fopen(path, "re");
	if (!f)
		return false;
	ok = fgets(buf, (int)len, f);
	fclose(f);
	return ok;
}

/* It comes in the background. */
static bool make_debug_disk(struct dmt_disk *disk, const char *options)
{
	unsigned int ms;
	char line[128];

	snprintf(line, sizeof(line),
		 "modprobe -q scsi_debug dev_size_mb=8 %s", options);
	if (system("modprobe -q -a crc-t10dif sd_mod") || system(line))
		return false;
	for (ms = 0; ms < DMT_PATIENCE; ms += 10) {
		if (find_debug_disk(disk))
			return true;
		poll(NULL, 0, 10);
	}
	return false;
}

TEST_F(dm, integrity_and_encryption_of_a_device_are_not_passed_on)
{
	struct dmt *t = &self->t;
	struct dmt_disk disk = { 0 };
	struct dmt_map map = dmt_plain(&disk, 1, 1, RW);
	char params[128], says[64], path[128];
	dev_t dev = dmt_dm_dev(t->name);

	if (!make_debug_disk(&disk, "dif=1 dix=1"))
		SKIP(return, "there is no scsi_debug");
	ASSERT_TRUE(file_says(disk.dev, "integrity/format", says,
			      sizeof(says)));
	EXPECT_EQ(0, strncmp(says, "T10-DIF", 7));
	snprintf(params, sizeof(params), "%s 4096 %u:%u", t->name,
		 major(disk.dev), minor(disk.dev));
	ASSERT_EQ(0, dmt_dm_load(t->name, 0, DMT_BLOCKS * DMT_SECTORS,
				 "userspace", params));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	if (file_says(dev, "integrity/format", says, sizeof(says)))
		EXPECT_STREQ("none\n", says);
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/queue/crypto",
		 major(dev), minor(dev));
	EXPECT_EQ(-1, access(path, F_OK));
	/* The device below makes its own, and finds it right. */
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 2));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 2));
	close(t->fd);
	t->fd = -1;
	ASSERT_EQ(0, dmt_dm_remove(t->name));
	EXPECT_EQ(0, system("modprobe -r scsi_debug"));
	ASSERT_EQ(0, dmt_dm_create(t->name));
}

TEST_F(dm, disk_that_cannot_be_written_to_is_for_read_only_tables)
{
	struct dmt *t = &self->t;
	struct dmt_disk disk = { 0 };
	struct dmt_map map = dmt_plain(&disk, 1, 1, RO);
	char params[128], log[4096];
	struct dmt_line line = { 0, DMT_BLOCKS * DMT_SECTORS, "userspace",
				 params };
	int fd = dmt_log_open();

	if (!make_debug_disk(&disk, "wp=1"))
		SKIP(return, "there is no scsi_debug");
	close(t->fd);
	ASSERT_EQ(0, dmt_dm_remove(t->name));
	close(t->ctl);
	ASSERT_EQ(0, dmt_dm_create(t->name));
	snprintf(params, sizeof(params), "%s 4096 %u:%u", t->name,
		 major(disk.dev), minor(disk.dev));
	dmt_log_take(fd, log, sizeof(log));
	EXPECT_EQ(-EROFS, dmt_dm_load_lines(t->name, &line, 1, false));
	dmt_log_take(fd, log, sizeof(log));
	EXPECT_NE(NULL, strstr(log, "cannot be opened in this mode"));
	EXPECT_EQ(0, dmt_controls());
	ASSERT_EQ(0, dmt_dm_load_lines(t->name, &line, 1, true));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	t->fd = dmt_dm_open(t->name, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, t->fd);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, dmt_io_result(dmt_begin_read(t, 1)));
	close(t->fd);
	t->fd = -1;
	ASSERT_EQ(0, dmt_dm_remove(t->name));
	EXPECT_EQ(0, system("modprobe -r scsi_debug"));
	ASSERT_EQ(0, dmt_dm_create(t->name));
	close(fd);
}

/* BLKDISCARD or BLKZEROOUT. */
static int clear_block(int fd, unsigned long how, uint64_t block)
{
	uint64_t range[2] = { block * DMT_BLOCK, DMT_BLOCK };

	return ioctl(fd, how, range) ? -errno : 0;
}

/* It has said that it takes so much at once, and does not, from now on. */
static bool refuse_same(void)
{
	return !system("echo 1 > /sys/module/scsi_debug/parameters/write_same_length");
}

/* A discard is ignored, and zeroes are written by whoever wants them. */
TEST_F(dm, what_a_disk_refuses_only_when_it_comes_is_no_error)
{
	struct dmt *t = &self->t;
	struct dmt_disk disk = { 0 };
	struct dmt_map map = dmt_plain(&disk, 1, 2, RW);
	char params[128];

	if (!make_debug_disk(&disk, "lbpws=1"))
		SKIP(return, "there is no scsi_debug");
	snprintf(params, sizeof(params), "%s 4096 %u:%u", t->name,
		 major(disk.dev), minor(disk.dev));
	ASSERT_EQ(0, dmt_dm_load(t->name, 0, DMT_BLOCKS * DMT_SECTORS,
				 "userspace", params));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, clear_block(t->fd, BLKDISCARD, 1));
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 2));
	ASSERT_NE(0, dmt_queue_get(disk.dev, "discard_max_bytes"));
	ASSERT_NE(0, dmt_queue_get(disk.dev, "write_zeroes_max_bytes"));
	ASSERT_TRUE(refuse_same());
	EXPECT_EQ(0, clear_block(t->fd, BLKDISCARD, 1));
	EXPECT_EQ(0, dmt_queue_get(disk.dev, "discard_max_bytes"));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 2));
	EXPECT_EQ(0, clear_block(t->fd, BLKZEROOUT, 1));
	EXPECT_EQ(0, dmt_queue_get(disk.dev, "write_zeroes_max_bytes"));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 0));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_ERRORS));
	close(t->fd);
	t->fd = -1;
	ASSERT_EQ(0, dmt_dm_remove(t->name));
	EXPECT_EQ(0, system("modprobe -r scsi_debug"));
	ASSERT_EQ(0, dmt_dm_create(t->name));
}

/* --- two devices ------------------------------------------------------------------------------ */

/* One daemon never reads; another has I/O stuck in its disk, and a copy. */
TEST_F(gated, daemon_of_one_device_never_holds_another_up)
{
	struct dmt *t = &self->g.t;
	struct dmt_map cow = dmt_cow(t, 1, 1, RW);
	struct dmt_map map = dmt_plain(&t->store, 2, 2, RW);
	struct dmt_io *stuck[3];
	struct dmt_disk disk;
	char params[128], name[64];
	struct dmt_io *io;
	unsigned int i;
	int fd, ctl;
	uint32_t id;

	dmt_disk_open(&disk, DMT_BLOCKS * DMT_BLOCK, 0);
	snprintf(name, sizeof(name), "%s-other", t->name);
	snprintf(params, sizeof(params), "%s 4096 %u:%u", name,
		 major(disk.dev), minor(disk.dev));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &cow));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	stuck[0] = dmt_write_part(t->fd, 1, 2);
	stuck[1] = dmt_begin_write(t, 2, 2);
	stuck[2] = dmt_begin_read(t, 3);

	ASSERT_EQ(0, dmt_dm_create(name));
	ASSERT_EQ(0, dmt_dm_load(name, 0, DMT_BLOCKS * DMT_SECTORS,
				 "userspace", params));
	ASSERT_EQ(0, dmt_dm_resume(name));
	fd = dmt_dm_open(name, O_RDWR | O_DIRECT);
	ASSERT_LE(0, fd);
	ctl = dmt_control_open(name, O_NONBLOCK);
	map = dmt_plain(&disk, 5, 5, RW | COPY | SYNC);
	map.src = &disk;
	map.to = 6;
	io = dmt_write_part(fd, 5, 2);
	id = dmt_expect_request(ctl, 5, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(ctl, id, &map));
	ASSERT_TRUE(dmt_expect_status(ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	ASSERT_EQ(0, dmt_sync_done(ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
	ASSERT_EQ(0, dmt_invalidate(ctl, 1, 5));
	EXPECT_TRUE(dmt_expect_status(ctl, 1, DM_USERSPACE_INVAL_COMPLETE));
	close(ctl);
	close(fd);
	EXPECT_EQ(0, dmt_dm_remove(name));
	for (i = 0; i < 3; i++)
		EXPECT_FALSE(dmt_io_done(stuck[i]));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(stuck[0]));
	EXPECT_EQ(0, dmt_io_result(stuck[1]));
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	EXPECT_EQ(-EIO, dmt_io_result(stuck[2]));
	dmt_disk_close(&disk);
}

/* --- of no size ------------------------------------------------------------------- */

/* Where a disk of no size is the second of two: it may yet become something. */
TEST_F(dm, empty_device_is_good_for_flushes_and_can_grow)
{
	struct dmt *t = &self->t;
	struct dmt_map map = { .block = 3, .flags = RW };
	struct dmt_disk empty;
	char params[128];

	dmt_disk_open(&empty, 0, 0);
	map.dst = &empty;
	snprintf(params, sizeof(params), "%s %u %u:%u %u:%u", t->name, DMT_BLOCK,
		 major(t->origin.dev), minor(t->origin.dev), major(empty.dev),
		 minor(empty.dev));
	ASSERT_EQ(0, dmt_dm_load(t->name, 0, DMT_BLOCKS * DMT_SECTORS,
				 "userspace", params));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	EXPECT_EQ(-ERANGE, dmt_map(t->ctl, 0, &map));
	map.flags = RW | COPY;
	map.src = &t->origin;
	EXPECT_EQ(-ERANGE, dmt_map(t->ctl, 0, &map));
	/* Nor is there anything to copy from. */
	map.dst = &t->origin;
	map.src = &empty;
	EXPECT_EQ(-ERANGE, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_FSYNC, 0, 0, 0)));
	dmt_disk_resize(&empty, 2 * DMT_BLOCK);
	map.dst = &empty;
	map.src = &t->origin;
	map.to = 2;
	EXPECT_EQ(-ERANGE, dmt_map(t->ctl, 0, &map));
	map.to = 1;
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, DMT_ORIGIN));
	EXPECT_EQ(0, dmt_write_block(t->fd, 3, 2));
	EXPECT_TRUE(dmt_place_has(&empty, 1, 3, 2, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&empty, 0, 0, 0, DMT_NO_PART));
	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_FSYNC, 0, 0, 0)));
	EXPECT_TRUE(dmt_silent(t->ctl));
	dmt_disk_close(&empty);
}

TEST_HARNESS_MAIN
