/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The chains of a bucket: for those who walk all of them, and for the path of hits,
 * into which the look-up is compiled. A part of dm-user.h.
 */
#ifndef DM_USERSPACE_CHAINS_H
#define DM_USERSPACE_CHAINS_H

#include "dm-user.h"

#define DMU_CHAIN_BITS_MASK 31UL /* kmalloc() aligns the smallest array to that */

static inline unsigned int dmu_chain_bits(const struct dmu_chains *chains)
{
	return (unsigned long)chains & DMU_CHAIN_BITS_MASK;
}

static inline struct hlist_head *dmu_chain_heads(const struct dmu_chains *chains)
{
	return (struct hlist_head *)((unsigned long)chains & ~DMU_CHAIN_BITS_MASK);
}

static inline struct dmu_chains *dmu_chains_of(struct dmu_bucket *bucket)
{
	return rcu_dereference_protected(bucket->chains,
					 lockdep_is_held(&bucket->lock));
}

/*
 * Not the highest bits of the hash, which the blocks of a bucket share, nor those
 * much below, in which blocks of even distances are alike: with 32 in place of
 * DMU_CHAIN_HASH_BITS, every 16th block finds itself in one of two chains.
 */
#define DMU_CHAIN_HASH_BITS 23

static inline struct hlist_head *dmu_chain_of(const struct dmu_chains *chains,
					      u64 block, unsigned int run_bits)
{
	u32 hash = hash_64(block >> run_bits, DMU_CHAIN_HASH_BITS);

	return &dmu_chain_heads(chains)[hash &
					((1U << dmu_chain_bits(chains)) - 1)];
}

static inline bool dmu_remap_covers(const struct dmu_remap *remap, u64 block)
{
	return !((remap->block ^ block) >> remap->run_bits);
}

/*
 * Of the sizes that are left, the largest: that is where most blocks are, if there
 * is one. Returns its logarithm.
 */
static inline unsigned int dmu_next_size(unsigned int *sizes)
{
	unsigned int size = __fls(*sizes);

	*sizes ^= 1U << size;
	return size * DMU_RUN_BITS;
}

/**
 * dmu_remap_lookup() - find a block's remap without a lock
 * @space: of the key
 * @block: of the mapped device
 *
 * May miss a remap that is being moved to another chain, or made part of a run,
 * or of which a run is being broken up: a caller that finds nothing, or nothing
 * ready, looks again under the bucket lock.
 *
 * Context: inside an RCU read section, for as long as the result is used.
 */
static __always_inline struct dmu_remap *dmu_remap_lookup(struct dmu_space *space,
							  u64 block)
{
	struct dmu_bucket *bucket = dmu_bucket_of(space, block);
	unsigned int sizes = READ_ONCE(bucket->sizes);
	struct dmu_chains *chains = rcu_dereference(bucket->chains);
	struct dmu_remap *remap;

	while (sizes) {
		unsigned int run_bits = dmu_next_size(&sizes);

		hlist_for_each_entry_rcu(remap,
					 dmu_chain_of(chains, block, run_bits),
					 node)
			if (dmu_remap_covers(remap, block))
				return remap;
	}
	return NULL;
}

#endif /* DM_USERSPACE_CHAINS_H */
