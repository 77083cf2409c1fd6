// SPDX-License-Identifier: LGPL-2.1-or-later
/* What the kernel must not say: -EPROTO and a sentence, never a crash. */
#include "fake.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>

#include <linux/dm-userspace.h>

#include "internal.h"

#define RD DMU_FLAG_RD

/* The connection has ended, with a sentence that holds @words. */
static void ended(struct fake *fake, const char *words)
{
	const struct dmu_mapping m = { .block = 1, .dst = makedev(8, 0) };

	assert_int_equal(dmu_dispatch(fake->dmu), -EPROTO);
	assert_non_null(strstr(dmu_strerror(fake->dmu), words));
	/* For good, whatever comes next; and nothing is answered any more. */
	fake_request(fake, 500, 1, RD);
	assert_int_equal(dmu_dispatch(fake->dmu), -EPROTO);
	assert_int_equal(dmu_run(fake->dmu), -EPROTO);
	assert_null(strstr(fake->events, "map:500"));
	assert_int_equal(dmu_push(fake->dmu, &m), -EPROTO);
}

static void send_header(struct fake *fake, uint32_t type, uint32_t len,
			size_t bytes)
{
	unsigned char buf[100] = { 0 };
	struct dmu_msg_header header = { type, len, 1 };

	memcpy(buf, &header, sizeof(header));
	fake_send_raw(fake, buf, bytes);
}

static void unknown_type(void **state)
{
	send_header(*state, 12, 8, 20);
	ended(*state, "message type 12 is unknown");
}

static void type_zero(void **state)
{
	send_header(*state, 0, 0, 12);
	ended(*state, "message type 0 is unknown");
}

static void too_short(void **state)
{
	send_header(*state, DM_USERSPACE_MAP_BLOCK_REQ, 8, 20);
	ended(*state, "has 8 bytes, not 16");
}

static void too_long(void **state)
{
	send_header(*state, DM_USERSPACE_STATUS, 16, 28);
	ended(*state, "has 16 bytes, not 8");
}

static void length_overflows(void **state)
{
	send_header(*state, DM_USERSPACE_STATUS, UINT32_MAX - 3, 20);
	ended(*state, "bytes, not 8");
}

static void truncated_header(void **state)
{
	send_header(*state, DM_USERSPACE_STATUS, 8, 11);
	ended(*state, "header is cut off after 11 bytes");
}

static void truncated_payload(void **state)
{
	send_header(*state, DM_USERSPACE_MAP_BLOCK_REQ, 16, 27);
	ended(*state, "type 2 is cut off after 27 bytes");
}

/* What came whole before the bad one has been handed out. */
static void truncated_second(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msg = msg_request(1, 5, RD);
	unsigned char buf[100];
	size_t len = dmui_encode(buf, &msg);

	len += dmui_encode(buf + len, &msg) - 1;
	fake_send_raw(fake, buf, len);
	assert_int_equal(dmu_dispatch(fake->dmu), -EPROTO);
	assert_string_equal(fake->events, "map:1:5:r ");
}

/* Types that go the other way. */
static void wrong_direction(void **state)
{
	struct dmui_msg msg = { .type = DM_USERSPACE_MAP_BLOCK_RESP, .id = 1 };

	fake_send(*state, &msg, 1);
	ended(*state, "type 3, which only a daemon sends");
}

static void wrong_direction_failed(void **state)
{
	struct dmui_msg msg = { .type = DM_USERSPACE_MAP_FAILED, .id = 1 };

	fake_send(*state, &msg, 1);
	ended(*state, "type 4, which only a daemon sends");
}

static void wrong_direction_invalidate(void **state)
{
	struct dmui_msg msg = { .type = DM_USERSPACE_MAP_INVALIDATE, .id = 1 };

	fake_send(*state, &msg, 1);
	ended(*state, "type 5, which only a daemon sends");
}

static void wrong_direction_run(void **state)
{
	struct dmui_msg msg = { .type = DM_USERSPACE_MAP_RUN_RESP, .id = 1 };

	fake_send(*state, &msg, 1);
	ended(*state, "type 11, which only a daemon sends");
}

static void run_unasked(void **state)
{
	struct dmui_msg msg = {
		.type = DM_USERSPACE_MAP_RUN_REQ,
		.id = 1,
		.run_request = { .block = 1, .count = 2 },
	};

	fake_send(*state, &msg, 1);
	ended(*state, "asks for a run of blocks unasked");
}

static void request_without_id(void **state)
{
	fake_request(*state, 0, 5, RD);
	ended(*state, "a request has no id");
}

static void status_two_ids(void **state)
{
	struct dmui_msg msg = msg_status(5, DM_USERSPACE_SYNC_COMPLETE);

	msg.id = 6;
	fake_send(*state, &msg, 1);
	ended(*state, "two ids, 6 and 5");
}

static void status_unknown_code(void **state)
{
	fake_status(*state, 5, 104);
	ended(*state, "status code 104 is unknown");
}

static void sync_unknown_id(void **state)
{
	fake_status(*state, 5, DM_USERSPACE_SYNC_COMPLETE);
	ended(*state, "held for id 5, which was not mapped with SYNC");
}

/* A request that waits for its answer cannot have I/O that came back. */
static void sync_unanswered(void **state)
{
	fake_request(*state, 5, 1, RD);
	assert_int_equal(dmu_dispatch(((struct fake *)*state)->dmu), 1);
	fake_status(*state, 5, DM_USERSPACE_SYNC_COMPLETE);
	ended(*state, "held for id 5");
}

static void invalidated_unknown_id(void **state)
{
	fake_status(*state, 5, DM_USERSPACE_INVAL_COMPLETE);
	ended(*state, "nothing was invalidated with id 5");
}

static void second_version(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msg = msg_version(DMUI_VERSION_ID, DMUI_VERSION, 1);

	fake_send(fake, &msg, 1);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	fake_send(fake, &msg, 1);
	ended(fake, "version");
}

static void granted_unasked(void **state)
{
	const struct dmui_msg msg = {
		.type = DM_USERSPACE_EXTENSIONS,
		.id = DMUI_EXTENSIONS_ID,
	};

	fake_send(*state, &msg, 1);
	ended(*state, "grants extensions that nobody asked for");
}

/* The kernel of 2006, or of last year, knows nothing of extensions. */
static void old_kernel_is_not_asked(void **state)
{
	struct dmui_msg msg = msg_version(DMUI_VERSION_ID, DMUI_VERSION,
					  1u << 16);
	struct fake *fake = *state;

	fake_send(fake, &msg, 1);
	assert_int_equal(dmu_handshake(fake->dmu, 10000), 0);
	fake_nothing_came(fake);
}

static void new_kernel_is_asked(struct fake *fake, uint64_t grants)
{
	struct dmui_msg msg = msg_version(DMUI_VERSION_ID, DMUI_VERSION,
					  DMUI_KERNEL_EXTENSIONS);

	fake_send(fake, &msg, 1);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	assert_int_equal(msg.type, DM_USERSPACE_EXTENSIONS);
	assert_true(msg.extensions.bits == (DMU_EXT_REPORTS | DMU_EXT_DISCARD |
					    DMU_EXT_RUNS));
	msg.extensions.bits = grants;
	fake_send(fake, &msg, 1);
	assert_int_equal(dmu_handshake(fake->dmu, 10000), 0);
}

static void notices_are_handed_out(void **state)
{
	struct fake *fake = *state;
	const struct dmui_msg msgs[] = {
		{
			.type = DM_USERSPACE_REPORT,
			.report = { .block = 7, .id_of_req = 3, .error = -5,
				    .report = DMU_REPORT_COPY_FAILED },
		}, {
			.type = DM_USERSPACE_REPORT,
			.report = { .block = 9, .report = DMU_REPORT_LOST },
		}, {
			.type = DM_USERSPACE_REPORT,
			.report = { .report = 1000 },
		}, {
			.type = DM_USERSPACE_DISCARD,
			.discard = { .block = 1ULL << 40, .count = 2 },
		},
	};

	new_kernel_is_asked(fake, DMU_EXT_REPORTS | DMU_EXT_DISCARD);
	fake_reset(fake);
	fake_send(fake, msgs, 4);
	assert_int_equal(dmu_dispatch(fake->dmu), 4);
	assert_string_equal(fake->events,
			    "failed:1:7:3:-5 failed:4:9:0:0 discarded:1099511627776:2 batch ");
}

static void more_is_granted_than_asked(void **state)
{
	struct dmui_msg msg = msg_version(DMUI_VERSION_ID, DMUI_VERSION,
					  DMUI_KERNEL_EXTENSIONS);
	struct fake *fake = *state;

	fake_send(fake, &msg, 1);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	msg.extensions.bits = 1ULL << 63;
	fake_send(fake, &msg, 1);
	ended(fake, "grants extensions that nobody asked for");
}

static void map_any(struct fake *fake, const struct dmu_request *req)
{
	const struct dmu_mapping m = {
		.block = req->block,
		.dst = makedev(8, 0),
		.flags = req->id % 2 ? DMU_MAP_SYNC : 0,
	};

	assert_int_equal(dmu_map(fake->dmu, req->id, &m), 0);
}

/*
 * Sound batches with bytes changed at random: each is taken or is -EPROTO.
 * Worth most under valgrind or with sanitizers.
 */
static void garbage(void **state)
{
	unsigned char buf[1024];
	uint32_t seed = 42, round, i;

	for (round = 0; round < 2000; round++) {
		struct fake *fake;
		size_t len = 0;
		int ret;

		assert_int_equal(fake_setup_stream((void **)&fake), 0);
		fake->on_map = map_any;
		for (i = 0; i < 12; i++) {
			struct dmui_msg msg = i % 3 ?
				msg_request(i + 1, i, RD) :
				msg_status(i - 1, DM_USERSPACE_SYNC_COMPLETE);

			len += dmui_encode(buf + len, &msg);
		}
		for (i = 0; i < 1 + round % 4; i++) {
			seed = seed * 1664525 + 1013904223;
			buf[(seed >> 8) % len] = seed >> 24;
		}
		fake_send_raw(fake, buf, len - round % 13);
		ret = dmu_dispatch(fake->dmu);
		assert_true(ret == -EPROTO || ret > 0);
		fake_teardown((void **)&fake);
	}
	*state = NULL;
}

#define with_fake(test) \
	cmocka_unit_test_setup_teardown(test, fake_setup, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_fake(unknown_type),
		with_fake(type_zero),
		with_fake(too_short),
		with_fake(too_long),
		with_fake(length_overflows),
		with_fake(truncated_header),
		with_fake(truncated_payload),
		with_fake(truncated_second),
		with_fake(wrong_direction),
		with_fake(wrong_direction_failed),
		with_fake(wrong_direction_invalidate),
		with_fake(wrong_direction_run),
		with_fake(run_unasked),
		with_fake(request_without_id),
		with_fake(status_two_ids),
		with_fake(status_unknown_code),
		with_fake(sync_unknown_id),
		with_fake(sync_unanswered),
		with_fake(invalidated_unknown_id),
		with_fake(second_version),
		with_fake(granted_unasked),
		with_fake(old_kernel_is_not_asked),
		with_fake(notices_are_handed_out),
		with_fake(more_is_granted_than_asked),
		cmocka_unit_test(garbage),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
