/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Flight: which I/O is at a device. See dm-userspace-flight.c; a part of dm-user.h,
 * which says what is locked before what.
 */
#ifndef DM_USERSPACE_FLIGHT_H
#define DM_USERSPACE_FLIGHT_H

#include <linux/list.h>
#include <linux/percpu-refcount.h>
#include <linux/rcupdate.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>

struct dmu_space;

/**
 * struct dmu_epoch - a set of I/O that entered flight together
 * @ref: one for each I/O, plus one while the epoch does not drain
 * @seq: its number; fixed while it is current or drains
 * @flight: the flight it belongs to
 */
struct dmu_epoch {
	struct percpu_ref ref;
	u64 seq;
	struct dmu_flight *flight;
};

/**
 * struct dmu_flight - all I/O of one direction that is at a device
 * @current_epoch: joined by new I/O; read without a lock, moved under @lock
 * @epoch: the current one and the one that drains or is ready to be next
 * @space: whose worker turns it over
 * @lock: protects all below
 * @waiters: struct dmu_wait
 * @seq: number of the current epoch
 * @passed: every I/O of this epoch and earlier ones has come back
 * @draining: the other epoch has been killed, and is not yet ready again or its
 *	waiters are being called
 * @drained: its last I/O has come back (set without the lock)
 * @idle: woken whenever @draining ends
 */
struct dmu_flight {
	struct dmu_epoch *current_epoch;
	struct dmu_epoch epoch[2];
	struct dmu_space *space;
	spinlock_t lock; /* protects all below */
	struct list_head waiters;
	u64 seq;
	u64 passed;
	bool draining;
	bool drained;
	wait_queue_head_t idle;
};

/**
 * struct dmu_wait - somebody waits for an epoch to pass
 * @node: in flight->waiters
 * @seq: that epoch
 * @fn: called once by the worker, without locks
 */
struct dmu_wait {
	struct list_head node;
	u64 seq;
	void (*fn)(struct dmu_wait *wait);
};

int dmu_flight_init(struct dmu_flight *flight, struct dmu_space *space);
void dmu_flight_exit(struct dmu_flight *flight);
u64 dmu_flight_stamp(struct dmu_flight *flight);
u64 dmu_flight_close(struct dmu_flight *flight);
bool dmu_flight_passed(struct dmu_flight *flight, u64 seq);
bool dmu_flight_wait(struct dmu_flight *flight, struct dmu_wait *wait);
void dmu_flight_run(struct dmu_flight *flight);

/**
 * dmu_flight_enter() - count an I/O until dmu_flight_leave()
 * @flight: of its direction
 *
 * Call it before the remap that the I/O is to use is looked up, and in the
 * same RCU read section or under the same bucket lock: an I/O that used a
 * remap then counts in the epoch in which the remap left, or an earlier one.
 *
 * Return: what dmu_flight_leave() wants.
 */
static inline struct percpu_ref *dmu_flight_enter(struct dmu_flight *flight)
{
	/* Pairs with the release in flight_turn(). */
	struct dmu_epoch *epoch = smp_load_acquire(&flight->current_epoch);

	percpu_ref_get(&epoch->ref);
	return &epoch->ref;
}

/*
 * The RCU read section of a hit. With preemption off it is one, too, and takes an
 * instruction where rcu_read_lock() is a call; but percpu_ref, on kernels that check
 * this, takes only the latter for one.
 */
#ifdef CONFIG_DEBUG_LOCK_ALLOC
#define dmu_hit_begin() rcu_read_lock()
#define dmu_hit_end() rcu_read_unlock()
#else
#define dmu_hit_begin() rcu_read_lock_sched()
#define dmu_hit_end() rcu_read_unlock_sched()
#endif

/**
 * dmu_flight_enter_rcu() - dmu_flight_enter() from inside an RCU read section
 * @flight: of its direction
 *
 * Which spares it one of its own. Context: from dmu_hit_begin() to dmu_hit_end().
 *
 * Return: what dmu_flight_leave() wants.
 */
static inline struct percpu_ref *dmu_flight_enter_rcu(struct dmu_flight *flight)
{
	/* Pairs with the release in flight_turn(). */
	struct dmu_epoch *epoch = smp_load_acquire(&flight->current_epoch);

	/* One that is being killed can be joined until this section ends. */
	if (unlikely(!percpu_ref_tryget_live_rcu(&epoch->ref)))
		percpu_ref_get(&epoch->ref);
	return &epoch->ref;
}

/* Context: any. */
static inline void dmu_flight_leave(struct percpu_ref *ref)
{
	percpu_ref_put(ref);
}

#endif /* DM_USERSPACE_FLIGHT_H */
