/* SPDX-License-Identifier: GPL-2.0-only */
/* What the parts of the cow policy know of a snapshot. */
#ifndef COW_COW_H
#define COW_COW_H

#include "book.h"
#include "policy.h"

enum {
	ORIGIN,
	STORE,
	NR_DEVICES,
};

enum format_choice {
	FORMAT_BLANK,
	FORMAT_NEVER,
	FORMAT_FOREIGN,
	FORMAT_DAMAGED,
};

enum origin_choice {
	ORIGIN_CHECK,
	ORIGIN_ACCEPT,
	ORIGIN_IGNORE,
};

/**
 * struct cow - a snapshot that is being served
 * @dmu: the connection
 * @log: dmud's
 * @book: which block is where
 * @blocks: of the mapped device that the store was made for
 * @dev: origin and store
 * @fd: the store
 * @format: which contents may be overwritten
 * @origin: what to do about an origin that is not as the store knows it
 * @path: the store's node, for messages
 * @allot_error: why the last write that needed a place got none, or 0; said
 *	in the log when it changes
 * @commit_error: why the last commit failed, or 0; likewise
 * @tried: a failing commit has been tried again in this batch
 * @said_broken: the log says that a flush has failed
 * @refused: writes that were failed
 * @next_read: the block that goes on where reads have got to, pushed ones included
 * @nr_read: how many lie before it, one after the other
 * @read_on: so it was in this batch
 * @left_out: a block among those that was not told: who asks for it is half-way
 *	through what was; 0 is none
 * @nr_held: used entries of @held
 * @held_room: all entries of it
 * @held: ids of SYNC reports that the next commit will acknowledge
 */
struct cow {
	struct dmu *dmu;
	void (*log)(int priority, const char *fmt, ...)
		__attribute__((format(printf, 2, 3)));
	struct cow_book book;
	uint64_t blocks;
	dev_t dev[NR_DEVICES];
	int fd;
	enum format_choice format;
	enum origin_choice origin;
	char path[256];
	int allot_error;
	int commit_error;
	bool tried;
	bool said_broken;
	uint64_t refused;
	uint64_t next_read;
	uint64_t nr_read;
	bool read_on;
	uint64_t left_out;
	size_t nr_held;
	size_t held_room;
	uint32_t *held;
};

int cow_attach(struct cow *c, struct dmud_env *env, char *const opts[]);
int cow_refuse_store(const struct cow *c, struct dmud_env *env,
		     const char *sentence, int ret);

#endif /* COW_COW_H */
