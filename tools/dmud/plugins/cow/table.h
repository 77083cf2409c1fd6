/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which place does a block live at? A hash from block to place.
 *
 * Whoever owns the places knows which block is at each of them, and has to:
 * it is what a metadata page says. So a slot of the hash keeps no block, only
 * the place and a few bits of the hash value, and is 8 bytes; a look-up asks
 * the owner (@block_at) to be sure.
 *
 * Memory: 10 to 16 bytes an entry once there are some 100,000, and 64 KiB in
 * any case. The table is cut into segments, each of which grows on its own, so
 * that no insertion ever has to move more than a 4096th of the entries.
 */
#ifndef COW_TABLE_H
#define COW_TABLE_H

#include <stddef.h>
#include <stdint.h>

#define COW_TABLE_SEGMENTS	4096u
#define COW_NO_PLACE		UINT64_MAX

/**
 * struct cow_segment - a part of the table, with open addressing
 * @slot: tag and place + 1, or 0 where free
 * @size: slots
 * @used: slots that are not free
 */
struct cow_segment {
	uint64_t *slot;
	uint32_t size;
	uint32_t used;
};

/**
 * struct cow_table - a hash from block to place; entries are never removed
 * @block_at: the block that lives at a place that was inserted
 * @owner: handed to @block_at
 * @seed: a secret, so that nobody can choose blocks that collide
 * @bytes: memory in use by the slots
 * @segment: by the top bits of the hash value
 */
struct cow_table {
	uint64_t (*block_at)(const void *owner, uint64_t place);
	const void *owner;
	uint64_t seed;
	size_t bytes;
	struct cow_segment segment[COW_TABLE_SEGMENTS];
};

void cow_table_init(struct cow_table *t,
		    uint64_t (*block_at)(const void *owner, uint64_t place),
		    const void *owner, uint64_t seed);
void cow_table_destroy(struct cow_table *t);
uint64_t cow_table_find(const struct cow_table *t, uint64_t block);
int cow_table_reserve(struct cow_table *t, uint64_t block);
void cow_table_insert(struct cow_table *t, uint64_t block, uint64_t place);

#endif /* COW_TABLE_H */
