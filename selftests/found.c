// SPDX-License-Identifier: GPL-2.0-only
/* What the fuzzer and the drills have found, step by step. */
#define _GNU_SOURCE
#include "lib/gated.h"

/*
 * An answer with TEMPORARY leaves no mapping behind from which the kernel could
 * tell that it has been given before. Where it serves nobody it copies nothing:
 * the place may have been written to since the first time.
 */
TEST_F(gated, doubled_temporary_answer_copies_once)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 9, RW | TEMP);
	struct dmt_io *write = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_place_has(&t->store, 9, 1, DMT_ORIGIN, 2));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	/* The verdict waits for each copy. */
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 5, 1));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 5, DM_USERSPACE_INVAL_FAILED));
	EXPECT_TRUE(dmt_place_has(&t->store, 9, 1, DMT_ORIGIN, 2));
}

TEST_HARNESS_MAIN
