/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A snapshot that is being served, on a simulated store.
 */
#ifndef COW_TEST_SERVED_H
#define COW_TEST_SERVED_H

#include "fake.h"

#define BLOCK		4096u
#define SECTORS		240001u /* the last block is short */
#define LAST		30000u
#define NEW		(DMU_MAP_WRITE | DMU_MAP_COPY | DMU_MAP_SYNC)

/**
 * struct served - a device with a daemon
 * @store: simulated
 * @env: of the policy
 * @state: of the policy
 * @id: of the next request
 */
struct served {
	struct sim *store;
	struct dmud_env env;
	void *state;
	uint32_t id;
};

uint64_t room_for(uint64_t places);
int served_set_up(void **ctx);
int served_tear_down(void **ctx);
void die(struct served *d);
void start_again(struct served *d);
void refused(struct served *d, const char *opt, const char *why);
uint64_t write_block(struct served *d, uint64_t block);
uint64_t store_block(struct served *d, uint64_t block);

#endif /* COW_TEST_SERVED_H */
