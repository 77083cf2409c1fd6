// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the kernel says, one message at a time.
 *
 * Nothing unknown is sent without having been negotiated, so a message that
 * makes no sense is the end of the connection: going on would be guessing
 * where somebody's data lives. The kernel keeps what is unanswered.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* For comparison, and to find faults: see dmud(8). */
static int ask_environment(struct dmu *dmu, bool *refused)
{
	const char *value = secure_getenv("DMU_EXTENSIONS");

	*refused = value && !strcmp(value, "no");
	if (!value || *refused || !strcmp(value, "yes"))
		return 0;
	return dmui_error(dmu, -EINVAL,
			  "the environment variable DMU_EXTENSIONS is \"%s\"; it must be \"yes\", \"no\" or not set",
			  value);
}

static int receive_version(struct dmu *dmu, const struct dmui_msg *msg)
{
	bool refused;
	int err;

	if (msg->id != DMUI_VERSION_ID ||
	    msg->version.userspace_ver != DMUI_VERSION || dmu->version_known)
		return dmui_error(dmu, -EPROTO,
				  "the kernel tells its version to somebody else");
	err = ask_environment(dmu, &refused);
	if (err)
		return err;
	dmu->kernel_version = msg->version.kernel_ver;
	dmu->version_known = true;
	if (refused)
		return 0;
	dmu->wanted = DMU_EXT_RUNS;
	if (dmu->ops.failed)
		dmu->wanted |= DMU_EXT_REPORTS;
	if (dmu->ops.discarded)
		dmu->wanted |= DMU_EXT_DISCARD;
	if (dmu->kernel_version < DMUI_KERNEL_EXTENSIONS)
		return 0;
	dmu->asking = true;
	return dmui_send_extensions(dmu, dmu->wanted);
}

static int receive_extensions(struct dmu *dmu, const struct dmui_msg *msg)
{
	if (!dmu->asking || msg->id != DMUI_EXTENSIONS_ID ||
	    msg->extensions.bits & ~dmu->wanted)
		return dmui_error(dmu, -EPROTO,
				  "the kernel grants extensions that nobody asked for");
	dmu->extensions = msg->extensions.bits;
	dmu->asking = false;
	return 0;
}

static int receive_report(struct dmu *dmu, const struct dmui_msg *msg)
{
	static const enum dmu_failure failures[] = {
		[DMU_REPORT_COPY_FAILED] = DMU_FAILED_COPY,
		[DMU_REPORT_IO_FAILED] = DMU_FAILED_IO,
		[DMU_REPORT_TIMED_OUT] = DMU_FAILED_REQUEST,
		[DMU_REPORT_LOST] = DMU_FAILED_REPORTS,
	};
	const struct dmu_msg_report *report = &msg->report;

	/* They may come before the answer that says that they are on. */
	if (!(dmu->wanted & DMU_EXT_REPORTS))
		return dmui_error(dmu, -EPROTO,
				  "the kernel reports a failure unasked");
	if (!report->report || report->report > DMU_REPORT_LOST)
		return 0;
	dmu->ops.failed(dmu, failures[report->report], report->block,
			report->id_of_req, report->error, dmu->ctx);
	return 0;
}

static int receive_discard(struct dmu *dmu, const struct dmui_msg *msg)
{
	if (!(dmu->wanted & DMU_EXT_DISCARD))
		return dmui_error(dmu, -EPROTO,
				  "the kernel tells of a discard unasked");
	dmu->ops.discarded(dmu, msg->discard.block, msg->discard.count,
			   dmu->ctx);
	return 0;
}

static int receive_request(struct dmu *dmu, uint32_t id, uint64_t block,
			   uint32_t flags)
{
	struct dmu_request req = {
		.id = id,
		.block = block,
		.write = flags & DMU_FLAG_WR,
	};

	if (!req.id)
		return dmui_error(dmu, -EPROTO, "a request has no id");
	dmu->counters.requests++;
	/*
	 * An id that is known belongs to a SYNC mapping whose I/O never came
	 * (it was replaced first): the kernel has forgotten it and so do we.
	 */
	if (dmui_idmap_put(&dmu->requests, req.id, req.block, DMUI_ASKED)) {
		/* A request that cannot be remembered is never answered. */
		dmui_error(dmu, -ENOMEM, "no memory to remember a request");
		return dmui_send_failed(dmu, req.id, req.block);
	}
	dmu->ops.map(dmu, &req, dmu->ctx);
	return 0;
}

/* So many requests; a policy need not know that they came together. */
static int receive_run(struct dmu *dmu, const struct dmui_msg *msg)
{
	const struct dmu_msg_run_request *run = &msg->run_request;
	uint32_t i;
	int err = 0;

	if (!(dmu->wanted & DMU_EXT_RUNS))
		return dmui_error(dmu, -EPROTO,
				  "the kernel asks for a run of blocks unasked");
	if (!run->count || run->count - 1 > UINT32_MAX - msg->id)
		return dmui_error(dmu, -EPROTO, "a run has %u requests",
				  run->count);
	for (i = 0; i < run->count && !err; i++)
		err = receive_request(dmu, msg->id + i, run->block + i,
				      run->flags);
	return err;
}

static int receive_sync(struct dmu *dmu, uint32_t id)
{
	struct dmui_id *entry = dmui_idmap_find(&dmu->requests, id);

	if (!entry || entry->state != DMUI_SYNC_GIVEN)
		return dmui_error(dmu, -EPROTO,
				  "I/O is held for id %u, which was not mapped with SYNC",
				  id);
	entry->state = DMUI_SYNC_REPORTED;
	dmu->ops.sync(dmu, id, entry->block, dmu->ctx);
	return 0;
}

static int receive_invalidated(struct dmu *dmu, uint32_t id, bool mapped)
{
	struct dmui_id *entry = dmui_idmap_find(&dmu->invalidations, id);
	uint64_t block;

	if (!entry)
		return dmui_error(dmu, -EPROTO,
				  "nothing was invalidated with id %u", id);
	block = entry->block;
	dmui_idmap_del(&dmu->invalidations, id);
	if (dmu->ops.invalidated)
		dmu->ops.invalidated(dmu, block, mapped, dmu->ctx);
	return 0;
}

static int receive_status(struct dmu *dmu, const struct dmui_msg *msg)
{
	uint32_t id = msg->status.id_of_op;

	if (id != msg->id)
		return dmui_error(dmu, -EPROTO,
				  "a status has two ids, %u and %u", msg->id,
				  id);
	switch (msg->status.status) {
	case DM_USERSPACE_INVAL_COMPLETE:
		return receive_invalidated(dmu, id, true);
	case DM_USERSPACE_INVAL_FAILED:
		return receive_invalidated(dmu, id, false);
	case DM_USERSPACE_SYNC_COMPLETE:
		return receive_sync(dmu, id);
	}
	return dmui_error(dmu, -EPROTO, "status code %u is unknown",
			  msg->status.status);
}

/**
 * dmui_receive() - act on one message from the kernel
 * @dmu: the connection
 * @msg: the message
 *
 * Calls the policy.
 *
 * Return: 0; -EPROTO and a sentence: the message makes no sense; or, where there
 * is no memory to remember a request, as of dmui_send().
 */
int dmui_receive(struct dmu *dmu, const struct dmui_msg *msg)
{
	switch (msg->type) {
	case DM_USERSPACE_GET_VERSION:
		return receive_version(dmu, msg);
	case DM_USERSPACE_MAP_BLOCK_REQ:
		return receive_request(dmu, msg->id, msg->request.org_block,
				       msg->request.flags);
	case DM_USERSPACE_MAP_RUN_REQ:
		return receive_run(dmu, msg);
	case DM_USERSPACE_STATUS:
		return receive_status(dmu, msg);
	case DM_USERSPACE_EXTENSIONS:
		return receive_extensions(dmu, msg);
	case DM_USERSPACE_REPORT:
		return receive_report(dmu, msg);
	case DM_USERSPACE_DISCARD:
		return receive_discard(dmu, msg);
	}
	return dmui_error(dmu, -EPROTO,
			  "the kernel sent a message of type %u, which only a daemon sends",
			  msg->type);
}
