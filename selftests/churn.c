// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tables that are suspended and replaced, over and over, under load whose every
 * result is known. Each way to suspend a device, and each way in which a table can
 * differ from the one before it, is counted. Make check has time for 50 of each, and
 * for an eighth of that on a kernel that looks for mistakes; make drill has 40 times as
 * many there, by way of DMT_SCALE=40, and four times as many on other kernels.
 */
#define _GNU_SOURCE
#include "lib/fixture.h"
#include "lib/load.h"
#include "lib/suspend.h"
#include "lib/sysfs.h"
#include <err.h>
#include <poll.h>
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
	HELD,		/* without a flush; I/O that has been to its device, for SYNC */
	FSYNC,		/* with a flush; an fsync, which came to a device before */
	NR_WAYS
};

static const char * const way_names[] = {
	"with a flush", "without a flush", "without a daemon",
	"with copies under way", "with I/O held for SYNC", "with an fsync under way",
};

/* How a table differs from the one before it. */
enum change {
	WIDER, NARROWER, LARGER, SMALLER, FEATURES, FAILING, LARGER_IN_FSYNC,
	SMALLER_IN_FSYNC, NR_CHANGES
};

static const char * const change_names[] = {
	"more devices", "fewer devices", "larger", "smaller",
	"other feature args", "that fails I/O without a daemon",
	"larger during an fsync", "smaller during an fsync",
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

/*
 * Behind those is the tail, of which tables have more or less. These of its blocks are
 * looked at: the first is the short one of two tables, and whole in others. Each has two
 * places, behind those that the load's daemon gives away, and moves to the other one
 * whenever it is asked for: what is known for too long leads to the wrong place.
 */
#define FIRST_TAIL (DMT_LOAD_BLOCKS + DMT_LOAD_REST)
#define NR_TAIL (DMT_LOAD_REST / 2)
#define NEIGHBOUR 9 /* version of what somebody else has at a place */

static const unsigned int tail_blocks[NR_TAIL] = { 0, 1, 2, 15 };
static const uint64_t tail_sectors[] = {
	0, 5, 16 * DMT_SECTORS, 3, 2 * DMT_SECTORS + 1,
};

/**
 * struct tail - a block of the tail
 * @mapped: there is a remap, or else it must be asked for
 * @used: there has been one
 * @place: which of its two it lives at
 * @holds: what each of these holds, to the last byte
 */
struct tail {
	bool mapped;
	bool used;
	unsigned int place;
	uint8_t holds[2][DMT_BLOCK];
};

/**
 * @load: with I/O to its blocks
 * @spare: a third device, which comes and goes
 * @table: the live one
 * @tables: how many there have been
 * @ways: how often it was suspended so
 * @changes: how often tables differed so
 * @kept: residents and guests that a new table left where they were
 * @dropped: guests whose device had gone with the old one
 * @tail: blocks that come and go
 * @version: the latest of what was written to them
 * @outgrown: how often one of them was mapped, and became longer
 * @back: how often one that had been mapped was there again
 * @shorter: how often one stayed mapped, and became shorter
 * @crossed: I/Os to them that began in one table and ended in the next
 * @meetings: suspensions that something waited for
 * @store: what the store had done when an fsync began
 * @origin: likewise
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
	struct tail tail[NR_TAIL];
	int version;
	unsigned int outgrown;
	unsigned int back;
	unsigned int shorter;
	unsigned int crossed;
	unsigned int meetings;
	struct dmt_stat store;
	struct dmt_stat origin;
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

static uint64_t tail_place(unsigned int i, unsigned int which)
{
	return DMT_LOAD_BLOCKS + 2 * i + which;
}

FIXTURE_SETUP(churn)
{
	uint64_t i, place;

	dmt_load_setup_gated(&self->load);
	dmt_disk_open(&self->spare, DMT_LOAD_BLOCKS * DMT_BLOCK, 0);
	for (i = 0; i < NR_GUESTS; i++)
		dmt_place_fill(&self->spare, i, FIRST_GUEST + i, GUEST_SEED);
	for (i = 0; i < 2 * NR_TAIL; i++) {
		place = tail_place(i / 2, i % 2);
		dmt_place_fill(&self->load.t.store, place, place, NEIGHBOUR);
		dmt_pattern(self->tail[i / 2].holds[i % 2], DMT_BLOCK, place,
			    NEIGHBOUR);
	}
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

/* Is there a new table in that turn? */
static bool reloads(unsigned int i)
{
	return i / NR_WAYS % 4 || i % NR_WAYS == FSYNC;
}

/*
 * Will no table of turn @i be there while a daemon dies? That of the turn before the
 * one in which it does is, and so is that of a turn before some without new tables.
 */
static bool daemon_stays(unsigned int i)
{
	enum way way = i % NR_WAYS;

	return way == FSYNC ? reloads(i + 1) : way != NOFLUSH && way != ALONE;
}

static const char *next_features(const FIXTURE_DATA(churn) *self, unsigned int i)
{
	static const char * const features[] = {
		NULL, " 2 daemon_timeout 600",
		" 4 daemon_timeout 600 request_timeout 600", " 0",
	};

	if (!daemon_stays(i) || self->tables % 2 == 0)
		return features[self->tables / 2 % 4];
	return self->tables % 4 == 1 ? " 1 error_if_no_daemon" :
				       " 3 error_if_no_daemon daemon_timeout 600";
}

/*
 * More devices or fewer, larger or smaller, with other feature args: each in so many
 * of the tables, one after the other.
 */
static struct dmt_load_table next_table(const FIXTURE_DATA(churn) *self,
					unsigned int i, unsigned int lines)
{
	dev_t extra = self->table.extra;

	if (self->tables % 3)
		extra = extra ? 0 : self->spare.dev;
	return (struct dmt_load_table){
		.lines = 1 + (unsigned int)random() % lines,
		.more = DMT_LOAD_REST * DMT_SECTORS +
			tail_sectors[(self->tables + 1) % 5],
		.extra = extra,
		.features = next_features(self, i),
	};
}

static bool fails(const struct dmt_load_table *table)
{
	return strstr(dmt_load_features(table), "error_if_no_daemon");
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
	changes[FEATURES] += !!strcmp(dmt_load_features(table),
				      dmt_load_features(old));
	changes[FAILING] += fails(table);
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

/* --- the tail ---------------------------------------------------------------------------- */

/* How much of one of its blocks a table has, in sectors. */
static unsigned int tail_has(const struct dmt_load_table *table, unsigned int i)
{
	uint64_t first = (DMT_LOAD_REST + tail_blocks[i]) * DMT_SECTORS;

	if (table->more <= first)
		return 0;
	return table->more - first < DMT_SECTORS ?
	       (unsigned int)(table->more - first) : DMT_SECTORS;
}

static struct dmt_io *tail_io(const FIXTURE_DATA(churn) *self, unsigned int i,
			      enum dmt_op op, unsigned int sectors)
{
	return dmt_io_now(self->load.t.fd, op,
			  (uint64_t)(FIRST_TAIL + tail_blocks[i]) * DMT_BLOCK,
			  sectors * 512, self->version);
}

/* It is at its place, and nobody is asked; or the daemon is, and fails it. */
static bool tail_read(const FIXTURE_DATA(churn) *self, unsigned int i,
		      struct dmt_io *io, unsigned int sectors)
{
	const struct tail *tail = &self->tail[i];
	int r = dmt_io_wait(io);
	bool ok = r == -EIO;

	if (tail->mapped)
		ok = !r && !memcmp(dmt_io_buf(io), tail->holds[tail->place],
				   sectors * 512);
	if (!ok)
		warnx("block %u of the tail, %u sectors, %s: %s",
		      tail_blocks[i], sectors, tail->mapped ? "mapped" :
		      "not mapped", r ? strerror(-r) : "it was read");
	dmt_io_free(io);
	return ok;
}

/* As a daemon does that has used what is behind it for something else. */
static bool tail_move(FIXTURE_DATA(churn) *self, unsigned int i,
		      unsigned int sectors)
{
	const struct dmt_disk *store = &self->load.t.store;
	struct tail *tail = &self->tail[i];
	uint64_t to = tail_place(i, !tail->place);
	uint8_t *holds = tail->holds[!tail->place];
	struct dmt_map map = dmt_plain(store, FIRST_TAIL + tail_blocks[i], to,
				       RW);
	int ctl, r;

	memcpy(holds, tail->holds[tail->place], sectors * 512);
	if (pwrite(store->fd, holds, DMT_BLOCK, (off_t)(to * DMT_BLOCK)) !=
	    DMT_BLOCK)
		err(1, "writing behind %s", store->name);
	ctl = dmt_control_open(self->load.t.name, O_NONBLOCK);
	r = dmt_map(ctl, 0, &map);
	close(ctl);
	tail->place = !tail->place;
	tail->mapped = true;
	tail->used = true;
	return !r;
}

/* Both places, and so what is a neighbour's as well. */
static bool tail_stored(const FIXTURE_DATA(churn) *self, unsigned int i)
{
	const struct dmt_disk *store = &self->load.t.store;
	uint8_t got[DMT_BLOCK];
	unsigned int which;

	for (which = 0; which < 2; which++) {
		if (pread(store->fd, got, DMT_BLOCK,
			  (off_t)(tail_place(i, which) * DMT_BLOCK)) != DMT_BLOCK)
			err(1, "reading behind %s", store->name);
		if (!memcmp(got, self->tail[i].holds[which], DMT_BLOCK))
			continue;
		warnx("block %u of the tail, at place %u of %u: something else is there",
		      tail_blocks[i], which, self->tail[i].place);
		return false;
	}
	return true;
}

/* All that there is of it is read, and written, and read. */
static bool tail_use(FIXTURE_DATA(churn) *self, unsigned int i)
{
	struct tail *tail = &self->tail[i];
	unsigned int n = tail_has(&self->table, i);
	uint64_t block = FIRST_TAIL + tail_blocks[i];

	if (!n)
		return true;
	if (!tail_read(self, i, tail_io(self, i, DMT_READ, n), n))
		return false;
	if (!tail->mapped &&
	    (!tail_move(self, i, n) ||
	     !tail_read(self, i, tail_io(self, i, DMT_READ, n), n)))
		return false;
	self->version++;
	dmt_pattern(tail->holds[tail->place], n * 512, block, self->version);
	return !dmt_io_result(tail_io(self, i, DMT_WRITE, n)) &&
	       tail_read(self, i, tail_io(self, i, DMT_READ, n), n) &&
	       tail_stored(self, i);
}

/* What the kernel has to know of it now: a block that is longer is asked for anew. */
static void tail_became(FIXTURE_DATA(churn) *self, unsigned int i,
			const struct dmt_load_table *old, bool dropped)
{
	struct tail *tail = &self->tail[i];
	unsigned int was = tail_has(old, i), is = tail_has(&self->table, i);

	self->outgrown += tail->mapped && was && is > was && !dropped;
	self->shorter += tail->mapped && is && is < was && !dropped;
	self->back += tail->used && !was && is;
	tail->mapped = tail->mapped && is && is <= was && !dropped;
}

/* @late: a read of the first one, as much of it as both tables have, or NULL */
static bool look_at_tail(FIXTURE_DATA(churn) *self,
			 const struct dmt_load_table *old, bool dropped,
			 struct dmt_io *late)
{
	unsigned int i, was = tail_has(old, 0), is = tail_has(&self->table, 0);

	for (i = 0; i < NR_TAIL; i++)
		tail_became(self, i, old, dropped);
	self->crossed += late && was != is;
	if (late && !tail_read(self, 0, late, was < is ? was : is))
		return false;
	for (i = 0; i < NR_TAIL; i++)
		if (!tail_use(self, i))
			return false;
	return true;
}

/* It is suspended: what comes now is for the next table. */
static struct dmt_io *begin_late(const FIXTURE_DATA(churn) *self,
				 const struct dmt_load_table *next)
{
	unsigned int was = tail_has(&self->table, 0), is = tail_has(next, 0);
	unsigned int both = was < is ? was : is;

	return both ? tail_io(self, 0, DMT_READ, both) : NULL;
}

/* --- one turn --------------------------------------------------------------------------- */

/*
 * Copies are made on the devices of the oldest table that has them: let that not be the
 * twin's, so that the suspension has something to wait for.
 */
static bool renew_twin(const struct dmt_load *load)
{
	const struct dmt_load_table table = { 0 };

	return !*load->twin || (!dmt_load_table(load, load->twin, &table) &&
				!dmt_dm_resume(load->twin));
}

/*
 * An fsync which is at the devices: the store has flushed, the origin cannot, as its
 * gate is shut. Nobody else flushes anything.
 */
static bool begin_fsync(FIXTURE_DATA(churn) *self, struct dmt_call *fsync)
{
	const struct dmt_load *load = &self->load;
	unsigned int ms;

	dmt_gate_shut(&load->gate);
	self->store = dmt_stat(load->t.store.dev);
	self->origin = dmt_stat(load->gate.behind);
	dmt_call_begin(fsync, NULL, load->t.name, DMT_FDATASYNC);
	for (ms = 0; ms < DMT_PATIENCE; ms++) {
		if (dmt_stat_since(load->t.store.dev, &self->store).flushes)
			return dmt_call_sleeps(fsync);
		poll(NULL, 0, 1);
	}
	warnx("no flush has come to the store");
	return false;
}

/* See to it that what the way says is under way. */
static bool prepare(FIXTURE_DATA(churn) *self, enum way way,
		    struct dmt_call *fsync)
{
	struct dmt_load *load = &self->load;

	switch (way) {
	case ALONE:
		return dmt_load_kill(load);
	case COPIES:
		return renew_twin(load) && dmt_load_hold_copy(load);
	case HELD:
		return dmt_load_hold_for_sync(load);
	case FSYNC:
		return begin_fsync(self, fsync);
	default:
		return true;
	}
}

/*
 * It is suspended while something waits at the gate, and waits for that. That it sleeps
 * for this, and not for a grace period, takes a while to show: now and then will do.
 */
static bool meets(FIXTURE_DATA(churn) *self, enum dmt_verb verb)
{
	const struct dmt_load *load = &self->load;
	struct dmt_call call;
	bool waits;

	dmt_call_begin(&call, NULL, load->t.name, verb);
	if (self->meetings++ % 8)
		waits = dmt_call_sleeps(&call) && !dmt_call_ended(&call);
	else
		waits = dmt_call_waits(&call);
	if (!waits)
		warnx("it does not wait for what is at the gate");
	dmt_gate_open(&load->gate);
	return !dmt_call_result(&call) && waits;
}

/* Likewise, for an fsync: it has come to the origin when it is over, and not before. */
static bool meets_fsync(FIXTURE_DATA(churn) *self, enum dmt_verb verb)
{
	dev_t origin = self->load.gate.behind;
	bool before = dmt_stat_since(origin, &self->origin).flushes, after;

	if (!meets(self, verb))
		return false;
	after = dmt_stat_since(origin, &self->origin).flushes;
	if (before || !after)
		warnx("an fsync %s", before ? "passed a gate that is shut" :
		      "has not come to the origin");
	return !before && after;
}

/*
 * I/O is held, and stays so: it comes again after the resume. Nobody can have
 * acknowledged it meanwhile.
 */
static bool suspend_held(const struct dmt_load *load)
{
	bool syncs = dmt_counter(load->t.name, DMT_SYNCS);

	return !dmt_suspend(&load->t, true) && syncs &&
	       !dmt_io_done(load->slots[0].io);
}

/* A flush is what a resume begins with, too, where there is a new table. */
static bool suspend(FIXTURE_DATA(churn) *self, enum way way, bool loaded)
{
	const struct dmt *t = &self->load.t;

	switch (way) {
	case FLUSH:
		return loaded || !dmt_dm_suspend(t->name, false);
	case COPIES:
		return meets(self, DMT_SUSPEND_NOFLUSH);
	case FSYNC:
		return meets_fsync(self, loaded ? DMT_RESUME : DMT_SUSPEND);
	case HELD:
		return suspend_held(&self->load);
	default:
		return !dmt_dm_suspend(t->name, true);
	}
}

/* Then nothing is copied any more, but on the devices of a twin. */
static bool is_quiet(const struct dmt_load *load)
{
	uint64_t copies = *load->twin ? 0 : dmt_counter(load->t.name,
							DMT_COPIES);

	if (copies)
		warnx("it is suspended, and %llu copies run",
		      (unsigned long long)copies);
	return !copies;
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
	bool early = random() % 2, drop = i % 7 == 6, reload = reloads(i), resumed;
	struct dmt_load_table old = self->table;
	struct dmt_load_table new = next_table(self, i, lines);
	const char *name = self->load.t.name;
	enum way way = i % NR_WAYS;
	struct dmt_io *late = NULL;
	struct dmt_call fsync;

	if (!prepare(self, way, &fsync) ||
	    (reload && early && dmt_load_table(&self->load, name, &new)) ||
	    !suspend(self, way, reload && early))
		return false;
	resumed = reload && early && (way == FLUSH || way == FSYNC);
	if (!resumed) {
		if (!is_quiet(&self->load))
			return false;
		late = begin_late(self, reload ? &new : &old);
	}
	if ((reload && !early && dmt_load_table(&self->load, name, &new)) ||
	    (drop && dmt_dm_message(name, "drop_idle")) ||
	    dmt_dm_resume(name) || !recover(self, way, &fsync, i))
		return false;
	self->ways[way]++;
	if (reload)
		became(self, &new, way);
	return dmt_load_has_table(&self->load, name, &self->table) &&
	       look(self, &old, reload, drop) &&
	       look_at_tail(self, &old, drop, late);
}

/* A table may be there that fails I/O while no daemon is. */
static bool daemon_has_come(const struct dmt_load *load)
{
	unsigned int ms;

	for (ms = 0; ms < DMT_PATIENCE; ms++) {
		if (dmt_attached(load->t.name))
			return true;
		poll(NULL, 0, 1);
	}
	warnx("no daemon has come");
	return false;
}

/* Now and then, so that there is always something to be copied. */
static bool rewind_sometimes(FIXTURE_DATA(churn) *self, unsigned int i)
{
	uint32_t commits = self->load.book->commits;

	if (commits - self->rewound < DMT_LOAD_BLOCKS / 4)
		return true;
	self->rewound = commits;
	return dmt_load_rewind(&self->load, i) &&
	       daemon_has_come(&self->load) && push_residents(self) &&
	       (!self->table.extra || push_guests(self)) &&
	       look_at_tail(self, &self->table, true, NULL);
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
	ksft_print_msg("%4u times a short block grew, %u shrank, %u came back, %u under I/O\n",
		       self->outgrown, self->shorter, self->back,
		       self->crossed);
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
	/* Whatever does not happen any more is missed here. */
	for (i = 0; i < NR_WAYS; i++)
		EXPECT_EQ(each, self->ways[i]);
	for (i = 0; i < LARGER_IN_FSYNC; i++)
		EXPECT_LE(each, self->changes[i]);
	EXPECT_EQ(each, self->changes[LARGER_IN_FSYNC] +
			self->changes[SMALLER_IN_FSYNC]);
	EXPECT_LE(each, self->kept);
	EXPECT_LE(each, self->dropped);
	EXPECT_LE(each, self->outgrown);
	EXPECT_LE(each / 2, self->shorter);
	EXPECT_LE(each, self->back);
	EXPECT_LE(each, self->crossed);
	EXPECT_LT(each, load->book->commits);
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_COPIES));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
}

DMT_SCALED_MAIN
