// SPDX-License-Identifier: GPL-2.0-only
/*
 * The end of a device, of its daemons, of those who sleep in their calls, and of
 * the module, in every order. A small model says what each step must give.
 *
 * There are two daemons. The first one has read a request and does not answer;
 * what the second one is asked for, and told, depends on what came before.
 */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/fixture.h"
#include <err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAME "order" /* of the device, and the key */

enum step {
	KILL,	/* the first daemon dies */
	GONE,	/* the device gets another table, which the key ends with */
	LATE,	/* the second daemon answers what the first one has read */
	HALF,	/* it writes a mapping and a half */
	READ,	/* a thread of it reads */
	POLL,	/* a thread of it polls */
	CLOSE,	/* it closes the file, under those that sleep */
	REOPEN,	/* one opens the control device anew */
	RMMOD,	/* one tries to remove the module */
	NR_STEPS
};

static const char * const step_names[] = {
	"kill", "gone", "late", "half", "read", "poll", "close", "reopen",
	"rmmod",
};

enum { NAP = 1, OVER };

/**
 * struct order - a device at the end of its life, and what is known of it
 * @disk: below the device
 * @fd: the device
 * @node: of the control device
 * @first: the first daemon's file, or -1
 * @second: the second one's, or -1
 * @io: a read that waits
 * @id: of its request
 * @reader: a thread of the second daemon
 * @poller: likewise
 * @live: the key has a table
 * @loaded: the module is there
 * @asked: the request is outstanding
 * @unread: and nobody has read it
 * @reading: the reader sleeps (NAP), or has ended
 * @polling: the poller likewise
 * @gets_request: what the reader reads, else the end of the file
 * @may_wake: there was something to read while the poller slept, but a reader
 *	may have been quicker
 * @polls: what the poller gets, if its file is still open
 * @pushed: a mapping came with a half one
 * @answered: the request was answered
 */
struct order {
	const struct dmt_disk *disk;
	int fd;
	char node[64];
	int first;
	int second;
	struct dmt_io *io;
	uint32_t id;
	struct dmt_sleeper reader;
	struct dmt_sleeper poller;
	bool live;
	bool loaded;
	bool asked;
	bool unread;
	int reading;
	int polling;
	bool gets_request;
	bool may_wake;
	short polls;
	bool pushed;
	bool answered;
};

static bool is(const char *what, long got, long want)
{
	if (got != want)
		warnx("%s: %ld, not %ld", what, got, want);
	return got == want;
}

/* --- what each step does to the model, and must give ------------------------------- */

/* Somebody holds the second daemon's file. */
static bool second_held(const struct order *o)
{
	return o->second >= 0 || o->reading == NAP || o->polling == NAP;
}

static bool reader_ends(struct order *o)
{
	ssize_t n = dmt_sleeper_wait(&o->reader);

	o->reading = OVER;
	if (!o->gets_request)
		return is("read at the end", n, 0);
	return is("read of the request", n, sizeof(struct dmu_msg_header) +
		  sizeof(struct dmu_msg_map_request)) &&
	       is("id of the request", o->reader.msg.header.id, o->id);
}

static bool poller_ends(struct order *o)
{
	ssize_t n = dmt_sleeper_wait(&o->poller);

	o->polling = OVER;
	return (o->may_wake && n == POLLIN) ||
	       is("poll", n, o->second < 0 ? POLLNVAL : o->polls);
}

/* The request is to be read again: who sleeps is told, or who comes. */
static bool becomes_unread(struct order *o)
{
	if (!o->live || !o->asked)
		return true;
	o->unread = true;
	if (o->reading == NAP) {
		o->may_wake = o->polling == NAP;
		o->unread = false;
		o->gets_request = true;
		return reader_ends(o);
	}
	if (o->polling == NAP) {
		o->polls = POLLIN;
		return poller_ends(o);
	}
	return true;
}

/* The last who held the second daemon's file lets it go. */
static bool second_let_go(struct order *o)
{
	return second_held(o) || !o->gets_request || becomes_unread(o);
}

static bool do_kill(struct order *o)
{
	bool unread = !o->gets_request && !o->unread;

	close(o->first);
	o->first = -1;
	return !unread || becomes_unread(o);
}

/* Give the device another table. What waits is handed back, and comes again. */
static bool become(const char *type, const char *params)
{
	return is("load", dmt_dm_load(NAME, 0, DMT_BLOCKS * DMT_SECTORS, type,
				      params), 0) &&
	       is("suspend", dmt_dm_suspend(NAME, true), 0) &&
	       is("resume", dmt_dm_resume(NAME), 0);
}

static bool do_gone(struct order *o)
{
	bool ok = become("error", "");

	o->live = false;
	o->polls = POLLIN | POLLHUP;
	if (o->reading == NAP)
		ok &= reader_ends(o);
	if (o->polling == NAP)
		ok &= poller_ends(o);
	if (!o->answered)
		ok &= is("read of a lost block", dmt_io_wait(o->io), -EIO);
	o->asked = false;
	o->unread = false;
	return ok;
}

static bool do_late(struct order *o)
{
	struct dmt_map map = { .to = 2, .dst = o->disk, .flags = RO };

	if (o->second < 0)
		return true;
	if (!o->live)
		return is("late answer", dmt_map(o->second, o->id, &map),
			  -ENODEV);
	o->asked = false;
	o->unread = false;
	o->answered = true;
	return is("answer", dmt_map(o->second, o->id, &map), 0) &&
	       is("read of a block", dmt_io_wait(o->io), 0);
}

static bool do_half(struct order *o)
{
	struct dmt_map map = { .block = 5, .to = 5, .dst = o->disk,
			       .flags = RO };
	struct dmt_batch *batch = calloc(1, sizeof(*batch));
	long whole;
	bool ok;

	if (!batch)
		errx(1, "no memory");
	dmt_batch_map(batch, 0, &map);
	whole = (long)batch->len;
	map.block = 6;
	dmt_batch_map(batch, 0, &map);
	batch->len -= 7;
	ok = o->second < 0 || is("batch", dmt_batch_write(o->second, batch),
				 o->live ? whole : -ENODEV);
	o->pushed = o->second >= 0 && o->live;
	free(batch);
	return ok;
}

static bool do_read(struct order *o)
{
	if (o->second < 0)
		return true;
	dmt_sleeper_read(&o->reader, o->second);
	o->reading = NAP;
	if (o->live && !o->unread)
		return is("sleeping reader", o->reader.over, false);
	o->gets_request = o->unread;
	o->unread = false;
	return reader_ends(o);
}

static bool do_poll(struct order *o)
{
	if (o->second < 0)
		return true;
	dmt_sleeper_poll(&o->poller, o->second, POLLIN);
	o->polling = NAP;
	if (o->live && !o->unread)
		return is("sleeping poller", o->poller.over, false);
	o->polls = o->live ? POLLIN : POLLIN | POLLHUP;
	return poller_ends(o);
}

static bool do_close(struct order *o)
{
	close(o->second);
	o->second = -1;
	return second_let_go(o);
}

static bool do_reopen(struct order *o)
{
	int fd = open(o->node, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return is("open", errno, o->live ? 0 : ENOENT);
	close(fd);
	return is("open of a dead device", o->live, true);
}

static bool do_rmmod(struct order *o)
{
	bool busy = o->live || o->first >= 0 || second_held(o);
	int r = dmt_module_remove();

	o->loaded = !!r;
	return is("rmmod", r, busy ? -EWOULDBLOCK : 0);
}

static bool (* const steps[NR_STEPS])(struct order *o) = {
	do_kill, do_gone, do_late, do_half, do_read, do_poll, do_close,
	do_reopen, do_rmmod,
};

/* --- one order ------------------------------------------------------------------------- */

static void order_begin(struct order *o, const struct dmt_disk *disk, int fd)
{
	char params[64];

	memset(o, 0, sizeof(*o));
	o->disk = disk;
	o->fd = fd;
	snprintf(params, sizeof(params), NAME " 4096 %u:%u", major(disk->dev),
		 minor(disk->dev));
	if (!become("userspace", params))
		errx(1, "cannot make the device");
	dmt_control_path(NAME, o->node, sizeof(o->node));
	o->first = dmt_control_open(NAME, O_NONBLOCK);
	o->second = dmt_control_open(NAME, 0);
	o->io = dmt_io_now(fd, DMT_READ, 0, DMT_BLOCK, 0);
	o->id = dmt_expect_request(o->first, 0, RO);
	if (!o->id)
		errx(1, "no request");
	o->live = true;
	o->loaded = true;
	o->asked = true;
}

/* Whatever has not ended yet does so now. */
static bool order_end(struct order *o)
{
	uint64_t remaps = (o->pushed ? 1 : 0) + (o->answered ? 1 : 0);
	bool ok = true;

	if (o->live)
		ok = is("remaps", (long)dmt_counter(NAME, DMT_REMAPS),
			(long)remaps) && do_gone(o);
	if (o->first >= 0)
		close(o->first);
	if (o->second >= 0)
		close(o->second);
	dmt_io_free(o->io);
	if (!o->loaded && dmt_module_insert())
		errx(1, "cannot insert the module");
	return ok;
}

static bool order_run(const struct dmt_disk *disk, int fd,
		      const enum step *order, unsigned int nr)
{
	unsigned int i, at = nr;
	struct order o;
	bool ok = true;

	order_begin(&o, disk, fd);
	for (i = 0; ok && i < nr; i++) {
		at = i;
		ok = steps[order[i]](&o);
	}
	if (ok) {
		ok = order_end(&o);
		at = nr;
	}
	if (ok)
		return true;
	for (i = 0; i < nr; i++)
		warnx("%s%s", step_names[order[i]], i == at ? " <-" : "");
	return false;
}

/* --- all orders -------------------------------------------------------------------------- */

/* The next one in the order of their numbers; false after the last. */
static bool next_order(enum step *order, unsigned int nr)
{
	unsigned int i = nr - 1, j = nr - 1;
	enum step swap;

	while (i && order[i - 1] >= order[i])
		i--;
	if (!i)
		return false;
	while (order[j] <= order[i - 1])
		j--;
	swap = order[i - 1];
	order[i - 1] = order[j];
	order[j] = swap;
	for (j = nr - 1; i < j; i++, j--) {
		swap = order[i];
		order[i] = order[j];
		order[j] = swap;
	}
	return true;
}

static void shuffle(enum step *order, unsigned int nr)
{
	while (nr > 1) {
		unsigned int j = (unsigned int)random() % nr--;
		enum step swap = order[nr];

		order[nr] = order[j];
		order[j] = swap;
	}
}

FIXTURE(orders)
{
	struct dmt_disk disk;
	int fd;
};

FIXTURE_VARIANT(orders)
{
	unsigned int nr;
	enum step first[NR_STEPS]; /* ascending */
	time_t seconds; /* for some of many orders; 0 for all */
};

FIXTURE_VARIANT_ADD(orders, sleepers) {
	.nr = 4, .first = { KILL, GONE, READ, POLL }
};
FIXTURE_VARIANT_ADD(orders, answers) {
	.nr = 4, .first = { KILL, GONE, LATE, READ }
};
FIXTURE_VARIANT_ADD(orders, batches) {
	.nr = 4, .first = { GONE, HALF, POLL, CLOSE }
};
FIXTURE_VARIANT_ADD(orders, sleepers_of_closed_files) {
	.nr = 4, .first = { KILL, GONE, READ, CLOSE }
};
FIXTURE_VARIANT_ADD(orders, module) {
	.nr = 4, .first = { KILL, GONE, CLOSE, RMMOD }
};
FIXTURE_VARIANT_ADD(orders, nodes) {
	.nr = 4, .first = { KILL, GONE, REOPEN, RMMOD }
};
/* All orders would take hours: as many as there is time for. */
FIXTURE_VARIANT_ADD(orders, everything) {
	.nr = NR_STEPS, .seconds = 10,
	.first = { KILL, GONE, LATE, HALF, READ, POLL, CLOSE, REOPEN, RMMOD }
};

FIXTURE_SETUP(orders)
{
	ASSERT_TRUE(dmt_keys_are_gone());
	dmt_disk_open(&self->disk, DMT_BLOCKS * DMT_BLOCK, 0);
	if (dmt_dm_create(NAME) || !become("error", ""))
		errx(1, "cannot make the device");
	self->fd = dmt_dm_open(NAME, O_RDWR | O_DIRECT);
	if (self->fd < 0)
		err(1, NAME);
}

FIXTURE_TEARDOWN(orders)
{
	if (self->fd >= 0)
		close(self->fd);
	if (dmt_dm_remove(NAME))
		warnx("cannot remove the device");
	dmt_disk_close(&self->disk);
	if (dmt_module_refs() < 0) {
		EXPECT_EQ(0, dmt_module_insert());
	}
	EXPECT_TRUE(dmt_keys_are_gone());
}

TEST_F_TIMEOUT(orders, each_step_gives_what_it_must, 150)
{
	time_t until = time(NULL) + variant->seconds;
	enum step order[NR_STEPS];
	unsigned int nr = 0;
	bool more;

	memcpy(order, variant->first, sizeof(order));
	if (variant->seconds)
		srandom((unsigned int)dmt_seed());
	do {
		if (variant->seconds)
			shuffle(order, variant->nr);
		ASSERT_TRUE(order_run(&self->disk, self->fd, order,
				      variant->nr));
		nr++;
		more = variant->seconds ? time(NULL) < until :
					  next_order(order, variant->nr);
	} while (more);
	ksft_print_msg("%u orders\n", nr);
}

TEST_HARNESS_MAIN
