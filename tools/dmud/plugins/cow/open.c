// SPDX-License-Identifier: GPL-2.0-only
/*
 * The cow policy: its options and devices, and what is accepted as a store.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "cow.h"
#include "device.h"

/* The number of a word in a list, or -1. */
static int find_word(const char *const *words, size_t n, const char *word)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (!strcmp(word, words[i]))
			return (int)i;
	return -1;
}

static int parse_option(struct cow *c, struct dmud_env *env, const char *opt)
{
	static const char *const formats[] = {
		[FORMAT_BLANK] = "format=blank",
		[FORMAT_NEVER] = "format=no",
		[FORMAT_FOREIGN] = "format=yes",
		[FORMAT_DAMAGED] = "format=force",
	};
	static const char *const origins[] = {
		[ORIGIN_CHECK] = "origin=check",
		[ORIGIN_ACCEPT] = "origin=accept",
		[ORIGIN_IGNORE] = "origin=ignore",
	};
	static const char path[] = "store-path=";
	int i = find_word(formats, sizeof(formats) / sizeof(*formats), opt);

	if (i >= 0) {
		c->format = (enum format_choice)i;
		return 0;
	}
	i = find_word(origins, sizeof(origins) / sizeof(*origins), opt);
	if (i >= 0) {
		c->origin = (enum origin_choice)i;
		return 0;
	}
	if (!strncmp(opt, path, strlen(path)) &&
	    strlen(opt) - strlen(path) < sizeof(c->path)) {
		strcpy(c->path, opt + strlen(path));
		return 0;
	}
	snprintf(env->error, sizeof(env->error),
		 "cow: no such option, or no such value: %.100s", opt);
	return -EINVAL;
}

/**
 * cow_refuse_store() - say what is wrong with the store
 * @c: the snapshot; its path is set
 * @env: gets the sentence
 * @sentence: that the format or the book has left, without its subject
 * @ret: a negative errno
 *
 * Return: @ret
 */
int cow_refuse_store(const struct cow *c, struct dmud_env *env,
		     const char *sentence, int ret)
{
	snprintf(env->error, sizeof(env->error), "the store %.50s %.190s",
		 c->path, sentence);
	return ret;
}

static int find_devices(struct cow *c, struct dmud_env *env,
			struct cow_geometry *geo)
{
	unsigned int i, n = dmu_nr_devices(env->dmu);
	int ret;

	if (n != NR_DEVICES) {
		snprintf(env->error, sizeof(env->error),
			 "cow needs two devices, the origin and the store; the table names %u",
			 n);
		return -EINVAL;
	}
	for (i = 0; i < NR_DEVICES; i++)
		c->dev[i] = dmu_device(env->dmu, i);
	if (c->dev[ORIGIN] == c->dev[STORE]) {
		snprintf(env->error, sizeof(env->error),
			 "the origin and the store are the same device");
		return -EINVAL;
	}
	geo->block_size = dmu_block_size(env->dmu);
	geo->mapped_sectors = dmu_sectors(env->dmu);
	ret = dmu_device_sectors(env->dmu, ORIGIN, &geo->origin_sectors);
	if (ret) {
		snprintf(env->error, sizeof(env->error),
			 "the size of the origin cannot be found: %s",
			 dmu_strerror(env->dmu));
		return ret;
	}
	if (geo->mapped_sectors <= geo->origin_sectors)
		return 0;
	snprintf(env->error, sizeof(env->error),
		 "the device has %ju sectors, its origin only %ju",
		 (uintmax_t)geo->mapped_sectors,
		 (uintmax_t)geo->origin_sectors);
	return -EINVAL;
}

/*
 * Not O_EXCL: the table holds the device already. A store-path= is trusted no
 * further than its device number.
 */
static int open_store(struct cow *c, struct dmud_env *env)
{
	char err[COW_ERROR_SIZE];
	struct stat st;
	int ret = 0;

	if (!c->path[0])
		ret = cow_device_path(c->dev[STORE], c->path,
				      sizeof(c->path));
	if (ret) {
		snprintf(env->error, sizeof(env->error),
			 "the node of the store cannot be found: %s",
			 strerror(-ret));
		return ret;
	}
	c->fd = open(c->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (c->fd < 0 || fstat(c->fd, &st)) {
		ret = -errno;
		cow_error(err, "cannot be opened: %s", strerror(-ret));
		return cow_refuse_store(c, env, err, ret);
	}
	if (st.st_rdev != c->dev[STORE])
		return cow_refuse_store(c, env,
				    "is not the device that the table names",
				    -ENODEV);
	ret = cow_store_lock(c->fd, err);
	return ret ? cow_refuse_store(c, env, err, ret) : 0;
}

/*
 * A cow store that is whole is never formatted here, whatever the options: a
 * daemon is started again and again with the same ones.
 */
static int may_format(const struct cow *c, int content)
{
	switch (content) {
	case COW_BLANK:
		return c->format != FORMAT_NEVER;
	case COW_FOREIGN:
		return c->format == FORMAT_FOREIGN ||
		       c->format == FORMAT_DAMAGED;
	case COW_UNUSABLE:
		return c->format == FORMAT_DAMAGED;
	default:
		return false;
	}
}

/* What the origin is known by; 0 where it cannot be read, which is its own trouble. */
static uint64_t read_mark(const struct cow *c, uint64_t sectors)
{
	int fd = cow_device_open(c->dev[ORIGIN], O_RDONLY | O_DIRECT);
	uint64_t mark = 0;
	int ret = fd < 0 ? fd : cow_origin_mark(fd, sectors, &mark);

	if (fd >= 0)
		close(fd);
	if (ret)
		c->log(LOG_WARNING, "the origin of the store %s cannot be read, so nobody knows whether it is the one that the store was made for: %s",
		       c->path, strerror(-ret));
	return mark;
}

/* Somebody says that the store goes with this origin: so it does from now on. */
static int accept_origin(struct cow *c, uint64_t mark, char *err)
{
	struct cow_super next = c->book.sb;
	int ret;

	if (!mark || next.geo.origin_mark == mark)
		return 0;
	next.geo.origin_mark = mark;
	ret = cow_book_super(&c->book, next);
	if (ret) {
		cow_error(err, "cannot be written: %s", strerror(-ret));
		cow_book_close(&c->book);
		return ret;
	}
	c->log(LOG_NOTICE, "store %s: goes with the origin as it is now",
	       c->path);
	return 0;
}

static int open_book(struct cow *c, const struct cow_geometry *geo, char *err)
{
	struct cow_geometry want = *geo;
	uint64_t mark = 0;
	int ret;

	if (c->origin != ORIGIN_IGNORE)
		mark = read_mark(c, geo->origin_sectors);
	if (c->origin == ORIGIN_CHECK)
		want.origin_mark = mark;
	ret = cow_book_open(&c->book, c->fd, &want, err);
	if (!ret && c->origin == ORIGIN_ACCEPT)
		ret = accept_origin(c, mark, err);
	return ret;
}

static int format_store(struct cow *c, struct cow_geometry geo, char *err)
{
	int ret;

	geo.origin_mark = read_mark(c, geo.origin_sectors);
	ret = cow_store_format(c->fd, &geo, err);
	if (!ret)
		c->log(LOG_NOTICE, "store %s: formatted, for blocks of %u bytes",
		       c->path, geo.block_size);
	return ret;
}

static int read_store(struct cow *c, struct dmud_env *env,
		      const struct cow_geometry *geo)
{
	char err[COW_ERROR_SIZE] = "is blank, and format=no forbids to make a cow store of it";
	struct cow_super sb;
	int ret = cow_store_probe(c->fd, &sb, err);

	if (may_format(c, ret))
		ret = format_store(c, *geo, err);
	else if (ret != COW_STORE && ret >= 0)
		ret = -EINVAL;
	if (ret >= 0)
		ret = open_book(c, geo, err);
	return ret ? cow_refuse_store(c, env, err, ret) : 0;
}

/**
 * cow_attach() - from options and devices to an open store
 * @c: the snapshot; @c->fd is the caller's to close, also after a failure
 * @env: gets a sentence about that
 * @opts: "name=value" strings, then NULL; or NULL
 *
 * Return: 0 or a negative errno
 */
int cow_attach(struct cow *c, struct dmud_env *env, char *const opts[])
{
	struct cow_geometry geo = {};
	int ret = 0;

	for (; opts && *opts && !ret; opts++)
		ret = parse_option(c, env, *opts);
	if (!ret)
		ret = find_devices(c, env, &geo);
	if (!ret)
		ret = open_store(c, env);
	if (!ret)
		ret = read_store(c, env, &geo);
	if (!ret)
		c->blocks = cow_geometry_blocks(&geo);
	return ret;
}
