// SPDX-License-Identifier: GPL-2.0-only
/* Mapped devices, by way of libdevmapper. */
#define _GNU_SOURCE
#include "dmt.h"
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <libdevmapper.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void quiet(int level, const char *file, int line, int dm_errno,
		  const char *fmt, ...)
{
	(void)level; (void)file; (void)line; (void)dm_errno; (void)fmt;
}

static struct dm_task *task_make(int type, const char *name)
{
	struct dm_task *task;

	dm_log_with_errno_init(quiet);
	task = dm_task_create(type);
	if (!task || !dm_task_set_name(task, name))
		errx(1, "libdevmapper: no memory");
	return task;
}

/* 0, or a negative errno. */
static int task_run(struct dm_task *task)
{
	int r = dm_task_run(task) ? 0 : -dm_task_get_errno(task);

	dm_task_destroy(task);
	dm_task_update_nodes();
	return r;
}

/**
 * dmt_dm_create() - make a device without a table
 * @name: its name
 *
 * Return: 0 or a negative errno, as all functions here.
 */
int dmt_dm_create(const char *name)
{
	return task_run(task_make(DM_DEVICE_CREATE, name));
}

/**
 * dmt_dm_load() - load a table of one line
 * @name: of the device
 * @start: of the line, in sectors
 * @sectors: its length
 * @type: of the target
 * @params: what follows
 */
int dmt_dm_load(const char *name, uint64_t start, uint64_t sectors,
		const char *type, const char *params)
{
	struct dm_task *task = task_make(DM_DEVICE_RELOAD, name);

	if (!dm_task_add_target(task, start, sectors, type, params))
		errx(1, "libdevmapper: no memory");
	return task_run(task);
}

int dmt_dm_resume(const char *name)
{
	return task_run(task_make(DM_DEVICE_RESUME, name));
}

int dmt_dm_suspend(const char *name, bool noflush)
{
	struct dm_task *task = task_make(DM_DEVICE_SUSPEND, name);

	if (noflush)
		dm_task_no_flush(task);
	dm_task_skip_lockfs(task);
	return task_run(task);
}

int dmt_dm_clear(const char *name)
{
	return task_run(task_make(DM_DEVICE_CLEAR, name));
}

/* Something that looks at new devices may have it open for a moment. */
int dmt_dm_remove(const char *name)
{
	struct dm_task *task = task_make(DM_DEVICE_REMOVE, name);

	dm_task_retry_remove(task);
	return task_run(task);
}

int dmt_dm_message(const char *name, const char *message)
{
	struct dm_task *task = task_make(DM_DEVICE_TARGET_MSG, name);

	if (!dm_task_set_sector(task, 0) || !dm_task_set_message(task, message))
		errx(1, "libdevmapper: no memory");
	return task_run(task);
}

static void params_of(int type, const char *name, bool inactive, char *buf,
		      size_t len)
{
	struct dm_task *task = task_make(type, name);
	uint64_t start, sectors;
	char *target, *params;

	if (inactive)
		dm_task_query_inactive_table(task);
	dm_task_no_flush(task);
	if (!dm_task_run(task))
		errx(1, "no status of %s", name);
	dm_get_next_target(task, NULL, &start, &sectors, &target, &params);
	snprintf(buf, len, "%s", params ? params : "");
	dm_task_destroy(task);
}

void dmt_dm_status(const char *name, bool inactive, char *buf, size_t len)
{
	params_of(DM_DEVICE_STATUS, name, inactive, buf, len);
}

void dmt_dm_table(const char *name, char *buf, size_t len)
{
	params_of(DM_DEVICE_TABLE, name, false, buf, len);
}

int dmt_dm_open(const char *name, int flags)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", dm_dir(), name);
	return open(path, flags | O_CLOEXEC);
}

/* --- status -------------------------------------------------------------------- */

struct status {
	unsigned int major, minor;
	char daemon[16];
	unsigned long long counters[DMT_NR_COUNTERS];
};

static void status_get(const char *name, bool inactive, struct status *s)
{
	unsigned long long *c = s->counters;
	char line[512];

	dmt_dm_status(name, inactive, line, sizeof(line));
	if (sscanf(line, "%u:%u %15s %llu %llu %llu %llu %llu %llu %llu %llu %llu",
		   &s->major, &s->minor, s->daemon, &c[0], &c[1], &c[2], &c[3],
		   &c[4], &c[5], &c[6], &c[7], &c[8]) != 12)
		errx(1, "cannot read the status line of %s: %s", name, line);
}

uint64_t dmt_counter(const char *name, enum dmt_counter which)
{
	struct status s;

	status_get(name, false, &s);
	return s.counters[which];
}

bool dmt_attached(const char *name)
{
	struct status s;

	status_get(name, false, &s);
	return !strcmp(s.daemon, "attached");
}

/* The control device of a loaded table, resumed or not. */
void dmt_control_path(const char *name, char *buf, size_t len)
{
	char line[512], link[64], target[256];
	unsigned int major, minor;
	ssize_t n;

	dmt_dm_status(name, false, line, sizeof(line));
	if (!*line)
		dmt_dm_status(name, true, line, sizeof(line));
	if (sscanf(line, "%u:%u ", &major, &minor) != 2)
		errx(1, "no control device in the status of %s: %s", name, line);
	snprintf(link, sizeof(link), "/sys/dev/char/%u:%u", major, minor);
	n = readlink(link, target, sizeof(target) - 1);
	if (n < 0)
		err(1, "%s", link);
	target[n] = '\0';
	snprintf(buf, len, "/dev/%s", strrchr(target, '/') + 1);
}
