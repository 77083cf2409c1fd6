/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * dm-userspace: the core's own types. Documentation/design.rst draws their states
 * and says why.
 *
 * Lock order, outermost first; spinlocks are taken with interrupts off:
 *
 *   dmu_spaces_lock   mutex: the list of spaces; making and ending them
 *   nodes_lock        mutex (transport): which space a control device has
 *   file mutexes      (transport) one reader and one writer of an open file
 *   space->answers    rwsem: answers (for reading), against a daemon's death and
 *                     a table's coming and going (for writing)
 *   space->trimming   mutex: one at a time makes the cache smaller
 *   bucket->lock      remaps, requests and changes of the bucket's blocks
 *   space->lock       queues of requests, ids, peers and their lists
 *   flight->lock      waiters of one direction
 *   space->work_lock  lists for the worker
 *   space->targets_lock  the list of targets, their states and their copies
 *   file->replies_lock   (transport) what it is to be told by the transport
 *
 * A hit takes none of them.
 */
#ifndef DM_USER_H
#define DM_USER_H

#include "compat.h"
#include "dm-userspace-change.h"
#include "dm-userspace-flight.h"
#include "dm-userspace-notice.h"
#include "dm-userspace-seam.h"
#include <linux/bio.h>
#include <linux/device-mapper.h>
#include <linux/dm-io.h>
#include <linux/dm-kcopyd.h>
#include <linux/hash.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mempool.h>
#include <linux/mutex.h>
#include <linux/rculist.h>
#include <linux/rwsem.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#define DM_MSG_PREFIX "userspace"

#define DMU_VERSION_MAJOR	1
#define DMU_VERSION_MINOR	2
#define DMU_VERSION_PATCH	0

#define DMU_BUCKET_BITS		8
#define DMU_BUCKETS		BIT(DMU_BUCKET_BITS)
#define DMU_RUN_BITS		3	/* a remap covers 1, 8, 64 or 512 blocks */
#define DMU_RUN_SIZES		4
#define DMU_MAX_RUN_BITS	(DMU_RUN_BITS * (DMU_RUN_SIZES - 1))
#define DMU_LEFT		8	/* neighbours that do not wait for each other */
#define DMU_MIN_BLOCK_SIZE	512
#define DMU_MAX_BLOCK_SIZE	SZ_1G
#define DMU_MAX_KEY		255
#define DMU_MAX_TIMEOUT		86400 /* seconds */

struct dmu_space;
struct dmu_target;
struct dmu_bucket;
struct dmu_buffer;
struct dmu_change;
struct dmu_peer;

/* --- remap: the cache ----------------------------------------------------- */

/**
 * struct dmu_remap - where a block lives, or a run of blocks
 * @node: in a chain of its bucket (bucket lock; read under RCU)
 * @block: the first; fixed while published, like @dst_sector, @dev and @run_bits
 * @dst_sector: sector of @dev where it begins
 * @dev: the device, resolved in each bio's own table; 0: it reads as zeroes
 * @flags: DMU_RD, DMU_WR, DMU_PUSHED fixed; DMU_READY, DMU_WROTE (bucket lock)
 * @recent: used since the clock hand last came by; set by hits without a lock
 * @run_bits: it covers 1 << @run_bits blocks, and @block is a multiple of that
 * @asked: while its bucket is recycled: a daemon is asked about a block (bucket lock)
 * @change: why it is not ready, or NULL (bucket lock)
 * @stamp: seq of the request it answers, or the newest when it was pushed; of a
 *	run, the newest of its blocks
 * @rcu: after it was unhashed
 * @leaves: likewise, where it leaves together with others, and is their second: whose
 *	they are
 *
 * A run has no change: it is always ready. A lockless reader looks at what is
 * above the union, and nothing else.
 */
struct dmu_remap {
	struct hlist_node node;
	u64 block;
	sector_t dst_sector;
	dev_t dev;
	u8 flags;
	u8 recent;
	u8 run_bits;
	bool asked;
	union {
		struct {
			struct dmu_change *change;
			u64 stamp;
		};
		struct rcu_head rcu;
		struct dmu_space *leaves;
	};
};

/*
 * Hash chains of one bucket; replaced as a whole to grow. This is no structure but
 * the address of an array of chains, with the logarithm of their number in its low
 * bits: with a header beside it the array would take twice its room.
 */
struct dmu_chains;

/* Lists of a bucket's requests, and of its changes: a large I/O has many side by side. */
#define DMU_HEADS	32

/**
 * struct dmu_bucket - a 256th of all blocks, by windows as large as a run can be
 * @lock: protects all here, and all remaps, requests and changes listed here
 * @sizes: which @nr_of are not 0, a bit for each; read without the lock
 * @chains: remaps by block
 * @requests: struct dmu_request.node, by block
 * @changes: struct dmu_change.node, by block, latest first
 * @left: epoch, for READ and for WRITE, in which a remap last left, of an eighth
 *	of the bucket's blocks
 * @recycled: highest stamp of a remap that was recycled
 * @lost: highest seq of a request that a daemon had read, and that ended without its
 *	answer: that may still come
 * @nr_of: remaps in @chains, by the size of their runs
 */
struct dmu_bucket {
	spinlock_t lock; /* protects all of the bucket */
	u8 sizes;
	struct dmu_chains __rcu *chains;
	struct hlist_head requests[DMU_HEADS];
	struct hlist_head changes[DMU_HEADS];
	u64 left[DMU_LEFT][2];
	u64 recycled;
	u64 lost;
	unsigned int nr_of[DMU_RUN_SIZES];
} ____cacheline_aligned_in_smp;

static inline struct hlist_head *dmu_requests_of(struct dmu_bucket *bucket,
						 u64 block)
{
	return &bucket->requests[block % DMU_HEADS];
}

static inline struct hlist_head *dmu_changes_of(struct dmu_bucket *bucket,
						u64 block)
{
	return &bucket->changes[block % DMU_HEADS];
}

/* When a remap of this block, or of one that shares its fate, last left. */
static inline u64 *dmu_left(struct dmu_bucket *bucket, u64 block)
{
	return bucket->left[block % DMU_LEFT];
}

int dmu_remap_cache_init(void);
void dmu_remap_cache_exit(void);
int dmu_remaps_init(struct dmu_space *space);
void dmu_remaps_exit(struct dmu_space *space);
struct dmu_remap *dmu_remap_find_run(struct dmu_bucket *bucket, u64 block,
				     unsigned int run_bits);
struct dmu_remap *dmu_remap_find(struct dmu_bucket *bucket, u64 block);
bool dmu_remaps_known(struct dmu_bucket *bucket, u64 block,
		      unsigned int run_bits);
struct dmu_remap *dmu_remap_spare(void);
struct dmu_remap *dmu_remap_alloc(struct dmu_space *space, bool reserve);
void dmu_remap_free(struct dmu_space *space, struct dmu_remap *remap);
void dmu_remap_hash(struct dmu_space *space, struct dmu_bucket *bucket,
		    struct dmu_remap *remap);
void dmu_remaps_unhash(struct dmu_space *space, struct dmu_bucket *bucket,
		       struct dmu_remap **remaps, unsigned int nr);
void dmu_left_note(struct dmu_space *space, struct dmu_bucket *bucket,
		   u64 block, bool writes);
void dmu_remap_publish(struct dmu_space *space, struct dmu_bucket *bucket,
		       struct dmu_remap *remap, struct dmu_remap *old);
void dmu_remap_drop(struct dmu_space *space, struct dmu_bucket *bucket,
		    struct dmu_remap *remap, u64 block);
void dmu_remap_leave(struct dmu_space *space, struct dmu_bucket *bucket,
		     struct dmu_remap *remap);

/* --- recycle: remaps that are taken ----------------------------------------- */

void dmu_remaps_purge(struct dmu_space *space, dev_t dev);
void dmu_remaps_forget(struct dmu_space *space, u64 first, u64 last);
unsigned long dmu_remaps_blocks(struct dmu_space *space);
unsigned long dmu_remaps_recycle(struct dmu_space *space, unsigned long nr);
void dmu_remaps_drop_idle(struct dmu_space *space);
int dmu_shrink_start(struct dmu_space *space);
void dmu_shrink_stop(struct dmu_space *space);
void dmu_remaps_trim(struct dmu_space *space, bool wait);

/* --- run: one remap for many blocks ------------------------------------------ */

void dmu_remap_merge(struct dmu_space *space, struct dmu_bucket *bucket,
		     struct dmu_remap *remap);
bool dmu_run_break(struct dmu_space *space, struct dmu_bucket *bucket,
		   const struct dmu_remap *run, u64 block);

/* --- request: a block that waits for a daemon ----------------------------- */

enum dmu_request_state {
	DMU_REQUEST_STARVED,	/* in space->starved: has no memory yet */
	DMU_REQUEST_UNREAD,	/* in space->unread */
	DMU_REQUEST_SENT,	/* in peer->sent: that daemon knows of it */
};

/**
 * struct dmu_request - a block whose I/O waits for a daemon
 * @node: in bucket->requests (bucket lock)
 * @block: fixed
 * @bios: they wait; one of them lends the memory this lives in (bucket lock)
 * @id: (space->lock, as all below)
 * @seq: its age; the id is its low bits
 * @queue: in the list that @state names
 * @state: see there
 * @since: SENT: when it was, in jiffies
 * @write: asks for RD|WR, else for RD
 * @peer: SENT: the daemon that read it
 * @remap: brought for the answer; NULL while STARVED
 * @change: likewise
 */
struct dmu_request {
	struct hlist_node node;
	u64 block;
	struct bio_list bios;
	struct dmu_id id;
	u64 seq;
	struct list_head queue;
	enum dmu_request_state state;
	bool write;
	unsigned long since;
	struct dmu_peer *peer;
	struct dmu_remap *remap;
	struct dmu_change *change;
};

/**
 * struct dmu_bio - per-bio data
 * @flight: left at end_io; NULL where the bio is not at a device for a remap
 * @change: end_io is to tell it; NULL for a hit
 * @sector: of the mapped device
 * @target: the rest is written on the slow path only
 * @since: when it came to the slow path, in jiffies
 * @came_back: it has been at a device: restore it before it is issued again
 * @zeroes: a read that is to find zeroes when it is completed
 * @flags: bi_flags as device-mapper gave them
 * @opf: bi_opf likewise
 * @iter: bi_iter likewise
 * @request: lives here if this was the first bio to wait for its block
 */
struct dmu_bio {
	struct percpu_ref *flight;
	struct dmu_change *change;
	sector_t sector;
	struct dmu_target *target;
	unsigned long since;
	bool came_back;
	bool zeroes;
	unsigned short flags;
	blk_opf_t opf;
	struct bvec_iter iter;
	struct dmu_request request;
};

static inline struct dmu_bio *dmu_bio(struct bio *bio)
{
	return dm_per_bio_data(bio, sizeof(struct dmu_bio));
}

int dmu_request_wait(struct dmu_target *target, struct dmu_bucket *bucket,
		     u64 block, bool write, struct bio *bio);
bool dmu_request_known(struct dmu_bucket *bucket, u64 block, u64 blocks);
bool dmu_request_waits(struct dmu_bucket *bucket, u64 block);
void dmu_requests_mark(struct dmu_bucket *bucket, bool asked);
bool dmu_requests_send(struct dmu_space *space, struct dmu_peer *peer,
		       struct dmu_event *event);
void dmu_requests_untell(struct dmu_space *space, struct dmu_peer *peer,
			 const struct dmu_event *event);
struct dmu_request *dmu_request_by_id(struct dmu_space *space, u32 id);
void dmu_request_end(struct dmu_space *space, struct dmu_request *request,
		     struct bio_list *bios, struct dmu_remap **remap,
		     struct dmu_change **change);
void dmu_request_lost(struct dmu_space *space, struct dmu_request *request,
		      struct bio_list *bios, struct dmu_remap **remap,
		      struct dmu_change **change);
void dmu_requests_fund(struct dmu_space *space);
void dmu_requests_unsend(struct dmu_space *space, struct dmu_peer *peer);
void dmu_requests_fail(struct dmu_space *space);
void dmu_requests_expire(struct dmu_space *space);
void dmu_requests_tick(struct dmu_space *space);
void dmu_expiry_work(struct work_struct *work);
void dmu_requests_return(struct dmu_bucket *bucket, struct dmu_target *target,
			 struct bio_list *bios);
void dmu_bios_take(struct bio_list *from, struct dmu_target *target,
		   struct bio_list *to);

/* --- peer: a daemon's connection ------------------------------------------- */

/**
 * struct dmu_peer - a daemon's connection
 * @refs: the open file, and each invalidation
 * @space: a reference
 * @node: in space->peers (space->lock, as all below)
 * @sent: requests it has read and not answered; oldest first
 * @owed: changes whose ack it owes
 * @news: changes it is to be told of now
 * @gathered: those that wait for more of them
 * @verdicts: invalidations it is to be told of
 * @telling: of both, those that are being told to it
 * @telling_verdicts: likewise
 * @wants: DMU_WANTS_*
 * @reports: failures it is to be told of
 * @telling_discards: discards that are being told to it
 * @spoke: it has mapped something, or taken it back, or read of a discard (no lock)
 * @closed: it is gone
 */
struct dmu_peer {
	struct kref refs;
	struct dmu_space *space;
	struct list_head node;
	struct list_head sent;
	struct list_head owed;
	struct list_head news;
	struct list_head gathered;
	struct list_head verdicts;
	struct list_head telling;
	struct list_head telling_verdicts;
	unsigned int wants;
	struct dmu_reports reports;
	struct list_head telling_discards;
	bool spoke;
	bool closed;
};

/* --- answer: what a mapping, or its end, does to a block ------------------- */

/**
 * struct dmu_invalidation - a daemon's wish to reuse a place
 * @node: in change->invalidations (bucket lock), then in peer->verdicts
 * @wait: for the flights
 * @peer: who asked; a reference
 * @bucket: of the block
 * @block: of the mapped device
 * @left_read: epoch of reads to wait for
 * @id: by which it knows it
 * @found: there was a remap, and no copy failed meanwhile
 */
struct dmu_invalidation {
	struct list_head node;
	struct dmu_wait wait;
	struct dmu_peer *peer;
	struct dmu_bucket *bucket;
	u64 block;
	u64 left_read;
	u32 id;
	bool found;
};

void dmu_answer(struct dmu_space *space, struct dmu_bucket *bucket,
		struct dmu_mapping *m, sector_t len, u64 seq, u64 age,
		struct dmu_peer *peer, struct bio_list *bios,
		struct dmu_remap *remap, struct dmu_change *change);
bool dmu_answer_run(struct dmu_space *space, struct dmu_bucket *bucket,
		    const struct dmu_mapping *m, unsigned int run_bits,
		    struct dmu_remap *remap);
bool dmu_answer_stale(struct dmu_space *space, struct dmu_bucket *bucket,
		      u64 block, u64 seq);
void dmu_forget(struct dmu_space *space, struct dmu_bucket *bucket, u64 block);
void dmu_invalidate(struct dmu_invalidation *inv);
bool dmu_unmap(struct dmu_space *space, struct dmu_bucket *bucket, u64 block);
void dmu_unmap_and_ask(struct dmu_space *space, struct dmu_bucket *bucket, u64 block);
void dmu_invalidation_go_on(struct dmu_invalidation *inv);
void dmu_peer_verdict(struct dmu_invalidation *inv);
bool dmu_news_add(struct dmu_change *c);
void dmu_gather_work(struct work_struct *work);
void dmu_peer_put(struct dmu_peer *peer);

/* --- space: all that tables with one key share ----------------------------- */

/**
 * struct dmu_counters - per CPU, so that counting dirties nothing shared
 * @hits: I/O that found its remap ready
 * @misses: I/O that had to wait
 * @evictions: remaps recycled
 * @errors: I/O that failed, for whatever reason, and copies that were not made
 */
struct dmu_counters {
	u64 hits;
	u64 misses;
	u64 evictions;
	u64 errors;
};

/**
 * struct dmu_space - everything that tables with one key share
 * @block_shift: sectors a block, as a power of two; fixed, like the next four
 * @buckets: DMU_BUCKETS of them
 * @counters: this CPU's
 * @wq: of the worker
 * @kcopyd: copies
 * @io: likewise, by way of buffers
 * @flight: for READ and for WRITE
 * @key: names the space
 * @node: in the list of spaces (dmu_spaces_lock)
 * @refs: targets and peers
 * @transport: the transport's own
 * @readers: those who wait for a message
 * @gone: no target is left; set once, under @lock
 * @answers: held for reading by a daemon that answers, for writing by a death
 * @death: epochs, of READ and WRITE, that I/O of the last dead daemon's mappings
 *	counts in; what is answered later waits for it (@answers)
 * @max_remaps: recycle what is more than so many, a run being one; 0 is no limit
 * @lock: protects from @ids to @nr_buffers
 * @ids: requests and unacknowledged changes, by id
 * @last_seq: of the newest request
 * @starved: requests without memory
 * @unread: requests that no daemon has read; oldest first
 * @copies: changes that wait to be copied
 * @owing: changes without a remap, or from before a death, that still owe a copy;
 *	and those whose source others may spoil
 * @barred: changes in DRAIN that wait for some of these
 * @drains: changes in DRAIN that the worker is to look at
 * @discards: what the one daemon is to be told of
 * @nr_discards: how many messages that is
 * @tells_discards: there is one daemon only, and it wants to be told; read
 *	without the lock
 * @peers: struct dmu_peer.node
 * @nr_peers: in @peers
 * @absent_since: when the last of them went, or the space was made, in jiffies
 * @absence_told: the log says that I/O fails for lack of a daemon
 * @nr_unread: in @unread and @starved
 * @nr_starved: in @starved
 * @nr_sent: in all peers' sent
 * @nr_owed: changes that wait for an ack
 * @nr_coming: changes of whose held I/O their daemons are to be told soon
 * @spares: memory for changes, a list by their @next
 * @nr_spares: in @spares
 * @buffers: for copies, those not in use
 * @nr_buffers: all of them
 * @buffer_trim: frees those not in use
 * @age: of the newest change
 * @nr_changes: how many there are
 * @copying: copies under way
 * @nr_remaps: remaps in all buckets, a run being one
 * @crowded: buckets that are to get more chains, a bit for each
 * @grow_work: gives them these
 * @hopeless: a copy is owed, as in @owing, that no table can make
 * @gathering: news of held I/O wait for more of them (@lock)
 * @gather: ends that
 * @remap_pool: struct dmu_remap
 * @change_pool: struct dmu_change
 * @hand: bucket at which recycling goes on
 * @nr_leaving: remaps that nobody finds any more, on their way back to the pool
 * @trimming: held by who recycles what @max_remaps does not allow
 * @shrinker: gives remaps, and @spares, back when memory is short
 * @targets_lock: protects @targets, their state and their copies
 * @targets: struct dmu_target.node
 * @work_lock: protects @issue, @again and @done
 * @issue: bios aimed and counted, to be submitted
 * @again: bios to be mapped again
 * @done: bios to be completed with their bi_status
 * @batcher: the daemon, if any, whose answers are a batch; it sets and clears that,
 *	and nobody else touches the next three
 * @batch_blocks: of runs, in the batch
 * @batch_work: the worker is to come at the end of the batch
 * @batch_copies: likewise, to start copies
 * @work: the worker
 * @expiry: fails what has waited too long
 * @copy_work: starts copies, which may have to wait for kcopyd's memory
 * @release_work: frees the space
 */
struct dmu_space {
	unsigned int block_shift;
	struct dmu_bucket *buckets;
	struct dmu_counters __percpu *counters;
	struct workqueue_struct *wq;
	struct dm_kcopyd_client *kcopyd;
	struct dm_io_client *io;
	struct dmu_flight flight[2];

	char *key;
	struct list_head node;
	struct kref refs;
	void *transport;
	wait_queue_head_t readers;
	bool gone;
	unsigned long max_remaps;
	struct rw_semaphore answers;
	u64 death[2];

	spinlock_t lock ____cacheline_aligned_in_smp;
	struct hlist_head ids[DMU_BUCKETS];
	u64 last_seq;
	struct list_head starved;
	struct list_head unread;
	struct list_head copies;
	struct list_head owing;
	struct list_head barred;
	struct list_head drains;
	struct list_head discards;
	unsigned int nr_discards;
	bool tells_discards;
	struct list_head peers;
	unsigned int nr_peers;
	unsigned long absent_since;
	bool absence_told;
	unsigned int nr_unread;
	unsigned int nr_starved;
	unsigned int nr_sent;
	unsigned int nr_owed;
	unsigned int nr_coming;
	struct dmu_change *spares;
	unsigned int nr_spares;
	struct dmu_buffer *buffers;
	unsigned int nr_buffers;
	struct delayed_work buffer_trim;

	atomic64_t age;
	atomic_t nr_changes;
	atomic_t copying;
	atomic_long_t nr_remaps;
	DECLARE_BITMAP(crowded, DMU_BUCKETS);
	struct work_struct grow_work;
	bool hopeless;
	bool gathering;
	struct delayed_work gather;
	mempool_t remap_pool;
	mempool_t change_pool;
	atomic_t hand;
	atomic_t nr_leaving;
	struct mutex trimming; /* who makes the cache smaller */
	struct dmu_shrinker shrinker;

	spinlock_t targets_lock; /* protects the list, states and copies */
	struct list_head targets;

	spinlock_t work_lock; /* protects the lists for the worker */
	struct bio_list issue;
	struct bio_list again;
	struct bio_list done;
	struct task_struct *batcher;
	unsigned int batch_blocks;
	bool batch_work;
	bool batch_copies;
	struct work_struct work;
	struct work_struct copy_work;
	struct delayed_work expiry;
	struct work_struct release_work;
};

extern const struct dmu_transport_ops *dmu_transport;

int dmu_spaces_init(void);
void dmu_spaces_exit(void);
int dmu_space_join(struct dmu_target *target, const char *key,
		   unsigned int block_shift);
void dmu_space_leave(struct dmu_target *target);
void dmu_space_put(struct dmu_space *space);
void dmu_space_kick(struct dmu_space *space);
void dmu_space_kick_copies(struct dmu_space *space);
void dmu_batch_begin(struct dmu_space *space);
bool dmu_batch_is_long(struct dmu_space *space);
void dmu_batch_flush(struct dmu_space *space);
void dmu_batch_end(struct dmu_space *space);
void dmu_space_wake(struct dmu_space *space);
void dmu_space_issue(struct dmu_space *space, struct bio *bio);
void dmu_space_again(struct dmu_space *space, struct bio *bio);
void dmu_space_again_list(struct dmu_space *space, struct bio_list *bios);
void dmu_space_done(struct dmu_space *space, struct bio *bio,
		    blk_status_t status);
void dmu_space_done_list(struct dmu_space *space, struct bio_list *bios,
			 blk_status_t status);
void dmu_space_count(struct dmu_space *space, struct dmu_counters *sum);

/* --- tables: what those of a key have ---------------------------------------- */

void dmu_tables_activate(struct dmu_target *target);
bool dmu_tables_can_copy(struct dmu_space *space, const struct dmu_mapping *m);
void dmu_tables_forget_end(struct dmu_target *target);
void dmu_tables_forget_rest(struct dmu_target *target);
int dmu_tables_check(struct dmu_space *space, struct dmu_mapping *m,
		     sector_t *len);
bool dmu_tables_check_run(struct dmu_space *space, struct dmu_mapping *first,
			  struct dmu_mapping *last);
int dmu_tables_check_block(struct dmu_space *space, u64 block, sector_t *len);

/* Is there something in a list whose lock is not held? A hint. */
static inline bool dmu_list_waits(const struct list_head *list)
{
	/*
	 * A race on purpose: whoever acts upon it takes the lock and looks again,
	 * and whoever adds something wakes those who saw nothing.
	 */
	return !data_race(list_empty(list));
}

/* Memory has come back: somebody may be waiting for it. */
static inline void dmu_space_relieve(struct dmu_space *space)
{
	if (dmu_list_waits(&space->starved))
		dmu_space_kick(space);
}

/* The id by which daemons know a remap; 0 where it answered no request. */
static inline u32 dmu_remap_id(const struct dmu_remap *remap)
{
	return remap->flags & DMU_PUSHED || remap->run_bits ?
	       0 : (u32)remap->stamp;
}

static inline sector_t dmu_block_sectors(const struct dmu_space *space)
{
	return (sector_t)1 << space->block_shift;
}

/* Its bucket is locked, but hits look at the flags, too. */
static inline void dmu_remap_flag(struct dmu_remap *remap, u8 flag)
{
	/* Pairs with the acquire in the map function. */
	smp_store_release(&remap->flags, remap->flags | flag);
}

/* Has the daemon died that was to say that it is safe? Context: bucket lock. */
static inline bool dmu_remap_asked_again(const struct dmu_remap *remap)
{
	return remap->change && remap->change->state == DMU_CHANGE_ASK;
}

/**
 * dmu_bucket_of() - the bucket a block belongs to
 * @space: of the key
 * @block: any number
 */
static inline struct dmu_bucket *dmu_bucket_of(struct dmu_space *space, u64 block)
{
	return &space->buckets[hash_64(block >> DMU_MAX_RUN_BITS,
				       DMU_BUCKET_BITS)];
}

/* Sector of its device where a block that a remap covers begins. */
static inline sector_t dmu_remap_dst(const struct dmu_space *space,
				     const struct dmu_remap *remap, u64 block)
{
	return remap->dst_sector + ((block - remap->block) << space->block_shift);
}

/* --- target: a line of a table ---------------------------------------------- */

enum dmu_target_state {
	DMU_TARGET_IDLE,	/* not resumed, or suspended */
	DMU_TARGET_LIVE,
	DMU_TARGET_RETURNING,	/* a noflush suspend has begun */
};

/**
 * struct dmu_policy - what becomes of I/O that no daemon answers
 * @error_if_no_daemon: it fails at once where no daemon is attached
 * @daemon_timeout: it fails after so many seconds without one; 0 is never
 * @request_timeout: what a daemon has read and not answered for so many seconds
 *	fails; 0 is never
 *
 * Set by the table line and by messages; read without a lock.
 */
struct dmu_policy {
	bool error_if_no_daemon;
	unsigned int daemon_timeout;
	unsigned int request_timeout;
};

/**
 * struct dmu_device - a device that a table line names
 * @devt: its number, by which a remap names it
 * @bdev: the open device
 * @dm: device-mapper's handle on it
 */
struct dmu_device {
	dev_t devt;
	struct block_device *bdev;
	struct dm_dev *dm;
};

/**
 * struct dmu_target - a line of a table
 * @ti: device-mapper's side; fixed, like @space, @writable and @devices
 * @space: a reference
 * @writable: its devices are open for writing
 * @active: it has been resumed once (space->targets_lock)
 * @policy: for I/O that came through it
 * @node: in space->targets (space->targets_lock); in no list once another table has
 *	taken its place
 * @state: (space->targets_lock; read without it)
 * @copies: kcopyd jobs that use its devices (space->targets_lock)
 * @copied: woken when @copies becomes 0
 * @nr_devices: in @devices
 * @devices: in the order of the table line
 */
struct dmu_target {
	struct dm_target *ti;
	struct dmu_space *space;
	bool writable;
	bool active;
	struct dmu_policy policy;
	struct list_head node;
	enum dmu_target_state state;
	unsigned int copies;
	wait_queue_head_t copied;
	unsigned int nr_devices;
	struct dmu_device devices[];
};

bool dmu_bios_write(const struct bio_list *bios);
void dmu_bio_restore(struct bio *bio);
void dmu_bio_serve(struct bio *bio, sector_t dst_sector, dev_t dev,
		   struct dmu_change *c);
void dmu_bios_serve(struct bio_list *bios, sector_t dst_sector, dev_t dev,
		    struct dmu_change *c);
int dmu_map_slowly(struct dmu_target *target, struct bio *bio);
struct dmu_target *dmu_target_pin(struct dmu_space *space,
				  const struct dmu_mapping *m);
void dmu_target_unpin(struct dmu_target *target);
int dmu_map(struct dm_target *ti, struct bio *bio);
int dmu_end_io(struct dm_target *ti, struct bio *bio, blk_status_t *error);
bool dmu_target_returns(const struct dmu_target *target);
int dmu_message(struct dm_target *ti, unsigned int argc, char **argv,
		char *result, unsigned int maxlen);

static inline struct block_device *dmu_target_bdev(const struct dmu_target *target,
						   dev_t devt)
{
	const struct dmu_device *device = target->devices;
	const struct dmu_device *end = device + target->nr_devices;

	for (; device < end; device++)
		if (device->devt == devt)
			return device->bdev;
	return NULL;
}

/* Can a copy be made, or zeroes be written, on the devices of this target? */
static inline bool dmu_target_copies(const struct dmu_target *target,
				     const struct dmu_mapping *m)
{
	return target->writable && dmu_target_bdev(target, m->dst) &&
	       (!m->src || dmu_target_bdev(target, m->src));
}

#endif /* DM_USER_H */
