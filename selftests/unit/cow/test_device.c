// SPDX-License-Identifier: GPL-2.0-only
/*
 * From the number of a block device to its node, on those that there are.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "device.h"

/* Any block device at all. */
static dev_t some_device(void)
{
	DIR *d = opendir("/sys/dev/block");
	unsigned int ma = 0, mi = 0;
	struct dirent *e;

	while (d && !ma && (e = readdir(d)))
		if (sscanf(e->d_name, "%u:%u", &ma, &mi) != 2)
			ma = 0;
	if (d)
		closedir(d);
	if (!ma)
		skip();
	return makedev(ma, mi);
}

static void the_node_is_found(void **unused)
{
	dev_t dev = some_device();
	struct stat st;
	char path[64], link[64], target[256] = "", *name;

	(void)unused;
	assert_false(cow_device_path(dev, path, sizeof(path)));
	assert_false(strncmp(path, "/dev/", 5));
	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(dev),
		 minor(dev));
	assert_true(readlink(link, target, sizeof(target) - 1) > 0);
	/* A slash in a device's name is a ! in sysfs. */
	for (name = strrchr(target, '/') + 1; strchr(name, '!');)
		*strchr(name, '!') = '/';
	assert_string_equal(path + 5, name);
	/* A container may have no nodes. */
	if (!stat(path, &st)) {
		assert_true(S_ISBLK(st.st_mode));
		assert_true(st.st_rdev == dev);
	}
	assert_int_equal(cow_device_path(dev, path, 6), -ENAMETOOLONG);
}

static void no_device_no_answer(void **unused)
{
	dev_t dev = makedev(4095, 1048575);
	char path[64];

	(void)unused;
	assert_int_equal(cow_device_path(dev, path, sizeof(path)), -ENOENT);
	assert_int_equal(cow_device_open(dev, O_RDONLY), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_node_is_found),
		cmocka_unit_test(no_device_no_answer),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
