// SPDX-License-Identifier: GPL-2.0-only
/*
 * A hash from block to place: see table.h.
 *
 * A hash value of 64 bits is used three times: the top 12 bits choose the
 * segment, 32 in the middle the first slot to look at, and the lowest 20 are
 * kept in the slot as a tag, so that a wrong slot is asked about (a cache
 * miss in the owner's memory) once in a million times.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

#define PLACE_BITS	44
#define PLACE_MASK	((1ull << PLACE_BITS) - 1)
#define FIRST_SIZE	8u /* slots of a segment's first table */

static uint64_t hash(const struct cow_table *t, uint64_t block)
{
	uint64_t h = (block ^ t->seed) * 0x9e3779b97f4a7c15;

	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93;
	return h ^ h >> 32;
}

static size_t segment_of(uint64_t h)
{
	return h >> 52;
}

/* Sizes are no powers of two: scale instead of masking. */
static uint32_t first_slot(const struct cow_segment *s, uint64_t h)
{
	return (uint32_t)((h >> 20 & UINT32_MAX) * s->size >> 32);
}

static uint32_t next_slot(const struct cow_segment *s, uint32_t i)
{
	return i + 1 < s->size ? i + 1 : 0;
}

/**
 * cow_table_init() - an empty table
 * @t: the table
 * @block_at: the block that lives at a place
 * @owner: handed to it
 * @seed: random
 */
void cow_table_init(struct cow_table *t,
		    uint64_t (*block_at)(const void *owner, uint64_t place),
		    const void *owner, uint64_t seed)
{
	memset(t, 0, sizeof(*t));
	t->block_at = block_at;
	t->owner = owner;
	t->seed = seed;
}

/**
 * cow_table_destroy() - free what a table has taken
 * @t: the table; empty afterwards
 */
void cow_table_destroy(struct cow_table *t)
{
	unsigned int i;

	for (i = 0; i < COW_TABLE_SEGMENTS; i++)
		free(t->segment[i].slot);
	memset(t->segment, 0, sizeof(t->segment));
	t->bytes = 0;
}

/**
 * cow_table_find() - where does a block live?
 * @t: the table
 * @block: of the mapped device
 * Return: place or COW_NO_PLACE
 */
uint64_t cow_table_find(const struct cow_table *t, uint64_t block)
{
	uint64_t h = hash(t, block), place;
	const struct cow_segment *s = &t->segment[segment_of(h)];
	uint32_t i;

	if (!s->used)
		return COW_NO_PLACE;
	for (i = first_slot(s, h); s->slot[i]; i = next_slot(s, i)) {
		if ((s->slot[i] ^ h << PLACE_BITS) & ~PLACE_MASK)
			continue;
		place = (s->slot[i] & PLACE_MASK) - 1;
		if (t->block_at(t->owner, place) == block)
			return place;
	}
	return COW_NO_PLACE;
}

static void segment_put(struct cow_segment *s, uint64_t h, uint64_t place)
{
	uint32_t i = first_slot(s, h);

	while (s->slot[i])
		i = next_slot(s, i);
	s->slot[i] = h << PLACE_BITS | (place + 1);
	s->used++;
}

/* Half as large again: from 80 % full to 53 %. */
static int segment_grow(struct cow_table *t, struct cow_segment *s)
{
	struct cow_segment bigger = { .size = s->size + s->size / 2 };
	uint32_t i;

	if (!s->size)
		bigger.size = FIRST_SIZE;
	if (bigger.size < s->size)
		return -ENOMEM;
	bigger.slot = calloc(bigger.size, sizeof(*bigger.slot));
	if (!bigger.slot)
		return -ENOMEM;
	for (i = 0; i < s->size; i++) {
		uint64_t place = (s->slot[i] & PLACE_MASK) - 1;

		if (s->slot[i])
			segment_put(&bigger,
				    hash(t, t->block_at(t->owner, place)),
				    place);
	}
	t->bytes += (bigger.size - s->size) * sizeof(*s->slot);
	free(s->slot);
	*s = bigger;
	return 0;
}

/**
 * cow_table_reserve() - make sure that a block can be inserted
 * @t: the table
 * @block: to be inserted next
 *
 * Asks block_at() about places inserted earlier.
 *
 * Return: 0 or -ENOMEM
 */
int cow_table_reserve(struct cow_table *t, uint64_t block)
{
	struct cow_segment *s = &t->segment[segment_of(hash(t, block))];

	if (s->used + 1ull <= s->size * 4ull / 5)
		return 0;
	return segment_grow(t, s);
}

/**
 * cow_table_insert() - remember where a block lives
 * @t: the table
 * @block: not in it, and reserved
 * @place: less than 2^44 - 1
 */
void cow_table_insert(struct cow_table *t, uint64_t block, uint64_t place)
{
	uint64_t h = hash(t, block);

	segment_put(&t->segment[segment_of(h)], h, place);
}
