/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The fixture of tests that hold or fail I/O: like the one in fixture.h, with a
 * gate in front of both disks, and with a third disk that has none.
 */
#ifndef DMT_GATED_H
#define DMT_GATED_H

#include "fixture.h"
#include "gate.h"

FIXTURE(gated)
{
	struct dmt_gated g;
};

FIXTURE_SETUP(gated)
{
	dmt_gated_setup(&self->g);
}

FIXTURE_TEARDOWN(gated)
{
	dmt_gated_teardown(&self->g);
}

#endif /* DMT_GATED_H */
