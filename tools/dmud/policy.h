/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a mapping policy (a plugin of dmud) looks like.
 *
 * A policy is a shared object that exports one symbol, dmud_policy, of type
 * struct dmud_policy. It turns requests into mappings: it does no I/O on the
 * control device, starts no threads, and is called from one thread only. It is
 * not linked with libdmu: dmud brings the functions of dmu.h along.
 *
 * After open, dmud changes its directory to "/" and locks its memory: paths
 * that are needed later must be absolute.
 */
#ifndef DMUD_POLICY_H
#define DMUD_POLICY_H

#include <stdio.h>
#include <json-c/json.h>

#include "dmu.h"

/*
 * Raised when a member changes its meaning, or one is added at the end: dmud takes
 * policies from the first number to this one, and does not look at members that
 * their number does not have.
 */
#define DMUD_POLICY_ABI 2

/**
 * struct dmud_env - what dmud tells a policy and does for it
 * @name: the mapped device's name or key, for messages; as long as the policy
 *	is open
 * @dmu: the connection; geometry and devices may be asked from the start
 * @log: one line for the log (syslog priority first, no newline at the end);
 *	never blocks
 * @error: a policy that refuses to open or to grow writes one sentence here
 */
struct dmud_env {
	const char *name;
	struct dmu *dmu;
	void (*log)(int priority, const char *fmt, ...)
		__attribute__((format(printf, 2, 3)));
	char error[256];
};

/**
 * struct dmud_policy - the versioned table of functions
 * @abi: DMUD_POLICY_ABI
 * @name: what dmud --policy and dmuctl call it; its file is NAME.so
 * @summary: one line for dmud --list-policies
 * @options: help for its "-o name=value" options, lines of text, or NULL
 * @open: read the metadata, check the devices; @opts is NULL-terminated
 *	"name=value" strings, and lives until @close. Sets *@state. 0, or a
 *	negative errno and a sentence in env->error. @env lives until @close
 * @ops: what it answers; the callbacks' ctx is *@state. @map is required.
 *	dmud logs what is @refused by itself
 * @grow: a device has grown: look again. dmud has called dmu_refresh(), so
 *	dmu_sectors() and dmu_device() tell of the tables there are now. 0, or
 *	a negative errno and a sentence in env->error. NULL where growing means
 *	nothing
 * @status: add members to @obj, for dmuctl status --json
 * @close: everything that was acknowledged is durable already; free. What
 *	this gathers for the kernel is not written any more
 * @patience: (since 2) asked before dmud waits for messages: after how many
 *	milliseconds is ops.batch to be called though none has come? For what has
 *	failed and is to be tried again: whoever waits for it may send nothing
 *	more. Negative: not at all, as long as there is nothing of the kind, so that
 *	a daemon that has nothing to do does nothing. The time begins anew with
 *	each call of ops.batch. NULL: never
 *
 * @open, @close, @name, @summary and @ops.map are required.
 */
struct dmud_policy {
	unsigned int abi;
	const char *name;
	const char *summary;
	const char *options;
	int (*open)(struct dmud_env *env, char *const opts[], void **state);
	struct dmu_ops ops;
	int (*grow)(void *state, struct dmud_env *env);
	void (*status)(void *state, struct json_object *obj);
	void (*close)(void *state);
	int (*patience)(void *state);
};

extern const struct dmud_policy dmud_policy;

#endif /* DMUD_POLICY_H */
