// SPDX-License-Identifier: LGPL-2.1-or-later
/* Runs of blocks: asked for, answered, pushed, refused. */
#include "fake.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include <linux/dm-userspace.h>

#include "internal.h"

#define RD DMU_FLAG_RD
#define WR DMU_FLAG_WR

/* The kernel's side of a handshake: it has this version, and grants that. */
static void shake(struct fake *fake, uint32_t version, uint64_t grants)
{
	struct dmui_msg msg = msg_version(DMUI_VERSION_ID, DMUI_VERSION,
					  version);

	fake_send(fake, &msg, 1);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	if (version >= DMUI_KERNEL_EXTENSIONS) {
		assert_int_equal(fake_receive(fake, &msg, 1), 1);
		assert_int_equal(msg.type, DM_USERSPACE_EXTENSIONS);
		assert_true(msg.extensions.bits & DMU_EXT_RUNS);
		msg.extensions.bits = grants;
		fake_send(fake, &msg, 1);
	}
	assert_int_equal(dmu_handshake(fake->dmu, 10000), 0);
	assert_int_equal(dmu_has_runs(fake->dmu), !!(grants & DMU_EXT_RUNS));
	fake_reset(fake);
}

static int setup(void **state)
{
	int err = fake_setup(state);

	if (!err)
		shake(*state, 1u << 16 | 2u << 8, DMU_EXT_RUNS);
	return err;
}

/* Of last year: it knows extensions, but not this one. */
static int setup_1_1(void **state)
{
	int err = fake_setup(state);

	if (!err)
		shake(*state, 1u << 16 | 1u << 8, DMU_EXT_REPORTS);
	return err;
}

static int setup_1_0(void **state)
{
	int err = fake_setup(state);

	if (!err)
		shake(*state, 1u << 16, 0);
	return err;
}

/* Block n lives at block n of device 1, but for a few sectors. */
static struct dmu_mapping place(uint64_t block, unsigned int flags)
{
	return (struct dmu_mapping){
		.block = block,
		.dst = makedev(8, 16),
		.dst_sector = block * 8 + 3,
		.src = makedev(8, 0),
		.flags = flags,
	};
}

static void map_same(struct fake *fake, const struct dmu_request *req)
{
	const struct dmu_mapping m = place(req->block, DMU_MAP_WRITE);

	assert_int_equal(dmu_map(fake->dmu, req->id, &m), 0);
}

static void ask_run(struct fake *fake, uint32_t id, uint64_t block,
		    uint32_t count)
{
	const struct dmui_msg msg = {
		.type = DM_USERSPACE_MAP_RUN_REQ,
		.id = id,
		.run_request = { .block = block, .count = count,
				 .flags = RD | WR },
	};

	fake_send(fake, &msg, 1);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
}

static void push(struct fake *fake, uint64_t block, unsigned int flags)
{
	const struct dmu_mapping m = place(block, flags);

	assert_int_equal(dmu_push(fake->dmu, &m), 0);
}

/* All that came of one write, one word each. */
static const char *heard(struct fake *fake)
{
	static struct dmui_msg msgs[1200];
	static char words[4096];
	size_t n = fake_receive(fake, msgs, 1200), i;
	char *to = words;

	for (i = 0; i < n; i++) {
		const struct dmui_msg *m = &msgs[i];

		assert_true(to < words + sizeof(words) - 100);
		if (m->type == DM_USERSPACE_MAP_RUN_RESP)
			to += sprintf(to, "run:%u:%llu+%llu ", m->id,
				      m->run_response.block,
				      m->run_response.count);
		else if (m->type == DM_USERSPACE_MAP_BLOCK_RESP)
			to += sprintf(to, "map:%u:%llu ", m->id,
				      m->response.org_block);
		else if (m->type == DM_USERSPACE_MAP_FAILED)
			to += sprintf(to, "fail:%u:%llu ", m->id,
				      m->response.org_block);
		else
			to += sprintf(to, "type%u ", m->type);
	}
	return words;
}

static void each_block_of_a_run_is_asked_for(void **state)
{
	struct fake *fake = *state;

	ask_run(fake, 7, 100, 3);
	assert_string_equal(fake->events,
			    "map:7:100:rw map:8:101:rw map:9:102:rw batch ");
	assert_int_equal(fake->dmu->counters.requests, 3);
	fake_nothing_came(fake);
}

static void a_run_is_answered_by_one_message(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msg;

	fake->on_map = map_same;
	ask_run(fake, 7, 100, 64);
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	assert_int_equal(msg.type, DM_USERSPACE_MAP_RUN_RESP);
	assert_int_equal(msg.id, 7);
	assert_int_equal(msg.run_response.id_of_req, 7);
	assert_int_equal(msg.run_response.block, 100);
	assert_int_equal(msg.run_response.count, 64);
	assert_int_equal(msg.run_response.dst_sector, 803);
	assert_int_equal(msg.run_response.src_sector, 0);
	assert_int_equal(msg.run_response.flags, RD | WR);
	assert_int_equal(msg.run_response.dst_maj, 8);
	assert_int_equal(msg.run_response.dst_min, 16);
	assert_int_equal(msg.run_response.src_min, 0);
	assert_int_equal(fake->dmu->counters.mappings, 64);
	assert_int_equal(fake->dmu->requests.used, 0);
}

/* Requests of their own, too, where they follow each other. */
static void single_requests_are_answered_by_one_message(void **state)
{
	const struct dmui_msg msgs[] = {
		msg_request(5, 50, RD), msg_request(6, 51, RD),
		msg_request(7, 53, RD), msg_request(9, 54, RD),
		msg_request(10, 55, RD),
	};
	struct fake *fake = *state;

	fake->on_map = map_same;
	fake_send(fake, msgs, 5);
	assert_int_equal(dmu_dispatch(fake->dmu), 5);
	assert_string_equal(heard(fake), "run:5:50+2 map:7:53 run:9:54+2 ");
}

static void map_backwards(struct fake *fake)
{
	struct dmu_request req;

	for (req.id = 9; req.id >= 7; req.id--) {
		req.block = 93 + req.id;
		map_same(fake, &req);
	}
}

/* Nothing is sorted: the policy's order is the kernel's. */
static void order_is_kept(void **state)
{
	struct fake *fake = *state;

	fake->on_batch = map_backwards;
	ask_run(fake, 7, 100, 3);
	assert_string_equal(heard(fake), "map:9:102 map:8:101 map:7:100 ");
}

static void not_what_differs(void **state)
{
	struct fake *fake = *state;
	struct dmu_mapping m = place(12, 0);

	push(fake, 1, 0);
	push(fake, 2, 0);
	push(fake, 3, DMU_MAP_WRITE);
	push(fake, 4, DMU_MAP_TEMPORARY | DMU_MAP_WRITE);
	push(fake, 6, DMU_MAP_TEMPORARY | DMU_MAP_WRITE);
	push(fake, 11, 0);
	m.dst_sector++;
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	m = place(13, 0);
	m.dst = makedev(8, 32);
	m.dst_sector++;
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	/* The same block twice is no run. */
	push(fake, 20, 0);
	push(fake, 20, 0);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_string_equal(heard(fake),
			    "run:0:1+2 map:0:3 map:0:4 map:0:6 map:0:11 map:0:12 map:0:13 map:0:20 map:0:20 ");
}

/* What came between them must stay there. */
static void not_across_another_message(void **state)
{
	struct fake *fake = *state;

	push(fake, 1, 0);
	assert_int_equal(dmu_invalidate(fake->dmu, 2), 0);
	push(fake, 2, 0);
	push(fake, 3, 0);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_string_equal(heard(fake), "map:0:1 type5 run:0:2+2 ");
	/* Nor with what has been written. */
	push(fake, 4, 0);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_string_equal(heard(fake), "map:0:4 ");
}

/* One that was asked for and one that was not. */
static void not_pushes_and_answers(void **state)
{
	struct fake *fake = *state;

	ask_run(fake, 7, 100, 1);
	push(fake, 99, DMU_MAP_WRITE);
	map_same(fake, &(struct dmu_request){ .id = 7, .block = 100 });
	push(fake, 101, DMU_MAP_WRITE);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_string_equal(heard(fake), "map:0:99 map:7:100 map:0:101 ");
}

static void copies_with_their_sources(void **state)
{
	struct fake *fake = *state;
	struct dmu_mapping m;
	struct dmui_msg msg;
	uint32_t i;

	ask_run(fake, 7, 100, 4);
	for (i = 0; i < 4; i++) {
		m = place(100 + i, DMU_MAP_COPY_FROM | DMU_MAP_SYNC);
		m.src_sector = 40 + i * 8;
		assert_int_equal(dmu_map(fake->dmu, 7 + i, &m), 0);
	}
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	assert_int_equal(msg.run_response.count, 4);
	assert_int_equal(msg.run_response.src_sector, 40);
	assert_int_equal(msg.run_response.src_maj, 8);
	assert_int_equal(msg.run_response.flags,
			 RD | DMU_FLAG_COPY_FIRST | DMU_FLAG_SYNC);
	/* Each is reported, and acknowledged, by itself. */
	fake_status(fake, 9, DM_USERSPACE_SYNC_COMPLETE);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_non_null(strstr(fake->events, "sync:9:102 "));
	assert_int_equal(dmu_sync_done(fake->dmu, 9), 0);
	assert_int_equal(dmu_sync_done(fake->dmu, 8), -ENOENT);
}

/* From the same block is said as ever; from elsewhere, or of zeroes, as a run. */
static void copies_of_one_block(void **state)
{
	struct fake *fake = *state;
	struct dmu_mapping m = place(5, DMU_MAP_COPY_FROM);
	struct dmui_msg msg;

	push(fake, 4, DMU_MAP_COPY);
	m.src_sector = 40;
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	m.src_sector = 41;
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_string_equal(heard(fake), "map:0:4 map:0:5 run:0:5+1 ");
	m.src = 0;
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	assert_int_equal(msg.run_response.flags, RD | DMU_FLAG_COPY_FIRST);
	assert_int_equal(msg.run_response.src_maj, 0);
	assert_int_equal(msg.run_response.src_sector, 0);
	m.flags = DMU_MAP_COPY;
	assert_int_equal(dmu_push(fake->dmu, &m), -EINVAL);
}

static void zeroes(void **state)
{
	struct dmu_mapping m = place(5, DMU_MAP_ZERO);
	static const unsigned int bad[] = {
		DMU_MAP_WRITE, DMU_MAP_COPY, DMU_MAP_COPY_FROM, DMU_MAP_SYNC,
	};
	struct fake *fake = *state;
	struct dmui_msg msg;
	size_t i;

	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	m.block++;
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	assert_int_equal(msg.type, DM_USERSPACE_MAP_RUN_RESP);
	assert_int_equal(msg.run_response.count, 2);
	assert_int_equal(msg.run_response.flags, RD | DMU_FLAG_ZERO);
	assert_int_equal(msg.run_response.dst_maj, 0);
	assert_int_equal(msg.run_response.dst_sector, 0);
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		m.flags = DMU_MAP_ZERO | bad[i];
		assert_int_equal(dmu_push(fake->dmu, &m), -EINVAL);
	}
}

static void push_run(void **state)
{
	struct fake *fake = *state;
	struct dmu_mapping m = place(0, DMU_MAP_WRITE);

	assert_int_equal(dmu_push_run(fake->dmu, &m, 126), 0);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_string_equal(heard(fake), "run:0:0+126 ");
	assert_int_equal(fake->dmu->counters.mappings, 126);
	assert_int_equal(dmu_push_run(fake->dmu, &m, 127), -ERANGE);
	assert_int_equal(dmu_push_run(fake->dmu, &m, 0), -ERANGE);
	m.block = UINT64_MAX;
	assert_int_equal(dmu_push_run(fake->dmu, &m, 2), -ERANGE);
	m = place(125, DMU_MAP_WRITE);
	assert_int_equal(dmu_push_run(fake->dmu, &m, 2), -ERANGE);
	m.flags |= DMU_MAP_SYNC;
	assert_int_equal(dmu_push_run(fake->dmu, &m, 1), -EINVAL);
	/* To say one of these again would be to copy again. */
	m = place(10, DMU_MAP_COPY);
	assert_int_equal(dmu_push_run(fake->dmu, &m, 3), 0);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_string_equal(heard(fake), "map:0:10 map:0:11 map:0:12 ");
}

/* --- refusal --- */

static void push_blocks(struct fake *fake, uint64_t block, unsigned int count)
{
	const struct dmu_mapping m = place(block, DMU_MAP_WRITE);

	assert_int_equal(dmu_push_run(fake->dmu, &m, count), 0);
}

static void first_of_a_run_refused(void **state)
{
	struct fake *fake = *state;

	/* 8 blocks; 4; 2; 1: that is it. Then one, two, and the rest. */
	fake_refuse(fake, 1, ERANGE);
	fake_refuse(fake, 2, ERANGE);
	fake_refuse(fake, 3, ERANGE);
	fake_refuse(fake, 4, ERANGE);
	push_blocks(fake, 10, 8);
	push(fake, 50, 0);
	assert_int_equal(dmu_flush(fake->dmu), -ERANGE);
	assert_string_equal(fake->events, "refused:0:10:ERANGE ");
	assert_string_equal(heard(fake), "run:0:11+1 ");
	assert_string_equal(heard(fake), "run:0:12+2 ");
	assert_string_equal(heard(fake), "run:0:14+4 ");
	assert_string_equal(heard(fake), "map:0:50 ");
	fake_nothing_came(fake);
	assert_int_equal(fake->dmu->counters.mappings, 8);
	assert_int_equal(fake->dmu->counters.refused, 1);
	assert_non_null(strstr(dmu_strerror(fake->dmu),
			       "refused to map block 10 to device 8:16 sector 83"));
}

static void last_of_a_run_refused(void **state)
{
	struct fake *fake = *state;

	/* 8; 4 is taken; 4; 2 is taken; 2; 1 is taken; 1. */
	fake_refuse(fake, 1, ERANGE);
	fake_refuse(fake, 3, ERANGE);
	fake_refuse(fake, 5, ERANGE);
	fake_refuse(fake, 7, ERANGE);
	push_blocks(fake, 10, 8);
	assert_int_equal(dmu_flush(fake->dmu), -ERANGE);
	assert_string_equal(fake->events, "refused:0:17:ERANGE ");
	assert_string_equal(heard(fake), "run:0:10+4 ");
	assert_string_equal(heard(fake), "run:0:14+2 ");
	assert_string_equal(heard(fake), "run:0:16+1 ");
	fake_nothing_came(fake);
}

/* It was short of memory for a moment: all is well, and nobody is told. */
static void refused_once(void **state)
{
	struct fake *fake = *state;

	fake_refuse(fake, 1, ENOMEM);
	push_blocks(fake, 10, 7);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_string_equal(fake->events, "");
	assert_string_equal(heard(fake), "run:0:10+3 ");
	assert_string_equal(heard(fake), "run:0:13+4 ");
	assert_int_equal(fake->dmu->counters.mappings, 7);
	assert_int_equal(fake->dmu->counters.refused, 0);
}

/* Not even for one block: what nobody waits for is not tried block by block. */
static void no_memory_for_what_nobody_asked_for(void **state)
{
	struct fake *fake = *state;
	unsigned int i;

	/* 32; 16 is taken; 16; 8; 4; 2; 1. */
	fake_refuse(fake, 1, ENOMEM);
	for (i = 3; i <= 7; i++)
		fake_refuse(fake, i, ENOMEM);
	push_blocks(fake, 10, 32);
	push_blocks(fake, 60, 2);
	assert_int_equal(dmu_flush(fake->dmu), -ENOMEM);
	assert_string_equal(fake->events, "refused:0:26:ENOMEM ");
	assert_string_equal(heard(fake), "run:0:10+16 ");
	assert_string_equal(heard(fake), "run:0:60+2 ");
	fake_nothing_came(fake);
	assert_int_equal(fake->dmu->counters.mappings, 18);
	assert_int_equal(fake->dmu->counters.refused, 1);
}

/* Of answers the requests are failed, one by one, before anything else. */
static void refused_answers_fail_their_requests(void **state)
{
	struct fake *fake = *state;

	fake->on_map = map_same;
	fake_refuse(fake, 1, EINVAL);
	fake_refuse(fake, 2, EINVAL);
	fake_refuse(fake, 5, EINVAL);
	ask_run(fake, 7, 100, 3);
	/* 3; 1: failed. 1; 2... */
	assert_non_null(strstr(fake->events, "batch refused:7:100:EINVAL "));
	assert_string_equal(heard(fake), "fail:7:100 ");
	assert_string_equal(heard(fake), "run:8:101+1 ");
	assert_non_null(strstr(fake->events, "refused:9:102:EINVAL "));
	assert_string_equal(heard(fake), "fail:9:102 ");
	fake_nothing_came(fake);
	assert_int_equal(fake->dmu->requests.used, 0);
	assert_int_equal(fake->dmu->counters.failed, 2);
	assert_int_equal(fake->dmu->counters.mappings, 1);
}

/* All of many: there is no room for as many failures at a time. */
static void refuse_everything(struct fake *fake, uint32_t id, uint64_t block)
{
	(void)id;
	(void)block;
	fake_reset(fake);
	fake_refuse(fake, 2, EINVAL); /* behind the failure */
}

static void all_of_a_run_refused(void **state)
{
	struct fake *fake = *state;
	uint32_t i;

	fake->on_map = map_same;
	fake->on_refused = refuse_everything;
	for (i = 1; i <= 7; i++)
		fake_refuse(fake, i, EINVAL);
	ask_run(fake, 7, 0, 64);
	for (i = 0; i < 64; i++) {
		char want[40];

		sprintf(want, "fail:%u:%u ", 7 + i, i);
		assert_string_equal(heard(fake), want);
	}
	fake_nothing_came(fake);
	assert_int_equal(fake->dmu->counters.failed, 64);
	assert_int_equal(fake->dmu->counters.refused, 64);
	assert_int_equal(fake->dmu->counters.mappings, 0);
	assert_int_equal(fake->dmu->requests.used, 0);
}

/* The failure of a part's request is refused as well: the rest goes on. */
static void failure_of_a_part_refused(void **state)
{
	struct fake *fake = *state;

	fake->on_map = map_same;
	fake_refuse(fake, 1, EINVAL);
	fake_refuse(fake, 2, EINVAL);
	fake_refuse(fake, 3, EINVAL);
	ask_run(fake, 7, 100, 3);
	assert_string_equal(heard(fake), "run:8:101+1 ");
	assert_string_equal(heard(fake), "run:9:102+1 ");
	fake_nothing_came(fake);
	assert_int_equal(fake->dmu->counters.failed, 0);
}

/* What the policy says to a refusal comes behind the rest of the run. */
static void push_elsewhere(struct fake *fake, uint32_t id, uint64_t block)
{
	(void)id;
	push(fake, block + 50, 0);
	assert_int_equal(dmu_flush(fake->dmu), 0);
}

static void answer_in_callback(void **state)
{
	struct fake *fake = *state;

	fake->on_refused = push_elsewhere;
	fake_refuse(fake, 1, EINVAL);
	fake_refuse(fake, 2, EINVAL);
	push_blocks(fake, 10, 2);
	assert_int_equal(dmu_flush(fake->dmu), -EINVAL);
	assert_string_equal(heard(fake), "run:0:11+1 ");
	assert_string_equal(heard(fake), "map:0:60 ");
	fake_nothing_came(fake);
}

/* The transport stops in the middle of it, with the buffer full, and goes on. */
static void stopped_in_the_middle(void **state)
{
	static struct dmui_msg msgs[1200];
	struct fake *fake = *state;
	unsigned int i;
	int err;

	fake_refuse(fake, 1, EINVAL);
	fake_refuse(fake, 3, EIO);
	push_blocks(fake, 10, 8);
	assert_int_equal(dmu_flush(fake->dmu), -EIO);
	assert_int_equal(dmu_events(fake->dmu), POLLIN | POLLOUT);
	assert_string_equal(heard(fake), "run:0:10+4 ");
	/* The last one finds no room, and what is there cannot be written. */
	fake_refuse(fake, 1, EIO);
	for (i = 0, err = 0; !err; i++) {
		const struct dmu_mapping m = place(i * 2, 0);

		err = dmu_push(fake->dmu, &m);
	}
	assert_int_equal(err, -EAGAIN);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_string_equal(heard(fake), "run:0:14+4 ");
	assert_int_equal(fake_receive(fake, msgs, 1200), i - 1);
	assert_int_equal(msgs[0].response.org_block, 0);
	assert_int_equal(msgs[i - 2].response.org_block, (i - 2) * 2);
	fake_nothing_came(fake);
}

static void gone_in_the_middle(void **state)
{
	struct fake *fake = *state;

	fake_refuse(fake, 1, EINVAL);
	fake_refuse(fake, 2, ENODEV);
	push_blocks(fake, 10, 8);
	fake_hang_up(fake);
	assert_int_equal(dmu_flush(fake->dmu), -ENODEV);
	assert_int_equal(dmu_events(fake->dmu), POLLIN);
	assert_int_equal(dmu_flush(fake->dmu), 0);
}

/* --- older kernels --- */

static void older_kernel_hears_what_it_knows(void **state)
{
	struct fake *fake = *state;
	struct dmu_mapping m = place(10, DMU_MAP_WRITE);

	assert_int_equal(dmu_push_run(fake->dmu, &m, 3), 0);
	m.flags = DMU_MAP_COPY_FROM;
	m.src_sector = 80;
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	fake->on_map = map_same;
	fake_request(fake, 1, 50, RD);
	fake_request(fake, 2, 51, RD);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_string_equal(heard(fake), "map:0:10 map:0:11 map:0:12 map:0:10 ");
	assert_string_equal(heard(fake), "map:1:50 ");
	m.src_sector = 81;
	assert_int_equal(dmu_push(fake->dmu, &m), -EOPNOTSUPP);
	m.src = 0;
	m.src_sector = 80;
	assert_int_equal(dmu_push(fake->dmu, &m), -EOPNOTSUPP);
	m.flags = DMU_MAP_ZERO;
	assert_int_equal(dmu_push(fake->dmu, &m), -EOPNOTSUPP);
	fake_nothing_came(fake);
}

static int setup_refused(void **state)
{
	int err = fake_setup(state);
	struct dmui_msg msg = msg_version(DMUI_VERSION_ID, DMUI_VERSION,
					  DMUI_KERNEL_EXTENSIONS);
	struct fake *fake = *state;

	if (err)
		return err;
	setenv("DMU_EXTENSIONS", "no", 1);
	fake_send(fake, &msg, 1);
	assert_int_equal(dmu_handshake(fake->dmu, 10000), 0);
	unsetenv("DMU_EXTENSIONS");
	assert_false(dmu_has_runs(fake->dmu));
	fake_nothing_came(fake);
	fake_reset(fake);
	return 0;
}

/* Neither yes nor no: nobody is to believe that it is what he meant. */
static void an_environment_that_is_misspelt(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msg = msg_version(DMUI_VERSION_ID, DMUI_VERSION,
					  DMUI_KERNEL_EXTENSIONS);

	setenv("DMU_EXTENSIONS", "No", 1);
	fake_send(fake, &msg, 1);
	assert_int_equal(dmu_handshake(fake->dmu, 10000), -EINVAL);
	unsetenv("DMU_EXTENSIONS");
	assert_non_null(strstr(dmu_strerror(fake->dmu),
			       "DMU_EXTENSIONS is \"No\"; it must be"));
}

#define with_fake(test) \
	cmocka_unit_test_setup_teardown(test, setup, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_fake(each_block_of_a_run_is_asked_for),
		with_fake(a_run_is_answered_by_one_message),
		with_fake(single_requests_are_answered_by_one_message),
		with_fake(order_is_kept),
		with_fake(not_what_differs),
		with_fake(not_across_another_message),
		with_fake(not_pushes_and_answers),
		with_fake(copies_with_their_sources),
		with_fake(copies_of_one_block),
		with_fake(zeroes),
		with_fake(push_run),
		with_fake(first_of_a_run_refused),
		with_fake(last_of_a_run_refused),
		with_fake(refused_once),
		with_fake(no_memory_for_what_nobody_asked_for),
		with_fake(refused_answers_fail_their_requests),
		with_fake(all_of_a_run_refused),
		with_fake(failure_of_a_part_refused),
		with_fake(answer_in_callback),
		with_fake(stopped_in_the_middle),
		with_fake(gone_in_the_middle),
		cmocka_unit_test_setup_teardown(older_kernel_hears_what_it_knows,
						setup_1_1, fake_teardown),
		cmocka_unit_test_setup_teardown(older_kernel_hears_what_it_knows,
						setup_1_0, fake_teardown),
		cmocka_unit_test_setup_teardown(older_kernel_hears_what_it_knows,
						setup_refused, fake_teardown),
		cmocka_unit_test_setup_teardown(an_environment_that_is_misspelt,
						fake_setup, fake_teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
