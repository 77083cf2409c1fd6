// SPDX-License-Identifier: GPL-2.0-only
/* The command line. */
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "options.h"
#include "policy.h"

static const char help[] =
"Usage: dmud --policy NAME [OPTION]... DEVICE\n"
"       dmud --list-policies\n"
"\n"
"Serves DEVICE, a device-mapper device of the \"userspace\" target: decides\n"
"where its blocks live. DEVICE is the key in its table, its name, or a path\n"
"(/dev/dm-userspace0, /dev/mapper/NAME). Its table need not be resumed yet.\n"
"\n"
"What decides:\n"
"  -p, --policy NAME        a policy of the plugin directory, or the path of\n"
"                           one (it holds a \"/\")\n"
"  -o, --option NAME=VALUE  an option of the policy; may be repeated\n"
"  -l, --list-policies      say which policies there are, with their options\n"
"      --plugin-dir DIR     where to look [" PLUGINDIR "]\n"
"\n"
"How it runs:\n"
"  -f, --foreground         stay in the foreground and log to stderr\n"
"      --eager              where all processors are busy, interrupt others for\n"
"                           each request, rather than let some come together\n"
"      --ready-fd N         write \"READY\" or \"ERROR ...\" there when started\n"
"      --pid-file FILE      write the daemon's process id there\n"
"      --socket PATH        the control socket [/run/dm-userspace/KEY.sock]\n"
"      --log-level LEVEL    error, warning, info or debug [info]\n"
"  -h, --help               this\n"
"  -V, --version            the version\n"
"\n"
"Without --foreground the command returns when the device is being served.\n"
"\n"
"Exit codes: 0 stopped, or the target was removed (or: the daemon is ready);\n"
"1 it could not start or go on; 2 the command line makes no sense.\n"
"\n"
"Examples:\n"
"  dmud --policy linear -o offset=2048 vol1\n"
"        serve vol1 from its first device, from sector 2048 on\n"
"  dmud --foreground --log-level debug --policy ./mine.so /dev/dm-userspace0\n"
"        try a policy of one's own\n"
"  dmud --list-policies\n"
"        what can be chosen\n";

enum {
	OPT_PLUGIN_DIR = 256,
	OPT_EAGER,
	OPT_READY_FD,
	OPT_PID_FILE,
	OPT_SOCKET,
	OPT_LOG_LEVEL,
};

static const struct option long_options[] = {
	{ "policy", required_argument, NULL, 'p' },
	{ "option", required_argument, NULL, 'o' },
	{ "list-policies", no_argument, NULL, 'l' },
	{ "plugin-dir", required_argument, NULL, OPT_PLUGIN_DIR },
	{ "foreground", no_argument, NULL, 'f' },
	{ "eager", no_argument, NULL, OPT_EAGER },
	{ "ready-fd", required_argument, NULL, OPT_READY_FD },
	{ "pid-file", required_argument, NULL, OPT_PID_FILE },
	{ "socket", required_argument, NULL, OPT_SOCKET },
	{ "log-level", required_argument, NULL, OPT_LOG_LEVEL },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ }
};

static const struct {
	const char *name;
	int priority;
} levels[] = {
	{ "error", LOG_ERR },
	{ "warning", LOG_WARNING },
	{ "info", LOG_INFO },
	{ "debug", LOG_DEBUG },
};

/* Say what is wrong; options_parse() then returns the same. */
static int usage(const char *what, const char *value)
{
	fprintf(stderr, "dmud: %s%s (try --help)\n", what, value);
	return EXIT_USAGE;
}

static int parse_level(const char *name, int *priority)
{
	size_t i;

	for (i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (!strcmp(name, levels[i].name)) {
			*priority = levels[i].priority;
			return -1;
		}
	}
	return usage("there is no log level ", name);
}

static int parse_ready_fd(const char *digits, int *fd)
{
	char *end;
	long n = strtol(digits, &end, 10);

	if (!*digits || *end || n < 0 || n > INT_MAX ||
	    fcntl(n, F_GETFD) < 0)
		return usage("not an open file descriptor: ", digits);
	*fd = n;
	return -1;
}

static int add_policy_opt(struct options *opts, char *opt)
{
	const char *equals = strchr(opt, '=');
	char **more;

	if (!equals || equals == opt)
		return usage("-o takes name=value, not ", opt);
	more = reallocarray(opts->policy_opts, opts->nr_policy_opts + 2,
			    sizeof(*more));
	if (!more)
		return usage("no memory for -o ", opt);
	opts->policy_opts = more;
	more[opts->nr_policy_opts++] = opt;
	more[opts->nr_policy_opts] = NULL;
	return -1;
}

static int print_version(void)
{
	printf("dmud %s, policies of ABI %d\n", DMU_VERSION, DMUD_POLICY_ABI);
	return EXIT_OK;
}

/* One option. -1, or the exit code. */
static int parse_one(int c, struct options *opts)
{
	switch (c) {
	case 'p':
		opts->policy = optarg;
		return -1;
	case 'o':
		return add_policy_opt(opts, optarg);
	case 'l':
		opts->list_policies = true;
		return -1;
	case OPT_PLUGIN_DIR:
		opts->plugin_dir = optarg;
		return -1;
	case 'f':
		opts->foreground = true;
		return -1;
	case OPT_EAGER:
		opts->eager = true;
		return -1;
	case OPT_READY_FD:
		return parse_ready_fd(optarg, &opts->ready_fd);
	case OPT_PID_FILE:
		opts->pid_file = optarg;
		return -1;
	case OPT_SOCKET:
		opts->socket = optarg;
		return -1;
	case OPT_LOG_LEVEL:
		return parse_level(optarg, &opts->log_level);
	case 'h':
		fputs(help, stdout);
		return EXIT_OK;
	case 'V':
		return print_version();
	}
	/* getopt_long() has said what it does not understand. */
	return EXIT_USAGE;
}

static int check(const struct options *opts, int nr_devices)
{
	if (opts->list_policies)
		return -1;
	/* A default would one day write to a device that needed another. */
	if (!opts->policy || !*opts->policy)
		return usage("which policy? --policy is missing", "");
	if (nr_devices < 1 || !*opts->device)
		return usage("which device? DEVICE is missing", "");
	if (nr_devices > 1)
		return usage("one device only, and it has been given: ",
			     opts->device);
	return -1;
}

/**
 * options_parse() - read the command line
 * @argc: as of main()
 * @argv: as of main(); @opts refers to its strings
 * @opts: filled in; undone with options_free(), whatever is returned
 *
 * Prints the help, the version, or what is wrong.
 *
 * Return: -1: go on; else what to exit with.
 */
int options_parse(int argc, char **argv, struct options *opts)
{
	int c, code;

	*opts = (struct options){
		.plugin_dir = PLUGINDIR,
		.ready_fd = -1,
		.log_level = LOG_INFO,
		.policy_opts = calloc(1, sizeof(char *)),
	};
	if (!opts->policy_opts)
		return usage("no memory", "");
	optind = 0;
	while ((c = getopt_long(argc, argv, "p:o:lfhV", long_options,
				NULL)) != -1) {
		code = parse_one(c, opts);
		if (code >= 0)
			return code;
	}
	opts->device = optind < argc ? argv[optind] : NULL;
	return check(opts, argc - optind);
}

/**
 * options_free() - free what options_parse() allocated
 * @opts: filled in by it
 */
void options_free(struct options *opts)
{
	free(opts->policy_opts);
	opts->policy_opts = NULL;
}
