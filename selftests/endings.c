// SPDX-License-Identifier: GPL-2.0-only
/*
 * The end of devices: wiped, removed by force, or as soon as the last one closes
 * them.
 */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/fixture.h"
#include "lib/gate.h"
#include "lib/load.h"
#include "lib/traffic.h"
#include <err.h>
#include <inttypes.h>
#include <libdevmapper.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* --- what ends a device ----------------------------------------------------------------- */

/* The program itself: its exit status. It has much to say of a device in use. */
static int dmsetup(const char *verb, const char *option, const char *name)
{
	const char *const argv[] = { "dmsetup", verb, name, option, NULL };
	posix_spawn_file_actions_t actions;
	int status, fd, r;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	for (fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
		posix_spawn_file_actions_addopen(&actions, fd, "/dev/null",
						 O_WRONLY, 0);
	r = posix_spawnp(&pid, "dmsetup", &actions, NULL, (char *const *)argv,
			 environ);
	if (r || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		errx(1, "cannot run dmsetup");
	posix_spawn_file_actions_destroy(&actions);
	return WEXITSTATUS(status);
}

/* What it does without options, as one task of libdevmapper's. */
static int do_task(int type, const char *name, bool noflush, bool deferred)
{
	struct dm_task *task = dm_task_create(type);
	int r;

	if (!task || !dm_task_set_name(task, name) ||
	    (noflush && !dm_task_no_flush(task)) ||
	    (deferred && !dm_task_deferred_remove(task)))
		errx(1, "libdevmapper: no memory");
	r = dm_task_run(task) ? 0 : -dm_task_get_errno(task);
	dm_task_destroy(task);
	return r;
}

/* The parts of "wipe_table". */
static int wipe(const char *name, uint64_t sectors, bool noflush)
{
	return dmt_dm_load(name, 0, sectors, "error", "") ?:
	       do_task(DM_DEVICE_RESUME, name, noflush, false);
}

/* Those of "remove --force", which never waits. */
static int force(const char *name, uint64_t sectors)
{
	return wipe(name, sectors, true) ?:
	       do_task(DM_DEVICE_REMOVE, name, false, false);
}

static int remove_deferred(const char *name)
{
	return do_task(DM_DEVICE_REMOVE, name, false, true);
}

/* The kernel may still be about to let go of a file that was closed. */
static int remove_soon(const char *name)
{
	unsigned int ms;
	int r = -EBUSY;

	for (ms = 0; r == -EBUSY && ms < DMT_PATIENCE; ms++) {
		r = do_task(DM_DEVICE_REMOVE, name, false, false);
		if (r == -EBUSY)
			poll(NULL, 0, 1);
	}
	return r;
}

/* --- under load ------------------------------------------------------------------------- */

#define EACH	40u	/* of all that is counted; see churn.c */
#define UNITS	(DMT_BLOCK / DMT_UNIT)
#define OWN	64u	/* blocks that only the second device writes to */
#define FIRST_OWN (DMT_LOAD_BLOCKS - OWN)
#define NR_IO	6u
#define SECTORS	(DMT_LOAD_BLOCKS * DMT_SECTORS)

enum kind { WIPED, FORCED, OTHER_WIPED, OTHER_FORCED, OTHER_DEFERRED, NR_KINDS };

static const char * const kind_names[] = {
	"wiped", "removed by force while it was in use", "its sibling wiped",
	"its sibling removed by force", "its sibling removed when it was closed",
};

/**
 * @load: the device and its daemon
 * @traffic: all I/O to it
 * @phase: how often it was wiped
 * @wiped: it is, or may be: what fails is excused
 * @other: its sibling, a device of the same key, or an empty name
 * @fd: it, or -1
 * @leaving: its table may still be about to go, in the background
 * @seed: what each of the sibling's own blocks holds
 * @may_be: what it may hold instead, where a write has failed
 * @done: how often a device ended so
 * @alone: how often one did without a daemon
 * @flushed: how often one was wiped with a flush
 * @programs: how often dmsetup did it
 * @failed: I/O of siblings
 * @brought: commits when all blocks were on the origin
 */
FIXTURE(endings)
{
	struct dmt_load load;
	struct dmt_traffic traffic;
	_Atomic uint64_t phase;
	atomic_bool wiped;
	char other[40];
	int fd;
	bool leaving;
	int seed[OWN];
	int may_be[OWN];
	unsigned int done[NR_KINDS];
	unsigned int alone;
	unsigned int flushed;
	unsigned int programs;
	unsigned int failed;
	uint32_t brought;
};

static uint64_t excuse(struct dmt_traffic *traffic, uint32_t first,
		       uint32_t last)
{
	FIXTURE_DATA(endings) *self = traffic->arg;

	(void)first;
	(void)last;
	return self->wiped ? DMT_EXCUSED : self->phase;
}

FIXTURE_SETUP(endings)
{
	struct dmt_load *load = &self->load;
	struct dmt_traffic *traffic = &self->traffic;
	const uint32_t units = FIRST_OWN * UNITS;
	unsigned int i;

	ASSERT_TRUE(dmt_keys_are_gone());
	dmt_load_setup(load);
	dmt_units_fill(load->t.origin.fd, 0, 0, units, 1);
	for (i = 0; i < OWN; i++) {
		self->seed[i] = DMT_ORIGIN;
		self->may_be[i] = DMT_ORIGIN;
	}
	self->fd = -1;
	dmt_traffic_make(traffic, load->t.fd, units);
	dmt_traffic_holds(traffic, 0, units, 1);
	traffic->writers = 2;
	traffic->readers = 2;
	traffic->seed = dmt_seed();
	traffic->excuse = excuse;
	traffic->arg = self;
	srandom((unsigned int)traffic->seed);
	dmt_load_daemon(load, 0);
	dmt_traffic_start(traffic);
}

FIXTURE_TEARDOWN(endings)
{
	/* Whatever a failed test has left: threads that wait must not. */
	dmt_traffic_stop(&self->traffic);
	self->wiped = true;
	if (self->traffic.started) {
		wipe(self->load.t.name, SECTORS, true);
		dmt_traffic_join(&self->traffic);
	}
	dmt_traffic_free(&self->traffic);
	if (self->fd >= 0) {
		wipe(self->other, SECTORS, true);
		close(self->fd);
		dmt_dm_remove(self->other);
	}
	dmt_load_teardown(&self->load);
}

/* Wait until so many more I/Os were right. */
static bool progress(FIXTURE_DATA(endings) *self, uint64_t more)
{
	uint64_t until = self->traffic.ios + more;
	unsigned int ms;

	for (ms = 0; self->traffic.ios < until; ms++) {
		if (self->traffic.wrong)
			return false;
		if (ms > DMT_PATIENCE) {
			warnx("the device does nothing any more");
			return false;
		}
		poll(NULL, 0, 1);
	}
	return true;
}

/* --- the device ------------------------------------------------------------------------- */

/* When its last table is; a table that is not waited for may be later than a name. */
static bool key_is_gone(FIXTURE_DATA(endings) *self)
{
	unsigned int ms;

	for (ms = 0; self->leaving && dmt_controls() && ms < DMT_PATIENCE; ms++)
		poll(NULL, 0, 1);
	self->leaving = false;
	if (!dmt_controls())
		return true;
	warnx("its key is still there");
	return false;
}

/* All that it had to say is said, and its key is gone: it begins again. */
static bool load_again(FIXTURE_DATA(endings) *self, unsigned int i)
{
	const struct dmt_load_table table = { 0 };
	struct dmt_load *load = &self->load;

	if (load->daemon)
		dmt_load_kill(load);
	if (!key_is_gone(self))
		return false;
	/* There must be something to copy. */
	if (load->book->commits - self->brought > DMT_LOAD_BLOCKS / 4) {
		dmt_load_bring_back(load);
		self->brought = load->book->commits;
	}
	if (dmt_load_table(load, load->t.name, &table) ||
	    dmt_dm_resume(load->t.name))
		return false;
	dmt_load_daemon(load, i);
	self->wiped = false;
	return true;
}

/* Some I/O meets the end. */
static bool fails(FIXTURE_DATA(endings) *self)
{
	uint64_t before = self->traffic.excused;
	unsigned int ms;

	for (ms = 0; self->traffic.excused == before; ms++) {
		if (ms > DMT_PATIENCE) {
			warnx("no I/O fails");
			return false;
		}
		poll(NULL, 0, 1);
	}
	return true;
}

/* Is it done by the program itself? That takes a tenth of a second to start. */
static bool itself(unsigned int i)
{
	return i % 4 == 1;
}

/* With a flush it waits for the daemon; without, there need be none. */
static bool end_device(FIXTURE_DATA(endings) *self, enum kind kind,
		       unsigned int i)
{
	struct dmt_load *load = &self->load;
	const char *name = load->t.name;
	bool noflush = i % 3, dead = i % 3 == 2;
	int r;

	if (dead && !dmt_load_kill(load))
		return false;
	self->phase++;
	self->wiped = true;
	if (kind == FORCED && itself(i))
		r = !dmsetup("remove", "--force", name);
	else if (kind == FORCED) /* the device is open */
		r = force(name, SECTORS) != -EBUSY;
	else if (itself(i))
		r = dmsetup("wipe_table", noflush ? "--noflush" : NULL, name);
	else
		r = wipe(name, SECTORS, noflush);
	self->alone += !load->daemon;
	self->flushed += kind == WIPED && !noflush;
	return !r && fails(self) && load_again(self, i);
}

/* --- its sibling ------------------------------------------------------------------------ */

static bool make_other(FIXTURE_DATA(endings) *self)
{
	const struct dmt_load_table table = { 0 };

	snprintf(self->other, sizeof(self->other), "%s-b", self->load.t.name);
	if (dmt_dm_create(self->other) ||
	    dmt_load_table(&self->load, self->other, &table) ||
	    dmt_dm_resume(self->other)) {
		warnx("cannot make the sibling");
		return false;
	}
	self->fd = dmt_dm_open(self->other, O_RDWR | O_DIRECT);
	if (self->fd < 0)
		warn("the sibling");
	return self->fd >= 0;
}

struct other_io {
	struct dmt_io *io;
	unsigned int own;
	int version; /* of a write, or 0 */
};

static void begin_io(FIXTURE_DATA(endings) *self, struct other_io *io)
{
	static int version = DMT_ORIGIN;
	unsigned int i, first = (unsigned int)random() % OWN;

	for (i = 0; i < NR_IO; i++) {
		unsigned int own = (first + i) % OWN;
		uint64_t at = (uint64_t)(FIRST_OWN + own) * DMT_BLOCK;

		io[i].own = own;
		io[i].version = i % 2 ? ++version : 0;
		io[i].io = dmt_io_now(self->fd, i % 2 ? DMT_WRITE : DMT_READ, at,
				      DMT_BLOCK, io[i].version);
	}
}

/* What succeeds is right; whether any may fail, the caller knows. */
static bool end_io(FIXTURE_DATA(endings) *self, struct other_io *io, bool may_fail)
{
	unsigned int i;
	bool ok = true;

	for (i = 0; i < NR_IO; i++) {
		unsigned int own = io[i].own;
		int r = dmt_io_wait(io[i].io);

		if (r && (r != -EIO || !may_fail)) {
			warnx("I/O to a sibling: %s", strerror(-r));
			ok = false;
		}
		self->failed += !!r;
		if (!r && !io[i].version &&
		    !dmt_io_matches(io[i].io, self->seed[own]) &&
		    !dmt_io_matches(io[i].io, self->may_be[own])) {
			warnx("block %u of a sibling's read something else",
			      FIRST_OWN + own);
			ok = false;
		}
		if (io[i].version)
			self->may_be[own] = io[i].version;
		if (io[i].version && !r)
			self->seed[own] = io[i].version;
		dmt_io_free(io[i].io);
	}
	return ok;
}

/* Seen from the device, which was there all the time: one of two, for ever. */
static bool own_is_right(FIXTURE_DATA(endings) *self, const struct other_io *io)
{
	unsigned int i;

	for (i = 0; i < NR_IO; i++) {
		unsigned int own = io[i].own;
		uint64_t at = (uint64_t)(FIRST_OWN + own) * DMT_BLOCK;
		struct dmt_io *read = dmt_io(self->load.t.fd, DMT_READ, at,
					     DMT_BLOCK, 0);
		bool ok = !dmt_io_wait(read);

		if (ok && dmt_io_matches(read, self->may_be[own]))
			self->seed[own] = self->may_be[own];
		ok = ok && dmt_io_matches(read, self->seed[own]);
		self->may_be[own] = self->seed[own];
		dmt_io_free(read);
		if (!ok) {
			warnx("block %u of a sibling's is not what it wrote",
			      FIRST_OWN + own);
			return false;
		}
	}
	return true;
}

static bool other_fails(FIXTURE_DATA(endings) *self)
{
	return dmt_io_result(dmt_io(self->fd, DMT_READ, FIRST_OWN * DMT_BLOCK,
				    DMT_BLOCK, 0)) == -EIO;
}

static bool other_is_gone(const FIXTURE_DATA(endings) *self)
{
	unsigned int ms;

	for (ms = 0; ms < DMT_PATIENCE; ms++) {
		if (!dmt_dm_exists(self->other))
			return true;
		poll(NULL, 0, 1);
	}
	warnx("the sibling is still there");
	return false;
}

static int close_other(FIXTURE_DATA(endings) *self)
{
	int fd = self->fd;

	self->fd = -1;
	return close(fd);
}

static bool wipe_other(FIXTURE_DATA(endings) *self, struct other_io *io,
		       unsigned int i)
{
	bool noflush = i % 3;
	int r;

	if (itself(i))
		r = dmsetup("wipe_table", noflush ? "--noflush" : NULL,
			    self->other);
	else
		r = wipe(self->other, SECTORS, noflush);
	self->alone += !self->load.daemon;
	self->flushed += !noflush;
	if (!self->load.daemon)
		dmt_load_daemon(&self->load, i);
	return !r && end_io(self, io, noflush) && other_fails(self) &&
	       !close_other(self) && !remove_soon(self->other);
}

/* Not while it is open, though it is wiped, without a flush; then for good. */
static bool force_other(FIXTURE_DATA(endings) *self, struct other_io *io,
			unsigned int i)
{
	const char *name = self->other;
	bool ok = itself(i) ? dmsetup("remove", "--force", name) :
			      force(name, SECTORS) == -EBUSY;

	ok = ok && end_io(self, io, true) && other_fails(self) &&
	     !close_other(self);
	if (ok && itself(i)) /* unless it is busy for a moment */
		return !dmsetup("remove", "-f", name) || !remove_soon(name);
	return ok && !remove_soon(name);
}

/* As soon as it is closed; until then it is as good as ever. */
static bool defer_other(FIXTURE_DATA(endings) *self, struct other_io *io,
			unsigned int i)
{
	struct other_io more[NR_IO];
	int r = itself(i) ? dmsetup("remove", "--deferred", self->other) :
			    remove_deferred(self->other);

	if (r || !end_io(self, io, false))
		return false;
	begin_io(self, more);
	self->leaving = true;
	return end_io(self, more, false) && own_is_right(self, more) &&
	       !close_other(self);
}

static bool end_other(FIXTURE_DATA(endings) *self, enum kind kind,
		      unsigned int i)
{
	struct other_io io[NR_IO];
	bool ok;

	if (!make_other(self))
		return false;
	/* Then what waits for a daemon, which is all of it, will fail. */
	if (kind == OTHER_WIPED && i % 3 == 2 &&
	    (!dmt_load_kill(&self->load) ||
	     dmt_dm_message(self->other, "drop_idle")))
		return false;
	begin_io(self, io);
	if (kind == OTHER_WIPED)
		ok = wipe_other(self, io, i);
	else if (kind == OTHER_FORCED)
		ok = force_other(self, io, i);
	else
		ok = defer_other(self, io, i);
	return ok && other_is_gone(self) && own_is_right(self, io);
}

/* --- all of it -------------------------------------------------------------------------- */

/* After the end nothing is lost, and all is where the book says. */
static bool all_is_well(FIXTURE_DATA(endings) *self)
{
	struct dmt_load *load = &self->load;
	uint8_t buf[DMT_BLOCK];
	uint32_t block;

	dmt_traffic_stop(&self->traffic);
	dmt_traffic_join(&self->traffic);
	if (self->traffic.wrong || !dmt_traffic_read(&self->traffic) ||
	    !dmt_load_kill(load))
		return false;
	for (block = 0; block < FIRST_OWN; block++) {
		uint32_t place = load->book->place[block];

		if (place == DMT_NOWHERE)
			continue;
		if (pread(load->t.store.fd, buf, sizeof(buf),
			  (off_t)place * DMT_BLOCK) != sizeof(buf))
			err(1, "looking at the store");
		if (!dmt_traffic_has(&self->traffic, buf, block * UNITS, UNITS))
			return false;
	}
	return true;
}

TEST_F_TIMEOUT(endings, of_devices_under_load_lose_nothing, 280)
{
	const unsigned int each = dmt_turns(EACH);
	struct dmt_load *load = &self->load;
	unsigned int i;

	for (i = 0; i < each * NR_KINDS; i++) {
		enum kind kind = i % NR_KINDS;

		ASSERT_TRUE(progress(self, random() % 8));
		ASSERT_TRUE(kind < OTHER_WIPED ?
			    end_device(self, kind, i / NR_KINDS) :
			    end_other(self, kind, i / NR_KINDS));
		self->done[kind]++;
		self->programs += itself(i / NR_KINDS);
	}
	ASSERT_TRUE(progress(self, 100));
	ASSERT_TRUE(all_is_well(self));
	for (i = 0; i < NR_KINDS; i++) {
		ksft_print_msg("%4u times %s\n", self->done[i], kind_names[i]);
		EXPECT_EQ(each, self->done[i]);
	}
	ksft_print_msg("%" PRIu64 " I/Os, %" PRIu64 " failed, and %u of siblings; %u commits\n",
		       self->traffic.ios, self->traffic.excused, self->failed,
		       load->book->commits);
	ksft_print_msg("%4u times without a daemon, %u with a flush, %u by dmsetup\n",
		       self->alone, self->flushed, self->programs);
	/* Three kinds do without a daemon, and two with a flush, each third time. */
	EXPECT_LE(each / 3 * 3, self->alone);
	EXPECT_LE(each / 3 * 2, self->flushed);
	EXPECT_LE(each / 4 * NR_KINDS, self->programs);
	EXPECT_LT(each, self->traffic.excused);
	EXPECT_LT(each / 3, self->failed);
	EXPECT_LT(each, load->book->commits);
}

/* --- I/O in every stage --------------------------------------------------------------- */

FIXTURE(ending)
{
	struct dmt_disk disk;
};

FIXTURE_SETUP(ending)
{
	uint64_t block;

	ASSERT_TRUE(dmt_keys_are_gone());
	dmt_disk_open(&self->disk, DMT_BLOCKS * DMT_BLOCK, 0);
	for (block = 0; block < DMT_BLOCKS; block++)
		dmt_disk_fill(&self->disk, block, DMT_ORIGIN);
}

FIXTURE_TEARDOWN(ending)
{
	dmt_disk_close(&self->disk);
	EXPECT_TRUE(dmt_keys_are_gone());
}

/* I/O in every stage: served, sent, unread, held, and joined to what is sent. */
#define STAGES 5

static bool begin_all(const struct dmt_brief *b, struct dmt_io **io)
{
	struct dmt_map map = dmt_plain(b->disk, 1, 1, RW);
	uint32_t id;

	if (dmt_map(b->ctl, 0, &map))
		return false;
	io[0] = dmt_io_now(b->fd, DMT_READ, DMT_BLOCK, DMT_BLOCK, 0);
	io[1] = dmt_io_now(b->fd, DMT_WRITE, 2 * DMT_BLOCK, DMT_BLOCK, 2);
	id = dmt_expect_request(b->ctl, 2, RW);
	map = dmt_plain(b->disk, 2, 2, RW | SYNC);
	if (!id || dmt_map(b->ctl, id, &map) ||
	    !dmt_expect_status(b->ctl, id, DM_USERSPACE_SYNC_COMPLETE))
		return false;
	io[2] = dmt_io_now(b->fd, DMT_READ, 3 * DMT_BLOCK, DMT_BLOCK, 0);
	if (!dmt_expect_request(b->ctl, 3, RO))
		return false;
	io[3] = dmt_io_now(b->fd, DMT_READ, 3 * DMT_BLOCK, 512, 0);
	io[4] = dmt_io_now(b->fd, DMT_READ, 4 * DMT_BLOCK, DMT_BLOCK, 0);
	return true;
}

/* Without a flush no daemon is needed: all that waited meets the new table. */
TEST_F_TIMEOUT(ending, wiped_table_fails_what_waits, 120)
{
	struct dmt_io *io[STAGES];
	struct dmt_brief b;
	unsigned int i, j;

	for (i = 0; i < dmt_turns(24); i++) {
		dmt_brief_make(&b, "wiped", &self->disk);
		ASSERT_TRUE(begin_all(&b, io));
		if (i % 2)
			close(b.ctl);
		ASSERT_EQ(0, wipe("wiped", DMT_BLOCKS * DMT_SECTORS, true));
		EXPECT_EQ(0, dmt_io_result(io[0]));
		for (j = 1; j < STAGES; j++)
			EXPECT_EQ(-EIO, dmt_io_result(io[j]));
		EXPECT_EQ(0, dmt_controls());
		EXPECT_EQ(-EIO, dmt_io_result(dmt_io(b.fd, DMT_READ, DMT_BLOCK,
						     DMT_BLOCK, 0)));
		if (i % 2 == 0)
			close(b.ctl);
		dmt_brief_remove(&b);
	}
}

/* With a flush it waits for the daemon, and nothing fails that it serves. */
TEST_F_TIMEOUT(ending, table_is_wiped_after_its_daemon_has_served_it, 120)
{
	unsigned int i, j;

	for (i = 0; i < dmt_turns(24); i++) {
		struct dmt_server server = { .nr = 1 };
		struct dmt_io *io[16];
		struct dmt_brief b;

		dmt_brief_make(&b, "wiped", &self->disk);
		server.served[0] = (struct dmt_served){ b.ctl, self->disk.dev };
		for (j = 0; j < 16; j++)
			io[j] = dmt_io_now(b.fd, DMT_READ, j / 2 * DMT_BLOCK,
					   DMT_BLOCK, 0);
		dmt_server_start(&server);
		ASSERT_EQ(0, wipe("wiped", DMT_BLOCKS * DMT_SECTORS, false));
		for (j = 0; j < 16; j++)
			EXPECT_EQ(0, dmt_io_result(io[j]));
		dmt_server_stop(&server);
		close(b.ctl);
		dmt_brief_remove(&b);
	}
}

TEST_F_TIMEOUT(ending, deferred_removal_waits_for_the_last_one_to_close, 120)
{
	struct dmt_brief b;
	struct dmt_msg msg;
	struct dmt_io *io;
	unsigned int i;

	for (i = 0; i < dmt_turns(24); i++) {
		struct dmt_map map = dmt_plain(&self->disk, 3, 3, RW);
		uint32_t id;

		dmt_brief_make(&b, "deferred", &self->disk);
		io = dmt_io_now(b.fd, DMT_READ, 3 * DMT_BLOCK, DMT_BLOCK, 0);
		id = dmt_expect_request(b.ctl, 3, RO);
		ASSERT_NE(0, id);
		ASSERT_EQ(0, remove_deferred("deferred"));
		/* All goes on. */
		ASSERT_EQ(0, dmt_map(b.ctl, id, &map));
		EXPECT_EQ(0, dmt_io_result(io));
		EXPECT_TRUE(dmt_read_matches(b.fd, 3, DMT_ORIGIN));
		close(b.fd);
		/* Done in the background: the daemon is told. */
		EXPECT_TRUE(dmt_readable(b.ctl, DMT_PATIENCE));
		EXPECT_EQ(0, dmt_read_msg(b.ctl, &msg));
		EXPECT_EQ(-ENODEV, dmt_map(b.ctl, 0, &map));
		close(b.ctl);
		EXPECT_TRUE(dmt_keys_are_gone());
	}
}

DMT_SCALED_MAIN
