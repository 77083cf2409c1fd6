// SPDX-License-Identifier: GPL-2.0-only
/*
 * The remap cache: where blocks live, found by block.
 *
 * A remap hashes to one of 256 buckets, which have a lock each, and within it
 * to a chain that look-ups walk under RCU. When the remaps of a bucket outgrow
 * its chains a work makes more, moving the remaps one by one: a lockless
 * reader that stands on one being moved goes on in another chain, and may miss
 * what it looks for, but finds nothing wrong, and a miss looks again under the
 * lock. What is mapped is fixed once it is published; see struct dmu_remap.
 *
 * Eight neighbours that say the same become one remap, eight of these another,
 * as in a buddy allocator; see dm-userspace-run.c. All that can become one is
 * in one bucket, and a look-up tries each size of which the bucket has any.
 */
#include "dm-userspace-chains.h"
#include "dm-userspace-trace.h"
#include <linux/module.h>
#include <linux/slab.h>

#define DMU_MIN_CHAIN_BITS 2
#define DMU_MAX_CHAIN_BITS 16

static unsigned int remap_reserve = 128;
module_param(remap_reserve, uint, 0644);
MODULE_PARM_DESC(remap_reserve,
		 "Remaps set aside for each key, for when no memory can be had");

static struct kmem_cache *remap_cache;

int __init dmu_remap_cache_init(void)
{
	int r = dmu_change_cache_init();

	if (r)
		return r;
	remap_cache = KMEM_CACHE(dmu_remap, 0);
	if (remap_cache)
		return 0;
	dmu_change_cache_exit();
	return -ENOMEM;
}

void dmu_remap_cache_exit(void)
{
	rcu_barrier(); /* remaps on their way back to a pool */
	kmem_cache_destroy(remap_cache);
	dmu_change_cache_exit();
}

/**
 * dmu_remap_find_run() - find a remap of a certain size for certain
 * @bucket: dmu_bucket_of() the block, locked
 * @block: of the mapped device
 * @run_bits: size of its run
 */
struct dmu_remap *dmu_remap_find_run(struct dmu_bucket *bucket, u64 block,
				     unsigned int run_bits)
{
	struct dmu_remap *remap;

	hlist_for_each_entry(remap, dmu_chain_of(dmu_chains_of(bucket), block, run_bits),
			     node)
		if (remap->run_bits == run_bits && dmu_remap_covers(remap, block))
			return remap;
	return NULL;
}

/**
 * dmu_remap_find() - find a block's remap for certain
 * @bucket: dmu_bucket_of() the block, locked
 * @block: of the mapped device
 */
struct dmu_remap *dmu_remap_find(struct dmu_bucket *bucket, u64 block)
{
	unsigned int sizes = bucket->sizes;
	struct dmu_remap *remap;

	while (sizes) {
		remap = dmu_remap_find_run(bucket, block,
					   dmu_next_size(&sizes));
		if (remap)
			return remap;
	}
	return NULL;
}

/**
 * dmu_remaps_known() - is there a remap of any of these blocks?
 * @bucket: of the blocks, locked
 * @block: the first; a multiple of their number
 * @run_bits: of their number
 */
bool dmu_remaps_known(struct dmu_bucket *bucket, u64 block,
		      unsigned int run_bits)
{
	unsigned int sizes = bucket->sizes;
	unsigned int bits, i;

	while (sizes) {
		bits = dmu_next_size(&sizes);
		/* Those of this size that lie in it, or the one that it lies in. */
		for (i = 0; i <= (bits < run_bits ? BIT(run_bits - bits) - 1 : 0);
		     i++)
			if (dmu_remap_find_run(bucket, block + ((u64)i << bits),
					       bits))
				return true;
	}
	return false;
}

/**
 * dmu_remap_spare() - memory for a remap that can be done without
 *
 * Context: any.
 * Return: it, or NULL.
 */
struct dmu_remap *dmu_remap_spare(void)
{
	return kmem_cache_alloc(remap_cache, GFP_NOWAIT | __GFP_NOWARN);
}

/**
 * dmu_remap_alloc() - memory for a remap
 * @space: of the key
 * @reserve: take from the reserve what the allocator does not give, and do not
 *	sleep; else sleep, and leave the reserve to those who need it
 *
 * Return: it, or NULL.
 */
struct dmu_remap *dmu_remap_alloc(struct dmu_space *space, bool reserve)
{
	return reserve ?
	       mempool_alloc(&space->remap_pool, GFP_NOWAIT | __GFP_NOWARN) :
	       kmem_cache_alloc(remap_cache, GFP_NOIO | __GFP_NORETRY);
}

/**
 * dmu_remap_free() - give back a remap that was never published
 * @space: it was allocated for
 * @remap: or NULL
 */
void dmu_remap_free(struct dmu_space *space, struct dmu_remap *remap)
{
	if (!remap)
		return;
	mempool_free(remap, &space->remap_pool);
	dmu_space_relieve(space);
}

/*
 * Lockless readers that stand on an unhashed remap look at node.next and at
 * what is mapped, but never at node.pprev: it can say whose the remap is.
 */
static struct dmu_space **space_of_unhashed(struct dmu_remap *remap)
{
	BUILD_BUG_ON(sizeof(remap->node.pprev) != sizeof(struct dmu_space *));
	return (struct dmu_space **)&remap->node.pprev;
}

static void remap_free_rcu(struct rcu_head *rcu)
{
	struct dmu_remap *remap = container_of(rcu, struct dmu_remap, rcu);
	struct dmu_space *space = *space_of_unhashed(remap);

	mempool_free(remap, &space->remap_pool);
	atomic_dec(&space->nr_leaving);
	dmu_space_relieve(space);
}

/* Of those that leave together: the next one, in the same place. */
static struct dmu_remap **next_unhashed(struct dmu_remap *remap)
{
	return (struct dmu_remap **)&remap->node.pprev;
}

static void remaps_free_rcu(struct rcu_head *rcu)
{
	struct dmu_remap *remap = container_of(rcu, struct dmu_remap, rcu);
	struct dmu_remap *next = *next_unhashed(remap);
	struct dmu_space *space = next->leaves;
	int nr = 0;

	for (; remap; remap = next, nr++) {
		next = *next_unhashed(remap);
		mempool_free(remap, &space->remap_pool);
	}
	atomic_sub(nr, &space->nr_leaving);
	dmu_space_relieve(space);
}

/* So many of a size are not found any more; some may be looking at them. */
static void count_unhashed(struct dmu_space *space, struct dmu_bucket *bucket,
			   unsigned int run_bits, unsigned int nr)
{
	unsigned int size = run_bits / DMU_RUN_BITS;

	lockdep_assert_held(&bucket->lock);
	WRITE_ONCE(bucket->nr_of[size], bucket->nr_of[size] - nr);
	if (!bucket->nr_of[size])
		WRITE_ONCE(bucket->sizes, bucket->sizes & ~BIT(size));
	atomic_long_sub(nr, &space->nr_remaps);
	atomic_add(nr, &space->nr_leaving);
}

/**
 * dmu_remaps_unhash() - remaps are not found any more
 * @space: of the key
 * @bucket: of their blocks, locked
 * @remaps: two or more, of one size; published, and freed once nobody looks at them
 * @nr: how many
 *
 * What they said still holds: others say the same.
 */
void dmu_remaps_unhash(struct dmu_space *space, struct dmu_bucket *bucket,
		       struct dmu_remap **remaps, unsigned int nr)
{
	struct dmu_remap *next = NULL;
	unsigned int i = nr;

	count_unhashed(space, bucket, remaps[0]->run_bits, nr);
	while (i--) {
		hlist_del_rcu(&remaps[i]->node);
		*next_unhashed(remaps[i]) = next;
		next = remaps[i];
	}
	/* The first one's place for it is taken. */
	remaps[1]->leaves = space;
	/* Who starves later waits for them, too. */
	call_rcu_hurry(&remaps[0]->rcu, remaps_free_rcu);
}

/* Nobody finds it any more; it is freed once nobody looks at it. */
static void unhash(struct dmu_space *space, struct dmu_bucket *bucket,
		   struct dmu_remap *remap)
{
	count_unhashed(space, bucket, remap->run_bits, 1);
	hlist_del_rcu(&remap->node);
	*space_of_unhashed(remap) = space;
	/* Who starves later waits for it, too. */
	call_rcu_hurry(&remap->rcu, remap_free_rcu);
}

/**
 * dmu_left_note() - note when a place of a block was last used
 * @space: of the key
 * @bucket: of the block, locked
 * @block: of the mapped device; no look-up finds the place any more
 * @writes: it may have been written to
 *
 * What used it counts in the epoch that is current now, or in an earlier one.
 */
void dmu_left_note(struct dmu_space *space, struct dmu_bucket *bucket,
		   u64 block, bool writes)
{
	u64 *left = dmu_left(bucket, block);

	left[READ] = dmu_flight_stamp(&space->flight[READ]);
	if (writes)
		left[WRITE] = dmu_flight_stamp(&space->flight[WRITE]);
}

/* One of @blocks ends here: whoever reuses its place waits for what used it. */
static void remap_leave(struct dmu_space *space, struct dmu_bucket *bucket,
			struct dmu_remap *remap, u64 block, u64 blocks)
{
	bool writes = remap->flags & (DMU_WR | DMU_WROTE);
	unsigned int i;

	unhash(space, bucket, remap);
	for (i = 0; i < min_t(u64, blocks, DMU_LEFT); i++)
		dmu_left_note(space, bucket, block + i, writes);
}

/**
 * dmu_remap_leave() - forget where all blocks of a remap live
 * @space: of the key
 * @bucket: of the blocks, locked
 * @remap: not to be used any more
 */
void dmu_remap_leave(struct dmu_space *space, struct dmu_bucket *bucket,
		     struct dmu_remap *remap)
{
	remap_leave(space, bucket, remap, remap->block,
		    1ULL << remap->run_bits);
}

/* It leaves, and what a run says of other blocks stays, as far as it can. */
static void remap_leave_one(struct dmu_space *space, struct dmu_bucket *bucket,
			    struct dmu_remap *remap, u64 block)
{
	if (!remap->run_bits || dmu_run_break(space, bucket, remap, block))
		remap_leave(space, bucket, remap, block, 1);
	else
		dmu_remap_leave(space, bucket, remap);
}

/**
 * dmu_remap_hash() - let look-ups find a remap
 * @space: of the key
 * @bucket: of the block, locked
 * @remap: filled in; belongs to the cache from now on
 */
void dmu_remap_hash(struct dmu_space *space, struct dmu_bucket *bucket,
		    struct dmu_remap *remap)
{
	unsigned int size = remap->run_bits / DMU_RUN_BITS;

	lockdep_assert_held(&bucket->lock);
	WRITE_ONCE(bucket->nr_of[size], bucket->nr_of[size] + 1);
	if (bucket->nr_of[size] == 1)
		WRITE_ONCE(bucket->sizes, bucket->sizes | BIT(size));
	atomic_long_inc(&space->nr_remaps);
	hlist_add_head_rcu(&remap->node,
			   dmu_chain_of(dmu_chains_of(bucket), remap->block,
					remap->run_bits));
}

/* Has a bucket too many remaps for so many chains? */
static bool is_crowded(const struct dmu_bucket *bucket, unsigned int bits)
{
	unsigned int i, nr = 0;

	for (i = 0; i < DMU_RUN_SIZES; i++)
		nr += READ_ONCE(bucket->nr_of[i]);
	return nr > 2U << bits && bits < DMU_MAX_CHAIN_BITS;
}

/* There are more than before: has the bucket, or the cache, become too full? */
static void remaps_more(struct dmu_space *space, struct dmu_bucket *bucket)
{
	unsigned long max = READ_ONCE(space->max_remaps);

	if (is_crowded(bucket, dmu_chain_bits(dmu_chains_of(bucket))) &&
	    !test_and_set_bit(bucket - space->buckets, space->crowded))
		queue_work(system_wq, &space->grow_work);
	if (unlikely(max && atomic_long_read(&space->nr_remaps) > max))
		dmu_space_kick(space);
}

/**
 * dmu_remap_publish() - let look-ups find a block's remap
 * @space: of the key
 * @bucket: of the block, locked
 * @remap: filled in; belongs to the cache from now on
 * @old: the present remap of the one block that it covers, which it replaces, or
 *	NULL
 */
void dmu_remap_publish(struct dmu_space *space, struct dmu_bucket *bucket,
		       struct dmu_remap *remap, struct dmu_remap *old)
{
	dmu_remap_hash(space, bucket, remap);
	if (old)
		remap_leave_one(space, bucket, old, remap->block);
	remaps_more(space, bucket);
}

/**
 * dmu_remap_drop() - forget where a block lives
 * @space: of the key
 * @bucket: of the block, locked
 * @remap: of the block; not to be used any more
 * @block: of the mapped device; where the rest of a run lives is kept
 */
void dmu_remap_drop(struct dmu_space *space, struct dmu_bucket *bucket,
		    struct dmu_remap *remap, u64 block)
{
	remap_leave_one(space, bucket, remap, block);
	remaps_more(space, bucket);
}

/**
 * dmu_remaps_blocks() - how many blocks are known
 * @space: of the key
 *
 * Context: any. Exact only while nothing changes.
 */
unsigned long dmu_remaps_blocks(struct dmu_space *space)
{
	unsigned long nr = 0;
	unsigned int i, size;

	for (i = 0; i < DMU_BUCKETS; i++)
		for (size = 0; size < DMU_RUN_SIZES; size++)
			nr += (unsigned long)READ_ONCE(space->buckets[i].nr_of[size])
			      << size * DMU_RUN_BITS;
	return nr;
}

static struct dmu_chains *chains_alloc(unsigned int bits, gfp_t gfp)
{
	struct hlist_head *heads;

	BUILD_BUG_ON((sizeof(*heads) << DMU_MIN_CHAIN_BITS) <= DMU_CHAIN_BITS_MASK);
	BUILD_BUG_ON(DMU_MAX_CHAIN_BITS > DMU_CHAIN_BITS_MASK);
	heads = kvcalloc(1UL << bits, sizeof(*heads), gfp);
	if (!heads)
		return NULL;
	WARN_ON_ONCE((unsigned long)heads & DMU_CHAIN_BITS_MASK);
	return (struct dmu_chains *)((unsigned long)heads | bits);
}

static void grow_bucket(struct dmu_space *space, unsigned int number)
{
	struct dmu_bucket *bucket = &space->buckets[number];
	struct dmu_chains *old, *new;
	struct hlist_node *next;
	struct dmu_remap *remap;
	unsigned int i, bits;

	clear_bit(number, space->crowded);
	/* As test_and_set_bit() is: those are seen whose bucket was marked already. */
	smp_mb__after_atomic();
	/* Only this work replaces chains. */
	old = rcu_dereference_raw(bucket->chains);
	bits = dmu_chain_bits(old);
	/* Many may have come at once, and no more may come to ask for more. */
	while (is_crowded(bucket, bits))
		bits++;
	if (bits == dmu_chain_bits(old))
		return;
	/* Without memory the chains stay long, until the next remap comes. */
	new = chains_alloc(bits, GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);
	if (!new)
		return;
	spin_lock_irq(&bucket->lock);
	for (i = 0; i < 1U << dmu_chain_bits(old); i++)
		hlist_for_each_entry_safe(remap, next, &dmu_chain_heads(old)[i], node) {
			hlist_del_rcu(&remap->node);
			hlist_add_head_rcu(&remap->node,
					   dmu_chain_of(new, remap->block, remap->run_bits));
		}
	rcu_assign_pointer(bucket->chains, new);
	spin_unlock_irq(&bucket->lock);
	kvfree_rcu_mightsleep(dmu_chain_heads(old));
}

/*
 * More chains for full buckets. No I/O waits for this, so it may wait for memory, which
 * vmalloc() does whatever it is told.
 */
static void grow_work(struct work_struct *work)
{
	struct dmu_space *space = container_of(work, struct dmu_space, grow_work);
	unsigned int first, bit;
	unsigned long crowded;

	for (first = 0; first < DMU_BUCKETS; first += BITS_PER_LONG) {
		crowded = READ_ONCE(space->crowded[BIT_WORD(first)]);
		for_each_set_bit(bit, &crowded, BITS_PER_LONG)
			grow_bucket(space, first + bit);
	}
}

static void buckets_free(struct dmu_space *space)
{
	unsigned int i;

	for (i = 0; i < DMU_BUCKETS; i++)
		kvfree(dmu_chain_heads(rcu_dereference_raw(space->buckets[i].chains)));
	kvfree(space->buckets);
}

static int buckets_alloc(struct dmu_space *space)
{
	struct dmu_chains *chains;
	unsigned int i;

	space->buckets = kvcalloc(DMU_BUCKETS, sizeof(*space->buckets),
				  GFP_KERNEL);
	if (!space->buckets)
		return -ENOMEM;
	for (i = 0; i < DMU_BUCKETS; i++) {
		spin_lock_init(&space->buckets[i].lock);
		chains = chains_alloc(DMU_MIN_CHAIN_BITS, GFP_KERNEL);
		if (!chains) {
			buckets_free(space);
			return -ENOMEM;
		}
		RCU_INIT_POINTER(space->buckets[i].chains, chains);
	}
	return 0;
}

/**
 * dmu_remaps_init() - make the buckets and the pools of a space
 * @space: of the key
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM, with nothing to undo.
 */
int dmu_remaps_init(struct dmu_space *space)
{
	int reserve = clamp(remap_reserve, 1U, 1U << 20);
	int r;

	INIT_WORK(&space->grow_work, grow_work);
	r = buckets_alloc(space);
	if (r)
		return r;
	r = mempool_init_slab_pool(&space->remap_pool, reserve, remap_cache);
	if (r)
		goto bad_remaps;
	r = dmu_changes_init(space, reserve);
	if (r)
		goto bad_changes;
	return 0;

bad_changes:
	mempool_exit(&space->remap_pool);
bad_remaps:
	buckets_free(space);
	return r;
}

static void bucket_empty(struct dmu_space *space, struct dmu_bucket *bucket)
{
	struct dmu_chains *chains = rcu_dereference_raw(bucket->chains);
	struct dmu_change *change;
	struct dmu_remap *remap;
	struct hlist_head *head;
	struct hlist_node *next;
	unsigned int i;

	for (head = bucket->changes; head < bucket->changes + DMU_HEADS; head++)
		hlist_for_each_entry_safe(change, next, head, node)
			mempool_free(change, &space->change_pool);
	for (i = 0; i < 1U << dmu_chain_bits(chains); i++) {
		hlist_for_each_entry_safe(remap, next, &dmu_chain_heads(chains)[i], node)
			mempool_free(remap, &space->remap_pool);
		cond_resched();
	}
}

/**
 * dmu_remaps_exit() - free all remaps and changes
 * @space: nobody uses it any more
 *
 * Context: may sleep.
 */
void dmu_remaps_exit(struct dmu_space *space)
{
	unsigned int i;

	cancel_work_sync(&space->grow_work);
	for (i = 0; i < DMU_BUCKETS; i++)
		bucket_empty(space, &space->buckets[i]);
	rcu_barrier(); /* remaps on their way back to the pool */
	dmu_changes_exit(space);
	mempool_exit(&space->remap_pool);
	buckets_free(space);
}
