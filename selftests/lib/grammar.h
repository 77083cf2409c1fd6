/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The grammar of what a daemon may send: which messages there are, and which of
 * them the kernel must refuse, as Documentation/protocol.rst says and without a
 * look at what the module does.
 */
#ifndef DMT_GRAMMAR_H
#define DMT_GRAMMAR_H

#include "dmt.h"

/* Sets of errors: a message with several faults may be refused for any. */
#define DMT_IS_EINVAL	1u
#define DMT_IS_ENODEV	2u
#define DMT_IS_ERANGE	4u
#define DMT_IS_EFAULT	8u
#define DMT_IS_ENOMEM	16u

#define DMT_NO_BLOCK	UINT64_MAX
#define DMT_MAX_DISKS	4
#define DMT_NO_DISK	(-1)	/* one that the table does not name */
#define DMT_NOWHERE	(-2)	/* zeroes, which are on no disk */

/**
 * struct dmt_world - what messages are about
 * @sectors: of the mapped device
 * @block: sectors of a block
 * @disk: devices of the table
 * @lbs: their logical blocks, in sectors
 * @nr_disks: how many
 * @stranger: a device that the table does not name
 * @runs: whoever speaks has asked for DMU_EXT_RUNS
 * @asked: is a request outstanding, of which block, and is it for writing?
 * @arg: for @asked
 */
struct dmt_world {
	uint64_t sectors;
	uint32_t block;
	const struct dmt_disk *disk[DMT_MAX_DISKS];
	uint32_t lbs[DMT_MAX_DISKS];
	unsigned int nr_disks;
	dev_t stranger;
	bool runs;
	bool (*asked)(void *arg, uint32_t id, uint64_t *block, bool *write);
	void *arg;
};

/* A part of a disk that a message names. */
struct dmt_place {
	unsigned int disk;
	uint64_t sector;
	uint64_t len;
};

/**
 * struct dmt_mapping - what a message says of one block
 * @block: of the mapped device
 * @id: of the request that it answers
 * @flags: DMU_FLAG_*
 * @dst: disk, or DMT_NO_DISK, or DMT_NOWHERE
 * @src: likewise; COPY_FIRST only
 * @to: sector of @dst
 * @from: sector of @src
 */
struct dmt_mapping {
	uint64_t block;
	uint32_t id;
	uint32_t flags;
	int dst;
	int src;
	__int128 to;
	__int128 from;
};

bool dmt_place_of(const struct dmt_world *world, const struct dmt_mapping *m,
		  struct dmt_place *place);
uint64_t dmt_nr_mappings(const struct dmt_msg *msg);
void dmt_mapping_at(const struct dmt_world *world, const struct dmt_msg *msg,
		    uint64_t i, struct dmt_mapping *m);
uint64_t dmt_block_len(const struct dmt_world *world, uint64_t block);
uint32_t dmt_judge(const struct dmt_world *world, const struct dmt_msg *msg);
uint64_t dmt_judge_mapped(const struct dmt_world *world,
			  const struct dmt_msg *msg);
uint32_t dmt_msg_len(const struct dmt_msg *msg);
uint64_t dmt_count_to_the_last(const struct dmt_world *world, uint64_t *random,
			       const struct dmu_msg_run_response *r);
void dmt_mutate(const struct dmt_world *world, uint64_t *random,
		struct dmt_msg *msg);
void dmt_msg_print(const char *what, const struct dmt_msg *msg);

#endif /* DMT_GRAMMAR_H */
