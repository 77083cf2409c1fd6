// SPDX-License-Identifier: GPL-2.0-only
/* Where blocks live, and what can truly be said of that. */
#define _GNU_SOURCE
#include "truth.h"
#include <err.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* --- where they live ------------------------------------------------------------------- */

/* Where there are several blocks of one form in a row. */
static const struct {
	uint32_t first;
	uint32_t last;
	enum dmt_truth truth;
} stretches[] = {
	{ 0, DMT_QUIET - 1, DMT_PLAIN },
	{ DMT_QUIET + 16, DMT_QUIET + 23, DMT_PLAIN },
	{ DMT_QUIET + 24, DMT_QUIET + 31, DMT_THIN },
	{ DMT_QUIET + 32, DMT_QUIET + 39, DMT_PING },
	{ DMT_QUIET + 40, DMT_QUIET + 47, DMT_COW },
	{ DMT_QUIET + 60, DMT_QUIET + 127, DMT_PLAIN },
	{ DMT_TRUE, UINT32_MAX, DMT_NO_TRUTH },
};

static enum dmt_truth truth_of(uint32_t block)
{
	unsigned int i;

	for (i = 0; i < sizeof(stretches) / sizeof(*stretches); i++)
		if (block >= stretches[i].first && block <= stretches[i].last)
			return stretches[i].truth;
	return block % 4;
}

/* Put what the blocks hold to where they live. */
void dmt_truth_settle(struct dmt_model *m)
{
	const uint32_t units = DMT_BLOCK / DMT_UNIT;
	uint64_t place = DMT_POOL;
	uint32_t block, cows = 0;

	for (block = 0; block < DMT_NR_BLOCKS; block++) {
		struct dmt_known *b = &m->blocks[block];
		uint64_t at = (uint64_t)block * DMT_BLOCK;
		unsigned int disk = DMT_STORE_DISK;
		uint32_t version = 0;

		b->truth = truth_of(block);
		if (b->truth == DMT_NO_TRUTH)
			break;
		if (b->truth == DMT_THIN) {
			b->sector = (uint64_t)block * DMT_SECTORS;
			dmt_traffic_holds(m->traffic, block * units, units, 0);
			continue;
		}
		if (b->truth == DMT_COW) {
			cows++;
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
	if (place + (cows + 1) * DMT_STRIDE > DMT_WILD_AT - DMT_GAP)
		errx(1, "there are too few places");
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
	uint8_t buf[DMT_BLOCK] = { 0 };

	if (b->truth == DMT_THIN && b->stage == DMT_AT_ORIGIN)
		return dmt_traffic_has(m->traffic, buf, block * units, units);
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

static void lives_at(struct dmt_mapping *r, int disk, uint64_t sector)
{
	r->dst = disk;
	r->to = sector;
}

static void copied_from(struct dmt_mapping *r, int disk, uint64_t sector)
{
	r->flags |= COPY;
	r->src = disk;
	r->from = sector;
}

/*
 * SYNC needs an id by which it can be acknowledged. A copy that was asked for
 * without SYNC is made whoever dies, but not if SYNC is added to it: so where
 * one may be under way this is not called.
 */
static void hold_sometimes(struct dmt_model *m, struct dmt_mapping *r)
{
	/* While any block of a bucket is held the kernel maps none at once. */
	if (r->id && r->block >= DMT_QUIET && once_in(m, 4))
		r->flags |= SYNC;
}

static bool true_plain(struct dmt_model *m, struct dmt_mapping *r)
{
	static const uint32_t flags[] = { RW, RW, RW, RW, RO, DMU_FLAG_WR, 0 };

	r->flags = flags[below(m, 7)];
	lives_at(r, DMT_STORE_DISK, r->block * DMT_SECTORS);
	if (once_in(m, 8)) /* from where it is: none is made */
		copied_from(r, DMT_STORE_DISK, r->block * DMT_SECTORS);
	if (once_in(m, 8))
		r->flags |= DMU_FLAG_TEMPORARY;
	hold_sometimes(m, r);
	return true;
}

/* Is the answer to this request certain to take effect? */
static bool is_the_latest(struct dmt_model *m, const struct dmt_mapping *r)
{
	return !r->id || (r->id > m->blocks[r->block].answered &&
			  dmt_model_asks(m, r->block) == 1);
}

/* Where it lives until it is written. */
void dmt_answer_origin(struct dmt_model *m, struct dmt_mapping *r)
{
	r->flags = RO;
	if (m->blocks[r->block].truth == DMT_THIN) {
		r->flags |= DMU_FLAG_ZERO;
		r->dst = DMT_NOWHERE;
	} else {
		lives_at(r, DMT_ORIGIN_DISK, r->block * DMT_SECTORS);
	}
	if (once_in(m, 8))
		r->flags |= DMU_FLAG_TEMPORARY;
}

static bool true_copy(struct dmt_model *m, struct dmt_mapping *r)
{
	const struct dmt_known *b = &m->blocks[r->block];

	if (b->truth == DMT_THIN)
		copied_from(r, DMT_NOWHERE, 0);
	else
		copied_from(r, DMT_ORIGIN_DISK, r->block * DMT_SECTORS);
	if (b->stage == DMT_ON_ITS_WAY || !is_the_latest(m, r) || once_in(m, 2))
		r->flags |= SYNC;
	else if (r->id && once_in(m, 8)) /* else it serves nobody */
		r->flags |= DMU_FLAG_TEMPORARY;
	return r->id || !(r->flags & SYNC);
}

static bool true_cow(struct dmt_model *m, struct dmt_mapping *r, bool write)
{
	const struct dmt_known *b = &m->blocks[r->block];

	if (b->stage == DMT_AT_ORIGIN && !write) {
		dmt_answer_origin(m, r);
		return true;
	}
	r->flags = RW;
	lives_at(r, DMT_STORE_DISK,
		 b->truth == DMT_COW && b->stage == DMT_AT_ORIGIN ?
		 *dmt_model_next(m) : b->sector);
	if (b->stage != DMT_AT_STORE)
		return true_copy(m, r);
	if (once_in(m, 8))
		r->flags |= DMU_FLAG_TEMPORARY;
	if (!b->copies)
		hold_sometimes(m, r);
	return true;
}

static bool true_move(struct dmt_model *m, struct dmt_mapping *r)
{
	r->flags = RW;
	lives_at(r, DMT_STORE_DISK, m->blocks[r->block].sector);
	if (once_in(m, 8))
		r->flags |= DMU_FLAG_TEMPORARY;
	hold_sometimes(m, r);
	return true;
}

static bool true_ping(struct dmt_model *m, struct dmt_mapping *r)
{
	const struct dmt_known *b = &m->blocks[r->block];

	r->flags = RW;
	lives_at(r, b->spare ? DMT_SPARE_DISK : DMT_STORE_DISK,
		 r->block * DMT_SECTORS);
	if (once_in(m, 8))
		r->flags |= DMU_FLAG_TEMPORARY;
	if (!b->copies)
		hold_sometimes(m, r);
	return true;
}

/* To the other disk. */
bool dmt_answer_swap(struct dmt_model *m, struct dmt_mapping *r)
{
	const struct dmt_known *b = &m->blocks[r->block];
	uint64_t sector = r->block * DMT_SECTORS;

	if (b->copies >= DMT_MAX_COPIES)
		return false;
	r->id = 0;
	r->flags = RW;
	lives_at(r, b->spare ? DMT_STORE_DISK : DMT_SPARE_DISK, sector);
	copied_from(r, b->spare ? DMT_SPARE_DISK : DMT_STORE_DISK, sector);
	return true;
}

/* From anywhere, or nowhere. */
static void copy_anything(struct dmt_model *m, struct dmt_mapping *r)
{
	int disk = (int)below(m, DMT_NR_DISKS);
	uint32_t last = (uint32_t)(m->disk[disk].bytes / 512) - DMT_SECTORS;

	/* The disks end before the device does. */
	if (r->block * DMT_SECTORS <= last && below(m, 2))
		copied_from(r, disk, r->block * DMT_SECTORS);
	else if (below(m, 2))
		copied_from(r, disk, below(m, last / 2) * 2);
	else
		copied_from(r, DMT_NOWHERE, 0);
}

/* Nonsense, within what is nobody's. */
static bool untrue(struct dmt_model *m, struct dmt_mapping *r)
{
	const struct dmt_known *b = &m->blocks[r->block];
	uint32_t len = (uint32_t)dmt_block_len(&m->world, r->block);

	if (once_in(m, 6)) {
		r->flags = (once_in(m, 4) ? 0 : RO) | DMU_FLAG_ZERO |
			   (once_in(m, 4) ? DMU_FLAG_TEMPORARY : 0);
		r->dst = DMT_NOWHERE;
		return true;
	}
	r->flags = (uint32_t)dmt_random(&m->random) & 255 & ~COPY;
	if (!r->id)
		r->flags &= ~SYNC;
	lives_at(r, below(m, 2) ? DMT_SPARE_DISK : DMT_STORE_DISK,
		 DMT_WILD_AT + below(m, (DMT_WILD_SECTORS - len) / 2 + 1) * 2);
	if (b->copies < DMT_MAX_COPIES && once_in(m, 3))
		copy_anything(m, r);
	return true;
}

/* Say where its block lives. False where that cannot be said now. */
bool dmt_answer_truly(struct dmt_model *m, struct dmt_mapping *r, bool write)
{
	const struct dmt_known *b = &m->blocks[r->block];

	if (b->leaving)
		return false;
	switch (b->truth) {
	case DMT_PLAIN:
		return true_plain(m, r);
	case DMT_COW:
	case DMT_THIN:
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

/* --- is it true? ---------------------------------------------------------------------- */

static bool is_at(const struct dmt_mapping *r, int disk, uint64_t sector)
{
	return r->dst == disk && (disk == DMT_NOWHERE || r->to == sector);
}

static bool is_from(const struct dmt_mapping *r, int disk, uint64_t sector)
{
	return r->src == disk && (disk == DMT_NOWHERE || r->from == sector);
}

/* No copy, and none that SYNC could be added to. */
static bool stays_at(const struct dmt_known *b, const struct dmt_mapping *r,
		     int disk, uint64_t sector)
{
	return is_at(r, disk, sector) && !(r->flags & COPY) &&
	       !(r->flags & SYNC && b->copies);
}

static bool copies_truly(struct dmt_model *m, const struct dmt_mapping *r,
			 const struct dmt_asked *asked)
{
	const struct dmt_known *b = &m->blocks[r->block];

	/* Places that COW blocks are given do not follow each other. */
	if (b->truth != DMT_THIN || !is_from(r, DMT_NOWHERE, 0) ||
	    !is_at(r, DMT_STORE_DISK, b->sector))
		return false;
	if (r->flags & SYNC)
		return asked;
	return b->stage == DMT_AT_ORIGIN && is_the_latest(m, r);
}

static bool cow_is_true(struct dmt_model *m, const struct dmt_mapping *r)
{
	const struct dmt_known *b = &m->blocks[r->block];
	const struct dmt_asked *asked = dmt_model_asked(m, r->id);
	int origin = b->truth == DMT_THIN ? DMT_NOWHERE : DMT_ORIGIN_DISK;

	/* What its place depends on must be sure to take effect. */
	if (b->stage != DMT_AT_STORE && r->id && !asked)
		return false;
	/* One that is unread again may have become a write. */
	if (asked && asked->peer < 0)
		return false;
	if (b->stage == DMT_AT_STORE)
		return stays_at(b, r, DMT_STORE_DISK, b->sector);
	if (r->flags & COPY)
		return copies_truly(m, r, asked);
	return b->stage == DMT_AT_ORIGIN && !(asked && asked->write) &&
	       is_at(r, origin, r->block * DMT_SECTORS);
}

static bool ping_is_true(struct dmt_model *m, const struct dmt_mapping *r)
{
	const struct dmt_known *b = &m->blocks[r->block];
	int here = b->spare ? DMT_SPARE_DISK : DMT_STORE_DISK;
	int there = b->spare ? DMT_STORE_DISK : DMT_SPARE_DISK;
	uint64_t sector = r->block * DMT_SECTORS;

	if (!(r->flags & COPY))
		return stays_at(b, r, here, sector);
	return !r->id && b->copies < DMT_MAX_COPIES &&
	       is_at(r, there, sector) && is_from(r, here, sector);
}

/**
 * dmt_is_true() - can the next block of a run be said to live there?
 * @m: the model
 * @r: what dmt_answer_truly(), or dmt_answer_swap(), said of a block before it,
 *	with numbers that are further on
 */
bool dmt_is_true(struct dmt_model *m, const struct dmt_mapping *r)
{
	const struct dmt_known *b = &m->blocks[r->block];

	if (b->leaving || !dmt_model_heard_of(m, r->id))
		return false;
	switch (b->truth) {
	case DMT_COW:
	case DMT_THIN:
		return cow_is_true(m, r);
	case DMT_MOVE:
		return stays_at(b, r, DMT_STORE_DISK, b->sector);
	case DMT_PING:
		return ping_is_true(m, r);
	default:
		return dmt_model_harmless_mapping(m, r);
	}
}
