// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bad table lines: each is refused, the kernel's log says what is wrong with
 * it, and no trace is left: no control device, no key, no open device, no user
 * of the module.
 */
#define _GNU_SOURCE
#include "lib/dmt.h"
#include "kselftest_harness.h"
#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

FIXTURE(line)
{
	char name[32];
	struct dmt_disk good;
	struct dmt_disk big;	/* has logical blocks of 4096 bytes */
	struct dmt_disk taken;
	dev_t self;
	int claim;		/* on @taken */
	int log;
};

/**
 * struct _fixture_variant_line - a bad line
 * @params: what follows "userspace"; words that begin with @ stand for
 *	something, see expand()
 * @start: of the target, in sectors
 * @says: the log must hold this, upper or lower case
 * @error: 0 where any errno will do
 */
FIXTURE_VARIANT(line)
{
	const char *params;
	const char *says;
	unsigned int start;
	int error;
};

FIXTURE_SETUP(line)
{
	snprintf(self->name, sizeof(self->name), "line%d", getpid());
	dmt_disk_open(&self->good, DMT_BLOCKS * DMT_BLOCK, 0);
	dmt_disk_open(&self->big, DMT_BLOCKS * DMT_BLOCK, 4096);
	dmt_disk_open(&self->taken, DMT_BLOCKS * DMT_BLOCK, 0);
	self->claim = open(self->taken.name, O_RDWR | O_EXCL | O_CLOEXEC);
	ASSERT_LE(0, self->claim);
	ASSERT_EQ(0, dmt_dm_create(self->name));
	self->self = dmt_dm_dev(self->name);
	self->log = dmt_log_open();
}

FIXTURE_TEARDOWN(line)
{
	EXPECT_EQ(0, dmt_dm_remove(self->name));
	close(self->log);
	close(self->claim);
	dmt_disk_close(&self->good);
	dmt_disk_close(&self->big);
	dmt_disk_close(&self->taken);
}

#define LINE(name, params_, says_, start_, error_)			\
	FIXTURE_VARIANT_ADD(line, name)					\
	{								\
		.params = params_, .says = says_, .start = start_,	\
		.error = error_,					\
	}

LINE(nothing, "", "argument", 0, EINVAL);
LINE(only_a_key, "@key", "argument", 0, EINVAL);
LINE(no_device, "@key 4096", "argument", 0, EINVAL);
LINE(no_device_but_features, "@key 4096 0", "device", 0, EINVAL);

LINE(key_of_256_bytes, "@key256 4096 @good", "key", 0, EINVAL);
LINE(key_of_1000_bytes, "@key1000 4096 @good", "key", 0, EINVAL);
LINE(key_with_slash, "@key/x 4096 @good", "key", 0, EINVAL);
LINE(key_that_is_a_slash, "/ 4096 @good", "key", 0, EINVAL);
/* A backslash lets device-mapper take what follows it as it is. */
LINE(key_with_backslash, "a\\\\b 4096 @good", "key", 0, EINVAL);
LINE(key_with_blank, "a\\ b 4096 @good", "key", 0, EINVAL);
LINE(key_with_tab, "a\\\tb 4096 @good", "key", 0, EINVAL);
LINE(key_with_newline, "a\\\nb 4096 @good", "key", 0, EINVAL);
LINE(key_with_form_feed, "a\\\fb 4096 @good", "key", 0, EINVAL);
LINE(key_with_carriage_return, "\\\r 4096 @good", "key", 0, EINVAL);
LINE(key_with_vertical_tab, "\\\v 4096 @good", "key", 0, EINVAL);
/* To the kernel this is white space, too: it would end the word. */
LINE(key_with_no_break_space, "a\\\xa0" "b 4096 @good", "key", 0, EINVAL);

LINE(block_size_0, "@key 0 @good", "block size", 0, EINVAL);
LINE(block_size_1, "@key 1 @good", "block size", 0, EINVAL);
LINE(block_size_256, "@key 256 @good", "block size", 0, EINVAL);
LINE(block_size_no_power_of_two, "@key 4608 @good", "block size", 0, EINVAL);
LINE(block_size_2_gib, "@key 2147483648 @good", "block size", 0, EINVAL);
LINE(block_size_over_32_bits, "@key 4294971392 @good", "block size", 0,
     EINVAL);
LINE(block_size_over_64_bits, "@key 18446744073709555712 @good",
     "block size", 0, EINVAL);
LINE(block_size_negative, "@key -4096 @good", "block size", 0, EINVAL);
LINE(block_size_with_unit, "@key 4k @good", "block size", 0, EINVAL);
LINE(block_size_no_number, "@key @good 4096", "block size", 0, EINVAL);
LINE(block_size_below_logical_block, "@key 2048 @big", "logical block", 0,
     EINVAL);
LINE(block_size_below_second_logical_block, "@key 512 @good @big",
     "logical block", 0, EINVAL);

LINE(start_off_by_one, "@key 4096 @good", "start", 1, EINVAL);
LINE(start_off_by_half, "@key 4096 @good", "start", 20, EINVAL);

LINE(device_number_unknown, "@key 4096 240:77", "240:77", 0, 0);
LINE(device_number_absurd, "@key 4096 4294967295:4294967295",
     "4294967295:4294967295", 0, 0);
LINE(device_path_unknown, "@key 4096 /dev/nothing-here", "nothing-here", 0, 0);
LINE(device_no_block_device, "@key 4096 /dev/null", "/dev/null", 0, 0);
LINE(device_word, "@key 4096 x", "device x", 0, 0);
LINE(second_device_unknown, "@key 4096 @good 240:77", "240:77", 0, 0);
LINE(device_in_use, "@key 4096 @taken", "@taken", 0, EBUSY);
LINE(second_device_in_use, "@key 4096 @good @taken", "@taken", 0, EBUSY);
LINE(device_is_itself, "@key 4096 @self", "itself", 0, EINVAL);
LINE(second_device_is_itself, "@key 4096 @good @self", "itself", 0, EINVAL);

LINE(feature_unknown, "@key 4096 @good 1 color_it_blue", "color_it_blue", 0,
     EINVAL);
LINE(feature_count_too_small, "@key 4096 @good 0 error_if_no_daemon",
     "feature", 0, EINVAL);
LINE(feature_count_too_large, "@key 4096 @good 2 error_if_no_daemon",
     "feature", 0, EINVAL);
LINE(feature_count_without_features, "@key 4096 @good 1", "feature", 0,
     EINVAL);
LINE(feature_count_over_32_bits, "@key 4096 @good 4294967296", "feature", 0,
     EINVAL);
LINE(device_behind_the_count, "@key 4096 @good 0 @good", "feature", 0, EINVAL);
LINE(feature_twice, "@key 4096 @good 2 error_if_no_daemon error_if_no_daemon",
     "repeated", 0, EINVAL);
LINE(daemon_timeout_twice,
     "@key 4096 @good 4 daemon_timeout 5 daemon_timeout 6", "repeated", 0,
     EINVAL);
LINE(request_timeout_twice,
     "@key 4096 @good 4 request_timeout 5 request_timeout 5", "repeated", 0,
     EINVAL);
LINE(daemon_timeout_without_value, "@key 4096 @good 1 daemon_timeout",
     "daemon_timeout", 0, EINVAL);
LINE(request_timeout_no_number, "@key 4096 @good 2 request_timeout soon",
     "request_timeout", 0, EINVAL);
LINE(daemon_timeout_0, "@key 4096 @good 2 daemon_timeout 0",
     "daemon_timeout needs a number of seconds from 1 to 86400, not 0", 0,
     EINVAL);
LINE(request_timeout_0, "@key 4096 @good 2 request_timeout 0",
     "request_timeout needs a number of seconds from 1 to 86400, not 0", 0,
     EINVAL);
LINE(daemon_timeout_of_more_than_a_day,
     "@key 4096 @good 2 daemon_timeout 86401", "not 86401", 0, EINVAL);
LINE(request_timeout_of_more_than_a_day,
     "@key 4096 @good 2 request_timeout 86401", "not 86401", 0, EINVAL);
LINE(request_timeout_negative, "@key 4096 @good 2 request_timeout -1",
     "request_timeout", 0, EINVAL);

static size_t put_dev(char *to, dev_t dev)
{
	return (size_t)sprintf(to, "%u:%u", major(dev), minor(dev));
}

static bool follows(const char *from, const char *word, size_t *len)
{
	*len = strlen(word);
	return !strncmp(from, word, *len);
}

/* Replace the words that stand for something. */
static char *expand(FIXTURE_DATA(line) *self, const char *from)
{
	char *text = calloc(1, 4096), *to = text;
	size_t n;

	while (*from) {
		if (follows(from, "@key1000", &n)) {
			memset(to, 'k', 1000);
			to += 1000;
		} else if (follows(from, "@key256", &n)) {
			memset(to, 'k', 256);
			to += 256;
		} else if (follows(from, "@key", &n)) {
			to += sprintf(to, "%s", self->name);
		} else if (follows(from, "@good", &n)) {
			to += put_dev(to, self->good.dev);
		} else if (follows(from, "@big", &n)) {
			to += put_dev(to, self->big.dev);
		} else if (follows(from, "@taken", &n)) {
			to += put_dev(to, self->taken.dev);
		} else if (follows(from, "@self", &n)) {
			to += put_dev(to, self->self);
		} else {
			*to++ = *from;
			n = 1;
		}
		from += n;
	}
	return text;
}

static bool may_be_claimed(const char *disk)
{
	int fd = open(disk, O_RDWR | O_EXCL | O_CLOEXEC);

	close(fd);
	return fd >= 0;
}

/* "device-mapper: table: 253:0: userspace: <this> (-EINVAL)" */
static bool is_sentence(const char *log)
{
	const char *why = strstr(log, "userspace: ");

	return why && strlen(why) > 30;
}

TEST_F(line, bad_line_is_refused_with_a_reason_and_leaves_no_trace)
{
	const uint64_t length = (DMT_BLOCKS - 8) * DMT_SECTORS;
	unsigned int controls = dmt_controls();
	long refs = dmt_module_refs();
	char *params = expand(self, variant->params);
	char *says = expand(self, variant->says);
	char log[8192], good[256];
	struct dmt_line lines[2] = {
		{ 0, variant->start, "error", "" },
		{ variant->start, length, "userspace", params },
	};
	int r;

	dmt_log_take(self->log, log, sizeof(log));
	r = variant->start ? dmt_dm_load_raw(self->name, lines, 2) :
			     dmt_dm_load_raw(self->name, lines + 1, 1);
	EXPECT_GT(0, r);
	if (variant->error) {
		EXPECT_EQ(-variant->error, r);
	}
	dmt_log_take(self->log, log, sizeof(log));
	EXPECT_TRUE(is_sentence(log) && strcasestr(log, says)) {
		TH_LOG("the log says: %s", log);
	}
	EXPECT_EQ(controls, dmt_controls());
	EXPECT_EQ(refs, dmt_module_refs());
	EXPECT_TRUE(may_be_claimed(self->good.name));
	EXPECT_TRUE(may_be_claimed(self->big.name));

	/* Nobody has the key, with whatever block size. */
	snprintf(good, sizeof(good), "%s 8192 %s", self->name,
		 self->good.name);
	EXPECT_EQ(0, dmt_dm_load(self->name, 0, length, "userspace", good));
	EXPECT_EQ(controls + 1, dmt_controls());
	EXPECT_EQ(0, dmt_dm_clear(self->name));
	EXPECT_EQ(controls, dmt_controls());
	free(params);
	free(says);
}

TEST_HARNESS_MAIN
