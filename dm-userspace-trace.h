/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints: what becomes of a block, from the request to the end of its
 * remap. Each names the key, the block, the id by which a daemon knows it (0 where
 * it does not), and how many blocks in a row it is true of, where that may be many.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dm_userspace

#if !defined(DM_USERSPACE_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define DM_USERSPACE_TRACE_H

#include "dm-user.h"
#include <linux/tracepoint.h>

DECLARE_EVENT_CLASS(dmu_block,
	TP_PROTO(const struct dmu_space *space, u64 block, u32 id),
	TP_ARGS(space, block, id),
	TP_STRUCT__entry(
		__string(key, space->key)
		__field(u64, block)
		__field(u32, id)
	),
	TP_fast_assign(
		dmu_assign_str(key, space->key);
		__entry->block = block;
		__entry->id = id;
	),
	TP_printk("key=%s block=%llu id=%u", __get_str(key), __entry->block,
		  __entry->id)
);

/* A daemon that died had read it: it is unread again. */
DEFINE_EVENT(dmu_block, dmu_request_redelivered,
	TP_PROTO(const struct dmu_space *space, u64 block, u32 id),
	TP_ARGS(space, block, id));
/* A request ends without an answer: failed, timed out, or handed back. */
DEFINE_EVENT(dmu_block, dmu_request_ended,
	TP_PROTO(const struct dmu_space *space, u64 block, u32 id),
	TP_ARGS(space, block, id));
DEFINE_EVENT(dmu_block, dmu_copy_begin,
	TP_PROTO(const struct dmu_space *space, u64 block, u32 id),
	TP_ARGS(space, block, id));
/* I/O of a SYNC mapping has come back and waits for the daemon. */
DEFINE_EVENT(dmu_block, dmu_sync_held,
	TP_PROTO(const struct dmu_space *space, u64 block, u32 id),
	TP_ARGS(space, block, id));
DEFINE_EVENT(dmu_block, dmu_sync_released,
	TP_PROTO(const struct dmu_space *space, u64 block, u32 id),
	TP_ARGS(space, block, id));

DECLARE_EVENT_CLASS(dmu_request,
	TP_PROTO(const struct dmu_space *space, u64 block, u32 id, bool write),
	TP_ARGS(space, block, id, write),
	TP_STRUCT__entry(
		__string(key, space->key)
		__field(u64, block)
		__field(u32, id)
		__field(bool, write)
	),
	TP_fast_assign(
		dmu_assign_str(key, space->key);
		__entry->block = block;
		__entry->id = id;
		__entry->write = write;
	),
	TP_printk("key=%s block=%llu id=%u %s", __get_str(key),
		  __entry->block, __entry->id,
		  __entry->write ? "rw" : "r")
);

DEFINE_EVENT(dmu_request, dmu_request_queued,
	TP_PROTO(const struct dmu_space *space, u64 block, u32 id, bool write),
	TP_ARGS(space, block, id, write));
DEFINE_EVENT(dmu_request, dmu_request_sent,
	TP_PROTO(const struct dmu_space *space, u64 block, u32 id, bool write),
	TP_ARGS(space, block, id, write));

/* Several blocks where they are in a row, and go at once. */
DECLARE_EVENT_CLASS(dmu_remap,
	TP_PROTO(const struct dmu_space *space, u64 block, unsigned int blocks,
		 u32 id),
	TP_ARGS(space, block, blocks, id),
	TP_STRUCT__entry(
		__string(key, space->key)
		__field(u64, block)
		__field(unsigned int, blocks)
		__field(u32, id)
	),
	TP_fast_assign(
		dmu_assign_str(key, space->key);
		__entry->block = block;
		__entry->blocks = blocks;
		__entry->id = id;
	),
	TP_printk("key=%s block=%llu id=%u blocks=%u", __get_str(key),
		  __entry->block, __entry->id, __entry->blocks)
);

DEFINE_EVENT(dmu_remap, dmu_remap_evicted,
	TP_PROTO(const struct dmu_space *space, u64 block, unsigned int blocks,
		 u32 id),
	TP_ARGS(space, block, blocks, id));
DEFINE_EVENT(dmu_remap, dmu_remap_invalidated,
	TP_PROTO(const struct dmu_space *space, u64 block, unsigned int blocks,
		 u32 id),
	TP_ARGS(space, block, blocks, id));

TRACE_EVENT(dmu_copy_end,
	TP_PROTO(const struct dmu_space *space, u64 block, u32 id, bool ok),
	TP_ARGS(space, block, id, ok),
	TP_STRUCT__entry(
		__string(key, space->key)
		__field(u64, block)
		__field(u32, id)
		__field(bool, ok)
	),
	TP_fast_assign(
		dmu_assign_str(key, space->key);
		__entry->block = block;
		__entry->id = id;
		__entry->ok = ok;
	),
	TP_printk("key=%s block=%llu id=%u %s", __get_str(key),
		  __entry->block, __entry->id,
		  __entry->ok ? "ok" : "failed")
);

DECLARE_EVENT_CLASS(dmu_mapping,
	TP_PROTO(const struct dmu_space *space, const struct dmu_mapping *m,
		 unsigned int blocks),
	TP_ARGS(space, m, blocks),
	TP_STRUCT__entry(
		__string(key, space->key)
		__field(u64, block)
		__field(u32, id)
		__field(dev_t, dst)
		__field(sector_t, sector)
		__field(u16, flags)
		__field(unsigned int, blocks)
	),
	TP_fast_assign(
		dmu_assign_str(key, space->key);
		__entry->block = m->block;
		__entry->id = m->id;
		__entry->dst = m->dst;
		__entry->sector = m->dst_sector;
		__entry->flags = m->flags & (DMU_RD | DMU_WR | DMU_COPY |
					     DMU_TEMPORARY | DMU_SYNC);
		__entry->blocks = blocks;
	),
	TP_printk("key=%s block=%llu id=%u dst=%u:%u sector=%llu flags=%s blocks=%u",
		  __get_str(key), __entry->block, __entry->id,
		  MAJOR(__entry->dst), MINOR(__entry->dst),
		  (u64)__entry->sector,
		  __print_flags(__entry->flags, "|",
				{ DMU_RD, "rd" }, { DMU_WR, "wr" },
				{ DMU_COPY, "copy" },
				{ DMU_TEMPORARY, "temporary" },
				{ DMU_SYNC, "sync" }), __entry->blocks)
);

/* A daemon's answer, to a request or to none, is applied. */
DEFINE_EVENT(dmu_mapping, dmu_answered,
	TP_PROTO(const struct dmu_space *space, const struct dmu_mapping *m,
		 unsigned int blocks),
	TP_ARGS(space, m, blocks));
DEFINE_EVENT(dmu_mapping, dmu_remap_installed,
	TP_PROTO(const struct dmu_space *space, const struct dmu_mapping *m,
		 unsigned int blocks),
	TP_ARGS(space, m, blocks));
/* The same, in place of another one. */
DEFINE_EVENT(dmu_mapping, dmu_remap_replaced,
	TP_PROTO(const struct dmu_space *space, const struct dmu_mapping *m,
		 unsigned int blocks),
	TP_ARGS(space, m, blocks));

#endif /* DM_USERSPACE_TRACE_H */

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE dm-userspace-trace
#include <trace/define_trace.h>
