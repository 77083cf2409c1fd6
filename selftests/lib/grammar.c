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
#define RUN_FLAGS	(ALL_FLAGS | DMU_FLAG_ZERO)

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
	return DMT_NO_DISK;
}

/* Where a valid mapping says that its block lives. False where on no disk. */
bool dmt_place_of(const struct dmt_world *world, const struct dmt_mapping *m,
		  struct dmt_place *place)
{
	if (m->dst < 0)
		return false;
	place->disk = (unsigned int)m->dst;
	place->sector = (uint64_t)m->to;
	place->len = dmt_block_len(world, m->block);
	return true;
}

/* --- mappings ------------------------------------------------------------------------- */

/* How many blocks does a message speak of that says where blocks live? */
uint64_t dmt_nr_mappings(const struct dmt_msg *msg)
{
	if (msg->header.msg_type == DM_USERSPACE_MAP_BLOCK_RESP)
		return 1;
	if (msg->header.msg_type == DM_USERSPACE_MAP_RUN_RESP)
		return msg->run_response.count;
	return 0;
}

static void mapping_of(const struct dmt_world *world,
		       const struct dmt_msg *msg, struct dmt_mapping *m)
{
	struct dmu_msg_map_response r;

	memcpy(&r, &msg->response, sizeof(r));
	*m = (struct dmt_mapping){
		.block = r.org_block, .id = r.id_of_req, .flags = r.flags,
		.dst = disk_of(world, r.dst_maj, r.dst_min),
		.src = disk_of(world, r.src_maj, r.src_min),
		.to = (__int128)r.new_block * world->block + r.offset,
		.from = (__int128)r.org_block * world->block,
	};
}

/* In a run 0:0 can stand for zeroes. */
static int disk_or_zeroes(const struct dmt_world *world, uint32_t major_nr,
			  uint32_t minor_nr)
{
	return major_nr || minor_nr ? disk_of(world, major_nr, minor_nr) :
				      DMT_NOWHERE;
}

static void mapping_in_run(const struct dmt_world *world,
			   const struct dmt_msg *msg, uint64_t i,
			   struct dmt_mapping *m)
{
	struct dmu_msg_run_response r;

	memcpy(&r, &msg->run_response, sizeof(r));
	*m = (struct dmt_mapping){
		.block = r.block + i,
		.id = r.id_of_req ? r.id_of_req + (uint32_t)i : 0,
		.flags = r.flags,
		.dst = disk_or_zeroes(world, r.dst_maj, r.dst_min),
		.src = disk_or_zeroes(world, r.src_maj, r.src_min),
		.to = (__int128)i * world->block + r.dst_sector,
		.from = (__int128)i * world->block + r.src_sector,
	};
}

/* What a message says of the i-th of its blocks. */
void dmt_mapping_at(const struct dmt_world *world, const struct dmt_msg *msg,
		    uint64_t i, struct dmt_mapping *m)
{
	if (msg->header.msg_type == DM_USERSPACE_MAP_RUN_RESP)
		mapping_in_run(world, msg, i, m);
	else
		mapping_of(world, msg, m);
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

/* What is copied from zeroes comes from no place. */
static uint32_t judge_copy(const struct dmt_world *world,
			   const struct dmt_mapping *m, uint64_t len)
{
	uint32_t found;

	if (m->src == DMT_NOWHERE)
		return 0;
	found = judge_place(world, m->src, m->from, len);
	if (m->src >= 0 && m->src == m->dst && m->from != m->to &&
	    m->from < m->to + len && m->to < m->from + len)
		found |= DMT_IS_EINVAL;
	return found;
}

/* Of zeroes nothing can be said but that they are read. */
static uint32_t judge_zeroes(const struct dmt_mapping *m, bool write)
{
	uint32_t found = 0;

	if (write || m->dst != DMT_NOWHERE ||
	    m->flags & (DMU_FLAG_WR | DMU_FLAG_COPY_FIRST | DMU_FLAG_SYNC))
		found |= DMT_IS_EINVAL;
	if (m->dst == DMT_NO_DISK)
		found |= DMT_IS_ENODEV;
	if (m->flags & DMU_FLAG_COPY_FIRST && m->src == DMT_NO_DISK)
		found |= DMT_IS_ENODEV;
	return found;
}

static uint32_t judge_mapping(const struct dmt_world *world,
			      const struct dmt_mapping *m)
{
	uint64_t len = dmt_block_len(world, m->block);
	uint64_t block = m->block;
	bool write = false;
	uint32_t found = 0;

	if (m->id && world->asked(world->arg, m->id, &block, &write) &&
	    block != m->block)
		found |= DMT_IS_EINVAL;
	if (m->flags & DMU_FLAG_SYNC && !m->id)
		found |= DMT_IS_EINVAL;
	if (!len)
		found |= DMT_IS_ERANGE;
	if (m->flags & DMU_FLAG_ZERO)
		return found | judge_zeroes(m, write);
	found |= judge_place(world, m->dst, m->to, len);
	if (m->flags & DMU_FLAG_COPY_FIRST)
		found |= judge_copy(world, m, len);
	return found;
}

static uint32_t judge_response(const struct dmt_world *world,
			       const struct dmt_msg *msg)
{
	struct dmt_mapping m;

	mapping_of(world, msg, &m);
	if (m.flags & ~ALL_FLAGS)
		return DMT_IS_EINVAL | judge_mapping(world, &m);
	return judge_mapping(world, &m);
}

/* Would a number that counts begin anew at 0 before the end of the run? */
static bool run_wraps(const struct dmt_world *world,
		      const struct dmu_msg_run_response *r)
{
	uint64_t more = r->count - 1;
	__int128 sectors = (__int128)more * world->block;

	if (!r->count)
		return false;
	if (more > UINT64_MAX - r->block ||
	    (r->id_of_req && more > UINT32_MAX - r->id_of_req))
		return true;
	if (sectors + (__int128)r->block * world->block > UINT64_MAX)
		return true;
	if (r->flags & DMU_FLAG_ZERO) /* those of places are not looked at */
		return false;
	return sectors > UINT64_MAX - r->dst_sector ||
	       (r->flags & DMU_FLAG_COPY_FIRST && (r->src_maj || r->src_min) &&
		sectors > UINT64_MAX - r->src_sector);
}

/* It ends at the first that is refused; @mapped gets how many there are before. */
static uint32_t judge_blocks(const struct dmt_world *world,
			     const struct dmt_msg *msg, uint64_t *mapped)
{
	struct dmu_msg_run_response r;
	struct dmt_mapping m;
	uint32_t found = 0;

	*mapped = 0;
	if (!world->runs) /* it knows no such message */
		return DMT_IS_EINVAL;
	memcpy(&r, &msg->run_response, sizeof(r));
	if (r.flags & ~RUN_FLAGS || !r.count)
		found |= DMT_IS_EINVAL;
	if (run_wraps(world, &r))
		found |= DMT_IS_ERANGE;
	do {
		mapping_in_run(world, msg, *mapped, &m);
		found |= judge_mapping(world, &m);
	} while (!found && ++*mapped < r.count);
	return found;
}

static uint32_t judge_run(const struct dmt_world *world,
			  const struct dmt_msg *msg)
{
	uint64_t mapped;

	return judge_blocks(world, msg, &mapped);
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
	{ DM_USERSPACE_MAP_RUN_RESP, sizeof(struct dmu_msg_run_response),
	  judge_run },
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

/**
 * dmt_judge_mapped() - what a message does, be it refused or not
 * @world: what it is about
 * @msg: from a daemon
 *
 * Return: how many blocks it maps. A run that is refused may have mapped some: no
 * other message does anything then.
 */
uint64_t dmt_judge_mapped(const struct dmt_world *world,
			  const struct dmt_msg *msg)
{
	bool run = msg->header.msg_type == DM_USERSPACE_MAP_RUN_RESP;
	uint64_t mapped;

	if (run && msg->header.payload_len == sizeof(msg->run_response)) {
		judge_blocks(world, msg, &mapped);
		return mapped;
	}
	return dmt_judge(world, msg) ? 0 : dmt_nr_mappings(msg);
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

/* A device of the table or another, or none at all, which 0:0 can be. */
static void spoil_device(const struct dmt_world *world, uint64_t *random,
			 uint32_t *major_nr, uint32_t *minor_nr)
{
	uint32_t i = dmt_below(random, world->nr_disks + 4);
	dev_t dev = i < world->nr_disks ? world->disk[i]->dev : world->stranger;

	if (i == world->nr_disks + 3)
		dev = 0;

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

/* So many that some number is its last one, or not quite, or begins anew. */
uint64_t dmt_count_to_the_last(const struct dmt_world *world, uint64_t *random,
			       const struct dmu_msg_run_response *r)
{
	uint64_t more;

	switch (dmt_below(random, 4)) {
	case 0:
		more = UINT64_MAX - r->block;
		break;
	case 1:
		more = UINT32_MAX - r->id_of_req;
		break;
	case 2:
		more = (UINT64_MAX - r->dst_sector) / world->block;
		break;
	default:
		more = (UINT64_MAX - r->src_sector) / world->block;
		break;
	}
	return more + dmt_below(random, 4);
}

/* None, one, two, one more or less, up to beyond the device, or any number. */
static uint64_t spoil_count(const struct dmt_world *world, uint64_t *random,
			    const struct dmu_msg_run_response *r)
{
	switch (dmt_below(random, 4)) {
	case 0:
		return dmt_below(random, 3);
	case 1:
		return dmt_below(random, (uint32_t)world->sectors /
					 world->block * 2);
	case 2:
		return dmt_count_to_the_last(world, random, r);
	default:
		return spoil(random, r->count);
	}
}

static void spoil_run_place(const struct dmt_world *world, uint64_t *random,
			    struct dmu_msg_run_response *r)
{
	switch (dmt_below(random, 5)) {
	case 0:
		r->dst_sector = spoil(random, r->dst_sector);
		break;
	case 1:
		r->src_sector = spoil(random, r->src_sector);
		break;
	case 2: /* it leaves the disk somewhere */
		r->dst_sector = world->disk[0]->bytes / 512 -
				dmt_below(random, 4 * world->block);
		break;
	case 3:
		spoil_device(world, random, &r->src_maj, &r->src_min);
		break;
	case 4:
		spoil_device(world, random, &r->dst_maj, &r->dst_min);
		break;
	}
}

static void spoil_run(const struct dmt_world *world, uint64_t *random,
		      struct dmt_msg *msg)
{
	struct dmu_msg_run_response r;

	memcpy(&r, &msg->run_response, sizeof(r));
	switch (dmt_below(random, 9)) {
	case 0:
		r.block = spoil(random, r.block);
		break;
	case 1 ... 3:
		r.count = spoil_count(world, random, &r);
		break;
	case 4:
		r.id_of_req = (uint32_t)spoil(random, r.id_of_req);
		break;
	case 5:
		r.flags ^= 1u << dmt_below(random, dmt_below(random, 2) ? 9 : 32);
		break;
	case 6:
		r.flags = (uint32_t)dmt_random(random) & RUN_FLAGS;
		break;
	default:
		spoil_run_place(world, random, &r);
		break;
	}
	memcpy(&msg->run_response, &r, sizeof(r));
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
	else if (msg->header.msg_type == DM_USERSPACE_MAP_RUN_RESP && how < 7)
		spoil_run(world, random, msg);
	else if (msg->header.msg_type == DM_USERSPACE_MAP_BLOCK_RESP && how < 7)
		spoil_response(world, random, msg);
	else
		spoil_byte(world, random, msg);
}

static void print_response(const struct dmt_msg *msg)
{
	struct dmu_msg_map_response r;

	memcpy(&r, &msg->response, sizeof(r));
	fprintf(stderr,
		" block %llu to %llu%+lld id %u flags %u src %u:%u dst %u:%u",
		(unsigned long long)r.org_block,
		(unsigned long long)r.new_block, (long long)r.offset,
		r.id_of_req, r.flags, r.src_maj, r.src_min, r.dst_maj,
		r.dst_min);
}

static void print_run(const struct dmt_msg *msg)
{
	struct dmu_msg_run_response r;

	memcpy(&r, &msg->run_response, sizeof(r));
	fprintf(stderr,
		" %llu blocks from %llu id %u flags %u src %u:%u sector %llu dst %u:%u sector %llu",
		(unsigned long long)r.count, (unsigned long long)r.block,
		r.id_of_req, r.flags, r.src_maj, r.src_min,
		(unsigned long long)r.src_sector, r.dst_maj, r.dst_min,
		(unsigned long long)r.dst_sector);
}

/* One line for people. */
void dmt_msg_print(const char *what, const struct dmt_msg *msg)
{
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
		print_response(msg);
		break;
	case DM_USERSPACE_MAP_RUN_REQ:
		fprintf(stderr, " %u blocks from %llu flags %u",
			msg->run_request.count,
			(unsigned long long)msg->run_request.block,
			msg->run_request.flags);
		break;
	case DM_USERSPACE_MAP_RUN_RESP:
		print_run(msg);
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
