// SPDX-License-Identifier: GPL-2.0-only
/*
 * Faults under load: of the disks, of memory, and of the daemon's own buffers. A
 * daemon copies blocks on write, pushes mappings and takes them back, while
 * threads read and write all of it. While there are faults I/O may fail, but what
 * succeeds is right; when they are over nothing fails, and nothing was lost.
 */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/fixture.h"
#include "lib/gate.h"
#include "lib/inject.h"
#include "lib/suspend.h"
#include "lib/sysfs.h"
#include "lib/traffic.h"
#include <err.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define BLOCKS	1024u
#define UNITS	(DMT_BLOCK / DMT_UNIT)
#define BUSY	(DMT_PATIENCE / 1000 * 3) /* s in which something must be done */

/* --- a daemon ------------------------------------------------------------------------- */

enum stage { ON_ORIGIN, ON_ITS_WAY, IN_STORE };

/**
 * struct faulty - a device with load
 * @t: the device; block b of the store is where block b is copied to
 * @origin: gate before the origin
 * @store: gate before the store
 * @traffic: the load
 * @stage: where each block is
 * @id: of the answer that said that it is on its way
 * @random: of the daemon
 * @daemon: a thread
 * @stop: tells it to end
 * @wrong: it was told something that it should not be
 * @faults: reads of its that failed, and writes
 * @refused: pushes that there was no memory for
 * @pushed: others
 * @pushed_poor: of these, while memory was refused
 * @faulty: there are faults of disks
 * @phase: how often there have been
 */
struct faulty {
	struct dmt t;
	struct dmt_gate origin;
	struct dmt_gate store;
	struct dmt_traffic traffic;
	enum stage stage[BLOCKS];
	uint32_t id[BLOCKS];
	uint64_t random;
	pthread_t daemon;
	int stop;
	atomic_bool wrong;
	atomic_uint faults[2];
	atomic_uint refused;
	atomic_uint pushed;
	unsigned int pushed_poor;
	atomic_bool faulty;
	_Atomic uint64_t phase;
};

/* Again, where the buffer was said to be bad: nothing came of it then. */
static int send(struct faulty *f, uint32_t type, uint32_t id,
		const void *payload, uint32_t len)
{
	ssize_t n;

	while ((n = dmt_write_msg(f->t.ctl, type, id, payload, len)) == -EFAULT)
		f->faults[1]++;
	return n < 0 ? (int)n : 0;
}

static int map(struct faulty *f, uint32_t id, const struct dmt_map *m)
{
	struct dmu_msg_map_response r;

	dmt_response(&r, id, m);
	return send(f, DM_USERSPACE_MAP_BLOCK_RESP, id, &r, sizeof(r));
}

static struct dmt_map place_of(struct faulty *f, uint64_t block, bool write)
{
	if (f->stage[block] == IN_STORE)
		return dmt_plain(&f->t.store, block, block, RW);
	if (f->stage[block] == ON_ORIGIN && !write)
		return dmt_plain(&f->t.origin, block, block, RO);
	return dmt_cow(&f->t, block, block, RW | SYNC);
}

static void say_wrong(struct faulty *f, const char *what, uint64_t number)
{
	warnx("the daemon: %s: %" PRIu64, what, number);
	f->wrong = true;
}

static void answer(struct faulty *f, const struct dmt_msg *msg)
{
	uint64_t block = msg->request.org_block;
	struct dmt_map m = place_of(f, block, msg->request.flags & DMU_FLAG_WR);

	if (m.flags & SYNC) {
		f->stage[block] = ON_ITS_WAY;
		f->id[block] = msg->header.id;
	}
	/* A request that was read can always be answered. */
	if (map(f, msg->header.id, &m))
		say_wrong(f, "an answer was refused, block", block);
}

static void take_status(struct faulty *f, const struct dmt_msg *msg)
{
	struct dmu_msg_status s = { .id_of_op = msg->header.id,
				    .status = DM_USERSPACE_SYNC_COMPLETE };
	uint64_t block;

	if (msg->status.status != DM_USERSPACE_SYNC_COMPLETE) {
		if (msg->header.id >= BLOCKS)
			say_wrong(f, "a verdict on", msg->header.id);
		return;
	}
	for (block = 0; block < BLOCKS; block++)
		if (f->id[block] == msg->header.id)
			break;
	if (block == BLOCKS) {
		say_wrong(f, "a report of", msg->header.id);
		return;
	}
	f->stage[block] = IN_STORE;
	if (send(f, DM_USERSPACE_STATUS, s.id_of_op, &s, sizeof(s)))
		say_wrong(f, "an ack was refused, block", block);
}

/* Tell the kernel what it did not ask for, or let it forget. */
static void meddle(struct faulty *f)
{
	uint64_t block = dmt_below(&f->random, BLOCKS);
	struct dmu_msg_invalidate_map i = { .org_block = block };
	struct dmt_map m = place_of(f, block, false);
	int r;

	if (m.flags & SYNC)
		return;
	if (dmt_below(&f->random, 2)) {
		if (send(f, DM_USERSPACE_MAP_INVALIDATE, (uint32_t)block, &i,
			 sizeof(i)))
			say_wrong(f, "not invalidated: block", block);
		return;
	}
	r = map(f, 0, &m);
	if (r && r != -ENOMEM)
		say_wrong(f, "not pushed: block", block);
	*(r ? &f->refused : &f->pushed) += 1;
}

static void *live(void *arg)
{
	struct faulty *f = arg;
	struct pollfd pfd[2] = { { .fd = f->t.ctl, .events = POLLIN },
				 { .fd = f->stop, .events = POLLIN } };
	struct dmt_msg msg;
	ssize_t n;

	while (poll(pfd, 2, -1) && !pfd[1].revents && !f->wrong) {
		n = dmt_read_msg(f->t.ctl, &msg);
		if (n == -EFAULT)
			f->faults[0]++;
		if (n <= 0)
			continue;
		if (msg.header.msg_type == DM_USERSPACE_MAP_BLOCK_REQ)
			answer(f, &msg);
		else if (msg.header.msg_type == DM_USERSPACE_STATUS)
			take_status(f, &msg);
		else
			say_wrong(f, "a message of type", msg.header.msg_type);
		meddle(f);
	}
	return NULL;
}

/* --- the device ----------------------------------------------------------------------- */

static uint64_t excuse(struct dmt_traffic *traffic, uint32_t first,
		       uint32_t last)
{
	struct faulty *f = traffic->arg;

	(void)first;
	(void)last;
	return f->faulty ? DMT_EXCUSED : f->phase;
}

FIXTURE(faulty)
{
	struct faulty *f;
};

static void make_disks(struct faulty *f)
{
	const uint64_t bytes = (uint64_t)BLOCKS * DMT_BLOCK;
	struct dmt *t = &f->t;
	char name[64];

	dmt_disk_open(&t->origin, bytes, 0);
	dmt_disk_open(&t->store, bytes, 0);
	dmt_units_fill(t->origin.fd, 0, 0, BLOCKS * UNITS, 1);
	snprintf(name, sizeof(name), "%s-origin", t->name);
	dmt_gate_make(&f->origin, name, &t->origin);
	snprintf(name, sizeof(name), "%s-store", t->name);
	dmt_gate_make(&f->store, name, &t->store);
}

FIXTURE_SETUP(faulty)
{
	struct faulty *f = calloc(1, sizeof(*f));
	unsigned int old = dmt_param_get("remap_reserve");
	struct dmt *t = &f->t;
	char params[256];

	if (!f)
		errx(1, "no memory");
	self->f = f;
	snprintf(t->name, sizeof(t->name), "dmt%d", getpid());
	make_disks(f);
	dmt_params(t, params, sizeof(params));
	dmt_param_set("remap_reserve", 4);
	if (dmt_dm_create(t->name) ||
	    dmt_dm_load(t->name, 0, BLOCKS * DMT_SECTORS, "userspace",
			params) ||
	    dmt_dm_resume(t->name))
		errx(1, "cannot make the mapped device %s", t->name);
	dmt_param_set("remap_reserve", old);
	t->fd = dmt_dm_open(t->name, O_RDWR | O_DIRECT);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	f->stop = eventfd(0, EFD_CLOEXEC);
	if (t->fd < 0 || f->stop < 0)
		err(1, "%s", t->name);
	f->random = dmt_seed();
	dmt_traffic_make(&f->traffic, t->fd, BLOCKS * UNITS);
	dmt_traffic_holds(&f->traffic, 0, BLOCKS * UNITS, 1);
	f->traffic.writers = 6;
	f->traffic.readers = 4;
	f->traffic.seed = f->random;
	f->traffic.excuse = excuse;
	f->traffic.arg = f;
	if (pthread_create(&f->daemon, NULL, live, f))
		errx(1, "no thread");
	dmt_traffic_start(&f->traffic);
}

FIXTURE_TEARDOWN(faulty)
{
	static const char *const faults[] = { "failslab", "fail_page_alloc",
					      "fail_usercopy",
					      "fail_make_request" };
	struct faulty *f = self->f;
	unsigned int i;

	for (i = 0; i < 4; i++)
		if (dmt_inject_able(faults[i]))
			dmt_inject_stop(faults[i]);
	dmt_gate_mend(&f->origin);
	dmt_gate_mend(&f->store);
	dmt_traffic_stop(&f->traffic);
	if (f->wrong)
		dmt_dm_message(f->t.name, "fail_waiting");
	dmt_traffic_join(&f->traffic);
	if (eventfd_write(f->stop, 1))
		err(1, "eventfd");
	pthread_join(f->daemon, NULL);
	dmt_teardown(&f->t);
	dmt_gate_remove(&f->store);
	dmt_gate_remove(&f->origin);
}

/* --- what tests do -------------------------------------------------------------------- */

/* Wait until so many more I/Os are over, be it with an error that is excused. */
static bool run(struct faulty *f, uint64_t more)
{
	struct dmt_traffic *traffic = &f->traffic;
	uint64_t done = traffic->ios + traffic->excused, last = done;
	uint64_t until = done + more;
	struct timespec begun, now;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	for (; done < until; done = traffic->ios + traffic->excused) {
		if (traffic->wrong || f->wrong)
			return false;
		poll(NULL, 0, 1);
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (done != last)
			begun = now;
		last = done;
		if (now.tv_sec - begun.tv_sec > BUSY) {
			warnx("nothing goes on any more");
			return false;
		}
	}
	return true;
}

/* Disks are going to have faults. */
static void faults_begin(struct faulty *f)
{
	f->phase++;
	f->faulty = true;
}

/* They have none any more: whatever met one has come back after this. */
static bool faults_end(struct faulty *f)
{
	if (dmt_suspend(&f->t, false) || dmt_dm_resume(f->t.name))
		return false;
	f->faulty = false;
	return true;
}

/* All of it can be read, and is where the daemon believes it to be. */
static bool all_is_well(struct faulty *f)
{
	uint8_t buf[DMT_BLOCK];
	uint32_t block;

	dmt_traffic_stop(&f->traffic);
	dmt_traffic_join(&f->traffic);
	if (f->traffic.wrong || f->wrong || !dmt_traffic_read(&f->traffic))
		return false;
	for (block = 0; block < BLOCKS; block++) {
		bool moved = f->stage[block] == IN_STORE;
		int fd = moved ? f->t.store.fd : f->t.origin.fd;

		if (f->stage[block] == ON_ITS_WAY)
			continue;
		if (pread(fd, buf, sizeof(buf), (off_t)block * DMT_BLOCK) !=
		    sizeof(buf))
			err(1, "looking at a disk");
		if (!dmt_traffic_has(&f->traffic, buf, block * UNITS, UNITS))
			return false;
	}
	for (block = 0; block < BLOCKS; block++) {
		dmt_unit_fill(buf, block * UNITS, 1);
		if (pread(f->t.origin.fd, buf + DMT_UNIT, DMT_UNIT,
			  (off_t)block * DMT_BLOCK) != DMT_UNIT)
			err(1, "looking at a disk");
		if (memcmp(buf, buf + DMT_UNIT, DMT_UNIT)) {
			warnx("block %u of the origin was written to", block);
			return false;
		}
	}
	ksft_print_msg("%" PRIu64 " I/Os, %" PRIu64 " failed; %u pushed, %u refused; %u and %u calls failed\n",
		       f->traffic.ios, f->traffic.excused, f->pushed, f->refused,
		       f->faults[0], f->faults[1]);
	return true;
}

/* Of all that is done over and over make drill has more. */
static unsigned int longer(unsigned int times)
{
	return times * ((dmt_scale() + 3) / 4);
}

/* --- disks ------------------------------------------------------------------------------ */

TEST_F_TIMEOUT(faulty, disks_that_fail_and_recover, 600)
{
	struct faulty *f = self->f;
	unsigned int i;

	for (i = 0; i < longer(12); i++) {
		const struct dmt_gate *gate = i % 2 ? &f->origin : &f->store;

		ASSERT_TRUE(run(f, 20));
		faults_begin(f);
		if (i % 4 == 2)
			dmt_gate_break_writes(gate);
		else
			dmt_gate_break(gate);
		ASSERT_TRUE(run(f, 40));
		dmt_gate_mend(gate);
		ASSERT_TRUE(faults_end(f));
	}
	ASSERT_TRUE(run(f, 200));
	EXPECT_LT(20, f->traffic.excused);
	ASSERT_TRUE(all_is_well(f));
}

TEST_F_TIMEOUT(faulty, blocks_of_the_origin_that_cannot_be_read, 600)
{
	struct faulty *f = self->f;
	char message[32];
	unsigned int i;

	faults_begin(f);
	if (!dmt_gate_dust(&f->origin))
		SKIP(return, "this kernel has no dm-dust");
	for (i = 0; i < BLOCKS; i += 3) {
		snprintf(message, sizeof(message), "addbadblock %u", i);
		ASSERT_EQ(0, dmt_dm_message(f->origin.name, message));
	}
	ASSERT_EQ(0, dmt_dm_message(f->origin.name, "enable"));
	ASSERT_TRUE(run(f, longer(300)));
	EXPECT_LT(20, f->traffic.excused);
	ASSERT_EQ(0, dmt_dm_message(f->origin.name, "disable"));
	ASSERT_TRUE(faults_end(f));
	ASSERT_TRUE(run(f, 300));
	ASSERT_TRUE(all_is_well(f));
}

TEST_F_TIMEOUT(faulty, requests_that_fail_at_random, 600)
{
	struct faulty *f = self->f;

	if (!dmt_inject_able("fail_make_request"))
		SKIP(return, "this kernel cannot fail requests (no fail_make_request)");
	faults_begin(f);
	dmt_inject_disk(&f->t.origin, true);
	dmt_inject_disk(&f->t.store, true);
	dmt_inject("fail_make_request", 20);
	ASSERT_TRUE(run(f, longer(500)));
	dmt_inject_stop("fail_make_request");
	EXPECT_LT(20, f->traffic.excused);
	ASSERT_TRUE(faults_end(f));
	ASSERT_TRUE(run(f, 300));
	ASSERT_TRUE(all_is_well(f));
}

/* --- memory ----------------------------------------------------------------------------- */

static bool memory_can_fail(void)
{
	return dmt_inject_able("failslab") && dmt_inject_able("fail_page_alloc");
}

/* Let all that the module asks for fail so often, and see that it goes on. */
static bool run_poor(struct faulty *f, unsigned int percent)
{
	unsigned int i, before;
	bool ok = true;

	dmt_inject_here("failslab", percent);
	dmt_inject_here("fail_page_alloc", percent);
	before = f->pushed;
	for (i = 0; i < longer(10) && ok; i++)
		ok = !dmt_dm_message(f->t.name, "drop_idle") && run(f, 30);
	f->pushed_poor = f->pushed - before;
	dmt_inject_stop("failslab");
	dmt_inject_stop("fail_page_alloc");
	return ok;
}

TEST_F_TIMEOUT(faulty, memory_that_is_refused_at_random, 600)
{
	struct faulty *f = self->f;

	if (!memory_can_fail())
		SKIP(return, "this kernel cannot fail allocations (no failslab)");
	ASSERT_TRUE(run_poor(f, 10));
	ASSERT_TRUE(run_poor(f, 50));
	EXPECT_LT(0, f->refused);
	ASSERT_TRUE(run(f, 100));
	ASSERT_TRUE(all_is_well(f));
}

TEST_F_TIMEOUT(faulty, no_memory_at_all, 600)
{
	struct faulty *f = self->f;

	if (!memory_can_fail())
		SKIP(return, "this kernel cannot fail allocations (no failslab)");
	ASSERT_TRUE(run_poor(f, 100));
	EXPECT_LT(10, f->refused);
	/* One may have been under way. */
	EXPECT_GE(1, f->pushed_poor);
	ASSERT_TRUE(run(f, 100));
	ASSERT_TRUE(all_is_well(f));
}

/* --- the daemon's buffers --------------------------------------------------------------- */

TEST_F_TIMEOUT(faulty, buffers_that_fault_at_random, 600)
{
	struct faulty *f = self->f;
	unsigned int i;

	if (!dmt_inject_able("fail_usercopy"))
		SKIP(return, "this kernel cannot fail copies to and from user space (no fail_usercopy)");
	dmt_inject_here("fail_usercopy", 30);
	for (i = 0; i < longer(10); i++) {
		ASSERT_EQ(0, dmt_dm_message(f->t.name, "drop_idle"));
		ASSERT_TRUE(run(f, 40));
	}
	dmt_inject_stop("fail_usercopy");
	EXPECT_LT(10, f->faults[0]);
	EXPECT_LT(10, f->faults[1]);
	ASSERT_TRUE(run(f, 100));
	ASSERT_TRUE(all_is_well(f));
}

/* --- one after the other ------------------------------------------------------------------ */

FIXTURE(nth)
{
	struct dmt_disk disk;
	char name[32];
	char params[128];
	bool able;
};

FIXTURE_SETUP(nth)
{
	snprintf(self->name, sizeof(self->name), "dmt%d", getpid());
	dmt_disk_open(&self->disk, DMT_BLOCKS * DMT_BLOCK, 0);
	snprintf(self->params, sizeof(self->params), "%s 4096 %u:%u",
		 self->name, major(self->disk.dev), minor(self->disk.dev));
	self->able = memory_can_fail() &&
		     !access("/proc/thread-self/fail-nth", W_OK);
	if (self->able) {
		dmt_inject_here("failslab", 0);
		dmt_inject_here("fail_page_alloc", 0);
		/* These count, too, where they are not told whose they are. */
		if (dmt_inject_able("fail_usercopy"))
			dmt_inject_here("fail_usercopy", 0);
	}
	if (dmt_dm_create(self->name))
		errx(1, "cannot make %s", self->name);
}

FIXTURE_TEARDOWN(nth)
{
	if (self->able) {
		dmt_fail_nth(0);
		dmt_inject_stop("failslab");
		dmt_inject_stop("fail_page_alloc");
		if (dmt_inject_able("fail_usercopy"))
			dmt_inject_stop("fail_usercopy");
	}
	dmt_dm_remove(self->name);
	dmt_disk_close(&self->disk);
}

#define NEEDS_NTH() do { \
	if (!self->able) \
		SKIP(return, "this kernel cannot fail the nth allocation (no fail-nth)"); \
} while (0)

/* Each of them takes long; where there is no time, some of them, by chance. */
static unsigned int nth_step(void)
{
	return dmt_scale() > 1 ? 1 : 16;
}

static unsigned int nth_first(void)
{
	return 1 + (unsigned int)(dmt_seed() % nth_step());
}

/* A table load succeeds, or fails for lack of memory and leaves no trace. */
TEST_F_TIMEOUT(nth, each_allocation_of_a_table_load_can_fail, 1200)
{
	unsigned int nth = nth_first(), tried = 0, failed = 0;
	bool hit = true;

	NEEDS_NTH();
	for (; hit; nth += nth_step(), tried++) {
		int r;

		dmt_fail_nth(nth);
		r = dmt_dm_load(self->name, 0, DMT_BLOCKS * DMT_SECTORS,
				"userspace", self->params);
		hit = dmt_nth_failed();
		dmt_fail_nth(0);
		if (!r) {
			EXPECT_EQ(0, dmt_dm_resume(self->name));
			ASSERT_EQ(0, dmt_dm_remove(self->name));
			ASSERT_EQ(0, dmt_dm_create(self->name));
		} else {
			EXPECT_EQ(-ENOMEM, r);
			failed++;
		}
		ASSERT_TRUE(dmt_keys_are_gone());
	}
	ksft_print_msg("%u allocations, %u of them needed\n", tried - 1, failed);
	/* Some of them may leave out those. */
	if (nth_step() == 1)
		EXPECT_LT(5, failed);
}

TEST_F_TIMEOUT(nth, each_allocation_of_an_open_can_fail, 600)
{
	unsigned int nth = 0, failed = 0;
	char path[300];
	bool hit = true;

	NEEDS_NTH();
	ASSERT_EQ(0, dmt_dm_load(self->name, 0, DMT_BLOCKS * DMT_SECTORS,
				 "userspace", self->params));
	ASSERT_EQ(0, dmt_dm_resume(self->name));
	dmt_control_path(self->name, path, sizeof(path));
	while (hit) {
		int fd;

		dmt_fail_nth(++nth);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			EXPECT_EQ(ENOMEM, errno);
			failed++;
		}
		hit = dmt_nth_failed();
		dmt_fail_nth(0);
		if (fd >= 0)
			close(fd);
		EXPECT_FALSE(dmt_attached(self->name));
	}
	ksft_print_msg("%u allocations, %u of them needed\n", nth - 1, failed);
	EXPECT_LT(0, failed);
}

DMT_SCALED_MAIN
