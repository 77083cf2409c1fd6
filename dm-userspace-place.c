// SPDX-License-Identifier: GPL-2.0-only
/*
 * Places that a copy is owed to.
 *
 * A change that was replaced or invalidated before its copy was made still makes
 * it, since the daemon believes the place copied. Until it has, nobody else may
 * live at that place, nor be copied from it. A daemon that lives knows that, and
 * invalidates the block first; but one may have died that had made the new place
 * durable, and to the next one the old place is free. So a mapping of another block
 * that leads there is barred: it waits in DRAIN for the older one's copy. So is one by
 * which that could be overwritten that is yet to be copied: after a death that may be
 * free, too, and all copies that are not made yet are owed then.
 *
 * Where such a copy is not made in the end, whoever relies on it copies from where
 * it would have come: a daemon that believes the block copied must not be
 * contradicted by wrong data.
 *
 * A copy that has failed is waited for by nobody: it may fail for ever. It is tried
 * again when there is I/O, and so may that be of which the daemon does not know that it
 * comes from where another had failed. These *yield*: another block may come to live
 * at their source, and then they are *spoilt*, and never made, nor is what inherits
 * from them.
 */
#include "dm-user.h"

/* --- who owes ------------------------------------------------------------------ */

/* Context: space->lock, and the bucket's. */
static void place_list(struct dmu_change *c, bool yields)
{
	if (list_empty(&c->owing)) {
		list_add(&c->owing, &c->space->owing);
		c->yields = yields;
	}
	c->yields &= yields;
	c->late = c->m.flags & DMU_INHERITS;
}

/* If it copies from where an older change of the block would, that may be spoilt. */
static void place_take_over(struct dmu_change *c)
{
	const struct dmu_change *old;

	hlist_for_each_entry(old, dmu_changes_of(c->bucket, c->m.block), node)
		if (old->m.block == c->m.block && old->m.src == c->m.src &&
		    old->m.src_sector == c->m.src_sector)
			c->spoilt |= old->spoilt;
}

/**
 * dmu_place_owe() - what has to do with the places of a change waits for its copy
 * @c: goes on without a remap, or without its daemon, to make its copy if it owes one;
 *	its bucket is locked
 *
 * Where no table can make it the worker gives it up: others wait for it.
 */
void dmu_place_owe(struct dmu_change *c)
{
	struct dmu_space *space = c->space;

	if (!(c->m.flags & DMU_COPY))
		return;
	spin_lock(&space->lock);
	place_list(c, false);
	spin_unlock(&space->lock);
	if (!dmu_tables_can_copy(space, &c->m)) {
		WRITE_ONCE(space->hopeless, true);
		dmu_space_kick(space);
	}
}

/**
 * dmu_place_watch() - note who spoils the source of a change, but let nobody wait
 * @c: its copy has failed, or it makes that of one that has; its bucket is locked
 */
void dmu_place_watch(struct dmu_change *c)
{
	/* Zeroes cannot be spoilt. */
	if (!(c->m.flags & DMU_COPY) || !c->m.src)
		return;
	spin_lock(&c->space->lock);
	place_list(c, true);
	if (c->late)
		place_take_over(c);
	spin_unlock(&c->space->lock);
}

/**
 * dmu_place_spoilt() - has another block come to live where a copy is to come from?
 * @c: its bucket is locked
 */
bool dmu_place_spoilt(const struct dmu_change *c)
{
	bool is;

	/* It comes and goes under its own bucket's lock only. */
	if (!dmu_list_waits(&c->owing))
		return false;
	spin_lock(&c->space->lock);
	is = c->spoilt;
	spin_unlock(&c->space->lock);
	return is;
}

static bool overlaps(const struct dmu_change *owing, dev_t dev, sector_t sector,
		     sector_t len)
{
	return owing->m.dst == dev && sector < owing->m.dst_sector + owing->len &&
	       owing->m.dst_sector < sector + len;
}

/*
 * Might a mapping overwrite what is yet to be copied? Also one that cannot be written
 * to: writes that have waited for it are served all the same.
 */
static bool spoils(const struct dmu_change *owing, const struct dmu_mapping *m,
		   sector_t len)
{
	/* Zeroes come from no device, and go to none. */
	return owing->m.src && owing->m.src == m->dst &&
	       m->dst_sector < owing->m.src_sector + owing->len &&
	       owing->m.src_sector < m->dst_sector + len;
}

/* Does it lead to where a copy is owed to, or copy from there? */
static bool concerns(const struct dmu_change *owing, const struct dmu_mapping *m,
		     sector_t len)
{
	return overlaps(owing, m->dst, m->dst_sector, len) ||
	       overlaps(owing, m->src, m->src_sector, len) ||
	       spoils(owing, m, len);
}

/**
 * dmu_place_settle() - a copy was made, or will not be, or not soon
 * @c: its bucket is locked
 */
void dmu_place_settle(struct dmu_change *c)
{
	struct dmu_space *space = c->space;
	struct dmu_change *barred, *next;

	if (!dmu_list_waits(&c->owing))
		return;
	spin_lock(&space->lock);
	/* Whoever repeats one that is not acknowledged would copy from there again. */
	if (c->state == DMU_CHANGE_FAILED ||
	    (c->late && (c->state == DMU_CHANGE_SYNC || c->state == DMU_CHANGE_ASK)))
		c->yields = true;
	else
		list_del_init(&c->owing);
	list_for_each_entry_safe(barred, next, &space->barred, queue)
		if (concerns(c, &barred->m, barred->len))
			list_move_tail(&barred->queue, &space->drains);
	spin_unlock(&space->lock);
	dmu_space_kick(space);
}

/* --- who waits ----------------------------------------------------------------- */

/* Will anything be written to the place of a mapping that @bios wait for, if any do? */
static bool writes_to(const struct dmu_mapping *m, const struct bio_list *bios)
{
	return m->flags & DMU_COPY ||
	       (m->flags & (DMU_WR | DMU_TEMPORARY)) == DMU_WR ||
	       (bios && dmu_bios_write(bios));
}

/* It is used from now on. Its own block's are not spoilt: it has waited for them. */
static void spoil(struct dmu_space *space, const struct dmu_mapping *m, sector_t len)
{
	struct dmu_change *c;

	list_for_each_entry(c, &space->owing, owing)
		if ((c->yields || c->late) && c->m.block != m->block &&
		    spoils(c, m, len))
			c->spoilt = true;
}

/* Does one that is older than @age owe a copy to a place that @m has to do with? */
static bool owed(struct dmu_space *space, const struct dmu_mapping *m,
		 sector_t len, u64 age, const struct bio_list *bios)
{
	bool may_spoil = false;
	struct dmu_change *c;

	lockdep_assert_held(&space->lock);
	list_for_each_entry(c, &space->owing, owing) {
		if (c->age < age && !c->yields && concerns(c, m, len))
			return true;
		may_spoil = may_spoil || c->yields || c->late;
	}
	if (may_spoil && writes_to(m, bios))
		spoil(space, m, len);
	return false;
}

/**
 * dmu_place_owed() - is a copy owed to where a new mapping leads?
 * @space: of the key, not locked
 * @m: the mapping
 * @len: true length of the block, in sectors
 * @bios: wait for it; NULL where nothing does
 *
 * Context: interrupts are off.
 * Return: false where it is used from now on.
 */
bool dmu_place_owed(struct dmu_space *space, const struct dmu_mapping *m,
		    sector_t len, const struct bio_list *bios)
{
	bool is;

	if (!dmu_list_waits(&space->owing))
		return false;
	spin_lock(&space->lock);
	is = owed(space, m, len, U64_MAX, bios);
	spin_unlock(&space->lock);
	return is;
}

/**
 * dmu_place_barred() - let a change wait where a copy is owed to its place
 * @c: in DRAIN, with nothing else to wait for; its bucket is locked
 *
 * The younger one waits for the older, so that no two wait for each other.
 *
 * Return: whether it has to wait; the worker comes back to it.
 */
bool dmu_place_barred(struct dmu_change *c)
{
	struct dmu_space *space = c->space;
	bool barred;

	if (!dmu_list_waits(&space->owing))
		return false;
	spin_lock(&space->lock);
	barred = owed(space, &c->m, c->len, c->age, &c->waiting);
	if (barred) {
		c->refs++;
		list_add_tail(&c->queue, &space->barred);
	}
	spin_unlock(&space->lock);
	return barred;
}

/* --- who takes over ------------------------------------------------------------ */

static bool same_place(const struct dmu_mapping *a, const struct dmu_mapping *b)
{
	return a->dst == b->dst && a->dst_sector == b->dst_sector;
}

/**
 * dmu_place_inherit() - a mapping may rely on a copy that was not made
 * @m: the mapping; may be told to copy from elsewhere
 * @failed: whose copy it is
 */
void dmu_place_inherit(struct dmu_mapping *m, const struct dmu_change *failed)
{
	const struct dmu_mapping *old = &failed->m;
	bool copies = m->flags & DMU_COPY;

	if (!(old->flags & DMU_COPY) || failed->copied)
		return;
	if (copies && (m->src != old->dst || m->src_sector != old->dst_sector))
		return;
	if (!copies && !same_place(m, old))
		return;
	if (!copies) {
		/* What was promised of the place is. */
		m->flags |= old->flags & DMU_PROMISED;
		m->named = old->named;
		m->named_sector = old->named_sector;
	}
	m->flags |= DMU_COPY | DMU_INHERITS | (old->flags & DMU_NO_SOURCE);
	m->src = old->src;
	m->src_sector = old->src_sector;
}

/**
 * dmu_place_repeat() - a daemon may repeat what was answered
 * @m: what it says now; copies from elsewhere, if that had to
 * @c: what it said before
 */
void dmu_place_repeat(struct dmu_mapping *m, const struct dmu_change *c)
{
	if (!(m->flags & c->m.flags & DMU_COPY) || m->src != c->m.named ||
	    m->src_sector != c->m.named_sector)
		return;
	/* There it is; it may be nowhere else any more. */
	if (c->m.flags & DMU_INHERITS && c->state == DMU_CHANGE_SYNC &&
	    same_place(m, &c->m))
		m->flags |= DMU_COPIED;
	m->flags |= c->m.flags & (DMU_INHERITS | DMU_NO_SOURCE);
	m->src = c->m.src;
	m->src_sector = c->m.src_sector;
}

/**
 * dmu_place_has_heir() - will another mapping of the block make its copy, or say that
 *	it cannot be made?
 * @c: will not make it; its bucket is locked
 */
bool dmu_place_has_heir(const struct dmu_change *c)
{
	const struct dmu_change *heir;

	for (heir = c->next; heir; heir = heir->next)
		if (same_place(&heir->m, &c->m))
			return true;
	return false;
}

/**
 * dmu_place_bequeath() - what a change owes passes to the first at its place
 * @c: will not make its copy, if it has not; its bucket is locked
 */
void dmu_place_bequeath(struct dmu_change *c)
{
	struct dmu_change *heir;

	if (!(c->m.flags & DMU_COPY) || c->copied)
		return;
	for (heir = c->next; heir; heir = heir->next) {
		/* It may be listed, and be looked at. */
		spin_lock(&c->space->lock);
		dmu_place_inherit(&heir->m, c);
		spin_unlock(&c->space->lock);
		if (heir->m.flags & DMU_INHERITS)
			dmu_place_watch(heir);
		if (!heir->remap)
			dmu_place_owe(heir);
		if (same_place(&heir->m, &c->m))
			break;
	}
}
