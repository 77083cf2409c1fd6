// SPDX-License-Identifier: GPL-2.0-only
/*
 * The words of "dmsetup message": what an administrator may change, or end, on a
 * live device. Policies of absence are the target's own, and "dmsetup table"
 * shows them; the rest concerns the key.
 */
#include "dm-user.h"

/* Whatever waits already is judged anew. */
static void policy_changed(struct dmu_target *target)
{
	dmu_requests_expire(target->space);
	dmu_requests_tick(target->space);
}

static int message_error_if_no_daemon(struct dmu_target *target,
				      const char *arg)
{
	if (strcmp(arg, "on") && strcmp(arg, "off")) {
		DMERR("%s: error_if_no_daemon is on or off, not %s",
		      target->space->key, arg);
		return -EINVAL;
	}
	WRITE_ONCE(target->policy.error_if_no_daemon, !strcmp(arg, "on"));
	policy_changed(target);
	return 0;
}

static int set_timeout(struct dmu_target *target, const char *word,
		       const char *arg, unsigned int *timeout)
{
	unsigned int seconds;

	if (kstrtouint(arg, 10, &seconds) || seconds > DMU_MAX_TIMEOUT) {
		DMERR("%s: %s is a number of seconds up to %u, or 0 for never, not %s",
		      target->space->key, word, DMU_MAX_TIMEOUT, arg);
		return -EINVAL;
	}
	WRITE_ONCE(*timeout, seconds);
	policy_changed(target);
	return 0;
}

static int message_daemon_timeout(struct dmu_target *target, const char *arg)
{
	return set_timeout(target, "daemon_timeout", arg,
			   &target->policy.daemon_timeout);
}

static int message_request_timeout(struct dmu_target *target, const char *arg)
{
	return set_timeout(target, "request_timeout", arg,
			   &target->policy.request_timeout);
}

static int message_fail_waiting(struct dmu_target *target, const char *arg)
{
	dmu_requests_fail(target->space);
	return 0;
}

static int message_drop_idle(struct dmu_target *target, const char *arg)
{
	dmu_remaps_drop_idle(target->space);
	return 0;
}

static int message_max_remaps(struct dmu_target *target, const char *arg)
{
	struct dmu_space *space = target->space;
	unsigned long max;

	if (kstrtoul(arg, 10, &max)) {
		DMERR("%s: max_remaps is a number of remaps, or 0 for no limit, not %s",
		      space->key, arg);
		return -EINVAL;
	}
	WRITE_ONCE(space->max_remaps, max);
	dmu_remaps_trim(space, true);
	return 0;
}

static const struct {
	const char *word;
	unsigned int args;
	int (*fn)(struct dmu_target *target, const char *arg);
} messages[] = {
	{ "error_if_no_daemon", 1, message_error_if_no_daemon },
	{ "daemon_timeout", 1, message_daemon_timeout },
	{ "request_timeout", 1, message_request_timeout },
	{ "fail_waiting", 0, message_fail_waiting },
	{ "drop_idle", 0, message_drop_idle },
	{ "max_remaps", 1, message_max_remaps },
};

/**
 * dmu_message() - the message function of the target
 * @ti: the target
 * @argc: words, at least 1
 * @argv: the words
 * @result: not used
 * @maxlen: likewise
 *
 * Context: may sleep.
 * Return: 0, or -EINVAL after a sentence in the log that says why.
 */
int dmu_message(struct dm_target *ti, unsigned int argc, char **argv,
		char *result, unsigned int maxlen)
{
	struct dmu_target *target = ti->private;
	const char *key = target->space->key;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(messages); i++) {
		if (strcmp(argv[0], messages[i].word))
			continue;
		if (argc - 1 == messages[i].args)
			return messages[i].fn(target, argc > 1 ? argv[1] : NULL);
		DMERR("%s: message %s takes %u argument(s)", key, argv[0],
		      messages[i].args);
		return -EINVAL;
	}
	DMERR("%s: unknown message %s; known are error_if_no_daemon, daemon_timeout, request_timeout, fail_waiting, drop_idle and max_remaps",
	      key, argv[0]);
	return -EINVAL;
}
