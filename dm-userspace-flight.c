// SPDX-License-Identifier: GPL-2.0-only
/*
 * Flight: which I/O is still at a device.
 *
 * Before a new mapping takes effect, or a daemon is told that it may reuse a
 * place, every I/O that was sent there must have come back. Counting it in the
 * remap would make each hit write to a shared cache line, so I/O is counted
 * per CPU and in epochs: a waiter closes the current epoch and opens the next,
 * and waits until the closed one is empty. It thereby waits for I/O of other
 * blocks too; such I/O is at a device, and comes back without a daemon's help.
 *
 * Ordering: whoever takes a remap out of reach does so first and then reads the
 * number of the current epoch under the flight's lock; an I/O loads the current
 * epoch first (acquire) and then looks the remap up. Where the next epoch was
 * opened after that number was read, the lock passes the unhashing on to whoever
 * opened it, and the release of current_epoch passes it on to the I/O: so an I/O
 * that counts in an epoch younger than the stamp cannot have found the remap.
 */
#include "dm-user.h"

static void epoch_drained(struct percpu_ref *ref)
{
	struct dmu_epoch *epoch = container_of(ref, struct dmu_epoch, ref);

	/* Pairs with the acquire in dmu_flight_run(). */
	smp_store_release(&epoch->flight->drained, true);
	dmu_space_kick(epoch->flight->space);
}

static struct dmu_epoch *other_epoch(struct dmu_flight *flight)
{
	return &flight->epoch[flight->current_epoch == &flight->epoch[0]];
}

/**
 * dmu_flight_init() - make a flight with no I/O in it
 * @flight: to be made
 * @space: whose worker is to turn it over
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM, with nothing to undo.
 */
int dmu_flight_init(struct dmu_flight *flight, struct dmu_space *space)
{
	unsigned int i;
	int r;

	spin_lock_init(&flight->lock);
	INIT_LIST_HEAD(&flight->waiters);
	init_waitqueue_head(&flight->idle);
	flight->space = space;
	flight->seq = 1;
	flight->epoch[0].seq = 1;
	flight->current_epoch = &flight->epoch[0];
	for (i = 0; i < 2; i++) {
		flight->epoch[i].flight = flight;
		r = percpu_ref_init(&flight->epoch[i].ref, epoch_drained,
				    PERCPU_REF_ALLOW_REINIT, GFP_KERNEL);
		if (r) {
			if (i)
				percpu_ref_exit(&flight->epoch[0].ref);
			return r;
		}
	}
	return 0;
}

/**
 * dmu_flight_exit() - free a flight
 * @flight: has no I/O in it; its worker still runs
 *
 * Waits for the waiters there are, and for those that these become.
 *
 * Context: may sleep; not the worker itself.
 */
void dmu_flight_exit(struct dmu_flight *flight)
{
	wait_event(flight->idle, !READ_ONCE(flight->draining));
	percpu_ref_exit(&flight->epoch[0].ref);
	percpu_ref_exit(&flight->epoch[1].ref);
}

/**
 * dmu_flight_stamp() - the epoch that I/O of this moment counts in
 * @flight: of one direction
 *
 * To be called after a remap was unhashed: I/O that used it counts in the epoch
 * returned or in an earlier one.
 *
 * Context: any.
 */
u64 dmu_flight_stamp(struct dmu_flight *flight)
{
	unsigned long irq;
	u64 seq;

	spin_lock_irqsave(&flight->lock, irq);
	seq = flight->seq;
	spin_unlock_irqrestore(&flight->lock, irq);
	return seq;
}

/**
 * dmu_flight_passed() - has all I/O up to an epoch come back?
 * @flight: of one direction
 * @seq: the epoch
 *
 * Context: any.
 */
bool dmu_flight_passed(struct dmu_flight *flight, u64 seq)
{
	/* Pairs with the release in dmu_flight_run(). */
	return smp_load_acquire(&flight->passed) >= seq;
}

/* Close the current epoch: somebody waits for it, and the other one is ready. */
static void flight_turn(struct dmu_flight *flight)
{
	struct dmu_epoch *old = flight->current_epoch;
	struct dmu_epoch *new = other_epoch(flight);

	lockdep_assert_held(&flight->lock);
	WRITE_ONCE(flight->draining, true);
	new->seq = ++flight->seq;
	/* Pairs with the acquire in dmu_flight_enter(). */
	smp_store_release(&flight->current_epoch, new);
	percpu_ref_kill(&old->ref);
}

/**
 * dmu_flight_close() - have it known soon that I/O of this moment has come back
 * @flight: of one direction
 *
 * As if somebody began to wait for it, unless others do so for earlier I/O: then it
 * is known once somebody waits.
 *
 * Context: any.
 * Return: the epoch, as of dmu_flight_stamp().
 */
u64 dmu_flight_close(struct dmu_flight *flight)
{
	unsigned long irq;
	u64 seq;

	spin_lock_irqsave(&flight->lock, irq);
	seq = flight->seq;
	if (!flight->draining)
		flight_turn(flight);
	spin_unlock_irqrestore(&flight->lock, irq);
	return seq;
}

/**
 * dmu_flight_wait() - wait until all I/O up to an epoch has come back
 * @flight: of one direction
 * @wait: seq and fn are set; stays in use until fn is called
 *
 * Context: any; called under a bucket lock or none.
 * Return: true where it has come back already: fn is not called.
 */
bool dmu_flight_wait(struct dmu_flight *flight, struct dmu_wait *wait)
{
	unsigned long irq;
	bool passed;

	if (dmu_flight_passed(flight, wait->seq))
		return true;
	spin_lock_irqsave(&flight->lock, irq);
	passed = flight->passed >= wait->seq;
	if (!passed) {
		list_add_tail(&wait->node, &flight->waiters);
		if (!flight->draining)
			flight_turn(flight);
	}
	spin_unlock_irqrestore(&flight->lock, irq);
	return passed;
}

/**
 * dmu_flight_run() - the worker's share: run the waiters whose epoch has passed
 * @flight: of one direction
 *
 * Context: the worker; may sleep. Calls the waiters' functions.
 */
void dmu_flight_run(struct dmu_flight *flight)
{
	struct dmu_wait *wait, *next;
	struct dmu_epoch *old;
	LIST_HEAD(passed);

	/* Pairs with epoch_drained(): the I/O counted there is over. */
	if (!smp_load_acquire(&flight->drained))
		return;

	old = other_epoch(flight);
	percpu_ref_reinit(&old->ref);

	spin_lock_irq(&flight->lock);
	flight->drained = false;
	/* Pairs with the acquire in dmu_flight_passed(). */
	smp_store_release(&flight->passed, old->seq);
	list_for_each_entry_safe(wait, next, &flight->waiters, node)
		if (wait->seq <= flight->passed)
			list_move_tail(&wait->node, &passed);
	spin_unlock_irq(&flight->lock);

	/* Some begin to wait again: dmu_flight_exit() must see that in time. */
	list_for_each_entry_safe(wait, next, &passed, node)
		wait->fn(wait);

	spin_lock_irq(&flight->lock);
	if (list_empty(&flight->waiters))
		WRITE_ONCE(flight->draining, false);
	else
		flight_turn(flight);
	spin_unlock_irq(&flight->lock);
	wake_up(&flight->idle);
}
