// SPDX-License-Identifier: LGPL-2.1-or-later
/* Table lines, status lines, uevent files. */
#include "fake.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "table.h"

static void plain(void **state)
{
	struct dmui_table table;

	(void)state;
	assert_int_equal(dmui_parse_table("vol1 65536 8:16", &table), 0);
	assert_string_equal(table.key, "vol1");
	assert_int_equal(table.block_size, 65536);
	assert_int_equal(table.nr_devices, 1);
	assert_true(table.devices[0] == makedev(8, 16));
	dmui_table_destroy(&table);
}

static void features(void **state)
{
	struct dmui_table table;

	(void)state;
	/* "7:7" behind the count would be an argument, no device. */
	assert_int_equal(dmui_parse_table("a-b.c 512 8:0 259:1048575 3 error_if_no_daemon daemon_timeout 7:7",
					  &table), 0);
	assert_string_equal(table.key, "a-b.c");
	assert_int_equal(table.block_size, 512);
	assert_int_equal(table.nr_devices, 2);
	assert_true(table.devices[1] == makedev(259, 1048575));
	dmui_table_destroy(&table);
	assert_int_equal(dmui_parse_table("k 512 8:0 0", &table), 0);
	assert_int_equal(table.nr_devices, 1);
	dmui_table_destroy(&table);
}

/* A key of digits is a key: it comes first. The order of devices stays. */
static void odd_but_good(void **state)
{
	struct dmui_table table;

	(void)state;
	assert_int_equal(dmui_parse_table(" 12  1024\t9:9   8:8 1:1 ",
					  &table), 0);
	assert_string_equal(table.key, "12");
	assert_int_equal(table.nr_devices, 3);
	assert_true(table.devices[0] == makedev(9, 9));
	assert_true(table.devices[2] == makedev(1, 1));
	dmui_table_destroy(&table);
}

static void bad_tables(void **state)
{
	static const char * const bad[] = {
		"", " ", "key", "key 4096", "key 4096 2 a b", "key -1 8:0",
		"key 0x1000 8:0", "key 4096k 8:0", "key 4294967296 8:0",
		"key 99999999999999999999 8:0", "key +512 8:0",
		"key 4096 8:", "key 4096 :8", "key 4096 8:0:0", "key 4096 8:0x",
		"key 4096 8:-1", "key 4096 8: 0", "key 4096 /dev/sda",
		"key 4096 8:0 wrong 1", "key 4096 4294967296:0",
	};
	struct dmui_table table;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (dmui_parse_table(bad[i], &table) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
		assert_null(table.devices);
	}
}

static void key_length(void **state)
{
	struct dmui_table table;
	char line[300];

	(void)state;
	memset(line, 'k', 255);
	strcpy(line + 255, " 512 8:0");
	assert_int_equal(dmui_parse_table(line, &table), 0);
	assert_int_equal(strlen(table.key), 255);
	dmui_table_destroy(&table);
	memset(line, 'k', 256);
	strcpy(line + 256, " 512 8:0");
	assert_int_equal(dmui_parse_table(line, &table), -EINVAL);
}

static void control(void **state)
{
	dev_t dev = 0;

	(void)state;
	assert_int_equal(dmui_parse_control("10:123 attached 5 6", &dev), 0);
	assert_true(dev == makedev(10, 123));
	assert_int_equal(dmui_parse_control("511:1048575", &dev), 0);
	assert_true(dev == makedev(511, 1048575));
	assert_int_equal(dmui_parse_control("", &dev), -EINVAL);
	assert_int_equal(dmui_parse_control("Error", &dev), -EINVAL);
	assert_int_equal(dmui_parse_control("10 :5", &dev), -EINVAL);
	assert_int_equal(dmui_parse_control("a:5", &dev), -EINVAL);
}

static void devname(void **state)
{
	char path[32];

	(void)state;
	assert_int_equal(dmui_parse_devname("MAJOR=10\nMINOR=5\nDEVNAME=dm-userspace0\nDEVMODE=0600\n",
					    path, sizeof(path)), 0);
	assert_string_equal(path, "/dev/dm-userspace0");
	assert_int_equal(dmui_parse_devname("DEVNAME=a/b", path,
					    sizeof(path)), 0);
	assert_string_equal(path, "/dev/a/b");
	/* Only at the beginning of a line. */
	assert_int_equal(dmui_parse_devname("MAJOR=10\nXDEVNAME=x\n", path,
					    sizeof(path)), -ENOENT);
	assert_int_equal(dmui_parse_devname("", path, sizeof(path)), -ENOENT);
	assert_int_equal(dmui_parse_devname("DEVNAME=abc", path, 8),
			 -ENAMETOOLONG);
	assert_int_equal(dmui_parse_devname("DEVNAME=ab", path, 8), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),
		cmocka_unit_test(features),
		cmocka_unit_test(odd_but_good),
		cmocka_unit_test(bad_tables),
		cmocka_unit_test(key_length),
		cmocka_unit_test(control),
		cmocka_unit_test(devname),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
