// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tapes that are played. The bytes are those on the tape, and so is their order, but
 * for numbers that each run has of its own: those of devices, and the ids of requests.
 * The n-th request for a block is taken for the n-th that there was, and what was said
 * of the one is said of the other.
 */
#define _GNU_SOURCE
#include "dmt.h"
#include "tape.h"
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MAX_BLOCKS	(1u << 14)
#define PATIENCE	20 /* ms; for what was there to be read, then */

/* Ids of requests for a block, in the order in which they were made. */
struct ids {
	unsigned int nr;
	unsigned int room;
	uint32_t *id;
};

/* Which of the requests for which block an id stands for. */
struct meaning {
	uint32_t block;
	uint32_t nth; /* from 1 on; 0: none that is known */
};

/**
 * struct run - the requests of a run
 * @ids: by block
 * @meaning: by id
 * @nr: of these
 */
struct run {
	struct ids ids[MAX_BLOCKS];
	struct meaning *meaning;
	uint32_t nr;
};

struct play {
	struct dmt_player *player;
	struct dmt_tape_head head;
	struct run then;
	struct run now;
	uint32_t begun;
	uint8_t *bytes;
};

/* --- what was asked ----------------------------------------------------------------- */

static void *grow(void *p, size_t nr, size_t size)
{
	p = reallocarray(p, nr, size);
	if (!p)
		errx(1, "no memory");
	return p;
}

static void learn(struct run *run, uint32_t id, uint64_t block)
{
	struct ids *ids;

	if (block >= MAX_BLOCKS || id > 1u << 24)
		return;
	if (id >= run->nr) {
		run->meaning = grow(run->meaning, 2 * (id + 1),
				    sizeof(*run->meaning));
		memset(run->meaning + run->nr, 0,
		       (2 * (id + 1) - run->nr) * sizeof(*run->meaning));
		run->nr = 2 * (id + 1);
	}
	/* It may be told of again, after a death. */
	if (run->meaning[id].nth)
		return;
	ids = &run->ids[block];
	if (ids->nr == ids->room) {
		ids->room = 2 * ids->room + 4;
		ids->id = grow(ids->id, ids->room, sizeof(*ids->id));
	}
	ids->id[ids->nr++] = id;
	run->meaning[id] = (struct meaning){ (uint32_t)block, ids->nr };
}

static void learn_from(struct run *run, const uint8_t *bytes, size_t len)
{
	struct dmu_msg_run_request r;
	struct dmt_msg msg;
	size_t at, n;
	uint32_t i;

	for (at = 0; len - at >= sizeof(msg.header); at += n) {
		memcpy(&msg.header, bytes + at, sizeof(msg.header));
		n = sizeof(msg.header) + msg.header.payload_len;
		if (n > sizeof(msg) || n > len - at)
			return;
		memcpy(&msg, bytes + at, n);
		if (msg.header.msg_type == DM_USERSPACE_MAP_BLOCK_REQ)
			learn(run, msg.header.id, msg.request.org_block);
		if (msg.header.msg_type != DM_USERSPACE_MAP_RUN_REQ)
			continue;
		memcpy(&r, msg.bytes, sizeof(r));
		for (i = 0; i < r.count; i++)
			learn(run, msg.header.id + i, r.block + i);
	}
}

/* --- numbers that are this run's own -------------------------------------------------- */

static void exchange_id(const struct play *play, uint32_t *id)
{
	const struct meaning *m;
	const struct ids *ids;

	if (*id >= play->then.nr)
		return;
	m = &play->then.meaning[*id];
	ids = &play->now.ids[m->block];
	if (m->nth && m->nth <= ids->nr)
		*id = ids->id[m->nth - 1];
}

static void exchange_dev(const struct play *play, uint32_t *maj, uint32_t *min)
{
	dev_t dev = makedev(*maj, *min);
	unsigned int i;

	for (i = 0; i < DMT_TAPE_DEVS; i++) {
		if (!dev || dev != play->head.dev[i])
			continue;
		*maj = major(play->player->dev[i]);
		*min = minor(play->player->dev[i]);
		return;
	}
}

static void exchange_in(const struct play *play, struct dmt_msg *msg)
{
	struct dmu_msg_map_response r;
	struct dmu_msg_run_response run;
	uint32_t id;

	switch (msg->header.msg_type) {
	case DM_USERSPACE_STATUS:
		id = msg->status.id_of_op;
		exchange_id(play, &id);
		/* A bad message stays one. */
		if (msg->header.id == msg->status.id_of_op)
			msg->header.id = id;
		msg->status.id_of_op = id;
		break;
	case DM_USERSPACE_MAP_BLOCK_RESP:
	case DM_USERSPACE_MAP_FAILED:
		memcpy(&r, msg->bytes, sizeof(r));
		exchange_id(play, &r.id_of_req);
		exchange_dev(play, &r.dst_maj, &r.dst_min);
		exchange_dev(play, &r.src_maj, &r.src_min);
		memcpy(msg->bytes, &r, sizeof(r));
		break;
	case DM_USERSPACE_MAP_RUN_RESP:
		memcpy(&run, msg->bytes, sizeof(run));
		exchange_id(play, &run.id_of_req);
		exchange_dev(play, &run.dst_maj, &run.dst_min);
		exchange_dev(play, &run.src_maj, &run.src_min);
		memcpy(msg->bytes, &run, sizeof(run));
		break;
	}
}

/* In all whole messages, up to one whose length makes no sense. */
static void exchange(const struct play *play, uint8_t *bytes, size_t len)
{
	struct dmt_msg msg;
	size_t at, n;

	for (at = 0; len - at >= sizeof(msg.header); at += n) {
		memcpy(&msg.header, bytes + at, sizeof(msg.header));
		n = sizeof(msg.header) + msg.header.payload_len;
		if (n > sizeof(msg) || n > len - at)
			return;
		memset(&msg, 0, sizeof(msg));
		memcpy(&msg, bytes + at, n);
		exchange_in(play, &msg);
		memcpy(bytes + at, &msg, n);
	}
}

/* --- doing it ------------------------------------------------------------------------- */

static void play_write(struct play *play, int fd, const struct dmt_tape_note *note)
{
	struct dmt_player *player = play->player;
	uint8_t *at = player->cliff - note->room;
	ssize_t n;

	memcpy(at, play->bytes, note->len);
	exchange(play, at, note->len);
	n = write(fd, at, note->asked);
	player->sent += note->asked;
	player->taken += n > 0 ? (uint64_t)n : 0;
}

/* What was there to be read may take a little longer to come. */
static void play_read(struct play *play, int fd, const struct dmt_tape_note *note)
{
	uint8_t *at = play->player->cliff - note->room;
	ssize_t n;

	learn_from(&play->then, play->bytes, note->len);
	if (note->len)
		dmt_readable(fd, PATIENCE);
	n = read(fd, at, note->asked);
	if (n > 0)
		learn_from(&play->now, at, (size_t)n);
}

static void play_note(struct play *play, const struct dmt_tape_note *note)
{
	struct dmt_player *player = play->player;
	int *fd = player->fd[note->peer];
	uint32_t early = note->ms - (dmt_tape_clock() - play->begun);

	/* The device needs as much time as it had. */
	if (early <= INT_MAX)
		poll(NULL, 0, (int)early);
	switch (note->what) {
	case DMT_TAPE_WRITE:
		play_write(play, *fd, note);
		break;
	case DMT_TAPE_READ:
		play_read(play, *fd, note);
		break;
	case DMT_TAPE_CLOSE:
		close(*fd);
		*fd = dmt_control_open(player->name, O_NONBLOCK);
		break;
	case DMT_TAPE_DROP:
		dmt_dm_message(player->name, "drop_idle");
		break;
	}
	player->done++;
}

static FILE *open_head(const char *path, struct dmt_tape_head *head)
{
	FILE *f = fopen(path, "re");

	if (!f)
		err(1, "%s", path);
	if (fread(head, sizeof(*head), 1, f) != 1 ||
	    memcmp(head->magic, DMT_TAPE_MAGIC, sizeof(head->magic)))
		errx(1, "%s is no tape", path);
	return f;
}

/* How a tape begins. */
void dmt_tape_head(const char *path, struct dmt_tape_head *head)
{
	fclose(open_head(path, head));
}

/**
 * dmt_tape_play() - do all that is on a tape
 * @path: of it; it may break off anywhere
 * @player: does it
 *
 * How the kernel takes it is nobody's business here: it is another run.
 */
void dmt_tape_play(const char *path, struct dmt_player *player)
{
	struct play *play = calloc(1, sizeof(*play));
	struct dmt_tape_note note;
	FILE *f;

	if (!play)
		errx(1, "no memory");
	play->player = player;
	play->bytes = grow(NULL, 1, sizeof(((struct dmt_tape *)0)->bytes));
	f = open_head(path, &play->head);
	play->begun = dmt_tape_clock();
	while (fread(&note, sizeof(note), 1, f) == 1) {
		if (note.peer >= player->nr_fds || note.len > note.room ||
		    note.room > sizeof(((struct dmt_tape *)0)->bytes))
			errx(1, "%s: note %llu makes no sense", path,
			     (unsigned long long)player->done);
		if (note.len && fread(play->bytes, note.len, 1, f) != 1)
			break;
		play_note(play, &note);
	}
	fclose(f);
}
