// SPDX-License-Identifier: GPL-2.0-only
/* The whole daemon: how it starts, serves, is asked, and ends. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/dm-userspace.h>

/* A day in its life. */
static void serves(void **state)
{
	struct fixture *f = *state;
	struct json_object *status, *own;
	struct dmui_msg msg;
	char args[200];

	snprintf(args, sizeof(args), "--foreground -o a=1 -o closed=%s vol1",
		 in_dir(f, "closed"));
	start_and_serve(f, args);
	fake_request(&f->fake, 5, 10, DMU_FLAG_RD | DMU_FLAG_WR);
	msg = from_daemon(f);
	assert_int_equal(msg.type, DM_USERSPACE_MAP_BLOCK_RESP);
	assert_int_equal(msg.response.id_of_req, 5);
	assert_int_equal(msg.response.dst_maj, 8);
	fake_status(&f->fake, 5, DM_USERSPACE_SYNC_COMPLETE);
	msg = from_daemon(f);
	assert_int_equal(msg.type, DM_USERSPACE_STATUS);
	assert_int_equal(msg.status.id_of_op, 5);
	fake_request(&f->fake, 6, 11, DMU_FLAG_RD);
	msg = from_daemon(f);
	assert_int_equal(msg.type, DM_USERSPACE_MAP_FAILED);
	assert_int_equal(msg.response.id_of_req, 6);

	status = ask_status(f);
	own = member(status, "policy_status");
	assert_string_equal(json_object_get_string(member(status, "name")),
			    "vol1");
	assert_string_equal(json_object_get_string(member(status, "policy")),
			    "tester");
	assert_int_equal(number(status, "pid"), f->pid);
	assert_int_equal(number(status, "requests"), 2);
	assert_int_equal(number(status, "mappings"), 1);
	assert_int_equal(number(status, "failed"), 1);
	assert_int_equal(number(status, "syncs"), 1);
	assert_int_equal(number(status, "refused"), 0);
	assert_int_equal(number(own, "options"), 2);
	/* The version's batch, and three more. */
	assert_int_equal(number(own, "batches"), 4);
	json_object_put(status);

	assert_int_equal(access(in_dir(f, "closed"), F_OK), -1);
	daemon_stop(f);
	assert_int_equal(access(in_dir(f, "closed"), F_OK), 0);
	expect_stderr(f, "serving vol1 with the policy tester");
}

/* From a request to the report of its I/O, which the policy fails to make durable. */
static void owe(struct fixture *f, uint32_t id)
{
	fake_request(&f->fake, id, 10, DMU_FLAG_RD | DMU_FLAG_WR);
	assert_int_equal(from_daemon(f).type, DM_USERSPACE_MAP_BLOCK_RESP);
	fake_status(&f->fake, id, DM_USERSPACE_SYNC_COMPLETE);
}

static uint64_t batches(struct fixture *f)
{
	struct json_object *status = ask_status(f);
	uint64_t n = number(member(status, "policy_status"), "batches");

	json_object_put(status);
	return n;
}

/* What has failed is tried again, though the kernel has nothing more to say. */
static void tries_again(void **state)
{
	struct fixture *f = *state;
	struct dmui_msg msg;

	start_and_serve(f, "-f -o retry=20 vol1");
	owe(f, 5);
	msg = from_daemon(f);
	assert_int_equal(msg.type, DM_USERSPACE_STATUS);
	assert_int_equal(msg.status.id_of_op, 5);
	/* The version's batch, two that the kernel made, one that it did not. */
	assert_int_equal(batches(f), 4);
	/* And none where nothing is owed. */
	assert_int_equal(batches(f), 4);
	daemon_stop(f);
}

/* Nor is it put off by whoever asks the daemon for something else. */
static void tries_again_while_asked(void **state)
{
	struct fixture *f = *state;
	struct pollfd fd;

	start_and_serve(f, "-f -o retry=300 vol1");
	owe(f, 5);
	fd = (struct pollfd){ .fd = f->fake.kernel, .events = POLLIN };
	while (!poll(&fd, 1, 0))
		batches(f);
	assert_int_equal(from_daemon(f).status.id_of_op, 5);
	daemon_stop(f);
}

/* One that was made before this could be asked for is not asked. */
static void old_policy(void **state)
{
	struct fixture *f = *state;

	start_and_serve(f, "-f --policy old_abi vol1");
	fake_request(&f->fake, 5, 10, DMU_FLAG_RD | DMU_FLAG_WR);
	assert_int_equal(from_daemon(f).type, DM_USERSPACE_MAP_BLOCK_RESP);
	assert_int_equal(batches(f), 2);
	daemon_stop(f);
}

static void report(struct fixture *f, uint32_t what, uint64_t block, int error)
{
	const struct dmui_msg msg = {
		.type = DM_USERSPACE_REPORT,
		.report = { .report = what, .block = block, .error = error },
	};

	fake_send(&f->fake, &msg, 1);
}

/* The 1st, the 2nd, and what goes beyond the 4th, the 8th and so on. */
static void logs_failures(void **state)
{
	struct fixture *f = *state;
	struct json_object *status;
	struct dmui_msg msg;
	uint64_t i;

	daemon_start(f, "-f vol1");
	msg = await_version(f);
	msg.version.kernel_ver = 1 << 16 | 1 << 8;
	fake_send(&f->fake, &msg, 1);
	msg = from_daemon(f);
	assert_int_equal(msg.type, DM_USERSPACE_EXTENSIONS);
	fake_send(&f->fake, &msg, 1);
	expect_ready(f, "READY\n");
	report(f, DMU_REPORT_IO_FAILED, 5, -EIO);
	report(f, DMU_REPORT_LOST, 4, 0);
	for (i = 6; i < 17; i++)
		report(f, DMU_REPORT_COPY_FAILED, i, i < 16 ? -EIO : -ENODEV);
	do {
		status = ask_status(f);
		i = number(status, "failures");
		json_object_put(status);
	} while (i != 16);
	daemon_stop(f);
	expect_stderr(f, "dmud: vol1: I/O failed at its device: block 5: Input/output error (failure 1)\n"
			 "dmud: vol1: 4 reports of failures were lost (failure 5)\n"
			 "dmud: vol1: a copy failed: block 8: Input/output error (failure 8)\n"
			 "dmud: vol1: a copy was given up: block 16: No such device (failure 16)\n"
			 "dmud: stopped");
}

static void removed(void **state)
{
	struct fixture *f = *state;
	char args[200];

	snprintf(args, sizeof(args), "-f -o closed=%s vol1",
		 in_dir(f, "closed"));
	start_and_serve(f, args);
	close(f->fake.kernel);
	f->fake.kernel = -1;
	assert_int_equal(exit_code(f->pid), 0);
	assert_int_equal(access(in_dir(f, "closed"), F_OK), 0);
	assert_int_equal(access(in_dir(f, "socket"), F_OK), -1);
	expect_stderr(f, "vol1 has been removed");
}

static void quits(void **state)
{
	struct fixture *f = *state;

	start_and_serve(f, "-f vol1");
	expect_answer(f, "quit", "{\"ok\":true}");
	assert_int_equal(exit_code(f->pid), 0);
	expect_stderr(f, "asked to quit");
}

static void grows(void **state)
{
	struct fixture *f = *state;
	struct dmui_msg msg;

	start_and_serve(f, "-f vol1");
	expect_answer(f, "grow", "{\"ok\":true}");
	/* What it gathers is written, though the kernel asked for nothing. */
	msg = from_daemon(f);
	assert_int_equal(msg.type, DM_USERSPACE_MAP_BLOCK_RESP);
	assert_int_equal(msg.response.org_block, 1000);
	expect_answer(f, "grow", "{\"ok\":false,\"error\":\"grown already\"}");
	expect_answer(f, "shrink",
		      "{\"ok\":false,\"error\":\"there is no request \\\"shrink\\\": status, grow or quit\"}");
	daemon_stop(f);
}

/* A terminal that closes does not take a device with it. */
static void hangup_ignored(void **state)
{
	struct fixture *f = *state;

	start_and_serve(f, "-f vol1");
	assert_int_equal(kill(f->pid, SIGHUP), 0);
	json_object_put(ask_status(f));
	assert_int_equal(kill(f->pid, SIGINT), 0);
	assert_int_equal(exit_code(f->pid), 0);
	expect_stderr(f, "stopped by Interrupt");
}

static void protocol_error(void **state)
{
	struct fixture *f = *state;

	start_and_serve(f, "-f vol1");
	fake_status(&f->fake, 77, DM_USERSPACE_SYNC_COMPLETE);
	assert_int_equal(exit_code(f->pid), 1);
	expect_stderr(f, "dmud: vol1: I/O is held for id 77");
}

static void no_such_device(void **state)
{
	cannot_start(*state, "-f nonesuch",
		     "cannot open nonesuch: there is no nonesuch");
}

static void no_such_policy(void **state)
{
	cannot_start(*state, "-f --policy empty vol1",
		     TEST_PLUGINS "/empty.so is not a policy: it has no symbol dmud_policy");
}

static void policy_refuses(void **state)
{
	cannot_start(*state, "-f -o refuse=why vol1",
		     "the policy tester refuses vol1: told to refuse: why");
}

static void policy_says_nothing(void **state)
{
	cannot_start(*state, "-f -o mute=1 vol1",
		     "the policy tester refuses vol1: No space left on device");
}

static void bad_pid_file(void **state)
{
	struct fixture *f = *state;

	daemon_start(f, "-f --pid-file /nonesuch/pid vol1");
	serve_open(f);
	expect_ready(f, "ERROR /nonesuch/pid: No such file or directory\n");
	assert_int_equal(exit_code(f->pid), 1);
}

/* The target goes while the daemon comes. */
static void gone_in_handshake(void **state)
{
	struct fixture *f = *state;

	daemon_start(f, "-f vol1");
	await_version(f);
	close(f->fake.kernel);
	f->fake.kernel = -1;
	expect_ready(f, "ERROR vol1: the target has been removed\n");
	assert_int_equal(exit_code(f->pid), 1);
}

static void second_daemon(void **state)
{
	struct fixture *f = *state, second;
	char want[300];

	start_and_serve(f, "-f vol1");
	second = *f;
	daemon_start(&second, "-f vol1");
	snprintf(want, sizeof(want),
		 "ERROR another daemon serves the control socket %s\n",
		 in_dir(f, "socket"));
	expect_ready(&second, want);
	assert_int_equal(exit_code(second.pid), 1);
	close(second.ready_fd);
	close(second.err_fd);
	/* Its pid file has not been touched either. */
	assert_int_equal(access(in_dir(f, "pid"), F_OK), 0);
	json_object_put(ask_status(f));
	daemon_stop(f);
}

/* Killed, it leaves its socket and pid file; the next one takes them. */
static void after_a_kill(void **state)
{
	struct fixture *f = *state;
	int status;

	start_and_serve(f, "-f vol1");
	kill(f->pid, SIGKILL);
	waitpid(f->pid, &status, 0);
	assert_int_equal(access(in_dir(f, "socket"), F_OK), 0);
	close(f->fake.kernel);
	close(f->ready_fd);
	close(f->err_fd);
	start_and_serve(f, "-f vol1");
	json_object_put(ask_status(f));
	daemon_stop(f);
}

static pid_t read_pid(struct fixture *f)
{
	FILE *file = fopen(in_dir(f, "pid"), "r");
	int pid;

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%d\n", &pid), 1);
	fclose(file);
	return pid;
}

static void expect_link(pid_t pid, const char *what, const char *want)
{
	char path[100], to[300];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	len = readlink(path, to, sizeof(to) - 1);
	assert_true(len > 0);
	to[len] = 0;
	assert_string_equal(to, want);
}

/* No descriptor of the daemon's leads there. */
static void not_held(pid_t pid, const char *path)
{
	struct stat want, st;
	char pattern[64];
	glob_t found;
	size_t i;

	assert_int_equal(stat(path, &want), 0);
	snprintf(pattern, sizeof(pattern), "/proc/%d/fd/*", (int)pid);
	assert_int_equal(glob(pattern, 0, NULL, &found), 0);
	for (i = 0; i < found.gl_pathc; i++)
		if (!stat(found.gl_pathv[i], &st))
			assert_false(st.st_ino == want.st_ino &&
				     st.st_dev == want.st_dev);
	globfree(&found);
}

static int oom_score_adj(pid_t pid)
{
	char path[64];
	int score = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%d", &score), 1);
	fclose(file);
	return score;
}

/* CAP_SYS_RESOURCE, which root lacks in some containers. */
static bool may_use_resources(void)
{
	unsigned long long caps = 0;
	char line[200];
	FILE *file = fopen("/proc/self/status", "r");

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		sscanf(line, "CapEff: %llx", &caps);
	fclose(file);
	return caps >> 24 & 1;
}

/* It holds nothing of whoever started it. */
static void daemon_is_detached(void **state)
{
	struct fixture *f = *state;
	struct json_object *status;
	pid_t pid;
	int leak;

	/* A low one and a high one, as from a careless shell. */
	leak = open(in_dir(f, "leak"), O_CREAT | O_RDWR, 0600);
	assert_int_equal(dup2(leak, 200), 200);
	daemon_start(f, "vol1");
	close(leak);
	close(200);
	serve_open(f);
	assert_int_equal(exit_code(f->pid), 0);
	expect_ready(f, "READY\n");
	/* Its end of file means that the daemon has let go of it. */
	expect_stderr(f, "");
	pid = read_pid(f);
	assert_int_not_equal(pid, f->pid);
	expect_link(pid, "cwd", "/");
	expect_link(pid, "fd/0", "/dev/null");
	expect_link(pid, "fd/1", "/dev/null");
	expect_link(pid, "fd/2", "/dev/null");
	not_held(pid, in_dir(f, "leak"));
	/* In a session whose leader is gone: no terminal can become its own. */
	assert_int_not_equal(getsid(pid), getsid(0));
	assert_int_not_equal(getsid(pid), pid);
	if (may_use_resources())
		assert_int_equal(oom_score_adj(pid), -1000);
	assert_int_equal(sched_getscheduler(pid), SCHED_BATCH);
	f->pid = pid;
	status = ask_status(f);
	assert_int_equal(number(status, "pid"), pid);
	json_object_put(status);
	daemon_stop(f);
}

/* What the administrator has chosen is not changed, nor what is asked for. */
static void scheduling_is_kept(void **state)
{
	const struct sched_param none = { 0 };
	struct fixture *f = *state;

	start_and_serve(f, "-f --eager vol1");
	assert_int_equal(sched_getscheduler(f->pid), SCHED_OTHER);
	daemon_stop(f);
	assert_int_equal(sched_setscheduler(0, SCHED_IDLE, &none), 0);
	start_and_serve(f, "-f vol1");
	assert_int_equal(sched_setscheduler(0, SCHED_OTHER, &none), 0);
	assert_int_equal(sched_getscheduler(f->pid), SCHED_IDLE);
	daemon_stop(f);
}

static void daemon_cannot_start(void **state)
{
	/* The command says it, though the daemon found it. */
	cannot_start(*state, "-o refuse=why vol1",
		     "the policy tester refuses vol1: told to refuse: why");
}

static void daemon_dies(void **state)
{
	struct fixture *f = *state;

	daemon_start(f, "-o die=1 vol1");
	expect_ready(f, "");
	assert_int_equal(exit_code(f->pid), 1);
	expect_stderr(f, "dmud: the daemon ended before it was ready\n");
	/* And the daemon itself, which has become ours. */
	assert_int_equal(waitpid(-1, NULL, 0) > 0, 1);
	unlink(in_dir(f, "socket"));
}

/* The command is interrupted: nobody waits, so nothing is to be started. */
static void caller_gives_up(void **state)
{
	struct fixture *f = *state;
	int status, code = 0;
	struct dmui_msg msg;

	daemon_start(f, "vol1");
	msg = await_version(f);
	kill(f->pid, SIGINT);
	assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
	assert_true(WIFSIGNALED(status));
	tell_version(f, msg);
	expect_ready(f, "ERROR nobody waits for the daemon any more\n");
	/* Between the command and the daemon there was another process. */
	while (waitpid(-1, &status, 0) > 0)
		if (!WIFEXITED(status) || WEXITSTATUS(status))
			code = status;
	assert_true(WIFEXITED(code));
	assert_int_equal(WEXITSTATUS(code), 1);
}

static void notifies_systemd(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char text[500];
	ssize_t len;
	int fd;

	strcpy(address.sun_path, in_dir(f, "closed"));
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address,
			      sizeof(address)), 0);
	setenv("NOTIFY_SOCKET", address.sun_path, 1);
	start_and_serve(f, "-f vol1");
	unsetenv("NOTIFY_SOCKET");
	len = recv(fd, text, sizeof(text) - 1, 0);
	assert_true(len > 0);
	text[len] = 0;
	assert_non_null(strstr(text, "READY=1\n"));
	assert_non_null(strstr(text, "MAINPID="));
	daemon_stop(f);
	len = recv(fd, text, sizeof(text) - 1, 0);
	text[len > 0 ? len : 0] = 0;
	assert_string_equal(text, "STOPPING=1");
	close(fd);
}

#define with_daemon(test) \
	cmocka_unit_test_setup_teardown(test, daemon_setup,	\
					daemon_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_daemon(serves),
		with_daemon(tries_again),
		with_daemon(tries_again_while_asked),
		with_daemon(old_policy),
		with_daemon(logs_failures),
		with_daemon(removed),
		with_daemon(quits),
		with_daemon(grows),
		with_daemon(hangup_ignored),
		with_daemon(protocol_error),
		with_daemon(no_such_device),
		with_daemon(no_such_policy),
		with_daemon(policy_refuses),
		with_daemon(policy_says_nothing),
		with_daemon(bad_pid_file),
		with_daemon(gone_in_handshake),
		with_daemon(second_daemon),
		with_daemon(after_a_kill),
		with_daemon(daemon_is_detached),
		with_daemon(scheduling_is_kept),
		with_daemon(daemon_cannot_start),
		with_daemon(daemon_dies),
		with_daemon(caller_gives_up),
		with_daemon(notifies_systemd),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
