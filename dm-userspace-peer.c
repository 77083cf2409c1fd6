// SPDX-License-Identifier: GPL-2.0-only
/*
 * Peers: what a daemon may do, in plain C values. A transport turns its bytes
 * into these calls and back; it never sees a bio, and these never see a file.
 *
 * A transport lets one caller at a time take events of a peer, and brackets
 * answers that it passes on with dmu_peer_begin() and dmu_peer_end().
 */
#include "dm-userspace-trace.h"
#include <linux/sched/signal.h>
#include <linux/slab.h>

static void peer_release(struct kref *refs)
{
	struct dmu_peer *peer = container_of(refs, struct dmu_peer, refs);

	dmu_space_put(peer->space);
	kfree(peer);
}

/**
 * dmu_peer_put() - drop a reference
 * @peer: may be freed
 *
 * Context: any.
 */
void dmu_peer_put(struct dmu_peer *peer)
{
	kref_put(&peer->refs, peer_release);
}

/**
 * dmu_peer_open() - a daemon has come
 * @space: of the key
 *
 * Context: may sleep.
 * Return: its connection, -ENODEV where the last table is gone, or -ENOMEM.
 */
struct dmu_peer *dmu_peer_open(struct dmu_space *space)
{
	struct dmu_peer *peer = kzalloc(sizeof(*peer), GFP_KERNEL);
	bool gone;

	if (!peer)
		return ERR_PTR(-ENOMEM);
	kref_init(&peer->refs);
	peer->space = space;
	INIT_LIST_HEAD(&peer->sent);
	INIT_LIST_HEAD(&peer->owed);
	INIT_LIST_HEAD(&peer->news);
	INIT_LIST_HEAD(&peer->gathered);
	INIT_LIST_HEAD(&peer->verdicts);
	INIT_LIST_HEAD(&peer->telling);
	INIT_LIST_HEAD(&peer->telling_verdicts);
	INIT_LIST_HEAD(&peer->telling_discards);

	spin_lock_irq(&space->lock);
	gone = space->gone;
	if (!gone) {
		kref_get(&space->refs);
		list_add_tail(&peer->node, &space->peers);
		WRITE_ONCE(space->nr_peers, space->nr_peers + 1);
		WRITE_ONCE(space->absence_told, false);
		dmu_discards_reconsider(space);
	}
	spin_unlock_irq(&space->lock);
	if (gone) {
		kfree(peer);
		return ERR_PTR(-ENODEV);
	}
	return peer;
}

static void verdict_free(struct dmu_invalidation *inv)
{
	struct dmu_peer *peer = inv->peer;

	kfree(inv);
	dmu_peer_put(peer);
}

static void verdicts_free(struct list_head *verdicts)
{
	struct dmu_invalidation *inv, *next;

	list_for_each_entry_safe(inv, next, verdicts, node)
		verdict_free(inv);
}

/**
 * dmu_peer_close() - a daemon is gone
 * @peer: its connection; must not be used any more
 *
 * What it had read and not answered is unread again. What it owed an ack for is
 * asked for again, and until the I/O of this moment has come back nothing that is
 * answered from now on takes effect: the next daemon may never have heard of
 * where that goes to or comes from, and may give these places to other blocks. So it
 * may be with places that the dead one had taken back, and got no verdict for.
 *
 * Context: may sleep.
 */
void dmu_peer_close(struct dmu_peer *peer)
{
	struct dmu_space *space = peer->space;
	LIST_HEAD(verdicts);
	bool absent;

	down_write(&space->answers);
	spin_lock_irq(&space->lock);
	peer->closed = true;
	list_del(&peer->node);
	WRITE_ONCE(space->nr_peers, space->nr_peers - 1);
	absent = !space->nr_peers;
	space->absent_since = jiffies;
	dmu_discards_free(&peer->telling_discards);
	dmu_discards_reconsider(space);
	dmu_requests_unsend(space, peer);
	list_splice_init(&peer->verdicts, &verdicts);
	list_splice_init(&peer->telling_verdicts, &verdicts);
	spin_unlock_irq(&space->lock);

	dmu_changes_orphan(peer);
	dmu_changes_owe(space);
	if (READ_ONCE(peer->spoke)) {
		WRITE_ONCE(space->death[WRITE], dmu_flight_close(&space->flight[WRITE]));
		WRITE_ONCE(space->death[READ], dmu_flight_close(&space->flight[READ]));
	}
	up_write(&space->answers);

	if (absent) {
		dmu_requests_expire(space);
		dmu_requests_tick(space);
	}
	verdicts_free(&verdicts);
	dmu_space_wake(space);
	dmu_peer_put(peer);
}

/* --- news of held I/O -------------------------------------------------------- */

/*
 * Is no more such news to come soon? There is some of each mapping with SYNC whose
 * I/O waits for its copy or is at its device, and of those that are to be answered.
 * Requests without memory may wait for just these acks.
 */
static bool news_complete(struct dmu_space *space)
{
	return !READ_ONCE(space->nr_coming) &&
	       READ_ONCE(space->nr_unread) == READ_ONCE(space->nr_starved) &&
	       !READ_ONCE(space->nr_sent);
}

/* What has been let out stays so until it is read. Context: space->lock. */
static void news_let_out(struct dmu_peer *peer)
{
	list_splice_tail_init(&peer->gathered, &peer->news);
}

static void news_let_all_out(struct dmu_space *space)
{
	struct dmu_peer *peer;

	list_for_each_entry(peer, &space->peers, node)
		news_let_out(peer);
	space->gathering = false;
}

/**
 * dmu_news_add() - a daemon is to be told that I/O is held
 * @c: whose I/O it is, with an owner; its space is locked
 *
 * A daemon that hears of all held I/O at once makes its metadata safe with one
 * commit, which costs as much as for one. But none waits for longer than a tick
 * for others.
 *
 * Return: is there something to tell now?
 */
bool dmu_news_add(struct dmu_change *c)
{
	struct dmu_space *space = c->space;

	lockdep_assert_held(&space->lock);
	list_add_tail(&c->news, &c->owner->gathered);
	if (news_complete(space)) {
		if (space->gathering)
			cancel_delayed_work(&space->gather);
		news_let_all_out(space);
		return true;
	}
	if (!space->gathering) {
		space->gathering = true;
		queue_delayed_work(space->wq, &space->gather, 1);
	}
	return false;
}

/* A tick has passed since the first of them. */
void dmu_gather_work(struct work_struct *work)
{
	struct dmu_space *space = container_of(to_delayed_work(work),
					       struct dmu_space, gather);

	spin_lock_irq(&space->lock);
	news_let_all_out(space);
	spin_unlock_irq(&space->lock);
	dmu_space_wake(space);
}

/*
 * Is there some to tell? What it was gathered for may be over without more of it;
 * a daemon that looks for it then lets it out, so that it finds what it was told
 * of.
 */
static bool news_wait(struct dmu_peer *peer)
{
	struct dmu_space *space = peer->space;
	bool wait;

	if (dmu_list_waits(&peer->news))
		return true;
	if (!dmu_list_waits(&peer->gathered) || !news_complete(space))
		return false;
	spin_lock_irq(&space->lock);
	if (news_complete(space))
		news_let_out(peer);
	wait = !list_empty(&peer->news);
	spin_unlock_irq(&space->lock);
	return wait;
}

/* --- what it is told --------------------------------------------------------- */

/**
 * dmu_peer_readable() - is there something to tell a daemon?
 * @peer: its connection
 *
 * Context: process. A hint: another peer may take a request first.
 */
bool dmu_peer_readable(struct dmu_peer *peer)
{
	return news_wait(peer) ||
	       dmu_list_waits(&peer->verdicts) ||
	       dmu_notice_waits(peer) ||
	       dmu_list_waits(&peer->space->unread);
}

/**
 * dmu_peer_gone() - is the last table gone?
 * @peer: a daemon's connection
 */
bool dmu_peer_gone(struct dmu_peer *peer)
{
	return READ_ONCE(peer->space->gone);
}

/* Context: space->lock. */
static bool take_one(struct dmu_peer *peer, struct dmu_event *event)
{
	struct dmu_invalidation *inv;
	struct dmu_change *c;

	inv = list_first_entry_or_null(&peer->verdicts, struct dmu_invalidation,
				       node);
	if (inv) {
		list_move_tail(&inv->node, &peer->telling_verdicts);
		event->type = DMU_EVENT_INVALIDATED;
		event->id = inv->id;
		event->block = inv->block;
		event->found = inv->found;
		return true;
	}
	c = list_first_entry_or_null(&peer->news, struct dmu_change, news);
	if (c) {
		list_move_tail(&c->news, &peer->telling);
		event->type = DMU_EVENT_SYNC;
		event->id = c->id.id;
		return true;
	}
	/* Before requests: see struct dmu_msg_discard. */
	return dmu_notice_take(peer, event) ||
	       dmu_requests_send(peer->space, peer, event);
}

#define TAKE_AT_ONCE	BIT(DMU_MAX_RUN_BITS) /* then others may have the lock */

/**
 * dmu_peer_take() - what a daemon is to be told
 * @peer: its connection
 * @events: gets them
 * @max: how many there is room for
 *
 * One caller at a time for each peer, who then calls dmu_peer_taken() or
 * dmu_peer_untake().
 *
 * Where there is news of held I/O all of it goes along: one commit serves it all.
 *
 * Return: how many there are; none only where there are none.
 */
unsigned int dmu_peer_take(struct dmu_peer *peer, struct dmu_event *events,
			   unsigned int max)
{
	struct dmu_space *space = peer->space;
	unsigned int nr = 0;
	u64 requests = 0;

	spin_lock_irq(&space->lock);
	if (!list_empty(&peer->news) || news_complete(space))
		news_let_out(peer);
	while (nr < max && requests < TAKE_AT_ONCE &&
	       take_one(peer, &events[nr])) {
		if (events[nr].type == DMU_EVENT_REQUEST)
			requests += events[nr].count;
		nr++;
	}
	spin_unlock_irq(&space->lock);
	return nr;
}

/**
 * dmu_peer_taken() - a daemon has been told what was taken
 * @peer: its connection
 */
void dmu_peer_taken(struct dmu_peer *peer)
{
	struct dmu_change *c, *next;
	LIST_HEAD(verdicts);

	if (list_empty(&peer->telling) &&
	    list_empty(&peer->telling_verdicts) && !dmu_notice_telling(peer))
		return;
	spin_lock_irq(&peer->space->lock);
	list_for_each_entry_safe(c, next, &peer->telling, news)
		list_del_init(&c->news);
	list_splice_init(&peer->telling_verdicts, &verdicts);
	dmu_notices_taken(peer);
	spin_unlock_irq(&peer->space->lock);
	verdicts_free(&verdicts);
}

/**
 * dmu_peer_untake() - a daemon could not be told: it, or another, will be
 * @peer: its connection
 * @events: as they were taken
 * @nr: how many
 */
void dmu_peer_untake(struct dmu_peer *peer, const struct dmu_event *events,
		     unsigned int nr)
{
	struct dmu_space *space = peer->space;

	spin_lock_irq(&space->lock);
	list_splice_init(&peer->telling, &peer->news);
	list_splice_init(&peer->telling_verdicts, &peer->verdicts);
	dmu_notices_untake(peer);
	while (nr--)
		if (events[nr].type == DMU_EVENT_REQUEST)
			dmu_requests_untell(space, peer, &events[nr]);
	spin_unlock_irq(&space->lock);
	dmu_space_wake(space);
}

/**
 * dmu_peer_begin() - a daemon's answers follow
 * @peer: its connection
 *
 * Context: may sleep, until the death of another daemon has been dealt with.
 */
void dmu_peer_begin(struct dmu_peer *peer)
{
	down_read(&peer->space->answers);
	dmu_batch_begin(peer->space);
}

/**
 * dmu_peer_end() - that is all for now
 * @peer: a daemon's connection
 */
void dmu_peer_end(struct dmu_peer *peer)
{
	dmu_batch_end(peer->space);
	up_read(&peer->space->answers);
}

/**
 * struct answered - what a daemon's answer is about
 * @asked: a request was outstanding, and has ended
 * @seq: its age
 * @twice: the same answer has been given, and waits for its ack
 * @age: where nothing was outstanding: when its id was, if ever
 * @bios: waited for it
 * @remap: memory
 * @change: likewise
 */
struct answered {
	bool asked;
	u64 seq;
	bool twice;
	u64 age;
	struct bio_list bios;
	struct dmu_remap *remap;
	struct dmu_change *change;
};

/* Is it the answer to this request? Nothing can be written to zeroes. */
static bool answer_fits(const struct dmu_request *request,
			const struct dmu_mapping *m)
{
	return request->block == m->block && (m->dst || !request->write);
}

/* Context: bucket lock of the block. */
static int answered_find(struct dmu_space *space, const struct dmu_mapping *m,
			 struct answered *a)
{
	struct dmu_request *request;
	int r = 0;

	spin_lock(&space->lock);
	request = dmu_request_by_id(space, m->id);
	if (request && !answer_fits(request, m)) {
		r = -EINVAL;
	} else if (request) {
		a->asked = true;
		a->seq = request->seq;
		dmu_request_end(space, request, &a->bios, &a->remap,
				&a->change);
	} else if (m->id) {
		a->twice = dmu_id_find(space, m->id);
		a->age = dmu_id_age(space, m->id);
	}
	spin_unlock(&space->lock);
	return r;
}

/*
 * Apply an answer, with what memory there is for one that nobody asked for.
 * -EAGAIN asks for that memory.
 */
static int peer_answer(struct dmu_peer *peer, struct dmu_mapping *m,
		       sector_t len, struct dmu_remap **remap,
		       struct dmu_change **change)
{
	struct dmu_space *space = peer->space;
	struct dmu_bucket *bucket = dmu_bucket_of(space, m->block);
	struct answered a = { .bios = BIO_EMPTY_LIST };
	int r;

	spin_lock_irq(&bucket->lock);
	r = answered_find(space, m, &a);
	if (r)
		goto out;
	if (!a.asked) {
		if (a.twice || dmu_discard_unread(peer, m->block, 1) ||
		    dmu_answer_stale(space, bucket, m->block, a.age))
			goto out;
		r = -EAGAIN;
		if (!*remap || !*change)
			goto out;
		swap(a.remap, *remap);
		swap(a.change, *change);
	}
	dmu_answer(space, bucket, m, len, a.seq, a.age, peer, &a.bios, a.remap,
		   a.change);
	r = 0;
out:
	spin_unlock_irq(&bucket->lock);
	return r;
}

/* One that nobody has asked for, or asks for no longer. */
static int map_unasked(struct dmu_peer *peer, struct dmu_mapping *m,
		       sector_t len)
{
	struct dmu_space *space = peer->space;
	struct dmu_change *change;
	struct dmu_remap *remap;
	int r = -ENOMEM;

	dmu_batch_flush(space);
	change = dmu_change_alloc(space, false);
	remap = dmu_remap_alloc(space, false);
	if (remap && change)
		r = peer_answer(peer, m, len, &remap, &change);
	dmu_remap_free(space, remap);
	dmu_change_free(space, change);
	return r;
}

/* One block. */
static int map_block(struct dmu_peer *peer, struct dmu_mapping *m)
{
	struct dmu_change *change = NULL;
	struct dmu_remap *remap = NULL;
	sector_t len;
	int r;

	r = dmu_tables_check(peer->space, m, &len) ?:
	    peer_answer(peer, m, len, &remap, &change);
	return r == -EAGAIN ? map_unasked(peer, m, len) : r;
}

/* The i-th block of a run. */
static struct dmu_mapping mapping_at(const struct dmu_space *space,
				     const struct dmu_mapping *first, u64 i)
{
	struct dmu_mapping m = *first;

	m.block += i;
	m.dst_sector += i << space->block_shift;
	if (m.src) /* zeroes are at no place */
		m.src_sector += i << space->block_shift;
	if (m.id)
		m.id += i;
	return m;
}

/*
 * Map as many blocks as one remap can cover, where nothing is known of any of them
 * and nothing has to be done before. Returns how many: none where it cannot be done.
 */
static u64 map_at_once(struct dmu_peer *peer, const struct dmu_mapping *mapping,
		       u64 count)
{
	struct dmu_space *space = peer->space;
	struct dmu_bucket *bucket = dmu_bucket_of(space, mapping->block);
	struct dmu_mapping m = *mapping, last;
	unsigned int bits = DMU_MAX_RUN_BITS;
	struct dmu_remap *remap;
	bool done;

	if (m.id || m.flags & (DMU_COPY | DMU_SYNC | DMU_TEMPORARY))
		return 0;
	while (bits && (m.block & (BIT_ULL(bits) - 1) || !(count >> bits)))
		bits -= DMU_RUN_BITS;
	last = mapping_at(space, &m, BIT_ULL(bits) - 1);
	if (!bits || !dmu_tables_check_run(space, &m, &last))
		return 0;
	dmu_batch_flush(space);
	remap = dmu_remap_alloc(space, false);
	if (!remap)
		return 0;
	spin_lock_irq(&bucket->lock);
	done = !dmu_discard_unread(peer, m.block, BIT_ULL(bits)) &&
	       dmu_answer_run(space, bucket, &m, bits, remap);
	spin_unlock_irq(&bucket->lock);
	if (done)
		return BIT_ULL(bits);
	dmu_remap_free(space, remap);
	return 0;
}

/* Do the numbers of a run begin anew before its end? */
static bool run_wraps(const struct dmu_space *space,
		      const struct dmu_mapping *first, u64 count)
{
	const u64 more = count - 1;
	const unsigned int shift = space->block_shift;

	return more > U64_MAX >> shift || more > U64_MAX - first->block ||
	       more << shift > U64_MAX - first->dst_sector ||
	       more << shift > U64_MAX - first->src_sector ||
	       (first->id && more > U32_MAX - first->id);
}

/* A table, a daemon's death, or the worker, need not wait for the end of a long run. */
static void let_others_in(struct dmu_peer *peer)
{
	if (!dmu_batch_is_long(peer->space) &&
	    !rwsem_is_contended(&peer->space->answers))
		return;
	dmu_peer_end(peer);
	dmu_peer_begin(peer);
}

/* Its death is one that others have to do with. */
static void peer_speaks(struct dmu_peer *peer)
{
	if (!READ_ONCE(peer->spoke))
		WRITE_ONCE(peer->spoke, true);
}

/**
 * dmu_peer_map() - a daemon says where blocks live
 * @peer: its connection
 * @mapping: what it says of the first one; the i-th has an id, and places, that
 *	are by i, and i blocks, further on. May be changed
 * @count: how many
 *
 * Context: between dmu_peer_begin() and dmu_peer_end(); may sleep for memory
 * where nobody had asked.
 * Return: 0; -EINVAL where it makes no sense; -ENODEV for a device that the key
 * does not have; -ERANGE outside a device; -ENOMEM only where nobody had asked;
 * -EINTR where the daemon is being killed. It ends at the first block that this is
 * true of; those before have been mapped.
 */
int dmu_peer_map(struct dmu_peer *peer, struct dmu_mapping *mapping, u64 count)
{
	struct dmu_space *space = peer->space;
	struct dmu_mapping m;
	u64 i, done;
	int r = 0;

	if (mapping->flags & DMU_SYNC && !mapping->id)
		return -EINVAL;
	if (!count)
		return -EINVAL;
	peer_speaks(peer);
	if (count == 1)
		return map_block(peer, mapping);
	if (run_wraps(space, mapping, count))
		return -ERANGE;
	for (i = 0; i < count && !r; i += done) {
		if (i && fatal_signal_pending(current))
			return -EINTR;
		let_others_in(peer);
		m = mapping_at(space, mapping, i);
		done = map_at_once(peer, &m, count - i);
		if (!done) {
			r = map_block(peer, &m);
			done = 1;
		}
		cond_resched();
	}
	return r;
}

/**
 * dmu_peer_fail() - a daemon says that a block cannot be mapped
 * @peer: its connection
 * @id: of the request; nothing happens where it is outstanding no longer
 *
 * Context: as dmu_peer_map(); does not sleep.
 */
void dmu_peer_fail(struct dmu_peer *peer, u32 id)
{
	struct dmu_space *space = peer->space;
	struct bio_list bios = BIO_EMPTY_LIST;
	struct dmu_request *request;
	struct dmu_bucket *bucket;
	struct dmu_change *change = NULL;
	struct dmu_remap *remap = NULL;
	u64 block = 0;

	spin_lock_irq(&space->lock);
	request = dmu_request_by_id(space, id);
	if (request)
		block = request->block;
	spin_unlock_irq(&space->lock);
	if (!request)
		return;

	bucket = dmu_bucket_of(space, block);
	spin_lock_irq(&bucket->lock);
	spin_lock(&space->lock);
	request = dmu_request_by_id(space, id);
	if (request && request->block == block)
		dmu_request_lost(space, request, &bios, &remap, &change);
	spin_unlock(&space->lock);
	if (change)
		dmu_forget(space, bucket, block);
	spin_unlock_irq(&bucket->lock);

	dmu_remap_free(space, remap);
	dmu_change_free(space, change);
	dmu_space_done_list(space, &bios, BLK_STS_IOERR);
}

/**
 * dmu_peer_invalidate() - a daemon wants to reuse the place of a block
 * @peer: its connection
 * @block: of the mapped device
 * @id: by which it will be told that it may
 *
 * Context: not between dmu_peer_begin() and dmu_peer_end(); may sleep for memory.
 * Return: 0; -ERANGE for a block that no table of the key has; -ENODEV where
 * the last table is about to be gone.
 */
int dmu_peer_invalidate(struct dmu_peer *peer, u64 block, u32 id)
{
	struct dmu_invalidation *inv;
	sector_t len;
	int r;

	/*
	 * A few bytes, and the protocol knows no way to refuse; whoever asks and
	 * never reads pays for it.
	 */
	inv = kzalloc(sizeof(*inv), GFP_NOIO | __GFP_NOFAIL | __GFP_ACCOUNT);
	inv->peer = peer;
	inv->bucket = dmu_bucket_of(peer->space, block);
	inv->block = block;
	inv->id = id;
	dmu_peer_begin(peer);
	r = dmu_tables_check_block(peer->space, block, &len);
	if (r) {
		kfree(inv);
	} else {
		kref_get(&peer->refs);
		peer_speaks(peer);
		dmu_invalidate(inv);
	}
	dmu_peer_end(peer);
	return r;
}

/**
 * dmu_peer_verdict() - an invalidation is over
 * @inv: goes to the daemon that asked, and vanishes with it
 *
 * Context: any.
 */
void dmu_peer_verdict(struct dmu_invalidation *inv)
{
	struct dmu_peer *peer = inv->peer;
	struct dmu_space *space = peer->space;
	unsigned long irq;
	bool closed;

	spin_lock_irqsave(&space->lock, irq);
	closed = peer->closed;
	if (!closed)
		list_add_tail(&inv->node, &peer->verdicts);
	spin_unlock_irqrestore(&space->lock, irq);
	if (closed)
		verdict_free(inv);
	else
		dmu_space_wake(space);
}

/**
 * dmu_peer_sync_done() - a daemon says that its metadata is safe
 * @peer: its connection
 * @id: of the mapping; nothing happens where it is known no longer
 *
 * Context: as dmu_peer_map(); does not sleep.
 */
void dmu_peer_sync_done(struct dmu_peer *peer, u32 id)
{
	dmu_change_ack(peer->space, id);
}

/**
 * dmu_peer_want() - a daemon says which notices it wants
 * @peer: its connection
 * @wants: DMU_WANTS_*
 *
 * Context: may be anywhere; does not sleep.
 */
void dmu_peer_want(struct dmu_peer *peer, unsigned int wants)
{
	struct dmu_space *space = peer->space;

	spin_lock_irq(&space->lock);
	WRITE_ONCE(peer->wants, wants);
	dmu_reports_reconsider(peer);
	dmu_discards_reconsider(space);
	spin_unlock_irq(&space->lock);
}
