// SPDX-License-Identifier: LGPL-2.1-or-later
/* A file that is named after another policy. */
#define POLICY_NAME "tester"
#include "tester.c"
