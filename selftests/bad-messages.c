// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bad messages: each is refused with its errno, alone and behind good ones,
 * leaves no trace, and takes nothing with it that came before.
 */
#define _GNU_SOURCE
#include "lib/fixture.h"
#include <limits.h>
#include <sys/stat.h>

/* The block whose request is outstanding while the bad message comes. */
#define ASKED	5u

/**
 * struct bad - what a bad message is made of
 * @t: the fixture
 * @batch: it is appended to this
 * @r: a good answer to the request for block ASKED, to be spoilt
 */
struct bad {
	struct dmt *t;
	struct dmt_batch *batch;
	struct dmu_msg_map_response r;
};

FIXTURE_VARIANT(dm)
{
	int error;
	bool cut; /* nothing can follow it */
	void (*add)(struct bad *b);
};

static void add_response(struct bad *b)
{
	dmt_batch_add(b->batch, DM_USERSPACE_MAP_BLOCK_RESP, b->r.id_of_req,
		      &b->r, sizeof(b->r));
}

/* A message of that type and length, however much it should have. */
static void add_sized(struct bad *b, uint32_t type, uint32_t len)
{
	struct dmt_msg msg = { .response = b->r };

	dmt_batch_add(b->batch, type, b->r.id_of_req, msg.bytes, len);
}

/* What follows is right; only the header says something else. */
static void add_lying(struct bad *b, uint32_t type, uint32_t len)
{
	struct dmt_msg msg = {
		.header = { type, len, b->r.id_of_req },
		.response = b->r,
	};

	memcpy(b->batch->bytes + b->batch->len, &msg,
	       sizeof(msg.header) + sizeof(msg.response));
	b->batch->len += sizeof(msg.header) + sizeof(msg.response);
}

static void add_start(struct bad *b, size_t bytes)
{
	add_response(b);
	b->batch->len -= sizeof(struct dmu_msg_header) + sizeof(b->r) - bytes;
}

#define BAD(name, errno_, cut_, code)					\
	static void add_##name(struct bad *b)				\
	{								\
		code;							\
	}								\
	FIXTURE_VARIANT_ADD(dm, name)					\
	{								\
		.error = errno_, .cut = cut_, .add = add_##name,	\
	}

/* A mapping with one thing wrong. */
#define BAD_MAP(name, errno_, code)					\
	BAD(name, errno_, false, code; add_response(b))

BAD(type_0, EINVAL, false, add_sized(b, 0, 0));
BAD(type_0_like_a_response, EINVAL, false, add_sized(b, 0, 48));
BAD(type_7, EINVAL, false, add_sized(b, 7, 48));
BAD(type_huge, EINVAL, false, add_sized(b, UINT32_MAX, 48));
BAD(request_from_a_daemon, EINVAL, false,
    add_sized(b, DM_USERSPACE_MAP_BLOCK_REQ, 16));

BAD(run_from_a_daemon_that_wants_none, EINVAL, false,
    add_sized(b, DM_USERSPACE_MAP_RUN_RESP,
	      sizeof(struct dmu_msg_run_response)));
BAD(run_request_from_a_daemon, EINVAL, false,
    add_sized(b, DM_USERSPACE_MAP_RUN_REQ, 16));

BAD(version_short, EINVAL, false, add_sized(b, DM_USERSPACE_GET_VERSION, 4));
BAD(version_long, EINVAL, false, add_sized(b, DM_USERSPACE_GET_VERSION, 12));
BAD(version_empty, EINVAL, false, add_sized(b, DM_USERSPACE_GET_VERSION, 0));
BAD(response_short, EINVAL, false,
    add_sized(b, DM_USERSPACE_MAP_BLOCK_RESP, 47));
BAD(response_long, EINVAL, false,
    add_sized(b, DM_USERSPACE_MAP_BLOCK_RESP, 49));
BAD(response_empty, EINVAL, false,
    add_sized(b, DM_USERSPACE_MAP_BLOCK_RESP, 0));
BAD(response_huge, EINVAL, false,
    add_lying(b, DM_USERSPACE_MAP_BLOCK_RESP, UINT32_MAX));
BAD(response_half_huge, EINVAL, false,
    add_lying(b, DM_USERSPACE_MAP_BLOCK_RESP, 0x80000030));
BAD(failed_short, EINVAL, false, add_sized(b, DM_USERSPACE_MAP_FAILED, 44));
BAD(failed_long, EINVAL, false, add_sized(b, DM_USERSPACE_MAP_FAILED, 52));
BAD(invalidate_short, EINVAL, false,
    add_sized(b, DM_USERSPACE_MAP_INVALIDATE, 4));
BAD(invalidate_long, EINVAL, false,
    add_sized(b, DM_USERSPACE_MAP_INVALIDATE, 16));
BAD(status_short, EINVAL, false, add_sized(b, DM_USERSPACE_STATUS, 4));
BAD(status_long, EINVAL, false, add_sized(b, DM_USERSPACE_STATUS, 12));

static void add_status(struct bad *b, uint32_t status)
{
	struct dmu_msg_status s = { .id_of_op = b->r.id_of_req,
				    .status = status };

	dmt_batch_add(b->batch, DM_USERSPACE_STATUS, s.id_of_op, &s, sizeof(s));
}

BAD(status_0, EINVAL, false, add_status(b, 0));
BAD(status_of_an_invalidation, EINVAL, false,
    add_status(b, DM_USERSPACE_INVAL_COMPLETE));
BAD(status_of_no_invalidation, EINVAL, false,
    add_status(b, DM_USERSPACE_INVAL_FAILED));
BAD(status_104, EINVAL, false, add_status(b, 104));
BAD(status_huge, EINVAL, false, add_status(b, UINT32_MAX));

BAD(one_byte, EINVAL, true, add_start(b, 1));
BAD(header_cut, EINVAL, true, add_start(b, 11));
BAD(payload_missing, EINVAL, true, add_start(b, 12));
BAD(payload_cut, EINVAL, true, add_start(b, 59));

BAD_MAP(flag_256, EINVAL, b->r.flags |= 256);
BAD_MAP(flag_top, EINVAL, b->r.flags |= 1u << 31);
BAD(failed_with_unknown_flag, EINVAL, false,
    b->r.flags |= 1u << 20;
    dmt_batch_add(b->batch, DM_USERSPACE_MAP_FAILED, b->r.id_of_req, &b->r,
		  sizeof(b->r)));

static void name_mapped_device(struct bad *b)
{
	struct stat st;

	fstat(b->t->fd, &st);
	b->r.dst_maj = major(st.st_rdev);
	b->r.dst_min = minor(st.st_rdev);
}

BAD_MAP(device_none, ENODEV, b->r.dst_maj = b->r.dst_min = 0);
BAD_MAP(device_that_does_not_exist, ENODEV, b->r.dst_min = 255);
BAD_MAP(device_of_no_table, ENODEV, name_mapped_device(b));
BAD_MAP(device_absurd, ENODEV, b->r.dst_maj = UINT32_MAX;
	b->r.dst_min = UINT32_MAX);
BAD_MAP(device_major_wraps, ENODEV, b->r.dst_maj |= 1u << 12);
BAD_MAP(device_minor_wraps, ENODEV, b->r.dst_min |= 1u << 20);
BAD_MAP(device_major_wraps_far, ENODEV, b->r.dst_maj |= 1u << 31);
BAD_MAP(source_none, ENODEV, b->r.flags |= DMU_FLAG_COPY_FIRST);
BAD_MAP(source_absurd, ENODEV, b->r.flags |= DMU_FLAG_COPY_FIRST;
	b->r.src_maj = UINT32_MAX;
	b->r.src_min = UINT32_MAX);
BAD_MAP(source_wraps, ENODEV, b->r.flags |= DMU_FLAG_COPY_FIRST;
	b->r.src_maj = b->r.dst_maj;
	b->r.src_min = b->r.dst_min + (1u << 20));

/* Not the answer that is expected, so not the id either. */
BAD_MAP(block_first_outside, ERANGE, b->r.id_of_req = 0;
	b->r.org_block = DMT_BLOCKS);
BAD_MAP(block_wraps_to_0, ERANGE, b->r.id_of_req = 0;
	b->r.org_block = 1ull << 61);
BAD_MAP(block_largest, ERANGE, b->r.id_of_req = 0;
	b->r.org_block = UINT64_MAX);
BAD_MAP(other_block_than_asked, EINVAL, b->r.org_block = ASKED + 1);

BAD_MAP(place_first_outside, ERANGE, b->r.new_block = DMT_BLOCKS);
BAD_MAP(place_wraps_to_0, ERANGE, b->r.new_block = 1ull << 61);
BAD_MAP(place_turns_negative, ERANGE, b->r.new_block = 1ull << 60);
BAD_MAP(place_largest, ERANGE, b->r.new_block = UINT64_MAX);
BAD_MAP(place_wraps_by_offset, ERANGE, b->r.new_block = UINT64_MAX;
	b->r.offset = DMT_SECTORS);
BAD_MAP(place_before_0, ERANGE, b->r.new_block = 0; b->r.offset = -1);
BAD_MAP(place_far_before_0, ERANGE, b->r.new_block = 1;
	b->r.offset = INT64_MIN);
BAD_MAP(place_ends_outside, ERANGE, b->r.new_block = DMT_BLOCKS - 1;
	b->r.offset = 1);
BAD_MAP(place_overflows_by_offset, ERANGE, b->r.new_block = DMT_BLOCKS - 1;
	b->r.offset = INT64_MAX);
BAD_MAP(place_and_offset_overflow, ERANGE, b->r.new_block = (1ull << 60) - 1;
	b->r.offset = INT64_MAX);

BAD_MAP(sync_that_nobody_asked_for, EINVAL, b->r.id_of_req = 0;
	b->r.flags |= DMU_FLAG_SYNC);

static void add_invalidation(struct bad *b, uint64_t block)
{
	dmt_batch_add(b->batch, DM_USERSPACE_MAP_INVALIDATE, 1, &block,
		      sizeof(block));
}

BAD(invalidate_outside, ERANGE, false, add_invalidation(b, DMT_BLOCKS));
BAD(invalidate_wraps, ERANGE, false, add_invalidation(b, 1ull << 61));

static void push(struct bad *b, uint64_t block)
{
	struct dmt_map map = { .block = block, .to = block,
			       .dst = &b->t->origin, .flags = RO };

	dmt_batch_map(b->batch, 0, &map);
}

/*
 * A batch of @before good mappings, the bad message, and one more mapping.
 * Returns how many mappings were taken, or a negative errno.
 */
static ssize_t write_batch(struct bad *b, const FIXTURE_VARIANT(dm) *variant,
			   unsigned int block, unsigned int before)
{
	const size_t one = sizeof(struct dmu_msg_header) + sizeof(b->r);
	unsigned int i;
	ssize_t n;

	b->batch->len = 0;
	for (i = 0; i < before; i++)
		push(b, block + i);
	variant->add(b);
	if (!variant->cut)
		push(b, block + i);
	n = dmt_batch_write(b->t->ctl, b->batch);
	return n < 0 ? n : n % one ? -EPROTO : n / one;
}

TEST_F(dm, bad_message_is_refused_and_leaves_no_trace)
{
	struct dmt *t = &self->t;
	struct bad b = { .t = t, .batch = calloc(1, sizeof(*b.batch)) };
	struct dmt_map answer = { .block = ASKED, .to = ASKED,
				  .dst = &t->store, .flags = RW };
	struct dmt_io *io, *later;
	uint32_t id;

	dmt_disk_fill(&t->store, ASKED, 7);
	io = dmt_io_now(t->fd, DMT_READ, ASKED * DMT_BLOCK, DMT_BLOCK, 0);
	id = dmt_expect_request(t->ctl, ASKED, RO);
	ASSERT_NE(0, id);
	dmt_response(&b.r, id, &answer);

	EXPECT_EQ(-variant->error, write_batch(&b, variant, 10, 0));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_ERRORS));
	ASSERT_EQ(1, dmt_counter(t->name, DMT_SENT));

	EXPECT_EQ(1, write_batch(&b, variant, 20, 1));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_TRUE(dmt_read_matches(t->fd, 20, DMT_ORIGIN));
	EXPECT_EQ(2, write_batch(&b, variant, 30, 2));
	EXPECT_EQ(3, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_TRUE(dmt_read_matches(t->fd, 30, DMT_ORIGIN));
	EXPECT_TRUE(dmt_read_matches(t->fd, 31, DMT_ORIGIN));
	ASSERT_EQ(1, dmt_counter(t->name, DMT_SENT));
	EXPECT_FALSE(dmt_io_done(io));

	/* What came behind it was not taken either. */
	later = dmt_io_now(t->fd, DMT_READ, 21 * DMT_BLOCK, DMT_BLOCK, 0);
	ASSERT_EQ(0, dmt_fail(t->ctl, dmt_expect_request(t->ctl, 21, RO)));
	EXPECT_EQ(-EIO, dmt_io_result(later));

	/* The request goes on as if nothing had happened. */
	ASSERT_EQ(0, dmt_map(t->ctl, id, &answer));
	ASSERT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, 7));
	dmt_io_free(io);
	EXPECT_TRUE(dmt_barrier(t->ctl));
	EXPECT_TRUE(dmt_silent(t->ctl));
	free(b.batch);
}

TEST_HARNESS_MAIN
