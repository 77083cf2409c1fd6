// SPDX-License-Identifier: GPL-2.0-only
/* Threads that sleep in a call on a control device until something wakes them. */
#define _GNU_SOURCE
#include "dmt.h"
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void *sleeper_thread(void *arg)
{
	struct dmt_sleeper *s = arg;
	struct pollfd pfd = { .fd = s->fd, .events = s->events };
	const struct dmu_msg_version version = { 0 };
	struct epoll_event event;

	__atomic_store_n(&s->tid, gettid(), __ATOMIC_RELEASE);
	if (s->epoll) {
		s->result = epoll_wait(s->fd, &event, 1, -1);
		s->result = s->result < 0 ? -errno : event.events;
		return NULL;
	}
	if (s->write) {
		s->result = dmt_write_msg(s->fd, DM_USERSPACE_GET_VERSION, 1,
					  &version, sizeof(version));
		return NULL;
	}
	if (!s->poll) {
		s->result = dmt_read_msg(s->fd, &s->msg);
		return NULL;
	}
	s->result = poll(&pfd, 1, -1);
	s->result = s->result < 0 ? -errno : pfd.revents;
	return NULL;
}

/* Of those whose first argument is the descriptor. */
static long number_of_call(const struct dmt_sleeper *s)
{
	return s->write ? SYS_write : s->epoll ? SYS_epoll_wait : SYS_read;
}

/* Does the thread sleep in that system call on that descriptor? */
static bool sleeps_in(const struct dmt_sleeper *s)
{
	char path[64], line[128];
	long nr = -1;
	unsigned long arg = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall",
		 __atomic_load_n(&s->tid, __ATOMIC_ACQUIRE));
	f = fopen(path, "re");
	if (!f)
		return false;
	/* It says "running" of one that does not sleep. */
	if (!fgets(line, sizeof(line), f) ||
	    sscanf(line, "%ld %lx", &nr, &arg) != 2)
		nr = -1;
	fclose(f);
	if (s->poll)
		return nr == SYS_poll;
	return nr == number_of_call(s) && (int)arg == s->fd;
}

static void sleeper_start(struct dmt_sleeper *s)
{
	if (pthread_create(&s->thread, NULL, sleeper_thread, s))
		errx(1, "no thread");
	while (!sleeps_in(s)) {
		if (!pthread_tryjoin_np(s->thread, NULL)) {
			s->over = true;
			return;
		}
		sched_yield();
	}
}

/**
 * dmt_sleeper_read() - let a thread read a message, and see it fall asleep
 * @s: to be filled in
 * @fd: an open control device, without O_NONBLOCK
 *
 * Where it does not have to sleep, it has ended when this returns: @s->over.
 */
void dmt_sleeper_read(struct dmt_sleeper *s, int fd)
{
	*s = (struct dmt_sleeper){ .fd = fd };
	sleeper_start(s);
}

/**
 * dmt_sleeper_write() - let a thread write a message, and see it fall asleep
 * @s: to be filled in
 * @fd: an open control device to which somebody else writes at length
 *
 * As dmt_sleeper_read().
 */
void dmt_sleeper_write(struct dmt_sleeper *s, int fd)
{
	*s = (struct dmt_sleeper){ .fd = fd, .write = true };
	sleeper_start(s);
}

/**
 * dmt_sleeper_poll() - let a thread poll, and see it fall asleep
 * @s: to be filled in
 * @fd: an open control device
 * @events: what it polls for
 */
void dmt_sleeper_poll(struct dmt_sleeper *s, int fd, short events)
{
	*s = (struct dmt_sleeper){ .fd = fd, .poll = true, .events = events };
	sleeper_start(s);
}

/**
 * dmt_sleeper_epoll() - let a thread wait for events, and see it fall asleep
 * @s: to be filled in
 * @fd: of an epoll
 */
void dmt_sleeper_epoll(struct dmt_sleeper *s, int fd)
{
	*s = (struct dmt_sleeper){ .fd = fd, .epoll = true };
	sleeper_start(s);
}

/**
 * dmt_sleeper_wait() - wait until it has been woken
 * @s: a sleeper; what it read is in @s->msg
 *
 * Return: what read() or write() or, of poll(), the events say; a negative errno;
 * -ETIMEDOUT where it goes on sleeping.
 */
ssize_t dmt_sleeper_wait(struct dmt_sleeper *s)
{
	struct timespec limit;

	if (s->over)
		return s->result;
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += DMT_PATIENCE / 1000;
	if (pthread_timedjoin_np(s->thread, NULL, &limit))
		return -ETIMEDOUT;
	s->over = true;
	return s->result;
}
