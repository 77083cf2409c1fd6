// SPDX-License-Identifier: GPL-2.0-only
/*
 * Volleys: some messages are good, some are spoilt, cut off, or lie where no memory
 * is. All before the first bad one must be taken, and that one refused for a reason
 * that it gives.
 */
#include "volley.h"
#include "generator.h"
#include "truth.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FOR_EVER	1000u	/* times that there was no memory */

/* Spoil it, unless that would make it another one that somebody minds. */
static void mutate(struct dmt_writer *w, struct dmt_msg *msg)
{
	unsigned int i, times = 1 + below(w->m, 3);
	struct dmt_msg spoilt = *msg;

	for (i = 0; i < times; i++)
		dmt_mutate(&w->m->world, &w->m->random, &spoilt);
	if (spoilt.header.msg_type == DM_USERSPACE_STATUS)
		spoilt.header.id = spoilt.status.id_of_op;
	if ((dmt_judge(&w->m->world, &spoilt) &&
	     !dmt_judge_mapped(&w->m->world, &spoilt)) ||
	    dmt_model_harmless(w->m, &spoilt))
		*msg = spoilt;
}

/* Does it say anything that nobody has asked for? */
static bool is_unasked(struct dmt_writer *w, const struct dmt_msg *msg)
{
	uint64_t i, nr = dmt_nr_mappings(msg);
	struct dmt_mapping r;

	for (i = 0; i < nr && i < DMT_NR_BLOCKS; i++) {
		dmt_mapping_at(&w->m->world, msg, i, &r);
		if (!dmt_model_asked(w->m, r.id))
			return true;
	}
	return false;
}

/**
 * dmt_speak_as() - what follows is said by that one
 * @m: what is known
 * @peer: what it may say depends on what it has asked for
 */
void dmt_speak_as(struct dmt_model *m, int peer)
{
	m->world.runs = m->peers[peer].bits & DMU_EXT_RUNS;
}

/*
 * A run is refused, maybe for @errors that are not its own. Where messages go before
 * it, the write that they end is followed by another one that begins with it.
 */
static void volley_refused(struct dmt_writer *w, struct dmt_volley *v, int peer,
			   const struct dmt_msg *msg, uint32_t errors)
{
	v->doubtful = true;
	if (errors || !dmt_judge_mapped(&w->m->world, msg))
		return;
	w->parts++;
	dmt_model_note(w->m, peer, true, msg);
	dmt_model_refused(w->m, peer, msg);
	if (v->nr_good)
		dmt_model_refused(w->m, peer, msg);
}

static void volley_accepted(struct dmt_writer *w, struct dmt_volley *v, int peer,
			    const struct dmt_msg *msg)
{
	v->good = v->len;
	v->nr_good++;
	w->runs += dmt_nr_mappings(msg) > 1;
	dmt_model_note(w->m, peer, true, msg);
	dmt_model_accepted(w->m, peer, msg);
	dmt_speak_as(w->m, peer);
}

/* @cut: so many bytes are missing at its end. */
static void volley_add(struct dmt_writer *w, struct dmt_volley *v, int peer,
		       const struct dmt_msg *msg, uint32_t cut)
{
	uint32_t len = dmt_msg_len(msg) - cut;
	uint32_t errors = 0;

	if (cut)
		errors |= DMT_IS_EINVAL;
	if (v->len + len > v->reach)
		errors |= DMT_IS_EFAULT;
	v->begins[v->nr] = v->len;
	v->unasked[v->nr++] = is_unasked(w, msg);
	memcpy(v->bytes + v->len, msg, len);
	v->len += len;
	/* Behind a bad one nothing counts. */
	if (v->errors)
		return;
	v->errors = errors | dmt_judge(&w->m->world, msg);
	if (!v->errors)
		volley_accepted(w, v, peer, msg);
	else if (msg->header.msg_type == DM_USERSPACE_MAP_RUN_RESP)
		volley_refused(w, v, peer, msg, errors);
}

/**
 * dmt_volley_make() - say much at once, by chance
 * @w: who writes it; its @volley is filled
 * @peer: in whose name
 * @few: not so much
 */
void dmt_volley_make(struct dmt_writer *w, int peer, bool few)
{
	static const unsigned int sizes[] = { 1, 1, 1, 8, 8, 8, 60, 60, 60,
					      DMT_MAX_VOLLEY };
	unsigned int most = few ? 3 : sizes[below(w->m, 10)];
	unsigned int i, nr = 1 + below(w->m, most);
	struct dmt_volley *v = &w->volley;
	bool cut = once_in(w->m, 40);
	struct dmt_msg msg;

	v->nr = 0;
	v->len = 0;
	v->good = 0;
	v->nr_good = 0;
	v->errors = 0;
	v->doubtful = false;
	v->reach = once_in(w->m, 40) ? below(w->m, nr * 40) : DMT_ROOM;
	dmt_speak_as(w->m, peer);
	for (i = 0; i < nr; i++) {
		dmt_make_any(w->m, &msg);
		if (once_in(w->m, nr < 8 ? 8 : nr))
			mutate(w, &msg);
		volley_add(w, v, peer, &msg, cut && i == nr - 1 ?
			   1 + below(w->m, dmt_msg_len(&msg) - 1) : 0);
	}
}

static bool is_one_of(uint32_t errors, int error)
{
	return (error == EINVAL && errors & DMT_IS_EINVAL) ||
	       (error == ENODEV && errors & DMT_IS_ENODEV) ||
	       (error == ERANGE && errors & DMT_IS_ERANGE) ||
	       (error == EFAULT && errors & DMT_IS_EFAULT);
}

/* There may be no memory for what begins at @at. */
static bool may_lack_memory(const struct dmt_volley *v, size_t at)
{
	unsigned int i;

	for (i = 0; i < v->nr; i++)
		if (v->begins[i] == at)
			return v->unasked[i];
	return false;
}

static bool volley_wrong(const struct dmt_volley *v, size_t done, int error)
{
	struct dmt_msg msg = { 0 };

	fprintf(stderr,
		"# of %zu bytes in %u messages %zu were accepted, and then %s; that should have been %zu, and then one of the errors %#x\n",
		v->len, v->nr, done, error ? strerror(error) : "no error",
		v->good, v->errors);
	if (v->good < v->len) {
		memcpy(&msg, v->bytes + v->good, v->len - v->good < sizeof(msg) ?
		       v->len - v->good : sizeof(msg));
		dmt_msg_print("the first bad one", &msg);
	}
	if (done < v->len) {
		memcpy(&msg, v->bytes + done, v->len - done < sizeof(msg) ?
		       v->len - done : sizeof(msg));
		dmt_msg_print("where it stopped", &msg);
	}
	return false;
}

static ssize_t write_on_tape(struct dmt_writer *w, int peer, const uint8_t *at,
			     size_t len)
{
	size_t room = (size_t)(w->cliff - at);
	struct dmt_tape_note note = {
		.what = DMT_TAPE_WRITE, .peer = (uint32_t)peer,
		.asked = (uint32_t)len, .room = (uint32_t)room,
		.len = (uint32_t)(len < room ? len : room),
	};

	dmt_tape_note(&w->tape, &note, at);
	return write(w->m->peers[peer].fd, at, len);
}

/* All that is good must be taken, and the rest refused for the right reason. */
static bool volley_taken(struct dmt_writer *w, const struct dmt_volley *v, int peer)
{
	size_t reach = v->reach < v->len ? v->reach : v->len;
	uint8_t *at = w->cliff - reach;
	unsigned int tries = 0;
	size_t done = 0;
	ssize_t n;

	if (v->reach >= v->len)
		at -= below(w->m, 64);
	memcpy(at, v->bytes, reach);
	while (done < v->len) {
		n = write_on_tape(w, peer, at + done, v->len - done);
		if (n > 0) {
			done += n;
			if (done > v->good ||
			    (done < v->good && !may_lack_memory(v, done)))
				return volley_wrong(v, done, 0);
		} else if (!n) {
			return volley_wrong(v, done, 0);
		} else if (done == v->good && is_one_of(v->errors, errno)) {
			return true;
		} else if (errno != ENOMEM || !may_lack_memory(v, done) ||
			   tries++ == FOR_EVER) {
			return volley_wrong(v, done, errno);
		}
	}
	return true;
}

/**
 * dmt_volley_write() - write @w's volley
 * @w: who writes it
 * @peer: to whose file
 *
 * Return: true if all was taken that had to be, and the rest refused as it has to be.
 */
bool dmt_volley_write(struct dmt_writer *w, int peer)
{
	const struct dmt_volley *v = &w->volley;
	bool ok = volley_taken(w, v, peer);

	dmt_model_written(w->m);
	w->sent += v->nr;
	w->taken += v->nr_good;
	return ok;
}

/**
 * dmt_say() - say one thing that must be accepted
 * @w: who writes it
 * @peer: in whose name
 * @msg: it
 *
 * Return: whether it was.
 */
bool dmt_say(struct dmt_writer *w, int peer, const struct dmt_msg *msg)
{
	w->volley = (struct dmt_volley){ .reach = DMT_ROOM };
	dmt_speak_as(w->m, peer);
	volley_add(w, &w->volley, peer, msg, 0);
	return dmt_volley_write(w, peer);
}
