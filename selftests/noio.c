// SPDX-License-Identifier: GPL-2.0-only
/*
 * A daemon that needs memory. Who makes room for it must not wait for I/O, which
 * may be that of the daemon's own device: read and write allocate without; and
 * what of the daemon was paged out may be on that device.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/sysfs.h"
#include <err.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* --- what read and write may do for memory ------------------------------------------ */

#define TRACEFS "/sys/kernel/tracing"
#define PMD (2ul << 20) /* bytes that one page of a page table maps, or more */

/**
 * @t: as in most tests
 * @dir: a tracefs instance of its own; empty where the kernel has no tracefs
 * @marker: its trace_marker
 */
FIXTURE(traced)
{
	struct dmt t;
	char dir[128];
	int marker;
};

static bool put(const char *dir, const char *file, const char *value)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "we");
	return f && fputs(value, f) >= 0 && !fclose(f);
}

FIXTURE_SETUP(traced)
{
	char path[256], filter[64];
	struct stat st;

	dmt_setup(&self->t);
	if (stat(TRACEFS "/instances", &st) &&
	    mount("tracefs", TRACEFS, "tracefs", 0, NULL))
		return;
	snprintf(self->dir, sizeof(self->dir), TRACEFS "/instances/%s",
		 self->t.name);
	if (mkdir(self->dir, 0700))
		err(1, "%s", self->dir);
	snprintf(path, sizeof(path), "%s/trace_marker", self->dir);
	self->marker = open(path, O_WRONLY | O_CLOEXEC);
	snprintf(filter, sizeof(filter), "common_pid == %d", getpid());
	if (self->marker < 0 ||
	    !put(self->dir, "events/kmem/mm_page_alloc/filter", filter) ||
	    !put(self->dir, "events/kmem/mm_page_alloc/enable", "1"))
		errx(1, "cannot trace");
}

FIXTURE_TEARDOWN(traced)
{
	dmt_teardown(&self->t);
	if (!*self->dir)
		return;
	close(self->marker);
	if (rmdir(self->dir))
		warn("%s", self->dir);
}

/* A page that has no memory yet, nor has the page table that it needs. */
static void *fresh_page(int fd)
{
	char *p = mmap(NULL, 3 * PMD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	p = (char *)(((uintptr_t)p + PMD - 1) & ~(PMD - 1));
	p = mmap(p, 4096, PROT_READ | PROT_WRITE,
		 MAP_FIXED | MAP_PRIVATE | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
	if (p == MAP_FAILED)
		err(1, "mmap");
	return p;
}

static void mark(FIXTURE_DATA(traced) *self, const char *word)
{
	if (write(self->marker, word, strlen(word)) != (ssize_t)strlen(word))
		err(1, "trace_marker");
}

/* Could whoever asks for memory like that wait for I/O? */
static bool may_io(const char *flags)
{
	static const char * const names[] = {
		"GFP_KERNEL", "GFP_USER", "GFP_HIGHUSER", "GFP_TRANSHUGE",
		"GFP_NOFS", "__GFP_IO", "__GFP_FS",
	};
	unsigned int i;

	for (i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strstr(flags, names[i]))
			return true;
	return false;
}

/**
 * struct pages - allocated between two marks
 * @all: of them
 * @io: those for which I/O might be waited for
 */
struct pages {
	unsigned int all;
	unsigned int io;
};

static struct pages pages_between(FIXTURE_DATA(traced) *self, const char *begin,
				  const char *end)
{
	char path[256], line[1024];
	struct pages pages = { 0 };
	bool inside = false;
	FILE *f;

	snprintf(path, sizeof(path), "%s/trace", self->dir);
	f = fopen(path, "re");
	if (!f)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), f)) {
		const char *flags = strstr(line, "gfp_flags=");

		if (strstr(line, begin))
			inside = true;
		else if (strstr(line, end))
			inside = false;
		else if (inside && flags) {
			pages.all++;
			pages.io += may_io(flags);
			if (may_io(flags) && strcmp(begin, "touch-begins"))
				ksft_print_msg("%s", flags);
		}
	}
	fclose(f);
	return pages;
}

/* A file that holds an answer. */
static int answer_file(const struct dmu_msg_map_response *r)
{
	struct dmt_msg msg = { .header = {
		.msg_type = DM_USERSPACE_MAP_BLOCK_RESP,
		.payload_len = sizeof(*r) } };
	int fd = memfd_create("answer", MFD_CLOEXEC);

	memcpy(msg.bytes, r, sizeof(*r));
	if (fd < 0 || write(fd, &msg, sizeof(msg)) != sizeof(msg))
		err(1, "memfd");
	return fd;
}

TEST_F(traced, read_and_write_get_memory_without_io)
{
	const size_t request = sizeof(struct dmu_msg_header) +
			       sizeof(struct dmu_msg_map_request);
	const size_t answer = sizeof(struct dmu_msg_header) +
			      sizeof(struct dmu_msg_map_response);
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->origin, 3, 3, RO);
	struct dmu_msg_map_response r;
	struct pages pages;
	struct dmt_msg *msg;
	struct dmt_io *io;
	char *touched;
	ssize_t n;

	if (!*self->dir)
		SKIP(return, "this kernel has no tracefs");
	io = dmt_begin_read(t, 3);
	ASSERT_TRUE(dmt_readable(t->ctl, DMT_PATIENCE));
	msg = fresh_page(-1);
	mark(self, "read-begins");
	n = read(t->ctl, msg, 4096);
	mark(self, "read-ends");
	ASSERT_EQ(request, n);
	dmt_response(&r, msg->header.id, &map);
	msg = fresh_page(answer_file(&r));
	mark(self, "write-begins");
	n = write(t->ctl, msg, answer);
	mark(self, "write-ends");
	ASSERT_EQ(answer, n);
	EXPECT_EQ(0, dmt_io_result(io));
	/* What it would look like. */
	touched = fresh_page(-1);
	mark(self, "touch-begins");
	*(volatile char *)touched = 1;
	mark(self, "touch-ends");

	pages = pages_between(self, "touch-begins", "touch-ends");
	EXPECT_LT(0, pages.io);
	pages = pages_between(self, "read-begins", "read-ends");
	EXPECT_LT(0, pages.all);
	EXPECT_EQ(0, pages.io);
	pages = pages_between(self, "write-begins", "write-ends");
	EXPECT_LT(0, pages.all);
	EXPECT_EQ(0, pages.io);
}

/* --- a daemon that is paged out to its own device ----------------------------------------- */

#define PAGES 8u

/**
 * @t: its origin is a disk in memory that is not paged out
 * @able: there is such a disk
 * @path: of the mapped device
 */
FIXTURE(swapped)
{
	struct dmt t;
	bool able;
	char path[64];
};

/* As mkswap does. */
static void make_swap(int fd, uint32_t pages)
{
	uint8_t *header = aligned_alloc(4096, 4096);
	const uint32_t info[] = { 1, pages - 1, 0 };

	if (!header)
		errx(1, "no memory");
	memset(header, 0, 4096);
	memcpy(header + 1024, info, sizeof(info));
	memcpy(header + 4096 - 10, "SWAPSPACE2", 10);
	if (pwrite(fd, header, 4096, 0) != 4096)
		err(1, "mkswap");
	free(header);
}

FIXTURE_SETUP(swapped)
{
	struct dmt *t = &self->t;
	char params[128];
	uint64_t block;

	snprintf(t->name, sizeof(t->name), "dmt%d", getpid());
	/* What is written there has been by the time that this returns. */
	t->origin.loop = open("/dev/ram0", O_RDWR | O_CLOEXEC);
	self->able = t->origin.loop >= 0;
	if (!self->able)
		return;
	t->origin.dev = dmt_dev_of(t->origin.loop);
	snprintf(params, sizeof(params), "%s 4096 %u:%u", t->name,
		 major(t->origin.dev), minor(t->origin.dev));
	if (dmt_dm_create(t->name) ||
	    dmt_dm_load(t->name, 0, DMT_BLOCKS * DMT_SECTORS, "userspace",
			params) ||
	    dmt_dm_resume(t->name))
		errx(1, "cannot make the mapped device %s", t->name);
	t->fd = dmt_dm_open(t->name, O_RDWR | O_DIRECT);
	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	snprintf(self->path, sizeof(self->path), "/dev/mapper/%s", t->name);
	for (block = 0; block < DMT_BLOCKS; block++) {
		struct dmt_map map = dmt_plain(&t->origin, block, block, RW);

		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	}
	make_swap(t->fd, DMT_BLOCKS - 1);
}

FIXTURE_TEARDOWN(swapped)
{
	struct dmt *t = &self->t;

	if (!self->able)
		return;
	swapoff(self->path);
	close(t->ctl);
	close(t->fd);
	EXPECT_EQ(0, dmt_dm_remove(t->name));
	close(t->origin.loop);
}

static bool in_memory(void *p, size_t pages)
{
	unsigned char is[PAGES];
	size_t i;

	if (mincore(p, pages * 4096, is))
		err(1, "mincore");
	for (i = 0; i < pages; i++)
		if (is[i] & 1)
			return true;
	return false;
}

/*
 * A new page waits on the CPU that made it to be put where pages are reclaimed
 * from; MADV_PAGEOUT puts there those of its own CPU.
 */
static void stay_on_this_cpu(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		err(1, "staying on a CPU");
}

TEST_F(swapped, daemon_is_paged_in_from_the_device_that_it_serves)
{
	struct dmt *t = &self->t;
	const uint64_t last = DMT_BLOCKS - 1;
	struct dmt_map map = dmt_plain(&t->origin, last, last, RW);
	struct dmu_msg_map_response r;
	char *memory;
	struct dmt_msg *in, *out;
	struct dmt_io *io;

	if (!self->able)
		SKIP(return, "this kernel has no brd");
	if (swapon(self->path, SWAP_FLAG_PREFER | 1000))
		SKIP(return, "this kernel cannot swap");
	stay_on_this_cpu();
	memory = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, memory);
	in = (void *)(memory + 2 * 4096);
	out = (void *)(memory + 6 * 4096);
	memset(memory, 1, PAGES * 4096);

	/* The block behind what is swapped to; nobody may write it now. */
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 5, last));
	ASSERT_TRUE(dmt_expect_status(t->ctl, 5, DM_USERSPACE_INVAL_COMPLETE));
	io = dmt_begin_read(t, last);
	ASSERT_TRUE(dmt_readable(t->ctl, DMT_PATIENCE));
	ASSERT_EQ(0, madvise(memory, PAGES * 4096, MADV_PAGEOUT));
	EXPECT_FALSE(in_memory(in, 1));
	ASSERT_EQ(sizeof(in->header) + sizeof(in->request),
		  read(t->ctl, in, 4096));
	EXPECT_EQ(last, in->request.org_block);
	out->header = (struct dmu_msg_header){
		DM_USERSPACE_MAP_BLOCK_RESP, sizeof(out->response), 0 };
	dmt_response(&r, in->header.id, &map);
	memcpy(out->bytes, &r, sizeof(r));
	ASSERT_EQ(0, madvise(memory, PAGES * 4096, MADV_PAGEOUT));
	EXPECT_FALSE(in_memory(out, 1));
	ASSERT_EQ(sizeof(out->header) + sizeof(out->response),
		  write(t->ctl, out, sizeof(out->header) +
			sizeof(out->response)));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(1, memory[0]);
	EXPECT_EQ(0, swapoff(self->path));
	munmap(memory, PAGES * 4096);
}

TEST_HARNESS_MAIN
