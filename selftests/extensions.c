// SPDX-License-Identifier: GPL-2.0-only
/*
 * Extensions: who asks for them gets them, nobody else does; reports of what
 * failed, and discards.
 */
#include "gated.h"
#include "run.h"
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

#define ALL (DMU_EXT_REPORTS | DMU_EXT_DISCARD | DMU_EXT_RUNS)
#define MAX_REPORTS 64 /* that wait for a daemon */

static int ask(int fd, uint32_t id, uint64_t bits)
{
	const struct dmu_msg_extensions msg = { .bits = bits };
	ssize_t n = dmt_write_msg(fd, DM_USERSPACE_EXTENSIONS, id, &msg,
				  sizeof(msg));

	return n < 0 ? n : 0;
}

static bool granted(int fd, uint32_t id, uint64_t bits)
{
	struct dmt_msg msg;

	return dmt_expect(fd, DM_USERSPACE_EXTENSIONS, &msg) &&
	       msg.header.id == id && msg.extensions.bits == bits;
}

static bool extend(int fd, uint64_t bits)
{
	return !ask(fd, 77, bits) && granted(fd, 77, bits);
}

static bool reported(int fd, uint32_t report, uint64_t block, uint32_t id,
		     int error)
{
	struct dmt_msg msg;

	return dmt_expect(fd, DM_USERSPACE_REPORT, &msg) && !msg.header.id &&
	       msg.report.report == report && msg.report.block == block &&
	       msg.report.id_of_req == id && msg.report.error == error &&
	       !msg.report.padding;
}

static bool discarded(int fd, uint64_t block, uint64_t count)
{
	struct dmt_msg msg;

	return dmt_expect(fd, DM_USERSPACE_DISCARD, &msg) && !msg.header.id &&
	       msg.discard.block == block && msg.discard.count == count;
}

static int discard(int fd, uint64_t offset, uint64_t len)
{
	const uint64_t range[2] = { offset, len };

	return ioctl(fd, BLKDISCARD, range) ? -errno : 0;
}

static int discard_blocks(const struct dmt *t, uint64_t block, uint64_t count)
{
	return discard(t->fd, block * DMT_BLOCK, count * DMT_BLOCK);
}

/* --- negotiation ---------------------------------------------------- */

TEST_F(gated, daemon_learns_which_of_those_it_knows_it_gets)
{
	int fd = self->g.t.ctl;

	EXPECT_EQ(0, ask(fd, 5, ~0ULL));
	EXPECT_TRUE(granted(fd, 5, ALL));
	EXPECT_EQ(0, ask(fd, 0, DMU_EXT_REPORTS | 1ULL << 63));
	EXPECT_TRUE(granted(fd, 0, DMU_EXT_REPORTS));
	EXPECT_EQ(0, ask(fd, 6, 0));
	EXPECT_TRUE(granted(fd, 6, 0));
	EXPECT_TRUE(dmt_silent(fd));
}

TEST_F(gated, what_only_the_kernel_says_is_refused)
{
	const struct dmu_msg_report report = { .report = 1 };
	const struct dmu_msg_discard gone = { .count = 1 };
	int fd = self->g.t.ctl;

	EXPECT_TRUE(extend(fd, ALL));
	EXPECT_EQ(-EINVAL, dmt_write_msg(fd, DM_USERSPACE_REPORT, 1, &report,
					 sizeof(report)));
	EXPECT_EQ(-EINVAL, dmt_write_msg(fd, DM_USERSPACE_DISCARD, 1, &gone,
					 sizeof(gone)));
	EXPECT_EQ(-EINVAL, dmt_write_msg(fd, DM_USERSPACE_EXTENSIONS, 1, &gone,
					 sizeof(gone)));
}

/* Whatever may happen to a device whose origin fails. */
static void fail_all(struct __test_metadata *_metadata, struct dmt_gated *g,
		     int other)
{
	struct dmt_map copy = dmt_cow(&g->t, 1, 4, RW);
	struct dmt_map plain = dmt_plain(&g->t.origin, 2, 2, RW);
	struct dmt_io *io;
	uint32_t id;

	dmt_gate_break(&g->origin);
	ASSERT_EQ(0, dmt_map(g->t.ctl, 0, &plain));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(&g->t, 2)));
	io = dmt_write_part(g->t.fd, 1, 2);
	id = dmt_expect_request(other, 1, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(other, id, &copy));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	dmt_gate_mend(&g->origin);
	EXPECT_EQ(0, discard_blocks(&g->t, 2, 1));
}

TEST_F(gated, daemon_of_2006_sees_no_extension)
{
	fail_all(_metadata, &self->g, self->g.t.ctl);
	EXPECT_TRUE(dmt_silent(self->g.t.ctl));
}

TEST_F(gated, what_one_has_asked_for_another_does_not_get)
{
	int other = dmt_control_open(self->g.t.name, O_RDWR | O_NONBLOCK);

	ASSERT_TRUE(extend(self->g.t.ctl, ALL));
	fail_all(_metadata, &self->g, other);
	EXPECT_TRUE(dmt_silent(other));
	close(other);
}

TEST_F(gated, who_asks_for_less_gets_no_more_of_it)
{
	ASSERT_TRUE(extend(self->g.t.ctl, ALL));
	ASSERT_TRUE(extend(self->g.t.ctl, 0));
	fail_all(_metadata, &self->g, self->g.t.ctl);
	EXPECT_TRUE(dmt_silent(self->g.t.ctl));
}

/* --- reports -------------------------------------------------------- */

TEST_F(gated, failed_copy_is_reported_to_all_that_asked)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 3, 4, RW);
	int other = dmt_control_open(t->name, O_RDWR | O_NONBLOCK);
	struct dmt_io *io;
	uint32_t id;

	ASSERT_TRUE(extend(t->ctl, DMU_EXT_REPORTS));
	ASSERT_TRUE(extend(other, DMU_EXT_REPORTS));
	dmt_gate_break(&self->g.origin);
	io = dmt_write_part(t->fd, 3, 2);
	id = dmt_expect_request(t->ctl, 3, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_TRUE(reported(t->ctl, DMU_REPORT_COPY_FAILED, 3, id, -EIO));
	EXPECT_TRUE(reported(other, DMU_REPORT_COPY_FAILED, 3, id, -EIO));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_TRUE(dmt_silent(other));
	close(other);
}

TEST_F(gated, failed_io_is_reported_with_the_block_it_began_in)
{
	struct dmt *t = &self->g.t;
	struct dmt_map a = dmt_plain(&t->store, 3, 3, RW);
	struct dmt_map b = dmt_plain(&t->store, 4, 4, RW);

	ASSERT_TRUE(extend(t->ctl, DMU_EXT_REPORTS));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &a));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &b));
	dmt_gate_break(&self->g.store);
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 4)));
	EXPECT_TRUE(reported(t->ctl, DMU_REPORT_IO_FAILED, 4, 0, -EIO));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_io(t->fd, DMT_READ, 3 * DMT_BLOCK +
					     512, DMT_BLOCK, 0)));
	EXPECT_TRUE(reported(t->ctl, DMU_REPORT_IO_FAILED, 3, 0, -EIO));
	EXPECT_TRUE(dmt_silent(t->ctl));
	dmt_gate_mend(&self->g.store);
}

TEST_F(gated, failed_write_is_reported)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 3, 3, RW);

	ASSERT_TRUE(extend(t->ctl, DMU_EXT_REPORTS));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_gate_break_writes(&self->g.store);
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_write(t, 3, 2)));
	EXPECT_TRUE(reported(t->ctl, DMU_REPORT_IO_FAILED, 3, 0, -EIO));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_ERRORS));
}

/* Not that it is held: it is not. */
TEST_F(gated, failed_write_of_a_sync_mapping_is_reported_once)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 3, 3, RW | SYNC);
	struct dmt_io *io;
	uint32_t id;

	ASSERT_TRUE(extend(t->ctl, DMU_EXT_REPORTS));
	dmt_gate_break_writes(&self->g.store);
	io = dmt_begin_write(t, 3, 2);
	id = dmt_expect_request(t->ctl, 3, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_TRUE(reported(t->ctl, DMU_REPORT_IO_FAILED, 3, 0, -EIO));
	EXPECT_TRUE(dmt_settled(t));
	/* The next one is. */
	dmt_gate_mend(&self->g.store);
	io = dmt_begin_write(t, 3, 2);
	EXPECT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* No copy has failed, until one is tried; who waited for it was at no device. */
TEST_F(gated, failed_write_that_stood_in_for_a_copy_is_reported_as_a_write)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 3, 4, RW);
	struct dmt_io *io, *other;
	uint32_t id;

	ASSERT_TRUE(extend(t->ctl, DMU_EXT_REPORTS));
	dmt_gate_break_writes(&self->g.store);
	io = dmt_begin_write(t, 3, 2);
	other = dmt_write_part(t->fd, 3, 5);
	id = dmt_expect_request(t->ctl, 3, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_EQ(-EIO, dmt_io_result(other));
	EXPECT_TRUE(reported(t->ctl, DMU_REPORT_IO_FAILED, 3, 0, -EIO));
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 3)));
	EXPECT_TRUE(reported(t->ctl, DMU_REPORT_COPY_FAILED, 3, id, -EIO));
	EXPECT_TRUE(dmt_settled(t));
	dmt_gate_mend(&self->g.store);
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, place_that_cannot_be_filled_with_zeroes_is_a_failed_copy)
{
	struct dmt *t = &self->g.t;
	struct dmu_msg_run_response fill = dmt_run(3, 1, &t->store, 4, RW);
	struct dmt_io *io;
	uint32_t id;

	ASSERT_TRUE(extend(t->ctl, DMU_EXT_REPORTS | DMU_EXT_RUNS));
	dmt_place_fill(&t->store, 4, 3, 7);
	dmt_gate_break_writes(&self->g.store);
	io = dmt_write_part(t->fd, 3, 2);
	id = dmt_expect_request(t->ctl, 3, RW);
	ASSERT_NE(0, id);
	dmt_run_copy(&fill, NULL, 0);
	ASSERT_EQ(0, dmt_map_run(t->ctl, id, fill));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_TRUE(reported(t->ctl, DMU_REPORT_COPY_FAILED, 3, id, -EIO));
	EXPECT_TRUE(dmt_settled(t));
	dmt_gate_mend(&self->g.store);
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, 0));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, request_that_a_daemon_refuses_is_no_failure_of_a_device)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io;
	uint32_t id;

	ASSERT_TRUE(extend(t->ctl, DMU_EXT_REPORTS));
	io = dmt_begin_read(t, 3);
	id = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, request_that_times_out_is_reported_to_the_daemon_that_read_it)
{
	struct dmt *t = &self->g.t;
	int other = dmt_control_open(t->name, O_RDWR | O_NONBLOCK);
	struct dmt_io *io;
	uint32_t id;

	ASSERT_TRUE(extend(t->ctl, DMU_EXT_REPORTS));
	ASSERT_TRUE(extend(other, DMU_EXT_REPORTS));
	ASSERT_EQ(0, dmt_dm_message(t->name, "request_timeout 1"));
	io = dmt_begin_read(t, 3);
	id = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, id);
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_TRUE(reported(t->ctl, DMU_REPORT_TIMED_OUT, 3, id, -ETIMEDOUT));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_TRUE(dmt_silent(other));
	close(other);
}

TEST_F(gated, reports_that_find_no_room_are_counted)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map;
	uint64_t block;
	int i;

	ASSERT_TRUE(extend(t->ctl, DMU_EXT_REPORTS));
	for (block = 0; block < DMT_BLOCKS; block++) {
		map = dmt_plain(&t->store, block, block, RW);
		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	}
	dmt_gate_break(&self->g.store);
	for (i = 0; i < MAX_REPORTS + 36; i++)
		EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, i % DMT_BLOCKS)));
	dmt_gate_mend(&self->g.store);
	for (i = 0; i < MAX_REPORTS; i++)
		EXPECT_TRUE(reported(t->ctl, DMU_REPORT_IO_FAILED,
				     i % DMT_BLOCKS, 0, -EIO));
	EXPECT_TRUE(reported(t->ctl, DMU_REPORT_LOST, 36, 0, 0));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, notice_that_could_not_be_read_is_read_later)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 3, 3, RW);
	/* As far as the compiler knows, it could be written to. */
	void *volatile nowhere = (void *)1;
	char buf[36];

	ASSERT_TRUE(extend(t->ctl, ALL));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_gate_break(&self->g.store);
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 3)));
	dmt_gate_mend(&self->g.store);
	EXPECT_EQ(0, discard_blocks(t, 3, 1));
	EXPECT_EQ(-1, read(t->ctl, buf, sizeof(buf) - 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, read(t->ctl, nowhere, 4096));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_TRUE(reported(t->ctl, DMU_REPORT_IO_FAILED, 3, 0, -EIO));
	EXPECT_TRUE(discarded(t->ctl, 3, 1));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, who_wants_no_more_reports_gets_none_that_are_left)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 3, 3, RW);

	ASSERT_TRUE(extend(t->ctl, ALL));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_gate_break(&self->g.store);
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 3)));
	dmt_gate_mend(&self->g.store);
	EXPECT_EQ(0, discard_blocks(t, 3, 1));
	EXPECT_EQ(0, ask(t->ctl, 5, 0));
	EXPECT_TRUE(granted(t->ctl, 5, 0));
	EXPECT_TRUE(dmt_silent(t->ctl));
	ASSERT_TRUE(extend(t->ctl, ALL));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* --- discards ------------------------------------------------------- */

TEST_F(gated, block_is_asked_for_again_after_its_discard_was_told)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 3, 3, RW);
	struct dmt_map moved = dmt_plain(&t->store, 3, 9, RW);
	struct dmt_io *io;
	uint32_t id;

	ASSERT_TRUE(extend(t->ctl, DMU_EXT_DISCARD));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_EQ(0, dmt_write_block(t->fd, 3, 2));
	EXPECT_EQ(0, discard_blocks(t, 3, 1));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	io = dmt_begin_write(t, 3, 5);
	ASSERT_TRUE(dmt_counts(t->name, DMT_WAITING, 1));
	EXPECT_TRUE(discarded(t->ctl, 3, 1));
	id = dmt_expect_request(t->ctl, 3, RW);
	ASSERT_NE(0, id);
	/* Nothing uses the old place any more. */
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 50, 3));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 50, DM_USERSPACE_INVAL_FAILED));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &moved));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 9, 3, 5, DMT_NO_PART));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

static bool asks_for_write(const struct dmt *t, uint64_t block)
{
	struct dmt_io *io = dmt_begin_write(t, block, 5);
	uint32_t id = dmt_expect_request(t->ctl, block, RW);

	return id && !dmt_fail(t->ctl, id) && dmt_io_result(io) == -EIO;
}

/* It speaks of what was there before: it has not heard yet that nobody needs it. */
TEST_F(gated, what_is_pushed_over_an_unread_discard_counts_for_nothing)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 3, 3, RW);
	struct dmu_msg_run_response run = dmt_run(8, 16, &t->store, 8, RW);

	ASSERT_TRUE(extend(t->ctl, ALL));
	EXPECT_EQ(0, discard_blocks(t, 3, 1));
	EXPECT_EQ(0, discard_blocks(t, 10, 4));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, run));
	/* But for blocks 10 to 13. */
	EXPECT_EQ(12, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_TRUE(discarded(t->ctl, 3, 1));
	EXPECT_TRUE(discarded(t->ctl, 10, 4));
	EXPECT_TRUE(asks_for_write(t, 3));
	EXPECT_TRUE(asks_for_write(t, 10));
	EXPECT_TRUE(asks_for_write(t, 13));
	/* It knows now. */
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, run));
	EXPECT_EQ(17, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(0, dmt_write_block(t->fd, 3, 2));
	EXPECT_EQ(0, dmt_write_block(t->fd, 10, 2));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* So does an answer that comes after its request was failed. */
TEST_F(gated, late_answer_over_an_unread_discard_counts_for_nothing)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 3, 3, RW);
	struct dmt_io *io = dmt_begin_write(t, 3, 5);
	uint32_t id = dmt_expect_request(t->ctl, 3, RW);

	ASSERT_NE(0, id);
	ASSERT_TRUE(extend(t->ctl, DMU_EXT_DISCARD));
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_EQ(0, discard_blocks(t, 3, 1));
	EXPECT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_TRUE(discarded(t->ctl, 3, 1));
	EXPECT_TRUE(asks_for_write(t, 3));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, whole_blocks_are_told_and_parts_are_not)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map;
	uint64_t block;

	ASSERT_TRUE(extend(t->ctl, DMU_EXT_DISCARD));
	for (block = 2; block < 8; block++) {
		map = dmt_plain(&t->store, block, block, RW);
		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	}
	/* Of 2 and 6 only a part. */
	EXPECT_EQ(0, discard(t->fd, 2 * DMT_BLOCK + 512, 4 * DMT_BLOCK));
	EXPECT_EQ(0, discard(t->fd, 7 * DMT_BLOCK, 512));
	EXPECT_TRUE(discarded(t->ctl, 3, 3));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_EQ(3, dmt_counter(t->name, DMT_REMAPS));
}

TEST_F(gated, blocks_that_are_not_in_the_cache_are_told_in_one_message)
{
	struct dmt *t = &self->g.t;

	ASSERT_TRUE(extend(t->ctl, DMU_EXT_DISCARD));
	EXPECT_EQ(0, discard_blocks(t, 0, DMT_BLOCKS));
	EXPECT_TRUE(discarded(t->ctl, 0, DMT_BLOCKS));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(gated, read_only_block_is_not_told)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->origin, 3, 3, RO);

	ASSERT_TRUE(extend(t->ctl, DMU_EXT_DISCARD));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, discard_blocks(t, 3, 1));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, DMT_ORIGIN));
}

TEST_F(gated, block_that_is_being_asked_for_is_not_told)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 3, 3, RW);
	struct dmt_io *io = dmt_begin_write(t, 3, 5);
	uint32_t id = dmt_expect_request(t->ctl, 3, RW);

	ASSERT_NE(0, id);
	ASSERT_TRUE(extend(t->ctl, DMU_EXT_DISCARD));
	EXPECT_EQ(0, discard_blocks(t, 3, 1));
	EXPECT_TRUE(dmt_silent(t->ctl));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, 5));
}

TEST_F(gated, where_two_daemons_are_neither_is_told)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 3, 3, RW);
	int other;

	ASSERT_TRUE(extend(t->ctl, DMU_EXT_DISCARD));
	EXPECT_EQ(0, discard_blocks(t, 1, 1));
	/* What was not read yet is not told any more. */
	other = dmt_control_open(t->name, O_RDWR | O_NONBLOCK);
	EXPECT_TRUE(dmt_silent(t->ctl));
	ASSERT_TRUE(extend(other, DMU_EXT_DISCARD));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, discard_blocks(t, 3, 1));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_TRUE(dmt_silent(other));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
	/* Alone again. */
	close(other);
	EXPECT_EQ(0, discard_blocks(t, 3, 1));
	EXPECT_TRUE(discarded(t->ctl, 3, 1));
}

TEST_F(gated, next_daemon_learns_nothing_of_what_the_last_was_to_be_told)
{
	struct dmt *t = &self->g.t;

	ASSERT_TRUE(extend(t->ctl, ALL));
	EXPECT_EQ(0, discard_blocks(t, 3, 1));
	close(t->ctl);
	t->ctl = dmt_control_open(t->name, O_RDWR | O_NONBLOCK);
	EXPECT_TRUE(dmt_silent(t->ctl));
	ASSERT_TRUE(extend(t->ctl, ALL));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* It goes down while its place still counts as in use. */
TEST_F(gated, place_is_free_only_when_the_discard_itself_is_back)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 3, 3, RW);
	struct dmt_io *io;

	ASSERT_TRUE(extend(t->ctl, DMU_EXT_DISCARD));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	dmt_gate_shut(&self->g.store);
	io = dmt_io(t->fd, DMT_DISCARD, 3 * DMT_BLOCK, DMT_BLOCK, 0);
	EXPECT_TRUE(discarded(t->ctl, 3, 1));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 50, 3));
	dmt_grace_period();
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_FALSE(dmt_io_done(io));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 50, DM_USERSPACE_INVAL_FAILED));
}

TEST_HARNESS_MAIN
