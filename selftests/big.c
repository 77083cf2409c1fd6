// SPDX-License-Identifier: GPL-2.0-only
/* Blocks of 1 GiB that are copied; and a million of small ones. */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/gated.h"
#include "lib/nullb.h"
#include "lib/sysfs.h"
#include <dirent.h>
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
#define SECONDS	40 /* within which there are as many as there are then */

/* Push so many mappings, or as many as there is time for. */
static uint64_t push_many(const struct dmt *t, uint64_t many)
{
	static struct dmt_batch batch;
	time_t until = time(NULL) + dmt_often(SECONDS);
	uint64_t nr = 0, end;

	while (nr < many && time(NULL) < until) {
		batch.len = 0;
		for (end = nr + BATCH; nr < end && nr < many; nr++) {
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

/* How often a thread was made to let another one run; 0 where there is none. */
static long switches_of(const char *pid)
{
	char path[64], line[128];
	long nr = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/status", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		sscanf(line, "nonvoluntary_ctxt_switches: %ld", &nr);
	fclose(f);
	return nr;
}

static bool is_kworker(const char *pid)
{
	char path[64], comm[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(comm, sizeof(comm), f))
		*comm = '\0';
	fclose(f);
	return !strncmp(comm, "kworker/", 8);
}

static long own_switches(void)
{
	return switches_of("thread-self");
}

/*
 * How often those that work for the kernel were, beyond what they were when this was
 * asked before. Some of them have gone meanwhile.
 */
static long kworker_switches(void)
{
	static long known[1 << 16], nr;
	DIR *dir = opendir("/proc");
	struct dirent *entry;

	if (!dir)
		err(1, "/proc");
	while ((entry = readdir(dir))) {
		long pid = atol(entry->d_name), now;

		if (pid <= 0 || pid >= 1 << 16 || !is_kworker(entry->d_name))
			continue;
		now = switches_of(entry->d_name);
		nr += now - known[pid];
		known[pid] = now;
	}
	closedir(dir);
	return nr;
}

/* --- freed while others want the CPU ---------------------------------------------------- */

#define SOME	(1u << 19) /* mappings, for whose end a CPU takes long enough */

/**
 * struct rush - threads that want a CPU all the time, one on each
 * @stop: they are to end
 * @nr: how many
 * @cpu: of each
 * @thread: likewise
 */
struct rush {
	bool stop;
	unsigned int nr;
	int cpu[CPU_SETSIZE];
	pthread_t thread[CPU_SETSIZE];
};

static void stay_on(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		err(1, "staying on a CPU");
}

static void *busy(void *arg)
{
	struct rush *rush = arg;

	stay_on(rush->cpu[__atomic_fetch_add(&rush->nr, 1, __ATOMIC_ACQ_REL)]);
	while (!__atomic_load_n(&rush->stop, __ATOMIC_ACQUIRE))
		;
	return NULL;
}

/* Returns when all of them run. */
static void rush_begin(struct rush *rush, const cpu_set_t *cpus)
{
	unsigned int nr = 0;
	int cpu;

	memset(rush, 0, sizeof(*rush));
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, cpus))
			rush->cpu[nr++] = cpu;
	for (; nr--;)
		if (pthread_create(&rush->thread[nr], NULL, busy, rush))
			errx(1, "no thread");
	nr = CPU_COUNT(cpus);
	while (__atomic_load_n(&rush->nr, __ATOMIC_ACQUIRE) < nr)
		sched_yield();
}

static void rush_end(struct rush *rush)
{
	__atomic_store_n(&rush->stop, true, __ATOMIC_RELEASE);
	while (rush->nr)
		pthread_join(rush->thread[--rush->nr], NULL);
}

static int drop_idle(struct dmt *t)
{
	return dmt_dm_message(t->name, "drop_idle");
}

static int allow_few(struct dmt *t)
{
	return dmt_dm_message(t->name, "max_remaps 1");
}

/* The device of all mappings goes: nobody names it any more. */
static int lose_device(struct dmt *t)
{
	char params[128];

	snprintf(params, sizeof(params), "%s 512 %u:%u", t->name,
		 major(t->origin.dev), minor(t->origin.dev));
	return dmt_dm_load(t->name, 0, MANY, "userspace", params) ?:
	       dmt_dm_resume(t->name);
}

/* All of it: what the key had is freed in the background. */
static int lose_table(struct dmt *t)
{
	int r;

	close(t->ctl);
	close(t->fd);
	r = dmt_dm_remove(t->name);
	if (!r && !dmt_keys_are_gone())
		r = -ETIMEDOUT;
	mapped_device(t, 512, MANY);
	return r;
}

/**
 * @t: MANY blocks of 512 bytes
 * @cpus: on which this ran
 */
FIXTURE(million)
{
	struct dmt t;
	cpu_set_t cpus;
};

/**
 * struct _fixture_variant_million - a way in which mappings end
 * @end: does it
 * @switches: of those that do it
 * @many: mappings there are to be
 * @left: how many are there after it
 * @least: switches; without cond_resched() there are hardly any
 */
FIXTURE_VARIANT(million)
{
	int (*end)(struct dmt *t);
	long (*switches)(void);
	unsigned int many;
	unsigned int left;
	long least;
};

FIXTURE_VARIANT_ADD(million, dropped) {
	drop_idle, own_switches, SOME, 0, 8
};
FIXTURE_VARIANT_ADD(million, too_many) {
	allow_few, own_switches, SOME, 1, 8
};
FIXTURE_VARIANT_ADD(million, without_a_device) {
	lose_device, own_switches, SOME, 0, 14
};
FIXTURE_VARIANT_ADD(million, without_a_table) {
	lose_table, kworker_switches, MANY, 0, 4
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

TEST_F_TIMEOUT(million, mappings_end_while_others_run, 150)
{
	struct dmt *t = &self->t;
	uint64_t nr = push_many(t, variant->many);
	struct rush rush;
	long before, after;

	ASSERT_NE(0, nr);
	EXPECT_EQ(nr, dmt_counter(t->name, DMT_REMAPS));
	rush_begin(&rush, &self->cpus);
	before = variant->switches();
	EXPECT_EQ(0, variant->end(t));
	after = variant->switches();
	rush_end(&rush);
	EXPECT_LE(before + variant->least, after);
	ksft_print_msg("%ld switches\n", after - before);
	EXPECT_EQ(variant->left, dmt_counter(t->name, DMT_REMAPS));
}

TEST_HARNESS_MAIN
