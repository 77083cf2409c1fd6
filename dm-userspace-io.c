// SPDX-License-Identifier: GPL-2.0-only
/*
 * The path of an I/O: bios are looked up without a lock, and go where their
 * remap says (a hit), or are mapped under the lock of their bucket (all else).
 */
#include "dm-userspace-chains.h"

/* --- I/O: hits ----------------------------------------------------------------- */

static bool remap_usable(const struct dmu_remap *remap, int rw)
{
	u8 need = DMU_READY | (rw == WRITE ? DMU_WR : 0);

	/* Pairs with the release that made it ready. */
	return remap && (smp_load_acquire(&remap->flags) & need) == need;
}

static void remap_use(struct dmu_remap *remap)
{
	if (!READ_ONCE(remap->recent))
		WRITE_ONCE(remap->recent, 1);
}

/* Of blocks behind the first one. Context: RCU. */
static noinline struct dmu_remap *lookup(struct dmu_space *space, u64 block)
{
	return dmu_remap_lookup(space, block);
}

/*
 * How far does the mapping go on unbroken after a remap that covers the first
 * @left of @sectors?
 */
static noinline unsigned int
remap_goes_on(struct dmu_space *space, struct dmu_remap *remap, int rw,
	      unsigned int left, unsigned int sectors)
{
	u64 blocks = 1ULL << remap->run_bits;
	u64 block = remap->block;
	sector_t dst = remap->dst_sector;
	dev_t dev = remap->dev;

	while (left < sectors) {
		block += blocks;
		dst += blocks << space->block_shift;
		remap = lookup(space, block);
		/* It may have become part of one that began before. */
		if (!remap_usable(remap, rw) || remap->block != block ||
		    remap->dev != dev || remap->dst_sector != dst)
			return left;
		remap_use(remap);
		blocks = 1ULL << remap->run_bits;
		left += blocks << space->block_shift;
	}
	return sectors;
}

enum hit {
	HIT_MISS,
	HIT_PLACE,
	HIT_ZEROES,	/* there is no device to send it to */
};

/* Aim a bio at where its remap says, if that is known. Context: RCU. */
static __always_inline enum hit map_hit(struct dmu_target *target,
					struct bio *bio, int rw,
					struct block_device **place)
{
	struct dmu_space *space = target->space;
	sector_t sector = bio->bi_iter.bi_sector;
	unsigned int sectors = bio_sectors(bio);
	struct block_device *bdev;
	struct dmu_remap *remap;
	sector_t offset, left;

	remap = dmu_remap_lookup(space, sector >> space->block_shift);
	if (!remap_usable(remap, rw))
		return HIT_MISS;
	bdev = dmu_target_bdev(target, remap->dev);
	if (unlikely(!bdev && remap->dev))
		return HIT_MISS;
	remap_use(remap);
	offset = sector - (remap->block << space->block_shift);
	left = (dmu_block_sectors(space) << remap->run_bits) - offset;
	if (unlikely(sectors > left)) {
		left = remap_goes_on(space, remap, rw, left, sectors);
		if (left < sectors)
			dm_accept_partial_bio(bio, left);
	}
	this_cpu_inc(space->counters->hits);
	if (unlikely(!bdev))
		return HIT_ZEROES;
	bio->bi_iter.bi_sector = remap->dst_sector + offset;
	*place = bdev;
	return HIT_PLACE;
}

/* --- I/O: everything else ------------------------------------------------------- */

#define MAP_GO_ON (-1) /* beside DM_MAPIO_*: like a plain read or write */

static int bio_finish(struct bio *bio, blk_status_t status)
{
	bio->bi_status = status;
	bio_endio(bio);
	return DM_MAPIO_SUBMITTED;
}

/* Can its device do this at all? If not, *@status says how it ends. */
static bool device_takes(struct block_device *bdev, struct bio *bio,
			 blk_status_t *status)
{
	switch (bio_op(bio)) {
	case REQ_OP_DISCARD:
		*status = BLK_STS_OK;
		return bdev_max_discard_sectors(bdev);
	case REQ_OP_WRITE_ZEROES:
		*status = BLK_STS_NOTSUPP;
		return bdev_write_zeroes_sectors(bdev);
	default:
		return true;
	}
}

/* The slow path begins: whatever may have to be undone is noted. */
static void bio_note(struct dmu_target *target, struct bio *bio)
{
	struct dmu_bio *pb = dmu_bio(bio);

	pb->flight = NULL;
	pb->change = NULL;
	pb->target = target;
	pb->since = jiffies;
	pb->came_back = false;
	pb->zeroes = false;
	pb->flags = bio->bi_flags;
	pb->opf = bio->bi_opf;
	pb->iter = bio->bi_iter;
}

/**
 * dmu_bio_restore() - make a bio as device-mapper gave it
 * @bio: from the slow path; may have been at a device
 */
void dmu_bio_restore(struct bio *bio)
{
	struct dmu_bio *pb = dmu_bio(bio);

	pb->came_back = false;
	bio->bi_flags = pb->flags;
	bio->bi_opf = pb->opf;
	bio->bi_iter = pb->iter;
	bio->bi_status = BLK_STS_OK;
	/* Where it was split below, the pieces have left this at 0. */
	atomic_set(&bio->__bi_remaining, 1);
}

/*
 * There is nothing that a write could go to: it may have waited for another
 * mapping, which zeroes have replaced, and asks now.
 */
static void aim_at_zeroes(struct dmu_space *space, struct bio *bio)
{
	if (op_is_write(bio_op(bio))) {
		dmu_space_again(space, bio);
		return;
	}
	dmu_bio(bio)->zeroes = true;
	dmu_space_done(space, bio, BLK_STS_OK);
}

/*
 * Aim a bio of the slow path. Its bucket is locked: from here on it counts as
 * being at its device. DM_MAPIO_SUBMITTED where it is over without one.
 */
static int bio_aim(struct bio *bio, sector_t dst_sector, dev_t dev,
		   struct dmu_change *c)
{
	struct dmu_bio *pb = dmu_bio(bio);
	struct dmu_target *target = pb->target;
	struct dmu_space *space = target->space;
	struct block_device *bdev = dmu_target_bdev(target, dev);
	blk_status_t status;

	if (!dev) {
		aim_at_zeroes(space, bio);
		return DM_MAPIO_SUBMITTED;
	}
	if (!bdev) {
		DMERR_LIMIT("%s: device %u:%u of a block is not in this table",
			    space->key, MAJOR(dev), MINOR(dev));
		return DM_MAPIO_KILL;
	}
	if (!device_takes(bdev, bio, &status)) {
		dmu_space_done(space, bio, status);
		return DM_MAPIO_SUBMITTED;
	}
	pb->flight = dmu_flight_enter(&space->flight[bio_data_dir(bio)]);
	pb->change = c;
	if (c) {
		c->refs++;
		c->inflight++;
	}
	bio->bi_iter.bi_sector = dst_sector + (bio->bi_iter.bi_sector &
					       (dmu_block_sectors(space) - 1));
	bio_set_dev(bio, bdev);
	return DM_MAPIO_REMAPPED;
}

/**
 * dmu_bio_serve() - send a bio that has waited to its place
 * @bio: from the slow path; its bucket is locked
 * @dst_sector: where its block begins, in sectors
 * @dev: device of the place
 * @c: the change that is to see it come back, or NULL
 */
void dmu_bio_serve(struct bio *bio, sector_t dst_sector, dev_t dev,
		   struct dmu_change *c)
{
	struct dmu_space *space = dmu_bio(bio)->target->space;

	if (dmu_bio(bio)->came_back)
		dmu_bio_restore(bio);
	switch (bio_aim(bio, dst_sector, dev, c)) {
	case DM_MAPIO_REMAPPED:
		dmu_space_issue(space, bio);
		break;
	case DM_MAPIO_KILL:
		dmu_space_done(space, bio, BLK_STS_IOERR);
		break;
	}
}

/**
 * dmu_bios_serve() - send bios that have waited to their place
 * @bios: of one block; empty after this
 * @dst_sector: where the block begins, in sectors
 * @dev: device of the place
 * @c: the change that is to see them come back, or NULL
 */
void dmu_bios_serve(struct bio_list *bios, sector_t dst_sector, dev_t dev,
		    struct dmu_change *c)
{
	struct bio *bio;

	while ((bio = bio_list_pop(bios)))
		dmu_bio_serve(bio, dst_sector, dev, c);
}

/**
 * dmu_bios_write() - is there a write among them?
 * @bios: any
 */
bool dmu_bios_write(const struct bio_list *bios)
{
	struct bio *bio;

	bio_list_for_each(bio, bios)
		if (op_is_write(bio_op(bio)))
			return true;
	return false;
}

/* What a bio does whose block has a remap that permits it. */
static int map_by_remap(struct dmu_space *space, struct dmu_remap *remap,
			u64 block, struct bio *bio)
{
	sector_t dst_sector = dmu_remap_dst(space, remap, block);
	struct dmu_change *c = remap->change;

	if (!c)
		return bio_aim(bio, dst_sector, remap->dev, NULL);
	if (bio->bi_opf & REQ_NOWAIT)
		return -EAGAIN;
	if (c->state == DMU_CHANGE_SYNC)
		return bio_aim(bio, dst_sector, remap->dev, c);
	dmu_change_wait(c, bio);
	return DM_MAPIO_SUBMITTED;
}

/* DM_MAPIO_*, or -EAGAIN for a bio that must not wait. Context: bucket lock. */
static int map_locked(struct dmu_target *target, struct dmu_bucket *bucket,
		      struct bio *bio)
{
	struct dmu_space *space = target->space;
	u64 block = bio->bi_iter.bi_sector >> space->block_shift;
	bool write = op_is_write(bio_op(bio));
	struct dmu_remap *remap;
	bool again;

	if (dmu_target_returns(target))
		return bio->bi_opf & REQ_NOWAIT ? -EAGAIN : DM_MAPIO_REQUEUE;
	remap = dmu_remap_find(bucket, block);
	again = remap && dmu_remap_asked_again(remap);
	if (remap && !again && (!write || remap->flags & DMU_WR))
		return map_by_remap(space, remap, block, bio);
	if (bio_op(bio) == REQ_OP_DISCARD) {
		dmu_space_done(space, bio, BLK_STS_OK);
		return DM_MAPIO_SUBMITTED;
	}
	if (bio->bi_opf & REQ_NOWAIT)
		return -EAGAIN;
	return dmu_request_wait(target, bucket, block, write || again, bio);
}

/**
 * dmu_map_slowly() - map a bio under its bucket's lock
 * @target: it came through
 * @bio: all of it lies in one block
 *
 * Context: the map function, or the worker.
 * Return: DM_MAPIO_*
 */
int dmu_map_slowly(struct dmu_target *target, struct bio *bio)
{
	struct dmu_space *space = target->space;
	struct dmu_bucket *bucket;
	unsigned long irq;
	int r;

	bio_note(target, bio);
	bucket = dmu_bucket_of(space,
			       bio->bi_iter.bi_sector >> space->block_shift);
	spin_lock_irqsave(&bucket->lock, irq);
	r = map_locked(target, bucket, bio);
	spin_unlock_irqrestore(&bucket->lock, irq);
	if (r == -EAGAIN) {
		bio_wouldblock_error(bio);
		r = DM_MAPIO_SUBMITTED;
	}
	return r;
}

/* The part of a bio that lies in its first block takes the slow path. */
static noinline int map_miss(struct dmu_target *target, struct bio *bio)
{
	struct dmu_space *space = target->space;
	sector_t mask = dmu_block_sectors(space) - 1;
	sector_t left = mask + 1 - (bio->bi_iter.bi_sector & mask);
	int r;

	this_cpu_inc(space->counters->misses);
	if (bio_sectors(bio) > left)
		dm_accept_partial_bio(bio, left);
	r = dmu_map_slowly(target, bio);
	if (r == DM_MAPIO_KILL) /* which end_io does not see */
		this_cpu_inc(space->counters->errors);
	return r;
}

/* Is there a place that a block's discard could go to, now or soon? */
static bool discard_goes_on(struct dmu_space *space, u64 block)
{
	struct dmu_remap *remap = lookup(space, block);
	struct dmu_bucket *bucket;
	unsigned long irq;
	u8 flags = DMU_READY;

	if (remap) {
		flags = READ_ONCE(remap->flags);
	} else {
		/* It may be on its way to another chain. */
		bucket = dmu_bucket_of(space, block);
		spin_lock_irqsave(&bucket->lock, irq);
		remap = dmu_remap_find(bucket, block);
		if (remap)
			flags = remap->flags;
		spin_unlock_irqrestore(&bucket->lock, irq);
	}
	return (flags & (DMU_READY | DMU_WR)) != DMU_READY;
}

/* Discards of blocks that nothing may be written to are over at once. */
static unsigned int discard_nothing(struct dmu_space *space, struct bio *bio)
{
	sector_t mask = dmu_block_sectors(space) - 1;
	sector_t sector = bio->bi_iter.bi_sector;
	u64 block = sector >> space->block_shift;
	unsigned int done = 0;

	while (done < bio_sectors(bio)) {
		if (discard_goes_on(space, block++))
			return done;
		done += mask + 1 - (sector & mask);
		sector &= ~mask;
	}
	return bio_sectors(bio);
}

static int map_discard(struct dmu_target *target, struct bio *bio)
{
	unsigned int nothing;

	rcu_read_lock();
	nothing = discard_nothing(target->space, bio);
	rcu_read_unlock();
	if (!nothing)
		return MAP_GO_ON;
	if (nothing < bio_sectors(bio))
		dm_accept_partial_bio(bio, nothing);
	if (READ_ONCE(target->space->tells_discards))
		dmu_discard_tell(target, bio->bi_iter.bi_sector, nothing);
	return bio_finish(bio, BLK_STS_OK);
}

/* An empty flush, one for each device: all that was written must be safe. */
static int map_flush(struct dmu_target *target, struct bio *bio)
{
	bio_set_dev(bio, target->devices[dm_bio_get_target_bio_nr(bio)].bdev);
	return DM_MAPIO_REMAPPED;
}

/* What is not a plain read or write. MAP_GO_ON: it is mapped like one. */
static int map_by_kind(struct dmu_target *target, struct bio *bio)
{
	/* One who has to poll for its I/O must not be what others wait for. */
	bio_clear_polled(bio);
	if (bio->bi_opf & REQ_PREFLUSH)
		return map_flush(target, bio);
	switch (bio_op(bio)) {
	case REQ_OP_READ:
	case REQ_OP_WRITE:
	case REQ_OP_WRITE_ZEROES:
		return MAP_GO_ON;
	case REQ_OP_DISCARD:
		return map_discard(target, bio);
	default:
		return DM_MAPIO_KILL;
	}
}

/* It has found its place, but may be too much for the device there. */
static int map_hit_unusual(struct dmu_target *target, struct bio *bio)
{
	struct dmu_bio *pb = dmu_bio(bio);
	blk_status_t status;

	/* While it counts as in flight: whoever reuses the place waits for it. */
	if (bio_op(bio) == REQ_OP_DISCARD &&
	    READ_ONCE(target->space->tells_discards))
		dmu_discard_tell(target, pb->sector, bio_sectors(bio));
	if (device_takes(bio->bi_bdev, bio, &status))
		return DM_MAPIO_REMAPPED;
	dmu_flight_leave(pb->flight);
	pb->flight = NULL;
	return bio_finish(bio, status);
}

static bool is_usual(const struct bio *bio)
{
	return (bio_op(bio) == REQ_OP_READ || bio_op(bio) == REQ_OP_WRITE) &&
	       !(bio->bi_opf & (REQ_PREFLUSH | REQ_POLLED));
}

/* Try to send it where its remap says; it counts as in flight from here on. */
static __always_inline enum hit try_hit(struct dmu_target *target,
					struct bio *bio, struct dmu_bio *pb)
{
	int rw = bio_data_dir(bio);
	struct block_device *bdev;
	enum hit hit;

	pb->change = NULL;
	pb->sector = bio->bi_iter.bi_sector;
	dmu_hit_begin();
	pb->flight = dmu_flight_enter_rcu(&target->space->flight[rw]);
	hit = map_hit(target, bio, rw, &bdev);
	dmu_hit_end();
	if (likely(hit == HIT_PLACE))
		bio_set_dev(bio, bdev);
	return hit;
}

/* It counts as in flight, and is not. */
static noinline int map_nowhere(struct dmu_target *target, struct bio *bio,
				struct dmu_bio *pb, enum hit hit)
{
	dmu_flight_leave(pb->flight);
	pb->flight = NULL;
	if (hit == HIT_MISS)
		return map_miss(target, bio);
	zero_fill_bio(bio);
	return bio_finish(bio, BLK_STS_OK);
}

static noinline int map_unusual(struct dmu_target *target, struct bio *bio)
{
	struct dmu_bio *pb = dmu_bio(bio);
	bool polled = bio->bi_opf & REQ_POLLED;
	enum hit hit;
	int r;

	pb->change = NULL;
	pb->sector = bio->bi_iter.bi_sector;
	pb->flight = NULL;
	r = map_by_kind(target, bio);
	if (r != MAP_GO_ON)
		return r;
	hit = try_hit(target, bio, pb);
	if (hit == HIT_PLACE)
		return map_hit_unusual(target, bio);
	/*
	 * Polled I/O that is told to come again is told so by device-mapper's
	 * worker, too late for whoever polls to wait instead: it would never be
	 * asked for. Let it wait; its submitter does not sleep for it.
	 */
	if (polled && hit == HIT_MISS)
		bio->bi_opf &= ~REQ_NOWAIT;
	return map_nowhere(target, bio, pb, hit);
}

/**
 * dmu_map() - the map function of the target
 * @ti: the target
 * @bio: a clone that device-mapper made; may be told to be shorter
 *
 * Context: inside device-mapper's SRCU section: never waits for a daemon.
 * Return: DM_MAPIO_*
 */
int dmu_map(struct dm_target *ti, struct bio *bio)
{
	struct dmu_target *target = ti->private;
	struct dmu_bio *pb;
	enum hit hit;

	if (unlikely(!is_usual(bio)))
		return map_unusual(target, bio);
	pb = dmu_bio(bio);
	hit = try_hit(target, bio, pb);
	if (likely(hit == HIT_PLACE))
		return DM_MAPIO_REMAPPED;
	return map_nowhere(target, bio, pb, hit);
}

static bool is_failure(blk_status_t status)
{
	return status != BLK_STS_OK && status != BLK_STS_DM_REQUEUE &&
	       status != BLK_STS_AGAIN && status != BLK_STS_NOTSUPP;
}

/* It has ended with an error: count that, and tell who wants to know. */
static void io_failed(struct dmu_space *space, const struct dmu_bio *pb,
		      bool at_device, blk_status_t status)
{
	this_cpu_inc(space->counters->errors);
	if (at_device)
		dmu_report(space, DMU_IO_FAILED,
			   pb->sector >> space->block_shift, 0,
			   blk_status_to_errno(status));
}

/* Some devices find only when it comes that they cannot take such a thing at all. */
static blk_status_t refused_late(struct bio *bio, blk_status_t error)
{
	blk_status_t status;

	if (error == BLK_STS_NOTSUPP && bio_op(bio) == REQ_OP_DISCARD)
		return BLK_STS_OK;
	if (error == BLK_STS_TARGET && !device_takes(bio->bi_bdev, bio, &status))
		return status;
	return error;
}

/* All but a hit that went well. */
static noinline int end_unusual(struct dmu_target *target, struct dmu_bio *pb,
				struct bio *bio, blk_status_t *error)
{
	bool at_device = pb->flight;
	int r = DM_ENDIO_DONE;

	if (at_device) {
		dmu_flight_leave(pb->flight);
		*error = refused_late(bio, *error);
	}
	if (pb->change) {
		pb->flight = NULL;
		r = dmu_change_endio(pb, bio, *error);
	}
	if (*error && r == DM_ENDIO_DONE && is_failure(*error))
		io_failed(target->space, pb, at_device, *error);
	return r;
}

/**
 * dmu_end_io() - the end_io function of the target
 * @ti: the target
 * @bio: the clone
 * @error: how it went
 *
 * Context: any; interrupts may be off.
 * Return: DM_ENDIO_*
 */
int dmu_end_io(struct dm_target *ti, struct bio *bio, blk_status_t *error)
{
	struct dmu_bio *pb = dmu_bio(bio);
	struct percpu_ref *flight = pb->flight;

	if (unlikely(!flight || pb->change || *error))
		return end_unusual(ti->private, pb, bio, error);
	dmu_flight_leave(flight);
	return DM_ENDIO_DONE;
}
