// SPDX-License-Identifier: GPL-2.0-only
/*
 * Changes that lose their daemon, their table or their device.
 */
#include "dm-user.h"

/* The next daemon may rely on the copy: it is made, and then that one is asked. */
static bool is_promised(const struct dmu_change *c)
{
	return (c->m.flags & (DMU_COPY | DMU_PROMISED)) ==
	       (DMU_COPY | DMU_PROMISED) && !c->copied;
}

static void change_orphan(struct dmu_change *c)
{
	switch (c->state) {
	case DMU_CHANGE_DRAIN:
	case DMU_CHANGE_QUEUED:
	case DMU_CHANGE_FAILED:
		if (!is_promised(c))
			dmu_change_forget(c);
		break;
	case DMU_CHANGE_SYNC:
		if (c->remap && (c->inflight || !bio_list_empty(&c->held)))
			dmu_change_enter(c, DMU_CHANGE_ASK);
		else
			dmu_change_forget(c);
		break;
	default:
		/* A copy that has begun goes on, and then asks. */
		break;
	}
}

/**
 * dmu_changes_orphan() - a daemon died that owed acks
 * @peer: the daemon's; no answer is being applied (space->answers)
 *
 * Context: may sleep.
 */
void dmu_changes_orphan(struct dmu_peer *peer)
{
	struct dmu_space *space = peer->space;
	struct dmu_bucket *bucket;
	struct dmu_change *c;

	for (;;) {
		spin_lock_irq(&space->lock);
		c = list_first_entry_or_null(&peer->owed, struct dmu_change,
					     owed);
		if (!c) {
			spin_unlock_irq(&space->lock);
			return;
		}
		/* The list's reference is ours from now on. */
		list_del_init(&c->owed);
		dmu_change_unname(c);
		c->owner = NULL;
		bucket = c->bucket;
		spin_unlock_irq(&space->lock);

		spin_lock_irq(&bucket->lock);
		change_orphan(c);
		dmu_change_put(c);
		spin_unlock_irq(&bucket->lock);
		cond_resched();
	}
}

/**
 * dmu_changes_owe() - a daemon died: the next may use anew what is yet to be copied
 * @space: of the key; no answer is being applied (space->answers)
 *
 * Its metadata may say of any copy that it was made, and that its source is free.
 *
 * Context: may sleep.
 */
void dmu_changes_owe(struct dmu_space *space)
{
	struct hlist_head *head;
	struct dmu_change *c;
	unsigned int i;

	for (i = 0; i < DMU_BUCKETS && atomic_read(&space->nr_changes); i++) {
		struct dmu_bucket *bucket = &space->buckets[i];

		spin_lock_irq(&bucket->lock);
		for (head = bucket->changes; head < bucket->changes + DMU_HEADS; head++)
			hlist_for_each_entry(c, head, node)
				if (c->state <= DMU_CHANGE_COPYING)
					dmu_place_owe(c);
				else if (c->state == DMU_CHANGE_FAILED)
					dmu_place_watch(c);
		spin_unlock_irq(&bucket->lock);
		cond_resched();
	}
}

/* Does it come to nothing without the device? */
static bool needs_device(const struct dmu_change *c, dev_t dev)
{
	return c->m.dst == dev ||
	       (c->m.flags & DMU_COPY && !c->copied && c->m.src == dev);
}

/* I/O that is held for it keeps waiting for its ack. */
static bool lost_device(struct dmu_change *c, dev_t dev)
{
	switch (c->state) {
	case DMU_CHANGE_DRAIN:
	case DMU_CHANGE_QUEUED:
	case DMU_CHANGE_FAILED:
		return needs_device(c, dev);
	case DMU_CHANGE_COPYING:
		/* A write stands in, by a table that has the destination only. */
		if (c->m.src == dev)
			c->m.flags |= DMU_NO_SOURCE;
		return false;
	case DMU_CHANGE_SYNC:
		return c->remap && needs_device(c, dev);
	default:
		return false;
	}
}

/* There is no table, and no I/O: no copy is under way, and none will be. */
static bool lost_tables(struct dmu_change *c, dev_t none)
{
	return c->state <= DMU_CHANGE_QUEUED || c->state == DMU_CHANGE_FAILED ||
	       (c->state == DMU_CHANGE_SYNC && c->remap);
}

/*
 * Nobody waits for it by its block; but others do for its place, and for a verdict.
 * One that has a remap waits for such a table.
 */
static bool lost_hope(struct dmu_change *c, dev_t none)
{
	return c->state <= DMU_CHANGE_QUEUED && !c->remap &&
	       c->m.flags & DMU_COPY && !dmu_tables_can_copy(c->space, &c->m);
}

static struct dmu_change *first_lost(struct dmu_bucket *bucket,
				     bool (*lost)(struct dmu_change *c, dev_t dev),
				     dev_t dev)
{
	struct hlist_head *head;
	struct dmu_change *c;

	for (head = bucket->changes; head < bucket->changes + DMU_HEADS; head++)
		hlist_for_each_entry(c, head, node)
			if (lost(c, dev))
				return c;
	return NULL;
}

#define FORGET_AT_ONCE 32 /* then others may have the lock: each is looked for anew */

/*
 * Give up those that are lost, as many as may be at once. The bucket is locked; with
 * each that goes the lists may change at will. Returns whether none is left.
 */
static bool changes_forget(struct dmu_bucket *bucket,
			   bool (*lost)(struct dmu_change *c, dev_t dev),
			   dev_t dev)
{
	unsigned int max = FORGET_AT_ONCE;
	struct dmu_change *c;

	while ((c = first_lost(bucket, lost, dev))) {
		if (!max--)
			return false;
		dmu_change_give_up(c);
	}
	return true;
}

static void changes_forget_all(struct dmu_space *space,
			       bool (*lost)(struct dmu_change *c, dev_t dev),
			       dev_t dev)
{
	unsigned int i = 0;
	bool done;

	while (i < DMU_BUCKETS) {
		struct dmu_bucket *bucket = &space->buckets[i];

		spin_lock_irq(&bucket->lock);
		done = changes_forget(bucket, lost, dev);
		spin_unlock_irq(&bucket->lock);
		if (done)
			i++;
		cond_resched();
	}
}

/**
 * dmu_changes_purge() - give up what has to do with a device that has gone
 * @space: of the key
 * @dev: no table of the key names it, so that no copy on it is under way
 *
 * Context: may sleep.
 */
void dmu_changes_purge(struct dmu_space *space, dev_t dev)
{
	changes_forget_all(space, lost_device, dev);
}

/**
 * dmu_changes_end() - the last table has gone
 * @space: of the key
 *
 * Invalidations that wait for copies hold the space.
 *
 * Context: may sleep.
 */
void dmu_changes_end(struct dmu_space *space)
{
	changes_forget_all(space, lost_tables, 0);
}

/**
 * dmu_changes_give_up() - a table has gone: some copies may be nobody's any more
 * @space: of the key
 *
 * Context: may sleep.
 */
void dmu_changes_give_up(struct dmu_space *space)
{
	changes_forget_all(space, lost_hope, 0);
}

/**
 * dmu_changes_despair() - the worker's share: give up copies that no table can make
 * @space: of the key
 *
 * Of changes that have lost their remaps after such a table had gone.
 *
 * Context: the worker.
 */
void dmu_changes_despair(struct dmu_space *space)
{
	/* What is set after this is seen the next time. */
	if (READ_ONCE(space->hopeless) && xchg(&space->hopeless, false))
		dmu_changes_give_up(space);
}

/**
 * dmu_changes_return() - take back what waits or is held of a target
 * @bucket: locked
 * @target: of a noflush suspend
 * @bios: gets its bios
 */
void dmu_changes_return(struct dmu_bucket *bucket, struct dmu_target *target,
			struct bio_list *bios)
{
	struct hlist_head *head;
	struct dmu_change *c;

	lockdep_assert_held(&bucket->lock);
	for (head = bucket->changes; head < bucket->changes + DMU_HEADS; head++)
		hlist_for_each_entry(c, head, node) {
			dmu_bios_take(&c->waiting, target, bios);
			dmu_bios_take(&c->held, target, bios);
			/* News of what comes back later does not keep others waiting. */
			if (bio_list_empty(&c->waiting) && !c->inflight)
				dmu_change_silent(c);
		}
}
