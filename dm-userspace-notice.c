// SPDX-License-Identifier: GPL-2.0-only
/*
 * Notices: what a daemon is told unasked, where it has said that it knows of
 * such messages. Reports of what failed, kept in a ring of each daemon; and
 * discards, kept in a list of the key.
 *
 * Notices are worth less than what they are about: where there is no room, or
 * no memory, they are counted as lost (reports) or are not made (discards).
 */
#include "dm-user.h"
#include <linux/slab.h>

/* --- reports ---------------------------------------------------------------------- */

static void report_add(struct dmu_reports *reports,
		       const struct dmu_report *report)
{
	if (reports->nr == DMU_MAX_REPORTS) {
		WRITE_ONCE(reports->lost, reports->lost + 1);
		return;
	}
	reports->ring[(reports->first + reports->nr) % DMU_MAX_REPORTS] =
		*report;
	WRITE_ONCE(reports->nr, reports->nr + 1);
}

/**
 * dmu_report_locked() - something failed that daemons may want to know
 * @space: of the key, locked
 * @only: the daemon concerned, or NULL for all
 * @type: what failed
 * @block: of the mapped device
 * @id: of the request that it is about, or 0
 * @error: negative errno, or 0
 */
void dmu_report_locked(struct dmu_space *space, struct dmu_peer *only,
		       enum dmu_report_type type, u64 block, u32 id, int error)
{
	struct dmu_report report = {
		.block = block, .id = id, .type = type, .error = error,
	};
	struct dmu_peer *peer;
	bool told = false;

	lockdep_assert_held(&space->lock);
	/* One that has gone meanwhile is not in the list: it is not touched. */
	list_for_each_entry(peer, &space->peers, node) {
		if (!(peer->wants & DMU_WANTS_REPORTS) ||
		    (only && peer != only))
			continue;
		report_add(&peer->reports, &report);
		told = true;
	}
	if (told)
		dmu_space_wake(space);
}

/**
 * dmu_report() - tell all daemons that want to know what failed
 * @space: of the key
 * @type: what failed
 * @block: of the mapped device
 * @id: of the request that it is about, or 0
 * @error: negative errno, or 0
 *
 * Context: any.
 */
void dmu_report(struct dmu_space *space, enum dmu_report_type type, u64 block,
		u32 id, int error)
{
	unsigned long irq;

	spin_lock_irqsave(&space->lock, irq);
	dmu_report_locked(space, NULL, type, block, id, error);
	spin_unlock_irqrestore(&space->lock, irq);
}

/**
 * dmu_reports_reconsider() - a daemon has said what it wants
 * @peer: its connection; its space is locked
 *
 * One that wants no reports (any more) gets none that are left, but for those
 * that it is getting at this moment.
 */
void dmu_reports_reconsider(struct dmu_peer *peer)
{
	struct dmu_reports *reports = &peer->reports;

	lockdep_assert_held(&peer->space->lock);
	if (peer->wants & DMU_WANTS_REPORTS)
		return;
	WRITE_ONCE(reports->nr, reports->telling);
	WRITE_ONCE(reports->lost, reports->telling_lost);
}

static bool report_take(struct dmu_reports *reports, struct dmu_event *event)
{
	const struct dmu_report *report;

	if (reports->telling < reports->nr) {
		report = &reports->ring[(reports->first + reports->telling++) %
					DMU_MAX_REPORTS];
		event->type = DMU_EVENT_REPORT;
		event->report = report->type;
		event->block = report->block;
		event->id = report->id;
		event->error = report->error;
		return true;
	}
	if (reports->lost == reports->telling_lost)
		return false;
	event->type = DMU_EVENT_REPORT;
	event->report = DMU_LOST;
	event->count = reports->lost - reports->telling_lost;
	event->id = 0;
	event->error = 0;
	reports->telling_lost = reports->lost;
	return true;
}

/* --- discards --------------------------------------------------------------------- */

#define DMU_MAX_DISCARDS 4096 /* messages that wait to be read */

struct discard {
	struct list_head node;
	u64 block;
	u64 count;
};

/**
 * dmu_discards_free() - forget discards
 * @discards: in no list of a space any more
 */
void dmu_discards_free(struct list_head *discards)
{
	struct discard *discard, *next;

	list_for_each_entry_safe(discard, next, discards, node)
		kfree(discard);
	INIT_LIST_HEAD(discards);
}

/**
 * dmu_discards_reconsider() - daemons have come, gone, or said what they want
 * @space: of the key, locked
 *
 * Only one that is alone is told: another could answer for a block of which this
 * one has just read that nobody needs it.
 */
void dmu_discards_reconsider(struct dmu_space *space)
{
	struct dmu_peer *peer;
	bool tells;

	lockdep_assert_held(&space->lock);
	peer = list_first_entry_or_null(&space->peers, struct dmu_peer, node);
	tells = peer && space->nr_peers == 1 &&
		peer->wants & DMU_WANTS_DISCARDS;
	WRITE_ONCE(space->tells_discards, tells);
	if (tells)
		return;
	dmu_discards_free(&space->discards);
	space->nr_discards = 0;
}

/* Context: space->lock. False where there is no room. */
static bool discard_add(struct dmu_space *space, u64 block)
{
	struct discard *last;

	if (!space->tells_discards)
		return false;
	if (!list_empty(&space->discards)) {
		last = list_last_entry(&space->discards, struct discard, node);
		if (last->block + last->count == block) {
			last->count++;
			return true;
		}
	}
	if (space->nr_discards >= DMU_MAX_DISCARDS)
		return false;
	last = kmalloc(sizeof(*last), GFP_NOWAIT | __GFP_NOWARN);
	if (!last)
		return false;
	last->block = block;
	last->count = 1;
	list_add_tail(&last->node, &space->discards);
	space->nr_discards++;
	return true;
}

/*
 * Tell of one block, and forget where it is, so that whoever writes to it next
 * asks after the daemon was told. Not where it is being asked for, or is on its
 * way to another place, or nothing can have been written to it.
 */
static bool discard_block(struct dmu_space *space, u64 block)
{
	struct dmu_bucket *bucket = dmu_bucket_of(space, block);
	struct dmu_remap *remap;
	unsigned long irq;
	bool told = false;

	spin_lock_irqsave(&bucket->lock, irq);
	remap = dmu_remap_find(bucket, block);
	if (remap && (remap->change || !(remap->flags & DMU_WR)))
		goto out;
	if (dmu_request_waits(bucket, block) ||
	    dmu_change_copying(bucket, block, false))
		goto out;
	spin_lock(&space->lock);
	told = discard_add(space, block);
	spin_unlock(&space->lock);
	if (told)
		dmu_unmap(space, bucket, block);
out:
	spin_unlock_irqrestore(&bucket->lock, irq);
	return told;
}

/**
 * dmu_discard_tell() - nobody needs what some sectors hold
 * @target: that the discard came through; the discard counts as in flight where
 *	it goes to a device
 * @sector: first one, of the mapped device
 * @sectors: how many
 *
 * Context: the map function.
 */
void dmu_discard_tell(struct dmu_target *target, sector_t sector,
		      unsigned int sectors)
{
	struct dmu_space *space = target->space;
	sector_t mask = dmu_block_sectors(space) - 1;
	sector_t end = sector + sectors;
	u64 block = (sector + mask) >> space->block_shift;
	bool told = false;

	/* A short last block is whole, too. */
	if (end == target->ti->begin + target->ti->len)
		end = (end + mask) & ~mask;
	for (; (block + 1) << space->block_shift <= end; block++)
		told |= discard_block(space, block);
	if (told)
		dmu_space_wake(space);
}

static bool discards_cover(const struct list_head *discards, u64 block, u64 count)
{
	const struct discard *discard;

	list_for_each_entry(discard, discards, node)
		if (discard->block < block + count &&
		    block < discard->block + discard->count)
			return true;
	return false;
}

/**
 * dmu_discard_unread() - does a daemon speak of blocks that it was not told of yet?
 * @peer: its connection
 * @block: first one
 * @count: how many; their bucket is locked
 *
 * What it says unasked, or too late, it says of what was there before the discard: to
 * take its word would let writes to a place that it is about to free.
 */
bool dmu_discard_unread(struct dmu_peer *peer, u64 block, u64 count)
{
	struct dmu_space *space = peer->space;
	bool is;

	if (!(READ_ONCE(peer->wants) & DMU_WANTS_DISCARDS))
		return false;
	spin_lock(&space->lock);
	is = discards_cover(&space->discards, block, count) ||
	     discards_cover(&peer->telling_discards, block, count);
	spin_unlock(&space->lock);
	return is;
}

static bool discard_take(struct dmu_peer *peer, struct dmu_event *event)
{
	struct dmu_space *space = peer->space;
	struct discard *discard;

	if (!(peer->wants & DMU_WANTS_DISCARDS) || list_empty(&space->discards))
		return false;
	discard = list_first_entry(&space->discards, struct discard, node);
	list_move_tail(&discard->node, &peer->telling_discards);
	/* As good as a verdict: it may have freed the place before it dies. */
	WRITE_ONCE(peer->spoke, true);
	space->nr_discards--;
	event->type = DMU_EVENT_DISCARD;
	event->id = 0;
	event->block = discard->block;
	event->count = discard->count;
	return true;
}

/* --- both ------------------------------------------------------------------------- */

/**
 * dmu_notice_waits() - is there a notice for a daemon?
 * @peer: its connection
 *
 * Context: any. A hint.
 */
bool dmu_notice_waits(struct dmu_peer *peer)
{
	return READ_ONCE(peer->reports.nr) || READ_ONCE(peer->reports.lost) ||
	       (READ_ONCE(peer->wants) & DMU_WANTS_DISCARDS &&
		dmu_list_waits(&peer->space->discards));
}

/**
 * dmu_notice_telling() - are there notices that a daemon is being told?
 * @peer: its connection
 *
 * Context: whoever takes its events.
 */
bool dmu_notice_telling(const struct dmu_peer *peer)
{
	return peer->reports.telling || peer->reports.telling_lost ||
	       !list_empty(&peer->telling_discards);
}

/**
 * dmu_notice_take() - the next notice for a daemon
 * @peer: its connection; its space is locked
 * @event: gets it
 *
 * Return: false where there is none.
 */
bool dmu_notice_take(struct dmu_peer *peer, struct dmu_event *event)
{
	lockdep_assert_held(&peer->space->lock);
	return report_take(&peer->reports, event) || discard_take(peer, event);
}

/**
 * dmu_notices_taken() - a daemon has been told what was taken
 * @peer: its connection; its space is locked
 */
void dmu_notices_taken(struct dmu_peer *peer)
{
	struct dmu_reports *reports = &peer->reports;

	lockdep_assert_held(&peer->space->lock);
	reports->first = (reports->first + reports->telling) % DMU_MAX_REPORTS;
	WRITE_ONCE(reports->nr, reports->nr - reports->telling);
	reports->telling = 0;
	WRITE_ONCE(reports->lost, reports->lost - reports->telling_lost);
	reports->telling_lost = 0;
	dmu_discards_free(&peer->telling_discards);
}

/**
 * dmu_notices_untake() - a daemon could not be told: it will be
 * @peer: its connection; its space is locked
 */
void dmu_notices_untake(struct dmu_peer *peer)
{
	struct dmu_space *space = peer->space;
	struct list_head *pos;

	lockdep_assert_held(&space->lock);
	peer->reports.telling = 0;
	peer->reports.telling_lost = 0;
	if (!space->tells_discards) {
		dmu_discards_free(&peer->telling_discards);
		return;
	}
	list_for_each(pos, &peer->telling_discards)
		space->nr_discards++;
	list_splice_init(&peer->telling_discards, &space->discards);
}
