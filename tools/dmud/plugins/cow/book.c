// SPDX-License-Identifier: GPL-2.0-only
/*
 * The book of a cow store: handing out places and committing them. See book.h,
 * and Documentation/cow-format.rst for why the order of writes is what it is.
 */
#include <errno.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "book.h"

/*
 * Places are handed out in a circle that goes on from life to life: before one
 * is handed out, the superblock says from where on the next daemon is to look,
 * and is so many places ahead.
 *
 * A place that a former daemon gave to a block, and that no commit ever named, is
 * free. Correctness does not depend on the circle: whatever place the next daemon
 * names, be it the same, the kernel copies and writes anew. It is a second net, for
 * a kernel that would take the same place for a confirmation: that would be wrong
 * where a flush has failed that the data depended on, or another block had the
 * place in between. The circle has it named only once every other free place has
 * been handed out, as happens in a store that is nearly full.
 */
#define STRIDE		COW_PAGE_ENTRIES

static bool bit_test(const uint64_t *map, unsigned int i)
{
	return map[i / 64] >> i % 64 & 1;
}

static void bit_set(uint64_t *map, unsigned int i)
{
	map[i / 64] |= 1ull << i % 64;
}

/**
 * cow_book_page() - a page in memory
 * @b: the book
 * @index: of the page
 * Return: NULL where no place of it was ever handed out
 */
struct cow_page *cow_book_page(const struct cow_book *b, uint64_t index)
{
	uint64_t zone = index / COW_ZONE_PAGES;

	if (zone >= b->nr_zones || !b->zone[zone])
		return NULL;
	return b->zone[zone][index % COW_ZONE_PAGES];
}

/**
 * cow_book_new_page() - an empty page in memory
 * @b: the book
 * @index: of the page; not there yet, and within the store
 * Return: NULL where memory is out
 */
struct cow_page *cow_book_new_page(struct cow_book *b, uint64_t index)
{
	struct cow_page ***zone = &b->zone[index / COW_ZONE_PAGES];
	struct cow_page *page;

	if (!*zone)
		*zone = calloc(COW_ZONE_PAGES, sizeof(**zone));
	page = *zone ? calloc(1, sizeof(*page)) : NULL;
	if (!page)
		return NULL;
	memset(page->block, 0xff, sizeof(page->block));
	page->index = index;
	(*zone)[index % COW_ZONE_PAGES] = page;
	b->nr_pages++;
	return page;
}

/**
 * cow_book_resize() - note how large the store is
 * @b: the book
 * @bytes: size of the store
 * Return: 0 or -ENOMEM, and nothing has changed
 */
int cow_book_resize(struct cow_book *b, uint64_t bytes)
{
	uint64_t places = cow_places(bytes, b->sb.geo.block_size);
	uint64_t zones = (places + COW_ZONE_PLACES - 1) / COW_ZONE_PLACES;
	struct cow_page ***zone;

	if (zones > b->nr_zones) {
		zone = realloc(b->zone, zones * sizeof(*zone));
		if (!zone)
			return -ENOMEM;
		memset(zone + b->nr_zones, 0,
		       (zones - b->nr_zones) * sizeof(*zone));
		b->zone = zone;
		b->nr_zones = zones;
	}
	b->store_bytes = bytes;
	b->places = places;
	return 0;
}

/**
 * cow_book_find() - how far has a block come, and where does it live?
 * @b: the book
 * @block: of the mapped device
 * @place: set, unless COW_ABSENT
 */
enum cow_state cow_book_find(const struct cow_book *b, uint64_t block,
			     uint64_t *place)
{
	const struct cow_page *page;
	unsigned int i;

	*place = cow_table_find(&b->table, block);
	if (*place == COW_NO_PLACE)
		return COW_ABSENT;
	page = cow_book_page(b, *place / COW_PAGE_ENTRIES);
	i = *place % COW_PAGE_ENTRIES;
	if (bit_test(page->durable, i))
		return COW_DURABLE;
	return bit_test(page->filled, i) ? COW_FILLED : COW_ALLOTTED;
}

/*
 * What was written before is durable after this. Where it fails, nobody knows
 * what the device has dropped, and a second flush that succeeds would prove
 * nothing: from then on nothing can be called durable in this life.
 */
static int flush(struct cow_book *b)
{
	if (!fdatasync(b->fd))
		return 0;
	b->broken = true;
	return -errno;
}

/**
 * cow_book_super() - replace the superblock
 * @b: the book
 * @next: what it is to say; its generation is set here
 * Return: 0 or -errno; after an error, what the store says is either of the
 *	two, and the caller goes on as if it were the old one
 */
int cow_book_super(struct cow_book *b, struct cow_super next)
{
	bool unflushed = false;
	int ret;

	next.generation = b->sb.generation + 1;
	next.lopsided = false;
	ret = cow_super_write(b->fd, &next, b->buffer, &unflushed);
	if (unflushed)
		b->broken = true;
	if (!ret) {
		b->sb = next;
		return 0;
	}
	/* What was written of it may be all that is whole: it is not touched next. */
	b->sb.generation = next.generation;
	b->sb.whole = next.whole;
	return ret;
}

/* Every page of a zone, in both slots, says that it names nothing. */
static int write_zone(struct cow_book *b, uint64_t zone)
{
	struct cow_disk_page *page = (struct cow_disk_page *)b->buffer;
	unsigned int i;

	memset(page, 0, COW_PAGE_DISTANCE);
	for (i = 0; i < COW_ZONE_PAGES; i++) {
		memset(page[i].block, 0xff, sizeof(page[i].block));
		cow_page_seal(&page[i], b->sb.uuid,
			      zone * COW_ZONE_PAGES + i);
	}
	memcpy(b->buffer + COW_PAGE_DISTANCE, b->buffer, COW_PAGE_DISTANCE);
	return cow_pwrite(b->fd, b->buffer, COW_ZONE_META_SIZE,
			  cow_zone_offset(zone, b->sb.geo.block_size));
}

/* Is this one of the places that the superblock on disk is ahead of? */
static bool foreseen(const struct cow_super *sb, uint64_t place)
{
	return place < sb->cursor &&
	       place / STRIDE == (sb->cursor - 1) / STRIDE;
}

/*
 * Before a place is handed out, the superblock says so: that its zone is in
 * use (and the zone's pages have been written before), that the next daemon
 * shall look further on, and that the store is not clean any more.
 */
static int open_up(struct cow_book *b, uint64_t place)
{
	uint64_t zone = place / COW_ZONE_PLACES;
	struct cow_super next = b->sb;
	int ret = 0;

	if (zone < next.zones && foreseen(&next, place) && !next.clean)
		return 0;
	while (next.zones <= zone && !ret)
		ret = write_zone(b, next.zones++);
	if (!ret && next.zones > b->sb.zones)
		ret = flush(b);
	if (ret)
		return ret;
	next.cursor = (place / STRIDE + 1) * STRIDE;
	next.clean = false;
	return cow_book_super(b, next);
}

static uint64_t find_free(const struct cow_book *b, uint64_t from, uint64_t to)
{
	while (from < to) {
		uint64_t next = from + COW_PAGE_ENTRIES -
				from % COW_PAGE_ENTRIES;
		const struct cow_page *page;

		page = cow_book_page(b, from / COW_PAGE_ENTRIES);
		if (!page)
			return from;
		if (page->nr_allotted == COW_PAGE_ENTRIES)
			from = next;
		for (; from < next && from < to; from++)
			if (page->block[from % COW_PAGE_ENTRIES] == COW_FREE)
				return from;
	}
	return COW_NO_PLACE;
}

static uint64_t free_place(const struct cow_book *b)
{
	uint64_t place;

	if (b->allotted >= b->places)
		return COW_NO_PLACE;
	place = find_free(b, b->cursor, b->places);
	if (place != COW_NO_PLACE)
		return place;
	return find_free(b, 0, b->cursor < b->places ? b->cursor : b->places);
}

/**
 * cow_book_allot() - give a block a place
 * @b: the book
 * @block: one that cow_book_find() calls COW_ABSENT
 * @place: set
 *
 * May write to the store. All memory that the block will ever need is taken
 * here.
 *
 * Return: 0, -ENOSPC, -ENOMEM or the -errno of an I/O that failed; then
 *	nothing has changed and it may be tried again
 */
int cow_book_allot(struct cow_book *b, uint64_t block, uint64_t *place)
{
	struct cow_page *page;
	uint64_t free;
	int ret;

	if (b->broken)
		return -EIO;
	free = free_place(b);
	if (free == COW_NO_PLACE)
		return -ENOSPC;
	ret = open_up(b, free);
	if (ret)
		return ret;
	page = cow_book_page(b, free / COW_PAGE_ENTRIES);
	if (!page)
		page = cow_book_new_page(b, free / COW_PAGE_ENTRIES);
	if (!page || cow_table_reserve(&b->table, block))
		return -ENOMEM;
	page->block[free % COW_PAGE_ENTRIES] = block;
	page->nr_allotted++;
	cow_table_insert(&b->table, block, free);
	b->allotted++;
	b->cursor = free + 1;
	*place = free;
	return 0;
}

/**
 * cow_book_renew() - have the next commit write a page, whatever it will name
 * @b: the book
 * @page: of it
 */
void cow_book_renew(struct cow_book *b, struct cow_page *page)
{
	if (page->dirty)
		return;
	page->dirty = true;
	page->next_dirty = b->dirty;
	b->dirty = page;
}

/**
 * cow_book_filled() - the data of a place has reached the device
 * @b: the book
 * @place: one that was allotted
 *
 * The next commit will name it.
 */
void cow_book_filled(struct cow_book *b, uint64_t place)
{
	struct cow_page *page = cow_book_page(b, place / COW_PAGE_ENTRIES);
	unsigned int i = place % COW_PAGE_ENTRIES;

	if (bit_test(page->filled, i))
		return;
	bit_set(page->filled, i);
	page->nr_added++;
	cow_book_renew(b, page);
}

/* Into the slot that does not hold what is durable, whatever it holds now. */
static int write_page(struct cow_book *b, const struct cow_page *page)
{
	struct cow_disk_page *d = (struct cow_disk_page *)b->buffer;
	bool all = page->nr_durable + page->nr_added == page->nr_allotted;
	unsigned int i;

	d->commit = htole64(b->commit + 1);
	d->before = htole64(b->entries);
	d->used = htole32(page->nr_durable + page->nr_added);
	d->added = htole32(page->nr_added);
	for (i = 0; i < COW_PAGE_ENTRIES; i++)
		d->block[i] = htole64(page->block[i]);
	for (i = 0; i < COW_PAGE_ENTRIES && !all; i++)
		if (!bit_test(page->filled, i))
			d->block[i] = COW_FREE;
	cow_page_seal(d, b->sb.uuid, page->index);
	return cow_pwrite(b->fd, d, COW_SLOT_SIZE,
			  cow_slot_offset(page->index, !page->slot,
					  b->sb.geo.block_size));
}

static void settle_page(struct cow_book *b, struct cow_page *page)
{
	memcpy(page->durable, page->filled, sizeof(page->durable));
	b->entries += page->nr_added;
	page->nr_durable += page->nr_added;
	page->nr_added = 0;
	page->slot = !page->slot;
	page->commit = b->commit + 1;
	page->dirty = false;
}

/**
 * cow_book_commit() - make all filled places durable
 * @b: the book
 *
 * One flush for the data of all of them, then the pages that name them, then
 * one flush for the pages. After an error all of them are as before: a write
 * that failed may be tried again, into the same slots; after a flush that
 * failed (@b->broken) nothing will help in this life.
 *
 * Return: 0 or -errno
 */
int cow_book_commit(struct cow_book *b)
{
	struct cow_page *page;
	int ret;

	if (b->broken)
		return -EIO;
	if (!b->dirty)
		return 0;
	ret = flush(b);
	for (page = b->dirty; page && !ret; page = page->next_dirty)
		ret = write_page(b, page);
	if (!ret)
		ret = flush(b);
	if (ret)
		return ret;
	for (page = b->dirty; page; page = page->next_dirty)
		settle_page(b, page);
	b->dirty = NULL;
	b->commit++;
	b->commits++;
	return 0;
}

/**
 * cow_book_grow() - look again how large the store is
 * @b: the book
 *
 * A store that shrank is noted as well: places that are gone are not handed
 * out any more.
 *
 * Return: 0 or -errno
 */
int cow_book_grow(struct cow_book *b)
{
	uint64_t bytes;
	int ret = cow_store_size(b->fd, &bytes);

	return ret ? ret : cow_book_resize(b, bytes);
}

/**
 * cow_book_memory() - bytes of memory in use
 * @b: the book
 */
size_t cow_book_memory(const struct cow_book *b)
{
	return sizeof(*b) + COW_ZONE_META_SIZE + b->table.bytes +
	       b->nr_pages * sizeof(struct cow_page) +
	       b->nr_zones * sizeof(*b->zone) +
	       b->sb.zones * COW_ZONE_PAGES * sizeof(**b->zone);
}
