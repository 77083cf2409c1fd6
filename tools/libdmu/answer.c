// SPDX-License-Identifier: LGPL-2.1-or-later
/* What a policy tells the kernel. Each of these gathers; dmu_flush() writes. */
#include <errno.h>
#include <sys/sysmacros.h>

#include "internal.h"

#define COPY_FLAGS (DMU_MAP_COPY | DMU_MAP_COPY_FROM)
#define MAP_FLAGS \
	(DMU_MAP_WRITE | COPY_FLAGS | DMU_MAP_TEMPORARY | DMU_MAP_SYNC | \
	 DMU_MAP_ZERO)

/**
 * dmui_send_version() - ask the kernel for its version, and write that at once
 * @dmu: the connection
 *
 * Return: as of dmu_flush().
 */
int dmui_send_version(struct dmu *dmu)
{
	struct dmui_msg msg = {
		.type = DM_USERSPACE_GET_VERSION,
		.id = DMUI_VERSION_ID,
		.version.userspace_ver = DMUI_VERSION,
	};
	int err = dmui_send(dmu, &msg);

	return err ? err : dmu_flush(dmu);
}

/**
 * dmui_send_extensions() - say which extensions are known
 * @dmu: the connection
 * @bits: DMU_EXT_*
 *
 * Return: as of dmui_send().
 */
int dmui_send_extensions(struct dmu *dmu, uint64_t bits)
{
	struct dmui_msg msg = {
		.type = DM_USERSPACE_EXTENSIONS,
		.id = DMUI_EXTENSIONS_ID,
		.extensions.bits = bits,
	};

	return dmui_send(dmu, &msg);
}

/**
 * dmui_send_failed() - tell the kernel that a request cannot be answered
 * @dmu: the connection
 * @id: the request's
 * @block: the block it was for
 *
 * Return: as of dmui_send().
 */
int dmui_send_failed(struct dmu *dmu, uint32_t id, uint64_t block)
{
	struct dmui_msg msg = {
		.type = DM_USERSPACE_MAP_FAILED,
		.id = id,
		.response = { .org_block = block, .id_of_req = id },
	};
	int err = dmui_send(dmu, &msg);

	if (!err)
		dmu->counters.failed++;
	return err;
}

/* What the wire calls the flags of dmu_mapping. */
static uint32_t wire_flags(unsigned int flags)
{
	uint32_t wire = DMU_FLAG_RD;

	if (flags & DMU_MAP_WRITE)
		wire |= DMU_FLAG_WR;
	if (flags & COPY_FLAGS)
		wire |= DMU_FLAG_COPY_FIRST;
	if (flags & DMU_MAP_TEMPORARY)
		wire |= DMU_FLAG_TEMPORARY;
	if (flags & DMU_MAP_SYNC)
		wire |= DMU_FLAG_SYNC;
	if (flags & DMU_MAP_ZERO)
		wire |= DMU_FLAG_ZERO;
	return wire;
}

static int check_mapping(struct dmu *dmu, const struct dmu_mapping *m)
{
	if (m->flags & ~MAP_FLAGS)
		return dmui_error(dmu, -EINVAL, "unknown flags %#x",
				  m->flags & ~MAP_FLAGS);
	if (m->flags & DMU_MAP_ZERO &&
	    m->flags & (DMU_MAP_WRITE | COPY_FLAGS | DMU_MAP_SYNC))
		return dmui_error(dmu, -EINVAL,
				  "DMU_MAP_ZERO goes with DMU_MAP_TEMPORARY at most");
	if ((m->flags & COPY_FLAGS) == DMU_MAP_COPY && !m->src)
		return dmui_error(dmu, -EINVAL,
				  "DMU_MAP_COPY without a device to copy from");
	if (m->flags & DMU_MAP_SYNC && !dmu->ops.sync)
		return dmui_error(dmu, -EINVAL,
				  "DMU_MAP_SYNC without dmu_ops.sync");
	return 0;
}

static bool is_block_start(const struct dmu *dmu, const struct dmu_mapping *m)
{
	return !(m->flags & DMU_MAP_COPY_FROM) ||
	       (m->src && m->src_sector == m->block << dmu->block_shift);
}

/* Blocks from that of @m on, and requests from @id on. */
static int send_mapping(struct dmu *dmu, uint32_t id,
			const struct dmu_mapping *m, uint64_t count)
{
	struct dmu_msg_run_response run = {
		.block = m->block,
		.count = count,
		.id_of_req = id,
		.flags = wire_flags(m->flags),
	};

	if (!dmu_has_runs(dmu) &&
	    (m->flags & DMU_MAP_ZERO || !is_block_start(dmu, m)))
		return dmui_error(dmu, -EOPNOTSUPP,
				  "this kernel knows of no zeroes, and copies from the same block only");
	if (!(m->flags & DMU_MAP_ZERO)) {
		run.dst_maj = major(m->dst);
		run.dst_min = minor(m->dst);
		run.dst_sector = m->dst_sector;
	}
	if (m->flags & COPY_FLAGS && m->src) {
		run.src_maj = major(m->src);
		run.src_min = minor(m->src);
		run.src_sector = m->flags & DMU_MAP_COPY_FROM ?
				 m->src_sector : m->block << dmu->block_shift;
	}
	return dmui_send_run(dmu, &run);
}

/* The block that the kernel wants an answer for, in *@block. */
static int asked(struct dmu *dmu, uint32_t id, uint64_t *block)
{
	const struct dmui_id *entry;
	int err = dmui_reserve(dmu);

	if (err)
		return err;
	entry = dmui_idmap_find(&dmu->requests, id);
	if (!entry || entry->state != DMUI_ASKED)
		return dmui_error(dmu, -ENOENT, "no request %u waits", id);
	*block = entry->block;
	return 0;
}

/**
 * dmu_map() - answer a request: here is the block
 * @dmu: the connection
 * @id: of the request, from dmu_ops.map; answered once
 * @m: where it is; m->block must be the request's. Copied
 *
 * The mapping stays until it is replaced, invalidated, or forgotten by the
 * kernel under memory pressure; then there will be another request. What the
 * kernel says of it is known after dmu_flush(): see dmu_ops.refused.
 *
 * Answers to requests that follow each other, given one after the other, go to the
 * kernel as one message where the places follow each other, too.
 *
 * Return: 0; -ENOENT: no such request waits; -EINVAL: another block than the
 * request's, flags that are unknown or do not go together, DMU_MAP_COPY without
 * src, or DMU_MAP_SYNC without dmu_ops.sync; -EOPNOTSUPP: the kernel is older than
 * what @m asks for, or has not said yet what it knows: see dmu_has_runs();
 * -ENODEV or -EPROTO: the connection has ended; -EAGAIN: as of dmu_flush(). After
 * an error the request still waits.
 */
int dmu_map(struct dmu *dmu, uint32_t id, const struct dmu_mapping *m)
{
	uint64_t block;
	int err;

	err = asked(dmu, id, &block);
	if (err)
		return err;
	if (m->block != block)
		return dmui_error(dmu, -EINVAL,
				  "request %u is for block %llu, not %llu", id,
				  (unsigned long long)block,
				  (unsigned long long)m->block);
	err = check_mapping(dmu, m);
	if (err)
		return err;
	err = send_mapping(dmu, id, m, 1);
	if (err)
		return err;
	if (m->flags & DMU_MAP_SYNC)
		dmui_idmap_put(&dmu->requests, id, block, DMUI_SYNC_GIVEN);
	else
		dmui_idmap_del(&dmu->requests, id);
	return 0;
}

/**
 * dmu_fail() - answer a request: the block cannot be had
 * @dmu: the connection
 * @id: of the request, from dmu_ops.map; answered once
 *
 * The I/O that waits ends with an I/O error. Later I/O to the block asks again.
 *
 * Return: 0; -ENOENT: no such request waits; -ENODEV or -EPROTO: the connection
 * has ended; -EAGAIN: as of dmu_flush(). After an error the request still
 * waits.
 */
int dmu_fail(struct dmu *dmu, uint32_t id)
{
	uint64_t block;
	int err;

	err = asked(dmu, id, &block);
	if (err)
		return err;
	err = dmui_send_failed(dmu, id, block);
	if (!err)
		dmui_idmap_del(&dmu->requests, id);
	return err;
}

static int check_push(struct dmu *dmu, const struct dmu_mapping *m)
{
	int err = check_mapping(dmu, m);

	if (!err && m->flags & DMU_MAP_SYNC)
		err = dmui_error(dmu, -EINVAL,
				 "DMU_MAP_SYNC needs a request to answer");
	return err;
}

/**
 * dmu_push() - install a mapping that nobody has asked for
 * @dmu: the connection
 * @m: where the block is; DMU_MAP_SYNC is not possible here. Copied
 *
 * Saves a request for a block that will be used soon, or replaces a mapping.
 * The kernel may have no memory for it: see dmu_ops.refused and dmu_flush().
 *
 * Return: 0; -EINVAL: flags that are unknown or do not go together, DMU_MAP_COPY
 * without src, or DMU_MAP_SYNC; -EOPNOTSUPP: as of dmu_map(); -ENODEV or -EPROTO:
 * the connection has ended; -EAGAIN: as of dmu_flush().
 */
int dmu_push(struct dmu *dmu, const struct dmu_mapping *m)
{
	int err = check_push(dmu, m);

	return err ? err : send_mapping(dmu, 0, m, 1);
}

/**
 * dmu_push_run() - install mappings of blocks that follow each other
 * @dmu: the connection
 * @m: where the first one is, as for dmu_push(); the others follow it, at their
 *	destination and where they are copied from
 * @count: how many
 *
 * As so many dmu_push(), which is what an older kernel, or one that has not said
 * yet what it knows, gets. To others it is one message, however many blocks: a
 * whole device can be pushed at once. Each block that the kernel refuses has
 * dmu_ops.refused; where that is -ENOMEM, those behind it have not been pushed
 * either, and are asked for when somebody needs them.
 *
 * Return: as of dmu_push(), and -ERANGE: the device has no such blocks, or @count
 * is 0. After -EAGAIN some may have been pushed.
 */
int dmu_push_run(struct dmu *dmu, const struct dmu_mapping *m, uint64_t count)
{
	uint64_t blocks = dmu_blocks(dmu);
	int err = check_push(dmu, m);

	if (err)
		return err;
	if (!count || m->block >= blocks || count > blocks - m->block)
		return dmui_error(dmu, -ERANGE,
				  "there are no %llu blocks from %llu on",
				  (unsigned long long)count,
				  (unsigned long long)m->block);
	return send_mapping(dmu, 0, m, count);
}

/**
 * dmu_invalidate() - take a mapping back
 * @dmu: the connection
 * @block: of the mapped device
 *
 * Later I/O to the block becomes a request. When everything that was sent
 * through any mapping of the block has come back, dmu_ops.invalidated is
 * called, and the place may be used for something else.
 *
 * Return: 0; -ENOMEM; -ENODEV or -EPROTO: the connection has ended; -EAGAIN: as
 * of dmu_flush().
 */
int dmu_invalidate(struct dmu *dmu, uint64_t block)
{
	struct dmui_msg msg = {
		.type = DM_USERSPACE_MAP_INVALIDATE,
		.invalidate.org_block = block,
	};
	int err = dmui_reserve(dmu);

	if (err)
		return err;
	do {
		msg.id = ++dmu->last_invalidation;
	} while (!msg.id || dmui_idmap_find(&dmu->invalidations, msg.id));
	if (dmui_idmap_put(&dmu->invalidations, msg.id, block, 0))
		return dmui_error(dmu, -ENOMEM,
				  "no memory to remember an invalidation");
	return dmui_send(dmu, &msg);
}

/**
 * dmu_sync_done() - the metadata is durable, let the I/O complete
 * @dmu: the connection
 * @id: from dmu_ops.sync; acknowledged once
 *
 * Return: 0; -ENOENT: nothing with this id is held; -ENODEV or -EPROTO: the
 * connection has ended; -EAGAIN: as of dmu_flush().
 */
int dmu_sync_done(struct dmu *dmu, uint32_t id)
{
	const struct dmui_id *entry;
	struct dmui_msg msg = {
		.type = DM_USERSPACE_STATUS,
		.id = id,
		.status = {
			.id_of_op = id,
			.status = DM_USERSPACE_SYNC_COMPLETE,
		},
	};
	int err = dmui_reserve(dmu);

	if (err)
		return err;
	entry = dmui_idmap_find(&dmu->requests, id);
	if (!entry || entry->state != DMUI_SYNC_REPORTED)
		return dmui_error(dmu, -ENOENT, "no I/O is held for id %u", id);
	dmui_send(dmu, &msg);
	dmui_idmap_del(&dmu->requests, id);
	dmu->counters.syncs++;
	return 0;
}
