// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs: blocks that lie one after the other are known by one remap, and any of
 * them can change without the others. How many remaps there are is seen when all
 * of them are dropped: there is a trace event for each.
 */
#define _GNU_SOURCE
#include "lib/fixture.h"
#include "lib/gate.h"
#include "lib/run.h"
#include "lib/sysfs.h"
#include <err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define TRACEFS	"/sys/kernel/tracing"
#define EVENTS	"events/dm_userspace/"
#define EVICTED	EVENTS "dmu_remap_evicted/enable"
#define INSTALLED	EVENTS "dmu_remap_installed/enable"
#define INVALIDATED	EVENTS "dmu_remap_invalidated/enable"
#define BLOCKS	2048u
#define RUN	512u	/* blocks of the longest run */

/**
 * @t: a device of BLOCKS blocks over an empty origin and a store twice as large
 * @gate: in front of the store
 * @dir: a tracefs instance of its own; empty where the kernel has no tracefs
 */
FIXTURE(runs)
{
	struct dmt t;
	struct dmt_gate gate;
	char dir[128];
};

static void put(const char *dir, const char *file, const char *value)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "we");
	if (!f || fputs(value, f) < 0 || fclose(f))
		err(1, "%s", path);
}

FIXTURE_SETUP(runs)
{
	struct dmt *t = &self->t;
	char params[256], name[64];
	struct stat st;

	snprintf(t->name, sizeof(t->name), "dmt%d", getpid());
	dmt_disk_open(&t->origin, BLOCKS * DMT_BLOCK, 0);
	dmt_disk_open(&t->store, 2 * BLOCKS * DMT_BLOCK, 0);
	snprintf(name, sizeof(name), "%s-store", t->name);
	dmt_gate_make(&self->gate, name, &t->store);
	dmt_params(t, params, sizeof(params));
	if (dmt_dm_create(t->name) ||
	    dmt_dm_load(t->name, 0, BLOCKS * DMT_SECTORS, "userspace",
			params) ||
	    dmt_dm_resume(t->name))
		errx(1, "cannot make the mapped device %s", t->name);
	t->fd = dmt_dm_open(t->name, O_RDWR | O_DIRECT);
	if (t->fd < 0)
		err(1, "%s", t->name);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	if (stat(TRACEFS "/instances", &st) &&
	    mount("tracefs", TRACEFS, "tracefs", 0, NULL))
		return;
	snprintf(self->dir, sizeof(self->dir), TRACEFS "/instances/%s",
		 t->name);
	if (mkdir(self->dir, 0700))
		err(1, "%s", self->dir);
	put(self->dir, EVICTED, "1");
}

FIXTURE_TEARDOWN(runs)
{
	dmt_gate_open(&self->gate);
	dmt_teardown(&self->t);
	dmt_gate_remove(&self->gate);
	if (*self->dir && rmdir(self->dir))
		warn("%s", self->dir);
}

#define NEEDS_TRACEFS() do { \
	if (!*self->dir) \
		SKIP(return, "this kernel has no tracefs"); \
} while (0)

/* How many events of a name have been traced. */
static unsigned int traced(FIXTURE_DATA(runs) *self, const char *event)
{
	char path[256], line[1024];
	unsigned int nr = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/trace", self->dir);
	f = fopen(path, "re");
	if (!f)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), f))
		nr += !!strstr(line, event);
	fclose(f);
	return nr;
}

/* Drop all remaps; returns how many there were. */
static unsigned int drop_all(FIXTURE_DATA(runs) *self)
{
	put(self->dir, "trace", "");
	do {
		if (dmt_dm_message(self->t.name, "drop_idle"))
			errx(1, "remaps cannot be dropped");
		/* What replaces another is not idle for a moment. */
	} while (dmt_counter(self->t.name, DMT_REMAPS) && !poll(NULL, 0, 1));
	return traced(self, "dmu_remap_evicted: ");
}

/* Push mappings of @nr blocks, block @block + i to place @to + i of the store. */
static bool push(const struct dmt *t, uint64_t block, uint64_t to,
		 unsigned int nr, uint32_t flags)
{
	static struct dmt_batch batch;
	unsigned int i;

	batch.len = 0;
	for (i = 0; i < nr; i++) {
		struct dmt_map map = dmt_plain(&t->store, block + i, to + i,
					       flags);

		dmt_batch_map(&batch, 0, &map);
	}
	return dmt_batch_write(t->ctl, &batch) == (ssize_t)batch.len;
}

/* As push(), in an order that has no neighbours. */
static bool push_shuffled(const struct dmt *t, uint64_t block, uint64_t to,
			  unsigned int nr, unsigned int step)
{
	unsigned int i, n = 0;

	for (i = 0; i < nr; i++, n = (n + step) % nr)
		if (!push(t, block + n, to + n, 1, RW))
			return false;
	return true;
}

static void fill_store(const struct dmt *t, uint64_t from, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		dmt_disk_fill(&t->store, from + i, 5);
}

/* Does a read of @nr blocks at once find what is in the store from @to on? */
static bool reads(const struct dmt *t, uint64_t block, uint64_t to,
		  unsigned int nr)
{
	size_t len = (size_t)nr * DMT_BLOCK;
	unsigned char *got, want[DMT_BLOCK];
	unsigned int i;
	bool ok = true;

	if (posix_memalign((void **)&got, 4096, len))
		errx(1, "no memory");
	if (pread(t->fd, got, len, (off_t)block * DMT_BLOCK) != (ssize_t)len)
		ok = false;
	for (i = 0; i < nr && ok; i++) {
		if (pread(t->store.fd, want, sizeof(want),
			  (off_t)(to + i) * DMT_BLOCK) != sizeof(want))
			err(1, "looking at the store");
		ok = !memcmp(got + (size_t)i * DMT_BLOCK, want, sizeof(want));
	}
	free(got);
	return ok;
}

static bool all_hits(const struct dmt *t, uint64_t misses)
{
	return dmt_counter(t->name, DMT_MISSES) == misses;
}

TEST_F(runs, blocks_that_follow_each_other_are_one_remap)
{
	struct dmt *t = &self->t;

	NEEDS_TRACEFS();
	ASSERT_TRUE(push(t, 0, 100, BLOCKS / 2, RW));
	ASSERT_TRUE(push(t, BLOCKS / 2, 100 + BLOCKS / 2, BLOCKS / 2, RW));
	EXPECT_EQ(BLOCKS, dmt_counter(t->name, DMT_REMAPS));
	fill_store(t, 100, BLOCKS);
	EXPECT_TRUE(reads(t, 0, 100, 256));
	EXPECT_TRUE(reads(t, 500, 600, 24));
	EXPECT_TRUE(reads(t, BLOCKS - 1, 100 + BLOCKS - 1, 1));
	EXPECT_TRUE(all_hits(t, 0));
	EXPECT_EQ(BLOCKS / RUN, drop_all(self));
	EXPECT_EQ(BLOCKS, dmt_counter(t->name, DMT_EVICTIONS));
}

TEST_F(runs, in_whatever_order_they_come)
{
	struct dmt *t = &self->t;
	static const unsigned int steps[] = { 511, 37, 255 };
	unsigned int i;

	NEEDS_TRACEFS();
	for (i = 0; i < 3; i++) {
		ASSERT_TRUE(push_shuffled(t, RUN, 77, RUN, steps[i]));
		EXPECT_EQ(RUN, dmt_counter(t->name, DMT_REMAPS));
		/* All of it is ready then: what was dropped is waited for. */
		EXPECT_TRUE(reads(t, RUN, 77, RUN));
		EXPECT_EQ(1, drop_all(self));
	}
}

TEST_F(runs, answers_become_runs_too)
{
	struct dmt *t = &self->t;
	unsigned int i;
	uint32_t id;

	NEEDS_TRACEFS();
	for (i = 0; i < 64; i++) {
		struct dmt_map map = dmt_plain(&t->store, i, i + 9, RW);
		struct dmt_io *io = dmt_io(t->fd, DMT_READ,
					   (uint64_t)i * DMT_BLOCK, DMT_BLOCK,
					   0);

		id = dmt_expect_request(t->ctl, i, RO);
		ASSERT_NE(0, id);
		ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
		EXPECT_EQ(0, dmt_io_result(io));
	}
	EXPECT_EQ(1, drop_all(self));
}

TEST_F(runs, one_message_maps_thousands)
{
	struct dmt *t = &self->t;

	NEEDS_TRACEFS();
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS));
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, dmt_run(0, BLOCKS, &t->store, 100,
						    RW)));
	EXPECT_EQ(BLOCKS, dmt_counter(t->name, DMT_REMAPS));
	fill_store(t, 100, BLOCKS);
	EXPECT_TRUE(reads(t, 0, 100, BLOCKS));
	EXPECT_TRUE(all_hits(t, 0));
	EXPECT_EQ(BLOCKS / RUN, drop_all(self));
}

#define MEBIBYTE	((1u << 20) / DMT_BLOCK)

/* Write so many mebibytes, one by one, to blocks that nobody knows. */
static void write_mebibytes(const struct dmt *t, struct dmt_io *io[],
			    unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		io[i] = dmt_io_now(t->fd, DMT_WRITE, (uint64_t)i << 20, 1 << 20,
				   5);
}

TEST_F(runs, a_mebibyte_is_one_request_and_one_answer)
{
	struct dmt *t = &self->t;
	struct dmt_inbox in = { .fd = t->ctl };
	struct dmt_io *io;
	uint32_t id;

	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS));
	write_mebibytes(t, &io, 1);
	id = dmt_inbox_run(&in, 0, MEBIBYTE, RW);
	ASSERT_NE(0, id);
	EXPECT_TRUE(dmt_inbox_empty(&in));
	EXPECT_EQ(MEBIBYTE, dmt_counter(t->name, DMT_SENT));
	ASSERT_EQ(0, dmt_map_run(t->ctl, id, dmt_run(0, MEBIBYTE, &t->store, 9,
						     RW)));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(MEBIBYTE, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_TRUE(reads(t, 0, 9, MEBIBYTE));
	EXPECT_TRUE(all_hits(t, MEBIBYTE));
}

/* Nor are they read by more than one daemon, or lost where one dies. */
TEST_F(runs, requests_are_as_long_as_remaps_at_most)
{
	struct dmt *t = &self->t;
	struct dmt_inbox in = { .fd = t->ctl };
	struct dmt_io *io[3];
	unsigned int i;
	uint32_t id;

	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS));
	write_mebibytes(t, io, 3);
	id = dmt_inbox_run(&in, 0, RUN, RW);
	ASSERT_NE(0, id);
	EXPECT_EQ(id + RUN, dmt_inbox_run(&in, RUN, 3 * MEBIBYTE - RUN, RW));
	EXPECT_TRUE(dmt_inbox_empty(&in));
	close(t->ctl);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	in = (struct dmt_inbox){ .fd = t->ctl };
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS));
	EXPECT_EQ(id, dmt_inbox_run(&in, 0, RUN, RW));
	EXPECT_EQ(id + RUN, dmt_inbox_run(&in, RUN, 3 * MEBIBYTE - RUN, RW));
	EXPECT_TRUE(dmt_inbox_empty(&in));
	ASSERT_EQ(0, dmt_map_run(t->ctl, id, dmt_run(0, 3 * MEBIBYTE, &t->store,
						     0, RW)));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, dmt_io_result(io[i]));
	EXPECT_TRUE(reads(t, 0, 0, 3 * MEBIBYTE));
}

TEST_F(runs, zeroes_follow_each_other)
{
	struct dmt *t = &self->t;
	const uint64_t block = RUN + 300;

	NEEDS_TRACEFS();
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS));
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, dmt_run_zero(0, BLOCKS)));
	EXPECT_EQ(BLOCKS, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(BLOCKS / RUN, drop_all(self));
	/* Nothing but zeroes goes on where they end, be it at the same sector. */
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, dmt_run_zero(0, 4)));
	ASSERT_TRUE(push(t, 4, 4, 4, RO));
	EXPECT_EQ(8, drop_all(self));
	/* The store is empty yet: what is read is all the same. */
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, dmt_run_zero(0, BLOCKS)));
	ASSERT_TRUE(push(t, block, 9, 1, RW));
	EXPECT_TRUE(reads(t, 0, 0, BLOCKS));
	EXPECT_TRUE(all_hits(t, 0));
	EXPECT_EQ(BLOCKS / RUN - 1 + 3 * 7 + 1, drop_all(self));
}

TEST_F(runs, not_what_differs)
{
	struct dmt *t = &self->t;
	struct dmt_map other = dmt_plain(&t->origin, 6, 16, RW);

	NEEDS_TRACEFS();
	/* A hole, another place, another device, other rights. */
	ASSERT_TRUE(push(t, 1, 11, 7, RW));
	EXPECT_EQ(7, drop_all(self));
	ASSERT_TRUE(push(t, 0, 10, 7, RW) && push(t, 7, 18, 1, RW));
	EXPECT_EQ(8, drop_all(self));
	ASSERT_TRUE(push(t, 0, 10, 8, RW));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	EXPECT_EQ(8, drop_all(self));
	ASSERT_TRUE(push(t, 0, 10, 7, RW) && push(t, 7, 17, 1, RO));
	EXPECT_EQ(8, drop_all(self));
	/* One after the other, but not from a multiple of eight on. */
	ASSERT_TRUE(push(t, 4, 10, 8, RW));
	EXPECT_EQ(8, drop_all(self));
	ASSERT_TRUE(push(t, 4, 10, 12, RW));
	EXPECT_TRUE(reads(t, 4, 10, 12));
	EXPECT_EQ(5, drop_all(self));
}

TEST_F(runs, one_block_changes_and_the_others_stay)
{
	struct dmt *t = &self->t;
	const uint64_t block = RUN + 300;

	NEEDS_TRACEFS();
	fill_store(t, 0, 2 * BLOCKS);
	ASSERT_TRUE(push(t, RUN, 700, RUN, RW));
	ASSERT_TRUE(push(t, block, 3000, 1, RW));
	EXPECT_EQ(RUN, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_TRUE(reads(t, RUN, 700, 300));
	EXPECT_TRUE(reads(t, block, 3000, 1));
	EXPECT_TRUE(reads(t, block + 1, 701 + 300, RUN - 301));
	/* What replaces another may have to be waited for, but is not asked for. */
	EXPECT_TRUE(dmt_silent(t->ctl));
	/* Back again: all of it is one. */
	ASSERT_TRUE(push(t, block, 700 + 300, 1, RW));
	EXPECT_TRUE(reads(t, RUN, 700, RUN));
	EXPECT_EQ(1, drop_all(self));
	/* Seven of each smaller size, and it. */
	ASSERT_TRUE(push(t, RUN, 700, RUN, RW));
	EXPECT_TRUE(reads(t, RUN, 700, RUN));
	ASSERT_TRUE(push(t, block, 9, 1, RW));
	EXPECT_EQ(3 * 7 + 1, drop_all(self));
}

TEST_F(runs, one_block_is_invalidated_and_the_others_stay)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, 0, 3000, RW);
	struct dmt_io *io;
	uint64_t block;
	uint32_t id;

	fill_store(t, 0, 2 * BLOCKS);
	for (block = 0; block < RUN; block += 73) {
		ASSERT_TRUE(push(t, 0, 700, RUN, RW));
		ASSERT_EQ(0, dmt_invalidate(t->ctl, 33, block));
		ASSERT_TRUE(dmt_expect_status(t->ctl, 33,
					      DM_USERSPACE_INVAL_COMPLETE));
		EXPECT_EQ(RUN - 1, dmt_counter(t->name, DMT_REMAPS));
		if (block)
			EXPECT_TRUE(reads(t, 0, 700, (unsigned int)block));
		EXPECT_TRUE(reads(t, block + 1, 701 + block,
				  (unsigned int)(RUN - 1 - block)));
		ASSERT_TRUE(dmt_silent(t->ctl));
		io = dmt_io(t->fd, DMT_READ, block * DMT_BLOCK, DMT_BLOCK, 0);
		id = dmt_expect_request(t->ctl, block, RO);
		ASSERT_NE(0, id);
		map.block = block;
		ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
		EXPECT_EQ(0, dmt_io_result(io));
		EXPECT_TRUE(reads(t, block, 3000, 1));
	}
}

/* The first write to a block of a snapshot, a few hundred times. */
TEST_F(runs, blocks_of_a_read_only_run_are_copied_on_write)
{
	struct dmt *t = &self->t;
	unsigned int i;
	uint64_t block;

	for (i = 0; i < RUN; i++) {
		struct dmt_map map = dmt_plain(&t->origin, i, i, RO);

		dmt_disk_fill(&t->origin, i, DMT_ORIGIN);
		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	}
	for (i = 0, block = 0; i < RUN; i += 3, block = (block + 165) % RUN) {
		struct dmt_map cow = dmt_cow(t, block, block, RW);
		/* A part of the block: the rest of it is copied. */
		struct dmt_io *io = dmt_io(t->fd, DMT_WRITE, block * DMT_BLOCK,
					   512, 8);
		uint32_t id = dmt_expect_request(t->ctl, block, RW);

		ASSERT_NE(0, id);
		ASSERT_EQ(0, dmt_map(t->ctl, id, &cow));
		EXPECT_EQ(0, dmt_io_result(io));
		ASSERT_TRUE(dmt_silent(t->ctl));
	}
	for (i = 0; i < RUN; i++) {
		unsigned char got[DMT_BLOCK], want[DMT_BLOCK];

		ASSERT_TRUE(dmt_disk_has(&t->origin, i, DMT_ORIGIN));
		dmt_pattern(want, sizeof(want), i, DMT_ORIGIN);
		ASSERT_EQ(DMT_BLOCK, pread(t->store.fd, got, sizeof(got),
					   (off_t)i * DMT_BLOCK));
		/* 165 and 512 have no divisor in common: which were written. */
		if (!memcmp(got + 512, want + 512, DMT_BLOCK - 512))
			EXPECT_NE(0, memcmp(got, want, 512));
	}
	EXPECT_EQ(RUN, dmt_counter(t->name, DMT_REMAPS));
}

TEST_F(runs, no_place_is_reused_while_a_run_is_read)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, 17, 900, RW);
	struct dmt_io *io;

	fill_store(t, 0, 64);
	ASSERT_TRUE(push(t, 0, 0, 64, RW));
	dmt_gate_shut(&self->gate);
	io = dmt_io(t->fd, DMT_READ, 0, 64 * DMT_BLOCK, 0);
	ASSERT_TRUE(dmt_counts(t->name, DMT_HITS, 1));
	/* What is being read was one run; it is not any more, and then again. */
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 4, 17));
	EXPECT_TRUE(dmt_silent(t->ctl));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_FALSE(dmt_io_done(io));
	dmt_gate_open(&self->gate);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 4, DM_USERSPACE_INVAL_COMPLETE));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* --- counters -------------------------------------------------------------------- */

#define AT_ONCE	16u	/* I/Os */
#define STEPS	1500u
#define OTHER	BLOCKS	/* of the places, the first one where a block may live, too */

/* Whoever asks gets what it asked for; which of two places, nobody knows. */
static bool serve(const struct dmt *t, struct dmt_inbox *in)
{
	struct dmu_msg_run_request run;
	struct dmt_msg msg;
	uint64_t to;

	while (in->at < in->len || dmt_readable(in->fd, 0)) {
		if (!dmt_inbox_next(in, &msg))
			return false;
		memcpy(&run, &msg.run_request, sizeof(run));
		if (msg.header.msg_type == DM_USERSPACE_STATUS)
			continue;
		if (msg.header.msg_type == DM_USERSPACE_MAP_BLOCK_REQ)
			run.count = 1;
		to = run.block + (random() % 4 ? 0 : OTHER);
		if (dmt_map_run(t->ctl, msg.header.id,
				dmt_run(run.block, run.count, &t->store, to,
					RW)))
			return false;
	}
	return true;
}

/* Something that makes runs, or breaks them, or takes them away. */
static int disturb(const struct dmt *t)
{
	uint64_t block = (uint64_t)random() % BLOCKS;
	uint64_t to = block + (random() % 2 ? OTHER : 0);
	uint64_t left = BLOCKS - block;

	switch (random() % 8) {
	case 0:
		return dmt_dm_message(t->name, random() % 2 ? "drop_idle" :
							      "max_remaps 900");
	case 1:
	case 2:
		return dmt_map_run(t->ctl, 0, dmt_run(block, left < 100 ? left : 100,
						      &t->store, block, RW));
	case 3:
		return push(t, block, to, 1, RW) ? 0 : -EIO;
	default:
		return dmt_invalidate(t->ctl, 7, block);
	}
}

static struct dmt_io *any_io(const struct dmt *t)
{
	uint64_t block = (uint64_t)random() % (BLOCKS - 32);
	size_t nr = 1 + (size_t)random() % 32;

	return dmt_io_now(t->fd, random() % 2 ? DMT_READ : DMT_WRITE,
			  block * DMT_BLOCK, nr * DMT_BLOCK, 5);
}

/* How many blocks the lines of an event are about; false where some are lost. */
static bool traced_blocks(const char *dir, const char *event, uint64_t *blocks)
{
	char path[256], line[1024];
	unsigned long left, all;
	bool whole = false;
	const char *at;
	FILE *f;

	*blocks = 0;
	snprintf(path, sizeof(path), "%s/trace", dir);
	f = fopen(path, "re");
	if (!f)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), f)) {
		at = strstr(line, "entries-in-buffer/entries-written: ");
		if (at)
			whole = sscanf(strchr(at, ':'), ": %lu/%lu", &left,
				       &all) == 2 && left == all;
		at = strstr(line, event) ? strstr(line, "blocks=") : NULL;
		if (at)
			*blocks += strtoul(at + 7, NULL, 10);
	}
	fclose(f);
	return whole;
}

/*
 * Under load, all blocks that have got a mapping have it still, or have lost it in
 * one of the ways that are told of; and that number is the status line's.
 */
TEST_F_TIMEOUT(runs, counters_are_exact_whatever_becomes_of_runs, 200)
{
	struct dmt *t = &self->t;
	struct dmt_inbox in = { .fd = t->ctl };
	struct dmt_io *io[AT_ONCE] = {};
	uint64_t come, evicted, gone;
	unsigned int i, n;

	NEEDS_TRACEFS();
	srandom(5);
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS));
	put(self->dir, "buffer_size_kb", "8192");
	put(self->dir, INSTALLED, "1");
	put(self->dir, INVALIDATED, "1");
	for (i = 0; i < dmt_often(STEPS); i++) {
		n = i % AT_ONCE;
		while (io[n] && !dmt_io_done(io[n])) {
			dmt_readable(t->ctl, 10);
			ASSERT_TRUE(serve(t, &in));
		}
		if (io[n])
			EXPECT_EQ(0, dmt_io_result(io[n]));
		io[n] = any_io(t);
		if (i % 3 == 0)
			ASSERT_EQ(0, disturb(t));
	}
	for (n = 0; n < AT_ONCE; n++) {
		while (io[n] && !dmt_io_done(io[n])) {
			dmt_readable(t->ctl, 10);
			ASSERT_TRUE(serve(t, &in));
		}
		EXPECT_EQ(0, io[n] ? dmt_io_result(io[n]) : 0);
	}
	/* What is too much may still be on its way out. */
	ASSERT_EQ(0, dmt_dm_message(t->name, "max_remaps 900"));
	ASSERT_TRUE(traced_blocks(self->dir, "dmu_remap_installed: ", &come));
	ASSERT_TRUE(traced_blocks(self->dir, "dmu_remap_evicted: ", &evicted));
	ASSERT_TRUE(traced_blocks(self->dir, "dmu_remap_invalidated: ", &gone));
	EXPECT_EQ(evicted, dmt_counter(t->name, DMT_EVICTIONS));
	EXPECT_EQ(come - evicted - gone, dmt_counter(t->name, DMT_REMAPS));
	ksft_print_msg("%llu blocks came, %llu were evicted, %llu invalidated\n",
		       (unsigned long long)come, (unsigned long long)evicted,
		       (unsigned long long)gone);
	EXPECT_LT(0, evicted);
	EXPECT_LT(0, gone);
	drop_all(self);
	ASSERT_TRUE(traced_blocks(self->dir, "dmu_remap_evicted: ", &come));
	EXPECT_EQ(evicted + come, dmt_counter(t->name, DMT_EVICTIONS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
}

/* --- answers that come late -------------------------------------------------------- */

/*
 * Two requests end without an answer that was read: of a write to block 8, which is
 * mapped for reads, as its neighbours are, and of a read of @other.
 */
static bool end_two(const struct dmt *t, uint64_t other, bool failed,
		    uint32_t ids[2])
{
	struct dmt_map map;
	struct dmt_io *io[2];
	uint64_t block;

	dmt_disk_fill(&t->origin, 8, DMT_ORIGIN);
	for (block = 8; block < 16; block++) {
		map = dmt_plain(&t->origin, block, block, RO);
		if (block != other && dmt_map(t->ctl, 0, &map))
			return false;
	}
	io[1] = dmt_begin_read(t, other);
	ids[1] = dmt_expect_request(t->ctl, other, RO);
	io[0] = dmt_write_part(t->fd, 8, 2);
	ids[0] = dmt_expect_request(t->ctl, 8, RW);
	if (!ids[0] || !ids[1] ||
	    (failed ? dmt_fail(t->ctl, ids[0]) || dmt_fail(t->ctl, ids[1]) :
		      dmt_dm_message(t->name, "fail_waiting")))
		return false;
	return dmt_io_result(io[0]) == -EIO && dmt_io_result(io[1]) == -EIO;
}

/* An answer with a copy is heard, so a daemon may rely on that. */
static bool copy_is_made(const struct dmt *t, uint32_t id)
{
	struct dmt_map map = dmt_cow(t, 8, 20, RW);

	return !dmt_map(t->ctl, id, &map) &&
	       dmt_read_matches(t->fd, 8, DMT_ORIGIN) &&
	       dmt_place_has(&t->store, 20, 8, DMT_ORIGIN, DMT_NO_PART) &&
	       !dmt_write_block(t->fd, 8, 3) &&
	       dmt_place_has(&t->store, 20, 8, 3, DMT_NO_PART) &&
	       dmt_silent(t->ctl);
}

/* All eight blocks could be one then, as old as the youngest. */
static bool neighbour_is_mapped(const struct dmt *t, uint64_t block)
{
	struct dmt_map map = dmt_plain(&t->origin, block, block, RO);

	return !dmt_map(t->ctl, 0, &map);
}

TEST_F(runs, late_answer_finds_each_block_as_old_as_it_was)
{
	struct dmt *t = &self->t;
	uint32_t ids[2];

	ASSERT_TRUE(end_two(t, 9, false, ids));
	ASSERT_TRUE(neighbour_is_mapped(t, 9));
	EXPECT_TRUE(copy_is_made(t, ids[0]));
}

TEST_F(runs, answer_of_who_has_changed_its_mind_does_so_too)
{
	struct dmt *t = &self->t;
	uint32_t ids[2];

	ASSERT_TRUE(end_two(t, 9, true, ids));
	ASSERT_TRUE(neighbour_is_mapped(t, 9));
	EXPECT_TRUE(copy_is_made(t, ids[0]));
}

/* The later of two late answers is the younger. */
TEST_F(runs, late_answer_makes_another_one_no_older)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->origin, 8, 8, RO);
	uint32_t ids[2];

	ASSERT_TRUE(end_two(t, 8, false, ids));
	ASSERT_EQ(0, dmt_map(t->ctl, ids[1], &map));
	EXPECT_TRUE(copy_is_made(t, ids[0]));
}

/* A run is given where the copy of a block of a dead daemon's has failed to come from. */
TEST_F(runs, run_spoils_what_is_to_be_copied_from_there)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, 1, BLOCKS, RW | COPY);
	struct dmt_map other = dmt_plain(&t->origin, 20, 20, RW);
	const struct dmu_msg_run_response r = dmt_run(RUN, RUN, &t->store, 0, RW);

	NEEDS_TRACEFS();
	map.src = &t->store;
	dmt_gate_break(&self->gate);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 1)));
	close(t->ctl);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	dmt_gate_mend(&self->gate);
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS));
	/* Nothing of before the death is waited for any more: it is mapped at once. */
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &other));
	ASSERT_EQ(0, dmt_write_block(t->fd, 20, 5));
	put(self->dir, INSTALLED, "1");
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, r));
	EXPECT_EQ(1, traced(self, "dmu_remap_installed: "));
	ASSERT_EQ(0, dmt_write_block(t->fd, RUN + 1, 9));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 1)));
	EXPECT_TRUE(dmt_read_matches(t->fd, RUN + 1, 9));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_HARNESS_MAIN
