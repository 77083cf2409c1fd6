// SPDX-License-Identifier: GPL-2.0-only
/*
 * A stand-in for libdmu and dmud: see fake.h.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

struct fake fake;

/* The connection has no state of its own: there is one, and it is @fake. */
static struct dmu *const the_dmu = (struct dmu *)&fake;

void fake_free(void)
{
	free(fake.answer);
	free(fake.acked);
	memset(&fake, 0, sizeof(fake));
}

void fake_reset(uint32_t block_size, uint64_t sectors)
{
	fake_free();
	fake.geo.block_size = block_size;
	fake.geo.sectors = sectors;
	fake.geo.nr_devices = 2;
	fake.devices[0] = ORIGIN_DEV;
	fake.devices[1] = STORE_DEV;
	fake.geo.devices = fake.devices;
	fake.origin_sectors = sectors;
	fake.has_runs = true;
	fake.most_pushed = FAKE_MAX_PUSHED;
}

/* libdmu */

uint32_t dmu_block_size(const struct dmu *dmu)
{
	(void)dmu;
	return fake.geo.block_size;
}

uint64_t dmu_sectors(const struct dmu *dmu)
{
	(void)dmu;
	return fake.geo.sectors;
}

unsigned int dmu_nr_devices(const struct dmu *dmu)
{
	(void)dmu;
	return fake.geo.nr_devices;
}

dev_t dmu_device(const struct dmu *dmu, unsigned int n)
{
	(void)dmu;
	return fake.devices[n];
}

int dmu_device_sectors(struct dmu *dmu, unsigned int n, uint64_t *sectors)
{
	(void)dmu;
	if (n || !fake.origin_sectors)
		return -EIO;
	*sectors = fake.origin_sectors;
	return 0;
}

const char *dmu_strerror(const struct dmu *dmu)
{
	(void)dmu;
	return "as the test wants it";
}

static struct fake_answer *next_answer(void)
{
	if (fake.nr_answers == fake.answer_room) {
		fake.answer_room = 2 * fake.answer_room + 64;
		fake.answer = realloc(fake.answer, fake.answer_room *
						   sizeof(*fake.answer));
	}
	return &fake.answer[fake.nr_answers++];
}

int dmu_map(struct dmu *dmu, uint32_t id, const struct dmu_mapping *m)
{
	(void)dmu;
	if (fake.map_error)
		return fake.map_error;
	*next_answer() = (struct fake_answer) { .id = id, .m = *m };
	return 0;
}

bool dmu_has_runs(const struct dmu *dmu)
{
	(void)dmu;
	return fake.has_runs;
}

int dmu_push_run(struct dmu *dmu, const struct dmu_mapping *m, uint64_t count)
{
	(void)dmu;
	if (fake.map_error)
		return fake.map_error;
	if (fake.nr_pushed == fake.most_pushed)
		return -ENOMEM;
	fake.pushed[fake.nr_pushed++] = (struct fake_run){ *m, count };
	return 0;
}

int dmu_fail(struct dmu *dmu, uint32_t id)
{
	(void)dmu;
	*next_answer() = (struct fake_answer) { .id = id, .failed = true };
	return 0;
}

int dmu_sync_done(struct dmu *dmu, uint32_t id)
{
	(void)dmu;
	if (fake.sync_error)
		return fake.sync_error;
	if (fake.nr_acked == fake.acked_room) {
		fake.acked_room = 2 * fake.acked_room + 64;
		fake.acked = realloc(fake.acked, fake.acked_room *
						 sizeof(*fake.acked));
	}
	fake.acked[fake.nr_acked++] = id;
	return 0;
}

/* dmud */

static void __attribute__((format(printf, 2, 3)))
fake_log(int priority, const char *fmt, ...)
{
	va_list args;

	fake.logged[priority]++;
	va_start(args, fmt);
	vsnprintf(fake.last, sizeof(fake.last), fmt, args);
	va_end(args);
}

int fake_open(struct sim *s, struct dmud_env *env, const char *opt,
	      void **state)
{
	char path[96];
	char *opts[] = { path, (char *)opt, NULL };

	sim_select(s);
	if (s)
		snprintf(path, sizeof(path), "store-path=%s", s->path);
	memset(env, 0, sizeof(*env));
	env->name = "test";
	env->dmu = the_dmu;
	env->log = fake_log;
	*state = NULL;
	return dmud_policy.open(env, s ? opts : opts + 1, state);
}

void fake_close(void *state)
{
	dmud_policy.close(state);
	sim_select(NULL);
}

struct fake_answer fake_ask(void *state, uint32_t id, uint64_t block,
			    bool write)
{
	struct dmu_request req = { .id = id, .block = block, .write = write };

	dmud_policy.ops.map(the_dmu, &req, state);
	return fake.answer[fake.nr_answers - 1];
}

void fake_sync(void *state, uint32_t id, uint64_t block)
{
	dmud_policy.ops.sync(the_dmu, id, block, state);
}

void fake_batch(void *state)
{
	dmud_policy.ops.batch(the_dmu, state);
}
