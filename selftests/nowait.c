// SPDX-License-Identifier: GPL-2.0-only
/*
 * I/O that must not wait, of a device that is being suspended without a flush: it
 * does not wait for the resume.
 *
 * Device-mapper tells the lines of a table of it one after the other, and only then
 * takes no more I/O itself. The table has many, and the first is the one that is used.
 */
#define _GNU_SOURCE
#include "lib/fixture.h"
#include "lib/gate.h"
#include "lib/sysfs.h"
#include <err.h>
#include <sched.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#define LINES	DMT_BLOCKS
#define ROUNDS	80

/**
 * @t: each block of it has a line of its own
 * @begun: how many calls have
 * @ended: likewise
 * @rounds: suspensions during which a call has begun and ended
 * @hung: one has not, for as long as that could be waited for
 * @over: the last suspension is
 */
FIXTURE(lines)
{
	struct dmt t;
	unsigned int begun;
	unsigned int ended;
	unsigned int rounds;
	bool hung;
	bool over;
};

FIXTURE_SETUP(lines)
{
	struct dmt *t = &self->t;
	struct dmt_line lines[LINES];
	char params[256];
	unsigned int i;

	dmt_setup(t);
	dmt_params(t, params, sizeof(params));
	for (i = 0; i < LINES; i++)
		lines[i] = (struct dmt_line){ i * DMT_SECTORS, DMT_SECTORS,
					      "userspace", params };
	if (dmt_dm_load_lines(t->name, lines, LINES, false) ||
	    dmt_dm_resume(t->name))
		errx(1, "cannot give %s so many lines", t->name);
}

FIXTURE_TEARDOWN(lines)
{
	dmt_teardown(&self->t);
}

/* A block without a mapping, written or read with RWF_NOWAIT: 0 or a negative errno. */
static int call(FIXTURE_DATA(lines) *self, bool write)
{
	static uint8_t buf[DMT_BLOCK] __attribute__((aligned(DMT_BLOCK)));
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
	ssize_t n;

	__atomic_add_fetch(&self->begun, 1, __ATOMIC_SEQ_CST);
	n = write ? pwritev2(self->t.fd, &iov, 1, 0, RWF_NOWAIT) :
		    preadv2(self->t.fd, &iov, 1, 0, RWF_NOWAIT);
	n = n < 0 ? -errno : 0;
	__atomic_add_fetch(&self->ended, 1, __ATOMIC_SEQ_CST);
	return (int)n;
}

/* Has all ended that has begun by now, and one more call? */
static bool calls_end(FIXTURE_DATA(lines) *self)
{
	unsigned int begun = __atomic_load_n(&self->begun, __ATOMIC_SEQ_CST);
	struct timespec since, now;

	clock_gettime(CLOCK_MONOTONIC, &since);
	while ((int)(__atomic_load_n(&self->ended, __ATOMIC_SEQ_CST) - begun) <= 0) {
		sched_yield();
		clock_gettime(CLOCK_MONOTONIC, &now);
		if ((now.tv_sec - since.tv_sec) * 1000 >= DMT_PATIENCE)
			return false;
	}
	return true;
}

/* It is resumed only when the calls of before, and one of meanwhile, have ended. */
static void *suspend_often(void *arg)
{
	FIXTURE_DATA(lines) *self = arg;
	const char *name = self->t.name;
	unsigned int i, rounds = dmt_often(ROUNDS);

	for (i = 0; i < rounds && !self->hung; i++) {
		if (dmt_dm_suspend(name, true))
			errx(1, "cannot suspend %s", name);
		self->hung = !calls_end(self);
		if (dmt_dm_resume(name))
			errx(1, "cannot resume %s", name);
		self->rounds += !self->hung;
	}
	__atomic_store_n(&self->over, true, __ATOMIC_RELEASE);
	return NULL;
}

TEST_F_TIMEOUT(lines, io_that_must_not_wait_does_not_wait_for_a_resume, 120)
{
	struct dmt *t = &self->t;
	unsigned int i, wrong = 0;
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, suspend_often, self));
	for (i = 0; !__atomic_load_n(&self->over, __ATOMIC_ACQUIRE); i++)
		wrong += call(self, i % 2) != -EAGAIN;
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_FALSE(self->hung);
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(dmt_often(ROUNDS), self->rounds);
	/* They have asked for nothing. */
	EXPECT_TRUE(dmt_settled(t));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
}

TEST_HARNESS_MAIN
