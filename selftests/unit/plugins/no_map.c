// SPDX-License-Identifier: LGPL-2.1-or-later
/* A policy that cannot answer. */
#include <stdlib.h>

#include "policy.h"

static int no_map_open(struct dmud_env *env, char *const opts[], void **state)
{
	(void)env;
	(void)opts;
	*state = NULL;
	return 0;
}

const struct dmud_policy dmud_policy = {
	.abi = DMUD_POLICY_ABI,
	.name = "no_map",
	.summary = "forgets the one thing",
	.open = no_map_open,
	.close = free,
};
