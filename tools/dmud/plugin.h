/* SPDX-License-Identifier: GPL-2.0-only */
/* Policies, as shared objects. */
#ifndef DMUD_PLUGIN_H
#define DMUD_PLUGIN_H

#include "policy.h"

/**
 * struct plugin - a policy that has been loaded
 * @policy: its table of functions; lives in @object
 * @object: for dlclose()
 */
struct plugin {
	const struct dmud_policy *policy;
	void *object;
};

int plugin_load(struct plugin *plugin, const char *name, const char *dir,
		char *why);
void plugin_unload(struct plugin *plugin);
int plugin_list(const char *dir, char *why);

#endif /* DMUD_PLUGIN_H */
