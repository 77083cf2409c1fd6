// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ids that begin anew: never 0, never one that is outstanding, and the age that
 * they tell. Nobody can wait for 2^32 requests, so the module is loaded with ids
 * of BITS bits; what it does with them is the same.
 */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/fixture.h"
#include "lib/gate.h"
#include "lib/sysfs.h"
#include <err.h>

#define BITS	10
#define LAST	((1u << BITS) - 1)

FIXTURE(ids)
{
	struct dmt t;
};

FIXTURE_SETUP(ids)
{
	char param[32];

	snprintf(param, sizeof(param), "id_bits=%d", BITS);
	ASSERT_TRUE(dmt_keys_are_gone());
	ASSERT_EQ(0, dmt_module_remove());
	if (dmt_module_insert_with(param))
		errx(1, "cannot insert the module");
	dmt_setup(&self->t);
}

FIXTURE_TEARDOWN(ids)
{
	dmt_teardown(&self->t);
	EXPECT_TRUE(dmt_keys_are_gone());
	EXPECT_EQ(0, dmt_module_remove());
	EXPECT_EQ(0, dmt_module_insert());
}

/* Any number from 1 to LAST is followed by another such. */
static uint32_t after(uint32_t id)
{
	return id == LAST ? 1 : id + 1;
}

/*
 * Let blocks [@from, DMT_BLOCKS) be asked for, and fail them all. Returns the
 * highest id, or 0 where one was not the next that is not in @taken; @last is
 * the id before the first, and becomes the last.
 */
static uint32_t ask_for_many(const struct dmt *t, uint64_t from,
			     const uint32_t taken[2], uint32_t *last)
{
	struct dmt_io *io[DMT_BLOCKS];
	uint32_t ids[DMT_BLOCKS], highest = 0;
	uint64_t b;
	bool ok = true;

	for (b = from; b < DMT_BLOCKS; b++)
		io[b] = dmt_begin_read(t, b);
	for (b = from; ok && b < DMT_BLOCKS; b++) {
		do {
			*last = after(*last);
		} while (*last == taken[0] || *last == taken[1]);
		ids[b] = dmt_expect_request(t->ctl, b, RO);
		ok = ids[b] == *last;
		if (!ok)
			warnx("got id %u, not %u", ids[b], *last);
		highest = ids[b] > highest ? ids[b] : highest;
	}
	for (b = from; ok && b < DMT_BLOCKS; b++)
		ok = !dmt_fail(t->ctl, ids[b]) &&
		     dmt_io_result(io[b]) == -EIO;
	return ok ? highest : 0;
}

/* Requests come and go until ids have begun anew; the last one is @last. */
static bool go_round(const struct dmt *t, uint64_t from,
		     const uint32_t taken[2], uint32_t *last)
{
	uint32_t before, highest;

	do {
		before = *last;
		highest = ask_for_many(t, from, taken, last);
	} while (highest && *last > before);
	return highest;
}

static const uint32_t none[2];

TEST_F_TIMEOUT(ids, are_never_0_and_begin_anew, 120)
{
	struct dmt *t = &self->t;
	uint32_t last = 0;
	unsigned int i;

	for (i = 0; i < 2; i++)
		ASSERT_TRUE(go_round(t, 0, none, &last));
	/* Everything works as before. */
	for (i = 0; i < 2; i++) {
		struct dmt_map map = dmt_plain(&t->origin, i, i, RO);
		struct dmt_io *io = dmt_begin_read(t, i);
		uint32_t id = dmt_expect_request(t->ctl, i, RO);

		last = after(last);
		EXPECT_EQ(last, id);
		ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
		EXPECT_EQ(0, dmt_io_wait(io));
		EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
		dmt_io_free(io);
	}
}

/* One that is asked for, and one whose SYNC is not acknowledged. */
TEST_F_TIMEOUT(ids, that_are_outstanding_are_not_given_again, 120)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, 1, 7, RW | SYNC);
	struct dmt_io *read, *write;
	uint32_t taken[2], last;
	unsigned int i;

	read = dmt_begin_read(t, 0);
	taken[0] = dmt_expect_request(t->ctl, 0, RO);
	ASSERT_NE(0, taken[0]);
	write = dmt_begin_write(t, 1, 2);
	taken[1] = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, taken[1]);
	ASSERT_EQ(0, dmt_map(t->ctl, taken[1], &map));
	ASSERT_TRUE(dmt_expect_status(t->ctl, taken[1],
				      DM_USERSPACE_SYNC_COMPLETE));
	last = taken[1];
	for (i = 0; i < 2; i++)
		ASSERT_TRUE(go_round(t, 2, taken, &last));
	EXPECT_FALSE(dmt_io_done(read));
	EXPECT_FALSE(dmt_io_done(write));
	map = dmt_plain(&t->origin, 0, 0, RO);
	ASSERT_EQ(0, dmt_map(t->ctl, taken[0], &map));
	EXPECT_EQ(0, dmt_io_wait(read));
	EXPECT_TRUE(dmt_io_matches(read, DMT_ORIGIN));
	dmt_io_free(read);
	ASSERT_EQ(0, dmt_sync_done(t->ctl, taken[1]));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_place_has(&t->store, 7, 1, 2, DMT_NO_PART));
}

/* A lower id is the younger one here, and its answer is to stay. */
TEST_F_TIMEOUT(ids, tell_which_answer_is_older, 120)
{
	struct dmt *t = &self->t;
	struct dmt_map young = dmt_plain(&t->store, 0, 3, RW);
	struct dmt_map late = dmt_plain(&t->store, 0, 4, RW);
	struct dmt_io *read, *failed, *write;
	uint32_t older, id, last = 0, taken[2] = { 0 };

	/* Close to the last one, but before it. */
	while (last < LAST - 2 * DMT_BLOCKS)
		ASSERT_NE(0, ask_for_many(t, 0, none, &last));
	failed = dmt_begin_read(t, 0);
	older = dmt_expect_request(t->ctl, 0, RO);
	ASSERT_LT(last, older);
	ASSERT_EQ(0, dmt_fail(t->ctl, older));
	EXPECT_EQ(-EIO, dmt_io_result(failed));
	read = dmt_begin_read(t, 0);
	taken[0] = dmt_expect_request(t->ctl, 0, RO);
	ASSERT_LT(older, taken[0]);
	last = taken[0];
	ASSERT_TRUE(go_round(t, 1, taken, &last));
	write = dmt_begin_write(t, 0, 2);
	id = dmt_expect_request(t->ctl, 0, RW);
	ASSERT_NE(0, id);
	ASSERT_GT(older, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &young));
	EXPECT_EQ(0, dmt_io_result(write));

	/* Of one that is outstanding still, and of one that is no longer. */
	ASSERT_EQ(0, dmt_map(t->ctl, taken[0], &late));
	EXPECT_EQ(0, dmt_io_result(read));
	ASSERT_EQ(0, dmt_map(t->ctl, older, &late));
	EXPECT_EQ(0, dmt_write_block(t->fd, 0, 3));
	EXPECT_TRUE(dmt_place_has(&t->store, 3, 0, 3, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 0, 0, DMT_NO_PART));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F_TIMEOUT(ids, are_delivered_again_in_the_order_of_their_age, 120)
{
	struct dmt *t = &self->t;
	struct dmt_io *io[DMT_BLOCKS];
	uint32_t ids[DMT_BLOCKS], last = 0;
	uint64_t b;

	while (last < LAST - DMT_BLOCKS)
		ASSERT_NE(0, ask_for_many(t, 0, none, &last));
	for (b = 0; b < DMT_BLOCKS; b++)
		io[b] = dmt_begin_read(t, b);
	/* Half of them have been read when the daemon dies. */
	for (b = 0; b < DMT_BLOCKS / 2; b++)
		ids[b] = dmt_expect_request(t->ctl, b, RO);
	close(t->ctl);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	for (b = 0; b < DMT_BLOCKS; b++) {
		uint32_t id = dmt_expect_request(t->ctl, b, RO);

		last = after(last);
		ASSERT_EQ(last, id);
		if (b < DMT_BLOCKS / 2)
			ASSERT_EQ(ids[b], id);
		ids[b] = id;
	}
	EXPECT_GT(ids[0], ids[DMT_BLOCKS - 1]);
	for (b = 0; b < DMT_BLOCKS; b++) {
		ASSERT_EQ(0, dmt_fail(t->ctl, ids[b]));
		EXPECT_EQ(-EIO, dmt_io_result(io[b]));
	}
}

TEST_HARNESS_MAIN
