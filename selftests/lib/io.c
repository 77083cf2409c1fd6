// SPDX-License-Identifier: GPL-2.0-only
/*
 * I/O that runs beside the test. Plain reads and writes are submitted from the
 * test itself, by way of the kernel's AIO: when dmt_io() returns, the mapped
 * device has seen them, and every device below that was not asked by somebody
 * else. All other system calls have a thread each.
 */
#define _GNU_SOURCE
#include "dmt.h"
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
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
 * @threaded: a thread does it, and not AIO
 * @thread: that does it
 * @iocb: what AIO was told
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
	bool threaded;
	pthread_t thread;
	struct iocb iocb;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	int result;
};

#define MAX_AIO 4096 /* under way at once */

/* A process that was forked has no AIO of its parent's. */
static pthread_mutex_t aio_lock = PTHREAD_MUTEX_INITIALIZER;
static aio_context_t aio;
static pid_t aio_pid;

static int io_verdict(const struct dmt_io *io, int64_t n)
{
	if (n < 0)
		return (int)n;
	return (size_t)n == io->len ? 0 : -EIO;
}

static void io_ended(struct dmt_io *io, int result)
{
	pthread_mutex_lock(&io->lock);
	io->result = result;
	io->done = true;
	pthread_cond_broadcast(&io->cond);
	pthread_mutex_unlock(&io->lock);
}

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
	return io_verdict(io, n < 0 ? -errno : n);
}

static void *io_thread(void *arg)
{
	struct dmt_io *io = arg;

	io_ended(io, io_do(io));
	return NULL;
}

/* --- AIO ------------------------------------------------------------------------- */

static void *aio_reaper(void *arg)
{
	struct io_event events[64];
	long i, nr;

	(void)arg;
	for (;;) {
		nr = syscall(SYS_io_getevents, aio, 1, 64, events, NULL);
		if (nr < 0 && errno != EINTR)
			err(1, "io_getevents");
		for (i = 0; i < nr; i++) {
			struct dmt_io *io = (void *)(uintptr_t)events[i].data;

			io_ended(io, io_verdict(io, events[i].res));
		}
	}
	return NULL;
}

static void aio_start(void)
{
	sigset_t all, old;
	pthread_t thread;

	pthread_mutex_lock(&aio_lock);
	if (aio_pid != getpid()) {
		aio = 0;
		if (syscall(SYS_io_setup, MAX_AIO, &aio))
			err(1, "io_setup");
		/* Signals are for the test. */
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		if (pthread_create(&thread, NULL, aio_reaper, NULL))
			errx(1, "no thread");
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		pthread_detach(thread);
		aio_pid = getpid();
	}
	pthread_mutex_unlock(&aio_lock);
}

/* Without O_DIRECT io_submit() would wait for the I/O's end. */
static bool aio_able(int fd, enum dmt_op op)
{
	return (op == DMT_READ || op == DMT_WRITE || op == DMT_WRITE_FUA) &&
	       fcntl(fd, F_GETFL) & O_DIRECT;
}

static void aio_submit(struct dmt_io *io)
{
	struct iocb *list[1] = { &io->iocb };

	aio_start();
	io->iocb.aio_data = (uintptr_t)io;
	io->iocb.aio_lio_opcode = io->op == DMT_READ ? IOCB_CMD_PREAD :
						       IOCB_CMD_PWRITE;
	io->iocb.aio_rw_flags = io->op == DMT_WRITE_FUA ? RWF_DSYNC : 0;
	io->iocb.aio_fildes = (uint32_t)io->fd;
	io->iocb.aio_buf = (uintptr_t)io->buf;
	io->iocb.aio_nbytes = io->len;
	io->iocb.aio_offset = (int64_t)io->offset;
	if (syscall(SYS_io_submit, aio, 1, list) != 1)
		io_ended(io, -errno);
}

static size_t whole_pages(size_t len)
{
	return (len + 4095) / 4096 * 4096;
}

static struct dmt_io *io_make(int fd, enum dmt_op op, uint64_t offset,
			      size_t len, int seed)
{
	struct dmt_io *io = calloc(1, sizeof(*io));
	bool data = op == DMT_READ || op == DMT_WRITE || op == DMT_WRITE_FUA;

	/*
	 * Nothing else in its pages: what another thread writes there while this one
	 * forks would have Linux 6.1 read into the child's copy.
	 */
	if (!io || posix_memalign(&io->buf, 4096, data ? whole_pages(len) : 1))
		errx(1, "no memory");
	io->fd = fd;
	io->op = op;
	io->offset = offset;
	io->len = len;
	if (op == DMT_WRITE || op == DMT_WRITE_FUA)
		dmt_pattern(io->buf, len, offset / DMT_BLOCK, seed);
	pthread_mutex_init(&io->lock, NULL);
	pthread_cond_init(&io->cond, NULL);
	return io;
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
	struct dmt_io *io = io_make(fd, op, offset, len, seed);

	io->threaded = !aio_able(fd, op);
	if (!io->threaded)
		aio_submit(io);
	else if (pthread_create(&io->thread, NULL, io_thread, io))
		errx(1, "no thread");
	return io;
}

/**
 * dmt_io_now() - begin an I/O, and return once the mapped device has seen it
 * @fd: opened with O_DIRECT
 * @op: DMT_READ, DMT_WRITE or DMT_WRITE_FUA
 * @offset: bytes
 * @len: bytes
 * @seed: as for dmt_io()
 *
 * Asynchronous I/O is submitted in the caller's context, and a mapped device
 * never makes the submitter wait: what has to ask for its block has done so.
 * dmt_io() does the same where it can; this is for who depends on it.
 *
 * Return: to be freed with dmt_io_free().
 */
struct dmt_io *dmt_io_now(int fd, enum dmt_op op, uint64_t offset, size_t len,
			  int seed)
{
	if (!aio_able(fd, op))
		errx(1, "that I/O cannot be submitted in the caller's context");
	return dmt_io(fd, op, offset, len, seed);
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

/* What was read, or is written. */
const void *dmt_io_buf(const struct dmt_io *io)
{
	return io->buf;
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

/* One that hangs is left alone, with its memory: the test has failed by then. */
void dmt_io_free(struct dmt_io *io)
{
	if (!dmt_io_done(io))
		return;
	if (io->threaded)
		pthread_join(io->thread, NULL);
	/* Whoever ended it may be about to unlock it. */
	pthread_mutex_lock(&io->lock);
	pthread_mutex_unlock(&io->lock);
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

/* Milliseconds of a clock that goes on: for how long something takes. */
uint64_t dmt_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
