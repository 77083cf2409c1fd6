/* SPDX-License-Identifier: GPL-2.0-only */
/* Calls, mostly of dmsetup, that may have to wait, in a process of their own. */
#ifndef DMT_SUSPEND_H
#define DMT_SUSPEND_H

#include "dmt.h"

/**
 * struct dmt_call - a call under way
 * @pid: of the process
 * @pidfd: likewise
 */
struct dmt_call {
	pid_t pid;
	int pidfd;
};

enum dmt_verb { DMT_SUSPEND, DMT_SUSPEND_NOFLUSH, DMT_RESUME, DMT_REMOVE,
		DMT_FDATASYNC };

void dmt_call_begin(struct dmt_call *call, const struct dmt *t,
		    const char *name, enum dmt_verb verb);
bool dmt_call_ended(const struct dmt_call *call);
bool dmt_call_sleeps(const struct dmt_call *call);
bool dmt_call_waits(const struct dmt_call *call);
int dmt_call_result(struct dmt_call *call);

int dmt_suspend(const struct dmt *t, bool noflush);

#endif /* DMT_SUSPEND_H */
