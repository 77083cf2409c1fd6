/* SPDX-License-Identifier: GPL-2.0-only */
/* The command line. */
#ifndef DMUD_OPTIONS_H
#define DMUD_OPTIONS_H

#include <stdbool.h>

/* Exit codes; in the help and the man page too. */
enum {
	EXIT_OK = 0,		/* stopped, or the target was removed */
	EXIT_FAILED = 1,	/* could not start, or could not go on */
	EXIT_USAGE = 2,		/* the command line makes no sense */
};

/**
 * struct options - what the command line says
 * @device: key, name of a mapped device, or path, as dmu_open() takes it
 * @policy: name, or path where it holds a "/"
 * @policy_opts: "name=value" strings, then NULL; freed by options_free()
 * @nr_policy_opts: how many
 * @plugin_dir: where policies are looked up by name
 * @pid_file: NULL: none
 * @socket: NULL: the default
 * @ready_fd: -1: none
 * @log_level: LOG_*
 * @eager: serve a request at once, be the processors busy
 * @foreground: stay where started
 * @list_policies: do only that
 */
struct options {
	const char *device;
	const char *policy;
	char **policy_opts;
	unsigned int nr_policy_opts;
	const char *plugin_dir;
	const char *pid_file;
	const char *socket;
	int ready_fd;
	int log_level;
	bool eager;
	bool foreground;
	bool list_policies;
};

int options_parse(int argc, char **argv, struct options *opts);
void options_free(struct options *opts);

#endif /* DMUD_OPTIONS_H */
