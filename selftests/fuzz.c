// SPDX-License-Identifier: GPL-2.0-only
/*
 * A daemon that says everything the grammar allows, and much that it does not,
 * in any order, twice, and too late, while the device is read and written.
 *
 * Of most blocks it tells the truth all the same, and what they hold is known
 * at any time. To the others, and to places that nothing else has, it maps as it
 * pleases. Each write to the control device must be accepted as far as the
 * protocol says (lib/grammar.c), the kernel may only say what makes sense to
 * whoever knows what was said to it (lib/model.c), and nowhere may a byte change
 * that no message has named. All that is done by chance follows from a number,
 * which is printed:
 *
 *	DMT_SEED=n DMT_FUZZ_MESSAGES=n fuzz
 *
 * What is said depends on what was asked, too, and that comes in another order each
 * time. So there is a tape of all that was said and heard: /run/vm-out/fuzz.tape, or
 * DMT_TAPE. Where the test fails or the VM dies it is found below build/check. What is
 * on it can be said again, byte for byte, but for the numbers of devices and the ids
 * of requests, which are those of the new run, and at the same pace:
 *
 *	DMT_REPLAY=FILE selftests/check debug fuzz
 *
 * Nobody judges that: it is not what a truthful daemon would have said to this run. It
 * is for what the kernel complained of, or hung in.
 *
 * Truth has four forms, so that the kernel's part in each is seen:
 *
 *	PLAIN	a block has one place, and permissions, TEMPORARY and SYNC as
 *		chance has it
 *	COW	it lives on the origin until it is written, and is copied then,
 *		with and without SYNC; later it is brought back
 *	MOVE	it is invalidated, and when the kernel says that the place is
 *		free, carried to another one, which another block has just left,
 *		or which a daemon that died had lent to one
 *	PING	it is replaced, with a copy, from disk to disk, while it is in use
 *	THIN	as COW, but its origin is zeroes, to which it is brought back when
 *		that is what it holds
 *
 * There are stretches of one form, so that much can be said of several blocks at
 * once; and a part of the device that little I/O goes to, so that the kernel can make
 * one remap of what is said there.
 */
#define _GNU_SOURCE
#include "lib/brief.h"
#include "lib/fixture.h"
#include "lib/gate.h"
#include "lib/generator.h"
#include "lib/model.h"
#include "lib/sysfs.h"
#include "lib/truth.h"
#include "lib/vandals.h"
#include "lib/volley.h"
#include <err.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define NR_MESSAGES	60000u		/* or fewer, without DMT_FUZZ_MESSAGES */
#define SHORT_BY	4u		/* sectors that the last block lacks */
#define DISK_SECTORS	(DMT_WILD_AT + DMT_WILD_SECTORS)
#define CANARY		0xc5
#define PER_IO		50		/* messages */
#define ALL_OVER	300		/* s: when all is answered all I/O must end */
#define SLOWEST		150		/* messages a second; a debug kernel has 500 */
#define AT_MOST		4u		/* times as many messages, where I/O is slow */

/**
 * struct fuzz - what it has
 * @m: what it knows
 * @traffic: what it verifies
 * @gate: before each disk, so that I/O takes its time
 * @stranger: a disk that the table does not name
 * @name: of the device
 * @fd: the device
 * @seed: from which random numbers follow
 * @tape: one that is to be played, or NULL
 * @vandals: threads that do I/O to blocks which are not mapped truthfully
 * @w: what it writes; what is read lies before its cliff, too
 * @read: messages
 * @deaths: of open files
 */
struct fuzz {
	struct dmt_model m;
	struct dmt_traffic traffic;
	struct dmt_gate gate[DMT_NR_DISKS];
	struct dmt_disk stranger;
	char name[32];
	int fd;
	uint64_t seed;
	const char *tape;
	struct dmt_vandals vandals;
	struct dmt_writer w;
	uint64_t read;
	unsigned int deaths;
};

/* --- what is known ---------------------------------------------------------------------- */

static bool is_asked(void *arg, uint32_t id, uint64_t *block, bool *write)
{
	const struct dmt_asked *asked = dmt_model_asked(arg, id);

	if (!asked)
		return false;
	*block = asked->block;
	*write = asked->write;
	return true;
}

/* Is more being said than done? */
static bool ahead(struct fuzz *f)
{
	return f->w.sent > 1000 + (f->traffic.ios + f->vandals.done) * PER_IO;
}

/* --- reading -------------------------------------------------------------------------- */

#define SMALLEST_ROOM 28u /* each message fits in here */

static bool take_in(struct fuzz *f, int peer, const uint8_t *buf, size_t len)
{
	struct dmt_msg msg;
	size_t at, n;

	for (at = 0; at < len; at += n) {
		memset(&msg, 0, sizeof(msg));
		if (len - at >= sizeof(msg.header))
			memcpy(&msg, buf + at, sizeof(msg.header));
		n = sizeof(msg.header) + msg.header.payload_len;
		if (n > sizeof(msg) || n > len - at) {
			warnx("half a message was read");
			return false;
		}
		memcpy(&msg, buf + at, n);
		dmt_model_note(&f->m, peer, false, &msg);
		f->read++;
		if (!dmt_model_told(&f->m, peer, &msg))
			return false;
	}
	return true;
}

static ssize_t read_on_tape(struct fuzz *f, int peer, size_t room, size_t asked)
{
	ssize_t n = read(f->m.peers[peer].fd, f->w.cliff - room, asked);
	int error = errno;
	struct dmt_tape_note note = {
		.what = DMT_TAPE_READ, .peer = (uint32_t)peer,
		.asked = (uint32_t)asked, .room = (uint32_t)room,
		.len = n > 0 && (size_t)n <= room ? (uint32_t)n : 0,
	};

	dmt_tape_note(&f->w.tape, &note, f->w.cliff - room);
	errno = error;
	return n;
}

/* Read once, at times with too little room, or none at all. */
static bool listen_once(struct fuzz *f, int peer, bool *more)
{
	bool falls = once_in(&f->m, 50);
	size_t room = below(&f->m, 8) ? 4096 : below(&f->m, 200);
	ssize_t n = read_on_tape(f, peer, room, falls ? 2 * DMT_ROOM : room);

	*more = n > 0;
	if (n >= 0)
		return n > 0 && (size_t)n <= room ?
		       take_in(f, peer, f->w.cliff - room, (size_t)n) : !n;
	if (errno == EAGAIN || (errno == EFAULT && falls) ||
	    (errno == EINVAL && !falls && room < SMALLEST_ROOM))
		return true;
	warn("reading into %zu bytes%s", room, falls ? ", and what is not there" :
						       "");
	return false;
}

static bool listen_to_all(struct fuzz *f)
{
	unsigned int i, first = below(&f->m, DMT_PEERS);

	for (i = 0; i < DMT_PEERS; i++) {
		int peer = (int)((first + i) % DMT_PEERS);
		bool more;

		do {
			if (!listen_once(f, peer, &more))
				return false;
		} while (more && below(&f->m, 4));
	}
	return true;
}

/* --- the device ----------------------------------------------------------------------- */

/* It takes its time, so that much can happen meanwhile. */
static void lay_out(struct fuzz *f)
{
	static const unsigned int delays[DMT_NR_DISKS] = { 5, 40, 20 }; /* ms */
	struct dmt_model *m = &f->m;
	char name[64];
	unsigned int i;
	uint64_t s;

	m->world = (struct dmt_world){
		.sectors = DMT_NR_BLOCKS * DMT_SECTORS - SHORT_BY,
		.block = DMT_SECTORS,
		.nr_disks = DMT_NR_DISKS,
		.asked = is_asked,
		.arg = m,
	};
	for (i = 0; i < DMT_NR_DISKS; i++) {
		/* The device's logical blocks are those of the spare disk. */
		dmt_disk_open(&m->disk[i], DISK_SECTORS * 512,
			      i == DMT_SPARE_DISK ? 1024 : 0);
		m->world.disk[i] = &m->disk[i];
		m->world.lbs[i] = i == DMT_SPARE_DISK ? 2 : 1;
		snprintf(name, sizeof(name), "dmt%d-%u", getpid(), i);
		dmt_gate_make(&f->gate[i], name, &m->disk[i]);
		dmt_gate_delay(&f->gate[i], delays[i]);
		m->named[i] = calloc(DISK_SECTORS, 1);
		if (!m->named[i])
			errx(1, "no memory");
	}
	for (s = DMT_WILD_AT; s < DMT_WILD_AT + DMT_WILD_SECTORS; s++) {
		m->named[DMT_STORE_DISK][s] = DMT_FREE_FOR_ALL;
		m->named[DMT_SPARE_DISK][s] = DMT_FREE_FOR_ALL;
	}
	dmt_disk_open(&f->stranger, DISK_SECTORS * 512, 0);
	m->world.stranger = f->stranger.dev;
}

static void fill(const struct dmt_disk *disk, int byte)
{
	uint8_t buf[4096];
	uint64_t at;

	memset(buf, byte, sizeof(buf));
	for (at = 0; at < disk->bytes; at += sizeof(buf))
		if (pwrite(disk->fd, buf, disk->bytes - at < sizeof(buf) ?
			   disk->bytes - at : sizeof(buf), (off_t)at) < 0)
			err(1, "filling a disk");
}

static uint64_t excuse(struct dmt_traffic *traffic, uint32_t first,
		       uint32_t last)
{
	const uint32_t units = DMT_BLOCK / DMT_UNIT;
	struct dmt_model *m = traffic->arg;
	uint64_t sum = 0;
	uint32_t block;

	if (traffic->careless)
		return DMT_EXCUSED;
	for (block = first / units; block <= last / units; block++) {
		if (m->blocks[block].failing)
			return DMT_EXCUSED;
		sum += m->blocks[block].fails;
	}
	return sum;
}

static void map_cliff(struct fuzz *f)
{
	uint8_t *p = mmap(NULL, 4 * DMT_ROOM, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + 2 * DMT_ROOM, 2 * DMT_ROOM, PROT_NONE))
		err(1, "memory");
	f->w.cliff = p + 2 * DMT_ROOM;
}

static void make_device(struct fuzz *f)
{
	struct dmt_disk *disk = f->m.disk;
	char params[256];
	unsigned int i;

	snprintf(f->name, sizeof(f->name), "dmt%d", getpid());
	snprintf(params, sizeof(params), "%s %u %u:%u %u:%u %u:%u", f->name,
		 DMT_BLOCK, major(disk[0].dev), minor(disk[0].dev),
		 major(disk[1].dev), minor(disk[1].dev), major(disk[2].dev),
		 minor(disk[2].dev));
	if (dmt_dm_create(f->name) ||
	    dmt_dm_load(f->name, 0, f->m.world.sectors, "userspace", params) ||
	    dmt_dm_resume(f->name))
		errx(1, "cannot make the mapped device %s", f->name);
	f->fd = dmt_dm_open(f->name, O_RDWR | O_DIRECT);
	if (f->fd < 0)
		err(1, "%s", f->name);
	for (i = 0; i < DMT_PEERS; i++)
		f->m.peers[i].fd = dmt_control_open(f->name, O_NONBLOCK);
}

/* The device is read and written as it was then. */
static uint64_t seed_of(const char *tape)
{
	struct dmt_tape_head head;

	dmt_tape_head(tape, &head);
	ksft_print_msg("seed %" PRIu64 " of %s\n", head.seed, tape);
	return head.seed;
}

static void start_tape(struct fuzz *f)
{
	struct dmt_tape_head head = { .magic = DMT_TAPE_MAGIC, .seed = f->seed };
	unsigned int i;

	for (i = 0; i < DMT_NR_DISKS; i++)
		head.dev[i] = f->m.disk[i].dev;
	head.dev[i] = f->stranger.dev;
	dmt_tape_start(&f->w.tape, "fuzz.tape", &head);
}

FIXTURE(fuzz)
{
	struct fuzz *f;
};

FIXTURE_SETUP(fuzz)
{
	struct fuzz *f = calloc(1, sizeof(*f));
	unsigned int i;

	if (!f)
		errx(1, "no memory");
	self->f = f;
	f->tape = getenv("DMT_REPLAY");
	if (f->tape && !*f->tape)
		f->tape = NULL;
	f->w.m = &f->m;
	f->seed = f->tape ? seed_of(f->tape) : dmt_seed();
	f->m.random = f->seed;
	lay_out(f);
	for (i = 0; i < DMT_NR_DISKS; i++)
		fill(&f->m.disk[i], CANARY);
	fill(&f->stranger, CANARY);
	map_cliff(f);
	make_device(f);
	dmt_traffic_make(&f->traffic, f->fd, DMT_TRUE * DMT_BLOCK / DMT_UNIT);
	f->traffic.quiet = DMT_QUIET * DMT_BLOCK / DMT_UNIT;
	f->traffic.writers = 20;
	f->traffic.readers = 14;
	f->traffic.seed = f->seed;
	f->traffic.excuse = excuse;
	f->traffic.arg = &f->m;
	f->traffic.careless = f->tape;
	f->vandals = (struct dmt_vandals){
		.fd = f->fd, .first = DMT_TRUE * DMT_BLOCK / DMT_UNIT,
		.nr = DMT_WILD * DMT_BLOCK / DMT_UNIT, .seed = f->seed + 99,
		.stop = &f->traffic.stop,
	};
	f->m.traffic = &f->traffic;
	dmt_truth_settle(&f->m);
	f->w.tape.fd = -1;
	if (!f->tape)
		start_tape(f);
}

FIXTURE_TEARDOWN(fuzz)
{
	struct fuzz *f = self->f;
	unsigned int i;

	for (i = 0; i < DMT_PEERS; i++)
		close(f->m.peers[i].fd);
	/* Whatever a failed test left waiting. */
	dmt_dm_message(f->name, "error_if_no_daemon on");
	dmt_dm_message(f->name, "fail_waiting");
	close(f->fd);
	dmt_dm_remove(f->name);
	for (i = 0; i < DMT_NR_DISKS; i++) {
		dmt_gate_remove(&f->gate[i]);
		dmt_disk_close(&f->m.disk[i]);
	}
}

/* --- the end -------------------------------------------------------------------------- */

/* Answer what is asked, and acknowledge what is held. */
static bool serve_requests(struct fuzz *f)
{
	struct dmt_asked asked[DMT_MAX_ASKED];
	unsigned int i, nr = f->m.nr_asked;
	struct dmt_msg msg;

	memcpy(asked, f->m.asked, nr * sizeof(*asked));
	for (i = 0; i < nr; i++) {
		struct dmt_mapping r = {
			.block = asked[i].block, .id = asked[i].id,
		};

		dmt_speak_as(&f->m, 0);
		if (asked[i].peer < 0 ||
		    !dmt_answer_truly(&f->m, &r, asked[i].write) ||
		    !dmt_make_mapping(&f->m, &msg, &r))
			continue;
		if (!dmt_say(&f->w, 0, &msg))
			return false;
	}
	return true;
}

static bool serve_names(struct fuzz *f)
{
	struct dmt_msg msg;
	unsigned int i;

	for (i = 0; i < f->m.nr_names;) {
		const struct dmt_name *name = &f->m.names[i];
		struct dmu_msg_status s = {
			.id_of_op = name->id,
			.status = DM_USERSPACE_SYNC_COMPLETE,
		};

		if (dmt_on_its_way(&f->m, name)) {
			i++;
			continue;
		}
		dmt_make(&msg, DM_USERSPACE_STATUS, s.id_of_op, &s, sizeof(s));
		if (!dmt_say(&f->w, 0, &msg))
			return false;
	}
	return true;
}

static bool invalidate(struct fuzz *f, uint64_t block)
{
	struct dmu_msg_invalidate_map i = { .org_block = block };
	struct dmt_msg msg;

	dmt_make(&msg, DM_USERSPACE_MAP_INVALIDATE, (uint32_t)block, &i,
		 sizeof(i));
	return dmt_say(&f->w, 0, &msg);
}

/* Its verdict went to a file that is closed. */
static bool serve_leaving(struct fuzz *f)
{
	unsigned int block, i;

	for (block = 0; block < DMT_TRUE; block++) {
		if (!f->m.blocks[block].leaving)
			continue;
		for (i = 0; i < f->m.nr_verdicts; i++)
			if (f->m.verdicts[i].block == block)
				break;
		if (i == f->m.nr_verdicts && !invalidate(f, block))
			return false;
	}
	return true;
}

/* Serve honestly until that many threads have ended, and verdicts have come. */
static bool serve_until(struct fuzz *f, atomic_uint *running)
{
	struct pollfd pfd[DMT_PEERS];
	struct timespec begun, now;
	unsigned int i;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	do {
		if (!listen_to_all(f) || !serve_leaving(f) ||
		    !serve_requests(f) || !serve_names(f))
			return false;
		if (!atomic_load(running) && !f->m.nr_verdicts)
			return true;
		for (i = 0; i < DMT_PEERS; i++)
			pfd[i] = (struct pollfd){ .fd = f->m.peers[i].fd,
						  .events = POLLIN };
		poll(pfd, DMT_PEERS, 10);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - begun.tv_sec < ALL_OVER);
	warnx("all is answered, and yet %u threads wait, and %u verdicts have not come",
	      atomic_load(running), f->m.nr_verdicts);
	return false;
}

static void *read_all(void *arg)
{
	struct fuzz *f = arg;

	dmt_traffic_read(&f->traffic);
	atomic_fetch_sub(&f->traffic.running, 1);
	return NULL;
}

static bool untouched(const struct dmt_disk *disk, uint64_t sector, int byte)
{
	uint8_t buf[512];
	unsigned int i;

	if (pread(disk->fd, buf, sizeof(buf), (off_t)sector * 512) !=
	    sizeof(buf))
		err(1, "looking at a disk");
	for (i = 0; i < sizeof(buf); i++) {
		if (buf[i] == byte)
			continue;
		warnx("sector %" PRIu64 " of %s was written to, and never named",
		      sector, disk->name);
		return false;
	}
	return true;
}

static bool canaries_live(struct fuzz *f)
{
	uint64_t sector;
	unsigned int i;

	for (sector = 0; sector < DISK_SECTORS; sector++) {
		for (i = 0; i < DMT_NR_DISKS; i++)
			if (!dmt_truth_home(&f->m, i, sector) &&
			    !untouched(&f->m.disk[i], sector, CANARY))
				return false;
		if (!untouched(&f->stranger, sector, CANARY))
			return false;
	}
	return true;
}

/* --- the test ------------------------------------------------------------------------- */

static void note(struct fuzz *f, enum dmt_tape_what what, int peer)
{
	struct dmt_tape_note n = { .what = what, .peer = (uint32_t)peer };

	dmt_tape_note(&f->w.tape, &n, NULL);
}

static void die_sometimes(struct fuzz *f)
{
	int peer = (int)below(&f->m, DMT_PEERS);

	if (!once_in(&f->m, 100))
		return;
	note(f, DMT_TAPE_CLOSE, peer);
	close(f->m.peers[peer].fd);
	f->m.peers[peer].fd = dmt_control_open(f->name, O_NONBLOCK);
	dmt_model_died(&f->m, peer);
	f->deaths++;
}

/* Wait for something to answer, where the device is not as busy as it can be. */
static void keep_step(struct fuzz *f)
{
	struct pollfd pfd[DMT_PEERS];
	unsigned int i;

	if (!ahead(f))
		return;
	for (i = 0; i < DMT_PEERS; i++)
		pfd[i] = (struct pollfd){ .fd = f->m.peers[i].fd,
					  .events = POLLIN };
	poll(pfd, DMT_PEERS, 1);
}

/* Nobody but the daemon ends a request that it has read. */
static bool all_is_asked(struct fuzz *f)
{
	uint64_t sent = dmt_counter(f->name, DMT_SENT);
	unsigned int i, nr = 0;

	for (i = 0; i < f->m.nr_asked; i++)
		nr += f->m.asked[i].peer >= 0;
	if (sent == nr)
		return true;
	warnx("of %u requests that it has read, and not answered, %" PRIu64 " wait for it",
	      nr, sent);
	return false;
}

static bool fuzz(struct fuzz *f, uint64_t nr)
{
	while (f->w.sent < nr && !atomic_load(&f->traffic.wrong)) {
		int peer = (int)below(&f->m, DMT_PEERS);

		keep_step(f);
		if (!listen_to_all(f))
			return false;
		dmt_volley_make(&f->w, peer, ahead(f));
		if (!dmt_volley_write(&f->w, peer))
			return false;
		if ((f->w.volley.doubtful || once_in(&f->m, 16)) && !all_is_asked(f))
			return false;
		die_sometimes(f);
		if (once_in(&f->m, 100)) {
			note(f, DMT_TAPE_DROP, 0);
			dmt_dm_message(f->name, "drop_idle");
		}
	}
	return !atomic_load(&f->traffic.wrong);
}

/* Else @nr messages have tested nothing. */
static bool had_load(struct fuzz *f, uint64_t nr)
{
	return f->traffic.ios > nr / 400 && f->vandals.done > nr / 1000 &&
	       f->w.runs > nr / 100 && f->w.parts > nr / 4000;
}

/* Until that many have been sent, with all that there should be beside them. */
static bool fuzz_under_load(struct fuzz *f, uint64_t nr)
{
	bool ok;

	do {
		ok = fuzz(f, f->w.sent < nr ? nr : f->w.sent + 1 + nr / 100);
	} while (ok && !had_load(f, nr) && f->w.sent < nr * AT_MOST);
	return ok;
}

/* So that it can say all that there is. */
static bool ask_for_runs(struct fuzz *f)
{
	struct dmu_msg_extensions want = { .bits = DMU_EXT_RUNS };
	struct dmt_msg msg;

	dmt_make(&msg, DM_USERSPACE_EXTENSIONS, 1, &want, sizeof(want));
	return dmt_say(&f->w, 0, &msg);
}

/* Not more at a time than can be remembered. */
static bool invalidate_all(struct fuzz *f)
{
	atomic_uint nobody = 0;
	uint64_t block;

	for (block = 0; block < DMT_NR_BLOCKS; block++)
		if (!invalidate(f, block) ||
		    (block % 64 == 63 && !serve_until(f, &nobody)))
			return false;
	return true;
}

/* Whatever is mapped, or has to be asked for, is where it should be. */
static bool read_back(struct fuzz *f)
{
	pthread_t thread;

	f->traffic.running = 1;
	if (pthread_create(&thread, NULL, read_all, f))
		errx(1, "no thread");
	if (!serve_until(f, &f->traffic.running))
		return false;
	pthread_join(thread, NULL);
	return !f->traffic.wrong;
}

static bool finish(struct fuzz *f)
{
	dmt_traffic_stop(&f->traffic);
	if (!ask_for_runs(f) || !serve_until(f, &f->traffic.running) ||
	    !serve_until(f, &f->vandals.running))
		return false;
	dmt_vandals_join(&f->vandals);
	dmt_traffic_join(&f->traffic);
	/* What has no writes to wait for can be mapped at once. */
	return fuzz(f, f->w.sent + f->w.sent / 8) && ask_for_runs(f) &&
	       read_back(f) && invalidate_all(f) && read_back(f);
}

/* A test that has failed must not leave threads waiting for ever. */
static void give_up(struct fuzz *f)
{
	unsigned int i;

	dmt_traffic_stop(&f->traffic);
	for (i = 0; i < DMT_PEERS; i++)
		close(f->m.peers[i].fd);
	dmt_dm_message(f->name, "error_if_no_daemon on");
	while (f->traffic.running || f->vandals.running) {
		dmt_dm_message(f->name, "fail_waiting");
		poll(NULL, 0, 10);
	}
}

static bool is_idle(struct fuzz *f)
{
	return !dmt_counter(f->name, DMT_WAITING) &&
	       !dmt_counter(f->name, DMT_SENT) &&
	       !dmt_counter(f->name, DMT_COPIES);
}

/* The device has nothing left to do. */
static bool at_rest(struct fuzz *f)
{
	unsigned int i;

	for (i = 0; i < DMT_PEERS; i++)
		if (f->m.peers[i].nr || !dmt_silent(f->m.peers[i].fd))
			return false;
	return is_idle(f);
}

/* Say it all again, and let all I/O end then, be it in vain. */
static void replay(struct fuzz *f)
{
	struct dmt_player player = { .name = f->name, .nr_fds = DMT_PEERS,
				     .cliff = f->w.cliff };
	unsigned int i;

	for (i = 0; i < DMT_PEERS; i++)
		player.fd[i] = &f->m.peers[i].fd;
	for (i = 0; i < DMT_NR_DISKS; i++)
		player.dev[i] = f->m.disk[i].dev;
	player.dev[i] = f->stranger.dev;
	dmt_tape_play(f->tape, &player);
	give_up(f);
	ksft_print_msg("%" PRIu64 " notes; %" PRIu64 " of %" PRIu64 " bytes were accepted; %"
		       PRIu64 " I/Os, %" PRIu64 " failed\n", player.done,
		       player.taken, player.sent, f->traffic.ios,
		       f->traffic.excused);
}

TEST_F_TIMEOUT(fuzz, nothing_that_is_said_does_any_harm, 900)
{
	uint64_t nr = dmt_number("DMT_FUZZ_MESSAGES", dmt_often(NR_MESSAGES));
	struct fuzz *f = self->f;
	uint32_t block;
	bool ok;

	dmt_traffic_start(&f->traffic);
	dmt_vandals_start(&f->vandals);
	if (f->tape) {
		replay(f);
		EXPECT_TRUE(is_idle(f));
		return;
	}
	ok = fuzz_under_load(f, nr) && finish(f);
	ksft_print_msg("%" PRIu64 " messages, %" PRIu64 " of them to be accepted, %"
		       PRIu64 " runs, and %" PRIu64 " in part; %" PRIu64 " read; %u deaths; %"
		       PRIu64 " I/Os verified, %" PRIu64 " failed by request, %u others\n",
		       f->w.sent, f->w.taken, f->w.runs, f->w.parts, f->read, f->deaths,
		       f->traffic.ios, f->traffic.excused, f->vandals.done);
	if (!ok) {
		dmt_model_tell_story(&f->m, !f->traffic.wrong ? f->m.blame :
				     f->traffic.wrong_unit * DMT_UNIT /
				     DMT_BLOCK);
		give_up(f);
	}
	ASSERT_TRUE(ok);
	EXPECT_TRUE(at_rest(f));
	for (block = 0; block < DMT_TRUE; block++)
		EXPECT_TRUE(dmt_truth_holds(&f->m, block));
	EXPECT_TRUE(canaries_live(f));
	EXPECT_TRUE(had_load(f, nr));
	dmt_tape_end(&f->w.tape, _metadata->exit_code);
}

int main(int argc, char **argv)
{
	dmt_extend_limits(1, dmt_number("DMT_FUZZ_MESSAGES", 0) / SLOWEST);
	return test_harness_run(argc, argv);
}
