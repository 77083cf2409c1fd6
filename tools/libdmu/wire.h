/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages as C values, and as the bytes that pass over the control device. */
#ifndef DMUI_WIRE_H
#define DMUI_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/dm-userspace.h>

/* A name that begins with dmui_ is internal: libdmu.so does not export it. */

/**
 * struct dmui_msg - one message
 * @type: DM_USERSPACE_*; says which of the following holds
 * @id: the header's
 * @version: GET_VERSION
 * @status: STATUS
 * @request: MAP_BLOCK_REQ
 * @response: MAP_BLOCK_RESP, MAP_FAILED
 * @invalidate: MAP_INVALIDATE
 * @extensions: EXTENSIONS
 * @report: REPORT
 * @discard: DISCARD
 * @run_request: MAP_RUN_REQ
 * @run_response: MAP_RUN_RESP
 */
struct dmui_msg {
	uint32_t type;
	uint32_t id;
	union {
		struct dmu_msg_version version;
		struct dmu_msg_status status;
		struct dmu_msg_map_request request;
		struct dmu_msg_map_response response;
		struct dmu_msg_invalidate_map invalidate;
		struct dmu_msg_extensions extensions;
		struct dmu_msg_report report;
		struct dmu_msg_discard discard;
		struct dmu_msg_run_request run_request;
		struct dmu_msg_run_response run_response;
	};
};

/* The longest message, in bytes, that either side sends. */
#define DMUI_MSG_MAX \
	(sizeof(struct dmu_msg_header) + sizeof(struct dmu_msg_run_response))

size_t dmui_msg_size(uint32_t type);
size_t dmui_encode(void *buf, const struct dmui_msg *msg);
ssize_t dmui_decode(const void *buf, size_t len, struct dmui_msg *msg,
		    char *why, size_t why_size);

#endif /* DMUI_WIRE_H */
