// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory for changes.
 *
 * Each request sets a change aside, so that it can be answered whatever the answer
 * is, and most answers do not need it: it is kept for the next request, which costs
 * a tenth of what giving it back and getting another costs.
 */
#include "dm-user.h"
#include <linux/module.h>
#include <linux/slab.h>

/*
 * Of each key: as many as a daemon reads at a time. Fewer of them, and a sequence of
 * large I/O takes pages from the allocator, and gives them back, for each batch.
 */
#define DMU_MAX_SPARES BIT(DMU_MAX_RUN_BITS)

static unsigned int max_changes = 65536;
module_param(max_changes, uint, 0644);
MODULE_PARM_DESC(max_changes,
		 "Mappings of each key that wait or whose I/O is held; where there are more, none is taken that nobody asked for");

static struct kmem_cache *change_cache;

int __init dmu_change_cache_init(void)
{
	change_cache = KMEM_CACHE(dmu_change, 0);
	return change_cache ? 0 : -ENOMEM;
}

void dmu_change_cache_exit(void)
{
	kmem_cache_destroy(change_cache);
}

/**
 * dmu_changes_init() - make the pool of a space
 * @space: of the key
 * @reserve: how many to set aside for when no memory can be had
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM, with nothing to undo.
 */
int dmu_changes_init(struct dmu_space *space, int reserve)
{
	return mempool_init_slab_pool(&space->change_pool, reserve,
				      change_cache);
}

static struct dmu_change *spare_take(struct dmu_space *space)
{
	struct dmu_change *spare;
	unsigned long irq;

	if (!READ_ONCE(space->spares))
		return NULL;
	spin_lock_irqsave(&space->lock, irq);
	spare = space->spares;
	if (spare) {
		WRITE_ONCE(space->spares, spare->next);
		WRITE_ONCE(space->nr_spares, space->nr_spares - 1);
	}
	spin_unlock_irqrestore(&space->lock, irq);
	return spare;
}

/**
 * dmu_spares_drop() - give back what is kept, for memory is short
 * @space: of the key
 * @nr: so many at most
 *
 * Context: any.
 * Return: how many.
 */
unsigned long dmu_spares_drop(struct dmu_space *space, unsigned long nr)
{
	struct dmu_change *spare;
	unsigned long done;

	for (done = 0; done < nr; done++) {
		spare = spare_take(space);
		if (!spare)
			break;
		mempool_free(spare, &space->change_pool);
	}
	return done;
}

/**
 * dmu_changes_exit() - free the pool, and what was kept
 * @space: nobody uses it any more
 *
 * Context: may sleep.
 */
void dmu_changes_exit(struct dmu_space *space)
{
	dmu_spares_drop(space, ULONG_MAX);
	mempool_exit(&space->change_pool);
}

/**
 * dmu_change_alloc() - memory for a change
 * @space: of the key, not locked
 * @reserve: take from the reserve what the allocator does not give, and do not
 *	sleep; else sleep, leave the reserve to those who need it, and let the
 *	caller pay for it
 *
 * There are as many changes as there is I/O that waits, and at most so many that
 * nobody has asked for.
 *
 * Return: it, or NULL.
 */
struct dmu_change *dmu_change_alloc(struct dmu_space *space, bool reserve)
{
	struct dmu_change *spare;

	if (!reserve) {
		if (atomic_read(&space->nr_changes) >= READ_ONCE(max_changes))
			return NULL;
		return kmem_cache_alloc(change_cache, GFP_NOIO | __GFP_NORETRY |
					__GFP_ACCOUNT);
	}
	spare = spare_take(space);
	return spare ?: mempool_alloc(&space->change_pool,
				      GFP_NOWAIT | __GFP_NOWARN);
}

/**
 * dmu_change_free() - give back a change that is in no list
 * @space: it was allocated for
 * @change: or NULL
 *
 * Context: any.
 */
void dmu_change_free(struct dmu_space *space, struct dmu_change *change)
{
	if (!change)
		return;
	mempool_free(change, &space->change_pool);
	dmu_space_relieve(space);
}

/**
 * dmu_change_keep() - give back a change for which there will soon be a use
 * @space: it was allocated for; not locked
 * @change: or NULL; in no list
 *
 * Context: interrupts are off.
 */
void dmu_change_keep(struct dmu_space *space, struct dmu_change *change)
{
	if (!change)
		return;
	spin_lock(&space->lock);
	if (space->nr_spares < DMU_MAX_SPARES) {
		change->next = space->spares;
		WRITE_ONCE(space->spares, change);
		WRITE_ONCE(space->nr_spares, space->nr_spares + 1);
		change = NULL;
	}
	spin_unlock(&space->lock);
	if (change)
		mempool_free(change, &space->change_pool);
	dmu_space_relieve(space);
}
