/* SPDX-License-Identifier: GPL-2.0-only */
/* One device, its policy, and the loop that brings them together. */
#ifndef DMUD_SERVER_H
#define DMUD_SERVER_H

#include "control.h"
#include "options.h"
#include "plugin.h"

/**
 * struct server - a device being served
 * @opts: the command line
 * @plugin: the policy
 * @env: what the policy sees of dmud
 * @dmu: the connection
 * @state: the policy's
 * @opened: the policy is to be closed
 * @control: the control socket
 * @signal_fd: SIGTERM and the like; -1: not yet
 * @stop: leave the loop; set by a signal, by "quit", or when @dmu has ended
 * @refused: answers that the kernel refused, to log ever fewer of them
 * @failures: what the kernel has reported, likewise
 * @due: when to call the policy's batch though no message has come, in
 *	milliseconds of CLOCK_MONOTONIC; 0: never
 */
struct server {
	const struct options *opts;
	struct plugin plugin;
	struct dmud_env env;
	struct dmu *dmu;
	void *state;
	bool opened;
	struct control control;
	int signal_fd;
	bool stop;
	uint64_t refused;
	uint64_t failures;
	int64_t due;
};

void server_init(struct server *server, const struct options *opts);
int server_open(struct server *server, char *why);
int server_run(struct server *server, char *why);
void server_close(struct server *server);

#endif /* DMUD_SERVER_H */
