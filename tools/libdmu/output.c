// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What goes to the kernel: gathered while a batch is handed out, then written
 * in one call.
 *
 * The kernel takes whole messages until one is bad. Then write() is short, and
 * the next write(), which begins with the bad message, says what is wrong with
 * it. That one is reported and skipped, and the rest goes on. Of a run the kernel
 * does not say which block it would not take: see run.c.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "internal.h"

/* What one read can ask for fits, answered a message each, into one write. */
static_assert(DMUI_IN_SIZE / (sizeof(struct dmu_msg_header) +
			      sizeof(struct dmu_msg_map_request)) *
	      DMUI_MSG_MAX <= DMUI_OUT_SIZE, "a batch needs two writes");

static size_t pending(const struct dmu *dmu)
{
	return dmu->out_end - dmu->out_start;
}

/* What has been written makes room, but for the rest of a run that is split. */
static void move_up(struct dmu *dmu)
{
	size_t start = dmu->part_end ? DMUI_MSG_MAX : 0;

	if (dmu->out_start <= start)
		return;
	memmove(dmu->out + start, dmu->out + dmu->out_start, pending(dmu));
	if (dmu->part_end)
		dmu->part_end -= dmu->out_start - start;
	dmu->out_end = start + pending(dmu);
	dmu->out_start = start;
	dmu->run.count = 0;
}

/**
 * dmui_make_room() - the rest of dmui_reserve(), where it is not done at once
 * @dmu: the connection
 *
 * Return: as of dmui_reserve().
 */
int dmui_make_room(struct dmu *dmu)
{
	int refusal;

	if (dmu->ended)
		return dmui_error(dmu, dmu->ended, "the connection has ended");
	/* A refusal is about another message, and has had its callback. */
	if (!dmu->flushing)
		dmui_flush(dmu, &refusal);
	move_up(dmu);
	if (!dmui_has_room(dmu))
		return dmui_error(dmu, -EAGAIN,
				  "the kernel does not take the answers");
	return 0;
}

/**
 * dmui_send() - gather a message for the next write
 * @dmu: the connection
 * @msg: the message
 *
 * Return: as of dmui_reserve(), and always 0 right after a successful one.
 */
int dmui_send(struct dmu *dmu, const struct dmui_msg *msg)
{
	int err = dmui_reserve(dmu);

	dmu->run.count = 0;
	if (!err)
		dmu->out_end += dmui_encode(dmu->out + dmu->out_end, msg);
	return err;
}

/* A refused answer must not leave its request waiting for ever. */
static void answer_refused(struct dmu *dmu, uint32_t id, uint64_t block, int err)
{
	dmu->counters.mappings--;
	/* There is no memory for a single one, and nobody waits for the others. */
	if (!id && err == -ENOMEM) {
		dmu->counters.mappings -= dmu->split.count;
		dmu->split.count = 0;
	}
	if (id)
		dmui_idmap_del(&dmu->requests, id);
	if (dmu->part_end)
		dmui_split_fail(dmu, id, block);
	else if (id)
		/* There is room: the message refused has just left it. */
		dmui_send_failed(dmu, id, block);
}

static uint64_t mapping_refused(struct dmu *dmu,
				const struct dmu_msg_map_response *map, int err)
{
	answer_refused(dmu, map->id_of_req, map->org_block, err);
	dmui_error(dmu, err,
		   "the kernel refused to map block %llu to device %u:%u block %llu + %lld sectors, copied from %u:%u, flags %u: %s",
		   map->org_block, map->dst_maj, map->dst_min, map->new_block,
		   map->offset, map->src_maj, map->src_min, map->flags,
		   strerror(-err));
	return map->org_block;
}

/* Of a run of one block: who refuses more is asked again, for parts of it. */
static uint64_t run_refused(struct dmu *dmu,
			    const struct dmu_msg_run_response *run, int err)
{
	answer_refused(dmu, run->id_of_req, run->block, err);
	dmui_error(dmu, err,
		   "the kernel refused to map block %llu to device %u:%u sector %llu, copied from %u:%u sector %llu, flags %u: %s",
		   run->block, run->dst_maj, run->dst_min, run->dst_sector,
		   run->src_maj, run->src_min, run->src_sector, run->flags,
		   strerror(-err));
	return run->block;
}

static uint64_t other_refused(struct dmu *dmu, const struct dmui_msg *msg,
			      int err)
{
	const char *what = "an acknowledgment";
	uint64_t block = 0;

	if (msg->type == DM_USERSPACE_MAP_INVALIDATE) {
		dmui_idmap_del(&dmu->invalidations, msg->id);
		what = "to invalidate a block";
		block = msg->invalidate.org_block;
	} else if (msg->type == DM_USERSPACE_MAP_FAILED) {
		dmu->counters.failed--;
		what = "to fail a request";
		block = msg->response.org_block;
	} else if (msg->type == DM_USERSPACE_GET_VERSION) {
		what = "to tell its version";
	} else if (msg->type == DM_USERSPACE_EXTENSIONS) {
		dmu->asking = false;
		what = "to talk of extensions";
	}
	dmui_error(dmu, err, "the kernel refused %s (block %llu): %s", what,
		   (unsigned long long)block, strerror(-err));
	return block;
}

/* A message was refused for good: tell. */
static void tell_refused(struct dmu *dmu, const struct dmui_msg *msg, int err)
{
	uint64_t block;
	uint32_t id = 0;

	dmu->counters.refused++;
	if (msg->type == DM_USERSPACE_MAP_BLOCK_RESP) {
		id = msg->response.id_of_req;
		block = mapping_refused(dmu, &msg->response, err);
	} else if (msg->type == DM_USERSPACE_MAP_RUN_RESP) {
		id = msg->run_response.id_of_req;
		block = run_refused(dmu, &msg->run_response, err);
	} else {
		if (dmu->part_end) /* the failure of a part's request */
			dmui_split_next(dmu);
		block = other_refused(dmu, msg, err);
	}
	if (dmu->ops.refused)
		dmu->ops.refused(dmu, id, block, err, dmu->ctx);
}

/* The message at out_start was refused: step over it, and see what that means. */
static int skip_refused(struct dmu *dmu, int err, int *refusal)
{
	struct dmui_msg msg;
	char why[sizeof(dmu->error)];
	ssize_t len;

	len = dmui_decode(dmu->out + dmu->out_start, pending(dmu), &msg, why,
			  sizeof(why));
	if (len < 0) {
		/* A write that ended inside a message, which no device does. */
		dmu->ended = -EPROTO;
		return dmui_error(dmu, -EPROTO, "unsent messages are garbled");
	}
	dmu->out_start += len;
	if (msg.type == DM_USERSPACE_MAP_RUN_RESP &&
	    msg.run_response.count > 1) {
		dmui_split(dmu, &msg.run_response);
		return 0;
	}
	if (!*refusal)
		*refusal = err;
	tell_refused(dmu, &msg, err);
	return 0;
}

/* ENODEV is a device the table does not name, or the target's end. */
static bool hung_up(const struct dmu *dmu)
{
	struct pollfd fd = { .fd = dmu->fd };

	return poll(&fd, 1, 0) == 1 && fd.revents & POLLHUP;
}

/* write() failed with @err. 0: carry on; *@refusal may have been set. */
static int write_failed(struct dmu *dmu, int err, int *refusal)
{
	switch (err) {
	case -EINTR:
		return 0;
	case -EPIPE:
	case -ENODEV:
		if (err == -EPIPE || hung_up(dmu)) {
			dmu->out_start = dmu->out_end;
			dmu->split.count = 0;
			dmu->part_end = 0;
			return dmui_error(dmu, -ENODEV,
					  "the target has been removed");
		}
		err = -ENXIO;
		break;
	case -EINVAL:
	case -ERANGE:
	case -ENOMEM:
	case -EFAULT:
		break;
	default:
		return dmui_error(dmu, err, "cannot write to the kernel: %s",
				  strerror(-err));
	}
	return skip_refused(dmu, err, refusal);
}

/* One write: all there is, or the next part of a run that is split. */
static int write_once(struct dmu *dmu, int *refusal)
{
	size_t end = dmu->part_end ? dmu->part_end : dmu->out_end;
	ssize_t len;

	dmu->run.count = 0;
	len = write(dmu->fd, dmu->out + dmu->out_start, end - dmu->out_start);
	if (len <= 0)
		return write_failed(dmu, len ? -errno : -EIO, refusal);
	dmu->out_start += len;
	if (dmu->part_end && dmu->out_start == dmu->part_end)
		dmui_split_next(dmu);
	return 0;
}

/**
 * dmui_flush() - write what has been gathered
 * @dmu: the connection
 * @refusal: set to the error of the first message refused, or to 0
 *
 * Does nothing inside itself (a refused callback): the write under way takes
 * what was added.
 *
 * Return: 0 (refusals included); -ENODEV: the target is gone, and what was
 * gathered is dropped; -EAGAIN, or another error that is not about a message:
 * what is left stays gathered.
 */
int dmui_flush(struct dmu *dmu, int *refusal)
{
	int err = 0;

	*refusal = 0;
	if (dmu->flushing)
		return 0;
	dmu->flushing = true;
	while (pending(dmu) && !err)
		err = write_once(dmu, refusal);
	dmu->flushing = false;
	if (!pending(dmu)) {
		dmu->out_start = 0;
		dmu->out_end = 0;
	}
	return err;
}

/**
 * dmu_flush() - write what has been gathered
 * @dmu: the connection
 *
 * Not needed in a callback: dmu_dispatch() ends with one, in a single write
 * for the whole batch. Where the kernel refuses a message, the rest is written
 * all the same.
 *
 * Return: 0; the error of the first message that the kernel refused, -EINVAL,
 * -ENXIO (a device that the table does not name), -ERANGE or -ENOMEM, each
 * reported to dmu_ops.refused too; -ENODEV: the target has been removed;
 * -EAGAIN: the transport is full (never the control device), poll for
 * dmu_events(); another errno of write(): what is left stays gathered.
 */
int dmu_flush(struct dmu *dmu)
{
	int refusal;
	int err = dmui_flush(dmu, &refusal);

	return err ? err : refusal;
}
