/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A simulated store device with a volatile cache.
 *
 * While one is selected, every pwrite and fdatasync of the code under test goes to
 * it (ld --wrap), and every pread of its file. A write lands in the cache; a flush makes the
 * cache durable. A crash keeps, of what was not flushed, whatever a seed says:
 * each write whole, not at all, or torn at 512 bytes, in any order.
 */
#ifndef COW_TEST_SIM_H
#define COW_TEST_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_SECTOR	512u

struct sim_write {
	uint64_t offset;
	size_t len;
	uint8_t *data;
	bool metadata; /* by the code under test */
	bool lost; /* can be read, and will never be durable */
};

enum sim_event {
	SIM_WRITE,
	SIM_FLUSH,
};

/**
 * struct sim - a simulated store
 * @path: a file of the store's size, to be opened in its stead
 * @fd: the same, open
 * @bytes: size
 * @memfd: of @disk
 * @disk: what is durable
 * @private: @disk is a private copy of another's
 * @pending: what is in the cache, oldest first
 * @nr: of @pending
 * @room: of @pending
 * @writes: by the code under test
 * @flushes: by the code under test
 * @fail_writes: so many of the next writes fail, with a torn one left behind
 * @good_flushes: so many of the next flushes succeed all the same
 * @fail_flushes: so many of the next flushes fail, and lose some of the cache
 * @stays_readable: what they lose can be read until the power is cut, as from the
 *	pages of a file below a loop device
 * @bad_sector: bytes: a read that touches it fails, until it is written; 0: none
 * @bad_error: what with; 0: EIO
 * @dead: the daemon is dead: nothing it writes gets here
 * @event: called after a write has entered the cache, and before a flush
 * @ctx: for it
 */
struct sim {
	char path[64];
	int fd;
	uint64_t bytes;
	int memfd;
	uint8_t *disk;
	bool private;
	struct sim_write *pending;
	size_t nr;
	size_t room;
	uint64_t writes;
	uint64_t flushes;
	unsigned int fail_writes;
	unsigned int good_flushes;
	unsigned int fail_flushes;
	bool stays_readable;
	uint64_t bad_sector;
	int bad_error;
	bool dead;
	void (*event)(struct sim *s, enum sim_event what, void *ctx);
	void *ctx;
};

/* A small generator, so that every failure can be repeated by its seed. */
uint64_t rnd(uint64_t *state);
uint64_t rnd_below(uint64_t *state, uint64_t n);

struct sim *sim_new(uint64_t bytes);
struct sim *sim_crash(const struct sim *s, uint64_t seed);
void sim_adopt(struct sim *s);
void sim_free(struct sim *s);
void sim_grow(struct sim *s, uint64_t bytes);
struct sim *sim_select(struct sim *s);

void sim_kernel_write(struct sim *s, const void *buf, size_t len,
		      uint64_t offset);
void sim_read(const struct sim *s, void *buf, size_t len, uint64_t offset);
void sim_flush(struct sim *s);
uint8_t *sim_disk(struct sim *s, uint64_t offset);

#endif /* COW_TEST_SIM_H */
