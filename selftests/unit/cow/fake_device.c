// SPDX-License-Identifier: GPL-2.0-only
/*
 * A stand-in for device.c of the policy: see fake.h.
 */
#include <errno.h>
#include <fcntl.h>

#include "device.h"
#include "fake.h"

int cow_device_path(dev_t dev, char *path, size_t size)
{
	(void)dev;
	(void)path;
	(void)size;
	return -ENOENT;
}

int cow_device_open(dev_t dev, int flags)
{
	int fd = -ENOENT;

	/* A file stands in for the origin. O_DIRECT is for devices. */
	if (dev == ORIGIN_DEV && fake.origin_path)
		fd = open(fake.origin_path, (flags & ~O_DIRECT) | O_CLOEXEC);
	return fd;
}
