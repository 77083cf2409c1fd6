// SPDX-License-Identifier: GPL-2.0-only
/* I/O that runs beside the test, a thread for each. */
#define _GNU_SOURCE
#include "dmt.h"
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/**
 * struct dmt_io - one system call, under way or over
 * @fd: opened with O_DIRECT
 * @op: what is done
 * @offset: bytes
 * @len: bytes
 * @buf: what is written, or was read
 * @thread: that does it
 * @lock: protects @done
 * @cond: signalled when @done is set
 * @done: @result is valid
 * @result: 0 or a negative errno
 */
struct dmt_io {
	int fd;
	enum dmt_op op;
	uint64_t offset;
	size_t len;
	void *buf;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	int result;
};

static int io_do(struct dmt_io *io)
{
	struct iovec iov = { .iov_base = io->buf, .iov_len = io->len };
	uint64_t range[2] = { io->offset, io->len };
	ssize_t n = 0;

	switch (io->op) {
	case DMT_READ:
		n = pread(io->fd, io->buf, io->len, (off_t)io->offset);
		break;
	case DMT_WRITE:
		n = pwrite(io->fd, io->buf, io->len, (off_t)io->offset);
		break;
	case DMT_WRITE_FUA:
		n = pwritev2(io->fd, &iov, 1, (off_t)io->offset, RWF_DSYNC);
		break;
	case DMT_FSYNC:
		return fdatasync(io->fd) ? -errno : 0;
	case DMT_DISCARD:
		return ioctl(io->fd, BLKDISCARD, range) ? -errno : 0;
	case DMT_ZEROOUT:
		return ioctl(io->fd, BLKZEROOUT, range) ? -errno : 0;
	}
	if (n < 0)
		return -errno;
	return (size_t)n == io->len ? 0 : -EIO;
}

static void *io_thread(void *arg)
{
	struct dmt_io *io = arg;
	int result = io_do(io);

	pthread_mutex_lock(&io->lock);
	io->result = result;
	io->done = true;
	pthread_cond_broadcast(&io->cond);
	pthread_mutex_unlock(&io->lock);
	return NULL;
}

/**
 * dmt_io() - begin an I/O
 * @fd: opened with O_DIRECT
 * @op: what to do
 * @offset: bytes
 * @len: bytes
 * @seed: writes: the version of the pattern; its number is that of the block
 *	of DMT_BLOCK bytes in which @offset lies
 *
 * Return: to be freed with dmt_io_free().
 */
struct dmt_io *dmt_io(int fd, enum dmt_op op, uint64_t offset, size_t len,
		      int seed)
{
	struct dmt_io *io = calloc(1, sizeof(*io));

	if (!io || posix_memalign(&io->buf, 4096, len ? len : 1))
		errx(1, "no memory");
	io->fd = fd;
	io->op = op;
	io->offset = offset;
	io->len = len;
	if (op == DMT_WRITE || op == DMT_WRITE_FUA)
		dmt_pattern(io->buf, len, offset / DMT_BLOCK, seed);
	pthread_mutex_init(&io->lock, NULL);
	pthread_cond_init(&io->cond, NULL);
	if (pthread_create(&io->thread, NULL, io_thread, io))
		errx(1, "no thread");
	return io;
}

/* Is it over? Does not wait. */
bool dmt_io_done(struct dmt_io *io)
{
	bool done;

	pthread_mutex_lock(&io->lock);
	done = io->done;
	pthread_mutex_unlock(&io->lock);
	return done;
}

/* Wait for its end: 0, a negative errno, or -ETIMEDOUT where it hangs. */
int dmt_io_wait(struct dmt_io *io)
{
	struct timespec limit;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += DMT_PATIENCE / 1000;
	pthread_mutex_lock(&io->lock);
	while (!io->done && !r)
		r = pthread_cond_timedwait(&io->cond, &io->lock, &limit);
	r = io->done ? io->result : -ETIMEDOUT;
	pthread_mutex_unlock(&io->lock);
	return r;
}

/* Wait for its end, free it; 0 or a negative errno. */
int dmt_io_result(struct dmt_io *io)
{
	int r = dmt_io_wait(io);

	dmt_io_free(io);
	return r;
}

/* After a read: is it the pattern of its block? */
bool dmt_io_matches(const struct dmt_io *io, int seed)
{
	uint8_t *want = malloc(io->len);
	bool same;

	if (!want)
		errx(1, "no memory");
	dmt_pattern(want, io->len, io->offset / DMT_BLOCK, seed);
	same = !memcmp(want, io->buf, io->len);
	free(want);
	return same;
}

/* One that hangs is left alone, with its thread: the test has failed by then. */
void dmt_io_free(struct dmt_io *io)
{
	if (!dmt_io_done(io))
		return;
	pthread_join(io->thread, NULL);
	free(io->buf);
	free(io);
}

/* Read a block of DMT_BLOCK bytes; is it that pattern? */
bool dmt_read_matches(int fd, uint64_t block, int seed)
{
	struct dmt_io *io = dmt_io(fd, DMT_READ, block * DMT_BLOCK, DMT_BLOCK,
				   0);
	int r = dmt_io_wait(io);
	bool same = !r && dmt_io_matches(io, seed);

	if (r)
		warnx("reading block %llu: %s", (unsigned long long)block,
		      strerror(-r));
	dmt_io_free(io);
	return same;
}

/* Write a block of DMT_BLOCK bytes: 0 or a negative errno. */
int dmt_write_block(int fd, uint64_t block, int seed)
{
	return dmt_io_result(dmt_io(fd, DMT_WRITE, block * DMT_BLOCK, DMT_BLOCK,
				    seed));
}
