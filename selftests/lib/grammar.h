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

/**
 * struct dmt_world - what messages are about
 * @sectors: of the mapped device
 * @block: sectors of a block
 * @disk: devices of the table
 * @lbs: their logical blocks, in sectors
 * @nr_disks: how many
 * @stranger: a device that the table does not name
 * @asked: the block of a request that is outstanding; DMT_NO_BLOCK where no
 *	such id is
 * @arg: for @asked
 */
struct dmt_world {
	uint64_t sectors;
	uint32_t block;
	const struct dmt_disk *disk[DMT_MAX_DISKS];
	uint32_t lbs[DMT_MAX_DISKS];
	unsigned int nr_disks;
	dev_t stranger;
	uint64_t (*asked)(void *arg, uint32_t id);
	void *arg;
};

/* A part of a disk that a message names. */
struct dmt_place {
	unsigned int disk;
	uint64_t sector;
	uint64_t len;
};

bool dmt_place_of(const struct dmt_world *world,
		  const struct dmu_msg_map_response *r,
		  struct dmt_place *place);
uint64_t dmt_block_len(const struct dmt_world *world, uint64_t block);
uint32_t dmt_judge(const struct dmt_world *world, const struct dmt_msg *msg);
uint32_t dmt_msg_len(const struct dmt_msg *msg);
void dmt_mutate(const struct dmt_world *world, uint64_t *random,
		struct dmt_msg *msg);
void dmt_msg_print(const char *what, const struct dmt_msg *msg);

#endif /* DMT_GRAMMAR_H */
