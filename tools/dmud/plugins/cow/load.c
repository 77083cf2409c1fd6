// SPDX-License-Identifier: GPL-2.0-only
/*
 * The book of a cow store: opening and closing. See book.h.
 *
 * Opening reads the pages of the zones in use, two MiB at a time, and believes
 * nothing: what it cannot prove to be all that was ever acknowledged, it
 * refuses with a sentence.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "book.h"

/*
 * What the pages together say. Every commit wrote down how many entries the
 * store had before it, and in each page how many it added there. Entries are
 * never taken away, so what the pages name without the newest commit is what
 * that commit found: a page that has silently fallen back to its older slot
 * shows as a gap. (The newest commit itself may be there in part: a crash.)
 *
 * What the newest commit wrote is there to be read, and that is no proof that it is
 * durable: its flush may have failed, and a cache above the device may still have it.
 * See affirm().
 */
struct audit {
	uint64_t commit; /* the newest one seen */
	uint64_t before;
	uint64_t added; /* by that one, over all pages */
	uint64_t added_last; /* the newest one that added anything */
	bool contradiction;
};

static uint64_t block_at(const void *owner, uint64_t place)
{
	const struct cow_page *page;

	page = cow_book_page(owner, place / COW_PAGE_ENTRIES);
	return page->block[place % COW_PAGE_ENTRIES];
}

static void audit_page(struct audit *a, const struct cow_disk_page *d)
{
	uint64_t commit = le64toh(d->commit), before = le64toh(d->before);

	if (d->added && commit > a->added_last)
		a->added_last = commit;
	if (commit < a->commit)
		return;
	if (commit > a->commit)
		*a = (struct audit) {
			.commit = commit, .before = before,
			.added_last = a->added_last,
		};
	a->added += le32toh(d->added);
	if (before != a->before)
		a->contradiction = true;
}

static int audit_book(const struct cow_book *b, const struct audit *a,
		      char *err)
{
	const struct cow_super *sb = &b->sb;

	if (a->contradiction || b->entries - a->added != a->before) {
		cow_error(err, "has lost metadata: before commit %ju it named %ju blocks, now %ju of them",
			  (uintmax_t)a->commit, (uintmax_t)a->before,
			  (uintmax_t)(b->entries - a->added));
		return -EUCLEAN;
	}
	if (sb->clean && (sb->entries != b->entries ||
			  sb->commit != a->commit)) {
		cow_error(err, "has lost metadata: when closed it named %ju blocks (commit %ju), now %ju (commit %ju)",
			  (uintmax_t)sb->entries, (uintmax_t)sb->commit,
			  (uintmax_t)b->entries, (uintmax_t)a->commit);
		return -EUCLEAN;
	}
	return 0;
}

/* An entry from disk: @i is its index in the page. */
static int load_entry(struct cow_book *b, struct cow_page *page,
		      unsigned int i, uint64_t block, char *err)
{
	uint64_t place = page->index * COW_PAGE_ENTRIES + i;

	if (block >= cow_geometry_blocks(&b->sb.geo) || place >= b->places) {
		cow_error(err, "names block %ju at place %ju; there are %ju blocks and %ju places (was the store larger once?)",
			  (uintmax_t)block, (uintmax_t)place,
			  (uintmax_t)cow_geometry_blocks(&b->sb.geo),
			  (uintmax_t)b->places);
		return -EUCLEAN;
	}
	if (cow_table_find(&b->table, block) != COW_NO_PLACE) {
		cow_error(err, "names block %ju twice: its metadata is damaged",
			  (uintmax_t)block);
		return -EUCLEAN;
	}
	if (cow_table_reserve(&b->table, block))
		return -ENOMEM;
	page->block[i] = block;
	page->filled[i / 64] |= 1ull << i % 64;
	page->durable[i / 64] |= 1ull << i % 64;
	page->nr_allotted++;
	page->nr_durable++;
	b->allotted++;
	b->entries++;
	cow_table_insert(&b->table, block, place);
	return 0;
}

static int load_entries(struct cow_book *b, struct cow_page *page,
			const struct cow_disk_page *d, char *err)
{
	unsigned int i;
	int ret;

	for (i = 0; i < COW_PAGE_ENTRIES; i++) {
		uint64_t block = le64toh(d->block[i]);

		if (block == COW_FREE)
			continue;
		ret = load_entry(b, page, i, block, err);
		if (ret)
			return ret;
	}
	if (page->nr_durable == le32toh(d->used))
		return 0;
	cow_error(err, "has a page (%ju) that says it names %u blocks, and names %u",
		  (uintmax_t)page->index, le32toh(d->used), page->nr_durable);
	return -EUCLEAN;
}

/*
 * Which slot counts? The one of the higher commit: the other one is older, or
 * was being written when the machine died. Only pages that nothing was written
 * to since their zone came into use have equal ones.
 *
 * Return: 0 or 1; -EUCLEAN
 */
static int choose_slot(struct cow_book *b, uint64_t index,
		       const struct cow_disk_page *const slot[2], char *err)
{
	uint64_t commit[2] = {
		le64toh(slot[0]->commit), le64toh(slot[1]->commit)
	};
	bool valid[2] = {
		cow_page_valid(slot[0], b->sb.uuid, index),
		cow_page_valid(slot[1], b->sb.uuid, index)
	};

	if (!valid[0] && !valid[1]) {
		cow_error(err, "has a page (%ju, at bytes %ju and %ju) that is damaged in both copies: what it named is lost",
			  (uintmax_t)index,
			  (uintmax_t)cow_slot_offset(index, 0,
						     b->sb.geo.block_size),
			  (uintmax_t)cow_slot_offset(index, 1,
						     b->sb.geo.block_size));
		return -EUCLEAN;
	}
	if (!valid[0] || !valid[1]) {
		b->bad_slots++;
		b->unreadable += slot[valid[0]]->magic == UINT32_MAX;
		return valid[1];
	}
	if (commit[0] == commit[1] && commit[0]) {
		cow_error(err, "has a page (%ju) with two copies of the same age",
			  (uintmax_t)index);
		return -EUCLEAN;
	}
	return commit[1] > commit[0];
}

static int load_page(struct cow_book *b, uint64_t index,
		     const struct cow_disk_page *const slot[2],
		     struct audit *audit, char *err)
{
	uint64_t bad_slots = b->bad_slots;
	int chosen = choose_slot(b, index, slot, err);
	const struct cow_disk_page *d;
	struct cow_page *page;
	bool renew;

	if (chosen < 0)
		return chosen;
	d = slot[chosen];
	audit_page(audit, d);
	renew = b->bad_slots != bad_slots && !b->sb.clean;
	if (!chosen && !d->used && !renew)
		return 0;
	page = cow_book_new_page(b, index);
	if (!page)
		return -ENOMEM;
	page->slot = (uint8_t)chosen;
	page->commit = le64toh(d->commit);
	if (renew)
		cow_book_renew(b, page);
	return load_entries(b, page, d, err);
}

static int load_zone(struct cow_book *b, uint64_t zone, struct audit *audit,
		     char *err)
{
	const struct cow_disk_page *buffer = (const void *)b->buffer;
	unsigned int i;
	int ret;

	ret = cow_pread_slots(b->fd, b->buffer, COW_ZONE_META_SIZE,
			      cow_zone_offset(zone, b->sb.geo.block_size));
	if (ret) {
		cow_error(err, "cannot be read: %s", strerror(-ret));
		return ret;
	}
	for (i = 0; i < COW_ZONE_PAGES && !ret; i++) {
		const struct cow_disk_page *const slot[2] = {
			buffer + i, buffer + COW_ZONE_PAGES + i
		};

		ret = load_page(b, zone * COW_ZONE_PAGES + i, slot, audit,
				err);
	}
	return ret;
}

/* Those that the last commit wrote, and what was written in a life that ended early since. */
static void renew_unproven(struct cow_book *b, uint64_t since)
{
	struct cow_page *page;
	uint64_t i;

	for (i = 0; i < b->sb.zones * COW_ZONE_PAGES; i++) {
		page = cow_book_page(b, i);
		if (page && page->commit && page->commit >= since)
			cow_book_renew(b, page);
	}
}

/*
 * Before anything is served from a store that is not clean, what was read is made true for
 * good, by a commit that adds nothing:
 *
 * *Pages of the newest commit.* A daemon whose flush failed has left them, and they can be
 * read for as long as they are in a cache; a later flush succeeds, for it has nothing to
 * write any more. So they are written once more. Commits that added nothing are not
 * newer than what they repeated.
 *
 * *Pages with a slot that cannot be read.* It might be readable the next time, and name
 * what this life has named otherwise. So it is overwritten. (Of a clean store it is known
 * to be the older one.)
 */
static int affirm(struct cow_book *b, const struct audit *audit, char *err)
{
	int ret;

	if (b->sb.clean)
		return 0;
	renew_unproven(b, audit->added_last);
	ret = cow_book_commit(b);
	if (ret)
		cow_error(err, "cannot be written to, and what was written last may not have reached it: %s",
			  strerror(-ret));
	return ret;
}

static int load_zones(struct cow_book *b, char *err)
{
	struct audit audit = { .commit = 0 };
	uint64_t zone;
	int ret = 0;

	for (zone = 0; zone < b->sb.zones && !ret; zone++)
		ret = load_zone(b, zone, &audit, err);
	if (!ret)
		ret = audit_book(b, &audit, err);
	b->commit = audit.commit;
	return ret ? ret : affirm(b, &audit, err);
}

static int check_geometry(const struct cow_geometry *is,
			  const struct cow_geometry *want, char *err)
{
	if (is->block_size != want->block_size)
		cow_error(err, "was made for blocks of %u bytes, not %u",
			  is->block_size, want->block_size);
	else if (is->origin_sectors != want->origin_sectors)
		cow_error(err, "was made for an origin of %ju sectors, not %ju",
			  (uintmax_t)is->origin_sectors,
			  (uintmax_t)want->origin_sectors);
	else if (is->mapped_sectors != want->mapped_sectors)
		cow_error(err, "was made for a device of %ju sectors, not %ju",
			  (uintmax_t)is->mapped_sectors,
			  (uintmax_t)want->mapped_sectors);
	else if (cow_origin_differs(is->origin_mark, want->origin_mark))
		cow_error(err, "was made for an origin with other contents: this one is another, or was written to since; what is not in the store would come from it (origin=accept allows that)");
	else
		return 0;
	return -EINVAL;
}

static int load_super(struct cow_book *b, const struct cow_geometry *geo,
		      char *err)
{
	uint64_t bytes;
	int ret = cow_store_probe(b->fd, &b->sb, err);

	if (ret < 0)
		return ret;
	if (ret == COW_BLANK)
		cow_error(err, "is blank");
	if (ret != COW_STORE)
		return -EUCLEAN;
	ret = check_geometry(&b->sb.geo, geo, err);
	if (!ret)
		ret = cow_store_size(b->fd, &bytes);
	if (!ret)
		ret = cow_book_resize(b, bytes);
	if (!ret && b->sb.zones > b->nr_zones) {
		cow_error(err, "is smaller than it was: %ju bytes, with %ju zones in use",
			  (uintmax_t)bytes, (uintmax_t)b->sb.zones);
		return -EUCLEAN;
	}
	/* From here on, losing either copy shall lose nothing. */
	if (!ret && b->sb.lopsided)
		ret = cow_book_super(b, b->sb);
	return ret;
}

static void release(struct cow_book *b)
{
	uint64_t i;

	for (i = 0; i < b->nr_zones * COW_ZONE_PAGES; i++)
		free(cow_book_page(b, i));
	for (i = 0; i < b->nr_zones; i++)
		free(b->zone[i]);
	free(b->zone);
	free(b->buffer);
	cow_table_destroy(&b->table);
	b->zone = NULL;
	b->buffer = NULL;
	b->nr_zones = 0;
}

static int prepare(struct cow_book *b, int fd)
{
	uint64_t seed;

	memset(b, 0, sizeof(*b));
	b->fd = fd;
	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		return -EIO;
	cow_table_init(&b->table, block_at, b, seed);
	b->buffer = aligned_alloc(COW_SLOT_SIZE, COW_ZONE_META_SIZE);
	return b->buffer ? 0 : -ENOMEM;
}

/**
 * cow_book_open() - read the metadata of a store
 * @b: the book; where this fails, it holds nothing
 * @fd: the store, for reading and writing, locked; stays the caller's
 * @geo: what the store has to be made for
 * @err: COW_ERROR_SIZE bytes
 *
 * Time and I/O: 2 MiB a zone in use.
 *
 * Return: 0; -EINVAL (made for another geometry), -EUCLEAN (no cow store, or
 *	damaged), -errno
 */
int cow_book_open(struct cow_book *b, int fd, const struct cow_geometry *geo,
		  char *err)
{
	int ret = prepare(b, fd);

	err[0] = '\0';
	/*
	 * A daemon that died may have written pages and not flushed them. They
	 * are about to be read and relied upon, so they have to be durable.
	 */
	if (!ret && fdatasync(fd))
		ret = -errno;
	if (!ret)
		ret = load_super(b, geo, err);
	if (!ret)
		ret = load_zones(b, err);
	if (ret) {
		if (!err[0])
			cow_error(err, "cannot be opened: %s", strerror(-ret));
		release(b);
		return ret;
	}
	b->cursor = b->sb.cursor;
	return 0;
}

/**
 * cow_book_close() - free a book
 * @b: opened
 *
 * Commits nothing: what was acknowledged is durable. Where all is well, the
 * superblock will say that nothing was being written, so that damage found
 * later is known to be damage.
 */
void cow_book_close(struct cow_book *b)
{
	struct cow_super next = b->sb;

	if (!b->broken && !b->dirty && !next.clean) {
		next.clean = true;
		next.entries = b->entries;
		next.commit = b->commit;
		next.cursor = b->cursor;
		cow_book_super(b, next);
	}
	release(b);
}
