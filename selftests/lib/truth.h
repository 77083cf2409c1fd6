/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the blocks of the fuzzer's device live, and what a truthful daemon can say
 * of that. See fuzz.c for the forms of truth.
 */
#ifndef DMT_TRUTH_H
#define DMT_TRUTH_H

#include "model.h"

#define RW		(DMU_FLAG_RD | DMU_FLAG_WR)
#define RO		DMU_FLAG_RD
#define COPY		DMU_FLAG_COPY_FIRST
#define SYNC		DMU_FLAG_SYNC

/* Sectors of each disk: places of blocks, each at its own number ... */
#define DMT_GAP		64u	/* that nobody names */
/* ... on the store those that blocks come to and leave ... */
#define DMT_POOL	(DMT_TRUE * DMT_SECTORS + DMT_GAP)
#define DMT_STRIDE	(DMT_SECTORS + 2)
/* ... and those that are nobody's. */
#define DMT_WILD_AT	(DMT_POOL + DMT_NR_PLACES * DMT_STRIDE + DMT_GAP)
#define DMT_WILD_SECTORS 1024u

/* A number less than @limit, which is not 0. */
static inline uint32_t below(struct dmt_model *m, uint32_t limit)
{
	return dmt_below(&m->random, limit);
}

/* True once in so many times. */
static inline bool once_in(struct dmt_model *m, uint32_t times)
{
	return !below(m, times);
}

void dmt_truth_settle(struct dmt_model *m);
bool dmt_truth_holds(struct dmt_model *m, uint32_t block);
bool dmt_truth_home(struct dmt_model *m, unsigned int disk, uint64_t sector);

void dmt_answer_origin(struct dmt_model *m, struct dmt_mapping *r);
bool dmt_answer_swap(struct dmt_model *m, struct dmt_mapping *r);
bool dmt_answer_truly(struct dmt_model *m, struct dmt_mapping *r, bool write);
bool dmt_is_true(struct dmt_model *m, const struct dmt_mapping *r);

#endif /* DMT_TRUTH_H */
