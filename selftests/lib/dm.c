// SPDX-License-Identifier: GPL-2.0-only
/* Mapped devices, by way of libdevmapper. */
#define _GNU_SOURCE
#include "dmt.h"
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <libdevmapper.h>
#include <linux/dm-ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define DM_DIR_CONTROL "/dev/mapper/control"

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
 * dmt_dm_load_lines() - load a table
 * @name: of the device
 * @lines: of the table
 * @nr: how many
 * @read_only: the mode it is loaded in
 */
int dmt_dm_load_lines(const char *name, const struct dmt_line *lines,
		      unsigned int nr, bool read_only)
{
	struct dm_task *task = task_make(DM_DEVICE_RELOAD, name);
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (!dm_task_add_target(task, lines[i].start, lines[i].sectors,
					lines[i].type, lines[i].params))
			errx(1, "libdevmapper: no memory");
	if (read_only)
		dm_task_set_ro(task);
	return task_run(task);
}

/**
 * dmt_dm_load_raw() - load a table without libdevmapper's help
 * @name: of the device
 * @lines: of the table
 * @nr: how many
 *
 * The kernel takes what follows a backslash as it is; libdevmapper doubles each
 * backslash, so that such lines do not get past it.
 */
int dmt_dm_load_raw(const char *name, const struct dmt_line *lines,
		    unsigned int nr)
{
	size_t size = sizeof(struct dm_ioctl), at = size;
	struct dm_target_spec spec;
	struct dm_ioctl *dmi;
	unsigned int i;
	int fd, r;

	for (i = 0; i < nr; i++)
		size += sizeof(spec) + strlen(lines[i].params) + 8;
	dmi = calloc(1, size);
	fd = open(DM_DIR_CONTROL, O_RDWR | O_CLOEXEC);
	if (!dmi || fd < 0)
		err(1, DM_DIR_CONTROL);
	dmi->version[0] = DM_VERSION_MAJOR;
	dmi->data_size = (uint32_t)size;
	dmi->data_start = (uint32_t)at;
	dmi->target_count = nr;
	snprintf(dmi->name, sizeof(dmi->name), "%s", name);
	for (i = 0; i < nr; i++) {
		memset(&spec, 0, sizeof(spec));
		spec.sector_start = lines[i].start;
		spec.length = lines[i].sectors;
		/* Aligned, and with a zero at the end. */
		spec.next = (uint32_t)(sizeof(spec) +
				       (strlen(lines[i].params) & ~7ul) + 8);
		snprintf(spec.target_type, sizeof(spec.target_type), "%s",
			 lines[i].type);
		memcpy((char *)dmi + at, &spec, sizeof(spec));
		strcpy((char *)dmi + at + sizeof(spec), lines[i].params);
		at += spec.next;
	}
	r = ioctl(fd, DM_TABLE_LOAD, dmi) ? -errno : 0;
	close(fd);
	free(dmi);
	return r;
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
	struct dmt_line line = { start, sectors, type, params };

	return dmt_dm_load_lines(name, &line, 1, false);
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

static bool line_is(const struct dmt_line *line, uint64_t start,
		    uint64_t sectors, const char *type, const char *params)
{
	if (type && params && start == line->start && sectors == line->sectors &&
	    !strcmp(type, line->type) && !strcmp(params, line->params))
		return true;
	warnx("a table has %llu %llu %s %s, and not %llu %llu %s %s",
	      (unsigned long long)start, (unsigned long long)sectors,
	      type ? type : "", params ? params : "",
	      (unsigned long long)line->start,
	      (unsigned long long)line->sectors, line->type, line->params);
	return false;
}

/**
 * dmt_dm_has_lines() - is that the live table?
 * @name: of the device
 * @lines: what it should be, in the kernel's words
 * @nr: how many
 */
bool dmt_dm_has_lines(const char *name, const struct dmt_line *lines,
		      unsigned int nr)
{
	struct dm_task *task = task_make(DM_DEVICE_TABLE, name);
	uint64_t start, sectors;
	char *target, *params;
	void *next = NULL;
	unsigned int i;
	bool has = true;

	dm_task_no_flush(task);
	if (!dm_task_run(task))
		errx(1, "no table of %s", name);
	for (i = 0; has && i < nr; i++) {
		next = dm_get_next_target(task, next, &start, &sectors, &target,
					  &params);
		has = line_is(&lines[i], start, sectors, target, params) &&
		      !next == (i == nr - 1);
	}
	dm_task_destroy(task);
	return has;
}

int dmt_dm_open(const char *name, int flags)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", dm_dir(), name);
	return open(path, flags | O_CLOEXEC);
}

/* Is there such a device? */
bool dmt_dm_exists(const char *name)
{
	struct dm_task *task = task_make(DM_DEVICE_INFO, name);
	struct dm_info info;
	bool exists;

	exists = dm_task_run(task) && dm_task_get_info(task, &info) &&
		 info.exists;
	dm_task_destroy(task);
	return exists;
}

/* The number of a device, with a table or without. */
dev_t dmt_dm_dev(const char *name)
{
	struct dm_task *task = task_make(DM_DEVICE_INFO, name);
	struct dm_info info;

	if (!dm_task_run(task) || !dm_task_get_info(task, &info) ||
	    !info.exists)
		errx(1, "there is no device %s", name);
	dm_task_destroy(task);
	return makedev(info.major, info.minor);
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
