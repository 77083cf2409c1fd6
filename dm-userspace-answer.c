// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an answer, or an invalidation, does to a block.
 *
 * An answer finds the block's present remap, if there is one, and leaves it as
 * it is (the answer is the older of the two), joins it (they say the same), or
 * replaces it. All of that happens under the bucket lock, in one step.
 */
#include "dm-userspace-trace.h"

/*
 * Did a daemon that is dead leave it behind, and has nobody said that it is true? Its
 * copy may be under way still.
 */
static bool left_behind(const struct dmu_remap *remap)
{
	const struct dmu_change *c = remap->change;

	return c && (c->state == DMU_CHANGE_ASK ||
		     (c->state <= DMU_CHANGE_FAILED && c->m.flags & DMU_SYNC &&
		      !c->owner));
}

/*
 * Is the block's present remap younger than an answer to a request of age @seq? Not
 * one that was left behind.
 */
static bool answer_older(const struct dmu_remap *remap, u64 seq, bool asked)
{
	if (!seq || (asked && left_behind(remap)))
		return false;
	if (asked)
		return !(remap->flags & DMU_PUSHED) && seq < remap->stamp;
	return seq <= remap->stamp;
}

static bool same_place(const struct dmu_space *space,
		       const struct dmu_remap *remap,
		       const struct dmu_mapping *m)
{
	return remap->dev == m->dst &&
	       dmu_remap_dst(space, remap, m->block) == m->dst_sector;
}

static bool same_rights(const struct dmu_remap *remap,
			const struct dmu_mapping *m)
{
	return !((remap->flags ^ m->flags) & (DMU_RD | DMU_WR));
}

/* Did the block live there before its change, so that there may be what was written? */
static bool lives_there(const struct dmu_remap *remap)
{
	const struct dmu_change *c = remap->change;

	return !c || (c->m.flags & DMU_LIVES && c->state != DMU_CHANGE_ASK);
}

/*
 * Where a block lives already, an answer copies nothing: whoever repeats it, and be it
 * twice, must not undo what was written meanwhile. One that nobody asked for means it.
 */
static void strike_copy(const struct dmu_space *space,
			const struct dmu_remap *old, struct dmu_mapping *m)
{
	if (!m->id || !same_place(space, old, m) || !lives_there(old))
		return;
	m->flags &= ~DMU_COPY;
	m->flags |= DMU_LIVES;
}

static bool answer_joins(struct dmu_space *space,
			 const struct dmu_remap *remap,
			 const struct dmu_mapping *m, sector_t len,
			 const struct bio_list *bios)
{
	if (!same_place(space, remap, m) || !same_rights(remap, m) ||
	    m->flags & DMU_TEMPORARY)
		return false;
	if (remap->change && !dmu_change_joins(remap->change, m))
		return false;
	/* What is ready need not be made again. */
	if (!remap->change && m->flags & (DMU_SYNC | DMU_COPY))
		return false;
	/* Where they are served at once, writes may have to wait even so. */
	return !dmu_bios_write(bios) ||
	       (remap->change && remap->change->state != DMU_CHANGE_SYNC) ||
	       !dmu_place_owed(space, m, len, bios);
}

/* Can the mapping be used at once? */
static bool usable_now(struct dmu_space *space, struct dmu_bucket *bucket,
		       const struct dmu_mapping *m, sector_t len,
		       const struct bio_list *bios)
{
	return !(m->flags & (DMU_COPY | DMU_SYNC)) &&
	       dmu_flight_passed(&space->flight[WRITE],
				 max(dmu_left(bucket, m->block)[WRITE],
				     space->death[WRITE])) &&
	       dmu_flight_passed(&space->flight[READ], space->death[READ]) &&
	       !dmu_change_copying(bucket, m->block, false) &&
	       !dmu_place_owed(space, m, len, bios);
}

static void remap_fill(struct dmu_remap *remap, const struct dmu_mapping *m,
		       u64 stamp, bool pushed)
{
	remap->block = m->block;
	remap->dst_sector = m->dst_sector;
	remap->dev = m->dst;
	remap->flags = (m->flags & (DMU_RD | DMU_WR)) |
		       (pushed ? DMU_PUSHED : 0);
	remap->recent = 1;
	remap->run_bits = 0;
	remap->asked = false;
	remap->change = NULL;
	remap->stamp = stamp;
}

/*
 * TEMPORARY: the block has no remap after this; what waits is served. Where
 * nothing does, nothing is copied either: the same answer may have been given
 * before, and been written through.
 */
static void answer_once(struct dmu_space *space, struct dmu_bucket *bucket,
			const struct dmu_mapping *m, sector_t len,
			struct dmu_peer *peer, struct bio_list *bios,
			struct dmu_remap *old, struct dmu_change **change)
{
	bool owes = old && old->change; /* bios, or a copy that failed */

	if (old) {
		trace_dmu_remap_invalidated(space, m->block, 1,
					    dmu_remap_id(old));
		dmu_remap_drop(space, bucket, old, m->block);
	}
	if (bio_list_empty(bios) && !owes)
		return;
	if (!usable_now(space, bucket, m, len, bios)) {
		dmu_change_start(*change, space, bucket, m, len, NULL, peer,
				 bios);
		*change = NULL;
		return;
	}
	dmu_bios_serve(bios, m->dst_sector, m->dst, NULL);
	dmu_left_note(space, bucket, m->block, true);
}

static void answer_replace(struct dmu_space *space, struct dmu_bucket *bucket,
			   const struct dmu_mapping *m, sector_t len,
			   struct dmu_peer *peer, struct bio_list *bios,
			   struct dmu_remap *old, struct dmu_remap *remap,
			   struct dmu_change **change)
{
	bool now;

	if (old)
		trace_dmu_remap_replaced(space, m, 1);
	else
		trace_dmu_remap_installed(space, m, 1);
	/* The old one leaves first: its writes may have to be waited for. */
	dmu_remap_publish(space, bucket, remap, old);
	now = usable_now(space, bucket, m, len, bios);
	if (!now) {
		dmu_change_start(*change, space, bucket, m, len, remap, peer,
				 bios);
		*change = NULL;
		return;
	}
	if (dmu_bios_write(bios))
		dmu_remap_flag(remap, DMU_WROTE);
	dmu_remap_flag(remap, DMU_READY);
	dmu_bios_serve(bios, m->dst_sector, m->dst, NULL);
	dmu_space_relieve(space);
	dmu_remap_merge(space, bucket, remap);
}

static void answer_join(struct dmu_remap *remap, const struct dmu_mapping *m,
			struct dmu_peer *peer, struct bio_list *bios)
{
	if (remap->change) {
		dmu_change_join(remap->change, m, peer, bios);
		return;
	}
	if (dmu_bios_write(bios))
		dmu_remap_flag(remap, DMU_WROTE);
	dmu_bios_serve(bios, m->dst_sector, m->dst, NULL);
}

/*
 * Another answer takes the place of a change, and its I/O goes along; but not
 * writes to where nothing may be written: they had asked, and were answered
 * otherwise, so they ask again. Returns a change that is to end after the answer has
 * taken effect.
 */
static struct dmu_change *supersede(struct dmu_space *space, struct dmu_change *c,
				    struct dmu_mapping *m, struct bio_list *bios)
{
	struct bio_list moved = BIO_EMPTY_LIST;
	bool over = dmu_change_supersede(c, m, &moved);
	struct bio *bio;

	while ((bio = bio_list_pop(&moved))) {
		if (op_is_write(bio_op(bio)) && !(m->flags & DMU_WR))
			dmu_space_again(space, bio);
		else
			bio_list_add(bios, bio);
	}
	return over ? c : NULL;
}

/**
 * dmu_answer_stale() - an answer that nobody waits for, and that is too old
 * @space: of the key
 * @bucket: of the block, locked
 * @block: of the mapped device
 * @seq: age of the request that it answers; 0 where it answers none
 */
bool dmu_answer_stale(struct dmu_space *space, struct dmu_bucket *bucket,
		      u64 block, u64 seq)
{
	struct dmu_remap *remap = dmu_remap_find(bucket, block);

	if (remap)
		return answer_older(remap, seq, false);
	/* A younger one may have been here, and been recycled. */
	return seq && seq <= bucket->recycled;
}

/**
 * dmu_answer() - apply a mapping
 * @space: of the key
 * @bucket: of the block, locked
 * @m: checked; dmu_answer_stale() was asked where nobody waits for it. What it
 *	is to copy from may be changed
 * @len: true length of the block, in sectors
 * @seq: age of the request that is answered; 0 where it is not outstanding
 * @age: age of the request that it answers too late; 0 where it answers none
 * @peer: the daemon that answers
 * @bios: waited for it; empty after this
 * @remap: memory; used or freed
 * @change: likewise
 */
void dmu_answer(struct dmu_space *space, struct dmu_bucket *bucket,
		struct dmu_mapping *m, sector_t len, u64 seq, u64 age,
		struct dmu_peer *peer, struct bio_list *bios,
		struct dmu_remap *remap, struct dmu_change *change)
{
	struct dmu_remap *old = dmu_remap_find(bucket, m->block);
	struct dmu_change *over = NULL;
	/* Another late answer may be younger than a late one. */
	u64 stamp = seq ?: age ?: READ_ONCE(space->last_seq);

	trace_dmu_answered(space, m, 1);
	m->named = m->src;
	m->named_sector = m->src_sector;
	if (old)
		strike_copy(space, old, m);
	if (old && left_behind(old))
		stamp = max(stamp, old->stamp);
	if (old && answer_older(old, seq, true)) {
		dmu_space_again_list(space, bios);
	} else if (old && answer_joins(space, old, m, len, bios)) {
		answer_join(old, m, peer, bios);
	} else {
		if (old && old->change)
			over = supersede(space, old->change, m, bios);
		if (m->flags & DMU_TEMPORARY) {
			answer_once(space, bucket, m, len, peer, bios, old,
				    &change);
		} else {
			remap_fill(remap, m, stamp, !seq);
			answer_replace(space, bucket, m, len, peer, bios, old,
				       remap, &change);
			remap = NULL;
		}
		if (over)
			dmu_change_enter(over, DMU_CHANGE_GONE);
	}
	dmu_remap_free(space, remap);
	dmu_change_keep(space, change);
}

/* Is anything under way for any of its blocks? */
static bool bucket_busy(struct dmu_bucket *bucket)
{
	unsigned int i;

	for (i = 0; i < DMU_HEADS; i++)
		if (!hlist_empty(&bucket->requests[i]) ||
		    !hlist_empty(&bucket->changes[i]))
			return true;
	return false;
}

/**
 * dmu_answer_run() - map blocks of which nothing is known, all at once
 * @space: of the key
 * @bucket: of the blocks, locked
 * @m: what a daemon pushes, of the first one; checked, and nothing has to be done
 *	before the places can be used
 * @run_bits: how many, as a power of two; it begins at a multiple of that
 * @remap: memory; used where this succeeds
 *
 * Return: false where something is known, or under way: they are to be mapped one by
 * one.
 */
bool dmu_answer_run(struct dmu_space *space, struct dmu_bucket *bucket,
		    const struct dmu_mapping *m, unsigned int run_bits,
		    struct dmu_remap *remap)
{
	u64 left = space->death[WRITE];
	unsigned int i;

	if (bucket_busy(bucket) || dmu_remaps_known(bucket, m->block, run_bits))
		return false;
	for (i = 0; i < DMU_LEFT; i++)
		left = max(left, bucket->left[i][WRITE]);
	if (!dmu_flight_passed(&space->flight[WRITE], left) ||
	    !dmu_flight_passed(&space->flight[READ], space->death[READ]) ||
	    dmu_place_owed(space, m, dmu_block_sectors(space) << run_bits,
			   NULL))
		return false;
	trace_dmu_answered(space, m, 1U << run_bits);
	trace_dmu_remap_installed(space, m, 1U << run_bits);
	remap_fill(remap, m, READ_ONCE(space->last_seq), true);
	remap->run_bits = run_bits;
	remap->flags |= DMU_READY;
	dmu_remap_publish(space, bucket, remap, NULL);
	dmu_remap_merge(space, bucket, remap);
	return true;
}

/**
 * dmu_forget() - a request was failed: what asked for it is forgotten, too
 * @space: of the key
 * @bucket: of the block, locked
 * @block: of the mapped device
 *
 * Drops a remap of which a daemon that died had not said that it is safe.
 */
void dmu_forget(struct dmu_space *space, struct dmu_bucket *bucket, u64 block)
{
	struct dmu_remap *remap = dmu_remap_find(bucket, block);

	if (remap && dmu_remap_asked_again(remap))
		dmu_change_forget(remap->change);
}

/* --- invalidation ---------------------------------------------------------- */

static void inval_reads_back(struct dmu_wait *wait)
{
	dmu_peer_verdict(container_of(wait, struct dmu_invalidation, wait));
}

static void inval_writes_back(struct dmu_wait *wait)
{
	struct dmu_invalidation *inv;
	struct dmu_space *space;

	inv = container_of(wait, struct dmu_invalidation, wait);
	space = inv->peer->space;
	inv->wait.seq = inv->left_read;
	inv->wait.fn = inval_reads_back;
	if (dmu_flight_wait(&space->flight[READ], &inv->wait))
		dmu_peer_verdict(inv);
}

/**
 * dmu_invalidation_go_on() - wait for what has not been waited for yet
 * @inv: its bucket is locked; it is in no list
 *
 * First for copies that the block still owes, then for all I/O.
 */
void dmu_invalidation_go_on(struct dmu_invalidation *inv)
{
	struct dmu_space *space = inv->peer->space;
	struct dmu_change *c;

	c = dmu_change_copying(inv->bucket, inv->block, true);
	if (c) {
		list_add_tail(&inv->node, &c->invalidations);
		return;
	}
	inv->left_read = dmu_left(inv->bucket, inv->block)[READ];
	inv->wait.seq = dmu_left(inv->bucket, inv->block)[WRITE];
	inv->wait.fn = inval_writes_back;
	if (dmu_flight_wait(&space->flight[WRITE], &inv->wait))
		inval_writes_back(&inv->wait);
}

/**
 * dmu_unmap() - drop a block's remap; nothing that is under way is waited for
 * @space: of the key
 * @bucket: of the block, locked
 * @block: of the mapped device
 *
 * Return: whether there was one.
 */
bool dmu_unmap(struct dmu_space *space, struct dmu_bucket *bucket, u64 block)
{
	struct dmu_remap *remap = dmu_remap_find(bucket, block);

	if (!remap)
		return false;
	trace_dmu_remap_invalidated(space, block, 1, dmu_remap_id(remap));
	if (remap->change)
		dmu_change_invalidate(remap->change);
	dmu_remap_drop(space, bucket, remap, block);
	return true;
}

/**
 * dmu_unmap_and_ask() - drop a block's remap without its daemon's knowledge
 * @space: of the key
 * @bucket: of the block, locked
 * @block: of the mapped device
 *
 * I/O that is held for it goes along, to the next mapping: its daemon may not have
 * heard of it, and say once more that the block is to be copied to where it is.
 */
void dmu_unmap_and_ask(struct dmu_space *space, struct dmu_bucket *bucket, u64 block)
{
	struct dmu_remap *remap = dmu_remap_find(bucket, block);

	if (remap && remap->change && remap->change->state == DMU_CHANGE_SYNC)
		dmu_change_forget(remap->change);
	else
		dmu_unmap(space, bucket, block);
}

/**
 * dmu_invalidate() - drop a block's remap, and say when nothing uses its place
 * @inv: belongs to itself from now on
 *
 * Context: not under a lock.
 */
void dmu_invalidate(struct dmu_invalidation *inv)
{
	struct dmu_bucket *bucket = inv->bucket;

	spin_lock_irq(&bucket->lock);
	inv->found = dmu_unmap(inv->peer->space, bucket, inv->block);
	dmu_invalidation_go_on(inv);
	spin_unlock_irq(&bucket->lock);
}
