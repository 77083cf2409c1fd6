/* SPDX-License-Identifier: GPL-2.0-only */
/* What the kernel's own tracepoints say, in a tracefs instance of a test's own. */
#ifndef DMT_TRACING_H
#define DMT_TRACING_H

#include "dmt.h"
#include <stdio.h>

/**
 * struct dmt_tracing - an instance
 * @dir: its directory; empty where the kernel has no tracefs
 * @marker: its trace_marker
 */
struct dmt_tracing {
	char dir[128];
	int marker;
};

bool dmt_tracing_make(struct dmt_tracing *tracing, const char *name);
void dmt_tracing_remove(struct dmt_tracing *tracing);
void dmt_tracing_on(const struct dmt_tracing *tracing, const char *event,
		    const char *filter);
void dmt_tracing_off(const struct dmt_tracing *tracing, const char *event);
void dmt_tracing_mark(const struct dmt_tracing *tracing, const char *word);
FILE *dmt_tracing_read(const struct dmt_tracing *tracing);

#endif /* DMT_TRACING_H */
