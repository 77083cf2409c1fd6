// SPDX-License-Identifier: GPL-2.0-only
/* Blocks of 1 GiB that are copied; and a million of small ones. */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/gated.h"
#include "lib/nullb.h"
#include "lib/sysfs.h"
#include <err.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* --- blocks of 1 GiB ----------------------------------------------------------------- */

/* Copying it takes minutes where each byte of memory is watched. */
#define GIB	((uint64_t)dmt_often(8) << 27)

/**
 * @t: two blocks of 1 GiB over two disks that keep nothing
 * @gate: of the store
 * @behind: number of the disk behind it
 * @able: there are such disks
 */
FIXTURE(gib)
{
	struct dmt t;
	struct dmt_gate gate;
	dev_t behind;
	bool able;
};

static void mapped_device(struct dmt *t, uint64_t block, uint64_t nr)
{
	char params[256];

	snprintf(t->name, sizeof(t->name), "dmt%d", getpid());
	snprintf(params, sizeof(params), "%s %llu %u:%u %u:%u", t->name,
		 (unsigned long long)block, major(t->origin.dev),
		 minor(t->origin.dev), major(t->store.dev),
		 minor(t->store.dev));
	if (dmt_dm_create(t->name) ||
	    dmt_dm_load(t->name, 0, nr * block / 512, "userspace", params) ||
	    dmt_dm_resume(t->name))
		errx(1, "cannot make the mapped device %s", t->name);
	t->fd = dmt_dm_open(t->name, O_RDWR | O_DIRECT);
	if (t->fd < 0)
		err(1, "%s", t->name);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
}

FIXTURE_SETUP(gib)
{
	static const struct dmt_nullb_attr attrs[] = { { NULL, NULL } };
	struct dmt *t = &self->t;

	self->able = dmt_nullb_make(&t->origin, "gib-origin", 2048, attrs) &&
		     dmt_nullb_make(&t->store, "gib-store", 2048, attrs);
	if (!self->able)
		return;
	self->behind = t->store.dev;
	dmt_gate_make(&self->gate, "gib-gate", &t->store);
	mapped_device(t, GIB, 2);
}

FIXTURE_TEARDOWN(gib)
{
	struct dmt *t = &self->t;

	if (self->able) {
		close(t->ctl);
		dmt_dm_message(t->name, "error_if_no_daemon on");
		dmt_dm_message(t->name, "fail_waiting");
		close(t->fd);
		EXPECT_EQ(0, dmt_dm_remove(t->name));
		dmt_gate_remove(&self->gate);
	}
	dmt_nullb_remove(&t->origin, "gib-origin");
	dmt_nullb_remove(&t->store, "gib-store");
}

/**
 * struct moved - what a disk has done
 * @ios: reads, or writes
 * @sectors: of them
 */
struct moved {
	uint64_t ios;
	uint64_t sectors;
};

static struct moved moved(dev_t dev, bool writes)
{
	struct moved m[2];
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/stat", major(dev),
		 minor(dev));
	f = fopen(path, "re");
	if (!f || fscanf(f, "%" SCNu64 " %*u %" SCNu64 " %*u %" SCNu64
			 " %*u %" SCNu64, &m[0].ios, &m[0].sectors, &m[1].ios,
			 &m[1].sectors) != 4)
		errx(1, "cannot read %s", path);
	fclose(f);
	return m[writes];
}

/* No I/O of a copy is so large that a disk could be busy with it for long. */
#define MAX_IO (1u << 11) /* sectors */

TEST_F_TIMEOUT(gib, copy_is_made_whole_and_piece_by_piece, 150)
{
	struct dmt *t = &self->t;
	struct moved reads, writes;
	struct dmt_map map;
	struct dmt_io *io;
	uint32_t id;

	if (!self->able)
		SKIP(return, "this kernel has no null_blk");
	map = dmt_cow(t, 0, 1, RW);
	reads = moved(t->origin.dev, false);
	writes = moved(self->behind, true);
	dmt_gate_shut(&self->gate);
	io = dmt_io_now(t->fd, DMT_WRITE, 4096, 512, 2);
	id = dmt_expect_request(t->ctl, 0, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	/* An invalidation waits for it; the write asks anew, the other block goes on. */
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 5, 0));
	id = dmt_expect_request(t->ctl, 0, RW);
	ASSERT_NE(0, id);
	map = dmt_plain(&t->origin, 1, 1, RW);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, dmt_io_result(dmt_io_now(t->fd, DMT_WRITE, GIB, 4096, 2)));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_FALSE(dmt_io_done(io));
	dmt_gate_open(&self->gate);

	/* Which has come back when the copy has. */
	ASSERT_TRUE(dmt_readable(t->ctl, 6 * DMT_PATIENCE));
	EXPECT_LE(writes.sectors + GIB / 512,
		  moved(self->behind, true).sectors);
	EXPECT_TRUE(dmt_expect_status(t->ctl, 5, DM_USERSPACE_INVAL_COMPLETE));
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	EXPECT_EQ(reads.sectors + GIB / 512,
		  moved(t->origin.dev, false).sectors);
	EXPECT_LE(reads.ios + GIB / 512 / MAX_IO,
		  moved(t->origin.dev, false).ios);
	EXPECT_LE(writes.ios + GIB / 512 / MAX_IO,
		  moved(self->behind, true).ios);
	EXPECT_FALSE(dmt_io_done(io));
	map = dmt_plain(&t->store, 0, 0, RW);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_ERRORS));
}

/* --- a million mappings -------------------------------------------------------------------- */

#define MANY	(1u << 20) /* blocks of 512 bytes */
#define BATCH	2000u
#define SECONDS	60 /* within which there are as many as there are then */

/**
 * @t: MANY blocks of 512 bytes
 * @cpus: on which this ran
 */
FIXTURE(million)
{
	struct dmt t;
	cpu_set_t cpus;
};

FIXTURE_SETUP(million)
{
	struct dmt *t = &self->t;

	dmt_disk_open(&t->origin, MANY * 512ull, 0);
	dmt_disk_open(&t->store, MANY * 512ull, 0);
	mapped_device(t, 512, MANY);
	sched_getaffinity(0, sizeof(self->cpus), &self->cpus);
}

FIXTURE_TEARDOWN(million)
{
	sched_setaffinity(0, sizeof(self->cpus), &self->cpus);
	dmt_teardown(&self->t);
}

/* Push as many mappings as there is time for. */
static uint64_t push_many(const struct dmt *t)
{
	static struct dmt_batch batch;
	time_t until = time(NULL) + dmt_often(SECONDS);
	uint64_t nr = 0, end;

	while (nr < MANY && time(NULL) < until) {
		batch.len = 0;
		for (end = nr + BATCH; nr < end && nr < MANY; nr++) {
			/* No two are part of a run. */
			struct dmt_map map = dmt_plain(&t->store, nr, nr,
						       nr % 2 ? RO : RW);

			dmt_batch_map(&batch, 0, &map);
		}
		if (dmt_batch_write(t->ctl, &batch) != (ssize_t)batch.len)
			return 0;
	}
	ksft_print_msg("%u mappings\n", (unsigned int)nr);
	return nr;
}

/* How often this thread was made to let another one run. */
static long switches(void)
{
	char line[128];
	long nr = -1;
	FILE *f = fopen("/proc/thread-self/status", "re");

	if (!f)
		err(1, "/proc/thread-self/status");
	while (fgets(line, sizeof(line), f))
		sscanf(line, "nonvoluntary_ctxt_switches: %ld", &nr);
	fclose(f);
	return nr;
}

static void *busy(void *arg)
{
	bool *stop = arg;

	while (!__atomic_load_n(stop, __ATOMIC_ACQUIRE))
		;
	return NULL;
}

TEST_F_TIMEOUT(million, mappings_are_freed_while_others_run, 150)
{
	struct dmt *t = &self->t;
	uint64_t nr = push_many(t);
	pthread_t thread;
	bool stop = false;
	cpu_set_t one;
	long before;

	ASSERT_NE(0, nr);
	EXPECT_EQ(nr, dmt_counter(t->name, DMT_REMAPS));
	/* Somebody else wants this CPU all the time. */
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(one), &one));
	ASSERT_EQ(0, pthread_create(&thread, NULL, busy, &stop));
	before = switches();
	ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	EXPECT_LE(before + 5, switches());
	ksft_print_msg("%ld switches\n", switches() - before);
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(nr, dmt_counter(t->name, DMT_EVICTIONS));
}

/* The kernel's watchdogs look on, with the patience that they have. */
TEST_F_TIMEOUT(million, mappings_go_with_their_table, 150)
{
	struct dmt *t = &self->t;
	int log = dmt_log_open();
	uint64_t nr = push_many(t);
	char said[4096];

	ASSERT_NE(0, nr);
	EXPECT_EQ(nr, dmt_counter(t->name, DMT_REMAPS));
	close(t->ctl);
	close(t->fd);
	ASSERT_EQ(0, dmt_dm_remove(t->name));
	/* The last of it is freed in the background. */
	EXPECT_TRUE(dmt_keys_are_gone());
	dmt_log_take(log, said, sizeof(said));
	EXPECT_EQ(NULL, strstr(said, "lockup"));
	EXPECT_EQ(NULL, strstr(said, "stall"));
	close(log);
	mapped_device(t, 512, MANY);
}

TEST_HARNESS_MAIN
