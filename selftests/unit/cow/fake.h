/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A stand-in for libdmu and dmud: it notes what a policy answers.
 */
#ifndef COW_TEST_FAKE_H
#define COW_TEST_FAKE_H

#include <sys/sysmacros.h>

#include "policy.h"
#include "sim.h"

#define ORIGIN_DEV	makedev(7, 3)
#define STORE_DEV	makedev(0, 0) /* st_rdev of a regular file */

struct fake_answer {
	uint32_t id;
	bool failed;
	struct dmu_mapping m;
};

struct fake_run {
	struct dmu_mapping first;
	uint64_t n;
};

#define FAKE_MAX_PUSHED 2

/**
 * struct fake - the test's view of the connection
 * @geo: of the mapped device
 * @devices: of the table
 * @origin_sectors: what sysfs would say, or 0 where it says nothing
 * @origin_path: a file with its contents, or NULL where it cannot be read
 * @answer: what was answered; the test resets @nr_answers
 * @acked: ids given to dmu_sync_done(); the test resets @nr_acked
 * @pushed: the runs that were pushed
 * @nr_pushed: how many these are; the test resets it
 * @most_pushed: there is no memory for more
 * @has_runs: what dmu_has_runs() says
 * @map_error: what dmu_map() returns
 * @sync_error: what dmu_sync_done() returns
 * @logged: lines of the log, by priority
 * @last: the last of them
 */
struct fake {
	struct dmu_geometry geo;
	dev_t devices[3];
	uint64_t origin_sectors;
	const char *origin_path;
	struct fake_answer *answer;
	size_t nr_answers;
	size_t answer_room;
	uint32_t *acked;
	size_t nr_acked;
	size_t acked_room;
	struct fake_run pushed[FAKE_MAX_PUSHED];
	unsigned int nr_pushed;
	unsigned int most_pushed;
	bool has_runs;
	int map_error;
	int sync_error;
	unsigned int logged[8];
	char last[512];
};

extern struct fake fake;

void fake_reset(uint32_t block_size, uint64_t sectors);
void fake_free(void);

/* A policy at work on a simulated store, or on real devices where @s is NULL. */
int fake_open(struct sim *s, struct dmud_env *env, const char *opt,
	      void **state);
void fake_close(void *state);
struct fake_answer fake_ask(void *state, uint32_t id, uint64_t block,
			    bool write);
void fake_batch(void *state);
void fake_sync(void *state, uint32_t id, uint64_t block);

#endif /* COW_TEST_FAKE_H */
