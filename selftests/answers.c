// SPDX-License-Identifier: GPL-2.0-only
/* Which answer counts: ids, late and doubled ones, pushes; and where it leads. */
#define _GNU_SOURCE
#include "lib/fixture.h"

#define STORED	7	/* version of the pattern that tests put in the store */

static struct dmt_io *read_block(struct dmt *t, uint64_t block)
{
	return dmt_io_now(t->fd, DMT_READ, block * DMT_BLOCK, DMT_BLOCK, 0);
}

/* Wait for a read: 0 where it holds that version of its block. */
static int read_result(struct dmt_io *io, int seed)
{
	int r = dmt_io_wait(io);

	if (!r && !dmt_io_matches(io, seed))
		r = -EBADMSG;
	dmt_io_free(io);
	return r;
}

static struct dmt_map to_origin(struct dmt *t, uint64_t block, uint32_t flags)
{
	return (struct dmt_map){ .block = block, .to = block,
				 .dst = &t->origin, .flags = flags };
}

/* The store holds another version of the block, by which it is known. */
static struct dmt_map to_store(struct dmt *t, uint64_t block, uint32_t flags)
{
	dmt_disk_fill(&t->store, block, STORED);
	return (struct dmt_map){ .block = block, .to = block, .dst = &t->store,
				 .flags = flags };
}

/* --- MAP_FAILED ------------------------------------------------------------------- */

TEST_F(dm, failed_request_fails_all_that_waits_and_may_be_asked_again)
{
	struct dmt *t = &self->t;
	struct dmt_map map = to_origin(t, 3, RW);
	struct dmt_io *io[3];
	unsigned int i;
	uint32_t id;

	for (i = 0; i < 3; i++)
		io[i] = read_block(t, 3);
	id = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(-EIO, read_result(io[i], DMT_ORIGIN));
	EXPECT_EQ(3, dmt_counter(t->name, DMT_ERRORS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));

	io[0] = read_block(t, 3);
	id = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, read_result(io[0], DMT_ORIGIN));
}

TEST_F(dm, failure_is_matched_by_the_id_in_its_payload)
{
	struct dmt *t = &self->t;
	struct dmu_msg_map_response r = { .org_block = 50 };
	struct dmt_map map = to_origin(t, 4, RO);
	struct dmt_io *three, *four;
	uint32_t id3, id4;

	three = read_block(t, 3);
	four = read_block(t, 4);
	id3 = dmt_expect_request(t->ctl, 3, RO);
	id4 = dmt_expect_request(t->ctl, 4, RO);
	ASSERT_TRUE(id3 && id4);
	r.id_of_req = id3;
	ASSERT_EQ(60, dmt_write_msg(t->ctl, DM_USERSPACE_MAP_FAILED, id4, &r,
				    sizeof(r)));
	EXPECT_EQ(-EIO, read_result(three, DMT_ORIGIN));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_SENT));
	EXPECT_FALSE(dmt_io_done(four));
	ASSERT_EQ(0, dmt_map(t->ctl, id4, &map));
	EXPECT_EQ(0, read_result(four, DMT_ORIGIN));
}

TEST_F(dm, failure_of_an_unknown_or_answered_request_is_ignored)
{
	struct dmt *t = &self->t;
	struct dmt_map map = to_origin(t, 3, RO);
	struct dmt_io *io;
	uint32_t id;

	io = read_block(t, 3);
	id = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, id);
	EXPECT_EQ(0, dmt_fail(t->ctl, 0));
	EXPECT_EQ(0, dmt_fail(t->ctl, id + 1));
	EXPECT_EQ(0, dmt_fail(t->ctl, UINT32_MAX));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, read_result(io, DMT_ORIGIN));
	EXPECT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* --- ids -------------------------------------------------------------------------- */

TEST_F(dm, answer_is_matched_by_the_id_in_its_payload)
{
	struct dmt *t = &self->t;
	struct dmt_map map = to_origin(t, 3, RO);
	struct dmu_msg_map_response r;
	struct dmt_io *io;
	uint32_t id;

	io = read_block(t, 3);
	id = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, id);
	dmt_response(&r, id, &map);
	ASSERT_EQ(60, dmt_write_msg(t->ctl, DM_USERSPACE_MAP_BLOCK_RESP,
				    id + 77, &r, sizeof(r)));
	EXPECT_EQ(0, read_result(io, DMT_ORIGIN));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
}

TEST_F(dm, answer_to_an_unknown_id_installs_its_mapping)
{
	struct dmt *t = &self->t;
	struct dmt_map map = to_store(t, 3, RW);

	ASSERT_EQ(0, dmt_map(t->ctl, 12345, &map));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, STORED));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(dm, flags_of_the_kernel_are_ignored)
{
	struct dmt *t = &self->t;
	struct dmt_map map = to_store(t, 3, RW | DMU_FLAG_VALID |
				      DMU_FLAG_INUSE | DMU_FLAG_WAITING);
	struct dmt_io *io;
	uint32_t id;

	io = read_block(t, 3);
	id = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, read_result(io, STORED));
	ASSERT_EQ(0, dmt_write_block(t->fd, 3, 9));
	EXPECT_TRUE(dmt_disk_has(&t->store, 3, 9));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SYNCS));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* The write was asked for last; its answer may well come first. */
TEST_F(dm, answer_of_the_younger_request_wins_whatever_the_order)
{
	struct dmt *t = &self->t;
	struct dmt_map old = to_origin(t, 3, RO);
	struct dmt_map young = to_store(t, 3, RW);
	struct dmt_io *rd, *wr;
	uint32_t first, second;

	rd = read_block(t, 3);
	first = dmt_expect_request(t->ctl, 3, RO);
	wr = dmt_io_now(t->fd, DMT_WRITE, 3 * DMT_BLOCK, DMT_BLOCK, 9);
	second = dmt_expect_request(t->ctl, 3, RW);
	ASSERT_TRUE(first && second);
	ASSERT_EQ(0, dmt_map(t->ctl, second, &young));
	ASSERT_EQ(0, dmt_io_result(wr));
	ASSERT_EQ(0, dmt_map(t->ctl, first, &old));
	EXPECT_EQ(0, read_result(rd, 9));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));

	/* Once more: by now nobody waits for it. */
	ASSERT_EQ(0, dmt_map(t->ctl, first, &old));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, 9));
	ASSERT_EQ(0, dmt_write_block(t->fd, 3, 10));
	EXPECT_TRUE(dmt_disk_has(&t->store, 3, 10));
	EXPECT_TRUE(dmt_disk_has(&t->origin, 3, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(dm, younger_mapping_outlives_eviction_until_the_older_answer_is_in)
{
	struct dmt *t = &self->t;
	struct dmt_map old = to_origin(t, 3, RO);
	struct dmt_map young = to_store(t, 3, RW);
	struct dmt_io *rd, *wr;
	uint32_t first, second;

	rd = read_block(t, 3);
	first = dmt_expect_request(t->ctl, 3, RO);
	wr = dmt_io_now(t->fd, DMT_WRITE, 3 * DMT_BLOCK, DMT_BLOCK, 9);
	second = dmt_expect_request(t->ctl, 3, RW);
	ASSERT_TRUE(first && second);
	ASSERT_EQ(0, dmt_map(t->ctl, second, &young));
	ASSERT_EQ(0, dmt_io_result(wr));
	/* It is what the late answer must find. */
	ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	ASSERT_EQ(0, dmt_map(t->ctl, first, &old));
	EXPECT_EQ(0, read_result(rd, 9));

	/* Now it may go; the older answer does not come back in its place. */
	ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	ASSERT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	ASSERT_EQ(0, dmt_map(t->ctl, first, &old));
	rd = read_block(t, 3);
	first = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, first);
	ASSERT_EQ(0, dmt_map(t->ctl, first, &young));
	EXPECT_EQ(0, read_result(rd, 9));
}

TEST_F(dm, answer_of_the_younger_request_replaces_that_of_the_older)
{
	struct dmt *t = &self->t;
	struct dmt_map old = to_origin(t, 3, RO);
	struct dmt_map young = to_store(t, 3, RW);
	struct dmt_io *rd, *wr;
	uint32_t first, second;

	rd = read_block(t, 3);
	first = dmt_expect_request(t->ctl, 3, RO);
	wr = dmt_io_now(t->fd, DMT_WRITE, 3 * DMT_BLOCK, DMT_BLOCK, 9);
	second = dmt_expect_request(t->ctl, 3, RW);
	ASSERT_TRUE(first && second);
	ASSERT_EQ(0, dmt_map(t->ctl, first, &old));
	EXPECT_EQ(0, read_result(rd, DMT_ORIGIN));
	EXPECT_FALSE(dmt_io_done(wr));
	ASSERT_EQ(0, dmt_map(t->ctl, second, &young));
	ASSERT_EQ(0, dmt_io_result(wr));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, 9));
	EXPECT_TRUE(dmt_disk_has(&t->origin, 3, DMT_ORIGIN));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
}

TEST_F(dm, late_answer_does_not_replace_what_came_after_it)
{
	struct dmt *t = &self->t;
	struct dmt_map old = to_origin(t, 3, RW);
	struct dmt_map pushed = to_store(t, 3, RW);
	struct dmt_io *io;
	uint32_t id;

	io = read_block(t, 3);
	id = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &old));
	ASSERT_EQ(0, read_result(io, DMT_ORIGIN));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &pushed));
	ASSERT_TRUE(dmt_read_matches(t->fd, 3, STORED));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &old));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, STORED));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(dm, late_answer_installs_a_mapping_where_there_is_none)
{
	struct dmt *t = &self->t;
	struct dmt_map map = to_store(t, 3, RW);
	struct dmt_io *io;
	uint32_t id;

	io = read_block(t, 3);
	id = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	ASSERT_EQ(-EIO, read_result(io, STORED));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, STORED));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(dm, doubled_answers_do_no_harm)
{
	struct dmt *t = &self->t;
	struct dmt_batch *batch = calloc(1, sizeof(*batch));
	struct dmt_map map = to_store(t, 3, RW);
	struct dmt_io *io;
	unsigned int i;
	uint32_t id;

	io = dmt_io_now(t->fd, DMT_WRITE, 3 * DMT_BLOCK, 512, 9);
	id = dmt_expect_request(t->ctl, 3, RW);
	ASSERT_NE(0, id);
	for (i = 0; i < 5; i++)
		dmt_batch_map(batch, id, &map);
	ASSERT_EQ(batch->len, dmt_batch_write(t->ctl, batch));
	EXPECT_EQ(0, dmt_io_result(io));
	ASSERT_EQ(0, dmt_write_block(t->fd, 3, 10));
	ASSERT_EQ(batch->len, dmt_batch_write(t->ctl, batch));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, 10));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_TRUE(dmt_silent(t->ctl));
	free(batch);
}

/* The answer has been given: its copy must not undo what was written since. */
TEST_F(dm, doubled_copying_answer_copies_once)
{
	struct dmt *t = &self->t;
	struct dmt_map map = { .block = 3, .to = 8, .dst = &t->store,
			       .src = &t->origin, .flags = RW | COPY };
	struct dmt_io *io;
	uint32_t id;

	io = read_block(t, 3);
	id = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_EQ(0, read_result(io, DMT_ORIGIN));
	ASSERT_EQ(0, dmt_write_block(t->fd, 3, 9));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, 9));
	ASSERT_TRUE(dmt_barrier(t->ctl));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, 9));
}

TEST_F(dm, shuffled_answers_find_their_blocks)
{
	struct dmt *t = &self->t;
	struct dmt_batch *batch = calloc(1, sizeof(*batch));
	struct dmt_io *io[DMT_BLOCKS];
	uint32_t ids[DMT_BLOCKS];
	unsigned int i;

	for (i = 0; i < DMT_BLOCKS; i++) {
		io[i] = read_block(t, i);
		ids[i] = dmt_expect_request(t->ctl, i, RO);
		ASSERT_NE(0, ids[i]);
	}
	/* 37 and 64 have no common factor: each comes once. */
	for (i = 0; i < DMT_BLOCKS; i++) {
		unsigned int block = (i * 37 + 11) % DMT_BLOCKS;
		struct dmt_map map = block % 2 ? to_store(t, block, RO) :
						 to_origin(t, block, RO);

		dmt_batch_map(batch, ids[block], &map);
	}
	ASSERT_EQ(batch->len, dmt_batch_write(t->ctl, batch));
	for (i = 0; i < DMT_BLOCKS; i++)
		EXPECT_EQ(0, read_result(io[i], i % 2 ? STORED : DMT_ORIGIN));
	EXPECT_EQ(DMT_BLOCKS, dmt_counter(t->name, DMT_REMAPS));
	free(batch);
}

TEST_F(dm, status_for_an_unknown_id_is_ignored)
{
	struct dmt *t = &self->t;
	struct dmt_map map = to_origin(t, 3, RO);
	struct dmt_io *io;
	uint32_t id;

	EXPECT_EQ(0, dmt_sync_done(t->ctl, 0));
	EXPECT_EQ(0, dmt_sync_done(t->ctl, 4711));
	io = read_block(t, 3);
	id = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, id);
	/* A request is not a SYNC remap. */
	EXPECT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_SENT));
	EXPECT_FALSE(dmt_io_done(io));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, read_result(io, DMT_ORIGIN));
	EXPECT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* --- mappings that nobody has asked for ---------------------------------------------- */

TEST_F(dm, pushed_mappings_serve_io_without_a_request)
{
	struct dmt *t = &self->t;
	struct dmt_map ro = to_origin(t, 3, RO);
	struct dmt_map rw = to_store(t, 4, RW);
	struct dmt_map again = to_store(t, 3, RW);

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &ro));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &rw));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, DMT_ORIGIN));
	ASSERT_EQ(0, dmt_write_block(t->fd, 4, 9));
	EXPECT_TRUE(dmt_disk_has(&t->store, 4, 9));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &again));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, STORED));
	EXPECT_EQ(2, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_MISSES));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(dm, push_while_a_request_waits_leaves_it_its_answer)
{
	struct dmt *t = &self->t;
	struct dmt_map pushed = to_store(t, 3, RW);
	struct dmt_map answer = to_origin(t, 3, RO);
	struct dmt_io *unread, *sent;
	uint32_t id3, id4;

	/* One that no daemon has read yet, one that a daemon has. */
	sent = read_block(t, 4);
	id4 = dmt_expect_request(t->ctl, 4, RO);
	unread = read_block(t, 3);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &pushed));
	pushed = to_store(t, 4, RW);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &pushed));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, STORED));
	EXPECT_TRUE(dmt_read_matches(t->fd, 4, STORED));

	id3 = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_TRUE(id3 && id4);
	ASSERT_EQ(0, dmt_map(t->ctl, id3, &answer));
	EXPECT_EQ(0, read_result(unread, DMT_ORIGIN));
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, DMT_ORIGIN));
	/* This one says what had been pushed. */
	ASSERT_EQ(0, dmt_map(t->ctl, id4, &pushed));
	EXPECT_EQ(0, read_result(sent, STORED));
	EXPECT_EQ(2, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* --- several open files ---------------------------------------------------------------- */

TEST_F(dm, each_request_goes_to_one_of_the_open_files)
{
	struct dmt *t = &self->t;
	int other = dmt_control_open(t->name, O_NONBLOCK);
	unsigned int seen[DMT_BLOCKS] = { 0 }, i;
	struct dmt_msg msg;
	struct dmt_io *io;

	io = dmt_io_now(t->fd, DMT_READ, 0, DMT_BLOCKS * DMT_BLOCK, 0);
	EXPECT_FALSE(dmt_silent(t->ctl));
	EXPECT_FALSE(dmt_silent(other));
	for (i = 0; i < DMT_BLOCKS; i++) {
		int fd = i % 3 ? t->ctl : other;
		struct dmt_map map;

		ASSERT_TRUE(dmt_expect(fd, DM_USERSPACE_MAP_BLOCK_REQ, &msg));
		ASSERT_GT(DMT_BLOCKS, msg.request.org_block);
		seen[msg.request.org_block]++;
		map = to_origin(t, msg.request.org_block, RO);
		ASSERT_EQ(0, dmt_map(fd, msg.header.id, &map));
	}
	for (i = 0; i < DMT_BLOCKS; i++)
		EXPECT_EQ(1, seen[i]);
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_TRUE(dmt_silent(other));
	EXPECT_EQ(0, dmt_io_result(io));
	close(other);
	EXPECT_TRUE(dmt_attached(t->name));
}

TEST_F(dm, answers_go_to_the_file_that_asked_and_vanish_with_it)
{
	struct dmt *t = &self->t;
	struct dmu_msg_version version = { .userspace_ver = 5 };
	struct dmt_map map = to_origin(t, 3, RO);
	int other = dmt_control_open(t->name, O_NONBLOCK);
	struct dmt_msg msg;

	ASSERT_EQ(20, dmt_write_msg(other, DM_USERSPACE_GET_VERSION, 1,
				    &version, sizeof(version)));
	EXPECT_TRUE(dmt_silent(t->ctl));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_EQ(0, dmt_invalidate(other, 2, 3));
	ASSERT_TRUE(dmt_expect(other, DM_USERSPACE_GET_VERSION, &msg));
	EXPECT_TRUE(dmt_expect_status(other, 2, DM_USERSPACE_INVAL_COMPLETE));
	EXPECT_TRUE(dmt_silent(t->ctl));

	ASSERT_EQ(20, dmt_write_msg(other, DM_USERSPACE_GET_VERSION, 3,
				    &version, sizeof(version)));
	ASSERT_EQ(0, dmt_invalidate(other, 4, 3));
	ASSERT_TRUE(dmt_readable(other, DMT_PATIENCE));
	close(other);
	EXPECT_TRUE(dmt_silent(t->ctl));
	/* Nor does the next one get them. */
	other = dmt_control_open(t->name, O_NONBLOCK);
	EXPECT_TRUE(dmt_silent(other));
	EXPECT_TRUE(dmt_barrier(other));
	EXPECT_TRUE(dmt_silent(other));
	close(other);
}

TEST_F(dm, status_tells_whether_a_daemon_is_attached)
{
	struct dmt *t = &self->t;
	int other = dmt_control_open(t->name, O_NONBLOCK);

	EXPECT_TRUE(dmt_attached(t->name));
	close(t->ctl);
	EXPECT_TRUE(dmt_attached(t->name));
	close(other);
	EXPECT_FALSE(dmt_attached(t->name));
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	EXPECT_TRUE(dmt_attached(t->name));
}

/* --- where a mapping leads ---------------------------------------------------------------- */

/* Does that block's pattern begin at @sector of the disk? Seen from behind. */
static bool found_at(const struct dmt_disk *disk, uint64_t sector,
		     uint64_t block, int seed)
{
	uint8_t want[DMT_BLOCK], got[DMT_BLOCK];

	dmt_pattern(want, sizeof(want), block, seed);
	return pread(disk->fd, got, sizeof(got), (off_t)(sector * 512)) ==
	       sizeof(got) && !memcmp(want, got, sizeof(got));
}

TEST_F(dm, destination_is_new_block_plus_offset)
{
	static const struct {
		uint64_t to;
		int64_t offset;
		uint64_t sector;
	} places[] = {
		{ 2, 0, 16 },
		{ 2, 3, 19 },
		{ 2, -1, 15 },
		{ 5, -40, 0 },
		{ 0, 504, 504 },		/* the very last block */
		{ DMT_BLOCKS, -8, 504 },	/* begins outside by itself */
		{ DMT_BLOCKS - 2, 8, 504 },
		{ DMT_BLOCKS + 100, -1000, 312 },
		{ 1ull << 50, -(1ll << 53) + 77, 77 },
	};
	struct dmt *t = &self->t;
	unsigned int i;

	for (i = 0; i < 9; i++) {
		struct dmt_map map = { .block = 9 + i, .to = places[i].to,
				       .dst = &t->store, .flags = RW,
				       .offset = places[i].offset };
		struct dmt_io *io;

		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
		ASSERT_EQ(0, dmt_write_block(t->fd, 9 + i, 20 + i));
		EXPECT_TRUE(found_at(&t->store, places[i].sector, 9 + i, 20 + i));
		EXPECT_TRUE(dmt_read_matches(t->fd, 9 + i, 20 + i));

		/* Part of a block: the sector within it is added. */
		io = dmt_io(t->fd, DMT_WRITE, (9 + i) * DMT_BLOCK + 1024, 512,
			    0);
		ASSERT_EQ(0, dmt_io_result(io));
		EXPECT_FALSE(found_at(&t->store, places[i].sector, 9 + i,
				      20 + i));
		io = dmt_io(t->fd, DMT_WRITE, (9 + i) * DMT_BLOCK, DMT_BLOCK,
			    40 + i);
		ASSERT_EQ(0, dmt_io_result(io));
		EXPECT_TRUE(found_at(&t->store, places[i].sector, 9 + i, 40 + i));
	}
	EXPECT_TRUE(dmt_silent(t->ctl));
}

TEST_F(dm, copies_begin_at_the_offset_too)
{
	struct dmt *t = &self->t;
	struct dmt_map map = { .block = 6, .to = 6, .dst = &t->store,
			       .src = &t->origin, .flags = RW | COPY,
			       .offset = -5 };
	uint8_t zero[DMT_BLOCK] = { 0 }, got[DMT_BLOCK];

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_TRUE(dmt_read_matches(t->fd, 6, DMT_ORIGIN));
	EXPECT_TRUE(found_at(&t->store, 6 * DMT_SECTORS - 5, 6, DMT_ORIGIN));
	/* Not a byte more. */
	ASSERT_EQ(2560, pread(t->store.fd, got, 2560,
			      (7 * DMT_SECTORS - 5) * 512));
	EXPECT_EQ(0, memcmp(got, zero, 2560));
	ASSERT_EQ(512, pread(t->store.fd, got, 512,
			     (6 * DMT_SECTORS - 6) * 512));
	EXPECT_EQ(0, memcmp(got, zero, 512));
}

TEST_F(dm, offset_off_the_logical_blocks_of_its_device_is_refused)
{
	struct dmt *t = &self->t;
	char name[64], params[256];
	struct dmt_disk big;
	struct dmt_map map = { .block = 3, .to = 3, .flags = RW };
	int64_t offset;
	int fd, ctl;

	snprintf(name, sizeof(name), "%s-4k", t->name);
	dmt_disk_open(&big, DMT_BLOCKS * DMT_BLOCK, 4096);
	snprintf(params, sizeof(params), "%s 8192 %u:%u %u:%u", name,
		 major(t->origin.dev), minor(t->origin.dev), major(big.dev),
		 minor(big.dev));
	ASSERT_EQ(0, dmt_dm_create(name));
	ASSERT_EQ(0, dmt_dm_load(name, 0, DMT_BLOCKS * DMT_SECTORS,
				 "userspace", params));
	ASSERT_EQ(0, dmt_dm_resume(name));
	fd = dmt_dm_open(name, O_RDWR | O_DIRECT);
	ctl = dmt_control_open(name, O_NONBLOCK);

	for (offset = -9; offset <= 9; offset++) {
		map.offset = offset;
		map.dst = &big;
		EXPECT_EQ(offset % 8 ? -EINVAL : 0, dmt_map(ctl, 0, &map));
		EXPECT_EQ(offset < -8 ? 0 : 1, dmt_counter(name, DMT_REMAPS));
		/* The other device takes any. */
		map.block = 4;
		map.dst = &t->origin;
		EXPECT_EQ(0, dmt_map(ctl, 0, &map));
		map.block = 3;
		ASSERT_EQ(0, dmt_invalidate(ctl, 1, 4));
		EXPECT_TRUE(dmt_expect_status(ctl, 1,
					      DM_USERSPACE_INVAL_COMPLETE));
	}
	/* What was accepted last, 8 sectors on, is in effect. */
	ASSERT_EQ(0, dmt_write_block(fd, 6, 9));
	EXPECT_TRUE(found_at(&big, 3 * 16 + 8, 6, 9));
	close(ctl);
	close(fd);
	EXPECT_EQ(0, dmt_dm_remove(name));
	dmt_disk_close(&big);
}

TEST_HARNESS_MAIN
