// SPDX-License-Identifier: LGPL-2.1-or-later
/* A policy that does what the tests of dmud want to see done. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "policy.h"

#ifndef POLICY_NAME
#define POLICY_NAME "tester"
#endif
#ifndef POLICY_ABI
#define POLICY_ABI DMUD_POLICY_ABI
#define POLICY_PATIENCE tester_patience
#endif

struct tester {
	unsigned int nr_opts;
	unsigned int grown;
	unsigned int refused;
	unsigned int batches;
	const char *closed;	/* a file to make in the end */
	int retry;		/* milliseconds; 0: all goes well at once */
	uint32_t owed;		/* the id that waits for that */
	bool failed;		/* it has been tried in vain */
};

/* Even blocks are mapped, with SYNC; odd ones fail; 666 is refused. */
static void tester_map(struct dmu *dmu, const struct dmu_request *req, void *ctx)
{
	const struct dmu_mapping m = {
		.block = req->block,
		.dst = dmu_device(dmu, 0),
		.flags = DMU_MAP_WRITE | DMU_MAP_SYNC,
	};

	(void)ctx;
	if (req->block % 2)
		dmu_fail(dmu, req->id);
	else
		dmu_map(dmu, req->id, &m);
}

static void tester_sync(struct dmu *dmu, uint32_t id, uint64_t block, void *ctx)
{
	struct tester *tester = ctx;

	(void)block;
	if (tester->retry)
		tester->owed = id;
	else
		dmu_sync_done(dmu, id);
}

static void tester_refused(struct dmu *dmu, uint32_t id, uint64_t block,
			   int error, void *ctx)
{
	struct tester *tester = ctx;

	(void)dmu;
	(void)id;
	(void)block;
	(void)error;
	tester->refused++;
}

static void tester_batch(struct dmu *dmu, void *ctx)
{
	struct tester *tester = ctx;

	tester->batches++;
	if (!tester->owed)
		return;
	if (tester->failed && !dmu_sync_done(dmu, tester->owed))
		tester->owed = 0;
	tester->failed = tester->owed;
}

static int tester_patience(void *state)
{
	const struct tester *tester = state;

	return tester->owed ? tester->retry : -1;
}

static int tester_open(struct dmud_env *env, char *const opts[], void **state)
{
	struct tester *tester = calloc(1, sizeof(*tester));

	for (; *opts; opts++) {
		tester->nr_opts++;
		if (!strncmp(*opts, "closed=", 7))
			tester->closed = *opts + 7;
		if (!strncmp(*opts, "retry=", 6))
			tester->retry = atoi(*opts + 6);
		if (!strncmp(*opts, "refuse=", 7)) {
			snprintf(env->error, sizeof(env->error),
				 "told to refuse:\n%s", *opts + 7);
			free(tester);
			return -EINVAL;
		}
		if (!strcmp(*opts, "die=1"))
			_Exit(3);
		if (!strcmp(*opts, "mute=1")) {
			free(tester);
			return -ENOSPC;
		}
	}
	env->log(LOG_DEBUG, "%s has %u devices", env->name,
		 dmu_nr_devices(env->dmu));
	*state = tester;
	return 0;
}

/* The first time it goes well; the second it does not. */
static int tester_grow(void *state, struct dmud_env *env)
{
	struct tester *tester = state;
	const struct dmu_mapping m = {
		.block = 1000, .dst = dmu_device(env->dmu, 0),
	};

	if (tester->grown++) {
		snprintf(env->error, sizeof(env->error), "grown already");
		return -EALREADY;
	}
	return dmu_push(env->dmu, &m);
}

static void tester_status(void *state, struct json_object *obj)
{
	const struct tester *tester = state;

	json_object_object_add(obj, "options",
			       json_object_new_int(tester->nr_opts));
	json_object_object_add(obj, "refused",
			       json_object_new_int(tester->refused));
	json_object_object_add(obj, "batches",
			       json_object_new_int(tester->batches));
}

static void tester_close(void *state)
{
	struct tester *tester = state;
	FILE *file;

	if (tester->closed) {
		file = fopen(tester->closed, "w");
		if (file)
			fclose(file);
	}
	free(tester);
}

const struct dmud_policy dmud_policy = {
	.abi = POLICY_ABI,
	.name = POLICY_NAME,
	.summary = "for the tests of dmud",
	.options = "refuse=WHY  do not open\nclosed=FILE  make FILE in the end",
	.open = tester_open,
	.ops = {
		.map = tester_map,
		.sync = tester_sync,
		.batch = tester_batch,
		.refused = tester_refused,
	},
	.grow = tester_grow,
	.status = tester_status,
	.close = tester_close,
	.patience = POLICY_PATIENCE,
};
