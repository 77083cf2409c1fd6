// SPDX-License-Identifier: GPL-2.0-only
/* The policy that the documentation shows, in a daemon, on a real device. */
#include "harness.h"

#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/dm-userspace.h>

/* A device of this machine, not quite small, and its size. */
static bool find_device(dev_t *dev, uint64_t *sectors)
{
	unsigned int maj, min;
	glob_t found;
	size_t i;
	FILE *file;

	*sectors = 0;
	if (glob("/sys/dev/block/*/size", 0, NULL, &found))
		return false;
	for (i = 0; i < found.gl_pathc && *sectors < 1000; i++) {
		file = fopen(found.gl_pathv[i], "r");
		if (!file || fscanf(file, "%" SCNu64, sectors) != 1)
			*sectors = 0;
		if (file)
			fclose(file);
		sscanf(found.gl_pathv[i], "/sys/dev/block/%u:%u", &maj, &min);
	}
	globfree(&found);
	*dev = makedev(maj, min);
	return *sectors >= 1000;
}

static void start_linear(struct fixture *f, const char *offset)
{
	char args[300];

	snprintf(args, sizeof(args), "-f -p %s/linear.so -o offset=%s vol1",
		 DMUD_PLUGINS, offset);
	start_and_serve(f, args);
}

static void linear(void **state)
{
	struct fixture *f = *state;
	struct dmui_msg msg;
	uint64_t sectors;
	dev_t dev;

	if (!find_device(&dev, &sectors))
		skip();
	geometry.sectors = sectors;
	geometry.devices = &dev;
	geometry.nr_devices = 1;
	start_linear(f, "7");
	fake_request(&f->fake, 1, 3, DMU_FLAG_RD);
	msg = from_daemon(f);
	assert_int_equal(msg.type, DM_USERSPACE_MAP_BLOCK_RESP);
	assert_int_equal(msg.response.new_block, 3);
	assert_int_equal(msg.response.offset, 7);
	assert_int_equal(msg.response.flags, DMU_FLAG_RD | DMU_FLAG_WR);
	assert_int_equal(msg.response.dst_maj, major(dev));
	assert_int_equal(msg.response.dst_min, minor(dev));
	expect_answer(f, "grow", "{\"ok\":true}");
	daemon_stop(f);
}

/* All that the kernel does not ask for is told before the daemon is ready. */
static void linear_push(struct fixture *f, const char *option, uint64_t offset,
			uint64_t count)
{
	struct dmui_msg msg;
	char args[300];

	snprintf(args, sizeof(args), "-f -p %s/linear.so %s vol1", DMUD_PLUGINS,
		 option);
	daemon_start(f, args);
	msg = await_version(f);
	msg.version.kernel_ver = 1 << 16 | 2 << 8;
	fake_send(&f->fake, &msg, 1);
	msg = from_daemon(f);
	assert_int_equal(msg.type, DM_USERSPACE_EXTENSIONS);
	msg.extensions.bits = DMU_EXT_RUNS;
	fake_send(&f->fake, &msg, 1);
	expect_ready(f, "READY\n");
	if (count) {
		msg = from_daemon(f);
		assert_int_equal(msg.type, DM_USERSPACE_MAP_RUN_RESP);
		assert_int_equal(msg.run_response.id_of_req, 0);
		assert_int_equal(msg.run_response.block, 0);
		assert_int_equal(msg.run_response.count, count);
		assert_int_equal(msg.run_response.dst_sector, offset);
		assert_int_equal(msg.run_response.flags,
				 DMU_FLAG_RD | DMU_FLAG_WR);
	}
	fake_request(&f->fake, 1, 3, DMU_FLAG_RD);
	msg = from_daemon(f);
	assert_int_equal(msg.type, offset && !count ? DM_USERSPACE_MAP_FAILED :
				   DM_USERSPACE_MAP_BLOCK_RESP);
	daemon_stop(f);
	close(f->fake.kernel);
	close(f->ready_fd);
	close(f->err_fd);
	f->fake.kernel = -1;
	f->ready_fd = -1;
	f->err_fd = -1;
}

static void linear_pushes(void **state)
{
	struct fixture *f = *state;
	uint64_t sectors;
	char option[40];
	dev_t dev;

	if (!find_device(&dev, &sectors))
		skip();
	geometry.sectors = 1000;
	geometry.devices = &dev;
	geometry.nr_devices = 1;
	linear_push(f, "", 0, 125);
	linear_push(f, "-o push=yes", 0, 125);
	linear_push(f, "-o push=no", 0, 0);
	/* What there is of it: 12 blocks and a half. */
	snprintf(option, sizeof(option), "-o offset=%" PRIu64, sectors - 100);
	linear_push(f, option, sectors - 100, 12);
	snprintf(option, sizeof(option), "-o offset=%" PRIu64, sectors - 7);
	linear_push(f, option, sectors - 7, 0);
	snprintf(option, sizeof(option), "-o offset=%" PRIu64, sectors + 8);
	linear_push(f, option, sectors + 8, 0);
}

/* The last block has one sector: the last of the device, or one behind it. */
static void linear_bounds(void **state)
{
	struct fixture *f = *state;
	uint64_t sectors, shift;
	char offset[20];
	dev_t dev;

	if (!find_device(&dev, &sectors))
		skip();
	geometry.sectors = sectors / 8 * 8 - 8 + 1;
	geometry.devices = &dev;
	geometry.nr_devices = 1;
	for (shift = 0; shift < 2; shift++) {
		snprintf(offset, sizeof(offset), "%" PRIu64,
			 sectors - geometry.sectors + shift);
		start_linear(f, offset);
		fake_request(&f->fake, 1, sectors / 8 - 1, DMU_FLAG_RD);
		assert_int_equal(from_daemon(f).type,
				 shift ? DM_USERSPACE_MAP_FAILED :
					 DM_USERSPACE_MAP_BLOCK_RESP);
		daemon_stop(f);
		close(f->fake.kernel);
		close(f->ready_fd);
		close(f->err_fd);
	}
	f->fake.kernel = -1;
	f->ready_fd = -1;
	f->err_fd = -1;
}

static void linear_options(void **state)
{
	static const char * const bad[] = {
		"offset=x", "offset=", "offset=-1", "offset=1k", "other=1",
		"offset=36028797018963968", "push=", "push=maybe",
	};
	struct fixture *f = *state;
	char args[300], want[300];
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(args, sizeof(args), "-f -p %s/linear.so -o %s vol1",
			 DMUD_PLUGINS, bad[i]);
		snprintf(want, sizeof(want),
			 "the policy linear refuses vol1: cannot understand the option %s",
			 bad[i]);
		cannot_start(f, args, want);
		close(f->ready_fd);
		close(f->err_fd);
	}
	f->ready_fd = -1;
	f->err_fd = -1;
}

#define with_daemon(test) \
	cmocka_unit_test_setup_teardown(test, daemon_setup,	\
					daemon_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_daemon(linear),
		with_daemon(linear_pushes),
		with_daemon(linear_bounds),
		with_daemon(linear_options),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
