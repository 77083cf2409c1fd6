/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The fixture of most tests: a mapped device of DMT_BLOCKS blocks over two
 * disks, resumed, and an open control device. Every block of the origin holds
 * the pattern of its number with DMT_ORIGIN; the store is all zero.
 */
#ifndef DMT_FIXTURE_H
#define DMT_FIXTURE_H

#include "dmt.h"
#include "kselftest_harness.h"
#include "settings.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define RW		(DMU_FLAG_RD | DMU_FLAG_WR)
#define RO		DMU_FLAG_RD
#define COPY		DMU_FLAG_COPY_FIRST
#define SYNC		DMU_FLAG_SYNC
#define TEMP		DMU_FLAG_TEMPORARY

FIXTURE(dm)
{
	struct dmt t;
};

FIXTURE_SETUP(dm)
{
	dmt_setup(&self->t);
}

FIXTURE_TEARDOWN(dm)
{
	dmt_teardown(&self->t);
}

/*
 * A test's limit is one for what it does unasked: all of this program's become so
 * many times as long, and so many seconds longer.
 */
static inline void dmt_extend_limits(unsigned int factor, uint64_t seconds)
{
	struct __fixture_metadata *f;
	struct __test_metadata *t;

	for (f = __fixture_list; f; f = f->next)
		for (t = f->tests; t; t = t->next)
			t->timeout = t->timeout * (int)factor + (int)seconds;
}

/* TEST_HARNESS_MAIN of those that DMT_SCALE makes longer. */
#define DMT_SCALED_MAIN \
	int main(int argc, char **argv) \
	{ \
		dmt_extend_limits(dmt_scale(), 0); \
		return test_harness_run(argc, argv); \
	}

#endif /* DMT_FIXTURE_H */
