// SPDX-License-Identifier: GPL-2.0-only
/* What a daemon may send: judged, and spoilt. */
#define _GNU_SOURCE
#include "grammar.h"
#include "traffic.h"
#include <err.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#define ALL_FLAGS	255u

/* --- places --------------------------------------------------------------------------- */

/* The last block of the device may be short; 0 where there is no such block. */
uint64_t dmt_block_len(const struct dmt_world *world, uint64_t block)
{
	uint64_t start = block * world->block;

	if (block >= UINT64_MAX / world->block || start >= world->sectors)
		return 0;
	return world->sectors - start < world->block ? world->sectors - start :
						       world->block;
}

static int disk_of(const struct dmt_world *world, uint32_t major_nr,
		   uint32_t minor_nr)
{
	unsigned int i;

	for (i = 0; i < world->nr_disks; i++)
		if (major(world->disk[i]->dev) == major_nr &&
		    minor(world->disk[i]->dev) == minor_nr)
			return (int)i;
	return -1;
}

static __int128 place_start(const struct dmt_world *world,
			    const struct dmu_msg_map_response *r)
{
	return (__int128)r->new_block * world->block + r->offset;
}

/* Where a valid answer says that its block lives. */
bool dmt_place_of(const struct dmt_world *world,
		  const struct dmu_msg_map_response *r,
		  struct dmt_place *place)
{
	int disk = disk_of(world, r->dst_maj, r->dst_min);

	if (disk < 0)
		return false;
	place->disk = (unsigned int)disk;
	place->sector = (uint64_t)place_start(world, r);
	place->len = dmt_block_len(world, r->org_block);
	return true;
}

/* --- judgement ------------------------------------------------------------------------ */

static uint32_t judge_place(const struct dmt_world *world, int disk,
			    __int128 start, uint64_t len)
{
	uint64_t sectors;
	uint32_t found = 0;

	if (disk < 0) /* no disk has such a place */
		return DMT_IS_ENODEV | (start < 0 || start > INT64_MAX ?
					DMT_IS_ERANGE : 0);
	sectors = world->disk[disk]->bytes / 512;
	if (start % world->lbs[disk])
		found |= DMT_IS_EINVAL;
	if (start < 0 || start + len > sectors)
		found |= DMT_IS_ERANGE;
	return found;
}

static uint32_t judge_copy(const struct dmt_world *world,
			   const struct dmu_msg_map_response *r, uint64_t len)
{
	__int128 from = (__int128)r->org_block * world->block;
	__int128 to = place_start(world, r);
	int src = disk_of(world, r->src_maj, r->src_min);
	uint32_t found = judge_place(world, src, from, len);

	if (src >= 0 && src == disk_of(world, r->dst_maj, r->dst_min) &&
	    from != to && from < to + len && to < from + len)
		found |= DMT_IS_EINVAL;
	return found;
}

static uint32_t judge_response(const struct dmt_world *world,
			       const struct dmt_msg *msg)
{
	struct dmu_msg_map_response r;
	uint64_t len, asked;
	uint32_t found = 0;

	memcpy(&r, &msg->response, sizeof(r));
	len = dmt_block_len(world, r.org_block);
	asked = r.id_of_req ? world->asked(world->arg, r.id_of_req) :
			      DMT_NO_BLOCK;
	if (r.flags & ~ALL_FLAGS)
		found |= DMT_IS_EINVAL;
	if (r.flags & DMU_FLAG_SYNC && !r.id_of_req)
		found |= DMT_IS_EINVAL;
	if (asked != DMT_NO_BLOCK && asked != r.org_block)
		found |= DMT_IS_EINVAL;
	if (!len)
		found |= DMT_IS_ERANGE;
	found |= judge_place(world, disk_of(world, r.dst_maj, r.dst_min),
			     place_start(world, &r), len);
	if (r.flags & DMU_FLAG_COPY_FIRST)
		found |= judge_copy(world, &r, len);
	return found;
}

/* Only the id of the request is looked at, and that no flag is unknown. */
static uint32_t judge_failed(const struct dmt_world *world,
			     const struct dmt_msg *msg)
{
	(void)world;
	return msg->response.flags & ~ALL_FLAGS ? DMT_IS_EINVAL : 0;
}

static uint32_t judge_invalidate(const struct dmt_world *world,
				 const struct dmt_msg *msg)
{
	return dmt_block_len(world, msg->invalidate.org_block) ? 0 :
							DMT_IS_ERANGE;
}

static uint32_t judge_status(const struct dmt_world *world,
			     const struct dmt_msg *msg)
{
	(void)world;
	return msg->status.status == DM_USERSPACE_SYNC_COMPLETE ? 0 :
							DMT_IS_EINVAL;
}

/* Whatever it says. */
static uint32_t judge_nothing(const struct dmt_world *world,
			      const struct dmt_msg *msg)
{
	(void)world;
	(void)msg;
	return 0;
}

/*
 * What a daemon may send. An extension is one more line here, and in the fuzzer
 * what it means to its model.
 */
static const struct {
	uint32_t type;
	uint32_t len;
	uint32_t (*judge)(const struct dmt_world *world,
			  const struct dmt_msg *msg);
} known[] = {
	{ DM_USERSPACE_GET_VERSION, sizeof(struct dmu_msg_version),
	  judge_nothing },
	{ DM_USERSPACE_MAP_BLOCK_RESP, sizeof(struct dmu_msg_map_response),
	  judge_response },
	{ DM_USERSPACE_MAP_FAILED, sizeof(struct dmu_msg_map_response),
	  judge_failed },
	{ DM_USERSPACE_MAP_INVALIDATE, sizeof(struct dmu_msg_invalidate_map),
	  judge_invalidate },
	{ DM_USERSPACE_STATUS, sizeof(struct dmu_msg_status), judge_status },
	{ DM_USERSPACE_EXTENSIONS, sizeof(struct dmu_msg_extensions),
	  judge_nothing },
};

#define NR_KNOWN (sizeof(known) / sizeof(*known))

/* Bytes of a message as its header has it, which may be any number. */
uint32_t dmt_msg_len(const struct dmt_msg *msg)
{
	unsigned int i;

	for (i = 0; i < NR_KNOWN; i++)
		if (known[i].type == msg->header.msg_type)
			return sizeof(msg->header) + known[i].len;
	return sizeof(msg->header) + sizeof(struct dmu_msg_map_response);
}

/**
 * dmt_judge() - what is wrong with a whole message
 * @world: what it is about
 * @msg: from a daemon
 *
 * Return: the errors that it may be refused with; 0 where it must be accepted.
 */
uint32_t dmt_judge(const struct dmt_world *world, const struct dmt_msg *msg)
{
	unsigned int i;

	for (i = 0; i < NR_KNOWN; i++) {
		if (known[i].type != msg->header.msg_type)
			continue;
		if (known[i].len != msg->header.payload_len)
			return DMT_IS_EINVAL;
		return known[i].judge(world, msg);
	}
	return DMT_IS_EINVAL;
}

/* --- mutation ------------------------------------------------------------------------- */

static const uint64_t extremes[] = {
	0, 1, 2, 7, 8, 63, 64, 255, 256, 4095, 1u << 20, INT32_MAX,
	(uint64_t)INT32_MAX + 1, UINT32_MAX, 1ull << 32, 1ull << 52, 1ull << 55,
	1ull << 60, 1ull << 61, INT64_MAX, 1ull << 63, UINT64_MAX - 7,
	UINT64_MAX
};

/* Some other number, near or far. */
static uint64_t spoil(uint64_t *random, uint64_t value)
{
	switch (dmt_below(random, 5)) {
	case 0:
		return value + 1 + dmt_below(random, 9);
	case 1:
		return value - 1 - dmt_below(random, 9);
	case 2:
		return value ^ 1ull << dmt_below(random, 64);
	case 3:
		return dmt_random(random);
	default:
		return extremes[dmt_below(random, sizeof(extremes) /
						  sizeof(*extremes))];
	}
}

static void spoil_header(const struct dmt_world *world, uint64_t *random,
			 struct dmt_msg *msg)
{
	(void)world;
	if (dmt_below(random, 2))
		msg->header.msg_type = (uint32_t)spoil(random,
						       msg->header.msg_type);
	else
		msg->header.payload_len =
			(uint32_t)spoil(random, msg->header.payload_len);
}

/* A device of the table or another, or none at all. */
static void spoil_device(const struct dmt_world *world, uint64_t *random,
			 uint32_t *major_nr, uint32_t *minor_nr)
{
	uint32_t i = dmt_below(random, world->nr_disks + 3);
	dev_t dev = i < world->nr_disks ? world->disk[i]->dev : world->stranger;

	*major_nr = major(dev);
	*minor_nr = minor(dev);
	if (i == world->nr_disks + 1)
		*major_nr = (uint32_t)spoil(random, *major_nr);
	else if (i == world->nr_disks + 2)
		*minor_nr = (uint32_t)spoil(random, *minor_nr);
}

static void spoil_response(const struct dmt_world *world, uint64_t *random,
			   struct dmt_msg *msg)
{
	struct dmu_msg_map_response r;

	memcpy(&r, &msg->response, sizeof(r));
	switch (dmt_below(random, 9)) {
	case 0:
		r.org_block = spoil(random, r.org_block);
		break;
	case 1:
		r.new_block = spoil(random, r.new_block);
		break;
	case 2:
		r.offset = (int64_t)spoil(random, (uint64_t)r.offset);
		break;
	case 3: /* to the very end of the disk, or across it */
		r.new_block = world->disk[0]->bytes / 512 / world->block;
		r.offset = (int64_t)dmt_below(random, 2 * world->block + 1) -
			   2 * (int64_t)world->block;
		break;
	case 4:
		r.id_of_req = (uint32_t)spoil(random, r.id_of_req);
		break;
	case 5:
		r.flags ^= 1u << dmt_below(random, 32);
		break;
	case 6:
		r.flags = (uint32_t)dmt_random(random) & ALL_FLAGS;
		break;
	case 7:
		spoil_device(world, random, &r.src_maj, &r.src_min);
		break;
	case 8:
		spoil_device(world, random, &r.dst_maj, &r.dst_min);
		break;
	}
	memcpy(&msg->response, &r, sizeof(r));
}

/* Any byte of the payload. */
static void spoil_byte(const struct dmt_world *world, uint64_t *random,
		       struct dmt_msg *msg)
{
	uint32_t len = dmt_msg_len(msg) - (uint32_t)sizeof(msg->header);

	(void)world;
	msg->bytes[dmt_below(random, len)] = (uint8_t)dmt_random(random);
}

/**
 * dmt_mutate() - change something in a message
 * @world: what it is about
 * @random: state of random numbers
 * @msg: may be as good afterwards, or better
 */
void dmt_mutate(const struct dmt_world *world, uint64_t *random,
		struct dmt_msg *msg)
{
	uint32_t how = dmt_below(random, 8);

	if (how == 0)
		spoil_header(world, random, msg);
	else if (msg->header.msg_type == DM_USERSPACE_MAP_BLOCK_RESP && how < 7)
		spoil_response(world, random, msg);
	else
		spoil_byte(world, random, msg);
}

/* One line for people. */
void dmt_msg_print(const char *what, const struct dmt_msg *msg)
{
	struct dmu_msg_map_response r;

	fprintf(stderr, "# %s: type %u len %u id %u", what,
		msg->header.msg_type, msg->header.payload_len, msg->header.id);
	switch (msg->header.msg_type) {
	case DM_USERSPACE_MAP_BLOCK_REQ:
		fprintf(stderr, " block %llu flags %u",
			(unsigned long long)msg->request.org_block,
			msg->request.flags);
		break;
	case DM_USERSPACE_MAP_BLOCK_RESP:
	case DM_USERSPACE_MAP_FAILED:
		memcpy(&r, &msg->response, sizeof(r));
		fprintf(stderr,
			" block %llu to %llu%+lld id %u flags %u src %u:%u dst %u:%u",
			(unsigned long long)r.org_block,
			(unsigned long long)r.new_block, (long long)r.offset,
			r.id_of_req, r.flags, r.src_maj, r.src_min, r.dst_maj,
			r.dst_min);
		break;
	case DM_USERSPACE_MAP_INVALIDATE:
		fprintf(stderr, " block %llu",
			(unsigned long long)msg->invalidate.org_block);
		break;
	case DM_USERSPACE_STATUS:
		fprintf(stderr, " of %u: %u", msg->status.id_of_op,
			msg->status.status);
		break;
	}
	fprintf(stderr, "\n");
}
