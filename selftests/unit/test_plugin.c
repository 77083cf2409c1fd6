// SPDX-License-Identifier: GPL-2.0-only
/* Loading policies, good ones and bad ones. */
#include "fake.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "plugin.h"

static char why[SENTENCE_SIZE];

static void refused(const char *name, int err, const char *words)
{
	struct plugin plugin = { 0 };

	assert_int_equal(plugin_load(&plugin, name, TEST_PLUGINS, why), err);
	assert_null(plugin.policy);
	assert_null(plugin.object);
	if (!strstr(why, words))
		fail_msg("%s: %s", name, why);
	assert_null(strchr(why, '\n'));
}

static void good(void **state)
{
	struct plugin plugin = { 0 };

	(void)state;
	assert_int_equal(plugin_load(&plugin, "tester", TEST_PLUGINS, why), 0);
	assert_string_equal(plugin.policy->name, "tester");
	plugin_unload(&plugin);
	assert_null(plugin.policy);
	plugin_unload(&plugin);
}

static void by_path(void **state)
{
	struct plugin plugin = { 0 };

	(void)state;
	assert_int_equal(plugin_load(&plugin, TEST_PLUGINS "/tester.so",
				     "/nonesuch", why), 0);
	plugin_unload(&plugin);
	/* By path, the file may have any name. */
	assert_int_equal(plugin_load(&plugin, TEST_PLUGINS "/alias.so",
				     "/nonesuch", why), 0);
	plugin_unload(&plugin);
}

static void linear(void **state)
{
	struct plugin plugin = { 0 };

	(void)state;
	assert_int_equal(plugin_load(&plugin, "linear", DMUD_PLUGINS, why), 0);
	plugin_unload(&plugin);
}

static void bad_ones(void **state)
{
	(void)state;
	refused("nonesuch", -ENOENT, "cannot load the policy: ");
	refused("/nonesuch.so", -ENOENT, "/nonesuch.so");
	refused("/etc/passwd", -ENOENT, "/etc/passwd");
	refused(TEST_PLUGINS, -ENOENT, "cannot load the policy: ");
	refused("missing_symbol", -ENOENT, "dmud_test_nobody_has_this");
	refused("empty", -EINVAL, "empty.so is not a policy: it has no symbol dmud_policy");
	refused("wrong_abi", -EPROTO, "wrong_abi.so is a policy of ABI 3; this dmud needs ABI 1 to 2");
	refused("no_name", -EINVAL, "no name");
	refused("no_map", -EINVAL, "(");
	refused("alias", -EINVAL, "alias.so is the policy tester, not alias");
}

static void long_name(void **state)
{
	char name[5000];

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	refused(name, -ENAMETOOLONG, "too long");
}

/* What plugin_list() prints, on stdout only. */
static int listed(const char *dir, char *text, size_t size)
{
	FILE *file = tmpfile();
	int out, err, ret;

	fflush(stdout);
	out = dup(1);
	err = dup(2);
	dup2(fileno(file), 1);
	dup2(fileno(file), 2);
	ret = plugin_list(dir, why);
	fflush(stdout);
	dup2(out, 1);
	dup2(err, 2);
	close(out);
	close(err);
	rewind(file);
	text[fread(text, 1, size - 1, file)] = 0;
	fclose(file);
	return ret;
}

static void list(void **state)
{
	char text[8192];

	(void)state;
	assert_int_equal(listed(TEST_PLUGINS, text, sizeof(text)), 0);
	assert_non_null(strstr(text, "tester       for the tests of dmud\n"));
	assert_non_null(strstr(text, "             refuse=WHY  do not open\n"));
	assert_non_null(strstr(text, "             closed=FILE  make FILE in the end\n"));
	/* What cannot be used is named. */
	assert_non_null(strstr(text, "wrong_abi.so is a policy of ABI 3"));
	assert_int_equal(listed("/nonesuch", text, sizeof(text)), -ENOENT);
	assert_string_equal(text, "");
	assert_string_equal(why, "/nonesuch: No such file or directory");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good),
		cmocka_unit_test(by_path),
		cmocka_unit_test(linear),
		cmocka_unit_test(bad_ones),
		cmocka_unit_test(long_name),
		cmocka_unit_test(list),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
