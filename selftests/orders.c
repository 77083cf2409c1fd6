// SPDX-License-Identifier: GPL-2.0-only
/*
 * The end of a device, of its daemons, of those who sleep in their calls, and of
 * the module, in every order. A small model says what each step must give.
 *
 * There are two daemons. The first one has read a request and does not answer;
 * what the second one is asked for, and told, depends on what came before. In some
 * orders there is more: a write that the first one has read a request for, too, and
 * may answer with SYNC; and a copy that cannot end before a gate is opened.
 */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/fixture.h"
#include "lib/gate.h"
#include "lib/suspend.h"
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
	HOLD,	/* the first daemon, if it lives, has the write held for SYNC */
	COPYING, /* the second daemon maps a block with a copy, which does not end */
	NR_STEPS
};

static const char * const step_names[] = {
	"kill", "gone", "late", "half", "read", "poll", "close", "reopen",
	"rmmod", "hold", "copy",
};

enum { NAP = 1, OVER };

#define WRITTEN	8	/* the block that is written ... */
#define COPIED	9	/* ... and that which is copied */

/* Requests: for the read, and for the write. */
enum { READ_REQ, WRITE_REQ, NR_REQS };

/**
 * struct asked - a request
 * @id: of it; 0 where nobody knows the new one
 * @outstanding: it is
 * @unread: and nobody has read it
 * @second: the second daemon has, and must let it go before anybody else can
 */
struct asked {
	uint32_t id;
	bool outstanding;
	bool unread;
	bool second;
};

/**
 * struct order - a device at the end of its life, and what is known of it
 * @disk: below the device
 * @source: likewise, for copies only
 * @gate: before that
 * @fd: the device
 * @node: of the control device
 * @first: the first daemon's file, or -1
 * @second: the second one's, or -1
 * @io: a read that waits
 * @write: a write that waits, or is held; or NULL
 * @copy: a read that waits for the copy, or NULL
 * @req: their requests
 * @reader: a thread of the second daemon
 * @poller: likewise
 * @live: the key has a table
 * @loaded: the module is there
 * @reading: the reader sleeps (NAP), or has ended
 * @polling: the poller likewise
 * @may_wake: there was something to read while the poller slept, but a reader
 *	may have been quicker
 * @polls: what the poller gets, if its file is still open
 * @pushed: a mapping came with a half one
 * @answered: the request was answered
 * @held: the write is held for SYNC, and its daemon has been told
 * @shut: the gate is, and the copy cannot end
 */
struct order {
	const struct dmt_disk *disk;
	const struct dmt_disk *source;
	const struct dmt_gate *gate;
	int fd;
	char node[64];
	int first;
	int second;
	struct dmt_io *io;
	struct dmt_io *write;
	struct dmt_io *copy;
	struct asked req[NR_REQS];
	struct dmt_sleeper reader;
	struct dmt_sleeper poller;
	bool live;
	bool loaded;
	int reading;
	int polling;
	bool may_wake;
	short polls;
	bool pushed;
	bool answered;
	bool held;
	bool shut;
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

static bool any_unread(const struct order *o)
{
	return o->req[READ_REQ].unread || o->req[WRITE_REQ].unread;
}

/* The second daemon has read one. */
static bool was_read(struct order *o, const struct dmt_msg *msg)
{
	bool write = msg->request.org_block == WRITTEN;
	struct asked *req = &o->req[write ? WRITE_REQ : READ_REQ];

	if (!is("type of a message", msg->header.msg_type,
		DM_USERSPACE_MAP_BLOCK_REQ) ||
	    !is("request to be read", req->unread, true) ||
	    !is("flags of a request", msg->request.flags, write ? RW : RO) ||
	    (req->id && !is("id of a request", msg->header.id, req->id)))
		return false;
	req->id = msg->header.id;
	req->unread = false;
	req->second = true;
	return true;
}

static bool reader_ends(struct order *o)
{
	ssize_t n = dmt_sleeper_wait(&o->reader);

	o->reading = OVER;
	if (!o->live || !any_unread(o))
		return is("read at the end", n, 0);
	return is("read of a request", n, sizeof(struct dmu_msg_header) +
		  sizeof(struct dmu_msg_map_request)) &&
	       was_read(o, &o->reader.msg);
}

static bool poller_ends(struct order *o)
{
	ssize_t n = dmt_sleeper_wait(&o->poller);

	o->polling = OVER;
	return (o->may_wake && n == POLLIN) ||
	       is("poll", n, o->second < 0 ? POLLNVAL : o->polls);
}

/* Requests are to be read again: who sleeps is told, or who comes. */
static bool become_unread(struct order *o)
{
	if (!o->live || !any_unread(o))
		return true;
	if (o->reading == NAP) {
		o->may_wake = o->polling == NAP;
		if (!reader_ends(o))
			return false;
	}
	if (o->polling == NAP && any_unread(o)) {
		o->polls = POLLIN;
		return poller_ends(o);
	}
	return true;
}

/* The last who held the second daemon's file lets it go. */
static bool second_let_go(struct order *o)
{
	unsigned int i;

	if (second_held(o))
		return true;
	for (i = 0; i < NR_REQS; i++) {
		o->req[i].unread |= o->req[i].second && o->req[i].outstanding;
		o->req[i].second = false;
	}
	return become_unread(o);
}

/* What it had read can be read again; what it owed an ack for is asked for anew. */
static bool do_kill(struct order *o)
{
	struct asked *write = &o->req[WRITE_REQ];
	unsigned int i;

	close(o->first);
	o->first = -1;
	if (!o->live)
		return true;
	for (i = 0; i < NR_REQS; i++)
		o->req[i].unread |= o->req[i].outstanding && !o->req[i].second;
	if (o->held)
		*write = (struct asked){ .outstanding = true, .unread = true };
	return become_unread(o);
}

/* What waits for it will have it. */
static void open_gate(struct order *o)
{
	if (o->shut)
		dmt_gate_open(o->gate);
	o->shut = false;
}

/* Give the device another table. What waits is handed back, and comes again. */
static bool become(const char *type, const char *params, struct order *o)
{
	struct dmt_call call;
	bool waits;

	if (!is("load", dmt_dm_load(NAME, 0, DMT_BLOCKS * DMT_SECTORS, type,
				    params), 0))
		return false;
	if (!o || !o->shut)
		return is("suspend", dmt_dm_suspend(NAME, true), 0) &&
		       is("resume", dmt_dm_resume(NAME), 0);
	/* It cannot before the copy has ended. */
	dmt_call_begin(&call, NULL, NAME, DMT_SUSPEND_NOFLUSH);
	waits = dmt_call_waits(&call);
	open_gate(o);
	return is("suspension that waits for a copy", waits, true) &&
	       is("suspend", dmt_call_result(&call), 0) &&
	       is("resume", dmt_dm_resume(NAME), 0);
}

static bool io_fails(const char *what, struct dmt_io *io)
{
	return !io || is(what, dmt_io_wait(io), -EIO);
}

static bool do_gone(struct order *o)
{
	bool shut = o->shut, ok = become("error", "", o);
	unsigned int i;

	o->live = false;
	o->polls = POLLIN | POLLHUP;
	if (o->reading == NAP)
		ok &= reader_ends(o);
	if (o->polling == NAP)
		ok &= poller_ends(o);
	if (!o->answered)
		ok &= io_fails("read of a lost block", o->io);
	ok &= io_fails("write to a lost block", o->write);
	if (shut)
		ok &= io_fails("read of a block that is being copied", o->copy);
	for (i = 0; i < NR_REQS; i++)
		o->req[i] = (struct asked){ .id = o->req[i].id };
	return ok;
}

static bool do_late(struct order *o)
{
	struct dmt_map map = { .to = 2, .dst = o->disk, .flags = RO };
	uint32_t id = o->req[READ_REQ].id;

	if (o->second < 0)
		return true;
	if (!o->live)
		return is("late answer", dmt_map(o->second, id, &map), -ENODEV);
	o->req[READ_REQ] = (struct asked){ .id = id };
	o->answered = true;
	if (!is("answer", dmt_map(o->second, id, &map), 0))
		return false;
	/* After the death of one that owed an ack this waits for all copies. */
	if (o->held && o->first < 0)
		open_gate(o);
	return is("read of a block", dmt_io_wait(o->io), 0);
}

static bool do_hold(struct order *o)
{
	struct dmt_map map = { .block = WRITTEN, .to = WRITTEN, .dst = o->disk,
			       .flags = RW | SYNC };
	uint32_t id = o->req[WRITE_REQ].id;

	if (o->first < 0)
		return true;
	if (!is("answer with SYNC", dmt_map(o->first, id, &map),
		o->live ? 0 : -ENODEV) || !o->live)
		return !o->live;
	o->req[WRITE_REQ] = (struct asked){ .id = id };
	o->held = true;
	return is("news of held I/O",
		  dmt_expect_status(o->first, id, DM_USERSPACE_SYNC_COMPLETE),
		  true) &&
	       is("held write", dmt_io_done(o->write), false);
}

static bool do_copy(struct order *o)
{
	struct dmt_map map = { .block = COPIED, .to = COPIED, .dst = o->disk,
			       .src = o->source, .flags = RW | DMU_FLAG_COPY_FIRST };

	if (o->second < 0)
		return true;
	if (!o->live)
		return is("late copy", dmt_map(o->second, 0, &map), -ENODEV);
	dmt_gate_shut(o->gate);
	o->shut = true;
	if (!is("copy", dmt_map(o->second, 0, &map), 0) ||
	    !dmt_counts(NAME, DMT_COPIES, 1))
		return false;
	o->copy = dmt_io_now(o->fd, DMT_READ, COPIED * DMT_BLOCK, DMT_BLOCK, 0);
	return true;
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
	if (o->live && !any_unread(o))
		return is("sleeping reader", o->reader.over, false);
	return reader_ends(o);
}

static bool do_poll(struct order *o)
{
	if (o->second < 0)
		return true;
	dmt_sleeper_poll(&o->poller, o->second, POLLIN);
	o->polling = NAP;
	if (o->live && !any_unread(o))
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
	do_reopen, do_rmmod, do_hold, do_copy,
};

/* --- one order ------------------------------------------------------------------------- */

static void order_begin(struct order *o, bool writes)
{
	char params[64];

	snprintf(params, sizeof(params), NAME " 4096 %u:%u %u:%u",
		 major(o->disk->dev), minor(o->disk->dev),
		 major(o->source->dev), minor(o->source->dev));
	if (!become("userspace", params, NULL))
		errx(1, "cannot make the device");
	dmt_control_path(NAME, o->node, sizeof(o->node));
	o->first = dmt_control_open(NAME, O_NONBLOCK);
	o->second = dmt_control_open(NAME, 0);
	o->io = dmt_io_now(o->fd, DMT_READ, 0, DMT_BLOCK, 0);
	o->req[READ_REQ].id = dmt_expect_request(o->first, 0, RO);
	o->req[READ_REQ].outstanding = true;
	if (writes) {
		o->write = dmt_io_now(o->fd, DMT_WRITE, WRITTEN * DMT_BLOCK,
				      DMT_BLOCK, 2);
		o->req[WRITE_REQ].id = dmt_expect_request(o->first, WRITTEN,
							  RW);
		o->req[WRITE_REQ].outstanding = true;
	}
	if (!o->req[READ_REQ].id || (writes && !o->req[WRITE_REQ].id))
		errx(1, "no request");
	o->live = true;
	o->loaded = true;
}

/* What was begun can be brought to a good end. */
static bool all_is_well(struct order *o)
{
	uint64_t remaps = o->pushed + o->answered + !!o->copy;
	uint64_t are = dmt_counter(NAME, DMT_REMAPS);

	/* What is held, or was, may count. */
	if (!is("remaps", are == remaps || (o->held && are == remaps + 1), true))
		return false;
	open_gate(o);
	if (o->copy && (!is("read of a copy", dmt_io_wait(o->copy), 0) ||
			!is("a copy", dmt_io_matches(o->copy, DMT_ORIGIN), true)))
		return false;
	if (!o->held || o->first < 0)
		return true;
	if (!is("ack", dmt_sync_done(o->first, o->req[WRITE_REQ].id), 0) ||
	    !is("write", dmt_io_wait(o->write), 0))
		return false;
	dmt_io_free(o->write);
	o->write = NULL;
	return true;
}

/* Whatever has not ended yet does so now. */
static bool order_end(struct order *o)
{
	struct dmt_io *const ios[] = { o->io, o->copy };
	bool ok = true;
	unsigned int i;

	if (o->live)
		ok = all_is_well(o) && do_gone(o);
	if (o->first >= 0)
		close(o->first);
	if (o->second >= 0)
		close(o->second);
	for (i = 0; i < 2; i++)
		if (ios[i])
			dmt_io_free(ios[i]);
	if (o->write)
		dmt_io_free(o->write);
	if (!o->loaded && dmt_module_insert())
		errx(1, "cannot insert the module");
	return ok;
}

static bool order_run(struct order *o, const enum step *order, unsigned int nr)
{
	unsigned int i, at = nr;
	bool ok = true, writes = false;

	for (i = 0; i < nr; i++)
		writes |= order[i] == HOLD;
	order_begin(o, writes);
	for (i = 0; ok && i < nr; i++) {
		at = i;
		ok = steps[order[i]](o);
	}
	if (ok) {
		ok = order_end(o);
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
	struct dmt_disk source;
	struct dmt_gate gate;
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
FIXTURE_VARIANT_ADD(orders, held_io) {
	.nr = 4, .first = { KILL, GONE, LATE, HOLD }
};
FIXTURE_VARIANT_ADD(orders, held_io_and_sleepers) {
	.nr = 4, .first = { KILL, READ, CLOSE, HOLD }
};
FIXTURE_VARIANT_ADD(orders, copies) {
	.nr = 4, .first = { GONE, CLOSE, RMMOD, COPYING }
};
FIXTURE_VARIANT_ADD(orders, copies_and_held_io) {
	.nr = 4, .first = { KILL, GONE, HOLD, COPYING }
};
/* All orders would take hours: as many as there is time for. */
FIXTURE_VARIANT_ADD(orders, everything) {
	.nr = NR_STEPS, .seconds = 5,
	.first = { KILL, GONE, LATE, HALF, READ, POLL, CLOSE, REOPEN, RMMOD,
		   HOLD, COPYING }
};

FIXTURE_SETUP(orders)
{
	ASSERT_TRUE(dmt_keys_are_gone());
	dmt_disk_open(&self->disk, DMT_BLOCKS * DMT_BLOCK, 0);
	dmt_disk_open(&self->source, DMT_BLOCKS * DMT_BLOCK, 0);
	dmt_disk_fill(&self->source, COPIED, DMT_ORIGIN);
	dmt_gate_make(&self->gate, NAME "-source", &self->source);
	if (dmt_dm_create(NAME) || !become("error", "", NULL))
		errx(1, "cannot make the device");
	self->fd = dmt_dm_open(NAME, O_RDWR | O_DIRECT);
	if (self->fd < 0)
		err(1, NAME);
}

FIXTURE_TEARDOWN(orders)
{
	dmt_gate_mend(&self->gate);
	if (self->fd >= 0)
		close(self->fd);
	if (dmt_dm_remove(NAME))
		warnx("cannot remove the device");
	dmt_gate_remove(&self->gate);
	dmt_disk_close(&self->source);
	dmt_disk_close(&self->disk);
	if (dmt_module_refs() < 0) {
		EXPECT_EQ(0, dmt_module_insert());
	}
	EXPECT_TRUE(dmt_keys_are_gone());
}

TEST_F_TIMEOUT(orders, each_step_gives_what_it_must, 150)
{
	time_t until = time(NULL) + variant->seconds * dmt_scale();
	enum step order[NR_STEPS];
	unsigned int nr = 0;
	struct order o;
	bool more;

	memcpy(order, variant->first, sizeof(order));
	if (variant->seconds)
		srandom((unsigned int)dmt_seed());
	do {
		if (variant->seconds)
			shuffle(order, variant->nr);
		o = (struct order){ .disk = &self->disk, .fd = self->fd,
				    .source = &self->source,
				    .gate = &self->gate };
		ASSERT_TRUE(order_run(&o, order, variant->nr));
		nr++;
		more = variant->seconds ? time(NULL) < until :
					  next_order(order, variant->nr);
	} while (more);
	ksft_print_msg("%u orders\n", nr);
}

DMT_SCALED_MAIN
