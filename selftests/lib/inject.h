/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Faults that a kernel with fault injection makes on demand: failslab,
 * fail_page_alloc, fail_usercopy, fail_make_request. They stop with the process,
 * by way of dmt_inject_stop() or, where it is killed, not at all.
 */
#ifndef DMT_INJECT_H
#define DMT_INJECT_H

#include "dmt.h"

/**
 * enum dmt_own - allocations of the module's own objects that fail
 * @DMT_OWN_NONE: of them
 * @DMT_OWN_NTH: those that dmt_fail_nth() says
 * @DMT_OWN_HURRIED: all that may not wait, as those of the I/O path may not
 * @DMT_OWN_ALL: of them
 */
enum dmt_own { DMT_OWN_NONE, DMT_OWN_NTH, DMT_OWN_HURRIED, DMT_OWN_ALL };

bool dmt_inject_able(const char *what);
void dmt_inject(const char *what, unsigned int percent);
void dmt_inject_here(const char *what, unsigned int percent);
void dmt_inject_stop(const char *what);
void dmt_inject_own(enum dmt_own which);
void dmt_inject_disk(const struct dmt_disk *disk, bool on);
void dmt_fail_nth(unsigned int nth);
bool dmt_nth_failed(void);

#endif /* DMT_INJECT_H */
