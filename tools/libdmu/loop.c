// SPDX-License-Identifier: LGPL-2.1-or-later
/* Reading batches, and the loops around that. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

/* Bytes read; 0: the target is gone; -EAGAIN: nothing waits; other errors. */
static ssize_t read_batch(struct dmu *dmu)
{
	ssize_t len;

	do {
		len = read(dmu->fd, dmu->in, sizeof(dmu->in));
	} while (len < 0 && errno == EINTR);
	return len < 0 ? -errno : len;
}

/* Hand out what was read. Messages, or a negative errno and a sentence. */
static int hand_out(struct dmu *dmu, size_t len)
{
	struct dmui_msg msg;
	char why[sizeof(dmu->error)];
	size_t done = 0;
	ssize_t size;
	int n = 0, err;

	while (done < len) {
		size = dmui_decode(dmu->in + done, len - done, &msg, why,
				   sizeof(why));
		if (size < 0)
			return dmui_error(dmu, size, "%s", why);
		err = dmui_receive(dmu, &msg);
		if (err)
			return err;
		done += size;
		n++;
	}
	if (dmu->ops.batch)
		dmu->ops.batch(dmu, dmu->ctx);
	return n;
}

static int target_gone(struct dmu *dmu)
{
	dmu->ended = dmui_error(dmu, -ENODEV, "the target has been removed");
	if (dmu->ops.gone)
		dmu->ops.gone(dmu, dmu->ctx);
	return dmu->ended;
}

/*
 * One read, its callbacks, one write. As dmu_dispatch(). What was gathered before that
 * goes first: it knows nothing of what will have been read, of a discard for instance.
 */
static int dispatch(struct dmu *dmu)
{
	ssize_t len;
	int n = 0, err, refusal;

	err = dmui_flush(dmu, &refusal);
	if (err && err != -EAGAIN && err != -ENODEV)
		return err;
	len = read_batch(dmu);
	if (!len)
		return target_gone(dmu);
	if (len < 0 && len != -EAGAIN)
		return dmui_error(dmu, len, "cannot read from the kernel: %s",
				  strerror(-len));
	if (len > 0)
		n = hand_out(dmu, len);
	if (n < 0) {
		/* The rest of the batch is lost here, but not in the kernel. */
		dmu->ended = n;
		return n;
	}
	err = dmui_flush(dmu, &refusal);
	/* That the target is gone is for the next read to say, after the rest. */
	if (err && err != -EAGAIN && err != -ENODEV)
		return err;
	return n;
}

/**
 * dmu_dispatch() - read once what waits, hand it out, write the answers
 * @dmu: the connection
 *
 * Never blocks (unless a callback does). Answers gathered earlier are written
 * too. An answer that the kernel refuses is no failure of this function: it
 * has dmu_ops.refused.
 *
 * Return: messages handed out; 0: none waited; -ENODEV: the target has been
 * removed, after dmu_ops.gone, which is called once; -EPROTO: the kernel said
 * something that makes no sense, dmu_strerror() tells what, and the answers
 * gathered in this call were not written; -EBUSY: called by a callback; or an
 * errno of read() or write(). After -ENODEV and -EPROTO every call returns the
 * same.
 */
int dmu_dispatch(struct dmu *dmu)
{
	int ret;

	if (dmu->dispatching)
		return dmui_error(dmu, -EBUSY, "called from inside a callback");
	if (dmu->ended)
		return dmu->ended;
	dmu->dispatching = true;
	ret = dispatch(dmu);
	dmu->dispatching = false;
	return ret;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/**
 * dmu_handshake() - wait until the kernel has told its version, and what it does
 * @dmu: the connection
 * @timeout_ms: milliseconds to wait at most
 *
 * Shows that whoever is at the other end speaks the protocol. Optional:
 * dmu_run() and dmu_dispatch() work without. Requests that come first are
 * handed out as always, so the policy must be ready for them.
 *
 * Return: 0; -ETIMEDOUT; or an error of dmu_dispatch().
 */
int dmu_handshake(struct dmu *dmu, int timeout_ms)
{
	int64_t end = now_ms() + timeout_ms;
	struct pollfd fd = { .fd = dmu->fd };
	int64_t left;
	int n;

	while (!dmu->version_known || dmu->asking) {
		n = dmu_dispatch(dmu);
		if (n < 0)
			return n;
		if (n)
			continue;
		left = end - now_ms();
		if (left <= 0)
			return dmui_error(dmu, -ETIMEDOUT,
					  "the kernel does not tell its version");
		fd.events = dmu_events(dmu);
		poll(&fd, 1, left);
	}
	return 0;
}

/* Whether dmu_stop() was called since this was last asked. */
static bool stop_wanted(struct dmu *dmu)
{
	uint64_t times;

	return read(dmu->stop_fd, &times, sizeof(times)) == sizeof(times);
}

/**
 * dmu_run() - serve until stopped, or until the target is removed
 * @dmu: the connection
 *
 * What was gathered by the time of a stop is written.
 *
 * Return: 0 after dmu_stop(), and after dmu_ops.gone; or an error of
 * dmu_dispatch().
 */
int dmu_run(struct dmu *dmu)
{
	struct pollfd fds[] = {
		{ .fd = dmu->fd },
		{ .fd = dmu->stop_fd, .events = POLLIN },
	};
	int err, refusal;

	if (dmu->dispatching)
		return dmui_error(dmu, -EBUSY, "called from inside a callback");
	for (;;) {
		/* What keeps this from working, dmu_dispatch() will find. */
		dmui_flush(dmu, &refusal);
		if (stop_wanted(dmu))
			return 0;
		fds[0].events = dmu_events(dmu);
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return dmui_error(dmu, -errno, "poll: %s",
					  strerror(errno));
		err = dmu_dispatch(dmu);
		if (err == -ENODEV)
			return 0;
		if (err < 0)
			return err;
	}
}

/**
 * dmu_stop() - make dmu_run() return
 * @dmu: the connection
 *
 * May be called from a callback, a signal handler or another thread. Where
 * dmu_run() is not running, the next one returns at once.
 */
void dmu_stop(struct dmu *dmu)
{
	const uint64_t one = 1;
	int saved = errno;
	ssize_t ret;

	/* Fails only where the counter is full, and then it is set already. */
	ret = write(dmu->stop_fd, &one, sizeof(one));
	(void)ret;
	errno = saved;
}
