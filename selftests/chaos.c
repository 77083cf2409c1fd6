// SPDX-License-Identifier: GPL-2.0-only
/*
 * Four devices are in use for DMT_CHAOS_SECONDS, while chance kills their
 * daemons, suspends and resumes them, loads tables, makes the kernel forget, and
 * takes memory away. Nothing is lost, nothing is wrong, nothing hangs. What
 * chance does follows from a number, which is printed: DMT_SEED does it again.
 *
 *	ice	a snapshot that threads write to, which know what they read
 *	sand	a linear device, likewise
 *	moss	a snapshot with a file system, with a file that fio verifies
 *	clay	a linear device that fio verifies
 */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/fixture.h"
#include "lib/suspend.h"
#include "lib/sysfs.h"
#include "lib/traffic.h"
#include <ctype.h>
#include <dirent.h>
#include <err.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define NR_SECONDS	20u	/* or fewer, without DMT_CHAOS_SECONDS */
#define MEGABYTES	16u	/* of each device */
#define KNOWN		2u	/* of them hold something at first */
#define BEARABLE	8	/* s that a device may have to wait for its daemon, at most */
#define PERIODS		4	/* or more; at the end of each all is well for a while */
#define PERIODS_SHORT	2	/* where there is not even a second for each */
#define ACTIONS		6	/* in each, or more */
#define NR_INVAL	200u	/* blocks that are invalidated at once */
#define ALIVE		55	/* s within which it does something then */
#define MIN_FREE	"/proc/sys/vm/min_free_kbytes"

enum { ICE, SAND, MOSS, CLAY, NR_DEVICES };

/**
 * struct device - one of them
 * @name: of it, and its key
 * @blocks: how many it has
 * @alive: it has a daemon
 * @suspended: it is
 * @table: its table line
 * @sectors: of it
 * @dev: its number
 * @traffic: what is done to it; moss and clay have fio
 */
struct device {
	const char *name;
	uint32_t blocks;
	bool alive;
	bool suspended;
	char table[256];
	uint64_t sectors;
	dev_t dev;
	struct dmt_traffic traffic;
};

/**
 * struct chaos - all of it
 * @dir: where files are
 * @device: them
 * @extra: a disk that tables may have more
 * @fio: its process
 * @seed: of random numbers
 * @random: their state
 * @seconds: how long
 * @min_free: as it was
 * @actions: how many of each
 * @periods: after which all was well
 * @dropped: remaps of devices in use that were invalidated
 * @hurt: since when a device may have to wait
 */
struct chaos {
	char dir[32];
	struct device device[NR_DEVICES];
	struct dmt_disk extra;
	pid_t fio;
	uint64_t seed;
	uint64_t random;
	unsigned int seconds;
	unsigned int min_free;
	unsigned int actions[32];
	unsigned int periods;
	unsigned int dropped;
	time_t hurt;
};

static uint32_t below(struct chaos *c, uint32_t limit)
{
	return dmt_below(&c->random, limit);
}

static time_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* A command of a shell; 0 where it succeeds. */
static int __attribute__((format(printf, 1, 2))) sh(const char *fmt, ...)
{
	char command[1024];
	va_list ap;
	int r;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	r = system(command);
	if (r)
		warnx("%s: status %d", command, r);
	return r;
}

static void put(const char *path, unsigned int value)
{
	FILE *f = fopen(path, "we");

	if (!f || fprintf(f, "%u\n", value) < 0 || fclose(f))
		err(1, "writing %u to %s", value, path);
}

/* --- what is done to a device --------------------------------------------------------- */

static bool cmdline_ends(const char *pid, const char *name)
{
	char path[300], buf[4096];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%s/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, buf, sizeof(buf));
	close(fd);
	return n > (ssize_t)strlen(name) + 1 &&
	       !strcmp(buf + n - strlen(name) - 1, name) &&
	       memmem(buf, n, "dmud", 4);
}

/* The daemon of a device is called by its key. */
static pid_t daemon_of(const struct device *d)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	pid_t pid = 0;

	if (!dir)
		err(1, "/proc");
	while (!pid && (entry = readdir(dir)))
		if (isdigit((unsigned char)entry->d_name[0]) &&
		    cmdline_ends(entry->d_name, d->name))
			pid = atoi(entry->d_name);
	closedir(dir);
	return pid;
}

static bool do_kill(struct chaos *c, struct device *d)
{
	pid_t pid = daemon_of(d);

	(void)c;
	if (!d->alive)
		return true;
	if (!pid || kill(pid, SIGKILL))
		return false;
	while (dmt_attached(d->name))
		poll(NULL, 0, 1);
	d->alive = false;
	return true;
}

static bool do_revive(struct chaos *c, struct device *d)
{
	(void)c;
	if (!d->alive && sh("dmuctl revive %s", d->name))
		return false;
	d->alive = true;
	return true;
}

static bool do_resume(struct chaos *c, struct device *d)
{
	(void)c;
	if (d->suspended && dmt_dm_resume(d->name))
		return false;
	d->suspended = false;
	return true;
}

/* It waits for I/O, which may wait for a daemon that is yet to come. */
static bool do_suspend(struct chaos *c, struct device *d)
{
	struct dmt_call call;

	if (d->suspended)
		return true;
	dmt_call_begin(&call, NULL, d->name, DMT_SUSPEND);
	if (!do_revive(c, d) || dmt_call_result(&call))
		return false;
	d->suspended = true;
	return true;
}

static bool do_noflush(struct chaos *c, struct device *d)
{
	(void)c;
	if (!d->suspended && dmt_dm_suspend(d->name, true))
		return false;
	d->suspended = true;
	return true;
}

/* With and without a flush, as it comes. */
static bool load(struct chaos *c, struct device *d, const char *table)
{
	if (dmt_dm_load(d->name, 0, d->sectors, "userspace", table))
		return false;
	if (!d->suspended && !(d->alive && below(c, 2)) && !do_noflush(c, d))
		return false;
	d->suspended = false;
	return !dmt_dm_resume(d->name);
}

static bool do_reload(struct chaos *c, struct device *d)
{
	return load(c, d, d->table);
}

/* With a device more, and back again. */
static bool do_widen(struct chaos *c, struct device *d)
{
	char table[512];

	snprintf(table, sizeof(table), "%s %u:%u", d->table,
		 major(c->extra.dev), minor(c->extra.dev));
	return load(c, d, table) && load(c, d, d->table);
}

/* Invalidate as many blocks: false where the device does not take that. */
static bool invalidate(struct chaos *c, const struct device *d, int ctl)
{
	static struct dmt_batch batch;
	unsigned int i;

	batch.len = 0;
	for (i = 0; i < NR_INVAL; i++) {
		struct dmu_msg_invalidate_map map = {
			.org_block = below(c, d->blocks),
		};

		dmt_batch_add(&batch, DM_USERSPACE_MAP_INVALIDATE, i, &map,
			      sizeof(map));
	}
	return dmt_batch_write(ctl, &batch) == (ssize_t)batch.len;
}

/*
 * Read all verdicts: none comes before the I/O that was under way has ended, and all
 * do while the device is in use. There may be requests among them; they are the
 * daemon's again as soon as this is closed.
 */
static bool verdicts_come(struct chaos *c, int ctl)
{
	unsigned int nr = 0;
	struct dmt_msg msg;
	ssize_t n;

	while (nr < NR_INVAL) {
		if (!dmt_readable(ctl, ALIVE * 1000)) {
			warnx("%u of %u verdicts have come", nr, NR_INVAL);
			return false;
		}
		n = dmt_read_msg(ctl, &msg);
		if (!n)
			return false;
		if (n < 0 || msg.header.msg_type != DM_USERSPACE_STATUS)
			continue;
		nr++;
		c->dropped += msg.status.status == DM_USERSPACE_INVAL_COMPLETE;
	}
	return true;
}

/*
 * By way of a second daemon that says nothing else. The policy of linear devices says
 * the same again, so that it is done to all that is in use. The policy of snapshots
 * believes that nobody else does this to what it has not written down yet: there
 * it is done while nothing is under way.
 */
static bool do_invalidate(struct chaos *c, struct device *d)
{
	bool linear = d == &c->device[SAND] || d == &c->device[CLAY];
	bool suspended = d->suspended, ok;
	int ctl;

	if (!linear && !(do_revive(c, d) && do_resume(c, d) && do_suspend(c, d)))
		return false;
	ctl = dmt_control_open(d->name, O_NONBLOCK);
	ok = invalidate(c, d, ctl) &&
	     /* Else some have come by now, and some never will. */
	     (!linear || suspended || !d->alive || verdicts_come(c, ctl));
	close(ctl);
	return ok && (linear || suspended || do_resume(c, d));
}

static bool do_forget(struct chaos *c, struct device *d)
{
	(void)c;
	return !dmt_dm_message(d->name, "drop_idle");
}

/* Hardly any remaps, or as many as it likes. */
static bool do_limit(struct chaos *c, struct device *d)
{
	char message[32];

	snprintf(message, sizeof(message), "max_remaps %u",
		 below(c, 2) ? below(c, 100) : 0);
	return !dmt_dm_message(d->name, message);
}

static bool do_look(struct chaos *c, struct device *d)
{
	char line[512];
	unsigned int i;

	(void)c;
	for (i = 0; i < 50; i++) {
		dmt_dm_table(d->name, line, sizeof(line));
		if (!strstr(line, d->name) || dmt_counter(d->name, DMT_ERRORS))
			return false;
	}
	return true;
}

/* --- what is done to all ---------------------------------------------------------------- */

static bool do_drop_caches(struct chaos *c, struct device *d)
{
	(void)d;
	put("/proc/sys/vm/drop_caches", 1 + below(c, 3));
	return true;
}

static unsigned int free_memory(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned int kb = 0;
	char line[128];

	if (!f)
		err(1, "/proc/meminfo");
	while (fgets(line, sizeof(line), f) &&
	       sscanf(line, "MemFree: %u", &kb) != 1)
		;
	fclose(f);
	return kb;
}

/* The kernel is to keep more memory free than it has: it takes what it can. */
static bool do_squeeze(struct chaos *c, struct device *d)
{
	(void)c;
	(void)d;
	put(MIN_FREE, free_memory() / 10 * 8);
	return true;
}

static bool do_throttle(struct chaos *c, struct device *d)
{
	(void)d;
	dmt_param_set("max_copies", below(c, 64));
	return true;
}

static const struct {
	const char *name;
	unsigned int weight;
	bool (*act)(struct chaos *c, struct device *d);
} actions[] = {
	{ "kill", 16, do_kill },
	{ "revive", 10, do_revive },
	{ "suspend", 6, do_suspend },
	{ "noflush", 12, do_noflush },
	{ "resume", 12, do_resume },
	{ "reload", 8, do_reload },
	{ "widen", 5, do_widen },
	{ "invalidate", 10, do_invalidate },
	{ "forget", 5, do_forget },
	{ "limit", 4, do_limit },
	{ "look", 4, do_look },
	{ "drop caches", 3, do_drop_caches },
	{ "squeeze", 3, do_squeeze },
	{ "throttle", 2, do_throttle },
};

#define NR_ACTIONS (sizeof(actions) / sizeof(*actions))

/* --- what runs meanwhile ----------------------------------------------------------------- */

static uint64_t ios_of(const struct device *d)
{
	struct dmt_stat s = dmt_stat(d->dev);

	return s.reads + s.writes;
}

/* Wait until the device has done some more I/O: it does while it can. */
static bool progress(const struct device *d, uint64_t more)
{
	uint64_t until = ios_of(d) + more;
	time_t begun = now();

	while (ios_of(d) < until) {
		if (atomic_load(&d->traffic.wrong))
			return false;
		if (now() - begun > ALIVE) {
			warnx("%s does nothing any more", d->name);
			return false;
		}
		poll(NULL, 0, 1);
	}
	return true;
}

/*
 * Everything is as it should be again, and goes on; also where the kernel is made to
 * forget what is in use.
 */
static bool calm(struct chaos *c)
{
	unsigned int i;

	put(MIN_FREE, c->min_free);
	for (i = 0; i < NR_DEVICES; i++)
		if (!do_resume(c, &c->device[i]) ||
		    !do_revive(c, &c->device[i]) ||
		    dmt_dm_message(c->device[i].name, "max_remaps 0"))
			return false;
	c->periods++;
	/* The others have pauses, in which fio thinks. */
	return progress(&c->device[ICE], 10) &&
	       progress(&c->device[SAND], 30) &&
	       do_invalidate(c, &c->device[SAND]) &&
	       do_invalidate(c, &c->device[CLAY]);
}

static bool act(struct chaos *c)
{
	struct device *d = &c->device[below(c, NR_DEVICES)];
	uint32_t chance = below(c, 100);
	unsigned int i;

	for (i = 0; chance >= actions[i].weight; i++)
		chance -= actions[i].weight;
	c->actions[i]++;
	if (!actions[i].act(c, d)) {
		warnx("%s %s failed", actions[i].name, d->name);
		return false;
	}
	/* What comes next meets a device at work. */
	if (d->alive && !d->suspended && d < &c->device[MOSS])
		return progress(d, below(c, 10));
	return true;
}

static bool rage(struct chaos *c)
{
	time_t end = now() + c->seconds, next;
	time_t period = c->seconds / PERIODS;
	unsigned int nr, least = period ? PERIODS : PERIODS_SHORT;

	if (period > BEARABLE)
		period = BEARABLE;
	while (now() < end || c->periods < least) {
		next = now() + period;
		for (nr = 0; now() < next || nr < ACTIONS; nr++)
			if (!act(c))
				return false;
		if (!calm(c))
			return false;
	}
	return true;
}

/* --- before and after --------------------------------------------------------------------- */

FIXTURE(chaos)
{
	struct chaos *c;
};

static void make_device(struct chaos *c, struct device *d, const char *command,
			uint32_t block)
{
	if (sh("cd %s && dmuctl %s %s > /dev/null", c->dir, command, d->name))
		errx(1, "cannot make %s", d->name);
	d->alive = true;
	d->blocks = MEGABYTES * 1024 * 1024 / block;
	d->sectors = MEGABYTES * 2048;
	d->dev = dmt_dm_dev(d->name);
	dmt_dm_table(d->name, d->table, sizeof(d->table));
}

static void make_images(struct chaos *c)
{
	const char *const names[] = { "ice.img", "sand.img" };
	char path[64];
	unsigned int i;
	int fd;

	if (sh("cd %s && truncate -s %uM ice.img sand.img moss.img clay.img && mkfs.ext4 -q -F moss.img && mkdir mnt",
	       c->dir, MEGABYTES))
		errx(1, "cannot make images");
	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", c->dir, names[i]);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			err(1, "%s", path);
		dmt_units_fill(fd, 0, 0, KNOWN * 1024 * 1024 / DMT_UNIT, 1);
		close(fd);
	}
	if (sh("cd %s && sha256sum ice.img moss.img > sums", c->dir))
		errx(1, "cannot read images");
}

static void start_traffic(struct chaos *c, struct device *d)
{
	int fd = dmt_dm_open(d->name, O_RDWR | O_DIRECT);

	if (fd < 0)
		err(1, "%s", d->name);
	dmt_traffic_make(&d->traffic, fd, MEGABYTES * 1024 * 1024 / DMT_UNIT);
	dmt_traffic_holds(&d->traffic, 0, KNOWN * 1024 * 1024 / DMT_UNIT, 1);
	d->traffic.writers = 4;
	d->traffic.readers = 3;
	d->traffic.seed = c->seed + (uint64_t)(d - c->device) * 99;
	dmt_traffic_start(&d->traffic);
}

static void start_fio(struct chaos *c)
{
	char seconds[16];

	snprintf(seconds, sizeof(seconds), "%u", c->seconds);
	if (sh("mount /dev/mapper/moss %s/mnt", c->dir))
		errx(1, "cannot mount");
	c->fio = fork();
	if (c->fio)
		return;
	if (chdir(c->dir))
		err(1, "%s", c->dir);
	execlp("sh", "sh", "-c",
	       "exec fio --rw=randwrite --bsrange=4k-64k --verify=crc32c --verify_backlog=16 --verify_fatal=1 --verify_dump=0 --fsync=16 --time_based --runtime=$0 --output=fio.log --name=moss --filename=mnt/file --size=2M --name=clay --filename=/dev/mapper/clay --size=4M --direct=1 --ioengine=libaio --iodepth=8",
	       seconds, NULL);
	err(1, "fio");
}

FIXTURE_SETUP(chaos)
{
	struct chaos *c = calloc(1, sizeof(*c));
	FILE *f = fopen(MIN_FREE, "re");

	if (!c || !f || fscanf(f, "%u", &c->min_free) != 1)
		err(1, MIN_FREE);
	fclose(f);
	self->c = c;
	c->seed = dmt_seed();
	c->random = c->seed;
	c->seconds = (unsigned int)dmt_number("DMT_CHAOS_SECONDS",
					      dmt_often(NR_SECONDS));
	ksft_print_msg("%u seconds\n", c->seconds);
	/* Says nothing more about it in the log. */
	put("/proc/sys/vm/drop_caches", 4);
	strcpy(c->dir, "/tmp/dmt.XXXXXX");
	if (!mkdtemp(c->dir))
		err(1, "%s", c->dir);
	c->device[ICE].name = "ice";
	c->device[SAND].name = "sand";
	c->device[MOSS].name = "moss";
	c->device[CLAY].name = "clay";
	make_images(c);
	dmt_disk_open(&c->extra, MEGABYTES * 1024 * 1024, 0);
	make_device(c, &c->device[ICE],
		    "snapshot --origin ice.img --store ice.cow --store-size 64M --block-size 4k",
		    4096);
	make_device(c, &c->device[SAND],
		    "attach --policy linear --device sand.img --block-size 4k",
		    4096);
	make_device(c, &c->device[MOSS],
		    "snapshot --origin moss.img --store moss.cow --store-size 64M --block-size 16k",
		    16384);
	make_device(c, &c->device[CLAY],
		    "attach --policy linear --device clay.img --block-size 4k",
		    4096);
	start_fio(c);
	start_traffic(c, &c->device[ICE]);
	start_traffic(c, &c->device[SAND]);
}

FIXTURE_TEARDOWN(chaos)
{
	struct chaos *c = self->c;

	put(MIN_FREE, c->min_free);
	dmt_disk_close(&c->extra);
	sh("rm -rf %s", c->dir);
}

static void tell(const struct chaos *c)
{
	unsigned int i;

	for (i = 0; i < NR_ACTIONS; i++)
		ksft_print_msg("%4u times %s\n", c->actions[i],
			       actions[i].name);
	ksft_print_msg("%u periods; %u remaps in use invalidated\n", c->periods,
		       c->dropped);
	for (i = 0; i < NR_DEVICES; i++)
		ksft_print_msg("%s: %" PRIu64 " I/Os, %" PRIu64 " verified\n",
			       c->device[i].name, ios_of(&c->device[i]),
			       c->device[i].traffic.ios);
}

/* All I/O ends, and all that was written can be read. */
static bool traffic_ends(struct device *d)
{
	time_t begun = now();
	bool ok;

	dmt_traffic_stop(&d->traffic);
	while (atomic_load(&d->traffic.running)) {
		if (now() - begun > ALIVE) {
			warnx("I/O to %s does not end", d->name);
			return false;
		}
		poll(NULL, 0, 10);
	}
	dmt_traffic_join(&d->traffic);
	ok = !d->traffic.wrong && dmt_traffic_read(&d->traffic);
	close(d->traffic.fd);
	dmt_traffic_free(&d->traffic);
	return ok;
}

TEST_F_TIMEOUT(chaos, nothing_is_lost_or_wrong_or_hangs, 600)
{
	struct chaos *c = self->c;
	unsigned int i;
	int status;
	bool ok;

	ok = rage(c);
	if (!ok)
		calm(c);
	tell(c);
	EXPECT_TRUE(ok);
	EXPECT_LT(0, c->dropped);
	for (i = 0; i < NR_DEVICES; i++)
		EXPECT_EQ(0, dmt_counter(c->device[i].name, DMT_ERRORS));
	EXPECT_TRUE(traffic_ends(&c->device[ICE]));
	EXPECT_TRUE(traffic_ends(&c->device[SAND]));
	EXPECT_EQ(c->fio, waitpid(c->fio, &status, 0));
	EXPECT_EQ(0, status);
	if (status)
		sh("cat %s/fio.log", c->dir);
	EXPECT_EQ(0, sh("umount %s/mnt && fsck.ext4 -fn /dev/mapper/moss > %s/fsck 2>&1 || { cat %s/fsck; false; }",
			c->dir, c->dir, c->dir));
	for (i = 0; i < NR_DEVICES; i++)
		EXPECT_EQ(0, sh("dmuctl detach %s", c->device[i].name));
	EXPECT_EQ(0, sh("cd %s && sha256sum --check --quiet sums", c->dir));
	EXPECT_TRUE(dmt_keys_are_gone());
}

int main(int argc, char **argv)
{
	/* A period lasts until all has done something again, which may take long. */
	dmt_extend_limits(1, 4 * dmt_number("DMT_CHAOS_SECONDS", 0));
	return test_harness_run(argc, argv);
}
