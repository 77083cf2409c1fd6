// SPDX-License-Identifier: GPL-2.0-only
/*
 * dm-userspace: a device-mapper target for which a daemon in user space decides
 * where each block lives, while the kernel remembers the decision and moves the
 * data. This file is the target: its table line, its status, its suspension.
 *
 *	<start> <length> userspace <key> <block size in bytes> <device>...
 *		[<#feature args> <feature arg>...]
 */
#define CREATE_TRACE_POINTS
#include "dm-userspace-trace.h"
#include <linux/ctype.h>
#include <linux/init.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#define DMU_MAX_HINT SZ_1M /* bytes: no I/O hint exceeds this */

/* Sectors: the blocks of one discard are looked up one by one. */
#define DMU_MAX_DISCARD BIT(17)

const struct dmu_transport_ops *dmu_transport = &dmu_chardev_ops;

/* --- the table line --------------------------------------------------------------- */

/* White space is what device-mapper cuts a table line at; it comes escaped. */
static bool key_valid(const char *key)
{
	size_t len = strlen(key);

	for (; *key; key++)
		if (*key == '/' || *key == '\\' || isspace(*key))
			return false;
	return len && len <= DMU_MAX_KEY;
}

static int refuse(struct dm_target *ti, int r, char *why)
{
	ti->error = why;
	return r;
}

static int parse_key(struct dm_target *ti, const char *key)
{
	if (key_valid(key))
		return 0;
	return refuse(ti, -EINVAL,
		      "The key must have 1 to 255 characters, and no slash, white space or backslash");
}

static int parse_block_size(struct dm_target *ti, const char *arg,
			    unsigned int *block_size)
{
	if (kstrtouint(arg, 10, block_size) || !is_power_of_2(*block_size) ||
	    *block_size < DMU_MIN_BLOCK_SIZE ||
	    *block_size > DMU_MAX_BLOCK_SIZE)
		return refuse(ti, -EINVAL,
			      "The block size must be a power of two from 512 bytes to 1 GiB");
	if (ti->begin & ((*block_size >> SECTOR_SHIFT) - 1))
		return refuse(ti, -EINVAL,
			      "The target must start at a multiple of the block size");
	return 0;
}

static int parse_device(struct dm_target *ti, const char *arg,
			struct dmu_device *device)
{
	struct gendisk *self = dm_disk(dm_table_get_md(ti->table));
	dev_t devt;
	int r;

	/* Newer kernels find this out, too, and do not say what is wrong. */
	if (!dmu_devt_of(arg, &devt) && devt == disk_devt(self))
		return refuse(ti, -EINVAL,
			      "A device must not be the mapped device itself");
	r = dm_get_device(ti, arg, dm_table_get_mode(ti->table), &device->dm);
	if (r) {
		DMERR("device %s cannot be opened: error %d", arg, r);
		return refuse(ti, r,
			      "A device does not exist, is in use, or cannot be opened in this mode");
	}
	device->bdev = device->dm->bdev;
	device->devt = device->bdev->bd_dev;
	return 0;
}

static void put_devices(struct dmu_target *target)
{
	while (target->nr_devices--)
		dm_put_device(target->ti,
			      target->devices[target->nr_devices].dm);
}

static int parse_devices(struct dmu_target *target, unsigned int block_size,
			 unsigned int argc, char **argv)
{
	struct dm_target *ti = target->ti;
	unsigned int i;
	int r;

	for (i = 0; i < argc; i++) {
		r = parse_device(ti, argv[i], &target->devices[i]);
		if (r)
			return r;
		target->nr_devices++;
		if (block_size <
		    bdev_logical_block_size(target->devices[i].bdev))
			return refuse(ti, -EINVAL,
				      "The block size is below the logical block size of a device");
	}
	return 0;
}

static bool is_number(const char *arg)
{
	return *arg && strspn(arg, "0123456789") == strlen(arg);
}

static int parse_seconds(struct dm_target *ti, const char *name,
			 const char *arg, unsigned int *seconds)
{
	if (*seconds) {
		DMERR("feature arg %s is repeated", name);
		return refuse(ti, -EINVAL, "A feature arg is repeated");
	}
	if (arg && !kstrtouint(arg, 10, seconds) && *seconds &&
	    *seconds <= DMU_MAX_TIMEOUT)
		return 0;
	DMERR("feature arg %s needs a number of seconds from 1 to %u, not %s",
	      name, DMU_MAX_TIMEOUT, arg ?: "nothing");
	return refuse(ti, -EINVAL, "A timeout is no number of seconds");
}

/* Takes one feature arg with its value. Returns how many words that were. */
static int parse_feature(struct dm_target *ti, struct dmu_policy *policy,
			 unsigned int argc, char **argv)
{
	const char *value = argc > 1 ? argv[1] : NULL;

	if (!strcmp(argv[0], "error_if_no_daemon")) {
		if (policy->error_if_no_daemon)
			return refuse(ti, -EINVAL,
				      "Feature arg error_if_no_daemon is repeated");
		policy->error_if_no_daemon = true;
		return 1;
	}
	if (!strcmp(argv[0], "daemon_timeout"))
		return parse_seconds(ti, argv[0], value,
				     &policy->daemon_timeout) ?: 2;
	if (!strcmp(argv[0], "request_timeout"))
		return parse_seconds(ti, argv[0], value,
				     &policy->request_timeout) ?: 2;
	DMERR("unknown feature arg %s; known are error_if_no_daemon, daemon_timeout <seconds> and request_timeout <seconds>",
	      argv[0]);
	return refuse(ti, -EINVAL, "Unknown feature arg");
}

/* Device words come first; a plain number counts the feature args behind it. */
static int parse_features(struct dm_target *ti, struct dmu_policy *policy,
			  unsigned int argc, char **argv)
{
	unsigned int nr;
	int words;

	if (!argc)
		return 0;
	if (kstrtouint(argv[0], 10, &nr) || nr != argc - 1)
		return refuse(ti, -EINVAL,
			      "The number of feature args does not agree with what follows");
	for (argv++; nr; nr -= words, argv += words) {
		words = parse_feature(ti, policy, nr, argv);
		if (words < 0)
			return words;
	}
	return 0;
}

static void target_setup(struct dm_target *ti, struct dmu_target *target)
{
	ti->private = target;
	ti->per_io_data_size = sizeof(struct dmu_bio);
	ti->num_flush_bios = target->nr_devices;
	ti->num_discard_bios = 1;
	ti->num_write_zeroes_bios = 1;
	ti->discards_supported = true;
	ti->accounts_remapped_io = true;
}

static int target_join(struct dmu_target *target, const char *key,
		       unsigned int block_size)
{
	int r;

	r = dmu_space_join(target, key, ilog2(block_size) - SECTOR_SHIFT);
	if (r == -EEXIST)
		return refuse(target->ti, -EINVAL,
			      "The key is in use with another block size");
	if (r)
		return refuse(target->ti, r,
			      "There is no memory, or no control device can be made");
	return 0;
}

static int userspace_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct dmu_policy policy = {};
	struct dmu_target *target;
	unsigned int block_size;
	unsigned int nr = 0;
	int r;

	if (argc < 3)
		return refuse(ti, -EINVAL,
			      "Too few arguments: <key> <block size> <device>... are needed");
	r = parse_key(ti, argv[0]) ?: parse_block_size(ti, argv[1], &block_size);
	if (r)
		return r;
	while (nr < argc - 2 && !is_number(argv[2 + nr]))
		nr++;
	if (!nr)
		return refuse(ti, -EINVAL, "At least one device is needed");
	r = parse_features(ti, &policy, argc - 2 - nr, argv + 2 + nr);
	if (r)
		return r;

	target = kzalloc(struct_size(target, devices, nr), GFP_KERNEL);
	if (!target)
		return refuse(ti, -ENOMEM, "There is no memory");
	target->ti = ti;
	target->policy = policy;
	target->writable = dmu_mode_writable(dm_table_get_mode(ti->table));
	init_waitqueue_head(&target->copied);
	r = parse_devices(target, block_size, nr, argv + 2) ?:
	    target_join(target, argv[0], block_size);
	if (r) {
		put_devices(target);
		kfree(target);
		return r;
	}
	target_setup(ti, target);
	return 0;
}

static void userspace_dtr(struct dm_target *ti)
{
	struct dmu_target *target = ti->private;

	dmu_space_leave(target);
	put_devices(target);
	kfree(target);
}

static int userspace_iterate_devices(struct dm_target *ti,
				     iterate_devices_callout_fn fn, void *data)
{
	struct dmu_target *target = ti->private;
	unsigned int i;
	int r = 0;

	/* Each with its own length: it need not be that of the target. */
	for (i = 0; i < target->nr_devices && !r; i++)
		r = fn(ti, target->devices[i].dm, 0,
		       bdev_nr_sectors(target->devices[i].bdev), data);
	return r;
}

static void userspace_io_hints(struct dm_target *ti, struct queue_limits *limits)
{
	struct dmu_target *target = ti->private;
	u64 block_size = dmu_block_sectors(target->space) << SECTOR_SHIFT;

	if (block_size <= DMU_MAX_HINT)
		limits->io_min = max_t(unsigned int, block_size,
				       limits->physical_block_size);
	/* Of powers of two, those of several lines make no larger one. */
	if (limits->io_opt)
		limits->io_opt = rounddown_pow_of_two(min(limits->io_opt,
							  DMU_MAX_HINT));
	limits->discard_granularity = max(limits->discard_granularity,
					  limits->logical_block_size);
	dmu_limit_discard(limits, DMU_MAX_DISCARD);
}

/* --- suspension ------------------------------------------------------------------- */

/**
 * dmu_target_returns() - is I/O that would wait to go back to device-mapper?
 * @target: it came through
 *
 * Only while device-mapper takes it: where a noflush suspend is interrupted it
 * stops doing so before it says so to the target.
 */
bool dmu_target_returns(const struct dmu_target *target)
{
	return READ_ONCE(target->state) == DMU_TARGET_RETURNING &&
	       dm_noflush_suspending(target->ti);
}

static void target_enter(struct dmu_target *target, enum dmu_target_state state)
{
	spin_lock_irq(&target->space->targets_lock);
	WRITE_ONCE(target->state, state);
	spin_unlock_irq(&target->space->targets_lock);
}

/*
 * Hand back what waits; what would wait from now on never starts to. Not by way of
 * the worker: that may be busy for so long that a signal ends the suspend first, and
 * then device-mapper takes nothing back any more.
 */
static void target_return(struct dmu_target *target)
{
	struct dmu_space *space = target->space;
	struct bio_list bios = BIO_EMPTY_LIST;
	struct bio *bio;
	unsigned int i;

	for (i = 0; i < DMU_BUCKETS; i++) {
		struct dmu_bucket *bucket = &space->buckets[i];

		spin_lock_irq(&bucket->lock);
		dmu_requests_return(bucket, target, &bios);
		dmu_changes_return(bucket, target, &bios);
		spin_unlock_irq(&bucket->lock);
	}
	while ((bio = bio_list_pop(&bios))) {
		bio->bi_status = BLK_STS_DM_REQUEUE;
		bio_endio(bio);
	}
}

static void userspace_presuspend(struct dm_target *ti)
{
	struct dmu_target *target = ti->private;

	if (!dm_noflush_suspending(ti))
		return;
	target_enter(target, DMU_TARGET_RETURNING);
	target_return(target);
}

static int userspace_preresume(struct dm_target *ti)
{
	dmu_tables_activate(ti->private);
	return 0;
}

static void userspace_resume(struct dm_target *ti)
{
	struct dmu_target *target = ti->private;

	target_enter(target, DMU_TARGET_LIVE);
	/* Copies may have waited for its devices. */
	dmu_space_kick_copies(target->space);
}

static void userspace_postsuspend(struct dm_target *ti)
{
	struct dmu_target *target = ti->private;

	target_enter(target, DMU_TARGET_IDLE);
	wait_event(target->copied, !READ_ONCE(target->copies));
	/* Whoever said so is done with the target once it has let the lock go. */
	spin_lock_irq(&target->space->targets_lock);
	spin_unlock_irq(&target->space->targets_lock);
}

/**
 * dmu_target_pin() - find a target to copy on, and keep its devices open
 * @space: of the key
 * @m: what is to be copied
 *
 * Context: any.
 * Return: a resumed one that has both devices, or NULL.
 */
struct dmu_target *dmu_target_pin(struct dmu_space *space,
				  const struct dmu_mapping *m)
{
	struct dmu_target *target, *found = NULL;
	unsigned long irq;

	spin_lock_irqsave(&space->targets_lock, irq);
	list_for_each_entry(target, &space->targets, node) {
		if (target->state != DMU_TARGET_LIVE ||
		    !dmu_target_copies(target, m))
			continue;
		found = target;
		WRITE_ONCE(found->copies, found->copies + 1);
		break;
	}
	spin_unlock_irqrestore(&space->targets_lock, irq);
	return found;
}

/**
 * dmu_target_unpin() - a copy is over
 * @target: may be gone after this
 *
 * Context: any.
 */
void dmu_target_unpin(struct dmu_target *target)
{
	struct dmu_space *space = target->space;
	unsigned long irq;

	spin_lock_irqsave(&space->targets_lock, irq);
	WRITE_ONCE(target->copies, target->copies - 1);
	if (!target->copies)
		wake_up(&target->copied);
	spin_unlock_irqrestore(&space->targets_lock, irq);
}

/* --- status ------------------------------------------------------------------------ */

static unsigned int status_info(struct dmu_target *target, char *result,
				unsigned int maxlen)
{
	struct dmu_space *space = target->space;
	dev_t devt = dmu_transport->devt(space);
	struct dmu_counters sum;
	unsigned int unread, sent, owed, peers;
	unsigned int sz = 0;

	dmu_space_count(space, &sum);
	spin_lock_irq(&space->lock);
	unread = space->nr_unread;
	sent = space->nr_sent;
	owed = space->nr_owed;
	peers = space->nr_peers;
	spin_unlock_irq(&space->lock);
	DMEMIT("%u:%u %s %lu %llu %llu %u %u %d %u %llu %llu",
	       MAJOR(devt), MINOR(devt), peers ? "attached" : "absent",
	       dmu_remaps_blocks(space), sum.hits, sum.misses, unread, sent,
	       atomic_read(&space->copying), owed, sum.evictions, sum.errors);
	return sz;
}

/* The feature args as they are now: messages change them, too. */
static unsigned int status_features(const struct dmu_target *target,
				    char *result, unsigned int maxlen,
				    unsigned int sz)
{
	bool error = READ_ONCE(target->policy.error_if_no_daemon);
	unsigned int daemon = READ_ONCE(target->policy.daemon_timeout);
	unsigned int request = READ_ONCE(target->policy.request_timeout);
	unsigned int words = (error ? 1 : 0) + (daemon ? 2 : 0) +
			     (request ? 2 : 0);

	if (words)
		DMEMIT(" %u", words);
	if (error)
		DMEMIT(" error_if_no_daemon");
	if (daemon)
		DMEMIT(" daemon_timeout %u", daemon);
	if (request)
		DMEMIT(" request_timeout %u", request);
	return sz;
}

static void status_ima(struct dm_target *ti, char *result, unsigned int maxlen)
{
	struct dmu_target *target = ti->private;
	struct dmu_space *space = target->space;
	const struct dmu_policy *policy = &target->policy;
	unsigned int sz = 0;
	unsigned int i;

	DMEMIT_TARGET_NAME_VERSION(ti->type);
	DMEMIT(",key=%s,block_size=%llu", space->key,
	       (u64)dmu_block_sectors(space) << SECTOR_SHIFT);
	/* There may be more than the core has room for: it then shows. */
	DMEMIT(",nr_devices=%u", target->nr_devices);
	for (i = 0; i < target->nr_devices; i++)
		DMEMIT(",device_%u=%s", i, target->devices[i].dm->name);
	DMEMIT(",error_if_no_daemon=%c,daemon_timeout=%u,request_timeout=%u;",
	       READ_ONCE(policy->error_if_no_daemon) ? 'y' : 'n',
	       READ_ONCE(policy->daemon_timeout),
	       READ_ONCE(policy->request_timeout));
}

static void userspace_status(struct dm_target *ti, status_type_t type,
			     unsigned int flags, char *result,
			     unsigned int maxlen)
{
	struct dmu_target *target = ti->private;
	struct dmu_space *space = target->space;
	unsigned int sz = 0;
	unsigned int i;

	switch (type) {
	case STATUSTYPE_INFO:
		status_info(target, result, maxlen);
		break;
	case STATUSTYPE_TABLE:
		DMEMIT("%s %llu", space->key,
		       (u64)dmu_block_sectors(space) << SECTOR_SHIFT);
		for (i = 0; i < target->nr_devices; i++)
			DMEMIT(" %s", target->devices[i].dm->name);
		status_features(target, result, maxlen, sz);
		break;
	case STATUSTYPE_IMA:
		status_ima(ti, result, maxlen);
		break;
	}
}

static struct target_type userspace_target = {
	.name = "userspace",
	.version = { DMU_VERSION_MAJOR, DMU_VERSION_MINOR, DMU_VERSION_PATCH },
	.features = DM_TARGET_NOWAIT,
	.module = THIS_MODULE,
	.ctr = userspace_ctr,
	.dtr = userspace_dtr,
	.map = dmu_map,
	.end_io = dmu_end_io,
	.presuspend = userspace_presuspend,
	.presuspend_undo = userspace_resume,
	.postsuspend = userspace_postsuspend,
	.preresume = userspace_preresume,
	.resume = userspace_resume,
	.status = userspace_status,
	.message = dmu_message,
	.iterate_devices = userspace_iterate_devices,
	.io_hints = userspace_io_hints,
};

static int __init dmu_init(void)
{
	int r;

	r = dmu_remap_cache_init();
	if (r)
		return r;
	r = dmu_spaces_init();
	if (r)
		goto bad_spaces;
	r = dmu_chardev_init();
	if (r)
		goto bad_chardev;
	/* Last: from here on tables can be loaded. */
	r = dm_register_target(&userspace_target);
	if (r)
		goto bad_target;
	return 0;

bad_target:
	dmu_chardev_exit();
bad_chardev:
	dmu_spaces_exit();
bad_spaces:
	dmu_remap_cache_exit();
	return r;
}

static void __exit dmu_exit(void)
{
	dm_unregister_target(&userspace_target);
	dmu_spaces_exit();
	dmu_chardev_exit();
	dmu_remap_cache_exit();
}

module_init(dmu_init);
module_exit(dmu_exit);

MODULE_ALIAS("dm-userspace");
MODULE_DESCRIPTION(DM_NAME " target whose blocks a daemon in user space maps");
MODULE_AUTHOR("The dm-userspace founders");
MODULE_LICENSE("GPL");
