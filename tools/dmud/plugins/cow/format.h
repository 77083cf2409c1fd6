/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The on-disk format of a cow store (Documentation/cow-format.rst).
 *
 * This part knows bytes and nothing else: no daemon, no connection, no state
 * between calls. The cow policy and dmuctl both link it.
 *
 * Functions that can fail return 0 or a negative errno. Where they take an
 * @err of COW_ERROR_SIZE bytes they leave a sentence in it whose subject is
 * left out ("is too small: ..."), so that the caller can name the store.
 */
#ifndef COW_FORMAT_H
#define COW_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COW_ERROR_SIZE		192

#define COW_VERSION		1u

/* Bytes. Every metadata write is one slot, and aligned to one. */
#define COW_SLOT_SIZE		4096u
#define COW_HEAD_SIZE		(1ull << 20) /* superblocks; zones follow */
#define COW_SUPER_DISTANCE	(512ull << 10) /* of the two superblocks */
#define COW_ZONE_META_SIZE	(2ull << 20)
#define COW_PAGE_DISTANCE	(1ull << 20) /* of the two slots of a page */

#define COW_PAGE_ENTRIES	504u
#define COW_ZONE_PAGES		256u
#define COW_ZONE_PLACES		(COW_ZONE_PAGES * COW_PAGE_ENTRIES)
#define COW_MAX_PLACES		((1ull << 44) - 2)

#define COW_MIN_BLOCK_SIZE	512u
#define COW_MAX_BLOCK_SIZE	(1u << 30)

#define COW_FREE		UINT64_MAX /* entry: names no block */

/**
 * struct cow_geometry - what a store was made for; never changes
 * @block_size: bytes, a power of two from 512 to 1 GiB
 * @origin_sectors: size of the origin device
 * @mapped_sectors: size of the mapped device, at most @origin_sectors. Where
 *	its last block is short, only the short part of it was ever copied, so
 *	a store cannot serve a larger device later
 * @origin_mark: by which the origin is known, see cow_origin_mark(); 0: it is not.
 *	Changes only where somebody says that another one is meant
 */
struct cow_geometry {
	uint32_t block_size;
	uint64_t origin_sectors;
	uint64_t mapped_sectors;
	uint64_t origin_mark;
};

/**
 * struct cow_super - a superblock, decoded
 * @geo: what the store was made for
 * @uuid: chosen at random when formatted; in every page
 * @generation: newer of two copies
 * @created: seconds since 1970
 * @zones: zones whose pages have been written; the others hold anything
 * @cursor: where the next daemon looks for a free place first
 * @entries: where @clean: blocks that the store holds
 * @commit: where @clean: number of the last commit
 * @clean: closed in good order, and nothing was written since
 * @lopsided: (not on disk) one of the copies is bad or older
 * @whole: (not on disk) the copy that is known to be good, and as new as any
 */
struct cow_super {
	struct cow_geometry geo;
	uint8_t uuid[16];
	uint64_t generation;
	uint64_t created;
	uint64_t zones;
	uint64_t cursor;
	uint64_t entries;
	uint64_t commit;
	bool clean;
	bool lopsided;
	unsigned int whole;
};

/**
 * struct cow_disk_page - one slot of a metadata page, as it is on disk
 * @magic: COW_PAGE_MAGIC
 * @crc: CRC-32 of the slot with this field zero
 * @index: which page this is, counted over all zones
 * @commit: number of the group commit that wrote it; the higher one of a
 *	page's two slots counts
 * @before: entries in the whole store before that commit
 * @used: entries of this page that name a block
 * @added: how many of those are new in that commit
 * @uuid: of the store
 * @reserved: zero
 * @block: block of the mapped device that lives at this place, or COW_FREE
 *
 * Integers are little-endian.
 */
struct cow_disk_page {
	uint32_t magic;
	uint32_t crc;
	uint64_t index;
	uint64_t commit;
	uint64_t before;
	uint32_t used;
	uint32_t added;
	uint8_t uuid[16];
	uint8_t reserved[8];
	uint64_t block[COW_PAGE_ENTRIES];
};

_Static_assert(sizeof(struct cow_disk_page) == COW_SLOT_SIZE, "page layout");

/**
 * enum cow_content - what cow_store_probe() found
 * @COW_BLANK: nothing: the first COW_HEAD_SIZE bytes are zero
 * @COW_STORE: a cow store
 * @COW_FOREIGN: something else
 * @COW_UNUSABLE: a cow store that is damaged, or of a newer version
 */
enum cow_content {
	COW_BLANK,
	COW_STORE,
	COW_FOREIGN,
	COW_UNUSABLE,
};

void cow_error(char *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

int cow_store_probe(int fd, struct cow_super *sb, char *err);
int cow_store_format(int fd, const struct cow_geometry *geo, char *err);
int cow_store_lock(int fd, char *err);
int cow_store_size(int fd, uint64_t *bytes);

int cow_origin_mark(int fd, uint64_t sectors, uint64_t *mark);
bool cow_origin_differs(uint64_t mark, uint64_t other);

uint64_t cow_geometry_blocks(const struct cow_geometry *geo);
uint64_t cow_places(uint64_t store_bytes, uint32_t block_size);
uint64_t cow_place_offset(uint64_t place, uint32_t block_size);
uint64_t cow_zone_offset(uint64_t zone, uint32_t block_size);
uint64_t cow_slot_offset(uint64_t page, unsigned int slot,
			 uint32_t block_size);

int cow_super_write(int fd, struct cow_super *sb, void *slot,
		    bool *unflushed);
bool cow_page_valid(const struct cow_disk_page *page, const uint8_t *uuid,
		    uint64_t index);
void cow_page_seal(struct cow_disk_page *page, const uint8_t *uuid,
		   uint64_t index);

int cow_pread(int fd, void *buf, size_t len, uint64_t offset);
int cow_pread_slots(int fd, void *buf, size_t len, uint64_t offset);
int cow_pwrite(int fd, const void *buf, size_t len, uint64_t offset);

#endif /* COW_FORMAT_H */
