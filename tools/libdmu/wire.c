// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Messages to bytes and back. Nothing pads the stream, so a payload begins at
 * any offset: everything here is copied, nothing is cast.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "wire.h"

/* The layout that daemons of 2006 were compiled with, and 32-bit ones today. */
static_assert(sizeof(struct dmu_msg_header) == 12, "header");
static_assert(sizeof(struct dmu_msg_version) == 8, "version");
static_assert(sizeof(struct dmu_msg_status) == 8, "status");
static_assert(sizeof(struct dmu_msg_map_request) == 16, "map_request");
static_assert(sizeof(struct dmu_msg_map_response) == 48, "map_response");
static_assert(sizeof(struct dmu_msg_invalidate_map) == 8, "invalidate_map");
static_assert(sizeof(struct dmu_msg_extensions) == 8, "extensions");
static_assert(sizeof(struct dmu_msg_report) == 24, "report");
static_assert(sizeof(struct dmu_msg_discard) == 16, "discard");
static_assert(sizeof(struct dmu_msg_run_request) == 16, "run_request");
static_assert(sizeof(struct dmu_msg_run_response) == 56, "run_response");

/* Bytes that follow the header of a message of @type; 0: no such type. */
static size_t payload_size(uint32_t type)
{
	switch (type) {
	case DM_USERSPACE_GET_VERSION:
		return sizeof(struct dmu_msg_version);
	case DM_USERSPACE_MAP_BLOCK_REQ:
		return sizeof(struct dmu_msg_map_request);
	case DM_USERSPACE_MAP_BLOCK_RESP:
	case DM_USERSPACE_MAP_FAILED:
		return sizeof(struct dmu_msg_map_response);
	case DM_USERSPACE_MAP_INVALIDATE:
		return sizeof(struct dmu_msg_invalidate_map);
	case DM_USERSPACE_STATUS:
		return sizeof(struct dmu_msg_status);
	case DM_USERSPACE_EXTENSIONS:
		return sizeof(struct dmu_msg_extensions);
	case DM_USERSPACE_REPORT:
		return sizeof(struct dmu_msg_report);
	case DM_USERSPACE_DISCARD:
		return sizeof(struct dmu_msg_discard);
	case DM_USERSPACE_MAP_RUN_REQ:
		return sizeof(struct dmu_msg_run_request);
	case DM_USERSPACE_MAP_RUN_RESP:
		return sizeof(struct dmu_msg_run_response);
	}
	return 0;
}

/* Where the union begins, and so every member of it. */
#define PAYLOAD_OFFSET offsetof(struct dmui_msg, version)

/**
 * dmui_msg_size() - how long a message is on the wire
 * @type: DM_USERSPACE_*
 *
 * Return: bytes, header included; 0 where there is no such type.
 */
size_t dmui_msg_size(uint32_t type)
{
	size_t len = payload_size(type);

	return len ? sizeof(struct dmu_msg_header) + len : 0;
}

/**
 * dmui_encode() - write a message as the bytes to be sent
 * @buf: at least DMUI_MSG_MAX bytes, at any alignment
 * @msg: of a type that exists
 *
 * Return: bytes written.
 */
size_t dmui_encode(void *buf, const struct dmui_msg *msg)
{
	struct dmu_msg_header header = {
		.msg_type = msg->type,
		.payload_len = payload_size(msg->type),
		.id = msg->id,
	};

	memcpy(buf, &header, sizeof(header));
	memcpy((char *)buf + sizeof(header),
	       (const char *)msg + PAYLOAD_OFFSET, header.payload_len);
	return sizeof(header) + header.payload_len;
}

/**
 * dmui_decode() - read the message that bytes begin with
 * @buf: the bytes, at any alignment
 * @len: how many; more than the message is well
 * @msg: where the message goes; undefined after an error
 * @why: where a sentence goes that says what is wrong with it
 * @why_size: bytes there
 *
 * Return: bytes the message takes, or -EPROTO.
 */
ssize_t dmui_decode(const void *buf, size_t len, struct dmui_msg *msg,
		    char *why, size_t why_size)
{
	struct dmu_msg_header header;
	size_t want;

	if (len < sizeof(header)) {
		snprintf(why, why_size,
			 "a message header is cut off after %zu bytes", len);
		return -EPROTO;
	}
	memcpy(&header, buf, sizeof(header));
	want = payload_size(header.msg_type);
	if (!want) {
		snprintf(why, why_size, "message type %u is unknown",
			 header.msg_type);
		return -EPROTO;
	}
	if (header.payload_len != want) {
		snprintf(why, why_size,
			 "a message of type %u has %u bytes, not %zu",
			 header.msg_type, header.payload_len, want);
		return -EPROTO;
	}
	if (len - sizeof(header) < want) {
		snprintf(why, why_size,
			 "a message of type %u is cut off after %zu bytes",
			 header.msg_type, len);
		return -EPROTO;
	}
	msg->type = header.msg_type;
	msg->id = header.id;
	memcpy((char *)msg + PAYLOAD_OFFSET,
	       (const char *)buf + sizeof(header), want);
	return sizeof(header) + want;
}
