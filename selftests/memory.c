// SPDX-License-Identifier: GPL-2.0-only
/* Many mappings, and hardly any memory for them. */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/gated.h"
#include "lib/inject.h"
#include "lib/suspend.h"
#include "lib/sysfs.h"
#include "lib/tracing.h"
#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void put(const char *path, const char *value)
{
	FILE *f = fopen(path, "we");

	if (!f || fputs(value, f) < 0 || fclose(f))
		err(1, "writing %s to %s", value, path);
}

/* --- many mappings ---------------------------------------------------------------------- */

#define MANY (1u << 18) /* blocks of 512 bytes */
#define PUSHED 200000u
#define BATCH 2000u
#define SECONDS 24 /* within which there are as many as there are then */

FIXTURE(many)
{
	struct dmt t;
};

FIXTURE_SETUP(many)
{
	struct dmt *t = &self->t;
	char params[256];

	snprintf(t->name, sizeof(t->name), "dmt%d", getpid());
	dmt_disk_open(&t->origin, MANY * 512, 0);
	dmt_disk_open(&t->store, MANY * 512, 0);
	snprintf(params, sizeof(params), "%s 512 %u:%u %u:%u", t->name,
		 major(t->origin.dev), minor(t->origin.dev),
		 major(t->store.dev), minor(t->store.dev));
	if (dmt_dm_create(t->name) ||
	    dmt_dm_load(t->name, 0, MANY, "userspace", params) ||
	    dmt_dm_resume(t->name))
		errx(1, "cannot make the mapped device %s", t->name);
	t->fd = dmt_dm_open(t->name, O_RDWR | O_DIRECT);
	if (t->fd < 0)
		err(1, "%s", t->name);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
}

FIXTURE_TEARDOWN(many)
{
	dmt_teardown(&self->t);
}

/* No two blocks have the same place, and none has its own. */
static uint64_t place_of(uint64_t block)
{
	return (block * 7919 + 1) % MANY;
}

/* Push the mappings of so many blocks in one write. */
static bool push(const struct dmt *t, uint64_t from, unsigned int nr)
{
	static struct dmt_batch batch;
	uint64_t block;

	batch.len = 0;
	for (block = from; block < from + nr; block++) {
		struct dmt_map map = dmt_plain(&t->store, block,
					       place_of(block), RW);

		dmt_batch_map(&batch, 0, &map);
	}
	return dmt_batch_write(t->ctl, &batch) == (ssize_t)batch.len;
}

/* Write some of the first @nr blocks, and look where it went. */
static bool some_arrive(const struct dmt *t, uint64_t nr, int seed)
{
	struct dmt_io *io[16];
	uint64_t block[16];
	uint8_t got[512];
	unsigned int i;
	bool ok = true;

	for (i = 0; i < 16; i++) {
		block[i] = (uint64_t)random() % nr / 16 * 16 + i;
		io[i] = dmt_io_now(t->fd, DMT_WRITE, block[i] * 512, 512,
				   seed + (int)i);
	}
	for (i = 0; i < 16; i++) {
		ok &= !dmt_io_wait(io[i]);
		ok &= pread(t->store.fd, got, 512,
			    (off_t)place_of(block[i]) * 512) == 512 &&
		      !memcmp(got, dmt_io_buf(io[i]), 512);
		dmt_io_free(io[i]);
	}
	return ok && dmt_silent(t->ctl);
}

/* Push as many as there is time for, and look for some of them all the while. */
static uint64_t push_many(const struct dmt *t)
{
	time_t until = time(NULL) + dmt_often(SECONDS);
	uint64_t nr = 0;

	while (nr < PUSHED && (time(NULL) < until || nr < 5 * BATCH)) {
		if (!push(t, nr, BATCH))
			return 0;
		nr += BATCH;
		if (!some_arrive(t, nr, (int)nr))
			return 0;
	}
	ksft_print_msg("%u mappings\n", (unsigned int)nr);
	return nr;
}

TEST_F_TIMEOUT(many, mappings_are_found_while_they_become_many, 200)
{
	struct dmt *t = &self->t;
	struct dmt_io *io;
	unsigned int i;
	uint64_t nr;
	uint32_t id;

	srandom(99);
	nr = push_many(t);
	ASSERT_NE(0, nr);
	EXPECT_EQ(nr, dmt_counter(t->name, DMT_REMAPS));
	for (i = 0; i < 50; i++)
		ASSERT_TRUE(some_arrive(t, nr, (int)i + 1));
	/* The same again is nothing new. */
	ASSERT_TRUE(push(t, 0, BATCH));
	EXPECT_EQ(nr, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_EVICTIONS));

	ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(nr, dmt_counter(t->name, DMT_EVICTIONS));
	io = dmt_io_now(t->fd, DMT_READ, 0, 512, 0);
	id = dmt_expect_request(t->ctl, 0, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	/* And once more, in the chains that there are now. */
	nr = push_many(t);
	ASSERT_NE(0, nr);
	EXPECT_EQ(nr, dmt_counter(t->name, DMT_REMAPS));
}

TEST_F_TIMEOUT(many, cache_gives_memory_back_under_pressure, 200)
{
	struct dmt *t = &self->t;
	uint64_t nr = push_many(t);
	unsigned int i;

	ASSERT_NE(0, nr);
	for (i = 0; i < 20 && !dmt_counter(t->name, DMT_EVICTIONS); i++)
		put("/proc/sys/vm/drop_caches", "2");
	EXPECT_LT(0, dmt_counter(t->name, DMT_EVICTIONS));
	EXPECT_EQ(nr, dmt_counter(t->name, DMT_REMAPS) +
		      dmt_counter(t->name, DMT_EVICTIONS));
}

/* --- what must not be taken ----------------------------------------------------------------- */

/* As many ways to be busy as there are. */
TEST_F(gated, mapping_whose_io_waits_is_never_taken)
{
	struct dmt *t = &self->g.t;
	struct dmt_map failed = dmt_cow(t, 1, 1, RW);
	struct dmt_map copying = dmt_cow(t, 2, 2, RW);
	struct dmt_map sync = dmt_plain(&self->g.spare, 3, 3, RW | SYNC);
	struct dmt_map idle = dmt_plain(&t->origin, 5, 5, RW);
	struct dmt_io *copy, *write;
	uint32_t id;

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &idle));
	dmt_gate_break(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &failed));
	EXPECT_EQ(-EIO, dmt_io_result(dmt_begin_read(t, 1)));
	dmt_gate_mend(&self->g.store);
	write = dmt_write_part(t->fd, 3, 2);
	id = dmt_expect_request(t->ctl, 3, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &sync));
	ASSERT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &copying));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	copy = dmt_begin_read(t, 2);

	EXPECT_EQ(4, dmt_counter(t->name, DMT_REMAPS));
	ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	put("/proc/sys/vm/drop_caches", "2");
	EXPECT_EQ(3, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_EVICTIONS));

	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_wait(copy));
	EXPECT_TRUE(dmt_io_matches(copy, DMT_ORIGIN));
	dmt_io_free(copy);
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* --- what is kept for the next request ------------------------------------------------------- */

/* What the kernel has taken from shrinkers of the module, in a trace of its own. */
static unsigned long taken_back(const struct dmt_tracing *tracing)
{
	static const char last[] = "return val ";
	FILE *f = dmt_tracing_read(tracing);
	unsigned long nr = 0;
	char line[1024];

	while (fgets(line, sizeof(line), f)) {
		const char *val = strstr(line, last);

		if (val && strstr(line, "[dm_user]"))
			nr += strtoul(val + strlen(last), NULL, 10);
	}
	fclose(f);
	return nr;
}

/* Ask for so many blocks at once, and answer. */
static bool serve_at_once(const struct dmt *t, unsigned int nr)
{
	struct dmt_io *io[DMT_BLOCKS];
	struct dmt_msg msg;
	unsigned int i;
	bool ok = true;

	for (i = 0; i < nr; i++)
		io[i] = dmt_begin_read(t, i);
	for (i = 0; i < nr; i++) {
		struct dmt_map map = dmt_plain(&t->origin, i, i, RO);

		ok &= dmt_expect(t->ctl, DM_USERSPACE_MAP_BLOCK_REQ, &msg) &&
		      msg.request.org_block == i &&
		      !dmt_map(t->ctl, msg.header.id, &map);
	}
	for (i = 0; i < nr; i++)
		ok &= !dmt_io_result(io[i]);
	return ok;
}

/* Each request sets memory for its answer aside, which most answers do not need. */
TEST_F(gated, what_is_kept_for_the_next_request_is_given_back)
{
	struct dmt *t = &self->g.t;
	struct dmt_tracing tracing;
	const unsigned int nr = 32;

	if (!dmt_tracing_make(&tracing, t->name))
		SKIP(return, "this kernel has no tracefs");
	dmt_tracing_on(&tracing, "vmscan/mm_shrink_slab_end", "retval > 0");
	EXPECT_TRUE(serve_at_once(t, nr));
	EXPECT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	put("/proc/sys/vm/drop_caches", "2");
	EXPECT_EQ(nr, taken_back(&tracing));
	put("/proc/sys/vm/drop_caches", "2");
	EXPECT_EQ(nr, taken_back(&tracing));
	/* It goes on from nothing. */
	EXPECT_TRUE(serve_at_once(t, nr));
	dmt_tracing_off(&tracing, "vmscan/mm_shrink_slab_end");
	dmt_tracing_remove(&tracing);
}

/* --- hardly any memory ------------------------------------------------------------------------ */

/**
 * @g: with a reserve of one mapping
 * @able: the kernel can fail allocations
 */
FIXTURE(poor)
{
	struct dmt_gated g;
	bool able;
};

/* From now on the I/O path gets nothing but the reserve; or all it asks for. */
static void starve(const FIXTURE_DATA(poor) *self, bool on)
{
	if (self->able)
		dmt_inject_own(on ? DMT_OWN_HURRIED : DMT_OWN_NONE);
}

FIXTURE_SETUP(poor)
{
	unsigned int old = dmt_param_get("remap_reserve");

	self->able = dmt_inject_able("failslab");
	dmt_param_set("remap_reserve", 1);
	dmt_gated_setup(&self->g);
	dmt_param_set("remap_reserve", old);
	starve(self, true);
}

FIXTURE_TEARDOWN(poor)
{
	starve(self, false);
	dmt_gated_teardown(&self->g);
}

#define NEEDS_FAILSLAB() do { \
	if (!self->able) \
		SKIP(return, "this kernel cannot fail allocations (no failslab)"); \
} while (0)

TEST_F(poor, one_mapping_in_reserve_is_enough_where_there_is_memory)
{
	struct dmt *t = &self->g.t;
	uint64_t block;

	starve(self, false);
	for (block = 0; block < 32; block++) {
		struct dmt_map map = dmt_cow(t, block, block, RW);

		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	}
	for (block = 0; block < 32; block++)
		EXPECT_TRUE(dmt_read_matches(t->fd, block, DMT_ORIGIN));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_EVICTIONS));
}

TEST_F_TIMEOUT(poor, all_io_is_served_by_one_mapping, 120)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io[32];
	struct dmt_msg msg;
	uint64_t block;

	NEEDS_FAILSLAB();
	for (block = 0; block < 32; block++)
		io[block] = dmt_begin_read(t, block);
	EXPECT_EQ(32, dmt_counter(t->name, DMT_WAITING));
	for (block = 0; block < 32; block++) {
		struct dmt_map map;

		ASSERT_TRUE(dmt_expect(t->ctl, DM_USERSPACE_MAP_BLOCK_REQ,
				       &msg));
		/* In the order in which they came. */
		EXPECT_EQ(block, msg.request.org_block);
		map = dmt_plain(&t->origin, block, block, RO);
		ASSERT_EQ(0, dmt_map(t->ctl, msg.header.id, &map));
	}
	for (block = 0; block < 32; block++) {
		EXPECT_EQ(0, dmt_io_wait(io[block]));
		EXPECT_TRUE(dmt_io_matches(io[block], DMT_ORIGIN));
		dmt_io_free(io[block]);
	}
	EXPECT_LE(31, dmt_counter(t->name, DMT_EVICTIONS));
}

/* Mappings stay for as long as there are fewer than that. */
TEST_F(poor, reserve_holds_as_many_as_its_parameter_says)
{
	const struct dmt_disk *disk = &self->g.t.origin;
	const unsigned int reserve = 5, blocks = 12;
	unsigned int old = dmt_param_get("remap_reserve");
	struct dmt_brief b;
	uint64_t block;

	NEEDS_FAILSLAB();
	starve(self, false);
	dmt_param_set("remap_reserve", reserve);
	dmt_brief_make(&b, "reserved", disk);
	dmt_param_set("remap_reserve", old);
	starve(self, true);
	for (block = 0; block < blocks; block++) {
		struct dmt_io *io = dmt_io_now(b.fd, DMT_READ, block * DMT_BLOCK,
					       DMT_BLOCK, 0);
		uint32_t id = dmt_expect_request(b.ctl, block, RO);
		struct dmt_map map = dmt_plain(disk, block, block, RO);

		ASSERT_NE(0, id);
		ASSERT_EQ(0, dmt_map(b.ctl, id, &map));
		EXPECT_EQ(0, dmt_io_wait(io));
		EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
		dmt_io_free(io);
	}
	EXPECT_EQ(reserve, dmt_counter(b.name, DMT_REMAPS));
	EXPECT_EQ(blocks - reserve, dmt_counter(b.name, DMT_EVICTIONS));
	close(b.ctl);
	dmt_brief_remove(&b);
}

TEST_F_TIMEOUT(poor, copies_and_acks_need_no_more, 120)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io[8];
	struct dmt_msg msg;
	unsigned int done;
	uint64_t block;

	NEEDS_FAILSLAB();
	for (block = 0; block < 8; block++)
		io[block] = dmt_write_part(t->fd, block, 2);
	for (done = 0; done < 8;) {
		struct dmt_map map;

		ASSERT_TRUE(dmt_readable(t->ctl, DMT_PATIENCE));
		ASSERT_LT(0, dmt_read_msg(t->ctl, &msg));
		if (msg.header.msg_type == DM_USERSPACE_STATUS) {
			ASSERT_EQ(0, dmt_sync_done(t->ctl,
						   msg.status.id_of_op));
			done++;
			continue;
		}
		map = dmt_cow(t, msg.request.org_block, msg.request.org_block,
			      RW | SYNC);
		ASSERT_EQ(0, dmt_map(t->ctl, msg.header.id, &map));
	}
	for (block = 0; block < 8; block++)
		EXPECT_EQ(0, dmt_io_result(io[block]));
	for (block = 0; block < 8; block++)
		EXPECT_TRUE(dmt_place_has(&t->store, block, block, DMT_ORIGIN,
					  2));
}

TEST_F(poor, mapping_whose_io_waits_is_not_recycled_for_another)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 1, RW);
	struct dmt_io *one = dmt_begin_read(t, 1), *two;
	uint32_t id = dmt_expect_request(t->ctl, 1, RO);

	NEEDS_FAILSLAB();
	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	two = dmt_begin_read(t, 2);
	dmt_grace_period();
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_FALSE(dmt_io_done(one));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_wait(one));
	EXPECT_TRUE(dmt_io_matches(one, DMT_ORIGIN));
	dmt_io_free(one);
	id = dmt_expect_request(t->ctl, 2, RO);
	ASSERT_NE(0, id);
	map = dmt_plain(&t->origin, 2, 2, RO);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(two));
}

TEST_F(poor, only_pushed_mappings_are_refused_for_memory)
{
	struct dmt *t = &self->g.t;
	struct dmt_map pushed = dmt_plain(&t->store, 2, 2, RW);
	struct dmt_map map = dmt_cow(t, 1, 1, RW | SYNC);
	struct dmt_io *io = dmt_write_part(t->fd, 1, 2);
	uint32_t id = dmt_expect_request(t->ctl, 1, RW);

	NEEDS_FAILSLAB();
	ASSERT_NE(0, id);
	/* Also for those who could wait. */
	dmt_inject_own(DMT_OWN_ALL);
	EXPECT_EQ(-ENOMEM, dmt_map(t->ctl, 0, &pushed));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	EXPECT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_place_has(&t->store, 1, 1, DMT_ORIGIN, 2));
	dmt_inject_own(DMT_OWN_HURRIED);
	EXPECT_EQ(0, dmt_map(t->ctl, 0, &pushed));
}

TEST_F(poor, starved_requests_survive_deaths_and_suspensions)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io[6];
	struct dmt_msg msg;
	uint64_t block;

	NEEDS_FAILSLAB();
	for (block = 0; block < 6; block++)
		io[block] = dmt_begin_read(t, block);
	ASSERT_NE(0, dmt_expect_request(t->ctl, 0, RO));
	EXPECT_TRUE(dmt_silent(t->ctl));
	close(t->ctl);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	ASSERT_NE(0, dmt_expect_request(t->ctl, 0, RO));
	ASSERT_EQ(0, dmt_suspend(t, true));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	for (block = 0; block < 6; block++) {
		struct dmt_map map;

		ASSERT_TRUE(dmt_expect(t->ctl, DM_USERSPACE_MAP_BLOCK_REQ,
				       &msg));
		map = dmt_plain(&t->origin, msg.request.org_block,
				msg.request.org_block, RO);
		ASSERT_EQ(0, dmt_map(t->ctl, msg.header.id, &map));
	}
	for (block = 0; block < 6; block++)
		EXPECT_EQ(0, dmt_io_result(io[block]));
}

TEST_F(poor, starved_requests_can_be_failed)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io[6];
	uint64_t block;

	NEEDS_FAILSLAB();
	for (block = 0; block < 6; block++)
		io[block] = dmt_begin_write(t, block, 2);
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	for (block = 0; block < 6; block++)
		EXPECT_EQ(-EIO, dmt_io_result(io[block]));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
}

/*
 * The daemon keeps what there is, and does nothing; nor does anybody else. Whoever has
 * given the allocator memory says so to nobody.
 */
TEST_F(poor, starved_requests_are_read_once_there_is_memory)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *one = dmt_begin_read(t, 1), *two;
	uint32_t id[2] = { dmt_expect_request(t->ctl, 1, RO) };

	NEEDS_FAILSLAB();
	ASSERT_NE(0, id[0]);
	two = dmt_begin_read(t, 2);
	/* It is looked for, in vain. */
	dmt_grace_period();
	ASSERT_TRUE(dmt_silent(t->ctl));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_SENT));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_WAITING));
	starve(self, false);
	id[1] = dmt_expect_request(t->ctl, 2, RO);
	ASSERT_NE(0, id[1]);
	ASSERT_EQ(0, dmt_fail(t->ctl, id[0]));
	ASSERT_EQ(0, dmt_fail(t->ctl, id[1]));
	EXPECT_EQ(-EIO, dmt_io_result(one));
	EXPECT_EQ(-EIO, dmt_io_result(two));
}

TEST_HARNESS_MAIN
