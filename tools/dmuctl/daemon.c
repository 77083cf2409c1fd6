// SPDX-License-Identifier: GPL-2.0-only
/* The daemon of a device: start it, ask it, see it end. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dmuctl.h"

#define SOCKET_DIR	"/run/dm-userspace"
#define MAX_ARGS	64

/* A daemon that is stuck must not have us wait for ever: to answer, and to end. */
#define ANSWER_SECONDS	10
#define END_MS		30000

/*
 * Where dmud is: beside us, or where a build leaves it, so that a checkout can
 * be tried without installing it; else wherever PATH says.
 */
static const char *dmud_path(char *buf, size_t size, const char **plugins)
{
	static char plugin_dir[PATH_MAX + 32];
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	*plugins = NULL;
	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		*slash = '\0';
		snprintf(buf, size, "%s/dmud", self);
		if (!access(buf, X_OK))
			return buf;
		snprintf(buf, size, "%s/../dmud/dmud", self);
		snprintf(plugin_dir, sizeof(plugin_dir),
			 "%s/../dmud/plugins", self);
		if (!access(buf, X_OK)) {
			*plugins = plugin_dir;
			return buf;
		}
	}
	return "dmud";
}

static void exec_dmud(const char *key, const char *policy, char *const *opts,
		      int ready)
{
	const char *argv[MAX_ARGS];
	const char *path, *plugins;
	char buf[PATH_MAX + 32], fd[16];
	int n = 0, null;

	path = dmud_path(buf, sizeof(buf), &plugins);
	snprintf(fd, sizeof(fd), "%d", ready);
	argv[n++] = "dmud";
	argv[n++] = "--policy";
	argv[n++] = policy;
	argv[n++] = "--ready-fd";
	argv[n++] = fd;
	if (plugins) {
		argv[n++] = "--plugin-dir";
		argv[n++] = plugins;
	}
	for (; opts && *opts && n < MAX_ARGS - 4; opts++) {
		argv[n++] = "-o";
		argv[n++] = *opts;
	}
	argv[n++] = key;
	argv[n] = NULL;
	/* What it has to say it says there: our own sentence is enough. */
	null = open("/dev/null", O_RDWR);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	execvp(path, (char **)argv);
	dprintf(ready, "ERROR cannot run %s: %s\n", path, strerror(errno));
	_exit(127);
}

/* What it says when it is ready, or when it gives up; up to its last word. */
static size_t read_all(int fd, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while (len < size - 1) {
		n = read(fd, buf + len, size - 1 - len);
		if (n < 0 && errno == EINTR && !interrupted())
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
		if (memchr(buf, '\n', len))
			break;
	}
	buf[len] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return len;
}

/* Judge by what the daemon said. */
static int check_ready(const char *key, const char *said)
{
	if (!strcmp(said, "READY"))
		return 0;
	if (interrupted())
		return complain("interrupted");
	if (!strncmp(said, "ERROR ", 6))
		return complain("%s", said + 6);
	return complain("the daemon of %s ended without a word; the system's log may know more",
			key);
}

/**
 * daemon_start() - start a dmud and wait until it serves the device
 * @key: of the device's table
 * @policy: which it is to follow
 * @opts: "name=value" for the policy, NULL-terminated; or NULL
 *
 * It goes on when we end; where it fails, or we are interrupted, it is gone.
 *
 * Return: 0, or -1 after a sentence.
 */
int daemon_start(const char *key, const char *policy, char *const *opts)
{
	char said[1024];
	int ready[2];
	pid_t pid;
	int r;

	/* Our end closes on exec; its own is handed on by number. */
	if (pipe2(ready, O_CLOEXEC))
		return complain("no pipe: %s", strerror(errno));
	pid = fork();
	if (!pid) {
		fcntl(ready[1], F_SETFD, 0);
		exec_dmud(key, policy, opts, ready[1]);
	}
	close(ready[1]);
	if (pid < 0) {
		close(ready[0]);
		return complain("no process: %s", strerror(errno));
	}
	read_all(ready[0], said, sizeof(said));
	r = check_ready(key, said);
	close(ready[0]);
	/* It puts itself in the background, and this one ends at once. */
	if (r)
		kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
	return r;
}

static int control_connect(const char *key)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct timeval limit = { .tv_sec = ANSWER_SECONDS };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int n = snprintf(address.sun_path, sizeof(address.sun_path),
			 SOCKET_DIR "/%s.sock", key);

	if (fd < 0 || n < 0 || (size_t)n >= sizeof(address.sun_path) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

/**
 * daemon_ask() - ask the daemon of a device
 * @key: of the device's table
 * @request: "status", "grow" or "quit"
 *
 * Return: its answer, to be put; NULL where no daemon answers, or not in time. No
 * sentence.
 */
struct json_object *daemon_ask(const char *key, const char *request)
{
	struct json_object *answer = NULL;
	int fd = control_connect(key);
	char buf[65536];
	ssize_t n;

	if (fd < 0)
		return NULL;
	if (send(fd, request, strlen(request), MSG_NOSIGNAL) > 0) {
		do {
			n = recv(fd, buf, sizeof(buf) - 1, 0);
		} while (n < 0 && errno == EINTR && !interrupted());
		if (n > 0) {
			buf[n] = '\0';
			answer = json_tokener_parse(buf);
		}
	}
	close(fd);
	return answer;
}

/**
 * daemon_watch() - get ready to see a daemon end
 * @key: of the device's table
 *
 * Asks the socket whose it is, not the daemon, which may be stuck.
 *
 * Return: a descriptor for daemon_wait(), or -1 where there is no daemon.
 */
int daemon_watch(const char *key)
{
	int fd = control_connect(key), pidfd = -1;
	struct ucred owner;
	socklen_t size = sizeof(owner);

	if (fd < 0)
		return -1;
	if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &owner, &size))
		pidfd = (int)syscall(SYS_pidfd_open, owner.pid, 0);
	close(fd);
	return pidfd;
}

/**
 * daemon_wait() - wait until a daemon has ended
 * @pidfd: of daemon_watch(); closed; or -1
 * @name: of its device, for messages
 *
 * Return: 0, or -1 after a sentence.
 */
int daemon_wait(int pidfd, const char *name)
{
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };
	int r;

	if (pidfd < 0)
		return 0;
	do {
		r = poll(&pfd, 1, END_MS);
	} while (r < 0 && errno == EINTR && !interrupted());
	close(pidfd);
	return r > 0 ? 0 : complain("%s is gone, but its daemon has not ended yet",
				    name);
}
