// SPDX-License-Identifier: GPL-2.0-only
/* Starting daemons, talking to them, and waiting for their end. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/dm-userspace.h>

#include "internal.h"

#define MAX_ARGS 30
/* Whatever hangs, hangs no longer. */
#define ALARM_SECONDS 120

int dmud_main(int argc, char **argv);
int __wrap_dmu_open(const char *name, const struct dmu_ops *ops, void *ctx,
		    struct dmu **dmu);

/* For dmu_open(), which has no other way to know. */
static struct sockaddr_un device = { .sun_family = AF_UNIX };
struct dmu_geometry geometry;

int __wrap_dmu_open(const char *name, const struct dmu_ops *ops, void *ctx,
		    struct dmu **dmu)
{
	int fd, err;

	if (!strcmp(name, "nonesuch"))
		return dmui_error(NULL, -ENODEV, "there is no %s", name);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&device, sizeof(device)))
		return dmui_error(NULL, -errno, "connect");
	err = dmu_open_fd(fd, &geometry, ops, ctx, dmu);
	if (err)
		close(fd);
	return err;
}

const char *in_dir(const struct fixture *f, const char *name)
{
	static char paths[4][100];
	static unsigned int turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", f->dir, name);
	return path;
}

int daemon_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/test_dmud.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	strcpy(device.sun_path, in_dir(f, "device"));
	geometry = fake_geometry;
	f->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->listen_fd, (struct sockaddr *)&device,
			      sizeof(device)), 0);
	assert_int_equal(listen(f->listen_fd, 20), 0);
	f->fake.kernel = -1;
	f->ready_fd = -1;
	f->err_fd = -1;
	/* A daemon's parent goes; then the daemon is ours to wait for. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	alarm(ALARM_SECONDS);
	*state = f;
	return 0;
}

/* After a failure: every process that is still ours. */
static void kill_children(void)
{
	siginfo_t info = { 0 };
	char path[64];
	FILE *file;
	int pid;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	file = fopen(path, "r");
	while (file && fscanf(file, "%d", &pid) == 1)
		kill(pid, SIGKILL);
	if (file)
		fclose(file);
	while (!waitid(P_ALL, 0, &info, WEXITED))
		;
}

int daemon_teardown(void **state)
{
	static const char * const names[] = { "device", "closed", "leak" };
	struct fixture *f = *state;
	size_t i;
	int ret;

	kill_children();
	close(f->listen_fd);
	if (f->fake.kernel >= 0)
		close(f->fake.kernel);
	if (f->ready_fd >= 0)
		close(f->ready_fd);
	if (f->err_fd >= 0)
		close(f->err_fd);
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlink(in_dir(f, names[i]));
	/* What a daemon has left behind, this finds. */
	ret = rmdir(f->dir);
	unlink(in_dir(f, "socket"));
	unlink(in_dir(f, "pid"));
	rmdir(f->dir);
	free(f);
	alarm(0);
	return ret;
}

/* Child: become dmud. */
static void run_dmud(const char *line, int ready_fd, int err_fd)
{
	static char words[1000];
	char *argv[MAX_ARGS + 1], *word, fd[20];
	int argc = 0;

	snprintf(words, sizeof(words), "dmud %s", line);
	for (word = strtok(words, " "); word; word = strtok(NULL, " "))
		argv[argc++] = word;
	snprintf(fd, sizeof(fd), "--ready-fd=%d", ready_fd);
	argv[argc++] = fd;
	argv[argc] = NULL;
	dup2(err_fd, STDERR_FILENO);
	close(err_fd);
	/* The command's; a daemon must not hold them. */
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	exit(dmud_main(argc, argv));
}

/* Start dmud with the tester policy and the test's paths. */
void daemon_start(struct fixture *f, const char *args)
{
	char line[900];
	int ready[2], err[2];

	snprintf(line, sizeof(line),
		 "--plugin-dir %s --policy tester --socket %s --pid-file %s %s",
		 TEST_PLUGINS, in_dir(f, "socket"), in_dir(f, "pid"), args);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	assert_int_equal(pipe2(err, O_CLOEXEC), 0);
	fflush(stdout);
	f->pid = fork();
	if (!f->pid)
		run_dmud(line, ready[1], err[1]);
	close(ready[1]);
	close(err[1]);
	f->ready_fd = ready[0];
	f->err_fd = err[0];
}

/* Everything until the other end is closed by all who have it. */
static void read_all(int fd, char *text, size_t size)
{
	size_t len = 0;
	ssize_t n;

	do {
		n = read(fd, text + len, size - 1 - len);
		assert_true(n >= 0);
		len += n;
	} while (n);
	text[len] = 0;
}

/* The kernel: the daemon opens the device, and asks for the version. */
struct dmui_msg await_version(struct fixture *f)
{
	struct dmui_msg msg;
	struct pollfd fd;

	f->fake.kernel = accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(f->fake.kernel >= 0);
	fd = (struct pollfd){ .fd = f->fake.kernel, .events = POLLIN };
	assert_int_equal(poll(&fd, 1, -1), 1);
	assert_int_equal(fake_receive(&f->fake, &msg, 1), 1);
	assert_int_equal(msg.type, DM_USERSPACE_GET_VERSION);
	return msg;
}

void tell_version(struct fixture *f, struct dmui_msg msg)
{
	msg.version.kernel_ver = 1 << 16;
	fake_send(&f->fake, &msg, 1);
}

void serve_open(struct fixture *f)
{
	tell_version(f, await_version(f));
}

void expect_ready(struct fixture *f, const char *want)
{
	char text[600];

	read_all(f->ready_fd, text, sizeof(text));
	assert_string_equal(text, want);
}

void start_and_serve(struct fixture *f, const char *args)
{
	daemon_start(f, args);
	serve_open(f);
	expect_ready(f, "READY\n");
}

/* How a process ended; the command's, or a daemon's. */
int exit_code(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

void expect_stderr(struct fixture *f, const char *words)
{
	char text[4000];

	read_all(f->err_fd, text, sizeof(text));
	if (!strstr(text, words))
		fail_msg("not \"%s\" on stderr: %s", words, text);
}

/* One message of the daemon's. */
struct dmui_msg from_daemon(struct fixture *f)
{
	struct pollfd fd = { .fd = f->fake.kernel, .events = POLLIN };
	struct dmui_msg msg;

	assert_int_equal(poll(&fd, 1, -1), 1);
	assert_int_equal(fake_receive(&f->fake, &msg, 1), 1);
	return msg;
}

static void ask(struct fixture *f, const char *request, char *text, size_t size)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	ssize_t len;

	strcpy(address.sun_path, in_dir(f, "socket"));
	assert_int_equal(connect(fd, (struct sockaddr *)&address,
				 sizeof(address)), 0);
	assert_int_equal(send(fd, request, strlen(request), 0),
			 strlen(request));
	len = recv(fd, text, size - 1, 0);
	assert_true(len > 0);
	text[len] = 0;
	close(fd);
}

void expect_answer(struct fixture *f, const char *request, const char *want)
{
	char text[4000];

	ask(f, request, text, sizeof(text));
	assert_string_equal(text, want);
}

struct json_object *ask_status(struct fixture *f)
{
	struct json_object *status;
	char text[4000];

	ask(f, "status", text, sizeof(text));
	status = json_tokener_parse(text);
	assert_non_null(status);
	return status;
}

struct json_object *member(struct json_object *obj, const char *name)
{
	struct json_object *value = json_object_object_get(obj, name);

	if (!value)
		fail_msg("there is no %s", name);
	return value;
}

int64_t number(struct json_object *obj, const char *name)
{
	return json_object_get_int64(member(obj, name));
}

void daemon_stop(struct fixture *f)
{
	assert_int_equal(kill(f->pid, SIGTERM), 0);
	assert_int_equal(exit_code(f->pid), 0);
	assert_int_equal(access(in_dir(f, "socket"), F_OK), -1);
	assert_int_equal(access(in_dir(f, "pid"), F_OK), -1);
}

/* In the foreground it is said twice: for programs and for people. */
void cannot_start(struct fixture *f, const char *args, const char *words)
{
	char want[600];

	daemon_start(f, args);
	snprintf(want, sizeof(want), "ERROR %s\n", words);
	expect_ready(f, want);
	assert_int_equal(exit_code(f->pid), 1);
	snprintf(want, sizeof(want), "dmud: %s\n", words);
	expect_stderr(f, want);
}
