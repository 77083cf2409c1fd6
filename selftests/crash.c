// SPDX-License-Identifier: GPL-2.0-only
/*
 * A hundred daemons are killed one after the other while a device that is
 * copied on write is read and written. They share a book of what is durable, as
 * on a disk; whatever a dead one had answered and not yet written there is
 * unknown to the next, which gives the same places to other blocks.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/load.h"
#include "lib/sysfs.h"
#include <stdlib.h>

#define NR_KILLS 100

FIXTURE(load)
{
	struct dmt_load load;
};

FIXTURE_SETUP(load)
{
	dmt_load_setup(&self->load);
}

FIXTURE_TEARDOWN(load)
{
	dmt_load_teardown(&self->load);
}

TEST_F_TIMEOUT(load, hundred_kills_lose_and_corrupt_nothing, 600)
{
	struct dmt_load *load = &self->load;
	unsigned int kills;

	srandom(4711);
	for (kills = 0; kills < dmt_often(NR_KILLS); kills++) {
		dmt_load_daemon(load, kills);
		ASSERT_TRUE(dmt_load_run(load, random() % 32));
		/* Mappings that a daemon knows to be durable are no loss. */
		if (kills % 4 == 3)
			ASSERT_EQ(0, dmt_dm_message(load->t.name, "drop_idle"));
		ASSERT_TRUE(dmt_load_kill(load));
	}
	dmt_load_daemon(load, kills);
	EXPECT_TRUE(dmt_load_finish(load));
	EXPECT_TRUE(dmt_load_kill(load));
	EXPECT_TRUE(dmt_load_stored(load));
	ksft_print_msg("%u I/Os, %u answers, %u commits\n", load->done,
		       load->book->answers, load->book->commits);
	/* Else this has tested nothing. */
	EXPECT_LT(load->book->commits, load->book->answers);
	EXPECT_LT(dmt_often(NR_KILLS), load->book->commits);
	EXPECT_EQ(0, dmt_counter(load->t.name, DMT_ERRORS));
}

TEST_HARNESS_MAIN
