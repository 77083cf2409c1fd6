/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libdmu: what a dm-userspace daemon is written with.
 *
 * A connection (struct dmu) reads what the kernel asks in batches, hands each
 * request to a callback, gathers the answers and writes them in one call. The
 * wire format stays inside: a policy written against this header goes on
 * working when the protocol grows.
 *
 * Units: a *block* is counted in blocks of dmu_block_size() bytes from the
 * start of the mapped device; a *sector* is 512 bytes, whatever the device.
 * Functions that can fail return 0 or a negative errno and leave a sentence in
 * dmu_strerror(). A struct dmu belongs to one thread at a time; only dmu_stop()
 * may be called from anywhere.
 *
 * What each function promises is written beside its body, in the .c files.
 */
#ifndef DMU_H
#define DMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dmu;

/**
 * struct dmu_request - a block the kernel wants to know the place of
 * @id: names the request in dmu_map() and dmu_fail(); never 0
 * @block: block of the mapped device
 * @write: whether it is to be written (else only read)
 */
struct dmu_request {
	uint32_t id;
	uint64_t block;
	bool write;
};

/* dmu_mapping.flags */
#define DMU_MAP_WRITE		1u /* writes may use it too, not only reads */
#define DMU_MAP_COPY		2u /* copy the block from src before any I/O */
#define DMU_MAP_TEMPORARY	4u /* only for the I/O waiting now */
#define DMU_MAP_SYNC		8u /* hold the I/O; see dmu_ops.sync */
/* Only with kernels that know of runs (1.2): */
#define DMU_MAP_COPY_FROM	16u /* as DMU_MAP_COPY, but from @src_sector */
#define DMU_MAP_ZERO		32u /* it reads as zeroes, and a write asks */

/**
 * struct dmu_mapping - where a block lives
 * @block: block of the mapped device
 * @dst: device it lives on; one of dmu_device(); not looked at with DMU_MAP_ZERO
 * @dst_sector: sector of @dst at which the block begins
 * @src: with DMU_MAP_COPY: the device that holds its present contents, at the
 *	same block number; with DMU_MAP_COPY_FROM: likewise, at @src_sector, or 0:
 *	the place is filled with zeroes first
 * @flags: DMU_MAP_*
 * @src_sector: with DMU_MAP_COPY_FROM: sector of @src at which they begin; not
 *	looked at else
 */
struct dmu_mapping {
	uint64_t block;
	dev_t dst;
	uint64_t dst_sector;
	dev_t src;
	unsigned int flags;
	uint64_t src_sector;
};

/* What dmu_ops.failed may tell of. */
enum dmu_failure {
	DMU_FAILED_COPY = 1,	/* I/O tries it again; not with -ENODEV or -ESTALE */
	DMU_FAILED_IO,		/* I/O that began in the block, at its place */
	DMU_FAILED_REQUEST,	/* not answered in time; its I/O has failed */
	DMU_FAILED_REPORTS,	/* as many as @block says found no room */
};

/**
 * struct dmu_ops - what a policy does; any member but @map may be NULL
 * @map: the kernel asks for a block: call dmu_map() or dmu_fail() with the
 *	request's id, once, now or later
 * @sync: the first I/O through a DMU_MAP_SYNC mapping has reached its device
 *	and waits; once metadata that names the place is durable, call
 *	dmu_sync_done(). @block is the block the mapping was for
 * @invalidated: the answer to dmu_invalidate(): nothing uses the place any
 *	more; @mapped says whether there was a mapping
 * @batch: every message of one read has been handed out; what was answered
 *	is written after this returns. The place to commit metadata for a whole
 *	group of @sync calls at once. dmud also calls it without messages, where a
 *	policy asks for that (@patience in dmud's policy.h)
 * @gone: the target has been removed; dmu_run() ends after this
 * @refused: the kernel would not take what was sent for @block, for instance
 *	-ERANGE for a place outside its device or -ENXIO for a device that the
 *	table does not name; dmu_strerror() says more. A request answered so
 *	(@id) has been failed for you; an invalidation refused (@id is 0, as
 *	for dmu_push()) gets no @invalidated
 * @failed: something failed in the kernel; @id is that of the request, or 0;
 *	@error a negative errno. Only from kernels that report it (1.1)
 * @discarded: nobody needs what @count blocks from @block on hold, and the
 *	kernel has forgotten where they are. To free their places: call
 *	dmu_invalidate() for each, and free it when @invalidated comes, whatever
 *	@mapped says. A hint that may be ignored; only the one daemon of a
 *	device gets it, and only from kernels that tell it (1.1)
 *
 * The callbacks come from dmu_dispatch(), dmu_run() and dmu_handshake();
 * @refused also from any function that sends. They must not close the
 * connection.
 */
struct dmu_ops {
	void (*map)(struct dmu *dmu, const struct dmu_request *req, void *ctx);
	void (*sync)(struct dmu *dmu, uint32_t id, uint64_t block, void *ctx);
	void (*invalidated)(struct dmu *dmu, uint64_t block, bool mapped,
			    void *ctx);
	void (*batch)(struct dmu *dmu, void *ctx);
	void (*gone)(struct dmu *dmu, void *ctx);
	void (*refused)(struct dmu *dmu, uint32_t id, uint64_t block,
			int error, void *ctx);
	void (*failed)(struct dmu *dmu, enum dmu_failure what, uint64_t block,
		       uint32_t id, int error, void *ctx);
	void (*discarded)(struct dmu *dmu, uint64_t block, uint64_t count,
			  void *ctx);
};

/**
 * struct dmu_geometry - the shape of the mapped device
 * @block_size: bytes, a power of two
 * @sectors: size of the mapped device; where several tables have the same key,
 *	the end of the one that reaches furthest
 * @nr_devices: how many devices the table names
 * @devices: their numbers, in the table's order, each once
 */
struct dmu_geometry {
	uint32_t block_size;
	uint64_t sectors;
	unsigned int nr_devices;
	dev_t *devices;
};

/**
 * struct dmu_counters - what has passed since the connection was opened
 * @requests: blocks the kernel asked for
 * @mappings: mappings given, asked for or not
 * @failed: requests failed, by the policy or because an answer was refused
 * @syncs: acknowledged, with dmu_sync_done()
 * @refused: messages the kernel would not take (not counted above)
 */
struct dmu_counters {
	uint64_t requests;
	uint64_t mappings;
	uint64_t failed;
	uint64_t syncs;
	uint64_t refused;
};

int dmu_open(const char *name, const struct dmu_ops *ops, void *ctx,
	     struct dmu **dmu);
int dmu_open_fd(int fd, const struct dmu_geometry *geo,
		const struct dmu_ops *ops, void *ctx, struct dmu **dmu);
int dmu_handshake(struct dmu *dmu, int timeout_ms);
int dmu_refresh(struct dmu *dmu);
void dmu_close(struct dmu *dmu);

const char *dmu_key(const struct dmu *dmu);
uint32_t dmu_block_size(const struct dmu *dmu);
uint64_t dmu_sectors(const struct dmu *dmu);
uint64_t dmu_blocks(const struct dmu *dmu);
unsigned int dmu_nr_devices(const struct dmu *dmu);
dev_t dmu_device(const struct dmu *dmu, unsigned int n);
int dmu_device_sectors(struct dmu *dmu, unsigned int n, uint64_t *sectors);
uint32_t dmu_kernel_version(const struct dmu *dmu);
bool dmu_has_runs(const struct dmu *dmu);
void dmu_counters(const struct dmu *dmu, struct dmu_counters *counters);
const char *dmu_strerror(const struct dmu *dmu);

int dmu_map(struct dmu *dmu, uint32_t id, const struct dmu_mapping *m);
int dmu_fail(struct dmu *dmu, uint32_t id);
int dmu_push(struct dmu *dmu, const struct dmu_mapping *m);
int dmu_push_run(struct dmu *dmu, const struct dmu_mapping *m, uint64_t count);
int dmu_invalidate(struct dmu *dmu, uint64_t block);
int dmu_sync_done(struct dmu *dmu, uint32_t id);
int dmu_flush(struct dmu *dmu);

int dmu_fd(const struct dmu *dmu);
short dmu_events(const struct dmu *dmu);
int dmu_dispatch(struct dmu *dmu);
int dmu_run(struct dmu *dmu);
void dmu_stop(struct dmu *dmu);

#ifdef __cplusplus
}
#endif

#endif /* DMU_H */
