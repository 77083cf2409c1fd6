// SPDX-License-Identifier: GPL-2.0-only
/* What a module that has gone may have left behind. */
#define _GNU_SOURCE
#include "dmt.h"
#include <dirent.h>
#include <err.h>
#include <libdevmapper.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool target_known(void)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_LIST_VERSIONS);
	struct dm_versions *v, *last = NULL;
	bool found = false;

	if (!task || !dm_task_run(task))
		errx(1, "cannot list the targets");
	for (v = dm_task_get_versions(task); v != last;
	     v = (void *)((char *)v + v->next)) {
		last = v;
		found |= !strcmp(v->name, "userspace");
	}
	dm_task_destroy(task);
	return found;
}

static bool mentioned(const char *path, const char *word)
{
	char line[512];
	bool found = false;
	FILE *f = fopen(path, "re");

	if (!f)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), f))
		found |= !!strstr(line, word);
	fclose(f);
	return found;
}

/* Of a cache that was merged with others the kernel keeps a dead link there. */
static bool entry_begins(const char *path, const char *with)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	bool found = false;

	if (!dir)
		return false;
	while ((entry = readdir(dir)))
		found |= entry->d_type != DT_LNK &&
			 !strncmp(entry->d_name, with, strlen(with));
	closedir(dir);
	return found;
}

/* After rmmod: what is still there, or NULL. */
const char *dmt_module_left(void)
{
	if (dmt_module_refs() >= 0)
		return "the module";
	if (target_known())
		return "the target";
	if (mentioned("/proc/devices", "dm-userspace"))
		return "the device numbers";
	if (mentioned("/proc/slabinfo", "dmu_") ||
	    entry_begins("/sys/kernel/slab", "dmu_"))
		return "a slab cache";
	if (!access("/sys/class/dm-userspace", F_OK))
		return "the class";
	if (entry_begins("/dev", "dm-userspace"))
		return "a node";
	return dmt_workers() ? "a workqueue" : NULL;
}
