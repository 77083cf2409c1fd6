// SPDX-License-Identifier: GPL-2.0-only
/*
 * A snapshot that is being served: see served.h.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "served.h"

uint64_t room_for(uint64_t places)
{
	return cow_place_offset(places - 1, BLOCK) + BLOCK;
}

int served_set_up(void **ctx)
{
	struct served *d = calloc(1, sizeof(*d));

	fake_reset(BLOCK, SECTORS);
	d->store = sim_new(room_for(600));
	d->id = 1000;
	*ctx = d;
	return fake_open(d->store, &d->env, NULL, &d->state);
}

int served_tear_down(void **ctx)
{
	struct served *d = *ctx;

	if (d->state)
		fake_close(d->state);
	sim_free(d->store);
	free(d);
	fake_free();
	return 0;
}

/* The daemon dies and is started again. */
void die(struct served *d)
{
	d->store->dead = true;
	fake_close(d->state);
	d->store->dead = false;
	d->state = NULL;
}

void start_again(struct served *d)
{
	if (fake_open(d->store, &d->env, NULL, &d->state))
		fail_msg("%s", d->env.error);
}

void refused(struct served *d, const char *opt, const char *why)
{
	void *state;

	if (d->state)
		fake_close(d->state);
	d->state = NULL;
	assert_true(fake_open(d->store, &d->env, opt, &state) < 0);
	assert_null(state);
	if (!strstr(d->env.error, why))
		fail_msg("refused, but for this: %s", d->env.error);
}

uint64_t write_block(struct served *d, uint64_t block)
{
	struct fake_answer a = fake_ask(d->state, d->id++, block, true);

	assert_false(a.failed);
	assert_int_equal(a.m.flags, NEW);
	return a.m.dst_sector;
}

/* From the request to the acknowledgment. */
uint64_t store_block(struct served *d, uint64_t block)
{
	uint64_t sector = write_block(d, block);

	fake_sync(d->state, d->id - 1, block);
	fake_batch(d->state);
	assert_int_equal(fake.acked[fake.nr_acked - 1], d->id - 1);
	return sector;
}
