/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A stand-in for the kernel: the other end of a socket pair, and a policy that
 * writes down what it is asked.
 */
#ifndef FAKE_H
#define FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dmu.h"
#include "wire.h"

/* Devices of the table: 8:0, 8:16 and one whose numbers need many bits. */
#define NR_DEVICES 3
#define BLOCK_SIZE 4096
#define SECTORS 1001

#define MAX_REFUSALS 8

/**
 * struct fake - a connection and both its ends
 * @dmu: what is tested
 * @kernel: the kernel's end
 * @events: what the policy was called for, one word each, a space behind
 * @on_map: what else to do when asked for a block, or NULL
 * @on_sync: the same for SYNC
 * @on_batch: the same for the end of a batch
 * @on_refused: the same for an answer refused
 * @writes: calls of write() on the device since fake_reset()
 * @nth: messages written since then
 * @refusals: messages that write() refuses, by their place (the first is 1)
 */
struct fake {
	struct dmu *dmu;
	int kernel;
	char events[8192];
	void (*on_map)(struct fake *fake, const struct dmu_request *req);
	void (*on_sync)(struct fake *fake, uint32_t id);
	void (*on_batch)(struct fake *fake);
	void (*on_refused)(struct fake *fake, uint32_t id, uint64_t block);
	unsigned int writes;
	unsigned int nth;
	struct {
		unsigned int nth;
		int err;
	} refusals[MAX_REFUSALS];
};

extern const struct dmu_geometry fake_geometry;
extern const struct dmu_ops fake_ops;

int fake_setup(void **state);
int fake_setup_stream(void **state);
int fake_teardown(void **state);

void fake_reset(struct fake *fake);
void fake_refuse(struct fake *fake, unsigned int nth, int err);
void fake_hang_up(struct fake *fake);

void fake_send_raw(struct fake *fake, const void *buf, size_t len);
void fake_send(struct fake *fake, const struct dmui_msg *msgs, size_t n);
void fake_request(struct fake *fake, uint32_t id, uint64_t block,
		  uint32_t flags);
void fake_status(struct fake *fake, uint32_t id, uint32_t status);
size_t fake_receive(struct fake *fake, struct dmui_msg *msgs, size_t max);
void fake_nothing_came(struct fake *fake);

struct dmui_msg msg_request(uint32_t id, uint64_t block, uint32_t flags);
struct dmui_msg msg_status(uint32_t id, uint32_t status);
struct dmui_msg msg_version(uint32_t id, uint32_t user, uint32_t kernel);

#endif /* FAKE_H */
