/* SPDX-License-Identifier: GPL-2.0-only */
/* A device that comes and goes, and what it may leave behind. */
#ifndef DMT_BRIEF_H
#define DMT_BRIEF_H

#include "dmt.h"

/**
 * struct dmt_brief - a device of DMT_BLOCKS blocks over one disk
 * @name: of it, and its key
 * @disk: below it
 * @fd: the device, O_DIRECT
 * @ctl: its control device, O_NONBLOCK; closed by whoever made it
 */
struct dmt_brief {
	char name[48];
	const struct dmt_disk *disk;
	int fd;
	int ctl;
};

void dmt_brief_make(struct dmt_brief *b, const char *name,
		    const struct dmt_disk *disk);
bool dmt_brief_use(struct dmt_brief *b, uint64_t block);
void dmt_brief_remove(struct dmt_brief *b);

bool dmt_keys_are_gone(void);

#endif /* DMT_BRIEF_H */
