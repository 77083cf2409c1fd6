// SPDX-License-Identifier: GPL-2.0-only
/*
 * The tables of a key: which blocks and which devices they have between them, and so
 * whether what a daemon says can be true; and what becomes of it when one comes or
 * goes.
 */
#include "dm-user.h"

/* --- what goes with them --------------------------------------------------------- */

static bool device_used(struct dmu_space *space, dev_t devt)
{
	struct dmu_target *target;
	bool used = false;

	spin_lock_irq(&space->targets_lock);
	list_for_each_entry(target, &space->targets, node)
		used = used || dmu_target_bdev(target, devt);
	spin_unlock_irq(&space->targets_lock);
	return used;
}

/* It is to be asked for again. Context: space->answers, for writing. */
static void forget_block(struct dmu_space *space, u64 block)
{
	struct dmu_bucket *bucket = dmu_bucket_of(space, block);

	spin_lock_irq(&bucket->lock);
	dmu_unmap_and_ask(space, bucket, block);
	spin_unlock_irq(&bucket->lock);
}

static bool is_active(struct dmu_space *space, sector_t sector)
{
	struct dmu_target *target;

	lockdep_assert_held(&space->targets_lock);
	list_for_each_entry(target, &space->targets, node)
		if (target->active && sector >= target->ti->begin &&
		    sector - target->ti->begin < target->ti->len)
			return true;
	return false;
}

/**
 * dmu_tables_forget_end() - a line has gone, whose last block may have been short
 * @target: the line, listed no longer
 *
 * Nobody will know that when a longer table comes: see dmu_tables_activate().
 *
 * Context: space->answers, for writing.
 */
void dmu_tables_forget_end(struct dmu_target *target)
{
	struct dmu_space *space = target->space;
	sector_t mask = dmu_block_sectors(space) - 1;
	sector_t end = target->ti->begin + target->ti->len;
	bool kept;

	spin_lock_irq(&space->targets_lock);
	kept = is_active(space, end & ~mask);
	spin_unlock_irq(&space->targets_lock);
	if (end & mask && !kept)
		forget_block(space, end >> space->block_shift);
}

/*
 * Of the sectors from @from on, up to @to: where do those end that some line has, or
 * that none has? @*has says which.
 */
static sector_t next_edge(struct dmu_space *space, sector_t from, sector_t to,
			  bool *has)
{
	struct dmu_target *target;
	sector_t edge = to, end = from;

	lockdep_assert_held(&space->targets_lock);
	list_for_each_entry(target, &space->targets, node) {
		sector_t begin = target->ti->begin;

		if (begin <= from)
			end = max(end, begin + target->ti->len);
		else
			edge = min(edge, begin);
	}
	*has = end > from;
	return *has ? min(end, to) : edge;
}

/*
 * Blocks that no line has any more: a daemon cannot name them, to invalidate them,
 * and may use their places for others, before they come back.
 */
static void forget_uncovered(struct dmu_target *target)
{
	struct dmu_space *space = target->space;
	sector_t mask = dmu_block_sectors(space) - 1;
	sector_t from = target->ti->begin, to = from + target->ti->len, edge;
	bool has;

	for (; from < to; from = edge) {
		spin_lock_irq(&space->targets_lock);
		edge = next_edge(space, from, to, &has);
		spin_unlock_irq(&space->targets_lock);
		/* One that begins in a line is that line's. */
		if (!has && ((from + mask) & ~mask) < edge)
			dmu_remaps_forget(space,
					  (from + mask) >> space->block_shift,
					  (edge - 1) >> space->block_shift);
	}
}

/**
 * dmu_tables_forget_rest() - forget devices, and blocks, that no table has any more
 * @target: the line that had them, listed no longer
 *
 * Context: may sleep.
 */
void dmu_tables_forget_rest(struct dmu_target *target)
{
	struct dmu_space *space = target->space;
	unsigned int i;

	for (i = 0; i < target->nr_devices; i++)
		if (!device_used(space, target->devices[i].devt))
			dmu_remaps_purge(space, target->devices[i].devt);
	forget_uncovered(target);
	/* Some may have lost their remaps only now. */
	if (dmu_list_waits(&space->owing))
		dmu_changes_give_up(space);
}

/* --- what they have -------------------------------------------------------------- */

/* As dmu_tables_check_block(). Context: space->targets_lock, as all to check_copy(). */
static int check_block(struct dmu_space *space, u64 block, sector_t *len)
{
	sector_t start = block << space->block_shift;
	struct dmu_target *target;
	bool active = false;

	*len = 0;
	if (start >> space->block_shift != block)
		return -ERANGE;
	if (list_empty(&space->targets))
		return -ENODEV;
	list_for_each_entry(target, &space->targets, node) {
		sector_t begin = target->ti->begin;
		sector_t end = begin + target->ti->len;

		if (start < begin || start >= end || active > target->active)
			continue;
		/* One that was never resumed counts where there is no other. */
		if (target->active > active)
			*len = 0;
		active = target->active;
		*len = max(*len, min(dmu_block_sectors(space), end - start));
	}
	return *len ? 0 : -ERANGE;
}

/**
 * dmu_tables_check_block() - does any table of the key have this block?
 * @space: of the key
 * @block: of the mapped device
 * @len: gets its true length in sectors; the last block may be short
 *
 * Return: 0, -ERANGE, or -ENODEV where the last table is about to be gone.
 */
int dmu_tables_check_block(struct dmu_space *space, u64 block, sector_t *len)
{
	unsigned long irq;
	int r;

	spin_lock_irqsave(&space->targets_lock, irq);
	r = check_block(space, block, len);
	spin_unlock_irqrestore(&space->targets_lock, irq);
	return r;
}

/*
 * Where the short last block of another table is a longer one in this: the next
 * such end behind @end, or 0.
 */
static sector_t next_outgrown(struct dmu_target *target, sector_t end)
{
	struct dmu_space *space = target->space;
	sector_t mask = dmu_block_sectors(space) - 1;
	sector_t begin = target->ti->begin, found = 0;
	struct dmu_target *other;

	lockdep_assert_held(&space->targets_lock);
	list_for_each_entry(other, &space->targets, node) {
		sector_t short_end = other->ti->begin + other->ti->len;

		if (other != target && short_end & mask && short_end > end &&
		    (short_end & ~mask) >= begin &&
		    short_end < begin + target->ti->len &&
		    (!found || short_end < found))
			found = short_end;
	}
	return found;
}

/* Have all lines of its table been activated? */
static bool table_active(struct dmu_target *target)
{
	struct dmu_target *line;

	lockdep_assert_held(&target->space->targets_lock);
	list_for_each_entry(line, &target->space->targets, node)
		if (line->ti->table == target->ti->table && !line->active)
			return false;
	return true;
}

/* It was that device's table, and will be destroyed as soon as the new one is live. */
static bool is_replaced(const struct dmu_target *old,
			const struct dmu_target *target)
{
	return old->active && old->ti->table != target->ti->table &&
	       dm_table_get_md(old->ti->table) ==
	       dm_table_get_md(target->ti->table);
}

/* A line of the table that this one replaces, listed no longer; NULL: there is none. */
static struct dmu_target *unlist_replaced(struct dmu_target *target)
{
	struct dmu_space *space = target->space;
	struct dmu_target *old, *found = NULL;

	spin_lock_irq(&space->targets_lock);
	if (table_active(target)) {
		list_for_each_entry(old, &space->targets, node) {
			if (!is_replaced(old, target))
				continue;
			found = old;
			list_del_init(&old->node);
			break;
		}
	}
	spin_unlock_irq(&space->targets_lock);
	return found;
}

/*
 * What the table has that this one replaces is forgotten before I/O meets this one,
 * and not when it is destroyed, which is after that: a block's device may be missing
 * here. Its lines leave the list. Context: space->answers, for writing.
 */
static void retire_replaced(struct dmu_target *target)
{
	struct dmu_target *old;

	while ((old = unlist_replaced(target))) {
		dmu_tables_forget_end(old);
		dmu_tables_forget_rest(old);
	}
}

/**
 * dmu_tables_activate() - a table is about to be resumed, and counts from now on
 * @target: a line of it
 *
 * A block that was short until now may be mapped to a place where only that
 * much is its own, and copied as far only: it has to be asked for again. And the
 * table that it replaces counts no longer.
 *
 * Context: may sleep.
 */
void dmu_tables_activate(struct dmu_target *target)
{
	struct dmu_space *space = target->space;
	sector_t end = 0;

	/* No answer is half-way between its check and its effect. */
	down_write(&space->answers);
	spin_lock_irq(&space->targets_lock);
	target->active = true;
	while ((end = next_outgrown(target, end))) {
		spin_unlock_irq(&space->targets_lock);
		forget_block(space, end >> space->block_shift);
		spin_lock_irq(&space->targets_lock);
	}
	spin_unlock_irq(&space->targets_lock);
	retire_replaced(target);
	up_write(&space->answers);
}

static int check_place(struct dmu_space *space, dev_t devt, sector_t start,
		       sector_t len)
{
	struct block_device *bdev = NULL;
	struct dmu_target *target;
	sector_t size;

	list_for_each_entry(target, &space->targets, node) {
		bdev = dmu_target_bdev(target, devt);
		if (bdev)
			break;
	}
	if (!bdev)
		return -ENODEV;
	size = bdev_nr_sectors(bdev);
	if (start & ((bdev_logical_block_size(bdev) >> SECTOR_SHIFT) - 1))
		return -EINVAL;
	return start > size || len > size - start ? -ERANGE : 0;
}

/* Copies are made on the devices of one table. */
static bool can_copy(struct dmu_space *space, const struct dmu_mapping *m)
{
	struct dmu_target *target;

	list_for_each_entry(target, &space->targets, node)
		if (dmu_target_copies(target, m))
			return true;
	return false;
}

/**
 * dmu_tables_can_copy() - has any table of the key both devices of a copy?
 * @space: of the key
 * @m: the mapping
 *
 * Context: any. It need not be resumed.
 */
bool dmu_tables_can_copy(struct dmu_space *space, const struct dmu_mapping *m)
{
	unsigned long irq;
	bool can;

	spin_lock_irqsave(&space->targets_lock, irq);
	can = can_copy(space, m);
	spin_unlock_irqrestore(&space->targets_lock, irq);
	return can;
}

/* A place of zeroes, and a copy of zeroes, are on no device. */
static int check_copy(struct dmu_space *space, struct dmu_mapping *m,
		      sector_t len)
{
	int r = 0;

	if (m->src)
		r = check_place(space, m->src, m->src_sector, len);
	if (!r && !can_copy(space, m))
		r = -ENODEV;
	if (r || m->src != m->dst)
		return r;
	if (m->src_sector == m->dst_sector)
		m->flags &= ~DMU_COPY;
	else if (m->src_sector < m->dst_sector + len &&
		 m->dst_sector < m->src_sector + len)
		return -EINVAL;
	return 0;
}

static int check_mapping(struct dmu_space *space, struct dmu_mapping *m,
			 sector_t *len)
{
	int r = check_block(space, m->block, len);

	if (r)
		return r;
	if (!m->dst)
		return m->flags & (DMU_WR | DMU_COPY | DMU_SYNC) ? -EINVAL : 0;
	r = check_place(space, m->dst, m->dst_sector, *len);
	if (!r && m->flags & DMU_COPY)
		r = check_copy(space, m, *len);
	return r;
}

/**
 * dmu_tables_check() - can a mapping be true?
 * @space: of the key
 * @m: a daemon's answer; a copy of a place to itself is struck out
 * @len: gets the true length of the block, in sectors
 *
 * Return: 0; -ERANGE for a block or place outside its device; -ENODEV for a
 * device that no table of the key has, or a copy between two that no table has
 * both of, writable; -EINVAL for a place off the device's logical blocks, a copy
 * between places that overlap, or zeroes that are to be written to.
 */
int dmu_tables_check(struct dmu_space *space, struct dmu_mapping *m,
		     sector_t *len)
{
	unsigned long irq;
	int r;

	spin_lock_irqsave(&space->targets_lock, irq);
	r = check_mapping(space, m, len);
	spin_unlock_irqrestore(&space->targets_lock, irq);
	return r;
}

/* Has one line of a table all of these blocks? */
static bool line_has(struct dmu_space *space, u64 first, u64 last)
{
	sector_t start = first << space->block_shift;
	sector_t end = last << space->block_shift;
	struct dmu_target *target;

	list_for_each_entry(target, &space->targets, node)
		if (start >= target->ti->begin &&
		    end < target->ti->begin + target->ti->len)
			return true;
	return false;
}

/**
 * dmu_tables_check_run() - can the mappings of a run be true?
 * @space: of the key
 * @first: that of its first block; without a copy
 * @last: that of its last one
 *
 * What is between them is true then, too: a line that has both has it.
 *
 * Return: false where that has to be asked of each block.
 */
bool dmu_tables_check_run(struct dmu_space *space, struct dmu_mapping *first,
			  struct dmu_mapping *last)
{
	unsigned long irq;
	sector_t len;
	bool ok;

	spin_lock_irqsave(&space->targets_lock, irq);
	ok = !check_mapping(space, first, &len) &&
	     !check_mapping(space, last, &len) &&
	     line_has(space, first->block, last->block);
	spin_unlock_irqrestore(&space->targets_lock, irq);
	return ok;
}
