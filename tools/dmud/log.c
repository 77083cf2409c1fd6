// SPDX-License-Identifier: GPL-2.0-only
/*
 * The log: stderr, then both, then syslog.
 *
 * Whoever reads the log may be waiting for the very device that is served
 * here: a line that cannot be handed over at once is dropped, never waited
 * for. That is also why syslog(3) is not used: it waits.
 */
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"

#define LINE_SIZE 1024

static int level = LOG_INFO;
static bool use_stderr = true;
static bool use_syslog;
static int syslog_fd = -1;

/**
 * log_set_level() - choose what is logged
 * @priority: LOG_*; what is less important is dropped
 */
void log_set_level(int priority)
{
	level = priority;
}

/**
 * log_to_both() - from now on log to stderr and to syslog
 *
 * While a daemon starts: who has started it may not listen, and what a policy says
 * of its metadata then is worth keeping.
 */
void log_to_both(void)
{
	use_syslog = true;
}

/**
 * log_to_syslog() - from now on log to syslog and no longer to stderr
 */
void log_to_syslog(void)
{
	use_syslog = true;
	use_stderr = false;
}

/* A socket that leads to the system's log, or -1. */
static int connect_syslog(void)
{
	struct sockaddr_un address = {
		.sun_family = AF_UNIX,
		.sun_path = "/dev/log",
	};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&address,
			       sizeof(address))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static void send_syslog(int priority, const char *line)
{
	char packet[LINE_SIZE + 64];
	int tries, len;

	len = snprintf(packet, sizeof(packet), "<%d>dmud[%d]: %s",
		       LOG_DAEMON | priority, (int)getpid(), line);
	/* Twice, because the logger may have been started anew. */
	for (tries = 0; tries < 2; tries++) {
		if (syslog_fd < 0)
			syslog_fd = connect_syslog();
		if (syslog_fd < 0 ||
		    send(syslog_fd, packet, len, MSG_NOSIGNAL) >= 0)
			return;
		close(syslog_fd);
		syslog_fd = -1;
	}
}

static void send_stderr(const char *line)
{
	struct pollfd fd = { .fd = STDERR_FILENO, .events = POLLOUT };

	/* Then a pipe takes PIPE_BUF bytes, and a line is shorter. */
	if (poll(&fd, 1, 0) == 1 && fd.revents & POLLOUT)
		dprintf(STDERR_FILENO, "dmud: %s\n", line);
}

/**
 * log_line() - log one line
 * @priority: LOG_*
 * @fmt: as of printf(); no newline at the end
 *
 * Never blocks.
 */
void log_line(int priority, const char *fmt, ...)
{
	char line[LINE_SIZE];
	va_list args;

	if (priority > level)
		return;
	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	if (use_syslog)
		send_syslog(priority, line);
	if (use_stderr)
		send_stderr(line);
}

/**
 * failed() - say why
 * @why: SENTENCE_SIZE bytes, for one sentence without full stop and newline
 * @err: a negative errno
 * @fmt: as of printf()
 *
 * Return: @err, so that callers can return it.
 */
int failed(char *why, int err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(why, SENTENCE_SIZE, fmt, args);
	va_end(args);
	/* One line, whatever a policy wrote: callers read it line by line. */
	for (; *why; why++)
		if (*why == '\n')
			*why = ' ';
	return err;
}
