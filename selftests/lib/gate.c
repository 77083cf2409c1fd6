// SPDX-License-Identifier: GPL-2.0-only
/* Gates: devices that hold or fail I/O on demand, and a fixture that has them. */
#define _GNU_SOURCE
#include "gate.h"
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

/* Let it be made of these lines from now on; what it holds goes on to them. */
static void gate_become(const struct dmt_gate *gate,
			const struct dmt_line *lines, unsigned int nr)
{
	if (dmt_dm_load_lines(gate->name, lines, nr, false) ||
	    dmt_dm_resume(gate->name))
		errx(1, "cannot change the gate %s", gate->name);
}

/**
 * dmt_gate_mend() - let I/O pass, also after dmt_gate_break()
 * @gate: in any state
 */
void dmt_gate_mend(const struct dmt_gate *gate)
{
	char params[64];
	struct dmt_line line = { 0, gate->sectors, "linear", params };

	snprintf(params, sizeof(params), "%u:%u 0", major(gate->behind),
		 minor(gate->behind));
	gate_become(gate, &line, 1);
}

/**
 * dmt_gate_make() - put a gate in front of a disk
 * @gate: gets it
 * @name: of the new device
 * @disk: its number becomes that of the gate
 */
void dmt_gate_make(struct dmt_gate *gate, const char *name,
		   struct dmt_disk *disk)
{
	struct stat st;
	int fd;

	snprintf(gate->name, sizeof(gate->name), "%s", name);
	gate->behind = disk->dev;
	gate->sectors = disk->bytes / 512;
	if (dmt_dm_create(gate->name))
		errx(1, "cannot make the gate %s", gate->name);
	dmt_gate_mend(gate);
	fd = dmt_dm_open(gate->name, O_RDONLY);
	if (fd < 0 || fstat(fd, &st))
		err(1, "%s", gate->name);
	close(fd);
	disk->dev = st.st_rdev;
}

/**
 * dmt_gate_remove() - take a gate away
 * @gate: nobody uses it any more; or all zero
 */
void dmt_gate_remove(struct dmt_gate *gate)
{
	if (gate->sectors && dmt_dm_remove(gate->name))
		warnx("cannot remove the gate %s", gate->name);
	memset(gate, 0, sizeof(*gate));
}

/**
 * dmt_gate_shut() - hold the I/O that comes from now on
 * @gate: what has passed it comes back before this returns
 */
void dmt_gate_shut(const struct dmt_gate *gate)
{
	if (dmt_dm_suspend(gate->name, false))
		errx(1, "cannot shut the gate %s", gate->name);
}

/**
 * dmt_gate_open() - let what is held, and what comes, pass
 * @gate: shut
 */
void dmt_gate_open(const struct dmt_gate *gate)
{
	if (dmt_dm_resume(gate->name))
		errx(1, "cannot open the gate %s", gate->name);
}

/**
 * dmt_gate_break() - fail what is held, and what comes
 * @gate: open or shut
 */
void dmt_gate_break(const struct dmt_gate *gate)
{
	struct dmt_line line = { 0, gate->sectors, "error", "" };

	gate_become(gate, &line, 1);
}

/**
 * dmt_gate_break_block() - fail what is held, or comes, for one block
 * @gate: open or shut
 * @block: of DMT_BLOCK bytes
 */
void dmt_gate_break_block(const struct dmt_gate *gate, uint64_t block)
{
	uint64_t from = block * DMT_SECTORS, to = from + DMT_SECTORS;
	char before[64], behind[64];
	struct dmt_line lines[3];
	unsigned int nr = 0;

	snprintf(before, sizeof(before), "%u:%u 0", major(gate->behind),
		 minor(gate->behind));
	snprintf(behind, sizeof(behind), "%u:%u %llu", major(gate->behind),
		 minor(gate->behind), (unsigned long long)to);
	if (from)
		lines[nr++] = (struct dmt_line){ 0, from, "linear", before };
	lines[nr++] = (struct dmt_line){ from, DMT_SECTORS, "error", "" };
	if (to < gate->sectors)
		lines[nr++] = (struct dmt_line){ to, gate->sectors - to,
						 "linear", behind };
	gate_become(gate, lines, nr);
}

/**
 * dmt_gate_break_writes() - fail writes and flushes, and let reads pass
 * @gate: open or shut
 */
void dmt_gate_break_writes(const struct dmt_gate *gate)
{
	char params[64];
	struct dmt_line line = { 0, gate->sectors, "flakey", params };

	snprintf(params, sizeof(params), "%u:%u 0 0 1 1 error_writes",
		 major(gate->behind), minor(gate->behind));
	gate_become(gate, &line, 1);
}

/**
 * dmt_gate_refuse_discards() - let all but discards pass
 * @gate: open or shut
 *
 * The origin of snapshots takes none, and has no snapshots here.
 */
void dmt_gate_refuse_discards(const struct dmt_gate *gate)
{
	char params[64];
	struct dmt_line line = { 0, gate->sectors, "snapshot-origin", params };

	snprintf(params, sizeof(params), "%u:%u", major(gate->behind),
		 minor(gate->behind));
	gate_become(gate, &line, 1);
}

/**
 * dmt_gate_dust() - let single blocks be bad to read
 * @gate: open or shut
 *
 * Which ones, of DMT_BLOCK bytes, and from when on: messages of dm-dust say so.
 *
 * Return: false where the kernel has no dm-dust.
 */
bool dmt_gate_dust(const struct dmt_gate *gate)
{
	char params[64];
	struct dmt_line line = { 0, gate->sectors, "dust", params };

	snprintf(params, sizeof(params), "%u:%u 0 %u", major(gate->behind),
		 minor(gate->behind), DMT_BLOCK);
	return !dmt_dm_load_lines(gate->name, &line, 1, false) &&
	       !dmt_dm_resume(gate->name);
}

/**
 * dmt_gate_delay() - let all pass a little later
 * @gate: open or shut
 * @ms: how much later
 */
void dmt_gate_delay(const struct dmt_gate *gate, unsigned int ms)
{
	char params[64];
	struct dmt_line line = { 0, gate->sectors, "delay", params };

	snprintf(params, sizeof(params), "%u:%u 0 %u", major(gate->behind),
		 minor(gate->behind), ms);
	gate_become(gate, &line, 1);
}

/* --- what tests of this kind say often ------------------------------------------- */

/* Block @block of the origin is to be copied to place @place of the store. */
struct dmt_map dmt_cow(const struct dmt *t, uint64_t block, uint64_t place,
		       uint32_t flags)
{
	return (struct dmt_map){ .block = block, .to = place, .dst = &t->store,
				 .src = &t->origin,
				 .flags = flags | DMU_FLAG_COPY_FIRST };
}

/* Block @block lives at place @place of a disk, as it is. */
struct dmt_map dmt_plain(const struct dmt_disk *disk, uint64_t block,
			 uint64_t place, uint32_t flags)
{
	return (struct dmt_map){ .block = block, .to = place, .dst = disk,
				 .flags = flags };
}

/* Begin to read a block; the mapped device has seen it when this returns. */
struct dmt_io *dmt_begin_read(const struct dmt *t, uint64_t block)
{
	return dmt_io_now(t->fd, DMT_READ, block * DMT_BLOCK, DMT_BLOCK, 0);
}

/* Begin to write a block, likewise. */
struct dmt_io *dmt_begin_write(const struct dmt *t, uint64_t block, int seed)
{
	return dmt_io_now(t->fd, DMT_WRITE, block * DMT_BLOCK, DMT_BLOCK, seed);
}

/* --- parts of blocks ----------------------------------------------------------------- */

static void mixed(uint8_t *buf, uint64_t block, int seed, int part)
{
	dmt_pattern(buf, DMT_BLOCK, block, seed);
	if (part != DMT_NO_PART)
		dmt_pattern(buf + DMT_PART, DMT_PART, block, part);
}

/* Begin to write a part of a block. */
struct dmt_io *dmt_write_part(int fd, uint64_t block, int seed)
{
	return dmt_io_now(fd, DMT_WRITE, block * DMT_BLOCK + DMT_PART, DMT_PART,
			  seed);
}

/**
 * dmt_place_has() - does a place hold what a block should?
 * @disk: looked at from behind
 * @place: block of @disk
 * @block: number in the pattern
 * @seed: version of the block
 * @part: version of the part, or DMT_NO_PART
 */
bool dmt_place_has(const struct dmt_disk *disk, uint64_t place, uint64_t block,
		   int seed, int part)
{
	uint8_t want[DMT_BLOCK], got[DMT_BLOCK];

	mixed(want, block, seed, part);
	if (pread(disk->fd, got, sizeof(got), (off_t)(place * DMT_BLOCK)) !=
	    sizeof(got))
		err(1, "reading behind %s", disk->name);
	return !memcmp(want, got, sizeof(got));
}

/* Put what a block should hold in a place, from behind. */
void dmt_place_fill(const struct dmt_disk *disk, uint64_t place,
		    uint64_t block, int seed)
{
	uint8_t buf[DMT_BLOCK];

	dmt_pattern(buf, sizeof(buf), block, seed);
	if (pwrite(disk->fd, buf, sizeof(buf), (off_t)(place * DMT_BLOCK)) !=
	    sizeof(buf))
		err(1, "writing behind %s", disk->name);
}

/* The same of a block, read through the mapped device. */
bool dmt_block_reads(int fd, uint64_t block, int seed, int part)
{
	uint8_t want[DMT_BLOCK];
	struct dmt_io *io = dmt_io(fd, DMT_READ, block * DMT_BLOCK, DMT_BLOCK,
				   0);
	int r = dmt_io_wait(io);
	bool same;

	mixed(want, block, seed, part);
	same = !r && !memcmp(want, dmt_io_buf(io), sizeof(want));
	if (r)
		warnx("reading block %llu: %s", (unsigned long long)block,
		      strerror(-r));
	dmt_io_free(io);
	return same;
}

/* --- what has happened by now ----------------------------------------------------- */

/* Wait until a counter of the status line has a value: nobody says when. */
bool dmt_counts(const char *name, enum dmt_counter which, uint64_t value)
{
	struct timespec begun, now;
	uint64_t has;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	do {
		has = dmt_counter(name, which);
		if (has == value)
			return true;
		poll(NULL, 0, 1);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - begun.tv_sec) * 1000 < DMT_PATIENCE);
	warnx("counter %d is %llu, and not %llu", which,
	      (unsigned long long)has, (unsigned long long)value);
	return false;
}

/* Whoever waits for readers under RCU that are there now has been told. */
void dmt_grace_period(void)
{
	/* The second one begins after callbacks of the first were due. */
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) ||
	    syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		err(1, "membarrier");
}

/**
 * dmt_settled() - all that was to happen without further events has happened
 * @t: its daemon has nothing to read, and DMT_SCRATCH is not mapped
 *
 * For a test that is about to say that something did not happen: turns of the
 * flights are over, and what was on its way through the worker is through. That
 * is shown by a read that a daemon fails: its end is the worker's, too, and
 * waits for no other I/O.
 *
 * Return: false where the daemon was told anything but that read's request.
 */
bool dmt_settled(const struct dmt *t)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		struct dmt_io *io;
		uint32_t id;
		int r;

		dmt_grace_period();
		if (!dmt_silent(t->ctl)) {
			warnx("the daemon has been told something");
			return false;
		}
		io = dmt_io_now(t->fd, DMT_READ,
				(uint64_t)DMT_SCRATCH * DMT_BLOCK, DMT_BLOCK,
				0);
		id = dmt_expect_request(t->ctl, DMT_SCRATCH, DMU_FLAG_RD);
		if (!id || dmt_fail(t->ctl, id))
			return false;
		r = dmt_io_result(io);
		if (r != -EIO) {
			warnx("the failed read ended with %d", r);
			return false;
		}
	}
	return dmt_silent(t->ctl);
}

/**
 * dmt_settled_within() - likewise, of a device that is suspended
 * @t: its daemon has nothing to read, DMT_SCRATCH is not mapped, and no device is shut
 *
 * No I/O gets through it, but an invalidation does: the worker tells of it when all
 * flights of before are over.
 *
 * Return: false where the daemon was told anything but that.
 */
bool dmt_settled_within(const struct dmt *t)
{
	struct dmt_map map = dmt_plain(&t->origin, DMT_SCRATCH, DMT_SCRATCH,
				       DMU_FLAG_RD);
	unsigned int i;

	for (i = 0; i < 2; i++) {
		dmt_grace_period();
		if (!dmt_silent(t->ctl)) {
			warnx("the daemon has been told something");
			return false;
		}
		if (dmt_map(t->ctl, 0, &map) ||
		    dmt_invalidate(t->ctl, DMT_SCRATCH, DMT_SCRATCH) ||
		    !dmt_expect_status(t->ctl, DMT_SCRATCH,
				       DM_USERSPACE_INVAL_COMPLETE))
			return false;
	}
	return dmt_silent(t->ctl);
}

/* --- a mapped device with gates ------------------------------------------------------ */

/* The table line's arguments. */
void dmt_gated_params(const struct dmt_gated *g, char *buf, size_t len)
{
	size_t used;

	dmt_params(&g->t, buf, len);
	used = strlen(buf);
	snprintf(buf + used, len - used, " %u:%u", major(g->spare.dev),
		 minor(g->spare.dev));
}

/**
 * dmt_gated_setup_sectors() - make a mapped device with gates, of any size
 * @g: gets it
 * @sectors: of the mapped device; DMT_BLOCKS blocks at most
 */
void dmt_gated_setup_sectors(struct dmt_gated *g, uint64_t sectors)
{
	const uint64_t bytes = (uint64_t)DMT_BLOCKS * DMT_BLOCK;
	struct dmt *t = &g->t;
	char params[256], name[64];
	uint64_t block;

	memset(g, 0, sizeof(*g));
	snprintf(t->name, sizeof(t->name), "dmt%d", getpid());
	dmt_disk_open(&t->origin, bytes, 0);
	dmt_disk_open(&t->store, bytes, 0);
	dmt_disk_open(&g->spare, bytes, 0);
	for (block = 0; block < DMT_BLOCKS; block++)
		dmt_disk_fill(&t->origin, block, DMT_ORIGIN);
	snprintf(name, sizeof(name), "%s-origin", t->name);
	dmt_gate_make(&g->origin, name, &t->origin);
	snprintf(name, sizeof(name), "%s-store", t->name);
	dmt_gate_make(&g->store, name, &t->store);
	dmt_gated_params(g, params, sizeof(params));
	if (dmt_dm_create(t->name) ||
	    dmt_dm_load(t->name, 0, sectors, "userspace", params) ||
	    dmt_dm_resume(t->name))
		errx(1, "cannot make the mapped device %s", t->name);
	t->fd = dmt_dm_open(t->name, O_RDWR | O_DIRECT);
	if (t->fd < 0)
		err(1, "%s", t->name);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
}

/**
 * dmt_gated_setup() - make a mapped device with gates
 * @g: gets it
 */
void dmt_gated_setup(struct dmt_gated *g)
{
	dmt_gated_setup_sectors(g, (uint64_t)DMT_BLOCKS * DMT_SECTORS);
}

/**
 * dmt_gated_teardown() - take all of it away again
 * @g: made by dmt_gated_setup()
 */
void dmt_gated_teardown(struct dmt_gated *g)
{
	/* Whatever a failed test has left shut, broken or suspended. */
	dmt_gate_mend(&g->origin);
	dmt_gate_mend(&g->store);
	dmt_dm_resume(g->t.name);
	dmt_teardown(&g->t);
	dmt_gate_remove(&g->store);
	dmt_gate_remove(&g->origin);
	dmt_disk_close(&g->spare);
}
