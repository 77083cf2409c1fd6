// SPDX-License-Identifier: GPL-2.0-only
/* Messages by chance, of the forms of truth that there are. */
#define _GNU_SOURCE
#include "generator.h"
#include "truth.h"
#include <string.h>

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

void dmt_make_response(struct dmt_model *m, struct dmt_msg *msg,
		       struct dmu_msg_map_response *r)
{
	/* What is the kernel's own is ignored. */
	if (once_in(m, 8))
		r->flags |= DMU_FLAG_VALID << 5 * below(m, 2);
	/* As is the header's id. */
	dmt_make(msg, DM_USERSPACE_MAP_BLOCK_RESP,
		 below(m, 8) ? r->id_of_req : (uint32_t)dmt_random(&m->random), r,
	     sizeof(*r));
}

/* The oldest, or any; one that a younger one may overtake only at last. */
static struct dmt_asked *some_request(struct dmt_model *m)
{
	struct dmt_asked *asked = m->asked;
	unsigned int i;

	if (!m->nr_asked)
		return NULL;
	if (below(m, 2)) {
		asked = &asked[below(m, m->nr_asked)];
		return asked->early && below(m, 8) ? NULL : asked;
	}
	for (i = 1; i < m->nr_asked; i++)
		if (m->asked[i].id < asked->id)
			asked = &m->asked[i];
	return asked;
}

static bool make_answer(struct dmt_model *m, struct dmt_msg *msg)
{
	const struct dmt_asked *asked = some_request(m);
	struct dmu_msg_map_response r = { 0 };
	const struct dmt_known *b;

	if (!asked)
		return false;
	r.org_block = asked->block;
	r.id_of_req = asked->id;
	b = &m->blocks[asked->block];
	/* One that is unread again may have become a write. */
	if (b->truth == DMT_COW && asked->peer < 0)
		return false;
	if (asked->early && asked->generation == b->generation && below(m, 2))
		dmt_answer_origin(m, &r);
	else if (!dmt_answer_truly(m, &r, asked->write || once_in(m, 8)))
		return false;
	dmt_make_response(m, msg, &r);
	return true;
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
	return past->msg.response.id_of_req;
}

/* A mapping that nobody has asked for. */
static bool make_push(struct dmt_model *m, struct dmt_msg *msg)
{
	struct dmu_msg_map_response r = { 0 };
	struct dmt_known *b;

	r.org_block = below(m, DMT_NR_BLOCKS);
	b = &m->blocks[r.org_block];
	r.id_of_req = some_id(m);
	/* What the block's place depends on must be sure to take effect. */
	if (b->truth == DMT_COW && b->stage != DMT_AT_STORE)
		r.id_of_req = 0;
	if (b->truth == DMT_PING && !b->leaving && below(m, 2)) {
		if (b->copies >= DMT_MAX_COPIES)
			return false;
		r.id_of_req = 0;
		r.flags = RW;
		dmt_aim(m, &r, b->spare ? DMT_STORE_DISK : DMT_SPARE_DISK,
			r.org_block * DMT_SECTORS);
		dmt_copy_from(m, &r, b->spare ? DMT_SPARE_DISK : DMT_STORE_DISK);
	} else if (!dmt_answer_truly(m, &r, below(m, 2))) {
		return false;
	}
	dmt_make_response(m, msg, &r);
	return true;
}

/* The same again. */
static bool make_twice(struct dmt_model *m, struct dmt_msg *msg)
{
	struct dmu_msg_map_response r;
	const struct dmt_past *past;
	const struct dmt_known *b;

	if (!m->nr_past)
		return false;
	past = &m->past[below(m, m->nr_past < DMT_MAX_PAST ? m->nr_past :
							DMT_MAX_PAST)];
	memcpy(&r, &past->msg.response, sizeof(r));
	b = &m->blocks[r.org_block];
	if (past->generation != b->generation || b->leaving)
		return false;
	if (b->truth == DMT_NO_TRUTH && r.flags & COPY &&
	    b->copies >= DMT_MAX_COPIES)
		return false;
	*msg = past->msg;
	return true;
}

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
	struct dmu_msg_invalidate_map i = { .org_block =
					    below(m, DMT_NR_BLOCKS) };
	const struct dmt_known *b = &m->blocks[i.org_block];

	if (m->nr_verdicts >= DMT_MAX_VERDICTS / 2)
		return false;
	/* What is on its way and not known to be there would be copied twice. */
	if (b->truth == DMT_COW && b->stage == DMT_ON_ITS_WAY)
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
	{ 40, make_answer },
	{ 12, make_push },
	{ 8, make_twice },
	{ 2, make_failure },
	{ 30, make_ack },
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
