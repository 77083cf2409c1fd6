/* SPDX-License-Identifier: GPL-2.0-only */
/* What a truthful daemon says, by chance. */
#ifndef DMT_GENERATOR_H
#define DMT_GENERATOR_H

#include "model.h"

#define DMT_FAR_ID	0x40000000u	/* no request gets so far */

void dmt_make(struct dmt_msg *msg, uint32_t type, uint32_t id,
	      const void *payload, uint32_t len);
bool dmt_make_mapping(struct dmt_model *m, struct dmt_msg *msg,
		      const struct dmt_mapping *r);
void dmt_make_any(struct dmt_model *m, struct dmt_msg *msg);
bool dmt_on_its_way(struct dmt_model *m, const struct dmt_name *name);

#endif /* DMT_GENERATOR_H */
