/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of libdmu know of a connection and of each other. */
#ifndef DMUI_INTERNAL_H
#define DMUI_INTERNAL_H

#include "dmu.h"
#include "idmap.h"
#include "wire.h"

/* Bytes of one read: some 580 requests, or as many runs of them. */
#define DMUI_IN_SIZE 16384
/* An answer to each message of them, and more, goes out in one write. */
#define DMUI_OUT_SIZE 65536

/* What we call our version (major << 16 | minor << 8 | patch), and ask it with. */
#define DMUI_VERSION (1u << 16)
#define DMUI_VERSION_ID 1

/* The first kernel that knows EXTENSIONS, and the id they are asked for with. */
#define DMUI_KERNEL_EXTENSIONS (1u << 16 | 1u << 8)
#define DMUI_EXTENSIONS_ID 2

/* dmui_id.state of dmu.requests. The kernel keeps these ids apart. */
enum {
	DMUI_ASKED,		/* the kernel waits for dmu_map() or dmu_fail() */
	DMUI_SYNC_GIVEN,	/* answered with DMU_MAP_SYNC; I/O to come */
	DMUI_SYNC_REPORTED,	/* the kernel waits for dmu_sync_done() */
};

/**
 * struct dmu - a connection
 * @fd: the control device; owned
 * @stop_fd: an eventfd that dmu_stop() writes to
 * @key: of the tables; NULL where the connection was opened by fd
 * @geo: the devices are owned
 * @block_shift: log2 of the sectors in a block
 * @ops: a copy
 * @ctx: for the callbacks
 * @kernel_version: 0 until the kernel has told it
 * @version_known: it has
 * @wanted: DMU_EXT_* that the kernel has been asked for
 * @extensions: those of them that are on
 * @asking: its answer to that is still to come
 * @ended: what dmu_dispatch() returns from now on, or 0
 * @dispatching: a read is being handed out
 * @flushing: what was gathered is being written
 * @requests: ids the kernel gave, see the states above
 * @invalidations: ids we gave to invalidations under way; no state
 * @last_invalidation: the id most recently given
 * @counters: for dmu_counters()
 * @error: for dmu_strerror()
 * @run: the message gathered last, where it is a mapping that may become part of a
 *	run; else its count is 0
 * @run_at: where that is in @out
 * @split: what is still to be sent of a run that was refused as a whole; its count
 *	is 0 where there is none
 * @part: how many blocks of @split to send next
 * @part_end: behind the part that is being sent; 0 where there is none
 * @out_start: first byte of @out that is still to be written
 * @out_end: behind the last
 * @out: whole messages for the kernel
 * @in: what one read brought
 */
struct dmu {
	int fd;
	int stop_fd;
	char *key;
	struct dmu_geometry geo;
	unsigned int block_shift;
	struct dmu_ops ops;
	void *ctx;
	uint32_t kernel_version;
	bool version_known;
	uint64_t wanted;
	uint64_t extensions;
	bool asking;
	int ended;
	bool dispatching;
	bool flushing;
	struct dmui_idmap requests;
	struct dmui_idmap invalidations;
	uint32_t last_invalidation;
	struct dmu_counters counters;
	char error[256];
	struct dmu_msg_run_response run;
	size_t run_at;
	struct dmu_msg_run_response split;
	uint64_t part;
	size_t part_end;
	size_t out_start;
	size_t out_end;
	unsigned char out[DMUI_OUT_SIZE];
	unsigned char in[DMUI_IN_SIZE];
};

/* connection.c */
int dmui_error(struct dmu *dmu, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int dmui_check_geometry(const struct dmu_geometry *geo);
int dmui_set_geometry(struct dmu *dmu, const struct dmu_geometry *geo);

/* output.c */
int dmui_make_room(struct dmu *dmu);
int dmui_send(struct dmu *dmu, const struct dmui_msg *msg);
int dmui_flush(struct dmu *dmu, int *refusal);

/* For the longest message there is. */
static inline bool dmui_has_room(const struct dmu *dmu)
{
	return dmu->out_end + DMUI_MSG_MAX <= DMUI_OUT_SIZE;
}

/**
 * dmui_reserve() - make sure that one message can be gathered
 * @dmu: the connection
 *
 * May write, and so call dmu_ops.refused about earlier messages: to be called
 * before anything is looked up that the callback could change.
 *
 * Return: 0; -ENODEV or -EPROTO: the connection has ended; -EAGAIN: the buffer
 * is full and the transport will not take it now.
 */
static inline int dmui_reserve(struct dmu *dmu)
{
	return !dmu->ended && dmui_has_room(dmu) ? 0 : dmui_make_room(dmu);
}

/* answer.c */
int dmui_send_version(struct dmu *dmu);
int dmui_send_extensions(struct dmu *dmu, uint64_t bits);
int dmui_send_failed(struct dmu *dmu, uint32_t id, uint64_t block);

/* run.c */
int dmui_send_run(struct dmu *dmu, const struct dmu_msg_run_response *run);
void dmui_split(struct dmu *dmu, const struct dmu_msg_run_response *run);
void dmui_split_next(struct dmu *dmu);
void dmui_split_fail(struct dmu *dmu, uint32_t id, uint64_t block);

/* receive.c */
int dmui_receive(struct dmu *dmu, const struct dmui_msg *msg);

#endif /* DMUI_INTERNAL_H */
