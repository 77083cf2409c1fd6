/* SPDX-License-Identifier: GPL-2.0-only */
/* The chains of a bucket, for those who walk all of them; a part of dm-user.h. */
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

#endif /* DM_USERSPACE_CHAINS_H */
