// SPDX-License-Identifier: LGPL-2.1-or-later
/* Messages to bytes and back, byte by byte as the protocol has them. */
#include "fake.h"

#include <errno.h>
#include <string.h>

#include <linux/dm-userspace.h>

/* x86-64 is little-endian; the layout is the same elsewhere. */
static void put(unsigned char *to, uint64_t value, size_t size)
{
	memcpy(to, &value, size);
}

/* Every field of the longest of them at the offset that 2006 gave it. */
static void response_layout(void **state)
{
	const struct dmui_msg msg = {
		.type = DM_USERSPACE_MAP_BLOCK_RESP,
		.id = 0x01020304,
		.response = {
			.org_block = 0x1112131415161718,
			.new_block = 0x2122232425262728,
			.offset = -5,
			.id_of_req = 0x31323334,
			.flags = 0x41424344,
			.src_maj = 1, .src_min = 2, .dst_maj = 3, .dst_min = 4,
		},
	};
	unsigned char want[60], got[61];

	(void)state;
	put(want, 3, 4);
	put(want + 4, 48, 4);
	put(want + 8, 0x01020304, 4);
	put(want + 12, 0x1112131415161718, 8);
	put(want + 20, 0x2122232425262728, 8);
	put(want + 28, -5, 8);
	put(want + 36, 0x31323334, 4);
	put(want + 40, 0x41424344, 4);
	put(want + 44, 1, 4);
	put(want + 48, 2, 4);
	put(want + 52, 3, 4);
	put(want + 56, 4, 4);
	/* At an odd address: nothing may be cast. */
	assert_int_equal(dmui_encode(got + 1, &msg), sizeof(want));
	assert_memory_equal(got + 1, want, sizeof(want));
}

static void request_layout(void **state)
{
	unsigned char bytes[29] = { 0 };
	struct dmui_msg msg;
	char why[256];

	(void)state;
	put(bytes + 1, 2, 4);
	put(bytes + 5, 16, 4);
	put(bytes + 9, 77, 4);
	put(bytes + 13, 0xfffffffffffffffe, 8);
	put(bytes + 21, 6, 4);
	assert_int_equal(dmui_decode(bytes + 1, 28, &msg, why, sizeof(why)),
			 28);
	assert_int_equal(msg.type, DM_USERSPACE_MAP_BLOCK_REQ);
	assert_int_equal(msg.id, 77);
	assert_true(msg.request.org_block == 0xfffffffffffffffe);
	assert_int_equal(msg.request.flags, 6);
}

static void sizes(void **state)
{
	static const size_t size[] = {
		0, 20, 28, 60, 60, 20, 20, 20, 36, 28, 28, 68, 0
	};
	uint32_t type;

	(void)state;
	for (type = 0; type < sizeof(size) / sizeof(size[0]); type++)
		assert_int_equal(dmui_msg_size(type), size[type]);
	assert_int_equal(dmui_msg_size(UINT32_MAX), 0);
}

/* Every type comes back as it went, and needs each of its bytes. */
static void there_and_back(void **state)
{
	unsigned char bytes[DMUI_MSG_MAX];
	struct dmui_msg msg, back;
	size_t size, len, i;
	char why[256];

	(void)state;
	for (msg.type = 1; msg.type <= 11; msg.type++) {
		msg.id = msg.type * 1000;
		for (i = 0; i < sizeof(msg.run_response); i++)
			((unsigned char *)&msg.run_response)[i] = i + msg.type;
		size = dmui_encode(bytes, &msg);
		assert_int_equal(size, dmui_msg_size(msg.type));
		for (len = 0; len < size; len++) {
			assert_int_equal(dmui_decode(bytes, len, &back, why,
						     sizeof(why)), -EPROTO);
			assert_non_null(strstr(why, "cut off"));
		}
		assert_int_equal(dmui_decode(bytes, size, &back, why,
					     sizeof(why)), size);
		assert_int_equal(back.type, msg.type);
		assert_int_equal(back.id, msg.id);
		assert_memory_equal(&back.run_response, &msg.run_response,
				    size - 12);
	}
}

static void wrong_length(void **state)
{
	const struct dmui_msg msg = { .type = DM_USERSPACE_STATUS };
	unsigned char bytes[DMUI_MSG_MAX];
	struct dmui_msg back;
	char why[256];

	(void)state;
	dmui_encode(bytes, &msg);
	put(bytes + 4, 9, 4);
	assert_int_equal(dmui_decode(bytes, sizeof(bytes), &back, why,
				     sizeof(why)), -EPROTO);
	assert_string_equal(why, "a message of type 6 has 9 bytes, not 8");
	put(bytes + 4, 0xffffffff, 4);
	assert_int_equal(dmui_decode(bytes, sizeof(bytes), &back, why,
				     sizeof(why)), -EPROTO);
	put(bytes, 12, 4);
	assert_int_equal(dmui_decode(bytes, sizeof(bytes), &back, why,
				     sizeof(why)), -EPROTO);
	assert_string_equal(why, "message type 12 is unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(response_layout),
		cmocka_unit_test(request_layout),
		cmocka_unit_test(sizes),
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(wrong_length),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
