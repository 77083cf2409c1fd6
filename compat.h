/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every difference between the kernels this module builds for, and nothing
 * else: the rest of the code reads as if only the newest existed.
 */
#ifndef DM_USER_COMPAT_H
#define DM_USER_COMPAT_H

#include <linux/blkdev.h>
#include <linux/device-mapper.h>
#include <linux/device/class.h>
#include <linux/shrinker.h>
#include <linux/version.h>

/* 6.2 made the device that a class's devnode is given const. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define dmu_devnode_device struct device
#else
#define dmu_devnode_device const struct device
#endif

/* 6.10 remembers what a tracepoint's string is made of. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 10, 0)
#define dmu_assign_str(dst, src) __assign_str(dst, src)
#else
#define dmu_assign_str(dst, src) do { (void)(src); __assign_str(dst); } while (0)
#endif

/* 6.2 made callbacks lazy that nobody is in a hurry for. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define call_rcu_hurry call_rcu
#endif

/* 6.10 replaced dm_get_dev_t(). */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 10, 0)
static inline int dmu_devt_of(const char *path, dev_t *devt)
{
	*devt = dm_get_dev_t(path);
	return *devt ? 0 : -ENODEV;
}
#else
static inline int dmu_devt_of(const char *path, dev_t *devt)
{
	return dm_devt_from_path(path, devt);
}
#endif

/* 6.4 took the owner out of struct class. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
#define DMU_CLASS_OWNER .owner = THIS_MODULE,
#else
#define DMU_CLASS_OWNER
#endif

/* 6.5 gave block devices open modes of their own. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
static inline bool dmu_mode_writable(fmode_t mode)
{
	return mode & FMODE_WRITE;
}
#else
static inline bool dmu_mode_writable(blk_mode_t mode)
{
	return mode & BLK_OPEN_WRITE;
}
#endif

/*
 * Before 6.9 both limits were set by hand; since then max_discard_sectors is
 * worked out from the other when the limits are validated.
 */
static inline void dmu_limit_discard(struct queue_limits *limits,
				     unsigned int sectors)
{
	limits->max_hw_discard_sectors = sectors;
	limits->max_discard_sectors = sectors;
}

/* 6.7 made shrinkers objects of their own, with a pointer for their user. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
struct dmu_shrinker {
	struct shrinker shrinker;
	void *private_data;
};

static inline void *dmu_shrinker_data(struct shrinker *shrinker)
{
	return container_of(shrinker, struct dmu_shrinker,
			    shrinker)->private_data;
}

static inline int dmu_shrinker_start(struct dmu_shrinker *s, void *data,
				     unsigned long (*count)(struct shrinker *,
							    struct shrink_control *),
				     unsigned long (*scan)(struct shrinker *,
							   struct shrink_control *))
{
	s->private_data = data;
	s->shrinker.count_objects = count;
	s->shrinker.scan_objects = scan;
	s->shrinker.seeks = DEFAULT_SEEKS;
	return register_shrinker(&s->shrinker, "dm-userspace");
}

static inline void dmu_shrinker_stop(struct dmu_shrinker *s)
{
	unregister_shrinker(&s->shrinker);
}

#else
struct dmu_shrinker {
	struct shrinker *shrinker;
};

static inline void *dmu_shrinker_data(struct shrinker *shrinker)
{
	return shrinker->private_data;
}

static inline int dmu_shrinker_start(struct dmu_shrinker *s, void *data,
				     unsigned long (*count)(struct shrinker *,
							    struct shrink_control *),
				     unsigned long (*scan)(struct shrinker *,
							   struct shrink_control *))
{
	s->shrinker = shrinker_alloc(0, "dm-userspace");
	if (!s->shrinker)
		return -ENOMEM;
	s->shrinker->private_data = data;
	s->shrinker->count_objects = count;
	s->shrinker->scan_objects = scan;
	shrinker_register(s->shrinker);
	return 0;
}

static inline void dmu_shrinker_stop(struct dmu_shrinker *s)
{
	shrinker_free(s->shrinker);
}
#endif

#endif /* DM_USER_COMPAT_H */
