// SPDX-License-Identifier: GPL-2.0-only
/* What sysfs says of a device, and of the module. */
#define _GNU_SOURCE
#include "sysfs.h"
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static FILE *dev_file(dev_t dev, const char *what, const char *mode)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", major(dev),
		 minor(dev), what);
	f = fopen(path, mode);
	if (!f)
		err(1, "%s", path);
	return f;
}

/* The number of an open block device. */
dev_t dmt_dev_of(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		err(1, "fstat");
	return st.st_rdev;
}

/*
 * A request is counted a moment after whoever waits for it hears that it is over. To
 * tell a loop device what it knows waits until none is left.
 */
static void all_are_counted(dev_t dev)
{
	struct loop_info64 info;
	char path[64];
	int fd;

	if (major(dev) != LOOP_MAJOR)
		return;
	snprintf(path, sizeof(path), "/dev/loop%u", minor(dev));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, LOOP_GET_STATUS64, &info) ||
	    ioctl(fd, LOOP_SET_STATUS64, &info))
		err(1, "%s", path);
	close(fd);
}

/* See Documentation/block/stat.rst. */
struct dmt_stat dmt_stat(dev_t dev)
{
	uint64_t v[16];
	unsigned int i;
	FILE *f;

	all_are_counted(dev);
	f = dev_file(dev, "stat", "re");
	for (i = 0; i < 16; i++)
		if (fscanf(f, "%" SCNu64, &v[i]) != 1)
			errx(1, "cannot read the statistics of a device");
	fclose(f);
	return (struct dmt_stat){ .reads = v[0], .writes = v[4],
				  .discards = v[11], .flushes = v[15] };
}

/* What has been added to them. */
struct dmt_stat dmt_stat_since(dev_t dev, const struct dmt_stat *before)
{
	struct dmt_stat s = dmt_stat(dev);

	s.reads -= before->reads;
	s.writes -= before->writes;
	s.discards -= before->discards;
	s.flushes -= before->flushes;
	return s;
}

/* A limit of a device's queue, by its name in sysfs. */
uint64_t dmt_queue_get(dev_t dev, const char *name)
{
	uint64_t value;
	char what[64];
	FILE *f;

	snprintf(what, sizeof(what), "queue/%s", name);
	f = dev_file(dev, what, "re");
	if (fscanf(f, "%" SCNu64, &value) != 1)
		errx(1, "cannot read %s of a device", what);
	fclose(f);
	return value;
}

/* Likewise, of those that are not numbers. */
void dmt_queue_say(dev_t dev, const char *name, const char *value)
{
	char what[64];
	FILE *f;

	snprintf(what, sizeof(what), "queue/%s", name);
	f = dev_file(dev, what, "we");
	if (fprintf(f, "%s\n", value) < 0 || fclose(f))
		errx(1, "cannot write %s of a device", what);
}

void dmt_queue_set(dev_t dev, const char *name, uint64_t value)
{
	char number[32];

	snprintf(number, sizeof(number), "%" PRIu64, value);
	dmt_queue_say(dev, name, number);
}

static FILE *param_file(const char *name, const char *mode)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/module/dm_user/parameters/%s", name);
	f = fopen(path, mode);
	if (!f)
		err(1, "%s", path);
	return f;
}

unsigned int dmt_param_get(const char *name)
{
	FILE *f = param_file(name, "re");
	unsigned int value;

	if (fscanf(f, "%u", &value) != 1)
		errx(1, "cannot read the parameter %s", name);
	fclose(f);
	return value;
}

void dmt_param_set(const char *name, unsigned int value)
{
	FILE *f = param_file(name, "we");

	if (fprintf(f, "%u\n", value) < 0 || fclose(f))
		errx(1, "cannot write the parameter %s", name);
}

/**
 * dmt_often() - how often something is to be done
 * @times: as often, on a kernel that does nothing else
 *
 * Return: an eighth of @times on one that looks for mistakes.
 */
unsigned int dmt_often(unsigned int times)
{
	bool slow = !access("/proc/lockdep_stats", F_OK) ||
		    !access("/sys/kernel/debug/kcsan", F_OK);

	return slow ? (times + 7) / 8 : times;
}
