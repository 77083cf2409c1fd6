// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies of small blocks, by way of buffers that are used again.
 *
 * kcopyd takes new pages for each copy, which the kernel clears before it gets them
 * and takes back afterwards: of 64 KiB that is more than the copy itself. So blocks
 * of up to 64 KiB are read into a buffer and written from there, as kcopyd would do
 * it. Where there is no buffer, or copies are to be throttled, they are left to
 * kcopyd, which gets on whatever happens; and buffers are kept for as long as
 * copies go on, and no longer than a second.
 */
#include "dm-user.h"
#include <linux/dm-io.h>
#include <linux/module.h>
#include <linux/slab.h>

#define DMU_BUFFER_SIZE SZ_64K /* at most */
#define DMU_BUFFER_LIFE HZ

static unsigned int copy_buffers = 32;
module_param(copy_buffers, uint, 0644);
MODULE_PARM_DESC(copy_buffers,
		 "Buffers for copies of each key, of a block of up to 64 KiB each; 0: leave all copies to kcopyd");

/**
 * struct dmu_buffer - a copy's data, and its state
 * @next: in space->buffers, while it is not in use
 * @space: of the key
 * @change: whose copy it is
 * @to: where it goes
 * @work: goes on when a step is over
 * @written: the step is the second
 * @error: of the step, as of dm_io()
 * @pages: of a block
 */
struct dmu_buffer {
	struct dmu_buffer *next;
	struct dmu_space *space;
	struct dmu_change *change;
	struct dm_io_region to;
	struct work_struct work;
	bool written;
	unsigned long error;
	struct page_list pages[];
};

static void buffer_free(struct dmu_buffer *buffer)
{
	struct page_list *pl;

	for (pl = buffer->pages; pl && pl->page; pl = pl->next)
		__free_page(pl->page);
	kfree(buffer);
}

static void buffer_work(struct work_struct *work);

static struct dmu_buffer *buffer_make(struct dmu_space *space)
{
	const gfp_t gfp = GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN;
	size_t size = dmu_block_sectors(space) << SECTOR_SHIFT;
	unsigned int nr = DIV_ROUND_UP(size, PAGE_SIZE), i;
	struct dmu_buffer *buffer;

	buffer = kzalloc(struct_size(buffer, pages, nr), gfp);
	if (!buffer)
		return NULL;
	buffer->space = space;
	INIT_WORK(&buffer->work, buffer_work);
	for (i = 0; i < nr; i++) {
		if (i)
			buffer->pages[i - 1].next = &buffer->pages[i];
		buffer->pages[i].page = alloc_page(gfp);
		if (!buffer->pages[i].page) {
			buffer_free(buffer);
			return NULL;
		}
	}
	return buffer;
}

static struct dmu_buffer *buffer_take(struct dmu_space *space)
{
	struct dmu_buffer *buffer;
	bool make = false;

	spin_lock_irq(&space->lock);
	buffer = space->buffers;
	if (buffer)
		space->buffers = buffer->next;
	else
		make = space->nr_buffers < READ_ONCE(copy_buffers);
	space->nr_buffers += make;
	spin_unlock_irq(&space->lock);
	if (!make)
		return buffer;
	buffer = buffer_make(space);
	if (!buffer) {
		spin_lock_irq(&space->lock);
		space->nr_buffers--;
		spin_unlock_irq(&space->lock);
	}
	return buffer;
}

static void buffer_give_back(struct dmu_buffer *buffer)
{
	struct dmu_space *space = buffer->space;

	spin_lock_irq(&space->lock);
	buffer->next = space->buffers;
	space->buffers = buffer;
	spin_unlock_irq(&space->lock);
	queue_delayed_work(space->wq, &space->buffer_trim, DMU_BUFFER_LIFE);
}

/* All that are not in use, once a second: who copies on makes new ones. */
static void buffers_trim(struct work_struct *work)
{
	struct dmu_space *space = container_of(to_delayed_work(work),
					       struct dmu_space, buffer_trim);
	struct dmu_buffer *buffer, *next;

	spin_lock_irq(&space->lock);
	buffer = space->buffers;
	space->buffers = NULL;
	for (next = buffer; next; next = next->next)
		space->nr_buffers--;
	spin_unlock_irq(&space->lock);
	for (; buffer; buffer = next) {
		next = buffer->next;
		buffer_free(buffer);
	}
}

/* Context: any; a step is over. */
static void step_over(unsigned long error, void *context)
{
	struct dmu_buffer *buffer = context;

	buffer->error = error;
	queue_work(buffer->space->wq, &buffer->work);
}

static void step(struct dmu_buffer *buffer, enum req_op op,
		 struct dm_io_region *region)
{
	struct dm_io_request request = {
		.bi_opf = op,
		.mem = { .type = DM_IO_PAGE_LIST, .ptr.pl = buffer->pages },
		.notify = { .fn = step_over, .context = buffer },
		.client = buffer->space->io,
	};

	if (dm_io(&request, 1, region, NULL, IOPRIO_DEFAULT))
		step_over(1, buffer);
}

static void buffer_work(struct work_struct *work)
{
	struct dmu_buffer *buffer = container_of(work, struct dmu_buffer, work);
	struct dmu_change *change = buffer->change;
	unsigned long error = buffer->error;
	bool written = buffer->written;

	if (!written && !error) {
		buffer->written = true;
		step(buffer, REQ_OP_WRITE, &buffer->to);
		return;
	}
	/* Before the copy is over: nothing holds the space after that. */
	buffer_give_back(buffer);
	dmu_copy_over(!written && error, written ? error : 0, change);
}

/**
 * dmu_buffer_copy() - make a copy by way of a buffer
 * @change: whose copy it is; dmu_copy_over() will be called for it
 * @from: what to copy
 * @to: as much
 *
 * Context: process; may sleep.
 * Return: false where there is no buffer for it: nothing has been done.
 */
bool dmu_buffer_copy(struct dmu_change *change, struct dm_io_region *from,
		     const struct dm_io_region *to)
{
	struct dmu_space *space = change->space;
	struct dmu_buffer *buffer;

	if (dmu_block_sectors(space) > DMU_BUFFER_SIZE >> SECTOR_SHIFT ||
	    dmu_copies_throttled() || !READ_ONCE(copy_buffers))
		return false;
	buffer = buffer_take(space);
	if (!buffer)
		return false;
	buffer->change = change;
	buffer->to = *to;
	buffer->written = false;
	step(buffer, REQ_OP_READ, from);
	return true;
}

/**
 * dmu_buffers_init() - make what buffers need
 * @space: of the key
 *
 * Context: may sleep.
 * Return: 0 or a negative errno, with nothing to undo.
 */
int dmu_buffers_init(struct dmu_space *space)
{
	INIT_DELAYED_WORK(&space->buffer_trim, buffers_trim);
	space->io = dm_io_client_create();
	return PTR_ERR_OR_ZERO(space->io);
}

/**
 * dmu_buffers_exit() - free all buffers
 * @space: of the key; no copy is under way, and its workqueue is still there
 *
 * Context: may sleep.
 */
void dmu_buffers_exit(struct dmu_space *space)
{
	/* The work that ended the last copy may be about to queue this. */
	flush_workqueue(space->wq);
	cancel_delayed_work_sync(&space->buffer_trim);
	buffers_trim(&space->buffer_trim.work);
	dm_io_client_destroy(space->io);
}
