/* SPDX-License-Identifier: GPL-2.0-only */
/* Many messages in one write, good ones and bad ones, and what must come of it. */
#ifndef DMT_VOLLEY_H
#define DMT_VOLLEY_H

#include "grammar.h"
#include "model.h"
#include "tape.h"

#define DMT_ROOM	65536u	/* for a volley, in bytes */
#define DMT_MAX_VOLLEY	400u	/* messages */

/**
 * struct dmt_volley - what is written at once
 * @nr: messages
 * @len: bytes
 * @good: bytes of messages that must be accepted
 * @nr_good: such messages
 * @errors: what the first other one is refused with; 0 where there is none
 * @doubtful: that is a run, of which some may have been done
 * @reach: bytes before the cliff
 * @begins: where each message begins
 * @unasked: it may be refused for lack of memory
 * @bytes: all of them
 */
struct dmt_volley {
	unsigned int nr;
	size_t len;
	size_t good;
	unsigned int nr_good;
	uint32_t errors;
	bool doubtful;
	size_t reach;
	size_t begins[DMT_MAX_VOLLEY];
	bool unasked[DMT_MAX_VOLLEY];
	uint8_t bytes[DMT_ROOM];
};

/**
 * struct dmt_writer - writes volleys to a device's control files
 * @m: what is known
 * @tape: has all that is written
 * @cliff: where memory ends, with DMT_ROOM before it; what is written lies there
 * @sent: messages
 * @taken: of them, that were accepted
 * @runs: of these, that mapped several blocks
 * @parts: runs that were refused, and mapped some
 * @volley: the latest
 */
struct dmt_writer {
	struct dmt_model *m;
	struct dmt_tape tape;
	uint8_t *cliff;
	uint64_t sent;
	uint64_t taken;
	uint64_t runs;
	uint64_t parts;
	struct dmt_volley volley;
};

void dmt_speak_as(struct dmt_model *m, int peer);
void dmt_volley_make(struct dmt_writer *w, int peer, bool few);
bool dmt_volley_write(struct dmt_writer *w, int peer);
bool dmt_say(struct dmt_writer *w, int peer, const struct dmt_msg *msg);

#endif /* DMT_VOLLEY_H */
