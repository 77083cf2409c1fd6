// SPDX-License-Identifier: LGPL-2.1-or-later
/* Writes that stop half-way: what was refused, and what went on. */
#include "fake.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>

#include <linux/dm-userspace.h>

#include "internal.h"

#define RD DMU_FLAG_RD

static void map_somewhere(struct fake *fake, const struct dmu_request *req)
{
	const struct dmu_mapping m = {
		.block = req->block,
		.dst = makedev(8, 0),
		.dst_sector = 800,
	};

	assert_int_equal(dmu_map(fake->dmu, req->id, &m), 0);
}

/* Requests 1 to @n, for blocks 10, 20 and so on, all mapped in one batch. */
static void batch_of(struct fake *fake, unsigned int n)
{
	struct dmui_msg msgs[10];
	unsigned int i;

	fake->on_map = map_somewhere;
	for (i = 0; i < n; i++)
		msgs[i] = msg_request(i + 1, (i + 1) * 10, RD);
	fake_send(fake, msgs, n);
	assert_int_equal(dmu_dispatch(fake->dmu), n);
}

static void expect(struct fake *fake, uint32_t type, uint32_t id)
{
	struct dmui_msg msg;

	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	assert_int_equal(msg.type, type);
	assert_int_equal(msg.response.id_of_req, id);
	assert_int_equal(msg.response.org_block, id * 10);
}

/* The first is refused: its request is failed, and the others go on. */
static void first_refused(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msgs[3];

	fake_refuse(fake, 1, ERANGE);
	batch_of(fake, 3);
	assert_non_null(strstr(fake->events, "batch refused:1:10:ERANGE "));
	/* The refusal, then everything else at once. */
	assert_int_equal(fake->writes, 2);
	assert_int_equal(fake_receive(fake, msgs, 3), 3);
	assert_int_equal(msgs[0].response.id_of_req, 2);
	assert_int_equal(msgs[1].response.id_of_req, 3);
	assert_int_equal(msgs[2].type, DM_USERSPACE_MAP_FAILED);
	assert_int_equal(msgs[2].response.id_of_req, 1);
	assert_int_equal(msgs[2].response.org_block, 10);
	assert_non_null(strstr(dmu_strerror(fake->dmu),
			       "refused to map block 10 to device 8:0 block 100"));
}

static void middle_refused(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msgs[2];

	fake_refuse(fake, 2, EINVAL);
	batch_of(fake, 3);
	/* A short one, the refusal, the rest. */
	assert_int_equal(fake->writes, 3);
	expect(fake, DM_USERSPACE_MAP_BLOCK_RESP, 1);
	assert_int_equal(fake_receive(fake, msgs, 2), 2);
	assert_int_equal(msgs[0].response.id_of_req, 3);
	assert_int_equal(msgs[1].type, DM_USERSPACE_MAP_FAILED);
	assert_int_equal(msgs[1].response.id_of_req, 2);
}

static void last_refused(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msgs[2];

	fake_refuse(fake, 3, EINVAL);
	batch_of(fake, 3);
	assert_int_equal(fake_receive(fake, msgs, 2), 2);
	expect(fake, DM_USERSPACE_MAP_FAILED, 3);
	fake_nothing_came(fake);
}

static void all_refused(void **state)
{
	struct fake *fake = *state;
	struct dmu_counters counters;
	struct dmui_msg msgs[3];

	fake_refuse(fake, 1, EINVAL);
	fake_refuse(fake, 2, ERANGE);
	fake_refuse(fake, 3, EINVAL);
	batch_of(fake, 3);
	assert_non_null(strstr(fake->events,
			       "refused:1:10:EINVAL refused:2:20:ERANGE refused:3:30:EINVAL "));
	assert_int_equal(fake_receive(fake, msgs, 3), 3);
	assert_int_equal(msgs[2].type, DM_USERSPACE_MAP_FAILED);
	assert_int_equal(msgs[2].response.id_of_req, 3);
	dmu_counters(fake->dmu, &counters);
	assert_int_equal(counters.mappings, 0);
	assert_int_equal(counters.refused, 3);
	assert_int_equal(counters.failed, 3);
}

/* A failure that is refused itself ends there. */
static void failure_refused(void **state)
{
	struct fake *fake = *state;

	fake_refuse(fake, 1, EINVAL);
	fake_refuse(fake, 2, EINVAL);
	batch_of(fake, 1);
	fake_nothing_came(fake);
	assert_string_equal(fake->events,
			    "map:1:10:r batch refused:1:10:EINVAL refused:0:10:EINVAL ");
	assert_int_equal(fake->dmu->counters.failed, 0);
}

static void push_refused(void **state)
{
	const struct dmu_mapping m = { .block = 4, .dst = makedev(8, 0) };
	struct fake *fake = *state;

	fake_refuse(fake, 1, ENOMEM);
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	assert_int_equal(dmu_flush(fake->dmu), -ENOMEM);
	/* Nobody waits for it, so nothing is failed. */
	fake_nothing_came(fake);
	assert_string_equal(fake->events, "refused:0:4:ENOMEM ");
	assert_int_equal(dmu_flush(fake->dmu), 0);
}

/* The first error is the one returned; the rest is sent all the same. */
static void flush_returns_first(void **state)
{
	const struct dmu_mapping m = { .block = 4, .dst = makedev(8, 0) };
	struct fake *fake = *state;
	struct dmui_msg msg;
	int i;

	fake_refuse(fake, 1, ENOMEM);
	fake_refuse(fake, 3, ERANGE);
	for (i = 0; i < 3; i++)
		assert_int_equal(dmu_push(fake->dmu, &m), 0);
	assert_int_equal(dmu_flush(fake->dmu), -ENOMEM);
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	assert_int_equal(fake->dmu->counters.mappings, 1);
}

static void invalidation_refused(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msg;

	fake_refuse(fake, 1, ERANGE);
	assert_int_equal(dmu_invalidate(fake->dmu, 5), 0);
	assert_int_equal(dmu_invalidate(fake->dmu, 6), 0);
	assert_int_equal(dmu_flush(fake->dmu), -ERANGE);
	assert_string_equal(fake->events, "refused:0:5:ERANGE ");
	assert_int_equal(fake->dmu->invalidations.used, 1);
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	assert_int_equal(msg.invalidate.org_block, 6);
}

/* Its id is free again: the kernel never heard of this SYNC. */
static void sync_refused(void **state)
{
	const struct dmu_mapping m = {
		.block = 5, .dst = makedev(8, 0), .flags = DMU_MAP_SYNC,
	};
	struct fake *fake = *state;

	fake_request(fake, 7, 5, RD);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	fake_refuse(fake, 1, EINVAL);
	assert_int_equal(dmu_map(fake->dmu, 7, &m), 0);
	assert_int_equal(dmu_flush(fake->dmu), -EINVAL);
	assert_int_equal(fake->dmu->requests.used, 0);
}

/* ENODEV while the target lives is about a device. */
static void unknown_device(void **state)
{
	const struct dmu_mapping m = { .block = 4, .dst = makedev(9, 9) };
	struct fake *fake = *state;

	fake_refuse(fake, 1, ENODEV);
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	assert_int_equal(dmu_flush(fake->dmu), -ENXIO);
	assert_string_equal(fake->events, "refused:0:4:ENXIO ");
}

/* And after the target's end it is about that: nothing was refused. */
static void target_gone(void **state)
{
	const struct dmu_mapping m = { .block = 4, .dst = makedev(8, 0) };
	struct fake *fake = *state;

	fake_hang_up(fake);
	fake_refuse(fake, 1, ENODEV);
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	assert_int_equal(dmu_flush(fake->dmu), -ENODEV);
	assert_string_equal(fake->events, "");
	assert_int_equal(fake->writes, 1);
	/* Dropped: another write would be in vain. */
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_int_equal(dmu_dispatch(fake->dmu), -ENODEV);
	assert_string_equal(fake->events, "gone ");
}

/* Trouble that is not about a message keeps the messages. */
static void other_errors(void **state)
{
	const struct dmu_mapping m = { .block = 4, .dst = makedev(8, 0) };
	struct fake *fake = *state;
	struct dmui_msg msg;

	fake_refuse(fake, 1, EIO);
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	assert_int_equal(dmu_flush(fake->dmu), -EIO);
	assert_string_equal(fake->events, "");
	assert_int_equal(dmu_events(fake->dmu), POLLIN | POLLOUT);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_int_equal(dmu_events(fake->dmu), POLLIN);
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
}

static void interrupted(void **state)
{
	const struct dmu_mapping m = { .block = 4, .dst = makedev(8, 0) };
	struct fake *fake = *state;
	struct dmui_msg msg;

	fake_refuse(fake, 1, EINTR);
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	assert_string_equal(fake->events, "");
}

/* The policy tries another place as soon as it hears of the refusal. */
static void push_again(struct fake *fake, uint32_t id, uint64_t block)
{
	const struct dmu_mapping m = {
		.block = block, .dst = makedev(8, 0), .dst_sector = 1,
	};

	unsigned int writes = fake->writes;

	(void)id;
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	/* Nested: the write under way takes it along. */
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_int_equal(fake->writes, writes);
	assert_int_equal(dmu_dispatch(fake->dmu), -EBUSY);
}

static void answer_in_callback(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msgs[3];

	fake->on_refused = push_again;
	fake_refuse(fake, 1, ERANGE);
	batch_of(fake, 2);
	assert_int_equal(fake_receive(fake, msgs, 3), 3);
	assert_int_equal(msgs[0].response.id_of_req, 2);
	assert_int_equal(msgs[1].type, DM_USERSPACE_MAP_FAILED);
	assert_int_equal(msgs[2].response.id_of_req, 0);
	assert_int_equal(msgs[2].response.offset, 1);
}

/* More than the buffer holds goes out on the way; nothing is lost. */
static void buffer_overflows(void **state)
{
	static struct dmui_msg msgs[2000];
	struct dmu_mapping m = { .dst = makedev(8, 0) };
	struct fake *fake = *state;
	size_t got;

	for (m.block = 0; m.block < 2000; m.block++)
		assert_int_equal(dmu_push(fake->dmu, &m), 0);
	assert_int_equal(fake->writes, 1);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	got = fake_receive(fake, msgs, 2000);
	assert_true(got > 1000);
	got += fake_receive(fake, msgs + got, 2000 - got);
	assert_int_equal(got, 2000);
	for (got = 0; got < 2000; got++)
		assert_int_equal(msgs[got].response.org_block, got);
}

/* A part was written, the rest must move up to make room: none is lost. */
static void buffer_moves_up(void **state)
{
	static struct dmui_msg msgs[2000];
	struct dmu_mapping m = { .dst = makedev(8, 0) };
	struct fake *fake = *state;
	size_t n;

	m.block = 0;
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	m.block = 1;
	assert_int_equal(dmu_push(fake->dmu, &m), 0);
	fake_refuse(fake, 2, EIO);
	fake_refuse(fake, 3, EIO);
	assert_int_equal(dmu_flush(fake->dmu), -EIO);
	assert_int_equal(fake_receive(fake, msgs, 1), 1);
	for (m.block = 2; fake->writes < 3; m.block++)
		assert_int_equal(dmu_push(fake->dmu, &m), 0);
	assert_int_equal(dmu_flush(fake->dmu), 0);
	assert_int_equal(fake_receive(fake, msgs, 2000), m.block - 1);
	for (n = 1; n < m.block; n++)
		assert_int_equal(msgs[n - 1].response.org_block, n);
}

/* Nobody reads: what fits waits, what does not is told so, and then goes on. */
static void transport_full(void **state)
{
	static struct dmui_msg msgs[2000];
	struct dmu_mapping m = { .dst = makedev(8, 0) };
	struct fake *fake = *state;
	size_t taken = 0, got = 0;
	int err;

	do {
		m.block = taken;
		err = dmu_push(fake->dmu, &m);
		if (!err)
			taken++;
	} while (!err);
	assert_int_equal(err, -EAGAIN);
	assert_int_equal(dmu_flush(fake->dmu), -EAGAIN);
	assert_int_equal(dmu_events(fake->dmu), POLLIN | POLLOUT);
	/* Dispatching is not disturbed by it. */
	assert_int_equal(dmu_dispatch(fake->dmu), 0);
	while (got < taken) {
		size_t n = fake_receive(fake, msgs, 2000);
		size_t i;

		for (i = 0; i < n; i++)
			assert_int_equal(msgs[i].response.org_block, got + i);
		got += n;
		err = dmu_flush(fake->dmu);
		assert_true(err == 0 || err == -EAGAIN);
	}
	assert_int_equal(got, taken);
	assert_int_equal(dmu_events(fake->dmu), POLLIN);
}

#define with_fake(test) \
	cmocka_unit_test_setup_teardown(test, fake_setup, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_fake(first_refused),
		with_fake(middle_refused),
		with_fake(last_refused),
		with_fake(all_refused),
		with_fake(failure_refused),
		with_fake(push_refused),
		with_fake(flush_returns_first),
		with_fake(invalidation_refused),
		with_fake(sync_refused),
		with_fake(unknown_device),
		with_fake(target_gone),
		with_fake(other_errors),
		with_fake(interrupted),
		with_fake(answer_in_callback),
		with_fake(buffer_overflows),
		with_fake(buffer_moves_up),
		with_fake(transport_full),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
