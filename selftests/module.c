// SPDX-License-Identifier: GPL-2.0-only
/* The module comes and goes, and leaves nothing behind. */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/fixture.h"
#include "lib/sysfs.h"
#include <err.h>
#include <sched.h>

FIXTURE(module)
{
	struct dmt_disk disk;
};

FIXTURE_SETUP(module)
{
	ASSERT_TRUE(dmt_keys_are_gone());
	dmt_disk_open(&self->disk, DMT_BLOCKS * DMT_BLOCK, 0);
}

FIXTURE_TEARDOWN(module)
{
	dmt_disk_close(&self->disk);
	if (dmt_module_refs() < 0) {
		EXPECT_EQ(0, dmt_module_insert());
	}
	EXPECT_TRUE(dmt_keys_are_gone());
}

TEST_F_TIMEOUT(module, module_comes_and_goes_30_times, 150)
{
	struct dmt_brief b;
	unsigned int i, times = dmt_often(30);

	for (i = 0; i < times; i++) {
		if (i % 3) {
			dmt_brief_make(&b, "life", &self->disk);
			EXPECT_TRUE(dmt_brief_use(&b, i));
			EXPECT_EQ(-EWOULDBLOCK, dmt_module_remove());
			dmt_brief_remove(&b);
			EXPECT_EQ(-EWOULDBLOCK, dmt_module_remove());
			close(b.ctl);
		}
		/* At once, while what the key had is still being freed. */
		ASSERT_EQ(0, dmt_module_remove());
		EXPECT_EQ(NULL, dmt_module_left()) {
			TH_LOG("rmmod left %s behind", dmt_module_left());
		}
		ASSERT_EQ(0, dmt_module_insert());
	}
}

TEST_F(module, module_has_the_alias_by_which_a_table_loads_it)
{
	size_t len;
	const void *file = dmt_module_file(&len);

	EXPECT_NE(NULL, memmem(file, len, "alias=dm-userspace", 19));
}

static int load_second(const char *name, const struct dmt_brief *b)
{
	char params[128];

	snprintf(params, sizeof(params), "%s 4096 %u:%u", b->name,
		 major(b->disk->dev), minor(b->disk->dev));
	return dmt_dm_load(name, 0, DMT_BLOCKS * DMT_SECTORS, "userspace",
			   params);
}

/*
 * Memory may become free only when I/O of this very key is done: its worker must not
 * need any to come.
 */
TEST_F(module, each_key_has_a_thread_that_works_when_no_other_can_be_made)
{
	struct dmt_brief one, two;

	ASSERT_EQ(0, dmt_rescuers());
	dmt_brief_make(&one, "rescue-1", &self->disk);
	EXPECT_EQ(1, dmt_rescuers());
	/* Another table of the key has the same. */
	ASSERT_EQ(0, dmt_dm_create("rescue-1b"));
	ASSERT_EQ(0, load_second("rescue-1b", &one));
	EXPECT_EQ(1, dmt_rescuers());
	dmt_brief_make(&two, "rescue-2", &self->disk);
	EXPECT_EQ(2, dmt_rescuers());
	/* For as long as there is a table, or a daemon. */
	dmt_brief_remove(&one);
	close(one.ctl);
	EXPECT_EQ(2, dmt_rescuers());
	ASSERT_EQ(0, dmt_dm_remove("rescue-1b"));
	dmt_brief_remove(&two);
	EXPECT_LE(1, dmt_rescuers());
	close(two.ctl);
	EXPECT_TRUE(dmt_keys_are_gone());
}

struct loader {
	const struct dmt_disk *disk;
	bool stop;
	unsigned int tries; /* to remove or to insert the module */
	unsigned int loaded;
};

/* What the kernel runs to load a module, for a target that it does not know. */
static void set_modprobe(const char *path)
{
	FILE *f = fopen("/proc/sys/kernel/modprobe", "we");

	if (!f || fputs(path, f) < 0 || fclose(f))
		err(1, "/proc/sys/kernel/modprobe");
}

/* A table load may come at any moment of the module's coming and going. */
static void *load_tables(void *arg)
{
	struct loader *l = arg;
	char params[64];

	snprintf(params, sizeof(params), "race 4096 %u:%u",
		 major(l->disk->dev), minor(l->disk->dev));
	while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE)) {
		int r = dmt_dm_load("race", 0, 64, "userspace", params);
		unsigned int tries;

		l->loaded += !r;
		dmt_dm_clear("race");
		if (r && r != -EINVAL)
			errx(1, "loading a table: %s", strerror(-r));
		/* Once nobody uses the module, let it be tried at least once. */
		tries = __atomic_load_n(&l->tries, __ATOMIC_ACQUIRE);
		while (tries == __atomic_load_n(&l->tries, __ATOMIC_ACQUIRE) &&
		       !__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE))
			sched_yield();
	}
	return NULL;
}

TEST_F_TIMEOUT(module, tables_are_loaded_while_the_module_comes_and_goes, 150)
{
	struct loader l = { .disk = &self->disk };
	unsigned int removed = 0, loaded;
	pthread_t thread;
	int r;

	/* It would take most of the time, and find nothing. */
	set_modprobe("\n");
	ASSERT_EQ(0, dmt_dm_create("race"));
	ASSERT_EQ(0, pthread_create(&thread, NULL, load_tables, &l));
	while (removed < dmt_often(20)) {
		r = dmt_module_remove();
		__atomic_add_fetch(&l.tries, 1, __ATOMIC_RELEASE);
		ASSERT_TRUE(!r || r == -EWOULDBLOCK);
		if (r)
			continue;
		removed++;
		ASSERT_EQ(0, dmt_module_insert());
		/* A load meets the next removal, or has been before it. */
		loaded = __atomic_load_n(&l.loaded, __ATOMIC_ACQUIRE);
		do {
			__atomic_add_fetch(&l.tries, 1, __ATOMIC_RELEASE);
			sched_yield();
		} while (removed % 2 && loaded ==
			 __atomic_load_n(&l.loaded, __ATOMIC_ACQUIRE));
	}
	__atomic_store_n(&l.stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	set_modprobe("/sbin/modprobe\n");
	ASSERT_EQ(0, dmt_dm_remove("race"));
}

TEST_HARNESS_MAIN
