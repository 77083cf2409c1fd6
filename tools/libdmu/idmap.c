// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Which block an id stands for. Every request passes through here twice, so
 * an entry is 16 bytes in an array and costs no allocation; the array doubles
 * when it is half full and never shrinks: what a daemon has needed once under
 * load it will need again, and then memory may be short.
 */
#include <errno.h>
#include <stdlib.h>

#include "idmap.h"

static size_t mask(const struct dmui_idmap *map)
{
	return ((size_t)1 << map->bits) - 1;
}

/* The slot an id would like: consecutive ids land far apart (Knuth). */
static size_t home(const struct dmui_idmap *map, uint32_t id)
{
	return (uint32_t)(id * 2654435761u) >> (32 - map->bits);
}

/* The slot that holds @id, or the free one where it would go. */
static struct dmui_id *slot(const struct dmui_idmap *map, uint32_t id)
{
	size_t i = home(map, id);

	while (map->slots[i].id && map->slots[i].id != id)
		i = (i + 1) & mask(map);
	return &map->slots[i];
}

/**
 * dmui_idmap_init() - make an empty map
 * @map: to be set up
 * @bits: log2 of the slots to begin with, 1 to 31
 *
 * Return: 0 or -ENOMEM. Undone by dmui_idmap_destroy().
 */
int dmui_idmap_init(struct dmui_idmap *map, unsigned int bits)
{
	map->bits = bits;
	map->used = 0;
	map->slots = calloc((size_t)1 << bits, sizeof(*map->slots));
	return map->slots ? 0 : -ENOMEM;
}

/**
 * dmui_idmap_destroy() - free a map's memory
 * @map: set up, or all zero
 */
void dmui_idmap_destroy(struct dmui_idmap *map)
{
	free(map->slots);
	map->slots = NULL;
}

static int grow(struct dmui_idmap *map)
{
	struct dmui_idmap bigger;
	size_t i;

	if (map->bits == 31 || dmui_idmap_init(&bigger, map->bits + 1))
		return -ENOMEM;
	for (i = 0; i <= mask(map); i++)
		if (map->slots[i].id)
			*slot(&bigger, map->slots[i].id) = map->slots[i];
	bigger.used = map->used;
	free(map->slots);
	*map = bigger;
	return 0;
}

/**
 * dmui_idmap_find() - look an id up
 * @map: where
 * @id: which; 0 is never found
 *
 * Return: the entry, good until the next put or del, or NULL.
 */
struct dmui_id *dmui_idmap_find(const struct dmui_idmap *map, uint32_t id)
{
	struct dmui_id *entry = slot(map, id);

	return id && entry->id ? entry : NULL;
}

/**
 * dmui_idmap_put() - remember an id, or change what is remembered of it
 * @map: where
 * @id: which; not 0
 * @block: it stands for
 * @state: of the caller's own
 *
 * Return: 0, or -ENOMEM where the map should have grown; it is as before then.
 */
int dmui_idmap_put(struct dmui_idmap *map, uint32_t id, uint64_t block,
		   uint32_t state)
{
	struct dmui_id *entry = slot(map, id);

	if (!entry->id) {
		if (map->used * 2 >= mask(map)) {
			if (grow(map))
				return -ENOMEM;
			entry = slot(map, id);
		}
		map->used++;
	}
	entry->id = id;
	entry->state = state;
	entry->block = block;
	return 0;
}

/**
 * dmui_idmap_del() - forget an id
 * @map: where
 * @id: which; may be unknown
 *
 * No tombstones: the entries behind the hole move up, so that a map as old as
 * its daemon is as fast as a new one.
 */
void dmui_idmap_del(struct dmui_idmap *map, uint32_t id)
{
	struct dmui_id *entry = dmui_idmap_find(map, id);
	size_t hole, i;

	if (!entry)
		return;
	hole = entry - map->slots;
	for (i = (hole + 1) & mask(map); map->slots[i].id;
	     i = (i + 1) & mask(map)) {
		size_t from_home = (i - home(map, map->slots[i].id)) & mask(map);

		/* It may move only where it is still at or behind its home. */
		if (from_home >= ((i - hole) & mask(map))) {
			map->slots[hole] = map->slots[i];
			hole = i;
		}
	}
	map->slots[hole].id = 0;
	map->used--;
}
