// SPDX-License-Identifier: GPL-2.0-only
/* One device, its policy, and the loop that brings them together. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "server.h"

/* The kernel answers at once; this is for a device that is something else. */
#define HANDSHAKE_MS 10000

/* The connection is there before the policy has a state: hence these. */

static void on_map(struct dmu *dmu, const struct dmu_request *req, void *ctx)
{
	struct server *server = ctx;

	server->plugin.policy->ops.map(dmu, req, server->state);
}

static void on_sync(struct dmu *dmu, uint32_t id, uint64_t block, void *ctx)
{
	struct server *server = ctx;

	server->plugin.policy->ops.sync(dmu, id, block, server->state);
}

static void on_invalidated(struct dmu *dmu, uint64_t block, bool mapped,
			   void *ctx)
{
	struct server *server = ctx;

	server->plugin.policy->ops.invalidated(dmu, block, mapped,
					       server->state);
}

static void on_batch(struct dmu *dmu, void *ctx)
{
	struct server *server = ctx;

	server->due = 0;
	server->plugin.policy->ops.batch(dmu, server->state);
}

static void on_gone(struct dmu *dmu, void *ctx)
{
	struct server *server = ctx;

	log_line(LOG_INFO, "%s has been removed", server->env.name);
	if (server->plugin.policy->ops.gone)
		server->plugin.policy->ops.gone(dmu, server->state);
}

static void on_refused(struct dmu *dmu, uint32_t id, uint64_t block, int error,
		       void *ctx)
{
	struct server *server = ctx;

	/* The 1st, 2nd, 4th, 8th ...: a broken policy must not fill the log. */
	server->refused++;
	if (!(server->refused & (server->refused - 1)))
		log_line(LOG_ERR, "%s: %s (refusal %" PRIu64 ")",
			 server->env.name, dmu_strerror(dmu), server->refused);
	if (server->plugin.policy->ops.refused)
		server->plugin.policy->ops.refused(dmu, id, block, error,
						   server->state);
}

static void log_failure(const struct server *server, enum dmu_failure what,
			uint64_t block, int error)
{
	static const char * const names[] = {
		[DMU_FAILED_COPY] = "a copy failed",
		[DMU_FAILED_IO] = "I/O failed at its device",
		[DMU_FAILED_REQUEST] = "a request was not answered in time",
	};
	bool given_up = what == DMU_FAILED_COPY && error == -ENODEV;

	if (what == DMU_FAILED_REPORTS)
		log_line(LOG_ERR, "%s: %" PRIu64 " reports of failures were lost (failure %" PRIu64 ")",
			 server->env.name, block, server->failures);
	else
		log_line(LOG_ERR, "%s: %s: block %" PRIu64 ": %s (failure %" PRIu64 ")",
			 server->env.name, given_up ? "a copy was given up" : names[what],
			 block, strerror(-error), server->failures);
}

static void on_failed(struct dmu *dmu, enum dmu_failure what, uint64_t block,
		      uint32_t id, int error, void *ctx)
{
	struct server *server = ctx;
	uint64_t before = server->failures;

	server->failures += what == DMU_FAILED_REPORTS ? block : 1;
	/* The 1st, 2nd, 4th, 8th ..., as above; or what has gone beyond one. */
	if ((before ^ server->failures) > before)
		log_failure(server, what, block, error);
	if (server->plugin.policy->ops.failed)
		server->plugin.policy->ops.failed(dmu, what, block, id, error,
						  server->state);
}

static void on_discarded(struct dmu *dmu, uint64_t block, uint64_t count,
			 void *ctx)
{
	struct server *server = ctx;

	server->plugin.policy->ops.discarded(dmu, block, count, server->state);
}

static int connect_device(struct server *server, char *why)
{
	const struct dmu_ops *policy = &server->plugin.policy->ops;
	const struct dmu_ops ops = {
		.map = on_map,
		.sync = policy->sync ? on_sync : NULL,
		.invalidated = policy->invalidated ? on_invalidated : NULL,
		.batch = policy->batch ? on_batch : NULL,
		.gone = on_gone,
		.refused = on_refused,
		.failed = on_failed,
		.discarded = policy->discarded ? on_discarded : NULL,
	};
	int err = dmu_open(server->opts->device, &ops, server, &server->dmu);

	if (err)
		return failed(why, err, "cannot open %s: %s",
			      server->opts->device, dmu_strerror(NULL));
	return 0;
}

static int open_policy(struct server *server, char *why)
{
	const struct dmud_policy *policy = server->plugin.policy;
	struct dmud_env *env = &server->env;
	int err;

	env->name = server->opts->device;
	if (strchr(env->name, '/') && *dmu_key(server->dmu))
		env->name = dmu_key(server->dmu);
	env->dmu = server->dmu;
	env->log = log_line;
	err = policy->open(env, server->opts->policy_opts, &server->state);
	if (err) {
		env->error[sizeof(env->error) - 1] = 0;
		return failed(why, err, "the policy %s refuses %s: %s",
			      policy->name, env->name,
			      env->error[0] ? env->error : strerror(-err));
	}
	server->opened = true;
	return 0;
}

/* Where on_signal() puts what read_signal() gets. */
static int signal_pipe = -1;

static void on_signal(int number)
{
	unsigned char byte = number;
	int saved = errno;
	ssize_t ret;

	/* Fails only where it is full, and then there is enough to be read. */
	ret = write(signal_pipe, &byte, sizeof(byte));
	(void)ret;
	errno = saved;
}

static int open_signal_pipe(struct server *server)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	server->signal_fd = fds[0];
	signal_pipe = fds[1];
	return 0;
}

/*
 * From now on signals are read; until now they ended a daemon without duties. By
 * way of a pipe: to poll a signalfd costs as much as all else of a turn.
 */
static int catch_signals(struct server *server, char *why)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	struct sigaction action = {
		.sa_handler = on_signal,
		.sa_flags = SA_RESTART,
	};
	sigset_t set;
	size_t i;
	int err;

	err = open_signal_pipe(server);
	if (err)
		return failed(why, err, "pipe: %s", strerror(-err));
	sigemptyset(&set);
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		/* Also an ignored one, as a shell's "&" leaves. */
		sigaction(signals[i], &action, NULL);
		sigaddset(&set, signals[i]);
	}
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	return 0;
}

static int handshake(struct server *server, char *why)
{
	int err = dmu_handshake(server->dmu, HANDSHAKE_MS);

	if (err)
		return failed(why, err, "%s: %s", server->env.name,
			      dmu_strerror(server->dmu));
	return 0;
}

/**
 * server_init() - make a server that serves nothing yet
 * @server: server_close() may be called from now on
 * @opts: must outlive it
 */
void server_init(struct server *server, const struct options *opts)
{
	*server = (struct server){ .opts = opts, .signal_fd = -1 };
	control_init(&server->control);
}

/**
 * server_open() - get everything that serving needs
 * @server: made by server_init(); undone with server_close(), also after a
 *	failure
 * @why: SENTENCE_SIZE bytes for what is wrong
 *
 * Ends with the handshake: no request is read before the policy can answer it.
 *
 * Return: 0 or a negative errno.
 */
int server_open(struct server *server, char *why)
{
	const struct options *opts = server->opts;
	int err;

	err = plugin_load(&server->plugin, opts->policy, opts->plugin_dir, why);
	if (!err)
		err = connect_device(server, why);
	if (!err)
		err = control_open(&server->control, opts->socket,
				   dmu_key(server->dmu), why);
	if (!err)
		err = open_policy(server, why);
	if (!err)
		err = catch_signals(server, why);
	if (!err)
		err = handshake(server, why);
	return err;
}

static struct json_object *number(uint64_t value)
{
	return json_object_new_uint64(value);
}

static struct json_object *answer_status(struct server *server)
{
	const struct dmud_policy *policy = server->plugin.policy;
	struct json_object *answer = json_object_new_object();
	struct json_object *own = json_object_new_object();
	struct dmu_counters counters;

	dmu_counters(server->dmu, &counters);
	json_object_object_add(answer, "name",
			       json_object_new_string(server->env.name));
	json_object_object_add(answer, "key",
			       json_object_new_string(dmu_key(server->dmu)));
	json_object_object_add(answer, "policy",
			       json_object_new_string(policy->name));
	json_object_object_add(answer, "pid", json_object_new_int(getpid()));
	json_object_object_add(answer, "requests", number(counters.requests));
	json_object_object_add(answer, "mappings", number(counters.mappings));
	json_object_object_add(answer, "failed", number(counters.failed));
	json_object_object_add(answer, "syncs", number(counters.syncs));
	json_object_object_add(answer, "refused", number(counters.refused));
	json_object_object_add(answer, "failures", number(server->failures));
	if (policy->status)
		policy->status(server->state, own);
	json_object_object_add(answer, "policy_status", own);
	return answer;
}

static struct json_object *answer_grow(struct server *server)
{
	const struct dmud_policy *policy = server->plugin.policy;
	int err;

	if (!policy->grow)
		return control_error("the policy %s has nothing that grows",
				     policy->name);
	err = dmu_refresh(server->dmu);
	if (err && err != -EOPNOTSUPP)
		return control_error("%s", dmu_strerror(server->dmu));
	server->env.error[0] = 0;
	err = policy->grow(server->state, &server->env);
	if (err)
		return control_error("%s", server->env.error[0] ?
				     server->env.error : strerror(-err));
	return control_ok();
}

static struct json_object *answer(void *ctx, const char *request)
{
	struct server *server = ctx;

	if (!strcmp(request, "status"))
		return answer_status(server);
	if (!strcmp(request, "grow"))
		return answer_grow(server);
	if (!strcmp(request, "quit")) {
		log_line(LOG_INFO, "asked to quit");
		server->stop = true;
		return control_ok();
	}
	return control_error("there is no request \"%s\": status, grow or quit",
			     request);
}

static void read_signal(struct server *server)
{
	unsigned char number;

	if (read(server->signal_fd, &number, sizeof(number)) != sizeof(number))
		return;
	if (number == SIGHUP) {
		log_line(LOG_DEBUG, "SIGHUP: there is nothing to read again");
		return;
	}
	log_line(LOG_INFO, "stopped by %s", strsignal(number));
	server->stop = true;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * How long to wait for messages, as poll() wants it. Who asks for the status all
 * the time does not put off what is due.
 */
static int wait_ms(struct server *server)
{
	const struct dmud_policy *policy = server->plugin.policy;
	int64_t now;
	int ms = -1;

	if (policy->abi >= 2 && policy->patience && policy->ops.batch)
		ms = policy->patience(server->state);
	if (ms < 0) {
		server->due = 0;
		return -1;
	}
	now = now_ms();
	if (!server->due)
		server->due = now + ms;
	return server->due > now ? (int)(server->due - now) : 0;
}

/* One turn of the loop. 0, or what dmu_dispatch() cannot go on after. */
static int turn(struct server *server)
{
	struct pollfd fds[2 + CONTROL_FDS] = {
		{
			.fd = dmu_fd(server->dmu),
			.events = dmu_events(server->dmu),
		},
		{ .fd = server->signal_fd, .events = POLLIN },
	};
	unsigned int n = 2 + control_poll(&server->control, fds + 2);
	int err;

	if (poll(fds, n, wait_ms(server)) < 0)
		return errno == EINTR ? 0 : -errno;
	if (fds[0].revents) {
		err = dmu_dispatch(server->dmu);
		if (err < 0)
			return err;
	}
	if (server->due && server->due <= now_ms())
		on_batch(server->dmu, server);
	if (fds[1].revents)
		read_signal(server);
	control_serve(&server->control, fds + 2, answer, server);
	/* What a batch or "grow" gathered; a refusal has had its callback. */
	dmu_flush(server->dmu);
	return 0;
}

/**
 * server_run() - serve until told to stop, or until the target is removed
 * @server: opened
 * @why: SENTENCE_SIZE bytes for what is wrong
 *
 * Return: 0, or a negative errno where serving cannot go on.
 */
int server_run(struct server *server, char *why)
{
	int err = 0;

	while (!server->stop && !err)
		err = turn(server);
	if (!err || err == -ENODEV)
		return 0;
	return failed(why, err, "%s: %s", server->env.name,
		      dmu_strerror(server->dmu));
}

/**
 * server_close() - undo server_open(), as far as it came
 * @server: server_init() will do
 */
void server_close(struct server *server)
{
	if (server->opened)
		server->plugin.policy->close(server->state);
	server->opened = false;
	/* The socket after these: it keeps the next daemon away so long. */
	dmu_close(server->dmu);
	server->dmu = NULL;
	control_close(&server->control);
	plugin_unload(&server->plugin);
	if (server->signal_fd < 0)
		return;
	/* One that comes now finds nobody, and is lost. */
	close(server->signal_fd);
	server->signal_fd = -1;
	close(signal_pipe);
	signal_pipe = -1;
}
