// SPDX-License-Identifier: GPL-2.0-only
/* Tracepoints: each fires when it should, with the key, the block and the id. */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/run.h"
#include <dirent.h>
#include <err.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define TRACEFS "/sys/kernel/tracing"

/**
 * @g: as in most tests
 * @dir: a tracefs instance of its own; empty where the kernel has no tracefs
 */
FIXTURE(traced)
{
	struct dmt_gated g;
	char dir[128];
};

static void put(const char *dir, const char *file, const char *value)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "we");
	if (!f || fputs(value, f) < 0 || fclose(f))
		err(1, "%s", path);
}

FIXTURE_SETUP(traced)
{
	struct stat st;

	dmt_gated_setup(&self->g);
	if (stat(TRACEFS "/instances", &st) &&
	    mount("tracefs", TRACEFS, "tracefs", 0, NULL))
		return;
	snprintf(self->dir, sizeof(self->dir), TRACEFS "/instances/%s",
		 self->g.t.name);
	if (mkdir(self->dir, 0700))
		err(1, "%s", self->dir);
	put(self->dir, "events/dm_userspace/enable", "1");
}

FIXTURE_TEARDOWN(traced)
{
	dmt_gated_teardown(&self->g);
	if (*self->dir && rmdir(self->dir))
		warn("%s", self->dir);
}

#define NEEDS_TRACEFS() do { \
	if (!*self->dir) \
		SKIP(return, "this kernel has no tracefs"); \
} while (0)

/* Is @line "<task and time>: <event>"? */
static bool is_event(const char *line, const char *event)
{
	size_t all = strlen(line), len = strlen(event);

	return all > len + 2 && !strcmp(line + all - len, event) &&
	       !memcmp(line + all - len - 2, ": ", 2);
}

/* How often that has been traced, since the beginning or the last clear(). */
static unsigned int traced(FIXTURE_DATA(traced) *self, const char *name,
			   const char *fmt, ...)
{
	char path[256], event[512], line[1024];
	unsigned int nr = 0;
	va_list args;
	size_t used;
	FILE *f;

	used = (size_t)snprintf(event, sizeof(event), "dmu_%s: key=%s ", name,
				self->g.t.name);
	va_start(args, fmt);
	vsnprintf(event + used, sizeof(event) - used, fmt, args);
	va_end(args);
	snprintf(path, sizeof(path), "%s/trace", self->dir);
	f = fopen(path, "re");
	if (!f)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		nr += is_event(line, event);
	}
	fclose(f);
	return nr;
}

/* Forget what has been traced. */
static void clear(FIXTURE_DATA(traced) *self)
{
	put(self->dir, "trace", "");
}

/* How much has been traced. */
static unsigned int traced_all(FIXTURE_DATA(traced) *self)
{
	char path[256], line[1024];
	unsigned int nr = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/trace", self->dir);
	f = fopen(path, "re");
	if (!f)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), f))
		nr += *line != '#' && *line != '\n';
	fclose(f);
	return nr;
}

/* A mapping, as the tracepoints say it. */
static const char *said_of(const struct dmt_map *map, uint32_t id,
			   const char *flags)
{
	static char text[256];

	snprintf(text, sizeof(text),
		 "block=%llu id=%u dst=%u:%u sector=%lld flags=%s blocks=1",
		 (unsigned long long)map->block, id, major(map->dst->dev),
		 minor(map->dst->dev),
		 (long long)map->to * DMT_SECTORS + map->offset, flags);
	return text;
}

/* A tracepoint that is not in this list has no test. */
TEST_F(traced, all_tracepoints_are_known)
{
	static const char * const names[] = {
		"dmu_request_queued", "dmu_request_sent",
		"dmu_request_redelivered", "dmu_request_ended",
		"dmu_answered", "dmu_remap_installed", "dmu_remap_replaced",
		"dmu_remap_evicted", "dmu_remap_invalidated", "dmu_copy_begin",
		"dmu_copy_end", "dmu_sync_held", "dmu_sync_released",
	};
	const unsigned int nr = sizeof(names) / sizeof(*names);
	unsigned int i, seen = 0;
	struct dirent *entry;
	char path[256];
	DIR *dir;

	NEEDS_TRACEFS();
	snprintf(path, sizeof(path), "%s/events/dm_userspace", self->dir);
	dir = opendir(path);
	ASSERT_NE(NULL, dir);
	while ((entry = readdir(dir))) {
		if (strncmp(entry->d_name, "dmu_", 4))
			continue;
		for (i = 0; i < nr && strcmp(names[i], entry->d_name); i++)
			;
		EXPECT_GT(nr, i) {
			TH_LOG("there is no test of %s", entry->d_name);
		}
		seen++;
	}
	closedir(dir);
	EXPECT_EQ(nr, seen);
}

TEST_F(traced, request_and_its_answer)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->origin, 1, 1, RO);
	struct dmt_io *io;
	uint32_t id;

	NEEDS_TRACEFS();
	io = dmt_begin_read(t, 1);
	/* Which id it has nobody knows before it is read. */
	EXPECT_EQ(1, traced_all(self));
	id = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, id);
	EXPECT_EQ(1, traced(self, "request_queued", "block=1 id=%u r", id));
	EXPECT_EQ(1, traced(self, "request_sent", "block=1 id=%u r", id));
	EXPECT_EQ(2, traced_all(self));
	map.offset = 3;
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(1, traced(self, "answered", "%s", said_of(&map, id, "rd")));
	EXPECT_EQ(1, traced(self, "remap_installed", "%s",
			    said_of(&map, id, "rd")));
	EXPECT_EQ(4, traced_all(self));
	/* A hit is nothing that is worth a line. */
	EXPECT_EQ(0, dmt_io_result(dmt_begin_read(t, 1)));
	EXPECT_EQ(4, traced_all(self));
}

TEST_F(traced, request_that_a_write_has_joined)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 2, 7, RW);
	struct dmt_io *read, *write;
	uint32_t id;

	NEEDS_TRACEFS();
	read = dmt_begin_read(t, 2);
	write = dmt_write_part(t->fd, 2, 2);
	id = dmt_expect_request(t->ctl, 2, RW);
	ASSERT_NE(0, id);
	EXPECT_EQ(1, traced(self, "request_queued", "block=2 id=%u r", id));
	EXPECT_EQ(1, traced(self, "request_sent", "block=2 id=%u rw", id));
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(read));
	EXPECT_EQ(0, dmt_io_result(write));
	EXPECT_EQ(1, traced(self, "remap_installed", "%s",
			    said_of(&map, id, "rd|wr")));
}

TEST_F(traced, remap_that_is_pushed_replaced_invalidated_and_evicted)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->origin, 5, 5, RO);
	struct dmt_io *io;
	uint32_t id;

	NEEDS_TRACEFS();
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(1, traced(self, "answered", "%s", said_of(&map, 0, "rd")));
	EXPECT_EQ(1, traced(self, "remap_installed", "%s",
			    said_of(&map, 0, "rd")));
	io = dmt_begin_write(t, 5, 2);
	id = dmt_expect_request(t->ctl, 5, RW);
	ASSERT_NE(0, id);
	map = dmt_plain(&t->store, 5, 9, RW);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(1, traced(self, "remap_replaced", "%s",
			    said_of(&map, id, "rd|wr")));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 5));
	ASSERT_TRUE(dmt_expect_status(t->ctl, 42, DM_USERSPACE_INVAL_COMPLETE));
	EXPECT_EQ(1, traced(self, "remap_invalidated", "block=5 id=%u blocks=1",
			    id));

	/* Under the id that it was answered with; 0 where it was pushed. */
	io = dmt_begin_read(t, 5);
	id = dmt_expect_request(t->ctl, 5, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	map = dmt_plain(&t->origin, 6, 6, RO);
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	EXPECT_EQ(1, traced(self, "remap_evicted", "block=5 id=%u blocks=1", id));
	EXPECT_EQ(1, traced(self, "remap_evicted", "block=6 id=0 blocks=1"));
	/* What was not there was not invalidated. */
	clear(self);
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 43, 5));
	ASSERT_TRUE(dmt_expect_status(t->ctl, 43, DM_USERSPACE_INVAL_FAILED));
	EXPECT_EQ(0, traced_all(self));
}

/* Block @block and those after it are at the same place of the store. */
static const char *said_of_run(const struct dmt *t, uint64_t block,
			       unsigned int blocks)
{
	static char text[256];

	snprintf(text, sizeof(text),
		 "block=%llu id=0 dst=%u:%u sector=%llu flags=rd|wr blocks=%u",
		 (unsigned long long)block, major(t->store.dev),
		 minor(t->store.dev), (unsigned long long)block * DMT_SECTORS,
		 blocks);
	return text;
}

TEST_F(traced, how_many_blocks_come_and_go_at_once)
{
	struct dmt *t = &self->g.t;

	NEEDS_TRACEFS();
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS));
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, dmt_run(8, 17, &t->store, 8, RW)));
	EXPECT_EQ(1, traced(self, "answered", "%s", said_of_run(t, 8, 8)));
	EXPECT_EQ(1, traced(self, "remap_installed", "%s",
			    said_of_run(t, 8, 8)));
	EXPECT_EQ(1, traced(self, "remap_installed", "%s",
			    said_of_run(t, 16, 8)));
	EXPECT_EQ(1, traced(self, "remap_installed", "%s",
			    said_of_run(t, 24, 1)));
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, dmt_run_zero(32, 8)));
	EXPECT_EQ(1, traced(self, "remap_installed",
			    "block=32 id=0 dst=0:0 sector=256 flags=rd blocks=8"));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 9));
	ASSERT_TRUE(dmt_expect_status(t->ctl, 42, DM_USERSPACE_INVAL_COMPLETE));
	EXPECT_EQ(1, traced(self, "remap_invalidated",
			    "block=9 id=0 blocks=1"));
	clear(self);
	ASSERT_EQ(0, dmt_dm_message(t->name, "drop_idle"));
	EXPECT_EQ(1, traced(self, "remap_evicted", "block=8 id=0 blocks=1"));
	EXPECT_EQ(1, traced(self, "remap_evicted", "block=10 id=0 blocks=1"));
	EXPECT_EQ(1, traced(self, "remap_evicted", "block=16 id=0 blocks=8"));
	EXPECT_EQ(1, traced(self, "remap_evicted", "block=24 id=0 blocks=1"));
	EXPECT_EQ(1, traced(self, "remap_evicted", "block=32 id=0 blocks=8"));
	EXPECT_EQ(7 + 3, traced_all(self));
}

TEST_F(traced, remap_that_goes_with_its_device_or_with_its_use)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 3, 3, RW | TEMP);
	char params[128];

	NEEDS_TRACEFS();
	ASSERT_TRUE(dmt_wants(t->ctl, DMU_EXT_RUNS));
	ASSERT_EQ(0, dmt_map_run(t->ctl, 0, dmt_run(0, 24, &t->store, 0, RW)));
	clear(self);
	/* Nothing waits: it has no other meaning than that the block has no place. */
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(1, traced(self, "remap_invalidated",
			    "block=3 id=0 blocks=1"));
	clear(self);
	snprintf(params, sizeof(params), "%s %u %u:%u", t->name, DMT_BLOCK,
		 major(t->origin.dev), minor(t->origin.dev));
	ASSERT_EQ(0, dmt_dm_load(t->name, 0, DMT_BLOCKS * DMT_SECTORS,
				 "userspace", params));
	EXPECT_EQ(0, traced_all(self));
	ASSERT_EQ(0, dmt_dm_suspend(t->name, false));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	EXPECT_EQ(1, traced(self, "remap_invalidated",
			    "block=2 id=0 blocks=1"));
	EXPECT_EQ(1, traced(self, "remap_invalidated",
			    "block=8 id=0 blocks=8"));
	EXPECT_EQ(1, traced(self, "remap_invalidated",
			    "block=16 id=0 blocks=8"));
	EXPECT_EQ(7 + 2, traced_all(self));
}

TEST_F(traced, copy_and_its_failure)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_cow(t, 1, 4, RW);
	struct dmt_io *io;
	uint32_t id;

	NEEDS_TRACEFS();
	io = dmt_write_part(t->fd, 1, 2);
	id = dmt_expect_request(t->ctl, 1, RW);
	ASSERT_NE(0, id);
	dmt_gate_shut(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_counts(t->name, DMT_COPIES, 1));
	EXPECT_EQ(1, traced(self, "answered", "%s",
			    said_of(&map, id, "rd|wr|copy")));
	EXPECT_EQ(1, traced(self, "copy_begin", "block=1 id=%u", id));
	EXPECT_EQ(0, traced(self, "copy_end", "block=1 id=%u ok", id));
	dmt_gate_open(&self->g.store);
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(1, traced(self, "copy_end", "block=1 id=%u ok", id));

	clear(self);
	io = dmt_begin_read(t, 2);
	id = dmt_expect_request(t->ctl, 2, RO);
	ASSERT_NE(0, id);
	dmt_gate_break(&self->g.store);
	map = dmt_cow(t, 2, 5, RW);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_EQ(1, traced(self, "copy_begin", "block=2 id=%u", id));
	EXPECT_EQ(1, traced(self, "copy_end", "block=2 id=%u failed", id));
	EXPECT_EQ(0, traced(self, "copy_end", "block=2 id=%u ok", id));
}

TEST_F(traced, io_that_is_held_and_released)
{
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->store, 3, 4, RW | SYNC);
	struct dmt_io *io, *more;
	uint32_t id;

	NEEDS_TRACEFS();
	io = dmt_write_part(t->fd, 3, 2);
	more = dmt_begin_read(t, 3);
	id = dmt_expect_request(t->ctl, 3, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	ASSERT_TRUE(dmt_expect_status(t->ctl, id, DM_USERSPACE_SYNC_COMPLETE));
	/* Once, however much I/O it is. */
	ASSERT_TRUE(dmt_settled(t));
	EXPECT_EQ(1, traced(self, "sync_held", "block=3 id=%u", id));
	EXPECT_EQ(0, traced(self, "sync_released", "block=3 id=%u", id));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, dmt_io_result(more));
	EXPECT_EQ(1, traced(self, "sync_released", "block=3 id=%u", id));
}

TEST_F(traced, request_that_is_asked_again_or_ends_unanswered)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io, *other;
	uint32_t id, two;

	NEEDS_TRACEFS();
	io = dmt_begin_read(t, 1);
	id = dmt_expect_request(t->ctl, 1, RO);
	ASSERT_NE(0, id);
	EXPECT_EQ(0, traced(self, "request_redelivered", "block=1 id=%u", id));
	close(t->ctl);
	EXPECT_EQ(1, traced(self, "request_redelivered", "block=1 id=%u", id));
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	ASSERT_EQ(id, dmt_expect_request(t->ctl, 1, RO));
	EXPECT_EQ(1, traced(self, "request_queued", "block=1 id=%u r", id));
	EXPECT_EQ(2, traced(self, "request_sent", "block=1 id=%u r", id));
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_EQ(1, traced(self, "request_ended", "block=1 id=%u", id));

	/* By an administrator, and by a suspension. */
	io = dmt_begin_read(t, 2);
	two = dmt_expect_request(t->ctl, 2, RO);
	ASSERT_NE(0, two);
	ASSERT_EQ(0, dmt_dm_message(t->name, "fail_waiting"));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_EQ(1, traced(self, "request_ended", "block=2 id=%u", two));
	other = dmt_begin_read(t, 3);
	two = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, two);
	ASSERT_EQ(0, dmt_dm_suspend(t->name, true));
	EXPECT_EQ(1, traced(self, "request_ended", "block=3 id=%u", two));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	ASSERT_EQ(0, dmt_fail(t->ctl, dmt_expect_request(t->ctl, 3, RO)));
	EXPECT_EQ(-EIO, dmt_io_result(other));
	/* And because there was no time left. */
	ASSERT_EQ(0, dmt_dm_message(t->name, "request_timeout 1"));
	io = dmt_begin_read(t, 4);
	two = dmt_expect_request(t->ctl, 4, RO);
	ASSERT_NE(0, two);
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_EQ(1, traced(self, "request_ended", "block=4 id=%u", two));
}

TEST_HARNESS_MAIN
