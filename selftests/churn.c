// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tables that are suspended and replaced, over and over, under load whose every
 * result is known. Each way to suspend a device, and each way in which a table can
 * differ from the one before it, is counted. Make check has time for 50 of each, and
 * for an eighth of that on a kernel that looks for mistakes; make drill, by way of
 * DMT_SCALE=40, has 40 times as many there.
 */
#define _GNU_SOURCE
#include "lib/fixture.h"
#include "lib/load.h"
#include "lib/suspend.h"
#include "lib/sysfs.h"
#include <err.h>
#include <stdlib.h>
#include <string.h>

#define EACH 50u /* of all that is counted */

/* --- what is done ------------------------------------------------------------------- */

/* How it is suspended, and what is under way then for certain. */
enum way {
	FLUSH,		/* I/O that a daemon serves meanwhile */
	NOFLUSH,	/* likewise */
	ALONE,		/* without a flush; the daemon is dead */
	COPIES,		/* without a flush; a copy, and I/O that waits for it */
	HELD,		/* without a flush; I/O held for SYNC, by a daemon that is deaf */
	FSYNC,		/* with a flush; an fsync, which came to a device before */
	NR_WAYS
};

static const char * const way_names[] = {
	"with a flush", "without a flush", "without a daemon",
	"with copies under way", "with I/O held for SYNC", "with an fsync under way",
};

/* How a table differs from the one before it. */
enum change {
	WIDER, NARROWER, LARGER, SMALLER, FEATURES, LARGER_IN_FSYNC,
	SMALLER_IN_FSYNC, NR_CHANGES
};

static const char * const change_names[] = {
	"more devices", "fewer devices", "larger", "smaller",
	"other feature args", "larger during an fsync",
	"smaller during an fsync",
};

/*
 * Behind the blocks of the load there are some that its daemon knows nothing of, and
 * fails requests for. Residents live on the origin, and must never be asked for while
 * they have not been dropped; guests live on a device that comes and goes.
 */
#define NR_RESIDENTS (DMT_LOAD_REST / 2)
#define NR_GUESTS (DMT_LOAD_REST - NR_RESIDENTS)
#define FIRST_RESIDENT DMT_LOAD_BLOCKS
#define FIRST_GUEST (DMT_LOAD_BLOCKS + NR_RESIDENTS)
#define GUEST_SEED 7

/**
 * @load: with I/O to its blocks
 * @spare: a third device, which comes and goes
 * @table: the live one
 * @tables: how many there have been
 * @ways: how often it was suspended so
 * @changes: how often tables differed so
 * @kept: residents and guests that a new table left where they were
 * @dropped: guests whose device had gone with the old one
 * @rewound: commits when all blocks were on the origin
 */
FIXTURE(churn)
{
	struct dmt_load load;
	struct dmt_disk spare;
	struct dmt_load_table table;
	unsigned int tables;
	unsigned int ways[NR_WAYS];
	unsigned int changes[NR_CHANGES];
	unsigned int kept;
	unsigned int dropped;
	uint32_t rewound;
};

FIXTURE_VARIANT(churn)
{
	unsigned int each;
	unsigned int lines;
	bool twin;
};

/* One table of one line has its key for itself. */
FIXTURE_VARIANT_ADD(churn, one_place) {
	.each = EACH, .lines = 1,
};

/*
 * A key at several places: up to three lines of the table, and another device. That
 * one serves half of the I/O while the first is suspended.
 */
FIXTURE_VARIANT_ADD(churn, many_places) {
	.each = EACH / 2, .lines = 3, .twin = true,
};

FIXTURE_SETUP(churn)
{
	uint64_t i;

	dmt_load_setup_gated(&self->load);
	dmt_disk_open(&self->spare, DMT_LOAD_BLOCKS * DMT_BLOCK, 0);
	for (i = 0; i < NR_GUESTS; i++)
		dmt_place_fill(&self->spare, i, FIRST_GUEST + i, GUEST_SEED);
	self->table.more = DMT_LOAD_REST * DMT_SECTORS;
	ASSERT_EQ(0, dmt_load_table(&self->load, self->load.t.name,
				    &self->table));
	ASSERT_EQ(0, dmt_dm_resume(self->load.t.name));
	if (variant->twin)
		dmt_load_add_twin(&self->load);
}

FIXTURE_TEARDOWN(churn)
{
	dmt_load_teardown(&self->load);
	dmt_disk_close(&self->spare);
}

/* --- tables --------------------------------------------------------------------------- */

/*
 * More devices or fewer, larger or smaller, with other feature args: each in so many
 * of the tables, one after the other.
 */
static struct dmt_load_table next_table(const FIXTURE_DATA(churn) *self,
					unsigned int lines)
{
	static const uint64_t more[] = {
		0, 5, 16 * DMT_SECTORS, 3, 2 * DMT_SECTORS + 1,
	};
	static const char * const features[] = {
		NULL, " 2 daemon_timeout 600",
		" 4 request_timeout 600 daemon_timeout 600", " 0",
	};
	dev_t extra = self->table.extra;

	if (self->tables % 3)
		extra = extra ? 0 : self->spare.dev;
	return (struct dmt_load_table){
		.lines = 1 + (unsigned int)random() % lines,
		.more = DMT_LOAD_REST * DMT_SECTORS + more[self->tables % 5],
		.extra = extra,
		.features = features[self->tables / 2 % 4],
	};
}

/* That is the live one now. */
static void became(FIXTURE_DATA(churn) *self, const struct dmt_load_table *table,
		   enum way way)
{
	const struct dmt_load_table *old = &self->table;
	unsigned int *changes = self->changes;

	changes[WIDER] += table->extra && !old->extra;
	changes[NARROWER] += !table->extra && old->extra;
	changes[LARGER] += table->more > old->more;
	changes[SMALLER] += table->more < old->more;
	changes[FEATURES] += table->features != old->features;
	if (way == FSYNC) {
		changes[LARGER_IN_FSYNC] += table->more > old->more;
		changes[SMALLER_IN_FSYNC] += table->more < old->more;
	}
	self->table = *table;
	self->tables++;
}

/* --- residents and guests --------------------------------------------------------------- */

/* It is there, and nobody is asked; or it was forgotten, and the daemon fails it. */
static bool is_there(const struct dmt *t, uint64_t block, int seed, bool there)
{
	struct dmt_io *io = dmt_io(t->fd, DMT_READ, block * DMT_BLOCK, DMT_BLOCK,
				   0);
	int r = dmt_io_wait(io);
	bool ok = there ? !r && dmt_io_matches(io, seed) : r == -EIO;

	if (!ok)
		warnx("block %llu %s: %s", (unsigned long long)block, there ?
		      "should have been kept" : "should have been dropped",
		      r ? strerror(-r) : "it was read");
	dmt_io_free(io);
	return ok;
}

/*
 * Map some that are not. A mapping is ready, and can be dropped, when writes that were
 * under way before are over: who reads it has waited for that.
 */
static bool push(FIXTURE_DATA(churn) *self, uint64_t first, uint64_t nr)
{
	struct dmt *t = &self->load.t;
	int ctl = dmt_control_open(t->name, O_NONBLOCK);
	bool guest = first == FIRST_GUEST, ok = true;
	uint64_t block;

	for (block = first; ok && block < first + nr; block++) {
		struct dmt_map map = dmt_plain(&t->origin, block, block, RO);

		if (guest)
			map = dmt_plain(&self->spare, block, block - first, RW);
		ok = !dmt_map(ctl, 0, &map) &&
		     is_there(t, block, guest ? GUEST_SEED : DMT_ORIGIN, true);
	}
	close(ctl);
	return ok;
}

static bool push_residents(FIXTURE_DATA(churn) *self)
{
	return push(self, FIRST_RESIDENT, NR_RESIDENTS);
}

static bool push_guests(FIXTURE_DATA(churn) *self)
{
	return push(self, FIRST_GUEST, NR_GUESTS);
}

/*
 * A table has come, or not; all idle remaps were dropped, or not. One of each kind is
 * looked at: they come and go together.
 */
static bool look(FIXTURE_DATA(churn) *self, const struct dmt_load_table *old,
		 bool reloaded, bool dropped)
{
	const struct dmt *t = &self->load.t;
	uint64_t i = (uint64_t)random() % NR_GUESTS;
	bool guests = self->table.extra, same = guests && old->extra;

	if (!is_there(t, FIRST_RESIDENT + i, DMT_ORIGIN, !dropped) ||
	    !is_there(t, FIRST_GUEST + i, GUEST_SEED, same && !dropped))
		return false;
	self->kept += reloaded && !dropped;
	self->dropped += reloaded && old->extra && !guests;
	return (!dropped || push_residents(self)) &&
	       (!guests || (same && !dropped) || push_guests(self));
}

/* --- one turn --------------------------------------------------------------------------- */

/* See to it that what the way says is under way. */
static bool prepare(FIXTURE_DATA(churn) *self, enum way way,
		    struct dmt_call *fsync)
{
	struct dmt_load *load = &self->load;

	switch (way) {
	case ALONE:
		return dmt_load_kill(load);
	case COPIES:
		return dmt_load_hold_copy(load);
	case HELD:
		if (!dmt_load_hold_copy(load))
			return false;
		/* It has answered, and will not hear what comes of that. */
		dmt_load_stop(load);
		dmt_gate_open(&load->gate);
		return true;
	case FSYNC:
		dmt_gate_shut(&load->gate);
		dmt_call_begin(fsync, NULL, load->t.name, DMT_FDATASYNC);
		return dmt_call_sleeps(fsync);
	default:
		return true;
	}
}

/*
 * It is suspended while something waits at the gate, and waits for that; but for a
 * copy that happens to be made on the devices of the twin.
 */
static bool meets(const struct dmt_load *load, enum dmt_verb verb)
{
	bool may_end = verb == DMT_SUSPEND_NOFLUSH && *load->twin, waits;
	struct dmt_call call;

	dmt_call_begin(&call, NULL, load->t.name, verb);
	waits = dmt_call_sleeps(&call) && !dmt_call_ended(&call);
	dmt_gate_open(&load->gate);
	return !dmt_call_result(&call) && (waits || may_end);
}

/* A flush is what a resume begins with, too, where there is a new table. */
static bool suspend(FIXTURE_DATA(churn) *self, enum way way, bool loaded)
{
	const struct dmt *t = &self->load.t;
	bool held;

	switch (way) {
	case FLUSH:
		return loaded || !dmt_dm_suspend(t->name, false);
	case COPIES:
		return meets(&self->load, DMT_SUSPEND_NOFLUSH);
	case FSYNC:
		return meets(&self->load, loaded ? DMT_RESUME : DMT_SUSPEND);
	case HELD:
		held = dmt_counter(t->name, DMT_SYNCS);
		/* Nobody can have acknowledged it meanwhile. */
		return !dmt_dm_suspend(t->name, true) && held;
	default:
		return !dmt_dm_suspend(t->name, true);
	}
}

/* What there was before the turn is there again. */
static bool recover(FIXTURE_DATA(churn) *self, enum way way,
		    struct dmt_call *fsync, unsigned int i)
{
	struct dmt_load *load = &self->load;

	if (way == ALONE)
		dmt_load_daemon(load, i);
	if (way == HELD)
		dmt_load_continue(load);
	return way != FSYNC || !dmt_call_result(fsync);
}

static bool turn(FIXTURE_DATA(churn) *self, unsigned int i, unsigned int lines)
{
	bool reload = i / NR_WAYS % 4 || i % NR_WAYS == FSYNC;
	bool early = random() % 2, drop = i % 7 == 6;
	struct dmt_load_table old = self->table;
	struct dmt_load_table new = next_table(self, lines);
	const char *name = self->load.t.name;
	enum way way = i % NR_WAYS;
	struct dmt_call fsync;

	if (!prepare(self, way, &fsync) ||
	    (reload && early && dmt_load_table(&self->load, name, &new)) ||
	    !suspend(self, way, reload && early) ||
	    (reload && !early && dmt_load_table(&self->load, name, &new)) ||
	    (drop && dmt_dm_message(name, "drop_idle")) ||
	    dmt_dm_resume(name) || !recover(self, way, &fsync, i))
		return false;
	self->ways[way]++;
	if (reload)
		became(self, &new, way);
	return look(self, &old, reload, drop);
}

/* Now and then, so that there is always something to be copied. */
static bool rewind_sometimes(FIXTURE_DATA(churn) *self, unsigned int i)
{
	uint32_t commits = self->load.book->commits;

	if (commits - self->rewound < DMT_LOAD_BLOCKS / 4)
		return true;
	self->rewound = commits;
	return dmt_load_rewind(&self->load, i) && push_residents(self) &&
	       (!self->table.extra || push_guests(self));
}

static void tell(const FIXTURE_DATA(churn) *self)
{
	unsigned int i;

	for (i = 0; i < NR_WAYS; i++)
		ksft_print_msg("%4u times suspended %s\n", self->ways[i],
			       way_names[i]);
	for (i = 0; i < NR_CHANGES; i++)
		ksft_print_msg("%4u times a table: %s\n", self->changes[i],
			       change_names[i]);
	ksft_print_msg("%4u times remaps kept, %u dropped; %u I/Os, %u commits\n",
		       self->kept, self->dropped, self->load.done,
		       self->load.book->commits);
}

TEST_F_TIMEOUT(churn, tables_change_under_load_and_nothing_is_lost, 280)
{
	const unsigned int each = dmt_turns(variant->each);
	struct dmt_load *load = &self->load;
	struct dmt *t = &load->t;
	unsigned int i;

	srandom((unsigned int)dmt_seed());
	dmt_load_daemon(load, 0);
	ASSERT_TRUE(push_residents(self));
	for (i = 0; i < each * NR_WAYS; i++) {
		ASSERT_TRUE(dmt_load_run(load, random() % 24));
		ASSERT_TRUE(turn(self, i, variant->lines));
		ASSERT_TRUE(rewind_sometimes(self, i));
	}
	EXPECT_TRUE(dmt_load_finish(load));
	EXPECT_TRUE(dmt_load_kill(load));
	EXPECT_TRUE(dmt_load_stored(load));
	tell(self);
	for (i = 0; i < NR_WAYS; i++)
		EXPECT_EQ(each, self->ways[i]);
	for (i = 0; i < LARGER_IN_FSYNC; i++)
		EXPECT_LE(each, self->changes[i]);
	EXPECT_LE(each - 1, self->changes[LARGER_IN_FSYNC] +
			    self->changes[SMALLER_IN_FSYNC]);
	EXPECT_LE(each, self->kept);
	EXPECT_LE(each, self->dropped);
	EXPECT_LT(each, load->book->commits);
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_COPIES));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
}

DMT_SCALED_MAIN
