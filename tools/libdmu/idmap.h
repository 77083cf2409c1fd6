/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which block an id on the wire stands for. */
#ifndef DMUI_IDMAP_H
#define DMUI_IDMAP_H

#include <stddef.h>
#include <stdint.h>

/**
 * struct dmui_id - what is known of an id
 * @id: never 0; 0 marks a free slot
 * @state: whatever the map's owner wants to remember
 * @block: of the mapped device
 */
struct dmui_id {
	uint32_t id;
	uint32_t state;
	uint64_t block;
};

/**
 * struct dmui_idmap - a hash of ids: open addressing, at most half full
 * @slots: 1 << @bits of them
 * @bits: 1 to 31
 * @used: slots in use
 */
struct dmui_idmap {
	struct dmui_id *slots;
	unsigned int bits;
	size_t used;
};

int dmui_idmap_init(struct dmui_idmap *map, unsigned int bits);
void dmui_idmap_destroy(struct dmui_idmap *map);
struct dmui_id *dmui_idmap_find(const struct dmui_idmap *map, uint32_t id);
int dmui_idmap_put(struct dmui_idmap *map, uint32_t id, uint64_t block,
		   uint32_t state);
void dmui_idmap_del(struct dmui_idmap *map, uint32_t id);

#endif /* DMUI_IDMAP_H */
