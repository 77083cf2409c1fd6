// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * From a name to a connection, with a device-mapper of our own: the functions
 * of libdevmapper are here. /dev/null (1:3) stands for the control device: it
 * is there, sysfs knows it, and it takes what is written.
 */
#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <libdevmapper.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct target {
	unsigned int minor;
	const char *name;
	bool inactive;
	uint64_t start;
	uint64_t length;
	const char *type;
	const char *table;
	const char *status;
};

/* What device-mapper has to tell; ends with a minor of 0. */
static const struct target *targets;
static bool refuse_to_list;
/* How many STATUS calls find a table that has just been swapped. */
static int swaps;
static int nr_tasks;

struct dm_task {
	int type;
	unsigned int minor;
	bool inactive;
	bool no_flush;
	struct dm_names *names;
};

struct dm_task *dm_task_create(int type)
{
	struct dm_task *task = calloc(1, sizeof(*task));

	task->type = type;
	nr_tasks++;
	return task;
}

void dm_task_destroy(struct dm_task *task)
{
	free(task->names);
	free(task);
	nr_tasks--;
}

int dm_task_set_major_minor(struct dm_task *task, int major, int minor,
			    int fallback)
{
	assert_int_equal(major, 254);
	assert_int_equal(fallback, 0);
	task->minor = minor;
	return 1;
}

int dm_task_no_flush(struct dm_task *task)
{
	task->no_flush = true;
	return 1;
}

int dm_task_query_inactive_table(struct dm_task *task)
{
	task->inactive = true;
	return 1;
}

static void list(struct dm_task *task)
{
	const struct target *t;
	struct dm_names *last = NULL, *to;
	size_t size = 64;

	/* As the kernel lays it out: 8-aligned, linked by offsets. */
	task->names = calloc(100, size);
	to = task->names;
	for (t = targets; t->minor; t++) {
		if (last && (last->dev & 0xff) == t->minor)
			continue;
		if (last)
			last->next = size;
		to->dev = makedev(254, t->minor);
		assert_true(strlen(t->name) < size - 13);
		strcpy(to->name, t->name);
		last = to;
		to = (struct dm_names *)((char *)to + size);
	}
}

int dm_task_run(struct dm_task *task)
{
	if (task->type == DM_DEVICE_LIST) {
		if (!refuse_to_list)
			list(task);
		return !refuse_to_list;
	}
	/* A status that flushes would wait for the daemon we are to be. */
	assert_true(task->no_flush);
	return 1;
}

struct dm_names *dm_task_get_names(struct dm_task *task)
{
	return task->names;
}

static const struct target *next_target(const struct dm_task *task,
					const struct target *t)
{
	while (t->minor && (t->minor != task->minor ||
			    t->inactive != task->inactive))
		t++;
	return t->minor ? t : NULL;
}

void *dm_get_next_target(struct dm_task *task, void *next, uint64_t *start,
			 uint64_t *length, char **type, char **params)
{
	const struct target *t = next ? next : next_target(task, targets);

	*type = NULL;
	if (!t)
		return NULL;
	if (task->type == DM_DEVICE_STATUS && swaps) {
		swaps--;
		return NULL;
	}
	*start = t->start;
	*length = t->length;
	*type = (char *)t->type;
	*params = (char *)(task->type == DM_DEVICE_TABLE ? t->table :
							   t->status);
	return (void *)next_target(task, t + 1);
}

void dm_lib_release(void)
{
	assert_int_equal(nr_tasks, 0);
}

/* A machine with a bit of everything. */
static const struct target machine[] = {
	{ 1, "root", false, 0, 1000, "linear", "8:0 0", "" },
	{ 1, "root", false, 1000, 50, "zero", "", "" },
	/* Live, and a larger table loaded. Key and name differ. */
	{ 2, "vol1", false, 0, 4096, "userspace", "key1 4096 8:0 8:16",
	  "1:3 1 2 3" },
	{ 2, "vol1", true, 0, 8192, "userspace", "key1 4096 8:0 8:32",
	  "1:3 1 2 3" },
	/* Two parts of one key with a foreign target between; one more device. */
	{ 3, "vol2", false, 0, 800, "userspace", "key2 512 8:0 1 x",
	  "10:7 0" },
	{ 3, "vol2", false, 800, 100, "linear", "8:0 5", "" },
	{ 3, "vol2", false, 900, 100, "userspace", "key2 512 8:16 8:0",
	  "10:7 0" },
	/* Only loaded so far. */
	{ 4, "vol3", true, 0, 2048, "userspace", "vol3 1024 259:70000",
	  "1:3" },
	/* A name that is another's key. */
	{ 5, "key2", false, 0, 8, "userspace", "key4 512 8:0", "10:8" },
	{ 6, "both", false, 0, 8, "userspace", "key5 512 8:0", "10:9" },
	{ 6, "both", false, 8, 8, "userspace", "key6 512 8:0", "10:10" },
	{ 0 }
};

static const struct target empty[] = { { 0 } };

static int setup(void **state)
{
	(void)state;
	targets = machine;
	refuse_to_list = false;
	swaps = 0;
	return 0;
}

/* 0 means that the tables were understood and the node opened. */
static int open_it(const char *name, struct dmu **dmu)
{
	*dmu = NULL;
	return dmu_open(name, &fake_ops, NULL, dmu);
}

static void refused(const char *name, int err, const char *words)
{
	struct dmu *dmu;

	assert_int_equal(open_it(name, &dmu), err);
	assert_null(dmu);
	if (!strstr(dmu_strerror(NULL), words))
		fail_msg("%s: %s", name, dmu_strerror(NULL));
}

static void by_key(void **state)
{
	struct stat st;
	struct dmu *dmu;

	(void)state;
	assert_int_equal(open_it("key1", &dmu), 0);
	assert_string_equal(dmu_key(dmu), "key1");
	assert_int_equal(dmu_block_size(dmu), 4096);
	/* The loaded table is larger, and has a device of its own. */
	assert_int_equal(dmu_sectors(dmu), 8192);
	assert_int_equal(dmu_nr_devices(dmu), 3);
	assert_true(dmu_device(dmu, 0) == makedev(8, 0));
	assert_true(dmu_device(dmu, 1) == makedev(8, 16));
	assert_true(dmu_device(dmu, 2) == makedev(8, 32));
	assert_int_equal(fstat(dmu_fd(dmu), &st), 0);
	assert_true(st.st_rdev == makedev(1, 3));
	assert_true(fcntl(dmu_fd(dmu), F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(dmu_fd(dmu), F_GETFD) & FD_CLOEXEC);
	dmu_close(dmu);
}

static void by_name(void **state)
{
	struct dmu *dmu;

	(void)state;
	assert_int_equal(open_it("vol1", &dmu), 0);
	assert_string_equal(dmu_key(dmu), "key1");
	dmu_close(dmu);
}

static void only_loaded(void **state)
{
	struct dmu *dmu;

	(void)state;
	assert_int_equal(open_it("vol3", &dmu), 0);
	assert_int_equal(dmu_blocks(dmu), 1024);
	assert_true(dmu_device(dmu, 0) == makedev(259, 70000));
	dmu_close(dmu);
}

static void by_control_device(void **state)
{
	/* Two keys cannot have one control device; here the fakes do. */
	static const struct target one[] = {
		{ 4, "vol3", true, 0, 2048, "userspace", "k 1024 8:0", "1:3" },
		{ 0 }
	};
	struct dmu *dmu;

	(void)state;
	targets = one;
	assert_int_equal(open_it("/dev/null", &dmu), 0);
	assert_string_equal(dmu_key(dmu), "k");
	dmu_close(dmu);
	refused("/dev/zero", -ENODEV, "/dev/zero is neither");
	refused("/dev/nonesuch", -ENOENT, "/dev/nonesuch: No such file");
	refused("/etc/passwd", -ENODEV, "/etc/passwd is neither");
}

/* The parts of a key count together: 10:7 does not exist, but is found. */
static void several_parts(void **state)
{
	static struct target same[8];
	struct dmu *dmu;
	size_t i;

	(void)state;
	memcpy(same, machine + 4, 3 * sizeof(*same));
	for (i = 0; i < 3; i++)
		same[i].status = "1:3";
	targets = same;
	assert_int_equal(open_it("key2", &dmu), 0);
	assert_int_equal(dmu_sectors(dmu), 1000);
	assert_int_equal(dmu_nr_devices(dmu), 2);
	assert_true(dmu_device(dmu, 0) == makedev(8, 0));
	assert_true(dmu_device(dmu, 1) == makedev(8, 16));
	dmu_close(dmu);
}

static void not_there(void **state)
{
	(void)state;
	refused("nonesuch", -ENODEV, "nonesuch");
	refused("root", -ENODEV, "root");
	refused("", -ENODEV, "no userspace target");
	targets = empty;
	refused("key1", -ENODEV, "no userspace target");
	refuse_to_list = true;
	refused("key1", -ENODEV, "device-mapper does not answer");
}

static void two_meanings(void **state)
{
	(void)state;
	refused("key2", -EINVAL, "key2 is the key of vol2, and the name of a device whose key is key4");
	refused("both", -EINVAL, "both has several keys, among them key5 and key6");
	/* Each by itself is fine, but for a node that does not exist. */
	refused("key4", -ENOENT, "/sys/dev/char/10:8");
}

static void nonsense(void **state)
{
	static const struct target bad_table[] = {
		{ 1, "v", false, 0, 8, "userspace", "k 512", "1:3" }, { 0 }
	};
	static const struct target bad_status[] = {
		{ 1, "v", false, 0, 8, "userspace", "k 512 8:0", "x" }, { 0 }
	};
	static const struct target bad_size[] = {
		{ 1, "v", false, 0, 8, "userspace", "k 513 8:0", "1:3" }, { 0 }
	};

	(void)state;
	targets = bad_table;
	refused("k", -EINVAL, "cannot understand the table of v: k 512");
	targets = bad_status;
	refused("k", -EINVAL, "cannot understand the status of v: x");
	targets = bad_size;
	refused("k", -EINVAL, "513 bytes");
}

static void changes_meanwhile(void **state)
{
	struct dmu *dmu;

	(void)state;
	targets = machine + 2;
	swaps = 2;
	assert_int_equal(open_it("key1", &dmu), 0);
	assert_int_equal(dmu_nr_devices(dmu), 3);
	dmu_close(dmu);
	swaps = 1000;
	refused("key1", -EAGAIN, "the table of vol1 keeps changing");
}

static void refresh(void **state)
{
	static const struct target grown[] = {
		{ 2, "other", false, 0, 9999, "userspace", "key1 4096 9:9",
		  "1:3" },
		{ 0 }
	};
	static const struct target another[] = {
		{ 2, "vol1", false, 0, 8, "userspace", "key1 4096 9:9",
		  "1:5" },
		{ 0 }
	};
	struct dmu *dmu;

	(void)state;
	assert_int_equal(open_it("vol1", &dmu), 0);
	targets = grown;
	assert_int_equal(dmu_refresh(dmu), 0);
	assert_int_equal(dmu_sectors(dmu), 9999);
	assert_int_equal(dmu_nr_devices(dmu), 1);
	assert_true(dmu_device(dmu, 0) == makedev(9, 9));
	/* From here on it fails, and everything stays as it was. */
	targets = another;
	assert_int_equal(dmu_refresh(dmu), -ENODEV);
	assert_non_null(strstr(dmu_strerror(dmu), "another device"));
	targets = empty;
	assert_int_equal(dmu_refresh(dmu), -ENODEV);
	assert_non_null(strstr(dmu_strerror(dmu), "key1"));
	assert_int_equal(dmu_sectors(dmu), 9999);
	dmu_close(dmu);
}

/* A refresh goes by the key, whatever else has taken that name. */
static void refresh_by_key(void **state)
{
	static const struct target later[] = {
		{ 2, "vol1", false, 0, 16, "userspace", "key1 4096 8:0",
		  "1:3" },
		{ 3, "key1", false, 0, 8, "userspace", "other 512 8:0",
		  "1:5" },
		{ 0 }
	};
	struct dmu *dmu;

	(void)state;
	assert_int_equal(open_it("vol1", &dmu), 0);
	targets = later;
	assert_int_equal(dmu_refresh(dmu), 0);
	assert_int_equal(dmu_sectors(dmu), 16);
	dmu_close(dmu);
}

#define with_machine(test) cmocka_unit_test_setup(test, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_machine(by_key),
		with_machine(by_name),
		with_machine(only_loaded),
		with_machine(by_control_device),
		with_machine(several_parts),
		with_machine(not_there),
		with_machine(two_meanings),
		with_machine(nonsense),
		with_machine(changes_meanwhile),
		with_machine(refresh),
		with_machine(refresh_by_key),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
