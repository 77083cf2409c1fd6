// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests: blocks whose I/O waits for a daemon to say where they live.
 *
 * A request lives in the per-bio data of the first bio that waits for its
 * block, and needs no memory of its own. What it does own is the remap and the
 * change that its answer will need: a request that has been read can always be
 * answered. Where there is no memory for these two the request is STARVED and
 * no daemon sees it, until the worker has recycled some.
 *
 * When a noflush suspend hands back the bio it lives in, the request moves to
 * another of its bios, or ends with the last.
 */
#include "dm-userspace-trace.h"
#include <linux/module.h>

static unsigned int max_requests = 4096;
module_param(max_requests, uint, 0644);
MODULE_PARM_DESC(max_requests,
		 "Blocks of each key that daemons are asked for at a time; more wait for these");

static unsigned int id_bits = 32;
module_param(id_bits, uint, 0444);
MODULE_PARM_DESC(id_bits,
		 "Width of ids, 10 to 32: how soon they begin anew; for tests only");

/* --- ids ------------------------------------------------------------------ */

/* Tests could not wait for 2^32 requests. */
static u32 id_mask(void)
{
	return U32_MAX >> (32 - clamp(id_bits, 10U, 32U));
}

static struct hlist_head *id_chain(struct dmu_space *space, u32 id)
{
	return &space->ids[id % DMU_BUCKETS];
}

/**
 * dmu_id_find() - what a daemon means by an id
 * @space: of the key, locked
 * @value: the id
 *
 * Return: it, or NULL where no request or unacknowledged change has that id.
 */
struct dmu_id *dmu_id_find(struct dmu_space *space, u32 value)
{
	struct dmu_id *id;

	lockdep_assert_held(&space->lock);
	hlist_for_each_entry(id, id_chain(space, value), node)
		if (id->id == value)
			return id;
	return NULL;
}

/**
 * dmu_id_new() - the next id that nobody has
 * @space: of the key, locked
 *
 * Return: a number whose low bits are the id, never 0, and which tells the age.
 */
u64 dmu_id_new(struct dmu_space *space)
{
	u32 id;

	do {
		WRITE_ONCE(space->last_seq, space->last_seq + 1);
		id = space->last_seq & id_mask();
	} while (!id || dmu_id_find(space, id));
	return space->last_seq;
}

/**
 * dmu_id_age() - when was an id given away that is outstanding no longer?
 * @space: of the key, locked
 * @id: named by a daemon
 *
 * Return: what dmu_id_new() returned for it most lately; 0 where it never did.
 */
u64 dmu_id_age(struct dmu_space *space, u32 id)
{
	u64 mask = id_mask();
	u64 seq = (space->last_seq & ~mask) | id;

	if (id > mask)
		return 0;
	if (seq <= space->last_seq)
		return seq;
	return seq > mask ? seq - mask - 1 : 0;
}

/**
 * dmu_id_add() - let an id be found
 * @space: of the key, locked
 * @id: not hashed; its kind is set
 * @value: not 0
 */
void dmu_id_add(struct dmu_space *space, struct dmu_id *id, u32 value)
{
	lockdep_assert_held(&space->lock);
	id->id = value;
	hlist_add_head(&id->node, id_chain(space, value));
}

/**
 * dmu_id_del() - take an id back; space->lock is held
 * @id: hashed or not
 */
void dmu_id_del(struct dmu_id *id)
{
	if (id->id)
		hlist_del(&id->node);
	id->id = 0;
}

/* --- states --------------------------------------------------------------- */

/* Put it where its age belongs; what was sent once is older than the rest. */
static void unread_insert(struct dmu_space *space, struct dmu_request *request)
{
	struct dmu_request *pos;

	list_for_each_entry(pos, &space->unread, queue)
		if (request->seq < pos->seq)
			break;
	list_add_tail(&request->queue, &pos->queue);
}

/* For those that look without the lock, too. Context: space->lock. */
static void count(unsigned int *nr, int more)
{
	WRITE_ONCE(*nr, *nr + more);
}

/* Leave the list of the present state. */
static void request_leave(struct dmu_space *space, struct dmu_request *request)
{
	list_del(&request->queue);
	if (request->state == DMU_REQUEST_STARVED)
		count(&space->nr_starved, -1);
	count(request->state == DMU_REQUEST_SENT ? &space->nr_sent :
						   &space->nr_unread, -1);
}

/* Context: space->lock. */
static void request_enter(struct dmu_space *space, struct dmu_request *request,
			  enum dmu_request_state state, struct dmu_peer *peer)
{
	lockdep_assert_held(&space->lock);
	WRITE_ONCE(request->state, state);
	request->peer = peer;
	switch (state) {
	case DMU_REQUEST_STARVED:
		list_add_tail(&request->queue, &space->starved);
		count(&space->nr_unread, 1);
		count(&space->nr_starved, 1);
		break;
	case DMU_REQUEST_UNREAD:
		if (!request->id.id) {
			request->seq = dmu_id_new(space);
			dmu_id_add(space, &request->id,
				   request->seq & id_mask());
			list_add_tail(&request->queue, &space->unread);
			trace_dmu_request_queued(space, request->block,
						 request->id.id,
						 request->write);
		} else {
			unread_insert(space, request);
			trace_dmu_request_redelivered(space, request->block,
						      request->id.id);
		}
		count(&space->nr_unread, 1);
		break;
	case DMU_REQUEST_SENT:
		request->since = jiffies;
		list_add_tail(&request->queue, &peer->sent);
		count(&space->nr_sent, 1);
		break;
	}
}

/**
 * dmu_request_waits() - does I/O of a block wait for a daemon?
 * @bucket: of the block, locked
 * @block: of the mapped device
 */
bool dmu_request_waits(struct dmu_bucket *bucket, u64 block)
{
	struct dmu_request *request;

	lockdep_assert_held(&bucket->lock);
	hlist_for_each_entry(request, dmu_requests_of(bucket, block), node)
		if (request->block == block)
			return true;
	return false;
}

/**
 * dmu_request_known() - may a daemon know that a block is asked for?
 * @bucket: of the blocks, locked
 * @block: of the mapped device, the first of them
 * @blocks: how many
 */
bool dmu_request_known(struct dmu_bucket *bucket, u64 block, u64 blocks)
{
	struct dmu_request *request;
	u64 i;

	lockdep_assert_held(&bucket->lock);
	for (i = 0; i < min_t(u64, blocks, DMU_HEADS); i++)
		hlist_for_each_entry(request, dmu_requests_of(bucket, block + i),
				     node)
			if (request->block - block < blocks &&
			    READ_ONCE(request->state) != DMU_REQUEST_STARVED)
				return true;
	return false;
}

/**
 * dmu_requests_mark() - mark the remaps of blocks that a daemon is asked for
 * @bucket: locked
 * @asked: or no longer
 */
void dmu_requests_mark(struct dmu_bucket *bucket, bool asked)
{
	struct dmu_request *request;
	struct dmu_remap *remap;
	struct hlist_head *head;

	lockdep_assert_held(&bucket->lock);
	for (head = bucket->requests; head < bucket->requests + DMU_HEADS; head++)
		hlist_for_each_entry(request, head, node) {
			if (READ_ONCE(request->state) == DMU_REQUEST_STARVED)
				continue;
			remap = dmu_remap_find(bucket, request->block);
			if (remap)
				remap->asked = asked;
		}
}

/* A request that a bio can join; one that nobody has read can still change. */
static struct dmu_request *request_join(struct dmu_space *space,
					struct dmu_bucket *bucket, u64 block,
					bool write)
{
	struct dmu_request *request;
	bool joined;

	hlist_for_each_entry(request, dmu_requests_of(bucket, block), node) {
		if (request->block != block)
			continue;
		spin_lock(&space->lock);
		if (write && request->state != DMU_REQUEST_SENT)
			request->write = true;
		joined = !write || request->write;
		spin_unlock(&space->lock);
		if (joined)
			return request;
	}
	return NULL;
}

/* Those that have their memory: a daemon is asked, or may be at any time. */
static bool room_for_request(struct dmu_space *space)
{
	unsigned int nr = READ_ONCE(space->nr_unread) +
			  READ_ONCE(space->nr_sent) -
			  READ_ONCE(space->nr_starved);

	/* Each needs an id, where tests let there be few. */
	return nr < max(READ_ONCE(max_requests), 1U) &&
	       nr + READ_ONCE(space->nr_owed) < id_mask() / 2;
}

/* All or nothing: what one keeps, another may starve for. */
static void request_fund(struct dmu_space *space, struct dmu_request *request)
{
	request->remap = NULL;
	request->change = NULL;
	if (!room_for_request(space))
		return;
	request->change = dmu_change_alloc(space, true);
	if (!request->change)
		return;
	request->remap = dmu_remap_alloc(space, true);
	if (request->remap)
		return;
	mempool_free(request->change, &space->change_pool);
	request->change = NULL;
}

static void request_make(struct dmu_space *space, struct dmu_bucket *bucket,
			 struct dmu_request *request, u64 block, bool write)
{
	request->block = block;
	request->write = write;
	bio_list_init(&request->bios);
	request->id.id = 0;
	request->id.kind = DMU_ID_REQUEST;
	request_fund(space, request);
	hlist_add_head(&request->node, dmu_requests_of(bucket, block));

	spin_lock(&space->lock);
	request_enter(space, request, request->remap ? DMU_REQUEST_UNREAD :
		      DMU_REQUEST_STARVED, NULL);
	spin_unlock(&space->lock);
	if (request->remap)
		dmu_space_wake(space);
	else
		dmu_space_kick(space);
}

/* Is there a limit to how long its I/O waits? */
static bool target_hurries(const struct dmu_target *target)
{
	return READ_ONCE(target->policy.daemon_timeout) ||
	       READ_ONCE(target->policy.request_timeout);
}

/* Say once for each absence that I/O fails for it. Context: any. */
static void tell_absence(struct dmu_space *space)
{
	if (READ_ONCE(space->absence_told) || xchg(&space->absence_told, true))
		return;
	DMERR_LIMIT("%s: no daemon is attached: I/O that needs one fails",
		    space->key);
}

/**
 * dmu_request_wait() - let a bio wait for a daemon to map its block
 * @target: the bio came through
 * @bucket: of the block, locked
 * @block: all of the bio lies in it
 * @write: the block is to be written
 * @bio: belongs to the request from now on, where this succeeds
 *
 * Return: DM_MAPIO_SUBMITTED, or DM_MAPIO_KILL where there is no daemon and
 * nobody is to wait for one.
 */
int dmu_request_wait(struct dmu_target *target, struct dmu_bucket *bucket,
		     u64 block, bool write, struct bio *bio)
{
	struct dmu_space *space = target->space;
	struct dmu_request *request;

	lockdep_assert_held(&bucket->lock);
	if (READ_ONCE(target->policy.error_if_no_daemon) &&
	    !READ_ONCE(space->nr_peers)) {
		tell_absence(space);
		return DM_MAPIO_KILL;
	}
	if (target_hurries(target))
		dmu_requests_tick(space);
	request = request_join(space, bucket, block, write);
	if (!request) {
		request = &dmu_bio(bio)->request;
		request_make(space, bucket, request, block, write);
	}
	bio_list_add(&request->bios, bio);
	return DM_MAPIO_SUBMITTED;
}

/**
 * dmu_request_by_id() - the request that a daemon answers
 * @space: of the key, locked
 * @id: named by the daemon
 *
 * Return: it, or NULL where it is outstanding no longer.
 */
struct dmu_request *dmu_request_by_id(struct dmu_space *space, u32 id)
{
	struct dmu_id *found = id ? dmu_id_find(space, id) : NULL;

	if (!found || found->kind != DMU_ID_REQUEST)
		return NULL;
	return container_of(found, struct dmu_request, id);
}

/**
 * dmu_request_end() - a request is answered, failed or has lost all its bios
 * @space: of the key, locked
 * @request: its bucket is locked; gone after this
 * @bios: gets the bios that waited
 * @remap: gets the remap that was set aside
 * @change: gets the change that was set aside
 */
void dmu_request_end(struct dmu_space *space, struct dmu_request *request,
		     struct bio_list *bios, struct dmu_remap **remap,
		     struct dmu_change **change)
{
	lockdep_assert_held(&space->lock);
	request_leave(space, request);
	dmu_id_del(&request->id);
	hlist_del(&request->node);
	*remap = request->remap;
	*change = request->change;
	bio_list_merge(bios, &request->bios);
	/* Another one may take its place. */
	dmu_space_relieve(space);
}

/* --- memory ---------------------------------------------------------------- */

#define DMU_MAX_RECYCLED 64U /* at a time, for those who starve */

/* Give the oldest starved request what it needs. False where there is none. */
static bool fund_one(struct dmu_space *space, struct dmu_remap **remap,
		     struct dmu_change **change)
{
	struct dmu_request *request;

	spin_lock_irq(&space->lock);
	request = list_first_entry_or_null(&space->starved, struct dmu_request,
					   queue);
	if (request) {
		request_leave(space, request);
		swap(request->change, *change);
		swap(request->remap, *remap);
		request_enter(space, request, DMU_REQUEST_UNREAD, NULL);
	}
	spin_unlock_irq(&space->lock);
	return request;
}

/* As many as are needed, and not on their way yet. */
static void recycle_for_starved(struct dmu_space *space)
{
	unsigned int wanted = min(READ_ONCE(space->nr_starved), DMU_MAX_RECYCLED);
	unsigned int leaving = atomic_read(&space->nr_leaving);

	if (leaving < wanted)
		dmu_remaps_recycle(space, wanted - leaving);
}

/**
 * dmu_requests_fund() - the worker's share: memory for starved requests
 * @space: of the key
 *
 * Recycles remaps where it must; they come back to the pool, and the worker is
 * kicked, after an RCU grace period. Changes come back as copies and SYNCs end.
 *
 * Context: the worker; may sleep.
 */
void dmu_requests_fund(struct dmu_space *space)
{
	struct dmu_change *change = NULL;
	struct dmu_remap *remap = NULL;
	bool woke = false;

	while (dmu_list_waits(&space->starved) &&
	       room_for_request(space)) {
		if (!change)
			change = dmu_change_alloc(space, true);
		if (!remap)
			remap = dmu_remap_alloc(space, true);
		if (!remap)
			recycle_for_starved(space);
		if (!remap || !change || !fund_one(space, &remap, &change))
			break;
		woke = true;
	}
	/* Not by way of dmu_*_free(), which would kick the worker for these. */
	if (remap)
		mempool_free(remap, &space->remap_pool);
	if (change)
		mempool_free(change, &space->change_pool);
	if (woke)
		dmu_space_wake(space);
	/* Nobody says when the allocator has some again. */
	if (dmu_list_waits(&space->starved) && room_for_request(space))
		dmu_requests_tick(space);
}

/* --- a daemon's end, and a table's ------------------------------------------ */

static struct dmu_request *first_unread(struct dmu_space *space)
{
	return list_first_entry_or_null(&space->unread, struct dmu_request,
					queue);
}

/* Is it for the block behind those that a daemon is being told of? */
static bool goes_on(const struct dmu_event *event,
		    const struct dmu_request *request)
{
	return request->block == event->block + event->count &&
	       request->id.id == event->id + event->count &&
	       request->write == event->write;
}

/**
 * dmu_requests_send() - hand the oldest unread requests to a daemon
 * @space: of the key, locked
 * @peer: who reads; where it knows runs it gets all that follow each other, but no
 *	more than a remap can cover
 * @event: gets what it is told
 *
 * Return: false where there is none.
 */
bool dmu_requests_send(struct dmu_space *space, struct dmu_peer *peer,
		       struct dmu_event *event)
{
	u64 max = peer->wants & DMU_WANTS_RUNS ? 1U << DMU_MAX_RUN_BITS : 1;
	struct dmu_request *request = first_unread(space);

	if (!request)
		return false;
	*event = (struct dmu_event){
		.type = DMU_EVENT_REQUEST,
		.id = request->id.id,
		.block = request->block,
		.write = request->write,
	};
	do {
		request_leave(space, request);
		request_enter(space, request, DMU_REQUEST_SENT, peer);
		trace_dmu_request_sent(space, request->block, request->id.id,
				       request->write);
		event->count++;
		request = first_unread(space);
	} while (request && event->count < max && goes_on(event, request));
	return true;
}

static void request_unsend(struct dmu_space *space, struct dmu_peer *peer,
			   u32 id)
{
	struct dmu_request *request = dmu_request_by_id(space, id);

	if (!request || request->state != DMU_REQUEST_SENT ||
	    request->peer != peer)
		return;
	request_leave(space, request);
	request_enter(space, request, DMU_REQUEST_UNREAD, NULL);
}

/**
 * dmu_requests_untell() - a daemon did not get what it was to read
 * @space: of the key, locked
 * @peer: who would have read it
 * @event: of dmu_requests_send(); some may be outstanding no longer
 */
void dmu_requests_untell(struct dmu_space *space, struct dmu_peer *peer,
			 const struct dmu_event *event)
{
	u64 i;

	/* Youngest first, so that each finds its place at the head at once. */
	for (i = event->count; i; i--)
		request_unsend(space, peer, event->id + i - 1);
}

/**
 * dmu_requests_unsend() - a daemon died: what it had read is unread again
 * @space: of the key, locked
 * @peer: the daemon's
 */
void dmu_requests_unsend(struct dmu_space *space, struct dmu_peer *peer)
{
	struct dmu_request *request, *prev;

	/* Youngest first, so that each finds its place at the head at once. */
	list_for_each_entry_safe_reverse(request, prev, &peer->sent,
					 queue) {
		request_leave(space, request);
		request_enter(space, request, DMU_REQUEST_UNREAD, NULL);
	}
}

/**
 * dmu_request_lost() - a request ends without its answer
 * @space: of the key, locked
 * @request: its bucket is locked; gone after this
 * @bios: gets the bios that waited
 * @remap: gets the remap that was set aside
 * @change: gets the change that was set aside
 *
 * A daemon that has read it may still give one.
 */
void dmu_request_lost(struct dmu_space *space, struct dmu_request *request,
		      struct bio_list *bios, struct dmu_remap **remap,
		      struct dmu_change **change)
{
	struct dmu_bucket *bucket = dmu_bucket_of(space, request->block);

	trace_dmu_request_ended(space, request->block, request->id.id);
	if (request->id.id)
		bucket->lost = max(bucket->lost, request->seq);
	dmu_request_end(space, request, bios, remap, change);
}

/* Without an answer. Context: bucket lock. */
static void requests_end(struct dmu_space *space, struct hlist_head *head,
			 struct bio_list *bios)
{
	struct dmu_request *request;
	struct dmu_change *change;
	struct dmu_remap *remap;
	struct hlist_node *n;

	hlist_for_each_entry_safe(request, n, head, node) {
		spin_lock(&space->lock);
		dmu_request_lost(space, request, bios, &remap, &change);
		spin_unlock(&space->lock);
		dmu_remap_free(space, remap);
		dmu_change_free(space, change);
	}
}

/**
 * dmu_requests_fail() - fail all I/O that waits for a daemon
 * @space: of the key
 *
 * Context: may sleep.
 */
void dmu_requests_fail(struct dmu_space *space)
{
	struct bio_list bios;
	bool any = false;
	unsigned int i;

	for (i = 0; i < DMU_BUCKETS; i++) {
		struct dmu_bucket *bucket = &space->buckets[i];
		struct hlist_head *head;

		bio_list_init(&bios);
		spin_lock_irq(&bucket->lock);
		for (head = bucket->requests; head < bucket->requests + DMU_HEADS; head++)
			requests_end(space, head, &bios);
		spin_unlock_irq(&bucket->lock);
		any = any || !bio_list_empty(&bios);
		dmu_space_done_list(space, &bios, BLK_STS_IOERR);
		cond_resched();
	}
	if (any && !READ_ONCE(space->nr_peers))
		tell_absence(space);
}

/**
 * dmu_bios_take() - move the bios of one target to another list
 * @from: bios that wait
 * @target: whose
 * @to: gets them
 */
void dmu_bios_take(struct bio_list *from, struct dmu_target *target,
		   struct bio_list *to)
{
	struct bio_list rest = BIO_EMPTY_LIST;
	struct bio *bio;

	while ((bio = bio_list_pop(from)))
		bio_list_add(dmu_bio(bio)->target == target ? to : &rest, bio);
	*from = rest;
}

/* The bio it lives in leaves: move to the first of those that stay. */
static void request_move(struct dmu_space *space, struct dmu_request *request)
{
	struct dmu_request *new = &dmu_bio(request->bios.head)->request;

	if (new == request)
		return;
	lockdep_assert_held(&space->lock);
	*new = *request;
	hlist_replace_rcu(&request->node, &new->node);
	if (new->id.id)
		hlist_replace_rcu(&request->id.node, &new->id.node);
	list_replace(&request->queue, &new->queue);
}

/* Some of its bios were taken. It goes on with the rest, or ends. */
static void request_lost_bios(struct dmu_space *space,
			      struct dmu_request *request)
{
	struct bio_list none = BIO_EMPTY_LIST;
	struct dmu_change *change;
	struct dmu_remap *remap;

	lockdep_assert_held(&space->lock);
	if (!bio_list_empty(&request->bios)) {
		request_move(space, request);
		return;
	}
	dmu_request_lost(space, request, &none, &remap, &change);
	dmu_remap_free(space, remap);
	dmu_change_free(space, change);
}

/**
 * dmu_requests_return() - take back what waits of a target
 * @bucket: locked
 * @target: of a noflush suspend
 * @bios: gets its bios
 */
void dmu_requests_return(struct dmu_bucket *bucket, struct dmu_target *target,
			 struct bio_list *bios)
{
	struct dmu_space *space = target->space;
	struct dmu_request *request;
	struct hlist_head *head;
	struct hlist_node *n;

	for (head = bucket->requests; head < bucket->requests + DMU_HEADS; head++)
		hlist_for_each_entry_safe(request, n, head, node) {
			spin_lock(&space->lock);
			dmu_bios_take(&request->bios, target, bios);
			request_lost_bios(space, request);
			spin_unlock(&space->lock);
		}
}

/* --- time ------------------------------------------------------------------- */

#define DMU_TICK (HZ / 2)

static bool has_passed(unsigned long since, unsigned int seconds)
{
	return seconds && time_after_eq(jiffies, since + seconds * HZ);
}

/* Has a bio waited for longer than its target has patience? */
static bool bio_expired(struct dmu_space *space,
			const struct dmu_request *request, struct bio *bio)
{
	struct dmu_bio *pb = dmu_bio(bio);
	const struct dmu_policy *policy = &pb->target->policy;
	unsigned long since;

	lockdep_assert_held(&space->lock);
	if (request->state == DMU_REQUEST_SENT)
		return has_passed(request->since,
				  READ_ONCE(policy->request_timeout));
	if (space->nr_peers)
		return false;
	since = time_after(pb->since, space->absent_since) ?
		pb->since : space->absent_since;
	return READ_ONCE(policy->error_if_no_daemon) ||
	       has_passed(since, READ_ONCE(policy->daemon_timeout));
}

/* Take those of its bios that have waited too long. Context: both locks. */
static void request_expire(struct dmu_space *space, struct dmu_request *request,
			   struct bio_list *late)
{
	bool sent = request->state == DMU_REQUEST_SENT;
	struct bio_list rest = BIO_EMPTY_LIST;
	bool expired = false;
	struct bio *bio;

	while ((bio = bio_list_pop(&request->bios))) {
		bool is_late = bio_expired(space, request, bio);

		bio_list_add(is_late ? late : &rest, bio);
		expired |= is_late;
	}
	request->bios = rest;
	if (!expired)
		return;
	if (sent) {
		DMERR_LIMIT("%s: the daemon has not answered the request for block %llu in time: I/O fails",
			    space->key, request->block);
		dmu_report_locked(space, request->peer, DMU_TIMED_OUT,
				  request->block, request->id.id, -ETIMEDOUT);
	} else {
		tell_absence(space);
	}
	request_lost_bios(space, request);
}

/**
 * dmu_requests_expire() - fail what has waited for a daemon for too long
 * @space: of the key
 *
 * Context: may sleep.
 */
void dmu_requests_expire(struct dmu_space *space)
{
	struct dmu_request *request;
	struct bio_list late;
	struct hlist_node *n;
	unsigned int i;

	for (i = 0; i < DMU_BUCKETS; i++) {
		struct dmu_bucket *bucket = &space->buckets[i];
		struct hlist_head *head;

		bio_list_init(&late);
		spin_lock_irq(&bucket->lock);
		for (head = bucket->requests; head < bucket->requests + DMU_HEADS; head++)
			hlist_for_each_entry_safe(request, n, head, node) {
				spin_lock(&space->lock);
				request_expire(space, request, &late);
				spin_unlock(&space->lock);
			}
		spin_unlock_irq(&bucket->lock);
		dmu_space_done_list(space, &late, BLK_STS_IOERR);
		cond_resched();
	}
}

/**
 * dmu_requests_tick() - look soon whether something has waited for too long
 * @space: of the key
 *
 * Context: any.
 */
void dmu_requests_tick(struct dmu_space *space)
{
	queue_delayed_work(space->wq, &space->expiry, DMU_TICK);
}

static bool space_hurries(struct dmu_space *space)
{
	struct dmu_target *target;
	bool found = false;

	spin_lock_irq(&space->targets_lock);
	list_for_each_entry(target, &space->targets, node)
		found |= target_hurries(target);
	spin_unlock_irq(&space->targets_lock);
	return found;
}

/* While something waits that may wait for too long, and no longer. */
void dmu_expiry_work(struct work_struct *work)
{
	struct dmu_space *space = container_of(to_delayed_work(work),
					       struct dmu_space, expiry);

	dmu_space_relieve(space);
	dmu_requests_expire(space);
	if ((READ_ONCE(space->nr_unread) || READ_ONCE(space->nr_sent)) &&
	    space_hurries(space))
		dmu_requests_tick(space);
}
