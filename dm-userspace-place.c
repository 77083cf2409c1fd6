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
 */
#include "dm-user.h"

/* --- who owes ------------------------------------------------------------------ */

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
	if (!dmu_list_waits(&c->owing)) {
		spin_lock(&space->lock);
		list_add(&c->owing, &space->owing);
		spin_unlock(&space->lock);
	}
	if (!dmu_tables_can_copy(space, &c->m)) {
		WRITE_ONCE(space->hopeless, true);
		dmu_space_kick(space);
	}
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
 * dmu_place_settle() - a copy was made, or will not be
 * @c: its bucket is locked
 */
void dmu_place_settle(struct dmu_change *c)
{
	struct dmu_space *space = c->space;
	struct dmu_change *barred, *next;

	/* It comes and goes under its own bucket's lock only. */
	if (!dmu_list_waits(&c->owing))
		return;
	spin_lock(&space->lock);
	list_del_init(&c->owing);
	list_for_each_entry_safe(barred, next, &space->barred, queue)
		if (concerns(c, &barred->m, barred->len))
			list_move_tail(&barred->queue, &space->drains);
	spin_unlock(&space->lock);
	dmu_space_kick(space);
}

/* --- who waits ----------------------------------------------------------------- */

/* Does one that is older than @age owe a copy to a place that @m has to do with? */
static bool owed(const struct dmu_space *space, const struct dmu_mapping *m,
		 sector_t len, u64 age)
{
	const struct dmu_change *c;

	lockdep_assert_held(&space->lock);
	list_for_each_entry(c, &space->owing, owing)
		if (c->age < age && concerns(c, m, len))
			return true;
	return false;
}

/**
 * dmu_place_owed() - is a copy owed to where a new mapping leads?
 * @space: of the key, not locked
 * @m: the mapping
 * @len: true length of the block, in sectors
 *
 * Context: interrupts are off.
 */
bool dmu_place_owed(struct dmu_space *space, const struct dmu_mapping *m,
		    sector_t len)
{
	bool is;

	if (!dmu_list_waits(&space->owing))
		return false;
	spin_lock(&space->lock);
	is = owed(space, m, len, U64_MAX);
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
	barred = owed(space, &c->m, c->len, c->age);
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
	m->flags |= DMU_COPY | (old->flags & DMU_NO_SOURCE);
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
	m->flags |= c->m.flags & DMU_NO_SOURCE;
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
		dmu_place_inherit(&heir->m, c);
		if (!heir->remap)
			dmu_place_owe(heir);
		if (same_place(&heir->m, &c->m))
			break;
	}
}
