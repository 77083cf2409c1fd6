// SPDX-License-Identifier: GPL-2.0-only
/* Devices, keys and open files that come and go, over and over. */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/fixture.h"
#include "lib/sysfs.h"
#include <err.h>
#include <sched.h>
#include <sys/wait.h>

FIXTURE(life)
{
	struct dmt_disk disk;
};

FIXTURE_SETUP(life)
{
	ASSERT_TRUE(dmt_keys_are_gone());
	dmt_disk_open(&self->disk, DMT_BLOCKS * DMT_BLOCK, 0);
}

FIXTURE_TEARDOWN(life)
{
	dmt_disk_close(&self->disk);
	EXPECT_TRUE(dmt_keys_are_gone());
}

/* How much memory the kernel has given to itself and cannot take back, in KiB. */
static long kernel_memory(void)
{
	char line[128];
	long kib, sum = 0;
	FILE *f = fopen("/proc/meminfo", "re");

	if (!f)
		err(1, "/proc/meminfo");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "SUnreclaim: %ld", &kib) == 1 ||
		    sscanf(line, "Percpu: %ld", &kib) == 1 ||
		    sscanf(line, "VmallocUsed: %ld", &kib) == 1)
			sum += kib;
	fclose(f);
	return sum;
}

TEST_F_TIMEOUT(life, devices_come_and_go_200_times, 150)
{
	unsigned int i, times = dmt_often(200);
	struct dmt_brief b;
	long before = 0;

	for (i = 0; i < times; i++) {
		dmt_brief_make(&b, "life", &self->disk);
		if (i % 4 == 0) {
			EXPECT_TRUE(dmt_brief_use(&b, i / 4));
		}
		/* The file goes first, or the device. */
		if (i % 2)
			close(b.ctl);
		dmt_brief_remove(&b);
		if (i % 2 == 0)
			close(b.ctl);
		/* The first few fill caches. */
		if (i == times / 10) {
			ASSERT_TRUE(dmt_keys_are_gone());
			before = kernel_memory();
		}
	}
	EXPECT_TRUE(dmt_keys_are_gone());
	/*
	 * What comes and goes with others is up to 1 KiB for each, and what is less than
	 * this is found by kmemleak, on the debug kernel.
	 */
	if (times == 200)
		EXPECT_GT(before + 180 * 3, kernel_memory());
}

/* A key of its own, in a process of its own: libdevmapper knows no threads. */
static int come_and_go(unsigned int nr)
{
	struct dmt_disk disk;
	struct dmt_brief b;
	char name[16];
	unsigned int i;
	bool ok = true;

	dmt_disk_open(&disk, DMT_BLOCKS * DMT_BLOCK, 0);
	snprintf(name, sizeof(name), "side%u", nr);
	for (i = 0; i < dmt_often(20); i++) {
		dmt_brief_make(&b, name, &disk);
		ok &= dmt_brief_use(&b, i);
		if (i % 2)
			close(b.ctl);
		dmt_brief_remove(&b);
		if (i % 2 == 0)
			close(b.ctl);
	}
	dmt_disk_close(&disk);
	return !ok;
}

TEST_F_TIMEOUT(life, keys_come_and_go_side_by_side, 150)
{
	enum { NR = 4 };
	pid_t pids[NR];
	unsigned int i;
	int status;

	for (i = 0; i < NR; i++) {
		pids[i] = fork();
		ASSERT_LE(0, pids[i]);
		if (!pids[i])
			_exit(come_and_go(i));
	}
	for (i = 0; i < NR; i++) {
		ASSERT_EQ(pids[i], waitpid(pids[i], &status, 0));
		EXPECT_EQ(0, status);
	}
}

/* --- open files against it all ----------------------------------------------------------- */

struct opener {
	const struct dmt_disk *disk;
	bool stop;
	unsigned int opened;
	unsigned int served;
	unsigned int ended;
	int bad;
};

/* Whatever a control device says must be one of what it may say. */
static void open_once(struct opener *o, const char *path)
{
	struct dmu_msg_version version = { .userspace_ver = 1 };
	struct dmt_map map = { .block = 1, .to = 1, .dst = o->disk,
			       .flags = RO };
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct dmt_msg msg;
	ssize_t n;

	if (fd < 0) {
		if (errno != ENOENT && errno != ENXIO && errno != ENODEV)
			o->bad = errno;
		sched_yield();
		return;
	}
	o->opened++;
	n = dmt_write_msg(fd, DM_USERSPACE_GET_VERSION, 3, &version,
			  sizeof(version));
	if (n != 20 && n != -ENODEV)
		o->bad = n < 0 ? -n : EPROTO;
	/* Blocking: there is the answer to read, or it is all over. */
	n = dmt_read_msg(fd, &msg);
	if (n == 20 && msg.header.id == 3)
		o->served++;
	else if (!n)
		o->ended++;
	else
		o->bad = n < 0 ? -n : EPROTO;
	n = dmt_map(fd, 0, &map);
	if (n && n != -ENODEV)
		o->bad = -n;
	close(fd);
}

static void *open_and_close(void *arg)
{
	struct opener *o = arg;
	char path[64];
	unsigned int i;

	while (!__atomic_load_n(&o->stop, __ATOMIC_ACQUIRE))
		for (i = 0; i < 4; i++) {
			snprintf(path, sizeof(path), "/dev/dm-userspace%u", i);
			open_once(o, path);
		}
	return NULL;
}

TEST_F_TIMEOUT(life, files_are_opened_while_devices_come_and_go, 150)
{
	struct opener o[2] = { { .disk = &self->disk },
			       { .disk = &self->disk } };
	pthread_t threads[2];
	unsigned int i;
	char params[64];

	snprintf(params, sizeof(params), "opened 4096 %u:%u",
		 major(self->disk.dev), minor(self->disk.dev));
	ASSERT_EQ(0, dmt_dm_create("opened"));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, open_and_close,
					    &o[i]));
	for (i = 0; i < dmt_often(50) || !o[0].served || !o[1].served; i++) {
		ASSERT_EQ(0, dmt_dm_load("opened", 0,
					 DMT_BLOCKS * DMT_SECTORS,
					 "userspace", params));
		ASSERT_EQ(0, dmt_dm_clear("opened"));
	}
	for (i = 0; i < 2; i++)
		__atomic_store_n(&o[i].stop, true, __ATOMIC_RELEASE);
	for (i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, o[i].bad) {
			TH_LOG("one got: %s", strerror(o[i].bad));
		}
		EXPECT_LT(0, o[i].served);
	}
	ASSERT_EQ(0, dmt_dm_remove("opened"));
}

/* Mappings without end, until the device has gone. */
static void *push_until_the_end(void *arg)
{
	struct opener *o = arg;
	struct dmt_batch *batch = calloc(1, sizeof(*batch));
	int fd = dmt_control_open("pushed", O_NONBLOCK);
	struct dmt_map map = { .dst = o->disk, .flags = RW };
	ssize_t n;

	for (map.block = 0; map.block < DMT_BLOCKS; map.block++) {
		map.to = map.block;
		dmt_batch_map(batch, 0, &map);
	}
	do {
		n = dmt_batch_write(fd, batch);
		__atomic_add_fetch(&o->served, 1, __ATOMIC_RELEASE);
	} while (n > 0);
	o->bad = n == -ENODEV ? 0 : -n;
	close(fd);
	free(batch);
	return NULL;
}

TEST_F(life, device_goes_while_its_daemon_writes)
{
	unsigned int i;

	for (i = 0; i < dmt_often(20); i++) {
		struct opener o = { .disk = &self->disk };
		pthread_t thread;
		struct dmt_brief b;

		dmt_brief_make(&b, "pushed", &self->disk);
		close(b.ctl);
		ASSERT_EQ(0, pthread_create(&thread, NULL, push_until_the_end,
					    &o));
		while (__atomic_load_n(&o.served, __ATOMIC_ACQUIRE) < 3)
			sched_yield();
		dmt_brief_remove(&b);
		pthread_join(thread, NULL);
		EXPECT_EQ(0, o.bad);
	}
}

TEST_HARNESS_MAIN
