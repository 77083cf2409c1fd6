// SPDX-License-Identifier: GPL-2.0-only
/*
 * The status line: its counters are exact, also after a load, and neither it
 * nor the table line ever waits for anything.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/load.h"
#include "lib/suspend.h"
#include "lib/sysfs.h"
#include <err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

/* --- what counts, and what does not ---------------------------------------------- */

static uint64_t counted(const struct dmt *t)
{
	return dmt_counter(t->name, DMT_HITS) * 1000 +
	       dmt_counter(t->name, DMT_MISSES);
}

#define HITS_AND_MISSES(hits, misses) ((hits) * 1000 + (misses))

TEST_F(dm, io_is_a_hit_or_a_miss_and_what_needs_no_remap_is_neither)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, 8, 8, RW);
	uint8_t buf[512] __attribute__((aligned(512)));
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
	struct dmt_io *one, *two;
	uint32_t id;

	for (; map.block < 12; map.block++, map.to++)
		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(HITS_AND_MISSES(0, 0), counted(t));
	/* Side by side: once. */
	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_WRITE, 8 * DMT_BLOCK,
					  4 * DMT_BLOCK, 2)));
	EXPECT_EQ(HITS_AND_MISSES(1, 0), counted(t));
	/* The first block's part is a miss, and the rest counts anew. */
	map = dmt_plain(&t->origin, 7, 7, RW);
	one = dmt_io_now(t->fd, DMT_WRITE, 7 * DMT_BLOCK, 3 * DMT_BLOCK, 2);
	EXPECT_EQ(HITS_AND_MISSES(2, 1), counted(t));
	two = dmt_begin_read(t, 7);
	EXPECT_EQ(HITS_AND_MISSES(2, 2), counted(t));
	id = dmt_expect_request(t->ctl, 7, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(one));
	EXPECT_EQ(0, dmt_io_result(two));
	/* Served, and not counted again. */
	EXPECT_EQ(HITS_AND_MISSES(2, 2), counted(t));
	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_FSYNC, 0, 0, 0)));
	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_DISCARD, 20 * DMT_BLOCK,
					  4 * DMT_BLOCK, 0)));
	EXPECT_EQ(HITS_AND_MISSES(2, 2), counted(t));
	EXPECT_EQ(-1, preadv2(t->fd, &iov, 1, 20 * DMT_BLOCK, RWF_NOWAIT));
	EXPECT_EQ(HITS_AND_MISSES(2, 3), counted(t));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_ERRORS));
}

TEST_F(gated, io_that_is_mapped_again_is_not_counted_again)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW);
	struct dmt_io *io;
	uint32_t id;

	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	io = dmt_begin_read(t, 1);
	EXPECT_EQ(HITS_AND_MISSES(0, 1), counted(t));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 1));
	id = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, id);
	EXPECT_EQ(HITS_AND_MISSES(0, 1), counted(t));
	dmt_gate_open(&self->g.store);
	ASSERT_TRUE(dmt_expect_status(t->ctl, 42, DM_USERSPACE_INVAL_COMPLETE));
	map = dmt_plain(&t->origin, 1, 1, RO);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(HITS_AND_MISSES(0, 1), counted(t));
}

TEST_F(gated, errors_are_counted_one_by_one)
{
	struct dmt *t = &self->g.t;
	struct dmt_map hit = dmt_plain(&t->store, 1, 1, RW);
	struct dmt_map cow = dmt_cow(t, 2, 2, RW);
	struct dmt_io *one, *two;
	uint32_t id;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &hit));
	dmt_gate_break(&self->g.store);
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 1)));
	EXPECT_EQ(-EIO, dmt_write_block(t->fd, 1, 2));
	EXPECT_EQ(2, dmt_counter(t->name, DMT_ERRORS));
	/* A copy that fails, and two that waited for it. */
	one = dmt_write_part(t->fd, 2, 2);
	two = dmt_begin_read(t, 2);
	id = dmt_expect_request(t->ctl, 2, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &cow));
	EXPECT_EQ(-EIO, dmt_io_result(one));
	EXPECT_EQ(-EIO, dmt_io_result(two));
	EXPECT_EQ(5, dmt_counter(t->name, DMT_ERRORS));
	dmt_gate_mend(&self->g.store);
	one = dmt_begin_read(t, 3);
	ASSERT_EQ(0, dmt_fail(t->ctl, dmt_expect_request(t->ctl, 3, RO)));
	EXPECT_EQ(-EIO, dmt_io_result(one));
	EXPECT_EQ(6, dmt_counter(t->name, DMT_ERRORS));
	one = dmt_begin_read(t, 4);
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	EXPECT_EQ(-EIO, dmt_io_result(one));
	EXPECT_EQ(7, dmt_counter(t->name, DMT_ERRORS));
	EXPECT_TRUE(dmt_read_matches(t->fd, 2, DMT_ORIGIN));
	EXPECT_EQ(7, dmt_counter(t->name, DMT_ERRORS));
}

static bool says(const struct dmt *t, const char *rest)
{
	char status[256];
	const char *word;

	dmt_dm_status(t->name, false, status, sizeof(status));
	word = strchr(status, ' ');
	if (word && !strcmp(word + 1, rest))
		return true;
	warnx("the status is \"%s\", not \"... %s\"", status, rest);
	return false;
}

TEST_F(gated, status_tells_what_is_under_way)
{
	struct dmt *t = &self->g.t;
	struct dmt_map cow = dmt_cow(t, 1, 1, RW);
	struct dmt_map sync = dmt_plain(&self->g.spare, 2, 2, RW | SYNC);
	struct dmt_io *io[5];
	uint32_t id, sent;
	unsigned int i;

	EXPECT_TRUE(says(t, "attached 0 0 0 0 0 0 0 0 0"));
	io[0] = dmt_write_part(t->fd, 2, 2);
	id = dmt_expect_request(t->ctl, 2, RW);
	ASSERT_NE(0, id);
	EXPECT_TRUE(says(t, "attached 0 0 1 0 1 0 0 0 0"));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &sync));
	EXPECT_TRUE(says(t, "attached 1 0 1 0 0 0 1 0 0"));
	ASSERT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &cow));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	io[1] = dmt_begin_read(t, 1);
	io[2] = dmt_begin_read(t, 3);
	sent = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, sent);
	io[3] = dmt_begin_read(t, 4);
	io[4] = dmt_begin_read(t, 5);
	EXPECT_TRUE(says(t, "attached 2 0 5 2 1 1 1 0 0"));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_TRUE(says(t, "attached 2 0 5 2 1 1 0 0 0"));
	close(t->ctl);
	EXPECT_TRUE(says(t, "absent 2 0 5 3 0 1 0 0 0"));
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	dmt_gate_open(&self->g.store);
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	for (i = 0; i < 5; i++)
		EXPECT_EQ(i < 2 ? 0 : -EIO, dmt_io_result(io[i]));
	EXPECT_TRUE(says(t, "attached 2 0 5 0 0 0 0 0 3"));
	ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	EXPECT_TRUE(says(t, "attached 0 0 5 0 0 0 0 2 3"));
}

/* --- one line at a time --------------------------------------------------------------- */

/**
 * struct fickle - a daemon that comes, reads what there is, and goes
 * @path: of the control device
 * @rounds: how often it has
 * @stop: tells it to end
 */
struct fickle {
	char path[64];
	unsigned int rounds;
	bool stop;
};

static void *come_and_go(void *arg)
{
	struct fickle *f = arg;
	struct dmt_msg msg;
	int fd;

	while (!__atomic_load_n(&f->stop, __ATOMIC_RELAXED)) {
		fd = open(f->path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			err(1, "%s", f->path);
		while (dmt_read_msg(fd, &msg) > 0)
			;
		close(fd);
		__atomic_add_fetch(&f->rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/**
 * struct line - what one status line says of requests
 * @attached: there is a daemon
 * @waiting: none has read them
 * @sent: one has
 */
struct line {
	bool attached;
	unsigned int waiting;
	unsigned int sent;
};

static struct line one_line(const struct dmt *t)
{
	char status[256], daemon[16];
	struct line line;

	dmt_dm_status(t->name, false, status, sizeof(status));
	if (sscanf(status, "%*u:%*u %15s %*u %*u %*u %u %u", daemon,
		   &line.waiting, &line.sent) != 3)
		errx(1, "cannot read the status line %s", status);
	line.attached = !strcmp(daemon, "attached");
	return line;
}

/* Each is somewhere at any time; and whoever has read one is there. */
static bool adds_up(struct line line, unsigned int nr)
{
	if (line.waiting + line.sent == nr && (!line.sent || line.attached))
		return true;
	warnx("%u wait and %u are sent, of %u, and %s daemon is there",
	      line.waiting, line.sent, nr, line.attached ? "a" : "no");
	return false;
}

/* Does each line add up while requests are read, and unread, again and again? */
static bool lines_add_up(const struct dmt *t, struct fickle *f, unsigned int nr)
{
	unsigned int lines = 0, sent = 0, waiting = 0;
	const unsigned int times = dmt_often(4000);
	struct line line;

	while (lines < times || !sent || !waiting ||
	       __atomic_load_n(&f->rounds, __ATOMIC_RELAXED) < times / 8) {
		line = one_line(t);
		if (!adds_up(line, nr))
			return false;
		lines++;
		sent += line.sent > 0;
		waiting += line.waiting > 0;
	}
	ksft_print_msg("%u lines, %u with some that are sent, %u daemons\n",
		       lines, sent, f->rounds);
	return true;
}

TEST_F_TIMEOUT(dm, what_one_line_says_was_true_at_one_time, 120)
{
	struct dmt *t = &self->t;
	struct dmt_io *io[DMT_BLOCKS];
	struct fickle f = { .rounds = 0 };
	pthread_t thread;
	unsigned int i;

	dmt_control_path(t->name, f.path, sizeof(f.path));
	close(t->ctl);
	t->ctl = -1;
	for (i = 0; i < DMT_BLOCKS; i++)
		io[i] = dmt_begin_read(t, i);
	ASSERT_TRUE(dmt_counts(t->name, DMT_WAITING, DMT_BLOCKS));
	ASSERT_EQ(0, pthread_create(&thread, NULL, come_and_go, &f));
	EXPECT_TRUE(lines_add_up(t, &f, DMT_BLOCKS));
	__atomic_store_n(&f.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	for (i = 0; i < DMT_BLOCKS; i++)
		EXPECT_EQ(-EIO, dmt_io_result(io[i]));
}

/* --- after a load -------------------------------------------------------------------- */

FIXTURE(load)
{
	struct dmt_load load;
};

FIXTURE_SETUP(load)
{
	dmt_load_setup(&self->load);
}

FIXTURE_TEARDOWN(load)
{
	dmt_load_teardown(&self->load);
}

static uint64_t both(const struct dmt *t)
{
	return dmt_counter(t->name, DMT_HITS) +
	       dmt_counter(t->name, DMT_MISSES);
}

/* How many blocks dmt_load_finish() reads. */
static unsigned int changed(const struct dmt_load *load)
{
	unsigned int block, nr = 0;

	for (block = 0; block < DMT_LOAD_BLOCKS; block++)
		nr += load->seed[block] != DMT_ORIGIN ||
		      load->part[block] != DMT_NO_PART;
	return nr;
}

/* Copies, SYNC, evictions and deaths: no I/O is counted twice, or not at all. */
TEST_F_TIMEOUT(load, each_io_is_a_hit_or_a_miss, 150)
{
	struct dmt_load *load = &self->load;
	struct dmt *t = &load->t;
	unsigned int i, ios;
	uint64_t last = 0;

	srandom(99);
	dmt_load_daemon(load, 0);
	for (i = 0; i < 30; i++) {
		ASSERT_TRUE(dmt_load_run(load, 40));
		if (i % 10 == 9) {
			ASSERT_TRUE(dmt_load_kill(load));
			dmt_load_daemon(load, i);
		}
		if (i % 7 == 6)
			ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
		/* Also while it goes on: what is over, and what is not. */
		ios = load->done;
		EXPECT_LE(last, both(t));
		last = both(t);
		EXPECT_LE(ios, last);
		EXPECT_GE(ios + DMT_LOAD_SLOTS, last);
		EXPECT_GE(DMT_LOAD_SLOTS, dmt_counter(t->name, DMT_WAITING));
		EXPECT_GE(DMT_LOAD_SLOTS, dmt_counter(t->name, DMT_SENT));
	}
	EXPECT_TRUE(dmt_load_finish(load));
	EXPECT_EQ(load->done + changed(load), both(t));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_COPIES));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_ERRORS));
}

/**
 * struct failures - what ends with an error while disks fail, and who learns of it
 * @io: under way; of one block each
 * @failed: I/O that has ended with an error
 * @copies: that were said to have failed
 * @lost: reports that found no room
 */
struct failures {
	struct dmt_io *io[16];
	unsigned int failed;
	unsigned int copies;
	unsigned int lost;
};

static struct dmt_io *some_io(const struct dmt *t)
{
	uint64_t block = (uint64_t)random() % DMT_BLOCKS;

	switch (random() % 4) {
	case 0:
		return dmt_begin_write(t, block, 3);
	case 1:
		return dmt_write_part(t->fd, block, 3);
	default:
		return dmt_begin_read(t, block);
	}
}

static void take_report(struct failures *f, const struct dmt_msg *msg)
{
	f->copies += msg->report.report == DMU_REPORT_COPY_FAILED;
	f->lost += msg->report.report == DMU_REPORT_LOST;
}

/* One in eight requests is refused, and now and then a mapping is taken back. */
static bool answer_somehow(const struct dmt *t, const struct dmt_msg *msg)
{
	uint64_t block = msg->request.org_block;
	bool write = msg->request.flags & DMU_FLAG_WR;
	struct dmt_map map = write ? dmt_cow(t, block, block, RW) :
				     dmt_plain(&t->origin, block, block, RO);

	if (random() % 8 == 0)
		return !dmt_fail(t->ctl, msg->header.id);
	if (random() % 4 == 0 &&
	    dmt_invalidate(t->ctl, 1, (uint64_t)random() % DMT_BLOCKS))
		return false;
	return !dmt_map(t->ctl, msg->header.id, &map);
}

/* All that there is to be read. */
static bool serve_all(const struct dmt *t, struct failures *f)
{
	struct dmt_msg msg;

	while (dmt_read_msg(t->ctl, &msg) > 0)
		if (msg.header.msg_type == DM_USERSPACE_REPORT)
			take_report(f, &msg);
		else if (msg.header.msg_type == DM_USERSPACE_MAP_BLOCK_REQ &&
			 !answer_somehow(t, &msg))
			return false;
	return true;
}

static bool over(struct failures *f)
{
	unsigned int i, nr = 0;

	for (i = 0; i < 16; i++) {
		if (f->io[i] && dmt_io_done(f->io[i])) {
			f->failed += dmt_io_result(f->io[i]) != 0;
			f->io[i] = NULL;
		}
		nr += !f->io[i];
	}
	return nr == 16;
}

/* Whoever fails counts, once: an I/O, wherever that was, and a copy. */
TEST_F_TIMEOUT(gated, errors_are_those_of_io_and_of_copies, 120)
{
	struct dmt *t = &self->g.t;
	struct failures f = { 0 };
	struct dmu_msg_extensions want = { DMU_EXT_REPORTS };
	unsigned int n, often = dmt_often(1600);
	struct dmt_msg msg;

	ASSERT_LT(0, dmt_write_msg(t->ctl, DM_USERSPACE_EXTENSIONS, 9, &want,
				   sizeof(want)));
	ASSERT_TRUE(dmt_expect(t->ctl, DM_USERSPACE_EXTENSIONS, &msg));
	srandom(5);
	for (n = 0; n < often; n++) {
		struct dmt_io **io = &f.io[n % 16];

		if (n % 160 == 40)
			dmt_gate_break(n / 160 % 2 ? &self->g.origin :
						     &self->g.store);
		if (n % 160 == 120)
			dmt_gate_mend(n / 160 % 2 ? &self->g.origin :
						    &self->g.store);
		/* Also where there is room: reports are not to be lost. */
		for (;;) {
			ASSERT_TRUE(serve_all(t, &f));
			over(&f);
			if (!*io)
				break;
			dmt_readable(t->ctl, 1);
		}
		*io = some_io(t);
	}
	while (!over(&f)) {
		dmt_readable(t->ctl, 1);
		ASSERT_TRUE(serve_all(t, &f));
	}
	/* A copy that nobody waits for may still be under way. */
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 0));
	ASSERT_TRUE(dmt_barrier(t->ctl) && serve_all(t, &f));
	EXPECT_EQ(f.failed + f.copies, dmt_counter(t->name, DMT_ERRORS));
	EXPECT_EQ(0, f.lost);
	EXPECT_LT(often / 16, f.failed);
	EXPECT_LT(often / 128, f.copies);
	ksft_print_msg("%u I/Os failed, %u copies\n", f.failed, f.copies);
}

/* A daemon that counts: each block lives at its own place of the origin. */
struct counting {
	int fd;
	const struct dmt_disk *disk;
	unsigned int answers;
	bool ok;
};

static void *count_answers(void *arg)
{
	struct counting *c = arg;
	struct dmt_msg msg;
	ssize_t n;

	while ((n = dmt_read_msg(c->fd, &msg)) > 0) {
		uint64_t block = msg.request.org_block;
		/* None is to become part of a run. */
		struct dmt_map map = dmt_plain(c->disk, block, block,
					       block % 2 ? RO : RW);

		if (msg.header.msg_type != DM_USERSPACE_MAP_BLOCK_REQ)
			break;
		__atomic_add_fetch(&c->answers, 1, __ATOMIC_RELAXED);
		if (dmt_map(c->fd, msg.header.id, &map))
			break;
	}
	c->ok = !n; /* the device has gone */
	return NULL;
}

/* Each in a block of its own, so that each miss is a request. */
static bool some_reads(const struct dmt *t, unsigned int nr)
{
	struct dmt_io *io[16];
	unsigned int i;
	bool ok = true;

	for (; ok && nr; nr -= 16) {
		uint64_t from = (uint64_t)random() % 60;

		for (i = 0; i < 16; i++)
			io[i] = dmt_begin_read(t, (from + i * 3) % 60);
		for (i = 0; i < 16; i++) {
			ok &= !dmt_io_wait(io[i]) &&
			      dmt_io_matches(io[i], DMT_ORIGIN);
			dmt_io_free(io[i]);
		}
	}
	return ok;
}

TEST_F_TIMEOUT(dm, remaps_and_evictions_are_all_that_was_answered, 120)
{
	struct dmt *t = &self->t;
	struct counting c = { .fd = dmt_control_open(t->name, 0),
			      .disk = &t->origin };
	unsigned int i, ios = 0;
	pthread_t thread;

	srandom(5);
	close(t->ctl);
	t->ctl = -1;
	ASSERT_EQ(0, pthread_create(&thread, NULL, count_answers, &c));
	for (i = 0; i < 40; i++) {
		ASSERT_TRUE(some_reads(t, 32));
		ios += 32;
		if (i == 10)
			ASSERT_EQ(0, dmt_dm_message(t->name, "max_remaps 30"));
		if (i % 6 == 5)
			ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	}
	EXPECT_EQ(ios, both(t));
	EXPECT_EQ(c.answers, dmt_counter(t->name, DMT_MISSES));
	/* What is too much may still be on its way out. */
	ASSERT_EQ(0, dmt_dm_message(t->name, "max_remaps 30"));
	EXPECT_GE(30, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(c.answers, dmt_counter(t->name, DMT_REMAPS) +
			     dmt_counter(t->name, DMT_EVICTIONS));
	EXPECT_LT(100, dmt_counter(t->name, DMT_EVICTIONS));
	/* The end of the device is the end of the daemon. */
	close(t->fd);
	t->fd = -1;
	ASSERT_EQ(0, dmt_dm_remove(t->name));
	pthread_join(thread, NULL);
	EXPECT_TRUE(c.ok);
	close(c.fd);
	ASSERT_EQ(0, dmt_dm_create(t->name));
}

/* --- status and table never wait ---------------------------------------------------------- */

/* Does a command end by itself, and well? */
static bool returns(const char *command, const struct dmt *t)
{
	struct pollfd pfd = { .events = POLLIN };
	char line[128];
	int status;
	pid_t pid;

	snprintf(line, sizeof(line), "%s %s >/dev/null", command, t->name);
	pid = fork();
	if (!pid) {
		execl("/bin/sh", "sh", "-c", line, NULL);
		_exit(127);
	}
	pfd.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pid < 0 || pfd.fd < 0)
		err(1, "cannot run %s", line);
	if (poll(&pfd, 1, DMT_PATIENCE) != 1) {
		warnx("hangs: %s", line);
		return false;
	}
	close(pfd.fd);
	return waitpid(pid, &status, 0) == pid && status == 0;
}

static bool all_return(const struct dmt *t)
{
	return returns("dmsetup status", t) &&
	       returns("dmsetup status --noflush", t) &&
	       returns("dmsetup table", t) && returns("dmsetup info", t) &&
	       dmt_counter(t->name, DMT_REMAPS) < 1000;
}

TEST_F_TIMEOUT(gated, status_and_table_return_whatever_is_stuck, 120)
{
	struct dmt *t = &self->g.t;
	struct dmt_map cow = dmt_cow(t, 1, 1, RW);
	struct dmt_map map = dmt_plain(&t->origin, 2, 2, RO);
	struct dmt_io *unread, *copied, *late;
	struct dmt_call call;
	uint32_t id;

	/* A daemon that never reads, and a copy that does not end. */
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &cow));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	copied = dmt_write_part(t->fd, 1, 2);
	unread = dmt_begin_read(t, 2);
	EXPECT_TRUE(all_return(t));
	/* A suspension that waits for both. */
	dmt_call_begin(&call, t, t->name, DMT_SUSPEND);
	ASSERT_TRUE(dmt_call_waits(&call));
	EXPECT_TRUE(all_return(t));
	EXPECT_FALSE(dmt_call_ended(&call));
	id = dmt_expect_request(t->ctl, 2, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(unread));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(copied));
	EXPECT_EQ(0, dmt_call_result(&call));
	/* A device that is suspended, with I/O that waits for that to end. */
	late = dmt_begin_read(t, 2);
	EXPECT_TRUE(all_return(t));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	EXPECT_EQ(0, dmt_io_result(late));
	/* A suspension without a flush that waits for a copy. */
	dmt_gate_shut(&self->g.store);
	cow = dmt_cow(t, 3, 3, RW);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &cow));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	dmt_call_begin(&call, t, t->name, DMT_SUSPEND_NOFLUSH);
	ASSERT_TRUE(dmt_call_waits(&call));
	EXPECT_TRUE(all_return(t));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_call_result(&call));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
}

TEST_HARNESS_MAIN
