// SPDX-License-Identifier: GPL-2.0-only
/* A device that comes and goes, and what it may leave behind. */
#define _GNU_SOURCE
#include "brief.h"
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

/* As quickly as can be: nothing here waits for anything. */
void dmt_brief_make(struct dmt_brief *b, const char *name,
		    const struct dmt_disk *disk)
{
	char params[128];

	snprintf(b->name, sizeof(b->name), "%s", name);
	b->disk = disk;
	snprintf(params, sizeof(params), "%s 4096 %u:%u", name,
		 major(disk->dev), minor(disk->dev));
	if (dmt_dm_create(name) ||
	    dmt_dm_load(name, 0, DMT_BLOCKS * DMT_SECTORS, "userspace",
			params) ||
	    dmt_dm_resume(name))
		errx(1, "cannot make %s", name);
	b->fd = dmt_dm_open(name, O_RDWR | O_DIRECT);
	if (b->fd < 0)
		err(1, "%s", name);
	b->ctl = dmt_control_open(name, O_NONBLOCK);
}

/* Its control device may still be open. */
void dmt_brief_remove(struct dmt_brief *b)
{
	close(b->fd);
	if (dmt_dm_remove(b->name))
		errx(1, "cannot remove %s", b->name);
}

/* A miss, a hit, a copy and a SYNC: something of everything is allocated. */
bool dmt_brief_use(struct dmt_brief *b, uint64_t block)
{
	struct dmt_map map = { .block = block, .to = block ^ 1,
			       .dst = b->disk, .src = b->disk,
			       .flags = DMU_FLAG_RD | DMU_FLAG_WR |
					DMU_FLAG_COPY_FIRST | DMU_FLAG_SYNC };
	struct dmt_io *io;
	uint32_t id;

	io = dmt_io(b->fd, DMT_WRITE, block * DMT_BLOCK, 512, 2);
	id = dmt_expect_request(b->ctl, block, DMU_FLAG_RD | DMU_FLAG_WR);
	if (!id || dmt_map(b->ctl, id, &map) ||
	    !dmt_expect_status(b->ctl, id, DM_USERSPACE_SYNC_COMPLETE) ||
	    dmt_sync_done(b->ctl, id) || dmt_io_result(io))
		return false;
	io = dmt_io(b->fd, DMT_READ, block * DMT_BLOCK, DMT_BLOCK, 0);
	return !dmt_io_result(io);
}

/*
 * Are all keys gone, and all that they had? That is freed in the background:
 * waits for the last of it.
 */
bool dmt_keys_are_gone(void)
{
	struct timespec now, end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += DMT_PATIENCE / 1000;
	while (dmt_workers()) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec > end.tv_sec)
			return false;
		sched_yield();
	}
	return !dmt_controls() && !dmt_module_refs();
}
