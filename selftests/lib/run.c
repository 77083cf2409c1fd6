// SPDX-License-Identifier: GPL-2.0-only
/* A daemon by hand that is asked for, and maps, runs of blocks. */
#define _GNU_SOURCE
#include "run.h"
#include <err.h>
#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/**
 * dmt_inbox_next() - the next message, of as many as one read can bring
 * @in: its @fd is set, and the rest was 0 at first
 * @msg: gets it
 *
 * dmt_read_msg() gets one, which may be for many blocks.
 *
 * Return: false where none comes.
 */
bool dmt_inbox_next(struct dmt_inbox *in, struct dmt_msg *msg)
{
	ssize_t n;

	memset(msg, 0, sizeof(*msg));
	if (in->at == in->len) {
		if (!dmt_readable(in->fd, DMT_PATIENCE)) {
			warnx("waited in vain for a message");
			return false;
		}
		n = read(in->fd, in->bytes, sizeof(in->bytes));
		if (n <= 0)
			return false;
		in->len = (size_t)n;
		in->at = 0;
	}
	memcpy(&msg->header, in->bytes + in->at, sizeof(msg->header));
	in->at += sizeof(msg->header);
	memcpy(msg->bytes, in->bytes + in->at, msg->header.payload_len);
	in->at += msg->header.payload_len;
	return true;
}

/**
 * dmt_inbox_run() - the next message, which must ask for so many blocks
 * @in: what is read into
 * @block: the first
 * @count: how many; 1 is to be asked for as in 2006
 * @flags: DMU_FLAG_*
 *
 * Return: id of the first, or 0.
 */
uint32_t dmt_inbox_run(struct dmt_inbox *in, uint64_t block, uint32_t count,
		       uint32_t flags)
{
	struct dmu_msg_run_request run;
	struct dmt_msg msg;

	if (!dmt_inbox_next(in, &msg))
		return 0;
	memcpy(&run, &msg.run_request, sizeof(run));
	if (msg.header.msg_type == DM_USERSPACE_MAP_BLOCK_REQ) {
		run.block = msg.request.org_block;
		run.count = 1;
		run.flags = msg.request.flags;
	} else if (msg.header.msg_type != DM_USERSPACE_MAP_RUN_REQ ||
		   run.count < 2) {
		warnx("got message type %u, count %u", msg.header.msg_type,
		      run.count);
		return 0;
	}
	if (run.block == block && run.count == count && run.flags == flags)
		return msg.header.id;
	warnx("got a request for %u blocks from %llu on, flags %u, not %u from %llu, %u",
	      run.count, (unsigned long long)run.block, run.flags, count,
	      (unsigned long long)block, flags);
	return 0;
}

/* All of it was looked at, and nothing else waits now. */
bool dmt_inbox_empty(const struct dmt_inbox *in)
{
	return in->at == in->len && dmt_silent(in->fd);
}

/* Ask for extensions: are they granted? */
bool dmt_wants(int fd, uint64_t bits)
{
	const struct dmu_msg_extensions want = { .bits = bits };
	struct dmt_msg msg;

	return dmt_write_msg(fd, DM_USERSPACE_EXTENSIONS, 9, &want,
			     sizeof(want)) > 0 &&
	       dmt_expect(fd, DM_USERSPACE_EXTENSIONS, &msg) &&
	       msg.header.id == 9 && msg.extensions.bits == bits;
}

/* Blocks from @block on live at places from @place on. */
struct dmu_msg_run_response dmt_run(uint64_t block, uint64_t count,
				    const struct dmt_disk *dst, uint64_t place,
				    uint32_t flags)
{
	return (struct dmu_msg_run_response){
		.block = block,
		.count = count,
		.dst_sector = place * DMT_SECTORS,
		.flags = flags,
		.dst_maj = major(dst->dev),
		.dst_min = minor(dst->dev),
	};
}

/* They read as zeroes. */
struct dmu_msg_run_response dmt_run_zero(uint64_t block, uint64_t count)
{
	return (struct dmu_msg_run_response){
		.block = block,
		.count = count,
		.flags = DMU_FLAG_RD | DMU_FLAG_ZERO,
	};
}

/* They are copied from places of @src first; NULL: they are zeroes first. */
void dmt_run_copy(struct dmu_msg_run_response *r, const struct dmt_disk *src,
		  uint64_t place)
{
	r->flags |= DMU_FLAG_COPY_FIRST;
	r->src_sector = place * DMT_SECTORS;
	r->src_maj = src ? major(src->dev) : 0;
	r->src_min = src ? minor(src->dev) : 0;
}

/* Answer requests from @id on, or push where it is 0. 0 or a negative errno. */
int dmt_map_run(int fd, uint32_t id, struct dmu_msg_run_response r)
{
	ssize_t n;

	r.id_of_req = id;
	n = dmt_write_msg(fd, DM_USERSPACE_MAP_RUN_RESP, id, &r, sizeof(r));
	return n < 0 ? (int)n :
	       n == sizeof(struct dmu_msg_header) + sizeof(r) ? 0 : -EPROTO;
}
