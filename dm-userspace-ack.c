// SPDX-License-Identifier: GPL-2.0-only
/*
 * Acks: the daemon that has answered with SYNC, what it is told, and what it says.
 */
#include "dm-userspace-trace.h"

/* Is news of its held I/O to come soon? Context: space->lock. */
static void change_coming(struct dmu_change *c, bool coming)
{
	struct dmu_space *space = c->space;

	if (c->coming == coming)
		return;
	c->coming = coming;
	WRITE_ONCE(space->nr_coming, space->nr_coming + (coming ? 1 : -1));
}

/**
 * dmu_change_unname() - no ack names a change any more
 * @c: its space is locked
 */
void dmu_change_unname(struct dmu_change *c)
{
	lockdep_assert_held(&c->space->lock);
	list_del_init(&c->news);
	change_coming(c, false);
	if (c->id.id)
		c->space->nr_owed--;
	dmu_id_del(&c->id);
	c->told = false;
}

/**
 * dmu_change_own() - a daemon owes an ack
 * @c: its bucket is locked
 * @owner: will acknowledge it; NULL where nobody owes an ack any more
 * @id: by which it will
 */
void dmu_change_own(struct dmu_change *c, struct dmu_peer *owner, u32 id)
{
	struct dmu_space *space = c->space;

	spin_lock(&space->lock);
	dmu_change_unname(c);
	if (!list_empty(&c->owed)) {
		list_del_init(&c->owed);
		c->refs--; /* the change's own is left: never the last */
	}
	/* A daemon that is gone by now cannot acknowledge. */
	c->owner = owner && !owner->closed ? owner : NULL;
	if (c->owner) {
		list_add_tail(&c->owed, &owner->owed);
		c->refs++;
		dmu_id_add(space, &c->id, id);
		space->nr_owed++;
		change_coming(c, c->inflight || !bio_list_empty(&c->waiting));
	}
	spin_unlock(&space->lock);
}

/**
 * dmu_change_tell() - tell the daemon that I/O is held, unless it has been told
 * @c: its bucket is locked
 */
void dmu_change_tell(struct dmu_change *c)
{
	bool wake = false;

	if (c->told)
		return;
	spin_lock(&c->space->lock);
	c->told = true;
	change_coming(c, false);
	trace_dmu_sync_held(c->space, c->m.block, c->id.id);
	if (c->owner)
		wake = dmu_news_add(c);
	spin_unlock(&c->space->lock);
	if (wake)
		dmu_space_wake(c->space);
}

/**
 * dmu_change_silent() - there is nothing to tell: the I/O failed, or goes elsewhere
 * @c: its bucket is locked
 */
void dmu_change_silent(struct dmu_change *c)
{
	spin_lock(&c->space->lock);
	change_coming(c, false);
	spin_unlock(&c->space->lock);
}

/* The bucket of the change that a daemon names, or NULL. */
static struct dmu_bucket *bucket_of_id(struct dmu_space *space, u32 id,
				       struct dmu_change **c)
{
	struct dmu_bucket *bucket = NULL;
	struct dmu_id *found;
	unsigned long irq;

	spin_lock_irqsave(&space->lock, irq);
	found = id ? dmu_id_find(space, id) : NULL;
	if (found && found->kind == DMU_ID_CHANGE) {
		*c = container_of(found, struct dmu_change, id);
		bucket = (*c)->bucket;
	}
	spin_unlock_irqrestore(&space->lock, irq);
	return bucket;
}

/**
 * dmu_change_ack() - a daemon says that its metadata is safe
 * @space: of the key
 * @id: as it was told; may be known no longer
 *
 * Context: not under a lock.
 */
void dmu_change_ack(struct dmu_space *space, u32 id)
{
	struct dmu_bucket *bucket;
	struct dmu_change *c;

	bucket = bucket_of_id(space, id, &c);
	if (!bucket)
		return;
	spin_lock_irq(&bucket->lock);
	/* It may have gone, or come back for another block, meanwhile. */
	if (bucket_of_id(space, id, &c) == bucket) {
		if (c->state == DMU_CHANGE_SYNC) {
			dmu_change_enter(c, DMU_CHANGE_ACKED);
		} else {
			/* Said early: nothing need be held then. */
			dmu_change_own(c, NULL, 0);
			c->m.flags &= ~DMU_SYNC;
			dmu_change_promise(c);
		}
	}
	spin_unlock_irq(&bucket->lock);
}
