// SPDX-License-Identifier: GPL-2.0-only
/*
 * The book of a store that is damaged, or not the one that it should be.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "desk.h"

static uint8_t *slot(struct sim *s, uint64_t page, unsigned int n)
{
	return sim_disk(s, cow_slot_offset(page, n, BLOCK));
}

/* A store with a single page: slot 1 names 5 blocks, slot 0 then 10. */
static struct sim *two_commits(bool clean)
{
	struct sim *s = new_store(500);
	struct cow_book *b = open_book(s);

	fill(b, 100, 5);
	commit(b);
	fill(b, 200, 5);
	commit(b);
	if (clean)
		close_book(b);
	else
		kill_book(s, b);
	return s;
}

static void a_page_bad_in_both_slots_is_refused(void **unused)
{
	unsigned int page;

	(void)unused;
	/* Page 0 is in use, page 200 was never: both have to be there. */
	for (page = 0; page <= 200; page += 200) {
		struct sim *s = two_commits(false);

		slot(s, page, 0)[100] ^= 1;
		slot(s, page, 1)[100] ^= 1;
		refused(s, "damaged in both copies");
		sim_free(s);
	}
}

static void a_torn_newest_page_loses_only_its_commit(void **unused)
{
	struct sim *s = two_commits(false);
	struct cow_book *b;

	(void)unused;
	slot(s, 0, 0)[100] ^= 1; /* the second commit */
	b = open_book(s);
	assert_int_equal(b->bad_slots, 1);
	assert_int_equal(b->entries, 5);
	assert_int_equal(state_of(b, 104), COW_DURABLE);
	assert_int_equal(state_of(b, 200), COW_ABSENT);
	/* And the bad slot is the one that is written next. */
	fill(b, 300, 1);
	commit(b);
	kill_book(s, b);
	b = open_book(s);
	assert_int_equal(b->bad_slots, 0);
	assert_int_equal(b->entries, 6);
	/* It holds what was found again when opened. */
	kill_book(s, b);
	slot(s, 0, 0)[100] ^= 1;
	b = open_book(s);
	assert_int_equal(b->bad_slots, 1);
	assert_int_equal(b->entries, 6);
	close_book(b);
	sim_free(s);
}

static void an_unreadable_slot_is_a_bad_slot(void **unused)
{
	struct sim *s = two_commits(false);
	struct cow_book *b;

	(void)unused;
	s->bad_sector = cow_slot_offset(0, 0, BLOCK) + 1536;
	b = open_book(s);
	assert_int_equal(b->bad_slots, 1);
	assert_int_equal(b->entries, 5);
	fill(b, 300, 1);
	commit(b);
	kill_book(s, b);
	s->bad_sector = COW_SUPER_DISTANCE;
	b = open_book(s);
	assert_int_equal(b->entries, 6);
	close_book(b);
	sim_free(s);
}

/* What was decided without it holds, when it can be read again. */
static void a_slot_that_can_be_read_again_stays_out(void **unused)
{
	struct sim *s = two_commits(false);
	struct cow_book *b;

	(void)unused;
	s->bad_sector = cow_slot_offset(0, 0, BLOCK); /* the second commit */
	b = open_book(s);
	assert_int_equal(state_of(b, 200), COW_ABSENT);
	kill_book(s, b);
	s->bad_sector = 0;
	b = open_book(s);
	assert_int_equal(b->bad_slots, 0);
	assert_int_equal(b->entries, 5);
	assert_int_equal(state_of(b, 200), COW_ABSENT);
	close_book(b);
	sim_free(s);
}

/* One page of several: it is not the last commit that counts for it any more. */
static void a_slot_that_can_be_read_again_stays_out_of_the_sum(void **unused)
{
	struct sim *s = new_store(5000);
	struct cow_book *b = open_book(s);
	uint64_t place[600];
	unsigned int i;

	(void)unused;
	for (i = 0; i < 600; i++)
		place[i] = allot(b, i);
	for (i = 0; i < 2; i++) {
		cow_book_filled(b, place[i]);
		cow_book_filled(b, place[550 + i]);
		commit(b);
	}
	kill_book(s, b);
	s->bad_sector = cow_slot_offset(0, 0, BLOCK); /* of the second commit */
	b = open_book(s);
	assert_int_equal(b->entries, 3);
	kill_book(s, b);
	s->bad_sector = 0;
	b = open_book(s);
	assert_int_equal(b->entries, 3);
	assert_int_equal(state_of(b, 1), COW_ABSENT);
	assert_int_equal(state_of(b, 551), COW_DURABLE);
	close_book(b);
	sim_free(s);
}

/* So is an older one, but where it is known to be that. */
static void an_old_slot_that_cannot_be_read_is_made_anew(void **unused)
{
	unsigned int clean;

	(void)unused;
	for (clean = 0; clean < 2; clean++) {
		struct sim *s = two_commits(clean);
		struct cow_book *b;
		uint64_t writes = s->writes;

		s->bad_sector = cow_slot_offset(0, 1, BLOCK); /* the first commit */
		b = open_book(s);
		assert_int_equal(b->bad_slots, 1);
		assert_int_equal(b->unreadable, 1);
		assert_int_equal(s->bad_sector, clean ? cow_slot_offset(0, 1, BLOCK) : 0);
		/* Nothing is written to what is called clean. */
		commit(b);
		assert_int_equal(s->writes, writes + !clean);
		kill_book(s, b);
		if (!clean)
			slot(s, 0, 0)[100] ^= 1; /* the second one */
		b = open_book(s);
		assert_int_equal(b->unreadable, clean);
		assert_int_equal(b->entries, 10);
		close_book(b);
		sim_free(s);
	}
}

/* A disk does not say so: the next time it may well be read. */
static void no_memory_is_no_bad_slot(void **unused)
{
	struct sim *s = two_commits(false);

	(void)unused;
	s->bad_sector = cow_slot_offset(0, 0, BLOCK);
	s->bad_error = ENOMEM;
	refused(s, "cannot be read: Cannot allocate memory");
	s->bad_sector = COW_SUPER_DISTANCE;
	refused(s, "cannot be read: Cannot allocate memory");
	sim_free(s);
}

/* The machine of whoever writes stops after so many writes. */
static void stop_after(struct sim *s, enum sim_event what, void *ctx)
{
	unsigned int *writes = ctx;

	if (what == SIM_WRITE && !--*writes)
		s->dead = true;
}

static void opens_and_stops(struct sim *s, unsigned int writes)
{
	struct cow_book *b = malloc(sizeof(*b));

	s->event = stop_after;
	s->ctx = &writes;
	assert_int_equal(cow_book_open(b, s->fd, &geo, err), -EIO);
	assert_non_null(strstr(err, "may not have reached it: Input/output error"));
	free(b);
	s->event = NULL;
	s->dead = false;
}

/*
 * A flush fails, and what it lost can be read for a while: whoever serves from it
 * makes it durable first, or does not serve.
 */
static void what_a_failed_flush_lost_is_made_true(void **unused)
{
	struct sim *s = new_store(5000), *crashed;
	struct cow_book *b = open_book(s), *found;
	uint64_t seed;

	(void)unused;
	fill(b, 0, 1200);
	commit(b);
	fill(b, 2000, 1200);
	s->stays_readable = true;
	s->good_flushes = 1;
	s->fail_flushes = 1;
	assert_int_equal(cow_book_commit(b), -EIO);
	cow_book_close(b);
	/* First tries that do not come to their end. */
	opens_and_stops(s, 1);
	opens_and_stops(s, 2);
	s->good_flushes = 2;
	s->fail_flushes = 1;
	assert_int_equal(cow_book_open(b, s->fd, &geo, err), -EIO);
	free(b);
	b = open_book(s);
	assert_int_equal(b->entries, 2400);
	for (seed = 1; seed < 20; seed++) {
		crashed = sim_crash(s, seed);
		found = open_book(crashed);
		assert_int_equal(found->entries, 2400);
		close_book(found);
		sim_free(crashed);
	}
	sim_select(s);
	close_book(b);
	sim_free(s);
}

static void an_old_slot_is_not_needed(void **unused)
{
	struct sim *s = two_commits(true);
	struct cow_book *b;

	(void)unused;
	slot(s, 0, 1)[100] ^= 1; /* the first commit */
	b = open_book(s);
	assert_int_equal(b->entries, 10);
	close_book(b);
	sim_free(s);
}

/* The same damage, where no crash can be its cause. */
static void damage_after_a_clean_close_is_refused(void **unused)
{
	struct sim *s = two_commits(true);

	(void)unused;
	slot(s, 0, 0)[100] ^= 1;
	refused(s, "lost metadata: when closed");
	sim_free(s);
}

/* A commit that was acknowledged has a later one, in another page. */
static struct sim *damaged_long_ago(void (*damage)(struct sim *s))
{
	struct sim *s = new_store(2000);
	struct cow_book *b = open_book(s);
	uint64_t i;

	for (i = 0; i < 600; i++)
		allot(b, i);
	for (i = 0; i < 5; i++)
		cow_book_filled(b, i);
	commit(b); /* page 0, slot 1 */
	cow_book_filled(b, 10);
	commit(b); /* page 0, slot 0 */
	cow_book_filled(b, 550);
	commit(b); /* page 1 */
	kill_book(s, b);
	damage(s);
	return s;
}

static void rot(struct sim *s)
{
	slot(s, 0, 0)[100] ^= 1;
}

/* The device acknowledged a write, and never made it. */
static void lost_write(struct sim *s)
{
	uint8_t uuid[16];
	struct cow_disk_page *page = (struct cow_disk_page *)slot(s, 0, 0);

	memcpy(uuid, page->uuid, sizeof(uuid));
	memset(page, 0, sizeof(*page));
	memset(page->block, 0xff, sizeof(page->block));
	cow_page_seal(page, uuid, 0);
}

static void nothing(struct sim *s)
{
	(void)s;
}

static void a_page_that_fell_back_is_noticed(void **unused)
{
	struct sim *s = damaged_long_ago(nothing);
	struct cow_book *b = open_book(s);

	(void)unused;
	assert_int_equal(b->entries, 7);
	close_book(b);
	sim_free(s);
	s = damaged_long_ago(rot);
	refused(s, "has lost metadata: before commit 3 it named 6 blocks, now 5");
	sim_free(s);
	s = damaged_long_ago(lost_write);
	refused(s, "has lost metadata: before commit 3 it named 6 blocks, now 5");
	sim_free(s);
}

/* Change the newest slot of page 0, and make its checksum right again. */
static void tamper(struct sim *s, void (*how)(struct cow_disk_page *page))
{
	struct cow_disk_page *page = (struct cow_disk_page *)slot(s, 0, 0);
	uint8_t uuid[16];

	memcpy(uuid, page->uuid, sizeof(uuid));
	how(page);
	cow_page_seal(page, uuid, 0);
}

static void name_twice(struct cow_disk_page *page)
{
	page->block[1] = page->block[0];
}

static void name_too_high(struct cow_disk_page *page)
{
	page->block[1] = htole64(999999);
}

static void miscount(struct cow_disk_page *page)
{
	page->block[1] = COW_FREE;
}

static void same_age(struct cow_disk_page *page)
{
	page->commit = htole64(1);
}

static void pages_that_cannot_be_are_refused(void **unused)
{
	static const struct {
		void (*how)(struct cow_disk_page *page);
		const char *why;
	} cases[] = {
		{ name_twice, "names block 100 twice" },
		{ name_too_high, "names block 999999" },
		{ miscount, "says it names 10 blocks, and names 9" },
		{ same_age, "of the same age" },
	};
	size_t i;

	(void)unused;
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sim *s = two_commits(false);

		tamper(s, cases[i].how);
		refused(s, cases[i].why);
		sim_free(s);
	}
}

static void a_former_stores_pages_mean_nothing(void **unused)
{
	struct sim *s = two_commits(true);
	struct cow_book *b;

	(void)unused;
	assert_false(cow_store_format(s->fd, &geo, err));
	b = open_book(s);
	assert_int_equal(b->entries, 0);
	fill(b, 100, 1);
	commit(b);
	kill_book(s, b);
	b = open_book(s);
	assert_int_equal(b->entries, 1);
	close_book(b);
	sim_free(s);
}

static void losing_a_superblock_loses_nothing(void **unused)
{
	unsigned int copy;

	(void)unused;
	for (copy = 0; copy < 2; copy++) {
		struct sim *s = two_commits(false);
		struct cow_book *b;

		*sim_disk(s, copy * COW_SUPER_DISTANCE) ^= 1;
		b = open_book(s);
		assert_int_equal(b->entries, 10);
		kill_book(s, b);
		/* It has been mended: now the other one. */
		*sim_disk(s, !copy * COW_SUPER_DISTANCE) ^= 1;
		b = open_book(s);
		assert_int_equal(b->entries, 10);
		close_book(b);
		sim_free(s);
	}
}

/**
 * struct first - what is written first
 * @offset: of it
 * @seen: it has been
 * @then_fail: what is written next is to fail
 */
struct first {
	uint64_t offset;
	bool seen;
	bool then_fail;
};

static void note_first(struct sim *s, enum sim_event what, void *ctx)
{
	struct first *first = ctx;

	if (what != SIM_WRITE || first->seen)
		return;
	first->seen = true;
	first->offset = s->pending[s->nr - 1].offset;
	s->fail_writes = first->then_fail;
}

/* What is being written may be lost with the power. */
static void the_only_good_superblock_is_written_last(void **unused)
{
	unsigned int copy;

	(void)unused;
	for (copy = 0; copy < 2; copy++) {
		struct sim *s = two_commits(false);
		struct first first = { 0 };
		struct cow_book *b;

		*sim_disk(s, copy * COW_SUPER_DISTANCE) ^= 1;
		s->event = note_first;
		s->ctx = &first;
		b = open_book(s);
		assert_true(first.seen);
		assert_int_equal(first.offset, copy * COW_SUPER_DISTANCE);
		s->event = NULL;
		close_book(b);
		sim_free(s);
	}
}

/* Which it becomes where the other one could not be written. */
static void a_superblock_that_could_not_be_written_is_tried_first(void **unused)
{
	struct sim *s = two_commits(false);
	struct first first = { .then_fail = true }, next = { 0 };
	struct cow_book *b = open_book(s);

	(void)unused;
	s->event = note_first;
	s->ctx = &first;
	assert_int_equal(cow_book_super(b, b->sb), -EIO);
	s->ctx = &next;
	assert_int_equal(cow_book_super(b, b->sb), 0);
	assert_true(first.seen && next.seen);
	assert_int_not_equal(first.offset, next.offset);
	s->event = NULL;
	close_book(b);
	b = open_book(s);
	assert_int_equal(b->entries, 10);
	close_book(b);
	sim_free(s);
}

static void another_geometry_is_refused(void **unused)
{
	struct sim *s = two_commits(true);
	struct cow_geometry other[3] = { geo, geo, geo };
	static const char *const why[3] = {
		"for blocks of 512 bytes, not 4096",
		"for an origin of 1000000 sectors, not 2000000",
		"for a device of 999999 sectors, not 999998",
	};
	struct cow_book *b = malloc(sizeof(*b));
	size_t i;

	(void)unused;
	other[0].block_size = 4096;
	other[1].origin_sectors = 2000000;
	other[2].mapped_sectors = 999998;
	for (i = 0; i < 3; i++) {
		assert_int_equal(cow_book_open(b, s->fd, &other[i], err),
				 -EINVAL);
		assert_non_null(strstr(err, why[i]));
	}
	free(b);
	sim_free(s);
}

static void no_store_no_book(void **unused)
{
	struct sim *s = sim_new(8 << 20);

	(void)unused;
	refused(s, "is blank");
	*sim_disk(s, 0) = 'x';
	refused(s, "not a cow store");
	sim_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_page_bad_in_both_slots_is_refused),
		cmocka_unit_test(a_torn_newest_page_loses_only_its_commit),
		cmocka_unit_test(an_unreadable_slot_is_a_bad_slot),
		cmocka_unit_test(a_slot_that_can_be_read_again_stays_out),
		cmocka_unit_test(a_slot_that_can_be_read_again_stays_out_of_the_sum),
		cmocka_unit_test(an_old_slot_that_cannot_be_read_is_made_anew),
		cmocka_unit_test(no_memory_is_no_bad_slot),
		cmocka_unit_test(what_a_failed_flush_lost_is_made_true),
		cmocka_unit_test(an_old_slot_is_not_needed),
		cmocka_unit_test(damage_after_a_clean_close_is_refused),
		cmocka_unit_test(a_page_that_fell_back_is_noticed),
		cmocka_unit_test(pages_that_cannot_be_are_refused),
		cmocka_unit_test(a_former_stores_pages_mean_nothing),
		cmocka_unit_test(losing_a_superblock_loses_nothing),
		cmocka_unit_test(the_only_good_superblock_is_written_last),
		cmocka_unit_test(a_superblock_that_could_not_be_written_is_tried_first),
		cmocka_unit_test(another_geometry_is_refused),
		cmocka_unit_test(no_store_no_book),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
