/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From the number of a block device to its node.
 */
#ifndef COW_DEVICE_H
#define COW_DEVICE_H

#include <stddef.h>
#include <sys/types.h>

int cow_device_path(dev_t dev, char *path, size_t size);
int cow_device_open(dev_t dev, int flags);

#endif /* COW_DEVICE_H */
