/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Changes: mappings that are not ready, or whose I/O is held; and the ids by which
 * daemons name them, and requests. See dm-userspace-change.c; a part of dm-user.h,
 * which says what is locked before what.
 */
#ifndef DM_USERSPACE_CHANGE_H
#define DM_USERSPACE_CHANGE_H

#include "dm-userspace-flight.h"
#include "dm-userspace-seam.h"
#include <linux/bio.h>
#include <linux/dm-io.h>
#include <linux/list.h>
#include <linux/types.h>

struct dmu_bio;
struct dmu_bucket;
struct dmu_peer;
struct dmu_remap;
struct dmu_space;
struct dmu_target;

/* --- ids ---------------------------------------------------------------------- */

enum dmu_id_kind { DMU_ID_REQUEST, DMU_ID_CHANGE };

/**
 * struct dmu_id - an id that a daemon may name (space->lock)
 * @node: in space->ids
 * @id: unique among all there; 0 while not hashed
 * @kind: what it is embedded in
 */
struct dmu_id {
	struct hlist_node node;
	u32 id;
	enum dmu_id_kind kind;
};

u64 dmu_id_new(struct dmu_space *space);
u64 dmu_id_age(struct dmu_space *space, u32 id);
void dmu_id_add(struct dmu_space *space, struct dmu_id *id, u32 value);
void dmu_id_del(struct dmu_id *id);
struct dmu_id *dmu_id_find(struct dmu_space *space, u32 value);

/* --- change: an answer on its way to being usable ------------------------- */

enum dmu_change_state {
	DMU_CHANGE_DRAIN,	/* earlier writes, and an earlier copy, finish */
	DMU_CHANGE_QUEUED,	/* in space->copies, for a copy slot */
	DMU_CHANGE_COPYING,	/* kcopyd, or a whole-block write, is at it */
	DMU_CHANGE_FAILED,	/* copy failed; the next I/O tries again */
	DMU_CHANGE_SYNC,	/* I/O is held when it comes back */
	DMU_CHANGE_ASK,		/* the daemon that owed the ack died */
	DMU_CHANGE_ACKED,	/* over; I/O that comes back completes */
	DMU_CHANGE_GONE,	/* over; I/O that comes back is mapped again */
};

/**
 * struct dmu_change - a mapping that is not ready, or whose I/O is held
 * @space: fixed, like @bucket, @m, @len, @age
 * @bucket: of the block
 * @m: the answer; m.src moves where an earlier copy failed, and flags follow what
 *	is said of it later (bucket lock)
 * @len: true length of the block, in sectors
 * @age: those of the key are counted as they begin
 * @node: in bucket->changes (bucket lock, as all to @copier)
 * @refs: 1 until ACKED or GONE, 1 as somebody's @next, 1 for @wait, 1 for
 *	@queue, 1 for @owed, 1 for each bio at a device, 1 for kcopyd
 * @state: moved by dmu_change_enter() only
 * @remap: NULL where it was replaced or invalidated, or is TEMPORARY
 * @copied: the place holds what it should
 * @next: a later change of the block, in DRAIN, that waits for this copy
 * @invalidations: wait for this copy, too
 * @waiting: bios that nothing has been done for
 * @held: bios that came back and wait for the ack
 * @inflight: bios at a device that will be held
 * @told: the daemon has been, or is being, told that I/O is held
 * @wait: DRAIN: for the flight
 * @copier: COPYING: the target whose devices kcopyd uses
 * @flight: COPYING: counts as a write
 * @queue: QUEUED: in space->copies; DRAIN: in space->barred or space->drains
 *	(space->lock, as all below)
 * @owing: in space->owing: it has no remap, or its daemon may be dead, and its copy
 *	has not been made; or it inherits, until it is acknowledged
 * @id: while SYNC is not acknowledged
 * @owner: the daemon that owes the ack
 * @owed: in owner->owed; also without an @id, while a copy of it is not made
 * @yields: nobody waits for it, but it can be spoilt
 * @late: it inherits: it can be spoilt by what is older than it, too
 * @spoilt: another block lives where it would copy from
 * @coming: it is to be told of soon, and space->nr_coming counts it
 * @news: in owner->gathered, then owner->news, to tell that I/O is held
 */
struct dmu_change {
	struct dmu_space *space;
	struct dmu_bucket *bucket;
	struct dmu_mapping m;
	sector_t len;
	u64 age;
	struct hlist_node node;
	unsigned int refs;
	enum dmu_change_state state;
	struct dmu_remap *remap;
	bool copied;
	struct dmu_change *next;
	struct list_head invalidations;
	struct bio_list waiting;
	struct bio_list held;
	unsigned int inflight;
	bool told;
	struct dmu_wait wait;
	struct dmu_target *copier;
	struct percpu_ref *flight;
	struct list_head queue;
	struct list_head owing;
	struct dmu_id id;
	struct dmu_peer *owner;
	struct list_head owed;
	bool yields;
	bool late;
	bool spoilt;
	bool coming;
	struct list_head news;
};

/*
 * The daemon relies on the mapping whether it hears of its I/O or not: the next one
 * may, too, and a copy that it owes, now or by bequest, is made even though this one
 * should die.
 */
static inline void dmu_change_promise(struct dmu_change *c)
{
	c->m.flags |= DMU_PROMISED;
}

int dmu_change_cache_init(void);
void dmu_change_cache_exit(void);
int dmu_changes_init(struct dmu_space *space, int reserve);
void dmu_changes_exit(struct dmu_space *space);
unsigned long dmu_spares_drop(struct dmu_space *space, unsigned long nr);
struct dmu_change *dmu_change_alloc(struct dmu_space *space, bool reserve);
void dmu_change_free(struct dmu_space *space, struct dmu_change *change);
void dmu_change_keep(struct dmu_space *space, struct dmu_change *change);
void dmu_change_start(struct dmu_change *c, struct dmu_space *space,
		      struct dmu_bucket *bucket, const struct dmu_mapping *m,
		      sector_t len, struct dmu_remap *remap,
		      struct dmu_peer *owner, struct bio_list *bios);
bool dmu_change_joins(const struct dmu_change *c, const struct dmu_mapping *m);
void dmu_change_join(struct dmu_change *c, const struct dmu_mapping *m,
		     struct dmu_peer *peer, struct bio_list *bios);
bool dmu_change_supersede(struct dmu_change *c, struct dmu_mapping *m,
			  struct bio_list *bios);
void dmu_change_invalidate(struct dmu_change *c);
void dmu_change_forget(struct dmu_change *c);
void dmu_change_give_up(struct dmu_change *c);
void dmu_change_wait(struct dmu_change *c, struct bio *bio);
struct dmu_change *dmu_change_copying(struct dmu_bucket *bucket, u64 block,
				      bool detached);

/* --- ack: the daemon that owes it ----------------------------------------------- */

void dmu_change_unname(struct dmu_change *c);
void dmu_change_own(struct dmu_change *c, struct dmu_peer *owner, u32 id);
void dmu_change_tell(struct dmu_change *c);
void dmu_change_silent(struct dmu_change *c);
void dmu_change_ack(struct dmu_space *space, u32 id);
int dmu_change_endio(struct dmu_bio *pb, struct bio *bio, blk_status_t error);
void dmu_changes_drain(struct dmu_space *space);
void dmu_changes_purge(struct dmu_space *space, dev_t dev);
void dmu_changes_end(struct dmu_space *space);
void dmu_changes_give_up(struct dmu_space *space);
void dmu_changes_despair(struct dmu_space *space);
void dmu_changes_orphan(struct dmu_peer *peer);
void dmu_changes_owe(struct dmu_space *space);
void dmu_changes_return(struct dmu_bucket *bucket, struct dmu_target *target,
			struct bio_list *bios);
void dmu_change_enter(struct dmu_change *c, enum dmu_change_state state);
void dmu_change_put(struct dmu_change *c);
void dmu_change_copied(struct dmu_change *c, bool ok);
bool dmu_change_by_write(struct dmu_change *c);

/* --- place: where a copy is owed to ----------------------------------------- */

void dmu_place_owe(struct dmu_change *c);
void dmu_place_watch(struct dmu_change *c);
bool dmu_place_spoilt(const struct dmu_change *c);
void dmu_place_settle(struct dmu_change *c);
bool dmu_place_owed(struct dmu_space *space, const struct dmu_mapping *m,
		    sector_t len, const struct bio_list *bios);
bool dmu_place_barred(struct dmu_change *c);
void dmu_place_inherit(struct dmu_mapping *m, const struct dmu_change *failed);
void dmu_place_repeat(struct dmu_mapping *m, const struct dmu_change *c);
void dmu_place_bequeath(struct dmu_change *c);
bool dmu_place_has_heir(const struct dmu_change *c);

/* --- copies ------------------------------------------------------------------- */

void dmu_copies_start(struct dmu_space *space);
void dmu_copy_over(int read_err, unsigned long write_err, void *context);
bool dmu_copies_throttled(void);
bool dmu_buffer_copy(struct dmu_change *change, struct dm_io_region *from,
		     const struct dm_io_region *to);
int dmu_buffers_init(struct dmu_space *space);
void dmu_buffers_exit(struct dmu_space *space);

#endif /* DM_USERSPACE_CHANGE_H */
