// SPDX-License-Identifier: GPL-2.0-only
/* A daemon of 32 bits on a kernel of 64. */
#define _GNU_SOURCE
#include "ia32/where.h"
#include "lib/brief.h"
#include "lib/fixture.h"
#include <err.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define BLOCKS (IA32_BLOCK + 8) /* of 512 bytes */

/**
 * @t: over two disks of more than 2^32 sectors
 * @program: beside this one
 */
FIXTURE(ia32)
{
	struct dmt t;
	char program[PATH_MAX];
};

FIXTURE_SETUP(ia32)
{
	struct dmt *t = &self->t;
	char params[128];
	ssize_t n = readlink("/proc/self/exe", self->program, PATH_MAX - 32);

	if (n < 0)
		err(1, "/proc/self/exe");
	strcpy(strrchr(self->program, '/'), "/ia32-daemon");
	memset(t, 0, sizeof(*t));
	t->ctl = -1;
	snprintf(t->name, sizeof(t->name), "dmt%d", getpid());
	dmt_disk_open(&t->store, BLOCKS * 512, 0);
	snprintf(params, sizeof(params), "%s 512 %u:%u", t->name,
		 major(t->store.dev), minor(t->store.dev));
	if (dmt_dm_create(t->name) ||
	    dmt_dm_load(t->name, 0, BLOCKS, "userspace", params) ||
	    dmt_dm_resume(t->name))
		errx(1, "cannot make the mapped device %s", t->name);
	t->fd = dmt_dm_open(t->name, O_RDWR | O_DIRECT);
	if (t->fd < 0)
		err(1, "%s", t->name);
}

FIXTURE_TEARDOWN(ia32)
{
	dmt_teardown(&self->t);
}

/*
 * Its process, or a negative errno where it cannot be run. @ready is what it writes
 * to when it has nothing more to say unasked.
 */
static pid_t daemon_start(const struct dmt *t, const char *program, int ready)
{
	char control[300], maj[16], min[16];
	int pipes[2], e = 0;
	pid_t pid;

	dmt_control_path(t->name, control, sizeof(control));
	snprintf(maj, sizeof(maj), "%u", major(t->store.dev));
	snprintf(min, sizeof(min), "%u", minor(t->store.dev));
	if (pipe2(pipes, O_CLOEXEC))
		err(1, "pipe");
	pid = fork();
	if (!pid) {
		if (dup2(ready, STDOUT_FILENO) < 0)
			_exit(1);
		execl(program, program, control, maj, min, (char *)NULL);
		e = errno;
		_exit(write(pipes[1], &e, sizeof(e)) != sizeof(e));
	}
	close(pipes[1]);
	/* Nothing comes out of it where the program runs. */
	if (pid > 0 && read(pipes[0], &e, sizeof(e)) == sizeof(e)) {
		waitpid(pid, NULL, 0);
		pid = -e;
	}
	close(pipes[0]);
	return pid;
}

TEST_F(ia32, daemon_of_32_bits_is_served)
{
	struct dmt *t = &self->t;
	uint8_t got[512], want[512];
	int status, ready[2];
	struct dmt_io *io;
	pid_t pid;

	ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
	pid = daemon_start(t, self->program, ready[1]);
	close(ready[1]);

	if (pid == -ENOENT)
		SKIP(return, "the compiler could not build for 32 bits");
	if (pid == -ENOEXEC)
		SKIP(return, "this kernel runs no programs of 32 bits");
	ASSERT_LT(0, pid);
	/* Not before: it looks at what can be read while there is no request. */
	EXPECT_EQ(1, read(ready[0], got, 1));
	close(ready[0]);
	io = dmt_io(t->fd, DMT_WRITE, IA32_BLOCK * 512, 512, 2);
	EXPECT_EQ(0, dmt_io_wait(io));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status) {
		TH_LOG("ia32/daemon.c ended in line %d",
		       WEXITSTATUS(status));
	}
	memcpy(want, dmt_io_buf(io), 512);
	dmt_io_free(io);
	ASSERT_EQ(512, pread(t->store.fd, got, 512, IA32_SECTOR * 512));
	EXPECT_EQ(0, memcmp(want, got, 512));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_FALSE(dmt_attached(t->name));
}

TEST_HARNESS_MAIN
