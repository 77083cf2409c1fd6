// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies: changes that wait for a copy slot, and who does the work: kcopyd, or a
 * buffer.
 */
#include "dm-userspace-trace.h"
#include <linux/module.h>

static unsigned int max_copies = 64;
module_param(max_copies, uint, 0644);
MODULE_PARM_DESC(max_copies, "Copies of blocks in flight for each key");

/*
 * kcopyd asks the device to write zeroes wherever that says that it can; some find out
 * only then that they cannot. So they are written, and waited for here, where other
 * copies of kcopyd's end: this is rare.
 */
static bool zero_by_writing(const struct dmu_change *c)
{
	struct page_list zeroes = { .next = &zeroes, .page = ZERO_PAGE(0) };
	struct dm_io_region to = {
		.bdev = dmu_target_bdev(c->copier, c->m.dst),
		.sector = c->m.dst_sector,
		.count = c->len,
	};
	struct dm_io_request request = {
		.bi_opf = REQ_OP_WRITE,
		.mem = { .type = DM_IO_PAGE_LIST, .ptr.pl = &zeroes },
		.client = c->space->io,
	};

	return !dm_io(&request, 1, &to, NULL, IOPRIO_DEFAULT);
}

static void copy_failed(struct dmu_change *c, const char *why, int error)
{
	struct dmu_space *space = c->space;

	DMERR_LIMIT("%s: copying block %llu failed (%s)", space->key, c->m.block,
		    why);
	this_cpu_inc(space->counters->errors);
	dmu_report(space, DMU_COPY_FAILED, c->m.block, c->m.id, error);
}

/* What it would read, or has read, is another block's by now. Context: bucket lock. */
static void copy_spoilt(struct dmu_change *c)
{
	if (dmu_change_by_write(c))
		return;
	copy_failed(c, "another block lives at its source by now", -ESTALE);
	dmu_change_copied(c, false);
}

/**
 * dmu_copy_over() - a copy has been made, or could not be made
 * @read_err: reading failed
 * @write_err: writing failed
 * @context: the change
 *
 * Context: process. The space may be gone after this.
 */
void dmu_copy_over(int read_err, unsigned long write_err, void *context)
{
	struct dmu_change *c = context;
	struct dmu_bucket *bucket = c->bucket;
	struct dmu_target *copier = c->copier;
	struct percpu_ref *flight = c->flight;
	struct dmu_space *space = c->space;
	bool failed, spoilt;

	if (write_err && !c->m.src && zero_by_writing(c))
		write_err = 0;
	failed = read_err || write_err;
	if (failed)
		copy_failed(c, read_err ? "reading" : "writing", -EIO);
	spin_lock_irq(&bucket->lock);
	spoilt = !failed && dmu_place_spoilt(c);
	trace_dmu_copy_end(space, c->m.block, c->m.id, !failed && !spoilt);
	if (spoilt)
		copy_spoilt(c);
	else
		dmu_change_copied(c, !failed);
	dmu_change_put(c);
	spin_unlock_irq(&bucket->lock);

	dmu_flight_leave(flight);
	atomic_dec(&space->copying);
	dmu_space_kick_copies(space);
	dmu_target_unpin(copier);
}

/* Take the oldest queued change, and its reference, unless enough is going on. */
static struct dmu_change *copy_take(struct dmu_space *space)
{
	struct dmu_change *c = NULL;
	unsigned int max = max(READ_ONCE(max_copies), 1U);

	spin_lock_irq(&space->lock);
	if (atomic_read(&space->copying) < max)
		c = list_first_entry_or_null(&space->copies, struct dmu_change,
					     queue);
	if (c)
		list_del_init(&c->queue);
	spin_unlock_irq(&space->lock);
	return c;
}

/* Find devices to copy on, and set out. False where it was cancelled, or waits. */
static bool copy_begin(struct dmu_change *c, struct list_head *parked,
		       struct dm_io_region *from, struct dm_io_region *to)
{
	struct dmu_space *space = c->space;
	struct dmu_bucket *bucket = c->bucket;
	bool begun = false;

	spin_lock_irq(&bucket->lock);
	if (c->state != DMU_CHANGE_QUEUED) {
		dmu_change_put(c);
		goto out;
	}
	if (dmu_place_spoilt(c)) {
		dmu_change_enter(c, DMU_CHANGE_COPYING);
		copy_spoilt(c);
		dmu_change_put(c);
		goto out;
	}
	c->copier = dmu_target_pin(space, &c->m);
	if (c->copier) {
		from->bdev = dmu_target_bdev(c->copier, c->m.src);
		from->sector = c->m.src_sector;
		to->bdev = dmu_target_bdev(c->copier, c->m.dst);
		to->sector = c->m.dst_sector;
		from->count = c->len;
		to->count = c->len;
		c->flight = dmu_flight_enter(&space->flight[WRITE]);
		dmu_change_enter(c, DMU_CHANGE_COPYING);
		begun = true;
	} else {
		/* Until a table with both devices is resumed. */
		spin_lock(&space->lock);
		list_add_tail(&c->queue, parked);
		spin_unlock(&space->lock);
	}
out:
	spin_unlock_irq(&bucket->lock);
	return begun;
}

/**
 * dmu_copies_start() - start queued copies, as many as may be in flight
 * @space: of the key
 *
 * Context: the copy worker; waits for kcopyd's memory where it must.
 */
void dmu_copies_start(struct dmu_space *space)
{
	struct dm_io_region from, to;
	struct dmu_change *c;
	LIST_HEAD(parked);

	while ((c = copy_take(space))) {
		if (!copy_begin(c, &parked, &from, &to))
			continue;
		atomic_inc(&space->copying);
		trace_dmu_copy_begin(space, c->m.block, c->m.id);
		if (!from.bdev)
			dm_kcopyd_zero(space->kcopyd, 1, &to, 0, dmu_copy_over,
				       c);
		else if (!dmu_buffer_copy(c, &from, &to))
			dm_kcopyd_copy(space->kcopyd, &from, 1, &to, 0,
				       dmu_copy_over, c);
	}
	spin_lock_irq(&space->lock);
	list_splice(&parked, &space->copies);
	spin_unlock_irq(&space->lock);
}
