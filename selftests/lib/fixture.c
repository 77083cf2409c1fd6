// SPDX-License-Identifier: GPL-2.0-only
/* What most tests have: a mapped device over two disks, and its daemon's end. */
#define _GNU_SOURCE
#include "dmt.h"
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* The table line's arguments. */
void dmt_params(const struct dmt *t, char *buf, size_t len)
{
	snprintf(buf, len, "%s %u %u:%u %u:%u", t->name, DMT_BLOCK,
		 major(t->origin.dev), minor(t->origin.dev),
		 major(t->store.dev), minor(t->store.dev));
}

/**
 * dmt_setup() - make it
 * @t: gets it
 */
void dmt_setup(struct dmt *t)
{
	char params[256];
	uint64_t block;

	memset(t, 0, sizeof(*t));
	snprintf(t->name, sizeof(t->name), "dmt%d", getpid());
	dmt_disk_open(&t->origin, DMT_BLOCKS * DMT_BLOCK, 0);
	dmt_disk_open(&t->store, DMT_BLOCKS * DMT_BLOCK, 0);
	for (block = 0; block < DMT_BLOCKS; block++)
		dmt_disk_fill(&t->origin, block, DMT_ORIGIN);
	dmt_params(t, params, sizeof(params));
	if (dmt_dm_create(t->name) ||
	    dmt_dm_load(t->name, 0, DMT_BLOCKS * DMT_SECTORS, "userspace",
			params) ||
	    dmt_dm_resume(t->name))
		errx(1, "cannot make the mapped device %s", t->name);
	t->fd = dmt_dm_open(t->name, O_RDWR | O_DIRECT);
	if (t->fd < 0)
		err(1, "%s", t->name);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
}

/**
 * dmt_teardown() - take all of it away again
 * @t: made by dmt_setup()
 */
void dmt_teardown(struct dmt *t)
{
	if (t->ctl >= 0)
		close(t->ctl);
	/* Whatever a failed test left waiting. */
	dmt_dm_message(t->name, "error_if_no_daemon on");
	dmt_dm_message(t->name, "fail_waiting");
	if (t->fd >= 0)
		close(t->fd);
	if (dmt_dm_remove(t->name))
		warnx("cannot remove %s", t->name);
	dmt_disk_close(&t->origin);
	dmt_disk_close(&t->store);
}
