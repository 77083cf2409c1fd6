// SPDX-License-Identifier: GPL-2.0-only
/*
 * Changes: mappings on their way to being usable, and I/O held for SYNC.
 *
 * An answer that can be used at once never comes here. A change waits for
 * earlier writes to come back (DRAIN), for a copy slot (QUEUED), for the copy
 * (COPYING), and, where the daemon asked for it, holds the I/O that came back
 * until its metadata is safe (SYNC). Documentation/design.rst draws this.
 *
 * A change whose remap was replaced or invalidated goes on without one: its
 * copy is still made, its held I/O is still released by the ack. Changes of one
 * block make their copies in the order of the answers: a later one waits in
 * DRAIN as the `next` of the one before it.
 */
#include "dm-userspace-trace.h"

/**
 * dmu_change_put() - drop a reference
 * @c: its bucket is locked; may be gone after this
 */
void dmu_change_put(struct dmu_change *c)
{
	lockdep_assert_held(&c->bucket->lock);
	if (--c->refs)
		return;
	hlist_del(&c->node);
	atomic_dec(&c->space->nr_changes);
	dmu_change_keep(c->space, c);
}

/* --- states ------------------------------------------------------------------ */

/* Which states may follow which; a bit for each. */
static const u8 change_follows[] = {
	[DMU_CHANGE_DRAIN] = BIT(DMU_CHANGE_QUEUED) | BIT(DMU_CHANGE_SYNC) |
			     BIT(DMU_CHANGE_ASK) | BIT(DMU_CHANGE_ACKED) |
			     BIT(DMU_CHANGE_GONE),
	[DMU_CHANGE_QUEUED] = BIT(DMU_CHANGE_COPYING) | BIT(DMU_CHANGE_GONE),
	[DMU_CHANGE_COPYING] = BIT(DMU_CHANGE_FAILED) | BIT(DMU_CHANGE_SYNC) |
			       BIT(DMU_CHANGE_ASK) | BIT(DMU_CHANGE_ACKED) |
			       BIT(DMU_CHANGE_GONE),
	[DMU_CHANGE_FAILED] = BIT(DMU_CHANGE_QUEUED) | BIT(DMU_CHANGE_GONE),
	[DMU_CHANGE_SYNC] = BIT(DMU_CHANGE_ASK) | BIT(DMU_CHANGE_ACKED) |
			    BIT(DMU_CHANGE_GONE),
	[DMU_CHANGE_ASK] = BIT(DMU_CHANGE_GONE),
};

/* Not usable yet, and a copy may still be owed to the place. */
static bool change_pending(const struct dmu_change *c)
{
	return c->state <= DMU_CHANGE_COPYING;
}

/* Where a change goes once its place holds what it should. */
static void change_settle(struct dmu_change *c)
{
	c->copied = true;
	if (!(c->m.flags & DMU_SYNC))
		dmu_change_enter(c, DMU_CHANGE_ACKED);
	else if (c->owner)
		dmu_change_enter(c, DMU_CHANGE_SYNC);
	else if (c->remap)
		dmu_change_enter(c, DMU_CHANGE_ASK);
	else
		dmu_change_enter(c, DMU_CHANGE_GONE);
}

/* Earlier writes are back, and earlier copies of the block are over. */
static void change_drained(struct dmu_change *c)
{
	if (dmu_place_barred(c))
		return;
	if (!(c->m.flags & DMU_COPY) || c->m.flags & DMU_COPIED)
		change_settle(c);
	else if (c->m.flags & DMU_NO_SOURCE)
		dmu_change_give_up(c);
	else
		dmu_change_enter(c, DMU_CHANGE_QUEUED);
}

static void change_reads_back(struct dmu_wait *wait)
{
	struct dmu_change *c = container_of(wait, struct dmu_change, wait);
	struct dmu_bucket *bucket = c->bucket;

	spin_lock_irq(&bucket->lock);
	if (c->state == DMU_CHANGE_DRAIN)
		change_drained(c);
	dmu_change_put(c);
	spin_unlock_irq(&bucket->lock);
}

/* False where all I/O of an epoch has come back: @fn is not called. */
static bool change_waits(struct dmu_change *c, unsigned int rw, u64 seq,
			 void (*fn)(struct dmu_wait *wait))
{
	struct dmu_flight *flight = &c->space->flight[rw];

	if (dmu_flight_passed(flight, seq))
		return false;
	c->wait.seq = seq;
	c->wait.fn = fn;
	c->refs++;
	if (!dmu_flight_wait(flight, &c->wait))
		return true;
	c->refs--; /* the change's own is left: never the last */
	return false;
}

/* Nor may a dead daemon's reads find what is not theirs. */
static void change_drain_reads(struct dmu_change *c)
{
	if (!change_waits(c, READ, READ_ONCE(c->space->death[READ]), change_reads_back))
		change_drained(c);
}

static void change_writes_back(struct dmu_wait *wait)
{
	struct dmu_change *c = container_of(wait, struct dmu_change, wait);
	struct dmu_bucket *bucket = c->bucket;

	spin_lock_irq(&bucket->lock);
	if (c->state == DMU_CHANGE_DRAIN)
		change_drain_reads(c);
	dmu_change_put(c);
	spin_unlock_irq(&bucket->lock);
}

/* Wait for earlier writes, now that earlier copies are over. */
static void change_drain(struct dmu_change *c)
{
	u64 seq = max(dmu_left(c->bucket, c->m.block)[WRITE],
		      READ_ONCE(c->space->death[WRITE]));

	if (!change_waits(c, WRITE, seq, change_writes_back))
		change_drain_reads(c);
}

/* Given up while it waited for an earlier copy: its next waits for that one. */
static bool change_skipped(struct dmu_change *c)
{
	struct dmu_change *before;

	hlist_for_each_entry(before, dmu_changes_of(c->bucket, c->m.block),
			     node) {
		if (before->next != c)
			continue;
		before->next = c->next;
		c->next = NULL;
		c->refs--; /* the change's own is left: never the last */
		return true;
	}
	return false;
}

/* The worker goes on with it, by the reference of whoever it was the next of. */
static void change_drain_later(struct dmu_change *c)
{
	spin_lock(&c->space->lock);
	list_add_tail(&c->queue, &c->space->drains);
	spin_unlock(&c->space->lock);
	dmu_space_kick(c->space);
}

/**
 * dmu_changes_drain() - the worker's share: go on with those that waited for others
 * @space: of the key
 *
 * Context: the worker.
 */
void dmu_changes_drain(struct dmu_space *space)
{
	struct dmu_bucket *bucket;
	struct dmu_change *c;

	while (dmu_list_waits(&space->drains)) {
		spin_lock_irq(&space->lock);
		c = list_first_entry_or_null(&space->drains, struct dmu_change,
					     queue);
		if (c)
			list_del_init(&c->queue);
		spin_unlock_irq(&space->lock);
		if (!c)
			return;
		/* The list's reference is ours. */
		bucket = c->bucket;
		spin_lock_irq(&bucket->lock);
		if (c->state == DMU_CHANGE_DRAIN)
			change_drain(c);
		dmu_change_put(c);
		spin_unlock_irq(&bucket->lock);
		cond_resched();
	}
}

/*
 * Those who wait for this change's copy need do so no longer. It has come from @old:
 * only what is in DRAIN can itself be waiting for an earlier one.
 */
static void change_let_next(struct dmu_change *c, enum dmu_change_state old)
{
	struct dmu_change *next = c->next;
	struct dmu_invalidation *inv, *n;

	dmu_place_bequeath(c);
	dmu_place_settle(c);
	if (old == DMU_CHANGE_DRAIN && change_skipped(c))
		next = NULL;
	c->next = NULL;
	if (next)
		change_drain_later(next);
	list_for_each_entry_safe(inv, n, &c->invalidations, node) {
		list_del(&inv->node);
		if (c->m.flags & DMU_COPY && !c->copied)
			inv->found = false;
		dmu_invalidation_go_on(inv);
	}
}

/* It waits for a copy slot, or for others, no longer. */
static void change_leave_queue(struct dmu_change *c)
{
	bool queued;

	spin_lock(&c->space->lock);
	queued = !list_empty(&c->queue);
	list_del_init(&c->queue);
	spin_unlock(&c->space->lock);
	if (queued) /* else the worker has taken it, and its reference */
		c->refs--;
}

/* A waiting write of the whole block, which makes the copy superfluous. */
static struct bio *change_stand_in(struct dmu_change *c)
{
	struct bio_list rest = BIO_EMPTY_LIST;
	struct bio *bio, *found = NULL;

	while ((bio = bio_list_pop(&c->waiting))) {
		struct dmu_bio *pb = dmu_bio(bio);

		if (!found && bio_op(bio) == REQ_OP_WRITE &&
		    pb->iter.bi_size >> SECTOR_SHIFT == c->len &&
		    dmu_target_bdev(pb->target, c->m.dst))
			found = bio;
		else
			bio_list_add(&rest, bio);
	}
	c->waiting = rest;
	return found;
}

/**
 * dmu_change_by_write() - let a write that waits take the place of the copy
 * @c: in QUEUED or COPYING, without a copy under way; its bucket is locked
 *
 * Return: whether there is one, of the whole block.
 */
bool dmu_change_by_write(struct dmu_change *c)
{
	struct bio *bio = change_stand_in(c);

	if (!bio)
		return false;
	if (c->state == DMU_CHANGE_QUEUED)
		dmu_change_enter(c, DMU_CHANGE_COPYING);
	dmu_bio_serve(bio, c->m.dst_sector, c->m.dst, c);
	return true;
}

static void change_queue_copy(struct dmu_change *c)
{
	if (dmu_change_by_write(c))
		return;
	c->refs++;
	spin_lock(&c->space->lock);
	list_add_tail(&c->queue, &c->space->copies);
	spin_unlock(&c->space->lock);
	dmu_space_kick_copies(c->space);
}

/* Let what waits go to its place, to be held on its return where @hold is set. */
static void change_serve(struct dmu_change *c, bool hold)
{
	struct dmu_space *space = c->space;
	bool wrote = dmu_bios_write(&c->waiting);

	dmu_bios_serve(&c->waiting, c->m.dst_sector, c->m.dst, hold ? c : NULL);
	if (c->remap) {
		if (wrote)
			dmu_remap_flag(c->remap, DMU_WROTE);
		return;
	}
	/* There is no remap to tell, when it goes, that there was this I/O. */
	dmu_left_note(space, c->bucket, c->m.block, true);
}

/* The mapping is usable, and nothing need be held any more. */
static void change_release(struct dmu_change *c)
{
	struct dmu_remap *remap = c->remap;

	if (!bio_list_empty(&c->held))
		trace_dmu_sync_released(c->space, c->m.block, c->id.id);
	dmu_change_own(c, NULL, 0);
	dmu_space_done_list(c->space, &c->held, BLK_STS_OK);
	change_serve(c, false);
	if (!remap)
		return;
	c->remap = NULL;
	remap->change = NULL;
	/* A hit must find the copy done. */
	dmu_remap_flag(remap, DMU_READY);
	dmu_space_relieve(c->space);
	dmu_remap_merge(c->space, c->bucket, remap);
}

/* All that waits or is held is mapped anew, as if it had just arrived. */
static void change_map_again(struct dmu_change *c)
{
	dmu_change_own(c, NULL, 0);
	dmu_space_again_list(c->space, &c->waiting);
	dmu_space_again_list(c->space, &c->held);
}

static void change_ask_for(struct dmu_change *c, struct bio *bio)
{
	if (dmu_request_wait(dmu_bio(bio)->target, c->bucket, c->m.block, true,
			     bio) == DM_MAPIO_KILL)
		dmu_space_done(c->space, bio, BLK_STS_IOERR);
}

/* The daemon is gone: ask the next one, while all I/O of the block waits. */
static void change_ask(struct dmu_change *c)
{
	struct bio *bio;

	bio_list_merge(&c->held, &c->waiting);
	bio_list_init(&c->waiting);
	while ((bio = bio_list_pop(&c->held)))
		change_ask_for(c, bio);
}

/* A SYNC that nobody will hear of: no remap, and no I/O to hold. */
static void change_end_if_idle(struct dmu_change *c)
{
	if (c->state == DMU_CHANGE_SYNC && !c->remap && !c->inflight &&
	    bio_list_empty(&c->held))
		dmu_change_enter(c, DMU_CHANGE_GONE);
}

/**
 * dmu_change_enter() - move a change from state to state
 * @c: its bucket is locked
 * @state: may follow the present one
 */
void dmu_change_enter(struct dmu_change *c, enum dmu_change_state state)
{
	enum dmu_change_state old = c->state;

	lockdep_assert_held(&c->bucket->lock);
	WARN_ON_ONCE(!(change_follows[old] & BIT(state)));
	c->state = state;
	switch (state) {
	case DMU_CHANGE_DRAIN:
	case DMU_CHANGE_COPYING:
		return;
	case DMU_CHANGE_QUEUED:
		change_queue_copy(c);
		return;
	case DMU_CHANGE_FAILED:
		dmu_change_silent(c);
		dmu_space_done_list(c->space, &c->waiting, BLK_STS_IOERR);
		change_let_next(c, old);
		return;
	case DMU_CHANGE_SYNC:
		change_serve(c, true);
		if (!bio_list_empty(&c->held)) /* a whole-block write */
			dmu_change_tell(c);
		else if (!c->inflight)
			dmu_change_silent(c);
		change_let_next(c, old);
		change_end_if_idle(c);
		return;
	case DMU_CHANGE_ASK:
		change_ask(c);
		change_let_next(c, old);
		return;
	case DMU_CHANGE_ACKED:
		change_release(c);
		break;
	case DMU_CHANGE_GONE:
		if (old == DMU_CHANGE_DRAIN || old == DMU_CHANGE_QUEUED)
			change_leave_queue(c);
		change_map_again(c);
		break;
	}
	change_let_next(c, old);
	dmu_change_put(c);
}

/* --- an answer and what becomes of it --------------------------------------- */

/**
 * dmu_change_copying() - the latest change of a block that is not usable yet
 * @bucket: of the block, locked
 * @block: of the mapped device
 * @detached: only one that has no remap (any more)
 *
 * The earlier ones make their copies before it does, if they owe any.
 */
struct dmu_change *dmu_change_copying(struct dmu_bucket *bucket, u64 block,
				      bool detached)
{
	struct dmu_change *c;

	lockdep_assert_held(&bucket->lock);
	hlist_for_each_entry(c, dmu_changes_of(bucket, block), node)
		if (c->m.block == block && change_pending(c) &&
		    !(detached && c->remap))
			return c;
	return NULL;
}

/**
 * dmu_change_start() - set out with a mapping that cannot be used at once
 * @c: memory for it; belongs to itself from now on
 * @space: of the key
 * @bucket: of the block, locked
 * @m: the answer
 * @len: true length of the block, in sectors
 * @remap: published for it, or NULL where it is TEMPORARY
 * @owner: with DMU_SYNC: the daemon that answered
 * @bios: wait for it; empty after this
 */
void dmu_change_start(struct dmu_change *c, struct dmu_space *space,
		      struct dmu_bucket *bucket, const struct dmu_mapping *m,
		      sector_t len, struct dmu_remap *remap,
		      struct dmu_peer *owner, struct bio_list *bios)
{
	struct dmu_change *before = dmu_change_copying(bucket, m->block, false);

	memset(c, 0, sizeof(*c));
	c->space = space;
	c->bucket = bucket;
	c->m = *m;
	if (!(m->flags & DMU_SYNC))
		dmu_change_promise(c);
	c->len = len;
	c->age = atomic64_inc_return(&space->age);
	atomic_inc(&space->nr_changes);
	c->refs = 1;
	c->state = DMU_CHANGE_DRAIN;
	c->remap = remap;
	c->id.kind = DMU_ID_CHANGE;
	c->waiting = *bios;
	bio_list_init(bios);
	INIT_LIST_HEAD(&c->invalidations);
	INIT_LIST_HEAD(&c->queue);
	INIT_LIST_HEAD(&c->owing);
	INIT_LIST_HEAD(&c->owed);
	INIT_LIST_HEAD(&c->news);
	hlist_add_head(&c->node, dmu_changes_of(bucket, m->block));
	if (remap)
		remap->change = c;
	else
		dmu_place_owe(c);
	if (m->flags & DMU_INHERITS)
		dmu_place_watch(c);
	if (m->flags & DMU_SYNC)
		dmu_change_own(c, owner, m->id);
	if (before) {
		before->next = c;
		c->refs++;
	} else {
		change_drain(c);
	}
}

/**
 * dmu_change_joins() - does an answer say what is under way already?
 * @c: the change of the block's remap; its bucket is locked
 * @m: the answer; names the same place
 */
bool dmu_change_joins(const struct dmu_change *c, const struct dmu_mapping *m)
{
	/* The next daemon may have lent the place meanwhile: nothing is safe. */
	if (c->state == DMU_CHANGE_ASK)
		return false;
	if (!(m->flags & DMU_COPY))
		return true;
	return c->m.flags & DMU_COPY && c->m.named == m->src &&
	       c->m.named_sector == m->src_sector;
}

/**
 * dmu_change_join() - let I/O share what is under way
 * @c: dmu_change_joins() the answer
 * @m: the answer
 * @peer: who gave it
 * @bios: waited for it; empty after this
 */
void dmu_change_join(struct dmu_change *c, const struct dmu_mapping *m,
		     struct dmu_peer *peer, struct bio_list *bios)
{
	bio_list_merge(&c->waiting, bios);
	bio_list_init(bios);
	if (m->flags & DMU_SYNC) {
		c->m.flags |= DMU_SYNC;
		dmu_change_own(c, peer, m->id);
		if (!bio_list_empty(&c->held))
			dmu_change_tell(c);
	} else {
		dmu_change_promise(c);
	}
	if (c->state == DMU_CHANGE_SYNC)
		change_serve(c, true);
	else if (c->state == DMU_CHANGE_FAILED &&
		 !bio_list_empty(&c->waiting))
		dmu_change_enter(c, DMU_CHANGE_QUEUED);
}

/*
 * It goes on without its remap, to make the copy that it owes. It stays in its
 * daemon's list: should that die, the next may give the place away, and a copy
 * that has not begun must not begin.
 */
static void change_detach(struct dmu_change *c)
{
	c->remap = NULL;
	spin_lock(&c->space->lock);
	dmu_change_unname(c);
	spin_unlock(&c->space->lock);
	c->m.flags &= ~DMU_SYNC;
	dmu_place_owe(c);
}

/**
 * dmu_change_supersede() - another answer takes the place of this one
 * @c: the change of the block's remap; its bucket is locked
 * @m: the other answer; may be told to copy from elsewhere
 * @bios: gets those that waited or were held
 *
 * What is still at the old place is mapped again when it comes back.
 *
 * Return: whether the caller is to have it enter GONE once the other has begun, which
 * may make its copy: until then whoever spoils that is to find it.
 */
bool dmu_change_supersede(struct dmu_change *c, struct dmu_mapping *m,
			  struct bio_list *bios)
{
	bio_list_merge(bios, &c->waiting);
	bio_list_init(&c->waiting);
	dmu_place_repeat(m, c);
	if (c->state == DMU_CHANGE_FAILED)
		dmu_place_inherit(m, c);
	if (change_pending(c)) {
		change_detach(c);
		return false;
	}
	bio_list_merge(bios, &c->held);
	bio_list_init(&c->held);
	c->remap = NULL;
	dmu_change_own(c, NULL, 0);
	if (c->state == DMU_CHANGE_FAILED || c->m.flags & DMU_INHERITS)
		return true;
	dmu_change_enter(c, DMU_CHANGE_GONE);
	return false;
}

/**
 * dmu_change_invalidate() - its remap is to be dropped, by the caller
 * @c: its bucket is locked
 *
 * A copy that it owes is still made; I/O that it holds waits for the ack.
 */
void dmu_change_invalidate(struct dmu_change *c)
{
	if (change_pending(c)) {
		change_detach(c);
		dmu_space_again_list(c->space, &c->waiting);
		return;
	}
	c->remap = NULL;
	if (c->state == DMU_CHANGE_SYNC)
		change_end_if_idle(c);
	else
		dmu_change_enter(c, DMU_CHANGE_GONE);
}

/**
 * dmu_change_forget() - give a change and its remap up; its I/O is mapped again
 * @c: its bucket is locked; no copy of it is under way
 */
void dmu_change_forget(struct dmu_change *c)
{
	struct dmu_remap *remap = c->remap;

	c->remap = NULL;
	if (remap) {
		trace_dmu_remap_invalidated(c->space, remap->block, 1,
					    dmu_remap_id(remap));
		dmu_remap_drop(c->space, c->bucket, remap, remap->block);
	}
	dmu_change_enter(c, DMU_CHANGE_GONE);
}

/**
 * dmu_change_give_up() - as dmu_change_forget(), where a copy cannot be made any more
 * @c: likewise
 *
 * Whoever relies on the copy hears of that, but where another mapping is to make it.
 */
void dmu_change_give_up(struct dmu_change *c)
{
	struct dmu_space *space = c->space;

	if (c->m.flags & DMU_COPY && !c->copied && !dmu_place_has_heir(c)) {
		DMERR_LIMIT("%s: copying block %llu is given up: no table has its devices any more",
			    space->key, c->m.block);
		this_cpu_inc(space->counters->errors);
		dmu_report(space, DMU_COPY_FAILED, c->m.block, c->m.id, -ENODEV);
	}
	dmu_change_forget(c);
}

/**
 * dmu_change_wait() - let a bio wait until a mapping is usable
 * @c: not in SYNC or ASK; its bucket is locked
 * @bio: belongs to the change from now on
 */
void dmu_change_wait(struct dmu_change *c, struct bio *bio)
{
	bio_list_add(&c->waiting, bio);
	if (c->state == DMU_CHANGE_FAILED)
		dmu_change_enter(c, DMU_CHANGE_QUEUED);
}

/* --- the copy, and I/O that comes back ------------------------------------------------------- */

/* Is there anything that I/O could find, and anyone who says that it is true? */
static bool can_try_again(const struct dmu_change *c)
{
	return c->remap && !(c->m.flags & DMU_NO_SOURCE) &&
	       (c->owner || !(c->m.flags & DMU_SYNC) ||
		c->m.flags & DMU_PROMISED);
}

/**
 * dmu_change_copied() - the copy is over, or the write that stood in for it
 * @c: in COPYING; its bucket is locked
 * @ok: the place holds what it should
 */
void dmu_change_copied(struct dmu_change *c, bool ok)
{
	if (ok) {
		change_settle(c);
		return;
	}
	if (can_try_again(c)) {
		dmu_change_enter(c, DMU_CHANGE_FAILED);
		return;
	}
	dmu_space_done_list(c->space, &c->waiting, BLK_STS_IOERR);
	if (c->m.flags & DMU_NO_SOURCE)
		dmu_change_give_up(c);
	else
		dmu_change_forget(c);
}

/* Hold a bio that has been at its device. */
static int change_hold(struct dmu_change *c, struct bio *bio)
{
	struct dmu_bio *pb = dmu_bio(bio);

	if (dmu_target_returns(pb->target))
		return DM_ENDIO_REQUEUE;
	if (c->state == DMU_CHANGE_ASK)
		change_ask_for(c, bio);
	else
		bio_list_add(&c->held, bio);
	return DM_ENDIO_INCOMPLETE;
}

/* A write of the whole block has come back, in place of a copy. */
static int change_stood_in(struct dmu_change *c, struct bio *bio,
			   blk_status_t error)
{
	/* The block has moved on while it was under way: it follows. */
	bool again = !c->remap && !(c->m.flags & DMU_TEMPORARY);
	int r = DM_ENDIO_DONE;

	if (again) {
		dmu_space_again(c->space, bio);
		r = DM_ENDIO_INCOMPLETE;
	} else if (!error && c->m.flags & DMU_SYNC) {
		r = change_hold(c, bio);
	}
	dmu_change_copied(c, !error);
	return r;
}

static int change_came_back(struct dmu_change *c, struct bio *bio,
			    blk_status_t error)
{
	int r = DM_ENDIO_DONE;

	switch (c->state) {
	case DMU_CHANGE_COPYING:
		return change_stood_in(c, bio, error);
	case DMU_CHANGE_GONE:
		dmu_space_again(c->space, bio);
		return DM_ENDIO_INCOMPLETE;
	case DMU_CHANGE_SYNC:
		if (!error)
			r = change_hold(c, bio);
		if (r == DM_ENDIO_INCOMPLETE) {
			dmu_change_tell(c);
		} else {
			if (!c->inflight)
				dmu_change_silent(c);
			change_end_if_idle(c);
		}
		return r;
	case DMU_CHANGE_ASK:
		return error ? r : change_hold(c, bio);
	default:
		return r;
	}
}

/**
 * dmu_change_endio() - I/O that its change wants to see has come back
 * @pb: of the bio; has left the flight
 * @bio: the bio
 * @error: how it went
 *
 * Context: any; interrupts may be off.
 * Return: DM_ENDIO_*
 */
int dmu_change_endio(struct dmu_bio *pb, struct bio *bio, blk_status_t error)
{
	struct dmu_change *c = pb->change;
	struct dmu_bucket *bucket = c->bucket;
	unsigned long irq;
	int r;

	spin_lock_irqsave(&bucket->lock, irq);
	pb->change = NULL;
	pb->came_back = true;
	c->inflight--;
	r = change_came_back(c, bio, error);
	dmu_change_put(c);
	spin_unlock_irqrestore(&bucket->lock, irq);
	return r;
}
