// SPDX-License-Identifier: GPL-2.0-only
/*
 * Remaps that are taken from the cache: because memory is short, or the administrator
 * allows no more; or because what they lead to, or come from, has gone.
 */
#include "dm-userspace-chains.h"
#include "dm-userspace-trace.h"

static void forget_whole(struct dmu_space *space, struct dmu_bucket *bucket,
			 struct dmu_remap *remap)
{
	trace_dmu_remap_invalidated(space, remap->block, 1U << remap->run_bits,
				    dmu_remap_id(remap));
	dmu_remap_leave(space, bucket, remap);
}

static void purge_bucket(struct dmu_space *space, struct dmu_bucket *bucket,
			 dev_t dev)
{
	struct dmu_chains *chains;
	struct hlist_node *next;
	struct dmu_remap *remap;
	unsigned int i;

	spin_lock_irq(&bucket->lock);
	chains = dmu_chains_of(bucket);
	for (i = 0; i < 1U << dmu_chain_bits(chains); i++)
		hlist_for_each_entry_safe(remap, next, &dmu_chain_heads(chains)[i], node)
			if (remap->dev == dev && remap->flags & DMU_READY)
				forget_whole(space, bucket, remap);
	spin_unlock_irq(&bucket->lock);
}

/**
 * dmu_remaps_purge() - forget all that lives on a device that has gone
 * @space: of the key
 * @dev: no table of the key names it any more
 *
 * Its number may come back with another device behind it.
 *
 * Context: may sleep.
 */
void dmu_remaps_purge(struct dmu_space *space, dev_t dev)
{
	unsigned int i;

	dmu_changes_purge(space, dev);
	for (i = 0; i < DMU_BUCKETS; i++) {
		purge_bucket(space, &space->buckets[i], dev);
		cond_resched();
	}
}

/*
 * May it be recycled? An idle remap is ready, and no daemon is asked about its
 * block: an answer which comes late must find the younger remap that it is not to
 * replace. Not, for once, one that was used since the hand last came by.
 */
static bool remap_idle(struct dmu_remap *remap, bool all)
{
	if (!(remap->flags & DMU_READY) || remap->asked)
		return false;
	if (!all && READ_ONCE(remap->recent)) {
		WRITE_ONCE(remap->recent, 0);
		return false;
	}
	return true;
}

/* A whole remap, or the blocks of it that go. */
static void forget_part(struct dmu_space *space, struct dmu_bucket *bucket,
			struct dmu_remap *remap, u64 first, u64 last)
{
	u64 block = max(first, remap->block);
	u64 end = remap->block + (1ULL << remap->run_bits) - 1;

	if (block == remap->block && end <= last && !remap->change) {
		forget_whole(space, bucket, remap);
		return;
	}
	for (; block <= min(last, end); block++)
		dmu_unmap_and_ask(space, bucket, block);
}

static void forget_in_bucket(struct dmu_space *space, struct dmu_bucket *bucket,
			     u64 first, u64 last)
{
	struct dmu_chains *chains;
	struct hlist_node *next;
	struct dmu_remap *remap;
	unsigned int i;

	spin_lock_irq(&bucket->lock);
	chains = dmu_chains_of(bucket);
	for (i = 0; i < 1U << dmu_chain_bits(chains); i++)
		hlist_for_each_entry_safe(remap, next, &dmu_chain_heads(chains)[i], node)
			if (remap->block <= last &&
			    remap->block + (1ULL << remap->run_bits) > first)
				forget_part(space, bucket, remap, first, last);
	spin_unlock_irq(&bucket->lock);
}

/**
 * dmu_remaps_forget() - forget where blocks live
 * @space: of the key
 * @first: of the mapped device
 * @last: likewise; that one, too
 *
 * What is under way for them is as after an invalidation.
 *
 * Context: may sleep.
 */
void dmu_remaps_forget(struct dmu_space *space, u64 first, u64 last)
{
	unsigned int i;

	for (i = 0; i < DMU_BUCKETS; i++) {
		forget_in_bucket(space, &space->buckets[i], first, last);
		cond_resched();
	}
}

static unsigned long recycle_bucket(struct dmu_space *space,
				    struct dmu_bucket *bucket,
				    unsigned long nr, bool all)
{
	struct dmu_chains *chains;
	struct hlist_node *next;
	struct dmu_remap *remap;
	unsigned long done = 0, blocks = 0;
	unsigned int i;

	spin_lock_irq(&bucket->lock);
	dmu_requests_mark(bucket, true);
	chains = dmu_chains_of(bucket);
	for (i = 0; i < 1U << dmu_chain_bits(chains) && done < nr; i++) {
		hlist_for_each_entry_safe(remap, next, &dmu_chain_heads(chains)[i], node) {
			if (!remap_idle(remap, all))
				continue;
			bucket->recycled = max(bucket->recycled, remap->stamp);
			trace_dmu_remap_evicted(space, remap->block,
						1U << remap->run_bits,
						dmu_remap_id(remap));
			blocks += 1UL << remap->run_bits;
			dmu_remap_leave(space, bucket, remap);
			if (++done == nr)
				break;
		}
	}
	dmu_requests_mark(bucket, false);
	spin_unlock_irq(&bucket->lock);
	this_cpu_add(space->counters->evictions, blocks);
	return done;
}

/* Where the clock hand comes by next. */
static unsigned long recycle_next(struct dmu_space *space, unsigned long nr)
{
	unsigned int i = (unsigned int)atomic_inc_return(&space->hand);

	return recycle_bucket(space, &space->buckets[i % DMU_BUCKETS], nr,
			      false);
}

/**
 * dmu_remaps_recycle() - take idle remaps, the least recently used ones first
 * @space: of the key
 * @nr: how many are wanted
 *
 * A clock hand goes round the buckets; a remap used since it last came by is
 * passed over once. They come back to the pool after an RCU grace period.
 *
 * Context: may sleep.
 * Return: how many were taken.
 */
unsigned long dmu_remaps_recycle(struct dmu_space *space, unsigned long nr)
{
	unsigned int turns = 2 * DMU_BUCKETS;
	unsigned long done = 0;

	while (turns-- && done < nr) {
		done += recycle_next(space, nr - done);
		cond_resched();
	}
	return done;
}

/**
 * dmu_remaps_drop_idle() - take all remaps that are idle
 * @space: of the key
 *
 * Context: may sleep.
 */
void dmu_remaps_drop_idle(struct dmu_space *space)
{
	unsigned int i;

	for (i = 0; i < DMU_BUCKETS; i++) {
		recycle_bucket(space, &space->buckets[i], ULONG_MAX, true);
		cond_resched();
	}
}

/* How many there are more than the administrator allows. */
static unsigned long remaps_too_many(struct dmu_space *space)
{
	unsigned long max = READ_ONCE(space->max_remaps);
	unsigned long nr = atomic_long_read(&space->nr_remaps);

	return max && nr > max ? nr - max : 0;
}

/**
 * dmu_remaps_trim() - recycle what is more than the administrator allows
 * @space: of the key
 * @wait: for whoever is at it; else leave it to that one
 *
 * Two at a time would each take what is too much.
 *
 * Context: may sleep.
 */
void dmu_remaps_trim(struct dmu_space *space, bool wait)
{
	unsigned int turns = 2 * DMU_BUCKETS;
	unsigned long nr;

	if (!remaps_too_many(space))
		return;
	if (wait)
		mutex_lock(&space->trimming);
	else if (!mutex_trylock(&space->trimming))
		return;
	while (turns-- && (nr = remaps_too_many(space))) {
		recycle_next(space, nr);
		cond_resched();
	}
	mutex_unlock(&space->trimming);
}

static unsigned long shrink_count(struct shrinker *shrinker,
				  struct shrink_control *sc)
{
	struct dmu_space *space = dmu_shrinker_data(shrinker);

	return atomic_long_read(&space->nr_remaps) +
	       READ_ONCE(space->nr_spares) ?: SHRINK_EMPTY;
}

static unsigned long shrink_scan(struct shrinker *shrinker,
				 struct shrink_control *sc)
{
	struct dmu_space *space = dmu_shrinker_data(shrinker);
	unsigned long nr = dmu_spares_drop(space, sc->nr_to_scan);

	if (nr < sc->nr_to_scan)
		nr += dmu_remaps_recycle(space, sc->nr_to_scan - nr);
	return nr ?: SHRINK_STOP;
}

/**
 * dmu_shrink_start() - give remaps back when memory is short
 * @space: of the key; all else of it has been made
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM.
 */
int dmu_shrink_start(struct dmu_space *space)
{
	return dmu_shrinker_start(&space->shrinker, space, shrink_count,
				  shrink_scan);
}

/**
 * dmu_shrink_stop() - no more; none is under way after this
 * @space: of the key
 *
 * Context: may sleep.
 */
void dmu_shrink_stop(struct dmu_space *space)
{
	dmu_shrinker_stop(&space->shrinker);
}
