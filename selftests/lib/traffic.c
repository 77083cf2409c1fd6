// SPDX-License-Identifier: GPL-2.0-only
/* Threads that read and write, and know what they may find. */
#define _GNU_SOURCE
#include "traffic.h"
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MAGIC	0x7d3a0000u
#define MAX_NR	12u /* units of one I/O */

/* --- random numbers ------------------------------------------------------------------- */

/* The next of a row that its state alone decides. */
uint64_t dmt_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* One that is less than @limit, which is not 0. */
uint32_t dmt_below(uint64_t *state, uint32_t limit)
{
	return (uint32_t)((dmt_random(state) >> 32) * limit >> 32);
}

/* --- what a unit holds ---------------------------------------------------------------- */

struct words {
	uint32_t unit;
	uint32_t magic;
	uint64_t version;
	uint64_t rest[DMT_UNIT / 8 - 2];
};

/* The version of a unit, as it is on disk. */
void dmt_unit_fill(void *buf, uint32_t unit, uint32_t version)
{
	struct words *w = buf;
	uint64_t x = (uint64_t)unit << 32 | version;
	unsigned int i;

	memset(buf, 0, DMT_UNIT);
	if (version % DMT_ZEROES == 0)
		return;
	w->unit = unit;
	w->magic = MAGIC;
	w->version = version;
	x = dmt_random(&x);
	for (i = 0; i < DMT_UNIT / 8 - 2; i++)
		w->rest[i] = x += 0x9e3779b97f4a7c15ull;
}

/* Write a version of some units into a file, from @offset on. */
void dmt_units_fill(int fd, uint64_t offset, uint32_t unit, uint32_t nr,
		    uint32_t version)
{
	uint64_t buf[DMT_UNIT / 8];
	uint32_t i;

	for (i = 0; i < nr; i++) {
		dmt_unit_fill(buf, unit + i, version);
		if (pwrite(fd, buf, DMT_UNIT,
			   (off_t)(offset + (uint64_t)i * DMT_UNIT)) != DMT_UNIT)
			err(1, "filling a disk");
	}
}

/* Is this a version of the unit from @from to @to? */
static bool unit_is(const void *buf, uint32_t unit, uint32_t from, uint32_t to)
{
	struct words w;
	uint64_t want[DMT_UNIT / 8];

	memcpy(&w, buf, sizeof(w));
	if (!w.magic) {
		w.version = (from + DMT_ZEROES - 1) / DMT_ZEROES * DMT_ZEROES;
		w.unit = unit;
	}
	if (w.unit != unit || w.version < from || w.version > to)
		return false;
	dmt_unit_fill(want, unit, (uint32_t)w.version);
	return !memcmp(want, buf, DMT_UNIT);
}

static pthread_mutex_t complaints = PTHREAD_MUTEX_INITIALIZER;

/* The first one prints what is wrong before anybody hears of it. */
static bool complain_begin(struct dmt_traffic *traffic, uint32_t unit)
{
	pthread_mutex_lock(&complaints);
	if (!traffic->wrong)
		traffic->wrong_unit = unit;
	return !traffic->wrong;
}

static void complain_end(struct dmt_traffic *traffic)
{
	traffic->wrong++;
	pthread_mutex_unlock(&complaints);
}

/* Tell what was found instead. */
static void unit_tell(const void *buf, uint32_t unit, uint32_t from,
		      uint32_t to)
{
	struct words w;

	memcpy(&w, buf, sizeof(w));
	fprintf(stderr, "# unit %u must be of version %u to %u; it has ", unit,
		from, to);
	if (w.magic == MAGIC && w.version <= UINT32_MAX)
		fprintf(stderr, "version %" PRIu64 " of unit %u%s\n", w.version,
			w.unit, unit_is(buf, w.unit, (uint32_t)w.version,
					(uint32_t)w.version) ? "" : ", in part");
	else if (!w.magic)
		fprintf(stderr, "zeroes\n");
	else
		fprintf(stderr, "%016" PRIx64 "...\n", w.version);
}

static void unit_complain(struct dmt_traffic *traffic, const void *buf,
			  uint32_t unit, uint32_t from, uint32_t to)
{
	if (complain_begin(traffic, unit))
		unit_tell(buf, unit, from, to);
	complain_end(traffic);
}

/* --- one I/O -------------------------------------------------------------------------- */

struct trip {
	uint32_t unit;
	uint32_t nr;
	uint32_t version; /* of a write */
	uint32_t from[MAX_NR]; /* of a read */
	uint32_t vague[MAX_NR]; /* likewise */
	void *buf;
	uint64_t excuse;
};

static uint64_t excuse_of(struct dmt_traffic *traffic, const struct trip *trip)
{
	if (!traffic->excuse)
		return 0;
	return traffic->excuse(traffic, trip->unit, trip->unit + trip->nr - 1);
}

/* Mostly within a block, or a whole one; sometimes across several. */
static void trip_choose(struct dmt_rider *rider, struct trip *trip)
{
	const uint32_t units = DMT_BLOCK / DMT_UNIT;
	uint32_t range = rider->last - rider->first + 1;
	uint32_t how = dmt_below(&rider->random, 8);

	trip->unit = rider->first + dmt_below(&rider->random, range);
	trip->nr = 1;
	if (how < 3)
		return;
	if (how < 6) {
		trip->unit = trip->unit / units * units;
		trip->nr = units;
	} else {
		trip->nr = 1 + dmt_below(&rider->random, MAX_NR);
	}
	if (trip->unit < rider->first)
		trip->unit = rider->first;
	if (trip->nr > rider->last - trip->unit + 1)
		trip->nr = rider->last - trip->unit + 1;
}

static void note_failure(struct dmt_traffic *traffic, const struct trip *trip,
			 const char *what)
{
	uint64_t excuse = excuse_of(traffic, trip);
	int error = errno;

	if (excuse != trip->excuse || excuse == DMT_EXCUSED) {
		atomic_fetch_add(&traffic->excused, 1);
		/* While all fails, nothing is gained by failing faster. */
		if (excuse == DMT_EXCUSED)
			poll(NULL, 0, 2);
		return;
	}
	if (complain_begin(traffic, trip->unit))
		fprintf(stderr, "# %s %u units from %u: %s\n", what, trip->nr,
			trip->unit, strerror(error));
	complain_end(traffic);
}

static bool write_units(struct dmt_traffic *traffic, const struct trip *trip)
{
	uint64_t at = (uint64_t)trip->unit * DMT_UNIT;
	uint64_t range[2] = { at, (uint64_t)trip->nr * DMT_UNIT };
	uint32_t i;

	if (trip->version % DMT_ZEROES == 0)
		return !ioctl(traffic->fd, BLKZEROOUT, range);
	for (i = 0; i < trip->nr; i++)
		dmt_unit_fill((char *)trip->buf + i * DMT_UNIT, trip->unit + i,
			      trip->version);
	return pwrite(traffic->fd, trip->buf, range[1], (off_t)at) ==
	       (ssize_t)range[1];
}

static void trip_write(struct dmt_rider *rider, struct trip *trip)
{
	struct dmt_traffic *traffic = rider->traffic;
	struct dmt_unit *unit = traffic->unit + trip->unit;
	uint32_t i;

	trip->version = ++rider->version;
	for (i = 0; i < trip->nr; i++)
		atomic_store(&unit[i].begun, trip->version);
	trip->excuse = excuse_of(traffic, trip);
	if (!write_units(traffic, trip)) {
		note_failure(traffic, trip, "writing");
		return;
	}
	for (i = 0; i < trip->nr; i++) {
		atomic_store(&unit[i].done, trip->version);
		/* It has one writer: nobody else changes this. */
		if (unit[i].vague % 2)
			atomic_fetch_add(&unit[i].vague, 1);
	}
	atomic_fetch_add(&traffic->ios, 1);
}

/* Whole blocks, so that it is the daemon's business. */
static void trip_discard(struct dmt_rider *rider, struct trip *trip)
{
	struct dmt_traffic *traffic = rider->traffic;
	const uint32_t units = DMT_BLOCK / DMT_UNIT;
	uint32_t first = (trip->unit + units - 1) / units * units;
	uint64_t range[2] = { (uint64_t)first * DMT_UNIT };
	uint32_t i;

	trip->unit = first;
	trip->nr = (1 + dmt_below(&rider->random, MAX_NR / units)) * units;
	if (first + trip->nr - 1 > rider->last)
		return;
	range[1] = (uint64_t)trip->nr * DMT_UNIT;
	for (i = 0; i < trip->nr; i++)
		if (traffic->unit[first + i].vague % 2 == 0)
			atomic_fetch_add(&traffic->unit[first + i].vague, 1);
	trip->excuse = excuse_of(traffic, trip);
	if (ioctl(traffic->fd, BLKDISCARD, range))
		note_failure(traffic, trip, "discarding");
	else
		atomic_fetch_add(&traffic->ios, 1);
}

static bool to_be_discarded(struct dmt_rider *rider)
{
	unsigned int times = rider->traffic->discards;

	return times && !dmt_below(&rider->random, times);
}

/* Has it been something that is known, all the while since @vague was looked up? */
static bool unit_known(struct dmt_unit *unit, uint32_t vague)
{
	return vague % 2 == 0 && atomic_load(&unit->vague) == vague;
}

static void trip_read(struct dmt_rider *rider, struct trip *trip)
{
	struct dmt_traffic *traffic = rider->traffic;
	struct dmt_unit *unit = traffic->unit + trip->unit;
	size_t len = (size_t)trip->nr * DMT_UNIT;
	uint32_t i, to;

	for (i = 0; i < trip->nr; i++) {
		trip->vague[i] = atomic_load(&unit[i].vague);
		trip->from[i] = atomic_load(&unit[i].done);
	}
	trip->excuse = excuse_of(traffic, trip);
	if (pread(traffic->fd, trip->buf, len,
		  (off_t)trip->unit * DMT_UNIT) != (ssize_t)len) {
		note_failure(traffic, trip, "reading");
		return;
	}
	for (i = 0; i < trip->nr && !traffic->careless; i++) {
		const char *buf = (char *)trip->buf + i * DMT_UNIT;

		to = atomic_load(&unit[i].begun);
		if (!unit_known(&unit[i], trip->vague[i]))
			continue;
		if (!unit_is(buf, trip->unit + i, trip->from[i], to)) {
			unit_complain(traffic, buf, trip->unit + i,
				      trip->from[i], to);
			return;
		}
	}
	atomic_fetch_add(&traffic->ios, 1);
}

static void *ride(void *arg)
{
	struct dmt_rider *rider = arg;
	struct dmt_traffic *traffic = rider->traffic;
	struct trip trip;

	if (posix_memalign(&trip.buf, 4096, MAX_NR * DMT_UNIT))
		errx(1, "no memory");
	while (!atomic_load(&traffic->stop) && !atomic_load(&traffic->wrong)) {
		trip_choose(rider, &trip);
		if (rider->writes && to_be_discarded(rider))
			trip_discard(rider, &trip);
		else if (rider->writes)
			trip_write(rider, &trip);
		else
			trip_read(rider, &trip);
		if (rider->writes && rider->version % 64 == 63)
			fdatasync(traffic->fd);
	}
	free(trip.buf);
	atomic_fetch_sub(&traffic->running, 1);
	return NULL;
}

/* --- all of it ------------------------------------------------------------------------ */

/**
 * dmt_traffic_make() - get to know a device that is all zero
 * @traffic: gets it; the caller fills in who is to read and write
 * @fd: the device, O_DIRECT
 * @nr_units: from its first byte on, that nobody else writes to
 */
void dmt_traffic_make(struct dmt_traffic *traffic, int fd, uint32_t nr_units)
{
	memset(traffic, 0, sizeof(*traffic));
	traffic->fd = fd;
	traffic->nr_units = nr_units;
	traffic->unit = calloc(nr_units, sizeof(*traffic->unit));
	if (!traffic->unit)
		errx(1, "no memory");
}

/* Some units hold that version already; before it starts. */
void dmt_traffic_holds(struct dmt_traffic *traffic, uint32_t unit, uint32_t nr,
		       uint32_t version)
{
	for (; nr--; unit++) {
		traffic->unit[unit].done = version;
		traffic->unit[unit].begun = version;
	}
}

/* The part of [first, last) that is the i-th's of nr. */
static void rider_settle(struct dmt_rider *rider, uint32_t first, uint32_t end,
			 uint32_t i, uint32_t nr)
{
	rider->first = first + i * (end - first) / nr;
	rider->last = first + (i + 1) * (end - first) / nr - 1;
}

/* A unit has one writer. Readers go anywhere, but for what is quiet. */
static void rider_place(struct dmt_rider *rider, unsigned int i)
{
	const struct dmt_traffic *traffic = rider->traffic;
	unsigned int aside = traffic->quiet ? DMT_LOITERERS : 0;
	unsigned int own = rider->writes ? i : i - traffic->writers;
	bool loiters = own < aside;
	uint32_t first = loiters ? 0 : traffic->quiet;
	uint32_t end = loiters ? traffic->quiet : traffic->nr_units;

	if (!rider->writes)
		rider_settle(rider, first, end, 0, 1);
	else if (loiters)
		rider_settle(rider, first, end, own, aside);
	else
		rider_settle(rider, first, end, own - aside,
			     traffic->writers - aside);
}

/**
 * dmt_traffic_start() - begin
 * @traffic: made; @writers and @readers say how many threads there are to be
 */
void dmt_traffic_start(struct dmt_traffic *traffic)
{
	unsigned int i, nr = traffic->writers + traffic->readers;

	if (nr > DMT_MAX_THREADS)
		errx(1, "so many threads are not foreseen");
	traffic->running = nr;
	traffic->started = nr;
	for (i = 0; i < nr; i++) {
		struct dmt_rider *rider = &traffic->rider[i];

		rider->traffic = traffic;
		rider->random = traffic->seed + i * 7919;
		rider->writes = i < traffic->writers;
		/* Versions of what is there already are lower. */
		rider->version = rider->version ?: 1;
		rider_place(rider, i);
		if (pthread_create(&rider->thread, NULL, ride, rider))
			errx(1, "no thread");
	}
}

/* No I/O is begun any more: when @traffic->running is 0 the last is over. */
void dmt_traffic_stop(struct dmt_traffic *traffic)
{
	atomic_store(&traffic->stop, true);
}

/* Wait for the last of its I/O, however long that takes. It may start again. */
void dmt_traffic_join(struct dmt_traffic *traffic)
{
	unsigned int i;

	for (i = 0; i < traffic->started; i++)
		pthread_join(traffic->rider[i].thread, NULL);
	traffic->started = 0;
	atomic_store(&traffic->stop, false);
}

/* Do these bytes hold what the units should? Nothing is being written. */
bool dmt_traffic_has(struct dmt_traffic *traffic, const void *buf, uint32_t unit,
		     uint32_t nr)
{
	const char *p = buf;
	uint32_t i;

	for (i = unit; i < unit + nr; i++, p += DMT_UNIT) {
		uint32_t from = traffic->unit[i].done;
		uint32_t to = traffic->unit[i].begun;

		if (traffic->unit[i].vague % 2)
			continue;
		if (!unit_is(p, i, from, to)) {
			unit_complain(traffic, p, i, from, to);
			return false;
		}
	}
	return true;
}

#define READ_AT_ONCE 64u /* units */

/* Read all of it once. Nothing is being written. */
bool dmt_traffic_read(struct dmt_traffic *traffic)
{
	uint32_t unit, nr;
	bool ok = true;
	void *buf;

	if (posix_memalign(&buf, 4096, READ_AT_ONCE * DMT_UNIT))
		errx(1, "no memory");
	for (unit = 0; unit < traffic->nr_units && ok; unit += nr) {
		nr = traffic->nr_units - unit;
		nr = nr < READ_AT_ONCE ? nr : READ_AT_ONCE;
		ok = pread(traffic->fd, buf, nr * DMT_UNIT,
			   (off_t)unit * DMT_UNIT) == (ssize_t)nr * DMT_UNIT;
		if (!ok)
			warn("reading units from %u on", unit);
		ok = ok && dmt_traffic_has(traffic, buf, unit, nr);
	}
	free(buf);
	return ok;
}

void dmt_traffic_free(struct dmt_traffic *traffic)
{
	free(traffic->unit);
	traffic->unit = NULL;
}
