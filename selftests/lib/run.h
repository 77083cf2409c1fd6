/* SPDX-License-Identifier: GPL-2.0-only */
/* A daemon by hand that is asked for, and maps, runs of blocks. */
#ifndef DMT_RUN_H
#define DMT_RUN_H

#include "dmt.h"

#define ZERO	DMU_FLAG_ZERO

/**
 * struct dmt_inbox - what one read of a control device brought
 * @fd: the control device, O_NONBLOCK
 * @len: bytes read
 * @at: where the next message begins
 * @bytes: messages
 */
struct dmt_inbox {
	int fd;
	size_t len;
	size_t at;
	uint8_t bytes[8192];
};

bool dmt_inbox_next(struct dmt_inbox *in, struct dmt_msg *msg);
uint32_t dmt_inbox_run(struct dmt_inbox *in, uint64_t block, uint32_t count,
		       uint32_t flags);
bool dmt_inbox_empty(const struct dmt_inbox *in);

bool dmt_wants(int fd, uint64_t bits);
struct dmu_msg_run_response dmt_run(uint64_t block, uint64_t count,
				    const struct dmt_disk *dst, uint64_t place,
				    uint32_t flags);
struct dmu_msg_run_response dmt_run_zero(uint64_t block, uint64_t count);
void dmt_run_copy(struct dmu_msg_run_response *r, const struct dmt_disk *src,
		  uint64_t place);
int dmt_map_run(int fd, uint32_t id, struct dmu_msg_run_response r);

#endif /* DMT_RUN_H */
