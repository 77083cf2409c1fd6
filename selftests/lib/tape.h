/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tapes: all that a daemon of several open files did to them, in its order, and what
 * it read there. A tape is written before the kernel is told, past all caches, so that
 * it has what the kernel died of; and another run can do the same again.
 */
#ifndef DMT_TAPE_H
#define DMT_TAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DMT_TAPE_DEVS	4u
#define DMT_TAPE_MAGIC	"dmutape1"

/**
 * struct dmt_tape_head - how a tape begins
 * @magic: DMT_TAPE_MAGIC
 * @seed: of the run
 * @dev: numbers that the devices of its table have
 */
struct dmt_tape_head {
	char magic[8];
	uint64_t seed;
	uint64_t dev[DMT_TAPE_DEVS];
};

enum dmt_tape_what { DMT_TAPE_WRITE, DMT_TAPE_READ, DMT_TAPE_CLOSE, DMT_TAPE_DROP };

/**
 * struct dmt_tape_note - what was done
 * @ms: when, since the beginning
 * @what: a write; a read; a file was closed, and opened anew; drop_idle
 * @peer: which file
 * @asked: bytes that the call was told of
 * @room: bytes of memory that it was given
 * @len: bytes that were written, as far as there is memory, or have been read; they
 *	follow
 */
struct dmt_tape_note {
	uint32_t ms;
	uint32_t what;
	uint32_t peer;
	uint32_t asked;
	uint32_t room;
	uint32_t len;
};

/**
 * struct dmt_tape - one that is being written
 * @fd: it, or -1
 * @path: where
 * @begun: when, in ms
 * @len: bytes that are not written yet
 * @bytes: these
 */
struct dmt_tape {
	int fd;
	char path[256];
	uint32_t begun;
	size_t len;
	uint8_t bytes[1 << 18];
};

uint32_t dmt_tape_clock(void);
void dmt_tape_start(struct dmt_tape *tape, const char *name,
		    const struct dmt_tape_head *head);
void dmt_tape_note(struct dmt_tape *tape, struct dmt_tape_note *note,
		   const void *bytes);
void dmt_tape_end(struct dmt_tape *tape, bool keep);

/* --- doing it again --------------------------------------------------------------- */

/**
 * struct dmt_player - does what a tape says
 * @name: of the mapped device
 * @fd: its open files, O_NONBLOCK
 * @nr_fds: how many
 * @dev: numbers of the devices of its table
 * @cliff: where memory ends
 * @done: notes
 * @sent: bytes
 * @taken: of these, that were accepted
 */
struct dmt_player {
	const char *name;
	int *fd[DMT_TAPE_DEVS];
	unsigned int nr_fds;
	uint64_t dev[DMT_TAPE_DEVS];
	uint8_t *cliff;
	uint64_t done;
	uint64_t sent;
	uint64_t taken;
};

void dmt_tape_head(const char *path, struct dmt_tape_head *head);
void dmt_tape_play(const char *path, struct dmt_player *player);

#endif /* DMT_TAPE_H */
