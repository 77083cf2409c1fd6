// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two tables of a key that have not the same patience: the I/O of each ends in its
 * own time, also where both wait for the same request.
 *
 * A machine may be so busy that both times have passed before anybody looks. What
 * was seen counts only where it was seen in time, else it is tried again.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include <err.h>
#include <string.h>

#define SLACK	100	/* ms by which the kernel's own clock may be coarse */
#define SOON	1	/* seconds of the one who is less patient ... */
#define LATE	3	/* ... and of the other */
#define TRIES	6u

/**
 * @t: a device, whose name is the key
 * @twin: another one of that key, over the same disks
 * @fd: the latter, O_DIRECT
 */
FIXTURE(twins)
{
	struct dmt t;
	char twin[40];
	int fd;
};

/**
 * @timeout: what kind
 * @read: a daemon has read the requests, and stays; else there is none
 * @twin_first: the twin is less patient
 */
FIXTURE_VARIANT(twins)
{
	const char *timeout;
	bool read;
	bool twin_first;
};

FIXTURE_VARIANT_ADD(twins, without_a_daemon)
{
	.timeout = "daemon_timeout",
};

FIXTURE_VARIANT_ADD(twins, without_a_daemon_the_twin_first)
{
	.timeout = "daemon_timeout", .twin_first = true,
};

FIXTURE_VARIANT_ADD(twins, without_an_answer)
{
	.timeout = "request_timeout", .read = true,
};

FIXTURE_VARIANT_ADD(twins, without_an_answer_the_twin_first)
{
	.timeout = "request_timeout", .read = true, .twin_first = true,
};

static int live(const struct dmt *t, const char *name, const char *timeout,
		unsigned int seconds)
{
	char params[256];
	size_t used;

	dmt_params(t, params, sizeof(params));
	used = strlen(params);
	snprintf(params + used, sizeof(params) - used, " 2 %s %u", timeout,
		 seconds);
	return dmt_dm_load(name, 0, DMT_BLOCKS * DMT_SECTORS, "userspace",
			   params) ?: dmt_dm_resume(name);
}

FIXTURE_SETUP(twins)
{
	const unsigned int own = variant->twin_first ? LATE : SOON;
	struct dmt *t = &self->t;

	dmt_setup(t);
	snprintf(self->twin, sizeof(self->twin), "%s-b", t->name);
	if (dmt_dm_create(self->twin) ||
	    live(t, t->name, variant->timeout, own) ||
	    live(t, self->twin, variant->timeout, SOON + LATE - own))
		errx(1, "cannot make the mapped device %s", self->twin);
	self->fd = dmt_dm_open(self->twin, O_RDWR | O_DIRECT);
	if (self->fd < 0)
		err(1, "%s", self->twin);
	if (!variant->read) {
		close(t->ctl);
		t->ctl = -1;
	}
}

FIXTURE_TEARDOWN(twins)
{
	dmt_dm_message(self->twin, "fail_waiting");
	close(self->fd);
	if (dmt_dm_remove(self->twin))
		warnx("cannot remove %s", self->twin);
	dmt_teardown(&self->t);
}

enum { OWN, COMMON, NR_IOS };

/**
 * struct patience - I/O that waits: one in a block of its own, and one in one that
 *	the other table waits for, too
 * @fd: the device
 * @io: under way
 */
struct patience {
	int fd;
	struct dmt_io *io[NR_IOS];
};

static void begin(struct patience *p, uint64_t own, uint64_t common)
{
	p->io[OWN] = dmt_io_now(p->fd, DMT_READ, own * DMT_BLOCK, DMT_BLOCK, 0);
	p->io[COMMON] = dmt_io_now(p->fd, DMT_READ, common * DMT_BLOCK,
				   DMT_BLOCK, 0);
}

/* Both end, and fail. */
static bool fails(struct patience *p)
{
	int own = dmt_io_result(p->io[OWN]);
	int common = dmt_io_result(p->io[COMMON]);

	if (own == -EIO && common == -EIO)
		return true;
	warnx("I/O ended with %d and %d", own, common);
	return false;
}

static bool waits(const struct patience *p)
{
	return !dmt_io_done(p->io[OWN]) && !dmt_io_done(p->io[COMMON]);
}

/* All that the two wait for: three requests. */
static bool read_all(const struct dmt *t)
{
	unsigned int nr = 0;
	struct dmt_msg msg;

	while (dmt_read_msg(t->ctl, &msg) > 0)
		nr += msg.header.msg_type == DM_USERSPACE_MAP_BLOCK_REQ;
	return nr == 3;
}

enum verdict { IN_ORDER, OUT_OF_ORDER, TOO_LATE_TO_TELL };

/* Both begin to wait, one after the other; @soon has less patience. */
static enum verdict both_time_out(struct patience *soon, struct patience *late,
				  const struct dmt *reader)
{
	uint64_t begun = dmt_now_ms(), seen;
	bool failed, waited, in_time;

	begin(soon, 1, 2);
	begin(late, 3, 2);
	if (reader && !read_all(reader))
		return OUT_OF_ORDER;
	failed = fails(soon);
	waited = waits(late);
	seen = dmt_now_ms() - begun;
	/* The other's time had not passed when it was looked at. */
	in_time = seen < LATE * 1000 - SLACK;
	failed &= fails(late);
	if (!failed || seen < SOON * 1000 - SLACK ||
	    dmt_now_ms() - begun < LATE * 1000 - SLACK || (in_time && !waited))
		return OUT_OF_ORDER;
	return in_time ? IN_ORDER : TOO_LATE_TO_TELL;
}

TEST_F_TIMEOUT(twins, io_fails_in_its_own_time, 120)
{
	struct dmt *t = &self->t;
	struct patience own = { .fd = t->fd }, twin = { .fd = self->fd };
	enum verdict verdict = TOO_LATE_TO_TELL;
	unsigned int i;

	for (i = 0; i < TRIES && verdict == TOO_LATE_TO_TELL; i++) {
		verdict = both_time_out(variant->twin_first ? &twin : &own,
					variant->twin_first ? &own : &twin,
					variant->read ? t : NULL);
		EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
		EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	}
	EXPECT_EQ(IN_ORDER, verdict);
}

TEST_HARNESS_MAIN
