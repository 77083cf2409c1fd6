// SPDX-License-Identifier: GPL-2.0-only
/*
 * Making a device: a transaction. The order matters: a device that were resumed
 * before its daemon is there would be scanned by whatever looks at new devices,
 * which would then wait for the daemon that we have not started yet.
 */
#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attach.h"
#include "dmuctl.h"
#include "format.h"

static bool is_store(const char *policy, unsigned int n)
{
	return !strcmp(policy, "cow") && n == 1;
}

/*
 * A store has one user, be its daemon alive or not: the kernel goes on using the
 * places that a dead one has given. Other devices may be shared, as disks that
 * several linear devices lie on, and origins are.
 */
static int check_device(const struct mapped *m, const struct attachment *a,
			unsigned int n)
{
	const char *path = a->devices[n].path;

	if (!mapped_uses(m, a->devices[n].dev))
		return 0;
	if (is_store(m->policy, 1) && m->devices[1] == a->devices[n].dev)
		return complain("%s is the store of %s already: go on with that (\"dmuctl revive %s\", if its daemon has died), or detach it first",
				path, m->name, m->name);
	if (is_store(a->policy, n))
		return complain("%s is in use already, by %s: a store is nobody else's",
				path, m->name);
	return 0;
}

static int check_other(const struct mapped *m, void *ctx)
{
	const struct attachment *a = ctx;
	unsigned int i;
	int r = 0;

	/* Both would have one daemon, and share what it says of their blocks. */
	if (!strcmp(m->key, a->name) && strcmp(m->name, a->name))
		return complain("the key %s is in use already, by the device %s: choose another name",
				a->name, m->name);
	for (i = 0; i < a->nr_devices && !r; i++)
		r = check_device(m, a, i);
	return r;
}

/**
 * attach() - make a device, with its daemon
 * @a: what it is to be
 *
 * Return: EXIT_OK, or EXIT_FAILED after a sentence, all undone.
 */
int attach(const struct attachment *a)
{
	if (mapped_each(check_other, (void *)a) ||
	    mapped_create(a->name, a->policy))
		return EXIT_FAILED;
	if (!mapped_load(a->name, a->sectors, a->block_size, a->devices,
			 a->nr_devices) &&
	    !daemon_start(a->name, a->policy, a->opts) &&
	    !mapped_resume(a->name)) {
		puts(mapped_path(a->name));
		return EXIT_OK;
	}
	/* Takes the daemon with it, and loop devices made for this. */
	mapped_remove(a->name);
	return EXIT_FAILED;
}

/* --- snapshot ------------------------------------------------------------------------ */

static const char snapshot_help[] =
"Usage: dmuctl snapshot --origin DEV|FILE --store DEV|FILE [OPTION]... NAME\n"
"\n"
"Makes /dev/mapper/NAME, a writable snapshot: it begins as the origin, which is\n"
"never written to; what is written goes to the store. Attached again with the\n"
"same store, it has all that was written before.\n"
"\n"
"  --origin DEV|FILE  what it is a snapshot of; must not change meanwhile\n"
"  --store DEV|FILE   where changes are kept\n"
"  --store-size SIZE  make a store file that is not there, with this size\n"
"                     (it takes up room only as it fills)\n"
"  --block-size SIZE  what is copied at the first write to it; a power of two\n"
"                     from 512 to 1g [64k, or that of an existing store]\n"
"  --force            use a store that holds something else; that is lost\n"
"  --accept-origin    the store goes with this origin from now on, though its\n"
"                     contents are not those that the store was made for\n"
"\n"
"Files are used through loop devices, which vanish by themselves; with direct\n"
"I/O where that works. A full store fails writes that need room, and nothing\n"
"else; make it larger with dmuctl grow.\n"
"\n"
"Examples:\n"
"  dmuctl snapshot --origin disk.img --store disk.cow --store-size 2G work\n"
"  dmuctl snapshot --origin /dev/vg/root --store /dev/vg/cow root-test\n";

#define DEFAULT_BLOCK_SIZE 65536u

struct snapshot_args {
	const char *origin;
	const char *store;
	const char *name;
	uint64_t store_size;
	uint64_t block_size;
	bool force;
	bool accept_origin;
};

static const struct option snapshot_options[] = {
	{ "origin", required_argument, NULL, 'o' },
	{ "store", required_argument, NULL, 's' },
	{ "store-size", required_argument, NULL, 'z' },
	{ "block-size", required_argument, NULL, 'b' },
	{ "force", no_argument, NULL, 'f' },
	{ "accept-origin", no_argument, NULL, 'a' },
	{ "help", no_argument, NULL, 'h' },
	{ }
};

static int check_block_size(uint64_t bytes)
{
	if (bytes >= COW_MIN_BLOCK_SIZE && bytes <= COW_MAX_BLOCK_SIZE &&
	    !(bytes & (bytes - 1)))
		return 0;
	return complain("the block size must be a power of two from %u to 1g",
			COW_MIN_BLOCK_SIZE);
}

/* -1 where there is more to do, else the exit code. */
static int parse_snapshot_option(int c, struct snapshot_args *args)
{
	switch (c) {
	case 'o':
		args->origin = optarg;
		return -1;
	case 's':
		args->store = optarg;
		return -1;
	case 'z':
		return parse_size("--store-size", optarg, &args->store_size) ?
		       EXIT_USAGE : -1;
	case 'b':
		return parse_size("--block-size", optarg, &args->block_size) ||
		       check_block_size(args->block_size) ? EXIT_USAGE : -1;
	case 'f':
		args->force = true;
		return -1;
	case 'a':
		args->accept_origin = true;
		return -1;
	case 'h':
		fputs(snapshot_help, stdout);
		return EXIT_OK;
	default:
		return EXIT_USAGE;
	}
}

static int parse_snapshot(int argc, char **argv, struct snapshot_args *args)
{
	int c, r;

	while ((c = getopt_long(argc, argv, "h", snapshot_options, NULL)) != -1) {
		r = parse_snapshot_option(c, args);
		if (r >= 0)
			return r;
	}
	if (!args->origin || !args->store)
		return usage("snapshot needs --origin and --store");
	if (optind != argc - 1)
		return usage("snapshot needs one NAME");
	args->name = argv[optind];
	return check_name(args->name) ? EXIT_USAGE : -1;
}

/*
 * The policy looks, too, and at the size. It cannot say what the option is called
 * here. What cannot be read is its trouble.
 */
static int check_origin(const struct snapshot_args *args,
			const struct backing *origin,
			const struct backing *store,
			const struct cow_super *super)
{
	uint64_t sectors = origin->bytes / 512, mark = 0;
	int fd;

	if (args->accept_origin || super->geo.origin_sectors != sectors)
		return 0;
	fd = backing_open_direct(origin->fd);
	if (fd < 0)
		return 0;
	cow_origin_mark(fd, sectors, &mark);
	close(fd);
	if (!cow_origin_differs(super->geo.origin_mark, mark))
		return 0;
	return complain("the store %s was made for an origin with other contents: %s is another one, or was written to since, and what is not in the store would come from it (--accept-origin allows that)",
			store->path, origin->path);
}

/* Will the store do? The block size that it has, or is to get. */
static int choose_block_size(const struct snapshot_args *args,
			     const struct backing *devices, uint32_t *block_size)
{
	const struct backing *store = &devices[1];
	char why[COW_ERROR_SIZE];
	struct cow_super super;
	int what = cow_store_probe(store->fd, &super, why);

	*block_size = args->block_size ? (uint32_t)args->block_size :
		      DEFAULT_BLOCK_SIZE;
	if (what < 0 || what == COW_UNUSABLE)
		return complain("the store %s %s", store->path, why);
	if (what == COW_FOREIGN && !args->force)
		return complain("the store %s %s; --force would overwrite it",
				store->path, why);
	if (what != COW_STORE)
		return 0;
	if (args->block_size && args->block_size != super.geo.block_size)
		return complain("the store %s has blocks of %u bytes, not %u: leave out --block-size",
				store->path, super.geo.block_size, *block_size);
	*block_size = super.geo.block_size;
	return check_origin(args, &devices[0], store, &super);
}

static int attach_snapshot(const struct snapshot_args *args,
			   const struct backing *devices)
{
	char *opts[3] = {};
	struct attachment a = {
		.name = args->name,
		.policy = "cow",
		.opts = opts,
		.sectors = devices[0].bytes / 512,
		.devices = devices,
		.nr_devices = 2,
	};

	int n = 0;

	if (args->force)
		opts[n++] = "format=yes";
	if (args->accept_origin)
		opts[n] = "origin=accept";
	if (devices[0].dev == devices[1].dev) {
		complain("origin and store are the same device");
		return EXIT_FAILED;
	}
	if (choose_block_size(args, devices, &a.block_size))
		return EXIT_FAILED;
	return attach(&a);
}

/* What is easier to say before anything is opened. */
static int check_store(const struct snapshot_args *args)
{
	struct stat origin, store;

	if (stat(args->store, &store))
		return errno == ENOENT && !args->store_size ?
		       complain("there is no store %s: --store-size SIZE would make it",
				args->store) : 0;
	if (!stat(args->origin, &origin) && origin.st_dev == store.st_dev &&
	    origin.st_ino == store.st_ino)
		return complain("origin and store are the same, %s", args->store);
	return 0;
}

int cmd_snapshot(int argc, char **argv)
{
	struct snapshot_args args = {};
	struct backing devices[2];
	int r = parse_snapshot(argc, argv, &args);

	if (r >= 0)
		return r;
	if (module_load())
		return EXIT_FAILED;
	/* Before a loop device is made, or a store. */
	if (mapped_exists(args.name)) {
		complain("there is a mapped device %s already", args.name);
		return EXIT_FAILED;
	}
	if (check_store(&args) || backing_open(&devices[0], args.origin, true, 0))
		return EXIT_FAILED;
	r = EXIT_FAILED;
	if (!backing_open(&devices[1], args.store, false, args.store_size)) {
		r = attach_snapshot(&args, devices);
		if (r)
			backing_undo(&devices[1]);
		else
			backing_close(&devices[1]);
	}
	backing_close(&devices[0]);
	return r;
}

/* --- attach --------------------------------------------------------------------------- */

static const char attach_help[] =
"Usage: dmuctl attach --policy NAME --device DEV|FILE... [OPTION]... NAME\n"
"\n"
"Makes /dev/mapper/NAME with a policy of dmud (dmud --list-policies).\n"
"\n"
"  --policy POLICY    what decides where blocks live\n"
"  --device DEV|FILE  a device for the policy, in the order that it wants\n"
"  --block-size SIZE  a power of two from 512 to 1g [64k]\n"
"  --size SIZE        how large it is to be, a multiple of 512 [as large as the\n"
"                     first device, of which an offset leaves less]\n"
"  -o NAME=VALUE      an option of the policy\n"
"\n"
"Example: 10 GiB of a disk, from its second MiB on\n"
"  dmuctl attach --policy linear --device /dev/sdb --size 10g -o offset=2048 vol1\n";

struct attach_args {
	const char *policy;
	const char *name;
	const char *paths[MAX_DEVICES];
	char *opts[MAX_DEVICES + 1];
	unsigned int nr_paths;
	unsigned int nr_opts;
	uint64_t block_size;
	uint64_t size;
};

static const struct option attach_options[] = {
	{ "policy", required_argument, NULL, 'p' },
	{ "device", required_argument, NULL, 'd' },
	{ "block-size", required_argument, NULL, 'b' },
	{ "size", required_argument, NULL, 'z' },
	{ "option", required_argument, NULL, 'o' },
	{ "help", no_argument, NULL, 'h' },
	{ }
};

static int parse_device_size(const char *word, uint64_t *bytes)
{
	if (parse_size("--size", word, bytes))
		return -1;
	return *bytes % 512 ? complain("--size is a multiple of 512 bytes, not %s",
				       word) : 0;
}

/* -1 where there is more to do, else the exit code. */
static int parse_attach_option(int c, struct attach_args *args)
{
	switch (c) {
	case 'p':
		args->policy = optarg;
		return -1;
	case 'd':
		if (args->nr_paths == MAX_DEVICES)
			return usage("at most %d devices", MAX_DEVICES);
		args->paths[args->nr_paths++] = optarg;
		return -1;
	case 'b':
		return parse_size("--block-size", optarg, &args->block_size) ||
		       check_block_size(args->block_size) ? EXIT_USAGE : -1;
	case 'z':
		return parse_device_size(optarg, &args->size) ? EXIT_USAGE : -1;
	case 'o':
		if (args->nr_opts == MAX_DEVICES)
			return usage("at most %d options", MAX_DEVICES);
		if (!strchr(optarg, '=') || *optarg == '=')
			return usage("-o takes NAME=VALUE, not %s", optarg);
		args->opts[args->nr_opts++] = optarg;
		return -1;
	case 'h':
		fputs(attach_help, stdout);
		return EXIT_OK;
	default:
		return EXIT_USAGE;
	}
}

static int parse_attach(int argc, char **argv, struct attach_args *args)
{
	int c, r;

	while ((c = getopt_long(argc, argv, "ho:", attach_options, NULL)) != -1) {
		r = parse_attach_option(c, args);
		if (r >= 0)
			return r;
	}
	if (!args->policy || !*args->policy || !args->nr_paths)
		return usage("attach needs --policy and --device");
	if (optind != argc - 1)
		return usage("attach needs one NAME");
	args->name = argv[optind];
	return check_name(args->name) ? EXIT_USAGE : -1;
}

int cmd_attach(int argc, char **argv)
{
	struct attach_args args = { .block_size = DEFAULT_BLOCK_SIZE };
	struct backing devices[MAX_DEVICES];
	struct attachment a = { .devices = devices };
	int r = parse_attach(argc, argv, &args);

	if (r >= 0)
		return r;
	if (module_load())
		return EXIT_FAILED;
	r = EXIT_FAILED;
	while (a.nr_devices < args.nr_paths &&
	       !backing_open(&devices[a.nr_devices],
			     args.paths[a.nr_devices], false, 0))
		a.nr_devices++;
	if (a.nr_devices == args.nr_paths) {
		a.name = args.name;
		a.policy = args.policy;
		a.opts = args.opts;
		a.sectors = (args.size ? args.size : devices[0].bytes) / 512;
		a.block_size = (uint32_t)args.block_size;
		r = attach(&a);
	}
	while (a.nr_devices--)
		backing_close(&devices[a.nr_devices]);
	return r;
}

/* --- revive ---------------------------------------------------------------------------- */

static const char revive_help[] =
"Usage: dmuctl revive [-o NAME=VALUE]... NAME\n"
"\n"
"Starts a new daemon for /dev/mapper/NAME, whose daemon has died. I/O that has\n"
"waited since goes on; nothing was lost. Options that the policy was given when\n"
"the device was made must be given again. The store of a device that was in use\n"
"is never formatted.\n";

static const struct option revive_options[] = {
	{ "option", required_argument, NULL, 'o' },
	{ "help", no_argument, NULL, 'h' },
	{ }
};

/*
 * A store that was in use was formatted before. One that reads as blank by now has
 * lost what is in use; to format it would have it lost for ever. And an origin that
 * has changed under it is no reason to have its I/O wait: it is in the table already.
 */
static int start_again(const struct mapped *m, const struct attach_args *args)
{
	bool in_use = m->begun && !strcmp(m->policy, "cow");
	char *opts[MAX_DEVICES + 3] = {};
	unsigned int n = 0, i;

	if (in_use)
		opts[n++] = "origin=ignore";
	for (i = 0; i < args->nr_opts; i++)
		opts[n++] = args->opts[i];
	if (in_use)
		opts[n++] = "format=no";
	return daemon_start(m->key, m->policy, opts);
}

int cmd_revive(int argc, char **argv)
{
	struct attach_args args = {};
	struct mapped m;
	int c, r;

	while ((c = getopt_long(argc, argv, "ho:", revive_options, NULL)) != -1) {
		if (c == 'h') {
			fputs(revive_help, stdout);
			return EXIT_OK;
		}
		r = parse_attach_option(c, &args);
		if (r >= 0)
			return r;
	}
	if (optind != argc - 1)
		return usage("revive needs one NAME");
	if (mapped_find(argv[optind], &m))
		return EXIT_FAILED;
	if (!strcmp(m.policy, "?")) {
		complain("%s was not made by dmuctl: start its daemon by hand",
			 m.name);
		return EXIT_FAILED;
	}
	if (start_again(&m, &args))
		return EXIT_FAILED;
	if (!m.begun && mapped_resume(m.name)) {
		/* As it was found. */
		json_object_put(daemon_ask(m.key, "quit"));
		return EXIT_FAILED;
	}
	/* Somebody has suspended it, and knows until when. */
	if (m.begun && m.suspended)
		complain("%s is suspended: its I/O goes on after \"dmsetup resume %s\"",
			 m.name, m.name);
	return EXIT_OK;
}
