/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Notices: what a daemon is told unasked. See dm-userspace-notice.c; a part of
 * dm-user.h, which says what is locked before what.
 */
#ifndef DM_USERSPACE_NOTICE_H
#define DM_USERSPACE_NOTICE_H

#include "dm-userspace-seam.h"
#include <linux/list.h>
#include <linux/types.h>

struct dmu_peer;
struct dmu_space;
struct dmu_target;

#define DMU_MAX_REPORTS 64

/**
 * struct dmu_report - something failed
 * @block: of the mapped device
 * @id: of the request that it is about, or 0
 * @type: what
 * @error: negative errno, or 0
 */
struct dmu_report {
	u64 block;
	u32 id;
	enum dmu_report_type type;
	int error;
};

/**
 * struct dmu_reports - what a daemon is still to be told (space->lock)
 * @ring: the reports; the oldest at @first
 * @first: index into @ring, modulo its size
 * @nr: how many there are
 * @telling: how many of them, from the oldest on, are being told
 * @lost: how many found no room
 * @telling_lost: how many of these are being told
 */
struct dmu_reports {
	struct dmu_report ring[DMU_MAX_REPORTS];
	unsigned int first;
	unsigned int nr;
	unsigned int telling;
	u64 lost;
	u64 telling_lost;
};

void dmu_report_locked(struct dmu_space *space, struct dmu_peer *only,
		       enum dmu_report_type type, u64 block, u32 id, int error);
void dmu_report(struct dmu_space *space, enum dmu_report_type type, u64 block,
		u32 id, int error);
bool dmu_notice_waits(struct dmu_peer *peer);
bool dmu_notice_telling(const struct dmu_peer *peer);
void dmu_reports_reconsider(struct dmu_peer *peer);
bool dmu_notice_take(struct dmu_peer *peer, struct dmu_event *event);
void dmu_notices_taken(struct dmu_peer *peer);
void dmu_notices_untake(struct dmu_peer *peer);
void dmu_discards_reconsider(struct dmu_space *space);
void dmu_discard_tell(struct dmu_target *target, sector_t sector,
		      unsigned int sectors);
bool dmu_discard_unread(struct dmu_peer *peer, u64 block, u64 count);
void dmu_discards_free(struct list_head *discards);

#endif /* DM_USERSPACE_NOTICE_H */
