// SPDX-License-Identifier: GPL-2.0-only
/* Disks that null_blk makes. */
#define _GNU_SOURCE
#include "nullb.h"
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIGFS "/sys/kernel/config"

static bool attr_set(const char *disk, const char *name, const char *value)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), CONFIGFS "/nullb/%s/%s", disk, name);
	f = fopen(path, "we");
	if (!f)
		return false;
	if (fputs(value, f) < 0 || fclose(f))
		err(1, "%s", path);
	return true;
}

/* Older kernels number these disks; newer ones call them as they are called. */
static void find_node(struct dmt_disk *disk, const char *name)
{
	char path[256];
	unsigned int index;
	FILE *f;

	snprintf(disk->name, sizeof(disk->name), "/dev/%s", name);
	if (!access(disk->name, F_OK))
		return;
	snprintf(path, sizeof(path), CONFIGFS "/nullb/%s/index", name);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%u", &index) != 1)
		errx(1, "cannot read %s", path);
	fclose(f);
	snprintf(disk->name, sizeof(disk->name), "/dev/nullb%u", index);
}

/**
 * dmt_nullb_make() - make a disk
 * @disk: gets it; it has no file behind it
 * @name: of the disk; no other has it
 * @mebibytes: its size
 * @attrs: what else null_blk is to be told; ends with a name of NULL
 *
 * Return: false where this kernel has no null_blk, or one without an attribute.
 */
bool dmt_nullb_make(struct dmt_disk *disk, const char *name,
		    uint64_t mebibytes, const struct dmt_nullb_attr *attrs)
{
	char path[256], size[32];
	struct stat st;

	memset(disk, 0, sizeof(*disk));
	/* It may be there already. */
	mount("configfs", CONFIGFS, "configfs", 0, NULL);
	snprintf(path, sizeof(path), CONFIGFS "/nullb/%s", name);
	if (mkdir(path, 0700)) {
		if (errno == ENOENT || errno == EPERM)
			return false;
		err(1, "%s", path);
	}
	snprintf(size, sizeof(size), "%" PRIu64, mebibytes);
	if (!attr_set(name, "size", size))
		errx(1, "null_blk has no size");
	for (; attrs->name; attrs++)
		if (!attr_set(name, attrs->name, attrs->value)) {
			rmdir(path);
			return false;
		}
	if (!attr_set(name, "power", "1"))
		errx(1, "null_blk has no power");
	find_node(disk, name);
	disk->bytes = mebibytes << 20;
	disk->fd = -1;
	disk->loop = open(disk->name, O_RDWR | O_CLOEXEC);
	if (disk->loop < 0 || fstat(disk->loop, &st))
		err(1, "%s", disk->name);
	disk->dev = st.st_rdev;
	return true;
}

/**
 * dmt_nullb_remove() - take a disk away
 * @disk: made by dmt_nullb_make(), or all zero
 * @name: of the disk
 */
void dmt_nullb_remove(struct dmt_disk *disk, const char *name)
{
	char path[256];

	if (!disk->bytes)
		return;
	close(disk->loop);
	snprintf(path, sizeof(path), CONFIGFS "/nullb/%s", name);
	if (rmdir(path))
		warn("%s", path);
	memset(disk, 0, sizeof(*disk));
}
