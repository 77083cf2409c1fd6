// SPDX-License-Identifier: GPL-2.0-only
/* Devices on top of each other, and between those of other targets. */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/fixture.h"
#include <err.h>

FIXTURE(stack)
{
	struct dmt_disk disk;
};

FIXTURE_SETUP(stack)
{
	ASSERT_TRUE(dmt_keys_are_gone());
	dmt_disk_open(&self->disk, DMT_BLOCKS * DMT_BLOCK, 0);
}

FIXTURE_TEARDOWN(stack)
{
	dmt_disk_close(&self->disk);
	EXPECT_TRUE(dmt_keys_are_gone());
}

/* Write everything through @fd, read it back, and look for it on @disk. */
static bool all_goes_through(int fd, const struct dmt_disk *disk, int seed)
{
	struct dmt_io *io[DMT_BLOCKS];
	unsigned int i;
	bool ok = true;

	for (i = 0; i < DMT_BLOCKS; i++)
		io[i] = dmt_io(fd, DMT_WRITE, i * DMT_BLOCK, DMT_BLOCK, seed);
	for (i = 0; i < DMT_BLOCKS; i++)
		ok &= !dmt_io_result(io[i]);
	for (i = 0; ok && i < DMT_BLOCKS; i++)
		ok = dmt_read_matches(fd, i, seed) &&
		     dmt_disk_has(disk, i, seed);
	return ok;
}

static void stack_make(const char *name, const char *type, const char *params)
{
	if (dmt_dm_create(name) ||
	    dmt_dm_load(name, 0, DMT_BLOCKS * DMT_SECTORS, type, params) ||
	    dmt_dm_resume(name))
		errx(1, "cannot make %s", name);
}

static void stack_make_on(const char *name, unsigned int block_size, dev_t dev)
{
	char params[128];

	snprintf(params, sizeof(params), "%s %u %u:%u", name, block_size,
		 major(dev), minor(dev));
	stack_make(name, "userspace", params);
}

/* Upper on middle on lower, each with its own block size and key; one daemon. */
TEST_F(stack, devices_on_top_of_each_other_share_a_daemon_process)
{
	static const char * const names[] = { "lower", "middle", "upper" };
	struct dmt_server server = { .nr = 3 };
	dev_t below = self->disk.dev;
	unsigned int i;
	int fd;

	for (i = 0; i < 3; i++) {
		stack_make_on(names[i], 4096 >> i, below);
		server.served[i].fd = dmt_control_open(names[i], O_NONBLOCK);
		server.served[i].dst = below;
		below = dmt_dm_dev(names[i]);
	}
	dmt_server_start(&server);
	fd = dmt_dm_open("upper", O_RDWR | O_DIRECT);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(all_goes_through(fd, &self->disk, 2));
	/* Once more, when it is all mapped; then when nothing is. */
	EXPECT_TRUE(all_goes_through(fd, &self->disk, 3));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(DMT_BLOCKS << i, dmt_counter(names[i], DMT_REMAPS));
		EXPECT_EQ(0, dmt_counter(names[i], DMT_ERRORS));
		ASSERT_EQ(0, dmt_dm_message(names[i], "drop_idle"));
		EXPECT_EQ(0, dmt_counter(names[i], DMT_REMAPS));
	}
	EXPECT_TRUE(all_goes_through(fd, &self->disk, 4));
	EXPECT_EQ(0, dmt_io_result(dmt_io(fd, DMT_FSYNC, 0, 0, 0)));
	close(fd);
	dmt_server_stop(&server);
	for (i = 3; i--;) {
		close(server.served[i].fd);
		EXPECT_EQ(0, dmt_dm_remove(names[i]));
	}
}

/* A copy whose source and destination wait for the other daemon. */
TEST_F(stack, copies_go_through_a_device_below)
{
	struct dmt_map map = { .block = 3, .to = 5, .flags = RW | COPY };
	struct dmt_server server = { .nr = 1 };
	struct dmt_disk below = { 0 };
	struct dmt_io *io;
	uint32_t id;
	int fd, ctl;

	dmt_disk_fill(&self->disk, 3, DMT_ORIGIN);
	stack_make_on("lower", 4096, self->disk.dev);
	below.dev = dmt_dm_dev("lower");
	stack_make_on("upper", 4096, below.dev);
	server.served[0].fd = dmt_control_open("lower", O_NONBLOCK);
	server.served[0].dst = self->disk.dev;
	ctl = dmt_control_open("upper", O_NONBLOCK);
	fd = dmt_dm_open("upper", O_RDWR | O_DIRECT);
	ASSERT_LE(0, fd);

	map.src = &below;
	map.dst = &below;
	io = dmt_io(fd, DMT_READ, 3 * DMT_BLOCK, DMT_BLOCK, 0);
	id = dmt_expect_request(ctl, 3, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(ctl, id, &map));
	/* The copy waits in the device below. */
	ASSERT_TRUE(dmt_readable(server.served[0].fd, DMT_PATIENCE));
	EXPECT_FALSE(dmt_io_done(io));
	EXPECT_EQ(1, dmt_counter("upper", DMT_COPIES));
	dmt_server_start(&server);
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
	dmt_io_free(io);
	close(fd);
	dmt_server_stop(&server);
	close(ctl);
	close(server.served[0].fd);
	EXPECT_EQ(0, dmt_dm_remove("upper"));
	EXPECT_EQ(0, dmt_dm_remove("lower"));
}

/* The lower daemon being slow must not hold the upper one's other blocks up. */
TEST_F(stack, slow_daemon_below_holds_nothing_but_its_own_blocks)
{
	struct dmt_map map = { .flags = RW };
	struct dmt_disk below = { 0 };
	struct dmt_io *slow, *quick;
	int fd, lower, upper;
	uint32_t id;

	stack_make_on("lower", 4096, self->disk.dev);
	below.dev = dmt_dm_dev("lower");
	stack_make_on("upper", 4096, below.dev);
	lower = dmt_control_open("lower", O_NONBLOCK);
	upper = dmt_control_open("upper", O_NONBLOCK);
	fd = dmt_dm_open("upper", O_RDWR | O_DIRECT);
	ASSERT_LE(0, fd);
	map.dst = &below;
	for (map.block = 3; map.block < 5; map.block++) {
		map.to = map.block;
		ASSERT_EQ(0, dmt_map(upper, 0, &map));
	}
	map.dst = &self->disk;
	map.block = 4;
	map.to = 4;
	ASSERT_EQ(0, dmt_map(lower, 0, &map));

	slow = dmt_io(fd, DMT_WRITE, 3 * DMT_BLOCK, DMT_BLOCK, 2);
	id = dmt_expect_request(lower, 3, RW);
	ASSERT_NE(0, id);
	quick = dmt_io(fd, DMT_WRITE, 4 * DMT_BLOCK, DMT_BLOCK, 2);
	EXPECT_EQ(0, dmt_io_result(quick));
	EXPECT_FALSE(dmt_io_done(slow));
	map.block = 3;
	map.to = 3;
	ASSERT_EQ(0, dmt_map(lower, id, &map));
	EXPECT_EQ(0, dmt_io_result(slow));
	EXPECT_TRUE(dmt_disk_has(&self->disk, 3, 2));
	close(fd);
	close(upper);
	close(lower);
	EXPECT_EQ(0, dmt_dm_remove("upper"));
	EXPECT_EQ(0, dmt_dm_remove("lower"));
}

TEST_F(stack, device_between_two_of_dm_linear)
{
	struct dmt_server server = { .nr = 1 };
	char params[64];
	dev_t dev;
	int fd;

	snprintf(params, sizeof(params), "%u:%u 0", major(self->disk.dev),
		 minor(self->disk.dev));
	stack_make("below", "linear", params);
	stack_make_on("between", 4096, dmt_dm_dev("below"));
	dev = dmt_dm_dev("between");
	snprintf(params, sizeof(params), "%u:%u 0", major(dev), minor(dev));
	stack_make("above", "linear", params);
	server.served[0].fd = dmt_control_open("between", O_NONBLOCK);
	server.served[0].dst = dmt_dm_dev("below");
	dmt_server_start(&server);
	fd = dmt_dm_open("above", O_RDWR | O_DIRECT);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(all_goes_through(fd, &self->disk, 2));
	EXPECT_EQ(0, dmt_io_result(dmt_io(fd, DMT_FSYNC, 0, 0, 0)));
	close(fd);
	dmt_server_stop(&server);
	close(server.served[0].fd);
	EXPECT_EQ(0, dmt_dm_remove("above"));
	EXPECT_EQ(0, dmt_dm_remove("between"));
	EXPECT_EQ(0, dmt_dm_remove("below"));
}

TEST_HARNESS_MAIN
