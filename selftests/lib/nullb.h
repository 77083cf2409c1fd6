/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Disks that null_blk makes: of any size, since they need not keep what is
 * written, and with queues that can be polled.
 */
#ifndef DMT_NULLB_H
#define DMT_NULLB_H

#include "dmt.h"

/* One of its attributes in configfs. */
struct dmt_nullb_attr {
	const char *name;
	const char *value;
};

bool dmt_nullb_make(struct dmt_disk *disk, const char *name,
		    uint64_t mebibytes, const struct dmt_nullb_attr *attrs);
void dmt_nullb_remove(struct dmt_disk *disk, const char *name);

#endif /* DMT_NULLB_H */
