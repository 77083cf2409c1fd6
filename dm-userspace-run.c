// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs: one remap for blocks that lie one after the other.
 *
 * As in a buddy allocator a run has 1, 8, 64 or 512 blocks and begins at a
 * multiple of that. Eight of one size that are ready, and say the same of places
 * that follow each other, become one of the next size as soon as the last of them
 * is there; when one block of a run changes, what is left of it stays as up to
 * seven of each smaller size.
 *
 * Either needs memory, and either can be done without it: neighbours that did not
 * become one are found as they were, and a part of a run that is not kept is asked
 * for again, as any remap that was recycled.
 */
#include "dm-userspace-trace.h"

#define NEIGHBOURS BIT(DMU_RUN_BITS)

static u8 rights(const struct dmu_remap *remap)
{
	return remap->flags & (DMU_RD | DMU_WR);
}

/* Does a remap go on where another of its size, so many places before it, is? */
static bool follows(const struct dmu_space *space, const struct dmu_remap *next,
		    const struct dmu_remap *remap)
{
	return next && next->flags & DMU_READY && rights(next) == rights(remap) &&
	       next->dev == remap->dev &&
	       next->dst_sector == dmu_remap_dst(space, remap, next->block);
}

/* Which of its neighbours a remap is. */
static unsigned int own_number(const struct dmu_remap *remap)
{
	return (remap->block >> remap->run_bits) % NEIGHBOURS;
}

/* The i-th of them, where it is there, and says of its blocks what the remap does. */
static struct dmu_remap *neighbour(const struct dmu_space *space,
				   struct dmu_bucket *bucket,
				   const struct dmu_remap *remap, unsigned int i)
{
	u64 first = (remap->block >> remap->run_bits) & ~(NEIGHBOURS - 1ULL);
	struct dmu_remap *found;

	found = dmu_remap_find_run(bucket, (first + i) << remap->run_bits,
				   remap->run_bits);
	return follows(space, found, remap) ? found : NULL;
}

/* Blocks mostly come in an order, up or down: the one to lack is beside it. */
static bool lacks_beside(const struct dmu_space *space, struct dmu_bucket *bucket,
			 const struct dmu_remap *remap)
{
	unsigned int own = own_number(remap);

	return !neighbour(space, bucket, remap, (own + 1) % NEIGHBOURS) ||
	       !neighbour(space, bucket, remap, (own - 1) % NEIGHBOURS);
}

/* Get all neighbours of a remap, where they can become one with it. */
static bool get_neighbours(const struct dmu_space *space,
			   struct dmu_bucket *bucket, struct dmu_remap *remap,
			   struct dmu_remap **part)
{
	unsigned int own = own_number(remap), n, i;

	part[own] = remap;
	for (n = 1; n < NEIGHBOURS; n++) {
		i = (own + n) % NEIGHBOURS;
		part[i] = neighbour(space, bucket, remap, i);
		if (!part[i])
			return false;
	}
	return true;
}

/* A remap of another size that says the same. */
static struct dmu_remap *remap_like(const struct dmu_space *space,
				    const struct dmu_remap *remap, u64 block,
				    unsigned int run_bits)
{
	struct dmu_remap *like = dmu_remap_spare();

	if (!like)
		return NULL;
	like->block = block;
	like->dst_sector = dmu_remap_dst(space, remap, block);
	like->dev = remap->dev;
	like->flags = remap->flags;
	like->recent = 1;
	like->run_bits = run_bits;
	like->asked = false;
	like->change = NULL;
	like->stamp = remap->stamp;
	return like;
}

/* One for a remap and its neighbours, or NULL where they cannot become one. */
static noinline struct dmu_remap *merge_once(struct dmu_space *space,
					     struct dmu_bucket *bucket,
					     struct dmu_remap *remap)
{
	unsigned int bits = remap->run_bits + DMU_RUN_BITS;
	u64 oldest = remap->stamp, newest = remap->stamp;
	struct dmu_remap *part[NEIGHBOURS], *run;
	unsigned int i;

	if (!get_neighbours(space, bucket, remap, part))
		return NULL;
	for (i = 0; i < NEIGHBOURS; i++) {
		oldest = min(oldest, part[i]->stamp);
		newest = max(newest, part[i]->stamp);
	}
	/*
	 * An answer must find the remap as old as it was when it was asked for, also
	 * where it comes late.
	 */
	if (dmu_request_known(bucket, part[0]->block, 1ULL << bits) ||
	    (oldest < newest && oldest < bucket->lost))
		return NULL;
	run = remap_like(space, part[0], part[0]->block, bits);
	if (!run)
		return NULL;
	run->stamp = newest;
	for (i = 1; i < NEIGHBOURS; i++)
		run->flags |= part[i]->flags & DMU_WROTE;
	dmu_remap_hash(space, bucket, run);
	dmu_remaps_unhash(space, bucket, part, NEIGHBOURS);
	return run;
}

/**
 * dmu_remap_merge() - make a remap part of a run, if it can be
 * @space: of the key
 * @bucket: of the block, locked
 * @remap: published and ready; not to be used any more
 */
void dmu_remap_merge(struct dmu_space *space, struct dmu_bucket *bucket,
		     struct dmu_remap *remap)
{
	lockdep_assert_held(&bucket->lock);
	while (remap && remap->run_bits < DMU_MAX_RUN_BITS &&
	       !lacks_beside(space, bucket, remap))
		remap = merge_once(space, bucket, remap);
}

static bool keep_part(struct dmu_space *space, struct dmu_bucket *bucket,
		      const struct dmu_remap *run, u64 block, unsigned int bits)
{
	struct dmu_remap *part = remap_like(space, run, block, bits);

	if (!part) {
		bucket->recycled = max(bucket->recycled, run->stamp);
		this_cpu_add(space->counters->evictions, 1UL << bits);
		trace_dmu_remap_evicted(space, block, 1U << bits, 0);
		return false;
	}
	dmu_remap_hash(space, bucket, part);
	return true;
}

/**
 * dmu_run_break() - keep what a run says of all but one block
 * @space: of the key
 * @bucket: of the block, locked
 * @run: is about to leave; still found until then
 * @block: one that it covers
 *
 * Return: false where some of it could not be kept, for lack of memory.
 */
bool dmu_run_break(struct dmu_space *space, struct dmu_bucket *bucket,
		   const struct dmu_remap *run, u64 block)
{
	unsigned int bits = run->run_bits, i;
	u64 first = run->block;
	bool whole = true;

	while (bits) {
		bits -= DMU_RUN_BITS;
		for (i = 0; i < NEIGHBOURS; i++)
			if (first + ((u64)i << bits) != (block >> bits) << bits)
				whole &= keep_part(space, bucket, run,
						   first + ((u64)i << bits),
						   bits);
		first = (block >> bits) << bits;
	}
	return whole;
}
