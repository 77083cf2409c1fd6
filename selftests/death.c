// SPDX-License-Identifier: GPL-2.0-only
/*
 * A daemon dies: nothing that it was asked is lost, nothing that it had not yet
 * made durable is believed, and whatever is mapped goes on without it.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/sysfs.h"
#include <err.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

/* How it dies. */
FIXTURE(daemon)
{
	struct dmt_gated g;
	bool killed;
};

FIXTURE_VARIANT(daemon)
{
	bool killed;
};

FIXTURE_VARIANT_ADD(daemon, closes) { .killed = false };
FIXTURE_VARIANT_ADD(daemon, is_killed) { .killed = true };

FIXTURE_SETUP(daemon)
{
	dmt_gated_setup(&self->g);
	self->killed = variant->killed;
}

FIXTURE_TEARDOWN(daemon)
{
	dmt_gated_teardown(&self->g);
}

/* The last one to have the control device open is killed in a read() of it. */
static void kill_holder(int fd)
{
	struct dmt_sleeper s = { 0 };
	int pipes[2], status;
	pid_t pid;
	char c;

	if (pipe(pipes))
		err(1, "pipe");
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		fcntl(fd, F_SETFL, 0);
		dmt_sleeper_poll(&s, fd, 0);
		if (write(pipes[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	if (read(pipes[0], &c, 1) != 1)
		errx(1, "the child did not get to its call");
	close(fd);
	kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status))
		errx(1, "the child was not killed");
	close(pipes[0]);
	close(pipes[1]);
}

static void die(FIXTURE_DATA(daemon) *self)
{
	if (self->killed)
		kill_holder(self->g.t.ctl);
	else
		close(self->g.t.ctl);
	self->g.t.ctl = -1;
}

static void next_daemon(FIXTURE_DATA(daemon) *self)
{
	self->g.t.ctl = dmt_control_open(self->g.t.name, O_NONBLOCK);
}

static bool held(const struct dmt *t, uint32_t id)
{
	return dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE);
}

/* --- requests ---------------------------------------- */

TEST_F(daemon, what_it_had_read_is_asked_again_in_order)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io[7];
	uint32_t id[7], again;
	uint64_t block;

	for (block = 1; block <= 3; block++) {
		io[block] = dmt_begin_read(t, block);
		id[block] = dmt_expect_request(t->ctl, block, RO);
		ASSERT_NE(0, id[block]);
	}
	for (block = 4; block <= 5; block++)
		io[block] = dmt_begin_read(t, block);
	/* One of them was answered. */
	ASSERT_EQ(0, dmt_fail(t->ctl, id[2]));
	EXPECT_EQ(-EIO, dmt_io_result(io[2]));

	die(self);
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	EXPECT_EQ(4, dmt_counter(t->name, DMT_WAITING));
	io[6] = dmt_begin_read(t, 6);
	next_daemon(self);
	for (block = 1; block <= 6; block++) {
		struct dmt_map map = dmt_plain(&t->origin, block, block, RO);

		if (block == 2)
			continue;
		again = dmt_expect_request(t->ctl, block, RO);
		ASSERT_NE(0, again);
		if (block <= 3)
			EXPECT_EQ(id[block], again);
		ASSERT_EQ(0, dmt_map(t->ctl, again, &map));
		EXPECT_EQ(0, dmt_io_wait(io[block]));
		EXPECT_TRUE(dmt_io_matches(io[block], DMT_ORIGIN));
		dmt_io_free(io[block]);
	}
	EXPECT_TRUE(dmt_settled(t));
}

TEST_F(daemon, what_it_had_read_goes_to_the_other_daemon)
{
	struct dmt *t = &self->g.t;
	int other = dmt_control_open(t->name, O_NONBLOCK);
	struct dmt_sleeper sleeper = { 0 };
	struct dmt_io *io[5];
	uint32_t id[5];
	uint64_t block;

	for (block = 1; block <= 3; block++)
		io[block] = dmt_begin_read(t, block);
	id[1] = dmt_expect_request(t->ctl, 1, RO);
	id[2] = dmt_expect_request(other, 2, RO);
	id[3] = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_TRUE(id[1] && id[2] && id[3]);
	dmt_sleeper_poll(&sleeper, other, POLLIN);
	die(self);
	EXPECT_TRUE(dmt_sleeper_wait(&sleeper) & POLLIN);
	io[4] = dmt_begin_read(t, 4);
	EXPECT_EQ(id[1], dmt_expect_request(other, 1, RO));
	EXPECT_EQ(id[3], dmt_expect_request(other, 3, RO));
	id[4] = dmt_expect_request(other, 4, RO);
	ASSERT_NE(0, id[4]);
	EXPECT_TRUE(dmt_silent(other));
	for (block = 1; block <= 4; block++) {
		ASSERT_EQ(0, dmt_fail(other, id[block]));
		EXPECT_EQ(-EIO, dmt_io_result(io[block]));
	}
	close(other);
}

TEST_F(daemon, answer_of_another_daemon_ends_what_it_had_read)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->origin, 1, 1, RO);
	int other = dmt_control_open(t->name, O_NONBLOCK);
	struct dmt_io *io = dmt_begin_read(t, 1);
	uint32_t id = dmt_expect_request(t->ctl, 1, RO);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(other, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	die(self);
	EXPECT_TRUE(dmt_silent(other));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	close(other);
}

TEST_F(daemon, write_joins_a_read_request_that_is_unread_again)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 1, RW);
	struct dmt_io *read = dmt_begin_read(t, 1), *write;
	uint32_t id = dmt_expect_request(t->ctl, 1, RO);

	ASSERT_NE(0, id);
	die(self);
	write = dmt_write_part(t->fd, 1, 2);
	next_daemon(self);
	EXPECT_EQ(id, dmt_expect_request(t->ctl, 1, RW));
	EXPECT_TRUE(dmt_silent(t->ctl));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_EQ(0, dmt_io_result(write));
}

TEST_F(daemon, mapped_io_goes_on_without_one)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_map copied = dmt_cow(t, 2, 5, RW);
	struct dmt_io *io;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &copied));
	die(self);
	EXPECT_FALSE(dmt_attached(t->name));
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 2));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, 2));
	EXPECT_TRUE(dmt_read_matches(t->fd, 2, DMT_ORIGIN));
	EXPECT_EQ(2, dmt_counter(t->name, DMT_REMAPS));
	/* What is not mapped waits for the next one. */
	io = dmt_begin_read(t, 3);
	dmt_grace_period();
	EXPECT_FALSE(dmt_io_done(io));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_WAITING));
	next_daemon(self);
	ASSERT_EQ(0, dmt_fail(t->ctl, dmt_expect_request(t->ctl, 3, RO)));
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

TEST_F(daemon, what_only_it_wanted_to_know_vanishes_with_it)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_io *io;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_gate_shut(&self->g.store);
	io = dmt_begin_write(t, 1, 2);
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 1));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 43, 2));
	die(self);
	next_daemon(self);
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
}

/* --- copies ---------------------------------------- */

TEST_F(daemon, copy_goes_on_without_one)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	die(self);
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, DMT_ORIGIN, 2));
	next_daemon(self);
	EXPECT_TRUE(dmt_settled(t));
}

TEST_F(daemon, copy_that_fails_after_its_death_is_still_owed)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW);
	struct dmt_map again = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_io *io;

	dmt_gate_shut(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	die(self);
	io = dmt_begin_read(t, 1);
	dmt_gate_break(&self->g.origin);
	EXPECT_EQ(-EIO, dmt_io_result(io));
	/* The next one says what it found in the metadata. */
	next_daemon(self);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &again));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 1)));
	dmt_gate_mend(&self->g.origin);
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/*
 * The first answer was not to be acknowledged: the next daemon may rely on its
 * copy, whatever became of the unacknowledged one that replaced it.
 */
TEST_F(daemon, copy_outlives_an_unacknowledged_replacement)
{
	struct dmt *t = &self->g.t;
	struct dmt_map first = dmt_cow(t, 1, 4, RO);
	struct dmt_map second = dmt_plain(&self->g.spare, 1, 5, RW | SYNC);
	struct dmt_map third = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_io *io;
	uint32_t id;

	dmt_gate_shut(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &first));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	io = dmt_write_part(t->fd, 1, 2);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &second));
	die(self);
	next_daemon(self);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &third));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	dmt_gate_break(&self->g.origin);
	EXPECT_EQ(-EIO, dmt_io_result(io));
	dmt_gate_mend(&self->g.origin);
	EXPECT_EQ(0, dmt_io_result(dmt_write_part(t->fd, 1, 3)));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, DMT_ORIGIN, 3));
}

/* The same, where another answer has come in between. */
TEST_F(daemon, copy_outlives_an_unacknowledged_answer_among_others)
{
	struct dmt *t = &self->g.t;
	struct dmt_map first = dmt_cow(t, 1, 4, RO);
	struct dmt_map second = dmt_plain(&self->g.spare, 1, 5, RW | SYNC);
	struct dmt_map third = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_io *io;
	uint32_t id;

	dmt_gate_shut(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &first));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	io = dmt_write_part(t->fd, 1, 2);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &second));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &third));
	die(self);
	next_daemon(self);
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	dmt_gate_break(&self->g.origin);
	EXPECT_EQ(-EIO, dmt_io_result(io));
	dmt_gate_mend(&self->g.origin);
	EXPECT_EQ(0, dmt_io_result(dmt_write_part(t->fd, 1, 3)));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, DMT_ORIGIN, 3));
}

/* --- unacknowledged mappings ---------------------------------------- */

/* A part write of block 1 is held, at place 4 of the store. */
static struct dmt_io *hold(const struct dmt *t, uint32_t flags, uint32_t *id,
			   bool told)
{
	struct dmt_map map = dmt_cow(t, 1, 4, RW | SYNC);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);

	map.flags = RW | SYNC | flags;
	*id = dmt_expect_request(t->ctl, 1, RW);
	if (!*id || dmt_map(t->ctl, *id, &map) ||
	    !dmt_readable(t->ctl, DMT_PATIENCE) || (told && !held(t, *id))) {
		warnx("the write is not held");
		*id = 0;
	}
	return io;
}

/* What the next daemon finds; it must be asked under an id of its own. */
static uint32_t asked_again(const struct dmt *t, uint32_t old)
{
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	if (id == old)
		warnx("an id was given twice");
	return id == old ? 0 : id;
}

TEST_F(daemon, unacknowledged_mapping_is_asked_for_and_all_its_io_waits)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_io *io, *read;
	uint32_t id, next;

	io = hold(t, COPY, &id, true);
	ASSERT_NE(0, id);
	die(self);
	read = dmt_begin_read(t, 1);
	dmt_grace_period();
	EXPECT_FALSE(dmt_io_done(read));
	EXPECT_FALSE(dmt_io_done(io));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
	next_daemon(self);
	next = asked_again(t, id);
	ASSERT_NE(0, next);
	/* The dead one's id means nothing any more. */
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(read));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_map(t->ctl, next, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, DMT_ORIGIN, 2));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, DMT_ORIGIN, 2));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(daemon, death_before_it_was_told_is_like_death_after)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW | SYNC);
	struct dmt_io *io;
	uint32_t id, next;

	io = hold(t, COPY, &id, false);
	ASSERT_NE(0, id);
	die(self);
	next_daemon(self);
	next = asked_again(t, id);
	ASSERT_NE(0, next);
	ASSERT_EQ(0, dmt_map(t->ctl, next, &map));
	ASSERT_TRUE(held(t, next));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, next));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, DMT_ORIGIN, 2));
}

TEST_F(daemon, place_confirmed_with_a_copy_has_the_block_and_the_write)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW | SYNC);
	struct dmt_io *io;
	uint32_t id, next;

	io = hold(t, COPY, &id, true);
	ASSERT_NE(0, id);
	die(self);
	next_daemon(self);
	next = asked_again(t, id);
	ASSERT_NE(0, next);
	/* By chance the same place: it never heard of the first answer. */
	ASSERT_EQ(0, dmt_map(t->ctl, next, &map));
	ASSERT_TRUE(held(t, next));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, next));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, DMT_ORIGIN, 2));
}

TEST_F(daemon, contradicted_write_reaches_the_new_place)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&self->g.spare, 1, 6, RW | SYNC | COPY);
	struct dmt_io *io;
	uint32_t id, next;

	map.src = &t->origin;
	io = hold(t, 0, &id, true);
	ASSERT_NE(0, id);
	die(self);
	next_daemon(self);
	next = asked_again(t, id);
	ASSERT_NE(0, next);
	ASSERT_EQ(0, dmt_map(t->ctl, next, &map));
	ASSERT_TRUE(held(t, next));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 6, 1, DMT_ORIGIN, 2));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, next));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, DMT_ORIGIN, 2));
}

TEST_F(daemon, refused_write_fails_and_its_mapping_is_forgotten)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io;
	uint32_t id, next;

	io = hold(t, 0, &id, true);
	ASSERT_NE(0, id);
	die(self);
	next_daemon(self);
	next = asked_again(t, id);
	ASSERT_NE(0, next);
	ASSERT_EQ(0, dmt_fail(t->ctl, next));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	io = dmt_begin_read(t, 1);
	next = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, next);
	ASSERT_EQ(0, dmt_fail(t->ctl, next));
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

TEST_F(daemon, several_deaths_lose_nothing)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW | SYNC);
	struct dmt_io *io;
	uint32_t id;
	int i;

	io = hold(t, COPY, &id, true);
	ASSERT_NE(0, id);
	for (i = 0; i < 5; i++) {
		die(self);
		next_daemon(self);
		id = dmt_expect_request(t->ctl, 1, RW);
		ASSERT_NE(0, id);
		if (i == 1)	/* before it answered */
			continue;
		map.to = 4 + i;
		ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
		if (i == 2)	/* after */
			continue;
		ASSERT_TRUE(held(t, id));
	}
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, map.to, 1, DMT_ORIGIN, 2));
	EXPECT_TRUE(dmt_block_reads(t->fd, 1, DMT_ORIGIN, 2));
}

TEST_F(daemon, mapping_without_io_is_not_asked_for_until_io_comes)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW | SYNC);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW), next;

	ASSERT_NE(0, id);
	dmt_gate_break(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	dmt_gate_mend(&self->g.store);
	die(self);
	next_daemon(self);
	ASSERT_TRUE(dmt_settled(t));
	io = dmt_begin_read(t, 1);
	ASSERT_TRUE(dmt_readable(t->ctl, DMT_PATIENCE));
	/* It is not believed: the next daemon says where the block is. */
	next = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, next);
	ASSERT_EQ(0, dmt_fail(t->ctl, next));
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

TEST_F(daemon, io_held_when_its_mapping_was_invalidated_asks)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&self->g.spare, 1, 6, RW);
	struct dmt_io *io;
	uint32_t id, next;

	io = hold(t, 0, &id, true);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 1));
	ASSERT_TRUE(dmt_expect_status(t->ctl, 42, DM_USERSPACE_INVAL_COMPLETE));
	die(self);
	next_daemon(self);
	next = asked_again(t, id);
	ASSERT_NE(0, next);
	ASSERT_EQ(0, dmt_map(t->ctl, next, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 6, 1, 0, 2));
}

TEST_F(daemon, unacknowledged_mapping_asks_only_once_its_copy_is_over)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW | SYNC);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW), next;

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	die(self);
	next_daemon(self);
	dmt_gate_open(&self->g.store);
	next = asked_again(t, id);
	ASSERT_NE(0, next);
	map.flags = RW;
	ASSERT_EQ(0, dmt_map(t->ctl, next, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, DMT_ORIGIN, 2));
}

/*
 * The next daemon has not heard of the mapping yet, and says ahead of demand that
 * the block is on the origin, for reads.
 */
TEST_F(daemon, write_that_waits_for_a_copy_asks_the_next_one)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW | SYNC);
	struct dmt_map push = dmt_plain(&t->origin, 1, 1, RO);
	struct dmt_map moved = dmt_plain(&self->g.spare, 1, 6, RW);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2), *read;
	uint32_t id = dmt_expect_request(t->ctl, 1, RW), next;

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	read = dmt_begin_read(t, 1);
	die(self);
	next_daemon(self);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &push));
	dmt_gate_open(&self->g.store);
	next = asked_again(t, id);
	ASSERT_NE(0, next);
	EXPECT_EQ(0, dmt_io_wait(read));
	EXPECT_TRUE(dmt_io_matches(read, DMT_ORIGIN));
	dmt_io_free(read);
	ASSERT_EQ(0, dmt_map(t->ctl, next, &moved));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_disk_has(&t->origin, 1, DMT_ORIGIN));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 6, 1, 0, 2));
}

TEST_F(daemon, copy_that_fails_after_its_death_fails_what_waited)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW | SYNC);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW), next;

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	die(self);
	next_daemon(self);
	dmt_gate_break(&self->g.store);
	EXPECT_EQ(-EIO, dmt_io_result(io));
	dmt_gate_mend(&self->g.store);
	io = dmt_begin_read(t, 1);
	ASSERT_TRUE(dmt_readable(t->ctl, DMT_PATIENCE));
	next = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, next);
	map.flags = RW | COPY;
	ASSERT_EQ(0, dmt_map(t->ctl, next, &map));
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
	dmt_io_free(io);
}

/* --- places that the next daemon lends to others ---------------------------------------- */

/* Is block 7, just mapped to place 4 of the store, usable? It has no other I/O. */
static bool usable(const struct dmt *t, struct dmt_io **io)
{
	uint64_t hits = dmt_counter(t->name, DMT_HITS);

	*io = dmt_begin_write(t, 7, 9);
	return dmt_counter(t->name, DMT_HITS) != hits;
}

TEST_F(daemon, reused_place_waits_for_old_writes)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW | SYNC);
	struct dmt_map reused = dmt_plain(&t->store, 7, 4, RW);
	struct dmt_map moved = dmt_plain(&self->g.spare, 1, 6, RW);
	struct dmt_io *io = dmt_begin_write(t, 1, 2), *new;
	uint32_t id = dmt_expect_request(t->ctl, 1, RW), next;

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_settled(t));
	die(self);
	next_daemon(self);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &reused));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(usable(t, &new));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(new));
	next = asked_again(t, id);
	ASSERT_NE(0, next);
	ASSERT_EQ(0, dmt_map(t->ctl, next, &moved));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 7, 9, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&self->g.spare, 6, 1, 2, DMT_NO_PART));
}

TEST_F(daemon, reused_place_waits_for_an_old_copy)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW | SYNC);
	struct dmt_map reused = dmt_plain(&t->store, 7, 4, RW);
	struct dmt_io *io = dmt_begin_read(t, 1), *new;
	uint32_t id = dmt_expect_request(t->ctl, 1, RO), next;

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	die(self);
	next_daemon(self);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &reused));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(usable(t, &new));
	dmt_gate_open(&self->g.origin);
	EXPECT_EQ(0, dmt_io_result(new));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 7, 9, DMT_NO_PART));
	next = asked_again(t, id);
	ASSERT_NE(0, next);
	ASSERT_EQ(0, dmt_fail(t->ctl, next));
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

/* It wanted the place back, but died before it could know. */
TEST_F(daemon, reused_place_waits_for_the_copy_of_an_invalidated_mapping)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW | SYNC);
	struct dmt_map reused = dmt_plain(&t->store, 7, 4, RW);
	struct dmt_io *io = dmt_begin_read(t, 1), *new;
	uint32_t id = dmt_expect_request(t->ctl, 1, RO), next;

	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.origin);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 1));
	die(self);
	next_daemon(self);
	next = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, next);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &reused));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(usable(t, &new));
	dmt_gate_open(&self->g.origin);
	EXPECT_EQ(0, dmt_io_result(new));
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 7, 9, DMT_NO_PART));
	ASSERT_EQ(0, dmt_fail(t->ctl, next));
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

/* Taken back, and not heard of any more: it may be free for the next one. */
static void reuses(struct __test_metadata *_metadata, FIXTURE_DATA(daemon) *self,
		   bool write)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW);
	struct dmt_map reused = dmt_plain(&t->store, 7, 4, RW);
	struct dmt_io *io, *new;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_EQ(0, dmt_write_block(t->fd, 1, 2));
	dmt_gate_shut(&self->g.store);
	io = write ? dmt_begin_write(t, 1, 3) : dmt_begin_read(t, 1);
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 1));
	ASSERT_TRUE(dmt_settled(t));
	die(self);
	next_daemon(self);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &reused));
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_FALSE(usable(t, &new));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(new));
	EXPECT_EQ(0, dmt_io_wait(io));
	if (!write)
		EXPECT_TRUE(dmt_io_matches(io, 2));
	dmt_io_free(io);
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 7, 9, DMT_NO_PART));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(daemon, place_that_was_taken_back_waits_for_old_reads)
{
	reuses(_metadata, self, false);
}

TEST_F(daemon, place_that_was_taken_back_waits_for_old_writes)
{
	reuses(_metadata, self, true);
}

/* Nobody may write there, but who waited for the answer does. */
TEST_F(daemon, write_without_leave_waits_for_the_copy_from_its_place)
{
	struct dmt *t = &self->g.t;
	struct dmt_map running = dmt_cow(t, 9, 9, RW);
	struct dmt_map queued = dmt_cow(t, 1, 4, RW);
	struct dmt_map lent = dmt_plain(&t->origin, 7, 1, RO);
	unsigned int old = dmt_param_get("max_copies");
	struct dmt_io *io;
	uint32_t id;

	dmt_gate_shut(&self->g.origin);
	dmt_param_set("max_copies", 1);
	EXPECT_EQ(0, dmt_map(t->ctl, 0, &running));
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	EXPECT_EQ(0, dmt_map(t->ctl, 0, &queued));
	die(self);
	next_daemon(self);
	io = dmt_begin_write(t, 7, 9);
	id = dmt_expect_request(t->ctl, 7, RW);
	EXPECT_EQ(0, dmt_map(t->ctl, id, &lent));
	dmt_gate_open(&self->g.origin);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	dmt_param_set("max_copies", old);
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 1, DMT_ORIGIN, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&t->origin, 1, 7, 9, DMT_NO_PART));
}

/* It was never begun: nobody is to begin it for a daemon that is dead. */
TEST_F(daemon, reused_place_is_not_copied_to_by_what_was_queued)
{
	struct dmt *t = &self->g.t;
	struct dmt_map running = dmt_cow(t, 9, 9, RW);
	struct dmt_map queued = dmt_cow(t, 1, 4, RW | SYNC);
	struct dmt_map reused = dmt_plain(&t->store, 7, 4, RW);
	unsigned int old = dmt_param_get("max_copies");
	struct dmt_io *io, *new;
	uint32_t id;

	dmt_gate_shut(&self->g.origin);
	dmt_param_set("max_copies", 1);
	EXPECT_EQ(0, dmt_map(t->ctl, 0, &running));
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	io = dmt_begin_read(t, 1);
	id = dmt_expect_request(t->ctl, 1, RO);
	EXPECT_EQ(0, dmt_map(t->ctl, id, &queued));
	EXPECT_EQ(0, dmt_invalidate(t->ctl, 42, 1));
	die(self);
	next_daemon(self);
	id = dmt_expect_request(t->ctl, 1, RO);
	EXPECT_EQ(0, dmt_map(t->ctl, 0, &reused));
	new = dmt_begin_write(t, 7, 9);
	dmt_gate_open(&self->g.origin);
	EXPECT_EQ(0, dmt_io_result(new));
	EXPECT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	dmt_param_set("max_copies", old);
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_TRUE(dmt_place_has(&t->store, 4, 7, 9, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&t->store, 9, 9, DMT_ORIGIN, DMT_NO_PART));
}

TEST_HARNESS_MAIN
