// SPDX-License-Identifier: GPL-2.0-only
/*
 * Spaces: what tables with one key share, from the first table's construction
 * to the last reference's end; and their worker, which does all that must not
 * be done under a lock, in a daemon's write(), or in an I/O's completion.
 */
#include "dm-user.h"
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

DECLARE_DM_KCOPYD_THROTTLE_WITH_MODULE_PARM(copy_throttle,
					    "Percentage of time that copies may keep the devices busy");

/**
 * dmu_copies_throttled() - does the administrator want copies to be slow?
 */
bool dmu_copies_throttled(void)
{
	return READ_ONCE(dm_kcopyd_throttle.throttle) < 100;
}

static DEFINE_MUTEX(dmu_spaces_lock);
static LIST_HEAD(dmu_spaces);

/* Frees spaces, whose last reference a space's own worker may hold. */
static struct workqueue_struct *reaper;
static atomic_t nr_spaces = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(no_spaces);

int __init dmu_spaces_init(void)
{
	reaper = alloc_workqueue("dm_userspace_reap", WQ_UNBOUND, 0);
	return reaper ? 0 : -ENOMEM;
}

/* An invalidation may outlive the file that asked for it, and the tables. */
void dmu_spaces_exit(void)
{
	wait_event(no_spaces, !atomic_read(&nr_spaces));
	destroy_workqueue(reaper);
}

/* --- the worker ---------------------------------------------------------------- */

/* Is this the daemon whose answers are a batch, and not an interrupt of it? */
static bool in_batch(const struct dmu_space *space)
{
	/* Nobody else can make it this task, or another one. */
	return READ_ONCE(space->batcher) == current && in_task();
}

/**
 * dmu_space_kick() - there is something for the worker to do
 * @space: of the key
 *
 * Context: any.
 */
void dmu_space_kick(struct dmu_space *space)
{
	if (in_batch(space))
		space->batch_work = true;
	else
		queue_work(space->wq, &space->work);
}

/**
 * dmu_space_kick_copies() - there are copies to be started
 * @space: of the key
 *
 * Context: any.
 */
void dmu_space_kick_copies(struct dmu_space *space)
{
	if (in_batch(space))
		space->batch_copies = true;
	else
		queue_work(space->wq, &space->copy_work);
}

/**
 * dmu_batch_begin() - a daemon's answers follow: the workers need not come for each
 * @space: of the key
 *
 * They run on this processor, and would otherwise take turns with the daemon, one
 * answer at a time. Of two daemons that answer at once one has a batch.
 */
void dmu_batch_begin(struct dmu_space *space)
{
	if (!cmpxchg(&space->batcher, NULL, current))
		space->batch_blocks = 0;
}

#define DMU_LONG_BATCH 64 /* about as many answers as are in a page */

/**
 * dmu_batch_is_long() - should a batch end before its next block?
 * @space: of the key
 *
 * To be asked for each block of a run.
 */
bool dmu_batch_is_long(struct dmu_space *space)
{
	return in_batch(space) && space->batch_blocks++ >= DMU_LONG_BATCH;
}

/**
 * dmu_batch_flush() - let the workers begin with what there is of the batch
 * @space: of the key
 *
 * Before anything that may wait, for memory that its I/O may have to free: nobody
 * else sees to it that this I/O goes on.
 */
void dmu_batch_flush(struct dmu_space *space)
{
	if (!in_batch(space))
		return;
	if (space->batch_work)
		queue_work(space->wq, &space->work);
	if (space->batch_copies)
		queue_work(space->wq, &space->copy_work);
	space->batch_work = false;
	space->batch_copies = false;
}

/**
 * dmu_batch_end() - that was the last answer of the batch
 * @space: of the key
 */
void dmu_batch_end(struct dmu_space *space)
{
	dmu_batch_flush(space);
	if (!in_batch(space))
		return;
	/* The next one's is to begin with what this one has left. */
	smp_store_release(&space->batcher, NULL);
}

/*
 * All of them, be they exclusive: what there is may be for one of them only, and
 * only the peers know for which.
 */
static void wake_readers(struct dmu_space *space, __poll_t events)
{
	__wake_up(&space->readers, TASK_INTERRUPTIBLE, 0, poll_to_key(events));
}

/**
 * dmu_space_wake() - there is something to tell a daemon
 * @space: of the key
 *
 * Context: any.
 */
void dmu_space_wake(struct dmu_space *space)
{
	if (wq_has_sleeper(&space->readers))
		wake_readers(space, EPOLLIN | EPOLLRDNORM);
}

static void work_add(struct dmu_space *space, struct bio_list *to,
		     struct bio_list *bios)
{
	unsigned long irq;

	if (bio_list_empty(bios))
		return;
	spin_lock_irqsave(&space->work_lock, irq);
	bio_list_merge(to, bios);
	spin_unlock_irqrestore(&space->work_lock, irq);
	bio_list_init(bios);
	/* Though there be others: whose they are may be in a batch. */
	dmu_space_kick(space);
}

/**
 * dmu_space_issue() - let the worker submit a bio
 * @space: of the key
 * @bio: aimed at its device, and counted in its flight
 *
 * Context: any.
 */
void dmu_space_issue(struct dmu_space *space, struct bio *bio)
{
	unsigned long irq;

	spin_lock_irqsave(&space->work_lock, irq);
	bio_list_add(&space->issue, bio);
	spin_unlock_irqrestore(&space->work_lock, irq);
	dmu_space_kick(space);
}

/**
 * dmu_space_again_list() - let the worker map bios again
 * @space: of the key
 * @bios: from the slow path; empty after this
 *
 * Context: any.
 */
void dmu_space_again_list(struct dmu_space *space, struct bio_list *bios)
{
	work_add(space, &space->again, bios);
}

/**
 * dmu_space_again() - let the worker map a bio again
 * @space: of the key
 * @bio: from the slow path
 *
 * Context: any.
 */
void dmu_space_again(struct dmu_space *space, struct bio *bio)
{
	struct bio_list one = BIO_EMPTY_LIST;

	bio_list_add(&one, bio);
	work_add(space, &space->again, &one);
}

/**
 * dmu_space_done_list() - let the worker complete bios
 * @space: of the key
 * @bios: from the slow path; empty after this
 * @status: how they went
 *
 * Context: any.
 */
void dmu_space_done_list(struct dmu_space *space, struct bio_list *bios,
			 blk_status_t status)
{
	struct bio *bio;

	bio_list_for_each(bio, bios)
		bio->bi_status = status;
	work_add(space, &space->done, bios);
}

/**
 * dmu_space_done() - let the worker complete a bio
 * @space: of the key
 * @bio: from the slow path
 * @status: how it went
 *
 * Context: any.
 */
void dmu_space_done(struct dmu_space *space, struct bio *bio,
		    blk_status_t status)
{
	struct bio_list one = BIO_EMPTY_LIST;

	bio_list_add(&one, bio);
	dmu_space_done_list(space, &one, status);
}

/* A bio comes to the slow path anew; see __map_bio() in dm.c. */
static void map_again(struct bio *bio)
{
	dmu_bio_restore(bio);
	switch (dmu_map_slowly(dmu_bio(bio)->target, bio)) {
	case DM_MAPIO_REMAPPED:
		dm_submit_bio_remap(bio, NULL);
		break;
	case DM_MAPIO_KILL:
		bio_io_error(bio);
		break;
	case DM_MAPIO_REQUEUE:
		bio->bi_status = BLK_STS_DM_REQUEUE;
		bio_endio(bio);
		break;
	}
}

static void work_bios(struct dmu_space *space)
{
	struct bio_list issue, again, done;
	struct blk_plug plug;
	struct bio *bio;

	spin_lock_irq(&space->work_lock);
	issue = space->issue;
	again = space->again;
	done = space->done;
	bio_list_init(&space->issue);
	bio_list_init(&space->again);
	bio_list_init(&space->done);
	spin_unlock_irq(&space->work_lock);

	blk_start_plug(&plug);
	while ((bio = bio_list_pop(&issue)))
		dm_submit_bio_remap(bio, NULL);
	while ((bio = bio_list_pop(&again)))
		map_again(bio);
	blk_finish_plug(&plug);
	while ((bio = bio_list_pop(&done))) {
		if (dmu_bio(bio)->zeroes && !bio->bi_status)
			zero_fill_bio(bio);
		bio_endio(bio);
	}
}

/* I/O waits for this one: nothing that it calls may wait for I/O. */
static void space_work(struct work_struct *work)
{
	struct dmu_space *space = container_of(work, struct dmu_space, work);
	unsigned int noio = memalloc_noio_save();

	dmu_flight_run(&space->flight[WRITE]);
	dmu_flight_run(&space->flight[READ]);
	dmu_changes_despair(space);
	dmu_changes_drain(space);
	work_bios(space);
	dmu_requests_fund(space);
	dmu_remaps_trim(space, false);
	memalloc_noio_restore(noio);
}

static void space_copy_work(struct work_struct *work)
{
	unsigned int noio = memalloc_noio_save();

	dmu_copies_start(container_of(work, struct dmu_space, copy_work));
	memalloc_noio_restore(noio);
}

/* --- a space's life -------------------------------------------------------------- */

static void space_free(struct dmu_space *space)
{
	free_percpu(space->counters);
	kfree(space->key);
	kfree(space);
	if (atomic_dec_and_test(&nr_spaces))
		wake_up(&no_spaces);
}

static void space_release_work(struct work_struct *work)
{
	struct dmu_space *space = container_of(work, struct dmu_space,
					       release_work);

	dmu_shrink_stop(space);
	cancel_delayed_work_sync(&space->expiry);
	cancel_delayed_work_sync(&space->gather);
	dmu_flight_exit(&space->flight[WRITE]);
	dmu_flight_exit(&space->flight[READ]);
	/* Whoever said that an epoch has drained may be about to kick the worker. */
	rcu_barrier();
	dmu_buffers_exit(space);
	destroy_workqueue(space->wq);
	dm_kcopyd_client_destroy(space->kcopyd);
	dmu_remaps_exit(space);
	space_free(space);
}

static void space_release(struct kref *refs)
{
	struct dmu_space *space = container_of(refs, struct dmu_space, refs);

	queue_work(reaper, &space->release_work);
}

/**
 * dmu_space_put() - drop a reference
 * @space: may be freed, later
 *
 * Context: any.
 */
void dmu_space_put(struct dmu_space *space)
{
	kref_put(&space->refs, space_release);
}

static void space_init(struct dmu_space *space, unsigned int block_shift)
{
	space->block_shift = block_shift;
	kref_init(&space->refs);
	init_waitqueue_head(&space->readers);
	init_rwsem(&space->answers);
	mutex_init(&space->trimming);
	spin_lock_init(&space->lock);
	spin_lock_init(&space->targets_lock);
	spin_lock_init(&space->work_lock);
	INIT_LIST_HEAD(&space->starved);
	INIT_LIST_HEAD(&space->unread);
	INIT_LIST_HEAD(&space->copies);
	INIT_LIST_HEAD(&space->owing);
	INIT_LIST_HEAD(&space->barred);
	INIT_LIST_HEAD(&space->drains);
	INIT_LIST_HEAD(&space->discards);
	INIT_LIST_HEAD(&space->peers);
	INIT_LIST_HEAD(&space->targets);
	atomic_set(&space->copying, 0);
	space->absent_since = jiffies;
	INIT_WORK(&space->work, space_work);
	INIT_WORK(&space->copy_work, space_copy_work);
	INIT_DELAYED_WORK(&space->expiry, dmu_expiry_work);
	INIT_DELAYED_WORK(&space->gather, dmu_gather_work);
	INIT_WORK(&space->release_work, space_release_work);
}

static struct dmu_space *space_alloc(const char *key, unsigned int block_shift)
{
	struct dmu_space *space = kzalloc(sizeof(*space), GFP_KERNEL);

	if (!space)
		return NULL;
	space_init(space, block_shift);
	atomic_inc(&nr_spaces);
	space->key = kstrdup(key, GFP_KERNEL);
	space->counters = alloc_percpu(struct dmu_counters);
	if (space->key && space->counters)
		return space;
	space_free(space);
	return NULL;
}

/* All but its place in the list, and what daemons connect to. */
static struct dmu_space *space_make(const char *key, unsigned int block_shift)
{
	struct dmu_space *space = space_alloc(key, block_shift);
	int r = -ENOMEM;

	if (!space)
		return ERR_PTR(-ENOMEM);
	space->wq = alloc_workqueue("dm_userspace", WQ_MEM_RECLAIM, 0);
	if (!space->wq)
		goto bad_wq;
	space->kcopyd = dm_kcopyd_client_create(&dm_kcopyd_throttle);
	if (IS_ERR(space->kcopyd)) {
		r = PTR_ERR(space->kcopyd);
		goto bad_kcopyd;
	}
	r = dmu_buffers_init(space);
	if (r)
		goto bad_buffers;
	r = dmu_remaps_init(space);
	if (r)
		goto bad_remaps;
	r = dmu_flight_init(&space->flight[READ], space);
	if (r)
		goto bad_reads;
	r = dmu_flight_init(&space->flight[WRITE], space);
	if (r)
		goto bad_writes;
	r = dmu_shrink_start(space);
	if (r)
		goto bad_shrinker;
	return space;

bad_shrinker:
	dmu_flight_exit(&space->flight[WRITE]);
bad_writes:
	dmu_flight_exit(&space->flight[READ]);
bad_reads:
	dmu_remaps_exit(space);
bad_remaps:
	dmu_buffers_exit(space);
bad_buffers:
	dm_kcopyd_client_destroy(space->kcopyd);
bad_kcopyd:
	destroy_workqueue(space->wq);
bad_wq:
	space_free(space);
	return ERR_PTR(r);
}

static struct dmu_space *space_find(const char *key)
{
	struct dmu_space *space;

	list_for_each_entry(space, &dmu_spaces, node)
		if (!strcmp(space->key, key))
			return space;
	return NULL;
}

/* Those who are here learn that it is over. */
static void space_gone(struct dmu_space *space)
{
	spin_lock_irq(&space->lock);
	WRITE_ONCE(space->gone, true);
	spin_unlock_irq(&space->lock);
	wake_readers(space, EPOLLIN | EPOLLRDNORM | EPOLLHUP);
}

static void target_list(struct dmu_target *target, struct dmu_space *space)
{
	target->space = space;
	spin_lock_irq(&space->targets_lock);
	list_add_tail(&target->node, &space->targets);
	spin_unlock_irq(&space->targets_lock);
}

/*
 * A daemon may come as soon as there is something to connect to, and finds the target
 * then. It may have come even where that cannot be made after all.
 */
static int space_begin(struct dmu_target *target, const char *key,
		       unsigned int block_shift)
{
	struct dmu_space *space = space_make(key, block_shift);
	int r;

	if (IS_ERR(space))
		return PTR_ERR(space);
	target_list(target, space);
	r = dmu_transport->open(space);
	if (!r) {
		list_add(&space->node, &dmu_spaces);
		return 0;
	}
	spin_lock_irq(&space->targets_lock);
	list_del(&target->node);
	spin_unlock_irq(&space->targets_lock);
	space_gone(space);
	dmu_changes_end(space);
	dmu_space_put(space);
	return r;
}

/**
 * dmu_space_join() - let a target share the space of its key
 * @target: all but space and node is set; in the space after this
 * @key: names the space, which is made where there is none
 * @block_shift: sectors a block, as a power of two
 *
 * Context: may sleep.
 * Return: 0, -EEXIST where the key has another block size, or another errno.
 */
int dmu_space_join(struct dmu_target *target, const char *key,
		   unsigned int block_shift)
{
	struct dmu_space *space;
	unsigned int noio;
	int r = 0;

	/* Whoever waits for this lock may have to remove what memory waits for. */
	noio = memalloc_noio_save();
	mutex_lock(&dmu_spaces_lock);
	space = space_find(key);
	if (!space) {
		r = space_begin(target, key, block_shift);
	} else if (space->block_shift != block_shift) {
		r = -EEXIST;
	} else {
		kref_get(&space->refs);
		target_list(target, space);
	}
	mutex_unlock(&dmu_spaces_lock);
	memalloc_noio_restore(noio);
	return r;
}

/**
 * dmu_space_leave() - a target goes
 * @target: has no I/O and no copies; its devices are still open
 *
 * Context: may sleep.
 */
void dmu_space_leave(struct dmu_target *target)
{
	struct dmu_space *space = target->space;
	bool listed, last;

	mutex_lock(&dmu_spaces_lock);
	down_write(&space->answers);
	spin_lock_irq(&space->targets_lock);
	/* Else another table took its place: see dmu_tables_activate(). */
	listed = !list_empty(&target->node);
	list_del_init(&target->node);
	last = listed && list_empty(&space->targets);
	spin_unlock_irq(&space->targets_lock);
	if (listed && !last)
		dmu_tables_forget_end(target);
	up_write(&space->answers);
	if (last) {
		list_del(&space->node);
		space_gone(space);
	} else if (listed) {
		dmu_tables_forget_rest(target);
	}
	mutex_unlock(&dmu_spaces_lock);
	/*
	 * Nobody comes any more. To take a node away may need memory that a device which
	 * is suspended has to make room for, while its new table waits for the lock.
	 */
	if (last) {
		dmu_transport->close(space);
		dmu_changes_end(space);
	}
	dmu_space_put(space);
}

/**
 * dmu_space_count() - add up the counters of all processors
 * @space: of the key
 * @sum: gets them
 */
void dmu_space_count(struct dmu_space *space, struct dmu_counters *sum)
{
	int cpu;

	memset(sum, 0, sizeof(*sum));
	for_each_possible_cpu(cpu) {
		struct dmu_counters *c = per_cpu_ptr(space->counters, cpu);

		sum->hits += READ_ONCE(c->hits);
		sum->misses += READ_ONCE(c->misses);
		sum->evictions += READ_ONCE(c->evictions);
		sum->errors += READ_ONCE(c->errors);
	}
}
