// SPDX-License-Identifier: GPL-2.0-only
/*
 * Limits that no other test comes near: of discards that wait to be told, of lines
 * in the log, of the time that copies may take from others; and a discard of a block
 * that the end of the device cuts short.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/run.h"
#include "lib/sysfs.h"
#include <err.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

static bool discarded(int fd, uint64_t block, uint64_t count)
{
	struct dmt_msg msg;

	return dmt_expect(fd, DM_USERSPACE_DISCARD, &msg) &&
	       msg.discard.block == block && msg.discard.count == count;
}

/* --- discards ------------------------------------------------------------------------- */

#define SMALL		512u /* bytes of a block */
#define MAX_DISCARDS	4096u /* messages that wait for a daemon */
#define MANY		(2 * MAX_DISCARDS + 16) /* blocks */

FIXTURE(small)
{
	struct dmt t;
};

FIXTURE_SETUP(small)
{
	struct dmt *t = &self->t;
	char params[128];

	memset(t, 0, sizeof(*t));
	snprintf(t->name, sizeof(t->name), "dmt%d", getpid());
	dmt_disk_open(&t->store, MANY * SMALL, 0);
	snprintf(params, sizeof(params), "%s %u %u:%u", t->name, SMALL,
		 major(t->store.dev), minor(t->store.dev));
	if (dmt_dm_create(t->name) ||
	    dmt_dm_load(t->name, 0, MANY, "userspace", params) ||
	    dmt_dm_resume(t->name))
		errx(1, "cannot make the mapped device %s", t->name);
	t->fd = dmt_dm_open(t->name, O_RDWR | O_DIRECT);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
}

FIXTURE_TEARDOWN(small)
{
	dmt_teardown(&self->t);
}

static int discard(const struct dmt *t, uint64_t block)
{
	const uint64_t range[2] = { block * SMALL, SMALL };

	return ioctl(t->fd, BLKDISCARD, range) ? -errno : 0;
}

/* Those that find no room are not told, and forget nothing. */
TEST_F_TIMEOUT(small, so_many_discards_wait_and_no_more, 120)
{
	struct dmt *t = &self->t;
	struct dmt_map map = { .block = MANY - 1, .to = 3, .dst = &t->store,
			       .flags = RW };
	unsigned int i;

	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_DISCARD));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	/* Every other block: none goes on where the one before has ended. */
	for (i = 0; i < MAX_DISCARDS; i++)
		ASSERT_EQ(0, discard(t, 2 * i));
	EXPECT_EQ(0, discard(t, 2 * MAX_DISCARDS));
	EXPECT_EQ(0, discard(t, map.block));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
	/* What makes the last one longer needs no room. */
	EXPECT_EQ(0, discard(t, 2 * MAX_DISCARDS - 1));
	for (i = 0; i < MAX_DISCARDS - 1; i++)
		ASSERT_TRUE(discarded(t->ctl, 2 * i, 1));
	EXPECT_TRUE(discarded(t->ctl, 2 * MAX_DISCARDS - 2, 2));
	EXPECT_TRUE(dmt_silent(t->ctl));
	/* There is room again. */
	EXPECT_EQ(0, discard(t, map.block));
	EXPECT_TRUE(discarded(t->ctl, map.block, 1));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
}

#define LAST	(DMT_BLOCKS - 1)
#define REST	3u /* sectors of it that there are */

FIXTURE(cut)
{
	struct dmt_gated g;
};

FIXTURE_SETUP(cut)
{
	dmt_gated_setup_sectors(&self->g, LAST * DMT_SECTORS + REST);
}

FIXTURE_TEARDOWN(cut)
{
	dmt_gated_teardown(&self->g);
}

static int discard_sectors(const struct dmt *t, uint64_t from, uint64_t nr)
{
	return dmt_io_result(dmt_io(t->fd, DMT_DISCARD, from * 512, nr * 512,
				    0));
}

TEST_F(cut, all_that_there_is_of_the_last_block_is_all_of_it)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, LAST, LAST, RW);
	const uint64_t first = LAST * DMT_SECTORS;

	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_DISCARD));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, discard_sectors(t, first, REST - 1));
	EXPECT_EQ(0, discard_sectors(t, first + 1, REST - 1));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(0, discard_sectors(t, first, REST));
	EXPECT_TRUE(discarded(t->ctl, LAST, 1));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	/* Not known, and together with those before it. */
	EXPECT_EQ(0, discard_sectors(t, first - 2 * DMT_SECTORS,
				     2 * DMT_SECTORS + REST));
	EXPECT_TRUE(discarded(t->ctl, LAST - 2, 3));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* --- the log ------------------------------------------------------------------------------ */

#define LINES	20u /* as often as the log bears a sentence, and once more */

static unsigned int times_in(const char *text, const char *what)
{
	unsigned int nr = 0;

	while ((text = strstr(text, what))) {
		text += strlen(what);
		nr++;
	}
	return nr;
}

TEST_F(dm, requests_that_time_out_at_once_do_not_fill_the_log)
{
	struct dmt *t = &self->t;
	struct dmt_io *io[DMT_BLOCKS];
	int log = dmt_log_open();
	static char said[1 << 16];
	unsigned int block;

	for (block = 0; block < DMT_BLOCKS; block++) {
		io[block] = dmt_io_now(t->fd, DMT_READ, block * DMT_BLOCK,
				       DMT_BLOCK, 0);
		ASSERT_NE(0, dmt_expect_request(t->ctl, block, RO));
	}
	ASSERT_EQ(0, dmt_dm_message(t->name, "request_timeout 1"));
	for (block = 0; block < DMT_BLOCKS; block++)
		EXPECT_EQ(-EIO, dmt_io_result(io[block]));
	EXPECT_EQ(DMT_BLOCKS, dmt_counter(t->name, DMT_ERRORS));
	dmt_log_take(log, said, sizeof(said));
	close(log);
	EXPECT_GE(LINES, times_in(said, "has not answered the request")) {
		TH_LOG("it said: %s", said);
	}
}

TEST_F(dm, daemons_that_come_and_go_do_not_fill_the_log)
{
	struct dmt *t = &self->t;
	unsigned int begun = (unsigned int)dmt_now_ms(), i, most;
	static char said[1 << 16];
	int log = dmt_log_open();

	ASSERT_EQ(0, dmt_dm_message(t->name, "error_if_no_daemon on"));
	for (i = 0; i < 4 * LINES; i++) {
		close(t->ctl);
		EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 1)));
		t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	}
	/* Half as many in five seconds. */
	most = LINES + ((unsigned int)dmt_now_ms() - begun) / 5000 * LINES / 2;
	dmt_log_take(log, said, sizeof(said));
	close(log);
	EXPECT_LE(1, times_in(said, "no daemon is attached"));
	EXPECT_GE(most, times_in(said, "no daemon is attached"));
}

/* --- copies that are not to take all of the time --------------------------------------------- */

FIXTURE(slow)
{
	struct dmt_gated g;
	unsigned int throttle;
};

FIXTURE_SETUP(slow)
{
	dmt_gated_setup(&self->g);
	self->throttle = dmt_param_get("copy_throttle");
	/* Both steps of a copy take so long that kcopyd's clock sees them. */
	dmt_gate_delay(&self->g.origin, 20);
	dmt_gate_delay(&self->g.store, 20);
}

FIXTURE_TEARDOWN(slow)
{
	dmt_param_set("copy_throttle", self->throttle);
	dmt_gated_teardown(&self->g);
}

/* How long a copy takes that is pushed and not used; of a block and to its place. */
static unsigned int copy_ms(const struct dmt *t, uint64_t block)
{
	struct dmt_map map = dmt_cow(t, block, block, RW);
	unsigned int begun = (unsigned int)dmt_now_ms();

	if (dmt_map(t->ctl, 0, &map) ||
	    dmt_io_result(dmt_begin_read(t, block)))
		errx(1, "block %u is not copied", (unsigned int)block);
	return (unsigned int)dmt_now_ms() - begun;
}

/* There are buffers, which kcopyd knows nothing of. */
TEST_F(slow, copies_wait_where_they_are_throttled)
{
	struct dmt *t = &self->g.t;
	unsigned int plain, throttled;

	EXPECT_EQ(100, self->throttle);
	EXPECT_LT(0, dmt_param_get("copy_buffers"));
	plain = copy_ms(t, 1);
	dmt_param_set("copy_throttle", 1);
	throttled = copy_ms(t, 2);
	dmt_param_set("copy_throttle", 100);
	EXPECT_LT(plain + 150, throttled);
	ksft_print_msg("%u ms, throttled: %u ms\n", plain, throttled);
	EXPECT_TRUE(dmt_place_has(&t->store, 1, 1, DMT_ORIGIN, DMT_NO_PART));
	EXPECT_TRUE(dmt_place_has(&t->store, 2, 2, DMT_ORIGIN, DMT_NO_PART));
}

TEST_HARNESS_MAIN
