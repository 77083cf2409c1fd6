// SPDX-License-Identifier: LGPL-2.1-or-later
/* What a policy says, as the kernel hears it. */
#include "fake.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

#include <linux/dm-userspace.h>

#include "internal.h"

#define RD DMU_FLAG_RD
#define WR DMU_FLAG_WR

/* Block n of the mapped device is block n of device 1, writable. */
static void map_same(struct fake *fake, const struct dmu_request *req)
{
	const struct dmu_mapping m = {
		.block = req->block,
		.dst = makedev(8, 16),
		.dst_sector = req->block * 8,
		.flags = DMU_MAP_WRITE,
	};

	assert_int_equal(dmu_map(fake->dmu, req->id, &m), 0);
}

static void one_write_a_batch(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msgs[100], answers[100];
	size_t i;

	fake->on_map = map_same;
	for (i = 0; i < 100; i++)
		msgs[i] = msg_request(1 + i, 1000 - i, i % 2 ? RD | WR : RD);
	fake_send(fake, msgs, 100);
	assert_int_equal(dmu_dispatch(fake->dmu), 100);
	assert_int_equal(fake->writes, 1);
	assert_int_equal(fake_receive(fake, answers, 100), 100);
	for (i = 0; i < 100; i++) {
		assert_int_equal(answers[i].type, DM_USERSPACE_MAP_BLOCK_RESP);
		assert_int_equal(answers[i].response.id_of_req, 1 + i);
		assert_int_equal(answers[i].response.org_block, 1000 - i);
		assert_int_equal(answers[i].response.new_block, 1000 - i);
	}
	fake_nothing_came(fake);
}

/* As many requests as one read can bring, and still one write. */
static void fullest_batch(void **state)
{
	static struct dmui_msg msgs[585], answers[585];
	struct fake *fake = *state;
	size_t i;

	fake->on_map = map_same;
	for (i = 0; i < 585; i++)
		msgs[i] = msg_request(1 + i, i, RD);
	fake_send(fake, msgs, 585);
	assert_int_equal(dmu_dispatch(fake->dmu), 585);
	assert_int_equal(fake->writes, 1);
	assert_int_equal(fake_receive(fake, answers, 585), 585);
}

/* Ask for @m->block, map it, and return what the kernel hears. */
static struct dmu_msg_map_response mapped(struct fake *fake,
					  const struct dmu_mapping *m)
{
	struct dmui_msg msg;

	fake_request(fake, 7, m->block, RD | WR);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_int_equal(dmu_map(fake->dmu, 7, m), 0);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	assert_int_equal(msg.type, DM_USERSPACE_MAP_BLOCK_RESP);
	assert_int_equal(msg.response.id_of_req, 7);
	assert_true(msg.response.org_block == m->block);
	return msg.response;
}

static void plain_mapping(void **state)
{
	const struct dmu_mapping m = {
		.block = 5,
		.dst = makedev(8, 16),
		.dst_sector = 80,
		.src = makedev(1, 1),
	};
	struct dmu_msg_map_response resp = mapped(*state, &m);

	assert_int_equal(resp.new_block, 10);
	assert_int_equal(resp.offset, 0);
	assert_int_equal(resp.flags, RD);
	assert_int_equal(resp.dst_maj, 8);
	assert_int_equal(resp.dst_min, 16);
	/* Not a copy, so the source is nobody's business. */
	assert_int_equal(resp.src_maj, 0);
	assert_int_equal(resp.src_min, 0);
}

static void all_flags(void **state)
{
	const struct dmu_mapping m = {
		.block = 5,
		.dst = makedev(0xfff, 0xfffff),
		.src = makedev(8, 16),
		.flags = DMU_MAP_WRITE | DMU_MAP_COPY | DMU_MAP_TEMPORARY |
			 DMU_MAP_SYNC,
	};
	struct dmu_msg_map_response resp = mapped(*state, &m);

	assert_int_equal(resp.flags, RD | WR | DMU_FLAG_COPY_FIRST |
			 DMU_FLAG_TEMPORARY | DMU_FLAG_SYNC);
	assert_int_equal(resp.dst_maj, 0xfff);
	assert_int_equal(resp.dst_min, 0xfffff);
	assert_int_equal(resp.src_maj, 8);
	assert_int_equal(resp.src_min, 16);
}

static void each_flag(void **state)
{
	static const unsigned int flags[][2] = {
		{ DMU_MAP_WRITE, WR },
		{ DMU_MAP_COPY, DMU_FLAG_COPY_FIRST },
		{ DMU_MAP_TEMPORARY, DMU_FLAG_TEMPORARY },
		{ DMU_MAP_SYNC, DMU_FLAG_SYNC },
	};
	struct dmu_mapping m = { .dst = makedev(8, 0), .src = makedev(8, 0) };
	size_t i;

	for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		m.flags = flags[i][0];
		assert_int_equal(mapped(*state, &m).flags, RD | flags[i][1]);
	}
}

/* dst = (new_block << shift) + offset, whatever the sector. */
static void places(void **state)
{
	static const uint64_t sectors[] = {
		0, 1, 7, 8, 9, 0xffffffff, 0x100000000, 0x1234567890abcdef,
		INT64_MAX, UINT64_MAX - 7, UINT64_MAX,
	};
	struct dmu_mapping m = { .block = UINT64_MAX, .dst = makedev(8, 0) };
	struct dmu_msg_map_response resp;
	size_t i;

	for (i = 0; i < sizeof(sectors) / sizeof(sectors[0]); i++) {
		m.dst_sector = sectors[i];
		resp = mapped(*state, &m);
		assert_true(resp.offset >= 0 && resp.offset < 8);
		assert_true((resp.new_block << 3) + resp.offset == sectors[i]);
	}
}

static void fails(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msg;

	fake_request(fake, 9, 0x123456789a, RD | WR);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_int_equal(dmu_fail(fake->dmu, 9), 0);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	assert_int_equal(msg.type, DM_USERSPACE_MAP_FAILED);
	assert_int_equal(msg.response.id_of_req, 9);
	assert_true(msg.response.org_block == 0x123456789a);
	assert_int_equal(msg.response.flags, 0);
}

/* A request is answered once, by its own block. */
static void answered_once(void **state)
{
	struct dmu_mapping m = { .block = 5, .dst = makedev(8, 0) };
	struct fake *fake = *state;

	assert_int_equal(dmu_map(fake->dmu, 7, &m), -ENOENT);
	assert_int_equal(dmu_fail(fake->dmu, 7), -ENOENT);
	assert_int_equal(dmu_fail(fake->dmu, 0), -ENOENT);
	fake_request(fake, 7, 5, RD);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	m.block = 6;
	assert_int_equal(dmu_map(fake->dmu, 7, &m), -EINVAL);
	assert_string_equal(dmu_strerror(fake->dmu),
			    "request 7 is for block 5, not 6");
	m.block = 5;
	assert_int_equal(dmu_map(fake->dmu, 7, &m), 0);
	assert_int_equal(dmu_map(fake->dmu, 7, &m), -ENOENT);
	assert_int_equal(dmu_fail(fake->dmu, 7), -ENOENT);
	/* Mapped without SYNC: there is nothing to acknowledge. */
	assert_int_equal(dmu_sync_done(fake->dmu, 7), -ENOENT);
}

static void bad_mappings(void **state)
{
	struct dmu_mapping m = { .block = 5, .dst = makedev(8, 0) };
	struct fake *fake = *state;

	fake_request(fake, 7, 5, RD);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	m.flags = 64;
	assert_int_equal(dmu_map(fake->dmu, 7, &m), -EINVAL);
	assert_int_equal(dmu_push(fake->dmu, &m), -EINVAL);
	m.flags = DMU_MAP_COPY;
	assert_int_equal(dmu_map(fake->dmu, 7, &m), -EINVAL);
	assert_int_equal(dmu_push(fake->dmu, &m), -EINVAL);
	m.flags = DMU_MAP_SYNC;
	assert_int_equal(dmu_push(fake->dmu, &m), -EINVAL);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	fake_nothing_came(fake);
	/* None of this has answered the request. */
	m.flags = 0;
	assert_int_equal(dmu_map(fake->dmu, 7, &m), 0);
}

static void push(void **state)
{
	const struct dmu_mapping m = {
		.block = 99, .dst = makedev(8, 0), .dst_sector = 17,
	};
	struct fake *fake = *state;
	struct dmui_msg msg;

	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	fake_nothing_came(fake);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	assert_int_equal(msg.type, DM_USERSPACE_MAP_BLOCK_RESP);
	assert_int_equal(msg.response.id_of_req, 0);
	assert_int_equal(msg.response.org_block, 99);
	assert_int_equal(msg.response.new_block, 2);
	assert_int_equal(msg.response.offset, 1);
}

/* Two at once, of which the second is done first; answers name the block. */
static void invalidate(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msgs[3];

	assert_int_equal(dmu_invalidate(fake->dmu, 1ull << 40), 0);
	assert_int_equal(dmu_invalidate(fake->dmu, 6), 0);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_int_equal(fake->writes, 1);
	assert_int_equal(fake_receive(fake, msgs, 3), 2);
	assert_int_equal(msgs[0].type, DM_USERSPACE_MAP_INVALIDATE);
	assert_true(msgs[0].invalidate.org_block == 1ull << 40);
	assert_int_equal(msgs[1].invalidate.org_block, 6);
	assert_int_not_equal(msgs[0].id, 0);
	assert_int_not_equal(msgs[0].id, msgs[1].id);
	fake_status(fake, msgs[1].id, DM_USERSPACE_INVAL_FAILED);
	fake_status(fake, msgs[0].id, DM_USERSPACE_INVAL_COMPLETE);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_string_equal(fake->events,
			    "invalidated:6:no batch invalidated:1099511627776:yes batch ");
	/* It has been answered: a second answer is nonsense. */
	fake_status(fake, msgs[0].id, DM_USERSPACE_INVAL_COMPLETE);
	assert_int_equal(dmu_dispatch(fake->dmu), -EPROTO);
}

/* Ids of invalidations come round again; 0 and those in use are left out. */
static void invalidation_ids(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msgs[3];

	assert_int_equal(dmu_invalidate(fake->dmu, 10), 0);
	fake->dmu->last_invalidation = UINT32_MAX - 1;
	assert_int_equal(dmu_invalidate(fake->dmu, 20), 0);
	assert_int_equal(dmu_invalidate(fake->dmu, 30), 0);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_int_equal(fake_receive(fake, msgs, 3), 3);
	assert_int_equal(msgs[0].id, 1);
	assert_int_equal(msgs[1].id, UINT32_MAX);
	assert_int_equal(msgs[2].id, 2);
}

static void sync_done(struct fake *fake, uint32_t id)
{
	assert_int_equal(dmu_sync_done(fake->dmu, id), 0);
}

static void map_sync(struct fake *fake, const struct dmu_request *req)
{
	const struct dmu_mapping m = {
		.block = req->block,
		.dst = makedev(8, 0),
		.flags = DMU_MAP_WRITE | DMU_MAP_SYNC,
	};

	assert_int_equal(dmu_map(fake->dmu, req->id, &m), 0);
}

static void sync(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msg, both[] = {
		msg_request(70, 1ull << 50, RD | WR),
		msg_request(71, 3, RD | WR),
	}, reports[] = {
		msg_status(71, DM_USERSPACE_SYNC_COMPLETE),
		msg_status(70, DM_USERSPACE_SYNC_COMPLETE),
	}, acks[2];

	fake->on_map = map_sync;
	fake_send(fake, both, 2);
	assert_int_equal(dmu_dispatch(fake->dmu), 2);
	assert_int_equal(fake_receive(fake, acks, 2), 2);
	/* Answered is answered, though the ids are still known. */
	assert_int_equal(dmu_fail(fake->dmu, 70), -ENOENT);
	/* Not yet: the kernel holds nothing. */
	assert_int_equal(dmu_sync_done(fake->dmu, 70), -ENOENT);
	fake_reset(fake);
	fake->on_sync = sync_done;
	fake_send(fake, reports, 2);
	assert_int_equal(dmu_dispatch(fake->dmu), 2);
	assert_string_equal(fake->events,
			    "sync:71:3 sync:70:1125899906842624 batch ");
	assert_int_equal(fake->writes, 1);
	assert_int_equal(fake_receive(fake, acks, 2), 2);
	msg = reports[0];
	assert_int_equal(acks[0].type, DM_USERSPACE_STATUS);
	assert_int_equal(acks[0].id, msg.id);
	assert_int_equal(acks[0].status.id_of_op, msg.id);
	assert_int_equal(acks[0].status.status, DM_USERSPACE_SYNC_COMPLETE);
	assert_int_equal(acks[1].status.id_of_op, 70);
	assert_int_equal(dmu_sync_done(fake->dmu, 70), -ENOENT);
}

/* The whole group of a batch is acknowledged in the batch callback. */
static void ack_group(struct fake *fake)
{
	uint32_t id;

	for (id = 1; id <= 3; id++)
		assert_int_equal(dmu_sync_done(fake->dmu, id), 0);
}

static void group_commit(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msgs[3], answers[3];
	uint32_t id;

	fake->on_map = map_sync;
	for (id = 1; id <= 3; id++)
		msgs[id - 1] = msg_request(id, id, RD | WR);
	fake_send(fake, msgs, 3);
	assert_int_equal(dmu_dispatch(fake->dmu), 3);
	assert_int_equal(fake_receive(fake, answers, 3), 3);
	fake_reset(fake);
	fake->on_batch = ack_group;
	for (id = 1; id <= 3; id++)
		msgs[id - 1] = msg_status(id, DM_USERSPACE_SYNC_COMPLETE);
	fake_send(fake, msgs, 3);
	assert_int_equal(dmu_dispatch(fake->dmu), 3);
	assert_string_equal(fake->events, "sync:1:1 sync:2:2 sync:3:3 batch ");
	assert_int_equal(fake->writes, 1);
	assert_int_equal(fake_receive(fake, answers, 3), 3);
}

/* An id that never had its report is the kernel's to use again. */
static void sync_id_again(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msg;

	fake->on_map = map_sync;
	fake_request(fake, 7, 1, RD | WR);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	fake_request(fake, 7, 2, RD | WR);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	fake_status(fake, 7, DM_USERSPACE_SYNC_COMPLETE);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_non_null(strstr(fake->events, "sync:7:2 "));
	fake_receive(fake, &msg, 1);
}

/* Nobody would acknowledge it, and its I/O would hang. */
static void sync_needs_callback(void **state)
{
	const struct dmu_mapping m = {
		.block = 5, .dst = makedev(8, 0), .flags = DMU_MAP_SYNC,
	};
	struct fake *fake = *state;

	fake->dmu->ops.sync = NULL;
	fake_request(fake, 7, 5, RD | WR);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_int_equal(dmu_map(fake->dmu, 7, &m), -EINVAL);
}

static void counts(void **state)
{
	const struct dmu_mapping m = { .block = 50, .dst = makedev(8, 0) };
	struct fake *fake = *state;
	struct dmu_counters counters;

	fake->on_map = map_sync;
	fake_request(fake, 1, 10, RD | WR);
	fake_request(fake, 2, 20, RD | WR);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	fake->on_map = NULL;
	fake->on_sync = sync_done;
	fake_status(fake, 1, DM_USERSPACE_SYNC_COMPLETE);
	fake_request(fake, 3, 30, RD);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_int_equal(dmu_fail(fake->dmu, 3), 0);
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	dmu_counters(fake->dmu, &counters);
	assert_int_equal(counters.requests, 3);
	assert_int_equal(counters.mappings, 3);
	assert_int_equal(counters.failed, 1);
	assert_int_equal(counters.syncs, 1);
	assert_int_equal(counters.refused, 0);
}

#define with_fake(test) \
	cmocka_unit_test_setup_teardown(test, fake_setup, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_fake(one_write_a_batch),
		with_fake(fullest_batch),
		with_fake(plain_mapping),
		with_fake(all_flags),
		with_fake(each_flag),
		with_fake(places),
		with_fake(fails),
		with_fake(answered_once),
		with_fake(bad_mappings),
		with_fake(push),
		with_fake(invalidate),
		with_fake(invalidation_ids),
		with_fake(sync),
		with_fake(group_commit),
		with_fake(sync_id_again),
		with_fake(sync_needs_callback),
		with_fake(counts),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
