// SPDX-License-Identifier: GPL-2.0-only
/* I/O whose submitter does not sleep for it, but asks the device all the time. */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/nullb.h"
#include "lib/sysfs.h"
#include <err.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* --- a ring that polls --------------------------------------------------------------- */

/**
 * struct ring - of io_uring, for one I/O at a time
 * @fd: of it
 * @sq: the queue of what is submitted, and that of what is over
 * @sqes: what is submitted
 * @p: what the kernel says of it
 */
struct ring {
	int fd;
	char *sq;
	struct io_uring_sqe *sqes;
	struct io_uring_params p;
};

static uint32_t *ring_at(const struct ring *r, uint32_t offset)
{
	return (uint32_t *)(r->sq + offset);
}

/* False where this kernel has none. */
static bool ring_make(struct ring *r)
{
	memset(r, 0, sizeof(*r));
	r->p.flags = IORING_SETUP_IOPOLL;
	r->fd = (int)syscall(SYS_io_uring_setup, 1, &r->p);
	if (r->fd < 0)
		return false;
	if (!(r->p.features & IORING_FEAT_SINGLE_MMAP))
		errx(1, "io_uring is too old");
	/* More than both queues of one entry need. */
	r->sq = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQ_RING);
	r->sqes = mmap(NULL, sizeof(*r->sqes), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQES);
	if (r->sq == MAP_FAILED || r->sqes == MAP_FAILED)
		err(1, "io_uring");
	return true;
}

static void ring_free(struct ring *r)
{
	if (r->fd >= 0)
		close(r->fd);
}

/* Submit an I/O, and poll until it is over: its result. */
static int ring_do(struct ring *r, uint8_t op, int fd, void *buf, size_t len,
		   uint64_t offset)
{
	uint32_t head = *ring_at(r, r->p.cq_off.head);
	uint32_t mask = *ring_at(r, r->p.cq_off.ring_mask);
	struct io_uring_cqe *cqe = (void *)(r->sq + r->p.cq_off.cqes);
	uint32_t *tail = ring_at(r, r->p.sq_off.tail);
	unsigned int submit = 1;

	memset(r->sqes, 0, sizeof(*r->sqes));
	r->sqes->opcode = op;
	r->sqes->fd = fd;
	r->sqes->addr = (uintptr_t)buf;
	r->sqes->len = (uint32_t)len;
	r->sqes->off = offset;
	ring_at(r, r->p.sq_off.array)[0] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	/* It returns, too, where somebody else wants to run. */
	do {
		if (syscall(SYS_io_uring_enter, r->fd, submit, 1,
			    IORING_ENTER_GETEVENTS, NULL, 0) < 0)
			return -errno;
		submit = 0;
	} while (__atomic_load_n(ring_at(r, r->p.cq_off.tail),
				 __ATOMIC_ACQUIRE) == head);
	*ring_at(r, r->p.cq_off.head) = head + 1;
	return cqe[head & mask].res;
}

/* --- devices ------------------------------------------------------------------------- */

/**
 * @disk: can be polled
 * @able: there is such a disk, and io_uring
 * @ring: polls
 * @ours: a device of ours on it
 * @linear: one of dm-linear
 * @ctl: the control device of ours
 * @buf: of DMT_BLOCK bytes
 */
FIXTURE(polled)
{
	struct dmt_disk disk;
	bool able;
	struct ring ring;
	int ours;
	int linear;
	int ctl;
	void *buf;
};

/*
 * Give each block of a disk its memory: null_blk would ask for it where it is
 * polled, and must not sleep.
 */
static void disk_write_all(const struct dmt_disk *disk)
{
	uint8_t *zero = calloc(1, disk->bytes);

	if (!zero ||
	    pwrite(disk->loop, zero, disk->bytes, 0) != (ssize_t)disk->bytes ||
	    fsync(disk->loop))
		err(1, "%s", disk->name);
	free(zero);
}

static int device(const char *name, const char *type, const char *params)
{
	int fd;

	if (dmt_dm_create(name) ||
	    dmt_dm_load(name, 0, DMT_BLOCKS * DMT_SECTORS, type, params) ||
	    dmt_dm_resume(name))
		errx(1, "cannot make %s", name);
	fd = dmt_dm_open(name, O_RDWR | O_DIRECT);
	if (fd < 0)
		err(1, "%s", name);
	return fd;
}

FIXTURE_VARIANT(polled)
{
	bool polls;
};

FIXTURE_VARIANT_ADD(polled, disk_with_queues_for_it) { .polls = true };
FIXTURE_VARIANT_ADD(polled, disk_without) { .polls = false };

FIXTURE_SETUP(polled)
{
	static const struct dmt_nullb_attr attrs[] = {
		{ "memory_backed", "1" }, { "poll_queues", "1" }, { NULL, NULL }
	};
	char params[128];

	self->able = ring_make(&self->ring);
	if (!variant->polls)
		dmt_disk_open(&self->disk, 4 << 20, 0);
	else if (!dmt_nullb_make(&self->disk, "polled", 4, attrs))
		self->able = false;
	if (!self->able)
		return;
	disk_write_all(&self->disk);
	snprintf(params, sizeof(params), "polled-ours 4096 %u:%u",
		 major(self->disk.dev), minor(self->disk.dev));
	self->ours = device("polled-ours", "userspace", params);
	self->ctl = dmt_control_open("polled-ours", O_NONBLOCK);
	snprintf(params, sizeof(params), "%u:%u 0", major(self->disk.dev),
		 minor(self->disk.dev));
	self->linear = device("polled-linear", "linear", params);
	if (posix_memalign(&self->buf, 4096, DMT_BLOCK))
		errx(1, "no memory");
}

FIXTURE_TEARDOWN(polled)
{
	ring_free(&self->ring);
	if (self->able) {
		close(self->ctl);
		dmt_dm_message("polled-ours", "error_if_no_daemon on");
		dmt_dm_message("polled-ours", "fail_waiting");
		close(self->ours);
		close(self->linear);
		EXPECT_EQ(0, dmt_dm_remove("polled-ours"));
		EXPECT_EQ(0, dmt_dm_remove("polled-linear"));
		free(self->buf);
	}
	if (variant->polls)
		dmt_nullb_remove(&self->disk, "polled");
	else
		dmt_disk_close(&self->disk);
}

/* A daemon in a thread: nobody but the submitter of polled I/O sleeps. */
struct answerer {
	int ctl;
	struct dmt_map map;
	bool fails;
	bool ok;
};

static void *answer(void *arg)
{
	struct answerer *a = arg;
	struct dmt_msg msg;
	uint32_t id;

	a->ok = dmt_expect(a->ctl, DM_USERSPACE_MAP_BLOCK_REQ, &msg);
	id = msg.header.id;
	/* The submitter is to find that there is nothing yet. */
	dmt_grace_period();
	if (a->fails) {
		a->ok &= !dmt_fail(a->ctl, id);
		return NULL;
	}
	a->ok &= !dmt_map(a->ctl, id, &a->map);
	if (a->map.flags & SYNC)
		a->ok &= dmt_expect_status(a->ctl, id,
					   DM_USERSPACE_SYNC_COMPLETE) &&
			 !dmt_sync_done(a->ctl, id);
	return NULL;
}

/* Polled I/O for which a daemon has to be asked for a block. */
static int asked_at(FIXTURE_DATA(polled) *self, uint8_t op, struct dmt_map map,
		    bool fails, uint64_t offset)
{
	struct answerer a = { .ctl = self->ctl, .map = map, .fails = fails };
	pthread_t thread;
	int r;

	a.map.dst = &self->disk;
	a.map.src = &self->disk;
	if (pthread_create(&thread, NULL, answer, &a))
		errx(1, "no thread");
	r = ring_do(&self->ring, op, self->ours, self->buf, DMT_BLOCK, offset);
	pthread_join(thread, NULL);
	return a.ok ? r : -EPROTO;
}

/* All of it in one block. */
static int asked(FIXTURE_DATA(polled) *self, uint8_t op, struct dmt_map map,
		 bool fails)
{
	return asked_at(self, op, map, fails, map.block * DMT_BLOCK);
}

static bool holds(FIXTURE_DATA(polled) *self, uint64_t place, uint64_t block,
		  int seed)
{
	uint8_t want[DMT_BLOCK], got[DMT_BLOCK];

	dmt_pattern(want, sizeof(want), block, seed);
	ioctl(self->disk.loop, BLKFLSBUF);
	return pread(self->disk.loop, got, sizeof(got),
		     (off_t)place * DMT_BLOCK) == sizeof(got) &&
	       !memcmp(want, got, sizeof(got));
}

TEST_F_TIMEOUT(polled, io_ends_or_is_refused_as_dm_linear_does, 60)
{
	struct dmt_map map = { .block = 1, .to = 7, .dst = &self->disk,
			       .flags = RW };
	int r;

	if (!self->able)
		SKIP(return, "this kernel has no io_uring, or no null_blk that polls");
	EXPECT_EQ(dmt_queue_get(dmt_dev_of(self->linear), "io_poll"),
		  dmt_queue_get(dmt_dev_of(self->ours), "io_poll"));
	ASSERT_EQ(0, dmt_map(self->ctl, 0, &map));
	dmt_pattern(self->buf, DMT_BLOCK, 1, 2);
	r = ring_do(&self->ring, IORING_OP_WRITE, self->linear, self->buf,
		    DMT_BLOCK, 0);
	/* A disk that cannot be polled is not; newer kernels refuse to try. */
	EXPECT_TRUE(r == DMT_BLOCK || (!variant->polls && r == -EOPNOTSUPP));
	EXPECT_EQ(r, ring_do(&self->ring, IORING_OP_WRITE, self->ours,
			     self->buf, DMT_BLOCK, DMT_BLOCK));
	EXPECT_EQ(r == DMT_BLOCK, holds(self, 7, 1, 2));
	memset(self->buf, 0, DMT_BLOCK);
	EXPECT_EQ(r, ring_do(&self->ring, IORING_OP_READ, self->ours,
			     self->buf, DMT_BLOCK, DMT_BLOCK));
	EXPECT_EQ(r == DMT_BLOCK ? 2 : 0,
		  dmt_counter("polled-ours", DMT_HITS));
}

TEST_F_TIMEOUT(polled, io_that_waits_for_a_daemon_ends, 60)
{
	struct dmt_map map = { .flags = RW };
	unsigned int i;

	if (!self->able || !variant->polls)
		SKIP(return, "there is nothing to poll");
	for (i = 0; i < 4; i++) {
		static const uint32_t flags[] = { RW, RW | COPY, RW | SYNC,
						  RW | COPY | SYNC };

		map.block = i;
		map.to = 20 + i;
		map.flags = flags[i];
		dmt_pattern(self->buf, DMT_BLOCK, i, 2);
		EXPECT_EQ(DMT_BLOCK, asked(self, IORING_OP_WRITE, map, false));
		EXPECT_TRUE(holds(self, 20 + i, i, 2));
		map.block = i + 20;
		map.to = i + 20;
		memset(self->buf, 0, DMT_BLOCK);
		EXPECT_EQ(DMT_BLOCK, asked(self, IORING_OP_READ, map, false));
		EXPECT_TRUE(holds(self, 20 + i, i, 2));
	}
	/* Across two blocks: half of it finds where it lives. */
	map.block = 10;
	map.to = 24;
	map.flags = RW;
	map.dst = &self->disk;
	ASSERT_EQ(0, dmt_map(self->ctl, 0, &map));
	map.block = 11;
	map.to = 20;
	EXPECT_EQ(DMT_BLOCK, asked_at(self, IORING_OP_READ, map, false,
				      11 * DMT_BLOCK - 512));
	map.block = 9;
	EXPECT_EQ(-EIO, asked(self, IORING_OP_READ, map, true));
	EXPECT_EQ(0, dmt_counter("polled-ours", DMT_WAITING));
	EXPECT_EQ(0, dmt_counter("polled-ours", DMT_SENT));
}

TEST_HARNESS_MAIN
