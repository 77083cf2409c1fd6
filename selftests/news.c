// SPDX-License-Identifier: GPL-2.0-only
/*
 * News of held I/O is gathered: while there is more to come soon a daemon hears
 * nothing, for a tick at most, and then of all of it at once.
 *
 * A tick may pass between any two steps of a test. So each is tried until none has:
 * where news is not gathered no try succeeds. That a write is held by now, which nothing
 * else tells, is known by another one of its block, which was sent to the store after it:
 * the store is done with the first as soon as it comes, and refuses the second.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/run.h"
#include <err.h>

#define HELD	3u		/* blocks whose writes are held, from 0 on */
#define LAST	HELD		/* the block whose news is to come */
#define TRIES	100
#define REFUSED	(DMT_SECTORS - 1) /* sector of those blocks that the store refuses */

/**
 * @g: its store forgets what is written there; block and place are the same
 * @inbox: of the daemon
 * @io: writes of parts of blocks
 * @refused: likewise, for which the store is not the place
 * @id: of their requests
 */
FIXTURE(news)
{
	struct dmt_gated g;
	struct dmt_inbox inbox;
	struct dmt_io *io[HELD + 1];
	struct dmt_io *refused[HELD];
	uint32_t id[HELD + 1];
};

FIXTURE_SETUP(news)
{
	const struct dmt_gate *gate = &self->g.store;
	struct dmt_line lines[2 * HELD + 1];
	uint64_t at = 0;
	unsigned int i;

	dmt_gated_setup(&self->g);
	for (i = 0; i < HELD; i++) {
		const uint64_t bad = i * DMT_SECTORS + REFUSED;

		lines[2 * i] = (struct dmt_line){ at, bad - at, "zero", "" };
		lines[2 * i + 1] = (struct dmt_line){ bad, 1, "error", "" };
		at = bad + 1;
	}
	lines[2 * i] = (struct dmt_line){ at, gate->sectors - at, "zero", "" };
	if (dmt_dm_load_lines(gate->name, lines, 2 * HELD + 1, false) ||
	    dmt_dm_resume(gate->name))
		errx(1, "cannot change the gate %s", gate->name);
	self->inbox.fd = self->g.t.ctl;
}

FIXTURE_TEARDOWN(news)
{
	dmt_gated_teardown(&self->g);
}

static bool ask(FIXTURE_DATA(news) *self, unsigned int block)
{
	const struct dmt *t = &self->g.t;

	self->io[block] = dmt_write_part(t->fd, block, 2);
	if (block < HELD)
		self->refused[block] =
			dmt_io_now(t->fd, DMT_WRITE,
				   block * DMT_BLOCK + REFUSED * 512, 512, 2);
	self->id[block] = dmt_expect_request(t->ctl, block, RW);
	return self->id[block];
}

static bool ask_for_held(FIXTURE_DATA(news) *self)
{
	unsigned int i;

	for (i = 0; i < HELD; i++)
		if (!ask(self, i))
			return false;
	return true;
}

/* They are answered; all of them are held when this returns. */
static bool hold(FIXTURE_DATA(news) *self)
{
	static struct dmt_batch batch;
	const struct dmt *t = &self->g.t;
	bool ok = true;
	unsigned int i;

	batch.len = 0;
	for (i = 0; i < HELD; i++) {
		struct dmt_map map = dmt_plain(&t->store, i, i, RW | SYNC);

		dmt_batch_map(&batch, self->id[i], &map);
	}
	if (dmt_batch_write(t->ctl, &batch) != (ssize_t)batch.len)
		return false;
	for (i = 0; i < HELD; i++)
		ok &= dmt_io_result(self->refused[i]) == -EIO;
	return ok;
}

/* Read once, as much as there is: how many bytes. */
static size_t fill(FIXTURE_DATA(news) *self)
{
	struct dmt_inbox *in = &self->inbox;
	ssize_t n;

	if (!dmt_readable(in->fd, DMT_PATIENCE))
		return 0;
	n = read(in->fd, in->bytes, sizeof(in->bytes));
	in->len = n < 0 ? 0 : (size_t)n;
	in->at = 0;
	return in->len;
}

/* What comes next, news or a request: which block it is of, or -1. */
static int hear(FIXTURE_DATA(news) *self)
{
	struct dmt_msg msg;
	int i;

	if (!dmt_inbox_next(&self->inbox, &msg))
		return -1;
	if (msg.header.msg_type == DM_USERSPACE_MAP_BLOCK_REQ) {
		self->id[LAST] = msg.header.id;
		return LAST;
	}
	if (msg.header.msg_type != DM_USERSPACE_STATUS ||
	    msg.status.status != DM_USERSPACE_SYNC_COMPLETE)
		return -1;
	for (i = LAST; i >= 0 && self->id[i] != msg.status.id_of_op; i--)
		;
	return i;
}

/* Something of each block, in any order, and no more. */
static bool hear_of_all(FIXTURE_DATA(news) *self)
{
	unsigned int i, seen = 0;

	for (i = 0; i <= LAST; i++) {
		int block = hear(self);

		if (block < 0)
			return false;
		seen |= 1u << block;
	}
	return seen == (1u << (LAST + 1)) - 1 && dmt_inbox_empty(&self->inbox);
}

/*
 * The writes of so many blocks are acknowledged and over, and so is whatever the next
 * mapping of these blocks would wait for.
 */
static bool end(FIXTURE_DATA(news) *self, unsigned int nr)
{
	const struct dmt *t = &self->g.t;
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (dmt_sync_done(t->ctl, self->id[i]) ||
		    dmt_io_result(self->io[i]) ||
		    dmt_invalidate(t->ctl, UINT32_MAX - i, i) ||
		    !dmt_expect_status(t->ctl, UINT32_MAX - i,
				       DM_USERSPACE_INVAL_COMPLETE))
			return false;
	return true;
}

/* --- what is told at once ------------------------------------------------------------------ */

/* A daemon that makes its metadata safe after each read does so once for all. */
TEST_F_TIMEOUT(news, all_of_it_comes_in_one_read, 120)
{
	const size_t len = sizeof(struct dmu_msg_header) +
			   sizeof(struct dmu_msg_status);
	struct dmt *t = &self->g.t;
	struct dmt_map last = dmt_plain(&t->store, LAST, LAST, RW | SYNC);
	bool gathered = false;
	unsigned int i;

	for (i = 0; i < TRIES && !gathered; i++) {
		ASSERT_TRUE(ask_for_held(self));
		ASSERT_TRUE(ask(self, LAST));
		ASSERT_TRUE(hold(self));
		gathered = dmt_silent(t->ctl);
		ASSERT_EQ(0, dmt_map(t->ctl, self->id[LAST], &last));
		gathered &= fill(self) == (HELD + 1) * len;
		ASSERT_TRUE(hear_of_all(self));
		ASSERT_TRUE(end(self, HELD + 1));
	}
	EXPECT_TRUE(gathered);
	ksft_print_msg("%u tries\n", i);
	EXPECT_TRUE(dmt_settled(t));
}

/* --- what is waited for ---------------------------------------------------------------------- */

/* A read brings the request alone, though it has room for the news. */
TEST_F_TIMEOUT(news, waits_for_what_no_daemon_has_read, 120)
{
	const size_t len = sizeof(struct dmu_msg_header) +
			   sizeof(struct dmu_msg_map_request);
	struct dmt *t = &self->g.t;
	bool gathered = false;
	struct dmt_io *io;
	unsigned int i;

	for (i = 0; i < TRIES && !gathered; i++) {
		ASSERT_TRUE(ask_for_held(self));
		io = dmt_begin_read(t, LAST);
		ASSERT_TRUE(hold(self));
		gathered = fill(self) == len;
		ASSERT_TRUE(hear_of_all(self));
		ASSERT_EQ(0, dmt_fail(t->ctl, self->id[LAST]));
		EXPECT_EQ(-EIO, dmt_io_result(io));
		ASSERT_TRUE(end(self, HELD));
	}
	EXPECT_TRUE(gathered);
	ksft_print_msg("%u tries\n", i);
}

/* The last block is mapped so that its write waits for the origin, which is shut. */
static bool waits_for(FIXTURE_DATA(news) *self, const struct dmt_map *last)
{
	const struct dmt_gate *gate = &self->g.origin;
	const struct dmt *t = &self->g.t;
	bool gathered = false;
	unsigned int i;

	for (i = 0; i < TRIES && !gathered; i++) {
		if (!ask_for_held(self) || !ask(self, LAST))
			return false;
		dmt_gate_shut(gate);
		if (dmt_map(t->ctl, self->id[LAST], last) || !hold(self))
			return false;
		gathered = dmt_silent(t->ctl);
		dmt_gate_open(gate);
		if (!hear_of_all(self) || !end(self, HELD + 1))
			return false;
	}
	ksft_print_msg("%u tries\n", i);
	return gathered;
}

TEST_F_TIMEOUT(news, waits_for_what_is_at_its_device, 120)
{
	struct dmt_map last = dmt_plain(&self->g.t.origin, LAST, LAST,
					RW | SYNC);

	EXPECT_TRUE(waits_for(self, &last));
}

TEST_F_TIMEOUT(news, waits_for_what_waits_for_its_copy, 120)
{
	struct dmt_map last = dmt_cow(&self->g.t, LAST, LAST, RW | SYNC);

	last.dst = &self->g.spare;
	EXPECT_TRUE(waits_for(self, &last));
}

TEST_HARNESS_MAIN
