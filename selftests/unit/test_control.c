// SPDX-License-Identifier: GPL-2.0-only
/* The control socket: who gets it, who asks, who is dropped. */
#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "log.h"

struct fixture {
	char dir[64];
	char path[80];
	struct control control;
	char asked[1000];
};

static char why[SENTENCE_SIZE];

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/test_control.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/s", f->dir);
	control_init(&f->control);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	control_close(&f->control);
	unlink(f->path);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

static int open_it(struct fixture *f)
{
	return control_open(&f->control, f->path, "unused", why);
}

static int client(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -errno;
	}
	return fd;
}

static struct json_object *answer(void *ctx, const char *request)
{
	struct fixture *f = ctx;

	strcat(f->asked, request);
	strcat(f->asked, ";");
	if (!strcmp(request, "bad"))
		return control_error("%s is %d \"bad\"", request, 1);
	return control_ok();
}

/* One turn of a loop whose poll() does not wait. */
static void serve(struct fixture *f)
{
	struct pollfd fds[CONTROL_FDS];
	unsigned int n = control_poll(&f->control, fds);

	assert_true(n <= CONTROL_FDS);
	poll(fds, n, 0);
	control_serve(&f->control, fds, answer, f);
}

static void expect(int fd, const char *want)
{
	char text[1000];
	ssize_t len = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	assert_true(len >= 0);
	text[len] = 0;
	assert_string_equal(text, want);
}

static void asked(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	int fd;

	assert_int_equal(open_it(f), 0);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode, S_IFSOCK | 0600);
	fd = client(f->path);
	serve(f);
	send(fd, "one", 3, 0);
	serve(f);
	expect(fd, "{\"ok\":true}");
	/* Typed by hand, and several in a row. */
	send(fd, "two\n", 4, 0);
	send(fd, "bad", 3, 0);
	serve(f);
	serve(f);
	expect(fd, "{\"ok\":true}");
	expect(fd, "{\"ok\":false,\"error\":\"bad is 1 \\\"bad\\\"\"}");
	assert_string_equal(f->asked, "one;two;bad;");
	/* Nothing was asked, so nothing is said. */
	serve(f);
	assert_int_equal(recv(fd, f->asked, 1, MSG_DONTWAIT), -1);
	close(fd);
	serve(f);
	assert_int_equal(f->control.nr_clients, 0);
}

static void too_long(void **state)
{
	struct fixture *f = *state;
	char request[300];
	int fd;

	assert_int_equal(open_it(f), 0);
	fd = client(f->path);
	serve(f);
	memset(request, 'x', sizeof(request));
	send(fd, request, sizeof(request), 0);
	serve(f);
	expect(fd, "{\"ok\":false,\"error\":\"the request is too long\"}");
	send(fd, request, 255, 0);
	serve(f);
	expect(fd, "{\"ok\":true}");
	assert_int_equal(strlen(f->asked), 256);
	close(fd);
}

/* More than there is room for: the rest wait, and have their turn. */
static void crowd(void **state)
{
	struct fixture *f = *state;
	int fds[CONTROL_CLIENTS + 3], i;

	assert_int_equal(open_it(f), 0);
	for (i = 0; i < CONTROL_CLIENTS + 3; i++) {
		fds[i] = client(f->path);
		assert_true(fds[i] >= 0);
		send(fds[i], "x", 1, 0);
		serve(f);
	}
	serve(f);
	assert_int_equal(f->control.nr_clients, CONTROL_CLIENTS);
	for (i = 0; i < CONTROL_CLIENTS; i++)
		expect(fds[i], "{\"ok\":true}");
	assert_int_equal(recv(fds[i], f->asked, 1, MSG_DONTWAIT), -1);
	for (i = 0; i < CONTROL_CLIENTS; i += 3)
		close(fds[i]);
	for (i = 0; i < 6; i++)
		serve(f);
	for (i = CONTROL_CLIENTS; i < CONTROL_CLIENTS + 3; i++)
		expect(fds[i], "{\"ok\":true}");
	for (i = 0; i < CONTROL_CLIENTS + 3; i++)
		close(fds[i]);
}

/* Asks and asks and never reads: it is dropped, and nobody waits for it. */
static void never_reads(void **state)
{
	struct fixture *f = *state;
	int fd, i;

	assert_int_equal(open_it(f), 0);
	fd = client(f->path);
	serve(f);
	assert_int_equal(f->control.nr_clients, 1);
	for (i = 0; i < 100000 && f->control.nr_clients; i++) {
		f->asked[0] = 0;
		send(fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		serve(f);
	}
	assert_int_equal(f->control.nr_clients, 0);
	close(fd);
}

static void live_socket(void **state)
{
	struct fixture *f = *state;
	struct control second;
	int fd;

	assert_int_equal(open_it(f), 0);
	control_init(&second);
	assert_int_equal(control_open(&second, f->path, "k", why), -EBUSY);
	assert_non_null(strstr(why, "another daemon serves"));
	control_close(&second);
	/* The first has not suffered. */
	serve(f);
	serve(f);
	fd = client(f->path);
	assert_true(fd >= 0);
	serve(f);
	send(fd, "x", 1, 0);
	serve(f);
	expect(fd, "{\"ok\":true}");
	close(fd);
}

static void stale_socket(void **state)
{
	struct fixture *f = *state;
	int fd;

	assert_int_equal(open_it(f), 0);
	/* As when killed: the name stays. */
	close(f->control.listen_fd);
	close(f->control.dir_fd);
	control_init(&f->control);
	assert_int_equal(client(f->path), -ECONNREFUSED);
	assert_int_equal(open_it(f), 0);
	fd = client(f->path);
	assert_true(fd >= 0);
	close(fd);
	control_close(&f->control);
	assert_int_equal(access(f->path, F_OK), -1);
}

/* Somebody's file is not a socket to be replaced. */
static void not_a_socket(void **state)
{
	struct fixture *f = *state;

	close(open(f->path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(open_it(f), -ENOTSOCK);
	assert_int_equal(access(f->path, F_OK), 0);
	control_close(&f->control);
	assert_int_equal(access(f->path, F_OK), 0);
}

/* Nor is another's socket to be removed in the end. */
static void replaced_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct control second;

	assert_int_equal(open_it(f), 0);
	unlink(f->path);
	control_init(&second);
	assert_int_equal(control_open(&second, f->path, "k", why), 0);
	control_close(&f->control);
	assert_int_equal(access(f->path, F_OK), 0);
	control_close(&second);
	assert_int_equal(access(f->path, F_OK), -1);
}

static void bad_paths(void **state)
{
	struct fixture *f = *state;
	char path[200];

	memset(path, 'x', sizeof(path));
	path[108] = 0;
	assert_int_equal(control_open(&f->control, path, "k", why),
			 -ENAMETOOLONG);
	assert_non_null(strstr(why, "--socket"));
	path[100] = 0;
	assert_int_equal(control_open(&f->control, NULL, path, why),
			 -ENAMETOOLONG);
	assert_int_equal(control_open(&f->control, "/nonesuch/s", "k", why),
			 -ENOENT);
	assert_string_equal(why, "/nonesuch: No such file or directory");
}

/* A relative path is good until the end, whatever the directory is then. */
static void relative_path(void **state)
{
	struct fixture *f = *state;
	char here[4096];

	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(chdir(f->dir), 0);
	assert_int_equal(control_open(&f->control, "s", "k", why), 0);
	assert_int_equal(chdir("/"), 0);
	control_close(&f->control);
	assert_int_equal(access(f->path, F_OK), -1);
	assert_int_equal(chdir(here), 0);
}

/* Where nothing else is said: named after the key, in a directory of root's. */
static void default_path(void **state)
{
	struct fixture *f = *state;
	char key[40], path[100];
	struct stat st;

	if (geteuid())
		skip();
	snprintf(key, sizeof(key), "unit-test-%d", (int)getpid());
	snprintf(path, sizeof(path), CONTROL_DIR "/%s.sock", key);
	assert_int_equal(control_open(&f->control, NULL, key, why), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(stat(CONTROL_DIR, &st), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
	control_close(&f->control);
	assert_int_equal(access(path, F_OK), -1);
}

#define with_dir(test) \
	cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_dir(asked),
		with_dir(too_long),
		with_dir(crowd),
		with_dir(never_reads),
		with_dir(live_socket),
		with_dir(stale_socket),
		with_dir(not_a_socket),
		with_dir(replaced_meanwhile),
		with_dir(bad_paths),
		with_dir(relative_path),
		with_dir(default_path),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
