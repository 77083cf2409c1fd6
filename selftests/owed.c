// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies that are owed: a mapping that was replaced or invalidated before its copy
 * was made still makes it, in the order of the answers, and what has to do with
 * the block, or with the place, waits for that.
 *
 * One copy at a time is made here: that of block 9, from the origin to the spare
 * disk, which waits at the origin's gate, keeps all others from beginning.
 */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/gated.h"
#include "lib/run.h"
#include "lib/sysfs.h"

#define NR_PLACES	300u
#define SPARE		7	/* what block 1 of the spare disk holds */

FIXTURE(owed)
{
	struct dmt_gated g;
	unsigned int max_copies;
	unsigned int max_changes;
	int other;
};

FIXTURE_SETUP(owed)
{
	self->max_copies = dmt_param_get("max_copies");
	self->max_changes = dmt_param_get("max_changes");
	dmt_gated_setup(&self->g);
	dmt_disk_fill(&self->g.spare, 1, SPARE);
	self->other = -1;
	dmt_param_set("max_copies", 1);
}

FIXTURE_TEARDOWN(owed)
{
	dmt_param_set("max_copies", self->max_copies);
	dmt_param_set("max_changes", self->max_changes);
	if (self->other >= 0)
		close(self->other);
	dmt_gated_teardown(&self->g);
}

/* The copy that keeps others from beginning, until the origin's gate is opened. */
static bool occupy(const struct dmt_gated *g)
{
	struct dmt_map map = dmt_cow(&g->t, 9, 9, RW);

	map.dst = &g->spare;
	dmt_gate_shut(&g->origin);
	return !dmt_map(g->t.ctl, 0, &map) &&
	       dmt_counts(g->t.name, DMT_COPIES, 1);
}

/* It has been made: whatever waited for it may go on. */
static bool vacate(const struct dmt_gated *g)
{
	dmt_gate_open(&g->origin);
	return dmt_read_matches(g->t.fd, 9, DMT_ORIGIN);
}

/* Block 1 of the spare disk to place 4 of the store: not held up by the origin. */
static struct dmt_map from_spare(const struct dmt_gated *g, uint32_t flags)
{
	struct dmt_map map = dmt_cow(&g->t, 1, 4, flags);

	map.src = &g->spare;
	return map;
}

static void die(FIXTURE_DATA(owed) *self)
{
	close(self->g.t.ctl);
	self->g.t.ctl = dmt_control_open(self->g.t.name, O_NONBLOCK);
}

/* --- many mappings of one block ------------------------------------------------------ */

/* Nothing is done for the second before the first has made its copy, and so on. */
TEST_F(owed, hundreds_of_replacements_wait_for_one_copy)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW);
	struct dmt_io *read;
	unsigned int i;

	dmt_gate_shut(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	for (i = 0; i < NR_PLACES; i++) {
		map = dmt_plain(&self->g.spare, 1, i % DMT_BLOCKS, RW);
		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	}
	map = dmt_plain(&t->origin, 1, 1, RW);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	read = dmt_begin_read(t, 1);
	dmt_gate_open(&self->g.origin);
	EXPECT_EQ(0, dmt_io_wait(read));
	EXPECT_TRUE(dmt_io_matches(read, DMT_ORIGIN));
	dmt_io_free(read);
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, DMT_ORIGIN, DMT_NO_PART));
}

/* A daemon has so many copies owed to it, and no more, of its own accord. */
TEST_F(owed, mappings_that_wait_are_no_more_than_max_changes)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW);
	struct dmt_io *io;
	unsigned int i;
	uint32_t id;

	dmt_param_set("max_changes", 50);
	ASSERT_TRUE(occupy(&self->g));
	for (i = 1; i < 50; i++) {
		map.to = 4 + i % 2;
		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	}
	map.to = 6;
	EXPECT_EQ(-ENOMEM, dmt_map(t->ctl, 0, &map));
	/* Who was asked can always answer. */
	io = dmt_write_part(t->fd, 2, 2);
	id = dmt_expect_request(t->ctl, 2, RW);
	ASSERT_NE(0, id);
	map = dmt_cow(t, 2, 7, RW);
	EXPECT_EQ(0, dmt_map(t->ctl, id, &map));
	dmt_gate_open(&self->g.origin);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	EXPECT_TRUE(dmt_settled(t));
	map = dmt_cow(t, 1, 6, RW);
	EXPECT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
	EXPECT_TRUE(dmt_place_has(&t->store, 6, 1, DMT_ORIGIN, DMT_NO_PART));
}

/* --- who waits for it ------------------------------------------------------------------ */

/*
 * The second mapping of three is given up when its daemon dies. Who has taken the
 * block back meanwhile waits for the first one's copy nevertheless.
 */
TEST_F(owed, invalidation_waits_though_a_mapping_in_between_is_given_up)
{
	struct dmt *t = &self->g.t;
	struct dmt_map first = from_spare(&self->g, RO);
	struct dmt_map second = dmt_plain(&self->g.spare, 1, 5, RW | SYNC);
	struct dmt_map third = dmt_plain(&self->g.spare, 1, 6, RW);
	struct dmt_io *io;
	uint32_t id;

	ASSERT_TRUE(occupy(&self->g));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &first));
	io = dmt_write_part(t->fd, 1, 2);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &second));
	self->other = dmt_control_open(t->name, O_NONBLOCK);
	ASSERT_EQ(0, dmt_invalidate(self->other, 42, 1));
	id = dmt_expect_request(self->other, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(self->other, id, &third));
	dmt_gate_shut(&self->g.store);
	die(self);
	ASSERT_TRUE(vacate(&self->g));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_TRUE(dmt_silent(self->other));
	dmt_gate_open(&self->g.store);
	EXPECT_TRUE(dmt_expect_status(self->other, 42,
				      DM_USERSPACE_INVAL_COMPLETE));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, SPARE, DMT_NO_PART));
}

/*
 * The daemon that dies had made it durable that block 1 lives elsewhere. To the next
 * one its place is free.
 */
TEST_F(owed, place_is_not_lent_before_the_copy_owed_to_it_is_made)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = from_spare(&self->g, RW);
	struct dmt_map moved = dmt_plain(&self->g.spare, 1, 1, RW);
	struct dmt_map lent = dmt_plain(&t->store, 7, 4, RW);
	struct dmt_io *io;

	ASSERT_TRUE(occupy(&self->g));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &moved));
	die(self);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &lent));
	io = dmt_begin_write(t, 7, 9);
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_TRUE(vacate(&self->g));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 7, 9, DMT_NO_PART));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, SPARE));
}

/* To the next one, which finds the copy in its metadata, what was copied is free. */
TEST_F(owed, place_is_not_lent_before_it_has_been_copied)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = from_spare(&self->g, RW);
	struct dmt_map lent = dmt_plain(&self->g.spare, 7, 1, RW);
	struct dmt_io *io;

	ASSERT_TRUE(occupy(&self->g));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	die(self);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &lent));
	io = dmt_begin_write(t, 7, 9);
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_TRUE(vacate(&self->g));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 1, 7, 9, DMT_NO_PART));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, SPARE));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, SPARE, DMT_NO_PART));
}

/*
 * The copy is given up with the daemon that wanted it, and passes to a mapping that
 * relied on it, and has been replaced, too.
 */
TEST_F(owed, place_is_not_lent_before_the_heir_of_a_copy_has_made_it)
{
	struct dmt *t = &self->g.t;
	struct dmt_map wanted = from_spare(&self->g, RO | SYNC);
	struct dmt_map heir = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_map moved = dmt_plain(&self->g.spare, 1, 1, RW);
	struct dmt_map lent = dmt_plain(&t->store, 7, 4, RW);
	struct dmt_io *read, *io;
	uint32_t id;

	ASSERT_TRUE(occupy(&self->g));
	read = dmt_begin_read(t, 1);
	id = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &wanted));
	self->other = dmt_control_open(t->name, O_NONBLOCK);
	ASSERT_EQ(0, dmt_map(self->other, 0, &heir));
	ASSERT_EQ(0, dmt_map(self->other, 0, &moved));
	ASSERT_EQ(0, dmt_map(self->other, 0, &lent));
	io = dmt_begin_write(t, 7, 9);
	die(self);
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_TRUE(vacate(&self->g));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, dmt_io_wait(read));
	EXPECT_TRUE(dmt_io_matches(read, SPARE));
	dmt_io_free(read);
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 7, 9, DMT_NO_PART));
}

/* Two that wait for each other's places, the younger for the older. */
TEST_F(owed, mappings_that_change_places_do_not_wait_for_each_other)
{
	struct dmt *t = &self->g.t;
	struct dmt_map one = from_spare(&self->g, RW);
	struct dmt_map two = dmt_cow(t, 2, 5, RW);
	struct dmt_io *io[2];

	ASSERT_TRUE(occupy(&self->g));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &one));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &two));
	one.to = 5;
	two.to = 4;
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &one));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &two));
	one.to = 4;
	two.to = 5;
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &one));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &two));
	io[0] = dmt_begin_read(t, 1);
	io[1] = dmt_begin_read(t, 2);
	ASSERT_TRUE(vacate(&self->g));
	EXPECT_EQ(0, dmt_io_wait(io[0]));
	EXPECT_TRUE(dmt_io_matches(io[0], SPARE));
	EXPECT_EQ(0, dmt_io_wait(io[1]));
	EXPECT_TRUE(dmt_io_matches(io[1], DMT_ORIGIN));
	dmt_io_free(io[0]);
	dmt_io_free(io[1]);
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, SPARE, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&t->store, 5, 2, DMT_ORIGIN, DMT_NO_PART));
}

/* --- who may rely on it ----------------------------------------------------------------- */

/*
 * The first answer did not want to hear of the I/O: what it says is durable, as far as
 * anybody knows. The second said the same, and did.
 */
TEST_F(owed, copy_that_two_answers_wanted_is_made_though_one_is_not_believed)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = from_spare(&self->g, RW), next;
	struct dmt_io *read, *write;
	uint32_t ids[2];

	ASSERT_TRUE(occupy(&self->g));
	read = dmt_begin_read(t, 1);
	ids[0] = dmt_expect_request(t->ctl, 1, RO);
	write = dmt_write_part(t->fd, 1, 2);
	ids[1] = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, ids[0]);
	ASSERT_NE(0, ids[1]);
	ASSERT_EQ(0, dmt_map(t->ctl, ids[0], &map));
	map.flags |= SYNC;
	ASSERT_EQ(0, dmt_map(t->ctl, ids[1], &map));
	die(self);
	ASSERT_TRUE(vacate(&self->g));
	/* It found the place in its metadata. */
	next = dmt_plain(&t->store, 1, 4, RW);
	ids[0] = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, ids[0]);
	ASSERT_EQ(0, dmt_map(t->ctl, ids[0], &next));
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, SPARE, 2));
}

/* The mapping that was promised owes no copy yet when that is said. */
TEST_F(owed, copy_that_passes_to_a_promised_mapping_is_made)
{
	struct dmt *t = &self->g.t;
	struct dmt_map first = from_spare(&self->g, RO | SYNC);
	struct dmt_map second = dmt_plain(&t->store, 1, 4, RW | SYNC);
	struct dmt_io *read, *write;
	uint32_t ids[2];

	ASSERT_TRUE(occupy(&self->g));
	read = dmt_begin_read(t, 1);
	ids[0] = dmt_expect_request(t->ctl, 1, RO);
	write = dmt_write_part(t->fd, 1, 2);
	ids[1] = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, ids[0]);
	ASSERT_NE(0, ids[1]);
	ASSERT_EQ(0, dmt_map(t->ctl, ids[0], &first));
	ASSERT_EQ(0, dmt_map(t->ctl, ids[1], &second));
	second.flags = RW;
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &second));
	die(self);
	ASSERT_TRUE(vacate(&self->g));
	ids[0] = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, ids[0]);
	ASSERT_EQ(0, dmt_map(t->ctl, ids[0], &second));
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, SPARE, 2));
}

/* Its answer to what the dead one had been asked first is no less welcome. */
TEST_F(owed, answer_to_the_older_request_counts_after_a_death)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW | SYNC);
	struct dmt_map next = dmt_cow(t, 1, 6, RW);
	struct dmt_io *read = dmt_begin_read(t, 1), *write;
	uint32_t ids[2], again;

	ids[0] = dmt_expect_request(t->ctl, 1, RO);
	write = dmt_write_part(t->fd, 1, 2);
	ids[1] = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, ids[0]);
	ASSERT_NE(0, ids[1]);
	ASSERT_EQ(0, dmt_map(t->ctl, ids[1], &map));
	ASSERT_TRUE(dmt_expect_status(t->ctl, ids[1],
				      DM_USERSPACE_SYNC_COMPLETE));
	die(self);
	again = dmt_expect_request(t->ctl, 1, RW);
	EXPECT_EQ(ids[0], again);
	next.dst = &self->g.spare;
	ASSERT_EQ(0, dmt_map(t->ctl, again, &next));
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 6, 1, DMT_ORIGIN, 2));
}

/* Be it that what the dead one has answered is being copied still. */
TEST_F(owed, answer_to_the_older_request_counts_during_the_copy_of_the_younger)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW | SYNC);
	struct dmt_map next = from_spare(&self->g, RW);
	struct dmt_io *read = dmt_begin_read(t, 1), *write;
	uint32_t ids[2];

	next.to = 6;
	ids[0] = dmt_expect_request(t->ctl, 1, RO);
	write = dmt_write_part(t->fd, 1, 2);
	ids[1] = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, ids[0]);
	ASSERT_NE(0, ids[1]);
	dmt_gate_shut(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, ids[1], &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	die(self);
	EXPECT_EQ(ids[0], dmt_expect_request(t->ctl, 1, RO));
	ASSERT_EQ(0, dmt_map(t->ctl, ids[0], &next));
	dmt_gate_open(&self->g.origin);
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_TRUE(dmt_place_has(&t->store, 6, 1, SPARE, 2));
}

/* Who gives the same answer to another request must not undo what was written. */
TEST_F(owed, answer_that_is_repeated_copies_nothing)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW | SYNC);
	struct dmt_io *read = dmt_begin_read(t, 1), *write;
	uint32_t ids[2];

	ids[0] = dmt_expect_request(t->ctl, 1, RO);
	write = dmt_write_part(t->fd, 1, 2);
	ids[1] = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, ids[0]);
	ASSERT_NE(0, ids[1]);
	ASSERT_EQ(0, dmt_map(t->ctl, ids[0], &map));
	ASSERT_TRUE(dmt_expect_status(t->ctl, ids[0],
				      DM_USERSPACE_SYNC_COMPLETE));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, ids[0]));
	EXPECT_EQ(0, dmt_io_result(read));
	ASSERT_EQ(0, dmt_write_block(t->fd, 1, 3));
	ASSERT_EQ(0, dmt_map(t->ctl, ids[1], &map));
	ASSERT_TRUE(dmt_expect_status(t->ctl, ids[1],
				      DM_USERSPACE_SYNC_COMPLETE));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, ids[1]));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, 3, 2));
}

/* Nor who gives it to two, of a block that lives there already. */
TEST_F(owed, answer_that_is_given_twice_copies_nothing)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW);
	struct dmt_io *read = dmt_begin_read(t, 1), *write;
	uint32_t ids[2];

	ids[0] = dmt_expect_request(t->ctl, 1, RO);
	write = dmt_write_part(t->fd, 1, 2);
	ids[1] = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, ids[0]);
	ASSERT_NE(0, ids[1]);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_EQ(0, dmt_write_block(t->fd, 1, 3));
	map.flags |= SYNC;
	ASSERT_EQ(0, dmt_map(t->ctl, ids[0], &map));
	ASSERT_EQ(0, dmt_map(t->ctl, ids[1], &map));
	ASSERT_TRUE(dmt_expect_status(t->ctl, ids[1],
				      DM_USERSPACE_SYNC_COMPLETE));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, ids[1]));
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, 3, 2));
}

/* --- who cannot wait for ever ------------------------------------------------------------- */

/* A device whose table is never resumed, so that nothing is copied. */
static bool load_only(const char *name, uint64_t blocks, const char *params)
{
	return !dmt_dm_create(name) &&
	       !dmt_dm_load(name, 0, blocks * DMT_SECTORS, "userspace", params);
}

/* The same device again, with such a table, and a copy that waits for it. */
static bool copy_waits(struct dmt_gated *g, uint64_t block)
{
	struct dmt_map map = dmt_cow(&g->t, block, 4, RW);
	struct dmt *t = &g->t;
	char params[256];

	close(t->fd);
	close(t->ctl);
	t->fd = -1;
	dmt_gated_params(g, params, sizeof(params));
	if (dmt_dm_remove(t->name) ||
	    !load_only(t->name, DMT_BLOCKS, params))
		return false;
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	return !dmt_map(t->ctl, 0, &map);
}

static bool invalidation_waits(const struct dmt *t)
{
	struct dmt_msg msg;

	return !dmt_invalidate(t->ctl, 42, 1) &&
	       dmt_read_msg(t->ctl, &msg) == -EAGAIN;
}

/**
 * struct apart - tables of the key that have one of the disks each
 * @name: of their devices, which nobody has resumed
 */
struct apart {
	char name[2][64];
};

static bool apart_make(struct apart *apart, const struct dmt *t, uint64_t blocks)
{
	const struct dmt_disk *disks[2] = { &t->origin, &t->store };
	char params[256];
	unsigned int i;

	for (i = 0; i < 2; i++) {
		snprintf(apart->name[i], sizeof(apart->name[i]), "%s-%u",
			 t->name, i);
		snprintf(params, sizeof(params), "%s %u %u:%u", t->name,
			 DMT_BLOCK, major(disks[i]->dev), minor(disks[i]->dev));
		if (!load_only(apart->name[i], blocks, params))
			return false;
	}
	return true;
}

/* Of the key nothing is left, but what the teardown wants to be there. */
static bool apart_remove(struct apart *apart, struct dmt *t)
{
	if (dmt_dm_remove(apart->name[0]) || dmt_dm_remove(apart->name[1]))
		return false;
	close(t->ctl);
	t->ctl = -1;
	return dmt_keys_are_gone() && !dmt_dm_create(t->name);
}

TEST_F(owed, invalidation_ends_with_the_last_table)
{
	struct dmt *t = &self->g.t;
	struct dmt_msg msg;

	ASSERT_TRUE(copy_waits(&self->g, 1));
	ASSERT_TRUE(invalidation_waits(t));
	ASSERT_EQ(0, dmt_dm_remove(t->name));
	EXPECT_EQ(0, dmt_read_msg(t->ctl, &msg));
	close(t->ctl);
	t->ctl = -1;
	EXPECT_TRUE(dmt_keys_are_gone());
	/* For the teardown. */
	ASSERT_EQ(0, dmt_dm_create(t->name));
}

/* Both devices are in a table still, but not in the same. */
TEST_F(owed, invalidation_ends_with_the_last_table_that_can_copy)
{
	struct dmt *t = &self->g.t;
	struct apart apart;

	ASSERT_TRUE(copy_waits(&self->g, 1));
	ASSERT_TRUE(invalidation_waits(t));
	ASSERT_TRUE(apart_make(&apart, t, DMT_BLOCKS));
	EXPECT_TRUE(dmt_silent(t->ctl));
	ASSERT_EQ(0, dmt_dm_remove(t->name));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 42, DM_USERSPACE_INVAL_FAILED));
	EXPECT_TRUE(apart_remove(&apart, t));
}

TEST_F(owed, invalidation_ends_where_no_table_can_copy_any_more)
{
	struct dmt *t = &self->g.t;
	struct apart apart;

	ASSERT_TRUE(copy_waits(&self->g, 1));
	ASSERT_TRUE(apart_make(&apart, t, DMT_BLOCKS));
	ASSERT_EQ(0, dmt_dm_remove(t->name));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 1));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 42, DM_USERSPACE_INVAL_FAILED));
	EXPECT_TRUE(apart_remove(&apart, t));
}

/* By a daemon that has not asked for a verdict, and may believe that it was made. */
TEST_F(owed, copy_that_is_given_up_is_reported)
{
	struct dmt *t = &self->g.t;
	struct dmt_map moved = dmt_plain(&t->origin, 1, 1, RO);
	struct apart apart;
	struct dmt_msg msg;

	ASSERT_TRUE(copy_waits(&self->g, 1));
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_REPORTS));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &moved));
	ASSERT_TRUE(apart_make(&apart, t, DMT_BLOCKS));
	EXPECT_TRUE(dmt_silent(t->ctl));
	ASSERT_EQ(0, dmt_dm_remove(t->name));
	ASSERT_TRUE(dmt_expect(t->ctl, DM_USERSPACE_REPORT, &msg));
	EXPECT_EQ(DMU_REPORT_COPY_FAILED, msg.report.report);
	EXPECT_EQ(1, msg.report.block);
	EXPECT_EQ(-ENODEV, msg.report.error);
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_TRUE(apart_remove(&apart, t));
}

/* The next mapping to the same place will make it, as soon as a table can. */
TEST_F(owed, copy_that_has_an_heir_is_not_said_to_be_given_up)
{
	struct dmt *t = &self->g.t;
	struct dmt_map heir = dmt_plain(&t->store, 1, 4, RW);
	struct apart apart;

	ASSERT_TRUE(copy_waits(&self->g, 1));
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_REPORTS));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 1));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &heir));
	ASSERT_TRUE(apart_make(&apart, t, DMT_BLOCKS));
	ASSERT_EQ(0, dmt_dm_remove(t->name));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 42, DM_USERSPACE_INVAL_FAILED));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_TRUE(apart_remove(&apart, t));
}

/* Nobody can name the block any more; its place is another one's. */
TEST_F(owed, place_of_a_block_that_no_table_has_is_free)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW);
	struct apart apart;
	struct dmt_io *io;

	ASSERT_TRUE(copy_waits(&self->g, DMT_BLOCKS - 2));
	ASSERT_TRUE(apart_make(&apart, t, DMT_BLOCKS / 2));
	ASSERT_EQ(0, dmt_dm_remove(t->name));
	ASSERT_EQ(0, dmt_dm_resume(apart.name[1]));
	t->fd = dmt_dm_open(apart.name[1], O_RDWR | O_DIRECT);
	ASSERT_LE(0, t->fd);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	io = dmt_begin_write(t, 1, 2);
	EXPECT_EQ(0, dmt_io_result(io));
	close(t->fd);
	t->fd = -1;
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, 2, DMT_NO_PART));
	EXPECT_TRUE(apart_remove(&apart, t));
}

/* A table that must not write is no use; a daemon can say that all stays as it is. */
TEST_F(owed, block_that_cannot_be_copied_can_be_mapped_elsewhere)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->origin, 1, 1, RO);
	char params[256];
	const struct dmt_line line = { 0, DMT_BLOCKS * DMT_SECTORS, "userspace",
				       params };
	struct dmt_io *io;

	ASSERT_TRUE(copy_waits(&self->g, 1));
	dmt_gated_params(&self->g, params, sizeof(params));
	ASSERT_EQ(0, dmt_dm_load_lines(t->name, &line, 1, true));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	t->fd = dmt_dm_open(t->name, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, t->fd);
	io = dmt_begin_read(t, 1);
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
	dmt_io_free(io);
}

TEST_HARNESS_MAIN
