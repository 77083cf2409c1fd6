// SPDX-License-Identifier: GPL-2.0-only
/*
 * Several daemons for one device, all at once: they answer, push, take back and
 * move the same few blocks, while threads read and write all of them.
 *
 * They agree by way of a book that says on which of the two disks a block lives:
 * all name that place and no other. Who moves a block has it alone meanwhile: he
 * invalidates it, waits for the verdict, copies it, be it by hand, and then only
 * lets the others have it again. So whatever the kernel sent to a place after it was
 * said to be free, and whatever it forgot to send, is seen.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/run.h"
#include "lib/sysfs.h"
#include "lib/traffic.h"
#include <err.h>
#include <inttypes.h>
#include <poll.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define RIVALS	3u
#define ROUNDS	2u
#define TURNS	25u /* of each of them, in a round */
#define UNITS	(DMT_BLOCK / DMT_UNIT)
#define RUN	8u /* blocks that one remap can have */

/* --- what they share ------------------------------------------------------------------ */

/**
 * struct entry - of the book: a block
 * @lock: whoever says where it lives shares it; whoever moves it has it alone
 * @side: of the disks
 */
struct entry {
	pthread_rwlock_t lock;
	unsigned int side;
};

struct ask {
	uint32_t id;
	uint32_t flags;
	uint64_t block;
	uint32_t count;
};

struct contest;

/**
 * struct rival - one of the daemons, a thread
 * @contest: that it takes part in
 * @thread: itself
 * @fd: its control device
 * @random: state of its random numbers
 * @turns: that it is to do before it only answers
 * @owed: verdicts that it waits for
 * @nr_asked: in @asked
 * @asked: requests that it has read and not answered: no more are outstanding
 */
struct rival {
	struct contest *contest;
	pthread_t thread;
	int fd;
	uint64_t random;
	unsigned int turns;
	unsigned int owed;
	unsigned int nr_asked;
	struct ask asked[2 * DMT_BLOCKS];
};

/**
 * struct contest - all of it
 * @t: the device
 * @book: where each block lives
 * @traffic: what is written to it
 * @rival: those who serve it
 * @done: counts those who have done their turns
 * @stop: tells them to end
 * @wrong: one was told something that it should not be, or was refused
 * @moves: of blocks
 */
struct contest {
	struct dmt *t;
	struct entry book[DMT_BLOCKS];
	struct dmt_traffic traffic;
	struct rival rival[RIVALS];
	sem_t done;
	int stop;
	atomic_bool wrong;
	atomic_uint moves;
};

static void say_wrong(struct rival *r, const char *what, uint64_t number)
{
	warnx("a daemon: %s: %" PRIu64, what, number);
	r->contest->wrong = true;
}

static const struct dmt_disk *disk_of(const struct dmt *t, unsigned int side)
{
	return side ? &t->store : &t->origin;
}

/* Blocks in a row, in this order: nobody waits for another in a ring. */
static void share(struct contest *c, uint64_t block, uint32_t count)
{
	for (; count--; block++)
		pthread_rwlock_rdlock(&c->book[block].lock);
}

static void lock(struct contest *c, uint64_t block, uint32_t count)
{
	for (; count--; block++)
		pthread_rwlock_wrlock(&c->book[block].lock);
}

static void unlock(struct contest *c, uint64_t block, uint32_t count)
{
	for (; count--; block++)
		pthread_rwlock_unlock(&c->book[block].lock);
}

/* --- what a daemon says; it has the blocks ---------------------------------------------- */

/* How many from the first on live side by side? */
static uint32_t together(struct contest *c, uint64_t block, uint32_t count)
{
	uint32_t n = 1;

	while (n < count && c->book[block + n].side == c->book[block].side)
		n++;
	return n;
}

static void say_map(struct rival *r, struct dmt_map *map, uint32_t id)
{
	int error = dmt_map(r->fd, id, map);

	if (error)
		say_wrong(r, strerror(-error), map->block);
}

/* Where blocks live that are asked for (@id), or that nobody has asked for (0). */
static void say_where(struct rival *r, uint64_t block, uint32_t count,
		      uint32_t id, uint32_t flags)
{
	struct contest *c = r->contest;
	uint32_t i, n;
	int error;

	for (i = 0; i < count; i += n) {
		const struct dmt_disk *disk;
		struct dmt_map map;

		n = together(c, block + i, count - i);
		disk = disk_of(c->t, c->book[block + i].side);
		map = dmt_plain(disk, block + i, block + i, flags);
		if (n == 1) {
			say_map(r, &map, id ? id + i : 0);
			continue;
		}
		error = dmt_map_run(r->fd, id ? id + i : 0,
				    dmt_run(block + i, n, disk, block + i, flags));
		if (error)
			say_wrong(r, strerror(-error), block + i);
	}
}

static uint32_t some_rights(struct rival *r, bool write)
{
	return write || dmt_below(&r->random, 2) ? RW : RO;
}

static void answer(struct rival *r, const struct ask *ask)
{
	bool write = ask->flags & DMU_FLAG_WR;
	uint32_t flags = some_rights(r, write);

	switch (dmt_below(&r->random, 8)) {
	case 0:
		flags |= TEMP;
		break;
	case 1 ... 3:
		flags |= write ? SYNC : 0;
		break;
	}
	share(r->contest, ask->block, ask->count);
	say_where(r, ask->block, ask->count, ask->id, flags);
	unlock(r->contest, ask->block, ask->count);
}

/* In any order. */
static void answer_all(struct rival *r)
{
	unsigned int i;

	while (r->nr_asked) {
		i = dmt_below(&r->random, r->nr_asked);
		answer(r, &r->asked[i]);
		r->asked[i] = r->asked[--r->nr_asked];
	}
}

/* --- what a daemon is told --------------------------------------------------------------- */

static void note_ask(struct rival *r, uint32_t id, uint64_t block,
		     uint32_t count, uint32_t flags)
{
	if (r->nr_asked == 2 * DMT_BLOCKS || block + count > DMT_BLOCKS) {
		say_wrong(r, "a request too many, block", block);
		return;
	}
	r->asked[r->nr_asked++] = (struct ask){ id, flags, block, count };
}

static void take_status(struct rival *r, const struct dmt_msg *msg)
{
	switch (msg->status.status) {
	case DM_USERSPACE_SYNC_COMPLETE:
		if (dmt_sync_done(r->fd, msg->header.id))
			say_wrong(r, "an ack was refused:", msg->header.id);
		return;
	case DM_USERSPACE_INVAL_COMPLETE:
	case DM_USERSPACE_INVAL_FAILED:
		if (r->owed)
			r->owed--;
		else
			say_wrong(r, "a verdict too many:", msg->header.id);
		return;
	}
	say_wrong(r, "status", msg->status.status);
}

static void take(struct rival *r, const struct dmt_msg *msg)
{
	struct dmu_msg_run_request run;

	switch (msg->header.msg_type) {
	case DM_USERSPACE_MAP_BLOCK_REQ:
		note_ask(r, msg->header.id, msg->request.org_block, 1,
			 msg->request.flags);
		break;
	case DM_USERSPACE_MAP_RUN_REQ:
		memcpy(&run, &msg->run_request, sizeof(run));
		note_ask(r, msg->header.id, run.block, run.count, run.flags);
		break;
	case DM_USERSPACE_STATUS:
		take_status(r, msg);
		break;
	default:
		say_wrong(r, "a message of type", msg->header.msg_type);
	}
}

/* Read what there is; others may have read it meanwhile. */
static void receive(struct rival *r)
{
	struct dmt_inbox in = { .fd = r->fd };
	struct dmt_msg msg;
	ssize_t n = read(r->fd, in.bytes, sizeof(in.bytes));

	if (n < 0 && errno != EAGAIN)
		say_wrong(r, strerror(errno), 0);
	in.len = n > 0 ? (size_t)n : 0;
	while (in.at < in.len && dmt_inbox_next(&in, &msg))
		take(r, &msg);
}

/* --- what a daemon does ------------------------------------------------------------------- */

/* Take blocks back. What it is asked for meanwhile has to wait: it has them. */
static void take_back(struct rival *r, uint64_t block, uint32_t count)
{
	uint32_t i;

	r->owed = count;
	for (i = 0; i < count; i++)
		if (dmt_invalidate(r->fd, (uint32_t)(block + i), block + i))
			say_wrong(r, "not invalidated: block", block + i);
	while (r->owed && !r->contest->wrong) {
		if (dmt_readable(r->fd, DMT_PATIENCE))
			receive(r);
		else
			say_wrong(r, "no verdict on block", block);
	}
}

static void copy_by_hand(struct contest *c, uint64_t block, unsigned int to)
{
	const off_t at = (off_t)block * DMT_BLOCK;
	int in = disk_of(c->t, !to)->fd, out = disk_of(c->t, to)->fd;
	uint8_t buf[DMT_BLOCK], nothing[DMT_BLOCK] = { 0 };

	/* Whoever still writes there, or reads, is found out. */
	if (pread(in, buf, sizeof(buf), at) != sizeof(buf) ||
	    pwrite(in, nothing, sizeof(nothing), at) != sizeof(nothing) ||
	    pwrite(out, buf, sizeof(buf), at) != sizeof(buf))
		err(1, "copying a block");
}

/* Let blocks live on the other disk. The kernel copies, or this does. */
static void move(struct rival *r, uint64_t block, uint32_t count)
{
	struct contest *c = r->contest;
	bool by_hand = dmt_below(&r->random, 2);
	struct dmt_map map;
	uint32_t i;

	lock(c, block, count);
	take_back(r, block, count);
	for (i = 0; i < count; i++, block++) {
		unsigned int from = c->book[block].side;

		if (by_hand) {
			copy_by_hand(c, block, !from);
		} else {
			map = dmt_plain(disk_of(c->t, !from), block, block,
					COPY | some_rights(r, false));
			map.src = disk_of(c->t, from);
			say_map(r, &map, 0);
		}
		c->book[block].side = !from;
	}
	unlock(c, block - count, count);
	c->moves += count;
}

/* One turn: of a block, or of those that can be one remap. */
static void turn(struct rival *r)
{
	uint32_t count = dmt_below(&r->random, 2) ? RUN : 1;
	uint64_t block = dmt_below(&r->random, DMT_BLOCKS / count) * count;

	switch (dmt_below(&r->random, 8)) {
	case 0:
		dmt_dm_message(r->contest->t->name, "drop_idle");
		break;
	case 1:
		lock(r->contest, block, count);
		take_back(r, block, count);
		unlock(r->contest, block, count);
		break;
	case 2 ... 4:
		move(r, block, count);
		break;
	default:
		share(r->contest, 0, DMT_BLOCKS);
		say_where(r, 0, DMT_BLOCKS, 0, some_rights(r, false));
		unlock(r->contest, 0, DMT_BLOCKS);
	}
}

static void *live(void *arg)
{
	struct rival *r = arg;
	struct pollfd pfd[2] = { { .fd = r->fd, .events = POLLIN },
				 { .fd = r->contest->stop, .events = POLLIN } };

	while (!r->contest->wrong) {
		/* Once it has done its turns it waits to be asked. */
		if (r->turns)
			turn(r);
		else
			poll(pfd, 2, -1);
		if (pfd[1].revents)
			break;
		receive(r);
		answer_all(r);
		if (r->turns && !--r->turns)
			sem_post(&r->contest->done);
	}
	return NULL;
}

/* --- a contest ------------------------------------------------------------------------------ */

/**
 * @g: all I/O to its disks takes a while: there is always some on its way
 * @c: the contest
 */
FIXTURE(rivals)
{
	struct dmt_gated g;
	struct contest *c;
};

FIXTURE_SETUP(rivals)
{
	struct contest *c = calloc(1, sizeof(*c));
	unsigned int i;

	if (!c)
		errx(1, "no memory");
	dmt_gated_setup(&self->g);
	self->c = c;
	c->t = &self->g.t;
	c->stop = eventfd(0, EFD_CLOEXEC);
	if (c->stop < 0 || sem_init(&c->done, 0, 0))
		err(1, "no eventfd, or no semaphore");
	dmt_units_fill(c->t->origin.fd, 0, 0, DMT_BLOCKS * UNITS, 1);
	dmt_gate_delay(&self->g.origin, 1);
	dmt_gate_delay(&self->g.store, 3);
	for (i = 0; i < DMT_BLOCKS; i++)
		pthread_rwlock_init(&c->book[i].lock, NULL);
	dmt_traffic_make(&c->traffic, c->t->fd, DMT_BLOCKS * UNITS);
	dmt_traffic_holds(&c->traffic, 0, DMT_BLOCKS * UNITS, 1);
	c->traffic.writers = 12;
	c->traffic.readers = 4;
	c->traffic.seed = (uint64_t)time(NULL);
	ksft_print_msg("seed %" PRIu64 "\n", c->traffic.seed);
	for (i = 0; i < RIVALS; i++) {
		struct rival *r = &c->rival[i];

		r->contest = c;
		r->random = c->traffic.seed + (i + 1) * 104729;
		r->fd = dmt_control_open(c->t->name, O_NONBLOCK);
		ASSERT_TRUE(dmt_wants(r->fd, DMU_EXT_RUNS));
	}
}

FIXTURE_TEARDOWN(rivals)
{
	unsigned int i;

	for (i = 0; i < RIVALS; i++)
		close(self->c->rival[i].fd);
	dmt_gated_teardown(&self->g);
	dmt_traffic_free(&self->c->traffic);
	free(self->c);
}

/* All do their turns under traffic; when it is over there is nothing left to do. */
static void compete(struct contest *c)
{
	struct timespec end;
	eventfd_t value;
	unsigned int i;

	for (i = 0; i < RIVALS; i++) {
		c->rival[i].turns = dmt_often(TURNS);
		if (pthread_create(&c->rival[i].thread, NULL, live,
				   &c->rival[i]))
			errx(1, "no thread");
	}
	dmt_traffic_start(&c->traffic);
	for (i = 0; i < RIVALS && !c->wrong && !c->traffic.wrong; i++) {
		clock_gettime(CLOCK_REALTIME, &end);
		end.tv_sec += 5 * DMT_PATIENCE / 1000;
		if (sem_timedwait(&c->done, &end))
			say_wrong(&c->rival[i], "turns that are left",
				  c->rival[i].turns);
	}
	dmt_traffic_stop(&c->traffic);
	if (c->wrong || c->traffic.wrong)
		dmt_dm_message(c->t->name, "error_if_no_daemon on");
	/* With I/O that no daemon will serve any more it does not end. */
	while (c->traffic.running) {
		if (c->wrong)
			dmt_dm_message(c->t->name, "fail_waiting");
		poll(NULL, 0, 1);
	}
	dmt_traffic_join(&c->traffic);
	if (eventfd_write(c->stop, 1))
		err(1, "eventfd");
	for (i = 0; i < RIVALS; i++)
		pthread_join(c->rival[i].thread, NULL);
	if (eventfd_read(c->stop, &value))
		err(1, "eventfd");
}

/* Does each block hold what it should, where the book says that it lives? */
static bool all_is_there(struct contest *c)
{
	uint8_t buf[DMT_BLOCK];
	uint32_t block;

	for (block = 0; block < DMT_BLOCKS; block++) {
		const struct dmt_disk *disk = disk_of(c->t,
						      c->book[block].side);

		if (pread(disk->fd, buf, sizeof(buf), (off_t)block * DMT_BLOCK) !=
		    sizeof(buf))
			err(1, "looking at a disk");
		if (!dmt_traffic_has(&c->traffic, buf, block * UNITS, UNITS))
			return false;
	}
	return true;
}

/* How many blocks are known, by taking back each of them once. */
static unsigned int take_all_back(const struct dmt *t)
{
	unsigned int block, known = 0;
	struct dmt_msg msg;

	for (block = 0; block < DMT_BLOCKS; block++) {
		if (dmt_invalidate(t->ctl, block, block) ||
		    !dmt_expect(t->ctl, DM_USERSPACE_STATUS, &msg))
			return DMT_BLOCKS + 1;
		known += msg.status.status == DM_USERSPACE_INVAL_COMPLETE;
	}
	return known;
}

/*
 * That the device has two entries for a block shows when it is counted, and when
 * each block has been taken back once and there still is one.
 */
TEST_F_TIMEOUT(rivals, daemons_that_map_the_same_blocks_at_once, 150)
{
	struct contest *c = self->c;
	const char *name = c->t->name;
	unsigned int round;
	uint64_t mapped;

	/* They read what they like: this one only looks on. */
	for (round = 0; round < ROUNDS; round++) {
		compete(c);
		ASSERT_FALSE(c->wrong);
		ASSERT_EQ(0, c->traffic.wrong);
		EXPECT_TRUE(dmt_counts(name, DMT_COPIES, 0));
		EXPECT_TRUE(all_is_there(c));
		EXPECT_EQ(0, dmt_counter(name, DMT_WAITING));
		EXPECT_EQ(0, dmt_counter(name, DMT_SENT));
		EXPECT_EQ(0, dmt_counter(name, DMT_SYNCS));
		EXPECT_EQ(0, dmt_counter(name, DMT_ERRORS));
		mapped = dmt_counter(name, DMT_REMAPS);
		EXPECT_GE(DMT_BLOCKS, mapped);
		EXPECT_EQ(mapped, take_all_back(c->t));
		EXPECT_EQ(0, dmt_counter(name, DMT_REMAPS));
	}
	/* Each I/O is counted at least once, and for each block at most. */
	mapped = dmt_counter(name, DMT_HITS) + dmt_counter(name, DMT_MISSES);
	EXPECT_LE(c->traffic.ios, mapped);
	EXPECT_GE(c->traffic.ios * 4, mapped);
	ksft_print_msg("%" PRIu64 " I/Os, %u moves, %" PRIu64 " evicted\n",
		       c->traffic.ios, c->moves,
		       dmt_counter(name, DMT_EVICTIONS));
}

/* --- at the same moment --------------------------------------------------------------------- */

#define TIMES	200u

/**
 * struct twins - two daemons, each of which says what the other says
 * @fd: of the one that is a thread
 * @times: how often
 * @run: what both say
 * @ready: the thread waits for this turn
 * @begun: the turn that has begun
 * @over: the thread has done this turn
 * @error: what became of it
 */
struct twins {
	int fd;
	unsigned int times;
	struct dmu_msg_run_response run;
	atomic_uint ready;
	atomic_uint begun;
	atomic_uint over;
	int error;
};

static void await(const atomic_uint *what, unsigned int value)
{
	while (atomic_load(what) != value)
		;
}

/* A moment more or less, so that each meets the other in all places. */
static void linger(uint64_t *random)
{
	volatile uint32_t n = dmt_below(random, 300);

	while (n)
		n--;
}

static void *echo(void *arg)
{
	struct twins *twins = arg;
	uint64_t random = 1;
	unsigned int i;

	for (i = 1; i <= twins->times; i++) {
		atomic_store(&twins->ready, i);
		await(&twins->begun, i);
		linger(&random);
		twins->error = dmt_map_run(twins->fd, 0, twins->run);
		atomic_store(&twins->over, i);
	}
	return NULL;
}

/* One block at a time, or as many as one remap can have; none is known before. */
TEST_F_TIMEOUT(dm, what_two_say_at_once_is_true_once, 60)
{
	struct dmt *t = &self->t;
	struct twins twins = { .fd = dmt_control_open(t->name, O_NONBLOCK),
			       .times = dmt_often(TIMES) };
	unsigned int i, first;
	uint64_t random = 2;
	pthread_t thread;

	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS));
	ASSERT_TRUE(dmt_wants(twins.fd, DMU_EXT_RUNS));
	ASSERT_EQ(0, pthread_create(&thread, NULL, echo, &twins));
	for (i = 1; i <= twins.times; i++) {
		first = i % 2;
		/* Not to be written to: what leaves is not waited for. */
		twins.run = dmt_run(first, first ? RUN - 1 : DMT_BLOCKS,
				    &t->store, first, RO);
		await(&twins.ready, i);
		atomic_store(&twins.begun, i);
		linger(&random);
		ASSERT_EQ(0, dmt_map_run(t->ctl, 0, twins.run));
		await(&twins.over, i);
		ASSERT_EQ(0, twins.error);
		ASSERT_EQ(twins.run.count, dmt_counter(t->name, DMT_REMAPS));
		ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	}
	pthread_join(thread, NULL);
	close(twins.fd);
}

TEST_HARNESS_MAIN
