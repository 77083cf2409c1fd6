// SPDX-License-Identifier: GPL-2.0-only
/*
 * What becomes of I/O that no daemon answers, as the table line and messages
 * say; and bounds on what is kept in memory, and on what is asked at a time.
 *
 * That a time-out has not struck is shown by one that has: of another table
 * whose I/O was looked at in the same round.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/suspend.h"
#include "lib/sysfs.h"
#include <err.h>
#include <string.h>

#define SLACK 100 /* ms by which the kernel's own clock may be coarse */

/* Resume a device with these feature args; its remaps stay. */
static int live(const struct dmt *t, const char *name, const char *features)
{
	char params[512];
	size_t used;

	dmt_params(t, params, sizeof(params));
	used = strlen(params);
	snprintf(params + used, sizeof(params) - used, " %s", features);
	return dmt_dm_load(name, 0, DMT_BLOCKS * DMT_SECTORS, "userspace",
			   params) ?: dmt_dm_resume(name);
}

static void leave(struct dmt *t)
{
	close(t->ctl);
	t->ctl = -1;
}

static void come(struct dmt *t)
{
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
}

/* Answer the request that comes next, which must be for that block. */
static int serve(const struct dmt *t, uint64_t block, uint32_t flags)
{
	struct dmt_map map = dmt_plain(&t->origin, block, block, RW);
	uint32_t id = dmt_expect_request(t->ctl, block, flags);

	return id ? dmt_map(t->ctl, id, &map) : -EPROTO;
}

static bool ends_well(struct dmt_io *io)
{
	bool ok = !dmt_io_wait(io) && dmt_io_matches(io, DMT_ORIGIN);

	dmt_io_free(io);
	return ok;
}

/* How often the log says something of a device since the last look. */
static unsigned int said(int log, const struct dmt *t, const char *what)
{
	static char lines[1 << 16];
	unsigned int nr = 0;
	char *line, *rest;

	dmt_log_take(log, lines, sizeof(lines));
	for (line = strtok_r(lines, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest))
		nr += strstr(line, t->name) && strstr(line, what);
	return nr;
}

/* --- error_if_no_daemon ------------------------------------------------------- */

TEST_F(dm, io_that_needs_a_daemon_fails_while_there_is_none)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->origin, 1, 1, RO);
	struct dmt_io *io;

	ASSERT_EQ(0, live(t, t->name, "1 error_if_no_daemon"));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	leave(t);
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 2)));
	EXPECT_EQ(-EIO, dmt_write_block(t->fd, 2, 2));
	/* The block is mapped, but not for this. */
	EXPECT_EQ(-EIO, dmt_write_block(t->fd, 1, 2));
	EXPECT_EQ(3, dmt_counter(t->name, DMT_ERRORS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	/* What needs none does not fail. */
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_FSYNC, 0, 0, 0)));
	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_DISCARD, 2 * DMT_BLOCK,
					  DMT_BLOCK, 0)));
	come(t);
	io = dmt_begin_read(t, 2);
	ASSERT_EQ(0, serve(t, 2, RO));
	EXPECT_TRUE(ends_well(io));
}

TEST_F(dm, daemon_that_leaves_fails_what_it_had_read_and_what_it_had_not)
{
	struct dmt *t = &self->t;
	struct dmt_io *sent, *unread;
	int other = dmt_control_open(t->name, O_NONBLOCK);

	ASSERT_EQ(0, live(t, t->name, "1 error_if_no_daemon"));
	sent = dmt_begin_read(t, 1);
	ASSERT_NE(0, dmt_expect_request(t->ctl, 1, RO));
	unread = dmt_begin_read(t, 2);
	/* Not the first of two. */
	close(other);
	EXPECT_TRUE(dmt_barrier(t->ctl));
	ASSERT_FALSE(dmt_io_done(sent) || dmt_io_done(unread));
	leave(t);
	EXPECT_EQ(-EIO, dmt_io_result(sent));
	EXPECT_EQ(-EIO, dmt_io_result(unread));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	come(t);
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(dm, daemon_that_leaves_fails_what_it_owed_an_ack_for)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, 1, 4, RW | SYNC);
	struct dmt_io *held, *read;
	uint32_t id;

	ASSERT_EQ(0, live(t, t->name, "1 error_if_no_daemon"));
	held = dmt_begin_write(t, 1, 2);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	leave(t);
	EXPECT_EQ(-EIO, dmt_io_result(held));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 1)));
	/* Nobody believes in that mapping before a daemon has spoken. */
	come(t);
	read = dmt_begin_read(t, 1);
	ASSERT_EQ(0, serve(t, 1, RW));
	EXPECT_TRUE(ends_well(read));
}

TEST_F(dm, message_fails_what_waits_already)
{
	struct dmt *t = &self->t;
	struct dmt_io *io = dmt_begin_read(t, 1);

	/* With a daemon it changes nothing. */
	ASSERT_EQ(0, dmt_dm_message(t->name, "error_if_no_daemon on"));
	ASSERT_EQ(0, dmt_dm_message(t->name, "error_if_no_daemon off"));
	ASSERT_EQ(0, serve(t, 1, RO));
	EXPECT_TRUE(ends_well(io));
	leave(t);
	io = dmt_begin_read(t, 2);
	dmt_grace_period();
	EXPECT_FALSE(dmt_io_done(io));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_WAITING));
	ASSERT_EQ(0, dmt_dm_message(t->name, "error_if_no_daemon on"));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 2)));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));

	ASSERT_EQ(0, dmt_dm_message(t->name, "error_if_no_daemon off"));
	io = dmt_begin_read(t, 2);
	dmt_grace_period();
	EXPECT_FALSE(dmt_io_done(io));
	come(t);
	ASSERT_EQ(0, serve(t, 2, RO));
	EXPECT_TRUE(ends_well(io));
}

TEST_F(dm, log_says_so_once_for_each_absence)
{
	static const char what[] = "no daemon is attached";
	struct dmt *t = &self->t;
	int log = dmt_log_open();
	unsigned int i, absence;
	struct dmt_io *io;

	ASSERT_EQ(0, live(t, t->name, "1 error_if_no_daemon"));
	for (absence = 0; absence < 2; absence++) {
		leave(t);
		EXPECT_EQ(0, said(log, t, what));
		for (i = 0; i < 20; i++)
			EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, i)));
		EXPECT_EQ(1, said(log, t, what));
		come(t);
	}
	/* An administrator who waits no longer is told what for. */
	ASSERT_EQ(0, live(t, t->name, ""));
	for (absence = 0; absence < 2; absence++) {
		leave(t);
		ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
		EXPECT_EQ(0, said(log, t, what));
		for (i = 0; i < 2; i++) {
			io = dmt_begin_read(t, i);
			ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
			EXPECT_EQ(-EIO, dmt_io_result(io));
		}
		EXPECT_EQ(1, said(log, t, what));
		come(t);
	}
	io = dmt_begin_read(t, 0);
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_EQ(0, said(log, t, what));
	close(log);
}

/* --- fail_waiting -------------------------------------------------------------- */

TEST_F(gated, what_waits_for_an_answer_is_failed_and_nothing_else)
{
	struct dmt *t = &self->g.t;
	struct dmt_map sync = dmt_plain(&self->g.spare, 3, 3, RW | SYNC);
	struct dmt_map cow = dmt_cow(t, 4, 4, RW);
	struct dmt_io *sent, *unread, *held, *copied;
	uint32_t id, late;

	held = dmt_write_part(t->fd, 3, 2);
	id = dmt_expect_request(t->ctl, 3, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &sync));
	ASSERT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &cow));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	copied = dmt_begin_read(t, 4);
	sent = dmt_begin_read(t, 1);
	late = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, late);
	unread = dmt_begin_read(t, 2);

	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	EXPECT_EQ(-EIO, dmt_io_result(sent));
	EXPECT_EQ(-EIO, dmt_io_result(unread));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	EXPECT_EQ(2, dmt_counter(t->name, DMT_ERRORS));
	EXPECT_FALSE(dmt_io_done(held) || dmt_io_done(copied));
	EXPECT_TRUE(dmt_silent(t->ctl));

	dmt_gate_open(&self->g.store);
	EXPECT_TRUE(ends_well(copied));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(held));
	/* Its answer is one that nobody has asked for. */
	cow = dmt_plain(&t->origin, 1, 1, RO);
	EXPECT_EQ(0, dmt_map(t->ctl, late, &cow));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* --- time ------------------------------------------------------------------------ */

/* A second device @b with the key of @a, over the same disks. */
FIXTURE(pair)
{
	struct dmt a;
	struct dmt b;
};

FIXTURE_SETUP(pair)
{
	struct dmt *b = &self->b;

	dmt_setup(&self->a);
	*b = self->a;
	snprintf(b->name, sizeof(b->name), "%.16s-b", self->a.name);
	/* @a.name is the key of both. */
	if (dmt_dm_create(b->name) || live(&self->a, b->name, "0"))
		errx(1, "cannot make the mapped device %s", b->name);
	b->fd = dmt_dm_open(b->name, O_RDWR | O_DIRECT);
	if (b->fd < 0)
		err(1, "%s", b->name);
}

FIXTURE_TEARDOWN(pair)
{
	dmt_dm_message(self->b.name, "fail_waiting");
	close(self->b.fd);
	if (dmt_dm_remove(self->b.name))
		warnx("cannot remove %s", self->b.name);
	dmt_teardown(&self->a);
}

TEST_F(pair, tables_of_a_key_need_not_agree)
{
	struct dmt *a = &self->a, *b = &self->b;
	struct dmt_io *first, *second;
	unsigned int i;

	/* Whichever of the two asked first. */
	for (i = 0; i < 2; i++) {
		leave(a);
		first = dmt_begin_read(i ? a : b, i);
		second = dmt_begin_read(i ? b : a, i);
		EXPECT_EQ(1, dmt_counter(a->name, DMT_WAITING));
		ASSERT_EQ(0, dmt_dm_message(b->name, "error_if_no_daemon on"));
		EXPECT_EQ(-EIO, dmt_io_result(i ? second : first));
		EXPECT_EQ(1, dmt_counter(a->name, DMT_WAITING));
		EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(b, i)));
		EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(b, 5)));
		EXPECT_FALSE(dmt_io_done(i ? first : second));
		come(a);
		ASSERT_EQ(0, serve(a, i, RO));
		EXPECT_TRUE(ends_well(i ? first : second));
		EXPECT_TRUE(dmt_silent(a->ctl));
		ASSERT_EQ(0, dmt_dm_message(b->name, "error_if_no_daemon off"));
	}
}

TEST_F(dm, daemon_timeout_is_for_io_without_a_daemon)
{
	struct dmt *t = &self->t;
	int log = dmt_log_open();
	struct dmt_io *io;
	uint64_t begun;

	ASSERT_EQ(0, live(t, t->name, "2 daemon_timeout 1"));
	leave(t);
	begun = dmt_now_ms();
	io = dmt_begin_read(t, 1);
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_LE(1000 - SLACK, dmt_now_ms() - begun);
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_ERRORS));
	EXPECT_EQ(1, said(log, t, "no daemon is attached"));
	/* Each has its own time, however long the daemon has been away. */
	begun = dmt_now_ms();
	io = dmt_begin_read(t, 1);
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_LE(1000 - SLACK, dmt_now_ms() - begun);
	EXPECT_EQ(0, said(log, t, "no daemon is attached"));
	close(log);
}

/* @b shows that the time has passed which @a has. */
TEST_F(pair, daemon_timeout_does_not_count_while_a_daemon_is_attached)
{
	struct dmt *a = &self->a, *b = &self->b;
	struct dmt_io *sent, *unread, *other;
	uint64_t begun;

	ASSERT_EQ(0, live(a, a->name, "2 daemon_timeout 1"));
	ASSERT_EQ(0, live(a, b->name, "2 request_timeout 1"));
	sent = dmt_begin_read(a, 1);
	other = dmt_begin_read(b, 1);
	unread = dmt_begin_read(a, 2);
	ASSERT_NE(0, dmt_expect_request(a->ctl, 1, RO));
	EXPECT_EQ(-EIO, dmt_io_result(other));
	EXPECT_FALSE(dmt_io_done(sent) || dmt_io_done(unread));
	/* It begins with the last daemon's end. */
	begun = dmt_now_ms();
	leave(a);
	EXPECT_EQ(-EIO, dmt_io_result(sent));
	EXPECT_LE(1000 - SLACK, dmt_now_ms() - begun);
	EXPECT_EQ(-EIO, dmt_io_result(unread));
	EXPECT_EQ(0, dmt_counter(a->name, DMT_WAITING));
}

TEST_F(pair, daemon_that_comes_in_time_serves_all)
{
	struct dmt *a = &self->a, *b = &self->b;
	struct dmt_io *io, *other;

	ASSERT_EQ(0, live(a, a->name, "2 daemon_timeout 600"));
	ASSERT_EQ(0, live(a, b->name, "2 daemon_timeout 1"));
	leave(a);
	io = dmt_begin_read(a, 1);
	other = dmt_begin_read(b, 1);
	EXPECT_EQ(-EIO, dmt_io_result(other));
	EXPECT_FALSE(dmt_io_done(io));
	come(a);
	ASSERT_EQ(0, serve(a, 1, RO));
	EXPECT_TRUE(ends_well(io));
}

TEST_F(pair, message_judges_anew_what_waits_already)
{
	struct dmt *a = &self->a, *b = &self->b;
	struct dmt_io *io, *sent, *other;
	uint64_t begun;

	leave(a);
	io = dmt_begin_read(a, 1);
	begun = dmt_now_ms();
	other = dmt_begin_read(b, 1);
	/* Nothing had told it to look at the time before. */
	ASSERT_EQ(0, dmt_dm_message(b->name, "daemon_timeout 1"));
	EXPECT_EQ(-EIO, dmt_io_result(other));
	EXPECT_LE(1000 - SLACK, dmt_now_ms() - begun);
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_dm_message(a->name, "daemon_timeout 1"));
	EXPECT_EQ(-EIO, dmt_io_result(io));

	come(a);
	sent = dmt_begin_read(a, 2);
	ASSERT_NE(0, dmt_expect_request(a->ctl, 2, RO));
	ASSERT_EQ(0, dmt_dm_message(a->name, "request_timeout 1"));
	EXPECT_EQ(-EIO, dmt_io_result(sent));
	/* Never, again. */
	ASSERT_EQ(0, dmt_dm_message(a->name, "request_timeout 0"));
	ASSERT_EQ(0, dmt_dm_message(a->name, "daemon_timeout 0"));
	ASSERT_EQ(0, dmt_dm_message(b->name, "daemon_timeout 1"));
	leave(a);
	io = dmt_begin_read(a, 3);
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(b, 3)));
	EXPECT_FALSE(dmt_io_done(io));
	come(a);
	ASSERT_EQ(0, serve(a, 3, RO));
	EXPECT_TRUE(ends_well(io));
}

TEST_F(dm, request_timeout_is_for_what_a_daemon_has_read)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->origin, 1, 1, RO);
	struct dmt_io *sent, *unread;
	int log = dmt_log_open();
	uint64_t begun;
	uint32_t id;

	ASSERT_EQ(0, live(t, t->name, "2 request_timeout 1"));
	sent = dmt_begin_read(t, 1);
	unread = dmt_begin_read(t, 2);
	begun = dmt_now_ms();
	id = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, id);
	EXPECT_EQ(-EIO, dmt_io_result(sent));
	EXPECT_LE(1000 - SLACK, dmt_now_ms() - begun);
	EXPECT_EQ(1, said(log, t, "has not answered the request for block 1 "));
	EXPECT_FALSE(dmt_io_done(unread));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_ERRORS));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	ASSERT_EQ(0, serve(t, 2, RO));
	EXPECT_TRUE(ends_well(unread));
	/* The answer, when it does come, is one that nobody has asked for. */
	EXPECT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
	close(log);
}

TEST_F(dm, answer_after_its_time_does_not_replace_a_younger_one)
{
	struct dmt *t = &self->t;
	struct dmt_map late = dmt_plain(&t->store, 1, 7, RW);
	struct dmt_io *io;
	uint32_t id, again;

	ASSERT_EQ(0, live(t, t->name, "2 request_timeout 1"));
	io = dmt_begin_read(t, 1);
	id = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, id);
	EXPECT_EQ(-EIO, dmt_io_result(io));
	io = dmt_begin_read(t, 1);
	again = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, again);
	EXPECT_NE(id, again);
	ASSERT_EQ(0, dmt_map(t->ctl, again, &(struct dmt_map){
		.block = 1, .to = 1, .dst = &t->origin, .flags = RO }));
	EXPECT_TRUE(ends_well(io));
	EXPECT_EQ(0, dmt_map(t->ctl, id, &late));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
	/* A failure that comes too late fails nothing. */
	io = dmt_begin_read(t, 2);
	again = dmt_expect_request(t->ctl, 2, RO);
	ASSERT_NE(0, again);
	EXPECT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_FALSE(dmt_io_done(io));
	late = dmt_plain(&t->origin, 2, 2, RO);
	ASSERT_EQ(0, dmt_map(t->ctl, again, &late));
	EXPECT_TRUE(ends_well(io));
}

/* Of the I/O that waits on one request some may wait longer than the rest. */
TEST_F(pair, late_answer_serves_those_that_had_the_patience)
{
	struct dmt *a = &self->a, *b = &self->b;
	struct dmt_io *one, *two, *three;
	unsigned int i;

	ASSERT_EQ(0, live(a, b->name, "2 request_timeout 1"));
	for (i = 0; i < 2; i++) {
		struct dmt_map map = dmt_plain(&a->origin, i, i, RO);
		uint32_t id;

		one = dmt_begin_read(i ? a : b, i);
		two = dmt_begin_read(i ? b : a, i);
		three = dmt_begin_read(i ? a : b, i);
		id = dmt_expect_request(a->ctl, i, RO);
		ASSERT_NE(0, id);
		EXPECT_EQ(-EIO, dmt_io_result(i ? two : one));
		if (!i)
			EXPECT_EQ(-EIO, dmt_io_result(three));
		EXPECT_FALSE(dmt_io_done(i ? one : two));
		EXPECT_EQ(1, dmt_counter(a->name, DMT_SENT));
		ASSERT_EQ(0, dmt_map(a->ctl, id, &map));
		EXPECT_TRUE(ends_well(i ? one : two));
		if (i)
			EXPECT_TRUE(ends_well(three));
		EXPECT_EQ(0, dmt_counter(a->name, DMT_SENT));
	}
	EXPECT_EQ(3, dmt_counter(a->name, DMT_ERRORS));
	EXPECT_TRUE(dmt_silent(a->ctl));
}

TEST_F(pair, request_that_is_unread_again_has_its_time_anew)
{
	struct dmt *a = &self->a, *b = &self->b;
	struct dmt_io *io, *other;
	uint64_t begun;

	ASSERT_EQ(0, live(a, a->name, "2 request_timeout 1"));
	ASSERT_EQ(0, live(a, b->name, "2 daemon_timeout 1"));
	io = dmt_begin_read(a, 1);
	ASSERT_NE(0, dmt_expect_request(a->ctl, 1, RO));
	leave(a);
	other = dmt_begin_read(b, 2);
	EXPECT_EQ(-EIO, dmt_io_result(other));
	EXPECT_FALSE(dmt_io_done(io));
	come(a);
	begun = dmt_now_ms();
	ASSERT_NE(0, dmt_expect_request(a->ctl, 1, RO));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_LE(1000 - SLACK, dmt_now_ms() - begun);
}

/* --- the table line ---------------------------------------------------------------- */

/* What "dmsetup table" prints behind the devices. */
static bool has_features(const struct dmt *t, const char *features)
{
	char want[512], got[512];
	size_t used;

	dmt_params(t, want, sizeof(want));
	used = strlen(want);
	snprintf(want + used, sizeof(want) - used, "%s", features);
	dmt_dm_table(t->name, got, sizeof(got));
	if (!strcmp(want, got))
		return true;
	warnx("the table is \"%s\", not \"%s\"", got, want);
	return false;
}

TEST_F(dm, table_line_tells_what_messages_have_changed)
{
	struct dmt *t = &self->t;

	EXPECT_TRUE(has_features(t, ""));
	ASSERT_EQ(0, dmt_dm_message(t->name, "request_timeout 86400"));
	EXPECT_TRUE(has_features(t, " 2 request_timeout 86400"));
	ASSERT_EQ(0, dmt_dm_message(t->name, "error_if_no_daemon on"));
	ASSERT_EQ(0, dmt_dm_message(t->name, "error_if_no_daemon on"));
	ASSERT_EQ(0, dmt_dm_message(t->name, "daemon_timeout 7"));
	EXPECT_TRUE(has_features(t, " 5 error_if_no_daemon daemon_timeout 7"
				    " request_timeout 86400"));
	ASSERT_EQ(0, dmt_dm_message(t->name, "request_timeout 0"));
	ASSERT_EQ(0, dmt_dm_message(t->name, "error_if_no_daemon off"));
	EXPECT_TRUE(has_features(t, " 2 daemon_timeout 7"));
	ASSERT_EQ(0, dmt_dm_message(t->name, "daemon_timeout 0"));
	EXPECT_TRUE(has_features(t, ""));
}

/* A new table has what its line says, and nothing of what the old one had. */
TEST_F(dm, reload_brings_its_own_policies)
{
	struct dmt *t = &self->t;
	struct dmt_io *io;

	ASSERT_EQ(0, live(t, t->name, "1 error_if_no_daemon"));
	ASSERT_EQ(0, dmt_dm_message(t->name, "daemon_timeout 600"));
	ASSERT_EQ(0, live(t, t->name, "2 request_timeout 5"));
	EXPECT_TRUE(has_features(t, " 2 request_timeout 5"));
	leave(t);
	io = dmt_begin_read(t, 1);
	dmt_grace_period();
	EXPECT_FALSE(dmt_io_done(io));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_WAITING));
	/* What waits comes to the new table, and is judged by it. */
	ASSERT_EQ(0, dmt_suspend(t, true));
	ASSERT_EQ(0, live(t, t->name, "1 error_if_no_daemon"));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	ASSERT_EQ(0, live(t, t->name, "2 daemon_timeout 1"));
	io = dmt_begin_read(t, 1);
	EXPECT_EQ(-EIO, dmt_io_result(io));
	ASSERT_EQ(0, live(t, t->name, ""));
	io = dmt_begin_read(t, 1);
	come(t);
	ASSERT_EQ(0, serve(t, 1, RO));
	EXPECT_TRUE(ends_well(io));
}

TEST_F(dm, misspelt_messages_are_refused_with_the_reason_and_change_nothing)
{
	static const struct {
		const char *message;
		const char *says;
	} bad[] = {
		{ "error_if_no_deamon on", "unknown message error_if_no_deamon" },
		{ "error_if_no_daemon", "takes 1 argument" },
		{ "error_if_no_daemon 1", "on or off" },
		{ "error_if_no_daemon On", "on or off" },
		{ "error_if_no_daemon on off", "takes 1 argument" },
		{ "daemon_timeout", "takes 1 argument" },
		{ "daemon_timeout soon", "daemon_timeout is a number" },
		{ "daemon_timeout -1", "daemon_timeout is a number" },
		{ "daemon_timeout 86401", "up to 86400" },
		{ "daemon_timeout 4294967297", "up to 86400" },
		{ "daemon_timeout 1 s", "takes 1 argument" },
		{ "request_timeout 1s", "request_timeout is a number" },
		{ "request_timeout 0x10", "request_timeout is a number" },
		{ "request-timeout 1", "unknown message request-timeout" },
		{ "fail_waiting 1", "takes 0 argument" },
		{ "fail-waiting", "unknown message fail-waiting" },
		{ "FAIL_WAITING", "unknown message FAIL_WAITING" },
		{ "drop_idle all", "takes 0 argument" },
		{ "max_remaps", "takes 1 argument" },
		{ "max_remaps many", "max_remaps is a number" },
		{ "max_remaps -1", "max_remaps is a number" },
		{ "max_requests 1", "unknown message max_requests" },
	};
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->origin, 1, 1, RO);
	struct dmt_io *io = dmt_begin_read(t, 2);
	int log = dmt_log_open();
	unsigned int i;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		EXPECT_EQ(-EINVAL, dmt_dm_message(t->name, bad[i].message));
		EXPECT_EQ(1, said(log, t, bad[i].says)) {
			TH_LOG("after: %s", bad[i].message);
		}
	}
	EXPECT_TRUE(has_features(t, ""));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, serve(t, 2, RO));
	EXPECT_TRUE(ends_well(io));
	close(log);
}

/* --- max_remaps -------------------------------------------------------------------- */

/* With rights that alternate: each is a remap, and none is part of a run. */
static int push(const struct dmt *t, uint64_t from, uint64_t to)
{
	uint64_t block;
	int r = 0;

	for (block = from; block < to && !r; block++) {
		struct dmt_map map = dmt_plain(&t->origin, block, block,
					       block % 2 ? RO : RW);

		r = dmt_map(t->ctl, 0, &map);
	}
	return r;
}

TEST_F(dm, cache_is_made_smaller_and_stays_so)
{
	struct dmt *t = &self->t;
	uint64_t block;

	ASSERT_EQ(0, push(t, 0, 60));
	ASSERT_EQ(0, dmt_dm_message(t->name, "max_remaps 60"));
	EXPECT_EQ(60, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_EVICTIONS));
	ASSERT_EQ(0, dmt_dm_message(t->name, "max_remaps 48"));
	EXPECT_EQ(48, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(12, dmt_counter(t->name, DMT_EVICTIONS));
	/* Whatever comes, something has to go; an evicted one is asked for. */
	ASSERT_EQ(0, push(t, 0, 60));
	EXPECT_TRUE(dmt_counts(t->name, DMT_REMAPS, 48));
	for (block = 0; block < 60; block++) {
		struct dmt_io *io = dmt_begin_read(t, block);

		if (!dmt_silent(t->ctl))
			ASSERT_EQ(0, serve(t, block, RO));
		EXPECT_TRUE(ends_well(io));
	}
	EXPECT_TRUE(dmt_counts(t->name, DMT_REMAPS, 48));
	EXPECT_LE(24, dmt_counter(t->name, DMT_EVICTIONS));
	/* 0 is no limit. */
	ASSERT_EQ(0, dmt_dm_message(t->name, "max_remaps 0"));
	ASSERT_EQ(0, push(t, 0, 60));
	EXPECT_EQ(60, dmt_counter(t->name, DMT_REMAPS));
}

/* The message and the worker find the same remaps too many. */
TEST_F(dm, no_more_are_evicted_than_are_too_many)
{
	struct dmt *t = &self->t;
	unsigned int i, nr = dmt_often(200);

	ASSERT_EQ(0, dmt_dm_message(t->name, "max_remaps 20"));
	for (i = 0; i < nr; i++) {
		ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
		ASSERT_EQ(0, push(t, 0, 60));
		ASSERT_EQ(0, dmt_dm_message(t->name, "max_remaps 20"));
		/* More, where what used a place before has not ended yet. */
		ASSERT_LE(20, dmt_counter(t->name, DMT_REMAPS));
	}
}

TEST_F(dm, least_recently_used_remaps_go_first)
{
	struct dmt *t = &self->t;
	bool used[60] = { false };
	unsigned int nr = 0;
	uint64_t block;

	/* What has just come counts as used: look at all of them once. */
	ASSERT_EQ(0, push(t, 0, 60));
	ASSERT_EQ(0, dmt_dm_message(t->name, "max_remaps 48"));
	ASSERT_EQ(48, dmt_counter(t->name, DMT_REMAPS));
	for (block = 0; block < 60 && nr < 16; block++) {
		struct dmt_io *io = dmt_begin_read(t, block);

		used[block] = dmt_silent(t->ctl);
		nr += used[block];
		if (!used[block])
			ASSERT_EQ(0, dmt_fail(t->ctl,
					      dmt_expect_request(t->ctl, block,
								 RO)));
		EXPECT_EQ(used[block] ? 0 : -EIO, dmt_io_result(io));
	}
	ASSERT_EQ(0, dmt_dm_message(t->name, "max_remaps 16"));
	EXPECT_EQ(16, dmt_counter(t->name, DMT_REMAPS));
	for (block = 0; block < 60; block++)
		if (used[block])
			EXPECT_TRUE(dmt_read_matches(t->fd, block, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* As many ways to be in use as there are. */
TEST_F(gated, what_is_in_use_is_never_evicted)
{
	struct dmt *t = &self->g.t;
	struct dmt_map failed = dmt_cow(t, 1, 1, RW);
	struct dmt_map copying = dmt_cow(t, 2, 2, RW);
	struct dmt_map sync = dmt_plain(&self->g.spare, 3, 3, RW | SYNC);
	struct dmt_map ro = dmt_plain(&t->origin, 4, 4, RO);
	struct dmt_io *copy, *held, *asking;
	uint32_t id, four;

	dmt_gate_break(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &failed));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 1)));
	dmt_gate_mend(&self->g.store);
	held = dmt_write_part(t->fd, 3, 2);
	id = dmt_expect_request(t->ctl, 3, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &sync));
	ASSERT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &copying));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	copy = dmt_begin_read(t, 2);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &ro));
	asking = dmt_begin_write(t, 4, 2);
	four = dmt_expect_request(t->ctl, 4, RW);
	ASSERT_NE(0, four);

	ASSERT_EQ(0, dmt_dm_message(t->name, "max_remaps 1"));
	EXPECT_EQ(4, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_EVICTIONS));
	dmt_gate_open(&self->g.store);
	EXPECT_TRUE(ends_well(copy));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(held));
	ro = dmt_plain(&t->store, 4, 4, RW);
	ASSERT_EQ(0, dmt_map(t->ctl, four, &ro));
	EXPECT_EQ(0, dmt_io_result(asking));
	EXPECT_TRUE(dmt_disk_has(&t->store, 4, 2));
	/* In use no more: the next one to come drives them out. */
	ASSERT_EQ(0, push(t, 8, 9));
	EXPECT_TRUE(dmt_counts(t->name, DMT_REMAPS, 1));
}

/* --- max_requests ------------------------------------------------------------------ */

#define FEW 4u

/* With room for FEW requests. */
FIXTURE(few)
{
	struct dmt t;
	unsigned int old;
};

FIXTURE_SETUP(few)
{
	self->old = dmt_param_get("max_requests");
	dmt_param_set("max_requests", FEW);
	dmt_setup(&self->t);
}

FIXTURE_TEARDOWN(few)
{
	dmt_param_set("max_requests", self->old);
	dmt_teardown(&self->t);
}

/* As many as there is room for can be read, and not one more. */
static bool asks_for(const struct dmt *t, uint64_t from, uint64_t nr,
		     uint32_t *ids)
{
	uint64_t i;

	for (i = 0; i < nr; i++) {
		ids[from + i] = dmt_expect_request(t->ctl, from + i, RO);
		if (!ids[from + i])
			return false;
	}
	dmt_grace_period();
	return dmt_silent(t->ctl);
}

TEST_F(few, no_more_is_asked_at_a_time_and_all_is_served)
{
	struct dmt *t = &self->t;
	struct dmt_io *io[40];
	uint32_t ids[40];
	uint64_t block;

	for (block = 0; block < 40; block++)
		io[block] = dmt_begin_read(t, block);
	EXPECT_EQ(40, dmt_counter(t->name, DMT_WAITING));
	ASSERT_TRUE(asks_for(t, 0, FEW, ids));
	EXPECT_EQ(40 - FEW, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(FEW, dmt_counter(t->name, DMT_SENT));
	/* Each answer makes room for one more, in the order they came. */
	for (block = 0; block < 40; block++) {
		struct dmt_map map = dmt_plain(&t->origin, block, block, RO);

		ASSERT_EQ(0, dmt_map(t->ctl, ids[block], &map));
		EXPECT_TRUE(ends_well(io[block]));
		if (block + FEW < 40)
			ASSERT_TRUE(asks_for(t, block + FEW, 1, ids));
	}
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_EVICTIONS));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(few, failures_and_deaths_make_room_as_answers_do)
{
	struct dmt *t = &self->t;
	struct dmt_io *io[12];
	uint32_t ids[12];
	uint64_t block;

	for (block = 0; block < 12; block++)
		io[block] = dmt_begin_read(t, block);
	ASSERT_TRUE(asks_for(t, 0, FEW, ids));
	leave(t);
	come(t);
	ASSERT_TRUE(asks_for(t, 0, FEW, ids));
	for (block = 0; block < FEW; block++) {
		ASSERT_EQ(0, dmt_fail(t->ctl, ids[block]));
		EXPECT_EQ(-EIO, dmt_io_result(io[block]));
	}
	ASSERT_TRUE(asks_for(t, FEW, FEW, ids));
	/* The rest fails, asked for or not. */
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	for (block = FEW; block < 12; block++)
		EXPECT_EQ(-EIO, dmt_io_result(io[block]));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	io[0] = dmt_begin_read(t, 0);
	ASSERT_EQ(0, serve(t, 0, RO));
	EXPECT_TRUE(ends_well(io[0]));
}

TEST_F(few, those_that_wait_for_their_turn_are_written_suspended_and_timed_out)
{
	struct dmt *t = &self->t;
	struct dmt_io *io[8], *write;
	uint32_t ids[8];
	uint64_t block;

	ASSERT_EQ(0, live(t, t->name, "2 daemon_timeout 1"));
	dmt_param_set("max_requests", 0); /* taken as 1 */
	for (block = 0; block < 8; block++)
		io[block] = dmt_begin_read(t, block);
	ASSERT_TRUE(asks_for(t, 0, 1, ids));
	write = dmt_begin_write(t, 1, 2);
	ASSERT_EQ(0, dmt_fail(t->ctl, ids[0]));
	EXPECT_EQ(-EIO, dmt_io_result(io[0]));
	/* Nobody has read the request: it asks for both. */
	ASSERT_EQ(0, serve(t, 1, RW));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_EQ(0, dmt_io_result(io[1]));
	ASSERT_TRUE(asks_for(t, 2, 1, ids));
	ASSERT_EQ(0, dmt_suspend(t, true));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	EXPECT_TRUE(dmt_counts(t->name, DMT_WAITING, 6));
	leave(t);
	for (block = 2; block < 8; block++)
		EXPECT_EQ(-EIO, dmt_io_result(io[block]));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
}

TEST_HARNESS_MAIN
