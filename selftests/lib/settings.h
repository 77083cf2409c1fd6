/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What whoever starts a test may say of it, in environment variables: from which
 * number chance follows (DMT_SEED), and how long it is to be (DMT_SCALE=N: so many
 * times as long, for make drill).
 */
#ifndef DMT_SETTINGS_H
#define DMT_SETTINGS_H

#include <stdint.h>

uint64_t dmt_number(const char *variable, uint64_t otherwise);
uint64_t dmt_seed(void);
unsigned int dmt_scale(void);
unsigned int dmt_turns(unsigned int times);

#endif /* DMT_SETTINGS_H */
