// SPDX-License-Identifier: LGPL-2.1-or-later
/* Opening, the version, the geometry. */
#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/dm-userspace.h>

#include "internal.h"

static void asks_version_once(void **state)
{
	struct dmu *dmu = NULL;
	struct fake fake = { 0 };
	struct dmui_msg msg;
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	assert_int_equal(dmu_open_fd(fds[1], &fake_geometry, &fake_ops, NULL,
				     &dmu), 0);
	fake.kernel = fds[0];
	assert_int_equal(fake_receive(&fake, &msg, 1), 1);
	assert_int_equal(msg.type, DM_USERSPACE_GET_VERSION);
	assert_int_equal(msg.id, DMUI_VERSION_ID);
	assert_int_equal(msg.version.userspace_ver, DMUI_VERSION);
	fake_nothing_came(&fake);
	assert_int_equal(dmu_fd(dmu), fds[1]);
	assert_true(fcntl(fds[1], F_GETFL) & O_NONBLOCK);
	dmu_close(dmu);
	assert_int_equal(fcntl(fds[1], F_GETFD), -1);
	close(fds[0]);
}

static void handshake(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msg = msg_version(DMUI_VERSION_ID, DMUI_VERSION,
					  0x010003);

	assert_int_equal(dmu_kernel_version(fake->dmu), 0);
	fake_send(fake, &msg, 1);
	assert_int_equal(dmu_handshake(fake->dmu, 0), 0);
	assert_int_equal(dmu_kernel_version(fake->dmu), 0x010003);
	/* It is known now, and needs no other message. */
	assert_int_equal(dmu_handshake(fake->dmu, 0), 0);
}

/* Requests that waited before the answer are not lost. */
static void handshake_after_requests(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msgs[] = {
		msg_request(1, 10, DMU_FLAG_RD),
		msg_version(DMUI_VERSION_ID, DMUI_VERSION, 0x010000),
		msg_request(2, 20, DMU_FLAG_RD | DMU_FLAG_WR),
	};

	fake_request(fake, 3, 30, DMU_FLAG_RD);
	fake_send(fake, msgs, 3);
	assert_int_equal(dmu_handshake(fake->dmu, 0), 0);
	assert_string_equal(fake->events,
			    "map:3:30:r batch map:1:10:r map:2:20:rw batch ");
}

static void handshake_timeout(void **state)
{
	struct fake *fake = *state;

	assert_int_equal(dmu_handshake(fake->dmu, 0), -ETIMEDOUT);
	assert_int_equal(dmu_handshake(fake->dmu, 1), -ETIMEDOUT);
	assert_non_null(strstr(dmu_strerror(fake->dmu), "version"));
}

static void handshake_gone(void **state)
{
	struct fake *fake = *state;

	fake_hang_up(fake);
	assert_int_equal(dmu_handshake(fake->dmu, 1000), -ENODEV);
	assert_string_equal(fake->events, "gone ");
}

/* An answer to somebody else's question. */
static void version_mismatch(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msg = msg_version(DMUI_VERSION_ID + 1, DMUI_VERSION, 1);

	fake_send(fake, &msg, 1);
	assert_int_equal(dmu_handshake(fake->dmu, 0), -EPROTO);
	assert_int_equal(dmu_kernel_version(fake->dmu), 0);
}

static void version_not_echoed(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msg = msg_version(DMUI_VERSION_ID, DMUI_VERSION + 1, 1);

	fake_send(fake, &msg, 1);
	assert_int_equal(dmu_dispatch(fake->dmu), -EPROTO);
}

static void geometry(void **state)
{
	struct fake *fake = *state;
	const struct dmu *dmu = fake->dmu;

	assert_int_equal(dmu_block_size(dmu), BLOCK_SIZE);
	assert_int_equal(dmu_sectors(dmu), SECTORS);
	/* 125 blocks of 8 sectors and one of a single sector. */
	assert_int_equal(dmu_blocks(dmu), 126);
	assert_int_equal(dmu_nr_devices(dmu), NR_DEVICES);
	assert_true(dmu_device(dmu, 1) == makedev(8, 16));
	assert_true(dmu_device(dmu, 2) == makedev(0xfff, 0xfffff));
	assert_true(dmu_device(dmu, NR_DEVICES) == 0);
	assert_string_equal(dmu_key(dmu), "");
	assert_string_equal(dmu_strerror(dmu), "");
	/* The devices are a copy, so that the caller's may go. */
	assert_ptr_not_equal(dmu->geo.devices, fake_geometry.devices);
}

static void whole_blocks(void **state)
{
	struct fake *fake = *state;

	fake->dmu->geo.sectors = 8;
	assert_int_equal(dmu_blocks(fake->dmu), 1);
	fake->dmu->geo.sectors = UINT64_MAX;
	assert_true(dmu_blocks(fake->dmu) == (UINT64_MAX >> 3) + 1);
}

static void device_sectors(void **state)
{
	struct fake *fake = *state;
	uint64_t sectors = 1;

	assert_int_equal(dmu_device_sectors(fake->dmu, NR_DEVICES, &sectors),
			 -ENXIO);
	/* No machine has a device of that number. */
	assert_int_equal(dmu_device_sectors(fake->dmu, 2, &sectors), -EIO);
	assert_non_null(strstr(dmu_strerror(fake->dmu), "4095:1048575"));
	assert_int_equal(sectors, 1);
}

/* With a device that this machine has. */
static void real_device_sectors(void **state)
{
	struct fake *fake = *state;
	uint64_t sectors = 1, want = 2;
	unsigned int maj, min;
	char path[300];
	FILE *file;
	glob_t found;

	if (glob("/sys/dev/block/*", 0, NULL, &found))
		skip();
	assert_int_equal(sscanf(found.gl_pathv[0], "/sys/dev/block/%u:%u",
				&maj, &min), 2);
	snprintf(path, sizeof(path), "%s/size", found.gl_pathv[0]);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%" SCNu64, &want), 1);
	fclose(file);
	globfree(&found);
	fake->dmu->geo.devices[1] = makedev(maj, min);
	assert_int_equal(dmu_device_sectors(fake->dmu, 1, &sectors), 0);
	assert_true(sectors == want);
}

static void refresh_without_name(void **state)
{
	struct fake *fake = *state;

	assert_int_equal(dmu_refresh(fake->dmu), -EOPNOTSUPP);
	assert_int_equal(dmu_sectors(fake->dmu), SECTORS);
}

static int try_open(const struct dmu_geometry *geo, const struct dmu_ops *ops,
		    int fd)
{
	struct dmu *dmu = NULL;
	int err = dmu_open_fd(fd, geo, ops, NULL, &dmu);

	assert_null(dmu);
	assert_string_not_equal(dmu_strerror(NULL), "");
	return err;
}

static void refuses_to_open(void **state)
{
	static const uint32_t bad_sizes[] = { 0, 1, 256, 513, 3 << 20,
					      1u << 31 };
	struct dmu_geometry geo = fake_geometry;
	struct dmu_ops ops = fake_ops;
	int fds[2];
	size_t i;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	for (i = 0; i < sizeof(bad_sizes) / sizeof(bad_sizes[0]); i++) {
		geo.block_size = bad_sizes[i];
		assert_int_equal(try_open(&geo, &ops, fds[1]), -EINVAL);
	}
	geo = fake_geometry;
	geo.sectors = 0;
	assert_int_equal(try_open(&geo, &ops, fds[1]), -EINVAL);
	geo = fake_geometry;
	geo.nr_devices = 0;
	assert_int_equal(try_open(&geo, &ops, fds[1]), -EINVAL);
	ops.map = NULL;
	assert_int_equal(try_open(&fake_geometry, &ops, fds[1]), -EINVAL);
	assert_int_equal(try_open(&fake_geometry, &fake_ops, -1), -EBADF);
	/* The descriptor is still ours: a failure does not close it. */
	close(fds[0]);
	assert_int_equal(try_open(&fake_geometry, &fake_ops, fds[1]), -ENODEV);
	assert_int_equal(close(fds[1]), 0);
}

static void extreme_block_sizes(void **state)
{
	struct dmu_geometry geo = fake_geometry;
	uint32_t size;
	struct dmu *dmu;
	int fds[2];

	(void)state;
	for (size = 512; size <= 1u << 30; size = size == 512 ? 1u << 30 :
							       UINT32_MAX) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
		geo.block_size = size;
		assert_int_equal(dmu_open_fd(fds[1], &geo, &fake_ops, NULL,
					     &dmu), 0);
		assert_int_equal(dmu_blocks(dmu), size == 512 ? SECTORS : 1);
		dmu_close(dmu);
		close(fds[0]);
	}
}

static void close_nothing(void **state)
{
	(void)state;
	dmu_close(NULL);
}

#define with_fake(test) \
	cmocka_unit_test_setup_teardown(test, fake_setup, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(asks_version_once),
		with_fake(handshake),
		with_fake(handshake_after_requests),
		with_fake(handshake_timeout),
		with_fake(handshake_gone),
		with_fake(version_mismatch),
		with_fake(version_not_echoed),
		with_fake(geometry),
		with_fake(whole_blocks),
		with_fake(device_sectors),
		with_fake(real_device_sectors),
		with_fake(refresh_without_name),
		cmocka_unit_test(refuses_to_open),
		cmocka_unit_test(extreme_block_sizes),
		cmocka_unit_test(close_nothing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
