// SPDX-License-Identifier: LGPL-2.1-or-later
/* Calls what nobody has. */
#include "policy.h"

void dmud_test_nobody_has_this(struct dmu *dmu, const struct dmu_request *req,
			       void *ctx);

const struct dmud_policy dmud_policy = {
	.abi = DMUD_POLICY_ABI,
	.name = "missing_symbol",
	.summary = "cannot be loaded",
	.ops.map = dmud_test_nobody_has_this,
};
