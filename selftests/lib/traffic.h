/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Traffic: threads that read and write a mapped device at random for as long as
 * the test does something else to it, and know at any time what each part of it
 * may hold.
 *
 * What is written says which unit it is, and which version of it. A unit has one
 * writer; a read that runs beside its write may find the version before or the
 * one being written, and nothing else. Versions that are a multiple of
 * DMT_ZEROES are all zero, and written by a write-zeroes. What has been discarded
 * may be anything until it is written again.
 */
#ifndef DMT_TRAFFIC_H
#define DMT_TRAFFIC_H

#include "dmt.h"
#include <stdatomic.h>

#define DMT_UNIT	1024u	/* bytes */
#define DMT_ZEROES	16u
#define DMT_MAX_THREADS	64
#define DMT_LOITERERS	1u	/* of more writers, and of more readers */
#define DMT_EXCUSED	UINT64_MAX

struct dmt_traffic;

/**
 * struct dmt_unit - what is known of DMT_UNIT bytes
 * @done: the latest version that was written with success
 * @begun: the latest one that a write was begun of
 * @vague: odd from when a discard is begun until a write is done
 */
struct dmt_unit {
	_Atomic uint32_t done;
	_Atomic uint32_t begun;
	_Atomic uint32_t vague;
};

/**
 * struct dmt_rider - one of the threads
 * @traffic: that it belongs to
 * @thread: itself
 * @random: state of its random numbers
 * @first: unit; it writes this one and those up to @last only; reads any
 * @last: unit
 * @writes: else it reads
 * @version: the latest that it has written
 */
struct dmt_rider {
	struct dmt_traffic *traffic;
	pthread_t thread;
	uint64_t random;
	uint32_t first;
	uint32_t last;
	bool writes;
	uint32_t version;
};

/**
 * struct dmt_traffic - all of it
 * @fd: the device, O_DIRECT
 * @nr_units: the device has these, from its first byte on
 * @quiet: units, from the first on, that DMT_LOITERERS writers and as many readers
 *	have for themselves; 0 where all go everywhere
 * @writers: threads that write
 * @readers: threads that read
 * @discards: one in so many writes is a discard of a few blocks; 0: none is
 * @seed: of random numbers
 * @excuse: a number that grows with each reason for an I/O to these units to
 *	fail, or DMT_EXCUSED while there is one; NULL where none may
 * @arg: for @excuse, and for who uses it
 * @careless: nobody looks at what is read
 * @unit: what is known
 * @rider: the threads
 * @stop: they are to end
 * @started: and not joined
 * @running: how many have not ended
 * @ios: that were right
 * @excused: that failed, and may have
 * @wrong: that were not right; what was wrong has been printed
 * @wrong_unit: the first of them
 */
struct dmt_traffic {
	int fd;
	uint32_t nr_units;
	uint32_t quiet;
	unsigned int writers;
	unsigned int readers;
	unsigned int discards;
	uint64_t seed;
	uint64_t (*excuse)(struct dmt_traffic *traffic, uint32_t first,
			   uint32_t last);
	void *arg;
	bool careless;
	struct dmt_unit *unit;
	struct dmt_rider rider[DMT_MAX_THREADS];
	atomic_bool stop;
	unsigned int started;
	atomic_uint running;
	_Atomic uint64_t ios;
	_Atomic uint64_t excused;
	atomic_uint wrong;
	atomic_uint wrong_unit;
};

uint64_t dmt_random(uint64_t *state);
uint32_t dmt_below(uint64_t *state, uint32_t limit);

void dmt_unit_fill(void *buf, uint32_t unit, uint32_t version);
void dmt_units_fill(int fd, uint64_t offset, uint32_t unit, uint32_t nr,
		    uint32_t version);

void dmt_traffic_make(struct dmt_traffic *traffic, int fd, uint32_t nr_units);
void dmt_traffic_holds(struct dmt_traffic *traffic, uint32_t unit, uint32_t nr,
		       uint32_t version);
void dmt_traffic_start(struct dmt_traffic *traffic);
void dmt_traffic_stop(struct dmt_traffic *traffic);
void dmt_traffic_join(struct dmt_traffic *traffic);
bool dmt_traffic_read(struct dmt_traffic *traffic);
bool dmt_traffic_has(struct dmt_traffic *traffic, const void *buf, uint32_t unit,
		     uint32_t nr);
void dmt_traffic_free(struct dmt_traffic *traffic);

#endif /* DMT_TRAFFIC_H */
