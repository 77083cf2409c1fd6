// SPDX-License-Identifier: GPL-2.0-only
/* Mapped devices, by way of libdevmapper. */
#include <errno.h>
#include <inttypes.h>
#include <libdevmapper.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dmuctl.h"
#include "table.h"

#define TARGET		"userspace"
#define UUID_PREFIX	"DMU-"

static char last_error[256];

/* libdevmapper would write several lines; ours is one. */
static void keep_error(int level, const char *file, int line, int dm_errno,
		       const char *fmt, ...)
{
	va_list args;

	(void)file;
	(void)line;
	(void)dm_errno;
	if ((level & 7) > 3) /* what is less than an error */
		return;
	va_start(args, fmt);
	vsnprintf(last_error, sizeof(last_error), fmt, args);
	va_end(args);
}

static struct dm_task *task_new(int type, const char *name)
{
	struct dm_task *task;

	dm_log_with_errno_init(keep_error);
	last_error[0] = '\0';
	task = dm_task_create(type);
	if (task && (!name || dm_task_set_name(task, name)))
		return task;
	if (task)
		dm_task_destroy(task);
	return NULL;
}

/* What the kernel, or libdevmapper, had against it. */
static const char *task_error(struct dm_task *task)
{
	int err = task ? dm_task_get_errno(task) : ENOMEM;

	if (err == EPERM || err == EACCES || geteuid())
		return "you have to be root";
	return err ? strerror(err) :
	       *last_error ? last_error : "device-mapper does not answer";
}

/* Run it, and wait for udev where it makes or removes a node. */
static bool task_run(struct dm_task *task, bool udev)
{
	uint32_t cookie = 0;
	bool ok;

	if (udev && !dm_task_set_cookie(task, &cookie, 0))
		return false;
	ok = dm_task_run(task);
	if (udev)
		dm_udev_wait(cookie);
	return ok;
}

/* --- the module --------------------------------------------------------------------- */

static bool target_known(void)
{
	struct dm_task *task = task_new(DM_DEVICE_LIST_VERSIONS, NULL);
	struct dm_versions *v, *next;
	bool known = false;

	if (!task || !dm_task_run(task)) {
		if (task)
			dm_task_destroy(task);
		return false;
	}
	v = dm_task_get_versions(task);
	do {
		known = !strcmp(v->name, TARGET);
		next = (void *)((char *)v + v->next);
		if (known || !v->next)
			break;
		v = next;
	} while (1);
	dm_task_destroy(task);
	return known;
}

static void run_modprobe(const char *module)
{
	pid_t pid = fork();

	if (!pid) {
		execlp("modprobe", "modprobe", "-q", module, NULL);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

/**
 * module_load() - see to it that the kernel has the target
 *
 * Return: 0, or -1 after a sentence.
 */
int module_load(void)
{
	if (geteuid())
		return complain("you have to be root");
	if (target_known())
		return 0;
	run_modprobe("dm-mod");
	run_modprobe("dm-userspace");
	if (target_known())
		return 0;
	return complain("the kernel has no \"userspace\" target: the module dm-user.ko is not installed for this kernel, or cannot be loaded (see dmesg)");
}

/* --- making and removing -------------------------------------------------------------- */

const char *mapped_path(const char *name)
{
	static char path[300];

	snprintf(path, sizeof(path), "%s/%s", dm_dir(), name);
	return path;
}

bool mapped_exists(const char *name)
{
	struct dm_task *task = task_new(DM_DEVICE_INFO, name);
	struct dm_info info = {};
	bool exists = task && dm_task_run(task) && dm_task_get_info(task, &info) &&
		      info.exists;

	if (task)
		dm_task_destroy(task);
	return exists;
}

/**
 * mapped_create() - make a device without a table
 * @name: its name
 * @policy: goes into its UUID, by which it is known as ours
 *
 * Return: 0, or -1 after a sentence.
 */
int mapped_create(const char *name, const char *policy)
{
	struct dm_task *task;
	char uuid[256];
	int r = 0;

	if (mapped_exists(name))
		return complain("there is a mapped device %s already", name);
	task = task_new(DM_DEVICE_CREATE, name);
	snprintf(uuid, sizeof(uuid), UUID_PREFIX "%s-%s", policy, name);
	if (!task || !dm_task_set_uuid(task, uuid) || !task_run(task, false))
		r = complain("cannot make the mapped device %s: %s", name,
			     task_error(task));
	if (task)
		dm_task_destroy(task);
	return r;
}

static int put_table(char *buf, size_t size, const char *name,
		     uint32_t block_size, const struct backing *devices,
		     unsigned int nr)
{
	int len = snprintf(buf, size, "%s %u", name, block_size);
	unsigned int i;

	for (i = 0; i < nr && len > 0 && (size_t)len < size; i++)
		len += snprintf(buf + len, size - (size_t)len, " %u:%u",
				major(devices[i].dev), minor(devices[i].dev));
	return len > 0 && (size_t)len < size ? 0 : -1;
}

/**
 * mapped_load() - load a table, to be resumed later
 * @name: of the device, and the key
 * @sectors: its size
 * @block_size: bytes
 * @devices: that it names
 * @nr: of them
 *
 * Return: 0, or -1 after a sentence.
 */
int mapped_load(const char *name, uint64_t sectors, uint32_t block_size,
		const struct backing *devices, unsigned int nr)
{
	struct dm_task *task = task_new(DM_DEVICE_RELOAD, name);
	char params[1024];
	int r = 0;

	if (!task ||
	    put_table(params, sizeof(params), name, block_size, devices, nr) ||
	    !dm_task_add_target(task, 0, sectors, TARGET, params) ||
	    !task_run(task, false))
		r = complain("the kernel refuses the table of %s: %s; its log says why (dmesg)",
			     name, task_error(task));
	if (task)
		dm_task_destroy(task);
	return r;
}

/**
 * mapped_resume() - let I/O in
 * @name: of the device
 *
 * Return: 0, or -1 after a sentence.
 */
int mapped_resume(const char *name)
{
	struct dm_task *task = task_new(DM_DEVICE_RESUME, name);
	int r = 0;

	if (!task || !task_run(task, true))
		r = complain("cannot resume %s: %s", name, task_error(task));
	if (task)
		dm_task_destroy(task);
	dm_task_update_nodes();
	return r;
}

/**
 * mapped_remove() - take a device away
 * @name: of the device
 *
 * Return: 0, or -1 after a sentence.
 */
int mapped_remove(const char *name)
{
	struct dm_task *task = task_new(DM_DEVICE_REMOVE, name);
	int r = 0;

	/* Whatever looks at devices for a moment is waited for. */
	if (!task || !dm_task_retry_remove(task) || !task_run(task, true))
		r = complain("cannot remove %s: %s", name, task_error(task));
	if (task)
		dm_task_destroy(task);
	dm_task_update_nodes();
	return r;
}

/* --- looking ---------------------------------------------------------------------------- */

/*
 * The policy's name, which ends where the key begins. That was the device's name
 * when it was made, and stays when the device is renamed.
 */
static bool parse_uuid(const char *uuid, const char *key, char *policy,
		       size_t size)
{
	size_t skip = strlen(UUID_PREFIX);
	size_t tail = strlen(key) + 1;
	size_t len = strlen(uuid);

	if (len < skip + tail || strncmp(uuid, UUID_PREFIX, skip) ||
	    uuid[len - tail] != '-' || strcmp(uuid + len - tail + 1, key) ||
	    len - skip - tail >= size)
		return false;
	snprintf(policy, size, "%.*s", (int)(len - skip - tail), uuid + skip);
	return true;
}

/* The first line of a table, or of a status; live, or else only loaded. */
static bool get_line(int type, const char *name, bool inactive,
		     uint64_t *sectors, char *line, size_t size)
{
	struct dm_task *task = task_new(type, name);
	char *target = NULL, *params = NULL;
	uint64_t start;
	bool ok = false;

	if (!task)
		return false;
	if (inactive)
		dm_task_query_inactive_table(task);
	dm_task_no_flush(task);
	if (dm_task_run(task)) {
		dm_get_next_target(task, NULL, &start, sectors, &target,
				   &params);
		ok = target && !strcmp(target, TARGET);
		if (ok)
			snprintf(line, size, "%s", params);
	}
	dm_task_destroy(task);
	return ok;
}

static bool get_table(struct mapped *m, bool inactive)
{
	struct dmui_table table;
	char line[1024];
	unsigned int i;

	if (!get_line(DM_DEVICE_TABLE, m->name, inactive, &m->sectors, line,
		      sizeof(line)) ||
	    dmui_parse_table(line, &table))
		return false;
	snprintf(m->key, sizeof(m->key), "%s", table.key);
	m->block_size = table.block_size;
	m->nr_devices = table.nr_devices < MAX_DEVICES ? table.nr_devices :
			MAX_DEVICES;
	for (i = 0; i < m->nr_devices; i++)
		m->devices[i] = table.devices[i];
	dmui_table_destroy(&table);
	return get_line(DM_DEVICE_STATUS, m->name, inactive, &m->sectors,
			m->status, sizeof(m->status));
}

/* What does not need the table. @uuid is set to ours, or to "". */
static bool get_info(struct mapped *m, char *uuid, size_t size)
{
	struct dm_task *task = task_new(DM_DEVICE_INFO, m->name);
	struct dm_info info = {};
	char *own = NULL;
	bool ok;

	ok = task && dm_task_run(task) && dm_task_get_info(task, &info) &&
	     info.exists;
	/* What is no letter of a name's, such as a slash, is escaped. */
	if (ok)
		own = dm_task_get_uuid_unmangled(task);
	snprintf(uuid, size, "%s", own ? own : "");
	dm_free(own);
	if (task)
		dm_task_destroy(task);
	m->dev = makedev(info.major, info.minor);
	m->open_count = info.open_count;
	m->suspended = info.suspended || !info.live_table;
	m->begun = info.live_table;
	return ok;
}

/* 0 where the device is of our target, else -1; no sentence. */
static int look(const char *name, struct mapped *m)
{
	char uuid[256];

	memset(m, 0, sizeof(*m));
	snprintf(m->name, sizeof(m->name), "%s", name);
	if (!get_info(m, uuid, sizeof(uuid)) ||
	    (!get_table(m, false) && !get_table(m, true)))
		return -1;
	if (!parse_uuid(uuid, m->key, m->policy, sizeof(m->policy)))
		snprintf(m->policy, sizeof(m->policy), "?");
	return 0;
}

static bool table_uses(const char *name, bool inactive, dev_t dev)
{
	struct dm_task *task = task_new(DM_DEVICE_DEPS, name);
	struct dm_deps *deps = NULL;
	bool uses = false;
	uint32_t i;

	if (!task)
		return false;
	if (inactive)
		dm_task_query_inactive_table(task);
	if (dm_task_run(task))
		deps = dm_task_get_deps(task);
	for (i = 0; deps && i < deps->count && !uses; i++)
		uses = deps->device[i] == dev;
	dm_task_destroy(task);
	return uses;
}

/**
 * mapped_uses() - is a device in another's table?
 * @m: that one; its table that is loaded only counts, too
 * @dev: the device
 */
bool mapped_uses(const struct mapped *m, dev_t dev)
{
	return table_uses(m->name, false, dev) || table_uses(m->name, true, dev);
}

/**
 * mapped_find() - all about a device
 * @name: its name
 * @m: gets it
 *
 * Return: 0, or -1 after a sentence.
 */
int mapped_find(const char *name, struct mapped *m)
{
	if (geteuid())
		return complain("you have to be root");
	if (!mapped_exists(name))
		return complain("there is no mapped device %s (dmuctl list shows those that there are)",
				name);
	if (look(name, m))
		return complain("%s is no dm-userspace device", name);
	return 0;
}

/**
 * mapped_each() - go through all devices of our target
 * @fn: is shown each; ends it by returning something else than 0
 * @ctx: for @fn
 *
 * Return: 0, what @fn returned, or -1 after a sentence.
 */
int mapped_each(int (*fn)(const struct mapped *m, void *ctx), void *ctx)
{
	struct dm_task *task = task_new(DM_DEVICE_LIST, NULL);
	struct dm_names *names;
	struct mapped m;
	int r = 0;

	if (!task || !dm_task_run(task)) {
		r = complain("cannot list the mapped devices: %s",
			     task_error(task));
		if (task)
			dm_task_destroy(task);
		return r;
	}
	names = dm_task_get_names(task);
	while (names && names->dev) {
		if (!look(names->name, &m))
			r = fn(&m, ctx);
		if (r || !names->next)
			break;
		names = (void *)((char *)names + names->next);
	}
	dm_task_destroy(task);
	return r;
}
