/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a daemon with several open files knows of a device that it maps
 * truthfully, and what the kernel may tell it. See fuzz.c for the forms of
 * truth.
 */
#ifndef DMT_MODEL_H
#define DMT_MODEL_H

#include "dmt.h"
#include "grammar.h"
#include "traffic.h"

#define DMT_PEERS	3
#define DMT_QUIET	512u	/* blocks, from 0 on, that hardly any I/O goes to */
#define DMT_TRUE	(DMT_QUIET + 168u) /* that are mapped truthfully */
#define DMT_WILD	25u	/* blocks behind them that are not; I/O goes there, too */
#define DMT_CALM	76u	/* the last blocks, to which none goes; nor to those before */
#define DMT_NR_BLOCKS	(2 * DMT_QUIET + DMT_CALM)
#define DMT_NR_PLACES	45u	/* for COW and MOVE blocks, and one more */
#define DMT_MAX_COPIES	3u	/* of a block, until its verdict has come */

enum dmt_truth { DMT_PLAIN, DMT_COW, DMT_MOVE, DMT_PING, DMT_THIN, DMT_NO_TRUTH };

#define DMT_NAMED	1u /* a message has named this sector */
#define DMT_FREE_FOR_ALL 2u /* it may be anybody's */

enum { DMT_ORIGIN_DISK, DMT_STORE_DISK, DMT_SPARE_DISK, DMT_NR_DISKS };

/* COW and THIN: where it lives. */
enum dmt_stage { DMT_AT_ORIGIN, DMT_ON_ITS_WAY, DMT_AT_STORE };

/**
 * struct dmt_known - what is known of a block
 * @truth: its form
 * @stage: COW and THIN
 * @syncers: likewise: files that have answered with SYNC, and are still open
 * @sector: MOVE and THIN, and COW that is not at its origin: of the store
 * @spare: PING: it is on the spare disk, else on the store
 * @generation: answers of an earlier one must not be given (again)
 * @cycle: COW and THIN: how often it was brought back
 * @answered: the highest id that was answered
 * @leaving: it is not mapped until the verdict of this invalidation, or of a
 *	later one, has come, and it has been carried; or 0
 * @copies: that may not be over yet
 * @copied: number of the last invalidation before the last of them
 * @fails: requests for it that were failed
 * @failing: one is being failed
 */
struct dmt_known {
	enum dmt_truth truth;
	enum dmt_stage stage;
	unsigned int syncers;
	uint64_t sector;
	bool spare;
	uint32_t generation;
	uint32_t cycle;
	uint32_t answered;
	uint32_t leaving;
	unsigned int copies;
	uint32_t copied;
	_Atomic uint64_t fails;
	atomic_bool failing;
};

/**
 * struct dmt_asked - an outstanding request
 * @id: of it
 * @block: likewise
 * @write: RD|WR, else RD
 * @peer: who has read it; negative where it is unread again
 * @generation: of the block when it was read, if that was on the origin then
 * @early: it was
 */
struct dmt_asked {
	uint32_t id;
	uint64_t block;
	bool write;
	int peer;
	uint32_t generation;
	bool early;
};

/**
 * struct dmt_name - an id that was given in an answer with SYNC
 * @id: not acknowledged
 * @block: that was mapped
 * @peer: who did
 * @cycle: of the block
 * @told: the daemon was told that I/O is held
 */
struct dmt_name {
	uint32_t id;
	uint64_t block;
	int peer;
	uint32_t cycle;
	bool told;
};

/**
 * struct dmt_verdict - an invalidation whose STATUS is to come
 * @id: of it
 * @block: likewise
 * @peer: who will be told
 * @number: of all invalidations
 */
struct dmt_verdict {
	uint32_t id;
	uint64_t block;
	int peer;
	uint32_t number;
};

#define DMT_MAX_ASKED	1024u
#define DMT_MAX_NAMES	4096u
#define DMT_MAX_VERDICTS 512u
#define DMT_MAX_ECHOS 512u
#define DMT_MAX_PAST	256u
#define DMT_MAX_JOURNAL	16384u

/* An answer that was accepted, and may be given again. */
struct dmt_past {
	struct dmt_msg msg;
	uint32_t id;
	uint64_t generation;
};

/* An answer to GET_VERSION, or to EXTENSIONS, that is to come. */
struct dmt_echo {
	uint32_t type;
	uint32_t id;
	uint64_t value;
};

/**
 * struct dmt_peer - an open control device
 * @fd: O_NONBLOCK
 * @echos: what it will be answered, oldest first
 * @first: in @echos, a ring
 * @nr: likewise
 * @bits: extensions that it has asked for
 */
struct dmt_peer {
	int fd;
	struct dmt_echo echos[DMT_MAX_ECHOS];
	unsigned int first;
	unsigned int nr;
	uint64_t bits;
};

/* What was said, for those who want to know how it came to that. */
struct dmt_entry {
	uint64_t number;
	uint64_t block;
	int peer;
	bool sent;
	struct dmt_msg msg;
};

/**
 * struct dmt_model - all of it
 * @world: what messages are about
 * @disk: origin, store, spare
 * @named: for each sector of them, DMT_NAMED and DMT_FREE_FOR_ALL
 * @blocks: what is known
 * @free: sectors of the store where blocks can go; the last is taken first
 * @nr_free: in @free
 * @lent: likewise, but a daemon that died had given them to blocks: who makes
 *	the kernel copy there will find that it has waited for what was under way
 * @nr_lent: in @lent
 * @asked: outstanding requests
 * @nr_asked: of them
 * @names: unacknowledged ids
 * @nr_names: of them
 * @verdicts: that are to come
 * @nr_verdicts: of them
 * @invalidations: ever
 * @highest: id of a request ever
 * @past: answers
 * @nr_past: ever; a ring
 * @peers: open files
 * @journal: a ring
 * @nr_journal: entries ever made
 * @blame: the block that something was said about that must not be said
 * @failing: there are blocks with a request that is being failed
 * @traffic: what blocks hold
 * @random: state of the numbers that decide what is said
 */
struct dmt_model {
	struct dmt_world world;
	struct dmt_disk disk[DMT_NR_DISKS];
	uint8_t *named[DMT_NR_DISKS];
	struct dmt_known blocks[DMT_NR_BLOCKS];
	uint64_t free[DMT_NR_PLACES];
	unsigned int nr_free;
	uint64_t lent[DMT_NR_PLACES];
	unsigned int nr_lent;
	struct dmt_asked asked[DMT_MAX_ASKED];
	unsigned int nr_asked;
	struct dmt_name names[DMT_MAX_NAMES];
	unsigned int nr_names;
	struct dmt_verdict verdicts[DMT_MAX_VERDICTS];
	unsigned int nr_verdicts;
	uint32_t invalidations;
	uint32_t highest;
	struct dmt_past past[DMT_MAX_PAST];
	unsigned int nr_past;
	struct dmt_peer peers[DMT_PEERS];
	struct dmt_entry journal[DMT_MAX_JOURNAL];
	uint64_t nr_journal;
	uint64_t blame;
	bool failing;
	struct dmt_traffic *traffic;
	uint64_t random;
};

struct dmt_asked *dmt_model_asked(struct dmt_model *m, uint32_t id);
uint64_t *dmt_model_next(struct dmt_model *m);
unsigned int dmt_model_asks(const struct dmt_model *m, uint64_t block);
struct dmt_name *dmt_model_name(struct dmt_model *m, uint32_t id);
bool dmt_model_heard_of(const struct dmt_model *m, uint32_t id);
bool dmt_model_harmless_mapping(struct dmt_model *m,
				const struct dmt_mapping *r);
bool dmt_model_harmless(struct dmt_model *m, const struct dmt_msg *msg);
void dmt_model_written(struct dmt_model *m);
void dmt_model_accepted(struct dmt_model *m, int peer,
			const struct dmt_msg *msg);
void dmt_model_refused(struct dmt_model *m, int peer,
		       const struct dmt_msg *msg);
uint64_t dmt_model_generation(const struct dmt_model *m,
			      const struct dmt_msg *msg);
bool dmt_model_told(struct dmt_model *m, int peer, const struct dmt_msg *msg);
void dmt_model_died(struct dmt_model *m, int peer);
void dmt_model_note(struct dmt_model *m, int peer, bool sent,
		    const struct dmt_msg *msg);
void dmt_model_tell_story(const struct dmt_model *m, uint64_t block);

#endif /* DMT_MODEL_H */
