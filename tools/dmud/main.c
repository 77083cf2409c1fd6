// SPDX-License-Identifier: GPL-2.0-only
/* dmud: serves a device of the dm-userspace target. */
#include <signal.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon.h"
#include "log.h"
#include "server.h"

static int list_policies(const struct options *opts)
{
	char why[SENTENCE_SIZE];

	if (!plugin_list(opts->plugin_dir, why))
		return EXIT_OK;
	log_line(LOG_ERR, "%s", why);
	return EXIT_FAILED;
}

/* From nothing to a device that is served and a caller who knows. */
static int start(struct server *server, struct readiness *ready, char **pid_file,
		 char *why)
{
	const struct options *opts = server->opts;
	int err;

	err = server_open(server, why);
	if (!err && opts->pid_file)
		err = daemon_write_pid(opts->pid_file, pid_file, why);
	if (!err)
		err = daemon_detach(!opts->foreground, why);
	if (err)
		return err;
	daemon_protect();
	if (!opts->eager)
		daemon_gather();
	log_line(LOG_INFO, "serving %s with the policy %s",
		 server->env.name, server->plugin.policy->name);
	if (readiness_report(ready, NULL))
		return failed(why, -1, "nobody waits for the daemon any more");
	sd_notifyf(0, "READY=1\nMAINPID=%lu\nSTATUS=serving %s with %s",
		   (unsigned long)getpid(), server->env.name,
		   server->plugin.policy->name);
	return 0;
}

/* Everything between the command line and the exit code. */
static int serve(const struct options *opts, struct readiness *ready)
{
	char why[SENTENCE_SIZE];
	char *pid_file = NULL;
	struct server server;
	int err;

	server_init(&server, opts);
	err = start(&server, ready, &pid_file, why);
	if (!err)
		err = server_run(&server, why);
	sd_notify(0, "STOPPING=1");
	if (pid_file)
		unlink(pid_file);
	free(pid_file);
	server_close(&server);
	if (!err)
		return EXIT_OK;
	/* While a command still waits for it, that one says why. */
	if (ready->caller_fd < 0)
		log_line(LOG_ERR, "%s", why);
	readiness_report(ready, why);
	return EXIT_FAILED;
}

static int run(const struct options *opts)
{
	struct readiness ready;
	int code;

	if (opts->list_policies)
		return list_policies(opts);
	readiness_init(&ready, opts->ready_fd);
	if (!opts->foreground) {
		code = daemon_fork(&ready);
		if (code >= 0)
			return code;
		log_to_both();
	}
	return serve(opts, &ready);
}

int main(int argc, char **argv)
{
	struct options opts;
	int code;

	daemon_stdio();
	signal(SIGPIPE, SIG_IGN);
	code = options_parse(argc, argv, &opts);
	if (code < 0) {
		log_set_level(opts.log_level);
		code = run(&opts);
	}
	options_free(&opts);
	return code;
}
