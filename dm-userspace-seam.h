/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The seam between the core and a transport: what they tell each other, in plain
 * C values. The core sees no file, user pointer or message; a transport sees no
 * bio.
 */
#ifndef DM_USERSPACE_SEAM_H
#define DM_USERSPACE_SEAM_H

#include <linux/bits.h>
#include <linux/init.h>
#include <linux/types.h>

struct dmu_space;
struct dmu_peer;

/* struct dmu_mapping.flags and, those of 8 bits, dmu_remap.flags; our own values. */
#define DMU_WR		BIT(0) /* writes may use it */
#define DMU_COPY	BIT(1) /* copy from src first */
#define DMU_TEMPORARY	BIT(2) /* serves the I/O waiting now */
#define DMU_SYNC	BIT(3) /* hold the I/O until acknowledged */
#define DMU_RD		BIT(4) /* said to be readable; reads go anyway */
#define DMU_READY	BIT(5) /* remap only: a hit may use it */
#define DMU_WROTE	BIT(6) /* remap only: a write went to it without WR */
#define DMU_PUSHED	BIT(7) /* remap only: nobody had asked for it */
#define DMU_PROMISED	BIT(8) /* change only: a copy outlives its daemon */
#define DMU_NO_SOURCE	BIT(9) /* change only: it cannot be copied again */
#define DMU_LIVES	BIT(10) /* change only: the block was there before */
#define DMU_INHERITS	BIT(11) /* change only: it makes the copy of one that failed */
#define DMU_COPIED	BIT(12) /* change only: it has been made */

/**
 * struct dmu_mapping - a daemon's answer
 * @block: block of the mapped device
 * @dst_sector: where it begins on the destination, in sectors
 * @src_sector: with DMU_COPY: where it is copied from begins, in sectors
 * @dst: destination device; 0: it has none and reads as zeroes (not with DMU_WR,
 *	DMU_COPY or DMU_SYNC)
 * @src: with DMU_COPY: device to copy from; 0: it is filled with zeroes
 * @id: id of the request answered, or 0
 * @flags: DMU_RD, DMU_WR, DMU_COPY, DMU_TEMPORARY, DMU_SYNC
 * @named: the core's own: @src as the daemon named it
 * @named_sector: likewise
 */
struct dmu_mapping {
	u64 block;
	sector_t dst_sector;
	sector_t src_sector;
	dev_t dst;
	dev_t src;
	u32 id;
	u16 flags;
	dev_t named;
	sector_t named_sector;
};

enum dmu_event_type {
	DMU_EVENT_REQUEST,	/* a block is to be mapped */
	DMU_EVENT_SYNC,		/* I/O of a SYNC mapping is held */
	DMU_EVENT_INVALIDATED,	/* an invalidation is over */
	DMU_EVENT_REPORT,	/* something failed */
	DMU_EVENT_DISCARD,	/* nobody needs what some blocks hold */
};

/* Extensions that a daemon may ask for. */
#define DMU_WANTS_REPORTS	BIT(0)
#define DMU_WANTS_DISCARDS	BIT(1)
#define DMU_WANTS_RUNS		BIT(2)

enum dmu_report_type {
	DMU_COPY_FAILED,
	DMU_IO_FAILED,
	DMU_TIMED_OUT,
	DMU_LOST,	/* of other reports */
};

/**
 * struct dmu_event - what a daemon is to be told
 * @type: which
 * @id: of the request, the SYNC mapping, or the daemon's invalidation
 * @block: REPORT: the block; REQUEST, DISCARD: the first one
 * @count: DISCARD: how many blocks; REQUEST: likewise, and each has a request of its
 *	own, with an id that is by one more than that of the block before; REPORT of
 *	DMU_LOST: how many reports
 * @report: REPORT: what has failed
 * @error: REPORT: a negative errno, or 0
 * @write: REQUEST: it is to be written
 * @found: INVALIDATED: there was a remap
 */
struct dmu_event {
	enum dmu_event_type type;
	u32 id;
	u64 block;
	u64 count;
	enum dmu_report_type report;
	int error;
	bool write;
	bool found;
};

/**
 * struct dmu_transport_ops - how the core reaches a transport
 * @open: make whatever a daemon connects to; may sleep; 0 or errno.
 *	Sets space->transport
 * @close: the last target is gone: no new connections, wake those there
 * @devt: number of the node that a daemon opens
 *
 * A transport waits for messages on space->readers, which the core wakes.
 */
struct dmu_transport_ops {
	int (*open)(struct dmu_space *space);
	void (*close)(struct dmu_space *space);
	dev_t (*devt)(struct dmu_space *space);
};

extern const struct dmu_transport_ops dmu_chardev_ops;
int dmu_chardev_init(void);
void dmu_chardev_exit(void);

/* Transport to core: dm-userspace-peer.c. */
struct dmu_peer *dmu_peer_open(struct dmu_space *space);
void dmu_peer_close(struct dmu_peer *peer);
bool dmu_peer_readable(struct dmu_peer *peer);
bool dmu_peer_gone(struct dmu_peer *peer);
unsigned int dmu_peer_take(struct dmu_peer *peer, struct dmu_event *events,
			   unsigned int max);
void dmu_peer_taken(struct dmu_peer *peer);
void dmu_peer_untake(struct dmu_peer *peer, const struct dmu_event *events,
		     unsigned int nr);
void dmu_peer_begin(struct dmu_peer *peer);
void dmu_peer_end(struct dmu_peer *peer);
int dmu_peer_map(struct dmu_peer *peer, struct dmu_mapping *m, u64 count);
void dmu_peer_fail(struct dmu_peer *peer, u32 id);
int dmu_peer_invalidate(struct dmu_peer *peer, u64 block, u32 id);
void dmu_peer_sync_done(struct dmu_peer *peer, u32 id);
void dmu_peer_want(struct dmu_peer *peer, unsigned int wants);

#endif /* DM_USERSPACE_SEAM_H */
