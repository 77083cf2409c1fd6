// SPDX-License-Identifier: GPL-2.0-only
/* The command line of dmud. */
#include "fake.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "options.h"

#define MAX_ARGS 24

static struct options opts;

/* As from a shell; what is printed goes nowhere. */
static int parse(const char *line)
{
	static char words[500];
	char *argv[MAX_ARGS + 1], *word;
	int argc = 0, code, null, out, err;

	snprintf(words, sizeof(words), "dmud %s", line);
	for (word = strtok(words, " "); word; word = strtok(NULL, " "))
		argv[argc++] = word;
	argv[argc] = NULL;
	fflush(stdout);
	null = open("/dev/null", O_WRONLY);
	out = dup(1);
	err = dup(2);
	dup2(null, 1);
	dup2(null, 2);
	code = options_parse(argc, argv, &opts);
	fflush(stdout);
	dup2(out, 1);
	dup2(err, 2);
	close(null);
	close(out);
	close(err);
	return code;
}

static int teardown(void **state)
{
	(void)state;
	options_free(&opts);
	return 0;
}

static void defaults(void **state)
{
	(void)state;
	assert_int_equal(parse("--policy linear vol1"), -1);
	assert_string_equal(opts.device, "vol1");
	assert_string_equal(opts.policy, "linear");
	assert_string_equal(opts.plugin_dir, PLUGINDIR);
	assert_null(opts.policy_opts[0]);
	assert_null(opts.pid_file);
	assert_null(opts.socket);
	assert_int_equal(opts.ready_fd, -1);
	assert_int_equal(opts.log_level, LOG_INFO);
	assert_false(opts.foreground);
	assert_false(opts.eager);
	assert_false(opts.list_policies);
}

static void everything(void **state)
{
	(void)state;
	assert_int_equal(parse("-o a=1 --plugin-dir /p --foreground --eager vol1 "
			       "--ready-fd 1 --option=b=2=3 --pid-file /f "
			       "-p ./x.so --socket /s --log-level debug -o c="),
			 -1);
	assert_string_equal(opts.device, "vol1");
	assert_string_equal(opts.policy, "./x.so");
	assert_string_equal(opts.policy_opts[0], "a=1");
	assert_string_equal(opts.policy_opts[1], "b=2=3");
	assert_string_equal(opts.policy_opts[2], "c=");
	assert_null(opts.policy_opts[3]);
	assert_string_equal(opts.plugin_dir, "/p");
	assert_string_equal(opts.pid_file, "/f");
	assert_string_equal(opts.socket, "/s");
	assert_int_equal(opts.ready_fd, 1);
	assert_int_equal(opts.log_level, LOG_DEBUG);
	assert_true(opts.foreground);
	assert_true(opts.eager);
}

static void levels(void **state)
{
	(void)state;
	assert_int_equal(parse("-p x v --log-level error"), -1);
	assert_int_equal(opts.log_level, LOG_ERR);
	options_free(&opts);
	assert_int_equal(parse("-p x v --log-level warning"), -1);
	assert_int_equal(opts.log_level, LOG_WARNING);
}

static void only_list(void **state)
{
	(void)state;
	assert_int_equal(parse("--list-policies"), -1);
	assert_true(opts.list_policies);
}

static void printed(void **state)
{
	(void)state;
	assert_int_equal(parse("--help"), EXIT_OK);
	options_free(&opts);
	assert_int_equal(parse("--version nonsense"), EXIT_OK);
}

static void wrong(void **state)
{
	static const char * const lines[] = {
		"", "vol1", "--policy linear", "-p linear a b",
		"-p linear v --nonsense", "-p linear v -o", "-p linear v -o x",
		"-p linear v -o =x", "-p linear v --log-level loud",
		"-p linear v --ready-fd", "-p linear v --ready-fd x",
		"-p linear v --ready-fd -1", "-p linear v --ready-fd 999",
		"-p linear v --ready-fd 1x", "-p linear v --help=1",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if (parse(lines[i]) != EXIT_USAGE)
			fail_msg("taken: %s", lines[i]);
		options_free(&opts);
	}
}

#define with_teardown(test) cmocka_unit_test_teardown(test, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_teardown(defaults),
		with_teardown(everything),
		with_teardown(levels),
		with_teardown(only_list),
		with_teardown(printed),
		with_teardown(wrong),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
