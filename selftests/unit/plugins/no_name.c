// SPDX-License-Identifier: LGPL-2.1-or-later
/* A policy without a name. */
#include "policy.h"

const struct dmud_policy dmud_policy = { .abi = DMUD_POLICY_ABI };
