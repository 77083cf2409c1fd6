// SPDX-License-Identifier: GPL-2.0-only
/*
 * The cow policy on real block devices: loop devices with logical blocks of
 * 4096 bytes. Skipped where none can be had.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fake.h"
#include "format.h"

#define BLOCK	65536u

/**
 * struct loop - a loop device, gone with the last file that is open on it
 * @file: behind it
 * @fd: the device
 * @dev: its number
 */
struct loop {
	int file;
	int fd;
	dev_t dev;
};

static bool loop_attach(struct loop *l, const char *node)
{
	struct loop_config config = {
		.fd = (uint32_t)l->file,
		.block_size = 4096,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR,
	};
	struct stat st;

	l->fd = open(node, O_RDWR | O_CLOEXEC);
	if (l->fd < 0)
		return false;
	if (ioctl(l->fd, LOOP_CONFIGURE, &config) || fstat(l->fd, &st)) {
		close(l->fd);
		return false;
	}
	l->dev = st.st_rdev;
	return true;
}

static bool loop_new(struct loop *l, off_t bytes)
{
	char path[] = "./cow-loop-XXXXXX", node[32];
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	unsigned int tries;
	bool ok = false;

	if (control < 0)
		return false;
	l->file = mkostemp(path, O_CLOEXEC);
	unlink(path);
	ok = l->file >= 0 && !ftruncate(l->file, bytes);
	/* Others may take the one that was free. */
	for (tries = 0; ok && tries < 10; tries++) {
		snprintf(node, sizeof(node), "/dev/loop%d",
			 ioctl(control, LOOP_CTL_GET_FREE));
		if (loop_attach(l, node))
			break;
	}
	close(control);
	if (ok && tries < 10)
		return true;
	close(l->file);
	return false;
}

static void loop_free(struct loop *l)
{
	close(l->fd);
	close(l->file);
}

static uint64_t store_block(void *state, uint64_t block)
{
	struct fake_answer a = fake_ask(state, 1, block, true);

	assert_false(a.failed);
	assert_int_equal(a.m.dst_sector % (BLOCK / 512), 0);
	fake_sync(state, 1, block);
	fake_batch(state);
	return a.m.dst_sector;
}

static void fill_and_grow(struct loop *store, void *state,
			  struct dmud_env *env, uint64_t *sector)
{
	uint64_t i;

	for (i = 0; i < 20; i++)
		sector[i] = store_block(state, i * 3);
	assert_true(fake_ask(state, 1, 61, true).failed);
	assert_false(ftruncate(store->file,
			       (off_t)cow_place_offset(25, BLOCK)));
	assert_false(ioctl(store->fd, LOOP_SET_CAPACITY, 0));
	assert_false(dmud_policy.grow(state, env));
	for (; i < 25; i++)
		sector[i] = store_block(state, i * 3);
	assert_true(fake_ask(state, 1, 76, true).failed);
}

static void a_snapshot_on_real_devices(void **unused)
{
	struct loop origin, store;
	uint64_t sector[25], i;
	struct dmud_env env;
	void *state, *second;

	(void)unused;
	if (!loop_new(&origin, 64 << 20))
		skip();
	if (!loop_new(&store, (off_t)cow_place_offset(20, BLOCK))) {
		loop_free(&origin);
		skip();
	}
	fake_reset(BLOCK, (64 << 20) / 512);
	fake.devices[0] = origin.dev;
	fake.devices[1] = store.dev;
	assert_int_equal(fake_open(NULL, &env, NULL, &state), 0);
	fill_and_grow(&store, state, &env, sector);
	assert_int_equal(fake.nr_acked, 25);
	assert_int_equal(fake_open(NULL, &env, NULL, &second), -EBUSY);
	fake_close(state);

	assert_int_equal(fake_open(NULL, &env, NULL, &state), 0);
	for (i = 0; i < 25; i++) {
		struct fake_answer a = fake_ask(state, 1, i * 3, true);

		assert_int_equal(a.m.flags, DMU_MAP_WRITE);
		assert_int_equal(a.m.dst_sector, sector[i]);
		assert_true(a.m.dst == store.dev);
	}
	fake_close(state);
	fake_free();
	loop_free(&store);
	loop_free(&origin);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_snapshot_on_real_devices),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
