// SPDX-License-Identifier: GPL-2.0-only
/*
 * Discards that a daemon makes use of: it gives the places of discarded blocks to
 * other blocks, as soon as the kernel has said that nothing uses them any more, while
 * threads write, read and discard all of it. What a block held that was not discarded
 * is still there, whoever had its place before.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/run.h"
#include "lib/sysfs.h"
#include "lib/traffic.h"
#include <err.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define BLOCKS	48u /* and places: there are DMT_BLOCKS of these */
#define UNITS	(DMT_BLOCK / DMT_UNIT)
#define NOWHERE	DMT_BLOCKS
#define IOS	1500u /* that are to be done */
#define BUSY	(DMT_PATIENCE / 1000 * 3) /* s in which they must be */

/**
 * struct trim - a device with load, and a thin daemon
 * @g: the device; its origin is all zero
 * @fast: the store, not by way of its gate: what goes there overtakes what is slow
 * @traffic: the load
 * @place: where in the store each block lives, or NOWHERE: then it reads the origin
 * @slow: it does so by way of the gate
 * @last: block that each place was last lent to, plus one
 * @free: places, the last one freed is the first to be taken
 * @nr_free: in @free
 * @asked: writes that wait for a place, the oldest first
 * @nr_asked: in @asked
 * @random: of the daemon
 * @daemon: a thread
 * @stop: tells it to end
 * @wrong: it was told something that it should not be
 * @told: blocks that were said to be discarded
 * @lent: places that were another block's before
 */
struct trim {
	struct dmt_gated g;
	struct dmt_disk fast;
	struct dmt_traffic traffic;
	unsigned int place[BLOCKS];
	bool slow[BLOCKS];
	unsigned int last[DMT_BLOCKS];
	unsigned int free[DMT_BLOCKS];
	unsigned int nr_free;
	struct dmt_msg asked[BLOCKS];
	unsigned int nr_asked;
	uint64_t random;
	pthread_t daemon;
	int stop;
	atomic_bool wrong;
	atomic_uint told;
	atomic_uint lent;
};

static void say_wrong(struct trim *d, const char *what, uint64_t number)
{
	warnx("the daemon: %s: %" PRIu64, what, number);
	d->wrong = true;
}

static unsigned int place_take(struct trim *d, uint64_t block)
{
	unsigned int place = d->free[--d->nr_free];

	d->lent += d->last[place] && d->last[place] != block + 1;
	d->last[place] = block + 1;
	return place;
}

static struct dmt_map where(struct trim *d, uint64_t block)
{
	return dmt_plain(d->slow[block] ? &d->g.t.store : &d->fast, block,
			 d->place[block], RW);
}

/* What is written to for the first time gets a place; of zeroes, says the origin. */
static void answer(struct trim *d, const struct dmt_msg *msg)
{
	uint64_t block = msg->request.org_block;
	bool write = msg->request.flags & DMU_FLAG_WR;
	struct dmt *t = &d->g.t;
	struct dmt_map map;

	if (d->place[block] != NOWHERE) {
		map = where(d, block);
	} else if (!write) {
		map = dmt_plain(&t->origin, block, block, RO);
	} else {
		if (!d->nr_free) {
			d->asked[d->nr_asked++] = *msg;
			return;
		}
		d->place[block] = place_take(d, block);
		d->slow[block] = !dmt_below(&d->random, 8);
		map = where(d, block);
		map.src = &t->origin;
		map.flags |= COPY | (dmt_below(&d->random, 2) ? SYNC : 0);
	}
	if (dmt_map(t->ctl, msg->header.id, &map))
		say_wrong(d, "an answer was refused, block", block);
}

/* The verdict is asked for in the name of the place. */
static void discarded(struct trim *d, uint64_t block, uint64_t count)
{
	for (; count--; block++) {
		if (block >= BLOCKS) {
			say_wrong(d, "a discard of block", block);
			return;
		}
		d->told++;
		if (d->place[block] == NOWHERE)
			continue;
		if (dmt_invalidate(d->g.t.ctl, d->place[block], block))
			say_wrong(d, "not invalidated: block", block);
		d->place[block] = NOWHERE;
	}
}

static void place_free(struct trim *d, unsigned int place)
{
	struct dmt_msg first = d->asked[0];

	d->free[d->nr_free++] = place;
	if (!d->nr_asked)
		return;
	memmove(d->asked, d->asked + 1, --d->nr_asked * sizeof(first));
	answer(d, &first);
}

static void take_status(struct trim *d, const struct dmt_msg *msg)
{
	if (msg->status.status == DM_USERSPACE_SYNC_COMPLETE) {
		if (dmt_sync_done(d->g.t.ctl, msg->header.id))
			say_wrong(d, "an ack was refused", msg->header.id);
	} else if (msg->header.id < DMT_BLOCKS && d->nr_free < DMT_BLOCKS) {
		place_free(d, msg->header.id);
	} else if (msg->header.id != NOWHERE) {
		say_wrong(d, "a verdict on", msg->header.id);
	}
}

/* Let the kernel forget a block that nobody has discarded, or know it beforehand. */
static void meddle(struct trim *d)
{
	uint64_t block = dmt_below(&d->random, BLOCKS);
	struct dmt *t = &d->g.t;
	struct dmt_map map;

	if (d->place[block] == NOWHERE)
		return;
	map = where(d, block);
	if (dmt_below(&d->random, 2) ? dmt_map(t->ctl, 0, &map) :
				       dmt_invalidate(t->ctl, NOWHERE, block))
		say_wrong(d, "refused: block", block);
}

static void *live(void *arg)
{
	struct trim *d = arg;
	struct pollfd pfd[2] = { { .fd = d->g.t.ctl, .events = POLLIN },
				 { .fd = d->stop, .events = POLLIN } };
	struct dmt_msg msg;

	while (poll(pfd, 2, -1) && !pfd[1].revents && !d->wrong) {
		if (dmt_read_msg(d->g.t.ctl, &msg) <= 0)
			continue;
		switch (msg.header.msg_type) {
		case DM_USERSPACE_MAP_BLOCK_REQ:
			answer(d, &msg);
			break;
		case DM_USERSPACE_DISCARD:
			discarded(d, msg.discard.block, msg.discard.count);
			break;
		case DM_USERSPACE_STATUS:
			take_status(d, &msg);
			break;
		default:
			say_wrong(d, "a message of type", msg.header.msg_type);
		}
		if (!dmt_below(&d->random, 4))
			meddle(d);
	}
	return NULL;
}

static void add_fast_way(struct trim *d)
{
	struct dmt *t = &d->g.t;
	char params[256];
	size_t used;

	d->fast = t->store;
	d->fast.dev = d->g.store.behind;
	dmt_params(t, params, sizeof(params));
	used = strlen(params);
	snprintf(params + used, sizeof(params) - used, " %u:%u",
		 major(d->fast.dev), minor(d->fast.dev));
	if (dmt_dm_load(t->name, 0, BLOCKS * DMT_SECTORS, "userspace",
			params) || dmt_dm_resume(t->name))
		errx(1, "cannot load a table of %s", t->name);
}

FIXTURE(trim)
{
	struct trim *d;
};

FIXTURE_SETUP(trim)
{
	struct trim *d = calloc(1, sizeof(*d));
	struct dmt *t;
	uint64_t i;

	if (!d)
		errx(1, "no memory");
	self->d = d;
	t = &d->g.t;
	dmt_gated_setup_sectors(&d->g, BLOCKS * DMT_SECTORS);
	for (i = 0; i < DMT_BLOCKS; i++) {
		dmt_disk_fill(&t->origin, i, 0);
		d->free[d->nr_free++] = DMT_BLOCKS - 1 - i;
	}
	for (i = 0; i < BLOCKS; i++)
		d->place[i] = NOWHERE;
	/* A discard, too, is on its way for a while. */
	dmt_gate_delay(&d->g.store, 10);
	add_fast_way(d);
	d->random = (uint64_t)time(NULL);
	ksft_print_msg("seed %" PRIu64 "\n", d->random);
	d->stop = eventfd(0, EFD_CLOEXEC);
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_DISCARD));
	dmt_traffic_make(&d->traffic, t->fd, BLOCKS * UNITS);
	d->traffic.writers = 6;
	d->traffic.readers = 4;
	d->traffic.discards = 4;
	d->traffic.seed = d->random;
	if (d->stop < 0 || pthread_create(&d->daemon, NULL, live, d))
		errx(1, "no thread");
}

FIXTURE_TEARDOWN(trim)
{
	struct trim *d = self->d;

	dmt_traffic_stop(&d->traffic);
	if (d->wrong)
		dmt_dm_message(d->g.t.name, "fail_waiting");
	dmt_traffic_join(&d->traffic);
	if (eventfd_write(d->stop, 1))
		err(1, "eventfd");
	pthread_join(d->daemon, NULL);
	close(d->stop);
	dmt_gated_teardown(&d->g);
	dmt_traffic_free(&d->traffic);
	free(d);
}

/* Until so many I/Os are over, and enough has happened that this is about. */
static bool run(struct trim *d, uint64_t ios, unsigned int least)
{
	struct timespec begun, now;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	dmt_traffic_start(&d->traffic);
	while ((d->traffic.ios < ios || d->told < least || d->lent < least / 2) &&
	       !d->traffic.wrong && !d->wrong) {
		poll(NULL, 0, 1);
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - begun.tv_sec > BUSY) {
			warnx("no more than %" PRIu64 " I/Os, %u blocks discarded, %u places lent to another block",
			      (uint64_t)d->traffic.ios, d->told, d->lent);
			return false;
		}
	}
	dmt_traffic_stop(&d->traffic);
	if (d->wrong)
		return false;
	dmt_traffic_join(&d->traffic);
	return !d->traffic.wrong;
}

/* Is each block where the daemon believes it to be? */
static bool all_is_there(struct trim *d)
{
	uint8_t buf[DMT_BLOCK];
	unsigned int block;

	for (block = 0; block < BLOCKS; block++) {
		if (d->place[block] == NOWHERE)
			continue;
		if (pread(d->g.t.store.fd, buf, sizeof(buf),
			  (off_t)d->place[block] * DMT_BLOCK) != sizeof(buf))
			err(1, "looking at a disk");
		if (!dmt_traffic_has(&d->traffic, buf, block * UNITS, UNITS))
			return false;
	}
	return true;
}

TEST_F_TIMEOUT(trim, places_of_what_was_discarded_are_lent_to_others, 150)
{
	struct trim *d = self->d;
	const char *name = d->g.t.name;

	ASSERT_TRUE(run(d, dmt_often(IOS), dmt_often(100)));
	EXPECT_TRUE(dmt_traffic_read(&d->traffic));
	EXPECT_FALSE(d->wrong);
	EXPECT_TRUE(all_is_there(d));
	EXPECT_EQ(0, dmt_counter(name, DMT_ERRORS));
	EXPECT_EQ(0, dmt_counter(name, DMT_WAITING));
	EXPECT_EQ(0, dmt_counter(name, DMT_SENT));
	ksft_print_msg("%" PRIu64 " I/Os, %u blocks discarded, %u places lent to another block\n",
		       d->traffic.ios, d->told, d->lent);
}

TEST_HARNESS_MAIN
