// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * linear: block n of the mapped device is block n of the first device, counted
 * from an offset. What dm-linear does; here to show what a policy looks like.
 *
 *	dmud --policy linear -o offset=2048 vol1
 *
 * The kernel need not ask: it is told at once where all blocks are, up to a number
 * of them that takes no time worth mentioning.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy.h"

#define MAX_PUSH (UINT64_C(1) << 20)	/* blocks */

struct linear {
	uint64_t offset;	/* sectors */
	uint64_t size;		/* of the device, in sectors */
	bool push;		/* blocks before they are asked for */
	uint64_t told;		/* blocks that have been */
};

static struct dmu_mapping place(struct dmu *dmu, const struct linear *linear,
				uint64_t block)
{
	return (struct dmu_mapping){
		.block = block,
		.dst = dmu_device(dmu, 0),
		.dst_sector = linear->offset + block * (dmu_block_size(dmu) / 512),
		.flags = DMU_MAP_WRITE,
	};
}

/* Is all of the block on the device? The last one may be a short one. */
static bool is_there(struct dmu *dmu, const struct linear *linear,
		     uint64_t block)
{
	uint64_t end = (block + 1) * (dmu_block_size(dmu) / 512);

	if (end > dmu_sectors(dmu))
		end = dmu_sectors(dmu);
	return linear->offset + end <= linear->size;
}

/* How many blocks are there, one after the other from the first one on? */
static uint64_t count_there(struct dmu *dmu, const struct linear *linear)
{
	uint64_t count = dmu_blocks(dmu);

	if (is_there(dmu, linear, count - 1))
		return count;
	if (linear->offset >= linear->size)
		return 0;
	return (linear->size - linear->offset) / (dmu_block_size(dmu) / 512);
}

static void linear_map(struct dmu *dmu, const struct dmu_request *req, void *ctx)
{
	struct dmu_mapping m = place(dmu, ctx, req->block);

	if (is_there(dmu, ctx, req->block))
		dmu_map(dmu, req->id, &m);
	else
		dmu_fail(dmu, req->id);
}

static void linear_batch(struct dmu *dmu, void *ctx)
{
	struct linear *linear = ctx;
	struct dmu_mapping m = place(dmu, linear, linear->told);
	uint64_t count = count_there(dmu, linear);

	/* Nobody has told yet, or nobody ever will. */
	if (!linear->push || !dmu_has_runs(dmu))
		return;
	if (count > MAX_PUSH)
		count = MAX_PUSH;
	if (count > linear->told && !dmu_push_run(dmu, &m, count - linear->told))
		linear->told = count;
}

/* There was no memory from there on: it goes on there the next time. */
static void linear_refused(struct dmu *dmu, uint32_t id, uint64_t block, int error,
			   void *ctx)
{
	struct linear *linear = ctx;

	(void)dmu;
	if (!id && error == -ENOMEM)
		linear->told = block;
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

/* "push=no"; "offset=SECTORS", not so large that adding to it could overflow. */
static int parse_option(struct linear *linear, const char *opt)
{
	char *end;

	if (!strcmp(opt, "push=no") || !strcmp(opt, "push=yes")) {
		linear->push = opt[5] == 'y';
		return 0;
	}
	if (strncmp(opt, "offset=", 7) || opt[7] < '0' || opt[7] > '9')
		return -EINVAL;
	linear->offset = strtoull(opt + 7, &end, 10);
	return *end || linear->offset >> 55 ? -EINVAL : 0;
}

static int linear_open(struct dmud_env *env, char *const opts[], void **state)
{
	struct linear *linear = calloc(1, sizeof(*linear));
	int err = linear ? 0 : -ENOMEM;

	if (linear)
		linear->push = true;
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
	.options = "offset=SECTORS  where block 0 begins [0]\n"
		   "push=yes|no     tell where blocks are before they are asked for [yes]\n",
	.open = linear_open,
	.ops = {
		.map = linear_map,
		.batch = linear_batch,
		.refused = linear_refused,
	},
	.grow = linear_grow,
	.close = free,
};
