// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the cow policy answers, and when it acknowledges.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "format.h"
#include "served.h"

static void fill_up(struct served *d, uint64_t from, uint64_t n)
{
	while (n--)
		store_block(d, from++);
}

/* Answers */

static void a_read_goes_to_the_origin(void **ctx)
{
	struct served *d = *ctx;
	struct fake_answer a = fake_ask(d->state, 5, 17, false);

	assert_int_equal(a.id, 5);
	assert_int_equal(a.m.block, 17);
	assert_true(a.m.dst == ORIGIN_DEV);
	assert_int_equal(a.m.dst_sector, 17 * 8);
	assert_int_equal(a.m.flags, 0);
	a = fake_ask(d->state, 6, LAST, false);
	assert_int_equal(a.m.dst_sector, LAST * 8);
	a = fake_ask(d->state, 7, LAST + 1, false);
	assert_true(a.failed);
	/* And took no room. */
	assert_int_equal(fake_ask(d->state, 8, 17, true).m.flags, NEW);
}

static void a_write_gets_a_place_and_a_copy(void **ctx)
{
	struct served *d = *ctx;
	struct fake_answer a = fake_ask(d->state, 5, LAST, true);

	assert_int_equal(a.id, 5);
	assert_int_equal(a.m.block, LAST);
	assert_true(a.m.dst == STORE_DEV);
	assert_true(a.m.src == ORIGIN_DEV);
	assert_int_equal(a.m.flags, NEW);
	assert_int_equal(a.m.dst_sector, cow_place_offset(0, BLOCK) / 512);
	assert_int_equal(write_block(d, 1), a.m.dst_sector + 8);
}

/* The table at the head of cow.c, row by row. */
static void the_answer_follows_the_block(void **ctx)
{
	struct served *d = *ctx;
	uint64_t sector = write_block(d, 3);
	struct fake_answer a;
	unsigned int write;

	for (write = 0; write < 2; write++) {
		a = fake_ask(d->state, d->id++, 3, write);
		assert_int_equal(a.m.dst_sector, sector);
		assert_int_equal(a.m.flags, NEW);
		assert_true(a.m.src == ORIGIN_DEV);
	}
	fake_sync(d->state, 1000, 3);
	for (write = 0; write < 2; write++) {
		a = fake_ask(d->state, d->id++, 3, write);
		assert_int_equal(a.m.dst_sector, sector);
		assert_int_equal(a.m.flags, DMU_MAP_WRITE | DMU_MAP_SYNC);
	}
	fake_batch(d->state);
	for (write = 0; write < 2; write++) {
		a = fake_ask(d->state, d->id++, 3, write);
		assert_int_equal(a.m.dst_sector, sector);
		assert_int_equal(a.m.flags, DMU_MAP_WRITE);
		assert_true(a.m.dst == STORE_DEV);
	}
}

static void a_new_daemon_knows_what_was_committed(void **ctx)
{
	struct served *d = *ctx;
	uint64_t sector = store_block(d, 3), other = write_block(d, 4);
	struct fake_answer a;

	fake_sync(d->state, d->id - 1, 4);
	die(d);
	start_again(d);
	a = fake_ask(d->state, 1, 3, true);
	assert_int_equal(a.m.dst_sector, sector);
	assert_int_equal(a.m.flags, DMU_MAP_WRITE);
	/* The other one is copied anew, and to another place. */
	a = fake_ask(d->state, 2, 4, true);
	assert_int_equal(a.m.flags, NEW);
	assert_int_not_equal(a.m.dst_sector, other);
}

static void an_answer_that_cannot_be_sent_keeps_its_place(void **ctx)
{
	struct served *d = *ctx;
	uint64_t sector = cow_place_offset(0, BLOCK) / 512;

	fake.map_error = -ENOMEM;
	assert_true(fake_ask(d->state, 1, 3, true).failed);
	fake.map_error = 0;
	assert_int_equal(write_block(d, 3), sector);
	assert_int_equal(fake.logged[LOG_ERR], 1);
}

/* Ahead of demand */

/*
 * Reads one batch of blocks; what is pushed follows them. Returns how many that is, with
 * the one that is left out.
 */
static uint64_t read_blocks(struct served *d, uint64_t from, uint64_t n)
{
	const struct fake_run *run = fake.pushed;

	fake.nr_pushed = 0;
	while (n--)
		fake_ask(d->state, d->id++, from++, false);
	fake_batch(d->state);
	if (!fake.nr_pushed)
		return 0;
	assert_int_equal(run->first.block, from);
	if (fake.nr_pushed == 1)
		return run->n;
	assert_int_equal(run[1].first.block, from + run->n + 1);
	assert_int_equal(run[1].first.dst_sector,
			 run->first.dst_sector + (run->n + 1) * (BLOCK / 512));
	return run->n + 1 + run[1].n;
}

static void who_reads_on_is_told_ahead(void **ctx)
{
	struct served *d = *ctx;
	uint64_t at = 20, n;

	assert_int_equal(read_blocks(d, 0, 3), 0);
	assert_int_equal(read_blocks(d, 10, 2), 0);
	assert_int_equal(read_blocks(d, 12, 1), 0);
	assert_int_equal(read_blocks(d, 13, 1), 4);
	assert_true(fake.pushed[0].first.dst == ORIGIN_DEV);
	assert_int_equal(fake.pushed[0].first.dst_sector, 14 * 8);
	assert_int_equal(fake.pushed[0].first.flags, 0);
	assert_int_equal(read_blocks(d, 18, 1), 9);
	/* One that was asked for just before: no reason to lose track. */
	assert_int_equal(read_blocks(d, 20, 1), 0);
	assert_int_equal(read_blocks(d, 28, 1), 19);
	/* And not again for what did not read on. */
	fake_batch(d->state);
	write_block(d, 28);
	fake.nr_pushed = 0;
	fake_batch(d->state);
	assert_int_equal(fake.nr_pushed, 0);
	assert_int_equal(read_blocks(d, 3, 1), 0);
	for (n = 4; n < 1024; n *= 2) {
		at = 8 * n + 500;
		assert_int_equal(read_blocks(d, at, n), n);
	}
	assert_int_equal(read_blocks(d, 9000, 9000), 8192);
	assert_int_equal(fake.pushed[0].n, 4096);
	/* The last block is a short one, and none follows. */
	assert_int_equal(read_blocks(d, LAST - 7, 6), 2);
	assert_int_equal(read_blocks(d, LAST - 6, 7), 0);
}

/* The reader is half-way through what was told when more is told. */
static void what_was_left_out_asks_for_more(void **ctx)
{
	struct served *d = *ctx;

	assert_int_equal(read_blocks(d, 0, 255), 255);
	assert_int_equal(fake.nr_pushed, 1);
	assert_int_equal(read_blocks(d, 510, 1), 511);
	assert_int_equal(fake.nr_pushed, 2);
	assert_int_equal(fake.pushed[0].n, 255);
	/* Others of these were asked for just before. */
	fake.nr_pushed = 0;
	fake_ask(d->state, d->id++, 511 + 254, false);
	fake_ask(d->state, d->id++, 511 + 256, false);
	fake_batch(d->state);
	assert_int_equal(fake.nr_pushed, 0);
	/* A write asks for a place. */
	write_block(d, 511 + 255);
	fake_batch(d->state);
	assert_int_equal(fake.nr_pushed, 0);
	fake_ask(d->state, d->id++, 511 + 255, false);
	fake_batch(d->state);
	assert_int_equal(fake.nr_pushed, 2);
	assert_int_equal(fake.pushed[0].first.block, 1022);
	assert_int_equal(fake.pushed[0].n, 511);
	assert_int_equal(fake.pushed[1].first.block, 1022 + 512);
	assert_int_equal(fake.pushed[1].n, 510);
	/* Once. */
	fake.nr_pushed = 0;
	fake_ask(d->state, d->id++, 511 + 255, false);
	fake_batch(d->state);
	assert_int_equal(fake.nr_pushed, 0);
	/* Where the second half is refused, the reader has got to the end of the first. */
	fake.most_pushed = 1;
	fake_ask(d->state, d->id++, 1022 + 511, false);
	fake_batch(d->state);
	assert_int_equal(fake.nr_pushed, 1);
	assert_int_equal(fake.pushed[0].first.block, 2044);
	assert_int_equal(fake.pushed[0].n, 1022);
	fake.most_pushed = 0;
	assert_int_equal(read_blocks(d, 3066, 1), 0);
	fake.most_pushed = FAKE_MAX_PUSHED;
	assert_int_equal(read_blocks(d, 3067, 1), 3068);
}

static void who_is_not_told_for_lack_of_memory_begins_anew(void **ctx)
{
	struct served *d = *ctx;

	assert_int_equal(read_blocks(d, 0, 255), 255);
	assert_int_equal(read_blocks(d, 510, 1), 511);
	fake.nr_pushed = 0;
	/* That is about something else. */
	dmud_policy.ops.refused(NULL, 0, 600, -ERANGE, d->state);
	dmud_policy.ops.refused(NULL, 7, 600, -ENOMEM, d->state);
	fake_ask(d->state, d->id++, 511 + 255, false);
	fake_batch(d->state);
	assert_int_equal(fake.nr_pushed, 2);
	fake.nr_pushed = 0;
	dmud_policy.ops.refused(NULL, 0, 1500, -ENOMEM, d->state);
	fake_ask(d->state, d->id++, 2044, false);
	fake_ask(d->state, d->id++, 2045, false);
	fake_ask(d->state, d->id++, 2046, false);
	fake_batch(d->state);
	assert_int_equal(fake.nr_pushed, 0);
	fake_ask(d->state, d->id++, 2047, false);
	fake_batch(d->state);
	assert_int_equal(fake.nr_pushed, 1);
	assert_int_equal(fake.pushed[0].n, 4);
}

static void what_is_told_ahead_is_certain(void **ctx)
{
	struct served *d = *ctx;
	uint64_t sector = store_block(d, 104);

	assert_int_equal(store_block(d, 105), sector + 8);
	assert_int_equal(store_block(d, 107), sector + 16);
	assert_int_equal(store_block(d, 106), sector + 24);
	write_block(d, 109);
	/* Durable, as far as places follow each other. */
	assert_int_equal(read_blocks(d, 99, 5), 2);
	assert_true(fake.pushed[0].first.dst == STORE_DEV);
	assert_int_equal(fake.pushed[0].first.dst_sector, sector);
	assert_int_equal(fake.pushed[0].first.flags, DMU_MAP_WRITE);
	assert_int_equal(read_blocks(d, 106, 1), 1);
	assert_int_equal(fake.pushed[0].first.dst_sector, sector + 16);
	/* The origin's, up to one that has a place. */
	assert_int_equal(read_blocks(d, 101, 3), 0);
	assert_int_equal(read_blocks(d, 90, 10), 4);
	/* One whose data is on its way, or not durable, is asked for. */
	assert_int_equal(read_blocks(d, 104, 5), 0);
	fake_sync(d->state, 1004, 109);
	d->store->fail_writes = 1;
	assert_int_equal(read_blocks(d, 5000, 1), 0);
	d->store->fail_writes = 1;
	assert_int_equal(read_blocks(d, 105, 4), 0);
	assert_int_equal(read_blocks(d, 5000, 1), 0);
	assert_int_equal(read_blocks(d, 105, 4), 1);
	assert_int_equal(fake.pushed[0].first.dst_sector, sector + 32);
}

static void nothing_is_told_ahead_to_an_older_kernel(void **ctx)
{
	struct served *d = *ctx;

	fake.has_runs = false;
	assert_int_equal(read_blocks(d, 0, 100), 0);
}

/* Acknowledging */

static void nothing_is_acknowledged_before_the_commit(void **ctx)
{
	struct served *d = *ctx;

	write_block(d, 3);
	fake_batch(d->state);
	fake_sync(d->state, 1000, 3);
	assert_int_equal(fake.nr_acked, 0);
	fake_batch(d->state);
	assert_int_equal(fake.nr_acked, 1);
	assert_int_equal(fake.acked[0], 1000);
	fake_batch(d->state);
	assert_int_equal(fake.nr_acked, 1);
}

static void a_batch_is_one_commit(void **ctx)
{
	struct served *d = *ctx;
	uint64_t writes, flushes, i;

	for (i = 0; i < 300; i++)
		write_block(d, i);
	fake_batch(d->state);
	writes = d->store->writes;
	flushes = d->store->flushes;
	for (i = 0; i < 300; i++)
		fake_sync(d->state, (uint32_t)(1000 + i), i);
	assert_int_equal(d->store->flushes, flushes);
	fake_batch(d->state);
	assert_int_equal(d->store->writes, writes + 1);
	assert_int_equal(d->store->flushes, flushes + 2);
	assert_int_equal(fake.nr_acked, 300);
	fake_batch(d->state);
	assert_int_equal(d->store->flushes, flushes + 2);
}

static void every_id_that_is_reported_is_acknowledged(void **ctx)
{
	struct served *d = *ctx;

	write_block(d, 3);
	write_block(d, 3);
	fake_sync(d->state, 1000, 3);
	fake_sync(d->state, 1001, 3);
	fake_batch(d->state);
	assert_int_equal(fake.nr_acked, 2);
	/* One that comes late waits for nothing. */
	fake_sync(d->state, 1002, 3);
	assert_int_equal(fake.nr_acked, 3);
}

static void an_unknown_block_is_not_acknowledged(void **ctx)
{
	struct served *d = *ctx;

	fake_sync(d->state, 1000, 3);
	fake_batch(d->state);
	assert_int_equal(fake.nr_acked, 0);
	assert_int_equal(fake.logged[LOG_ERR], 1);
}

static void an_acknowledgment_that_cannot_be_sent_is_repeated(void **ctx)
{
	struct served *d = *ctx;

	write_block(d, 3);
	fake_sync(d->state, 1000, 3);
	fake.sync_error = -ENOMEM;
	fake_batch(d->state);
	fake_sync(d->state, 1001, 3);
	assert_int_equal(fake.nr_acked, 0);
	fake.sync_error = 0;
	fake_batch(d->state);
	assert_int_equal(fake.nr_acked, 2);
}

static void more_reports_than_can_be_held(void **ctx)
{
	struct served *d = *ctx;
	uint32_t i;

	write_block(d, 3);
	write_block(d, 4);
	for (i = 0; i < 70000; i++)
		fake_sync(d->state, i, i < 65000 ? 3 : 4);
	assert_in_range(fake.nr_acked, 65000, 70000);
	fake_batch(d->state);
	assert_int_equal(fake.nr_acked, 70000);
	assert_int_equal(fake.logged[LOG_ERR], 0);
}

/* What was answered before commits began to fail is reported all the same. */
static void more_reports_than_room_while_commits_fail(void **ctx)
{
	struct served *d = *ctx;
	uint32_t i;

	write_block(d, 3);
	write_block(d, 4);
	d->store->fail_writes = 1000000;
	for (i = 0; i < 140000; i++)
		fake_sync(d->state, i, 3 + i % 2);
	fake_batch(d->state);
	assert_int_equal(fake.nr_acked, 0);
	d->store->fail_writes = 0;
	fake_batch(d->state);
	assert_int_equal(fake.nr_acked, 140000);
	assert_int_equal(fake.acked[139999], 139999);
	assert_int_equal(fake.logged[LOG_ERR], 1);
}

/* A full store */

static void a_full_store_fails_new_writes_only(void **ctx)
{
	struct served *d = *ctx;
	uint64_t first = store_block(d, 0);

	fill_up(d, 1, 599);
	assert_true(fake_ask(d->state, 1, 700, true).failed);
	assert_true(fake_ask(d->state, 2, 701, true).failed);
	assert_int_equal(fake.logged[LOG_ERR], 1);
	assert_non_null(strstr(fake.last, "is full (600 blocks"));
	assert_true(fake_ask(d->state, 3, 700, false).m.dst == ORIGIN_DEV);
	assert_int_equal(fake_ask(d->state, 4, 0, true).m.dst_sector, first);
	die(d);
	start_again(d);
	assert_int_equal(fake_ask(d->state, 4, 0, true).m.dst_sector, first);
	assert_true(fake_ask(d->state, 1, 700, true).failed);
}

static void a_grown_store_goes_on(void **ctx)
{
	struct served *d = *ctx;

	fill_up(d, 0, 600);
	assert_true(fake_ask(d->state, 1, 700, true).failed);
	assert_false(dmud_policy.grow(d->state, &d->env));
	assert_true(fake_ask(d->state, 1, 700, true).failed);
	assert_int_equal(fake.logged[LOG_ERR], 1);

	sim_grow(d->store, room_for(610));
	assert_false(dmud_policy.grow(d->state, &d->env));
	fill_up(d, 700, 10);
	assert_int_equal(fake.logged[LOG_ERR], 1);
	/* Full once more: said once more. */
	assert_true(fake_ask(d->state, 1, 800, true).failed);
	assert_true(fake_ask(d->state, 1, 801, true).failed);
	assert_int_equal(fake.logged[LOG_ERR], 2);
}

/* What was a short last block would be half copied. */
static void a_grown_device_is_refused(void **ctx)
{
	struct served *d = *ctx;

	fake.geo.sectors = SECTORS + 100;
	assert_int_equal(dmud_policy.grow(d->state, &d->env), -EINVAL);
	assert_non_null(strstr(d->env.error,
			       "for a device of 240001 sectors, not 240101"));
	assert_true(fake_ask(d->state, 1, LAST + 1, true).failed);
	assert_false(fake_ask(d->state, 2, LAST, true).failed);
	/* The store's own growth was noted all the same. */
	sim_grow(d->store, room_for(610));
	assert_int_equal(dmud_policy.grow(d->state, &d->env), -EINVAL);
	fill_up(d, 0, 609);
}

/* I/O errors */

static void a_failed_commit_is_tried_again(void **ctx)
{
	struct served *d = *ctx;
	uint64_t sector = store_block(d, 1);

	write_block(d, 2);
	fake_sync(d->state, d->id - 1, 2);
	d->store->fail_writes = 3;
	fake_batch(d->state);
	fake_batch(d->state);
	assert_int_equal(fake.nr_acked, 1);
	assert_int_equal(fake.logged[LOG_ERR], 1);
	/* It is tried before a new write is refused, once a batch. */
	assert_true(fake_ask(d->state, 1, 3, true).failed);
	assert_true(fake_ask(d->state, 1, 4, true).failed);
	assert_int_equal(d->store->fail_writes, 0);
	assert_int_equal(fake_ask(d->state, 1, 1, true).m.dst_sector, sector);
	fake_batch(d->state);
	/* The next batch begins with one that works. */
	write_block(d, 3);
	assert_int_equal(fake.nr_acked, 2);
	assert_int_equal(fake.logged[LOG_ERR], 1);
	assert_int_equal(fake.logged[LOG_NOTICE], 2); /* formatted, and this */
	/* And what comes later in that batch is not forgotten. */
	fake_sync(d->state, d->id - 1, 3);
	fake_batch(d->state);
	assert_int_equal(fake.nr_acked, 3);
}

/* A held write's owner may send nothing more: the daemon is to wake up by itself. */
static void it_asks_to_be_called_while_something_is_owed(void **ctx)
{
	struct served *d = *ctx;

	assert_true(dmud_policy.patience(d->state) < 0);
	write_block(d, 2);
	assert_true(dmud_policy.patience(d->state) < 0);
	fake_sync(d->state, d->id - 1, 2);
	d->store->fail_writes = 2;
	fake_batch(d->state);
	assert_in_range(dmud_policy.patience(d->state), 500, 5000);
	fake_batch(d->state);
	assert_int_equal(fake.nr_acked, 0);
	assert_in_range(dmud_policy.patience(d->state), 500, 5000);
	fake_batch(d->state);
	assert_int_equal(fake.nr_acked, 1);
	assert_true(dmud_policy.patience(d->state) < 0);
	/* An acknowledgment that could not be sent. */
	write_block(d, 3);
	fake_sync(d->state, d->id - 1, 3);
	fake.sync_error = -EAGAIN;
	fake_batch(d->state);
	assert_in_range(dmud_policy.patience(d->state), 500, 5000);
	fake.sync_error = 0;
	fake_batch(d->state);
	assert_int_equal(fake.nr_acked, 2);
	/* After a flush that failed there is nothing to try. */
	write_block(d, 4);
	fake_sync(d->state, d->id - 1, 4);
	d->store->fail_flushes = 1;
	fake_batch(d->state);
	assert_true(dmud_policy.patience(d->state) < 0);
}

static void growing_also_tries_again(void **ctx)
{
	struct served *d = *ctx;

	write_block(d, 2);
	fake_sync(d->state, d->id - 1, 2);
	d->store->fail_writes = 1;
	fake_batch(d->state);
	assert_int_equal(fake.nr_acked, 0);
	d->store->fail_writes = 1;
	assert_int_equal(dmud_policy.grow(d->state, &d->env), -EIO);
	assert_non_null(strstr(d->env.error, "metadata written: Input/output error"));
	assert_int_equal(fake.nr_acked, 0);
	assert_false(dmud_policy.grow(d->state, &d->env));
	assert_int_equal(fake.nr_acked, 1);
	/* What is broken is not mended by growing. */
	write_block(d, 3);
	fake_sync(d->state, d->id - 1, 3);
	d->store->fail_flushes = 1;
	fake_batch(d->state);
	assert_int_equal(dmud_policy.grow(d->state, &d->env), -EIO);
	assert_non_null(strstr(d->env.error, "a new one will"));
}

static void a_failed_flush_ends_commits(void **ctx)
{
	struct served *d = *ctx;
	uint64_t sector = store_block(d, 1);

	write_block(d, 2);
	fake_sync(d->state, d->id - 1, 2);
	d->store->fail_flushes = 1;
	fake_batch(d->state);
	fake_batch(d->state);
	fake_batch(d->state);
	assert_int_equal(fake.nr_acked, 1);
	assert_int_equal(fake.logged[LOG_CRIT], 1);
	assert_true(fake_ask(d->state, 1, 3, true).failed);
	assert_int_equal(fake_ask(d->state, 1, 1, true).m.flags,
			 DMU_MAP_WRITE);
	assert_true(fake_ask(d->state, 1, 3, false).m.dst == ORIGIN_DEV);
	assert_int_equal(fake_ask(d->state, 1, 2, true).m.flags,
			 DMU_MAP_WRITE | DMU_MAP_SYNC);
	fake_close(d->state);
	start_again(d);
	assert_int_equal(fake_ask(d->state, 1, 1, true).m.dst_sector, sector);
	assert_int_equal(fake_ask(d->state, 1, 2, true).m.flags, NEW);
}

static void a_flush_that_fails_while_allotting_is_said(void **ctx)
{
	struct served *d = *ctx;

	d->store->fail_flushes = 1;
	assert_true(fake_ask(d->state, 1, 3, true).failed);
	assert_true(fake_ask(d->state, 1, 3, true).failed);
	fake_batch(d->state);
	assert_int_equal(fake.logged[LOG_CRIT], 1);
	assert_int_equal(fake.logged[LOG_ERR], 1);
}

/* Opening */

static void a_blank_store_is_formatted(void **ctx)
{
	struct served *d = *ctx;
	struct cow_super sb;
	char err[COW_ERROR_SIZE];

	assert_int_equal(cow_store_probe(d->store->fd, &sb, err), COW_STORE);
	assert_int_equal(sb.geo.block_size, BLOCK);
	assert_int_equal(sb.geo.mapped_sectors, SECTORS);
	assert_int_equal(sb.geo.origin_sectors, SECTORS);
}

static void a_larger_origin_is_fine(void **ctx)
{
	struct served *d = *ctx;

	fake_close(d->state);
	fake.origin_sectors = SECTORS + 1000;
	refused(&(struct served) { .store = d->store }, NULL,
		"for an origin of 240001 sectors, not 241001");
	memset(sim_disk(d->store, 0), 0, COW_HEAD_SIZE);
	start_again(d);
	assert_true(fake_ask(d->state, 7, LAST + 1, false).failed);
}

static void other_geometries_are_refused(void **ctx)
{
	struct served *d = *ctx;

	fake.geo.block_size = 8192;
	refused(d, NULL, "for blocks of 4096 bytes, not 8192");
	fake.geo.block_size = BLOCK;
	fake.geo.sectors = SECTORS - 1;
	refused(d, NULL, "for a device of 240001 sectors, not 240000");
	fake.geo.sectors = SECTORS + 1;
	refused(d, NULL, "has 240002 sectors, its origin only 240001");
}

static void wrong_devices_are_refused(void **ctx)
{
	struct served *d = *ctx;

	fake.geo.nr_devices = 3;
	refused(d, NULL, "names 3");
	fake.geo.nr_devices = 1;
	refused(d, NULL, "names 1");
	fake.geo.nr_devices = 2;
	fake.devices[1] = ORIGIN_DEV;
	refused(d, NULL, "same device");
	fake.devices[1] = makedev(9, 9);
	refused(d, NULL, "is not the device that the table names");
	fake.origin_sectors = 0;
	refused(d, NULL, "size of the origin");
}

static void wrong_options_are_refused(void **ctx)
{
	struct served *d = *ctx;

	refused(d, "format=maybe", "format=maybe");
	refused(d, "size=5", "size=5");
	refused(d, "store-path=/nowhere", "/nowhere cannot be opened");
}

static void foreign_contents_are_not_overwritten(void **ctx)
{
	struct served *d = *ctx;
	uint64_t writes;

	fake_close(d->state);
	d->state = NULL;
	memset(sim_disk(d->store, 0), 0, COW_HEAD_SIZE);
	memcpy(sim_disk(d->store, 1080), "\x53\xef", 2);
	writes = d->store->writes;
	refused(d, NULL, "holds something that is not a cow store (it looks like ext");
	refused(d, "format=no", "not a cow store");
	assert_int_equal(d->store->writes, writes);
	assert_false(fake_open(d->store, &d->env, "format=yes", &d->state));
}

static void no_means_no(void **ctx)
{
	struct served *d = *ctx;

	fake_close(d->state);
	d->state = NULL;
	memset(sim_disk(d->store, 0), 0, COW_HEAD_SIZE);
	refused(d, "format=no", "is blank, and format=no");
}

static void a_damaged_store_needs_force(void **ctx)
{
	struct served *d = *ctx;

	fake_close(d->state);
	d->state = NULL;
	*sim_disk(d->store, 40) ^= 1;
	*sim_disk(d->store, COW_SUPER_DISTANCE + 40) ^= 1;
	refused(d, NULL, "both its superblocks are damaged");
	refused(d, "format=yes", "both its superblocks are damaged");
	assert_false(fake_open(d->store, &d->env, "format=force", &d->state));
}

static void no_option_formats_a_whole_store(void **ctx)
{
	struct served *d = *ctx;
	uint64_t sector = store_block(d, 7);

	fake_close(d->state);
	assert_false(fake_open(d->store, &d->env, "format=force", &d->state));
	assert_int_equal(fake_ask(d->state, 1, 7, true).m.dst_sector, sector);
	/* Not even one that does not fit. */
	fake.geo.block_size = 8192;
	refused(d, "format=force", "for blocks of 4096 bytes, not 8192");
}

static void a_second_daemon_is_refused(void **ctx)
{
	struct served *d = *ctx;
	struct dmud_env env;
	void *state;

	assert_int_equal(fake_open(d->store, &env, NULL, &state), -EBUSY);
	assert_non_null(strstr(env.error, "in use by another process"));
}

static void a_store_too_small_is_refused(void **ctx)
{
	struct served *d = *ctx;

	fake_close(d->state);
	d->state = NULL;
	memset(sim_disk(d->store, 0), 0, COW_HEAD_SIZE);
	sim_grow(d->store, room_for(1) - 1);
	refused(d, NULL, "is too small");
}

static void status_tells_what_is_in_use(void **ctx)
{
	struct served *d = *ctx;
	struct json_object *obj = json_object_new_object(), *member;
	static const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {
		{ "block_size", BLOCK },
		{ "blocks_total", 600 },
		{ "blocks_used", 3 },
		{ "blocks_committed", 2 },
		{ "commits", 2 },
		{ "writes_held", 0 },
		{ "bad_slots", 0 },
		{ "writes_refused", 0 },
	};
	size_t i;

	fill_up(d, 0, 2);
	write_block(d, 5);
	dmud_policy.status(d->state, obj);
	for (i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		assert_true(json_object_object_get_ex(obj, numbers[i].name,
						      &member));
		assert_int_equal(json_object_get_uint64(member),
				 numbers[i].value);
	}
	assert_true(json_object_object_get_ex(obj, "full", &member));
	assert_false(json_object_get_boolean(member));
	json_object_put(obj);
}

static void status_tells_of_bad_slots(void **ctx)
{
	struct served *d = *ctx;
	struct json_object *obj = json_object_new_object(), *member;

	fill_up(d, 0, 2);
	fake_close(d->state);
	d->state = NULL;
	/* The one that is not needed. */
	*sim_disk(d->store, cow_slot_offset(0, 1, BLOCK) + 100) ^= 1;
	start_again(d);
	dmud_policy.status(d->state, obj);
	assert_true(json_object_object_get_ex(obj, "bad_slots", &member));
	assert_int_equal(json_object_get_uint64(member), 1);
	json_object_put(obj);
}

#define POLICY_TEST(name) \
	cmocka_unit_test_setup_teardown(name, served_set_up,	\
					served_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		POLICY_TEST(a_read_goes_to_the_origin),
		POLICY_TEST(a_write_gets_a_place_and_a_copy),
		POLICY_TEST(the_answer_follows_the_block),
		POLICY_TEST(a_new_daemon_knows_what_was_committed),
		POLICY_TEST(an_answer_that_cannot_be_sent_keeps_its_place),
		POLICY_TEST(who_reads_on_is_told_ahead),
		POLICY_TEST(what_was_left_out_asks_for_more),
		POLICY_TEST(who_is_not_told_for_lack_of_memory_begins_anew),
		POLICY_TEST(what_is_told_ahead_is_certain),
		POLICY_TEST(nothing_is_told_ahead_to_an_older_kernel),
		POLICY_TEST(nothing_is_acknowledged_before_the_commit),
		POLICY_TEST(a_batch_is_one_commit),
		POLICY_TEST(every_id_that_is_reported_is_acknowledged),
		POLICY_TEST(an_unknown_block_is_not_acknowledged),
		POLICY_TEST(an_acknowledgment_that_cannot_be_sent_is_repeated),
		POLICY_TEST(more_reports_than_can_be_held),
		POLICY_TEST(more_reports_than_room_while_commits_fail),
		POLICY_TEST(a_full_store_fails_new_writes_only),
		POLICY_TEST(a_grown_store_goes_on),
		POLICY_TEST(a_grown_device_is_refused),
		POLICY_TEST(a_failed_commit_is_tried_again),
		POLICY_TEST(it_asks_to_be_called_while_something_is_owed),
		POLICY_TEST(growing_also_tries_again),
		POLICY_TEST(a_failed_flush_ends_commits),
		POLICY_TEST(a_flush_that_fails_while_allotting_is_said),
		POLICY_TEST(a_blank_store_is_formatted),
		POLICY_TEST(a_larger_origin_is_fine),
		POLICY_TEST(other_geometries_are_refused),
		POLICY_TEST(wrong_devices_are_refused),
		POLICY_TEST(wrong_options_are_refused),
		POLICY_TEST(foreign_contents_are_not_overwritten),
		POLICY_TEST(no_means_no),
		POLICY_TEST(a_damaged_store_needs_force),
		POLICY_TEST(no_option_formats_a_whole_store),
		POLICY_TEST(a_second_daemon_is_refused),
		POLICY_TEST(a_store_too_small_is_refused),
		POLICY_TEST(status_tells_what_is_in_use),
		POLICY_TEST(status_tells_of_bad_slots),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
