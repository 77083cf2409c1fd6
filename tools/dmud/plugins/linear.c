// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * linear: block n of the mapped device is block n of the first device, counted
 * from an offset. What dm-linear does; here to show what a policy looks like.
 *
 *	dmud --policy linear -o offset=2048 vol1
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy.h"

struct linear {
	uint64_t offset;	/* sectors */
	uint64_t size;		/* of the device, in sectors */
};

static void linear_map(struct dmu *dmu, const struct dmu_request *req, void *ctx)
{
	const struct linear *linear = ctx;
	uint64_t block_sectors = dmu_block_size(dmu) / 512;
	uint64_t first = req->block * block_sectors;
	uint64_t end = first + block_sectors;

	/* The last block may be a short one. */
	if (end > dmu_sectors(dmu))
		end = dmu_sectors(dmu);
	if (linear->offset + end > linear->size) {
		dmu_fail(dmu, req->id);
		return;
	}
	dmu_map(dmu, req->id, &(struct dmu_mapping){
		.block = req->block,
		.dst = dmu_device(dmu, 0),
		.dst_sector = linear->offset + first,
		.flags = DMU_MAP_WRITE,
	});
}

static int linear_grow(void *state, struct dmud_env *env)
{
	struct linear *linear = state;
	int err = dmu_device_sectors(env->dmu, 0, &linear->size);

	if (err)
		snprintf(env->error, sizeof(env->error), "%s",
			 dmu_strerror(env->dmu));
	return err;
}

/* "offset=SECTORS", not so large that adding to it could overflow. */
static int parse_option(struct linear *linear, const char *opt)
{
	char *end;

	if (strncmp(opt, "offset=", 7) || opt[7] < '0' || opt[7] > '9')
		return -EINVAL;
	linear->offset = strtoull(opt + 7, &end, 10);
	return *end || linear->offset >> 55 ? -EINVAL : 0;
}

static int linear_open(struct dmud_env *env, char *const opts[], void **state)
{
	struct linear *linear = calloc(1, sizeof(*linear));
	int err = linear ? 0 : -ENOMEM;

	while (!err && *opts) {
		err = parse_option(linear, *opts);
		if (err)
			snprintf(env->error, sizeof(env->error),
				 "cannot understand the option %s", *opts);
		opts++;
	}
	if (!err)
		err = linear_grow(linear, env);
	if (err)
		free(linear);
	else
		*state = linear;
	return err;
}

const struct dmud_policy dmud_policy = {
	.abi = DMUD_POLICY_ABI,
	.name = "linear",
	.summary = "one device, from an offset on",
	.options = "offset=SECTORS  where block 0 begins [0]\n",
	.open = linear_open,
	.ops = { .map = linear_map },
	.grow = linear_grow,
	.close = free,
};
