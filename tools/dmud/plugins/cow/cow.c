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
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "book.h"
#include "device.h"
#include "policy.h"

/* Reports that there is room for from the start. More of them means a commit first. */
#define FIRST_HELD	65536u
/* What has failed is tried again so often, though the kernel says nothing. */
#define RETRY_SECONDS	2
/* Blocks read one after the other before more are pushed, and the most of these. */
#define AHEAD_FROM	4u
#define AHEAD_MOST	1024u

enum {
	ORIGIN,
	STORE,
	NR_DEVICES,
};

enum format_choice {
	FORMAT_BLANK,
	FORMAT_NEVER,
	FORMAT_FOREIGN,
	FORMAT_DAMAGED,
};

/**
 * struct cow - a snapshot that is being served
 * @dmu: the connection
 * @log: dmud's
 * @book: which block is where
 * @blocks: of the mapped device that the store was made for
 * @dev: origin and store
 * @fd: the store
 * @format: which contents may be overwritten
 * @path: the store's node, for messages
 * @allot_error: why the last write that needed a place got none, or 0; said
 *	in the log when it changes
 * @commit_error: why the last commit failed, or 0; likewise
 * @tried: a failing commit has been tried again in this batch
 * @said_broken: the log says that a flush has failed
 * @refused: writes that were failed
 * @next_read: the block that goes on where reads have got to, pushed ones included
 * @nr_read: how many lie before it, one after the other
 * @read_on: so it was in this batch
 * @nr_held: used entries of @held
 * @held_room: all entries of it
 * @held: ids of SYNC reports that the next commit will acknowledge
 */
struct cow {
	struct dmu *dmu;
	void (*log)(int priority, const char *fmt, ...)
		__attribute__((format(printf, 2, 3)));
	struct cow_book book;
	uint64_t blocks;
	dev_t dev[NR_DEVICES];
	int fd;
	enum format_choice format;
	char path[256];
	int allot_error;
	int commit_error;
	bool tried;
	bool said_broken;
	uint64_t refused;
	uint64_t next_read;
	uint64_t nr_read;
	bool read_on;
	size_t nr_held;
	size_t held_room;
	uint32_t *held;
};

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
	/* Asked for just before it was told. */
	if (block < c->next_read && block >= c->next_read - c->nr_read)
		return;
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

/* As many as have been read; it is no mistake if they are not taken. */
static void push_ahead(struct cow *c)
{
	const uint32_t sectors = c->book.sb.geo.block_size / 512;
	struct dmu_mapping first, m;
	uint64_t most = c->nr_read < AHEAD_MOST ? c->nr_read : AHEAD_MOST;
	uint64_t n = 0;

	if (!c->read_on || c->nr_read < AHEAD_FROM || !dmu_has_runs(c->dmu) ||
	    !find_read(c, c->next_read, &first))
		return;
	do {
		n++;
	} while (n < most && find_read(c, c->next_read + n, &m) &&
		 m.dst == first.dst &&
		 m.dst_sector == first.dst_sector + n * sectors);
	if (dmu_push_run(c->dmu, &first, n))
		return;
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

static int parse_option(struct cow *c, struct dmud_env *env, const char *opt)
{
	static const char *const choices[] = {
		[FORMAT_BLANK] = "format=blank",
		[FORMAT_NEVER] = "format=no",
		[FORMAT_FOREIGN] = "format=yes",
		[FORMAT_DAMAGED] = "format=force",
	};
	static const char path[] = "store-path=";
	size_t i;

	for (i = 0; i < sizeof(choices) / sizeof(*choices); i++) {
		if (!strcmp(opt, choices[i])) {
			c->format = (enum format_choice)i;
			return 0;
		}
	}
	if (!strncmp(opt, path, strlen(path)) &&
	    strlen(opt) - strlen(path) < sizeof(c->path)) {
		strcpy(c->path, opt + strlen(path));
		return 0;
	}
	snprintf(env->error, sizeof(env->error),
		 "cow: no such option, or no such value: %.100s", opt);
	return -EINVAL;
}

/* The subject of a sentence that the format or the book has left. */
static int refuse_store(const struct cow *c, struct dmud_env *env,
			const char *sentence, int ret)
{
	snprintf(env->error, sizeof(env->error), "the store %.50s %.190s",
		 c->path, sentence);
	return ret;
}

static int find_devices(struct cow *c, struct dmud_env *env,
			struct cow_geometry *geo)
{
	unsigned int i, n = dmu_nr_devices(env->dmu);
	int ret;

	if (n != NR_DEVICES) {
		snprintf(env->error, sizeof(env->error),
			 "cow needs two devices, the origin and the store; the table names %u",
			 n);
		return -EINVAL;
	}
	for (i = 0; i < NR_DEVICES; i++)
		c->dev[i] = dmu_device(env->dmu, i);
	if (c->dev[ORIGIN] == c->dev[STORE]) {
		snprintf(env->error, sizeof(env->error),
			 "the origin and the store are the same device");
		return -EINVAL;
	}
	geo->block_size = dmu_block_size(env->dmu);
	geo->mapped_sectors = dmu_sectors(env->dmu);
	ret = dmu_device_sectors(env->dmu, ORIGIN, &geo->origin_sectors);
	if (ret) {
		snprintf(env->error, sizeof(env->error),
			 "the size of the origin cannot be found: %s",
			 dmu_strerror(env->dmu));
		return ret;
	}
	if (geo->mapped_sectors <= geo->origin_sectors)
		return 0;
	snprintf(env->error, sizeof(env->error),
		 "the device has %ju sectors, its origin only %ju",
		 (uintmax_t)geo->mapped_sectors,
		 (uintmax_t)geo->origin_sectors);
	return -EINVAL;
}

/*
 * Not O_EXCL: the table holds the device already. A store-path= is trusted no
 * further than its device number.
 */
static int open_store(struct cow *c, struct dmud_env *env)
{
	char err[COW_ERROR_SIZE];
	struct stat st;
	int ret = 0;

	if (!c->path[0])
		ret = cow_device_path(c->dev[STORE], c->path,
				      sizeof(c->path));
	if (ret) {
		snprintf(env->error, sizeof(env->error),
			 "the node of the store cannot be found: %s",
			 strerror(-ret));
		return ret;
	}
	c->fd = open(c->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (c->fd < 0 || fstat(c->fd, &st)) {
		ret = -errno;
		cow_error(err, "cannot be opened: %s", strerror(-ret));
		return refuse_store(c, env, err, ret);
	}
	if (st.st_rdev != c->dev[STORE])
		return refuse_store(c, env,
				    "is not the device that the table names",
				    -ENODEV);
	ret = cow_store_lock(c->fd, err);
	return ret ? refuse_store(c, env, err, ret) : 0;
}

/*
 * A cow store that is whole is never formatted here, whatever the options: a
 * daemon is started again and again with the same ones.
 */
static int may_format(const struct cow *c, int content)
{
	switch (content) {
	case COW_BLANK:
		return c->format != FORMAT_NEVER;
	case COW_FOREIGN:
		return c->format == FORMAT_FOREIGN ||
		       c->format == FORMAT_DAMAGED;
	case COW_UNUSABLE:
		return c->format == FORMAT_DAMAGED;
	default:
		return false;
	}
}

static int read_store(struct cow *c, struct dmud_env *env,
		      const struct cow_geometry *geo)
{
	char err[COW_ERROR_SIZE] = "is blank, and format=no forbids to make a cow store of it";
	struct cow_super sb;
	int ret = cow_store_probe(c->fd, &sb, err);

	if (may_format(c, ret)) {
		ret = cow_store_format(c->fd, geo, err);
		if (!ret)
			c->log(LOG_NOTICE, "store %s: formatted, for blocks of %u bytes",
			       c->path, geo->block_size);
	} else if (ret != COW_STORE && ret >= 0) {
		ret = -EINVAL;
	}
	if (ret >= 0)
		ret = cow_book_open(&c->book, c->fd, geo, err);
	return ret ? refuse_store(c, env, err, ret) : 0;
}

static int attach(struct cow *c, struct dmud_env *env, char *const opts[])
{
	struct cow_geometry geo;
	int ret = 0;

	for (; opts && *opts && !ret; opts++)
		ret = parse_option(c, env, *opts);
	if (!ret)
		ret = find_devices(c, env, &geo);
	if (!ret)
		ret = open_store(c, env);
	if (!ret)
		ret = read_store(c, env, &geo);
	if (!ret)
		c->blocks = cow_geometry_blocks(&geo);
	return ret;
}

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
	ret = attach(c, env, opts);
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
		return refuse_store(c, env, strerror(-ret), ret);
	if (c->book.places != before)
		c->log(LOG_NOTICE, "store %s: room for %ju blocks of %u bytes now, %ju before",
		       c->path, (uintmax_t)c->book.places,
		       c->book.sb.geo.block_size, (uintmax_t)before);
	commit(c);
	if (dmu_sectors(env->dmu) == sectors)
		return 0;
	cow_error(err, "was made for a device of %ju sectors, not %ju",
		  (uintmax_t)sectors, (uintmax_t)dmu_sectors(env->dmu));
	return refuse_store(c, env, err, -EINVAL);
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
		"store-path=PATH            node of device 1, where /dev has it elsewhere\n",
	.open = cow_open,
	.ops = {
		.map = cow_map,
		.sync = cow_sync,
		.batch = cow_batch,
	},
	.grow = cow_grow,
	.status = cow_status,
	.close = cow_close,
	.patience = cow_patience,
};
