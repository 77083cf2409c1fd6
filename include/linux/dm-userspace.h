/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR LGPL-2.1-or-later */
/*
 * dm-userspace wire protocol: what passes over /dev/dm-userspaceN.
 *
 * This is the only header that the kernel module and user space share. It
 * describes the protocol first published for dm-userspace in July 2006; sizes,
 * offsets, numbers and meanings never change. Its exchanges, and what each
 * flag promises, are described in Documentation/protocol.rst.
 *
 * The control device carries a byte stream of messages in both directions. A
 * message is a struct dmu_msg_header followed by exactly payload_len bytes.
 * Integers are in host byte order. There is no padding between messages, so a
 * payload may start at any byte offset: always copy it out, never cast.
 */
#ifndef _LINUX_DM_USERSPACE_H
#define _LINUX_DM_USERSPACE_H

#include <linux/types.h>

/* Message types: dmu_msg_header.msg_type. */
#define DM_USERSPACE_GET_VERSION	1 /* daemon asks, kernel answers: version */
#define DM_USERSPACE_MAP_BLOCK_REQ	2 /* kernel to daemon: map_request */
#define DM_USERSPACE_MAP_BLOCK_RESP	3 /* daemon to kernel: map_response */
#define DM_USERSPACE_MAP_FAILED		4 /* daemon to kernel: map_response */
#define DM_USERSPACE_MAP_INVALIDATE	5 /* daemon to kernel: invalidate_map */
#define DM_USERSPACE_STATUS		6 /* both directions: status */

/*
 * Extensions, newer than 2006. A daemon that knows any sends EXTENSIONS with
 * the bits of all that it knows; the answer, with the same header id, has the
 * bits of those that are on from now on, for this open file. It never gets a
 * message of an extension that it has not asked for. Asking again replaces
 * what was asked for before; a bit that the kernel does not know stays off.
 */
#define DM_USERSPACE_EXTENSIONS		7 /* daemon asks, kernel answers */
#define DM_USERSPACE_REPORT		8 /* kernel to daemon: report */
#define DM_USERSPACE_DISCARD		9 /* kernel to daemon: discard */
#define DM_USERSPACE_MAP_RUN_REQ	10 /* kernel to daemon: run_request */
#define DM_USERSPACE_MAP_RUN_RESP	11 /* daemon to kernel: run_response */

#define DMU_EXT_REPORTS		1ULL /* it is told of failures */
#define DMU_EXT_DISCARD		2ULL /* it is told of discards */
#define DMU_EXT_RUNS		4ULL /* it is asked for, and may map, runs of blocks */

/* What a report says: dmu_msg_report.report. */
#define DMU_REPORT_COPY_FAILED	1 /* tried again, if not -ENODEV or -ESTALE */
#define DMU_REPORT_IO_FAILED	2 /* I/O that began in the block, at its place */
#define DMU_REPORT_TIMED_OUT	3 /* a request that this daemon had read */
#define DMU_REPORT_LOST		4 /* @block reports found no room */

/* Status codes: dmu_msg_status.status. */
#define DM_USERSPACE_INVAL_COMPLETE	101 /* the invalidation is done */
#define DM_USERSPACE_INVAL_FAILED	102 /* nothing there, or a copy it owed was not made */
#define DM_USERSPACE_SYNC_COMPLETE	103 /* see DMU_FLAG_SYNC */

/*
 * Flags. A daemon sets RD, WR, COPY_FIRST, TEMPORARY and SYNC, and ZERO in a
 * MAP_RUN_RESP; the kernel sets RD and WR in requests. VALID, INUSE and WAITING are
 * the kernel's own: they are ignored when received. Any other bit rejects the
 * message.
 */
#define DMU_FLAG_VALID		1
#define DMU_FLAG_RD		2   /* block is (to be) readable */
#define DMU_FLAG_WR		4   /* block is (to be) writable */
#define DMU_FLAG_COPY_FIRST	8   /* copy from src before any I/O uses it */
#define DMU_FLAG_TEMPORARY	16  /* serves the I/O waiting now, no other */
#define DMU_FLAG_INUSE		32
#define DMU_FLAG_SYNC		64  /* hold the I/O until metadata is safe */
#define DMU_FLAG_WAITING	128
#define DMU_FLAG_ZERO		256 /* MAP_RUN_RESP only: blocks read as zeroes */

/**
 * struct dmu_msg_header - precedes every message
 * @msg_type: DM_USERSPACE_*
 * @payload_len: bytes that follow; fixed by @msg_type
 * @id: of a request, never 0; echoed by the answers to GET_VERSION and EXTENSIONS;
 *	of a STATUS, equal to its id_of_op, which of an invalidation is the id of the
 *	MAP_INVALIDATE; of a REPORT and a DISCARD, 0
 */
struct dmu_msg_header {
	__u32 msg_type;
	__u32 payload_len;
	__u32 id;
};

/**
 * struct dmu_msg_version - GET_VERSION, both ways
 * @userspace_ver: whatever the daemon sent, echoed
 * @kernel_ver: major << 16 | minor << 8 | patch of the target
 */
struct dmu_msg_version {
	__u32 userspace_ver;
	__u32 kernel_ver;
};

/**
 * struct dmu_msg_status - STATUS, both ways
 * @id_of_op: what this is about; equal to the header's id
 * @status: DM_USERSPACE_INVAL_* or DM_USERSPACE_SYNC_COMPLETE
 */
struct dmu_msg_status {
	__u32 id_of_op;
	__u32 status;
};

/**
 * struct dmu_msg_map_request - MAP_BLOCK_REQ, kernel to daemon
 * @org_block: block of the mapped device, counted from its sector 0
 * @flags: DMU_FLAG_RD, and DMU_FLAG_WR where the block is to be written
 * @padding: zero; makes the layout the same for 32-bit and 64-bit daemons
 */
struct dmu_msg_map_request {
	__u64 org_block;
	__u32 flags;
	__u32 padding;
};

/**
 * struct dmu_msg_map_response - MAP_BLOCK_RESP and MAP_FAILED, daemon to kernel
 * @org_block: block of the mapped device
 * @new_block: block of the destination device
 * @offset: added to the destination, in sectors of 512 bytes
 * @id_of_req: header id of the request answered; 0 where nobody asked
 * @flags: DMU_FLAG_*
 * @src_maj: COPY_FIRST only: device to copy block @org_block from
 * @src_min: minor number of the same
 * @dst_maj: destination device
 * @dst_min: minor number of the same
 *
 * dst sector = (new_block << block_shift) + (s & (block_size - 1)) + offset
 */
struct dmu_msg_map_response {
	__u64 org_block;
	__u64 new_block;
	__s64 offset;
	__u32 id_of_req;
	__u32 flags;
	__u32 src_maj;
	__u32 src_min;
	__u32 dst_maj;
	__u32 dst_min;
};

/**
 * struct dmu_msg_invalidate_map - MAP_INVALIDATE, daemon to kernel
 * @org_block: block whose remap is to be dropped
 */
struct dmu_msg_invalidate_map {
	__u64 org_block;
};

/**
 * struct dmu_msg_extensions - EXTENSIONS, both ways
 * @bits: DMU_EXT_*
 */
struct dmu_msg_extensions {
	__u64 bits;
};

/**
 * struct dmu_msg_report - REPORT, kernel to daemon; header id 0
 * @block: block of the mapped device; LOST: how many reports are missing
 * @id_of_req: id of the request that this is about, or 0
 * @report: DMU_REPORT_*
 * @error: a negative errno, or 0
 * @padding: zero
 */
struct dmu_msg_report {
	__u64 block;
	__u32 id_of_req;
	__u32 report;
	__s32 error;
	__u32 padding;
};

/**
 * struct dmu_msg_discard - DISCARD, kernel to daemon; header id 0
 * @block: first block of the mapped device whose contents nobody needs
 * @count: how many blocks in a row
 *
 * The kernel has forgotten where they are, so that the next I/O asks; such a
 * request is read after this message. A daemon that wants to free their places
 * sends MAP_INVALIDATE for each and waits for its STATUS, as always. It may
 * as well do nothing. Only the one daemon of a device is told, and not of
 * everything: a discard is a hint.
 */
struct dmu_msg_discard {
	__u64 block;
	__u64 count;
};

/**
 * struct dmu_msg_run_request - MAP_RUN_REQ, kernel to daemon
 * @block: first block of the mapped device
 * @count: how many blocks in a row, 2 at least; at most 512 today
 * @flags: as in struct dmu_msg_map_request
 *
 * So many requests in one message: that for the i-th block has the header's id
 * plus i. Each may be answered by a message of its own, or several that follow
 * each other by one MAP_RUN_RESP.
 */
struct dmu_msg_run_request {
	__u64 block;
	__u32 count;
	__u32 flags;
};

/**
 * struct dmu_msg_run_response - MAP_RUN_RESP, daemon to kernel
 * @block: first block of the mapped device
 * @count: how many blocks in a row
 * @dst_sector: where the first of them begins on the destination; the others
 *	follow it
 * @src_sector: COPY_FIRST only: where the first of them is copied from, likewise
 * @id_of_req: id of the request for the first; that for the i-th is this plus i; 0
 *	where nobody asked
 * @flags: DMU_FLAG_*
 * @src_maj: COPY_FIRST only: device to copy from; 0:0 fills with zeroes instead
 * @src_min: minor number of the same
 * @dst_maj: destination device; 0:0 with ZERO
 * @dst_min: minor number of the same
 *
 * As so many MAP_BLOCK_RESP, one for each block, in their order. At the first that
 * is refused it ends; those before it have been mapped.
 *
 * With ZERO, which goes with RD and TEMPORARY at most, no device is needed: reads
 * find zeroes, and a write asks. It is no answer to a request for WR.
 */
struct dmu_msg_run_response {
	__u64 block;
	__u64 count;
	__u64 dst_sector;
	__u64 src_sector;
	__u32 id_of_req;
	__u32 flags;
	__u32 src_maj;
	__u32 src_min;
	__u32 dst_maj;
	__u32 dst_min;
};

#endif /* _LINUX_DM_USERSPACE_H */
