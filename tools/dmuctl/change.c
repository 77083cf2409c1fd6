// SPDX-License-Identifier: GPL-2.0-only
/* detach and grow: what may happen to a device that is there. */
#include <getopt.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dmuctl.h"

/* --- detach ------------------------------------------------------------------------------ */

static const char detach_help[] =
"Usage: dmuctl detach NAME\n"
"\n"
"Takes /dev/mapper/NAME away, with its daemon and with loop devices that were\n"
"made for it. A snapshot's store keeps what was written: attach it again with\n"
"dmuctl snapshot.\n";

/* -1: go on with argv[optind]. */
static int parse_name(int argc, char **argv, const struct option *options,
		      const char *help, const char **size)
{
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'h') {
			fputs(help, stdout);
			return EXIT_OK;
		}
		if (c != 's')
			return EXIT_USAGE;
		*size = optarg;
	}
	if (optind != argc - 1)
		return usage("%s needs one NAME", argv[0]);
	return -1;
}

/*
 * Whoever looks at new devices, such as udev's blkid, has them open for a moment:
 * look again for about a second. Sets @m to the last look.
 */
static int wait_closed(const char *name, struct mapped *m)
{
	const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };
	int tries = 20;

	while (!mapped_find(name, m)) {
		if (m->open_count <= 0)
			return 0;
		if (!tries-- || interrupted())
			return complain("%s is in use (%d have it open): unmount it, or close what uses it, first",
					m->name, m->open_count);
		nanosleep(&pause, NULL);
	}
	return -1;
}

int cmd_detach(int argc, char **argv)
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	struct mapped m;
	int watch;
	int r = parse_name(argc, argv, options, detach_help, NULL);

	if (r >= 0)
		return r;
	if (wait_closed(argv[optind], &m))
		return EXIT_FAILED;
	/* The daemon ends by itself once its device is gone. */
	watch = daemon_watch(m.key);
	if (mapped_remove(m.name)) {
		if (watch >= 0)
			close(watch);
		return EXIT_FAILED;
	}
	return daemon_wait(watch, m.name) ? EXIT_FAILED : EXIT_OK;
}

/* --- grow ---------------------------------------------------------------------------------- */

static const char grow_help[] =
"Usage: dmuctl grow [--size SIZE] NAME\n"
"\n"
"Lets the snapshot NAME use a store that has been made larger. It need not be\n"
"detached, nor unmounted; writes that failed for lack of room succeed when they\n"
"are tried again.\n"
"\n"
"  --size SIZE  the store is a file: make it this large first\n";

static int tell_daemon(const struct mapped *m)
{
	struct json_object *answer = daemon_ask(m->key, "grow");
	struct json_object *ok, *error;
	int r = 0;

	if (!answer)
		return complain("the daemon of %s does not answer: if it has died, dmuctl revive starts a new one, which sees the new size by itself",
				m->name);
	if (!json_object_object_get_ex(answer, "ok", &ok) ||
	    !json_object_get_boolean(ok))
		r = complain("%s",
			     json_object_object_get_ex(answer, "error", &error) ?
			     json_object_get_string(error) :
			     "the daemon's answer makes no sense");
	json_object_put(answer);
	return r;
}

int cmd_grow(int argc, char **argv)
{
	static const struct option options[] = {
		{ "size", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	const char *size = NULL;
	uint64_t bytes = 0;
	struct mapped m;
	int r = parse_name(argc, argv, options, grow_help, &size);

	if (r >= 0)
		return r;
	if (size && parse_size("--size", size, &bytes))
		return EXIT_USAGE;
	if (mapped_find(argv[optind], &m))
		return EXIT_FAILED;
	if (strcmp(m.policy, "cow")) {
		complain("%s is no snapshot: its policy is %s", m.name,
			 m.policy);
		return EXIT_FAILED;
	}
	/* The store is the last device of a snapshot's table. */
	return backing_grow(m.devices[m.nr_devices - 1], m.name, bytes) ||
	       tell_daemon(&m) ? EXIT_FAILED : EXIT_OK;
}
