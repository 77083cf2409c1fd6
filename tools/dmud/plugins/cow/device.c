// SPDX-License-Identifier: GPL-2.0-only
/*
 * From the number of a block device to its node.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "device.h"

static FILE *open_uevent(dev_t dev)
{
	char path[80];

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/uevent", major(dev),
		 minor(dev));
	return fopen(path, "re");
}

/**
 * cow_device_path() - the node of a block device
 * @dev: its number
 * @path: set to /dev/...
 * @size: of @path
 * Return: 0; -ENOENT where there is no such device; -ENAMETOOLONG; -errno
 */
int cow_device_path(dev_t dev, char *path, size_t size)
{
	static const char key[] = "DEVNAME=";
	FILE *f = open_uevent(dev);
	char line[512];
	int ret = -ENOENT;

	if (!f)
		return -errno;
	while (ret == -ENOENT && fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, strlen(key)))
			continue;
		line[strcspn(line, "\n")] = '\0';
		ret = snprintf(path, size, "/dev/%s", line + strlen(key));
		ret = (size_t)ret < size ? 0 : -ENAMETOOLONG;
	}
	fclose(f);
	return ret;
}

/**
 * cow_device_open() - open a block device by its number
 * @dev: its number
 * @flags: as of open()
 * Return: a file descriptor; -ENODEV where its node is another's; -errno
 */
int cow_device_open(dev_t dev, int flags)
{
	char path[256];
	struct stat st;
	int fd = cow_device_path(dev, path, sizeof(path));

	if (fd)
		return fd;
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!fstat(fd, &st) && st.st_rdev == dev)
		return fd;
	close(fd);
	return -ENODEV;
}
