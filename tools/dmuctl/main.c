// SPDX-License-Identifier: GPL-2.0-only
/* dmuctl: snapshots and other mapped devices whose daemon is dmud. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dmuctl.h"

static const char help[] =
"Usage: dmuctl COMMAND [OPTION]... [NAME]\n"
"\n"
"Makes block devices whose blocks a daemon in user space maps (dm-userspace),\n"
"and looks after them. NAME becomes /dev/mapper/NAME.\n"
"\n"
"  snapshot --origin DEV|FILE --store DEV|FILE NAME\n"
"                 a writable snapshot of a read-only origin; what is written\n"
"                 goes to the store, and is there again after a restart\n"
"  grow NAME      use a store that has been made larger\n"
"  attach --policy NAME --device DEV|FILE... NAME\n"
"                 a device with any policy of dmud\n"
"  detach NAME    take a device away; a snapshot's store keeps its contents\n"
"  list           the devices that there are\n"
"  status NAME    all about one of them\n"
"  revive NAME    start a new daemon for a device whose daemon has died\n"
"\n"
"  -h, --help     this; or, after a COMMAND, more about it\n"
"  -V, --version  the version\n"
"\n"
"Exit codes: 0 done; 1 it failed, what had been done was undone, and one\n"
"sentence said why; 2 the command line makes no sense.\n"
"\n"
"Examples:\n"
"  dmuctl snapshot --origin disk.img --store disk.cow --store-size 2G work\n"
"  mount /dev/mapper/work /mnt\n"
"  dmuctl status work\n"
"  umount /mnt && dmuctl detach work\n";

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "snapshot", cmd_snapshot },
	{ "grow", cmd_grow },
	{ "attach", cmd_attach },
	{ "detach", cmd_detach },
	{ "list", cmd_list },
	{ "status", cmd_status },
	{ "revive", cmd_revive },
};

static volatile sig_atomic_t was_interrupted;

static void on_signal(int sig)
{
	was_interrupted = sig;
}

/* Has somebody pressed Ctrl-C? What has been done is to be undone then. */
bool interrupted(void)
{
	return was_interrupted;
}

/* Say in one sentence why it failed. -1, for return complain(...). */
int complain(const char *fmt, ...)
{
	va_list args;

	fputs("dmuctl: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	return -1;
}

/* Say what is wrong with the command line. */
int usage(const char *fmt, ...)
{
	va_list args;

	fputs("dmuctl: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputs(" (try --help)\n", stderr);
	return EXIT_USAGE;
}

/*
 * A name must do as a mapped device's, and as a key in its table. Of the former
 * libdevmapper writes all but these letters in another way (\x7e), and the node
 * would have that name.
 */
int check_name(const char *name)
{
	static const char letters[] =
		"0123456789#+-.:=@_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	size_t len = strlen(name);

	if (!len || len > MAX_NAME)
		return complain("a name has 1 to %d characters", MAX_NAME);
	if (name[strspn(name, letters)] || *name == '-' || *name == '.')
		return complain("the name \"%s\" must be made of letters and digits of ASCII, and of #+-.:=@_, and not begin with - or .",
				name);
	return 0;
}

/* "4096", "64k", "2G": bytes, binary units. -1 and a sentence otherwise. */
int parse_size(const char *what, const char *word, uint64_t *bytes)
{
	static const char units[] = "kmgtp";
	unsigned long long n;
	const char *unit;
	char *end;
	int shift = 0;

	errno = 0;
	n = strtoull(word, &end, 10);
	if (end != word && *end) {
		unit = strchr(units, *end | 0x20);
		shift = unit ? 10 * (int)(unit - units + 1) : 0;
		end += unit ? 1 : 0;
	}
	if (errno || end == word || *end || *word == '-' || !n ||
	    n > UINT64_MAX >> shift)
		return complain("%s is a size such as 4096, 64k or 2G, not \"%s\"",
				what, word);
	*bytes = n << shift;
	return 0;
}

int main(int argc, char **argv)
{
	const struct sigaction action = { .sa_handler = on_signal };
	size_t i;

	if (argc < 2)
		return usage("which command?");
	if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help")) {
		fputs(help, stdout);
		return EXIT_OK;
	}
	if (!strcmp(argv[1], "-V") || !strcmp(argv[1], "--version")) {
		puts("dmuctl " DMU_VERSION);
		return EXIT_OK;
	}
	/* No SA_RESTART: whoever waits notices, and undoes. */
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	return usage("there is no command %s", argv[1]);
}
