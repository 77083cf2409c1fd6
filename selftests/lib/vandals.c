// SPDX-License-Identifier: GPL-2.0-only
/* I/O whose end is nobody's business. */
#define _GNU_SOURCE
#include "vandals.h"
#include "traffic.h"
#include <err.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MAX_NR	12u /* units of one I/O */

static void vandalize(struct dmt_vandal *v, void *buf)
{
	const struct dmt_vandals *all = v->all;
	uint32_t unit = dmt_below(&v->random, all->nr);
	uint32_t len = 1 + dmt_below(&v->random, MAX_NR);
	uint64_t range[2];
	uint32_t i;

	if (len > all->nr - unit)
		len = all->nr - unit;
	unit += all->first;
	range[0] = (uint64_t)unit * DMT_UNIT;
	range[1] = (uint64_t)len * DMT_UNIT;
	for (i = 0; i < len; i++)
		dmt_unit_fill((char *)buf + i * DMT_UNIT, unit + i, 1);
	switch (dmt_below(&v->random, 16)) {
	case 0:
		ioctl(all->fd, BLKDISCARD, range);
		break;
	case 1:
		ioctl(all->fd, BLKZEROOUT, range);
		break;
	case 2:
		fdatasync(all->fd);
		break;
	case 3 ... 8:
		if (pread(all->fd, buf, range[1], (off_t)range[0]) < 0)
			break;
		break;
	default:
		if (pwrite(all->fd, buf, range[1], (off_t)range[0]) < 0)
			break;
		break;
	}
}

static void *vandal(void *arg)
{
	struct dmt_vandal *v = arg;
	void *buf;

	if (posix_memalign(&buf, 4096, MAX_NR * DMT_UNIT))
		errx(1, "no memory");
	while (!atomic_load(v->all->stop)) {
		vandalize(v, buf);
		atomic_fetch_add(&v->all->done, 1);
	}
	free(buf);
	atomic_fetch_sub(&v->all->running, 1);
	return NULL;
}

/* Begin; all but the counts has been filled in. */
void dmt_vandals_start(struct dmt_vandals *all)
{
	unsigned int i;

	all->running = DMT_NR_VANDALS;
	for (i = 0; i < DMT_NR_VANDALS; i++) {
		struct dmt_vandal *v = &all->vandal[i];

		v->all = all;
		v->random = all->seed + i;
		if (pthread_create(&v->thread, NULL, vandal, v))
			errx(1, "no thread");
	}
}

void dmt_vandals_join(struct dmt_vandals *all)
{
	unsigned int i;

	for (i = 0; i < DMT_NR_VANDALS; i++)
		pthread_join(all->vandal[i].thread, NULL);
}
