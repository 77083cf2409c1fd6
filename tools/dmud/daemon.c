// SPDX-License-Identifier: GPL-2.0-only
/*
 * Setting the process up.
 *
 * Two things are special about a process that a block device waits for. It
 * must not wait for that device itself: not to page memory in, not to write a
 * dirty page out when it allocates. And it must not keep alive what whoever
 * started it has: the file system it was started from may be on the device.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"
#include "log.h"
#include "options.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

/**
 * daemon_stdio() - make sure that 0, 1 and 2 are open
 *
 * Else the next file opened would become somebody's stderr.
 */
void daemon_stdio(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/**
 * readiness_init() - take over the descriptor of --ready-fd
 * @ready: set up
 * @ready_fd: -1: none
 */
void readiness_init(struct readiness *ready, int ready_fd)
{
	*ready = (struct readiness){ .caller_fd = -1, .ready_fd = -1 };
	if (ready_fd < 0)
		return;
	/* It may be stdout, which is /dev/null by the time we are ready. */
	ready->ready_fd = fcntl(ready_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (ready_fd > STDERR_FILENO)
		close(ready_fd);
}

static int report(int *fd, const char *line)
{
	size_t len = strlen(line);
	int err = 0;

	if (*fd >= 0 && write(*fd, line, len) != (ssize_t)len)
		err = -errno;
	close_fd(fd);
	return err;
}

/**
 * readiness_report() - tell that the daemon is ready, or why it will not be
 * @ready: its descriptors are closed by this; what is told later goes nowhere
 * @why: NULL: it is ready; else a sentence
 *
 * Return: 0, or a negative errno where the command that started the daemon no
 * longer waits for it; then nobody else has been told yet.
 */
int readiness_report(struct readiness *ready, const char *why)
{
	char line[SENTENCE_SIZE + 16];
	int err;

	snprintf(line, sizeof(line), "%s%s\n", why ? "ERROR " : "READY",
		 why ? why : "");
	err = report(&ready->caller_fd, line);
	if (err)
		return err;
	report(&ready->ready_fd, line);
	return 0;
}

/* The command: wait for the daemon's report. What to exit with. */
static int wait_for_report(int fd, pid_t child)
{
	char line[SENTENCE_SIZE + 16];
	size_t len = 0;
	ssize_t n;

	do {
		n = read(fd, line + len, sizeof(line) - 1 - len);
		if (n > 0)
			len += n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	close(fd);
	waitpid(child, NULL, 0);
	line[len] = 0;
	line[strcspn(line, "\n")] = 0;
	if (!strcmp(line, "READY"))
		return EXIT_OK;
	if (!strncmp(line, "ERROR ", 6))
		log_line(LOG_ERR, "%s", line + 6);
	else
		log_line(LOG_ERR, "the daemon ended before it was ready");
	return EXIT_FAILED;
}

/* The daemon: let go of everything it was started with but these two. */
static void close_others(int a, int b)
{
	int keep[] = { a < b ? a : b, a < b ? b : a };
	int from = STDERR_FILENO + 1;
	size_t i;

	for (i = 0; i < sizeof(keep) / sizeof(keep[0]); i++) {
		if (keep[i] < from)
			continue;
		if (keep[i] > from)
			close_range(from, keep[i] - 1, 0);
		from = keep[i] + 1;
	}
	close_range(from, ~0U, 0);
}

/**
 * daemon_fork() - go on in the background
 * @ready: the daemon gets the way to report to the command; the command's
 *	copy is closed
 *
 * The daemon has no terminal and cannot get one. It still has the command's
 * stdio and directory, for what goes wrong and for relative paths, until
 * daemon_detach().
 *
 * Return: -1: this is the daemon; else this is the command, the daemon has
 * reported, and this is what to exit with.
 */
int daemon_fork(struct readiness *ready)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC)) {
		log_line(LOG_ERR, "pipe: %s", strerror(errno));
		return EXIT_FAILED;
	}
	pid = fork();
	if (pid) {
		close(fds[1]);
		close_fd(&ready->ready_fd);
		if (pid < 0)
			log_line(LOG_ERR, "fork: %s", strerror(errno));
		return wait_for_report(fds[0], pid);
	}
	close(fds[0]);
	ready->caller_fd = fds[1];
	setsid();
	pid = fork();
	if (pid < 0)
		readiness_report(ready, "the daemon cannot fork");
	if (pid)
		_exit(EXIT_OK);
	close_others(ready->caller_fd, ready->ready_fd);
	return -1;
}

/**
 * daemon_detach() - let go of the directory and the terminal
 * @background: of the terminal too; the log goes to syslog from then on
 * @why: SENTENCE_SIZE bytes for what is wrong
 *
 * Return: 0 or a negative errno; then nothing has changed.
 */
int daemon_detach(bool background, char *why)
{
	int null = -1, fd;

	if (background) {
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null < 0)
			return failed(why, -errno, "/dev/null: %s",
				      strerror(errno));
	}
	if (chdir("/")) {
		close_fd(&null);
		return failed(why, -errno, "/: %s", strerror(errno));
	}
	if (background) {
		log_to_syslog();
		for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
			dup2(null, fd);
		close(null);
	}
	return 0;
}

static int spare_from_oom(void)
{
	static const char least[] = "-1000";
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return -1;
	if (write(fd, least, sizeof(least) - 1) < 0)
		err = -1;
	close(fd);
	return err;
}

/**
 * daemon_protect() - keep memory pressure from stopping the daemon
 *
 * To be called when all that is needed to serve has been allocated. What
 * cannot be had is logged as a warning: the device works without, until memory
 * is short.
 */
void daemon_protect(void)
{
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		log_line(LOG_WARNING,
			 "memory is not locked and may be paged out: %s",
			 strerror(errno));
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0))
		log_line(LOG_WARNING,
			 "allocating memory may wait for the device served: PR_SET_IO_FLUSHER: %s",
			 strerror(errno));
	if (spare_from_oom())
		log_line(LOG_WARNING,
			 "the OOM killer may choose this daemon: oom_score_adj: %s",
			 strerror(errno));
}

/**
 * daemon_gather() - let requests come together while the processors are busy
 *
 * An ordinary process that wakes up takes the processor from whoever caused its first
 * request, and finds that one only; then it and the kernel's worker and the submitter
 * take turns for each. A process of SCHED_BATCH waits until the submitter sleeps, or
 * its time is up. Where a processor is idle there is no difference.
 *
 * A scheduling policy that the daemon was started with on purpose is left alone.
 */
void daemon_gather(void)
{
	const struct sched_param none = { 0 };

	if (sched_getscheduler(0) == SCHED_OTHER &&
	    sched_setscheduler(0, SCHED_BATCH, &none))
		log_line(LOG_WARNING,
			 "requests are served one by one where processors are busy: SCHED_BATCH: %s",
			 strerror(errno));
}

/**
 * daemon_write_pid() - write the process id to a file
 * @path: replaced where it exists
 * @written: where an absolute path goes, to unlink() and free() in the end
 * @why: SENTENCE_SIZE bytes for what is wrong
 *
 * Return: 0 or a negative errno.
 */
int daemon_write_pid(const char *path, char **written, char *why)
{
	int fd, err = 0;

	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
		  0644);
	if (fd < 0)
		return failed(why, -errno, "%s: %s", path, strerror(errno));
	if (dprintf(fd, "%d\n", (int)getpid()) < 0)
		err = failed(why, -errno, "%s: %s", path, strerror(errno));
	close(fd);
	if (err)
		return err;
	*written = realpath(path, NULL);
	return *written ? 0 : failed(why, -errno, "%s: %s", path,
				     strerror(errno));
}
