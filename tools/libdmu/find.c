// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * From a name to an open connection: device-mapper's tables say which keys
 * there are and on which devices, their status names the control device, and
 * sysfs its node.
 *
 * A daemon is started before its table is resumed as often as after, so the
 * tables that are loaded but not live count too.
 */
#include <errno.h>
#include <fcntl.h>
#include <libdevmapper.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "internal.h"
#include "table.h"

#define TARGET "userspace"

/* How often a table that changes while we look is looked at. */
#define TRIES 5

/**
 * struct part - one line of a table that is ours
 * @next: in the order found; live tables first
 * @name: of the mapped device
 * @mapped: its number
 * @start: first sector
 * @end: the sector behind the last
 * @table: the line's arguments
 * @control: the control device of its key
 */
struct part {
	struct part *next;
	char *name;
	dev_t mapped;
	uint64_t start;
	uint64_t end;
	struct dmui_table table;
	dev_t control;
};

/* The parts found so far; new ones go to *@tail. */
struct parts {
	struct part *first;
	struct part **tail;
};

static void free_part(struct part *part)
{
	dmui_table_destroy(&part->table);
	free(part->name);
	free(part);
}

/* Forget the parts from *@from on. */
static void drop_parts(struct parts *parts, struct part **from)
{
	struct part *part, *next;

	for (part = *from; part; part = next) {
		next = part->next;
		free_part(part);
	}
	*from = NULL;
	parts->tail = from;
}

/* Ask device-mapper about a device. NULL: it is gone, or says nothing. */
static struct dm_task *ask(int type, dev_t mapped, bool inactive)
{
	struct dm_task *task = dm_task_create(type);

	if (!task)
		return NULL;
	/* Without no_flush, a status may write metadata and wait for it. */
	if (dm_task_set_major_minor(task, major(mapped), minor(mapped), 0) &&
	    dm_task_no_flush(task) &&
	    (!inactive || dm_task_query_inactive_table(task)) &&
	    dm_task_run(task))
		return task;
	dm_task_destroy(task);
	return NULL;
}

static struct part *new_part(const struct dm_names *device, uint64_t start,
			     uint64_t length, const char *args, int *err)
{
	struct part *part = calloc(1, sizeof(*part));

	*err = -ENOMEM;
	if (!part)
		return NULL;
	part->mapped = device->dev;
	part->start = start;
	part->end = start + length;
	part->name = strdup(device->name);
	if (part->name)
		*err = dmui_parse_table(args, &part->table);
	if (!*err)
		return part;
	if (*err == -EINVAL)
		dmui_error(NULL, *err, "cannot understand the table of %s: %s",
			   device->name, args);
	free_part(part);
	return NULL;
}

/* Append the parts that a table has; their control is not known yet. */
static int add_parts(struct parts *parts, struct dm_task *task,
		     const struct dm_names *device)
{
	uint64_t start, length;
	char *type, *args;
	struct part *part;
	void *next = NULL;
	int err;

	do {
		next = dm_get_next_target(task, next, &start, &length, &type,
					  &args);
		if (!type || strcmp(type, TARGET))
			continue;
		part = new_part(device, start, length, args, &err);
		if (!part)
			return err;
		*parts->tail = part;
		parts->tail = &part->next;
	} while (next);
	return 0;
}

/* Tell parts their control device. -EAGAIN: this is not the same table. */
static int add_controls(struct part *part, struct dm_task *task)
{
	uint64_t start, length;
	char *type, *status;
	void *next = NULL;

	do {
		next = dm_get_next_target(task, next, &start, &length, &type,
					  &status);
		if (!type || strcmp(type, TARGET))
			continue;
		if (!part || part->start != start ||
		    part->end != start + length)
			return -EAGAIN;
		if (dmui_parse_control(status, &part->control))
			return dmui_error(NULL, -EINVAL,
					  "cannot understand the status of %s: %s",
					  part->name, status);
		part = part->next;
	} while (next);
	return part ? -EAGAIN : 0;
}

/* Append what one table of a device holds, from one look at it. */
static int look_once(struct parts *parts, const struct dm_names *device,
		     bool inactive)
{
	struct part **mine = parts->tail;
	struct dm_task *task;
	int err;

	task = ask(DM_DEVICE_TABLE, device->dev, inactive);
	if (!task)
		return 0;
	err = add_parts(parts, task, device);
	dm_task_destroy(task);
	if (!err && *mine) {
		task = ask(DM_DEVICE_STATUS, device->dev, inactive);
		err = task ? add_controls(*mine, task) : -EAGAIN;
		if (task)
			dm_task_destroy(task);
	}
	if (err)
		drop_parts(parts, mine);
	return err;
}

static int look_at(struct parts *parts, const struct dm_names *device,
		   bool inactive)
{
	int err = -EAGAIN, tries;

	for (tries = 0; err == -EAGAIN && tries < TRIES; tries++)
		err = look_once(parts, device, inactive);
	if (err == -EAGAIN)
		dmui_error(NULL, err, "the table of %s keeps changing",
			   device->name);
	return err;
}

/* Every part of every mapped device: all live ones, then those only loaded. */
static int look_everywhere(struct parts *parts)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_LIST);
	const struct dm_names *device;
	struct dm_names *names = NULL;
	int err = 0, inactive;

	if (task && dm_task_run(task))
		names = dm_task_get_names(task);
	if (!names)
		err = dmui_error(NULL, -ENODEV,
				 "device-mapper does not answer: is dm_mod loaded, and are you root?");
	for (inactive = 0; !err && inactive < 2; inactive++) {
		device = names;
		while (!err && device->dev) {
			err = look_at(parts, device, inactive);
			if (!device->next)
				break;
			device = (const void *)((const char *)device +
						device->next);
		}
	}
	if (task)
		dm_task_destroy(task);
	dm_lib_release();
	if (err == -ENOMEM)
		dmui_error(NULL, err, "no memory to look at the tables");
	return err;
}

static bool same_key(const struct part *a, const struct part *b)
{
	return !strcmp(a->table.key, b->table.key);
}

static bool has_key(const struct part *part, const void *key)
{
	return !strcmp(part->table.key, key);
}

static bool has_name(const struct part *part, const void *name)
{
	return !strcmp(part->name, name);
}

static bool has_control(const struct part *part, const void *control)
{
	return part->control == *(const dev_t *)control;
}

static bool is_mapped(const struct part *part, const void *mapped)
{
	return part->mapped == *(const dev_t *)mapped;
}

typedef bool (*matcher)(const struct part *part, const void *what);

/* The first part that matches. All must have one key, or *@err is set. */
static const struct part *match(const struct part *part, matcher matches,
				const void *what, int *err)
{
	const struct part *found = NULL;

	for (; part; part = part->next) {
		if (!matches(part, what))
			continue;
		if (found && !same_key(found, part))
			*err = dmui_error(NULL, -EINVAL,
					  "the device %s has several keys, among them %s and %s: name one of them",
					  part->name, found->table.key,
					  part->table.key);
		if (!found)
			found = part;
	}
	return found;
}

/* A control device's node, or a mapped device's. */
static const struct part *match_path(const struct part *parts, const char *path,
				     int *err)
{
	const struct part *found = NULL;
	struct stat st;

	if (stat(path, &st)) {
		*err = dmui_error(NULL, -errno, "%s: %s", path,
				  strerror(errno));
		return NULL;
	}
	if (S_ISCHR(st.st_mode))
		found = match(parts, has_control, &st.st_rdev, err);
	else if (S_ISBLK(st.st_mode))
		found = match(parts, is_mapped, &st.st_rdev, err);
	if (!found)
		*err = dmui_error(NULL, -ENODEV,
				  "%s is neither a control device of a userspace target nor a device mapped by one",
				  path);
	return found;
}

static const struct part *match_key(const struct part *parts, const char *key,
				    int *err)
{
	const struct part *found = match(parts, has_key, key, err);

	if (!found)
		*err = dmui_error(NULL, -ENODEV,
				  "no userspace target has the key %s", key);
	return found;
}

static const struct part *match_word(const struct part *parts, const char *name,
				     int *err)
{
	const struct part *keyed = match(parts, has_key, name, err);
	const struct part *named = match(parts, has_name, name, err);

	if (keyed && named && !same_key(keyed, named))
		*err = dmui_error(NULL, -EINVAL,
				  "%s is the key of %s, and the name of a device whose key is %s: give the control device's path",
				  name, keyed->name, named->table.key);
	if (!keyed && !named)
		*err = dmui_error(NULL, -ENODEV,
				  "no userspace target has the key, and no device mapped by one the name, %s",
				  name);
	return keyed ? keyed : named;
}

static const struct part *match_any(const struct part *parts, const char *name,
				    int *err)
{
	return strchr(name, '/') ? match_path(parts, name, err) :
				   match_word(parts, name, err);
}

static bool has_device(const struct dmu_geometry *geo, dev_t dev)
{
	unsigned int n;

	for (n = 0; n < geo->nr_devices; n++)
		if (geo->devices[n] == dev)
			return true;
	return false;
}

/* The shape that the parts with @one's key have together. */
static int join_parts(const struct part *parts, const struct part *one,
		      struct dmu_geometry *geo)
{
	const struct part *part;
	unsigned int n;
	dev_t *devices;

	*geo = (struct dmu_geometry){ .block_size = one->table.block_size };
	for (part = parts; part; part = part->next) {
		if (!same_key(part, one))
			continue;
		if (geo->sectors < part->end)
			geo->sectors = part->end;
		devices = reallocarray(geo->devices, geo->nr_devices +
				       part->table.nr_devices,
				       sizeof(*devices));
		if (!devices) {
			free(geo->devices);
			return dmui_error(NULL, -ENOMEM, "no memory");
		}
		geo->devices = devices;
		for (n = 0; n < part->table.nr_devices; n++)
			if (!has_device(geo, part->table.devices[n]))
				devices[geo->nr_devices++] =
					part->table.devices[n];
	}
	return 0;
}

/* What a name stands for; all owned by the caller. */
struct found {
	char *key;
	dev_t control;
	struct dmu_geometry geo;
};

static void forget(struct found *found)
{
	free(found->geo.devices);
	free(found->key);
}

typedef const struct part *(*chooser)(const struct part *parts,
				      const char *name, int *err);

/* 0 and *@found, or an error and a sentence about opening. */
static int find(chooser choose, const char *name, struct found *found)
{
	struct parts parts = { .tail = &parts.first };
	const struct part *part = NULL;
	int err;

	memset(found, 0, sizeof(*found));
	err = look_everywhere(&parts);
	if (!err)
		part = choose(parts.first, name, &err);
	if (!err) {
		found->control = part->control;
		found->key = strdup(part->table.key);
		err = found->key ? join_parts(parts.first, part, &found->geo) :
				   dmui_error(NULL, -ENOMEM, "no memory");
	}
	drop_parts(&parts, &parts.first);
	if (err)
		free(found->key);
	return err;
}

/* The node of a character device, from sysfs: no udev is needed. */
static int node_of(dev_t dev, char *path, size_t size)
{
	char uevent[1024];
	size_t len = 0;
	FILE *file;
	int err;

	snprintf(path, size, "/sys/dev/char/%u:%u/uevent", major(dev),
		 minor(dev));
	file = fopen(path, "re");
	if (!file)
		return dmui_error(NULL, -errno, "%s: %s", path,
				  strerror(errno));
	len = fread(uevent, 1, sizeof(uevent) - 1, file);
	fclose(file);
	uevent[len] = 0;
	err = dmui_parse_devname(uevent, path, size);
	if (err)
		return dmui_error(NULL, err,
				  "the kernel names no node for device %u:%u",
				  major(dev), minor(dev));
	return 0;
}

/* A descriptor of the control device, or a negative errno and a sentence. */
static int open_control(dev_t dev)
{
	char path[256];
	struct stat st;
	int fd, err;

	err = node_of(dev, path, sizeof(path));
	if (err)
		return err;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return dmui_error(NULL, -errno, "%s: %s", path,
				  strerror(errno));
	/* Numbers are used again when targets come and go. */
	if (fstat(fd, &st) || !S_ISCHR(st.st_mode) || st.st_rdev != dev) {
		close(fd);
		return dmui_error(NULL, -ENODEV,
				  "%s is no longer device %u:%u", path,
				  major(dev), minor(dev));
	}
	return fd;
}

/**
 * dmu_open() - find a mapped device by name and serve it
 * @name: the key of the table; the name of a mapped device; or, where it holds
 *	a "/", the path of a control device (/dev/dm-userspace0) or of a mapped
 *	device. A table that is loaded and not yet resumed will do
 * @ops: what to do with requests; copied
 * @ctx: handed to every callback
 * @dmu: where the connection goes; unchanged on failure
 *
 * Needs CAP_SYS_ADMIN. What dmu_open_fd() says of callbacks holds here too.
 *
 * Return: 0; -ENODEV: no such device or key; -EINVAL: @name means two things,
 * or @ops has no map; -EAGAIN: the table keeps changing; -ENOMEM; or an errno
 * of open() and the like. dmu_strerror(NULL) has the sentence.
 */
int dmu_open(const char *name, const struct dmu_ops *ops, void *ctx,
	     struct dmu **dmu)
{
	struct found found;
	int err, fd;

	err = find(match_any, name, &found);
	if (err)
		return err;
	fd = open_control(found.control);
	err = fd < 0 ? fd : dmu_open_fd(fd, &found.geo, ops, ctx, dmu);
	if (err) {
		if (fd >= 0)
			close(fd);
	} else {
		(*dmu)->key = found.key;
		found.key = NULL;
	}
	forget(&found);
	return err;
}

/**
 * dmu_refresh() - look at the tables again
 * @dmu: the connection, from dmu_open()
 *
 * A table may have been reloaded with the same key since: the mapped device may
 * have another size, other devices may be named. Nothing is looked at again by
 * itself. After a failure everything is as before.
 *
 * Return: 0; -EOPNOTSUPP: opened with dmu_open_fd(); -ENODEV: no table has the
 * key any more, or another control device; or an error of dmu_open().
 */
int dmu_refresh(struct dmu *dmu)
{
	struct found found;
	struct stat st;
	int err;

	if (!dmu->key)
		return dmui_error(dmu, -EOPNOTSUPP,
				  "the connection was not opened by name");
	err = find(match_key, dmu->key, &found);
	if (err)
		return dmui_error(dmu, err, "%s", dmu_strerror(NULL));
	if (fstat(dmu->fd, &st) || st.st_rdev != found.control ||
	    found.geo.block_size != dmu->geo.block_size)
		err = dmui_error(dmu, -ENODEV,
				 "the key %s is another device's now", dmu->key);
	else if (dmui_check_geometry(&found.geo))
		err = dmui_error(dmu, -EINVAL, "%s", dmu_strerror(NULL));
	else if (dmui_set_geometry(dmu, &found.geo))
		err = dmui_error(dmu, -ENOMEM, "no memory for the devices");
	forget(&found);
	return err;
}
