/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the block layer says of a device: what it has done, what it can do; and
 * the parameters of the module.
 */
#ifndef DMT_SYSFS_H
#define DMT_SYSFS_H

#include "dmt.h"

/**
 * struct dmt_stat - requests that a device has finished
 * @reads: of them
 * @writes: likewise
 * @discards: likewise
 * @flushes: likewise; one for each write with FUA, too, where the device has
 *	no such thing
 */
struct dmt_stat {
	uint64_t reads;
	uint64_t writes;
	uint64_t discards;
	uint64_t flushes;
};

struct dmt_stat dmt_stat(dev_t dev);
struct dmt_stat dmt_stat_since(dev_t dev, const struct dmt_stat *before);
uint64_t dmt_queue_get(dev_t dev, const char *name);
void dmt_queue_say(dev_t dev, const char *name, const char *value);
void dmt_queue_set(dev_t dev, const char *name, uint64_t value);
dev_t dmt_dev_of(int fd);

/* Parameters of the module: for all devices, and for whoever comes next. */
unsigned int dmt_param_get(const char *name);
void dmt_param_set(const char *name, unsigned int value);

/* How often to do something: so often, or an eighth of that where it takes long. */
unsigned int dmt_often(unsigned int times);

#endif /* DMT_SYSFS_H */
