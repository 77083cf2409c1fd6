// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Runs: mappings that follow each other, in one message.
 *
 * A mapping that goes on where the one gathered before it ends becomes part of
 * that message. Where the kernel refuses a run, it does not say which block it is
 * about, and has mapped those before it. So the run is sent again in halves, and
 * halves of these, until the blocks that are refused are alone; a mapping that the
 * kernel has already is no news to it. Pushed copies are sent one by one from the
 * start: to say one of them again is to copy again.
 */
#include <string.h>

#include "internal.h"

static bool has_source(const struct dmu_msg_run_response *run)
{
	return run->src_maj || run->src_min;
}

/* The run that begins so many blocks further on. */
static struct dmu_msg_run_response run_from(const struct dmu *dmu,
					    const struct dmu_msg_run_response *run,
					    uint64_t blocks)
{
	struct dmu_msg_run_response rest = *run;

	rest.block += blocks;
	rest.count -= blocks;
	if (rest.id_of_req)
		rest.id_of_req += blocks;
	if (!(rest.flags & DMU_FLAG_ZERO))
		rest.dst_sector += blocks << dmu->block_shift;
	if (has_source(&rest))
		rest.src_sector += blocks << dmu->block_shift;
	return rest;
}

/* May be said again, and is nothing else then. */
static bool is_repeatable(const struct dmu_msg_run_response *run)
{
	return run->id_of_req || !(run->flags & DMU_FLAG_COPY_FIRST);
}

/* Is that where the run gathered last would go on? */
static bool follows(const struct dmu *dmu,
		    const struct dmu_msg_run_response *next)
{
	struct dmu_msg_run_response want;

	/* Most are of blocks from anywhere: let that be all that it takes. */
	if (!dmu->run.count || next->block != dmu->run.block + dmu->run.count)
		return false;
	if (!is_repeatable(next) || !dmu->run.id_of_req != !next->id_of_req)
		return false;
	want = run_from(dmu, &dmu->run, dmu->run.count);
	return want.flags == next->flags &&
	       want.id_of_req == next->id_of_req &&
	       want.dst_maj == next->dst_maj && want.dst_min == next->dst_min &&
	       want.dst_sector == next->dst_sector &&
	       want.src_maj == next->src_maj && want.src_min == next->src_min &&
	       want.src_sector == next->src_sector;
}

/* Does encode_single() say all of it? */
static bool is_single(const struct dmu *dmu,
		      const struct dmu_msg_run_response *run)
{
	if (run->count != 1 || run->flags & DMU_FLAG_ZERO)
		return false;
	return !(run->flags & DMU_FLAG_COPY_FIRST) ||
	       (has_source(run) &&
		run->src_sector == run->block << dmu->block_shift);
}

/* A block's own message, as it was before there were runs. */
static size_t encode_single(const struct dmu *dmu,
			    const struct dmu_msg_run_response *run, void *out)
{
	uint64_t in_block = ((uint64_t)1 << dmu->block_shift) - 1;
	const struct dmu_msg_header header = {
		.msg_type = DM_USERSPACE_MAP_BLOCK_RESP,
		.payload_len = sizeof(struct dmu_msg_map_response),
		.id = run->id_of_req,
	};
	const struct dmu_msg_map_response response = {
		.org_block = run->block,
		.new_block = run->dst_sector >> dmu->block_shift,
		.offset = run->dst_sector & in_block,
		.id_of_req = run->id_of_req,
		.flags = run->flags,
		.src_maj = run->src_maj,
		.src_min = run->src_min,
		.dst_maj = run->dst_maj,
		.dst_min = run->dst_min,
	};

	memcpy(out, &header, sizeof(header));
	memcpy((char *)out + sizeof(header), &response, sizeof(response));
	return sizeof(header) + sizeof(response);
}

static size_t encode(const struct dmu_msg_run_response *run, void *out)
{
	struct dmui_msg msg = {
		.type = DM_USERSPACE_MAP_RUN_RESP,
		.id = run->id_of_req,
		.run_response = *run,
	};

	return dmui_encode(out, &msg);
}

/* Gather it as one message, or as part of the last. */
static int gather(struct dmu *dmu, const struct dmu_msg_run_response *run)
{
	unsigned char *out;
	int err = dmui_reserve(dmu);

	if (err)
		return err;
	if (follows(dmu, run)) {
		dmu->run.count += run->count;
	} else {
		dmu->run = *run;
		dmu->run_at = dmu->out_end;
	}
	out = dmu->out + dmu->run_at;
	dmu->out_end = dmu->run_at + (is_single(dmu, &dmu->run) ?
				      encode_single(dmu, &dmu->run, out) :
				      encode(&dmu->run, out));
	if (!dmu_has_runs(dmu) || !is_repeatable(&dmu->run))
		dmu->run.count = 0; /* nothing becomes part of it */
	dmu->counters.mappings += run->count;
	return 0;
}

/**
 * dmui_send_run() - gather mappings for the next write
 * @dmu: the connection
 * @run: of as many blocks as you like; what a kernel cannot be told that knows
 *	nothing of runs has been refused before
 *
 * Return: as of dmui_reserve(). Where it fails some may have been gathered; one
 * block is, or is not.
 */
int dmui_send_run(struct dmu *dmu, const struct dmu_msg_run_response *run)
{
	struct dmu_msg_run_response one;
	uint64_t i;
	int err = 0;

	if (dmu_has_runs(dmu) && is_repeatable(run))
		return gather(dmu, run);
	for (i = 0; i < run->count && !err; i++) {
		one = run_from(dmu, run, i);
		one.count = 1;
		err = gather(dmu, &one);
	}
	return err;
}

/* Put a message in front of all others; what was there has been written. */
static void put_first(struct dmu *dmu, const struct dmui_msg *msg)
{
	dmu->part_end = dmu->out_start;
	dmu->out_start -= dmui_msg_size(msg->type);
	dmui_encode(dmu->out + dmu->out_start, msg);
}

/**
 * dmui_split_next() - send the next part of a run that is split
 * @dmu: the connection; the part before has left its place in the buffer
 *
 * Parts grow again as long as they are taken.
 */
void dmui_split_next(struct dmu *dmu)
{
	struct dmu_msg_run_response part = dmu->split;
	struct dmui_msg msg = { .type = DM_USERSPACE_MAP_RUN_RESP };

	dmu->part_end = 0;
	if (!part.count)
		return;
	if (part.count > dmu->part)
		part.count = dmu->part;
	dmu->part *= 2;
	dmu->split = run_from(dmu, &dmu->split, part.count);
	msg.id = part.id_of_req;
	msg.run_response = part;
	put_first(dmu, &msg);
}

/**
 * dmui_split() - a run of more than one block was refused: send parts of it
 * @dmu: the connection; the run has left its place in the buffer
 * @run: all of it, or a part that was split off
 */
void dmui_split(struct dmu *dmu, const struct dmu_msg_run_response *run)
{
	uint64_t rest = dmu->split.count;

	dmu->split = *run;
	dmu->split.count += rest;
	dmu->part = run->count / 2;
	dmui_split_next(dmu);
}

/**
 * dmui_split_fail() - a part of one block was refused for good
 * @dmu: the connection; the part has left its place in the buffer
 * @id: of the request that it answered, which is to be failed next; or 0
 * @block: that it was for
 *
 * Not by way of dmui_send_failed(), for there may be more of them than room.
 */
void dmui_split_fail(struct dmu *dmu, uint32_t id, uint64_t block)
{
	struct dmui_msg msg = {
		.type = DM_USERSPACE_MAP_FAILED,
		.id = id,
		.response = { .org_block = block, .id_of_req = id },
	};

	dmu->part = 1;
	if (!id) {
		dmui_split_next(dmu);
		return;
	}
	put_first(dmu, &msg);
	dmu->counters.failed++;
}
