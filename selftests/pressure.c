// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device on top of another one, each with a daemon, and hardly any memory: the
 * lower one must go on while the upper one waits for it.
 */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/fixture.h"
#include "lib/gate.h"
#include "lib/inject.h"
#include "lib/sysfs.h"
#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void put(const char *path, const char *value)
{
	FILE *f = fopen(path, "we");

	if (!f || fputs(value, f) < 0 || fclose(f))
		err(1, "writing %s to %s", value, path);
}

/* --- two devices ------------------------------------------------------------------------ */

#define BLOCKS 2048u /* 8 MiB */

enum { LOWER, UPPER, NR };

static const char * const names[NR] = { "lower", "upper" };

/**
 * @disk: below both
 * @servers: the daemons, a thread each
 * @fd: the upper device
 */
FIXTURE(stacked)
{
	struct dmt_disk disk;
	struct dmt_server servers[NR];
	int fd;
};

FIXTURE_SETUP(stacked)
{
	unsigned int old = dmt_param_get("remap_reserve");
	char params[64];
	unsigned int i;
	dev_t below;

	ASSERT_TRUE(dmt_keys_are_gone());
	dmt_disk_open(&self->disk, BLOCKS * DMT_BLOCK, 0);
	below = self->disk.dev;
	/* As little as there can be. */
	dmt_param_set("remap_reserve", 1);
	for (i = 0; i < NR; i++) {
		struct dmt_server *s = &self->servers[i];

		snprintf(params, sizeof(params), "%s 4096 %u:%u", names[i],
			 major(below), minor(below));
		if (dmt_dm_create(names[i]) ||
		    dmt_dm_load(names[i], 0, BLOCKS * DMT_SECTORS, "userspace",
				params) ||
		    dmt_dm_resume(names[i]))
			errx(1, "cannot make %s", names[i]);
		*s = (struct dmt_server){ .nr = 1 };
		s->served[0].fd = dmt_control_open(names[i], O_NONBLOCK);
		s->served[0].dst = below;
		dmt_server_start(s);
		below = dmt_dm_dev(names[i]);
	}
	dmt_param_set("remap_reserve", old);
	self->fd = dmt_dm_open("upper", O_RDWR | O_DIRECT);
	if (self->fd < 0)
		err(1, "upper");
}

FIXTURE_TEARDOWN(stacked)
{
	unsigned int i;

	close(self->fd);
	for (i = NR; i--;) {
		dmt_server_stop(&self->servers[i]);
		close(self->servers[i].served[0].fd);
		/* Whatever a failed test left waiting. */
		dmt_dm_message(names[i], "error_if_no_daemon on");
		dmt_dm_message(names[i], "fail_waiting");
		EXPECT_EQ(0, dmt_dm_remove(names[i]));
	}
	dmt_disk_close(&self->disk);
}

/* --- one mapping each --------------------------------------------------------------------- */

#define FEW 24u

/* All at once, and then the other way round. */
static bool few_arrive(FIXTURE_DATA(stacked) *self, int seed)
{
	struct dmt_io *io[FEW];
	unsigned int i;
	bool ok = true;

	for (i = 0; i < FEW; i++)
		io[i] = dmt_io_now(self->fd, DMT_WRITE, i * DMT_BLOCK,
				   DMT_BLOCK, seed);
	for (i = 0; i < FEW; i++)
		ok &= !dmt_io_result(io[i]);
	for (i = FEW; ok && i--;)
		ok = dmt_disk_has(&self->disk, i, seed) &&
		     dmt_read_matches(self->fd, i, seed);
	return ok;
}

TEST_F_TIMEOUT(stacked, one_mapping_each_is_enough, 120)
{
	bool ok;

	if (!dmt_inject_able("failslab"))
		SKIP(return, "this kernel cannot fail allocations (no failslab)");
	dmt_inject_own(DMT_OWN_HURRIED);
	ok = few_arrive(self, 2);
	/* Each had a mapping for every other block once. */
	EXPECT_LE(FEW, dmt_counter("lower", DMT_EVICTIONS));
	EXPECT_LE(FEW, dmt_counter("upper", DMT_EVICTIONS));
	dmt_inject_own(DMT_OWN_NONE);
	EXPECT_TRUE(ok);
}

/* --- page cache that must be written to be freed --------------------------------------------- */

#define CGROUP "/run/dmt-cgroup"

/* A group whose memory is reclaimed beyond 2 MiB; false where there is none. */
static bool group_make(void)
{
	if (mkdir(CGROUP, 0700) && errno != EEXIST)
		err(1, CGROUP);
	if (mount("none", CGROUP, "cgroup2", 0, NULL))
		return false;
	if (access(CGROUP "/cgroup.controllers", F_OK))
		return false;
	put(CGROUP "/cgroup.subtree_control", "+memory");
	if (mkdir(CGROUP "/small", 0700))
		err(1, CGROUP "/small");
	put(CGROUP "/small/memory.high", "2M");
	return true;
}

static void group_remove(void)
{
	if (rmdir(CGROUP "/small"))
		warn(CGROUP "/small");
	umount(CGROUP);
	rmdir(CGROUP);
}

/* Write all of the device by way of the page cache. Its own process. */
static int write_all(int seed)
{
	static uint8_t buf[DMT_BLOCK];
	int fd = dmt_dm_open("upper", O_RDWR);
	unsigned int i;

	if (fd < 0)
		return 1;
	put(CGROUP "/small/cgroup.procs", "0");
	for (i = 0; i < BLOCKS; i++) {
		dmt_pattern(buf, sizeof(buf), i, seed);
		if (write(fd, buf, sizeof(buf)) != sizeof(buf))
			return 2;
	}
	return fsync(fd) ? 3 : 0;
}

TEST_F_TIMEOUT(stacked, dirty_pages_are_written_while_memory_is_short, 150)
{
	unsigned int i, rounds = 0;
	int status = -1;
	pid_t pid;

	if (!group_make())
		SKIP(return, "this kernel has no memory cgroups (version 2)");
	/* So that most blocks are asked for over and over. */
	for (i = 0; i < NR; i++)
		ASSERT_EQ(0, dmt_dm_message(names[i], "max_remaps 16"));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(write_all(2));
	while (!waitpid(pid, &status, WNOHANG)) {
		put("/proc/sys/vm/drop_caches", "3");
		rounds++;
	}
	EXPECT_EQ(0, status);
	EXPECT_LT(0, rounds);
	for (i = 0; i < BLOCKS; i++)
		ASSERT_TRUE(dmt_disk_has(&self->disk, i, 2));
	EXPECT_LE(BLOCKS - 32, dmt_counter("lower", DMT_EVICTIONS));
	EXPECT_LE(BLOCKS - 32, dmt_counter("upper", DMT_EVICTIONS));
	EXPECT_EQ(0, dmt_counter("upper", DMT_ERRORS));
	group_remove();
}

TEST_HARNESS_MAIN
