// SPDX-License-Identifier: GPL-2.0-only
/*
 * The cow policy under a model of the kernel, on a store that loses power, or
 * whose daemon dies, at any write or flush.
 *
 * Before every write and flush of the policy the store is crashed on the side,
 * and opened: every block acknowledged so far has to be found at its place,
 * and every place that is named at all has to hold its block's data, which
 * only a flush between the data and the metadata can bring about.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "book.h"
#include "fake.h"

#define BLOCK		512u
#define MAX_BLOCKS	3000u
#define MAX_BURST	64u

/**
 * struct kblock - what the kernel knows of a block of the mapped device
 * @sector: place in the store, or 0 where it has no mapping there
 * @orphan: the daemon that answered died before it acknowledged: the block is
 *	asked for again, and until then nothing uses its place
 * @acked: the daemon has said that it is safe, or never asked to wait
 * @acked_sector: where it was then
 */
struct kblock {
	uint64_t sector;
	uint64_t acked_sector;
	bool orphan;
	bool acked;
};

struct report {
	uint32_t id;
	uint32_t block;
};

/**
 * struct world - a snapshot in use
 * @sim: the store
 * @blocks: of the mapped device
 * @k: the kernel's view of each
 * @owner: block that last had a mapping to a place, + 1
 * @report: SYNC reports not delivered yet
 * @by_id: block that was asked for with an id
 * @formatted: opening has succeeded once
 * @death: the daemon dies at this event
 * @events: so far, in this life
 * @checks: crashes looked at
 */
struct world {
	struct sim *sim;
	struct dmud_env env;
	void *state;
	uint64_t rng;
	uint32_t blocks;
	uint64_t places;
	struct kblock k[MAX_BLOCKS];
	uint32_t *owner;
	struct report *report;
	size_t nr_reports;
	uint32_t *by_id;
	uint32_t next_id;
	size_t acks_seen;
	bool formatted;
	uint64_t death;
	uint64_t events;
	uint64_t checks;
	uint64_t error_every;
};

#define MAX_IDS		400000u

static void tag(const struct world *w, uint32_t block, uint8_t *sector)
{
	uint64_t seed = block + 1 + ((uint64_t)w->blocks << 32);
	size_t i;

	for (i = 0; i < BLOCK; i++)
		sector[i] = (uint8_t)rnd(&seed);
}

/* Is the block's data at that sector of what a machine would read? */
static bool holds(const struct world *w, const struct sim *s, uint32_t block,
		  uint64_t sector)
{
	uint8_t want[BLOCK], is[BLOCK];

	tag(w, block, want);
	sim_read(s, is, BLOCK, sector * 512);
	return !memcmp(want, is, BLOCK);
}

static void see_acks(struct world *w)
{
	for (; w->acks_seen < fake.nr_acked; w->acks_seen++) {
		struct kblock *k = &w->k[w->by_id[fake.acked[w->acks_seen]]];

		k->acked = true;
		k->acked_sector = k->sector;
		assert_true(k->sector);
	}
}

/* The heart of it: what would be found after a crash at this moment? */
static void check_book(struct world *w, const struct sim *s,
		       struct cow_book *b)
{
	uint32_t i;

	for (i = 0; i < w->blocks; i++) {
		enum cow_state state;
		uint64_t place, sector;

		state = cow_book_find(b, i, &place);
		if (state == COW_ABSENT) {
			assert_false(w->k[i].acked);
			continue;
		}
		assert_int_equal(state, COW_DURABLE);
		sector = cow_place_offset(place, BLOCK) / 512;
		if (w->k[i].acked)
			assert_int_equal(sector, w->k[i].acked_sector);
		assert_true(holds(w, s, i, sector));
	}
}

static void check_crash(struct world *w, struct sim *s)
{
	struct cow_geometry geo = {
		.block_size = BLOCK,
		.origin_sectors = w->blocks,
		.mapped_sectors = w->blocks,
	};
	struct sim *crashed = sim_crash(s, rnd(&w->rng));
	struct sim *former = sim_select(crashed);
	struct cow_book *b = malloc(sizeof(*b));
	char err[COW_ERROR_SIZE];
	int ret = cow_book_open(b, crashed->fd, &geo, err);

	if (ret && w->formatted)
		fail_msg("after a crash the store %s", err);
	if (!ret) {
		check_book(w, crashed, b);
		cow_book_close(b);
	}
	free(b);
	sim_select(former);
	sim_free(crashed);
	w->checks++;
}

static void on_event(struct sim *s, enum sim_event what, void *ctx)
{
	struct world *w = ctx;

	(void)what;
	see_acks(w);
	check_crash(w, s);
	if (++w->events >= w->death)
		s->dead = true;
}

/*
 * Opens the store after a flush that failed. What the device then lost, of which nobody
 * can know, is written anew over what was before it: that the power be cut in that
 * moment, too, is more than two slots can bear.
 */
static void open_after_failure(struct world *w)
{
	w->sim->event = NULL;
	assert_false(fake_open(w->sim, &w->env, NULL, &w->state));
	w->sim->event = on_event;
	w->formatted = true;
}

static struct world *new_world(uint64_t seed, uint32_t blocks,
			       uint64_t places)
{
	struct world *w = calloc(1, sizeof(*w));

	w->rng = seed;
	w->blocks = blocks;
	w->places = places;
	w->owner = calloc(places, sizeof(*w->owner));
	w->report = calloc(MAX_IDS, sizeof(*w->report));
	w->by_id = calloc(MAX_IDS, sizeof(*w->by_id));
	w->next_id = 1;
	w->sim = sim_new(cow_place_offset(places, BLOCK));
	w->sim->event = on_event;
	w->sim->ctx = w;
	fake_reset(BLOCK, blocks);
	return w;
}

static void free_world(struct world *w)
{
	sim_free(w->sim);
	free(w->owner);
	free(w->report);
	free(w->by_id);
	free(w);
	fake_free();
}

static void ask(struct world *w, uint32_t block, bool write)
{
	assert_in_range(w->next_id, 1, MAX_IDS - 1);
	w->by_id[w->next_id] = block;
	fake_ask(w->state, w->next_id++, block, write);
}

/* The kernel carries out a copy, and the write that asked for it. */
static void copy_block(struct world *w, uint32_t block, uint64_t sector)
{
	uint8_t data[BLOCK];

	tag(w, block, data);
	sim_kernel_write(w->sim, data, BLOCK, sector * 512);
}

static void take_place(struct world *w, uint32_t block, uint64_t sector)
{
	uint64_t place = (sector * 512 - cow_place_offset(0, BLOCK)) / BLOCK;
	uint32_t former;

	assert_true(sector * 512 >= cow_place_offset(0, BLOCK));
	assert_in_range(place, 0, w->places - 1);
	former = w->owner[place];
	/* Nobody else may be there whose data anyone has been promised. */
	if (former && former != block + 1 && !w->k[former - 1].orphan)
		assert_false(w->k[former - 1].sector == sector);
	w->owner[place] = block + 1;
	w->k[block].sector = sector;
	w->k[block].orphan = false;
}

static void obey(struct world *w, const struct fake_answer *a)
{
	uint32_t block = w->by_id[a->id];
	struct kblock *k = &w->k[block];
	bool joins = k->sector == a->m.dst_sector;

	if (a->failed || a->m.dst == ORIGIN_DEV) {
		assert_false(k->acked);
		assert_int_equal(a->failed ? 0 : a->m.flags, 0);
		return;
	}
	assert_true(a->m.flags & DMU_MAP_WRITE);
	if (k->acked)
		assert_int_equal(k->acked_sector, a->m.dst_sector);
	take_place(w, block, a->m.dst_sector);
	if (a->m.flags & DMU_MAP_COPY && !joins)
		copy_block(w, block, k->sector);
	if (a->m.flags & DMU_MAP_SYNC) {
		w->report[w->nr_reports++] = (struct report) {
			.id = a->id, .block = block,
		};
	} else {
		assert_true(holds(w, w->sim, block, k->sector));
		k->acked = true;
		k->acked_sector = k->sector;
	}
}

static void deliver_reports(struct world *w, size_t n)
{
	while (n--) {
		size_t i = rnd_below(&w->rng, w->nr_reports);
		struct report r = w->report[i];

		w->report[i] = w->report[--w->nr_reports];
		fake_sync(w->state, r.id, r.block);
	}
}

static void ask_some(struct world *w)
{
	uint64_t n = rnd_below(&w->rng, MAX_BURST);

	while (n--) {
		uint32_t block = (uint32_t)rnd_below(&w->rng, w->blocks);

		/* A mapping that is there is asked for rarely. */
		if (!w->k[block].sector || !rnd_below(&w->rng, 30))
			ask(w, block, rnd_below(&w->rng, 10) < 8);
	}
}

/* One read of messages by the daemon. */
static void step(struct world *w)
{
	size_t i;

	fake.nr_answers = 0;
	fake.nr_acked = 0;
	w->acks_seen = 0;
	if (w->error_every && !rnd_below(&w->rng, w->error_every))
		w->sim->fail_writes = 1;
	deliver_reports(w, rnd_below(&w->rng, w->nr_reports + 1));
	if (!w->sim->dead)
		ask_some(w);
	if (!w->sim->dead)
		fake_batch(w->state);
	if (w->sim->dead)
		return; /* what it would have written is gone */
	w->sim->fail_writes = 0;
	see_acks(w);
	for (i = 0; i < fake.nr_answers; i++)
		obey(w, &fake.answer[i]);
}

/* The kernel lives on, and asks a new daemon for what was not acknowledged. */
static void ask_again(struct world *w)
{
	size_t i;
	uint32_t b;

	w->nr_reports = 0;
	fake.nr_answers = 0;
	for (b = 0; b < w->blocks; b++) {
		w->k[b].orphan = w->k[b].sector && !w->k[b].acked;
		if (w->k[b].orphan)
			ask(w, b, true);
	}
	fake_batch(w->state);
	if (w->sim->dead)
		return;
	for (i = 0; i < fake.nr_answers; i++)
		obey(w, &fake.answer[i]);
}

/* Every block is written, and every report delivered. */
static void finish(struct world *w)
{
	uint32_t b = 0;

	while (b < w->blocks || w->nr_reports) {
		unsigned int burst = MAX_BURST;
		size_t i;

		fake.nr_answers = 0;
		fake.nr_acked = 0;
		w->acks_seen = 0;
		deliver_reports(w, w->nr_reports);
		for (; b < w->blocks && burst; b++, burst--)
			if (!w->k[b].sector)
				ask(w, b, true);
		fake_batch(w->state);
		see_acks(w);
		for (i = 0; i < fake.nr_answers; i++)
			obey(w, &fake.answer[i]);
	}
}

static uint32_t nr_acked(const struct world *w)
{
	uint32_t b, n = 0;

	for (b = 0; b < w->blocks; b++)
		n += w->k[b].acked;
	return n;
}

static void lose_power(struct world *w)
{
	struct sim *crashed = sim_crash(w->sim, rnd(&w->rng));
	uint32_t b;

	sim_adopt(crashed);
	crashed->event = on_event;
	crashed->ctx = w;
	sim_free(w->sim);
	w->sim = crashed;
	w->nr_reports = 0;
	for (b = 0; b < w->blocks; b++)
		w->k[b].sector = 0;
}

/* A daemon's life, of so many events, or until all is written. */
static void live(struct world *w, uint64_t length, unsigned int steps)
{
	int ret;

	w->death = length;
	w->events = 0;
	w->sim->fail_writes = 0;
	fake.nr_acked = 0;
	w->acks_seen = 0;
	ret = fake_open(w->sim, &w->env, "format=force", &w->state);
	if (!ret) {
		w->formatted = true;
		ask_again(w);
		for (; !w->sim->dead && steps; steps--)
			step(w);
		if (length == UINT64_MAX)
			finish(w);
		fake_close(w->state);
	} else if (!w->sim->dead) {
		fail_msg("cannot be opened again: %s", w->env.error);
	}
	sim_select(NULL);
	w->sim->dead = false;
}

static unsigned int rounds(void)
{
	const char *s = getenv("COW_ROUNDS");

	return s ? (unsigned int)atoi(s) : 4;
}

static void every_acknowledged_block_survives(void **unused)
{
	unsigned int round, life;
	uint64_t checks = 0;

	(void)unused;
	for (round = 0; round < rounds(); round++) {
		struct world *w = new_world(round + 1, 2600, 5000);

		w->error_every = round % 2 ? 8 : 0;
		for (life = 0; life < 10; life++) {
			live(w, 1 + rnd_below(&w->rng, 50), 40);
			if (rnd_below(&w->rng, 2))
				lose_power(w);
		}
		live(w, UINT64_MAX, 60);
		assert_int_equal(nr_acked(w), w->blocks);
		checks += w->checks;
		free_world(w);
	}
	print_message("# %u rounds, %ju crashes\n", rounds(),
		      (uintmax_t)checks);
}

/* More blocks than places: full, and what was there before stays. */
static void a_full_store_survives(void **unused)
{
	struct world *w = new_world(99, 1200, 700);
	unsigned int life;

	(void)unused;
	for (life = 0; life < 6; life++) {
		live(w, 1 + rnd_below(&w->rng, 40), 40);
		if (life % 2)
			lose_power(w);
	}
	live(w, UINT64_MAX, 20);
	assert_int_equal(nr_acked(w), 700);
	assert_int_equal(fake.logged[LOG_ERR], 1);
	free_world(w);
}

/*
 * A flush fails, and the device forgets half of what it had in its cache, at once or
 * when the power is cut. The daemon has to stop acknowledging, and the next one has to
 * have the blocks copied anew.
 */
static void a_failed_flush_is_never_acknowledged(void **unused)
{
	unsigned int round, life;

	(void)unused;
	for (round = 0; round < 3 * rounds(); round++) {
		struct world *w = new_world(round + 500, 1500, 40000);

		w->sim->stays_readable = round % 2;
		for (life = 0; life < 6; life++) {
			w->death = UINT64_MAX;
			open_after_failure(w);
			ask_again(w);
			step(w);
			w->sim->good_flushes = life % 2;
			w->sim->fail_flushes = 1;
			step(w);
			step(w);
			step(w);
			fake_close(w->state);
			w->sim->good_flushes = 0;
			w->sim->fail_flushes = 0;
		}
		assert_in_range(fake.logged[LOG_CRIT], 1, life);
		live(w, UINT64_MAX, 60);
		assert_int_equal(nr_acked(w), w->blocks);
		free_world(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_acknowledged_block_survives),
		cmocka_unit_test(a_full_store_survives),
		cmocka_unit_test(a_failed_flush_is_never_acknowledged),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
