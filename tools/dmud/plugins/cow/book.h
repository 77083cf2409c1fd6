/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The book of a cow store: which place each block has, and how much of that is
 * on disk.
 *
 * A place goes through three states and never back: *allotted* (a block has
 * it, in memory only), *filled* (its data has reached the device, so a commit
 * may name it), *durable* (a commit that names it has succeeded). A crash
 * forgets the first two.
 *
 * Every I/O on the store but formatting is done here. What a commit needs is
 * allocated before: cow_book_filled() and cow_book_commit() take no memory.
 *
 * Memory, all of it for blocks that are in the store: 8.4 bytes a block for
 * the pages, 10 to 16 for the hash; besides, 2 MiB for I/O, 64 KiB for the
 * hash, and 8 bytes a zone (129,024 places) of the store's size. So 1,000,000
 * blocks (61 GiB of 64 KiB blocks) take about 25 MB.
 */
#ifndef COW_BOOK_H
#define COW_BOOK_H

#include "format.h"
#include "table.h"

/**
 * enum cow_state - how far a block has come
 * @COW_ABSENT: not in the store
 * @COW_ALLOTTED: has a place; nothing is known of the data there
 * @COW_FILLED: its data is on the device, maybe not durable
 * @COW_DURABLE: in the store, whatever happens
 */
enum cow_state {
	COW_ABSENT,
	COW_ALLOTTED,
	COW_FILLED,
	COW_DURABLE,
};

#define COW_BITMAP_WORDS	((COW_PAGE_ENTRIES + 63) / 64)

/**
 * struct cow_page - a metadata page in memory
 * @block: block at each place, or COW_FREE
 * @filled: bit a place: data on the device; what a commit writes
 * @durable: bit a place: named by a commit that succeeded; part of @filled
 * @next_dirty: list of the pages that the next commit writes
 * @index: counted over all zones
 * @commit: the one that wrote what is durable; 0: none
 * @nr_allotted: places with a block
 * @nr_durable: bits set in @durable
 * @nr_added: bits set in @filled and not in @durable
 * @slot: the slot that holds what is durable; the other one is written next
 * @dirty: in the list
 */
struct cow_page {
	uint64_t block[COW_PAGE_ENTRIES];
	uint64_t filled[COW_BITMAP_WORDS];
	uint64_t durable[COW_BITMAP_WORDS];
	struct cow_page *next_dirty;
	uint64_t index;
	uint64_t commit;
	uint16_t nr_allotted;
	uint16_t nr_durable;
	uint16_t nr_added;
	uint8_t slot;
	bool dirty;
};

/**
 * struct cow_book - see above
 * @fd: the store, open for O_DIRECT
 * @sb: the superblock, as it is on disk
 * @table: from block to place
 * @zone: of each zone in use, its pages; a page is NULL as long as it is empty
 *	and slot 0 is the durable one
 * @nr_zones: length of @zone: what the store has room for
 * @nr_pages: pages that are not NULL
 * @buffer: COW_ZONE_META_SIZE bytes, aligned
 * @dirty: pages with filled places that are not durable
 * @store_bytes: size of the store when last looked at
 * @places: what there is room for
 * @allotted: places with a block
 * @entries: places that are durable
 * @cursor: where to look for a free place
 * @commit: number of the last commit that succeeded, or was found on disk
 * @commits: commits in this life
 * @bad_slots: slots found bad when opened whose page had another
 * @unreadable: how many of these could not be read
 * @broken: a flush has failed: nothing may be called durable any more
 */
struct cow_book {
	int fd;
	struct cow_super sb;
	struct cow_table table;
	struct cow_page ***zone;
	uint64_t nr_zones;
	uint64_t nr_pages;
	uint8_t *buffer;
	struct cow_page *dirty;
	uint64_t store_bytes;
	uint64_t places;
	uint64_t allotted;
	uint64_t entries;
	uint64_t cursor;
	uint64_t commit;
	uint64_t commits;
	uint64_t bad_slots;
	uint64_t unreadable;
	bool broken;
};

/* load.c */
int cow_book_open(struct cow_book *b, int fd, const struct cow_geometry *geo,
		  char *err);
void cow_book_close(struct cow_book *b);

/* book.c */
enum cow_state cow_book_find(const struct cow_book *b, uint64_t block,
			     uint64_t *place);
int cow_book_allot(struct cow_book *b, uint64_t block, uint64_t *place);
void cow_book_filled(struct cow_book *b, uint64_t place);
int cow_book_commit(struct cow_book *b);
int cow_book_grow(struct cow_book *b);
size_t cow_book_memory(const struct cow_book *b);

/* shared by the two */
struct cow_page *cow_book_page(const struct cow_book *b, uint64_t index);
struct cow_page *cow_book_new_page(struct cow_book *b, uint64_t index);
int cow_book_super(struct cow_book *b, struct cow_super next);
int cow_book_resize(struct cow_book *b, uint64_t bytes);
void cow_book_renew(struct cow_book *b, struct cow_page *page);

#endif /* COW_BOOK_H */
