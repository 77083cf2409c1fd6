// SPDX-License-Identifier: GPL-2.0-only
/*
 * The on-disk format: layout, superblocks, pages.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "format.h"
#include "sim.h"

#define STORE_BYTES	(8ull << 20)

static const struct cow_geometry geo = {
	.block_size = 65536,
	.origin_sectors = 204801,
	.mapped_sectors = 204800,
};

static char err[COW_ERROR_SIZE];

static struct sim *blank(uint64_t bytes)
{
	struct sim *s = sim_new(bytes);

	sim_select(s);
	return s;
}

static struct sim *formatted(void)
{
	struct sim *s = blank(STORE_BYTES);

	assert_false(cow_store_format(s->fd, &geo, err));
	return s;
}

static void superblock_crc(uint8_t *super)
{
	uint32_t crc;

	memset(super + 20, 0, 4);
	crc = htole32((uint32_t)crc32_z(0, super, COW_SLOT_SIZE));
	memcpy(super + 20, &crc, 4);
}

/* Layout */

static void places_are_aligned_and_apart(void **unused)
{
	uint32_t size;

	(void)unused;
	for (size = COW_MIN_BLOCK_SIZE; size <= COW_MAX_BLOCK_SIZE; size *= 2) {
		uint32_t align = size < 1u << 20 ? size : 1u << 20;
		uint64_t zone;

		for (zone = 0; zone < 5; zone++) {
			uint64_t first = zone * COW_ZONE_PLACES;
			uint64_t last = first + COW_ZONE_PLACES - 1;

			assert_int_equal(cow_place_offset(first, size) % align,
					 0);
			assert_int_equal(cow_place_offset(first + 1, size) -
					 cow_place_offset(first, size), size);
			assert_int_equal(cow_place_offset(first, size),
					 cow_zone_offset(zone, size) +
					 COW_ZONE_META_SIZE);
			assert_int_equal(cow_place_offset(last, size) + size,
					 cow_zone_offset(zone + 1, size));
		}
		if (size == COW_MAX_BLOCK_SIZE)
			break;
	}
}

static void slots_fill_the_head_of_a_zone(void **unused)
{
	uint64_t page = 2 * COW_ZONE_PAGES;

	(void)unused;
	assert_int_equal(cow_slot_offset(page, 0, 4096),
			 cow_zone_offset(2, 4096));
	assert_int_equal(cow_slot_offset(page, 1, 4096),
			 cow_zone_offset(2, 4096) + (1 << 20));
	assert_int_equal(cow_slot_offset(page + 255, 1, 4096),
			 cow_zone_offset(2, 4096) + (2 << 20) - 4096);
	assert_int_equal(cow_slot_offset(page + 256, 0, 4096),
			 cow_zone_offset(3, 4096));
}

static void room_is_counted_to_the_byte(void **unused)
{
	uint64_t n[] = { 1, 2, 504, COW_ZONE_PLACES, COW_ZONE_PLACES + 1,
			 7ull * COW_ZONE_PLACES + 77 };
	uint32_t size;
	size_t i;

	(void)unused;
	assert_int_equal(cow_places(0, 512), 0);
	assert_int_equal(cow_places(COW_HEAD_SIZE + COW_ZONE_META_SIZE, 512),
			 0);
	for (size = 512; size <= 1u << 20; size *= 4) {
		for (i = 0; i < sizeof(n) / sizeof(*n); i++) {
			uint64_t end = cow_place_offset(n[i] - 1, size) + size;

			assert_int_equal(cow_places(end, size), n[i]);
			assert_int_equal(cow_places(end - 1, size), n[i] - 1);
		}
	}
	/* Pages of a new zone alone are no room. */
	assert_int_equal(cow_places(cow_zone_offset(1, 512) + 4096, 512),
			 COW_ZONE_PLACES);
}

/* Superblocks */

static void a_new_store_is_recognised(void **unused)
{
	struct sim *s = formatted();
	struct cow_super sb;

	(void)unused;
	assert_int_equal(s->nr, 0); /* all of it flushed */
	assert_int_equal(cow_store_probe(s->fd, &sb, err), COW_STORE);
	assert_int_equal(sb.geo.block_size, geo.block_size);
	assert_int_equal(sb.geo.origin_sectors, geo.origin_sectors);
	assert_int_equal(sb.geo.mapped_sectors, geo.mapped_sectors);
	assert_int_equal(sb.zones, 0);
	assert_true(sb.clean);
	assert_false(sb.lopsided);
	assert_true(sb.created > 1700000000);
	assert_int_equal(cow_geometry_blocks(&sb.geo), 1600);
	sim_free(s);
}

static void two_stores_have_different_uuids(void **unused)
{
	struct sim *s = formatted();
	struct cow_super a, b;

	(void)unused;
	assert_int_equal(cow_store_probe(s->fd, &a, err), COW_STORE);
	assert_false(cow_store_format(s->fd, &geo, err));
	assert_int_equal(cow_store_probe(s->fd, &b, err), COW_STORE);
	assert_memory_not_equal(a.uuid, b.uuid, sizeof(a.uuid));
	sim_free(s);
}

static void a_blank_store_is_blank(void **unused)
{
	struct sim *s = blank(STORE_BYTES);
	struct cow_super sb;

	(void)unused;
	/* Beyond the head anything may be. */
	*sim_disk(s, COW_HEAD_SIZE) = 1;
	assert_int_equal(cow_store_probe(s->fd, &sb, err), COW_BLANK);
	*sim_disk(s, COW_HEAD_SIZE - 1) = 1;
	assert_int_equal(cow_store_probe(s->fd, &sb, err), COW_FOREIGN);
	sim_free(s);
}

static void foreign_contents_are_named(void **unused)
{
	static const struct {
		uint64_t offset;
		const char *bytes;
		const char *name;
	} cases[] = {
		{ 1080, "\x53\xef", "ext4" },
		{ 0, "XFSB", "XFS" },
		{ 0, "LUKS\xba\xbe", "LUKS" },
		{ 512, "LABELONE", "LVM" },
		{ 510, "\x55\xaa", "partition table" },
		{ 65600, "_BHRfS_M", "btrfs" },
		{ 700000, "junk", "not a cow store" },
	};
	struct cow_super sb;
	size_t i;

	(void)unused;
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sim *s = blank(STORE_BYTES);

		memcpy(sim_disk(s, cases[i].offset), cases[i].bytes,
		       strlen(cases[i].bytes));
		assert_int_equal(cow_store_probe(s->fd, &sb, err),
				 COW_FOREIGN);
		assert_non_null(strstr(err, cases[i].name));
		assert_int_equal(s->writes, 0);
		sim_free(s);
	}
}

static void one_superblock_is_enough(void **unused)
{
	unsigned int copy;

	(void)unused;
	for (copy = 0; copy < 2; copy++) {
		struct sim *s = formatted();
		struct cow_super sb;

		*sim_disk(s, copy * COW_SUPER_DISTANCE + 50) ^= 1;
		assert_int_equal(cow_store_probe(s->fd, &sb, err), COW_STORE);
		assert_true(sb.lopsided);
		assert_int_equal(sb.geo.block_size, geo.block_size);
		*sim_disk(s, !copy * COW_SUPER_DISTANCE + 3000) ^= 1;
		assert_int_equal(cow_store_probe(s->fd, &sb, err),
				 COW_UNUSABLE);
		sim_free(s);
	}
}

static void no_flipped_bit_goes_unnoticed(void **unused)
{
	struct sim *s = formatted();
	struct cow_super sb;
	uint64_t rng = 3;
	unsigned int i;

	(void)unused;
	memset(sim_disk(s, COW_SUPER_DISTANCE), 0, COW_SLOT_SIZE);
	for (i = 0; i < COW_SLOT_SIZE; i += i < 128 ? 1 : 61) {
		uint8_t bit = (uint8_t)(1u << rnd_below(&rng, 8));

		*sim_disk(s, i) ^= bit;
		assert_int_not_equal(cow_store_probe(s->fd, &sb, err),
				     COW_STORE);
		*sim_disk(s, i) ^= bit;
	}
	assert_int_equal(cow_store_probe(s->fd, &sb, err), COW_STORE);
	sim_free(s);
}

static void the_newer_superblock_counts(void **unused)
{
	unsigned int newer;

	(void)unused;
	for (newer = 0; newer < 2; newer++) {
		struct sim *s = formatted();
		struct cow_super sb;
		uint8_t *super = sim_disk(s, newer * COW_SUPER_DISTANCE);

		super[24]++; /* generation */
		super[80] = 9; /* zones */
		superblock_crc(super);
		assert_int_equal(cow_store_probe(s->fd, &sb, err), COW_STORE);
		assert_int_equal(sb.zones, 9);
		assert_true(sb.lopsided);
		sim_free(s);
	}
}

static void superblocks_of_two_stores_are_refused(void **unused)
{
	struct sim *s = formatted();
	uint8_t *super = sim_disk(s, 0);
	struct cow_super sb;

	(void)unused;
	super[32] ^= 1;
	superblock_crc(super);
	assert_int_equal(cow_store_probe(s->fd, &sb, err), COW_UNUSABLE);
	assert_non_null(strstr(err, "two different"));
	sim_free(s);
}

static void a_newer_format_is_refused(void **unused)
{
	static const size_t offsets[] = { 16 /* version */, 52 /* flags */ };
	size_t i;

	(void)unused;
	for (i = 0; i < 2; i++) {
		struct sim *s = formatted();
		uint8_t *super = sim_disk(s, 0);
		struct cow_super sb;

		super[offsets[i]] |= 2;
		superblock_crc(super);
		assert_int_equal(cow_store_probe(s->fd, &sb, err),
				 COW_UNUSABLE);
		assert_non_null(strstr(err, "newer format"));
		sim_free(s);
	}
}

static void a_store_without_superblocks_is_not_foreign(void **unused)
{
	struct sim *s = formatted();
	struct cow_disk_page page = { .used = 0 };
	uint8_t uuid[16] = { 1 };
	struct cow_super sb;

	(void)unused;
	cow_page_seal(&page, uuid, 0);
	memcpy(sim_disk(s, COW_HEAD_SIZE), &page, sizeof(page));
	memset(sim_disk(s, 0), 'x', COW_HEAD_SIZE);
	assert_int_equal(cow_store_probe(s->fd, &sb, err), COW_UNUSABLE);
	sim_free(s);
}

static void impossible_stores_are_not_made(void **unused)
{
	struct cow_geometry bad[] = { geo, geo, geo, geo, geo };
	struct cow_geometry huge = geo;
	struct cow_super sb;
	struct sim *s = blank(STORE_BYTES);
	size_t i;

	(void)unused;
	bad[0].block_size = 256;
	bad[1].block_size = 3 * 512;
	bad[2].block_size = 1u << 31;
	bad[3].mapped_sectors = geo.origin_sectors + 1;
	bad[4].mapped_sectors = 0;
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(cow_store_format(s->fd, &bad[i], err),
				 -EINVAL);
	huge.block_size = 8u << 20;
	assert_int_equal(cow_store_format(s->fd, &huge, err), -ENOSPC);
	assert_non_null(strstr(err, "8388608 bytes")); /* is, and asked for */
	assert_non_null(strstr(err, "11534336")); /* needed */
	assert_int_equal(s->writes, 0);
	sim_free(s);

	s = blank(COW_HEAD_SIZE - 4096);
	assert_int_equal(cow_store_probe(s->fd, &sb, err), -ENOSPC);
	assert_int_equal(cow_store_format(s->fd, &geo, err), -ENOSPC);
	sim_free(s);
}

static void formatting_leaves_nothing_foreign(void **unused)
{
	struct sim *s = blank(STORE_BYTES);
	struct cow_super sb;

	(void)unused;
	memset(sim_disk(s, 0), 'x', COW_HEAD_SIZE);
	assert_false(cow_store_format(s->fd, &geo, err));
	memset(sim_disk(s, 0), 0, COW_SLOT_SIZE);
	memset(sim_disk(s, COW_SUPER_DISTANCE), 0, COW_SLOT_SIZE);
	assert_int_equal(cow_store_probe(s->fd, &sb, err), COW_BLANK);
	sim_free(s);
}

static void crash_while_formatting(struct sim *s, enum sim_event what,
				   void *ctx)
{
	unsigned int *stores = ctx;
	uint64_t seed;

	(void)what;
	for (seed = 1; seed <= 20; seed++) {
		struct sim *crashed = sim_crash(s, seed);
		struct cow_super sb;
		int ret;

		sim_select(crashed);
		ret = cow_store_probe(crashed->fd, &sb, err);
		assert_true(ret >= 0);
		assert_null(strstr(err, "two different"));
		stores[0] += ret == COW_STORE && sb.geo.block_size == 65536;
		stores[1] += ret == COW_STORE && sb.geo.block_size == 4096;
		sim_select(s);
		sim_free(crashed);
	}
}

/* Interrupted anywhere, it leaves the old store, the new one, or none. */
static void formatting_can_be_interrupted(void **unused)
{
	struct sim *s = formatted();
	struct cow_geometry other = geo;
	unsigned int stores[2] = { 0, 0 };

	(void)unused;
	other.block_size = 4096;
	s->event = crash_while_formatting;
	s->ctx = stores;
	err[0] = '\0';
	assert_false(cow_store_format(s->fd, &other, err));
	assert_in_range(stores[0], 1, 40); /* until the first flush */
	assert_in_range(stores[1], 40, 80); /* one copy, and then both */
	sim_free(s);
}

/* Pages */

static struct cow_disk_page sample(uint64_t salt, const uint8_t *uuid)
{
	struct cow_disk_page page = { .used = htole32(COW_PAGE_ENTRIES) };
	uint64_t rng = salt;
	unsigned int i;

	page.commit = htole64(salt);
	for (i = 0; i < COW_PAGE_ENTRIES; i++)
		page.block[i] = rnd(&rng);
	cow_page_seal(&page, uuid, 77);
	return page;
}

static void a_page_is_valid_where_it_belongs(void **unused)
{
	uint8_t uuid[16] = "0123456789abcde";
	struct cow_disk_page page = sample(5, uuid);

	(void)unused;
	assert_true(cow_page_valid(&page, uuid, 77));
	assert_false(cow_page_valid(&page, uuid, 78));
	uuid[15] ^= 1;
	assert_false(cow_page_valid(&page, uuid, 77));
}

static void a_page_notices_every_flipped_bit(void **unused)
{
	const uint8_t uuid[16] = { 7 };
	struct cow_disk_page page = sample(5, uuid);
	uint8_t *p = (uint8_t *)&page;
	unsigned int i;

	(void)unused;
	for (i = 0; i < 8 * sizeof(page); i++) {
		p[i / 8] ^= (uint8_t)(1u << i % 8);
		assert_false(cow_page_valid(&page, uuid, 77));
		p[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	assert_true(cow_page_valid(&page, uuid, 77));
}

static void a_torn_page_is_not_valid(void **unused)
{
	const uint8_t uuid[16] = { 7 };
	struct cow_disk_page old = sample(5, uuid), new = sample(6, uuid);
	unsigned int mask, i;

	(void)unused;
	for (mask = 1; mask < 255; mask++) {
		struct cow_disk_page torn = old;

		for (i = 0; i < 8; i++)
			if (mask >> i & 1)
				memcpy((uint8_t *)&torn + i * 512,
				       (uint8_t *)&new + i * 512, 512);
		assert_false(cow_page_valid(&torn, uuid, 77));
	}
}

/* Without the simulation */

static void a_file_can_be_formatted_with_direct_io(void **unused)
{
	char path[] = "./cow-file-XXXXXX";
	int fd = mkstemp(path);
	struct cow_super sb;

	(void)unused;
	sim_select(NULL);
	assert_false(ftruncate(fd, STORE_BYTES));
	close(fd);
	fd = open(path, O_RDWR | O_DIRECT);
	unlink(path);
	if (fd < 0)
		skip(); /* a file system without O_DIRECT */
	assert_int_equal(cow_store_probe(fd, &sb, err), COW_BLANK);
	assert_false(cow_store_format(fd, &geo, err));
	assert_int_equal(cow_store_probe(fd, &sb, err), COW_STORE);
	close(fd);
}

static void a_store_is_locked_once(void **unused)
{
	char path[] = "./cow-file-XXXXXX";
	int a = mkstemp(path), b = open(path, O_RDWR);

	(void)unused;
	unlink(path);
	assert_false(cow_store_lock(a, err));
	assert_int_equal(cow_store_lock(b, err), -EBUSY);
	assert_non_null(strstr(err, "in use"));
	close(a);
	assert_false(cow_store_lock(b, err));
	close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(places_are_aligned_and_apart),
		cmocka_unit_test(slots_fill_the_head_of_a_zone),
		cmocka_unit_test(room_is_counted_to_the_byte),
		cmocka_unit_test(a_new_store_is_recognised),
		cmocka_unit_test(two_stores_have_different_uuids),
		cmocka_unit_test(a_blank_store_is_blank),
		cmocka_unit_test(foreign_contents_are_named),
		cmocka_unit_test(one_superblock_is_enough),
		cmocka_unit_test(no_flipped_bit_goes_unnoticed),
		cmocka_unit_test(the_newer_superblock_counts),
		cmocka_unit_test(superblocks_of_two_stores_are_refused),
		cmocka_unit_test(a_newer_format_is_refused),
		cmocka_unit_test(a_store_without_superblocks_is_not_foreign),
		cmocka_unit_test(impossible_stores_are_not_made),
		cmocka_unit_test(formatting_leaves_nothing_foreign),
		cmocka_unit_test(formatting_can_be_interrupted),
		cmocka_unit_test(a_page_is_valid_where_it_belongs),
		cmocka_unit_test(a_page_notices_every_flipped_bit),
		cmocka_unit_test(a_torn_page_is_not_valid),
		cmocka_unit_test(a_file_can_be_formatted_with_direct_io),
		cmocka_unit_test(a_store_is_locked_once),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
