// SPDX-License-Identifier: GPL-2.0-only
/* Where blocks live, and what can truly be said of that. */
#define _GNU_SOURCE
#include "truth.h"
#include <err.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* --- where they live ------------------------------------------------------------------- */

/* Put what the blocks hold to where they live. */
void dmt_truth_settle(struct dmt_model *m)
{
	const uint32_t units = DMT_BLOCK / DMT_UNIT;
	uint64_t place = DMT_POOL;
	uint32_t block;

	for (block = 0; block < DMT_NR_BLOCKS; block++) {
		struct dmt_known *b = &m->blocks[block];
		uint64_t at = (uint64_t)block * DMT_BLOCK;
		unsigned int disk = DMT_STORE_DISK;
		uint32_t version = 0;

		b->truth = block < DMT_TRUE ? block % 4 : DMT_NO_TRUTH;
		if (b->truth == DMT_NO_TRUTH)
			break;
		if (b->truth == DMT_COW) {
			disk = DMT_ORIGIN_DISK;
			version = 1;
		} else if (b->truth == DMT_MOVE) {
			b->sector = place;
			at = place * 512;
			place += DMT_STRIDE;
		}
		dmt_units_fill(m->disk[disk].fd, at, block * units, units,
			       version);
		dmt_traffic_holds(m->traffic, block * units, units, version);
	}
	for (; block < DMT_NR_BLOCKS; block++)
		m->blocks[block].truth = DMT_NO_TRUTH;
	for (; place < DMT_WILD_AT - DMT_GAP; place += DMT_STRIDE)
		m->free[m->nr_free++] = place;
}

/* What a block should hold is where it lives. */
bool dmt_truth_holds(struct dmt_model *m, uint32_t block)
{
	const struct dmt_known *b = &m->blocks[block];
	const uint32_t units = DMT_BLOCK / DMT_UNIT;
	uint64_t sector = (uint64_t)block * DMT_SECTORS;
	unsigned int disk = DMT_STORE_DISK;
	uint8_t buf[DMT_BLOCK];

	if (b->truth == DMT_COW && b->stage == DMT_AT_ORIGIN)
		disk = DMT_ORIGIN_DISK;
	else if (b->truth == DMT_PING && b->spare)
		disk = DMT_SPARE_DISK;
	else if (b->truth == DMT_COW || b->truth == DMT_MOVE)
		sector = b->sector;
	if (pread(m->disk[disk].fd, buf, sizeof(buf), (off_t)sector * 512) !=
	    sizeof(buf))
		err(1, "looking at a disk");
	return dmt_traffic_has(m->traffic, buf, block * units, units);
}

/* Sectors of true blocks hold other things than canaries. */
bool dmt_truth_home(struct dmt_model *m, unsigned int disk, uint64_t sector)
{
	uint64_t block = sector / DMT_SECTORS;

	if (m->named[disk][sector] & DMT_NAMED)
		return true;
	if (block < DMT_TRUE && disk == DMT_ORIGIN_DISK)
		return m->blocks[block].truth == DMT_COW;
	if (block < DMT_TRUE && disk == DMT_STORE_DISK)
		return m->blocks[block].truth == DMT_PLAIN ||
		       m->blocks[block].truth == DMT_PING;
	return disk == DMT_STORE_DISK && sector >= DMT_POOL &&
	       sector < DMT_POOL + DMT_NR_PLACES * DMT_STRIDE &&
	       (sector - DMT_POOL) % DMT_STRIDE < DMT_SECTORS;
}

/* --- true answers --------------------------------------------------------------------- */

/* Let the response name that place, in one of many ways. */
void dmt_aim(struct dmt_model *m, struct dmu_msg_map_response *r,
	     unsigned int disk, uint64_t sector)
{
	uint64_t before = below(m, 3) ? 0 : below(m, (uint32_t)sector /
						  DMT_SECTORS + 1);

	r->new_block = sector / DMT_SECTORS - before;
	r->offset = (int64_t)(sector - r->new_block * DMT_SECTORS);
	r->dst_maj = major(m->disk[disk].dev);
	r->dst_min = minor(m->disk[disk].dev);
}

void dmt_copy_from(struct dmt_model *m, struct dmu_msg_map_response *r,
		   unsigned int disk)
{
	r->flags |= DMU_FLAG_COPY_FIRST;
	r->src_maj = major(m->disk[disk].dev);
	r->src_min = minor(m->disk[disk].dev);
}

/*
 * SYNC needs an id by which it can be acknowledged. A copy that was asked for
 * without SYNC is made whoever dies, but not if SYNC is added to it: so where
 * one may be under way this is not called.
 */
static void hold_sometimes(struct dmt_model *m, struct dmu_msg_map_response *r)
{
	if (r->id_of_req && once_in(m, 4))
		r->flags |= DMU_FLAG_SYNC;
}

static bool true_plain(struct dmt_model *m, struct dmu_msg_map_response *r)
{
	static const uint32_t flags[] = { RW, RW, RW, RW, RO, DMU_FLAG_WR, 0 };

	r->flags = flags[below(m, 7)];
	dmt_aim(m, r, DMT_STORE_DISK, r->org_block * DMT_SECTORS);
	if (once_in(m, 8)) /* from where it is: none is made */
		dmt_copy_from(m, r, DMT_STORE_DISK);
	if (once_in(m, 8))
		r->flags |= DMU_FLAG_TEMPORARY;
	hold_sometimes(m, r);
	return true;
}

/* Is the answer to this request certain to take effect? */
static bool is_the_latest(struct dmt_model *m, const struct dmu_msg_map_response *r)
{
	return !r->id_of_req ||
	       (r->id_of_req > m->blocks[r->org_block].answered &&
		dmt_model_asks(m, r->org_block) == 1);
}

void dmt_answer_origin(struct dmt_model *m, struct dmu_msg_map_response *r)
{
	r->flags = RO;
	dmt_aim(m, r, DMT_ORIGIN_DISK, r->org_block * DMT_SECTORS);
	if (once_in(m, 8))
		r->flags |= DMU_FLAG_TEMPORARY;
}

static bool true_cow(struct dmt_model *m, struct dmu_msg_map_response *r, bool write)
{
	const struct dmt_known *b = &m->blocks[r->org_block];

	if (b->stage == DMT_AT_ORIGIN && !write) {
		dmt_answer_origin(m, r);
		return true;
	}
	r->flags = RW;
	dmt_aim(m, r, DMT_STORE_DISK, b->stage == DMT_AT_ORIGIN ?
	    *dmt_model_next(m) : b->sector);
	if (b->stage == DMT_AT_STORE) {
		if (once_in(m, 8))
			r->flags |= DMU_FLAG_TEMPORARY;
		if (!b->copies)
			hold_sometimes(m, r);
		return true;
	}
	dmt_copy_from(m, r, DMT_ORIGIN_DISK);
	if (b->stage == DMT_ON_ITS_WAY || !is_the_latest(m, r) || once_in(m, 2))
		r->flags |= DMU_FLAG_SYNC;
	else if (r->id_of_req && once_in(m, 8)) /* else it serves nobody */
		r->flags |= DMU_FLAG_TEMPORARY;
	return r->id_of_req || !(r->flags & DMU_FLAG_SYNC);
}

static bool true_move(struct dmt_model *m, struct dmu_msg_map_response *r)
{
	r->flags = RW;
	dmt_aim(m, r, DMT_STORE_DISK, m->blocks[r->org_block].sector);
	if (once_in(m, 8))
		r->flags |= DMU_FLAG_TEMPORARY;
	hold_sometimes(m, r);
	return true;
}

static bool true_ping(struct dmt_model *m, struct dmu_msg_map_response *r)
{
	const struct dmt_known *b = &m->blocks[r->org_block];

	r->flags = RW;
	dmt_aim(m, r, b->spare ? DMT_SPARE_DISK : DMT_STORE_DISK,
		r->org_block * DMT_SECTORS);
	if (once_in(m, 8))
		r->flags |= DMU_FLAG_TEMPORARY;
	if (!b->copies)
		hold_sometimes(m, r);
	return true;
}

/* Nonsense, within what is nobody's. */
static bool untrue(struct dmt_model *m, struct dmu_msg_map_response *r)
{
	const struct dmt_known *b = &m->blocks[r->org_block];
	uint64_t len = dmt_block_len(&m->world, r->org_block);

	r->flags = (uint32_t)dmt_random(&m->random) & 255 & ~COPY;
	if (!r->id_of_req)
		r->flags &= ~SYNC;
	dmt_aim(m, r, below(m, 2) ? DMT_SPARE_DISK : DMT_STORE_DISK,
		DMT_WILD_AT + below(m, (uint32_t)(DMT_WILD_SECTORS - len) / 2 + 1) * 2);
	if (b->copies < DMT_MAX_COPIES && once_in(m, 3))
		dmt_copy_from(m, r, below(m, DMT_NR_DISKS));
	return true;
}

/* Say where its block lives. False where that cannot be said now. */
bool dmt_answer_truly(struct dmt_model *m, struct dmu_msg_map_response *r,
		      bool write)
{
	const struct dmt_known *b = &m->blocks[r->org_block];

	if (b->leaving)
		return false;
	switch (b->truth) {
	case DMT_PLAIN:
		return true_plain(m, r);
	case DMT_COW:
		return true_cow(m, r, write);
	case DMT_MOVE:
		return true_move(m, r);
	case DMT_PING:
		return true_ping(m, r);
	case DMT_NO_TRUTH:
		break;
	}
	return untrue(m, r);
}
