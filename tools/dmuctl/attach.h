/* SPDX-License-Identifier: GPL-2.0-only */
/* Making a device. */
#ifndef DMUCTL_ATTACH_H
#define DMUCTL_ATTACH_H

#include "dmuctl.h"

/**
 * struct attachment - a device to be made
 * @name: its name, and its key
 * @policy: of its daemon
 * @opts: for the policy, NULL-terminated, or NULL
 * @sectors: its size
 * @block_size: bytes
 * @devices: that its table names
 * @nr_devices: of them
 */
struct attachment {
	const char *name;
	const char *policy;
	char *const *opts;
	uint64_t sectors;
	uint32_t block_size;
	const struct backing *devices;
	unsigned int nr_devices;
};

int attach(const struct attachment *a);

#endif /* DMUCTL_ATTACH_H */
