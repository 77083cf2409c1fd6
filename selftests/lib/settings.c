// SPDX-License-Identifier: GPL-2.0-only
/* What the environment says of a test. */
#define _GNU_SOURCE
#include "settings.h"
#include "kselftest.h"
#include "sysfs.h"
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

/**
 * dmt_number() - a number out of the environment
 * @variable: its name
 * @otherwise: what it is where nothing is said
 *
 * One that is no number ends the program: the test would be another one.
 */
uint64_t dmt_number(const char *variable, uint64_t otherwise)
{
	const char *value = getenv(variable);
	uint64_t number;
	char *end;

	if (!value || !*value)
		return otherwise;
	errno = 0;
	number = strtoull(value, &end, 0);
	if (errno || *end)
		errx(1, "%s=%s is no number", variable, value);
	return number;
}

/* The number that chance follows from: DMT_SEED, or a new one. It is printed. */
uint64_t dmt_seed(void)
{
	struct timespec now;
	uint64_t seed;

	clock_gettime(CLOCK_REALTIME, &now);
	seed = dmt_number("DMT_SEED", (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec);
	ksft_print_msg("DMT_SEED=%" PRIu64 "\n", seed);
	return seed;
}

/* How many times as long as usual a test is to be. */
unsigned int dmt_scale(void)
{
	uint64_t n = dmt_number("DMT_SCALE", 1);

	return n ? (unsigned int)n : 1;
}

/* How often something is to be done: as dmt_often(), but that many times. */
unsigned int dmt_turns(unsigned int times)
{
	return dmt_often(times) * dmt_scale();
}
