// SPDX-License-Identifier: LGPL-2.1-or-later
/* From before there was a member patience: what is there must not be looked at. */
#define POLICY_NAME "old_abi"
#define POLICY_ABI 1
#define POLICY_PATIENCE ((int (*)(void *))(tester_patience ? 1 : 0))
#include "tester.c"
