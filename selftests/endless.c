// SPDX-License-Identifier: GPL-2.0-only
/*
 * A run of blocks that is so long that its write() could not come to an end within
 * a test: nobody has to wait for that, and a daemon can be killed in the middle.
 *
 * What is said for now only is said block by block, and needs no memory that stays.
 * Blocks that are mapped tell how far the run has come: their mappings leave then.
 */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/gated.h"
#include "lib/run.h"
#include <err.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define BLOCKS (1ull << 34) /* of 512 bytes: an hour, were each done in 200 ns */

/**
 * @t: a device of that many blocks, over one disk
 * @pid: a daemon that says where they are, in one message; 0: it is no more
 * @pidfd: likewise
 */
FIXTURE(endless)
{
	struct dmt t;
	pid_t pid;
	int pidfd;
};

static void make_vast(struct dmt *t)
{
	char params[128];

	memset(t, 0, sizeof(*t));
	snprintf(t->name, sizeof(t->name), "dmt%d", getpid());
	dmt_disk_open(&t->origin, BLOCKS * 512, 0);
	snprintf(params, sizeof(params), "%s 512 %u:%u", t->name,
		 major(t->origin.dev), minor(t->origin.dev));
	if (dmt_dm_create(t->name) ||
	    dmt_dm_load(t->name, 0, BLOCKS, "userspace", params) ||
	    dmt_dm_resume(t->name))
		errx(1, "cannot make the mapped device %s", t->name);
	t->fd = -1;
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
}

/* A new process, whose end can be waited for. 0 in that process. */
static pid_t begin_process(int *pidfd)
{
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGTERM, SIG_DFL);
		return 0;
	}
	*pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (*pidfd < 0)
		err(1, "pidfd_open");
	return pid;
}

static bool ends_within(int pidfd, int timeout_ms)
{
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };

	return poll(&pfd, 1, timeout_ms) == 1;
}

/* What waitpid() says of it, once it has ended; negative where it does not end. */
static int end_of(pid_t pid, int pidfd)
{
	int status;

	if (!ends_within(pidfd, DMT_PATIENCE))
		return -ETIMEDOUT;
	close(pidfd);
	if (waitpid(pid, &status, 0) != pid)
		err(1, "waitpid");
	return status;
}

static int push(const struct dmt *t, uint64_t block)
{
	struct dmt_map map = dmt_plain(&t->origin, block, block, RW);

	return dmt_map(t->ctl, 0, &map);
}

/* Two blocks are mapped: the run has been to the first, and not to the last. */
static void begin_run(FIXTURE_DATA(endless) *self)
{
	const struct dmt *t = &self->t;

	if (!dmt_wants(t->ctl, DMU_EXT_RUNS) || push(t, 0) ||
	    push(t, BLOCKS - 1) || !dmt_counts(t->name, DMT_REMAPS, 2))
		errx(1, "cannot map two blocks");
	self->pid = begin_process(&self->pidfd);
	if (!self->pid)
		_exit(-dmt_map_run(t->ctl, 0, dmt_run(0, BLOCKS, &t->origin, 0,
						      RW | TEMP)));
	if (!dmt_counts(t->name, DMT_REMAPS, 1))
		errx(1, "the run does not begin");
}

FIXTURE_SETUP(endless)
{
	make_vast(&self->t);
	begin_run(self);
}

FIXTURE_TEARDOWN(endless)
{
	if (self->pid)
		kill(self->pid, SIGKILL);
	/* Whatever else it does not heed, it ends with its device. */
	dmt_teardown(&self->t);
	if (self->pid)
		waitpid(self->pid, NULL, 0);
}

static bool under_way(const FIXTURE_DATA(endless) *self)
{
	return dmt_counter(self->t.name, DMT_REMAPS) == 1 &&
	       !ends_within(self->pidfd, 0);
}

/* --- others --------------------------------------------------------------------- */

/* Does it come to its end, and well? It may hang, so a process of its own does it. */
static bool ends_well(const char *name, bool (*what)(const struct dmt *t),
		      const struct dmt *t)
{
	int pidfd, status;
	pid_t pid = begin_process(&pidfd);

	if (!pid)
		_exit(!what(t));
	status = end_of(pid, pidfd);
	if (status < 0) {
		warnx("hangs: %s", name);
		kill(pid, SIGKILL);
	}
	return !status;
}

static bool another_device(const struct dmt *t)
{
	char name[48];
	struct dmt_brief b;
	bool ok;

	snprintf(name, sizeof(name), "%s-other", t->name);
	dmt_brief_make(&b, name, &t->origin);
	ok = dmt_brief_use(&b, 1);
	dmt_brief_remove(&b);
	close(b.ctl);
	return ok;
}

static bool another_table(const struct dmt *t)
{
	char name[48], params[128];

	snprintf(name, sizeof(name), "%s-b", t->name);
	snprintf(params, sizeof(params), "%s 512 %u:%u", t->name,
		 major(t->origin.dev), minor(t->origin.dev));
	return !dmt_dm_create(name) &&
	       !dmt_dm_load(name, 0, 64, "userspace", params) &&
	       !dmt_dm_resume(name) && !dmt_dm_remove(name);
}

static bool another_daemon(const struct dmt *t)
{
	struct dmt_map map = dmt_plain(&t->origin, BLOCKS - 2, 5, RO);
	int fd = dmt_control_open(t->name, O_NONBLOCK);
	bool ok;

	ok = !dmt_map(fd, 0, &map) && !dmt_invalidate(fd, 7, BLOCKS - 2) &&
	     dmt_expect_status(fd, 7, DM_USERSPACE_INVAL_COMPLETE);
	close(fd);
	return ok;
}

static bool its_end(const struct dmt *t)
{
	return !dmt_dm_remove(t->name);
}

/*
 * Does it all happen before the run ends? Only the end of the device is the end of
 * that: so write() says what it says of a device that has gone.
 */
static bool happens_meanwhile(FIXTURE_DATA(endless) *self,
			      bool (*what)(const struct dmt *t))
{
	const struct dmt *t = &self->t;
	int status;

	if (!ends_well("what others do", what, t) || !under_way(self) ||
	    !ends_well("the end of the device", its_end, t))
		return false;
	status = end_of(self->pid, self->pidfd);
	if (status < 0 || dmt_dm_create(t->name))
		return false;
	self->pid = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == ENODEV)
		return true;
	warnx("the run ended with status %x", (unsigned int)status);
	return false;
}

TEST_F_TIMEOUT(endless, device_with_another_key_comes_and_goes, 90)
{
	EXPECT_TRUE(happens_meanwhile(self, another_device));
}

TEST_F_TIMEOUT(endless, table_with_the_same_key_comes_and_goes, 90)
{
	EXPECT_TRUE(happens_meanwhile(self, another_table));
}

TEST_F_TIMEOUT(endless, daemon_of_the_same_key_comes_and_goes, 90)
{
	EXPECT_TRUE(happens_meanwhile(self, another_daemon));
}

/* --- signals -------------------------------------------------------------------- */

TEST_F_TIMEOUT(endless, daemon_that_is_killed_dies_in_the_middle, 90)
{
	const struct dmt *t = &self->t;
	int status;

	ASSERT_EQ(0, kill(self->pid, SIGKILL));
	status = end_of(self->pid, self->pidfd);
	ASSERT_LE(0, status);
	self->pid = 0;
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	EXPECT_EQ(1, dmt_counter(t->name, DMT_REMAPS));
	/* Whoever else has the file open can go on with it. */
	EXPECT_EQ(0, push(t, 0));
	EXPECT_EQ(2, dmt_counter(t->name, DMT_REMAPS));
}

static void do_nothing(int sig)
{
	(void)sig;
}

TEST_F_TIMEOUT(endless, who_waits_to_write_to_the_same_file_is_interrupted, 90)
{
	const struct sigaction action = { .sa_handler = do_nothing };
	struct dmt_sleeper s;

	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	dmt_sleeper_write(&s, self->t.ctl);
	ASSERT_FALSE(s.over);
	EXPECT_TRUE(under_way(self));
	ASSERT_EQ(0, pthread_kill(s.thread, SIGUSR1));
	EXPECT_EQ(-EINTR, dmt_sleeper_wait(&s));
	EXPECT_TRUE(under_way(self));
}

TEST_HARNESS_MAIN
