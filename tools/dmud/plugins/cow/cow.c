// SPDX-License-Identifier: GPL-2.0-only
/*
 * The cow policy: a persistent writable snapshot of an origin device.
 *
 * Device 0 of the table is the origin and is only read. Device 1 is the store:
 * a block that is written for the first time gets a place there, the kernel
 * copies the block to it, and holds the write until the store's metadata name
 * the place durably.
 *
 * What is answered to a request
 * =============================
 *
 * The answer depends on how far the block has come (enum cow_state), and never
 * on whether it was asked for before:
 *
 * ========= ===== ================================================
 * absent    read  origin, no WRITE: a later write asks again
 * absent    write allot; place, WRITE | COPY | SYNC
 * allotted  any   place, WRITE | COPY | SYNC
 * filled    any   place, WRITE | SYNC
 * durable   any   place, WRITE
 * ========= ===== ================================================
 *
 * *Allotted*: the block has been answered for in this life, and no SYNC status
 * has come for it. Either the kernel has a mapping made by an earlier answer:
 * then the same place and permissions make it join what is under way, COPY or
 * no COPY, and nothing is copied twice. Or it has none, for the earlier answer
 * never took effect (refused, or too late: the id had timed out, and a SYNC
 * answer to nobody is refused): then nothing was ever copied, and without COPY
 * the block would hold whatever the place held before. So COPY is needed in
 * the one case and harmless in the other.
 *
 * *Filled*: the status has come. It is sent when the first I/O through the
 * mapping has come back, and no I/O uses a mapping before its copy has
 * succeeded: the place holds the block, and perhaps newer data than the origin
 * that a held write put there. Copying again could only take that away. SYNC
 * is still needed, as the next commit has not succeeded yet.
 *
 * *After a death* the kernel asks again (RD|WR) for blocks whose mapping was
 * not acknowledged, and no answer confirms that mapping: also one that names the
 * same place replaces it, is copied to where it says COPY, and has the held I/O
 * issued again. A new daemon finds the block durable: it names its place, without
 * SYNC and without COPY, and the held I/O completes once it has been written there
 * again. Or it finds it absent, and treats it like any other write: places that no
 * durable page names are free, as no answer takes effect before I/O of the dead
 * daemon's mappings has come back.
 *
 * A write is never answered without WRITE: I/O that waits on a request is
 * served by its answer even so, and would write to the origin.
 *
 * Ahead of demand
 * ===============
 *
 * Who reads one block after the other is told of the next ones before they are
 * asked for, of more each time: of absent ones that they are at the origin, of
 * durable ones at which places, as far as those follow each other. These are the
 * answers that a read would get, and they need no ack. Blocks in between, that are
 * neither, are asked for.
 *
 * Were all of them told, whoever has many reads under way would be past the last one
 * before this daemon hears of it, and would ask for each block of each read. So where
 * they are many one half-way is left out. When that is asked for, more are told, while
 * reads are not past the last one yet. (Linux does so with the pages that
 * it reads ahead: the folio with the flag for readahead starts the next.)
 *
 * What is not used
 * ================
 *
 * *A copy source of its own*: block n of the snapshot is block n of the origin, and
 * is copied from nowhere else. *Zero*: what is not in the store is what the origin
 * has there, which this daemon never reads, so of no block is it known that it is
 * zeroes. *Discards*: the kernel sends them to the store where the block has a place,
 * which is all that is wanted of them. The place stays the block's, since
 * without one the block would be the origin's again: see "Discards" in
 * Documentation/cow-format.rst.
 *
 * When a commit fails
 * ===================
 *
 * Nothing is acknowledged. A metadata write that failed is tried again with
 * every batch, and every RETRY_SECONDS where there is none (whoever waits for it
 * may send nothing more), into the slot that does not hold what is durable. A flush that
 * failed is not: the device may have dropped anything written before it, the
 * copied data too, and a second flush that succeeds would not bring that back.
 * Then this daemon commits nothing more, and the held writes wait for the next
 * one, which is asked for them again and gives them other places. Until either
 * is resolved, writes that need a new place fail: better an error that is seen
 * than an ever longer line of writes that hang. What is in the store is served
 * as ever.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "cow.h"

/* Reports that there is room for from the start. More of them means a commit first. */
#define FIRST_HELD	65536u
/* What has failed is tried again so often, though the kernel says nothing. */
#define RETRY_SECONDS	2
/* Blocks read one after the other before more are pushed, and the most of these. */
#define AHEAD_FROM	4u
#define AHEAD_MOST	8192u
/* Of so many one is left out. */
#define AHEAD_LEAVE	256u

/* Requests and commits */

static void say_broken(struct cow *c)
{
	if (!c->book.broken || c->said_broken)
		return;
	c->said_broken = true;
	c->log(LOG_CRIT, "store %s: a flush has failed, so nothing that was written since the one before can be relied upon: this daemon commits nothing more. Held writes wait for the next daemon, other writes to blocks not in the store fail. Restart it once the store works",
	       c->path);
}

static void acknowledge(struct cow *c)
{
	size_t i, kept = 0;

	for (i = 0; i < c->nr_held; i++)
		if (dmu_sync_done(c->dmu, c->held[i]))
			c->held[kept++] = c->held[i];
	c->nr_held = kept;
}

/* Make all filled places durable, and tell those who wait. */
static void commit(struct cow *c)
{
	int ret = cow_book_commit(&c->book);

	say_broken(c);
	if (ret && !c->commit_error && !c->book.broken)
		c->log(LOG_ERR, "store %s: metadata cannot be written: %s. Writes that wait for it are held, writes that need more room fail. It is tried again every %d seconds",
		       c->path, strerror(-ret), RETRY_SECONDS);
	if (!ret && c->commit_error)
		c->log(LOG_NOTICE, "store %s: metadata can be written again",
		       c->path);
	c->commit_error = ret;
	if (!ret)
		acknowledge(c);
}

static void say_refused(struct cow *c, int error)
{
	say_broken(c);
	if (error == c->allot_error)
		return;
	c->allot_error = error;
	if (error == -ENOSPC)
		c->log(LOG_ERR, "store %s is full (%ju blocks of %u bytes): writes to blocks that are not in it fail until it is grown",
		       c->path, (uintmax_t)c->book.places,
		       c->book.sb.geo.block_size);
	else if (error)
		c->log(LOG_ERR, "store %s: no place for a block: %s. Writes to blocks that are not in it fail",
		       c->path, strerror(-error));
}

static bool allot(struct cow *c, uint64_t block, uint64_t *place)
{
	int ret;

	if (c->commit_error && !c->tried) {
		c->tried = true;
		commit(c);
	}
	if (c->commit_error)
		return false;
	ret = cow_book_allot(&c->book, block, place);
	say_refused(c, ret);
	return !ret;
}

static void refuse(struct cow *c, const struct dmu_request *req)
{
	c->refused++;
	if (dmu_fail(c->dmu, req->id))
		c->log(LOG_ERR, "block %ju cannot be refused: %s",
		       (uintmax_t)req->block, dmu_strerror(c->dmu));
}

static void answer(struct cow *c, const struct dmu_request *req,
		   const struct dmu_mapping *m)
{
	if (!dmu_map(c->dmu, req->id, m))
		return;
	/* The block keeps its place: whoever asks next is answered again. */
	c->log(LOG_ERR, "block %ju cannot be mapped: %s",
	       (uintmax_t)req->block, dmu_strerror(c->dmu));
	refuse(c, req);
}

static struct dmu_mapping at_origin(const struct cow *c, uint64_t block)
{
	return (struct dmu_mapping){
		.block = block,
		.dst = c->dev[ORIGIN],
		.dst_sector = block * (c->book.sb.geo.block_size / 512),
	};
}

static struct dmu_mapping at_store(const struct cow *c, uint64_t block,
				   uint64_t place)
{
	uint32_t block_size = c->book.sb.geo.block_size;

	return (struct dmu_mapping){
		.block = block,
		.dst = c->dev[STORE],
		.dst_sector = cow_place_offset(place, block_size) / 512,
		.flags = DMU_MAP_WRITE,
	};
}

static void answer_store(struct cow *c, const struct dmu_request *req,
			 enum cow_state state, uint64_t place)
{
	struct dmu_mapping m = at_store(c, req->block, place);

	if (state != COW_DURABLE)
		m.flags |= DMU_MAP_SYNC;
	if (state == COW_ALLOTTED) {
		m.flags |= DMU_MAP_COPY;
		m.src = c->dev[ORIGIN];
	}
	answer(c, req, &m);
}

static void note_read(struct cow *c, uint64_t block)
{
	if (block < c->next_read && block >= c->next_read - c->nr_read) {
		/* Else it was asked for just before it was told. */
		if (block == c->left_out)
			c->read_on = true;
		return;
	}
	c->nr_read = block == c->next_read ? c->nr_read + 1 : 1;
	c->next_read = block + 1;
	c->read_on = true;
}

/* Where a read of the block would be sent, were it certain for ever. */
static bool find_read(const struct cow *c, uint64_t block, struct dmu_mapping *m)
{
	uint64_t place;

	if (block >= c->blocks)
		return false;
	switch (cow_book_find(&c->book, block, &place)) {
	case COW_ABSENT:
		*m = at_origin(c, block);
		return true;
	case COW_DURABLE:
		*m = at_store(c, block, place);
		return true;
	default:
		return false;
	}
}

static uint32_t sectors_of_block(const struct cow *c)
{
	return c->book.sb.geo.block_size / 512;
}

/* How many there are, from the first one on, that one mapping describes. */
static uint64_t count_like(const struct cow *c, const struct dmu_mapping *first,
			   uint64_t most)
{
	struct dmu_mapping m;
	uint64_t n = 1;

	while (n < most && find_read(c, first->block + n, &m) &&
	       m.dst == first->dst &&
	       m.dst_sector == first->dst_sector + n * sectors_of_block(c))
		n++;
	return n;
}

/* Push so many; where they are many, but for one. Returns how many are behind us. */
static uint64_t push_some(struct cow *c, struct dmu_mapping *m, uint64_t n)
{
	const uint64_t half = n < AHEAD_LEAVE ? n : n / 2;

	if (dmu_push_run(c->dmu, m, half))
		return 0;
	if (half == n)
		return n;
	m->block += half + 1;
	m->dst_sector += (half + 1) * sectors_of_block(c);
	if (dmu_push_run(c->dmu, m, n - half - 1))
		return half;
	c->left_out = m->block - 1;
	return n;
}

/* As many as have been read; it is no mistake if they are not taken. */
static void push_ahead(struct cow *c)
{
	uint64_t n = c->nr_read < AHEAD_MOST ? c->nr_read : AHEAD_MOST;
	struct dmu_mapping first;

	if (!c->read_on || c->nr_read < AHEAD_FROM || !dmu_has_runs(c->dmu) ||
	    !find_read(c, c->next_read, &first))
		return;
	n = push_some(c, &first, count_like(c, &first, n));
	c->next_read += n;
	c->nr_read += n;
}

static void cow_map(struct dmu *dmu, const struct dmu_request *req, void *ctx)
{
	struct cow *c = ctx;
	enum cow_state state;
	struct dmu_mapping m;
	uint64_t place;

	(void)dmu;
	if (req->block >= c->blocks) {
		refuse(c, req);
		return;
	}
	if (!req->write)
		note_read(c, req->block);
	state = cow_book_find(&c->book, req->block, &place);
	if (state == COW_ABSENT && !req->write) {
		m = at_origin(c, req->block);
		answer(c, req, &m);
		return;
	}
	if (state == COW_ABSENT) {
		if (!allot(c, req->block, &place)) {
			refuse(c, req);
			return;
		}
		state = COW_ALLOTTED;
	}
	answer_store(c, req, state, place);
}

/* There was no memory for what was told ahead: the reader begins anew. */
static void cow_refused(struct dmu *dmu, uint32_t id, uint64_t block, int error,
			void *ctx)
{
	struct cow *c = ctx;

	(void)dmu;
	(void)block;
	if (!id && error == -ENOMEM)
		c->nr_read = 0;
}

/*
 * Room for one more report. A commit makes some, unless it fails: what was answered
 * before it began to is reported all the same.
 */
static int make_room(struct cow *c)
{
	uint32_t *held;

	if (c->nr_held < c->held_room)
		return 0;
	commit(c);
	if (c->nr_held < c->held_room)
		return 0;
	held = reallocarray(c->held, 2 * c->held_room, sizeof(*held));
	if (!held)
		return -ENOMEM;
	c->held = held;
	c->held_room *= 2;
	return 0;
}

/*
 * One mapping may be reported under several ids (requests that joined it), and
 * some ids may never be reported. So each report is taken for what it says:
 * this block's data is there, and this id waits.
 */
static void cow_sync(struct dmu *dmu, uint32_t id, uint64_t block, void *ctx)
{
	struct cow *c = ctx;
	uint64_t place;

	switch (cow_book_find(&c->book, block, &place)) {
	case COW_DURABLE:
		if (!dmu_sync_done(dmu, id))
			return;
		break; /* with the next batch, then */
	case COW_ALLOTTED:
	case COW_FILLED:
		cow_book_filled(&c->book, place);
		break;
	case COW_ABSENT:
		c->log(LOG_ERR, "block %ju was reported as written, but has no place: not acknowledged",
		       (uintmax_t)block);
		return;
	}
	if (!make_room(c))
		c->held[c->nr_held++] = id;
	else
		c->log(LOG_ERR, "store %s: no memory for one more held write; that of block %ju stays held until the daemon is restarted",
		       c->path, (uintmax_t)block);
}

static void cow_batch(struct dmu *dmu, void *ctx)
{
	struct cow *c = ctx;

	(void)dmu;
	if (!c->tried || !c->commit_error)
		commit(c);
	c->tried = false;
	push_ahead(c);
	c->read_on = false;
}

/* Whoever is held must not wait for others' I/O, which may never come. */
static int cow_patience(void *state)
{
	const struct cow *c = state;

	if (c->book.broken || (!c->nr_held && !c->commit_error))
		return -1;
	return RETRY_SECONDS * 1000;
}

/* Opening and closing */

static void destroy(struct cow *c)
{
	if (c->fd >= 0)
		close(c->fd);
	free(c->held);
	free(c);
}

static struct cow *create(struct dmud_env *env)
{
	struct cow *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->dmu = env->dmu;
	c->log = env->log;
	c->fd = -1;
	c->held_room = FIRST_HELD;
	c->held = calloc(c->held_room, sizeof(*c->held));
	if (c->held)
		return c;
	free(c);
	return NULL;
}

static int cow_open(struct dmud_env *env, char *const opts[], void **state)
{
	struct cow *c = create(env);
	int ret;

	if (!c) {
		snprintf(env->error, sizeof(env->error), "out of memory");
		return -ENOMEM;
	}
	ret = cow_attach(c, env, opts);
	if (ret) {
		destroy(c);
		return ret;
	}
	c->log(LOG_INFO, "store %s: %ju of %ju blocks of %u bytes in use",
	       c->path, (uintmax_t)c->book.entries,
	       (uintmax_t)c->book.places, c->book.sb.geo.block_size);
	if (c->book.bad_slots)
		c->log(LOG_NOTICE, "store %s: %ju metadata pages had a bad copy beside a good one, as after a crash",
		       c->path, (uintmax_t)c->book.bad_slots);
	if (c->book.unreadable && !c->book.sb.clean)
		c->log(LOG_ERR, "store %s: %ju of these copies cannot be read. If no power failure has made them so, blocks that were written last may be those of the origin again",
		       c->path, (uintmax_t)c->book.unreadable);
	*state = c;
	return 0;
}

/*
 * Only the store can grow. This is also the moment to try again what failed,
 * for whoever has mended it.
 */
static int cow_grow(void *state, struct dmud_env *env)
{
	struct cow *c = state;
	uint64_t before = c->book.places;
	uint64_t sectors = c->book.sb.geo.mapped_sectors;
	char err[COW_ERROR_SIZE];
	int ret = cow_book_grow(&c->book);

	if (ret)
		return cow_refuse_store(c, env, strerror(-ret), ret);
	if (c->book.places != before)
		c->log(LOG_NOTICE, "store %s: room for %ju blocks of %u bytes now, %ju before",
		       c->path, (uintmax_t)c->book.places,
		       c->book.sb.geo.block_size, (uintmax_t)before);
	commit(c);
	if (c->commit_error) {
		if (c->book.broken)
			cow_error(err, "has failed a flush: this daemon writes no more metadata, a new one will");
		else
			cow_error(err, "cannot have its metadata written: %s",
				  strerror(-c->commit_error));
		return cow_refuse_store(c, env, err, c->commit_error);
	}
	if (dmu_sectors(env->dmu) == sectors)
		return 0;
	cow_error(err, "was made for a device of %ju sectors, not %ju",
		  (uintmax_t)sectors, (uintmax_t)dmu_sectors(env->dmu));
	return cow_refuse_store(c, env, err, -EINVAL);
}

static void add_number(struct json_object *obj, const char *name, uint64_t n)
{
	json_object_object_add(obj, name, json_object_new_uint64(n));
}

static void cow_status(void *state, struct json_object *obj)
{
	const struct cow *c = state;
	const struct cow_book *b = &c->book;

	json_object_object_add(obj, "store", json_object_new_string(c->path));
	add_number(obj, "block_size", b->sb.geo.block_size);
	add_number(obj, "store_bytes", b->store_bytes);
	add_number(obj, "blocks_total", b->places);
	add_number(obj, "blocks_used", b->allotted);
	add_number(obj, "blocks_committed", b->entries);
	add_number(obj, "commits", b->commits);
	add_number(obj, "writes_held", c->nr_held);
	add_number(obj, "writes_refused", c->refused);
	add_number(obj, "memory_bytes", cow_book_memory(b) + sizeof(*c) -
					sizeof(*b) +
					c->held_room * sizeof(*c->held));
	add_number(obj, "bad_slots", b->bad_slots);
	json_object_object_add(obj, "full",
			       json_object_new_boolean(b->allotted >=
						       b->places));
	json_object_object_add(obj, "failing",
			       json_object_new_boolean(c->commit_error ||
						       b->broken));
}

static void cow_close(void *state)
{
	struct cow *c = state;

	cow_book_close(&c->book);
	destroy(c);
}

/* The one symbol that leaves the shared object. */
__attribute__((visibility("default")))
const struct dmud_policy dmud_policy = {
	.abi = DMUD_POLICY_ABI,
	.name = "cow",
	.summary = "a persistent writable snapshot: device 0 is the origin, device 1 the store",
	.options =
		"format=blank|no|yes|force  make a new store of a device that is blank (the\n"
		"                           default), of none, of one that holds something\n"
		"                           else, or even of a damaged cow store; a whole\n"
		"                           cow store is never formatted again\n"
		"origin=check|accept|ignore refuse an origin whose contents are not those that\n"
		"                           the store was made for (the default); say that it\n"
		"                           goes with this one from now on; or do not look\n"
		"store-path=PATH            node of device 1, where /dev has it elsewhere\n",
	.open = cow_open,
	.ops = {
		.map = cow_map,
		.sync = cow_sync,
		.batch = cow_batch,
		.refused = cow_refused,
	},
	.grow = cow_grow,
	.status = cow_status,
	.close = cow_close,
	.patience = cow_patience,
};
