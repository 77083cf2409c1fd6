/* SPDX-License-Identifier: GPL-2.0-only */
/* Threads that do I/O of all kinds to a part of a device where anything may happen. */
#ifndef DMT_VANDALS_H
#define DMT_VANDALS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#define DMT_NR_VANDALS	8u

struct dmt_vandals;

struct dmt_vandal {
	struct dmt_vandals *all;
	uint64_t random;
	pthread_t thread;
};

/**
 * struct dmt_vandals - all of them
 * @fd: the device, O_DIRECT
 * @first: unit of DMT_UNIT bytes
 * @nr: how many of these there are for them
 * @seed: of random numbers
 * @stop: they are to end
 * @running: how many have not
 * @done: I/Os
 * @vandal: each
 */
struct dmt_vandals {
	int fd;
	uint32_t first;
	uint32_t nr;
	uint64_t seed;
	const atomic_bool *stop;
	atomic_uint running;
	atomic_uint done;
	struct dmt_vandal vandal[DMT_NR_VANDALS];
};

void dmt_vandals_start(struct dmt_vandals *all);
void dmt_vandals_join(struct dmt_vandals *all);

#endif /* DMT_VANDALS_H */
