// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module's start fails half-way, at one of the allocations that it makes: it
 * leaves nothing behind, and the next attempt succeeds.
 *
 *	DMT_SCALE=n halfway
 */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/fixture.h"
#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>

#define DEBUGFS	"/sys/kernel/debug/"
#define NTH	"/proc/thread-self/fail-nth"

static bool put(const char *path, const char *value)
{
	FILE *f = fopen(path, "we");

	return f && fputs(value, f) >= 0 && !fclose(f);
}

/* --- which allocations fail ------------------------------------------------------------ */

static const char * const faults[] = {
	"failslab", "fail_page_alloc", "fail_usercopy", "fail_make_request",
};

/* A setting of all kinds of faults that this kernel has. */
static void faults_set(const char *name, const char *value)
{
	char path[128];
	unsigned int i;

	for (i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
		snprintf(path, sizeof(path), DEBUGFS "%s/%s", faults[i], name);
		if (!access(path, F_OK) && !put(path, value))
			err(1, "%s", path);
	}
}

/* Where a function of the kernel's begins, and where it ends: the next one. */
static bool find_text(const char *function, unsigned long long *from,
		      unsigned long long *to)
{
	FILE *f = fopen("/proc/kallsyms", "re");
	unsigned long long at;
	char line[512], name[256];

	*from = 0;
	*to = ~0ull;
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%llx %*c %255s", &at, name) == 2 &&
		    !strcmp(name, function))
			*from = at;
	rewind(f);
	while (*from && fgets(line, sizeof(line), f))
		if (sscanf(line, "%llx", &at) == 1 && at > *from && at < *to)
			*to = at;
	fclose(f);
	return *from && *to != ~0ull;
}

static void faults_set_text(const char *which, unsigned long long from,
			    unsigned long long to)
{
	char name[32], number[32];

	snprintf(name, sizeof(name), "%s-start", which);
	snprintf(number, sizeof(number), "0x%llx", from);
	faults_set(name, number);
	snprintf(name, sizeof(name), "%s-end", which);
	snprintf(number, sizeof(number), "0x%llx", to);
	faults_set(name, number);
}

/* Count the allocations of the module's start only; false where nothing can. */
static bool faults_prepare(void)
{
	unsigned long long from, to;

	/* It may be there already. */
	mount("debugfs", DEBUGFS, "debugfs", 0, NULL);
	if (access(NTH, F_OK) || access(DEBUGFS "failslab/require-start", F_OK) ||
	    /* Modules have many allocations before. */
	    !(find_text("do_one_initcall", &from, &to) ||
	      find_text("do_init_module", &from, &to)))
		return false;
	faults_set("verbose", "0");
	faults_set("task-filter", "0");
	faults_set("ignore-gfp-wait", "0");
	faults_set("ignore-gfp-highmem", "0");
	faults_set("min-order", "0");
	faults_set("cache-filter", "0");
	faults_set("stacktrace-depth", "32");
	faults_set_text("require", from, to);
	/* The kernel loses the name of a cache that it cannot show there. */
	if (find_text("sysfs_slab_add", &from, &to))
		faults_set_text("reject", from, to);
	return true;
}

static void faults_forget(void)
{
	faults_set_text("require", 0, ~0ull);
	faults_set_text("reject", 0, 0);
	faults_set("stacktrace-depth", "0");
	faults_set("ignore-gfp-wait", "1");
}

/* Insert the module; the n-th allocation fails. @left: so many were missing. */
static int insert_failing(unsigned int n, unsigned int *left)
{
	char number[32] = "";
	FILE *f;
	int r;

	snprintf(number, sizeof(number), "%u", n);
	if (!put(NTH, number))
		err(1, NTH);
	r = dmt_module_insert();
	f = fopen(NTH, "re");
	if (!f || !fgets(number, sizeof(number), f))
		err(1, NTH);
	fclose(f);
	*left = (unsigned int)atoi(number);
	if (!put(NTH, "0"))
		err(1, NTH);
	return r;
}

/* --- the test ----------------------------------------------------------------------------- */

FIXTURE(halfway)
{
	bool able;
};

FIXTURE_SETUP(halfway)
{
	ASSERT_TRUE(dmt_keys_are_gone());
	self->able = faults_prepare();
}

FIXTURE_TEARDOWN(halfway)
{
	if (self->able)
		faults_forget();
	if (dmt_module_refs() < 0) {
		EXPECT_EQ(0, dmt_module_insert());
	}
}

#define NEVER	1000000u /* allocations */
#define SECONDS	15

/* As many of them as there is time for: from the last one back, and any. */
static unsigned int next_to_fail(unsigned int i, unsigned int nr)
{
	return i % 2 ? 1 + (unsigned int)random() % nr : nr - i / 2;
}

/* Let the n-th allocation fail: is all as it must be? @failed: so did the start. */
static bool fails_well(unsigned int n, bool *failed)
{
	unsigned int left;
	int r = insert_failing(n, &left);

	*failed = r;
	/* The kernel may have had another way. */
	if (!r)
		r = dmt_module_remove();
	else if (r == -ENOMEM)
		r = 0;
	if (r)
		warnx("allocation %u: %s", n, strerror(-r));
	if (dmt_module_left())
		warnx("allocation %u: %s is left", n, dmt_module_left());
	/* There are not as many each time. */
	return !(left && *failed) && !r && !dmt_module_left();
}

TEST_F_TIMEOUT(halfway, start_that_fails_leaves_nothing_behind, 280)
{
	time_t until = time(NULL) + SECONDS * dmt_scale();
	unsigned int nr, i, left, failures = 0;
	bool failed;

	if (!self->able)
		SKIP(return, "this kernel cannot fail the n-th allocation");
	ASSERT_EQ(0, dmt_module_remove());
	ASSERT_EQ(0, insert_failing(NEVER, &left));
	nr = NEVER - left;
	ASSERT_NE(0, nr);
	ASSERT_EQ(0, dmt_module_remove());
	srandom((unsigned int)dmt_seed());
	for (i = 0; i < 2 * nr && (i < 10 || time(NULL) < until); i++) {
		ASSERT_TRUE(fails_well(next_to_fail(i, nr), &failed));
		failures += failed;
	}
	ksft_print_msg("%u of %u allocations, %u times there was no other way\n",
		       i, nr, failures);
	EXPECT_LT(0, failures);
	ASSERT_EQ(0, dmt_module_insert());
}

DMT_SCALED_MAIN
