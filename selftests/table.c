// SPDX-License-Identifier: GPL-2.0-only
/* The table line: what it may say, what comes back, and what it makes. */
#define _GNU_SOURCE
#include "lib/fixture.h"
#include "lib/run.h"
#include "lib/sysfs.h"
#include <ctype.h>
#include <err.h>
#include <sys/ioctl.h>

/*
 * Two disks, and names for two devices with one key between them, neither of
 * which has a table yet.
 */
FIXTURE(table)
{
	struct dmt_disk a;
	struct dmt_disk b;
	char key[32];
	char one[32];
	char two[32];
	int fd;
	int ctl;
};

FIXTURE_SETUP(table)
{
	uint64_t block;

	dmt_disk_open(&self->a, DMT_BLOCKS * DMT_BLOCK, 0);
	dmt_disk_open(&self->b, DMT_BLOCKS * DMT_BLOCK, 0);
	for (block = 0; block < DMT_BLOCKS; block++)
		dmt_disk_fill(&self->a, block, DMT_ORIGIN);
	snprintf(self->key, sizeof(self->key), "key%d", getpid());
	snprintf(self->one, sizeof(self->one), "one%d", getpid());
	snprintf(self->two, sizeof(self->two), "two%d", getpid());
	ASSERT_EQ(0, dmt_dm_create(self->one));
	ASSERT_EQ(0, dmt_dm_create(self->two));
	self->fd = -1;
	self->ctl = -1;
}

FIXTURE_TEARDOWN(table)
{
	const char *names[2] = { self->one, self->two };
	unsigned int i;

	if (self->ctl >= 0)
		close(self->ctl);
	for (i = 0; i < 2; i++) {
		dmt_dm_message(names[i], "error_if_no_daemon on");
		dmt_dm_message(names[i], "fail_waiting");
	}
	if (self->fd >= 0)
		close(self->fd);
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, dmt_dm_remove(names[i]));
	EXPECT_EQ(0, dmt_controls());
	dmt_disk_close(&self->a);
	dmt_disk_close(&self->b);
}

/* "<key> <block_size> <disk> <rest>" */
static void params(FIXTURE_DATA(table) *self, char *buf, size_t len,
		   unsigned int block_size, const struct dmt_disk *disk,
		   const char *rest)
{
	snprintf(buf, len, "%s %u %u:%u%s", self->key, block_size,
		 major(disk->dev), minor(disk->dev), rest);
}

static int live(const char *name, uint64_t sectors, const char *params)
{
	return dmt_dm_load(name, 0, sectors, "userspace", params) ?:
	       dmt_dm_resume(name);
}

static void open_both(FIXTURE_DATA(table) *self)
{
	self->fd = dmt_dm_open(self->one, O_RDWR | O_DIRECT);
	if (self->fd < 0)
		err(1, "%s", self->one);
	self->ctl = dmt_control_open(self->one, O_NONBLOCK);
}

static struct dmt_map to(const struct dmt_disk *disk, uint64_t block,
			 uint32_t flags)
{
	return (struct dmt_map){ .block = block, .to = block, .dst = disk,
				 .flags = flags };
}

/* --- what comes back ----------------------------------------------------------- */

TEST_F(table, path_is_as_good_as_a_number_and_prints_as_one)
{
	const uint64_t sectors = DMT_BLOCKS * DMT_SECTORS;
	char line[256], want[256], got[256];

	snprintf(line, sizeof(line), "%s 4096 %s %u:%u", self->key,
		 self->a.name, major(self->b.dev), minor(self->b.dev));
	snprintf(want, sizeof(want), "%s 4096 %u:%u %u:%u", self->key,
		 major(self->a.dev), minor(self->a.dev), major(self->b.dev),
		 minor(self->b.dev));
	ASSERT_EQ(0, live(self->one, sectors, line));
	dmt_dm_table(self->one, got, sizeof(got));
	EXPECT_STREQ(want, got);

	/* Given back, it builds the same. */
	ASSERT_EQ(0, live(self->two, sectors, got));
	dmt_dm_table(self->two, got, sizeof(got));
	EXPECT_STREQ(want, got);
	EXPECT_EQ(1, dmt_controls());
}

TEST_F(table, feature_count_of_0_is_as_good_as_none)
{
	char line[256], want[256], got[256];

	params(self, line, sizeof(line), 4096, &self->a, " 0");
	params(self, want, sizeof(want), 4096, &self->a, "");
	ASSERT_EQ(0, live(self->one, 64, line));
	dmt_dm_table(self->one, got, sizeof(got));
	EXPECT_STREQ(want, got);
}

TEST_F(table, features_are_accepted_in_any_order_and_come_back)
{
	static const char * const features[] = {
		" 1 error_if_no_daemon",
		" 2 daemon_timeout 5",
		" 2 request_timeout 60",
		" 5 request_timeout 60 error_if_no_daemon daemon_timeout 5",
		" 5 daemon_timeout 7 request_timeout 1 error_if_no_daemon",
	};
	char line[256], first[256], second[256];
	unsigned int i;

	for (i = 0; i < 5; i++) {
		params(self, line, sizeof(line), 4096, &self->a, features[i]);
		ASSERT_EQ(0, live(self->one, 64, line)) {
			TH_LOG("refused: %s", line);
		}
		dmt_dm_table(self->one, first, sizeof(first));
		ASSERT_EQ(0, live(self->two, 64, first));
		dmt_dm_table(self->two, second, sizeof(second));
		EXPECT_STREQ(first, second);
		/* Nothing has got lost; the order may be another. */
		EXPECT_EQ(strlen(line), strlen(first));
	}
}

TEST_F(table, key_may_have_255_bytes_of_any_kind)
{
	static const char * const keys[] = {
		"%s%n%d", ".", "..", "-", "0", "7:0", "#", "$(x)", "'\"", "=,;",
		"schl\xc3\xbcssel", "\x01\x7f\xff", "UserSpace*?[a]~!&|<>",
	};
	char line[512], got[512], key[256];
	unsigned int i;

	memset(key, 'k', 255);
	key[255] = '\0';
	for (i = 0; i < 14; i++) {
		snprintf(line, sizeof(line), "%s 4096 %u:%u",
			 i ? keys[i - 1] : key, major(self->a.dev),
			 minor(self->a.dev));
		EXPECT_EQ(0, live(self->one, 64, line));
		dmt_dm_table(self->one, got, sizeof(got));
		EXPECT_STREQ(line, got);
	}
}

/* More than the 16 KiB that libdevmapper first has room for. */
TEST_F(table, device_may_be_named_often_and_long_lines_come_back_whole)
{
	enum { NR = 5000 };
	char *line = calloc(1, NR * 12 + 256), *got = calloc(1, NR * 12 + 256);
	struct dmt_map map = to(&self->a, 3, RO);
	size_t len;
	unsigned int i;

	params(self, line, 256, 4096, &self->a, "");
	len = strlen(line);
	for (i = 1; i < NR; i++)
		len += sprintf(line + len, " %u:%u", major(self->a.dev),
			       minor(self->a.dev));
	ASSERT_EQ(0, live(self->one, DMT_BLOCKS * DMT_SECTORS, line));
	dmt_dm_table(self->one, got, NR * 12 + 256);
	EXPECT_EQ(0, strcmp(line, got));
	open_both(self);
	ASSERT_EQ(0, dmt_map(self->ctl, 0, &map));
	EXPECT_TRUE(dmt_read_matches(self->fd, 3, DMT_ORIGIN));
	free(line);
	free(got);
}

/* --- sizes and places ------------------------------------------------------------- */

TEST_F(table, block_sizes_from_512_bytes_to_1_gib)
{
	unsigned int size;
	char line[256];

	for (size = 512; size <= 1u << 30; size *= 2) {
		struct dmt_map map = to(&self->a, 0, RO);

		params(self, line, sizeof(line), size, &self->a, "");
		/* Another block size: another device. */
		ASSERT_EQ(0, dmt_dm_remove(self->one));
		ASSERT_EQ(0, dmt_dm_create(self->one));
		ASSERT_EQ(0, live(self->one, DMT_BLOCKS * DMT_SECTORS, line));
		open_both(self);
		ASSERT_EQ(0, dmt_map(self->ctl, 0, &map));
		EXPECT_EQ(0, dmt_io_result(dmt_io(self->fd, DMT_READ, 0, 512,
						  0)));
		EXPECT_TRUE(dmt_silent(self->ctl));
		close(self->fd);
		close(self->ctl);
		self->fd = -1;
		self->ctl = -1;
	}
}

/* What a test of the last block needs: bytes @from to @to of a disk are zero. */
static bool zero_from(const struct dmt_disk *disk, uint64_t from, uint64_t to_)
{
	uint8_t byte;

	for (; from < to_; from++)
		if (pread(disk->fd, &byte, 1, (off_t)from) != 1 || byte)
			return false;
	return true;
}

TEST_F(table, short_last_block_counts_with_its_true_length)
{
	const uint64_t sectors = 10 * DMT_SECTORS + 5, last = 10;
	const uint64_t at = last * DMT_BLOCK;
	struct dmt_map map = to(&self->b, last, RW | COPY);
	struct dmt_disk exact;
	struct dmt_io *io;
	char line[256], rest[32];
	uint32_t id;

	dmt_disk_open(&exact, sectors * 512, 0);
	snprintf(rest, sizeof(rest), " %u:%u %u:%u", major(self->b.dev),
		 minor(self->b.dev), major(exact.dev), minor(exact.dev));
	params(self, line, sizeof(line), 4096, &self->a, rest);
	ASSERT_EQ(0, live(self->one, sectors, line));
	open_both(self);

	/* The copy stops where the block does. */
	map.src = &self->a;
	io = dmt_io_now(self->fd, DMT_WRITE, at, 512, 2);
	id = dmt_expect_request(self->ctl, last, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(self->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_FALSE(zero_from(&self->b, at + 4 * 512, at + 5 * 512));
	EXPECT_TRUE(zero_from(&self->b, at + 5 * 512, at + 6 * 512));

	/* A write of all that there is of it needs no copy. */
	map.to = 20;
	ASSERT_EQ(0, dmt_invalidate(self->ctl, 1, last));
	ASSERT_TRUE(dmt_expect_status(self->ctl, 1,
				      DM_USERSPACE_INVAL_COMPLETE));
	io = dmt_io_now(self->fd, DMT_WRITE, at, 5 * 512, 3);
	id = dmt_expect_request(self->ctl, last, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(self->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	io = dmt_io(self->fd, DMT_READ, at, 5 * 512, 0);
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, 3));
	dmt_io_free(io);

	/* It fits where a whole block would not, and not a sector further. */
	map = to(&exact, last, RW);
	EXPECT_EQ(0, dmt_map(self->ctl, 0, &map));
	map.offset = 1;
	EXPECT_EQ(-ERANGE, dmt_map(self->ctl, 0, &map));
	map.offset = 0;
	map.flags = RW | COPY;
	map.dst = &self->b;
	map.src = &exact;
	EXPECT_EQ(0, dmt_map(self->ctl, 0, &map));
	map.block = last + 1;
	map.flags = RW;
	EXPECT_EQ(-ERANGE, dmt_map(self->ctl, 0, &map));
	close(self->fd);
	self->fd = -1;
	ASSERT_EQ(0, dmt_dm_remove(self->one));
	ASSERT_EQ(0, dmt_dm_create(self->one));
	dmt_disk_close(&exact);
}

TEST_F(table, device_may_be_smaller_than_a_block)
{
	struct dmt_map map = to(&self->b, 0, RW);
	struct dmt_io *io;
	char line[256], rest[32];
	uint32_t id;

	snprintf(rest, sizeof(rest), " %u:%u", major(self->b.dev),
		 minor(self->b.dev));
	params(self, line, sizeof(line), 1 << 20, &self->a, rest);
	ASSERT_EQ(0, live(self->one, 1, line));
	open_both(self);
	io = dmt_io_now(self->fd, DMT_WRITE, 0, 512, 2);
	id = dmt_expect_request(self->ctl, 0, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(self->ctl, id, &map));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_FALSE(zero_from(&self->b, 0, 512));
	EXPECT_TRUE(zero_from(&self->b, 512, 1024));
	map.block = 1;
	EXPECT_EQ(-ERANGE, dmt_map(self->ctl, 0, &map));
}

TEST_F(table, store_may_be_smaller_than_the_table)
{
	struct dmt_disk small;
	struct dmt_map map;
	char line[256], rest[32];

	dmt_disk_open(&small, 4 * DMT_BLOCK, 0);
	snprintf(rest, sizeof(rest), " %u:%u", major(small.dev),
		 minor(small.dev));
	params(self, line, sizeof(line), 4096, &self->a, rest);
	ASSERT_EQ(0, live(self->one, DMT_BLOCKS * DMT_SECTORS, line));
	open_both(self);
	map = (struct dmt_map){ .block = 60, .to = 3, .dst = &small,
				.flags = RW };
	EXPECT_EQ(0, dmt_map(self->ctl, 0, &map));
	ASSERT_EQ(0, dmt_write_block(self->fd, 60, 2));
	EXPECT_TRUE(dmt_read_matches(self->fd, 60, 2));
	map.to = 4;
	EXPECT_EQ(-ERANGE, dmt_map(self->ctl, 0, &map));
	/* Nor is there anything to copy from. */
	map = to(&self->a, 60, RW | COPY);
	map.to = 5;
	map.src = &small;
	EXPECT_EQ(-ERANGE, dmt_map(self->ctl, 0, &map));
	map.block = 4;
	EXPECT_EQ(-ERANGE, dmt_map(self->ctl, 0, &map));
	map.block = 3;
	EXPECT_EQ(0, dmt_map(self->ctl, 0, &map));
	EXPECT_EQ(2, dmt_counter(self->one, DMT_REMAPS));
	close(self->fd);
	self->fd = -1;
	ASSERT_EQ(0, dmt_dm_remove(self->one));
	ASSERT_EQ(0, dmt_dm_create(self->one));
	dmt_disk_close(&small);
}

TEST_F(table, blocks_are_numbered_from_the_start_of_the_device)
{
	char line[256], rest[32];
	struct dmt_line lines[4] = {
		{ 0, 4 * DMT_SECTORS, "error", "" },
		{ 4 * DMT_SECTORS, 4 * DMT_SECTORS, "userspace", line },
		{ 8 * DMT_SECTORS, 2 * DMT_SECTORS, "error", "" },
		{ 10 * DMT_SECTORS, 5, "userspace", line },
	};
	struct dmt_map map;
	struct dmt_io *io;
	uint32_t id;

	snprintf(rest, sizeof(rest), " %u:%u", major(self->b.dev),
		 minor(self->b.dev));
	params(self, line, sizeof(line), 4096, &self->a, rest);
	ASSERT_EQ(0, dmt_dm_load_lines(self->one, lines, 4, false));
	ASSERT_EQ(0, dmt_dm_resume(self->one));
	self->fd = dmt_dm_open(self->one, O_RDWR | O_DIRECT);
	ASSERT_LE(0, self->fd);
	/* The status of the first line is empty. */
	params(self, line, sizeof(line), 4096, &self->a, "");
	ASSERT_EQ(0, live(self->two, 512, line));
	self->ctl = dmt_control_open(self->two, O_NONBLOCK);

	io = dmt_io_now(self->fd, DMT_READ, 5 * DMT_BLOCK, DMT_BLOCK, 0);
	id = dmt_expect_request(self->ctl, 5, RO);
	ASSERT_NE(0, id);
	map = to(&self->a, 5, RO);
	ASSERT_EQ(0, dmt_map(self->ctl, id, &map));
	ASSERT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
	dmt_io_free(io);
	io = dmt_io_now(self->fd, DMT_READ, 10 * DMT_BLOCK, 5 * 512, 0);
	id = dmt_expect_request(self->ctl, 10, RO);
	ASSERT_NE(0, id);
	map = to(&self->a, 10, RO);
	ASSERT_EQ(0, dmt_map(self->ctl, id, &map));
	ASSERT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
	dmt_io_free(io);
}

TEST_F(table, block_between_the_lines_of_a_key_is_out_of_range)
{
	char line[256];
	struct dmt_line lines[3] = {
		{ 0, 2 * DMT_SECTORS, "userspace", line },
		{ 2 * DMT_SECTORS, 2 * DMT_SECTORS, "error", "" },
		{ 4 * DMT_SECTORS, 2 * DMT_SECTORS, "userspace", line },
	};
	unsigned int block;

	params(self, line, sizeof(line), 4096, &self->a, "");
	ASSERT_EQ(0, dmt_dm_load_lines(self->one, lines, 3, false));
	ASSERT_EQ(0, dmt_dm_resume(self->one));
	open_both(self);
	for (block = 0; block < 8; block++) {
		struct dmt_map map = to(&self->a, block, RO);

		EXPECT_EQ(block / 2 % 2 || block > 5 ? -ERANGE : 0,
			  dmt_map(self->ctl, 0, &map));
	}
	EXPECT_TRUE(dmt_read_matches(self->fd, 5, DMT_ORIGIN));
	EXPECT_EQ(4, dmt_counter(self->one, DMT_REMAPS));
	EXPECT_EQ(1, dmt_controls());
}

/* Its first and its last block are there, and it could become one remap. */
TEST_F(table, run_ends_where_a_line_of_a_key_does)
{
	char line[256];
	struct dmt_line lines[3] = {
		{ 0, 2 * DMT_SECTORS, "userspace", line },
		{ 2 * DMT_SECTORS, 2 * DMT_SECTORS, "error", "" },
		{ 4 * DMT_SECTORS, 4 * DMT_SECTORS, "userspace", line },
	};

	params(self, line, sizeof(line), 4096, &self->a, "");
	ASSERT_EQ(0, dmt_dm_load_lines(self->one, lines, 3, false));
	ASSERT_EQ(0, dmt_dm_resume(self->one));
	open_both(self);
	ASSERT_TRUE(dmt_wants(self->ctl, DMU_EXT_RUNS));
	EXPECT_EQ(-ERANGE, dmt_map_run(self->ctl, 0,
				       dmt_run(0, 8, &self->a, 0, RO)));
	EXPECT_EQ(2, dmt_counter(self->one, DMT_REMAPS));
	EXPECT_EQ(0, dmt_map_run(self->ctl, 0,
				 dmt_run(4, 4, &self->a, 4, RO)));
	EXPECT_EQ(6, dmt_counter(self->one, DMT_REMAPS));
}

/* --- keys --------------------------------------------------------------------------- */

TEST_F(table, tables_of_one_key_share_remaps_and_the_control_device)
{
	struct dmt_map map = to(&self->a, 3, RW);
	char line[256], one[300], two[300];
	struct dmt_io *io;
	uint32_t id;
	int fd;

	params(self, line, sizeof(line), 4096, &self->a, "");
	ASSERT_EQ(0, live(self->one, DMT_BLOCKS * DMT_SECTORS, line));
	ASSERT_EQ(0, live(self->two, 32 * DMT_SECTORS, line));
	EXPECT_EQ(1, dmt_controls());
	dmt_control_path(self->one, one, sizeof(one));
	dmt_control_path(self->two, two, sizeof(two));
	EXPECT_STREQ(one, two);
	open_both(self);
	fd = dmt_dm_open(self->two, O_RDWR | O_DIRECT);
	ASSERT_LE(0, fd);

	ASSERT_EQ(0, dmt_map(self->ctl, 0, &map));
	EXPECT_TRUE(dmt_read_matches(self->fd, 3, DMT_ORIGIN));
	EXPECT_TRUE(dmt_read_matches(fd, 3, DMT_ORIGIN));
	EXPECT_EQ(2, dmt_counter(self->one, DMT_HITS));
	EXPECT_EQ(2, dmt_counter(self->two, DMT_HITS));
	/* Each has its own length; what either has is in range. */
	map = to(&self->a, 60, RO);
	EXPECT_EQ(0, dmt_map(self->ctl, 0, &map));

	/* The I/O of both waits for one answer. */
	io = dmt_io_now(self->fd, DMT_READ, 7 * DMT_BLOCK, DMT_BLOCK, 0);
	id = dmt_expect_request(self->ctl, 7, RO);
	ASSERT_NE(0, id);
	map = to(&self->a, 7, RO);
	ASSERT_EQ(0, dmt_map(self->ctl, id, &map));
	ASSERT_EQ(0, dmt_io_result(io));
	EXPECT_TRUE(dmt_read_matches(fd, 7, DMT_ORIGIN));

	/* The first to go takes nothing with it. */
	close(self->fd);
	self->fd = fd;
	ASSERT_EQ(0, dmt_dm_remove(self->one));
	EXPECT_EQ(1, dmt_controls());
	EXPECT_TRUE(dmt_read_matches(fd, 3, DMT_ORIGIN));
	EXPECT_TRUE(dmt_barrier(self->ctl));
	map = to(&self->a, 60, RO);
	EXPECT_EQ(-ERANGE, dmt_map(self->ctl, 0, &map));
	ASSERT_EQ(0, dmt_dm_create(self->one));
}

TEST_F(table, other_block_size_of_a_key_is_refused)
{
	const uint64_t sectors = DMT_BLOCKS * DMT_SECTORS;
	char four[256], eight[256], log[4096];
	int fd = dmt_log_open();

	params(self, four, sizeof(four), 4096, &self->a, "");
	params(self, eight, sizeof(eight), 8192, &self->b, "");
	ASSERT_EQ(0, live(self->one, sectors, four));
	EXPECT_EQ(-EINVAL, dmt_dm_load(self->two, 0, sectors, "userspace",
				       eight));
	dmt_log_take(fd, log, sizeof(log));
	EXPECT_TRUE(strcasestr(log, "block size")) {
		TH_LOG("the log says: %s", log);
	}
	/* A table that is only loaded has the key, too. */
	EXPECT_EQ(-EINVAL, dmt_dm_load(self->one, 0, sectors, "userspace",
				       eight));
	ASSERT_EQ(0, dmt_dm_remove(self->one));
	ASSERT_EQ(0, dmt_dm_create(self->one));
	ASSERT_EQ(0, dmt_dm_load(self->one, 0, sectors, "userspace", eight));
	EXPECT_EQ(-EINVAL, dmt_dm_load(self->two, 0, sectors, "userspace",
				       four));
	ASSERT_EQ(0, dmt_dm_clear(self->one));
	EXPECT_EQ(0, dmt_dm_load(self->two, 0, sectors, "userspace", four));
	close(fd);
}

TEST_F(table, keys_have_nothing_in_common)
{
	struct dmt_map map = to(&self->a, 3, RW);
	char line[256], one[300], two[300];

	params(self, line, sizeof(line), 4096, &self->a, "");
	ASSERT_EQ(0, live(self->one, 512, line));
	self->key[0] = 'K'; /* the case matters */
	params(self, line, sizeof(line), 8192, &self->a, "");
	ASSERT_EQ(0, live(self->two, 512, line));
	EXPECT_EQ(2, dmt_controls());
	dmt_control_path(self->one, one, sizeof(one));
	dmt_control_path(self->two, two, sizeof(two));
	EXPECT_STRNE(one, two);
	self->ctl = dmt_control_open(self->two, O_NONBLOCK);
	EXPECT_FALSE(dmt_attached(self->one));
	EXPECT_TRUE(dmt_attached(self->two));
	ASSERT_EQ(0, dmt_map(self->ctl, 0, &map));
	EXPECT_EQ(0, dmt_counter(self->one, DMT_REMAPS));
	EXPECT_EQ(1, dmt_counter(self->two, DMT_REMAPS));
}

/* --- status ------------------------------------------------------------------------- */

TEST_F(table, status_is_the_control_device_the_daemon_and_nine_counters)
{
	char line[256], status[256];
	unsigned int word, words, i;
	bool number;

	params(self, line, sizeof(line), 4096, &self->a, "");
	ASSERT_EQ(0, live(self->one, 512, line));
	dmt_dm_status(self->one, false, status, sizeof(status));
	words = 1;
	for (i = 0; status[i]; i++) {
		words += status[i] == ' ';
		EXPECT_FALSE(status[i] == ' ' && status[i + 1] == ' ');
	}
	EXPECT_EQ(11, words);
	for (i = 0, word = 0; status[i]; i++) {
		if (status[i] == ' ') {
			word++;
			continue;
		}
		/* In decimal, all of it; but for the second word. */
		number = isdigit((unsigned char)status[i]) ||
			 (!word && status[i] == ':');
		EXPECT_EQ(word != 1, number);
	}
	EXPECT_NE(NULL, strstr(status, " absent "));
	self->ctl = dmt_control_open(self->one, O_NONBLOCK);
	dmt_dm_status(self->one, false, status, sizeof(status));
	EXPECT_NE(NULL, strstr(status, " attached 0 0 0 0 0 0 0 0 0"));
}

TEST_F(table, loaded_table_has_a_status_before_it_is_resumed)
{
	struct dmt_map map = to(&self->a, 3, RO);
	char line[256], status[256], path[300];

	params(self, line, sizeof(line), 4096, &self->a, "");
	ASSERT_EQ(0, dmt_dm_load(self->one, 0, 512, "userspace", line));
	dmt_dm_status(self->one, true, status, sizeof(status));
	EXPECT_NE(NULL, strstr(status, " absent 0 0 0 0 0 0 0 0 0"));
	dmt_control_path(self->one, path, sizeof(path));
	/* A daemon can prepare everything before there is any I/O. */
	self->ctl = dmt_control_open(self->one, O_NONBLOCK);
	EXPECT_TRUE(dmt_barrier(self->ctl));
	ASSERT_EQ(0, dmt_map(self->ctl, 0, &map));
	dmt_dm_status(self->one, true, status, sizeof(status));
	EXPECT_NE(NULL, strstr(status, " attached 1 0 0 0 0 0 0 0 0"));
	ASSERT_EQ(0, dmt_dm_resume(self->one));
	self->fd = dmt_dm_open(self->one, O_RDWR | O_DIRECT);
	EXPECT_TRUE(dmt_read_matches(self->fd, 3, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(self->ctl));
}

/* --- messages -------------------------------------------------------------------------- */

TEST_F(table, unknown_messages_are_refused_with_a_reason)
{
	static const char * const bad[] = {
		"fail", "fail_waiting now", "drop_idle 1", "error_if_no_daemon",
		"error_if_no_daemon maybe", "error_if_no_daemon on off",
	};
	char line[256], log[4096];
	int fd = dmt_log_open();
	unsigned int i;

	params(self, line, sizeof(line), 4096, &self->a, "");
	ASSERT_EQ(0, live(self->one, 512, line));
	for (i = 0; i < 6; i++) {
		dmt_log_take(fd, log, sizeof(log));
		EXPECT_EQ(-EINVAL, dmt_dm_message(self->one, bad[i]));
		dmt_log_take(fd, log, sizeof(log));
		EXPECT_NE(NULL, strstr(log, "userspace: "));
	}
	EXPECT_EQ(0, dmt_dm_message(self->one, "fail_waiting"));
	EXPECT_EQ(0, dmt_dm_message(self->one, "drop_idle"));
	EXPECT_EQ(0, dmt_dm_message(self->one, "error_if_no_daemon on"));
	EXPECT_EQ(0, dmt_dm_message(self->one, "error_if_no_daemon off"));
	close(fd);
}

/* --- reload ------------------------------------------------------------------------------ */

TEST_F(table, live_device_cannot_be_reloaded_onto_itself)
{
	const uint64_t sectors = DMT_BLOCKS * DMT_SECTORS;
	struct dmt_map map = to(&self->a, 3, RO);
	char line[256], rest[32], log[4096];
	dev_t dev = dmt_dm_dev(self->one);
	int fd = dmt_log_open();

	params(self, line, sizeof(line), 4096, &self->a, "");
	ASSERT_EQ(0, live(self->one, sectors, line));
	open_both(self);
	snprintf(rest, sizeof(rest), " %u:%u", major(dev), minor(dev));
	params(self, line, sizeof(line), 4096, &self->a, rest);
	EXPECT_EQ(-EINVAL, dmt_dm_load(self->one, 0, sectors, "userspace",
				       line));
	dmt_log_take(fd, log, sizeof(log));
	EXPECT_TRUE(strstr(log, "itself")) {
		TH_LOG("the log says: %s", log);
	}
	/* The table there is goes on. */
	ASSERT_EQ(0, dmt_map(self->ctl, 0, &map));
	EXPECT_TRUE(dmt_read_matches(self->fd, 3, DMT_ORIGIN));
	close(fd);
}

TEST_F(table, printed_table_reloads_the_device_and_keeps_its_remaps)
{
	const uint64_t sectors = DMT_BLOCKS * DMT_SECTORS;
	struct dmt_map map = to(&self->a, 3, RO);
	char line[256], got[256];

	params(self, line, sizeof(line), 4096, &self->a, "");
	ASSERT_EQ(0, live(self->one, sectors, line));
	open_both(self);
	ASSERT_EQ(0, dmt_map(self->ctl, 0, &map));
	dmt_dm_table(self->one, got, sizeof(got));
	ASSERT_EQ(0, live(self->one, sectors, got));
	dmt_dm_table(self->one, got, sizeof(got));
	EXPECT_STREQ(line, got);
	EXPECT_EQ(1, dmt_controls());
	EXPECT_EQ(1, dmt_counter(self->one, DMT_REMAPS));
	EXPECT_TRUE(dmt_read_matches(self->fd, 3, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(self->ctl));
}

/* --- limits ---------------------------------------------------------------------------- */

TEST_F(table, limits_are_those_of_all_devices)
{
	struct dmt_disk big;
	char line[256], rest[32];
	dev_t dev = dmt_dm_dev(self->one);

	params(self, line, sizeof(line), 8192, &self->a, "");
	ASSERT_EQ(0, live(self->one, 512, line));
	EXPECT_EQ(512, dmt_queue_get(dev, "logical_block_size"));
	EXPECT_EQ(8192, dmt_queue_get(dev, "minimum_io_size"));

	dmt_disk_open(&big, DMT_BLOCKS * DMT_BLOCK, 4096);
	snprintf(rest, sizeof(rest), " %u:%u", major(big.dev), minor(big.dev));
	params(self, line, sizeof(line), 8192, &self->a, rest);
	ASSERT_EQ(0, live(self->one, 512, line));
	EXPECT_EQ(4096, dmt_queue_get(dev, "logical_block_size"));
	EXPECT_EQ(8192, dmt_queue_get(dev, "minimum_io_size"));
	ASSERT_EQ(0, dmt_dm_remove(self->one));
	ASSERT_EQ(0, dmt_dm_create(self->one));
	dmt_disk_close(&big);
}

TEST_F(table, io_hints_are_the_block_size_up_to_1_mib)
{
	const unsigned int mib = 1 << 20;
	dev_t two = dmt_dm_dev(self->two);
	unsigned int size;
	char line[256], stripes[256];

	/* Two stripes of 2 MiB: the device below has an io_opt of 4 MiB. */
	snprintf(stripes, sizeof(stripes), "2 4096 %s 0 %s 0", self->a.name,
		 self->b.name);
	dmt_disk_resize(&self->a, 4 * mib);
	dmt_disk_resize(&self->b, 4 * mib);
	ASSERT_EQ(0, dmt_dm_load(self->two, 0, 16384, "striped", stripes));
	ASSERT_EQ(0, dmt_dm_resume(self->two));
	ASSERT_EQ(4 * mib, dmt_queue_get(two, "optimal_io_size"));
	for (size = 4096; size <= 8 * mib; size *= 2) {
		uint64_t io_min, io_opt;

		snprintf(line, sizeof(line), "%s %u %u:%u", self->key, size,
			 major(two), minor(two));
		ASSERT_EQ(0, dmt_dm_remove(self->one));
		ASSERT_EQ(0, dmt_dm_create(self->one));
		ASSERT_EQ(0, live(self->one, 16384, line));
		io_min = dmt_queue_get(dmt_dm_dev(self->one),
				       "minimum_io_size");
		io_opt = dmt_queue_get(dmt_dm_dev(self->one),
				       "optimal_io_size");
		if (size <= mib) {
			EXPECT_EQ(size, io_min);
		}
		EXPECT_GE(mib, io_opt);
	}
	ASSERT_EQ(0, dmt_dm_remove(self->one));
	ASSERT_EQ(0, dmt_dm_create(self->one));
}

/* --- modes ----------------------------------------------------------------------------- */

TEST_F(table, read_only_table_reads)
{
	struct dmt_map map = to(&self->a, 3, RO);
	char line[256];
	struct dmt_line one = { 0, DMT_BLOCKS * DMT_SECTORS, "userspace",
				line };

	params(self, line, sizeof(line), 4096, &self->a, "");
	ASSERT_EQ(0, dmt_dm_load_lines(self->one, &one, 1, true));
	ASSERT_EQ(0, dmt_dm_resume(self->one));
	self->fd = dmt_dm_open(self->one, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, self->fd);
	self->ctl = dmt_control_open(self->one, O_NONBLOCK);
	ASSERT_EQ(0, dmt_map(self->ctl, 0, &map));
	EXPECT_TRUE(dmt_read_matches(self->fd, 3, DMT_ORIGIN));
}

TEST_HARNESS_MAIN
