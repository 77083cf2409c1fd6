// SPDX-License-Identifier: GPL-2.0-only
/* Load with verification: a daemon that copies on write, and I/O. */
#define _GNU_SOURCE
#include "load.h"
#include "gate.h"
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

static void commit(struct policy *p, uint32_t id)
{
	uint32_t place;

	for (place = 0; place < DMT_LOAD_BLOCKS; place++)
		if (p->pending[place].id == id)
			break;
	if (!id || place == DMT_LOAD_BLOCKS)
		errx(2, "told of an id that was never answered: %u", id);
	__atomic_store_n(&p->book->place[p->pending[place].block], place,
			 __ATOMIC_RELEASE);
	__atomic_add_fetch(&p->book->commits, 1, __ATOMIC_RELAXED);
	p->pending[place].id = 0;
	if (dmt_sync_done(p->ctl, id))
		errx(2, "an ack was refused");
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
	else if (random() % 2)
		p->later[p->nr_later++] = asked;
	else
		answer(p, &asked);
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
	for (;;) {
		ssize_t n = dmt_read_msg(p->ctl, &msg);

		if (n > 0) {
			take(p, &msg);
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

static void slot_begin(struct dmt_load *load, struct dmt_slot *slot)
{
	uint32_t block;

	/* Half of them near each other, so that some are met again soon. */
	do
		block = random() % (random() % 2 ? DMT_LOAD_BLOCKS : 256);
	while (load->busy[block]);
	load->busy[block] = true;
	slot->block = block;
	slot->read = random() % 3 == 0;
	if (slot->read) {
		slot->io = dmt_begin_read(&load->t, block);
	} else if (random() % 4) {
		load->part[block] = ++load->version;
		slot->io = dmt_write_part(load->t.fd, block, load->version);
	} else {
		load->seed[block] = ++load->version;
		load->part[block] = DMT_NO_PART;
		slot->io = dmt_begin_write(&load->t, block, load->version);
	}
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

/* Wait for all I/O, and read what was written. False: something was wrong. */
bool dmt_load_finish(struct dmt_load *load)
{
	uint32_t block;
	unsigned int i;

	for (i = 0; i < DMT_LOAD_SLOTS; i++)
		if (load->slots[i].io && !slot_end(load, &load->slots[i]))
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

/* --- the device ------------------------------------------------------------------------ */

/**
 * dmt_load_setup() - make a mapped device that has no daemon yet
 * @load: gets it
 */
void dmt_load_setup(struct dmt_load *load)
{
	struct dmt *t = &load->t;
	char params[256];
	uint32_t block;

	memset(load, 0, sizeof(*load));
	snprintf(t->name, sizeof(t->name), "dmt%d", getpid());
	dmt_disk_open(&t->origin, DMT_LOAD_BLOCKS * DMT_BLOCK, 0);
	dmt_disk_open(&t->store, DMT_LOAD_BLOCKS * DMT_BLOCK, 0);
	load->book = mmap(NULL, sizeof(*load->book), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (load->book == MAP_FAILED)
		err(1, "mmap");
	for (block = 0; block < DMT_LOAD_BLOCKS; block++) {
		dmt_place_fill(&t->origin, block, block, DMT_ORIGIN);
		load->book->place[block] = DMT_NOWHERE;
		load->seed[block] = DMT_ORIGIN;
		load->part[block] = DMT_NO_PART;
	}
	load->version = DMT_ORIGIN;
	dmt_params(t, params, sizeof(params));
	if (dmt_dm_create(t->name) ||
	    dmt_dm_load(t->name, 0, DMT_LOAD_BLOCKS * DMT_SECTORS, "userspace",
			params) ||
	    dmt_dm_resume(t->name))
		errx(1, "cannot make the mapped device %s", t->name);
	t->fd = dmt_dm_open(t->name, O_RDWR | O_DIRECT);
	if (t->fd < 0)
		err(1, "%s", t->name);
	t->ctl = -1;
}

/**
 * dmt_load_teardown() - take all of it away again
 * @load: made by dmt_load_setup()
 */
void dmt_load_teardown(struct dmt_load *load)
{
	if (load->daemon > 0)
		dmt_load_kill(load);
	dmt_dm_resume(load->t.name);
	dmt_teardown(&load->t);
}
