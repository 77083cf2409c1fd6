/* SPDX-License-Identifier: GPL-2.0-only */
/* Setting the process up: in the background, ready, and never in its own way. */
#ifndef DMUD_DAEMON_H
#define DMUD_DAEMON_H

#include <stdbool.h>

/**
 * struct readiness - who is told that the daemon is ready, or why not
 * @caller_fd: the command that waits for a daemon to start; -1: none
 * @ready_fd: of --ready-fd; -1: none
 */
struct readiness {
	int caller_fd;
	int ready_fd;
};

void daemon_stdio(void);
void readiness_init(struct readiness *ready, int ready_fd);
int readiness_report(struct readiness *ready, const char *why);
int daemon_fork(struct readiness *ready);
int daemon_detach(bool background, char *why);
void daemon_protect(void);
void daemon_gather(void);
int daemon_write_pid(const char *path, char **written, char *why);

#endif /* DMUD_DAEMON_H */
