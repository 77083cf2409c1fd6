/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Keeping books of simulated stores, in few words. Whatever should work and
 * does not, fails the test.
 */
#ifndef COW_TEST_DESK_H
#define COW_TEST_DESK_H

#include "book.h"
#include "sim.h"

#define BLOCK	512u

extern const struct cow_geometry geo;
extern char err[COW_ERROR_SIZE];

struct sim *new_store(uint64_t places);
struct cow_book *open_book(struct sim *s);
void close_book(struct cow_book *b);
void kill_book(struct sim *s, struct cow_book *b);
void refused(struct sim *s, const char *why);
uint64_t allot(struct cow_book *b, uint64_t block);
void fill(struct cow_book *b, uint64_t from, uint64_t n);
void commit(struct cow_book *b);
enum cow_state state_of(struct cow_book *b, uint64_t block);

#endif /* COW_TEST_DESK_H */
