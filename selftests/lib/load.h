/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Load with verification: a daemon that copies on write and keeps a book of what
 * is durable, and I/O whose every result is known beforehand.
 */
#ifndef DMT_LOAD_H
#define DMT_LOAD_H

#include "dmt.h"
#include "gate.h"

#define DMT_LOAD_BLOCKS 4096u
#define DMT_LOAD_REST 8u /* blocks of both disks behind these */
#define DMT_LOAD_SLOTS 24
#define DMT_NOWHERE 0xffffffffu

/**
 * struct dmt_book - what survives a daemon, as if on a disk
 * @place: where blocks live in the store; DMT_NOWHERE for those of the origin
 * @answers: given by all daemons
 * @commits: entries made by all daemons
 * @stop_at: where I/O to this block is held for SYNC its daemon stops; or DMT_NOWHERE
 * @held_at: the place that it had given to that block
 */
struct dmt_book {
	uint32_t place[DMT_LOAD_BLOCKS];
	uint32_t answers;
	uint32_t commits;
	uint32_t stop_at;
	uint32_t held_at;
};

/**
 * struct dmt_slot - one I/O at a time
 * @io: or NULL
 * @block: no other slot has it
 * @read: else it writes
 */
struct dmt_slot {
	struct dmt_io *io;
	uint32_t block;
	bool read;
};

/**
 * struct dmt_load_table - how a table differs from the one there is at first
 * @lines: it has so many, of one key, that share the blocks; 0 is one
 * @more: sectors behind the blocks of the load
 * @extra: a third device, or 0
 * @features: feature args, or NULL
 */
struct dmt_load_table {
	unsigned int lines;
	uint64_t more;
	dev_t extra;
	const char *features;
};

/**
 * struct dmt_load - a mapped device, a daemon, and I/O
 * @t: the device; a process of its own has the control device
 * @gate: before the origin, where there is one
 * @twin: another device of the same key, or an empty name
 * @twin_fd: it; half of the I/O goes there
 * @book: shared by all daemons
 * @slots: I/O
 * @seed: what each block holds: see dmt_block_reads()
 * @part: likewise
 * @busy: a slot has that block
 * @version: the latest
 * @done: I/Os that are over
 * @daemon: its process, or 0
 */
struct dmt_load {
	struct dmt t;
	struct dmt_gate gate;
	char twin[40];
	int twin_fd;
	struct dmt_book *book;
	struct dmt_slot slots[DMT_LOAD_SLOTS];
	int seed[DMT_LOAD_BLOCKS];
	int part[DMT_LOAD_BLOCKS];
	bool busy[DMT_LOAD_BLOCKS];
	int version;
	unsigned int done;
	pid_t daemon;
};

void dmt_load_setup(struct dmt_load *load);
void dmt_load_setup_gated(struct dmt_load *load);
void dmt_load_add_twin(struct dmt_load *load);
void dmt_load_teardown(struct dmt_load *load);
int dmt_load_table(const struct dmt_load *load, const char *name,
		   const struct dmt_load_table *table);
const char *dmt_load_features(const struct dmt_load_table *table);
bool dmt_load_has_table(const struct dmt_load *load, const char *name,
			const struct dmt_load_table *table);
void dmt_load_daemon(struct dmt_load *load, unsigned int seed);
bool dmt_load_kill(struct dmt_load *load);
void dmt_load_continue(const struct dmt_load *load);
bool dmt_load_run(struct dmt_load *load, unsigned int more);
bool dmt_load_hold_copy(struct dmt_load *load);
bool dmt_load_hold_for_sync(struct dmt_load *load);
bool dmt_load_finish(struct dmt_load *load);
bool dmt_load_stored(const struct dmt_load *load);
void dmt_load_bring_back(struct dmt_load *load);
bool dmt_load_rewind(struct dmt_load *load, unsigned int seed);

#endif /* DMT_LOAD_H */
