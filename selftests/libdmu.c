// SPDX-License-Identifier: GPL-2.0-only
/* A policy written with libdmu, on the real module. */
#define _GNU_SOURCE
#include "lib/fixture.h"
#include <linux/types.h>
#include <pthread.h>
#include <string.h>
#include "dmu.h"

/**
 * struct policy - copy-on-write at the same block number, and what it saw
 * @t: the fixture
 * @dmu: the connection
 * @thread: runs it
 * @refuse: block that is failed
 * @reads: requests that asked for reading only
 * @writes: others
 * @syncs: reports that I/O is held
 * @batches: ends of a batch
 * @invalidated: block last invalidated, plus one
 * @mapped: there was a mapping
 * @gone: the target is gone
 * @held: ids to be acknowledged at the end of the batch
 * @nr_held: of them
 */
struct policy {
	struct dmt *t;
	struct dmu *dmu;
	pthread_t thread;
	uint64_t refuse;
	unsigned int reads;
	unsigned int writes;
	unsigned int syncs;
	unsigned int batches;
	uint64_t invalidated;
	bool mapped;
	bool gone;
	uint32_t held[DMT_BLOCKS];
	unsigned int nr_held;
};

static void policy_map(struct dmu *dmu, const struct dmu_request *req, void *ctx)
{
	struct policy *p = ctx;
	struct dmu_mapping m = {
		.block = req->block,
		.dst = p->t->origin.dev,
		.dst_sector = req->block * DMT_SECTORS,
	};

	*(req->write ? &p->writes : &p->reads) += 1;
	if (req->block == p->refuse) {
		dmu_fail(dmu, req->id);
		return;
	}
	if (req->write) {
		m.dst = p->t->store.dev;
		m.src = p->t->origin.dev;
		m.flags = DMU_MAP_WRITE | DMU_MAP_COPY | DMU_MAP_SYNC;
	}
	dmu_map(dmu, req->id, &m);
}

static void policy_sync(struct dmu *dmu, uint32_t id, uint64_t block, void *ctx)
{
	struct policy *p = ctx;

	(void)dmu;
	(void)block;
	p->syncs++;
	p->held[p->nr_held++] = id;
}

static void policy_batch(struct dmu *dmu, void *ctx)
{
	struct policy *p = ctx;

	p->batches++;
	while (p->nr_held)
		dmu_sync_done(dmu, p->held[--p->nr_held]);
}

static void policy_invalidated(struct dmu *dmu, uint64_t block, bool mapped,
			       void *ctx)
{
	struct policy *p = ctx;

	p->invalidated = block + 1;
	p->mapped = mapped;
	dmu_stop(dmu);
}

static void policy_gone(struct dmu *dmu, void *ctx)
{
	struct policy *p = ctx;

	(void)dmu;
	p->gone = true;
}

static const struct dmu_ops ops = {
	.map = policy_map,
	.sync = policy_sync,
	.batch = policy_batch,
	.invalidated = policy_invalidated,
	.gone = policy_gone,
};

static void *policy_thread(void *arg)
{
	struct policy *p = arg;

	return (void *)(long)dmu_run(p->dmu);
}

static int policy_run(struct policy *p)
{
	return pthread_create(&p->thread, NULL, policy_thread, p);
}

static long policy_end(struct policy *p, bool stop)
{
	void *r = NULL;

	if (stop)
		dmu_stop(p->dmu);
	pthread_join(p->thread, &r);
	return (long)r;
}

FIXTURE(libdmu)
{
	struct dmt t;
	struct policy p;
};

FIXTURE_SETUP(libdmu)
{
	dmt_setup(&self->t);
	close(self->t.ctl);
	self->t.ctl = -1;
	memset(&self->p, 0, sizeof(self->p));
	self->p.t = &self->t;
	self->p.refuse = UINT64_MAX;
	ASSERT_EQ(0, dmu_open(self->t.name, &ops, &self->p, &self->p.dmu))
		TH_LOG("%s", dmu_strerror(NULL));
}

FIXTURE_TEARDOWN(libdmu)
{
	if (self->p.dmu)
		dmu_close(self->p.dmu);
	dmt_teardown(&self->t);
}

TEST_F(libdmu, opens_by_key_name_and_paths)
{
	struct dmu *again;
	char path[300];

	ASSERT_EQ(0, dmu_handshake(self->p.dmu, DMT_PATIENCE));
	EXPECT_EQ(1u << 16 | 2u << 8, dmu_kernel_version(self->p.dmu));
	EXPECT_EQ(DMT_BLOCK, dmu_block_size(self->p.dmu));
	EXPECT_EQ(DMT_BLOCKS, dmu_blocks(self->p.dmu));
	ASSERT_EQ(2, dmu_nr_devices(self->p.dmu));
	EXPECT_EQ(self->t.origin.dev, dmu_device(self->p.dmu, 0));
	EXPECT_EQ(self->t.store.dev, dmu_device(self->p.dmu, 1));

	dmt_control_path(self->t.name, path, sizeof(path));
	ASSERT_EQ(0, dmu_open(path, &ops, &self->p, &again));
	EXPECT_STREQ(self->t.name, dmu_key(again));
	dmu_close(again);
	EXPECT_EQ(-ENODEV, dmu_open("nosuch", &ops, &self->p, &again));
}

TEST_F(libdmu, serves_reads_and_copies_on_write)
{
	unsigned int block;

	ASSERT_EQ(0, policy_run(&self->p));
	for (block = 0; block < DMT_BLOCKS; block++)
		EXPECT_TRUE(dmt_read_matches(self->t.fd, block, DMT_ORIGIN));
	for (block = 0; block < DMT_BLOCKS; block += 2)
		EXPECT_EQ(0, dmt_write_block(self->t.fd, block, 2));
	for (block = 0; block < DMT_BLOCKS; block++) {
		EXPECT_TRUE(dmt_read_matches(self->t.fd, block,
					     block % 2 ? DMT_ORIGIN : 2));
		EXPECT_TRUE(dmt_disk_has(&self->t.origin, block, DMT_ORIGIN));
	}
	EXPECT_EQ(0, policy_end(&self->p, true));
	EXPECT_EQ(DMT_BLOCKS, self->p.reads);
	EXPECT_EQ(DMT_BLOCKS / 2, self->p.writes);
	EXPECT_EQ(DMT_BLOCKS / 2, self->p.syncs);
	EXPECT_LT(0, self->p.batches);
}

TEST_F(libdmu, fails_what_the_policy_refuses)
{
	self->p.refuse = 7;
	ASSERT_EQ(0, policy_run(&self->p));
	EXPECT_EQ(-EIO, dmt_write_block(self->t.fd, 7, 2));
	EXPECT_EQ(0, dmt_write_block(self->t.fd, 8, 2));
	EXPECT_EQ(0, policy_end(&self->p, true));
}

TEST_F(libdmu, an_answer_the_kernel_refuses_fails_the_io)
{
	struct dmu_mapping beyond = {
		.block = 3,
		.dst = self->t.origin.dev,
		.dst_sector = 1u << 30,
	};

	/* Pushed where nothing is asked: refused with the errno's meaning. */
	ASSERT_EQ(0, dmu_push(self->p.dmu, &beyond));
	EXPECT_EQ(-ERANGE, dmu_flush(self->p.dmu));
	beyond.dst = 0;
	ASSERT_EQ(0, dmu_push(self->p.dmu, &beyond));
	EXPECT_EQ(-ENXIO, dmu_flush(self->p.dmu));
}

TEST_F(libdmu, pushes_and_invalidates)
{
	struct dmu_mapping m = {
		.block = 5,
		.dst = self->t.store.dev,
		.dst_sector = 9 * DMT_SECTORS,
		.flags = DMU_MAP_WRITE,
	};

	ASSERT_EQ(0, dmu_push(self->p.dmu, &m));
	ASSERT_EQ(0, dmu_flush(self->p.dmu));
	EXPECT_EQ(0, dmt_write_block(self->t.fd, 5, 4));
	EXPECT_TRUE(dmt_read_matches(self->t.fd, 5, 4));
	ASSERT_EQ(0, dmu_invalidate(self->p.dmu, 5));
	EXPECT_EQ(0, dmu_run(self->p.dmu));
	EXPECT_EQ(6, self->p.invalidated);
	EXPECT_TRUE(self->p.mapped);
	EXPECT_EQ(0, self->p.reads + self->p.writes);
}

TEST_F(libdmu, ends_when_the_target_is_removed)
{
	ASSERT_EQ(0, policy_run(&self->p));
	EXPECT_TRUE(dmt_read_matches(self->t.fd, 1, DMT_ORIGIN));
	close(self->t.fd);
	self->t.fd = -1;
	ASSERT_EQ(0, dmt_dm_remove(self->t.name));
	EXPECT_EQ(0, policy_end(&self->p, false));
	EXPECT_TRUE(self->p.gone);
	/* For the teardown: something to remove. */
	ASSERT_EQ(0, dmt_dm_create(self->t.name));
}

TEST_HARNESS_MAIN
