// SPDX-License-Identifier: GPL-2.0-only
/*
 * A daemon that needs memory. Who makes room for it must not wait for I/O, which
 * may be that of the daemon's own device: read and write allocate without; and
 * what of the daemon was paged out may be on that device.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include "lib/sysfs.h"
#include "lib/tracing.h"
#include <err.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* --- what read and write may do for memory ------------------------------------------ */

#define PMD (2ul << 20) /* bytes that one page of a page table maps, or more */

/**
 * @g: as in many tests
 * @tracing: of what this thread does
 * @able: the kernel has such a thing
 * @filter: says so
 */
FIXTURE(traced)
{
	struct dmt_gated g;
	struct dmt_tracing tracing;
	bool able;
	char filter[64];
};

FIXTURE_SETUP(traced)
{
	dmt_gated_setup(&self->g);
	self->able = dmt_tracing_make(&self->tracing, self->g.t.name);
	snprintf(self->filter, sizeof(self->filter), "common_pid == %d",
		 getpid());
}

FIXTURE_TEARDOWN(traced)
{
	dmt_gated_teardown(&self->g);
	dmt_tracing_remove(&self->tracing);
}

#define NEEDS_TRACEFS() do { \
	if (!self->able) \
		SKIP(return, "this kernel has no tracefs"); \
} while (0)

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
	dmt_tracing_mark(&self->tracing, word);
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
	FILE *f = dmt_tracing_read(&self->tracing);
	struct pages pages = { 0 };
	bool inside = false;
	char line[1024];

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
	struct dmt *t = &self->g.t;
	struct dmt_map map = dmt_plain(&t->origin, 3, 3, RO);
	struct dmu_msg_map_response r;
	struct pages pages;
	struct dmt_msg *msg;
	struct dmt_io *io;
	char *touched;
	ssize_t n;

	NEEDS_TRACEFS();
	dmt_tracing_on(&self->tracing, "kmem/mm_page_alloc", self->filter);
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

/* --- what a write sets off ------------------------------------------------------------------ */

/* Bios that this thread has sent to any device between two marks. */
static unsigned int bios_between(FIXTURE_DATA(traced) *self, const char *begin,
				 const char *end)
{
	FILE *f = dmt_tracing_read(&self->tracing);
	bool inside = false;
	unsigned int nr = 0;
	char line[1024];

	while (fgets(line, sizeof(line), f)) {
		if (strstr(line, begin))
			inside = true;
		else if (strstr(line, end))
			inside = false;
		else
			nr += inside && strstr(line, ": block_bio_");
	}
	fclose(f);
	return nr;
}

/* Write between two marks. */
#define MARKED(write) ({ \
	int r_; \
	mark(self, "write-begins"); \
	r_ = (write); \
	mark(self, "write-ends"); \
	r_; \
})

/* Of each kind of thing that a daemon can bring about one, while no disk answers. */
static bool set_all_off(FIXTURE_DATA(traced) *self, struct dmt_io **io)
{
	struct dmt *t = &self->g.t;
	struct dmt_map known = dmt_plain(&t->store, 1, 1, RW);
	struct dmt_map held = dmt_plain(&self->g.spare, 2, 2, RW | SYNC);
	struct dmt_map hit = dmt_plain(&t->origin, 3, 3, RO);
	struct dmt_map cow = dmt_cow(t, 4, 4, RW);
	struct dmt_map pushed = dmt_cow(t, 5, 5, RW);
	struct dmt_map other = dmt_plain(&self->g.spare, 1, 6, RW);
	uint32_t id, sync;

	io[0] = dmt_write_part(t->fd, 2, 2);
	sync = dmt_expect_request(t->ctl, 2, RW);
	if (!sync || MARKED(dmt_map(t->ctl, sync, &held)) ||
	    !dmt_expect_status(t->ctl, sync, DM_USERSPACE_SYNC_COMPLETE) ||
	    MARKED(dmt_map(t->ctl, 0, &known)))
		return false;
	io[1] = dmt_begin_write(t, 1, 2);
	io[2] = dmt_begin_read(t, 3);
	id = dmt_expect_request(t->ctl, 3, RO);
	if (!id || MARKED(dmt_map(t->ctl, id, &hit)))
		return false;
	io[3] = dmt_write_part(t->fd, 4, 2);
	id = dmt_expect_request(t->ctl, 4, RW);
	if (!id || MARKED(dmt_map(t->ctl, id, &cow)) ||
	    MARKED(dmt_map(t->ctl, 0, &pushed)) ||
	    MARKED(dmt_map(t->ctl, 0, &other)) ||
	    MARKED(dmt_invalidate(t->ctl, 42, 1)))
		return false;
	io[4] = dmt_begin_read(t, 6);
	id = dmt_expect_request(t->ctl, 6, RO);
	if (!id || MARKED(dmt_fail(t->ctl, id)))
		return false;
	/* What was held is completed, though nothing else has come back yet. */
	return !MARKED(dmt_sync_done(t->ctl, sync)) && !dmt_io_result(io[0]) &&
	       dmt_io_result(io[4]) == -EIO;
}

TEST_F(traced, write_sends_no_io_and_waits_for_none)
{
	struct dmt *t = &self->g.t;
	struct dmt_io *io[5];
	unsigned int i;

	NEEDS_TRACEFS();
	dmt_gate_shut(&self->g.origin);
	dmt_gate_shut(&self->g.store);
	dmt_tracing_on(&self->tracing, "block/block_bio_queue", self->filter);
	dmt_tracing_on(&self->tracing, "block/block_bio_remap", self->filter);
	ASSERT_TRUE(set_all_off(self, io));
	for (i = 1; i < 4; i++)
		EXPECT_FALSE(dmt_io_done(io[i]));
	EXPECT_TRUE(dmt_silent(t->ctl));
	dmt_gate_open(&self->g.origin);
	dmt_gate_open(&self->g.store);
	for (i = 1; i < 4; i++)
		EXPECT_EQ(0, dmt_io_result(io[i]));
	ASSERT_TRUE(dmt_expect_status(t->ctl, 42, DM_USERSPACE_INVAL_COMPLETE));
	/* What it would look like. */
	mark(self, "io-begins");
	EXPECT_TRUE(dmt_read_matches(t->fd, 3, DMT_ORIGIN));
	mark(self, "io-ends");
	EXPECT_LT(1, bios_between(self, "io-begins", "io-ends"));
	EXPECT_EQ(0, bios_between(self, "write-begins", "write-ends"));
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
