// SPDX-License-Identifier: GPL-2.0-only
/* Test disks: loop devices on files in memory. */
#define _GNU_SOURCE
#include "dmt.h"
#include <err.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Someone else may take the number that was free a moment ago: ask again. */
static void loop_attach(struct dmt_disk *disk, unsigned int lbs)
{
	struct loop_config config = {
		.fd = disk->fd,
		.block_size = lbs,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR,
	};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

	if (control < 0)
		err(1, "/dev/loop-control");
	do {
		int nr = ioctl(control, LOOP_CTL_GET_FREE);

		if (nr < 0)
			err(1, "no free loop device");
		snprintf(disk->name, sizeof(disk->name), "/dev/loop%d", nr);
		disk->loop = open(disk->name, O_RDWR | O_CLOEXEC);
		if (disk->loop < 0)
			err(1, "%s", disk->name);
		if (!ioctl(disk->loop, LOOP_CONFIGURE, &config))
			break;
		close(disk->loop);
		disk->loop = -1;
	} while (1);
	close(control);
}

/**
 * dmt_disk_open() - make a disk full of zeroes
 * @disk: to be made
 * @bytes: its size
 * @lbs: its logical block size in bytes; 0 for 512
 */
void dmt_disk_open(struct dmt_disk *disk, uint64_t bytes, unsigned int lbs)
{
	struct stat st;

	memset(disk, 0, sizeof(*disk));
	disk->bytes = bytes;
	disk->fd = memfd_create("dmt", MFD_CLOEXEC);
	if (disk->fd < 0 || ftruncate(disk->fd, (off_t)bytes))
		err(1, "memfd of %llu bytes", (unsigned long long)bytes);
	loop_attach(disk, lbs);
	if (fstat(disk->loop, &st))
		err(1, "%s", disk->name);
	disk->dev = st.st_rdev;
}

/**
 * dmt_disk_close() - let go of a disk; it vanishes with its last user
 * @disk: made by dmt_disk_open(), or all zero
 */
void dmt_disk_close(struct dmt_disk *disk)
{
	if (!disk->bytes)
		return;
	close(disk->loop);
	close(disk->fd);
	memset(disk, 0, sizeof(*disk));
}

/**
 * dmt_disk_resize() - make a disk larger or smaller while it is in use
 * @disk: the disk
 * @bytes: its new size
 */
void dmt_disk_resize(struct dmt_disk *disk, uint64_t bytes)
{
	if (ftruncate(disk->fd, (off_t)bytes) ||
	    ioctl(disk->loop, LOOP_SET_CAPACITY))
		err(1, "resizing %s", disk->name);
	disk->bytes = bytes;
}

/**
 * dmt_pattern() - bytes that tell which block, and which version, they are
 * @buf: gets them
 * @len: bytes
 * @block: number that goes into them
 * @seed: version; 0 is all zero
 */
void dmt_pattern(void *buf, size_t len, uint64_t block, int seed)
{
	uint64_t x = (block + 1) * 0x9e3779b97f4a7c15ull ^
		     (uint64_t)seed * 0xbf58476d1ce4e5b9ull;
	uint8_t *p = buf;
	size_t i;

	for (i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = seed ? (uint8_t)x : 0;
	}
}

/**
 * dmt_disk_fill() - put a pattern in a block of DMT_BLOCK bytes, from behind
 * @disk: the disk
 * @block: of the disk; also the number in the pattern
 * @seed: version
 */
void dmt_disk_fill(const struct dmt_disk *disk, uint64_t block, int seed)
{
	uint8_t buf[DMT_BLOCK];

	dmt_pattern(buf, sizeof(buf), block, seed);
	if (pwrite(disk->fd, buf, sizeof(buf), (off_t)(block * DMT_BLOCK)) !=
	    sizeof(buf))
		err(1, "filling %s", disk->name);
	/* The loop device may have cached what was there before. */
	ioctl(disk->loop, BLKFLSBUF);
}

/**
 * dmt_disk_has() - does a block hold exactly that pattern?
 * @disk: the disk
 * @block: of the disk, and number in the pattern
 * @seed: version
 */
bool dmt_disk_has(const struct dmt_disk *disk, uint64_t block, int seed)
{
	uint8_t want[DMT_BLOCK], got[DMT_BLOCK];

	dmt_pattern(want, sizeof(want), block, seed);
	if (pread(disk->fd, got, sizeof(got), (off_t)(block * DMT_BLOCK)) !=
	    sizeof(got))
		err(1, "reading behind %s", disk->name);
	return !memcmp(want, got, sizeof(got));
}
