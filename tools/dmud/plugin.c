// SPDX-License-Identifier: GPL-2.0-only
/* Loading policies. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "plugin.h"

#define SUFFIX ".so"

/* The oldest that is like ours, but for members that it does not have. */
#define OLDEST_ABI 1

/* Whether it can be worked with; only @policy->abi may be trusted at first. */
static int check_policy(const struct dmud_policy *policy, const char *path,
			char *why)
{
	if (policy->abi < OLDEST_ABI || policy->abi > DMUD_POLICY_ABI)
		return failed(why, -EPROTO,
			      "%s is a policy of ABI %u; this dmud needs ABI %d to %d",
			      path, policy->abi, OLDEST_ABI, DMUD_POLICY_ABI);
	if (!policy->name || !*policy->name || !policy->summary)
		return failed(why, -EINVAL, "the policy %s has no name or no summary",
			      path);
	if (!policy->open || !policy->close || !policy->ops.map)
		return failed(why, -EINVAL,
			      "the policy %s (%s) lacks open, close or ops.map",
			      policy->name, path);
	return 0;
}

static int load_path(struct plugin *plugin, const char *path, char *why)
{
	int err;

	/* Now: a symbol that is missing must not be found missing under load. */
	plugin->object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!plugin->object)
		return failed(why, -ENOENT, "cannot load the policy: %s",
			      dlerror());
	plugin->policy = dlsym(plugin->object, "dmud_policy");
	if (plugin->policy)
		err = check_policy(plugin->policy, path, why);
	else
		err = failed(why, -EINVAL,
			     "%s is not a policy: it has no symbol dmud_policy",
			     path);
	if (err)
		plugin_unload(plugin);
	return err;
}

/**
 * plugin_load() - load a policy
 * @plugin: undone with plugin_unload()
 * @name: of the policy, or the path of its file where it holds a "/"
 * @dir: where names are looked up
 * @why: SENTENCE_SIZE bytes for what is wrong
 *
 * Return: 0; -ENOENT: cannot be loaded; -EPROTO: another ABI; -EINVAL: not a
 * policy, or another than its file is named after.
 */
int plugin_load(struct plugin *plugin, const char *name, const char *dir,
		char *why)
{
	char path[PATH_MAX];
	int err;

	if (strchr(name, '/'))
		return load_path(plugin, name, why);
	if (snprintf(path, sizeof(path), "%s/%s" SUFFIX, dir, name) >=
	    (int)sizeof(path))
		return failed(why, -ENAMETOOLONG, "the policy's path is too long");
	err = load_path(plugin, path, why);
	if (!err && strcmp(plugin->policy->name, name)) {
		err = failed(why, -EINVAL, "%s is the policy %s, not %s", path,
			     plugin->policy->name, name);
		plugin_unload(plugin);
	}
	return err;
}

/**
 * plugin_unload() - undo plugin_load()
 * @plugin: loaded, or all zero; the policy must be closed
 */
void plugin_unload(struct plugin *plugin)
{
	if (plugin->object)
		dlclose(plugin->object);
	plugin->object = NULL;
	plugin->policy = NULL;
}

static int is_plugin(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return dot && dot != entry->d_name && !strcmp(dot, SUFFIX);
}

static void list_one(const char *dir, const char *file)
{
	char path[PATH_MAX], why[SENTENCE_SIZE];
	struct plugin plugin;
	const char *line;
	size_t len;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	if (load_path(&plugin, path, why)) {
		fprintf(stderr, "dmud: %s\n", why);
		return;
	}
	printf("%-12s %s\n", plugin.policy->name, plugin.policy->summary);
	line = plugin.policy->options ? plugin.policy->options : "";
	while (*line) {
		len = strcspn(line, "\n");
		printf("%-12s %.*s\n", "", (int)len, line);
		line += len + (line[len] == '\n');
	}
	plugin_unload(&plugin);
}

/**
 * plugin_list() - print the policies there are, with their options
 * @dir: where to look
 * @why: SENTENCE_SIZE bytes for what is wrong
 *
 * Files that are no policies are named on stderr.
 *
 * Return: 0, or a negative errno where @dir cannot be read.
 */
int plugin_list(const char *dir, char *why)
{
	struct dirent **entries;
	int n, i;

	n = scandir(dir, &entries, is_plugin, alphasort);
	if (n < 0)
		return failed(why, -errno, "%s: %s", dir, strerror(errno));
	for (i = 0; i < n; i++) {
		list_one(dir, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return 0;
}
