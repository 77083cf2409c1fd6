// SPDX-License-Identifier: GPL-2.0-only
/* Calls, mostly of dmsetup, that may have to wait. */
#define _GNU_SOURCE
#include "suspend.h"
#include "gate.h"
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int sync_data(const char *name)
{
	int fd = dmt_dm_open(name, O_RDWR);

	return fd < 0 || fdatasync(fd) ? -errno : 0;
}

static int call_do(const char *name, enum dmt_verb verb)
{
	switch (verb) {
	case DMT_SUSPEND:
		return dmt_dm_suspend(name, false);
	case DMT_SUSPEND_NOFLUSH:
		return dmt_dm_suspend(name, true);
	case DMT_RESUME:
		return dmt_dm_resume(name);
	case DMT_REMOVE:
		return dmt_dm_remove(name);
	case DMT_FDATASYNC:
		return sync_data(name);
	}
	return -EINVAL;
}

/**
 * dmt_call_begin() - begin a call
 * @call: gets it
 * @t: its files are closed in the new process; or NULL
 * @name: of the device
 * @verb: what to do with it
 */
void dmt_call_begin(struct dmt_call *call, const struct dmt *t,
		    const char *name, enum dmt_verb verb)
{
	call->pid = fork();
	if (call->pid < 0)
		err(1, "fork");
	if (!call->pid) {
		signal(SIGTERM, SIG_DFL);
		if (t) {
			close(t->ctl);
			close(t->fd);
		}
		_exit(-call_do(name, verb));
	}
	call->pidfd = (int)syscall(SYS_pidfd_open, call->pid, 0);
	if (call->pidfd < 0)
		err(1, "pidfd_open");
}

static bool ends_within(const struct dmt_call *call, int timeout_ms)
{
	struct pollfd pfd = { .fd = call->pidfd, .events = POLLIN };

	return poll(&pfd, 1, timeout_ms) == 1;
}

/* Is it over? Does not wait. */
bool dmt_call_ended(const struct dmt_call *call)
{
	return ends_within(call, 0);
}

static bool sleeps(const struct dmt_call *call)
{
	char path[64];
	long nr = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/syscall", call->pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	/* It says "running" of one that does not sleep. */
	if (fscanf(f, "%ld", &nr) != 1)
		nr = -1;
	fclose(f);
	return nr == SYS_ioctl || nr == SYS_fdatasync;
}

/* Wait until it sleeps in its call, for whatever. False where it has ended. */
bool dmt_call_sleeps(const struct dmt_call *call)
{
	while (!sleeps(call)) {
		if (dmt_call_ended(call))
			return false;
		sched_yield();
	}
	return true;
}

/**
 * dmt_call_waits() - has it come to where it waits?
 * @call: under way
 *
 * Return: false where it has ended instead.
 */
bool dmt_call_waits(const struct dmt_call *call)
{
	unsigned int i;

	/* It sleeps for grace periods, too: what lasts longer is no such. */
	for (i = 0; i < 3; i++) {
		if (!dmt_call_sleeps(call))
			return false;
		dmt_grace_period();
	}
	return !dmt_call_ended(call);
}

/* Wait for its end: 0, a negative errno, or -ETIMEDOUT where it hangs. */
int dmt_call_result(struct dmt_call *call)
{
	int status;

	if (!ends_within(call, DMT_PATIENCE))
		return -ETIMEDOUT;
	close(call->pidfd);
	if (waitpid(call->pid, &status, 0) != call->pid)
		err(1, "waitpid");
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

/* Suspend it, which must not take long: 0, a negative errno, or -ETIMEDOUT. */
int dmt_suspend(const struct dmt *t, bool noflush)
{
	struct dmt_call call;

	dmt_call_begin(&call, t, t->name,
		       noflush ? DMT_SUSPEND_NOFLUSH : DMT_SUSPEND);
	return dmt_call_result(&call);
}
