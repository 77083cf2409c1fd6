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

#endif /* DMT_FIXTURE_H */
