// SPDX-License-Identifier: GPL-2.0-only
/*
 * A simulated store device with a volatile cache: see sim.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sim.h"

/* The strictest alignment that the code has to keep: 4 KiB logical blocks. */
#define ALIGNMENT	4096u

ssize_t __real_pread64(int fd, void *buf, size_t len, off_t offset);
ssize_t __real_pwrite64(int fd, const void *buf, size_t len, off_t offset);
int __real_fdatasync(int fd);
ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t offset);
int __wrap_fdatasync(int fd);

static struct sim *selected;

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "sim: %s\n", what);
	abort();
}

uint64_t rnd(uint64_t *state)
{
	uint64_t x = *state ? *state : 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x * 0x2545f4914f6cdd1d;
}

uint64_t rnd_below(uint64_t *state, uint64_t n)
{
	return (rnd(state) >> 11) % n;
}

static void map_disk(struct sim *s)
{
	s->disk = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE,
		       s->private ? MAP_PRIVATE : MAP_SHARED, s->memfd, 0);
	must(s->disk != MAP_FAILED, "mmap");
}

static struct sim *sim_alloc(uint64_t bytes)
{
	struct sim *s = calloc(1, sizeof(*s));

	must(s, "calloc");
	s->bytes = bytes;
	strcpy(s->path, "./cow-sim-XXXXXX");
	s->fd = mkstemp(s->path);
	must(s->fd >= 0 && !ftruncate(s->fd, (off_t)bytes), "mkstemp");
	return s;
}

struct sim *sim_new(uint64_t bytes)
{
	struct sim *s = sim_alloc(bytes);

	s->memfd = memfd_create("cow-sim", MFD_CLOEXEC);
	must(s->memfd >= 0 && !ftruncate(s->memfd, (off_t)bytes), "memfd");
	map_disk(s);
	return s;
}

void sim_free(struct sim *s)
{
	size_t i;

	if (selected == s)
		selected = NULL;
	for (i = 0; i < s->nr; i++)
		free(s->pending[i].data);
	free(s->pending);
	munmap(s->disk, s->bytes);
	close(s->memfd);
	close(s->fd);
	unlink(s->path);
	free(s);
}

void sim_grow(struct sim *s, uint64_t bytes)
{
	must(!s->private, "a crashed store cannot grow");
	munmap(s->disk, s->bytes);
	s->bytes = bytes;
	must(!ftruncate(s->fd, (off_t)bytes) &&
	     !ftruncate(s->memfd, (off_t)bytes), "ftruncate");
	map_disk(s);
}

struct sim *sim_select(struct sim *s)
{
	struct sim *old = selected;

	selected = s;
	return old;
}

static void add_pending(struct sim *s, const void *buf, size_t len,
			uint64_t offset, bool metadata)
{
	struct sim_write *w;

	if (s->nr == s->room) {
		s->room = s->room ? 2 * s->room : 64;
		s->pending = realloc(s->pending, s->room * sizeof(*w));
		must(s->pending, "realloc");
	}
	w = &s->pending[s->nr++];
	*w = (struct sim_write) {
		.offset = offset, .len = len, .metadata = metadata,
	};
	w->data = malloc(len);
	must(w->data && offset + len <= s->bytes, "write beyond the store");
	memcpy(w->data, buf, len);
}

void sim_kernel_write(struct sim *s, const void *buf, size_t len,
		      uint64_t offset)
{
	add_pending(s, buf, len, offset, false);
}

void sim_read(const struct sim *s, void *buf, size_t len, uint64_t offset)
{
	size_t i;

	must(offset + len <= s->bytes, "read beyond the store");
	memcpy(buf, s->disk + offset, len);
	for (i = 0; i < s->nr; i++) {
		const struct sim_write *w = &s->pending[i];
		uint64_t from = w->offset > offset ? w->offset : offset;
		uint64_t to = w->offset + w->len < offset + len ?
			      w->offset + w->len : offset + len;

		if (from < to)
			memcpy((uint8_t *)buf + (from - offset),
			       w->data + (from - w->offset), to - from);
	}
}

/* What was lost is seen as it was, but for what a later write put over it. */
static void write_over(struct sim_write *lost, const struct sim_write *w)
{
	uint64_t from = w->offset > lost->offset ? w->offset : lost->offset;
	uint64_t to = w->offset + w->len < lost->offset + lost->len ?
		      w->offset + w->len : lost->offset + lost->len;

	if (from < to)
		memcpy(lost->data + (from - lost->offset),
		       w->data + (from - w->offset), to - from);
}

void sim_flush(struct sim *s)
{
	size_t i, j, kept = 0;

	for (i = 0; i < s->nr; i++) {
		struct sim_write w = s->pending[i];

		for (j = 0; j < kept; j++)
			write_over(&s->pending[j], &w);
		if (w.lost) {
			s->pending[kept++] = w;
			continue;
		}
		memcpy(s->disk + w.offset, w.data, w.len);
		free(w.data);
	}
	s->nr = kept;
}

uint8_t *sim_disk(struct sim *s, uint64_t offset)
{
	must(!s->nr && offset < s->bytes, "sim_disk: not flushed");
	return s->disk + offset;
}

/* Some of its sectors. */
static void keep_torn(struct sim *s, const struct sim_write *w, uint64_t *seed)
{
	uint64_t percent = rnd_below(seed, 101);
	size_t i;

	for (i = 0; i < w->len; i += SIM_SECTOR)
		if (rnd_below(seed, 100) < percent)
			memcpy(s->disk + w->offset + i, w->data + i,
			       SIM_SECTOR);
}

/*
 * What a machine finds after the power was cut: a private copy, with an empty
 * cache.
 */
struct sim *sim_crash(const struct sim *s, uint64_t seed)
{
	struct sim *crashed = sim_alloc(s->bytes);
	uint64_t weight = rnd_below(&seed, 101);
	size_t *order = calloc(s->nr + 1, sizeof(*order));
	size_t i;

	must(order && !s->private, "a copy of a copy");
	crashed->private = true;
	crashed->memfd = dup(s->memfd);
	map_disk(crashed);
	for (i = 0; i < s->nr; i++) {
		size_t j = rnd_below(&seed, i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	for (i = 0; i < s->nr; i++) {
		const struct sim_write *w = &s->pending[order[i]];

		if (w->lost)
			continue;
		if (!rnd_below(&seed, 3))
			keep_torn(crashed, w, &seed);
		else if (rnd_below(&seed, 100) < weight)
			memcpy(crashed->disk + w->offset, w->data, w->len);
	}
	free(order);
	return crashed;
}

/* Make a crashed store one that can go on, and crash again. */
void sim_adopt(struct sim *s)
{
	uint8_t *disk = s->disk;

	close(s->memfd);
	s->memfd = memfd_create("cow-sim", MFD_CLOEXEC);
	must(s->memfd >= 0 && !ftruncate(s->memfd, (off_t)s->bytes), "memfd");
	s->private = false;
	map_disk(s);
	memcpy(s->disk, disk, s->bytes);
	munmap(disk, s->bytes);
}

/* The policy reads from elsewhere, too: from the origin. */
static bool is_store(int fd)
{
	struct stat mine, st;

	return selected && !fstat(fd, &st) && !fstat(selected->fd, &mine) &&
	       st.st_ino == mine.st_ino && st.st_dev == mine.st_dev;
}

ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t offset)
{
	if (!is_store(fd))
		return __real_pread64(fd, buf, len, offset);
	must(!((uintptr_t)buf % ALIGNMENT) && !(len % ALIGNMENT) &&
	     !(offset % ALIGNMENT), "read not aligned");
	if ((uint64_t)offset + len > selected->bytes)
		return 0;
	errno = selected->bad_error ? selected->bad_error : EIO;
	if (selected->bad_sector >= (uint64_t)offset &&
	    selected->bad_sector < (uint64_t)offset + len &&
	    selected->bad_sector)
		return -1;
	sim_read(selected, buf, len, (uint64_t)offset);
	return (ssize_t)len;
}

static int fail_write(const void *buf, size_t len, uint64_t offset)
{
	size_t half = len / 2 / SIM_SECTOR * SIM_SECTOR;

	selected->fail_writes--;
	add_pending(selected, buf, half, offset, true);
	errno = EIO;
	return -1;
}

ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t offset)
{
	struct sim *s = selected;

	if (!s)
		return __real_pwrite64(fd, buf, len, offset);
	must(!((uintptr_t)buf % ALIGNMENT) && !(len % ALIGNMENT) &&
	     !(offset % ALIGNMENT), "write not aligned");
	errno = EIO;
	if (s->dead)
		return -1;
	s->writes++;
	if (s->fail_writes)
		return fail_write(buf, len, (uint64_t)offset);
	add_pending(s, buf, len, (uint64_t)offset, true);
	if (s->bad_sector - (uint64_t)offset < len)
		s->bad_sector = 0;
	if (s->event)
		s->event(s, SIM_WRITE, s->ctx);
	return (ssize_t)len;
}

/* A device that drops what it could not write, and goes on as if nothing was. */
static int fail_flush(struct sim *s)
{
	uint64_t seed = s->flushes * 77 + s->writes + 1;
	size_t i, kept = 0;

	s->fail_flushes--;
	for (i = 0; i < s->nr; i++) {
		bool lost = !rnd_below(&seed, 2);

		if (lost && !s->stays_readable) {
			free(s->pending[i].data);
			continue;
		}
		s->pending[i].lost |= lost;
		s->pending[kept++] = s->pending[i];
	}
	s->nr = kept;
	errno = EIO;
	return -1;
}

int __wrap_fdatasync(int fd)
{
	struct sim *s = selected;

	if (!s)
		return __real_fdatasync(fd);
	errno = EIO;
	if (s->dead)
		return -1;
	if (s->event)
		s->event(s, SIM_FLUSH, s->ctx);
	if (s->dead)
		return -1;
	s->flushes++;
	if (s->good_flushes)
		s->good_flushes--;
	else if (s->fail_flushes)
		return fail_flush(s);
	sim_flush(s);
	return 0;
}
