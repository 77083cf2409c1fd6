/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Gates: dm-linear devices between the mapped device and its disks. A gate that
 * is shut holds the I/O that comes to it for as long as a test likes; one that
 * is broken fails it. Neither knows anything of dm-userspace.
 */
#ifndef DMT_GATE_H
#define DMT_GATE_H

#include "dmt.h"

/**
 * struct dmt_gate - a device in front of a disk
 * @name: of the device
 * @behind: number of the disk
 * @sectors: size of both
 */
struct dmt_gate {
	char name[64];
	dev_t behind;
	uint64_t sectors;
};

void dmt_gate_make(struct dmt_gate *gate, const char *name,
		   struct dmt_disk *disk);
void dmt_gate_remove(struct dmt_gate *gate);
void dmt_gate_shut(const struct dmt_gate *gate);
void dmt_gate_open(const struct dmt_gate *gate);
void dmt_gate_break(const struct dmt_gate *gate);
void dmt_gate_break_block(const struct dmt_gate *gate, uint64_t block);
void dmt_gate_break_writes(const struct dmt_gate *gate);
void dmt_gate_refuse_discards(const struct dmt_gate *gate);
bool dmt_gate_dust(const struct dmt_gate *gate);
void dmt_gate_delay(const struct dmt_gate *gate, unsigned int ms);
void dmt_gate_mend(const struct dmt_gate *gate);

/*
 * Writes of a part of a block: DMT_PART bytes, as far into the block. What a
 * block holds then is said by two versions: of the block, and of that part.
 */
#define DMT_PART	512u
#define DMT_NO_PART	(-1)

struct dmt_map dmt_cow(const struct dmt *t, uint64_t block, uint64_t place,
		       uint32_t flags);
struct dmt_map dmt_plain(const struct dmt_disk *disk, uint64_t block,
			 uint64_t place, uint32_t flags);
struct dmt_io *dmt_begin_read(const struct dmt *t, uint64_t block);
struct dmt_io *dmt_begin_write(const struct dmt *t, uint64_t block, int seed);
struct dmt_io *dmt_write_part(int fd, uint64_t block, int seed);
bool dmt_place_has(const struct dmt_disk *disk, uint64_t place, uint64_t block,
		   int seed, int part);
bool dmt_block_reads(int fd, uint64_t block, int seed, int part);
void dmt_place_fill(const struct dmt_disk *disk, uint64_t place,
		    uint64_t block, int seed);

bool dmt_counts(const char *name, enum dmt_counter which, uint64_t value);
bool dmt_settled(const struct dmt *t);
bool dmt_settled_within(const struct dmt *t);
void dmt_grace_period(void);

#define DMT_SCRATCH	(DMT_BLOCKS - 1) /* block that dmt_settled() asks for */

/**
 * struct dmt_gated - a mapped device whose disks have gates
 * @t: as in most tests; its disks are named by what is in front of them
 * @origin: gate of @t.origin
 * @store: gate of @t.store
 * @spare: a third disk, without a gate
 */
struct dmt_gated {
	struct dmt t;
	struct dmt_gate origin;
	struct dmt_gate store;
	struct dmt_disk spare;
};

void dmt_gated_setup(struct dmt_gated *g);
void dmt_gated_setup_sectors(struct dmt_gated *g, uint64_t sectors);
void dmt_gated_teardown(struct dmt_gated *g);
void dmt_gated_params(const struct dmt_gated *g, char *buf, size_t len);

#endif /* DMT_GATE_H */
