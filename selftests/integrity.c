// SPDX-License-Identifier: GPL-2.0-only
/*
 * Disks that check their data. The tag of a sector may depend on where it lies,
 * and blocks move: so a mapped device must not offer what its disks do. The
 * block layer then makes and checks tags below it.
 */
#define _GNU_SOURCE
#include "lib/fixture.h"
#include "lib/sysfs.h"
#include <err.h>
#include <glob.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

#define SYSFS "/sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*"

#define LOAD \
	"modprobe -q sd_mod; modprobe -q scsi_debug dif=1 dix=1 dev_size_mb=8 delay=0"

/**
 * @able: there is such a disk
 * @disk: of scsi_debug, with tags
 * @ours: a device of ours on it
 * @linear: one of dm-linear
 */
FIXTURE(integrity)
{
	bool able;
	struct dmt_disk disk;
	int ours;
	int linear;
};

static bool run(const char *command)
{
	return !system(command);
}

/* The disk, once the kernel has found it; false where none comes. */
static bool disk_find(struct dmt_disk *disk)
{
	time_t until = time(NULL) + DMT_PATIENCE / 1000;
	struct stat st;
	glob_t found;

	while (glob(SYSFS, 0, NULL, &found)) {
		if (time(NULL) > until)
			return false;
		sched_yield();
	}
	memset(disk, 0, sizeof(*disk));
	snprintf(disk->name, sizeof(disk->name), "/dev/%s",
		 strrchr(found.gl_pathv[0], '/') + 1);
	globfree(&found);
	do
		disk->loop = open(disk->name, O_RDWR | O_CLOEXEC);
	while (disk->loop < 0 && time(NULL) <= until);
	if (disk->loop < 0 || fstat(disk->loop, &st) ||
	    ioctl(disk->loop, BLKGETSIZE64, &disk->bytes))
		err(1, "%s", disk->name);
	disk->fd = -1;
	disk->dev = st.st_rdev;
	return true;
}

static int device(const char *name, const char *type, const char *params)
{
	int fd;

	if (dmt_dm_create(name) ||
	    dmt_dm_load(name, 0, DMT_BLOCKS * DMT_SECTORS, type, params) ||
	    dmt_dm_resume(name))
		errx(1, "cannot make %s", name);
	fd = dmt_dm_open(name, O_RDWR | O_DIRECT);
	if (fd < 0)
		err(1, "%s", name);
	return fd;
}

FIXTURE_SETUP(integrity)
{
	char params[128];

	self->able = run(LOAD) && disk_find(&self->disk);
	if (!self->able)
		return;
	snprintf(params, sizeof(params), "tags-ours 4096 %u:%u",
		 major(self->disk.dev), minor(self->disk.dev));
	self->ours = device("tags-ours", "userspace", params);
	snprintf(params, sizeof(params), "%u:%u 0", major(self->disk.dev),
		 minor(self->disk.dev));
	self->linear = device("tags-linear", "linear", params);
}

FIXTURE_TEARDOWN(integrity)
{
	if (!self->able)
		return;
	close(self->ours);
	close(self->linear);
	EXPECT_EQ(0, dmt_dm_remove("tags-ours"));
	EXPECT_EQ(0, dmt_dm_remove("tags-linear"));
	close(self->disk.loop);
	EXPECT_TRUE(run("modprobe -r scsi_debug"));
}

/* What kind of tags a device takes, or "none". */
static const char *tags_of(dev_t dev)
{
	static char format[64];
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/integrity/format",
		 major(dev), minor(dev));
	f = fopen(path, "re");
	if (!f)
		return "none";
	if (!fgets(format, sizeof(format), f))
		*format = '\0';
	format[strcspn(format, "\n")] = '\0';
	fclose(f);
	return format;
}

TEST_F_TIMEOUT(integrity, of_the_disks_is_not_offered, 60)
{
	if (!self->able)
		SKIP(return, "this kernel has no scsi_debug");
	EXPECT_STREQ("T10-DIF-TYPE1-CRC", tags_of(self->disk.dev));
	/* It moves nothing. */
	EXPECT_STREQ("T10-DIF-TYPE1-CRC", tags_of(dmt_dev_of(self->linear)));
	EXPECT_STREQ("none", tags_of(dmt_dev_of(self->ours)));
}

TEST_F_TIMEOUT(integrity, of_data_that_moved_is_checked_below, 60)
{
	struct dmt_map map = { .flags = RW, .dst = &self->disk,
			       .src = &self->disk };
	uint8_t want[DMT_BLOCK];
	struct dmt_io *io;
	int ctl;

	if (!self->able)
		SKIP(return, "this kernel has no scsi_debug");
	ctl = dmt_control_open("tags-ours", O_NONBLOCK);
	for (map.block = 0; map.block < 8; map.block++) {
		map.to = 20 - map.block;
		ASSERT_EQ(0, dmt_map(ctl, 0, &map));
		EXPECT_EQ(0, dmt_write_block(self->ours, map.block, 2));
		EXPECT_TRUE(dmt_read_matches(self->ours, map.block, 2));
	}
	/* Block 15 of the disk, to where its tags would be wrong. */
	map = (struct dmt_map){ .block = 15, .to = 40, .flags = RW | COPY,
				.dst = &self->disk, .src = &self->disk };
	ASSERT_EQ(0, dmt_map(ctl, 0, &map));
	io = dmt_io(self->ours, DMT_READ, 15 * DMT_BLOCK, DMT_BLOCK, 0);
	EXPECT_EQ(0, dmt_io_wait(io));
	/* Which holds what block 5 was given. */
	dmt_pattern(want, sizeof(want), 5, 2);
	EXPECT_EQ(0, memcmp(want, dmt_io_buf(io), DMT_BLOCK));
	dmt_io_free(io);
	close(ctl);
}

TEST_HARNESS_MAIN
