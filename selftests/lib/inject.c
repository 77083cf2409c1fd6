// SPDX-License-Identifier: GPL-2.0-only
/* Faults on demand; see Documentation/fault-injection in the kernel's source. */
#define _GNU_SOURCE
#include "inject.h"
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define DEBUGFS "/sys/kernel/debug"
#define NTH "/proc/thread-self/fail-nth"

static void put(const char *path, const char *value)
{
	FILE *f = fopen(path, "we");

	if (!f || fputs(value, f) < 0 || fclose(f))
		err(1, "writing %s to %s", value, path);
}

static void put_text(const char *what, const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), DEBUGFS "/%s/%s", what, name);
	put(path, text);
}

static void put_number(const char *what, const char *name, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	put_text(what, name, text);
}

/* Does the kernel know this kind of fault, and whose it is? */
bool dmt_inject_able(const char *what)
{
	char path[128];

	/* It may be there already. */
	mount("debugfs", DEBUGFS, "debugfs", 0, NULL);
	snprintf(path, sizeof(path), DEBUGFS "/%s/require-start", what);
	return !access(path, W_OK);
}

/* Where the module's functions are. */
static void module_text(uint64_t *start, uint64_t *end)
{
	FILE *f = fopen("/proc/kallsyms", "re");
	char line[512], type, module[64];
	uint64_t at;

	if (!f)
		err(1, "/proc/kallsyms");
	*start = UINT64_MAX;
	*end = 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 " %c %*s [%63[^]]", &at, &type,
			   module) != 3 || strcmp(module, "dm_user") ||
		    (type != 't' && type != 'T'))
			continue;
		*start = at < *start ? at : *start;
		/* No function is as long as that. */
		*end = at + 4096 > *end ? at + 4096 : *end;
	}
	fclose(f);
	if (!*end)
		errx(1, "the module has no functions");
}

/**
 * dmt_inject() - let something fail at random from now on
 * @what: directory in debugfs
 * @percent: how often
 */
void dmt_inject(const char *what, unsigned int percent)
{
	put_number(what, "verbose", 0);
	put_number(what, "task-filter", 0);
	put_number(what, "interval", 1);
	put_text(what, "times", "-1");
	if (!strcmp(what, "failslab") || !strcmp(what, "fail_page_alloc"))
		put_number(what, "ignore-gfp-wait", 0);
	if (!strcmp(what, "failslab"))
		put_number(what, "cache-filter", 0);
	if (!strcmp(what, "fail_page_alloc"))
		put_number(what, "min-order", 0);
	put_number(what, "probability", percent);
}

/* Likewise, but only where the module called for it, be it by way of others. */
void dmt_inject_here(const char *what, unsigned int percent)
{
	uint64_t start, end;

	module_text(&start, &end);
	put_number(what, "require-start", start);
	put_number(what, "require-end", end);
	put_number(what, "stacktrace-depth", 32);
	dmt_inject(what, percent);
}

/* Nothing fails any more. */
void dmt_inject_stop(const char *what)
{
	put_number(what, "probability", 0);
	put_number(what, "require-start", 0);
	put_number(what, "require-end", UINT64_MAX);
}

/**
 * dmt_inject_own() - let allocations of the module's own objects fail
 * @which: of them, from now on
 *
 * What it has in reserve is there all the same.
 */
void dmt_inject_own(enum dmt_own which)
{
	static const char * const caches[] = { "dmu_remap", "dmu_change" };
	char path[128];
	unsigned int i;

	/* First: without the filter all allocations would fail. */
	put_number("failslab", "probability", 0);
	dmt_inject("failslab", 0);
	put_number("failslab", "cache-filter", 1);
	put_number("failslab", "ignore-gfp-wait", which == DMT_OWN_HURRIED);
	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/sys/kernel/slab/%s/failslab",
			 caches[i]);
		put(path, which == DMT_OWN_NONE ? "0" : "1");
	}
	if (which == DMT_OWN_HURRIED || which == DMT_OWN_ALL)
		put_number("failslab", "probability", 100);
}

/* Is the disk one whose I/O fail_make_request fails? */
void dmt_inject_disk(const struct dmt_disk *disk, bool on)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/block/%s/make-it-fail",
		 strrchr(disk->name, '/') + 1);
	put(path, on ? "1" : "0");
}

/*
 * Let the thread's nth chance of a fault that is injected, at 0 %, be taken; 0
 * takes that back.
 */
void dmt_fail_nth(unsigned int nth)
{
	char text[32];

	snprintf(text, sizeof(text), "%u", nth);
	put(NTH, text);
}

/* Has it been? Then it is over. */
bool dmt_nth_failed(void)
{
	FILE *f = fopen(NTH, "re");
	unsigned int left;

	if (!f || fscanf(f, "%u", &left) != 1)
		err(1, NTH);
	fclose(f);
	return !left;
}
