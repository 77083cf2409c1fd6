// SPDX-License-Identifier: GPL-2.0-only
/*
 * A store knows the origin that it was made for by its ends.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>
#include <zlib.h>

#include "format.h"
#include "served.h"

#define ORIGIN_FILE	"./cow-origin"
#define ORIGIN_BYTES	(SECTORS * 512l)

static void change_origin(long at)
{
	FILE *f = fopen(ORIGIN_FILE, "r+");
	int old;

	assert_non_null(f);
	assert_false(fseek(f, at, SEEK_SET));
	old = fgetc(f);
	assert_false(fseek(f, at, SEEK_SET));
	fputc(old ^ 0x40, f);
	assert_false(fclose(f));
}

/* As served_set_up(), with an origin that can be read. */
static int set_up_origin(void **ctx)
{
	FILE *f = fopen(ORIGIN_FILE, "w");
	struct served *d;

	if (!f || ftruncate(fileno(f), ORIGIN_BYTES) || fclose(f) ||
	    served_set_up(ctx))
		return -1;
	d = *ctx;
	fake_close(d->state);
	memset(sim_disk(d->store, 0), 0, COW_HEAD_SIZE);
	fake.origin_path = ORIGIN_FILE;
	return fake_open(d->store, &d->env, NULL, &d->state);
}

static int tear_down_origin(void **ctx)
{
	unlink(ORIGIN_FILE);
	return served_tear_down(ctx);
}

static void opens(struct served *d, const char *opt)
{
	if (d->state)
		fake_close(d->state);
	if (fake_open(d->store, &d->env, opt, &d->state))
		fail_msg("%s", d->env.error);
}

static void another_origin_is_refused(void **ctx)
{
	static const long seen[] = {
		0, 65535, ORIGIN_BYTES - 65536, ORIGIN_BYTES - 1,
	}, unseen[] = { 65536, ORIGIN_BYTES / 2, ORIGIN_BYTES - 70000 };
	struct served *d = *ctx;
	uint64_t sector = store_block(d, 7), writes;
	size_t i;

	opens(d, NULL);
	for (i = 0; i < sizeof(seen) / sizeof(*seen); i++) {
		change_origin(seen[i]);
		if (d->state)
			fake_close(d->state);
		d->state = NULL;
		writes = d->store->writes;
		refused(d, NULL, "was made for an origin with other contents");
		assert_non_null(strstr(d->env.error, "(origin=accept allows that)"));
		refused(d, "origin=check", "with other contents");
		assert_int_equal(d->store->writes, writes);
		change_origin(seen[i]);
		opens(d, "origin=check");
	}
	for (i = 0; i < sizeof(unseen) / sizeof(*unseen); i++) {
		change_origin(unseen[i]);
		opens(d, NULL);
	}
	assert_int_equal(fake_ask(d->state, 1, 7, true).m.dst_sector, sector);
}

static void another_origin_can_be_accepted(void **ctx)
{
	struct served *d = *ctx;
	uint64_t sector = store_block(d, 7);

	change_origin(1080);
	opens(d, "origin=ignore");
	fake_close(d->state);
	d->state = NULL;
	refused(d, NULL, "with other contents");
	opens(d, "origin=accept");
	assert_non_null(strstr(fake.last, "blocks of 4096 bytes in use"));
	opens(d, NULL);
	assert_int_equal(fake_ask(d->state, 1, 7, true).m.dst_sector, sector);
	/* And a daemon that dies has not undone it. */
	store_block(d, 8);
	die(d);
	start_again(d);
	change_origin(1080);
	refused(d, NULL, "with other contents");
	change_origin(1080);
	d->store->fail_writes = 1;
	opens(d, "origin=accept");
	fake_close(d->state);
	change_origin(1080);
	d->store->fail_writes = 1;
	d->state = NULL;
	refused(d, "origin=accept", "cannot be written: Input/output error");
}

/* Its reads will fail; what is in the store is there all the same. */
static void an_origin_that_cannot_be_read_is_not_refused(void **ctx)
{
	struct served *d = *ctx;

	fake.origin_path = NULL;
	fake.logged[LOG_WARNING] = 0;
	opens(d, NULL);
	assert_int_equal(fake.logged[LOG_WARNING], 1);
	opens(d, "origin=accept");
	fake.origin_path = ORIGIN_FILE;
	opens(d, NULL);
	change_origin(0);
	refused(d, NULL, "with other contents");
}

/* By an older program: it goes with any origin, until somebody says which. */
static void a_store_that_knows_no_origin(void **ctx)
{
	struct served *d = *ctx;

	fake.origin_path = NULL;
	fake_close(d->state);
	memset(sim_disk(d->store, 0), 0, COW_HEAD_SIZE);
	d->state = NULL;
	opens(d, NULL);
	fake.origin_path = ORIGIN_FILE;
	opens(d, NULL);
	change_origin(0);
	opens(d, NULL);
	opens(d, "origin=accept");
	opens(d, NULL);
	change_origin(0);
	refused(d, NULL, "with other contents");
}

/* The mark itself */

static uint64_t mark_of(uint8_t *bytes, size_t sectors)
{
	int fd = open(ORIGIN_FILE, O_CREAT | O_TRUNC | O_RDWR, 0600);
	uint64_t mark;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, sectors * 512), sectors * 512);
	assert_int_equal(cow_origin_mark(fd, sectors, &mark), 0);
	assert_int_equal(cow_origin_mark(fd, sectors + 1, &mark), -EIO);
	close(fd);
	unlink(ORIGIN_FILE);
	return mark;
}

/* As documented: others may want to make it. */
static void both_ends_are_marked(void **unused)
{
	static const size_t sizes[] = { 1, 7, 8, 127, 128, 129, 136, 255, 256, 257, 400 };
	uint8_t bytes[400 * 512];
	size_t i, from;
	uint64_t rng = 3;
	uint32_t crc;

	(void)unused;
	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)rnd(&rng);
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		size_t size = sizes[i] * 512;
		size_t first = size < 65536 ? size : 65536;

		from = (size - first) / 4096 * 4096;
		crc = (uint32_t)crc32_z(0, bytes, first);
		crc = (uint32_t)crc32_z(crc, bytes + from, size - from);
		assert_true(mark_of(bytes, sizes[i]) == (1ull << 32 | crc));
	}
}

static void what_is_not_known_does_not_differ(void **unused)
{
	uint64_t mark = 1ull << 32 | 5, other = 1ull << 32 | 6;

	(void)unused;
	assert_false(cow_origin_differs(mark, mark));
	assert_true(cow_origin_differs(mark, other));
	assert_false(cow_origin_differs(0, other));
	assert_false(cow_origin_differs(mark, 0));
	assert_false(cow_origin_differs(mark, 2ull << 32 | 5));
	assert_false(cow_origin_differs(2ull << 32 | 6, 2ull << 32 | 5));
}

#define ORIGIN_TEST(name) \
	cmocka_unit_test_setup_teardown(name, set_up_origin,	\
					tear_down_origin)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ORIGIN_TEST(another_origin_is_refused),
		ORIGIN_TEST(another_origin_can_be_accepted),
		ORIGIN_TEST(an_origin_that_cannot_be_read_is_not_refused),
		ORIGIN_TEST(a_store_that_knows_no_origin),
		cmocka_unit_test(both_ends_are_marked),
		cmocka_unit_test(what_is_not_known_does_not_differ),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
