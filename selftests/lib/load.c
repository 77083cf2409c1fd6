// SPDX-License-Identifier: GPL-2.0-only
/* Load with verification: a daemon that copies on write, and I/O. */
#define _GNU_SOURCE
#include "load.h"
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define RO DMU_FLAG_RD
#define RW (DMU_FLAG_RD | DMU_FLAG_WR)

/* --- a daemon ------------------------------------------------------------------------ */

/* An answer that is not durable yet, or a request that is put off. */
struct pending {
	uint32_t id;
	uint32_t block;
	uint32_t place;
	uint32_t flags;
};

/**
 * struct policy - one daemon's life
 * @t: the mapped device
 * @ctl: its control device
 * @book: what is durable
 * @taken: places that are in the book, or that this one has given away
 * @pending: SYNC answers by place
 * @later: requests that are put off
 * @nr_later: how many
 */
struct policy {
	const struct dmt *t;
	int ctl;
	struct dmt_book *book;
	bool taken[DMT_LOAD_BLOCKS];
	struct pending pending[DMT_LOAD_BLOCKS];
	struct pending later[DMT_LOAD_BLOCKS];
	unsigned int nr_later;
};

static uint32_t place_new(struct policy *p)
{
	uint32_t place = 0;

	/* The lowest: so that those of a dead daemon are given away at once. */
	while (place < DMT_LOAD_BLOCKS && p->taken[place])
		place++;
	if (place == DMT_LOAD_BLOCKS)
		errx(2, "the store is full");
	p->taken[place] = true;
	return place;
}

static void answer(struct policy *p, const struct pending *asked)
{
	struct dmt_map map = dmt_plain(&p->t->origin, asked->block,
				       asked->block, RO);
	uint32_t place = p->book->place[asked->block];

	if (place != DMT_NOWHERE) {
		map = dmt_plain(&p->t->store, asked->block, place, RW);
	} else if (asked->flags & DMU_FLAG_WR) {
		place = place_new(p);
		map = dmt_cow(p->t, asked->block, place, RW | DMU_FLAG_SYNC);
		p->pending[place] = *asked;
	}
	__atomic_add_fetch(&p->book->answers, 1, __ATOMIC_RELAXED);
	if (dmt_map(p->ctl, asked->id, &map))
		errx(2, "an answer was refused");
}

/* A test wants to know that this is held, and that nobody says more of it. */
static void stop_where_asked(struct policy *p, uint32_t place)
{
	struct dmt_book *book = p->book;

	if (p->pending[place].block !=
	    __atomic_load_n(&book->stop_at, __ATOMIC_ACQUIRE))
		return;
	__atomic_store_n(&book->held_at, place, __ATOMIC_RELEASE);
	raise(SIGSTOP);
}

static void commit(struct policy *p, uint32_t id)
{
	uint32_t place;

	for (place = 0; place < DMT_LOAD_BLOCKS; place++)
		if (p->pending[place].id == id)
			break;
	if (!id || place == DMT_LOAD_BLOCKS)
		errx(2, "told of an id that was never answered: %u", id);
	stop_where_asked(p, place);
	__atomic_store_n(&p->book->place[p->pending[place].block], place,
			 __ATOMIC_RELEASE);
	__atomic_add_fetch(&p->book->commits, 1, __ATOMIC_RELAXED);
	p->pending[place].id = 0;
	if (dmt_sync_done(p->ctl, id))
		errx(2, "an ack was refused");
}

static void refuse(struct policy *p, uint32_t id)
{
	if (dmt_fail(p->ctl, id))
		errx(2, "a failure was refused");
}

static void take(struct policy *p, const struct dmt_msg *msg)
{
	struct pending asked = {
		.id = msg->header.id,
		.block = (uint32_t)msg->request.org_block,
		.flags = msg->request.flags,
	};

	if (msg->header.msg_type == DM_USERSPACE_STATUS)
		commit(p, msg->status.id_of_op);
	else if (asked.block >= DMT_LOAD_BLOCKS)
		refuse(p, asked.id); /* the test's own */
	else if (random() % 2)
		p->later[p->nr_later++] = asked;
	else
		answer(p, &asked);
}

/* What its parent has open, devices above all, is to be free to go. */
static void close_others(int fd)
{
	close_range(STDERR_FILENO + 1, fd - 1, 0);
	close_range(fd + 1, ~0U, 0);
}

static void __attribute__((noreturn)) live(const struct dmt *t,
					   struct dmt_book *book, unsigned int nr)
{
	struct policy *p = calloc(1, sizeof(*p));
	struct dmt_msg msg;
	uint32_t block;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	srandom(nr);
	p->t = t;
	p->book = book;
	for (block = 0; block < DMT_LOAD_BLOCKS; block++)
		if (book->place[block] != DMT_NOWHERE)
			p->taken[book->place[block]] = true;
	p->ctl = dmt_control_open(t->name, O_NONBLOCK);
	close_others(p->ctl);
	for (;;) {
		ssize_t n = dmt_read_msg(p->ctl, &msg);

		if (n > 0) {
			take(p, &msg);
		} else if (!n) {
			_exit(0); /* the key is gone */
		} else if (n != -EAGAIN) {
			errx(2, "read: %zd", n);
		} else if (p->nr_later) {
			unsigned int i = random() % p->nr_later;
			struct pending asked = p->later[i];

			p->later[i] = p->later[--p->nr_later];
			answer(p, &asked);
		} else {
			dmt_readable(p->ctl, -1);
		}
	}
}

/**
 * dmt_load_daemon() - start a daemon
 * @load: has none
 * @seed: of what it does at random
 *
 * It knows what is in the book, and gives away the lowest places that are not:
 * those that the one before it had given away in vain.
 */
void dmt_load_daemon(struct dmt_load *load, unsigned int seed)
{
	load->daemon = fork();
	if (load->daemon < 0)
		err(1, "fork");
	if (!load->daemon)
		live(&load->t, load->book, seed);
}

/* One that has stopped, see dmt_load_hold_for_sync(), goes on. */
void dmt_load_continue(const struct dmt_load *load)
{
	kill(load->daemon, SIGCONT);
}

/* Kill the daemon. False where it was not alive any more. */
bool dmt_load_kill(struct dmt_load *load)
{
	int status;

	kill(load->daemon, SIGKILL);
	if (waitpid(load->daemon, &status, 0) != load->daemon)
		err(1, "waitpid");
	load->daemon = 0;
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* --- I/O ---------------------------------------------------------------------------- */

static void expected(const struct dmt_load *load, uint32_t block, uint8_t *want)
{
	dmt_pattern(want, DMT_BLOCK, block, load->seed[block]);
	if (load->part[block] != DMT_NO_PART)
		dmt_pattern(want + DMT_PART, DMT_PART, block,
			    load->part[block]);
}

/* Either of the devices. */
static int some_fd(const struct dmt_load *load)
{
	return *load->twin && random() % 2 ? load->twin_fd : load->t.fd;
}

static void slot_read(struct dmt_load *load, struct dmt_slot *slot)
{
	slot->io = dmt_io_now(some_fd(load), DMT_READ,
			      (uint64_t)slot->block * DMT_BLOCK, DMT_BLOCK, 0);
}

static void slot_write(struct dmt_load *load, struct dmt_slot *slot, int fd,
		       bool part)
{
	uint32_t block = slot->block;

	if (part) {
		load->part[block] = ++load->version;
		slot->io = dmt_write_part(fd, block, load->version);
		return;
	}
	load->seed[block] = ++load->version;
	load->part[block] = DMT_NO_PART;
	slot->io = dmt_io_now(fd, DMT_WRITE, (uint64_t)block * DMT_BLOCK,
			      DMT_BLOCK, load->version);
}

static void slot_take(struct dmt_load *load, struct dmt_slot *slot,
		      uint32_t block)
{
	load->busy[block] = true;
	slot->block = block;
}

static void slot_begin(struct dmt_load *load, struct dmt_slot *slot)
{
	uint32_t block;

	/* Half of them near each other, so that some are met again soon. */
	do
		block = random() % (random() % 2 ? DMT_LOAD_BLOCKS : 256);
	while (load->busy[block]);
	slot_take(load, slot, block);
	slot->read = random() % 3 == 0;
	if (slot->read)
		slot_read(load, slot);
	else
		slot_write(load, slot, some_fd(load), random() % 4);
}

static bool slot_end(struct dmt_load *load, struct dmt_slot *slot)
{
	int r = dmt_io_wait(slot->io);
	uint8_t want[DMT_BLOCK];
	bool ok = !r;

	expected(load, slot->block, want);
	if (r) {
		warnx("I/O to block %u: %s", slot->block, strerror(-r));
	} else if (slot->read &&
		   memcmp(want, dmt_io_buf(slot->io), DMT_BLOCK)) {
		warnx("block %u read something else", slot->block);
		ok = false;
	}
	dmt_io_free(slot->io);
	slot->io = NULL;
	load->busy[slot->block] = false;
	load->done++;
	return ok;
}

/* Keep the device busy until so many more I/Os are over. False: one was wrong. */
bool dmt_load_run(struct dmt_load *load, unsigned int more)
{
	unsigned int i, until = load->done + more;

	while (load->done < until) {
		bool some = false;

		for (i = 0; i < DMT_LOAD_SLOTS; i++) {
			struct dmt_slot *slot = &load->slots[i];

			if (!slot->io) {
				slot_begin(load, slot);
			} else if (dmt_io_done(slot->io)) {
				if (!slot_end(load, slot))
					return false;
				some = true;
			}
		}
		if (!some)
			poll(NULL, 0, 1);
	}
	return true;
}

/* A block that is on the origin, and that no I/O goes to. */
static uint32_t some_at_origin(const struct dmt_load *load)
{
	uint32_t i, block = random() % DMT_LOAD_BLOCKS;

	for (i = 0; i < DMT_LOAD_BLOCKS; i++) {
		block = (block + 1) % DMT_LOAD_BLOCKS;
		if (!load->busy[block] &&
		    __atomic_load_n(&load->book->place[block],
				    __ATOMIC_ACQUIRE) == DMT_NOWHERE)
			return block;
	}
	errx(1, "all blocks have been copied");
}

/* Wait until there are copies, or SYNCs: they come of I/O that is under way. */
static bool some_are_counted(const struct dmt_load *load,
			     enum dmt_counter which)
{
	unsigned int ms;

	for (ms = 0; ms < DMT_PATIENCE; ms++) {
		if (dmt_counter(load->t.name, which))
			return true;
		poll(NULL, 0, 1);
	}
	warnx("waited in vain for counter %d", which);
	return false;
}

static bool end_all(struct dmt_load *load)
{
	unsigned int i;

	for (i = 0; i < DMT_LOAD_SLOTS; i++)
		if (load->slots[i].io && !slot_end(load, &load->slots[i]))
			return false;
	return true;
}

/**
 * dmt_load_hold_copy() - have a copy, and whatever else, wait at the gate
 * @load: gated, and with a daemon
 *
 * The gate is shut when this returns. All slots are in use, and at least one of them
 * waits for a copy that was begun, and which its daemon is to be told of: the first,
 * which is not the twin's.
 */
bool dmt_load_hold_copy(struct dmt_load *load)
{
	struct dmt_slot *slot = &load->slots[0];
	unsigned int i;

	/* One that had passed the gate would be counted, too. */
	if (!end_all(load) || !dmt_counts(load->t.name, DMT_COPIES, 0))
		return false;
	dmt_gate_shut(&load->gate);
	slot_take(load, slot, some_at_origin(load));
	slot->read = false;
	slot_write(load, slot, load->t.fd, true);
	for (i = 1; i < DMT_LOAD_SLOTS; i++)
		if (!load->slots[i].io)
			slot_begin(load, &load->slots[i]);
	return some_are_counted(load, DMT_COPIES);
}

static bool has_stopped(const struct dmt_load *load)
{
	unsigned int ms;
	int status;

	for (ms = 0; ms < DMT_PATIENCE; ms++) {
		if (waitpid(load->daemon, &status, WUNTRACED | WNOHANG) ==
		    load->daemon)
			return WIFSTOPPED(status);
		poll(NULL, 0, 1);
	}
	warnx("the daemon was not told that I/O is held");
	return false;
}

/**
 * dmt_load_hold_for_sync() - have I/O held that has been to its device
 * @load: gated, and with a daemon
 *
 * The daemon was told that, has stopped, and acknowledges it when it is to continue.
 * What is held is I/O to the device, and not to its twin: that of the first slot.
 */
bool dmt_load_hold_for_sync(struct dmt_load *load)
{
	struct dmt_slot *slot = &load->slots[0];
	struct dmt_book *book = load->book;
	uint32_t block;
	bool stopped;

	if (!dmt_load_hold_copy(load))
		return false;
	block = slot->block;
	/* It cannot have been told of it before: there was no copy. */
	__atomic_store_n(&book->stop_at, block, __ATOMIC_RELEASE);
	dmt_gate_open(&load->gate);
	stopped = has_stopped(load);
	__atomic_store_n(&book->stop_at, DMT_NOWHERE, __ATOMIC_RELEASE);
	if (!stopped)
		return false;
	if (dmt_io_done(slot->io) ||
	    !dmt_place_has(&load->t.store, book->held_at, block,
			   load->seed[block], load->part[block])) {
		warnx("block %u is not held, or not at its place", block);
		return false;
	}
	return true;
}

/* Wait for all I/O, and read what was written. False: something was wrong. */
bool dmt_load_finish(struct dmt_load *load)
{
	uint32_t block;

	if (!end_all(load))
		return false;
	for (block = 0; block < DMT_LOAD_BLOCKS; block++)
		if ((load->seed[block] != DMT_ORIGIN ||
		     load->part[block] != DMT_NO_PART) &&
		    !dmt_block_reads(load->t.fd, block, load->seed[block],
				     load->part[block]))
			return false;
	return true;
}

/* Is what the book says true? No I/O may be under way. */
bool dmt_load_stored(const struct dmt_load *load)
{
	uint32_t block, place;

	for (block = 0; block < DMT_LOAD_BLOCKS; block++) {
		place = load->book->place[block];
		if (place != DMT_NOWHERE &&
		    !dmt_place_has(&load->t.store, place, block,
				   load->seed[block], load->part[block])) {
			warnx("block %u is not at place %u", block, place);
			return false;
		}
	}
	return true;
}

/**
 * dmt_load_bring_back() - take what the store has back to the origin, from behind
 * @load: no I/O is under way, and nothing is mapped, nor has been answered
 */
void dmt_load_bring_back(struct dmt_load *load)
{
	struct dmt_book *book = load->book;
	uint8_t buf[DMT_BLOCK];
	uint32_t block;

	for (block = 0; block < DMT_LOAD_BLOCKS; block++) {
		if (book->place[block] == DMT_NOWHERE)
			continue;
		if (pread(load->t.store.fd, buf, sizeof(buf),
			  (off_t)book->place[block] * DMT_BLOCK) != sizeof(buf) ||
		    pwrite(load->t.origin.fd, buf, sizeof(buf),
			   (off_t)block * DMT_BLOCK) != sizeof(buf))
			err(1, "bringing back block %u", block);
		book->place[block] = DMT_NOWHERE;
	}
}

/**
 * dmt_load_rewind() - let all blocks live on the origin again, with what they hold
 * @load: has a daemon; gets a new one
 * @seed: of that
 *
 * There is no end of blocks to be copied then. Nothing is mapped any more.
 *
 * Return: false where something was not as it should be.
 */
bool dmt_load_rewind(struct dmt_load *load, unsigned int seed)
{
	if (!end_all(load) || !dmt_load_kill(load) || !dmt_load_stored(load) ||
	    dmt_dm_message(load->t.name, "drop_idle") ||
	    !dmt_counts(load->t.name, DMT_REMAPS, 0))
		return false;
	dmt_load_bring_back(load);
	dmt_load_daemon(load, seed);
	return true;
}

/* --- the device ------------------------------------------------------------------------ */

#define MAX_LINES 4u

/* Of which so many are used. */
struct lines {
	struct dmt_line line[MAX_LINES];
	unsigned int nr;
	char params[256];
};

static void make_lines(const struct dmt_load *load,
		       const struct dmt_load_table *table, const char *features,
		       struct lines *lines)
{
	const unsigned int nr = table->lines ? table->lines : 1;
	const uint64_t each = DMT_LOAD_BLOCKS / nr * DMT_SECTORS;
	char *params = lines->params;
	unsigned int i;
	size_t used;

	dmt_params(&load->t, params, sizeof(lines->params));
	used = strlen(params);
	if (table->extra)
		used += snprintf(params + used, sizeof(lines->params) - used,
				 " %u:%u", major(table->extra),
				 minor(table->extra));
	snprintf(params + used, sizeof(lines->params) - used, "%s", features);
	for (i = 0; i < nr; i++)
		lines->line[i] = (struct dmt_line){ i * each, each, "userspace",
						    params };
	lines->line[nr - 1].sectors = DMT_LOAD_BLOCKS * DMT_SECTORS +
				      table->more - (nr - 1) * each;
	lines->nr = nr;
}

/**
 * dmt_load_table() - load a table, which the next resume makes the live one
 * @load: whose devices it names
 * @name: of a mapped device
 * @table: what it is like
 *
 * Return: 0 or a negative errno.
 */
int dmt_load_table(const struct dmt_load *load, const char *name,
		   const struct dmt_load_table *table)
{
	struct lines lines;

	make_lines(load, table, table->features ? table->features : "", &lines);
	return dmt_dm_load_lines(name, lines.line, lines.nr, false);
}

/* What its feature args mean, as the kernel says them: of " 0" nothing is left. */
const char *dmt_load_features(const struct dmt_load_table *table)
{
	return table->features && strcmp(table->features, " 0") ?
	       table->features : "";
}

/* Is that the live table of the device, word for word? */
bool dmt_load_has_table(const struct dmt_load *load, const char *name,
			const struct dmt_load_table *table)
{
	struct lines lines;

	make_lines(load, table, dmt_load_features(table), &lines);
	return dmt_dm_has_lines(name, lines.line, lines.nr);
}

static int make_device(const struct dmt_load *load, const char *name)
{
	const struct dmt_load_table table = { 0 };
	int fd;

	if (dmt_dm_create(name) || dmt_load_table(load, name, &table) ||
	    dmt_dm_resume(name))
		errx(1, "cannot make the mapped device %s", name);
	fd = dmt_dm_open(name, O_RDWR | O_DIRECT);
	if (fd < 0)
		err(1, "%s", name);
	return fd;
}

static void load_setup(struct dmt_load *load, bool gated)
{
	const uint64_t blocks = DMT_LOAD_BLOCKS + DMT_LOAD_REST;
	struct dmt *t = &load->t;
	char name[64];
	uint32_t block;

	memset(load, 0, sizeof(*load));
	snprintf(t->name, sizeof(t->name), "dmt%d", getpid());
	dmt_disk_open(&t->origin, blocks * DMT_BLOCK, 0);
	dmt_disk_open(&t->store, blocks * DMT_BLOCK, 0);
	load->book = mmap(NULL, sizeof(*load->book), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (load->book == MAP_FAILED)
		err(1, "mmap");
	for (block = 0; block < blocks; block++)
		dmt_place_fill(&t->origin, block, block, DMT_ORIGIN);
	for (block = 0; block < DMT_LOAD_BLOCKS; block++) {
		load->book->place[block] = DMT_NOWHERE;
		load->seed[block] = DMT_ORIGIN;
		load->part[block] = DMT_NO_PART;
	}
	load->book->stop_at = DMT_NOWHERE;
	load->version = DMT_ORIGIN;
	snprintf(name, sizeof(name), "%s-origin", t->name);
	if (gated)
		dmt_gate_make(&load->gate, name, &t->origin);
	t->fd = make_device(load, t->name);
	t->ctl = -1;
}

/**
 * dmt_load_setup() - make a mapped device that has no daemon yet
 * @load: gets it
 */
void dmt_load_setup(struct dmt_load *load)
{
	load_setup(load, false);
}

/**
 * dmt_load_setup_gated() - likewise, with a gate before its origin
 * @load: gets it
 */
void dmt_load_setup_gated(struct dmt_load *load)
{
	load_setup(load, true);
}

/**
 * dmt_load_add_twin() - make another device of the same key, for half of the I/O
 * @load: has been set up
 */
void dmt_load_add_twin(struct dmt_load *load)
{
	snprintf(load->twin, sizeof(load->twin), "%s-twin", load->t.name);
	load->twin_fd = make_device(load, load->twin);
}

/**
 * dmt_load_teardown() - take all of it away again
 * @load: made by dmt_load_setup()
 */
void dmt_load_teardown(struct dmt_load *load)
{
	/* Whatever a failed test has left shut, stopped or suspended. */
	if (load->gate.sectors)
		dmt_gate_mend(&load->gate);
	if (load->daemon > 0)
		dmt_load_kill(load);
	dmt_dm_resume(load->t.name);
	if (*load->twin) {
		dmt_dm_resume(load->twin);
		dmt_dm_message(load->twin, "fail_waiting");
		close(load->twin_fd);
		if (dmt_dm_remove(load->twin))
			warnx("cannot remove %s", load->twin);
	}
	dmt_teardown(&load->t);
	dmt_gate_remove(&load->gate);
}
