// SPDX-License-Identifier: GPL-2.0-only
/* Messages by chance, of the forms of truth that there are. */
#define _GNU_SOURCE
#include "generator.h"
#include "truth.h"
#include <string.h>
#include <sys/sysmacros.h>

/* --- messages ------------------------------------------------------------------------- */

void dmt_make(struct dmt_msg *msg, uint32_t type, uint32_t id,
	      const void *payload, uint32_t len)
{
	memset(msg, 0, sizeof(*msg));
	msg->header = (struct dmu_msg_header){
		.msg_type = type, .payload_len = len, .id = id,
	};
	memcpy(msg->bytes, payload, len);
}

/* What is the kernel's own is ignored, as is the header's id of an answer. */
static void make_answer_of(struct dmt_model *m, struct dmt_msg *msg,
			   uint32_t type, uint32_t id, const void *payload,
			   uint32_t len)
{
	dmt_make(msg, type, below(m, 8) ? id : (uint32_t)dmt_random(&m->random),
		 payload, len);
}

static uint32_t flags_of(struct dmt_model *m, const struct dmt_mapping *r)
{
	return r->flags | (once_in(m, 8) ? DMU_FLAG_VALID << 5 * below(m, 2) : 0);
}

static dev_t device_of(const struct dmt_model *m, int disk)
{
	return disk < 0 ? 0 : m->disk[disk].dev;
}

/* Its place is named in one of many ways. */
static void make_response(struct dmt_model *m, struct dmt_msg *msg,
			  const struct dmt_mapping *r)
{
	uint64_t sector = (uint64_t)r->to, block = sector / DMT_SECTORS;
	struct dmu_msg_map_response response = {
		.org_block = r->block, .id_of_req = r->id,
		.flags = flags_of(m, r),
		.dst_maj = major(device_of(m, r->dst)),
		.dst_min = minor(device_of(m, r->dst)),
	};

	if (once_in(m, 3))
		block -= below(m, (uint32_t)block + 1);
	response.new_block = block;
	response.offset = (int64_t)(sector - block * DMT_SECTORS);
	if (r->flags & COPY) {
		response.src_maj = major(device_of(m, r->src));
		response.src_min = minor(device_of(m, r->src));
	}
	make_answer_of(m, msg, DM_USERSPACE_MAP_BLOCK_RESP, r->id, &response,
		       sizeof(response));
}

/* What is not looked at may be anything. */
static void make_run(struct dmt_model *m, struct dmt_msg *msg,
		     const struct dmt_mapping *r, uint64_t count)
{
	struct dmu_msg_run_response run = {
		.block = r->block, .count = count, .id_of_req = r->id,
		.flags = flags_of(m, r), .dst_sector = (uint64_t)r->to,
		.src_sector = (uint64_t)r->from,
		.dst_maj = major(device_of(m, r->dst)),
		.dst_min = minor(device_of(m, r->dst)),
		.src_maj = (uint32_t)dmt_random(&m->random),
	};

	if (r->dst == DMT_NOWHERE)
		run.dst_sector = dmt_random(&m->random);
	if (r->flags & COPY) {
		run.src_maj = major(device_of(m, r->src));
		run.src_min = minor(device_of(m, r->src));
	}
	if (!(r->flags & COPY) || r->src == DMT_NOWHERE)
		run.src_sector = dmt_random(&m->random);
	make_answer_of(m, msg, DM_USERSPACE_MAP_RUN_RESP, r->id, &run,
		       sizeof(run));
}

/* There are things that can be said of runs only. */
static bool needs_run(const struct dmt_mapping *r)
{
	if (!(r->flags & COPY))
		return r->dst == DMT_NOWHERE;
	return r->src == DMT_NOWHERE || r->from != r->block * DMT_SECTORS;
}

/* Make the message that says this. False where it could only be refused. */
bool dmt_make_mapping(struct dmt_model *m, struct dmt_msg *msg,
		      const struct dmt_mapping *r)
{
	if (needs_run(r) && !m->world.runs)
		return false;
	if (needs_run(r) || (m->world.runs && once_in(m, 16)))
		make_run(m, msg, r, 1);
	else
		make_response(m, msg, r);
	return true;
}

/* Most I/O goes to few of the blocks. */
static uint64_t some_block(struct dmt_model *m)
{
	return once_in(m, 8) ? below(m, DMT_NR_BLOCKS) :
			       DMT_QUIET + below(m, DMT_TRUE + DMT_WILD -
						    DMT_QUIET);
}

/* The oldest, or any; one that a younger one may overtake only at last. */
static struct dmt_asked *some_request(struct dmt_model *m)
{
	struct dmt_asked *asked = m->asked;
	unsigned int i;

	if (!m->nr_asked)
		return NULL;
	/* Where there are none the kernel can map blocks at once. */
	for (i = 0; i < m->nr_asked; i++)
		if (m->asked[i].block < DMT_QUIET && below(m, 2))
			return &m->asked[i];
	if (below(m, 2)) {
		asked = &asked[below(m, m->nr_asked)];
		return asked->early && below(m, 8) ? NULL : asked;
	}
	for (i = 1; i < m->nr_asked; i++)
		if (m->asked[i].id < asked->id)
			asked = &m->asked[i];
	return asked;
}

/* False where there is nothing to be answered, or that cannot be done now. */
static bool some_answer(struct dmt_model *m, struct dmt_mapping *r)
{
	const struct dmt_asked *asked = some_request(m);
	const struct dmt_known *b;

	if (!asked)
		return false;
	*r = (struct dmt_mapping){ .block = asked->block, .id = asked->id };
	b = &m->blocks[asked->block];
	/* One that is unread again may have become a write. */
	if ((b->truth == DMT_COW || b->truth == DMT_THIN) && asked->peer < 0)
		return false;
	if (asked->early && asked->generation == b->generation && below(m, 2)) {
		dmt_answer_origin(m, r);
		return true;
	}
	if (!dmt_answer_truly(m, r, asked->write || once_in(m, 8)))
		return false;
	/* Zeroes are no answer to a write, and only that is sure to be one. */
	return !(r->flags & DMU_FLAG_ZERO) ||
	       (asked->write ? once_in(m, 8) : asked->peer >= 0);
}

static bool make_answer(struct dmt_model *m, struct dmt_msg *msg)
{
	struct dmt_mapping r;

	return some_answer(m, &r) && dmt_make_mapping(m, msg, &r);
}

/* An id that is not outstanding: none, one of the past, or of the future. */
static uint32_t some_id(struct dmt_model *m)
{
	const struct dmt_past *past;

	switch (below(m, 3)) {
	case 0:
		return 0;
	case 1:
		return DMT_FAR_ID + below(m, 1 << below(m, 31));
	}
	if (!m->nr_past)
		return 0;
	past = &m->past[below(m, m->nr_past < DMT_MAX_PAST ? m->nr_past :
							DMT_MAX_PAST)];
	return past->id;
}

/* A mapping that nobody has asked for. */
static bool some_push(struct dmt_model *m, struct dmt_mapping *r, uint64_t block)
{
	const struct dmt_known *b = &m->blocks[block];
	bool cow = b->truth == DMT_COW || b->truth == DMT_THIN;

	*r = (struct dmt_mapping){ .block = block, .id = some_id(m) };
	/* What the block's place depends on must be sure to take effect. */
	if (cow && b->stage != DMT_AT_STORE)
		r->id = 0;
	if (b->truth == DMT_PING && !b->leaving && below(m, 2))
		return dmt_answer_swap(m, r);
	return dmt_answer_truly(m, r, below(m, 2));
}

static bool make_push(struct dmt_model *m, struct dmt_msg *msg)
{
	struct dmt_mapping r;

	return some_push(m, &r, some_block(m)) && dmt_make_mapping(m, msg, &r);
}

/* Can all that it speaks of be said again? */
static bool can_repeat(struct dmt_model *m, const struct dmt_msg *msg)
{
	uint64_t i, nr = dmt_nr_mappings(msg);
	struct dmt_mapping r;

	for (i = 0; i < nr; i++) {
		const struct dmt_known *b;

		dmt_mapping_at(&m->world, msg, i, &r);
		b = &m->blocks[r.block];
		if (b->leaving || (b->truth == DMT_NO_TRUTH && r.flags & COPY &&
				   b->copies >= DMT_MAX_COPIES))
			return false;
	}
	return true;
}

/* The same again. */
static bool make_twice(struct dmt_model *m, struct dmt_msg *msg)
{
	const struct dmt_past *past;

	if (!m->nr_past)
		return false;
	past = &m->past[below(m, m->nr_past < DMT_MAX_PAST ? m->nr_past :
							     DMT_MAX_PAST)];
	if (past->generation != dmt_model_generation(m, &past->msg) ||
	    !can_repeat(m, &past->msg))
		return false;
	*msg = past->msg;
	return true;
}

/* --- runs ----------------------------------------------------------------------------- */

/* How many blocks in a row can that be said of, up to @most? */
static uint64_t how_many(struct dmt_model *m, const struct dmt_msg *msg,
			 uint64_t most)
{
	struct dmt_mapping r;
	uint64_t i;

	for (i = 1; i < most; i++) {
		dmt_mapping_at(&m->world, msg, i, &r);
		if (r.block >= DMT_NR_BLOCKS || !dmt_is_true(m, &r))
			break;
	}
	return i;
}

/*
 * Speak of more blocks than it can be said of, or of so many that numbers begin anew.
 * Only where nothing depends on what the kernel maps before it refuses the rest: if
 * messages go before, the run is written twice.
 */
static bool go_too_far(struct dmt_model *m, struct dmt_msg *msg, uint64_t count)
{
	struct dmu_msg_run_response run;

	memcpy(&run, &msg->run_response, sizeof(run));
	run.count = below(m, 2) ? count + 1 + below(m, 9) :
		    dmt_count_to_the_last(&m->world, &m->random, &run);
	memcpy(&msg->run_response, &run, sizeof(run));
	return dmt_judge(&m->world, msg) && dmt_model_harmless(m, msg);
}

/* Speak of as many blocks as chance has it. */
static bool stretch(struct dmt_model *m, struct dmt_msg *msg,
		    const struct dmt_mapping *r)
{
	static const uint64_t most[] = { 2, 8, 8, 16, 64, 512 };
	uint64_t count, mapped;
	uint32_t far;

	if (!m->world.runs && below(m, 32))
		return false;
	/* Each of them is to be acknowledged by itself. */
	make_run(m, msg, r, most[below(m, r->flags & SYNC ? 3 : 6)]);
	count = how_many(m, msg, msg->run_response.count);
	/* A refusal ends what is written: seldom, but for the end of the device. */
	far = r->block >= DMT_NR_BLOCKS - DMT_CALM ? 6 : 24;
	if (once_in(m, far) && go_too_far(m, msg, count))
		return true;
	msg->run_response.count = count;
	/* An id may be that of a request for another block: it ends there. */
	mapped = dmt_judge_mapped(&m->world, msg);
	if (mapped && mapped < count && below(m, 16))
		msg->run_response.count = mapped;
	return mapped >= msg->run_response.count || dmt_model_harmless(m, msg);
}

static bool make_run_answer(struct dmt_model *m, struct dmt_msg *msg)
{
	struct dmt_mapping r;

	return some_answer(m, &r) && stretch(m, msg, &r);
}

/* One that is quiet, or any, or at the end of the device, where a run leaves it. */
static uint64_t some_first(struct dmt_model *m)
{
	if (once_in(m, 3))
		return DMT_NR_BLOCKS - 1 - below(m, DMT_CALM);
	return below(m, 2) ? below(m, DMT_QUIET) : some_block(m);
}

/* Can the kernel map several blocks from here on at once? */
static bool at_once(const struct dmt_mapping *r)
{
	return r->block < DMT_QUIET || r->block >= DMT_NR_BLOCKS - DMT_CALM;
}

/*
 * Have it map them so, or forget them all, as it must before. What is mapped without
 * WR has no writes that the next mapping waits for.
 */
static void be_plain(struct dmt_model *m, struct dmt_mapping *r)
{
	r->id = 0;
	r->flags &= RO | DMU_FLAG_ZERO;
	if (below(m, 2))
		r->flags |= DMU_FLAG_TEMPORARY;
}

/* Eight, or 64, that begin at a multiple of that can become one remap. */
static bool make_run_push(struct dmt_model *m, struct dmt_msg *msg)
{
	uint64_t block = some_first(m);
	struct dmt_mapping r;

	if (below(m, 4))
		block &= below(m, 4) ? ~7ull : ~63ull;
	if (!some_push(m, &r, block))
		return false;
	if (at_once(&r))
		be_plain(m, &r);
	return stretch(m, msg, &r);
}

/* --- other messages ------------------------------------------------------------------- */

static bool make_failure(struct dmt_model *m, struct dmt_msg *msg)
{
	struct dmu_msg_map_response r;
	const struct dmt_asked *asked = some_request(m);
	unsigned int i;

	/* Nothing but the id is looked at. */
	for (i = 0; i < sizeof(r); i++)
		((uint8_t *)&r)[i] = (uint8_t)dmt_random(&m->random);
	r.flags &= 255;
	r.id_of_req = asked && below(m, 2) ? asked->id : some_id(m);
	dmt_make(msg, DM_USERSPACE_MAP_FAILED, (uint32_t)dmt_random(&m->random), &r,
		 sizeof(r));
	return true;
}

/* Its copy is not known to be there. */
bool dmt_on_its_way(struct dmt_model *m, const struct dmt_name *name)
{
	const struct dmt_known *b = &m->blocks[name->block];

	return b->stage == DMT_ON_ITS_WAY && b->cycle == name->cycle;
}

/* Mostly one that I/O waits for; one that it may wait for some day; or none. */
static uint32_t some_name(struct dmt_model *m)
{
	unsigned int i, from, nr = m->nr_names;

	if (!nr || once_in(m, 8))
		return some_id(m);
	from = below(m, nr);
	for (i = from; i < from + nr; i++)
		if (m->names[i % nr].told && below(m, 8))
			return m->names[i % nr].id;
	return m->names[from].id;
}

static bool make_ack(struct dmt_model *m, struct dmt_msg *msg)
{
	struct dmu_msg_status s = {
		.id_of_op = some_name(m),
		.status = DM_USERSPACE_SYNC_COMPLETE,
	};
	const struct dmt_name *name;

	name = dmt_model_name(m, s.id_of_op);
	/* Who acknowledges a copy that is not made gives the origin away. */
	if (name && dmt_on_its_way(m, name))
		return false;
	dmt_make(msg, DM_USERSPACE_STATUS, s.id_of_op, &s, sizeof(s));
	return true;
}

static bool make_invalidation(struct dmt_model *m, struct dmt_msg *msg)
{
	struct dmu_msg_invalidate_map i = { .org_block = some_block(m) };
	const struct dmt_known *b = &m->blocks[i.org_block];

	if (m->nr_verdicts >= DMT_MAX_VERDICTS / 2)
		return false;
	/* What is on its way and not known to be there would be copied twice. */
	if (b->stage == DMT_ON_ITS_WAY)
		return false;
	dmt_make(msg, DM_USERSPACE_MAP_INVALIDATE, (uint32_t)dmt_random(&m->random),
		 &i, sizeof(i));
	return true;
}

static bool make_question(struct dmt_model *m, struct dmt_msg *msg)
{
	uint64_t payload = dmt_random(&m->random);
	unsigned int i, nr = 0;

	for (i = 0; i < DMT_PEERS; i++)
		nr += m->peers[i].nr;
	if (nr >= DMT_MAX_ECHOS / 2)
		return false;
	if (below(m, 4)) /* else it would be deaf to half of what there is */
		payload |= DMU_EXT_RUNS;
	dmt_make(msg, below(m, 2) ? DM_USERSPACE_GET_VERSION :
	     DM_USERSPACE_EXTENSIONS, (uint32_t)dmt_random(&m->random),
	     &payload, sizeof(payload));
	return true;
}

/* How often each is said, of the sum of these. */
static const struct {
	uint32_t weight;
	bool (*make)(struct dmt_model *m, struct dmt_msg *msg);
} kinds[] = {
	{ 28, make_answer },
	{ 10, make_push },
	{ 8, make_twice },
	{ 10, make_run_answer },
	{ 8, make_run_push },
	{ 2, make_failure },
	{ 26, make_ack },
	{ 4, make_invalidation },
	{ 4, make_question },
};

void dmt_make_any(struct dmt_model *m, struct dmt_msg *msg)
{
	uint32_t chance;
	unsigned int i;

	do {
		chance = below(m, 100);
		for (i = 0; chance >= kinds[i].weight; i++)
			chance -= kinds[i].weight;
	} while (!kinds[i].make(m, msg));
}
