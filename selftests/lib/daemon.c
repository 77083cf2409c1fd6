// SPDX-License-Identifier: GPL-2.0-only
/* A daemon by hand: the wire protocol, message by message. */
#define _GNU_SOURCE
#include "dmt.h"
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

int dmt_control_open(const char *name, int flags)
{
	char path[300];
	int fd;

	dmt_control_path(name, path, sizeof(path));
	fd = open(path, O_RDWR | O_CLOEXEC | flags);
	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

bool dmt_readable(int fd, int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, timeout_ms) == 1 && pfd.revents & POLLIN;
}

/* The next message; its length, 0 at the end, or a negative errno. */
ssize_t dmt_read_msg(int fd, struct dmt_msg *msg)
{
	ssize_t n;

	/* One at a time: with this much room not more than one fits. */
	memset(msg, 0, sizeof(*msg));
	n = read(fd, msg, sizeof(msg->header) + sizeof(msg->report));
	return n < 0 ? -errno : n;
}

/* Wait for the next message, which must be of that type. */
bool dmt_expect(int fd, uint32_t type, struct dmt_msg *msg)
{
	ssize_t n;

	if (!dmt_readable(fd, DMT_PATIENCE)) {
		warnx("waited in vain for a message of type %u", type);
		return false;
	}
	n = dmt_read_msg(fd, msg);
	if (n < (ssize_t)sizeof(msg->header) || msg->header.msg_type != type) {
		warnx("got message type %u (read: %zd), not %u",
		      msg->header.msg_type, n, type);
		return false;
	}
	return true;
}

/* Wait for a request for that block with those flags; its id, or 0. */
uint32_t dmt_expect_request(int fd, uint64_t block, uint32_t flags)
{
	struct dmt_msg msg;

	if (!dmt_expect(fd, DM_USERSPACE_MAP_BLOCK_REQ, &msg))
		return 0;
	if (msg.request.org_block != block || msg.request.flags != flags) {
		warnx("got a request for block %llu, flags %u, not %llu, %u",
		      (unsigned long long)msg.request.org_block,
		      msg.request.flags, (unsigned long long)block, flags);
		return 0;
	}
	return msg.header.id;
}

bool dmt_expect_status(int fd, uint32_t id, uint32_t status)
{
	struct dmt_msg msg;

	if (!dmt_expect(fd, DM_USERSPACE_STATUS, &msg))
		return false;
	if (msg.header.id == id && msg.status.id_of_op == id &&
	    msg.status.status == status)
		return true;
	warnx("got status %u of %u (header %u), not %u of %u",
	      msg.status.status, msg.status.id_of_op, msg.header.id, status, id);
	return false;
}

/* Nothing waits to be read now. */
bool dmt_silent(int fd)
{
	return !dmt_readable(fd, 0);
}

/* Bytes written, or a negative errno. */
ssize_t dmt_write_msg(int fd, uint32_t type, uint32_t id, const void *payload,
		      uint32_t len)
{
	struct dmt_msg msg = {
		.header = { .msg_type = type, .payload_len = len, .id = id },
	};
	ssize_t n;

	memcpy(msg.bytes, payload, len);
	n = write(fd, &msg, sizeof(msg.header) + len);
	return n < 0 ? -errno : n;
}

static int write_whole(int fd, uint32_t type, uint32_t id, const void *payload,
		       uint32_t len)
{
	ssize_t n = dmt_write_msg(fd, type, id, payload, len);

	return n == (ssize_t)(sizeof(struct dmu_msg_header) + len) ? 0 :
	       n < 0 ? (int)n : -EPROTO;
}

void dmt_response(struct dmu_msg_map_response *r, uint32_t id,
		  const struct dmt_map *map)
{
	memset(r, 0, sizeof(*r));
	r->org_block = map->block;
	r->new_block = map->to;
	r->offset = map->offset;
	r->id_of_req = id;
	r->flags = map->flags;
	if (map->src) {
		r->src_maj = major(map->src->dev);
		r->src_min = minor(map->src->dev);
	}
	if (map->dst) {
		r->dst_maj = major(map->dst->dev);
		r->dst_min = minor(map->dst->dev);
	}
}

/* Answer a request, or push a mapping where @id is 0. 0 or a negative errno. */
int dmt_map(int fd, uint32_t id, const struct dmt_map *map)
{
	struct dmu_msg_map_response r;

	dmt_response(&r, id, map);
	return write_whole(fd, DM_USERSPACE_MAP_BLOCK_RESP, id, &r, sizeof(r));
}

int dmt_fail(int fd, uint32_t id)
{
	struct dmu_msg_map_response r = { .id_of_req = id };

	return write_whole(fd, DM_USERSPACE_MAP_FAILED, id, &r, sizeof(r));
}

int dmt_sync_done(int fd, uint32_t id)
{
	struct dmu_msg_status s = {
		.id_of_op = id,
		.status = DM_USERSPACE_SYNC_COMPLETE,
	};

	return write_whole(fd, DM_USERSPACE_STATUS, id, &s, sizeof(s));
}

int dmt_invalidate(int fd, uint32_t id, uint64_t block)
{
	struct dmu_msg_invalidate_map i = { .org_block = block };

	return write_whole(fd, DM_USERSPACE_MAP_INVALIDATE, id, &i, sizeof(i));
}

/*
 * All that was written before this has been dealt with, and all that it gave
 * rise to at once can be read: ask for the version, and skip to the answer.
 */
bool dmt_barrier(int fd)
{
	struct dmu_msg_version v = { .userspace_ver = 1 };
	struct dmt_msg msg;

	return !write_whole(fd, DM_USERSPACE_GET_VERSION, 77, &v, sizeof(v)) &&
	       dmt_expect(fd, DM_USERSPACE_GET_VERSION, &msg);
}

/* --- several messages in one write ----------------------------------------------- */

void dmt_batch_add(struct dmt_batch *batch, uint32_t type, uint32_t id,
		   const void *payload, uint32_t len)
{
	struct dmu_msg_header header = {
		.msg_type = type, .payload_len = len, .id = id,
	};

	if (batch->len + sizeof(header) + len > sizeof(batch->bytes))
		errx(1, "a batch is full");
	memcpy(batch->bytes + batch->len, &header, sizeof(header));
	memcpy(batch->bytes + batch->len + sizeof(header), payload, len);
	batch->len += sizeof(header) + len;
}

void dmt_batch_map(struct dmt_batch *batch, uint32_t id,
		   const struct dmt_map *map)
{
	struct dmu_msg_map_response r;

	dmt_response(&r, id, map);
	dmt_batch_add(batch, DM_USERSPACE_MAP_BLOCK_RESP, id, &r, sizeof(r));
}

/* Bytes written, or a negative errno. */
ssize_t dmt_batch_write(int fd, const struct dmt_batch *batch)
{
	ssize_t n = write(fd, batch->bytes, batch->len);

	return n < 0 ? -errno : n;
}
