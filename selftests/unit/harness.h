/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A daemon under test, from its command line to its exit code. Only the way to
 * the device is ours: dmu_open() connects to a socket of the test, which plays
 * the kernel. Nothing here sleeps: each step waits for what the daemon does.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include "fake.h"

#include <sys/types.h>

#include <json-c/json.h>

/**
 * struct fixture - a daemon and what is around it
 * @dir: for everything that has a path
 * @listen_fd: where the daemon's dmu_open() connects to
 * @fake: the kernel's end, once it has
 * @ready_fd: our end of --ready-fd
 * @err_fd: our end of its stderr
 * @pid: of the command
 */
struct fixture {
	char dir[64];
	int listen_fd;
	struct fake fake;
	int ready_fd;
	int err_fd;
	pid_t pid;
};

/* What the daemon finds out about its device; daemon_setup() sets it. */
extern struct dmu_geometry geometry;

const char *in_dir(const struct fixture *f, const char *name);
int daemon_setup(void **state);
int daemon_teardown(void **state);
struct dmui_msg await_version(struct fixture *f);
void tell_version(struct fixture *f, struct dmui_msg msg);
void daemon_start(struct fixture *f, const char *args);
void serve_open(struct fixture *f);
void expect_ready(struct fixture *f, const char *want);
void start_and_serve(struct fixture *f, const char *args);
int exit_code(pid_t pid);
void expect_stderr(struct fixture *f, const char *words);
struct dmui_msg from_daemon(struct fixture *f);
struct json_object *ask_status(struct fixture *f);
void expect_answer(struct fixture *f, const char *request, const char *want);
int64_t number(struct json_object *obj, const char *name);
struct json_object *member(struct json_object *obj, const char *name);
void daemon_stop(struct fixture *f);
void cannot_start(struct fixture *f, const char *args, const char *words);

#endif /* HARNESS_H */
