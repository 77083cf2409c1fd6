// SPDX-License-Identifier: GPL-2.0-only
/* What a truthful daemon knows, and what it may be told. */
#define _GNU_SOURCE
#include "model.h"
#include <err.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- what there is -------------------------------------------------------------------- */

/* The outstanding request of an id, or NULL. */
struct dmt_asked *dmt_model_asked(struct dmt_model *m, uint32_t id)
{
	unsigned int i;

	for (i = 0; i < m->nr_asked; i++)
		if (m->asked[i].id == id)
			return &m->asked[i];
	return NULL;
}

/* How many requests for a block are outstanding? */
unsigned int dmt_model_asks(const struct dmt_model *m, uint64_t block)
{
	unsigned int i, nr = 0;

	for (i = 0; i < m->nr_asked; i++)
		nr += m->asked[i].block == block;
	return nr;
}

/* The place that the next block is copied to. */
uint64_t *dmt_model_next(struct dmt_model *m)
{
	return m->nr_lent ? &m->lent[m->nr_lent - 1] : &m->free[m->nr_free - 1];
}

/* The unacknowledged SYNC answer of an id, or NULL. */
struct dmt_name *dmt_model_name(struct dmt_model *m, uint32_t id)
{
	unsigned int i;

	for (i = 0; i < m->nr_names; i++)
		if (m->names[i].id == id)
			return &m->names[i];
	return NULL;
}

/* Is it copied when it is written? */
static bool is_cow(const struct dmt_known *b)
{
	return b->truth == DMT_COW || b->truth == DMT_THIN;
}

/* --- the journal ---------------------------------------------------------------------- */

static uint64_t block_of_verdict(const struct dmt_model *m, int peer,
				 uint32_t id)
{
	unsigned int i;

	for (i = 0; i < m->nr_verdicts; i++)
		if (m->verdicts[i].peer == peer && m->verdicts[i].id == id)
			return m->verdicts[i].block;
	return DMT_NO_BLOCK;
}

/* Which block is it about? */
static uint64_t block_of(struct dmt_model *m, int peer, const struct dmt_msg *msg)
{
	const struct dmt_asked *asked;
	const struct dmt_name *name;

	switch (msg->header.msg_type) {
	case DM_USERSPACE_MAP_BLOCK_REQ:
		return msg->request.org_block;
	case DM_USERSPACE_MAP_INVALIDATE:
		return msg->invalidate.org_block;
	case DM_USERSPACE_MAP_FAILED:
		asked = dmt_model_asked(m, msg->response.id_of_req);
		return asked ? asked->block : DMT_NO_BLOCK;
	case DM_USERSPACE_STATUS:
		if (msg->status.status != DM_USERSPACE_SYNC_COMPLETE)
			return block_of_verdict(m, peer, msg->header.id);
		name = dmt_model_name(m, msg->header.id);
		return name ? name->block : DMT_NO_BLOCK;
	default:
		return DMT_NO_BLOCK;
	}
}

static void note_of(struct dmt_model *m, int peer, bool sent,
		    const struct dmt_msg *msg, uint64_t block)
{
	m->journal[m->nr_journal % DMT_MAX_JOURNAL] = (struct dmt_entry){
		.number = m->nr_journal, .block = block, .peer = peer,
		.sent = sent, .msg = *msg,
	};
	m->nr_journal++;
}

/* Note a message that is about to be sent, or was read. */
void dmt_model_note(struct dmt_model *m, int peer, bool sent,
		    const struct dmt_msg *msg)
{
	uint64_t i, nr = dmt_judge_mapped(&m->world, msg);
	struct dmt_mapping mapping;

	if (!nr)
		note_of(m, peer, sent, msg, block_of(m, peer, msg));
	for (i = 0; i < nr; i++) {
		dmt_mapping_at(&m->world, msg, i, &mapping);
		note_of(m, peer, sent, msg, mapping.block);
	}
}

/* Print the last of what was said about a block. */
void dmt_model_tell_story(const struct dmt_model *m, uint64_t block)
{
	uint64_t i = m->nr_journal < DMT_MAX_JOURNAL ? 0 :
		     m->nr_journal - DMT_MAX_JOURNAL;

	for (; i < m->nr_journal; i++) {
		const struct dmt_entry *e = &m->journal[i % DMT_MAX_JOURNAL];
		char what[64];

		if (e->block != block)
			continue;
		snprintf(what, sizeof(what), "%llu %d%s",
			 (unsigned long long)e->number, e->peer,
			 e->sent ? ">" : "<");
		dmt_msg_print(what, &e->msg);
	}
}

/* --- what was accepted ---------------------------------------------------------------- */

static void note_place(struct dmt_model *m, const struct dmt_mapping *r)
{
	struct dmt_place place;
	uint64_t i;

	if (r->dst == DMT_NOWHERE)
		return;
	if (!dmt_place_of(&m->world, r, &place))
		errx(1, "an accepted answer names no place");
	for (i = 0; i < place.len; i++)
		m->named[place.disk][place.sector + i] |= DMT_NAMED;
}

static void note_name(struct dmt_model *m, int peer,
		      const struct dmt_mapping *r)
{
	if (dmt_model_name(m, r->id))
		return;
	if (m->nr_names == DMT_MAX_NAMES)
		errx(1, "too many ids to remember");
	m->names[m->nr_names++] = (struct dmt_name){
		.id = r->id, .block = r->block, .peer = peer,
		.cycle = m->blocks[r->block].cycle,
	};
}

static void note_copy(struct dmt_model *m, struct dmt_known *b, int peer,
		      bool sync)
{
	b->copies++;
	b->copied = m->invalidations;
	if (b->truth == DMT_PING)
		b->spare = !b->spare;
	if (!is_cow(b))
		return;
	if (sync)
		b->syncers |= 1u << peer;
	if (b->stage == DMT_AT_ORIGIN) {
		if (b->truth == DMT_COW) {
			b->sector = *dmt_model_next(m);
			--*(m->nr_lent ? &m->nr_lent : &m->nr_free);
		}
		b->stage = sync ? DMT_ON_ITS_WAY : DMT_AT_STORE;
	}
}

static void accepted_mapping(struct dmt_model *m, int peer,
			     const struct dmt_mapping *r)
{
	struct dmt_known *b = &m->blocks[r->block];
	struct dmt_asked *asked = r->id ? dmt_model_asked(m, r->id) : NULL;

	if (asked) {
		if (r->id > b->answered)
			b->answered = r->id;
		*asked = m->asked[--m->nr_asked];
	}
	if (!asked || r->flags & DMU_FLAG_TEMPORARY)
		b->generation++;
	note_place(m, r);
	if (r->flags & DMU_FLAG_SYNC)
		note_name(m, peer, r);
	/* A copy to where it is, is none. */
	if (r->flags & DMU_FLAG_COPY_FIRST && b->truth != DMT_PLAIN)
		note_copy(m, b, peer, r->flags & DMU_FLAG_SYNC);
}

static void accepted_mappings(struct dmt_model *m, int peer,
			      const struct dmt_msg *msg, uint64_t nr)
{
	struct dmt_mapping r;
	uint64_t i;

	for (i = 0; i < nr; i++) {
		dmt_mapping_at(&m->world, msg, i, &r);
		accepted_mapping(m, peer, &r);
	}
}

/* Of all that a message speaks of together; none of them ever goes back. */
uint64_t dmt_model_generation(const struct dmt_model *m,
			      const struct dmt_msg *msg)
{
	uint64_t i, nr = dmt_nr_mappings(msg), sum = 0;
	struct dmt_mapping r;

	for (i = 0; i < nr; i++) {
		dmt_mapping_at(&m->world, msg, i, &r);
		sum += m->blocks[r.block].generation;
	}
	return sum;
}

static void accepted_response(struct dmt_model *m, int peer,
			      const struct dmt_msg *msg)
{
	struct dmt_mapping r;

	accepted_mappings(m, peer, msg, dmt_nr_mappings(msg));
	dmt_mapping_at(&m->world, msg, 0, &r);
	if (r.id)
		m->past[m->nr_past++ % DMT_MAX_PAST] = (struct dmt_past){
			.msg = *msg, .id = r.id,
			.generation = dmt_model_generation(m, msg),
		};
}

/**
 * dmt_model_refused() - a message will be refused
 * @m: the model
 * @peer: to which it is written
 * @msg: harmless, or true, as far as it takes effect
 */
void dmt_model_refused(struct dmt_model *m, int peer,
		       const struct dmt_msg *msg)
{
	accepted_mappings(m, peer, msg, dmt_judge_mapped(&m->world, msg));
}

static void accepted_failed(struct dmt_model *m, const struct dmt_msg *msg)
{
	struct dmt_asked *asked = dmt_model_asked(m, msg->response.id_of_req);

	if (!asked)
		return;
	m->failing = true;
	m->blocks[asked->block].failing = true;
	m->blocks[asked->block].fails++;
	*asked = m->asked[--m->nr_asked];
}

static void accepted_invalidate(struct dmt_model *m, int peer,
				const struct dmt_msg *msg)
{
	struct dmt_known *b = &m->blocks[msg->invalidate.org_block];
	bool carry = b->truth == DMT_MOVE ||
		     (is_cow(b) && b->stage == DMT_AT_STORE);

	if (m->nr_verdicts == DMT_MAX_VERDICTS)
		errx(1, "too many invalidations to remember");
	m->verdicts[m->nr_verdicts++] = (struct dmt_verdict){
		.id = msg->header.id, .block = msg->invalidate.org_block,
		.peer = peer, .number = ++m->invalidations,
	};
	b->generation++;
	if (carry && !b->leaving)
		b->leaving = m->invalidations;
}

static void accepted_status(struct dmt_model *m, const struct dmt_msg *msg)
{
	struct dmt_name *name = dmt_model_name(m, msg->status.id_of_op);

	if (name)
		*name = m->names[--m->nr_names];
}

#define EXTENSIONS (DMU_EXT_REPORTS | DMU_EXT_DISCARD | DMU_EXT_RUNS)

static void accepted_question(struct dmt_model *m, int peer,
			      const struct dmt_msg *msg)
{
	struct dmt_peer *p = &m->peers[peer];
	struct dmt_echo *echo;

	if (p->nr == DMT_MAX_ECHOS)
		errx(1, "too many questions to remember");
	echo = &p->echos[(p->first + p->nr++) % DMT_MAX_ECHOS];
	echo->type = msg->header.msg_type;
	echo->id = msg->header.id;
	echo->value = msg->version.userspace_ver;
	if (echo->type == DM_USERSPACE_EXTENSIONS) {
		memcpy(&p->bits, msg->bytes, sizeof(p->bits));
		p->bits &= EXTENSIONS;
		echo->value = p->bits;
	}
}

/**
 * dmt_model_accepted() - a message will be accepted
 * @m: the model
 * @peer: to which it is written
 * @msg: nothing is wrong with it; it is harmless, or true
 */
void dmt_model_accepted(struct dmt_model *m, int peer,
			const struct dmt_msg *msg)
{
	switch (msg->header.msg_type) {
	case DM_USERSPACE_MAP_BLOCK_RESP:
	case DM_USERSPACE_MAP_RUN_RESP:
		accepted_response(m, peer, msg);
		break;
	case DM_USERSPACE_MAP_FAILED:
		accepted_failed(m, msg);
		break;
	case DM_USERSPACE_MAP_INVALIDATE:
		accepted_invalidate(m, peer, msg);
		break;
	case DM_USERSPACE_STATUS:
		accepted_status(m, msg);
		break;
	case DM_USERSPACE_GET_VERSION:
	case DM_USERSPACE_EXTENSIONS:
		accepted_question(m, peer, msg);
		break;
	}
}

/* What was accepted has been written: nothing is being failed any more. */
void dmt_model_written(struct dmt_model *m)
{
	unsigned int i;

	if (!m->failing)
		return;
	m->failing = false;
	for (i = 0; i < DMT_NR_BLOCKS; i++)
		m->blocks[i].failing = false;
}

/* --- what may be said by chance ------------------------------------------------------- */

/* Where anything goes. */
static bool place_is_wild(const struct dmt_model *m,
			  const struct dmt_place *place)
{
	uint64_t i;

	for (i = 0; i < place->len; i++)
		if (!(m->named[place->disk][place->sector + i] &
		      DMT_FREE_FOR_ALL))
			return false;
	return true;
}

/* Else the kernel may have given the id to a request which nobody has read. */
bool dmt_model_heard_of(const struct dmt_model *m, uint32_t id)
{
	return id - m->highest - 1 >= 1u << 24;
}

/* The place that a PLAIN block always has, and nothing is copied there. */
static bool is_plain(const struct dmt_model *m, const struct dmt_mapping *r)
{
	uint64_t home = r->block * DMT_SECTORS;

	if (m->blocks[r->block].truth != DMT_PLAIN ||
	    r->dst != DMT_STORE_DISK || r->to != home)
		return false;
	return !(r->flags & DMU_FLAG_COPY_FIRST) ||
	       (r->src == DMT_STORE_DISK && r->from == home);
}

/* A request for reading that nobody has read may have become one for writing. */
static bool zeroes_may_not_fit(struct dmt_model *m, const struct dmt_mapping *r)
{
	const struct dmt_asked *asked = dmt_model_asked(m, r->id);

	return r->flags & DMU_FLAG_ZERO && asked && asked->peer < 0;
}

/* Would a truthful daemon mind, had it said this of a block? */
bool dmt_model_harmless_mapping(struct dmt_model *m,
				const struct dmt_mapping *r)
{
	const struct dmt_known *b = &m->blocks[r->block];
	struct dmt_place place;

	if (!dmt_model_heard_of(m, r->id) || zeroes_may_not_fit(m, r))
		return false;
	if (b->truth != DMT_NO_TRUTH)
		return is_plain(m, r);
	if (r->flags & DMU_FLAG_COPY_FIRST && b->copies >= DMT_MAX_COPIES)
		return false;
	return r->dst == DMT_NOWHERE ||
	       (dmt_place_of(&m->world, r, &place) && place_is_wild(m, &place));
}

#define FULL (DMT_MAX_NAMES / 2)

static bool mappings_are_harmless(struct dmt_model *m,
				  const struct dmt_msg *msg)
{
	uint64_t i, nr = dmt_judge_mapped(&m->world, msg);
	struct dmt_mapping r;

	for (i = 0; i < nr; i++) {
		dmt_mapping_at(&m->world, msg, i, &r);
		if (!dmt_model_harmless_mapping(m, &r) ||
		    (r.flags & DMU_FLAG_SYNC && m->nr_names + nr > FULL))
			return false;
	}
	return true;
}

/*
 * Would a truthful daemon mind, had it said this? Of a run that is refused that is
 * a question, too.
 */
bool dmt_model_harmless(struct dmt_model *m, const struct dmt_msg *msg)
{
	struct dmt_asked *asked;
	struct dmt_name *name;
	struct dmt_known *b;

	switch (msg->header.msg_type) {
	case DM_USERSPACE_MAP_BLOCK_RESP:
	case DM_USERSPACE_MAP_RUN_RESP:
		return mappings_are_harmless(m, msg);
	case DM_USERSPACE_MAP_FAILED:
		asked = dmt_model_asked(m, msg->response.id_of_req);
		if (!asked)
			return dmt_model_heard_of(m, msg->response.id_of_req);
		return m->blocks[asked->block].truth == DMT_NO_TRUTH;
	case DM_USERSPACE_MAP_INVALIDATE:
		b = &m->blocks[msg->invalidate.org_block];
		return b->truth == DMT_NO_TRUTH &&
		       m->nr_verdicts < DMT_MAX_VERDICTS / 2;
	case DM_USERSPACE_STATUS:
		name = dmt_model_name(m, msg->status.id_of_op);
		return !name || m->blocks[name->block].truth == DMT_NO_TRUTH;
	default:
		return true;
	}
}

/* --- what was told -------------------------------------------------------------------- */

static bool wrong(const struct dmt_msg *msg, const char *why)
{
	fprintf(stderr, "# %s\n", why);
	dmt_msg_print("it was told", msg);
	return false;
}

/* What a daemon that died had read comes first, and in its order. */
static bool is_overdue(const struct dmt_model *m, uint32_t id)
{
	unsigned int i;

	for (i = 0; i < m->nr_asked; i++)
		if (m->asked[i].peer < 0 && m->asked[i].id < id)
			return true;
	return false;
}

static bool told_request(struct dmt_model *m, int peer,
			 const struct dmt_msg *msg)
{
	struct dmt_asked *asked = dmt_model_asked(m, msg->header.id);
	uint64_t block = msg->request.org_block;
	bool write = msg->request.flags & DMU_FLAG_WR;
	struct dmt_known *b;

	if (msg->header.payload_len != sizeof(msg->request) ||
	    msg->request.padding || !(msg->request.flags & DMU_FLAG_RD) ||
	    msg->request.flags & ~(DMU_FLAG_RD | DMU_FLAG_WR) ||
	    !dmt_block_len(&m->world, block))
		return wrong(msg, "a request that makes no sense");
	if (!msg->header.id || dmt_model_name(m, msg->header.id))
		return wrong(msg, "its id is somebody else's");
	b = &m->blocks[block];
	if (msg->header.id > m->highest)
		m->highest = msg->header.id;
	if (!asked) {
		if (dmt_model_asks(m, block) >= 2)
			return wrong(msg, "a third request for a block");
		if (m->nr_asked == DMT_MAX_ASKED)
			errx(1, "too many requests to remember");
		asked = &m->asked[m->nr_asked++];
		*asked = (struct dmt_asked){ .id = msg->header.id,
					     .block = block, .peer = -1 };
	}
	if (asked->peer >= 0 || asked->block != block ||
	    (asked->write && !write))
		return wrong(msg, "it has been asked, and not answered");
	if (is_overdue(m, msg->header.id))
		return wrong(msg, "an older one has not been asked again");
	asked->peer = peer;
	asked->write = write;
	asked->early = !write && is_cow(b) &&
		       b->stage == DMT_AT_ORIGIN && !b->leaving;
	asked->generation = b->generation;
	return true;
}

/* Whoever comes here later finds out. */
static void spoil_place(struct dmt_disk *disk, uint64_t sector)
{
	uint8_t buf[DMT_BLOCK];

	memset(buf, 0xee, sizeof(buf));
	if (pwrite(disk->fd, buf, sizeof(buf), (off_t)sector * 512) !=
	    sizeof(buf))
		err(1, "carrying a block");
}

static void copy_sectors(struct dmt_disk *from, uint64_t sector,
			 struct dmt_disk *to, uint64_t to_sector)
{
	uint8_t buf[DMT_BLOCK];

	if (pread(from->fd, buf, sizeof(buf), (off_t)sector * 512) !=
	    sizeof(buf) ||
	    pwrite(to->fd, buf, sizeof(buf), (off_t)to_sector * 512) !=
	    sizeof(buf))
		err(1, "carrying a block");
	spoil_place(from, sector);
}

/* Does a place of the store hold what the block must? And is that all zeroes? */
static bool place_holds(struct dmt_model *m, uint64_t block, uint64_t sector,
			bool *zeroes)
{
	static const uint8_t nothing[DMT_BLOCK];
	const uint32_t units = DMT_BLOCK / DMT_UNIT;
	uint8_t buf[DMT_BLOCK];

	if (pread(m->disk[DMT_STORE_DISK].fd, buf, sizeof(buf),
		  (off_t)sector * 512) != sizeof(buf))
		err(1, "looking at a block");
	*zeroes = !memcmp(buf, nothing, sizeof(buf));
	return dmt_traffic_has(m->traffic, buf, (uint32_t)block * units, units);
}

static void is_back(struct dmt_known *b)
{
	b->stage = DMT_AT_ORIGIN;
	b->syncers = 0;
	b->cycle++;
}

/*
 * No I/O uses its place any more: take what it holds to another. Whoever needs a
 * place next gets the one that it has left.
 */
static bool carry(struct dmt_model *m, uint64_t block)
{
	struct dmt_known *b = &m->blocks[block];
	struct dmt_disk *store = &m->disk[DMT_STORE_DISK];
	uint64_t sector = b->sector;
	bool zeroes;

	b->leaving = 0;
	if (!place_holds(m, block, sector, &zeroes))
		return false;
	if (b->truth == DMT_THIN) {
		if (!zeroes)
			return true;
		spoil_place(store, sector);
		is_back(b);
		return true;
	}
	if (b->truth == DMT_COW) {
		copy_sectors(store, sector, &m->disk[DMT_ORIGIN_DISK],
			     block * DMT_SECTORS);
		is_back(b);
	} else {
		b->sector = m->free[--m->nr_free];
		copy_sectors(store, sector, store, b->sector);
	}
	m->free[m->nr_free++] = sector;
	return true;
}

static bool told_verdict(struct dmt_model *m, int peer,
			 const struct dmt_msg *msg)
{
	struct dmt_verdict *v = NULL;
	struct dmt_known *b;
	uint32_t number;
	uint64_t block;
	unsigned int i;

	for (i = 0; i < m->nr_verdicts && !v; i++)
		if (m->verdicts[i].peer == peer &&
		    m->verdicts[i].id == msg->header.id)
			v = &m->verdicts[i];
	if (!v)
		return wrong(msg, "nobody has asked for this verdict");
	block = v->block;
	number = v->number;
	b = &m->blocks[block];
	memmove(v, v + 1, (char *)&m->verdicts[m->nr_verdicts] -
			  (char *)(v + 1));
	m->nr_verdicts--;
	if (number > b->copied)
		b->copies = 0;
	if (!b->leaving || number < b->leaving)
		return true;
	return carry(m, block) ||
	       wrong(msg, "the place that is said to be free holds something else");
}

static bool told_sync(struct dmt_model *m, const struct dmt_msg *msg)
{
	struct dmt_name *name = dmt_model_name(m, msg->header.id);
	struct dmt_known *b;

	if (!name)
		return wrong(msg, "no such answer waits for its acknowledgment");
	name->told = true;
	b = &m->blocks[name->block];
	if (is_cow(b) && b->stage == DMT_ON_ITS_WAY &&
	    name->cycle == b->cycle) {
		b->stage = DMT_AT_STORE;
		b->copies = 0;
	}
	return true;
}

static bool told_echo(struct dmt_model *m, int peer, const struct dmt_msg *msg)
{
	struct dmt_peer *p = &m->peers[peer];
	const struct dmt_echo *want = &p->echos[p->first];
	uint64_t value = msg->version.userspace_ver;

	if (msg->header.msg_type == DM_USERSPACE_EXTENSIONS)
		memcpy(&value, msg->bytes, sizeof(value));
	else if (!msg->version.kernel_ver)
		return wrong(msg, "it has no version");
	if (!p->nr || want->type != msg->header.msg_type ||
	    want->id != msg->header.id || want->value != value)
		return wrong(msg, "nobody has asked for this");
	p->first = (p->first + 1) % DMT_MAX_ECHOS;
	p->nr--;
	return true;
}

static bool told_report(struct dmt_model *m, int peer, const struct dmt_msg *msg)
{
	struct dmu_msg_report r;

	memcpy(&r, msg->bytes, sizeof(r));
	if (msg->header.id || r.padding || !r.report ||
	    r.report > DMU_REPORT_LOST)
		return wrong(msg, "a report that makes no sense");
	return m->peers[peer].bits & DMU_EXT_REPORTS ||
	       wrong(msg, "it has not asked for reports");
}

/* So many requests. */
static bool told_run(struct dmt_model *m, int peer, const struct dmt_msg *msg)
{
	struct dmt_msg one = {
		.header = { DM_USERSPACE_MAP_BLOCK_REQ,
			    sizeof(struct dmu_msg_map_request) },
	};
	struct dmu_msg_run_request run;
	uint32_t i;

	memcpy(&run, msg->bytes, sizeof(run));
	if (!(m->peers[peer].bits & DMU_EXT_RUNS))
		return wrong(msg, "it has not asked for runs");
	if (run.count < 2)
		return wrong(msg, "that is no run");
	for (i = 0; i < run.count; i++) {
		one.header.id = msg->header.id + i;
		one.request.org_block = run.block + i;
		one.request.flags = run.flags;
		dmt_model_note(m, peer, false, &one);
		m->blame = run.block + i;
		if (!told_request(m, peer, &one))
			return false;
	}
	return true;
}

/**
 * dmt_model_told() - the kernel has said something
 * @m: the model
 * @peer: that read it
 * @msg: a whole message
 *
 * Return: false where it must not say that.
 */
bool dmt_model_told(struct dmt_model *m, int peer, const struct dmt_msg *msg)
{
	m->blame = block_of(m, peer, msg);
	switch (msg->header.msg_type) {
	case DM_USERSPACE_MAP_BLOCK_REQ:
		return told_request(m, peer, msg);
	case DM_USERSPACE_MAP_RUN_REQ:
		return told_run(m, peer, msg);
	case DM_USERSPACE_GET_VERSION:
	case DM_USERSPACE_EXTENSIONS:
		return told_echo(m, peer, msg);
	case DM_USERSPACE_REPORT:
		return told_report(m, peer, msg);
	case DM_USERSPACE_DISCARD: /* only one that is alone */
		return wrong(msg, "it is not the only daemon");
	case DM_USERSPACE_STATUS:
		if (msg->header.id != msg->status.id_of_op)
			return wrong(msg, "its two ids differ");
		if (msg->status.status == DM_USERSPACE_SYNC_COMPLETE)
			return told_sync(m, msg);
		if (msg->status.status == DM_USERSPACE_INVAL_COMPLETE ||
		    msg->status.status == DM_USERSPACE_INVAL_FAILED)
			return told_verdict(m, peer, msg);
		break;
	}
	return wrong(msg, "there is no such message");
}

/* --- deaths --------------------------------------------------------------------------- */

/* An open file was closed, and a new one stands in its place. */
void dmt_model_died(struct dmt_model *m, int peer)
{
	unsigned int i, kept = 0;

	for (i = 0; i < m->nr_asked; i++)
		if (m->asked[i].peer == peer)
			m->asked[i].peer = -1;
	for (i = 0; i < m->nr_names; i++)
		if (m->names[i].peer != peer)
			m->names[kept++] = m->names[i];
	m->nr_names = kept;
	for (i = 0, kept = 0; i < m->nr_verdicts; i++)
		if (m->verdicts[i].peer != peer)
			m->verdicts[kept++] = m->verdicts[i];
	m->nr_verdicts = kept;
	m->peers[peer].nr = 0;
	m->peers[peer].bits = 0;
	for (i = 0; i < DMT_NR_BLOCKS; i++) {
		struct dmt_known *b = &m->blocks[i];

		b->generation++;
		b->syncers &= ~(1u << peer);
		/* Nothing is known of its place: the next may have it. */
		if (b->stage == DMT_ON_ITS_WAY && !b->syncers) {
			b->stage = DMT_AT_ORIGIN;
			if (b->truth == DMT_COW)
				m->lent[m->nr_lent++] = b->sector;
		}
	}
}
