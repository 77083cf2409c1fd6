// SPDX-License-Identifier: GPL-2.0-only
/* What IMA remembers of the tables that were loaded. */
#define _GNU_SOURCE
#include "lib/fixture.h"
#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#define SECURITYFS	"/sys/kernel/security"
#define POLICY		SECURITYFS "/ima/policy"
#define MEASUREMENTS	SECURITYFS "/ima/ascii_runtime_measurements"
#define RULE		"measure func=CRITICAL_DATA label=device-mapper\n"

/* Let tables be measured; most kernels take one policy until they are booted. */
static bool ima_switched_on(void)
{
	bool ok;
	int fd;

	/* It may be there already. */
	mount("securityfs", SECURITYFS, "securityfs", 0, NULL);
	fd = open(POLICY, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ok = write(fd, RULE, strlen(RULE)) == (ssize_t)strlen(RULE);
	return !close(fd) && ok;
}

/* Turn hexadecimal digits into what they say, where they are. */
static void unhex(char *text)
{
	char digits[3] = "", *to = text;

	for (; text[0] && text[1]; text += 2) {
		memcpy(digits, text, 2);
		*to++ = (char)strtoul(digits, NULL, 16);
	}
	*to = '\0';
}

/* How many measurements of that event end with those words? */
static unsigned int measured(const char *event, const char *words)
{
	FILE *f = fopen(MEASUREMENTS, "re");
	size_t size = 0, len = strlen(words);
	unsigned int nr = 0;
	char *line = NULL;

	if (!f)
		err(1, MEASUREMENTS);
	while (getline(&line, &size, f) > 0) {
		char *data;

		line[strcspn(line, "\n")] = '\0';
		data = strrchr(line, ' ');
		if (!data || !strstr(line, event))
			continue;
		unhex(++data);
		nr += strlen(data) >= len &&
		      !strcmp(data + strlen(data) - len, words);
	}
	free(line);
	fclose(f);
	return nr;
}

/* Of the target, as it tells a daemon. */
static void version_of(int ctl, char *buf, size_t len)
{
	struct dmu_msg_version v = { .userspace_ver = 1 };
	struct dmt_msg msg;

	dmt_write_msg(ctl, DM_USERSPACE_GET_VERSION, 1, &v, sizeof(v));
	if (!dmt_expect(ctl, DM_USERSPACE_GET_VERSION, &msg))
		errx(1, "no version");
	snprintf(buf, len, "%u.%u.%u", msg.version.kernel_ver >> 16,
		 msg.version.kernel_ver >> 8 & 255,
		 msg.version.kernel_ver & 255);
}

TEST_F(dm, table_is_measured_as_it_was_loaded)
{
	struct dmt *t = &self->t;
	const struct dmt_disk *o = &t->origin, *s = &t->store;
	char params[256], words[512], version[32];

	if (!ima_switched_on())
		SKIP(return, "this kernel has no IMA, or takes no policy any more");
	version_of(t->ctl, version, sizeof(version));
	dmt_params(t, params, sizeof(params));
	snprintf(words, sizeof(words),
		 ";target_index=0,target_begin=0,target_len=%u,target_name=userspace,target_version=%s,key=%s,block_size=%u,nr_devices=2,device_0=%u:%u,device_1=%u:%u,error_if_no_daemon=n,daemon_timeout=0,request_timeout=0;",
		 DMT_BLOCKS * DMT_SECTORS, version, t->name, DMT_BLOCK, major(o->dev),
		 minor(o->dev), major(s->dev), minor(s->dev));
	EXPECT_EQ(0, measured("dm_table_load", words));
	ASSERT_EQ(0, dmt_dm_load(t->name, 0, DMT_BLOCKS * DMT_SECTORS,
				 "userspace", params));
	EXPECT_EQ(1, measured("dm_table_load", words));

	/* With all feature args, and fewer devices. */
	snprintf(params, sizeof(params),
		 "%s %u %u:%u 5 request_timeout 7 error_if_no_daemon daemon_timeout 600",
		 t->name, DMT_BLOCK, major(s->dev), minor(s->dev));
	snprintf(words, sizeof(words),
		 ";target_index=0,target_begin=0,target_len=%u,target_name=userspace,target_version=%s,key=%s,block_size=%u,nr_devices=1,device_0=%u:%u,error_if_no_daemon=y,daemon_timeout=600,request_timeout=7;",
		 DMT_BLOCKS * DMT_SECTORS, version, t->name, DMT_BLOCK, major(s->dev),
		 minor(s->dev));
	ASSERT_EQ(0, dmt_dm_load(t->name, 0, DMT_BLOCKS * DMT_SECTORS,
				 "userspace", params));
	EXPECT_EQ(1, measured("dm_table_load", words));
}

TEST_HARNESS_MAIN
